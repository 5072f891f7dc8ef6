//! Learnable parameters: one matrix each, whose axes say which channels they carry.

use super::ids::ParamId;
use super::init::Init;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::cell::Cell;

/// Which channels run along an axis of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Axis {
    /// No channels: the axis never changes.
    Fixed,
    /// The nodes of the graph, in their order: the axis never changes, and renaming the nodes
    /// renames it.
    Nodes,
    /// The channels of input `k`.
    In(usize),
    /// The channels of input `k`, repeated as often as fits (stacks of relation matrices).
    InTiled(usize),
    /// The channels of the output.
    Out,
    /// The channels of the output, repeated as often as fits (averaged heads).
    OutTiled,
    /// The first channels of the output, which stand for those at the same place of every other
    /// equal part ([`PruneUnits::AcrossHeads`](super::PruneUnits::AcrossHeads)): blocks.
    OutPart,
    /// The channels of the layer's own hidden map `h` (an inner network).
    Hidden(usize),
}

thread_local! {
    /// See [`with_at_most`].
    static MOST_NUMBERS: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs `f`, in which a parameter of more than `most` numbers is made empty: layers are made from
/// numbers that a file claims, and the shape that they then have is not the one that the file has,
/// which whoever reads it says.
pub(crate) fn with_at_most<R>(most: usize, f: impl FnOnce() -> R) -> R {
    /// Sets the number back, also where `f` panics.
    struct Back(usize);
    impl Drop for Back {
        fn drop(&mut self) {
            MOST_NUMBERS.set(self.0);
        }
    }
    let _back = Back(MOST_NUMBERS.replace(most));
    f()
}

/// The entries of a parameter that stay zero: `true` is kept.
pub type Mask = Array2<bool>;

/// A learnable matrix `[rows, cols]`; a vector is a matrix of one row.
#[derive(Debug, Clone)]
pub struct Param<F: Scalar> {
    pub(crate) id: ParamId,
    name: String,
    value: Array2<F>,
    axes: [Axis; 2],
    init: Init,
    mask: Option<Mask>,
    trainable: bool,
}

impl<F: Scalar> Param<F> {
    /// A parameter of zeros; its model draws it by `init` when it is built.
    ///
    /// `name` is local to the layer (`weight`, `bias`).
    pub fn new(name: &str, shape: (usize, usize), axes: [Axis; 2], init: Init) -> Self {
        let most = MOST_NUMBERS.get();
        let fits = most == usize::MAX
            || shape.0.max(1).checked_mul(shape.1.max(1)).is_some_and(|numbers| numbers <= most);
        let value = Array2::zeros(if fits { shape } else { (0, 0) });
        Self {
            id: ParamId(usize::MAX),
            name: name.to_string(),
            value,
            axes,
            init,
            mask: None,
            trainable: true,
        }
    }

    /// Identity within the model.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// Name within its layer.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn rename(&mut self, name: &str) {
        self.name = name.to_string();
    }

    /// The same numbers, mask and initialisation under another name, of other channels.
    pub(crate) fn placed(&self, name: &str, axes: [Axis; 2]) -> Self {
        Self { name: name.into(), axes, ..self.clone() }
    }

    /// The matrix.
    pub fn value(&self) -> &Array2<F> {
        &self.value
    }

    /// The matrix, to change in place; a mask is not applied by itself, see [`Param::apply_mask`].
    pub fn value_mut(&mut self) -> &mut Array2<F> {
        &mut self.value
    }

    /// Which channels its rows and columns carry.
    pub fn axes(&self) -> [Axis; 2] {
        self.axes
    }

    /// How it is drawn.
    pub fn init(&self) -> Init {
        self.init
    }

    /// The entries that may be other than zero; all of them where there is no mask.
    pub fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
    }

    /// Whether training changes it.
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Freezes or frees the parameter.
    pub fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
    }

    /// Sets the mask and zeroes what it removes; a second mask removes in addition to the first.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn restrict(&mut self, mask: &Mask) {
        assert_eq!(mask.dim(), self.value.dim(), "a mask has the shape of its parameter");
        match &mut self.mask {
            Some(old) => old.zip_mut_with(mask, |a, &b| *a &= b),
            None => self.mask = Some(mask.clone()),
        }
        self.apply_mask();
    }

    /// Zeroes the entries that the mask removes.
    pub fn apply_mask(&mut self) {
        if let Some(mask) = &self.mask {
            self.value.zip_mut_with(mask, |w, &keep| {
                if !keep {
                    *w = F::zero();
                }
            });
        }
    }

    /// Keeps only the given rows and columns, of the value and of the mask.
    pub(crate) fn gather(&mut self, rows: Option<&[usize]>, cols: Option<&[usize]>) {
        for (axis, kept) in [(0, rows), (1, cols)] {
            if let Some(kept) = kept {
                self.value =
                    self.value.select(ndarray::Axis(axis), kept).as_standard_layout().into_owned();
                self.mask = self.mask.take().map(|mask| mask.select(ndarray::Axis(axis), kept));
            }
        }
    }

    /// Draws the value anew by its initialisation, and drops the mask.
    pub(crate) fn draw(&mut self, rng: &mut crate::rng::ChaCha8Rng) {
        self.value = self.init.draw(self.value.dim(), rng);
        self.mask = None;
    }
}

/// A row of zeros, one per output channel, for layers' builders.
pub(crate) fn bias<F: Scalar>(channels: usize) -> Param<F> {
    Param::new("bias", (1, channels), [Axis::Fixed, Axis::Out], Init::Zeros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn masks_add_up_and_follow_the_gather() {
        let mut param = Param::<f64>::new("weight", (2, 3), [Axis::In(0), Axis::Out], Init::Zeros);
        param.value_mut().fill(1.0);
        param.restrict(&array![[true, false, true], [true, true, true]]);
        param.restrict(&array![[true, true, false], [true, true, true]]);
        assert_eq!(param.value(), &array![[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]);
        assert_eq!(param.mask(), Some(&array![[true, false, false], [true, true, true]]));
        // What a first mask holds at zero a second one does not set free.
        param.value_mut().fill(1.0);
        param.apply_mask();
        assert_eq!(param.value(), &array![[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]);
        param.gather(Some(&[0]), Some(&[2, 0]));
        assert_eq!(param.value(), &array![[0.0, 1.0]]);
        assert_eq!(param.mask(), Some(&array![[false, true]]));
    }
}
