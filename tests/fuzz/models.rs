//! Models, state dicts and plans to start from, by the crate's own writers and from the fixtures.

use super::case::Case;
use super::tensors::File;
use gnn_prune::data::{GraphSet, Triples};
use gnn_prune::files::Tensors;
use gnn_prune::io::pyg::{Assumptions, Checkpoint, state_of};
use gnn_prune::nn::decode::{Decoder, Form};
use gnn_prune::nn::{
    Activation, ActivationFn, Add, Concat, Embedding, ModelBuilder, NodeId, Pooling, Registry,
};
use gnn_prune::quant::{Calibration, ProductCodes, Rounding};
use gnn_prune::task::{LinkTask, Task};
use gnn_prune::testing::{models_around, random_layer, random_model};
use gnn_prune::{
    Bits, ChannelPruner, Dataset, DeepGcn, Gat, Gcn, Gcn2, Gin, GinGraphs, GraphTask, LayerPlan,
    Magnitude, Mlp, Model, QuantModel, Quantizer, Result, Sage, Sgc, WeightPruner,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Nodes of the graph that what was read runs on.
pub const NODES: usize = 5;
/// Models of each kind of layer, of those that are made.
const EACH: usize = 3;
/// Models of several layers drawn at random.
const DRAWN: u64 = 30;
/// And of double precision.
const DOUBLES: u64 = 6;

/// What may be assumed of networks, each of some of them.
const ASSUMED: [&str; 13] = [
    "activation=elu",
    "act_first=true",
    "act_last=true",
    "norm=layer",
    "dropout=0.5",
    "aggregation=max",
    "jumping=last",
    "layer_norm=node",
    "heads=concat",
    "negative_slope=0.1",
    "self_loops=false",
    "improved=true",
    "seed=1",
];

/// The files of a folder of fixtures, seen from the crate and from that of the libFuzzer targets.
fn fixtures(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["tests/fixtures", "../../fixtures"].map(|place| root.join(place).join(folder));
    let folder = places
        .into_iter()
        .find(|place| place.is_dir())
        .expect("the fixtures lie beside the fuzzer");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("it was just written or listed")
}

/// The network that plans are made for.
pub fn planned() -> Result<Model> {
    Gcn::builder(3, 2)
        .hidden(6)
        .layers(4)
        .residual(true)
        .jumping(gnn_prune::models::Jumping::Concat)
        .build(3)
}

/// All entries of weights but so many a share are masked.
fn sparse(model: &Model, sparsity: f64) -> Result<Model> {
    WeightPruner::builder().sparsity(sparsity).build()?.plan(model)?.apply(model)
}

fn some_models() -> Result<Vec<Model>> {
    let wide = Gcn::builder(60, 3).hidden(12).build(1)?;
    Ok(vec![
        planned()?,
        sparse(&planned()?, 0.3)?,
        sparse(&wide, 0.7)?,
        sparse(&wide, 0.97)?,
        Gat::builder(3, 2).hidden(4).heads(2).build(0)?,
        Gat::builder(3, 2).hidden(4).heads(2).v2(true).whole_heads(true).build(0)?,
        sparse(
            &Sage::builder(3, 2)
                .hidden(4)
                .norm(gnn_prune::models::Normalization::Layer)
                .build(0)?,
            0.5,
        )?,
        Gin::builder(3, 2)
            .hidden(4)
            .norm(gnn_prune::models::Normalization::Batch)
            .jumping(gnn_prune::models::Jumping::Max)
            .build(0)?,
        Gcn2::builder(3, 2).hidden(4).layers(2).build(0)?,
        DeepGcn::builder(3, 2).hidden(4).layers(2).build(0)?,
        Sgc::builder(3, 2).build(0)?,
    ])
}

/// What a network reads, joined and changed before any parameter: the file alone says how wide that
/// is.
fn joined() -> Result<Model> {
    let mut builder = Model::builder(3);
    let twice = builder.add("twice", Concat::new(), &[NodeId::INPUT, NodeId::INPUT])?;
    let again = builder.add("again", Concat::new(), &[twice, twice, NodeId::INPUT])?;
    let changed = builder.add("changed", Activation::new(ActivationFn::Elu), &[again])?;
    let sum = builder.add("sum", Add::new(2)?, &[changed, again])?;
    builder.build(sum, 0)
}

pub fn floats(folder: &Path) -> Result<Vec<Case>> {
    let mut models = some_models()?;
    models.push(joined()?);
    for entry in Registry::standard().entries() {
        models.extend(models_around(1, entry, NODES, 3, 2).into_iter().take(EACH));
    }
    models.extend((0..DRAWN).map(|seed| random_model(seed, &Registry::standard(), 3, 2)));
    let path = folder.join("model.safetensors");
    let mut files = Vec::new();
    for model in models {
        model.save(&path)?;
        files.push(read(&path));
    }
    for seed in 0..DOUBLES {
        random_model::<f64>(seed, &Registry::standard(), 3, 2).save(&path)?;
        files.push(read(&path));
    }
    let kept = ["format_1", "format_2"]
        .into_iter()
        .flat_map(fixtures)
        .filter(|path| path.ends_with("floats.safetensors"));
    files.extend(kept.map(|path| read(&path)));
    Ok(files.into_iter().map(|bytes| Case::of([("model.safetensors", bytes)])).collect())
}

/// Files of PyTorch of every form that is read.
pub fn pickles() -> Vec<Case> {
    let is_pickle = |path: &PathBuf| path.extension().is_some_and(|end| end != "safetensors");
    fixtures("pt")
        .iter()
        .filter(|path| is_pickle(path))
        .map(|path| Case::of([("net.pt", read(path))]))
        .collect()
}

pub fn integers(folder: &Path) -> Result<Vec<Case>> {
    let data = Dataset::sbm(120, 2).features(6).build()?;
    let gcn = Gcn::builder(6, 2)
        .hidden(5)
        .layers(3)
        .residual(true)
        .jumping(gnn_prune::models::Jumping::Concat)
        .build(3)?;
    let models = [
        gcn.clone(),
        sparse(&gcn, 0.9)?,
        Sage::builder(6, 2).hidden(4).build(0)?,
        Mlp::builder(6, 2).hidden(4).build(0)?,
        Sgc::builder(6, 2).build(0)?,
    ];
    let set = GraphSet::cycles_or_trees(24, 0.2, 1)?;
    let graphs = GraphTask::builder(&set).folds(3).build()?;
    let mut tried: Vec<(&Model, &dyn Task<f32>)> =
        models.iter().map(|model| (model, &data as &dyn Task<f32>)).collect();
    let gin = GinGraphs::builder(1, 2).hidden(4).layers(2);
    let of_graphs = [gin.clone().build(0)?, gin.pooling(Pooling::Mean).build(0)?];
    tried.extend(of_graphs.iter().map(|model| (model, &graphs as &dyn Task<f32>)));
    let path = folder.join("model.safetensors");
    let mut files = Vec::new();
    for (model, task) in tried {
        for bits in [Bits::Eight, Bits::Four, Bits::Two] {
            let quantizer = Quantizer::builder(bits).rounding(Rounding::Nearest);
            let quantizer =
                if bits == Bits::Two { quantizer.activation_bits(Bits::Four) } else { quantizer };
            quantizer.build()?.quantize(model, task)?.save(&path)?;
            files.push(read(&path));
        }
    }
    let quantizers = [
        Quantizer::builder(Bits::Four),
        Quantizer::builder(Bits::Four).signs(3),
        Quantizer::builder(Bits::Four).codes(ProductCodes::new(3)),
        Quantizer::builder(Bits::Four).codes(ProductCodes::new(4).with_words(16)?),
    ];
    for quantizer in quantizers {
        tables(quantizer.build()?)?.save(&path)?;
        files.push(read(&path));
    }
    let kept = ["format_1", "format_2"]
        .into_iter()
        .flat_map(fixtures)
        .filter(|path| path.to_string_lossy().contains("integers"));
    files.extend(kept.map(|path| read(&path)));
    Ok(files.into_iter().map(|bytes| Case::of([("model.safetensors", bytes)])).collect())
}

/// A table of as many nodes as there are and a decoder.
fn tables(quantizer: Quantizer) -> Result<QuantModel> {
    let mut builder = ModelBuilder::new(1);
    let table = builder.add("table", Embedding::new(NODES, 6)?, &[NodeId::INPUT])?;
    let decoder = Decoder::builder(Form::DistMult, 6).relations(1).build()?;
    let scores = builder.add("scores", decoder, &[table])?;
    let fact = |k: u32| vec![[k, 0, k + 1]];
    let facts = Triples::new("facts", NODES, 1, fact(0), fact(1), fact(2))?;
    let task = LinkTask::builder(facts).build()?;
    quantizer.quantize(&builder.build(scores, 0)?, &task)
}

/// As PyTorch writes them; keys of a file that the crate writes itself would come in any order.
fn state(tensors: &Tensors) -> File {
    let add = |file: File, (name, array): (&String, &gnn_prune::files::Array)| {
        file.with(name, "F32", &array.shape, &array.values, f32::to_le_bytes)
    };
    tensors.floats.iter().fold(File::default(), add)
}

/// Networks of PyTorch Geometric, and two of them with layers of names of one's own.
fn states() -> Result<Vec<File>> {
    let networks = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model_"))
    };
    let mut states = Vec::new();
    for path in ["pyg", "more"].into_iter().flat_map(fixtures).filter(networks) {
        let tensors = Tensors::read(&path)?.under("param/");
        if path.ends_with("model_gcn.safetensors") || path.ends_with("model_sage_bn.safetensors") {
            let own = |name: &str| {
                let number = |(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?));
                [
                    ("convs.0", "conv1"),
                    ("convs.1", "conv2"),
                    ("convs.2", "conv3"),
                    ("norms.0", "bn1"),
                    ("norms.1", "bn2"),
                ]
                .into_iter()
                .find_map(number)
                .unwrap_or_else(|| name.to_string())
            };
            let mut renamed = tensors.clone();
            renamed.floats =
                tensors.floats.iter().map(|(name, array)| (own(name), array.clone())).collect();
            states.push(state(&renamed));
        }
        states.push(state(&tensors));
    }
    Ok(states)
}

