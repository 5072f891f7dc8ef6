//! Light graph convolution.

use super::propagation::{dense_operator, norm_argument, norm_of, random_norm, with_norm};
use crate::error::{Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::nn::product::{aggregate, gradient_like};
use crate::nn::{
    Attrs, Cx, Evaluated, Grads, Io, Layer, Lowering, NodeWise, Place, Python, Reads, Registered,
    RowSpace, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// `Y = D^{-1/2}·A·D^{-1/2}·X`, without self-loops and without parameters.
///
/// *Shapes*: `X: [n, c]`, `Y: [n, c]`; `D` is the weighted in-degree.
///
/// *Source*: He et al., "LightGCN", SIGIR 2020, eq. 3.
#[derive(Debug, Clone)]
pub struct LgConv {
    norm: AdjacencyNorm,
}

impl Default for LgConv {
    fn default() -> Self {
        Self { norm: AdjacencyNorm::SymmetricPlain }
    }
}

impl LgConv {
    /// The layer as its source has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How messages are weighed. Default: [`AdjacencyNorm::SymmetricPlain`].
    #[must_use]
    pub fn norm(mut self, norm: AdjacencyNorm) -> Self {
        self.norm = norm;
        self
    }
}

impl<F: Scalar> Layer<F> for LgConv {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    /// The rows of what is aggregated.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs).map(RowSpace::aggregated)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], xs[0].cols())?;
        let topology = cx.topology()?;
        let operator = topology.operator(self.norm)?;
        Ok((Value::Dense(aggregate(cx, operator.forward(), &xs[0])), ()))
    }

    /// `dX = Âᵀ·dY`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let topology = cx.topology().expect("the forward pass had it");
        let operator = topology.operator(self.norm).expect("the forward pass had it");
        let dx = io.wants(0).then(|| {
            let dx = aggregate(cx, operator.transpose(), &dy);
            gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
        });
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        if lowering.is_sparse(xs[0]) {
            let width = lowering.width(xs[0]);
            let macs = (lowering.operator(self.norm)?.stored() * width) as u64;
            return Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width));
        }
        lowering.aggregate(xs[0], self.norm)
    }

    fn attrs(&self) -> Attrs {
        with_norm(Attrs::new(), self.norm, AdjacencyNorm::SymmetricPlain)
    }

    /// The input: there is nothing beside the hop.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![Vec::new()]
    }
}

impl<F: Scalar> Registered<F> for LgConv {
    const KIND: &'static str = "lg_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Ok(Twin::new(&["LGConv"], &[]).settings(&["norm"]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self { norm: norm_of(attrs, AdjacencyNorm::SymmetricPlain)? })
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        (widths.len() == 1).then(|| Self { norm: random_norm(rng) })
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let norm =
            norm_argument(self.norm, AdjacencyNorm::SymmetricPlain)?.trim_start_matches(", ");
        Ok(at.module(format!("pyg.LGConv({norm})"), &["edge_index", "edge_weight"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        dense_operator(graph, self.norm).dot(&xs[0])
    }
}
