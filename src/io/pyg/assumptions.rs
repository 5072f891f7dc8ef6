//! What a state dict does not tell, and the words in which it is told.

use crate::error::{Error, Result};
use crate::nn::{ActivationFn, Aggregation};
use std::collections::BTreeSet;
use std::str::FromStr;

/// What a state dict does not tell; the defaults are those of PyTorch Geometric.
///
/// From text as `activation=elu,aggregation=max`: each name with its value, separated by commas. A
/// name that changes nothing in the network at hand is refused when it is read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Assumptions {
    /// `activation`: function after hidden layers, `none`, `relu`, `leaky_relu`, `elu`, `tanh` or
    /// `sigmoid`; `leaky_relu:0.3` has another [`leaky_slope`](Self::leaky_slope). Default ReLU.
    pub activation: Option<ActivationFn>,
    /// Slope of `leaky_relu` below zero. Default 0.01.
    pub leaky_slope: f64,
    /// `act_first`: whether the activation comes before the norm. Default `false`.
    pub activation_first: bool,
    /// `act_last`: whether an activation follows the last linear map of an inner network too.
    /// Default `false`.
    pub activation_last: bool,
    /// `norm`: after hidden layers of a network without tensors of norms, `none` or `layer`, a
    /// layer norm without weights. Default `none`.
    pub bare_layer_norm: bool,
    /// `dropout`: dropout in training, of attention weights too. Default 0.
    pub dropout: f64,
    /// `aggregation` of GraphSAGE (`mean`, `sum` or `max`) and of R-GCN within a relation (`mean`
    /// or `sum`). Default `mean`.
    pub aggregation: Aggregation,
    /// `normalize`: whether GraphSAGE divides rows by their lengths, or GCN normalises the
    /// adjacency matrix. Default: GCN alone does.
    pub normalize: Option<bool>,
    /// `jumping`: where the last linear layer reads one hidden width, of all layers their `max` or
    /// the `last` alone. Default `max`.
    pub jumping_last: bool,
    /// `layer_norm`: over the whole `graph` or each `node`. Default `graph`.
    pub graph_norm: bool,
    /// `heads` of a last attention layer without bias: `average` or `concat`. Default `average`.
    pub average_heads: bool,
    /// `negative_slope` of attention scores. Default 0.2.
    pub negative_slope: f64,
    /// `self_loops`: whether attention and GCN add self-loops. Default `true`.
    pub self_loops: bool,
    /// `improved` of GCN. Default `false`.
    pub improved: bool,
    /// `seed` of the splits and of what is drawn later. Default 0.
    pub seed: u64,
    /// The names that were given as text.
    given: BTreeSet<String>,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            activation: Some(ActivationFn::Relu),
            leaky_slope: ActivationFn::LEAKY_SLOPE,
            activation_first: false,
            activation_last: false,
            bare_layer_norm: false,
            dropout: 0.0,
            aggregation: Aggregation::Mean,
            normalize: None,
            jumping_last: false,
            graph_norm: true,
            average_heads: true,
            negative_slope: 0.2,
            self_loops: true,
            improved: false,
            seed: 0,
            given: BTreeSet::new(),
        }
    }
}

impl FromStr for Assumptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut found = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            found.set(name, value)?;
            if !found.given.insert(name.into()) {
                return Err(Error::setting(format!("assumption `{name}`"), value, "once only"));
            }
        }
        Ok(found)
    }
}

/// What of a network depends on assumptions.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    /// Kinds of its convolutions.
    pub kinds: BTreeSet<&'static str>,
    /// Whether anything comes after which an activation may stand.
    pub hidden: bool,
    /// Whether there are norms ...
    pub norms: bool,
    /// ... and whether any is a layer norm.
    pub layer_norms: bool,
    /// Whether an inner network is a list, whose activations leave no tensors.
    pub inner: bool,
    /// Whether jumping knowledge is the maximum or the last layer.
    pub jumping: bool,
    /// Whether heads of the last layer are averaged or joined.
    pub heads: bool,
    /// Whether self-loops take features from edges.
    pub edge_features: bool,
    /// Whether the file itself says everything.
    pub told: bool,
}

