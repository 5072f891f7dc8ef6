//! Layer pruning: residual blocks that a network can do without are taken out, and the network is
//! shallower.

use crate::data::Dataset;
use crate::error::{Error, PruneError, Result};
use crate::nn::{Cx, Model, ModelBuilder, NodeId, Role, Wiring};
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use crate::task::{Better, Part, Tally, Task};
use crate::value::ValueRef;
use ndarray::ArrayView1;
use ndarray_rand::rand::Rng;
use serde::{Deserialize, Serialize};

/// What a layer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerCriterion {
    /// Points of the metric on the validation nodes that are lost without the block; of equal
    /// losses the smaller cross-entropy there decides.
    Ablation,
    /// `1 − mean_i cos(x_i, y_i)` between what goes into the block and what comes out of it, over
    /// all nodes.
    ///
    /// *Source*: block influence, Men et al., "ShortGPT: Layers in Large Language Models are More
    /// Redundant Than You Expect", 2024, eq. 1.
    Cosine,
    /// A number drawn by the pruner's seed: what the others have to beat.
    Random,
}

impl std::fmt::Display for LayerCriterion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LayerCriterion::Ablation => "ablation on validation",
            LayerCriterion::Cosine => "cosine of input and output",
            LayerCriterion::Random => "chance",
        })
    }
}

/// Builder of a [`LayerPruner`]; see [`LayerPruner::builder`].
#[derive(Debug, Clone)]
pub struct LayerPrunerBuilder {
    criterion: LayerCriterion,
    remove: usize,
    seed: Option<u64>,
}

