//! Gradients by hand are the derivatives: f64 central differences agree within 1e-6 relative, on dense and sparse features, in evaluation
//! and in training mode.

use gnn_prune::nn::Registry;
use gnn_prune::testing::{check_gradients, random_dense, random_graph, random_model, random_sparse};
use gnn_prune::{Gcn, Mlp, Model};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Random networks to check; some of them have only one layer.
const NETWORKS: u32 = 200;

proptest! {
    #![proptest_config(ProptestConfig { cases: NETWORKS, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn random_networks_have_the_gradients_that_differences_give(seed: u64, nodes in 1usize..10, channels in 1usize..6, classes in 2usize..5) {
        let model = random_model::<f64>(seed, &Registry::standard(), channels, classes);
        let graph = random_graph(seed, nodes);
        let shape = (graph.num_nodes(), channels);
        let x = if seed % 2 == 0 { random_dense(seed, shape) } else { random_sparse(seed, shape) };
        check_gradients(&model, &graph, x.view(), seed).map_err(|error| TestCaseError::fail(format!("{error}\n{model}")))?;
    }
}

fn check(model: Model) {
    let model = model.cast::<f64>().unwrap();
    let graph = random_graph(3, 12);
    let x = random_dense(5, (graph.num_nodes(), model.in_channels()));
    check_gradients(&model, &graph, x.view(), 7).unwrap_or_else(|error| panic!("{error}\n{model}"));
}

#[test]
fn recipes_have_the_gradients_that_differences_give() {
    check(Gcn::builder(5, 3).hidden(6).layers(1).build(1).unwrap());
    check(Gcn::builder(5, 3).hidden(6).layers(3).residual().build(2).unwrap());
    check(Gcn::builder(5, 3).hidden(4).layers(4).residual().jumping_concat().dropout(0.2).build(3).unwrap());
    check(Mlp::builder(5, 3).hidden(6).layers(3).dropout(0.0).build(4).unwrap());
}

#[test]
fn frozen_parameters_do_not_stop_the_gradients_of_others() {
    let mut model = Gcn::builder(4, 3).hidden(5).layers(3).dropout(0.0).build(1).unwrap();
    let mut index = 0;
    model.visit_mut(&mut |param| {
        // The middle layer's two parameters.
        param.set_trainable(!(2..4).contains(&index));
        index += 1;
    });
    check(model);
}
