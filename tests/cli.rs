//! The command line's contract: its words, its JSON, its files, and one line for every mistake.
#![cfg(feature = "cli")]

use gnn_prune::files::Tensors;
use gnn_prune::io::pyg::TrainedOn;
use gnn_prune::ndarray::{Array, Array1, Array2, Dimension, array};
use gnn_prune::{Dataset, task::accuracy};
use ndarray_npy::{ReadNpyExt, WritableElement, WriteNpyExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use zip::write::{SimpleFileOptions, ZipWriter};

/// A generated graph that trains in no time.
const SMALL: &str = "sbm:nodes=300,classes=3,degree=8,seed=1";

/// Percentages that went through text, or were summed in another order: roundings are 1e-14, one
/// node of a test set is more than 1e-3.
const SAME_PERCENT: f64 = 1e-9;

/// A folder that is removed at the end, also of a test that fails.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-cli-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("temporary folders have plain names").into()
    }

    fn with(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnn-prune"));
    command.args(line.split_whitespace());
    command
}

fn run(line: &str) -> Output {
    command(line).output().unwrap()
}

/// What stderr says beside progress, files that were written and metrics.
fn remarks(output: &Output) -> String {
    let usual =
        |line: &&str| !["stage: ", "wrote: ", "metric: "].iter().any(|kind| line.starts_with(kind));
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(usual)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The lines of stderr of one kind, without their kind.
fn lines_of(output: &Output, kind: &str) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter_map(|line| line.strip_prefix(kind))
        .map(String::from)
        .collect()
}

