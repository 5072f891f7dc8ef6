//! Scores and geometry of the teacher's rows, pair by pair.

use super::embedded::{Embedded, Pull};
use super::{DistillLoss, Signals};
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Linear, Model, ModelBuilder, NodeId};
use crate::scalar::Scalar;
use crate::task::huber;
use crate::train::{Adam, NodeGrads, step};
use crate::value::Value;
use ndarray::{Array2, ArrayView1};

/// `Σ_k w_k·[p_k·d_k + (1 − p_k)·c_k]` over right and wrong pairs, where each of the two kinds has
/// the weight 1 in all: what a student learns of its teacher's score and geometry of a pair, and of
/// whether the pair is right.
///
/// With head and tail rows `h` and `t`, and `δ(x) = x²/2` for `|x| ≤ 1` and `|x| − ½` elsewhere,
///
/// ```text
/// d = δ(s_S − s_T) + δ(cos_S − cos_T) + δ(ρ_S − ρ_T),   cos = ⟨h, t⟩/(‖h‖·‖t‖),   ρ = ‖h‖/‖t‖
/// c = −ln σ(s_S) of a right pair, −ln σ(−s_S) of a wrong one
/// p = σ(a₊·s_T + b₊) of a right pair, 1 − σ(a₋·s_T + b₋) of a wrong one
/// ```
///
/// `p` is how far the teacher is believed of this pair. Its four numbers begin at `a = 1, b = 0`
/// and minimise the same sum, by an Adam of their own at 0.01, one step for each batch: both `d`
/// and `c` move them, towards whichever is the smaller. In the paper `p` weighs `d` alone and `c`
/// has a fixed weight, so that what is minimised makes every `p` small. Of a pair with a row of
/// zeros there is no angle and no ratio, and only its scores count.
///
/// It is the first of the paper's two stages: the teacher stays as it is. In the second it would
/// learn from its student, but here a teacher is a trained model that nothing changes.
///
/// Every candidate of a query counts, so that sampled candidates are much cheaper than all.
///
/// *Source*: Zhu et al., "DualDE: dually distilling knowledge graph embedding for faster and
/// cheaper reasoning", WSDM 2022, the dual-influence loss of the student in its first stage.
///
/// ```
/// use gnn_prune::distill::DualDistances;
/// use gnn_prune::Distiller;
/// let distiller = Distiller::builder(DualDistances::default()).labels(0.5).epochs(20).build()?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DualDistances<F: Scalar = f32> {
    belief: Option<[(Model<F>, Adam<F>); 2]>,
}

/// A value with its gradients by rows, scores, and the two beliefs, of right and of wrong pairs.
struct Parts<F: Scalar> {
    value: F,
    rows: Array2<F>,
    scores: Vec<F>,
    beliefs: [Grads<F>; 2],
}

/// `σ(a·s + b)` before the sigmoid, with `a = 1` and `b = 0`.
fn belief<F: Scalar>() -> Result<(Model<F>, Adam<F>)> {
    let mut b = ModelBuilder::new(1);
    let out = b.add("lin", Linear::builder(1, 1).build()?, &[NodeId::INPUT])?;
    let mut model: Model<F> = b.build(out, 0)?;
    let mut at = [F::one(), F::zero()].into_iter();
    model.visit_mut(&mut |param| param.value_mut().fill(at.next().expect("weight and bias")));
    Ok((model, Adam::builder().weight_decay(0.0).build()?))
}

/// `−ln σ(s)`, and its slope.
fn doubt<F: Scalar>(s: F) -> (F, F) {
    ((-s).max(F::zero()) + (-s.abs()).exp().ln_1p(), -(F::one() + s.exp()).recip())
}

/// Two rows with the cosine of their angle and the ratio of their lengths.
struct Shape<F> {
    cosine: F,
    ratio: F,
    lengths: [F; 2],
}

impl<F: Scalar> Shape<F> {
    /// Nothing, where a row is zero.
    fn of(head: ArrayView1<F>, tail: ArrayView1<F>) -> Option<Self> {
        let lengths = [head.dot(&head).sqrt(), tail.dot(&tail).sqrt()];
        if lengths.iter().any(|&length| length == F::zero()) {
            return None;
        }
        let cosine = head.dot(&tail) / (lengths[0] * lengths[1]);
        Some(Self { cosine, ratio: lengths[0] / lengths[1], lengths })
    }

