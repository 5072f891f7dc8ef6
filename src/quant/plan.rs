//! From stages to instructions: sums of products are made where their terms are, and every value
//! gets a buffer.

use super::lower::{Lowerer, Op};
use super::model::{QuantModel, QuantOp};
use crate::nn::ActivationFn;
use crate::program::{self, Buffers, Form, Span};

/// Where an instruction reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The model's input.
    Input,
    /// Its integers with a scale per channel.
    InputByChannel,
    /// A buffer of integers, and their rows and width.
    Ints(usize, (usize, usize)),
    /// A buffer of floats, and their rows and width.
    Reals(usize, (usize, usize)),
}

/// An operation and what it reads.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) op: Op,
    pub(super) inputs: Vec<Source>,
}

/// Where floats go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reals {
    Nowhere,
    Buffer(usize),
    Output,
}

/// One pass over the nodes.
#[derive(Debug, Clone)]
pub(super) struct Instruction {
    /// One operation, or products that are added up.
    pub(super) parts: Vec<Part>,
    /// Rows of its value: nodes, graphs, or pairs.
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) activation: Option<ActivationFn>,
    pub(super) reals: Reals,
    /// Buffer and scale of the integers that are kept.
    pub(super) ints: Option<(usize, f32)>,
}

/// A program without its buffers' memory.
pub(super) struct Plan {
    pub(super) instructions: Vec<Instruction>,
    /// Entries of each buffer of integers, and of each of floats.
    pub(super) int_lens: Vec<usize>,
    pub(super) real_lens: Vec<usize>,
}

/// An instruction before buffers are known: its terms and the stage whose value it makes.
struct Step {
    terms: Vec<(usize, Op)>,
    makes: usize,
}

impl Plan {
    /// `rows` are those of the input and of the value of each stage.
    pub(super) fn of(
        model: &QuantModel,
        rows: &[usize],
        forms: &[Form],
        lowerer: &mut Lowerer,
    ) -> Self {
        let steps = steps(model, forms, lowerer);
        // Which values are read as integers and as floats, and by whom last.
        let count = model.stages.len() + 1;
        let (mut ints, mut reals) = (vec![None; count], vec![None; count]);
        for (at, step) in steps.iter().enumerate() {
            for (stage, op) in &step.terms {
                let read = if op.is_of_floats() { &mut reals } else { &mut ints };
                let inputs = model.stages[*stage].inputs.iter().filter(|_| op.reads());
                inputs.for_each(|&k| read[k] = Some(at));
            }
        }
        let last = steps.len() - 1;
        let (mut int_spans, mut real_spans) = (Vec::new(), Vec::new());
        for (at, step) in steps.iter().enumerate() {
            let value = step.makes + 1;
            let len = rows[value] * model.stages[step.makes].width;
            let floats =
                step.terms[0].1.is_of_floats() || step.terms.len() > 1 || reals[value].is_some();
            if let Some(dies) = ints[value] {
                int_spans.push(Span { value, born: at, dies, len });
            }
            if floats && at != last {
                real_spans.push(Span { value, born: at, dies: reals[value].unwrap_or(at), len });
            }
        }
        let (ints, reals) = (Buffers::plan(int_spans), Buffers::plan(real_spans));
        const READ: &str = "what is read has a buffer";
        let shape = |k: usize| (rows[k], model.width_of(k));
        let instructions = steps.into_iter().enumerate().map(|(at, step)| {
            let stage = &model.stages[step.makes];
            let source = |k: usize, on_floats: bool| match (k, on_floats) {
                (0, true) => Source::Input,
                (0, false) => Source::InputByChannel,
                (_, true) => Source::Reals(reals.of(k).expect(READ), shape(k)),
                (_, false) => Source::Ints(ints.of(k).expect(READ), shape(k)),
            };
            let part = |(of, op): (usize, Op)| {
                let on_floats = op.is_of_floats() || matches!(op, Op::FromInput { .. });
                let inputs = model.stages[of].inputs.iter().filter(|_| op.reads());
                Part { inputs: inputs.map(|&k| source(k, on_floats)).collect(), op }
            };
            let value = step.makes + 1;
            Instruction {
                rows: rows[value],
                parts: step.terms.into_iter().map(part).collect(),
                width: stage.width,
                bias: stage.bias.clone(),
                activation: stage.activation,
                reals: match reals.of(value) {
                    _ if at == last => Reals::Output,
                    None => Reals::Nowhere,
                    Some(buffer) => Reals::Buffer(buffer),
                },
                ints: ints.of(value).zip(stage.scale),
            }
        });
        let instructions = instructions.collect();
        Plan { instructions, int_lens: ints.lens, real_lens: reals.lens }
    }
}

