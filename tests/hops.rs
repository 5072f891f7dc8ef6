//! Hops that go: what a layer is without its neighbours, which go, and what is solved again.

use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Cx, Layer, Registry, SageConv};
use gnn_prune::prune::{Compensation, HopPlan, HopPruner};
use gnn_prune::task::{Part, Task, evaluate};
use gnn_prune::testing::{check_gradients, check_program, check_save_load, random_dense};
use gnn_prune::{
    Ablation, Dataset, Gat, Gcn, Gcn2, Gin, Graph, LightGcn, Model, Random, Sage, Trainer, Value,
};

/// Sums of the same numbers in another order, in double precision.
const TOLERANCE: f64 = 1e-10;

/// A graph whose only edges are a self-loop at each node.
fn alone(nodes: usize) -> Graph<f64> {
    let loops = (0..nodes).map(|i| (i, i));
    Graph::<f32>::builder(nodes).edges(loops).build().unwrap().cast()
}

fn apart(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn without_graph(model: &Model<f64>, x: &Value<f64>) -> Array2<f64> {
    model.infer(&Cx::without_graph(), x.view()).unwrap()
}

fn all_hops(model: &Model<f64>) -> Vec<String> {
    let hops = model.iter().filter(|(_, node)| !node.layer().without_hop().is_empty());
    hops.map(|(_, node)| node.name().to_string()).collect()
}

/// The same network with no parameter at what it is drawn as.
fn moved(model: Model) -> Model<f64> {
    let mut model = model.cast::<f64>().unwrap();
    let mut number = 0;
    model.visit_mut(&mut |param| {
        number += 1;
        let shift = random_dense::<f64>(number, param.value().dim()).into_dense();
        param.value_mut().scaled_add(0.2, &shift);
    });
    model
}

#[test]
fn attention_and_convolution_without_a_hop_are_themselves_where_everybody_is_alone() {
    let gcn = Gcn::builder(5, 3).hidden(6).layers(3).build(1).unwrap();
    let gat = Gat::builder(5, 3).hidden(4).heads(2).build(2).unwrap();
    let gatv2 = Gat::builder(5, 3).hidden(4).heads(2).v2(true).build(2).unwrap();
    let x = random_dense::<f64>(7, (12, 5));
    let graph = alone(12);
    for model in [gcn, gat, gatv2].map(moved) {
        let left = HopPlan::of(all_hops(&model)).remove(&model).unwrap();
        let expected = model.infer(&Cx::eval(&graph), x.view()).unwrap();
        let off = apart(&without_graph(&left, &x), &expected);
        assert!(off < TOLERANCE, "{off}\n{left}");
        assert!(left.nodes().iter().all(|node| node.layer().without_hop().is_empty()));
        check_save_load(&left, &Registry::standard()).unwrap();
        check_gradients(&left, &graph, x.view(), 1).unwrap();
        check_program(&left, &graph, x.view()).unwrap();
    }
}

#[test]
fn gin_without_a_hop_is_its_inner_network_of_the_node_itself() {
    let model = moved(Gin::builder(5, 3).hidden(6).build(1).unwrap());
    let x = random_dense::<f64>(7, (12, 5));
    let left = HopPlan::of(all_hops(&model)).remove(&model).unwrap();
    let nobody = Graph::<f32>::builder(12).build().unwrap().cast();
    let expected = model.infer(&Cx::eval(&nobody), x.view()).unwrap();
    let off = apart(&without_graph(&left, &x), &expected);
    assert!(off < TOLERANCE, "{off}\n{left}");
    check_gradients(&left, &nobody, x.view(), 1).unwrap();
}

#[test]
fn sage_takes_the_form_that_is_closer() {
    let layer = SageConv::builder(5, 3).build::<f64>().unwrap();
    assert_eq!(layer.without_hop().len(), 2);
    let form = |data: &Dataset<f64>| {
        let model = moved(Sage::builder(8, 3).hidden(6).layers(1).build(4).unwrap());
        let pruner = HopPruner::builder(Ablation::new()).build().unwrap();
        pruner.plan(&model, data).unwrap().removed()[0].form
    };
    let data = Dataset::sbm(180, 3).features(8).seed(3).build().unwrap().cast::<f64>();
    // Who has nobody takes nothing from the weight of neighbours; who has only itself all of it.
    let nobody = Graph::<f32>::builder(180).build().unwrap().cast();
    assert_eq!(form(&data.clone().with_graph(nobody).unwrap()), 0);
    assert_eq!(form(&data.with_graph(alone(180)).unwrap()), 1);
}

#[test]
fn least_squares_brings_what_is_left_closer_and_a_hop_that_does_nothing_costs_nothing() {
    let data = Dataset::sbm(240, 3).features(16).seed(1).build().unwrap();
    let trainer = Trainer::builder().epochs(20).build().unwrap();
    for model in [
        Gcn::builder(16, 3).hidden(12).layers(2).build(1).unwrap(),
        Gat::builder(16, 3).hidden(6).heads(2).build(1).unwrap(),
        // Nothing comes after: it is the layer's own output that is solved for.
        Gat::builder(16, 3).heads(2).layers(1).build(1).unwrap(),
        Gin::builder(16, 3).hidden(12).build(1).unwrap(),
        Sage::builder(16, 3).hidden(12).build(1).unwrap(),
    ] {
        let model = trainer.fit(model, &data).unwrap();
        let logits = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let far = |other: &Model| (logits(other) - logits(&model)).mapv(|v| v * v).sum();
        let pruner = HopPruner::builder(Ablation::new());
        let refitted = pruner.clone().build().unwrap().prune(&model, &data).unwrap();
        let plain = pruner.compensation(Compensation::None).build().unwrap();
        let plain = plain.prune(&model, &data).unwrap();
        assert!(far(&refitted) < 0.7 * far(&plain), "{} {}", far(&refitted), far(&plain));
        let same = |model: &Model| {
            model.infer(&Cx::without_graph(), data.features()).unwrap() == logits(model)
        };
        assert!(same(&refitted) && same(&plain), "no edge is read");
    }
    let model = moved(Gcn::builder(16, 3).hidden(12).build(1).unwrap());
    let lonely = data.clone().cast::<f64>().with_graph(alone(240)).unwrap();
    let pruner = HopPruner::builder(Ablation::new()).build().unwrap();
    let left = pruner.prune(&model, &lonely).unwrap();
    let x = lonely.features();
    let expected = model.infer(&Cx::eval(lonely.graph()), x).unwrap();
    let found = left.infer(&Cx::without_graph(), x).unwrap();
    assert!(apart(&found, &expected) < 1e-8, "the ridge pulls towards what is there");
}

#[test]
fn the_hop_that_validation_misses_least_goes_first_and_chance_takes_others() {
    let data = Dataset::sbm(300, 3).features(8).seed(5).build().unwrap();
    let model = Gcn::builder(8, 3).hidden(8).layers(4).build(2).unwrap();
    let model = Trainer::builder().epochs(30).build().unwrap().fit(model, &data).unwrap();
    let pruner = HopPruner::builder(Ablation::new()).remove(2).build().unwrap();
    let plan = pruner.plan(&model, &data).unwrap();
    let validation = |names: &[&str]| {
        let left = HopPlan::of(names.iter().copied()).remove(&model).unwrap();
        evaluate(&left, &data, Part::Validation).unwrap()
    };
    let whole = evaluate(&model, &data, Part::Validation).unwrap();
    let first = &plan.removed()[0];
    let names = all_hops(&model.cast().unwrap());
    let best = names.iter().map(|name| validation(&[name])).fold(0.0, f64::max);
    assert_eq!(validation(&[&first.name]), best);
    assert!((first.score.unwrap() - (whole - best)).abs() < 1e-9);
    let second = &plan.removed()[1];
    let both = validation(&[&first.name, &second.name]);
    assert!((second.score.unwrap() - (whole - both)).abs() < 1e-9);
    let chance = pruner.with_criterion(Random::new());
    let drawn = |seed| chance.with_seed(seed).plan(&model, &data).unwrap();
    assert_eq!(drawn(3), drawn(3));
    assert!((0..8).any(|seed| drawn(seed) != drawn(3)));
}

#[test]
fn what_cannot_do_without_is_refused_by_name() {
    let data = Dataset::sbm(120, 2).features(4).build().unwrap();
    let deep = Gcn2::builder(4, 2).hidden(4).layers(2).build(0).unwrap();
    let all = HopPruner::builder(Ablation::new()).build().unwrap();
    let refused = all.rehearse(&deep, &data).unwrap_err().to_string();
    assert!(refused.contains("at most 0"), "{refused}");
    let model = Gcn::builder(4, 2).hidden(4).build(0).unwrap();
    let three = HopPruner::builder(Ablation::new()).remove(3).build().unwrap();
    let refused = three.plan(&model, &data).unwrap_err().to_string();
    assert!(refused.contains("hops to remove is 3") && refused.contains("at most 2"), "{refused}");
    for (names, reason) in [
        (vec!["conv9"], "no such layer"),
        (vec!["conv1", "conv1"], "names it twice"),
        (vec!["dropout1"], "dropout, has no form"),
    ] {
        let refused = HopPlan::of(names).remove(&model).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    assert!(HopPruner::<f32>::builder(Ablation::new()).remove(0).build().is_err());
}

#[test]
fn an_encoder_of_relations_keeps_the_weight_of_the_node_itself_or_is_refused() {
    use gnn_prune::models::{Encoder, Links};
    use gnn_prune::nn::Composition;
    use gnn_prune::nn::decode::Form;
    use gnn_prune::task::LinkTask;
    let (facts, _) = crate::links::days(Form::DistMult, 4);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let model = |encoder| {
        let builder = Links::builder(28, 4).edge_types(4).channels(6).encoder(encoder);
        builder.build(3).unwrap()
    };
    let all = HopPruner::builder(Ablation::new()).build().unwrap();
    let rgcn = model(Encoder::Rgcn { bases: 2, blocks: 1 });
    let left = all.prune(&rgcn, &task).unwrap();
    let kinds: Vec<&str> = left.nodes().iter().map(|node| node.layer().kind()).collect();
    assert!(kinds.contains(&"linear") && !kinds.contains(&"rgcn_conv"), "{kinds:?}");
    let batch = task.whole().unwrap();
    let without = Cx::without_graph();
    assert!(left.infer(&without.within(batch.spaces()), batch.features()).is_ok());
    let compgcn = model(Encoder::CompGcn { composition: Composition::Product });
    let refused = all.rehearse(&compgcn, &task).unwrap_err().to_string();
    assert!(refused.contains("hops to remove is all") && refused.contains("at most 0"));
}

#[test]
fn recommendation_without_hops_scores_the_tables() {
    use gnn_prune::data::Interactions;
    use gnn_prune::task::RecommendTask;
    let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user + k * 3) % 30).collect() };
    let later = |user: u32| vec![(user + 1) % 30];
    let (own, later) = ((0..20).map(own).collect(), (0..20).map(later).collect());
    let task = RecommendTask::builder(Interactions::new("t", 30, own, later).unwrap());
    let task = task.build().unwrap();
    let model = LightGcn::builder(50).channels(8).layers(3).build(0).unwrap();
    let pruner = HopPruner::builder(Ablation::new()).build().unwrap();
    let left = pruner.prune(&model, &task).unwrap();
    let batch = task.whole().unwrap();
    let without = Cx::without_graph();
    let scores = left.infer(&without.within(batch.spaces()), batch.features()).unwrap();
    let mut table = Array2::zeros((0, 0));
    left.visit(&mut |_, param| table = param.value().clone());
    let user = table.row(0);
    assert!((scores[[0, 0]] - user.dot(&table.row(20))).abs() < 1e-6, "{}", scores[[0, 0]]);
    let mut was = Array2::zeros((0, 0));
    model.visit(&mut |_, param| was = param.value().clone());
    assert_eq!(table, was);
}
