//! Dropout from a counter: the mask is a hash of seed, node, step and position, so nothing of it is stored.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::with_data;
use crate::nn::{Attrs, Cx, Grads, Io, Layer, Lowering, Mode, Reads, Registered, Shapes, StageId, Wiring};
use crate::rng::{ChaCha8Rng, hash, mix, purpose};
use crate::scalar::Scalar;
use crate::value::{Csr, Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Sets each entry to zero with probability `p` in training and scales the others by `1/(1−p)`; passes through in evaluation.
///
/// *Shapes*: `X, Y: [n, c]`. A sparse `X` stays sparse, and only its stored entries are drawn for: what is zero stays zero.
///
/// *Source*: Srivastava et al., "Dropout", JMLR 2014, in the inverted form that PyTorch uses.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
}

impl Dropout {
    /// Drops with probability `p`, in [0, 1).
    ///
    /// # Errors
    /// [`Error::Setting`] for any other `p`.
    pub fn new(p: f64) -> Result<Self> {
        if (0.0..1.0).contains(&p) { Ok(Self { p }) } else { Err(Error::setting("dropout", p, "in [0, 1)")) }
    }

    fn draw<F: Scalar>(&self, cx: &Cx<F>) -> Option<Draw> {
        Draw::of(cx, self.p)
    }
}

/// One mask: 16 random bits a position, four positions a hash.
#[derive(Clone, Copy)]
pub(crate) struct Draw {
    key: u64,
    /// A position is dropped if its 16 bits are below this: `p` to within 2^-17.
    threshold: u16,
}

impl Draw {
    /// The mask of this node and step, `None` where nothing is dropped.
    pub(crate) fn of<F: Scalar>(cx: &Cx<F>, p: f64) -> Option<Self> {
        match cx.mode() {
            Mode::Train { seed, step } if p > 0.0 => {
                Some(Draw { key: hash(seed, &[purpose::DROPOUT, cx.node().index() as u64, step]), threshold: (p * 65536.0).round() as u16 })
            }
            _ => None,
        }
    }

    #[inline]
    fn keeps(self, position: usize) -> bool {
        self.word(position / 4) >> (16 * (position % 4)) & 0xffff >= u64::from(self.threshold)
    }

