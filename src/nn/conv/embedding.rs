//! A learned table of the nodes.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Layer, Lowering, Param, Place, PruneUnits, Python,
    Reads, Registered, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// `y_i = e_i`: one learned row per node, for graphs without features. Its input is read for
/// nothing but its number of rows; where a batch says who its nodes are, theirs are the rows.
///
/// *Shapes*: `E: [nodes, c]`, `Y: [rows, c]`. A model with it serves the graph that it was trained
/// on, and no other.
///
/// *Source*: as `torch.nn.Embedding`; the start of LightGCN (He et al., SIGIR 2020, §3.1).
#[derive(Debug, Clone)]
pub struct Embedding<F: Scalar = f32> {
    weight: Param<F>,
}

impl<F: Scalar> Embedding<F> {
    /// A table of `nodes` rows of `channels` numbers, drawn by [`Init::GlorotUniform`].
    ///
    /// # Errors
    /// [`Error::Setting`] for a table of nothing.
    pub fn new(nodes: usize, channels: usize) -> Result<Self> {
        Self::drawn(nodes, channels, Init::GlorotUniform)
    }

    /// As [`Embedding::new`], drawn otherwise.
    ///
    /// # Errors
    /// As [`Embedding::new`] and [`Init::check`].
    pub fn drawn(nodes: usize, channels: usize, init: Init) -> Result<Self> {
        if nodes == 0 || channels == 0 {
            return Err(Error::setting(
                "shape of embedding",
                format!("{nodes} x {channels}"),
                "at least 1 on both sides",
            ));
        }
        init.check()?;
        let axes = [Axis::Nodes, Axis::Out];
        Ok(Self { weight: Param::new("weight", (nodes, channels), axes, init) })
    }

    /// A table that has these rows, `[nodes, channels]`, until it is drawn anew by `init`.
    ///
    /// # Errors
    /// As [`Embedding::drawn`].
    pub fn of(rows: Array2<F>, init: Init) -> Result<Self> {
        let mut table = Self::drawn(rows.nrows(), rows.ncols(), init)?;
        table.weight.value_mut().assign(&rows);
        Ok(table)
    }
}

impl<F: Scalar> Layer<F> for Embedding<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let table = self.weight.value();
        let mismatch = |expected: usize, found: usize| {
            let columns = xs[0].cols();
            let at = format!("{}: nodes of the table", cx.place());
            let (expected, found) = ((expected, columns), (found, columns));
            Error::ShapeMismatch { at, expected, found }
        };
        let mut y = cx.take((xs[0].rows(), table.ncols()));
        match cx.ids() {
            None if xs[0].rows() != table.nrows() => {
                return Err(mismatch(table.nrows(), xs[0].rows()));
            }
            None => kernels::copy_rows(table.view(), y.view_mut()),
            Some(ids) => {
                if ids.len() != xs[0].rows() {
                    return Err(mismatch(ids.len(), xs[0].rows()));
                }
                if let Some(&node) = ids.iter().find(|node| **node as usize >= table.nrows()) {
                    let at = format!("{}: node of a batch", cx.place());
                    let (index, len) = (node as usize, table.nrows());
                    return Err(Error::IndexOutOfRange { at, index, len });
                }
                kernels::map_rows(y.view_mut(), |i, row| {
                    let from = table.row(ids[i] as usize);
                    row.copy_from_slice(from.as_slice().expect("parameters are contiguous"));
                });
            }
        }
        Ok((Value::Dense(y), ()))
    }

    /// `dE = dY`, of the rows that were read; the input has no gradient.
    fn backward(
        &self,
        cx: &Cx<F>,
        _: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        match cx.ids() {
            None => grads.add(&self.weight, dy.to_dense()),
            Some(ids) => dy.with_dense(|dy| grads.add_rows(&self.weight, ids, dy.view())),
        }
        vec![None]
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), 0), self.weight.value().ncols()))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
    }
}

impl<F: Scalar> Registered<F> for Embedding<F> {
    const KIND: &'static str = "embedding";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Err("whose rows are of the nodes of one graph");

    fn from_attrs(_: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (nodes, channels) = shapes.get("weight")?;
        Self::new(nodes, channels)
    }

    /// None: a sample has to know the graph that it is run on.
    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        None
    }

    fn sample_on(nodes: usize, widths: &[usize], out: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        if widths.len() == 1 { Self::new(nodes, out).ok() } else { None }
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("whose rows are of the nodes of one graph".into())
    }

    fn oracle(&self, _: &Graph<F>, _: &[Array2<F>]) -> Array2<F> {
        self.weight.value().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{GcnConv, ModelBuilder, NodeId};
    use crate::testing::{
        check_gradients, check_mask_equals_shrink, check_program, random_dense, random_graph,
        random_plan,
    };

    #[test]
    fn a_network_on_a_table_learns_shrinks_and_refuses_other_graphs() {
        let graph = random_graph::<f64>(3, 9);
        let nodes = graph.num_nodes();
        let mut builder = ModelBuilder::<f64>::new(1);
        let table =
            builder.add("table", Embedding::new(nodes, 5).unwrap(), &[NodeId::INPUT]).unwrap();
        let conv = builder.add("conv", GcnConv::builder(5, 2).build().unwrap(), &[table]).unwrap();
        let model = builder.build(conv, 1).unwrap();
        let x = random_dense(1, (nodes, 1));
        check_gradients(&model, &graph, x.view(), 1).unwrap();
        check_program(&model, &graph, x.view()).unwrap();
        check_mask_equals_shrink(&model, &random_plan(1, &model).unwrap(), &graph, x.view())
            .unwrap();
        let other = Graph::builder(nodes + 1).build().unwrap().cast();
        assert!(matches!(
            model.infer(&Cx::eval(&other), random_dense(1, (nodes + 1, 1)).view()),
            Err(Error::ShapeMismatch { .. })
        ));
    }
}
