//! Scores of pairs of nodes.

use super::form::Form;
use super::parts::gram;
use super::score::{add_rows, back, scores};
use crate::error::{Error, PruneError, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, Lowering, Param, Place, PruneUnits,
    Python, Queries, Reads, Registered, RowSpace, Rows, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2, Axis as Along};
use ndarray_rand::rand::Rng;

/// The score of each pair that a batch asks about, by a [`Form`]; relations have rows of their own,
/// or those that it [reads](DecoderBuilder::shared) beside the nodes'.
///
/// *Shapes*: `X: [n, d]`, relations `[relations, d]`, `Y: [pairs, 1]`, query by query.
///
/// *Source*: those of its [`Form`].
///
/// ```
/// use gnn_prune::ndarray::array;
/// use gnn_prune::nn::decode::{Decoder, Form};
/// use gnn_prune::nn::{Cx, ModelBuilder, NodeId, Queries, Query, Rows};
/// use gnn_prune::{Graph, ValueRef};
/// let mut builder = ModelBuilder::new(2);
/// let dot = Decoder::builder(Form::Dot, 2).build()?;
/// let scores = builder.add("scores", dot, &[NodeId::INPUT])?;
/// let model = builder.build(scores, 0)?;
/// // How well does each of three nodes answer a query about node 2?
/// let asked = Query { node: 2, relation: 0, inverse: false };
/// let rows = Rows::new().queries(Queries::among(vec![asked], 0..3)?);
/// let (x, graph) = (array![[1.0f32, 0.0], [0.0, 1.0], [2.0, 3.0]], Graph::builder(3).build()?);
/// let y = model.infer(&Cx::eval(&graph).within(&rows), ValueRef::Dense(x.view()))?;
/// assert_eq!(y, array![[2.0], [3.0], [13.0]]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder<F: Scalar = f32> {
    form: Form,
    channels: usize,
    relations: Option<Param<F>>,
    /// Whether the rows of relations are its second input.
    shared: bool,
}

/// Builder of a [`Decoder`]; see [`Decoder::builder`].
#[derive(Debug, Clone)]
pub struct DecoderBuilder {
    form: Form,
    channels: usize,
    relations: usize,
    init: Init,
    shared: bool,
}

impl Decoder<f32> {
    /// Starts a decoder of rows of `channels` numbers.
    pub fn builder(form: Form, channels: usize) -> DecoderBuilder {
        DecoderBuilder { form, channels, relations: 1, init: Init::GlorotUniform, shared: false }
    }
}

impl DecoderBuilder {
    /// How many relations there are, where the form has any. Default 1.
    #[must_use]
    pub fn relations(mut self, relations: usize) -> Self {
        self.relations = relations;
        self
    }

    /// How the rows of relations are drawn. Default: [`Init::GlorotUniform`].
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Whether the rows of relations are a second input, such as those of a
    /// [`RelationTable`](crate::nn::RelationTable) that layers read too, in the place of a table of
    /// the decoder's own. Default: no.
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Builds the layer; its parameters are drawn with the model.
    ///
    /// # Errors
    /// [`Error::Setting`] for no channels, an odd number where numbers are complex, no relations,
    /// shared relations where the form has none, and as [`Init::check`].
    pub fn build<F: Scalar>(self) -> Result<Decoder<F>> {
        let Self { form, channels, relations, init, shared } = self;
        let parts = form.parts();
        if channels == 0 || channels % parts != 0 {
            let legal = format!("a positive multiple of {parts}");
            return Err(Error::setting(format!("channels of {form:?}"), channels, legal));
        }
        init.check()?;
        if relations == 0 {
            return Err(Error::setting("relations", 0, "at least 1"));
        }
        if shared && !form.has_relations() {
            let form = format!("{form:?}");
            return Err(Error::setting("form with shared relations", form, "one with relations"));
        }
        let table =
            || Param::new("relations", (relations, channels), [Axis::Fixed, Axis::In(0)], init);
        let own = form.has_relations() && !shared;
        Ok(Decoder { form, channels, relations: own.then(table), shared })
    }
}

impl<F: Scalar> Decoder<F> {
    /// How it scores.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The rows of the relations, where it has any of its own.
    pub fn relations(&self) -> Option<&Param<F>> {
        self.relations.as_ref()
    }

    /// Whether the rows of relations are its second input.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Hands `f` the rows of relations, in standard layout: those that are `given` where they are
    /// shared; nothing where the form has none.
    fn with_relations<R>(
        &self,
        given: Option<ValueRef<F>>,
        f: impl FnOnce(Option<ArrayView2<F>>) -> R,
    ) -> R {
        match given {
            Some(given) => given.with_dense(|z| f(Some(z.as_standard_layout().view()))),
            None => f(self.relations.as_ref().map(|table| table.value().view())),
        }
    }

