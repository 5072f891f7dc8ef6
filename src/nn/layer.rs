//! The layer contract: forward and backward by hand, channels by wiring, inference by lowering to
//! stages.

use super::attrs::Attrs;
use super::linear_map::See;
use super::model::{Model, NodeId};
use super::param::{Param, ParamId};
use super::pool::Pool;
use super::role::Role;
use super::stage::{Lowering, StageId};
use super::wiring::{Kept, Wiring};
use crate::error::{Error, PruneError, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::scalar::Scalar;
use crate::value::{CsrView, Value, ValueRef};
use ndarray::Array2;
use std::any::Any;
use std::sync::Arc;

/// Whether layers behave as in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout passes everything through, norms use their running statistics.
    Eval,
    /// Dropout drops, norms use the statistics of the batch.
    Train {
        /// Seed of the randomness.
        seed: u64,
        /// Step of the training; each draws other dropout masks.
        step: u64,
    },
}

/// What a layer is run in: the graph, the mode, the node it stands at, and the pool of buffers.
#[derive(Debug, Clone)]
pub struct Cx<'a, F: Scalar> {
    graph: Option<&'a Graph<F>>,
    mode: Mode,
    node: NodeId,
    place: &'a str,
    pool: Arc<Pool<F>>,
}

impl<'a, F: Scalar> Cx<'a, F> {
    /// Evaluation on `graph`.
    pub fn eval(graph: &'a Graph<F>) -> Self {
        Self {
            graph: Some(graph),
            mode: Mode::Eval,
            node: NodeId::INPUT,
            place: "",
            pool: Arc::default(),
        }
    }

    /// Evaluation without a graph, for models that aggregate nothing.
    pub fn without_graph() -> Self {
        Self { graph: None, mode: Mode::Eval, node: NodeId::INPUT, place: "", pool: Arc::default() }
    }

    /// The same, in another mode; the pool is shared.
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The same on another graph; the pool is shared.
    pub fn on<'b>(&self, graph: &'b Graph<F>) -> Cx<'b, F>
    where
        'a: 'b,
    {
        Cx { graph: Some(graph), ..self.clone() }
    }

    /// Evaluation, with or without a graph, with arrays from a pool that is there.
    pub(crate) fn on_pool(graph: Option<&'a Graph<F>>, pool: Arc<Pool<F>>) -> Self {
        Self { graph, mode: Mode::Eval, node: NodeId::INPUT, place: "", pool }
    }

    /// The same, standing at a node of a model.
    pub(crate) fn at(&self, node: NodeId, place: &'a str) -> Cx<'a, F> {
        Cx { node, place, ..self.clone() }
    }

    /// The graph.
    ///
    /// # Errors
    /// [`Error::NoGraph`] where there is none.
    pub fn graph(&self) -> Result<&'a Graph<F>> {
        self.graph.ok_or_else(|| Error::NoGraph { at: self.place.into() })
    }

    /// Training or evaluation.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The node that the layer stands at.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The node's name, for errors.
    pub fn place(&self) -> &'a str {
        self.place
    }

    /// An array from the pool; **its contents are whatever was in it before**.
    pub fn take(&self, shape: (usize, usize)) -> Array2<F> {
        self.pool.take(shape)
    }

    /// The entries of `x` in an array from the pool.
    pub fn copy_of(&self, x: &ValueRef<F>) -> Array2<F> {
        let mut copy = self.take(x.shape());
        match x {
            ValueRef::Dense(x) => kernels::copy_rows(x.view(), copy.view_mut()),
            ValueRef::Sparse(_) => x.with_dense(|x| copy.assign(&x)),
        }
        copy
    }

    /// Gives an array back to the pool.
    pub fn give(&self, array: Array2<F>) {
        self.pool.give(array);
    }

    /// Checks that `x` has `channels` columns and one row per node.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] with the node's name.
    pub fn check(&self, x: &ValueRef<F>, channels: usize) -> Result<()> {
        let found = x.shape();
        let expected = (self.graph.map_or(found.0, Graph::num_nodes), channels);
        if found == expected {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { at: self.place.into(), expected, found })
        }
    }
}

/// What a layer's backward reads of its inputs and output; the trace drops what nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Neither.
    Nothing,
    /// The inputs.
    Inputs,
    /// The output.
    Output,
    /// Which entries of the output are positive, and that only where the gradient is not zero.
    SignOfOutput,
    /// Inputs and output.
    InputsAndOutput,
}

impl Reads {
    pub(crate) fn inputs(self) -> bool {
        matches!(self, Reads::Inputs | Reads::InputsAndOutput)
    }

