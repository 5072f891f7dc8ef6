//! Rows of a report.

use super::account::Account;
use super::control::Control;
use super::curve::{Curve, LayerWidth};
use super::effort::Effort;
use super::machine::Machine;
use crate::error::Result;
use crate::files;
use crate::scalar::Scalar;
use crate::task::{Metric, Task};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A metric over several seeds, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1); 0 for one seed.
    pub std: f64,
    /// Each seed's value, in the order of the report's seeds.
    pub per_seed: Vec<f64>,
}

impl Summary {
    /// Mean and deviation of `per_seed`; all zero for none.
    pub fn of(per_seed: Vec<f64>) -> Self {
        let n = per_seed.len() as f64;
        let mean = per_seed.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = per_seed.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, std: (squares / (n - 1.0).max(1.0)).sqrt(), per_seed }
    }
}

/// One model: how good it is and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The stage's name: `dense`, `channels 0.75`, `narrow control` …
    pub name: String,
    /// What `accuracy` is.
    pub metric: Metric,
    /// The metric on the test nodes.
    pub accuracy: Summary,
    /// Metrics that stand beside it, by their words, in percent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Summary>,
    /// What the stage took, a mean over seeds; `None` for what is only measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Size, work and time.
    #[serde(flatten)]
    pub account: Account,
}

/// The task that a report is about, and its data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// Nodes of its graph.
    pub nodes: usize,
    /// Directed edges of its graph.
    pub edges: usize,
    /// Features per node.
    pub features: usize,
    /// How features are normalised.
    pub feature_norm: String,
    /// Outputs: classes, where these are asked for.
    pub classes: usize,
}

impl DataInfo {
    /// What a report says of `task`.
    pub fn of<F: Scalar>(task: &dyn Task<F>) -> Self {
        let data = task.data();
        Self {
            name: task.name().into(),
            nodes: data.num_nodes(),
            edges: data.graph().num_edges(),
            features: data.num_features(),
            feature_norm: data.feature_norm().to_string(),
            classes: task.outputs(),
        }
    }
}

/// What the rows of a report are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compares {
    /// Stages of one compression, over seeds.
    #[default]
    Stages,
    /// Models beside each other, each with its own seed.
    Models,
}

/// Rows about one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// One per model.
    pub rows: Vec<Row>,
    /// The data.
    pub data: DataInfo,
    /// What the rows are.
    pub compares: Compares,
    /// The seeds, in the order of `per_seed`; where models are compared, each row's.
    pub seeds: Vec<u64>,
    /// Version of the crate.
    pub version: String,
    /// Which nodes least squares looked at, where any stage used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Which edges what is trained from scratch saw, where it was not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_graph: Option<String>,
    /// The machine that measured.
    pub machine: Machine,
    /// The stages in the words of the command line.
    #[serde(rename = "stages", skip_serializing_if = "Vec::is_empty")]
    pub recipe: Vec<String>,
    /// The stages with all their qualifiers as TOML that [`Recipe`](crate::Recipe) reads, where
    /// they came from one.
    #[serde(rename = "recipe", skip_serializing_if = "Option::is_none")]
    pub recipe_toml: Option<String>,
    /// The command that made the report, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Channels of every layer before and after, of the model that comes out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<LayerWidth>,
    /// How every stage trained; for the page alone, JSON would be mostly this.
    #[serde(skip)]
    pub curves: Vec<Curve>,
    /// Whether validation chose between epochs ([`Task::chooses`]); for the page alone.
    #[serde(skip)]
    pub chooses: bool,
}

/// A report with what it says in words.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<Control>,
}

impl Report {
    /// A report of these rows.
    pub fn new<F: Scalar>(task: &dyn Task<F>, seeds: Vec<u64>, rows: Vec<Row>) -> Self {
        Self {
            rows,
            data: DataInfo::of(task),
            compares: Compares::Stages,
            seeds,
            version: env!("CARGO_PKG_VERSION").into(),
            calibration: None,
            training_graph: None,
            machine: Machine::this(),
            recipe: Vec::new(),
            recipe_toml: None,
            command: None,
            channels: Vec::new(),
            curves: Vec::new(),
            chooses: task.chooses(),
        }
    }

    /// A report of models beside each other, one per row; `seeds` are theirs.
    pub fn of_models<F: Scalar>(task: &dyn Task<F>, seeds: Vec<u64>, rows: Vec<Row>) -> Self {
        Self { compares: Compares::Models, ..Self::new(task, seeds, rows) }
    }

    /// Whether a row of a compression is a control.
    pub fn is_control(row: &Row) -> bool {
        row.name.ends_with(" control")
    }

    /// Rows that are no controls; where models are compared, all.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| self.compares == Compares::Models || !Self::is_control(row))
    }

    /// The row of that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The report as one JSON document, with [`Report::summary`], [`Report::notes`] and
    /// [`Report::controls`].
    ///
    /// # Panics
    /// Never: every number of a report is finite.
    pub fn to_json(&self) -> String {
        let document = Document {
            report: self,
            summary: self.summary(),
            notes: self.notes(),
            controls: self.controls(),
        };
        serde_json::to_string_pretty(&document)
            .expect("a report holds only strings, finite numbers and lists")
    }

    /// Writes the JSON document to a file.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) where it cannot be written.
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_atomically(path.as_ref(), self.to_json().as_bytes())
    }

    /// Writes the Markdown page to a file.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) where it cannot be written.
    pub fn write_markdown(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_atomically(path.as_ref(), self.to_markdown().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_sample_deviation() {
        let summary = Summary::of(vec![80.0, 82.0, 84.0]);
        assert_eq!((summary.mean, summary.std), (82.0, 2.0));
        assert_eq!(Summary::of(vec![81.0]).std, 0.0);
    }
}
