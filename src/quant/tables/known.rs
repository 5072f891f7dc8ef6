//! The layers of floats that become stages on rows.

use super::codes::{CodeTable, ProductCodes};
use super::decoder::QuantDecoder;
use super::signs::SignTable;
use super::store::TableStore;
use super::stored::StoredTable;
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

/// What a table is stored as.
#[derive(Debug, Clone, Copy)]
pub(in crate::quant) enum TableForm {
    Bits(Bits),
    /// Codes, drawn by a seed.
    Codes(ProductCodes, u64),
    Signs(usize),
}

/// What each table of a model is stored as, and those that are stored already.
#[derive(Debug)]
pub(in crate::quant) struct TableForms<'a> {
    pub(in crate::quant) forms: BTreeMap<ParamId, TableForm>,
    pub(in crate::quant) ready: &'a BTreeMap<ParamId, StoredTable>,
}

impl TableForms<'_> {
    fn form(&self, param: &Param<f32>, settings: Settings) -> TableForm {
        self.forms.get(&param.id()).copied().unwrap_or(TableForm::Bits(settings.weights))
    }

    /// A table of nodes.
    fn stored(&self, param: &Param<f32>, settings: Settings) -> Result<StoredTable> {
        if let Some(ready) = self.ready.get(&param.id()) {
            return Ok(ready.clone());
        }
        Ok(match self.form(param, settings) {
            TableForm::Codes(how, seed) => {
                StoredTable::Codes(CodeTable::of(param.value().view(), how, seed)?)
            }
            TableForm::Signs(parts) => {
                StoredTable::Signs(SignTable::of(param.value().view(), parts))
            }
            TableForm::Bits(_) => StoredTable::Ints(self.ints(param, settings)),
        })
    }

    fn ints(&self, param: &Param<f32>, settings: Settings) -> QuantTable {
        let bits = match self.form(param, settings) {
            TableForm::Bits(bits) => bits,
            _ => settings.weights,
        };
        let ranges = if settings.rounding == Rounding::Nearest { 1 } else { usize::MAX };
        QuantTable::rounded(param.value().view(), bits, ranges)
    }
}

/// The stage of an operation that [is known](is_known).
pub(in crate::quant) fn of_layer(
    operation: &dyn Opaque<f32>,
    tables: &TableForms,
    settings: Settings,
) -> Result<QuantOp> {
    if let Some(embedding) = layer_of::<Embedding>(operation) {
        let mut found = None;
        embedding.visit(&mut |param| found = Some(tables.stored(param, settings)));
        return Ok(QuantOp::Embedding(found.expect("an embedding has a table")?));
    }
    let decoder = layer_of::<Decoder>(operation).filter(|decoder| !decoder.is_shared());
    if let Some(decoder) = decoder {
        let relations = decoder.relations().map(|param| tables.ints(param, settings));
        return Ok(QuantOp::Decoder(QuantDecoder { form: decoder.form(), relations }));
    }
    Ok(QuantOp::Normalize)
}

fn has_table(node: &Node<f32>) -> bool {
    let kind = node.layer().kind();
    kind == <Embedding as Registered<f32>>::KIND || kind == <Decoder as Registered<f32>>::KIND
}

/// What each table of a model is stored as. A table that is small beside the whole has 8 bits, and
/// neither codes nor signs.
///
/// # Errors
/// [`Error::Setting`] for codes or signs that a table cannot have, and [`Error::Unsupported`] where
/// they are asked for and no table is large enough.
pub(in crate::quant) fn table_forms(
    model: &Model,
    settings: Settings,
) -> Result<BTreeMap<ParamId, TableForm>> {
    let all = model.num_params() as f64;
    let embedding = <Embedding as Registered<f32>>::KIND;
    let (mut forms, mut coded, mut refused) = (BTreeMap::new(), false, None);
    for node in model.nodes().iter().filter(|node| has_table(node)) {
        node.layer().visit(&mut |param| {
            let small = param.value().len() as f64 <= SMALL * all;
            let store = settings.tables.filter(|_| node.layer().kind() == embedding && !small);
            let form = match store {
                _ if small => TableForm::Bits(Bits::Eight),
                None => TableForm::Bits(settings.weights),
                Some(store) => {
                    coded = true;
                    let masked = param.mask().is_some().then(|| Unsupported {
                        layer: node.name().into(),
                        reason: "is masked, and neither codes nor signs keep its zeros".into(),
                    });
                    let wrong = store.check(param.value().ncols()).err();
                    refused = refused.take().or(wrong).or(masked.map(Error::from));
                    match store {
                        TableStore::Codes(how) => TableForm::Codes(how, model.seed()),
                        TableStore::Signs(parts) => TableForm::Signs(parts),
                    }
                }
            };
            forms.insert(param.id(), form);
        });
    }
    if settings.tables.is_some() && !coded {
        return Err(Error::Unsupported(Unsupported {
            layer: "the model".into(),
            reason: "has no table of rows to store as codes or signs".into(),
        }));
    }
    refused.map_or(Ok(forms), Err)
}

/// A copy whose tables are those that what is stored stands for.
///
/// # Errors
/// As [`table_forms`].
pub(in crate::quant) fn on_grid(
    mut model: Model,
    ready: &BTreeMap<ParamId, StoredTable>,
    settings: Settings,
) -> Result<Model> {
    let tables = TableForms { forms: table_forms(&model, settings)?, ready };
    let mut failed = None;
    model.visit_mut(&mut |param| {
        if tables.forms.contains_key(&param.id()) {
            match tables.stored(param, settings) {
                Ok(table) => *param.value_mut() = table.to_floats(),
                Err(error) => failed = Some(error),
            }
        }
    });
    failed.map_or(Ok(model), Err)
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
