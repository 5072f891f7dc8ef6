//! The compiled form of a model for inference: stages fused, buffers planned once and kept.

use super::cost::{Cost, Products, StageTime, macs};
use super::fuse::{Fused, fuse, merged};
use super::instruction::{Instruction, plan};
use super::op::Op;
use super::order::Ordered;
use crate::error::{Error, Result, Unsupported};
use crate::graph::{Graph, NodeOrder};
use crate::kernels::buffer::Buffer;
use crate::nn::{Axis, Cx, Lowering, Model, Node, Rows, Workspace};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::ArrayView2;
use std::sync::Arc;
use std::time::Instant;

/// A model compiled for one graph. Products and aggregations allocate nothing after the first run,
/// inside a thread pool at least; joins list their terms, and layers that have no compiled form
/// take arrays from a workspace.
///
/// ```
/// use gnn_prune::{Dataset, Gcn};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let mut program = model.compile(data.graph(), data.features())?;
/// let logits = program.run(data.features())?;
/// assert_eq!(logits.dim(), (data.num_nodes(), data.num_classes()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Program<F: Scalar = f32> {
    graph: Option<Graph<F>>,
    /// What the rows of its values are.
    within: Rows<F>,
    in_shape: (usize, usize),
    instructions: Vec<Instruction<F>>,
    /// Entries of each buffer.
    buffer_lens: Vec<usize>,
    buffers: Vec<Buffer<F>>,
    /// What opaque operations take their arrays from.
    workspace: Arc<Workspace<F>>,
    order: Option<Ordered<F>>,
    cost: Cost,
}

impl<F: Scalar> Model<F> {
    /// Compiles the model for inference on `graph` and inputs like `x`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a layer has no stages, [`Error::ShapeMismatch`] for an input of
    /// another width.
    pub fn compile(&self, graph: &Graph<F>, x: ValueRef<F>) -> Result<Program<F>> {
        self.compile_within(graph, x, &Rows::new())
    }

    /// Compiles the model for inference on a batch: its graph, inputs like its features, and what
    /// its rows are. Where `rows` are only nodes this is [`Model::compile`].
    ///
    /// *Shapes*: the program puts out a row per node, pair or graph, as the model does.
    ///
    /// # Errors
    /// As [`Model::compile`]; [`Error::Unsupported`] too for pairs or graphs that the model asks
    /// for and `rows` does not have, [`Error::OnlyAHop`] for a sample by hops.
    ///
    /// ```
    /// use gnn_prune::task::{Batch, Task};
    /// use gnn_prune::{Dataset, Gcn};
    /// let data = Dataset::sbm(200, 3).features(8).build()?;
    /// let model = Gcn::builder(8, 3).hidden(16).build(0)?;
    /// let whole: Batch<f32> = data.whole()?;
    /// let mut program = model.compile_within(whole.graph(), whole.features(), whole.spaces())?;
    /// assert_eq!(program.run(whole.features())?.dim(), (200, 3));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn compile_within(
        &self,
        graph: &Graph<F>,
        x: ValueRef<F>,
        rows: &Rows<F>,
    ) -> Result<Program<F>> {
        self.check_input(&Cx::eval(graph).within(rows), &x)?;
        Program::compile(self.lower_within(Some(graph), x, rows)?)
    }

    /// As [`Model::compile`], for nodes in an order that keeps neighbours close together; input and
    /// output stay in the caller's order. Worth it where the graph has communities and rows are
    /// wide: every run moves the rows of `x` and of the output once.
    ///
    /// # Errors
    /// As [`Model::compile`].
    pub fn compile_ordered(
        &self,
        graph: &Graph<F>,
        x: ValueRef<F>,
        order: NodeOrder,
    ) -> Result<Program<F>> {
        self.check_input(&Cx::eval(graph), &x)?;
        let tied = |node: &&Node<F>| {
            let mut tied = false;
            node.layer().visit(&mut |param| tied |= param.axes().contains(&Axis::Nodes));
            tied
        };
        if let Some(node) = self.nodes().iter().find(tied) {
            let reason = "its rows belong to the nodes in the order that they have".into();
            return Err(Error::Unsupported(Unsupported { layer: node.name().into(), reason }));
        }
        let order = graph.node_order(order);
        let graph = graph.permuted(&order)?;
        Ok(Program::compile(self.lower(Some(&graph), x)?)?.in_order(order))
    }
}

