//! Reads a case with the entry points of the crate, and uses what came out.

use super::case::{Case, Kind};
use super::laws::{Found, Lawful, broken, said, within};
use super::models::planned;
use super::uses;
use gnn_prune::data::{FeatureNorm, Purpose, SplitSource};
use gnn_prune::files::Tensors;
use gnn_prune::io::pyg::{Assumptions, Checkpoint, InnerForm, Network, add_module, layer_from};
use gnn_prune::nn::{Aggregation, Attrs, ModelBuilder, NodeId, Registry};
use gnn_prune::quant::Calibration;
use gnn_prune::{
    Bits, Calibrate, ChannelPlan, Compressed, Controls, Dataset, LayerPlan, Model, QuantModel,
    Recipe, WeightPlan,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads the case from a folder that holds its files; `number` chooses between ways to use it.
pub fn read(kind: Kind, case: &Case, folder: &Path, number: u64) -> Lawful<Found> {
    let path = folder.join(case.name());
    let choice = number >> 8;
    let found = match kind {
        Kind::Model | Kind::Quant => match within(case.bytes(), || Compressed::load(&path))? {
            Some(Compressed::Float(model)) => Some(uses::model(&model, folder, choice)?),
            Some(Compressed::Integer(model)) => Some(uses::integers(&model, folder)?),
            None => neither(case, &path, folder)?,
        },
        Kind::Checkpoint => checkpoint(case, &path, folder, choice)?,
        Kind::Network => network(case, &path, folder, choice)?,
        Kind::Layer => layer(case, &path, folder, choice)?,
        Kind::Npz | Kind::Csv | Kind::Tensors => dataset(case, &path, choice)?,
        Kind::Pt => pickle(case, &path, choice)?,
        Kind::Ogb => dataset(case, folder, choice)?,
        Kind::Plan => plan(case)?,
        Kind::Recipe => within(case.bytes(), || Recipe::read(&path))?
            .map(|recipe| drop((recipe.words(), recipe.is_empty()))),
        Kind::Words => words(case, choice)?,
    };
    Ok(if found.is_some() { Found::Read } else { Found::Refused })
}

/// What the reader of models of single precision and of integers refuses: a model of double
/// precision, or nothing that one of its parts takes.
fn neither(case: &Case, path: &Path, folder: &Path) -> Lawful<Option<()>> {
    if within(case.bytes(), || Model::load(path))?.is_some()
        || within(case.bytes(), || QuantModel::load(path))?.is_some()
    {
        return broken("one reader takes what the reader of both refuses", "");
    }
    match within(case.bytes(), || Model::<f64>::load_with(path, &Registry::standard()))? {
        Some(model) => uses::doubles(&model, folder).map(Some),
        None => Ok(None),
    }
}

fn checkpoint(case: &Case, path: &Path, folder: &Path, choice: u64) -> Lawful<Option<()>> {
    let Some(assumed) = said(case.text("assume.txt").parse::<Assumptions>())? else {
        return Ok(None);
    };
    let looks = within(case.bytes(), || Ok::<_, String>(!gnn_prune::io::is_own(path)))?;
    let Some(found) = within(case.bytes(), || Checkpoint::read(path, &assumed))? else {
        return Ok(None);
    };
    if looks != Some(true) || found.note.is_empty() || found.note.contains('\n') {
        return broken(
            "a checkpoint that is read looks like one and has a note of one line",
            format!("{:?}", found.note),
        );
    }
    uses::model(&found.model, folder, choice).map(Some)
}

/// A network file, which writes itself, and the state dict that it lists; or a state dict that has
/// one inside.
fn network(case: &Case, path: &Path, folder: &Path, choice: u64) -> Lawful<Option<()>> {
    let listed = folder.join("net.toml");
    let found = if listed.is_file() {
        let Some(network) = within(case.bytes(), || Network::read(&listed))? else {
            return Ok(None);
        };
        if said(network.to_string().parse::<Network>())? != Some(network.clone()) {
            return broken("a network file that was read writes itself and reads that", network);
        }
        within(case.bytes(), || Checkpoint::read_as(path, &network, 0))?
    } else {
        within(case.bytes(), || Checkpoint::read(path, &Assumptions::default()))?
    };
    match found {
        Some(found) => uses::model(&found.model, folder, choice).map(Some),
        None => Ok(None),
    }
}

fn layer(case: &Case, path: &Path, folder: &Path, choice: u64) -> Lawful<Option<()>> {
    let Some(mut tensors) = within(case.bytes(), || Tensors::read(path))? else { return Ok(None) };
    let metadata = std::mem::take(&mut tensors.metadata);
    let (Some(kind), Some(attrs)) = (metadata.get("kind"), metadata.get("attrs")) else {
        return Ok(None);
    };
    let Some(attrs) = said(serde_json::from_str::<Attrs>(attrs).map_err(in_line))? else {
        return Ok(None);
    };
    if within(case.bytes(), || layer_from(kind, &attrs, &tensors))?.is_none() {
        return Ok(None);
    }
    let mut builder = ModelBuilder::new(3);
    let inputs = vec![NodeId::INPUT; if kind == "gcn2_conv" { 2 } else { 1 }];
    let added = within(case.bytes(), || {
        add_module(&mut builder, "layer", kind, &attrs, &tensors, &InnerForm::default(), &inputs)
    })?;
    let Some(output) = added else { return Ok(None) };
    match said(builder.build_as_is(output))? {
        Some(model) => uses::model(&model, folder, choice).map(Some),
        None => Ok(None),
    }
}

/// Tensors are whole and finite, and the file says their order; where they are a graph, it is read
/// as one.
fn pickle(case: &Case, path: &Path, choice: u64) -> Lawful<Option<()>> {
    let Some(tensors) = within(case.bytes(), || Tensors::read(path))? else { return Ok(None) };
    let floats =
        tensors.floats.iter().map(|(name, array)| (name, &array.shape, array.values.len()));
    let integers =
        tensors.integers.iter().map(|(name, (shape, values))| (name, shape, values.len()));
    let mut names = Vec::new();
    for (name, shape, len) in floats.chain(integers) {
        if shape.iter().product::<usize>() != len {
            return broken(
                "a tensor has as many numbers as its shape says",
                format!("{name}: {shape:?} and {len}"),
            );
        }
        names.push(name.as_str());
    }
    if let Some((name, _)) =
        tensors.floats.iter().find(|(_, array)| array.values.iter().any(|value| !value.is_finite()))
    {
        return broken("a number that is read is finite", name);
    }
    let mut order: Vec<String> = json_of(&tensors, "pt.order")?;
    order.sort();
    names.sort_unstable();
    if order != names
        || tensors
            .metadata
            .values()
            .any(|text| serde_json::from_str::<serde_json::Value>(text).is_err())
    {
        return broken(
            "the metadata are JSON and name every tensor",
            format!("{names:?} and {order:?}"),
        );
    }
    if tensors.integers.contains_key("edge_index") {
        dataset(case, path, choice)?;
    }
    Ok(Some(()))
}

fn json_of<T: DeserializeOwned>(tensors: &Tensors, key: &str) -> Lawful<T> {
    match tensors.metadata.get(key).map(|text| serde_json::from_str(text)) {
        Some(Ok(value)) => Ok(value),
        other => broken(
            "the metadata have what is promised",
            format!("{key}: {:?}", other.map(|found| found.map(|_| ()))),
        ),
    }
}

fn dataset(case: &Case, path: &Path, choice: u64) -> Lawful<Option<()>> {
    let norms = [FeatureNorm::L1, FeatureNorm::L2, FeatureNorm::Binary, FeatureNorm::Raw];
    let reader = Dataset::reader(path);
    let reader = match norms.get(choice as usize % 8) {
        Some(norm) => reader.features(*norm),
        None => reader,
    };
    let reader = match choice / 8 % 4 {
        2 => reader.purpose(Purpose::Predict),
        3 => reader.purpose(Purpose::Measure),
        _ => reader,
    };
    let split = path.with_file_name("split.csv");
    let reader = if split.is_file() { reader.split(SplitSource::File(split)) } else { reader };
    match within(case.bytes(), || reader.read())? {
        Some(data) => uses::dataset(&data, choice).map(Some),
        None => Ok(None),
    }
}

fn plan(case: &Case) -> Lawful<Option<()>> {
    let model = planned().expect("its settings are legal");
    let Some((name, bytes)) = case.files.first() else { return Ok(None) };
    Ok(match name.as_str() {
        "channels.json" => match json::<ChannelPlan>(bytes)? {
            Some(plan) => {
                let shown = plan.to_string().len() + plan.criterion().len() + plan.groups().len();
                let changed = [said(plan.shrink(&model))?, said(plan.mask(&model))?];
                changed.into_iter().flatten().try_for_each(|model| uses::run(&model))?;
                (shown > 0).then_some(())
            }
            None => None,
        },
        "weights.json" => match json::<WeightPlan>(bytes)? {
            Some(plan) => {
                let _ = (plan.to_string(), plan.num_weights(), plan.num_kept());
                said(plan.apply(&model))?.map_or(Ok(()), |model| uses::run(&model))?;
                Some(())
            }
            None => None,
        },
        "layers.json" => match json::<LayerPlan>(bytes)? {
            Some(plan) => {
                let _ = (plan.to_string(), plan.removed().len());
                said(plan.shrink(&model))?.map_or(Ok(()), |model| uses::run(&model))?;
                Some(())
            }
            None => None,
        },
        "calibration.json" => json::<Calibration>(bytes)?.map(|calibration| {
            let _ = (
                calibration.range(&[1.0, -2.0, 0.0]),
                calibration.range(&[]),
                calibration.range(&[0.0; 3]),
            );
        }),
        "attrs.json" => match json::<Attrs>(bytes)? {
            Some(attrs) => said(attrs.get::<usize>("heads").or(attrs.get_or("norm", 0)))?
                .map(|_| ())
                .or(Some(())),
            None => None,
        },
        _ => json::<Bits>(bytes)?.map(|bits| drop(bits.to_string())),
    })
}

/// What another crate says of a file, which is not held to be one line.
fn in_line(error: serde_json::Error) -> String {
    error.to_string().escape_debug().to_string()
}

/// Reads a value, which writes and reads itself to the same text.
fn json<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Lawful<Option<T>> {
    let Some(found) = within(bytes.len(), || serde_json::from_slice::<T>(bytes).map_err(in_line))?
    else {
        return Ok(None);
    };
    let write = |value: &T| serde_json::to_string(value).map_err(|error| error.to_string());
    let first = write(&found);
    let again = first
        .clone()
        .and_then(|text| serde_json::from_str::<T>(&text).map_err(|error| error.to_string()))
        .and_then(|value| write(&value));
    if first.is_err() || first != again {
        return broken(
            "a plan that was read writes itself and reads that",
            format!("{first:?} and {again:?}"),
        );
    }
    Ok(Some(found))
}

fn words(case: &Case, choice: u64) -> Lawful<Option<()>> {
    let Some((name, bytes)) = case.files.first() else { return Ok(None) };
    let text = String::from_utf8_lossy(bytes);
    Ok(match name.as_str() {
        "dataset.txt" => match said(Dataset::open(&text, None))? {
            Some(data) => Some(uses::dataset(&data, choice)?),
            None => None,
        },
        "assume.txt" => said(text.parse::<Assumptions>())?.map(drop),
        "stages.txt" => {
            let pairs: Vec<(&str, &str)> =
                text.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
            let is_stage = |(word, _): &(&str, &str)| {
                !["criterion", "scope", "calibrate", "act-bits", "qat"].contains(word)
            };
            let (stages, qualifiers): (Vec<_>, Vec<_>) = pairs.into_iter().partition(is_stage);
            said(Recipe::from_words(&stages, &qualifiers))?.map(|recipe| drop(recipe.words()))
        }
        "norm.txt" => said(text.parse::<FeatureNorm>())?.map(drop),
        "controls.txt" => said(text.parse::<Controls>())?.map(drop),
        "calibrate.txt" => said(text.parse::<Calibrate>())?.map(drop),
        _ => said(text.parse::<Aggregation>())?.map(drop),
    })
}