    fn asked<'a>(
        &self,
        cx: &Cx<'a, F>,
        rows: usize,
        given: Option<(usize, usize)>,
    ) -> Result<&'a Queries> {
        let asked = cx.queries()?;
        let relations = given.map(|(relations, _)| relations);
        let own = || self.relations.as_ref().map(|table| table.value().nrows());
        asked.check(cx.place(), rows, relations.or_else(own).unwrap_or(usize::MAX))?;
        match given {
            Some(found) if found.1 != self.channels => {
                let at = format!("{}: relations", cx.place());
                Err(Error::ShapeMismatch { at, expected: (found.0, self.channels), found })
            }
            _ => Ok(asked),
        }
    }

    /// The rows of the queries, `[queries, d]`.
    fn queries(
        &self,
        x: ArrayView2<F>,
        relations: Option<ArrayView2<F>>,
        asked: &Queries,
    ) -> Array2<F> {
        let mut q = Array2::zeros((asked.queries().len(), x.ncols()));
        kernels::map_rows(q.view_mut(), |i, q| {
            let query = &asked.queries()[i];
            let h = x.row(query.node as usize);
            let h = h.as_slice().expect("values are in standard layout");
            self.form.compose(h, row_of(relations, query.relation), query.inverse, q);
        });
        q
    }

    /// Refuses channels that are half a number.
    fn check_kept(&self, kept: &Kept) -> Result<(), PruneError> {
        let parts = self.form.parts();
        let channels = kept.inputs.first().map_or(&[][..], Vec::as_slice);
        let whole = |number: &[usize]| {
            number.len() == parts
                && number[0].is_multiple_of(parts)
                && number.iter().enumerate().all(|(k, &c)| c == number[0] + k)
        };
        if channels.chunks(parts).all(whole) {
            return Ok(());
        }
        Err(PruneError::Refused {
            layer: <Self as Registered<F>>::KIND.into(),
            reason: format!("{:?} needs both channels of each complex number", self.form),
        })
    }
}

/// A row of a table in standard layout; nothing where there is no table.
fn row_of<F: Scalar>(table: Option<ArrayView2<'_, F>>, row: u32) -> &[F] {
    table.map_or(&[], |table| {
        let row = table.index_axis_move(Along(0), row as usize);
        row.to_slice().expect("rows of a standard layout")
    })
}

impl<F: Scalar> Layer<F> for Decoder<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn arity(&self) -> (usize, usize) {
        let inputs = if self.shared { 2 } else { 1 };
        (inputs, inputs)
    }

    fn ties_inputs(&self) -> bool {
        true
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: 1, units: PruneUnits::Single }
    }

    fn couples(&self, _: usize) -> PruneUnits {
        match self.form.parts() {
            1 => PruneUnits::Single,
            dim => PruneUnits::WholeHeads { dim },
        }
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        let fit = match inputs {
            [RowSpace::Nodes | RowSpace::Hop(_)] => !self.shared,
            [RowSpace::Nodes | RowSpace::Hop(_), RowSpace::Relations(_)] => self.shared,
            _ => false,
        };
        fit.then_some(RowSpace::Pairs)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], self.channels)?;
        let given = xs.get(1).map(ValueRef::reborrow);
        let asked = self.asked(cx, xs[0].rows(), given.as_ref().map(ValueRef::shape))?;
        let mut y = cx.take((asked.num_pairs(), 1));
        xs[0].with_dense(|x| {
            let x = x.as_standard_layout();
            let q = self.with_relations(given, |z| self.queries(x.view(), z, asked));
            scores(self.form.compares_by(), q.view(), x.view(), asked, y.view_mut());
        });
        Ok((Value::Dense(y), ()))
    }

    /// By `t` as that of its own place; by `h` and `r` through `q`, which is made again.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let given = self.shared.then(|| io.input(1));
        let shape = given.as_ref().map(ValueRef::shape);
        let asked = self.asked(cx, io.input(0).rows(), shape).expect("forward had them");
        let mut dx = cx.take(io.input(0).shape());
        dx.fill(F::zero());
        let drelations = self.with_relations(given, |relations| {
            let x = io.input(0).to_dense();
            let q = self.queries(x.view(), relations, asked);
            let dq = dy.with_dense(|dy| {
                back(self.form.compares_by(), q.view(), x.view(), asked, dy, dx.view_mut())
            });
            // One row holds what goes to the node and what goes to the relation.
            let width = x.ncols();
            let mut both = Array2::zeros((dq.nrows(), 2 * width));
            kernels::map_rows(both.view_mut(), |i, both| {
                let query = &asked.queries()[i];
                let (h, dq) = (x.row(query.node as usize), dq.row(i));
                let (h, dq) = (h.as_slice().expect("standard layout"), dq.as_slice());
                let dq = dq.expect("a new array is contiguous");
                let (dh, dr) = both.split_at_mut(width);
                let r = row_of(relations, query.relation);
                self.form.back(h, r, query.inverse, dq, dh, dr);
            });
            let (dh, dr) = both.view().split_at(Along(1), width);
            add_rows(asked.queries().iter().map(|query| query.node), dh, dx.view_mut());
            relations.map(|relations| {
                let mut sums = Array2::zeros(relations.dim());
                let named = asked.queries().iter().map(|query| query.relation);
                add_rows(named, dr, sums.view_mut());
                sums
            })
        });
        let mut dxs = vec![Some(Value::Dense(dx))];
        match (&self.relations, drelations) {
            (Some(table), Some(sums)) => grads.add(table, sums),
            (None, Some(sums)) => dxs.push(Some(Value::Dense(sums))),
            (_, None) => {}
        }
        dxs
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn parts_gram(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Option<Array2<f64>>> {
        cx.check(&xs[0], self.channels)?;
        let given = xs.get(1).map(ValueRef::reborrow);
        let asked = self.asked(cx, xs[0].rows(), given.as_ref().map(ValueRef::shape))?;
        Ok(Some(xs[0].with_dense(|x| {
            let x = x.as_standard_layout();
            let q = self.with_relations(given, |z| self.queries(x.view(), z, asked));
            gram(self.form.compares_by(), q.view(), x.view(), asked)
        })))
    }

    fn owning(&self, rows: ArrayView2<F>) -> Option<Self> {
        let builder = Decoder::builder(self.form, self.channels).relations(rows.nrows());
        let mut decoder = self.shared.then(|| builder.build().ok())??;
        let table = decoder.relations.as_mut()?;
        (table.value().dim() == rows.dim()).then(|| table.value_mut().assign(&rows))?;
        Some(decoder)
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.channels as u64;
        let asked = lowering.within().asked();
        // A query's own row, and a comparison for each candidate.
        let macs =
            asked.map_or(0, |asked| (asked.queries().len() + asked.num_pairs()) as u64 * width);
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), 1))
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with("form", self.form).with("channels", self.channels);
        if self.shared { attrs.with("shared", true) } else { attrs }
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        self.relations.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        self.relations.iter_mut().for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.check_kept(kept)?;
        self.channels = kept.inputs.first().map_or(self.channels, Vec::len);
        Ok(())
    }

    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.check_kept(kept)
    }
}

