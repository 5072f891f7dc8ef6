//! What the readers of a unit would lose that the other units cannot make up for.

use super::{Criterion, Needs, Removal};
use crate::prune::GroupView;
use crate::prune::sweep::Sweep;
use crate::scalar::Scalar;
use ndarray::Array1;

/// Least squares on what the readers of a group compute: which units can go so that those that
/// stay, with new weights, give every reader most of what it computed.
///
/// With `G_j` the group's channels as reader `j` sees them and `W_j` its weight, the units `K` that
/// stay minimise `Σ_j min_V ‖G_j·W_j − G_j[:, K]·V‖² + λ_j‖W_j − V‖²`. Removing unit `u`, rows `b`
/// of reader `j`, raises that by `Δ_u = Σ_j tr(V_j[b]ᵀ·P_j[b, b]⁻¹·V_j[b])` with
/// `P_j = (G_jᵀG_j + λ_j·I)⁻¹` over the units that are left, and the smallest goes first; ties are
/// broken by unit order. Where few units stay, adding the most useful one at a time is tried too,
/// and single units are swapped while that helps. The [score](Criterion::score) of a unit is what
/// all removals up to its own cost together: the mean over the readers of the share of what each
/// computes. Weights and gradients are not looked at beside that, and no label is read.
///
/// *Source*: Hassibi and Stork, "Optimal Brain Surgeon", NeurIPS 1993, on units instead of weights;
/// the objective is that of He et al., "Channel Pruning for Accelerating Very Deep Neural
/// Networks", ICCV 2017, eq. 1, without its relaxation.
///
/// ```
/// use gnn_prune::{ChannelPruner, Dataset, Gcn, Subset};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let plan = ChannelPruner::builder(Subset::new()).ratio(0.75).build()?.plan(&model, &data)?;
/// assert_eq!(plan.groups()[0].kept, 4);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Subset;

/// Where at most this share of the units stays, they are also picked one at a time, starting from
/// none.
const FEW: f64 = 0.25;

/// Swaps per unit that stays, at most.
const SWAPS: usize = 4;

impl Subset {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Subset {
    fn name(&self) -> &'static str {
        "subset"
    }

    fn needs(&self) -> Needs {
        Needs::Readers
    }

    fn score(&self, group: &GroupView<F>) -> Array1<F> {
        let (_, removal) = backward(group, group.units);
        let mut scores = Array1::zeros(group.units);
        removal
            .order
            .iter()
            .zip(&removal.losses)
            .for_each(|(&unit, &loss)| scores[unit] = F::of(loss));
        scores
    }

    fn remove(&self, group: &GroupView<F>, count: usize) -> Removal {
        let (sweep, removal) = backward(group, count);
        let kept = group.units - count;
        // A reader that is a maker too loses columns with its units, so that what a set costs
        // depends on the set.
        let closed =
            group.readers.iter().any(|reader| reader.column_unit.iter().any(Option::is_some));
        if closed || kept == 0 || kept as f64 > FEW * group.units as f64 {
            return removal;
        }
        better_of(group, sweep, removal)
    }
}

/// Removes the unit that costs least, `count` times; what is left, and what went.
fn backward<F: Scalar>(group: &GroupView<F>, count: usize) -> (Sweep, Removal) {
    let mut sweep = Sweep::full(group);
    let mut removal = Removal::default();
    for _ in 0..count {
        let Some((unit, _)) = sweep.cheapest() else { break };
        sweep.remove(unit);
        removal.order.push(unit);
        removal.losses.push(sweep.share(sweep.spent()));
    }
    removal.loss = Some(sweep.share(sweep.spent()));
    (sweep, removal)
}

