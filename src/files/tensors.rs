//! Tensors of any number of axes, as a file of safetensors or PyTorch holds them.

use super::Budget;
use super::array::{Array, Tensors};
use super::kinds::{Kind, Pickled};
use crate::error::{Error, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

impl Tensors {
    /// Reads a safetensors file, or with the feature `pt` what `torch.save` wrote: a state dict, a
    /// whole module, a Lightning checkpoint, either within a dict of other things, or a `Data` of
    /// PyTorch Geometric. Nothing in it is run.
    ///
    /// Of a whole module, `metadata` has under `module.PATH` (`module` for the outermost) the class
    /// and the public attributes of each module in it, as a JSON object; under `pt.order` and
    /// `pt.modules` the names of tensors and modules in their order, as JSON lists. Under `pt.read`
    /// stands the key of a wrapper that was read, under `pt.unread` what else holds tensors there,
    /// under `pt.hyper_parameters`, `pt.hparams`, `pt.config` and `pt.args` the settings beside it,
    /// and under `data.NAME` what a graph tells beside its tensors.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, cut off, of another kind (a TorchScript archive
    /// or an ONNX file, say, by name), or that holds a number that is not finite.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let tensors = Self::read_as_listed(path)?;
        tensors.check_finite().map_err(|problem| Error::file(path, problem))?;
        Ok(tensors)
    }

    /// As [`Tensors::read`], with the numbers that are not finite: in a graph NaN may stand for a
    /// label that is not known.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, cut off or no safetensors file.
    pub(crate) fn read_as_listed(path: &Path) -> Result<Self> {
        Self::from_bytes(&super::read(path)?).map_err(|problem| Error::file(path, problem))
    }

    /// Whether a file is a list of graphs of PyTorch Geometric, or a data set of several.
    #[cfg(feature = "pt")]
    pub(crate) fn are_graphs(path: &Path) -> bool {
        let Ok(bytes) = super::read(path) else { return false };
        match Kind::of(&bytes) {
            Kind::Pickled(form) => super::pt::holds_graphs(&bytes, form),
            _ => false,
        }
    }

    /// Reads a file with several graphs: a list of `Data`, or what a data set of PyTorch Geometric
    /// saves of itself.
    ///
    /// # Errors
    /// As [`Tensors::read`], and for a file of anything else.
    #[cfg(feature = "pt")]
    pub(crate) fn read_graphs(path: &Path) -> Result<Vec<Self>> {
        let bytes = super::read(path)?;
        let read = match Kind::of(&bytes) {
            Kind::Pickled(form) => super::pt::read_graphs(&bytes, form),
            Kind::Foreign(what) => Err(what.into()),
            Kind::Safetensors => Err("holds no list of graphs".into()),
        };
        let each = read.map_err(|problem| Error::file(path, problem))?;
        let check = |(k, tensors): (usize, &Self)| {
            let checked = tensors.check_finite();
            checked.map_err(|problem| Error::file(path, format!("graph {k}: {problem}")))
        };
        each.iter().enumerate().try_for_each(check)?;
        Ok(each)
    }

    fn check_finite(&self) -> Result<(), String> {
        for (name, Array { values, .. }) in &self.floats {
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return Err(format!("tensor `{name}` holds {value}, which is not a finite number"));
            }
        }
        Ok(())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        match Kind::of(bytes) {
            Kind::Pickled(form) => return pickled(bytes, form),
            Kind::Foreign(what) => return Err(what.into()),
            Kind::Safetensors => {}
        }
        let not_ours = |error| format!("is not a safetensors file, or cut off ({error})");
        let file = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let mut tensors = Self::default();
        let budget = Budget::of_bytes(bytes.len() as u64);
        if let Some(metadata) = header.metadata() {
            tensors.metadata =
                metadata.iter().map(|(key, text)| (key.clone(), text.clone())).collect();
        }
        for (name, view) in file.iter() {
            let shape = view.shape().to_vec();
            budget
                .take(&shape, size_of::<i64>())
                .map_err(|problem| format!("tensor `{name}` {problem}"))?;
            if let Some(values) = floats(&view) {
                tensors.floats.insert(name.to_string(), Array { shape, values });
            } else {
                let values = integers(&view)
                    .map_err(|problem| format!("tensor `{name}` holds {problem}"))?;
                tensors.integers.insert(name.to_string(), (shape, values));
            }
        }
        Ok(tensors)
    }

    /// Writes the floats and the metadata; the file is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes: Vec<(&String, &Array, Vec<u8>)> = self
            .floats
            .iter()
            .map(|(name, array)| {
                (name, array, array.values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, array, bytes)| {
            Ok((*name, TensorView::new(Dtype::F32, array.shape.clone(), bytes)?))
        });
        let views = views.collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
        // Whose map it is depends on what else in a build uses safetensors.
        let metadata =
            (!self.metadata.is_empty()).then(|| self.metadata.clone().into_iter().collect());
        let file = views
            .and_then(|views| safetensors::serialize(views, metadata))
            .map_err(|error| Error::file(path, error))?;
        super::write_atomically(path, &file)
    }

    /// Those whose names begin with `prefix`, without it.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let floats = self.floats.iter().filter_map(|(name, array)| {
            Some((name.strip_prefix(prefix)?.to_string(), array.clone()))
        });
        Self { floats: floats.collect(), integers: BTreeMap::new(), metadata: BTreeMap::new() }
    }
}

