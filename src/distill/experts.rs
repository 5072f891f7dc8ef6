//! Experts that map a student's rows to its teacher's.

use super::embedded::{Embedded, Pull};
use super::{DistillLoss, Signals};
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Linear, Model, ModelBuilder, NodeId};
use crate::rng::{Draws, hash, purpose};
use crate::scalar::Scalar;
use crate::train::{Adam, NodeGrads, step};
use crate::value::Value;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

/// Temperatures of the selection: the first, and the last, which it has from epoch
/// [`COOLED_AFTER`] on.
const TEMPERATURES: (f64, f64) = (1.0, 0.1);
const COOLED_AFTER: usize = 100;

/// `1/n Σ_i ‖t_i − Σ_m s_im·E_m(x_i)‖²` over the nodes `i` that a batch asks about: the row `x_i`
/// of the student, mapped by experts, is to be the row `t_i` of its teacher.
///
/// Which expert maps a node its teacher's row says: `s_i = softmax((S(t_i) + g_i)/τ)`, where the
/// selection `S` is a linear map, `g` are draws of a Gumbel distribution, of each node and step
/// anew, and `τ` falls from 1 to 0.1 over the first 100 epochs, in equal ratios. Nodes whose rows
/// are alike thus share an expert, and no single map has to fit all. Experts and selection minimise
/// the same loss, by an Adam of their own at 0.01, one step for each batch after the student's
/// gradient is taken, and are thrown away with the loss.
///
/// It is for tasks that rank, whose models score rows of nodes; beside other losses
/// ([`DistillerBuilder::also`](super::DistillerBuilder::also)), since it says nothing of scores.
///
/// *Shapes*: `x: [nodes, d_S]`, `t: [nodes, d_T]`, `E_m: d_S → d_T`, `S: d_T → experts`.
///
/// *Source*: Kang et al., "DE-RRD", CIKM 2020, eqs. 1 to 4, with affine experts in the place of
/// perceptrons, and a mean in the place of a sum.
///
/// ```
/// use gnn_prune::distill::{DistanceExperts, RelaxedRanking};
/// use gnn_prune::Distiller;
/// let loss = RelaxedRanking::default();
/// let distiller = Distiller::builder(loss).also(0.1, DistanceExperts::new(10)?).labels(0.5).build()?;
/// assert!(DistanceExperts::<f32>::new(0).is_err());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DistanceExperts<F: Scalar = f32> {
    count: usize,
    seed: u64,
    steps: u64,
    panel: Option<Panel<F>>,
}

/// Experts and selection, with their optimisers.
#[derive(Debug, Clone)]
struct Panel<F: Scalar> {
    /// All experts side by side: `[d_S] → [experts · d_T]`.
    experts: Model<F>,
    selection: Model<F>,
    adams: [Adam<F>; 2],
}

/// What a panel makes of some rows.
struct Mapped<F: Scalar> {
    value: F,
    rows: Array2<F>,
    experts: Grads<F>,
    selection: Grads<F>,
}

impl<F: Scalar> DistanceExperts<F> {
    /// With so many experts, at least 1; the paper has 10 to 30.
    ///
    /// # Errors
    /// [`Error::Setting`] for none.
    pub fn new(count: usize) -> Result<Self> {
        match count {
            0 => Err(Error::setting("experts", 0, "at least 1")),
            _ => Ok(Self { count, seed: 0, steps: 0, panel: None }),
        }
    }
}

fn linear<F: Scalar>(from: usize, to: usize, seed: u64) -> Result<Model<F>> {
    let mut b = ModelBuilder::new(from);
    let out = b.add("lin", Linear::builder(from, to).build()?, &[NodeId::INPUT])?;
    b.build(out, seed)
}

/// A draw of the Gumbel distribution: `−ln(−ln u)`.
fn gumbel(draws: &mut Draws) -> f64 {
    const STEPS: usize = 1 << 32;
    let u = (draws.below(STEPS) as f64 + 0.5) / STEPS as f64;
    -(-u.ln()).ln()
}

fn temperature(epoch: usize) -> f64 {
    let (first, last) = TEMPERATURES;
    let along = (epoch.saturating_sub(1) as f64 / COOLED_AFTER as f64).min(1.0);
    first * f64::powf(last / first, along)
}

/// `softmax((a + g)/τ)`.
fn chosen<F: Scalar>(scores: ArrayView1<F>, noise: ArrayView1<F>, temperature: F) -> Vec<F> {
    let warm: Vec<F> = scores.iter().zip(noise).map(|(&a, &g)| (a + g) / temperature).collect();
    let top = warm.iter().fold(F::neg_infinity(), |top, &z| top.max(z));
    let shares: Vec<F> = warm.iter().map(|&z| (z - top).exp()).collect();
    let sum = shares.iter().fold(F::zero(), |sum, &share| sum + share);
    shares.into_iter().map(|share| share / sum).collect()
}

