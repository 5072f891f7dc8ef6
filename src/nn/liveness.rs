//! Which value is alive when: worked out once for a model, a mode and a pass, and then followed by
//! every such pass.
//!
//! Three invariants hold a trace together.
//!
//! 1. **Whose a value is.** Every node that runs makes one value. A node that hands its input on
//!    untouched has none: its readers read the node where the value was made. A layer that runs in
//!    place takes over the memory of its input once nobody else reads that, and from then on the
//!    value lives at the later node. On the way back, when the later node is done, the memory goes
//!    back to the earlier one if that still reads its output.
//! 2. **Signs.** Backward of ReLU only asks which entries of its output are positive, and only
//!    where a gradient arrives. What keeps signs in that sense, such as dropout, may therefore
//!    overwrite a value of which no more than the sign is still to be read, but only if it is the
//!    one reader: through a second one a gradient arrives where the first has put a zero.
//! 3. **Sparse values stay.** They are small, and the gradients of their readers follow their
//!    pattern, so that backward finds them whatever a layer says that it reads.
//!
//! Whether a value is dense and in standard layout is known when it is there. Where it is not, a
//! layer that was to run in place runs as any other, the value that it was to overwrite stays its
//! own node's, and is given up after that node's last reader as the plan says. What the later node
//! was to keep for the earlier one it then keeps for nothing, which costs memory and no bits.

use super::cx::Mode;
use super::erased::DynLayer;
use super::grads::Reads;
use super::ids::NodeId;
use super::model::Model;
use crate::error::{ModelError, Result};
use crate::scalar::Scalar;
use std::sync::Arc;

/// Which layers run, which in the memory of their input, and what is given up after each: of one
/// model in one mode, for inference or for a trace that keeps the values of some nodes.
///
/// [`Model::infer`] and [`Model::trace`] work it out themselves; a loop hands in the same one each
/// time.
///
/// ```
/// use gnn_prune::nn::{Cx, Liveness, Mode};
/// use gnn_prune::{Dataset, Gcn};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).dropout(0.5).build(0)?;
/// let cx = Cx::eval(data.graph());
/// let liveness = Liveness::of_trace(&model, Mode::Train { seed: 0, step: 0 }, &[]);
/// for step in 0..3 {
///     let cx = cx.with_mode(Mode::Train { seed: 0, step });
///     let trace = model.trace_with(&liveness, &cx, data.features())?;
///     assert_eq!(trace.output(), model.trace(&cx, data.features())?.output());
/// }
/// assert!(model.infer_with(&liveness, &cx, data.features()).is_err());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Liveness(Arc<Plan>);

#[derive(Debug)]
struct Plan {
    pass: Pass,
    output: NodeId,
    /// The nodes whose values somebody has asked for.
    keep: Vec<NodeId>,
    /// What it was worked out from, node by node.
    facts: Vec<Facts>,
    /// Where the value of the input and of each node is made.
    sources: Vec<NodeId>,
    actions: Vec<Action>,
    /// The values that nobody reads once a node has run.
    dropped: Vec<Vec<NodeId>>,
    /// The values that only the way back reads once a node has run.
    resting: Vec<Vec<NodeId>>,
}

/// What a pass leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Inference,
    Trace,
}

/// What a node does in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Hands its input on untouched: it does not run and has no value.
    Skip,
    /// Makes a value.
    Run,
    /// Makes its value in the memory of that of `from`, if that turns out to be dense and in
    /// standard layout; otherwise as [`Action::Run`]. `returned` says that `from` reads it on the
    /// way back.
    InPlace { from: NodeId, returned: bool },
}

/// How much of a node's value must outlive its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Keep {
    No,
    /// Only which entries are positive.
    Sign,
    Whole,
}

