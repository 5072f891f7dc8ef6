//! A module of PyTorch Geometric as nodes of a model: mostly one layer, where there is none of the
//! kind several.

use super::forms::{InnerForm, RUNNING, add_activation};
use super::names::layer_from;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::nn::{Activation, ActivationFn, Add, Attrs, DynLayer, ModelBuilder, NodeId};

/// Adds a convolution of `kind` with these settings, its parameters from tensors under PyTorch
/// Geometric's names; returns its output.
///
/// A linear residual (`res`), SAGE's projection (`lin`) and an inner network of GIN that is no pair
/// of linear maps with a ReLU between become nodes of their own, called `{name}_res`,
/// `{name}_project`, `{name}_lin0` and so on.
///
/// # Errors
/// [`Error::Network`] for tensors that are no such module.
pub fn add_module(
    b: &mut ModelBuilder<f32>,
    name: &str,
    kind: &str,
    attrs: &Attrs,
    tensors: &Tensors,
    form: &InnerForm,
    inputs: &[NodeId],
) -> Result<NodeId> {
    let mut tensors = tensors.clone();
    let residual = taken(&mut tensors, "res.");
    let y = match kind {
        "sage_conv" if tensors.floats.contains_key("lin.weight") => {
            add_projected(b, name, attrs, tensors, inputs[0])?
        }
        "gin_conv" if !is_plain(&tensors, form) => {
            let inner = taken(&mut tensors, "nn.");
            let y = b.add_boxed(name, layer_from("gin_aggregation", attrs, &tensors)?, inputs)?;
            add_inner(b, name, &inner, form, y)?
        }
        "gine_conv" if !is_plain(&tensors, form) || !tensors.floats.contains_key("lin.weight") => {
            let inner = taken(&mut tensors, "nn.");
            let mut attrs = attrs.clone();
            if !tensors.floats.contains_key("lin.weight") {
                attrs = attrs.with("columns", (0..b.channels(inputs[0])).collect::<Vec<_>>());
            }
            let y = b.add_boxed(name, layer_from("gine_aggregation", &attrs, &tensors)?, inputs)?;
            add_inner(b, name, &inner, form, y)?
        }
        _ => {
            drop_shared(&mut tensors);
            b.add_boxed(name, layer_from(kind, attrs, &tensors)?, inputs)?
        }
    };
    if residual.floats.is_empty() {
        return Ok(y);
    }
    let own = b.add_boxed(
        &format!("{name}_res"),
        layer_from("linear", &Attrs::new(), &residual)?,
        &[inputs[0]],
    )?;
    b.add(&format!("{name}_sum"), Add::new(2)?, &[y, own])
}

/// Takes the tensors under `prefix` out.
fn taken(tensors: &mut Tensors, prefix: &str) -> Tensors {
    let taken = tensors.under(prefix);
    tensors.floats.retain(|name, _| !name.starts_with(prefix));
    taken
}

/// `share_weights` of GATv2, and the single map of older GATs, stand in a state dict twice.
fn drop_shared(tensors: &mut Tensors) {
    for (first, second) in [("lin_l.", "lin_r."), ("lin_src.", "lin_dst.")] {
        let is_attention =
            tensors.floats.contains_key("att") || tensors.floats.contains_key("att_src");
        if is_attention && tensors.under(first) == tensors.under(second) {
            tensors.floats.retain(|name, _| !name.starts_with(second));
        }
    }
    let older = taken(tensors, "lin_src.");
    tensors
        .floats
        .extend(older.floats.into_iter().map(|(name, array)| (format!("lin.{name}"), array)));
}

/// Whether an inner network is two linear maps with a ReLU between.
fn is_plain(tensors: &Tensors, form: &InnerForm) -> bool {
    let places: Vec<&str> =
        tensors.floats.keys().filter_map(|name| name.strip_prefix("nn.")).collect();
    let within =
        |known: &[&str]| !places.is_empty() && places.iter().all(|place| known.contains(place));
    let mlp = within(&["lins.0.weight", "lins.0.bias", "lins.1.weight", "lins.1.bias"]);
    let sequential = within(&["0.weight", "0.bias", "2.weight", "2.bias"]);
    let relu = form.activation().is_some_and(|activated| activated.function == ActivationFn::Relu);
    places.len() == 4 && (sequential || mlp) && relu && !form.activation_last()
}

/// `AGG(relu(X·P + p))·W + b + X·W_root`.
fn add_projected(
    b: &mut ModelBuilder<f32>,
    name: &str,
    attrs: &Attrs,
    mut tensors: Tensors,
    x: NodeId,
) -> Result<NodeId> {
    if attrs.get_or("normalize", false)? {
        return Err(Error::Network(
            "a sage_conv with `project` (`lin.weight`) and `normalize` is not read".into(),
        ));
    }
    let plain = Attrs::new();
    let (projection, root) = (taken(&mut tensors, "lin."), taken(&mut tensors, "lin_r."));
    let near =
        b.add_boxed(&format!("{name}_project"), layer_from("linear", &plain, &projection)?, &[x])?;
    let near = b.add(&format!("{name}_relu"), Activation::new(ActivationFn::Relu), &[near])?;
    let near = b.add_boxed(name, layer_from("sage_conv", attrs, &tensors)?, &[near])?;
    if root.floats.is_empty() {
        return Ok(near);
    }
    let own = b.add_boxed(&format!("{name}_root"), layer_from("linear", &plain, &root)?, &[x])?;
    b.add(&format!("{name}_plus"), Add::new(2)?, &[near, own])
}

/// Most places of a `Sequential`.
const MOST_PLACES: usize = 1000;

