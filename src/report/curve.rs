//! How training went, and what a compression left of each layer.

use crate::nn::{Model, Wiring};
use crate::train::Epoch;
use serde::Serialize;

/// The epochs of one stage with one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name of the stage; a stage of the random control begins with `random control: `.
    pub stage: String,
    /// The seed.
    pub seed: u64,
    /// Loss and validation metric of each epoch.
    pub epochs: Vec<Epoch>,
}

/// Channels of one layer before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerWidth {
    /// The layer's name.
    pub layer: String,
    /// Channels in the dense model; `None` for a layer that only the small one has.
    pub before: Option<usize>,
    /// Channels in the small model; `None` for a layer that is gone.
    pub after: Option<usize>,
}

impl LayerWidth {
    /// The layers that make channels of `dense`, then those that only `small` has, each in its own
    /// order.
    pub fn between(dense: &Model, small: &Model) -> Vec<Self> {
        let widths = |model: &Model| -> Vec<(String, usize)> {
            let makers = model
                .nodes()
                .iter()
                .filter(|node| matches!(node.layer().wiring(), Wiring::Fresh { .. }));
            makers.map(|node| (node.name().to_string(), node.channels())).collect()
        };
        let (before, after) = (widths(dense), widths(small));
        let of = |widths: &[(String, usize)], layer: &str| {
            widths.iter().find(|(name, _)| name == layer).map(|(_, width)| *width)
        };
        let mut layers: Vec<Self> = before
            .iter()
            .map(|(layer, width)| LayerWidth {
                layer: layer.clone(),
                before: Some(*width),
                after: of(&after, layer),
            })
            .collect();
        let new = after.iter().filter(|(layer, _)| of(&before, layer).is_none());
        layers.extend(new.map(|(layer, width)| LayerWidth {
            layer: layer.clone(),
            before: None,
            after: Some(*width),
        }));
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Gcn;

    #[test]
    fn layers_are_matched_by_name_and_what_one_model_lacks_is_none() {
        let model =
            |hidden, layers| Gcn::builder(5, 3).hidden(hidden).layers(layers).build(0).unwrap();
        let width = |layer: &str, before, after| LayerWidth { layer: layer.into(), before, after };
        let (wide, narrow) = (model(8, 3), model(2, 2));
        let shorter = [
            width("conv1", Some(8), Some(2)),
            width("conv2", Some(8), Some(3)),
            width("conv3", Some(3), None),
        ];
        assert_eq!(LayerWidth::between(&wide, &narrow), shorter);
        let longer = [
            width("conv1", Some(2), Some(8)),
            width("conv2", Some(3), Some(8)),
            width("conv3", None, Some(3)),
        ];
        assert_eq!(LayerWidth::between(&narrow, &wide), longer);
    }
}
