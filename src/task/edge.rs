//! Which pairs of nodes are edges.

use super::{Batch, Batches, Metric, Part, Tally, Task, binary_cross_entropy};
use crate::data::{Dataset, EdgeSplit};
use crate::error::{Error, Result};
use crate::graph::{EdgeMask, Graph};
use crate::nn::{Origin, Queries, Rows};
use crate::rng::{Digest, generator, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::SliceRandom;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Shares of the edges that validate and test: 5 and 10 per cent.
const SHARES: [f64; 2] = [0.05, 0.1];
/// Rank of the pair that is no edge which a hit has to beat.
const K: usize = 50;

/// Link prediction on one graph without types: some edges, each both ways, are hidden, and a model
/// tells them from pairs that are no edges. A model for it reads the features of the data and ends
/// in a layer that scores pairs, one number each.
///
/// What is hidden, and as many pairs that are no edges, are drawn once by a seed of the task, or
/// given by the data, and are the same for every model. Training has all other edges and as many
/// pairs that are none, drawn anew in each epoch. The loss is the cross-entropy of a sigmoid; the
/// metric is ROC AUC, and beside it stands Hits@50, the share of edges that score above the 50th
/// best pair that is none.
///
/// *Source*: Kipf and Welling, "Variational graph auto-encoders", 2016, §3 (85, 5 and 10 per cent);
/// Hu et al., "Open graph benchmark", NeurIPS 2020, §A.2 (Hits).
///
/// ```
/// use gnn_prune::nn::decode::{Decoder, Form};
/// use gnn_prune::nn::{GcnConv, ModelBuilder, NodeId};
/// use gnn_prune::task::{EdgeTask, Part, evaluate};
/// use gnn_prune::{Dataset, Trainer};
/// let data = Dataset::sbm(300, 4).degree(10.0).homophily(0.9).features(8).build()?;
/// let task = EdgeTask::new(&data, 0)?;
/// let mut b = ModelBuilder::new(8);
/// let h = b.add("conv", GcnConv::builder(8, 16).build()?, &[NodeId::INPUT])?;
/// let y = b.add("dot", Decoder::builder(Form::Dot, 16).build()?, &[h])?;
/// let model = Trainer::builder().epochs(5).build()?.fit(b.build(y, 0)?, &task)?;
/// assert!(evaluate(&model, &task, Part::Test)? > 50.0);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EdgeTask<F: Scalar = f32> {
    /// The data without the edges that are hidden.
    data: Dataset<F>,
    /// Who hid them, for the identity of the task.
    hidden_by: String,
    /// Edges that train, validate and test, the smaller number first.
    edges: [Arc<[[u32; 2]]>; 3],
    /// Pairs that are no edges, for the last two.
    others: [Arc<[[u32; 2]]>; 2],
    known: Arc<BTreeSet<[u32; 2]>>,
}

impl<F: Scalar> EdgeTask<F> {
    /// Hides edges of `data` by `seed`. Self-loops stay where they are and are not asked about.
    ///
    /// # Errors
    /// [`Error::Data`] for a graph that leads one way only, one with too few edges to hide any, and
    /// one with no room for as many pairs that are none.
    pub fn new(data: &Dataset<F>, seed: u64) -> Result<Self> {
        let (starts, sources) = data.graph().edge_list();
        let n = data.num_nodes();
        let (mut there, mut back) = (BTreeSet::new(), BTreeSet::new());
        for i in 0..n {
            for &j in &sources[starts[i]..starts[i + 1]] {
                let (i, j) = (i as u32, j);
                match i.cmp(&j) {
                    std::cmp::Ordering::Less => there.insert([i, j]),
                    std::cmp::Ordering::Greater => back.insert([j, i]),
                    std::cmp::Ordering::Equal => false,
                };
            }
        }
        if there != back {
            let problem = "edges lead one way only; links are asked about both ways";
            return Err(Error::data(data.name(), problem));
        }
        let mut order: Vec<[u32; 2]> = there.iter().copied().collect();
        order.shuffle(&mut generator(seed, &[purpose::SPLIT]));
        let counts = SHARES.map(|share| (order.len() as f64 * share) as usize);
        if counts.contains(&0) {
            let problem = format!("has {} edges: links want twenty at least", order.len());
            return Err(Error::data(data.name(), problem));
        }
        let test = order.split_off(order.len() - counts[1]);
        let valid = order.split_off(order.len() - counts[0]);
        let hidden: BTreeSet<[u32; 2]> = valid.iter().chain(&test).copied().collect();
        let keep = EdgeMask::from_fn(data.graph(), |edge| {
            let (u, v) = (edge.source as u32, edge.target as u32);
            !hidden.contains(&[u.min(v), u.max(v)])
        });
        let (edges, hidden_by) = ([order, valid, test], format!("seed {seed}"));
        let data = data.with_graph(data.graph().retain(&keep)?)?;
        let mut task = Self::of(data, hidden_by, edges, Default::default(), there)?;
        task.others = [1, 2].map(|part| {
            let mut rng = generator(seed, &[purpose::BATCHES, 0, part as u64]);
            task.no_edges(task.edges[part].len(), &mut rng).into()
        });
        Ok(task)
    }

