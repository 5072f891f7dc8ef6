//! Data sets from tables and tensors: what is read, and one line for what cannot be.

use flate2::{Compression, write::GzEncoder};
use gnn_prune::data::{Purpose, SplitSource, UNLABELED};
use gnn_prune::files::{Array, Tensors};
use gnn_prune::ndarray::array;
use gnn_prune::task::{Part, evaluate};
use gnn_prune::{Dataset, FeatureNorm, ValueRef, io::pyg::Checkpoint};
use safetensors::{Dtype, tensor::TensorView};
use std::io::Write;
use std::path::{Path, PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("gnn-prune-readers-{}-{name}", std::process::id()));
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
    assert_eq!(
        (data.num_nodes(), data.num_features(), data.num_classes(), data.graph().num_edges()),
        (4, 2, 2, 8)
    );
    assert_eq!((data.classes().unwrap(), data.split(3).test), (&[0, 1, 1, 0][..], vec![2, 3]));
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
    folder.write(
        "ring.npy",
        npy(&header, &floats(&(0..2 * nodes).map(|k| k as f32).collect::<Vec<_>>())),
    );
    folder.write("ring.labels.csv", (0..nodes).map(|i| format!("{}\n", i % 3)).collect::<String>());
    let edges: String = (0..nodes).map(|i| format!("{i},{},{}\n", (i + 1) % nodes, 0.5)).collect();
    folder.write("ring.csv", format!("source,target,weight\n{edges}"))
}

#[test]
fn a_list_of_edges_beside_features_is_read_as_it_is_listed() {
    let folder = Folder::new("list");
    let path = ring(&folder);
    let data = Dataset::read(&path).unwrap();
    assert_eq!(
        (data.num_nodes(), data.num_features(), data.num_classes(), data.graph().num_edges()),
        (180, 2, 3, 180)
    );
    assert_eq!(
        (data.graph().adjacency().get(1, 0), data.graph().adjacency().get(0, 1)),
        (Some(&0.5), None),
        "directed and weighted"
    );
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
        let (x, attr) = (floats(&[0.5; 12]), floats(&[1.0, 2.0, 3.0, 4.0, 5.0]));
        let (edges, y, types) = (bytes(edges), bytes(&[0, 1, 0, 1, 0, 1]), bytes(types));
        let masks = [mask(0), mask(1), mask(2)];
        let view =
            |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
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
    let folder = Folder::new("shapes");
    let longs = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let write = |y: (Dtype, &[usize], Vec<u8>), attr: &[usize]| {
        let (x, edges, features) = (
            floats(&[0.5; 240]),
            longs(&[0, 1, 2, 1, 2, 3]),
            floats(&vec![1.0; attr.iter().product()]),
        );
        let view =
            |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
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
    refused(
        &write((Dtype::F32, &[120, 2], floats(&[2.0; 240])), &[3, 2]),
        "`y` holds 2 for label 0 of node 0, expected 0 or 1",
    );
    refused(
        &write((Dtype::F32, &[240], floats(&[1.0; 240])), &[3, 2]),
        "`y` has shape [240], and is read as one whole number for each of the 120 nodes",
    );
    refused(
        &write((Dtype::I64, &[120], labels()), &[2, 2]),
        "`edge_attr` has shape [2, 2], and there are 3 edges",
    );
}

#[test]
fn several_labels_a_node_are_columns_of_zeros_and_ones() {
    let folder = ogb("labels");
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0,1\n0,0,0\n1,1,1\n"));
    let data = Dataset::read(&folder.0).unwrap();
    assert_eq!(
        (data.num_classes(), data.label_matrix().unwrap().row(1).to_vec()),
        (3, vec![true, false, true])
    );
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0,1\n0,0,0\n1,1,5\n"));
    refused(&folder.0, "node-label.csv.gz: holds 5 for label 2 of node 3, expected 0 or 1");
    folder.write("raw/node-label.csv.gz", gz("0,1,1\n1,0\n"));
    refused(&folder.0, "line 2 has 2 fields");
}

#[test]
fn a_packed_table_that_would_fill_the_memory_is_refused() {
    let folder = ogb("bomb");
    for (file, text) in [
        ("edge", "0,1\n".repeat(2_000_000)),
        ("node-feat", format!("{}1\n", "1,".repeat(4_000_000))),
        ("edge", "1".repeat(8_000_000)),
    ] {
        folder.write(&format!("raw/{file}.csv.gz"), gz(&text));
        refused(&folder.0, "unpacks to more than 250 times its size");
        folder.write(&format!("raw/{file}.csv.gz"), gz("0,1\n1,2\n2,0\n3,0\n"));
    }
}

#[test]
fn files_in_disguise_are_refused_in_a_line() {
    let folder = Folder::new("disguise");
    let pickle = folder.write("model.safetensors", b"PK\x03\x04 archive/data.pkl");
    refused(
        &pickle,
        if cfg!(feature = "pt") {
            "is a damaged zip archive, or cut off"
        } else {
            "is a pickle of PyTorch"
        },
    );
    let huge = r#"{"x":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#;
    let mut bytes = (huge.len() as u64).to_le_bytes().to_vec();
    bytes.extend(huge.as_bytes());
    refused(&folder.write("huge.safetensors", bytes), "is not a safetensors file, or cut off");
    refused(
        &folder.write("length.safetensors", u64::MAX.to_le_bytes()),
        "is not a safetensors file, or cut off",
    );
    refused(&folder.write("empty.safetensors", b""), "is not a safetensors file, or cut off");
    let nan = Tensors {
        floats: [(
            "convs.0.lin.weight".into(),
            Array { shape: vec![1, 1], values: vec![f32::NAN] },
        )]
        .into(),
        ..Tensors::default()
    };
    let path = folder.0.join("nan.safetensors");
    nan.write(&path).unwrap();
    let message = Checkpoint::read(&path, &Default::default()).err().unwrap().to_string();
    assert!(message.contains("`convs.0.lin.weight` holds NaN"), "{message}");
}

/// Tensors by name: type, shape and numbers, written in that type.
type Listed<'a> = Vec<(&'a str, Dtype, Vec<usize>, Vec<f64>)>;

