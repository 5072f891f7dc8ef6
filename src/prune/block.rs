//! Residual blocks, and a model without one.

use crate::error::Result;
use crate::nn::{Model, ModelBuilder, NodeId};
use crate::scalar::Scalar;

/// A residual block: `sum = input + f(input)`, and `inside` is `f`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// The layer that gives it its name.
    pub name: String,
    /// Where its skip connection begins.
    pub input: NodeId,
    /// The layers that are skipped, ascending.
    pub inside: Vec<NodeId>,
    /// The sum that ends it.
    pub sum: NodeId,
}

/// The model with `block.input` in place of `block.sum`.
pub(super) fn without<F: Scalar>(model: &Model<F>, block: &Block) -> Result<Model<F>> {
    let mut builder = ModelBuilder::new(model.in_channels());
    let mut places = vec![NodeId::INPUT];
    for (k, node) in model.nodes().iter().enumerate() {
        let id = NodeId(k + 1);
        if id == block.sum || block.inside.contains(&id) {
            places.push(places[block.input.index()]);
            continue;
        }
        let inputs: Vec<NodeId> = node.inputs().iter().map(|input| places[input.index()]).collect();
        places.push(builder.add_boxed(node.name(), node.layer.clone(), &inputs)?);
    }
    let mut small = builder.build_undrawn(places[model.output().index()], model.seed())?;
    small.set_origin(model.origin().cloned());
    Ok(small)
}
