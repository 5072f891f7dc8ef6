//! What each command does, through the public API of the library alone.

use crate::answers;
use crate::args::{
    self, BenchArgs, CompletionsArgs, CompressArgs, ControlsKind, ExportArgs, InspectArgs, ManArgs,
    NetworkArgs, PredictArgs, TrainArgs,
};
use crate::failure::{Failure, Result};
use crate::fits;
use crate::keeping::Keeping;
use crate::model_args::ModelArgs;
use crate::output::{print, remark, say, show, table, wrote};
use crate::places::{Places, check_place};
use crate::predictions::{Form, Labels, Written, encode};
use crate::progress::Shown;
use crate::sources::{Source, TaskKind};
use crate::stages;
use clap::ArgMatches;
use gnn_prune::data::{Purpose, Splits};
use gnn_prune::io::pyg::{Checkpoint, Network, export as export_state};
use gnn_prune::ndarray::ArrayView2;
use gnn_prune::nn::Origin;
use gnn_prune::prune::{Dspar, Prefixes};
use gnn_prune::quant::{QuantOp, StoredTable};
use gnn_prune::report::{Account, Row, Servable, Summary};
use gnn_prune::task::{Measured, NodeTask, Part, Task};
use gnn_prune::{
    Compressed, Compression, Controls, Dataset, GraphTask, Model, QuantModel, Recipe, Report,
    WeightPruner, files, io,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub fn train(args: &TrainArgs, flags: &ArgMatches) -> Result<()> {
    let keeping = Keeping::new(&args.keep, args.out.as_deref())?;
    let places = Places {
        out: args.out.as_deref(),
        report: None,
        json: args.output.json.as_deref(),
        work: keeping.folder(),
    };
    places.check()?;
    let source = Source::open(&args.data, &args.model, flags, None)?;
    let (form, trainer) = (source.form(&args.model)?, source.trainer(&args.model)?);
    let compression = Compression::train(form, trainer, args.seeds, source.task())?;
    let compression = with_prefixes(thinned(compression, &args.model)?, args.model.prefixes()?);
    run(&Recipe::default(), compression, &places, &keeping)
}

/// The same, trained on the edges that the line says.
fn thinned<'a>(compression: Compression<'a>, model: &ModelArgs) -> Result<Compression<'a>> {
    Ok(match model.sparsify {
        Some(share) => compression.sparsify(Dspar::new(share)?),
        None => compression,
    })
}

fn with_prefixes(compression: Compression, prefixes: Option<Prefixes>) -> Compression {
    match prefixes {
        Some(prefixes) => compression.prefixes(prefixes),
        None => compression,
    }
}

/// Whether training batches are drawn beside a model that is read: by a stage, a criterion or a
/// control.
fn trains(recipe: &Recipe, controls: ControlsKind) -> bool {
    let toml = recipe.to_toml();
    let is = |line: &str| toml.lines().any(|of| of == line);
    let has = |key: &str| toml.lines().any(|line| line.starts_with(&format!("{key} = ")));
    let controls = match controls {
        _ if is("controls = \"none\"") => false,
        _ if has("controls") => true,
        ControlsKind::All => true,
        ControlsKind::None => false,
    };
    let aware = has("qat") && !is("qat = 0");
    controls || has("finetune") || has("distill") || aware || is("criterion = \"taylor\"")
}

