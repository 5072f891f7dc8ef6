//! The first channels of a model are a model, and what was trained for it is a good one.

use crate::links::days;
use crate::rankings::kinds;
use gnn_prune::data::{Interactions, Triples};
use gnn_prune::models::{Encoder, Jumping, Links, Scored};
use gnn_prune::nn::{Composition, Cx, Form};
use gnn_prune::prune::{Lessons, Prefixes};
use gnn_prune::task::{Candidates, LinkTask, Part, Ranked, RecommendTask, Task, evaluate};
use gnn_prune::train::UpdateRule;
use gnn_prune::{ChannelPlan, Dataset, Gat, Gcn, LightGcn, Mlp, Model, Trainer};

/// Sums of f64 in another order.
const SAME: f64 = 1e-12;

/// What a model puts out on all that a task asks.
fn outputs(model: &Model<f64>, task: &dyn Task<f64>) -> Vec<f64> {
    let batch = task.whole().unwrap();
    let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
    y.iter().copied().collect()
}

/// The shrunk model does what the masked one does, and its parameters are `channels` wide.
fn check(model: &Model, width: usize, task: &dyn Task<f64>) {
    let model = model.cast::<f64>().unwrap();
    let plan = ChannelPlan::prefix(&model, width).unwrap();
    let (masked, narrow) = (plan.mask(&model).unwrap(), plan.shrink(&model).unwrap());
    assert!(narrow.num_params() < model.num_params());
    let (masked, narrow) = (outputs(&masked, task), outputs(&narrow, task));
    let scale = masked.iter().fold(0.0f64, |largest, y| largest.max(y.abs()));
    assert!(scale > 0.0);
    for (a, b) in masked.iter().zip(&narrow) {
        assert!((a - b).abs() <= SAME * scale, "{a} {b}");
    }
    assert_ne!(narrow, outputs(&model, task));
}

fn tastes() -> Interactions {
    let own =
        |user: u32| -> Vec<u32> { (0..10).map(|k| (user % 2) * 15 + (user + k) % 15).collect() };
    let later = |user: u32| vec![(user % 2) * 15 + (user + 10) % 15];
    Interactions::new("tastes", 30, (0..20).map(own).collect(), (0..20).map(later).collect())
        .unwrap()
}

#[test]
fn a_prefix_is_the_masked_model() {
    let task = RecommendTask::builder(tastes()).build().unwrap().cast::<f64>();
    for (layers, cosine) in [(0, false), (2, false), (2, true)] {
        let model = LightGcn::builder(50).channels(8).layers(layers).cosine(cosine);
        check(&model.build(3).unwrap(), 2, &task);
    }
    let (facts, _) = days(Form::Dot, 4);
    for (form, reciprocal) in
        [(Form::ComplEx, false), (Form::DistMult, true), (Form::RotatE, false)]
    {
        let task = LinkTask::builder(facts.clone()).reciprocal(reciprocal).build().unwrap();
        let model = Links::builder(28, task.relations()).channels(8).scored(Scored::By(form));
        check(&model.deviation(0.5).build(2).unwrap(), 4, &task.cast());
    }
    let task = LinkTask::builder(facts).build().unwrap();
    let encoders = [
        Encoder::Rgcn { bases: 2, blocks: 0 },
        Encoder::CompGcn { composition: Composition::Product },
        Encoder::Gcn,
    ];
    for encoder in encoders {
        let model = Links::builder(28, task.relations()).channels(8).encoder(encoder);
        check(&model.layers(2).norm(None).build(2).unwrap(), 3, &task.cast());
    }
    let data = Dataset::sbm(200, 3).features(5).build().unwrap();
    let of_nodes = [
        Gcn::builder(5, 3).hidden(8).layers(4).residual(true).build(1).unwrap(),
        Gcn::builder(5, 3).hidden(8).jumping(Jumping::Concat).build(1).unwrap(),
        Gat::builder(5, 3).hidden(8).heads(2).build(1).unwrap(),
        Mlp::builder(5, 3).hidden(8).build(1).unwrap(),
    ];
    for model in of_nodes {
        check(&model, 4, &data.cast::<f64>());
    }
}

#[test]
fn widths_that_cut_through_what_goes_together_are_refused() {
    let links = |form| Links::builder(28, 2).channels(8).scored(Scored::By(form)).build(0).unwrap();
    let refused = |model: &Model, width| ChannelPlan::prefix(model, width).unwrap_err().to_string();
    assert!(refused(&links(Form::ComplEx), 3).contains("multiple of 2"));
    assert!(refused(&links(Form::ComplEx), 9).contains("from 1 to 8"));
    assert!(refused(&links(Form::DistMult), 0).contains("from 1 to 8"));
    assert!(ChannelPlan::prefix(&links(Form::DistMult), 3).is_ok());
    assert!(refused(&Mlp::builder(5, 3).layers(1).build(0).unwrap(), 1).contains("class"));
    let plan = ChannelPlan::prefix(&links(Form::ComplEx), 4).unwrap();
    assert_eq!((plan.groups()[0].kept, plan.criterion()), (2, "prefix 4"));
}

/// A model of days whose wide form knows all, and what is left of it at an eighth of the width.
fn eighth(model: &Model, task: &LinkTask) -> f64 {
    let narrow = ChannelPlan::prefix(model, 4).unwrap().shrink(model).unwrap();
    evaluate(&narrow, task, Part::Test).unwrap()
}

