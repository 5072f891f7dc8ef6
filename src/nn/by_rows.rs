//! A pass that keeps no map but what comes out of each hop: all between two hops is computed some
//! rows at a time, and once more on the way back.
//!
//! A chain of layers is taken apart into hops, `Z → Â·Z + b`, and *stretches* between them, whose
//! rows do not know each other:
//!
//! ```text
//! X ─ stretch 0 ─ hop 1 ─ P₁ ─ stretch 1 ─ hop 2 ─ P₂ ─ … ─ stretch K ─ Y
//! ```
//!
//! A hop needs all rows at once and works in the memory of its input, some columns at a time; a
//! stretch writes what the next hop reads. So one map of the widest hop lives at a time, and
//! beside it the `P_k` that stretches read again on the way back, over which they write the
//! gradient of `P_k`. Where nothing learns before hop 1, `P₁` is not kept either: its rows are
//! aggregated when they are asked for.

use super::cx::{Cx, Mode};
use super::dense::{Dropout, Linear};
use super::erased::DynLayer;
use super::grads::{Grads, Io};
use super::ids::{NodeId, ParamId};
use super::kept_map::Slot;
use super::layer::Layer;
use super::liveness::Liveness;
use super::model::{Model, Node};
use super::model_builder::ModelBuilder;
use super::param::Param;
use super::piece::Piece;
use super::product::then_bias;
use super::rows::Rows;
use super::strips::Strips;
use super::wiring::Wiring;
use crate::error::{ModelError, Result};
use crate::graph::AdjacencyNorm;
use crate::kernels;
use crate::scalar::Scalar;
use crate::value::{CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2, s};
use std::ops::Range;

/// Rows of a stretch at a time: some maps of so many rows lie in the cache together.
const ROWS: usize = 2048;

/// A model as stretches and hops, and what a forward pass has kept of it.
#[derive(Debug)]
pub(super) struct ByRows<F: Scalar> {
    /// One more than there are hops.
    stretches: Vec<Stretch<F>>,
    hops: Vec<Hop<F>>,
    /// `P_k`, where it is kept; the input is not.
    kept: Vec<Option<Strips<F>>>,
}

/// Layers whose rows do not know each other.
#[derive(Debug)]
struct Stretch<F: Scalar> {
    body: Option<Body<F>>,
    /// The product that it ends in, whose output nobody reads on the way back.
    last: Option<Linear<F>>,
    width: usize,
}

#[derive(Debug)]
struct Body<F: Scalar> {
    model: Model<F>,
    /// The nodes and parameters of the whole model that those of `model` are.
    nodes: Vec<NodeId>,
    params: Vec<ParamId>,
    inference: Liveness,
    trace: Liveness,
}

/// `Z → Â·Z + b`.
#[derive(Debug)]
struct Hop<F: Scalar> {
    norm: AdjacencyNorm,
    bias: Option<Param<F>>,
    node: NodeId,
    place: String,
}

/// What a stretch reads.
enum Source<'a, F: Scalar> {
    /// A value.
    Value(ValueRef<'a, F>),
    /// A map.
    Map(&'a Strips<F>),
    /// `Â·X`, whose rows are computed when they are asked for, ...
    Hop(CsrView<'a, F>, ArrayView2<'a, F>),
    /// ... and that of a map.
    HopOfMap(CsrView<'a, F>, &'a Strips<F>),
}

impl<F: Scalar> Source<'_, F> {
    fn num_rows(&self) -> usize {
        match self {
            Source::Value(x) => x.rows(),
            Source::Map(x) => x.shape().0,
            Source::Hop(a, _) | Source::HopOfMap(a, _) => a.rows(),
        }
    }

    /// Hands some rows to `f`.
    fn read<R>(&self, cx: &Cx<F>, rows: Range<usize>, f: impl FnOnce(ValueRef<F>) -> R) -> R {
        match self {
            Source::Value(ValueRef::Dense(x)) => f(ValueRef::Dense(x.slice(s![rows, ..]))),
            Source::Value(ValueRef::Sparse(x)) => f(ValueRef::Sparse(x.slice_outer(rows))),
            Source::Map(x) => with(cx, x.read(cx, rows), f),
            Source::HopOfMap(a, z) => with(cx, z.aggregated(cx, a.view(), rows), f),
            Source::Hop(a, z) => {
                let mut x = cx.take((rows.len(), z.ncols()));
                kernels::spmm(a.slice_outer(rows), z.view(), x.view_mut());
                with(cx, x, f)
            }
        }
    }
}

