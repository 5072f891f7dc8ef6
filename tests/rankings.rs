//! Students of tasks that rank: narrower ones, tables, and what they learn of a teacher's rankings.

use crate::links::days;
use gnn_prune::data::Interactions;
use gnn_prune::distill::{DistanceExperts, DualDistances};
use gnn_prune::nn::Form;
use gnn_prune::pipeline::{Distill, Student};
use gnn_prune::task::{
    Candidates, EdgeTask, LinkTask, Part, RankingLoss, RecommendTask, Task, evaluate,
};
use gnn_prune::train::UpdateRule;
use gnn_prune::{
    Compression, Controls, Dataset, Distiller, Gcn, LightGcn, Model, RelaxedRanking, SoftLabels,
    Trainer,
};

fn trainer(epochs: usize) -> Trainer {
    let trainer = Trainer::builder().rule(UpdateRule::Adagrad).learning_rate(0.3);
    trainer.weight_decay(0.0).epochs(epochs).build().unwrap()
}

/// Whoever has some items of one of three kinds takes others of that kind.
pub fn kinds() -> Interactions {
    let own = |user: u32| -> Vec<u32> {
        (0..12).map(|k| (user % 3) * 20 + (user * 5 + k * 3) % 20).collect()
    };
    let later = |user: u32| -> Vec<u32> {
        (12..16).map(|k| (user % 3) * 20 + (user * 5 + k * 3) % 20).collect()
    };
    Interactions::new("kinds", 60, (0..30).map(own).collect(), (0..30).map(later).collect())
        .unwrap()
}

#[test]
fn a_students_first_answers_come_to_be_its_teachers() {
    let (facts, model) = days(Form::ComplEx, 16);
    for (candidates, alone) in [(Candidates::Sampled(6), true), (Candidates::All, false)] {
        let task = LinkTask::builder(facts.clone()).candidates(candidates).tables_alone(alone);
        let task = task.batch(8).reciprocal(true).build().unwrap();
        let teacher = trainer(30).fit(model.clone(), &task).unwrap();
        let form = days(Form::ComplEx, 8).1;
        let rrd = RelaxedRanking::new(5, 8).unwrap();
        let lesson = |epochs| {
            let lesson = Distiller::builder(rrd).trainer(trainer(epochs).anew()).build().unwrap();
            lesson.distill(form.clone(), &teacher, &task).unwrap()
        };
        let agreed = |model: &Model| agreement(&teacher, model, &task);
        let (before, after) = (agreed(&form), agreed(&lesson(30)));
        assert!(after > before + 0.3, "{candidates:?}: {before} to {after}");
        let bits = |model: &Model| {
            model
                .params()
                .flat_map(|(_, p)| p.value().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&lesson(2)), bits(&lesson(2)));
    }
}

/// The share of the teacher's five first answers to each query that are among the model's.
fn agreement(teacher: &Model, model: &Model, task: &LinkTask) -> f64 {
    let asked = task.rankings().unwrap().queries;
    let relations = task.triples().num_relations() as u32;
    let queries: Vec<_> = asked
        .iter()
        .map(|(query, _)| gnn_prune::nn::Query {
            node: query.node,
            relation: query.relation % relations,
            inverse: query.relation >= relations,
        })
        .collect();
    let batch = task.ask(&queries).unwrap();
    let best = |model: &Model| {
        let cx = gnn_prune::nn::Cx::without_graph();
        let y = model.infer(&batch.on(&cx), batch.features()).unwrap();
        let y: Vec<f32> = y.iter().copied().collect();
        let of = |(scores, (_, known)): (&[f32], &(gnn_prune::nn::Query, Vec<u32>))| {
            let mut nodes: Vec<u32> = (0..28).filter(|node| !known.contains(node)).collect();
            nodes.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
            nodes[..5].to_vec()
        };
        y.chunks(28).zip(&asked).map(of).collect::<Vec<_>>()
    };
    let (said, own) = (best(teacher), best(model));
    let hits = said.iter().zip(&own).map(|(a, b)| a.iter().filter(|n| b.contains(n)).count());
    hits.sum::<usize>() as f64 / (5 * asked.len()) as f64
}