impl<F: Scalar> Program<F> {
    pub(crate) fn compile(lowering: Lowering<F>) -> Result<Self> {
        let fused = merged(&lowering, fuse(&lowering));
        Self::planned(lowering, fused)
    }

    /// A program of one instruction per stage of [`fuse`], whose values [`Program::run_watched`]
    /// shows.
    pub(crate) fn compile_stagewise(lowering: Lowering<F>) -> Result<Self> {
        let fused = fuse(&lowering);
        Self::planned(lowering, fused)
    }

    fn planned(lowering: Lowering<F>, fused: Vec<Fused<F>>) -> Result<Self> {
        let (instructions, buffer_lens) = plan(&lowering, fused);
        let elements = buffer_lens.iter().sum::<usize>();
        let cost = Cost { macs: macs(&lowering), peak_activations: (elements * F::BYTES) as u64 };
        let input = lowering.input();
        Ok(Self {
            graph: lowering.graph().ok().cloned(),
            within: lowering.within().clone(),
            in_shape: (lowering.rows(input), lowering.width(input)),
            instructions,
            buffer_lens,
            buffers: Vec::new(),
            workspace: Arc::default(),
            order: None,
            cost,
        })
    }

    /// MACs and buffer bytes of one run.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// How many products there are with weights, and in which form; what opaque operations do
    /// inside is not counted.
    pub fn products(&self) -> Products {
        fn count<F: Scalar>(op: &Op<F>, products: &mut Products) {
            match op {
                Op::Linear(_) | Op::PackedLinear(_) => products.dense += 1,
                Op::SparseLinear(_) => products.sparse += 1,
                Op::Sum(ops) => ops.iter().for_each(|op| count(op, products)),
                _ => {}
            }
        }
        let mut products = Products::default();
        self.instructions.iter().for_each(|instruction| count(&instruction.op, &mut products));
        products
    }

    /// The same program on a graph whose nodes stand in this order; input and output stay in the
    /// caller's.
    fn in_order(mut self, order: Vec<u32>) -> Self {
        self.order = Some(Ordered::new(order));
        self
    }

    /// Runs the program on `x` of shape `[n, in_channels]` and returns the output
    /// `[n, out_channels]`, with a row per node, pair or graph that it was compiled for.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another shape.
    pub fn run(&mut self, x: ValueRef<F>) -> Result<ArrayView2<'_, F>> {
        let Some(mut ordered) = self.order.take() else {
            return self.run_watched(x, &mut |_, _| ());
        };
        let done = self.run_ordered(x, &mut ordered);
        let ordered = self.order.insert(ordered);
        done?;
        Ok(ordered.output())
    }

    fn run_ordered(&mut self, x: ValueRef<F>, ordered: &mut Ordered<F>) -> Result<()> {
        self.check_shape(&x)?;
        let y = self.run_watched(ordered.moved(x).view(), &mut |_, _| ())?;
        ordered.put_back(y);
        Ok(())
    }

    fn check_shape(&self, x: &ValueRef<F>) -> Result<()> {
        let (expected, found) = (self.in_shape, x.shape());
        if found == expected {
            return Ok(());
        }
        Err(Error::ShapeMismatch { at: "input of the program".into(), expected, found })
    }

    /// Runs the program once, in its own order of the nodes, and says what each pass over them
    /// took.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile(&mut self, x: ValueRef<F>) -> Result<Vec<StageTime>> {
        let mut ends = vec![Instant::now()];
        self.run_watched(x, &mut |_, _| ends.push(Instant::now()))?;
        let took = ends.windows(2).map(|ends| ends[1] - ends[0]);
        let what = self
            .instructions
            .iter()
            .map(|instruction| format!("{} -> {}", instruction.op.name(), instruction.shape.1));
        Ok(what.zip(took).map(|(what, took)| StageTime { what, took }).collect())
    }

    /// As [`Program::run`], and shows the value of every instruction, in the order of [`fuse`].
    pub(crate) fn run_watched(
        &mut self,
        x: ValueRef<F>,
        watch: &mut dyn FnMut(usize, ArrayView2<F>),
    ) -> Result<ArrayView2<'_, F>> {
        self.check_shape(&x)?;
        if self.buffers.is_empty() {
            self.buffers = self.buffer_lens.iter().map(|&len| Buffer::zeros(len)).collect();
        }
        let cx = Cx::in_workspace(self.graph.as_ref(), self.workspace.clone());
        let cx = cx.within(&self.within);
        for (k, instruction) in self.instructions.iter().enumerate() {
            let mut out = std::mem::take(&mut self.buffers[instruction.output]);
            let done = instruction.run(&cx, x, &self.buffers, &mut out);
            watch(k, instruction.value(&mut out).view());
            self.buffers[instruction.output] = out;
            done?;
        }
        let last = self.instructions.last().expect("a model has at least one layer");
        let (rows, width) = last.shape;
        Ok(ArrayView2::from_shape(last.shape, &self.buffers[last.output][..rows * width])
            .expect("planned for its value"))
    }
}

