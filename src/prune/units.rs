//! What is scored: units of one kind, with the evidence that their criterion asked for.

use super::block::Block;
use super::channel::ChannelUnits;
use super::entry::Entry;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::{Model, Param};
use crate::rng::{ChaCha8Rng, generator, purpose};
use crate::scalar::Scalar;
use crate::task::Task;
use ndarray::{Array1, Array2};
use ndarray_rand::rand::Rng;
use std::ops::Range;

/// Units of one kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Units<'a, F: Scalar> {
    /// Channels of one coupled group; a unit is a head where a layer keeps whole heads together.
    Channels(ChannelUnits<'a, F>),
    /// The entries of all weight matrices of a model, matrix by matrix and row by row.
    Weights(WeightUnits<'a, F>),
    /// The residual blocks of a model.
    Blocks(BlockUnits<'a, F>),
    /// The hops of a model: what its layers take from neighbours.
    Hops(HopUnits<'a, F>),
    /// The edges of a graph, or its pairs of an edge and its reverse.
    Edges(EdgeUnits<'a, F>),
}

/// All weight matrices of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct WeightUnits<'a, F: Scalar> {
    /// The matrices, in the order of the model.
    pub matrices: Vec<WeightMatrix<'a, F>>,
    /// Seed for criteria that draw.
    pub seed: u64,
}

/// One weight matrix.
#[derive(Debug)]
#[non_exhaustive]
pub struct WeightMatrix<'a, F: Scalar> {
    /// Its layer's name and its own.
    pub name: String,
    /// The parameter; what its mask holds at zero goes first, whatever its score.
    pub param: &'a Param<F>,
    /// Its gradient, where it was asked for and there is one.
    pub gradient: Option<&'a Array2<F>>,
    /// Its Fisher diagonal, where it was asked for and there is one.
    pub fisher: Option<&'a Array2<F>>,
    /// The linear maps that it is part of, where they were asked for.
    pub readers: Vec<MatrixReader<'a>>,
}

/// A linear map `Z = G·W` that a matrix is part of: several matrices of one sum stand one below
/// the other.
#[derive(Debug)]
#[non_exhaustive]
pub struct MatrixReader<'a> {
    /// `C = GᵀG + λI`, `[rows, rows]`, on the nodes that calibrate, centred where the map has a
    /// bias.
    pub gram: &'a Array2<f64>,
    /// Which weights no mask holds at zero, `[rows, columns]`; `None`: all.
    pub support: Option<&'a Array2<bool>>,
    /// The rows of the map that are the matrix.
    pub rows: Range<usize>,
    /// `‖Z‖²`, centred like `C`.
    pub energy: f64,
}

/// The residual blocks of what is left of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct BlockUnits<'a, F: Scalar> {
    /// The model that the plan is for.
    pub whole: &'a Model<F>,
    /// What is left of it.
    pub model: &'a Model<F>,
    /// The task that it is for.
    pub task: &'a dyn Task<F>,
    /// The blocks of what is left, in its order.
    pub blocks: &'a [Block],
    /// Seed for criteria that draw.
    pub seed: u64,
    /// How many blocks were scored in the rounds before this one.
    pub scored: usize,
}

impl<F: Scalar> BlockUnits<'_, F> {
    /// What is left without block `k` too.
    ///
    /// # Errors
    /// What building a model refuses.
    pub fn without(&self, k: usize) -> Result<Model<F>> {
        super::block::without(self.model, &self.blocks[k])
    }
}

/// The hops of what is left of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct HopUnits<'a, F: Scalar> {
    /// The model that the plan is for.
    pub whole: &'a Model<F>,
    /// The task that it is for.
    pub task: &'a dyn Task<F>,
    /// The layers whose hops are left, in the order of the model.
    pub names: Vec<String>,
    /// For each of them what is left of the model without its hop, and without those that are gone.
    pub without: Vec<Model<F>>,
    /// Seed for criteria that draw.
    pub seed: u64,
    /// How many hops were scored in the rounds before this one.
    pub scored: usize,
}

/// The edges of a graph.
#[derive(Debug)]
#[non_exhaustive]
pub struct EdgeUnits<'a, F: Scalar> {
    /// The graph; its edges are in the order of [`Graph::edges`].
    pub graph: &'a Graph<F>,
    /// For each edge its unit.
    pub unit_of: Vec<usize>,
    /// How many units there are to score.
    pub units: usize,
    /// Seed for criteria that draw.
    pub seed: u64,
}

impl<F: Scalar> Units<'_, F> {
    /// Their kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Units::Channels(_) => "channels",
            Units::Weights(_) => "weights",
            Units::Blocks(_) => "layers",
            Units::Hops(_) => "hops",
            Units::Edges(_) => "edges",
        }
    }

    /// Their kind, and the layers that make them where they are of some.
    pub fn name(&self) -> String {
        match self {
            Units::Channels(group) => format!("channels of `{}`", group.name),
            other => other.kind().into(),
        }
    }

    /// How many there are to score.
    pub fn len(&self) -> usize {
        match self {
            Units::Channels(group) => group.units,
            Units::Weights(all) => {
                all.matrices.iter().map(|matrix| matrix.param.value().len()).sum()
            }
            Units::Blocks(all) => all.blocks.len(),
            Units::Hops(all) => all.names.len(),
            Units::Edges(all) => all.units,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a criterion of this name says to a kind of units that it does not serve.
    pub fn unserved(&self, criterion: &str) -> Error {
        let reason = "its formula is about others; choose another criterion".into();
        unserved(criterion, self.kind(), reason)
    }

    /// Sums `f` over all entries tied to each unit: of a channel all its slices, of a weight
    /// itself.
    ///
    /// # Errors
    /// As [`Units::unserved`] for units without entries, by the name of the criterion that asks.
    pub fn sum(&self, criterion: &str, f: impl Fn(Entry<F>) -> F) -> Result<Array1<F>> {
        match self {
            Units::Channels(group) => Ok(group.sum(f)),
            Units::Weights(all) => {
                let mut sums = Vec::with_capacity(self.len());
                for matrix in &all.matrices {
                    let of = |from: Option<&Array2<F>>, at| from.map_or(F::zero(), |all| all[at]);
                    sums.extend(matrix.param.value().indexed_iter().map(|(at, &weight)| {
                        let (gradient, fisher) = (of(matrix.gradient, at), of(matrix.fisher, at));
                        f(Entry { weight, gradient, fisher })
                    }));
                }
                Ok(sums.into())
            }
            _ => Err(self.unserved(criterion)),
        }
    }

    /// A generator for what a criterion draws for these units alone.
    pub fn generator(&self) -> ChaCha8Rng {
        let of = |seed| generator(seed, &[purpose::RANDOM_CRITERION]);
        match self {
            // The seed of a group has its purpose in it.
            Units::Channels(group) => generator(group.seed, &[]),
            Units::Weights(all) => of(all.seed),
            Units::Edges(all) => of(all.seed),
            Units::Blocks(all) => later(of(all.seed), all.scored),
            Units::Hops(all) => later(of(all.seed), all.scored),
        }
    }
}

/// Rounds share a stream: each goes on where a number per unit has brought it.
fn later(mut rng: ChaCha8Rng, scored: usize) -> ChaCha8Rng {
    (0..scored).for_each(|_| {
        rng.random::<f64>();
    });
    rng
}

/// What a criterion says to units that it does not serve.
pub(super) fn unserved(criterion: &str, units: &'static str, reason: String) -> Error {
    crate::error::PruneError::Unserved { criterion: criterion.into(), units, reason }.into()
}
