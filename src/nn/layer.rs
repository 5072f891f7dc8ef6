//! The layer contract: forward and backward by hand, channels by wiring, inference by lowering to
//! stages.

use super::attrs::Attrs;
use super::cx::{Cx, Mode};
use super::grads::{Grads, Io, Reads};
use super::ids::StageId;
use super::in_place::InPlace;
use super::linear_map::See;
use super::node_wise::NodeWise;
use super::param::Param;
use super::piece::Piece;
use super::role::Role;
use super::rows::RowSpace;
use super::stage::Lowering;
use super::wiring::{Kept, PruneUnits, Wiring};
use crate::error::{PruneError, Result, Unsupported};
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// A layer of a graph neural network.
///
/// A type that implements it gets the erased [`DynLayer`](super::DynLayer) for free and can stand
/// at a node of a [`Model`](super::Model).
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
///     fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<f32>)) {
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
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for an input of another width,
    /// [`Error::NoGraph`](crate::Error::NoGraph) where aggregation has no graph.
    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)>;

    /// As [`Layer::forward`] of one input in standard layout, whose memory may become that of the
    /// output, or goes back to the workspace as soon as it is not read again.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn forward_owned(&self, cx: &Cx<F>, x: Array2<F>) -> Result<(Value<F>, Self::Cache)> {
        let done = self.forward(cx, &[ValueRef::Dense(x.view())])?;
        cx.give(x);
        Ok(done)
    }

    /// As [`Layer::forward`] where no backward pass follows: what only that would read goes back to
    /// the workspace.
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

    /// What [`Layer::backward`] reads. Inputs alone and output alone may come rounded to 8 bits
    /// ([`Memory`](super::Memory)), their signs kept; where both are read they are as they were.
    fn reads(&self) -> Reads {
        Reads::InputsAndOutput
    }

    /// What the layer is to code that rewrites networks. Default: [`Role::Other`].
    fn role(&self) -> Role {
        Role::Other
    }

    /// Which channels of input `k` can only be removed together, beside what its maker says.
    /// Default: every channel by itself.
    fn couples(&self, _k: usize) -> PruneUnits {
        PruneUnits::Single
    }

    /// Whether channel `c` of every input stands and falls with channel `c` of the first, as where
    /// they are multiplied entry by entry; [`Wiring::Same`] says it already. Their widths are then
    /// the same. Default: no.
    fn ties_inputs(&self) -> bool {
        false
    }

    /// What the rows of the output are, by those of the inputs; nothing where the layer cannot join
    /// them. Default: those of the inputs, which is right for all that works row by row. What
    /// aggregates over neighbours says [`RowSpace::aggregated`].
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs)
    }

    /// Whether the layer hands its only input on untouched in this mode: then it is not run, and
    /// nothing is copied.
    fn is_identity(&self, _mode: Mode) -> bool {
        false
    }

    /// The layer as one that can run in the memory of its input. Default: it cannot.
    fn in_place(&self) -> Option<&dyn InPlace<F>> {
        None
    }

    /// As [`Layer::backward`], and the memory of `dy` may become that of a gradient, or goes back
    /// to the workspace as soon as it is not read again.
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
    fn visit_mut<'a>(&'a mut self, _f: &mut dyn FnMut(&'a mut Param<F>)) {}

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

    /// Of a layer whose outputs are sums over the channels of its first input: `PᵀP` of the parts
    /// `P: [rows, channels]` that each channel adds to each output of a batch, by which least
    /// squares chooses channels where no linear map reads them. Default: there is none.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn parts_gram(&self, _cx: &Cx<F>, _xs: &[ValueRef<F>]) -> Result<Option<Array2<f64>>> {
        Ok(None)
    }

    /// The same layer with these rows, those of its last input, as a parameter: it has one input
    /// fewer. Default: it cannot have them.
    fn owning(&self, _rows: ArrayView2<F>) -> Option<Self> {
        None
    }

    /// What the layer is where it reads no edge: forms of it, each a row of steps that begins at
    /// its only input and ends in as many channels, of which a pruner takes the one that is closest
    /// ([`HopPruner`](crate::prune::HopPruner)). The transformation stays, and in the place of the
    /// neighbours stands the node itself, or nothing. No step at all hands the input on. Default:
    /// the layer aggregates nothing, or cannot do without.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        Vec::new()
    }

    /// The steps that the layer is made of, in their order, if it is a row of steps that each look
    /// at one row or are one hop: by which it is run some rows at a time, and its maps are made
    /// again rather than kept ([`Memory::Recompute`](super::Memory::Recompute)). `sparse` says
    /// whether the input is. Default: it is not.
    fn pieces(&self, _sparse: bool) -> Option<Vec<Piece<F>>> {
        None
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
