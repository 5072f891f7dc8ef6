//! Training does what PyTorch does, and the trainer keeps to its protocol.

use gnn_prune::ndarray::{Array2, ArrayView2, Axis};
use gnn_prune::nn::{Cx, Mode};
use gnn_prune::task::{Part, cross_entropy, evaluate};
use gnn_prune::train::{self, Adam, Epoch, Setup};
use gnn_prune::{Dataset, Error, Gcn, Graph, Model, Scalar, Trainer};
use safetensors::SafeTensors;
use std::sync::{Arc, Mutex};

/// A fixture's f32 arithmetic is ordered differently; ten steps of Adam let that grow to about
/// 1e-6.
const TOLERANCE: f64 = 1e-4;

/// Ten steps by PyTorch and PyTorch Geometric.
struct Fixture {
    bytes: Vec<u8>,
}

impl Fixture {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/training/gcn.safetensors");
        Self { bytes: std::fs::read(path).unwrap() }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    /// The words of the case, in PyTorch Geometric's names.
    fn case(&self) -> serde_json::Value {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).unwrap();
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["case"]).unwrap()
    }

    /// A matrix; a vector is one row.
    fn matrix<F: Scalar>(&self, name: &str) -> Array2<F> {
        let file = self.file();
        let tensor = file.tensor(name).unwrap();
        let shape = match *tensor.shape() {
            [rows, cols] => (rows, cols),
            [len] => (1, len),
            ref other => panic!("{name} has shape {other:?}"),
        };
        let values = f32::read_le(tensor.data()).into_iter().map(|v| F::of(f64::from(v))).collect();
        Array2::from_shape_vec(shape, values).unwrap()
    }

    /// A parameter by our name: `conv1.weight` is `convs.0.lin.weight` transposed.
    fn parameter<F: Scalar>(&self, group: &str, name: &str) -> Array2<F> {
        let (node, local) = name.split_once('.').unwrap();
        let index = node.strip_prefix("conv").unwrap().parse::<usize>().unwrap() - 1;
        match local {
            "weight" => self.matrix(&format!("{group}/convs.{index}.lin.weight")).reversed_axes(),
            local => self.matrix(&format!("{group}/convs.{index}.{local}")),
        }
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let file = self.file();
        file.tensor(name)
            .unwrap()
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|chunk| i64::from_le_bytes(*chunk))
            .collect()
    }

    fn graph<F: Scalar>(&self, nodes: usize) -> Graph<F> {
        let edges = self.integers("edge_index");
        let (sources, targets) = edges.split_at(edges.len() / 2);
        let edges = sources
            .iter()
            .zip(targets)
            .map(|(&source, &target)| (source as usize, target as usize));
        Graph::builder(nodes).edges(edges).build().unwrap().cast()
    }

    fn model<F: Scalar>(&self) -> Model<F> {
        let args = &self.case()["args"];
        let arg = |name: &str| args[name].as_u64().unwrap() as usize;
        let builder = Gcn::builder(arg("in_channels"), arg("out_channels"))
            .hidden(arg("hidden_channels"))
            .layers(arg("num_layers"));
        let mut model = builder
            .dropout(args["dropout"].as_f64().unwrap())
            .build(0)
            .unwrap()
            .cast::<F>()
            .unwrap();
        let mut names = Vec::new();
        model.visit(&mut |name, _| names.push(name.to_string()));
        let mut names = names.into_iter();
        model.visit_mut(&mut |param| {
            param.value_mut().assign(&self.parameter("param", &names.next().unwrap()))
        });
        model
    }
}

fn assert_near<F: Scalar>(what: &str, found: ArrayView2<F>, expected: ArrayView2<F>) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.as_f64(), expected.as_f64());
        assert!(
            (found - expected).abs() <= TOLERANCE * (1.0 + expected.abs()),
            "{what}: {found}, PyTorch has {expected}"
        );
    }
}

