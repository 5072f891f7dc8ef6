//! The relational graph convolution.

use super::EDGE_WEIGHTS;
use super::blocks::Blocks;
use crate::error::{Error, ModelError, PruneError, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels::{self, Epilogue};
use crate::nn::linear_map::aggregated;
use crate::nn::product::{bias_gradient, product, product_dw, product_dx};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, Layout, LinearMap, Lowering,
    NodeWise, Param, Place, PruneUnits, Python, Reads, Registered, See, Shapes, StageId, Twin,
    Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, s};
use ndarray_rand::rand::Rng;

/// Builder of an [`RgcnConv`]; see [`RgcnConv::builder`].
#[derive(Debug, Clone)]
pub struct RgcnConvBuilder {
    in_channels: usize,
    out_channels: usize,
    relations: usize,
    bases: Option<usize>,
    blocks: usize,
    root: bool,
    bias: bool,
    sum: bool,
    weighted: bool,
}

impl RgcnConvBuilder {
    /// Makes the weight of every relation a sum of so many shared ones, at least 1. Default: each
    /// has its own.
    #[must_use]
    pub fn bases(mut self, bases: usize) -> Self {
        self.bases = Some(bases);
        self
    }

    /// Makes the weight of every relation a diagonal of so many blocks, each from a part of the
    /// input to a part of the output; a divisor of both widths, and not beside bases. Default: 1,
    /// which is a whole matrix.
    #[must_use]
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.blocks = blocks;
        self
    }

    /// Whether a node gives something to itself, by a weight of its own. Default: yes.
    #[must_use]
    pub fn root(mut self, root: bool) -> Self {
        self.root = root;
        self
    }

    /// Whether what comes over the edges of a relation is added up, in place of the mean of it.
    /// Default: no.
    #[must_use]
    pub fn sum(mut self, sum: bool) -> Self {
        self.sum = sum;
        self
    }

    /// Whether means and sums read what edges weigh; PyTorch Geometric's `RGCNConv` counts every
    /// edge once. Default: yes.
    #[must_use]
    pub fn edge_weights(mut self, read: bool) -> Self {
        self.weighted = read;
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
    /// [`Error::Setting`] for a width, a number of relations or of bases of zero, for blocks that
    /// do not divide both widths, and for blocks and bases.
    pub fn build<F: Scalar>(self) -> Result<RgcnConv<F>> {
        let (inputs, outputs, stacks) =
            (self.in_channels, self.out_channels, self.bases.unwrap_or(self.relations));
        if inputs == 0 || outputs == 0 || self.relations == 0 || stacks == 0 {
            let value =
                format!("{inputs} -> {outputs}, {} relations, {stacks} weights", self.relations);
            return Err(Error::setting(
                "channels and relations of rgcn_conv",
                value,
                "at least 1 of each",
            ));
        }
        let blocks = self.blocks;
        if blocks == 0 || inputs % blocks != 0 || outputs % blocks != 0 {
            let legal = format!("a divisor of {inputs} and of {outputs}");
            return Err(Error::setting("blocks of rgcn_conv", blocks, legal));
        }
        if blocks > 1 && self.bases.is_some() {
            return Err(Error::setting("blocks of rgcn_conv", blocks, "1 where there are bases"));
        }
        let rows = inputs
            .checked_mul(stacks)
            .ok_or_else(|| Error::setting("relations of rgcn_conv", stacks, "fewer"))?;
        let norm = if self.sum { AdjacencyNorm::Sum } else { AdjacencyNorm::Mean };
        let comp = |bases| {
            Param::new(
                "comp",
                (self.relations, bases),
                [Axis::Fixed, Axis::Fixed],
                Init::GlorotUniform,
            )
        };
        let of_output = if blocks == 1 { Axis::Out } else { Axis::OutPart };
        let matrices = stacks.saturating_mul(blocks);
        Ok(RgcnConv {
            weight: Param::new(
                "weight",
                (rows, outputs / blocks),
                [Axis::InTiled(0), of_output],
                Init::GlorotStacked { count: matrices },
            ),
            comp: self.bases.map(comp),
            root: self.root.then(|| {
                Param::new("root", (inputs, outputs), [Axis::In(0), Axis::Out], Init::GlorotUniform)
            }),
            bias: self.bias.then(|| bias(outputs)),
            relations: self.relations,
            blocks: Blocks(blocks),
            norm: if self.weighted { norm } else { norm.unweighted() },
        })
    }
}

