//! Networks that classify graphs as integers: readouts, batch norms, files, the way to them.

use super::quantization::{LOGIT_ERROR, bits, mixtures, quantizers, simulate_within};
use gnn_prune::__kernels::Isa;
use gnn_prune::data::GraphSet;
use gnn_prune::ndarray::{Array2, s};
use gnn_prune::nn::{
    Add, BatchNorm, Concat, Cx, Embedding, GcnConv, Init, Linear, ModelBuilder, NodeId, Normalize,
    Pooling, Readout, Rows,
};
use gnn_prune::quant::{Calibration, Form, Forms, QuantOp, Rounding};
use gnn_prune::task::{Part, Task, evaluate, measure};
use gnn_prune::testing::random_dense;
use gnn_prune::{
    Bits, ChannelPruner, Compression, Error, FineTune, GinGraphs, Graph, GraphTask, Magnitude,
    Model, QuantModel, Quantizer, StructureFree, Trainer, Value,
};

const FEATURES: usize = 5;

fn set(graphs: usize) -> GraphSet {
    let set = GraphSet::cycles_or_trees(graphs, 0.3, 5).unwrap();
    set.with_features(random_dense(1, (set.num_nodes(), FEATURES))).unwrap()
}

fn task() -> GraphTask {
    GraphTask::builder(&set(40)).folds(4).batch_size(8).build().unwrap()
}

fn gin(pooling: Pooling) -> Model {
    let form = GinGraphs::builder(FEATURES, 2).hidden(9).layers(3).pooling(pooling);
    moved(form.train_eps(true).build(1).unwrap())
}

/// The same network with no parameter at what it is drawn as: norms do something, one of their
/// factors is negative and one zero.
fn moved(mut model: Model) -> Model {
    let mut number = 0;
    model.visit_mut(&mut |param| {
        number += 1;
        let shift = random_dense::<f32>(number, param.value().dim()).into_dense();
        param.value_mut().zip_mut_with(&shift, |w, s| *w += 0.1 * s.abs());
        if param.name() == "weight" && param.value().dim() == (1, 9) {
            param.value_mut()[[0, 2]] = -0.7;
            param.value_mut()[[0, 5]] = 0.0;
        }
    });
    model
}

/// What is pooled and then joined, and an aggregation between a product and its norm.
fn joined() -> Model {
    let mut b = ModelBuilder::new(FEATURES);
    let conv = GcnConv::builder(FEATURES, 9).build().unwrap();
    let h = b.add("conv", conv, &[NodeId::INPUT]).unwrap();
    let h = b.add("norm", BatchNorm::new(9).unwrap(), &[h]).unwrap();
    let sum = b.add("sum", Readout::new(Pooling::Sum), &[h]).unwrap();
    let mean = b.add("mean", Readout::new(Pooling::Mean), &[h]).unwrap();
    let both = b.add("both", Concat::new(), &[sum, mean]).unwrap();
    let diff = b.add("diff", Add::with_coefficients(vec![0.5, -1.0]).unwrap(), &[sum, mean]);
    let [y, z] = [(both, 18, "of_both"), (diff.unwrap(), 9, "of_diff")].map(|(x, width, name)| {
        b.add(name, Linear::builder(width, 2).build::<f32>().unwrap(), &[x]).unwrap()
    });
    let out = b.add("out", Add::new(2).unwrap(), &[y, z]).unwrap();
    moved(b.build(out, 4).unwrap())
}

fn subjects() -> Vec<Model> {
    let free = StructureFree::builder(FEATURES, 2).hidden(20);
    vec![
        gin(Pooling::Sum),
        gin(Pooling::Mean),
        free.clone().build(2).unwrap(),
        free.node_layer(true).build(3).unwrap(),
        joined(),
    ]
}

/// Five graphs whose nodes do not stand together, one of them without nodes.
fn batch() -> (Graph, Value<f32>, Rows<f32>) {
    let graph_of: Vec<u32> = (0..37u32).map(|i| [0, 2, 3, 2, 4][(i * i) as usize % 5]).collect();
    let edges = (0..37).flat_map(|i| (0..37).map(move |j| (i, j)));
    let edges = edges.filter(|&(i, j)| i != j && graph_of[i] == graph_of[j] && (i * j) % 3 == 1);
    let graph = Graph::builder(37).edges(edges).build().unwrap();
    (graph, random_dense(9, (37, FEATURES)), Rows::new().graphs(graph_of, 5).unwrap())
}

