//! Tables of integers: their scores against those of floats, their bytes, files and refusals.

use super::links::{days, interactions};
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::decode::{Decoder, Form, PairProduct};
use gnn_prune::nn::{Cx, Embedding, Init, LgConv, ModelBuilder, NodeId, Queries, Query, Rows};
use gnn_prune::quant::{Forms, QuantOp, QuantTable};
use gnn_prune::task::{LinkTask, Part, RecommendTask, Task, evaluate, measure};
use gnn_prune::train::UpdateRule;
use gnn_prune::{Bits, Error, Graph, LightGcn, Model, QuantModel, Quantizer, Trainer, ValueRef};

const WIDTHS: [Bits; 3] = [Bits::Two, Bits::Four, Bits::Eight];
const DECODERS: [Form; 4] = [Form::Dot, Form::DistMult, Form::ComplEx, Form::RotatE];

/// A table and a decoder, and no task.
pub(super) fn model(form: Form, nodes: usize, channels: usize) -> Model {
    let mut builder = ModelBuilder::new(1);
    let table = Embedding::drawn(nodes, channels, Init::Normal(0.7)).unwrap();
    let table = builder.add("table", table, &[NodeId::INPUT]).unwrap();
    let decoder = Decoder::builder(form, channels).relations(3).init(Init::Normal(0.7));
    let scores = builder.add("scores", decoder.build().unwrap(), &[table]).unwrap();
    builder.build(scores, 5).unwrap()
}

/// Anything that a model of so many nodes can be quantised on: nothing of it is looked at.
pub(super) fn task(nodes: usize) -> LinkTask {
    let triples = |k: u32| vec![[k, 0, k + 1], [k + 1, 1, k]];
    let facts =
        gnn_prune::data::Triples::new("chain", nodes, 3, triples(0), triples(1), triples(2));
    LinkTask::builder(facts.unwrap()).build().unwrap()
}

fn quantised(model: &Model, nodes: usize, bits: Bits) -> QuantModel {
    Quantizer::builder(bits).build().unwrap().quantize(model, &task(nodes)).unwrap()
}

/// What the tables of integers stand for.
fn on_grid(model: &Model, nodes: usize, bits: Bits) -> Model {
    Quantizer::builder(bits).build().unwrap().train(model, &task(nodes)).unwrap()
}

fn asked(count: usize, nodes: usize) -> Vec<Query> {
    (0..count as u32)
        .map(|k| Query {
            node: k * 7 % nodes as u32,
            relation: k % 3,
            inverse: k.is_multiple_of(2),
        })
        .collect()
}

fn graph(nodes: usize) -> (Graph, Array2<f32>) {
    (Graph::builder(nodes).build().unwrap(), Array2::ones((nodes, 1)))
}

pub(super) fn scores(
    small: &QuantModel,
    rows: &Rows<f32>,
    nodes: usize,
    forms: Forms,
) -> Array2<f32> {
    let (graph, x) = graph(nodes);
    let x = ValueRef::Dense(x.view());
    let mut program = small.compile_within_as(&graph, x.reborrow(), rows, forms).unwrap();
    program.run(x).unwrap().to_owned()
}

fn of_floats(model: &Model, rows: &Rows<f32>, nodes: usize) -> Array2<f32> {
    let (graph, x) = graph(nodes);
    model.infer(&Cx::eval(&graph).within(rows), ValueRef::Dense(x.view())).unwrap()
}

pub(super) fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |most, v| most.max(v.abs()))
}

fn table_of(model: &Model, at: usize) -> Array2<f32> {
    let mut tables = Vec::new();
    model.visit(&mut |_, param| tables.push(param.value().clone()));
    tables.swap_remove(at)
}

/// A model whose first table has this added everywhere.
fn shifted(mut model: Model, by: f32) -> Model {
    let mut first = true;
    model.visit_mut(&mut |param| {
        if std::mem::take(&mut first) {
            *param.value_mut() += by;
        }
    });
    model
}

/// Sums of floats in another order.
const SAME: f32 = 1e-4;