/// `y_i = x_i·W_root + Σ_r 1/|N_r(i)| Σ_{j ∈ N_r(i)} x_j·W_r + b`, by choice with
/// `W_r = Σ_b a_rb·V_b` or `W_r = diag(Q_r1, …, Q_rB)`, or the sum in the place of the mean.
///
/// Where `W_r` is of blocks, the channels at one place of all blocks of the input are pruned
/// together, and so are those of the output: blocks stay of one size. Least squares leaves it as it
/// is.
///
/// *Shapes*: `X: [n, in]` dense or sparse, the `W_r` (or the bases `V_b`) one below the other
/// `[relations·in, out]`, or their blocks `[relations·in, out/B]`, `comp: [relations, bases]`,
/// `root: [in, out]`, `b: [1, out]`, `Y: [n, out]`. The graph's edges have types; it may have fewer
/// than the layer.
///
/// *Source*: Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks",
/// ESWC 2018, eq. 2 to 4.
#[derive(Debug, Clone)]
pub struct RgcnConv<F: Scalar = f32> {
    weight: Param<F>,
    comp: Option<Param<F>>,
    root: Option<Param<F>>,
    bias: Option<Param<F>>,
    relations: usize,
    /// Of which the matrix of a relation is made.
    blocks: Blocks,
    /// Of each relation.
    norm: AdjacencyNorm,
}

impl RgcnConv<f32> {
    /// Starts a layer from `in_channels` to `out_channels` over edges of `relations` types.
    pub fn builder(in_channels: usize, out_channels: usize, relations: usize) -> RgcnConvBuilder {
        RgcnConvBuilder {
            in_channels,
            out_channels,
            relations,
            bases: None,
            blocks: 1,
            root: true,
            bias: true,
            sum: false,
            weighted: true,
        }
    }
}

impl<F: Scalar> RgcnConv<F> {
    fn is_sum(&self) -> bool {
        matches!(self.norm, AdjacencyNorm::Sum | AdjacencyNorm::UnweightedSum)
    }

    fn stacks(&self) -> usize {
        self.comp.as_ref().map_or(self.relations, |comp| comp.value().ncols())
    }

    fn in_channels(&self) -> usize {
        self.weight.value().nrows() / self.stacks()
    }

    fn out_channels(&self) -> usize {
        self.weight.value().ncols() * self.blocks.0
    }