/// Runs a command that must do its work and remark on nothing; returns its stdout.
fn works(line: &str) -> String {
    let output = run(line);
    let stderr = remarks(&output);
    assert!(output.status.success() && stderr.is_empty(), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one JSON document on stdout.
fn json(line: &str) -> Value {
    serde_json::from_str(&works(&format!("{line} --json -"))).unwrap()
}

/// Runs a command that must refuse with exit code 2 and one line that has all of `words`, after
/// those of the stages that it finished.
fn refuses(line: &str, words: &[&str]) {
    let output = run(line);
    let stderr = remarks(&output);
    assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
    assert!(output.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(
        stderr.starts_with("error: ") && stderr.ends_with('\n') && stderr.lines().count() == 1,
        "{line}: {stderr:?}"
    );
    for word in words {
        assert!(stderr.contains(word), "{line}: {stderr:?} lacks {word:?}");
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn names(report: &Value) -> Vec<&str> {
    report["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

fn mean(row: &Value) -> f64 {
    row["accuracy"]["mean"].as_f64().unwrap()
}

fn channels(model: &Value, node: &str) -> u64 {
    model["nodes"].as_array().unwrap().iter().find(|found| found["name"] == node).unwrap()["channels"].as_u64().unwrap()
}

#[test]
fn json_has_the_shape_and_the_rows_that_the_contract_names() {
    let report =
        json("compress digits --hidden 16 --epochs 20 --channels 0.75 --finetune 50 --seeds 2");
    let with = ["calibration", "channels", "command", "compares", "controls", "data", "machine"];
    let optional = ["notes"];
    let and = ["recipe", "rows", "seeds", "stages", "summary", "version"];
    let found: Vec<&str> =
        keys(&report).into_iter().filter(|key| !optional.contains(key)).collect();
    assert_eq!(found, [with.as_slice(), &and].concat());
    assert_eq!(
        names(&report),
        ["dense", "channels 0.75", "finetune 50", "narrow control", "random control"]
    );
    assert_eq!(report["seeds"], serde_json::json!([0, 1]));
    assert_eq!(
        (&report["data"]["name"], &report["data"]["nodes"]),
        (&"digits".into(), &1797.into())
    );
    for row in report["rows"].as_array().unwrap() {
        let expected = [
            "accuracy",
            "bytes",
            "edges",
            "effort",
            "latency_ms",
            "macs",
            "metric",
            "name",
            "nonzero_params",
            "params",
            "products",
        ];
        assert_eq!(keys(row), expected);
        assert_eq!((&row["metric"], &row["edges"]), (&"accuracy".into(), &24_678.into()));
        assert_eq!(keys(&row["accuracy"]), ["mean", "per_seed", "std"]);
        let seeds: Vec<f64> = row["accuracy"]["per_seed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect();
        assert_eq!(seeds.len(), 2);
        assert!((mean(row) - (seeds[0] + seeds[1]) / 2.0).abs() < SAME_PERCENT, "{row}");
        assert_eq!(keys(&row["bytes"]), ["peak_activations", "weights"]);
        let effort = &row["effort"];
        for part in ["macs", "seconds", "peak_bytes"] {
            assert!(effort[part].as_f64().unwrap() > 0.0, "{effort}");
        }
        assert_eq!(keys(&row["latency_ms"]), ["threads_1", "threads_all"]);
        for threads in ["threads_1", "threads_all"] {
            let time = &row["latency_ms"][threads];
            assert_eq!(keys(time), ["median", "min", "p99"]);
            let [min, median, p99] =
                ["min", "median", "p99"].map(|key| time[key].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= p99, "{time}");
        }
    }
    let params = |k: usize| report["rows"][k]["params"].as_u64().unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(params), [64 * 16 + 16 + 16 * 10 + 10, 310, 310, 310, 310]);
    assert_eq!(report["rows"][1]["bytes"]["weights"], 4 * params(1));
    // Both layers aggregate where they are narrow: behind the first weights, before the second.
    assert_eq!(
        report["rows"][1]["macs"],
        1797 * 64 * 4 + (24_678 + 1797) * (4 + 4) + 1797 * 4 * 10
    );
}

#[test]
fn stages_run_in_the_order_of_the_line_and_have_a_default() {
    let quick = format!("compress {SMALL} --hidden 8 --epochs 3 --controls none");
    let report = json(&format!("{quick} --finetune 2 --criterion l1 --channels 0.5"));
    assert_eq!(names(&report), ["dense", "finetune 2", "channels 0.5"]);
    let report =
        json(&format!("{quick} --channels 0.5 --scope global --finetune 2 --channels 0.25"));
    assert_eq!(names(&report), ["dense", "channels 0.5", "finetune 2", "channels 0.25"]);
    let widths: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["params"].as_u64().unwrap())
        .collect();
    let params = |hidden: u64| 32 * hidden + hidden + hidden * 3 + 3;
    assert_eq!(widths, [params(8), params(4), params(4), params(3)]);
    assert_eq!(names(&json(&quick)), ["dense", "channels 0.5", "finetune 50"]);
}

#[test]
fn every_criterion_and_scope_prunes_as_much() {
    for criterion in ["subset", "l1", "l2", "taylor", "random"] {
        let quick =
            format!("compress {SMALL} --hidden 4 --epochs 1 --controls none --channels 0.5");
        let report = json(&format!("{quick} --criterion {criterion}"));
        assert_eq!(report["rows"][1]["params"], 32 * 2 + 2 + 2 * 3 + 3, "{criterion}");
    }
}

#[test]
fn the_table_says_what_each_control_is_and_how_it_does() {
    let table = works(&format!("compress {SMALL} --hidden 8 --epochs 3 --channels 0.5"));
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for control in [
        "narrow control: a network of the final shape",
        "random control: the same stages and amounts",
    ] {
        let (_, said) =
            words.split_once(&format!("- {control}")).unwrap_or_else(|| panic!("{table}"));
        assert!(said.split("- ").next().unwrap().contains("; it stands at"), "{table}");
    }
}

#[test]
fn a_table_goes_to_stdout_and_documents_to_files() {
    let folder = Folder::new();
    let (page, document) = (folder.file("report.md"), folder.file("report.json"));
    let line = format!(
        "compress {SMALL} --hidden 8 --epochs 3 --finetune 1 --controls none --report {page} --json {document}"
    );
    let table = works(&line);
    assert!(
        table.contains("metric %") && table.contains("finetune 1") && table.ends_with('\n'),
        "{table}"
    );
    // The first line is as long as the data's name, and the last one is one line.
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1..lines.len() - 1].iter().all(|line| line.chars().count() <= 100), "{table}");
    let summary = lines[lines.len() - 1];
    assert!(
        summary.starts_with("as many bytes, ")
            && summary.ends_with("(one seed: nothing can be said about spread)"),
        "{table}"
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("| dense |") && page.contains("| finetune 1 |"), "{page}");
    assert!(
        page.contains(summary)
            && page.contains("```toml\ncontrols = \"none\"\n\n[[stage]]\nfinetune = 1\n```"),
        "{page}"
    );
    assert!(
        page.contains(&format!("```sh\ngnn-prune {line}\n```"))
            && page.contains(std::env::consts::ARCH),
        "{page}"
    );
    let document: Value = serde_json::from_str(&fs::read_to_string(document).unwrap()).unwrap();
    assert_eq!(names(&document), ["dense", "finetune 1"]);
    assert_eq!(
        (&document["summary"], &document["command"]),
        (&summary.into(), &format!("gnn-prune {line}").into())
    );
    assert_eq!(document["machine"]["architecture"], std::env::consts::ARCH);
}

#[test]
fn one_seed_gives_one_file_whatever_the_threads() {
    let folder = Folder::new();
    let bytes = |name: &str, threads: &str| {
        let path = folder.file(name);
        let line = format!(
            "compress digits --hidden 8 --epochs 3 --finetune 2 --channels 0.5 --controls none --out {path}"
        );
        assert!(
            command(&line).env("RAYON_NUM_THREADS", threads).output().unwrap().status.success()
        );
        fs::read(path).unwrap()
    };
    let first = bytes("first", "1");
    assert!(first == bytes("second", "1"), "two runs wrote different files");
    assert!(first == bytes("third", "3"), "three threads wrote another file than one");
}

#[test]
fn predictions_are_what_was_evaluated() {
    let folder = Folder::new();
    let (model, logits) = (folder.file("model.safetensors"), folder.file("logits.npy"));
    let report = json(&format!("train digits --hidden 16 --epochs 15 --out {model}"));
    assert_eq!(names(&report), ["dense"]);
    let output = run(&format!("predict digits --from {model} --out {logits}"));
    assert!(output.status.success() && output.stdout.is_empty() && remarks(&output).is_empty());
    assert_eq!(
        lines_of(&output, "wrote: "),
        [format!("{logits} (logits, {:.1} kB)", fs::metadata(&logits).unwrap().len() as f64 / 1e3)]
    );
    let test = Dataset::digits().unwrap().split(0).test.len();
    let metric = format!(
        "accuracy {:.2} % on {test} test nodes of the split of seed 0, the model's",
        mean(&report["rows"][0])
    );
    assert_eq!(lines_of(&output, "metric: "), [metric]);
    let logits = Array2::<f32>::read_npy(fs::File::open(logits).unwrap()).unwrap();
    assert_eq!(logits.dim(), (1797, 10));
    let data = Dataset::digits().unwrap();
    let predicted = accuracy(logits.view(), data.classes().unwrap(), &data.split(0).test);
    assert!((predicted - mean(&report["rows"][0])).abs() < SAME_PERCENT, "{predicted}, {report}");
}

#[test]
fn a_model_file_brings_its_features_and_its_seed() {
    let folder = Folder::new();
    let model = folder.file("model");
    let trained = json(&format!(
        "train {SMALL} --hidden 8 --epochs 20 --features l2 --seeds 3 --out {model}"
    ));
    let per_seed = trained["rows"][0]["accuracy"]["per_seed"].as_array().unwrap().clone();
    let benched = json(&format!("bench {SMALL} --from {model} --from {model} --threads 1"));
    assert_eq!(
        (names(&benched), &benched["data"]["feature_norm"]),
        (vec![model.as_str(); 2], &"l2".into())
    );
    let seed = benched["seeds"][0].as_u64().unwrap() as usize;
    assert_eq!(benched["rows"][0]["accuracy"]["mean"], per_seed[seed]);
    let pruned = json(&format!("compress {SMALL} --from {model} --channels 0.5 --controls none"));
    assert_eq!(
        (&pruned["rows"][0]["accuracy"]["mean"], &pruned["data"]["feature_norm"]),
        (&per_seed[seed], &"l2".into())
    );
    assert_eq!(pruned["seeds"], serde_json::json!([seed]));
    assert_eq!(
        json(&format!("bench {SMALL} --from {model} --features raw"))["data"]["feature_norm"],
        "raw"
    );
}

#[test]
fn other_data_of_the_same_widths_are_remarked_on_and_no_mistake() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {model}"));
    let output = run(&format!(
        "predict sbm:nodes=400,classes=3 --from {model} --out {}",
        folder.file("logits.npy")
    ));
    let stderr = remarks(&output);
    assert!(
        output.status.success() && stderr.starts_with("note: ") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(stderr.contains("300 nodes") && stderr.contains("400"), "{stderr}");
}

#[test]
fn what_a_checkpoint_does_not_tell_is_said_in_one_line_and_may_be_given() {
    let folder = Folder::new();
    let (checkpoint, logits, out) =
        (folder.file("net.safetensors"), folder.file("logits.npy"), folder.file("out.safetensors"));
    let tensor = |shape: &[usize]| {
        let values = (0..shape.iter().product::<usize>())
            .map(|k| ((k * 37 % 11) as f32 - 5.0) / 10.0)
            .collect();
        gnn_prune::files::Array { shape: shape.to_vec(), values }
    };
    let mut tensors = gnn_prune::files::Tensors::default();
    for (name, shape) in [
        ("convs.0.lin.weight", &[8, 64][..]),
        ("convs.0.bias", &[8]),
        ("convs.1.lin.weight", &[10, 8]),
        ("convs.1.bias", &[10]),
    ] {
        tensors.floats.insert(name.into(), tensor(shape));
    }
    tensors.write(&checkpoint).unwrap();
    let predicted = |assume: &str| {
        let output = run(&format!("predict digits --from {checkpoint} {assume} --out {logits}"));
        let stderr = remarks(&output);
        assert!(output.status.success() && stderr.lines().count() == 1, "{stderr}");
        (stderr, fs::read(&logits).unwrap())
    };
    let (note, relu) = predicted("");
    assert!(
        note.contains(
            "activation=relu,norm=none,dropout=0,normalize=true,self_loops=true,improved=false"
        ),
        "{note}"
    );
    let (note, elu) = predicted("--assume activation=elu");
    assert!(note.contains("activation=elu") && relu != elu, "{note}");
    refuses(
        &format!("predict digits --from {checkpoint} --assume activation=gelu --out {logits}"),
        &["gelu", "relu"],
    );
    let exported = run(&format!("export --from {checkpoint} --out {out}"));
    let python = String::from_utf8(exported.stdout).unwrap();
    assert!(
        exported.status.success()
            && python.contains("pyg.GCNConv(64, 8")
            && Path::new(&out).exists(),
        "{python}"
    );
    let own = folder.file("own");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {own}"));
    refuses(
        &format!("predict {SMALL} --from {own} --assume activation=elu --out {logits}"),
        &["--assume", "leave it out"],
    );
}

#[test]
fn inspect_shows_every_node_and_parameter() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!(
        "compress {SMALL} --hidden 8 --layers 3 --residual --epochs 2 --channels 0.75 --controls none --out {model}"
    ));
    let shown = json(&format!("inspect {model}"));
    assert_eq!(
        (channels(&shown, "conv1"), channels(&shown, "conv2"), channels(&shown, "conv3")),
        (2, 2, 3)
    );
    assert_eq!((&shown["seed"], &shown["origin"]["nodes"]), (&0.into(), &300.into()));
    assert_eq!(
        shown["parameters"][0],
        serde_json::json!({ "name": "conv1.weight", "shape": [32, 2], "masked": false })
    );
    assert_eq!(shown["bytes"]["weights"], 4 * shown["params"].as_u64().unwrap());
    let text = works(&format!("inspect {model}"));
    assert!(text.contains("conv2") && text.contains("300 nodes"), "{text}");
}

#[test]
fn help_is_no_mistake_and_fits_a_terminal() {
    for command in
        ["", "train", "compress", "predict", "export", "inspect", "bench", "completions", "man"]
    {
        for line in
            [format!("{command} --help"), format!("{command} -h"), format!("help {command}")]
        {
            let text = works(&line);
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            assert!(
                text.contains("Example") && text.contains(&format!("  gnn-prune {command}")),
                "{line}: {text}"
            );
        }
    }
    works("--version");
}

#[test]
fn help_and_completion_say_what_is_registered() {
    let words = gnn_prune::pipeline::Words::standard();
    let (help, script) = (works("compress --help"), works("completions bash"));
    let mut lines = Vec::new();
    for stage in words.stages() {
        let value = stage.amount().map_or(String::new(), |key| format!("<{}> ", key.value()));
        lines.push((stage.word(), value, stage.help().to_string()));
    }
    for key in words.qualifiers() {
        lines.push((key.flag_name(), format!("<{}> ", key.value()), words.line(key)));
    }
    for (flag, value, said) in lines {
        let stands = |line: &&str| {
            line.trim().starts_with(&format!("--{flag} {value}")) && line.ends_with(&said)
        };
        assert_eq!(help.lines().filter(stands).count(), 1, "--{flag} {value}{said}: {help}");
        assert!(script.contains(&format!("--{flag} ")), "{flag}");
    }
}

#[test]
fn losses_of_distilling_are_flags() {
    let made = |flags: &str| {
        let folder = Folder::new();
        let out = folder.file("small");
        works(&format!(
            "compress {SMALL} --hidden 8 --epochs 5 --distill gcn:4 --controls none --out {out} {flags}"
        ));
        fs::read(out).unwrap()
    };
    let plain = made("--distill-epochs 6");
    assert_eq!(plain, made("--distill-epochs 6 --loss soft-labels --temperature 1"));
    for flags in [
        "--temperature 4",
        "--loss input-gradients",
        "--loss adversarial",
        "--loss adversarial --loss-weight 0.1",
    ] {
        assert_ne!(plain, made(&format!("--distill-epochs 6 {flags}")), "{flags}");
    }
    refuses(&format!("compress {SMALL} --distill self --loss soft"), &["`loss`", "adversarial"]);
    refuses(
        &format!("compress {SMALL} --distill self --loss adversarial --temperature 2"),
        &["`temperature`", "`soft-labels`"],
    );
}

#[test]
fn a_reader_that_leaves_or_a_full_disk_is_no_panic() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {model}"));
    let mut child = command(&format!("inspect {model}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let output = command(&format!("inspect {model}")).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    }
}

#[test]
fn stages_are_named_by_their_flags_in_the_order_given() {
    let quick = format!("compress {SMALL} --epochs 3 --controls none");
    // As wide as the input, so that no layer starts with weights so small that truncation would
    // empty it.
    let deep = format!("{quick} --model gcn --hidden 32 --layers 4 --residual");
    let report = json(&format!("{deep} --weights 0.9 --drop-layers 1 --distill self --bits 8"));
    assert_eq!(names(&report), ["dense", "weights 0.9", "drop-layers 1", "distill self", "bits 8"]);
    let of =
        |row: usize, pointer: &str| report["rows"][row].pointer(pointer).unwrap().as_u64().unwrap();
    assert!(of(1, "/nonzero_params") < of(0, "/nonzero_params"), "{report}");
    assert!(of(2, "/params") < of(1, "/params") && of(2, "/macs") < of(1, "/macs"), "{report}");
    assert!(of(4, "/bytes/weights") < of(3, "/bytes/weights"), "{report}");
    let report = json(&format!("{deep} --finetune 1 --drop-layers 1 --weights 0.5"));
    assert_eq!(names(&report), ["dense", "finetune 1", "drop-layers 1", "weights 0.5"]);
    // Qualifiers are no stages and stand anywhere.
    let report =
        json(&format!("{quick} --hidden 8 --qat 2 --distill mlp:16 --bits 4 --act-bits 4"));
    assert_eq!(names(&report), ["dense", "distill mlp:16", "bits 4"]);
    assert_eq!(report["rows"][1]["params"], 32 * 16 + 16 + 16 * 3 + 3);
}

#[test]
fn one_shot_adds_the_stages_that_the_line_does_not_have() {
    let quick = format!("compress {SMALL} --hidden 16 --epochs 3 --controls none --one-shot");
    let report = json(&quick);
    assert_eq!(names(&report), ["dense", "channels 0.8125", "weights 0.9", "bits 4"]);
    assert_eq!(report["calibration"], "all nodes");
    let report = json(&format!("{quick} --distill self --channels 0.5 --bits 2 --calibrate train"));
    assert_eq!(names(&report), ["dense", "distill self", "channels 0.5", "weights 0.9", "bits 2"]);
    assert_eq!(report["calibration"], "training nodes and two hops around them");
    let report = json(&format!("{quick} --distill self --weights 0.5"));
    assert_eq!(
        names(&report),
        ["dense", "channels 0.8125", "distill self", "weights 0.5", "bits 4"]
    );
    let report = json(&format!("compress {SMALL} --hidden 64 --epochs 3 --one-shot --weights 0.2"));
    let controls = ["narrow control", "bytes control", "random control"];
    assert_eq!(
        names(&report)[4..],
        controls,
        "a float network of the same bytes stands beside the others"
    );
    let bytes = |row: usize| report["rows"][row]["bytes"]["weights"].as_u64().unwrap();
    assert!(bytes(5) < bytes(4), "{report}");
}

#[test]
fn stages_in_an_order_that_loses_work_are_refused() {
    let quick = format!("compress {SMALL} --hidden 8 --epochs 3");
    refuses(&format!("{quick} --bits 8 --finetune 5"), &["`bits`", "last"]);
    refuses(&format!("{quick} --bits 8 --bits 4"), &["`bits`", "last"]);
    refuses(&format!("{quick} --channels 0.5 --distill gcn:8"), &["`distill gcn:8`", "first"]);
}

/// A recipe of three stages with qualifiers.
const RECIPE: &str = r#"
controls = "none"

[[stage]]
channels = 0.5
criterion = "l1"

[[stage]]
distill = "self"

[[stage]]
bits = 8
qat = 2
calibration = "percentile:90"
"#;

#[test]
fn a_recipe_and_the_same_flags_write_the_same_file() {
    let folder = Folder::new();
    let recipe = folder.with("recipe.toml", RECIPE.as_bytes());
    let (by_flags, by_recipe) = (folder.file("flags"), folder.file("recipe"));
    let quick = format!("compress {SMALL} --hidden 8 --epochs 10");
    let flags = "--criterion l1 --channels 0.5 --distill self --bits 8 --qat 2 --calibration percentile:90 --controls none";
    let (flags, recipe) = (
        json(&format!("{quick} {flags} --out {by_flags}")),
        json(&format!("{quick} --recipe {recipe} --out {by_recipe}")),
    );
    assert_eq!(names(&flags), ["dense", "channels 0.5", "distill self", "bits 8"]);
    assert_eq!(names(&flags), names(&recipe));
    assert!(
        fs::read(&by_flags).unwrap() == fs::read(by_recipe).unwrap(),
        "flags and recipe wrote different files"
    );
    let inspected = json(&format!("inspect {by_flags}"));
    let calibrations: Vec<&str> = inspected["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|of| of["calibration"].as_str())
        .collect();
    assert!(
        !calibrations.is_empty() && calibrations.iter().all(|word| *word == "percentile:90"),
        "{inspected}"
    );
}

#[test]
fn wrong_recipes_are_refused_on_one_line() {
    let folder = Folder::new();
    let refuses_recipe = |text: &str, words: &[&str]| {
        let path = folder.with("recipe.toml", text.as_bytes());
        refuses(&format!("compress {SMALL} --recipe {path}"), &[&[path.as_str()], words].concat());
    };
    refuses_recipe("[[stage]]\nchanels = 0.5", &["`chanels`", "did you mean `channels`"]);
    refuses_recipe(
        "[[stage]]\nchannels = 0.5\ncriterium = \"l1\"",
        &["`criterium`", "did you mean `criterion`"],
    );
    refuses_recipe("[[stages]]\nchannels = 0.5", &["`stages`", "did you mean `stage`"]);
    refuses_recipe(
        "[[stage]]\nchannels = 0.5\nbits = 8",
        &["bits and channels", "one of channels"],
    );
    refuses_recipe("[[stage]]\nfinetune = 5\nscope = \"global\"", &["`scope`", "`finetune`"]);
    refuses_recipe("[[stage]]\nchannels = 1.5", &["`channels`", "1.5", "[0, 1]"]);
    refuses_recipe("[[stage]]\nbits = 8\n[[stage]]\nfinetune = 5", &["`bits`", "last"]);
    refuses_recipe("channels 0.5", &["recipe", "TOML"]);
    refuses_recipe("", &["has no stages"]);
    let path = folder.with("recipe.toml", RECIPE.as_bytes());
    refuses(
        &format!("compress {SMALL} --recipe {path} --weights 0.5"),
        &["`--weights`", "`--recipe`"],
    );
    refuses(
        &format!("compress {SMALL} --recipe {path} --criterion l2"),
        &["`--criterion`", "`--recipe`"],
    );
    refuses(
        &format!("compress {SMALL} --recipe {}", folder.file("missing.toml")),
        &["missing.toml"],
    );
}

#[test]
fn a_quantised_file_is_small_and_is_read_like_any_other() {
    let folder = Folder::new();
    let (dense, small, logits) =
        (folder.file("dense"), folder.file("small"), folder.file("logits.npy"));
    works(&format!("train digits --epochs 20 --out {dense}"));
    let report =
        json(&format!("compress digits --from {dense} --bits 8 --controls none --out {small}"));
    assert_eq!(names(&report), ["dense", "bits 8"]);
    let weights =
        |path: &str| json(&format!("inspect {path}"))["bytes"]["weights"].as_u64().unwrap();
    assert!(weights(&dense) > 3 * weights(&small), "{} -> {}", weights(&dense), weights(&small));
    assert_eq!(report["rows"][1]["bytes"]["weights"], weights(&small));
    let text = works(&format!("inspect {small}"));
    assert!(text.contains("1797 nodes") && text.contains("seed 0"), "{text}");

    let benched = json(&format!("bench digits --from {dense} --from {small} --threads 1"));
    assert_eq!(names(&benched), [dense.as_str(), small.as_str()]);
    for row in 0..2 {
        assert_eq!(benched["rows"][row]["accuracy"], report["rows"][row]["accuracy"]);
    }
    works(&format!("predict digits --from {small} --out {logits}"));
    let logits = Array2::<f32>::read_npy(fs::File::open(logits).unwrap()).unwrap();
    let data = Dataset::digits().unwrap();
    let predicted = accuracy(logits.view(), data.classes().unwrap(), &data.split(0).test);
    assert!((predicted - mean(&report["rows"][1])).abs() < SAME_PERCENT, "{predicted}, {report}");
    refuses(&format!("compress digits --from {small} --channels 0.5"), &[&small, "quantised"]);
    refuses(&format!("bench {SMALL} --from {small}"), &[&small, "64 features", "32"]);
}

#[test]
fn an_html_report_is_one_page_that_needs_no_other_file() {
    let folder = Folder::new();
    let page = folder.file("report.html");
    works(&format!(
        "compress {SMALL} --hidden 8 --epochs 3 --channels 0.5 --finetune 1 --seeds 2 --report {page}"
    ));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
    let recipe = "<pre>controls = &quot;all&quot;\n\n[[stage]]\nchannels = 0.5\ncriterion = &quot;subset&quot;\n";
    for part in [
        "<svg",
        "<table",
        "<td>dense</td>",
        "<td>narrow control</td>",
        recipe,
        "<tr><td>0</td>",
        "<tr><td>1</td>",
    ] {
        assert!(page.contains(part), "{page} lacks {part}");
    }
    assert!(page.contains("<h2>Machine</h2>") && page.contains(std::env::consts::ARCH), "{page}");
    for leads_out in ["src=", "href=", "@import", "url(", "<script"] {
        assert!(!page.contains(leads_out), "{page} has {leads_out}");
    }
    refuses(
        &format!("compress {SMALL} --report {}", folder.file("report.pdf")),
        &["report.pdf", ".html", ".md"],
    );
}

#[test]
fn a_page_gives_back_the_recipe_and_the_command_that_made_it() {
    let folder = Folder::new();
    let (page, first, second) =
        (folder.file("it's a page.md"), folder.file("first"), folder.file("second"));
    let quick = format!(
        "compress {SMALL} --hidden 8 --epochs 5 --channels 0.5 --criterion l1 --distill self --bits 8 --qat 2 --out {first}"
    );
    let output = command(&quick).args(["--report", &page]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(page).unwrap();
    let block = |kind: &str| {
        page.split_once(&format!("```{kind}\n")).unwrap().1.split_once("\n```").unwrap().0
    };
    let recipe = folder.with("recipe.toml", block("toml").as_bytes());
    works(&format!("compress {SMALL} --hidden 8 --epochs 5 --recipe {recipe} --out {second}"));
    assert!(
        fs::read(first).unwrap() == fs::read(second).unwrap(),
        "the recipe of the page makes another model"
    );
    // A shell reads the command as the words that it was.
    let shown = block("sh");
    let words =
        Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {shown}")).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    let expected = format!("gnn-prune {quick} --report").replace(' ', "\n");
    assert!(
        words.starts_with(&expected) && words.trim_end().ends_with("it's a page.md"),
        "{shown}"
    );
}

#[test]
fn every_file_is_named_and_stages_are_lines_where_nobody_watches() {
    let folder = Folder::new();
    let (model, page, document) =
        (folder.file("model"), folder.file("page.html"), folder.file("document.json"));
    let line = format!(
        "compress {SMALL} --hidden 8 --epochs 4 --channels 0.5 --finetune 2 --seeds 2 --out {model} --report {page} --json {document}"
    );
    let output = run(&line);
    let wrote = lines_of(&output, "wrote: ");
    for (k, (path, what)) in
        [(&model, "the model, "), (&page, "the report, "), (&document, "JSON, ")]
            .into_iter()
            .enumerate()
    {
        assert!(wrote[k].starts_with(&format!("{path} ({what}")), "{wrote:?}");
    }
    let stages = lines_of(&output, "stage: ");
    let begin = |stage: &str| {
        stages.iter().filter(|line| line.starts_with(&format!("{stage}, seed "))).count()
    };
    for stage in [
        "dense",
        "channels 0.5",
        "finetune 2",
        "narrow control",
        "random control: channels 0.5",
        "random control: finetune 2",
    ] {
        assert_eq!(begin(stage), 2, "{stage}: {stages:?}");
    }
    assert_eq!(stages.len(), 12, "{stages:?}");
    assert!(
        stages[0].starts_with("dense, seed 0 (1 of 2): epoch 4 of 4, loss ")
            && stages[0].contains(", validation "),
        "{stages:?}"
    );
    assert!(
        stages[1].starts_with("dense, seed 1 (2 of 2): epoch 4 of 4")
            && stages[0].ends_with(" left"),
        "{stages:?}"
    );
    assert!(!stages[11].ends_with(" left"), "nothing is left after the last stage: {stages:?}");
    assert_eq!(run(&format!("{line} --quiet")).stderr, b"", "quiet is quiet");
    assert_eq!(
        run(&format!("-q train {SMALL} --epochs 1 --lr nan"))
            .stderr
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
        1
    );
}

#[test]
fn the_library_is_heard_as_closely_as_was_asked_for() {
    let train = format!("train {SMALL} --hidden 4 --epochs 3");
    let heard = |flags: &str| {
        let output = run(&format!("{train} {flags}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (
            lines_of(&output, "info: ").len(),
            lines_of(&output, "debug: ").iter().filter(|line| line.starts_with("epoch ")).count(),
        )
    };
    assert_eq!(heard(""), (0, 0));
    let (info, debug) = heard("-v");
    assert!(info >= 2 && debug == 0, "{info} {debug}");
    assert_eq!(heard("-vv"), (info, 3));
    refuses(&format!("{train} -q -v"), &["--quiet", "--verbose"]);
}

#[test]
fn colours_are_for_terminals_alone() {
    let train = format!("train {SMALL} --hidden 4 --epochs 1");
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = command(&train);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        command.output().unwrap().stderr.contains(&0x1b)
    };
    assert!(!coloured(&[]), "a pipe got colours");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "there are no colours to leave out");
    assert!(!coloured(&[("NO_COLOR", "1")]));
}

#[test]
fn without_a_command_there_is_help() {
    let output = run("");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(
        stderr.contains("Usage: gnn-prune")
            && stderr.contains("compress")
            && stderr.contains("Examples:"),
        "{stderr}"
    );
}

#[test]
fn completions_and_manual_pages_know_the_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = works(&format!("completions {shell}"));
        assert!(script.contains("one-shot") && script.contains("gnn-prune"), "{shell}: {script}");
        assert!(
            !script.contains("--edges") && !script.contains("-l edges"),
            "{shell} completes what is not built"
        );
    }
    refuses("completions tcsh", &["tcsh", "bash"]);
    let (whole, one) = (works("man"), works("man compress"));
    assert!(
        whole.contains(".TH gnn") && whole.contains("compress") && whole.contains("Examples:"),
        "{whole}"
    );
    assert!(one.contains("one\\-shot") && one.contains("gnn\\-prune"), "{one}");
    refuses("man squash", &["squash", "compress"]);
}

#[test]
fn models_side_by_side_are_counted_as_models() {
    let folder = Folder::new();
    let (wide, narrow) = (folder.file("wide"), folder.file("narrow"));
    works(&format!("train {SMALL} --hidden 16 --epochs 5 --out {wide}"));
    works(&format!("train {SMALL} --hidden 4 --epochs 5 --out {narrow}"));
    let bench = format!("bench {SMALL} --from {wide} --from {narrow} --threads 1");
    let text = works(&bench);
    assert!(
        text.lines().next().unwrap().ends_with(", 2 models") && !text.contains(" seed"),
        "{text}"
    );
    assert!(text.contains("model ") && !text.contains("stage"), "{text}");
    // 579 weights against 147.
    let last = text.lines().last().unwrap();
    assert!(last.starts_with(&format!("against {wide}, {narrow}: 3.9x fewer bytes, ")), "{text}");
    let document = json(&bench);
    assert_eq!((&document["compares"], document.get("controls")), (&"models".into(), None));
}

#[test]
fn predictions_are_written_as_what_was_asked_for() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 8 --epochs 10 --out {model}"));
    let path = |name: &str| folder.file(name);
    let write = |what: &str, name: &str| {
        works(&format!("predict {SMALL} --from {model} --write {what} --out {}", path(name)))
    };
    let open = |name: &str| fs::File::open(path(name)).unwrap();
    for (what, name) in [("logits", "l.npy"), ("probabilities", "p.npy"), ("classes", "c.npy")] {
        write(what, name);
        write(what, &name.replace("npy", "csv"));
    }
    let logits = Array2::<f32>::read_npy(open("l.npy")).unwrap();
    let probabilities = Array2::<f32>::read_npy(open("p.npy")).unwrap();
    let classes = Array1::<i64>::read_npy(open("c.npy")).unwrap();
    assert_eq!((logits.dim(), probabilities.dim(), classes.len()), ((300, 3), (300, 3), 300));
    let table = |name: &str| -> Vec<Vec<String>> {
        let text = fs::read_to_string(path(name)).unwrap();
        text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
    };
    let (of_logits, of_probabilities, of_classes) =
        (table("l.csv"), table("p.csv"), table("c.csv"));
    assert_eq!(of_logits[0], ["node", "logit_0", "logit_1", "logit_2"]);
    assert_eq!(of_probabilities[0], ["node", "p_0", "p_1", "p_2"]);
    assert_eq!((of_classes[0].join(","), of_classes.len()), ("node,class".into(), 301));
    for node in 0..300 {
        let exp: Vec<f64> = logits.row(node).iter().map(|z| f64::from(*z).exp()).collect();
        for c in 0..3 {
            assert!(
                (f64::from(probabilities[[node, c]]) - exp[c] / exp.iter().sum::<f64>()).abs()
                    < 1e-6
            );
            assert_eq!(of_logits[node + 1][c + 1].parse::<f32>().unwrap(), logits[[node, c]]);
            assert_eq!(
                of_probabilities[node + 1][c + 1].parse::<f32>().unwrap(),
                probabilities[[node, c]]
            );
            assert!(logits[[node, classes[node] as usize]] >= logits[[node, c]]);
        }
        assert_eq!(of_classes[node + 1], [node.to_string(), classes[node].to_string()]);
    }
    let refused = path("predictions.txt");
    refuses(
        &format!("predict {SMALL} --from {model} --out {refused}"),
        &[&refused, ".npy or .csv"],
    );
    refuses(
        &format!("predict {SMALL} --from {model} --write odds --out {refused}"),
        &["odds", "logits, probabilities, classes"],
    );
}

#[test]
fn features_that_are_scaled_otherwise_than_where_a_network_was_trained_are_remarked_on() {
    let folder = Folder::new();
    let (model, state, out) =
        (folder.file("model"), folder.file("state.safetensors"), folder.file("l.npy"));
    works(&format!("train {SMALL} --hidden 8 --epochs 2 --out {model}"));
    works(&format!("export --from {model} --out {state}"));
    let mut tensors = Tensors::read(&state).unwrap();
    let own = TrainedOn::of(&Dataset::open(SMALL, None).unwrap());
    for (told, words) in [
        (own, None),
        (TrainedOn { row_length: own.row_length * 1.05, ..own }, None),
        (TrainedOn { row_length: own.row_length * 3.0, ..own }, Some("may be scaled otherwise")),
        (TrainedOn { row_length: own.row_length / 3.0, ..own }, Some("may be scaled otherwise")),
        (TrainedOn { columns: own.columns + 1, ..own }, Some("where the network was trained")),
    ] {
        tensors
            .metadata
            .insert("gnn_prune.trained_on".into(), serde_json::to_string(&told).unwrap());
        tensors.write(&state).unwrap();
        let output = run(&format!("predict {SMALL} --from {state} --out {out}"));
        let said = remarks(&output);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            words.is_some_and(|words| said.contains(words)),
            words.is_some(),
            "{told:?}: {said}"
        );
        assert!(
            words.is_some() || !said.contains("where the network was trained"),
            "{told:?}: {said}"
        );
    }
    tensors.metadata.insert("gnn_prune.trained_on".into(), "{\"columns\": -1}".into());
    tensors.write(&state).unwrap();
    let output = run(&format!("predict {SMALL} --from {state} --out {out}"));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        remarks(&output).contains("its metadata `gnn_prune.trained_on` cannot be read"),
        "{}",
        remarks(&output)
    );
}

