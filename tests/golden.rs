//! Files that were written once and are kept for ever: whatever becomes of the formats, they load to the same numbers.

use gnn_prune::quant::QuantOp;
use gnn_prune::{Model, QuantModel};
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
    for (file, seed, expected) in
        [("format_1/floats.safetensors", 0, (29, 17963118865503870737)), ("format_2/floats.safetensors", 0, (169, 16786511804735356858))]
    {
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
