//! Saving and loading a [`QuantModel`].

use super::header::{FORMAT, Kind, check_format, damaged, open};
use super::int_codec;
use super::table_codec::{self, CodesHeader, SignsHeader, TableHeader};
use super::tensors::{Reader, Tensor, serialise, total_bytes};
use crate::error::{Error, ModelError, Result};
use crate::files;
use crate::nn::{ActivationFn, Form, Origin, Pooling};
use crate::quant::{
    Bits, Calibration, QuantDecoder, QuantModel, QuantOp, QuantStage, QuantWeight, StoredTable,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the metadata say; the fields stand in alphabetical order, so that the same model always
/// gives the same bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    activation_bits: Bits,
    in_channels: usize,
    /// How scales were found; files from before they told have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_calibration: Option<Calibration>,
    origin: Option<Origin>,
    /// Tells the file from that of a float model.
    quantised: u32,
    seed: u64,
    stages: Vec<StageHeader>,
}

#[derive(Serialize, Deserialize)]
struct StageHeader {
    activation: Option<ActivationFn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    inputs: Vec<usize>,
    layer: String,
    op: OpHeader,
    width: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpHeader {
    Add,
    Aggregate(crate::graph::AdjacencyNorm),
    Codes(CodesHeader),
    Concat,
    Decoder { form: Form, relations: Option<TableHeader> },
    Embedding(TableHeader),
    Linear { bits: Bits, cols: usize, rows: usize },
    Normalize,
    Pool(Pooling),
    Signs(SignsHeader),
}

impl OpHeader {
    /// As [`QuantOp::is_of_rows`].
    fn is_of_rows(&self) -> bool {
        matches!(
            self,
            Self::Codes(_)
                | Self::Decoder { .. }
                | Self::Embedding(_)
                | Self::Normalize
                | Self::Signs(_)
        )
    }
}

/// Tensors of a stage are named by its place and its layer: `2.conv2.weight`.
fn name(k: usize, stage: &str, what: &str) -> String {
    format!("{k}.{stage}.{what}")
}

/// Names of the tensors of a table of a stage: `0.table.table.rows`.
fn part(k: usize, stage: &str, table: &str) -> impl Fn(&str) -> String {
    let table = name(k, stage, table);
    move |what| format!("{table}.{what}")
}

const INPUT_SCALES: &str = "input_scales";
/// Tensors of a table begin with this, and those of a decoder's relations.
const TABLE: &str = "table";
const RELATIONS: &str = "relations";
/// Output scales of all stages but the last; there are none in a model that calibrates nothing.
const OUTPUT_SCALES: &str = "output_scales";

fn floats(name: String, values: &[f32]) -> Tensor {
    Tensor::numbers(name, vec![values.len()], values)
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
                let (ints, cols, bits) = (weight.ints(), weight.shape().1, weight.bits());
                let name = |what: &str| name(k, stage.layer(), what);
                tensors.extend(int_codec::encode(name, ints, cols, bits));
                tensors.push(floats(name("scales"), weight.scales()));
            }
            QuantOp::Add(coefficients) => {
                tensors.push(floats(name(k, stage.layer(), "coefficients"), coefficients))
            }
            QuantOp::Embedding(table) => {
                let name = part(k, stage.layer(), TABLE);
                tensors.extend(match table {
                    StoredTable::Ints(table) => table_codec::encode(name, table),
                    StoredTable::Codes(table) => table_codec::encode_codes(name, table),
                    StoredTable::Signs(table) => table_codec::encode_signs(name, table),
                });
            }
            QuantOp::Decoder(decoder) => {
                tensors.extend(decoder.relations().into_iter().flat_map(|table| {
                    table_codec::encode(part(k, stage.layer(), RELATIONS), table)
                }))
            }
            QuantOp::Aggregate(_) | QuantOp::Concat | QuantOp::Normalize | QuantOp::Pool(_) => {}
        }
        tensors.extend(stage.bias().map(|bias| floats(name(k, stage.layer(), "bias"), bias)));
    }
    tensors
}

