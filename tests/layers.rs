//! Layer pruning: a removed block is a block that was skipped, and what cannot go is refused by
//! name.

use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{
    Activation, ActivationFn, Add, Concat, Cx, Dropout, Linear, Mask, ModelBuilder, NodeId,
};
use gnn_prune::testing::{
    check_gradients, check_program, check_save_load, random_dense, random_graph, random_sparse,
};
use gnn_prune::{
    Ablation, Cosine, Criterion, Dataset, Error, Gcn, LayerPlan, LayerPruner, Model, PruneError,
    Trainer, nn::Registry,
};
use std::sync::Arc;

fn residual(layers: usize) -> Model {
    Gcn::builder(64, 10).hidden(12).layers(layers).residual(true).build(3).unwrap()
}

/// The same model with the weights and the bias of these layers at zero, which makes
/// `relu(conv(x))` zero: the block is skipped.
fn skipped(model: &Model, layers: &[&str]) -> Model {
    let mut names = Vec::new();
    model.visit(&mut |name, _| names.push(name.to_string()));
    let (mut model, mut k) = (model.clone(), 0);
    model.visit_mut(&mut |param| {
        if layers.iter().any(|layer| names[k].starts_with(&format!("{layer}."))) {
            param.value_mut().fill(0.0);
        }
        k += 1;
    });
    model
}

fn infer(model: &Model, data: &Dataset) -> Array2<f32> {
    model.infer(&Cx::eval(data.graph()), data.features()).unwrap()
}

fn names(model: &Model) -> Vec<&str> {
    model.nodes().iter().map(|node| node.name()).filter(|name| name.starts_with("conv")).collect()
}

#[test]
fn removing_a_block_is_skipping_it_to_the_bit() {
    let data = Dataset::digits().unwrap();
    for model in [
        residual(6),
        Gcn::builder(64, 10)
            .hidden(12)
            .layers(5)
            .residual(true)
            .jumping(gnn_prune::models::Jumping::Concat)
            .build(3)
            .unwrap(),
    ] {
        for layers in [
            vec!["conv2"],
            vec!["conv4"],
            vec!["conv5", "conv3"],
            vec!["conv2", "conv3", "conv4", "conv5"],
        ] {
            let Ok(small) = LayerPlan::of(layers.clone()).shrink(&model) else {
                panic!("{layers:?} can go")
            };
            assert_eq!(infer(&small, &data), infer(&skipped(&model, &layers), &data), "{layers:?}");
            assert_eq!(model.num_params() - small.num_params(), layers.len() * (12 * 12 + 12));
            assert_eq!((small.seed(), small.out_channels()), (model.seed(), 10));
        }
    }
}

#[test]
fn a_block_that_a_jump_reads_leaves_its_input_there_twice() {
    let model = Gcn::builder(64, 10)
        .hidden(12)
        .layers(4)
        .residual(true)
        .jumping(gnn_prune::models::Jumping::Concat)
        .build(3)
        .unwrap();
    let small = LayerPlan::of(["conv3"]).shrink(&model).unwrap();
    let jump = &small.nodes()[small.node("jump").unwrap().index() - 1];
    let inputs: Vec<&str> = jump.inputs().iter().map(|&id| small.name_of(id)).collect();
    assert_eq!(inputs, ["act1", "add2", "add2", "add4"]);
    let small = small.cast::<f64>().unwrap();
    let graph = random_graph(1, 12);
    let x = random_dense(2, (graph.num_nodes(), 64));
    check_gradients(&small, &graph, x.view(), 1).unwrap();
    check_program(&small, &graph, x.view()).unwrap();
    check_save_load(&small, &Registry::standard()).unwrap();
}

