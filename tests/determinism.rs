//! The same seed gives the same bits, on any number of threads and in every run.

use gnn_prune::nn::Registry;
use gnn_prune::testing::{
    check_determinism, random_dense, random_graph, random_model, random_sparse,
};
use gnn_prune::{ChannelPruner, Dataset, Gcn, Graph, Magnitude, Model, Trainer};

/// Three and seven divide nothing evenly.
const THREADS: [usize; 5] = [1, 1, 2, 3, 7];

fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn bits(model: &Model) -> Vec<u32> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| all.extend(param.value().iter().map(|w| w.to_bits())));
    all
}

#[test]
fn a_whole_training_has_the_same_bits_on_any_number_of_threads_and_in_every_run() {
    let data = Dataset::sbm(3000, 4).seed(1).build().unwrap();
    let train = || {
        let model = Gcn::builder(data.num_features(), 4)
            .hidden(24)
            .layers(3)
            .residual(true)
            .jumping(gnn_prune::models::Jumping::Concat)
            .build(5)
            .unwrap();
        let fit = Trainer::builder()
            .epochs(6)
            .build()
            .unwrap()
            .fit_with(model, &data, gnn_prune::train::Setup::new())
            .unwrap();
        let losses: Vec<u64> = fit.losses.iter().map(|loss| loss.to_bits()).collect();
        (bits(&fit.model), losses, fit.best_epoch)
    };
    let expected = on(THREADS[0], train);
    for threads in &THREADS[1..] {
        assert!(on(*threads, train) == expected, "training on {threads} threads gives other bits");
    }
}

#[test]
fn a_plan_by_gradients_is_the_same_on_any_number_of_threads() {
    let data = Dataset::sbm(2000, 3).seed(2).build().unwrap();
    let model = Gcn::builder(data.num_features(), 3).hidden(32).layers(3).build(5).unwrap();
    let plan = |taylor: bool| {
        let builder = if taylor {
            ChannelPruner::builder(gnn_prune::Taylor::new())
        } else {
            ChannelPruner::builder(Magnitude::l2())
        };
        builder.ratio(0.4).build().unwrap().plan(&model, &data).unwrap()
    };
    for taylor in [false, true] {
        let expected = on(THREADS[0], || plan(taylor));
        THREADS.iter().for_each(|&threads| {
            assert_eq!(on(threads, || plan(taylor)), expected, "{threads} threads")
        });
    }
}

#[test]
fn output_gradients_and_program_of_random_networks_have_the_same_bits_in_both_precisions() {
    for seed in 0..25 {
        let small = random_model::<f64>(seed, &Registry::standard(), 5, 3);
        let graph = random_graph(seed, 40);
        let x = random_sparse(seed, (graph.num_nodes(), 5));
        check_determinism(&small, &graph, x.view())
            .unwrap_or_else(|error| panic!("{error}, seed {seed}\n{small}"));
        // Large enough that work is cut between threads.
        let wide = random_model::<f32>(seed, &Registry::standard(), 37, 3);
        let graph = random_graph(seed, 4000);
        let x = random_dense(seed, (graph.num_nodes(), 37));
        check_determinism(&wide, &graph, x.view())
            .unwrap_or_else(|error| panic!("{error}, seed {seed}\n{wide}"));
    }
}

#[test]
fn wide_layers_on_a_graph_with_a_hub_have_the_same_bits() {
    let nodes = 20_001;
    let hub = (1..nodes).map(|k| (k, 0)).chain((1..nodes).map(|k| (k, k / 2)));
    let graph: Graph = Graph::builder(nodes).edges(hub).build().unwrap();
    let model = Gcn::builder(33, 7).hidden(65).layers(3).build(1).unwrap();
    let dense = random_dense(1, (nodes, 33));
    let sparse = random_sparse(1, (nodes, 33));
    for x in [dense, sparse] {
        check_determinism(&model, &graph, x.view()).unwrap();
    }
}