fn ten_steps_match<F: Scalar>() {
    let fixture = Fixture::read();
    let x = fixture.matrix::<F>("x");
    let graph = fixture.graph::<F>(x.nrows());
    let labels: Vec<u32> = fixture.integers("y").into_iter().map(|label| label as u32).collect();
    let mask = fixture.file().tensor("train_mask").unwrap().data().to_vec();
    let rows: Vec<u32> =
        (0u32..).zip(mask).filter(|(_, trains)| *trains != 0).map(|(node, _)| node).collect();
    let optimizer = &fixture.case()["optimizer"];
    assert_eq!(optimizer["name"], "Adam");
    let setting = |name: &str| optimizer[name].as_f64().unwrap();
    let mut adam = Adam::builder()
        .learning_rate(setting("lr"))
        .weight_decay(setting("weight_decay"))
        .build::<F>()
        .unwrap();
    let mut model = fixture.model::<F>();
    let x = gnn_prune::Value::from(x);
    let losses = fixture.matrix::<f64>("losses");
    assert_eq!(losses.len(), 10);
    for (step, &expected) in losses.iter().enumerate() {
        let cx = Cx::eval(&graph).with_mode(Mode::Train { seed: 0, step: step as u64 });
        let trace = model.trace(&cx, x.view()).unwrap();
        let (loss, gradient) = cross_entropy(trace.output(), &labels, &rows);
        assert!(
            (loss.as_f64() - expected).abs() <= TOLERANCE,
            "step {step}: loss {loss}, PyTorch has {expected}"
        );
        let grads = model.backward(&cx, trace, &[(model.output(), gradient)]).unwrap();
        train::step(&mut adam, &mut model, &grads, 1.0);
    }
    model.visit(&mut |name, param| {
        assert_near(name, param.value().view(), fixture.parameter::<F>("after", name).view())
    });
    let logits = model.infer(&Cx::eval(&graph), x.view()).unwrap();
    assert_near("logits", logits.view(), fixture.matrix::<F>("logits").view());
}

#[test]
fn ten_steps_of_adam_are_pytorchs_in_single_precision() {
    ten_steps_match::<f32>();
}

#[test]
fn ten_steps_of_adam_are_pytorchs_in_double_precision() {
    ten_steps_match::<f64>();
}

#[test]
fn the_loss_falls_and_the_digits_are_learned() {
    let data = Dataset::digits().unwrap();
    let model = Gcn::builder(data.num_features(), data.num_classes())
        .hidden(32)
        .dropout(0.0)
        .build(1)
        .unwrap();
    let untrained = evaluate(&model, &data, Part::Test).unwrap();
    let fit = Trainer::builder()
        .epochs(40)
        .build()
        .unwrap()
        .fit_with(model, &data, Setup::new())
        .unwrap();
    // Full batch and no dropout: a small step down the gradient lowers the loss, only Adam's
    // momentum may overshoot a little.
    assert!(
        fit.losses.windows(2).filter(|pair| pair[1] < pair[0]).count() >= 35,
        "{:?}",
        fit.losses
    );
    assert!(fit.losses[39] < 0.25 * fit.losses[0], "{:?}", fit.losses);
    let accuracy = evaluate(&fit.model, &data, Part::Test).unwrap();
    assert!(
        accuracy > 80.0 && accuracy > untrained + 40.0,
        "{untrained} % before, {accuracy} % after"
    );
}

/// A small data set and a network for it.
fn small() -> (Dataset, Model) {
    let data = Dataset::sbm(300, 3).features(8).seed(2).build().unwrap();
    let model = Gcn::builder(8, 3).hidden(8).dropout(0.3).build(1).unwrap();
    (data, model)
}

fn params(model: &Model) -> Vec<Array2<f32>> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| all.push(param.value().clone()));
    all
}

#[test]
fn training_stops_after_patience_epochs_without_a_better_one() {
    let (data, model) = small();
    // Steps so small that no prediction changes.
    let still = Trainer::builder().learning_rate(1e-30).epochs(50).patience(4);
    let fit = still.clone().build().unwrap().fit_with(model.clone(), &data, Setup::new()).unwrap();
    assert_eq!((fit.best_epoch, fit.losses.len()), (1, 5));
    let fit = still
        .keep_start(true)
        .build()
        .unwrap()
        .fit_with(model.clone(), &data, Setup::new())
        .unwrap();
    assert_eq!((fit.best_epoch, fit.losses.len()), (0, 4));
    assert_eq!(params(&fit.model), params(&model), "the model as it came is the best");
}

