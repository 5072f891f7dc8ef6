//! What a pickled module tells of its layers beside their tensors: classes and attributes.

use super::assumptions::Assumptions;
use super::names::twin_of;
use super::recognise::Found;
use crate::error::{Error, Result};
use crate::nn::ActivationFn;
use serde_json::Value;
use std::collections::BTreeMap;

/// The modules of a file, by the names that their tensors begin with.
#[derive(Debug, Default)]
pub(super) struct Told {
    modules: BTreeMap<String, Value>,
}

impl Told {
    /// Of the modules below `prefix`, which ends with a dot or is empty.
    pub(super) fn of(metadata: &BTreeMap<String, String>, prefix: &str) -> Self {
        let below =
            |key: &String| Some(key.strip_prefix("module.")?.strip_prefix(prefix)?.to_string());
        let root = metadata
            .get(format!("module.{prefix}").trim_end_matches('.'))
            .map(|text| (String::new(), text));
        let others = metadata.iter().filter_map(|(key, text)| Some((below(key)?, text)));
        let read = |(path, text): (String, &String)| Some((path, serde_json::from_str(text).ok()?));
        Self { modules: others.chain(root).filter_map(read).collect() }
    }

    fn attribute(&self, path: &str, name: &str) -> Option<&Value> {
        self.modules.get(path)?.get(name)
    }

    /// The last word of a module's class.
    fn class(&self, path: &str) -> Option<&str> {
        self.attribute(path, "class")?.as_str()?.rsplit('.').next()
    }

    fn flag(&self, path: &str, name: &str, to: &mut bool) {
        if let Some(told) = self.attribute(path, name).and_then(Value::as_bool) {
            *to = told;
        }
    }

    fn number(&self, path: &str, name: &str, to: &mut f64) {
        if let Some(told) = self.attribute(path, name).and_then(Value::as_f64) {
            *to = told;
        }
    }

    /// The function that a module of activation is; nothing where it is none, or there is no such
    /// module.
    fn activation(&self, path: &str, assumed: &mut Assumptions) -> Result<bool> {
        let Some(class) = self.class(path) else { return Ok(false) };
        let function = match class {
            "ReLU" => ActivationFn::Relu,
            "LeakyReLU" => ActivationFn::LeakyRelu,
            "ELU" => ActivationFn::Elu,
            "Tanh" => ActivationFn::Tanh,
            "Sigmoid" => ActivationFn::Sigmoid,
            "GELU" | "SiLU" | "SELU" | "Softplus" | "Mish" | "Hardswish" | "CELU" | "ReLU6"
            | "LogSigmoid" | "Softsign" => {
                return Err(Error::Network(format!("{path}: the activation {class} is not built")));
            }
            _ => return Ok(false),
        };
        if self.attribute(path, "alpha").and_then(Value::as_f64).is_some_and(|alpha| alpha != 1.0) {
            return Err(Error::Network(format!(
                "{path}: an ELU with another alpha than 1 is not built"
            )));
        }
        assumed.activation = Some(function);
        assumed.leaky_slope = ActivationFn::LEAKY_SLOPE;
        self.number(path, "negative_slope", &mut assumed.leaky_slope);
        Ok(true)
    }

    /// The assumptions with what the file tells of the layer of `kind` at `path` in their place,
    /// nothing where it tells nothing of it.
    ///
    /// # Errors
    /// [`Error::Network`] for a layer of another class, or with an attribute that is not built.
    pub(super) fn layer(
        &self,
        kind: &str,
        path: &str,
        assumed: &Assumptions,
    ) -> Result<Option<Assumptions>> {
        let Some(class) = self.class(path) else { return Ok(None) };
        let known = twin_of(kind)?.classes;
        if !known.contains(&class) {
            return Err(Error::Network(format!(
                "`{path}` is a {class}, with the tensors of a {kind}; a network file says what it is here"
            )));
        }
        let text = |name: &str| self.attribute(path, name).and_then(Value::as_str);
        let refuse = |what: &str| {
            Err(Error::Network(format!("`{path}` is a {class} {what}, which is not built")))
        };
        let mut told = assumed.clone();
        if text("flow").is_some_and(|flow| flow != "source_to_target") {
            return refuse("from targets to sources");
        }
        match kind {
            "gcn_conv" | "sage_conv" => {
                let mut normalize = kind == "gcn_conv";
                self.flag(path, "normalize", &mut normalize);
                told.normalize = Some(normalize);
                self.flag(path, "improved", &mut told.improved);
                self.flag(path, "add_self_loops", &mut told.self_loops);
                if let Some(word) = text("aggr").filter(|_| kind == "sage_conv") {
                    told.aggregation = word.parse()?;
                }
            }
            "rgcn_conv" => {
                told.aggregation = text("aggr").map_or(Ok(told.aggregation), str::parse)?;
            }
            "gat_conv" | "gatv2_conv" => {
                self.number(path, "negative_slope", &mut told.negative_slope);
                self.number(path, "dropout", &mut told.dropout);
                self.flag(path, "add_self_loops", &mut told.self_loops);
                let mut concat = !told.average_heads;
                self.flag(path, "concat", &mut concat);
                told.average_heads = !concat;
                if self.attribute(path, "fill_value").is_some_and(|value| value != "mean") {
                    return refuse("whose self-loops take something else than a mean from edges");
                }
            }
            "gin_conv" | "gine_conv" => {
                if let Some(word) = text("aggr").filter(|word| !["add", "sum"].contains(word)) {
                    return refuse(&format!("that aggregates by {word}"));
                }
                self.inner(&format!("{path}.nn"), &mut told)?;
            }
            "layer_norm" => {
                told.graph_norm = text("mode").is_some_and(|mode| mode == "graph");
            }
            _ => {}
        }
        Ok(Some(told))
    }

