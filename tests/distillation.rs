//! What a student imitates has the gradient that it says, and what it learns is worth having.

use gnn_prune::distill::{DistillerBuilder, Probe, Signals};
use gnn_prune::ndarray::{Array1, Array2};
use gnn_prune::nn::{ActivationFn, Cx, Grads, NodeId};
use gnn_prune::sprs::CsMatI;
use gnn_prune::task::{Part, evaluate};
use gnn_prune::testing::{random_dense, random_sparse};
use gnn_prune::train::NodeGrads;
use gnn_prune::{
    Adversarial, Dataset, DistillLoss, Distiller, Error, Gcn, Graph, InputGradients, Mlp, Model,
    Nodes, Result, Scalar, SoftLabels, Trainer, Value,
};
use safetensors::SafeTensors;
use std::sync::{Arc, Mutex};

/// Sums in f32 in another order than PyTorch's.
const FIXTURE_TOLERANCE: f64 = 1e-4;
/// Step of central differences in f64: `t² = 1e-12`, and rounding divided by it lies at 1e-10.
const STEP: f64 = 1e-6;
/// What such differences of a loss with an exact gradient may show.
const EXACT: f64 = 1e-7;
/// What a gradient that is itself a central difference may show, relative to its largest entry.
const BY_DIFFERENCES: f64 = 1e-5;

fn logits(seed: u64, shape: (usize, usize)) -> Array2<f64> {
    random_dense::<f64>(seed, shape).into_dense() * 3.0
}

fn fixture<F: Scalar>(name: &str) -> Array2<F> {
    let bytes = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pyg/losses_quant_masks.safetensors"
    ))
    .unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let shape = match *tensor.shape() {
        [rows, cols] => (rows, cols),
        ref other => (1, other.iter().product()),
    };
    let values = f32::read_le(tensor.data()).into_iter().map(|v| F::of(f64::from(v))).collect();
    Array2::from_shape_vec(shape, values).unwrap()
}

fn soft_labels_match_pytorch<F: Scalar>() {
    let (student, teacher) = (fixture::<F>("student"), fixture::<F>("teacher"));
    let rows: Vec<u32> = (0..student.nrows() as u32).collect();
    for temperature in [1, 4] {
        let signals = |z| Signals::new(NodeId::INPUT, z, &[]).unwrap();
        let loss = SoftLabels::new(f64::from(temperature)).unwrap();
        let (value, gradient) = DistillLoss::<F>::loss(
            &loss,
            &signals(student.view()),
            &signals(teacher.view()),
            &rows,
        )
        .unwrap();
        let near = |found: F, expected: F| {
            (found - expected).as_f64().abs() <= FIXTURE_TOLERANCE * (1.0 + expected.as_f64().abs())
                // The gradient is a mean over the rows, so small that an absolute tolerance would
                // pass a wrong factor.
                && (found - expected).as_f64().abs() <= 0.01 * expected.as_f64().abs() + 1e-6
        };
        assert!(
            near(value, fixture::<F>(&format!("kd_T{temperature}/loss"))[[0, 0]]),
            "T = {temperature}: {value}"
        );
        let expected = fixture::<F>(&format!("kd_T{temperature}/grad_student"));
        assert_eq!(gradient.len(), 1);
        assert_eq!(gradient[0].1.dim(), expected.dim());
        assert!(
            gradient[0].1.iter().zip(&expected).all(|(found, expected)| near(*found, *expected)),
            "T = {temperature}"
        );
    }
}

#[test]
fn soft_labels_are_pytorchs() {
    soft_labels_match_pytorch::<f32>();
    soft_labels_match_pytorch::<f64>();
}

