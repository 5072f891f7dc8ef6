//! Least squares after the cut: what is kept takes over what it can of what is gone.

use super::plan::ChannelPlan;
use crate::data::Dataset;
use crate::error::Result;
use crate::kernels;
use crate::nn::{Axis, Cx, Model, NodeId, Param};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::{Array2, s};

/// Share of the mean squared activation that is added to the diagonal, so that equal or dead channels do no harm.
const RIDGE: f64 = 1e-3;

impl ChannelPlan {
    /// As [`ChannelPlan::shrink`], and every consumer of the kept channels is refitted so that it loses least.
    ///
    /// With `H` the consumer's input on all nodes, `K` the kept and `R` the removed channels, `W_K ← W_K + (H_KᵀH_K + λI)⁻¹H_KᵀH_R·W_R`:
    /// the least-squares estimate of the removed channels from the kept ones, folded into the weights that read them.
    ///
    /// *Source*: the closed form of the reconstruction in He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, eq. 1, with `β` fixed.
    ///
    /// # Errors
    /// As [`ChannelPlan::shrink`], and what a forward pass on `data` returns.
    pub fn shrink_refitted<F: Scalar>(&self, model: &Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        let decided = self.decided(model)?;
        let keep: Vec<NodeId> = (0..=model.nodes().len()).map(NodeId).collect();
        let trace = model.trace_keeping(&Cx::eval(data.graph()), data.features(), &keep)?;
        let compensated = model.rebuilt(|_, node| {
            let mut maps = Vec::new();
            for &input in &node.inputs {
                let kept = decided.kept_of(input);
                let value = trace.value(input).filter(|_| kept.contains(&false));
                maps.push(value.map(|value| takeover(&value, &kept)));
            }
            node.layer.visit_mut(&mut |param| fold(param, &maps));
            Ok(())
        })?;
        self.shrink(&compensated)
    }
}

/// Adds to the rows of the kept channels what they take over of the removed ones.
fn fold<F: Scalar>(param: &mut Param<F>, maps: &[Option<Takeover<F>>]) {
    let (Axis::In(k) | Axis::InTiled(k)) = param.axes()[0] else { return };
    let Some(map) = maps.get(k).and_then(Option::as_ref) else { return };
    let rows = param.value().nrows();
    for start in (0..rows).step_by(map.width) {
        let mut tile = param.value_mut().slice_mut(s![start..start + map.width, ..]);
        let gone = tile.select(ndarray::Axis(0), &map.removed);
        let added = map.coefficients.dot(&gone);
        for (&row, added) in map.kept.iter().zip(added.rows()) {
            let mut row = tile.row_mut(row);
            row += &added;
        }
    }
    param.apply_mask();
}

/// How the removed channels follow from the kept ones: `H_R ≈ H_K·C`.
struct Takeover<F> {
    width: usize,
    kept: Vec<usize>,
    removed: Vec<usize>,
    /// `C`, shape `[kept, removed]`.
    coefficients: Array2<F>,
}

fn takeover<F: Scalar>(h: &ValueRef<F>, keeps: &[bool]) -> Takeover<F> {
    let width = h.cols();
    let kept: Vec<usize> = (0..width).filter(|&c| keeps[c]).collect();
    let removed: Vec<usize> = (0..width).filter(|&c| !keeps[c]).collect();
    let mut gram = Array2::zeros((width, width));
    h.with_dense(|h| kernels::matmul_tn(h, h, gram.view_mut()));
    let gram = gram.mapv(|v: F| v.as_f64());
    let pick = |cols: &[usize]| gram.select(ndarray::Axis(0), &kept).select(ndarray::Axis(1), cols);
    let mut system = pick(&kept);
    let ridge = RIDGE * system.diag().sum() / kept.len().max(1) as f64;
    system.diag_mut().mapv_inplace(|v| v + ridge + f64::MIN_POSITIVE);
    let coefficients = solve(system, pick(&removed)).mapv(F::of);
    Takeover { width, kept, removed, coefficients }
}

/// Solves `A·X = B` for symmetric positive definite `A` by Cholesky's `A = L·Lᵀ`; a pivot that is not positive stands for a dead channel.
fn solve(mut a: Array2<f64>, mut b: Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    for j in 0..n {
        let pivot = a[[j, j]] - a.slice(s![j, ..j]).dot(&a.slice(s![j, ..j]));
        let root = if pivot > 0.0 { pivot.sqrt() } else { f64::INFINITY };
        a[[j, j]] = root;
        for i in j + 1..n {
            let dot = a.slice(s![i, ..j]).dot(&a.slice(s![j, ..j]));
            a[[i, j]] = (a[[i, j]] - dot) / root;
        }
    }
    for mut column in b.columns_mut() {
        for i in 0..n {
            let dot = a.slice(s![i, ..i]).dot(&column.slice(s![..i]));
            column[i] = (column[i] - dot) / a[[i, i]];
        }
        for i in (0..n).rev() {
            let dot = a.slice(s![i + 1.., i]).dot(&column.slice(s![i + 1..]));
            column[i] = (column[i] - dot) / a[[i, i]];
        }
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::{ChannelPruner, Magnitude};
    use crate::train::Trainer;
    use crate::{Gcn, Value};
    use ndarray::array;

    #[test]
    fn solve_solves_and_a_dead_channel_takes_over_nothing() {
        let a = array![[4.0, 2.0], [2.0, 3.0]];
        let x = solve(a.clone(), array![[2.0], [5.0]]);
        assert!((a.dot(&x) - array![[2.0], [5.0]]).iter().all(|v: &f64| v.abs() < 1e-12));
        assert_eq!(solve(array![[0.0]], array![[1.0]]), array![[0.0]]);
    }

    #[test]
    fn a_channel_that_is_twice_another_is_taken_over() {
        let h = Value::Dense(array![[1.0, 2.0, 0.0], [3.0, 6.0, 1.0], [-1.0, -2.0, 5.0]]);
        let map = takeover(&h.view(), &[true, false, true]);
        assert!((map.coefficients[[0, 0]] - 2.0f64).abs() < 0.02 && map.coefficients[[1, 0]].abs() < 0.02, "{}", map.coefficients);
    }

    #[test]
    fn refitting_brings_the_logits_closer_to_the_dense_model() {
        let data = Dataset::sbm(240, 3).seed(1).build().unwrap();
        let model = Gcn::builder(data.num_features(), 3).hidden(32).layers(3).residual().build(1).unwrap();
        let model = Trainer::builder().epochs(30).build().unwrap().fit(model, &data).unwrap();
        let plan = ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build().unwrap().plan(&model, &data).unwrap();
        let logits = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let distance = |other: &Model| (logits(other) - logits(&model)).mapv(|v| v * v).sum();
        let (plain, refitted) = (plan.shrink(&model).unwrap(), plan.shrink_refitted(&model, &data).unwrap());
        assert_eq!(plain.num_params(), refitted.num_params());
        assert!(distance(&refitted) < 0.5 * distance(&plain), "{} against {}", distance(&refitted), distance(&plain));
    }
}
