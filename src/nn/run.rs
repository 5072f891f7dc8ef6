//! Forward: inference, and the trace that backward follows. Whose a value is and how long it lives
//! is [`Liveness`]'s to say.

use super::by_rows::ByRows;
use super::cx::Cx;
use super::erased::AnyCache;
use super::ids::NodeId;
use super::liveness::{Action, Liveness, Pass};
use super::memory::Memory;
use super::model::{Model, Node};
use super::model_builder::rows_differ;
use super::rows::RowSpace;
use crate::error::{Error, ModelError, Result};
use crate::kernels::PackedRows;
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
        self.infer_with(&Liveness::of_inference(self, cx.mode()), cx, x)
    }

    /// As [`Model::infer`], with a liveness that was worked out before.
    ///
    /// # Errors
    /// As [`Model::infer`], and [`Error::Model`](crate::Error::Model) for the liveness of another
    /// model, mode or pass.
    pub fn infer_with(&self, liveness: &Liveness, cx: &Cx<F>, x: ValueRef<F>) -> Result<Array2<F>> {
        let mut trace = self.run(liveness, Pass::Inference, cx, x)?;
        let value = trace.values[self.output().0].take();
        Ok(value.map_or_else(|| trace.x.to_dense(), Value::into_dense))
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
        self.trace_with(&Liveness::of_trace(self, cx.mode(), keep), cx, x)
    }

    /// As [`Model::trace`], with a liveness that was worked out before, and keeps the values that
    /// it keeps.
    ///
    /// # Errors
    /// As [`Model::infer_with`].
    pub fn trace_with<'x>(
        &self,
        liveness: &Liveness,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
    ) -> Result<Trace<'x, F>> {
        self.run(liveness, Pass::Trace, cx, x)
    }

    /// Runs every layer; what nobody reads any more goes back to the workspace.
    fn run<'x>(
        &self,
        liveness: &Liveness,
        pass: Pass,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
    ) -> Result<Trace<'x, F>> {
        self.check_input(cx, &x)?;
        liveness.check(self, cx.mode(), pass)?;
        if cx.memory() == Memory::Recompute {
            return self.run_by_rows(liveness, pass, cx, x);
        }
        let (spaces, rows) = self.row_spaces(cx, &x)?.into_iter().unzip();
        let mut trace = Trace {
            x,
            rows,
            spaces,
            values: vec![None],
            packed: vec![None],
            caches: Vec::new(),
            output: self.output(),
            homes: liveness.sources().to_vec(),
            liveness: liveness.clone(),
            by_rows: None,
        };
        for (id, node) in self.iter() {
            let overwritten = match liveness.action(id) {
                Action::Skip => {
                    trace.values.push(None);
                    trace.packed.push(None);
                    trace.caches.push(None);
                    continue;
                }
                Action::Run => None,
                // The values of a hop are only a part of those before it.
                Action::InPlace { from, .. } if trace.rows[from.0] == trace.rows[id.0] => {
                    trace.take_array(from).map(|array| (from, array))
                }
                Action::InPlace { .. } => None,
            };
            let at = cx.at(id, node.name()).reading(trace.read_by(node));
            let resting = match cx.memory() {
                Memory::Whole | Memory::Recompute => &[],
                Memory::EightBits => liveness.resting_after(id),
            };
            // A layer that reads nothing else may run in what its input leaves behind.
            let left = match (node.inputs(), resting) {
                ([_], [from]) if overwritten.is_none() => trace.rested(cx, *from),
                _ => None,
            };
            let (value, cache) = match (overwritten, left) {
                (Some((from, array)), _) => {
                    trace.homes[from.0] = id;
                    in_place(node, &at, array)
                }
                (None, Some(array)) => node.layer().forward_owned(&at, array)?,
                (None, None) => trace.run(node, &at, pass)?,
            };
            let (found, expected) = (value.shape().0, trace.rows[id.0]);
            if found != expected {
                let width = value.shape().1;
                let (expected, found) = ((expected, width), (found, width));
                let at = format!("rows that `{}` puts out", node.name());
                return Err(Error::ShapeMismatch { at, expected, found });
            }
            let value = if id == self.output() { Value::Dense(value.into_dense()) } else { value };
            trace.values.push(Some(value));
            trace.packed.push(None);
            for from in resting {
                recycle(cx, trace.rested(cx, *from).map(Value::Dense));
            }
            trace.caches.push((pass == Pass::Trace).then_some(cache));
            for source in liveness.dropped_after(id) {
                trace.drop_dense(cx, *source);
            }
        }
        Ok(trace)
    }

    /// The same, keeping what comes out of hops alone.
    fn run_by_rows<'x>(
        &self,
        liveness: &Liveness,
        pass: Pass,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
    ) -> Result<Trace<'x, F>> {
        if let Some(id) = liveness.keep().iter().find(|id| **id != self.output()) {
            let (node, kind) = (self.name_of(*id).into(), "a loss or an observer reads it".into());
            return Err(
                ModelError::KeepsMaps { node, kind, reason: "it must be kept".into() }.into()
            );
        }
        let (by_rows, y) = ByRows::forward(self, cx, &x, pass == Pass::Trace)?;
        let (spaces, rows): (_, Vec<usize>) = self.row_spaces(cx, &x)?.into_iter().unzip();
        let mut values: Vec<Option<Value<F>>> = rows.iter().map(|_| None).collect();
        values[self.output().0] = Some(Value::Dense(y));
        Ok(Trace {
            x,
            packed: rows.iter().map(|_| None).collect(),
            caches: self.nodes.iter().map(|_| None).collect(),
            homes: (0..rows.len()).map(NodeId).collect(),
            rows,
            spaces,
            values,
            output: self.output(),
            liveness: liveness.clone(),
            by_rows: Some(by_rows).filter(|_| pass == Pass::Trace),
        })
    }

    /// Lets layers take running statistics from a forward pass in training mode.
    pub fn absorb(&mut self, trace: &Trace<F>) {
        for (node, cache) in self.nodes.iter_mut().zip(&trace.caches) {
            if let Some(cache) = cache {
                node.layer.absorb(cache);
            }
        }
    }

    pub(crate) fn check_input(&self, cx: &Cx<F>, x: &ValueRef<F>) -> Result<()> {
        cx.at(NodeId::INPUT, "input").check(x, self.in_channels())?;
        let Some(rows) = cx.rows() else { return Ok(()) };
        let nodes = x.rows();
        let lists = [
            ("ids of the nodes", rows.node_ids().map(<[u32]>::len)),
            ("starts of the nodes' features", rows.feature_starts().map(<[usize]>::len)),
            ("graphs of the nodes", rows.graph_of_nodes().map(|(of, _)| of.len())),
        ];
        for (what, found) in lists {
            if let Some(found) = found.filter(|found| *found != nodes) {
                let (expected, found) = ((nodes, 1), (found, 1));
                return Err(Error::ShapeMismatch { at: what.into(), expected, found });
            }
        }
        // Of what relation they may be only a decoder knows.
        rows.asked().map_or(Ok(()), |asked| asked.check("input", nodes, usize::MAX))
    }

    /// What the rows of the input and of each node are, and how many.
    pub(crate) fn row_spaces(&self, cx: &Cx<F>, x: &ValueRef<F>) -> Result<Vec<(RowSpace, usize)>> {
        let spaces = self.spaces(cx.space())?;
        let mut all = vec![(spaces[0], x.rows())];
        for (id, node) in self.iter() {
            all.push(match spaces[id.0] {
                RowSpace::Nodes => (RowSpace::Nodes, x.rows()),
                space => (space, cx.at(id, node.name()).num_rows(space)?),
            });
        }
        Ok(all)
    }

    /// How many hops of a sample the output is away from the input: how often it aggregates. What
    /// runs on whole graphs alone counts as none.
    ///
    /// ```
    /// assert_eq!(gnn_prune::Sage::builder(8, 3).layers(2).build(0)?.num_hops(), 2);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn num_hops(&self) -> usize {
        match self.spaces(RowSpace::Hop(0)).map(|spaces| spaces[self.output().0]) {
            Ok(RowSpace::Hop(hops)) => hops.into(),
            _ => 0,
        }
    }

    /// What the rows of the input and of each node are, where those of the input are these.
    fn spaces(&self, of_input: RowSpace) -> Result<Vec<RowSpace>> {
        let mut spaces = vec![of_input];
        for node in &self.nodes {
            let inputs: Vec<RowSpace> = node.inputs.iter().map(|id| spaces[id.0]).collect();
            let own = node.layer.rows(&inputs);
            spaces.push(own.ok_or_else(|| rows_differ(&node.name, &inputs))?);
        }
        Ok(spaces)
    }
}