#[test]
fn scores_are_those_of_the_stored_numbers_within_the_rounding_of_a_query() {
    // More candidates than a job has, and more queries; widths that fill no byte and no register.
    let nodes = 1300;
    // With rows that point everywhere and with those that point the same way.
    let cases = DECODERS.into_iter().zip([33, 17, 34, 10]);
    for ((form, channels), far) in cases.flat_map(|case| [(case, 0.0), (case, 2.5)]) {
        let model = shifted(model(form, nodes, channels), far);
        let many = Rows::new().queries(Queries::among(asked(150, nodes), 40..1290).unwrap());
        let own = (0..12).map(|k| k * 31 % nodes as u32).collect::<Vec<_>>();
        let beside = Queries::beside(asked(4, nodes), own[..4].to_vec(), own[3..].to_vec());
        let beside = Rows::new().queries(beside.unwrap());
        let few = Rows::new().queries(Queries::each(asked(4, nodes), 3, own).unwrap());
        for bits in WIDTHS {
            let small = quantised(&model, nodes, bits);
            let offsets = small.stages()[0].op().table().and_then(QuantTable::offsets);
            assert_eq!(offsets.is_some(), far > 0.0);
            let twin = on_grid(&model, nodes, bits);
            let table = table_of(&twin, 0);
            let relations = form.has_relations().then(|| table_of(&twin, 1));
            for rows in [&many, &few, &beside] {
                let expected = of_floats(&twin, rows, nodes);
                let scale = largest(expected.iter().copied());
                let floats = scores(&small, rows, nodes, Forms::Floats);
                let off = largest((&floats - &expected).iter().copied());
                assert!(off <= SAME * scale, "{form:?} {bits}: {off} of {scale}");
                let ints = scores(&small, rows, nodes, Forms::Integers);
                if form == Form::RotatE || !std::ptr::eq(rows, &many) {
                    assert_eq!(ints, floats, "{form:?}: distances have no integers");
                    continue;
                }
                assert_ne!(ints, floats, "{form:?}");
                // A query is rounded by at most half a step of its own in every channel.
                let queries = rows.asked().unwrap();
                for (k, (&found, &expected)) in ints.iter().zip(&expected).enumerate() {
                    let [h, t] = queries.pair(k).map(|node| table.row(node as usize));
                    let relation = queries.queries()[k / queries.count()].relation;
                    let of = |r: &Array2<f32>| largest(r.row(relation as usize).iter().copied());
                    let r = relations.as_ref().map_or(1.0, of);
                    let parts = form.parts() as f32;
                    let step = parts * r * largest(h.iter().copied()) / 127.0;
                    let most = 0.5 * step * t.iter().map(|t| t.abs()).sum::<f32>();
                    let off = (found - expected).abs();
                    assert!(off <= most + SAME * scale, "{form:?} {bits} pair {k}: {off}, {most}");
                }
            }
        }
    }
}

#[test]
fn relations_of_few_bytes_keep_eight_bits() {
    let small = quantised(&model(Form::DistMult, 500, 8), 500, Bits::Four);
    let bits: Vec<Bits> = small
        .stages()
        .iter()
        .map(|stage| match stage.op() {
            QuantOp::Embedding(table) => table.ints().unwrap().bits(),
            QuantOp::Decoder(decoder) => decoder.relations().unwrap().bits(),
            op => panic!("{op:?}"),
        })
        .collect();
    assert_eq!(bits, [Bits::Four, Bits::Eight]);
    assert!(small.to_string().contains("weights=4-bit"), "{small}");
}

#[test]
fn a_row_of_128_numbers_takes_its_bytes_and_a_scale() {
    let model = model(Form::Dot, 60, 128);
    for (bits, bytes) in [(Bits::Eight, 132), (Bits::Four, 68)] {
        let small = quantised(&model, 60, bits);
        assert_eq!(small.stored_bytes(), 60 * bytes);
        assert_eq!(small.num_params(), 60 * 128);
    }
    assert!(quantised(&model, 60, Bits::Two).stored_bytes() <= 60 * 36);
}

#[test]
fn offsets_are_in_the_file_and_in_its_bytes() {
    let nodes = 1300;
    let sizes = [0.0, 2.5].map(|far| {
        let small = quantised(&shifted(model(Form::Dot, nodes, 6), far), nodes, Bits::Four);
        let back = QuantModel::from_bytes(&small.to_bytes().unwrap()).unwrap();
        assert_eq!(back, small);
        small.stored_bytes()
    });
    assert_eq!(sizes[1], sizes[0] + 6 * 4);
}