#[test]
fn narrow_students_and_tables_learn_from_an_encoder() {
    let task = RecommendTask::builder(kinds()).batch(32).build().unwrap();
    let form = LightGcn::builder(90).channels(16).layers(2).build(0).unwrap();
    let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0).epochs(15);
    let trainer = trainer.build().unwrap();
    for (student, params) in
        [(Student::Narrow { channels: 4 }, 4 * 90), (Student::Table { channels: 6 }, 6 * 90)]
    {
        let step = Distill::into(student).loss(RelaxedRanking::new(10, 10).unwrap()).labels(0.5);
        let out = Compression::train(form.clone(), trainer.clone(), 2, &task).unwrap();
        let out = out.step(step).controls(Controls::None).run().unwrap();
        assert_eq!(out.model.num_params(), params);
        let rows = &out.report.rows;
        // Of 49 unseen items 20 come first: by chance they have 41 % of the answers.
        assert!(rows[0].accuracy.mean > 80.0, "{}", rows[0].accuracy.mean);
        assert!(rows[1].accuracy.mean > 70.0, "{student}: {}", rows[1].accuracy.mean);
        assert_eq!(out.model.node("hop1").is_some(), matches!(student, Student::Narrow { .. }));
    }
    // As many epochs as the dense model had, and no state of before them.
    let soft = Distill::into(Student::Narrow { channels: 4 });
    let out = Compression::train(form, trainer, 1, &task).unwrap().step(soft);
    let out = out.controls(Controls::None).run().unwrap();
    let curve = |stage: &str| {
        out.report.curves.iter().find(|curve| curve.stage == stage).unwrap().epochs.len()
    };
    assert_eq!(curve("distill narrow:4"), curve("dense"));
}

#[test]
fn narrow_students_of_nodes_are_fresh() {
    let data = Dataset::sbm(200, 3).features(8).build().unwrap();
    let model = Gcn::builder(8, 3).hidden(16).layers(3).residual(true).build(0).unwrap();
    let model = Trainer::builder().epochs(80).build().unwrap().fit(model, &data).unwrap();
    let step = Distill::into(Student::Narrow { channels: 4 }).epochs(80);
    let out = Compression::of(model, &data).step(step).controls(Controls::None).run().unwrap();
    let narrow = Gcn::builder(8, 3).hidden(4).layers(3).residual(true).build(0).unwrap();
    assert_eq!(out.model.num_params(), narrow.num_params());
    let rows = &out.report.rows;
    let means = [rows[0].accuracy.mean, rows[1].accuracy.mean];
    assert!(means[1] > means[0] - 10.0, "{means:?}");
}

#[test]
fn rankings_that_there_are_not_are_refused() {
    let data = Dataset::sbm(200, 3).features(8).build().unwrap();
    let model = Gcn::builder(8, 3).hidden(4).build(0).unwrap();
    let rrd = || Distiller::builder(RelaxedRanking::default()).build().unwrap();
    let error = rrd().check(&model, &model, &data).unwrap_err().to_string();
    assert!(error.contains("about nodes") && error.contains("rankings"), "{error}");
    let edges = EdgeTask::new(&data, 0).unwrap();
    let links = gnn_prune::models::Links::builder(200, 1).on_features(8);
    let links = links.encoder(gnn_prune::models::Encoder::Gcn);
    let links =
        links.scored(gnn_prune::models::Scored::By(Form::Dot)).channels(4).build(0).unwrap();
    let error = rrd().check(&links, &links, &edges).unwrap_err().to_string();
    assert!(error.contains("ranks nothing"), "{error}");
    // Sixty items are fewer than the 80 that are read.
    let task = RecommendTask::builder(kinds()).build().unwrap();
    let model = LightGcn::builder(90).channels(4).build(0).unwrap();
    let error = rrd().check(&model, &model, &task).unwrap_err().to_string();
    assert!(error.contains("reads 80"), "{error}");
    let (facts, model) = days(Form::DistMult, 8);
    let task = LinkTask::builder(facts).loss(RankingLoss::Bpr).build().unwrap();
    let run = |student| {
        let out = Compression::of(model.clone(), &task).step(Distill::into(student));
        out.controls(Controls::None).run().unwrap_err().to_string()
    };
    assert!(run(Student::Table { channels: 4 }).contains("no dot products"));
    assert!(run(Student::Narrow { channels: 9 }).contains("from 1 to 8"));
    assert!(run(Student::Gcn { hidden: 4 }).contains("network of nodes"));
}

/// Both kinds of losses in one lesson, and the task's own beside them.
#[test]
fn rankings_stand_beside_soft_labels() {
    let (facts, model) = days(Form::DistMult, 16);
    let task = LinkTask::builder(facts).candidates(Candidates::All).batch(8).build().unwrap();
    let teacher = trainer(30).fit(model, &task).unwrap();
    let student = days(Form::DistMult, 8).1;
    let rrd = RelaxedRanking::new(5, 8).unwrap();
    let both = Distiller::builder(SoftLabels::default()).also(0.5, rrd).labels(0.3);
    let both = both.trainer(trainer(20).anew()).build().unwrap();
    let small = both.distill(student.clone(), &teacher, &task).unwrap();
    let mrr = |model: &Model| evaluate(model, &task, Part::Test).unwrap();
    assert!(mrr(&small) > mrr(&student) + 20.0, "{} {}", mrr(&small), mrr(&student));
}

