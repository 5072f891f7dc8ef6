//! What the widths of one model learn from each other.

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::task::{Batch, Metric, Ranked, Task, huber};
use ndarray::{Array2, ArrayView1, ArrayView2};
use std::fmt;
use std::str::FromStr;

/// What a narrower width of [`Prefixes`](crate::prune::Prefixes) learns from a wider one, beside
/// its own loss.
///
/// ```
/// use gnn_prune::prune::Lessons;
/// assert_eq!("mutual".parse::<Lessons>()?, Lessons::Mutual);
/// assert_eq!("rankings:20:40".parse::<Lessons>()?.to_string(), "rankings:20:40");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lessons {
    /// Each width learns the outputs of the next wider one, which learns nothing of it: of the
    /// scores that a batch asks for the mean over pairs of `h(s_k − s_{k+1})`, with `h(x) = x²/2`
    /// for `|x| ≤ 1` and `|x| − ½` elsewhere; where one class is asked, the divergence
    /// `KL(p_{k+1} ‖ p_k)` of soft labels, in the mean over rows.
    Scores,
    /// The same both ways, so that a wider model keeps what the narrower knows: the gradient of `h`
    /// goes to both, and of classes `KL(p_k ‖ p_{k+1})` is added, each with the other side held
    /// fixed.
    ///
    /// Where a score is a sum over channels, as of dot products, DistMult and ComplEx and no layer
    /// mixes them, two widths differ by what the wider one's further channels add, and the two
    /// gradients cancel on the channels that both have: what is left is a penalty on that.
    ///
    /// *Source*: Zhu et al., "Croppable knowledge graph embedding", ACL 2025, arXiv 2407.02779, the
    /// mutual learning of its sub-models, with δ = 1 and a mean in the place of a sum; of classes
    /// Zhang et al., "Deep mutual learning", CVPR 2018, eqs. 3 to 5.
    Mutual,
    /// Each width learns the first answers of the whole model in their order, by relaxed ranking
    /// distillation ([`RelaxedRanking`](crate::RelaxedRanking)). The whole model answers every
    /// query after each tenth epoch, and until the first time nothing is learnt of it.
    Rankings(Ranked),
}

impl Lessons {
    /// The first 40 answers of the whole model before 40 drawn others.
    pub fn rankings() -> Self {
        Lessons::Rankings(Ranked::new(40, 40))
    }
}

impl FromStr for Lessons {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let legal = "`scores`, `mutual`, `rankings` or `rankings:BEST:OTHERS`";
        let illegal = || Error::setting("what widths learn", format!("`{text}`"), legal);
        let mut words = text.split(':');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("scores"), None, ..) => Ok(Lessons::Scores),
            (Some("mutual"), None, ..) => Ok(Lessons::Mutual),
            (Some("rankings"), None, ..) => Ok(Lessons::rankings()),
            (Some("rankings"), Some(best), Some(others), None) => {
                let count = |word: &str| word.parse().ok().filter(|count| *count > 0);
                let (best, others) = count(best).zip(count(others)).ok_or_else(illegal)?;
                Ok(Lessons::Rankings(Ranked::new(best, others)))
            }
            _ => Err(illegal()),
        }
    }
}

impl fmt::Display for Lessons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lessons::Scores => f.write_str("scores"),
            Lessons::Mutual => f.write_str("mutual"),
            Lessons::Rankings(Ranked { best, others }) => write!(f, "rankings:{best}:{others}"),
        }
    }
}

/// What one width says of another: a value, and its gradients by the outputs of the narrower and,
/// where that learns too, of the wider.
pub(super) struct Lesson<F> {
    pub(super) value: F,
    pub(super) narrower: Array2<F>,
    pub(super) wider: Option<Array2<F>>,
}

/// The lesson of two outputs on a batch of a task; both ways where it is mutual.
pub(super) fn lesson<F: Scalar>(
    narrower: ArrayView2<F>,
    wider: ArrayView2<F>,
    (task, batch): (&dyn Task<F>, &Batch<F>),
    mutual: bool,
) -> Lesson<F> {
    let whole = batch.spaces().node_ids().is_none() && batch.asks_about_nodes();
    // Of nodes that do not train only features, edges and what the other width says is read.
    let rows: Vec<u32> = match batch.spaces().asked() {
        None if !whole => batch.rows().to_vec(),
        _ => (0..narrower.nrows() as u32).collect(),
    };
    match batch.spaces().asked().is_none() && task.metric() == Metric::ACCURACY {
        true => soft_labels(narrower, wider, &rows, mutual),
        false => distances(narrower, wider, &rows, mutual),
    }
}

/// The mean over the entries of `rows` of `h(s_k − s_{k+1})`; its slope is cut off at ±1.
fn distances<F: Scalar>(
    narrower: ArrayView2<F>,
    wider: ArrayView2<F>,
    rows: &[u32],
    mutual: bool,
) -> Lesson<F> {
    let mut gradient = Array2::zeros(narrower.dim());
    let weight = F::of(1.0 / (rows.len() * narrower.ncols()).max(1) as f64);
    let mut value = F::zero();
    for i in rows.iter().map(|&row| row as usize) {
        for (j, g) in gradient.row_mut(i).iter_mut().enumerate() {
            let (off, slope) = huber(narrower[[i, j]] - wider[[i, j]]);
            value += off;
            *g = slope * weight;
        }
    }
    let wider = mutual.then(|| gradient.mapv(|g| -g));
    Lesson { value: value * weight, narrower: gradient, wider }
}

