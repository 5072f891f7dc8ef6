//! The convolution that composes nodes with relations.

use super::composition::{Composition, Gathered, gather, gather_back};
use crate::error::{Error, ModelError, PruneError, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph, RelationPairs};
use crate::kernels::{self, Epilogue};
use crate::nn::product::bias_gradient;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, LinearMap, Lowering, Param, Place,
    PruneUnits, Python, Reads, Registered, RowSpace, See, Shapes, StageId, Twin, Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2, s};
use ndarray_rand::rand::Rng;
use std::sync::Arc;

/// Edges as they are, edges turned round, and a node to itself.
const DIRECTIONS: usize = 3;
/// The one of them that has no edges.
const LOOP: usize = 2;

/// Builder of a [`CompGcnConv`]; see [`CompGcnConv::builder`].
#[derive(Debug, Clone)]
pub struct CompGcnConvBuilder {
    in_channels: usize,
    out_channels: usize,
    composition: Composition,
    norm: AdjacencyNorm,
    bias: bool,
}

impl CompGcnConvBuilder {
    /// How a node and a relation become a message. Default [`Composition::Product`].
    #[must_use]
    pub fn composition(mut self, composition: Composition) -> Self {
        self.composition = composition;
        self
    }

    /// How the messages of one direction are weighed: [`AdjacencyNorm::SymmetricPlain`] by the
    /// degrees that its edges give, as the authors' program does, where a node without edges into
    /// it passes nothing on; [`AdjacencyNorm::Mean`]; or [`AdjacencyNorm::Sum`], as the formula of
    /// the paper has it. Default: as the authors' program.
    #[must_use]
    pub fn norm(mut self, norm: AdjacencyNorm) -> Self {
        self.norm = norm;
        self
    }

    /// Whether there is a bias. Default: yes.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width of zero, and for a norm that a direction does not have.
    pub fn build<F: Scalar>(self) -> Result<CompGcnConv<F>> {
        let (inputs, outputs) = (self.in_channels, self.out_channels);
        if inputs == 0 || outputs == 0 {
            let value = format!("{inputs} -> {outputs}");
            let legal = "at least 1 on both sides";
            return Err(Error::setting("channels of compgcn_conv", value, legal));
        }
        use AdjacencyNorm::{Mean, Sum, SymmetricPlain};
        if !matches!(self.norm, SymmetricPlain | Mean | Sum) {
            let (norm, legal) = (format!("{:?}", self.norm), "symmetric_plain, mean or sum");
            return Err(Error::setting("norm of compgcn_conv", norm, legal));
        }
        let rows = inputs
            .checked_mul(DIRECTIONS)
            .ok_or_else(|| Error::setting("channels of compgcn_conv", inputs, "fewer"))?;
        let stacked = Init::GlorotStacked { count: DIRECTIONS };
        let itself = [Axis::Fixed, Axis::In(0)];
        Ok(CompGcnConv {
            weight: Param::new("weight", (rows, outputs), [Axis::InTiled(0), Axis::Out], stacked),
            itself: Param::new("loop", (1, inputs), itself, Init::GlorotUniform),
            bias: self.bias.then(|| bias(outputs)),
            composition: self.composition,
            norm: self.norm,
        })
    }
}

