//! What the attention layers share: their settings, and how heads become channels.

use crate::error::{Error, ModelError, PruneError, Result};
use crate::graph::{AttentionEdges, Graph};
use crate::kernels;
use crate::nn::dense::drop_mask;
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Init, Kept, Mask, Param, Place, PruneUnits, Python, Wiring, remade,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, s};
use ndarray_rand::rand::Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What pruning removes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Units {
    /// The same channel of every head.
    AcrossHeads,
    /// Whole heads.
    WholeHeads,
}

/// Settings of an attention layer.
#[derive(Debug, Clone)]
pub(super) struct Heads {
    pub heads: usize,
    pub average: bool,
    pub negative_slope: f64,
    pub dropout: f64,
    pub units: Units,
    /// Whether the self-loops of the graph are replaced by one per node.
    pub self_loops: bool,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self {
            heads: 1,
            average: false,
            negative_slope: 0.2,
            dropout: 0.0,
            units: Units::AcrossHeads,
            self_loops: true,
        }
    }

    /// A layer of attention of `class` in PyTorch Geometric, of `width` channels over all heads.
    pub(super) fn to_python(
        &self,
        at: &Place,
        class: &str,
        width: usize,
        edge_dim: Option<usize>,
        more: &str,
        bias: bool,
    ) -> Python {
        let dim = width / self.heads;
        let made = format!(
            "pyg.{class}({}, {dim}, heads={}, concat={}, negative_slope={:?}, dropout={:?}, add_self_loops={}{}{more}, bias={})",
            at.in_channels,
            self.heads,
            py(!self.average),
            self.negative_slope,
            self.dropout,
            py(self.self_loops),
            edge_dim.map(|dim| format!(", edge_dim={dim}")).unwrap_or_default(),
            py(bias)
        );
        at.module(
            made,
            if edge_dim.is_some() { &["edge_index", "edge_attr"] } else { &["edge_index"] },
        )
    }

    /// Checks the ranges of all settings of a layer of `kind`.
    pub(super) fn check(
        &self,
        kind: &str,
        in_channels: usize,
        dim: usize,
        edge_dim: Option<usize>,
    ) -> Result<()> {
        if in_channels == 0 || dim == 0 {
            return Err(Error::setting(
                format!("channels of {kind}"),
                format!("{in_channels} -> {dim}"),
                "at least 1 on both sides",
            ));
        }
        if self.heads == 0 || dim.checked_mul(self.heads).is_none() {
            return Err(Error::setting(
                format!("heads of {kind}"),
                self.heads,
                "at least 1, and not too many to count their channels",
            ));
        }
        if edge_dim == Some(0) {
            return Err(Error::setting(format!("edge_dim of {kind}"), 0, "at least 1"));
        }
        if !(self.negative_slope >= 0.0 && self.negative_slope.is_finite()) {
            return Err(Error::setting(
                format!("negative_slope of {kind}"),
                self.negative_slope,
                "finite and at least 0",
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::setting(format!("dropout of {kind}"), self.dropout, "in [0, 1)"));
        }
        if self.average && self.units == Units::WholeHeads {
            return Err(Error::setting(
                format!("units of {kind}"),
                "whole heads",
                "for heads side by side; averaged heads share channels",
            ));
        }
        Ok(())
    }

    /// The edges that are scored.
    pub(super) fn edges<F: Scalar>(&self, graph: &Graph<F>) -> Arc<AttentionEdges<F>> {
        if self.self_loops { graph.attention() } else { graph.attention_as_listed() }
    }

    /// What is one number per channel of all heads, as the output has it: averaged, or as it is.
    pub(super) fn averaged<F: Scalar>(&self, param: &Param<F>) -> Param<F> {
        if !self.average {
            return param.clone();
        }
        let dim = param.value().ncols() / self.heads;
        let heads = |h: usize| s![.., h * dim..(h + 1) * dim];
        let mut mean = Array2::zeros((param.value().nrows(), dim));
        (0..self.heads).for_each(|h| mean += &param.value().slice(heads(h)));
        mean /= F::of(self.heads as f64);
        let mut made = remade(param, mean, &[]);
        if let Some(mask) = param.mask() {
            let shape = made.value().dim();
            made.restrict(&Mask::from_shape_fn(shape, |(k, c)| {
                (0..self.heads).any(|h| mask[[k, h * dim + c]])
            }));
        }
        made
    }

    /// Axis of columns that hold all heads.
    pub(super) fn axis(&self) -> Axis {
        if self.average { Axis::OutTiled } else { Axis::Out }
    }

    /// A parameter of all heads, `[1, heads·dim]`.
    pub(super) fn row<F: Scalar>(&self, name: &str, width: usize, init: Init) -> Param<F> {
        Param::new(name, (1, width), [Axis::Fixed, self.axis()], init)
    }

    /// A matrix from the features of edges to all heads.
    pub(super) fn edge_weight<F: Scalar>(&self, edge_dim: usize, width: usize) -> Param<F> {
        Param::new(
            "edge_weight",
            (edge_dim, width),
            [Axis::Fixed, self.axis()],
            Init::GlorotUniform,
        )
    }

    /// Channels of the output where all heads together have `width`.
    pub(super) fn out_channels(&self, width: usize) -> usize {
        if self.average { width / self.heads } else { width }
    }

    pub(super) fn wiring(&self, width: usize) -> Wiring {
        let units = match self.units {
            _ if self.average || self.heads == 1 => PruneUnits::Single,
            Units::AcrossHeads => PruneUnits::AcrossHeads { heads: self.heads },
            Units::WholeHeads => PruneUnits::WholeHeads { dim: width / self.heads },
        };
        Wiring::Fresh { channels: self.out_channels(width), units }
    }

    /// Fewer heads where whole ones went; else the heads are narrower, which the parameters show.
    pub(super) fn reshaped(&mut self, kind: &str, kept: &Kept) -> Result<(), PruneError> {
        if self.average || self.heads == 1 {
            return Ok(());
        }
        let by =
            if self.units == Units::WholeHeads { kept.out_width / self.heads } else { self.heads };
        if by == 0 || kept.output.is_empty() || !kept.output.len().is_multiple_of(by) {
            let reason =
                format!("{} channels are left, which is no multiple of {by}", kept.output.len());
            return Err(PruneError::Refused { layer: kind.into(), reason });
        }
        if self.units == Units::WholeHeads {
            self.heads = kept.output.len() / by;
        }
        Ok(())
    }

    pub(super) fn attrs(&self) -> Attrs {
        let attrs = Attrs::new()
            .with("heads", self.heads)
            .with("average", self.average)
            .with("negative_slope", self.negative_slope);
        let attrs = attrs.with("dropout", self.dropout).with("units", self.units);
        if self.self_loops { attrs } else { attrs.with("self_loops", false) }
    }

    /// Reads the settings of a layer whose heads together have `width` channels; returns the
    /// channels of one head, too.
    pub(super) fn from_attrs(attrs: &Attrs, width: usize) -> Result<(Self, usize)> {
        let heads = Self {
            heads: attrs.get("heads")?,
            average: attrs.get("average")?,
            negative_slope: attrs.get("negative_slope")?,
            dropout: attrs.get("dropout")?,
            // Other programs do not know of units.
            units: attrs.get("units").unwrap_or(Units::AcrossHeads),
            self_loops: attrs.get_or("self_loops", true)?,
        };
        if heads.heads == 0 || !width.is_multiple_of(heads.heads) {
            return Err(ModelError::Misfit(format!(
                "{width} channels of an attention layer are not those of {} heads",
                heads.heads
            ))
            .into());
        }
        let dim = width / heads.heads;
        Ok((heads, dim))
    }

    /// Random settings, channels of one head, and channels of the edges, for an output of about
    /// `out` channels.
    pub(super) fn sample(out: usize, rng: &mut ChaCha8Rng) -> (Self, usize, Option<usize>) {
        let average: bool = rng.random();
        let heads = rng.random_range(1..=3);
        let dropout = if rng.random() { 0.0 } else { rng.random_range(0.3..0.8) };
        let units = if !average && rng.random() { Units::WholeHeads } else { Units::AcrossHeads };
        let dim = if average { out } else { (out / heads).max(1) };
        let settings = Self {
            heads,
            average,
            negative_slope: rng.random_range(0.05..0.5),
            dropout,
            units,
            self_loops: rng.random(),
        };
        // The width that random graphs have.
        (settings, dim, rng.random::<bool>().then_some(3))
    }

    /// Refuses to draw for edges between nodes that are not those of their place: an edge is drawn
    /// for by its place in the list, which says nothing of who its ends are.
    pub(super) fn check_draws<F: Scalar>(&self, cx: &Cx<F>) -> Result<()> {
        if cx.ids().is_some() && drop_mask(cx, self.dropout).is_some() {
            return Err(Error::DrawsByEdge { at: cx.place().into() });
        }
        Ok(())
    }

    /// Dropout of the weights, drawn by their position; `None` where nothing is dropped.
    pub(super) fn thin<F: Scalar>(
        &self,
        cx: &Cx<F>,
    ) -> Option<impl Fn(usize, &mut [F]) + Sync + use<F>> {
        let factor = F::of(1.0 / (1.0 - self.dropout));
        drop_mask(cx, self.dropout)
            .map(|mask| move |start: usize, weights: &mut [F]| mask.scale(start, weights, factor))
    }

    /// Whether the heads' mean is put out.
    fn joins(&self) -> bool {
        self.average && self.heads > 1
    }

    /// The bias, where it has a number for every channel of all heads; else [`Heads::joined`] adds
    /// it.
    pub(super) fn wide_bias<'b, F: Scalar>(&self, bias: &'b Option<Param<F>>) -> Option<&'b [F]> {
        bias.as_ref().filter(|_| !self.joins()).map(slice)
    }

    /// The output: all heads side by side, or their mean and the bias.
    pub(super) fn joined<F: Scalar>(
        &self,
        cx: &Cx<F>,
        wide: Array2<F>,
        bias: &Option<Param<F>>,
    ) -> Array2<F> {
        if !self.joins() {
            return wide;
        }
        let (n, width) = wide.dim();
        let (dim, share) = (width / self.heads, F::of(1.0 / self.heads as f64));
        let bias = bias.as_ref().map(slice);
        let mut y = cx.take((n, dim));
        kernels::map_rows(y.view_mut(), |i, y| {
            y.fill(F::zero());
            let row = wide.row(i);
            for head in row.as_slice().expect("pool arrays are contiguous").chunks_exact(dim) {
                y.iter_mut().zip(head).for_each(|(y, &v)| *y += v);
            }
            y.iter_mut().for_each(|y| *y *= share);
            if let Some(bias) = bias {
                y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        });
        cx.give(wide);
        y
    }

    /// Gradient of all heads from that of the output: the transpose of [`Heads::joined`].
    pub(super) fn spread<F: Scalar>(&self, cx: &Cx<F>, dy: ArrayView2<F>) -> Array2<F> {
        let (n, channels) = dy.dim();
        if !self.average {
            let mut wide = cx.take((n, channels));
            wide.assign(&dy);
            return wide;
        }
        let share = F::of(1.0 / self.heads as f64);
        let mut wide = cx.take((n, channels * self.heads));
        kernels::map_rows(wide.view_mut(), |i, wide| {
            for head in wide.chunks_exact_mut(channels) {
                head.iter_mut().zip(dy.row(i)).for_each(|(v, &d)| *v = d * share);
            }
        });
        wide
    }
}