#[test]
fn predictions_of_several_labels_a_node_are_each_of_its_own() {
    let folder = Folder::new();
    let data = folder.file("graph");
    let table = |name: &str, line: &dyn Fn(usize) -> String, nodes: std::ops::Range<usize>| {
        let path = format!("{data}/{name}.csv.gz");
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        let mut file = flate2::write::GzEncoder::new(
            fs::File::create(path).unwrap(),
            flate2::Compression::fast(),
        );
        nodes.for_each(|node| writeln!(file, "{}", line(node)).unwrap());
        file.finish().unwrap();
    };
    table("raw/edge", &|node| format!("{node},{}", (node + 1) % 60), 0..60);
    table("raw/node-feat", &|node| format!("{},{},1", node % 2, node % 3), 0..60);
    table("raw/node-label", &|node| format!("{},{}", node % 2, u8::from(node % 3 == 0)), 0..60);
    for (part, nodes) in [("train", 0..20), ("valid", 20..40), ("test", 40..60)] {
        table(&format!("split/order/{part}"), &|node| node.to_string(), nodes);
    }
    let model = folder.file("model");
    let trained = run(&format!("train {data} --hidden 8 --epochs 5 --out {model}"));
    assert!(trained.status.success(), "{}", remarks(&trained));
    let write = |what: &str, name: &str| {
        let output = run(&format!(
            "predict {data} --from {model} --write {what} --out {}",
            folder.file(name)
        ));
        assert!(output.status.success(), "{}", remarks(&output));
        let metric = lines_of(&output, "metric: ");
        assert!(
            metric.len() == 1
                && metric[0].starts_with("roc_auc")
                && metric[0].contains("20 test nodes"),
            "{metric:?}"
        );
        fs::File::open(folder.file(name)).unwrap()
    };
    let logits = Array2::<f32>::read_npy(write("logits", "l.npy")).unwrap();
    let probabilities = Array2::<f32>::read_npy(write("probabilities", "p.npy")).unwrap();
    let labels = Array2::<i64>::read_npy(write("classes", "c.npy")).unwrap();
    assert_eq!((logits.dim(), probabilities.dim(), labels.dim()), ((60, 2), (60, 2), (60, 2)));
    for ((z, p), label) in logits.iter().zip(&probabilities).zip(&labels) {
        assert!((f64::from(*p) - 1.0 / (1.0 + (-f64::from(*z)).exp())).abs() < 1e-6, "{z} {p}");
        assert_eq!(*label == 1, *z > 0.0);
    }
    write("classes", "c.csv");
    let text = fs::read_to_string(folder.file("c.csv")).unwrap();
    assert_eq!(text.lines().next(), Some("node,label_0,label_1"));
    assert_eq!(text.lines().nth(8).unwrap(), format!("7,{},{}", labels[[7, 0]], labels[[7, 1]]));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    refuses(&format!("compress {SMALL} --edges 0.5"), &["`--edges`", "not built yet"]);
    refuses(&format!("compress {SMALL} --bits 1"), &["no table of rows", "signs"]);
    refuses(&format!("compress {SMALL} --bits 8 --part-answers 9"), &["part-answers", "--bits 1"]);
}

