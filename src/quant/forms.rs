//! Which form each stage takes: integers, or floats made of the stored integers.
//!
//! The choice follows a model of costs that knows the shapes, the stored entries and the level of
//! instructions, and nothing else: no clock, no number of threads. So the same model on the same
//! graph computes the same bits in every run on machines of one level.

use super::model::{QuantModel, QuantOp, QuantStage};
use crate::graph::Graph;
use crate::kernels::Isa;
use crate::program::{Form, product_cost};
use crate::value::ValueRef;

/// Which forms a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Forms {
    /// For each stage the one that is faster for its shape.
    #[default]
    Fastest,
    /// Every stage on integers: the same bits on every machine.
    Integers,
    /// Every stage on floats.
    Floats,
}

/// What it takes to choose: integers must promise this share of the time of floats, or less.
const MARGIN: f64 = 0.9;

/// Nanoseconds on one core, fitted to measurements; `docs/quantization.md` says to which. Only
/// their ratios matter.
struct Costs {
    /// A multiply-add of a dense product ...
    float_dense: f64,
    int_dense: f64,
    /// ... of one with few columns, each a sum along its row ...
    int_narrow: f64,
    /// ... and what an entry of its left operand takes to be laid out for integers.
    int_operand: f64,
    /// An entry of a sparse product, on integers for each pass over the channels ...
    float_entry: f64,
    int_entry: f64,
    /// ... and each of its channels; entries that are all equal are not multiplied.
    float_channel: f64,
    int_channel: f64,
    equal_channel: f64,
    /// Channels of a pass, in general and for equal entries.
    pass: [f64; 2],
    /// A line of 64 bytes of a gathered row that comes from the third cache: more of them are under
    /// way where rows are wide.
    float_line: f64,
    int_line: f64,
    /// A row of an integer product, and a number of it: its requantisation.
    int_row: f64,
    finish: f64,
    /// A number of a term of a join.
    float_join: f64,
    int_join: f64,
    /// From a float to an integer.
    quantize: f64,
}

const AVX2: Costs = Costs {
    float_dense: 0.03,
    int_dense: 0.018,
    int_narrow: 0.036,
    int_operand: 0.25,
    float_entry: 0.8,
    int_entry: 2.0,
    float_channel: 0.075,
    int_channel: 0.02,
    equal_channel: 0.02,
    pass: [64.0, 128.0],
    float_line: 0.5,
    int_line: 2.5,
    int_row: 25.0,
    finish: 0.43,
    float_join: 0.35,
    int_join: 0.8,
    quantize: 0.5,
};

/// Four times the arithmetic of AVX2 on integers and twice on floats; the rest as there.
const VNNI: Costs = Costs {
    float_dense: 0.02,
    int_dense: 0.008,
    int_operand: 0.0,
    int_channel: 0.012,
    equal_channel: 0.012,
    pass: [256.0, 256.0],
    ..AVX2
};

/// Columns up to which a product is narrow.
const NARROW: f64 = 8.0;

/// Stages up to which single changes are tried: each looks at all of them.
const MOST_IMPROVED: usize = 512;

/// A line from memory, at every level.
const MEMORY_LINE: f64 = 7.0;
/// The same, one after the other.
const STREAMED_LINE: f64 = 2.0;

/// Bytes up to which gathered rows lie in the second cache and in a core's part of the third: those
/// of common server cores, so that the choice does not follow the machine.
const NEAR: f64 = 512e3;
const FAR: f64 = 10e6;
/// Narrow rows of integers were seen to slow down from here on already.
const NEAR_INTS: f64 = 256e3;

