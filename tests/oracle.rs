//! Every registered layer is its formula on dense matrices.

use gnn_prune::Value;
use gnn_prune::nn::{Registry, RowSpace};
use gnn_prune::testing::{
    check_oracle, random_dense, random_graph, random_layer, random_sparse, spaces_for,
};

/// Graphs and settings a layer is drawn for.
const DRAWS: u64 = 60;

#[test]
fn every_layer_is_its_formula_on_dense_and_sparse_inputs() {
    for entry in Registry::<f64>::standard().entries() {
        let mut checked = 0;
        for seed in 0..DRAWS {
            for widths in [&[3][..], &[1], &[4, 4], &[2, 2], &[2, 5], &[3, 3, 3]] {
                let graph = random_graph(seed, 15);
                let Some(layer) = random_layer(seed, entry, graph.num_nodes(), widths, 4) else {
                    continue;
                };
                let spaces = spaces_for(&*layer, widths.len());
                let draw = |(k, &width): (usize, &usize)| -> Value<f64> {
                    let rows = match spaces[k] {
                        RowSpace::Relations(count) => count as usize,
                        _ => graph.num_nodes(),
                    };
                    let (seed, shape) = (seed * 10 + k as u64, (rows, width));
                    if seed % 3 == 0 {
                        random_sparse(seed, shape)
                    } else {
                        random_dense(seed, shape)
                    }
                };
                let xs: Vec<_> =
                    widths.iter().enumerate().map(|input| draw(input).into_dense()).collect();
                check_oracle(entry, &*layer, &graph, &xs)
                    .unwrap_or_else(|error| panic!("{error}, seed {seed}, widths {widths:?}"));
                checked += 1;
            }
        }
        assert!(
            checked >= DRAWS,
            "{} accepted only {checked} of the inputs that it was offered",
            entry.kind()
        );
    }
}