/// Hands an array from the workspace to `f`, and back.
fn with<F: Scalar, R>(cx: &Cx<F>, x: Array2<F>, f: impl FnOnce(ValueRef<F>) -> R) -> R {
    let done = f(ValueRef::Dense(x.view()));
    cx.give(x);
    done
}

/// Who the rows of a pass are, and where their stored features begin.
struct Who<'a> {
    ids: Option<&'a [u32]>,
    starts: Option<Vec<usize>>,
}

impl<'a> Who<'a> {
    fn of<F: Scalar>(cx: &Cx<'a, F>, x: &ValueRef<F>) -> Self {
        let given = cx.rows().and_then(Rows::feature_starts).map(<[usize]>::to_vec);
        // What rows of a whole graph draw by.
        let own = || match x {
            ValueRef::Sparse(x) if cx.ids().is_none() => {
                let indptr = x.indptr();
                Some((0..x.rows()).map(|i| indptr.outer_inds_sz(i).start).collect())
            }
            _ => None,
        };
        Self { ids: cx.ids(), starts: given.or_else(own) }
    }

    fn rows<F: Scalar>(&self, block: Range<usize>) -> Rows<F> {
        let ids: Vec<u32> = match self.ids {
            Some(ids) => ids[block.clone()].to_vec(),
            None => block.clone().map(|i| u32::try_from(i).expect("nodes have 32 bits")).collect(),
        };
        let rows = Rows::new().ids(ids);
        match &self.starts {
            Some(starts) => rows.sparse_starts(&starts[block]),
            None => rows,
        }
    }
}

/// Blocks of equal length, so that each runs in the memory of the one before it.
fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let len = rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1);
    (0..rows).step_by(len).map(move |start| start..(start + len).min(rows))
}

impl<F: Scalar> Stretch<F> {
    fn learns(&self) -> bool {
        let mut learns = false;
        let mut ask = |param: &Param<F>| learns |= param.is_trainable();
        self.last.iter().for_each(|last| Layer::visit(last, &mut ask));
        self.body.iter().for_each(|body| body.model.visit(&mut |_, param| ask(param)));
        learns
    }

    fn is_empty(&self) -> bool {
        self.body.is_none() && self.last.is_none()
    }

