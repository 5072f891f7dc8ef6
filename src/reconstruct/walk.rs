//! Networks run map by map: to gather what readers see, and to solve a changed network against the
//! one that it was.

use super::RIDGE;
use super::grid::Grid;
use super::normal::{Normal, WIDEST};
use super::rows::{Calibrate, Chosen};
use super::solve::{self, Fit, solve};
use super::stretch::Stretch;
use crate::error::{Error, Result};
use crate::nn::{Axis, Cx, DynLayer, LinearMap, Model, Node, NodeId, Param, ParamId, RowSpace};
use crate::scalar::Scalar;
use crate::task::Task;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2, s};
use std::collections::BTreeMap;
use std::rc::Rc;

/// One linear map that reads channels: its inputs' Gram matrix and its weights, all matrices of the
/// map one below the other.
#[derive(Debug)]
pub(crate) struct Reader {
    pub node: NodeId,
    /// The layer, and which of its maps it is.
    pub name: String,
    /// `GᵀG`, centred where the map has a bias.
    pub gram: Array2<f64>,
    /// `λ`, which is not part of it.
    pub ridge: f64,
    /// `[in, out]`.
    pub weight: Array2<f64>,
    /// Each matrix of the map: which it is, where it is a parameter, its axes and rows.
    pub terms: Vec<(Option<ParamId>, [Axis; 2], usize)>,
    /// What masks leave of them, where there are any, `[in, out]`.
    pub support: Option<Array2<bool>>,
    /// `‖Z‖²`, centred like the Gram matrix.
    pub energy: f64,
}

/// A reader's Gram matrix has at most this many rows: 128 MB.
const MOST_READ: usize = 4096;

/// The maps of a model of which `wanted` says so, with what they see on all of `task`.
pub(crate) fn readers<F: Scalar>(
    model: &Model<F>,
    task: &dyn Task<F>,
    calibrate: Calibrate,
    wanted: &dyn Fn(NodeId, &LinearMap<F>) -> bool,
) -> Result<Vec<Reader>> {
    let whole = task.whole()?;
    let rows = calibrate.rows(task, &whole, model.seed())?;
    let cx = whole.on(&Cx::without_graph());
    let spaces = spaces_read(model, &cx, whole.features())?;
    let mut values = Values::new(model, whole.features());
    let mut readers = Vec::new();
    for (k, node) in model.nodes().iter().enumerate() {
        let at = cx.at(NodeId(k + 1), node.name()).reading(spaces[k]);
        let mut layer = node.layer().boxed();
        let mut number = 0;
        let xs = values.inputs(node);
        layer.linear_maps(&at, &xs, &mut |map| {
            if wanted(NodeId(k + 1), &map) {
                let rows = rows.within(spaces[k]);
                readers.push(reader(node, NodeId(k + 1), number, &map, rows)?);
            }
            number += 1;
            Ok(())
        })?;
        if let Some(gram) = layer.parts_gram(&at, &xs)? {
            readers.push(reader_of_parts(node.name(), NodeId(k + 1), gram)?);
        }
        let value =
            if k + 1 == model.output().index() { None } else { Some(layer.infer(&at, &xs)?) };
        drop(xs);
        values.push(k, value);
    }
    Ok(readers)
}

fn reader<F: Scalar>(
    node: &Node<F>,
    id: NodeId,
    number: usize,
    map: &LinearMap<F>,
    rows: &Chosen,
) -> Result<Reader> {
    let name = if number == 0 {
        node.name().to_string()
    } else {
        format!("{}, map {}", node.name(), number + 1)
    };
    if map.in_channels() > MOST_READ {
        let reason = format!(
            "a matrix of {} inputs reads its channels, more than {MOST_READ}; use another criterion",
            map.in_channels()
        );
        return Err(Error::Unsupported(crate::error::Unsupported {
            layer: node.name().into(),
            reason,
        }));
    }
    let mut z = map.without_bias();
    if let Some(rest) = map.rest() {
        z -= rest;
    }
    check_finite(node.name(), &z)?;
    let gs: Vec<ValueRef<F>> = map.terms().iter().map(|term| term.input()).collect();
    let rows = rows.of(z.nrows());
    let normal = Normal::of(&gs, z.view(), rows.as_deref(), map.has_bias(), MOST_READ);
    let (energy, ridge) = (normal.energy().iter().sum(), normal.ridge());
    let terms = map
        .terms()
        .iter()
        .map(|term| {
            let weight = term.weight();
            (Some(weight.id()), weight.axes(), weight.value().nrows())
        })
        .collect();
    let gram = normal.into_gram().expect("it is not wider than what is formed");
    Ok(Reader {
        node: id,
        name,
        gram,
        ridge,
        weight: stacked(map, |param| param.value()),
        terms,
        support: masked_support(map),
        energy,
    })
}

