//! Encoders that are run once: what stands between tables and a decoder becomes a table.

use crate::error::{Error, PruneError, Result};
use crate::nn::{Axis, Cx, Embedding, Init, Model, ModelBuilder, NodeId, RelationTable, RowSpace};
use crate::scalar::Scalar;
use crate::task::{Batch, Task};
use ndarray::Array2;

/// Runs everything before the scores of pairs once, on the graph that trains, and keeps the rows of
/// nodes and relations that come out as tables: the model answers the same, without a pass over the
/// edges, and is what [`Quantizer`](crate::Quantizer) and table pruning read. Dropout, norms and
/// masks before the tables are gone with the layers, so training goes on as that of a table.
///
/// It is for models that serve the graph that they were trained on: a node that comes later has no
/// row.
///
/// ```
/// use gnn_prune::data::Interactions;
/// use gnn_prune::prune::Precompute;
/// use gnn_prune::task::{Part, RecommendTask, evaluate};
/// use gnn_prune::LightGcn;
/// let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user + k * 3) % 30).collect() };
/// let later = |user: u32| vec![(user + 1) % 30];
/// let (own, later) = ((0..20).map(own).collect(), (0..20).map(later).collect());
/// let task = RecommendTask::builder(Interactions::new("t", 30, own, later)?).build()?;
/// let model = LightGcn::builder(50).channels(8).layers(3).build(0)?;
/// let small = Precompute::new().apply(&model, &task)?;
/// assert_eq!(small.nodes().len(), 2);
/// assert_eq!(evaluate(&small, &task, Part::Test)?, evaluate(&model, &task, Part::Test)?);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Precompute;

impl Precompute {
    /// The only one there is.
    pub fn new() -> Self {
        Self
    }

    /// Whether there is an encoder to run: the scores of pairs read more than tables.
    pub fn has_encoder<F: Scalar>(model: &Model<F>) -> bool {
        read_by_pairs(model).is_ok()
    }

    /// The model whose scores read tables, of the graph that trains.
    ///
    /// # Errors
    /// As [`Precompute::apply_on`], and what [`Task::whole`] returns.
    pub fn apply<F: Scalar>(self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        self.apply_on(model, &task.whole()?)
    }

    /// The model whose scores read tables, of the graph of a batch with all nodes in their order.
    ///
    /// # Errors
    /// [`Error::Prune`] for a model that does not score pairs, and for one whose scores read tables
    /// already; what running it returns, and [`Error::Data`] for a batch of hops or of
    /// named nodes.
    pub fn apply_on<F: Scalar>(self, model: &Model<F>, batch: &Batch<F>) -> Result<Model<F>> {
        let read = read_by_pairs(model)?;
        let trace =
            model.trace_keeping(&batch.on(&Cx::without_graph()), batch.features(), &read)?;
        with_tables(model, |id| {
            let rows = trace.value(id).expect("it is kept").to_dense();
            let all = match model.rows_of(id) {
                RowSpace::Relations(count) => count as usize,
                _ => batch.graph().num_nodes(),
            };
            if rows.nrows() != all || batch.spaces().node_ids().is_some() {
                let problem = "does not run on all nodes in their order, so no table can be made";
                return Err(Error::data("the batch", problem));
            }
            Ok(rows)
        })
    }

    /// The form of what [`Precompute::apply`] makes on a graph of so many nodes.
    ///
    /// # Errors
    /// As [`Precompute::apply`].
    pub(crate) fn form_on<F: Scalar>(self, model: &Model<F>, nodes: usize) -> Result<Model<F>> {
        read_by_pairs(model)?;
        with_tables(model, |id| {
            let rows = match model.rows_of(id) {
                RowSpace::Relations(count) => count as usize,
                _ => nodes,
            };
            Ok(Array2::zeros((rows, model.channels(id))))
        })
    }
}

fn scores_pairs<F: Scalar>(model: &Model<F>, id: NodeId) -> bool {
    model.rows_of(id) == RowSpace::Pairs
}

/// The nodes of other rows that nodes of pairs read, if one of them is more than a table.
fn read_by_pairs<F: Scalar>(model: &Model<F>) -> Result<Vec<NodeId>> {
    let none = |reason: String| Err(PruneError::NothingToPrecompute { reason }.into());
    if !scores_pairs(model, model.output()) {
        return none(format!("the model has one row per {}", one_of(model.rows())));
    }
    let pairs = model.iter().filter(|(id, _)| scores_pairs(model, *id));
    let mut read: Vec<NodeId> = pairs.flat_map(|(_, node)| node.inputs().to_vec()).collect();
    read.retain(|id| !scores_pairs(model, *id));
    read.sort_unstable();
    read.dedup();
    let has_table =
        |id: &NodeId| matches!(model.rows_of(*id), RowSpace::Nodes | RowSpace::Relations(_));
    if !read.iter().all(has_table) {
        return none("what scores reads rows that are not of all nodes or relations".into());
    }
    let is_table = |id: &NodeId| *id != NodeId::INPUT && is_table(model, *id);
    if read.iter().all(is_table) {
        return none("what scores reads tables already".into());
    }
    Ok(read)
}

/// Whether a node hands out the rows that it has, whatever it reads.
fn is_table<F: Scalar>(model: &Model<F>, id: NodeId) -> bool {
    let reads_relations = |input: &NodeId| model.rows_of(*input) == model.rows_of(id);
    let mut of_nodes = false;
    model[id].layer().visit(&mut |param| of_nodes |= param.axes()[0] == Axis::Nodes);
    let of_relations = matches!(model.rows_of(id), RowSpace::Relations(_));
    of_nodes || of_relations && !model[id].inputs().iter().any(reads_relations)
}

