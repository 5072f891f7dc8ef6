//! What the readers of a unit would lose that the other units cannot make up for.

use crate::error::{PruneError, Result};
use crate::prune::sweep::Sweep;
use crate::prune::{
    ChannelUnits, Criterion, MatrixReader, Needs, Removal, Scores, Units, WeightUnits,
};
use crate::reconstruct::Cholesky;
use crate::scalar::Scalar;
use ndarray::{Array1, Array2, Axis};

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
/// computes. Weights and gradients are not looked at beside that, and no label is read. Where a
/// [`Decoder`](crate::nn::Decoder) reads channels, its scores are such a map with weights of 1, and
/// a channel's column in `G` is what it adds to each score of a query, less the mean over that
/// query's candidates, or over all pairs where a query has one. A group that nothing reads by a map
/// is refused.
///
/// Of a single weight `w` in row `r` of a map's stacked matrices it is the first of these removals,
/// `w²/[C_SS⁻¹]_rr` with `C = GᵀG + λI` on the rows `S` of its column that no mask holds at zero:
/// what the column loses where the others take over, as a share of what the map computes. A
/// matrix that no map of its layer shows is refused by name.
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
    fn name(&self) -> &str {
        "subset"
    }

    fn needs(&self) -> Needs {
        Needs::WEIGHTS | Needs::READERS
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        match units {
            Units::Channels(group) => {
                check_read(group)?;
                let (_, removal) = backward(group, group.units);
                let mut scores = Array1::zeros(group.units);
                let order = removal.order.iter().zip(&removal.losses);
                order.for_each(|(&unit, &loss)| scores[unit] = loss);
                Ok(Scores::new(scores))
            }
            Units::Weights(all) => of_weights(all),
            other => Err(other.unserved("subset")),
        }
    }

    fn remove(&self, units: &Units<F>, count: usize) -> Result<Removal> {
        let Units::Channels(group) = units else {
            let order = crate::prune::criterion::scored(self, units)?.lowest(count);
            return Ok(Removal { order, ..Removal::default() });
        };
        check_read(group)?;
        let (sweep, removal) = backward(group, count);
        let kept = group.units - count;
        // A reader that is a maker too loses columns with its units, so that what a set costs
        // depends on the set.
        let closed =
            group.readers.iter().any(|reader| reader.column_unit.iter().any(Option::is_some));
        if closed || kept == 0 || kept as f64 > FEW * group.units as f64 {
            return Ok(removal);
        }
        Ok(better_of(group, sweep, removal))
    }
}

/// Refuses a group of which nothing is known that it could lose.
fn check_read<F: Scalar>(group: &ChannelUnits<F>) -> Result<()> {
    if !group.readers.is_empty() {
        return Ok(());
    }
    let reason = "no linear map reads its channels, of which `subset` could tell what it would \
                  lose; choose another criterion";
    Err(PruneError::Refused { layer: group.name.into(), reason: reason.into() }.into())
}

/// What the maps of each weight's matrix lose with it.
fn of_weights<F: Scalar>(all: &WeightUnits<F>) -> Result<Scores> {
    let mut scores = Vec::new();
    for matrix in &all.matrices {
        if matrix.readers.is_empty() {
            let reason = "no linear map of its layer shows it, of which `subset` could tell what \
                          it computes; choose another criterion";
            return Err(
                PruneError::Refused { layer: matrix.name.clone(), reason: reason.into() }.into()
            );
        }
        let mut lost = Array2::<f64>::zeros(matrix.param.value().dim());
        for reader in &matrix.readers {
            let inverse = diagonals(reader, lost.ncols());
            lost.indexed_iter_mut().for_each(|((row, column), lost)| {
                let w = matrix.param.value()[[row, column]].as_f64();
                // A row that is masked has no diagonal, and a weight of zero costs nothing.
                if w != 0.0 {
                    let energy = reader.energy.max(f64::MIN_POSITIVE);
                    *lost += w * w / (inverse[[row, column]] * energy);
                }
            });
        }
        scores.extend(lost);
    }
    Ok(Scores::new(scores).comparable())
}