/// Scores are a map of their parts whose weights are all 1, and no parameter.
fn reader_of_parts(name: &str, node: NodeId, gram: Array2<f64>) -> Result<Reader> {
    if let Some(&value) = gram.iter().find(|v| !v.is_finite()) {
        return Err(Error::NotFinite { at: name.into(), value });
    }
    if gram.diag().iter().all(|&energy| energy == 0.0) {
        let reason = "all candidates of a query have the same score; train it first".into();
        return Err(Error::Unsupported(crate::error::Unsupported { layer: name.into(), reason }));
    }
    let width = gram.nrows();
    Ok(Reader {
        node,
        name: name.into(),
        ridge: RIDGE * gram.diag().mean().unwrap_or(0.0) + f64::MIN_POSITIVE,
        energy: gram.sum(),
        gram,
        weight: Array2::ones((width, 1)),
        terms: vec![(None, [Axis::In(0), Axis::Fixed], width)],
        support: None,
    })
}

/// How a network is solved again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub calibrate: Calibrate,
    /// The grid to round each matrix of a map to, by the parameter; without it nothing is rounded.
    pub grid: Option<&'a dyn GridOf>,
}

/// Which grid a weight is rounded to.
pub(crate) trait GridOf: Sync + std::fmt::Debug {
    fn grid(&self, param: ParamId) -> Option<Grid>;
}

/// One map that was solved.
#[derive(Debug, Clone)]
#[cfg_attr(not(test), allow(dead_code, reason = "the laws compare them"))]
pub(crate) struct MapReport {
    /// Squared error of the map's output against the network as it was: with the weights as they
    /// came, and as they are now.
    pub before: f64,
    pub after: f64,
}

/// A network solved again.
#[derive(Debug)]
pub(crate) struct Solved<F: Scalar> {
    pub model: Model<F>,
    /// Grid and scales, one per column, of each rounded matrix. All matrices of one sum are rounded
    /// to the finest of their grids.
    pub scales: BTreeMap<ParamId, (Grid, Vec<f32>)>,
    #[cfg_attr(not(test), allow(dead_code, reason = "the laws compare them"))]
    pub maps: Vec<MapReport>,
}

/// Normal equations of maps whose inputs never change, kept from one call to the next for the same
/// dense network and data.
#[derive(Default)]
pub(crate) struct Unchanged {
    normals: BTreeMap<(NodeId, usize), Rc<Normal>>,
}

/// Solves `start` again so that each of its maps computes what it did in `dense`, a network of the
/// same layers and shapes; masks of `start` are the supports. Maps whose inputs and weights are
/// those of `dense` stay as they are, unless they are rounded.
///
/// In the place of a layer may stand a [`Stretch`]: one of a single map is solved for what the
/// layer put out, one of several for what the layer's maps computed, where it has as many.
pub(crate) fn solve_again<F: Scalar>(
    dense: &Model<F>,
    start: &Model<F>,
    task: &dyn Task<F>,
    settings: Settings,
    unchanged: &mut Unchanged,
) -> Result<Solved<F>> {
    let whole = task.whole()?;
    let rows = settings.calibrate.rows(task, &whole, dense.seed())?;
    let cx = whole.on(&Cx::without_graph());
    let spaces = spaces_read(dense, &cx, whole.features())?;
    let mut was = Values::new(dense, whole.features());
    let mut is = Values::new(start, whole.features());
    let mut same = vec![true];
    let (mut scales, mut maps) = (BTreeMap::new(), Vec::new());
    let model = start.rebuilt(|id, node| {
        let old = &dense.nodes()[id.index() - 1];
        let at = cx.at(id, old.name()).reading(spaces[id.index() - 1]);
        let as_was = node.inputs().iter().all(|input| same[input.index()]);
        let xs_was = was.inputs(old);
        // What did not change is held once.
        let xs: Vec<ValueRef<F>> = node
            .inputs()
            .iter()
            .zip(&xs_was)
            .map(|(input, x)| if same[input.index()] { x.reborrow() } else { is.input(*input) })
            .collect();
        let stretch = node.layer().as_any().downcast_ref::<Stretch<F>>();
        let (replaced, maps_of_it) = (stretch.is_some(), stretch.map(Stretch::num_maps));
        let for_output = stretch.is_some_and(Stretch::is_a_map);
        let now_same = as_was && !replaced && same_params(old.layer(), node.layer());
        if !now_same || settings.grid.is_some() {
            let mut work = Work {
                as_was: as_was && !replaced,
                rows: rows.within(spaces[id.index() - 1]),
                settings,
                at: &at,
                unchanged: &mut *unchanged,
                scales: &mut scales,
            };
            let mut targets =
                Targets { layer: old.layer().boxed(), at: &at, xs: &xs_was, found: None };
            if for_output {
                targets.are_the_output()?;
            }
            let mut number = 0;
            let solves = match maps_of_it {
                Some(maps) => targets.are(maps)?,
                None => true,
            };
            if solves {
                node.layer.linear_maps(&at, &xs, &mut |map| {
                    maps.extend(work.solve(map, &mut targets, number)?);
                    number += 1;
                    Ok(())
                })?;
            }
        }
        let last = id == dense.output();
        let now_same = now_same && same_params(old.layer(), node.layer());
        let value = if last { None } else { Some(old.layer().infer(&at, &xs_was)?) };
        let own = if last || now_same { None } else { Some(node.layer().infer(&at, &xs)?) };
        drop(xs);
        drop(xs_was);
        same.push(now_same);
        was.push(id.index() - 1, value);
        is.push(id.index() - 1, own);
        Ok(())
    })?;
    Ok(Solved { model, scales, maps })
}

