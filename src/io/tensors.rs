//! How parameters become tensors of a file, and what they weigh there.

use crate::error::{Error, Result};
use crate::nn::{Mask, Param};
use crate::scalar::Scalar;
use ndarray::Array2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// One tensor of a file.
pub(super) struct Tensor {
    pub name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(super) fn view(&self) -> Result<(&str, TensorView<'_>)> {
        let view = TensorView::new(self.dtype, self.shape.clone(), &self.bytes);
        Ok((&self.name, view.map_err(|error| Error::Model(format!("tensor `{}`: {error}", self.name)))?))
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Ends the name of a masked parameter's bit map; `…​.values` has the kept entries in row order.
const MASK: &str = ".mask";
const VALUES: &str = ".values";

/// The tensors of one parameter: itself, or its kept values and a bit map where it is masked.
pub(super) fn encode<F: Scalar>(name: &str, param: &Param<F>) -> Vec<Tensor> {
    let (rows, cols) = param.value().dim();
    let values = |values: &[F]| {
        let mut bytes = Vec::new();
        F::write_le(values, &mut bytes);
        bytes
    };
    let tensor = |suffix: &str, dtype, shape, bytes| Tensor { name: format!("{name}{suffix}"), dtype, shape, bytes };
    match param.mask() {
        None => {
            let all: Vec<F> = param.value().iter().copied().collect();
            vec![tensor("", dtype::<F>(), vec![rows, cols], values(&all))]
        }
        Some(mask) => {
            let kept: Vec<F> = param.value().iter().zip(mask).filter(|(_, keep)| **keep).map(|(w, _)| *w).collect();
            // Each row starts at a byte of its own, so that the shape of the bit map is that of the parameter.
            let width = cols.div_ceil(8);
            let mut bits = vec![0u8; rows * width];
            for ((i, j), _) in mask.indexed_iter().filter(|(_, keep)| **keep) {
                bits[i * width + j / 8] |= 1 << (j % 8);
            }
            let values = tensor(VALUES, dtype::<F>(), vec![kept.len()], values(&kept));
            vec![values, tensor(MASK, Dtype::U8, vec![rows, width], bits)]
        }
    }
}

fn dtype<F: Scalar>() -> Dtype {
    if F::BYTES == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// A parameter read back: its value, and its mask where it has one.
pub(super) struct Decoded<F> {
    pub value: Array2<F>,
    pub mask: Option<Mask>,
}

/// Reads the parameter `name` of `cols` columns, which only a masked one needs to be told.
pub(super) fn decode<F: Scalar>(file: &SafeTensors, name: &str, cols: Option<usize>) -> Result<Decoded<F>, String> {
    let Some(cols) = cols else {
        let tensor = file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
        let &[rows, cols] = tensor.shape() else { return Err(format!("tensor `{name}` is not a matrix")) };
        let value = numbers(&tensor, name)?;
        let value = Array2::from_shape_vec((rows, cols), value).map_err(|_| format!("tensor `{name}` has the wrong size"))?;
        return Ok(Decoded { value, mask: None });
    };
    let mask = file.tensor(&format!("{name}{MASK}")).map_err(|_| format!("tensor `{name}{MASK}` is missing"))?;
    let values = file.tensor(&format!("{name}{VALUES}")).map_err(|_| format!("tensor `{name}{VALUES}` is missing"))?;
    let (&[rows, width], Dtype::U8) = (mask.shape(), mask.dtype()) else { return Err(format!("tensor `{name}{MASK}` is not a bit map")) };
    if width != cols.div_ceil(8) || cols == 0 {
        return Err(format!("tensor `{name}{MASK}` has {width} bytes a row, {cols} columns need {}", cols.div_ceil(8)));
    }
    let bits = mask.data();
    let mask = Mask::from_shape_fn((rows, cols), |(i, j)| bits[i * width + j / 8] >> (j % 8) & 1 == 1);
    let kept = numbers::<F>(&values, name)?;
    let expected = mask.iter().filter(|keep| **keep).count();
    if kept.len() != expected {
        return Err(format!("tensor `{name}{VALUES}` has {} values, its bit map keeps {expected}", kept.len()));
    }
    let mut kept = kept.into_iter();
    let value = mask.map(|keep| if *keep { kept.next().unwrap_or_default() } else { F::zero() });
    Ok(Decoded { value, mask: Some(mask) })
}

fn numbers<F: Scalar>(tensor: &TensorView, name: &str) -> Result<Vec<F>, String> {
    if tensor.dtype() != dtype::<F>() {
        return Err(format!("tensor `{name}` holds {:?}, expected {}", tensor.dtype(), F::DTYPE));
    }
    let values = F::read_le(tensor.data());
    match values.iter().find(|v| !v.is_finite()) {
        Some(value) => Err(format!("tensor `{name}` holds {value}, which is not a finite number")),
        None => Ok(values),
    }
}
