//! Forward: inference, and the trace that backward follows.

use super::cx::{Cx, Mode};
use super::erased::AnyCache;
use super::grads::Reads;
use super::ids::NodeId;
use super::model::Model;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};

impl<F: Scalar> Model<F> {
    /// Runs the model and returns its output `[n, out_channels]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for an input of another width or
    /// number of rows, [`Error::NoGraph`](crate::Error::NoGraph) where one is needed.
    pub fn infer(&self, cx: &Cx<F>, x: ValueRef<F>) -> Result<Array2<F>> {
        let mut kept = vec![Keep::No; self.nodes.len() + 1];
        let sources = self.sources(cx.mode());
        let output = sources[self.output.0];
        kept[output.0] = Keep::Whole;
        let mut run = self.run(cx, x, kept, sources, false)?;
        let value = run.values[output.0].take();
        Ok(value.map_or_else(|| run.x.to_dense(), Value::into_dense))
    }

    /// Runs the model and keeps what [`Model::backward`] needs.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn trace<'x>(&self, cx: &Cx<F>, x: ValueRef<'x, F>) -> Result<Trace<'x, F>> {
        self.trace_keeping(cx, x, &[])
    }

    /// As [`Model::trace`], and keeps the values of the nodes in `keep`.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn trace_keeping<'x>(
        &self,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
        keep: &[NodeId],
    ) -> Result<Trace<'x, F>> {
        let sources = self.sources(cx.mode());
        let mut kept = vec![Keep::No; self.nodes.len() + 1];
        keep.iter().chain([&self.output]).for_each(|id| kept[sources[id.0].0] = Keep::Whole);
        for (k, node) in self.nodes.iter().enumerate() {
            let output = match node.layer.reads() {
                Reads::SignOfOutput => Keep::Sign,
                reads if reads.output() => Keep::Whole,
                _ => Keep::No,
            };
            kept[k + 1] = kept[k + 1].max(output);
            if node.layer.reads().inputs() {
                node.inputs.iter().for_each(|id| kept[sources[id.0].0] = Keep::Whole);
            }
        }
        self.run(cx, x, kept, sources, true)
    }

    /// For each node the node whose value it has: itself, or what it hands on untouched in this
    /// mode. The output is its own.
    fn sources(&self, mode: Mode) -> Vec<NodeId> {
        let mut sources = vec![NodeId::INPUT];
        for (k, node) in self.nodes.iter().enumerate() {
            sources.push(if node.layer.is_identity(mode) && NodeId(k + 1) != self.output {
                sources[node.inputs[0].0]
            } else {
                NodeId(k + 1)
            });
        }
        sources
    }

    /// Runs every layer; a value that is neither kept nor sparse goes back to the workspace after its
    /// last reader, or becomes that reader's.
    fn run<'x>(
        &self,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
        mut kept: Vec<Keep>,
        sources: Vec<NodeId>,
        caches: bool,
    ) -> Result<Trace<'x, F>> {
        self.check_input(cx, &x)?;
        let mut readers = vec![Readers::default(); self.nodes.len() + 1];
        for (k, node) in
            self.nodes.iter().enumerate().filter(|(k, _)| sources[k + 1] == NodeId(k + 1))
        {
            for id in &node.inputs {
                let readers = &mut readers[sources[id.0].0];
                (readers.count, readers.last) = (readers.count + 1, k);
            }
        }
        let mut trace =
            Trace { x, values: vec![None], caches: Vec::new(), output: self.output, sources };
        for (k, node) in self.nodes.iter().enumerate() {
            if trace.sources[k + 1] != NodeId(k + 1) {
                trace.values.push(None);
                trace.caches.push(None);
                continue;
            }
            let at = cx.at(NodeId(k + 1), &node.name);
            let from = trace.sources[node.inputs[0].0].0;
            let (value, cache) =
                match self.to_overwrite(&mut trace, k, from, kept[from], readers[from]) {
                    Some(mut value) => {
                        node.layer.forward_in_place(&at, &mut value);
                        // Whoever still asks for the sign of what was overwritten reads it here.
                        trace.sources[from] = NodeId(k + 1);
                        kept[k + 1] = kept[k + 1].max(kept[from]);
                        (Value::Dense(value), Box::new(()) as AnyCache)
                    }
                    None => {
                        let xs: Vec<_> = node
                            .inputs
                            .iter()
                            .map(|&id| {
                                trace
                                    .value(id)
                                    .expect("a value lives until its last reader has run")
                            })
                            .collect();
                        match caches {
                            true => node.layer.forward(&at, &xs)?,
                            false => (node.layer.infer(&at, &xs)?, Box::new(()) as AnyCache),
                        }
                    }
                };
            let is_output = trace.sources[self.output.0] == NodeId(k + 1);
            trace.values.push(Some(if is_output {
                Value::Dense(value.into_dense())
            } else {
                value
            }));
            trace.caches.push(caches.then_some(cache));
            for id in &node.inputs {
                let source = trace.sources[id.0].0;
                // Sparse values stay: they are small, and the gradients of their readers follow
                // their pattern.
                let done = readers[source].last == k && source <= k && kept[source] == Keep::No;
                if done && matches!(trace.values[source], Some(Value::Dense(_))) {
                    recycle(cx, trace.values[source].take());
                }
            }
        }
        Ok(trace)
    }

    /// The value of node `from`, where the layer at `k` may turn it into its own output in place.
    fn to_overwrite(
        &self,
        trace: &mut Trace<F>,
        k: usize,
        from: usize,
        kept: Keep,
        readers: Readers,
    ) -> Option<Array2<F>> {
        let free = match kept {
            Keep::No => readers.last == k,
            // Where a second reader sends a gradient, the sign must be the true one.
            Keep::Sign => readers.count == 1 && self.nodes[k].layer.keeps_signs(),
            Keep::Whole => false,
        };
        if !free || from == 0 || !self.nodes[k].layer.works_in_place() {
            return None;
        }
        match trace.values[from].take() {
            Some(Value::Dense(value)) if value.is_standard_layout() => Some(value),
            other => {
                trace.values[from] = other;
                None
            }
        }
    }

    /// Lets layers take running statistics from a forward pass in training mode.
    pub fn absorb(&mut self, trace: &Trace<F>) {
        for (node, cache) in self.nodes.iter_mut().zip(&trace.caches) {
            if let Some(cache) = cache {
                node.layer.absorb(cache);
            }
        }
    }

    pub(super) fn check_input(&self, cx: &Cx<F>, x: &ValueRef<F>) -> Result<()> {
        cx.at(NodeId::INPUT, "input").check(x, self.in_channels)
    }
}

