//! A channel plan: what goes and what stays, to look at, to keep and to apply.

use super::labels::{ChannelLabels, Group};
use crate::error::{PruneError, Result};
use crate::nn::{DynLayer, Kept, Mask, Model, NodeId, Param, Wiring};
use crate::prune::Removal;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a plan does to one coupled group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// The layers that make the group's channels.
    pub name: String,
    /// Prunable units before.
    pub units: usize,
    /// Units that stay.
    pub kept: usize,
    /// Where the criterion knows it: what all removals up to each cost together, as a share of what
    /// the readers of the group compute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<f64>,
    /// The same for the units that went in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// Which channels of a layer stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodePlan {
    width: usize,
    kept: Vec<usize>,
    hidden: Vec<(usize, Vec<usize>)>,
}

/// Which channels of which layers stay: made by a pruner, printed for review, stored as JSON,
/// applied to any model of that form.
///
/// ```
/// use gnn_prune::{ChannelPruner, Dataset, Gcn, Magnitude};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let plan = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?.plan(&model, &data)?;
/// let small = plan.shrink(&model)?;
/// assert!(small.num_params() < model.num_params());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelPlan {
    criterion: String,
    groups: Vec<GroupPlan>,
    nodes: BTreeMap<String, NodePlan>,
}

impl ChannelPlan {
    /// Turns kept units into kept channels of every node.
    pub(super) fn new<F: Scalar>(
        criterion: &str,
        model: &Model<F>,
        labels: &ChannelLabels,
        keep: &[bool],
        removals: Vec<Removal>,
    ) -> Result<Self, PruneError> {
        let positions = |units: &[usize]| -> Vec<usize> {
            (0..units.len()).filter(|&c| keep[units[c]]).collect()
        };
        let mut nodes = BTreeMap::new();
        for (k, node) in model.nodes().iter().enumerate() {
            let id = NodeId(k + 1);
            let kept = positions(labels.node(id));
            let hidden: Vec<_> =
                labels.hidden(id).iter().map(|units| (units.len(), positions(units))).collect();
            let fresh = matches!(node.layer().wiring(), Wiring::Fresh { .. });
            if (fresh && kept.is_empty()) || hidden.iter().any(|(_, kept)| kept.is_empty()) {
                return Err(PruneError::EmptiesLayer {
                    layer: node.name().into(),
                    channels: node.channels(),
                });
            }
            nodes
                .insert(node.name().to_string(), NodePlan { width: node.channels(), kept, hidden });
        }
        let kept_of = |units: &[usize]| units.iter().filter(|&&unit| keep[unit]).count();
        let group = |(group, Removal { losses, loss, .. }): (&Group, Removal)| {
            let (name, units, kept) =
                (group.name.clone(), group.units.len(), kept_of(&group.units));
            GroupPlan { name, units, kept, losses, loss }
        };
        let groups = labels.groups().iter().zip(removals).map(group).collect();
        Ok(Self { criterion: criterion.into(), groups, nodes })
    }

    /// Checks the plan against a model.
    pub(super) fn decided<F: Scalar>(&self, model: &Model<F>) -> Result<Decided, PruneError> {
        Decided::check(self, model)
    }

    /// Which rows and which columns of each parameter stay, in the order of a visit; `None` for an
    /// axis without channels.
    pub(super) fn kept_of_params<F: Scalar>(
        &self,
        model: &Model<F>,
    ) -> Result<Vec<[Option<Vec<usize>>; 2]>, PruneError> {
        let decided = self.decided(model)?;
        let mut kept = Vec::new();
        for (k, node) in model.nodes().iter().enumerate() {
            node.layer().visit(&mut |param| {
                let sides = decided.along(model, NodeId(k + 1), param);
                kept.push(
                    sides.map(|side| {
                        side.map(|side| (0..side.len()).filter(|&k| side[k]).collect())
                    }),
                );
            });
        }
        Ok(kept)
    }

    /// What happens to each coupled group.
    pub fn groups(&self) -> &[GroupPlan] {
        &self.groups
    }