#[test]
fn wrong_words_and_numbers_are_refused_on_one_line() {
    refuses("squash", &["squash"]);
    refuses("train --speed 3", &["--speed"]);
    refuses("train --hiden 3", &["--hiden", "--hidden"]);
    refuses("train --model transformer", &["transformer", "gcn2, mlp"]);
    refuses("train --hidden 0", &["--hidden", "1"]);
    refuses("train --hidden 18446744073709551615", &["--hidden"]);
    refuses("train --hidden many", &["--hidden", "many"]);
    refuses("train --hidden 100000 --model gcn2 --layers 2", &["20007400000 weights or more"]);
    refuses("train --hidden 1000000 --layers 9", &["--hidden 1000000 --layers 9", "weights"]);
    refuses("train --layers 0", &["--layers"]);
    refuses("train --epochs 0", &["--epochs"]);
    refuses("train --seeds 0", &["--seeds"]);
    refuses("train --seeds 18446744073709551615", &["--seeds"]);
    refuses("train --dropout 1.5", &["dropout", "1.5", "[0, 1)"]);
    refuses("train --dropout nan", &["dropout", "[0, 1)"]);
    refuses("train --lr nan", &["learning rate", "positive"]);
    refuses("train --lr -1", &["learning rate", "positive"]);
    refuses("train --weight-decay -1", &["weight decay"]);
    refuses("train --features l3", &["l3"]);
    refuses("compress --channels 1.5", &["`channels`", "1.5", "[0, 1]"]);
    refuses("compress --channels -0.5", &["`channels`", "-0.5", "[0, 1]"]);
    refuses("compress --channels nan", &["`channels`", "[0, 1]"]);
    refuses("compress --weights half", &["`weights`", "half", "[0, 1]"]);
    refuses("compress --drop-layers -1", &["`drop-layers`", "-1"]);
    refuses("compress --distill gat:8", &["`distill`", "gat:8", "mlp:WIDTH"]);
    refuses("compress --distill mlp:0", &["`distill`", "mlp:0"]);
    refuses("compress --bits 7", &["`bits`", "8, 4 or 2"]);
    refuses("compress --bits 8 --act-bits 2", &["`act-bits`", "8 or 4"]);
    refuses("compress --bits 8 --calibrate some", &["`calibrate`", "some", "all or train"]);
    refuses(
        "compress --bits 8 --calibration min",
        &["`calibration`", "`min`", "outputs, max or percentile:P"],
    );
    refuses(
        "compress --bits 8 --calibration percentile:0",
        &["`calibration`", "`percentile:0`", "above 0 and at most 100"],
    );
    refuses("compress --bits 8 --qat some", &["`qat`", "some"]);
    refuses("compress --finetune 0", &["`finetune`"]);
    refuses("compress --criterion best", &["best", "taylor"]);
    refuses("compress --report report.txt", &["report.txt", ".md"]);
    refuses("predict", &["--from", "--out"]);
    refuses("bench", &["--from"]);
    refuses("inspect", &["FILE"]);
    refuses(&format!("compress {SMALL} --epochs 1 --channels 1"), &["conv1", "smaller share"]);
    refuses(
        &format!("compress {SMALL} --epochs 1 --layers 1 --channels 0.5"),
        &["no hidden channel"],
    );
    refuses(&format!("train {SMALL} --epochs 5 --lr 1e38"), &["diverged", "smaller learning rate"]);
}

#[test]
fn wrong_data_words_are_refused_on_one_line() {
    refuses("train sbm:nodes=few", &["nodes", "few"]);
    refuses("train sbm:nodes=300,colour=3", &["colour", "degree"]);
    refuses("train sbm:nodes", &["name=value"]);
    refuses("train sbm:nodes=-3", &["nodes", "-3"]);
    refuses("train sbm:nodes=30,classes=3", &["class 0", "nodes"]);
    refuses("train powerlaw:nodes=100,edges=99999999999", &["edges"]);
    refuses("train cora", &["cora", "no such file", "digits"]);
    refuses("train graph:nodes=3", &["no such file", "sbm"]);
}

#[test]
fn places_that_take_no_file_are_refused_before_the_work() {
    let folder = Folder::new();
    let missing = folder.file("missing/file.md");
    let long = format!("{SMALL} --epochs 1000000");
    for line in [
        format!("train {long} --out {missing}"),
        format!("train {long} --json {missing}"),
        format!("compress {long} --report {missing}"),
    ] {
        refuses(&line, &[&missing, "folder does not exist"]);
    }
    refuses(&format!("train {long} --out {}", folder.0.display()), &["is a folder"]);
    refuses(&format!("train {long} --out {}/..", folder.0.display()), &["name of a file"]);
}

/// The arrays of an npz file.
#[derive(Clone, Default)]
struct Npz(BTreeMap<&'static str, Vec<u8>>);

impl Npz {
    /// Six nodes in the layout of the heterophilous graphs: whole, and small enough to break in
    /// every way.
    fn six_nodes() -> Self {
        let mask = |nodes: [usize; 2]| Array2::from_shape_fn((1, 6), |(_, i)| nodes.contains(&i));
        Self::default()
            .with("node_features", Array2::from_shape_fn((6, 2), |(i, c)| (i * 2 + c) as f32))
            .with("node_labels", array![0i64, 1, 0, 1, 0, 1])
            .with("edges", array![[0i64, 1], [1, 2], [2, 3], [3, 4], [4, 5]])
            .with("train_masks", mask([0, 1]))
            .with("val_masks", mask([2, 3]))
            .with("test_masks", mask([4, 5]))
    }

    fn with<A: WritableElement, D: Dimension>(
        mut self,
        key: &'static str,
        array: Array<A, D>,
    ) -> Self {
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).unwrap();
        self.0.insert(key, bytes);
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.0.remove(key).unwrap();
        self
    }

    fn pack(&self) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (key, bytes) in &self.0 {
            zip.start_file(format!("{key}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }
}

/// A limit of the memory ends in one line wherever an array is read: with numbers of every type,
/// and at every moment of the reading.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_too_small_for_a_file_is_one_line() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!(
        "train sbm:nodes=300,classes=3,features=40 --hidden 2 --epochs 1 --out {model}"
    ));
    let nodes = 60_000;
    let small = |(i, c): (usize, usize)| ((i * 7 + c * 13) % 101 + 1) as u8;
    let edges = Array2::from_shape_fn((nodes, 2), |(i, c)| ((i + c) % nodes) as i64);
    let graph =
        Npz::default().with("edges", edges).with("node_labels", Array1::<i64>::zeros(nodes));
    let graphs = [
        graph
            .clone()
            .with("node_features", Array2::from_shape_fn((nodes, 40), |at| f32::from(small(at)))),
        graph.with("node_features", Array2::from_shape_fn((nodes, 40), small)),
    ];
    for (k, graph) in graphs.iter().enumerate() {
        let path = folder.with("graph.npz", &graph.pack());
        let line = format!("predict {path} --from {model} --out {}", folder.file("logits.npy"));
        let (mut done, mut refused) = (0, 0);
        for megabytes in (30..120).step_by(6) {
            let mut limited = Command::new("sh");
            limited
                .arg("-c")
                .arg(format!("ulimit -v {} && exec \"$0\" \"$@\"", megabytes << 10))
                .arg(env!("CARGO_BIN_EXE_gnn-prune"));
            let output = limited
                .args(line.split_whitespace())
                .env("RAYON_NUM_THREADS", "1")
                .output()
                .unwrap();
            let said = remarks(&output);
            match output.status.code() {
                Some(0) => done += 1,
                Some(2) => {
                    assert!(
                        said.lines().count() == 1
                            && (said.contains("memory") || said.contains("threads")),
                        "{megabytes} MB of graph {k}: {said}"
                    );
                    refused += 1;
                }
                // Less than the program itself takes is not its to answer for.
                _ => assert!(
                    megabytes < 44,
                    "{megabytes} MB of graph {k}: {:?}: {said}",
                    output.status
                ),
            }
        }
        assert!(done > 3 && refused > 3, "graph {k}: {done} done, {refused} refused");
    }
}

#[test]
fn wrong_data_files_are_refused_on_one_line() {
    let folder = Folder::new();
    let whole = Npz::six_nodes();
    let path = folder.with("whole.npz", &whole.pack());
    assert_eq!(json(&format!("train {path} --hidden 2 --epochs 1"))["data"]["nodes"], 6);

    let refuses_file = |name: &str, bytes: &[u8], words: &[&str]| {
        let path = folder.with(name, bytes);
        refuses(&format!("train {path} --epochs 1"), &[&[path.as_str()], words].concat());
    };
    let refuses_npz = |npz: Npz, words: &[&str]| refuses_file("broken.npz", &npz.pack(), words);
    refuses(&format!("train {}", folder.file("missing.npz")), &["missing.npz", "no such file"]);
    refuses(&format!("train {}", folder.0.display()), &["is a folder"]);
    refuses_file("text.npz", b"no archive at all", &["not an npz archive"]);
    refuses_file("empty.npz", b"", &["not an npz archive"]);
    refuses_file("graph.txt", b"0,1", &["txt", ".npz"]);
    let packed = whole.pack();
    refuses_file("short.npz", &packed[..packed.len() / 2], &["not an npz archive"]);
    for key in whole.0.keys() {
        refuses_npz(whole.clone().without(key), &[key]);
    }
    refuses_npz(
        whole.clone().with("node_features", Array2::<f32>::zeros((5, 2))),
        &["node_labels", "5", "6"],
    );
    refuses_npz(
        whole.clone().with("node_features", Array2::<f32>::zeros((6, 0))),
        &["no features"],
    );
    refuses_npz(
        whole.clone().with("node_features", Array2::from_elem((6, 2), f32::NAN)),
        &["node 0", "NaN"],
    );
    refuses_npz(
        whole.clone().with("node_labels", array![0i64, 1, -1, 1, 0, 1]),
        &["node 2", "val", "no label"],
    );
    refuses_npz(whole.clone().with("node_labels", array![0i64, 1, -2, 1, 0, 1]), &["node 2", "-2"]);
    refuses_npz(
        whole.clone().with("node_labels", array![0i64, 1, 0, 1]),
        &["node_labels", "4", "6"],
    );
    refuses_npz(
        whole.clone().with("node_labels", array![3i64, 3, 3, 3, 3, 3]),
        &["classes", "at least 2"],
    );
    refuses_npz(
        whole.clone().with("node_labels", array![0.5f64, 1.0, 0.0, 1.0, 0.0, 1.0]),
        &["node_labels", "0.5", "whole"],
    );
    refuses_npz(whole.clone().with("edges", array![[0i64, 6]]), &["edges", "6", "out of range"]);
    refuses_npz(whole.clone().with("edges", array![[0i64, -1]]), &["edges", "-1", "out of range"]);
    refuses_npz(whole.clone().with("edges", array![[0i64, 1, 2]]), &["edges", "3 columns"]);
    refuses_npz(
        whole.clone().with("train_masks", Array2::from_elem((1, 6), false)),
        &["train_masks", "no node"],
    );
    refuses_npz(
        whole.clone().with("val_masks", Array2::from_elem((1, 5), true)),
        &["val_masks", "5"],
    );
    refuses_npz(
        whole.clone().with("test_masks", Array2::from_elem((2, 6), true)),
        &["test_masks", "masks"],
    );
    refuses_npz(whole.with("test_masks", Array2::from_elem((1, 6), true)), &["node 0", "overlap"]);
    let empty = Npz::six_nodes()
        .with("node_features", Array2::<f32>::zeros((0, 2)))
        .with("node_labels", Array1::<i64>::zeros(0))
        .with("edges", Array2::<i64>::zeros((0, 2)))
        .with("train_masks", Array2::from_elem((1, 0), true))
        .with("val_masks", Array2::from_elem((1, 0), true))
        .with("test_masks", Array2::from_elem((1, 0), true));
    refuses_npz(empty, &["no node"]);
}

