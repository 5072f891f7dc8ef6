//! The laws of the crate as functions, so that a layer written elsewhere stands under the same
//! contract as the crate's own.
//!
//! They are there with the feature `testing`, which tests alone need:
//!
//! ```toml
//! [dev-dependencies]
//! gnn-prune = { path = "../gnn-prune", features = ["testing"] }
//! ```
//!
//! The `random_*` functions and [`models_around`] draw from a seed; the `check_*` functions return
//! `Err` with the place and the numbers where a law is broken. A test of one's own layer:
//!
//! ```
//! use gnn_prune::nn::{Linear, Registry};
//! use gnn_prune::testing::{check_gradients, check_mask_equals_shrink, models_around, random_dense, random_graph, random_plan};
//!
//! let registry = Registry::<f64>::standard().with::<Linear<f64>>(); // one's own layer in its place
//! let entry = registry.entries().last().expect("it was just added");
//! let graph = random_graph(1, 8);
//! for model in models_around(1, entry, graph.num_nodes(), 3, 2) {
//!     let x = random_dense(1, (graph.num_nodes(), 3));
//!     check_gradients(&model, &graph, x.view(), 1)?;
//!     if let Ok(plan) = random_plan(1, &model) {
//!         check_mask_equals_shrink(&model, &plan, &graph, x.view())?;
//!     }
//! }
//! # Ok::<(), String>(())
//! ```

mod checks;
mod gradients;
mod linear_maps;
mod pruning;
mod random;

pub use checks::{
    check_determinism, check_nan, check_oracle, check_permutation, check_program, check_save_load,
};
pub use gradients::check_gradients;
pub use linear_maps::check_linear_maps;
pub use pruning::check_mask_equals_shrink;
pub use random::{
    RANDOM_EDGE_DIM, RANDOM_EDGE_TYPES, RANDOM_RELATIONS, models_around, random_dense,
    random_graph, random_layer, random_model, random_plan, random_sparse, spaces_for,
};

use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Model, Queries, Query, Rows};
use crate::rng::hash;
use crate::scalar::Scalar;
use crate::value::{Csr, ValueRef};
use ndarray::ArrayView2;

/// Relative error that two orders of the same f64 sums may show: sums of some hundred terms are
/// good to about 1e-13, and a product of six layers may lose two digits more.
const SAME_NUMBERS: f64 = 1e-10;

/// Matrices whose entries are all smaller are compared as if one was as large: what should cancel
/// to zero is compared with what it is made of.
const LEAST_SCALE: f64 = 1e-4;

/// The first word of every generator's key here, so that no stream of the crate is shared.
const TESTING: u64 = 0x7465_7374;

/// What the laws' batches on `graph` have beside it. For layers whose rows are pairs: queries about
/// its nodes, each with a few candidates where the number of nodes is even (of its own, or all but
/// one the same), and with all otherwise.
/// For layers whose rows are graphs: each node is of one of about half as many graphs, of which
/// some have no node.
///
/// # Panics
/// If the graph has no node, which none is.
pub fn rows_on<F: Scalar>(graph: &Graph<F>) -> Rows<F> {
    let n = graph.num_nodes() as u32;
    let query = |k: u32| Query { node: (5 * k + 1) % n, relation: k % 3, inverse: k % 2 == 1 };
    let queries: Vec<Query> = (0..4).map(query).collect();
    let some = |count: u32| (0..count).map(|k| (3 * k + 2) % n).collect::<Vec<_>>();
    let asked = match n % 4 {
        0 => Queries::beside(queries, some(4), some(3)),
        2 => Queries::each(queries, 2, some(8)),
        _ => Queries::among(queries, 0..n),
    };
    let count = n / 2 + 1;
    let drawn = |i: u32| (hash(n.into(), &[TESTING, i.into()]) % u64::from(count)) as u32;
    let graph_of: Vec<u32> = (0..n).map(drawn).collect();
    let rows = Rows::new().queries(asked.expect("a graph has nodes"));
    rows.graphs(graph_of, count as usize).expect("graphs are drawn below their number")
}

/// The same where node `order[k]` has become node `k`.
fn renamed_rows<F: Scalar>(rows: &Rows<F>, order: &[u32]) -> Rows<F> {
    let mut place = vec![0; order.len()];
    (0..).zip(order).for_each(|(k, &node)| place[node as usize] = k);
    let asked = rows.asked().expect("they ask about pairs");
    let queries: Vec<Query> = asked
        .queries()
        .iter()
        .map(|query| Query { node: place[query.node as usize], ..*query })
        .collect();
    let pairs = 0..asked.num_pairs();
    let nodes: Vec<u32> = pairs.map(|k| place[asked.pair(k)[1] as usize]).collect();
    let asked = Queries::each(queries, asked.count(), nodes).expect("as many as before");
    let (graph_of, count) = rows.graph_of_nodes().expect("they say the graph of each node");
    let graph_of: Vec<u32> = order.iter().map(|&node| graph_of[node as usize]).collect();
    Rows::new().queries(asked).graphs(graph_of, count).expect("as many as before")
}

/// Errors of the crate as a law's words.
fn words(error: Error) -> String {
    error.to_string()
}

/// `max |a − b| ≤ tolerance · max |b|`, which NaN never meets; a maximum below [`LEAST_SCALE`]
/// counts as that.
fn agree<F: Scalar>(
    law: &str,
    found: ArrayView2<F>,
    expected: ArrayView2<F>,
    tolerance: f64,
) -> Result<(), String> {
    if found.dim() != expected.dim() {
        return Err(format!("{law}: shape {:?}, expected {:?}", found.dim(), expected.dim()));
    }
    let scale = expected.iter().fold(LEAST_SCALE, |scale: f64, v| scale.max(v.as_f64().abs()));
    let same = |a: F, b: F| (a - b).as_f64().abs() <= tolerance * scale;
    match found.indexed_iter().find(|(at, a)| !same(**a, expected[*at])) {
        None => Ok(()),
        Some((at, a)) => {
            Err(format!("{law}: {a} at {at:?}, expected {}; the largest is {scale}", expected[at]))
        }
    }
}

/// Numbers as bits; single precision is widened first, which loses nothing.
fn bits<'a, F: Scalar>(values: impl IntoIterator<Item = &'a F>) -> Vec<u64> {
    values.into_iter().map(|v| v.as_f64().to_bits()).collect()
}

/// Full name, bits of the value, mask, and whether it trains, of every parameter.
fn parameters<F: Scalar>(
    model: &Model<F>,
) -> Vec<(String, Vec<u64>, Option<crate::nn::Mask>, bool)> {
    let mut all = Vec::new();
    model.visit(&mut |name, param| {
        all.push((
            name.to_string(),
            bits(param.value()),
            param.mask().cloned(),
            param.is_trainable(),
        ))
    });
    all
}

/// The same matrix with only its non-zeros stored.
fn sparse<F: Scalar>(x: &ValueRef<F>) -> Csr<F> {
    match x {
        ValueRef::Sparse(x) => x.to_owned(),
        ValueRef::Dense(x) => crate::kernels::stored_entries(x.view()),
    }
}
