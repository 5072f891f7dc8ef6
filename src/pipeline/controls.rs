//! What a compressed network has to beat, and the forms of it.

use super::seed_state::SeedState;
use crate::error::{Error, Result};
use crate::io::stored_bytes;
use crate::nn::Model;
use crate::prune::{ChannelPruner, Magnitude};
use crate::quant::QuantModel;
use crate::task::Task;

/// Which control rows the report gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Controls {
    /// A network of the final shape trained from scratch, and the same amounts by a random
    /// criterion.
    #[default]
    All,
    /// None.
    None,
}

impl Controls {
    /// The word that it is read from.
    pub(super) fn word(self) -> &'static str {
        match self {
            Controls::All => "all",
            Controls::None => "none",
        }
    }
}

impl std::str::FromStr for Controls {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "all" => Ok(Controls::All),
            "none" => Ok(Controls::None),
            _ => Err(Error::setting("`controls`", format!("`{word}`"), "all or none")),
        }
    }
}

/// A dense network of about as many parameters as `model` has that are not masked: of its own shape
/// where nothing is masked, else of the width whose number of parameters comes nearest.
pub(super) fn dense_form(model: &Model, task: &dyn Task<f32>) -> Result<Model> {
    let mut free = 0;
    model.visit(&mut |_, param| {
        free += param
            .mask()
            .map_or(param.value().len(), |mask| mask.iter().filter(|keep| **keep).count())
    });
    if free == model.num_params() {
        return Ok(model.clone());
    }
    nearest_form(&model.fresh(model.seed()), task, free as u64, |model| model.num_params() as u64)
}

/// A final stage with less than this share of the bytes of the narrow control gets a control of its
/// own bytes.
const EQUAL_BYTES: f64 = 0.9;

/// A network of the form of `narrow` and about the bytes of the final stage, where that has clearly
/// less.
pub(super) fn form_of_bytes(
    narrow: &Model,
    task: &dyn Task<f32>,
    last: &SeedState,
) -> Result<Option<Model>> {
    let bytes = last
        .integers
        .as_ref()
        .map_or_else(|| stored_bytes(last.subject.model()), QuantModel::stored_bytes);
    let less = (bytes as f64) < EQUAL_BYTES * stored_bytes(narrow) as f64;
    less.then(|| nearest_form(narrow, task, bytes, stored_bytes)).transpose()
}

/// The network of this form, drawn anew, of the width whose size comes nearest.
fn nearest_form(
    form: &Model,
    task: &dyn Task<f32>,
    wanted: u64,
    size: impl Fn(&Model) -> u64,
) -> Result<Model> {
    let unmasked = form.fresh(form.seed());
    let model = &unmasked;
    let widest = model.nodes().iter().map(|node| node.channels()).max().unwrap_or(1);
    let mut nearest = unmasked.clone();
    for kept in 1..widest {
        let ratio = 1.0 - kept as f64 / widest as f64;
        let Ok(plan) =
            ChannelPruner::builder(Magnitude::l2()).ratio(ratio).build()?.plan(&unmasked, task)
        else {
            continue;
        };
        let narrow = plan.shrink(&unmasked)?;
        if size(&narrow).abs_diff(wanted) < size(&nearest).abs_diff(wanted) {
            nearest = narrow;
        }
    }
    Ok(nearest)
}

/// Whether the layers and the names and shapes of their parameters are the same.
pub(super) fn same_shapes(a: &Model, b: &Model) -> bool {
    let shapes = |model: &Model| {
        let mut shapes = Vec::new();
        model.visit(&mut |name, param| shapes.push((name.to_string(), param.value().dim())));
        // A linear map has the shapes of a convolution.
        let kinds: Vec<&str> = model.nodes().iter().map(|node| node.layer().kind()).collect();
        (shapes, kinds)
    };
    shapes(a) == shapes(b)
}
