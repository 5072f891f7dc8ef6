//! The names of nodes and the order of edges mean nothing.

use gnn_prune::graph::{Duplicates, SelfLoops};
use gnn_prune::nn::{Cx, Registry};
use gnn_prune::testing::{
    check_permutation, random_dense, random_graph, random_model, random_sparse,
};
use gnn_prune::{Gcn, Graph};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn renaming_the_nodes_renames_the_rows_of_the_output(seed: u64, nodes in 1usize..30, channels in 1usize..6, classes in 2usize..5) {
        let model = random_model::<f64>(seed, &Registry::standard(), channels, classes);
        let graph = random_graph(seed, nodes);
        let shape = (graph.num_nodes(), channels);
        for x in [random_dense(seed, shape), random_sparse(seed, shape)] {
            check_permutation(&model, &graph, x.view()).map_err(|error| TestCaseError::fail(format!("{error}\n{model}")))?;
        }
    }

    #[test]
    fn the_order_of_edges_changes_no_bit(
        edges in prop::collection::btree_map((0usize..12, 0usize..12), 0.25f32..2.0, 0..40),
        shuffle: prop::sample::Index,
        undirected: bool,
        loops in prop::sample::select(vec![SelfLoops::Keep, SelfLoops::Add, SelfLoops::Remove]),
    ) {
        let mut edges: Vec<(usize, usize, f32)> = edges.into_iter().map(|((source, target), weight)| (source, target, weight)).collect();
        let build = |edges: &[(usize, usize, f32)]| {
            let builder = Graph::builder(12).weighted_edges(edges.iter().copied()).self_loops(loops);
            // The two directions of a pair may be listed with two weights; of two terms the sum
            // does not depend on their order.
            if undirected { builder.duplicates(Duplicates::Sum).undirected(true).build() } else { builder.build() }
        };
        let sorted = build(&edges).unwrap();
        let first = if edges.is_empty() { 0 } else { shuffle.index(edges.len()) };
        edges.rotate_left(first);
        let middle = edges.len() / 2;
        edges[middle..].reverse();
        let shuffled = build(&edges).unwrap();
        prop_assert_eq!(sorted.adjacency(), shuffled.adjacency());

        let model = Gcn::builder(3, 2).hidden(4).build(1).unwrap();
        let x = random_dense(1, (12, 3));
        let run = |graph: &Graph| model.infer(&Cx::eval(graph), x.view()).unwrap();
        prop_assert_eq!(run(&sorted), run(&shuffled));
    }
}