/// What a command that must do its work says on stderr.
fn says(line: &str) -> String {
    let output = run(line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {stderr}");
    stderr
}

#[test]
fn a_command_asks_for_no_more_than_it_reads_and_says_what_was_assumed() {
    let folder = Folder::new();
    let (model, out) = (folder.file("model"), folder.file("logits.npy"));
    fs::create_dir(folder.file("bare")).unwrap();
    let whole = Npz::six_nodes();
    let path = folder.with("graph.npz", &whole.pack());
    works(&format!("train {path} --hidden 2 --epochs 1 --out {model}"));
    let logits = |npz: &Npz| {
        works(&format!(
            "predict {} --from {model} --out {out}",
            folder.with("bare/graph.npz", &npz.pack())
        ));
        fs::read(&out).unwrap()
    };
    let expected = logits(&whole);
    let masks = ["train_masks", "val_masks", "test_masks"];
    let without = |keys: &[&str]| keys.iter().fold(whole.clone(), |npz, key| npz.without(key));
    assert!(
        logits(&without(&["node_labels"])) == expected
            && logits(&without(&masks)) == expected
            && logits(&without(&masks[1..2])) == expected
    );
    assert!(logits(&whole.clone().with("node_labels", array![-1i64, -1, 9, -7, 0, 0])) == expected);
    let tested = folder.with("bare/graph.npz", &without(&masks[..2]).pack());
    assert_eq!(names(&json(&format!("bench {tested} --from {model} --threads 1"))).len(), 1);
    refuses(
        &format!(
            "bench {} --from {model}",
            folder.with("bare/graph.npz", &without(&masks[2..]).pack())
        ),
        &["test_masks"],
    );
    refuses(&format!("train {tested}"), &["train_masks"]);

    // Label 2 is output 2, and no node has label 1; the file has an array more.
    let gap =
        whole.clone().with("node_labels", array![0i64, 2, 0, 2, 0, 2]).with("extra", array![1i64]);
    let gap = folder.with("gap.npz", &gap.pack());
    let said = says(&format!("train {gap} --hidden 2 --epochs 1 --out {model}"));
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note: ")).collect();
    assert!(notes.len() == 2 && notes.iter().all(|line| line.starts_with("note: gap: ")), "{said}");
    assert!(said.contains("no node has label 1") && said.contains("`extra`"), "{said}");
    let narrow = folder.with("narrow.npz", &whole.pack());
    let said = says(&format!("bench {narrow} --from {model} --from {model} --threads 1"));
    assert_eq!(
        said.matches("labels go up to 1; the data take the 3 classes of the network").count(),
        1,
        "{said}"
    );
    refuses(
        &format!(
            "bench {} --from {model}",
            folder.with("wide.npz", &whole.with("node_labels", array![0i64, 3, 0, 1, 2, 0]).pack())
        ),
        &["node 1 is 3", "3 outputs"],
    );
}

#[test]
fn a_split_is_drawn_or_read_as_the_line_says() {
    let folder = Folder::new();
    let quick = format!("train {SMALL} --hidden 4 --epochs 3");
    let own = mean(&json(&quick)["rows"][0]);
    let drawn = mean(&json(&format!("{quick} --split 0.2/0.2/0.6"))["rows"][0]);
    // 240 nodes of 300 test by the generator's own split of 20 and 30 per class less, 180 by these
    // shares.
    assert!(
        (drawn * 1.8).fract().abs() < 1e-6 || (1.0 - (drawn * 1.8).fract()) < 1e-6,
        "{drawn} and {own}"
    );
    assert!(json(&format!("{quick} --split 10/10"))["rows"][0]["accuracy"]["mean"].is_number());
    let parts: String = (0..300).map(|i| ["train\n", "val\n", "test\n", "-1\n"][i % 4]).collect();
    let file = folder.with("parts.csv", parts.as_bytes());
    assert!(json(&format!("{quick} --split {file}"))["rows"][0]["accuracy"]["mean"].is_number());
    refuses(&format!("{quick} --split 0.5/0.5"), &["0.5/0.5", "0.6/0.2/0.2"]);
    refuses(&format!("{quick} --split 0.5/0.5/0.5"), &["sum of the shares", "1.5"]);
    refuses(
        &format!("{quick} --split {}", folder.file("none.csv")),
        &["none.csv", "cannot be opened"],
    );
    refuses(
        &format!("{quick} --split {}", folder.with("short.csv", b"train\nval\ntest\n")),
        &["3 lines", "300 nodes"],
    );
    refuses(&format!("{quick} --split word"), &["word", "20/30"]);
}

#[test]
fn a_degree_on_which_a_network_has_no_value_is_named_in_every_command() {
    let folder = Folder::new();
    let (model, small, out) =
        (folder.file("model"), folder.file("small"), folder.file("logits.npy"));
    let quick = "--hidden 4 --epochs 1 --split 2/2";
    let write = |weight: f32| {
        let edges: String = (0..12)
            .map(|i| format!("{i},{},{}\n", (i + 1) % 12, if i == 6 { weight } else { 1.0 }))
            .collect();
        folder.with("g.csv", format!("source,target,weight\n{edges}").as_bytes())
    };
    folder.with(
        "g.features.csv",
        (0..12).map(|i| format!("{},{}\n", i % 2, i % 5)).collect::<String>().as_bytes(),
    );
    folder.with(
        "g.labels.csv",
        (0..12).map(|i| format!("{}\n", i % 2)).collect::<String>().as_bytes(),
    );
    let path = write(-0.5);
    says(&format!("train {path} {quick} --out {model}"));
    says(&format!(
        "compress {path} --from {model} --bits 8 --controls none --split 2/2 --out {small}"
    ));
    says(&format!("predict {path} --from {small} --out {out}"));
    let path = write(-1.5);
    for line in [
        format!("train {path} {quick}"),
        format!("predict {path} --from {model} --out {out}"),
        format!("predict {path} --from {small} --out {out}"),
        format!("bench {path} --from {model} --split 2/2"),
        format!("compress {path} --from {model} --split 2/2"),
    ] {
        refuses(&line, &["node 7 ", "negative degree"]);
    }
}

#[test]
fn wrong_model_files_are_refused_on_one_line() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {model}"));
    let bytes = fs::read(&model).unwrap();
    let out = folder.file("logits.npy");
    let refuses_model = |path: &str, words: &[&str]| {
        refuses(&format!("inspect {path}"), words);
        refuses(&format!("predict {SMALL} --from {path} --out {out}"), words);
        refuses(&format!("bench {SMALL} --from {path}"), words);
        refuses(&format!("compress {SMALL} --from {path}"), words);
    };
    refuses_model(&folder.file("missing"), &["missing", "cannot be read"]);
    // The first bytes alone, the length of the header, may be those of a pickle.
    refuses_model(&folder.with("header", &bytes[..5]), &["header"]);
    for (name, cut) in [("metadata", 200), ("tensors", bytes.len() - 10)] {
        refuses_model(&folder.with(name, &bytes[..cut]), &[name, "cut off"]);
    }
    refuses_model(&folder.with("text", b"weights"), &["text", "not a safetensors file"]);
    for line in [
        format!("predict digits --from {model} --out {out}"),
        format!("bench digits --from {model}"),
        format!("compress digits --from {model}"),
    ] {
        refuses(&line, &[&model, "32 features", "64", SMALL]);
    }
    for line in [
        format!("bench sbm:classes=4 --from {model}"),
        format!("compress sbm:classes=4 --from {model}"),
    ] {
        refuses(&line, &[&model, "3 classes", "4"]);
    }
    refuses(&format!("compress {SMALL} --from {model} --seeds 2"), &["--seeds", "--from"]);
    refuses(&format!("compress {SMALL} --from {model} --hidden 8"), &["--hidden", "--from"]);
    refuses(&format!("bench {SMALL} --from {model} --threads 0"), &["--threads"]);
    assert!(!Path::new(&out).exists(), "a refused prediction left a file");
}

#[test]
fn outputs_that_would_be_lost_are_refused_before_the_work() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {model}"));
    let before = fs::read(&model).unwrap();
    refuses(&format!("train {SMALL} --out -"), &["-", "only `--json` writes to stdout"]);
    refuses(&format!("predict {SMALL} --from {model} --out -"), &["only `--json`"]);
    refuses(&format!("train {SMALL} --out {model} --json {model}"), &[&model, "--out and --json"]);
    let page = folder.file("page.md");
    refuses(
        &format!("compress {SMALL} --report {page} --json {}/../{page}", folder.0.display())
            .replace("//", "/"),
        &["folder does not exist"],
    );
    fs::write(&page, "kept").unwrap();
    let around = folder.0.join(".").join("page.md");
    refuses(
        &format!("compress {SMALL} --report {page} --json {}", around.display()),
        &["--report and --json"],
    );
    assert!(fs::read(&model).unwrap() == before && fs::read_to_string(&page).unwrap() == "kept");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out /dev/null --json /dev/null"));
}

#[cfg(target_os = "linux")]
#[test]
fn what_takes_no_more_is_one_line_and_exit_code_2() {
    let folder = Folder::new();
    let model = folder.file("model");
    works(&format!("train {SMALL} --hidden 4 --epochs 1 --out {model}"));
    let export = format!("export --from {model} --out {}", folder.file("state.safetensors"));
    let refused = |mut command: Command, what: &str| {
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let stderr = remarks(&output);
        assert!(
            output.status.code() == Some(2) && stderr.lines().count() == 1,
            "{what}: {:?} {stderr}",
            output.status
        );
    };
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut to_full, mut to_closed) = (command(&export), command(&export));
    to_full.stdout(full());
    refused(to_full, "a full device");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    to_closed.stdout(writer);
    refused(to_closed, "a closed pipe");
    for line in [
        format!("train {SMALL} --hidden 4 --epochs 1 --out /dev/full"),
        format!("inspect {model} --json /dev/full"),
    ] {
        refused(command(&line), &line);
    }
}

fn cora() -> String {
    crate::data_files::folder()
        .join("cora.npz")
        .to_str()
        .expect("the folder has a plain name")
        .into()
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn cora_trains_to_its_published_accuracy() {
    let cora = cora();
    // Published: 81.5 over many seeds; a single seed lies within two points of it.
    let report = json(&format!("train {cora} --features l1"));
    assert!(mean(&report["rows"][0]) > 79.0, "{report}");
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn cora_with_a_quarter_of_its_channels_is_less_than_a_third() {
    let cora = cora();
    let folder = Folder::new();
    let model = folder.file("model");
    let report = json(&format!(
        "compress {cora} --features l1 --channels 0.75 --finetune 50 --controls none --out {model}"
    ));
    let shown = json(&format!("inspect {model}"));
    assert_eq!((channels(&shown, "conv1"), channels(&shown, "conv2")), (16, 7));
    let of =
        |row: usize, pointer: &str| report["rows"][row].pointer(pointer).unwrap().as_f64().unwrap();
    for what in ["/bytes/weights", "/macs"] {
        assert!(of(0, what) > 3.0 * of(2, what), "{what}: {} -> {}", of(0, what), of(2, what));
    }
    assert!(of(2, "/accuracy/mean") > 78.0, "{report}");
}

/// A safetensors file of one zero tensor `x`, and edges, labels and masks of `nodes` nodes, the
/// last of which has a label that is none.
#[cfg(target_os = "linux")]
fn large_and_wrong(nodes: usize, features: usize) -> Vec<u8> {
    let sizes = [
        ("x", "F32", vec![nodes, features], 4),
        ("edge_index", "I64", vec![2, 1], 8),
        ("y", "I64", vec![nodes], 8),
    ];
    let (mut header, mut at) = (Vec::new(), 0);
    for (name, dtype, shape, size) in &sizes {
        let bytes = shape.iter().product::<usize>() * size;
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{}]}}",
            at + bytes
        ));
        at += bytes;
    }
    let header = format!("{{{}}}", header.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + at, 0);
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&(-7i64).to_le_bytes());
    bytes
}

#[test]
#[cfg(target_os = "linux")]
fn a_memory_limit_that_a_file_does_not_fit_in_ends_in_a_line() {
    let folder = Folder::new();
    let model = folder.file("model.safetensors");
    gnn_prune::Mlp::builder(3000, 10).hidden(1500).build(0).unwrap().save(&model).unwrap();
    let data = folder.with("data.safetensors", &large_and_wrong(2000, 2500));
    let mixed = |at: (usize, usize)| (at.0 * 7919 + at.1 * 104_729) as f64 * 0.618_034;
    let array = Npz::six_nodes()
        .with("node_features", Array2::from_shape_fn((6, 400_000), mixed))
        .with("node_labels", Array1::from_elem(6, -7i64));
    let array = folder.with("data.npz", &array.pack());
    for (line, fits) in [
        (format!("inspect {model}"), true),
        (format!("train {data} --out {}", folder.file("a.safetensors")), false),
        (format!("train {array} --out {}", folder.file("b.safetensors")), false),
    ] {
        let (mut done, mut short) = (0, 0);
        for megabytes in [30, 40, 55, 75, 100, 130, 170, 220, 300, 1000] {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes << 10))
                .arg(env!("CARGO_BIN_EXE_gnn-prune"));
            let output =
                shell.args(line.split_whitespace()).env("RAYON_NUM_THREADS", "1").output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => done += 1,
                Some(2) if stderr.contains("memory") => short += 1,
                Some(2) => done += usize::from(!fits),
                code => panic!("{line} in {megabytes} MB: {code:?}, {}, {stderr}", output.status),
            }
            assert!(
                output.status.success() || stderr.lines().count() == 1,
                "{line} in {megabytes} MB: {stderr}"
            );
        }
        assert!(done > 0 && short > 0, "{line}: {done} times enough, {short} times too little");
    }
}

