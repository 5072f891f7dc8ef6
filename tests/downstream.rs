//! The programs of a user, and a layer of one's own, through the public API alone.

use gnn_prune::distill::{DistillLoss, Signals};
use gnn_prune::ndarray::{Array2, ArrayView2, Axis as Side};
use gnn_prune::nn::{
    Attrs, Axis, Cx, Evaluated, GcnConv, Grads, Init, Io, Layer, Lowering, Model, ModelBuilder,
    NodeId, Opaque, Param, Place, PruneUnits, Python, Queries, Reads, Registered, Registry,
    RowSpace, Rows, Shapes, StageId, Twin, Wiring,
};
use gnn_prune::pipeline::{Control, Distill, Env, Key, Settings, Student, Subject, Word, Words};
use gnn_prune::prune::{Criterion, Scores, Units};
use gnn_prune::rng::{ChaCha8Rng, hash};
use gnn_prune::task::{Batch, Batches, Metric, Part, Tally, Task, binary_cross_entropy, evaluate};
use gnn_prune::testing::{
    check_determinism, check_gradients, check_mask_equals_shrink, check_oracle, check_permutation,
    check_program, check_save_load, models_around, random_dense, random_graph, random_layer,
    random_plan,
};
use gnn_prune::train::{Epoch, Flow, NodeGrads, Observer, Optimizer, Pass, Setup};
use gnn_prune::{
    Bits, Calibrate, ChannelPruner, Compressed, Compression, Controls, Dataset, Distiller,
    EdgePruner, Error, FineTune, Gcn, Graph, InputGradients, Magnitude, Quantizer, Random, Recipe,
    Result, Scalar, SoftLabels, Step, Trainer, Unsupported, Value, ValueRef, WeightPruner,
};

#[test]
fn a_model_is_trained_looked_at_and_made_smaller() -> Result<()> {
    let data = Dataset::digits()?;
    let model =
        Gcn::builder(data.num_features(), data.num_classes()).hidden(64).layers(2).build(0)?;
    let model = Trainer::builder().epochs(30).build()?.fit(model, &data)?;

    let plan = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?.plan(&model, &data)?;
    assert!(plan.to_string().contains("conv1: 64 -> 32"), "{plan}");
    let small = plan.shrink(&model)?;
    assert_eq!(
        (model.num_params(), small.num_params()),
        (64 * 64 + 64 + 64 * 10 + 10, 64 * 32 + 32 + 32 * 10 + 10)
    );

    let out = Compression::of(model, &data)
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build()?)
        .step(FineTune::epochs(15))
        .controls(Controls::None)
        .run()?;
    let names: Vec<&str> = out.report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["dense", "channels 0.75", "finetune 15"]);
    assert_eq!(out.model.num_params(), 64 * 16 + 16 + 16 * 10 + 10);
    let accuracy = evaluate(&out.model, &data, Part::Test)?;
    assert!(accuracy > 80.0, "{accuracy} %");
    Ok(())
}

#[test]
fn a_graph_goes_to_sprs_and_back() -> Result<()> {
    let graph = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected(true).build()?;
    let matrix: gnn_prune::sprs::CsMatI<f32, u32, usize> = graph.clone().into();
    assert_eq!(matrix.nnz(), 4);
    assert_eq!(Graph::try_from(matrix)?.adjacency(), graph.adjacency());
    Ok(())
}

/// `Y_c = g_c · tanh(X_c)`: a gain for each channel, learned.
#[derive(Debug, Clone)]
struct Gain<F: Scalar> {
    gain: Param<F>,
}

impl<F: Scalar> Gain<F> {
    fn new(channels: usize) -> Self {
        Self { gain: Param::new("gain", (1, channels), [Axis::Fixed, Axis::Out], Init::Ones) }
    }
}

impl<F: Scalar> Layer<F> for Gain<F> {
    /// `tanh(X)`.
    type Cache = Array2<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Array2<F>)> {
        cx.check(&xs[0], self.gain.value().ncols())?;
        let t = xs[0].with_dense(|x| x.mapv(F::tanh));
        Ok((Value::Dense(&t * self.gain.value()), t))
    }

    /// `dg = Σ_i dY_i ⊙ tanh(X_i)`, `dX = dY ⊙ g ⊙ (1 − tanh²(X))`.
    fn backward(
        &self,
        _: &Cx<F>,
        _: &Io<F>,
        t: Array2<F>,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let dy = dy.to_dense();
        grads.add(&self.gain, (&dy * &t).sum_axis(Side(0)).insert_axis(Side(0)));
        vec![Some(Value::Dense(dy * self.gain.value() * t.mapv(|t| F::one() - t * t)))]
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    /// `tanh`, then a product with the diagonal matrix of the gains.
    fn lower(
        &self,
        lowering: &mut Lowering<F>,
        xs: &[StageId],
    ) -> std::result::Result<StageId, Unsupported> {
        let channels = self.gain.value().ncols();
        let mut diagonal =
            Param::new("diagonal", (channels, channels), [Axis::In(0), Axis::Out], Init::Zeros);
        diagonal.value_mut().diag_mut().assign(&self.gain.value().row(0));
        let t = lowering.activation(xs[0], gnn_prune::nn::ActivationFn::Tanh);
        Ok(lowering.linear(t, &diagonal))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.gain);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.gain);
    }
}

