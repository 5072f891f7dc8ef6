//! Gradients by hand against central differences.

use super::{TESTING, rows_on, sparse, words};
use crate::graph::Graph;
use crate::nn::{Cx, Mode, Model, NodeId};
use crate::rng::{ChaCha8Rng, generator};
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::index::sample;

/// Step of the differences: its square, the error of a smooth function, lies at 1e-10, and so does
/// the rounding of f64 divided by it.
const STEP: f64 = 1e-5;
/// Relative error that is let pass; a wrong factor or sign is off by far more, correct code by
/// about 1e-9.
const TOLERANCE: f64 = 1e-6;
/// Rounding steps that a sum of `S = Σ|terms|` may be off by, in units of `ε·S`: each term is
/// itself a sum of tens through some layers.
const ROUNDINGS: f64 = 64.0;
/// Entries that are looked at in each parameter and in the input: all of small ones, this many of
/// large ones.
const ENTRIES: usize = 40;

/// Checks the gradients of every parameter and of the input against central differences, in
/// evaluation and in training mode, with `x` in dense and in sparse form, at 40 entries of each
/// matrix or all of a smaller one. In the dense form zeros are filled with random numbers:
/// activations have their kinks there.
///
/// The loss is `Σ C ⊙ Y` with random `C` over the output and one inner node. Where a function has a
/// kink within two steps (ReLU at 0), differences say nothing: such entries are told by differences
/// of two step lengths that do not agree, which no error in a backward pass can cause, and are left
/// out.
///
/// # Errors
/// The first entry whose relative error is 1e-6 or more; too many kinks; what the model returns.
pub fn check_gradients(
    model: &Model<f64>,
    graph: &Graph<f64>,
    x: ValueRef<f64>,
    seed: u64,
) -> Result<(), String> {
    let rows = rows_on(graph);
    for form in [Value::Dense(without_zeros(&x, seed)), Value::Sparse(sparse(&x))] {
        for mode in [Mode::Eval, Mode::Train { seed, step: 1 }] {
            let kind = if matches!(form, Value::Dense(_)) { "dense" } else { "sparse" };
            let cx = Cx::eval(graph).within(&rows).with_mode(mode);
            check(model, &cx, form.clone(), seed)
                .map_err(|e| format!("{kind} input, {mode:?}: {e}"))?;
        }
    }
    Ok(())
}

fn without_zeros(x: &ValueRef<f64>, seed: u64) -> Array2<f64> {
    let mut rng = generator(seed, &[TESTING, 3]);
    x.to_dense().mapv_into(|v| if v == 0.0 { rng.random_range(-1.0..1.0) } else { v })
}

fn check(model: &Model<f64>, cx: &Cx<f64>, mut x: Value<f64>, seed: u64) -> Result<(), String> {
    let mut rng = generator(seed, &[TESTING, 0]);
    let loss = Loss::random(model, cx, &mut rng)?;
    let (start, size) = loss.of(model, cx, x.view())?;
    // A node that has a gradient of its own keeps its value: what runs in its memory would hide
    // the sign that its backward pass reads.
    let keep: Vec<NodeId> = loss.terms.iter().map(|(id, _)| *id).collect();
    let trace = model.trace_keeping(cx, x.view(), &keep).map_err(words)?;
    let (grads, dx) = model.backward_to_input(cx, trace, &loss.terms).map_err(words)?;
    let meter = Meter { start, noise: ROUNDINGS * f64::EPSILON * size.max(1.0) / STEP };
    let mut tally = Tally::default();
    let mut names = Vec::new();
    model.visit(&mut |name, param| {
        let gradient =
            grads.get(param.id()).cloned().unwrap_or_else(|| Array2::zeros(param.value().dim()));
        names.push((name.to_string(), gradient, param.is_trainable()));
    });
    let mut moved = model.clone();
    // Running statistics are parameters without a gradient.
    for (k, (name, gradient, _)) in names.iter().enumerate().filter(|(_, (.., trains))| *trains) {
        for at in sample(&mut rng, gradient.len(), gradient.len().min(ENTRIES)) {
            let at = (at / gradient.ncols(), at % gradient.ncols());
            let place = format!("gradient of {name} at {at:?}");
            tally.add(meter.compare(&place, gradient[at], |step| {
                let before = entry(&mut moved, k, at, |w| w + step);
                let value = loss.of(&moved, cx, x.view());
                entry(&mut moved, k, at, |_| before);
                Ok(value?.0)
            })?);
        }
    }
    let dx = stored(&dx).to_vec();
    for at in sample(&mut rng, dx.len(), dx.len().min(ENTRIES)) {
        tally.add(meter.compare(
            &format!("gradient of the input's stored entry {at}"),
            dx[at],
            |step| {
                let before = std::mem::replace(&mut stored_mut(&mut x)[at], f64::NAN);
                stored_mut(&mut x)[at] = before + step;
                let value = loss.of(model, cx, x.view());
                stored_mut(&mut x)[at] = before;
                Ok(value?.0)
            },
        )?);
    }
    tally.finish()
}