pub fn compress(args: &CompressArgs, recipe: Recipe, flags: &ArgMatches) -> Result<()> {
    let keeping = Keeping::new(&args.keep, args.out.as_deref())?;
    let places = Places {
        out: args.out.as_deref(),
        report: args.report.as_deref(),
        json: args.output.json.as_deref(),
        work: keeping.folder(),
    };
    places.check()?;
    let source;
    let trains = trains(&recipe, args.controls);
    if args.from.is_some() && !trains {
        fits::refuse_asked(flags)?;
    }
    let controls = args.controls == ControlsKind::All && !recipe.is_empty();
    let (mut origin, mut recipe) = (None, recipe);
    let mut fit = |model: &Model| -> Result<()> {
        if args.stages.one_shot && !WeightPruner::has_weights(model) {
            remark(
                "the model is tables without weight matrices: its widths and bits are compressed",
            );
            recipe = stages::given(args, flags, false)?;
        }
        Ok(())
    };
    let compression = match &args.from {
        Some(path) => {
            if args.seeds != 1 {
                return Err(Failure::WithFrom { flag: "seeds".into() });
            }
            let model = load(path, &args.network)?;
            source = Source::open(&args.data, &args.model, flags, Some((&model, path)))?;
            origin = model.origin().cloned();
            if trains {
                source.remark_on_asking(&args.model);
            }
            match model {
                Compressed::Float(model) => {
                    fit(&model)?;
                    let trainer = source.trainer_like(&args.model, &model)?;
                    let compression = Compression::of(model, source.task());
                    if controls {
                        source.remark_on_controls(&trainer);
                        compression.controls_by(trainer)
                    } else {
                        compression
                    }
                }
                Compressed::Integer(_) => return Err(Failure::Quantised { path: path.clone() }),
            }
        }
        None => {
            source = Source::open(&args.data, &args.model, flags, None)?;
            let (form, trainer) = (source.form(&args.model)?, source.trainer(&args.model)?);
            fit(&form)?;
            let compression = Compression::train(form, trainer, args.seeds, source.task())?;
            with_prefixes(thinned(compression, &args.model)?, args.model.prefixes()?)
        }
    };
    let compression = match args.controls {
        ControlsKind::All => compression,
        ControlsKind::None => compression.controls(Controls::None),
    };
    run(&recipe, compression, &places, &keeping)?;
    remark_on_origin(origin.as_ref(), source.task().data());
    Ok(())
}

