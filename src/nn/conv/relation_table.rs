//! A learned table of relations.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Layer, Lowering, Param, Place, PruneUnits, Python,
    Reads, Registered, RowSpace, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// `z_r = e_r`: one learned row per relation, for layers and decoders that share them. Its input is
/// not read.
///
/// *Shapes*: `E: [relations, c]`, `Z: [relations, c]`, whatever the batch is.
///
/// *Source*: Vashishth et al., "Composition-based multi-relational graph convolutional networks",
/// ICLR 2020, §4.
///
/// ```
/// use gnn_prune::nn::{ModelBuilder, NodeId, RelationTable, RowSpace};
/// let mut builder = ModelBuilder::<f32>::new(1);
/// let table = builder.add("relations", RelationTable::new(6, 4)?, &[NodeId::INPUT])?;
/// let model = builder.build(table, 0)?;
/// assert_eq!(model.rows(), RowSpace::Relations(6));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RelationTable<F: Scalar = f32> {
    weight: Param<F>,
}

impl<F: Scalar> RelationTable<F> {
    /// A table of `relations` rows of `channels` numbers, drawn by [`Init::GlorotUniform`].
    ///
    /// # Errors
    /// [`Error::Setting`] for a table of nothing, and of 2³² relations or more.
    pub fn new(relations: usize, channels: usize) -> Result<Self> {
        Self::drawn(relations, channels, Init::GlorotUniform)
    }

    /// As [`RelationTable::new`], drawn otherwise.
    ///
    /// # Errors
    /// As [`RelationTable::new`] and [`Init::check`].
    pub fn drawn(relations: usize, channels: usize, init: Init) -> Result<Self> {
        if relations == 0 || channels == 0 || u32::try_from(relations).is_err() {
            let shape = format!("{relations} x {channels}");
            let legal = "at least 1 on both sides, and fewer than 2^32 relations";
            return Err(Error::setting("shape of relation_table", shape, legal));
        }
        init.check()?;
        let axes = [Axis::Fixed, Axis::Out];
        Ok(Self { weight: Param::new("weight", (relations, channels), axes, init) })
    }

    /// A table that has these rows, `[relations, channels]`, until it is drawn anew.
    ///
    /// # Errors
    /// As [`RelationTable::new`].
    pub fn of(rows: Array2<F>) -> Result<Self> {
        let mut table = Self::new(rows.nrows(), rows.ncols())?;
        table.weight.value_mut().assign(&rows);
        Ok(table)
    }
}

impl<F: Scalar> Layer<F> for RelationTable<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    fn rows(&self, _: &[RowSpace]) -> Option<RowSpace> {
        u32::try_from(self.weight.value().nrows()).ok().map(RowSpace::Relations)
    }

    fn forward(&self, cx: &Cx<F>, _: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let mut z = cx.take(self.weight.value().dim());
        kernels::copy_rows(self.weight.value().view(), z.view_mut());
        Ok((Value::Dense(z), ()))
    }

    /// `dE = dZ`; the input has no gradient.
    fn backward(
        &self,
        _: &Cx<F>,
        _: &Io<F>,
        (): (),
        dz: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        grads.add(&self.weight, dz.to_dense());
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

impl<F: Scalar> Registered<F> for RelationTable<F> {
    const KIND: &'static str = "relation_table";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Err("whose rows are of relations, and of no nodes");

    fn from_attrs(_: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (relations, channels) = shapes.get("weight")?;
        Self::new(relations, channels)
    }

    /// None: what reads its rows reads those of nodes beside them.
    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        None
    }

    fn sample_on(_: usize, widths: &[usize], out: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        if widths.len() == 1 { Self::new(4, out).ok() } else { None }
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("whose rows are of relations, and of no nodes".into())
    }

    fn oracle(&self, _: &Graph<F>, _: &[Array2<F>]) -> Array2<F> {
        self.weight.value().clone()
    }
}