#[test]
fn a_qualifier_without_its_stage_is_refused_in_the_same_words_everywhere() {
    let folder = Folder::new();
    let cases = [
        ("criterion", "l1", "finetune", "5", "`channels`"),
        ("scope", "global", "bits", "8", "`channels`"),
        ("calibrate", "train", "finetune", "5", "`channels` or `weights` or `drop-hops` or `bits`"),
        ("act-bits", "4", "channels", "0.5", "`bits`"),
        ("qat", "5", "weights", "0.5", "`bits`"),
    ];
    for (qualifier, value, stage, amount, fitting) in cases {
        let said = format!("beside a stage that it qualifies: {fitting}");
        let words = [&format!("`{qualifier}` is given alone"), said.as_str()];
        refuses(&format!("compress {SMALL} --{stage} {amount} --{qualifier} {value}"), &words);
        let above = folder.with(
            "above.toml",
            format!("{qualifier} = \"{value}\"\n[[stage]]\n{stage} = \"{amount}\"").as_bytes(),
        );
        refuses(&format!("compress {SMALL} --recipe {above}"), &words);
        let beside = folder.with(
            "beside.toml",
            format!("[[stage]]\n{stage} = \"{amount}\"\n{qualifier} = \"{value}\"").as_bytes(),
        );
        refuses(
            &format!("compress {SMALL} --recipe {beside}"),
            &[&format!("`{qualifier}` is beside `{stage}`"), &said],
        );
    }
    // The stages that are there without any on the line have qualifiers like any other.
    refuses(&format!("compress {SMALL} --qat 5"), &["`qat`", "`bits`"]);
    works(&format!("compress {SMALL} --hidden 4 --epochs 1 --controls none --criterion l1"));
    works(&format!(
        "compress {SMALL} --hidden 16 --epochs 1 --controls none --one-shot --scope global --act-bits 8"
    ));
}

#[test]
fn a_setting_of_another_network_is_refused() {
    for (flag, model) in [
        ("heads 4", "gcn"),
        ("aggr max", "gat"),
        ("hops 3", "gcn2"),
        ("alpha 0.2", "sgc"),
        ("hidden 8", "sgc"),
        ("layers 2", "sgc"),
        ("residual", "sgc"),
        ("jumping max", "appnp"),
        ("norm batch", "gcn2"),
    ] {
        let name = flag.split(' ').next().unwrap();
        for command in ["train", "compress"] {
            refuses(
                &format!("{command} {SMALL} --model {model} --{flag}"),
                &[&format!("`--{name}` is a setting of"), &format!("`{model}`")],
            );
        }
    }
    let quick = format!("train {SMALL} --epochs 1");
    for fits in [
        "gatv2 --heads 2 --hidden 4",
        "sage --aggr max",
        "sgc --hops 3",
        "appnp --hops 3 --alpha 0.2",
        "gcn2 --alpha 0.2 --layers 3",
    ] {
        works(&format!("{quick} --model {fits}"));
    }
}

#[test]
fn what_a_stage_cannot_do_is_refused_before_the_training() {
    // Training for so long would never end here.
    let long = format!("compress {SMALL} --hidden 256 --layers 6 --seeds 1000");
    refuses(&format!("{long} --model gat --bits 8"), &["conv1", "no integer form"]);
    refuses(
        &format!("{long} --norm layer --channels 0.5 --finetune 5 --bits 4"),
        &["no integer form"],
    );
    refuses(&format!("{long} --drop-layers 1"), &["layers to remove is 1", "skip connection"]);
    refuses(&format!("{long} --residual --drop-layers 5"), &["layers to remove is 5", "at most 4"]);
    refuses(&format!("{long} --finetune 5 --channels 1"), &["conv1", "smaller share"]);
    refuses(&format!("{long} --weights 1"), &["smaller share"]);
}

/// Models and records that are kept in a folder.
fn kept(work: &str) -> usize {
    let names = fs::read_dir(work)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("gnn-prune-seed") && name.ends_with(".json")).count()
}

/// All of a report but its times.
fn timeless(mut report: Value) -> Value {
    for row in report["rows"].as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("latency_ms");
        row.as_object_mut().unwrap().remove("effort");
    }
    // What was said of times, and the line that names files.
    for words in ["command", "summary", "notes"] {
        report.as_object_mut().unwrap().remove(words);
    }
    report
}

