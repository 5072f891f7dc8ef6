//! Files that were written once and are kept for ever: whatever becomes of the formats, they load
//! to the same numbers.

use gnn_prune::io::pyg::export;
use gnn_prune::nn::Registry;
use gnn_prune::quant::QuantOp;
use gnn_prune::testing::{models_around, random_graph};
use gnn_prune::{Model, QuantModel};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// One number for names, shapes, the bits of all values and all masks.
fn of_floats(model: &Model) -> (usize, u64) {
    let (mut kept, mut hash) = (0, Sum::default());
    model.visit(&mut |name, param| {
        hash.words(name.bytes().map(u64::from));
        hash.words([param.value().nrows() as u64, param.value().ncols() as u64]);
        hash.words(param.value().iter().map(|w| u64::from(w.to_bits())));
        if let Some(mask) = param.mask() {
            kept += mask.iter().filter(|keep| **keep).count();
            hash.words(mask.iter().map(|&keep| u64::from(keep)));
        }
    });
    (kept, hash.0)
}

/// The same for integers, their scales and biases.
fn of_integers(model: &QuantModel) -> (i64, u64) {
    let (mut sum, mut hash) = (0, Sum::default());
    for stage in model.stages() {
        if let QuantOp::Linear(weight) = stage.op() {
            sum += weight.ints().iter().map(|&q| i64::from(q)).sum::<i64>();
            hash.words(weight.ints().iter().map(|&q| q as u8 as u64));
            hash.words(weight.scales().iter().map(|s| u64::from(s.to_bits())));
        }
        hash.words(stage.bias().into_iter().flatten().map(|b| u64::from(b.to_bits())));
    }
    (sum, hash.0)
}

/// FNV-1a over words: a hash that is the same in every version.
struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    fn words(&mut self, words: impl IntoIterator<Item = u64>) {
        for word in words {
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[test]
fn float_models_of_all_formats_load_to_their_numbers() {
    for (file, seed, expected) in [
        ("format_1/floats.safetensors", 0, (29, 17963118865503870737)),
        ("format_2/floats.safetensors", 0, (169, 16786511804735356858)),
    ] {
        let model = Model::load(fixture(file)).unwrap();
        assert_eq!((model.seed(), of_floats(&model)), (seed, expected), "{file}");
    }
}

#[test]
fn integer_models_of_all_formats_and_widths_load_to_their_numbers() {
    for (file, expected) in [
        ("format_1/integers.safetensors", (42, 6522781280609410498)),
        ("format_2/integers_8.safetensors", (-1225, 13519955480323566902)),
        ("format_2/integers_4.safetensors", (-73, 3859665436372469174)),
        ("format_2/integers_2.safetensors", (-13, 5087649423627150726)),
    ] {
        let model = QuantModel::load(fixture(file)).unwrap();
        assert_eq!(of_integers(&model), expected, "{file}");
    }
}

/// What every layer is written as, from networks drawn around it; `tests/pytorch/exported.py` makes
/// each module in PyTorch Geometric. Where a change is meant, the file that the message names takes
/// the place of the fixture.
#[test]
fn the_python_of_every_layer_is_the_one_that_pytorch_took() {
    let registry = Registry::<f32>::standard();
    let mut written = String::new();
    for entry in registry.entries().iter().filter(|entry| entry.pytorch().is_ok()) {
        let mut lines = BTreeSet::new();
        for seed in 0..6 {
            let nodes = random_graph::<f64>(seed, 9).num_nodes();
            for model in models_around::<f32>(seed, entry, nodes, 4, 3) {
                let exported = match export(&model, "net.safetensors") {
                    Ok(exported) => exported,
                    Err(error) => {
                        lines.insert(error.to_string());
                        continue;
                    }
                };
                let names: Vec<String> = model
                    .nodes()
                    .iter()
                    .filter(|node| node.layer().kind() == entry.kind())
                    .map(|node| node.name().to_string())
                    .collect();
                let is_of_it =
                    |line: &&str| names.iter().any(|name| line.contains(&format!("{name} = ")));
                let weights = if exported.python.contains("assert edge_weight is None") {
                    "  # without weights of edges"
                } else {
                    ""
                };
                lines.extend(
                    exported
                        .python
                        .lines()
                        .map(str::trim)
                        .filter(is_of_it)
                        .map(|line| format!("{line}{weights}")),
                );
            }
        }
        written.push_str(&format!(
            "# {}\n{}\n",
            entry.kind(),
            lines.into_iter().map(|line| line + "\n").collect::<String>()
        ));
    }
    let known = std::fs::read_to_string(fixture("exported.txt")).unwrap_or_default();
    if written != known {
        let path = std::env::temp_dir().join("gnn-prune-exported.txt");
        std::fs::write(&path, &written).unwrap();
        let at = written.lines().zip(known.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let [found, expected] =
            [&written, &known].map(|text| text.lines().nth(at).unwrap_or("nothing"));
        panic!(
            "line {}: {found:?} in place of {expected:?}; all of it is in {}",
            at + 1,
            path.display()
        );
    }
}
