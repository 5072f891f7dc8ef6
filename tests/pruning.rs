//! A pruned model is smaller and computes what the masked one does; what must stay, stays.

use gnn_prune::nn::{
    Activation, ActivationFn, Add, Axis, Concat, Cx, GcnConv, Linear, Mask, ModelBuilder, NodeId,
    Param, Registry,
};
use gnn_prune::prune::ChannelLabels;
use gnn_prune::testing::{
    check_mask_equals_shrink, random_dense, random_graph, random_model, random_plan, random_sparse,
};
use gnn_prune::{
    ChannelPlan, ChannelPruner, Dataset, Error, Gcn, Magnitude, Model, PruneError, Random, Scope,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Random networks that must be pruned; those that are refused come on top.
const NETWORKS: u32 = 600;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: NETWORKS,
        max_global_rejects: 20 * NETWORKS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    #[test]
    fn masking_computes_what_shrinking_does_with_strictly_fewer_parameters(
        seed: u64, nodes in 1usize..12, channels in 1usize..6, classes in 2usize..5,
    ) {
        let model = random_model::<f64>(seed, &Registry::standard(), channels, classes);
        let plan = plan_or_reject(seed, &model)?;
        let graph = random_graph(seed, nodes);
        let shape = (graph.num_nodes(), channels);
        for x in [random_dense(seed, shape), random_sparse(seed, shape)] {
            check_mask_equals_shrink(&model, &plan, &graph, x.view())
                .map_err(|error| TestCaseError::fail(format!("{error}\n{model}{plan}")))?;
        }
        let small = plan.shrink(&model).unwrap();
        let removes = plan.groups().iter().any(|group| group.kept < group.units);
        prop_assert_eq!(small.num_params() < model.num_params(), removes, "{}{}", &model, &plan);
        prop_assert!(plan.mask(&model).unwrap().num_nonzero_params() <= small.num_params());
    }

    #[test]
    fn a_masked_channel_is_zero_in_every_parameter_that_carries_it(seed: u64, channels in 1usize..6, classes in 2usize..5) {
        let model = random_model::<f64>(seed, &Registry::standard(), channels, classes);
        let plan = plan_or_reject(seed, &model)?;
        let kept = kept_channels(&plan);
        let masked = plan.mask(&model).unwrap();
        for node in masked.nodes() {
            let mut problem = None;
            let reads: Vec<&BTreeSet<usize>> = node.inputs().iter().filter_map(|&id| kept.get(masked.name_of(id))).collect();
            node.layer().visit(&mut |param| {
                for (side, axis) in param.axes().into_iter().enumerate() {
                    let stays = match axis {
                        Axis::Out => Some(&kept[node.name()]),
                        // The model's own input is in no plan.
                        Axis::In(k) if reads.len() == node.inputs().len() => Some(reads[k]),
                        _ => None,
                    };
                    if stays.is_some_and(|stays| !zero_outside(param, side, stays)) {
                        problem = Some(format!("{}.{} side {side}", node.name(), param.name()));
                    }
                }
            });
            prop_assert_eq!(problem, None, "{}{}", &masked, &plan);
        }
    }

    #[test]
    fn coupled_channels_are_kept_or_removed_together(seed: u64, channels in 1usize..6, classes in 2usize..5) {
        let model = random_model::<f64>(seed, &Registry::standard(), channels, classes);
        let plan = plan_or_reject(seed, &model)?;
        let labels = ChannelLabels::of(&model);
        let mut decided: BTreeMap<usize, bool> = BTreeMap::new();
        for (name, stays) in kept_channels(&plan) {
            for (c, &unit) in labels.node(model.node(&name).unwrap()).iter().enumerate() {
                let kept = stays.contains(&c);
                prop_assert_eq!(*decided.entry(unit).or_insert(kept), kept, "channel {} of {}", c, name);
                prop_assert!(kept || !labels.is_fixed(unit), "fixed channel {} of {} is gone", c, name);
            }
        }
    }

    #[test]
    fn a_plan_survives_json_and_does_the_same_again(seed: u64) {
        let model = random_model::<f64>(seed, &Registry::standard(), 3, 2);
        let plan = plan_or_reject(seed, &model)?;
        let back: ChannelPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        prop_assert_eq!(&back, &plan);
        prop_assert_eq!(back.to_string(), plan.to_string());
        prop_assert_eq!(back.shrink(&model).unwrap().to_string(), plan.shrink(&model).unwrap().to_string());
    }
}

