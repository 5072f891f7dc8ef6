//! Outputs for some nodes of a graph, without a pass over all of it.

use super::Batch;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{Cx, Model};
use crate::scalar::Scalar;
use ndarray::Array2;

impl<F: Scalar> Model<F> {
    /// The output for these nodes, a row each in their order: what [`Model::infer`] gives for them
    /// on the whole graph, computed from as many hops of neighbours as the model aggregates
    /// ([`Batch::around`]). Memory and time are those of the neighbourhood: ask for many nodes in
    /// parts.
    ///
    /// *Shapes*: `[nodes, out_channels]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where the data's features are not those that the model reads,
    /// [`Error::Setting`] for no node and for one that is listed twice,
    /// [`Error::IndexOutOfRange`] for one that there is not, [`Error::OnlyAHop`] for a model with a
    /// layer that runs on whole graphs only.
    ///
    /// ```
    /// use gnn_prune::{Dataset, Sage};
    /// let data = Dataset::sbm(300, 3).features(8).build()?;
    /// let model = Sage::builder(8, 3).layers(2).build(0)?;
    /// assert_eq!(model.infer_nodes(&data, &[12, 200])?.dim(), (2, 3));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn infer_nodes(&self, data: &Dataset<F>, nodes: &[u32]) -> Result<Array2<F>> {
        let (hops, cx) = (self.num_hops(), Cx::without_graph());
        let batch = Batch::around(data, nodes, hops.max(1))?;
        if hops > 0 {
            return self.infer(&batch.on(&cx), batch.features());
        }
        // Without aggregation the first sources, which are the nodes, are all there is to read.
        self.infer(&cx, batch.features().head(nodes.len())).map_err(|error| match error {
            Error::NoGraph { at } => Error::OnlyAHop { at },
            other => other,
        })
    }
}