fn run(
    recipe: &Recipe,
    compression: Compression,
    places: &Places,
    keeping: &Keeping,
) -> Result<()> {
    let (shown, listen) = Shown::new();
    let compression = keeping.applied(compression)?.on_progress(listen);
    let outcome = recipe.run(match places.out {
        Some(path) => compression.save_to(path),
        None => compression,
    });
    shown.finish();
    let mut report = outcome.map_err(|error| keeping.failure(error))?.report;
    report.command = Some(command_line());
    if let Some(path) = places.out {
        wrote(path, "the model");
    }
    if let Some(path) = places.report {
        report.write(path)?;
        wrote(path, "the report");
    }
    let shown = show(&report.to_json(), || table(&report), places.json);
    match &shown {
        // Who reads the table has seen enough of it; the files are written.
        Err(Failure::Stdout(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            keeping.done()?
        }
        Ok(()) => keeping.done()?,
        Err(_) => {}
    }
    shown
}

/// The words that this program was called with, as a shell reads them.
fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    let quoted = |word: String| {
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    // A run that was gone on with is the same as one that was not.
    let words = std::env::args_os().skip(1).filter(|word| word != "--resume");
    let words = words.map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("gnn-prune".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

pub fn predict(args: &PredictArgs, flags: &ArgMatches) -> Result<()> {
    check_place(&args.out)?;
    let form = Form::of(&args.out)?;
    let model = load(&args.from, &args.network)?;
    let mut said = Vec::new();
    if let Some(source) = Source::served(&args.data, args.refit, &model, &args.from, &mut said)? {
        return match &source {
            Source::Graphs(task) => {
                refuse_answers(flags, TaskKind::Graph)?;
                classify(args, &model, task, form)
            }
            _ => answer(args, &model, &source, form, flags),
        };
    }
    refuse_answers(flags, TaskKind::Node)?;
    // Labels are read for the metric alone: without them there is none.
    let (data, unlabelled) =
        match args.data.open_for(&model, &args.from, Purpose::Measure, &mut said) {
            Ok(data) => (data, None),
            Err(reason) => {
                (args.data.open_for(&model, &args.from, Purpose::Predict, &mut said)?, Some(reason))
            }
        };
    let mut program = model.compiled(&data.whole()?)?;
    let logits = program.run(data.features())?;
    let labels = if data.label_matrix().is_some() { Labels::Several } else { Labels::OneClass };
    files::write_atomically(&args.out, &encode(args.write, logits, labels, form))?;
    wrote(&args.out, args.write.title());
    match unlabelled {
        None => say_metric(logits, &model, &data),
        Some(reason) => {
            let taken = if args.write == Written::Logits {
                ""
            } else {
                "; nodes are taken to have one class each"
            };
            say("metric", &format!("none: {reason}{taken}"));
        }
    }
    remark_on_origin(model.origin(), &data);
    Ok(())
}

/// Refuses what chooses answers where there are classes.
fn refuse_answers(flags: &ArgMatches, kind: TaskKind) -> Result<()> {
    match ["top", "ask"].into_iter().find(|flag| fits::given(flags, flag)) {
        Some(flag) => Err(Failure::OfAnotherTask { flag: flag.into(), task: args::word(kind) }),
        None => Ok(()),
    }
}

/// Writes what a model says of each graph, and its metric.
fn classify(args: &PredictArgs, model: &Compressed, task: &GraphTask, form: Form) -> Result<()> {
    Width::Features.check(model, task.data(), &args.from)?;
    let measured = model.measured(task, Part::Test)?;
    let whole = task.whole()?;
    let mut program = model.compiled(&whole)?;
    let logits = program.run(whole.features())?;
    let bytes = encode(args.write, logits, Labels::OneClass, form);
    files::write_atomically(&args.out, &bytes)?;
    wrote(&args.out, args.write.title());
    let metric = Task::<f32>::metric(task);
    let (value, fold) = (metric.shown(measured.value), model.seed());
    say("metric", &format!("{metric} {value} on the test fold of seed {fold}, the model's"));
    remark_on_origin(model.origin(), task.data());
    Ok(())
}

/// Writes the best answers of a model of links or recommendation, and says its metric.
fn answer(
    args: &PredictArgs,
    model: &Compressed,
    source: &Source,
    form: Form,
    flags: &ArgMatches,
) -> Result<()> {
    if fits::given(flags, "write") {
        let task = "link or recommend".into();
        return Err(Failure::OfAnotherTask { flag: "write".into(), task });
    }
    if form != Form::Csv {
        let problem = "answers are a table, written as .csv; choose this suffix";
        return Err(Failure::Output { path: args.out.clone(), problem });
    }
    check_nodes(model, source, &args.from)?;
    // Before anything is written: it refuses a model that scores no pairs.
    let measured = model.measured(source.task(), Part::Test)?;
    let (bytes, asked) = answers::table(args, model, source)?;
    files::write_atomically(&args.out, &bytes)?;
    wrote(&args.out, &format!("the answers to {asked} queries"));
    let task = source.task();
    let metric = task.metric();
    say("metric", &format!("{metric} {} on the test part", metric.shown(measured.value)));
    remark_on_origin(model.origin(), task.data());
    Ok(())
}

/// Says how good logits are on the test nodes of the model's own split, where the data have labels
/// for them.
fn say_metric(logits: ArrayView2<f32>, model: &Compressed, data: &Dataset) {
    if logits.ncols() != data.num_classes() {
        return remark(&format!(
            "no metric: the model has {} classes, and `{}` has {}",
            logits.ncols(),
            data.name(),
            data.num_classes()
        ));
    }
    let test = data.split(model.seed()).test;
    if test.is_empty() {
        return remark(&format!("no metric: `{}` has no test nodes with labels", data.name()));
    }
    let task = NodeTask::of(data);
    let split = match data.splits() {
        Splits::Fixed(_) => "of the data's split".into(),
        _ => format!("of the split of seed {}, the model's", model.seed()),
    };
    say(
        "metric",
        &format!(
            "{} {} on {} test nodes {split}",
            task.metric(),
            task.metric().shown(task.measured_on(logits, &test)),
            test.len()
        ),
    );
}

/// Reads a model of this crate, or a network of PyTorch, of which it says what was assumed.
fn load(path: &Path, told: &NetworkArgs) -> Result<Compressed> {
    if io::is_own(path) {
        return match (&told.assume, &told.network) {
            (None, None) => Ok(Compressed::load(path)?),
            _ => Err(Failure::NothingToAssume { path: path.into() }),
        };
    }
    let checkpoint = checkpoint(path, told)?;
    remark(&checkpoint.note);
    Ok(Compressed::Float(checkpoint.model))
}

fn checkpoint(path: &Path, told: &NetworkArgs) -> Result<Checkpoint> {
    let assumed = told.assume.clone().unwrap_or_default();
    Ok(match &told.network {
        Some(file) => Checkpoint::read_as(path, &Network::read(file)?, assumed.seed)?,
        None => Checkpoint::read(path, &assumed)?,
    })
}

pub fn export(args: &ExportArgs) -> Result<()> {
    check_place(&args.out)?;
    let Compressed::Float(model) = load(&args.from, &args.network)? else {
        return Err(Failure::NotExported { path: args.from.clone() });
    };
    let exported = export_state(&model, &args.out.to_string_lossy())?;
    exported.tensors.write(&args.out)?;
    wrote(&args.out, "the weights for PyTorch Geometric");
    // The file alone does not say how it is loaded: here a reader that is gone is a mistake.
    print(&exported.python).map_err(|failure| match failure {
        Failure::Stdout(error) => Failure::Listing(error),
        other => other,
    })
}

pub fn inspect(args: &InspectArgs) -> Result<()> {
    Places { json: args.output.json.as_deref(), ..Places::default() }.check()?;
    if args.network_template {
        let network = if io::is_own(&args.file) {
            match load(&args.file, &args.network)? {
                Compressed::Float(model) => Network::of(&model),
                Compressed::Integer(_) => {
                    return Err(Failure::NotExported { path: args.file.clone() });
                }
            }
        } else {
            let checkpoint = checkpoint(&args.file, &args.network)?;
            remark(&checkpoint.note);
            checkpoint.network
        };
        return print(&network.to_string());
    }
    let model = load(&args.file, &args.network)?;
    let document = description(&model);
    let readable = || {
        let (nonzero, bytes, seed) =
            (model.num_nonzero_params(), model.stored_bytes(), model.seed());
        let origin = model.origin().map_or(String::new(), |origin| {
            format!(
                "\ntrained on {}: {} nodes, features by {}",
                origin.data, origin.nodes, origin.features
            )
        });
        format!(
            "{model}{nonzero} parameters are not zero, {bytes} bytes of weights, seed {seed}{origin}\n"
        )
    };
    show(&format!("{document:#}"), readable, args.output.json.as_deref())
}

/// Everything that a model file says, as JSON.
fn description(model: &Compressed) -> serde_json::Value {
    let mut document = serde_json::json!({
        "in_channels": model.in_channels(),
        "out_channels": model.out_channels(),
        "seed": model.seed(),
        "origin": model.origin(),
        "params": model.num_params(),
        "nonzero_params": model.num_nonzero_params(),
        "bytes": { "weights": model.stored_bytes() },
        "version": env!("CARGO_PKG_VERSION"),
    });
    match model {
        Compressed::Float(model) => describe_float(model, &mut document),
        Compressed::Integer(model) => describe_integer(model, &mut document),
    }
    document
}

fn describe_float(model: &Model, document: &mut serde_json::Value) {
    let mut params = Vec::new();
    model.visit(&mut |name, param| {
        let (rows, cols) = param.value().dim();
        params.push(serde_json::json!({ "name": name, "shape": [rows, cols], "masked": param.mask().is_some() }));
    });
    let nodes = model.nodes().iter().map(|node| {
        serde_json::json!({
            "name": node.name(),
            "layer": node.layer().kind(),
            "inputs": node.inputs().iter().map(|&id| model.name_of(id)).collect::<Vec<_>>(),
            "channels": node.channels(),
            "settings": node.layer().attrs(),
        })
    });
    document["nodes"] = nodes.collect();
    document["parameters"] = params.into();
}

fn describe_integer(model: &QuantModel, document: &mut serde_json::Value) {
    let stages = model.stages().iter().map(|stage| {
        let bits = match stage.op() {
            QuantOp::Linear(weight) => Some(weight.bits().count()),
            QuantOp::Embedding(StoredTable::Signs(_)) => Some(1),
            other => other.table().map(|table| table.bits().count()),
        };
        let codes = stage.op().codes();
        serde_json::json!({
            "layer": stage.layer(),
            "inputs": stage.inputs(),
            "channels": stage.width(),
            "weight_bits": bits,
            "codes": codes.map(|codes| codes.spaces()),
            "words": codes.map(|codes| codes.words().shape().0),
            "calibration": stage.calibration().map(|calibration| calibration.to_string()),
        })
    });
    document["stages"] = stages.collect();
    document["input_calibration"] =
        model.input_calibration().map(|calibration| calibration.to_string()).into();
    document["activation_bits"] = model.activation_bits().count().into();
}

pub fn bench(args: &BenchArgs) -> Result<()> {
    Places { json: args.output.json.as_deref(), ..Places::default() }.check()?;
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut models: Vec<(&PathBuf, Compressed)> = Vec::new();
    for path in &args.from {
        models.push((path, load(path, &args.network)?));
    }
    let (path, model) = models.first().expect("`--from` is required");
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    if let Some(source) = Source::served(&args.data, args.refit, model, path, &mut said)? {
        return bench_on(args, source, &models, threads, &mut said);
    }
    let mut tried = Vec::new();
    for (path, model) in models {
        let data = args.data.open_for(&model, path, Purpose::Measure, &mut said)?;
        tried.push((path, model, data));
    }
    for (path, model, data) in &tried {
        let mut program = model.compiled(&data.whole()?)?;
        let logits = program.run(data.features())?;
        let test = data.split(model.seed()).test;
        let accuracy = NodeTask::of(data).measured_on(logits, &test);
        let measured = Measured { value: accuracy, others: Default::default() };
        rows.push(bench_row(path, model, data, measured, threads)?);
    }
    let seeds = tried.iter().map(|(_, model, _)| model.seed()).collect();
    let (.., data) = tried.first().expect("`--from` is required");
    let scaled = tried.iter().map(|(.., data)| data.feature_norm().to_string()).collect();
    show_models(args, data, seeds, rows, scaled)?;
    tried.iter().for_each(|(_, model, data)| remark_on_origin(model.origin(), data));
    Ok(())
}

/// Refuses a model that knows other nodes, as a table does; one that reads features must have as
/// many.
fn check_nodes(model: &Compressed, source: &Source, path: &Path) -> Result<()> {
    let data = source.task().data();
    if !matches!(source, Source::Links(_) | Source::Recommend(_)) {
        return Width::Features.check(model, data, path);
    }
    match model.origin() {
        Some(origin) if origin.nodes != data.num_nodes() => Err(Failure::OtherNodes {
            path: path.into(),
            model: origin.nodes,
            data: data.name().into(),
            found: data.num_nodes(),
        }),
        _ => Ok(()),
    }
}

/// Models beside each other on a task that is not about nodes.
fn bench_on(
    args: &BenchArgs,
    mut source: Source,
    models: &[(&PathBuf, Compressed)],
    threads: usize,
    said: &mut Vec<String>,
) -> Result<()> {
    let (mut rows, mut scaled) = (Vec::new(), BTreeSet::new());
    for (k, (path, model)) in models.iter().enumerate() {
        // Each model sees the features as it was trained on them.
        if k > 0 && matches!(source, Source::Edges(..)) {
            source = Source::served(&args.data, args.refit, model, path, said)?
                .expect("the same data ask the same");
        }
        check_nodes(model, &source, path)?;
        scaled.insert(source.task().data().feature_norm().to_string());
        let measured = model.measured(source.task(), Part::Test)?;
        rows.push(bench_row(path, model, source.task(), measured, threads)?);
    }
    let (task, seeds) = (source.task(), models.iter().map(|(_, model)| model.seed()).collect());
    show_models(args, task, seeds, rows, scaled)?;
    models.iter().for_each(|(_, model)| remark_on_origin(model.origin(), task.data()));
    Ok(())
}

/// What one model is worth, and what it takes.
fn bench_row(
    path: &Path,
    model: &Compressed,
    task: &dyn Task<f32>,
    measured: Measured,
    threads: usize,
) -> Result<Row> {
    let one = |value: f64| Summary::of(vec![value]);
    Ok(Row {
        name: path.display().to_string(),
        metric: task.metric(),
        accuracy: one(measured.value),
        metrics: measured.others.into_iter().map(|(name, value)| (name, one(value))).collect(),
        effort: None,
        account: Account::of(model, task, threads)?,
    })
}

/// Shows models beside each other, on features that were `scaled` in all these ways.
fn show_models(
    args: &BenchArgs,
    task: &dyn Task<f32>,
    seeds: Vec<u64>,
    rows: Vec<Row>,
    scaled: BTreeSet<String>,
) -> Result<()> {
    let mut report =
        Report { command: Some(command_line()), ..Report::of_models(task, seeds, rows) };
    if scaled.len() > 1 {
        let all = scaled.into_iter().collect::<Vec<_>>().join(", ");
        report.data.feature_norm = format!("{all}: each model's own");
    }
    show(&report.to_json(), || table(&report), args.output.json.as_deref())
}

/// A width that a model shares with the data that it runs on.
#[derive(Clone, Copy)]
pub enum Width {
    Features,
    Classes,
}

impl Width {
    /// Refuses a model of another width than the data; `path` is where the model comes from.
    pub fn check(self, model: &Compressed, data: &Dataset, path: &Path) -> Result<()> {
        let (what, width, found) = match self {
            Width::Features => ("features", model.in_channels(), data.num_features()),
            Width::Classes => ("classes", model.out_channels(), data.num_classes()),
        };
        if width == found {
            return Ok(());
        }
        let trained = model.origin().map_or(String::new(), |origin| format!(", `{}`", origin.data));
        Err(Failure::Misfit {
            path: path.into(),
            what,
            model: width,
            data: data.name().into(),
            found,
            trained,
        })
    }
}

/// Says so where a model now runs on other data than it was trained on, which is no mistake; after
/// the work, so that a mistake stays one line.
fn remark_on_origin(origin: Option<&Origin>, data: &Dataset) {
    if let Some(Origin { data: name, nodes, .. }) =
        origin.filter(|origin| origin.data != data.name() || origin.nodes != data.num_nodes())
    {
        remark(&format!(
            "the model was trained on `{name}` with {nodes} nodes; this is `{}` with {}",
            data.name(),
            data.num_nodes()
        ));
    }
}

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::built(), "gnn-prune", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn man(args: &ManArgs) -> Result<()> {
    let mut whole = args::built();
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => match whole.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let known = whole
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(Failure::NoCommand { name: name.clone(), known });
            }
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(format!("gnn-prune {}", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(Failure::Stdout)?;
    print(&String::from_utf8_lossy(&page))
}