/// `y_i = 1/3 Σ_λ Σ_{(j,r) ∈ N_λ(i)} w_ij φ(x_j, z_r)·W_λ + b`, over the edges as they are, the
/// edges turned round, and a loop whose relation is the layer's own.
///
/// Its inputs are the rows of nodes and those of relations. Of `2R` rows of relations the first `R`
/// are of edges as they are and the others of edges turned round: the types of a graph's edges say
/// which of them each has, as in [`Triples::dataset`](crate::data::Triples::dataset). The weights
/// `w_ij` are those of the [norm](CompGcnConvBuilder::norm). The relations' own update,
/// `Z' = Z·W_rel`, is a [`Linear`](crate::nn::Linear) on their rows.
///
/// *Shapes*: `X: [n, in]`, `Z: [2R, in]`, the `W_λ` one below the other `[3·in, out]`, the loop's
/// relation `[1, in]`, `b: [1, out]`, `Y: [n, out]`. The graph's edges have types; it may have
/// fewer than there are rows.
///
/// Channel `c` of nodes and channel `c` of relations are pruned together; a
/// [correlation](Composition::Correlation) mixes them all, and none of them can go.
///
/// *Source*: Vashishth et al., "Composition-based multi-relational graph convolutional networks",
/// ICLR 2020, eq. 2 to 4; the mean over directions is the authors' program's.
///
/// ```
/// use gnn_prune::nn::{CompGcnConv, Cx, Embedding, Linear, ModelBuilder, NodeId, RelationTable};
/// use gnn_prune::ndarray::Array2;
/// use gnn_prune::{Graph, ValueRef};
/// // A fact 0 -> 1 of one relation, and the same turned round.
/// let graph = Graph::builder(2).edges([(0, 1), (1, 0)]).edge_types(vec![0, 1]).build()?;
/// let mut builder = ModelBuilder::new(1);
/// let nodes = builder.add("nodes", Embedding::new(2, 4)?, &[NodeId::INPUT])?;
/// let relations = builder.add("relations", RelationTable::new(2, 4)?, &[NodeId::INPUT])?;
/// let conv = CompGcnConv::builder(4, 3).build()?;
/// let y = builder.add("conv", conv, &[nodes, relations])?;
/// let model = builder.build(y, 0)?;
/// let x = Array2::ones((2, 1));
/// assert_eq!(model.infer(&Cx::eval(&graph), ValueRef::Dense(x.view()))?.dim(), (2, 3));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CompGcnConv<F: Scalar = f32> {
    weight: Param<F>,
    /// The relation of the loop.
    itself: Param<F>,
    bias: Option<Param<F>>,
    composition: Composition,
    norm: AdjacencyNorm,
}

impl CompGcnConv<f32> {
    /// Starts a layer from rows of `in_channels`, of nodes and of relations, to `out_channels`.
    pub fn builder(in_channels: usize, out_channels: usize) -> CompGcnConvBuilder {
        CompGcnConvBuilder {
            in_channels,
            out_channels,
            composition: Composition::default(),
            norm: AdjacencyNorm::SymmetricPlain,
            bias: true,
        }
    }
}

impl<F: Scalar> CompGcnConv<F> {
    fn in_channels(&self) -> usize {
        self.itself.value().ncols()
    }

    /// `W_λ/3`.
    fn weight_of(&self, direction: usize) -> Array2<F> {
        let inputs = self.in_channels();
        let third = F::of(1.0 / DIRECTIONS as f64);
        let w = self.weight.value().slice(s![direction * inputs..(direction + 1) * inputs, ..]);
        w.mapv(|w| third * w)
    }

    /// The pairs of the two directions that have edges.
    fn directions(&self, cx: &Cx<F>, relations: usize) -> Result<[Arc<RelationPairs<F>>; 2]> {
        let graph = cx.graph()?;
        let found = graph.relations().len();
        if found == 0 && graph.num_edges() > 0 {
            let reason = "the graph's edges have no types; give them some by `edge_types`";
            return Err(Error::data(cx.place(), reason));
        }
        if !relations.is_multiple_of(2) || found > relations {
            let reason = format!(
                "the graph has {found} types of edges, and there are {relations} rows of \
                 relations: they are twice the relations, those of edges turned round last"
            );
            return Err(Error::data(cx.place(), reason));
        }
        let half = relations / 2;
        let pairs = |range| graph.joint_pairs(range, self.norm);
        Ok([pairs(0..half)?, pairs(half..relations)?])
    }

