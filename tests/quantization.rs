//! Integers mean what the formula says: accumulators exactly, requantisation bit for bit, files to
//! the bit.

use gnn_prune::__kernels::{Isa, reference};
use gnn_prune::data::Splits;
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::{
    ActivationFn, Add, Appnp, Cx, Gcn2Conv, GinAggregation, Layer, LgConv, Linear, ModelBuilder,
    NodeId, Pooling, Rows,
};
use gnn_prune::quant::{Calibration, FakeQuant, Form, Forms, Granularity, QuantOp, Rounding};
use gnn_prune::task::{NodeTask, Part, evaluate};
use gnn_prune::{
    Bits, Dataset, Error, Gcn, Graph, Mlp, Model, QuantModel, Quantizer, Sage, Split, Trainer,
    Value, ValueRef,
};
use safetensors::SafeTensors;

/// What fixtures of PyTorch agree within, absolute and relative.
const FIXTURE: f32 = 1e-4;

/// Mean error of 8-bit logits over the largest logit, on random weights. A value between stages is
/// off by a quarter of a step of `max/127` in the mean, weights and operator by as much relative to
/// theirs, and a model of three layers has about ten such places.
pub(crate) const LOGIT_ERROR: f32 = 0.02;

fn data(seed: u64) -> Dataset {
    Dataset::sbm(180, 3).features(12).degree(6.0).seed(seed).build().unwrap()
}

/// The same data with most features dropped, in sparse form.
fn sparse(data: &Dataset) -> Dataset {
    let dense = data.features().to_dense();
    let mut entries = gnn_prune::sprs::TriMatI::<f32, u32>::new(dense.dim());
    dense
        .indexed_iter()
        .filter(|((i, j), _)| (i * 7 + j * 3) % 4 == 0 && i % 11 != 0)
        .for_each(|((i, j), &v)| entries.add_triplet(i, j, v));
    let csr: gnn_prune::sprs::CsMatI<f32, u32, usize> = entries.to_csr();
    let split = data.split(0);
    let features: Value<f32> = csr.into();
    Dataset::new(
        "sparse",
        data.graph().clone(),
        features,
        data.classes().unwrap().to_vec(),
        None,
        Splits::Fixed(split),
    )
    .unwrap()
}

/// Models with every kind of stage on dense and sparse features: product first and aggregation
/// first, joins, activations.
fn subjects() -> Vec<(Model, Dataset)> {
    let dense = data(1);
    let sparse = sparse(&dense);
    let (i, o) = (dense.num_features(), dense.num_classes());
    let deep = |act| {
        Gcn::builder(i, o)
            .hidden(21)
            .layers(3)
            .residual(true)
            .jumping(gnn_prune::models::Jumping::Concat)
            .activation(act)
            .build(2)
            .unwrap()
    };
    let mut subjects = vec![
        (Gcn::builder(i, o).hidden(8).build(1).unwrap(), dense.clone()),
        (Gcn::builder(i, o).hidden(70).build(1).unwrap(), sparse.clone()),
        (deep(ActivationFn::Relu), dense.clone()),
        (Sage::builder(i, o).hidden(20).layers(3).build(3).unwrap(), dense.clone()),
        (deep(ActivationFn::Tanh), sparse),
        (
            Mlp::builder(i, o).hidden(33).activation(ActivationFn::Elu).build(4).unwrap(),
            dense.clone(),
        ),
        // Joins wider than one tile.
        (Sage::builder(i, o).hidden(300).build(5).unwrap(), dense.clone()),
        (weighted(i, o), dense),
    ];
    for (k, (model, _)) in subjects.iter_mut().enumerate() {
        model.visit_mut(&mut |param| {
            if param.name().starts_with("bias") {
                *param.value_mut() = Array2::from_shape_fn(param.value().dim(), |(_, c)| {
                    ((c * 7 + k) % 11) as f32 / 20.0 - 0.2
                });
            }
        });
    }
    subjects
}