/// The features of the edges, for a layer that takes `expected` of them.
pub(super) fn edge_features<'e, F: Scalar>(
    cx: &Cx<F>,
    edges: &'e AttentionEdges<F>,
    expected: usize,
) -> Result<ArrayView2<'e, F>> {
    let found = edges.features().map_or(0, |features| features.ncols());
    match edges.features() {
        Some(features) if found == expected => Ok(features),
        _ => {
            let (expected, found) = ((edges.num_edges(), expected), (edges.num_edges(), found));
            Err(Error::ShapeMismatch {
                at: format!("edge features of {}", cx.place()),
                expected,
                found,
            })
        }
    }
}

/// A row parameter as a slice.
pub(super) fn slice<F: Scalar>(param: &Param<F>) -> &[F] {
    param.value().as_slice().expect("parameters are contiguous")
}

/// The numbers of an array that a layer made itself.
pub(super) fn numbers<F: Scalar>(array: &Array2<F>) -> &[F] {
    array.as_slice().expect("pool arrays are contiguous")
}

/// [`numbers`], to write.
pub(super) fn numbers_mut<F: Scalar>(array: &mut Array2<F>) -> &mut [F] {
    array.as_slice_mut().expect("pool arrays are contiguous")
}

/// For oracles: softmax attention with these scores by target, source and head; `None` where there
/// is no edge.
pub(super) fn dense_attention<F: Scalar>(
    settings: &Heads,
    z: &Array2<F>,
    score: impl Fn(usize, usize, usize) -> Option<F>,
    bias: Option<&Array2<F>>,
) -> Array2<F> {
    let (n, width) = z.dim();
    let dim = width / settings.heads;
    let wide = Array2::from_shape_fn((n, width), |(i, c)| {
        let terms: Vec<(F, F)> =
            (0..n).filter_map(|j| Some((score(i, j, c / dim)?.exp(), z[[j, c]]))).collect();
        let total: F = terms.iter().map(|(e, _)| *e).sum();
        if terms.is_empty() {
            F::zero()
        } else {
            terms.iter().map(|&(e, z)| e * z).sum::<F>() / total
        }
    });
    let heads = F::of(settings.heads as f64);
    let y = match settings.average {
        true => Array2::from_shape_fn((n, dim), |(i, c)| {
            (0..settings.heads).map(|h| wide[[i, h * dim + c]]).sum::<F>() / heads
        }),
        false => wide,
    };
    bias.map_or(y.clone(), |bias| &y + bias)
}

