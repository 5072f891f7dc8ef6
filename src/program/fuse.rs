//! From stages to passes: what follows an operation is joined to it, and sums of products are made
//! where their terms are.

use super::cost::{nonzeros, pays};
use super::op::Op;
use crate::nn::{ActivationFn, Lowering, Stage, StageId};
use crate::scalar::Scalar;
use std::sync::Arc;

/// An instruction before buffers are planned: which stages it reads, and the stage whose value it
/// makes.
#[derive(Clone)]
pub(crate) struct Fused<F: Scalar> {
    pub(crate) op: Op<F>,
    pub(crate) inputs: Vec<StageId>,
    pub(crate) bias: Option<Arc<Vec<F>>>,
    pub(crate) activation: Option<ActivationFn>,
    /// The stage of the operation itself, before what was joined to it.
    pub(crate) starts: StageId,
    pub(crate) makes: StageId,
}

/// Joins bias and activation to the operation that they follow, where nothing else reads the value
/// in between.
pub(crate) fn fuse<F: Scalar>(lowering: &Lowering<F>) -> Vec<Fused<F>> {
    let stages = lowering.stages();
    let mut readers = vec![0usize; stages.len()];
    stages.iter().flat_map(Stage::inputs).for_each(|id| readers[id.0] += 1);
    readers[lowering.output().0] += 1;
    let mut fused: Vec<Fused<F>> = Vec::new();
    let copy_of = |x: StageId| (Op::Add(vec![F::one()]), vec![x]);
    for (k, stage) in stages.iter().enumerate() {
        let makes = StageId(k);
        let (op, inputs, bias, activation) = match stage {
            Stage::Input => continue,
            Stage::Linear { x, weight, .. } => (Op::Linear(weight.clone()), vec![*x], None, None),
            Stage::Aggregate { x, operator, norm } => {
                (Op::Aggregate(operator.clone(), *norm), vec![*x], None, None)
            }
            Stage::Add { xs, coefficients } => {
                (Op::Add(coefficients.clone()), xs.clone(), None, None)
            }
            Stage::Concat { xs } => (Op::Concat, xs.clone(), None, None),
            Stage::Scale { x, scale } => (Op::Scale(scale.clone()), vec![*x], None, None),
            Stage::Max { xs } => (Op::Max, xs.clone(), None, None),
            Stage::RowNorm { x, norm, scale } => {
                (Op::RowNorm(norm.clone(), scale.clone()), vec![*x], None, None)
            }
            Stage::Opaque { xs, operation } => {
                (Op::Opaque(operation.clone()), xs.clone(), None, None)
            }
            Stage::Bias { x, bias } => {
                match fused.iter_mut().find(|f| f.makes == *x && readers[x.0] == 1) {
                    Some(before) if before.bias.is_none() && before.activation.is_none() => {
                        (before.bias, before.makes) = (Some(bias.clone()), makes);
                        continue;
                    }
                    _ => {
                        let (op, inputs) = copy_of(*x);
                        (op, inputs, Some(bias.clone()), None)
                    }
                }
            }
            Stage::Activation { x, function } => {
                match fused.iter_mut().find(|f| f.makes == *x && readers[x.0] == 1) {
                    Some(before) if before.activation.is_none() => {
                        (before.activation, before.makes) = (Some(*function), makes);
                        continue;
                    }
                    _ => {
                        let (op, inputs) = copy_of(*x);
                        (op, inputs, None, Some(*function))
                    }
                }
            }
        };
        fused.push(Fused { op, inputs, bias, activation, starts: makes, makes });
    }
    fused
}

/// Turns a plain sum of products that nothing else reads into one instruction that adds them up in
/// place.
pub(super) fn merged<F: Scalar>(lowering: &Lowering<F>, fused: Vec<Fused<F>>) -> Vec<Fused<F>> {
    let mut readers = vec![0usize; lowering.stages().len()];
    fused.iter().flat_map(|f| &f.inputs).for_each(|id| readers[id.0] += 1);
    readers[lowering.output().0] += 1;
    let mut done: Vec<Fused<F>> = Vec::new();
    for mut next in fused {
        let term = |id: &StageId| {
            let of = done.iter().position(|f| {
                f.makes == *id && readers[id.0] == 1 && f.bias.is_none() && f.activation.is_none()
            })?;
            let is_dense = !lowering.is_sparse(done[of].inputs[0]);
            let sparse_weight =
                matches!(&done[of].op, Op::Linear(weight) if pays(nonzeros(weight), weight.dim()));
            (done[of].op.is_product() && is_dense && !sparse_weight).then_some(of)
        };
        let plain = matches!(&next.op, Op::Add(coefficients) if coefficients.len() > 1 && coefficients.iter().all(|a| *a == F::one()));
        let terms: Option<Vec<usize>> =
            if plain { next.inputs.iter().map(term).collect() } else { None };
        if let Some(terms) = terms
            .filter(|terms| terms.iter().all(|t| terms.iter().filter(|u| *u == t).count() == 1))
        {
            let parts: Vec<Fused<F>> = terms.iter().map(|&t| done[t].clone()).collect();
            done.retain(|f| !parts.iter().any(|part| part.makes == f.makes));
            next.inputs = parts.iter().map(|part| part.inputs[0]).collect();
            next.op = Op::Sum(parts.into_iter().map(|part| part.op).collect());
        }
        done.push(next);
    }
    done
}