    /// Share of the channels of which this plan and `before`, of the same model, say other things,
    /// among the layers that lose any; 0 where none does. The distance of masks in You et al.,
    /// "Drawing Early-Bird Tickets", ICLR 2020, §3.
    pub fn distance(&self, before: &ChannelPlan) -> f64 {
        let (mut other, mut all) = (0, 0);
        for (name, NodePlan { width, kept, hidden }) in &self.nodes {
            let earlier = before.nodes.get(name);
            let mut compare = |kept: &[usize], width: usize, earlier: Option<&Vec<usize>>| {
                let Some(earlier) = earlier else { return };
                if kept.len() < width || earlier.len() < width {
                    let both = kept.iter().filter(|c| earlier.binary_search(c).is_ok()).count();
                    other += kept.len() + earlier.len() - 2 * both;
                    all += width;
                }
            };
            compare(kept, *width, earlier.map(|node| &node.kept));
            for (k, (width, kept)) in hidden.iter().enumerate() {
                let earlier = earlier.and_then(|node| node.hidden.get(k));
                compare(kept, *width, earlier.map(|(_, kept)| kept));
            }
        }
        other as f64 / all.max(1) as f64
    }

    /// The criterion that made the plan.
    pub fn criterion(&self) -> &str {
        &self.criterion
    }

    /// The model with the removed channels at zero and held there, in tensors of full size.
    ///
    /// Every parameter that carries a removed channel is zero there, on the side that makes it and
    /// on the side that reads it, so the masked model computes what the shrunk one does.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] if the plan was made for another model.
    pub fn mask<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        let decided = self.decided(model)?;
        model.rebuilt(|id, node| {
            let name = node.name.clone();
            change_params(&mut node.layer, |param| {
                let [rows, cols] = decided.along(model, id, param);
                let kept =
                    |side: &Option<Vec<bool>>, k: usize| side.as_ref().is_none_or(|side| side[k]);
                if rows.is_some() || cols.is_some() {
                    param.restrict(&Mask::from_shape_fn(param.value().dim(), |(i, j)| {
                        kept(&rows, i) && kept(&cols, j)
                    }));
                }
            });
            node.layer.masked(&decided.kept(model, id)).map_err(|error| refused(&name, error))?;
            Ok(())
        })
    }

    /// The model without the removed channels, in really smaller tensors.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] if the plan was made for another model, [`PruneError::Refused`]
    /// where a layer cannot live with what is left.
    pub fn shrink<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        let decided = self.decided(model)?;
        model.rebuilt(|id, node| {
            let name = node.name.clone();
            change_params(&mut node.layer, |param| {
                let positions = |side: &Option<Vec<bool>>| {
                    side.as_ref()
                        .map(|side| (0..side.len()).filter(|&k| side[k]).collect::<Vec<_>>())
                };
                let [rows, cols] = decided.along(model, id, param);
                param.gather(positions(&rows).as_deref(), positions(&cols).as_deref());
            });
            node.layer.reshaped(&decided.kept(model, id)).map_err(|error| refused(&name, error))?;
            Ok(())
        })
    }
}

fn refused(layer: &str, error: PruneError) -> PruneError {
    PruneError::Refused { layer: layer.into(), reason: error.to_string() }
}

fn change_params<F: Scalar>(layer: &mut Box<dyn DynLayer<F>>, mut f: impl FnMut(&mut Param<F>)) {
    layer.visit_mut(&mut f);
}

/// A plan checked against a model: which units stay.
pub(super) struct Decided {
    labels: ChannelLabels,
    keep: Vec<bool>,
}

