//! How parameters of floats become tensors of a file.

use super::positions::{self, Form};
use super::tensors::{Reader, Tensor};
use crate::nn::{Mask, Param};
use crate::scalar::Scalar;
use ndarray::Array2;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

/// Names the kept entries of a masked parameter, in row order; the tensor of their positions has
/// the name of its form.
const VALUES: &str = "values";

/// What the metadata say of a masked parameter, whose tensors do not show its shape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Masked {
    /// Rows and columns.
    Shape(usize, usize),
    /// Columns alone, in format 1: the bit map or the runs told the rows.
    Columns(usize),
}

/// The tensors of one parameter: itself, or its kept values and their positions where it is masked.
pub(super) fn encode<F: Scalar>(name: &str, param: &Param<F>) -> Vec<Tensor> {
    let (rows, cols) = param.value().dim();
    let Some(mask) = param.mask() else {
        let all: Vec<F> = param.value().iter().copied().collect();
        return vec![Tensor::numbers(name.into(), vec![rows, cols], &all)];
    };
    let values: Vec<F> =
        param.value().iter().zip(mask).filter(|(_, keep)| **keep).map(|(w, _)| *w).collect();
    let (form, positions) = positions::encode(&mask.iter().copied().collect::<Vec<_>>(), cols);
    vec![
        Tensor::numbers(format!("{name}.{VALUES}"), vec![values.len()], &values),
        Tensor::bytes(format!("{name}.{}", form.suffix()), positions),
    ]
}

/// A parameter read back: its value, and its mask where it has one.
#[derive(Debug)]
pub(super) struct Decoded<F> {
    pub value: Array2<F>,
    pub mask: Option<Mask>,
}

/// Reads the parameter `name`, of which the metadata say `masked` if it is that.
pub(super) fn decode<F: Scalar>(
    reader: &mut Reader,
    name: &str,
    masked: Option<Masked>,
) -> Result<Decoded<F>, String> {
    let Some(masked) = masked else {
        return Ok(Decoded { value: reader.matrix(name)?, mask: None });
    };
    let form = Form::ALL.into_iter().find(|form| reader.has(&format!("{name}.{}", form.suffix())));
    let form =
        form.ok_or_else(|| format!("parameter `{name}` is masked, and no tensor tells where"))?;
    let positions = format!("{name}.{}", form.suffix());
    let mask = match masked {
        Masked::Shape(_, 0) | Masked::Columns(0) => Err("is of a parameter without columns".into()),
        Masked::Shape(rows, cols) => {
            let kept = form.decode(reader.bytes(&positions)?, (rows, cols));
            kept.map(|kept| {
                Mask::from_shape_vec((rows, cols), kept).expect("as many as the shape has")
            })
        }
        Masked::Columns(cols) if form == Form::Runs => {
            runs_of_rows(reader.bytes(&positions)?, cols)
        }
        Masked::Columns(cols) => map_of_rows(reader, &positions, cols),
    };
    let mask = mask.map_err(|problem| format!("tensor `{positions}` {problem}"))?;
    let kept = reader.vector::<F>(&format!("{name}.{VALUES}"))?;
    let expected = mask.iter().filter(|keep| **keep).count();
    if kept.len() != expected {
        return Err(format!(
            "tensor `{name}.{VALUES}` has {} values, {expected} entries are kept",
            kept.len()
        ));
    }
    let mut kept = kept.into_iter();
    let value = mask.map(|keep| if *keep { kept.next().unwrap_or_default() } else { F::zero() });
    Ok(Decoded { value, mask: Some(mask) })
}

/// Runs of format 1, which tell how many rows there are.
fn runs_of_rows(bytes: &[u8], cols: usize) -> Result<Mask, String> {
    let kept = positions::from_runs(bytes)?;
    let (rows, rest) = (kept.len() / cols, kept.len() % cols);
    if rest != 0 {
        return Err(format!("tells of {} entries, which are no rows of {cols}", kept.len()));
    }
    Ok(Mask::from_shape_vec((rows, cols), kept).expect("whole rows"))
}