    /// Takes what is hidden, and what it is measured against, from `split`; the graph of `data` has
    /// the training edges alone. An edge of another part that trains too stays in both, as in
    /// ogbl-collab, where people write together again.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a node that there is not; [`Error::Data`] for a graph that
    /// lacks a training edge in either direction or has an edge more, and one with no room for as
    /// many pairs that are none.
    pub fn with_split(data: &Dataset<F>, split: &EdgeSplit) -> Result<Self> {
        let n = data.num_nodes();
        for pair in split.edges().iter().chain(split.others()).flatten() {
            // The larger stands last.
            if pair[1] as usize >= n {
                let at = format!("{}: node of a pair", split.name());
                return Err(Error::IndexOutOfRange { at, index: pair[1] as usize, len: n });
            }
        }
        let (starts, sources) = data.graph().edge_list();
        let of_graph =
            |i: usize| sources[starts[i]..starts[i + 1]].iter().map(move |&j| [j, i as u32]);
        let graph: BTreeSet<[u32; 2]> = (0..n).flat_map(of_graph).filter(|[j, i]| j != i).collect();
        let both = |&[u, v]: &[u32; 2]| [[u, v], [v, u]];
        let train: BTreeSet<[u32; 2]> = split.edges()[0].iter().flat_map(both).collect();
        if let Some([u, v]) = train.symmetric_difference(&graph).next() {
            let other =
                if graph.contains(&[*u, *v]) { "does not train" } else { "is not in the graph" };
            let problem = format!(
                "the edge from {u} to {v} {other}; the graph is to have what trains, both ways"
            );
            return Err(Error::data(data.name(), problem));
        }
        let known = split.edges().iter().flatten().copied().collect();
        let others = split.others().clone().map(Into::into);
        Self::of(data.clone(), "the data".into(), split.edges().clone(), others, known)
    }

    /// The edges of a part, each once, as the task has them.
    pub fn edges(&self, part: Part) -> &[[u32; 2]] {
        match part {
            Part::Train => &self.edges[0],
            Part::Validation => &self.edges[1],
            Part::Test => &self.edges[2],
        }
    }

    fn of(
        data: Dataset<F>,
        hidden_by: String,
        edges: [Vec<[u32; 2]>; 3],
        others: [Arc<[[u32; 2]]>; 2],
        known: BTreeSet<[u32; 2]>,
    ) -> Result<Self> {
        let n = data.num_nodes();
        let all = n.saturating_mul(n.saturating_sub(1)) / 2;
        if all < 3 * known.len() {
            let problem = format!(
                "has {} edges between {n} nodes: links want twice as many pairs that are none",
                known.len()
            );
            return Err(Error::data(data.name(), problem));
        }
        let edges = edges.map(Into::into);
        Ok(Self { data, hidden_by, edges, others, known: Arc::new(known) })
    }

    /// So many pairs that are no edges of the whole graph.
    fn no_edges(&self, count: usize, rng: &mut impl Rng) -> Vec<[u32; 2]> {
        let n = self.data.num_nodes() as u32;
        let mut pairs = Vec::with_capacity(count);
        // At least half of all pairs are none, so that this ends.
        while pairs.len() < count {
            let (u, v) = (rng.random_range(0..n), rng.random_range(0..n));
            let pair = [u.min(v), u.max(v)];
            if u != v && !self.known.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }

    fn batch(&self, edges: &[[u32; 2]], others: &[[u32; 2]]) -> Batch<F> {
        let pairs = [edges, others].concat();
        let labels = Array2::from_shape_fn((pairs.len(), 1), |(k, _)| k < edges.len());
        let rows: Vec<u32> = (0..pairs.len() as u32).collect();
        let rows_of = Rows::new().queries(Queries::pairs(&pairs));
        Batch::of(&self.data, rows).with_spaces(rows_of).with(labels)
    }
}

impl<F: Scalar> Task<F> for EdgeTask<F> {
    fn name(&self) -> &str {
        self.data.name()
    }

    /// The data without the edges that are hidden.
    fn data(&self) -> &Dataset<F> {
        &self.data
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        Ok(Box::new(Self { data: self.data.with_graph(graph)?, ..self.clone() }))
    }

    /// What validates.
    fn whole(&self) -> Result<Batch<F>> {
        Ok(self.batch(&self.edges[1], &self.others[0]))
    }

