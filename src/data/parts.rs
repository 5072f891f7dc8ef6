//! What a file holds, made into a data set: classes counted, splits chosen, and what was assumed
//! said.

use super::array_file::array_file;
use super::dataset::{Dataset, check_labels};
use super::labels::{Labels, UNLABELED};
use super::listed::{MOST_LISTED, listed};
use super::norm::FeatureNorm;
use super::purpose::Purpose;
use super::sheet::{self, Words};
use super::split::{Split, SplitSource, Splits};
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scalar::Scalar;
use crate::value::Value;
use ndarray::Array2;
use std::path::Path;
use std::sync::Arc;

/// Dense features of which no larger share is other than zero are kept as a sparse matrix: the
/// first product takes a quarter of the time then, and features a fifth of the memory (measured:
/// `docs/performance.md`).
const SPARSE_UP_TO: f64 = 0.1;

/// What a file holds.
pub(super) struct Parts {
    pub graph: Graph,
    pub features: Value<f32>,
    pub norm: FeatureNorm,
    /// Nothing where none were asked for.
    pub labels: Option<FileLabels>,
    /// Nothing where none were asked for, or there are none.
    pub splits: Option<Splits>,
    /// Whether labels may count from 1, as they do in some public files.
    pub from_one: bool,
    pub notes: Vec<String>,
}

/// Labels as a file has them.
pub(super) enum FileLabels {
    /// One per node.
    One(Vec<u32>),
    /// Those of each node, and whether it has any.
    Several(Array2<bool>, Vec<bool>),
}

impl Parts {
    /// The data set; errors of the data carry the file's path.
    pub(super) fn assemble(
        mut self,
        path: &Path,
        name: String,
        wanted: &Wanted,
    ) -> Result<Dataset> {
        let nodes = self.graph.num_nodes();
        let in_file = |error: Error| match error {
            Error::NotFinite { at, value } => {
                Error::NotFinite { at: format!("{}: {at}", path.display()), value }
            }
            Error::Data { problem, .. } => Error::file(path, problem),
            other => Error::file(path, other),
        };
        let (labels, num_classes) = match self.labels.take() {
            _ if wanted.purpose == Purpose::Predict => {
                (Labels::Classes(vec![UNLABELED; nodes].into()), wanted.classes.unwrap_or(0))
            }
            None => {
                return Err(Error::file(path, "has no labels, which training and measuring need"));
            }
            Some(FileLabels::One(labels)) => {
                self.one_class(&name, labels, wanted).map_err(in_file)?
            }
            Some(FileLabels::Several(labels, known)) => {
                if labels.nrows() != nodes {
                    return Err(Error::file(
                        path,
                        format!("has {nodes} nodes and {} rows of labels", labels.nrows()),
                    ));
                }
                let num_classes = labels.ncols();
                (Labels::Several { matrix: Arc::new(labels), known: known.into() }, num_classes)
            }
        };
        let without = (0..nodes).filter(|&node| !labels.is_known(node)).count();
        if without > 0 && wanted.purpose != Purpose::Predict {
            self.notes.push(format!("{without} of {nodes} nodes have no label"));
        }
        let splits = match (&wanted.split, self.splits.take()) {
            _ if wanted.purpose == Purpose::Predict => Splits::None,
            (Some(source), _) => splits_from(source, nodes)?,
            (None, Some(own)) => own,
            (None, None) => {
                if labels.matrix().is_none() {
                    self.notes.push("has no masks: of each class 20 nodes train, 30 validate and the rest test, drawn by the seed".into());
                }
                Splits::default()
            }
        };
        let ((rows, columns), non_zero) = (self.features.shape(), self.features.non_zero());
        let share = non_zero as f64 / (rows * columns).max(1) as f64;
        if matches!(self.features, Value::Dense(_)) && share <= SPARSE_UP_TO {
            self.notes.push(format!(
                "{:.1} % of {rows} x {columns} features are not zero: kept as a sparse matrix",
                100.0 * share
            ));
            self.features = self.features.into_sparse().into();
        }
        let data = Dataset::for_purpose(
            name,
            self.graph,
            self.features,
            labels,
            num_classes,
            splits,
            wanted.purpose,
        )
        .map_err(in_file)?;
        Ok(data.normalised_by(self.norm).noted(self.notes))
    }

