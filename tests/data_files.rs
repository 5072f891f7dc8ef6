//! Public data sets have the sizes that their papers give, read from the folder that
//! `GNN_PRUNE_DATA` names.

use gnn_prune::{Dataset, FeatureNorm, data::Splits};
use std::path::PathBuf;

/// Sizes as published; the split is that of seed 0.
struct Expected {
    file: &'static str,
    nodes: usize,
    directed_edges: usize,
    features: usize,
    stored: usize,
    classes: usize,
    norm: FeatureNorm,
    split: (usize, usize, usize),
    masks: Option<usize>,
}

const TABLE: [Expected; 6] = [
    Expected {
        file: "cora",
        nodes: 2708,
        directed_edges: 10_556,
        features: 1433,
        stored: 49_216,
        classes: 7,
        norm: FeatureNorm::L2,
        split: (140, 500, 1000),
        masks: None,
    },
    Expected {
        file: "citeseer",
        nodes: 3327,
        directed_edges: 9104,
        features: 3703,
        stored: 105_165,
        classes: 6,
        norm: FeatureNorm::L2,
        split: (120, 500, 1000),
        masks: None,
    },
    Expected {
        file: "amazon_computers",
        nodes: 13_752,
        directed_edges: 491_722,
        features: 767,
        stored: 3_675_081,
        classes: 10,
        norm: FeatureNorm::L2,
        split: (200, 300, 13_252),
        masks: None,
    },
    Expected {
        file: "coauthor_physics",
        nodes: 34_493,
        directed_edges: 495_924,
        features: 8415,
        stored: 1_137_311,
        classes: 5,
        norm: FeatureNorm::L2,
        split: (100, 150, 34_243),
        masks: None,
    },
    Expected {
        file: "tolokers",
        nodes: 11_758,
        directed_edges: 1_038_000,
        features: 10,
        stored: 117_580,
        classes: 2,
        norm: FeatureNorm::Raw,
        split: (5879, 2939, 2940),
        masks: Some(10),
    },
    Expected {
        file: "chameleon_filtered",
        nodes: 890,
        directed_edges: 17_708,
        features: 2325,
        // Mostly zero, and stored dense in the file.
        stored: 9_903,
        classes: 5,
        norm: FeatureNorm::Raw,
        split: (409, 287, 194),
        masks: Some(10),
    },
];

pub fn folder() -> PathBuf {
    std::env::var_os("GNN_PRUNE_DATA")
        .expect("`GNN_PRUNE_DATA` names the folder of the public graphs")
        .into()
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn public_files_have_their_published_sizes_and_splits() {
    let folder = folder();
    for expected in TABLE {
        let data = Dataset::read(folder.join(expected.file).with_extension("npz")).unwrap();
        let file = expected.file;
        assert_eq!(data.name(), file);
        assert_eq!(
            (data.num_nodes(), data.graph().num_edges()),
            (expected.nodes, expected.directed_edges),
            "{file}"
        );
        assert_eq!(
            (data.num_features(), data.features().stored()),
            (expected.features, expected.stored),
            "{file}"
        );
        assert_eq!(
            (data.num_classes(), data.feature_norm()),
            (expected.classes, expected.norm),
            "{file}"
        );
        let split = data.split(0);
        assert_eq!(
            (split.train.len(), split.val.len(), split.test.len()),
            expected.split,
            "{file}"
        );
        let masks = if let Splits::Masks(masks) = data.splits() { Some(masks.len()) } else { None };
        assert_eq!(masks, expected.masks, "{file}");
        assert!(
            data.graph().adjacency().iter().all(|(&weight, (i, j))| weight == 1.0 && i != j),
            "{file} has loops or weights"
        );
    }
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn normalisation_is_chosen_when_reading() {
    let folder = folder();
    let path = folder.join("citeseer.npz");
    let l1 = Dataset::reader(&path).features(FeatureNorm::L1).read().unwrap();
    let sums = l1.features().to_dense().sum_axis(gnn_prune::ndarray::Axis(1));
    // A row of up to 54 words, each rounded once.
    let tolerance = 54.0 * f32::EPSILON;
    assert_eq!(sums.iter().filter(|sum| **sum == 0.0).count(), 15, "papers without words");
    assert!(sums.iter().all(|sum| *sum == 0.0 || (sum - 1.0).abs() < tolerance));
    let named = Dataset::open(
        path.to_str().expect("the folder has a plain name"),
        Some(FeatureNorm::Binary),
    )
    .unwrap();
    assert_eq!(named.feature_norm(), FeatureNorm::Binary);
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn blogcatalog_counts_its_labels_from_one() {
    let path = folder().join("blogcatalog.npz");
    let data = Dataset::read(&path).unwrap();
    assert_eq!(
        (
            data.num_classes(),
            data.classes().unwrap().iter().min(),
            data.classes().unwrap().iter().max()
        ),
        (6, Some(&0), Some(&5))
    );
    let of =
        |outputs| Dataset::reader(&path).classes(outputs).read().unwrap().classes().unwrap()[0];
    assert_eq!((of(6), of(7)), (data.classes().unwrap()[0], data.classes().unwrap()[0] + 1));
}

#[test]
#[ignore = "needs GNN_PRUNE_DATA"]
fn tolokers_is_imbalanced() {
    let folder = folder();
    let data = Dataset::read(folder.join("tolokers.npz")).unwrap();
    assert_eq!(data.classes().unwrap().iter().filter(|label| **label == 1).count(), 2566);
}
