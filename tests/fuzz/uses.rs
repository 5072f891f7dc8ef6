//! A little of what a program does with what it read.

use super::laws::{Lawful, broken, said};
use super::models::NODES;
use gnn_prune::data::Splits;
use gnn_prune::io::{self, pyg};
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Cx, Queries, Query, Registry, RowSpace, Rows};
use gnn_prune::quant::{Forms, QuantOp, Rounding};
use gnn_prune::task::{Part, evaluate};
use gnn_prune::testing::{random_dense, random_plan, random_sparse};
use gnn_prune::{
    Bits, Dataset, Gat, Gcn, Graph, Model, OneShot, QuantModel, Quantizer, Scalar, Split, Trainer,
    Value,
};
use std::path::Path;

/// Channels beyond which a run would take memory that the file may well ask for.
const MOST_CHANNELS: usize = 1 << 16;
/// Numbers of a data set's features and logits beyond which a run takes longer than it tells.
const MOST_NUMBERS: usize = 1 << 22;
/// Features beyond which least squares takes seconds.
const MOST_PRESSED: usize = 256;
/// Graphs of the batch that its nodes make, one of them without any.
const GRAPHS: usize = 4;
/// What a sparse and what a dense input is drawn from.
const SEED: u64 = 1;

/// Small, directed, with everything that a layer may ask an edge for.
fn graph() -> Graph {
    let edges = [(0, 1), (1, 2), (2, 0), (3, 0), (0, 3), (2, 2)];
    let features =
        Array2::from_shape_fn((edges.len(), 3), |(edge, column)| edge as f32 - column as f32);
    let graph = Graph::builder(NODES)
        .edges(edges)
        .edge_features(features)
        .edge_types(vec![0, 1, 2, 0, 1, 2]);
    graph.build().expect("its edges lie between its nodes")
}

fn is_small<F: Scalar>(model: &Model<F>) -> bool {
    let widths = model.nodes().iter().map(|node| node.channels());
    widths.chain([model.in_channels()]).fold(0usize, usize::saturating_add) <= MOST_CHANNELS
}

pub fn model(model: &Model, folder: &Path, choice: u64) -> Lawful<()> {
    let _ = (
        model.to_string(),
        model.num_params(),
        model.num_nonzero_params(),
        io::stored_bytes(model),
    );
    saved_alike(
        folder,
        |path| model.save(path),
        |path| {
            let again = Model::load(path)?;
            again.save(path)
        },
    )?;
    if !is_small(model) {
        return Ok(());
    }
    run(model)?;
    if let Some(plan) = said(random_plan(choice, model))? {
        let changed = [said(plan.shrink(model))?, said(plan.mask(model))?];
        changed.into_iter().flatten().try_for_each(|model| run(&model))?;
    }
    said(pyg::export(model, "state.safetensors"))?;
    let x = random_dense::<f32>(SEED, (NODES, model.in_channels()));
    let split = Split { train: vec![0, 1], val: vec![2], test: vec![3, 4] };
    let classes = model.out_channels().max(2);
    let data = said(Dataset::new(
        "tiny",
        graph(),
        x,
        vec![0, 1, 0, 1, 0],
        Some(classes),
        Splits::Fixed(split),
    ))?;
    match (data, choice % 8) {
        // What takes longest in some cases only.
        (Some(data), 0 | 1) => quantised(model, &data, folder),
        (Some(data), 2) => trained(model.clone(), &data),
        (Some(data), 3) => pressed(model, &data, folder),
        _ => Ok(()),
    }
}

/// A model of double precision, which no integers are made of.
pub fn doubles(model: &Model<f64>, folder: &Path) -> Lawful<()> {
    saved_alike(
        folder,
        |path| model.save(path),
        |path| {
            let again = Model::<f64>::load_with(path, &Registry::standard())?;
            again.save(path)
        },
    )?;
    if is_small(model) {
        let x = random_dense::<f64>(SEED, (NODES, model.in_channels()));
        said(model.infer(&Cx::eval(&graph().cast()), x.view()))?;
    }
    Ok(())
}

/// An epoch of training on.
fn trained(model: Model, data: &Dataset) -> Lawful<()> {
    let trainer = Trainer::builder().epochs(1).build().expect("one epoch is legal");
    match said(trainer.fit(model, data))? {
        Some(model) => run(&model),
        None => Ok(()),
    }
}

/// Fewer channels, fewer weights and fewer bits by least squares.
fn pressed(model: &Model, data: &Dataset, folder: &Path) -> Lawful<()> {
    if model.in_channels() > MOST_PRESSED {
        return Ok(());
    }
    let one_shot =
        OneShot::builder().channels(0.5).weights(0.5).build().expect("half of everything is legal");
    match said(one_shot.compress(model, data))? {
        Some(small) => integers(&small, folder),
        None => Ok(()),
    }
}

/// Inference, the compiled program, and inference on a sparse input.
pub fn run(model: &Model) -> Lawful<()> {
    if !is_small(model) {
        return Ok(());
    }
    let graph = graph();
    let shape = (NODES, model.in_channels());
    let (dense, sparse) = (random_dense::<f32>(SEED, shape), random_sparse::<f32>(SEED, shape));
    for x in [dense.view(), sparse.view()] {
        let out = said(model.infer(&Cx::eval(&graph), x.reborrow()))?;
        let compiled = said(
            model
                .compile(&graph, x.reborrow())
                .and_then(|mut program| program.run(x.reborrow()).map(|out| out.dim())),
        )?;
        let rows = match model.rows_of(model.output()) {
            RowSpace::Relations(count) => count as usize,
            _ => NODES,
        };
        let expected = (rows, model.out_channels());
        if out.is_some_and(|out| out.dim() != expected)
            || compiled.is_some_and(|shape| shape != expected)
        {
            return broken("a model puts out what it says", format!("expected {expected:?}"));
        }
    }
    Ok(())
}

