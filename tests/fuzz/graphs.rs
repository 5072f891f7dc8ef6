//! Data sets, recipes and words to start from.

use super::arrays::{gz, npy, pack};
use super::case::Case;
use super::tensors::File;
use zip::CompressionMethod;

fn longs(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
    values.into_iter().flat_map(i64::to_le_bytes).collect()
}

fn ints(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
    values.into_iter().flat_map(i32::to_le_bytes).collect()
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn doubles(values: impl IntoIterator<Item = f64>) -> Vec<u8> {
    values.into_iter().flat_map(f64::to_le_bytes).collect()
}

/// One node in three is in each part.
fn mask(nodes: usize, part: usize) -> Vec<u8> {
    (0..nodes).map(|node| u8::from(node % 3 == part)).collect()
}

fn entries(named: Vec<(&str, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    named.into_iter().map(|(name, bytes)| (format!("{name}.npy"), bytes)).collect()
}

pub fn archives() -> Vec<Case> {
    let benchmark = |nodes: usize| {
        let next = |node: usize| (node + 1) % nodes;
        vec![
            ("adj_data", npy("<f4", &[nodes], &floats((0..nodes).map(|_| 1.0)))),
            ("adj_indices", npy("<i4", &[nodes], &ints((0..nodes).map(|node| next(node) as i32)))),
            ("adj_indptr", npy("<i4", &[nodes + 1], &ints(0..=nodes as i32))),
            ("adj_shape", npy("<i8", &[2], &longs([nodes as i64; 2]))),
            ("attr_data", npy("<f4", &[nodes], &floats((0..nodes).map(|node| node as f32 - 2.0)))),
            ("attr_indices", npy("<i4", &[nodes], &ints((0..nodes).map(|node| node as i32 % 3)))),
            ("attr_indptr", npy("<i8", &[nodes + 1], &longs(0..=nodes as i64))),
            ("attr_shape", npy("<i8", &[2], &longs([nodes as i64, 3]))),
            ("labels", npy("<i8", &[nodes], &longs((0..nodes).map(|node| node as i64 % 2)))),
        ]
    };
    let mut masked = benchmark(6);
    for (part, name) in ["train_mask", "val_mask", "test_mask"].into_iter().enumerate() {
        masked.push((name, npy("|b1", &[6], &mask(6, part))));
    }
    let heterophilous = |real: Vec<u8>, pick: fn(&[u8]) -> Vec<u8>| {
        let masks = |part: usize| pick(&[mask(6, part), mask(6, (part + 1) % 3)].concat());
        vec![
            ("node_features", real),
            ("node_labels", npy("<i8", &[6], &longs([0, 1, 0, 1, 2, 2]))),
            ("edges", npy("<i8", &[4, 2], &longs([0, 1, 1, 2, 3, 4, 5, 0]))),
            ("train_masks", masks(0)),
            ("val_masks", masks(1)),
            ("test_masks", masks(2)),
        ]
    };
    let single = npy("<f4", &[6, 2], &floats((0..12).map(|k| k as f32 / 4.0)));
    let double = npy("<f8", &[6, 2], &doubles((0..12).map(|k| f64::from(k) / 4.0)));
    let layouts = [
        entries(masked),
        entries(benchmark(110)),
        entries(heterophilous(single, |masks| npy("|b1", &[2, 6], masks))),
        entries(heterophilous(double, |masks| npy("|u1", &[2, 6], masks))),
    ];
    let packed = |entries| {
        [CompressionMethod::Stored, CompressionMethod::Deflated]
            .map(|method| Case::of([("graph.npz", pack(entries, method))]))
    };
    layouts.iter().flat_map(packed).collect()
}

/// Enough nodes a class for a split that is drawn.
const NODES: usize = 110;

pub fn lists() -> Vec<Case> {
    let edges: String =
        (0..NODES).map(|node| format!("{node},{},0.5\n", (node + 1) % NODES)).collect();
    let plain: String =
        (0..NODES).map(|node| format!("{node},{}\n", (node * 7 + 3) % NODES)).collect();
    let single = npy("<f4", &[NODES, 2], &floats((0..2 * NODES).map(|k| k as f32)));
    let double = npy("<f8", &[NODES, 1], &doubles((0..NODES).map(|k| k as f64)));
    let labels: String = (0..NODES).map(|node| format!("{}\n", node % 2)).collect();
    let array = npy("<i8", &[NODES], &longs((0..NODES).map(|node| node as i64 % 2)));
    vec![
        Case::of([
            ("graph.csv", format!("source,target,weight\n{edges}").into_bytes()),
            ("graph.npy", single.clone()),
            ("graph.labels.csv", labels.clone().into_bytes()),
        ]),
        Case::of([
            ("graph.csv", plain.clone().into_bytes()),
            ("graph.npy", double),
            ("graph.labels.npy", array),
        ]),
        Case::of([
            ("graph.csv.gz", gz(plain.as_bytes())),
            ("graph.npy", single),
            ("graph.labels.csv", labels.into_bytes()),
        ]),
    ]
    .into_iter()
    .chain(sheets())
    .collect()
}

/// Tables as people write them: separators, headings, nodes in a column, labels of words, some
/// missing, and a split.
fn sheets() -> Vec<Case> {
    const NODES: usize = 12;
    let table = |heading: &str, line: &dyn Fn(usize) -> String| {
        let lines: String = (0..NODES).map(|node| line(node) + "\n").collect();
        format!("{heading}{lines}").into_bytes()
    };
    let next = |node: usize| (node * 5 + 1) % NODES;
    let part = |node: usize| ["train", "val", "test"][node % 3];
    let class = |node: usize| ["paper", "author"][node % 2];
    vec![
        Case::of([
            ("graph.tsv", table("to\tfrom\tw\n", &|node| format!("{node}\t{}\t0.5", next(node)))),
            (
                "graph.features.csv",
                table("node;a;b\n", &|node| format!("{};{node};0.25", NODES - 1 - node)),
            ),
            (
                "graph.labels.csv",
                table("node,degree,label\n", &|node| format!("{},3,{}", next(node), class(node))),
            ),
            ("split.csv", table("node,part\n", &|node| format!("{node},{}", part(node)))),
        ]),
        Case::of([
            (
                "graph.csv",
                table("# a comment\n,source,target\n", &|node| {
                    format!("{node},{node},{}", next(node))
                }),
            ),
            ("graph.features.csv", table("a,b\n", &|node| format!("{node},-1e-3"))),
            (
                "graph.labels.csv",
                table("label\n", &|node| [class(node), "\"\""][usize::from(node == 3)].to_string()),
            ),
            (
                "split.csv",
                table("", &|node| if node == 3 { "-1".into() } else { (node % 3).to_string() }),
            ),
        ]),
        Case::of([
            (
                "graph.csv",
                table("\u{feff}# source target\n", &|node| format!("{node};{}", next(node))),
            ),
            ("graph.features.csv", table("", &|node| format!("{node}\t1"))),
            (
                "graph.labels.csv",
                table("node\tclass\n", &|node| format!("{node}\t{}", (node % 4) as i64 - 1)),
            ),
            (
                "split.csv",
                table("id,split\n", &|node| {
                    format!("{node},{}", if node % 4 == 0 { "none" } else { part(node) })
                }),
            ),
        ]),
    ]
}

pub fn folders() -> Vec<Case> {
    let packed = |name: &'static str, text: &str| (name, gz(text.as_bytes()));
    let case = |labels: &str| {
        Case::of([
            packed("raw/edge.csv.gz", "0,1\n1,2\n2,0\n3,0\n"),
            packed("raw/node-feat.csv.gz", "0.5,1\n1,0\n-1,2\n0,1e-3\n"),
            packed("raw/node-label.csv.gz", labels),
            packed("split/time/train.csv.gz", "0\n"),
            packed("split/time/valid.csv.gz", "1\n"),
            packed("split/time/test.csv.gz", "2\n3\n"),
        ])
    };
    vec![case("0.0\n1\n1\n0\n"), case("0,1,1\n1,0,1\n0,0,0\n1,1,1\n")]
}

pub fn tensors() -> Vec<Case> {
    let (float, long, byte) = (f32::to_le_bytes, i64::to_le_bytes, |byte: u8| [byte]);
    let masks = |file: File, shape: &[usize]| {
        let columns = shape.get(1).copied().unwrap_or(1);
        ["train_mask", "val_mask", "test_mask"].into_iter().enumerate().fold(
            file,
            |file, (part, name)| {
                let values: Vec<u8> = (0..6 * columns)
                    .map(|k| u8::from((k / columns + k % columns) % 3 == part))
                    .collect();
                file.with(name, "BOOL", shape, &values, byte)
            },
        )
    };
    let graph = File::default()
        .with(
            "x",
            "F32",
            &[6, 2],
            &[0.5, 1.0, -1.0, 0.0, 2.0, 0.25, 0.5, 1.0, -1.0, 0.0, 2.0, 0.25],
            float,
        )
        .with("edge_index", "I64", &[2, 5], &[0, 1, 2, 3, 4, 1, 2, 3, 4, 5], long);
    let plain = masks(graph.clone().with("y", "I64", &[6], &[0, 1, 0, 1, 0, 1], long), &[6]);
    let typed = masks(
        graph
            .clone()
            .with("y", "I64", &[6, 1], &[0, 1, 2, 1, 0, 2], long)
            .with("edge_attr", "F32", &[5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0], float)
            .with("edge_type", "I64", &[5], &[0, 1, 0, 1, 2], long)
            .with("edge_weight", "F32", &[5], &[1.0, 0.5, 0.5, 2.0, 0.0], float),
        &[6, 2],
    );
    let several = masks(
        graph.with(
            "y",
            "F32",
            &[6, 2],
            &[0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0],
            float,
        ),
        &[6],
    );
    [plain, typed, several].map(|file| Case::of([("graph.safetensors", file.to_bytes())])).into()
}

pub fn recipes() -> Vec<Case> {
    let texts = [
        "controls = \"all\"\n[[stage]]\nchannels = 0.75\ncriterion = \"l1\"\nscope = \"global\"\n[[stage]]\ndistill = \"self\"\n[[stage]]\nbits = 8\nqat = 20\nact-bits = 4\n",
        "calibrate = \"train\"\n[[stage]]\nweights = \"0.9\"\n[[stage]]\nfinetune = 10\n",
        "controls = \"none\"\n[[stage]]\ndistill = \"gcn:16\"\n[[stage]]\ndrop-layers = 2\n[[stage]]\nbits = \"4\"\ncalibrate = \"all\"\n",
    ];
    texts.map(|text| Case::of([("recipe.toml", text.as_bytes().to_vec())])).into()
}

pub fn words() -> Vec<Case> {
    let texts = [
        (
            "dataset.txt",
            "sbm:nodes=120,classes=2,degree=4,seed=1,features=3,homophily=0.9,signal=2,train=20,val=30",
        ),
        (
            "dataset.txt",
            "powerlaw:nodes=200,edges=600,features=4,classes=2,exponent=2.5,community=50,homophily=0.7,seed=3",
        ),
        ("dataset.txt", "digits"),
        (
            "assume.txt",
            "activation=elu,act_first=true,dropout=0.25,aggregation=max,normalize=true,jumping=last,layer_norm=node,negative_slope=0.1,self_loops=false,improved=true,seed=7",
        ),
        (
            "stages.txt",
            "channels 0.5\nweights 0.9\ndistill gcn:8\nfinetune 3\nbits 4\ncriterion l1\nscope global\nqat 2",
        ),
        ("norm.txt", "l2"),
        ("controls.txt", "none"),
        ("calibrate.txt", "train"),
        ("aggregation.txt", "max"),
    ];
    texts.map(|(name, text)| Case::of([(name, text.as_bytes().to_vec())])).into()
}
