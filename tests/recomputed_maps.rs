//! Maps that are made again on the way back, some rows at a time: the same forward to the bit, the
//! same gradients but for the order of sums.

use gnn_prune::models::Normalization;
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{ActivationFn, Cx, Grads, Memory, Mode, NodeId};
use gnn_prune::task::{Part, cross_entropy, evaluate};
use gnn_prune::{Dataset, Gat, Gcn, Mlp, Model, Result, Sage, Sgc, Trainer, Value, ValueRef};

/// More nodes than are computed at a time, and not a multiple of them.
const NODES: usize = 5000;

fn data() -> Dataset {
    Dataset::sbm(NODES, 3).features(12).seed(2).build().unwrap()
}

fn gradients(model: &Model<f64>, grads: &Grads<f64>) -> Vec<Array2<f64>> {
    let zeros = |dim| Array2::zeros(dim);
    let params = model.params();
    params
        .map(|(_, param)| {
            grads.get(param.id()).cloned().unwrap_or_else(|| zeros(param.value().dim()))
        })
        .collect()
}

/// Output and gradients of one step in training.
fn step(
    model: &Model<f64>,
    data: &Dataset<f64>,
    x: ValueRef<f64>,
    memory: Memory,
) -> Result<(Array2<f64>, Vec<Array2<f64>>)> {
    let cx = Cx::eval(data.graph()).with_memory(memory);
    let cx = cx.with_mode(Mode::Train { seed: 1, step: 7 });
    let trace = model.trace(&cx, x)?;
    let output = trace.output().to_owned();
    let train = data.split(0).train;
    let (_, gradient) = cross_entropy(trace.output(), data.classes().unwrap(), &train);
    let grads = model.backward(&cx, trace, vec![(model.output(), gradient)])?;
    Ok((output, gradients(model, &grads)))
}

fn assert_agrees(model: &Model<f64>, data: &Dataset<f64>, x: ValueRef<f64>, what: &str) {
    let (whole, exact) = step(model, data, x, Memory::Whole).unwrap();
    let (output, close) = step(model, data, x, Memory::Recompute).unwrap();
    assert_eq!(whole, output, "{what}");
    for (exact, close) in exact.iter().zip(&close) {
        let size = exact.iter().fold(1e-3, |most: f64, g| most.max(g.abs()));
        let off = (exact - close).iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        assert!(off <= 1e-12 * size, "{what}: {off} of {size}");
    }
    // Inference has no trace, and may write over what it reads.
    let cx = Cx::eval(data.graph());
    let expected = model.infer(&cx, x).unwrap();
    assert_eq!(model.infer(&cx.with_memory(Memory::Recompute), x).unwrap(), expected, "{what}");
}

#[test]
fn outputs_are_the_same_to_the_bit_and_gradients_but_for_the_order_of_sums() {
    let data = data();
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let gcn = || Gcn::builder(inputs, outputs).hidden(16).layers(3).dropout(0.4);
    let tanh = ActivationFn::Tanh;
    let models = [
        ("gcn", gcn().build(0)),
        ("gcn without dropout", gcn().dropout(0.0).build(0)),
        ("gcn, narrow inside", gcn().hidden(5).activation(tanh).build(0)),
        ("gcn of equal layers", gcn().hidden(16).layers(5).build(0)),
        ("gcn with layer norms", gcn().norm(Normalization::Layer).build(0)),
        ("sgc", Sgc::builder(inputs, outputs).build(0)),
        ("wider sgc", Sgc::builder(inputs, 20).build(0)),
        ("mlp", Mlp::builder(inputs, outputs).hidden(16).layers(3).build(0)),
    ];
    let data = data.cast::<f64>();
    for (what, model) in models {
        let model = model.unwrap().cast::<f64>().unwrap();
        let ValueRef::Dense(x) = data.features() else { panic!("features of blocks are dense") };
        assert_agrees(&model, &data, ValueRef::Dense(x), what);
        // The same features with most of them left out, stored as they are and without their zeros.
        let thin = x.mapv(|x| if x > 0.8 { x } else { 0.0 });
        let stored = Value::Sparse(Value::Dense(thin.clone()).into_sparse());
        assert_agrees(&model, &data, ValueRef::Dense(thin.view()), what);
        assert_agrees(&model, &data, stored.view(), &format!("{what}, sparse"));
    }
}

#[test]
fn frozen_parameters_stop_the_way_back_where_nothing_learns_before_them() {
    let data = data();
    let gcn = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).layers(3);
    let mut model = gcn.build(0).unwrap().cast::<f64>().unwrap();
    let data = data.cast::<f64>();
    let free = step(&model, &data, data.features(), Memory::Recompute).unwrap().1;
    for name in ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"] {
        model.param_mut(name).unwrap().set_trainable(false);
        let some = step(&model, &data, data.features(), Memory::Recompute).unwrap().1;
        for ((name, param), (own, free)) in model.params().zip(some.iter().zip(&free)) {
            assert!(!param.is_trainable() || own == free, "{name}");
        }
    }
}

#[test]
fn what_cannot_be_recomputed_is_refused_by_name() {
    let data = data();
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let gcn = || Gcn::builder(inputs, outputs).hidden(8).layers(3);
    let models = [
        (gcn().residual(true).build(0), "add"),
        (gcn().norm(Normalization::Batch).build(0), "batch_norm"),
        (Gat::builder(inputs, outputs).build(0), "gat_conv"),
        (Sage::builder(inputs, outputs).build(0), "sage_conv"),
    ];
    let trainer = Trainer::builder().epochs(1).memory(Memory::Recompute).build().unwrap();
    for (model, kind) in models {
        let refused = trainer.fit(model.unwrap(), &data).unwrap_err().to_string();
        assert!(refused.contains(kind) && refused.contains("cannot be recomputed"), "{refused}");
    }
    let model = gcn().build(0).unwrap();
    let cx = Cx::eval(data.graph()).with_memory(Memory::Recompute);
    let kept = model.node("conv1").unwrap();
    assert!(model.trace_keeping(&cx, data.features(), &[kept]).is_err());
    let seed = |id: NodeId| vec![(id, Array2::zeros((NODES, model.channels(id))))];
    let trace = || model.trace(&cx, data.features()).unwrap();
    assert!(model.backward(&cx, trace(), seed(kept)).is_err());
    assert!(model.backward_to_input(&cx, trace(), &seed(model.output())).is_err());
    let short = vec![(model.output(), Array2::zeros((NODES - 1, outputs)))];
    assert!(model.backward(&cx, trace(), short).is_err());
}

#[test]
fn a_training_that_recomputes_has_the_same_bits_in_any_pool_and_learns_as_well() -> Result<()> {
    let data = Dataset::sbm(3000, 3).features(12).seed(2).build()?;
    let train = |memory, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| -> Result<Model> {
            let model =
                Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
            let trainer = Trainer::builder().epochs(20).memory(memory).build()?;
            trainer.fit(model, &data)
        })
    };
    let recomputed = train(Memory::Recompute, 1)?;
    assert_eq!(recomputed.to_bytes()?, train(Memory::Recompute, 3)?.to_bytes()?);
    let accuracy = |model: &Model| evaluate(model, &data, Part::Test);
    let (own, whole) = (accuracy(&recomputed)?, accuracy(&train(Memory::Whole, 1)?)?);
    assert!((own - whole).abs() < 1.0, "{own} and {whole}");
    Ok(())
}