impl QuantModel {
    /// Bytes of all tensors as a file stores them: integers (packed, or coded by how frequent they
    /// are where that is smaller), scales and biases; not the metadata.
    pub fn stored_bytes(&self) -> u64 {
        total_bytes(&tensors(self))
    }

    /// Writes the model to a safetensors file, its stages and seed in the metadata; the file is
    /// replaced as a whole.
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
            calibration: stage.calibration(),
            inputs: stage.inputs().to_vec(),
            layer: stage.layer().into(),
            op: match stage.op() {
                QuantOp::Linear(weight) => OpHeader::Linear {
                    bits: weight.bits(),
                    cols: weight.shape().1,
                    rows: weight.shape().0,
                },
                QuantOp::Aggregate(norm) => OpHeader::Aggregate(*norm),
                QuantOp::Add(_) => OpHeader::Add,
                QuantOp::Concat => OpHeader::Concat,
                QuantOp::Embedding(StoredTable::Ints(table)) => {
                    OpHeader::Embedding(TableHeader::of(table))
                }
                QuantOp::Embedding(StoredTable::Codes(table)) => {
                    OpHeader::Codes(CodesHeader::of(table))
                }
                QuantOp::Embedding(StoredTable::Signs(table)) => {
                    OpHeader::Signs(SignsHeader::of(table))
                }
                QuantOp::Normalize => OpHeader::Normalize,
                QuantOp::Pool(pooling) => OpHeader::Pool(*pooling),
                QuantOp::Decoder(decoder) => OpHeader::Decoder {
                    form: decoder.form(),
                    relations: decoder.relations().map(TableHeader::of),
                },
            },
            width: stage.width(),
        };
        let header = Header {
            activation_bits: self.activation_bits(),
            in_channels: self.in_channels(),
            input_calibration: self.input_calibration(),
            origin: self.origin().cloned(),
            quantised: FORMAT,
            seed: self.seed(),
            stages: self.stages().iter().map(stage).collect(),
        };
        let text = serde_json::to_string(&header)
            .map_err(|error| ModelError::Damaged(error.to_string()))?;
        serialise(&tensors(self), text)
    }

    /// The model of a file's bytes.
    ///
    /// # Errors
    /// [`Error::Model`] for bytes that no model was written to, and [`Error::Unsupported`] for
    /// weights whose products could overflow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        read(bytes).map_err(ModelError::Damaged)?.checked()
    }
}

/// Reads the weight of stage `k`.
fn weight(
    reader: &mut Reader,
    k: usize,
    layer: &str,
    bits: Bits,
    shape: (usize, usize),
) -> Result<QuantWeight, String> {
    let ints = int_codec::decode(reader, |what| name(k, layer, what), bits, shape)?;
    let scales: Vec<f32> = reader.vector(&name(k, layer, "scales"))?;
    let found = scales.len();
    let lengths = || format!("stage {k} (`{layer}`) has {found} scales for {} columns", shape.1);
    QuantWeight::from_parts(shape, bits, ints, scales).ok_or_else(lengths)
}

