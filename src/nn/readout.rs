//! From the nodes of each graph of a batch to one row per graph.

use super::pooling::{Pooling, sizes};
use super::rows::{RowSpace, Rows};
use super::{
    Attrs, Cx, Evaluated, Grads, Io, Layer, Lowering, Place, Python, Reads, Registered, Shapes,
    StageId, Twin, Wiring,
};
use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Csr, Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;

/// `y_g = Σ_i x_i`, `1/n_g Σ_i x_i` or `max_i x_i` over the nodes `i` of each graph `g`; zero for a
/// graph without nodes. Which graph a node is of, the batch says: [`Rows::graphs`].
///
/// *Shapes*: `X: [nodes, c]` dense or sparse, `Y: [graphs, c]`. The gradient of a maximum goes to
/// the first of the largest.
///
/// *Source*: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, eq. 4.2 and §5.2.
///
/// ```
/// use gnn_prune::ndarray::array;
/// use gnn_prune::nn::{Cx, ModelBuilder, NodeId, Pooling, Readout, Rows};
/// use gnn_prune::{Graph, ValueRef};
/// let mut builder = ModelBuilder::<f32>::new(1);
/// let sum = builder.add("readout", Readout::new(Pooling::Sum), &[NodeId::INPUT])?;
/// let model = builder.build(sum, 0)?;
/// let two = Graph::builder(3).edges([(0, 1)]).build()?;
/// let (x, rows) = (array![[1.0], [2.0], [4.0]], Rows::new().graphs(vec![0, 0, 1], 2)?);
/// let y = model.infer(&Cx::eval(&two).within(&rows), ValueRef::Dense(x.view()))?;
/// assert_eq!(y, array![[3.0], [4.0]]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readout {
    pooling: Pooling,
}

impl Readout {
    /// Takes this from the nodes.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling }
    }
}

/// The graph of each node, and how many there are.
fn graphs_of<'a, F: Scalar>(cx: &Cx<'a, F>) -> Result<(&'a [u32], usize)> {
    let graphs = cx.rows().and_then(Rows::graph_of_nodes);
    graphs.ok_or_else(|| Error::NoGraphs { at: cx.place().into() })
}

impl Readout {
    /// The gradient of every node by that of its graph.
    fn spread<F: Scalar>(
        self,
        cx: &Cx<F>,
        (graph_of, count): (&[u32], usize),
        largest: Option<&Array2<u32>>,
        dy: ArrayView2<F>,
    ) -> Array2<F> {
        let nodes = graph_of.len();
        if let Some(largest) = largest {
            let starts: Vec<usize> = (0..=nodes).collect();
            let homes = Csr::new((nodes, count), starts, graph_of.to_vec(), vec![F::one(); nodes]);
            return kernels::spmm_max_t(homes.view(), largest, dy);
        }
        let sizes = sizes(graph_of, count);
        let shares: Vec<F> = sizes.iter().map(|&size| self.pooling.share(size)).collect();
        let mut dx = cx.take((nodes, dy.ncols()));
        kernels::map_rows(dx.view_mut(), |i, row| {
            let graph = graph_of[i] as usize;
            row.iter_mut().zip(dy.row(graph)).for_each(|(dx, &dy)| *dx = dy * shares[graph]);
        });
        dx
    }
}

