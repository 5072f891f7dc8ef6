//! All that a criterion may look at: the parameters of one coupled group.

use super::labels::{ChannelLabels, Group};
use crate::data::Dataset;
use crate::nn::{Axis as Rows, Grads, Model, NodeId, Param};
use crate::reconstruct::Cholesky;
use crate::scalar::Scalar;
use ndarray::{Array1, Array2, Axis};

/// One axis of one parameter that carries channels of the group.
#[derive(Debug)]
pub struct Member<'a, F: Scalar> {
    /// The parameter.
    pub param: &'a Param<F>,
    /// Its gradient, where the criterion needs gradients and there is one.
    pub gradient: Option<&'a Array2<F>>,
    /// Which axis carries the channels: 0 rows (a consumer), 1 columns (a producer).
    pub axis: usize,
    /// For each position along the axis the unit, counted within the group; `None` for channels of
    /// other groups.
    pub unit_of: Vec<Option<usize>>,
    /// Whether the rows carry the model's input, which may be sparse.
    pub reads_input: bool,
}

/// A linear map that reads channels of the group: `Z = G·W`, several matrices of one sum standing
/// one below the other.
#[derive(Debug)]
pub struct ReaderView {
    /// The layer, and which of its maps it is.
    pub name: String,
    /// `C = GᵀG + λI`, `[rows, rows]`, on the nodes that calibrate, centred where the map has a
    /// bias.
    pub gram: Array2<f64>,
    /// The best weights for what the map computed, `[rows, columns]`.
    pub weight: Array2<f64>,
    /// `‖Z‖²`, centred like `C`.
    pub energy: f64,
    /// For each row the unit, counted within the group; `None` for channels of other groups.
    pub unit_of: Vec<Option<usize>>,
    /// For each column the unit that it makes, where it is one of this group: a layer in a residual
    /// chain.
    pub column_unit: Vec<Option<usize>>,
}

impl ReaderView {
    /// `C⁻¹`.
    pub(super) fn inverse(&self) -> Array2<f64> {
        Cholesky::of(self.gram.clone()).inverse()
    }
}

/// One coupled group: its units, and every parameter slice that is tied to them.
#[derive(Debug)]
pub struct GroupView<'a, F: Scalar> {
    /// The layers that make these channels.
    pub name: &'a str,
    /// How many units there are to score.
    pub units: usize,
    /// The slices.
    pub members: Vec<Member<'a, F>>,
    /// What reads the units, where the criterion needs that.
    pub readers: Vec<ReaderView>,
    /// Seed for criteria that draw: of the pruner, and different for every group.
    pub seed: u64,
}

impl<'a, F: Scalar> GroupView<'a, F> {
    pub(super) fn of(
        model: &'a Model<F>,
        labels: &ChannelLabels,
        group: &'a Group,
        grads: Option<&'a Grads<F>>,
        seed: u64,
    ) -> Self {
        let mut position = vec![None; labels.num_units()];
        group.units.iter().enumerate().for_each(|(k, &unit)| position[unit] = Some(k));
        let mut members = Vec::new();
        for (k, node) in model.nodes().iter().enumerate() {
            let id = NodeId(k + 1);
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
                            gradient: grads.and_then(|grads| grads.get(param.id())),
                            axis,
                            unit_of,
                            reads_input,
                        });
                    }
                }
            }
        }
        Self { name: &group.name, units: group.units.len(), members, readers: Vec::new(), seed }
    }

    /// Multiply-accumulates of one inference that a unit stands for, on the average: its columns
    /// where it is made, its rows where it is read.
    pub(super) fn macs_of_a_unit(&self, model: &Model<F>, data: &Dataset<F>) -> f64 {
        let nodes = data.num_nodes() as f64;
        let stored = data.features().stored() as f64 / model.in_channels().max(1) as f64;
        let of = |member: &Member<F>| {
            let count = member.unit_of.iter().flatten().count() as f64 / self.units.max(1) as f64;
            let across = member.param.value().len_of(Axis(1 - member.axis)) as f64;
            // Biases, norms and attention vectors are no products.
            let mixes = !member.param.axes().contains(&Rows::Fixed);
            let products = if member.axis == 1 && member.reads_input { stored } else { nodes };
            if mixes { count * across * products } else { 0.0 }
        };
        self.members.iter().map(of).sum()
    }

    /// Sums `f(w, ∂L/∂w)` over all entries tied to each unit; the gradient is zero where there is
    /// none.
    pub fn sum(&self, f: impl Fn(F, F) -> F) -> Array1<F> {
        let mut sums = Array1::zeros(self.units);
        for member in &self.members {
            let lanes = member.param.value().axis_iter(Axis(member.axis));
            for (position, (lane, unit)) in lanes.zip(&member.unit_of).enumerate() {
                let Some(unit) = *unit else { continue };
                sums[unit] += match member.gradient {
                    Some(gradient) => {
                        let gradient = gradient.index_axis(Axis(member.axis), position);
                        lane.iter().zip(gradient).map(|(&w, &g)| f(w, g)).sum::<F>()
                    }
                    None => lane.iter().map(|&w| f(w, F::zero())).sum::<F>(),
                };
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_stands_for_the_products_that_make_it_and_that_read_it() {
        let data = Dataset::sbm(300, 3).features(6).seed(1).build().unwrap();
        let model = crate::Gcn::builder(6, 3).hidden(8).build(0).unwrap();
        let labels = ChannelLabels::of(&model);
        let view = GroupView::of(&model, &labels, &labels.groups()[0], None, 0);
        // Six inputs and three outputs for each of 300 nodes.
        assert_eq!(view.macs_of_a_unit(&model, &data), 300.0 * 9.0);
    }
}