/// Lets `f` change one entry of the `k`-th parameter; returns what it was.
fn entry(model: &mut Model<f64>, k: usize, at: (usize, usize), f: impl Fn(f64) -> f64) -> f64 {
    let (mut index, mut before) = (0, 0.0);
    model.visit_mut(&mut |param| {
        if index == k {
            before = param.value()[at];
            param.value_mut()[at] = f(before);
        }
        index += 1;
    });
    before
}

fn stored(x: &Value<f64>) -> &[f64] {
    match x {
        Value::Dense(x) => x.as_slice().expect("values are contiguous"),
        Value::Sparse(x) => x.data(),
    }
}

fn stored_mut(x: &mut Value<f64>) -> &mut [f64] {
    match x {
        Value::Dense(x) => x.as_slice_mut().expect("values are contiguous"),
        Value::Sparse(x) => x.data_mut(),
    }
}

/// `Σ C ⊙ Y` over some nodes.
struct Loss {
    terms: Vec<(NodeId, Array2<f64>)>,
}

impl Loss {
    /// Over the output and one other layer, if there is one.
    fn random(model: &Model<f64>, cx: &Cx<f64>, rng: &mut ChaCha8Rng) -> Result<Self, String> {
        let mut nodes = vec![model.output(), NodeId(rng.random_range(1..=model.nodes().len()))];
        nodes.dedup();
        let mut term = |id| {
            let rows = cx.num_rows(model[id].rows()).map_err(words)?;
            let shape = (rows, model.channels(id));
            Ok((id, Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))))
        };
        let terms = nodes.into_iter().map(&mut term).collect::<Result<_, String>>()?;
        Ok(Self { terms })
    }

    /// The loss, and `Σ |C ⊙ Y|`, which says how far it is rounded.
    fn of(&self, model: &Model<f64>, cx: &Cx<f64>, x: ValueRef<f64>) -> Result<(f64, f64), String> {
        let keep: Vec<NodeId> = self.terms.iter().map(|(id, _)| *id).collect();
        let trace = model.trace_keeping(cx, x, &keep).map_err(words)?;
        let (mut sum, mut size) = (0.0, 0.0);
        for (id, c) in &self.terms {
            let y = trace
                .value(*id)
                .ok_or_else(|| format!("the value of `{}` was not kept", model.name_of(*id)))?;
            let terms = y.to_dense() * c;
            sum += terms.sum();
            size += terms.mapv(f64::abs).sum();
        }
        Ok((sum, size))
    }
}

enum Verdict {
    Right,
    Kink,
}

struct Meter {
    start: f64,
    noise: f64,
}

impl Meter {
    fn compare(
        &self,
        place: &str,
        gradient: f64,
        mut loss: impl FnMut(f64) -> Result<f64, String>,
    ) -> Result<Verdict, String> {
        let mut at = |step: f64| -> Result<[f64; 2], String> {
            let (up, down) = (loss(step)?, loss(-step)?);
            Ok([(up - down) / (2.0 * step), (up - 2.0 * self.start + down) / step])
        };
        let [slope, bend] = at(STEP)?;
        let [slope2, bend2] = at(2.0 * STEP)?;
        let allowed = TOLERANCE * slope.abs().max(gradient.abs()) + self.noise;
        // Of a smooth function the slope does not depend on the step, and the difference of the
        // one-sided slopes grows with it. A kink at distance t from the entry breaks at least one
        // of the two, by three quarters of the error that it causes or more.
        if (slope2 - slope).abs() > allowed / 2.0 || (bend2 - 2.0 * bend).abs() > allowed / 2.0 {
            return Ok(Verdict::Kink);
        }
        match (slope - gradient).abs() <= allowed {
            true => Ok(Verdict::Right),
            false => Err(format!("{place} is {gradient:e}, differences give {slope:e}")),
        }
    }
}

#[derive(Default)]
struct Tally {
    right: usize,
    kinks: usize,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Right => self.right += 1,
            Verdict::Kink => self.kinks += 1,
        }
    }

    /// A check that leaves most entries out checks nothing.
    fn finish(&self) -> Result<(), String> {
        if self.kinks > self.right {
            return Err(format!(
                "{} entries lie at a kink and only {} could be compared; take other numbers",
                self.kinks, self.right
            ));
        }
        Ok(())
    }
}