/// Networks whose first layer aggregates what it reads, with a product after it.
fn aggregating(inputs: usize, classes: usize) -> Vec<Model> {
    fn first(layer: impl Layer<f32>, of_two: bool, inputs: usize, classes: usize) -> Model {
        let mut b = ModelBuilder::<f32>::new(inputs);
        let read = [NodeId::INPUT; 2];
        let moved = b.add("first", layer, &read[..if of_two { 2 } else { 1 }]).unwrap();
        let both = b.add("both", Add::new(2).unwrap(), &[moved, NodeId::INPUT]).unwrap();
        let out = b
            .add("out", Linear::builder(inputs, classes).build::<f32>().unwrap(), &[both])
            .unwrap();
        b.build(out, 8).unwrap()
    }
    vec![
        first(GinAggregation::new(0.3).unwrap(), false, inputs, classes),
        first(Appnp::new(3, 0.2).unwrap(), false, inputs, classes),
        first(LgConv::new(), false, inputs, classes),
        first(Gcn2Conv::new(inputs, 0.1, 0.4).unwrap(), true, inputs, classes),
    ]
}

/// A sum with coefficients of the input and of products of it, and a plain sum of two products.
fn weighted(inputs: usize, classes: usize) -> Model {
    let mut b = ModelBuilder::<f32>::new(inputs);
    let linear = |b: &mut ModelBuilder<f32>, name: &str, out: usize, x| {
        b.add(name, Linear::builder(b.channels(x), out).build::<f32>().unwrap(), &[x]).unwrap()
    };
    let one = linear(&mut b, "one", inputs, NodeId::INPUT);
    let sum = b
        .add("sum", Add::with_coefficients(vec![0.25, -1.5]).unwrap(), &[NodeId::INPUT, one])
        .unwrap();
    let (two, three) = (linear(&mut b, "two", classes, sum), linear(&mut b, "three", classes, sum));
    let out = b.add("out", Add::new(2).unwrap(), &[two, three]).unwrap();
    b.build(out, 6).unwrap()
}

#[test]
fn what_is_counted_of_a_quantised_model_is_what_it_has() {
    let data = data(1);
    let (n, i, o) =
        (data.num_nodes() as u64, data.num_features() as u64, data.num_classes() as u64);
    let model = Mlp::builder(i as usize, o as usize).hidden(5).build(1).unwrap();
    let small = Quantizer::builder(Bits::Eight)
        .rounding(Rounding::Nearest)
        .build()
        .unwrap()
        .quantize(&model, &data)
        .unwrap();
    assert_eq!(small.num_params() as u64, i * 5 + 5 + 5 * o + o);
    // Biases are zero where nothing was trained.
    let ints = |stage: &gnn_prune::quant::QuantStage| match stage.op() {
        QuantOp::Linear(weight) => weight.ints().iter().filter(|q| **q != 0).count(),
        _ => 0,
    };
    let biases: usize = small
        .stages()
        .iter()
        .flat_map(|stage| stage.bias())
        .flatten()
        .filter(|b| **b != 0.0)
        .count();
    assert_eq!(small.num_nonzero_params(), small.stages().iter().map(ints).sum::<usize>() + biases);
    assert!(small.num_nonzero_params() < small.num_params());
    let program = small.compile_as(data.graph(), data.features(), Forms::Integers).unwrap();
    // A byte for each hidden number, a scale for each row of the input, and the output; the first
    // product makes the input's integers itself.
    assert_eq!(program.cost().peak_activations, n * 5 + 4 * n + 4 * n * o);
    assert_eq!(program.cost().macs, n * (i * 5 + 5 * o));
}

#[test]
fn all_nodes_calibrate_unless_it_is_asked_for_otherwise() {
    let data = Dataset::sbm(600, 3).degree(1.0).features(12).seed(1).build().unwrap();
    let model = Trainer::builder()
        .epochs(10)
        .build()
        .unwrap()
        .fit(Gcn::builder(12, 3).hidden(16).build(1).unwrap(), &data)
        .unwrap();
    let with = |calibrate: Option<gnn_prune::Calibrate>| {
        let builder = Quantizer::builder(Bits::Two);
        calibrate
            .map_or(builder.clone(), |nodes| builder.calibrate(nodes))
            .build()
            .unwrap()
            .quantize(&model, &data)
            .unwrap()
    };
    assert_eq!(with(None), with(Some(gnn_prune::Calibrate::All)));
    assert_ne!(with(None), with(Some(gnn_prune::Calibrate::Train)));
}

pub(crate) fn quantizers() -> Vec<Quantizer> {
    let four = Quantizer::builder(Bits::Four);
    let percentile = Quantizer::builder(Bits::Eight).calibration(Calibration::Percentile(99.0));
    let builders = [
        Quantizer::builder(Bits::Eight),
        four.clone(),
        four.activation_bits(Bits::Four),
        percentile,
    ];
    builders.into_iter().map(|builder| builder.build().unwrap()).collect()
}

