//! One list of words: what recipes, flags, help and README know is what is registered.

use gnn_prune::nn::Cx;
use gnn_prune::pipeline::{Entry, Kind, Progress, Words};
use gnn_prune::prune::{Amount, EdgePruner, HopPruner};
use gnn_prune::{
    Ablation, ChannelPruner, Compressed, Compression, Controls, Dataset, FineTune, Gcn,
    LayerPruner, Model, Random, Recipe, Step, Subset, Trainer, WeightPruner,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

fn data() -> Dataset {
    Dataset::sbm(200, 3).degree(8.0).features(12).seed(2).build().unwrap()
}

fn trained(data: &Dataset) -> Model {
    let form = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0).unwrap();
    Trainer::builder().epochs(20).build().unwrap().fit(form, data).unwrap()
}

fn run(text: &str, data: &Dataset) -> Model {
    let recipe: Recipe = text.parse().unwrap();
    let compression = Compression::of(trained(data), data).controls(Controls::None);
    match recipe.run(compression).unwrap().model {
        Compressed::Float(model) => model,
        Compressed::Integer(_) => panic!("{text} has no bits"),
    }
}

fn refused(text: &str) -> String {
    text.parse::<Recipe>().unwrap_err().to_string()
}

#[test]
fn the_table_of_the_readme_is_the_registry() {
    let table = Words::standard().to_markdown();
    assert!(include_str!("../README.md").contains(&table), "README.md must have\n{table}");
}

#[test]
fn no_two_words_of_a_kind_and_no_two_flags_are_spelt_alike() {
    let words = Words::standard();
    let mut seen = BTreeSet::new();
    for entry in words.entries() {
        assert!(seen.insert(format!("{:?} {}", entry.kind(), entry.word())), "{}", entry.word());
    }
    let mut flags = BTreeSet::new();
    let stages = words.stages().map(Entry::word);
    for flag in stages.chain(words.qualifiers().iter().map(|key| key.flag_name())) {
        assert!(flags.insert(flag), "--{flag}");
    }
    // Settings of one name are one setting, so that a flag means the same for all.
    for entry in words.entries() {
        for key in entry.keys() {
            let first = words.qualifiers().into_iter().find(|k| k.name() == key.name()).unwrap();
            assert_eq!(format!("{first:?}"), format!("{key:?}"), "{}", entry.word());
        }
    }
}

#[test]
fn every_word_is_reached_by_a_recipe_and_written_back() {
    let words = Words::standard();
    for (setting, kind, stage) in [
        ("criterion", Kind::Criterion, "channels = 0.5"),
        ("loss", Kind::Loss, "distill = \"gcn:4\""),
        ("calibration", Kind::Calibration, "bits = 8"),
    ] {
        for entry in words.of(kind) {
            let word = match entry.amount() {
                Some(_) => format!("{}:90", entry.word()),
                None => entry.word().into(),
            };
            let recipe: Recipe =
                format!("[[stage]]\n{stage}\n{setting} = \"{word}\"").parse().unwrap();
            let toml = recipe.to_toml();
            assert!(toml.contains(&format!("{setting} = \"{word}\"")), "{toml}");
            assert_eq!(toml.parse::<Recipe>().unwrap(), recipe);
        }
    }
}

#[test]
fn what_does_not_belong_to_a_stage_is_refused_with_what_does() {
    for (text, said) in [
        (
            "[[stage]]\nweights = 0.5\nscope = \"global\"",
            &["`scope` is beside `weights`", "qualifies: `channels`", "may have `calibrate`"][..],
        ),
        ("[[stage]]\nfinetune = 5\nqat = 1", &["`finetune` may have `optimizer`, `rate`"]),
        ("[[stage]]\ndrop-layers = 1\nqat = 1", &["`drop-layers` has none"]),
        (
            "[[stage]]\ndistill = \"self\"\nloss = \"adversarial\"\ntemperature = 2",
            &[
                "beside a word that it qualifies: `soft-labels`",
                "`own-loss`, `experts-weight`, `experts`, `epochs`",
            ],
        ),
        (
            "[[stage]]\ndistill = \"self\"\nloss = \"soft-label\"",
            &["did you mean `soft-labels`", "rrd or dualde"],
        ),
        ("[[stage]]\ndistill = \"self\"\ntemperature = 0", &["`temperature`", "positive"]),
        ("[[stage]]\ndistill = \"self\"\nepochs = 0", &["`epochs`", "at least 1"]),
        ("[[stage]]\nedges = 0.5", &["`edges`", "not built yet"]),
        ("[[stage]]\nfinetune = 5\nlosses = 2", &["`losses`", "did you mean `loss`"]),
        ("[[stage]]\nbits = 8\ncalibration = \"max:3\"", &["`max:3`", "spelt `max`"]),
        ("[[stage]]\nbits = 8\ncalibration = \"percentile\"", &["spelt `percentile:P`"]),
    ] {
        let error = refused(text);
        assert!(said.iter().all(|words| error.contains(words)), "{text}: {error}");
    }
}