    fn check(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<[Arc<RelationPairs<F>>; 2]> {
        cx.check(&xs[0], self.in_channels())?;
        let (relations, found) = xs[1].shape();
        if found != self.in_channels() {
            let at = format!("{}: relations", cx.place());
            let expected = (relations, self.in_channels());
            return Err(Error::ShapeMismatch { at, expected, found: (relations, found) });
        }
        self.directions(cx, relations)
    }

    /// `φ(x, z_loop)`.
    fn looped(&self, cx: &Cx<F>, x: ArrayView2<F>) -> Array2<F> {
        let mut t = cx.take(x.dim());
        self.composition.compose(x, None, self.itself.value().row(0), t.view_mut());
        t
    }

    /// Output, and what backward reads where it is `kept`.
    fn run(
        &self,
        cx: &Cx<F>,
        xs: &[ValueRef<F>],
        kept: bool,
    ) -> Result<(Value<F>, Vec<Gathered<F>>)> {
        let directions = self.check(cx, xs)?;
        let bias = self.bias.as_ref().map(|bias| bias.value().as_slice().expect("contiguous"));
        let mut y = cx.take((xs[0].rows(), self.weight.value().ncols()));
        let mut cache = Vec::new();
        xs[0].with_dense(|x| {
            xs[1].with_dense(|z| {
                let looped = self.looped(cx, x);
                let epilogue = Epilogue { bias, ..Epilogue::NONE };
                kernels::matmul_then(
                    looped.view(),
                    self.weight_of(LOOP).view(),
                    y.view_mut(),
                    epilogue,
                );
                cx.give(looped);
                let half = z.nrows() / 2;
                for (direction, pairs) in directions.iter().enumerate() {
                    let z = z.slice(s![direction * half..(direction + 1) * half, ..]);
                    let Gathered { pairs: h, nodes } = gather(cx, self.composition, pairs, x, z);
                    let epilogue = Epilogue { add: true, ..Epilogue::NONE };
                    let w = self.weight_of(direction);
                    kernels::matmul_then(nodes.view(), w.view(), y.view_mut(), epilogue);
                    match kept {
                        true => cache.push(Gathered { pairs: h, nodes }),
                        false => h.into_iter().chain([nodes]).for_each(|used| cx.give(used)),
                    }
                }
            });
        });
        Ok((Value::Dense(y), cache))
    }

    /// Refuses to lose channels that a correlation mixes.
    fn check_kept(&self, kept: &Kept) -> Result<(), PruneError> {
        let whole =
            kept.inputs.iter().zip(&kept.in_widths).all(|(kept, width)| kept.len() == *width);
        if self.composition.is_by_channel() || whole {
            return Ok(());
        }
        Err(PruneError::Refused {
            layer: Self::KIND.into(),
            reason: "a correlation mixes all channels of nodes and relations, and keeps all".into(),
        })
    }
}

impl<F: Scalar> Layer<F> for CompGcnConv<F> {
    /// Of both directions with edges.
    type Cache = Vec<Gathered<F>>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (2, 2)
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    fn couples(&self, _: usize) -> PruneUnits {
        match self.composition.is_by_channel() {
            true => PruneUnits::Single,
            false => PruneUnits::WholeHeads { dim: self.in_channels() },
        }
    }

    fn ties_inputs(&self) -> bool {
        true
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        matches!(inputs, [RowSpace::Nodes, RowSpace::Relations(_)]).then_some(RowSpace::Nodes)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        self.run(cx, xs, true)
    }

    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        Ok(self.run(cx, xs, false)?.0)
    }