/// How many layers read a value, and which is the last.
#[derive(Debug, Clone, Copy, Default)]
struct Readers {
    count: usize,
    last: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    inputs: Vec<NodeId>,
    reads: Reads,
    is_identity: bool,
    in_place: InPlaceForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InPlaceForm {
    None,
    Any,
    KeepsSigns,
}

impl InPlaceForm {
    fn of<F: Scalar>(layer: &dyn DynLayer<F>) -> Self {
        match layer.in_place() {
            None => InPlaceForm::None,
            Some(layer) if layer.keeps_signs() => InPlaceForm::KeepsSigns,
            Some(_) => InPlaceForm::Any,
        }
    }
}

impl Liveness {
    /// For [`Model::infer_with`] in `mode`.
    pub fn of_inference<F: Scalar>(model: &Model<F>, mode: Mode) -> Self {
        Self::of(model, mode, Pass::Inference, &[])
    }

    /// For [`Model::trace_with`] in `mode`, which then keeps the values of the nodes in `keep`. It
    /// serves every seed and step of the same mode.
    pub fn of_trace<F: Scalar>(model: &Model<F>, mode: Mode, keep: &[NodeId]) -> Self {
        Self::of(model, mode, Pass::Trace, keep)
    }

    fn of<F: Scalar>(model: &Model<F>, mode: Mode, pass: Pass, keep: &[NodeId]) -> Self {
        let facts: Vec<Facts> = model
            .nodes()
            .iter()
            .map(|node| Facts {
                inputs: node.inputs().to_vec(),
                reads: node.layer().reads(),
                is_identity: node.layer().is_identity(mode),
                in_place: InPlaceForm::of(node.layer()),
            })
            .collect();
        let output = model.output();
        let sources = sources(&facts, output);
        let mut kept = vec![Keep::No; sources.len()];
        let mut shown = vec![false; sources.len()];
        for source in keep.iter().chain([&output]).map(|id| sources[id.0]) {
            (kept[source.0], shown[source.0]) = (Keep::Whole, true);
        }
        if pass == Pass::Trace {
            keep_for_backward(&mut kept, &facts, &sources);
            // Whoever reads both may compare them, as a maximum does: rounded, they are not alike.
            for (k, node) in facts.iter().enumerate() {
                if node.reads == Reads::InputsAndOutput {
                    node.inputs.iter().for_each(|id| shown[sources[id.0].0] = true);
                    shown[sources[k + 1].0] = true;
                }
            }
        }
        let Actions { actions, dropped, resting } = actions(&facts, &sources, kept, &shown);
        let keep = keep.to_vec();
        Self(Arc::new(Plan { pass, output, keep, facts, sources, actions, dropped, resting }))
    }

    /// Refuses another model, mode or pass than it was worked out for: its values would be given up
    /// while somebody still reads them.
    pub(super) fn check<F: Scalar>(&self, model: &Model<F>, mode: Mode, pass: Pass) -> Result<()> {
        let Plan { facts, output, pass: own, .. } = &*self.0;
        let fits = *own == pass
            && *output == model.output()
            && facts.len() == model.nodes().len()
            && facts.iter().zip(model.nodes()).all(|(facts, node)| {
                facts.inputs == node.inputs()
                    && facts.reads == node.layer().reads()
                    && facts.is_identity == node.layer().is_identity(mode)
                    && facts.in_place == InPlaceForm::of(node.layer())
            });
        match fits {
            true => Ok(()),
            false => Err(ModelError::OtherLiveness.into()),
        }
    }

    pub(super) fn keep(&self) -> &[NodeId] {
        &self.0.keep
    }

    pub(super) fn sources(&self) -> &[NodeId] {
        &self.0.sources
    }

    pub(super) fn action(&self, id: NodeId) -> Action {
        self.0.actions[id.0 - 1]
    }

    /// The nodes whose values only the way back reads once `id` has run, whoever asked for values
    /// aside.
    pub(super) fn resting_after(&self, id: NodeId) -> &[NodeId] {
        &self.0.resting[id.0 - 1]
    }