/// The bit map of format 1: a matrix of bytes, where each row of entries began at a byte of its
/// own.
fn map_of_rows(reader: &mut Reader, name: &str, cols: usize) -> Result<Mask, String> {
    let tensor = reader.tensor(name)?;
    let (&[rows, width], Dtype::U8) = (tensor.shape(), tensor.dtype()) else {
        return Err("is not a bit map".into());
    };
    if width != cols.div_ceil(8) {
        return Err(format!("has {width} bytes a row, {cols} columns need {}", cols.div_ceil(8)));
    }
    let bits = tensor.data();
    Ok(Mask::from_shape_fn((rows, cols), |(i, j)| bits[i * width + j / 8] >> (j % 8) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::super::header::open;
    use super::super::tensors::serialise;
    use super::*;
    use crate::nn::{Axis, Init};
    use safetensors::tensor::TensorView;

    fn param(mask: &Mask) -> Param<f32> {
        let mut param =
            Param::<f32>::new("weight", mask.dim(), [Axis::In(0), Axis::Out], Init::Zeros);
        param
            .value_mut()
            .indexed_iter_mut()
            .for_each(|((i, j), w)| *w = (i as f32 - 3.0) * (j as f32 + 0.5));
        param.restrict(mask);
        param
    }

    fn back(bytes: &[u8], masked: Masked) -> Result<Decoded<f32>, String> {
        decode(&mut Reader::new(open(bytes).unwrap().0, bytes.len()), "conv.weight", Some(masked))
    }

    #[test]
    fn every_density_comes_back() {
        for (rows, cols) in [(1, 1), (1, 9), (7, 1), (3, 256), (40, 64), (2, 600)] {
            for every in [1, 2, 5, 9, 30, 256, 5000] {
                let mask = Mask::from_shape_fn((rows, cols), |(i, j)| {
                    (i * cols + j).is_multiple_of(every)
                });
                let param = param(&mask);
                let bytes = serialise(&encode("conv.weight", &param), String::new()).unwrap();
                let decoded = back(&bytes, Masked::Shape(rows, cols)).unwrap();
                assert_eq!((&decoded.value, decoded.mask.as_ref()), (param.value(), Some(&mask)));
                assert!(back(&bytes, Masked::Shape(rows + 9, cols)).is_err());
                assert!(back(&bytes, Masked::Shape(rows, 0)).is_err());
            }
        }
    }

    /// A file of format 1: kept values and one tensor of bytes.
    fn first_format(values: &[f32], form: &str, shape: Vec<usize>, positions: &[u8]) -> Vec<u8> {
        let values: Vec<u8> = values.iter().flat_map(|w| w.to_le_bytes()).collect();
        let views = [
            (
                "conv.weight.values".to_string(),
                TensorView::new(Dtype::F32, vec![values.len() / 4], &values).unwrap(),
            ),
            (format!("conv.weight.{form}"), TensorView::new(Dtype::U8, shape, positions).unwrap()),
        ];
        safetensors::serialize(views, Some([("gnn_prune".to_string(), String::new())].into()))
            .unwrap()
    }

    #[test]
    fn bit_maps_and_runs_of_format_1_tell_their_rows() {
        let mask = ndarray::arr2(&[[true, false, false], [false, true, true]]);
        for (form, shape, positions) in
            [("mask", vec![2, 1], vec![1, 6]), ("runs", vec![4], vec![0, 3, 0, 0])]
        {
            let decoded =
                back(&first_format(&[1.0, 2.0, 3.0], form, shape, &positions), Masked::Columns(3))
                    .unwrap();
            assert_eq!(decoded.value, ndarray::arr2(&[[1.0, 0.0, 0.0], [0.0, 2.0, 3.0]]));
            assert_eq!(decoded.mask.as_ref(), Some(&mask));
        }
        let refused = |form, shape, positions: &[u8], cols, problem: &str| {
            let message =
                back(&first_format(&[1.0], form, shape, positions), Masked::Columns(cols))
                    .unwrap_err();
            assert!(message.contains(problem), "{message}");
        };
        refused("mask", vec![2, 1], &[1, 0], 9, "columns need 2");
        refused("mask", vec![2], &[1, 0], 3, "not a bit map");
        refused("mask", vec![2, 1], &[1, 2], 3, "2 entries are kept");
        refused("runs", vec![2], &[2, 2], 4, "no rows of 4");
        refused("runs", vec![1], &[255], 5, "no end there");
        refused("runs", vec![2], &[0, 0], 0, "without columns");
        refused("coded", vec![2], &[0, 0], 3, "not a bit map");
        refused("other", vec![2], &[0, 0], 3, "no tensor tells where");
    }
}
