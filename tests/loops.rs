//! Training, fine-tuning and distillation are one loop, written out here by hand; schedules are
//! their formulas.

use gnn_prune::distill::Signals;
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::{Cx, Mode};
use gnn_prune::pipeline::{Env, Step, Subject};
use gnn_prune::task::{Part, cross_entropy, evaluate};
use gnn_prune::train::{Adam, Schedule, Setup, UpdateRule, step};
use gnn_prune::{
    Dataset, DistillLoss, Distiller, FineTune, Gcn, Model, Nodes, SoftLabels, Trainer,
};
use std::f64::consts::PI;
use std::sync::{Arc, Mutex};

fn data() -> Dataset {
    Dataset::sbm(240, 3).features(6).degree(4.0).homophily(0.7).seed(2).build().unwrap()
}

fn model(seed: u64) -> Model {
    Gcn::builder(6, 3)
        .hidden(8)
        .norm(gnn_prune::models::Normalization::Batch)
        .dropout(0.4)
        .build(seed)
        .unwrap()
}

fn params(model: &Model) -> Vec<Array2<f32>> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| all.push(param.value().clone()));
    all
}

#[derive(Clone, Copy)]
struct Loop {
    epochs: usize,
    learning_rate: f64,
    weight_decay: f64,
    cosine: bool,
    patience: usize,
    keep_start: bool,
    dropout_seed: Option<u64>,
    warmup: usize,
    /// Momentum of plain gradient descent in place of Adam.
    momentum: Option<f64>,
    clip: Option<f64>,
}

const PLAIN: Loop = Loop {
    epochs: 25,
    learning_rate: 0.01,
    weight_decay: 5e-4,
    cosine: false,
    patience: 100,
    keep_start: false,
    dropout_seed: None,
    warmup: 0,
    momentum: None,
    clip: None,
};

struct Ended {
    model: Model,
    best_epoch: usize,
    losses: Vec<f64>,
}

/// The loss of logits and its gradient.
type Loss<'l> = &'l dyn Fn(ArrayView2<f32>) -> (f32, Array2<f32>);

/// The loop: a step of Adam per epoch on the gradient of `loss` by the logits, the first epoch with
/// the best validation metric kept.
fn by_hand(mut model: Model, data: &Dataset, with: Loop, loss: Loss) -> Ended {
    let cx = Cx::eval(data.graph());
    let judge = |model: &Model| evaluate(model, data, Part::Validation).unwrap();
    let mut adam = Adam::builder()
        .learning_rate(with.learning_rate)
        .weight_decay(with.weight_decay)
        .build::<f32>()
        .unwrap();
    let mut velocity: Vec<Array2<f32>> = Vec::new();
    let mut best = if with.keep_start { judge(&model) } else { f64::NEG_INFINITY };
    let mut ended = Ended { model: model.clone(), best_epoch: 0, losses: Vec::new() };
    for epoch in 1..=with.epochs {
        let cx = cx.with_mode(Mode::Train {
            seed: with.dropout_seed.unwrap_or(model.seed()),
            step: epoch as u64,
        });
        let trace = model.trace(&cx, data.features()).unwrap();
        let (value, gradient) = loss(trace.output());
        let statistics = model.clone();
        model.absorb(&trace);
        let mut grads = statistics.backward(&cx, trace, &[(model.output(), gradient)]).unwrap();
        let (at, last) = (epoch.saturating_sub(with.warmup + 1), with.epochs - with.warmup);
        let factor = match with {
            _ if epoch <= with.warmup => epoch as f64 / with.warmup as f64,
            _ if with.cosine => (1.0 + (PI * at as f64 / last as f64).cos()) / 2.0,
            _ => 1.0,
        };
        if let Some(clip) = with.clip {
            let mut square = 0.0;
            model.visit(&mut |_, param| {
                let Some(own) = grads.get(param.id()) else { return };
                square += own.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
            });
            let factor = clip / (square.sqrt() + 1e-6);
            assert!(factor < 1.0, "the limit shows");
            grads.scale(factor as f32);
        }
        match with.momentum {
            None => step(&mut adam, &mut model, &grads, factor),
            Some(momentum) => {
                let mut k = 0;
                model.visit_mut(&mut |param| {
                    let Some(own) = grads.get(param.id()) else { return };
                    let decayed = own + &(param.value() * with.weight_decay as f32);
                    match velocity.get_mut(k) {
                        Some(last) => *last = &*last * momentum as f32 + decayed,
                        None => velocity.push(decayed),
                    }
                    let rate = (with.learning_rate * factor) as f32;
                    let moved = param.value() - &(&velocity[k] * rate);
                    *param.value_mut() = moved;
                    k += 1;
                });
            }
        }
        ended.losses.push(f64::from(value));
        let now = judge(&model);
        if now > best {
            best = now;
            (ended.model, ended.best_epoch) = (model.clone(), epoch);
        }
        if epoch - ended.best_epoch >= with.patience {
            break;
        }
    }
    ended
}

