//! What one forward pass runs on.

use super::prefetch::Ahead;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::{Graph, Hop};
use crate::nn::{Cx, Rows};
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use std::any::Any;
use std::sync::Arc;

/// A graph with its features, and which rows of a model's output count. Clones share the large
/// parts.
///
/// A task may attach to it what only the task reads, such as pairs of nodes and whether they are
/// edges: see [`Batch::with`].
#[derive(Debug, Clone)]
pub struct Batch<F: Scalar> {
    graph: Graph<F>,
    features: Arc<Value<F>>,
    rows: Arc<[u32]>,
    spaces: Rows<F>,
    attached: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether it counts as much as any other batch, whatever its rows.
    alike: bool,
}

impl<F: Scalar> Batch<F> {
    /// A graph with features, `[nodes, features]`, of which every row counts.
    pub fn new(graph: Graph<F>, features: Arc<Value<F>>) -> Self {
        let rows = (0..graph.num_nodes() as u32).collect();
        Self { graph, features, rows, spaces: Rows::new(), attached: None, alike: false }
    }

    /// All of a data set, of which `rows` count.
    pub fn of(data: &Dataset<F>, rows: impl Into<Arc<[u32]>>) -> Self {
        Self {
            graph: data.graph().clone(),
            features: data.shared_features(),
            rows: rows.into(),
            spaces: Rows::new(),
            attached: None,
            alike: false,
        }
    }

