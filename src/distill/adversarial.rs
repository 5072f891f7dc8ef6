//! A discriminator that tells student from teacher.

use super::signals::log_softmax;
use super::{DistillLoss, Signals};
use crate::error::{Error, Result};
use crate::nn::{Activation, ActivationFn, Add, Cx, Grads, Linear, Model, ModelBuilder, NodeId};
use crate::rng::hash;
use crate::scalar::Scalar;
use crate::train::{Adam, AdamBuilder, NodeGrads, step};
use crate::value::Value;
use ndarray::{Array2, ArrayView2, s};

/// Key of the discriminator's seed, so that it shares no stream with the student's parameters.
const CRITIC: u64 = 0x6372_6974_6963;

/// Builder of an [`Adversarial`]; see [`Adversarial::builder`].
#[derive(Debug, Clone)]
pub struct AdversarialBuilder {
    every: usize,
    learning_rate: f64,
    weight_decay: f64,
}

impl AdversarialBuilder {
    /// The discriminator moves in every so many epochs, at least 1. Default 1.
    #[must_use]
    pub fn every(mut self, epochs: usize) -> Self {
        self.every = epochs;
        self
    }

    /// Step size of the discriminator's Adam, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// L2 penalty on the discriminator's parameters, at least 0. Default 5e-4.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Builds the loss.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build<F: Scalar>(self) -> Result<Adversarial<F>> {
        if self.every == 0 {
            return Err(Error::setting(
                "epochs between steps of the discriminator",
                0,
                "at least 1",
            ));
        }
        let adam =
            Adam::builder().learning_rate(self.learning_rate).weight_decay(self.weight_decay);
        adam.clone().build::<F>()?;
        Ok(Adversarial { every: self.every, adam, seed: 0, critic: None })
    }
}

/// The student learns to give logits that a discriminator takes for the teacher's, while the
/// discriminator learns to tell them apart.
///
/// The discriminator is `D(z) = W₂·relu(z + W₁z + b)` with one output per class and a last one `s`,
/// larger for the teacher. Over the rows `R` and the labelled nodes, with `σ` the sigmoid, and `CE`
/// the cross-entropy of the class outputs with the labels:
///
/// - the discriminator minimises
///   `½[mean_R −log σ(s(z_T)) − log(1 − σ(s(z_S))) + CE(D(z_T)) + CE(D(z_S))]`, one step of its own
///   Adam in [`observe`](DistillLoss::observe);
/// - the student minimises `½[mean_R −log σ(s(z_S)) + CE(D(z_S))]` through the discriminator as it
///   is.
///
/// Best beside [`SoftLabels`](super::SoftLabels), as the paper has it beside an L1 distance of the
/// logits: alone it only says *like a teacher's*, not *this node's*.
///
/// *Shapes*: logits of both `[n, classes]`, `W₁: [classes, classes]`, `W₂: [classes, classes + 1]`.
///
/// *Source*: He et al., "Compressing Deep Graph Neural Networks via Adversarial Knowledge
/// Distillation", KDD 2022, the discriminator on logits.
#[derive(Debug, Clone)]
pub struct Adversarial<F: Scalar = f32> {
    every: usize,
    adam: AdamBuilder,
    seed: u64,
    critic: Option<Critic<F>>,
}

impl Adversarial<f32> {
    /// Starts from a discriminator that moves in every epoch, by Adam at 0.01 with weight decay
    /// 5e-4.
    pub fn builder() -> AdversarialBuilder {
        AdversarialBuilder { every: 1, learning_rate: 0.01, weight_decay: 5e-4 }
    }
}

impl<F: Scalar> Adversarial<F> {
    /// The discriminator that has learned so far, or a fresh one.
    fn critic(&self, classes: usize) -> Result<Critic<F>> {
        match &self.critic {
            Some(critic) if critic.classes() == classes => Ok(critic.clone()),
            _ => Critic::new(classes, self.seed, self.adam.clone()),
        }
    }
}

impl<F: Scalar> DistillLoss<F> for Adversarial<F> {
    fn name(&self) -> &'static str {
        "adversarial"
    }

    fn settings(&self) -> String {
        format!("adversarial, a step every {} epochs by {:?}", self.every, self.adam)
    }

    fn start(&self, seed: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(Self { seed: hash(seed, &[CRITIC]), critic: None, ..self.clone() })
    }

    fn loss(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, NodeGrads<F>)> {
        student.check_against(teacher, rows)?;
        let (value, gradient) = self.critic(student.logits().ncols())?.fooled(student, rows)?;
        Ok((value, vec![(student.output(), gradient)]))
    }

    fn observe(
        &mut self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
        epoch: usize,
    ) -> Result<()> {
        student.check_against(teacher, rows)?;
        if epoch.saturating_sub(1).is_multiple_of(self.every) {
            let mut critic = self.critic(student.logits().ncols())?;
            let (_, grads) = critic.telling_apart(student, teacher, rows)?;
            step(&mut critic.adam, &mut critic.model, &grads, 1.0);
            self.critic = Some(critic);
        }
        Ok(())
    }
}