#[test]
fn both_criteria_plan_exact_numbers_and_their_plans_replay() {
    let data = Dataset::digits().unwrap();
    let model = Trainer::builder().epochs(15).build().unwrap().fit(residual(7), &data).unwrap();
    let both: [Arc<dyn Criterion<f32>>; 2] = [Arc::new(Ablation::new()), Arc::new(Cosine::new())];
    for criterion in both {
        for k in [1, 3, 5] {
            let plan = LayerPruner::builder(criterion.clone())
                .remove(k)
                .build()
                .unwrap()
                .plan(&model, &data)
                .unwrap();
            assert_eq!(plan.removed().len(), k);
            let small = plan.shrink(&model).unwrap();
            assert_eq!(names(&small).len(), 7 - k, "{plan}");
            assert_eq!(small.origin(), model.origin());
            let back: LayerPlan =
                serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
            assert_eq!(
                (names(&back.shrink(&model).unwrap()), back.to_string()),
                (names(&small), plan.to_string())
            );
            let tuned = Trainer::builder()
                .epochs(3)
                .keep_start(true)
                .build()
                .unwrap()
                .fit(small, &data)
                .unwrap();
            check_save_load(&tuned, &Registry::standard()).unwrap();
        }
        let too_many = LayerPruner::builder(criterion.clone())
            .remove(6)
            .build()
            .unwrap()
            .plan(&model, &data)
            .unwrap_err();
        assert!(
            matches!(&too_many, Error::Setting { legal, .. } if legal.starts_with("at most 5")),
            "{too_many}"
        );
    }
    assert!(matches!(
        LayerPruner::<f32>::builder(Cosine::new()).remove(0).build(),
        Err(Error::Setting { .. })
    ));
}

#[test]
fn a_block_that_does_nothing_goes_first_by_either_criterion() {
    let data = Dataset::digits().unwrap();
    let model = Trainer::builder().epochs(15).build().unwrap().fit(residual(6), &data).unwrap();
    let model = skipped(&model, &["conv4"]);
    let plan = LayerPruner::builder(Cosine::new()).build().unwrap().plan(&model, &data).unwrap();
    assert_eq!(plan.removed()[0].name, "conv4");
    assert!(plan.removed()[0].score.unwrap().abs() < 1e-6);
    let plan = LayerPruner::builder(Ablation::new()).build().unwrap().plan(&model, &data).unwrap();
    let removed = &plan.removed()[0];
    assert!(removed.score.unwrap() <= 0.0, "{plan}");
    assert_eq!(plan.shrink(&model).unwrap().node(&removed.name), None);
}

#[test]
fn illegal_removals_are_refused_by_name() {
    let refused =
        |model: &Model, names: &[&str], name: &str, why: &str| match LayerPlan::of(names.to_vec())
            .shrink(model)
        {
            Err(Error::Prune(PruneError::Refused { layer, reason })) => {
                assert_eq!(layer, name);
                assert!(reason.contains(why), "{reason}");
            }
            other => panic!("{names:?}: {other:?}"),
        };
    let model = residual(6);
    refused(&model, &["conv6"], "conv6", "the model's output");
    refused(&model, &["conv1"], "conv1", "it makes 12 channels of 64");
    refused(&model, &["conv9"], "conv9", "no such layer");
    refused(&model, &["input"], "input", "no such layer");
    refused(&model, &["conv3", "conv3"], "conv3", "taken it along");
    refused(&model, &["conv3", "add3"], "add3", "taken it along");
    let plain = Gcn::builder(64, 10).hidden(12).layers(6).build(3).unwrap();
    refused(&plain, &["conv3"], "conv3", "no skip connection");
    let data = Dataset::digits().unwrap();
    let none =
        LayerPruner::builder(Cosine::new()).build().unwrap().plan(&plain, &data).unwrap_err();
    assert!(matches!(none, Error::Setting { .. }), "{none}");
}