/// The gradient by the student's logits against central differences, at every entry.
fn check_by_logits(
    loss: &dyn DistillLoss<f64>,
    student: Array2<f64>,
    teacher: &Array2<f64>,
    rows: &[u32],
) {
    let labelled = [(1, 0), (4, 2)];
    let teacher = Signals::new(NodeId::INPUT, teacher.view(), &labelled).unwrap();
    let value = |student: &Array2<f64>| {
        let student = Signals::new(NodeId::INPUT, student.view(), &labelled).unwrap();
        loss.loss(&student, &teacher, rows).unwrap()
    };
    let gradient =
        value(&student).1.into_iter().map(|(_, gradient)| gradient).reduce(|a, b| a + b).unwrap();
    assert!(gradient.iter().any(|g| *g != 0.0));
    for (at, &found) in gradient.indexed_iter() {
        let moved = |step: f64| {
            let mut z = student.clone();
            z[at] += step;
            value(&z).0
        };
        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!(
            (found - difference).abs() < EXACT,
            "{} at {at:?}: {found}, by differences {difference}",
            loss.name()
        );
    }
}

#[test]
fn gradients_by_the_students_logits_are_those_of_differences() {
    let (student, teacher) = (logits(1, (6, 3)), logits(2, (6, 3)));
    let rows = [0, 1, 3, 5];
    for temperature in [0.5, 1.0, 4.0] {
        check_by_logits(&SoftLabels::new(temperature).unwrap(), student.clone(), &teacher, &rows);
    }
    let mut adversarial = Adversarial::builder().build::<f64>().unwrap().start(3);
    check_by_logits(&*adversarial, student.clone(), &teacher, &rows);
    for epoch in 1..=5 {
        let signals = |z| Signals::new(NodeId::INPUT, z, &[(1, 0), (4, 2)]).unwrap();
        adversarial
            .observe(&signals(student.view()), &signals(teacher.view()), &rows, epoch)
            .unwrap();
    }
    check_by_logits(&*adversarial, student, &teacher, &rows);
}

#[test]
fn of_the_same_logits_soft_labels_have_nothing_to_say_and_large_ones_do_not_overflow() {
    let z = logits(1, (4, 3)) * 500.0;
    let signals = Signals::new(NodeId::INPUT, z.view(), &[]).unwrap();
    let (value, gradient) = SoftLabels::default().loss(&signals, &signals, &[0, 1, 2, 3]).unwrap();
    assert_eq!(value, 0.0);
    assert!(gradient[0].1.iter().all(|g| *g == 0.0));
    let (value, gradient) = SoftLabels::default().loss(&signals, &signals, &[]).unwrap();
    assert!(value == 0.0 && gradient[0].1.iter().all(|g| *g == 0.0));
}

/// A small graph with features in the form asked for.
fn tiny(features: Value<f64>) -> Dataset<f64> {
    let nodes = features.shape().0;
    let edges = (1..nodes).map(|k| (k, k / 2)).chain([(0, 5), (2, 7)]);
    let graph: Graph<f64> =
        Graph::builder(nodes).edges(edges).undirected(true).build().unwrap().cast();
    let split = gnn_prune::Split { train: vec![0, 1, 2, 3], val: vec![4, 5], test: vec![6, 7, 8] };
    let labels = (0..nodes).map(|k| (k % 3) as u32).collect();
    Dataset::new("tiny", graph, features, labels, Some(3), gnn_prune::data::Splits::Fixed(split))
        .unwrap()
}

fn set(model: &mut Model<f64>, k: usize, at: (usize, usize), step: f64) {
    let mut index = 0;
    model.visit_mut(&mut |param| {
        if index == k {
            param.value_mut()[at] += step;
        }
        index += 1;
    });
}

fn direct(
    student: &Model<f64>,
    teacher: &Model<f64>,
    data: &Dataset<f64>,
    rows: &[u32],
) -> (f64, Grads<f64>) {
    let classes: Vec<u32> = data.classes().unwrap().iter().map(|label| (label + 1) % 3).collect();
    let probe = |model| Probe::new(model, data, rows, &classes).unwrap();
    InputGradients::new().direct(&probe(student), &probe(teacher), rows).unwrap().unwrap()
}