/// Chooses a form for every stage on a graph, for so many rows of the input and of each value.
pub(super) fn choose(
    model: &QuantModel,
    (graph, rows): (&Graph, &[usize]),
    x: &ValueRef<f32>,
    isa: Isa,
    forms: Forms,
) -> Vec<Form> {
    let all = |form| vec![form; model.stages.len()];
    match forms {
        Forms::Integers => all(Form::Integers),
        Forms::Floats => all(Form::Floats),
        Forms::Fastest => {
            let costs = match isa {
                // What was not measured has floats.
                Isa::Portable => return all(Form::Floats),
                Isa::Avx2 | Isa::Avx512 => &AVX2,
                Isa::Vnni => &VNNI,
            };
            Chooser::new(model, (graph, rows), x, costs).best()
        }
    }
}

struct Chooser<'a> {
    model: &'a QuantModel,
    /// Of each stage on integers and on floats.
    stages: Vec<(f64, f64)>,
    /// From floats to integers, of each stage's output.
    quantize: Vec<f64>,
    /// The input with a scale per channel.
    quantize_input: f64,
}

impl<'a> Chooser<'a> {
    fn new(
        model: &'a QuantModel,
        (graph, rows): (&Graph, &[usize]),
        x: &ValueRef<f32>,
        costs: &Costs,
    ) -> Self {
        let of = |k: usize| costs.stage(model, k, (graph, rows), x);
        let numbers = |k: usize| (rows[k] * model.width_of(k)) as f64;
        Self {
            model,
            stages: (0..model.stages.len()).map(of).collect(),
            quantize: (1..rows.len()).map(|k| numbers(k) * costs.quantize).collect(),
            quantize_input: numbers(0) * costs.quantize,
        }
    }

    /// The cheapest that was found from three starts; floats, where it does not promise enough.
    fn best(&self) -> Vec<Form> {
        let all = |form| vec![form; self.stages.len()];
        let floats = all(Form::Floats);
        let own = self
            .stages
            .iter()
            .map(|cost| if cost.0 < cost.1 { Form::Integers } else { Form::Floats });
        let starts = [all(Form::Integers), own.collect(), floats.clone()];
        let best = starts
            .into_iter()
            .map(|start| self.improve(start))
            .min_by(|a, b| self.total(a).total_cmp(&self.total(b)));
        best.filter(|best| self.total(best) < MARGIN * self.total(&floats)).unwrap_or(floats)
    }

    fn total(&self, forms: &[Form]) -> f64 {
        let mut total: f64 = forms
            .iter()
            .zip(&self.stages)
            .map(|(form, cost)| if *form == Form::Integers { cost.0 } else { cost.1 })
            .sum();
        let mut as_ints = vec![false; forms.len() + 1];
        for (stage, form) in self.model.stages.iter().zip(forms) {
            // A product quantises the rows of the input itself.
            let by_node = matches!(stage.op, QuantOp::Linear(_));
            let inputs = stage.inputs.iter().filter(|&&k| k > 0 || !by_node);
            inputs.filter(|_| *form == Form::Integers).for_each(|&k| as_ints[k] = true);
        }
        total += if as_ints[0] { self.quantize_input } else { 0.0 };
        let quantized = (0..forms.len()).filter(|&k| as_ints[k + 1] && forms[k] == Form::Floats);
        total + quantized.map(|k| self.quantize[k]).sum::<f64>()
    }

    /// Changes single stages, and pairs of neighbours, as long as that is cheaper.
    fn improve(&self, mut forms: Vec<Form>) -> Vec<Form> {
        if forms.len() > MOST_IMPROVED {
            return forms;
        }
        let mut best = self.total(&forms);
        let other = |form| if form == Form::Integers { Form::Floats } else { Form::Integers };
        loop {
            let before = best;
            for (k, count) in (0..forms.len()).flat_map(|k| [(k, 1), (k, 2)]) {
                let changed = k..forms.len().min(k + count);
                forms[changed.clone()].iter_mut().for_each(|form| *form = other(*form));
                let total = self.total(&forms);
                if total < best {
                    best = total;
                } else {
                    forms[changed].iter_mut().for_each(|form| *form = other(*form));
                }
            }
            if best >= before {
                return forms;
            }
        }
    }
}