#[test]
fn every_loss_is_reached_by_its_word_and_each_gives_another_student() {
    let data = data();
    let student =
        |more: &str| run(&format!("[[stage]]\ndistill = \"gcn:4\"\nepochs = 12\n{more}"), &data);
    let plain = student("");
    assert_eq!(plain.to_bytes().unwrap(), student("loss = \"soft-labels\"").to_bytes().unwrap());
    let mut seen = BTreeSet::from([plain.to_bytes().unwrap()]);
    for more in [
        "temperature = 3",
        "loss = \"input-gradients\"",
        "loss = \"adversarial\"",
        "loss = \"input-gradients\"\nloss-weight = 0.1",
        "loss = \"adversarial\"\nloss-weight = 0.1",
    ] {
        let model = student(more);
        let logits = model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        assert!(logits.iter().all(|v| v.is_finite()), "{more}");
        assert!(seen.insert(model.to_bytes().unwrap()), "{more} changes nothing");
        assert_eq!(student(more).to_bytes().unwrap(), model.to_bytes().unwrap(), "{more}");
    }
    // A weight of nothing is soft labels alone.
    let none = student("loss = \"input-gradients\"\nloss-weight = 0").to_bytes().unwrap();
    assert_eq!(none, plain.to_bytes().unwrap());
}

#[test]
fn the_epochs_of_distilling_are_those_that_were_asked_for() {
    let data = data();
    for (more, epochs) in [("", 100), ("epochs = 7", 7)] {
        let told = Arc::new(Mutex::new(BTreeSet::new()));
        let heard = told.clone();
        let recipe: Recipe = format!("[[stage]]\ndistill = \"self\"\n{more}").parse().unwrap();
        let compression = Compression::of(trained(&data), &data).controls(Controls::None);
        let compression = compression.on_progress(move |progress| {
            if let Progress::Epoch(epoch) = progress {
                heard.lock().unwrap().insert(epoch.epochs);
            }
        });
        recipe.run(compression).unwrap();
        assert_eq!(told.lock().unwrap().iter().copied().collect::<Vec<_>>(), [epochs]);
    }
}

#[test]
fn what_stands_beside_a_stage_goes_before_what_holds_for_all() {
    let text = "criterion = \"l1\"\n[[stage]]\nchannels = 0.5\ncriterion = \"l2\"\n\
                [[stage]]\nchannels = 0.25\n[[stage]]\nfinetune = 2\n";
    let toml = text.parse::<Recipe>().unwrap().to_toml();
    let at = |word: &str| toml.find(word).unwrap_or_else(|| panic!("{word}: {toml}"));
    assert!(at("criterion = \"l2\"") < at("channels = 0.25"), "{toml}");
    assert!(at("channels = 0.25") < at("criterion = \"l1\""), "{toml}");
}

#[test]
fn a_step_is_asked_for_another_amount() {
    let channels = ChannelPruner::builder(Subset::new()).build().unwrap();
    let weights = WeightPruner::builder().build().unwrap();
    let layers = LayerPruner::builder(Ablation::new()).build().unwrap();
    let edges = EdgePruner::builder(Random::new()).build().unwrap();
    let hops = HopPruner::builder(Ablation::new()).build().unwrap();
    let steps: [&dyn Step; 5] = [&channels, &weights, &layers, &edges, &hops];
    for (step, name) in
        steps.into_iter().zip(["channels", "weights", "drop-layers", "edges", "drop-hops"])
    {
        let other = step.at(Amount::Share(0.25)).unwrap().expect("it has an amount");
        assert_eq!(other.name(), format!("{name} 0.25"));
        assert!(step.at(Amount::Share(1.5)).is_err(), "{name}");
    }
    assert!(FineTune::epochs(3).at(Amount::Share(0.5)).unwrap().is_none());
}
