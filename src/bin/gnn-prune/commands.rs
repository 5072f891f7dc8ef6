//! What each command does, through the public API of the library alone.

use crate::args::{BenchArgs, CompressArgs, ControlsKind, InspectArgs, PredictArgs, TrainArgs};
use crate::output::{bar, show};
use crate::stages::Stage;
use gnn_prune::report::{Account, Row, Summary};
use gnn_prune::train::{Metric, evaluate};
use gnn_prune::{Compression, Controls, Error, Model, Report, Result, files, io};
use std::path::Path;

pub fn train(args: &TrainArgs) -> Result<()> {
    let data = args.data.open()?;
    check_folder(args.out.as_deref())?;
    let form = args.model.form(&data)?;
    let compression = Compression::train(form, args.model.trainer()?, args.seeds, &data)?;
    run(compression.controls(Controls::None), args.out.as_deref(), None, args.output.json.as_deref())
}

pub fn compress(args: &CompressArgs, stages: Vec<Stage>) -> Result<()> {
    check_folder(args.out.as_deref())?;
    check_folder(args.report.as_deref())?;
    if let Some(path) = args.report.as_deref().filter(|path| path.extension().is_none_or(|suffix| suffix != "md")) {
        return Err(Error::File { path: path.into(), problem: "a report is written as .md".into() });
    }
    let steps = stages.iter().map(|stage| stage.step(args.criterion, args.scope)).collect::<Result<Vec<_>>>()?;
    let data;
    let compression = match &args.from {
        Some(path) => {
            if args.seeds != 1 {
                let legal = "left out with `--from`: the model has one seed of its own";
                return Err(Error::Setting { name: "--seeds".into(), value: args.seeds.to_string(), legal: legal.into() });
            }
            let model = Model::load(path)?;
            data = args.data.open_for(&model)?;
            Compression::of(model, &data)
        }
        None => {
            data = args.data.open()?;
            Compression::train(args.model.form(&data)?, args.model.trainer()?, args.seeds, &data)?
        }
    };
    let controls = if args.controls == ControlsKind::All { Controls::All } else { Controls::None };
    let compression = steps.into_iter().fold(compression.controls(controls), Compression::boxed_step);
    run(compression, args.out.as_deref(), args.report.as_deref(), args.output.json.as_deref())
}

fn run(compression: Compression, out: Option<&Path>, report: Option<&Path>, json: Option<&Path>) -> Result<()> {
    let (bar, listen) = bar();
    let outcome = compression.on_progress(listen).run();
    bar.finish_and_clear();
    let outcome = outcome?;
    out.map_or(Ok(()), |path| outcome.model.save(path))?;
    report.map_or(Ok(()), |path| outcome.report.write_markdown(path))?;
    show(&outcome.report, json)
}

pub fn predict(args: &PredictArgs) -> Result<()> {
    check_folder(Some(&args.out))?;
    let model = Model::load(&args.from)?;
    let data = args.data.open_for(&model)?;
    let mut program = model.compile(data.graph(), data.features())?;
    let logits = program.run(data.features())?;
    let mut bytes = Vec::new();
    ndarray_npy::WriteNpyExt::write_npy(&logits, &mut bytes)
        .map_err(|error| Error::File { path: args.out.clone(), problem: error.to_string() })?;
    files::write_atomically(&args.out, &bytes)
}

pub fn inspect(args: &InspectArgs) -> Result<()> {
    let model = Model::load(&args.file)?;
    let mut params = Vec::new();
    model.visit(&mut |name, param| {
        let (rows, cols) = param.value().dim();
        params.push(serde_json::json!({ "name": name, "shape": [rows, cols], "masked": param.mask().is_some() }));
    });
    let nodes = model.nodes().iter().map(|node| {
        let inputs: Vec<&str> = node.inputs().iter().map(|&id| model.name_of(id)).collect();
        serde_json::json!({ "name": node.name(), "layer": node.layer().kind(), "inputs": inputs, "channels": node.channels(), "settings": node.layer().attrs() })
    });
    let document = serde_json::json!({
        "in_channels": model.in_channels(),
        "out_channels": model.out_channels(),
        "seed": model.seed(),
        "origin": model.origin(),
        "params": model.num_params(),
        "nonzero_params": model.num_nonzero_params(),
        "bytes": { "weights": io::stored_bytes(&model) },
        "nodes": nodes.collect::<Vec<_>>(),
        "parameters": params,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let text = format!("{document:#}");
    match args.output.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{text}"),
        path => {
            path.map_or(Ok(()), |path| files::write_atomically(path, text.as_bytes()))?;
            print!("{model}");
            println!(
                "  {} non-zero parameters, {} bytes of weights, seed {}",
                model.num_nonzero_params(),
                io::stored_bytes(&model),
                model.seed()
            );
            if let Some(origin) = model.origin() {
                println!("  trained on {} ({} nodes, {} features)", origin.data, origin.nodes, origin.features);
            }
        }
    }
    Ok(())
}

pub fn bench(args: &BenchArgs) -> Result<()> {
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if threads == 0 {
        return Err(Error::Setting { name: "--threads".into(), value: "0".into(), legal: "at least 1".into() });
    }
    let models = args.from.iter().map(Model::load).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    let mut seeds = Vec::new();
    let mut data = None;
    for (path, model) in args.from.iter().zip(&models) {
        let own = args.data.open_for(model)?;
        let metric = evaluate(model, &own, &own.split(model.seed()).test)?;
        let account = Account::of(model, own.graph(), &own.features(), threads)?;
        rows.push(Row { name: path.display().to_string(), metric: Metric::of(&own), accuracy: Summary::of(vec![metric]), account });
        seeds.push(model.seed());
        data.get_or_insert(own);
    }
    let data = data.expect("`--from` is required");
    show(&Report::new(&data, seeds, rows), args.output.json.as_deref())
}

/// A long run must not end with a folder that is not there.
fn check_folder(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() { Ok(()) } else { Err(Error::File { path: path.into(), problem: "its folder does not exist".into() }) }
}