/// A value of the simulation: integers and the scale of each column.
#[derive(Clone)]
struct Ints {
    q: Array2<i8>,
    cols: Vec<f32>,
}

fn quantized(values: &[f32], most: i8) -> (Vec<i8>, f32) {
    let max = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let scale = if max / f32::from(most) > 0.0 { max / f32::from(most) } else { 1.0 };
    (values.iter().map(|v| reference::requantize(*v, scale, most)).collect(), scale)
}

/// `A·B` of integers in f64, which is exact, checked against 32 bits.
fn exact(a: &Array2<i8>, b: &Array2<i8>) -> Array2<i32> {
    let product = a.mapv(f64::from).dot(&b.mapv(f64::from));
    product.mapv(|v| {
        assert!(v.fract() == 0.0 && v.abs() <= f64::from(i32::MAX));
        v as i32
    })
}

/// The whole model by the definition, one number at a time, with products of integers in f64.
fn simulate(model: &QuantModel, graph: &Graph, x: ValueRef<f32>) -> Array2<f32> {
    simulate_within(model, graph, x, &Rows::new())
}

/// The same for a batch.
pub(crate) fn simulate_within(
    model: &QuantModel,
    graph: &Graph,
    x: ValueRef<f32>,
    within: &Rows<f32>,
) -> Array2<f32> {
    let most = model.activation_bits().most();
    let x = x.to_dense();
    let rows: Vec<(Vec<i8>, f32)> =
        x.rows().into_iter().map(|row| quantized(&row.to_vec(), most)).collect();
    let by_node = Array2::from_shape_fn(x.dim(), |(i, c)| rows[i].0[c]);
    let mut values = vec![model.input_scales().map(|cols| Ints {
        q: Array2::from_shape_fn(x.dim(), |(i, c)| reference::requantize(x[[i, c]], cols[c], most)),
        cols: cols.to_vec(),
    })];
    for stage in model.stages() {
        let bias = |c: usize| stage.bias().map(|bias| bias[c]);
        let input = |k: usize| values[stage.inputs()[k]].as_ref().expect("an integer input");
        let mut y = match stage.op() {
            QuantOp::Linear(weight) => {
                let w = Array2::from_shape_vec(weight.shape(), weight.ints().to_vec()).unwrap();
                if stage.inputs()[0] == 0 {
                    let acc = exact(&by_node, &w);
                    Array2::from_shape_fn(acc.dim(), |(i, c)| {
                        reference::rescale(acc[[i, c]], rows[i].1, weight.scales()[c], bias(c))
                    })
                } else {
                    let acc = exact(&input(0).q, &w);
                    let scale = input(0).cols[0];
                    Array2::from_shape_fn(acc.dim(), |(i, c)| {
                        reference::rescale(acc[[i, c]], 1.0, scale * weight.scales()[c], bias(c))
                    })
                }
            }
            QuantOp::Aggregate(_) | QuantOp::Pool(_) => {
                let dense = match stage.op() {
                    QuantOp::Aggregate(norm) => {
                        ValueRef::Sparse(graph.operator(*norm).unwrap().forward()).to_dense()
                    }
                    QuantOp::Pool(pooling) => members(*pooling, within),
                    _ => unreachable!(),
                };
                let rows: Vec<_> =
                    dense.rows().into_iter().map(|row| quantized(&row.to_vec(), 127)).collect();
                let a = Array2::from_shape_fn(dense.dim(), |(i, j)| rows[i].0[j]);
                let acc = exact(&a, &input(0).q);
                Array2::from_shape_fn(acc.dim(), |(i, c)| {
                    reference::rescale(acc[[i, c]], rows[i].1, input(0).cols[c], bias(c))
                })
            }
            QuantOp::Add(coefficients) => {
                Array2::from_shape_fn((input(0).q.nrows(), stage.width()), |(i, c)| {
                    let term = |k: usize| {
                        f32::from(input(k).q[[i, c]]) * (coefficients[k] * input(k).cols[c])
                    };
                    let sum = (1..coefficients.len()).fold(term(0), |sum, k| sum + term(k));
                    bias(c).map_or(sum, |bias| sum + bias)
                })
            }
            QuantOp::Concat => {
                let parts: Vec<(usize, usize)> = (0..stage.inputs().len())
                    .flat_map(|k| (0..input(k).cols.len()).map(move |c| (k, c)))
                    .collect();
                Array2::from_shape_fn((input(0).q.nrows(), stage.width()), |(i, c)| {
                    let (k, from) = parts[c];
                    let y = f32::from(input(k).q[[i, from]]) * input(k).cols[from];
                    bias(c).map_or(y, |bias| y + bias)
                })
            }
            other => panic!("the simulation does not know {other:?}"),
        };
        if let Some(activation) = stage.activation() {
            y.mapv_inplace(|v| activation.of(v));
        }
        match stage.scale() {
            None => return y,
            Some(scale) => {
                let q = y.mapv(|v| reference::requantize(v, scale, most));
                values.push(Some(Ints { q, cols: vec![scale; stage.width()] }));
            }
        }
    }
    unreachable!("the last stage is real")
}

