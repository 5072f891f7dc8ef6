//! Tensors of a file, written and read one by one.

use super::header::KEY;
use crate::error::{Error, ModelError, Result};
use crate::files::Budget;
use crate::scalar::Scalar;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeSet;

/// One tensor of a file.
pub(super) struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    /// A number that no reader takes.
    wrong: Option<f64>,
}

impl Tensor {
    pub(super) fn numbers<F: Scalar>(name: String, shape: Vec<usize>, values: &[F]) -> Self {
        let mut bytes = Vec::new();
        F::write_le(values, &mut bytes);
        let wrong = values.iter().find(|v| !v.is_finite()).map(|v| v.as_f64());
        Self { name, dtype: dtype::<F>(), shape, bytes, wrong }
    }

    pub(super) fn bytes(name: String, bytes: Vec<u8>) -> Self {
        Self { name, dtype: Dtype::U8, shape: vec![bytes.len()], bytes, wrong: None }
    }

    fn view(&self) -> Result<(&str, TensorView<'_>)> {
        if let Some(value) = self.wrong {
            return Err(Error::NotFinite { at: format!("tensor `{}`", self.name), value });
        }
        let view = TensorView::new(self.dtype, self.shape.clone(), &self.bytes);
        Ok((
            &self.name,
            view.map_err(|error| ModelError::Damaged(format!("tensor `{}`: {error}", self.name)))?,
        ))
    }
}

fn dtype<F: Scalar>() -> Dtype {
    if F::BYTES == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// Bytes of all tensors.
pub(super) fn total_bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum()
}

/// A file of these tensors, with `text` under the crate's one key.
pub(super) fn serialise(tensors: &[Tensor], text: String) -> Result<Vec<u8>> {
    let views = tensors.iter().map(Tensor::view).collect::<Result<Vec<_>>>()?;
    // Whose map it is depends on what else in a build uses safetensors.
    safetensors::serialize(views, Some([(KEY.to_string(), text)].into_iter().collect()))
        .map_err(|error| ModelError::Damaged(error.to_string()).into())
}

/// Takes tensors out of a file and notes which.
pub(super) struct Reader<'a> {
    file: SafeTensors<'a>,
    read: BTreeSet<String>,
    budget: Budget,
}

impl<'a> Reader<'a> {
    /// `bytes` are those of the file.
    pub(super) fn new(file: SafeTensors<'a>, bytes: usize) -> Self {
        Self { file, read: BTreeSet::new(), budget: Budget::of_bytes(bytes as u64) }
    }

    /// What may still be allocated for the file.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.file.names()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<TensorView<'a>, String> {
        self.read.insert(name.to_string());
        let tensor = self.file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
        self.budget
            .take(tensor.shape(), size_of::<f64>())
            .map_err(|problem| format!("tensor `{name}` {problem}"))?;
        Ok(tensor)
    }

    /// A vector of bytes.
    pub(super) fn bytes(&mut self, name: &str) -> Result<&'a [u8], String> {
        let tensor = self.tensor(name)?;
        match (tensor.dtype(), tensor.shape()) {
            (Dtype::U8, [_]) => Ok(tensor.data()),
            (dtype, shape) => Err(format!(
                "tensor `{name}` holds {dtype:?} of shape {shape:?}, expected a vector of U8"
            )),
        }
    }

    /// A vector of finite numbers.
    pub(super) fn vector<F: Scalar>(&mut self, name: &str) -> Result<Vec<F>, String> {
        let tensor = self.tensor(name)?;
        match tensor.shape() {
            [_] => numbers(&tensor, name),
            shape => Err(format!("tensor `{name}` has shape {shape:?}, expected a vector")),
        }
    }

    /// A matrix of finite numbers.
    pub(super) fn matrix<F: Scalar>(&mut self, name: &str) -> Result<ndarray::Array2<F>, String> {
        let tensor = self.tensor(name)?;
        let &[rows, cols] = tensor.shape() else {
            return Err(format!("tensor `{name}` is not a matrix"));
        };
        let values = numbers(&tensor, name)?;
        ndarray::Array2::from_shape_vec((rows, cols), values)
            .map_err(|_| format!("tensor `{name}` has the wrong size"))
    }

    /// Refuses a file with tensors that nothing took; `whose` are those that would have.
    pub(super) fn finish(&self, whose: &str) -> Result<(), String> {
        match self.file.names().into_iter().filter(|name| !self.read.contains(*name)).min() {
            None => Ok(()),
            Some(name) => Err(format!("tensor `{name}` belongs to none of its {whose}")),
        }
    }
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