    /// The nodes whose values nobody reads once `id` has run.
    pub(super) fn dropped_after(&self, id: NodeId) -> &[NodeId] {
        &self.0.dropped[id.0 - 1]
    }
}

/// For the input and each node the node whose value it has: itself, or what it hands on untouched.
/// The output is its own.
fn sources(facts: &[Facts], output: NodeId) -> Vec<NodeId> {
    let mut sources = vec![NodeId::INPUT];
    for (k, node) in facts.iter().enumerate() {
        let id = NodeId(k + 1);
        sources.push(match node.is_identity && id != output {
            true => sources[node.inputs[0].0],
            false => id,
        });
    }
    sources
}

/// Marks what the layers say that backward reads.
fn keep_for_backward(kept: &mut [Keep], facts: &[Facts], sources: &[NodeId]) {
    for (k, node) in facts.iter().enumerate() {
        let output = match node.reads {
            Reads::SignOfOutput => Keep::Sign,
            reads if reads.output() => Keep::Whole,
            _ => Keep::No,
        };
        kept[k + 1] = kept[k + 1].max(output);
        if node.reads.inputs() {
            node.inputs.iter().for_each(|id| kept[sources[id.0].0] = Keep::Whole);
        }
    }
}

/// What every node does, and what becomes of values once it has run.
struct Actions {
    actions: Vec<Action>,
    dropped: Vec<Vec<NodeId>>,
    resting: Vec<Vec<NodeId>>,
}

/// What every node does, and what is given up after it, as if every value were dense and in
/// standard layout.
fn actions(facts: &[Facts], sources: &[NodeId], mut kept: Vec<Keep>, shown: &[bool]) -> Actions {
    let runs = |k: usize| sources[k + 1] == NodeId(k + 1);
    let mut readers = vec![Readers::default(); sources.len()];
    for (k, node) in facts.iter().enumerate().filter(|(k, _)| runs(*k)) {
        for id in &node.inputs {
            let readers = &mut readers[sources[id.0].0];
            (readers.count, readers.last) = (readers.count + 1, k);
        }
    }
    let (mut actions, mut dropped, mut resting) = (Vec::new(), Vec::new(), Vec::new());
    for (k, node) in facts.iter().enumerate() {
        if !runs(k) {
            actions.push(Action::Skip);
            dropped.push(Vec::new());
            resting.push(Vec::new());
            continue;
        }
        let from = node.inputs.first().map_or(NodeId::INPUT, |id| sources[id.0]);
        let readers_of = readers[from.0];
        let free = match kept[from.0] {
            Keep::No => readers_of.last == k,
            // Where a second reader sends a gradient, the sign must be the true one.
            Keep::Sign => readers_of.count == 1 && node.in_place == InPlaceForm::KeepsSigns,
            Keep::Whole => false,
        };
        let in_place = free && from != NodeId::INPUT && node.in_place != InPlaceForm::None;
        let unread = |id: &NodeId| readers[id.0].last == k && kept[id.0] == Keep::No;
        let mut last = Vec::new();
        let mut rest = Vec::new();
        for source in node.inputs.iter().map(|id| sources[id.0]) {
            let done = source != NodeId::INPUT && readers[source.0].last == k;
            if done && unread(&source) && !last.contains(&source) {
                last.push(source);
            }
            let overwritten = in_place && source == from;
            let kept = !unread(&source) && !shown[source.0] && !overwritten;
            if done && kept && !rest.contains(&source) {
                rest.push(source);
            }
        }
        dropped.push(last);
        resting.push(rest);
        actions.push(match in_place {
            true => Action::InPlace { from, returned: kept[from.0] != Keep::No },
            false => Action::Run,
        });
        if in_place {
            // Whoever still asks for the sign of what was overwritten reads it here.
            kept[k + 1] = kept[k + 1].max(kept[from.0]);
        }
    }
    Actions { actions, dropped, resting }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Activation, ActivationFn, Add, Dropout, Linear};

