//! A knowledge graph: trained, made smaller, reported, and asked.
//!
//! ```sh
//! cargo run --release --example knowledge_graph [FOLDER]
//! ```
//!
//! FOLDER has `train.txt`, `valid.txt` and `test.txt`, a head, a relation and a tail in each line;
//! without one there is a map: 900 places in 30 rows, of each of which one knows what lies north,
//! east, two steps north and two steps east, but for a fifth of it.

use gnn_prune::data::{Triple, Triples};
use gnn_prune::models::{Links, Scored};
use gnn_prune::nn::{Form, Query};
use gnn_prune::rng::hash;
use gnn_prune::task::{Candidates, LinkTask};
use gnn_prune::train::{Penalty, UpdateRule};
use gnn_prune::{Bits, Compression, Controls, Error, Quantizer, Trainer};

/// Places in a row, and rows.
const SIDE: u32 = 30;

fn map() -> Result<Triples, Error> {
    let place = |x: u32, y: u32| (y % SIDE) * SIDE + x % SIDE;
    let steps = [(0, 1), (1, 0), (0, 2), (2, 0)];
    let known = (0..SIDE * SIDE).flat_map(|from| {
        let (x, y) = (from % SIDE, from / SIDE);
        (0..).zip(steps).map(move |(way, (east, north))| [from, way, place(x + east, y + north)])
    });
    let mut parts: [Vec<Triple>; 3] = Default::default();
    for (k, triple) in (0..).zip(known) {
        match hash(k, &[]) % 10 {
            0 => parts[1].push(triple),
            1 => parts[2].push(triple),
            _ => parts[0].push(triple),
        }
    }
    let [train, valid, test] = parts;
    Triples::new("map", (SIDE * SIDE) as usize, steps.len(), train, valid, test)
}

fn main() -> Result<(), Error> {
    let facts = std::env::args().nth(1).map_or_else(map, Triples::read)?;
    facts.notes().iter().for_each(|note| println!("{note}"));
    let task = LinkTask::builder(facts)
        .candidates(Candidates::Shared(500))
        .reciprocal(true)
        .tables_alone(true)
        .build()?;
    let form = Links::builder(task.entities() as usize, task.relations())
        .channels(128)
        .scored(Scored::By(Form::ComplEx))
        .build(0)?;
    let trainer = Trainer::builder()
        .rule(UpdateRule::Adagrad)
        .learning_rate(0.1)
        .weight_decay(0.0)
        .penalty(Penalty::new(0.05, 3)?)
        .epochs(40)
        .validate_every(5)
        .build()?;
    let outcome = Compression::train(form, trainer, 1, &task)?
        .quantize(Quantizer::builder(Bits::Four).build()?)
        .controls(Controls::None)
        .run()?;
    for row in &outcome.report.rows {
        let others: Vec<String> =
            row.metrics.iter().map(|(name, of)| format!("{name} {:.1}", of.mean)).collect();
        println!(
            "{:8} {} {:.1} % ({}), {} bytes",
            row.name,
            row.metric.title(),
            row.accuracy.mean,
            others.join(", "),
            row.account.bytes.weights
        );
    }

    // One query of the small model: what is at the other end?
    let [head, relation, tail] = task.triples().test()[0];
    let batch = task.ask(&[Query { node: head, relation, inverse: false }])?;
    let mut program =
        outcome.model.compile_within(batch.graph(), batch.features(), batch.spaces())?;
    let scores = program.run(batch.features())?;
    let mut order: Vec<u32> = (0..task.entities()).collect();
    order.sort_by(|&a, &b| scores[[b as usize, 0]].total_cmp(&scores[[a as usize, 0]]));
    let facts = task.triples();
    println!(
        "{} {}? {} are first; it is {}",
        facts.entity(head),
        facts.relation(relation),
        order[..3].iter().map(|&e| facts.entity(e)).collect::<Vec<_>>().join(", "),
        facts.entity(tail)
    );
    Ok(())
}
