//! Data sets from tables and tensors: what is read, and one line for what cannot be.

use flate2::{Compression, write::GzEncoder};
use gnn_prune::files::{Array, Tensors};
use gnn_prune::ndarray::array;
use gnn_prune::{Dataset, io::pyg::Checkpoint};
use std::io::Write;
use std::path::{Path, PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gnn-prune-readers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn refused(path: &Path, words: &str) {
    let message = Dataset::read(path).unwrap_err().to_string();
    assert!(message.contains(words) && !message.contains('\n'), "expected `{words}` in: {message}");
}

fn npy(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let header = format!("{header:<117}\n");
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ogb(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("raw/edge.csv.gz", gz("0,1\n1,2\n2,0\n3,0\n"));
    folder.write("raw/node-feat.csv.gz", gz("0.5,1\n1,0\n-1,2\n0,1e-3\n"));
    folder.write("raw/node-label.csv.gz", gz("0.0\n1\n1\n0\n"));
    for (part, nodes) in [("train", "0\n"), ("valid", "1\n"), ("test", "2\n3\n")] {
        folder.write(&format!("split/time/{part}.csv.gz"), gz(nodes));
    }
    folder
}

#[test]
fn the_raw_layout_of_ogb_is_read() {
    let folder = ogb("ogb");
    let data = Dataset::read(&folder.0).unwrap();
    assert_eq!((data.num_nodes(), data.num_features(), data.num_classes(), data.graph().num_edges()), (4, 2, 2, 8));
    assert_eq!((data.labels(), data.split(3).test), (&[0, 1, 1, 0][..], vec![2, 3]));
    folder.write("raw/node-feat.csv.gz", gz("0.5,1\n1\n"));
    refused(&folder.0, "line 2 has 1 fields");
    folder.write("raw/node-feat.csv.gz", &gz(&"0.25,1\n".repeat(5000))[..60]);
    refused(&folder.0, "node-feat.csv.gz: cannot be read");
    folder.write("raw/node-feat.csv.gz", gz("1,1\n1,1\n1,1\n1,x\n"));
    refused(&folder.0, "line 4: `x`");
    let folder = ogb("ogb-edges");
    folder.write("raw/edge.csv.gz", gz("0,1\n1,9\n"));
    refused(&folder.0, "edge 1 (1 - 9)");
    folder.write("raw/edge.csv.gz", gz("0,1,2\n"));
    refused(&folder.0, "line 1 has 3 fields, expected source and target");
    std::fs::remove_file(folder.0.join("raw/node-label.csv.gz")).unwrap();
    refused(&folder.0, "node-label.csv.gz: cannot be opened");
}

/// Three classes of sixty nodes in a ring, each of which points to the next.
fn ring(folder: &Folder) -> PathBuf {
    let nodes = 180;
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({nodes}, 2), }}");
    folder.write("ring.npy", npy(&header, &floats(&(0..2 * nodes).map(|k| k as f32).collect::<Vec<_>>())));
    folder.write("ring.labels.csv", (0..nodes).map(|i| format!("{}\n", i % 3)).collect::<String>());
    let edges: String = (0..nodes).map(|i| format!("{i},{},{}\n", (i + 1) % nodes, 0.5)).collect();
    folder.write("ring.csv", format!("source,target,weight\n{edges}"))
}

#[test]
fn a_list_of_edges_beside_features_is_read_as_it_is_listed() {
    let folder = Folder::new("list");
    let path = ring(&folder);
    let data = Dataset::read(&path).unwrap();
    assert_eq!((data.num_nodes(), data.num_features(), data.num_classes(), data.graph().num_edges()), (180, 2, 3, 180));
    assert_eq!((data.graph().adjacency().get(1, 0), data.graph().adjacency().get(0, 1)), (Some(&0.5), None), "directed and weighted");
    folder.write("ring.csv", "0,1\n1,180\n");
    refused(&path, "edge 1 names the node 180");
    folder.write("ring.csv", "0,1\n1,-1\n");
    refused(&path, "edge 1 names the node -1");
    folder.write("ring.csv", "0,1\n1,2,3\n");
    refused(&path, "line 2 has 3 fields");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000), }";
    folder.write("ring.npy", npy(header, &floats(&[1.0; 4])));
    refused(&path, "claims the shape");
    std::fs::remove_file(folder.0.join("ring.npy")).unwrap();
    refused(&path, "ring.npy: cannot be opened");
}

#[test]
fn tensors_with_the_names_of_a_data_object_are_read() {
    let folder = Folder::new("tensors");
    let (nodes, edges) = (6, vec![0i64, 1, 2, 3, 4, 1, 2, 3, 4, 5]);
    let bytes = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mask = |part: usize| (0..nodes).map(|i| u8::from(i % 3 == part)).collect::<Vec<u8>>();
    let write = |edges: &[i64], types: &[i64], mask_len: usize| {
        use safetensors::{Dtype, tensor::TensorView};
        let (x, attr) = (floats(&[0.5; 12]), floats(&[1.0, 2.0, 3.0, 4.0, 5.0]));
        let (edges, y, types) = (bytes(edges), bytes(&[0, 1, 0, 1, 0, 1]), bytes(types));
        let masks = [mask(0), mask(1), mask(2)];
        let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
        let tensors = [
            ("x", view(Dtype::F32, &[6, 2], &x)),
            ("edge_index", view(Dtype::I64, &[2, 5], &edges)),
            ("edge_attr", view(Dtype::F32, &[5, 1], &attr)),
            ("edge_type", view(Dtype::I64, &[5], &types)),
            ("y", view(Dtype::I64, &[6], &y)),
            ("train_mask", view(Dtype::BOOL, &[mask_len], &masks[0][..mask_len])),
            ("val_mask", view(Dtype::BOOL, &[6], &masks[1])),
            ("test_mask", view(Dtype::BOOL, &[6], &masks[2])),
        ];
        folder.write("graph.safetensors", safetensors::serialize(tensors, None).unwrap())
    };
    let path = write(&edges, &[0, 1, 0, 1, 0], 6);
    let data = Dataset::read(&path).unwrap();
    assert_eq!((data.num_nodes(), data.graph().num_edges(), data.split(0).val), (6, 5, vec![1, 4]));
    assert_eq!(data.graph().edge_features().unwrap(), array![[1.0], [2.0], [3.0], [4.0], [5.0]]);
    assert_eq!(data.graph().relations().len(), 2);
    refused(&write(&[0, 1, 2, 3, 99, 1, 2, 3, 4, 5], &[0; 5], 6), "99");
    refused(&write(&[0, 1, 2, 3, -4, 1, 2, 3, 4, 5], &[0; 5], 6), "names the node -4");
    refused(&write(&edges, &[0, 1, i64::MAX, 1, 0], 6), "edge_type");
    refused(&write(&edges, &[0; 5], 5), "`train_mask` has shape [5]");
}

