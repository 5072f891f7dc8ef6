//! Tables whose rows are codes: scores by look-ups against those of the numbers that codes stand
//! for, bytes, files, training, and refusals.

use super::links::days;
use super::tables::{self, largest};
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::decode::Form;
use gnn_prune::nn::{Cx, Queries, Query, Rows};
use gnn_prune::quant::{Forms, ProductCodes, QuantOp};
use gnn_prune::task::{LinkTask, Part, Task, evaluate, measure};
use gnn_prune::train::UpdateRule;
use gnn_prune::{Bits, Graph, Model, QuantModel, Quantizer, Trainer, ValueRef};

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

fn codes(spaces: usize, words: usize) -> ProductCodes {
    ProductCodes::new(spaces).with_words(words).unwrap()
}

fn quantizer(codes: ProductCodes) -> Quantizer {
    Quantizer::builder(Bits::Eight).codes(codes).build().unwrap()
}

fn asked(count: usize) -> Vec<Query> {
    let query =
        |k: u32| Query { node: k * 7 % 1300, relation: k % 3, inverse: k.is_multiple_of(2) };
    (0..count as u32).map(query).collect()
}

#[test]
fn scores_are_those_of_the_words_within_the_steps_of_a_look_up() {
    let cases = [
        (Form::Dot, 33, 5, 256),
        (Form::DistMult, 17, 17, 256),
        (Form::ComplEx, 34, 8, 16),
        (Form::ComplEx, 34, 6, 256),
        (Form::RotatE, 10, 5, 256),
    ];
    for (form, channels, spaces, words) in cases {
        let model = model(form, channels);
        let quantizer = quantizer(codes(spaces, words));
        let small = quantizer.quantize(&model, &task()).unwrap();
        let twin = quantizer.train(&model, &task()).unwrap();
        // More candidates than a job has, from within a block to within another; more queries.
        for range in [40..1290, 0..1300, 129..130] {
            let rows = Rows::new().queries(Queries::among(asked(150), range).unwrap());
            let (graph, x) = (Graph::builder(NODES).build().unwrap(), Array2::ones((NODES, 1)));
            let cx = Cx::eval(&graph).within(&rows);
            let expected = twin.infer(&cx, ValueRef::Dense(x.view())).unwrap();
            let scale = largest(expected.iter().copied());
            let floats = scores(&small, &rows, Forms::Floats);
            let off = largest((&floats - &expected).iter().copied());
            assert!(off <= 1e-4 * scale, "{form:?}: {off} of {scale}");
            let found = scores(&small, &rows, Forms::Integers);
            if form == Form::RotatE {
                assert_eq!(found, floats, "distances are not looked up");
                continue;
            }
            assert_ne!(found, floats);
            // Each part is rounded by half a step, which is at most twice the largest product of a
            // part over 127.
            let off = largest((&found - &expected).iter().copied());
            assert!(off <= spaces as f32 * scale / 127.0, "{form:?}: {off} of {scale}");
        }
        let each = Queries::each(asked(4), 3, (0..12).map(|k| k * 31).collect::<Vec<_>>()).unwrap();
        let each = Rows::new().queries(each);
        let [a, b] = [Forms::Integers, Forms::Floats].map(|forms| scores(&small, &each, forms));
        assert_eq!(a, b, "candidates of a query's own are scored on floats");
    }
}

#[test]
fn a_row_takes_its_codes_and_words_are_stored_once() {
    for (spaces, words, row) in [(8, 256, 8), (8, 16, 4)] {
        let small = quantizer(codes(spaces, words)).quantize(&model(Form::Dot, 32), &task());
        let small = small.unwrap();
        let own = (words * (32 + 4)) as u64;
        assert_eq!(small.stored_bytes(), NODES as u64 * row + own);
        let QuantOp::Embedding(table) = small.stages()[0].op() else { panic!("a table is first") };
        assert_eq!(small.num_params(), NODES * spaces + words * 32);
        assert_eq!(table.codes().unwrap().spaces(), spaces);
        assert!(small.to_string().contains(&format!("{spaces} codes of {words} words")), "{small}");
    }
}