#[cfg(feature = "pt")]
fn pickled(bytes: &[u8], form: Pickled) -> Result<Tensors, String> {
    super::pt::read(bytes, form)
}

#[cfg(not(feature = "pt"))]
fn pickled(_: &[u8], _: Pickled) -> Result<Tensors, String> {
    let way = "`safetensors.torch.save_file(model.state_dict(), FILE)`";
    Err(format!("is a pickle of PyTorch, which is read with the feature `pt`; save it by {way}"))
}

fn floats(view: &TensorView) -> Option<Vec<f32>> {
    let data = view.data();
    Some(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F64 => {
            data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()
        }
        Dtype::F16 => {
            data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
        Dtype::BF16 => {
            data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()
        }
        _ => return None,
    })
}

/// What is wrong, as the end of a sentence, where it is not integers, or one of them is too large.
fn integers(view: &TensorView) -> Result<Vec<i64>, String> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::I64 => data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        Dtype::I32 => {
            data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()
        }
        Dtype::I16 => {
            data.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes).into()).collect()
        }
        Dtype::I8 => {
            data.as_chunks().0.iter().map(|bytes| i8::from_le_bytes(*bytes).into()).collect()
        }
        Dtype::U64 => {
            let wide = data.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
            let read = |v| {
                i64::try_from(v).map_err(|_| {
                    format!("{v}, and the largest integer that is read is {}", i64::MAX)
                })
            };
            wide.map(read).collect::<Result<_, _>>()?
        }
        Dtype::U32 => {
            data.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes).into()).collect()
        }
        Dtype::U16 => {
            data.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
        }
        Dtype::U8 | Dtype::BOOL => data.iter().map(|&byte| byte.into()).collect(),
        other => {
            return Err(format!(
                "{other:?}, which is not read; save it as floats, integers or truth values"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_integers_of_every_width_are_read_to_the_same_numbers() {
        let read = |dtype, bytes: Vec<u8>| {
            let view = TensorView::new(dtype, vec![3], &bytes).unwrap();
            Tensors::from_bytes(&safetensors::serialize([("t", view)], None).unwrap())
        };
        macro_rules! bytes {
            ($t:ty) => {
                [1 as $t, 0 as $t, 100 as $t].iter().flat_map(|v| v.to_le_bytes()).collect()
            };
        }
        let whole = [
            (Dtype::I8, bytes!(i8)),
            (Dtype::U8, bytes!(u8)),
            (Dtype::I16, bytes!(i16)),
            (Dtype::U16, bytes!(u16)),
            (Dtype::I32, bytes!(i32)),
            (Dtype::U32, bytes!(u32)),
            (Dtype::I64, bytes!(i64)),
            (Dtype::U64, bytes!(u64)),
        ];
        for (dtype, bytes) in whole {
            assert_eq!(
                read(dtype, bytes).unwrap().integers["t"],
                (vec![3], vec![1, 0, 100]),
                "{dtype:?}"
            );
        }
        let negative =
            read(Dtype::I8, [-1i8, -128, 127].iter().flat_map(|v| v.to_le_bytes()).collect())
                .unwrap();
        assert_eq!(negative.integers["t"].1, [-1, -128, 127]);
        let halves =
            [1.5f32, -0.25, 65504.0].map(|v| half::f16::from_f32(v).to_le_bytes()).concat();
        assert_eq!(read(Dtype::F16, halves).unwrap().floats["t"].values, [1.5, -0.25, 65504.0]);
        let brains =
            [1.5f32, -0.25, 65536.0].map(|v| half::bf16::from_f32(v).to_le_bytes()).concat();
        assert_eq!(read(Dtype::BF16, brains).unwrap().floats["t"].values, [1.5, -0.25, 65536.0]);
        let huge = read(Dtype::U64, [u64::MAX; 3].iter().flat_map(|v| v.to_le_bytes()).collect())
            .unwrap_err();
        assert!(huge.contains("`t` holds 18446744073709551615"), "{huge}");
        assert!(
            read(Dtype::F8_E4M3, vec![0; 3])
                .unwrap_err()
                .contains("`t` holds F8_E4M3, which is not read")
        );
    }
}