/// A refusal must name a layer of the model, and only one without hidden channels has nothing to
/// prune.
fn plan_or_reject(seed: u64, model: &Model<f64>) -> Result<ChannelPlan, TestCaseError> {
    match random_plan(seed, model) {
        Ok(plan) => Ok(plan),
        Err(Error::Prune(PruneError::EmptiesLayer { layer, channels })) => {
            let id = model
                .node(&layer)
                .ok_or_else(|| TestCaseError::fail(format!("no layer `{layer}`\n{model}")))?;
            prop_assert_eq!(model.channels(id), channels);
            Err(TestCaseError::reject("a layer would be emptied"))
        }
        Err(Error::Prune(PruneError::NothingToPrune { .. })) => {
            prop_assert!(ChannelLabels::of(model).groups().is_empty());
            Err(TestCaseError::reject("no hidden channel"))
        }
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

/// Which channels of each layer stay, as the plan's own JSON says.
fn kept_channels(plan: &ChannelPlan) -> BTreeMap<String, BTreeSet<usize>> {
    let json = serde_json::to_value(plan).unwrap();
    let channels = |node: &Json| {
        node["kept"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as usize).collect()
    };
    json["nodes"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, node)| (name.clone(), channels(node)))
        .collect()
}

fn zero_outside(param: &Param<f64>, side: usize, stays: &BTreeSet<usize>) -> bool {
    param
        .value()
        .indexed_iter()
        .all(|((i, j), w)| *w == 0.0 || stays.contains(if side == 0 { &i } else { &j }))
}

fn data() -> Dataset {
    Dataset::sbm(300, 3).features(6).seed(1).build().unwrap()
}

fn halves(scope: Scope) -> ChannelPruner {
    ChannelPruner::builder(Magnitude::l2()).ratio(0.5).scope(scope).build().unwrap()
}

#[test]
fn a_plan_that_would_empty_a_layer_is_an_error_that_names_it() {
    let data = data();
    let model = Gcn::builder(6, 3).hidden(8).layers(3).build(0).unwrap();
    let all = ChannelPruner::builder(Magnitude::l2())
        .ratio(1.0)
        .build()
        .unwrap()
        .plan(&model, &data)
        .unwrap_err();
    assert!(
        matches!(&all, Error::Prune(PruneError::EmptiesLayer { layer, channels: 8 }) if layer == "conv1"),
        "{all}"
    );
    // A layer whose weights are all zero scores lowest of all, and half of the channels of two
    // layers are one layer.
    let mut quiet = model;
    // The parameters of conv2, and the rows of conv3 that read it.
    for name in ["conv2.weight", "conv2.bias", "conv3.weight"] {
        quiet.param_mut(name).unwrap().value_mut().fill(0.0);
    }
    let global = halves(Scope::Global).plan(&quiet, &data).unwrap_err();
    assert!(
        matches!(&global, Error::Prune(PruneError::EmptiesLayer { layer, .. }) if layer == "conv2"),
        "{global}"
    );
    assert!(global.to_string().contains("`conv2`"));
    assert!(
        halves(Scope::Layer).plan(&quiet, &data).is_ok(),
        "within its own layer half of it stays"
    );
}

#[test]
fn a_part_of_a_concatenation_that_would_be_emptied_is_named() {
    // Two narrow layers side by side are added to a wide one: they are one group, and a random half
    // may hit all of a narrow one.
    let mut builder = ModelBuilder::<f64>::new(4);
    let narrow =
        builder.add("narrow", Linear::builder(4, 1).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let other =
        builder.add("other", Linear::builder(4, 5).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let wide =
        builder.add("wide", Linear::builder(4, 6).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let joined = builder.add("joined", Concat::new(), &[narrow, other]).unwrap();
    let sum = builder.add("sum", Add::new(2).unwrap(), &[joined, wide]).unwrap();
    let out = builder.add("out", Linear::builder(6, 2).build().unwrap(), &[sum]).unwrap();
    let mut emptied = 0;
    for seed in 0..20 {
        match random_plan(seed, &builder.clone().build(out, seed).unwrap()) {
            Err(Error::Prune(PruneError::EmptiesLayer { layer, channels })) => {
                assert_eq!((layer.as_str(), channels), ("narrow", 1));
                emptied += 1;
            }
            plan => assert!(
                plan.unwrap().groups().iter().all(|group| group.name == "narrow+other+wide")
            ),
        }
    }
    assert!(emptied > 0);
}

#[test]
fn logits_are_not_pruned_even_through_a_residual() {
    let mut builder = ModelBuilder::<f64>::new(4);
    let hidden =
        builder.add("hidden", GcnConv::builder(4, 3).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let shape = builder.add("shape", Activation::new(ActivationFn::Sigmoid), &[hidden]).unwrap();
    let logits = builder.add("logits", Linear::builder(3, 3).build().unwrap(), &[shape]).unwrap();
    let out = builder.add("out", Add::new(2).unwrap(), &[shape, logits]).unwrap();
    let model = builder.build(out, 0).unwrap();
    assert!(ChannelLabels::of(&model).groups().is_empty(), "every channel reaches the logits");
    assert!(matches!(random_plan(0, &model), Err(Error::Prune(PruneError::NothingToPrune { .. }))));
}

#[test]
fn the_input_is_not_pruned_even_through_a_residual_or_a_concatenation() {
    let mut builder = ModelBuilder::<f64>::new(4);
    let same =
        builder.add("same", GcnConv::builder(4, 4).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let sum = builder.add("sum", Add::new(2).unwrap(), &[same, NodeId::INPUT]).unwrap();
    let free = builder.add("free", GcnConv::builder(4, 6).build().unwrap(), &[sum]).unwrap();
    let joined = builder.add("joined", Concat::new(), &[free, NodeId::INPUT, sum]).unwrap();
    let out = builder.add("out", Linear::builder(14, 2).build().unwrap(), &[joined]).unwrap();
    let model = builder.build(out, 0).unwrap();
    let names: Vec<String> =
        ChannelLabels::of(&model).groups().iter().map(|group| group.name.clone()).collect();
    assert_eq!(names, ["free"]);
    let plan = random_plan(1, &model).unwrap();
    let graph = random_graph(1, 9);
    let x = random_sparse(1, (graph.num_nodes(), 4));
    check_mask_equals_shrink(&model, &plan, &graph, x.view()).unwrap();
    let small = plan.shrink(&model).unwrap();
    assert_eq!((small.in_channels(), small.channels(same), small.out_channels()), (4, 4, 2));
    assert!(small.channels(free) < 6);
}

#[test]
fn an_activation_that_is_not_zero_at_zero_does_not_leak() {
    let model = Gcn::builder(6, 3)
        .hidden(9)
        .layers(3)
        .activation(ActivationFn::Sigmoid)
        .residual(true)
        .dropout(0.0)
        .build(4)
        .unwrap();
    let model = model.cast::<f64>().unwrap();
    let plan = halves(Scope::Layer).plan(&model.cast().unwrap(), &data()).unwrap();
    let graph = random_graph(2, 20);
    let x = random_dense(2, (graph.num_nodes(), 6));
    check_mask_equals_shrink(&model, &plan, &graph, x.view()).unwrap();
    // The masked channel itself is 1/2 at every node; nobody reads it.
    let masked = plan.mask(&model).unwrap();
    let trace =
        masked.trace_keeping(&Cx::eval(&graph), x.view(), &[masked.node("act1").unwrap()]).unwrap();
    let hidden = trace.value(masked.node("act1").unwrap()).unwrap().to_dense();
    let gone = (0..9).find(|c| !kept_channels(&plan)["act1"].contains(c)).unwrap();
    assert!(hidden.column(gone).iter().all(|h| *h == 0.5));
}

#[test]
fn a_plan_for_another_model_is_an_error() {
    let data = data();
    let model = |hidden, layers| Gcn::builder(6, 3).hidden(hidden).layers(layers).build(0).unwrap();
    let plan = halves(Scope::Layer).plan(&model(8, 3), &data).unwrap();
    assert!(plan.shrink(&model(8, 3)).is_ok());
    let residual = Gcn::builder(6, 3).hidden(8).layers(3).residual(true).build(0).unwrap();
    let small = plan.shrink(&model(8, 3)).unwrap();
    for other in [model(10, 3), model(8, 4), model(8, 2), model(1, 3), residual, small] {
        for result in [plan.shrink(&other), plan.mask(&other)] {
            assert!(
                matches!(result, Err(Error::Prune(PruneError::OtherModel { .. }))),
                "{result:?}"
            );
        }
    }
}

#[test]
fn a_plan_edited_into_nonsense_is_an_error() {
    let model = Gcn::builder(6, 3).hidden(4).layers(3).residual(true).build(0).unwrap();
    let plan = halves(Scope::Layer).plan(&model, &data()).unwrap();
    let edited = |node: &str, kept: &[usize]| {
        let mut json = serde_json::to_value(&plan).unwrap();
        json["nodes"][node]["kept"] = kept.into();
        serde_json::from_value::<ChannelPlan>(json).unwrap().shrink(&model)
    };
    for (node, kept, reason) in [
        ("conv3", &[0, 1][..], "conv3"),      // a class is gone
        ("conv2", &[0, 9], "channel 9"),      // there are four
        ("conv2", &[], "conv2"),              // its residual partners keep some
        ("dropout1", &[0, 1, 2], "dropout1"), // a feature is gone
    ] {
        let message = edited(node, kept).unwrap_err().to_string();
        assert!(message.contains(reason), "{node}: {message}");
    }
    let mut json = serde_json::to_value(&plan).unwrap();
    for node in ["conv1", "act1", "dropout2", "conv2", "act2", "add2", "dropout3"] {
        json["nodes"][node]["kept"] = Vec::<usize>::new().into();
    }
    let emptied = serde_json::from_value::<ChannelPlan>(json).unwrap().shrink(&model).unwrap_err();
    assert!(
        matches!(emptied, Error::Prune(PruneError::EmptiesLayer { ref layer, .. }) if layer == "conv1"),
        "{emptied}"
    );
}

#[test]
fn a_masked_model_shrinks_by_its_own_plan_to_the_same_model() {
    let data = data();
    let model = Gcn::builder(6, 3)
        .hidden(8)
        .layers(3)
        .jumping(gnn_prune::models::Jumping::Concat)
        .build(2)
        .unwrap();
    let plan = halves(Scope::Layer).plan(&model, &data).unwrap();
    let masked = plan.mask(&model).unwrap();
    // Masked channels are zero, so by magnitude they go first.
    assert_eq!(halves(Scope::Layer).plan(&masked, &data).unwrap(), plan);
    let params = |model: &Model| {
        let mut all = Vec::new();
        model.visit(&mut |name, param| all.push((name.to_string(), param.value().clone())));
        all
    };
    assert_eq!(params(&plan.shrink(&masked).unwrap()), params(&plan.shrink(&model).unwrap()));
}

#[test]
fn a_model_with_masked_weights_keeps_their_masks_when_its_channels_go() {
    let model = Gcn::builder(6, 3).hidden(8).layers(3).residual(true).build(2).unwrap();
    let mut sparse = model.cast::<f64>().unwrap();
    sparse.visit_mut(&mut |param| {
        let mask = Mask::from_shape_fn(param.value().dim(), |(i, j)| (3 * i + 5 * j) % 4 != 0);
        param.restrict(&mask);
    });
    let plan = random_plan(1, &sparse).unwrap();
    let graph = random_graph(1, 9);
    let x = random_sparse(1, (graph.num_nodes(), 6));
    check_mask_equals_shrink(&sparse, &plan, &graph, x.view()).unwrap();
    let small = plan.shrink(&sparse).unwrap();
    let mut masked = 0;
    small.visit(&mut |name, param| {
        let mask = param.mask().unwrap_or_else(|| panic!("{name} lost its mask"));
        assert_eq!(mask.dim(), param.value().dim(), "{name}");
        assert!(param.value().indexed_iter().all(|(at, w)| mask[at] || *w == 0.0), "{name}");
        masked += mask.iter().filter(|keep| !**keep).count();
    });
    assert!(masked > 0);
}

#[test]
fn the_amount_is_the_share_rounded_half_to_even() {
    let data = data();
    for (hidden, ratio, kept) in
        [(5, 0.5, 3), (7, 0.5, 3), (4, 0.25, 3), (8, 0.75, 2), (8, 0.0, 8), (6, 0.25, 4)]
    {
        let model = Gcn::builder(6, 3).hidden(hidden).build(0).unwrap();
        let pruner = ChannelPruner::builder(Random::new()).ratio(ratio).build().unwrap();
        assert_eq!(
            pruner.plan(&model, &data).unwrap().groups()[0].kept,
            kept,
            "{ratio} of {hidden}"
        );
    }
}
