//! Least squares after the cut: what is kept takes over what it can of what is gone.

use super::plan::ChannelPlan;
use crate::error::Result;
use crate::nn::Model;
use crate::reconstruct::{Calibrate, Settings, Unchanged, solve_again};
use crate::scalar::Scalar;
use crate::task::Task;

impl ChannelPlan {
    /// As [`ChannelPlan::shrink`], and what reads the kept channels gets new weights.
    ///
    /// Every linear map of the network is solved again, from the input to the output: the weights
    /// `V` of the kept channels, and the bias, that minimise `‖Z − G·V‖² + λ‖W − V‖²`, where `Z` is
    /// what the map computed in the dense network and `G` its inputs as they are now, after
    /// aggregation and all cuts before it. What a layer norm, a softmax or a maximum makes of fewer
    /// channels is therefore in `G`. Maps that read nothing new stay as they are.
    ///
    /// *Source*: the reconstruction of He et al., "Channel Pruning for Accelerating Very Deep
    /// Neural Networks", ICCV 2017, eq. 1, with `β` fixed, layer by layer.
    ///
    /// # Errors
    /// As [`ChannelPlan::shrink`], and what a forward pass on all of `task` returns.
    pub fn shrink_refitted<F: Scalar>(
        &self,
        model: &Model<F>,
        task: &dyn Task<F>,
        calibrate: Calibrate,
    ) -> Result<Model<F>> {
        let solved = solve_again(
            model,
            &self.mask(model)?,
            task,
            Settings { calibrate, grid: None },
            &mut Unchanged::default(),
        )?
        .model;
        let mut values = Vec::new();
        solved.visit(&mut |_, param| values.push(param.value().clone()));
        let mut values = values.into_iter();
        // Masks of the plan are for the solution alone; those that were there before go on.
        let mut refitted = model.clone();
        refitted.visit_mut(&mut |param| {
            *param.value_mut() = values.next().expect("both models have the same parameters")
        });
        self.shrink(&refitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Cx;
    use crate::prune::{ChannelPruner, Magnitude};
    use crate::train::Trainer;
    use crate::{Dataset, Gcn};

    #[test]
    fn refitting_brings_the_logits_closer_to_the_dense_model() {
        let data = Dataset::sbm(240, 3).seed(1).build().unwrap();
        let model = Gcn::builder(data.num_features(), 3)
            .hidden(32)
            .layers(3)
            .residual(true)
            .build(1)
            .unwrap();
        let model = Trainer::builder().epochs(30).build().unwrap().fit(model, &data).unwrap();
        let plan = ChannelPruner::builder(Magnitude::l2())
            .ratio(0.75)
            .build()
            .unwrap()
            .plan(&model, &data)
            .unwrap();
        let logits = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let distance = |other: &Model| (logits(other) - logits(&model)).mapv(|v| v * v).sum();
        let (plain, refitted) = (
            plan.shrink(&model).unwrap(),
            plan.shrink_refitted(&model, &data, Calibrate::All).unwrap(),
        );
        assert_eq!(plain.num_params(), refitted.num_params());
        assert!(
            distance(&refitted) < 0.5 * distance(&plain),
            "{} against {}",
            distance(&refitted),
            distance(&plain)
        );
    }
}
