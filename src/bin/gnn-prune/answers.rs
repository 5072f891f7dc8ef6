//! What a model answers: the items that each user takes next, and what stands at the other end of a
//! link; as a table.

use crate::args::PredictArgs;
use crate::failure::{Failure, Result};
use crate::sources::Source;
use gnn_prune::nn::{Queries, Query, Rows};
use gnn_prune::prune::Precompute;
use gnn_prune::report::Servable;
use gnn_prune::task::{Batch, LinkTask, Part, RecommendTask, Task};
use gnn_prune::{Compressed, Dataset};
use std::collections::HashMap;

/// Characters of a wrong word that are shown.
const LONGEST: usize = 40;
/// Scores of one call, at most.
const AT_ONCE: usize = 1 << 22;

/// The bytes of a table of what `model` answers, the best first; how many were asked stands beside
/// them.
pub fn table(args: &PredictArgs, model: &Compressed, source: &Source) -> Result<(Vec<u8>, usize)> {
    let top = args.top.unwrap_or(20);
    match source {
        Source::Recommend(task) => {
            let taken = task.taken();
            let users = asked(args, "user", taken.num_users(), taken.user(0))?;
            recommended(model, task, &users, top)
        }
        Source::Links(task) => answered(args, model, task, top),
        Source::Edges(task, data) => {
            let nodes = asked(args, "node", data.num_nodes(), 0)?;
            suggested(model, data, task.edges(Part::Validation), &nodes, top)
        }
        Source::Nodes(_) | Source::Sampled(_) | Source::Graphs(_) => {
            unreachable!("nodes and graphs have classes")
        }
    }
}