pub(super) fn recycle<F: Scalar>(cx: &Cx<F>, value: Option<Value<F>>) {
    if let Some(Value::Dense(array)) = value {
        cx.give(array);
    }
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

/// The values of a forward pass that its backward pass needs.
pub struct Trace<'x, F: Scalar> {
    pub(super) x: ValueRef<'x, F>,
    pub(super) values: Vec<Option<Value<F>>>,
    pub(super) caches: Vec<Option<AnyCache>>,
    output: NodeId,
    pub(super) sources: Vec<NodeId>,
}

impl<F: Scalar> std::fmt::Debug for Trace<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.values.iter().filter(|value| value.is_some()).count();
        f.debug_struct("Trace").field("input", &self.x.shape()).field("kept", &kept).finish()
    }
}

impl<F: Scalar> Trace<'_, F> {
    /// Whether the value of node `earlier`, once its own, was overwritten by node `later`.
    pub(super) fn overwritten(&self, earlier: usize, later: usize) -> bool {
        earlier > 0
            && self.sources[earlier] == NodeId(later)
            && self.caches.get(earlier - 1).is_some_and(Option::is_some)
    }

    /// The model's output.
    pub fn output(&self) -> ArrayView2<'_, F> {
        match self.value(self.output) {
            Some(ValueRef::Dense(y)) => y,
            _ => unreachable!("the output is kept, in dense form"),
        }
    }

    /// The value of a node, if it was kept.
    pub fn value(&self, id: NodeId) -> Option<ValueRef<'_, F>> {
        match self.sources[id.0] {
            NodeId::INPUT => Some(self.x.reborrow()),
            source => self.values[source.0].as_ref().map(Value::view),
        }
    }
}