    /// Stacked matrix `k`.
    fn stacked(&self, k: usize) -> ndarray::ArrayView2<'_, F> {
        let inputs = self.in_channels();
        self.weight.value().slice(s![k * inputs..(k + 1) * inputs, ..])
    }

    /// `W_r`; its blocks one below the other, where it is of blocks.
    fn weight_of(&self, r: usize) -> Array2<F> {
        match &self.comp {
            None => self.stacked(r).to_owned(),
            Some(comp) => {
                let mut w = Array2::zeros((self.in_channels(), self.weight.value().ncols()));
                for (b, &a) in comp.value().row(r).iter().enumerate() {
                    w.scaled_add(a, &self.stacked(b));
                }
                w
            }
        }
    }

    /// Adds what the gradients of the `W_r` say of the parameters that they are made of.
    fn add_weight_gradients(&self, dweights: &[Array2<F>], grads: &mut Grads<F>) {
        let inputs = self.in_channels();
        let mut dweight = Array2::zeros(self.weight.value().dim());
        let Some(comp) = &self.comp else {
            for (r, dw) in dweights.iter().enumerate() {
                dweight.slice_mut(s![r * inputs..(r + 1) * inputs, ..]).assign(dw);
            }
            return grads.add(&self.weight, dweight);
        };
        let mut dcomp = Array2::zeros(comp.value().dim());
        for (r, dw) in dweights.iter().enumerate() {
            for b in 0..self.stacks() {
                dcomp[[r, b]] = (dw * &self.stacked(b)).sum();
                dweight
                    .slice_mut(s![b * inputs..(b + 1) * inputs, ..])
                    .scaled_add(comp.value()[[r, b]], dw);
            }
        }
        grads.add(&self.weight, dweight);
        grads.add(comp, dcomp);
    }

    fn check_relations(&self, cx: &Cx<F>) -> Result<usize> {
        let graph = cx.graph()?;
        match graph.relations().len() {
            0 if graph.num_edges() > 0 => Err(Error::data(
                cx.place(),
                "the graph's edges have no types; give them some by `edge_types`",
            )),
            found if found > self.relations => Err(Error::data(
                cx.place(),
                format!("the graph has {found} types of edges, the layer {}", self.relations),
            )),
            found => Ok(found),
        }
    }
}