impl<F: Scalar> Panel<F> {
    fn new(count: usize, seed: u64, student: usize, teacher: usize) -> Result<Self> {
        let adam = || Adam::builder().weight_decay(0.0).build();
        let experts = linear(student, count * teacher, hash(seed, &[purpose::EXPERTS, 0]))?;
        let selection = linear(teacher, count, hash(seed, &[purpose::EXPERTS, 1]))?;
        Ok(Self { experts, selection, adams: [adam()?, adam()?] })
    }

    /// The loss of rows of student and teacher under noise `[n, experts]`, and all gradients.
    fn map(
        &self,
        x: ArrayView2<F>,
        t: ArrayView2<F>,
        noise: ArrayView2<F>,
        temperature: F,
    ) -> Result<Mapped<F>> {
        let (cx, count, width) = (Cx::without_graph(), noise.ncols(), t.ncols());
        let (x, rows) = (Value::from(x.to_owned()), Value::from(t.to_owned()));
        let maps = self.experts.trace(&cx, x.view())?;
        let scores = self.selection.trace(&cx, rows.view())?;
        let (z, a) = (maps.output(), scores.output());
        let (mut dz, mut da) = (Array2::zeros(z.dim()), Array2::zeros(a.dim()));
        let mean = F::of(1.0 / t.nrows().max(1) as f64);
        let two = F::of(2.0) * mean;
        let mut value = F::zero();
        for (i, target) in t.rows().into_iter().enumerate() {
            let share = chosen(a.row(i), noise.row(i), temperature);
            let z = z.row(i);
            let z = z.as_slice().expect("an output is in standard layout");
            let mut off: Vec<F> = target.iter().map(|&t| -t).collect();
            for (&s, z) in share.iter().zip(z.chunks_exact(width)) {
                off.iter_mut().zip(z).for_each(|(off, &z)| *off += s * z);
            }
            value += off.iter().fold(F::zero(), |sum, &off| sum + off * off) * mean;
            let worth = |m: usize| {
                let own = &z[m * width..][..width];
                off.iter().zip(own).fold(F::zero(), |sum, (&off, &z)| sum + off * z) * two
            };
            let worth: Vec<F> = (0..count).map(worth).collect();
            let all = worth.iter().zip(&share).fold(F::zero(), |sum, (&w, &s)| sum + w * s);
            let mut dz = dz.row_mut(i);
            let dz = dz.as_slice_mut().expect("a new array is contiguous");
            for (m, dz) in dz.chunks_exact_mut(width).enumerate() {
                dz.iter_mut().zip(&off).for_each(|(dz, &off)| *dz = share[m] * off * two);
                da[[i, m]] = share[m] * (worth[m] - all) / temperature;
            }
        }
        let back = |model: &Model<F>, trace, seed| {
            model.backward_to_input(&cx, trace, &[(model.output(), seed)])
        };
        let (experts, dx) = back(&self.experts, maps, dz)?;
        let (selection, _) = back(&self.selection, scores, da)?;
        Ok(Mapped { value, rows: dx.into_dense(), experts, selection })
    }
}