impl LayerPrunerBuilder {
    /// How many layers go, at least 1. Default 1.
    #[must_use]
    pub fn remove(mut self, layers: usize) -> Self {
        self.remove = layers;
        self
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for no layers.
    pub fn build(self) -> Result<LayerPruner> {
        if self.remove == 0 {
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
/// use gnn_prune::{Dataset, Gcn, LayerCriterion, LayerPruner};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).layers(6).residual().build(0)?;
/// let plan = LayerPruner::builder(LayerCriterion::Ablation).remove(2).build()?.plan(&model, &data)?;
/// println!("{plan}");
/// let shallow = plan.shrink(&model)?;
/// assert_eq!(model.num_params() - shallow.num_params(), 2 * (16 * 16 + 16));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerPruner {
    settings: LayerPrunerBuilder,
}

impl LayerPruner {
    /// Starts a pruner that removes one layer by `criterion`.
    pub fn builder(criterion: LayerCriterion) -> LayerPrunerBuilder {
        LayerPrunerBuilder { criterion, remove: 1, seed: None }
    }

    /// The same number of layers by another criterion.
    #[must_use]
    pub fn with_criterion(&self, criterion: LayerCriterion) -> Self {
        Self { settings: LayerPrunerBuilder { criterion, ..self.settings.clone() } }
    }

    /// The same pruner with a seed for [`LayerCriterion::Random`]. Default: the model's, or that of
    /// its stage in a [`Compression`](crate::Compression).
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { settings: LayerPrunerBuilder { seed: Some(seed), ..self.settings.clone() } }
    }

    /// The same pruner, with this seed if it has none.
    pub(crate) fn or_seed(&self, seed: u64) -> Self {
        self.with_seed(self.settings.seed.unwrap_or(seed))
    }

    /// How many layers go.
    pub fn num_removed(&self) -> usize {
        self.settings.remove
    }

    /// A model of a shape that [`LayerPruner::plan`] leads to, made before `model` is trained:
    /// which layers are gone means nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has fewer residual blocks than shall go.
    pub fn rehearse<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        (0..self.settings.remove).try_fold(model.clone(), |left, gone| {
            // The smallest block first: none goes along with another.
            let blocks = blocks(&left);
            without(
                &left,
                blocks
                    .iter()
                    .min_by_key(|block| block.inside.len())
                    .ok_or_else(|| self.too_many(gone))?,
            )
        })
    }

    fn too_many(&self, found: usize) -> Error {
        let legal = format!("at most {found}, the hidden layers with a skip connection round them");
        Error::setting("layers to remove", self.settings.remove, legal)
    }

    /// Decides which layers of `model` go. Ties are broken by layer order.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has fewer residual blocks than shall go,
    /// [`Error::ShapeMismatch`] where model and data do not fit.
    pub fn plan<F: Scalar>(&self, model: &Model<F>, data: &Dataset<F>) -> Result<LayerPlan> {
        let LayerPrunerBuilder { criterion, remove, seed } = self.settings;
        let mut rng = generator(seed.unwrap_or(model.seed()), &[purpose::RANDOM_CRITERION]);
        let mut plan = LayerPlan { criterion: criterion.to_string(), removed: Vec::new() };
        let start = validation(model, data)?.0;
        let mut left = model.clone();
        for gone in 0..remove {
            let blocks = blocks(&left);
            let scores = match criterion {
                LayerCriterion::Ablation => ablations(&left, &blocks, data, start)?,
                LayerCriterion::Cosine => cosines(&left, &blocks, data)?,
                LayerCriterion::Random => blocks.iter().map(|_| (rng.random(), 0.0)).collect(),
            };
            let order =
                |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
            let Some((block, score)) =
                blocks.iter().zip(scores).min_by(|(_, a), (_, b)| order(a, b))
            else {
                return Err(self.too_many(gone));
            };
            plan.removed.push(RemovedLayer { name: block.name.clone(), score: Some(score.0) });
            left = without(&left, block)?;
        }
        Ok(plan)
    }
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
/// let model = Gcn::builder(8, 3).hidden(16).layers(5).residual().build(0)?;
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

/// A residual block: `sum = input + f(input)`, and `inside` is `f`.
struct Block {
    name: String,
    input: NodeId,
    inside: Vec<NodeId>,
    sum: NodeId,
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

/// The model with `block.input` in place of `block.sum`.
fn without<F: Scalar>(model: &Model<F>, block: &Block) -> Result<Model<F>> {
    let mut builder = ModelBuilder::new(model.in_channels());
    let mut places = vec![NodeId::INPUT];
    for (k, node) in model.nodes().iter().enumerate() {
        let id = NodeId(k + 1);
        if id == block.sum || block.inside.contains(&id) {
            places.push(places[block.input.index()]);
            continue;
        }
        let inputs: Vec<NodeId> = node.inputs().iter().map(|input| places[input.index()]).collect();
        places.push(builder.add_boxed(node.name(), node.layer.clone(), &inputs)?);
    }
    let mut small = builder.build_undrawn(places[model.output().index()], model.seed())?;
    small.set_origin(model.origin().cloned());
    Ok(small)
}

/// The metric, with a minus where less of it is better, and the loss, on the validation part.
fn validation<F: Scalar>(model: &Model<F>, task: &dyn Task<F>) -> Result<(f64, f64)> {
    let (mut tally, mut loss) = (Tally::new(), 0.0);
    for batch in task.batches(Part::Validation, model.seed())?.epoch(0) {
        let batch = batch?;
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features())?;
        loss += task.loss(y.view(), &batch)?.0.as_f64();
        task.judge(y.view(), &batch, &mut tally)?;
    }
    let metric = task.metric();
    let value = metric.of(tally);
    Ok((if metric.better() == Better::Higher { value } else { -value }, loss))
}

/// For each block the points lost without it, counted from `start`, and the loss that decides
/// between equals.
fn ablations<F: Scalar>(
    model: &Model<F>,
    blocks: &[Block],
    data: &Dataset<F>,
    start: f64,
) -> Result<Vec<(f64, f64)>> {
    let score = |block| {
        validation(&without(model, block)?, data).map(|(metric, loss)| (start - metric, loss))
    };
    blocks.iter().map(score).collect()
}

/// For each block `1 − mean_i cos(x_i, y_i)`.
fn cosines<F: Scalar>(
    model: &Model<F>,
    blocks: &[Block],
    data: &Dataset<F>,
) -> Result<Vec<(f64, f64)>> {
    let ends: Vec<NodeId> = blocks.iter().flat_map(|block| [block.input, block.sum]).collect();
    let trace = model.trace_keeping(&Cx::eval(data.graph()), data.features(), &ends)?;
    let value = |id| trace.value(id).expect("it was asked for");
    Ok(blocks
        .iter()
        .map(|block| (1.0 - mean_cosine(value(block.input), value(block.sum)), 0.0))
        .collect())
}

/// Mean over rows; two zero rows are alike (1), a zero row is like no other (0).
fn mean_cosine<F: Scalar>(x: ValueRef<F>, y: ValueRef<F>) -> f64 {
    let dot = |a: ArrayView1<F>, b: ArrayView1<F>| {
        a.iter().zip(b).map(|(a, b)| a.as_f64() * b.as_f64()).sum::<f64>()
    };
    let cosine = |x: ArrayView1<F>, y: ArrayView1<F>| match (dot(x, x), dot(y, y)) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        (xx, yy) => dot(x, y) / (xx * yy).sqrt(),
    };
    x.with_dense(|x| {
        y.with_dense(|y| {
            x.rows().into_iter().zip(y.rows()).map(|(x, y)| cosine(x, y)).sum::<f64>()
                / x.nrows() as f64
        })
    })
}