impl<F: Scalar> Layer<F> for RgcnConv<F> {
    /// The pairs' rows of `gather·X`, where `X` is dense.
    type Cache = Option<Array2<F>>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.out_channels(), units: self.blocks.units() }
    }

    fn couples(&self, _: usize) -> PruneUnits {
        self.blocks.units()
    }

    /// A dense `X` is aggregated over all relations in one product and then multiplied; a sparse
    /// one is multiplied first, relation by relation.
    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let x = &xs[0];
        cx.check(x, self.in_channels())?;
        let relations = self.check_relations(cx)?;
        let graph = cx.graph()?;
        let mut y = match &self.root {
            Some(root) => product(cx, x, root.value().view()),
            None => {
                let mut y = cx.take((x.rows(), self.out_channels()));
                y.fill(F::zero());
                y
            }
        };
        let bias = self
            .bias
            .as_ref()
            .map(|bias| bias.value().as_slice().expect("parameters are contiguous"));
        let ValueRef::Dense(x) = x else {
            for r in 0..relations {
                let z = product(cx, x, self.blocks.whole(self.weight_of(r)).view());
                let epilogue = Epilogue { add: true, ..Epilogue::NONE };
                kernels::spmm_then(
                    graph.relation_operator(r, self.norm)?.forward(),
                    z.view(),
                    y.view_mut(),
                    epilogue,
                );
                cx.give(z);
            }
            if let Some(bias) = bias {
                kernels::add_bias(y.view_mut(), bias);
            }
            return Ok((Value::Dense(y), None));
        };
        let pairs = graph.relation_pairs(self.norm)?;
        let (mut h, mut t) = (cx.take((pairs.len(), x.ncols())), cx.take((pairs.len(), y.ncols())));
        kernels::spmm(pairs.gather(), x.view(), h.view_mut());
        for (r, block) in pairs.blocks().iter().enumerate() {
            let rows = s![block.clone(), ..];
            self.blocks.multiply(h.slice(rows), self.weight_of(r).view(), t.slice_mut(rows));
        }
        kernels::spmm_then(
            pairs.spread(),
            t.view(),
            y.view_mut(),
            Epilogue { bias, relu: false, add: true },
        );
        cx.give(t);
        Ok((Value::Dense(y), Some(h)))
    }

    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        let (y, cache) = self.forward(cx, xs)?;
        cache.into_iter().for_each(|used| cx.give(used));
        Ok(y)
    }

    /// With `H = gather·X` and `dT = spreadᵀ·dY`: `dW_r = H_rᵀ·dT_r`,
    /// `dX = dY·W_rootᵀ + gatherᵀ·(dT_r·W_rᵀ)_r`; where `X` is sparse, with `dZ_r = Â_rᵀ·dY`:
    /// `dW_r = Xᵀ·dZ_r`, `dX = dY·W_rootᵀ + Σ_r dZ_r·W_rᵀ`. In both cases `dV_b = Σ_r a_rb·dW_r`,
    /// `da_rb = ⟨dW_r, V_b⟩`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let graph = cx.graph().expect("the forward pass had a graph");
        let x = io.input(0);
        dy.with_dense(|dy| {
            if let Some(bias) = &self.bias {
                grads.add(bias, bias_gradient(dy));
            }
            let mut dx = None;
            let mut add = |term: Value<F>| match &mut dx {
                None => dx = Some(term),
                Some(sum) => sum.accumulate(term).expect("both are gradients of one input"),
            };
            if let Some(root) = &self.root {
                grads.add(root, product_dw(&x, dy));
                if io.wants(0) {
                    add(product_dx(cx, &x, dy, root.value().view()));
                }
            }
            let mut dweights = Vec::new();
            match cache {
                Some(h) => {
                    let pairs = graph.relation_pairs(self.norm).expect("the forward pass had them");
                    let mut dt = cx.take((pairs.len(), dy.ncols()));
                    kernels::spmm(pairs.spread_transposed(), dy, dt.view_mut());
                    let mut dh = h;
                    for (r, block) in pairs.blocks().iter().enumerate() {
                        let rows = s![block.clone(), ..];
                        dweights.push(self.blocks.gradient(dh.slice(rows), dt.slice(rows)));
                        // The rows of `H` are read no more.
                        if io.wants(0) {
                            let w = self.weight_of(r);
                            let (dt, dh) = (dt.slice(rows), dh.slice_mut(rows));
                            self.blocks.multiply_back(dt, w.view(), dh);
                        }
                    }
                    cx.give(dt);
                    if io.wants(0) {
                        let mut term = cx.take((x.rows(), dh.ncols()));
                        kernels::spmm(pairs.gather_transposed(), dh.view(), term.view_mut());
                        add(Value::Dense(term));
                    }
                    cx.give(dh);
                }
                None => {
                    let mut dz = cx.take(dy.dim());
                    for r in 0..graph.relations().len() {
                        let operator =
                            graph.relation_operator(r, self.norm).expect("the forward pass had it");
                        kernels::spmm(operator.transpose(), dy, dz.view_mut());
                        dweights.push(self.blocks.of_whole(product_dw(&x, dz.view())));
                        if io.wants(0) {
                            add(product_dx(
                                cx,
                                &x,
                                dz.view(),
                                self.blocks.whole(self.weight_of(r)).view(),
                            ));
                        }
                    }
                    cx.give(dz);
                }
            }
            self.add_weight_gradients(&dweights, grads);
            vec![dx]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (inputs, width) = (self.in_channels(), self.out_channels());
        let graph = lowering.graph()?;
        let (relations, edges) = (
            graph.relations().len(),
            graph.relations().iter().map(sprs::CsMatI::nnz).sum::<usize>(),
        );
        let root = usize::from(self.root.is_some());
        let macs = if lowering.is_sparse(xs[0]) {
            (relations + root) * lowering.stored(xs[0]) * width + edges * width
        } else {
            let pairs = lowering.of_graph(|graph| graph.relation_pairs(self.norm))?.len();
            lowering.rows(xs[0]) * root * inputs * width
                + edges * inputs
                + pairs * (inputs / self.blocks.0 + 1) * width
        } as u64;
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width))
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with("relations", self.relations);
        let attrs = match self.blocks.0 {
            1 => attrs,
            blocks => attrs.with("blocks", blocks),
        };
        let attrs = if self.is_sum() { attrs.with("sum", true) } else { attrs };
        if self.norm.is_weighted() { attrs } else { attrs.with(EDGE_WEIGHTS, false) }
    }

    /// One map: the stacked weights see `Â_r·X`, bases `Σ_r a_rb·Â_r·X`, the root `X`; the weights
    /// of the bases are held. Blocks are no map of all outputs, and none is shown.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        if self.blocks.0 > 1 {
            return Ok(());
        }
        let x = &xs[0];
        cx.check(x, self.in_channels())?;
        let relations = self.check_relations(cx)?;
        let (graph, stacks, inputs) = (cx.graph()?, self.stacks(), self.in_channels());
        let mut g = Array2::zeros((x.rows(), stacks * inputs));
        for r in 0..relations {
            let seen =
                aggregated(cx, graph.relation_operator(r, self.norm)?.forward(), F::zero(), x)
                    .into_dense();
            for k in 0..stacks {
                let share = self.comp.as_ref().map_or_else(
                    || if k == r { F::one() } else { F::zero() },
                    |comp| comp.value()[[r, k]],
                );
                if share != F::zero() {
                    g.slice_mut(s![.., k * inputs..(k + 1) * inputs]).scaled_add(share, &seen);
                }
            }
            cx.give(seen);
        }
        let mut map = LinearMap::of_made(Value::Dense(g), &mut self.weight);
        if let Some(root) = &mut self.root {
            map = map.and(LinearMap::of(x.reborrow(), root));
        }
        see(map.with_bias(self.bias.as_mut()))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        [&self.comp, &self.root, &self.bias].into_iter().flatten().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        [&mut self.comp, &mut self.root, &mut self.bias].into_iter().flatten().for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.masked(kept)
    }

    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError> {
        if self.blocks.fit(kept) {
            return Ok(());
        }
        Err(PruneError::Refused {
            layer: Self::KIND.into(),
            reason: format!("its {} blocks lose the same channels or none", self.blocks.0),
        })
    }

    /// `X·W_root + b`; a layer without a weight of its own for the node cannot do without.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        let linear = |root| vec![NodeWise::linear(root, self.bias.as_ref())];
        self.root.iter().map(linear).collect()
    }
}

