//! Classes of graphs: batches of graphs, networks that pool, folds.

use gnn_prune::data::GraphSet;
use gnn_prune::ndarray::{Array2, ArrayView1, Axis, concatenate};
use gnn_prune::nn::{Cx, Mode, Pooling, Registry, RowSpace};
use gnn_prune::task::{Part, Task, evaluate};
use gnn_prune::testing::{
    check_determinism, check_gradients, check_mask_equals_shrink, check_permutation, check_program,
    check_save_load, random_dense, random_graph, random_plan,
};
use gnn_prune::train::{CrossValidation, GraphProtocol, Setup};
use gnn_prune::{
    ChannelPruner, GinGraphs, GraphTask, Magnitude, Model, Result, StructureFree, Taylor, Trainer,
    Value,
};

/// Sums of the same numbers in another order, in double precision.
const TOLERANCE: f64 = 1e-10;

fn models() -> Vec<Model<f64>> {
    let gin =
        |pooling| GinGraphs::builder(3, 2).hidden(4).layers(2).pooling(pooling).train_eps(true);
    let free = StructureFree::builder(3, 2).hidden(4).dropout(0.3);
    [
        gin(Pooling::Sum).build(0),
        gin(Pooling::Mean).build(1),
        gin(Pooling::Max).dropout(0.0).build(2),
        free.clone().build(3),
        free.node_layer(true).build(4),
    ]
    .map(|model| moved(model.unwrap().cast().unwrap()))
    .into()
}

/// The same network with no parameter at what it is drawn as: ε is not 0, and norms do something.
fn moved(mut model: Model<f64>) -> Model<f64> {
    let mut number = 0;
    model.visit_mut(&mut |param| {
        number += 1;
        let shift = random_dense::<f64>(number, param.value().dim()).into_dense();
        param.value_mut().zip_mut_with(&shift, |w, s| *w += 0.1 * s.abs());
    });
    model
}

#[test]
fn networks_that_pool_stand_under_the_laws_of_all_others() {
    let registry = Registry::<f64>::standard();
    for model in models() {
        assert_eq!(model.rows_of(model.output()), RowSpace::Graphs);
        for seed in 0..3 {
            let graph = random_graph(seed, 9);
            let x = random_dense(seed, (graph.num_nodes(), 3));
            check_gradients(&model, &graph, x.view(), seed).unwrap();
            check_permutation(&model, &graph, x.view()).unwrap();
            check_program(&model, &graph, x.view()).unwrap();
            check_determinism(&model, &graph, x.view()).unwrap();
            let plan = random_plan(seed, &model).unwrap();
            check_mask_equals_shrink(&model, &plan, &graph, x.view()).unwrap();
        }
        check_save_load(&model, &registry).unwrap();
    }
}

/// Dense matrices and the parameters by name.
struct Naive<'m>(&'m Model<f64>);

impl Naive<'_> {
    fn get(&self, name: &str) -> Array2<f64> {
        let found = self.0.params().find(|(full, _)| full == name);
        found.unwrap_or_else(|| panic!("no parameter {name}")).1.value().clone()
    }

    fn linear(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        x.dot(&self.get(&format!("{name}.weight"))) + &self.get(&format!("{name}.bias"))
    }

    fn norm(&self, name: &str, x: Array2<f64>) -> Array2<f64> {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        let deviation = of("running_var").mapv(|v| (v + 1e-5).sqrt());
        (x - &of("running_mean")) / &deviation * &of("weight") + &of("bias")
    }

    /// One graph with the adjacency matrix `a`.
    fn gin(&self, a: &Array2<f64>, x: &Array2<f64>, pooling: Pooling) -> Array2<f64> {
        let pooled = |h: &Array2<f64>| {
            let row = match pooling {
                Pooling::Mean => h.mean_axis(Axis(0)).unwrap(),
                Pooling::Max => h.map_axis(Axis(0), largest),
                _ => h.sum_axis(Axis(0)),
            };
            row.insert_axis(Axis(0))
        };
        let (mut h, mut y) = (x.clone(), self.linear("score0", &pooled(x)));
        for k in 1..=2 {
            let own = 1.0 + self.get(&format!("aggregate{k}.eps"))[[0, 0]];
            h = &h * own + a.dot(&h);
            for part in ["inner", "outer"] {
                h = self.linear(&format!("{part}{k}"), &h);
                h = relu(self.norm(&format!("{part}_norm{k}"), h));
            }
            y += &self.linear(&format!("score{k}"), &pooled(&h));
        }
        y
    }
}

