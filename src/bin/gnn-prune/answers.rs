//! What a model answers: the items that each user takes next, and what stands at the other end of a
//! link; as a table.

use crate::args::PredictArgs;
use crate::failure::{Failure, Result};
use crate::sources::Source;
use gnn_prune::Compressed;
use gnn_prune::nn::Query;
use gnn_prune::report::Servable;
use gnn_prune::task::{Batch, LinkTask, RecommendTask};

/// Scores of one call, at most.
const AT_ONCE: usize = 1 << 22;

/// The bytes of a table of what `model` answers, the best first; how many were asked stands beside
/// them.
pub fn table(args: &PredictArgs, model: &Compressed, source: &Source) -> Result<(Vec<u8>, usize)> {
    let top = args.top.unwrap_or(20);
    match source {
        Source::Recommend(task) if args.ask.is_none() => recommended(model, task, top),
        Source::Recommend(_) => Err(Failure::OfAnotherTask {
            flag: "ask".into(),
            task: crate::args::word(crate::sources::TaskKind::Recommend),
        }),
        Source::Links(task) => answered(args, model, task, top),
        _ => Err(Failure::NoAnswers),
    }
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

fn recommended(model: &Compressed, task: &RecommendTask, top: usize) -> Result<(Vec<u8>, usize)> {
    let taken = task.taken();
    let (users, items) = (taken.num_users(), taken.num_items());
    let mut csv = Csv::new(&["user", "rank", "item", "score"])?;
    let all: Vec<u32> = (0..users as u32).collect();
    for some in all.chunks((AT_ONCE / items).max(1)) {
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
    Ok((csv.bytes()?, users))
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
            let known = facts.read_queries(path)?.into_iter();
            known.map(|(node, relation, inverse)| Query { node, relation, inverse }).collect()
        }
        None => {
            let both = facts.test().iter().copied().flat_map(Query::both);
            both.map(|(query, _)| query).collect()
        }
    };
    let entities = facts.num_entities();
    let mut csv = Csv::new(&["query", "rank", "head", "relation", "tail", "score"])?;
    let mut number = 0;
    for some in queries.chunks((AT_ONCE / entities).max(1)) {
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