impl<F: Scalar> Registered<F> for Decoder<F> {
    const KIND: &'static str = "decoder";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Err("which PyTorch Geometric has as a part of whole models");

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let form: Form = attrs.get("form")?;
        let channels = attrs.get("channels")?;
        let shared = attrs.get_or("shared", false)?;
        let own = form.has_relations() && !shared;
        let relations = if own { shapes.get("relations")?.0 } else { 1 };
        Decoder::builder(form, channels).relations(relations).shared(shared).build()
    }

    /// None: it runs on a batch that asks about pairs.
    fn sample(_: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        None
    }

    fn sample_on(_: usize, widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let forms = [Form::Dot, Form::DistMult, Form::ComplEx, Form::RotatE];
        let form = forms[rng.random_range(0..forms.len())];
        let builder = |channels| Decoder::builder(form, channels).relations(3);
        match *widths {
            [channels] => builder(channels).build().ok(),
            [channels, of_relations] if channels == of_relations => {
                builder(channels).shared(true).build().ok()
            }
            _ => None,
        }
    }

    fn to_python(&self, _: &Place) -> std::result::Result<Python, String> {
        Err("which PyTorch Geometric has as a part of whole models".into())
    }

    fn oracle(&self, _: &Graph<F>, _: &[Array2<F>]) -> Array2<F> {
        Array2::zeros((0, 1))
    }

    fn oracle_on(&self, _: &Graph<F>, rows: &Rows<F>, xs: &[Array2<F>]) -> Array2<F> {
        let asked = rows.asked().expect("the laws ask about pairs");
        let x = &xs[0];
        let complex = |row: Vec<F>| -> Vec<(F, F)> {
            row.chunks(self.form.parts()).map(|z| (z[0], *z.get(1).unwrap_or(&F::zero()))).collect()
        };
        let times = |a: (F, F), b: (F, F)| (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0);
        let score = |k: usize| {
            let query = asked.queries()[k / asked.count()];
            let [h, t] = asked.pair(k).map(|node| complex(x.row(node as usize).to_vec()));
            let r = xs.get(1).or(self.relations.as_ref().map(Param::value));
            let r = r.map(|table| complex(table.row(query.relation as usize).to_vec()));
            let mut sum = F::zero();
            for k in 0..h.len() {
                let mut r = r.as_ref().map_or((F::one(), F::zero()), |r| r[k]);
                if self.form == Form::RotatE {
                    let length = (r.0 * r.0 + r.1 * r.1).sqrt();
                    let moves = length > F::zero();
                    r = if moves { (r.0 / length, r.1 / length) } else { (F::one(), F::zero()) };
                }
                // Asked for its start, an edge is known by its end.
                let (start, end) = if query.inverse { (t[k], h[k]) } else { (h[k], t[k]) };
                let moved = times(start, r);
                sum += match self.form {
                    Form::RotatE => {
                        let (re, im) = (moved.0 - end.0, moved.1 - end.1);
                        -(re * re + im * im).sqrt()
                    }
                    _ => times(moved, (end.0, -end.1)).0,
                };
            }
            sum
        };
        Array2::from_shape_fn((asked.num_pairs(), 1), |(k, _)| score(k))
    }
}