/// What each node of a batch weighs in each of its graphs.
fn members(pooling: Pooling, within: &Rows<f32>) -> Array2<f32> {
    let (graph_of, count) = within.graph_of_nodes().expect("a batch of graphs");
    let size = |graph: u32| graph_of.iter().filter(|of| **of == graph).count();
    Array2::from_shape_fn((count, graph_of.len()), |(graph, node)| {
        if graph_of[node] as usize != graph {
            return 0.0;
        }
        match pooling {
            Pooling::Sum => 1.0,
            Pooling::Mean => (1.0 / size(graph_of[node]) as f64) as f32,
            other => panic!("{other} is no product"),
        }
    })
}

pub(crate) fn bits(y: ArrayView2<f32>) -> Vec<u32> {
    y.iter().map(|v| v.to_bits()).collect()
}

fn run(model: &QuantModel, data: &Dataset) -> Array2<f32> {
    model
        .compile_as(data.graph(), data.features(), Forms::Integers)
        .unwrap()
        .run(data.features())
        .unwrap()
        .to_owned()
}

#[test]
fn a_quantised_model_is_its_simulation_bit_for_bit_on_every_path() {
    for (model, data) in subjects() {
        for quantizer in quantizers() {
            let small = quantizer.quantize(&model, &data).unwrap();
            let expected = bits(simulate(&small, data.graph(), data.features()).view());
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let mut program = small
                    .compile_as(data.graph(), data.features(), Forms::Integers)
                    .unwrap()
                    .on(isa);
                for _ in 0..2 {
                    let found = bits(program.run(data.features()).unwrap());
                    assert_eq!(found, expected, "{isa:?} of\n{small}");
                }
            }
        }
    }
}

/// Forms that change from stage to stage, in several ways.
pub(crate) fn mixtures(stages: usize) -> Vec<Vec<Form>> {
    let form = |on_integers: bool| if on_integers { Form::Integers } else { Form::Floats };
    let patterns: [&dyn Fn(usize) -> bool; 5] =
        [&|_| false, &|k| k % 2 == 0, &|k| k % 2 == 1, &|k| k % 3 != 0, &|k| k * 2 < stages];
    patterns.iter().map(|pattern| (0..stages).map(|k| form(pattern(k))).collect()).collect()
}

#[test]
fn stages_on_floats_compute_the_model_of_the_stored_integers() {
    for (model, data) in subjects() {
        let quantizer = Quantizer::builder(Bits::Eight).build().unwrap();
        let small = quantizer.quantize(&model, &data).unwrap();
        let on_grid = quantizer.train(&model, &data).unwrap();
        let expected = on_grid
            .compile(data.graph(), data.features())
            .unwrap()
            .run(data.features())
            .unwrap()
            .to_owned();
        let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        for (k, forms) in mixtures(small.stages().len()).iter().enumerate() {
            let mut program = small.compile_with(data.graph(), data.features(), forms).unwrap();
            let found = program.run(data.features()).unwrap().to_owned();
            let error = (&found - &expected).mapv(f32::abs).mean().unwrap() / largest;
            // The first mixture is floats alone, and rounds no more than the float program does.
            assert!(
                error < if k == 0 { 1e-6 } else { LOGIT_ERROR },
                "mixture {k}: {error} of\n{small}{program}"
            );
            assert_eq!(
                bits(program.run(data.features()).unwrap()),
                bits(found.view()),
                "a second run"
            );
            let named: Vec<Form> = program.forms().iter().map(|stage| stage.form).collect();
            assert_eq!(&named, forms);
        }
    }
}