impl<F: Scalar> Layer<F> for Readout {
    /// Of a maximum, whose it was.
    type Cache = Option<Array2<u32>>;

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        (inputs == [RowSpace::Nodes]).then_some(RowSpace::Graphs)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let (graph_of, count) = graphs_of(cx)?;
        let (expected, found) = ((graph_of.len(), xs[0].cols()), xs[0].shape());
        if expected != found {
            return Err(Error::ShapeMismatch { at: cx.place().into(), expected, found });
        }
        let members = self.pooling.members::<F>(graph_of, count);
        Ok(xs[0].with_dense(|x| {
            if self.pooling == Pooling::Max {
                let (y, largest) = kernels::spmm_max(members.view(), x);
                return (Value::Dense(y), Some(largest));
            }
            let mut y = cx.take((count, x.ncols()));
            kernels::spmm(members.view(), x, y.view_mut());
            (Value::Dense(y), None)
        }))
    }

    /// `dx_i = dy_g` of a sum, `dy_g/n_g` of a mean, and of a maximum `dy_g` where it was `x_i`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        largest: Self::Cache,
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let graphs = graphs_of(cx).expect("the forward pass had them");
        let dx = io.wants(0).then(|| {
            let dx = dy.with_dense(|dy| self.spread(cx, graphs, largest.as_ref(), dy));
            gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
        });
        vec![dx]
    }

    /// A sparse input says where its gradient lies.
    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    /// A maximum is no product.
    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        if self.pooling != Pooling::Max {
            return lowering.pool(xs[0], self.pooling);
        }
        let (width, macs) = (lowering.width(xs[0]), lowering.stored(xs[0]) as u64);
        Ok(lowering.opaque(xs, Evaluated::new(*self, macs), width))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("pooling", self.pooling)
    }
}

impl<F: Scalar> Registered<F> for Readout {
    const KIND: &'static str = "readout";
    const PYTORCH: std::result::Result<Twin, &'static str> = Err(NO_BATCH);

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self::new(attrs.get("pooling")?))
    }

    /// None: not every layer may read its rows, which a random network does not heed.
    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        None
    }

    fn sample_on(_: usize, widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let pooling = [Pooling::Sum, Pooling::Mean, Pooling::Max][rng.random_range(0..3)];
        (widths.len() == 1).then(|| Self::new(pooling))
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err(NO_BATCH.into())
    }

    /// All nodes as one graph.
    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let one = Rows::new().graphs(vec![0; graph.num_nodes()], 1);
        self.oracle_on(graph, &one.expect("there is a graph 0"), xs)
    }

    fn oracle_on(&self, _: &Graph<F>, rows: &Rows<F>, xs: &[Array2<F>]) -> Array2<F> {
        let (graph_of, count) = rows.graph_of_nodes().expect("the laws give graphs");
        Array2::from_shape_fn((count, xs[0].ncols()), |(graph, c)| {
            let own: Vec<F> = (0..graph_of.len())
                .filter(|&i| graph_of[i] as usize == graph)
                .map(|i| xs[0][[i, c]])
                .collect();
            let sum = own.iter().fold(F::zero(), |sum, &x| sum + x);
            match self.pooling {
                _ if own.is_empty() => F::zero(),
                Pooling::Sum => sum,
                Pooling::Mean => sum / F::of(own.len() as f64),
                Pooling::Max => own.into_iter().fold(F::neg_infinity(), F::max),
            }
        })
    }
}

