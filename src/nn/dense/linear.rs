//! The affine map of one node at a time.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::{bias_gradient, product};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Grads, Init, Io, Layer, Layout, LinearMap, Lowering, Param, Piece, Place,
    PruneUnits, Python, Reads, Registered, See, Shapes, StageId, Twin, Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Builder of a [`Linear`]; see [`Linear::builder`].
#[derive(Debug, Clone)]
pub struct LinearBuilder {
    in_channels: usize,
    out_channels: usize,
    bias: bool,
}

impl LinearBuilder {
    /// Whether there is a bias. Default: yes.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width of zero.
    pub fn build<F: Scalar>(self) -> Result<Linear<F>> {
        if self.in_channels == 0 || self.out_channels == 0 {
            let value = format!("{} -> {}", self.in_channels, self.out_channels);
            return Err(Error::setting("channels of linear", value, "at least 1 on both sides"));
        }
        let shape = (self.in_channels, self.out_channels);
        let weight = Param::new("weight", shape, [Axis::In(0), Axis::Out], Init::GlorotUniform);
        Ok(Linear { weight, bias: self.bias.then(|| bias(self.out_channels)) })
    }
}

/// `Y = X·W + b`.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W: [in, out]`, `b: [1, out]`, `Y: [n, out]`.
///
/// *Source*: Rosenblatt 1958; drawn by Glorot and Bengio 2010, eq. 16.
#[derive(Debug, Clone)]
pub struct Linear<F: Scalar = f32> {
    weight: Param<F>,
    bias: Option<Param<F>>,
}

impl Linear<f32> {
    /// Starts a layer from `in_channels` to `out_channels`.
    pub fn builder(in_channels: usize, out_channels: usize) -> LinearBuilder {
        LinearBuilder { in_channels, out_channels, bias: true }
    }
}

impl<F: Scalar> Linear<F> {
    /// A layer of parameters that are there.
    pub(crate) fn of(weight: &Param<F>, bias: Option<&Param<F>>) -> Self {
        let weight = weight.placed("weight", [Axis::In(0), Axis::Out]);
        Self { weight, bias: bias.map(|bias| bias.placed("bias", [Axis::Fixed, Axis::Out])) }
    }
}

impl<F: Scalar> Layer<F> for Linear<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let w = self.weight.value();
        cx.check(&xs[0], w.nrows())?;
        let mut y = product(cx, &xs[0], w.view());
        if let Some(bias) = &self.bias {
            kernels::add_bias(
                y.view_mut(),
                bias.value().as_slice().expect("parameters are contiguous"),
            );
        }
        Ok((Value::Dense(y), ()))
    }

    /// `dW = Xᵀ·dY`, `db = Σ_i dY_i`, `dX = dY·Wᵀ`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        dy.with_dense(|dy| {
            if let Some(bias) = &self.bias {
                grads.add(bias, bias_gradient(dy));
            }
            grads.add(&self.weight, io.product_dw(0, dy));
            vec![io.wants(0).then(|| io.product_dx(cx, 0, dy, self.weight.value().view()))]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn pieces(&self, _: bool) -> Option<Vec<Piece<F>>> {
        Some(vec![Piece::Itself])
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let y = lowering.linear(xs[0], &self.weight);
        Ok(self.bias.as_ref().map_or(y, |bias| lowering.bias(y, bias)))
    }

    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.weight.value().nrows())?;
        see(LinearMap::of(xs[0].reborrow(), &mut self.weight).with_bias(self.bias.as_mut()))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        self.bias.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        self.bias.iter_mut().for_each(f);
    }
}

impl<F: Scalar> Registered<F> for Linear<F> {
    const KIND: &'static str = "linear";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["Linear", "NonDynamicallyQuantizableLinear"],
        &[("weight", "weight", Layout::Transposed), ("bias", "bias", Layout::Vector)],
    ));

    fn from_attrs(_: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, out_channels) = shapes.get("weight")?;
        let builder = Linear::builder(in_channels, out_channels);
        if shapes.find("bias").is_some() { builder.build() } else { builder.bias(false).build() }
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let builder = Linear::builder(in_channels, out);
        if rng.random() { builder.build().ok() } else { builder.bias(false).build().ok() }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let made = format!(
            "torch.nn.Linear({}, {}, bias={})",
            at.in_channels,
            at.out_channels,
            py(self.bias.is_some())
        );
        Ok(at.module(made, &[]))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let y = xs[0].dot(self.weight.value());
        self.bias.as_ref().map_or(y.clone(), |bias| y + bias.value())
    }
}