/// One step per stage, but for plain sums on floats of products that nothing else reads, which are
/// one step, and for tables that are read for scores alone, which are none.
fn steps(model: &QuantModel, forms: &[Form], lowerer: &mut Lowerer) -> Vec<Step> {
    let mut readers = vec![0; model.stages.len() + 1];
    model.stages.iter().flat_map(|stage| &stage.inputs).for_each(|&k| readers[k] += 1);
    let mut steps: Vec<Step> = Vec::new();
    for k in (0..model.stages.len()).filter_map(|k| model.scored_table(k)) {
        readers[k + 1] -= 1;
    }
    for (makes, stage) in model.stages.iter().enumerate() {
        let unread = makes + 1 < model.stages.len() && readers[makes + 1] == 0;
        if unread && matches!(stage.op, QuantOp::Embedding(_)) {
            continue;
        }
        let term = |&k: &usize| {
            let at = steps.iter().position(|step| step.makes + 1 == k)?;
            let [(of, op)] = &steps[at].terms[..] else { return None };
            let of = &model.stages[*of];
            let plain = readers[k] == 1 && of.bias.is_none() && of.activation.is_none();
            (plain && op.is_product() && !(lowerer.sparse && of.inputs[0] == 0)).then_some(at)
        };
        let plain = matches!(&stage.op, QuantOp::Add(a) if forms[makes] == Form::Floats && a.len() > 1 && a.iter().all(|&a| a == 1.0));
        let terms: Option<Vec<usize>> =
            if plain { stage.inputs.iter().map(term).collect() } else { None };
        match terms {
            Some(terms) => {
                let taken = terms
                    .iter()
                    .map(|&at| std::mem::take(&mut steps[at].terms))
                    .collect::<Vec<_>>()
                    .concat();
                steps.retain(|step| !step.terms.is_empty());
                steps.push(Step { terms: taken, makes });
            }
            None => {
                steps.push(Step { terms: vec![(makes, lowerer.lower(makes, forms[makes]))], makes })
            }
        }
    }
    steps
}

impl std::fmt::Display for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |part: &Part| format!("{} on {}", part.op.name(), part.op.form());
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        write!(f, "{} -> {}", parts.join(" + "), self.width)
    }
}

impl Instruction {
    /// Whether some of it reads the model's input as it is, other than by quantising its rows.
    pub(super) fn reads_floats(&self) -> bool {
        let on_floats = |part: &Part| {
            part.op.is_of_floats() && part.inputs.iter().any(|input| matches!(input, Source::Input))
        };
        self.parts.iter().any(on_floats)
    }

    pub(super) fn quantizes_rows(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.op, Op::FromInput { .. }))
    }

    pub(super) fn reads_channels(&self) -> bool {
        self.parts
            .iter()
            .flat_map(|part| &part.inputs)
            .any(|input| matches!(input, Source::InputByChannel))
    }

    /// Multiply-accumulates of one run: stored non-zeros × width for a sparse operand, `n·in·out`
    /// for a dense product.
    pub(super) fn macs(&self, input_stored: usize, sparse_input: bool, in_channels: usize) -> u64 {
        let rows = self.rows;
        let of = |part: &Part| match &part.op {
            Op::FromInput { .. } => input_stored * self.width,
            Op::Linear { packed, .. } => rows * packed.len(),
            Op::Aggregate { operator, .. } => operator.ints.len() * self.width,
            Op::Floats(program::Op::Linear(weight)) if sparse_input => {
                input_stored * weight.ncols()
            }
            Op::Floats(program::Op::Linear(weight)) => rows * weight.len(),
            Op::Floats(program::Op::PackedLinear(weight)) => rows * weight.dim().0 * weight.dim().1,
            Op::Floats(program::Op::SparseLinear(weight)) => rows * weight.nnz(),
            Op::Floats(program::Op::Aggregate(operator, _) | program::Op::Pool(operator, _)) => {
                operator.stored() * self.width
            }
            Op::Rows(op) => op.macs(match part.inputs.first() {
                Some(Source::Reals(_, (_, width)) | Source::Ints(_, (_, width))) => *width,
                _ => in_channels,
            }),
            Op::Add(_) | Op::Concat(_) | Op::Floats(_) => 0,
        };
        self.parts.iter().map(|part| of(part) as u64).sum()
    }
}
