//! Tables of one bit a number: scores against those of the numbers that signs stand for, files,
//! training, and refusals.

use super::links::{days, interactions};
use super::tables::{self, largest};
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::decode::Form;
use gnn_prune::nn::{Cx, Queries, Query, Rows};
use gnn_prune::prune::Precompute;
use gnn_prune::quant::{Forms, PartRankings, QuantOp, StoredTable};
use gnn_prune::task::{LinkTask, Part, RecommendTask, evaluate, measure};
use gnn_prune::train::UpdateRule;
use gnn_prune::{Bits, Graph, LightGcn, Model, QuantModel, Quantizer, Trainer, ValueRef};

const NODES: usize = 1300;

fn model(form: Form, channels: usize) -> Model {
    tables::model(form, NODES, channels)
}

fn task() -> LinkTask {
    tables::task(NODES)
}

fn scores(small: &QuantModel, rows: &Rows<f32>, forms: Forms) -> Array2<f32> {
    tables::scores(small, rows, NODES, forms)
}

fn quantizer(parts: usize) -> Quantizer {
    Quantizer::builder(Bits::Eight).signs(parts).build().unwrap()
}

#[test]
fn scores_are_those_of_the_signs() {
    let cases = [
        (Form::Dot, 33, 1),
        (Form::Dot, 36, 3),
        (Form::DistMult, 20, 2),
        (Form::ComplEx, 34, 1),
        (Form::RotatE, 12, 2),
    ];
    for (form, channels, parts) in cases {
        let model = model(form, channels);
        let small = quantizer(parts).quantize(&model, &task()).unwrap();
        let twin = quantizer(parts).train(&model, &task()).unwrap();
        let query =
            |k: u32| Query { node: k * 7 % 1300, relation: k % 3, inverse: k.is_multiple_of(2) };
        for range in [40..1290, 0..1300, 129..130] {
            let asked: Vec<Query> = (0..150).map(query).collect();
            let rows = Rows::new().queries(Queries::among(asked, range).unwrap());
            let (graph, x) = (Graph::builder(NODES).build().unwrap(), Array2::ones((NODES, 1)));
            let cx = Cx::eval(&graph).within(&rows);
            let expected = twin.infer(&cx, ValueRef::Dense(x.view())).unwrap();
            let scale = largest(expected.iter().copied());
            let off = |forms| {
                let found = scores(&small, &rows, forms);
                largest((&found - &expected).iter().copied())
            };
            assert!(off(Forms::Floats) <= 1e-4 * scale, "{form:?}");
            // A row of the table has two values, and bits that differ are counted; other queries
            // are rounded to 127 steps for every eight columns.
            let bytes = (parts * (channels / parts).div_ceil(8)) as f32;
            let most = match form {
                Form::Dot | Form::RotatE => 1e-4,
                _ => bytes / 127.0,
            };
            let found = off(Forms::Integers);
            assert!(found <= most * scale, "{form:?}: {found} of {scale}");
        }
    }
}

#[test]
fn a_row_takes_a_bit_a_number_and_a_scale_a_part_and_files_hold_them() {
    for (channels, parts, row) in [(64, 1, 12), (64, 4, 24), (20, 2, 12)] {
        let small = quantizer(parts).quantize(&model(Form::Dot, channels), &task()).unwrap();
        assert_eq!(small.stored_bytes(), NODES as u64 * row);
        assert_eq!(small.num_params(), NODES * channels);
        let bytes = small.to_bytes().unwrap();
        let back = QuantModel::from_bytes(&bytes).unwrap();
        assert_eq!(back, small);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        for end in (0..bytes.len()).step_by(97) {
            assert!(QuantModel::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let _ = QuantModel::from_bytes(&damaged);
        }
    }
}

#[test]
fn scores_and_training_have_the_same_bits_on_any_number_of_threads() {
    let (facts, start) = days(Form::DistMult, 8);
    let links = LinkTask::builder(facts).batch(8).build().unwrap();
    let asked = |k: u32| Query { node: k, relation: 1, inverse: false };
    let asked = Queries::among((0..200).map(asked).collect::<Vec<_>>(), 3..1299).unwrap();
    let rows = Rows::new().queries(asked);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let small = quantizer(2).quantize(&model(Form::DistMult, 20), &task()).unwrap();
            let found = scores(&small, &rows, Forms::Integers).mapv(f32::to_bits);
            let trained = Quantizer::builder(Bits::Eight).signs(1).qat(3).build().unwrap();
            (found, trained.quantize(&start, &links).unwrap())
        })
    };
    let expected = on(1);
    for threads in [2, 3, 7] {
        assert!(on(threads) == expected, "on {threads} threads");
    }
}

