//! Activations are calibrated by what the network puts out: never worse than by the largest
//! magnitude, on any number of threads, and not for the sake of a few hubs.

use gnn_prune::data::Splits;
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::Cx;
use gnn_prune::quant::{Calibration, Forms, QuantStage, QuantizerBuilder};
use gnn_prune::task::{NodeTask, accuracy};
use gnn_prune::{
    Bits, Dataset, Gcn, Gin, Graph, Model, QuantModel, Quantizer, Sage, Split, Trainer,
};

const CLASSES: usize = 4;

/// A graph of communities, and two nodes that most others lead to, whose sums over neighbours are
/// fifty times those of the others.
fn hubs(nodes: usize, seed: u64) -> Dataset {
    let plain = Dataset::sbm(nodes, CLASSES)
        .features(12)
        .degree(6.0)
        .homophily(0.8)
        .seed(seed)
        .build()
        .unwrap();
    let adjacency = plain.graph().adjacency();
    let edges = adjacency.iter().map(|(_, (target, source))| (source as usize, target as usize));
    let to_hubs = (2..nodes).filter(|i| i % 10 != 0).map(|i| (i, i % 2));
    let graph = Graph::builder(nodes).edges(edges.chain(to_hubs)).build().unwrap();
    let (x, split) = (plain.features().to_dense().to_owned(), plain.split(seed));
    let split = Split { train: split.train, val: split.val, test: split.test };
    Dataset::new(
        "hubs",
        graph,
        x.into(),
        plain.classes().unwrap().to_vec(),
        Some(CLASSES),
        Splits::Fixed(split),
    )
    .unwrap()
}

fn run(small: &QuantModel, data: &Dataset) -> Array2<f32> {
    let mut program = small.compile_as(data.graph(), data.features(), Forms::Integers).unwrap();
    program.run(data.features()).unwrap().to_owned()
}

fn probabilities(logits: ArrayView2<f32>) -> Array2<f64> {
    let mut p = logits.mapv(f64::from);
    for mut row in p.rows_mut() {
        let top = row.fold(f64::NEG_INFINITY, |top, &z| top.max(z));
        row.mapv_inplace(|z| (z - top).exp());
        let sum = row.sum();
        row /= sum;
    }
    p
}

/// Squared error of the probabilities against the float model's, per node.
fn error(small: &QuantModel, model: &Model, data: &Dataset) -> f64 {
    let wanted =
        probabilities(model.infer(&Cx::eval(data.graph()), data.features()).unwrap().view());
    (probabilities(run(small, data).view()) - wanted).mapv(|d| d * d).sum()
        / data.num_nodes() as f64
}

fn quantised(builder: QuantizerBuilder, model: &Model, data: &Dataset) -> QuantModel {
    builder.build().unwrap().quantize(model, data).unwrap()
}

fn chosen(small: &QuantModel) -> Vec<Calibration> {
    small
        .input_calibration()
        .into_iter()
        .chain(small.stages().iter().filter_map(QuantStage::calibration))
        .collect()
}

#[test]
fn a_few_hubs_do_not_set_the_steps_of_all_other_nodes() {
    let (mut float, mut by_max, mut by_outputs) = (0.0, 0.0, 0.0);
    for seed in 0..3 {
        let data = hubs(500, seed);
        let model = Gin::builder(12, CLASSES).hidden(16).build(seed).unwrap();
        let model = Trainer::builder().epochs(40).build().unwrap().fit(model, &data).unwrap();
        let test = data.split(seed).test;
        let percent = |logits: ArrayView2<f32>| NodeTask::of(&data).measured_on(logits, &test);
        let four = Quantizer::builder(Bits::Eight).activation_bits(Bits::Four);
        float += percent(model.infer(&Cx::eval(data.graph()), data.features()).unwrap().view());
        by_max += percent(
            run(&quantised(four.clone().calibration(Calibration::MinMax), &model, &data), &data)
                .view(),
        );
        let small = quantised(four, &model, &data);
        by_outputs += percent(run(&small, &data).view());
        assert!(
            chosen(&small).iter().any(|calibration| *calibration != Calibration::MinMax),
            "{small}"
        );
    }
    let (float, by_max, by_outputs) = (float / 3.0, by_max / 3.0, by_outputs / 3.0);
    assert!(
        by_max < float - 15.0,
        "the hubs do no harm: {float} as floats, {by_max} by the largest magnitude"
    );
    assert!(
        by_outputs > by_max + 0.6 * (float - by_max),
        "{float} as floats, {by_max} by the largest magnitude, {by_outputs} by the outputs"
    );
}

