//! Backward: gradients of parameters, by the trace of a forward pass.

use super::by_rows::ByRows;
use super::cx::Cx;
use super::grads::{Grads, Io};
use super::ids::NodeId;
use super::kept_map::Slot;
use super::model::Model;
use super::product::{gradient_like, with_rows_below};
use super::run::{Trace, first_rows, recycle};
use crate::error::{Error, ModelError, Result};
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use std::borrow::Cow;

impl<F: Scalar> Model<F> {
    /// Gradients of all parameters, given the gradients of the loss by the values of some nodes.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a seed of another shape than its node's value.
    pub fn backward<'s>(
        &self,
        cx: &Cx<F>,
        trace: Trace<F>,
        seeds: impl Into<Cow<'s, [(NodeId, Array2<F>)]>>,
    ) -> Result<Grads<F>> {
        self.backward_from(cx, trace, seeds.into().into_owned(), false).map(|(grads, _)| grads)
    }

    /// As [`Model::backward`], with the gradient of the model's input, on its stored entries where
    /// it is sparse.
    ///
    /// # Errors
    /// As [`Model::backward`].
    pub fn backward_to_input(
        &self,
        cx: &Cx<F>,
        trace: Trace<F>,
        seeds: &[(NodeId, Array2<F>)],
    ) -> Result<(Grads<F>, Value<F>)> {
        let x = trace.x;
        let (grads, dx) = self.backward_from(cx, trace, seeds.to_vec(), true)?;
        let zeros = || match x {
            ValueRef::Dense(x) => Value::Dense(Array2::zeros(x.dim())),
            ValueRef::Sparse(x) => Value::Sparse(x.map(|_| F::zero())),
        };
        Ok((grads, dx.unwrap_or_else(zeros)))
    }

    pub(super) fn backward_from(
        &self,
        cx: &Cx<F>,
        mut trace: Trace<F>,
        seeds: Vec<(NodeId, Array2<F>)>,
        to_input: bool,
    ) -> Result<(Grads<F>, Option<Value<F>>)> {
        if let Some(by_rows) = trace.by_rows.take() {
            return self.backward_by_rows(cx, trace, by_rows, seeds, to_input);
        }
        let mut pending: Vec<Option<Value<F>>> = (0..=self.nodes.len()).map(|_| None).collect();
        for (id, seed) in seeds {
            let expected = (trace.rows[id.0], self.channels(id));
            if seed.dim() != expected {
                return Err(Error::ShapeMismatch {
                    at: format!("gradient of node {}", id.0),
                    expected,
                    found: seed.dim(),
                });
            }
            add_gradient(&mut pending[id.0], gradient_like(trace.value(id), Value::Dense(seed)))?;
        }
        let needed = self.needed(to_input);
        let mut grads = Grads::new(self.num_params);
        for (id, node) in self.iter().rev() {
            let cache = trace.caches[id.0 - 1].take();
            let Some(dy) = pending[id.0].take() else { continue };
            let Some(cache) = cache else {
                // The layer handed its input on untouched, and so goes its gradient.
                add_gradient(&mut pending[node.inputs[0].0], dy)?;
                continue;
            };
            let overwritten = trace.overwritten_by(id);
            if overwritten.is_none() && !node.layer.reads().output() {
                trace.drop_dense(cx, id);
            }
            let rows_read = trace.rows_read_by(node);
            let values: Vec<_> = node.inputs.iter().map(|&id| trace.value(id)).collect();
            let io = Io {
                inputs: values
                    .iter()
                    .zip(&rows_read)
                    .zip(&node.inputs)
                    .map(|((x, rows), &id)| {
                        let whole = x.as_ref().map(|x| first_rows(x, *rows));
                        Slot::of(whole, trace.packed_value(id))
                    })
                    .collect(),
                output: Slot::of(trace.value(id), trace.packed_value(id)),
                wants: node.inputs.iter().map(|id| needed[id.0]).collect(),
                widths: node.inputs.iter().map(|&id| self.channels(id)).collect(),
            };
            let at = cx.at(id, &node.name).reading(trace.read_by(node));
            let dxs = node.layer.backward_owned(&at, &io, cache, dy, &mut grads);
            for ((id, dx), rows) in node.inputs.iter().zip(dxs).zip(&rows_read) {
                if let (true, Some(dx)) = (needed[id.0], dx) {
                    let dx = match rows {
                        Some(_) => with_rows_below(dx, trace.rows[id.0]),
                        None => dx,
                    };
                    add_gradient(&mut pending[id.0], gradient_like(trace.value(*id), dx))?;
                }
            }
            let value = trace.values[id.0].take();
            let packed = trace.packed[id.0].take();
            match overwritten {
                // Its own backward reads it, or hands it on to what it has overwritten itself.
                Some((earlier, true)) => {
                    trace.values[earlier.0] = value;
                    trace.packed[earlier.0] = packed;
                    trace.homes[earlier.0] = earlier;
                }
                _ => recycle(cx, value),
            }
        }
        Ok((grads, pending[0].take()))
    }

    /// The same where only what comes out of hops was kept.
    fn backward_by_rows(
        &self,
        cx: &Cx<F>,
        mut trace: Trace<F>,
        by_rows: ByRows<F>,
        seeds: Vec<(NodeId, Array2<F>)>,
        to_input: bool,
    ) -> Result<(Grads<F>, Option<Value<F>>)> {
        let mut sum: Option<Value<F>> = None;
        for (id, seed) in seeds {
            if id != self.output() || to_input {
                let id = if to_input { NodeId::INPUT } else { id };
                let kind = match id {
                    NodeId::INPUT => "the input".into(),
                    _ => self[id].layer().kind().into(),
                };
                let (node, reason) = (self.name_of(id).into(), "its gradient is asked for".into());
                return Err(ModelError::KeepsMaps { node, kind, reason }.into());
            }
            let expected = (trace.rows[id.0], self.channels(id));
            if seed.dim() != expected {
                let (at, found) = (format!("gradient of node {}", id.0), seed.dim());
                return Err(Error::ShapeMismatch { at, expected, found });
            }
            add_gradient(&mut sum, Value::Dense(seed))?;
        }
        // Nobody reads the output any more, and it need not stand beside what is to come.
        drop(std::mem::take(&mut trace.values));
        let mut grads = Grads::new(self.num_params);
        if let Some(seed) = sum {
            by_rows.backward(cx, &trace.x, seed.into_dense(), &mut grads)?;
        }
        Ok((grads, None))
    }

    /// Which nodes' gradients lead to a parameter, or to the input where that is asked for.
    fn needed(&self, to_input: bool) -> Vec<bool> {
        let mut needed = vec![to_input];
        for node in &self.nodes {
            let mut own = false;
            node.layer.visit(&mut |param| own |= param.is_trainable());
            needed.push(own || node.inputs.iter().any(|id| needed[id.0]));
        }
        needed
    }
}

fn add_gradient<F: Scalar>(sum: &mut Option<Value<F>>, gradient: Value<F>) -> Result<()> {
    match sum {
        Some(sum) => Ok(sum.accumulate(gradient).ok_or(ModelError::GradientsDiffer)?),
        empty => {
            *empty = Some(gradient);
            Ok(())
        }
    }
}