    /// The form of an inner network.
    fn inner(&self, path: &str, told: &mut Assumptions) -> Result<()> {
        if self.class(path) == Some("MLP") {
            self.flag(path, "act_first", &mut told.activation_first);
            let mut plain = !told.activation_last;
            self.flag(path, "plain_last", &mut plain);
            told.activation_last = !plain;
            self.activation(&format!("{path}.act"), told)?;
            return Ok(());
        }
        let below = format!("{path}.");
        let place = |key: &String| key.strip_prefix(&below)?.parse::<usize>().ok();
        let mut places: Vec<usize> = self.modules.keys().filter_map(place).collect();
        places.sort_unstable();
        // A run of parts without tensors is read as one activation, so it must be that.
        let (mut bare, mut activated, mut one) = (false, false, None);
        for k in places {
            let part = format!("{path}.{k}");
            let refuse = |what: &str| {
                Err(Error::Network(format!(
                    "`{part}`: {what}; a network file says what it is here"
                )))
            };
            if self.activation(&part, told)? {
                let function = (told.activation, told.leaky_slope);
                if activated || one.is_some_and(|one| one != function) {
                    return refuse(
                        "an inner network of several activations in a row, or of several kinds, is not read",
                    );
                }
                (activated, one) = (true, Some(function));
            } else if matches!(self.class(&part), Some("Dropout" | "Identity")) {
                bare = true;
            } else {
                if bare && !activated {
                    return refuse(
                        "before it stands an inner part without tensors that is no activation",
                    );
                }
                (bare, activated) = (false, false);
            }
        }
        told.activation_last = activated;
        Ok(())
    }

    /// Refuses a network of one's own with a convolution that was not found as what it is: one
    /// without tensors, or one whose tensors are those of another layer.
    ///
    /// # Errors
    /// [`Error::Network`] for the first such.
    pub(super) fn check(&self, found: &[Found]) -> Result<()> {
        let counts = |class: &str| {
            [".nn.conv.", ".nn.pool.", ".JumpingKnowledge"].iter().any(|part| class.contains(part))
        };
        for (path, module) in &self.modules {
            let class = module.get("class").and_then(Value::as_str).unwrap_or("");
            let within = |outer: &str, inner: &str| {
                outer == inner
                    || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
            };
            if counts(class) && !found.iter().any(|layer| within(&layer.path, path)) {
                let class = class.rsplit('.').next().unwrap_or(class);
                return Err(Error::Network(format!(
                    "`{path}` is a {class}, whose tensors do not tell that; a network file says what it is here"
                )));
            }
        }
        Ok(())
    }