impl Costs {
    /// Nanoseconds of stage `k` on integers and on floats, which have four times the bytes to read
    /// and to write.
    fn stage(
        &self,
        model: &QuantModel,
        k: usize,
        (graph, rows): (&Graph, &[usize]),
        x: &ValueRef<f32>,
    ) -> (f64, f64) {
        let stage = &model.stages[k];
        let (ints, floats) = self.arithmetic(model, stage, (graph, rows[k + 1]), x);
        let numbers = |k: usize| rows[k] * model.width_of(k);
        let read = stage.inputs.iter().filter(|&&k| k > 0).map(|&k| numbers(k)).sum::<usize>();
        let bytes = (read + numbers(k + 1)) as f64;
        (ints + stream(bytes), floats + stream(4.0 * bytes))
    }

    /// `rows` are those of the stage's value.
    fn arithmetic(
        &self,
        model: &QuantModel,
        stage: &QuantStage,
        (graph, rows): (&Graph, usize),
        x: &ValueRef<f32>,
    ) -> (f64, f64) {
        let (rows, width) = (rows as f64, stage.width as f64);
        let finish = rows * width * self.finish;
        match &stage.op {
            QuantOp::Linear(weight) => {
                let inner = weight.shape.0 as f64;
                match x {
                    ValueRef::Sparse(x) if stage.inputs[0] == 0 => {
                        let equal = has_equal_rows(x.indptr().raw_storage(), x.data());
                        let (ints, floats) = self.gather(rows, x.nnz() as f64, width, inner, equal);
                        (ints + finish + x.nnz() as f64 * self.quantize, floats)
                    }
                    _ => {
                        // The AVX2 form of few columns has neither panels nor an operand to lay
                        // out.
                        let narrow = width <= NARROW && self.int_operand > 0.0;
                        // Of a row: columns are multiplied in whole registers; floats know what is
                        // zero.
                        let macs = inner * (width / 8.0).ceil() * 8.0;
                        let stored = weight.ints.iter().filter(|q| **q != 0).count();
                        let sparse = product_cost(stored, weight.shape) as f64;
                        let floats = if sparse < inner * width { sparse } else { macs };
                        let input = if stage.inputs[0] == 0 { self.quantize } else { 0.0 };
                        let product = if narrow {
                            inner * width * self.int_narrow
                        } else {
                            macs * self.int_dense + inner * self.int_operand
                        };
                        let ints = rows * (self.int_row + product + inner * input);
                        (ints + finish, rows * floats * self.float_dense)
                    }
                }
            }
            QuantOp::Aggregate(norm) => {
                let operator =
                    graph.operator(*norm).expect("it was built before the forms are chosen");
                let (starts, _, values) = operator.forward().into_raw_storage();
                let (ints, floats) = self.gather(
                    rows,
                    values.len() as f64,
                    width,
                    rows,
                    has_equal_rows(starts, values),
                );
                (ints + finish, floats)
            }
            // Every node is of one graph, and all of a graph weigh the same.
            QuantOp::Pool(_) => {
                let nodes = graph.num_nodes() as f64;
                let (ints, floats) = self.gather(rows, nodes, width, nodes, true);
                (ints + finish, floats)
            }
            // Most sums of two products are added up where they are made.
            QuantOp::Add(coefficients)
                if coefficients.iter().all(|&a| a == 1.0) && sums_products(model, stage) =>
            {
                (
                    rows * width * self.int_join * stage.inputs.len() as f64 + finish,
                    rows * width * self.float_join,
                )
            }
            QuantOp::Add(_)
            | QuantOp::Concat
            | QuantOp::Embedding(_)
            | QuantOp::Normalize
            | QuantOp::Decoder(_) => {
                let numbers = rows * width * stage.inputs.len() as f64;
                (numbers * self.int_join + finish, numbers * self.float_join)
            }
        }
    }

