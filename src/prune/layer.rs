//! Layer pruning: residual blocks that a network can do without are taken out, and the network is
//! shallower.

use super::amount::{Amount, Budget, num_free_params, share_of};
use super::block::{Block, without};
use super::criterion::{Choice, Criterion, Needs, choosing, scored};
use super::units::{BlockUnits, Units};
use crate::error::{Error, PruneError, Result};
use crate::nn::{Model, NodeId, Role, Wiring};
use crate::scalar::Scalar;
use crate::task::Task;
use serde::{Deserialize, Serialize};

/// Builder of a [`LayerPruner`]; see [`LayerPruner::builder`].
#[derive(Debug, Clone)]
pub struct LayerPrunerBuilder<F: Scalar = f32> {
    choice: Choice<F>,
}

choosing!(LayerPruner, LayerPrunerBuilder);

impl<F: Scalar> LayerPrunerBuilder<F> {
    /// How many layers go, at least 1. Default 1.
    #[must_use]
    pub fn remove(self, layers: usize) -> Self {
        self.amount(Amount::Count(layers))
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for no layers, and for a number outside its range.
    pub fn build(self) -> Result<LayerPruner<F>> {
        self.choice.amount.check("share of the layers")?;
        if self.choice.amount == Amount::Count(0) {
            Err(Error::setting("layers to remove", 0, "at least 1"))
        } else {
            Ok(LayerPruner { settings: self })
        }
    }
}

/// Takes out the residual blocks that matter least, one by one, and scores those that are left anew
/// after each.
///
/// A block is what stands between `x` and `y = x + f(x)`: without it, `y` is `x`. Both its product
/// and its aggregation go.
///
/// ```
/// use gnn_prune::{Ablation, Dataset, Gcn, LayerPruner};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).layers(6).residual(true).build(0)?;
/// let plan = LayerPruner::builder(Ablation::new()).remove(2).build()?.plan(&model, &data)?;
/// println!("{plan}");
/// let shallow = plan.shrink(&model)?;
/// assert_eq!(model.num_params() - shallow.num_params(), 2 * (16 * 16 + 16));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerPruner<F: Scalar = f32> {
    settings: LayerPrunerBuilder<F>,
}

impl<F: Scalar> LayerPruner<F> {
    /// Starts a pruner that removes one layer by `criterion`.
    pub fn builder(criterion: impl Criterion<F> + 'static) -> LayerPrunerBuilder<F> {
        LayerPrunerBuilder { choice: Choice::new(criterion, Amount::Count(1)) }
    }

    /// A model of a shape that [`LayerPruner::plan`] leads to, made before `model` is trained:
    /// which layers are gone means nothing, and how many, where that depends on scores or sizes.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has fewer residual blocks than shall go.
    pub fn rehearse(&self, model: &Model<F>) -> Result<Model<F>> {
        let remove = match self.amount() {
            Amount::Count(count) => count,
            Amount::Share(share) => share_of(share, blocks(model).len()),
            Amount::Threshold(_) | Amount::Budget(_) => 0,
        };
        (0..remove).try_fold(model.clone(), |left, gone| {
            // The smallest block first: none goes along with another.
            let blocks = blocks(&left);
            without(
                &left,
                blocks
                    .iter()
                    .min_by_key(|block| block.inside.len())
                    .ok_or_else(|| too_many(remove, gone))?,
            )
        })
    }

