//! What backward reads, what it is handed, and the gradients that it adds up.

use super::ids::ParamId;
use super::param::Param;
use crate::scalar::Scalar;
use crate::value::{CsrView, ValueRef};
use ndarray::Array2;

/// What a layer's backward reads of its inputs and output; the trace drops what nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Neither.
    Nothing,
    /// The inputs.
    Inputs,
    /// The output.
    Output,
    /// Which entries of the output are positive, and that only where the gradient is not zero.
    SignOfOutput,
    /// Inputs and output.
    InputsAndOutput,
}

impl Reads {
    pub(crate) fn inputs(self) -> bool {
        matches!(self, Reads::Inputs | Reads::InputsAndOutput)
    }

    pub(crate) fn output(self) -> bool {
        matches!(self, Reads::Output | Reads::SignOfOutput | Reads::InputsAndOutput)
    }
}

/// Inputs and output of a layer's forward pass, as its backward pass may read them, and which
/// gradients are wanted.
#[derive(Debug)]
pub struct Io<'a, F: Scalar> {
    pub(crate) inputs: Vec<Option<ValueRef<'a, F>>>,
    pub(crate) output: Option<ValueRef<'a, F>>,
    pub(crate) wants: Vec<bool>,
    pub(crate) widths: Vec<usize>,
}

impl<'a, F: Scalar> Io<'a, F> {
    /// All inputs and the output of a layer that was run by itself, and the wish for every
    /// gradient.
    pub fn of(inputs: &[ValueRef<'a, F>], output: ValueRef<'a, F>) -> Self {
        let widths = inputs.iter().map(ValueRef::cols).collect();
        Self {
            inputs: inputs.iter().map(|x| Some(*x)).collect(),
            output: Some(output),
            wants: vec![true; inputs.len()],
            widths,
        }
    }

    /// Input `k`.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`](super::Layer::reads) says that backward does not read
    /// inputs.
    pub fn input(&self, k: usize) -> ValueRef<'a, F> {
        self.inputs[k].expect("`reads` says whether backward reads inputs")
    }

    /// Input `k` if it is sparse; those are kept whatever [`Layer::reads`](super::Layer::reads)
    /// says.
    pub fn sparse_input(&self, k: usize) -> Option<CsrView<'a, F>> {
        match self.inputs[k] {
            Some(ValueRef::Sparse(x)) => Some(x),
            _ => None,
        }
    }

    /// The output.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`](super::Layer::reads) says that backward does not read it.
    pub fn output(&self) -> ValueRef<'a, F> {
        self.output.expect("`reads` says whether backward reads the output")
    }

    /// Whether the gradient of input `k` is wanted; `None` may be returned for the others.
    pub fn wants(&self, k: usize) -> bool {
        self.wants[k]
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Columns of each input.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }
}

/// Added to the norm that gradients are divided by, as PyTorch does.
const CLIP_EPSILON: f64 = 1e-6;

/// Gradients of a model's parameters; what was never added to is zero.
#[derive(Debug, Clone, Default)]
pub struct Grads<F> {
    by_id: Vec<Option<Array2<F>>>,
}

impl<F: Scalar> Grads<F> {
    pub(crate) fn new(num_params: usize) -> Self {
        Self { by_id: vec![None; num_params] }
    }

    /// Adds to the gradient of `param`.
    ///
    /// # Panics
    /// If the shape is not the parameter's.
    pub fn add(&mut self, param: &Param<F>, gradient: Array2<F>) {
        assert_eq!(
            gradient.dim(),
            param.value().dim(),
            "the gradient of `{}` has its shape",
            param.name()
        );
        if self.by_id.len() <= param.id.0 {
            self.by_id.resize(param.id.0 + 1, None);
        }
        match &mut self.by_id[param.id.0] {
            Some(sum) => *sum += &gradient,
            empty => *empty = Some(gradient),
        }
    }

    /// The gradient of a parameter, or `None` where it is zero throughout.
    pub fn get(&self, id: ParamId) -> Option<&Array2<F>> {
        self.by_id.get(id.0).and_then(Option::as_ref)
    }

