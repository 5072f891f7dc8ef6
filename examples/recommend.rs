//! A recommender: trained, made smaller, held against what costs nothing, and asked.
//!
//! ```sh
//! cargo run --release --example recommend [FOLDER]
//! ```
//!
//! FOLDER has `train.txt` and `test.txt`, a user and its items in each line, or another of the
//! layouts that `Interactions::read` knows; without one there are 600 users of eight tastes.

use gnn_prune::baseline::{Ease, ItemKnn};
use gnn_prune::data::Interactions;
use gnn_prune::rng::hash;
use gnn_prune::task::{Part, RecommendTask};
use gnn_prune::train::Penalty;
use gnn_prune::{Bits, Compression, Controls, Error, LightGcn, Quantizer, Trainer};

const USERS: u64 = 600;
const ITEMS: u64 = 400;
const TASTES: u64 = 8;

/// Each user has 25 items, four of five of its own taste, and a fifth of them tests.
fn tastes() -> Result<Interactions, Error> {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for user in 0..USERS {
        let item = |k: u64| {
            let word = hash(user, &[k]);
            let any = word % ITEMS;
            if k.is_multiple_of(5) { any } else { any / TASTES * TASTES + user % TASTES }
        };
        let mut own: Vec<u32> = Vec::new();
        for item in (0..).map(item) {
            if !own.contains(&(item as u32)) {
                own.push(item as u32);
            }
            if own.len() == 25 {
                break;
            }
        }
        test.push(own.split_off(20));
        train.push(own);
    }
    Interactions::new("tastes", ITEMS as usize, train, test)
}

fn main() -> Result<(), Error> {
    let taken = std::env::args().nth(1).map_or_else(tastes, Interactions::read)?;
    taken.notes().iter().for_each(|note| println!("{note}"));
    let (users, items) = (taken.num_users(), taken.num_items());
    let task = RecommendTask::builder(taken).build()?;
    let trainer = Trainer::builder()
        .learning_rate(0.005)
        .weight_decay(0.0)
        .penalty(Penalty::new(5e-5, 2)?)
        .epochs(60)
        .validate_every(10)
        .build()?;
    let outcome =
        Compression::train(LightGcn::builder(users + items).build(0)?, trainer, 1, &task)?
            .quantize(Quantizer::builder(Bits::Eight).build()?)
            .controls(Controls::None)
            .run()?;
    for row in &outcome.report.rows {
        println!(
            "{:12} Recall@20 {:.2} %, NDCG@20 {:.2} %, {} bytes",
            row.name, row.accuracy.mean, row.metrics["ndcg@20"].mean, row.account.bytes.weights
        );
    }
    // As the network's epoch, what the closed forms are set to is chosen on validation.
    let mut closed = Vec::new();
    let mut best = (f64::NEG_INFINITY, None);
    for neighbours in [100, 400, 1600] {
        let knn = ItemKnn::fit(items, task.train(), neighbours)?;
        let validation = task.measure(Part::Validation, |own| knn.scores(own))?.value;
        if validation > best.0 {
            best = (validation, Some(task.measure(Part::Test, |own| knn.scores(own))?));
        }
    }
    closed.extend(best.1.map(|found| ("item k-NN", found)));
    let mut best = (f64::NEG_INFINITY, None);
    for lambda in [50.0, 100.0, 250.0] {
        let Ok(ease) = Ease::fit(items, task.train(), lambda) else { continue };
        let validation = task.measure(Part::Validation, |own| ease.scores(own))?.value;
        if validation > best.0 {
            best = (validation, Some(task.measure(Part::Test, |own| ease.scores(own))?));
        }
    }
    closed.extend(best.1.map(|found| ("EASE", found)));
    for (name, found) in closed {
        println!(
            "{name:12} Recall@20 {:.2} %, NDCG@20 {:.2} %",
            found.value, found.others["ndcg@20"]
        );
    }

    // What the small model tells one user.
    let user = 7;
    let batch = task.ask(&[user])?;
    let mut program =
        outcome.model.compile_within(batch.graph(), batch.features(), batch.spaces())?;
    let scores = program.run(batch.features())?;
    let own = &task.taken().train()[user as usize];
    let mut order: Vec<u32> = (0..items as u32).filter(|item| !own.contains(item)).collect();
    order.sort_by(|&a, &b| scores[[b as usize, 0]].total_cmp(&scores[[a as usize, 0]]));
    println!("user {user}: {:?}", &order[..order.len().min(5)]);
    Ok(())
}