fn on_training_labels(data: &Dataset, seed: u64) -> impl Fn(ArrayView2<f32>) -> (f32, Array2<f32>) {
    let (labels, train) = (data.classes().unwrap().to_vec(), data.split(seed).train);
    move |logits| cross_entropy(logits, &labels, &train)
}

#[test]
fn training_is_the_loop_with_every_setting() {
    let data = data();
    let settings = [
        PLAIN,
        Loop { cosine: true, ..PLAIN },
        Loop { patience: 3, epochs: 60, ..PLAIN },
        Loop { keep_start: true, learning_rate: 0.3, patience: 5, ..PLAIN },
        Loop { dropout_seed: Some(77), weight_decay: 0.05, ..PLAIN },
        Loop { warmup: 5, cosine: true, ..PLAIN },
        Loop { momentum: Some(0.9), learning_rate: 0.1, warmup: 2, ..PLAIN },
        Loop { clip: Some(0.01), momentum: Some(0.5), learning_rate: 1.0, ..PLAIN },
    ];
    let mut ends = Vec::new();
    for (k, with) in settings.into_iter().enumerate() {
        let mut trainer = Trainer::builder()
            .epochs(with.epochs)
            .learning_rate(with.learning_rate)
            .weight_decay(with.weight_decay)
            .patience(with.patience)
            .warmup(with.warmup)
            .schedule(if with.cosine { Schedule::Cosine } else { Schedule::Constant });
        if let Some(momentum) = with.momentum {
            trainer = trainer.rule(UpdateRule::Sgd { momentum });
        }
        trainer = with.clip.map_or(trainer.clone(), |clip| trainer.clip_norm(clip));
        trainer = if with.keep_start { trainer.keep_start(true) } else { trainer };
        trainer = with.dropout_seed.map_or(trainer.clone(), |seed| trainer.dropout_seed(seed));
        let fit = trainer.build().unwrap().fit_with(model(3), &data, Setup::new()).unwrap();
        let expected = by_hand(model(3), &data, with, &on_training_labels(&data, 3));
        let (found, sought) = (params(&fit.model), params(&expected.model));
        if with.clip.is_none() && with.momentum.is_none() {
            let expected = (expected.best_epoch, &expected.losses);
            assert_eq!((fit.best_epoch, &fit.losses), expected, "settings {k}");
            assert_eq!(found, sought, "settings {k}");
        } else {
            // A norm summed in another order, products rounded in another.
            let near = |a: &f64, b: &f64| (a - b).abs() < 1e-5 * (1.0 + b.abs());
            let pairs = fit.losses.iter().zip(&expected.losses);
            assert!(pairs.clone().all(|(a, b)| near(a, b)), "settings {k}: {pairs:?}");
        }
        ends.push(fit.losses);
    }
    // The settings are such that each of them shows.
    assert!((0..ends.len()).all(|k| ends[..k].iter().all(|other| *other != ends[k])));
    assert!(ends[2].len() < 60, "patience ends it");
}