#[cfg(test)]
mod tests {
    use crate::data::PowerLaw;
    use crate::graph::NodeOrder;
    use crate::models::{Gat, Sage};
    use crate::value::{Csr, ValueRef};

    #[test]
    fn another_order_of_the_nodes_changes_no_more_than_roundings() {
        let data =
            PowerLaw::builder(300, 3000).features(8).classes(3).per_class(5, 5).build().unwrap();
        let dense = data.features();
        let sparse = Csr::csr_from_dense(data.features().to_dense().view(), 0.5);
        for model in
            [Sage::builder(8, 3).hidden(16).build(0).unwrap(), Gat::builder(8, 3).build(0).unwrap()]
        {
            for x in [dense, ValueRef::Sparse(sparse.view())] {
                let expected = model.compile(data.graph(), x).unwrap().run(x).unwrap().to_owned();
                for order in [NodeOrder::Degree, NodeOrder::Rcm, NodeOrder::Communities] {
                    let mut program = model.compile_ordered(data.graph(), x, order).unwrap();
                    for _ in 0..2 {
                        let found = program.run(x).unwrap();
                        // Neighbours are summed in another order.
                        assert!(
                            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
                            "{order:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_sum_of_products_is_one_instruction_and_says_the_same_as_stage_by_stage() {
        let data =
            PowerLaw::builder(200, 2000).features(8).classes(3).per_class(5, 5).build().unwrap();
        let model = Sage::builder(8, 3).hidden(16).layers(3).build(0).unwrap();
        let lowered = || model.lower(Some(data.graph()), data.features()).unwrap();
        let (mut merged, mut stagewise) = (
            super::Program::compile(lowered()).unwrap(),
            super::Program::compile_stagewise(lowered()).unwrap(),
        );
        assert!(merged.instructions.len() < stagewise.instructions.len());
        let (a, b) =
            (merged.run(data.features()).unwrap(), stagewise.run(data.features()).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn products_are_counted_in_the_form_that_the_program_took() {
        let data =
            PowerLaw::builder(100, 500).features(100).classes(3).per_class(5, 5).build().unwrap();
        let mut model = crate::models::Mlp::builder(100, 3).hidden(100).build(0).unwrap();
        let of = |model: &crate::nn::Model| {
            let products = model.compile(data.graph(), data.features()).unwrap().products();
            (products.dense, products.sparse)
        };
        assert_eq!(of(&model), (2, 0));
        // 100 of 10,000 weights are left in the first, which pays; the second is too small for it.
        model.visit_mut(&mut |param| {
            param.value_mut().indexed_iter_mut().for_each(|((i, j), w)| *w *= f32::from(i == j))
        });
        assert_eq!(of(&model), (1, 1));
    }
}
