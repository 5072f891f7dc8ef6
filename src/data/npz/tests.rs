//! Small archives of both layouts, whole and broken in every way that has a message.

use super::read;
use crate::data::purpose::Purpose;
use crate::data::wanted::Wanted;
use crate::data::{Dataset, FeatureNorm, Splits, UNLABELED};
use crate::error::Result;
use ndarray::{Array, Array1, Array2, Dimension, ShapeBuilder, array};
use ndarray_npy::{WritableElement, WriteNpyExt};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use zip::write::{SimpleFileOptions, ZipWriter};

/// The entries of an archive.
#[derive(Clone, Default)]
struct Arrays(BTreeMap<String, Vec<u8>>);

impl Arrays {
    fn with<A: WritableElement, D: Dimension>(mut self, key: &str, x: Array<A, D>) -> Self {
        let mut bytes = Vec::new();
        x.write_npy(&mut bytes).unwrap();
        self.0.insert(key.into(), bytes);
        self
    }

    fn ints(self, key: &str, x: &[i64]) -> Self {
        self.with(key, Array1::from(x.to_vec()))
    }

    fn bytes(mut self, key: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(key.into(), bytes.into());
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.0.remove(key).unwrap();
        self
    }

    fn pack(&self) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (key, bytes) in &self.0 {
            let method =
                SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
            zip.start_file(format!("{key}.npy"), method).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn read(&self) -> Result<Dataset> {
        read_bytes(&self.pack(), None)
    }

    fn message(&self) -> String {
        let message = self.read().unwrap_err().to_string();
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
        message
    }
}

/// A file that is removed at the end, also of a test that fails.
struct Temporary(PathBuf);

impl Temporary {
    fn new(bytes: &[u8]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-npz-{}-{}.npz",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A file that stays behind in the temporary folder does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read_bytes(bytes: &[u8], norm: Option<FeatureNorm>) -> Result<Dataset> {
    let file = Temporary::new(bytes);
    read(&file.0, "toy".into(), &Wanted { norm, ..Wanted::default() })
}

/// Begins an entry with the header of a format version 1.
fn header(text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16 + 1).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// Four nodes; edges 0-1 twice, 0-3 twice, 1-2 once, a self-loop; features unsorted, with a zero, a
/// repeat and an empty row.
fn benchmark() -> Arrays {
    Arrays::default()
        .with("adj_data", array![1.0f32, 1.0, 9.0, 1.0, 1.0, 1.0])
        .with("adj_indices", array![3i32, 1, 0, 2, 1, 0])
        .ints("adj_indptr", &[0, 2, 3, 5, 6])
        .ints("adj_shape", &[4, 4])
        .with("attr_data", array![3.0f32, 4.0, 0.0, 1.0, 1.0])
        .with("attr_indices", array![2i32, 0, 1, 1, 1])
        .ints("attr_indptr", &[0, 2, 3, 5, 5])
        .ints("attr_shape", &[4, 3])
        .ints("labels", &[3, 1, 3, 1])
        .with("train_mask", array![true, false, false, false])
        .with("val_mask", array![false, true, false, false])
        .with("test_mask", array![0u8, 0, 1, 1])
        .bytes("idx_to_class", header("{'descr': '|O', 'fortran_order': False, 'shape': ()}"))
}

fn heterophilous() -> Arrays {
    let masks = |k: usize| Array2::from_shape_fn((2, 5).f(), |(m, i)| (i + m) % 3 == k);
    Arrays::default()
        .with(
            "node_features",
            array![[1.0f32, 2.0], [0.0, 0.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
        )
        .ints("node_labels", &[0, 1, 2, 0, 1])
        .with("edges", array![[0i64, 1], [1, 2], [2, 1], [3, 3]])
        .with("train_masks", masks(0))
        .with("val_masks", masks(1))
        .with("test_masks", masks(2))
}

#[test]
fn benchmark_layout_gives_an_undirected_graph_without_self_loops_and_sparse_features() {
    let data = benchmark().read().unwrap();
    let edges: Vec<_> = data.graph().adjacency().iter().map(|(&w, at)| (at, w)).collect();
    assert_eq!(edges, [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (3, 0)].map(|at| (at, 1.0)));
    assert_eq!(
        (data.classes().unwrap(), data.num_classes(), data.name()),
        (&[3, 1, 3, 1][..], 4, "toy")
    );
    assert_eq!((data.features().stored(), data.feature_norm()), (3, FeatureNorm::L2));
    assert_eq!(
        data.features().to_dense(),
        array![[0.8, 0.0, 0.6], [0.0; 3], [0.0, 1.0, 0.0], [0.0; 3]]
    );
    let split = data.split(9);
    assert_eq!(
        (&split.train[..], &split.val[..], &split.test[..]),
        (&[0][..], &[1][..], &[2, 3][..])
    );
    let raw = read_bytes(&benchmark().pack(), Some(FeatureNorm::Raw)).unwrap();
    assert_eq!(raw.features().to_dense().row(0), array![4.0, 0.0, 3.0]);
}

#[test]
fn heterophilous_layout_takes_each_pair_both_ways_and_each_mask_by_its_number() {
    let data = heterophilous().read().unwrap();
    assert_eq!(
        (data.num_nodes(), data.num_features(), data.num_classes(), data.feature_norm()),
        (5, 2, 3, FeatureNorm::Raw)
    );
    let edges: Vec<_> = data.graph().adjacency().iter().map(|(_, at)| at).collect();
    assert_eq!(edges, [(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)]);
    let Splits::Masks(masks) = data.splits() else { panic!("masks expected") };
    assert_eq!(masks.len(), 2);
    assert_eq!((&data.split(0).train[..], &data.split(1).train[..]), (&[0, 3][..], &[2][..]));
    assert_eq!(data.features().to_dense()[[4, 1]], 8.0);
}

#[test]
fn every_numeric_type_is_read() {
    let base = benchmark().read().unwrap();
    let same = [
        benchmark().with("labels", array![3u8, 1, 3, 1]),
        benchmark().with("labels", array![3i8, 1, 3, 1]),
        benchmark().with("labels", array![3u16, 1, 3, 1]),
        benchmark().with("labels", array![3i16, 1, 3, 1]),
        benchmark().with("labels", array![3u32, 1, 3, 1]),
        benchmark().with("labels", array![3u64, 1, 3, 1]),
        benchmark().with("attr_data", array![3.0f64, 4.0, 0.0, 1.0, 1.0]),
        benchmark().with("attr_data", array![3i64, 4, 0, 1, 1]),
        benchmark().with("test_mask", array![0i64, 0, 1, 1]),
        benchmark().with("adj_data", array![true, true, true, true, true, true]),
    ];
    for arrays in same {
        let data = arrays.read().unwrap();
        assert_eq!(
            (data.classes().unwrap(), data.features().to_dense()),
            (base.classes().unwrap(), base.features().to_dense())
        );
    }
    let mut big_endian = header("{'descr': '>i2', 'fortran_order': False, 'shape': (4,), }");
    big_endian.extend([0, 3, 0, 1, 0, 3, 0, 1]);
    assert_eq!(
        benchmark().bytes("labels", big_endian).read().unwrap().classes().unwrap(),
        base.classes().unwrap()
    );
}

#[test]
fn numbers_of_another_type_are_read_where_they_say_the_same_and_what_is_not_read_is_named() {
    let base = benchmark().read().unwrap();
    let cast = benchmark()
        .with("labels", array![3.0f64, 1.0, 3.0, 1.0])
        .with("train_mask", array![1.0f32, 0.0, 0.0, 0.0])
        .with("test_mask", array![0i64, 0, 1, 1])
        .with("adj_indices", array![3.0f32, 1.0, 0.0, 2.0, 1.0, 0.0])
        .ints("attr_data", &[3, 4, 0, 1, 1])
        .read()
        .unwrap();
    assert_eq!(
        (cast.classes().unwrap(), cast.split(0), cast.features().to_dense()),
        (base.classes().unwrap(), base.split(0), base.features().to_dense())
    );
    assert_eq!(cast.graph().adjacency(), base.graph().adjacency());
    let notes = base.notes().join("\n");
    for words in [
        "`idx_to_class`",
        "1 entries of `adj_data` are not 1",
        "1 self-loops are left out",
        "no node has label 0, 2",
    ] {
        assert!(notes.contains(words), "{words} is not in {notes}");
    }
    assert_eq!(heterophilous().read().unwrap().notes(), [""; 0]);
    let unlabelled = heterophilous().with("node_labels", array![0.0f32, 1.0, 2.0, f32::NAN, -1.0]);
    let mask = |nodes: &[usize]| Array2::from_shape_fn((1, 5), |(_, i)| nodes.contains(&i));
    let unlabelled = unlabelled
        .with("train_masks", mask(&[0]))
        .with("val_masks", mask(&[1]))
        .with("test_masks", mask(&[2]))
        .read()
        .unwrap();
    assert_eq!(
        (unlabelled.classes().unwrap(), unlabelled.num_classes()),
        (&[0, 1, 2, UNLABELED, UNLABELED][..], 3)
    );
}

#[test]
fn labels_that_count_from_one_are_classes_from_zero_unless_the_network_has_an_output_more() {
    let of = |labels: &[i64], classes| {
        let file = Temporary::new(&benchmark().ints("labels", labels).pack());
        let data = read(&file.0, "toy".into(), &Wanted { classes, ..Wanted::default() });
        data.map(|data| (data.classes().unwrap().to_vec(), data.num_classes()))
    };
    assert_eq!(of(&[1, 2, 1, 2], None).unwrap(), (vec![0, 1, 0, 1], 2));
    assert_eq!(of(&[1, 2, 1, 2], Some(2)).unwrap(), (vec![0, 1, 0, 1], 2));
    assert_eq!(of(&[1, 2, 1, 2], Some(3)).unwrap(), (vec![1, 2, 1, 2], 3));
    assert!(
        of(&[1, 3, 1, 3], Some(2)).unwrap_err().to_string().contains("the network has 2 outputs")
    );
}

#[test]
fn a_purpose_asks_for_no_more_than_it_reads() {
    let bare = heterophilous()
        .without("node_labels")
        .without("train_masks")
        .without("val_masks")
        .without("test_masks");
    let of = |arrays: &Arrays, purpose| {
        let file = Temporary::new(&arrays.pack());
        read(&file.0, "toy".into(), &Wanted { purpose, classes: Some(3), ..Wanted::default() })
    };
    let data = of(&bare, Purpose::Predict).unwrap();
    assert_eq!(
        (data.classes().unwrap(), data.num_classes(), data.split(0)),
        (&[UNLABELED; 5][..], 3, Default::default())
    );
    assert!(of(&bare, Purpose::Measure).unwrap_err().to_string().contains("node_labels"));
    let tested = heterophilous().without("train_masks").without("val_masks");
    let data = of(&tested, Purpose::Measure).unwrap();
    assert_eq!((data.split(0).test, data.split(0).train.len()), (vec![2], 0));
    assert!(of(&tested, Purpose::Learn).unwrap_err().to_string().contains("`train_masks`"));
    assert!(
        of(&heterophilous().ints("node_labels", &[0, 1, 3, 0, 1]), Purpose::Measure)
            .unwrap_err()
            .to_string()
            .contains("node 2 is 3")
    );
    let no_masks = benchmark().without("labels").without("val_mask");
    assert_eq!(
        of(&no_masks, Purpose::Predict).unwrap().graph().adjacency(),
        benchmark().read().unwrap().graph().adjacency()
    );
}

#[test]
fn what_is_missing_is_named_with_the_keys_of_both_layouts() {
    for key in ["adj_indptr", "attr_data", "labels", "adj_shape"] {
        let message = benchmark().without(key).message();
        assert!(
            message.contains(&format!("no array `{key}`")) && message.contains("node_features"),
            "{message}"
        );
    }
    assert!(benchmark().without("val_mask").message().contains("no array `val_mask`"));
    assert!(heterophilous().without("edges").message().contains("no array `edges`"));
    assert!(Arrays::default().ints("other", &[1]).message().contains("none of the arrays"));
    let message = read_bytes(b"not a zip archive at all", None).unwrap_err().to_string();
    assert!(message.contains("is not an npz archive") && !message.contains('\n'), "{message}");
    let unsplit =
        benchmark().without("train_mask").without("val_mask").without("test_mask").message();
    assert!(unsplit.contains("class 1 has 2 nodes"), "{unsplit}");
}

#[test]
fn arrays_that_do_not_fit_together_are_refused_with_what_is_wrong() {
    let ten = 10i64.pow(12);
    let cases = [
        (benchmark().ints("adj_shape", &[ten, ten]), "each must lie between"),
        (benchmark().ints("adj_shape", &[ten / 1000, ten / 1000]), "`adj_indptr` has 5 entries"),
        (benchmark().ints("attr_shape", &[4, ten]), "each must lie between"),
        (benchmark().ints("adj_shape", &[-1, 4]), "`adj_shape` is [-1, 4]"),
        (benchmark().ints("adj_shape", &[4]), "`adj_shape` has 1 entries"),
        (benchmark().ints("adj_shape", &[4, 5]), "`adj_shape` is [4, 5]"),
        (benchmark().ints("attr_shape", &[4, 0]), "out of range"),
        (benchmark().ints("adj_indptr", &[0, 3, 2, 5, 6]), "not monotone"),
        (benchmark().ints("adj_indptr", &[0, 2, 3, 5, 7]), "end with 6"),
        (benchmark().ints("adj_indptr", &[1, 2, 3, 5, 6]), "begin with 0"),
        (benchmark().ints("adj_indptr", &[]), "`adj_indptr` has 0 entries"),
        (benchmark().ints("adj_indices", &[3, 1, 0, 2, 1, 4]), "index 4, which is out of range"),
        (benchmark().ints("attr_indices", &[2, 0, 1, 1, -1]), "index -1, which is out of range"),
        (benchmark().ints("adj_data", &[1]), "must agree"),
        (benchmark().ints("labels", &[5, 2, 5]), "`labels` has 3 entries"),
        (benchmark().ints("labels", &[3, 1, -2, 1]), "the label of node 2 is -2"),
        (benchmark().ints("labels", &[3, -1, 3, 1]), "node 1 is in val and has no label"),
        (benchmark().ints("labels", &[4, 1, 3, 1]), "labels go up to 4 with 4 nodes"),
        (benchmark().ints("labels", &[3, 3, 3, 3]), "at least 2"),
        (
            benchmark().with("labels", array![3.0f32, 1.5, 3.0, 1.0]),
            "`labels` holds 1.5, which is not a whole number",
        ),
        (
            benchmark().with("labels", array![3.0f32, 16_777_216.0, 3.0, 1.0]),
            "`labels` holds 16777216 as a float",
        ),
        (
            benchmark().with("train_mask", array![0.5f64, 0.0, 0.0, 0.0]),
            "`train_mask` is an array of float64 with shape [4], expected truth values: it holds 0.5",
        ),
        (
            benchmark().with("attr_data", array![3i64, 16_777_217, 0, 1, 1]),
            "`attr_data` holds 16777217",
        ),
        (
            benchmark()
                .without("train_mask")
                .without("val_mask")
                .without("test_mask")
                .ints("training_mask", &[1, 0, 0, 0]),
            "`training_mask` looks like a mask",
        ),
        (benchmark().with("labels", array![[3i64, 1, 3, 1]]), "expected a vector of integers"),
        (benchmark().with("labels", array![u64::MAX, 2, 5, 2]), "18446744073709551615"),
        (benchmark().with("attr_data", array![3.0f32, f32::NAN, 0.0, 1.0, 1.0]), "not finite"),
        (
            benchmark().with("attr_data", array![3.0f64, 1.0, f64::INFINITY, 1.0, 1.0]),
            "features of node 1, column 1",
        ),
        (
            benchmark().with("train_mask", array![false, false, false, false]),
            "`train_mask` has no node set",
        ),
        (benchmark().with("train_mask", array![true, false, false]), "3 entries a mask"),
        (
            benchmark().with("train_mask", array![true, false, false, true]),
            "node 3 is in train and again in test",
        ),
        (benchmark().ints("train_mask", &[2, 0, 0, 0]), "expected truth values"),
        (heterophilous().with("edges", array![[0i64, 5]]), "index 5, which is out of range"),
        (heterophilous().with("edges", array![[0i64, 1, 2]]), "has 3 columns"),
        (heterophilous().ints("edges", &[0, 1]), "expected a matrix of integers"),
        (
            heterophilous().ints("node_labels", &[0, 1, 2, 0]),
            "`node_labels` has 4 entries, and there are 5 nodes",
        ),
        (heterophilous().with("node_features", Array2::<f32>::zeros((5, 0))), "no features"),
        (heterophilous().ints("node_features", &[1, 2, 3, 4, 5]), "expected a matrix of numbers"),
        (heterophilous().with("val_masks", Array2::from_elem((1, 5), true)), "as many of each"),
        (heterophilous().with("val_masks", Array2::from_elem((0, 5), true)), "as many of each"),
        (
            heterophilous()
                .ints("node_labels", &[])
                .with("node_features", Array2::<f32>::zeros((0, 2)))
                .with("edges", Array2::<i64>::zeros((0, 2))),
            "0 nodes",
        ),
    ];
    for (arrays, expected) in cases {
        let message = arrays.message();
        assert!(message.contains(expected), "`{expected}` is not in: {message}");
    }
    let empty = benchmark()
        .ints("labels", &[])
        .ints("adj_shape", &[0, 0])
        .ints("attr_shape", &[0, 3])
        .ints("adj_indptr", &[0]);
    let empty = empty
        .ints("attr_indptr", &[0])
        .ints("adj_data", &[])
        .ints("adj_indices", &[])
        .ints("attr_data", &[])
        .ints("attr_indices", &[]);
    let message = empty.without("train_mask").without("val_mask").without("test_mask").message();
    assert!(message.contains("no nodes"), "{message}");
}

#[test]
fn entries_that_are_no_plain_arrays_or_claim_too_much_are_refused_by_name() {
    let described = |descr: &str, shape: &str| {
        header(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"))
    };
    let long = |claim: u32| [&b"\x93NUMPY\x02\x00"[..], &claim.to_le_bytes(), b"{'descr'"].concat();
    let cases = [
        (described("'|O'", "(4,)"), "pickled"),
        (described("'<U5'", "(4,)"), "type `U5`"),
        (described("'<f2'", "(4,)"), "type `f2`"),
        (described("[('a', '<i8')]", "(4,)"), "structured"),
        (described("'<i8'", "(4,)"), "claims the shape [4] of 8-byte numbers, which takes"),
        (described("'<i8'", "(1000000000000,)"), "8-byte numbers, which takes"),
        (described("'<i8'", "(9223372036854775807,)"), "no file can hold"),
        (described("'<i8'", "(9223372036854775807, 0)"), "no file can hold"),
        (described("'<i8'", "(99999999999999999999999,)"), "does not begin like"),
        (described("'<i8'", "()"), "0 dimensions"),
        (described("'<i8'", "(1, 1, 1)"), "3 dimensions"),
        (header(&"(".repeat(9000)), "does not begin like"),
        (header("b'\\777'"), "does not begin like"),
        (header("gibberish"), "does not begin like"),
        (long(u32::MAX), "claims a header"),
        (long(100), "does not begin like"),
        (b"".to_vec(), "does not begin like"),
        (b"\x93NUMPY\x09\x00aaaa".to_vec(), "does not begin like"),
    ];
    for (bytes, expected) in cases {
        let message = benchmark().bytes("labels", bytes).message();
        assert!(
            message.contains("`labels`") && message.contains(expected),
            "`{expected}` is not in: {message}"
        );
    }
    let mut damaged = described("'|b1'", "(4,)");
    damaged.extend([1, 0, 0, 7]);
    assert!(benchmark().bytes("train_mask", damaged).message().contains("`train_mask` is damaged"));
}

#[test]
fn a_small_file_that_declares_gigabytes_is_refused_at_once() {
    let shape = "{'descr': '<i8', 'fortran_order': False, 'shape': (500000000,), }";
    let entry = header(shape);
    let claimed = (entry.len() as u64 + 4_000_000_000) as u32;
    let mut archive = benchmark().bytes("labels", entry.clone()).pack();
    let name = b"labels.npy";
    let places: Vec<usize> =
        (0..archive.len() - name.len()).filter(|&at| archive[at..].starts_with(name)).collect();
    // The uncompressed size stands 8 bytes before the name in the local header and 22 in the
    // central one.
    for (place, back) in places.into_iter().zip([8, 22]) {
        let at = place - back;
        assert_eq!(
            archive[at..at + 4],
            (entry.len() as u32).to_le_bytes(),
            "the place of the size in the archive"
        );
        archive[at..at + 4].copy_from_slice(&claimed.to_le_bytes());
    }
    let message = read_bytes(&archive, None).unwrap_err().to_string();
    assert!(
        message.contains("`labels` claims 4000000") && message.contains("packed bytes"),
        "{message}"
    );
}

#[test]
fn a_damaged_entry_fails_its_checksum() {
    let mut archive = benchmark().pack();
    let name = b"adj_data.npy";
    let place = (0..archive.len()).find(|&at| archive[at..].starts_with(name)).unwrap();
    archive[place + name.len() + 40] ^= 0x10;
    let message = read_bytes(&archive, None).unwrap_err().to_string();
    assert!(message.contains("`adj_data`"), "{message}");
}

#[test]
fn values_that_a_file_keeps_in_f64_are_rounded_once() {
    let x = 1.0 + f64::EPSILON * 3.0;
    let data = heterophilous()
        .with("node_features", array![[x, 3.0], [1.0, 0.0], [0.1, 0.2], [1e200, 1e200], [0.0, 0.0]])
        .pack();
    let l1 = read_bytes(&data, Some(FeatureNorm::L1)).unwrap();
    let rows = l1.features().to_dense();
    assert_eq!(
        (rows[[0, 0]], rows[[2, 0]], rows[[3, 0]]),
        ((x / (x + 3.0)) as f32, (0.1f64 / (0.1 + 0.2)) as f32, 0.5)
    );
    assert!(
        read_bytes(&data, None).unwrap_err().to_string().contains("not finite"),
        "1e200 is no f32"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_corruption_of_the_archive_makes_it_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), end in any::<prop::sample::Index>(), cut: bool, other: bool
    ) {
        let mut bytes = if other { heterophilous().pack() } else { benchmark().pack() };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        // Either outcome is right: a flip may hit a byte that means nothing.
        let _ = read_bytes(&bytes, None);
    }

    #[test]
    fn no_corruption_behind_a_right_checksum_makes_it_panic(
        key in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), end in any::<prop::sample::Index>(), cut: bool, other: bool
    ) {
        let mut arrays = if other { heterophilous() } else { benchmark() };
        let key = arrays.0.keys().nth(key.index(arrays.0.len())).unwrap().clone();
        let bytes = arrays.0.get_mut(&key).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let _ = arrays.read();
    }
}
