//! From a model of integers to a program for one batch.

use super::forms::{Forms, choose};
use super::lower::{num_nodes, rows_of_values};
use super::model::{QuantModel, QuantOp, room_for_dense, with_dense_shape};
use super::program::QuantProgram;
use super::tables;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::Isa;
use crate::nn::Rows;
use crate::program::Form;
use crate::value::ValueRef;

impl QuantModel {
    /// Compiles the model for `graph` and inputs like `x`, each stage in the form that is faster
    /// for its shape: [`Forms::Fastest`].
    ///
    /// # Errors
    /// As [`QuantModel::compile_as`].
    pub fn compile(&self, graph: &Graph, x: ValueRef<f32>) -> Result<QuantProgram> {
        self.compile_as(graph, x, Forms::Fastest)
    }

    /// Compiles the model for a batch: its graph, inputs like its features, and what its rows are:
    /// the graph of each node where the model pools, the pairs that the batch asks about, and who
    /// its nodes are where a table has rows of theirs. Tables are shared with the model, so that a
    /// batch costs no more than its queries.
    ///
    /// *Shapes*: the program puts out a row per node, per graph of the batch where the model pools,
    /// or per pair where it ends in scores.
    ///
    /// # Errors
    /// As [`QuantModel::compile_within_as`].
    pub fn compile_within(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        rows: &Rows<f32>,
    ) -> Result<QuantProgram> {
        self.compile_within_as(graph, x, rows, Forms::Fastest)
    }

    /// Compiles the model for `graph` and inputs like `x`, its stages in these forms.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another shape, [`Error::Unsupported`] naming the
    /// stage whose 32-bit accumulators could overflow on this graph, [`Error::Degree`] where a norm
    /// has no value on it, [`Error::NoGraphs`] for a model that pools over graphs,
    /// [`Error::NoQueries`] for one that scores pairs.
    pub fn compile_as(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        forms: Forms,
    ) -> Result<QuantProgram> {
        self.compile_within_as(graph, x, &Rows::new(), forms)
    }

    /// As [`QuantModel::compile_within`], with stages in these forms. Where a model has a table,
    /// rows of length 1 or scores of pairs, scores alone can run on integers: those by dot products
    /// with the rows of a table, among candidates that all queries share, and of rows that are
    /// codes or signs where a batch has the rows of the whole table.
    ///
    /// # Errors
    /// As [`QuantModel::compile_as`]; [`Error::OnlyAHop`] for a sample by hops, [`Error::NoGraph`]
    /// for an aggregation over nodes that stand alone, [`Error::NoQueries`] where pairs are to be
    /// scored and none are asked about, [`Error::IndexOutOfRange`] for a node or a relation that
    /// there is not.
    pub fn compile_within_as(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        rows: &Rows<f32>,
        forms: Forms,
    ) -> Result<QuantProgram> {
        if rows.num_hops() > 0 {
            return Err(Error::OnlyAHop { at: "quantised program".into() });
        }
        let expected = (num_nodes(graph, rows), self.in_channels);
        if x.shape() != expected {
            return Err(Error::ShapeMismatch {
                at: "input of the quantised model".into(),
                expected,
                found: x.shape(),
            });
        }
        let isa = Isa::best();
        if self.is_of_rows() {
            let forms = tables::forms(self, rows, isa, forms);
            return self.compile_as_read(graph, x, rows, |_| forms);
        }
        for stage in &self.stages {
            if let QuantOp::Aggregate(norm) = stage.op {
                graph.operator(norm)?;
            }
        }
        let of_values = rows_of_values(self, expected.0, rows)?;
        self.compile_as_read(graph, x, rows, |x| choose(self, (graph, &of_values), x, isa, forms))
    }

    /// Compiles the model with a form for each stage, and floats for what has none.
    #[doc(hidden)]
    pub fn compile_with(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        forms: &[Form],
    ) -> Result<QuantProgram> {
        self.compile_within_with(graph, x, &Rows::new(), forms)
    }

    /// The same for a batch.
    #[doc(hidden)]
    pub fn compile_within_with(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        rows: &Rows<f32>,
        forms: &[Form],
    ) -> Result<QuantProgram> {
        if self.is_of_rows() {
            return self.compile_within_as(graph, x, rows, Forms::Floats);
        }
        let forms =
            (0..self.stages.len()).map(|k| forms.get(k).copied().unwrap_or(Form::Floats)).collect();
        self.compile_as_read(graph, x, rows, |_| forms)
    }

    /// Compiles for an input as the stages read it: dense where one aggregates it, since there is
    /// no product of two sparse matrices in integers.
    fn compile_as_read(
        &self,
        graph: &Graph,
        x: ValueRef<f32>,
        rows: &Rows<f32>,
        forms: impl FnOnce(&ValueRef<f32>) -> Vec<Form>,
    ) -> Result<QuantProgram> {
        let compile = |x: ValueRef<f32>| {
            let forms = forms(&x);
            QuantProgram::compile(self, graph, x, rows, forms)
        };
        match x {
            ValueRef::Sparse(_) if self.aggregates_input() => {
                room_for_dense("the input", x.shape())?;
                with_dense_shape(x.shape(), compile)
            }
            x => compile(x),
        }
    }
}
