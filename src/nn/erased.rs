//! A layer without the type of its cache: what models hold.

use super::attrs::Attrs;
use super::cx::{Cx, Mode};
use super::grads::{Grads, Io, Reads};
use super::ids::StageId;
use super::in_place::InPlace;
use super::layer::Layer;
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
use std::any::Any;

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
    /// See [`Layer::forward_owned`].
    #[allow(clippy::missing_errors_doc)]
    fn forward_owned(&self, cx: &Cx<F>, x: Array2<F>) -> Result<(Value<F>, AnyCache)>;
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
    /// See [`Layer::rows`].
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace>;
    /// See [`Layer::couples`].
    fn couples(&self, k: usize) -> PruneUnits;
    /// See [`Layer::ties_inputs`].
    fn ties_inputs(&self) -> bool;
    /// See [`Layer::is_identity`].
    fn is_identity(&self, mode: Mode) -> bool;
    /// See [`Layer::in_place`].
    fn in_place(&self) -> Option<&dyn InPlace<F>>;
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
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>));
    /// See [`Layer::linear_maps`].
    #[allow(clippy::missing_errors_doc)]
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()>;
    /// See [`Layer::parts_gram`].
    #[allow(clippy::missing_errors_doc)]
    fn parts_gram(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Option<Array2<f64>>>;
    /// See [`Layer::owning`].
    fn owning(&self, rows: ArrayView2<F>) -> Option<Box<dyn DynLayer<F>>>;
    /// See [`Layer::without_hop`].
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>>;
    /// See [`Layer::pieces`].
    fn pieces(&self, sparse: bool) -> Option<Vec<Piece<F>>>;
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
    fn forward_owned(&self, cx: &Cx<F>, x: Array2<F>) -> Result<(Value<F>, AnyCache)> {
        let (value, cache) = Layer::forward_owned(self, cx, x)?;
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
    fn couples(&self, k: usize) -> PruneUnits {
        Layer::couples(self, k)
    }
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        Layer::rows(self, inputs)
    }
    fn ties_inputs(&self) -> bool {
        Layer::ties_inputs(self)
    }
    fn is_identity(&self, mode: Mode) -> bool {
        Layer::is_identity(self, mode)
    }
    fn in_place(&self) -> Option<&dyn InPlace<F>> {
        Layer::in_place(self)
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
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        Layer::visit_mut(self, f);
    }
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        Layer::linear_maps(self, cx, xs, see)
    }
    fn parts_gram(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Option<Array2<f64>>> {
        Layer::parts_gram(self, cx, xs)
    }
    fn owning(&self, rows: ArrayView2<F>) -> Option<Box<dyn DynLayer<F>>> {
        Some(Box::new(Layer::owning(self, rows)?))
    }
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        Layer::without_hop(self)
    }
    fn pieces(&self, sparse: bool) -> Option<Vec<Piece<F>>> {
        Layer::pieces(self, sparse)
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

impl<F: Scalar> std::fmt::Debug for dyn DynLayer<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}