    /// What a network that aggregates `hops` times needs of a data set for the output of `targets`,
    /// and no more: all neighbours at every hop, so that their outputs are those on the whole
    /// graph. All rows of the output count: that of target `k` is row `k`. A network that
    /// aggregates less often computes more rows than these, which do not count; one that aggregates
    /// more often is refused.
    ///
    /// # Errors
    /// As [`Hop::into_nodes`]; [`Error::Setting`](crate::Error::Setting) for no hop.
    ///
    /// ```
    /// use gnn_prune::nn::Cx;
    /// use gnn_prune::task::Batch;
    /// use gnn_prune::{Dataset, Gcn};
    /// let data = Dataset::sbm(300, 3).features(8).build()?;
    /// let model = Gcn::builder(8, 3).hidden(16).layers(2).build(0)?;
    /// let batch = Batch::around(&data, &[7, 4], 2)?;
    /// let y = model.infer(&batch.on(&Cx::without_graph()), batch.features())?;
    /// let all = model.infer(&Cx::eval(data.graph()), data.features())?;
    /// let off = (&y.row(0) - &all.row(7)).fold(0f32, |most, v| most.max(v.abs()));
    /// assert!(y.nrows() == 2 && off < 1e-5);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn around(data: &Dataset<F>, targets: &[u32], hops: usize) -> Result<Self> {
        let mut backwards: Vec<Hop<F>> = Vec::new();
        for _ in 0..hops {
            let targets = backwards.last().map_or(targets, Hop::sources);
            backwards.push(Hop::into_nodes(data.graph(), targets)?);
        }
        backwards.reverse();
        Self::of_hops(data, backwards)
    }

    /// A sample of a data set by hops, the first first, with the features of the nodes that it
    /// begins at: see [`Rows::hops`]. The targets of the last hop count.
    ///
    /// # Errors
    /// As [`Rows::hops`].
    pub fn of_hops(data: &Dataset<F>, hops: Vec<Hop<F>>) -> Result<Self> {
        let targets = hops.last().map_or(0, Hop::num_targets) as u32;
        let spaces = Rows::new().hops(hops)?;
        let nodes = spaces.node_ids().unwrap_or_default().to_vec();
        Ok(Self {
            graph: data.graph().clone(),
            features: Arc::new(data.features().rows_of(&nodes)),
            rows: (0..targets).collect(),
            spaces: with_starts(spaces, data, &nodes),
            attached: None,
            alike: false,
        })
    }

    /// Some nodes of a data set, with their features, on a graph of their own: what
    /// [`Graph::induced`] gives, or a [`Coverage`](crate::graph::Coverage). All rows count.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of nodes than the graph has,
    /// [`Error::IndexOutOfRange`] for one that the data do not have.
    pub fn of_part(data: &Dataset<F>, graph: Graph<F>, nodes: &[u32]) -> Result<Self> {
        if graph.num_nodes() != nodes.len() {
            let (expected, found) = ((graph.num_nodes(), 1), (nodes.len(), 1));
            return Err(Error::ShapeMismatch { at: "nodes of a part".into(), expected, found });
        }
        let len = data.num_nodes();
        if let Some(&node) = nodes.iter().find(|node| **node as usize >= len) {
            let at = "node of a part".into();
            return Err(Error::IndexOutOfRange { at, index: node as usize, len });
        }
        let features = Arc::new(data.features().rows_of(nodes));
        let spaces = with_starts(Rows::new().ids(nodes), data, nodes);
        Ok(Self::new(graph, features).with_spaces(spaces))
    }

    /// The same, where the rows of its values are what `spaces` says.
    #[must_use]
    pub fn with_spaces(self, spaces: Rows<F>) -> Self {
        Self { spaces, ..self }
    }

    /// The same, and these rows of the output count.
    #[must_use]
    pub fn with_rows(self, rows: impl Into<Arc<[u32]>>) -> Self {
        Self { rows: rows.into(), ..self }
    }

    /// The same, with what only its task reads.
    #[must_use]
    pub fn with(self, attached: impl Any + Send + Sync) -> Self {
        Self { attached: Some(Arc::new(attached)), ..self }
    }

    /// The graph.
    pub fn graph(&self) -> &Graph<F> {
        &self.graph
    }

    /// What it has beside the graph.
    pub fn spaces(&self) -> &Rows<F> {
        &self.spaces
    }

    /// What a model runs in on this batch, with the mode and the workspace of `cx`.
    pub fn on<'b>(&'b self, cx: &Cx<'b, F>) -> Cx<'b, F> {
        cx.on(&self.graph).within(&self.spaces)
    }

    /// Whether the rows of what is put out are nodes, and neither pairs of them nor graphs.
    pub fn asks_about_nodes(&self) -> bool {
        self.spaces.asked().is_none() && self.spaces.graph_of_nodes().is_none()
    }

    pub(super) fn shared_features(&self) -> &Arc<Value<F>> {
        &self.features
    }

    /// The same on other edges between its nodes.
    pub(super) fn with_graph(self, graph: Graph<F>) -> Self {
        Self { graph, ..self }
    }

    /// The same on other features of its nodes.
    pub(super) fn with_features(self, features: Arc<Value<F>>) -> Self {
        Self { features, ..self }
    }

    /// The features of its nodes.
    pub fn features(&self) -> ValueRef<'_, F> {
        self.features.view()
    }

    /// The rows of a model's output that count.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The same, where its loss is an estimate of the mean over all examples by itself, so that it
    /// counts as much as any other: rows with weights of their own.
    #[must_use]
    pub fn counting_alike(self) -> Self {
        Self { alike: true, ..self }
    }

    /// As how many examples its loss counts, beside that of other batches: those of its rows, or
    /// one for all.
    pub fn examples(&self) -> usize {
        if self.alike { 1 } else { self.rows.len() }
    }

    /// What was attached by [`Batch::with`], where it is a `T`.
    pub fn attached<T: Any>(&self) -> Option<&T> {
        self.attached.as_ref()?.downcast_ref()
    }
}

/// The same, and where the stored features of these nodes begin, if they are sparse.
fn with_starts<F: Scalar>(spaces: Rows<F>, data: &Dataset<F>, nodes: &[u32]) -> Rows<F> {
    match data.features() {
        ValueRef::Dense(_) => spaces,
        ValueRef::Sparse(x) => {
            let starts = x.indptr();
            let starts = starts.raw_storage();
            let starts = nodes.iter().map(|&node| starts[node as usize]);
            spaces.sparse_starts(starts.collect::<Vec<usize>>())
        }
    }
}

/// The batches of one part: the same in every epoch, or drawn anew for each.
pub struct Batches<'a, F: Scalar>(Kind<'a, F>);