/// All that differs lies in the offsets, so that the integers are zero and take next to nothing.
#[test]
fn rows_that_are_equal_are_stored_as_their_offsets() {
    let nodes = 1300;
    let mut model = model(Form::Dot, nodes, 6);
    model.visit_mut(&mut |param| {
        param.value_mut().indexed_iter_mut().for_each(|((_, c), w)| *w = 1.0 + c as f32);
    });
    let small = quantised(&model, nodes, Bits::Eight);
    let bytes = small.to_bytes().unwrap();
    assert_eq!(QuantModel::from_bytes(&bytes).unwrap(), small);
    assert!(bytes.len() < nodes * 6, "{}", bytes.len());
}

#[test]
fn scoring_keeps_no_table_of_floats() {
    let nodes = 900;
    let rows = Rows::new().queries(Queries::among(asked(5, nodes), 0..900).unwrap());
    let (graph, x) = graph(nodes);
    let small = quantised(&model(Form::ComplEx, nodes, 64), nodes, Bits::Eight);
    for forms in [Forms::Integers, Forms::Floats] {
        let x = ValueRef::Dense(x.view());
        let program = small.compile_within_as(&graph, x, &rows, forms).unwrap();
        assert_eq!(program.cost().peak_activations, 5 * 900 * 4, "scores and nothing else");
        assert_eq!(program.cost().macs, (5 + 5 * 900) * 64);
    }
}

