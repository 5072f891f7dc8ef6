//! Weight truncation: exact counts, masks that hold, files that shrink, products that agree.

use gnn_prune::__kernels::reference;
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Add, Cx, GcnConv, Linear, Mask, ModelBuilder, NodeId, ParamId};
use gnn_prune::testing::{
    check_determinism, check_program, check_save_load, random_dense, random_graph,
};
use gnn_prune::{
    ChannelPruner, Dataset, Error, Gcn, Magnitude, Mlp, Model, PruneError, Scalar, Scope, Trainer,
    WeightPlan, WeightPruner, nn::Registry,
};

fn gcn() -> Model {
    Gcn::builder(64, 10).hidden(32).layers(3).build(3).unwrap()
}

fn masks<F: Scalar>(model: &Model<F>) -> Vec<(String, Option<Mask>)> {
    let mut all = Vec::new();
    model.visit(&mut |name, param| all.push((name.to_string(), param.mask().cloned())));
    all
}

/// Weights, those that a mask keeps, and those that are not zero.
fn counts<F: Scalar>(model: &Model<F>) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    model.visit(&mut |name, param| {
        if name.ends_with("weight") {
            counts.0 += param.value().len();
            counts.1 += param
                .mask()
                .map_or(param.value().len(), |mask| mask.iter().filter(|keep| **keep).count());
            counts.2 += param.value().iter().filter(|w| **w != F::zero()).count();
        }
    });
    counts
}

fn sparse(model: &Model, sparsity: f64) -> Model {
    WeightPruner::builder()
        .sparsity(sparsity)
        .build()
        .unwrap()
        .plan(model)
        .unwrap()
        .apply(model)
        .unwrap()
}

#[test]
fn exactly_the_share_goes_and_biases_stay() {
    let model = gcn();
    let (n, ..) = counts(&model);
    assert_eq!(n, 64 * 32 + 32 * 32 + 32 * 10);
    for sparsity in [0.0, 0.1, 0.5, 0.9] {
        let pruned = sparse(&model, sparsity);
        let gone = (sparsity * n as f64).round_ties_even() as usize;
        assert_eq!(counts(&pruned), (n, n - gone, n - gone), "{sparsity}");
        assert!(
            masks(&pruned).iter().all(|(name, mask)| mask.is_none() || name.ends_with("weight"))
        );
    }
}