#[test]
fn the_parameter_gradient_of_input_gradients_is_that_of_differences_on_a_smooth_activation() {
    let shape = (9, 5);
    let dense = random_dense::<f64>(3, shape);
    let sparse: Value<f64> = random_sparse::<f64>(3, shape);
    let sprs: &CsMatI<f64, u32, usize> = match &sparse {
        Value::Sparse(x) => x,
        Value::Dense(_) => panic!("features are to be sparse"),
    };
    assert!(sprs.nnz() > 5 && sprs.nnz() < 45);
    let all: Vec<u32> = (0..9).collect();
    for data in [tiny(dense), tiny(sparse)] {
        let teacher = Gcn::builder(5, 3)
            .hidden(6)
            .activation(ActivationFn::Tanh)
            .build(1)
            .unwrap()
            .cast::<f64>()
            .unwrap();
        let gcn = Gcn::builder(5, 3)
            .hidden(4)
            .activation(ActivationFn::Tanh)
            .build(2)
            .unwrap()
            .cast::<f64>()
            .unwrap();
        let mlp = Mlp::builder(5, 3)
            .hidden(4)
            .activation(ActivationFn::Tanh)
            .build(2)
            .unwrap()
            .cast::<f64>()
            .unwrap();
        for mut student in [gcn, mlp] {
            for rows in [all.as_slice(), &[0, 1, 2, 3]] {
                let (value, grads) = direct(&student, &teacher, &data, rows);
                assert!(value > 0.0);
                let mut gradients = Vec::new();
                student.visit(&mut |name, param| {
                    let zero = || Array2::zeros(param.value().dim());
                    gradients.push((
                        name.to_string(),
                        grads.get(param.id()).cloned().unwrap_or_else(zero),
                    ));
                });
                let largest =
                    gradients.iter().flat_map(|(_, g)| g).fold(0.0, |top: f64, g| top.max(g.abs()));
                for (k, (name, gradient)) in gradients.iter().enumerate() {
                    for (at, &found) in gradient.indexed_iter() {
                        let mut moved = |step: f64| {
                            set(&mut student, k, at, step);
                            let value = direct(&student, &teacher, &data, rows).0;
                            set(&mut student, k, at, -step);
                            value
                        };
                        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                        let error = (found - difference).abs();
                        assert!(
                            error < BY_DIFFERENCES * largest,
                            "{name} at {at:?}: {found}, by differences {difference}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn input_gradients_are_compared_in_the_chosen_rows_only_and_vanish_for_the_teacher_itself() {
    let data = tiny(random_dense(3, (9, 5)));
    let teacher = Gcn::builder(5, 3)
        .hidden(6)
        .activation(ActivationFn::Tanh)
        .build(1)
        .unwrap()
        .cast::<f64>()
        .unwrap();
    let student = Mlp::builder(5, 3)
        .hidden(4)
        .activation(ActivationFn::Tanh)
        .build(2)
        .unwrap()
        .cast::<f64>()
        .unwrap();
    assert_eq!(direct(&teacher.clone(), &teacher, &data, &[0, 1]).0, 0.0);
    // An oracle by hand: half the squared difference of the two gradients in the rows.
    let (rows, classes) = ([1u32, 4], vec![0u32; 9]);
    let probe = |model| Probe::new(model, &data, &rows, &classes).unwrap();
    let (student, teacher) = (probe(&student), probe(&teacher));
    let gradient = |probe: &Probe<f64>| probe.input_gradient().unwrap().clone().into_dense();
    let v = gradient(&student) - gradient(&teacher);
    let expected: f64 = rows.iter().map(|&i| v.row(i as usize).mapv(|v| v * v / 2.0).sum()).sum();
    let (value, _) = InputGradients::new().direct(&student, &teacher, &rows).unwrap().unwrap();
    assert!((value - expected).abs() < 1e-12 * expected, "{value}, expected {expected}");
    // The loss itself moves by the gradient: a directional check of `L` with its factor.
    let loss = |x: Array2<f64>| -> f64 {
        let z = teacher.model().infer(&Cx::eval(data.graph()), Value::from(x).view()).unwrap();
        let ce = |i: u32| {
            let row: Array1<f64> = z.row(i as usize).to_owned();
            row.mapv(f64::exp).sum().ln() - row[0]
        };
        rows.iter().map(|&i| ce(i)).sum::<f64>() / 2f64.sqrt()
    };
    let at = |step: f64| {
        let mut x = data.features().to_dense();
        x[[4, 2]] += step;
        loss(x)
    };
    let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    assert!((gradient(&teacher)[[4, 2]] - difference).abs() < EXACT);
}

/// Classes that edges tell of far better than features do.
fn hard_for_mlps() -> Dataset {
    Dataset::sbm(900, 3)
        .degree(12.0)
        .homophily(0.9)
        .features(48)
        .signal(2.0)
        .per_class(10, 20)
        .seed(4)
        .build()
        .unwrap()
}

fn teacher(data: &Dataset, seed: u64) -> Model {
    let model =
        Gcn::builder(data.num_features(), data.num_classes()).hidden(32).build(seed).unwrap();
    Trainer::builder().epochs(80).build().unwrap().fit(model, data).unwrap()
}

#[test]
fn a_distilled_mlp_beats_a_plain_one_and_needs_no_graph() -> Result<()> {
    let data = hard_for_mlps();
    let teacher = teacher(&data, 0);
    let mlp = Mlp::builder(data.num_features(), data.num_classes()).hidden(32).build(0)?;
    let plain = Trainer::builder().epochs(80).build()?.fit(mlp.clone(), &data)?;
    let distilled = Distiller::builder(SoftLabels::default())
        .epochs(80)
        .build()?
        .distill(mlp, &teacher, &data)?;
    let [teacher, plain, student] =
        [&teacher, &plain, &distilled].map(|model| evaluate(model, &data, Part::Test).unwrap());
    assert!(student > plain + 4.0, "teacher {teacher} %, plain {plain} %, distilled {student} %");
    let without = distilled.infer(&Cx::without_graph(), data.features())?;
    assert_eq!(without, distilled.infer(&Cx::eval(data.graph()), data.features())?);
    Ok(())
}

#[test]
fn every_loss_teaches_a_narrower_network_and_heals_a_model() -> Result<()> {
    let data = hard_for_mlps();
    let teacher = teacher(&data, 0);
    let builders: [DistillerBuilder; 4] = [
        Distiller::builder(SoftLabels::new(2.0)?).labels(0.5).nodes(Nodes::Labelled),
        Distiller::builder(SoftLabels::default()).also(0.1, InputGradients::new()),
        Distiller::builder(SoftLabels::default()).also(1.0, Adversarial::builder().build()?),
        Distiller::builder(SoftLabels::default()).keep_start(true),
    ];
    for (k, builder) in builders.into_iter().enumerate() {
        let student = if k == 3 {
            teacher.clone()
        } else {
            Gcn::builder(data.num_features(), 3).hidden(4).build(0)?
        };
        let student = builder.epochs(60).build()?.distill(student, &teacher, &data)?;
        let (own, of_teacher) =
            (evaluate(&student, &data, Part::Test)?, evaluate(&teacher, &data, Part::Test)?);
        assert!(own > of_teacher - 6.0, "row {k}: {own} %, the teacher {of_teacher} %");
    }
    Ok(())
}

fn bits(model: &Model) -> Vec<u32> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| all.extend(param.value().iter().map(|w| w.to_bits())));
    all
}

#[test]
fn distillation_has_the_same_bits_on_any_number_of_threads_and_in_every_run() {
    let data = Dataset::sbm(1500, 3).seed(1).build().unwrap();
    let teacher = teacher(&data, 0);
    let distiller = Distiller::builder(SoftLabels::new(2.0).unwrap())
        .also(0.1, InputGradients::new())
        .also(0.5, Adversarial::builder().build().unwrap())
        .labels(0.3)
        .epochs(6)
        .build()
        .unwrap();
    for student in [
        Mlp::builder(data.num_features(), 3).hidden(16).build(0).unwrap(),
        Gcn::builder(data.num_features(), 3).hidden(8).build(0).unwrap(),
    ] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&distiller.distill(student.clone(), &teacher, &data).unwrap()))
        };
        let expected = run(1);
        [1, 2, 3, 7].into_iter().for_each(|threads| {
            assert!(run(threads) == expected, "{threads} threads give other bits")
        });
    }
}

