//! How a compression runs: every seed from its dense model through all steps, each stage judged and
//! kept, then the controls; times last.

use super::checkpoints::{Kept, Record};
use super::compressed::{Compressed, measured};
use super::compression::{Compression, Progress, Start};
use super::controls::{Controls, dense_form, form_of_bytes, same_shapes};
use super::identity::Identity;
use super::rehearsal::{rehearse, stage_seed};
use super::seed_state::SeedState;
use super::step::{Env, OnGraph, Step, Subject, drawn};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::Model;
use crate::prune::Prefixes;
use crate::quant::Quantizer;
use crate::report::{Account, Curve, Effort, LayerWidth, Meter, Report, Row, Servable, Summary};
use crate::task::{Measured, Part, Task, evaluate_all};
use crate::train::{OnEpoch, Setup, Trainer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A stage of one seed: where it is kept, and who it is.
struct At<'a> {
    place: String,
    name: &'a str,
    seed: u64,
    seeds: usize,
    /// Whether it decides which seed is the best.
    last: bool,
}

/// How good a stage is, in percent.
#[derive(Clone)]
struct Judged {
    test: Measured,
    /// Of the last stage of a chain.
    validation: Option<f64>,
    /// What the stage took; `None` for a model that came trained.
    effort: Option<Effort>,
}

/// A row of the report that is yet to be measured.
struct Unmeasured {
    name: String,
    judged: Vec<Judged>,
    /// None for what is the dense model once more.
    stage: Option<SeedState>,
}

/// Results of one chain of steps over all seeds.
struct Chain {
    /// Name of every stage, and how each seed's was judged.
    judged: Vec<(String, Vec<Judged>)>,
    /// The stages of the seed with the best validation metric after the last, or of the first where
    /// validation does not choose.
    best: Vec<SeedState>,
}