/// The first rows of a value, or all of them.
pub(super) fn first_rows<'a, F: Scalar>(
    x: &'a ValueRef<'_, F>,
    rows: Option<usize>,
) -> ValueRef<'a, F> {
    rows.map_or_else(|| x.reborrow(), |rows| x.head(rows))
}

fn in_place<F: Scalar>(node: &Node<F>, cx: &Cx<F>, mut array: Array2<F>) -> (Value<F>, AnyCache) {
    let layer = node.layer().in_place().expect("what runs in place says that it can");
    layer.forward_in_place(cx, &mut array);
    (Value::Dense(array), Box::new(()))
}

pub(super) fn recycle<F: Scalar>(cx: &Cx<F>, value: Option<Value<F>>) {
    if let Some(Value::Dense(array)) = value {
        cx.give(array);
    }
}

/// The values of a forward pass that its backward pass needs.
pub struct Trace<'x, F: Scalar> {
    pub(super) x: ValueRef<'x, F>,
    /// How many rows the values of the input and of each node have, ...
    pub(super) rows: Vec<usize>,
    /// ... and what they are.
    spaces: Vec<RowSpace>,
    /// Of the input, which is `x`, and of each node, where its value lives.
    pub(super) values: Vec<Option<Value<F>>>,
    /// The same of values that are kept in few bits.
    pub(super) packed: Vec<Option<PackedRows<F>>>,
    /// Of each node that ran.
    pub(super) caches: Vec<Option<AnyCache>>,
    output: NodeId,
    /// The node where the value of each lives now.
    pub(super) homes: Vec<NodeId>,
    pub(super) liveness: Liveness,
    /// What a pass by rows has kept in the place of values.
    pub(super) by_rows: Option<ByRows<F>>,
}