/// What the maps of one layer computed in the network as it was; found when it is first asked for.
struct Targets<'t, 'v, F: Scalar> {
    layer: Box<dyn DynLayer<F>>,
    at: &'t Cx<'t, F>,
    xs: &'t [ValueRef<'v, F>],
    found: Option<Vec<Target<F>>>,
}

/// What one map computed, bias included, and its weights.
struct Target<F: Scalar> {
    z: Array2<F>,
    weight: Array2<f64>,
}

impl<F: Scalar> Targets<'_, '_, F> {
    /// Takes what the layer put out as what one map computed, whose weights nobody asks for.
    fn are_the_output(&mut self) -> Result<()> {
        let z = self.layer.infer(self.at, self.xs)?.into_dense();
        self.found = Some(vec![Target { z, weight: Array2::zeros((0, 0)) }]);
        Ok(())
    }
    /// Whether the layer has so many maps.
    fn are(&mut self, maps: usize) -> Result<bool> {
        Ok(self.find()?.len() == maps)
    }

    fn take(&mut self, number: usize) -> Result<Target<F>> {
        let taken = &mut self.find()?[number];
        Ok(Target { z: std::mem::take(&mut taken.z), weight: std::mem::take(&mut taken.weight) })
    }

    fn find(&mut self) -> Result<&mut Vec<Target<F>>> {
        if self.found.is_none() {
            let mut found = Vec::new();
            self.layer.linear_maps(self.at, self.xs, &mut |map| {
                let mut z = map.without_bias();
                if let Some(bias) = map.bias() {
                    z += bias.value();
                }
                found.push(Target { z, weight: stacked(&map, |param| param.value()) });
                Ok(())
            })?;
            self.found = Some(found);
        }
        Ok(self.found.as_mut().expect("it was just found"))
    }

    /// The same for the first map of a layer whose inputs are as they were: what it sees is at
    /// hand.
    fn of_first(&self, map: &LinearMap<F>) -> Target<F> {
        let mut params = BTreeMap::new();
        self.layer.visit(&mut |param| {
            params.insert(param.id(), param.value());
        });
        let mut z = map.product_with(|param| params[&param.id()].view());
        if let Some(bias) = map.bias() {
            z += params[&bias.id()];
        }
        Target { z, weight: stacked(map, |param| params[&param.id()]) }
    }
}

/// What all maps of one layer share.
struct Work<'a, 's, F: Scalar> {
    /// Whether the inputs are those of the network as it was.
    as_was: bool,
    rows: &'a Chosen,
    settings: Settings<'s>,
    at: &'a Cx<'a, F>,
    unchanged: &'a mut Unchanged,
    scales: &'a mut BTreeMap<ParamId, (Grid, Vec<f32>)>,
}

