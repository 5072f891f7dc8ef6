//! What is known of the nodes.

use ndarray::{Array2, ArrayView2};
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