#[test]
fn what_does_not_belong_together_is_refused_and_both_sides_are_named() {
    let data = Dataset::sbm(300, 3).features(8).seed(2).build().unwrap();
    let distiller = Distiller::builder(SoftLabels::default()).epochs(2).build().unwrap();
    let gcn =
        |features, classes, seed| Gcn::builder(features, classes).hidden(4).build(seed).unwrap();
    let refused = |student: Model, teacher: &Model, words: &[&str]| {
        let error = distiller.distill(student, teacher, &data).unwrap_err();
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        error
    };
    let teacher = gcn(8, 3, 0);
    assert!(matches!(
        refused(gcn(8, 5, 0), &teacher, &["student has 5 classes", "teacher 3"]),
        Error::StudentAndTeacher { .. }
    ));
    refused(gcn(6, 3, 0), &teacher, &["student has 6 features", "teacher 8"]);
    refused(gcn(8, 5, 0), &gcn(8, 5, 0), &["has 3 classes", "teacher 5"]);
    refused(gcn(6, 3, 0), &gcn(6, 3, 0), &["has 8 features", "teacher 6"]);
    // Labels that the student must not see would reach it through a teacher that has.
    refused(gcn(8, 3, 1), &teacher, &["seed 1", "seed 0"]);
    let other = Dataset::sbm(600, 3).features(8).seed(2).build().unwrap();
    let elsewhere =
        Trainer::builder().epochs(1).build().unwrap().fit(gcn(8, 3, 0), &other).unwrap();
    refused(gcn(8, 3, 0), &elsewhere, &["has 300 nodes", "600 nodes"]);
    let mut broken = gcn(8, 3, 0);
    broken.visit_mut(&mut |param| param.value_mut().fill(f32::NAN));
    assert!(matches!(
        refused(gcn(8, 3, 0), &broken, &["teacher's output for node 0"]),
        Error::NotFinite { .. }
    ));
}