impl<F: Scalar> Registered<F> for Gain<F> {
    const KIND: &'static str = "gain";
    const PYTORCH: std::result::Result<Twin, &'static str> = Err("of one's own");

    fn from_attrs(_: &Attrs, shapes: &Shapes) -> Result<Self> {
        Ok(Self::new(shapes.get("gain")?.1))
    }

    fn sample(widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        (widths.len() == 1).then(|| Self::new(widths[0]))
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("of one's own".into())
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        Array2::from_shape_fn(xs[0].dim(), |(i, c)| {
            self.gain.value()[[0, c]] * xs[0][[i, c]].tanh()
        })
    }
}

fn with_gain(data: &Dataset) -> Result<Model> {
    let mut builder = Model::builder(data.num_features());
    let hidden = builder.add(
        "conv1",
        GcnConv::builder(data.num_features(), 24).build()?,
        &[NodeId::INPUT],
    )?;
    let gain = builder.add("gain", Gain::new(24), &[hidden])?;
    let output =
        builder.add("conv2", GcnConv::builder(24, data.num_classes()).build()?, &[gain])?;
    builder.build(output, 3)
}

#[test]
fn a_layer_of_ones_own_is_trained_pruned_compiled_saved_and_loaded() -> Result<()> {
    let data = Dataset::digits()?;
    let model = Trainer::builder().epochs(25).build()?.fit(with_gain(&data)?, &data)?;
    let accuracy = evaluate(&model, &data, Part::Test)?;
    assert!(accuracy > 80.0, "{accuracy} %");
    let mut gains = None;
    model.visit(&mut |name, param| {
        if name == "gain.gain" {
            gains = Some(param.value().clone());
        }
    });
    assert!(gains.unwrap().iter().any(|gain| (gain - 1.0).abs() > 0.01), "the gains are learned");

    let small = ChannelPruner::builder(Magnitude::l2())
        .ratio(0.5)
        .build()?
        .plan(&model, &data)?
        .shrink(&model)?;
    assert_eq!(
        small.num_params(),
        64 * 12 + 12 + 12 + 12 * 10 + 10,
        "the gains of removed channels are gone"
    );

    let expected = small.infer(&Cx::eval(data.graph()), data.features())?;
    let mut program = small.compile(data.graph(), data.features())?;
    let logits = program.run(data.features())?;
    // A sum of at most 64 terms of size one, in another order.
    assert!(
        expected
            .iter()
            .zip(logits)
            .all(|(a, b)| (a - b).abs() <= 64.0 * f32::EPSILON * (1.0 + a.abs()))
    );

    let twin: Model<f64> = small.cast_with(&Registry::standard().with::<Gain<f64>>())?;
    assert_eq!(twin.num_params(), small.num_params());
    assert!(small.cast::<f64>().unwrap_err().to_string().contains("gain"));
    check_save_load(&small, &Registry::standard().with::<Gain<f32>>()).unwrap();
    let unknown = check_save_load(&small, &Registry::standard()).unwrap_err();
    assert!(unknown.contains("unknown layer `gain`"), "{unknown}");
    Ok(())
}

#[test]
fn a_layer_of_ones_own_stands_under_the_whole_contract() {
    let registry = Registry::<f64>::standard().with::<Gain<f64>>();
    let entry = registry.entries().iter().find(|entry| entry.kind() == "gain").unwrap();
    for seed in 0..10 {
        let graph = random_graph(seed, 10);
        let x = random_dense(seed, (graph.num_nodes(), 4));
        let layer = random_layer(seed, entry, graph.num_nodes(), &[4], 4).unwrap();
        check_oracle(entry, &*layer, &graph, &[x.view().to_dense()]).unwrap();
        for model in models_around(seed, entry, graph.num_nodes(), 4, 3) {
            check_gradients(&model, &graph, x.view(), seed).unwrap();
            check_permutation(&model, &graph, x.view()).unwrap();
            check_save_load(&model, &registry).unwrap();
            check_determinism(&model, &graph, x.view()).unwrap();
            check_program(&model, &graph, x.view()).unwrap();
            if let Ok(plan) = random_plan(seed, &model) {
                check_mask_equals_shrink(&model, &plan, &graph, x.view()).unwrap();
            }
        }
    }
}

