//! How mini-batches are drawn: the settings, without the data.

use crate::error::{Error, Result};

/// How the training batches of a task are drawn from one large graph.
///
/// | sampler | a batch | source |
/// |---|---|---|
/// | [`neighbors`](Sampler::neighbors) | some training nodes, and hop by hop a few neighbours of each | GraphSAGE, Hamilton et al. 2017 |
/// | [`walks`](Sampler::walks), [`edges`](Sampler::edges), [`nodes`](Sampler::nodes) | a subgraph, corrected for how often its edges and nodes are drawn | GraphSAINT, Zeng et al. 2020 |
/// | [`clusters`](Sampler::clusters) | a few clusters, with all edges between them | Cluster-GCN, Chiang et al. 2019 |
///
/// Batches of neighbours are hops, on which layers run that ask for
/// [`Cx::topology`](crate::nn::Cx::topology): others refuse them by name. The other batches are
/// graphs, on which all layers run. What is out of range is refused where data meet the sampler:
/// [`Sampled::new`](super::Sampled::new).
///
/// ```
/// use gnn_prune::task::Sampler;
/// use gnn_prune::{Dataset, Sage, Trainer};
/// let data = Dataset::sbm(600, 3).features(8).build()?;
/// let task = Sampler::neighbors([10, 5]).batch(32).over(&data)?;
/// let model = Sage::builder(8, 3).layers(2).build(0)?;
/// let model = Trainer::builder().epochs(3).build()?.fit(model, &task)?;
/// // Clusters and walks give graphs.
/// let task = Sampler::clusters(20, 4).over(&data)?;
/// let model = Trainer::builder().epochs(3).build()?.fit(model, &task)?;
/// let task = Sampler::walks(50, 3).coverage(20).over(&data)?;
/// let model = Trainer::builder().epochs(3).build()?.fit(model, &task)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    pub(super) kind: Kind,
    pub(super) batch: Option<usize>,
    pub(super) steps: Option<usize>,
    pub(super) coverage: Option<usize>,
    pub(super) ahead: usize,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Neighbors { fan_outs: Vec<usize> },
    Walks { roots: usize, length: usize },
    Edges { count: usize },
    Nodes { count: usize },
    Clusters { parts: usize, per_batch: usize },
}

/// Training nodes of a batch of neighbours.
pub(super) const BATCH: usize = 1024;

/// How often a node is drawn on average before subgraphs are corrected.
pub(super) const COVERAGE: usize = 50;

/// Batches that wait for the one that trains.
const AHEAD: usize = 2;

impl Sampler {
    /// Some training nodes and their neighbours: the first fan-out is how many of each training
    /// node's are drawn, the next how many of each of those, at least 1 each, one for each time
    /// that the model aggregates. An epoch has every training node once. See
    /// [`NeighborSampler`](crate::graph::NeighborSampler).
    pub fn neighbors(fan_outs: impl Into<Vec<usize>>) -> Self {
        Self::of(Kind::Neighbors { fan_outs: fan_outs.into() })
    }

    /// The nodes of so many walks of so many steps; see
    /// [`SubgraphSampler::walks`](crate::graph::SubgraphSampler::walks).
    pub fn walks(roots: usize, length: usize) -> Self {
        Self::of(Kind::Walks { roots, length })
    }

    /// The ends of so many edges; see
    /// [`SubgraphSampler::edges`](crate::graph::SubgraphSampler::edges).
    pub fn edges(count: usize) -> Self {
        Self::of(Kind::Edges { count })
    }

    /// So many nodes, by their degrees; see
    /// [`SubgraphSampler::nodes_by_degree`](crate::graph::SubgraphSampler::nodes_by_degree).
    pub fn nodes(count: usize) -> Self {
        Self::of(Kind::Nodes { count })
    }

    /// The graph in so many clusters, of which so many are a batch; see
    /// [`Clusters`](crate::graph::Clusters). An epoch has every cluster once.
    pub fn clusters(parts: usize, per_batch: usize) -> Self {
        Self::of(Kind::Clusters { parts, per_batch })
    }

    fn of(kind: Kind) -> Self {
        Self { kind, batch: None, steps: None, coverage: None, ahead: AHEAD }
    }

    /// Training nodes of a batch of neighbours, at least 1. Default 1024.
    #[must_use]
    pub fn batch(mut self, nodes: usize) -> Self {
        self.batch = Some(nodes);
        self
    }

    /// Subgraphs of an epoch, at least 1. Default: as many as have the nodes of the graph.
    #[must_use]
    pub fn steps(mut self, subgraphs: usize) -> Self {
        self.steps = Some(subgraphs);
        self
    }

    /// How often a node is drawn on average to find what subgraphs are corrected by, from 1 to
    /// 100,000; see [`Coverage`](crate::graph::Coverage). Default 50.
    #[must_use]
    pub fn coverage(mut self, times: usize) -> Self {
        self.coverage = Some(times);
        self
    }

    /// How many batches another thread makes in advance; 0 for none and no thread. Default 2. The
    /// batches are the same.
    #[must_use]
    pub fn ahead(mut self, batches: usize) -> Self {
        self.ahead = batches;
        self
    }

    /// Refuses a setting that is zero, or that the sampler does not have.
    pub(super) fn check(&self) -> Result<()> {
        let neighbors = matches!(self.kind, Kind::Neighbors { .. });
        let clusters = matches!(self.kind, Kind::Clusters { .. });
        let subgraphs = !neighbors && !clusters;
        let settings = [
            ("nodes of a batch", self.batch, neighbors, "samplers of neighbours"),
            ("subgraphs of an epoch", self.steps, subgraphs, "samplers of subgraphs"),
            ("times that a node is drawn", self.coverage, subgraphs, "samplers of subgraphs"),
        ];
        for (name, value, has, which) in settings {
            match value {
                Some(value) if !has => {
                    return Err(Error::setting(name, value, format!("left to {which}")));
                }
                Some(0) => return Err(Error::setting(name, 0, "at least 1")),
                _ => (),
            }
        }
        match self.kind {
            Kind::Clusters { parts, per_batch } if !(1..=parts).contains(&per_batch) => {
                let legal = format!("from 1 to the {parts} that there are");
                Err(Error::setting("clusters of a batch", per_batch, legal))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Sampler {
    /// All that the batches depend on, in a few words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Neighbors { fan_outs } => {
                let fan_outs: Vec<String> = fan_outs.iter().map(usize::to_string).collect();
                let batch = self.batch.unwrap_or(BATCH);
                write!(f, "{} neighbours of batches of {batch} nodes", fan_outs.join(", "))?;
            }
            Kind::Walks { roots, length } => write!(f, "{roots} walks of {length} steps")?,
            Kind::Edges { count } => write!(f, "{count} edges")?,
            Kind::Nodes { count } => write!(f, "{count} nodes")?,
            Kind::Clusters { parts, per_batch } => {
                write!(f, "{per_batch} of {parts} clusters")?;
            }
        }
        if let Some(steps) = self.steps {
            write!(f, ", {steps} an epoch")?;
        }
        self.coverage.map_or(Ok(()), |times| write!(f, ", each node counted {times} times"))
    }
}
