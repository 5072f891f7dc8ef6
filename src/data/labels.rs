//! What is known of the nodes.

use ndarray::{Array2, ArrayView2, Axis, s};
use std::borrow::Cow;
use std::sync::Arc;

/// The label of a node that has none.
pub const UNLABELED: u32 = u32::MAX;

/// The labels of a data set. Clones share them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Labels {
    /// One class per node, in `0..num_classes`; [`UNLABELED`] for none.
    Classes(Arc<[u32]>),
    /// Any number of labels per node.
    Several {
        /// Which, `[nodes, num_classes]`.
        matrix: Arc<Array2<bool>>,
        /// Whether they are known, for each node; the row of a node without says nothing.
        known: Arc<[bool]>,
    },
    /// Numbers to be predicted.
    Numbers {
        /// Which, `[nodes, outputs]`.
        values: Arc<Array2<f64>>,
        /// Whether they are known, for each node; the row of a node without says nothing.
        known: Arc<[bool]>,
    },
}

impl Labels {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Classes(classes) => classes.len(),
            Labels::Several { known, .. } | Labels::Numbers { known, .. } => known.len(),
        }
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a node has a label, or labels. A node that there is not has none.
    pub fn is_known(&self, node: usize) -> bool {
        match self {
            Labels::Classes(classes) => classes.get(node).is_some_and(|class| *class != UNLABELED),
            Labels::Several { known, .. } | Labels::Numbers { known, .. } => {
                known.get(node).is_some_and(|known| *known)
            }
        }
    }

    /// The labels of these nodes, in this order.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn of_nodes(&self, nodes: &[u32]) -> Self {
        let of = |known: &[bool]| nodes.iter().map(|&node| known[node as usize]).collect();
        let rows = || nodes.iter().map(|&node| node as usize).collect::<Vec<_>>();
        match self {
            Labels::Classes(classes) => {
                Labels::Classes(nodes.iter().map(|&node| classes[node as usize]).collect())
            }
            Labels::Several { matrix, known } => {
                let matrix = Arc::new(matrix.select(Axis(0), &rows()));
                Labels::Several { matrix, known: of(known) }
            }
            Labels::Numbers { values, known } => {
                let values = Arc::new(values.select(Axis(0), &rows()));
                Labels::Numbers { values, known: of(known) }
            }
        }
    }

    /// The same, with so many more nodes whose labels are not known.
    pub(super) fn with_unknown(&self, count: usize) -> Self {
        let longer = |known: &[bool]| {
            known.iter().copied().chain(std::iter::repeat_n(false, count)).collect()
        };
        match self {
            Labels::Classes(classes) => {
                let unknown = std::iter::repeat_n(UNLABELED, count);
                Labels::Classes(classes.iter().copied().chain(unknown).collect())
            }
            Labels::Several { matrix, known } => {
                let matrix = Arc::new(with_rows(matrix, count, false));
                Labels::Several { matrix, known: longer(known) }
            }
            Labels::Numbers { values, known } => {
                let values = Arc::new(with_rows(values, count, f64::NAN));
                Labels::Numbers { values, known: longer(known) }
            }
        }
    }

    /// The class of each node, where each has one.
    pub fn classes(&self) -> Option<&[u32]> {
        if let Labels::Classes(classes) = self { Some(classes) } else { None }
    }

    /// The labels of each node, where it may have several.
    pub fn matrix(&self) -> Option<ArrayView2<'_, bool>> {
        if let Labels::Several { matrix, .. } = self { Some(matrix.view()) } else { None }
    }

    /// The numbers of each node, where numbers are to be predicted.
    pub fn numbers(&self) -> Option<ArrayView2<'_, f64>> {
        if let Labels::Numbers { values, .. } = self { Some(values.view()) } else { None }
    }

    /// As a split sees them: a class for each node, or one class for all that are known.
    pub(super) fn for_splits(&self) -> Cow<'_, [u32]> {
        match self {
            Labels::Classes(classes) => Cow::Borrowed(classes),
            Labels::Several { known, .. } | Labels::Numbers { known, .. } => {
                known.iter().map(|known| if *known { 0 } else { UNLABELED }).collect()
            }
        }
    }
}

/// The rows of a matrix with so many more of one entry below.
fn with_rows<T: Clone>(matrix: &Array2<T>, count: usize, entry: T) -> Array2<T> {
    let (rows, columns) = matrix.dim();
    let mut all = Array2::from_elem((rows + count, columns), entry);
    all.slice_mut(s![..rows, ..]).assign(matrix);
    all
}