#[test]
fn what_was_trained_for_it_is_good_at_every_width() {
    let (facts, model) = days(Form::ComplEx, 32);
    let task = LinkTask::builder(facts).candidates(Candidates::All).batch(8).build().unwrap();
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3);
    let trainer = trainer.weight_decay(0.0).epochs(60).build().unwrap();
    let usual = trainer.fit(model.clone(), &task).unwrap();
    let before = eighth(&usual, &task);
    for prefixes in [Prefixes::new([4]).unwrap(), Prefixes::new([4, 16]).unwrap().drawn()] {
        let fit = prefixes.fit(&trainer, model.clone(), &task).unwrap();
        let after = eighth(&fit.model, &task);
        assert!(after > before + 3.0, "{prefixes}: {after}, without {before}");
        assert!(evaluate(&fit.model, &task, Part::Test).unwrap() > 80.0, "{prefixes}");
        let again = prefixes.fit(&trainer, model.clone(), &task).unwrap();
        assert_eq!(again.losses, fit.losses);
    }
}

#[test]
fn a_prefix_of_triples_has_its_relations() {
    let facts: Triples = days(Form::ComplEx, 4).0;
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let model = Links::builder(28, task.relations()).channels(8).scored(Scored::By(Form::ComplEx));
    let model = model.build(0).unwrap();
    let narrow = ChannelPlan::prefix(&model, 2).unwrap().shrink(&model).unwrap();
    assert_eq!(narrow.num_params(), 2 * (28 + 4));
}

#[test]
fn widths_of_a_network_of_nodes_learn_from_each_other() {
    let data = Dataset::sbm(200, 3).features(5).build().unwrap();
    let model = Gcn::builder(5, 3).hidden(8).dropout(0.0).build(1).unwrap();
    let trainer = Trainer::builder().epochs(30).build().unwrap();
    let apart = |prefixes: Prefixes| {
        let model = prefixes.fit(&trainer, model.clone(), &data).unwrap().model;
        let narrow = ChannelPlan::prefix(&model, 2).unwrap().shrink(&model).unwrap();
        let of = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let (wide, narrow) = (of(&model), of(&narrow));
        let classes = |y: &[f32]| {
            let top = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = y.iter().map(|z| (z - top).exp()).sum();
            y.iter().map(|z| (z - top).exp() / sum).collect::<Vec<f32>>()
        };
        let rows = wide.rows().into_iter().zip(narrow.rows());
        let off = rows.map(|(wide, narrow)| {
            let (p, q) = (classes(&wide.to_vec()), classes(&narrow.to_vec()));
            p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum::<f32>()
        });
        off.sum::<f32>()
    };
    let plain = Prefixes::new([2]).unwrap();
    let before = apart(plain.clone());
    for lessons in [Lessons::Scores, Lessons::Mutual] {
        let after = apart(plain.clone().lessons(lessons, 3.0).unwrap());
        assert!(after < 0.9 * before, "{lessons}: {after}, without {before}");
    }
}

#[test]
fn a_width_that_learns_rankings_comes_to_answer_as_the_whole() {
    // The last epoch is kept: the first lists are made after ten.
    let task = RecommendTask::builder(kinds()).batch(100).refit(true).build().unwrap();
    let model = LightGcn::builder(90).channels(16).layers(1).build(3).unwrap();
    let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(40);
    let trainer = trainer.build().unwrap();
    let users: Vec<u32> = (0..30).collect();
    let batch = task.ask(&users).unwrap();
    let first = |model: &Model| -> Vec<Vec<usize>> {
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let y: Vec<f32> = y.iter().copied().collect();
        let of = |(scores, own): (&[f32], &Vec<u32>)| {
            let mut items: Vec<usize> = (0..60).filter(|k| !own.contains(&(*k as u32))).collect();
            items.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            items[..5].to_vec()
        };
        y.chunks(60).zip(task.train()).map(of).collect()
    };
    let agreed = |prefixes: Prefixes| {
        let model = prefixes.fit(&trainer, model.clone(), &task).unwrap().model;
        let narrow = ChannelPlan::prefix(&model, 4).unwrap().shrink(&model).unwrap();
        let (whole, narrow) = (first(&model), first(&narrow));
        let both = whole.iter().zip(&narrow);
        both.map(|(a, b)| a.iter().filter(|item| b.contains(item)).count()).sum::<usize>()
    };
    let plain = Prefixes::new([4]).unwrap();
    let rankings = Lessons::Rankings(Ranked::new(5, 10));
    let (before, after) = (agreed(plain.clone()), agreed(plain.lessons(rankings, 2.0).unwrap()));
    assert!(after > before + 8, "{after} of 150 answers, without {before}");
}

#[test]
fn widths_that_learn_both_ways_come_to_score_alike() {
    let (facts, model) = days(Form::ComplEx, 32);
    let task = LinkTask::builder(facts).candidates(Candidates::All).batch(8).build().unwrap();
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3);
    let trainer = trainer.weight_decay(0.0).epochs(20).build().unwrap();
    let batch = task.whole().unwrap();
    let off = |prefixes: &Prefixes| {
        let model = prefixes.fit(&trainer, model.clone(), &task).unwrap().model;
        let narrow = ChannelPlan::prefix(&model, 16).unwrap().shrink(&model).unwrap();
        let of =
            |model: &Model| model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        (of(&narrow) - of(&model)).mapv(f32::abs).mean().unwrap()
    };
    let plain = Prefixes::new([16]).unwrap();
    let before = off(&plain);
    let taught = plain.lessons(Lessons::Mutual, 3.0).unwrap();
    let after = off(&taught);
    assert!(after < 0.8 * before, "{after}, without {before}");
    let again = |count| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        let short = Trainer::builder().epochs(2).build().unwrap();
        pool.install(|| taught.fit(&short, model.clone(), &task).unwrap().losses)
    };
    assert_eq!(again(1), again(3));
}
