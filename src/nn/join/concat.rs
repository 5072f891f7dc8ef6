//! Jumping knowledge by concatenation.

use crate::error::{Result, Unsupported};
use crate::graph::Graph;
use crate::nn::{
    Attrs, Cx, Grads, Io, Layer, Lowering, Place, Python, Reads, Registered, Shapes, StageId, Twin,
    Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, Axis, concatenate, s};

/// `Y = [X_1 ‖ X_2 ‖ …]`: the channels of all inputs side by side.
///
/// *Shapes*: `X_k: [n, c_k]`, `Y: [n, Σ c_k]`.
///
/// *Source*: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks", ICML
/// 2018, §3.1 (concatenation).
#[derive(Debug, Clone, Default)]
pub struct Concat;

impl Concat {
    /// Joins as many inputs as its node names.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Layer<F> for Concat {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (1, usize::MAX)
    }

    fn wiring(&self) -> Wiring {
        Wiring::Concat
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let mut y = cx.take((xs[0].rows(), xs.iter().map(ValueRef::cols).sum()));
        let mut start = 0;
        for x in xs {
            cx.check(x, x.cols())?;
            x.with_dense(|x| y.slice_mut(s![.., start..start + x.ncols()]).assign(&x));
            start += x.cols();
        }
        Ok((Value::Dense(y), ()))
    }

    /// `dX_k` is its own columns of `dY`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let mut start = 0;
        let mut gradient = |k: usize| {
            let columns = start..start + io.widths()[k];
            start = columns.end;
            io.wants(k).then(|| {
                let mut dx = cx.take((dy.rows(), columns.len()));
                dy.with_dense(|dy| dx.assign(&dy.slice(s![.., columns])));
                Value::Dense(dx)
            })
        };
        (0..io.len()).map(&mut gradient).collect()
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(lowering.concat(xs))
    }
}

impl<F: Scalar> Registered<F> for Concat {
    const KIND: &'static str = "concat";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::EXPRESSION);

    fn from_attrs(_: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self)
    }

    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        Some(Self)
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(Python::expression(format!("torch.cat([{}], dim=-1)", at.inputs.join(", "))))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let views: Vec<_> = xs.iter().map(|x| x.view()).collect();
        concatenate(Axis(1), &views).expect("all inputs have one row a node")
    }
}