    /// Where it runs on some rows, as the nodes of the model that its layers belong to.
    fn at<'c>(&'c self, cx: &Cx<'c, F>, rows: &'c Rows<F>) -> Cx<'c, F> {
        cx.of_rows(rows, self.body.as_ref().map_or(&[], |body| &body.nodes))
    }

    /// Some rows of its output.
    fn rows(&self, cx: &Cx<F>, x: ValueRef<F>) -> Result<Array2<F>> {
        let h = match &self.body {
            Some(body) => Some(body.model.infer_with(&body.inference, cx, x.reborrow())?),
            None => None,
        };
        Ok(match (&self.last, h) {
            (None, h) => h.unwrap_or_else(|| cx.copy_of(&x)),
            (Some(last), None) => Layer::forward(last, cx, &[x])?.0.into_dense(),
            (Some(last), Some(h)) => Layer::forward_owned(last, cx, h)?.0.into_dense(),
        })
    }

    fn forward(&self, cx: &Cx<F>, who: &Who, source: &Source<F>) -> Result<Strips<F>> {
        let mut y = Strips::new((source.num_rows(), self.width));
        for block in blocks(source.num_rows()) {
            let rows = who.rows(block.clone());
            let at = self.at(cx, &rows);
            let some = source.read(cx, block.clone(), |x| self.rows(&at, x))?;
            y.write(block, some.view());
            cx.give(some);
        }
        Ok(y)
    }

    /// As [`Stretch::forward`], in the memory of what it reads, which has its width.
    fn forward_over(&self, cx: &Cx<F>, who: &Who, mut x: Strips<F>) -> Result<Strips<F>> {
        for block in blocks(x.shape().0) {
            let rows = who.rows(block.clone());
            let at = self.at(cx, &rows);
            let some = with(cx, x.read(cx, block.clone()), |x| self.rows(&at, x))?;
            x.write(block, some.view());
            cx.give(some);
        }
        Ok(x)
    }

    /// Adds the gradients of its parameters for some rows, and returns that of `x` where it is
    /// wanted.
    fn rows_back(
        &self,
        cx: &Cx<F>,
        x: ValueRef<F>,
        dy: ArrayView2<F>,
        grads: &mut Grads<F>,
        wanted: bool,
    ) -> Result<Option<Array2<F>>> {
        let Some(body) = &self.body else {
            return Ok(match &self.last {
                Some(last) => product_back(last, cx, x, dy, grads, wanted),
                None => wanted.then(|| cx.copy_of(&ValueRef::Dense(dy))),
            });
        };
        let trace = body.model.trace_with(&body.trace, cx, x)?;
        let dh = self.last.as_ref().and_then(|last| {
            product_back(last, cx, ValueRef::Dense(trace.output()), dy, grads, true)
        });
        let dh = dh.unwrap_or_else(|| cx.copy_of(&ValueRef::Dense(dy)));
        let seed = vec![(body.model.output(), dh)];
        let (own, dx) = body.model.backward_from(cx, trace, seed, wanted)?;
        grads.add_as(own, &body.params);
        Ok(dx.map(Value::into_dense))
    }

    /// The gradients of its parameters, where nothing learns before it.
    fn back(
        &self,
        cx: &Cx<F>,
        who: &Who,
        source: &Source<F>,
        dy: &Gradient<F>,
        grads: &mut Grads<F>,
    ) -> Result<()> {
        for block in blocks(source.num_rows()) {
            let rows = who.rows(block.clone());
            let at = self.at(cx, &rows);
            let dy = dy.read(cx, block.clone());
            source.read(cx, block, |x| self.rows_back(&at, x, dy.view(), grads, false))?;
            cx.give(dy);
        }
        Ok(())
    }

    /// The gradients of its parameters, and that of what it reads, in the memory of that.
    fn back_over(
        &self,
        cx: &Cx<F>,
        who: &Who,
        mut x: Strips<F>,
        dy: &Gradient<F>,
        grads: &mut Grads<F>,
    ) -> Result<Strips<F>> {
        for block in blocks(x.shape().0) {
            let rows = who.rows(block.clone());
            let at = self.at(cx, &rows);
            let dy = dy.read(cx, block.clone());
            let read = x.read(cx, block.clone());
            let dx = with(cx, read, |x| self.rows_back(&at, x, dy.view(), grads, true))?;
            cx.give(dy);
            // Where nothing leads on to what it reads, the gradient is zero, and not what was read.
            let dx = dx.unwrap_or_else(|| Array2::zeros((block.len(), x.shape().1)));
            x.write(block, dx.view());
            cx.give(dx);
        }
        Ok(x)
    }
}

/// The gradient of what a stretch puts out.
enum Gradient<F: Scalar> {
    OfOutput(Array2<F>),
    OfMap(Strips<F>),
}

impl<F: Scalar> Gradient<F> {
    fn read(&self, cx: &Cx<F>, rows: Range<usize>) -> Array2<F> {
        match self {
            Gradient::OfOutput(dy) => cx.copy_of(&ValueRef::Dense(dy.slice(s![rows, ..]))),
            Gradient::OfMap(dy) => dy.read(cx, rows),
        }
    }

    fn into_map(self) -> Strips<F> {
        match self {
            Gradient::OfOutput(dy) => {
                let mut map = Strips::new(dy.dim());
                map.write(0..dy.nrows(), dy.view());
                map
            }
            Gradient::OfMap(dy) => dy,
        }
    }
}

/// Backward of a product alone.
fn product_back<F: Scalar>(
    last: &Linear<F>,
    cx: &Cx<F>,
    x: ValueRef<F>,
    dy: ArrayView2<F>,
    grads: &mut Grads<F>,
    wanted: bool,
) -> Option<Array2<F>> {
    let io = Io {
        widths: vec![x.cols()],
        inputs: vec![Slot::of(Some(x), None)],
        output: Slot::default(),
        wants: vec![wanted],
    };
    let dx = Layer::backward(last, cx, &io, (), ValueRef::Dense(dy), grads);
    dx.into_iter().next().flatten().map(Value::into_dense)
}

impl<F: Scalar> Hop<F> {
    fn at<'c>(&'c self, cx: &Cx<'c, F>) -> Cx<'c, F> {
        cx.at(self.node, &self.place)
    }

    /// `Z ← Â·Z + b`.
    fn over(&self, cx: &Cx<F>, z: &mut Strips<F>) -> Result<()> {
        let operator = self.at(cx).graph()?.operator(self.norm)?;
        z.hop(operator.forward(), then_bias(self.bias.as_ref()).bias);
        Ok(())
    }