    fn settings(&self) -> String {
        let parts = self.edges.iter().chain(&self.others).map(|pairs| pairs.as_flattened());
        format!("links {}, hidden by {}", Digest::of_lists(parts), self.hidden_by)
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        Ok(match part {
            Part::Train => Batches::drawn(move |epoch| {
                let mut rng = generator(seed, &[purpose::BATCHES, epoch as u64]);
                let others = self.no_edges(self.edges[0].len(), &mut rng);
                std::iter::once(Ok(self.batch(&self.edges[0], &others)))
            }),
            Part::Validation => Batches::fixed(vec![self.batch(&self.edges[1], &self.others[0])]),
            Part::Test => Batches::fixed(vec![self.batch(&self.edges[2], &self.others[1])]),
        })
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        Ok(binary_cross_entropy(y, self.labels(batch)?.view(), batch.rows()))
    }

    fn metric(&self) -> Metric {
        Metric::ROC_AUC
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        let labels = self.labels(batch)?;
        let mut wrong = Vec::new();
        for (&z, &edge) in y.iter().zip(labels) {
            tally.rank(0, z.as_f64(), edge);
            if !edge {
                wrong.push(z.as_f64());
            }
        }
        wrong.sort_by(|a, b| b.total_cmp(a));
        let bar = wrong.get(K.min(wrong.len()) - 1).copied().unwrap_or(f64::NEG_INFINITY);
        for (&z, _) in y.iter().zip(labels).filter(|(_, edge)| **edge) {
            tally.also("hits@50", f64::from(u8::from(z.as_f64() > bar)), 1.0);
        }
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Task::<F>::origin(&self.data)
    }
}

impl<F: Scalar> EdgeTask<F> {
    fn labels<'a>(&self, batch: &'a Batch<F>) -> Result<&'a Array2<bool>> {
        let other = || Error::data(self.data.name(), "a batch of another task was to be judged");
        batch.attached::<Array2<bool>>().ok_or_else(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::decode::{Decoder, Form};
    use crate::nn::{GcnConv, Model, ModelBuilder, NodeId};
    use crate::task::{evaluate, evaluate_all};
    use crate::train::Trainer;

    fn data() -> Dataset {
        let data = Dataset::sbm(300, 4).degree(10.0).homophily(0.9).features(8).seed(2);
        data.build().unwrap()
    }

    #[test]
    fn what_is_hidden_is_in_no_graph_and_what_is_drawn_is_no_edge() {
        let data = data();
        let task = EdgeTask::new(&data, 3).unwrap();
        let (starts, sources) = task.data.graph().edge_list();
        let has =
            |&[u, v]: &[u32; 2]| sources[starts[u as usize]..starts[u as usize + 1]].contains(&v);
        assert!(task.edges[0].iter().all(has));
        assert!(!task.edges[1].iter().chain(&*task.edges[2]).any(has));
        let all: usize = task.edges.iter().map(|part| part.len()).sum();
        assert_eq!(2 * all, data.graph().num_edges());
        assert_eq!(task.data.graph().num_edges(), 2 * task.edges[0].len());
        let mut others = task.others.iter().flat_map(|part| part.iter());
        assert!(others.all(|pair| pair[0] != pair[1] && !task.known.contains(pair)));
        let same = EdgeTask::new(&data, 3).unwrap();
        assert!(same.edges == task.edges && same.others == task.others);
        assert_ne!(EdgeTask::new(&data, 4).unwrap().edges, task.edges);
    }

    #[test]
    fn links_between_people_of_one_circle_are_found() {
        let task = EdgeTask::new(&data(), 0).unwrap();
        let mut b = ModelBuilder::new(8);
        let h = b.add("conv", GcnConv::builder(8, 16).build().unwrap(), &[NodeId::INPUT]).unwrap();
        let dot = Decoder::builder(Form::Dot, 16).build().unwrap();
        let y = b.add("dot", dot, &[h]).unwrap();
        let model: Model = b.build(y, 0).unwrap();
        let before = evaluate(&model, &task, Part::Test).unwrap();
        let model = Trainer::builder().epochs(60).build().unwrap().fit(model, &task).unwrap();
        let after = evaluate_all(&model, &task, Part::Test).unwrap();
        assert!(after.value > 71.0 && after.value > before + 2.0, "{before} to {after:?}");
        assert!(after.others["hits@50"] > 10.0, "{after:?}");
    }

    #[test]
    fn graphs_that_have_no_links_to_hide_are_refused() {
        let one_way = Graph::builder(9).edges([(0, 1), (1, 2)]).build().unwrap();
        let few = Graph::builder(9).edges([(0, 1), (1, 2)]).undirected(true).build().unwrap();
        for (graph, what) in [(one_way, "one way only"), (few, "twenty at least")] {
            let data = Dataset::unlabeled("t", graph, Array2::ones((9, 1)).into()).unwrap();
            let error = EdgeTask::new(&data, 0).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