#[test]
fn a_prepared_input_changes_no_bits() {
    for (model, data) in subjects() {
        let small = quantizers()[0].quantize(&model, &data).unwrap();
        let dense = Value::Dense(data.features().to_dense());
        for x in [data.features(), dense.view()] {
            for forms in
                mixtures(small.stages().len())
                    .into_iter()
                    .chain([vec![Form::Integers; small.stages().len()]])
            {
                let Ok(mut program) = small.compile_with(data.graph(), x, &forms) else { continue };
                let expected = bits(program.run(x).unwrap());
                let mut prepared = program.prepare(x).unwrap();
                assert_eq!(bits(prepared.run()), expected);
                assert_eq!(bits(prepared.run()), expected);
                assert_eq!(bits(program.run(x).unwrap()), expected);
            }
        }
    }
}

#[test]
fn forms_follow_shapes_and_not_threads() {
    let big = Dataset::sbm(6000, 3).features(256).degree(40.0).build().unwrap();
    let small = Dataset::sbm(300, 3).features(8).degree(3.0).build().unwrap();
    let forms = |data: &Dataset, hidden: usize, threads: usize| -> Vec<Form> {
        let model = Gcn::builder(data.num_features(), 3).hidden(hidden).build(0).unwrap();
        let model = quantizers()[0].quantize(&model, data).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let program = pool.install(|| model.compile(data.graph(), data.features())).unwrap();
        program.forms().iter().map(|stage| stage.form).collect()
    };
    assert!(forms(&small, 8, 1).iter().all(|&form| form == Form::Floats));
    if Isa::best() > Isa::Portable {
        assert_eq!(forms(&big, 256, 1)[0], Form::Integers);
    }
    assert_eq!(forms(&big, 256, 1), forms(&big, 256, 2));
}

#[test]
fn a_program_compiled_for_sparse_features_takes_dense_ones_and_the_other_way_round() {
    let (model, data) = &subjects()[1];
    let small = quantizers()[0].quantize(model, data).unwrap();
    let expected = bits(run(&small, data).view());
    let dense = Value::Dense(data.features().to_dense());
    let mut for_sparse = small.compile_as(data.graph(), data.features(), Forms::Integers).unwrap();
    assert_eq!(bits(for_sparse.run(dense.view()).unwrap()), expected);
    let mut for_dense = small.compile_as(data.graph(), dense.view(), Forms::Integers).unwrap();
    assert_eq!(bits(for_dense.run(data.features()).unwrap()), expected);
    assert_eq!(bits(for_dense.run(dense.view()).unwrap()), expected);
}

#[test]
fn what_aggregates_sparse_features_first_is_quantised_as_on_dense_ones() {
    let data = sparse(&data(3));
    let dense = Value::Dense(data.features().to_dense());
    let full = Dataset::new(
        "dense",
        data.graph().clone(),
        dense,
        data.classes().unwrap().to_vec(),
        None,
        Splits::Fixed(data.split(0)),
    )
    .unwrap();
    for model in aggregating(data.num_features(), data.num_classes()) {
        let kind = model.nodes()[0].layer().kind();
        for quantizer in quantizers() {
            quantizer.check(&model, &data).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let (small, on_full) = (
                quantizer.quantize(&model, &data).unwrap(),
                quantizer.quantize(&model, &full).unwrap(),
            );
            assert_eq!(small.to_bytes().unwrap(), on_full.to_bytes().unwrap(), "{kind}");
            let expected = bits(run(&small, &full).view());
            assert_eq!(bits(run(&small, &data).view()), expected, "{kind}");
            let mut program = small.compile(data.graph(), data.features()).unwrap();
            let (once, macs) = (bits(program.run(data.features()).unwrap()), program.cost().macs);
            assert_eq!(bits(program.prepare(data.features()).unwrap().run()), once, "{kind}");
            let mut for_full = small.compile(full.graph(), full.features()).unwrap();
            assert_eq!(
                (bits(for_full.run(full.features()).unwrap()), for_full.cost().macs),
                (once, macs),
                "{kind}"
            );
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let data = Dataset::sbm(3000, 3).features(40).degree(12.0).build().unwrap();
    let model = Gcn::builder(40, 3)
        .hidden(32)
        .layers(3)
        .residual(true)
        .jumping(gnn_prune::models::Jumping::Concat)
        .build(0)
        .unwrap();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(run(&quantizers()[0].quantize(&model, &data).unwrap(), &data).view()))
    };
    let alone = on(1);
    for threads in [2, 3, 7] {
        assert!(on(threads) == alone, "{threads} threads");
    }
}

