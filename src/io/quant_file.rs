//! Saving and loading a [`QuantModel`].

use super::model_file::{KEY, metadata};
use crate::error::{Error, Result};
use crate::files;
use crate::nn::{ActivationFn, Origin};
use crate::quant::{Bits, QuantModel, QuantOp, QuantStage, QuantWeight, pack, unpack};
use crate::scalar::Scalar;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Version of the layout below.
const FORMAT: u32 = 1;

/// What the metadata say; the fields stand in alphabetical order, so that the same model always gives the same bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    activation_bits: Bits,
    in_channels: usize,
    origin: Option<Origin>,
    /// Tells the file from that of a float model.
    quantised: u32,
    seed: u64,
    stages: Vec<StageHeader>,
}

#[derive(Serialize, Deserialize)]
struct StageHeader {
    activation: Option<ActivationFn>,
    inputs: Vec<usize>,
    layer: String,
    op: OpHeader,
    width: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpHeader {
    Add,
    Aggregate(crate::graph::Norm),
    Concat,
    Linear { bits: Bits, cols: usize, rows: usize },
}

/// One tensor of the file.
struct Tensor {
    name: String,
    dtype: Dtype,
    bytes: Vec<u8>,
}

/// Tensors of a stage are named by its place and its layer: `2.conv2.weight`.
fn name(k: usize, stage: &str, what: &str) -> String {
    format!("{k}.{stage}.{what}")
}

const INPUT_SCALES: &str = "input_scales";
/// Output scales of all stages but the last.
const OUTPUT_SCALES: &str = "output_scales";

fn floats(name: String, values: &[f32]) -> Tensor {
    let mut bytes = Vec::new();
    f32::write_le(values, &mut bytes);
    Tensor { name, dtype: Dtype::F32, bytes }
}

/// The integers of a weight: all of them, or a bit map and those that are not zero where that is smaller.
fn ints(k: usize, layer: &str, weight: &QuantWeight) -> Vec<Tensor> {
    let tensor = |what: &str, bytes: Vec<u8>| Tensor { name: name(k, layer, what), dtype: Dtype::U8, bytes };
    let all = pack(weight.ints(), weight.bits());
    let kept: Vec<i8> = weight.ints().iter().copied().filter(|&q| q != 0).collect();
    let mut bits = vec![0u8; weight.ints().len().div_ceil(8)];
    weight.ints().iter().enumerate().filter(|(_, q)| **q != 0).for_each(|(at, _)| bits[at / 8] |= 1 << (at % 8));
    let values = pack(&kept, weight.bits());
    match bits.len() + values.len() < all.len() {
        true => vec![tensor("mask", bits), tensor("values", values)],
        false => vec![tensor("weight", all)],
    }
}

fn tensors(model: &QuantModel) -> Vec<Tensor> {
    let scales: Vec<f32> = model.stages().iter().filter_map(QuantStage::scale).collect();
    let mut tensors = Vec::new();
    if !scales.is_empty() {
        tensors.push(floats(OUTPUT_SCALES.into(), &scales));
    }
    tensors.extend(model.input_scales().map(|scales| floats(INPUT_SCALES.into(), scales)));
    for (k, stage) in model.stages().iter().enumerate() {
        match stage.op() {
            QuantOp::Linear(weight) => {
                tensors.extend(ints(k, stage.layer(), weight));
                tensors.push(floats(name(k, stage.layer(), "scales"), weight.scales()));
            }
            QuantOp::Add(coefficients) => tensors.push(floats(name(k, stage.layer(), "coefficients"), coefficients)),
            QuantOp::Aggregate(_) | QuantOp::Concat => {}
        }
        tensors.extend(stage.bias().map(|bias| floats(name(k, stage.layer(), "bias"), bias)));
    }
    tensors
}

impl QuantModel {
    /// Bytes of all tensors as a file stores them: integers (two of 4 bits a byte; a bit map and those that are not zero where that is
    /// smaller), scales and biases; not the metadata.
    pub fn stored_bytes(&self) -> u64 {
        tensors(self).iter().map(|tensor| tensor.bytes.len() as u64).sum()
    }

    /// Writes the model to a safetensors file, its stages and seed in the metadata; the file is replaced as a whole.
    ///
    /// The same model gives the same file, byte for byte.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        files::write_atomically(path, &self.to_bytes().map_err(|error| Error::file(path, error))?)
    }