impl Assumptions {
    /// Every assumption that `open` depends on, with its value as [`Assumptions::from_str`] reads
    /// it.
    fn relevant(&self, open: &Open) -> Vec<(&'static str, String)> {
        let any = |known: &[&str]| known.iter().any(|kind| open.kinds.contains(kind));
        let (gcn, sage, gat) =
            (any(&["gcn_conv"]), any(&["sage_conv"]), any(&["gat_conv", "gatv2_conv"]));
        let rgcn = any(&["rgcn_conv"]);
        let either = |first: bool, words: [&str; 2]| words[usize::from(!first)].to_string();
        let activated = open.hidden || open.inner;
        [
            (activated, "activation", self.activation_word()),
            (open.norms && open.hidden, "act_first", self.activation_first.to_string()),
            (open.inner, "act_last", self.activation_last.to_string()),
            (open.hidden && !open.norms, "norm", either(self.bare_layer_norm, ["layer", "none"])),
            (!open.told, "dropout", self.dropout.to_string()),
            (sage || rgcn, "aggregation", format!("{:?}", self.aggregation).to_lowercase()),
            (sage != gcn, "normalize", self.normalize.unwrap_or(gcn).to_string()),
            (open.jumping, "jumping", either(self.jumping_last, ["last", "max"])),
            (
                open.layer_norms || open.hidden && self.bare_layer_norm,
                "layer_norm",
                either(self.graph_norm, ["graph", "node"]),
            ),
            (open.heads, "heads", either(self.average_heads, ["average", "concat"])),
            (gat, "negative_slope", self.negative_slope.to_string()),
            (
                gcn || gat,
                "self_loops",
                (self.self_loops && (gat || self.normalized(true))).to_string(),
            ),
            (gat && open.edge_features, "fill_value", "mean".into()),
            (
                gcn && self.normalized(true) && self.self_loops,
                "improved",
                self.improved.to_string(),
            ),
        ]
        .into_iter()
        .filter_map(|(relevant, name, value)| relevant.then_some((name, value)))
        .collect()
    }

    /// What was assumed of a network, in one line that [`Assumptions::from_str`] reads.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that was given and changes nothing there.
    pub(super) fn named(&self, open: &Open) -> Result<String> {
        let relevant = self.relevant(open);
        if let Some((name, value)) = relevant
            .iter()
            .find(|(name, value)| *name == "self_loops" && *value != self.self_loops.to_string())
            && self.given.contains(*name)
        {
            return Err(Error::setting(
                "assumption `self_loops`",
                self.self_loops,
                format!("{value} where GCN does not normalise"),
            ));
        }
        let names = || relevant.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if let Some(idle) = self
            .given
            .iter()
            .find(|given| *given != "seed" && relevant.iter().all(|(name, _)| name != given))
        {
            let problem = format!(
                "a name that changes this network: {}; or a network file, which says it layer by layer",
                names()
            );
            return Err(Error::setting("assumption", idle, problem));
        }
        Ok(relevant
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(","))
    }

    /// Whether layers normalise, of which those of PyTorch Geometric do so by `default`.
    pub(super) fn normalized(&self, default: bool) -> bool {
        self.normalize.unwrap_or(default)
    }

    fn activation_word(&self) -> String {
        match self.activation {
            None => "none".into(),
            Some(ActivationFn::LeakyRelu) if self.leaky_slope != ActivationFn::LEAKY_SLOPE => {
                format!("leaky_relu:{}", self.leaky_slope)
            }
            Some(function) => function.word().into(),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let refuse = |allowed: &str| {
            Error::setting(format!("assumption `{name}`"), value, allowed.to_string())
        };
        let number = |value: &str, allowed: &str, fits: fn(&f64) -> bool| {
            value.parse().ok().filter(fits).ok_or_else(|| refuse(allowed))
        };
        let flag = || value.parse().map_err(|_| refuse("true or false"));
        let either = |yes: &str, no: &str| match value {
            _ if value == yes => Ok(true),
            _ if value == no => Ok(false),
            _ => Err(refuse(&format!("{yes} or {no}"))),
        };
        let slope = |value: &str| {
            number(value, "finite and at least 0", |s| (0.0..f64::INFINITY).contains(s))
        };
        match name {
            "activation" => {
                let functions =
                    format!("none, {}", ActivationFn::ALL.map(ActivationFn::word).join(", "));
                let word = value.split_once(':').map_or(value, |(word, _)| word);
                self.activation = match word {
                    "none" => None,
                    word => Some(
                        ActivationFn::ALL
                            .into_iter()
                            .find(|known| known.word() == word)
                            .ok_or_else(|| refuse(&functions))?,
                    ),
                };
                if let Some((_, number)) = value.split_once(':') {
                    if self.activation != Some(ActivationFn::LeakyRelu) {
                        return Err(refuse("a slope for leaky_relu alone"));
                    }
                    self.leaky_slope = slope(number)?;
                }
            }
            "act_first" => self.activation_first = flag()?,
            "act_last" => self.activation_last = flag()?,
            "norm" => self.bare_layer_norm = either("layer", "none")?,
            "dropout" => self.dropout = number(value, "in [0, 1)", |p| (0.0..1.0).contains(p))?,
            "aggregation" => self.aggregation = value.parse()?,
            "normalize" => self.normalize = Some(flag()?),
            "jumping" => self.jumping_last = either("last", "max")?,
            "layer_norm" => self.graph_norm = either("graph", "node")?,
            "heads" => self.average_heads = either("average", "concat")?,
            "negative_slope" => self.negative_slope = slope(value)?,
            "self_loops" => self.self_loops = flag()?,
            "fill_value" if value == "mean" => {}
            "fill_value" => return Err(refuse("mean; no other is built")),
            "improved" => self.improved = flag()?,
            "seed" => self.seed = value.parse().map_err(|_| refuse("a whole number"))?,
            _ => return Err(Error::setting("assumption", name, ASSUMED)),
        }
        Ok(())
    }
}

/// The names of all assumptions.
const ASSUMED: &str = "activation, act_first, act_last, norm, dropout, aggregation, normalize, jumping, layer_norm, heads, negative_slope, \
                       self_loops, fill_value, improved or seed";

#[cfg(test)]
mod tests {
    use super::*;