/// The diagonal of `C_SS⁻¹` in the rows of one matrix, each column with its own `S`; 1 outside it.
fn diagonals(reader: &MatrixReader, columns: usize) -> Array2<f64> {
    let of_all = || Cholesky::of(reader.gram.clone()).inverse().diag().to_owned();
    let mut all = None;
    let mut found = Array2::ones((reader.rows.len(), columns));
    for (column, mut found) in found.columns_mut().into_iter().enumerate() {
        let rows = reader.gram.nrows();
        let kept = |&row: &usize| reader.support.is_none_or(|support| support[[row, column]]);
        let support: Vec<usize> = (0..rows).filter(kept).collect();
        if support.len() == rows {
            let all: &Array1<f64> = all.get_or_insert_with(of_all);
            found.iter_mut().zip(reader.rows.clone()).for_each(|(to, row)| *to = all[row]);
            continue;
        }
        let part = reader.gram.select(Axis(0), &support).select(Axis(1), &support);
        let inverse = Cholesky::of(part).inverse();
        for (k, row) in support.iter().enumerate().filter(|(_, row)| reader.rows.contains(row)) {
            found[row - reader.rows.start] = inverse[[k, k]];
        }
    }
    found
}

/// Removes the unit that costs least, `count` times; what is left, and what went.
fn backward<F: Scalar>(group: &ChannelUnits<F>, count: usize) -> (Sweep, Removal) {
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
fn better_of<F: Scalar>(group: &ChannelUnits<F>, from_above: Sweep, removal: Removal) -> Removal {
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
    use crate::rng::generator;
    use ndarray::s;
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

        fn view(&self) -> ChannelUnits<'static, f64> {
            let reader = |((g, w, ridge), rows): (&Data, &Rows)| ReaderView {
                name: "reader".into(),
                gram: g.t().dot(g) + Array2::<f64>::eye(g.ncols()) * *ridge,
                weight: w.clone(),
                energy: g.dot(w).mapv(|v| v * v).sum(),
                unit_of: rows.clone(),
                column_unit: vec![None; w.ncols()],
            };
            let readers = self.data.iter().zip(&self.rows).map(reader).collect();
            ChannelUnits {
                name: "g",
                units: self.units,
                members: Vec::new(),
                activations: Vec::new(),
                readers,
                seed: 0,
            }
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
            let removal = Subset::new().remove(&Units::Channels(case.view()), 7).unwrap();
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
                let view = || Case::draw(seed, units, &[1, 2]).view();
                let stated =
                    Subset::new().remove(&Units::Channels(view()), count).unwrap().loss.unwrap();
                stated < backward(&view(), count).1.loss.unwrap() - 1e-9
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

    #[test]
    fn the_score_of_a_weight_is_what_its_column_loses_where_the_others_take_over() {
        let case = Case::draw(3, 5, &[1]);
        let (g, w, ridge) = &case.data[0];
        let mut param = crate::nn::Param::new(
            "weight",
            w.dim(),
            [crate::nn::Axis::In(0), crate::nn::Axis::Out],
            crate::nn::Init::Zeros,
        );
        param.value_mut().assign(w);
        let mut mask = Array2::from_elem(w.dim(), true);
        mask[[4, 1]] = false;
        for support in [None, Some(&mask)] {
            if let Some(mask) = support {
                param.restrict(mask);
            }
            let w = param.value().clone();
            let gram = g.t().dot(g) + Array2::<f64>::eye(g.ncols()) * *ridge;
            let energy = g.dot(&w).mapv(|v| v * v).sum();
            let reader = MatrixReader { gram: &gram, support, rows: 0..w.nrows(), energy };
            let matrix = crate::prune::WeightMatrix {
                name: "w".into(),
                param: &param,
                gradient: None,
                fisher: None,
                readers: vec![reader],
            };
            let all = WeightUnits { matrices: vec![matrix], seed: 0 };
            let scores = of_weights(&all).unwrap();
            for ((row, column), &weight) in w.indexed_iter() {
                // One column alone, whose regression on the rows that are left is made anew.
                let column = w.column(column).insert_axis(Axis(1)).to_owned();
                let left = |r: &usize| *r != row && column[[*r, 0]] != 0.0;
                let gone: Vec<usize> = (0..w.nrows()).filter(|r| !left(r)).collect();
                let units = (0..w.nrows()).map(Some).collect();
                let alone = Case {
                    data: vec![(g.clone(), column.clone(), *ridge)],
                    rows: vec![units],
                    units: w.nrows(),
                };
                let own = g.dot(&column).mapv(|v| v * v).sum();
                let expected = if weight == 0.0 { 0.0 } else { alone.loss(&gone) * own / energy };
                let at = scores.values()[row * w.ncols()
                    + w.columns().into_iter().position(|other| other == column.column(0)).unwrap()];
                assert!((at - expected).abs() < 1e-9, "{row}: {expected}, stated {at}");
            }
        }
    }
}