impl<F: Scalar> DistillLoss<F> for DistanceExperts<F> {
    fn name(&self) -> &'static str {
        "distance_experts"
    }

    fn settings(&self) -> String {
        format!("distance_experts, {} of them", self.count)
    }

    fn start(&self, seed: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(Self { count: self.count, seed, steps: 0, panel: None })
    }

    fn reads_embeddings(&self) -> bool {
        true
    }

    fn of_embeddings(&mut self, student: &Embedded<F>, teacher: &Embedded<F>) -> Result<Pull<F>> {
        let (own, theirs) = (student.rows(), teacher.rows());
        let panel = match &mut self.panel {
            Some(panel) => panel,
            none => none.insert(Panel::new(self.count, self.seed, own.ncols(), theirs.ncols())?),
        };
        self.steps += 1;
        let named = student.named();
        let places: Vec<usize> = named.iter().map(|&row| row as usize).collect();
        let mut noise = Array2::zeros((named.len(), self.count));
        for (&row, mut noise) in named.iter().zip(noise.rows_mut()) {
            let node = u64::from(student.node(row));
            let mut draws = Draws::of(self.seed, &[purpose::EXPERTS, 2, self.steps, node]);
            noise.iter_mut().for_each(|g| *g = F::of(gumbel(&mut draws)));
        }
        let (x, t) = (own.select(Axis(0), &places), theirs.select(Axis(0), &places));
        let temperature = F::of(temperature(student.epoch()));
        let Mapped { value, rows, experts, selection } =
            panel.map(x.view(), t.view(), noise.view(), temperature)?;
        step(&mut panel.adams[0], &mut panel.experts, &experts, 1.0);
        step(&mut panel.adams[1], &mut panel.selection, &selection, 1.0);
        let mut gradient = Array2::zeros(own.dim());
        for (&place, row) in places.iter().zip(rows.rows()) {
            gradient.row_mut(place).assign(&row);
        }
        Ok(Pull::new(value, gradient))
    }

    /// Refused: outputs have no rows of their own.
    fn loss(&self, _: &Signals<F>, _: &Signals<F>, _: &[u32]) -> Result<(F, NodeGrads<F>)> {
        Err(Error::setting("distance_experts", "rows of outputs", "the rows of a task that ranks"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::generator;
    use ndarray_rand::rand::Rng;

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-6;
    const EXACT: f64 = 1e-7;

    fn random(seed: u64, shape: (usize, usize)) -> Array2<f64> {
        let mut rng = generator(seed, &[]);
        Array2::from_shape_simple_fn(shape, || rng.random_range(-1.5..1.5))
    }

    #[test]
    fn all_gradients_are_those_of_differences() {
        let mut panel = Panel::<f64>::new(3, 7, 2, 4).unwrap();
        let (x, t, noise) = (random(1, (5, 2)), random(2, (5, 4)), random(3, (5, 3)));
        let of = |panel: &Panel<f64>, x: &Array2<f64>| {
            panel.map(x.view(), t.view(), noise.view(), 0.6).unwrap()
        };
        let found = of(&panel, &x);
        for (at, &slope) in found.rows.indexed_iter() {
            let moved = |step: f64| {
                let mut moved = x.clone();
                moved[at] += step;
                of(&panel, &moved).value
            };
            let differences = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((slope - differences).abs() < EXACT, "{at:?}: {slope} {differences}");
        }
        for selects in [false, true] {
            let grads = if selects { &found.selection } else { &found.experts };
            let model = if selects { &panel.selection } else { &panel.experts };
            let mut slopes = Vec::new();
            model.visit(&mut |_, param| slopes.push(grads.get(param.id()).unwrap().clone()));
            for (k, slopes) in slopes.iter().enumerate() {
                for (at, &slope) in slopes.indexed_iter() {
                    let mut moved = |step: f64| {
                        let part = if selects { &mut panel.selection } else { &mut panel.experts };
                        let mut index = 0;
                        part.visit_mut(&mut |param| {
                            if index == k {
                                param.value_mut()[at] += step;
                            }
                            index += 1;
                        });
                        of(&panel, &x).value
                    };
                    let differences = (moved(STEP) - moved(-2.0 * STEP)) / (2.0 * STEP);
                    moved(STEP);
                    assert!(
                        (slope - differences).abs() < EXACT,
                        "{k} {at:?} {slope} {differences}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_single_expert_is_the_distance_of_its_map() {
        let panel = Panel::<f64>::new(1, 7, 2, 3).unwrap();
        let (x, t) = (random(1, (4, 2)), random(2, (4, 3)));
        let value = panel.map(x.view(), t.view(), random(3, (4, 1)).view(), 0.3).unwrap().value;
        let y = panel.experts.infer(&Cx::without_graph(), Value::from(x).view()).unwrap();
        let expected = (&y - &t).mapv(|off| off * off).sum() / 4.0;
        assert!((value - expected).abs() < 1e-12, "{value} {expected}");
    }

    #[test]
    fn the_selection_cools_and_its_noise_is_gumbels() {
        assert_eq!((temperature(1), temperature(101), temperature(1000)), (1.0, 0.1, 0.1));
        assert!((temperature(51) - 0.1f64.sqrt()).abs() < 1e-12);
        let mut draws = Draws::of(3, &[]);
        let all: Vec<f64> = (0..20_000).map(|_| gumbel(&mut draws)).collect();
        let mean = all.iter().sum::<f64>() / 20_000.0;
        // Euler's constant; the deviation of the mean is 0.009.
        assert!((mean - 0.5772).abs() < 0.04, "{mean}");
        let shares =
            chosen(ndarray::array![1.0, 3.0].view(), ndarray::array![2.0, 0.0].view(), 0.1);
        assert_eq!(shares, [0.5, 0.5]);
    }
}