/// Whose logits the discriminator is to take these for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Teacher,
    Student,
}

/// The discriminator and its optimiser.
#[derive(Debug, Clone)]
struct Critic<F: Scalar> {
    model: Model<F>,
    adam: Adam<F>,
}

impl<F: Scalar> Critic<F> {
    fn new(classes: usize, seed: u64, adam: AdamBuilder) -> Result<Self> {
        let mut b = ModelBuilder::new(classes);
        let linear = b.add("lin", Linear::builder(classes, classes).build()?, &[NodeId::INPUT])?;
        let sum = b.add("add", Add::new(2)?, &[NodeId::INPUT, linear])?;
        let hidden = b.add("act", Activation::new(ActivationFn::Relu), &[sum])?;
        let out =
            b.add("out", Linear::builder(classes, classes + 1).bias(false).build()?, &[hidden])?;
        Ok(Self { model: b.build(out, seed)?, adam: adam.build()? })
    }

    fn classes(&self) -> usize {
        self.model.in_channels()
    }

    /// What the student minimises, and its gradient by the student's logits.
    fn fooled(&self, student: &Signals<F>, rows: &[u32]) -> Result<(F, Array2<F>)> {
        let (value, _, gradient) = self.term(student, rows, Side::Teacher)?;
        Ok((value, gradient))
    }

    /// What the discriminator minimises, and its gradients.
    fn telling_apart(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, Grads<F>)> {
        let (real, mut grads, _) = self.term(teacher, rows, Side::Teacher)?;
        let (fake, other, _) = self.term(student, rows, Side::Student)?;
        grads.add_scaled(&other, F::one());
        Ok((real + fake, grads))
    }

    /// `½[mean_R BCE(s(z), side) + CE(D(z))]` with its gradients by the discriminator's parameters
    /// and by `z`.
    fn term(
        &self,
        signals: &Signals<F>,
        rows: &[u32],
        side: Side,
    ) -> Result<(F, Grads<F>, Array2<F>)> {
        let cx = Cx::without_graph();
        let x = Value::from(signals.logits().to_owned());
        let trace = self.model.trace(&cx, x.view())?;
        let (value, seed) = objective(trace.output(), signals.labeled(), rows, side);
        let (grads, dz) =
            self.model.backward_to_input(&cx, trace, &[(self.model.output(), seed)])?;
        Ok((value, grads, dz.into_dense()))
    }
}