fn one_of(rows: RowSpace) -> &'static str {
    match rows {
        RowSpace::Graphs => "graph",
        RowSpace::Relations(_) => "relation",
        RowSpace::Pairs => "pair",
        RowSpace::Nodes | RowSpace::Hop(_) => "node",
    }
}

/// The nodes of pairs, which read tables of these rows.
fn with_tables<F: Scalar>(
    model: &Model<F>,
    mut rows_of: impl FnMut(NodeId) -> Result<Array2<F>>,
) -> Result<Model<F>> {
    let of_nodes = model.params().find(|(_, param)| param.axes()[0] == Axis::Nodes);
    let init = of_nodes.map_or(Init::GlorotUniform, |(_, param)| param.init());
    let mut builder = ModelBuilder::new(model.in_channels());
    let mut places = vec![None; model.nodes().len() + 1];
    for (id, node) in model.iter().filter(|(id, _)| scores_pairs(model, *id)) {
        let mut layer = node.layer().boxed();
        let mut inputs = node.inputs().to_vec();
        // Rows of relations belong to the decoder, where it can have them.
        if let Some(&last) = inputs.last()
            && matches!(model.rows_of(last), RowSpace::Relations(_))
            && let Some(owner) = layer.owning(rows_of(last)?.view())
        {
            layer = owner;
            inputs.pop();
        }
        let mut read = Vec::with_capacity(inputs.len());
        for input in inputs {
            let place = match places[input.index()] {
                Some(place) => place,
                None => table(&mut builder, rows_of(input)?, model.rows_of(input), init)?,
            };
            places[input.index()] = Some(place);
            read.push(place);
        }
        places[id.index()] = Some(builder.add_boxed(node.name(), layer, &read)?);
    }
    let output = places[model.output().index()].expect("the output scores pairs");
    let mut small = builder.build_undrawn(output, model.seed())?;
    small.set_origin(model.origin().cloned());
    Ok(small)
}

/// Adds a table of these rows, under the first name that is free.
fn table<F: Scalar>(
    builder: &mut ModelBuilder<F>,
    rows: Array2<F>,
    space: RowSpace,
    init: Init,
) -> Result<NodeId> {
    let of_relations = matches!(space, RowSpace::Relations(_));
    let word = if of_relations { "relations" } else { "table" };
    let (mut name, mut k) = (word.to_string(), 1);
    while builder.has(&name) {
        k += 1;
        name = format!("{word}{k}");
    }
    match of_relations {
        true => builder.add(&name, RelationTable::of(rows)?, &[NodeId::INPUT]),
        false => builder.add(&name, Embedding::of(rows, init)?, &[NodeId::INPUT]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Triples;
    use crate::models::{Encoder, Links, Scored};
    use crate::nn::{Composition, Form};
    use crate::task::LinkTask;

    fn facts() -> LinkTask {
        let all: Vec<[u32; 3]> = (0..30).map(|k| [k % 12, k % 2, (k * 5 + 1) % 12]).collect();
        let part = |from: usize| all.iter().skip(from).step_by(3).copied().collect();
        let facts = Triples::new("ring", 12, 2, part(0), part(1), part(2)).unwrap();
        LinkTask::builder(facts).reciprocal(true).build().unwrap()
    }

    /// What a model says of all that the task asks it about as a whole.
    fn scores(model: &Model, task: &LinkTask) -> Array2<f32> {
        let batch = task.whole().unwrap();
        model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap()
    }

    #[test]
    fn tables_of_what_an_encoder_makes_score_alike_to_the_bit() {
        let task = facts();
        let composition = Composition::Product;
        let encoders = [
            Encoder::Linear,
            Encoder::Gcn,
            Encoder::Rgcn { bases: 2, blocks: 0 },
            Encoder::CompGcn { composition },
        ];
        let forms = [Scored::By(Form::ComplEx), Scored::By(Form::Dot), Scored::Mlp];
        for encoder in encoders {
            for scored in forms {
                let builder = Links::builder(12, 4).channels(6).encoder(encoder).scored(scored);
                let model = builder.dropout(0.2).layers(2).build(3).unwrap();
                let small = Precompute::new().apply(&model, &task).unwrap();
                assert_eq!(scores(&small, &task), scores(&model, &task), "{encoder:?} {scored:?}");
                let form = Precompute::new().form_on(&model, 12).unwrap();
                assert_eq!(form.to_string(), small.to_string());
                assert_eq!(small.seed(), 3);
                let tables = small.iter().filter(|(id, _)| is_table(&small, *id)).count();
                assert_eq!(tables, 1, "a decoder owns its relations: {small}");
            }
        }
    }

    #[test]
    fn what_has_no_encoder_and_what_scores_no_pairs_is_refused() {
        let task = facts();
        let refused = |model: &Model| {
            let error = Precompute::new().apply(model, &task).unwrap_err().to_string();
            assert_eq!(Precompute::new().form_on(model, 12).unwrap_err().to_string(), error);
            error
        };
        let table = Links::builder(12, 4).channels(6).build(0).unwrap();
        assert!(refused(&table).contains("reads tables already"));
        let nodes = crate::Gcn::builder(3, 2).hidden(4).build(0).unwrap();
        assert!(refused(&nodes).contains("one row per node"));
    }
}
