//! Networks of which some layers read no neighbours.

use super::removed::RemovedHop;
use crate::error::{Error, PruneError, Result};
use crate::nn::{Cx, Layer, Model, ModelBuilder, Node, NodeId, NodeWise};
use crate::reconstruct::Stretch;
use crate::scalar::Scalar;
use crate::task::Task;
use crate::value::ValueRef;

/// A layer that can do without its neighbours.
pub(super) struct Hop<F: Scalar> {
    pub id: NodeId,
    pub name: String,
    pub forms: Vec<Vec<NodeWise<F>>>,
}

/// The layers that can do without their neighbours, in the order of the model.
pub(super) fn hops<F: Scalar>(model: &Model<F>) -> Vec<Hop<F>> {
    let hop = |(id, node): (NodeId, &Node<F>)| {
        let forms = node.layer().without_hop();
        (!forms.is_empty()).then(|| Hop { id, name: node.name().into(), forms })
    };
    model.iter().filter_map(hop).collect()
}

/// The model with a stretch of layers in the place of each of these.
pub(super) fn replaced<F: Scalar>(model: &Model<F>, removed: &[RemovedHop]) -> Result<Model<F>> {
    let refused = |hop: &RemovedHop, reason: String| -> Error {
        PruneError::Refused { layer: hop.name.clone(), reason }.into()
    };
    for (k, hop) in removed.iter().enumerate() {
        if model.node(&hop.name).is_none() {
            return Err(refused(hop, "the model has no such layer".into()));
        }
        if removed[..k].iter().any(|before| before.name == hop.name) {
            return Err(refused(hop, "the plan names it twice".into()));
        }
    }
    model.rebuilt(|id, node| {
        let Some(hop) = removed.iter().find(|hop| hop.name == node.name()) else { return Ok(()) };
        let forms = node.layer().without_hop();
        let form = forms.get(hop.form).ok_or_else(|| {
            let reason = match forms.len() {
                0 => format!(
                    "its kind, {}, has no form that reads no neighbours",
                    node.layer().kind()
                ),
                some => format!("it has {some} forms without neighbours, and none {}", hop.form),
            };
            refused(hop, reason)
        })?;
        if form.is_empty() && id == model.output() && node.inputs() == [NodeId::INPUT] {
            return Err(refused(hop, "without its neighbours nothing is left of the model".into()));
        }
        node.layer = Box::new(Stretch::of(form, node.channels())?);
        Ok(())
    })
}

/// The model with the layers of each stretch as nodes: the last keeps the name.
pub(super) fn taken_apart<F: Scalar>(model: &Model<F>) -> Result<Model<F>> {
    let mut builder = ModelBuilder::new(model.in_channels());
    let mut places = vec![NodeId::INPUT];
    for (_, node) in model.iter() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|input| places[input.index()]).collect();
        let Some(stretch) = node.layer().as_any().downcast_ref::<Stretch<F>>() else {
            places.push(builder.add_boxed(node.name(), node.layer.clone(), &inputs)?);
            continue;
        };
        let layers = stretch.layers();
        let mut at = inputs;
        for (k, layer) in layers.iter().enumerate() {
            let name = match layers.len() - k {
                1 => node.name().to_string(),
                _ => format!("{}_{}", node.name(), k + 1),
            };
            at = vec![builder.add_boxed(&name, layer.clone(), &at)?];
        }
        places.push(at[0]);
    }
    if places[model.output().index()] == NodeId::INPUT {
        let layer = model.name_of(model.output()).to_string();
        let reason = "without its neighbours nothing is left of the model".into();
        return Err(PruneError::Refused { layer, reason }.into());
    }
    let mut alone = builder.build_undrawn(places[model.output().index()], model.seed())?;
    alone.set_origin(model.origin().cloned());
    Ok(alone)
}

/// Of each layer with several forms the one whose outputs are closest to the layer's, by the sum of
/// squares over all rows of `task`; of equals the first.
pub(super) fn closest<F: Scalar>(
    model: &Model<F>,
    hops: &[Hop<F>],
    task: &dyn Task<F>,
) -> Result<Vec<usize>> {
    if hops.iter().all(|hop| hop.forms.len() == 1) {
        return Ok(vec![0; hops.len()]);
    }
    let whole = task.whole()?;
    let cx = whole.on(&Cx::without_graph());
    let with_inputs = hops.iter().flat_map(|hop| [hop.id, model[hop.id].inputs()[0]]);
    let mut read: Vec<NodeId> = with_inputs.filter(|id| *id != NodeId::INPUT).collect();
    read.sort_unstable();
    read.dedup();
    let trace = model.trace_keeping(&cx, whole.features(), &read)?;
    let value = |id: NodeId| -> ValueRef<F> {
        if id == NodeId::INPUT { whole.features() } else { trace.value(id).expect("it is kept") }
    };
    let choose = |Hop { id, forms, .. }: &Hop<F>| -> Result<usize> {
        let (node, mut best) = (&model[*id], (0, f64::INFINITY));
        let input = node.inputs()[0];
        let at = cx.at(*id, node.name()).reading(model.rows_of(input));
        let was = value(*id).to_dense();
        for (k, form) in forms.iter().enumerate() {
            let stretch = Stretch::of(form, node.channels())?;
            let y = stretch.forward(&at, &[value(input)])?.0.into_dense();
            let squares = was.iter().zip(&y).map(|(was, y)| (was.as_f64() - y.as_f64()).powi(2));
            let distance: f64 = squares.sum();
            if distance < best.1 {
                best = (k, distance);
            }
        }
        Ok(best.0)
    };
    hops.iter().map(choose).collect()
}

/// The first layer that still asks for the graph, if any: the model is run without one.
pub(super) fn reads_graph<F: Scalar>(
    model: &Model<F>,
    task: &dyn Task<F>,
) -> Result<Option<String>> {
    let whole = task.whole()?;
    let cx = Cx::without_graph();
    match model.infer(&cx.within(whole.spaces()), whole.features()) {
        Ok(_) => Ok(None),
        Err(Error::NoGraph { at }) => Ok(Some(at)),
        Err(error) => Err(error),
    }
}