fn integers(model: &Model) -> QuantModel {
    Quantizer::builder(Bits::Eight).build().unwrap().quantize(model, &task()).unwrap()
}

#[test]
fn networks_that_pool_are_their_simulation_bit_for_bit_on_every_path() {
    let (graph, x, rows) = batch();
    let x = x.view();
    for model in subjects() {
        for quantizer in quantizers() {
            let small = quantizer.quantize(&model, &task()).unwrap();
            let expected = simulate_within(&small, &graph, x, &rows);
            assert_eq!(expected.dim(), (5, 2));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let program = small.compile_within_as(&graph, x, &rows, Forms::Integers).unwrap();
                let mut program = program.on(isa);
                for _ in 0..2 {
                    let found = bits(program.run(x).unwrap());
                    assert_eq!(found, bits(expected.view()), "{isa:?} of\n{small}");
                }
                let mut prepared = program.prepare(x).unwrap();
                assert_eq!(bits(prepared.run()), bits(expected.view()), "prepared, {isa:?}");
            }
        }
    }
}

#[test]
fn integers_are_near_the_floats_that_they_come_from_in_every_form() {
    let whole = Task::<f32>::whole(&task()).unwrap();
    let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
    for model in subjects() {
        let expected = model.infer(&whole.on(&Cx::without_graph()), x).unwrap();
        let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let quantizer = Quantizer::builder(Bits::Eight).calibration(Calibration::MinMax);
        let quantizer = quantizer.build().unwrap();
        let small = quantizer.quantize(&model, &task()).unwrap();
        let mut all = mixtures(small.stages().len());
        all.push(vec![Form::Integers; small.stages().len()]);
        for forms in all {
            let mut program = small.compile_within_with(graph, x, rows, &forms).unwrap();
            let found = program.run(x).unwrap();
            let error = (&found - &expected).mapv(f32::abs).mean().unwrap() / largest;
            assert!(error < LOGIT_ERROR, "{error} of\n{small}{program}");
        }
        // On floats nothing but the weights is rounded.
        let on_grid = quantizer.train(&model, &task()).unwrap();
        let expected = on_grid.infer(&whole.on(&Cx::without_graph()), x).unwrap();
        let mut program = small.compile_within_as(graph, x, rows, Forms::Floats).unwrap();
        let error = (&program.run(x).unwrap() - &expected).mapv(f32::abs).mean().unwrap() / largest;
        assert!(error < 1e-6, "{error} of\n{small}");
    }
}

#[test]
fn a_graph_has_the_same_integers_alone_as_in_any_batch() {
    let task = task();
    let small = integers(&gin(Pooling::Sum));
    let run = |graphs: &[u32]| {
        let batch = task.batch(graphs).unwrap();
        let (graph, x, rows) = (batch.graph(), batch.features(), batch.spaces());
        let mut program = small.compile_within_as(graph, x, rows, Forms::Integers).unwrap();
        program.run(x).unwrap().to_owned()
    };
    let graphs = [7, 31, 0, 12];
    let together = run(&graphs);
    for (row, graph) in together.rows().into_iter().zip(graphs) {
        assert_eq!(run(&[graph]).row(0), row, "graph {graph}");
    }
}

#[test]
fn a_graph_without_nodes_has_what_a_sum_over_nothing_gives() {
    let (graph, x, rows) = batch();
    for model in subjects() {
        let small = integers(&model);
        let mut program =
            small.compile_within_as(&graph, x.view(), &rows, Forms::Integers).unwrap();
        let y = program.run(x.view()).unwrap().row(1).to_owned();
        let (bare, x) = (Graph::builder(1).build().unwrap(), random_dense(3, (1, FEATURES)));
        let rows = Rows::new().graphs(vec![1], 2).unwrap();
        let mut program = small.compile_within_as(&bare, x.view(), &rows, Forms::Integers).unwrap();
        let found = program.run(x.view()).unwrap();
        assert_eq!(found.row(0), y, "{small}");
        assert_ne!(found.row(1), y, "{small}");
    }
}