/// Six nodes of two classes in a ring with weights, edge features and masks, in the types that
/// PyTorch Geometric gives them.
fn six_nodes() -> Listed<'static> {
    let edges: Vec<f64> = (0..6).chain((0..6).map(|i| (i + 1) % 6)).map(f64::from).collect();
    let mask = |part: usize| (0..6).map(|i| f64::from(u8::from(i % 3 == part))).collect();
    vec![
        ("x", Dtype::F32, vec![6, 2], (0..12).map(|k| f64::from(k % 5)).collect()),
        ("edge_index", Dtype::I64, vec![2, 6], edges),
        ("edge_weight", Dtype::F32, vec![6], vec![1.0, 2.0, 3.0, 1.0, 5.0, 2.0]),
        ("edge_attr", Dtype::F32, vec![6, 1], vec![1.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
        ("edge_type", Dtype::I64, vec![6], vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
        ("y", Dtype::I64, vec![6], vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
        ("train_mask", Dtype::BOOL, vec![6], mask(0)),
        ("val_mask", Dtype::BOOL, vec![6], mask(1)),
        ("test_mask", Dtype::BOOL, vec![6], mask(2)),
    ]
}

fn with<'a>(
    mut tensors: Listed<'a>,
    name: &'a str,
    dtype: Dtype,
    shape: &[usize],
    values: &[f64],
) -> Listed<'a> {
    tensors.retain(|tensor| tensor.0 != name);
    tensors.push((name, dtype, shape.to_vec(), values.to_vec()));
    tensors
}

fn without<'a>(tensors: Listed<'a>, names: &[&str]) -> Listed<'a> {
    tensors.into_iter().filter(|tensor| !names.contains(&tensor.0)).collect()
}

fn as_type<'a>(tensors: Listed<'a>, name: &str, dtype: Dtype) -> Listed<'a> {
    tensors.into_iter().map(|t| if t.0 == name { (t.0, dtype, t.2, t.3) } else { t }).collect()
}