#[test]
fn the_smallest_go_and_of_equals_the_first() {
    let mut builder = ModelBuilder::<f64>::new(2);
    let out = builder.add("out", Linear::builder(2, 3).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let mut model = builder.build(out, 0).unwrap();
    let values = Array2::from_shape_vec((2, 3), vec![-0.5, 0.1, 0.5, 0.9, -0.1, 0.5]).unwrap();
    model.visit_mut(&mut |param| {
        if param.name() == "weight" {
            param.value_mut().assign(&values);
        }
    });
    let kept = |pruner: WeightPruner<f64>| {
        masks(&pruner.plan(&model).unwrap().apply(&model).unwrap())[0]
            .1
            .clone()
            .unwrap()
            .into_raw_vec_and_offset()
            .0
    };
    let builder = WeightPruner::builder();
    assert_eq!(
        kept(builder.clone().sparsity(0.5).build().unwrap()),
        [false, false, true, true, false, true]
    );
    assert_eq!(
        kept(builder.clone().threshold(0.5).build().unwrap()),
        [true, false, true, true, false, true]
    );
    assert_eq!(kept(builder.threshold(0.0).build().unwrap()), [true; 6]);
}

#[test]
fn half_and_then_four_fifths_is_four_fifths_in_total() {
    let model = gcn();
    let (n, ..) = counts(&model);
    let gone = (0.8 * n as f64).round_ties_even() as usize;
    assert_eq!(counts(&sparse(&sparse(&model, 0.5), 0.8)), (n, n - gone, n - gone));
    assert_eq!(counts(&sparse(&sparse(&model, 0.8), 0.5)).1, n - gone, "a plan gives nothing back");
    assert_eq!(
        masks(&sparse(&sparse(&model, 0.5), 0.8)),
        masks(&sparse(&model, 0.8)),
        "untrained, the same weights are the smallest"
    );
}

#[test]
fn by_layer_every_matrix_loses_its_share() {
    let model = gcn();
    let pruned = WeightPruner::builder()
        .scope(Scope::Layer)
        .build()
        .unwrap()
        .plan(&model)
        .unwrap()
        .apply(&model)
        .unwrap();
    pruned.visit(&mut |name, param| {
        if name.ends_with("weight") {
            let gone = param.mask().unwrap().iter().filter(|keep| !**keep).count();
            assert_eq!(
                gone,
                (0.9 * param.value().len() as f64).round_ties_even() as usize,
                "{name}"
            );
        }
    });
}

#[test]
fn plans_replay_from_json_and_refuse_another_model() {
    let model = gcn();
    let plan = WeightPruner::builder().build().unwrap().plan(&model).unwrap();
    let back: WeightPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!((&back, back.to_string()), (&plan, plan.to_string()));
    assert!(
        plan.to_string().starts_with(
            "weight plan by layer-adaptive magnitude, 0.9 of all weights: 3392 -> 339 weights"
        ),
        "{plan}"
    );
    assert_eq!(masks(&back.apply(&model).unwrap()), masks(&plan.apply(&model).unwrap()));
    for other in [
        Gcn::builder(64, 10).hidden(31).layers(3).build(3).unwrap(),
        Gcn::builder(64, 10).hidden(32).layers(4).build(3).unwrap(),
        Gcn::builder(64, 10).hidden(32).layers(2).build(3).unwrap(),
        Mlp::builder(64, 10).hidden(32).layers(3).build(3).unwrap(),
    ] {
        assert!(matches!(plan.apply(&other), Err(Error::Prune(PruneError::OtherModel { .. }))));
    }
}

#[test]
fn a_layer_that_would_lose_every_weight_is_named() {
    let refused = |error: Error, name: &str| {
        assert!(
            matches!(&error, Error::Prune(PruneError::EmptiesLayer { layer, .. }) if layer == name),
            "{error}"
        )
    };
    let all = |scope| WeightPruner::builder().sparsity(1.0).scope(scope).build().unwrap();
    refused(all(Scope::Global).plan(&gcn()).unwrap_err(), "conv1");
    refused(all(Scope::Layer).plan(&gcn()).unwrap_err(), "conv1");
    let mut model = gcn();
    model.visit_mut(&mut |param| {
        if param.value().dim() == (32, 32) {
            *param.value_mut() *= 1e-3;
        }
    });
    refused(
        WeightPruner::builder().threshold(1e-3).build().unwrap().plan(&model).unwrap_err(),
        "conv2",
    );
    assert_eq!(
        masks(&sparse(&model, 0.9)),
        masks(&sparse(&gcn(), 0.9)),
        "the scale of a matrix does not count"
    );
    // Two plans that are legal each, and together leave nothing.
    let half = |keep: usize| {
        let mut other = gcn();
        other.visit_mut(&mut |param| {
            if param.value().dim() == (32, 32) {
                param
                    .value_mut()
                    .indexed_iter_mut()
                    .for_each(|((i, _), w)| *w = if i % 2 == keep { 1.0 } else { 0.0 });
            }
        });
        WeightPruner::builder()
            .scope(Scope::Layer)
            .sparsity(0.5)
            .build()
            .unwrap()
            .plan(&other)
            .unwrap()
    };
    refused(half(1).apply(&half(0).apply(&gcn()).unwrap()).unwrap_err(), "conv2");
}

#[test]
fn settings_out_of_range_and_models_without_weights_are_errors() {
    for sparsity in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(
            WeightPruner::<f32>::builder().sparsity(sparsity).build(),
            Err(Error::Setting { .. })
        ));
    }
    for threshold in [-0.1, f64::INFINITY, f64::NAN] {
        assert!(matches!(
            WeightPruner::<f32>::builder().threshold(threshold).build(),
            Err(Error::Setting { .. })
        ));
    }
    let mut builder = Model::builder(3);
    let out = builder.add("sum", Add::new(1).unwrap(), &[NodeId::INPUT]).unwrap();
    let empty = builder.build(out, 0).unwrap();
    let pruner = WeightPruner::builder().build().unwrap();
    assert!(matches!(pruner.plan(&empty), Err(Error::Prune(PruneError::NothingToPrune { .. }))));
    let mut broken = gcn();
    broken.visit_mut(&mut |param| param.value_mut()[[0, 0]] = f32::NAN);
    assert!(matches!(pruner.plan(&broken), Err(Error::NotFinite { .. })));
}

