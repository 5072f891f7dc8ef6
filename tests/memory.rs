//! What is allocated: while files are read that claim much and hold nothing, their bytes times a
//! stated factor; by a program that has run once, nothing.
//!
//! A program of its own, since it counts what its allocator hands out.

use gnn_prune::files::budget::{FACTOR, SHORT};
use gnn_prune::io::pyg::{Assumptions, Checkpoint};
use gnn_prune::nn::Cx;
use gnn_prune::quant::{Form, Forms, Rounding};
use gnn_prune::report::Meter;
use gnn_prune::{
    Bits, Compressed, Dataset, Gcn, Graph, Mlp, Model, Quantizer, Result, Sage, Sgc, Trainer,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static TIMES: AtomicUsize = AtomicUsize::new(0);

fn count(layout: Layout) {
    TIMES.fetch_add(1, Ordering::Relaxed);
    MOST.fetch_max(
        NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size(),
        Ordering::Relaxed,
    );
}

// SAFETY: everything is handed on to the system's allocator, which keeps the contract; sums are
// kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time, since all share the sums.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How many times what a budget grants a reader may take: it widens bytes to numbers of eight, and
/// keeps two copies.
const COPIES: u64 = 16;

/// A folder that is removed at the end, also of a test that fails.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("gnn-prune-memory-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a reader that must refuse a file of so many bytes within its budget.
fn refuses<R>(what: &str, bytes: usize, read: impl FnOnce() -> Result<R>) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let message = match read() {
        Ok(_) => panic!("{what} was read"),
        Err(error) => error.to_string(),
    };
    let most = (MOST.load(Ordering::Relaxed) - before) as u64;
    assert!(
        most <= COPIES * (FACTOR * bytes as u64 + SHORT),
        "{what}: {most} bytes for a file of {bytes}: {message}"
    );
    assert!(!message.contains('\n'), "{what}: {message}");
}

/// A safetensors file with this header, and so many zeros behind it.
fn tensors(header: &str, zeros: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

/// An array file whose header claims a shape.
fn npy(descriptor: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn archives_that_claim_much_are_refused_within_their_budget() {
    let _alone = alone();
    let folder = Folder::new("npz");
    let plain = |masks: Vec<u8>| {
        let floats: Vec<u8> = [1.0f32; 8].iter().flat_map(|v| v.to_le_bytes()).collect();
        let ints =
            |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        archive(&[
            ("node_features", npy("<f4", "(4, 2)", &floats)),
            ("node_labels", npy("<i8", "(4,)", &ints(&[0, 1, 0, 1]))),
            ("edges", npy("<i8", "(2, 2)", &ints(&[0, 1, 2, 3]))),
            ("train_masks", masks.clone()),
            ("val_masks", masks.clone()),
            ("test_masks", masks),
        ])
    };
    for shape in [
        "(1000000000, 0)",
        "(1152921504606846976, 0)",
        "(0, 1152921504606846976)",
        "(4294967296, 0)",
    ] {
        let bytes = plain(npy("|b1", shape, &[]));
        let path = folder.with("masks.npz", &bytes);
        refuses(shape, bytes.len(), || Dataset::read(&path));
    }
    // 64 MB of zeros pack a thousand to one.
    let body = vec![0u8; 64 << 20];
    let bytes = archive(&[
        ("node_features", npy("<f4", "(4096, 4096)", &body)),
        ("node_labels", npy("|i1", "(67108864,)", &body)),
    ]);
    assert!(bytes.len() < 200_000);
    let path = folder.with("bomb.npz", &bytes);
    drop(body);
    refuses("an archive of zeros", bytes.len(), || Dataset::read(&path));
}

#[test]
fn tensors_that_claim_much_are_refused_within_their_budget() {
    let _alone = alone();
    let folder = Folder::new("tensors");
    let graph = |x: &str, more: &str| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":{x},"data_offsets":[0,0]}},"edge_index":{{"dtype":"I64","shape":[2,0],"data_offsets":[0,0]}},"y":{{"dtype":"I64","shape":[0],"data_offsets":[0,0]}}{more}}}"#
        )
    };
    let mask = |shape: &str| {
        ["train_mask", "val_mask", "test_mask"]
            .map(|name| {
                format!(r#","{name}":{{"dtype":"BOOL","shape":{shape},"data_offsets":[0,0]}}"#)
            })
            .concat()
    };
    for (name, header) in [
        ("x of 4e9 rows", graph("[4000000000,0]", "")),
        ("x of 2^62 columns", graph("[0,4611686018427387904]", "")),
        ("masks of 2^62 columns", graph("[0,1]", &mask("[0,4611686018427387904]"))),
        ("masks of 2^62 rows", graph("[0,1]", &mask("[4611686018427387904,0]"))),
    ] {
        let bytes = tensors(&header, 0);
        let path = folder.with("graph.safetensors", &bytes);
        refuses(name, bytes.len(), || Dataset::read(&path));
        refuses(name, bytes.len(), || Checkpoint::read(&path, &Assumptions::default()));
        refuses(name, bytes.len(), || Compressed::load(&path));
    }
}

#[test]
fn a_table_beside_an_empty_array_is_refused_within_its_budget() {
    let _alone = alone();
    let folder = Folder::new("table");
    let array = npy("<f4", "(4000000000, 0)", &[]);
    folder.with("graph.npy", &array);
    folder.with("graph.labels.csv", b"0\n1\n");
    let path = folder.with("graph.csv", b"0,1\n1,0\n");
    refuses("4e9 nodes without features", array.len(), || Dataset::read(&path));
}

#[test]
fn types_of_edges_out_of_the_air_make_no_matrices() {
    let _alone = alone();
    let nodes = 50_000;
    let graph =
        Graph::builder(nodes).edges([(0, 1), (1, 2), (2, 3)]).edge_types(vec![0, 1, 65_535]);
    refuses("65,536 types for three edges", 8 * nodes, || graph.build());
    let few = Graph::builder(nodes).edges([(0, 1), (1, 2)]).edge_types(vec![0, 2]).build().unwrap();
    assert_eq!(few.relations().len(), 3);
}

#[test]
fn models_that_claim_much_are_refused_within_their_budget() {
    let _alone = alone();
    let folder = Folder::new("models");
    let model = Gcn::builder(5, 3).hidden(4).build(0).unwrap();
    let path = folder.0.join("model");
    model.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let names: Vec<String> = header
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "__metadata__")
        .cloned()
        .collect();
    for name in &names {
        for shape in [[0u64, 1 << 40], [1 << 40, 0], [0, 1 << 62], [1 << 62, 0]] {
            let mut header = header.clone();
            header[name] =
                serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, 0] });
            // Offsets must lie one after the other: the other tensors are empty as well.
            for other in names.iter().filter(|other| *other != name) {
                header[other] =
                    serde_json::json!({ "dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0] });
            }
            let file = tensors(&header.to_string(), 0);
            let path = folder.with("claims", &file);
            refuses(name, file.len(), || Model::load(&path));
        }
    }
}