    /// Decides which layers of `model` go, and scores those that are left anew after each. Ties are
    /// broken by layer order. A share is one of the blocks that there are in the beginning.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has fewer residual blocks than shall go or a budget is
    /// out of reach, [`Error::ShapeMismatch`] or [`Error::Model`] where model and task do not fit,
    /// and what the criterion refuses.
    pub fn plan(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<LayerPlan> {
        let Choice { criterion, amount, seed } = &self.settings.choice;
        criterion.needs().within(Needs::WEIGHTS, criterion.name(), "layers")?;
        self.settings.choice.check("layers")?;
        task.check(model)?;
        let mut plan = LayerPlan { criterion: criterion.name().into(), removed: Vec::new() };
        let (mut left, mut scored_before) = (model.clone(), 0);
        let share = amount.share().map(|share| share_of(share, blocks(model).len()));
        loop {
            let gone = plan.removed.len();
            let enough = match *amount {
                Amount::Budget(Budget::Params(most)) => num_free_params(&left) <= most,
                Amount::Count(count) => gone == count,
                Amount::Share(_) => Some(gone) == share,
                Amount::Threshold(_) => false,
            };
            if enough {
                return Ok(plan);
            }
            let blocks = blocks(&left);
            let units = Units::Blocks(BlockUnits {
                whole: model,
                model: &left,
                task,
                blocks: &blocks,
                seed: seed.unwrap_or(model.seed()),
                scored: scored_before,
            });
            let scores = scored(&**criterion, &units)?;
            let next = scores.lowest(1).first().map(|&k| (k, scores.values()[k]));
            let (k, score) = match (next, *amount) {
                (Some((_, score)), Amount::Threshold(threshold)) if score >= threshold => {
                    return Ok(plan);
                }
                (None, Amount::Threshold(_)) => return Ok(plan),
                (None, Amount::Budget(Budget::Params(most))) => {
                    let legal = format!("at least {}, without a block", num_free_params(&left));
                    return Err(Error::setting("budget of parameters", most, legal));
                }
                (None, Amount::Count(count)) => return Err(too_many(count, gone)),
                (None, Amount::Share(_)) => return Err(too_many(share.unwrap_or(0), gone)),
                (Some(next), _) => next,
            };
            plan.removed.push(RemovedLayer { name: blocks[k].name.clone(), score: Some(score) });
            scored_before += blocks.len();
            left = without(&left, &blocks[k])?;
        }
    }
}

fn too_many(remove: usize, found: usize) -> Error {
    let legal = format!("at most {found}, the hidden layers with a skip connection round them");
    Error::setting("layers to remove", remove, legal)
}

/// A layer that a plan takes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedLayer {
    /// The layer that gives its block its name.
    pub name: String,
    /// What the criterion said when it was its turn; `None` where a caller chose it.
    pub score: Option<f64>,
}

/// Which layers go, in this order: made by a [`LayerPruner`] or by name, printed for review, stored
/// as JSON, applied to any model that has them.
///
/// ```
/// use gnn_prune::{Gcn, LayerPlan};
/// let model = Gcn::builder(8, 3).hidden(16).layers(5).residual(true).build(0)?;
/// assert!(LayerPlan::of(["conv3"]).shrink(&model)?.node("conv3").is_none());
/// let refused = LayerPlan::of(["conv5"]).shrink(&model).unwrap_err();
/// assert!(refused.to_string().contains("gives the model's output"));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerPlan {
    criterion: String,
    removed: Vec<RemovedLayer>,
}

impl LayerPlan {
    /// Takes out the blocks of these layers; a block answers to the name of any layer in it, or of
    /// its sum.
    pub fn of<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let removed =
            names.into_iter().map(|name| RemovedLayer { name: name.into(), score: None }).collect();
        Self { criterion: "choice".into(), removed }
    }

    /// The layers that go.
    pub fn removed(&self) -> &[RemovedLayer] {
        &self.removed
    }

    /// The model without these layers; all others keep their names, parameters and masks.
    ///
    /// Whatever read the output of a block reads its input instead. So does a jumping connection,
    /// which then has the same channels twice: its own reader keeps its shape, and the model
    /// computes what it did with the block at zero.
    ///
    /// # Errors
    /// [`PruneError::Refused`] with the layer's name and the reason where it is no residual block
    /// of the model.
    pub fn shrink<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        self.removed.iter().try_fold(model.clone(), |left, RemovedLayer { name, .. }| {
            let found = blocks(&left);
            let holds = |block: &&Block| {
                block.inside.iter().chain([&block.sum]).any(|&id| left.name_of(id) == name)
            };
            match found.iter().filter(holds).min_by_key(|block| block.inside.len()) {
                Some(block) => without(&left, block),
                None => Err(PruneError::Refused {
                    layer: name.clone(),
                    reason: why_not(model, &left, name),
                }
                .into()),
            }
        })
    }
}