    #[inline]
    fn word(self, index: usize) -> u64 {
        mix(self.key ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// As [`Draw::scale`], on a whole array in standard layout.
    fn scale_all<F: Scalar>(self, x: &mut Array2<F>, factor: F) {
        kernels::for_each_chunk(x.as_slice_mut().expect("a standard layout is a slice"), |start, chunk| self.scale(start, chunk, factor));
    }

    /// Multiplies what is kept by `factor`; `values[k]` stands at position `start + k`.
    pub(crate) fn scale<F: Scalar>(self, start: usize, values: &mut [F], factor: F) {
        let mut position = start;
        let mut rest = values;
        while !rest.is_empty() {
            let lane = position % 4;
            let (now, later) = rest.split_at_mut((4 - lane).min(rest.len()));
            let word = self.word(position / 4) >> (16 * lane);
            for (k, value) in now.iter_mut().enumerate() {
                let keep = (word >> (16 * k)) & 0xffff >= u64::from(self.threshold);
                *value = if keep { *value * factor } else { F::zero() };
            }
            position += now.len();
            rest = later;
        }
    }
}

impl<F: Scalar> Layer<F> for Dropout {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], xs[0].cols())?;
        // A model does not run a dropout that passes through; whoever does gets a copy.
        let Some(draw) = self.draw(cx) else { return Ok((xs[0].to_owned(), ())) };
        let factor = F::of(1.0 / (1.0 - self.p));
        let y = match &xs[0] {
            ValueRef::Dense(_) => {
                let mut y = cx.copy_of(&xs[0]);
                draw.scale_all(&mut y, factor);
                Value::Dense(y)
            }
            ValueRef::Sparse(x) => {
                let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
                indptr.reserve(x.rows());
                indices.reserve(x.nnz());
                data.reserve(x.nnz());
                let mut position = 0;
                for row in x.outer_iterator() {
                    for (&j, &v) in row.indices().iter().zip(row.data()) {
                        if draw.keeps(position) {
                            indices.push(j);
                            data.push(v * factor);
                        }
                        position += 1;
                    }
                    indptr.push(indices.len());
                }
                Value::Sparse(Csr::new(x.shape(), indptr, indices, data))
            }
        };
        Ok((y, ()))
    }

    /// `dX = dY ⊙ mask / (1−p)`, the mask drawn again.
    fn backward(&self, cx: &Cx<F>, io: &Io<F>, (): (), dy: ValueRef<F>, _: &mut Grads<F>) -> Vec<Option<Value<F>>> {
        let Some(draw) = self.draw(cx) else { return vec![Some(dy.to_owned())] };
        let factor = F::of(1.0 / (1.0 - self.p));
        let dx = match (io.sparse_input(0), dy) {
            (Some(x), ValueRef::Sparse(dy)) => {
                // The output stores the kept entries of the input, in the same order.
                let mut kept = dy.data().iter();
                let data = (0..x.nnz()).map(|position| match draw.keeps(position) {
                    true => kept.next().map_or(F::zero(), |&d| d * factor),
                    false => F::zero(),
                });
                Value::Sparse(with_data(&x, data.collect()))
            }
            (_, dy) => {
                let mut dx = cx.copy_of(&dy);
                draw.scale_all(&mut dx, factor);
                Value::Dense(dx)
            }
        };
        vec![Some(dx)]
    }

    fn works_in_place(&self) -> bool {
        true
    }

    fn keeps_signs(&self) -> bool {
        true
    }

    fn forward_in_place(&self, cx: &Cx<F>, x: &mut Array2<F>) {
        if let Some(draw) = self.draw(cx) {
            draw.scale_all(x, F::of(1.0 / (1.0 - self.p)));
        }
    }

    fn backward_owned(&self, cx: &Cx<F>, io: &Io<F>, (): (), dy: Value<F>, grads: &mut Grads<F>) -> Vec<Option<Value<F>>> {
        match dy {
            Value::Dense(mut dx) if io.sparse_input(0).is_none() && dx.is_standard_layout() => {
                self.forward_in_place(cx, &mut dx);
                vec![Some(Value::Dense(dx))]
            }
            dy => self.backward(cx, io, (), dy.view(), grads),
        }
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn is_identity(&self, mode: Mode) -> bool {
        mode == Mode::Eval || self.p == 0.0
    }

    /// Inference passes through.
    fn lower(&self, _: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(xs[0])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("p", self.p)
    }
}

impl<F: Scalar> Registered<F> for Dropout {
    const KIND: &'static str = "dropout";

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Self::new(attrs.get("p")?)
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        if widths.len() == 1 { Self::new(rng.random_range(0.0..0.9)).ok() } else { None }
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        xs[0].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_dropped_is_p_and_chunks_do_not_matter() {
        let draw = Draw { key: 5, threshold: (0.3 * 65536.0f64).round() as u16 };
        let mut whole = vec![1.0f64; 100_003];
        draw.scale(0, &mut whole, 2.0);
        let dropped = whole.iter().filter(|v| **v == 0.0).count() as f64 / whole.len() as f64;
        // Four standard deviations of a binomial share.
        assert!((dropped - 0.3).abs() < 4.0 * (0.21f64 / whole.len() as f64).sqrt(), "{dropped}");
        let mut parts = vec![1.0f64; whole.len()];
        let (a, b) = parts.split_at_mut(12_345);
        draw.scale(0, a, 2.0);
        draw.scale(12_345, b, 2.0);
        assert_eq!(whole, parts);
        assert!((0..whole.len()).all(|k| draw.keeps(k) == (whole[k] != 0.0)));
    }
}