    pub(crate) fn output(self) -> bool {
        matches!(self, Reads::Output | Reads::SignOfOutput | Reads::InputsAndOutput)
    }
}

/// Inputs and output of a layer's forward pass, as its backward pass may read them, and which
/// gradients are wanted.
#[derive(Debug)]
pub struct Io<'a, F: Scalar> {
    pub(crate) inputs: Vec<Option<ValueRef<'a, F>>>,
    pub(crate) output: Option<ValueRef<'a, F>>,
    pub(crate) wants: Vec<bool>,
    pub(crate) widths: Vec<usize>,
}

impl<'a, F: Scalar> Io<'a, F> {
    /// All inputs and the output of a layer that was run by itself, and the wish for every
    /// gradient.
    pub fn of(inputs: &[ValueRef<'a, F>], output: ValueRef<'a, F>) -> Self {
        let widths = inputs.iter().map(ValueRef::cols).collect();
        Self {
            inputs: inputs.iter().map(|x| Some(*x)).collect(),
            output: Some(output),
            wants: vec![true; inputs.len()],
            widths,
        }
    }

    /// Input `k`.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`] says that backward does not read inputs.
    pub fn input(&self, k: usize) -> ValueRef<'a, F> {
        self.inputs[k].expect("`reads` says whether backward reads inputs")
    }

    /// Input `k` if it is sparse; those are kept whatever [`Layer::reads`] says.
    pub fn sparse_input(&self, k: usize) -> Option<CsrView<'a, F>> {
        match self.inputs[k] {
            Some(ValueRef::Sparse(x)) => Some(x),
            _ => None,
        }
    }

    /// The output.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`] says that backward does not read it.
    pub fn output(&self) -> ValueRef<'a, F> {
        self.output.expect("`reads` says whether backward reads the output")
    }

    /// Whether the gradient of input `k` is wanted; `None` may be returned for the others.
    pub fn wants(&self, k: usize) -> bool {
        self.wants[k]
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Columns of each input.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }
}

/// Added to the norm that gradients are divided by, as PyTorch does.
const CLIP_EPSILON: f64 = 1e-6;

/// Gradients of a model's parameters; what was never added to is zero.
#[derive(Debug, Clone, Default)]
pub struct Grads<F> {
    by_id: Vec<Option<Array2<F>>>,
}

impl<F: Scalar> Grads<F> {
    pub(crate) fn new(num_params: usize) -> Self {
        Self { by_id: vec![None; num_params] }
    }

    /// Adds to the gradient of `param`.
    ///
    /// # Panics
    /// If the shape is not the parameter's.
    pub fn add(&mut self, param: &Param<F>, gradient: Array2<F>) {
        assert_eq!(
            gradient.dim(),
            param.value().dim(),
            "the gradient of `{}` has its shape",
            param.name()
        );
        if self.by_id.len() <= param.id.0 {
            self.by_id.resize(param.id.0 + 1, None);
        }
        match &mut self.by_id[param.id.0] {
            Some(sum) => *sum += &gradient,
            empty => *empty = Some(gradient),
        }
    }

    /// The gradient of a parameter, or `None` where it is zero throughout.
    pub fn get(&self, id: ParamId) -> Option<&Array2<F>> {
        self.by_id.get(id.0).and_then(Option::as_ref)
    }

    /// Gives every parameter of `model` a gradient, of zeros where it had none.
    pub fn fill(&mut self, model: &Model<F>) {
        model.visit(&mut |_, param| {
            let index = param.id().0;
            if self.by_id.len() <= index {
                self.by_id.resize(index + 1, None);
            }
            self.by_id[index].get_or_insert_with(|| Array2::zeros(param.value().dim()));
        });
    }

    /// The entries of each gradient that there is, in the order of the parameters.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [F]> {
        let contiguous = "gradients are made in standard layout";
        self.by_id.iter_mut().flatten().map(move |gradient| {
            if !gradient.is_standard_layout() {
                *gradient = gradient.as_standard_layout().into_owned();
            }
            gradient.as_slice_mut().expect(contiguous)
        })
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: F) {
        self.by_id.iter_mut().flatten().for_each(|gradient| *gradient *= factor);
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        let squares = self.by_id.iter().flatten().flatten().map(|g| g.as_f64() * g.as_f64());
        squares.sum::<f64>().sqrt()
    }

    /// Scales all gradients so that their [`norm`](Self::norm) is `largest` at most.
    ///
    /// *Source*: Pascanu et al., ICML 2013, algorithm 1, as `torch.nn.utils.clip_grad_norm_`.
    pub fn clip(&mut self, largest: f64) {
        let factor = largest / (self.norm() + CLIP_EPSILON);
        if factor < 1.0 {
            self.scale(F::of(factor));
        }
    }

    /// Adds `scale` times the gradients of `other`.
    pub fn add_scaled(&mut self, other: &Grads<F>, scale: F) {
        self.by_id.resize(self.by_id.len().max(other.by_id.len()), None);
        for (sum, gradient) in self.by_id.iter_mut().zip(&other.by_id) {
            match (sum, gradient) {
                (Some(sum), Some(gradient)) => sum.scaled_add(scale, gradient),
                (sum @ None, Some(gradient)) => *sum = Some(gradient * scale),
                (_, None) => {}
            }
        }
    }
}