/// [`Gain`] with the derivative of `tanh` forgotten.
#[derive(Debug, Clone)]
struct WrongGain(Gain<f64>);

impl Layer<f64> for WrongGain {
    type Cache = Array2<f64>;
    fn kind(&self) -> &'static str {
        "wrong_gain"
    }
    fn wiring(&self) -> Wiring {
        Layer::wiring(&self.0)
    }
    fn forward(&self, cx: &Cx<f64>, xs: &[ValueRef<f64>]) -> Result<(Value<f64>, Array2<f64>)> {
        Layer::forward(&self.0, cx, xs)
    }
    fn backward(
        &self,
        cx: &Cx<f64>,
        io: &Io<f64>,
        t: Array2<f64>,
        dy: ValueRef<f64>,
        grads: &mut Grads<f64>,
    ) -> Vec<Option<Value<f64>>> {
        let dx = dy.to_dense() * self.0.gain.value();
        Layer::backward(&self.0, cx, io, t, dy, grads);
        vec![Some(Value::Dense(dx))]
    }
    fn lower(
        &self,
        lowering: &mut Lowering<f64>,
        xs: &[StageId],
    ) -> std::result::Result<StageId, Unsupported> {
        Err(Unsupported {
            layer: "wrong_gain".into(),
            reason: format!("{} inputs, {} stages", xs.len(), lowering.stages().len()),
        })
    }
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<f64>)) {
        Layer::visit(&self.0, f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<f64>)) {
        Layer::visit_mut(&mut self.0, f);
    }
}

#[test]
fn a_wrong_backward_is_found_and_a_layer_without_stages_is_named() -> Result<()> {
    let mut builder = ModelBuilder::<f64>::new(3);
    let gain = builder.add("gain", WrongGain(Gain::new(3)), &[NodeId::INPUT])?;
    let output = builder.add("out", GcnConv::builder(3, 2).build()?, &[gain])?;
    let model = builder.build(output, 0)?;
    let graph = random_graph(4, 10);
    let x = random_dense(4, (graph.num_nodes(), 3));
    let error = check_gradients(&model, &graph, x.view(), 0).unwrap_err();
    assert!(error.contains("gradient of the input"), "{error}");
    let error = model.compile(&graph, x.view()).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported(unsupported) if unsupported.layer == "wrong_gain"),
        "{error}"
    );
    Ok(())
}

/// `z_uv = ⟨x_u, x_v⟩` for each pair `(u, v)` that the batch asks about.
#[derive(Debug, Clone)]
struct PairDot;

fn pairs_of(cx: &Cx<f32>) -> Result<Vec<[u32; 2]>> {
    let asked = cx.queries()?;
    Ok((0..asked.num_pairs()).map(|k| asked.pair(k)).collect())
}

impl Layer<f32> for PairDot {
    type Cache = ();

    fn kind(&self) -> &'static str {
        "pair_dot"
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: 1, units: PruneUnits::Single }
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        (inputs == [RowSpace::Nodes]).then_some(RowSpace::Pairs)
    }

    fn forward(&self, cx: &Cx<f32>, xs: &[ValueRef<f32>]) -> Result<(Value<f32>, ())> {
        let (x, pairs) = (xs[0].to_dense(), pairs_of(cx)?);
        let dots = pairs.iter().map(|&[u, v]| x.row(u as usize).dot(&x.row(v as usize)));
        Ok((Value::Dense(Array2::from_shape_vec((pairs.len(), 1), dots.collect()).unwrap()), ()))
    }

    /// `dx_u += dz_uv · x_v`, `dx_v += dz_uv · x_u`.
    fn backward(
        &self,
        cx: &Cx<f32>,
        io: &Io<f32>,
        (): (),
        dy: ValueRef<f32>,
        _: &mut Grads<f32>,
    ) -> Vec<Option<Value<f32>>> {
        let (x, dy) = (io.input(0).to_dense(), dy.to_dense());
        let mut dx = Array2::zeros(x.dim());
        for ([u, v], &dz) in pairs_of(cx).unwrap().into_iter().zip(&dy) {
            dx.row_mut(u as usize).scaled_add(dz, &x.row(v as usize));
            dx.row_mut(v as usize).scaled_add(dz, &x.row(u as usize));
        }
        vec![Some(Value::Dense(dx))]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(
        &self,
        lowering: &mut Lowering<f32>,
        xs: &[StageId],
    ) -> std::result::Result<StageId, Unsupported> {
        let pairs = lowering.within().asked().map_or(0, Queries::num_pairs);
        let macs = (pairs * lowering.width(xs[0])) as u64;
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), 1))
    }
}