#[test]
fn tensors_of_other_shapes_are_read_or_refused_by_name() {
    use safetensors::{Dtype, tensor::TensorView};
    let folder = Folder::new("shapes");
    let longs = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let write = |y: (Dtype, &[usize], Vec<u8>), attr: &[usize]| {
        let (x, edges, features) = (floats(&[0.5; 240]), longs(&[0, 1, 2, 1, 2, 3]), floats(&vec![1.0; attr.iter().product()]));
        let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
        let tensors = [
            ("x", view(Dtype::F32, &[120, 2], &x)),
            ("edge_index", view(Dtype::I64, &[2, 3], &edges)),
            ("edge_attr", view(Dtype::F32, attr, &features)),
            ("y", view(y.0, y.1, &y.2)),
        ];
        folder.write("graph.safetensors", safetensors::serialize(tensors, None).unwrap())
    };
    let labels = || longs(&(0..120).map(|i| i % 2).collect::<Vec<_>>());
    let data = Dataset::read(write((Dtype::I64, &[120, 1], labels()), &[3])).unwrap();
    assert_eq!((data.num_classes(), data.graph().edge_features().unwrap().dim()), (2, (3, 1)));
    refused(&write((Dtype::I64, &[60, 2], labels()), &[3, 2]), "`y` has shape [60, 2]");
    refused(
        &write((Dtype::F32, &[120, 2], floats(&[1.0; 240])), &[3, 2]),
        "nodes have several labels, and no classes to draw a split from",
    );
    refused(&write((Dtype::F32, &[120, 2], floats(&[2.0; 240])), &[3, 2]), "`y` holds 2 for label 0 of node 0, expected 0 or 1");
    refused(&write((Dtype::F32, &[240], floats(&[1.0; 240])), &[3, 2]), "`y` of integers is missing");
    refused(&write((Dtype::I64, &[120], labels()), &[2, 2]), "`edge_attr` has shape [2, 2], and there are 3 edges");
}

#[test]
fn several_labels_a_node_are_columns_of_zeros_and_ones() {
    let folder = ogb("labels");
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0,1\n0,0,0\n1,1,1\n"));
    let data = Dataset::read(&folder.0).unwrap();
    assert_eq!((data.num_classes(), data.label_matrix().unwrap().row(1).to_vec()), (3, vec![true, false, true]));
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0,1\n0,0,0\n1,1,5\n"));
    refused(&folder.0, "node-label.csv.gz: holds 5 for label 2 of node 3, expected 0 or 1");
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0\n"));
    refused(&folder.0, "line 2 has 2 fields");
}

#[test]
fn a_packed_table_that_would_fill_the_memory_is_refused() {
    let folder = ogb("bomb");
    for (file, text) in
        [("edge", "0,1\n".repeat(2_000_000)), ("node-feat", format!("{}1\n", "1,".repeat(4_000_000))), ("edge", "1".repeat(8_000_000))]
    {
        folder.write(&format!("raw/{file}.csv.gz"), gz(&text));
        refused(&folder.0, "unpacks to more than 250 times its size");
        folder.write(&format!("raw/{file}.csv.gz"), gz("0,1\n1,2\n2,0\n3,0\n"));
    }
}

#[test]
fn files_in_disguise_are_refused_in_a_line() {
    let folder = Folder::new("disguise");
    let pickle = folder.write("model.safetensors", b"PK\x03\x04 archive/data.pkl");
    refused(&pickle, if cfg!(feature = "pt") { "is a damaged zip archive, or cut off" } else { "is a pickle of PyTorch" });
    let huge = r#"{"x":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#;
    let mut bytes = (huge.len() as u64).to_le_bytes().to_vec();
    bytes.extend(huge.as_bytes());
    refused(&folder.write("huge.safetensors", bytes), "is not a safetensors file, or cut off");
    refused(&folder.write("length.safetensors", u64::MAX.to_le_bytes()), "is not a safetensors file, or cut off");
    refused(&folder.write("empty.safetensors", b""), "is not a safetensors file, or cut off");
    let nan = Tensors {
        floats: [("convs.0.lin.weight".into(), Array { shape: vec![1, 1], values: vec![f32::NAN] })].into(),
        ..Tensors::default()
    };
    let path = folder.0.join("nan.safetensors");
    nan.write(&path).unwrap();
    let message = Checkpoint::read(&path, &Default::default()).err().unwrap().to_string();
    assert!(message.contains("`convs.0.lin.weight` holds NaN"), "{message}");
}
