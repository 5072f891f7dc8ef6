//! Saving and loading a [`Model`].

use super::quant_file::is_quantised;
use super::tensors::{Tensor, decode, encode};
use crate::error::{Error, Result};
use crate::files;
use crate::nn::{Attrs, Model, ModelBuilder, NodeId, Origin, Registry, Shapes};
use crate::scalar::Scalar;
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The one metadata key of the crate's files.
pub(super) const KEY: &str = "gnn_prune";
/// Version of the layout below.
const FORMAT: u32 = 1;

/// What the metadata say; the fields stand in alphabetical order, so that the same model always gives the same bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    in_channels: usize,
    /// Columns of masked parameters, whose tensors do not show them.
    masked: BTreeMap<String, usize>,
    nodes: Vec<NodeHeader>,
    origin: Option<Origin>,
    output: NodeId,
    seed: u64,
}

#[derive(Serialize, Deserialize)]
struct NodeHeader {
    attrs: Attrs,
    inputs: Vec<NodeId>,
    kind: String,
    name: String,
}

fn tensors<F: Scalar>(model: &Model<F>) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    model.visit(&mut |name, param| tensors.extend(encode(name, param)));
    tensors
}

/// Bytes of all parameter tensors as a file stores them: values, and bit maps of masks; not the metadata.
pub fn stored_bytes<F: Scalar>(model: &Model<F>) -> u64 {
    tensors(model).iter().map(|tensor| tensor.len() as u64).sum()
}

impl<F: Scalar> Model<F> {
    /// Writes the model to a safetensors file, its architecture and seed in the metadata; the file is replaced as a whole.
    ///
    /// The same model gives the same file, byte for byte.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        files::write_atomically(path, &self.to_bytes().map_err(|error| Error::file(path, error))?)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut masked = BTreeMap::new();
        self.visit(&mut |name, param| {
            if param.mask().is_some() {
                masked.insert(name.to_string(), param.value().ncols());
            }
        });
        let node = |node: &crate::nn::Node<F>| NodeHeader {
            attrs: node.layer().attrs(),
            inputs: node.inputs().to_vec(),
            kind: node.layer().kind().into(),
            name: node.name().into(),
        };
        let header = Header {
            format: FORMAT,
            in_channels: self.in_channels(),
            masked,
            nodes: self.nodes().iter().map(node).collect(),
            origin: self.origin().cloned(),
            output: self.output(),
            seed: self.seed(),
        };
        let text = serde_json::to_string(&header).map_err(|error| Error::Model(error.to_string()))?;
        let tensors = tensors(self);
        let views = tensors.iter().map(Tensor::view).collect::<Result<Vec<_>>>()?;
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), text)]))).map_err(|error| Error::Model(error.to_string()))
    }

    /// As [`Model::load`], in any scalar type and with layers of one's own in the registry.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(path: impl AsRef<Path>, registry: &Registry<F>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path)?;
        from_bytes(&bytes, registry).map_err(|problem| Error::file(path, problem))
    }
}

impl Model<f32> {
    /// Reads a model that [`Model::save`] wrote, to the same bits; layers are made by the standard registry.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, cut off, not of this crate, or of another scalar type.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Registry::standard())
    }
}

/// What a file of the crate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A [`Model`] of floats.
    Float,
    /// A [`QuantModel`](crate::QuantModel) of integers.
    Integer,
}

/// Which kind of model a file holds, by its metadata.
///
/// # Errors
/// [`Error::File`] for a file that is missing, cut off or not of this crate.
pub fn kind_of(path: impl AsRef<Path>) -> Result<Kind> {
    let path = path.as_ref();
    let bytes = files::read(path)?;
    let (_, text) = metadata(&bytes).map_err(|problem| Error::file(path, problem))?;
    Ok(if is_quantised(&text) { Kind::Integer } else { Kind::Float })
}

/// What is wrong with a file of somebody else.
const FOREIGN: &str = "is not a model of gnn-prune; `gnn-prune train --out FILE` writes one";

/// The tensors of a file, and the text under the crate's one key.
pub(super) fn metadata(bytes: &[u8]) -> Result<(SafeTensors<'_>, String), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("{FOREIGN} (not a safetensors file, or cut off: {error})"))?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| format!("{FOREIGN} ({error})"))?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).cloned();
    Ok((file, text.ok_or_else(|| format!("{FOREIGN} (no `{KEY}` in its metadata)"))?))
}