/// Which pairs of nodes are edges: some edges are hidden, and beside each stands a pair that is
/// none, drawn anew in each epoch.
struct Edges {
    /// The data without the edges that are hidden.
    data: Dataset,
    hidden: [Vec<[u32; 2]>; 3],
    known: std::collections::BTreeSet<[u32; 2]>,
}

impl Edges {
    fn of(data: &Dataset) -> Result<Self> {
        let (starts, sources) = data.graph().edge_list();
        let mut known = std::collections::BTreeSet::new();
        for i in 0..data.num_nodes() {
            let neighbours = sources[starts[i]..starts[i + 1]].iter();
            known.extend(neighbours.filter(|&&j| (j as usize) < i).map(|&j| [j, i as u32]));
        }
        let part = |k: usize| -> Vec<[u32; 2]> {
            let of = |(e, pair): (usize, &[u32; 2])| (e % 10 == k).then_some(*pair);
            known.iter().enumerate().filter_map(of).collect()
        };
        let hidden = [part(0), part(1), part(2)];
        let left = known.iter().enumerate().filter(|(e, _)| e % 10 > 2).map(|(_, pair)| *pair);
        let edges = left.map(|[u, v]| (u as usize, v as usize));
        let graph = Graph::builder(data.num_nodes()).edges(edges).undirected(true).build()?;
        Ok(Self { data: data.with_graph(graph)?, hidden, known })
    }

    /// The hidden edges of a part, and as many pairs that are no edges.
    fn batch(&self, pairs: &[[u32; 2]], key: &[u64]) -> Batch<f32> {
        let (n, mut draws, mut asked) = (self.data.num_nodes() as u64, 0, pairs.to_vec());
        while asked.len() < 2 * pairs.len() {
            draws += 1;
            let word = gnn_prune::rng::hash(draws, key);
            let (u, v) = ((word % n) as u32, ((word >> 32) % n) as u32);
            let pair = [u.min(v), u.max(v)];
            if u != v && !self.known.contains(&pair) {
                asked.push(pair);
            }
        }
        let labels: Vec<bool> = (0..asked.len()).map(|k| k < pairs.len()).collect();
        let rows: Vec<u32> = (0..asked.len() as u32).collect();
        Batch::of(&self.data, rows)
            .with_spaces(Rows::new().queries(Queries::pairs(&asked)))
            .with(labels)
    }
}

impl Task<f32> for Edges {
    fn name(&self) -> &str {
        "edges"
    }

    fn data(&self) -> &Dataset {
        &self.data
    }

    /// The hidden edges of the training part, which a calibration may look at.
    fn whole(&self) -> Result<Batch<f32>> {
        Ok(self.batch(&self.hidden[0], &[]))
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, f32>> {
        let (k, trains) = match part {
            Part::Train => (0, true),
            Part::Validation => (1, false),
            _ => (2, false),
        };
        let batch =
            move |epoch: usize| self.batch(&self.hidden[k], &[seed, k as u64, epoch as u64]);
        Ok(match trains {
            true => Batches::drawn(move |epoch| std::iter::once(Ok(batch(epoch)))),
            false => Batches::fixed(vec![batch(0)]),
        })
    }

    fn loss(&self, y: ArrayView2<f32>, batch: &Batch<f32>) -> Result<(f32, Array2<f32>)> {
        let labels = batch.attached::<Vec<bool>>().expect("the task's own batch");
        let labels = Array2::from_shape_vec((labels.len(), 1), labels.clone()).unwrap();
        Ok(binary_cross_entropy(y, labels.view(), batch.rows()))
    }

    fn metric(&self) -> Metric {
        Metric::ROC_AUC
    }

    fn judge(&self, y: ArrayView2<f32>, batch: &Batch<f32>, tally: &mut Tally) -> Result<()> {
        let labels = batch.attached::<Vec<bool>>().expect("the task's own batch");
        y.iter().zip(labels).for_each(|(&z, &edge)| tally.rank(0, f64::from(z), edge));
        Ok(())
    }
}

/// A step of one size down the sign of each gradient.
struct Signs(f32);

impl Optimizer<f32> for Signs {
    fn step(&mut self, param: &mut Param<f32>, gradient: Option<&Array2<f32>>, factor: f64) {
        let Some(gradient) = gradient else { return };
        let size = self.0 * factor as f32;
        param.value_mut().zip_mut_with(gradient, |w, &g| {
            if g != 0.0 {
                *w -= size * g.signum();
            }
        });
    }

    fn forget(&mut self) {}

