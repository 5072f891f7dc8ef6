//! Links and recommendation: models of pairs against their formulas, and their tasks.

use gnn_prune::data::{EdgeSplit, Interactions, Triples};
use gnn_prune::ndarray::{Array1, Array2};
use gnn_prune::nn::decode::{Decoder, Form};
use gnn_prune::nn::{Cx, Embedding, Init, ModelBuilder, NodeId, Queries, Query, Rows};
use gnn_prune::task::{
    Candidates, EdgeTask, LinkTask, Part, RankingLoss, RecommendTask, Tally, Task, evaluate,
};
use gnn_prune::train::{Penalty, UpdateRule};
use gnn_prune::{
    ChannelPruner, Dataset, Distiller, Error, InputGradients, LightGcn, Magnitude, Model,
    SoftLabels, Subset, Trainer,
};

/// Days of a month, each of which follows another: the day after, and the day a week later.
pub fn days(form: Form, channels: usize) -> (Triples, Model) {
    let all: Vec<_> = (0..28).flat_map(|k| [[k, 0, (k + 1) % 28], [k, 1, (k + 7) % 28]]).collect();
    // All are learnt, and some of them asked for: what is seen is whether they are.
    let part = |first: usize| all.iter().skip(first).step_by(5).copied().collect();
    let facts = Triples::new("days", 28, 2, all.clone(), part(0), part(1));
    let mut builder = ModelBuilder::new(1);
    let table = Embedding::drawn(28, channels, Init::Normal(0.3)).unwrap();
    let table = builder.add("table", table, &[NodeId::INPUT]).unwrap();
    let decoder = Decoder::builder(form, channels).relations(4).init(Init::Normal(0.3));
    let scores = builder.add("scores", decoder.build().unwrap(), &[table]).unwrap();
    (facts.unwrap(), builder.build(scores, 1).unwrap())
}

fn weights(model: &Model) -> Vec<f32> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| all.extend(param.value().iter().copied()));
    all
}

#[test]
fn every_way_to_draw_candidates_learns_what_follows_what() {
    for (form, candidates, alone) in [
        (Form::ComplEx, Candidates::All, false),
        (Form::ComplEx, Candidates::AllAtOnce, false),
        (Form::ComplEx, Candidates::Sampled(6), true),
        (Form::ComplEx, Candidates::Shared(10), true),
        (Form::DistMult, Candidates::Sampled(6), false),
        (Form::RotatE, Candidates::Sampled(6), true),
    ] {
        let (facts, model) = days(form, 16);
        let task = LinkTask::builder(facts)
            .candidates(candidates)
            .tables_alone(alone)
            .batch(8)
            .reciprocal(form == Form::DistMult)
            .build()
            .unwrap();
        let trainer = Trainer::builder()
            .rule(UpdateRule::Adagrad)
            .learning_rate(0.3)
            .weight_decay(0.0)
            .epochs(40)
            .build()
            .unwrap();
        let before = evaluate(&model, &task, Part::Test).unwrap();
        let trained = trainer.fit(model, &task).unwrap();
        let after = evaluate(&trained, &task, Part::Test).unwrap();
        // Chance is about 14 % among 28 days.
        assert!(
            after > 20.0 && after > 2.0 * before,
            "{form:?} {candidates:?}: {before} to {after}"
        );
    }
}

#[test]
fn equal_scores_have_the_reciprocal_rank_of_chance() {
    let (facts, mut model) = days(Form::DistMult, 8);
    let task = LinkTask::builder(facts).build().unwrap();
    model.visit_mut(&mut |param| param.value_mut().fill(0.5));
    let found = evaluate(&model, &task, Part::Test).unwrap();
    // 28 candidates without one or two that are known: the rank in the middle is 14.
    assert!((found - 100.0 / 14.0).abs() < 0.5, "{found}");
}