fn from_bytes<F: Scalar>(bytes: &[u8], registry: &Registry<F>) -> Result<Model<F>, String> {
    let (file, text) = metadata(bytes)?;
    if is_quantised(&text) {
        return Err("holds a quantised model; load it with `QuantModel::load`".into());
    }
    let header: Header = serde_json::from_str(&text).map_err(|error| format!("{FOREIGN} (its metadata are damaged: {error})"))?;
    if header.format != FORMAT {
        return Err(format!("has format {}, this version reads format {FORMAT}", header.format));
    }
    let mut builder = ModelBuilder::<F>::new(header.in_channels);
    let mut read = 0;
    for node in &header.nodes {
        let mut params = BTreeMap::new();
        for name in param_names(&file, &header, &node.name) {
            let full = format!("{}.{name}", node.name);
            let masked = header.masked.get(&full).copied();
            read += if masked.is_some() { 2 } else { 1 };
            params.insert(name, decode::<F>(&file, &full, masked)?);
        }
        let shapes = Shapes(params.iter().map(|(name, decoded)| (name.clone(), decoded.value.dim())).collect());
        let mut layer = registry.load(&node.kind, &node.attrs, &shapes).map_err(|error| format!("layer `{}`: {error}", node.name))?;
        let mut wrong = None;
        layer.visit_mut(&mut |param| match params.remove(param.name()) {
            Some(decoded) if decoded.value.dim() == param.value().dim() => {
                *param.value_mut() = decoded.value;
                decoded.mask.iter().for_each(|mask| param.restrict(mask));
            }
            _ => {
                wrong = Some(format!("parameter `{}.{}` is missing or has another shape than the layer's others", node.name, param.name()))
            }
        });
        wrong.map_or(Ok(()), Err)?;
        builder.add_boxed(&node.name, layer, &node.inputs).map_err(|error| error.to_string())?;
    }
    if read != file.len() {
        return Err(format!("has {} tensors, its layers account for {read}", file.len()));
    }
    let mut model = builder.build_undrawn(header.output, header.seed).map_err(|error| error.to_string())?;
    model.set_origin(header.origin);
    Ok(model)
}

/// Local names of the parameters that the file has for a node.
fn param_names(file: &SafeTensors, header: &Header, node: &str) -> Vec<String> {
    let local = |full: &str| full.strip_prefix(node).and_then(|rest| rest.strip_prefix('.')).map(str::to_string);
    let dense = file.names().into_iter().filter_map(local).filter(|name| !name.contains('.'));
    dense.chain(header.masked.keys().filter_map(|name| local(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gcn;
    use crate::nn::Mask;

    fn model() -> Model {
        let mut model = Gcn::builder(5, 3).hidden(10).layers(3).residual().jumping_concat().build(7).unwrap();
        let mut first = true;
        model.visit_mut(&mut |param| {
            if std::mem::take(&mut first) {
                param.restrict(&Mask::from_shape_fn(param.value().dim(), |(i, j)| (i + j) % 3 == 0));
            }
        });
        model
    }

    fn params(model: &Model) -> Vec<(String, Vec<u32>, Option<Mask>)> {
        let mut all = Vec::new();
        model.visit(&mut |name, param| all.push((name.into(), param.value().iter().map(|w| w.to_bits()).collect(), param.mask().cloned())));
        all
    }

    #[test]
    fn a_model_loads_back_to_the_same_bits_and_saves_to_the_same_bytes() {
        let model = model();
        let bytes = model.to_bytes().unwrap();
        let back = from_bytes::<f32>(&bytes, &Registry::standard()).unwrap();
        assert_eq!(params(&back), params(&model));
        assert_eq!((back.seed(), back.to_string()), (7, model.to_string()));
        assert_eq!(back.to_bytes().unwrap(), bytes);
        let tensors: u64 = SafeTensors::deserialize(&bytes).unwrap().tensors().iter().map(|(_, t)| t.data().len() as u64).sum();
        assert_eq!(stored_bytes(&model), tensors);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_model_but_never_a_panic() {
        let bytes = model().to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(from_bytes::<f32>(&bytes[..end], &Registry::standard()).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let _ = from_bytes::<f32>(&damaged, &Registry::standard());
        }
    }

    #[test]
    fn another_scalar_type_and_foreign_files_are_named() {
        let bytes = model().to_bytes().unwrap();
        assert!(from_bytes::<f64>(&bytes, &Registry::standard()).unwrap_err().contains("expected F64"));
        let foreign = safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), None).unwrap();
        assert!(from_bytes::<f32>(&foreign, &Registry::standard()).unwrap_err().contains("not a model of gnn-prune"));
    }
}