fn quantised(model: &Model, data: &Dataset, folder: &Path) -> Lawful<()> {
    if model.in_channels() > MOST_PRESSED {
        return Ok(());
    }
    for rounding in [Rounding::Nearest, Rounding::Compensated] {
        let quantizer = Quantizer::builder(Bits::Four)
            .rounding(rounding)
            .build()
            .expect("its settings are legal");
        if let Some(small) = said(quantizer.quantize(model, data))? {
            integers(&small, folder)?;
        }
    }
    Ok(())
}

pub fn integers(model: &QuantModel, folder: &Path) -> Lawful<()> {
    let _ =
        (model.to_string(), model.num_params(), model.num_nonzero_params(), model.stored_bytes());
    saved_alike(
        folder,
        |path| model.save(path),
        |path| {
            let again = QuantModel::load(path)?;
            again.save(path)
        },
    )?;
    let widths = model.stages().iter().map(|stage| stage.width());
    if widths.chain([model.in_channels()]).fold(0usize, usize::saturating_add) > MOST_CHANNELS {
        return Ok(());
    }
    let graph = graph();
    let shape = (NODES, model.in_channels());
    let (dense, sparse) = (random_dense::<f32>(SEED, shape), random_sparse::<f32>(SEED, shape));
    let rows = Rows::new().graphs(vec![2, 0, 2, 3, 0], GRAPHS).expect("its graphs are there");
    let pools = model.stages().iter().any(|stage| matches!(stage.op(), QuantOp::Pool(_)));
    let count = if pools { GRAPHS } else { NODES };
    for x in [&dense, &sparse] {
        for forms in [Forms::Fastest, Forms::Integers, Forms::Floats] {
            said(model.compile_as(&graph, x.view(), forms).map(drop))?;
            let run = |x: &Value<f32>| {
                let mut program = model.compile_within_as(&graph, x.view(), &rows, forms)?;
                program.run(x.view()).map(|out| out.dim())
            };
            if said(run(x))?.is_some_and(|shape| shape != (count, model.out_channels())) {
                return broken("a model puts out what it says", format!("{forms:?}"));
            }
            let asked = [Query { node: 1, relation: 0, inverse: true }; 2].to_vec();
            let pairs = Queries::among(asked, 1..NODES as u32).expect("its nodes are there");
            let pairs = Rows::new().queries(pairs);
            said((|| {
                let mut program = model.compile_within_as(&graph, x.view(), &pairs, forms)?;
                program.run(x.view()).map(drop)
            })())?;
        }
    }
    Ok(())
}

/// What was read can be saved, what was saved can be read, and then saves to the same bytes.
fn saved_alike(
    folder: &Path,
    save: impl FnOnce(&Path) -> gnn_prune::Result<()>,
    load_and_save: impl FnOnce(&Path) -> gnn_prune::Result<()>,
) -> Lawful<()> {
    const LAW: &str = "what was read saves, loads and saves to the same bytes";
    let path = folder.join("again.safetensors");
    let bytes = |path: &Path| std::fs::read(path).unwrap_or_default();
    if let Err(error) = save(&path) {
        return broken(LAW, format!("first: {error}"));
    }
    let first = bytes(&path);
    if let Err(error) = load_and_save(&path) {
        return broken(LAW, format!("again: {error}"));
    }
    if first == bytes(&path) { Ok(()) } else { broken(LAW, "the bytes differ") }
}

pub fn dataset(data: &Dataset, choice: u64) -> Lawful<()> {
    let split = data.split(0);
    let nodes = data.num_nodes();
    if [&split.train, &split.val, &split.test]
        .into_iter()
        .flatten()
        .any(|&node| node as usize >= nodes)
        || data.labels().len() != nodes
    {
        return broken("splits and labels are of the nodes", nodes);
    }
    if nodes.saturating_mul(data.num_features().max(data.num_classes())) > MOST_NUMBERS
        || data.num_features() > MOST_CHANNELS
    {
        return Ok(());
    }
    let (features, classes, cx) = (data.num_features(), data.num_classes(), Cx::eval(data.graph()));
    if let Some(edges) = data.graph().edge_features().filter(|edges| edges.ncols() <= MOST_CHANNELS)
    {
        let model = Gat::builder(features, classes).hidden(4).edge_dim(edges.ncols()).build(0);
        said(model.and_then(|model| model.infer(&cx, data.features())))?;
    }
    match said(Gcn::builder(features, classes).hidden(4).build(0))? {
        Some(model) => {
            said(model.infer(&cx, data.features()))?;
            if choice.is_multiple_of(4) { trained_on(model, data) } else { Ok(()) }
        }
        None => Ok(()),
    }
}

fn trained_on(model: Model, data: &Dataset) -> Lawful<()> {
    let trainer = Trainer::builder().epochs(1).build().expect("one epoch is legal");
    let Some(model) = said(trainer.fit(model, data))? else { return Ok(()) };
    said(evaluate(&model, data, Part::Test)).map(drop)
}