#[test]
fn masks_hold_through_training_files_and_channel_shrinking() {
    let data = Dataset::digits().unwrap();
    let pruned = sparse(&gcn(), 0.8);
    let trained = Trainer::builder().epochs(8).build().unwrap().fit(pruned.clone(), &data).unwrap();
    assert_eq!(masks(&trained), masks(&pruned));
    assert_eq!(
        counts(&trained).2,
        counts(&pruned).1,
        "what is kept was trained, what is not stayed zero"
    );
    check_save_load(&trained, &Registry::standard()).unwrap();

    let plan = ChannelPruner::builder(Magnitude::l2())
        .ratio(0.5)
        .build()
        .unwrap()
        .plan(&trained, &data)
        .unwrap();
    let small = plan.shrink(&trained).unwrap();
    let (n, kept, nonzero) = counts(&small);
    assert!(kept < n && kept == nonzero, "{kept} of {n} are kept, {nonzero} are not zero");
    let again = Trainer::builder().epochs(8).build().unwrap().fit(small.clone(), &data).unwrap();
    assert_eq!(masks(&again), masks(&small));
    assert_eq!(counts(&again).2, kept);
    check_save_load(&again, &Registry::standard()).unwrap();
    assert_eq!(masks(&trained.cast::<f64>().unwrap()), masks(&trained));
    assert!(
        masks(&trained.fresh(0)).iter().all(|(_, mask)| mask.is_none()),
        "the narrow control starts without masks"
    );
}

#[test]
fn a_file_of_a_tenth_of_the_weights_is_seven_times_smaller() {
    let model = Gcn::builder(1433, 7).hidden(64).build(0).unwrap();
    let stored = |model: &Model| gnn_prune::io::stored_bytes(model) as f64;
    assert!(
        stored(&model) / stored(&sparse(&model, 0.9)) > 7.0,
        "64-bit indices would leave 3 times"
    );
    assert!(stored(&model) / stored(&sparse(&model, 0.99)) > 60.0);
}

#[test]
fn a_compiled_program_agrees_whether_its_weights_are_sparse_or_dense() {
    for sparsity in [0.0, 0.5, 0.9] {
        let model = sparse(&Gcn::builder(96, 40).hidden(128).layers(3).build(1).unwrap(), sparsity)
            .cast::<f64>()
            .unwrap();
        let graph = random_graph(2, 60);
        let x = random_dense(3, (graph.num_nodes(), 96));
        check_program(&model, &graph, x.view()).unwrap();
        check_determinism(&model, &graph, x.view()).unwrap();
    }
}

