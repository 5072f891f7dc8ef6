//! Gradients by hand are the derivatives: f64 central differences agree within 1e-6 relative, on
//! dense and sparse features, in evaluation and in training mode.

use gnn_prune::nn::Registry;
use gnn_prune::testing::{
    check_gradients, random_dense, random_graph, random_model, random_sparse,
};
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

#[test]
fn gradients_of_parameters_do_not_depend_on_whether_the_inputs_is_asked_for() {
    use gnn_prune::nn::{Concat, Cx, Linear, Mode, ModelBuilder, NodeId};
    let mut b = ModelBuilder::<f64>::new(4);
    let hidden = b.add("hidden", Linear::builder(4, 3).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let both = b.add("both", Concat::new(), &[NodeId::INPUT, hidden]).unwrap();
    let out = b.add("out", Linear::builder(7, 2).build().unwrap(), &[both]).unwrap();
    let joined = b.build(out, 1).unwrap();
    let random = (0..100).map(|seed| random_model::<f64>(seed, &Registry::standard(), 4, 2));
    for (seed, model) in std::iter::once(joined).chain(random).enumerate() {
        let graph = random_graph::<f64>(seed as u64, 9);
        let x = random_dense::<f64>(seed as u64, (graph.num_nodes(), 4));
        let cx = Cx::eval(&graph).with_mode(Mode::Train { seed: 1, step: 1 });
        let trace = || model.trace(&cx, x.view()).unwrap();
        let seeds = [(model.output(), trace().output().mapv(|y| y - 0.25))];
        let (asked, _) = model.backward_to_input(&cx, trace(), &seeds).unwrap();
        let plain = model.backward(&cx, trace(), &seeds).unwrap();
        model.visit(&mut |name, param| {
            // What does not train has no gradient in training.
            if param.is_trainable() {
                assert_eq!(plain.get(param.id()), asked.get(param.id()), "{name}\n{model}");
            }
        });
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
    check(Gcn::builder(5, 3).hidden(6).layers(3).residual(true).build(2).unwrap());
    check(
        Gcn::builder(5, 3)
            .hidden(4)
            .layers(4)
            .residual(true)
            .jumping(gnn_prune::models::Jumping::Concat)
            .dropout(0.2)
            .build(3)
            .unwrap(),
    );
    check(Mlp::builder(5, 3).hidden(6).layers(3).dropout(0.0).build(4).unwrap());
}

#[test]
fn frozen_parameters_do_not_stop_the_gradients_of_others() {
    let mut model = Gcn::builder(4, 3).hidden(5).layers(3).dropout(0.0).build(1).unwrap();
    for (name, param) in model.params_mut() {
        param.set_trainable(!name.starts_with("conv2."));
    }
    check(model);
}

#[test]
fn a_value_that_two_layers_read_keeps_its_sign_while_one_of_them_still_needs_it() {
    use gnn_prune::nn::{Activation, ActivationFn, Add, Dropout, Linear, ModelBuilder, NodeId};
    for first_reader_drops in [false, true] {
        let mut b = ModelBuilder::<f32>::new(5);
        let x = b.add("first", Linear::builder(5, 6).build().unwrap(), &[NodeId::INPUT]).unwrap();
        let h = b.add("act", Activation::new(ActivationFn::Relu), &[x]).unwrap();
        // The last reader may work where its input lies.
        let mut readers = Vec::new();
        for drops in [first_reader_drops, !first_reader_drops] {
            readers.push(match drops {
                true => b.add("drop", Dropout::new(0.5).unwrap(), &[h]).unwrap(),
                false => b.add("second", Linear::builder(6, 6).build().unwrap(), &[h]).unwrap(),
            });
        }
        // A reader that needs no values itself, before the one that may overwrite them.
        let early = b.add("early", Add::new(2).unwrap(), &[h, x]).unwrap();
        readers.push(early);
        readers.push(b.add("last", Dropout::new(0.4).unwrap(), &[h]).unwrap());
        let sum = b.add("sum", Add::new(4).unwrap(), &readers).unwrap();
        let out = b.add("out", Linear::builder(6, 3).build().unwrap(), &[sum]).unwrap();
        check(b.build(out, 3).unwrap());
    }
    // The same without a reader that would have the value kept as a whole.
    let mut b = ModelBuilder::<f32>::new(5);
    let x = b.add("first", Linear::builder(5, 6).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let h = b.add("act", Activation::new(ActivationFn::Relu), &[x]).unwrap();
    let early = b.add("early", Add::new(2).unwrap(), &[h, x]).unwrap();
    let last = b.add("last", Dropout::new(0.5).unwrap(), &[h]).unwrap();
    let sum = b.add("sum", Add::new(2).unwrap(), &[early, last]).unwrap();
    let out = b.add("out", Linear::builder(6, 3).build().unwrap(), &[sum]).unwrap();
    check(b.build(out, 3).unwrap());
}
