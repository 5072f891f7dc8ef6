//! What a loss sees of a model's forward pass.

use crate::error::{Error, Result};
use crate::nn::NodeId;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// The logits of one model, with the labels that may be looked at.
///
/// *Shapes*: `logits: [n, classes]`; `labelled`: node and class of each training node, of no other.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a, F: Scalar> {
    output: NodeId,
    logits: ArrayView2<'a, F>,
    labelled: &'a [(u32, u32)],
}

impl<'a, F: Scalar> Signals<'a, F> {
    /// Signals of a model whose node `output` has the value `logits`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a labelled node or a class that `logits` does not have.
    pub fn new(
        output: NodeId,
        logits: ArrayView2<'a, F>,
        labelled: &'a [(u32, u32)],
    ) -> Result<Self> {
        let (nodes, classes) = logits.dim();
        for &(node, class) in labelled {
            for (at, index, len) in [
                ("labelled node", node as usize, nodes),
                ("class of a labelled node", class as usize, classes),
            ] {
                if index >= len {
                    return Err(Error::IndexOutOfRange { at: at.into(), index, len });
                }
            }
        }
        Ok(Self { output, logits, labelled })
    }

    /// The node that gradients by the logits belong to.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// The logits `[n, classes]`.
    pub fn logits(&self) -> ArrayView2<'a, F> {
        self.logits
    }

    /// Node and class of each training node.
    pub fn labeled(&self) -> &'a [(u32, u32)] {
        self.labelled
    }

    /// Checks that `teacher` has as many nodes and classes, and that it has the nodes `rows`.
    ///
    /// # Errors
    /// [`Error::StudentAndTeacher`] with the numbers of both sides, [`Error::IndexOutOfRange`] for
    /// a row.
    pub fn check_against(&self, teacher: &Signals<F>, rows: &[u32]) -> Result<()> {
        let (student, teacher) = (self.logits.dim(), teacher.logits.dim());
        for (what, student, teacher) in
            [("nodes", student.0, teacher.0), ("classes", student.1, teacher.1)]
        {
            if student != teacher {
                return Err(mismatch(
                    &format!("logits of {student} {what}"),
                    &format!("of {teacher}"),
                ));
            }
        }
        match rows.iter().find(|row| **row as usize >= student.0) {
            Some(&row) => Err(Error::IndexOutOfRange {
                at: "row to distil on".into(),
                index: row as usize,
                len: student.0,
            }),
            None => Ok(()),
        }
    }
}

/// An error that names both sides: `the student has X, its teacher Y`.
pub(super) fn mismatch(student: &str, teacher: &str) -> Error {
    Error::StudentAndTeacher { student: student.into(), teacher: teacher.into() }
}

/// Writes `log softmax(z/T)` of one row to `out`.
pub(super) fn log_softmax<F: Scalar>(row: ndarray::ArrayView1<F>, temperature: F, out: &mut [F]) {
    let top = row.fold(F::neg_infinity(), |a, &b| a.max(b));
    let mut sum = F::zero();
    for (out, &z) in out.iter_mut().zip(row) {
        *out = (z - top) / temperature;
        sum += out.exp();
    }
    let log_sum = sum.ln();
    out.iter_mut().for_each(|out| *out -= log_sum);
}

/// The class of the largest logit of each node; of equal ones the first.
pub(super) fn predictions<F: Scalar>(logits: &Array2<F>) -> Vec<u32> {
    let best = |row: ndarray::ArrayView1<F>| {
        (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best }) as u32
    };
    logits.rows().into_iter().map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn of_equal_logits_the_first_class_is_predicted() {
        assert_eq!(
            predictions(&array![[1.0, 3.0, 3.0], [2.0, 2.0, 1.0], [0.0, -1.0, 0.5]]),
            [1, 0, 2]
        );
    }
}