pub fn checkpoints(folder: &Path) -> Result<Vec<Case>> {
    let path = folder.join("state.safetensors");
    let mut cases = Vec::new();
    for file in states()? {
        let bytes = file.to_bytes();
        fs::write(&path, &bytes).expect("the folder can be written");
        // One that changes nothing in a network, or nothing beside the others, is refused there.
        let is_read = |assumed: &String| {
            assumed
                .parse()
                .and_then(|assumed: Assumptions| Checkpoint::read(&path, &assumed))
                .is_ok()
        };
        let also = |before: String, name: &str| {
            Some(format!("{before}{name},")).filter(is_read).unwrap_or(before)
        };
        let assumed = ASSUMED.into_iter().fold(String::new(), also);
        assert!(assumed.contains("dropout"), "some of {ASSUMED:?} apply to every network");
        for assumed in [String::new(), assumed] {
            cases.push(Case::of([
                ("state.safetensors", bytes.clone()),
                ("assume.txt", assumed.into_bytes()),
            ]));
        }
    }
    Ok(cases)
}

/// State dicts beside a network file, or with one inside.
pub fn networks(folder: &Path) -> Result<Vec<Case>> {
    let path = folder.join("state.safetensors");
    let mut cases = Vec::new();
    for file in states()? {
        let bytes = file.to_bytes();
        fs::write(&path, &bytes).expect("the folder can be written");
        let network = Checkpoint::read(&path, &Assumptions::default())?.network.to_string();
        cases.push(Case::of([
            ("state.safetensors", bytes),
            ("net.toml", network.clone().into_bytes()),
        ]));
        let told = File { metadata: vec![("network".into(), network)], ..file };
        cases.push(Case::of([("told.safetensors", told.to_bytes())]));
    }
    Ok(cases)
}