    /// `dZ ← Âᵀ·dP`, and the gradient of the bias.
    fn back_over(&self, cx: &Cx<F>, dp: &mut Strips<F>, grads: &mut Grads<F>) -> Result<()> {
        if let Some(bias) = &self.bias {
            grads.add(bias, dp.column_sums());
        }
        let operator = self.at(cx).graph()?.operator(self.norm)?;
        dp.hop(operator.transpose(), None);
        Ok(())
    }
}

/// A layer of a stretch, and the node of the model that it belongs to.
struct Part<F: Scalar> {
    node: NodeId,
    name: String,
    layer: Box<dyn DynLayer<F>>,
}

impl<F: Scalar> Part<F> {
    fn of(id: NodeId, node: &Node<F>, layer: Box<dyn DynLayer<F>>) -> Self {
        Self { node: id, name: node.name().into(), layer }
    }
}

impl<F: Scalar> Stretch<F> {
    fn of(mut parts: Vec<Part<F>>, width: usize, sparse: bool, mode: Mode) -> Result<Self> {
        // A product of sparse rows is a body's: what a trace puts out is dense.
        let last = parts.last().filter(|_| !sparse);
        let last: Option<Linear<F>> =
            last.and_then(|part| part.layer.as_any().downcast_ref()).cloned();
        parts.truncate(parts.len() - usize::from(last.is_some()));
        let body = if parts.is_empty() { None } else { Some(Body::of(parts, width, mode)?) };
        let width = body.as_ref().map_or(width, |body| body.model.out_channels());
        let width = last.as_ref().map_or(width, |last| match Layer::wiring(last) {
            Wiring::Fresh { channels, .. } => channels,
            _ => width,
        });
        Ok(Self { body, last, width })
    }
}

impl<F: Scalar> Body<F> {
    fn of(parts: Vec<Part<F>>, width: usize, mode: Mode) -> Result<Self> {
        let mut builder = ModelBuilder::new(width);
        let (mut nodes, mut params, mut at) = (Vec::new(), Vec::new(), NodeId::INPUT);
        for Part { node, name, layer } in parts {
            layer.visit(&mut |param| params.push(param.id()));
            let name = if builder.has(&name) { format!("{name} again") } else { name };
            at = builder.add_boxed(&name, layer, &[at])?;
            nodes.push(node);
        }
        let model = builder.build_as_is(at)?;
        let inference = Liveness::of_inference(&model, mode);
        let trace = Liveness::of_trace(&model, mode, &[]);
        Ok(Self { model, nodes, params, inference, trace })
    }
}

impl<F: Scalar> ByRows<F> {
    /// Takes a model apart.
    ///
    /// # Errors
    /// [`ModelError::KeepsMaps`] where a layer reads another than the one before it, or is not made
    /// of pieces.
    fn of(model: &Model<F>, mode: Mode, mut sparse: bool) -> Result<Self> {
        let (mut stretches, mut hops, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut width, mut reads_sparse, mut before) =
            (model.in_channels(), sparse, NodeId::INPUT);
        for (id, node) in model.iter() {
            let refused = |reason: &str| ModelError::KeepsMaps {
                node: node.name().into(),
                kind: node.layer().kind().into(),
                reason: reason.into(),
            };
            if node.inputs() != [before] {
                return Err(refused("it does not read the layer before it, and that alone").into());
            }
            before = id;
            if node.layer().is_identity(mode) {
                continue;
            }
            let pieces = node.layer().pieces(sparse);
            let pieces = pieces.ok_or_else(|| refused("it looks at more than a row and a hop"))?;
            sparse &= node.layer().as_any().is::<Dropout>();
            for piece in pieces {
                match piece {
                    Piece::Itself => parts.push(Part::of(id, node, node.layer().boxed())),
                    Piece::Product { weight, bias } => {
                        let product = Linear::of(&weight, bias.as_ref());
                        parts.push(Part::of(id, node, Box::new(product)));
                    }
                    Piece::Hop { norm, bias } => {
                        let own = std::mem::take(&mut parts);
                        let stretch = Stretch::of(own, width, reads_sparse, mode)?;
                        (width, reads_sparse) = (stretch.width, false);
                        stretches.push(stretch);
                        hops.push(Hop { norm, bias, node: id, place: node.name().into() });
                    }
                }
            }
        }
        stretches.push(Stretch::of(parts, width, reads_sparse, mode)?);
        let kept = stretches.iter().map(|_| None).collect();
        Ok(Self { stretches, hops, kept })
    }