    /// Counts the classes and says which have no node.
    fn one_class(
        &mut self,
        name: &str,
        mut labels: Vec<u32>,
        wanted: &Wanted,
    ) -> Result<(Labels, usize)> {
        let mut known: Vec<u32> =
            labels.iter().copied().filter(|label| *label != UNLABELED).collect();
        known.sort_unstable();
        known.dedup();
        // A network with an output more was trained on them as they are.
        let counts_from_one = !known.is_empty() && (1..).zip(&known).all(|(k, label)| *label == k);
        if self.from_one
            && counts_from_one
            && wanted.classes.is_none_or(|outputs| outputs == known.len())
        {
            labels.iter_mut().filter(|label| **label != UNLABELED).for_each(|label| *label -= 1);
            known.iter_mut().for_each(|label| *label -= 1);
            self.notes.push("labels count from 1: label v is class v - 1".into());
        }
        let largest = known.last().copied().unwrap_or(0);
        if let Some(outputs) = wanted.classes.filter(|&outputs| largest as usize >= outputs) {
            let node = labels.iter().position(|&label| label == largest).unwrap_or(0);
            let problem = format!(
                "the label of node {node} is {largest}, and the network has {outputs} outputs: label v is output v"
            );
            return Err(Error::data(name, problem));
        }
        if known.len() < 2 && wanted.purpose == Purpose::Learn {
            return Err(Error::data(
                name,
                format!("has {} classes; there must be at least 2 to tell apart", known.len()),
            ));
        }
        let num_classes = match wanted.classes {
            Some(outputs) if outputs < 2 => outputs,
            given => check_labels(name, self.graph.num_nodes(), &labels, given)?,
        };
        let gaps: Vec<u32> = (0..largest)
            .filter(|class| known.binary_search(class).is_err())
            .take(MOST_LISTED + 1)
            .collect();
        if !gaps.is_empty() {
            let listed = listed(gaps.iter().map(u32::to_string));
            self.notes.push(format!("no node has label {listed}: labels are not renumbered, label v is output v of a network"));
        }
        if wanted.classes.is_some_and(|outputs| outputs > largest as usize + 1) {
            self.notes.push(format!(
                "labels go up to {largest}; the data take the {num_classes} classes of the network"
            ));
        }
        Ok((Labels::Classes(labels.into()), num_classes))
    }
}

/// Features with rows scaled by `norm`, or as is usual for their kind.
pub(super) fn normalised<F: Scalar>(
    features: Value<F>,
    norm: Option<FeatureNorm>,
) -> Result<(Value<f32>, FeatureNorm)> {
    let norm = norm.unwrap_or_else(|| FeatureNorm::default_for(&features));
    Ok((norm.apply(&features)?, norm))
}

/// The note on edges of a list that stand there more than once, if any do.
pub(super) fn repeats(listed: usize, graph: &Graph) -> Option<String> {
    let distinct = match graph.relations() {
        [] => graph.num_edges(),
        relations => relations.iter().map(|relation| relation.nnz()).sum(),
    };
    let repeats = listed.saturating_sub(distinct);
    (repeats > 0).then(|| {
        format!(
            "{repeats} of {listed} edges repeat others, and each counts, as in PyTorch Geometric"
        )
    })
}

/// The splits that a rule or a file says.
pub(super) fn splits_from(source: &SplitSource, nodes: usize) -> Result<Splits> {
    let path = match source {
        SplitSource::Rule(splits) => return Ok(splits.clone()),
        SplitSource::File(path) => path.as_path(),
    };
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if extension == "npy" {
        let of_nodes = array_file(path, "split")?
            .int_vector()
            .map_err(|problem| Error::file(path, problem))?;
        if of_nodes.len() != nodes {
            return Err(Error::file(
                path,
                format!("has {} entries, and there are {nodes} nodes", of_nodes.len()),
            ));
        }
        for (node, part) in (0u32..).zip(of_nodes) {
            match part {
                0..=2 => parts[part as usize].push(node),
                -1 => {}
                other => {
                    return Err(Error::file(
                        path,
                        format!(
                            "node {node} is in part {other}; 0 trains, 1 validates, 2 tests, -1 none"
                        ),
                    ));
                }
            }
        }
    } else if ["csv", "tsv", "txt"].contains(&extension.as_str()) {
        let Words { of_nodes, words, .. } = sheet::of_nodes(
            path,
            nodes,
            &["split", "part", "set", "subset", "fold"],
            "the part of a node",
        )?;
        for (node, word) in (0u32..).zip(of_nodes) {
            match word
                .map_or("-1", |word| words[word as usize].as_str())
                .to_ascii_lowercase()
                .as_str()
            {
                "0" | "train" | "training" => parts[0].push(node),
                "1" | "val" | "valid" | "validation" | "dev" => parts[1].push(node),
                "2" | "test" | "testing" => parts[2].push(node),
                "-1" | "none" => {}
                other => {
                    let problem = format!(
                        "node {node} is in `{other}`; the parts are train, val and test, or 0, 1 and 2, and -1 for none"
                    );
                    return Err(Error::file(path, problem));
                }
            }
        }
    } else {
        let problem = "is no split: give 20/30 (nodes a class), 0.6/0.2/0.2 (shares), or a .npy or .csv file with the part of every node";
        return Err(Error::file(path, problem));
    }
    let [train, val, test] = parts;
    Ok(Splits::Fixed(Split { train, val, test }))
}