/// What keeps a readout from being written as Python.
const NO_BATCH: &str = "which needs to be told the graph of each node";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, Mode, ModelBuilder, NodeId};
    use ndarray::array;

    fn model(pooling: Pooling) -> crate::Model<f64> {
        let mut builder = ModelBuilder::new(2);
        let y = builder.add("readout", Readout::new(pooling), &[NodeId::INPUT]).unwrap();
        builder.build(y, 0).unwrap()
    }

    #[test]
    fn nodes_of_a_graph_need_not_stand_together_and_a_graph_without_nodes_is_zero() {
        let graph = Graph::builder(4).build().unwrap().cast();
        let rows = Rows::new().graphs(vec![2, 0, 2, 2], 3).unwrap();
        let x = array![[1.0, -1.0], [5.0, -6.0], [3.0, -4.0], [2.0, -1.0]];
        let expected = [
            (Pooling::Sum, array![[5.0, -6.0], [0.0, 0.0], [6.0, -6.0]]),
            (Pooling::Mean, array![[5.0, -6.0], [0.0, 0.0], [2.0, -2.0]]),
            (Pooling::Max, array![[5.0, -6.0], [0.0, 0.0], [3.0, -1.0]]),
        ];
        for (pooling, expected) in expected {
            let (model, x) = (model(pooling), ValueRef::Dense(x.view()));
            let y = model.infer(&Cx::eval(&graph).within(&rows), x).unwrap();
            assert!((&y - &expected).iter().all(|off| off.abs() < 1e-12), "{pooling}: {y}");
            let mut program = model.compile_within(&graph, x, &rows).unwrap();
            assert_eq!(program.run(x).unwrap(), y, "{pooling}");
            assert_eq!(pooling.to_string().parse::<Pooling>().unwrap(), pooling);
        }
    }

    #[test]
    fn of_equal_largest_the_first_has_the_gradient() {
        let graph = Graph::builder(3).build().unwrap().cast();
        let rows = Rows::new().graphs(vec![0, 0, 0], 1).unwrap();
        let (model, x) = (model(Pooling::Max), array![[1.0, 7.0], [4.0, 7.0], [4.0, 0.0]]);
        let cx = Cx::eval(&graph).within(&rows).with_mode(Mode::Train { seed: 0, step: 1 });
        let trace = model.trace(&cx, ValueRef::Dense(x.view())).unwrap();
        let seeds = [(model.output(), array![[1.0, 2.0]])];
        let (_, dx) = model.backward_to_input(&cx, trace, &seeds).unwrap();
        assert_eq!(dx.into_dense(), array![[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]);
    }

    #[test]
    fn a_batch_that_says_nothing_of_graphs_is_refused_by_name() {
        let graph = Graph::builder(3).build().unwrap().cast();
        let mut builder = ModelBuilder::<f64>::new(2);
        let y = builder.add("pool", Readout::new(Pooling::Mean), &[NodeId::INPUT]).unwrap();
        let y = builder.add("out", Linear::builder(2, 2).build().unwrap(), &[y]).unwrap();
        let model = builder.build(y, 0).unwrap();
        let x = Array2::zeros((3, 2));
        let x = ValueRef::Dense(x.view());
        let refused = [
            model.infer(&Cx::eval(&graph), x).unwrap_err(),
            model.infer(&Cx::eval(&graph).within(&Rows::new()), x).unwrap_err(),
            model.compile(&graph, x).unwrap_err(),
            model.compile_within(&graph, x, &Rows::new()).unwrap_err(),
        ];
        for error in refused {
            let words = error.to_string();
            assert!(words.contains("pool") && words.contains("graphs"), "{words}");
        }
        let few = Rows::new().graphs(vec![0, 0], 1).unwrap();
        let words = model.compile_within(&graph, x, &few).unwrap_err().to_string();
        assert!(words.contains("graphs of the nodes"), "{words}");
        let hops = crate::graph::Hop::into_nodes(&graph, &[0, 1, 2]).unwrap();
        let hops = Rows::new().hops(vec![hops]).unwrap();
        assert!(model.compile_within(&graph, x, &hops).unwrap_err().to_string().contains("hops"));
    }

    #[test]
    fn what_is_pooled_has_no_neighbours() {
        // As many graphs as nodes, so that shapes would fit.
        let graph = Graph::builder(2).edges([(0, 1)]).build().unwrap().cast();
        let rows = Rows::new().graphs(vec![1, 0], 2).unwrap();
        let mut builder = ModelBuilder::<f64>::new(2);
        let y = builder.add("pool", Readout::new(Pooling::Sum), &[NodeId::INPUT]).unwrap();
        let conv = crate::nn::GcnConv::builder(2, 2).build().unwrap();
        let y = builder.add("conv", conv, &[y]).unwrap();
        let model = builder.build(y, 0).unwrap();
        let x = Array2::ones((2, 2));
        let x = ValueRef::Dense(x.view());
        assert!(model.infer(&Cx::eval(&graph).within(&rows), x).is_err());
        let refused = model.compile_within(&graph, x, &rows).unwrap_err().to_string();
        assert!(refused.contains("conv") && refused.contains("rows are graphs"), "{refused}");
    }

    #[test]
    fn what_is_pooled_is_not_pooled_again() {
        let mut builder = ModelBuilder::<f64>::new(2);
        let y = builder.add("one", Readout::new(Pooling::Sum), &[NodeId::INPUT]).unwrap();
        let again = builder.add("two", Readout::new(Pooling::Sum), &[y]).unwrap_err();
        assert!(again.to_string().contains("two"), "{again}");
    }
}
