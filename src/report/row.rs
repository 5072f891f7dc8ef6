//! Rows of a report.

use super::account::Account;
use crate::data::Dataset;
use crate::error::Result;
use crate::files;
use crate::scalar::Scalar;
use crate::train::Metric;
use serde::Serialize;
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
    /// Size, work and time.
    #[serde(flatten)]
    pub account: Account,
}

/// The data that a report is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// Nodes of its graph.
    pub nodes: usize,
    /// Directed edges of its graph.
    pub edges: usize,
    /// Features a node.
    pub features: usize,
    /// How features are normalised.
    pub feature_norm: String,
    /// Classes.
    pub classes: usize,
}

impl DataInfo {
    /// What a report says of `data`.
    pub fn of<F: Scalar>(data: &Dataset<F>) -> Self {
        Self {
            name: data.name().into(),
            nodes: data.num_nodes(),
            edges: data.graph().num_edges(),
            features: data.num_features(),
            feature_norm: data.feature_norm().to_string(),
            classes: data.num_classes(),
        }
    }
}

/// Rows about one data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// One a model.
    pub rows: Vec<Row>,
    /// The data.
    pub data: DataInfo,
    /// The seeds, in the order of `per_seed`.
    pub seeds: Vec<u64>,
    /// Version of the crate.
    pub version: String,
    /// Which nodes least squares looked at, where any stage used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// The stages' words, one a line, for the page.
    #[serde(skip)]
    pub recipe: Vec<String>,
}

impl Report {
    /// A report of these rows.
    pub fn new<F: Scalar>(data: &Dataset<F>, seeds: Vec<u64>, rows: Vec<Row>) -> Self {
        Self { rows, data: DataInfo::of(data), seeds, version: env!("CARGO_PKG_VERSION").into(), calibration: None, recipe: Vec::new() }
    }

    /// Whether a row is a control.
    pub fn is_control(row: &Row) -> bool {
        row.name.contains("control")
    }

    /// The row of that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The report as one JSON document.
    ///
    /// # Panics
    /// Never: every number of a report is finite.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report holds only strings, finite numbers and lists")
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