impl std::fmt::Display for LayerPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "layer plan by {}: {} layers go", self.criterion, self.removed.len())?;
        for RemovedLayer { name, score } in &self.removed {
            match score {
                Some(score) => writeln!(f, "  {name}: {score:.4}")?,
                None => writeln!(f, "  {name}")?,
            }
        }
        Ok(())
    }
}

/// Why a name is no residual block of what is `left` of `model`.
fn why_not<F: Scalar>(model: &Model<F>, left: &Model<F>, name: &str) -> String {
    let Some(id) = left.node(name) else {
        return match model.node(name) {
            Some(_) => "another layer of the plan has taken it along".into(),
            None => "the model has no such layer".into(),
        };
    };
    let node = &left.nodes()[id.index() - 1];
    let width = node.inputs().first().map_or(0, |&input| left.channels(input));
    if id == left.output() {
        "it gives the model's output".into()
    } else if width != node.channels() {
        format!(
            "it makes {} channels of {width}, and no skip connection goes round it",
            node.channels()
        )
    } else {
        "no skip connection goes round it, and its readers never saw its input".into()
    }
}

/// All residual blocks of a model, in its order.
fn blocks<F: Scalar>(model: &Model<F>) -> Vec<Block> {
    let mut readers = vec![Vec::new(); model.nodes().len() + 1];
    for (k, node) in model.nodes().iter().enumerate() {
        node.inputs().iter().for_each(|id| readers[id.index()].push(NodeId(k + 1)));
    }
    let sums = (1..=model.nodes().len())
        .map(NodeId)
        .filter(|&id| id != model.output() && is_plain_sum(model, id));
    let ways = sums.flat_map(|sum| {
        let inputs = model.nodes()[sum.index() - 1].inputs();
        [(sum, inputs[0], inputs[1]), (sum, inputs[1], inputs[0])]
    });
    ways.filter_map(|(sum, input, branch)| {
        let inside = inside(model, &readers, sum, input, branch)?;
        let fresh = |id: &&NodeId| {
            matches!(model.nodes()[id.index() - 1].layer().wiring(), Wiring::Fresh { .. })
        };
        let name = model.name_of(*inside.iter().find(fresh).unwrap_or(&sum)).to_string();
        Some(Block { name, input, inside, sum })
    })
    .collect()
}

fn is_plain_sum<F: Scalar>(model: &Model<F>, id: NodeId) -> bool {
    matches!(model.nodes()[id.index() - 1].layer().role(), Role::Sum(coefficients) if coefficients == [1.0, 1.0])
}

/// The nodes from `input` to `branch`, ascending, if they read nothing but `input` and each other,
/// and nothing but `sum` reads them.
fn inside<F: Scalar>(
    model: &Model<F>,
    readers: &[Vec<NodeId>],
    sum: NodeId,
    input: NodeId,
    branch: NodeId,
) -> Option<Vec<NodeId>> {
    let (mut found, mut open) = (Vec::new(), vec![branch]);
    while let Some(id) = open.pop() {
        if id == input || found.contains(&id) {
            continue;
        }
        // Whoever reaches the model's input, or a node before `input`, has gone past it.
        if id < input || id == NodeId::INPUT {
            return None;
        }
        found.push(id);
        open.extend(model.nodes()[id.index() - 1].inputs());
    }
    let stays_inside = |id: &NodeId| {
        readers[id.index()].iter().all(|reader| *reader == sum || found.contains(reader))
    };
    (!found.is_empty() && found.iter().all(stays_inside)).then(|| {
        found.sort_unstable();
        found
    })
}