impl<F: Scalar> Work<'_, '_, F> {
    fn solve(
        &mut self,
        mut map: LinearMap<F>,
        targets: &mut Targets<F>,
        number: usize,
    ) -> Result<Option<MapReport>> {
        // Only what the first map of a layer sees is sure not to depend on the layer's own changes.
        let as_was = self.as_was && number == 0;
        let Target { mut z, weight: original } =
            if as_was { targets.of_first(&map) } else { targets.take(number)? };
        let start = stacked(&map, |param| param.value());
        let grids = self
            .settings
            .grid
            .into_iter()
            .flat_map(|of| map.terms().iter().filter_map(|term| of.grid(term.weight().id())));
        let grid = grids.max_by_key(|grid| grid.most());
        let support = masked_support(&map);
        let touched =
            |c: &usize| !as_was || grid.is_some() || start.column(*c) != original.column(*c);
        let has_support = |c: &usize| {
            support.as_ref().is_none_or(|support| support.column(*c).iter().any(|keep| *keep))
        };
        let (columns, bare): (Vec<usize>, Vec<usize>) =
            (0..start.ncols()).filter(touched).partition(has_support);
        check_finite(self.at.place(), &z)?;
        if let Some(rest) = map.rest() {
            z -= rest;
        }
        set_to_means(&mut map, z.view(), self.rows.of(z.nrows()).as_deref(), &bare);
        if columns.is_empty() {
            return Ok(None);
        }
        let normal = self.normal(&map, z, as_was, number);
        let term: Vec<usize> = map
            .terms()
            .iter()
            .enumerate()
            .flat_map(|(t, term)| std::iter::repeat_n(t, term.weight().value().nrows()))
            .collect();
        let task = solve::Task {
            normal: &normal,
            start: &start,
            original: &original,
            support: support.as_ref(),
            columns: &columns,
            grid,
            term: &term,
        };
        let fit = solve(&task);
        self.store(&mut map, &fit, &normal, &columns, grid)?;
        Ok(Some(MapReport { before: fit.before, after: fit.after }))
    }

    /// The normal equations of a map, of an earlier call where they are the same.
    fn normal(
        &mut self,
        map: &LinearMap<F>,
        z: Array2<F>,
        as_was: bool,
        number: usize,
    ) -> Rc<Normal> {
        let key = (self.at.node(), number);
        if let (true, Some(normal)) = (as_was, self.unchanged.normals.get(&key)) {
            return normal.clone();
        }
        let gs: Vec<ValueRef<F>> = map.terms().iter().map(|term| term.input()).collect();
        let rows = self.rows.of(z.nrows());
        let normal = Rc::new(Normal::of(&gs, z.view(), rows.as_deref(), map.has_bias(), WIDEST));
        if as_was {
            self.unchanged.normals.insert(key, normal.clone());
        }
        normal
    }

    /// Puts solved columns into the parameters, and the bias that goes with them.
    fn store(
        &mut self,
        map: &mut LinearMap<F>,
        fit: &Fit,
        normal: &Normal,
        columns: &[usize],
        grid: Option<Grid>,
    ) -> Result<()> {
        if let Some(&value) = fit.weight.iter().find(|v| !F::of(**v).is_finite()) {
            return Err(Error::NotFinite {
                at: format!("weights of `{}` solved again", self.at.place()),
                value,
            });
        }
        let (weights, bias) = map.params_mut();
        let mut first = 0;
        for (t, param) in weights.into_iter().enumerate() {
            let rows = param.value().nrows();
            for (k, &c) in columns.iter().enumerate() {
                let solved = fit.weight.slice(s![first..first + rows, k]);
                param.value_mut().column_mut(c).zip_mut_with(&solved, |w, &v| *w = F::of(v));
            }
            param.apply_mask();
            if let (Some(of), Some(grid)) = (&fit.scales, grid) {
                // A column without weights has nothing to scale.
                let mut all = vec![1.0; param.value().ncols()];
                columns.iter().zip(of.row(t)).for_each(|(&c, &scale)| all[c] = scale as f32);
                self.scales.insert(param.id(), (grid, all));
            }
            first += rows;
        }
        if let Some(bias) = bias {
            for (k, &c) in columns.iter().enumerate() {
                bias.value_mut()[[0, c]] = F::of(normal.bias(fit.weight.column(k), c));
            }
            bias.apply_mask();
        }
        Ok(())
    }
}

/// Of a column that has no weights left, the bias is all there is.
fn set_to_means<F: Scalar>(
    map: &mut LinearMap<F>,
    z: ArrayView2<F>,
    rows: Option<&[u32]>,
    columns: &[usize],
) {
    let (_, Some(bias)) = map.params_mut() else { return };
    for &c in columns {
        let column = z.column(c);
        let sum: f64 = match rows {
            Some(rows) => rows.iter().map(|&row| column[row as usize].as_f64()).sum(),
            None => column.iter().map(|v| v.as_f64()).sum(),
        };
        let count = rows.map_or(column.len(), <[u32]>::len).max(1);
        bias.value_mut()[[0, c]] = F::of(sum / count as f64);
    }
    bias.apply_mask();
}

