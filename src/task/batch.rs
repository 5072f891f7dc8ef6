//! What one forward pass runs on.

use crate::data::Dataset;
use crate::error::Result;
use crate::graph::Graph;
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
    attached: Option<Arc<dyn Any + Send + Sync>>,
}

impl<F: Scalar> Batch<F> {
    /// A graph with features, `[nodes, features]`, of which every row counts.
    pub fn new(graph: Graph<F>, features: Arc<Value<F>>) -> Self {
        let rows = (0..graph.num_nodes() as u32).collect();
        Self { graph, features, rows, attached: None }
    }

    /// All of a data set, of which `rows` count.
    pub fn of(data: &Dataset<F>, rows: impl Into<Arc<[u32]>>) -> Self {
        Self {
            graph: data.graph().clone(),
            features: data.shared_features(),
            rows: rows.into(),
            attached: None,
        }
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

    /// The features of its nodes.
    pub fn features(&self) -> ValueRef<'_, F> {
        self.features.view()
    }

    /// The rows of a model's output that count.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// What was attached by [`Batch::with`], where it is a `T`.
    pub fn attached<T: Any>(&self) -> Option<&T> {
        self.attached.as_ref()?.downcast_ref()
    }
}

/// The batches of one part: the same in every epoch, or drawn anew for each.
pub struct Batches<'a, F: Scalar>(Kind<'a, F>);

type Drawn<'a, F> = Box<dyn Iterator<Item = Result<Batch<F>>> + Send + 'a>;

enum Kind<'a, F: Scalar> {
    Fixed(Vec<Batch<F>>),
    Drawn(Box<dyn Fn(usize) -> Drawn<'a, F> + Send + 'a>),
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

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<F>>> + Send + '_> {
        match &self.0 {
            Kind::Fixed(batches) => Box::new(batches.iter().cloned().map(Ok)),
            Kind::Drawn(draw) => draw(epoch),
        }
    }
}

impl<F: Scalar> std::fmt::Debug for Batches<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Fixed(batches) => f.debug_tuple("Fixed").field(batches).finish(),
            Kind::Drawn(_) => f.write_str("Drawn"),
        }
    }
}