    /// Adds the gradient of `a·cos + b·ρ` to rows `at` of `sum`.
    fn back(
        &self,
        (a, b): (F, F),
        rows: ndarray::ArrayView2<F>,
        at: [usize; 2],
        sum: &mut Array2<F>,
    ) {
        let [h, t] = self.lengths;
        let [head, tail] = at.map(|row| rows.row(row));
        // ∂cos/∂h = t/(‖h‖‖t‖) − cos·h/‖h‖², ∂ρ/∂h = h/(‖h‖‖t‖), ∂ρ/∂t = −ρ·t/‖t‖².
        let across = a / (h * t);
        let own = [
            b / (h * t) - a * self.cosine / (h * h),
            -(a * self.cosine + b * self.ratio) / (t * t),
        ];
        for c in 0..rows.ncols() {
            sum[[at[0], c]] += across * tail[c] + own[0] * head[c];
            sum[[at[1], c]] += across * head[c] + own[1] * tail[c];
        }
    }
}

fn parts<F: Scalar>(
    models: [&Model<F>; 2],
    student: &Embedded<F>,
    teacher: &Embedded<F>,
) -> Result<Parts<F>> {
    let cx = Cx::without_graph();
    let (mut value, mut rows) = (F::zero(), Array2::zeros(student.rows().dim()));
    let mut scores = vec![F::zero(); student.scores().len()];
    let mut beliefs = Vec::with_capacity(2);
    for (right, model) in [true, false].into_iter().zip(models) {
        let all = 0..student.scores().len();
        let pairs: Vec<usize> = all.filter(|&k| student.is_right(k) == Some(right)).collect();
        let weight = F::of(1.0 / pairs.len().max(1) as f64);
        let said: Vec<F> = pairs.iter().map(|&k| teacher.scores()[k]).collect();
        let said = Array2::from_shape_vec((pairs.len(), 1), said).expect("one for each pair");
        let said = Value::from(said);
        let trace = model.trace(&cx, said.view())?;
        let sign = if right { F::one() } else { -F::one() };
        let mut seed = Array2::zeros((pairs.len(), 1));
        for (i, &k) in pairs.iter().enumerate() {
            let believed = (F::one() + (-sign * trace.output()[[i, 0]]).exp()).recip();
            let (own, theirs) = (student.scores()[k], teacher.scores()[k]);
            let (mut off, slope) = huber(own - theirs);
            let at = student.link(k).map(|row| row as usize);
            let shape = |of: &Embedded<F>| Shape::of(of.rows().row(at[0]), of.rows().row(at[1]));
            if let (Some(mine), Some(other)) = (shape(student), shape(teacher)) {
                let angle = huber(mine.cosine - other.cosine);
                let ratio = huber(mine.ratio - other.ratio);
                off += angle.0 + ratio.0;
                let scale = weight * believed;
                mine.back((scale * angle.1, scale * ratio.1), student.rows(), at, &mut rows);
            }
            let (hard, fall) = doubt(sign * own);
            let doubted = F::one() - believed;
            value += weight * (believed * off + doubted * hard);
            scores[k] = weight * (believed * slope + doubted * sign * fall);
            seed[[i, 0]] = weight * (off - hard) * believed * doubted * sign;
        }
        beliefs.push(model.backward(&cx, trace, vec![(model.output(), seed)])?);
    }
    let beliefs = beliefs.try_into().expect("of right and of wrong pairs");
    Ok(Parts { value, rows, scores, beliefs })
}

