//! What a layer is in PyTorch: its classes, its tensors and settings there, and the Python that
//! makes it.

/// How PyTorch lays out what is a matrix here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// A linear map: `[out, in]`.
    Transposed,
    /// As here.
    Same,
    /// One axis.
    Vector,
    /// `[1, heads, channels of a head]`.
    Heads,
    /// `[relations, in, out]`; here the relations stand one below the other.
    Stacked,
}

/// What a layer is in PyTorch or PyTorch Geometric.
///
/// ```
/// use gnn_prune::nn::{Layout, Twin};
/// const LINEAR: Twin = Twin::new(&["Linear"], &[("weight", "weight", Layout::Transposed), ("bias", "bias", Layout::Vector)]);
/// assert_eq!(LINEAR.tensors.len(), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Twin {
    /// The names of its class, without modules, as a pickle has them; none for what is no module
    /// there.
    pub classes: &'static [&'static str],
    /// Its parameters: the name here, the name there, and the layout.
    pub tensors: &'static [(&'static str, &'static str, Layout)],
    /// The settings that a network file may give.
    pub settings: &'static [&'static str],
}

impl Twin {
    /// What is no module there, but an expression.
    pub const EXPRESSION: Self = Self::new(&[], &[]);

    /// A module of these classes with these tensors.
    pub const fn new(
        classes: &'static [&'static str],
        tensors: &'static [(&'static str, &'static str, Layout)],
    ) -> Self {
        Self { classes, tensors, settings: &[] }
    }

    /// With these settings.
    #[must_use]
    pub const fn settings(self, settings: &'static [&'static str]) -> Self {
        Self { settings, ..self }
    }
}

/// Where in a network a layer stands that is written as Python.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Place<'a> {
    /// Its name, that of an attribute of `self`.
    pub name: &'a str,
    /// The expressions of its inputs.
    pub inputs: &'a [String],
    /// Channels of its first input.
    pub in_channels: usize,
    /// Channels that it puts out.
    pub out_channels: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn new(
        name: &'a str,
        inputs: &'a [String],
        in_channels: usize,
        out_channels: usize,
    ) -> Self {
        Self { name, inputs, in_channels, out_channels }
    }

    /// The module that `made` makes, called with the inputs and what else it takes, as
    /// `edge_index`.
    pub fn module(&self, made: String, more: &[&str]) -> Python {
        let arguments: Vec<&str> =
            self.inputs.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let value = format!("self.{}({})", self.name, arguments.join(", "));
        Python { module: Some(made), value, ignores_edge_weights: false }
    }
}

/// A layer as Python.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Python {
    /// The expression that makes its module, if it is one.
    pub module: Option<String>,
    /// The expression of its value.
    pub value: String,
    /// Whether the layer reads the weights of edges here and not there, so that it must not be
    /// given any.
    pub ignores_edge_weights: bool,
}

impl Python {
    /// What is no module.
    pub fn expression(value: impl Into<String>) -> Self {
        Self { module: None, value: value.into(), ignores_edge_weights: false }
    }

    /// Whose module does not read the weights of edges, where the layer does if `here`.
    #[must_use]
    pub fn without_edge_weights(self, here: bool) -> Self {
        Self { ignores_edge_weights: here, ..self }
    }
}

/// A truth as Python writes it.
pub(super) fn py(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