/// The work, whatever it ends in: compiled once.
impl Compression<'_, ()> {
    /// Trains, compresses, judges, and measures.
    pub(super) fn execute(mut self) -> Result<(SeedState, Report)> {
        if let Some(late) = self.steps.iter().skip(1).find(|step| step.starts_over()) {
            let legal =
                "the first step: it starts a fresh model, and what came before would be lost";
            return Err(Error::setting(format!("`{}`", late.name()), "a later step", legal));
        }
        if let Some(prefixes) = &self.prefixes {
            if matches!(self.start, Start::Trained(_)) {
                let legal = "of a model that is trained here";
                return Err(Error::setting("prefixes", "of a model that is read", legal));
            }
            prefixes.check(self.form())?;
            prefixes.check_task(self.task)?;
        }
        let trainer = self.dense_trainer();
        let (quantizer, prefixes) = (self.quantizer.as_ref(), self.prefixes.is_some());
        rehearse(self.form(), self.task, &self.steps, quantizer, trainer, prefixes)?;
        let curves = self.record();
        (self.listener)(Progress::Plan { stages: self.plan() });
        if let Some(checkpoints) = &self.checkpoints {
            self.store = Some(checkpoints.open(&self.identity()?, &|text| self.note(text))?);
        }
        let dense = self.dense_stages()?;
        let seeds: Vec<u64> = dense.iter().map(|(stage, _)| stage.subject.model().seed()).collect();
        let steps: Vec<&dyn Step> = self.steps.iter().map(|step| &**step).collect();
        let chain = self.chain("", &dense, self.way(&steps), "")?;
        let last = chain.best.last().expect("the dense model is the first stage").clone();
        if let Some(path) = &self.out {
            match &last.integers {
                Some(integers) => integers.save(path)?,
                None => last.subject.model().save(path)?,
            }
        }
        let best = chain.best.first().expect("the dense model is the first stage").subject.model();
        let channels = LayerWidth::between(best, last.subject.model());
        let recipe: Vec<String> =
            chain.judged.iter().skip(1).map(|(name, _)| name.clone()).collect();
        let controls = if self.controls == Controls::All && !recipe.is_empty() {
            self.control_rows(&dense, &last)?
        } else {
            Vec::new()
        };
        // Measured after all that takes long: what is trained is kept, times are not.
        let mut rows = Vec::new();
        for ((name, judged), stage) in chain.judged.iter().zip(&chain.best) {
            rows.push(self.row(name, judged, stage)?);
        }
        for Unmeasured { name, judged, stage } in controls {
            rows.push(match stage {
                Some(stage) => self.row(&name, &judged, &stage)?,
                None => Row { name, ..rows[0].clone() },
            });
        }
        let training_graph = self.training_graph(&seeds)?;
        let mut report = Report::new(self.task, seeds, rows);
        report.training_graph = training_graph;
        let calibrates = self
            .steps
            .iter()
            .filter_map(|step| step.calibrates_on())
            .chain(self.quantizer.iter().filter_map(Quantizer::calibrates));
        let calibrates: BTreeSet<String> =
            calibrates.map(|nodes| nodes.in_words().to_string()).collect();
        report.calibration = (!calibrates.is_empty())
            .then(|| calibrates.into_iter().collect::<Vec<_>>().join(" and "));
        report.channels = channels;
        report.curves = std::mem::take(&mut *curves.lock().unwrap_or_else(PoisonError::into_inner));
        report.recipe = recipe;
        Ok((last, report))
    }

    /// Writes down every epoch that the listener hears of from now on.
    fn record(&mut self) -> Arc<Mutex<Vec<Curve>>> {
        let curves: Arc<Mutex<Vec<Curve>>> = Arc::default();
        let (kept, listener) = (Arc::clone(&curves), Arc::clone(&self.listener));
        self.listener = Arc::new(move |progress| {
            let mut curves = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &progress {
                Progress::Stage { name, seed, .. } => {
                    curves.push(Curve { stage: name.clone(), seed: *seed, epochs: Vec::new() })
                }
                Progress::Epoch(epoch) => {
                    curves.last_mut().into_iter().for_each(|curve| curve.epochs.push(*epoch))
                }
                _ => {}
            }
            drop(curves);
            listener(progress);
        });
        curves
    }

    /// The stages that will run, and how often each.
    fn plan(&self) -> Vec<(String, usize)> {
        let seeds = match &self.start {
            Start::Trained(_) => 1,
            Start::Train { seeds, .. } => seeds.len(),
        };
        let steps: Vec<&dyn Step> = self.steps.iter().map(|step| &**step).collect();
        let own = names(self.way(&steps), "");
        let trains = matches!(self.start, Start::Train { .. });
        let mut stages: Vec<String> = own.into_iter().skip(usize::from(!trains)).collect();
        if self.controls == Controls::All && (!steps.is_empty() || self.quantizer.is_some()) {
            stages.push("narrow control".into());
            let chooses = self.quantizer.as_ref().is_some_and(|own| own.random().is_some());
            if chooses || steps.iter().any(|step| step.control().random().is_some()) {
                stages.extend(names(self.way(&steps), RANDOM).into_iter().skip(1));
            }
        }
        stages.into_iter().map(|name| (name, seeds)).collect()
    }

    /// These steps, and the quantiser that all ends in.
    fn way<'a>(&'a self, steps: &'a [&'a dyn Step]) -> Way<'a> {
        Way { steps, quantizer: self.quantizer.as_ref() }
    }

    /// The model that all begins with, before it is trained where it is.
    fn form(&self) -> &Model {
        match &self.start {
            Start::Trained(model) => model,
            Start::Train { form, .. } => form,
        }
    }

    /// What trains the dense models, where they do not come trained.
    fn dense_trainer(&self) -> Option<&Trainer> {
        match &self.start {
            Start::Train { trainer, .. } => Some(trainer),
            Start::Trained(_) => None,
        }
    }

    fn identity(&self) -> Result<Identity> {
        let (training, seeds) = match &self.start {
            Start::Trained(model) => {
                (format!("done before; controls: {}", self.trainer), model.seed().to_string())
            }
            Start::Train { trainer, seeds, .. } => {
                let thin = self.sparsify.map_or(String::new(), |thin| format!(", {thin}"));
                let prefixes = self.prefixes.as_ref();
                let prefixes = prefixes.map_or(String::new(), |prefixes| format!(", {prefixes}"));
                (format!("{trainer}{thin}{prefixes}"), format!("0 to {}", seeds.len() - 1))
            }
        };
        let stages = self
            .steps
            .iter()
            .map(|step| step.settings())
            .chain(self.quantizer.iter().map(|quantizer| format!("{quantizer:?}")));
        let words = [
            ("training", training),
            ("seeds", seeds),
            ("stages", stages.collect::<Vec<_>>().join("\n")),
            ("controls", format!("{:?}", self.controls).to_lowercase()),
        ];
        Identity::of_run(self.form(), self.task, words)
    }

    fn dense_stages(&self) -> Result<Vec<(SeedState, Judged)>> {
        let last = self.steps.is_empty() && self.quantizer.is_none();
        match &self.start {
            Start::Trained(model) => {
                let stage = SeedState {
                    subject: Subject::new(model.clone(), self.task.data().graph().clone()),
                    integers: None,
                };
                let judged = self.judged(&stage, last)?;
                Ok(vec![(stage, judged)])
            }
            Start::Train { form, seeds, .. } => {
                let at = |&seed: &u64| At {
                    place: format!("{seed}-0"),
                    name: "dense",
                    seed,
                    seeds: seeds.len(),
                    last,
                };
                let prefixes = self.prefixes.as_ref();
                seeds
                    .iter()
                    .map(|seed| self.trained(&at(seed), form, self.task, prefixes))
                    .collect()
            }
        }
    }

    /// Which edges what is trained from scratch sees, in words.
    fn training_graph(&self, seeds: &[u64]) -> Result<Option<String>> {
        let (Some(thin), Start::Train { .. }) = (self.sparsify, &self.start) else {
            return Ok(None);
        };
        let graph = self.task.data().graph();
        let mut kept = Vec::new();
        for &seed in seeds {
            kept.push(thin.sample(graph, seed)?.num_kept());
        }
        let (least, most) = (kept.iter().min().unwrap_or(&0), kept.iter().max().unwrap_or(&0));
        let range = if least == most { format!("{most}") } else { format!("{least} to {most}") };
        let all = graph.edge_list().1.len();
        Ok(Some(format!("trained on {range} of {all} edges ({thin}), judged and measured on all")))
    }

    fn trained(
        &self,
        at: &At,
        form: &Model,
        task: &dyn Task<f32>,
        prefixes: Option<&Prefixes>,
    ) -> Result<(SeedState, Judged)> {
        let untrained = Subject::new(form.fresh(at.seed), task.data().graph().clone());
        self.finished(at, untrained, |subject, on_epoch| {
            let thinned = drawn(self.sparsify, task, at.seed)?;
            let task = thinned.as_ref().map_or(task, |thinned| thinned as &dyn Task<f32>);
            let (trainer, model) = (&self.trainer, subject.model().clone());
            let fit = match prefixes {
                Some(prefixes) => prefixes.fit_with(trainer, model, task, on_epoch),
                None => trainer.fit_with(model, task, Setup::new().on_epoch(on_epoch)),
            };
            Ok(SeedState { subject: subject.with_model(fit?.model), integers: None })
        })
    }

    fn tell(&self, name: &str, seed: u64, seeds: usize) {
        (self.listener)(Progress::Stage { name: name.into(), seed, seeds });
    }

    fn note(&self, text: String) {
        (self.listener)(Progress::Note { text });
    }

    fn go_on(&self) -> Result<()> {
        if (self.stop)() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// What an earlier run has kept of this stage, or what `work` makes of `before`, judged and
    /// kept.
    fn finished(
        &self,
        at: &At,
        before: Subject,
        work: impl FnOnce(Subject, OnEpoch) -> Result<SeedState>,
    ) -> Result<(SeedState, Judged)> {
        self.go_on()?;
        self.tell(at.name, at.seed, at.seeds);
        let note = |text| self.note(text);
        if let Some((record, model)) =
            self.store.as_ref().and_then(|store| store.load(&at.place, at.name, &note))
        {
            (self.listener)(Progress::Kept { seconds: record.effort.seconds });
            record.epochs.iter().for_each(|&epoch| (self.listener)(Progress::Epoch(epoch)));
            let stage = match model {
                Compressed::Float(model) => {
                    SeedState { subject: before.with_model(model), integers: None }
                }
                Compressed::Integer(integers) => {
                    SeedState { subject: before, integers: Some(integers) }
                }
            };
            let Record { test, validation, effort, .. } = record;
            return Ok((stage, Judged { test, validation, effort: Some(effort) }));
        }
        let (meter, epochs) = (Meter::start(), Mutex::new(Vec::new()));
        let heard = || epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = work(before, &|epoch| {
            (self.listener)(Progress::Epoch(epoch));
            heard().push(epoch);
            // After the last one there is nothing to save by stopping.
            if epoch.epoch < epoch.epochs { self.go_on() } else { Ok(()) }
        })?;
        let effort = meter.stop();
        let judged = Judged { effort: Some(effort), ..self.judged(&stage, at.last)? };
        // A graph that a step has made is in no file.
        if let Some(store) = self
            .store
            .as_ref()
            .filter(|_| stage.subject.graph().is_clone_of(self.task.data().graph()))
        {
            let Judged { test, validation, .. } = judged.clone();
            let epochs = heard().clone();
            let record = Record { stage: at.name.into(), test, validation, epochs, effort };
            let model =
                stage.integers.as_ref().map_or(Kept::Float(stage.subject.model()), Kept::Integer);
            store.save(&at.place, record, model, &note)?;
        }
        Ok((stage, judged))
    }

    /// Runs a way on every dense model and judges every stage on the test
    /// nodes; `chain` tells the files of chains apart, and names of stages begin with `of`.
    fn chain(
        &self,
        chain: &str,
        dense: &[(SeedState, Judged)],
        way: Way,
        of: &str,
    ) -> Result<Chain> {
        let mut judged: Vec<(String, Vec<Judged>)> =
            names(way, of).into_iter().map(|name| (name, Vec::new())).collect();
        let metric = self.task.metric();
        let mut best: (f64, Vec<SeedState>) = (metric.worst(), Vec::new());
        for start in dense {
            let stages = self.stages_of(chain, start, way, &judged, dense.len())?;
            for ((_, stage), (_, seeds)) in stages.iter().zip(&mut judged) {
                seeds.push(stage.clone());
            }
            let validation = stages
                .last()
                .and_then(|(_, judged)| judged.validation)
                .expect("the last stage is judged so");
            let better = self.task.chooses() && metric.is_better(validation, best.0);
            if best.1.is_empty() || better {
                best = (validation, stages.into_iter().map(|(stage, _)| stage).collect());
            }
        }
        Ok(Chain { judged, best: best.1 })
    }

    fn stages_of(
        &self,
        chain: &str,
        start: &(SeedState, Judged),
        Way { steps, quantizer }: Way,
        names: &[(String, Vec<Judged>)],
        seeds: usize,
    ) -> Result<Vec<(SeedState, Judged)>> {
        let model = start.0.subject.model();
        let at = |k: usize| {
            let (place, name) = (format!("{}{chain}-{k}", model.seed()), names[k].0.as_str());
            At { place, name, seed: model.seed(), seeds, last: k + 1 == names.len() }
        };
        let mut stages = vec![start.clone()];
        for (k, step) in steps.iter().enumerate() {
            let before = stages[k].0.subject.clone();
            stages.push(self.finished(&at(k + 1), before, |subject, on_epoch| {
                let env = Env::new(self.task, model, stage_seed(model, k)).on_epoch(on_epoch);
                let env = env.trained_by(self.dense_trainer()).sparsified(self.sparsify);
                Ok(SeedState { subject: step.run(subject, &env)?, integers: None })
            })?);
        }
        if let Some(quantizer) = quantizer {
            let before = stages[stages.len() - 1].0.subject.clone();
            stages.push(self.finished(&at(steps.len() + 1), before, |subject, on_epoch| {
                let integers = quantizer.quantize_with(
                    subject.model(),
                    &*self.on(subject.graph())?,
                    on_epoch,
                )?;
                Ok(SeedState { subject, integers: Some(integers) })
            })?);
        }
        Ok(stages)
    }

    fn judged(&self, stage: &SeedState, last: bool) -> Result<Judged> {
        let validation = if last { Some(self.judge(stage, Part::Validation)?.value) } else { None };
        Ok(Judged { test: self.judge(stage, Part::Test)?, validation, effort: None })
    }

    fn judge(&self, stage: &SeedState, part: Part) -> Result<Measured> {
        let task = self.on(stage.subject.graph())?;
        match &stage.integers {
            None => evaluate_all(stage.subject.model(), &*task, part),
            Some(integers) => measured(integers, &*task, part),
        }
    }

    fn on(&self, graph: &Graph) -> Result<OnGraph<'_>> {
        OnGraph::of(self.task, graph)
    }

    fn row(&self, name: &str, judged: &[Judged], stage: &SeedState) -> Result<Row> {
        self.go_on()?;
        (self.listener)(Progress::Measure { name: name.into() });
        let model: &dyn Servable = match &stage.integers {
            Some(integers) => integers,
            None => stage.subject.model(),
        };
        let account = Account::of(model, &*self.on(stage.subject.graph())?, self.threads)?;
        let efforts: Option<Vec<Effort>> = judged.iter().map(|judged| judged.effort).collect();
        Ok(Row {
            name: name.into(),
            metric: self.task.metric(),
            accuracy: Summary::of(judged.iter().map(|judged| judged.test.value).collect()),
            metrics: others(judged),
            effort: efforts.and_then(|efforts| Effort::mean(&efforts)),
            account,
        })
    }

    /// Networks of the final shape and of the final bytes from scratch, and the same amounts at
    /// random.
    fn control_rows(
        &self,
        dense: &[(SeedState, Judged)],
        last: &SeedState,
    ) -> Result<Vec<Unmeasured>> {
        let narrow = dense_form(last.subject.model(), self.task)?;
        let mut rows = vec![self.narrow_control("narrow", &narrow, last.subject.graph(), dense)?];
        if let Some(form) = form_of_bytes(&narrow, self.task, last)? {
            rows.push(self.narrow_control("bytes", &form, last.subject.graph(), dense)?);
        }
        rows.extend(self.random_control(dense)?);
        Ok(rows)
    }

    /// A shape trained from scratch by the protocol; what is the dense shape has been trained
    /// already.
    fn narrow_control(
        &self,
        kind: &str,
        form: &Model,
        graph: &Graph,
        dense: &[(SeedState, Judged)],
    ) -> Result<Unmeasured> {
        let name = format!("{kind} control");
        // Of a dense model that was trained for its prefixes too the control is another training.
        let trained_alike = matches!(self.start, Start::Train { .. }) && self.prefixes.is_none();
        if trained_alike && same_shapes(form, self.form()) {
            return Ok(Unmeasured { name, judged: Vec::new(), stage: None });
        }
        let task = self.on(graph)?;
        let (mut all, mut first) = (Vec::new(), None);
        for (start, _) in dense {
            let seed = start.subject.model().seed();
            let at = At {
                place: format!("{seed}-{kind}"),
                name: &name,
                seed,
                seeds: dense.len(),
                last: false,
            };
            let (stage, judged) = self.trained(&at, form, &*task, None)?;
            all.push(judged);
            first.get_or_insert(stage);
        }
        Ok(Unmeasured { name, judged: all, stage: first })
    }

    /// The same amounts and fine-tuning by a random criterion, where anything chooses by one.
    fn random_control(&self, dense: &[(SeedState, Judged)]) -> Result<Option<Unmeasured>> {
        let controls: Vec<_> = self.steps.iter().map(|step| step.control().random()).collect();
        let quantizer = self.quantizer.as_ref().and_then(Quantizer::random);
        if controls.iter().all(Option::is_none) && quantizer.is_none() {
            return Ok(None);
        }
        let steps: Vec<&dyn Step> = self
            .steps
            .iter()
            .zip(&controls)
            .map(|(step, control)| control.as_deref().unwrap_or(&**step))
            .collect();
        let way = Way { steps: &steps, quantizer: quantizer.as_ref().or(self.quantizer.as_ref()) };
        let Chain { mut judged, mut best } = self.chain("-random", dense, way, RANDOM)?;
        let (Some((_, judged)), stage @ Some(_)) = (judged.pop(), best.pop()) else {
            return Ok(None);
        };
        Ok(Some(Unmeasured { name: "random control".into(), judged, stage }))
    }
}

/// The metrics beside the task's own, over seeds.
fn others(judged: &[Judged]) -> BTreeMap<String, Summary> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, &value) in judged.iter().flat_map(|judged| &judged.test.others) {
        all.entry(name.clone()).or_default().push(value);
    }
    all.into_iter().map(|(name, values)| (name, Summary::of(values))).collect()
}

/// What dense models go through.
#[derive(Clone, Copy)]
struct Way<'a> {
    steps: &'a [&'a dyn Step],
    quantizer: Option<&'a Quantizer>,
}

/// The names of the stages of a way, after `of`, the dense model first.
fn names(way: Way, of: &str) -> Vec<String> {
    let names = std::iter::once("dense".to_string()).chain(way.steps.iter().map(|s| s.name()));
    let names = names.chain(way.quantizer.iter().map(|quantizer| quantizer.to_string()));
    names.map(|name| format!("{of}{name}")).collect()
}

/// What the names of the random control's stages begin with.
const RANDOM: &str = "random control: ";
