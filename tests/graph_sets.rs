//! Sets of graphs as PyTorch Geometric saves them; `tests/pytorch/make_pt.py` made the files.

use gnn_prune::ValueRef;
use gnn_prune::data::GraphSet;
use gnn_prune::ndarray::array;
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt/graphs").join(name)
}

fn dense(x: ValueRef<f32>) -> Vec<Vec<f32>> {
    x.to_dense().rows().into_iter().map(|row| row.to_vec()).collect()
}

#[test]
fn a_list_of_graphs_and_a_data_set_of_them_are_one_set() {
    for name in ["list.pt", "list_legacy.pt", "dataset.pt", "dataset_of_data.pt"] {
        assert!(GraphSet::are_in(&file(name)), "{name}");
        let set = GraphSet::read(file(name)).unwrap();
        assert_eq!((set.num_graphs(), set.num_classes()), (3, 2), "{name}");
        assert_eq!((set.labels(), set.classes()), (&[0, 1, 0][..], &["3".into(), "7".into()][..]));
        assert_eq!(set.graph_of(), [0, 0, 0, 1, 2, 2, 2, 2]);
        let x = dense(set.features());
        assert_eq!(
            x,
            (0..8).map(|i| vec![2.0 * i as f32, 2.0 * i as f32 + 1.0]).collect::<Vec<_>>()
        );
        // Of each node the sources of the edges into it.
        let (starts, sources) = set.graph().edge_list();
        assert_eq!(starts, [0, 0, 1, 2, 2, 2, 3, 4, 5]);
        assert_eq!(sources, [0, 1, 4, 5, 6]);
        let features = set.graph().edge_features().unwrap().to_owned();
        assert_eq!(features, array![[3.0], [4.0], [4.0], [5.0], [6.0]], "{name}");
        assert_eq!(set.notes(), ["tensors that are not read: `pos`"], "{name}");
        assert_eq!(set.select(&[2, 0]).unwrap().graph_of, [0, 0, 0, 0, 1, 1, 1]);
    }
}

#[test]
fn without_features_the_number_of_neighbours_is_a_category() {
    for name in ["bare_list.pt", "bare_dataset.pt"] {
        let set = GraphSet::read(file(name)).unwrap();
        assert_eq!(set.graph_of(), [0, 0, 0, 1, 2, 2, 2, 2], "{name}");
        let (none, one) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        let of_path = |nodes: usize| {
            (0..nodes).map(|i| if i == 0 { none.clone() } else { one.clone() }).collect::<Vec<_>>()
        };
        assert_eq!(dense(set.features()), [of_path(3), of_path(1), of_path(4)].concat(), "{name}");
        assert!(set.notes().is_empty());
    }
}

#[test]
fn what_makes_no_set_is_refused_by_the_graph_and_the_tensor() {
    for (name, words) in [
        ("wrong_edge.pt", "graph 1: `edge_index` names the node 1, and it has 1"),
        ("wrong_width.pt", "graph 1: `x` has 3 columns, and 2 before"),
        ("wrong_label.pt", "graph 1: `y` holds 0.5, which is not a whole number"),
        ("no_label.pt", "graph 0: has no `y`"),
        ("claims.pt", "graph 0: `num_nodes` claims"),
        ("wrong_slices.pt", "has slices of `x` that do not cut its 8 into 3 graphs"),
        ("no_slices.pt", "has no slices of `x`"),
        ("../refused/two_graphs.pt", "graph 0: `y` has shape [6], and one class"),
        ("../data.pt", "and a list of PyG `Data` is read"),
        ("../data.safetensors", "no list of graphs"),
    ] {
        let error = GraphSet::read_pyg(file(name)).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
    for name in ["../data.pt", "../data_in_a_list.pt", "../data_of_one.pt", "../module_gcn.pt"] {
        assert!(!GraphSet::are_in(&file(name)), "{name} is about one graph, or none");
    }
}