/// `½[mean_R BCE + CE]` of the discriminator's outputs `d: [n, classes + 1]`, and its gradient by
/// them.
fn objective<F: Scalar>(
    d: ArrayView2<F>,
    labelled: &[(u32, u32)],
    rows: &[u32],
    side: Side,
) -> (F, Array2<F>) {
    let classes = d.ncols() - 1;
    let mut gradient = Array2::zeros(d.dim());
    let half = |count: usize| F::of(0.5 / count.max(1) as f64);
    let (mut value, weight) = (F::zero(), half(rows.len()));
    for &i in rows {
        // −log σ(s) = log(1 + e^{−s}), and −log(1 − σ(s)) is the same at −s.
        let sign = if side == Side::Teacher { F::one() } else { -F::one() };
        let at = [i as usize, classes];
        let score = sign * d[at];
        value += weight * ((-score.abs()).exp().ln_1p() + (-score).max(F::zero()));
        gradient[at] -= weight * sign / (F::one() + score.exp());
    }
    let weight = half(labelled.len());
    let mut log_q = vec![F::zero(); classes];
    for &(i, class) in labelled {
        let i = i as usize;
        log_softmax(d.row(i).slice_move(s![..classes]), F::one(), &mut log_q);
        value -= weight * log_q[class as usize];
        for (c, log_q) in log_q.iter().enumerate() {
            gradient[[i, c]] += weight * log_q.exp();
        }
        gradient[[i, class as usize]] -= weight;
    }
    (value, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::generator;
    use ndarray_rand::rand::Rng;

    /// Step of the differences in f64: far below the distance of these numbers to the kinks of the
    /// discriminator.
    const STEP: f64 = 1e-6;
    /// Central differences of that step are good to about 1e-9 of the value.
    const TOLERANCE: f64 = 1e-7;
    const LABELLED: [(u32, u32); 2] = [(0, 1), (5, 2)];
    const ROWS: [u32; 4] = [0, 2, 3, 6];

    fn random(seed: u64) -> Array2<f64> {
        let mut rng = generator(seed, &[]);
        Array2::from_shape_simple_fn((7, 3), || rng.random_range(-2.0..2.0))
    }

    fn signals(z: &Array2<f64>) -> Signals<'_, f64> {
        Signals::new(NodeId(4), z.view(), &LABELLED).unwrap()
    }

    fn critic() -> Critic<f64> {
        Critic::new(3, 9, Adam::builder()).unwrap()
    }

    #[test]
    fn the_gradient_of_the_discriminator_is_that_of_differences() {
        let (student, teacher) = (random(1), random(2));
        let (student, teacher) = (signals(&student), signals(&teacher));
        let mut critic = critic();
        let (_, grads) = critic.telling_apart(&student, &teacher, &ROWS).unwrap();
        let mut gradients = Vec::new();
        critic.model.visit(&mut |_, param| gradients.push(grads.get(param.id()).unwrap().clone()));
        for (k, gradient) in gradients.iter().enumerate() {
            for (at, &expected) in gradient.indexed_iter() {
                let mut loss_at = |step: f64| {
                    let mut index = 0;
                    critic.model.visit_mut(&mut |param| {
                        if index == k {
                            param.value_mut()[at] += step;
                        }
                        index += 1;
                    });
                    critic.telling_apart(&student, &teacher, &ROWS).unwrap().0
                };
                let difference = (loss_at(STEP) - loss_at(-2.0 * STEP)) / (2.0 * STEP);
                loss_at(STEP);
                assert!(
                    (difference - expected).abs() < TOLERANCE,
                    "parameter {k} at {at:?}: {expected}, by differences {difference}"
                );
            }
        }
    }

    #[test]
    fn the_objective_is_half_its_judgement_of_the_side_and_half_the_labels() {
        let d = Array2::from_shape_fn((7, 4), |(i, c)| ((i * 5 + c * 3) % 9) as f64 / 2.0 - 2.0);
        let sigmoid = |s: f64| 1.0 / (1.0 + (-s).exp());
        for side in [Side::Teacher, Side::Student] {
            let of_row = |i: u32| match side {
                Side::Teacher => -sigmoid(d[[i as usize, 3]]).ln(),
                Side::Student => -(1.0 - sigmoid(d[[i as usize, 3]])).ln(),
            };
            let judged = ROWS.iter().map(|&i| of_row(i)).sum::<f64>() / 4.0;
            let of_label = |(i, class): (u32, u32)| {
                let exps: Vec<f64> = (0..3).map(|c| d[[i as usize, c]].exp()).collect();
                -(exps[class as usize] / exps.iter().sum::<f64>()).ln()
            };
            let labels = LABELLED.into_iter().map(of_label).sum::<f64>() / 2.0;
            let (value, _) = objective(d.view(), &LABELLED, &ROWS, side);
            assert!((value - (judged + labels) / 2.0).abs() < 1e-12, "{value}, {judged}, {labels}");
        }
    }

    #[test]
    fn the_steps_of_the_discriminator_lower_its_loss() {
        let (student, teacher) = (random(1), random(2));
        let (student, teacher) = (signals(&student), signals(&teacher));
        let mut loss = Adversarial::builder().learning_rate(1e-3).build::<f64>().unwrap();
        let value = |loss: &Adversarial<f64>| {
            loss.critic(3).unwrap().telling_apart(&student, &teacher, &ROWS).unwrap().0
        };
        let mut before = value(&loss);
        for epoch in 1..=20 {
            loss.observe(&student, &teacher, &ROWS, epoch).unwrap();
            let after = value(&loss);
            assert!(after < before, "epoch {epoch}: {before} -> {after}");
            before = after;
        }
    }

    #[test]
    fn the_discriminator_moves_in_every_so_many_epochs() {
        let (student, teacher) = (random(1), random(2));
        let (student, teacher) = (signals(&student), signals(&teacher));
        let mut loss = Adversarial::builder().every(3).build::<f64>().unwrap();
        let value = |loss: &Adversarial<f64>| loss.loss(&student, &teacher, &ROWS).unwrap().0;
        let mut moved = Vec::new();
        for epoch in 1..=7 {
            let before = value(&loss);
            loss.observe(&student, &teacher, &ROWS, epoch).unwrap();
            moved.push(value(&loss) != before);
        }
        assert_eq!(moved, [true, false, false, true, false, false, true]);
    }
}
