//! The network of two layers inside a graph isomorphism convolution.

use super::EDGE_WEIGHTS;
use crate::error::{Error, Result};
use crate::kernels::{self, Epilogue};
use crate::nn::product::{add_product, bias_gradient, then_bias};
use crate::nn::{
    ActivationFn, Axis, Cx, Grads, Init, LinearMap, NodeWise, Param, See, Shapes, bias,
};
use crate::scalar::Scalar;
use crate::value::Value;
use ndarray::{Array2, ArrayView2};

/// `Y = relu(U)·W₂ + b₂` with `U = X·W₁ + b₁`, and the weight `1 + ε` of the node itself.
#[derive(Debug, Clone)]
pub(super) struct Inner<F: Scalar> {
    pub eps: Param<F>,
    pub weight1: Param<F>,
    pub bias1: Param<F>,
    pub weight2: Param<F>,
    pub bias2: Param<F>,
}

/// Widths and ε of an [`Inner`].
#[derive(Debug, Clone)]
pub(super) struct InnerSettings {
    pub in_channels: usize,
    pub hidden: usize,
    pub out_channels: usize,
    pub eps: f64,
    pub train_eps: bool,
    pub weighted: bool,
}

impl InnerSettings {
    pub(super) fn from_shapes(shapes: &Shapes, attrs: &crate::nn::Attrs) -> Result<Self> {
        let ((in_channels, hidden), (_, out_channels)) =
            (shapes.get("weight1")?, shapes.get("weight2")?);
        // A file of another program has ε among its tensors.
        let (eps, train_eps) =
            (attrs.get("eps").unwrap_or(0.0), attrs.get("train_eps").unwrap_or(false));
        let weighted = attrs.get_or(EDGE_WEIGHTS, true)?;
        Ok(Self { in_channels, hidden, out_channels, eps, train_eps, weighted })
    }

    pub(super) fn build<F: Scalar>(&self, kind: &str) -> Result<Inner<F>> {
        let Self { in_channels, hidden, out_channels, eps, train_eps, .. } = *self;
        if in_channels == 0 || hidden == 0 || out_channels == 0 {
            let value = format!("{in_channels} -> {hidden} -> {out_channels}");
            return Err(Error::setting(
                format!("channels of {kind}"),
                value,
                "at least 1 everywhere",
            ));
        }
        if !eps.is_finite() {
            return Err(Error::setting(format!("eps of {kind}"), eps, "a finite number"));
        }
        let mut own = Param::new("eps", (1, 1), [Axis::Fixed, Axis::Fixed], Init::Constant(eps));
        own.value_mut().fill(F::of(eps));
        own.set_trainable(train_eps);
        let mut bias2 = bias(out_channels);
        bias2.rename("bias2");
        Ok(Inner {
            eps: own,
            weight1: Param::new(
                "weight1",
                (in_channels, hidden),
                [Axis::In(0), Axis::Hidden(0)],
                Init::GlorotUniform,
            ),
            bias1: Param::new("bias1", (1, hidden), [Axis::Fixed, Axis::Hidden(0)], Init::Zeros),
            weight2: Param::new(
                "weight2",
                (hidden, out_channels),
                [Axis::Hidden(0), Axis::Out],
                Init::GlorotUniform,
            ),
            bias2,
        })
    }
}

impl<F: Scalar> Inner<F> {
    /// The module of PyTorch Geometric.
    pub(super) fn to_python(&self) -> String {
        let ((input, hidden), output) = (self.weight1.value().dim(), self.weight2.value().ncols());
        format!("pyg.MLP([{input}, {hidden}, {output}], act='relu', norm=None)")
    }

    /// `1 + ε`.
    pub(super) fn own(&self) -> F {
        F::one() + self.eps.value()[[0, 0]]
    }

    pub(super) fn init_eps(&self) -> f64 {
        if let Init::Constant(eps) = self.eps.init() { eps } else { 0.0 }
    }