pub fn layers() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (k, entry) in Registry::<f32>::standard().entries().iter().enumerate() {
        for seed in 0..3 {
            // Layers that join, and those without a name there, have no state.
            let Some(layer) = random_layer(seed + 10 * k as u64, entry, NODES, &[3], 4) else {
                continue;
            };
            let Ok(tensors) = state_of(&*layer, &|param| param.value().clone()) else { continue };
            let mut file = state(&tensors);
            let attrs = serde_json::to_string(&layer.attrs()).expect("settings have a JSON form");
            file.metadata = vec![("attrs".into(), attrs), ("kind".into(), entry.kind().into())];
            cases.push(Case::of([("layer.safetensors", file.to_bytes())]));
        }
    }
    Ok(cases)
}

fn json(name: &'static str, plan: &impl serde::Serialize) -> Case {
    Case::of([(name, serde_json::to_vec(plan).expect("plans have a JSON form"))])
}

pub fn plans() -> Result<Vec<Case>> {
    let (model, data) = (planned()?, Dataset::sbm(120, 2).features(3).build()?);
    let channels =
        ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?.plan(&model, &data)?;
    let subset =
        ChannelPruner::builder(gnn_prune::Subset::new()).ratio(0.5).build()?.plan(&model, &data)?;
    let weights = WeightPruner::builder().sparsity(0.5).build()?.plan(&model)?;
    let layers = LayerPlan::of(["conv2", "conv3"]);
    Ok(vec![
        json("channels.json", &channels),
        json("channels.json", &subset),
        json("weights.json", &weights),
        json("layers.json", &layers),
        json("calibration.json", &Calibration::Percentile(99.5)),
        json("calibration.json", &Calibration::MinMax),
        json("attrs.json", &model.nodes()[0].layer().attrs()),
        json("bits.json", &Bits::Four),
    ])
}