    fn fresh(&self) -> Box<dyn Optimizer<f32>> {
        Box::new(Signs(self.0))
    }
}

/// Counts passes, reads a node that it asked the trace to keep, and halves the network's width
/// once.
struct Narrowing<'a> {
    data: &'a Dataset,
    keeps: Vec<NodeId>,
    seen: Vec<usize>,
}

impl Observer<f32> for Narrowing<'_> {
    fn keeps(&self) -> &[NodeId] {
        &self.keeps
    }

    fn after_forward(&mut self, pass: &Pass<f32>) -> Result<()> {
        self.seen.push(pass.trace.value(self.keeps[0]).expect("it was asked for").cols());
        Ok(())
    }

    fn after_epoch(&mut self, at: &Epoch, model: &mut Model) -> Result<Flow> {
        if at.epoch != 3 {
            return Ok(Flow::On);
        }
        let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?;
        *model = pruner.plan(model, self.data)?.shrink(model)?;
        Ok(Flow::Changed)
    }
}

fn encoder(data: &Dataset) -> Result<Model> {
    let mut builder = Model::builder(data.num_features());
    let conv = GcnConv::builder(data.num_features(), 16).build()?;
    let hidden = builder.add("conv1", conv, &[NodeId::INPUT])?;
    let code = builder.add("conv2", GcnConv::builder(16, 8).build()?, &[hidden])?;
    let dot = builder.add("dot", PairDot, &[code])?;
    builder.build(dot, 5)
}

#[test]
fn a_task_of_ones_own_predicts_edges_with_a_decoder_of_ones_own() -> Result<()> {
    let data = Dataset::sbm(300, 4).degree(8.0).homophily(0.9).features(8).seed(1).build()?;
    let task = Edges::of(&data)?;
    let model = encoder(&data)?;
    let before = evaluate(&model, &task, Part::Test)?;
    let trainer = Trainer::builder().epochs(60).build()?;
    let trained = trainer.fit(model.clone(), &task)?;
    let after = evaluate(&trained, &task, Part::Test)?;
    assert!(after > 70.0 && after > before + 5.0, "{before} % before, {after} % after");
    // The same seed draws the same pairs.
    let again = trainer.fit(model, &task)?;
    let weights = |model: &Model| {
        let mut all = Vec::new();
        model.visit(&mut |_, param| all.extend(param.value().iter().copied()));
        all
    };
    assert_eq!(weights(&again), weights(&trained));
    Ok(())
}

#[test]
fn a_task_of_ones_own_is_compressed_by_what_compresses_nodes() -> Result<()> {
    let data = Dataset::sbm(300, 4).degree(8.0).homophily(0.9).features(8).seed(1).build()?;
    let task = Edges::of(&data)?;
    let model = Trainer::builder().epochs(40).build()?.fit(encoder(&data)?, &task)?;
    let out = Compression::of(model.clone(), &task)
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?)
        .step(WeightPruner::builder().sparsity(0.5).build()?)
        .step(FineTune::epochs(10))
        .run()?;
    let names: Vec<&str> = out.report.rows.iter().map(|row| row.name.as_str()).collect();
    let stages = ["dense", "channels 0.5", "weights 0.5", "finetune 10"];
    assert_eq!(names[..4], stages);
    assert_eq!(names[4..6], ["narrow control", "random control"]);
    assert_eq!((out.report.data.name.as_str(), out.report.data.classes), ("edges", 1));
    assert_eq!(out.model.node("conv2").map(|id| out.model.channels(id)), Some(4));
    let auc = |row: usize| out.report.rows[row].accuracy.mean;
    assert_eq!(auc(3), evaluate(&out.model, &task, Part::Test)?);
    assert!(auc(3) > 70.0, "{} % of {} %", auc(3), auc(0));

    // A program has as many rows as the batch has pairs, whether more than nodes or fewer.
    let x = data.features();
    for pairs in [1, 7, 2000] {
        let pairs: Vec<[u32; 2]> = (0..pairs).map(|k| [k * 7 % 300, k * 11 % 300]).collect();
        let rows = Rows::new().queries(Queries::pairs(&pairs));
        let graph = task.data().graph();
        let expected = model.infer(&Cx::eval(graph).within(&rows), x)?;
        let mut program = model.compile_within(graph, x, &rows)?;
        for _ in 0..2 {
            let found = program.run(x)?;
            assert_eq!(found.dim(), (pairs.len(), 1));
            // Sums of at most 16 terms of size one, in another order.
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
        }
        let of_nodes = (300 * 16 * 8 + 300 * 8 * 16) as u64;
        assert!(program.cost().macs > of_nodes + 8 * pairs.len() as u64);
    }
    Ok(())
}