/// Refuses outputs from which nothing can be learned.
fn check_finite<F: Scalar>(layer: &str, z: &Array2<F>) -> Result<()> {
    match z.iter().find(|v| !v.is_finite()) {
        Some(value) => {
            Err(Error::NotFinite { at: format!("output of `{layer}`"), value: value.as_f64() })
        }
        None => Ok(()),
    }
}

/// Some matrices of the shapes of a map's weights, one below the other.
fn stacked<'p, F: Scalar>(
    map: &'p LinearMap<F>,
    of: impl Fn(&'p Param<F>) -> &'p Array2<F>,
) -> Array2<f64> {
    let mut all = Array2::zeros((map.in_channels(), map.out_channels()));
    let mut first = 0;
    for term in map.terms() {
        let value = of(term.weight());
        all.slice_mut(s![first..first + value.nrows(), ..])
            .zip_mut_with(value, |all, v| *all = v.as_f64());
        first += value.nrows();
    }
    all
}

/// Which entries of the stacked matrices may be other than zero.
/// Which weights no mask holds at zero, where any matrix has a mask.
fn masked_support<F: Scalar>(map: &LinearMap<F>) -> Option<Array2<bool>> {
    map.terms().iter().any(|term| term.weight().mask().is_some()).then(|| supports(map))
}

fn supports<F: Scalar>(map: &LinearMap<F>) -> Array2<bool> {
    let mut all = Array2::from_elem((map.in_channels(), map.out_channels()), true);
    let mut first = 0;
    for term in map.terms() {
        let rows = term.weight().value().nrows();
        if let Some(mask) = term.weight().mask() {
            all.slice_mut(s![first..first + rows, ..]).assign(mask);
        }
        first += rows;
    }
    all
}

fn same_params<F: Scalar>(a: &dyn DynLayer<F>, b: &dyn DynLayer<F>) -> bool {
    fn params<F: Scalar>(layer: &dyn DynLayer<F>) -> Vec<&Array2<F>> {
        let mut all = Vec::new();
        layer.visit(&mut |param| all.push(param.value()));
        all
    }
    a.attrs() == b.attrs() && params(a) == params(b)
}

/// What the rows are that each layer reads.
///
/// # Errors
/// [`Error::OnlyAHop`] on a sample by hops, of which layers would read no more than a part of what
/// was computed; [`Error::NoGraph`] for pairs or graphs that the batch does not have.
fn spaces_read<F: Scalar>(model: &Model<F>, cx: &Cx<F>, x: ValueRef<F>) -> Result<Vec<RowSpace>> {
    if let RowSpace::Hop(_) = cx.space() {
        return Err(Error::OnlyAHop { at: "least squares".into() });
    }
    let own = model.row_spaces(cx, &x)?;
    let read = |node: &Node<F>| {
        let spaces: Vec<RowSpace> = node.inputs().iter().map(|id| own[id.index()].0).collect();
        RowSpace::joined(&spaces).unwrap_or(RowSpace::Nodes)
    };
    Ok(model.nodes().iter().map(read).collect())
}

/// The values of a network while it runs: each lives until its last reader has run.
struct Values<'x, F: Scalar> {
    x: ValueRef<'x, F>,
    values: Vec<Option<Value<F>>>,
    /// For each node the last layer that reads it.
    last: Vec<usize>,
    inputs: Vec<Vec<NodeId>>,
}

impl<'x, F: Scalar> Values<'x, F> {
    fn new(model: &Model<F>, x: ValueRef<'x, F>) -> Self {
        let mut last = vec![0; model.nodes().len() + 1];
        for (k, node) in model.nodes().iter().enumerate() {
            node.inputs().iter().for_each(|id| last[id.index()] = k);
        }
        let inputs = model.nodes().iter().map(|node| node.inputs().to_vec()).collect();
        Self { x, values: vec![None], last, inputs }
    }