#[test]
fn a_trainer_without_settings_is_the_protocol() {
    let data = data();
    let expected =
        by_hand(model(5), &data, Loop { epochs: 200, ..PLAIN }, &on_training_labels(&data, 5));
    for trainer in [Trainer::protocol(), Trainer::builder().build().unwrap()] {
        assert_eq!(params(&trainer.fit(model(5), &data).unwrap()), params(&expected.model));
    }
}

#[test]
fn fine_tuning_is_the_protocol_from_a_start_that_is_a_candidate() {
    let data = data();
    let start = Trainer::builder().epochs(15).build().unwrap().fit(model(4), &data).unwrap();
    for (epochs, seed) in [(12, 4), (30, 9)] {
        let env = Env::new(&data, &start, seed);
        let tuned = FineTune::epochs(epochs)
            .run(Subject::new(start.clone(), data.graph().clone()), &env)
            .unwrap()
            .into_model();
        let with = Loop { epochs, keep_start: true, dropout_seed: Some(seed), ..PLAIN };
        let expected = by_hand(start.clone(), &data, with, &on_training_labels(&data, 4));
        assert_eq!(params(&tuned), params(&expected.model));
    }
    // Where no epoch is better than the start, the start comes back.
    let perfect =
        by_hand(model(4), &data, Loop { epochs: 120, ..PLAIN }, &on_training_labels(&data, 4))
            .model;
    let env = Env::new(&data, &perfect, 4);
    let tuned = FineTune::epochs(1)
        .run(Subject::new(perfect.clone(), data.graph().clone()), &env)
        .unwrap()
        .into_model();
    let without = by_hand(
        perfect.clone(),
        &data,
        Loop { epochs: 1, dropout_seed: Some(4), ..PLAIN },
        &on_training_labels(&data, 4),
    );
    let [after, before] =
        [&without.model, &perfect].map(|model| evaluate(model, &data, Part::Validation).unwrap());
    assert!(after <= before, "the start is such that a step does not help: {after}, {before}");
    assert_eq!(params(&tuned), params(&perfect));
}

#[test]
fn schedules_are_their_formulas() {
    for epochs in [1, 2, 7, 200] {
        for epoch in 1..=epochs {
            assert_eq!(Schedule::Constant.factor(epoch, epochs), 1.0);
            let expected = 0.5 + 0.5 * (PI * (epoch as f64 - 1.0) / epochs as f64).cos();
            assert!(
                (Schedule::Cosine.factor(epoch, epochs) - expected).abs() < 1e-12,
                "{epoch} of {epochs}"
            );
        }
    }
    assert_eq!(Schedule::Cosine.factor(1, 50), 1.0);
}

/// `T²·Σ p·(ln p − ln q)/|R|` and its gradient, in double precision.
fn soft(
    logits: ArrayView2<f32>,
    teacher: &Array2<f32>,
    rows: &[u32],
    t: f64,
) -> (f64, Array2<f64>) {
    let softmax = |row: &[f32]| {
        let exps: Vec<f64> = row.iter().map(|&z| (f64::from(z) / t).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|e| e / sum).collect::<Vec<f64>>()
    };
    let (mut value, mut gradient) = (0.0, Array2::zeros(logits.dim()));
    for &i in rows {
        let i = i as usize;
        let (q, p) = (softmax(&logits.row(i).to_vec()), softmax(&teacher.row(i).to_vec()));
        for c in 0..q.len() {
            value += t * t * p[c] * (p[c] / q[c]).ln() / rows.len() as f64;
            gradient[[i, c]] += t * (q[c] - p[c]) / rows.len() as f64;
        }
    }
    (value, gradient)
}

