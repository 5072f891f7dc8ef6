//! The layers of floats that become stages on rows.

use super::decoder::QuantDecoder;
use super::table::QuantTable;
use crate::error::{Error, Result, Unsupported};
use crate::nn::{
    Decoder, Embedding, Evaluated, Layer, Model, Node, Normalize, Opaque, Param, ParamId,
    Registered,
};
use crate::quant::bits::Bits;
use crate::quant::model::QuantOp;
use crate::quant::settings::{Rounding, Settings};
use std::any::Any;
use std::collections::BTreeMap;

/// A table of fewer than 8 bits with at most this share of all parameters has 8 bits: that of the
/// relations, which has next to no bytes and which every query is made with.
const SMALL: f64 = 1.0 / 16.0;

fn layer_of<L: Layer<f32>>(operation: &dyn Opaque<f32>) -> Option<&L> {
    let operation: &dyn Any = operation;
    operation.downcast_ref::<Evaluated<L>>().map(Evaluated::layer)
}

/// Whether an operation has a stage on rows.
pub(in crate::quant) fn is_known(operation: &dyn Opaque<f32>) -> bool {
    layer_of::<Embedding>(operation).is_some()
        // One that reads relations beside the nodes has no table of them.
        || layer_of::<Decoder>(operation).is_some_and(|decoder| !decoder.is_shared())
        || layer_of::<Normalize>(operation).is_some()
}

/// The stage of an operation, where it has one.
pub(in crate::quant) fn of_layer(
    operation: &dyn Opaque<f32>,
    widths: &BTreeMap<ParamId, Bits>,
    settings: Settings,
) -> Option<QuantOp> {
    let table = |param: &Param<f32>| quantised(param, widths, settings);
    if let Some(embedding) = layer_of::<Embedding>(operation) {
        let mut found = None;
        embedding.visit(&mut |param| found = Some(table(param)));
        return found.map(QuantOp::Embedding);
    }
    let decoder = layer_of::<Decoder>(operation).filter(|decoder| !decoder.is_shared());
    if let Some(decoder) = decoder {
        let relations = decoder.relations().map(table);
        return Some(QuantOp::Decoder(QuantDecoder { form: decoder.form(), relations }));
    }
    layer_of::<Normalize>(operation).map(|_| QuantOp::Normalize)
}

fn quantised(
    param: &Param<f32>,
    widths: &BTreeMap<ParamId, Bits>,
    settings: Settings,
) -> QuantTable {
    let bits = widths.get(&param.id()).copied().unwrap_or(settings.weights);
    let ranges = if settings.rounding == Rounding::Nearest { 1 } else { usize::MAX };
    QuantTable::rounded(param.value().view(), bits, ranges)
}

fn has_table(node: &Node<f32>) -> bool {
    let kind = node.layer().kind();
    kind == <Embedding as Registered<f32>>::KIND || kind == <Decoder as Registered<f32>>::KIND
}

/// The width of each table of a model.
pub(in crate::quant) fn widths(model: &Model, bits: Bits) -> BTreeMap<ParamId, Bits> {
    let all = model.num_params() as f64;
    let mut widths = BTreeMap::new();
    for node in model.nodes().iter().filter(|node| has_table(node)) {
        node.layer().visit(&mut |param| {
            let small = param.value().len() as f64 <= SMALL * all;
            widths.insert(param.id(), if small { Bits::Eight } else { bits });
        });
    }
    widths
}

/// A copy whose tables are those that the integers stand for.
pub(in crate::quant) fn on_grid(mut model: Model, settings: Settings) -> Model {
    let widths = widths(&model, settings.weights);
    model.visit_mut(&mut |param| {
        if widths.contains_key(&param.id()) {
            *param.value_mut() = quantised(param, &widths, settings).to_floats();
        }
    });
    model
}

/// Refuses a model with stages on rows where it is to be trained on the grid: nothing is rounded
/// there row by row.
pub(in crate::quant) fn refuse_training(model: &Model) -> Result<()> {
    let normalize = <Normalize as Registered<f32>>::KIND;
    let of_rows = |node: &&Node<f32>| has_table(node) || node.layer().kind() == normalize;
    match model.nodes().iter().find(of_rows) {
        None => Ok(()),
        Some(node) => Err(Error::Unsupported(Unsupported {
            layer: node.name().into(),
            reason: "there is no training on the grid of a table; quantise it without epochs"
                .into(),
        })),
    }
}