#[test]
fn what_a_task_has_not_is_refused_by_its_name() -> Result<()> {
    let data = Dataset::sbm(300, 4).degree(8.0).features(8).seed(1).build()?;
    let (task, model) = (Edges::of(&data)?, encoder(&data)?);
    let refused = |result: Result<Model>, what: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    let train = WeightPruner::builder().calibrate(Calibrate::Train).build()?;
    refused(train.prune(&model, &task), "edges: asks about pairs or graphs");
    let distiller = Distiller::builder(InputGradients).build()?;
    refused(distiller.distill(model.clone(), &model, &task), "edges: asks about pairs or graphs");
    // Of scores that stand alone a student learns what its teacher takes for an edge.
    let distiller = Distiller::builder(SoftLabels::default()).epochs(30).build()?;
    let taught = distiller.distill(encoder(&data)?, &model, &task)?;
    let apart = |student: &Model| -> Result<f32> {
        let batch = task.whole()?;
        let cx = batch.on(&Cx::without_graph());
        let (own, said) =
            (student.infer(&cx, batch.features())?, model.infer(&cx, batch.features())?);
        Ok((own - said).mapv(f32::abs).mean().unwrap())
    };
    let other = encoder(&data)?.fresh(model.seed() + 1);
    let healed = distiller.distill(other.clone(), &model, &task)?;
    assert!(apart(&healed)? < 0.8 * apart(&other)?, "{} of {}", apart(&healed)?, apart(&other)?);
    assert!(apart(&taught)? < 1.0);
    let fewer = Compression::of(model.clone(), &task)
        .step(EdgePruner::builder(Random::new()).ratio(0.1).build()?)
        .controls(Controls::None);
    refused(fewer.run().map(|out| out.model), "edges: asks for its own edges");
    let quantised = Quantizer::builder(Bits::Eight).build()?.quantize(&model, &task);
    let error = quantised.unwrap_err().to_string();
    assert!(error.contains("`dot`") && error.contains("no integer form"), "{error}");
    // A batch without the pairs that the model is about.
    let error = model.compile(data.graph(), data.features()).unwrap_err().to_string();
    assert!(error.contains("`dot`") && error.contains("its rows are pairs"), "{error}");
    // Of nodes it has all that the data have.
    let nodes = Gcn::builder(8, 4).hidden(8).build(0)?;
    assert_eq!(train.prune(&nodes, &data)?.num_params(), nodes.num_params());
    Ok(())
}

#[test]
fn an_optimiser_and_an_observer_of_ones_own_change_how_a_model_is_trained() -> Result<()> {
    let data = Dataset::digits()?;
    let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
    let trainer = Trainer::builder().epochs(6).build()?;
    let mut signs = Signs(0.01);
    let fit = trainer.fit_with(model.clone(), &data, Setup::new().optimizer(&mut signs))?;
    assert!(fit.losses[5] < fit.losses[0], "{:?}", fit.losses);

    let keeps = vec![model.node("conv1").unwrap()];
    let mut narrowing = Narrowing { data: &data, keeps, seen: Vec::new() };
    let setup = Setup::new().observer(&mut narrowing);
    let fit = trainer.fit_with(model, &data, setup)?;
    assert_eq!(narrowing.seen, [16, 16, 16, 8, 8, 8]);
    assert_eq!(fit.losses.len(), 6);
    Ok(())
}

/// `Y = X ⊙ X`, of which no stage knows.
#[derive(Debug, Clone)]
struct Square;

impl Layer<f32> for Square {
    type Cache = ();
    fn kind(&self) -> &'static str {
        "square"
    }
    fn wiring(&self) -> Wiring {
        Wiring::Same
    }
    fn forward(&self, _: &Cx<f32>, xs: &[ValueRef<f32>]) -> Result<(Value<f32>, ())> {
        Ok((Value::Dense(xs[0].to_dense().mapv_into(|v| v * v)), ()))
    }
    fn backward(
        &self,
        _: &Cx<f32>,
        io: &Io<f32>,
        (): (),
        dy: ValueRef<f32>,
        _: &mut Grads<f32>,
    ) -> Vec<Option<Value<f32>>> {
        vec![Some(Value::Dense(dy.to_dense() * io.input(0).to_dense() * 2.0))]
    }
    fn lower(
        &self,
        lowering: &mut Lowering<f32>,
        xs: &[StageId],
    ) -> std::result::Result<StageId, Unsupported> {
        let width = lowering.width(xs[0]);
        let macs = (lowering.rows(xs[0]) * width) as u64;
        Ok(lowering.opaque(xs, Squares { macs }, width))
    }
}

struct Squares {
    macs: u64,
}

