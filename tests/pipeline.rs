//! The whole way in Rust and by recipe: one order of stages, one set of bits, rows with their
//! controls, pages that stand alone.

use super::links::days;
use gnn_prune::graph::{Edge, EdgeMask};
use gnn_prune::nn::decode::Form;
use gnn_prune::pipeline::{Control, Distill, Env, Student, Subject};
use gnn_prune::prune::{Criterion, EdgePruner, Scores, Units};
use gnn_prune::rng::{hash, purpose};
use gnn_prune::task::LinkTask;
use gnn_prune::{
    Ablation, Bits, Calibrate, ChannelPruner, Compressed, Compression, Controls, Dataset, FineTune,
    Gcn, LayerPruner, Model, OneShot, QuantModel, Quantizer, Recipe, Report, Result, Step, Subset,
    Trainer, WeightPruner, nn::Cx,
};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file that is removed at the end, also of a test that fails.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-pipeline-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    /// What `save` writes.
    fn bytes(save: impl FnOnce(&PathBuf) -> Result<()>) -> Vec<u8> {
        let file = Self::new();
        save(&file.0).unwrap();
        fs::read(&file.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the temporary folder does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

fn data() -> Dataset {
    Dataset::sbm(300, 3).degree(8.0).seed(1).build().unwrap()
}

fn form(data: &Dataset) -> Model {
    Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0).unwrap()
}

fn trainer() -> Trainer {
    Trainer::builder().epochs(15).build().unwrap()
}

fn trained(data: &Dataset) -> Model {
    trainer().fit(form(data), data).unwrap()
}

fn half() -> ChannelPruner {
    ChannelPruner::builder(Subset::new()).ratio(0.5).build().unwrap()
}

fn names(report: &Report) -> Vec<&str> {
    report.rows.iter().map(|row| row.name.as_str()).collect()
}

const RECIPE: &str = "controls = \"none\"\n[[stage]]\nchannels = 0.5\n[[stage]]\ndistill = \"self\"\n[[stage]]\nbits = 8\n";

#[test]
fn rust_and_a_recipe_give_the_same_bits_from_run_to_run() {
    let data = data();
    let in_rust = || -> QuantModel {
        let compression = Compression::of(trained(&data), &data)
            .step(half())
            .step(Distill::into(Student::Itself));
        compression
            .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
            .controls(Controls::None)
            .run()
            .unwrap()
            .model
    };
    let by_recipe = |recipe: &Recipe| {
        recipe.run(Compression::of(trained(&data), &data).controls(Controls::None)).unwrap()
    };
    let expected = Scratch::bytes(|path| in_rust().save(path));
    assert!(expected == Scratch::bytes(|path| in_rust().save(path)), "two runs differ");

    let recipe: Recipe = RECIPE.parse().unwrap();
    let outcome = by_recipe(&recipe);
    assert_eq!(names(&outcome.report), ["dense", "channels 0.5", "distill self", "bits 8"]);
    assert_eq!(outcome.report.recipe, recipe.words());
    assert!(matches!(outcome.model, Compressed::Integer(_)));
    assert!(
        expected == Scratch::bytes(|path| outcome.model.save(path)),
        "the recipe's model differs"
    );

    let words = Recipe::from_words(&[("channels", "0.5"), ("distill", "self"), ("bits", "8")], &[])
        .unwrap();
    assert!(
        expected == Scratch::bytes(|path| by_recipe(&words).model.save(path)),
        "the words' model differs"
    );

    // What is read back is of its kind, and writes the same file again.
    let file = Scratch::new();
    fs::write(&file.0, &expected).unwrap();
    let read = Compressed::load(&file.0).unwrap();
    assert!(matches!(read, Compressed::Integer(_)));
    assert!(
        expected == Scratch::bytes(|path| read.save(path)),
        "a file read and written again differs"
    );
}

#[test]
fn a_recipe_without_bits_ends_in_floats() {
    let data = data();
    let recipe: Recipe = "[[stage]]\nchannels = 0.5\n[[stage]]\nfinetune = 3".parse().unwrap();
    let by_recipe =
        recipe.run(Compression::of(trained(&data), &data).controls(Controls::None)).unwrap().model;
    let in_rust = Compression::of(trained(&data), &data)
        .step(half())
        .step(FineTune::epochs(3))
        .controls(Controls::None)
        .run()
        .unwrap()
        .model;
    assert!(matches!(by_recipe, Compressed::Float(_)));
    assert!(
        Scratch::bytes(|path| by_recipe.save(path)) == Scratch::bytes(|path| in_rust.save(path))
    );
}

#[test]
fn every_number_of_a_report_is_that_of_its_own_seed_and_its_own_network() {
    // Labels so mixed that seeds and networks differ.
    let data = Dataset::sbm(300, 3).degree(4.0).homophily(0.5).features(8).seed(1).build().unwrap();
    let seeds = [0, 1, 2];
    let form = Gcn::builder(8, 3).hidden(16).build(0).unwrap();
    let pruner = ChannelPruner::builder(Subset::new()).ratio(0.75).build().unwrap();
    let with_seeds = Compression::train(form.clone(), trainer(), 3, &data).unwrap();
    let outcome = with_seeds.step(pruner.clone()).run().unwrap();
    let judge = |model: &Model| {
        gnn_prune::task::evaluate(model, &data, gnn_prune::task::Part::Test).unwrap()
    };
    let random = pruner.with_criterion(gnn_prune::Random::new());
    let mut expected: Vec<Vec<f64>> = vec![Vec::new(); 4];
    let mut best = (f64::NEG_INFINITY, 0);
    for seed in seeds {
        let dense = trainer().fit(form.fresh(seed), &data).unwrap();
        let pruned = pruner.prune(&dense, &data).unwrap();
        let narrow = trainer().fit(pruned.fresh(seed), &data).unwrap();
        // What is drawn at random is drawn by the seed of the stage.
        let at_random =
            random.with_seed(hash(seed, &[purpose::STAGE, 0])).prune(&dense, &data).unwrap();
        for (row, model) in expected.iter_mut().zip([&dense, &pruned, &narrow, &at_random]) {
            row.push(judge(model));
        }
        let validation =
            gnn_prune::task::evaluate(&pruned, &data, gnn_prune::task::Part::Validation).unwrap();
        if validation > best.0 {
            best = (validation, seed);
        }
    }
    let found: Vec<Vec<f64>> =
        outcome.report.rows.iter().map(|row| row.accuracy.per_seed.clone()).collect();
    assert_eq!(
        names(&outcome.report),
        ["dense", "channels 0.75", "narrow control", "random control"]
    );
    assert_eq!(found, expected);
    assert!(expected[0][0] != expected[0][1], "the seeds are such that they differ: {expected:?}");
    assert_eq!(outcome.model.seed(), best.1, "the network that is kept is the best on validation");
}

#[test]
fn what_is_set_for_a_whole_recipe_reaches_its_stages() {
    let data = data();
    let run = |text: &str| {
        let recipe: Recipe = text.parse().unwrap();
        let model = recipe
            .run(Compression::of(trained(&data), &data).controls(Controls::None))
            .unwrap()
            .model;
        Scratch::bytes(|path| model.save(path))
    };
    let stage = "[[stage]]\nchannels = 0.5\n";
    let [above, inside, without] = [
        format!("criterion = \"l1\"\n{stage}"),
        format!("{stage}criterion = \"l1\"\n"),
        stage.to_string(),
    ]
    .map(|text| run(&text));
    assert!(above == inside && above != without);
}

#[test]
fn rows_are_the_dense_model_the_steps_and_the_controls() {
    let data = data();
    let run = || {
        Compression::train(form(&data), trainer(), 2, &data)
            .unwrap()
            .step(half())
            .step(FineTune::epochs(3))
    };
    let report = run().run().unwrap().report;
    assert_eq!(
        names(&report),
        ["dense", "channels 0.5", "finetune 3", "narrow control", "random control"]
    );
    assert_eq!(report.seeds, [0, 1]);
    assert!(report.rows.iter().all(|row| row.accuracy.per_seed.len() == 2));
    for row in &report.rows {
        let (cells, account) = (Report::cells(row), &row.account);
        assert_eq!(cells[2..4], [account.params.to_string(), account.nonzero_params.to_string()]);
        // Thousands of bytes and millions of products.
        assert_eq!(cells[4], format!("{:.1}", account.bytes.weights as f64 / 1000.0));
        assert_eq!(cells[5], format!("{:.2}", account.macs as f64 / 1_000_000.0));
        let times = account.latency_ms;
        assert_eq!(
            cells[6..],
            [times.threads_1.median, times.threads_all.median].map(|ms| format!("{ms:.3}"))
        );
    }
    let params: Vec<usize> = report.rows.iter().map(|row| row.account.params).collect();
    let of_width = |hidden: usize| 32 * hidden + hidden + hidden * 3 + 3;
    assert_eq!(params, [of_width(16), of_width(8), of_width(8), of_width(8), of_width(8)]);
    assert!(report.rows.iter().all(|row| Report::is_control(row) == row.name.contains("control")));

    let quantised =
        run().quantize(Quantizer::builder(Bits::Eight).build().unwrap()).run().unwrap().report;
    assert_eq!(
        names(&quantised),
        [
            "dense",
            "channels 0.5",
            "finetune 3",
            "bits 8",
            "narrow control",
            "bytes control",
            "random control"
        ]
    );
    for (with, without) in quantised.rows.iter().zip(&report.rows).take(3) {
        assert_eq!(with.accuracy, without.accuracy, "a later stage changed {}", with.name);
    }
    let bytes = |name: &str| quantised.row(name).unwrap().account.bytes.weights;
    assert!(
        bytes("bits 8") < bytes("finetune 3"),
        "{} -> {}",
        bytes("finetune 3"),
        bytes("bits 8")
    );

    // A step that chooses nothing has no random twin.
    let tuned =
        Compression::of(trained(&data), &data).step(FineTune::epochs(2)).run().unwrap().report;
    assert_eq!(names(&tuned), ["dense", "finetune 2", "narrow control"]);
}

/// Leaves out every edge between nodes whose numbers add up to `rest` modulo 3: a step of one's
/// own.
struct Thin {
    rest: usize,
}

impl Step for Thin {
    fn name(&self) -> String {
        format!("thin {}", self.rest)
    }

    fn run(&self, subject: Subject, _: &Env) -> Result<Subject> {
        let keeps = |edge: Edge<f32>| (edge.source + edge.target) % 3 != self.rest;
        let graph = subject.graph().retain(&EdgeMask::from_fn(subject.graph(), keeps))?;
        Ok(subject.with_graph(graph))
    }

    fn control(&self) -> Control {
        Control::Random(Box::new(Thin { rest: (self.rest + 1) % 3 }))
    }
}

#[test]
fn a_step_of_ones_own_has_its_row_its_graph_and_its_control() {
    let data = data();
    let compression = Compression::of(trained(&data), &data)
        .step(Thin { rest: 0 })
        .step(half())
        .step(Distill::into(Student::Itself));
    let report = compression
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .run()
        .unwrap()
        .report;
    assert_eq!(
        names(&report),
        [
            "dense",
            "thin 0",
            "channels 0.5",
            "distill self",
            "bits 8",
            "narrow control",
            "bytes control",
            "random control"
        ]
    );
    let edges = |name: &str| report.row(name).unwrap().account.edges;
    assert_eq!(edges("dense"), data.graph().num_edges());
    assert!(0 < edges("thin 0") && edges("thin 0") < edges("dense"));
    for name in ["channels 0.5", "distill self", "bits 8", "narrow control"] {
        assert_eq!(edges(name), edges("thin 0"), "{name} runs on another graph");
    }
    assert_ne!(edges("random control"), edges("thin 0"), "the control is not the step's own");
}

#[test]
fn edges_go_by_number_and_as_many_go_by_chance() {
    let data = data();
    let report = Compression::of(trained(&data), &data)
        .step(EdgePruner::builder(Closest).ratio(0.25).build().unwrap())
        .run()
        .unwrap()
        .report;
    assert_eq!(names(&report), ["dense", "edges 0.25", "narrow control", "random control"]);
    let row = |name: &str| report.row(name).unwrap();
    let dense = data.graph().num_edges();
    assert_eq!(row("edges 0.25").account.edges, dense - dense / 8 * 2);
    assert_eq!(row("random control").account.edges, row("edges 0.25").account.edges);
    assert_ne!(row("random control").accuracy, row("edges 0.25").accuracy);
}

/// How far the numbers of an edge's ends are apart.
struct Closest;

impl Criterion<f32> for Closest {
    fn name(&self) -> &str {
        "closest"
    }

    fn score(&self, units: &Units<f32>) -> Result<Scores> {
        let Units::Edges(all) = units else { return Err(units.unserved("closest")) };
        let mut scores = vec![0.0; all.units];
        for (edge, &unit) in all.graph.edges().zip(&all.unit_of) {
            scores[unit] = edge.source.abs_diff(edge.target) as f64;
        }
        Ok(Scores::new(scores))
    }
}

#[test]
fn what_is_masked_is_not_counted_as_non_zero_in_floats_or_integers() {
    let data = data();
    let compression = Compression::of(trained(&data), &data)
        .step(WeightPruner::builder().sparsity(0.5).build().unwrap());
    let report = compression
        .controls(Controls::None)
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .run()
        .unwrap()
        .report;
    for name in ["weights 0.5", "bits 8"] {
        let account = &report.row(name).unwrap().account;
        assert_eq!(account.params, report.row("dense").unwrap().account.params, "{name}");
        assert!(
            account.nonzero_params < account.params * 6 / 10
                && account.nonzero_params > account.params / 3,
            "{name}: {account:?}"
        );
    }
}

#[test]
fn one_shot_is_its_three_steps_on_the_nodes_that_were_asked_for() {
    // So few edges that not every node is within two of a training node.
    let data = Dataset::sbm(600, 3).degree(1.5).seed(1).build().unwrap();
    let model = trained(&data);
    let bytes = |calibrate| {
        let all_at_once =
            OneShot::builder().channels(0.5).weights(0.5).calibrate(calibrate).build().unwrap();
        let narrow = ChannelPruner::builder(Subset::new())
            .ratio(0.5)
            .calibrate(calibrate)
            .build()
            .unwrap()
            .prune(&model, &data)
            .unwrap();
        let sparse = WeightPruner::builder()
            .sparsity(0.5)
            .calibrate(calibrate)
            .build()
            .unwrap()
            .prune(&narrow, &data)
            .unwrap();
        let small = Quantizer::builder(Bits::Four)
            .calibrate(calibrate)
            .build()
            .unwrap()
            .quantize(&sparse, &data)
            .unwrap();
        assert!(
            model.origin().is_some()
                && Compressed::Integer(small.clone()).origin() == model.origin()
        );
        let small = small.to_bytes().unwrap();
        assert!(
            all_at_once.compress(&model, &data).unwrap().to_bytes().unwrap() == small,
            "{calibrate:?}"
        );
        small
    };
    assert!(bytes(Calibrate::All) != bytes(Calibrate::Train), "the nodes change nothing here");
}

/// The random control of every step that chooses: as much as the step itself takes, drawn by the
/// seed of its stage.
#[test]
fn what_is_left_to_chance_follows_the_stage_and_takes_as_much() {
    let data = data();
    let deep = Gcn::builder(data.num_features(), data.num_classes())
        .hidden(16)
        .layers(8)
        .residual(true)
        .build(0)
        .unwrap();
    let steps: Vec<Box<dyn Step>> = vec![
        Box::new(half()),
        Box::new(WeightPruner::builder().sparsity(0.5).build().unwrap()),
        Box::new(LayerPruner::builder(Ablation::new()).remove(2).build().unwrap()),
    ];
    // Of a threshold chance could not choose as much.
    assert!(matches!(
        WeightPruner::builder().threshold(0.1).build().unwrap().control(),
        Control::ChoosesNothing
    ));
    for step in steps {
        let env = |seed| Env::new(&data, &deep, seed);
        let run = |step: &dyn Step, seed| {
            let model = step
                .run(Subject::new(deep.clone(), data.graph().clone()), &env(seed))
                .unwrap()
                .into_model();
            let (mut left, mut zeros) = (model.num_params(), 0);
            model.visit(&mut |_, param| {
                zeros += param.mask().map_or(0, |mask| mask.iter().filter(|kept| !**kept).count())
            });
            left -= zeros;
            (left, model.infer(&Cx::eval(data.graph()), data.features()).unwrap())
        };
        let Control::Random(random) = step.control() else { panic!("{} chooses", step.name()) };
        let (own, first, again, second) =
            (run(&*step, 1), run(&*random, 1), run(&*random, 1), run(&*random, 2));
        assert_eq!((own.0, own.0), (first.0, second.0), "{}", step.name());
        assert_eq!(first.1, again.1, "{}", step.name());
        assert_ne!(first.1, second.1, "{}: two stages draw the same", step.name());
        assert_ne!(first.1, own.1, "{}", step.name());
    }
    // A seed that was given is kept, and belongs to the settings.
    let given = WeightPruner::builder().sparsity(0.5).build().unwrap().at_random().with_seed(7);
    let drawn = |seed| {
        let subject = Subject::new(deep.clone(), data.graph().clone());
        given.run(subject, &Env::new(&data, &deep, seed)).unwrap().into_model().to_bytes().unwrap()
    };
    assert!(drawn(1) == drawn(2));
    let random = ChannelPruner::builder(gnn_prune::Random::new()).build().unwrap();
    assert_ne!(random.with_seed(7).settings(), random.with_seed(8).settings());
}

#[test]
fn stages_in_an_order_that_loses_work_are_refused() {
    let data = data();
    let late = Compression::of(form(&data), &data)
        .step(half())
        .step(Distill::into(Student::Gcn { hidden: 4 }))
        .run();
    let error = late.unwrap_err().to_string();
    assert!(error.contains("`distill gcn:4`") && error.contains("first"), "{error}");
    let first = Compression::of(trained(&data), &data)
        .step(Distill::into(Student::Mlp { hidden: 4 }))
        .controls(Controls::None)
        .run();
    assert_eq!(names(&first.unwrap().report), ["dense", "distill mlp:4"]);
    for text in
        ["[[stage]]\nbits = 8\n[[stage]]\nfinetune = 2", "[[stage]]\nbits = 4\n[[stage]]\nbits = 8"]
    {
        let error = text.parse::<Recipe>().unwrap_err().to_string();
        assert!(error.contains("`bits`") && error.contains("last"), "{error}");
    }
    assert!(Recipe::from_words(&[("bits", "8"), ("channels", "0.5")], &[]).is_err());
    assert!(Compression::train(form(&data), trainer(), 0, &data).is_err());
}

#[test]
fn a_page_needs_no_other_file() {
    let data = data();
    let compression = Compression::of(trained(&data), &data).step(half()).step(FineTune::epochs(1));
    let report = compression
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .run()
        .unwrap()
        .report;
    let page = String::from_utf8(Scratch::bytes(|path| report.write_html(path))).unwrap();
    assert_eq!(page, report.to_html());
    // Bytes, time and work; the fine-tuning of the chain and of each control.
    assert_eq!(page.matches("<svg").count(), 3 + 4);
    for row in &report.rows {
        assert!(page.contains(&format!("<td>{}</td>", row.name)), "{} is missing", row.name);
    }
    for part in
        ["<pre>channels 0.5\nfinetune 1\nbits 8</pre>", "<tr><td>0</td>", std::env::consts::ARCH]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    for leads_out in ["src=", "href=", "@import", "url(", "<script"] {
        assert!(!page.contains(leads_out), "{leads_out} leads out of the page");
    }
}

#[test]
fn a_one_shot_compression_of_tables_has_widths_and_bits() {
    let (facts, model) = days(Form::ComplEx, 16);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let one_shot = OneShot::builder().channels(0.5).build().unwrap();
    let small = one_shot.compress(&model, &task).unwrap();
    // 28 entities and 4 relations of 8 numbers in 4 bits, and a scale each.
    assert_eq!(small.stored_bytes(), 32 * (4 + 4));
}
