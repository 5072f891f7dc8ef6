//! Tasks on nodes that are learnt by mini-batches.

use super::node::NodeTask;
use super::sampler::{BATCH, COVERAGE, Kind, Sampler};
use super::{Batch, Batches, Metric, Part, Tally, Task};
use crate::data::{Dataset, Labels, check_part};
use crate::error::{Error, Result};
use crate::graph::{Clusters, Coverage, Graph, NeighborSampler, SubgraphSampler};
use crate::nn::{Model, Origin};
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, s};
use ndarray_rand::rand::seq::SliceRandom;
use std::sync::{Arc, Mutex};

/// Third word of the key of the order in which nodes train; samplers have smaller ones.
const ORDER: u64 = 16;

/// A [`NodeTask`] whose training batches are drawn by a [`Sampler`]. The validation part and the
/// test part are judged on the whole graph in one pass, layer by layer: a value is given up once
/// its last reader has run.
///
/// Batches follow the seed of the training and the epoch, and are the same whatever the number of
/// threads. The loss of a batch of neighbours or of clusters is the mean over its training nodes;
/// in a subgraph each of them is weighted by how rarely it is drawn, so that the loss is in
/// expectation the mean over all training nodes. Batches without training nodes are left out.
#[derive(Debug)]
pub struct Sampled<F: Scalar = f32> {
    task: NodeTask<F>,
    sampler: Sampler,
    plan: Plan<F>,
}

#[derive(Debug)]
enum Plan<F: Scalar> {
    Neighbors(Vec<usize>),
    Subgraphs {
        sampler: Arc<SubgraphSampler<F>>,
        /// Of the seed that was last asked for.
        coverage: Mutex<Option<(u64, Arc<Coverage>)>>,
    },
    Clusters(Arc<Clusters>, usize),
}

/// What a drawn batch has for its task.
#[derive(Debug)]
struct Drawn<F> {
    /// By rows of the output.
    labels: Labels,
    /// How often each row that counts does.
    weights: Option<Vec<F>>,
}

impl Sampler {
    /// The task that the labels of `data` define, with these batches.
    ///
    /// # Errors
    /// As [`Sampled::new`].
    pub fn over<F: Scalar>(self, data: &Dataset<F>) -> Result<Sampled<F>> {
        Sampled::new(NodeTask::of(data), self)
    }
}

impl<F: Scalar> Sampled<F> {
    /// The same task, with its training batches drawn by `sampler`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that is out of range, or that the sampler does not have.
    pub fn new(task: NodeTask<F>, sampler: Sampler) -> Result<Self> {
        sampler.check()?;
        let graph = task.data().graph();
        let subgraphs = |sampler: Result<SubgraphSampler<F>>| {
            let (sampler, coverage) = (Arc::new(sampler?), Mutex::default());
            Ok::<_, Error>(Plan::Subgraphs { sampler, coverage })
        };
        let plan = match &sampler.kind {
            Kind::Neighbors { fan_outs } => {
                NeighborSampler::new(graph, fan_outs, 0)?;
                Plan::Neighbors(fan_outs.clone())
            }
            &Kind::Walks { roots, length } => {
                subgraphs(SubgraphSampler::walks(graph, roots, length))?
            }
            &Kind::Edges { count } => subgraphs(SubgraphSampler::edges(graph, count))?,
            &Kind::Nodes { count } => subgraphs(SubgraphSampler::nodes_by_degree(graph, count))?,
            &Kind::Clusters { parts, per_batch } => {
                Plan::Clusters(Arc::new(Clusters::of(graph, parts)?), per_batch)
            }
        };
        Ok(Self { task, sampler, plan })
    }

    /// The task that is learnt.
    pub fn task(&self) -> &NodeTask<F> {
        &self.task
    }