#[test]
fn a_batch_of_tables_alone_gives_the_gradients_of_the_whole() {
    let (facts, model) = days(Form::ComplEx, 8);
    let penalty = Penalty::new(0.1, 3).unwrap();
    let train = |alone: bool| {
        let task = LinkTask::builder(facts.clone())
            .candidates(Candidates::Sampled(4))
            .tables_alone(alone)
            .batch(8)
            .build()
            .unwrap();
        let trainer = Trainer::builder().rule(UpdateRule::Adagrad).weight_decay(0.0).epochs(3);
        trainer.penalty(penalty).build().unwrap().fit(model.clone(), &task).unwrap()
    };
    for (a, b) in weights(&train(true)).iter().zip(weights(&train(false))) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_model_that_aggregates_refuses_a_batch_of_tables_alone() {
    let taken = interactions();
    let task = RecommendTask::builder(taken).tables_alone(true).build().unwrap();
    let model = LightGcn::builder(50).channels(4).layers(1).build(0).unwrap();
    let trainer = Trainer::builder().epochs(1).build().unwrap();
    let error = trainer.fit(model, &task).unwrap_err();
    assert!(matches!(error, Error::NoGraph { .. }), "{error}");
}

#[test]
fn pairs_of_channels_that_are_one_number_are_pruned_together() {
    let (facts, model) = days(Form::ComplEx, 12);
    let task = LinkTask::builder(facts).build().unwrap();
    let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build().unwrap();
    let narrow = pruner.prune(&model, &task).unwrap();
    let mut shapes = Vec::new();
    narrow.visit(&mut |name, param| shapes.push((name.to_string(), param.value().dim())));
    assert_eq!(
        shapes,
        [("table.weight".to_string(), (28, 6)), ("scores.relations".into(), (4, 6))]
    );
    // What is left is pairs of the old channels.
    let row = |model: &Model| {
        let mut first: Option<Array1<f32>> = None;
        model.visit(&mut |_, param| {
            first.get_or_insert_with(|| param.value().row(0).to_owned());
        });
        first.unwrap()
    };
    let (old, new) = (row(&model), row(&narrow));
    for k in (0..6).step_by(2) {
        let at = old.iter().position(|v| *v == new[k]).expect("channels are kept as they were");
        assert!(at % 2 == 0 && old[at + 1] == new[k + 1]);
    }
    assert!(evaluate(&narrow, &task, Part::Test).unwrap() > 0.0);
}

/// Twenty users of two tastes and thirty items.
pub fn interactions() -> Interactions {
    let own =
        |user: u32| -> Vec<u32> { (0..10).map(|k| (user % 2) * 15 + (k + user) % 15).collect() };
    let later = |user: u32| vec![(user % 2) * 15 + (10 + user) % 15];
    let part = |f: &dyn Fn(u32) -> Vec<u32>| (0..20).map(f).collect();
    Interactions::new("two tastes", 30, part(&own), part(&later)).unwrap()
}

#[test]
fn light_gcn_scores_by_the_mean_over_depths() {
    let task = RecommendTask::builder(interactions()).build().unwrap();
    let batch = task.whole().unwrap();
    let a = gnn_prune::ValueRef::Sparse(batch.graph().adjacency()).to_dense();
    let degrees: Array1<f32> = a.sum_axis(gnn_prune::ndarray::Axis(1));
    let norm = Array2::from_shape_fn(a.dim(), |(i, j)| match a[[i, j]] {
        0.0 => 0.0,
        w => w / (degrees[i] * degrees[j]).sqrt(),
    });
    for (layers, cosine) in [(0, false), (2, false), (2, true)] {
        let model =
            LightGcn::builder(50).channels(4).layers(layers).cosine(cosine).build(3).unwrap();
        let table = Array2::from_shape_vec((50, 4), weights(&model)).unwrap();
        let mut mean = table.clone();
        let mut deep = table;
        for _ in 0..layers {
            deep = norm.dot(&deep);
            mean += &deep;
        }
        mean /= layers as f32 + 1.0;
        if cosine {
            mean.rows_mut().into_iter().for_each(|mut row| row /= row.dot(&row).sqrt());
        }
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let asked = batch.spaces().asked().unwrap();
        for (k, &score) in y.iter().enumerate() {
            let [user, item] = asked.pair(k).map(|node| mean.row(node as usize));
            assert!((score - user.dot(&item)).abs() < 1e-5, "{layers} {cosine} pair {k}");
        }
    }
}

#[test]
fn recommenders_learn_tastes_with_and_without_a_graph() {
    let contrastive = RankingLoss::CosineContrastive { margin: 0.2, weight: 2.0 };
    let softmax = RankingLoss::Softmax { smoothing: 0.0 };
    for (layers, loss, candidates) in [
        (2, RankingLoss::Bpr, Candidates::Sampled(1)),
        (0, RankingLoss::Bpr, Candidates::Sampled(1)),
        (0, contrastive, Candidates::Sampled(8)),
        (2, contrastive, Candidates::Shared(8)),
        (2, softmax, Candidates::Shared(4)),
        (2, softmax, Candidates::All),
        (2, softmax, Candidates::AllAtOnce),
    ] {
        let task = RecommendTask::builder(interactions())
            .loss(loss)
            .candidates(candidates)
            .batch(32)
            .tables_alone(layers == 0)
            .build()
            .unwrap();
        let cosine = loss == contrastive;
        let model =
            LightGcn::builder(50).channels(8).layers(layers).cosine(cosine).build(0).unwrap();
        let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(25);
        let trainer = trainer.penalty(Penalty::new(1e-4, 2).unwrap()).build().unwrap();
        let trained = trainer.fit(model, &task).unwrap();
        let mut tally = Tally::new();
        for batch in task.batches(Part::Test, 0).unwrap().epoch(0) {
            let batch = batch.unwrap();
            let y = trained.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
            task.judge(y.view(), &batch, &mut tally).unwrap();
        }
        let ndcg = tally.others().find(|(name, _)| *name == "ndcg@20").unwrap().1;
        // Of 20 unseen items 5 are of one's own taste: chance is about a third.
        assert!(ndcg > 45.0, "{layers} layers, {loss:?}, {candidates:?}: {ndcg}");
        let recall = Task::<f32>::metric(&task).of(tally);
        assert!(recall > 95.0, "{recall}");
    }
}

#[test]
fn a_damaged_table_learns_from_what_it_was() {
    let (facts, model) = days(Form::ComplEx, 16);
    for candidates in [Candidates::Sampled(6), Candidates::Shared(10), Candidates::All] {
        let task = LinkTask::builder(facts.clone())
            .candidates(candidates)
            .tables_alone(candidates != Candidates::All)
            .batch(8)
            .build()
            .unwrap();
        let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3);
        let trainer = trainer.weight_decay(0.0).epochs(40).build().unwrap();
        let teacher = trainer.fit(model.clone(), &task).unwrap();
        let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build().unwrap();
        let damaged = pruner.prune(&teacher, &task).unwrap();
        let heal = Distiller::builder(SoftLabels::default()).trainer(trainer.going_on(30));
        let healed = heal.build().unwrap().distill(damaged.clone(), &teacher, &task).unwrap();
        let mrr = |model: &Model| evaluate(model, &task, Part::Test).unwrap();
        let (before, after) = (mrr(&damaged), mrr(&healed));
        assert!(after > before + 3.0, "{candidates:?}: {before} to {after} of {}", mrr(&teacher));
        // The task's own loss beside it.
        let both = Distiller::builder(SoftLabels::default()).labels(0.5);
        let both = both.trainer(trainer.going_on(30)).build().unwrap();
        assert!(mrr(&both.distill(damaged.clone(), &teacher, &task).unwrap()) > before + 3.0);
        let by_gradients = Distiller::builder(InputGradients).build().unwrap();
        let error = by_gradients.distill(damaged, &teacher, &task).unwrap_err().to_string();
        assert!(error.contains("input_gradients") && error.contains("soft labels"), "{error}");
    }
}