/// For oracles: the features of the edge from `j` to `i`, the mean of what comes in where that is
/// an added loop; `None` where there is no edge.
pub(super) fn dense_features<F: Scalar>(
    graph: &Graph<F>,
    settings: &Heads,
    i: usize,
    j: usize,
) -> Option<Vec<F>> {
    let all = graph.edge_features();
    let place = |i: usize, j: usize| graph.adjacency().nnz_index(i, j).map(|index| index.0);
    let of = |e: usize| all.map_or(Vec::new(), |all| all.row(e).to_vec());
    if i != j || !settings.self_loops {
        return place(i, j).map(of);
    }
    let into: Vec<Vec<F>> =
        (0..graph.num_nodes()).filter(|&j| j != i).filter_map(|j| place(i, j).map(of)).collect();
    let channels = all.map_or(0, |all| all.ncols());
    let count = F::of(into.len().max(1) as f64);
    Some(
        (0..channels).map(|k| into.iter().map(|features| features[k]).sum::<F>() / count).collect(),
    )
}

/// The setters that the builders of both attention layers have.
macro_rules! heads_setters {
    () => {
        /// Number of heads, at least 1. Default 1.
        #[must_use]
        pub fn heads(mut self, heads: usize) -> Self {
            self.settings.heads = heads;
            self
        }

        /// Whether the mean of the heads is put out, in place of the heads side by side. Default:
        /// no.
        #[must_use]
        pub fn average(mut self, average: bool) -> Self {
            self.settings.average = average;
            self
        }

        /// Lets features of the edges, this many per edge, take part in the scores. Default: they
        /// do not.
        #[must_use]
        pub fn edge_dim(mut self, channels: usize) -> Self {
            self.edge_dim = Some(channels);
            self
        }

        /// Slope of the leaky ReLU below zero, finite and at least 0. Default 0.2.
        #[must_use]
        pub fn negative_slope(mut self, slope: f64) -> Self {
            self.settings.negative_slope = slope;
            self
        }

        /// Dropout of the attention weights in training, in [0, 1). Default 0.
        #[must_use]
        pub fn dropout(mut self, p: f64) -> Self {
            self.settings.dropout = p;
            self
        }

        /// Whether self-loops are replaced by one per node; otherwise edges are scored as they are
        /// listed. Default: yes.
        #[must_use]
        pub fn self_loops(mut self, replaced: bool) -> Self {
            self.settings.self_loops = replaced;
            self
        }

        /// Whether the output has a bias. Default: yes.
        #[must_use]
        pub fn bias(mut self, bias: bool) -> Self {
            self.bias = bias;
            self
        }

        /// Whether pruning removes whole heads, where they stand side by side, in place of the same
        /// channel of every head. Default: no.
        #[must_use]
        pub fn whole_heads(mut self, whole: bool) -> Self {
            self.settings.units = match whole {
                true => super::heads::Units::WholeHeads,
                false => super::heads::Units::AcrossHeads,
            };
            self
        }
    };
}
pub(super) use heads_setters;