#[test]
fn losses_refuse_signals_of_other_sizes_and_both_sides_are_named() {
    let (seven, five, fewer) = (logits(1, (6, 7)), logits(2, (6, 5)), logits(3, (4, 7)));
    fn signals(z: &Array2<f64>) -> Signals<'_, f64> {
        Signals::new(NodeId::INPUT, z.view(), &[]).unwrap()
    }
    let losses: [&dyn DistillLoss<f64>; 2] =
        [&SoftLabels::default(), &Adversarial::builder().build::<f64>().unwrap()];
    for loss in losses {
        let message = |teacher: &Array2<f64>, rows: &[u32]| {
            loss.loss(&signals(&seven), &signals(teacher), rows).unwrap_err().to_string()
        };
        assert!(
            message(&five, &[0]).contains("7 classes") && message(&five, &[0]).contains("of 5")
        );
        assert!(
            message(&fewer, &[0]).contains("6 nodes") && message(&fewer, &[0]).contains("of 4")
        );
        assert!(message(&seven, &[6]).contains("index 6"));
    }
    assert!(Signals::new(NodeId::INPUT, seven.view(), &[(0, 7)]).is_err());
}

#[test]
fn settings_outside_their_range_are_refused() {
    let builder = || Distiller::builder(SoftLabels::default());
    let refused: [DistillerBuilder; 6] = [
        builder().labels(1.0),
        builder().labels(f64::NAN),
        builder().also(-1.0, InputGradients::new()),
        builder().epochs(0),
        builder().learning_rate(0.0),
        builder().patience(0),
    ];
    refused
        .into_iter()
        .for_each(|builder| assert!(matches!(builder.build().err(), Some(Error::Setting { .. }))));
    assert!(SoftLabels::new(f64::INFINITY).is_err());
    assert!(Adversarial::builder().every(0).build::<f32>().is_err());
    assert!(Adversarial::builder().learning_rate(-1.0).build::<f32>().is_err());
}

