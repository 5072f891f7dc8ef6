//! A run that is stopped goes on where it was, to the bits of one that was not; and what cannot be
//! done is said before the first epoch.

use gnn_prune::error::Unsupported;
use gnn_prune::graph::{Edge, EdgeMask};
use gnn_prune::nn::{
    Cx, Grads, Io, Layer, Linear, Lowering, ModelBuilder, NodeId, StageId, Wiring,
};
use gnn_prune::pipeline::{Control, Distill, Env, Progress, Student, Subject};
use gnn_prune::train::Epoch;
use gnn_prune::{
    Ablation, Bits, ChannelPruner, Checkpoints, Compression, Controls, Dataset, Error, FineTune,
    Gat, Gcn, Gin, LayerPruner, Model, QuantModel, Quantizer, Report, Result, Sage, Scope, Step,
    Subset, Trainer, Value, ValueRef, WeightPruner,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A folder of one's own that is removed at the end, also of a test that fails.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-resume-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    fn out(&self) -> PathBuf {
        self.0.join("model")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn data() -> Dataset {
    Dataset::sbm(160, 3).degree(5.0).homophily(0.6).features(12).seed(1).build().unwrap()
}

fn trainer(epochs: usize) -> Trainer {
    Trainer::builder().epochs(epochs).build().unwrap()
}

/// A network with a residual sum.
fn form(data: &Dataset) -> Model {
    Gcn::builder(data.num_features(), data.num_classes())
        .hidden(8)
        .layers(3)
        .residual(true)
        .build(0)
        .unwrap()
}

/// Two seeds, four stages, all controls.
fn whole_way(data: &Dataset) -> Compression<'_, QuantModel> {
    Compression::train(form(data), trainer(6), 2, data)
        .unwrap()
        .step(ChannelPruner::builder(Subset::new()).ratio(0.5).build().unwrap())
        .step(WeightPruner::builder().sparsity(0.25).build().unwrap())
        .step(FineTune::epochs(3))
        .quantize(Quantizer::builder(Bits::Four).qat(2).build().unwrap())
}

/// All of a report but its times.
fn timeless(report: &Report) -> serde_json::Value {
    let mut report: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    for row in report["rows"].as_array_mut().unwrap() {
        assert!(row.as_object_mut().unwrap().remove("latency_ms").is_some());
        row.as_object_mut().unwrap().remove("effort");
    }
    // Words that speak of times.
    for words in ["summary", "notes"] {
        report.as_object_mut().unwrap().remove(words);
    }
    report
}

/// What a listener hears, without what depends on the clock.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Stage(String, u64),
    Kept,
    Epoch(Epoch),
    Note(String),
    Measure,
}

fn listen(to: &Arc<Mutex<Vec<Heard>>>) -> impl Fn(Progress) + Send + Sync + 'static {
    let to = Arc::clone(to);
    move |progress| {
        let heard = match progress {
            Progress::Stage { name, seed, .. } => Heard::Stage(name, seed),
            Progress::Kept { .. } => Heard::Kept,
            Progress::Epoch(epoch) => Heard::Epoch(epoch),
            Progress::Note { text } => Heard::Note(text),
            Progress::Measure { .. } => Heard::Measure,
            _ => return,
        };
        to.lock().unwrap().push(heard);
    }
}

fn stages(heard: &[Heard]) -> Vec<(String, u64)> {
    let stage = |heard: &Heard| {
        if let Heard::Stage(name, seed) = heard { Some((name.clone(), *seed)) } else { None }
    };
    heard.iter().filter_map(stage).collect()
}

fn count(heard: &[Heard], what: &Heard) -> usize {
    heard.iter().filter(|one| *one == what).count()
}

