//! Saving and loading a [`Model`].

use super::header::{FORMAT, Kind, check_format, damaged, open};
use super::param_codec::{Masked, decode, encode};
use super::tensors::{Reader, Tensor, serialise, total_bytes};
use crate::error::{Error, ModelError, Result};
use crate::files;
use crate::nn::{Attrs, Model, ModelBuilder, NodeId, Origin, Registry, Shapes, with_at_most};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What the metadata say; the fields stand in alphabetical order, so that the same model always
/// gives the same bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    in_channels: usize,
    masked: BTreeMap<String, Masked>,
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

/// Bytes of all parameter tensors as a file stores them: values, and the positions of those that
/// masks keep; not the metadata.
pub fn stored_bytes<F: Scalar>(model: &Model<F>) -> u64 {
    total_bytes(&tensors(model))
}

impl<F: Scalar> Model<F> {
    /// Writes the model to a safetensors file, its architecture and seed in the metadata; the file
    /// is replaced as a whole.
    ///
    /// The same model gives the same file, byte for byte.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        files::write_atomically(path, &self.to_bytes().map_err(|error| Error::file(path, error))?)
    }

    /// The bytes of the file that [`Model::save`] writes.
    ///
    /// # Errors
    /// [`Error::Model`] for what no file may hold, such as a number that is not finite.
    ///
    /// ```
    /// use gnn_prune::{Gcn, Model};
    /// let model = Gcn::builder(8, 3).hidden(4).build(0)?;
    /// let bytes = model.to_bytes()?;
    /// assert_eq!(Model::from_bytes(&bytes)?.to_bytes()?, bytes);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut masked = BTreeMap::new();
        self.visit(&mut |name, param| {
            if param.mask().is_some() {
                let (rows, cols) = param.value().dim();
                masked.insert(name.to_string(), Masked::Shape(rows, cols));
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
        let text = serde_json::to_string(&header)
            .map_err(|error| ModelError::Damaged(error.to_string()))?;
        serialise(&tensors(self), text)
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

    /// As [`Model::from_bytes`], in any scalar type and with layers of one's own in the registry.
    ///
    /// # Errors
    /// As [`Model::from_bytes`].
    pub fn from_bytes_with(bytes: &[u8], registry: &Registry<F>) -> Result<Self> {
        from_bytes(bytes, registry).map_err(|problem| ModelError::Damaged(problem).into())
    }
}

impl Model<f32> {
    /// Reads a model that [`Model::save`] wrote, to the same bits; layers are made by the standard
    /// registry.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, cut off, not of this crate, or of another scalar
    /// type.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Registry::standard())
    }

    /// As [`Model::load`], from the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Model`] for bytes that are cut off, not of this crate, or of another scalar type.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with(bytes, &Registry::standard())
    }
}

crate::scalar::compiled_here! {
    fn from_bytes<F>(bytes: &'a [u8], registry: &'a Registry<F>) -> Result<Model<F>, String> = read
}

fn read<F: Scalar>(bytes: &[u8], registry: &Registry<F>) -> Result<Model<F>, String> {
    let (file, text) = open(bytes)?;
    if Kind::of(&text) == Some(Kind::Integer) {
        return Err("holds a quantised model; load it with `QuantModel::load`".into());
    }
    let header: Header = serde_json::from_str(&text).map_err(damaged)?;
    check_format(header.format)?;
    let mut reader = Reader::new(file, bytes.len());
    let mut names = param_names(&reader, &header);
    let mut builder = ModelBuilder::<F>::new(header.in_channels);
    for node in &header.nodes {
        let mut params = BTreeMap::new();
        for name in names.remove(&node.name).unwrap_or_default() {
            let full = format!("{}.{name}", node.name);
            params
                .insert(name, decode::<F>(&mut reader, &full, header.masked.get(&full).copied())?);
        }
        let shapes = Shapes(
            params.iter().map(|(name, decoded)| (name.clone(), decoded.value.dim())).collect(),
        );
        // What a layer makes of the numbers in its metadata is bounded as well, before its shapes
        // are compared.
        let most = (reader.budget().left() / size_of::<F>() as u64) as usize;
        let mut layer = with_at_most(most, || registry.load(&node.kind, &node.attrs, &shapes))
            .map_err(|error| format!("layer `{}`: {error}", node.name))?;
        let mut wrong = None;
        layer.visit_mut(&mut |param| match params.remove(param.name()) {
            Some(decoded) if decoded.value.dim() == param.value().dim() => {
                *param.value_mut() = decoded.value;
                decoded.mask.iter().for_each(|mask| param.restrict(mask));
            }
            _ => {
                wrong = Some(format!(
                    "parameter `{}.{}` is missing or has another shape than the layer's others",
                    node.name,
                    param.name()
                ))
            }
        });
        wrong.map_or(Ok(()), Err)?;
        if let Some(name) = params.keys().next() {
            return Err(format!(
                "tensor `{}.{name}` belongs to no parameter of a {}",
                node.name, node.kind
            ));
        }
        builder.add_boxed(&node.name, layer, &node.inputs).map_err(|error| error.to_string())?;
    }
    reader.finish("layers")?;
    let mut model =
        builder.build_undrawn(header.output, header.seed).map_err(|error| error.to_string())?;
    model.set_origin(header.origin);
    Ok(model)
}