#[test]
fn files_hold_codes_to_the_bit_and_damage_is_an_error_or_a_model() {
    for (spaces, words) in [(3, 256), (4, 16)] {
        let small = quantizer(codes(spaces, words)).quantize(&model(Form::DistMult, 6), &task());
        let small = small.unwrap();
        let bytes = small.to_bytes().unwrap();
        let back = QuantModel::from_bytes(&bytes).unwrap();
        assert_eq!(back, small);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        for end in (0..bytes.len()).step_by(13) {
            assert!(QuantModel::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let _ = QuantModel::from_bytes(&damaged);
        }
        for (from, to) in [
            (r#"\"spaces\":"#, r#"\"spaces\":9"#),
            (r#"\"range\":"#, r#"\"range\":9"#),
            (r#"\"rows\":1300"#, r#"\"rows\":1301"#),
        ] {
            // In the place of its first digit, so that nothing moves.
            let at = bytes.windows(from.len()).position(|some| some == from.as_bytes()).unwrap();
            let mut wrong = bytes.clone();
            wrong[at..at + to.len()].copy_from_slice(to.as_bytes());
            let message = QuantModel::from_bytes(&wrong).unwrap_err().to_string();
            assert!(!message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn codes_and_scores_have_the_same_bits_on_any_number_of_threads() {
    let rows = Rows::new().queries(Queries::among(asked(200), 3..1299).unwrap());
    let (facts, start) = days(Form::DistMult, 8);
    let links = LinkTask::builder(facts).batch(8).build().unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let small = quantizer(codes(5, 256)).quantize(&model(Form::DistMult, 20), &task());
            let small = small.unwrap();
            let found = scores(&small, &rows, Forms::Integers).mapv(f32::to_bits);
            let trained = Quantizer::builder(Bits::Eight).codes(codes(2, 16)).qat(3).build();
            (small, found, trained.unwrap().quantize(&start, &links).unwrap())
        })
    };
    let expected = on(1);
    for threads in [2, 3, 7] {
        assert!(on(threads) == expected, "on {threads} threads");
    }
}

fn judged(small: &QuantModel, task: &dyn Task<f32>, part: Part) -> f64 {
    let judged = measure(task, part, small.seed(), |batch| {
        let x = batch.features();
        let mut program = small.compile_within(batch.graph(), x, batch.spaces())?;
        Ok(program.run(batch.features())?.to_owned())
    });
    judged.unwrap().value
}

/// Few words and few codes, so that much is lost, and training brings some of it back.
#[test]
fn training_words_and_codes_is_never_worse_on_validation_and_the_best_epoch_is_kept() {
    let (facts, model) = days(Form::ComplEx, 16);
    let task = LinkTask::builder(facts).batch(8).build().unwrap();
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3).epochs(30);
    let model = trainer.weight_decay(0.0).build().unwrap().fit(model, &task).unwrap();
    for how in [codes(2, 16), codes(2, 16).random()] {
        let of = |epochs: usize| {
            let quantizer = Quantizer::builder(Bits::Eight).codes(how).qat(epochs).build().unwrap();
            let twin = quantizer.train(&model, &task).unwrap();
            let small = quantizer.quantize(&model, &task).unwrap();
            let QuantOp::Embedding(table) = small.stages()[0].op() else { panic!("a table") };
            let mut rows = None;
            twin.visit(&mut |_, param| {
                rows.get_or_insert(param.value().clone());
            });
            assert_eq!(table.to_floats(), rows.unwrap(), "what is stored is what was trained");
            evaluate(&twin, &task, Part::Validation).unwrap()
        };
        let (before, after) = (of(0), of(60));
        assert!(after > before + 1.0, "{before} and {after}, drawn {}", how.is_random());
    }
}

#[test]
fn equal_rows_have_the_reciprocal_rank_of_chance() {
    let (facts, mut model) = days(Form::DistMult, 8);
    let task = LinkTask::builder(facts).build().unwrap();
    model.visit_mut(&mut |param| param.value_mut().fill(0.5));
    let small = quantizer(codes(4, 16)).quantize(&model, &task).unwrap();
    let found = judged(&small, &task, Part::Test);
    assert!((found - 100.0 / 14.0).abs() < 0.5, "{found}");
}

#[cfg(feature = "recipe")]
#[test]
fn a_recommender_of_codes_recommends_and_its_report_has_drawn_codes_beside() {
    use super::links::interactions;
    use gnn_prune::pipeline::Controls;
    use gnn_prune::task::RecommendTask;
    use gnn_prune::{Compression, LightGcn, Recipe};
    let task = RecommendTask::builder(interactions()).batch(32).build().unwrap();
    let model = LightGcn::builder(50).channels(8).layers(0).build(0).unwrap();
    let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(20);
    let trainer = trainer.build().unwrap();
    let recipe: Recipe = "[[stage]]\ncodes = 4\nwords = 16\nqat = 2\n".parse().unwrap();
    let compression = Compression::train(model, trainer, 2, &task).unwrap();
    let out = recipe.run(compression.controls(Controls::All)).unwrap();
    let names: Vec<&str> = out.report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[..2], ["dense", "codes 4 of 16 words"]);
    assert!(names.contains(&"random control"), "{names:?}");
    let metrics = |name: &str| {
        let row = out.report.rows.iter().find(|row| row.name == name).unwrap();
        format!("{:?} {:?}", row.accuracy, row.metrics)
    };
    assert_ne!(metrics(names[1]), metrics("random control"), "other codes recommend otherwise");
}

#[test]
fn what_has_no_codes_is_refused_in_a_line() {
    let task = task();
    let refused = |model: &Model, how: ProductCodes| {
        let error = quantizer(how).quantize(model, &task).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let of_six = model(Form::DistMult, 6);
    assert!(refused(&of_six, ProductCodes::new(7)).contains("between 1 and the 6 columns"));
    let mut masked = of_six.clone();
    masked.visit_mut(&mut |param| {
        let kept = Array2::from_shape_fn(param.value().dim(), |(i, c)| (i + c) % 2 == 0);
        param.restrict(&kept);
    });
    assert!(refused(&masked, ProductCodes::new(3)).contains("is masked"));
    let data = gnn_prune::Dataset::digits().unwrap();
    let gcn = gnn_prune::Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0);
    let error = quantizer(ProductCodes::new(3)).quantize(&gcn.unwrap(), &data).unwrap_err();
    assert!(error.to_string().contains("no table of rows"), "{error}");
}