    fn open(kinds: &[&'static str]) -> Open {
        Open { kinds: kinds.iter().copied().collect(), hidden: true, ..Open::default() }
    }

    #[test]
    fn what_is_assumed_is_named_as_it_is_given() {
        let text = "activation=elu,act_first=true,act_last=true,dropout=0.25,aggregation=max,normalize=true,jumping=last,layer_norm=node,\
                    heads=concat,negative_slope=0.1,self_loops=false,fill_value=mean";
        let assumed: Assumptions = text.parse().unwrap();
        let all = Open {
            norms: true,
            layer_norms: true,
            inner: true,
            jumping: true,
            heads: true,
            edge_features: true,
            ..open(&["sage_conv", "gat_conv"])
        };
        assert_eq!(assumed.named(&all).unwrap(), text);
        let text = "activation=leaky_relu:0.3,norm=layer,dropout=0,normalize=true,layer_norm=graph,self_loops=true,improved=true";
        assert_eq!(text.parse::<Assumptions>().unwrap().named(&open(&["gcn_conv"])).unwrap(), text);
        assert_eq!(
            Assumptions::default().named(&open(&["gin_conv"])).unwrap(),
            "activation=relu,norm=none,dropout=0"
        );
        assert_eq!("".parse::<Assumptions>().unwrap(), Assumptions::default());
        let words = [
            "aggr=max",
            "dropout=1",
            "activation=gelu",
            "jumping",
            "activation=relu:0.2",
            "fill_value=add",
            "dropout=0,dropout=0",
        ];
        for (wrong, word) in words.into_iter().zip([
            "aggr",
            "dropout",
            "gelu",
            "last or max",
            "slope",
            "mean",
            "once",
        ]) {
            let message = wrong.parse::<Assumptions>().unwrap_err().to_string();
            assert!(message.contains(word) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn an_assumption_that_changes_nothing_is_refused() {
        for (idle, kind) in [
            ("aggregation=sum", "gcn_conv"),
            ("normalize=true", "gat_conv"),
            ("improved=true", "sage_conv"),
            ("act_first=true", "gcn_conv"),
            ("jumping=last", "gcn_conv"),
        ] {
            let message =
                idle.parse::<Assumptions>().unwrap().named(&open(&[kind])).unwrap_err().to_string();
            assert!(message.contains("a name that changes this network"), "{message}");
        }
        let loops = "normalize=false,self_loops=true"
            .parse::<Assumptions>()
            .unwrap()
            .named(&open(&["gcn_conv"]))
            .unwrap_err()
            .to_string();
        assert!(loops.contains("false where GCN does not normalise"), "{loops}");
        let plain = "normalize=false,self_loops=false"
            .parse::<Assumptions>()
            .unwrap()
            .named(&open(&["gcn_conv"]))
            .unwrap();
        assert_eq!(plain, "activation=relu,norm=none,dropout=0,normalize=false,self_loops=false");
        assert!("seed=3".parse::<Assumptions>().unwrap().named(&open(&[])).is_ok());
    }
}
