//! The whole way tried on a model that is not trained yet.

use super::step::{Env, OnGraph, Step, Subject};
use crate::error::Result;
use crate::nn::Model;
use crate::quant::Quantizer;
use crate::rng::{hash, purpose};
use crate::task::Task;
use crate::train::Trainer;

/// Refuses what a step, the quantiser or the final account cannot do with a model of this form,
/// whatever training makes of it.
pub(super) fn rehearse(
    form: &Model,
    task: &dyn Task<f32>,
    steps: &[Box<dyn Step>],
    quantizer: Option<&Quantizer>,
    trainer: Option<&Trainer>,
    prefixes: bool,
) -> Result<()> {
    task.check(form)?;
    let mut subject = Subject::new(form.clone(), task.data().graph().clone());
    let compiles = |subject: &Subject| {
        let whole = OnGraph::of(task, subject.graph())?.whole()?;
        let (graph, rows) = (Some(whole.graph()), whole.spaces());
        subject.model().lower_within(graph, whole.features(), rows).map(|_| ())
    };
    compiles(&subject)?;
    for (k, step) in steps.iter().enumerate() {
        let env =
            Env::new(task, form, stage_seed(form, k)).trained_by(trainer).with_prefixes(prefixes);
        match step.rehearse(&subject, &env)? {
            Some(next) => subject = next,
            // What comes after a step that does not tell has its turn when it is there.
            None => return Ok(()),
        }
        compiles(&subject)?;
    }
    quantizer.map_or(Ok(()), |quantizer| {
        quantizer.check(subject.model(), &*OnGraph::of(task, subject.graph())?)
    })
}

/// The seed of stage `k` of a model.
pub(super) fn stage_seed(model: &Model, k: usize) -> u64 {
    hash(model.seed(), &[purpose::STAGE, k as u64])
}