#[test]
fn work_is_kept_beside_the_model_until_all_is_written_or_in_a_folder_that_stays() {
    let folder = Folder::new();
    let (out, work) = (folder.file("model"), folder.file("stages"));
    let train = format!("train {SMALL} --hidden 4 --epochs 3 --seeds 2");
    let expected = json(&format!("{train} --out {out}"));
    assert!(!Path::new(&format!("{out}.work")).exists());
    let bytes = fs::read(&out).unwrap();
    works(&format!("{train} --work {work}"));
    assert_eq!(kept(&work), 2);
    works(&format!("inspect {work}/gnn-prune-seed1-0.safetensors"));
    refuses(
        &format!("{train} --work {work}"),
        &[&work, "2 finished stages", "--resume", "remove the folder"],
    );
    refuses(
        &format!("{train} --lr 0.02 --work {work} --resume"),
        &[&work, "another run", "learning rate 0.01", "learning rate 0.02"],
    );
    refuses(
        &format!("compress {SMALL} --hidden 4 --epochs 3 --seeds 2 --work {work} --resume"),
        &["stages: `none` there, `channels 0.5"],
    );
    let resumed = json(&format!("{train} --work {work} --out {out}2 --resume"));
    assert!(
        fs::read(format!("{out}2")).unwrap() == bytes && timeless(resumed) == timeless(expected)
    );
    assert!(kept(&work) == 2 && !Path::new(&format!("{out}2.work")).exists());
    refuses(&format!("{train} --resume"), &["`--resume`", "`--out` or `--work`"]);
    refuses(&format!("{train} --work {out}"), &[&out, "is no folder"]);
    refuses(
        &format!("{train} --work {folder}/no/such", folder = folder.0.display()),
        &["folder does not exist"],
    );
    refuses(&format!("{train} --out {out} --json {out}.work"), &["--json and --work"]);
    // A device has no room beside it, and needs none.
    if Path::new("/dev/null").exists() {
        works(&format!("{train} --out /dev/null"));
        assert!(!Path::new("/dev/null.work").exists());
    }
    // A mistake after which nothing is kept leaves no folder.
    refuses(&format!("train {SMALL} --epochs 5 --lr 1e38 --out {out}3"), &["diverged"]);
    assert!(!Path::new(&format!("{out}3.work")).exists());
    // What was kept before one is not lost by it.
    let output = run(&format!("{train} --work {}/new --resume", folder.0.display()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success()
            && stderr.starts_with("note: ")
            && stderr.contains("nothing to go on with"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_epoch_says_how_to_go_on_and_a_kill_costs_one_stage() {
    let folder = Folder::new();
    let (whole, out) = (folder.file("whole"), folder.file("it's a model"));
    // Seeds that take some time each.
    let flags = "--hidden 32 --epochs 40 --seeds 6 --controls none --channels 0.5 --finetune 10";
    let expected = json(&format!("compress {SMALL} {flags} --out {whole}"));
    let work = format!("{out}.work");
    let start = |more: &[&str]| {
        let mut command = command(&format!("compress {SMALL} {flags} --out"));
        command.arg(&out).args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let wait_for = |stages: usize| {
        while kept(&work) < stages {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    let signal = |name: &str, child: &std::process::Child| {
        assert!(
            Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success()
        );
    };
    let child = start(&[]);
    wait_for(1);
    signal("-INT", &child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(output.stdout.is_empty() && !Path::new(&out).exists());
    let stages = kept(&work);
    let said = stderr.lines().last().unwrap();
    assert!(
        stages >= 1 && said.starts_with(&format!("interrupted: {stages} finished stage")),
        "{stderr}"
    );
    let resume = said.split_once("go on with `").unwrap().1.trim_end_matches('`').to_string();
    assert!(resume.ends_with("--resume"), "{resume}");

    let mut child = start(&["--resume"]);
    wait_for(stages + 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let second = run(&format!(
        "compress {SMALL} {flags} --work {folder}/other",
        folder = folder.0.display()
    ));
    assert!(second.status.success(), "another folder is another run");
    // The command as it was printed, by a shell.
    let output = Command::new("sh").args(["-c", &format!("{resume} --json -")]).output().unwrap();
    assert!(
        output.status.success() && remarks(&output).is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap());
    assert_eq!(timeless(serde_json::from_slice(&output.stdout).unwrap()), timeless(expected));
    assert!(!Path::new(&work).exists());
}

/// Days that follow each other, as triples of names.
fn days(folder: &Folder) -> String {
    let line = |k: u32| format!("day{}\tthen\tday{}\n", k % 30, (k + 1) % 30);
    let all: String = (0..30).map(line).collect();
    let some: String = (0..30).step_by(4).map(line).collect();
    for (name, text) in [("train.txt", &all), ("valid.txt", &some), ("test.txt", &some)] {
        folder.with(name, text.as_bytes());
    }
    folder.0.display().to_string()
}

#[test]
fn a_folder_of_triples_is_a_knowledge_graph() {
    let folder = Folder::new();
    let data = days(&folder);
    let line =
        format!("{data} --model complex --hidden 16 --epochs 20 --negatives shared:10 --lr 0.3");
    let report = json(&format!("compress {line} --bits 8 --controls none"));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["metric"], "mrr");
        assert!(row["accuracy"]["mean"].as_f64().unwrap() > 40.0, "{row}");
        let metrics = row["metrics"].as_object().unwrap();
        assert_eq!(metrics.keys().collect::<Vec<_>>(), ["hits@1", "hits@10", "hits@3"]);
    }
    let bytes = |k: usize| rows[k]["bytes"]["weights"].as_u64().unwrap();
    assert!(bytes(0) > 3 * bytes(1), "{} to {}", bytes(0), bytes(1));
    refuses(&format!("train {data} --model gat"), &["gat", "link", "complex"]);
    refuses(&format!("train {data} --model complex --layers 2"), &["--layers", "complex"]);
    refuses(&format!("train {data} --split 20/30"), &["--split"]);
    refuses(&format!("train {data} --negatives some"), &["some", "shared:N"]);
    folder.with("test.txt", b"day1\tthen\n");
    refuses(&format!("train {data}"), &["test.txt", "line 1 has 2 columns"]);
}

#[test]
fn folders_of_the_open_graph_benchmark_are_links() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pt/ogb");
    let cases = [("facts", "mrr", 25.0, "`head_neg`"), ("people", "roc_auc", 90.0, "`weight`")];
    for (name, metric, least, unread) in cases {
        let output = run(&format!("train {folder}/{name} --epochs 5 --json -"));
        let said = remarks(&output);
        assert!(output.status.success() && said.contains(unread), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &report["rows"][0];
        assert_eq!(row["metric"], metric);
        assert!(row["accuracy"]["mean"].as_f64().unwrap() > least, "{row}");
    }
    refuses(&format!("train {folder}/people --model complex"), &["complex", "gcn, sage"]);
    // What validates is known, though the graph that is given does not have it.
    let out = Folder::new();
    let [model, table] = ["model", "table.csv"].map(|name| out.0.join(name).display().to_string());
    let data = format!("{folder}/people");
    says(&format!("train {data} --epochs 1 --out {model}"));
    says(&format!("predict {data} --from {model} --top 100 --out {table}"));
    let split = gnn_prune::data::EdgeSplit::read(&data).unwrap();
    let [_, validates, tests] = split.edges();
    assert!(!validates.is_empty());
    let text = fs::read_to_string(&table).unwrap();
    let suggested = |[a, b]: [u32; 2]| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split(',').collect();
            words[0] == a.to_string() && words[2] == b.to_string()
        })
    };
    for &[a, b] in validates {
        assert!(!suggested([a, b]) && !suggested([b, a]), "{a} and {b}");
    }
    assert!(tests.iter().any(|&pair| suggested(pair)));
}

#[test]
fn models_of_links_and_of_items_answer_and_are_measured() {
    let folder = Folder::new();
    let data = days(&folder);
    let model = folder.0.join("days.model").display().to_string();
    let table = folder.0.join("answers.csv").display().to_string();
    let line = format!("train {data} --hidden 16 --epochs 40 --negatives shared:10 --lr 0.3");
    let trained = &json(&format!("{line} --out {model}"))["rows"][0];
    let asked = folder.with("asked.txt", b"day3\tthen\t?\n?\tthen\tday9\n");
    let answered = |more: &str| {
        let output = run(&format!("predict {data} --from {model} --out {table} {more}"));
        assert!(output.status.success(), "{}", remarks(&output));
        fs::read_to_string(&table).unwrap()
    };
    let text = answered(&format!("--ask {asked} --top 3"));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["query", "rank", "head", "relation", "tail", "score"]);
    assert_eq!(lines.len(), 7);
    assert_eq!((lines[1][2], lines[4][4]), ("day3", "day9"));
    for three in [&lines[1..4], &lines[4..7]] {
        let score = |k: usize| three[k][5].parse::<f32>().unwrap();
        assert!(score(0) >= score(1) && score(1) >= score(2), "{text}");
    }
    // What trains is known, and no answer.
    let train = fs::read_to_string(folder.0.join("train.txt")).unwrap();
    let is_known = |line: &Vec<&str>| train.contains(&line[2..5].join("\t"));
    assert!(!lines[1..].iter().any(is_known), "{text}");
    assert_eq!(answered("").lines().count(), 1 + 2 * 8 * 20, "both ends of what tests");
    let none = folder.with("none.txt", b"\n");
    refuses(
        &format!("predict {data} --from {model} --out {table} --ask {none}"),
        &["none.txt", "nothing is asked"],
    );
    let measured = &json(&format!("bench {data} --from {model} --threads 1"))["rows"][0];
    assert_eq!(measured["accuracy"]["mean"], trained["accuracy"]["mean"]);
    assert_eq!(measured["metrics"], trained["metrics"]);
    let line = format!("predict {data} --from {model} --out {table}");
    refuses(&format!("{line} --write classes"), &["--write"]);
    refuses(&format!("{line} --refit"), &["--refit"]);
    refuses(&format!("{line} --features l2"), &["--features"]);
    refuses(&format!("bench {data} --from {model} --split 20/30"), &["--split"]);
    refuses(&format!("predict {data} --from {model} --out {table}.npy"), &[".csv"]);
    refuses(&format!("predict digits --from {model} --out {table} --top 3"), &["--top"]);
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pt/ogb/facts");
    let refused = run(&format!("bench {other} --from {model}"));
    let said = remarks(&refused);
    assert!(
        !refused.status.success() && said.contains("has rows for 30 nodes, and `facts` has 13")
    );
    assert!(said.contains("not among those of `head_neg`"), "{said}");
}

#[test]
fn people_are_suggested_to_people() {
    let folder = Folder::new();
    let [model, table] =
        ["model", "table.csv"].map(|name| folder.0.join(name).display().to_string());
    let data = "sbm:nodes=300,degree=8 --task link";
    works(&format!("train {data} --hidden 8 --epochs 5 --out {model}"));
    let asked = folder.with("asked.txt", b"7\n\n 3\n");
    let line = format!("predict {data} --from {model} --out {table}");
    let said = says(&format!("{line} --ask {asked} --top 300"));
    assert!(said.contains("roc_auc") && said.contains("the answers to 2 queries"), "{said}");
    let text = fs::read_to_string(&table).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["node", "rank", "other", "score"]);
    let graph = gnn_prune::Dataset::word("sbm:nodes=300,degree=8").read().unwrap();
    let (starts, sources) = graph.graph().edge_list();
    for node in [7usize, 3] {
        let name = node.to_string();
        let known = &sources[starts[node]..starts[node + 1]];
        let others: Vec<u32> = rows[1..]
            .iter()
            .filter(|row| row[0] == name)
            .map(|row| row[2].parse().unwrap())
            .collect();
        assert_eq!(others.len(), 299 - known.len(), "all but the neighbours and the node itself");
        assert!(!others.iter().any(|other| known.contains(other) || *other == node as u32));
    }
    assert_eq!(rows[1][0], "7");
    works(&format!("{line} --top 1"));
    assert_eq!(fs::read_to_string(&table).unwrap().lines().count(), 301);
    let bad = folder.with("bad.txt", b"7\n300\n");
    refuses(&format!("{line} --ask {bad}"), &["line 2", "no node `300`"]);
    let none = folder.with("none.txt", b"\n");
    refuses(&format!("{line} --ask {none}"), &["none.txt", "nothing is asked"]);
    // A pair has one score whichever of its ends is asked, though this decoder has a direction.
    works(&format!("train {data} --hidden 8 --epochs 5 --decoder complex --out {model}"));
    says(&format!("{line} --ask {asked} --top 300"));
    let text = fs::read_to_string(&table).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let score = |node: &str, other: &str| -> f32 {
        let row = rows.iter().find(|row| row[0] == node && row[2] == other).unwrap();
        row[3].parse().unwrap()
    };
    assert!((score("7", "3") - score("3", "7")).abs() < 1e-4, "{text}");
    let falls = |two: &[Vec<&str>]| {
        two[0][0] != two[1][0]
            || two[0][3].parse::<f32>().unwrap() >= two[1][3].parse::<f32>().unwrap()
    };
    assert!(rows.windows(2).all(falls), "{text}");
    let nodes = folder.0.join("nodes.model").display().to_string();
    works(&format!("train sbm:nodes=300,degree=8 --hidden 8 --epochs 2 --out {nodes}"));
    fs::remove_file(&table).unwrap();
    let refused = run(&format!("predict {data} --from {nodes} --out {table}"));
    assert!(!refused.status.success() && !Path::new(&table).exists(), "{}", remarks(&refused));
}

#[test]
fn links_of_a_graph_are_asked_on_the_features_that_the_model_was_trained_on() {
    let folder = Folder::new();
    let [scaled, raw] = ["scaled", "raw"].map(|name| folder.0.join(name).display().to_string());
    let data = "sbm:nodes=300,degree=10 --task link";
    let trained = |features: &str, model: &str| {
        let line = format!("train {data} --hidden 8 --epochs 10 --features {features}");
        json(&format!("{line} --out {model}"))["rows"][0]["accuracy"]["mean"].clone()
    };
    let expected = [trained("l2", &scaled), trained("raw", &raw)];
    let of = |row: &Value| row["accuracy"]["mean"].clone();
    let benched = json(&format!("bench {data} --from {scaled} --from {raw} --threads 1"));
    assert_eq!([of(&benched["rows"][0]), of(&benched["rows"][1])], expected);
    let wrong = json(&format!("bench {data} --from {scaled} --features raw --threads 1"));
    assert_ne!(of(&wrong["rows"][0]), expected[0]);
    let small = json(&format!("compress {data} --from {scaled} --bits 8 --controls none"));
    assert_eq!(of(&small["rows"][0]), expected[0]);
    assert_eq!(small["data"]["feature_norm"], "l2");
}

/// Twenty users of two tastes, ten items each and one for the test; where they are.
fn tastes(folder: &Folder) -> String {
    let own = |user: u32| -> String {
        let items = (0..10).map(|k| format!(" {}", user % 2 * 15 + (k + user) % 15));
        format!("{user}{}\n", items.collect::<String>())
    };
    let later = |user: u32| format!("{user} {}\n", user % 2 * 15 + (10 + user) % 15);
    folder.with("train.txt", (0..20).map(own).collect::<String>().as_bytes());
    folder.with("test.txt", (0..20).map(later).collect::<String>().as_bytes());
    folder.0.display().to_string()
}

#[test]
fn an_encoder_is_run_once_and_its_rows_have_bits() {
    let folder = Folder::new();
    let facts = days(&folder);
    let folder_of_items = Folder::new();
    let items = tastes(&folder_of_items);
    let lines = [
        format!("{facts} --model compgcn --hidden 8 --epochs 5 --negatives shared:10"),
        format!("{facts} --model rgcn --hidden 8 --epochs 5 --negatives shared:10"),
        format!("{items} --hidden 8 --epochs 5 --batch 32"),
    ];
    for line in lines {
        let report = json(&format!("compress {line} --precompute --bits 8 --controls none"));
        let rows = report["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["dense", "precompute", "bits 8"], "{line}");
        assert_eq!(rows[0]["accuracy"], rows[1]["accuracy"], "{line}");
        assert_eq!(rows[0]["metrics"], rows[1]["metrics"], "{line}");
        let macs = |k: usize| rows[k]["macs"]["total"].as_u64().or(rows[k]["macs"].as_u64());
        assert!(macs(1) < macs(0), "{line}: {report}");
    }
    // A model that is read goes on as what it is, whatever the command line would train.
    let model = folder.0.join("encoder.model").display().to_string();
    let mut differ = false;
    for encoder in ["rgcn", "compgcn", "linear --norm batch"] {
        let line = format!("{facts} --hidden 8 --epochs 5 --negatives shared:10");
        works(&format!("train {line} --model {encoder} --out {model}"));
        let line = format!("compress {facts} --from {model} --weights 0.1 --finetune 3");
        let tuned = |more: &str| {
            let output = run(&format!("{line} --controls none --json - {more}"));
            assert!(output.status.success(), "{}", remarks(&output));
            (serde_json::from_slice::<Value>(&output.stdout).unwrap(), remarks(&output))
        };
        let (report, said) = tuned("--negatives shared:10 --batch 8");
        assert!(said.ends_with("as for a new one: --loss softmax\n"), "{said}");
        let row = &report["rows"][2];
        assert!(row["accuracy"]["mean"].as_f64().unwrap() > 10.0, "{encoder}: {row}");
        let (other, said) = tuned("--negatives 3 --loss bce --batch 8");
        assert!(said.is_empty(), "{said}");
        assert_eq!(other["rows"][1]["accuracy"], report["rows"][1]["accuracy"]);
        differ |= other["rows"][2]["accuracy"] != row["accuracy"];
        refuses(&format!("{line} --hidden 4"), &["--hidden", "--from"]);
    }
    assert!(differ, "another loss trains otherwise");
    refuses(
        &format!("compress {facts} --from {model} --precompute --controls none --negatives 3"),
        &["`--negatives`", "nothing trains"],
    );
    // Dropout and a linear map are no encoders that read edges.
    for table in ["complex --dropout 0.1 --relation-dropout 0.1", "linear"] {
        let line = format!("{facts} --hidden 8 --epochs 5 --negatives shared:10");
        works(&format!("train {line} --model {table} --out {model}"));
        let line = format!("compress {facts} --from {model} --finetune 2 --controls none");
        refuses(&format!("{line} --exclude-asked=false"), &["`--exclude-asked`", "over edges"]);
        assert!(says(&line).contains("--loss softmax, --negatives, --batch"), "{table}");
    }
    refuses(&format!("compress {facts} --hidden 8 --precompute --bits 8"), &["tables already"]);
    refuses("compress digits --hidden 8 --precompute", &["one row per node"]);
}

#[test]
fn encoders_of_knowledge_graphs_are_words() {
    let folder = Folder::new();
    let data = days(&folder);
    let line = format!("train {data} --hidden 8 --epochs 20 --negatives shared:10 --batch 16");
    for encoder in [
        "compgcn --composition mult --relation-dropout 0.1",
        "compgcn --composition sub --norm none --layers 2",
        "compgcn --composition corr --decoder complex",
        "rgcn --blocks 4 --dropout 0.1 --exclude-asked=false",
        "linear",
        "linear --norm batch",
    ] {
        let row = &json(&format!("{line} --model {encoder}"))["rows"][0];
        assert!(row["accuracy"]["mean"].as_f64().unwrap() > 20.0, "{encoder}: {row}");
    }
    for (encoder, said) in [
        ("rgcn --composition corr", ["--composition", "compgcn"]),
        ("gcn --blocks 2", ["--blocks", "rgcn"]),
        ("rgcn --blocks 2 --bases 2", ["--blocks", "--bases"]),
        ("rgcn --blocks 3", ["blocks of rgcn_conv", "divisor"]),
        ("complex --norm batch", ["--norm", "complex"]),
    ] {
        refuses(&format!("{line} --model {encoder}"), &said);
    }
    refuses("train digits --composition corr", &["--composition", "node"]);
}

#[test]
fn a_folder_of_interactions_is_recommended_from_and_the_loss_is_one_word() {
    let folder = Folder::new();
    let data = tastes(&folder);
    let report = json(&format!("train {data} --hidden 8 --epochs 30 --lr 0.02 --batch 32"));
    let row = &report["rows"][0];
    assert_eq!(row["metric"], "recall@20");
    assert!(row["accuracy"]["mean"].as_f64().unwrap() > 90.0, "{row}");
    assert!(row["metrics"]["ndcg@20"]["mean"].as_f64().unwrap() > 40.0, "{row}");
    let rule = "--update-rule lazy-adam --schedule cosine";
    json(&format!("train {data} --model mf --loss ccl --negatives 5 --epochs 2 --batch 32 {rule}"));
    let losses = [
        "--loss ccl --negatives shared:5 --negative-weight 3",
        "--loss ssm --cosine-temperature 0.3",
    ];
    for words in ["--negatives all"].into_iter().chain(losses) {
        json(&format!("train {data} --hidden 8 --epochs 2 --batch 32 {words}"));
    }
    let model = folder.0.join("taken.model").display().to_string();
    let table = folder.0.join("taken.csv").display().to_string();
    json(&format!("train {data} --hidden 8 --epochs 30 --lr 0.02 --batch 32 --out {model}"));
    assert!(run(&format!("predict {data} --from {model} --out {table} --top 4")).status.success());
    let text = fs::read_to_string(&table).unwrap();
    assert_eq!(text.lines().count(), 1 + 20 * 4);
    let first: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(&first[..2], ["0", "1"]);
    assert!((10..15).contains(&first[2].parse::<u32>().unwrap()), "of the user's kind: {first:?}");
    let again = format!("compress {data} --from {model} --bits 8 --controls none --refit --json -");
    assert!(run(&again).status.success());
    let line = format!("{data} --hidden 8 --epochs 5 --batch 32 --one-shot --controls none");
    let small = run(&format!("compress {line} --channels 0.5 --json -"));
    assert!(small.status.success() && remarks(&small).contains("without weight matrices"));
    let rows: Value = serde_json::from_slice(&small.stdout).unwrap();
    let names = rows["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["dense", "channels 0.5", "bits 4"]);
    let line = format!("train {data} --hidden 8 --batch 32 --refit");
    let again = run(&format!("{line} --epochs 3 --json -"));
    assert!(again.status.success() && remarks(&again).contains("what validates trains too"));
    // What trains chooses no epoch.
    let page = folder.0.join("page.html").display().to_string();
    let line = format!("{data} --hidden 8 --batch 32 --refit");
    let more = format!("--epochs 5 --seeds 2 --report {page}");
    says(&format!("compress {line} {more} --bits 8 --controls none"));
    assert!(fs::read_to_string(&page).unwrap().contains("the last epoch is kept"));
    refuses(&format!("train {line}"), &["--epochs"]);
    refuses("train digits --refit --epochs 2", &["--refit", "node"]);
    let wrong = format!("train {data} --loss ccl --smoothing 0.1");
    refuses(&wrong, &["`--smoothing`", "softmax, bce", "`ccl`"]);
    refuses(
        &format!("train {data} --loss ccl --cosine-temperature 1"),
        &["`--cosine-temperature`", "ssm"],
    );
    refuses(&format!("train {data} --negative-weight 3"), &["`--negative-weight`", "`bpr`"]);
    refuses(&format!("train {data} --task link"), &["is a folder"]);
    refuses("train digits --loss ccl", &["--ranking-loss", "node"]);
}

#[test]
fn a_recommender_has_narrow_students_and_prefixes() {
    let folder = Folder::new();
    let data = tastes(&folder);
    let line = format!("{data} --hidden 8 --epochs 20 --lr 0.02 --batch 32");
    let student = "--loss rrd --best 5 --others 5 --own-loss 0.5 --controls none";
    let of = |more: &str| json(&format!("compress {line} {more} {student}"));
    for name in ["narrow:4", "table:4"] {
        let report = of(&format!("--distill {name}"));
        assert_eq!(names(&report), ["dense", &format!("distill {name}")]);
        assert_eq!(report["rows"][1]["params"], 4 * 50);
        assert!(mean(&report["rows"][1]) > 80.0, "{report}");
    }
    let soft = json(&format!("compress {line} --distill narrow:4 --controls none"));
    assert_ne!(soft["rows"][1]["metrics"], of("--distill narrow:4")["rows"][1]["metrics"]);
    refuses(
        &format!("compress {line} --distill narrow:4 --loss rrd --controls none"),
        &["candidates", "reads 80"],
    );
    refuses(&format!("compress {line} --distill narrow:9"), &["width is 9", "1 to 8"]);
    refuses("compress digits --distill self --loss rrd", &["rankings"]);
    refuses("compress digits --distill self --own-loss 1", &["`own-loss`", "[0, 1)"]);
    // Experts for rows beside the rankings, and scores and geometry of pairs.
    let experts = of("--distill narrow:4 --experts-weight 0.1 --experts 3");
    assert_ne!(experts["rows"][1]["metrics"], of("--distill narrow:4")["rows"][1]["metrics"]);
    let pairs = format!("compress {line} --distill table:4 --loss dualde --controls none");
    assert!(mean(&json(&pairs)["rows"][1]) > 80.0);
    refuses(&format!("compress {line} --distill narrow:4 --experts 3"), &["experts-weight"]);
    refuses("compress digits --distill self --loss dualde", &["asks about nodes", "dual"]);
    // One training, and what its first channels are.
    let model = folder.file("wide.model");
    let wide = json(&format!("train {line} --prefixes 4,2 --out {model}"));
    let plain = json(&format!("train {line}"));
    assert_ne!(wide["rows"][0]["metrics"], plain["rows"][0]["metrics"]);
    let narrow = json(&format!("compress {data} --from {model} --prefix 4 --controls none"));
    assert_eq!(names(&narrow), ["dense", "prefix 4"]);
    assert!(mean(&narrow["rows"][1]) > 80.0, "{narrow}");
    let whole = json(&format!("compress {line} --prefixes 4,2 --prefix 2 --controls none"));
    assert_eq!(whole["rows"][0]["metrics"], wide["rows"][0]["metrics"]);
    // Widths that learn from each other train otherwise, and settings of nothing are refused.
    let taught = "--prefixes 4,2 --prefix-lessons rankings:5:5 --prefix-lesson-weight 0.5";
    let taught = json(&format!("train {line} {taught} --prefix-harder 0.5 --prefix-balance -1"));
    assert_ne!(taught["rows"][0]["metrics"], wide["rows"][0]["metrics"]);
    refuses(&format!("train {line} --prefixes 4 --prefix-lessons most"), &["`mutual`"]);
    refuses(&format!("train {line} --prefixes 4 --prefix-lessons rankings"), &["reads 80"]);
    refuses(&format!("train {line} --prefix-lessons scores"), &["--prefixes"]);
    refuses(&format!("train {line} --prefixes 4 --prefix-balance 11"), &["in [-10, 10]"]);
    refuses("train digits --prefixes 4 --prefix-harder 1", &["told by rankings"]);
    refuses(&format!("train {line} --prefixes 8"), &["less than the whole"]);
    refuses(&format!("train {line} --prefixes 2,2"), &["listed once"]);
    refuses(
        &format!("compress {data} --from {model} --prefixes 4 --prefix 4"),
        &["--prefixes", "--from"],
    );
}

#[test]
fn nodes_train_by_mini_batches() {
    let data = "sbm:nodes=400,classes=4,homophily=0.9";
    let accuracy = |line: &str| {
        let report = json(&format!("train {data} --hidden 8 --epochs 20 --model {line}"));
        report["rows"][0]["accuracy"]["mean"].as_f64().unwrap()
    };
    let lines = [
        "sage --fanout 8,4 --batch 32",
        "sage --sampler neighbors",
        "gat --heads 2 --dropout 0 --sampler clusters:10:2",
        "gcn --sampler walks:30:3",
        "gcn --sampler edges:100",
        "gcn --sampler nodes:100",
    ];
    for line in lines {
        let found = accuracy(line);
        assert!(found > 60.0, "{line}: {found}");
    }
    assert_eq!(accuracy("sage --layers 2 --fanout 25,10"), accuracy("sage --sampler neighbors"));
    let report = json(&format!(
        "compress {data} --model sage --fanout 8,4 --channels 0.5 --finetune 3 --controls none"
    ));
    assert_eq!(report["rows"].as_array().unwrap().len(), 3, "{report}");
    for (line, words) in [
        ("--batch 32", "--sampler neighbors"),
        ("--sampler edges:9 --fanout 3", "--fanout"),
        ("--sampler edges:9 --batch 3", "--batch"),
        ("--sampler walks:3", "walks:ROOTS:STEPS"),
        ("--sampler edges:0", "from 1"),
        ("--fanout 3,x", "x"),
        ("--model gat --fanout 5,5", "hops of a sample"),
        ("--model gat --sampler clusters:10:2", "dropout of attention"),
        ("--model gcn --fanout 5", "fan-outs is 1, it must be 2"),
    ] {
        refuses(&format!("train {data} {line}"), &[words]);
    }
    refuses("train digits --task link --sampler edges:9", &["--sampler", "link"]);
}

#[test]
fn gradients_of_batches_are_added_up_where_there_are_several() {
    let data = "sbm:nodes=400,classes=4,homophily=0.9";
    let accuracy = |more: &str| {
        let line = format!("train {data} --hidden 8 --epochs 12 --model sage --fanout 8,4 {more}");
        json(&line)["rows"][0]["accuracy"]["mean"].as_f64().unwrap()
    };
    assert_eq!(accuracy("--batch 20 --accumulate 1"), accuracy("--batch 20"));
    assert!(accuracy("--batch 10 --accumulate 3") > 50.0);
    refuses(&format!("train {data} --accumulate 2"), &["batches of a step is 2", "one batch"]);
    refuses(&format!("train {data} --accumulate 0"), &["--accumulate", "0"]);
    refuses("train digits --task link --accumulate 2", &["--accumulate", "link"]);
}

#[test]
fn networks_train_on_edges_that_are_drawn_and_are_judged_on_all() {
    let data = "sbm:nodes=400,classes=4,homophily=0.9";
    let line = format!("train {data} --hidden 8 --epochs 12 --seeds 2");
    let report = json(&format!("{line} --sparsify 0.5"));
    let said = report["training_graph"].as_str().unwrap();
    assert!(said.starts_with("trained on ") && said.contains("0.5 left out"), "{said}");
    assert!(report["notes"][0].as_str().unwrap() == said, "{report}");
    let all = json(&line);
    assert_eq!(report["rows"][0]["macs"], all["rows"][0]["macs"], "all edges are measured");
    assert_ne!(report["rows"][0]["accuracy"], all["rows"][0]["accuracy"]);
    assert!(all["training_graph"].is_null());
    refuses(&format!("{line} --sparsify 1"), &["leave out is 1", "between 0 and 1"]);
    refuses(&format!("train {data} --model gat --sparsify 0.5"), &["--sparsify", "gcn, sage"]);
}

#[test]
fn hops_go_from_networks_of_nodes_and_of_pairs() {
    let data = "sbm:nodes=400,classes=4,homophily=0.9";
    let line = format!("compress {data} --hidden 8 --epochs 12 --seeds 2");
    let report = json(&format!("{line} --drop-hops all --finetune 3"));
    assert_eq!(
        names(&report),
        ["dense", "drop-hops all", "finetune 3", "narrow control"],
        "chance would take the same"
    );
    let note = report["notes"].to_string();
    assert!(note.contains("`dense` without all hops: ") && note.contains("no graph"), "{note}");
    let (dense, without) = (&report["rows"][0], &report["rows"][1]);
    assert!(dense["macs"].as_u64() > without["macs"].as_u64());
    let control = &report["rows"][3];
    assert_eq!(control["macs"], without["macs"], "a network that never saw an edge");
    assert_ne!(control["accuracy"], dense["accuracy"]);
    let report = json(&format!("{line} --drop-hops 1"));
    assert_eq!(names(&report), ["dense", "drop-hops 1", "narrow control", "random control"]);
    let pairs = format!("compress {data} --task link --hidden 8 --epochs 5 --controls none");
    let report = json(&format!("{pairs} --drop-hops all"));
    assert_eq!(names(&report), ["dense", "drop-hops all"]);
    refuses(&format!("{line} --drop-hops 0"), &["`drop-hops`", "or `all`"]);
    refuses(&format!("{line} --drop-hops 3"), &["hops to remove is 3", "at most 2"]);
    refuses(&format!("{line} --model gcn2 --drop-hops all"), &["hops to remove is all"]);
}

#[test]
fn a_folder_of_graphs_is_classified_and_a_graph_may_be_asked_for_links() {
    let folder = Folder::new();
    let graph = |k: u32| match k % 2 {
        // A ring of four, or a path of four.
        0 => "4 0\n0 2 1 3\n0 2 0 2\n0 2 1 3\n0 2 0 2\n",
        _ => "4 1\n0 1 1\n0 2 0 2\n0 2 1 3\n0 1 2\n",
    };
    let name = folder.0.file_name().unwrap().to_string_lossy().into_owned();
    let text = format!("40\n{}", (0..40).map(graph).collect::<String>());
    folder.with(&format!("{name}.txt"), text.as_bytes());
    let data = folder.0.display().to_string();
    let report = json(&format!("train {data} --hidden 8 --layers 2 --epochs 20"));
    assert_eq!(report["rows"][0]["metric"], "accuracy");
    assert!(report["rows"][0]["accuracy"]["mean"].as_f64().unwrap() > 90.0, "{report}");
    let out = folder.file("small");
    let way = "--hidden 16 --layers 2 --epochs 10 --channels 0.75 --finetune 5 --bits 8 --seeds 3";
    let report = json(&format!("compress {data} --model gin {way} --out {out}"));
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let expected = ["dense", "channels 0.75", "finetune 5", "bits 8", "narrow control"];
    assert_eq!(names[..5], expected);
    let weights = |k: usize| rows[k]["bytes"]["weights"].as_u64().unwrap();
    assert!(weights(3) < weights(2) && weights(2) < weights(0) / 2, "{report}");
    assert!(rows[3]["accuracy"]["mean"].as_f64().unwrap() > 70.0, "{report}");
    let shown = json(&format!("inspect {out}"));
    assert!(shown.to_string().contains("readout0"), "{shown}");
    let table = folder.file("classes.csv");
    let said = says(&format!("predict {data} --from {out} --write classes --out {table}"));
    let shown = rows[3]["accuracy"]["per_seed"][0].as_f64().unwrap();
    assert!(said.contains(&format!("accuracy {shown:.2}")), "{said}, {shown}");
    let text = fs::read_to_string(&table).unwrap();
    assert_eq!(text.lines().count(), 41);
    let right =
        (0..40).filter(|k| text.lines().nth(k + 1).unwrap().ends_with(&(k % 2).to_string()));
    assert!(right.count() > 28, "{text}");
    refuses(&format!("predict {data} --from {out} --top 3 --out {table}"), &["--top", "graph"]);
    let report = json("train sbm:nodes=400,classes=4,homophily=0.9 --task link --epochs 10");
    assert_eq!(report["rows"][0]["metric"], "roc_auc");
    refuses("train digits --task link --negatives 5", &["--negatives", "link"]);
    refuses("train digits --task link --norm batch", &["--norm", "link on nodes"]);
    refuses("train digits --task link --batch 5", &["--batch", "link on nodes"]);
}