#[test]
fn eight_bits_are_near_the_float_model() {
    for (model, data) in subjects() {
        let float = model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let small = run(
            &Quantizer::builder(Bits::Eight).build().unwrap().quantize(&model, &data).unwrap(),
            &data,
        );
        let largest = float.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let error = (&small - &float).mapv(f32::abs).mean().unwrap() / largest;
        assert!(error < LOGIT_ERROR, "mean error {error} of the largest logit\n{model}");
    }
}

#[test]
fn files_hold_the_same_bits_and_four_bits_take_half_a_byte() {
    let folder =
        std::env::temp_dir().join(format!("gnn-prune-quantization-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (model, data) in subjects() {
        for quantizer in quantizers() {
            let small = quantizer.quantize(&model, &data).unwrap();
            let file = folder.join("model");
            small.save(&file).unwrap();
            let back = QuantModel::load(&file).unwrap();
            assert_eq!(back, small);
            assert_eq!(bits(run(&back, &data).view()), bits(run(&small, &data).view()));
            assert_eq!((back.seed(), back.num_params()), (model.seed(), model.num_params()));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    // A model as wide as Cora's: scales and biases are small beside the integers.
    let features = Array2::from_shape_fn((20, 1433), |(i, j)| f32::from((i + j) % 9 == 0));
    let graph =
        Graph::builder(20).edges((0..19).map(|i| (i, i + 1))).undirected(true).build().unwrap();
    let labels = (0..20).map(|i| i % 7).collect();
    let split =
        Split { train: (0..10).collect(), val: (10..15).collect(), test: (15..20).collect() };
    let data =
        Dataset::new("wide", graph, features.into(), labels, None, Splits::Fixed(split)).unwrap();
    let model = Gcn::builder(1433, 7).build(0).unwrap();
    let float = 4.0 * model.num_params() as f64;
    for (bits, least) in [(Bits::Eight, 3.8), (Bits::Four, 7.0)] {
        let small = Quantizer::builder(bits).build().unwrap().quantize(&model, &data).unwrap();
        let ratio = float / small.stored_bytes() as f64;
        assert!(ratio >= least, "{bits} bits: {ratio}");
    }
}

#[test]
fn an_accumulator_that_could_overflow_is_an_error_at_build_and_names_the_stage() {
    let labels = |n: u32| (0..n).map(|i| i % 2).collect::<Vec<_>>();
    let split = || Splits::Fixed(Split { train: vec![0, 1], val: vec![2, 3], test: vec![4, 5] });
    // Weights that are all alike are to stay so.
    let quantizer = Quantizer::builder(Bits::Eight).rounding(Rounding::Nearest).build().unwrap();
    let quantize = |model: &Model, data: &Dataset| quantizer.quantize(model, data);
    // One node with 133,145 neighbours of one degree: its operator row is all 127 but the
    // self-loop.
    let star = |leaves: u32| {
        let graph = Graph::builder(leaves as usize + 1)
            .edges((1..=leaves).map(|i| (i as usize, 0)))
            .undirected(true)
            .build()
            .unwrap();
        Dataset::new(
            "star",
            graph,
            Array2::from_elem((leaves as usize + 1, 1), 1.0).into(),
            labels(leaves + 1),
            None,
            split(),
        )
        .unwrap()
    };
    let model = Gcn::builder(1, 2).hidden(1).build(0).unwrap();
    let error = quantize(&model, &star(133_145)).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(problem) if problem.layer == "conv1"), "{error}");
    assert!(error.to_string().contains("32-bit accumulator"), "{error}");
    let fits = quantize(&model, &star(133_000)).unwrap();
    let wider = star(133_145);
    assert!(matches!(fits.compile(wider.graph(), wider.features()), Err(Error::Unsupported(_))));
    // Activations of ±7 leave room for eighteen times the neighbours.
    let hub = star(200_000);
    let four = Quantizer::builder(Bits::Eight)
        .activation_bits(Bits::Four)
        .rounding(Rounding::Nearest)
        .build()
        .unwrap();
    let small = four.quantize(&model, &hub).unwrap();
    assert!(small.compile_as(hub.graph(), hub.features(), Forms::Integers).is_ok());
    // A product over 133,145 channels with all weights alike.
    let wide = |inner: usize| {
        let graph = Graph::builder(6).edges([(0, 1)]).undirected(true).build().unwrap();
        let data = Dataset::new(
            "wide",
            graph,
            Array2::from_elem((6, inner), 1.0).into(),
            labels(6),
            None,
            split(),
        )
        .unwrap();
        let mut model = Mlp::builder(inner, 2).layers(1).build(0).unwrap();
        model.visit_mut(&mut |param| param.value_mut().fill(0.5));
        quantize(&model, &data).map(|small| run(&small, &data))
    };
    assert!(wide(133_145).unwrap_err().to_string().contains("product over 133145 channels"));
    let logits = wide(133_144).unwrap();
    // Bias and weights are 0.5: the sum of the products is 66,572, and f32 keeps seven digits.
    assert!((logits[[0, 0]] - 66_572.5).abs() < 0.1, "{}", logits[[0, 0]]);
}

#[test]
fn features_that_are_not_finite_and_of_another_shape_are_errors() {
    let (model, data) = &subjects()[0];
    let mut program = quantizers()[0]
        .quantize(model, data)
        .unwrap()
        .compile(data.graph(), data.features())
        .unwrap();
    let mut x = data.features().to_dense();
    x[[5, 2]] = f32::NAN;
    assert!(
        program
            .run(ValueRef::Dense(x.view()))
            .unwrap_err()
            .to_string()
            .contains("features of node 5")
    );
    let narrow = Array2::zeros((180, 3));
    assert!(matches!(
        program.run(ValueRef::Dense(narrow.view())),
        Err(Error::ShapeMismatch { .. })
    ));
    let two = Quantizer::builder(Bits::Eight).activation_bits(Bits::Two).build();
    assert!(two.unwrap_err().to_string().contains("4 or 8"));
    assert!(Quantizer::builder(Bits::Two).build().is_ok(), "weights have integers of two bits");
    assert!(
        Quantizer::builder(Bits::Four).calibration(Calibration::Percentile(0.0)).build().is_err()
    );
}

#[test]
fn fake_quantisers_are_those_of_pytorch() {
    let bytes = std::fs::read("tests/fixtures/pyg/losses_quant_masks.safetensors").unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let tensor = file.tensor(name).unwrap();
        let values =
            tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values).unwrap()
    };
    // PyTorch's weight is [out, in]: its rows are our columns.
    let weight = read("weight").reversed_axes();
    for (bits, count) in [(Bits::Two, 2), (Bits::Four, 4), (Bits::Eight, 8)] {
        let kinds = [
            ("sym_tensor", Granularity::SymmetricTensor),
            ("sym_channel", Granularity::SymmetricColumn),
            ("asym_tensor", Granularity::AffineTensor),
        ];
        for (name, granularity) in kinds {
            let expected = read(&format!("fakequant_{name}_b{count}")).reversed_axes();
            let found = FakeQuant::new(bits, granularity).forward(weight.view());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= FIXTURE + FIXTURE * expected.abs(),
                    "{name} {count}: {found} for {expected}"
                );
            }
        }
    }
}

