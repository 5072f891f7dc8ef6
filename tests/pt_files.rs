//! Files of PyTorch: they hold what PyTorch says they hold, and nothing in them can do harm.

use gnn_prune::Dataset;
use gnn_prune::data::{EdgeSplit, Purpose, Triples, UNLABELED};
use gnn_prune::files::Tensors;
use gnn_prune::task::{EdgeTask, Part, Task};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use zip::write::{SimpleFileOptions, ZipWriter};

/// However absurd a file is, it is refused before this is over, in an unoptimised build too.
const SOON: Duration = Duration::from_secs(20);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
}

fn bits(tensors: &Tensors) -> BTreeMap<&str, (&[usize], Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    tensors
        .floats
        .iter()
        .map(|(name, array)| (name.as_str(), (&array.shape[..], bits(&array.values))))
        .collect()
}

fn told(tensors: &Tensors, key: &str) -> Json {
    serde_json::from_str(
        tensors
            .metadata
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not among {:?}", tensors.metadata.keys())),
    )
    .unwrap()
}

#[test]
fn every_file_holds_what_pytorch_says_to_the_bit() {
    let mut seen = 0;
    for path in
        files(&folder()).into_iter().filter(|path| path.extension().unwrap() != "safetensors")
    {
        let found = Tensors::read(&path).unwrap();
        let expected = Tensors::read(path.with_extension("safetensors")).unwrap();
        assert_eq!(bits(&found), bits(&expected), "{}", path.display());
        assert_eq!(found.integers, expected.integers, "{}", path.display());
        let mut order = told(&found, "pt.order").as_array().unwrap().clone();
        order.sort_by_key(|name| name.as_str().unwrap().to_string());
        let mut names: Vec<&String> =
            expected.floats.keys().chain(expected.integers.keys()).collect();
        names.sort();
        assert_eq!(Json::from(order), json!(names), "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 26);
}

#[test]
fn half_floats_of_safetensors_are_the_floats_that_they_stand_for() {
    let found = Tensors::read(folder().join("floats_as_they_are.safetensors")).unwrap();
    assert_eq!(bits(&found), bits(&Tensors::read(folder().join("floats.safetensors")).unwrap()));
}

#[test]
fn a_module_tells_its_classes_and_settings() {
    for (file, read) in [("module_net.pt", None), ("wrapped_module.pth", Some("model"))] {
        let net = Tensors::read(folder().join(file)).unwrap();
        assert_eq!(
            net.metadata.get("pt.read").map(|_| told(&net, "pt.read")),
            read.map(Json::from)
        );
        let conv = told(&net, "module.conv1");
        assert_eq!(conv["class"], "torch_geometric.nn.conv.gcn_conv.GCNConv");
        assert_eq!(
            (&conv["improved"], &conv["normalize"], &conv["add_self_loops"]),
            (&json!(true), &json!(true), &json!(true))
        );
        let attention = told(&net, "module.conv2");
        assert_eq!(attention["class"], "torch_geometric.nn.conv.gat_conv.GATConv");
        let said = ["heads", "concat", "negative_slope", "add_self_loops", "dropout"]
            .map(|key| attention[key].clone());
        assert_eq!(said, [json!(3), json!(false), json!(0.1), json!(false), json!(0.0)]);
        assert_eq!(told(&net, "module.conv3")["aggr"], "max");
        assert_eq!(told(&net, "module.drop")["p"], 0.25);
        assert_eq!(told(&net, "module.act")["negative_slope"], 0.3);
        assert_eq!(told(&net, "module.act")["class"], "torch.nn.modules.activation.LeakyReLU");
        let whole = told(&net, "module");
        assert_eq!(
            (&whole["class"], &whole["widths"], &whole["jk"]),
            (&json!("__main__.Net"), &json!([3, 4, 2]), &Json::Null)
        );
        assert!(whole.get("unregistered").is_none() && whole.get("training").is_none(), "{whole}");
        let order = told(&net, "pt.modules")
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_string())
            .collect::<Vec<_>>();
        let place = |name: &str| order.iter().position(|known| known == name).unwrap();
        assert!(
            place("") < place("conv1")
                && place("conv1") < place("conv2")
                && place("layers.0") < place("layers.1"),
            "{order:?}"
        );
        // What `state_dict()` leaves out, and what it names twice.
        assert!(!net.floats.contains_key("scratch") && !net.floats.contains_key("nothing"));
        assert_eq!(net.floats["layers.0.weight"], net.floats["layers.1.weight"]);
        assert_eq!(net.floats["bn.weight"], net.floats["again.weight"]);
    }
}

#[test]
fn a_wrapper_tells_what_was_read_and_what_was_left() {
    let lightning = Tensors::read(folder().join("lightning.ckpt")).unwrap();
    assert_eq!(told(&lightning, "pt.read"), "state_dict");
    assert_eq!(told(&lightning, "pt.unread"), json!(["callbacks", "optimizer_states"]));
    let settings = json!({ "aggr": "max", "dropout": 0.5, "hidden_channels": 4, "norm": null, "widths": [4, 4] });
    assert_eq!(told(&lightning, "pt.hyper_parameters"), settings);
    let one = Tensors::read(folder().join("wrapped_in_one.pth")).unwrap();
    assert_eq!(
        (told(&one, "pt.read"), told(&one, "pt.unread")),
        (json!("my_network"), json!(["optim"]))
    );
}

#[test]
fn a_graph_is_the_same_from_a_pickle_as_from_safetensors() {
    let expected = Dataset::read(folder().join("data.safetensors")).unwrap();
    for name in
        ["data.pt", "data_legacy.pt", "data_as_dict.pt", "data_processed.pt", "data_of_one.pt"]
    {
        let found = Dataset::read(folder().join(name)).unwrap();
        assert_eq!(found.graph().adjacency(), expected.graph().adjacency(), "{name}");
        assert_eq!(found.graph().edge_features(), expected.graph().edge_features(), "{name}");
        assert_eq!(found.features().to_dense(), expected.features().to_dense(), "{name}");
        assert_eq!(
            (found.classes().unwrap(), found.num_classes()),
            (expected.classes().unwrap(), expected.num_classes()),
            "{name}"
        );
        assert_eq!(format!("{:?}", found.splits()), format!("{:?}", expected.splits()), "{name}");
    }
    let small = Tensors::read(folder().join("data_in_a_list.pt")).unwrap();
    assert_eq!(
        (told(&small, "data.name"), told(&small, "data.num_classes")),
        (json!("small"), json!(2))
    );
}

#[test]
fn a_label_that_is_nan_is_none_in_both_formats() {
    for name in ["unlabelled/data.pt", "unlabelled/data.safetensors"] {
        let found = Dataset::read(folder().join(name)).unwrap();
        assert_eq!(found.classes().unwrap(), [0, 1, UNLABELED, 1, 0, UNLABELED], "{name}");
    }
}

#[test]
fn what_is_not_read_is_named_with_the_way_out() {
    let words = [
        ("complex.pt", "tensor `a` is of type ComplexFloat, which is not read"),
        ("float8.pt", "tensor `a` is of type float8_e4m3fn, which is not read"),
        ("hetero.pt", "save `data.to_homogeneous()`"),
        (
            "high_byte_first.pt",
            "tensor `a` is an array of numpy whose bytes are not in order, the low one first; save",
        ),
        ("lazy.pt", "tensor `0.weight` has no shape yet; run the network once"),
        ("negative.pt", "tensor `a` is marked as `neg`"),
        ("not_finite.pt", "tensor `lin.weight` holds inf, which is not a finite number"),
        ("nothing.pt", "holds no tensor; save `model.state_dict()`"),
        ("one_tensor.pt", "holds one tensor without a name"),
        ("plain.pkl", "is a plain pickle of a dict"),
        ("plain_state.pkl", "is a plain pickle of a dict"),
        ("quantized.pt", "tensor `a` is quantised by PyTorch"),
        ("same_name.pt", "tensor `a.b` stands there twice"),
        ("scripted.pt", "is a TorchScript archive, which is a program; save the state dict"),
        ("slices.pt", "holds 2 graphs, and one is read"),
        (
            "sparse.pt",
            "tensor `adj` is sparse, which is not read; save what its `to_dense()` gives",
        ),
        ("text.pt", "holds text, which is neither a network"),
        ("too_large.pt", "tensor `y` holds 9223372036854775808"),
        ("two_graphs.pt", "holds 2 graphs, and one is read"),
        ("two_of_them.pt", "holds networks under `state_dict` and `model`"),
    ];
    let found: Vec<PathBuf> = files(&folder().join("refused"));
    assert_eq!(found.len(), words.len());
    for (path, (name, words)) in found.iter().zip(words) {
        assert_eq!(path.file_name().unwrap().to_str(), Some(name));
        let message = Tensors::read(path).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
    }
    for (entries, words) in [
        (
            &["net/archive_format", "net/models/model.json"][..],
            "is a program of `torch.export`; save the state dict",
        ),
        (&["x.npy", "y.npy"], "is an archive of NumPy arrays"),
        (&["word/document.xml"], "is a zip archive without a `data.pkl`"),
    ] {
        let message =
            zipped(entries.iter().map(|&name| (name, &b"{}"[..])), zip::CompressionMethod::Stored)
                .problem();
        assert!(message.contains(words), "{message}");
    }
    let onnx = File::new(b"\x08\x08\x12\x07pytorch\x1a\x052.5.0:\x10");
    assert!(onnx.problem().contains("is an ONNX file"), "{}", onnx.problem());
}

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new(bytes: &[u8]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-pt-{}-{}.pt",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn problem(&self) -> String {
        let begun = Instant::now();
        let message = Tensors::read(&self.0).unwrap_err().to_string();
        assert!(begun.elapsed() < SOON, "{message} took {:?}", begun.elapsed());
        assert!(!message.contains('\n'), "{message}");
        message
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An archive with a pickle and one storage of four floats.
fn archive(pickle: &[u8], method: zip::CompressionMethod) -> File {
    let floats: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    zipped([("net/data.pkl", pickle), ("net/data/0", &floats)], method)
}

fn zipped<'a>(
    entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    method: zip::CompressionMethod,
) -> File {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    File::new(&writer.finish().unwrap().into_inner())
}

fn stored(pickle: &[u8]) -> File {
    archive(pickle, zip::CompressionMethod::Stored)
}

fn text(text: &str) -> Vec<u8> {
    [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// In as few bytes as tell the sign, as Python writes it.
fn long(value: i64) -> Vec<u8> {
    let mut bytes = value.to_le_bytes().to_vec();
    while let [.., below, top] = bytes[..]
        && top == if below & 0x80 == 0 { 0 } else { 0xff }
    {
        bytes.pop();
    }
    [&[0x8a, bytes.len() as u8][..], &bytes].concat()
}

/// What leaves a tensor on the stack that sees the storage from an offset, in a shape, by strides.
fn tensor(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let mut code = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    code.extend(text("storage"));
    code.extend(b"ctorch\nFloatStorage\n");
    code.extend([text("0"), text("cpu"), long(4)].concat());
    code.extend(b"tQ");
    code.extend(long(offset));
    for axes in [shape, strides] {
        code.push(b'(');
        axes.iter().for_each(|&axis| code.extend(long(axis)));
        code.push(b't');
    }
    code.extend(b"\x89}tR");
    code
}

/// `{name: value}`, the value as code.
fn dict(name: &str, value: &[u8]) -> Vec<u8> {
    [b"}", &text(name)[..], value, b"s"].concat()
}

fn program(code: &[u8]) -> Vec<u8> {
    [b"\x80\x02", code, b"."].concat()
}

#[test]
fn a_pickle_that_is_made_by_hand_is_read() {
    // Else the tests below would see nothing but mistakes of their own.
    let file = stored(&program(&dict("w", &tensor(1, &[3], &[1]))));
    assert_eq!(Tensors::read(&file.0).unwrap().floats["w"].values, [2.0, 3.0, 4.0]);
    let file = stored(&program(&dict("w", &tensor(0, &[2, 2], &[1, 2]))));
    assert_eq!(Tensors::read(&file.0).unwrap().floats["w"].values, [1.0, 3.0, 2.0, 4.0]);
}

#[test]
fn tensors_that_claim_more_than_their_storage_has_are_refused() {
    let most = i64::MAX;
    for (offset, shape, strides, words) in [
        (0, &[5][..], &[1][..], "reaches beyond the 4 numbers of its storage"),
        (4, &[1], &[1], "reaches beyond"),
        (0, &[2, 2], &[3, 1], "reaches beyond"),
        (most, &[1], &[1], "reaches beyond"),
        (1, &[2], &[most], "reaches beyond"),
        (0, &[2, 2, 2], &[most, most, most], "reaches beyond"),
        (0, &[1 << 40], &[0], "claims the shape"),
        (0, &[most, most], &[0, 0], "claims the shape"),
        (0, &[0, most], &[1, 1], "claims the shape"),
        (-1, &[1], &[1], "has -1 as a length"),
        (0, &[-4], &[1], "has -4 as a length"),
        (0, &[2, 2], &[1], "has 2 axes and 1 strides"),
        (0, &[1; 65], &[1; 65], "has 65 axes"),
    ] {
        let message = stored(&program(&dict("w", &tensor(offset, shape, strides)))).problem();
        assert!(message.contains("tensor `w`") && message.contains(words), "{message}");
    }
}

#[test]
fn objects_within_each_other_without_end_are_refused() {
    let times = |code: &[u8], count: usize| code.repeat(count);
    let deep = 300_000;
    // A module whose child is itself: `BUILD` comes last, and the memo knows the object before.
    let module = |children: &[u8]| {
        let mut code = b"cm\nNet\n)\x81q\x00}(".to_vec();
        code.extend(
            [&text("_parameters")[..], &dict("w", &tensor(0, &[1], &[1])), &text("_buffers"), b"}"]
                .concat(),
        );
        code.extend([&text("_modules")[..], children, b"ub"].concat());
        code
    };
    let own_child = module(&dict("me", b"h\x00"));
    // Two names for one dict, which has two names for another, and so on: 2^60 ways to one tensor.
    let mut laughs = dict("w", &tensor(0, &[1], &[1]));
    for level in 0..60u8 {
        laughs.extend([b'q', level, b'0', b'}']);
        laughs.extend(
            [&text("a")[..], &[b'h', level, b's'], &text("b"), &[b'h', level, b's']].concat(),
        );
    }
    for (name, code, words) in [
        (
            "lists in lists",
            [times(b"]", deep), times(b"a", deep - 1)].concat(),
            "holds objects within each other without end",
        ),
        ("tuples in tuples", [b")".to_vec(), times(b"\x85", deep)].concat(), "without end"),
        (
            "dicts in dicts",
            [times(b"}K\x01", deep), tensor(0, &[1], &[1]), times(b"s", deep)].concat(),
            "without end",
        ),
        ("a list in itself", b"]q\x00h\x00a".to_vec(), "without end"),
        (
            "a dict in itself",
            [b"}q\x00", &text("w")[..], &tensor(0, &[1], &[1]), b"s", &text("me"), b"h\x00s"]
                .concat(),
            "without end",
        ),
        ("a module in itself", own_child, "without end"),
        ("ways without number", laughs, "without end"),
        (
            "calls of calls",
            [b"cm\nf\n".to_vec(), times(b")R", deep)].concat(),
            "holds an object of no known class",
        ),
    ] {
        let message = stored(&program(&code)).problem();
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    let huge = u64::MAX.to_le_bytes();
    for (code, words) in [
        ([&[0x8d][..], &huge].concat(), "is cut off"),
        ([&[0x8e][..], &huge].concat(), "is cut off"),
        ([&[0x96][..], &huge].concat(), "is cut off"),
        (b"\x8b\xff\xff\xff\xff".to_vec(), "is cut off"),
        (b"X\xff\xff\xff\x7f".to_vec(), "is cut off"),
        (b"j\xff\xff\xff\xff".to_vec(), "place 4294967295 of its pickle's memo, which is empty"),
        (b"Nr\xff\xff\xff\xff".to_vec(), "holds None"),
        (b"t".to_vec(), "lacks a mark"),
        (b"R".to_vec(), "takes more from the stack"),
        (b"(0R".to_vec(), "takes more from the stack"),
        (b"N(s".to_vec(), "takes more from the stack"),
        (b"}(Nu".to_vec(), "has a key without a value"),
        (b"NNa".to_vec(), "puts items into something"),
        (b"N}b".to_vec(), "sets the state of something"),
        (b"\x80\x09".to_vec(), "protocol 9"),
        (b"\x97".to_vec(), "has the opcode 0x97 at byte 2"),
        (b"cos\nsystem\n".to_vec(), "holds `os.system`"),
        (
            [b"cos\nsystem\n", &text("touch /nowhere")[..], b"\x85R"].concat(),
            "holds an object of `os.system`",
        ),
    ] {
        let message = stored(&program(&code)).problem();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_pickle_that_unpacks_to_more_than_it_may_is_refused() {
    // Repeated bytes pack some hundreds to one: the longer pickle is refused before it is unpacked,
    // the shorter by its objects.
    let problems = |bytes: usize| {
        let pickles = [&b"]"[..], b"N\x94", b"(", b"(t", b"}2"]
            .map(|code| program(&code.repeat(bytes / code.len())));
        pickles.map(|pickle| archive(&pickle, zip::CompressionMethod::Deflated).problem())
    };
    for message in problems(1 << 20) {
        assert!(message.contains("may grow to"), "{message}");
    }
    assert!(problems(8 << 20).iter().any(|message| message.contains("claims the shape")));
}

#[test]
fn what_is_cut_off_or_changed_is_refused_or_read() {
    for name in ["state_dict.pt", "views_legacy.pt", "data_in_a_list.pt"] {
        let whole = std::fs::read(folder().join(name)).unwrap();
        let file = File::new(&whole);
        let expected = Tensors::read(&file.0).unwrap();
        for cut in (0..whole.len()).step_by(3) {
            std::fs::write(&file.0, &whole[..cut]).unwrap();
            file.problem();
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file.0, &bytes).unwrap();
            // Numbers of an archive have a checksum: they are the same, or the file is refused.
            if let Ok(found) = Tensors::read(&file.0)
                && !name.contains("legacy")
            {
                assert!(
                    found.floats == expected.floats && found.integers == expected.integers,
                    "{name} at {at}"
                );
            }
        }
    }
}

#[test]
fn folders_of_the_open_graph_benchmark_hold_facts_or_edges_and_their_parts() {
    let folder = folder().join("ogb");
    let [facts, people] = ["facts", "people"].map(|name| folder.join(name));
    assert!(Triples::are_in(&facts) && !EdgeSplit::are_in(&facts));
    assert!(!Triples::are_in(&people) && EdgeSplit::are_in(&people));
    let facts = Triples::read(facts).unwrap();
    // One entity is in no triple, and only the folder's count tells of it.
    assert_eq!((facts.num_entities(), facts.num_relations()), (13, 2));
    let parts = [facts.train(), facts.valid(), facts.test()];
    assert_eq!(parts.map(<[_]>::len), [16, 4, 4]);
    let mut all = parts.concat();
    all.sort_unstable();
    let expected = (0..12).flat_map(|k| [0, 1].map(|r| [k, r, (k + 1 + r) % 12]));
    assert!(all.into_iter().eq(expected));
    assert!(facts.notes().iter().any(|note| note.contains("not among those of `head_neg`")));

    let data = Dataset::reader(&people).purpose(Purpose::Predict).read().unwrap();
    let split = EdgeSplit::read(people).unwrap();
    assert_eq!(split.edges().each_ref().map(Vec::len), [140, 20, 20]);
    assert_eq!(split.others()[1][0], [0, 2]);
    assert!(split.edges().iter().flatten().all(|[u, v]| u < v && u % 4 == v % 4));
    assert!(split.notes()[0].contains("not read: `weight`, `year`"), "{:?}", split.notes());
    let task = EdgeTask::with_split(&data, &split).unwrap();
    let batch = task.batches(Part::Test, 0).unwrap().epoch(0).next().unwrap().unwrap();
    assert!(Task::<f32>::settings(&task).ends_with(", hidden by the data"));
    assert_eq!(batch.rows().len(), 50);
}
