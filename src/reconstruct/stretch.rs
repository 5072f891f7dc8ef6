//! Several layers in a row at the place of one: a network keeps the nodes of the one that it was
//! while it is solved again.

use crate::error::{Result, Unsupported};
use crate::nn::{
    Activation, Add, Cx, DynLayer, Grads, Io, Layer, Linear, Lowering, NodeWise, Normalize,
    PruneUnits, RowSpace, See, StageId, Wiring,
};
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};

/// Layers one after another, all but the first of one input; without any, the input itself. They
/// run and are solved, and the network is taken apart before anybody trains or compiles it: their
/// parameters are not shown.
#[derive(Clone)]
pub(crate) struct Stretch<F: Scalar> {
    layers: Vec<Box<dyn DynLayer<F>>>,
    channels: usize,
}

impl<F: Scalar> Stretch<F> {
    /// The layers of a form of [`Layer::without_hop`] that puts out so many channels.
    pub(crate) fn of(steps: &[NodeWise<F>], channels: usize) -> Result<Self> {
        let layer = |step: &NodeWise<F>| -> Result<Box<dyn DynLayer<F>>> {
            Ok(match step {
                NodeWise::Linear { weight, bias } => Box::new(Linear::of(weight, bias.as_ref())),
                NodeWise::Activation(function) => Box::new(Activation::new(*function)),
                NodeWise::Scale(by) => Box::new(Add::with_coefficients(vec![*by])?),
                NodeWise::Normalize => Box::new(Normalize),
            })
        };
        Ok(Self { layers: steps.iter().map(layer).collect::<Result<_>>()?, channels })
    }

    /// The layers.
    pub(crate) fn layers(&self) -> &[Box<dyn DynLayer<F>>] {
        &self.layers
    }

    /// How many linear maps there are.
    pub(super) fn num_maps(&self) -> usize {
        self.layers.iter().filter(|layer| layer.as_any().is::<Linear<F>>()).count()
    }

    /// Whether its one linear map is the last that it does: then what it puts out is solved for.
    pub(super) fn is_a_map(&self) -> bool {
        self.num_maps() == 1 && self.layers.len() == 1
    }
}

impl<F: Scalar> Layer<F> for Stretch<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        "stretch"
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.channels, units: PruneUnits::Single }
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let mut y: Option<Value<F>> = None;
        for layer in &self.layers {
            y = Some(match &y {
                Some(x) => layer.infer(cx, &[x.view()])?,
                None => layer.infer(cx, xs)?,
            });
        }
        Ok((y.unwrap_or_else(|| Value::Dense(cx.copy_of(&xs[0]))), ()))
    }

    fn backward(
        &self,
        _: &Cx<F>,
        _: &Io<F>,
        (): (),
        _: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        unreachable!("a network is taken apart before it is trained")
    }

    fn lower(&self, _: &mut Lowering<F>, _: &[StageId]) -> Result<StageId, Unsupported> {
        unreachable!("a network is taken apart before it is compiled")
    }

    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        let mut y: Option<Value<F>> = None;
        for layer in &mut self.layers {
            y = Some(match &y {
                Some(x) => {
                    layer.linear_maps(cx, &[x.view()], see)?;
                    layer.infer(cx, &[x.view()])?
                }
                None => {
                    layer.linear_maps(cx, xs, see)?;
                    layer.infer(cx, xs)?
                }
            });
        }
        Ok(())
    }
}