    /// Reads a model that [`QuantModel::save`] wrote, to the same bits.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, cut off, not of this crate, or of a float model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(&files::read(path)?).map_err(|error| match error {
            Error::Model(problem) => Error::file(path, problem),
            other => Error::file(path, other),
        })
    }

    /// The bytes of the file that [`QuantModel::save`] writes.
    ///
    /// # Errors
    /// [`Error::Model`] where a tensor cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let stage = |stage: &QuantStage| StageHeader {
            activation: stage.activation(),
            inputs: stage.inputs().to_vec(),
            layer: stage.layer().into(),
            op: match stage.op() {
                QuantOp::Linear(weight) => OpHeader::Linear { bits: weight.bits(), cols: weight.shape().1, rows: weight.shape().0 },
                QuantOp::Aggregate(norm) => OpHeader::Aggregate(*norm),
                QuantOp::Add(_) => OpHeader::Add,
                QuantOp::Concat => OpHeader::Concat,
            },
            width: stage.width(),
        };
        let header = Header {
            activation_bits: self.activation_bits(),
            in_channels: self.in_channels(),
            origin: self.origin().cloned(),
            quantised: FORMAT,
            seed: self.seed(),
            stages: self.stages().iter().map(stage).collect(),
        };
        let text = serde_json::to_string(&header).map_err(|error| Error::Model(error.to_string()))?;
        let tensors = tensors(self);
        let view = |tensor: &'_ Tensor| -> Result<(String, Vec<usize>)> {
            let size = if tensor.dtype == Dtype::F32 { 4 } else { 1 };
            Ok((tensor.name.clone(), vec![tensor.bytes.len() / size]))
        };
        let mut views = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let (name, shape) = view(tensor)?;
            let view =
                TensorView::new(tensor.dtype, shape, &tensor.bytes).map_err(|error| Error::Model(format!("tensor `{name}`: {error}")))?;
            views.push((name, view));
        }
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), text)]))).map_err(|error| Error::Model(error.to_string()))
    }

    /// The model of a file's bytes.
    ///
    /// # Errors
    /// [`Error::Model`] for bytes that no model was written to, and [`Error::Unsupported`] for weights whose products could overflow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        read(bytes).map_err(Error::Model)?.checked()
    }
}

/// Takes tensors out of a file and counts them.
struct Reader<'a> {
    file: SafeTensors<'a>,
    read: usize,
}