/// A batch by hand: the divergence over the candidates of each query, and its slope.
#[test]
fn a_query_is_a_row_of_its_candidates() {
    let (facts, teacher) = days(Form::DistMult, 4);
    let (_, student) = days(Form::DistMult, 4);
    let student = student.fresh(7);
    let task = LinkTask::builder(facts).candidates(Candidates::All).batch(100).build().unwrap();
    let batch = task.batches(Part::Train, 1).unwrap().epoch(1).next().unwrap().unwrap();
    let scores = |model: &Model| {
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let y: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
        y.chunks(28).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    let share = |row: &[f64]| {
        let sum: f64 = row.iter().map(|s| s.exp()).sum();
        row.iter().map(|s| s.exp() / sum).collect::<Vec<f64>>()
    };
    let rows = scores(&teacher).into_iter().zip(scores(&student));
    let of_row = |(said, own): (Vec<f64>, Vec<f64>)| -> f64 {
        share(&said).iter().zip(share(&own)).map(|(p, q)| p * (p / q).ln()).sum()
    };
    let all: Vec<f64> = rows.map(of_row).collect();
    let expected = all.iter().sum::<f64>() / all.len() as f64;
    let told = std::sync::Mutex::new(Vec::new());
    let distiller = Distiller::builder(SoftLabels::default()).epochs(1).learning_rate(1e-6);
    let hear = |epoch: gnn_prune::train::Epoch| {
        told.lock().unwrap().push(epoch.loss);
        Ok(())
    };
    let student = student.following(teacher.seed());
    distiller.build().unwrap().distill_with(student, &teacher, &task, &hear).unwrap();
    let found = told.lock().unwrap()[0];
    assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
}

#[test]
fn a_relation_that_there_is_not_is_refused() {
    let (facts, model) = days(Form::DistMult, 4);
    let data = facts.dataset().unwrap();
    let asked = Query { node: 0, relation: 4, inverse: false };
    let rows = Rows::new().queries(Queries::among(vec![asked], 0..28).unwrap());
    let error = model.infer(&Cx::eval(data.graph()).within(&rows), data.features()).unwrap_err();
    assert!(error.to_string().contains("relation of a query: index 4"), "{error}");
}

/// Each node with the next one, as far as there are.
fn ring(n: u32) -> Vec<[u32; 2]> {
    (0..n).map(|u| [u, (u + 1) % n]).collect()
}

fn ring_of_30() -> Dataset {
    let graph = gnn_prune::Graph::builder(30)
        .edges(ring(30).into_iter().map(|[u, v]| (u as usize, v as usize)))
        .undirected(true)
        .build()
        .unwrap();
    Dataset::unlabeled("ring", graph, Array2::ones((30, 1)).into()).unwrap()
}

#[test]
fn a_split_of_edges_that_does_not_fit_the_graph_is_refused() {
    let data = ring_of_30();
    let other = vec![[0, 5]];
    let with = |train: Vec<[u32; 2]>, valid: [u32; 2], none: [u32; 2]| {
        let split =
            EdgeSplit::new("t", [train, vec![valid], other.clone()], [vec![none], vec![[0, 9]]])?;
        EdgeTask::with_split(&data, &split)
    };
    assert!(with(ring(30), [0, 7], [0, 8]).is_ok());
    // Who trains may validate too, and is asked after as before.
    assert!(with(ring(30), [1, 0], [0, 8]).is_ok());
    let both =
        EdgeSplit::new("t", [ring(30), vec![[0, 7]], vec![[0, 5]]], [vec![[7, 0]], vec![[0, 9]]]);
    let notes = both.unwrap().notes().join("\n");
    assert!(notes.contains("1 pairs that are to be no edges of valid are edges"), "{notes}");
    let mut more = ring(30);
    more.push([3, 9]);
    for (found, what) in [
        (with(ring(30), [0, 30], [0, 8]), "index 30"),
        (with(ring(30), [0, 7], [8, 8]), "pairs node 8 with itself"),
        (with(ring(29), [0, 7], [0, 8]), "the edge from 0 to 28 is not in the graph"),
        (with(ring(30)[1..].to_vec(), [0, 7], [0, 8]), "the edge from 0 to 1 does not train"),
        (with(more, [0, 7], [0, 8]), "the edge from 3 to 9 is not in the graph"),
        (with(Vec::new(), [0, 7], [0, 8]), "the part `train` has no pair"),
    ] {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn least_squares_keeps_the_channels_that_scores_are_made_of() {
    for (form, parts) in [(Form::DistMult, 1), (Form::ComplEx, 2), (Form::RotatE, 2)] {
        let (facts, model) = days(form, 12);
        let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
        // Two numbers of each row are so small that no score shows them, wherever they stand.
        let quiet = [0, 4].map(|number| number * parts..number * parts + parts);
        let mut model = model;
        model.visit_mut(&mut |param| {
            let value = param.value_mut();
            for c in quiet.iter().cloned().flatten() {
                let share = if form == Form::RotatE && value.nrows() == 4 { 1.0 } else { 1e-3 };
                value.column_mut(c).mapv_inplace(|v| v * share);
            }
        });
        let pruner = ChannelPruner::builder(Subset::new()).ratio(2.0 * parts as f64 / 12.0);
        let plan = pruner.build().unwrap().plan(&model, &task).unwrap();
        let group = &plan.groups()[0];
        assert_eq!(group.kept, (12 - 2 * parts) / parts, "{form:?}");
        let small = plan.shrink(&model).unwrap();
        let loud = (0..12).filter(|c| !quiet.iter().any(|quiet| quiet.contains(c)));
        let mut table = None;
        model.visit(&mut |name, param| {
            if name == "table.weight" {
                table = Some(
                    param
                        .value()
                        .select(gnn_prune::ndarray::Axis(1), &loud.clone().collect::<Vec<_>>()),
                );
            }
        });
        let mut found = None;
        small.visit(&mut |name, param| {
            if name == "table.weight" {
                found = Some(param.value().clone());
            }
        });
        assert_eq!(found.unwrap(), table.unwrap(), "{form:?}");
    }
}

#[test]
fn least_squares_sees_the_pairs_of_a_graph_beside_each_other() {
    let data = Dataset::sbm(300, 4).degree(10.0).homophily(0.9).features(8).build().unwrap();
    let task = EdgeTask::new(&data, 0).unwrap();
    let mut builder = ModelBuilder::new(8);
    let conv = gnn_prune::nn::GcnConv::builder(8, 6).build().unwrap();
    let h = builder.add("conv", conv, &[NodeId::INPUT]).unwrap();
    let dot = Decoder::builder(Form::Dot, 6).build().unwrap();
    let y = builder.add("dot", dot, &[h]).unwrap();
    let mut model: Model = builder.build(y, 0).unwrap();
    // The last two channels are too small to be seen: it is they that go, and not the first.
    model.visit_mut(&mut |param| {
        if param.value().ncols() == 6 {
            param.value_mut().slice_mut(gnn_prune::ndarray::s![.., 4..]).mapv_inplace(|w| w * 1e-3);
        }
    });
    let plan = ChannelPruner::builder(Subset::new()).ratio(1.0 / 3.0).build().unwrap();
    let small = plan.plan(&model, &task).unwrap().shrink(&model).unwrap();
    let weight = |model: &Model| {
        let mut found = None;
        model.visit(&mut |_, param| {
            found = found.take().or((param.value().nrows() == 8).then(|| param.value().clone()));
        });
        found.unwrap()
    };
    let kept = weight(&model).slice_move(gnn_prune::ndarray::s![.., ..4]);
    assert_eq!(weight(&small).column(0), kept.column(0));
    assert_eq!(weight(&small).dim(), (8, 4));
}

#[test]
fn whatever_validates_or_tests_is_told_by_what_a_run_is_compared_by() {
    let data = ring_of_30();
    let edges = |valid: [u32; 2], test: [u32; 2], none: [[u32; 2]; 2]| {
        let split =
            EdgeSplit::new("t", [ring(30), vec![valid], vec![test]], none.map(|pair| vec![pair]));
        Task::<f32>::settings(&EdgeTask::with_split(&data, &split.unwrap()).unwrap())
    };
    let triples = |valid: [u32; 3], test: [u32; 3]| {
        let facts = Triples::new("t", 5, 2, vec![[0, 0, 1], [2, 1, 3]], vec![valid], vec![test]);
        Task::<f32>::settings(&LinkTask::builder(facts.unwrap()).build().unwrap())
    };
    let items = |later: u32| {
        let own = |user: u32| (0..10).map(|k| (user + k) % 12).collect();
        let later = (0..4).map(|_| vec![later]).collect();
        let taken = Interactions::new("t", 30, (0..4).map(own).collect(), later);
        Task::<f32>::settings(&RecommendTask::builder(taken.unwrap()).build().unwrap())
    };
    let of_edges = [
        edges([0, 7], [0, 5], [[0, 8], [0, 9]]),
        edges([0, 6], [0, 5], [[0, 8], [0, 9]]),
        edges([0, 7], [0, 4], [[0, 8], [0, 9]]),
        edges([0, 7], [0, 5], [[0, 10], [0, 9]]),
        edges([0, 7], [0, 5], [[0, 8], [0, 10]]),
    ];
    let of_triples = [
        triples([0, 1, 3], [1, 0, 4]),
        triples([0, 1, 4], [1, 0, 4]),
        triples([0, 1, 3], [1, 0, 2]),
    ];
    for (k, first) in of_edges.iter().enumerate() {
        assert!(of_edges[k + 1..].iter().all(|other| other != first), "{first}");
    }
    for (k, first) in of_triples.iter().enumerate() {
        assert!(of_triples[k + 1..].iter().all(|other| other != first), "{first}");
    }
    assert_ne!(items(20), items(21));
    assert_eq!(items(20), items(20));
}

#[test]
fn what_a_batch_asks_about_is_not_in_its_messages() {
    let (facts, _) = days(Form::DistMult, 4);
    let known: std::collections::BTreeSet<[u32; 2]> =
        facts.train().iter().flat_map(|&[h, _, t]| [[h, t], [t, h]]).collect();
    let task = |exclude| {
        let task = LinkTask::builder(facts.clone()).reciprocal(true).batch(6);
        let task = task.candidates(Candidates::Shared(5)).exclude_asked(exclude);
        task.build().unwrap()
    };
    let edges = |batch: &gnn_prune::task::Batch<f32>| -> std::collections::BTreeSet<[u32; 2]> {
        batch.graph().edges().map(|edge| [edge.source as u32, edge.target as u32]).collect()
    };
    let (whole, left) = (task(false), task(true));
    let [of_whole, of_left] = [&whole, &left].map(|task| task.batches(Part::Train, 0).unwrap());
    let mut all = std::collections::BTreeSet::new();
    for (whole, left) in of_whole.epoch(1).zip(of_left.epoch(1)) {
        let (whole, left) = (whole.unwrap(), left.unwrap());
        assert_eq!(edges(&whole), known);
        let gone: Vec<[u32; 2]> = known.difference(&edges(&left)).copied().collect();
        // Six triples, there and back, unless two of them have the same ends.
        assert!(!gone.is_empty() && gone.len() <= 12, "{gone:?}");
        assert!(gone.iter().all(|[h, t]| gone.contains(&[*t, *h])));
        all.extend(gone);
    }
    assert_eq!(all, known, "every triple is asked about once an epoch");
    let batch = left.batches(Part::Test, 0).unwrap().epoch(0).next().unwrap().unwrap();
    assert_eq!(edges(&batch), known);
    let alone = LinkTask::builder(facts).exclude_asked(true).tables_alone(true).build();
    assert!(alone.unwrap_err().to_string().contains("batches of triples with the graph"));
}