/// Every stage in a folder: the bytes of its model, and its record without what depends on the
/// clock.
fn kept_in(folder: &Path) -> BTreeMap<String, (Vec<u8>, serde_json::Value)> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
            assert!(record.as_object_mut().unwrap().remove("digest").is_some());
            assert!(record["record"].as_object_mut().unwrap().remove("effort").is_some());
            found.insert(
                path.file_stem().unwrap().to_str().unwrap().to_string(),
                (fs::read(&path).unwrap(), record),
            );
        }
    }
    found
}

#[test]
fn stopped_after_any_stage_a_run_goes_on_to_the_same_bits() {
    let data = data();
    // Neither kept nor stopped; then kept.
    let expected = whole_way(&data).run().unwrap();
    let (reference, uninterrupted) = (Folder::new(), Arc::new(Mutex::new(Vec::new())));
    let whole = whole_way(&data)
        .keep(Checkpoints::begin(reference.work()).unwrap())
        .on_progress(listen(&uninterrupted));
    let whole = whole.save_to(reference.out()).run().unwrap();
    let expected_bytes = expected.model.to_bytes().unwrap();
    assert!(
        fs::read(reference.out()).unwrap() == expected_bytes
            && whole.model.to_bytes().unwrap() == expected_bytes
    );
    assert_eq!(timeless(&whole.report), timeless(&expected.report));
    let uninterrupted = uninterrupted.lock().unwrap().clone();
    let expected_stages = kept_in(&reference.work());
    let all = stages(&uninterrupted);
    // Two seeds: the dense model, four stages, the narrow control and that of the bytes, four
    // random stages.
    assert_eq!(all.len(), 2 * (1 + 4 + 2 + 4));
    assert_eq!((expected.report.rows.len(), expected_stages.len()), (5 + 3, all.len()));

    for stop_after in 0..all.len() {
        let folder = Folder::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let stopped = whole_way(&data)
            .keep(Checkpoints::begin(folder.work()).unwrap())
            .on_progress(move |progress| {
                if matches!(progress, Progress::Stage { .. }) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            // In the middle of the training of a stage that has one; a stage without comes to its
            // end.
            .stop_when(move || begun.load(Ordering::Relaxed) > stop_after)
            .save_to(folder.out())
            .run();
        assert!(matches!(stopped, Err(Error::Interrupted)), "after {stop_after}");
        let kept = Checkpoints::count(folder.work());
        assert!(kept == stop_after || kept == stop_after + 1, "{kept} stages after {stop_after}");
        if kept > 0 {
            let refused = Checkpoints::begin(folder.work()).err().unwrap().to_string();
            assert!(
                refused.contains("--resume") && refused.contains("remove the folder"),
                "{refused}"
            );
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let resumed = whole_way(&data)
            .keep(Checkpoints::resume(folder.work()))
            .on_progress(listen(&heard))
            .save_to(folder.out());
        if stop_after % 10 == 3 {
            let resumed = resumed.run().unwrap();
            assert!(resumed.model.to_bytes().unwrap() == expected_bytes);
            assert_eq!(timeless(&resumed.report), timeless(&expected.report), "after {stop_after}");
        } else {
            // Measuring takes long, and has its turn when all else is there.
            let heard = Arc::clone(&heard);
            let measures = move || heard.lock().unwrap().contains(&Heard::Measure);
            assert!(matches!(resumed.stop_when(measures).run(), Err(Error::Interrupted)));
        }
        assert!(
            fs::read(folder.out()).unwrap() == expected_bytes,
            "after {stop_after}: another model"
        );
        assert!(kept_in(&folder.work()) == expected_stages, "after {stop_after}: other stages");
        let mut heard = heard.lock().unwrap().clone();
        assert_eq!(count(&heard, &Heard::Kept), kept);
        heard.retain(|one| !matches!(one, Heard::Kept | Heard::Note(_)));
        let to_compare = heard.iter().filter(|one| **one != Heard::Measure);
        let expected = uninterrupted.iter().filter(|one| **one != Heard::Measure);
        assert!(
            to_compare.eq(expected),
            "a listener hears the same, epochs of kept stages included"
        );
    }
}

#[test]
fn a_stage_that_has_had_its_last_epoch_is_kept_and_its_model_written() {
    let data = data();
    for (seeds, last) in [(2, false), (1, true)] {
        let folder = Folder::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&heard);
        let ended = move || {
            to.lock()
                .unwrap()
                .iter()
                .any(|one| matches!(one, Heard::Epoch(epoch) if epoch.epoch == epoch.epochs))
        };
        let way = Compression::train(form(&data), trainer(3), seeds, &data)
            .unwrap()
            .save_to(folder.out());
        let stopped = way
            .keep(Checkpoints::begin(folder.work()).unwrap())
            .on_progress(listen(&heard))
            .stop_when(ended)
            .run();
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!((Checkpoints::count(folder.work()), folder.out().exists()), (1, last));
    }
}

#[test]
fn damaged_and_missing_stages_are_done_again_with_a_note() {
    let data = data();
    let folder = Folder::new();
    let run = |checkpoints: Checkpoints, heard: &Arc<Mutex<Vec<Heard>>>| {
        let to = Arc::clone(heard);
        let measures = move || to.lock().unwrap().contains(&Heard::Measure);
        let stopped = whole_way(&data)
            .keep(checkpoints)
            .on_progress(listen(heard))
            .stop_when(measures)
            .save_to(folder.out())
            .run();
        assert!(matches!(stopped, Err(Error::Interrupted)));
        (fs::read(folder.out()).unwrap(), kept_in(&folder.work()))
    };
    let expected = run(Checkpoints::begin(folder.work()).unwrap(), &Arc::default());
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.work()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_stage =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("gnn-prune-seed");
    files.retain(is_stage);
    assert_eq!(files.len(), 2 * Checkpoints::count(folder.work()));
    let halved = |path: &Path| {
        let whole = fs::read(path).unwrap();
        fs::write(path, &whole[..whole.len() / 2]).unwrap();
    };
    let flipped = |path: &Path| {
        let mut whole = fs::read(path).unwrap();
        let middle = whole.len() / 2;
        whole[middle] ^= 4;
        fs::write(path, &whole).unwrap();
    };
    let swapped = |path: &Path| {
        _ = fs::copy(
            files.iter().find(|other| other.extension() == path.extension()).unwrap(),
            path,
        )
        .unwrap()
    };
    // Models and records, each in all of the ways.
    let ways: [&dyn Fn(&Path); 4] =
        [&halved, &flipped, &|path| fs::remove_file(path).unwrap(), &swapped];
    for (k, offset) in (0..ways.len()).flat_map(|k| [(k, 0), (k, 1)]) {
        let chosen = |at: usize| at >= 2 && at % ways.len() == (k + offset) % ways.len();
        let damaged: Vec<&PathBuf> =
            (0..files.len()).filter(|&at| chosen(at)).map(|at| &files[at]).collect();
        damaged.iter().for_each(|path| ways[k](path));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let found = run(Checkpoints::resume(folder.work()), &heard);
        for (place, (model, record)) in &expected.1 {
            let (found_model, found_record) = &found.1[place];
            assert_eq!(found_record, record, "way {k}: {place}");
            assert!(found_model == model, "way {k}: {place}");
        }
        assert!(found.0 == expected.0 && found.1.len() == expected.1.len(), "way {k}");
        let heard = heard.lock().unwrap().clone();
        let redone = stages(&heard).len() - count(&heard, &Heard::Kept);
        let notes: Vec<&String> = heard
            .iter()
            .filter_map(|one| if let Heard::Note(text) = one { Some(text) } else { None })
            .collect();
        assert!(redone > 0 && redone <= damaged.len(), "way {k}: {redone} of {}", damaged.len());
        // A record that is gone is no mistake of anybody.
        assert!(notes.len() <= redone && (k == 2 || notes.len() == redone), "way {k}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains("done again")), "{notes:?}");
    }
}

#[test]
fn another_run_is_refused_with_what_differs() {
    let data = data();
    let folder = Folder::new();
    let half = |criterion: fn() -> ChannelPruner| {
        Compression::train(form(&data), trainer(2), 2, &data).unwrap().step(criterion())
    };
    let subset = || ChannelPruner::builder(Subset::new()).ratio(0.5).build().unwrap();
    let first = half(subset)
        .controls(Controls::None)
        .keep(Checkpoints::begin(folder.work()).unwrap())
        .run();
    first.unwrap();
    let again = || Checkpoints::resume(folder.work());
    let refused = |compression: Compression, words: &[&str]| {
        let epochs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&epochs);
        let heard = move |progress| {
            if matches!(progress, Progress::Epoch(_)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let error = compression.keep(again()).on_progress(heard).run().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
        assert!(error.contains("another run") && error.contains("remove the folder"), "{error}");
        assert_eq!(epochs.load(Ordering::Relaxed), 0);
    };
    let none = Controls::None;
    refused(half(subset), &["controls: `none` there, `all` here"]);
    refused(
        Compression::train(form(&data), trainer(2), 3, &data)
            .unwrap()
            .step(subset())
            .controls(none),
        &["seeds: `0 to 1` there, `0 to 2` here"],
    );
    refused(
        Compression::train(form(&data), trainer(3), 2, &data)
            .unwrap()
            .step(subset())
            .controls(none),
        &["training: `2 epochs", "`3 epochs"],
    );
    refused(
        half(|| ChannelPruner::builder(Subset::new()).ratio(0.25).build().unwrap()).controls(none),
        &["channels 0.5", "channels 0.25"],
    );
    refused(
        half(|| ChannelPruner::builder(gnn_prune::Random::new()).ratio(0.5).build().unwrap())
            .controls(none),
        &["by subset", "by random"],
    );
    let global =
        || ChannelPruner::builder(Subset::new()).ratio(0.5).scope(Scope::Global).build().unwrap();
    refused(half(global).controls(none), &["scope Layer", "scope Global"]);
    refused(
        half(subset).step(FineTune::epochs(1)).controls(none),
        &["stages", "`none` there, `finetune 1` here"],
    );
    let wider = Gcn::builder(12, 3).hidden(9).layers(3).residual(true).build(0).unwrap();
    refused(
        Compression::train(wider, trainer(2), 2, &data).unwrap().step(subset()).controls(none),
        &["model: `model: 12 -> 3"],
    );
    let drier =
        Gcn::builder(12, 3).hidden(8).layers(3).residual(true).dropout(0.25).build(0).unwrap();
    refused(
        Compression::train(drier, trainer(2), 2, &data).unwrap().step(subset()).controls(none),
        &["model", "0.25"],
    );
    let other =
        Dataset::sbm(160, 3).degree(5.0).homophily(0.6).features(12).seed(2).build().unwrap();
    refused(
        Compression::train(form(&other), trainer(2), 2, &other)
            .unwrap()
            .step(subset())
            .controls(none),
        &["fingerprint of the data"],
    );
    refused(
        Compression::of(form(&data), &data).step(subset()).controls(none),
        &["training", "done before; controls: 200 epochs"],
    );
    // What cannot change the outcome may differ.
    let threads = half(subset).controls(none).threads(1).keep(again()).run();
    threads.unwrap();
}

/// A step that says nothing of what it would do, and changes the graph.
struct Thin;

impl Step for Thin {
    fn name(&self) -> String {
        "thin".into()
    }

    fn run(&self, subject: Subject, _: &Env) -> Result<Subject> {
        let keeps = |edge: Edge<f32>| !(edge.source + edge.target).is_multiple_of(3);
        let graph = subject.graph().retain(&EdgeMask::from_fn(subject.graph(), keeps))?;
        Ok(subject.with_graph(graph))
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

#[test]
fn what_comes_after_another_graph_is_run_again_to_the_same_bits() {
    let data = data();
    let way = || {
        let compression = Compression::train(form(&data), trainer(4), 1, &data)
            .unwrap()
            .step(FineTune::epochs(2))
            .step(Thin);
        compression.step(FineTune::epochs(2)).controls(Controls::None)
    };
    let expected = way().run().unwrap();
    let folder = Folder::new();
    way().keep(Checkpoints::begin(folder.work()).unwrap()).run().unwrap();
    assert_eq!(
        kept_in(&folder.work()).keys().collect::<Vec<_>>(),
        ["gnn-prune-seed0-0", "gnn-prune-seed0-1"]
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let resumed =
        way().keep(Checkpoints::resume(folder.work())).on_progress(listen(&heard)).run().unwrap();
    assert_eq!(count(&heard.lock().unwrap(), &Heard::Kept), 2);
    assert_eq!(timeless(&resumed.report), timeless(&expected.report));
}

#[test]
fn networks_of_every_kind_go_on_to_the_same_bits() {
    let data = data();
    let (inputs, classes) = (data.num_features(), data.num_classes());
    let forms = [
        Gat::builder(inputs, classes)
            .hidden(4)
            .heads(2)
            .norm(gnn_prune::models::Normalization::Layer)
            .build(0)
            .unwrap(),
        Sage::builder(inputs, classes)
            .hidden(6)
            .jumping(gnn_prune::models::Jumping::Concat)
            .build(0)
            .unwrap(),
        // Statistics of a norm are kept as well.
        Gin::builder(inputs, classes)
            .hidden(6)
            .norm(gnn_prune::models::Normalization::Batch)
            .build(0)
            .unwrap(),
    ];
    for form in forms {
        let folder = Folder::new();
        let run = |checkpoints: Checkpoints| {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let to = Arc::clone(&heard);
            let way = Compression::train(form.clone(), trainer(4), 1, &data).unwrap();
            let way = way
                .step(WeightPruner::builder().sparsity(0.5).build().unwrap())
                .step(FineTune::epochs(2));
            let way = way
                .keep(checkpoints)
                .on_progress(listen(&heard))
                .stop_when(move || to.lock().unwrap().contains(&Heard::Measure));
            assert!(matches!(way.run(), Err(Error::Interrupted)));
            kept_in(&folder.work())
        };
        let expected = run(Checkpoints::begin(folder.work()).unwrap());
        assert!(expected.len() >= 5, "{:?}", expected.keys());
        // Of the first two stages only the first is kept, and all later ones start from it.
        for place in expected.keys().filter(|place| place.as_str() != "gnn-prune-seed0-0") {
            ["json", "safetensors"].iter().for_each(|kind| {
                fs::remove_file(folder.work().join(format!("{place}.{kind}"))).unwrap()
            });
        }
        assert!(run(Checkpoints::resume(folder.work())) == expected, "{form}");
    }
}

#[test]
fn a_model_is_saved_before_controls_and_measurements() {
    let data = data();
    for stop_at in ["narrow control", "random control", "measure"] {
        let folder = Folder::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&heard);
        let reached = move || {
            to.lock().unwrap().iter().any(|one| match one {
                Heard::Stage(name, _) => name == stop_at,
                Heard::Measure => true,
                _ => false,
            })
        };
        let way = Compression::train(form(&data), trainer(3), 1, &data).unwrap();
        let way = way.step(ChannelPruner::builder(Subset::new()).ratio(0.5).build().unwrap());
        let stopped =
            way.on_progress(listen(&heard)).stop_when(reached).save_to(folder.out()).run();
        assert!(matches!(stopped, Err(Error::Interrupted)));
        let saved = Model::load(folder.out()).unwrap();
        assert!(saved.num_params() < form(&data).num_params(), "{stop_at}");
    }
}

/// Hands on its input, and has no stages: such a network trains and cannot be compiled.
#[derive(Clone)]
struct Opaque;

impl Layer<f32> for Opaque {
    type Cache = ();

    fn kind(&self) -> &'static str {
        "opaque"
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, _: &Cx<f32>, xs: &[ValueRef<f32>]) -> Result<(Value<f32>, ())> {
        Ok((xs[0].to_owned(), ()))
    }

    fn backward(
        &self,
        _: &Cx<f32>,
        _: &Io<f32>,
        (): (),
        dy: ValueRef<f32>,
        _: &mut Grads<f32>,
    ) -> Vec<Option<Value<f32>>> {
        vec![Some(dy.to_owned())]
    }

    fn lower(&self, _: &mut Lowering<f32>, _: &[StageId]) -> Result<StageId, Unsupported> {
        Err(Unsupported { layer: "opaque".into(), reason: "nobody knows how".into() })
    }
}

#[test]
fn what_a_stage_cannot_do_is_said_before_the_first_epoch() {
    let data = data();
    let (inputs, classes) = (data.num_features(), data.num_classes());
    let refused = |form: Model, steps: Vec<Box<dyn Step>>, bits: Option<Bits>, words: &[&str]| {
        let epochs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&epochs);
        let way =
            Compression::train(form, trainer(50), 3, &data).unwrap().on_progress(move |progress| {
                if matches!(progress, Progress::Epoch(_) | Progress::Stage { .. }) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        let way = steps.into_iter().fold(way, Compression::boxed_step);
        let error = match bits {
            Some(bits) => {
                way.quantize(Quantizer::builder(bits).build().unwrap()).run().unwrap_err()
            }
            None => way.run().unwrap_err(),
        };
        assert_eq!(epochs.load(Ordering::Relaxed), 0, "{error}");
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    let channels = |ratio: f64| {
        Box::new(ChannelPruner::builder(Subset::new()).ratio(ratio).build().unwrap())
            as Box<dyn Step>
    };
    let global = |ratio: f64| {
        let builder = ChannelPruner::builder(Subset::new()).ratio(ratio).scope(Scope::Global);
        Box::new(builder.build().unwrap()) as Box<dyn Step>
    };
    let weights = |share: f64| {
        Box::new(WeightPruner::builder().sparsity(share).build().unwrap()) as Box<dyn Step>
    };
    let layers = |count: usize| {
        Box::new(LayerPruner::builder(Ablation::new()).remove(count).build().unwrap())
            as Box<dyn Step>
    };
    let tune = |epochs: usize| Box::new(FineTune::epochs(epochs)) as Box<dyn Step>;
    let into = |student: Student| Box::new(Distill::into(student)) as Box<dyn Step>;
    let plain = || Gcn::builder(inputs, classes).hidden(8).build(0).unwrap();
    let gat = || Gat::builder(inputs, classes).hidden(4).heads(2).build(0).unwrap();
    let deep =
        || Gcn::builder(inputs, classes).hidden(8).layers(4).residual(true).build(0).unwrap();

    refused(gat(), vec![], Some(Bits::Eight), &["conv1", "no integer form"]);
    refused(
        gat(),
        vec![tune(3), channels(0.5), into(Student::Itself)],
        Some(Bits::Eight),
        &["conv1", "no integer form"],
    );
    let normed = Gcn::builder(inputs, classes)
        .hidden(8)
        .norm(gnn_prune::models::Normalization::Layer)
        .build(0)
        .unwrap();
    refused(normed, vec![weights(0.5)], Some(Bits::Four), &["no integer form"]);
    refused(plain(), vec![layers(1)], None, &["layers to remove is 1", "at most 0"]);
    refused(deep(), vec![tune(1), layers(3)], None, &["layers to remove is 3", "at most 2"]);
    // Of two blocks one is gone already.
    refused(
        deep(),
        vec![layers(1), channels(0.5), layers(2)],
        None,
        &["layers to remove is 2", "at most 1"],
    );
    // A fresh student has no residual sums.
    refused(
        deep(),
        vec![into(Student::Gcn { hidden: 4 }), layers(1)],
        None,
        &["layers to remove is 1", "at most 0"],
    );
    refused(plain(), vec![channels(1.0)], None, &["conv1", "smaller share"]);
    refused(plain(), vec![global(1.0)], None, &["conv1", "smaller share"]);
    // Of eight channels one is left, and three quarters of one are one.
    refused(plain(), vec![channels(0.875), channels(0.75)], None, &["conv1", "smaller share"]);
    let shallow = Gcn::builder(inputs, classes).layers(1).build(0).unwrap();
    refused(shallow, vec![tune(1), channels(0.5)], None, &["no hidden channel"]);
    refused(plain(), vec![weights(1.0)], None, &["conv1", "smaller share"]);
    refused(plain(), vec![tune(1), tune(0)], None, &["epochs is 0"]);

    let mut builder = ModelBuilder::new(inputs);
    let opaque = builder.add("opaque", Opaque, &[NodeId::INPUT]).unwrap();
    let out =
        builder.add("out", Linear::builder(inputs, classes).build().unwrap(), &[opaque]).unwrap();
    refused(builder.build(out, 0).unwrap(), vec![], None, &["opaque", "nobody knows how"]);

    // Several labels a node cannot be distilled.
    let labels = gnn_prune::ndarray::Array2::from_shape_fn((160, 3), |(i, c)| (i + c) % 2 == 0);
    let part = |from: u32, to: u32| (from..to).collect::<Vec<_>>();
    let split = gnn_prune::Split { train: part(0, 60), val: part(60, 110), test: part(110, 160) };
    let features = data.features().to_owned();
    let several = Dataset::multi_label(
        "several",
        data.graph().clone(),
        features,
        labels,
        gnn_prune::data::Splits::Fixed(split),
    )
    .unwrap();
    let listener = |progress| assert!(!matches!(progress, Progress::Epoch(_)));
    let way = Compression::train(plain(), trainer(5), 1, &several)
        .unwrap()
        .step(Distill::into(Student::Itself))
        .on_progress(listener);
    assert!(
        way.run().unwrap_err().to_string().contains("distillation is built for one class per node")
    );
}

#[test]
fn nothing_is_refused_early_that_could_be_done() {
    let data = data();
    let (inputs, classes) = (data.num_features(), data.num_classes());
    // One unit less would empty a layer; the middle one has hardly any weights.
    let form = Gcn::builder(inputs, classes).hidden(8).layers(4).residual(true).build(0).unwrap();
    let way = Compression::train(form, trainer(2), 1, &data).unwrap().controls(Controls::None);
    let way = way.step(LayerPruner::builder(Ablation::new()).remove(2).build().unwrap());
    let way = way.step(ChannelPruner::builder(Subset::new()).ratio(0.875).build().unwrap());
    let way = way.step(WeightPruner::builder().sparsity(0.75).build().unwrap());
    assert_eq!(way.run().unwrap().report.rows.len(), 4);
    // A step of one's own may change anything: what comes after is left to it.
    let way = Compression::train(
        Gat::builder(inputs, classes).hidden(2).heads(2).build(0).unwrap(),
        trainer(2),
        1,
        &data,
    )
    .unwrap();
    let way = way
        .step(Replace)
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .controls(Controls::None);
    assert_eq!(way.run().unwrap().report.rows.len(), 3);
}

/// Puts a network with integers in the place of whatever there is.
struct Replace;

impl Step for Replace {
    fn name(&self) -> String {
        "replace".into()
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let model = Gcn::builder(env.data().num_features(), env.data().num_classes())
            .hidden(4)
            .build(subject.model().seed())?;
        Ok(subject.with_model(model))
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}