impl<F: Scalar> Registered<F> for RgcnConv<F> {
    const KIND: &'static str = "rgcn_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["RGCNConv", "FastRGCNConv"],
        &[
            ("weight", "weight", Layout::Stacked),
            ("comp", "comp", Layout::Same),
            ("root", "root", Layout::Same),
            ("bias", "bias", Layout::Vector),
        ],
    )
    .settings(&["relations", "sum", EDGE_WEIGHTS]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let relations: usize = attrs.get("relations")?;
        let bases = shapes.find("comp").map(|(_, bases)| bases);
        let (rows, columns) = shapes.get("weight")?;
        let blocks: usize = attrs.get_or("blocks", 1)?;
        let out_channels = columns.checked_mul(blocks).unwrap_or(0);
        let stacks = bases.unwrap_or(relations);
        if stacks == 0 || rows % stacks != 0 {
            return Err(ModelError::Misfit(format!(
                "weight of an rgcn_conv has {rows} rows, which are no {stacks} stacked matrices"
            ))
            .into());
        }
        let builder = RgcnConvBuilder {
            in_channels: rows / stacks,
            out_channels,
            relations,
            bases,
            blocks,
            root: shapes.find("root").is_some(),
            bias: shapes.find("bias").is_some(),
            sum: attrs.get_or("sum", false)?,
            weighted: attrs.get_or(EDGE_WEIGHTS, true)?,
        };
        builder.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (bases, root, bias, sum) =
            (rng.random::<bool>().then_some(2), rng.random(), rng.random(), rng.random());
        let weighted = rng.random();
        let even = in_channels.is_multiple_of(2) && out.is_multiple_of(2) && bases.is_none();
        let blocks = if even && root && weighted { 2 } else { 1 };
        // At least as many as random graphs have types of edges.
        RgcnConvBuilder {
            in_channels,
            out_channels: out,
            relations: 4,
            bases,
            blocks,
            root,
            bias,
            sum,
            weighted,
        }
        .build()
        .ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        if self.blocks.0 > 1 {
            return Err("of blocks".into());
        }
        let bases = self
            .comp
            .as_ref()
            .map(|comp| format!(", num_bases={}", comp.value().ncols()))
            .unwrap_or_default();
        let made = format!(
            "pyg.RGCNConv({}, {}, {}{bases}, root_weight={}, aggr={:?}, bias={})",
            at.in_channels,
            at.out_channels,
            self.relations,
            py(self.root.is_some()),
            if self.is_sum() { "sum" } else { "mean" },
            py(self.bias.is_some())
        );
        Ok(at
            .module(made, &["edge_index", "edge_type"])
            .without_edge_weights(self.norm.is_weighted()))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let n = graph.num_nodes();
        let mut y = self.root.as_ref().map_or_else(
            || Array2::zeros((n, self.out_channels())),
            |root| xs[0].dot(root.value()),
        );
        for (r, relation) in graph.relations().iter().enumerate() {
            let a = ValueRef::Sparse(relation.view()).to_dense();
            // Random graphs list no edge of a relation twice.
            let a = if self.norm.is_weighted() {
                a
            } else {
                a.mapv(|w| if w == F::zero() { w } else { F::one() })
            };
            let inverse = a
                .sum_axis(ndarray::Axis(1))
                .mapv(|d| if d == F::zero() { F::zero() } else { F::one() / d });
            let mean = Array2::from_shape_fn((n, n), |(i, j)| {
                if self.is_sum() { a[[i, j]] } else { a[[i, j]] * inverse[i] }
            });
            let mut w = Array2::zeros((self.in_channels(), self.out_channels()));
            let stacked = self.weight_of(r);
            let (each_in, each_out) = (w.nrows() / self.blocks.0, stacked.ncols());
            for ((i, c), w_ic) in w.indexed_iter_mut() {
                if i / each_in == c / each_out {
                    *w_ic = stacked[[i, c % each_out]];
                }
            }
            y += &mean.dot(&xs[0].dot(&w));
        }
        self.bias.as_ref().map_or(y.clone(), |bias| y + bias.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, ModelBuilder, NodeId, Registry};
    use crate::testing::{
        check_determinism, check_gradients, check_mask_equals_shrink, check_oracle,
        check_permutation, check_program, check_save_load, random_dense, random_graph, random_plan,
        random_sparse,
    };

    /// Registered samples have blocks where widths happen to be even; here all have.
    #[test]
    fn layers_of_blocks_keep_the_laws() {
        let registry = Registry::<f64>::standard();
        for seed in 0..6 {
            let graph = random_graph::<f64>(seed, 9);
            for blocks in [2, 3] {
                let conv = || {
                    let conv = RgcnConv::builder(6, 6, 4).blocks(blocks).root(seed % 2 == 0);
                    conv.sum(seed % 3 == 0).build::<f64>().unwrap()
                };
                let mut b = ModelBuilder::<f64>::new(6);
                let first = b.add("first", conv(), &[NodeId::INPUT]).unwrap();
                let second = b.add("second", conv(), &[first]).unwrap();
                let out = Linear::builder(6, 2).build::<f64>().unwrap();
                let out = b.add("out", out, &[second]).unwrap();
                let model = b.build(out, seed).unwrap();
                let shape = (graph.num_nodes(), 6);
                for x in [random_dense(seed, shape), random_sparse(seed, shape)] {
                    check_gradients(&model, &graph, x.view(), seed).unwrap();
                    check_program(&model, &graph, x.view()).unwrap();
                    check_permutation(&model, &graph, x.view()).unwrap();
                    check_determinism(&model, &graph, x.view()).unwrap();
                    let plan = random_plan(seed, &model).unwrap();
                    check_mask_equals_shrink(&model, &plan, &graph, x.view()).unwrap();
                    let entry = registry.entry("rgcn_conv").unwrap();
                    let layer = model.nodes()[0].layer();
                    check_oracle(entry, layer, &graph, &[x.view().to_dense()]).unwrap();
                }
                check_save_load(&model, &registry).unwrap();
            }
        }
    }
}