#[test]
fn sparse_products_are_counted_by_what_they_store() {
    let mut builder = Model::builder(128);
    let out =
        builder.add("out", Linear::builder(128, 96).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let model = builder.build(out, 0).unwrap();
    let (graph, x) = (random_graph::<f32>(5, 50), |n| random_dense::<f32>(6, (n, 128)));
    let x = x(graph.num_nodes());
    let macs = |model: &Model| model.compile(&graph, x.view()).unwrap().cost().macs;
    let n = graph.num_nodes() as u64;
    assert_eq!(macs(&model), n * 128 * 96);
    assert_eq!(macs(&sparse(&model, 0.9)), n * counts(&sparse(&model, 0.9)).1 as u64);
    assert_eq!(macs(&sparse(&model, 0.2)), n * 128 * 96, "too dense for a sparse product");
}

/// A two-layer network in PyTorch's layout: `weight: [out, in]`, `y = x·Wᵀ + b`.
struct Torch {
    fc1: (Array2<f64>, Array2<f64>),
    fc2: (Array2<f64>, Array2<f64>),
}

fn affine(x: &Array2<f64>, (weight, bias): &(Array2<f64>, Array2<f64>)) -> Option<Array2<f64>> {
    (x.ncols() == weight.ncols() && bias.ncols() == weight.nrows()).then(|| {
        let mut y = Array2::zeros((x.nrows(), weight.nrows()));
        reference::matmul(x.view(), weight.t(), y.view_mut());
        y + bias
    })
}

impl Torch {
    fn of(model: &Model<f64>) -> Self {
        let mut all = Vec::new();
        model.visit(&mut |_, param| all.push(param.value().clone()));
        let [w1, b1, w2, b2] = all.try_into().unwrap();
        Self { fc1: (w1.t().to_owned(), b1), fc2: (w2.t().to_owned(), b2) }
    }

    fn forward(&self, x: &Array2<f64>) -> Option<Array2<f64>> {
        let hidden = affine(x, &self.fc1)?.mapv(|v| v.max(0.0));
        affine(&hidden, &self.fc2)
    }
}

#[test]
fn pruning_80_percent_by_slicing_columns_breaks_shapes_and_classes_and_the_plan_does_not() {
    use gnn_prune::ndarray::{Axis, s};
    let data = Dataset::digits().unwrap();
    let model = Mlp::builder(64, 10).hidden(50).dropout(0.0).build(4).unwrap();
    let x = data.features().to_dense().mapv(f64::from);
    let torch = Torch::of(&model.cast().unwrap());
    assert_eq!(torch.forward(&x).unwrap().dim(), (x.nrows(), 10));

    // "Keep the first 20 % of the columns of each": of `fc1` those are input features, of `fc2`
    // hidden channels that `fc1` still makes.
    let columns = |(weight, bias): &(Array2<f64>, Array2<f64>)| {
        (weight.slice(s![.., ..weight.ncols() / 5]).to_owned(), bias.clone())
    };
    let sliced = Torch { fc1: columns(&torch.fc1), fc2: columns(&torch.fc2) };
    assert!(sliced.forward(&x).is_none(), "neither layer fits what it reads any more");
    // The same in this crate's layout, `W: [in, out]`: the columns of the last weight are classes.
    let last = torch.fc2.0.t().slice(s![.., ..8]).to_owned();
    assert_eq!(last.ncols(), 8, "two of ten classes are gone");

    // Right: rows of `fc1` and its bias, and the columns of whatever reads them.
    let plan = ChannelPruner::builder(Magnitude::l2())
        .ratio(0.8)
        .build()
        .unwrap()
        .plan(&model, &data)
        .unwrap();
    let small = Torch::of(&plan.shrink(&model).unwrap().cast().unwrap());
    assert_eq!(
        (small.fc1.0.dim(), small.fc1.1.dim(), small.fc2.0.dim(), small.fc2.1.dim()),
        ((10, 64), (1, 10), (10, 10), (1, 10))
    );
    let rows: Vec<usize> =
        (0..50).filter(|&k| (0..10).any(|j| small.fc1.0.row(j) == torch.fc1.0.row(k))).collect();
    assert_eq!(rows.len(), 10);
    assert_eq!(small.fc1.0, torch.fc1.0.select(Axis(0), &rows));
    assert_eq!(small.fc1.1, torch.fc1.1.select(Axis(1), &rows));
    assert_eq!(small.fc2.0, torch.fc2.0.select(Axis(1), &rows));
    assert_eq!(small.forward(&x).unwrap().dim(), (x.nrows(), 10), "every class is still there");
}

#[test]
fn a_masked_entry_has_no_part_in_the_output() {
    let mut builder = ModelBuilder::<f64>::new(4);
    let out =
        builder.add("conv", GcnConv::builder(4, 3).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let model = builder.build(out, 0).unwrap();
    let pruned = WeightPruner::builder()
        .sparsity(0.5)
        .build()
        .unwrap()
        .plan(&model)
        .unwrap()
        .apply(&model)
        .unwrap();
    let mut by_hand = model.clone();
    let mut masks: Vec<(ParamId, Option<Mask>)> = Vec::new();
    pruned.visit(&mut |_, param| masks.push((param.id(), param.mask().cloned())));
    by_hand.visit_mut(&mut |param| {
        let mask =
            masks.iter().find(|(id, _)| *id == param.id()).and_then(|(_, mask)| mask.clone());
        if let Some(mask) = mask {
            param.value_mut().zip_mut_with(&mask, |w, keep| *w *= f64::from(u8::from(*keep)));
        }
    });
    let graph = random_graph(7, 20);
    let x = random_dense(8, (graph.num_nodes(), 4));
    let infer = |model: &Model<f64>| model.infer(&Cx::eval(&graph), x.view()).unwrap();
    assert_eq!(infer(&pruned), infer(&by_hand));
}