#[test]
fn the_first_strictly_best_epoch_is_kept() {
    let (data, model) = small();
    let heard = Arc::new(Mutex::new(Vec::<Epoch>::new()));
    let listener = Arc::clone(&heard);
    let trainer = Trainer::builder()
        .epochs(60)
        .patience(60)
        .on_epoch(move |epoch| listener.lock().unwrap().push(epoch));
    let fit = trainer.build().unwrap().fit_with(model.clone(), &data, Setup::new()).unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(),
        (1..=60).collect::<Vec<_>>()
    );
    assert_eq!(heard.iter().map(|epoch| epoch.loss).collect::<Vec<_>>(), fit.losses);
    let best = heard.iter().map(|epoch| epoch.validation).fold(f64::NEG_INFINITY, f64::max);
    let ties = heard.iter().filter(|epoch| epoch.validation == best).count();
    assert!(
        ties > 1,
        "the data are such that the best metric comes more than once, so that first means something"
    );
    assert_eq!(fit.best_epoch, heard.iter().find(|epoch| epoch.validation == best).unwrap().epoch);
    assert_eq!(fit.validation, best);
    assert_eq!(evaluate(&fit.model, &data, Part::Validation).unwrap(), best);
    // Training that ends there arrives at the same model.
    let shorter =
        Trainer::builder().epochs(fit.best_epoch).build().unwrap().fit(model, &data).unwrap();
    assert_eq!(params(&shorter), params(&fit.model));
}

#[test]
fn divergence_is_an_error_that_names_the_epoch() {
    let (data, model) = small();
    let error =
        Trainer::builder().learning_rate(1e30).build().unwrap().fit(model, &data).unwrap_err();
    assert!(matches!(error, Error::Diverged { epoch: 2, loss } if !loss.is_finite()), "{error}");
    assert!(
        error.to_string().contains("epoch 2")
            && error.to_string().contains("smaller learning rate"),
        "{error}"
    );
}

#[test]
fn dropout_draws_anew_at_each_step_of_training_and_never_in_evaluation() {
    let (data, model) = small();
    let plain = Gcn::builder(8, 3).hidden(8).dropout(0.0).build(0).unwrap();
    let mut same_weights = params(&model).into_iter();
    let mut undropped = plain;
    undropped.visit_mut(&mut |param| *param.value_mut() = same_weights.next().unwrap());
    let cx = Cx::eval(data.graph());
    let expected = undropped.infer(&cx, data.features()).unwrap();
    assert_eq!(model.infer(&cx, data.features()).unwrap(), expected);
    let train = |seed, step| {
        model.infer(&cx.with_mode(Mode::Train { seed, step }), data.features()).unwrap()
    };
    assert_eq!(train(1, 1), train(1, 1));
    let drawn = [train(1, 1), train(1, 2), train(2, 1), expected.clone()];
    for (k, a) in drawn.iter().enumerate() {
        assert!(drawn[k + 1..].iter().all(|b| a != b));
    }
    // Without the nonlinearity between them the mean over many steps would be the evaluation
    // exactly; here it is near.
    let steps = 200;
    let mean = (0..steps)
        .fold(Array2::zeros(expected.dim()), |sum: Array2<f32>, step| sum + train(3, step))
        / steps as f32;
    let (error, size) = ((&mean - &expected).mapv(f32::abs).sum(), expected.mapv(f32::abs).sum());
    assert!(error < 0.2 * size, "the mean is off by {error} of {size}");
}

#[test]
fn masked_entries_stay_zero_through_training() {
    let (data, mut model) = small();
    model.visit_mut(&mut |param| {
        let mask = Array2::from_shape_fn(param.value().dim(), |(i, j)| (i + 2 * j) % 3 != 0);
        param.restrict(&mask);
    });
    let trained = Trainer::builder().epochs(10).build().unwrap().fit(model, &data).unwrap();
    let mut moved = 0;
    trained.visit(&mut |name, param| {
        let mask = param.mask().unwrap();
        assert!(param.value().indexed_iter().all(|(at, w)| mask[at] || *w == 0.0), "{name}");
        moved += param.value().sum_axis(Axis(0)).iter().filter(|w| **w != 0.0).count();
    });
    assert!(moved > 0);
}

#[test]
fn frozen_parameters_keep_their_bits() {
    let (data, mut model) = small();
    let mut index = 0;
    model.visit_mut(&mut |param| {
        param.set_trainable(index != 0);
        index += 1;
    });
    let before = params(&model);
    let trained = params(&Trainer::builder().epochs(5).build().unwrap().fit(model, &data).unwrap());
    assert_eq!(trained[0], before[0]);
    assert!(trained[1..].iter().zip(&before[1..]).all(|(a, b)| a != b));
}