#[test]
fn training_signs_brings_back_what_rounding_lost() {
    let (facts, model) = days(Form::ComplEx, 16);
    let task = LinkTask::builder(facts).batch(8).build().unwrap();
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3).epochs(30);
    let model = trainer.weight_decay(0.0).build().unwrap().fit(model, &task).unwrap();
    let of = |epochs: usize| {
        let quantizer = Quantizer::builder(Bits::Eight).signs(1).qat(epochs).build().unwrap();
        let twin = quantizer.train(&model, &task).unwrap();
        let small = quantizer.quantize(&model, &task).unwrap();
        let QuantOp::Embedding(StoredTable::Signs(table)) = small.stages()[0].op() else {
            panic!("a table of signs is first")
        };
        let mut rows = None;
        twin.visit(&mut |_, param| {
            rows.get_or_insert(param.value().clone());
        });
        assert_eq!(table.to_floats(), rows.unwrap(), "what is stored is what was trained");
        evaluate(&twin, &task, Part::Validation).unwrap()
    };
    let (before, after) = (of(0), of(40));
    assert!(after > before + 1.0, "{before} and {after}");
}

#[test]
fn a_recommender_with_its_depths_apart_is_stored_as_signs_of_each() {
    let task = RecommendTask::builder(interactions()).batch(32).build().unwrap();
    let model = LightGcn::builder(50).channels(16).layers(2).apart(true).build(0).unwrap();
    let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(20);
    let model = trainer.build().unwrap().fit(model, &task).unwrap();
    let table = Precompute::new().apply(&model, &task).unwrap();
    let dense = evaluate(&model, &task, Part::Test).unwrap();
    assert_eq!(evaluate(&table, &task, Part::Test).unwrap(), dense);
    let quantizer = Quantizer::builder(Bits::Eight).signs(3).qat(10).build().unwrap();
    let small = quantizer.quantize(&table, &task).unwrap();
    assert_eq!(small.stored_bytes(), 50 * (6 + 12));
    let found = measure(&task, Part::Test, 0, |batch| {
        let x = batch.features();
        let mut program = small.compile_within(batch.graph(), x, batch.spaces())?;
        Ok(program.run(batch.features())?.to_owned())
    });
    let found = found.unwrap().value;
    assert!(found > 0.6 * dense, "{found} of {dense}");
    let error = Quantizer::builder(Bits::Eight).signs(5).build().unwrap();
    let error = error.quantize(&table, &task).unwrap_err().to_string();
    assert!(error.contains("divides the 48 columns"), "{error}");
}

#[test]
fn rankings_of_parts_are_learnt_alike_on_any_threads_and_refused_where_there_are_none() {
    let task = RecommendTask::builder(interactions()).batch(32).build().unwrap();
    let model = LightGcn::builder(50).channels(16).layers(1).apart(true).build(0).unwrap();
    // Not trained yet: an epoch of signs is better than the start, and is kept.
    let table = Precompute::new().apply(&model, &task).unwrap();
    let signs = || Quantizer::builder(Bits::Eight).signs(2);
    let on = |threads: usize, weight: f64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rankings = PartRankings::new(3, weight).unwrap();
        let quantizer = signs().qat(10).rankings(rankings).build().unwrap();
        pool.install(|| quantizer.quantize(&table, &task).unwrap())
    };
    let learnt = on(1, 30.0);
    assert!(learnt == on(3, 30.0), "on three threads");
    let alone = signs().qat(10).build().unwrap().quantize(&table, &task).unwrap();
    assert!(learnt != alone && on(1, 1.0) != learnt, "they have a part in the training");
    let refused = |problem: String, words: &str| assert!(problem.contains(words), "{problem}");
    let rankings = PartRankings::new(40, 1.0).unwrap();
    let none = signs().rankings(rankings).build().unwrap_err().to_string();
    refused(none, "beside signs that are trained");
    let many = signs().qat(1).rankings(rankings).build().unwrap();
    refused(many.check(&table, &task).unwrap_err().to_string(), "the first 40 are to be learnt");
    // An encoder stands between the table and the scores, and links of several relations rank
    // nothing by the parts of one table.
    let own = signs().qat(1).rankings(PartRankings::new(2, 1.0).unwrap()).build().unwrap();
    refused(own.check(&model, &task).unwrap_err().to_string(), "run its encoder once");
    let (facts, links) = days(Form::DistMult, 8);
    let days = LinkTask::builder(facts).batch(8).build().unwrap();
    refused(own.check(&links, &days).unwrap_err().to_string(), "not dot products");
}