    /// With `S_λ` as what the neighbours of direction λ send, added up: `dW_λ = S_λᵀ·dY/3`,
    /// `dS_λ = dY·W_λᵀ/3`, from there to each pair of a node and a relation, through the
    /// composition, and back along the edges.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let (x, z) = (io.input(0), io.input(1));
        let directions =
            self.directions(cx, z.rows()).expect("the forward pass had a graph with them");
        let inputs = self.in_channels();
        let third = F::of(1.0 / DIRECTIONS as f64);
        let mut dweight = Array2::zeros(self.weight.value().dim());
        let mut dx = cx.take(x.shape());
        let mut dz = Array2::zeros(z.shape());
        x.with_dense(|x| {
            z.with_dense(|z| {
                dy.with_dense(|dy| {
                    if let Some(bias) = &self.bias {
                        grads.add(bias, bias_gradient(dy));
                    }
                    let mut add_weight = |direction: usize, seen: ArrayView2<F>| {
                        let rows = s![direction * inputs..(direction + 1) * inputs, ..];
                        let mut dw = Array2::zeros((inputs, dy.ncols()));
                        kernels::matmul_tn(seen, dy, dw.view_mut());
                        dw.mapv_inplace(|dw| third * dw);
                        dweight.slice_mut(rows).assign(&dw);
                    };
                    let mut dnodes = cx.take(x.dim());
                    let looped = self.looped(cx, x);
                    add_weight(LOOP, looped.view());
                    cx.give(looped);
                    kernels::matmul_nt(dy, self.weight_of(LOOP).view(), dnodes.view_mut());
                    let itself = self.itself.value().row(0);
                    let own = self.composition.back(x, None, itself, dnodes.view(), dx.view_mut());
                    let own = Array2::from_shape_vec((1, inputs), own);
                    grads.add(&self.itself, own.expect("a number for each channel"));
                    let half = z.nrows() / 2;
                    for (direction, (pairs, kept)) in directions.iter().zip(cache).enumerate() {
                        add_weight(direction, kept.nodes.view());
                        cx.give(kept.nodes);
                        let w = self.weight_of(direction);
                        kernels::matmul_nt(dy, w.view(), dnodes.view_mut());
                        let rows = s![direction * half..(direction + 1) * half, ..];
                        let (z, dz) = (z.slice(rows), dz.slice_mut(rows));
                        let (composition, dnodes) = (self.composition, dnodes.view());
                        gather_back(cx, composition, pairs, kept.pairs, z, dnodes, &mut dx, dz);
                    }
                    cx.give(dnodes);
                });
            });
        });
        grads.add(&self.weight, dweight);
        vec![Some(Value::Dense(dx)), Some(Value::Dense(dz))]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (inputs, width) = (self.in_channels(), self.weight.value().ncols());
        let (nodes, relations) = (lowering.rows(xs[0]), lowering.rows(xs[1]));
        let half = relations / 2;
        let each = self.composition.macs(inputs);
        let mut macs = nodes * each + DIRECTIONS * nodes * inputs * width;
        for range in [0..half, half..relations] {
            let pairs = lowering.of_graph(|graph| graph.joint_pairs(range, self.norm))?;
            macs += pairs.gather().nnz() * inputs + pairs.len() * (each + inputs);
        }
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs as u64), width))
    }

    /// One map: the stacked weights see what each direction sends, beside each other, by three.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        let directions = self.check(cx, xs)?;
        let (inputs, third) = (self.in_channels(), F::of(1.0 / DIRECTIONS as f64));
        let mut g = Array2::zeros((xs[0].rows(), DIRECTIONS * inputs));
        xs[0].with_dense(|x| {
            xs[1].with_dense(|z| {
                let half = z.nrows() / 2;
                let mut put = |direction: usize, seen: Array2<F>| {
                    let columns = s![.., direction * inputs..(direction + 1) * inputs];
                    g.slice_mut(columns).scaled_add(third, &seen);
                    cx.give(seen);
                };
                put(LOOP, self.looped(cx, x));
                for (direction, pairs) in directions.iter().enumerate() {
                    let z = z.slice(s![direction * half..(direction + 1) * half, ..]);
                    let Gathered { pairs: h, nodes } = gather(cx, self.composition, pairs, x, z);
                    h.into_iter().for_each(|used| cx.give(used));
                    put(direction, nodes);
                }
            });
        });
        let map = LinearMap::of_made(Value::Dense(g), &mut self.weight);
        see(map.with_bias(self.bias.as_mut()))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("composition", self.composition).with("norm", self.norm)
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        f(&self.itself);
        self.bias.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        f(&mut self.itself);
        self.bias.iter_mut().for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.check_kept(kept)
    }

    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.check_kept(kept)
    }
}