    /// How its batches are drawn.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// What subgraphs are corrected by under a seed, worked out where it is another than the last.
    fn coverage(
        &self,
        sampler: &SubgraphSampler<F>,
        kept: &Mutex<Option<(u64, Arc<Coverage>)>>,
        seed: u64,
    ) -> Result<Arc<Coverage>> {
        let mut kept = kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((of, coverage)) = &*kept
            && *of == seed
        {
            return Ok(Arc::clone(coverage));
        }
        let times = self.sampler.coverage.unwrap_or(COVERAGE);
        let coverage = Arc::new(Coverage::of(sampler, times, seed)?);
        *kept = Some((seed, Arc::clone(&coverage)));
        Ok(coverage)
    }

    fn training(&self, seed: u64) -> Result<Batches<'_, F>> {
        let data = self.task.data().clone();
        let train = data.labeled(&data.split(seed).train);
        check_part(data.name(), &Part::Train.to_string(), &train)?;
        let ahead = self.sampler.ahead;
        Ok(match &self.plan {
            Plan::Neighbors(fan_outs) => {
                let sampler = Arc::new(NeighborSampler::new(data.graph(), fan_outs, seed)?);
                let size = self.sampler.batch.unwrap_or(BATCH);
                Batches::drawn_ahead(ahead, move |epoch| {
                    let (mut order, data) = (train.clone(), data.clone());
                    let key = [purpose::SAMPLE, ORDER, epoch as u64];
                    order.shuffle(&mut generator(seed, &key));
                    let sampler = Arc::clone(&sampler);
                    (0..order.len().div_ceil(size)).map(move |k| {
                        let targets = &order[k * size..order.len().min((k + 1) * size)];
                        let hops = sampler.hops(epoch as u64, targets)?;
                        let labels = data.labels().of_nodes(targets);
                        let drawn = Drawn::<F> { labels, weights: None };
                        Ok(Batch::of_hops(&data, hops)?.with(drawn))
                    })
                })
            }
            Plan::Subgraphs { sampler, coverage } => {
                let coverage = self.coverage(sampler, coverage, seed)?;
                let steps = self.sampler.steps.unwrap_or_else(|| coverage.subgraphs_of_all_nodes());
                let (trains, sampler) = (Trains::of(&data, &train), Arc::clone(sampler));
                Batches::drawn_ahead(ahead, move |epoch| {
                    let (data, trains) = (data.clone(), trains.clone());
                    let (sampler, coverage) = (Arc::clone(&sampler), Arc::clone(&coverage));
                    let name = data.name().to_string();
                    let batches = (0..steps as u64).filter_map(move |step| {
                        let drawn = coverage.subgraph(&sampler, seed, &[epoch as u64, step]);
                        let (graph, nodes) = match drawn {
                            Ok(drawn) => drawn,
                            Err(error) => return Some(Err(error)),
                        };
                        let rows = trains.rows_of(&nodes);
                        let own: Vec<u32> = rows.iter().map(|&row| nodes[row as usize]).collect();
                        // The mean over the batch of these is the mean over all training nodes.
                        let share = rows.len() as f64 / trains.count as f64;
                        let weights = coverage.node_weights(&own);
                        let weights = weights.iter().map(|w| F::of(w * share)).collect();
                        of_part(&data, graph, &nodes, rows, Some(weights))
                    });
                    or_nothing(batches, name, epoch)
                })
            }
            Plan::Clusters(clusters, count) => {
                let (trains, clusters) = (Trains::of(&data, &train), Arc::clone(clusters));
                let count = *count;
                Batches::drawn_ahead(ahead, move |epoch| {
                    let (data, trains) = (data.clone(), trains.clone());
                    clusters.joined(count, seed, epoch as u64).into_iter().filter_map(
                        move |nodes| {
                            let rows = trains.rows_of(&nodes);
                            if rows.is_empty() {
                                return None;
                            }
                            match data.graph().induced(&nodes) {
                                Ok(graph) => of_part(&data, graph, &nodes, rows, None),
                                Err(error) => Some(Err(error)),
                            }
                        },
                    )
                })
            }
        })
    }
}

/// Which nodes train.
#[derive(Debug, Clone)]
struct Trains {
    nodes: Arc<[bool]>,
    count: usize,
}