#[test]
fn the_gradient_goes_straight_through_where_nothing_was_clamped() {
    let w = gnn_prune::ndarray::array![[1.0, -0.3], [0.2, 0.7]];
    let dy = gnn_prune::ndarray::array![[1.0, 2.0], [3.0, 4.0]];
    for granularity in
        [Granularity::SymmetricTensor, Granularity::SymmetricColumn, Granularity::AffineTensor]
    {
        assert_eq!(FakeQuant::new(Bits::Four, granularity).backward(w.view(), dy.view()), dy);
    }
    let zeros = Array2::zeros((2, 2));
    for granularity in
        [Granularity::SymmetricTensor, Granularity::SymmetricRow, Granularity::AffineTensor]
    {
        assert_eq!(FakeQuant::new(Bits::Two, granularity).forward(zeros.view()), zeros);
    }
}

fn test_accuracy(small: &QuantModel, data: &Dataset) -> f64 {
    NodeTask::of(data).measured_on(run(small, data).view(), &data.split(small.seed()).test)
}

#[test]
fn training_on_the_grid_improves_four_bits() {
    let data =
        Dataset::sbm(600, 4).features(16).degree(5.0).homophily(0.7).seed(3).build().unwrap();
    let (mut plain, mut trained) = (0.0, 0.0);
    for seed in 0..3 {
        let model = Gcn::builder(16, 4).hidden(16).build(seed).unwrap();
        let model = Trainer::builder().epochs(60).build().unwrap().fit(model, &data).unwrap();
        // One calibration for both, so that training alone makes the difference.
        let four = Quantizer::builder(Bits::Four)
            .activation_bits(Bits::Four)
            .calibration(Calibration::MinMax);
        plain +=
            test_accuracy(&four.clone().build().unwrap().quantize(&model, &data).unwrap(), &data);
        let quantizer = four.qat(30).build().unwrap();
        let small = quantizer.quantize(&model, &data).unwrap();
        trained += test_accuracy(&small, &data);
        assert_eq!(
            small,
            quantizer.quantize(&model, &data).unwrap(),
            "the same seed gives the same integers"
        );
        // The float model on the grid has the integers already.
        let on_grid = quantizer.train(&model, &data).unwrap();
        assert!(evaluate(&on_grid, &data, Part::Test).unwrap() > 100.0 / 4.0);
        let again = Quantizer::builder(Bits::Four)
            .activation_bits(Bits::Four)
            .build()
            .unwrap()
            .quantize(&on_grid, &data)
            .unwrap();
        let ints = |small: &QuantModel| -> Vec<i8> {
            let of = |stage: &gnn_prune::quant::QuantStage| match stage.op() {
                QuantOp::Linear(weight) => weight.ints().to_vec(),
                _ => Vec::new(),
            };
            small.stages().iter().flat_map(of).collect()
        };
        assert_eq!(ints(&again), ints(&small));
    }
    assert!(trained > plain, "{trained} with training, {plain} without, summed over three seeds");
}