/// Models whose programs are products and aggregations alone.
fn lean() -> Vec<(&'static str, Model)> {
    let (inputs, classes) = (64, 10);
    vec![
        ("gcn", Gcn::builder(inputs, classes).hidden(16).layers(3).build(0).unwrap()),
        ("sage", Sage::builder(inputs, classes).hidden(16).build(0).unwrap()),
        ("sgc", Sgc::builder(inputs, classes).build(0).unwrap()),
        ("mlp", Mlp::builder(inputs, classes).hidden(16).build(0).unwrap()),
    ]
}

#[test]
fn programs_of_products_and_aggregations_allocate_nothing_after_their_first_run() {
    let _alone = alone();
    let data = Dataset::digits().unwrap();
    let x = data.features();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for (name, model) in lean() {
            let quantizer =
                Quantizer::builder(Bits::Eight).rounding(Rounding::Nearest).build().unwrap();
            let small = quantizer.quantize(&model, &data).unwrap();
            pool.install(|| {
                let check = |form: &str, run: &mut dyn FnMut()| {
                    // The first run makes buffers; the pool's own queues grow in the first few.
                    (0..20).for_each(|_| run());
                    let before = TIMES.load(Ordering::Relaxed);
                    (0..5).for_each(|_| run());
                    let times = TIMES.load(Ordering::Relaxed) - before;
                    assert_eq!(times, 0, "{name}, {form}, {threads} threads");
                };
                let mut float = model.compile(data.graph(), x).unwrap();
                check("floats", &mut || _ = float.run(x).unwrap());
                for (form, forms) in
                    [("integers", Forms::Integers), ("floats of integers", Forms::Floats)]
                {
                    let mut program = small.compile_as(data.graph(), x, forms).unwrap();
                    // On integers the two weights of GraphSAGE are joined, and joins list their
                    // terms.
                    if program
                        .forms()
                        .iter()
                        .any(|stage| stage.operation == "add" && stage.form == Form::Integers)
                    {
                        continue;
                    }
                    let mut prepared = program.prepare(x).unwrap();
                    check(form, &mut || _ = prepared.run());
                }
            });
        }
    }
}

/// Counted by the kernels, and worked out from the stages of the program.
#[test]
fn what_kernels_count_is_what_the_program_says_that_it_costs() -> Result<()> {
    let _alone = alone();
    let data = Dataset::sbm(400, 3).features(12).seed(3).build()?;
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let models = [
        Gcn::builder(inputs, outputs).hidden(16).layers(3).build(0)?,
        Sage::builder(inputs, outputs).hidden(16).build(0)?,
        Sgc::builder(inputs, outputs).build(0)?,
        Mlp::builder(inputs, outputs).hidden(8).build(0)?,
    ];
    for model in models {
        let said = model.compile(data.graph(), data.features())?.cost().macs;
        let meter = Meter::start();
        model.infer(&Cx::eval(data.graph()), data.features())?;
        let forward = meter.stop();
        assert_eq!(forward.macs, said);
        // This program has an allocator of its own.
        assert_eq!(forward.peak_bytes, None);
        let meter = Meter::start();
        Trainer::builder().epochs(1).build()?.fit(model, &data)?;
        // Forward, backward of weights and of all inputs but the first, validation: what adds up
        // over neighbours has no weights.
        let epoch = meter.stop().macs;
        assert!((5 * said / 2..5 * said).contains(&epoch), "{epoch} for {said}");
    }
    Ok(())
}