impl<F: Scalar> std::fmt::Debug for Trace<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.values.iter().filter(|value| value.is_some()).count();
        f.debug_struct("Trace").field("input", &self.x.shape()).field("kept", &kept).finish()
    }
}

impl<F: Scalar> Trace<'_, F> {
    /// Runs a layer on the values of its inputs.
    fn run(&self, node: &Node<F>, cx: &Cx<F>, pass: Pass) -> Result<(Value<F>, AnyCache)> {
        let rows = self.rows_read_by(node);
        let values: Vec<_> = node
            .inputs()
            .iter()
            .map(|&id| self.value(id).expect("a value lives until its last reader has run"))
            .collect();
        let xs: Vec<_> = values.iter().zip(rows).map(|(x, rows)| first_rows(x, rows)).collect();
        match pass {
            Pass::Trace => node.layer().forward(cx, &xs),
            Pass::Inference => Ok((node.layer().infer(cx, &xs)?, Box::new(()))),
        }
    }

    /// Packs the value of a node, if it is dense, and returns its array. Of hops readers see only
    /// some rows: those stay whole.
    fn rested(&mut self, cx: &Cx<F>, id: NodeId) -> Option<Array2<F>> {
        if matches!(self.spaces[id.0], RowSpace::Hop(_)) {
            return None;
        }
        let array = self.take_array(self.homes[id.0])?;
        self.packed[self.homes[id.0].0] = Some(cx.packed_value(id, array.view()));
        Some(array)
    }

    /// The value of a node in few bits, if that was kept.
    pub(super) fn packed_value(&self, id: NodeId) -> Option<&PackedRows<F>> {
        self.packed[self.homes[id.0].0].as_ref()
    }

    /// What a layer takes the rows of its inputs for.
    pub(super) fn read_by(&self, node: &Node<F>) -> RowSpace {
        let spaces: Vec<RowSpace> = node.inputs().iter().map(|id| self.spaces[id.0]).collect();
        RowSpace::joined(&spaces).unwrap_or(spaces[0])
    }

    /// How many of the first rows of each input a layer reads, where it does not read all of them:
    /// values of several hops are joined in the rows of the last.
    pub(super) fn rows_read_by(&self, node: &Node<F>) -> Vec<Option<usize>> {
        let of_hop = |id: &NodeId| {
            let rows = self.rows[id.0];
            matches!(self.spaces[id.0], RowSpace::Hop(_)).then_some(rows)
        };
        let rows = node.inputs().iter().map(of_hop);
        match self.read_by(node) {
            RowSpace::Hop(_) => {
                let least = rows.clone().flatten().min();
                rows.map(|rows| least.filter(|least| rows.is_some_and(|rows| *least < rows)))
                    .collect()
            }
            _ => vec![None; node.inputs().len()],
        }
    }

    /// Takes the value of a node, if a layer can write over it.
    fn take_array(&mut self, id: NodeId) -> Option<Array2<F>> {
        match self.values[id.0].take() {
            Some(Value::Dense(value)) if value.is_standard_layout() => Some(value),
            other => {
                self.values[id.0] = other;
                None
            }
        }
    }

    /// Gives the array of a node back; sparse values stay.
    pub(super) fn drop_dense(&mut self, cx: &Cx<F>, id: NodeId) {
        if matches!(self.values[id.0], Some(Value::Dense(_))) {
            recycle(cx, self.values[id.0].take());
        }
    }

    /// The node whose value `later` has overwritten, and whether it is to have the memory back.
    pub(super) fn overwritten_by(&self, later: NodeId) -> Option<(NodeId, bool)> {
        match self.liveness.action(later) {
            Action::InPlace { from, returned } if self.homes[from.0] == later => {
                Some((from, returned))
            }
            _ => None,
        }
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
        match self.homes[id.0] {
            NodeId::INPUT => Some(self.x.reborrow()),
            home => self.values[home.0].as_ref().map(Value::view),
        }
    }
}