impl<F: Scalar> Registered<F> for CompGcnConv<F> {
    const KIND: &'static str = "compgcn_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Err("which PyTorch Geometric does not have");

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (rows, out_channels) = shapes.get("weight")?;
        let (_, in_channels) = shapes.get("loop")?;
        if in_channels.checked_mul(DIRECTIONS) != Some(rows) {
            return Err(ModelError::Misfit(format!(
                "weight of a compgcn_conv has {rows} rows, which are not {DIRECTIONS} times the \
                 {in_channels} channels of its loop"
            ))
            .into());
        }
        let builder = CompGcnConvBuilder {
            in_channels,
            out_channels,
            composition: attrs.get("composition")?,
            norm: attrs.get("norm")?,
            bias: shapes.find("bias").is_some(),
        };
        builder.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels, of_relations] = widths else { return None };
        let compositions =
            [Composition::Subtraction, Composition::Product, Composition::Correlation];
        use AdjacencyNorm::{Mean, Sum, SymmetricPlain};
        let builder = CompGcnConvBuilder {
            in_channels,
            out_channels: out,
            composition: compositions[rng.random_range(0..compositions.len())],
            norm: [SymmetricPlain, Mean, Sum][rng.random_range(0..3)],
            bias: rng.random(),
        };
        if in_channels == of_relations { builder.build().ok() } else { None }
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("which PyTorch Geometric does not have".into())
    }

    /// Edge by edge, on the adjacency of each relation.
    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let (x, z, n, d) = (&xs[0], &xs[1], graph.num_nodes(), self.in_channels());
        let third = F::of(1.0 / 3.0);
        let phi = |x: ndarray::ArrayView1<F>, z: ndarray::ArrayView1<F>| -> Vec<F> {
            let at = |k: usize| match self.composition {
                Composition::Subtraction => x[k] - z[k],
                Composition::Product => x[k] * z[k],
                Composition::Correlation => (0..d).map(|i| x[i] * z[(i + k) % d]).sum(),
            };
            (0..d).map(at).collect()
        };
        let dense: Vec<Array2<F>> =
            graph.relations().iter().map(|a| ValueRef::Sparse(a.view()).to_dense()).collect();
        let half = z.nrows() / 2;
        let mut y = Array2::zeros((n, self.weight.value().ncols()));
        for direction in 0..DIRECTIONS {
            let w = self.weight.value().slice(s![direction * d..(direction + 1) * d, ..]);
            let own: Vec<usize> = match direction {
                LOOP => Vec::new(),
                direction => (direction * half..(direction + 1) * half).collect(),
            };
            let own: Vec<usize> = own.into_iter().filter(|r| *r < dense.len()).collect();
            let degree = |i: usize| own.iter().map(|&r| dense[r].row(i).sum()).sum::<F>();
            let inverse = |v: F| if v == F::zero() { v } else { v.recip() };
            for i in 0..n {
                let mut sum = vec![F::zero(); d];
                let mut add = |weight: F, message: Vec<F>| {
                    sum.iter_mut().zip(message).for_each(|(sum, m)| *sum += weight * m);
                };
                if direction == LOOP {
                    add(F::one(), phi(x.row(i), self.itself.value().row(0)));
                }
                for (&r, j) in own.iter().flat_map(|r| (0..n).map(move |j| (r, j))) {
                    let weight = dense[r][[i, j]];
                    let scale = match self.norm {
                        AdjacencyNorm::Mean => inverse(degree(i)),
                        AdjacencyNorm::SymmetricPlain => {
                            inverse(degree(i)).sqrt() * inverse(degree(j)).sqrt()
                        }
                        _ => F::one(),
                    };
                    if weight != F::zero() {
                        add(weight * scale, phi(x.row(j), z.row(r)));
                    }
                }
                let sum = ndarray::Array1::from(sum);
                y.row_mut(i).scaled_add(third, &sum.dot(&w));
            }
        }
        self.bias.as_ref().map_or(y.clone(), |bias| y + bias.value())
    }
}