fn read(bytes: &[u8]) -> Result<QuantModel, String> {
    let (file, text) = open(bytes)?;
    if Kind::of(&text) == Some(Kind::Float) {
        return Err("holds a float model; load it with `Model::load`, and quantise it".into());
    }
    let header: Header = serde_json::from_str(&text).map_err(damaged)?;
    check_format(header.quantised)?;
    let mut reader = Reader::new(file, bytes.len());
    let of_rows = header.stages.iter().any(|stage| stage.op.is_of_rows());
    let expected = if of_rows { 0 } else { header.stages.len().saturating_sub(1) };
    let output_scales = if expected > 0 { reader.vector(OUTPUT_SCALES)? } else { Vec::new() };
    if output_scales.len() != expected || header.stages.is_empty() {
        return Err(format!(
            "has {} output scales for {} stages",
            output_scales.len(),
            header.stages.len()
        ));
    }
    let input_scales =
        if reader.has(INPUT_SCALES) { Some(reader.vector(INPUT_SCALES)?) } else { None };
    let mut stages = Vec::new();
    for (k, StageHeader { activation, calibration, inputs, layer, op, width }) in
        header.stages.into_iter().enumerate()
    {
        let op = match op {
            OpHeader::Linear { bits, cols, rows } => {
                QuantOp::Linear(weight(&mut reader, k, &layer, bits, (rows, cols))?)
            }
            OpHeader::Aggregate(norm) => QuantOp::Aggregate(norm),
            OpHeader::Add => QuantOp::Add(reader.vector(&name(k, &layer, "coefficients"))?),
            OpHeader::Concat => QuantOp::Concat,
            OpHeader::Embedding(table) => {
                let name = part(k, &layer, TABLE);
                let table = table_codec::decode(&mut reader, name, &table)?;
                QuantOp::Embedding(StoredTable::Ints(table))
            }
            OpHeader::Codes(table) => {
                let name = part(k, &layer, TABLE);
                let table = table_codec::decode_codes(&mut reader, name, &table)?;
                QuantOp::Embedding(StoredTable::Codes(table))
            }
            OpHeader::Signs(table) => {
                let name = part(k, &layer, TABLE);
                let table = table_codec::decode_signs(&mut reader, name, &table)?;
                QuantOp::Embedding(StoredTable::Signs(table))
            }
            OpHeader::Normalize => QuantOp::Normalize,
            OpHeader::Pool(pooling) => QuantOp::Pool(pooling),
            OpHeader::Decoder { form, relations } => {
                let name = part(k, &layer, RELATIONS);
                let table = |table| table_codec::decode(&mut reader, name, &table);
                QuantOp::Decoder(QuantDecoder {
                    form,
                    relations: relations.map(table).transpose()?,
                })
            }
        };
        let bias = name(k, &layer, "bias");
        let bias = if reader.has(&bias) { Some(reader.vector(&bias)?) } else { None };
        let scale = output_scales.get(k).copied();
        stages.push(QuantStage { layer, op, inputs, width, bias, activation, scale, calibration });
    }
    reader.finish("stages")?;
    let Header { activation_bits, in_channels, input_calibration, origin, seed, .. } = header;
    let told = stages.iter().map(|stage| (stage.calibration, stage.scale.is_some()));
    for (calibration, has_scale) in told.chain([(input_calibration, input_scales.is_some())]) {
        match calibration {
            Some(calibration) if !has_scale => {
                return Err(format!("tells that `{calibration}` gave a scale which is not there"));
            }
            Some(calibration) => calibration.check().map_err(|error| error.to_string())?,
            None => {}
        }
    }
    if !matches!(activation_bits, Bits::Four | Bits::Eight) {
        return Err(format!("has {activation_bits}-bit activations, legal are 4 and 8"));
    }
    Ok(QuantModel {
        in_channels,
        activation_bits,
        input_scales,
        input_calibration,
        stages,
        seed,
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::{Gcn, Model, Quantizer};
    use safetensors::tensor::SafeTensors;

    fn model(bits: Bits) -> QuantModel {
        let data = Dataset::sbm(120, 2).features(40).build().unwrap();
        let mut model = Gcn::builder(40, 2)
            .hidden(9)
            .layers(3)
            .residual(true)
            .jumping(crate::models::Jumping::Concat)
            .build(3)
            .unwrap();
        let mut first = true;
        model.visit_mut(&mut |param| {
            if std::mem::take(&mut first) {
                param.restrict(&ndarray::Array2::from_shape_fn(param.value().dim(), |(i, j)| {
                    (i + j) % 4 == 0
                }));
            }
        });
        let mut small = Quantizer::builder(bits).build().unwrap().quantize(&model, &data).unwrap();
        // All integers of the later weights are equally frequent, so that there is nothing to gain.
        let most = i16::from(bits.most());
        for stage in &mut small.stages[1..] {
            if let QuantOp::Linear(weight) = &mut stage.op {
                weight
                    .ints
                    .iter_mut()
                    .enumerate()
                    .for_each(|(at, q)| *q = (at as i16 * 37 % (2 * most + 1) - most) as i8);
            }
        }
        small.checked().unwrap()
    }

    /// The same model with the signs of its weights.
    fn two_bits() -> QuantModel {
        let mut model = model(Bits::Four);
        for stage in &mut model.stages {
            if let QuantOp::Linear(weight) = &mut stage.op {
                weight.bits = Bits::Two;
                weight.ints.iter_mut().for_each(|q| *q = q.signum());
            }
        }
        model.checked().unwrap()
    }

    #[test]
    fn a_model_loads_back_to_the_same_bits_and_saves_to_the_same_bytes() {
        for model in [two_bits(), model(Bits::Four), model(Bits::Eight)] {
            let bytes = model.to_bytes().unwrap();
            let back = QuantModel::from_bytes(&bytes).unwrap();
            assert_eq!(back, model);
            assert_eq!(back.to_bytes().unwrap(), bytes);
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(
                file.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum::<u64>(),
                model.stored_bytes()
            );
            let has = |form: &str| file.names().iter().any(|name| name.ends_with(form));
            assert!(has(".coded"), "three quarters of a weight are zero");
            assert!(has(".weight") || model == two_bits(), "another has integers of all sizes");
        }
    }

    #[test]
    fn activations_of_two_bits_are_refused() {
        let model = QuantModel { activation_bits: Bits::Two, ..two_bits() };
        let message = QuantModel::from_bytes(&model.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(message.contains("2-bit activations"), "{message}");
    }

    #[test]
    fn how_scales_were_found_is_kept_and_what_cannot_have_been_is_refused() {
        let with = |change: &dyn Fn(&mut QuantModel)| {
            let mut model = two_bits();
            change(&mut model);
            (QuantModel::from_bytes(&model.to_bytes().unwrap()), model)
        };
        let (back, model) =
            with(&|model| model.stages[0].calibration = Some(Calibration::Percentile(99.5)));
        assert_eq!(back.unwrap(), model);
        assert!(
            model.to_string().contains("by percentile:99.5\n")
                && model.to_string().contains("by max\n"),
            "{model}"
        );
        // Files from before these words have none.
        let (back, model) =
            with(&|model| model.stages.iter_mut().for_each(|stage| stage.calibration = None));
        assert_eq!(back.unwrap(), model);
        for p in [0.0, -1.0, 100.5, 1e300] {
            let (back, _) =
                with(&|model| model.stages[0].calibration = Some(Calibration::Percentile(p)));
            assert!(back.unwrap_err().to_string().contains("percentile"), "{p}");
        }
        let (back, _) =
            with(&|model| model.stages.last_mut().unwrap().calibration = Some(Calibration::MinMax));
        assert!(back.unwrap_err().to_string().contains("`max`"));
        let (back, _) =
            with(&|model| model.input_calibration = Some(Calibration::Percentile(99.0)));
        assert!(back.unwrap_err().to_string().contains("`percentile:99`"));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_model_but_never_a_panic() {
        for bytes in [
            two_bits().to_bytes().unwrap(),
            model(Bits::Four).to_bytes().unwrap(),
            FORMAT_1.to_vec(),
        ] {
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
    }

    /// Written by a version that knew format 1: bit maps and what they keep.
    const FORMAT_1: &[u8] = include_bytes!("../../tests/fixtures/format_1/integers.safetensors");

    #[test]
    fn a_file_of_format_1_loads_and_is_written_smaller() {
        let file = SafeTensors::deserialize(FORMAT_1).unwrap();
        assert!(
            [".mask", ".values"]
                .iter()
                .all(|form| file.names().iter().any(|name| name.ends_with(form)))
        );
        let model = QuantModel::from_bytes(FORMAT_1).unwrap();
        assert_eq!((model.num_params(), model.num_nonzero_params()), (435, 57));
        assert!(
            model.stored_bytes()
                < file.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum()
        );
        assert_eq!(QuantModel::from_bytes(&model.to_bytes().unwrap()).unwrap(), model);
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = FORMAT_1.to_vec();
        let at = bytes.windows(12).position(|bytes| bytes == b"quantised\\\":").unwrap() + 12;
        bytes[at] = b'9';
        assert!(QuantModel::from_bytes(&bytes).unwrap_err().to_string().contains("has format 9"));
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