/// A layer of a graph neural network.
///
/// A type that implements it gets the erased [`DynLayer`] for free and can stand at a node of a
/// [`Model`](super::Model).
///
/// A gain for each channel, `Y_c = g_c · X_c`, learned:
///
/// ```
/// use gnn_prune::ndarray::{Array2, Axis as Side};
/// use gnn_prune::nn::{Axis, Cx, Grads, Init, Io, Layer, Lowering, ModelBuilder, NodeId, Param, Reads, StageId, Wiring};
/// use gnn_prune::{Graph, Result, Unsupported, Value, ValueRef};
///
/// #[derive(Clone)]
/// struct Gain(Param<f32>);
///
/// impl Layer<f32> for Gain {
///     type Cache = ();
///
///     fn kind(&self) -> &'static str {
///         "gain"
///     }
///
///     /// Channel `c` of the output stands and falls with channel `c` of the input.
///     fn wiring(&self) -> Wiring {
///         Wiring::Same
///     }
///
///     fn forward(&self, cx: &Cx<f32>, xs: &[ValueRef<f32>]) -> Result<(Value<f32>, ())> {
///         cx.check(&xs[0], self.0.value().ncols())?;
///         Ok((Value::Dense(xs[0].to_dense() * self.0.value()), ()))
///     }
///
///     fn reads(&self) -> Reads {
///         Reads::Inputs
///     }
///
///     /// `dg = Σ_i dY_i ⊙ X_i`, `dX = dY ⊙ g`.
///     fn backward(&self, _: &Cx<f32>, io: &Io<f32>, _: (), dy: ValueRef<f32>, grads: &mut Grads<f32>) -> Vec<Option<Value<f32>>> {
///         let dy = dy.to_dense();
///         grads.add(&self.0, (&dy * &io.input(0).to_dense()).sum_axis(Side(0)).insert_axis(Side(0)));
///         vec![Some(Value::Dense(dy * self.0.value()))]
///     }
///
///     /// A product with the diagonal matrix of the gains.
///     fn lower(&self, lowering: &mut Lowering<f32>, xs: &[StageId]) -> std::result::Result<StageId, Unsupported> {
///         let mut diagonal = Param::new("diagonal", (2, 2), [Axis::In(0), Axis::Out], Init::Zeros);
///         diagonal.value_mut().diag_mut().assign(&self.0.value().row(0));
///         Ok(lowering.linear(xs[0], &diagonal))
///     }
///
///     fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<f32>)) {
///         f(&self.0);
///     }
///
///     fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<f32>)) {
///         f(&mut self.0);
///     }
/// }
///
/// let mut builder = ModelBuilder::new(2);
/// let gain = builder.add("gain", Gain(Param::new("gain", (1, 2), [Axis::Fixed, Axis::Out], Init::Constant(3.0))), &[NodeId::INPUT])?;
/// let model = builder.build(gain, 0)?;
/// let (graph, x) = (Graph::builder(1).build()?, Array2::<f32>::ones((1, 2)));
/// let mut program = model.compile(&graph, ValueRef::Dense(x.view()))?;
/// assert_eq!(program.run(ValueRef::Dense(x.view()))?, Array2::from_elem((1, 2), 3.0));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Layer<F: Scalar>: Clone + Send + Sync + 'static {
    /// What backward needs and inputs and output cannot give back.
    type Cache: Send + 'static;

    /// The layer's name in files and reports.
    fn kind(&self) -> &'static str;

    /// How many inputs it takes: from, to.
    fn arity(&self) -> (usize, usize) {
        (1, 1)
    }

    /// Where its output channels come from.
    fn wiring(&self) -> Wiring;

    /// Computes the output from the inputs, all with one row per node.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another width, [`Error::NoGraph`] where aggregation
    /// has no graph.
    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)>;

    /// As [`Layer::forward`] where no backward pass follows: what only that would read goes back to
    /// the pool.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        Ok(self.forward(cx, xs)?.0)
    }

    /// Adds the gradients of the parameters to `grads` and returns those of the inputs, given `dy`,
    /// the gradient of the output.
    ///
    /// The gradient of a sparse input lies on its stored entries; of a dense one that is returned
    /// for it, only those are used.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>>;

    /// What [`Layer::backward`] reads.
    fn reads(&self) -> Reads {
        Reads::InputsAndOutput
    }

    /// What the layer is to code that rewrites networks. Default: [`Role::Other`].
    fn role(&self) -> Role {
        Role::Other
    }

    /// Whether the layer hands its only input on untouched in this mode: then it is not run, and
    /// nothing is copied.
    fn is_identity(&self, _mode: Mode) -> bool {
        false
    }

    /// Whether the layer changes entries one by one and can do so in the memory of its only input.
    /// Its cache is then `()`.
    fn works_in_place(&self) -> bool {
        false
    }

    /// Whether an entry of the output is positive where that of the input is, or the gradient of
    /// the input is zero there.
    fn keeps_signs(&self) -> bool {
        false
    }

    /// What [`Layer::forward`] computes, in place of the input. Called only if
    /// [`Layer::works_in_place`], on an array in standard layout.
    fn forward_in_place(&self, _cx: &Cx<F>, _x: &mut Array2<F>) {}

    /// As [`Layer::backward`], and the memory of `dy` may become that of a gradient, or goes back
    /// to the pool as soon as it is not read again.
    fn backward_owned(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: Value<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let dxs = self.backward(cx, io, cache, dy.view(), grads);
        if let Value::Dense(dy) = dy {
            cx.give(dy);
        }
        dxs
    }

    /// Takes running statistics from a forward pass in training mode.
    fn absorb(&mut self, _cache: &Self::Cache) {}

    /// Writes the layer as stages of the compiled program.
    ///
    /// # Errors
    /// [`Unsupported`] where there are none for it.
    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported>;

    /// Settings other than the parameters' shapes, for files and reports.
    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    /// Shows every parameter, always in the same order.
    fn visit<'a>(&'a self, _f: &mut dyn FnMut(&'a Param<F>)) {}

    /// Shows every parameter, to change.
    fn visit_mut(&mut self, _f: &mut dyn FnMut(&mut Param<F>)) {}

    /// Shows every linear map of the layer in the order in which evaluation computes them, each
    /// with its input as the map sees it. `see` may change weights and biases: what the layer
    /// computes after a map is computed from what `see` left. A layer whose matrices are shown here
    /// can be refitted, truncated and rounded by least squares; by default none are.
    ///
    /// # Errors
    /// As [`Layer::forward`], and what `see` returns.
    fn linear_maps(&mut self, _cx: &Cx<F>, _xs: &[ValueRef<F>], _see: &mut See<F>) -> Result<()> {
        Ok(())
    }

    /// Adapts settings after the parameters lost channels.
    ///
    /// # Errors
    /// [`PruneError::Refused`] where the layer cannot live with what is left.
    fn reshaped(&mut self, _kept: &Kept) -> Result<(), PruneError> {
        Ok(())
    }

    /// Adapts statistics and means over channels when channels are masked instead of removed.
    ///
    /// # Errors
    /// [`PruneError::Refused`] where the layer cannot.
    fn masked(&mut self, _kept: &Kept) -> Result<(), PruneError> {
        Ok(())
    }
}