/// Local names of the parameters that the file has, by node.
fn param_names(reader: &Reader, header: &Header) -> BTreeMap<String, Vec<String>> {
    let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What is stored in parts is named by the header.
    let dense = reader
        .names()
        .into_iter()
        .filter_map(|full| full.split_once('.'))
        .filter(|(_, name)| !name.contains('.'));
    for (node, name) in dense.chain(header.masked.keys().filter_map(|full| full.split_once('.'))) {
        by_node.entry(node.into()).or_default().push(name.into());
    }
    by_node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gcn;
    use crate::nn::Mask;
    use safetensors::tensor::SafeTensors;

    /// Masks of every form: a first weight with a few entries, one in which most are kept, and one
    /// with a single one.
    fn model() -> Model {
        let mut model = Gcn::builder(5, 3)
            .hidden(10)
            .layers(4)
            .residual(true)
            .jumping(crate::models::Jumping::Concat)
            .build(7)
            .unwrap();
        let mut number = 0;
        model.visit_mut(&mut |param| {
            let mask = match number {
                0 => Mask::from_shape_fn(param.value().dim(), |(i, j)| (i + j) % 3 == 0),
                2 => Mask::from_shape_fn(param.value().dim(), |(i, j)| i == 3 && j < 9),
                4 => Mask::from_elem(param.value().dim(), false),
                _ => Mask::from_elem(param.value().dim(), true),
            };
            if number < 6 && number % 2 == 0 {
                param.restrict(&mask);
            }
            number += 1;
        });
        model
    }

    fn params(model: &Model) -> Vec<(String, Vec<u32>, Option<Mask>)> {
        let mut all = Vec::new();
        model.visit(&mut |name, param| {
            all.push((
                name.into(),
                param.value().iter().map(|w| w.to_bits()).collect(),
                param.mask().cloned(),
            ))
        });
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
        let tensors: u64 = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensors()
            .iter()
            .map(|(_, t)| t.data().len() as u64)
            .sum();
        assert_eq!(stored_bytes(&model), tensors);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for form in [".mask", ".runs", ".coded"] {
            assert!(
                file.names().iter().any(|name| name.ends_with(form)),
                "no mask is stored as {form}"
            );
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_model_but_never_a_panic() {
        for bytes in [model().to_bytes().unwrap(), FORMAT_1.to_vec()] {
            for end in 0..bytes.len() {
                assert!(
                    from_bytes::<f32>(&bytes[..end], &Registry::standard()).is_err(),
                    "cut at {end}"
                );
            }
            for at in 0..bytes.len() {
                for flip in [0x55, 0x01, 0x80] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    let _ = from_bytes::<f32>(&damaged, &Registry::standard());
                }
            }
        }
    }

    #[test]
    fn what_could_not_be_loaded_is_not_saved() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut model = model();
            model.visit_mut(&mut |param| {
                param.value_mut().iter_mut().take(1).for_each(|w| *w = value)
            });
            let message = model.to_bytes().unwrap_err().to_string();
            assert!(message.contains("tensor `conv1.") && message.contains("finite"), "{message}");
        }
    }

    /// Written by a version that knew format 1: runs for one weight, a bit map for the other.
    const FORMAT_1: &[u8] = include_bytes!("../../tests/fixtures/format_1/floats.safetensors");

    #[test]
    fn a_file_of_format_1_loads_and_is_written_smaller() {
        let file = SafeTensors::deserialize(FORMAT_1).unwrap();
        assert!(
            [".runs", ".mask"]
                .iter()
                .all(|form| file.names().iter().any(|name| name.ends_with(form)))
        );
        let model = from_bytes::<f32>(FORMAT_1, &Registry::standard()).unwrap();
        assert_eq!((model.num_params(), model.num_nonzero_params()), (435, 44));
        assert!(
            stored_bytes(&model)
                < file.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum()
        );
        let back = from_bytes::<f32>(&model.to_bytes().unwrap(), &Registry::standard()).unwrap();
        assert_eq!(params(&back), params(&model));
    }

    #[test]
    fn another_scalar_type_and_foreign_files_are_named() {
        let bytes = model().to_bytes().unwrap();
        assert!(
            from_bytes::<f64>(&bytes, &Registry::standard()).unwrap_err().contains("expected F64")
        );
        let foreign =
            safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), None)
                .unwrap();
        assert!(
            from_bytes::<f32>(&foreign, &Registry::standard())
                .unwrap_err()
                .contains("not a model of gnn-prune")
        );
    }
}