    /// The steps of a node alone: `(1+ε)` goes into the first weight.
    pub(super) fn without_hop(&self) -> Vec<NodeWise<F>> {
        let mut first = self.weight1.clone();
        *first.value_mut() *= self.own();
        vec![
            NodeWise::Linear { weight: first, bias: Some(self.bias1.clone()) },
            NodeWise::Activation(ActivationFn::Relu),
            NodeWise::linear(&self.weight2, Some(&self.bias2)),
        ]
    }

    /// From `U` without its bias, which is changed to `relu(U)`, to `Y`.
    pub(super) fn finish(&self, cx: &Cx<F>, u: &mut Array2<F>) -> Array2<F> {
        kernels::add_bias(
            u.view_mut(),
            self.bias1.value().as_slice().expect("parameters are contiguous"),
        );
        u.mapv_inplace(|v| ActivationFn::Relu.of(v));
        let mut y = cx.take((u.nrows(), self.weight2.value().ncols()));
        kernels::matmul(u.view(), self.weight2.value().view(), y.view_mut());
        kernels::add_bias(
            y.view_mut(),
            self.bias2.value().as_slice().expect("parameters are contiguous"),
        );
        y
    }

    /// Both maps of the network, `g` being the input of the first.
    pub(super) fn linear_maps(&mut self, g: Value<F>, see: &mut See<F>) -> Result<()> {
        see(LinearMap::of(g.view(), &mut self.weight1).with_bias(Some(&mut self.bias1)))?;
        let then = then_bias(Some(&self.bias1));
        let mut h = Array2::zeros((g.shape().0, self.weight1.value().ncols()));
        add_product(
            &g.view(),
            self.weight1.value().view(),
            &mut h,
            Epilogue { relu: true, ..then },
        );
        see(LinearMap::of_made(Value::Dense(h), &mut self.weight2).with_bias(Some(&mut self.bias2)))
    }

    /// `dU`, in the place of `relu(U)`: `dH = dY·W₂ᵀ` where `U > 0`; `dW₂ = Hᵀ·dY`, `db₁ = Σ dU`,
    /// `db₂ = Σ dY`.
    pub(super) fn back(&self, h: Array2<F>, dy: ArrayView2<F>, grads: &mut Grads<F>) -> Array2<F> {
        let mut dw = Array2::zeros(self.weight2.value().dim());
        kernels::matmul_tn(h.view(), dy, dw.view_mut());
        grads.add(&self.weight2, dw);
        grads.add(&self.bias2, bias_gradient(dy));
        let mut du = Array2::zeros(h.dim());
        kernels::matmul_nt(dy, self.weight2.value().view(), du.view_mut());
        du.zip_mut_with(&h, |du, &h| {
            if h <= F::zero() {
                *du = F::zero();
            }
        });
        grads.add(&self.bias1, bias_gradient(du.view()));
        du
    }

    pub(super) fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        [&self.eps, &self.weight1, &self.bias1, &self.weight2, &self.bias2].into_iter().for_each(f);
    }

    pub(super) fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        [&mut self.eps, &mut self.weight1, &mut self.bias1, &mut self.weight2, &mut self.bias2]
            .into_iter()
            .for_each(f);
    }

    /// The whole network on dense matrices, for oracles.
    pub(super) fn oracle(&self, x: &Array2<F>) -> Array2<F> {
        let h = (x.dot(self.weight1.value()) + self.bias1.value()).mapv(|v| v.max(F::zero()));
        h.dot(self.weight2.value()) + self.bias2.value()
    }
}

/// `⟨a, b⟩` over all entries: partial sums of columns are added in a fixed order.
pub(super) fn dot<F: Scalar>(a: ArrayView2<F>, b: ArrayView2<F>) -> F {
    let product = &a * &b;
    let mut sums = vec![F::zero(); a.ncols()];
    kernels::column_sums(product.view(), &mut sums);
    sums.into_iter().sum()
}