    fn input(&self, id: NodeId) -> ValueRef<'_, F> {
        match id {
            NodeId::INPUT => self.x.reborrow(),
            id => self.values[id.index()]
                .as_ref()
                .expect("a value lives until its last reader has run")
                .view(),
        }
    }

    fn inputs(&self, node: &Node<F>) -> Vec<ValueRef<'_, F>> {
        node.inputs().iter().map(|&id| self.input(id)).collect()
    }

    /// Takes the value of layer `k`, and drops what no later layer reads.
    fn push(&mut self, k: usize, value: Option<Value<F>>) {
        self.values.push(value);
        for id in &self.inputs[k] {
            if self.last[id.index()] == k {
                self.values[id.index()] = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Split, Splits};
    use crate::nn::{Mask, Registry};
    use crate::testing::{random_dense, random_graph, random_model, random_sparse};

    #[derive(Debug)]
    struct Everywhere(Grid);

    impl GridOf for Everywhere {
        fn grid(&self, _: ParamId) -> Option<Grid> {
            Some(self.0)
        }
    }

    /// A random network with masks on its matrices, and data for it.
    fn draw(seed: u64) -> (Model<f64>, Model<f64>, Dataset<f64>) {
        let graph = (0..)
            .map(|k| random_graph(seed + 1000 * k, 20))
            .find(|graph| graph.num_nodes() > 5)
            .unwrap();
        let shape = (graph.num_nodes(), 4);
        let x = if seed.is_multiple_of(2) {
            random_dense(seed, shape)
        } else {
            random_sparse(seed, shape)
        };
        let labels: Vec<u32> = (0..shape.0 as u32).map(|node| node % 3).collect();
        let split = Split { train: vec![0], val: vec![1], test: vec![2] };
        let data = Dataset::new("random", graph, x, labels, Some(3), Splits::Fixed(split)).unwrap();
        let dense = random_model::<f64>(seed, &Registry::standard(), 4, 3);
        let mut start = dense.clone();
        start.visit_mut(&mut |param| {
            if param.axes()[0] != Axis::Fixed {
                let mask = Mask::from_shape_fn(param.value().dim(), |(i, j)| {
                    !(3 * i + 5 * j + seed as usize).is_multiple_of(3)
                });
                param.restrict(&mask);
            }
        });
        (dense, start, data)
    }

    #[test]
    fn solving_again_never_raises_the_squared_error_of_a_map_and_keeps_masks() {
        let mut lowered = 0;
        for seed in 0..120 {
            let (dense, start, data) = draw(seed);
            for calibrate in [Calibrate::All, Calibrate::Train] {
                let solved = solve_again(
                    &dense,
                    &start,
                    &data,
                    Settings { calibrate, grid: None },
                    &mut Unchanged::default(),
                )
                .unwrap();
                for map in &solved.maps {
                    assert!(
                        map.after <= map.before * (1.0 + 1e-9) + 1e-9,
                        "seed {seed}: {map:?}\n{dense}"
                    );
                    lowered += usize::from(map.after < 0.9 * map.before);
                }
                solved.model.visit(&mut |name, param| {
                    let mask = param
                        .mask()
                        .cloned()
                        .unwrap_or_else(|| Mask::from_elem(param.value().dim(), true));
                    assert!(
                        param.value().iter().zip(&mask).all(|(w, keep)| *keep || *w == 0.0),
                        "seed {seed}: {name}"
                    );
                });
            }
        }
        assert!(lowered > 100, "{lowered} maps became better");
    }

    #[test]
    fn what_was_not_changed_stays_as_it_is_to_the_bit() {
        for seed in 0..40 {
            let (dense, _, data) = draw(seed);
            let solved = solve_again(
                &dense,
                &dense,
                &data,
                Settings { calibrate: Calibrate::All, grid: None },
                &mut Unchanged::default(),
            )
            .unwrap();
            assert!(solved.maps.is_empty());
            dense.visit(&mut |name, param| {
                solved.model.visit(&mut |other, same| {
                    assert!(name != other || param.value() == same.value(), "{name}")
                });
            });
        }
    }

    #[test]
    fn compensated_rounding_is_never_worse_than_plain_rounding_and_lies_on_its_grid() {
        let mut better = 0;
        for seed in 0..120 {
            let (dense, _, data) = draw(seed);
            for most in [1, 7, 127] {
                let grid = Everywhere(Grid::new(most));
                let solved = solve_again(
                    &dense,
                    &dense,
                    &data,
                    Settings { calibrate: Calibrate::All, grid: Some(&grid) },
                    &mut Unchanged::default(),
                )
                .unwrap();
                let mut plain = dense.clone();
                plain.visit_mut(&mut |param| {
                    if solved.scales.contains_key(&param.id()) {
                        for mut column in param.value_mut().columns_mut() {
                            let scale = Grid::new(most)
                                .scale(column.iter().fold(0.0, |range: f64, w| range.max(w.abs())));
                            column.mapv_inplace(|w| Grid::new(most).nearest(w, scale));
                        }
                    }
                });
                // The first map sees the same inputs in both.
                let first = first_error(&dense, &solved.model, &data);
                let of_plain = first_error(&dense, &plain, &data);
                assert!(
                    first <= of_plain * (1.0 + 1e-6) + 1e-9,
                    "seed {seed}, ±{most}: {first} against {of_plain}\n{dense}"
                );
                better += usize::from(first < 0.9 * of_plain);
                solved.model.visit(&mut |name, param| {
                    let Some((_, scales)) = solved.scales.get(&param.id()) else { return };
                    for (column, &scale) in param.value().columns().into_iter().zip(scales) {
                        let ints = column.map(|w| w / f64::from(scale));
                        assert!(
                            ints.iter()
                                .all(|q| (q - q.round()).abs() < 1e-9
                                    && q.abs() < f64::from(most) + 0.5),
                            "{name}"
                        );
                    }
                });
            }
        }
        assert!(better > 50, "{better} maps became better");
    }

    #[test]
    fn a_column_without_weights_has_a_scale_too_and_the_others_keep_theirs() {
        let data = Dataset::sbm(120, 2).features(5).build().unwrap();
        let mut model = crate::Gcn::builder(5, 2).hidden(6).build(1).unwrap();
        let mut first = true;
        model.visit_mut(&mut |param| {
            if std::mem::take(&mut first) {
                param.restrict(&Mask::from_shape_fn((5, 6), |(_, c)| c != 2));
            }
        });
        let grid = Everywhere(Grid::new(127));
        let settings = Settings { calibrate: Calibrate::All, grid: Some(&grid) };
        let solved =
            solve_again(&model, &model, &data, settings, &mut Unchanged::default()).unwrap();
        let mut weights = Vec::new();
        solved.model.visit(&mut |_, param| weights.push((param.id(), param.value().clone())));
        let (id, weight) = &weights[0];
        assert_eq!(solved.scales[id].1.len(), 6);
        assert!(weight.column(2).iter().all(|w| *w == 0.0));
        for (column, &scale) in weight.columns().into_iter().zip(&solved.scales[id].1) {
            assert!(
                column.iter().all(|w| ((w / scale).round() - w / scale).abs() < 1e-3),
                "{column} at {scale}"
            );
        }
    }

    #[test]
    fn a_constant_input_is_the_bias_and_no_large_number() {
        let graph =
            crate::Graph::<f32>::builder(40).edges((1..40).map(|i| (i, i - 1))).build().unwrap();
        let x = Array2::from_shape_fn((40, 4), |(i, c)| {
            if c == 0 { 0.3 } else { ((7 * i + 3 * c) % 11) as f32 / 11.0 }
        });
        let labels = (0..40).map(|i| i % 2).collect();
        let data = Dataset::new(
            "constant",
            graph,
            x.into(),
            labels,
            None,
            Splits::PerClass { train: 3, val: 3 },
        )
        .unwrap();
        let dense = crate::Mlp::builder(4, 2).hidden(6).build(1).unwrap();
        let mut start = dense.clone();
        start.visit_mut(&mut |param| {
            if param.value().dim() == (4, 6) {
                param.restrict(&Mask::from_shape_fn((4, 6), |(r, c)| r == 0 || c > 2));
            }
        });
        let solved = solve_again(
            &dense,
            &start,
            &data,
            Settings { calibrate: Calibrate::All, grid: None },
            &mut Unchanged::default(),
        )
        .unwrap();
        solved.model.visit(&mut |name, param| {
            assert!(param.value().iter().all(|w| w.abs() < 10.0), "{name}: {}", param.value())
        });
    }

    /// `‖Z − Z'‖²` of the first map that the network computes, with the bias that is best where
    /// there is one.
    fn first_error(dense: &Model<f64>, other: &Model<f64>, data: &Dataset<f64>) -> f64 {
        let first = |model: &Model<f64>| {
            let cx = Cx::eval(data.graph());
            let mut values = Values::new(model, data.features());
            let mut found = None;
            for (k, node) in model.nodes().iter().enumerate() {
                let at = cx.at(NodeId(k + 1), node.name());
                let mut layer = node.layer().boxed();
                let xs = values.inputs(node);
                layer
                    .linear_maps(&at, &xs, &mut |map| {
                        found.get_or_insert_with(|| (map.without_bias(), map.has_bias()));
                        Ok(())
                    })
                    .unwrap();
                if found.is_some() {
                    break;
                }
                let value = layer.infer(&at, &xs).unwrap();
                drop(xs);
                values.push(k, Some(value));
            }
            found
        };
        let (Some((z, bias)), Some((other, _))) = (first(dense), first(other)) else { return 0.0 };
        let mut left = z - other;
        if bias {
            let mean = left.mean_axis(ndarray::Axis(0)).unwrap();
            left -= &mean;
        }
        left.mapv(|v| v * v).sum()
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        for seed in 0..12 {
            let (dense, start, data) = draw(seed);
            let grid = Everywhere(Grid::new(7));
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let solved = pool.install(|| {
                    solve_again(
                        &dense,
                        &start,
                        &data,
                        Settings { calibrate: Calibrate::All, grid: Some(&grid) },
                        &mut Unchanged::default(),
                    )
                    .unwrap()
                });
                let mut bits = Vec::new();
                solved
                    .model
                    .visit(&mut |_, param| bits.extend(param.value().iter().map(|w| w.to_bits())));
                bits
            };
            assert!([2, 3, 7].into_iter().all(|threads| on(threads) == on(1)), "seed {seed}");
        }
    }

    #[test]
    fn what_is_left_of_the_last_map_of_a_layer_is_blind_to_what_that_map_sees() {
        // Both maps of one layer are cut, and the second sees what the first one became.
        let (n, seed) = (200, 3);
        let graph =
            crate::Graph::builder(n).edges((0..n).map(|i| (i, (i * 7 + 1) % n))).build().unwrap();
        let x = random_dense::<f32>(seed, (n, 5));
        let labels: Vec<u32> = (0..n as u32).map(|node| node % 3).collect();
        let split = Split { train: vec![0], val: vec![1], test: vec![2] };
        let data = Dataset::new("random", graph, x, labels, Some(3), Splits::Fixed(split)).unwrap();
        let dense = crate::Gin::builder(5, 3).hidden(8).layers(1).build(seed).unwrap();
        let mut start = dense.clone();
        start.visit_mut(&mut |param| {
            if param.value().nrows() > 1 {
                param.restrict(&Mask::from_shape_fn(param.value().dim(), |(i, j)| {
                    (i + 2 * j) % 3 != 0
                }));
            }
        });
        let calibrate = Calibrate::All;
        let solved = solve_again(
            &dense,
            &start,
            &data,
            Settings { calibrate, grid: None },
            &mut Unchanged::default(),
        )
        .unwrap()
        .model;
        let cx = Cx::eval(data.graph());
        let left = dense.infer(&cx, data.features()).unwrap()
            - solved.infer(&cx, data.features()).unwrap();
        let node = &solved.nodes()[solved.output().index() - 1];
        let mut layer = node.layer().boxed();
        let (at, xs) = (cx.at(solved.output(), node.name()), [data.features()]);
        let mut number = 0;
        layer
            .linear_maps(&at, &xs, &mut |map| {
                number += 1;
                if number == 2 {
                    let h = map.terms()[0].input().to_dense();
                    let mask = map.terms()[0].weight().mask().unwrap().clone();
                    let (along, size) = (
                        h.t().dot(&left),
                        h.mapv(|v| v * v).sum().sqrt() * left.mapv(|v| v * v).sum().sqrt(),
                    );
                    for ((at, along), keep) in along.indexed_iter().zip(&mask) {
                        assert!(!keep || along.abs() < 0.01 * size, "{at:?}: {along} of {size}");
                    }
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(number, 2);
    }

    #[test]
    fn of_a_column_without_weights_the_bias_is_the_mean_over_the_rows_that_calibrate() {
        let mut layer = crate::nn::Linear::builder(2, 3).build::<f64>().unwrap();
        let graph = crate::Graph::builder(4).build().unwrap().cast::<f64>();
        let x = Array2::<f64>::ones((4, 2));
        let z =
            ndarray::array![[1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [9.0, 10.0, 11.0], [0.0, 0.0, 40.0]];
        for (rows, expected) in [(None, [0.0, 4.5, 15.25]), (Some(&[0u32, 1][..]), [0.0, 4.0, 5.0])]
        {
            let layer: &mut dyn DynLayer<f64> = &mut layer;
            layer
                .linear_maps(&Cx::eval(&graph), &[ValueRef::Dense(x.view())], &mut |mut map| {
                    set_to_means(&mut map, z.view(), rows, &[1, 2]);
                    assert_eq!(map.bias().unwrap().value().row(0).to_vec(), expected);
                    Ok(())
                })
                .unwrap();
        }
    }
}
