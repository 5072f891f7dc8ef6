//! A coupled group with the evidence that its criterion asked for.

use super::group::{Activation, ChannelUnits, Member};
use super::labels::{ChannelLabels, Group};
use crate::nn::{Axis as Rows, Model, NodeId};
use crate::prune::evidence::Evidence;
use crate::scalar::Scalar;

impl<'a, F: Scalar> ChannelUnits<'a, F> {
    /// A group with its evidence, but for what reads it.
    pub(super) fn of(
        model: &'a Model<F>,
        labels: &ChannelLabels,
        group: &'a Group,
        evidence: &'a Evidence<'_, F>,
        seed: u64,
    ) -> Self {
        let mut position = vec![None; labels.num_units()];
        group.units.iter().enumerate().for_each(|(k, &unit)| position[unit] = Some(k));
        let (mut members, mut activations) = (Vec::new(), Vec::new());
        for (k, node) in model.nodes().iter().enumerate() {
            let id = NodeId(k + 1);
            let unit_of: Vec<_> = labels.node(id).iter().map(|&unit| position[unit]).collect();
            if let Some(value) = evidence.value(id).filter(|_| unit_of.iter().any(Option::is_some))
            {
                activations.push(Activation { name: node.name(), value, unit_of });
            }
            let mut params = Vec::new();
            node.layer().visit(&mut |param| params.push(param));
            for param in params {
                let shape = param.value().dim();
                for (axis, len) in [(0, shape.0), (1, shape.1)] {
                    let Some(units) = labels.along(model, id, param.axes()[axis], len) else {
                        continue;
                    };
                    let unit_of: Vec<_> = units.into_iter().map(|unit| position[unit]).collect();
                    if unit_of.iter().any(Option::is_some) {
                        let reads_input = matches!(param.axes()[0], Rows::In(k) | Rows::InTiled(k) if node.inputs()[k] == NodeId::INPUT);
                        members.push(Member {
                            param,
                            gradient: evidence.gradient(param),
                            fisher: evidence.fisher(param),
                            axis,
                            unit_of,
                            reads_input,
                        });
                    }
                }
            }
        }
        Self {
            name: &group.name,
            units: group.units.len(),
            members,
            activations,
            readers: Vec::new(),
            seed,
        }
    }
}