/// Seed, epoch, number of rows, number of labels.
type Call = (u64, usize, usize, usize);

/// Records what it is called with.
struct Recorder {
    log: Arc<Mutex<Vec<Call>>>,
    seed: u64,
}

impl DistillLoss<f32> for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }
    fn start(&self, seed: u64) -> Box<dyn DistillLoss<f32>> {
        Box::new(Recorder { log: Arc::clone(&self.log), seed })
    }
    fn loss(
        &self,
        student: &Signals<f32>,
        _: &Signals<f32>,
        _: &[u32],
    ) -> Result<(f32, NodeGrads<f32>)> {
        Ok((0.0, vec![(student.output(), Array2::zeros(student.logits().dim()))]))
    }
    fn observe(
        &mut self,
        student: &Signals<f32>,
        teacher: &Signals<f32>,
        rows: &[u32],
        epoch: usize,
    ) -> Result<()> {
        assert_eq!(student.labeled(), teacher.labeled());
        self.log.lock().unwrap().push((self.seed, epoch, rows.len(), student.labeled().len()));
        Ok(())
    }
}

#[test]
fn a_loss_of_ones_own_sees_every_epoch_its_rows_and_the_training_labels_only() -> Result<()> {
    let data = Dataset::sbm(300, 3).features(8).per_class(5, 5).seed(2).build()?;
    let teacher = Gcn::builder(8, 3).hidden(4).build(7)?;
    for (nodes, rows) in [(Nodes::All, 300), (Nodes::Labelled, 15)] {
        let log = Arc::default();
        let distiller = Distiller::builder(Recorder { log: Arc::clone(&log), seed: 99 })
            .nodes(nodes)
            .epochs(3)
            .build()?;
        distiller.distill(teacher.fresh(7), &teacher, &data)?;
        assert_eq!(
            *log.lock().unwrap(),
            (1..=3).map(|epoch| (7, epoch, rows, 15)).collect::<Vec<_>>()
        );
    }
    Ok(())
}

#[test]
fn without_losses_that_pull_only_the_labels_train() -> Result<()> {
    let data = Dataset::sbm(300, 3).features(8).seed(2).build()?;
    let student = Gcn::builder(8, 3).hidden(4).build(0)?;
    let silent = Recorder { log: Arc::default(), seed: 0 };
    let distiller = Distiller::builder(silent).labels(0.5).epochs(1).build()?;
    let distilled = distiller.distill(student.clone(), &student, &data)?;
    // One step of Adam does not depend on the size of the gradient but through its ε.
    let plain = Trainer::builder().epochs(1).weight_decay(0.0).build()?.fit(student, &data)?;
    let values = |model: &Model| {
        let mut all = Vec::new();
        model.visit(&mut |_, param| all.extend(param.value().iter().copied()));
        all
    };
    assert!(values(&distilled).iter().zip(values(&plain)).all(|(a, b)| (a - b).abs() < 1e-4));
    Ok(())
}

#[test]
fn a_student_drawn_from_another_seed_may_share_its_teachers_split() {
    let data = Dataset::sbm(200, 2).features(6).build().unwrap();
    let form = |seed| Gcn::builder(6, 2).hidden(4).layers(2).build(seed).unwrap();
    let teacher = Trainer::builder().epochs(5).build().unwrap().fit(form(1), &data).unwrap();
    let distiller = Distiller::builder(SoftLabels::default()).epochs(3).build().unwrap();
    let message = distiller.distill(form(2), &teacher, &data).unwrap_err().to_string();
    assert!(
        message.contains("seed 2") && message.contains("seed 1") && message.contains("following"),
        "{message}"
    );
    let same = distiller.distill(form(1), &teacher, &data).unwrap();
    let other = distiller.distill(form(2).following(1), &teacher, &data).unwrap();
    assert_eq!((other.seed(), same.seed()), (1, 1));
    let logits = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
    assert_ne!(logits(&other), logits(&same), "they began elsewhere");
}