fn relu(x: Array2<f64>) -> Array2<f64> {
    x.mapv(|v| v.max(0.0))
}

fn largest(column: ArrayView1<f64>) -> f64 {
    column.fold(f64::NEG_INFINITY, |most, &v| most.max(v))
}

/// Trees and cycles whose nodes have three random features.
fn set(graphs: usize) -> GraphSet<f64> {
    let set = GraphSet::cycles_or_trees(graphs, 0.3, 5).unwrap().cast();
    set.with_features(random_dense(1, (set.num_nodes(), 3))).unwrap()
}

#[test]
fn recipes_are_their_formulas_graph_by_graph() {
    let set = set(6);
    let task = GraphTask::builder(&set).folds(3).build().unwrap();
    let batch = task.batch(&[5, 0, 3, 2]).unwrap();
    let poolings = [Pooling::Sum, Pooling::Mean, Pooling::Max];
    let poolings = poolings.map(Some).into_iter().chain([None, None]);
    for (model, pooling) in models().iter().zip(poolings) {
        let found = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let naive = Naive(model);
        for (row, graph) in found.rows().into_iter().zip([5, 0, 3, 2]) {
            let own = set.select(&[graph]).unwrap();
            let (a, x) = (own.graph.adjacency().to_dense(), own.features.into_dense());
            let expected = match pooling {
                Some(pooling) => naive.gin(&a, &x, pooling),
                None => {
                    let has_node_layer = model.node("node").is_some();
                    let h = if has_node_layer { relu(naive.linear("node", &x)) } else { x };
                    let sum = h.sum_axis(Axis(0)).insert_axis(Axis(0));
                    naive.linear("out", &relu(naive.linear("hidden", &sum)))
                }
            };
            let off = largest((&row - &expected.row(0)).mapv(f64::abs).view());
            assert!(off < TOLERANCE, "{model}: {off}");
        }
    }
}

#[test]
fn a_batch_in_another_order_draws_and_learns_the_same() {
    let set = set(30);
    let task = GraphTask::builder(&set).folds(3).build().unwrap();
    let model = &models()[0];
    let mode = Mode::Train { seed: 3, step: 7 };
    let learn = |graphs: &[u32]| {
        let batch = task.batch(graphs).unwrap();
        let cx = batch.on(&Cx::without_graph()).with_mode(mode);
        let trace = model.trace(&cx, batch.features()).unwrap();
        let y = trace.output().to_owned();
        let (loss, dy) = task.loss(trace.output(), &batch).unwrap();
        let grads = model.backward(&cx, trace, vec![(model.output(), dy)]).unwrap();
        (y, loss, grads)
    };
    let (y, loss, grads) = learn(&[4, 9, 20, 1]);
    let (other_y, other_loss, other_grads) = learn(&[20, 1, 4, 9]);
    let off = |a: &Array2<f64>, b: &Array2<f64>| {
        (a - b).iter().fold(0.0f64, |most, off| most.max(off.abs()))
    };
    let rows = [y.row(2), y.row(3), y.row(0), y.row(1)].map(|row| row.insert_axis(Axis(0)));
    assert!(off(&concatenate(Axis(0), &rows).unwrap(), &other_y) < TOLERANCE);
    assert!((loss - other_loss).abs() < TOLERANCE);
    model.visit(&mut |name, param| {
        let [a, b] = [&grads, &other_grads].map(|grads| grads.get(param.id()));
        if let (Some(a), Some(b)) = (a, b) {
            assert!(off(a, b) < TOLERANCE, "{name}");
        }
    });
}

#[test]
fn cycles_are_told_from_trees_by_a_network_that_reads_edges_and_by_no_other() -> Result<()> {
    let set = GraphSet::cycles_or_trees(120, 0.0, 1)?;
    let task = GraphTask::builder(&set).folds(4).build()?;
    let trainer = Trainer::builder().epochs(20).weight_decay(0.0).build()?;
    let accuracy = |form: &Model| -> Result<f64> {
        let honest = CrossValidation::run(GraphProtocol::TestFold, form, &trainer, &task)?;
        Ok(honest.mean())
    };
    let gin = accuracy(&GinGraphs::builder(1, 2).hidden(8).layers(2).build(0)?)?;
    let free = accuracy(&StructureFree::builder(1, 2).hidden(8).build(0)?)?;
    assert!(gin > 90.0, "{gin} %");
    assert!(free < 75.0, "{free} %");
    Ok(())
}