impl Opaque<f32> for Squares {
    fn name(&self) -> &str {
        "squares"
    }
    fn macs(&self) -> u64 {
        self.macs
    }
    fn run(&self, cx: &Cx<f32>, xs: &[ValueRef<f32>]) -> Result<Array2<f32>> {
        let mut y = cx.copy_of(&xs[0]);
        y.mapv_inplace(|v| v * v);
        Ok(y)
    }
}

#[test]
fn a_layer_of_ones_own_brings_an_operation_that_no_stage_is() -> Result<()> {
    let data = Dataset::digits()?;
    let mut builder = ModelBuilder::<f32>::new(data.num_features());
    let h = builder.add("in", GcnConv::builder(64, 8).build()?, &[NodeId::INPUT])?;
    let h = builder.add("square", Square, &[h])?;
    let y = builder.add("out", GcnConv::builder(8, 10).build()?, &[h])?;
    let model = builder.build(y, 0)?;
    let mut program = model.compile(data.graph(), data.features())?;
    let without = {
        let mut builder = ModelBuilder::<f32>::new(data.num_features());
        let h = builder.add("in", GcnConv::builder(64, 8).build()?, &[NodeId::INPUT])?;
        let y = builder.add("out", GcnConv::builder(8, 10).build()?, &[h])?;
        builder.build(y, 0)?.compile(data.graph(), data.features())?
    };
    assert_eq!(program.cost().macs - without.cost().macs, (data.num_nodes() * 8) as u64);
    let expected = model.infer(&Cx::eval(data.graph()), data.features())?;
    for _ in 0..2 {
        let found = program.run(data.features())?;
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    let times = program.profile(data.features())?;
    assert!(times.iter().any(|time| time.what == "squares -> 8"), "{times:?}");
    let refused = Quantizer::builder(Bits::Eight).build()?.quantize(&model, &data).unwrap_err();
    assert!(refused.to_string().contains("squares has no integer form"), "{refused}");
    Ok(())
}

/// Adds noise of this size to every weight: a step that draws and chooses nothing.
struct Noise {
    size: f32,
    seed: u64,
}

impl Step for Noise {
    fn name(&self) -> String {
        format!("noise {}", self.size)
    }

    fn run(&self, mut subject: Subject, env: &Env) -> Result<Subject> {
        let mut drawn = 0;
        let mut draw = || {
            drawn += 1;
            hash(env.seed(), &[self.seed, drawn]) as f32 / u64::MAX as f32 - 0.5
        };
        let size = self.size;
        subject
            .model_mut()
            .visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| w + size * draw()));
        Ok(subject)
    }

    fn settings(&self) -> String {
        format!("{}, drawn by {}", self.name(), self.seed)
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

impl Word for Noise {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "noise";
    const HELP: &'static str = "Add noise of this size to every weight";
    const AMOUNT: Option<Key> =
        Some(Key::number("noise", "0 or more", |size| size >= 0.0, "Size of the noise"));
    const KEYS: &'static [Key] =
        &[Key::count("drawn-by", 0, "a whole number", "Seed of the noise").default("3")];

    fn parse(settings: &Settings) -> Result<Box<dyn Step>> {
        Ok(Box::new(Noise { size: settings.amount()?, seed: settings.value("drawn-by")? }))
    }
}

/// The k-th unit is worth |k - middle|: it serves channels and nothing else.
struct Middle {
    middle: usize,
}

impl Criterion<f32> for Middle {
    fn name(&self) -> &str {
        "middle"
    }

    fn score(&self, units: &Units<f32>) -> Result<Scores> {
        let Units::Channels(group) = units else { return Err(units.unserved("middle")) };
        Ok(Scores::new((0..group.units).map(|k| k.abs_diff(self.middle) as f64)))
    }
}

impl Word for Middle {
    type Made = Box<dyn Criterion<f32>>;
    const WORD: &'static str = "middle";
    const HELP: &'static str = "How far a channel is from one in the middle";
    const KEYS: &'static [Key] = &[Key::count("at", 0, "a channel", "The middle").default("0")];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(Middle { middle: settings.value("at")? }))
    }
}

/// Half the squared distance of the logits, times a factor.
struct Distance(f32);

impl DistillLoss<f32> for Distance {
    fn name(&self) -> &'static str {
        "distance"
    }

    fn start(&self, _: u64) -> Box<dyn DistillLoss<f32>> {
        Box::new(Distance(self.0))
    }

    fn loss(
        &self,
        student: &Signals<f32>,
        teacher: &Signals<f32>,
        rows: &[u32],
    ) -> Result<(f32, NodeGrads<f32>)> {
        let mut gradient = Array2::zeros(student.logits().dim());
        let (mut total, share) = (0.0, self.0 / rows.len() as f32);
        for &row in rows {
            let away = &student.logits().row(row as usize) - &teacher.logits().row(row as usize);
            total += away.dot(&away) * share / 2.0;
            gradient.row_mut(row as usize).assign(&(away * share));
        }
        Ok((total, vec![(student.output(), gradient)]))
    }
}