/// The smaller of the loss of `removal` and of picking units one at a time, after swaps of single
/// units.
fn better_of<F: Scalar>(group: &GroupView<F>, from_above: Sweep, removal: Removal) -> Removal {
    let kept = group.units - removal.order.len();
    let mut forward = Sweep::full(group);
    (0..group.units).for_each(|unit| forward.remove(unit));
    let mut lost = forward.unexplained();
    for _ in 0..kept {
        let Some((unit, gain)) = forward.most_useful() else { break };
        forward.add(unit);
        lost -= gain;
    }
    let lost_above = from_above.spent();
    let (mut sweep, mut lost) =
        if lost < lost_above { (forward, lost) } else { (from_above, lost_above) };
    for _ in 0..SWAPS * kept {
        let Some((out, cost)) = sweep.cheapest() else { break };
        sweep.remove(out);
        let (into, gain) = sweep.most_useful().unwrap_or((out, cost));
        sweep.add(into);
        // The exchange must win more than rounding.
        if gain <= cost * (1.0 + 1e-9) {
            if into != out {
                sweep.remove(into);
                sweep.add(out);
            }
            break;
        }
        lost += cost - gain;
    }
    let gone = |unit: &usize| !sweep.is_kept(*unit);
    let mut order: Vec<usize> = removal.order.iter().copied().filter(gone).collect();
    order.extend((0..group.units).filter(|unit| gone(unit) && !removal.order.contains(unit)));
    Removal { order, loss: Some(sweep.share(lost.max(0.0))), ..removal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::ReaderView;
    use crate::reconstruct::Cholesky;
    use crate::rng::generator;
    use ndarray::{Array2, Axis, s};
    use ndarray_rand::rand::Rng;

    /// Inputs of a reader, its weight and its ridge.
    type Data = (Array2<f64>, Array2<f64>, f64);
    /// The unit of each row.
    type Rows = Vec<Option<usize>>;

    struct Case {
        data: Vec<Data>,
        rows: Vec<Rows>,
        units: usize,
    }

    impl Case {
        /// Readers of `sizes` rows per unit; unit 1 of the first is a copy of unit 0.
        fn draw(seed: u64, units: usize, sizes: &[usize]) -> Self {
            let mut rng = generator(seed, &[]);
            let (mut data, mut rows) = (Vec::new(), Vec::new());
            for (reader, &size) in sizes.iter().enumerate() {
                let width = units * size + 1;
                let mut g =
                    Array2::from_shape_simple_fn((40, width), || rng.random_range(-1.0..1.0));
                if reader == 0 {
                    let copy = g.slice(s![.., 0..1]).to_owned();
                    g.slice_mut(s![.., 1..2]).assign(&copy);
                }
                let w = Array2::from_shape_simple_fn((width, 3), || rng.random_range(-1.0..1.0));
                let ridge = 1e-3 * g.iter().map(|v| v * v).sum::<f64>() / width as f64;
                data.push((g, w, ridge));
                // The last row is nobody's: it stays in every set.
                rows.push((0..width).map(|r| (r < units * size).then_some(r % units)).collect());
            }
            Self { data, rows, units }
        }

        fn view(&self) -> GroupView<'static, f64> {
            let reader = |((g, w, ridge), rows): (&Data, &Rows)| ReaderView {
                name: "reader".into(),
                gram: g.t().dot(g) + Array2::<f64>::eye(g.ncols()) * *ridge,
                weight: w.clone(),
                energy: g.dot(w).mapv(|v| v * v).sum(),
                unit_of: rows.clone(),
                column_unit: vec![None; w.ncols()],
            };
            let readers = self.data.iter().zip(&self.rows).map(reader).collect();
            GroupView { name: "g", units: self.units, members: Vec::new(), readers, seed: 0 }
        }

        /// What a set costs by the definition: regression on the data themselves, the ridge as rows
        /// below them.
        fn loss(&self, gone: &[usize]) -> f64 {
            let of = |((g, w, ridge), rows): (&Data, &Rows)| {
                let kept: Vec<usize> = (0..rows.len())
                    .filter(|&r| rows[r].is_none_or(|unit| !gone.contains(&unit)))
                    .collect();
                let below = Array2::<f64>::eye(g.ncols()) * ridge.sqrt();
                let tall = ndarray::concatenate(Axis(0), &[g.view(), below.view()]).unwrap();
                let (z, part) = (tall.dot(w), tall.select(Axis(1), &kept));
                let factor = Cholesky::of(part.t().dot(&part));
                let mut v = part.t().dot(&z).reversed_axes().as_standard_layout().into_owned();
                v.rows_mut()
                    .into_iter()
                    .for_each(|mut row| factor.solve(row.as_slice_mut().unwrap()));
                (z - part.dot(&v.t())).mapv(|v| v * v).sum() / g.dot(w).mapv(|v| v * v).sum()
            };
            self.data.iter().zip(&self.rows).map(of).sum::<f64>() / self.data.len() as f64
        }
    }

    #[test]
    fn the_stated_losses_are_those_of_the_data_and_no_other_single_removal_costs_less() {
        for (seed, sizes) in [(1, vec![1]), (2, vec![1, 1]), (3, vec![2]), (4, vec![1, 3])] {
            let case = Case::draw(seed, 6, &sizes);
            let removal = backward(&case.view(), 6).1;
            assert_eq!(removal.order.len(), 6);
            for count in 1..=6 {
                let (gone, stated) = (&removal.order[..count], removal.losses[count - 1]);
                assert!(
                    (case.loss(gone) - stated).abs() < 1e-8,
                    "{sizes:?}: {gone:?} costs {}, stated {stated}",
                    case.loss(gone)
                );
                let others = (0..6).filter(|unit| !gone[..count - 1].contains(unit));
                let least = others
                    .map(|unit| case.loss(&[&gone[..count - 1], &[unit]].concat()))
                    .fold(f64::INFINITY, f64::min);
                assert!(
                    stated <= least + 1e-9,
                    "{sizes:?}: removal {count} costs {stated}, another {least}"
                );
            }
        }
    }

    #[test]
    fn of_two_copies_one_goes_first_and_costs_next_to_nothing() {
        let removal = backward(&Case::draw(5, 6, &[1]).view(), 1).1;
        assert!(removal.order[0] < 2, "{:?}", removal.order);
        assert!(removal.losses[0] < 1e-3, "{:?}", removal.losses);
    }

    #[test]
    fn where_few_stay_the_stated_loss_is_that_of_what_goes_and_never_above_that_of_backward_elimination()
     {
        let mut better = 0;
        for seed in 0..40 {
            let case = Case::draw(seed, 9, &[1, 2]);
            let removal = Criterion::<f64>::remove(&Subset::new(), &case.view(), 7);
            let (stated, of_plain) =
                (removal.loss.unwrap(), backward(&case.view(), 7).1.loss.unwrap());
            assert_eq!(removal.order.iter().collect::<std::collections::BTreeSet<_>>().len(), 7);
            assert!(
                (case.loss(&removal.order) - stated).abs() < 1e-8,
                "seed {seed}: {} stated {stated}",
                case.loss(&removal.order)
            );
            assert!(stated <= of_plain + 1e-12, "seed {seed}");
            better += usize::from(stated < of_plain - 1e-9);
        }
        assert!(better > 0, "swaps and forward selection never helped");
        // A quarter is few, more is not.
        let improved = |units: usize, count: usize| {
            (0..60).any(|seed| {
                let view = Case::draw(seed, units, &[1, 2]).view();
                let stated = Criterion::<f64>::remove(&Subset::new(), &view, count).loss.unwrap();
                stated < backward(&view, count).1.loss.unwrap() - 1e-9
            })
        };
        assert!(improved(8, 6) && !improved(7, 5));
    }

    #[test]
    fn columns_that_go_with_a_unit_are_not_missed() {
        let case = Case::draw(7, 4, &[1]);
        let mut view = case.view();
        view.readers[0].column_unit = vec![Some(0), None, Some(2)];
        let removal = backward(&view, 4).1;
        let missed = |gone: &[usize]| {
            let mut only = Case { data: case.data.clone(), rows: case.rows.clone(), units: 4 };
            let energy = only.data[0].0.dot(&only.data[0].1).mapv(|v| v * v).sum();
            for (column, unit) in [(0, 0), (2, 2)] {
                if gone.contains(&unit) {
                    only.data[0].1.column_mut(column).fill(0.0);
                }
            }
            // The loss is relative to all that the reader computed.
            only.loss(gone) * only.data[0].0.dot(&only.data[0].1).mapv(|v| v * v).sum() / energy
        };
        for count in 1..=4 {
            let (gone, stated) = (&removal.order[..count], removal.losses[count - 1]);
            assert!(
                (missed(gone) - stated).abs() < 1e-8,
                "{gone:?} costs {}, stated {stated}",
                missed(gone)
            );
        }
        let full = Sweep::full(&view);
        for unit in 0..4 {
            let (stated, expected) = (full.share(full.cost(unit)), missed(&[unit]));
            assert!((stated - expected).abs() < 1e-8, "{unit} costs {expected}, stated {stated}");
        }
        // What goes next is what costs least beside the columns that go with it.
        let added = |unit: usize| Sweep::full(&view).cost(unit);
        assert!((0..4).all(|unit| added(removal.order[0]) <= added(unit)));
    }
}