impl<F: Scalar> DistillLoss<F> for DualDistances<F> {
    fn name(&self) -> &'static str {
        "dual_distances"
    }

    fn start(&self, _: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(Self { belief: None })
    }

    fn reads_embeddings(&self) -> bool {
        true
    }

    fn of_embeddings(&mut self, student: &Embedded<F>, teacher: &Embedded<F>) -> Result<Pull<F>> {
        let learnt = match &mut self.belief {
            Some(learnt) => learnt,
            none => none.insert([belief()?, belief()?]),
        };
        let found = parts([&learnt[0].0, &learnt[1].0], student, teacher)?;
        for ((model, adam), grads) in learnt.iter_mut().zip(&found.beliefs) {
            step(adam, model, grads, 1.0);
        }
        Ok(Pull::new(found.value, found.rows).with_scores(found.scores))
    }

    /// Refused: outputs have no rows of their own.
    fn loss(&self, _: &Signals<F>, _: &Signals<F>, _: &[u32]) -> Result<(F, NodeGrads<F>)> {
        Err(Error::setting("dual_distances", "rows of outputs", "the rows of a task that ranks"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Queries, Query};
    use ndarray::array;

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-6;
    const EXACT: f64 = 1e-8;

    /// Two queries with three candidates each, the second about heads.
    fn asked() -> (Queries, Vec<Option<bool>>) {
        let query = |node, inverse| Query { node, relation: 0, inverse };
        let asked = vec![query(0, false), query(3, true)];
        let queries = Queries::each(asked, 3, vec![1, 2, 3, 0, 4, 2]).unwrap();
        let right = [Some(true), Some(false), None, Some(true), Some(false), Some(false)];
        (queries, right.to_vec())
    }

    struct Side {
        rows: Array2<f64>,
        scores: Vec<f64>,
    }

    fn sides() -> [Side; 2] {
        let rows = array![[0.3, -0.8], [1.2, 0.1], [-0.7, 0.4], [0.9, 2.0], [0.5, 0.6]];
        let student = Side { rows, scores: vec![0.4, -0.3, 8.0, 2.4, 0.1, -1.6] };
        let rows = array![
            [0.2, 0.5, -0.3],
            [0.6, -0.1, 0.9],
            [0.0, 0.0, 0.0],
            [1.4, 0.2, -0.5],
            [-0.6, 0.3, 0.8]
        ];
        [student, Side { rows, scores: vec![1.1, -0.9, 5.0, 0.7, 0.3, -0.2] }]
    }

    fn of(sides: &[Side; 2], beliefs: &[Model<f64>; 2]) -> Parts<f64> {
        let (asked, right) = asked();
        let [student, teacher] = [&sides[0], &sides[1]].map(|side| Embedded {
            rows: side.rows.view(),
            scores: &side.scores,
            asked: &asked,
            right: &right,
            names: None,
            epoch: 1,
        });
        parts([&beliefs[0], &beliefs[1]], &student, &teacher).unwrap()
    }

    fn beliefs() -> [Model<f64>; 2] {
        [belief().unwrap().0, belief().unwrap().0]
    }

    #[test]
    fn it_is_its_formula() {
        let sides = sides();
        let found = of(&sides, &beliefs()).value;
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let h = |x: f64| if x.abs() <= 1.0 { x * x / 2.0 } else { x.abs() - 0.5 };
        let geometry = |side: &Side, head: usize, tail: usize| {
            let (h, t) = (side.rows.row(head), side.rows.row(tail));
            let (a, b) = (h.dot(&h).sqrt(), t.dot(&t).sqrt());
            (h.dot(&t) / (a * b), a / b)
        };
        let mut expected = 0.0;
        // Pair, head, tail, right, weight. The teacher's row 2 is zero.
        for (k, head, tail, right, weight) in [
            (0, 0, 1, true, 0.5),
            (1, 0, 2, false, 1.0 / 3.0),
            (3, 0, 3, true, 0.5),
            (4, 4, 3, false, 1.0 / 3.0),
            (5, 2, 3, false, 1.0 / 3.0),
        ] {
            let (own, theirs) = (sides[0].scores[k], sides[1].scores[k]);
            let mut off = h(own - theirs);
            if head != 2 && tail != 2 {
                let (mine, other) =
                    (geometry(&sides[0], head, tail), geometry(&sides[1], head, tail));
                off += h(mine.0 - other.0) + h(mine.1 - other.1);
            }
            let believed = if right { sigmoid(theirs) } else { 1.0 - sigmoid(theirs) };
            let hard = -(if right { sigmoid(own) } else { 1.0 - sigmoid(own) }).ln();
            expected += weight * (believed * off + (1.0 - believed) * hard);
        }
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn all_gradients_are_those_of_differences() {
        let (mut sides, mut beliefs) = (sides(), beliefs());
        let found = of(&sides, &beliefs);
        let check = |slope: f64, low: f64, high: f64, what: &str| {
            let differences = (high - low) / (2.0 * STEP);
            assert!((slope - differences).abs() < EXACT, "{what}: {slope} {differences}");
        };
        for (at, &slope) in found.rows.indexed_iter() {
            sides[0].rows[at] += STEP;
            let high = of(&sides, &beliefs).value;
            sides[0].rows[at] -= 2.0 * STEP;
            let low = of(&sides, &beliefs).value;
            sides[0].rows[at] += STEP;
            check(slope, low, high, &format!("row {at:?}"));
        }
        for (k, &slope) in found.scores.iter().enumerate() {
            sides[0].scores[k] += STEP;
            let high = of(&sides, &beliefs).value;
            sides[0].scores[k] -= 2.0 * STEP;
            let low = of(&sides, &beliefs).value;
            sides[0].scores[k] += STEP;
            check(slope, low, high, &format!("score {k}"));
        }
        assert_eq!(found.scores[2], 0.0, "what is not to be counted has no gradient");
        for side in 0..2 {
            let mut slopes = Vec::new();
            beliefs[side].visit(&mut |_, param| {
                slopes.push(found.beliefs[side].get(param.id()).unwrap()[[0, 0]]);
            });
            for (k, slope) in slopes.into_iter().enumerate() {
                let mut moved = |step: f64| {
                    let mut index = 0;
                    beliefs[side].visit_mut(&mut |param| {
                        if index == k {
                            param.value_mut()[[0, 0]] += step;
                        }
                        index += 1;
                    });
                    of(&sides, &beliefs).value
                };
                let (high, low) = (moved(STEP), moved(-2.0 * STEP));
                moved(STEP);
                check(slope, low, high, &format!("belief {side} {k}"));
                assert_ne!(slope, 0.0);
            }
        }
    }
}