/// A model of one block `y = a·x + b·f(x)`, whose inner layer may be read from outside, and two
/// layers after it.
fn one_block(coefficients: [f64; 2], leaks: bool) -> Model {
    let mut b = ModelBuilder::<f32>::new(3);
    let x = b.add("first", Linear::builder(3, 4).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let f = b.add("inner", Linear::builder(4, 4).build().unwrap(), &[x]).unwrap();
    let f = b.add("act", Activation::new(ActivationFn::Relu), &[f]).unwrap();
    let y = b.add("sum", Add::with_coefficients(coefficients.to_vec()).unwrap(), &[f, x]).unwrap();
    let read = if leaks { b.add("both", Concat::new(), &[y, f]).unwrap() } else { y };
    let out = b.add("out", Linear::builder(b.channels(read), 2).build().unwrap(), &[read]).unwrap();
    b.build(out, 0).unwrap()
}

#[test]
fn only_a_plain_sum_around_private_layers_is_a_block() {
    let small = LayerPlan::of(["act"]).shrink(&one_block([1.0, 1.0], false)).unwrap();
    assert_eq!(small.nodes().iter().map(|node| node.name()).collect::<Vec<_>>(), ["first", "out"]);
    for (coefficients, leaks) in [([1.0, 1.0], true), ([0.5, 1.0], false), ([1.0, 0.9], false)] {
        let refused = LayerPlan::of(["inner"]).shrink(&one_block(coefficients, leaks)).unwrap_err();
        assert!(
            matches!(&refused, Error::Prune(PruneError::Refused { layer, .. }) if layer == "inner"),
            "{refused}"
        );
    }
}

#[test]
fn an_outer_block_takes_the_inner_one_along() {
    let mut b = ModelBuilder::<f32>::new(4);
    let x = b.add("first", Linear::builder(4, 4).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let f = b.add("a", Linear::builder(4, 4).build().unwrap(), &[x]).unwrap();
    let g = b.add("b", Linear::builder(4, 4).build().unwrap(), &[f]).unwrap();
    let inner = b.add("inner", Add::new(2).unwrap(), &[f, g]).unwrap();
    let outer = b.add("outer", Add::new(2).unwrap(), &[x, inner]).unwrap();
    let out = b.add("out", Linear::builder(4, 2).build().unwrap(), &[outer]).unwrap();
    let model = b.build(out, 0).unwrap();
    let left = |name| LayerPlan::of([name]).shrink(&model).unwrap().nodes().len();
    assert_eq!((left("b"), left("inner"), left("a"), left("outer")), (4, 4, 2, 2));
    assert!(
        LayerPlan::of(["a", "b"])
            .shrink(&model)
            .unwrap_err()
            .to_string()
            .contains("taken it along")
    );
}

#[test]
fn masks_and_parameters_of_the_other_layers_stay() {
    let mut model = residual(5);
    model.visit_mut(&mut |param| {
        if param.name() == "weight" {
            param.restrict(&Mask::from_shape_fn(param.value().dim(), |(i, j)| (i + j) % 3 == 0));
        }
    });
    let small = LayerPlan::of(["conv3"]).shrink(&model).unwrap();
    let all = |model: &Model| {
        let mut all = Vec::new();
        model.visit(&mut |name, param| {
            all.push((name.to_string(), param.value().clone(), param.mask().cloned()))
        });
        all
    };
    let expected: Vec<_> =
        all(&model).into_iter().filter(|(name, ..)| !name.starts_with("conv3.")).collect();
    assert_eq!(all(&small), expected);
}

#[test]
fn a_model_of_layers_that_change_nothing_is_compiled() {
    let mut b = ModelBuilder::<f64>::new(3);
    let first = b.add("first", Dropout::new(0.5).unwrap(), &[NodeId::INPUT]).unwrap();
    let last = b.add("last", Dropout::new(0.1).unwrap(), &[first]).unwrap();
    let model = b.build(last, 0).unwrap();
    let graph = random_graph(1, 5);
    let shape = (graph.num_nodes(), 3);
    for x in [random_dense(1, shape), random_sparse(1, shape)] {
        check_program(&model, &graph, x.view()).unwrap();
    }
}