    /// Runs `model`, and keeps what [`ByRows::backward`] reads where that is to follow.
    ///
    /// # Errors
    /// As [`Model::infer`], and [`ModelError::KeepsMaps`].
    pub(super) fn forward(
        model: &Model<F>,
        cx: &Cx<F>,
        x: &ValueRef<F>,
        keep: bool,
    ) -> Result<(Self, Array2<F>)> {
        let sparse = matches!(x, ValueRef::Sparse(_));
        let mut all = Self::of(model, cx.mode(), sparse)?;
        let who = Who::of(cx, x);
        let mut map: Option<Strips<F>> = None;
        for k in 0..all.stretches.len() {
            let stretch = &all.stretches[k];
            let mut y = match map.take() {
                Some(p) if stretch.is_empty() => p,
                Some(p) if !keep && p.shape().1 == stretch.width => {
                    stretch.forward_over(cx, &who, p)?
                }
                Some(p) => {
                    let y = stretch.forward(cx, &who, &Source::Map(&p))?;
                    all.kept[k] = Some(p).filter(|_| keep);
                    y
                }
                None if k > 0 => {
                    all.with_first(cx, &who, x, |source| stretch.forward(cx, &who, source))?
                }
                None if all.makes_first_again() => continue,
                None => stretch.forward(cx, &who, &Source::Value(x.reborrow()))?,
            };
            match all.hops.get(k) {
                Some(hop) => hop.over(cx, &mut y)?,
                None => return Ok((all, y.into_array())),
            }
            map = Some(y);
        }
        unreachable!("the last stretch has no hop behind it")
    }

    /// Adds the gradients of all parameters, by that of the output.
    pub(super) fn backward(
        mut self,
        cx: &Cx<F>,
        x: &ValueRef<F>,
        seed: Array2<F>,
        grads: &mut Grads<F>,
    ) -> Result<()> {
        let who = Who::of(cx, x);
        let mut dy = Gradient::OfOutput(seed);
        for k in (0..self.stretches.len()).rev() {
            let wanted = self.learns_before(k);
            let kept = self.kept[k].take();
            let stretch = &self.stretches[k];
            let mut dp = match kept {
                Some(p) if !wanted => {
                    return stretch.back(cx, &who, &Source::Map(&p), &dy, grads);
                }
                Some(p) => {
                    let dp = stretch.back_over(cx, &who, p, &dy, grads)?;
                    drop(dy);
                    dp
                }
                None if stretch.is_empty() => dy.into_map(),
                None => {
                    let mut back = |source: &Source<F>| stretch.back(cx, &who, source, &dy, grads);
                    match k {
                        0 => back(&Source::Value(x.reborrow()))?,
                        _ => self.with_first(cx, &who, x, back)?,
                    }
                    return Ok(());
                }
            };
            if !wanted {
                return Ok(());
            }
            self.hops[k - 1].back_over(cx, &mut dp, grads)?;
            dy = Gradient::OfMap(dp);
        }
        Ok(())
    }

    /// Whether `P₁` is made again rather than kept: nothing learns before it.
    fn makes_first_again(&self) -> bool {
        self.hops.first().is_some_and(|hop| hop.bias.is_none()) && !self.stretches[0].learns()
    }

    /// Whether a parameter stands before stretch `k` that trains.
    fn learns_before(&self, k: usize) -> bool {
        let bias = |hop: &Hop<F>| hop.bias.as_ref().is_some_and(Param::is_trainable);
        self.stretches[..k].iter().any(Stretch::learns) || self.hops[..k].iter().any(bias)
    }

    /// Hands the rows of `P₁` to `f`.
    fn with_first<R>(
        &self,
        cx: &Cx<F>,
        who: &Who,
        x: &ValueRef<F>,
        f: impl FnOnce(&Source<F>) -> Result<R>,
    ) -> Result<R> {
        let operator = self.hops[0].at(cx).graph()?.operator(self.hops[0].norm)?;
        let stretch = &self.stretches[0];
        if stretch.is_empty() {
            return x.with_dense(|x| f(&Source::Hop(operator.forward(), x)));
        }
        let z = stretch.forward(cx, who, &Source::Value(x.reborrow()))?;
        f(&Source::HopOfMap(operator.forward(), &z))
    }
}