/// A layer's cache without its type.
pub type AnyCache = Box<dyn Any + Send>;

/// A [`Layer`] without its cache type; implemented for every layer.
pub trait DynLayer<F: Scalar>: Send + Sync {
    /// See [`Layer::kind`].
    fn kind(&self) -> &'static str;
    /// See [`Layer::arity`].
    fn arity(&self) -> (usize, usize);
    /// See [`Layer::wiring`].
    fn wiring(&self) -> Wiring;
    /// See [`Layer::forward`].
    #[allow(clippy::missing_errors_doc)]
    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, AnyCache)>;
    /// See [`Layer::infer`].
    #[allow(clippy::missing_errors_doc)]
    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>>;
    /// See [`Layer::backward`].
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: AnyCache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>>;
    /// See [`Layer::reads`].
    fn reads(&self) -> Reads;
    /// See [`Layer::role`].
    fn role(&self) -> Role;
    /// See [`Layer::is_identity`].
    fn is_identity(&self, mode: Mode) -> bool;
    /// See [`Layer::works_in_place`].
    fn works_in_place(&self) -> bool;
    /// See [`Layer::keeps_signs`].
    fn keeps_signs(&self) -> bool;
    /// See [`Layer::forward_in_place`].
    fn forward_in_place(&self, cx: &Cx<F>, x: &mut Array2<F>);
    /// See [`Layer::backward_owned`].
    fn backward_owned(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: AnyCache,
        dy: Value<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>>;
    /// See [`Layer::absorb`].
    fn absorb(&mut self, cache: &AnyCache);
    /// See [`Layer::lower`].
    #[allow(clippy::missing_errors_doc)]
    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported>;
    /// See [`Layer::attrs`].
    fn attrs(&self) -> Attrs;
    /// See [`Layer::visit`].
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>));
    /// See [`Layer::visit_mut`].
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>));
    /// See [`Layer::linear_maps`].
    #[allow(clippy::missing_errors_doc)]
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()>;
    /// See [`Layer::reshaped`].
    #[allow(clippy::missing_errors_doc)]
    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError>;
    /// See [`Layer::masked`].
    #[allow(clippy::missing_errors_doc)]
    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError>;
    /// A copy in a box.
    fn boxed(&self) -> Box<dyn DynLayer<F>>;
    /// The layer itself, to look at its own type.
    fn as_any(&self) -> &dyn Any;
}