    /// A product with a sparse left operand, on integers and on floats.
    fn gather(&self, rows: f64, stored: f64, width: f64, gathered: f64, equal: bool) -> (f64, f64) {
        let (channel, pass) = if equal {
            (self.equal_channel, self.pass[1])
        } else {
            (self.int_channel, self.pass[0])
        };
        // Integers are taken 16 at a time, and what is no multiple of 32 in a pass of its own.
        let passes = (width / pass).ceil() + if width % 32.0 > 0.0 && !equal { 1.0 } else { 0.0 };
        let ints = self.int_entry * passes
            + channel * (width / 16.0).ceil() * 16.0
            + fetch(width, gathered * width, NEAR_INTS, self.int_line);
        let channels = (width / 8.0).ceil() * 8.0;
        let floats = self.float_entry
            + self.float_channel * channels
            + fetch(4.0 * width, 4.0 * gathered * width, NEAR, self.float_line);
        (stored * ints + rows * self.int_row, stored * floats)
    }
}

/// Reading or writing so many bytes one after the other.
fn stream(bytes: f64) -> f64 {
    bytes / 64.0 * (1.0 - FAR / bytes).max(0.0) * STREAMED_LINE
}

/// Fetching a row of so many bytes out of so many, where a line of the third cache costs `line`.
fn fetch(bytes: f64, of: f64, near: f64, line: f64) -> f64 {
    // What share of the rows lies beyond a cache.
    let beyond = |cache: f64| (1.0 - cache / of).clamp(0.0, 1.0);
    // A row that is no multiple of a line begins anywhere in one.
    let lines = if bytes % 64.0 > 0.0 { (bytes + 63.0) / 64.0 } else { bytes / 64.0 };
    lines * (beyond(near) * line + beyond(FAR) * MEMORY_LINE)
}

/// Whether a sum's terms are products that nothing else is done to.
fn sums_products(model: &QuantModel, stage: &QuantStage) -> bool {
    stage.inputs.iter().all(|&k| {
        k > 0 && matches!(model.stages[k - 1].op, QuantOp::Linear(_) | QuantOp::Aggregate(_))
    })
}

/// Whether nearly all rows have entries of one value.
fn has_equal_rows(starts: &[usize], values: &[f32]) -> bool {
    let equal = |row: &&[usize]| values[row[0]..row[1]].windows(2).all(|pair| pair[0] == pair[1]);
    let count = starts.windows(2).filter(equal).count();
    count * 10 >= (starts.len() - 1) * 9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits, Dataset, Gcn, Quantizer};

    #[test]
    fn integers_must_gain_their_margin_and_pay_for_what_is_made_integers() {
        let data = Dataset::sbm(180, 3).features(4).degree(4.0).seed(1).build().unwrap();
        let model = Quantizer::builder(Bits::Eight)
            .build()
            .unwrap()
            .quantize(&Gcn::builder(4, 3).hidden(3).build(0).unwrap(), &data)
            .unwrap();
        let count = model.stages.len();
        let chooser = |ints: f64, quantize: f64| Chooser {
            model: &model,
            stages: vec![(ints, 1.0); count],
            quantize: vec![quantize; count],
            quantize_input: quantize,
        };
        assert_eq!(chooser(0.8, 0.0).best(), vec![Form::Integers; count]);
        assert_eq!(
            chooser(0.95, 0.0).best(),
            vec![Form::Floats; count],
            "a twentieth is not worth it"
        );
        // Integers that read integers pay nothing more; the first that reads floats pays for them.
        let (ints, floats) = (vec![Form::Integers; count], vec![Form::Floats; count]);
        let input = if model
            .stages
            .iter()
            .any(|stage| stage.inputs.contains(&0) && !matches!(stage.op, QuantOp::Linear(_)))
        {
            5.0
        } else {
            0.0
        };
        assert_eq!(chooser(0.5, 5.0).total(&ints), 0.5 * count as f64 + input);
        assert_eq!(chooser(0.5, 5.0).total(&floats), count as f64);
        let last = [&floats[1..], &ints[..1]].concat();
        assert_eq!(chooser(0.5, 5.0).total(&last), (count - 1) as f64 + 0.5 + 5.0);
    }
}
