//! Which form scores take: integers, or floats made of the stored integers.

use super::stored::StoredTable;
use crate::kernels::{Isa, looks_up_fast};
use crate::nn::decode::Match;
use crate::nn::{self, Candidates, Queries, Rows};
use crate::program::Form;
use crate::quant::forms::Forms;
use crate::quant::model::{QuantModel, QuantOp};

/// Nanoseconds on one core; only their ratios matter. As in `forms` a rule and not a clock, of
/// what 128 channels take beside the kernels' times there.
struct Costs {
    /// A multiply-add of each form.
    int: f64,
    float: f64,
    /// A number of a row that is made ready for a product with some queries: unpacked and laid
    /// out, and unpacked and scaled.
    int_number: f64,
    float_number: f64,
    /// A score that is scaled and put in its place.
    int_score: f64,
    float_score: f64,
}

const AVX2: Costs = Costs {
    int: 0.018,
    float: 0.03,
    int_number: 0.4,
    float_number: 0.5,
    int_score: 0.8,
    float_score: 0.3,
};
/// The integers of AVX2 beside wider floats.
const AVX512: Costs = Costs { float: 0.0125, ..AVX2 };
const VNNI: Costs =
    Costs { int: 0.0115, int_number: 0.2, int_score: 1.0, float_number: 0.7, ..AVX512 };

/// The form of every stage of a model with stages on rows: floats, but for scores that integers
/// make faster, and the table that is read for these alone.
pub(in crate::quant) fn forms(
    model: &QuantModel,
    rows: &Rows<f32>,
    isa: Isa,
    forms: Forms,
) -> Vec<Form> {
    let asked = rows.asked();
    let mut all = vec![Form::Floats; model.stages.len()];
    for k in 0..all.len() {
        let Some(table) = model.scored_table(k) else { continue };
        if !model.scores_on_integers(k, asked) {
            continue;
        }
        let width = model.width_of(table + 1) as f64;
        let queries = asked.map_or(0, |asked| asked.queries().len()) as f64;
        let QuantOp::Embedding(stored) = &model.stages[table].op else { continue };
        // Codes and signs stand where the table has them: no row of a batch is another one's.
        if stored.ints().is_none() && rows.node_ids().is_some() {
            continue;
        }
        let pays = match stored {
            StoredTable::Ints(_) => pays(width, queries, isa),
            StoredTable::Codes(codes) => looking_up_pays(codes.is_of_halves(), queries, isa),
            // Rows of the table itself are compared bit by bit; other queries are looked up as
            // bytes.
            StoredTable::Signs(_) => {
                model.asks_for_rows(k) && isa != Isa::Portable
                    || looking_up_pays(false, queries, isa)
            }
        };
        if forms == Forms::Integers || (forms == Forms::Fastest && pays) {
            all[k] = Form::Integers;
            if model.stages.iter().filter(|stage| stage.inputs.contains(&(table + 1))).count() == 1
            {
                all[table] = Form::Integers;
            }
        }
    }
    all
}

fn pays(width: f64, queries: f64, isa: Isa) -> bool {
    let costs = match isa {
        // What was not measured has floats.
        Isa::Portable => return false,
        Isa::Avx2 => AVX2,
        Isa::Avx512 => AVX512,
        Isa::Vnni => VNNI,
    };
    let queries = queries.clamp(1.0, 128.0);
    let ints = width * (costs.int + costs.int_number / queries) + costs.int_score;
    let floats = width * (costs.float + costs.float_number / queries) + costs.float_score;
    ints < floats
}

/// Whether look-ups beat floats that are made of codes or signs.
fn looking_up_pays(halves: bool, queries: f64, isa: Isa) -> bool {
    // In registers always; byte by byte where rows would be put together for few queries.
    looks_up_fast(isa, halves) || queries <= FEW
}

/// Queries up to which sums of bytes that are looked up one by one beat a product.
const FEW: f64 = 4.0;

impl QuantModel {
    /// The stage of the table whose rows stage `k` scores, and nothing in between.
    pub(in crate::quant) fn scored_table(&self, k: usize) -> Option<usize> {
        let stage = &self.stages[k];
        let table = stage.inputs.first()?.checked_sub(1)?;
        let of = &self.stages[table];
        let plain = of.bias.is_none() && of.activation.is_none();
        let is_table = matches!(of.op, QuantOp::Embedding(_));
        (matches!(stage.op, QuantOp::Decoder(_)) && is_table && plain).then_some(table)
    }

    /// Whether the queries of stage `k` are rows of the table themselves.
    fn asks_for_rows(&self, k: usize) -> bool {
        matches!(&self.stages[k].op, QuantOp::Decoder(decoder) if decoder.form == nn::Form::Dot)
    }

    /// Whether the scores of stage `k` have a form of integers: dot products with the rows of a
    /// table that all queries are compared with.
    pub(in crate::quant) fn scores_on_integers(&self, k: usize, asked: Option<&Queries>) -> bool {
        let QuantOp::Decoder(decoder) = &self.stages[k].op else { return false };
        let is_dot = decoder.form.compares_by() == Match::Dot;
        let same = asked.is_some_and(|asked| matches!(asked.candidates(), Candidates::Range(_)));
        is_dot && same && self.scored_table(k).is_some()
    }
}