impl Reader<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    fn bytes(&mut self, name: &str, dtype: Dtype) -> Result<Vec<u8>, String> {
        let tensor = self.file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
        self.read += 1;
        if tensor.dtype() != dtype || tensor.shape().len() != 1 {
            return Err(format!(
                "tensor `{name}` holds {:?} of shape {:?}, expected a vector of {dtype:?}",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        Ok(tensor.data().to_vec())
    }

    fn floats(&mut self, name: &str) -> Result<Vec<f32>, String> {
        Ok(f32::read_le(&self.bytes(name, Dtype::F32)?))
    }

    fn weight(&mut self, k: usize, layer: &str, bits: Bits, shape: (usize, usize)) -> Result<QuantWeight, String> {
        let whole = name(k, layer, "weight");
        let damaged = || format!("integers of stage {k} (`{layer}`) do not fill a weight of {}x{} with {bits} bits each", shape.0, shape.1);
        let count = shape.0.checked_mul(shape.1).ok_or_else(damaged)?;
        if bits != Bits::Four && bits != Bits::Eight {
            return Err(damaged());
        }
        let ints = if self.has(&whole) {
            unpack(&self.bytes(&whole, Dtype::U8)?, count, bits).ok_or_else(damaged)?
        } else {
            let mask = self.bytes(&name(k, layer, "mask"), Dtype::U8)?;
            let values = self.bytes(&name(k, layer, "values"), Dtype::U8)?;
            // The bit map is in the file, so what it covers is no larger than that.
            if mask.len() != count.div_ceil(8) {
                return Err(damaged());
            }
            let kept = |at: usize| mask[at / 8] >> (at % 8) & 1 == 1;
            let nonzero = mask.iter().map(|byte| byte.count_ones() as usize).sum();
            let mut values = unpack(&values, nonzero, bits).ok_or_else(damaged)?.into_iter();
            let ints: Vec<i8> = (0..count).map(|at| if kept(at) { values.next().unwrap_or(0) } else { 0 }).collect();
            if values.next().is_some() {
                return Err(damaged());
            }
            ints
        };
        QuantWeight::from_parts(shape, bits, ints, self.floats(&name(k, layer, "scales"))?).ok_or_else(damaged)
    }
}

fn read(bytes: &[u8]) -> Result<QuantModel, String> {
    let (file, text) = metadata(bytes)?;
    let header: Header = match serde_json::from_str(&text) {
        Ok(header) => header,
        Err(_) if is_float(&text) => return Err("holds a float model; load it with `Model::load`, and quantise it".into()),
        Err(error) => return Err(format!("is not a model of gnn-prune (its metadata are damaged: {error})")),
    };
    if header.quantised != FORMAT {
        return Err(format!("has format {} of quantised models, this version reads format {FORMAT}", header.quantised));
    }
    let mut reader = Reader { file, read: 0 };
    let output_scales = if header.stages.len() > 1 { reader.floats(OUTPUT_SCALES)? } else { Vec::new() };
    if output_scales.len() + 1 != header.stages.len() {
        return Err(format!("has {} output scales for {} stages", output_scales.len(), header.stages.len()));
    }
    let input_scales = if reader.has(INPUT_SCALES) { Some(reader.floats(INPUT_SCALES)?) } else { None };
    let mut stages = Vec::new();
    for (k, StageHeader { activation, inputs, layer, op, width }) in header.stages.into_iter().enumerate() {
        let op = match op {
            OpHeader::Linear { bits, cols, rows } => QuantOp::Linear(reader.weight(k, &layer, bits, (rows, cols))?),
            OpHeader::Aggregate(norm) => QuantOp::Aggregate(norm),
            OpHeader::Add => QuantOp::Add(reader.floats(&name(k, &layer, "coefficients"))?),
            OpHeader::Concat => QuantOp::Concat,
        };
        let bias = name(k, &layer, "bias");
        let bias = if reader.has(&bias) { Some(reader.floats(&bias)?) } else { None };
        stages.push(QuantStage { layer, op, inputs, width, bias, activation, scale: output_scales.get(k).copied() });
    }
    if reader.read != reader.file.len() {
        return Err(format!("has {} tensors, its stages account for {}", reader.file.len(), reader.read));
    }
    let Header { activation_bits, in_channels, origin, seed, .. } = header;
    if !matches!(activation_bits, Bits::Four | Bits::Eight) {
        return Err(format!("has {activation_bits}-bit activations, legal are 4 and 8"));
    }
    Ok(QuantModel { in_channels, activation_bits, input_scales, stages, seed, origin })
}

/// Whether the metadata are those of a float model.
fn is_float(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|header| header.get("nodes").is_some())
}

/// Whether the metadata are those of a quantised model.
pub(super) fn is_quantised(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|header| header.get("quantised").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::{Gcn, Model, Quantizer};

    fn model(bits: Bits) -> QuantModel {
        let data = Dataset::sbm(120, 2).features(5).build().unwrap();
        let mut model = Gcn::builder(5, 2).hidden(9).layers(3).residual().jumping_concat().build(3).unwrap();
        let mut first = true;
        model.visit_mut(&mut |param| {
            if std::mem::take(&mut first) {
                param.restrict(&ndarray::Array2::from_shape_fn(param.value().dim(), |(i, j)| (i + j) % 4 == 0));
            }
        });
        Quantizer::builder(bits).build().unwrap().quantize(&model, &data).unwrap()
    }

    #[test]
    fn a_model_loads_back_to_the_same_bits_and_saves_to_the_same_bytes() {
        for bits in [Bits::Four, Bits::Eight] {
            let model = model(bits);
            let bytes = model.to_bytes().unwrap();
            let back = QuantModel::from_bytes(&bytes).unwrap();
            assert_eq!(back, model);
            assert_eq!(back.to_bytes().unwrap(), bytes);
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum::<u64>(), model.stored_bytes());
            assert!(file.names().iter().any(|name| name.ends_with(".mask")), "three quarters of a weight are zero");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_model_but_never_a_panic() {
        let bytes = model(Bits::Four).to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(QuantModel::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for flip in [0x55, 0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = QuantModel::from_bytes(&damaged);
            }
        }
    }

    #[test]
    fn a_file_of_the_other_kind_is_named() {
        let folder = std::env::temp_dir().join(format!("gnn-prune-quant-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (float, integer) = (folder.join("float"), folder.join("integer"));
        Gcn::builder(5, 2).build(0).unwrap().save(&float).unwrap();
        model(Bits::Eight).save(&integer).unwrap();
        let message = QuantModel::load(&float).unwrap_err().to_string();
        assert!(message.contains("holds a float model"), "{message}");
        let message = Model::load(&integer).unwrap_err().to_string();
        assert!(message.contains("holds a quantised model"), "{message}");
        assert_eq!(QuantModel::load(&integer).unwrap(), model(Bits::Eight));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