impl Word for Signs {
    type Made = Box<dyn Optimizer<f32>>;
    const WORD: &'static str = "signs";
    const HELP: &'static str = "Steps of one size";
    const AMOUNT: Option<Key> =
        Some(Key::number("signs", "positive", |size| size > 0.0, "a size").value_name("SIZE"));

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(Signs(settings.amount()?)))
    }
}

impl Word for Distance {
    type Made = Box<dyn DistillLoss<f32>>;
    const WORD: &'static str = "distance";
    const HELP: &'static str = "Squared distance of the logits";
    const AMOUNT: Option<Key> =
        Some(Key::number("distance", "positive", |f| f > 0.0, "a factor").value_name("FACTOR"));

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(Distance(settings.amount()?)))
    }
}

#[test]
fn a_step_a_criterion_and_a_loss_of_ones_own_are_words_of_a_recipe() -> Result<()> {
    let words =
        Words::standard().with::<Noise>().with::<Middle>().with::<Distance>().with::<Signs>();
    const RECIPE: &str = "\
        controls = \"none\"\n\
        [[stage]]\nchannels = 0.5\ncriterion = \"middle\"\nat = 2\n\
        [[stage]]\nnoise = 0.05\ndrawn-by = 4\n\
        [[stage]]\ndistill = \"self\"\nloss = \"distance:0.5\"\nepochs = 20\n\
        [[stage]]\nfinetune = 4\noptimizer = \"signs:0.001\"\n\
        [[stage]]\nbits = 8\n";
    let recipe = Recipe::parse_with(RECIPE, &words)?;
    assert_eq!(
        recipe.words(),
        ["channels 0.5", "noise 0.05", "distill self", "finetune 4", "bits 8"]
    );
    let toml = recipe.to_toml();
    assert_eq!(Recipe::parse_with(&toml, &words)?, recipe, "{toml}");
    assert!(toml.contains("criterion = \"middle\"\nat = 2\n"), "{toml}");

    let data = Dataset::sbm(240, 3).features(8).seed(1).build()?;
    let model = Gcn::builder(8, 3).hidden(6).build(0)?;
    let model = Trainer::builder().epochs(30).build()?.fit(model, &data)?;
    let by_recipe = recipe.run(Compression::of(model.clone(), &data))?;
    assert_eq!(by_recipe.report.recipe, recipe.words());
    let in_rust = Compression::of(model.clone(), &data)
        .step(ChannelPruner::builder(Middle { middle: 2 }).ratio(0.5).build()?)
        .step(Noise { size: 0.05, seed: 4 })
        .step(Distill::into(Student::Itself).loss(Distance(0.5)).epochs(20))
        .step(FineTune::epochs(4).optimizer(Signs(0.001)))
        .quantize(Quantizer::builder(Bits::Eight).build()?)
        .controls(Controls::None)
        .run()?;
    let Compressed::Integer(found) = by_recipe.model else { panic!("it ends in integers") };
    assert_eq!(found.to_bytes()?, in_rust.model.to_bytes()?);

    // The same from the words of a command line, and by the crate's own names no more.
    let stages = [("channels", "0.5"), ("noise", "0.05"), ("bits", "8")];
    let qualifiers = [("criterion", "middle"), ("at", "2"), ("drawn-by", "4")];
    let line = Recipe::from_words_with(&stages, &qualifiers, &words)?;
    assert_eq!(line.words(), ["channels 0.5", "noise 0.05", "bits 8"]);
    let unknown = RECIPE.parse::<Recipe>().unwrap_err().to_string();
    assert!(unknown.contains("it must be known") || unknown.contains("`middle`"), "{unknown}");
    let refuse = |text: &str| Recipe::parse_with(text, &words).unwrap_err().to_string();
    let error = refuse("[[stage]]\nnoise = -1");
    assert!(error.contains("`noise` is -1, it must be 0 or more"), "{error}");
    let error = refuse("[[stage]]\nchannels = 0.5\nat = 2");
    assert!(error.contains("qualifies: `middle`"), "{error}");
    let error = refuse("[[stage]]\nnois = 1");
    assert!(error.contains("did you mean `noise`"), "{error}");
    let table = words.to_markdown();
    assert!(table.contains("| `--noise NUMBER` | Add noise of this size to every weight |"));
    Ok(())
}
