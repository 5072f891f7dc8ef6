//! What the inner parts of a network are where its tensors do not tell: activations, and the form
//! of GIN's inner networks.

use super::assumptions::Assumptions;
use crate::error::{Error, Result};
use crate::nn::{Activation, ActivationFn, Add, Attrs, ModelBuilder, NodeId};

/// Why a batch norm is refused.
pub(super) const RUNNING: &str = "is a batch norm without running statistics (`track_running_stats=False`), which normalises by whatever it is \
                                  given; train it with them";

/// An activation: a function, and the slope of a leaky ReLU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activated {
    pub function: ActivationFn,
    pub slope: f64,
}

impl Activated {
    /// `slope` counts for a leaky ReLU alone.
    pub(super) fn new(function: ActivationFn, slope: f64) -> Self {
        Self {
            function,
            slope: if function == ActivationFn::LeakyRelu {
                slope
            } else {
                ActivationFn::LEAKY_SLOPE
            },
        }
    }

    pub(super) fn from_settings(settings: &Attrs) -> Result<Self> {
        let found = Self {
            function: settings.get("function")?,
            slope: settings.get_or("slope", ActivationFn::LEAKY_SLOPE)?,
        };
        if let Some((name, _)) =
            settings.iter().find(|(name, _)| !["function", "slope"].contains(name))
        {
            return Err(Error::Network(format!("an activation has no setting `{name}`")));
        }
        if !(found.slope.is_finite() && found.slope >= 0.0)
            || found.slope != ActivationFn::LEAKY_SLOPE && found.function != ActivationFn::LeakyRelu
        {
            return Err(Error::Network(format!(
                "slope {} of {}: a leaky_relu alone has one, at least 0",
                found.slope,
                found.function.word()
            )));
        }
        Ok(found)
    }

    pub(super) fn settings(self) -> Attrs {
        let settings = Attrs::new().with("function", self.function);
        if self.slope == ActivationFn::LEAKY_SLOPE {
            settings
        } else {
            settings.with("slope", self.slope)
        }
    }
}

/// An activation; a leaky ReLU of another slope than the crate's is `s·x + (1−s)·relu(x)`.
pub(super) fn add_activation(
    b: &mut ModelBuilder<f32>,
    name: &str,
    activated: Activated,
    inputs: &[NodeId],
) -> Result<NodeId> {
    let Activated { function, slope } = activated;
    if slope == ActivationFn::LEAKY_SLOPE {
        return b.add(name, Activation::new(function), inputs);
    }
    let positive = b.add(&format!("{name}_relu"), Activation::new(ActivationFn::Relu), inputs)?;
    b.add(name, Add::with_coefficients(vec![slope, 1.0 - slope])?, &[inputs[0], positive])
}

/// The form of an inner network of GIN, which its tensors do not tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InnerForm {
    activation: Option<Activated>,
    activation_first: bool,
    activation_last: bool,
    /// Whether layer norms of an `MLP` are over the whole graph; those of a list are over each
    /// node.
    graph_norm: bool,
}

impl Default for InnerForm {
    fn default() -> Self {
        let activation =
            Activated { function: ActivationFn::Relu, slope: ActivationFn::LEAKY_SLOPE };
        Self {
            activation: Some(activation),
            activation_first: false,
            activation_last: false,
            graph_norm: true,
        }
    }
}

impl InnerForm {
    pub(super) const SETTINGS: [&'static str; 5] = [
        "inner_activation",
        "inner_slope",
        "inner_act_first",
        "inner_act_last",
        "inner_graph_norm",
    ];

    pub(super) fn of(assumed: &Assumptions) -> Self {
        let activation =
            assumed.activation.map(|function| Activated::new(function, assumed.leaky_slope));
        let Assumptions { activation_first, activation_last, graph_norm, .. } = *assumed;
        Self { activation, activation_first, activation_last, graph_norm }
    }

    pub(super) fn graph_norm(self) -> bool {
        self.graph_norm
    }

    pub(super) fn activation(self) -> Option<Activated> {
        self.activation
    }

    pub(super) fn activation_first(self) -> bool {
        self.activation_first
    }

    pub(super) fn activation_last(self) -> bool {
        self.activation_last
    }

    pub(super) fn from_settings(settings: &Attrs) -> Result<Self> {
        let slope = settings.get_or("inner_slope", ActivationFn::LEAKY_SLOPE)?;
        let activation = match settings.get_or("inner_activation", "relu".to_string())?.as_str() {
            "none" => None,
            word => {
                let function = ActivationFn::ALL.into_iter().find(|known| known.word() == word);
                let function = function.ok_or_else(|| {
                    Error::Network(format!("inner_activation `{word}` is not known"))
                })?;
                Some(Activated::from_settings(&Activated { function, slope }.settings())?)
            }
        };
        let flag = |name, default| settings.get_or(name, default);
        let (activation_first, activation_last) =
            (flag("inner_act_first", false)?, flag("inner_act_last", false)?);
        Ok(Self {
            activation,
            activation_first,
            activation_last,
            graph_norm: flag("inner_graph_norm", true)?,
        })
    }

    /// `settings` with those of the inner network.
    pub(super) fn written(self, mut settings: Attrs) -> Attrs {
        settings = settings.with(
            "inner_activation",
            self.activation.map_or("none", |activated| activated.function.word()),
        );
        if let Some(Activated { slope, .. }) =
            self.activation.filter(|activated| activated.slope != ActivationFn::LEAKY_SLOPE)
        {
            settings = settings.with("inner_slope", slope);
        }
        if self.activation_first {
            settings = settings.with("inner_act_first", true);
        }
        if !self.graph_norm {
            settings = settings.with("inner_graph_norm", false);
        }
        settings.with("inner_act_last", self.activation_last)
    }
}
