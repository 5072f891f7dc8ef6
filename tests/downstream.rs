//! The programs of a user, and a layer of one's own, through the public API alone.

use gnn_prune::distill::{DistillLoss, Signals};
use gnn_prune::ndarray::{Array2, Axis as Side};
use gnn_prune::nn::{
    Attrs, Axis, Cx, GcnConv, Grads, Init, Io, Layer, Lowering, Model, ModelBuilder, NodeId, Param,
    Place, Python, Reads, Registered, Registry, Shapes, StageId, Twin, Wiring,
};
use gnn_prune::pipeline::{Control, Distill, Env, Key, Settings, Student, Subject, Word, Words};
use gnn_prune::prune::{Criterion, Scores, Units};
use gnn_prune::rng::{ChaCha8Rng, hash};
use gnn_prune::testing::{
    check_determinism, check_gradients, check_mask_equals_shrink, check_oracle, check_permutation,
    check_program, check_save_load, models_around, random_dense, random_graph, random_layer,
    random_plan,
};
use gnn_prune::train::{Seeds, evaluate};
use gnn_prune::{
    Bits, ChannelPruner, Compressed, Compression, Controls, Dataset, Error, FineTune, Gcn, Graph,
    Magnitude, Quantizer, Recipe, Result, Scalar, Step, Trainer, Unsupported, Value, ValueRef,
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
    let accuracy = evaluate(&out.model, &data, &data.split(0).test)?;
    assert!(accuracy > 80.0, "{accuracy} %");
    Ok(())
}

#[test]
fn a_graph_goes_to_sprs_and_back() -> Result<()> {
    let graph = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected().build()?;
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

    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
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
    let accuracy = evaluate(&model, &data, &data.split(3).test)?;
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
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<f64>)) {
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
    ) -> Result<(f32, Seeds<f32>)> {
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
    let words = Words::standard().with::<Noise>().with::<Middle>().with::<Distance>();
    const RECIPE: &str = "\
        controls = \"none\"\n\
        [[stage]]\nchannels = 0.5\ncriterion = \"middle\"\nat = 2\n\
        [[stage]]\nnoise = 0.05\ndrawn-by = 4\n\
        [[stage]]\ndistill = \"self\"\nloss = \"distance:0.5\"\nepochs = 20\n\
        [[stage]]\nbits = 8\n";
    let recipe = Recipe::parse_with(RECIPE, &words)?;
    assert_eq!(recipe.words(), ["channels 0.5", "noise 0.05", "distill self", "bits 8"]);
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