    /// What a network of `torch_geometric.nn.models` tells of itself.
    ///
    /// # Errors
    /// [`Error::Network`] for an activation that is not built.
    pub(super) fn network(&self, assumed: &Assumptions) -> Result<Option<Assumptions>> {
        if self.class("act").is_none() || self.attribute("", "act_first").is_none() {
            return Ok(None);
        }
        let mut told = assumed.clone();
        self.flag("", "act_first", &mut told.activation_first);
        self.number("dropout", "p", &mut told.dropout);
        if self.attribute("", "jk_mode").and_then(Value::as_str) == Some("last") {
            told.jumping_last = true;
        }
        Ok(self.activation("act", &mut told)?.then_some(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Aggregation;

    fn told(modules: &[(&str, &str)]) -> Told {
        let metadata = modules.iter().map(|(path, text)| {
            (format!("module{}{path}", if path.is_empty() { "" } else { "." }), (*text).into())
        });
        Told::of(&metadata.collect(), "")
    }

    #[test]
    fn what_a_module_tells_takes_the_place_of_what_is_assumed() {
        let told = told(&[
            (
                "conv1",
                r#"{"class": "torch_geometric.nn.conv.sage_conv.SAGEConv", "aggr": "max", "normalize": true}"#,
            ),
            (
                "conv2",
                r#"{"class": "torch_geometric.nn.conv.gcn_conv.GCNConv", "normalize": true, "add_self_loops": false, "improved": false}"#,
            ),
            (
                "conv3",
                r#"{"class": "torch_geometric.nn.conv.gat_conv.GATConv", "negative_slope": 0.1, "fill_value": "add"}"#,
            ),
            ("conv4.nn.0", r#"{"class": "torch.nn.modules.linear.Linear"}"#),
            (
                "conv4.nn.1",
                r#"{"class": "torch.nn.modules.activation.LeakyReLU", "negative_slope": 0.3}"#,
            ),
            ("conv4.nn.2", r#"{"class": "torch.nn.modules.dropout.Dropout"}"#),
            ("conv4.nn.3", r#"{"class": "torch.nn.modules.linear.Linear"}"#),
            (
                "conv4.nn.4",
                r#"{"class": "torch.nn.modules.activation.LeakyReLU", "negative_slope": 0.3}"#,
            ),
            ("conv4", r#"{"class": "torch_geometric.nn.conv.gin_conv.GINConv"}"#),
            ("bn", r#"{"class": "torch.nn.modules.normalization.LayerNorm"}"#),
            ("conv5", r#"{"class": "torch_geometric.nn.conv.rgcn_conv.RGCNConv", "aggr": "add"}"#),
            ("conv6", r#"{"class": "torch_geometric.nn.conv.gin_conv.GINConv", "aggr": "max"}"#),
        ]);
        let base = Assumptions::default();
        let layer = |kind: &str, path: &str| told.layer(kind, path, &base);
        let sage = layer("sage_conv", "conv1").unwrap().unwrap();
        assert_eq!((sage.aggregation, sage.normalize), (Aggregation::Max, Some(true)));
        let gcn = layer("gcn_conv", "conv2").unwrap().unwrap();
        assert_eq!((gcn.normalize, gcn.self_loops), (Some(true), false));
        let gin = layer("gin_conv", "conv4").unwrap().unwrap();
        assert_eq!(
            (gin.activation, gin.leaky_slope, gin.activation_last),
            (Some(ActivationFn::LeakyRelu), 0.3, true)
        );
        assert!(!layer("layer_norm", "bn").unwrap().unwrap().graph_norm);
        assert_eq!(layer("linear", "elsewhere").unwrap(), None);
        assert_eq!(layer("rgcn_conv", "conv5").unwrap().unwrap().aggregation, Aggregation::Sum);
        for (kind, path, word) in [
            ("gat_conv", "conv3", "self-loops"),
            ("gcn_conv", "conv1", "is a SAGEConv"),
            ("gin_conv", "conv6", "aggregates by max"),
        ] {
            let message = layer(kind, path).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_convolution_that_was_not_found_is_refused() {
        let told = told(&[
            ("prop", r#"{"class": "torch_geometric.nn.conv.appnp.APPNP"}"#),
            ("", r#"{"class": "__main__.Net"}"#),
        ]);
        assert!(told.check(&[]).unwrap_err().to_string().contains("`prop` is a APPNP"));
        let gaps = super::tests::told(&[
            ("c", r#"{"class": "x.GINConv"}"#),
            ("c.nn.0", r#"{"class": "x.Linear"}"#),
            ("c.nn.1", r#"{"class": "x.Dropout"}"#),
            ("c.nn.2", r#"{"class": "x.Linear"}"#),
        ]);
        assert!(
            gaps.layer("gin_conv", "c", &Assumptions::default())
                .unwrap_err()
                .to_string()
                .contains("no activation")
        );
    }

    #[test]
    fn heads_and_the_alpha_of_an_elu_are_as_told() {
        let told = told(&[
            ("joined", r#"{"class": "x.GATConv", "concat": true}"#),
            ("averaged", r#"{"class": "x.GATv2Conv", "concat": false}"#),
            ("elu", r#"{"class": "x.ELU", "alpha": 1.0}"#),
            ("other", r#"{"class": "x.ELU", "alpha": 0.5}"#),
        ]);
        for assumed in [true, false] {
            let mut base = Assumptions::default();
            base.average_heads = assumed;
            assert!(!told.layer("gat_conv", "joined", &base).unwrap().unwrap().average_heads);
            assert!(told.layer("gatv2_conv", "averaged", &base).unwrap().unwrap().average_heads);
        }
        let mut assumed = Assumptions::default();
        assert!(
            told.activation("elu", &mut assumed).unwrap()
                && assumed.activation == Some(ActivationFn::Elu)
        );
        assert!(
            told.activation("other", &mut assumed)
                .unwrap_err()
                .to_string()
                .contains("another alpha than 1")
        );
    }
}
