//! All that a criterion may look at: the parameters of one coupled group.

use crate::nn::{Axis as Rows, Model, Param, ParamId};
use crate::prune::entry::Entry;
use crate::reconstruct::Cholesky;
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use std::collections::BTreeMap;

/// One axis of one parameter that carries channels of the group.
#[derive(Debug)]
#[non_exhaustive]
pub struct Member<'a, F: Scalar> {
    /// The parameter.
    pub param: &'a Param<F>,
    /// Its gradient, where the criterion needs gradients and there is one.
    pub gradient: Option<&'a Array2<F>>,
    /// Its Fisher diagonal, where the criterion needs that and there is one.
    pub fisher: Option<&'a Array2<F>>,
    /// Which axis carries the channels: 0 rows (a consumer), 1 columns (a producer).
    pub axis: usize,
    /// For each position along the axis the unit, counted within the group; `None` for channels of
    /// other groups.
    pub unit_of: Vec<Option<usize>>,
    /// Whether the rows carry the model's input, which may be sparse.
    pub reads_input: bool,
}

/// The value of one node of the model that carries channels of the group.
#[derive(Debug)]
#[non_exhaustive]
pub struct Activation<'a, F: Scalar> {
    /// The node's name.
    pub name: &'a str,
    /// Its value on all that the task asks about, `[n, channels]`: a row per node, or per pair or
    /// graph where it has come to these.
    pub value: ValueRef<'a, F>,
    /// For each column the unit, counted within the group; `None` for channels of other groups.
    pub unit_of: Vec<Option<usize>>,
}

/// A linear map that reads channels of the group: `Z = G·W`, several matrices of one sum standing
/// one below the other.
#[derive(Debug)]
#[non_exhaustive]
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
    pub(in crate::prune) fn inverse(&self) -> Array2<f64> {
        Cholesky::of(self.gram.clone()).inverse()
    }
}

/// One coupled group: its units, and every parameter slice that is tied to them.
#[derive(Debug)]
#[non_exhaustive]
pub struct ChannelUnits<'a, F: Scalar> {
    /// The layers that make these channels.
    pub name: &'a str,
    /// How many units there are to score.
    pub units: usize,
    /// The slices.
    pub members: Vec<Member<'a, F>>,
    /// What carries the units from node to node, where the criterion needs activations.
    pub activations: Vec<Activation<'a, F>>,
    /// What reads the units, where the criterion needs that.
    pub readers: Vec<ReaderView>,
    /// Seed for criteria that draw: of the pruner, and different for every group.
    pub seed: u64,
}

impl<'a, F: Scalar> ChannelUnits<'a, F> {
    /// Multiply-accumulates of one inference that a unit stands for, on the average: its columns
    /// where it is made, its rows where it is read. `rows` are those of each parameter's products,
    /// `stored` the stored entries of the features.
    pub(super) fn macs_of_a_unit(
        &self,
        model: &Model<F>,
        rows: &BTreeMap<ParamId, usize>,
        stored: usize,
    ) -> f64 {
        let stored = stored as f64 / model.in_channels().max(1) as f64;
        let of = |member: &Member<F>| {
            let count = member.unit_of.iter().flatten().count() as f64 / self.units.max(1) as f64;
            let across = member.param.value().len_of(Axis(1 - member.axis)) as f64;
            // Biases, norms and attention vectors are no products.
            let mixes = !member.param.axes().contains(&Rows::Fixed);
            let rows = rows.get(&member.param.id()).map_or(0.0, |rows| *rows as f64);
            let products = if member.axis == 1 && member.reads_input { stored } else { rows };
            if mixes { count * across * products } else { 0.0 }
        };
        self.members.iter().map(of).sum()
    }

    /// Sums `f` over all entries tied to each unit.
    pub fn sum(&self, f: impl Fn(Entry<F>) -> F) -> Array1<F> {
        let mut sums = Array1::zeros(self.units);
        for member in &self.members {
            let lanes = member.param.value().axis_iter(Axis(member.axis));
            for (position, (lane, unit)) in lanes.zip(&member.unit_of).enumerate() {
                let Some(unit) = *unit else { continue };
                let along = |all: Option<&'a Array2<F>>| {
                    all.map(|a| a.index_axis(Axis(member.axis), position))
                };
                let (gradients, fishers) = (along(member.gradient), along(member.fisher));
                let at = |all: &Option<ArrayView1<F>>, k: usize| all.map_or(F::zero(), |a| a[k]);
                sums[unit] += lane
                    .iter()
                    .enumerate()
                    .map(|(k, &weight)| {
                        let (gradient, fisher) = (at(&gradients, k), at(&fishers, k));
                        f(Entry { weight, gradient, fisher })
                    })
                    .sum::<F>();
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::prune::channel::ChannelLabels;
    use crate::prune::evidence::Evidence;

    #[test]
    fn a_unit_stands_for_the_products_that_make_it_and_that_read_it() {
        let data = Dataset::sbm(300, 3).features(6).seed(1).build().unwrap();
        let model = crate::Gcn::builder(6, 3).hidden(8).build(0).unwrap();
        let labels = ChannelLabels::of(&model);
        let evidence = Evidence::default();
        let view = ChannelUnits::of(&model, &labels, &labels.groups()[0], &evidence, 0);
        // Six inputs and three outputs for each of 300 nodes.
        let mut rows = BTreeMap::new();
        model.visit(&mut |_, param| _ = rows.insert(param.id(), data.num_nodes()));
        let stored = data.features().stored();
        assert_eq!(view.macs_of_a_unit(&model, &rows, stored), 300.0 * 9.0);
    }
}