impl<F: Scalar, L: Layer<F>> DynLayer<F> for L {
    fn kind(&self) -> &'static str {
        Layer::kind(self)
    }
    fn arity(&self) -> (usize, usize) {
        Layer::arity(self)
    }
    fn wiring(&self) -> Wiring {
        Layer::wiring(self)
    }
    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, AnyCache)> {
        let (value, cache) = Layer::forward(self, cx, xs)?;
        Ok((value, Box::new(cache)))
    }
    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        Layer::infer(self, cx, xs)
    }
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: AnyCache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let cache = cache.downcast::<L::Cache>().expect("a trace hands every layer its own cache");
        Layer::backward(self, cx, io, *cache, dy, grads)
    }
    fn reads(&self) -> Reads {
        Layer::reads(self)
    }
    fn role(&self) -> Role {
        Layer::role(self)
    }
    fn is_identity(&self, mode: Mode) -> bool {
        Layer::is_identity(self, mode)
    }
    fn works_in_place(&self) -> bool {
        Layer::works_in_place(self)
    }
    fn keeps_signs(&self) -> bool {
        Layer::keeps_signs(self)
    }
    fn forward_in_place(&self, cx: &Cx<F>, x: &mut Array2<F>) {
        Layer::forward_in_place(self, cx, x);
    }
    fn backward_owned(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: AnyCache,
        dy: Value<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let cache = cache.downcast::<L::Cache>().expect("a trace hands every layer its own cache");
        Layer::backward_owned(self, cx, io, *cache, dy, grads)
    }
    fn absorb(&mut self, cache: &AnyCache) {
        Layer::absorb(
            self,
            cache.downcast_ref::<L::Cache>().expect("a trace hands every layer its own cache"),
        );
    }
    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Layer::lower(self, lowering, xs)
    }
    fn attrs(&self) -> Attrs {
        Layer::attrs(self)
    }
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        Layer::visit(self, f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
        Layer::visit_mut(self, f);
    }
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        Layer::linear_maps(self, cx, xs, see)
    }
    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        Layer::reshaped(self, kept)
    }
    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError> {
        Layer::masked(self, kept)
    }
    fn boxed(&self) -> Box<dyn DynLayer<F>> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<F: Scalar> Clone for Box<dyn DynLayer<F>> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, ModelBuilder, ParamId};
    use ndarray::array;

    #[test]
    fn scaled_gradients_are_added_whether_or_not_there_are_any_yet() {
        let mut builder = ModelBuilder::<f64>::new(1);
        let line = builder
            .add("line", Linear::builder(1, 2).no_bias().build::<f64>().unwrap(), &[NodeId::INPUT])
            .unwrap();
        let model = builder.build(line, 0).unwrap();
        let (mut terms, mut id) = (Grads::new(1), ParamId(0));
        model.visit(&mut |_, param| {
            id = param.id();
            terms.add(param, array![[2.0, -4.0]]);
        });
        let mut sum = Grads::new(0);
        sum.add_scaled(&terms, 0.5);
        assert_eq!(sum.get(id), Some(&array![[1.0, -2.0]]));
        sum.add_scaled(&terms, -0.25);
        assert_eq!(sum.get(id), Some(&array![[0.5, -1.0]]));
    }
}