impl Trains {
    fn of<F: Scalar>(data: &Dataset<F>, train: &[u32]) -> Self {
        let mut nodes = vec![false; data.num_nodes()];
        train.iter().for_each(|&node| nodes[node as usize] = true);
        Self { nodes: nodes.into(), count: train.len() }
    }

    /// The rows of those of `nodes` that train.
    fn rows_of(&self, nodes: &[u32]) -> Vec<u32> {
        let trains = |&(_, node): &(u32, &u32)| self.nodes[*node as usize];
        (0u32..).zip(nodes).filter(trains).map(|(row, _)| row).collect()
    }
}

/// A batch of a graph of its own; none where nothing of it trains.
fn of_part<F: Scalar>(
    data: &Dataset<F>,
    graph: crate::graph::Graph<F>,
    nodes: &[u32],
    rows: Vec<u32>,
    weights: Option<Vec<F>>,
) -> Option<Result<Batch<F>>> {
    let labels = || data.labels().of_nodes(nodes);
    (!rows.is_empty()).then(|| {
        let batch = Batch::of_part(data, graph, nodes)?;
        let batch = if weights.is_some() { batch.counting_alike() } else { batch };
        Ok(batch.with_rows(rows).with(Drawn { labels: labels(), weights }))
    })
}

/// The same batches; an error where there are none.
fn or_nothing<F: Scalar>(
    mut batches: impl Iterator<Item = Result<Batch<F>>>,
    name: String,
    epoch: usize,
) -> impl Iterator<Item = Result<Batch<F>>> {
    let mut any = false;
    std::iter::from_fn(move || {
        let next = batches.next();
        let first = !std::mem::replace(&mut any, true);
        next.or_else(|| {
            first.then(|| {
                let problem = format!(
                    "no subgraph of epoch {epoch} has a node that trains; draw larger ones, or more"
                );
                Err(Error::data(&name, problem))
            })
        })
    })
}

impl<F: Scalar> Task<F> for Sampled<F> {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn data(&self) -> &Dataset<F> {
        Task::data(&self.task)
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        Ok(Box::new(Self::new(self.task.on(graph)?, self.sampler.clone())?))
    }

    fn whole(&self) -> Result<Batch<F>> {
        self.task.whole()
    }

    fn settings(&self) -> String {
        format!("{}, {:?}", Task::<F>::settings(&self.task), self.sampler)
    }

    fn chooses(&self) -> bool {
        Task::<F>::chooses(&self.task)
    }

    fn inputs(&self) -> usize {
        self.task.inputs()
    }

    fn outputs(&self) -> usize {
        self.task.outputs()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        match part {
            Part::Train => self.training(seed),
            _ => self.task.batches(part, seed),
        }
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        let Some(Drawn { labels, weights }) = batch.attached() else {
            return self.task.loss(y, batch);
        };
        // A model that aggregates less often than there are hops has more rows than the targets.
        let targets = y.slice(s![..labels.len(), ..]);
        let (value, gradient) =
            self.task.loss_by(labels, targets, batch.rows(), weights.as_deref());
        if gradient.dim() == y.dim() {
            return Ok((value, gradient));
        }
        let mut all = Array2::zeros(y.dim());
        all.slice_mut(s![..labels.len(), ..]).assign(&gradient);
        Ok((value, all))
    }

    fn metric(&self) -> Metric {
        Task::<F>::metric(&self.task)
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        match batch.attached::<Drawn<F>>() {
            Some(drawn) => self.task.judge_by(&drawn.labels, y, batch.rows(), tally),
            None => self.task.judge(y, batch, tally)?,
        }
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Task::<F>::origin(&self.task)
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        self.task.check(model)?;
        let hops = model.num_hops();
        match &self.plan {
            Plan::Neighbors(fan_outs) if fan_outs.len() < hops => {
                let legal = format!("{hops}, one for each time that the model aggregates");
                Err(Error::setting("number of fan-outs", fan_outs.len(), legal))
            }
            _ => Ok(()),
        }
    }
}