#[test]
fn a_cross_validation_has_the_same_bits_on_any_number_of_threads() -> Result<()> {
    let set = GraphSet::cycles_or_trees(40, 0.2, 1)?;
    let task = GraphTask::builder(&set).folds(4).batch_size(8).iterations(3).build()?;
    let form = GinGraphs::builder(1, 2).hidden(8).layers(2).build(0)?;
    let trainer = Trainer::builder().epochs(3).build()?;
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let both = CrossValidation::both(&form, &trainer, &task).unwrap();
            let fit = trainer.fit_with(form.fresh(2), &task, Setup::new()).unwrap();
            let mut weights = Vec::new();
            fit.model.visit(&mut |_, param| weights.extend(param.value().mapv(f32::to_bits)));
            let losses: Vec<u64> = fit.losses.iter().map(|loss| loss.to_bits()).collect();
            (both, weights, losses)
        })
    };
    let expected = run(1);
    for threads in [1, 2, 3, 7] {
        assert!(run(threads) == expected, "other bits on {threads} threads");
    }
    Ok(())
}

#[test]
fn a_model_stands_on_the_fold_of_its_seed() -> Result<()> {
    let set = GraphSet::cycles_or_trees(40, 0.2, 1)?;
    let task = GraphTask::builder(&set).folds(4).build()?;
    let form = StructureFree::builder(1, 2).hidden(4).build(0)?;
    let of = |seed| evaluate(&form.clone().following(seed), &task, Part::Test);
    assert_eq!(of(1)?, of(5)?, "a seed is its fold modulo four");
    let chosen = task.folds().part(1, Part::Test, task.holdout());
    let batch = task.batch(&chosen)?;
    let y = form.infer(&batch.on(&Cx::without_graph()), batch.features())?;
    let right = y.rows().into_iter().zip(&chosen).filter(|(row, graph)| {
        let says = u32::from(row[1] > row[0]);
        says == set.labels()[**graph as usize]
    });
    let accuracy = 100.0 * right.count() as f64 / chosen.len() as f64;
    assert!((of(1)? - accuracy).abs() < 1e-9);
    Ok(())
}

#[test]
fn channels_are_pruned_by_what_a_task_on_graphs_says_of_them() -> Result<()> {
    let set = GraphSet::cycles_or_trees(120, 0.0, 1)?;
    let task = GraphTask::builder(&set).folds(4).batch_size(8).build()?;
    let trainer = Trainer::builder().epochs(15).weight_decay(0.0).build()?;
    let form = GinGraphs::builder(1, 2).hidden(16).layers(2).build(0)?;
    let model = trainer.fit(form, &task)?;
    let by_magnitude = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?;
    let by_gradients = ChannelPruner::builder(Taylor::new()).ratio(0.5).build()?;
    for plan in [by_magnitude.plan(&model, &task)?, by_gradients.plan(&model, &task)?] {
        let small = plan.shrink(&model)?;
        assert!(small.num_params() < model.num_params() / 2, "{plan}");
        let tuned = trainer.fit(small, &task)?;
        let accuracy = evaluate(&tuned, &task, Part::Test)?;
        assert!(accuracy > 70.0, "{accuracy} %");
    }
    Ok(())
}

#[test]
fn sparse_features_train_as_dense_ones_do() {
    let set = set(12);
    let x = set.features().to_dense().mapv(|v| if v < 0.0 { 0.0 } else { v });
    let sparse = set.with_features(Value::Sparse(Value::from(x.clone()).into_sparse())).unwrap();
    let dense = set.with_features(x.into()).unwrap();
    for model in models() {
        let loss = |set: &GraphSet<f64>| {
            let task = GraphTask::builder(set).folds(3).build().unwrap();
            let batch = task.batch(&[7, 2, 3]).unwrap();
            let cx = batch.on(&Cx::without_graph()).with_mode(Mode::Train { seed: 1, step: 1 });
            let trace = model.trace(&cx, batch.features()).unwrap();
            task.loss(trace.output(), &batch).unwrap().0
        };
        // Dropout stands behind the readouts alone, where both are dense.
        assert!((loss(&sparse) - loss(&dense)).abs() < TOLERANCE, "{model}");
    }
}
