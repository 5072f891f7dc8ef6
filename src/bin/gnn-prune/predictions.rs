//! What a model says of each node, as a file.

use crate::failure::{Failure, Result};
use clap::ValueEnum;
use gnn_prune::files::npy::{self, Number};
use gnn_prune::ndarray::{Array1, Array2, ArrayView2, Axis};
use std::path::Path;

/// The forms of a file of predictions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Npy,
    Csv,
}

impl Form {
    /// The form that the suffix says; without one, as devices have none, .npy.
    pub fn of(path: &Path) -> Result<Self> {
        match path
            .extension()
            .map(|suffix| suffix.to_string_lossy().to_ascii_lowercase())
            .as_deref()
        {
            None | Some("npy") => Ok(Form::Npy),
            Some("csv") => Ok(Form::Csv),
            Some(_) => Err(Failure::Output {
                path: path.into(),
                problem: "predictions are written as .npy or .csv; choose one of these suffixes",
            }),
        }
    }
}

/// What is written of each node, or graph.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Written {
    Logits,
    Probabilities,
    Classes,
}

impl Written {
    /// What was written, in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Written::Logits => "logits",
            Written::Probabilities => "probabilities",
            Written::Classes => "classes",
        }
    }
}

/// Whether a node has one class or several labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    OneClass,
    Several,
}

/// The bytes of a file that says `what` of every node, made of `logits: [n, classes]`.
///
/// Where a node has one class, probabilities are the softmax of its logits and its class is the
/// first of the largest; where it has several labels, they are the sigmoid of each logit, and the
/// labels are those above one half.
pub fn encode(what: Written, logits: ArrayView2<f32>, labels: Labels, form: Form) -> Vec<u8> {
    match (what, labels) {
        (Written::Logits, _) => numbers("logit", &logits.to_owned(), form),
        (Written::Probabilities, Labels::OneClass) => numbers("p", &softmax(logits), form),
        (Written::Probabilities, Labels::Several) => numbers("p", &logits.mapv(sigmoid), form),
        (Written::Classes, Labels::OneClass) => classes(&largest(logits), form),
        (Written::Classes, Labels::Several) => {
            numbers("label", &logits.mapv(|z| i64::from(z > 0.0)), form)
        }
    }
}

/// `exp(z_c − max) / Σ`, in `f64` until the end.
fn softmax(logits: ArrayView2<f32>) -> Array2<f32> {
    let mut shares = logits.mapv(f64::from);
    for mut row in shares.rows_mut() {
        let most = row.fold(f64::NEG_INFINITY, |most, z| most.max(*z));
        row.mapv_inplace(|z| (z - most).exp());
        let sum = row.sum();
        row.mapv_inplace(|share| share / sum);
    }
    shares.mapv(|share| share as f32)
}

fn sigmoid(z: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(z)).exp())) as f32
}

/// The column of the largest logit, of equal ones the first.
fn largest(logits: ArrayView2<f32>) -> Array1<i64> {
    logits.map_axis(Axis(1), |row| {
        (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best }) as i64
    })
}

/// A column per class, under `node,{name}_0,{name}_1,…`.
fn numbers<A: Number + std::fmt::Display>(name: &str, values: &Array2<A>, form: Form) -> Vec<u8> {
    if form == Form::Npy {
        return npy::encode(values);
    }
    let heads: Vec<String> = (0..values.ncols()).map(|c| format!("{name}_{c}")).collect();
    let rows = values
        .rows()
        .into_iter()
        .map(|row| row.iter().map(A::to_string).collect::<Vec<_>>().join(","));
    csv(&heads.join(","), rows)
}

fn classes(classes: &Array1<i64>, form: Form) -> Vec<u8> {
    match form {
        Form::Npy => npy::encode(classes),
        Form::Csv => csv("class", classes.iter().map(i64::to_string)),
    }
}

fn csv(head: &str, rows: impl Iterator<Item = String>) -> Vec<u8> {
    let mut text = format!("node,{head}\n");
    rows.enumerate().for_each(|(node, row)| text.push_str(&format!("{node},{row}\n")));
    text.into_bytes()
}
