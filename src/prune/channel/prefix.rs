//! Plans that keep the first channels of every group, whatever their values.

use super::labels::ChannelLabels;
use super::plan::ChannelPlan;
use super::pruner::labelled;
use crate::error::{Error, Result};
use crate::nn::{Model, NodeId};
use crate::prune::criterion::Removal;
use crate::scalar::Scalar;

impl ChannelPlan {
    /// The plan that keeps the first `width` channels of every group; a group that has no more
    /// keeps all. Channels that go together stay or go together: of a table of 64 numbers that
    /// [`Form::ComplEx`](crate::nn::Form) reads as 32 complex ones, a width of 16 keeps the first
    /// 8 complex numbers, wherever their two parts stand.
    ///
    /// It looks at no weight. It is for models that were trained so that their first channels do
    /// by themselves ([`Prefixes`](crate::prune::Prefixes)), and for the shape of a narrower model.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without hidden channels, [`Error::Setting`] for
    /// no channel, for more than the widest group has, and for a width that would cut through
    /// channels that go together.
    ///
    /// [`PruneError::NothingToPrune`]: crate::error::PruneError::NothingToPrune
    ///
    /// ```
    /// use gnn_prune::{ChannelPlan, LightGcn};
    /// let model = LightGcn::builder(100).channels(32).build(0)?;
    /// let narrow = ChannelPlan::prefix(&model, 8)?.shrink(&model)?;
    /// assert_eq!(narrow.num_params(), 100 * 8);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn prefix<F: Scalar>(model: &Model<F>, width: usize) -> Result<Self> {
        let labels = labelled(model)?;
        let channels = channels_of_units(model, &labels);
        let widest = widest_of(&labels, &channels);
        if width == 0 || width > widest {
            return Err(Error::setting("width", width, format!("from 1 to {widest}")));
        }
        let mut keep = vec![true; labels.num_units()];
        for group in labels.groups() {
            let mut before = 0;
            for &unit in &group.units {
                let after = before + channels[unit];
                if before < width && after > width {
                    let (name, together) = (&group.name, channels[unit]);
                    let legal =
                        format!("a multiple of {together}: so many of `{name}` go together");
                    return Err(Error::setting("width", width, legal));
                }
                keep[unit] = after <= width;
                before = after;
            }
        }
        let removals = vec![Removal::default(); labels.groups().len()];
        Ok(Self::new(&format!("prefix {width}"), model, &labels, &keep, removals)?)
    }
}

/// Channels of the widest group of a model.
///
/// # Errors
/// As [`ChannelPlan::prefix`], for a model without hidden channels.
pub(super) fn widest<F: Scalar>(model: &Model<F>) -> Result<usize> {
    let labels = labelled(model)?;
    Ok(widest_of(&labels, &channels_of_units(model, &labels)))
}

fn widest_of(labels: &ChannelLabels, channels: &[usize]) -> usize {
    let of = |units: &[usize]| units.iter().map(|&unit| channels[unit]).sum::<usize>();
    labels.groups().iter().map(|group| of(&group.units)).max().unwrap_or(0)
}

/// How many channels of the first layer, or hidden map, that has it make up each unit.
fn channels_of_units<F: Scalar>(model: &Model<F>, labels: &ChannelLabels) -> Vec<usize> {
    let mut channels = vec![0; labels.num_units()];
    for k in 1..=model.nodes().len() {
        let id = NodeId(k);
        for units in
            std::iter::once(labels.node(id)).chain(labels.hidden(id).iter().map(|h| &h[..]))
        {
            let known = channels.clone();
            let new = units.iter().filter(|unit| known[**unit] == 0);
            new.for_each(|&unit| channels[unit] += 1);
        }
    }
    channels
}
