//! Each layer's parameters under PyTorch Geometric's names and in its layouts.

use crate::error::{Error, Result};
use crate::files::{Array, Tensors};
use crate::nn::Layout::{self, Heads, Same, Stacked, Transposed, Vector};
use crate::nn::{Attrs, DynLayer, Param, Registry, Shapes, Twin, with_at_most};
use crate::scalar::Scalar;
use ndarray::Array2;

/// Parameters without which no layer that has them can be built.
const NEEDED: [&str; 3] = ["weight", "weight1", "weight_src"];

/// What a kind is in PyTorch.
pub(super) fn twin_of(kind: &str) -> Result<Twin> {
    let registry = Registry::<f32>::standard();
    let Some(entry) = registry.entry(kind) else {
        let known: Vec<&str> = registry.entries().iter().map(|entry| entry.kind()).collect();
        return Err(Error::Network(format!(
            "kind `{kind}` is not known; known are {}",
            known.join(", ")
        )));
    };
    entry.pytorch().map_err(|reason| {
        Error::Network(format!("kind `{kind}`, {reason}, is nothing in PyTorch Geometric"))
    })
}

/// A layer of `kind` with these settings, its parameters from tensors under PyTorch Geometric's
/// names.
///
/// An inner network may be a `torch.nn.Sequential` of two linear maps with an activation between
/// (`nn.0`, `nn.2`) as well as an `MLP` (`nn.lins.0`, `nn.lins.1`).
///
/// # Errors
/// [`Error::Network`] for a kind without such names, a tensor of another shape, one that is missing
/// or one too many.
pub fn layer_from(kind: &str, attrs: &Attrs, tensors: &Tensors) -> Result<Box<dyn DynLayer<f32>>> {
    let mut shapes = Shapes::default();
    let mut values = Vec::new();
    let mut read = Vec::new();
    let names = twin_of(kind)?.tensors;
    for &(ours, theirs, layout) in names {
        let sequential = theirs.replace("nn.lins.0", "nn.0").replace("nn.lins.1", "nn.2");
        let Some((name, array)) =
            [theirs, &sequential].into_iter().find_map(|name| tensors.floats.get_key_value(name))
        else {
            continue;
        };
        let value = to_matrix(array, layout)
            .map_err(|problem| Error::Network(format!("tensor `{name}` {problem}")))?;
        shapes.0.insert(ours.into(), value.dim());
        values.push((ours, value));
        read.push(name.as_str());
    }
    if let Some(left) = tensors.floats.keys().find(|name| !read.contains(&name.as_str())) {
        return Err(Error::Network(format!("tensor `{left}` is none of a {kind}")));
    }
    if let Some((_, theirs, _)) =
        names.iter().find(|(ours, ..)| NEEDED.contains(ours) && shapes.find(ours).is_none())
    {
        return Err(Error::Network(format!("tensor `{theirs}` of a {kind} is missing")));
    }
    // What a layer makes of the numbers among its settings is bounded by what it was given.
    let most = tensors.floats.values().map(|array| array.values.len()).sum::<usize>().max(1);
    let mut layer = with_at_most(most, || Registry::standard().load(kind, attrs, &shapes))?;
    let mut wrong = None;
    layer.visit_mut(&mut |param| match values.iter().find(|(name, _)| *name == param.name()) {
        Some((_, value)) if value.dim() == param.value().dim() => param.value_mut().assign(value),
        Some((name, value)) => {
            wrong = Some(format!(
                "`{name}` of a {kind} is {:?}, expected {:?}",
                value.dim(),
                param.value().dim()
            ))
        }
        None => {
            let theirs =
                names.iter().find(|(ours, ..)| *ours == param.name()).map_or("", |name| name.1);
            wrong = Some(format!("tensor `{theirs}` of a {kind} is missing"));
        }
    });
    wrong.map_or(Ok(layer), |problem| Err(Error::Network(problem)))
}

fn to_matrix(array: &Array, layout: Layout) -> Result<Array2<f32>, String> {
    let axes = array.shape.len();
    match layout {
        Transposed if axes == 2 => {
            Ok(array.matrix(array.shape[0])?.reversed_axes().as_standard_layout().into_owned())
        }
        Same if axes == 2 => array.matrix(array.shape[0]),
        Vector if axes <= 1 => array.matrix(1),
        Heads if axes == 3 && array.shape[0] == 1 => array.matrix(1),
        Stacked if axes == 3 => array.matrix(array.shape[0] * array.shape[1]),
        _ => Err(format!("has shape {:?}, another number of axes is expected", array.shape)),
    }
}

/// The tensors of a layer under PyTorch Geometric's names: of each parameter what `of` makes of it,
/// its value or its gradient.
///
/// # Errors
/// [`Error::Network`] for a layer without such names.
pub fn state_of<F: Scalar>(
    layer: &dyn DynLayer<F>,
    of: &dyn Fn(&Param<F>) -> Array2<F>,
) -> Result<Tensors> {
    let names = twin_of(layer.kind())?.tensors;
    let attrs = layer.attrs();
    let mut tensors = Tensors::default();
    let mut bases = None;
    layer.visit(&mut |param| {
        if param.name() == "comp" {
            bases = Some(param.value().ncols());
        }
    });
    layer.visit(&mut |param| {
        let Some(&(_, theirs, layout)) = names.iter().find(|(ours, ..)| *ours == param.name())
        else {
            return;
        };
        let value = of(param).mapv(|v| v.as_f64() as f32);
        let (rows, cols) = value.dim();
        let (shape, value) = match layout {
            Transposed => (vec![cols, rows], value.reversed_axes()),
            Same => (vec![rows, cols], value),
            Vector => (vec![rows * cols], value),
            Heads => {
                let heads = attrs.get::<usize>("heads").unwrap_or(1);
                (vec![1, heads, cols / heads], value)
            }
            Stacked => {
                let stacks = bases.unwrap_or_else(|| attrs.get("relations").unwrap_or(1));
                let blocks = attrs.get("blocks").unwrap_or(1usize).max(1);
                match rows / stacks.max(1) {
                    rows if blocks == 1 => (vec![stacks, rows, cols], value),
                    rows => (vec![stacks, blocks, rows / blocks, cols], value),
                }
            }
        };
        tensors
            .floats
            .insert(theirs.into(), Array { shape, values: value.iter().copied().collect() });
    });
    Ok(tensors)
}