#[test]
fn distillation_is_the_labels_and_the_rest_of_the_weighted_losses() {
    let data = data();
    let teacher = Trainer::builder()
        .epochs(30)
        .build()
        .unwrap()
        .fit(Gcn::builder(6, 3).hidden(16).build(3).unwrap(), &data)
        .unwrap();
    let said = teacher.infer(&Cx::eval(data.graph()), data.features()).unwrap();
    let all: Vec<u32> = (0..data.num_nodes() as u32).collect();
    let train = data.split(3).train;
    // A bias before a norm has no gradient but rounding, of which Adam makes whole steps.
    let student = || Gcn::builder(6, 3).hidden(8).dropout(0.4).build(3).unwrap();
    for (labels, second, nodes) in [
        (0.0, 0.0, Nodes::All),
        (0.3, 0.0, Nodes::All),
        (0.3, 2.0, Nodes::Labelled),
        (0.9, 0.5, Nodes::All),
    ] {
        let rows = if nodes == Nodes::All { &all } else { &train };
        let by_label = on_training_labels(&data, 3);
        let objective = |logits: ArrayView2<f32>| {
            let (ce, d_ce) = by_label(logits);
            let (one, d_one) = soft(logits, &said, rows, 1.0);
            let (two, d_two) = soft(logits, &said, rows, 3.0);
            let value = labels * f64::from(ce) + (1.0 - labels) * (one + second * two);
            let gradient =
                d_ce.mapv(f64::from) * labels + (d_one + d_two * second) * (1.0 - labels);
            (value as f32, gradient.mapv(|g| g as f32))
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&heard);
        let distiller = Distiller::builder(SoftLabels::default())
            .also(second, SoftLabels::new(3.0).unwrap())
            .labels(labels)
            .nodes(nodes)
            .epochs(8)
            .on_epoch(move |epoch| listener.lock().unwrap().push(epoch.loss));
        let distilled = distiller.build().unwrap().distill(student(), &teacher, &data).unwrap();
        let expected =
            by_hand(student(), &data, Loop { epochs: 8, weight_decay: 0.0, ..PLAIN }, &objective);
        let heard = heard.lock().unwrap();
        // Sums are in single precision there.
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * (1.0 + b.abs());
        assert_eq!(heard.len(), 8);
        assert!(
            heard.iter().zip(&expected.losses).all(|(a, b)| near(*a, *b)),
            "{labels}, {second}: {heard:?}\n{:?}",
            expected.losses
        );
        for (found, expected) in params(&distilled).iter().zip(params(&expected.model)) {
            assert!(
                found.iter().zip(&expected).all(|(a, b)| near(f64::from(*a), f64::from(*b))),
                "{labels}, {second}"
            );
        }
    }
}

#[test]
fn a_step_down_the_gradient_of_a_loss_lowers_it() {
    let (student, teacher) = (
        Array2::from_shape_fn((6, 4), |(i, c)| ((i * 5 + c * 3) % 7) as f32 / 3.0 - 1.0),
        Array2::from_shape_fn((6, 4), |(i, c)| ((i * 3 + c * 5) % 11) as f32 / 4.0 - 1.0),
    );
    let rows = [0u32, 2, 3, 5];
    let labelled = [(0u32, 1u32), (3, 2)];
    let node = gnn_prune::nn::NodeId::INPUT;
    let losses: [Box<dyn DistillLoss<f32>>; 3] = [
        Box::new(SoftLabels::default()),
        Box::new(SoftLabels::new(4.0).unwrap()),
        DistillLoss::start(&gnn_prune::Adversarial::builder().build::<f32>().unwrap(), 7),
    ];
    for loss in losses {
        let of = |z: &Array2<f32>| {
            let signals = |z| Signals::new(node, z, &labelled).unwrap();
            loss.loss(&signals(z.view()), &signals(teacher.view()), &rows).unwrap()
        };
        let (value, seeds) = of(&student);
        let size: f32 = seeds[0].1.mapv(|g| g * g).sum();
        let step = 1e-2 / size.sqrt();
        let lower = of(&(&student - &(&seeds[0].1 * step))).0;
        let expected = step * size;
        assert!(
            value - lower > 0.5 * expected && value - lower < 1.5 * expected,
            "{}: {value}, {lower}, {expected}",
            loss.name()
        );
    }
}