impl Folder {
    fn graph(&self, tensors: &Listed) -> PathBuf {
        let bytes = |dtype: Dtype, values: &[f64]| -> Vec<u8> {
            let each = |v: f64| match dtype {
                Dtype::BOOL | Dtype::U8 | Dtype::I8 => vec![v as i8 as u8],
                Dtype::I16 | Dtype::U16 => (v as i16).to_le_bytes().to_vec(),
                Dtype::I32 | Dtype::U32 => (v as i32).to_le_bytes().to_vec(),
                Dtype::I64 | Dtype::U64 => (v as i64).to_le_bytes().to_vec(),
                Dtype::F32 => (v as f32).to_le_bytes().to_vec(),
                Dtype::F64 => v.to_le_bytes().to_vec(),
                Dtype::BF16 => (v as f32).to_le_bytes()[2..].to_vec(),
                other => panic!("{other:?} is not written"),
            };
            values.iter().flat_map(|&v| each(v)).collect()
        };
        let data: Vec<Vec<u8>> =
            tensors.iter().map(|(_, dtype, _, values)| bytes(*dtype, values)).collect();
        let views = tensors.iter().zip(&data).map(|((name, dtype, shape, _), data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        self.write("graph.safetensors", safetensors::serialize(views, None).unwrap())
    }
}

#[test]
fn a_tensor_of_any_type_that_says_the_same_is_read_as_the_usual_one() {
    let folder = Folder::new("types");
    let usual = Dataset::read(folder.graph(&six_nodes())).unwrap();
    let names = [
        "x",
        "edge_index",
        "edge_weight",
        "edge_attr",
        "edge_type",
        "y",
        "train_mask",
        "val_mask",
        "test_mask",
    ];
    let types = [
        Dtype::I8,
        Dtype::U8,
        Dtype::I16,
        Dtype::U16,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::U64,
    ];
    for name in names {
        for dtype in types.into_iter().chain([Dtype::F32, Dtype::F64, Dtype::BF16]) {
            let data = Dataset::read(folder.graph(&as_type(six_nodes(), name, dtype))).unwrap();
            let seen = |data: &Dataset| {
                let graph = data.graph();
                (
                    data.features().to_dense(),
                    graph.adjacency().to_dense(),
                    graph.edge_features().unwrap().to_owned(),
                    graph.is_weighted(),
                )
            };
            assert_eq!(seen(&data), seen(&usual), "{name} {dtype:?}");
            assert_eq!(
                (data.classes().unwrap(), data.split(0), data.graph().relations().len()),
                (usual.classes().unwrap(), usual.split(0), 2),
                "{name} {dtype:?}"
            );
            assert_eq!(data.notes(), usual.notes(), "{name} {dtype:?}");
        }
    }
    let booleans =
        Dataset::read(folder.graph(&as_type(six_nodes(), "edge_attr", Dtype::BOOL))).unwrap();
    assert_eq!(booleans.graph().edge_features(), usual.graph().edge_features());
}

#[test]
fn features_that_are_mostly_zero_are_kept_sparse_with_the_same_numbers() {
    let folder = Folder::new("zeros");
    for (every, sparse) in [(4, false), (11, true)] {
        let values: Vec<f64> =
            (0..6 * 44).map(|k| if k % every == 0 { f64::from(k) - 30.0 } else { 0.0 }).collect();
        let data =
            Dataset::read(folder.graph(&with(six_nodes(), "x", Dtype::F32, &[6, 44], &values)))
                .unwrap();
        assert_eq!(matches!(data.features(), ValueRef::Sparse(_)), sparse, "one in {every}");
        assert_eq!(
            data.notes().iter().any(
                |note| note == "9.1 % of 6 x 44 features are not zero: kept as a sparse matrix"
            ),
            sparse
        );
        assert!(
            data.features()
                .to_dense()
                .iter()
                .zip(&values)
                .all(|(&found, &v)| f64::from(found) == v)
        );
        assert_eq!(data.feature_norm(), FeatureNorm::Raw, "as dense features are");
    }
    // What is no number is not lost among zeros.
    let values: Vec<f64> = (0..6 * 44).map(|k| if k == 40 { f64::NAN } else { 0.0 }).collect();
    let error = Dataset::read(folder.graph(&with(six_nodes(), "x", Dtype::F32, &[6, 44], &values)))
        .unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}

#[test]
fn a_number_that_another_type_would_change_is_refused_by_name() {
    let folder = Folder::new("inexact");
    let refuse = |tensors: Listed, words: &str| refused(&folder.graph(&tensors), words);
    let ones = [1.0; 5];
    let six = |first: f64| [&[first][..], &ones].concat();
    refuse(
        with(six_nodes(), "edge_weight", Dtype::I64, &[6], &six(16_777_217.0)),
        "`edge_weight` holds 16777217, which no 32-bit float holds",
    );
    refuse(with(six_nodes(), "x", Dtype::I64, &[6, 1], &six(-16_777_217.0)), "`x` holds -16777217");
    for name in ["train_mask", "val_mask", "test_mask"] {
        refuse(
            with(six_nodes(), name, Dtype::F32, &[6], &six(0.5)),
            &format!("`{name}` holds 0.5, and a mask holds 0 and 1"),
        );
        refuse(with(six_nodes(), name, Dtype::I64, &[6], &six(2.0)), &format!("`{name}` holds 2"));
    }
    refuse(
        with(six_nodes(), "y", Dtype::F32, &[6], &six(0.5)),
        "`y` holds 0.5, which is not a whole number",
    );
    refuse(with(six_nodes(), "y", Dtype::I64, &[6], &six(-2.0)), "label of node 0 is -2");
    refuse(with(six_nodes(), "edge_type", Dtype::F64, &[6], &six(0.25)), "`edge_type` holds 0.25");
    refuse(
        with(six_nodes(), "edge_index", Dtype::F32, &[2, 3], &six(16_777_216.0)),
        "`edge_index` holds 16777216 as a float",
    );
    refuse(
        with(six_nodes(), "edge_weight", Dtype::F32, &[3, 2], &six(1.0)),
        "`edge_weight` has shape [3, 2]",
    );
    refuse(with(six_nodes(), "edge_weight", Dtype::F32, &[6], &six(f64::NAN)), "weight of edge 0");
    refuse(
        with(six_nodes(), "edge_type", Dtype::I64, &[3], &[0.0; 3]),
        "`edge_type` has shape [3]",
    );
    refuse(with(six_nodes(), "num_nodes", Dtype::I64, &[1], &[7.0]), "`num_nodes` is not 6");
}

#[test]
fn tensors_that_are_not_read_are_named_and_other_names_of_masks_read_or_refused() {
    let folder = Folder::new("unread");
    let read = |tensors: &Listed| Dataset::read(folder.graph(tensors)).unwrap();
    assert_eq!(read(&six_nodes()).notes(), [""; 0]);
    let more = with(
        with(six_nodes(), "pos", Dtype::F32, &[6, 3], &[f64::NAN; 18]),
        "other_mask",
        Dtype::BOOL,
        &[6],
        &[1.0; 6],
    );
    assert_eq!(
        read(&more).notes(),
        ["tensors that are not read: `other_mask` (integers [6]), `pos` (floats [6, 3])"]
    );
    let renamed: Listed = six_nodes()
        .into_iter()
        .map(|t| if t.0 == "val_mask" { ("valid_mask", t.1, t.2, t.3) } else { t })
        .collect();
    assert_eq!(read(&renamed).split(0), read(&six_nodes()).split(0));
    let bare = without(six_nodes(), &["train_mask", "val_mask", "test_mask"]);
    let lists = with(
        with(
            with(bare.clone(), "train_idx", Dtype::I64, &[2], &[3.0, 0.0]),
            "valid_idx",
            Dtype::I32,
            &[2],
            &[1.0, 4.0],
        ),
        "test_idx",
        Dtype::I64,
        &[2],
        &[2.0, 5.0],
    );
    assert_eq!(
        (read(&lists).split(0), read(&lists).notes().len()),
        (read(&six_nodes()).split(0), 0)
    );
    refused(
        &folder.graph(&with(bare.clone(), "my_train_mask", Dtype::BOOL, &[6], &[1.0; 6])),
        "`my_train_mask` looks like a mask and is not read",
    );
    refused(
        &folder.graph(&with(six_nodes(), "train_idx", Dtype::I64, &[1], &[0.0])),
        "two tensors for one part of the split",
    );
    refused(
        &folder.graph(&without(six_nodes(), &["test_mask"])),
        "`test_mask` is missing beside other masks",
    );
    let chosen: SplitSource = "0.4/0.3/0.3".parse().unwrap();
    let path = folder.graph(&with(bare, "my_train_mask", Dtype::BOOL, &[6], &[1.0; 6]));
    let split = Dataset::reader(&path).split(chosen).read().unwrap().split(0);
    assert_eq!((split.train.len(), split.val.len(), split.test.len()), (2, 2, 2));
}

#[test]
fn a_purpose_reads_no_more_than_it_needs_and_minus_one_is_no_label() {
    let folder = Folder::new("purposes");
    let masks = ["train_mask", "val_mask", "test_mask"];
    let graph = |tensors: &Listed, purpose| {
        Dataset::reader(folder.graph(tensors)).purpose(purpose).classes(2).read()
    };
    let edges = Dataset::read(folder.graph(&six_nodes())).unwrap();
    let mut labels = vec![0.0, -1.0, 0.0, -1.0, 0.0, 1.0];
    let odd = with(six_nodes(), "y", Dtype::F32, &[6], &[0.5; 6]);
    for tensors in [
        without(six_nodes(), &["y"]),
        without(six_nodes(), &masks),
        without(six_nodes(), &masks[1..2]),
        odd,
    ] {
        let data = graph(&tensors, Purpose::Predict).unwrap();
        assert_eq!(data.graph().adjacency(), edges.graph().adjacency());
        assert_eq!(
            (
                data.classes().unwrap(),
                data.num_classes(),
                data.split(0).train.len(),
                data.notes().len()
            ),
            (&[UNLABELED; 6][..], 2, 0, 0)
        );
    }
    let untrained = graph(&without(six_nodes(), &masks[..2]), Purpose::Measure).unwrap();
    assert_eq!((untrained.split(0).test, untrained.split(0).train), (vec![2, 5], vec![]));
    let empty = with(six_nodes(), "val_mask", Dtype::BOOL, &[6], &[0.0; 6]);
    assert!(graph(&empty, Purpose::Measure).is_ok());
    assert!(graph(&empty, Purpose::Learn).unwrap_err().to_string().contains("no node is in val"));
    // Node 1 validates, node 3 trains.
    let unlabelled = with(six_nodes(), "y", Dtype::I64, &[6], &labels);
    assert!(
        graph(&unlabelled, Purpose::Learn)
            .unwrap_err()
            .to_string()
            .contains("node 3 is in train and has no label")
    );
    assert_eq!(
        graph(&unlabelled, Purpose::Measure).unwrap().classes().unwrap(),
        [0, UNLABELED, 0, UNLABELED, 0, 1]
    );
    labels[1] = f64::NAN;
    let outside = with(
        with(
            with(six_nodes(), "y", Dtype::F64, &[6], &labels),
            "train_mask",
            Dtype::BOOL,
            &[6],
            &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ),
        "val_mask",
        Dtype::BOOL,
        &[6],
        &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    );
    let data = graph(&outside, Purpose::Learn).unwrap();
    assert_eq!(
        (data.classes().unwrap(), data.notes()),
        (&[0, UNLABELED, 0, UNLABELED, 0, 1][..], &["2 of 6 nodes have no label".to_string()][..])
    );
    let model = gnn_prune::Gcn::builder(2, 2).hidden(2).build(0).unwrap();
    let trainer = gnn_prune::Trainer::builder().epochs(3).build().unwrap();
    assert!(trainer.fit(model.clone(), &data).is_ok());
    for purpose in [Purpose::Predict, Purpose::Measure] {
        let message = trainer
            .fit(model.clone(), &graph(&six_nodes(), purpose).unwrap())
            .unwrap_err()
            .to_string();
        assert!(message.contains("no node is in train"), "{message}");
    }
    let measured = graph(&six_nodes(), Purpose::Measure).unwrap();
    let empty = evaluate(&model, &measured, Part::Validation).unwrap_err().to_string();
    assert!(empty.contains("no node is in val"), "{empty}");
    assert!(evaluate(&model, &measured, Part::Test).is_ok());
}

#[test]
fn labels_keep_their_numbers_and_a_network_says_how_many_there_are() {
    let folder = Folder::new("gaps");
    let path =
        folder.graph(&with(six_nodes(), "y", Dtype::I64, &[6], &[1.0, 4.0, 1.0, 4.0, 1.0, 4.0]));
    let data = Dataset::read(&path).unwrap();
    assert_eq!((data.classes().unwrap(), data.num_classes()), (&[1, 4, 1, 4, 1, 4][..], 5));
    assert_eq!(
        data.notes(),
        ["no node has label 0, 2, 3: labels are not renumbered, label v is output v of a network"]
    );
    let wide = Dataset::reader(&path).classes(9).read().unwrap();
    assert_eq!((wide.classes().unwrap(), wide.num_classes()), (data.classes().unwrap(), 9));
    assert!(wide.notes().iter().any(|note| {
        note.contains("labels go up to 4; the data take the 9 classes of the network")
    }));
    let message = Dataset::reader(&path).classes(4).read().unwrap_err().to_string();
    assert!(
        message.contains("the label of node 1 is 4, and the network has 4 outputs"),
        "{message}"
    );
    refused(
        &folder.graph(&with(six_nodes(), "y", Dtype::I64, &[6], &[1.0, 1e9, 1.0, 1.0, 1.0, 1.0])),
        "labels go up to 1000000000 with 6 nodes",
    );
}

/// A table of edges beside features and labels of 180 nodes.
fn listed(folder: &Folder, edges: &str) -> Dataset {
    ring(folder);
    Dataset::read(folder.write("ring.csv", edges)).unwrap()
}

#[test]
fn the_heading_says_what_the_columns_of_a_list_of_edges_are() {
    let folder = Folder::new("heading");
    let expected = listed(&folder, "source,target,weight\n0,1,0.5\n7,2,2\n");
    let same = [
        "target,source,weight\n1,0,0.5\n2,7,2\n",
        "weight, Dst ,SRC\n0.5,1,0\n2,2,7\n",
        ",source,target,weight\n0,0,1,0.5\n1,7,2,2\n",
        "Unnamed: 0,from,to,w\n0,0,1,0.5\n1,7,2,2\n",
        "\"\",\"u\",\"v\",\"weight\"\n\"1\",0,1,0.5\n\"2\",7,2,2\n",
        "source\ttarget\tweight\n0\t1\t0.5\n7\t2\t2\n",
        "source;target;weight\n0;1;0.5\n7;2;2\n",
        "\u{feff}source,target,weight\r\n0,1,0.5\r\n7,2,2\r\n",
        "# target,source,weight\n1,0,0.5\n2,7,2\n",
        "# 2 edges\n0,1,0.5\n7.0,2,2\n",
        "0\t1\t0.5\n7\t2\t2\n",
    ];
    for text in same {
        let data = listed(&folder, text);
        assert_eq!(data.graph().adjacency(), expected.graph().adjacency(), "{text}");
    }
    let notes = |text: &str| listed(&folder, text).notes().join("; ");
    assert!(
        notes("Unnamed: 0,source,target\n0,0,1\n1,7,2\n")
            .contains("the column `Unnamed: 0` numbers the lines and is not read")
    );
    assert!(
        notes("0,1,0.5\n7,2,2\n")
            .contains("has no heading, and its columns are taken for source, target, weight")
    );
    assert!(!notes("source,target\n0,1\n").contains("heading"));
    let path = folder.0.join("ring.csv");
    for (text, words) in [
        (
            "source,target,timestamp\n0,1,1500000000\n",
            "names a column `timestamp`, which is none of source, target and weight",
        ),
        ("a,b\n0,1\n", "names a column `a`"),
        (",0,1\n0,0,1\n1,7,2\n", "names a column `0`"),
        ("source,weight\n0,1\n", "names no column `target`"),
        ("source,src,target\n0,0,1\n", "two columns for one thing, the second `src`"),
        (
            ",source,target\n5,0,1\n9,7,2\n",
            "the column `` holds `5` in line 2 and does not number the lines",
        ),
        ("id,source,target\n0,0,1\n7,7,2\n", "the column `id` holds `7` in line 3"),
        ("source,target\n0,1\nalice,2\n", "line 3: `alice` is not the number of a node"),
        ("source,target,weight\n0,1,\n", "line 2: `` is not the number of a weight"),
        ("0,1,2,3\n", "line 1 has 4 fields"),
        ("source,target\n0,1.5\n", "edge 0 names the node 1.5"),
    ] {
        folder.write("ring.csv", text);
        refused(&path, words);
    }
}

#[test]
fn an_edge_that_is_listed_twice_counts_twice_in_every_list_and_is_said() {
    let folder = Folder::new("twice");
    let table = listed(&folder, "source,target,weight\n0,1,2\n0,1,3\n1,2,1\n");
    assert_eq!(table.graph().adjacency().get(1, 0), Some(&5.0));
    let note = "1 of 3 edges repeat others, and each counts, as in PyTorch Geometric";
    assert!(table.notes().contains(&note.to_string()), "{:?}", table.notes());
    let tensors = without(six_nodes(), &["edge_attr", "edge_type"]);
    let tensors = with(tensors, "edge_index", Dtype::I64, &[2, 3], &[0.0, 0.0, 1.0, 1.0, 1.0, 2.0]);
    let tensors = Dataset::read(folder.graph(&with(
        tensors,
        "edge_weight",
        Dtype::F32,
        &[3],
        &[2.0, 3.0, 1.0],
    )))
    .unwrap();
    assert_eq!(
        (tensors.graph().adjacency().get(1, 0), tensors.notes()),
        (Some(&5.0), &[note.to_string()][..])
    );
    assert_eq!(tensors.graph().edge_list().1, [0, 0, 1]);
}

#[test]
fn features_and_labels_are_tables_too_and_a_column_may_name_the_nodes() {
    let folder = Folder::new("people");
    folder.write("g.csv", "source,target\n0,1\n1,2\n2,3\n");
    let path = folder.0.join("g.csv");
    folder.write("g.features.csv", "node,height,width\n2,2,20\n0,0,0\n1,1,10\n3,3,30\n");
    folder.write("g.labels.csv", "node,label\n3,dog\n0,cat\n1,dog\n");
    let read =
        |words: &str| Dataset::reader(&path).split(words.parse::<SplitSource>().unwrap()).read();
    let split = folder.write("parts.csv", "test\n-1\nnone\ntrain\n").display().to_string();
    let wrong = read(&split).unwrap_err().to_string();
    assert!(wrong.contains("no node is in val"), "{wrong}");
    folder.write("parts.csv", "node,split\n3,train\n1,val\n0,2\n");
    let data = read(&split).unwrap();
    assert_eq!(
        data.features().to_dense(),
        array![[0.0, 0.0], [1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    );
    assert_eq!(
        (data.classes().unwrap(), data.split(0).train, data.split(0).test),
        (&[0, 1, UNLABELED, 1][..], vec![3], vec![0])
    );
    assert!(
        data.notes().iter().any(|note| note.contains("0 = cat, 1 = dog")),
        "{:?}",
        data.notes()
    );
    let npy_split = folder.write(
        "parts.npy",
        npy("{'descr': '|i1', 'fortran_order': False, 'shape': (4,), }", &[2, 1, 255, 0]),
    );
    assert_eq!(read(&npy_split.display().to_string()).unwrap().split(0), data.split(0));
    for (labels, expected) in [
        ("0\n1\n\"\"\n1\n", [0, 1, UNLABELED, 1]),
        ("kind\n0\n1\n-1\n1.0\n", [0, 1, UNLABELED, 1]),
        ("cat\ndog\nNaN\ndog\n", [0, 1, UNLABELED, 1]),
        ("species\ncat\ndog\nNaN\ndog\n", [0, 1, UNLABELED, 1]),
        (",y\n0,0\n1,1\n2,\n3,1\n", [0, 1, UNLABELED, 1]),
        ("node;label;remark\n3;1;far\n1;1;\n0;0;near\n", [0, 1, UNLABELED, 1]),
    ] {
        folder.write("g.labels.csv", labels);
        assert_eq!(read(&split).unwrap().classes().unwrap(), expected, "{labels}");
    }
    let refuse = |file: &str, text: &str, words: &str| {
        let kept = std::fs::read(folder.0.join(file)).unwrap();
        folder.write(file, text);
        let message = read(&split).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
        folder.write(file, kept);
    };
    refuse("g.labels.csv", "0,1\n1,1\n2,0\n3,0\n", "2 columns and no heading");
    refuse("g.labels.csv", "0\ndog\n1\n1\n", "labels are words and numbers, such as `dog` and `0`");
    refuse(
        "g.labels.csv",
        "0\n1\n\n1\n",
        "has 3 lines, and there are 4 nodes; empty lines do not count",
    );
    refuse("g.labels.csv", "0\n1\n0\n1\n1\n", "has 5 lines, and there are 4 nodes");
    refuse("g.labels.csv", "node,label\n3,1\n3,0\n", "node 3 has two lines");
    refuse("g.labels.csv", "node,label\n4,1\n", "names the node 4; nodes are 0 to 3");
    refuse("g.labels.csv", "0\n1\n0.5\n1\n", "labels are words and numbers");
    refuse(
        "g.features.csv",
        "a,label\n0,1\n0,1\n0,1\n0,1\n",
        "the column `label` is named like labels",
    );
    refuse("g.features.csv", "node,a\n0,1\n1,1\n2,1\n2,1\n", "node 2 has two lines");
    refuse("g.features.csv", "a,b\n0,1\n0,x\n0,1\n0,1\n", "line 3: `x` is not a number (column 2)");
    refuse("parts.csv", "train\nval\ntest\nlater\n", "node 3 is in `later`");
    folder.write(
        "g.npy",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1), }", &floats(&[1.0; 4])),
    );
    refused(&path, "keep one");
}

#[test]
fn nodes_of_ogb_without_a_label_are_read_and_headings_are_not() {
    let folder = ogb("ogb-unlabelled");
    for labels in ["0.0\n1\n1\nnan\n", "0\n1\n1\n\"\"\n", "0\n1\n1\n-1\n"] {
        folder.write("raw/node-label.csv.gz", gz(labels));
        refused(&folder.0, "node 3 is in test and has no label");
        folder.write("split/time/test.csv.gz", gz("2\n"));
        assert_eq!(
            Dataset::read(&folder.0).unwrap().classes().unwrap(),
            [0, 1, 1, UNLABELED],
            "{labels}"
        );
        folder.write("split/time/test.csv.gz", gz("2\n3\n"));
    }
    folder.write("raw/node-label.csv.gz", gz("0,1\n1,0\n1,1\nnan,nan\n"));
    folder.write("split/time/test.csv.gz", gz("2\n"));
    let several = Dataset::read(&folder.0).unwrap();
    assert_eq!(
        (
            (several.classes(), several.labeled(&[0, 1, 2, 3])),
            several.label_matrix().unwrap().row(2).to_vec()
        ),
        ((None, vec![0, 1, 2]), vec![true, true])
    );
    folder.write("raw/node-label.csv.gz", gz("0,1\n1,0\n1,1\n1,nan\n"));
    refused(&folder.0, "holds NaN for label 1 of node 3");
    folder.write("raw/node-label.csv.gz", gz("0.5\n1\n1\n1\n"));
    refused(&folder.0, "line 1: holds 0.5, which is not a whole number");
    std::fs::remove_file(folder.0.join("raw/node-label.csv.gz")).unwrap();
    std::fs::remove_dir_all(folder.0.join("split")).unwrap();
    folder.write("raw/node_year.csv.gz", gz("2001\n"));
    let data = Dataset::reader(&folder.0).purpose(Purpose::Predict).read().unwrap();
    assert_eq!(
        data.notes(),
        [
            "4 edges are listed; taken both ways and once each they are 8",
            "files that are not read: `node_year.csv.gz`"
        ]
    );
    folder.write("raw/edge.csv.gz", gz("target,source\n0,1\n"));
    let message =
        Dataset::reader(&folder.0).purpose(Purpose::Predict).read().unwrap_err().to_string();
    assert!(message.contains("edge.csv.gz: has a heading"), "{message}");
}