/// All bits of all parameters.
fn bits(model: &Model) -> Vec<u32> {
    let of = |(_, param): (_, &gnn_prune::nn::Param<f32>)| -> Vec<u32> {
        param.value().iter().map(|value| value.to_bits()).collect()
    };
    model.params().flat_map(of).collect()
}

/// By how much of the squares of the teacher's rows the best linear map of the student's misses
/// them: what is left after gradient descent from zero.
fn missed(student: &Model, teacher: &Model, task: &RecommendTask) -> f64 {
    let rows = |model: &Model| {
        let last = model.nodes()[model.output().index() - 1].inputs()[0];
        let batch = task.whole().unwrap();
        let trace = model
            .trace_keeping(
                &batch.on(&gnn_prune::nn::Cx::without_graph()),
                batch.features(),
                &[last],
            )
            .unwrap();
        trace.value(last).unwrap().to_dense().mapv(f64::from)
    };
    let (x, t) = (rows(student), rows(teacher));
    let rate = 1.0 / (&x * &x).sum();
    let mut map = gnn_prune::ndarray::Array2::<f64>::zeros((x.ncols(), t.ncols()));
    for _ in 0..4000 {
        map = &map - &(x.t().dot(&(x.dot(&map) - &t)) * rate);
    }
    let off = x.dot(&map) - &t;
    (&off * &off).sum() / (&t * &t).sum()
}

#[test]
fn experts_bring_a_students_rows_nearer_to_its_teachers() {
    let task = RecommendTask::builder(kinds()).batch(64).build().unwrap();
    let teacher = LightGcn::builder(90).channels(16).layers(2).build(0).unwrap();
    let trainer = Trainer::builder().learning_rate(0.02).weight_decay(0.0);
    let teacher = trainer.clone().epochs(20).build().unwrap().fit(teacher, &task).unwrap();
    let form = LightGcn::builder(90).channels(4).layers(2).build(1).unwrap();
    let rrd = RelaxedRanking::new(10, 10).unwrap();
    let lesson = |weight: f64, epochs: usize| {
        let experts = DistanceExperts::new(4).unwrap();
        let lesson = Distiller::builder(rrd).also(weight, experts).labels(0.5);
        let lesson = lesson.trainer(trainer.clone().epochs(epochs)).build().unwrap();
        lesson.distill(form.clone(), &teacher, &task).unwrap()
    };
    let [alone, beside] = [0.0, 10.0].map(|weight| missed(&lesson(weight, 40), &teacher, &task));
    assert!(beside < 0.8 * alone, "{beside}, without experts {alone}");
    let threads = |count: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        pool.install(|| bits(&lesson(1.0, 2)))
    };
    assert_eq!(threads(1), threads(3));
    // What has no rows to score is refused.
    let experts = || Distiller::builder(DistanceExperts::new(4).unwrap()).build().unwrap();
    let data = Dataset::sbm(200, 3).features(8).build().unwrap();
    let model = Gcn::builder(8, 3).build(0).unwrap();
    let error = experts().check(&model, &model, &data).unwrap_err().to_string();
    assert!(error.contains("asks about nodes"), "{error}");
}

#[test]
fn a_narrow_table_of_triples_learns_scores_and_geometry_of_its_teacher() {
    let (facts, wide) = days(Form::ComplEx, 32);
    let task = LinkTask::builder(facts).candidates(Candidates::Sampled(8)).tables_alone(true);
    let task = task.reciprocal(true).batch(8).build().unwrap();
    let teacher = trainer(40).fit(wide, &task).unwrap();
    let form = days(Form::ComplEx, 8).1;
    let lesson = |labels: f64, epochs| {
        let lesson = Distiller::builder(DualDistances::default()).labels(labels);
        let lesson = lesson.trainer(trainer(epochs).anew()).build().unwrap();
        lesson.distill(form.clone(), &teacher, &task).unwrap()
    };
    let of = |model: &Model| evaluate(model, &task, Part::Test).unwrap();
    // No label but through the losses of pairs.
    let (before, after) = (of(&form), of(&lesson(0.0, 40)));
    assert!(after > before + 30.0, "{before} to {after}");
    // Scores come to be near the teacher's, which the task's own loss does not ask for.
    let off = |model: &Model| {
        let batch = task.whole().unwrap();
        let y = |model: &Model| {
            let cx = gnn_prune::nn::Cx::without_graph();
            model.infer(&batch.on(&cx), batch.features()).unwrap()
        };
        (y(model) - y(&teacher)).mapv(|off| off.abs().min(1.0)).mean().unwrap()
    };
    let own = trainer(40).fit(form.clone(), &task).unwrap();
    assert!(off(&lesson(0.0, 40)) < off(&own), "{} {}", off(&lesson(0.0, 40)), off(&own));
    assert_eq!(bits(&lesson(0.5, 2)), bits(&lesson(0.5, 2)));
}