    /// The gradient of a parameter, of zeros where it had none.
    pub fn of_mut(&mut self, param: &Param<F>) -> &mut Array2<F> {
        let index = param.id().0;
        if self.by_id.len() <= index {
            self.by_id.resize(index + 1, None);
        }
        self.by_id[index].get_or_insert_with(|| Array2::zeros(param.value().dim()))
    }

    /// The entries of each gradient that there is, in the order of the parameters.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [F]> {
        let contiguous = "gradients are made in standard layout";
        self.by_id.iter_mut().flatten().map(move |gradient| {
            if !gradient.is_standard_layout() {
                *gradient = gradient.as_standard_layout().into_owned();
            }
            gradient.as_slice_mut().expect(contiguous)
        })
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: F) {
        self.by_id.iter_mut().flatten().for_each(|gradient| *gradient *= factor);
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        let squares = self.by_id.iter().flatten().flatten().map(|g| g.as_f64() * g.as_f64());
        squares.sum::<f64>().sqrt()
    }

    /// Scales all gradients so that their [`norm`](Self::norm) is `largest` at most.
    ///
    /// *Source*: Pascanu et al., ICML 2013, algorithm 1, as `torch.nn.utils.clip_grad_norm_`.
    pub fn clip(&mut self, largest: f64) {
        let factor = largest / (self.norm() + CLIP_EPSILON);
        if factor < 1.0 {
            self.scale(F::of(factor));
        }
    }

    /// Adds `scale` times the gradients of `other`.
    pub fn add_scaled(&mut self, other: &Grads<F>, scale: F) {
        self.by_id.resize(self.by_id.len().max(other.by_id.len()), None);
        for (sum, gradient) in self.by_id.iter_mut().zip(&other.by_id) {
            match (sum, gradient) {
                (Some(sum), Some(gradient)) => sum.scaled_add(scale, gradient),
                (sum @ None, Some(gradient)) => *sum = Some(gradient * scale),
                (_, None) => {}
            }
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, ModelBuilder, NodeId};
    use ndarray::array;

    #[test]
    fn gradients_longer_than_the_limit_are_scaled_down_to_it_and_others_left() {
        let mut builder = ModelBuilder::<f64>::new(1);
        let line = Linear::builder(1, 2).build::<f64>().unwrap();
        let line = builder.add("line", line, &[NodeId::INPUT]).unwrap();
        let model = builder.build(line, 0).unwrap();
        let mut grads = Grads::new(0);
        model.visit(&mut |name, param| {
            let values = if name == "line.bias" { array![[0.0, 4.0]] } else { array![[3.0, 0.0]] };
            grads.add(param, values);
        });
        assert_eq!(grads.norm(), 5.0);
        let mut same = grads.clone();
        same.clip(5.1);
        grads.clip(1.0);
        // PyTorch divides by the norm and 1e-6.
        let factor = 1.0 / (5.0 + 1e-6);
        model.visit(&mut |name, param| {
            let (at, value) = if name == "line.bias" { ((0, 1), 4.0) } else { ((0, 0), 3.0) };
            assert_eq!(same.get(param.id()).unwrap()[at], value);
            assert!((grads.get(param.id()).unwrap()[at] - value * factor).abs() < 1e-15);
        });
    }

    #[test]
    fn scaled_gradients_are_added_whether_or_not_there_are_any_yet() {
        let mut builder = ModelBuilder::<f64>::new(1);
        let line = builder
            .add(
                "line",
                Linear::builder(1, 2).bias(false).build::<f64>().unwrap(),
                &[NodeId::INPUT],
            )
            .unwrap();
        let model = builder.build(line, 0).unwrap();
        let (mut terms, mut id) = (Grads::new(1), ParamId(0));
        model.visit(&mut |_, param| {
            id = param.id();
            terms.add(param, array![[2.0, -4.0]]);
        });
        let mut sum = Grads::new(0);
        sum.add_scaled(&terms, 0.5);
        assert_eq!(sum.get(id), Some(&array![[1.0, -2.0]]));
        sum.add_scaled(&terms, -0.25);
        assert_eq!(sum.get(id), Some(&array![[0.5, -1.0]]));
    }
}