/// The mean over `rows` of `KL(p ‖ q)` with `q` of the narrower and `p` of the wider, and of
/// `KL(q ‖ p)`; `∂/∂z_q KL(p ‖ q) = q − p`.
fn soft_labels<F: Scalar>(
    narrower: ArrayView2<F>,
    wider: ArrayView2<F>,
    rows: &[u32],
    mutual: bool,
) -> Lesson<F> {
    let mut gradient = Array2::zeros(narrower.dim());
    let weight = F::of(1.0 / rows.len().max(1) as f64);
    let mut value = F::zero();
    for i in rows.iter().map(|&row| row as usize) {
        let (log_q, log_p) = (log_softmax(narrower.row(i)), log_softmax(wider.row(i)));
        for (g, (&log_q, &log_p)) in gradient.row_mut(i).iter_mut().zip(log_q.iter().zip(&log_p)) {
            let (q, p) = (log_q.exp(), log_p.exp());
            value += p * (log_p - log_q);
            if mutual {
                value += q * (log_q - log_p);
            }
            *g = (q - p) * weight;
        }
    }
    let wider = mutual.then(|| gradient.mapv(|g| -g));
    Lesson { value: value * weight, narrower: gradient, wider }
}

fn log_softmax<F: Scalar>(row: ArrayView1<F>) -> Vec<F> {
    let top = row.fold(F::neg_infinity(), |a, &b| a.max(b));
    let sum = row.fold(F::zero(), |sum, &z| sum + (z - top).exp());
    row.iter().map(|&z| z - top - sum.ln()).collect()
}

/// Weights of examples with mean 1, in proportion to `e^{γ·loss}` of each under the next narrower
/// width: what that has not learnt counts more. They are held fixed.
pub(super) fn harder<F: Scalar>(losses: &[F], sharpness: f64) -> Vec<F> {
    let sharpness = F::of(sharpness);
    let top = losses.iter().fold(F::neg_infinity(), |top, &loss| top.max(loss));
    let weights: Vec<F> = losses.iter().map(|&loss| (sharpness * (loss - top)).exp()).collect();
    let sum = weights.iter().fold(F::zero(), |sum, &weight| sum + weight);
    let scale = F::of(losses.len() as f64) / sum;
    weights.into_iter().map(|weight| weight * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-6;
    const EXACT: f64 = 1e-8;

    /// The slope of `value` by each entry is that of `gradient`.
    fn check(at: &Array2<f64>, gradient: &Array2<f64>, value: impl Fn(&Array2<f64>) -> f64) {
        for (place, &slope) in gradient.indexed_iter() {
            let moved = |step: f64| {
                let mut moved = at.clone();
                moved[place] += step;
                value(&moved)
            };
            let differences = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((slope - differences).abs() < EXACT, "{place:?}: {slope} {differences}");
        }
    }

    #[test]
    fn lessons_have_their_values_and_their_slopes() {
        let narrower = array![[0.3, -1.2, 0.8], [1.5, 0.2, 2.6], [9.0, 9.0, 9.0]];
        let wider = array![[0.1, 0.4, 0.7], [0.2, -0.1, 0.5], [0.0, 0.0, 0.0]];
        let rows = [0, 1];
        let of = |a: &Array2<f64>, b: &Array2<f64>| distances(a.view(), b.view(), &rows, true);
        let far = of(&narrower, &wider);
        let expected = (0.02 + 1.1 + 0.005 + 0.8 + 0.045 + 1.6) / 6.0;
        assert!((far.value - expected).abs() < 1e-12, "{} {expected}", far.value);
        check(&narrower, &far.narrower, |moved| of(moved, &wider).value);
        check(&wider, &far.wider.unwrap(), |moved| of(&narrower, moved).value);
        let of = |a: &Array2<f64>, b: &Array2<f64>| soft_labels(a.view(), b.view(), &rows, false);
        let soft = of(&narrower, &wider);
        assert!(soft.wider.is_none() && soft.value > 0.0);
        check(&narrower, &soft.narrower, |moved| of(moved, &wider).value);
        // The other way: what the wider learns is its divergence from the narrower, held fixed.
        let both = soft_labels(narrower.view(), wider.view(), &rows, true);
        assert!((both.value - soft.value - of(&wider, &narrower).value).abs() < 1e-12);
        check(&wider, &both.wider.unwrap(), |moved| of(moved, &narrower).value);
    }

    #[test]
    fn what_is_hard_counts_more_and_all_together_as_much() {
        let weights = harder(&[0.5f64, 2.0, 0.5, 400.0], 0.01);
        assert!((weights.iter().sum::<f64>() - 4.0).abs() < 1e-12);
        assert!(weights[3] > weights[1] && weights[1] > weights[0] && weights[0] == weights[2]);
        assert!((weights[1] / weights[0] - 0.015f64.exp()).abs() < 1e-12);
        assert_eq!(harder(&[1.0f64, 5.0], 0.0), [1.0, 1.0]);
        assert!(harder(&[1.0f32, 5000.0], 10.0).iter().all(|weight| weight.is_finite()));
        assert!(harder::<f64>(&[], 1.0).is_empty());
    }

    #[test]
    fn words_of_lessons_are_read_as_they_are_written() {
        let ways = [Lessons::Scores, Lessons::Mutual, Lessons::Rankings(Ranked::new(3, 5))];
        for way in ways {
            assert_eq!(way.to_string().parse::<Lessons>().unwrap(), way);
        }
        assert_eq!("rankings".parse::<Lessons>().unwrap(), Lessons::rankings());
        for wrong in ["", "scores:1", "rankings:0:4", "rankings:4", "rankings:1:2:3", "score"] {
            let error = wrong.parse::<Lessons>().unwrap_err().to_string();
            assert!(error.contains("`mutual`"), "{error}");
        }
    }
}