#[test]
fn files_hold_tables_to_the_bit_and_damage_is_an_error_or_a_model() {
    for form in DECODERS {
        let mut model = model(form, 21, 6);
        // Most of one table is pruned.
        if form == Form::DistMult {
            model.visit_mut(&mut |param| {
                let kept = Array2::from_shape_fn(param.value().dim(), |(i, c)| (i + c) % 4 == 0);
                param.restrict(&kept);
            });
        }
        for bits in WIDTHS {
            let small = quantised(&model, 21, bits);
            let bytes = small.to_bytes().unwrap();
            let back = QuantModel::from_bytes(&bytes).unwrap();
            assert_eq!(back, small);
            assert_eq!(back.to_bytes().unwrap(), bytes);
            let rows = Rows::new().queries(Queries::among(asked(9, 21), 0..21).unwrap());
            let run = |model: &QuantModel| scores(model, &rows, 21, Forms::Fastest);
            assert_eq!(run(&back), run(&small));
            if bits == Bits::Eight && form != Form::DistMult && form != Form::ComplEx {
                continue;
            }
            for end in (0..bytes.len()).step_by(7) {
                assert!(QuantModel::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x55;
                let _ = QuantModel::from_bytes(&damaged);
            }
        }
    }
}

/// A file whose metadata say something else of the same length.
fn with_text(bytes: &[u8], from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|some| some == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no `{from}` in {}", String::from_utf8_lossy(bytes)));
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    QuantModel::from_bytes(&bytes).unwrap_err().to_string()
}

#[test]
fn what_a_file_claims_of_a_table_must_be_what_it_has() {
    let bytes = quantised(&model(Form::ComplEx, 21, 6), 21, Bits::Four).to_bytes().unwrap();
    for (from, to, words) in [
        (r#"\"cols\":6,\"rows\":21"#, r#"\"cols\":6,\"rows\":99"#, "bytes of rows"),
        (r#"\"cols\":6,\"rows\":21"#, r#"\"cols\":7,\"rows\":21"#, "bytes of rows"),
        (r#"\"cols\":6,\"rows\":21"#, r#"\"cols\":5,\"rows\":21"#, "table"),
        (r#"\"complex\""#, r#"\"diagonl\""#, "damaged"),
        (r#"\"in_channels\":1"#, r#"\"in_channels\":0"#, "needs an input"),
    ] {
        let message = with_text(&bytes, from, to);
        assert!(message.contains(words) && !message.contains('\n'), "{from} {to}: {message}");
    }
}

#[test]
fn a_masked_table_is_stored_in_less_and_its_zeros_stay() {
    let mut model = model(Form::Dot, 200, 64);
    let kept = |(i, c): (usize, usize)| (i * 5 + c * 3) % 10 == 0;
    model.visit_mut(&mut |param| {
        let mask = Array2::from_shape_fn(param.value().dim(), kept);
        param.restrict(&mask);
    });
    for bits in WIDTHS {
        let small = quantised(&model, 200, bits);
        let QuantOp::Embedding(table) = small.stages()[0].op() else { panic!("a table is first") };
        let floats = table.to_floats();
        assert!(floats.indexed_iter().all(|(at, &v)| kept(at) || v == 0.0));
        let all = 200 * 64 * u64::from(bits.count()) / 8;
        assert!(small.stored_bytes() < all / 2 + 800, "{bits}: {}", small.stored_bytes());
        assert_eq!(QuantModel::from_bytes(&small.to_bytes().unwrap()).unwrap(), small);
    }
}

#[test]
fn scores_have_the_same_bits_on_any_number_of_threads() {
    let nodes = 2500;
    let rows = Rows::new().queries(Queries::among(asked(300, nodes), 3..2499).unwrap());
    for form in [Form::DistMult, Form::RotatE] {
        let model = model(form, nodes, 20);
        for forms in [Forms::Integers, Forms::Floats] {
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let small = quantised(&model, nodes, Bits::Four);
                    (scores(&small, &rows, nodes, forms).mapv(f32::to_bits), small)
                })
            };
            let expected = on(1);
            for threads in [2, 3, 7] {
                assert!(on(threads) == expected, "{form:?} {forms:?} on {threads} threads");
            }
        }
    }
}

#[test]
fn a_batch_of_some_nodes_has_the_scores_of_the_whole() {
    let nodes = 90;
    let ids: Vec<u32> = vec![70, 3, 3, 89, 0, 41];
    for form in DECODERS {
        let small = quantised(&model(form, nodes, 8), nodes, Bits::Four);
        let of = |node: u32, relation| Query { node, relation, inverse: false };
        let some = Queries::among(vec![of(1, 2), of(5, 0)], 0..6).unwrap();
        let alone = Rows::new().sample(ids.clone()).queries(some);
        let named = [of(3, 2), of(41, 0)];
        let whole = Queries::each(named.to_vec(), 6, [ids.clone(), ids.clone()].concat()).unwrap();
        let expected = scores(&small, &Rows::new().queries(whole), nodes, Forms::Floats);
        let (graph, x) = graph(nodes);
        let x = x.slice(gnn_prune::ndarray::s![..6, ..]);
        let x = ValueRef::Dense(x);
        let run = |forms| {
            let program = small.compile_within_as(&graph, x.reborrow(), &alone, forms);
            program.unwrap().run(x.reborrow()).unwrap().to_owned()
        };
        let close = |a: ArrayView2<f32>, most: f32| {
            let scale = 1.0 + largest(expected.iter().copied());
            largest((&a - &expected).iter().copied()) <= most * scale
        };
        assert!(close(run(Forms::Floats).view(), SAME), "{form:?}");
        assert!(close(run(Forms::Integers).view(), 0.05), "{form:?}");
        let past =
            Rows::new().sample(vec![0, 1, 2, 3, 4, 90]).queries(alone.asked().unwrap().clone());
        let error = small.compile_within(&graph, x.reborrow(), &past).unwrap_err();
        assert!(error.to_string().contains("node of a batch: index 90"), "{error}");
    }
}

#[test]
fn equal_rows_have_the_reciprocal_rank_of_chance() {
    let (facts, mut model) = days(Form::DistMult, 8);
    let task = LinkTask::builder(facts).build().unwrap();
    model.visit_mut(&mut |param| param.value_mut().fill(0.5));
    for bits in WIDTHS {
        let small = Quantizer::builder(bits).build().unwrap().quantize(&model, &task).unwrap();
        for forms in [Forms::Integers, Forms::Floats] {
            let found = judged(&small, &task, forms);
            assert!((found - 100.0 / 14.0).abs() < 0.5, "{bits} {forms:?}: {found}");
        }
    }
}

fn judged(small: &QuantModel, task: &dyn Task<f32>, forms: Forms) -> f64 {
    let judged = measure(task, Part::Test, small.seed(), |batch| {
        let x = batch.features();
        let mut program = small.compile_within_as(batch.graph(), x, batch.spaces(), forms)?;
        Ok(program.run(batch.features())?.to_owned())
    });
    judged.unwrap().value
}

#[test]
fn eight_bits_rank_as_floats_do() {
    for form in [Form::ComplEx, Form::DistMult, Form::RotatE] {
        let (facts, model) = days(form, 16);
        let task = LinkTask::builder(facts).batch(8).build().unwrap();
        let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3).epochs(30);
        let model = trainer.weight_decay(0.0).build().unwrap().fit(model, &task).unwrap();
        let expected = evaluate(&model, &task, Part::Test).unwrap();
        let of = |bits, forms| {
            let small = Quantizer::builder(bits).build().unwrap().quantize(&model, &task).unwrap();
            judged(&small, &task, forms)
        };
        for forms in [Forms::Integers, Forms::Floats] {
            let found = of(Bits::Eight, forms);
            assert!((found - expected).abs() < 2.0, "{form:?} {forms:?}: {found} of {expected}");
            let found = of(Bits::Four, forms);
            assert!(found > 0.6 * expected, "{form:?} {forms:?}: {found} of {expected} at 4 bits");
        }
    }
}

#[test]
fn recommenders_keep_what_they_recommend_and_run_their_hops_on_floats() {
    let task = RecommendTask::builder(interactions()).batch(32).build().unwrap();
    for (layers, cosine) in [(2, false), (0, false), (2, true), (0, true)] {
        let model =
            LightGcn::builder(50).channels(8).layers(layers).cosine(cosine).build(0).unwrap();
        let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(20);
        let model = trainer.build().unwrap().fit(model, &task).unwrap();
        let quantizer = Quantizer::builder(Bits::Eight).build().unwrap();
        let small = quantizer.quantize(&model, &task).unwrap();
        let twin = quantizer.train(&model, &task).unwrap();
        let batch = task.whole().unwrap();
        let x = batch.features();
        let mut program =
            small.compile_within_as(batch.graph(), x, batch.spaces(), Forms::Floats).unwrap();
        let found = program.run(batch.features()).unwrap().to_owned();
        let expected = twin.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let scale = largest(expected.iter().copied());
        let off = largest((&found - &expected).iter().copied());
        assert!(off <= SAME * scale, "{layers} {cosine}: {off} of {scale}");
        let (recall, dense) =
            (judged(&small, &task, Forms::Fastest), evaluate(&model, &task, Part::Test).unwrap());
        assert!(recall > dense - 5.0, "{recall} of {dense}");
        let on_integers = |forms| {
            let x = batch.features();
            let program = small.compile_within_as(batch.graph(), x, batch.spaces(), forms);
            let forms = program.unwrap().forms().to_vec();
            let on = |stage: &&gnn_prune::quant::StageForm| {
                stage.form == gnn_prune::quant::Form::Integers
            };
            forms.iter().filter(on).map(|stage| stage.operation).collect::<Vec<_>>()
        };
        assert!(on_integers(Forms::Floats).is_empty());
        let direct = layers == 0 && !cosine;
        let expected = if direct { vec!["embedding", "decoder"] } else { vec![] };
        assert_eq!(on_integers(Forms::Integers), expected, "{layers} {cosine}");
    }
}

#[cfg(feature = "report")]
#[test]
fn a_compression_to_integer_tables_reports_rows_of_the_tasks_metric() {
    use gnn_prune::{Compression, Controls};
    let (facts, model) = days(Form::ComplEx, 16);
    let task = LinkTask::builder(facts).batch(8).build().unwrap();
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3).epochs(10);
    let model = trainer.weight_decay(0.0).build().unwrap().fit(model, &task).unwrap();
    let outcome = Compression::of(model.clone(), &task)
        .controls(Controls::None)
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .run()
        .unwrap();
    let rows = &outcome.report.rows;
    assert_eq!(rows.len(), 2, "the dense model and its integers");
    let metric = Task::<f32>::metric(&task);
    assert!(rows.iter().all(|row| row.metric == metric));
    let (dense, small) = (&rows[0], &rows[1]);
    assert!((dense.accuracy.mean - small.accuracy.mean).abs() < 2.0);
    assert_eq!(small.account.params, model.num_params());
    assert_eq!(small.account.bytes.weights, outcome.model.stored_bytes());
    assert!(small.account.bytes.weights * 3 < dense.account.bytes.weights);
    assert_eq!(small.account.forms.len(), 2);
}

fn refused(model: &Model, task: &dyn Task<f32>, quantizer: &Quantizer) -> String {
    let error = quantizer.check(model, task).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert_eq!(quantizer.quantize(model, task).unwrap_err().to_string(), error.to_string());
    error.to_string()
}

#[test]
fn what_cannot_be_run_is_refused_by_its_name() {
    let plain = Quantizer::builder(Bits::Eight).build().unwrap();
    let (facts, model) = days(Form::ComplEx, 8);
    let task = LinkTask::builder(facts).build().unwrap();
    let trained = Quantizer::builder(Bits::Eight).qat(2).build().unwrap();
    let message = refused(&model, &task, &trained);
    assert!(message.contains("`table`") && message.contains("grid of a table"), "{message}");

    let mut builder = ModelBuilder::new(1);
    let table = builder.add("rows", Embedding::new(28, 4).unwrap(), &[NodeId::INPUT]).unwrap();
    let pairs = builder.add("pairs", PairProduct, &[table]).unwrap();
    let model = builder.build(pairs, 0).unwrap();
    assert!(refused(&model, &task, &plain).contains("`pairs`"));

    let small = quantised(&self::model(Form::DistMult, 30, 4), 30, Bits::Eight);
    let (graph, x) = graph(30);
    let x = ValueRef::Dense(x.view());
    let error = small.compile(&graph, x.reborrow()).unwrap_err();
    assert!(matches!(error, Error::NoQueries { .. }), "{error}");
    let ask = |relation| Query { node: 0, relation, inverse: false };
    let rows = Rows::new().queries(Queries::among(vec![ask(3)], 0..30).unwrap());
    let error = small.compile_within(&graph, x.reborrow(), &rows).unwrap_err();
    assert!(error.to_string().contains("relation of a query: index 3"), "{error}");
    let (other, x) = self::graph(31);
    let rows = Rows::new().queries(Queries::among(vec![ask(0)], 0..31).unwrap());
    let error = small.compile_within(&other, ValueRef::Dense(x.view()), &rows).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
}

#[test]
fn hops_over_nodes_that_stand_alone_are_refused() {
    let mut builder = ModelBuilder::new(1);
    let table = builder.add("rows", Embedding::new(28, 4).unwrap(), &[NodeId::INPUT]).unwrap();
    let hop = builder.add("hop", LgConv::new(), &[table]).unwrap();
    let dot = Decoder::builder(Form::Dot, 4).build().unwrap();
    let scores = builder.add("scores", dot, &[hop]).unwrap();
    let model = builder.build(scores, 0).unwrap();
    let (facts, _) = days(Form::Dot, 4);
    let task = LinkTask::builder(facts).build().unwrap();
    let small = Quantizer::builder(Bits::Eight).build().unwrap().quantize(&model, &task).unwrap();
    let ask = Query { node: 0, relation: 0, inverse: false };
    let rows = Rows::new().sample(vec![0, 5]).queries(Queries::among(vec![ask], 0..2).unwrap());
    let x = Array2::ones((2, 1));
    let error =
        small.compile_within(task.data().graph(), ValueRef::Dense(x.view()), &rows).unwrap_err();
    assert!(matches!(&error, Error::NoGraph { at } if at == "hop"), "{error}");
}

#[test]
fn a_table_may_be_read_by_matrices_too() {
    let mut builder = ModelBuilder::new(1);
    let table = Embedding::drawn(28, 12, Init::Normal(0.5)).unwrap();
    let table = builder.add("rows", table, &[NodeId::INPUT]).unwrap();
    let conv = gnn_prune::nn::GcnConv::builder(12, 6).build().unwrap();
    let conv = builder.add("conv", conv, &[table]).unwrap();
    let decoder = Decoder::builder(Form::DistMult, 6).relations(4).build().unwrap();
    let scores = builder.add("scores", decoder, &[conv]).unwrap();
    let model = builder.build(scores, 2).unwrap();
    let (facts, _) = days(Form::Dot, 4);
    let task = LinkTask::builder(facts).build().unwrap();
    let batch = task.whole().unwrap();
    for rounding in [gnn_prune::quant::Rounding::Compensated, gnn_prune::quant::Rounding::Nearest] {
        let quantizer = Quantizer::builder(Bits::Eight).rounding(rounding).build().unwrap();
        let small = quantizer.quantize(&model, &task).unwrap();
        let twin = quantizer.train(&model, &task).unwrap();
        let mut program =
            small.compile_within(batch.graph(), batch.features(), batch.spaces()).unwrap();
        let found = program.run(batch.features()).unwrap().to_owned();
        let expected = twin.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let scale = largest(expected.iter().copied());
        assert!(largest((&found - &expected).iter().copied()) <= 1e-3 * scale, "{rounding:?}");
    }
    let table = QuantTable::of(table_of(&model, 0).view(), Bits::Eight);
    assert_eq!(table.shape(), (28, 12));
}
