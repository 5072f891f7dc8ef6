//! Dropout from a counter: the mask is a hash of seed, node, step and position, so nothing of it is
//! stored.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels::{self, DropMask};
use crate::nn::product::with_data;
use crate::nn::{
    Attrs, Cx, Grads, InPlace, Io, Layer, Lowering, Mode, Piece, Place, Python, Reads, Registered,
    Rows, Shapes, StageId, Twin, Wiring,
};
use crate::rng::{ChaCha8Rng, hash, purpose};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView, Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Sets each entry to zero with probability `p` in training and scales the others by `1/(1−p)`;
/// passes through in evaluation.
///
/// *Shapes*: `X, Y: [n, c]`. A sparse `X` stays sparse, and only its stored entries are drawn for:
/// what is zero stays zero.
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
        if (0.0..1.0).contains(&p) {
            Ok(Self { p })
        } else {
            Err(Error::setting("dropout", p, "in [0, 1)"))
        }
    }

    fn draw<F: Scalar>(&self, cx: &Cx<F>) -> Option<DropMask> {
        drop_mask(cx, self.p)
    }

    /// What is kept is multiplied by it.
    fn factor<F: Scalar>(&self) -> F {
        F::of(1.0 / (1.0 - self.p))
    }
}

/// The mask of this node and step, `None` where nothing is dropped.
pub(crate) fn drop_mask<F: Scalar>(cx: &Cx<F>, p: f64) -> Option<DropMask> {
    match cx.mode() {
        Mode::Train { seed, step } if p > 0.0 => {
            Some(DropMask::new(hash(seed, &[purpose::DROPOUT, cx.node().index() as u64, step]), p))
        }
        _ => None,
    }
}

impl<F: Scalar> InPlace<F> for Dropout {
    fn forward_in_place(&self, cx: &Cx<F>, x: &mut Array2<F>) {
        if let Some(draw) = self.draw(cx) {
            scale(cx, draw, x, self.factor());
        }
    }

    /// What is kept has its sign, and no gradient arrives where it was dropped.
    fn keeps_signs(&self) -> bool {
        true
    }
}

/// Multiplies what is kept by `factor` and zeroes the rest. An entry is drawn for by who its row is
/// and by its column.
fn scale<F: Scalar>(cx: &Cx<F>, draw: DropMask, x: &mut Array2<F>, factor: F) {
    let width = x.ncols();
    match cx.ids() {
        None => draw.scale_all(numbers(x), factor),
        Some(ids) => kernels::map_rows(x.view_mut(), |i, row| {
            draw.scale(ids[i] as usize * width, row, factor);
        }),
    }
}

/// What is kept of a sparse value, times `factor`; `kept` is asked about each stored entry in its
/// order, by its row, its place in it and its column.
fn thinned<F: Scalar>(
    x: &CsrView<F>,
    factor: F,
    mut kept: impl FnMut(usize, usize, u32) -> bool,
) -> Csr<F> {
    let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
    indptr.reserve(x.rows());
    indices.reserve(x.nnz());
    data.reserve(x.nnz());
    for (i, row) in x.outer_iterator().enumerate() {
        for (k, (&j, &v)) in row.indices().iter().zip(row.data()).enumerate() {
            if kept(i, k, j) {
                indices.push(j);
                data.push(v * factor);
            }
        }
        indptr.push(indices.len());
    }
    Csr::new(x.shape(), indptr, indices, data)
}

/// The gradient of each stored entry of `x`, by those of what was kept, in the same order; `kept`
/// as for [`thinned`].
fn unthinned<F: Scalar>(
    x: &CsrView<F>,
    dy: &[F],
    factor: F,
    mut kept: impl FnMut(usize, usize, u32) -> bool,
) -> Vec<F> {
    let (mut dy, mut dx) = (dy.iter(), Vec::with_capacity(x.nnz()));
    for (i, row) in x.outer_iterator().enumerate() {
        dx.extend(row.indices().iter().enumerate().map(|(k, &j)| match kept(i, k, j) {
            true => dy.next().map_or(F::zero(), |&d| d * factor),
            false => F::zero(),
        }));
    }
    dx
}

/// Whether a stored entry of the rows of a batch is kept: it is drawn for by its place in the whole
/// graph's features.
fn kept_by_ids<'a, F: Scalar>(
    cx: &Cx<'a, F>,
    draw: DropMask,
    ids: &'a [u32],
    width: usize,
) -> impl FnMut(usize, usize, u32) -> bool + use<'a, F> {
    let starts = cx.rows().and_then(Rows::feature_starts);
    move |i, k, j| {
        draw.keeps(match starts {
            Some(starts) => starts[i] + k,
            // Nobody has said where rows begin: by row and column, as if it were dense.
            None => ids[i] as usize * width + j as usize,
        })
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
        let factor: F = self.factor();
        let y = match &xs[0] {
            ValueRef::Dense(_) => {
                let mut y = cx.copy_of(&xs[0]);
                scale(cx, draw, &mut y, factor);
                Value::Dense(y)
            }
            ValueRef::Sparse(x) => Value::Sparse(match cx.ids() {
                None => {
                    let mut run = draw.run();
                    thinned(x, factor, |_, _, _| run.next() == Some(true))
                }
                Some(ids) => thinned(x, factor, kept_by_ids(cx, draw, ids, x.cols())),
            }),
        };
        Ok((y, ()))
    }

    /// `dX = dY ⊙ mask / (1−p)`, the mask drawn again.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let Some(draw) = self.draw(cx) else { return vec![Some(dy.to_owned())] };
        let factor: F = self.factor();
        let dx = match (io.sparse_input(0), dy) {
            (Some(x), ValueRef::Sparse(dy)) => {
                // The output stores the kept entries of the input, in the same order.
                let data = match cx.ids() {
                    None => {
                        let mut run = draw.run();
                        unthinned(&x, dy.data(), factor, |_, _, _| run.next() == Some(true))
                    }
                    Some(ids) => {
                        let kept = kept_by_ids(cx, draw, ids, x.cols());
                        unthinned(&x, dy.data(), factor, kept)
                    }
                };
                Value::Sparse(with_data(&x, data))
            }
            (_, dy) => {
                let mut dx = cx.copy_of(&dy);
                scale(cx, draw, &mut dx, factor);
                Value::Dense(dx)
            }
        };
        vec![Some(dx)]
    }

    fn in_place(&self) -> Option<&dyn InPlace<F>> {
        Some(self)
    }

    fn backward_owned(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: Value<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
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

    fn pieces(&self, _: bool) -> Option<Vec<Piece<F>>> {
        Some(vec![Piece::Itself])
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
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::EXPRESSION.settings(&["p"]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Self::new(attrs.get("p")?)
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        if widths.len() == 1 { Self::new(rng.random_range(0.0..0.9)).ok() } else { None }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(Python::expression(&at.inputs[0]))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        xs[0].clone()
    }
}

/// The numbers of an array that a layer may change in place.
fn numbers<F: Scalar>(array: &mut Array2<F>) -> &mut [F] {
    array.as_slice_mut().expect("a standard layout is a slice")
}