/// A listing that goes around quantises by `round(w·2^{b−1}/std)`. It divides by the deviation, so
/// that a weight of one deviation is already past the largest integer, never clamps, never scales
/// back, and keeps floats. The right one is symmetric with a scale per column.
#[test]
fn four_bits_by_the_largest_magnitude_fit_and_by_the_deviation_do_not() {
    // Columns of different sizes: one scale for all of them would leave the small one nothing.
    let w = Array2::from_shape_fn((40, 3), |(k, c)| {
        (((k * 37 + c * 11) % 41) as f32 / 20.0 - 1.0) * [1.0, 3.0, 0.02][c]
    });
    let x = Array2::from_shape_fn((5, 40), |(i, k)| ((i * 13 + k * 29) % 17) as f32 / 8.0 - 1.0);
    let (bits, most) = (4, 7.0f32);
    let deviation = w.std(0.0);
    // The listing normalises by the deviation, and once more when it scales.
    let listing = w.mapv(|w| (w / deviation * 2.0f32.powi(bits - 1) / deviation).round());
    assert!(listing.iter().any(|q| q.abs() > most), "its integers do not fit four bits");
    let float = x.dot(&w);
    let error = |y: &Array2<f32>| {
        (y - &float).mapv(f32::abs).mean().unwrap() / float.mapv(f32::abs).mean().unwrap()
    };
    assert!(
        error(&x.dot(&listing)) > 1.0,
        "what is never scaled back is another number altogether"
    );
    let tensor = w.iter().fold(0.0f32, |most, w| most.max(w.abs())) / most;
    assert!(
        w.column(2).iter().all(|w| (w / tensor).round_ties_even() == 0.0),
        "by one scale the third column is gone"
    );

    let weight = gnn_prune::quant::QuantWeight::of(w.view(), Bits::Four);
    assert!(weight.ints().iter().all(|q| (-7..=7).contains(q)));
    for (c, column) in w.columns().into_iter().enumerate() {
        let s = column.fold(0.0f32, |most, w| most.max(w.abs())) / most;
        assert_eq!(weight.scales()[c], s);
        for (k, &w) in column.iter().enumerate() {
            let q = (w / s).round_ties_even().clamp(-most, most);
            assert_eq!(f32::from(weight.ints()[k * 3 + c]), q);
            assert!((q * s - w).abs() <= s / 2.0 * (1.0 + f32::EPSILON), "half a step at most");
        }
    }
    // y = s·s_x·(q·q_x)
    let y = Array2::from_shape_fn((5, 3), |(i, c)| {
        let (q_x, s_x) = quantized(&x.row(i).to_vec(), 127);
        let acc: i32 =
            (0..40).map(|k| i32::from(q_x[k]) * i32::from(weight.ints()[k * 3 + c])).sum();
        acc as f32 * (s_x * weight.scales()[c])
    });
    for c in 0..3 {
        let column =
            |y: &Array2<f32>| y.column(c).to_owned().insert_axis(gnn_prune::ndarray::Axis(1));
        let (y, float) = (column(&y), column(&float));
        let off =
            (&y - &float).mapv(f32::abs).mean().unwrap() / float.mapv(f32::abs).mean().unwrap();
        assert!(off < 0.15, "column {c} is off by {off}");
    }
}
