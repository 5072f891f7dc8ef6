//! Softened logits.

use super::signals::log_softmax;
use super::{DistillLoss, Signals};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::train::NodeGrads;
use ndarray::Array2;

/// `T²/|R| Σ_{i∈R} KL(p_i ‖ q_i)` with `p = softmax(z_T/T)` of the teacher and `q = softmax(z_S/T)`
/// of the student, summed over classes.
///
/// Its gradient is `∂/∂z_S = T/|R|·(q − p)`; the factor `T²` keeps its size as `T` grows. An empty
/// `R` gives zero.
///
/// *Shapes*: logits of both `[n, classes]`.
///
/// *Source*: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, §2; as
/// `T²·torch.nn.functional.kl_div(log q, p, reduction="batchmean")`.
///
/// ```
/// use gnn_prune::SoftLabels;
/// assert!(SoftLabels::new(2.0).is_ok());
/// assert!(SoftLabels::new(0.0).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftLabels {
    temperature: f64,
}

impl SoftLabels {
    /// Softens both sides by `temperature`, a positive number. Default 1: see
    /// [`SoftLabels::default`].
    ///
    /// # Errors
    /// [`Error::Setting`] for any other temperature.
    pub fn new(temperature: f64) -> Result<Self> {
        if temperature > 0.0 && temperature.is_finite() {
            return Ok(Self { temperature });
        }
        Err(Error::setting("temperature", temperature, "a positive number"))
    }

    /// The temperature `T`.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }
}

impl Default for SoftLabels {
    /// Temperature 1.
    fn default() -> Self {
        Self { temperature: 1.0 }
    }
}

impl<F: Scalar> DistillLoss<F> for SoftLabels {
    fn name(&self) -> &'static str {
        "soft_labels"
    }

    fn settings(&self) -> String {
        format!("soft_labels of temperature {}", self.temperature)
    }

    fn start(&self, _: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(*self)
    }

    fn reads_rows_alone(&self) -> bool {
        true
    }

    fn loss(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, NodeGrads<F>)> {
        student.check_against(teacher, rows)?;
        let (zs, zt) = (student.logits(), teacher.logits());
        let mut gradient = Array2::zeros(zs.dim());
        let (mut log_q, mut log_p) = (vec![F::zero(); zs.ncols()], vec![F::zero(); zs.ncols()]);
        let temperature = F::of(self.temperature);
        let weight = temperature / F::of(rows.len().max(1) as f64);
        let mut total = F::zero();
        for &i in rows {
            let i = i as usize;
            log_softmax(zs.row(i), temperature, &mut log_q);
            log_softmax(zt.row(i), temperature, &mut log_p);
            for ((d, &log_q), &log_p) in gradient.row_mut(i).iter_mut().zip(&log_q).zip(&log_p) {
                let p = log_p.exp();
                total += p * (log_p - log_q);
                *d += weight * (log_q.exp() - p);
            }
        }
        Ok((total * weight * temperature, vec![(student.output(), gradient)]))
    }
}