#[test]
fn a_norm_behind_a_product_is_in_its_weight_and_costs_nothing() {
    let small = integers(&gin(Pooling::Sum));
    let kinds = |of: fn(&QuantOp) -> bool| small.stages().iter().filter(|s| of(s.op())).count();
    // Of three layers: an aggregation, a sum with what it moves, two products; of four values a
    // readout and a product; and the sum of what these say.
    assert_eq!(kinds(|op| matches!(op, QuantOp::Pool(Pooling::Sum))), 4);
    assert_eq!(kinds(|op| matches!(op, QuantOp::Linear(_))), 3 * 2 + 4);
    assert_eq!(small.stages().len(), 3 * 4 + 4 * 2 + 1);
    let model = gin(Pooling::Sum);
    let mut norms = 0;
    model.nodes().iter().for_each(|node| norms += usize::from(node.layer().kind() == "batch_norm"));
    assert_eq!(norms, 6);
    // Each product has a column of zeros where the norm's factor is zero.
    for stage in small.stages().iter().filter(|stage| stage.width() == 9) {
        let QuantOp::Linear(weight) = stage.op() else { continue };
        assert!(weight.ints().chunks(9).all(|row| row[5] == 0) && weight.scales()[5] == 1.0);
    }
    // Rounding weight by weight is that of the weights without their norms.
    let nearest = Quantizer::builder(Bits::Four).rounding(Rounding::Nearest).build().unwrap();
    let small = nearest.quantize(&model, &task()).unwrap();
    let on_grid = nearest.train(&model, &task()).unwrap();
    let (graph, x, rows) = batch();
    let expected = on_grid.infer(&Cx::eval(&graph).within(&rows), x.view()).unwrap();
    let mut program = small.compile_within_as(&graph, x.view(), &rows, Forms::Floats).unwrap();
    let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let off = (&program.run(x.view()).unwrap() - &expected).mapv(f32::abs);
    assert!(off.iter().all(|off| *off < 1e-5 * largest), "{off}");
}

#[test]
fn what_follows_a_readout_is_counted_by_graphs() {
    let (graph, x, rows) = batch();
    let model = StructureFree::builder(FEATURES, 2).hidden(20).build(2).unwrap();
    let small = integers(&model);
    let program = small.compile_within_as(&graph, x.view(), &rows, Forms::Integers).unwrap();
    let (n, f, g) = (37, FEATURES as u64, 5);
    assert_eq!(program.cost().macs, n * f + g * (f * 20 + 20 * 2));
    // The input by channels, the sums, what is hidden, and the output.
    assert_eq!(program.cost().peak_activations, n * f + g * f + g * 20 + 4 * g * 2);
    let float = model.compile_within(&graph, x.view(), &rows).unwrap();
    assert_eq!(program.cost().macs, float.cost().macs);
}

#[test]
fn integers_of_graphs_have_the_same_bits_on_any_number_of_threads() {
    let model = gin(Pooling::Mean);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let small = integers(&model);
            let whole = task().whole().unwrap();
            let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
            let mut all = small.to_bytes().unwrap();
            for forms in [Forms::Integers, Forms::Floats, Forms::Fastest] {
                let mut program = small.compile_within_as(graph, x, rows, forms).unwrap();
                let y = bits(program.run(x).unwrap());
                all.extend(y.into_iter().flat_map(u32::to_le_bytes));
            }
            all
        })
    };
    let expected = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == expected, "other bits on {threads} threads");
    }
}

#[test]
fn sparse_features_are_pooled_as_dense_ones() {
    let set = set(40);
    let x = set.features().to_dense().mapv(|v| if v < 0.0 { 0.0 } else { v });
    let sparse = set.with_features(Value::Sparse(Value::from(x.clone()).into_sparse())).unwrap();
    let dense = set.with_features(x.into()).unwrap();
    // What begins with a product aggregates before or after it by what it reads.
    for model in &subjects()[..4] {
        let [a, b] = [&sparse, &dense].map(|set| {
            let task = GraphTask::builder(set).folds(4).build().unwrap();
            let quantizer = Quantizer::builder(Bits::Eight).rounding(Rounding::Nearest);
            let small = quantizer.build().unwrap().quantize(model, &task).unwrap();
            let whole = Task::<f32>::whole(&task).unwrap();
            let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
            let mut program = small.compile_within_as(graph, x, rows, Forms::Integers).unwrap();
            (bits(program.run(x).unwrap()), small)
        });
        assert_eq!(a, b);
    }
}