/// An inner network: an `MLP` (`nn.lins`, `nn.norms`), a `Sequential` (`nn.0`, `nn.2`, …), in whose
/// list what has no tensors is an activation, or one linear map (`nn.weight`).
fn add_inner(
    b: &mut ModelBuilder<f32>,
    name: &str,
    inner: &Tensors,
    form: &InnerForm,
    x: NodeId,
) -> Result<NodeId> {
    if inner.floats.contains_key("weight") {
        return b.add_boxed(
            &format!("{name}_lin0"),
            layer_from("linear", &Attrs::new(), inner)?,
            &[x],
        );
    }
    let mlp = inner.floats.keys().any(|name| name.starts_with("lins."));
    if mlp { add_mlp(b, name, inner, form, x) } else { add_sequential(b, name, inner, form, x) }
}

fn add_mlp(
    b: &mut ModelBuilder<f32>,
    name: &str,
    inner: &Tensors,
    form: &InnerForm,
    mut x: NodeId,
) -> Result<NodeId> {
    let (lins, norms) = (numbered(inner, "lins.")?, numbered(inner, "norms.")?);
    for (k, linear) in lins.iter().enumerate() {
        x = b.add_boxed(
            &format!("{name}_lin{k}"),
            layer_from("linear", &Attrs::new(), linear)?,
            &[x],
        )?;
        if k + 1 < lins.len() {
            x = add_activated(b, name, k, norms.get(k), form, x)?;
        } else if let Some(activated) = form.activation().filter(|_| form.activation_last()) {
            x = add_activation(b, &format!("{name}_act{k}"), activated, &[x])?;
        }
    }
    Ok(x)
}

fn add_sequential(
    b: &mut ModelBuilder<f32>,
    name: &str,
    inner: &Tensors,
    form: &InnerForm,
    mut x: NodeId,
) -> Result<NodeId> {
    let place = |name: &str| name.split('.').next().and_then(|k| k.parse::<usize>().ok());
    let last = inner.floats.keys().filter_map(|name| place(name)).max().unwrap_or(0);
    if last > MOST_PLACES {
        return Err(Error::Network(format!(
            "`nn.{last}` is past the {MOST_PLACES} places of an inner network that are read"
        )));
    }
    // A dropout leaves a gap as an activation does, and two activations in a row would not be one.
    let mut activated = false;
    for k in 0..=last {
        let part = inner.under(&format!("{k}."));
        let Some(weight) = part.floats.get("weight") else {
            if let Some(form) = form.activation().filter(|_| !activated) {
                x = add_activation(b, &format!("{name}_act{k}"), form, &[x])?;
            }
            activated = true;
            continue;
        };
        activated = false;
        let (what, layer) = match weight.shape.len() {
            2 => ("lin", layer_from("linear", &Attrs::new(), &part)?),
            _ => ("norm", norm_from(&part, false)?),
        };
        x = b.add_boxed(&format!("{name}_{what}{k}"), layer, &[x])?;
    }
    match form.activation().filter(|_| form.activation_last()) {
        Some(activated) => add_activation(b, &format!("{name}_act{}", last + 1), activated, &[x]),
        None => Ok(x),
    }
}

/// Norm, if there is one, and activation after a hidden layer of an inner network.
fn add_activated(
    b: &mut ModelBuilder<f32>,
    name: &str,
    k: usize,
    norm: Option<&Tensors>,
    form: &InnerForm,
    mut x: NodeId,
) -> Result<NodeId> {
    let act = format!("{name}_act{k}");
    if let Some(activated) = form.activation().filter(|_| form.activation_first()) {
        x = add_activation(b, &act, activated, &[x])?;
    }
    if let Some(norm) = norm {
        x = b.add_boxed(&format!("{name}_norm{k}"), norm_from(norm, form.graph_norm())?, &[x])?;
    }
    match form.activation().filter(|_| !form.activation_first()) {
        Some(activated) => add_activation(b, &act, activated, &[x]),
        None => Ok(x),
    }
}

/// A norm of an inner network; PyTorch Geometric wraps batch norm in a `module`.
fn norm_from(tensors: &Tensors, per_graph: bool) -> Result<Box<dyn DynLayer<f32>>> {
    let inner = tensors.under("module.");
    match (tensors.floats.contains_key("running_mean"), inner.floats.is_empty()) {
        (false, false) if !inner.floats.contains_key("running_mean") => {
            Err(Error::Network(RUNNING.into()))
        }
        (false, false) => layer_from("batch_norm", &Attrs::new(), &inner),
        (true, _) => layer_from("batch_norm", &Attrs::new(), tensors),
        (false, true) => {
            layer_from("layer_norm", &Attrs::new().with("per_graph", per_graph), tensors)
        }
    }
}

/// The tensors under `{prefix}0.`, `{prefix}1.` and so on.
pub(super) fn numbered(tensors: &Tensors, prefix: &str) -> Result<Vec<Tensors>> {
    let number = |name: &String| {
        name.strip_prefix(prefix)
            .map(|rest| rest.split('.').next().and_then(|k| k.parse::<usize>().ok()))
    };
    let mut numbers: Vec<usize> = Vec::new();
    for name in tensors.floats.keys() {
        match number(name) {
            Some(Some(k)) => numbers.push(k),
            Some(None) => {
                return Err(Error::Network(format!(
                    "tensor `{name}` has no number after `{prefix}`"
                )));
            }
            None => {}
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.iter().enumerate().find(|(k, number)| k != *number) {
        Some((k, _)) => Err(Error::Network(format!("has no tensor under `{prefix}{k}.`"))),
        None => Ok((0..numbers.len()).map(|k| tensors.under(&format!("{prefix}{k}."))).collect()),
    }
}
