//! The linear maps inside a layer, each with its input as it sees it: what least squares needs to
//! know of a layer.

use super::cx::Cx;
use super::param::Param;
use super::product::add_product;
use crate::kernels::{self, Epilogue};
use crate::scalar::Scalar;
use crate::value::{CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// `Z = Σ_t G_t·W_t + b + R`: one sum of products with the parameters of a layer.
///
/// `G_t` is what `W_t` is multiplied with after everything linear that stands between the layer's
/// input and it: for [`GcnConv`](super::GcnConv) `Â·X`, for [`SageConv`](super::SageConv) `AGG(X)`
/// and `X`. Whatever the layer does to `Z` afterwards, a layer with the same `Z` gives the same
/// output. Attention is such a layer: its scores are functions of `X·W`.
#[derive(Debug)]
pub struct LinearMap<'a, F: Scalar> {
    terms: Vec<MapTerm<'a, F>>,
    bias: Option<&'a mut Param<F>>,
    rest: Option<Array2<F>>,
}

/// One product of a [`LinearMap`].
#[derive(Debug)]
pub struct MapTerm<'a, F: Scalar> {
    input: Seen<'a, F>,
    weight: &'a mut Param<F>,
}

/// A layer's input as it is, or what was made of it.
#[derive(Debug)]
enum Seen<'a, F: Scalar> {
    Itself(ValueRef<'a, F>),
    Made(Value<F>),
}

/// Looks at a [`LinearMap`] and may change its parameters.
pub type See<'s, F> = dyn FnMut(LinearMap<'_, F>) -> crate::error::Result<()> + 's;

impl<'a, F: Scalar> LinearMap<'a, F> {
    /// `X·W` with the layer's input as it is, `[n, in]` and `[in, out]`.
    pub fn of(x: ValueRef<'a, F>, weight: &'a mut Param<F>) -> Self {
        Self { terms: vec![MapTerm { input: Seen::Itself(x), weight }], bias: None, rest: None }
    }

    /// `G·W` with what the layer made of its input, `[n, in]` and `[in, out]`.
    pub fn of_made(g: Value<F>, weight: &'a mut Param<F>) -> Self {
        Self { terms: vec![MapTerm { input: Seen::Made(g), weight }], bias: None, rest: None }
    }

    /// Adds another map's products to the same sum.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self
    }

    /// Adds a bias, `[1, out]`.
    #[must_use]
    pub fn with_bias(mut self, bias: Option<&'a mut Param<F>>) -> Self {
        self.bias = bias;
        self
    }

    /// Adds what no weight reaches, `[n, out]`: the identity in GCNII's weight.
    #[must_use]
    pub fn with_rest(mut self, rest: Array2<F>) -> Self {
        self.rest = Some(rest);
        self
    }

    /// The products.
    pub fn terms(&self) -> &[MapTerm<'a, F>] {
        &self.terms
    }

    /// Weights and bias, to change.
    pub fn params_mut(&mut self) -> (Vec<&mut Param<F>>, Option<&mut Param<F>>) {
        (self.terms.iter_mut().map(|term| &mut *term.weight).collect(), self.bias.as_deref_mut())
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Param<F>> {
        self.bias.as_deref()
    }

    /// Whether there is a bias.
    pub fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Width of `Z`.
    pub fn out_channels(&self) -> usize {
        self.terms[0].weight.value().ncols()
    }

    /// Rows of all weights together.
    pub fn in_channels(&self) -> usize {
        self.terms.iter().map(|term| term.weight.value().nrows()).sum()
    }

    /// What no weight reaches.
    pub fn rest(&self) -> Option<&Array2<F>> {
        self.rest.as_ref()
    }

    /// `Z − b`, `[n, out]`.
    pub fn without_bias(&self) -> Array2<F> {
        self.product_with(|param| param.value().view())
    }

    /// `Z − b` with other matrices in the place of the weights.
    pub(crate) fn product_with<'p>(
        &'p self,
        of: impl Fn(&'p Param<F>) -> ArrayView2<'p, F>,
    ) -> Array2<F> {
        let rows = self.terms[0].input().rows();
        let mut z = Array2::zeros((rows, self.out_channels()));
        for (k, term) in self.terms.iter().enumerate() {
            add_product(
                &term.input(),
                of(term.weight),
                &mut z,
                Epilogue { add: k > 0, ..Epilogue::NONE },
            );
        }
        if let Some(rest) = &self.rest {
            z += rest;
        }
        z
    }
}

impl<F: Scalar> MapTerm<'_, F> {
    /// `G`, `[n, in]`.
    pub fn input(&self) -> ValueRef<'_, F> {
        match &self.input {
            Seen::Itself(x) => x.reborrow(),
            Seen::Made(g) => g.view(),
        }
    }

    /// `W`, `[in, out]`.
    pub fn weight(&self) -> &Param<F> {
        self.weight
    }
}

/// Where more than this share of the entries of aggregated features is stored, the dense form is
/// smaller.
const DENSE_SHARE: f64 = 0.4;

/// `own·X + A·X`: sparse features stay sparse while that is the smaller form.
pub(crate) fn aggregated<F: Scalar>(
    cx: &Cx<F>,
    a: CsrView<F>,
    own: F,
    x: &ValueRef<F>,
) -> Value<F> {
    match x {
        ValueRef::Dense(x) => {
            let mut y = cx.take((a.rows(), x.ncols()));
            kernels::spmm(a, x.view(), y.view_mut());
            if own != F::zero() {
                y.scaled_add(own, x);
            }
            Value::Dense(y)
        }
        ValueRef::Sparse(x) => {
            let y = kernels::spgemm(a, x.view(), own);
            let share = y.nnz() as f64 / (y.rows() * y.cols()).max(1) as f64;
            if share > DENSE_SHARE {
                Value::Dense(Value::Sparse(y).into_dense())
            } else {
                Value::Sparse(y)
            }
        }
    }
}