#[test]
fn files_hold_readouts_to_the_bit_and_damage_is_an_error_or_a_model() {
    let (graph, x, rows) = batch();
    for model in [gin(Pooling::Sum), joined()] {
        let small = integers(&model);
        let bytes = small.to_bytes().unwrap();
        let back = QuantModel::from_bytes(&bytes).unwrap();
        assert_eq!((&back, back.to_bytes().unwrap()), (&small, bytes.clone()));
        for end in 0..bytes.len() {
            assert!(QuantModel::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut read = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
            let Ok(model) = QuantModel::from_bytes(&damaged) else { continue };
            read += 1;
            // What was read runs on a batch of graphs and on no other.
            if read % 20 == 0 && model.in_channels() == FEATURES {
                let compiled = model.compile_within(&graph, x.view(), &rows);
                compiled.unwrap().run(x.view()).unwrap();
                let refused = model.compile(&graph, x.view());
                assert!(matches!(refused, Err(Error::NoGraphs { .. })));
            }
        }
        assert!(read > 100);
    }
}

/// The bytes of a file with `from` changed to `to`, of the same length, where it first stands.
fn changed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|of| of == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} is not in the file"));
    assert_eq!(from.len(), to.len());
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn files_whose_rows_do_not_fit_together_are_refused() {
    // Stages: a readout, two products.
    let small =
        integers(&StructureFree::builder(FEATURES, FEATURES).hidden(FEATURES).build(1).unwrap());
    let bytes = small.to_bytes().unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pool = r#"{\"pool\":\"sum\"}"#;
    assert!(text.contains(pool), "{text}");
    let refused = |bytes: &[u8]| QuantModel::from_bytes(bytes).unwrap_err().to_string();
    let words = refused(&changed(&bytes, pool, r#"{\"pool\":\"max\"}"#));
    assert!(words.contains("readout") && words.contains("no integer form"), "{words}");
    let words = refused(&changed(&bytes, r#"\"pool\":\"sum\""#, r#"\"pool\":\"sam\""#));
    assert!(words.contains("sam"), "{words}");
    // What is pooled is pooled again, or has neighbours.
    let small = integers(&{
        let mut b = ModelBuilder::new(FEATURES);
        let h = b.add("first", Readout::new(Pooling::Sum), &[NodeId::INPUT]).unwrap();
        let g = b.add("other", Readout::new(Pooling::Mean), &[NodeId::INPUT]).unwrap();
        let y = b.add("both", Add::new(2).unwrap(), &[h, g]).unwrap();
        let y = b.add("out", Linear::builder(FEATURES, 2).build::<f32>().unwrap(), &[y]).unwrap();
        b.build(y, 0).unwrap()
    });
    let bytes = small.to_bytes().unwrap();
    let second = r#"\"inputs\":[0],\"layer\":\"other\""#;
    let words = refused(&changed(&bytes, second, &second.replace('0', "1")));
    assert!(words.contains("other") && words.contains("rows"), "{words}");
    let both = r#"\"inputs\":[1,2],\"layer\":\"both\""#;
    let words = refused(&changed(&bytes, both, &both.replace("1,2", "0,2")));
    assert!(words.contains("both") && words.contains("rows"), "{words}");
}

#[test]
fn sums_over_too_many_nodes_are_refused_by_the_size_of_the_graph() {
    const MANY: usize = 133_145;
    let model = StructureFree::builder(1, 2).hidden(2).build(0).unwrap();
    let graph_of =
        |nodes: usize| (0..nodes as u32 + 20).map(move |i| i.saturating_sub(nodes as u32 - 1));
    let set = |nodes: usize| {
        let of: Vec<u32> = graph_of(nodes).collect();
        let graph = Graph::builder(of.len()).build().unwrap();
        let x = Value::Dense(Array2::ones((of.len(), 1)));
        GraphSet::new("many", graph, x, of, (0..21).map(|k| k % 2).collect(), Some(2)).unwrap()
    };
    let quantizer = |bits| {
        Quantizer::builder(Bits::Eight)
            .activation_bits(bits)
            .rounding(Rounding::Nearest)
            .calibration(Calibration::MinMax)
            .build()
            .unwrap()
    };
    let few = GraphTask::builder(&set(MANY - 1)).folds(3).build().unwrap();
    let small = quantizer(Bits::Eight).quantize(&model, &few).unwrap();
    let many = set(MANY);
    let task = GraphTask::builder(&many).folds(3).build().unwrap();
    let says = |error: Error| {
        let words = error.to_string();
        assert!(words.contains("readout") && words.contains("133145 nodes"), "{words}");
    };
    says(quantizer(Bits::Eight).check(&model, &task).unwrap_err());
    says(quantizer(Bits::Eight).quantize(&model, &task).unwrap_err());
    quantizer(Bits::Four).check(&model, &task).unwrap();
    // What was quantised on smaller graphs is refused where it meets a larger one, in every form.
    let whole = Task::<f32>::whole(&task).unwrap();
    for forms in [Forms::Integers, Forms::Floats, Forms::Fastest] {
        let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
        says(small.compile_within_as(graph, x, rows, forms).unwrap_err());
    }
}

#[test]
fn what_has_no_integers_or_no_graphs_is_refused_by_name() {
    let quantizer = Quantizer::builder(Bits::Eight).build().unwrap();
    let of_max = gin(Pooling::Max);
    for error in [
        quantizer.check(&of_max, &task()).unwrap_err(),
        quantizer.quantize(&of_max, &task()).unwrap_err(),
    ] {
        let words = error.to_string();
        assert!(words.contains("readout0") && words.contains("no integer form"), "{words}");
    }
    // A norm that no product stands before.
    let mut b = ModelBuilder::new(FEATURES);
    let x = b.add("first", BatchNorm::new(FEATURES).unwrap(), &[NodeId::INPUT]).unwrap();
    let x = b.add("pool", Readout::new(Pooling::Sum), &[x]).unwrap();
    let y = b.add("out", Linear::builder(FEATURES, 2).build::<f32>().unwrap(), &[x]).unwrap();
    let words = quantizer.check(&b.build(y, 0).unwrap(), &task()).unwrap_err().to_string();
    assert!(words.contains("first") && words.contains("a norm"), "{words}");
    let (graph, x, rows) = batch();
    let small = integers(&gin(Pooling::Sum));
    for forms in [Forms::Integers, Forms::Floats, Forms::Fastest] {
        let refused = |rows: &Rows<f32>, x: &Value<f32>| {
            small.compile_within_as(&graph, x.view(), rows, forms).unwrap_err()
        };
        let words = refused(&Rows::new(), &x).to_string();
        assert!(words.contains("readout0") && words.contains("graphs"), "{words}");
        let few = Rows::new().graphs(vec![0; 36], 1).unwrap();
        assert!(refused(&few, &x).to_string().contains("graphs of the nodes"));
        let short = Value::Dense(x.view().to_dense().slice(s![..36, ..]).to_owned());
        assert!(matches!(refused(&rows, &short), Error::ShapeMismatch { .. }));
    }
}

#[test]
fn rows_of_a_table_are_pooled_on_floats() {
    let task = task();
    let mut b = ModelBuilder::new(FEATURES);
    let table = Embedding::drawn(task.set().num_nodes(), 6, Init::Normal(0.7)).unwrap();
    let x = b.add("table", table, &[NodeId::INPUT]).unwrap();
    let x = b.add("pool", Readout::new(Pooling::Sum), &[x]).unwrap();
    let x = b.add("unit", Normalize, &[x]).unwrap();
    let y = b.add("out", Linear::builder(6, 2).build::<f32>().unwrap(), &[x]).unwrap();
    let model = b.build(y, 1).unwrap();
    let quantizer = Quantizer::builder(Bits::Eight).build().unwrap();
    let small = quantizer.quantize(&model, &task).unwrap();
    let on_grid = quantizer.train(&model, &task).unwrap();
    let batch = task.batch(&[4, 17, 2]).unwrap();
    let expected = on_grid.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
    for forms in [Forms::Integers, Forms::Fastest] {
        let (graph, x, rows) = (batch.graph(), batch.features(), batch.spaces());
        let mut program = small.compile_within_as(graph, x, rows, forms).unwrap();
        let off = (&program.run(x).unwrap() - &expected).mapv(f32::abs);
        assert!(off.dim() == (3, 2) && off.iter().all(|off| *off < 1e-5), "{off}");
    }
    let nobody = Rows::new();
    let refused = small.compile_within(batch.graph(), batch.features(), &nobody).unwrap_err();
    assert!(!refused.to_string().is_empty());
}

/// The accuracy of integers on a part, every stage in that form.
fn accuracy(small: &QuantModel, task: &GraphTask, part: Part, forms: Forms) -> f64 {
    let measured = measure(task as &dyn Task<f32>, part, small.seed(), |batch| {
        let (graph, x, rows) = (batch.graph(), batch.features(), batch.spaces());
        Ok(small.compile_within_as(graph, x, rows, forms)?.run(x)?.to_owned())
    });
    measured.unwrap().value
}

#[test]
fn a_trained_network_says_the_same_of_graphs_as_integers() {
    let set = GraphSet::cycles_or_trees(120, 0.0, 1).unwrap();
    let task = GraphTask::builder(&set).folds(4).batch_size(8).build().unwrap();
    let trainer = Trainer::builder().epochs(20).weight_decay(0.0).build().unwrap();
    let form = GinGraphs::builder(1, 2).hidden(8).layers(2).build(0).unwrap();
    let model = trainer.fit(form, &task).unwrap();
    let float = evaluate(&model, &task, Part::Test).unwrap();
    assert!(float > 90.0);
    for (bits, qat, lost) in [(Bits::Eight, 0, 3.5), (Bits::Four, 0, 7.0), (Bits::Four, 4, 7.0)] {
        let quantizer = Quantizer::builder(bits).qat(qat).build().unwrap();
        let small = quantizer.quantize(&model, &task).unwrap();
        for forms in [Forms::Integers, Forms::Floats] {
            let found = accuracy(&small, &task, Part::Test, forms);
            assert!(
                found >= float - lost,
                "{bits} bits, {qat} epochs, {forms:?}: {found} of {float}"
            );
        }
    }
}

#[test]
fn training_on_the_grid_keeps_the_best_epoch_of_graphs_from_the_start_on() {
    let task = task();
    let trainer = Trainer::builder().epochs(10).weight_decay(0.0).build().unwrap();
    let model = trainer.fit(gin(Pooling::Sum), &task).unwrap();
    let quantizer = |epochs| Quantizer::builder(Bits::Two).qat(epochs).build().unwrap();
    let before = quantizer(0).train(&model, &task).unwrap();
    let after = quantizer(6).train(&model, &task).unwrap();
    let of = |model: &Model| {
        let mut all = Vec::new();
        model.visit(&mut |name, param| all.push((name.to_string(), param.value().clone())));
        all
    };
    assert_eq!(of(&before).len(), of(&after).len());
    // It is the network on its grid that is converted: floats made of the integers say the same.
    let small = quantizer(6).quantize(&model, &task).unwrap();
    let whole = Task::<f32>::whole(&task).unwrap();
    let expected = after.infer(&whole.on(&Cx::without_graph()), whole.features()).unwrap();
    let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
    let mut program = small.compile_within_as(graph, x, rows, Forms::Floats).unwrap();
    let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let off = (&program.run(x).unwrap() - &expected).mapv(f32::abs);
    assert!(off.iter().all(|off| *off < 1e-4 * largest), "{small}");
}

#[test]
fn a_compression_of_a_classifier_of_graphs_ends_in_integers() -> gnn_prune::Result<()> {
    let set = GraphSet::cycles_or_trees(80, 0.0, 1)?;
    let task = GraphTask::builder(&set).folds(4).batch_size(8).build()?;
    let trainer = Trainer::builder().epochs(8).weight_decay(0.0).build()?;
    let form = GinGraphs::builder(1, 2).hidden(16).layers(2).build(0)?;
    let out = Compression::train(form, trainer, 3, &task)?
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build()?)
        .step(FineTune::epochs(3))
        .quantize(Quantizer::builder(Bits::Eight).build()?)
        .run()?;
    let names: Vec<&str> = out.report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[..4], ["dense", "channels 0.75", "finetune 3", "bits 8"]);
    assert!(names.contains(&"narrow control") && names.contains(&"random control"), "{names:?}");
    let bytes = |k: usize| out.report.rows[k].account.bytes.weights;
    assert!(bytes(3) < bytes(2) && bytes(2) * 2 < bytes(0), "{names:?}");
    let row = &out.report.rows[3];
    assert!(row.account.forms.iter().any(|stage| stage.operation == "pool"));
    assert_eq!(row.accuracy.per_seed.len(), 3);
    // The report's figure of the seed that is kept is that of the model on its own test fold.
    let found = accuracy(&out.model, &task, Part::Test, Forms::Fastest);
    assert_eq!(found, row.accuracy.per_seed[out.model.seed() as usize]);
    Ok(())
}