#[test]
fn what_is_chosen_is_never_worse_than_the_largest_magnitude_on_the_data() {
    let mut better = 0;
    for seed in 0..2 {
        let data = if seed % 2 == 0 {
            hubs(240, seed)
        } else {
            Dataset::sbm(240, CLASSES).features(12).seed(seed).build().unwrap()
        };
        let models = [
            Gin::builder(12, CLASSES).hidden(10).build(seed).unwrap(),
            Gcn::builder(12, CLASSES)
                .hidden(16)
                .layers(3)
                .residual(true)
                .jumping(gnn_prune::models::Jumping::Concat)
                .build(seed)
                .unwrap(),
            Sage::builder(12, CLASSES).hidden(8).build(seed).unwrap(),
        ];
        for model in models {
            for (weights, activations) in
                [(Bits::Eight, Bits::Eight), (Bits::Four, Bits::Eight), (Bits::Four, Bits::Four)]
            {
                let builder = Quantizer::builder(weights).activation_bits(activations);
                let by_outputs = error(&quantised(builder.clone(), &model, &data), &model, &data);
                let by_max = error(
                    &quantised(builder.calibration(Calibration::MinMax), &model, &data),
                    &model,
                    &data,
                );
                // Both are sums of the same squares; here they are added in another order.
                assert!(
                    by_outputs <= by_max * (1.0 + 1e-9),
                    "{by_outputs} by the outputs, {by_max} by the largest magnitude\n{model}"
                );
                better += usize::from(by_outputs < 0.9 * by_max);
            }
        }
    }
    assert!(better >= 5, "{better} of 18 became better");
}

#[test]
fn a_calibration_that_is_set_is_the_one_of_every_stage() {
    let data = hubs(240, 1);
    let model = Gin::builder(12, CLASSES).hidden(10).build(1).unwrap();
    for calibration in [Calibration::MinMax, Calibration::Percentile(98.0)] {
        let builder = Quantizer::builder(Bits::Eight).calibration(calibration);
        assert_eq!(builder.clone().build().unwrap().calibration(), Some(calibration));
        let small = quantised(builder, &model, &data);
        let scales = small.stages().len() - 1 + usize::from(small.input_scales().is_some());
        assert_eq!(
            chosen(&small),
            vec![calibration; scales],
            "all stages but the last, and the input where it is joined"
        );
        assert!(small.to_string().contains(&format!(" by {calibration}\n")), "{small}");
    }
    assert_eq!(Quantizer::builder(Bits::Eight).build().unwrap().calibration(), None);
}

#[test]
fn what_is_chosen_does_not_depend_on_the_number_of_threads() {
    let data = hubs(1200, 2);
    let model = Gin::builder(12, CLASSES).hidden(10).build(2).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            quantised(Quantizer::builder(Bits::Eight).activation_bits(Bits::Four), &model, &data)
        })
        .to_bytes()
        .unwrap()
    };
    assert!([2, 3, 7].into_iter().all(|threads| on(threads) == on(1)));
}

#[test]
fn training_on_the_grid_converts_with_the_calibrations_that_it_trained_with() {
    let data = hubs(300, 3);
    let model = Gin::builder(12, CLASSES).hidden(10).build(3).unwrap();
    let model = Trainer::builder().epochs(30).build().unwrap().fit(model, &data).unwrap();
    let builder = Quantizer::builder(Bits::Four).activation_bits(Bits::Four);
    let (start, trained) =
        (quantised(builder.clone(), &model, &data), quantised(builder.qat(8), &model, &data));
    assert_ne!(run(&start, &data), run(&trained, &data), "nothing was trained");
    assert_eq!(chosen(&start), chosen(&trained));
    let test = data.split(3).test;
    assert!(
        accuracy(run(&trained, &data).view(), data.classes().unwrap(), &test)
            > 100.0 / CLASSES as f64
    );
}
