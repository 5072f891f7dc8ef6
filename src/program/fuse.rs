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
    /// What the columns of its weight, or of the products that it sums, were multiplied by.
    pub(crate) scaled: Option<Arc<Vec<F>>>,
    /// The stage of the operation itself, before what was joined to it.
    pub(crate) starts: StageId,
    pub(crate) makes: StageId,
}

/// Joins bias and activation to the operation that they follow, where nothing else reads the value
/// in between, and scales to the weight before them: `(X·W + b)∘s = X·(W·diag s) + b∘s`, with a
/// product by the graph or a readout between the two or without. So a batch norm costs nothing.
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
            Stage::Pool { x, operator, pooling } => {
                (Op::Pool(operator.clone(), *pooling), vec![*x], None, None)
            }
            Stage::Concat { xs } => (Op::Concat, xs.clone(), None, None),
            Stage::Scale { x, scale } if scale_weight(&mut fused, &readers, *x, scale) => {
                let before = fused.iter_mut().find(|f| f.makes == *x);
                before.expect("it was just scaled").makes = makes;
                continue;
            }
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
                    Some(before) if before.takes_bias() => {
                        before.bias = Some(match &before.bias {
                            None => bias.clone(),
                            Some(own) => {
                                Arc::new(own.iter().zip(&bias[..]).map(|(&a, &b)| a + b).collect())
                            }
                        });
                        before.makes = makes;
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
        fused.push(Fused { op, inputs, bias, activation, scaled: None, starts: makes, makes });
    }
    fused
}

impl<F: Scalar> Fused<F> {
    /// Whether a bias may still follow: the first one, or that of a norm after the layer's own.
    fn takes_bias(&self) -> bool {
        self.activation.is_none() && (self.bias.is_none() || self.scaled.is_some())
    }
}

/// Multiplies the columns of the weight that makes value `x` by `scale`, and every bias on the way;
/// says whether there is such a weight, whose value nothing else reads.
fn scale_weight<F: Scalar>(
    fused: &mut [Fused<F>],
    readers: &[usize],
    x: StageId,
    scale: &[F],
) -> bool {
    let own = |f: &Fused<F>| f.makes == x && readers[x.0] == 1 && f.activation.is_none();
    let Some(at) = fused.iter().position(own) else { return false };
    let scaled = match &fused[at].op {
        Op::Linear(weight) => {
            let scaled = &**weight * &ndarray::aview1(scale);
            fused[at].op = Op::Linear(Arc::new(scaled));
            true
        }
        Op::Aggregate(..) | Op::Pool(..) => {
            let before = fused[at].inputs[0];
            scale_weight(fused, readers, before, scale)
        }
        _ => false,
    };
    if scaled {
        let product = |of: &[F]| -> Arc<Vec<F>> {
            Arc::new(of.iter().zip(scale).map(|(&a, &s)| a * s).collect())
        };
        let of = &mut fused[at];
        of.bias = of.bias.as_ref().map(|bias| product(bias));
        of.scaled =
            Some(of.scaled.as_ref().map_or_else(|| Arc::new(scale.to_vec()), |s| product(s)));
    }
    scaled
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