type Drawn<'a, F> = Box<dyn Iterator<Item = Result<Batch<F>>> + Send + 'a>;

type DrawsAhead<F> = Arc<dyn Fn(usize) -> Drawn<'static, F> + Send + Sync>;

enum Kind<'a, F: Scalar> {
    Fixed(Vec<Batch<F>>),
    Drawn(Box<dyn Fn(usize) -> Drawn<'a, F> + Send + 'a>),
    Ahead(usize, DrawsAhead<F>),
}

impl<'a, F: Scalar> Batches<'a, F> {
    /// The same batches in every epoch.
    pub fn fixed(batches: Vec<Batch<F>>) -> Self {
        Self(Kind::Fixed(batches))
    }

    /// Other batches in every epoch: `draw` is given the epoch, counted from 1, or 0 where nothing
    /// is trained, and must give the same batches for the same epoch.
    pub fn drawn<I>(draw: impl Fn(usize) -> I + Send + 'a) -> Self
    where
        I: Iterator<Item = Result<Batch<F>>> + Send + 'a,
    {
        Self(Kind::Drawn(Box::new(move |epoch| Box::new(draw(epoch)))))
    }

    /// What `f` makes of each.
    pub(super) fn map(self, f: impl Fn(Batch<F>) -> Batch<F> + Send + Sync + 'a) -> Self {
        Self(match self.0 {
            Kind::Fixed(batches) => Kind::Fixed(batches.into_iter().map(f).collect()),
            Kind::Drawn(draw) => {
                let f = Arc::new(f);
                Kind::Drawn(Box::new(move |epoch| {
                    let f = Arc::clone(&f);
                    Box::new(draw(epoch).map(move |batch| batch.map(&*f)))
                }))
            }
            Kind::Ahead(waiting, draw) => {
                let f = Arc::new(f);
                Kind::Drawn(Box::new(move |epoch| {
                    let f = Arc::clone(&f);
                    Box::new(ahead(waiting, &draw, epoch).map(move |batch| batch.map(&*f)))
                }))
            }
        })
    }

    /// As [`Batches::drawn`], made on another thread while the ones before are worked on: at most
    /// `waiting` of them, and one that is being made. They are the same batches. An error of one
    /// comes in its place; where making one panics and panics unwind, asking for it does. The
    /// thread ends with the epoch, or once the batch that it is at is made, where nobody asks for
    /// more.
    ///
    /// With none waiting, batches are made when they are asked for.
    pub fn drawn_ahead<I>(waiting: usize, draw: impl Fn(usize) -> I + Send + Sync + 'static) -> Self
    where
        I: Iterator<Item = Result<Batch<F>>> + Send + 'static,
    {
        if waiting == 0 {
            return Self::drawn(draw);
        }
        Self(Kind::Ahead(waiting, Arc::new(move |epoch| Box::new(draw(epoch)))))
    }

    /// Whether every epoch is known to be one batch.
    pub(crate) fn are_one(&self) -> bool {
        matches!(&self.0, Kind::Fixed(batches) if batches.len() == 1)
    }

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<F>>> + Send + '_> {
        match &self.0 {
            Kind::Fixed(batches) => Box::new(batches.iter().cloned().map(Ok)),
            Kind::Drawn(draw) => draw(epoch),
            Kind::Ahead(waiting, draw) => ahead(*waiting, draw, epoch),
        }
    }
}

/// The batches of an epoch, made on another thread; on a system that has no thread to spare the
/// same without one.
fn ahead<F: Scalar>(waiting: usize, draw: &DrawsAhead<F>, epoch: usize) -> Drawn<'static, F> {
    let on_thread = Arc::clone(draw);
    match Ahead::start(waiting, move || on_thread(epoch)) {
        Ok(batches) => Box::new(batches),
        Err(_) => draw(epoch),
    }
}

impl<F: Scalar> std::fmt::Debug for Batches<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Fixed(batches) => f.debug_tuple("Fixed").field(batches).finish(),
            Kind::Drawn(_) => f.write_str("Drawn"),
            Kind::Ahead(waiting, _) => f.debug_tuple("Ahead").field(waiting).finish(),
        }
    }
}