impl Decided {
    fn check<F: Scalar>(plan: &ChannelPlan, model: &Model<F>) -> Result<Self, PruneError> {
        let labels = ChannelLabels::of(model);
        let other = |reason: String| PruneError::OtherModel { reason };
        if let Some(name) = plan.nodes.keys().find(|name| model.node(name).is_none()) {
            return Err(other(format!("the model has no layer `{name}`")));
        }
        let mut keep: Vec<Option<bool>> =
            (0..labels.num_units()).map(|unit| labels.is_fixed(unit).then_some(true)).collect();
        let mut decide = |name: &str, units: &[usize], kept: &[usize]| -> Result<(), PruneError> {
            let mut stays = vec![false; units.len()];
            for &c in kept {
                match stays.get_mut(c) {
                    Some(stays) => *stays = true,
                    None => {
                        return Err(other(format!(
                            "`{name}` has {} channels, the plan keeps channel {c}",
                            units.len()
                        )));
                    }
                }
            }
            for (c, (&unit, &stays)) in units.iter().zip(&stays).enumerate() {
                if keep[unit].is_some_and(|other| other != stays) {
                    return Err(other(format!(
                        "channel {c} of `{name}` is coupled with one that the plan treats differently"
                    )));
                }
                keep[unit] = Some(stays);
            }
            Ok(())
        };
        for (k, node) in model.nodes().iter().enumerate() {
            let Some(planned) = plan.nodes.get(node.name()) else {
                return Err(other(format!("the plan has no layer `{}`", node.name())));
            };
            let hidden = labels.hidden(NodeId(k + 1));
            if planned.width != node.channels() || planned.hidden.len() != hidden.len() {
                return Err(other(format!(
                    "`{}` has {} channels, the plan expects {}",
                    node.name(),
                    node.channels(),
                    planned.width
                )));
            }
            decide(node.name(), labels.node(NodeId(k + 1)), &planned.kept)?;
            for (units, (width, kept)) in hidden.iter().zip(&planned.hidden) {
                if *width != units.len() {
                    return Err(other(format!(
                        "a hidden map of `{}` has {} channels, the plan expects {width}",
                        node.name(),
                        units.len()
                    )));
                }
                decide(node.name(), units, kept)?;
            }
            if planned.kept.is_empty() || planned.hidden.iter().any(|(_, kept)| kept.is_empty()) {
                return Err(PruneError::EmptiesLayer {
                    layer: node.name().into(),
                    channels: node.channels(),
                });
            }
        }
        let keep = keep.into_iter().map(|stays| stays.unwrap_or(true)).collect();
        Ok(Self { labels, keep })
    }

    /// Which rows and columns of a parameter stay; `None` for an axis without channels.
    fn along<F: Scalar>(
        &self,
        model: &Model<F>,
        id: NodeId,
        param: &Param<F>,
    ) -> [Option<Vec<bool>>; 2] {
        let shape = param.value().dim();
        let side = |axis: usize, len| {
            let units = self.labels.along(model, id, param.axes()[axis], len)?;
            Some(units.into_iter().map(|unit| self.keep[unit]).collect())
        };
        [side(0, shape.0), side(1, shape.1)]
    }

    fn kept<F: Scalar>(&self, model: &Model<F>, id: NodeId) -> Kept {
        let positions = |units: &[usize]| -> Vec<usize> {
            (0..units.len()).filter(|&c| self.keep[units[c]]).collect()
        };
        let inputs = model.nodes()[id.index() - 1].inputs();
        Kept {
            inputs: inputs.iter().map(|&input| positions(self.labels.node(input))).collect(),
            in_widths: inputs.iter().map(|&input| model.channels(input)).collect(),
            output: positions(self.labels.node(id)),
            out_width: model.channels(id),
            hidden: self.labels.hidden(id).iter().map(|units| positions(units)).collect(),
        }
    }
}

impl std::fmt::Display for ChannelPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "channel plan by {}", self.criterion)?;
        for GroupPlan { name, units, kept, losses, loss } in &self.groups {
            write!(f, "  {name}: {units} -> {kept} units")?;
            if let Some(loss) = loss {
                write!(f, ", {:.3} % of what its readers compute is lost", 100.0 * loss)?;
            }
            let at = |quarter: usize| (quarter * losses.len()).div_ceil(4);
            let points: Vec<String> = (1..=4)
                .map(at)
                .filter(|&count| count > 0)
                .map(|count| {
                    format!("{} {:.3} %", units.saturating_sub(count), 100.0 * losses[count - 1])
                })
                .collect();
            if !points.is_empty() {
                write!(f, " (units left: {})", points.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