    const TRAIN: Mode = Mode::Train { seed: 0, step: 0 };

    /// linear, relu, two dropouts and a linear map, with or without a second reader of the ReLU.
    fn model(shortcut: bool) -> Model<f64> {
        let linear = || Linear::builder(3, 3).build::<f64>().unwrap();
        let mut builder = crate::nn::ModelBuilder::new(3);
        let x = builder.add("in", linear(), &[NodeId::INPUT]).unwrap();
        let relu = builder.add("relu", Activation::new(ActivationFn::Relu), &[x]).unwrap();
        let a = builder.add("a", Dropout::new(0.5).unwrap(), &[relu]).unwrap();
        let b = builder.add("b", Dropout::new(0.5).unwrap(), &[a]).unwrap();
        let mut y = builder.add("out", linear(), &[b]).unwrap();
        if shortcut {
            y = builder.add("sum", Add::new(2).unwrap(), &[y, relu]).unwrap();
        }
        builder.build(y, 0).unwrap()
    }

    #[test]
    fn what_keeps_signs_overwrites_what_only_its_sign_is_read_of_unless_another_reads_it() {
        let actions = |model: &Model<f64>| {
            let liveness = Liveness::of_trace(model, TRAIN, &[]);
            model.iter().map(|(id, _)| liveness.action(id)).collect::<Vec<_>>()
        };
        let (x, relu, a) = (NodeId(1), NodeId(2), NodeId(3));
        let in_place = |from, returned| Action::InPlace { from, returned };
        assert_eq!(
            actions(&model(false)),
            [Action::Run, in_place(x, false), in_place(relu, true), in_place(a, true), Action::Run]
        );
        assert_eq!(
            actions(&model(true))[1..4],
            [in_place(x, false), Action::Run, in_place(a, false)]
        );
    }

    #[test]
    fn dropouts_are_skipped_in_evaluation_and_what_was_read_last_is_given_up() {
        let model = model(true);
        let liveness = Liveness::of_inference(&model, Mode::Eval);
        let id = |name: &str| model.node(name).unwrap();
        assert_eq!(liveness.action(id("a")), Action::Skip);
        assert_eq!(liveness.action(id("out")), Action::Run);
        assert!(liveness.dropped_after(id("out")).is_empty());
        assert_eq!(liveness.dropped_after(id("sum")), [id("out"), id("relu")]);
    }

    #[test]
    fn what_is_overwritten_twice_over_comes_back_to_where_its_sign_is_read() {
        for shortcut in [false, true] {
            let model = model(shortcut);
            let every: Vec<NodeId> = model.iter().map(|(id, _)| id).collect();
            let x = ndarray::Array2::from_shape_fn((20, 3), |(i, c)| {
                ((i * 7 + c * 5) % 11) as f64 - 5.0
            });
            let x = crate::value::ValueRef::Dense(x.view());
            let cx = crate::nn::Cx::without_graph().with_mode(TRAIN);
            let of = |keep: &[NodeId]| {
                let trace = model.trace_keeping(&cx, x, keep).unwrap();
                let seed = trace.output().to_owned();
                let grads = model.backward(&cx, trace, vec![(model.output(), seed)]).unwrap();
                let mut all = Vec::new();
                model.visit(&mut |_, param| all.push(grads.get(param.id()).cloned()));
                all
            };
            assert_eq!(of(&[]), of(&every), "{shortcut}");
        }
    }

    #[test]
    fn another_model_or_mode_is_refused() {
        let one = Liveness::of_trace(&model(false), TRAIN, &[]);
        assert!(one.check(&model(false), Mode::Train { seed: 1, step: 7 }, Pass::Trace).is_ok());
        assert!(one.check(&model(true), TRAIN, Pass::Trace).is_err());
        assert!(one.check(&model(false), Mode::Eval, Pass::Trace).is_err());
        assert!(one.check(&model(false), TRAIN, Pass::Inference).is_err());
    }
}
