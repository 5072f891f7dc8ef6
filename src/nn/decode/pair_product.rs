//! The channels of pairs.

use super::score::add_rows;
use crate::error::{Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    Cx, Evaluated, Grads, Io, Layer, Lowering, Place, Python, Reads, Registered, RowSpace, Rows,
    Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// `y_uv = x_u ⊙ x_v` for each pair that a batch asks about: what a network of pairs reads.
///
/// *Shapes*: `X: [n, d]`, `Y: [pairs, d]`. Relations are not looked at.
///
/// *Source*: the predictor of links in the examples of Hu et al., "Open graph benchmark", NeurIPS
/// 2020.
#[derive(Debug, Clone, Copy, Default)]
pub struct PairProduct;

impl<F: Scalar> Layer<F> for PairProduct {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        matches!(inputs, [RowSpace::Nodes | RowSpace::Hop(_)]).then_some(RowSpace::Pairs)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let asked = cx.queries()?;
        asked.check(cx.place(), xs[0].rows(), usize::MAX)?;
        let mut y = cx.take((asked.num_pairs(), xs[0].cols()));
        xs[0].with_dense(|x| {
            kernels::map_rows(y.view_mut(), |k, y| {
                let [u, v] = asked.pair(k).map(|node| x.row(node as usize));
                y.iter_mut().zip(u).zip(v).for_each(|((y, &a), &b)| *y = a * b);
            });
        });
        Ok((Value::Dense(y), ()))
    }

    /// `dx_u += dy_uv ⊙ x_v`, `dx_v += dy_uv ⊙ x_u`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let asked = cx.queries().expect("forward had them");
        let mut dx = cx.take(io.input(0).shape());
        dx.fill(F::zero());
        let mut part = cx.take(dy.shape());
        for end in [0, 1] {
            io.input(0).with_dense(|x| {
                dy.with_dense(|dy| {
                    kernels::map_rows(part.view_mut(), |k, part| {
                        let other = x.row(asked.pair(k)[1 - end] as usize);
                        part.iter_mut()
                            .zip(dy.row(k))
                            .zip(other)
                            .for_each(|((part, &d), &x)| *part = d * x);
                    });
                });
            });
            let nodes = (0..asked.num_pairs()).map(|k| asked.pair(k)[end]);
            add_rows(nodes, part.view(), dx.view_mut());
        }
        cx.give(part);
        vec![Some(Value::Dense(dx))]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = lowering.width(xs[0]);
        let pairs = lowering.within().asked().map_or(0, |asked| asked.num_pairs());
        Ok(lowering.opaque(xs, Evaluated::new(*self, (pairs * width) as u64), width))
    }
}

impl<F: Scalar> Registered<F> for PairProduct {
    const KIND: &'static str = "pair_product";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Err("whose pairs a network of PyTorch is handed beside the graph");

    fn from_attrs(_: &crate::nn::Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self)
    }

    /// None: it runs on a batch that asks about pairs.
    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        None
    }

    fn sample_on(_: usize, widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        (widths.len() == 1).then_some(Self)
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("whose pairs a network of PyTorch is handed beside the graph".into())
    }

    fn oracle(&self, _: &Graph<F>, _: &[Array2<F>]) -> Array2<F> {
        Array2::zeros((0, 0))
    }

    fn oracle_on(&self, _: &Graph<F>, rows: &Rows<F>, xs: &[Array2<F>]) -> Array2<F> {
        let asked = rows.asked().expect("the laws ask about pairs");
        Array2::from_shape_fn((asked.num_pairs(), xs[0].ncols()), |(k, c)| {
            let [u, v] = asked.pair(k);
            xs[0][[u as usize, c]] * xs[0][[v as usize, c]]
        })
    }
}