/// Who is asked for: the numbers in the lines of a file, which begin with `first`, or all `len`.
fn asked(args: &PredictArgs, what: &'static str, len: usize, first: u32) -> Result<Vec<u32>> {
    let Some(path) = &args.ask else { return Ok((0..len as u32).collect()) };
    let text = gnn_prune::files::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let number = |(k, line): (usize, &str)| {
        let known = line.trim().parse::<u32>().ok().and_then(|number| number.checked_sub(first));
        known.filter(|number| (*number as usize) < len).ok_or_else(|| {
            let word = line.trim().chars().take(LONGEST).collect();
            Failure::Asked { path: path.clone(), line: k + 1, what, word }
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let asked: Vec<u32> = lines.map(number).collect::<Result<_>>()?;
    if asked.is_empty() { Err(Failure::NothingAsked { path: path.clone() }) } else { Ok(asked) }
}

/// `model` with its encoder run once on the graph of `whole`, and not for every part of the
/// queries.
fn run_once(model: &Compressed, whole: &Batch<f32>) -> Result<Option<Compressed>> {
    Ok(match model {
        Compressed::Float(model) if Precompute::has_encoder(model) => {
            Some(Compressed::Float(Precompute::new().apply_on(model, whole)?))
        }
        _ => None,
    })
}

/// The scores of a batch's queries, one below the other.
fn scores(model: &Compressed, batch: &Batch<f32>) -> Result<Vec<f32>> {
    let mut program = model.compiled(batch)?;
    Ok(program.run(batch.features())?.iter().copied().collect())
}

/// The places of the largest scores but those that are `known`, which are ascending; of equal ones
/// the first.
fn best(scores: &[f32], known: &[u32], top: usize) -> Vec<u32> {
    let new = |place: &u32| known.binary_search(place).is_err();
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(new).collect();
    let by_score =
        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if top < order.len() {
        order.select_nth_unstable_by(top, by_score);
        order.truncate(top);
    }
    order.sort_unstable_by(by_score);
    order
}

/// A table of text, its fields quoted where they must be.
struct Csv(csv::Writer<Vec<u8>>);

impl Csv {
    fn new(head: &[&str]) -> Result<Self> {
        let mut table = Self(csv::Writer::from_writer(Vec::new()));
        table.row(head.iter().map(|word| (*word).to_string()))?;
        Ok(table)
    }

    fn row(&mut self, fields: impl IntoIterator<Item = String>) -> Result<()> {
        self.0.write_record(fields).map_err(|error| Failure::Table(error.to_string()))
    }

    fn bytes(self) -> Result<Vec<u8>> {
        self.0.into_inner().map_err(|error| Failure::Table(error.to_string()))
    }
}

fn recommended(
    model: &Compressed,
    task: &RecommendTask,
    users: &[u32],
    top: usize,
) -> Result<(Vec<u8>, usize)> {
    let (taken, items) = (task.taken(), task.taken().num_items());
    let mut csv = Csv::new(&["user", "rank", "item", "score"])?;
    let parts = users.chunks((AT_ONCE / items).max(1));
    let once = run_once(model, &task.whole()?)?;
    let model = once.as_ref().unwrap_or(model);
    for some in parts {
        let scores = scores(model, &task.ask(some)?)?;
        for (&user, scores) in some.iter().zip(scores.chunks(items)) {
            let best = best(scores, &taken.train()[user as usize], top);
            for (rank, item) in best.into_iter().enumerate() {
                csv.row([
                    taken.user(user).to_string(),
                    (rank + 1).to_string(),
                    taken.item(item).to_string(),
                    scores[item as usize].to_string(),
                ])?;
            }
        }
    }
    Ok((csv.bytes()?, users.len()))
}

/// The other ends of links that neither the graph has nor `validates`.
fn suggested(
    model: &Compressed,
    data: &Dataset,
    validates: &[[u32; 2]],
    asked: &[u32],
    top: usize,
) -> Result<(Vec<u8>, usize)> {
    let (starts, sources) = data.graph().edge_list();
    let n = data.num_nodes();
    let mut csv = Csv::new(&["node", "rank", "other", "score"])?;
    let mut neighbours: HashMap<u32, Vec<u32>> = HashMap::new();
    for &[u, v] in validates {
        neighbours.entry(u).or_default().push(v);
        neighbours.entry(v).or_default().push(u);
    }
    let whole = data.whole()?;
    let batch = |some: &[u32]| -> Result<Batch<f32>> {
        // Models are trained and measured on pairs from the smaller number to the larger one, and
        // some decoders have a direction.
        let both = |&node: &u32| [false, true].map(|inverse| Query { node, relation: 0, inverse });
        let queries = Queries::among(some.iter().flat_map(both).collect::<Vec<_>>(), 0..n as u32)?;
        Ok(whole.clone().with_spaces(Rows::new().queries(queries)))
    };
    let parts = asked.chunks((AT_ONCE / (2 * n)).max(1));
    let once = run_once(model, &batch(&asked[..1])?)?;
    let model = once.as_ref().unwrap_or(model);
    for some in parts {
        let scores = scores(model, &batch(some)?)?;
        for (&node, scores) in some.iter().zip(scores.chunks(2 * n)) {
            let at = node as usize;
            let scores = [&scores[n..n + at], &scores[at..n]].concat();
            let mut known = sources[starts[at]..starts[at + 1]].to_vec();
            known.extend(neighbours.get(&node).into_iter().flatten());
            known.push(node);
            known.sort_unstable();
            for (rank, other) in best(&scores, &known, top).into_iter().enumerate() {
                csv.row([
                    node.to_string(),
                    (rank + 1).to_string(),
                    other.to_string(),
                    scores[other as usize].to_string(),
                ])?;
            }
        }
    }
    Ok((csv.bytes()?, asked.len()))
}

fn answered(
    args: &PredictArgs,
    model: &Compressed,
    task: &LinkTask,
    top: usize,
) -> Result<(Vec<u8>, usize)> {
    let facts = task.triples();
    let queries: Vec<Query> = match &args.ask {
        Some(path) => {
            let known = facts.read_queries(path)?;
            if known.is_empty() {
                return Err(Failure::NothingAsked { path: path.clone() });
            }
            known
                .into_iter()
                .map(|(node, relation, inverse)| Query { node, relation, inverse })
                .collect()
        }
        None => {
            let both = facts.test().iter().copied().flat_map(Query::both);
            both.map(|(query, _)| query).collect()
        }
    };
    let entities = facts.num_entities();
    let mut csv = Csv::new(&["query", "rank", "head", "relation", "tail", "score"])?;
    let mut number = 0;
    let parts = queries.chunks((AT_ONCE / entities).max(1));
    let once = run_once(model, &task.whole()?)?;
    let model = once.as_ref().unwrap_or(model);
    for some in parts {
        let scores = scores(model, &task.ask(some)?)?;
        for (query, scores) in some.iter().zip(scores.chunks(entities)) {
            let known = task.answers(*query);
            for (rank, answer) in best(scores, known, top).into_iter().enumerate() {
                let (own, other) = (facts.entity(query.node), facts.entity(answer));
                let [head, tail] = if query.inverse { [other, own] } else { [own, other] };
                csv.row([
                    number.to_string(),
                    (rank + 1).to_string(),
                    head,
                    facts.relation(query.relation),
                    tail,
                    scores[answer as usize].to_string(),
                ])?;
            }
            number += 1;
        }
    }
    Ok((csv.bytes()?, number))
}
