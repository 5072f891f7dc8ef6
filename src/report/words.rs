//! What a report says in words: the sentence under its table, what got slower and why, and what
//! each control is.

use super::control::Control;
use super::difference::{Difference, Verdict};
use super::row::{Compares, Report, Row};
use crate::quant::Form;
use crate::task::{Better, Metric};

/// Who is not told apart does as well only if more points than these can be ruled out.
const AS_WELL: f64 = 1.0;
/// A ratio of times that is less than this apart from 1 is no difference: two runs of one program
/// vary as much.
const TIMES_ALIKE: f64 = 1.1;
/// The same of the fastest runs, which vary less.
const FASTEST_ALIKE: f64 = 1.05;

impl Report {
    /// One line of plain words: what the last stage won and lost against the dense model, and how
    /// it stands against the narrow control.
    ///
    /// Points are means of differences seed by seed, ± their standard error; with one seed nothing
    /// is said about spread. *Better* and
    /// *worse* are what [`Difference::verdict`] tells apart. Where models are compared, each stands
    /// against the first.
    pub fn summary(&self) -> String {
        let mut stages = self.stages();
        let Some(first) = stages.next() else { return "no model".into() };
        let rest: Vec<&Row> = stages.collect();
        match (self.compares, rest.last()) {
            (_, None) => format!("{}: {}", first.name, self.alone(first)),
            (Compares::Models, _) => {
                let against: Vec<String> = rest
                    .iter()
                    .map(|row| format!("{}: {}", row.name, gains(row, first, ONE_MODEL)))
                    .collect();
                let same = self.seeds.windows(2).all(|pair| pair[0] == pair[1]);
                let unlike =
                    if same { "" } else { "; their seeds differ, and so may their test nodes" };
                format!("against {}, {}{unlike}", first.name, against.join("; "))
            }
            (Compares::Stages, Some(last)) => match self.rival(first) {
                Some((row, what)) => {
                    format!("{}; {what} {}", gains(last, first, ONE_SEED), compared(row, last))
                }
                None => gains(last, first, ONE_SEED),
            },
        }
    }

    /// Remarks to the table, a line each: what got slower or no faster, and why; what the times are
    /// worth.
    pub fn notes(&self) -> Vec<String> {
        let stages: Vec<&Row> = self.stages().collect();
        let before = |k: usize| match self.compares {
            Compares::Stages => stages[k - 1],
            Compares::Models => stages[0],
        };
        let mut notes: Vec<String> =
            (1..stages.len()).filter_map(|k| self.slower(stages[k], before(k))).collect();
        notes.extend(self.training_graph.clone());
        if self.compares == Compares::Stages {
            notes.extend((1..stages.len()).filter_map(|k| hops(&stages, k)));
        }
        if let Some(last) = stages.last() {
            let times = &last.account.latency_ms;
            let ratio = times.threads_all.median / times.threads_1.median;
            if ratio > TIMES_ALIKE {
                notes.push(format!(
                    "`{}` is {} slower on all threads than on one: so short a run is not worth sharing",
                    last.name,
                    x(ratio)
                ));
            }
        }
        if !self.machine.optimised {
            notes.push("built without optimisation, so that times are worth little: build with `--release`".into());
        }
        notes
    }

    /// The controls, what each is, and how the last stage stands against it.
    pub fn controls(&self) -> Vec<Control> {
        let Some(last) = self.stages().last().filter(|_| self.compares == Compares::Stages) else {
            return Vec::new();
        };
        let controls = self.rows.iter().filter(|row| Self::is_control(row));
        let words = |row: &Row| Control {
            name: row.name.clone(),
            meaning: meaning(&row.name).into(),
            verdict: compared(row, last),
        };
        controls.map(words).collect()
    }

    fn alone(&self, row: &Row) -> String {
        let (account, accuracy) = (&row.account, &row.accuracy);
        let spread = match accuracy.per_seed.len() {
            0 | 1 if self.compares == Compares::Models => String::new(),
            0 | 1 => " (one seed: nothing can be said about spread)".into(),
            seeds => format!(" (± {} over {seeds} seeds)", row.metric.number(accuracy.std)),
        };
        let (kilobytes, time) =
            (account.bytes.weights as f64 / 1e3, account.latency_ms.threads_1.median);
        format!(
            "{} {}{spread}, {kilobytes:.1} kB, {time:.3} ms on one thread",
            row.metric.title(),
            row.metric.shown(accuracy.mean)
        )
    }

    /// The control that the summary speaks of, with its words: what is as wide as the dense model
    /// is no control of it.
    fn rival(&self, dense: &Row) -> Option<(&Row, &'static str)> {
        let rivals = [
            ("narrow control", "a narrow network from scratch"),
            ("bytes control", "a network of the same bytes from scratch"),
        ];
        let found = |(name, what)| Some((self.row(name)?, what));
        rivals.into_iter().filter_map(found).find(|(row, _)| {
            let size = |row: &Row| (row.account.params, row.account.macs);
            size(row) != size(dense)
        })
    }

    /// What to say where `row` is slower than `before`, or no faster although its weights are
    /// masked or integers.
    fn slower(&self, row: &Row, before: &Row) -> Option<String> {
        let (now, then) = (&row.account.latency_ms.threads_1, &before.account.latency_ms.threads_1);
        let ratio = now.median / then.median;
        let slower = ratio > TIMES_ALIKE && now.min / then.min > FASTEST_ALIKE;
        let reason = self.reason(row, before);
        match (slower, reason) {
            (true, reason) => {
                let reason =
                    reason.unwrap_or_else(|| "its counted work is no more, so it is the timing or what else the machine did".into());
                Some(format!(
                    "`{}` is {} slower on one thread than `{}`: {reason}",
                    row.name,
                    x(ratio),
                    before.name
                ))
            }
            (false, Some(reason)) if ratio * TIMES_ALIKE > 1.0 => Some(format!(
                "`{}` is no faster on one thread than `{}`: {reason}",
                row.name, before.name
            )),
            _ => None,
        }
    }

    /// What the models are judged by, in words.
    pub(super) fn metric_name(&self) -> &'static str {
        self.rows.first().map_or("metric", |row| row.metric.title())
    }

    /// The same beside an axis, with its unit.
    pub(super) fn metric_label(&self) -> String {
        match self.rows.first() {
            Some(row) if !row.metric.is_percent() => row.metric.title().into(),
            _ => format!("{}, %", self.metric_name()),
        }
    }

    /// Why less is stored in `row` than in `before` without less time, or why it takes more.
    fn reason(&self, row: &Row, before: &Row) -> Option<String> {
        let (account, then) = (&row.account, &before.account);
        if !account.forms.is_empty() && then.forms.is_empty() {
            let (stages, nodes) = (account.forms.len(), self.data.nodes);
            return Some(
                match account.forms.iter().filter(|form| form.form == Form::Integers).count() {
                    0 => format!(
                        "on {nodes} nodes none of its {stages} operations gains from integers, so all run on floats made of them"
                    ),
                    some => format!(
                        "{some} of its {stages} operations run on integers, and on {nodes} nodes rounding what goes in and out costs what they save"
                    ),
                },
            );
        }
        let masked =
            account.nonzero_params < account.params && account.nonzero_params < then.nonzero_params;
        if account.forms.is_empty() && masked && account.params == then.params {
            let products = account.products;
            return Some(match products.sparse {
                0 => {
                    "its masked weights are multiplied as zeros: too few are zero, or its features are sparse, for a sparse product to pay"
                        .into()
                }
                sparse => format!("{sparse} of its {} products with weights skip what is masked", products.sparse + products.dense),
            });
        }
        let (more, less) = (account.macs as f64 / 1e6, then.macs as f64 / 1e6);
        (account.macs > then.macs)
            .then(|| format!("it has more work, {more:.2} MMACs after {less:.2}"))
    }
}

/// What the hops were worth that stage `k` took out, also after the fine-tuning that follows, and
/// whether what is left needs a graph.
fn hops(stages: &[&Row], k: usize) -> Option<String> {
    let (before, row) = (stages[k - 1], stages[k]);
    let (which, graph) = match row.name.strip_prefix("drop-hops ")? {
        "all" => ("all hops".to_string(), "; the model reads no graph any more"),
        "1" => ("one hop".to_string(), ""),
        count => (format!("{count} hops"), ""),
    };
    let tuned = stages.get(k + 1).filter(|row| row.name.starts_with("finetune "));
    let tuned = tuned.map_or(String::new(), |row| {
        format!(", after `{}` {}", row.name, points(row, before, ONE_SEED))
    });
    let worth = points(row, before, ONE_SEED);
    Some(format!("`{}` without {which}: {worth}{tuned}{graph}", before.name))
}

/// A ratio of at least 1: `4.0x`, `224x`.
pub(super) fn x(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1}x") } else { format!("{ratio:.0}x") }
}

/// `4.0x fewer bytes`, `1.2x more bytes`, `as many bytes`: how much less there is `now`.
pub(super) fn ratio(then: f64, now: f64, [less, more, same]: [&str; 3], alike: f64) -> String {
    match then / now {
        ratio if !ratio.is_finite() || ratio <= 0.0 || (ratio < alike && ratio > 1.0 / alike) => {
            same.into()
        }
        ratio if ratio > 1.0 => format!("{} {less}", x(ratio)),
        ratio => format!("{} {more}", x(1.0 / ratio)),
    }
}

/// Why nothing can be said about spread, of a compression ...
pub(super) const ONE_SEED: &str = "one seed";
/// ... and of models side by side.
const ONE_MODEL: &str = "one model each";
/// What rounds to 1.0.
pub(super) const ALIKE: f64 = 1.05;
/// Words of [`ratio`] for bytes.
pub(super) const BYTES: [&str; 3] = ["fewer bytes", "more bytes", "as many bytes"];
/// Words of [`ratio`] for time.
pub(super) const TIME: [&str; 3] =
    ["faster on one thread", "slower on one thread", "as fast on one thread"];
/// Words of [`ratio`] for work.
pub(super) const WORK: [&str; 3] =
    ["fewer multiply-adds", "more multiply-adds", "as many multiply-adds"];

/// `4.0x fewer bytes, 2.6x faster on one thread, +0.03 points (± 0.40 over 10 seeds)`.
fn gains(row: &Row, from: &Row, single: &str) -> String {
    let (now, then) = (&row.account, &from.account);
    let bytes = ratio(then.bytes.weights as f64, now.bytes.weights as f64, BYTES, ALIKE);
    let time =
        ratio(then.latency_ms.threads_1.median, now.latency_ms.threads_1.median, TIME, ALIKE);
    format!("{bytes}, {time}, {}", points(row, from, single))
}

/// `+0.03 points (± 0.40 over 10 seeds)`, and what it allows to be said.
pub(super) fn points(row: &Row, from: &Row, single: &str) -> String {
    let difference = Difference::between(&row.accuracy, &from.accuracy);
    let unit = match row.metric {
        Metric::ACCURACY => "points".into(),
        metric if metric.is_percent() => format!("points of {}", metric.title()),
        metric => metric.title().to_string(),
    };
    let mean = signed(row.metric, difference.mean);
    match difference.standard_error {
        None => format!("{mean} {unit} ({single}: nothing can be said about spread)"),
        Some(error) => {
            let untold =
                if difference.verdict() == Verdict::NotToldApart { ", not told apart" } else { "" };
            let (error, pairs) = (row.metric.number(error), difference.pairs);
            format!("{mean} {unit} (± {error} over {pairs} seeds{untold})")
        }
    }
}

/// How `control` does against `last`, as the end of a sentence.
fn compared(control: &Row, last: &Row) -> String {
    let difference = Difference::between(&control.accuracy, &last.accuracy);
    let Difference { mean, standard_error, .. } = difference;
    let metric = last.metric;
    let error =
        standard_error.map_or(String::new(), |error| format!(" ± {}", metric.number(error)));
    let unit = if metric.is_percent() { "points".into() } else { format!("of {}", metric.title()) };
    let by =
        |verdict: &str| format!("does {verdict} by {}{error} {unit}", metric.number(mean.abs()));
    let stands = signed(metric, mean);
    match (difference.verdict(), metric.better()) {
        (Verdict::Higher, Better::Higher) | (Verdict::Lower, Better::Lower) => by("better"),
        (Verdict::Lower, Better::Higher) | (Verdict::Higher, Better::Lower) => by("worse"),
        // How much of another unit is as good as nothing, nobody knows.
        (Verdict::NotToldApart, _) if metric.is_percent() && difference.is_within(AS_WELL) => {
            format!("does as well ({stands}{error} {unit})")
        }
        (Verdict::NotToldApart, _) => format!("is not told apart ({stands}{error} {unit})"),
        (Verdict::Unknown, _) => format!("stands at {stands} {unit} (one seed: no verdict)"),
    }
}

/// A difference with its sign, which what rounds to zero has as plus.
pub(super) fn signed(metric: Metric, difference: f64) -> String {
    let number = metric.number(difference.abs());
    let is_zero = number.bytes().all(|digit| matches!(digit, b'0' | b'.'));
    format!("{}{number}", if difference < 0.0 && !is_zero { '-' } else { '+' })
}

/// What a control is.
fn meaning(name: &str) -> &'static str {
    match name {
        "narrow control" => {
            "a network of the final shape, or of as many weights as are left unmasked, trained from scratch"
        }
        "bytes control" => {
            "a float network of the width whose file has about the final bytes, trained from scratch"
        }
        "random control" => "the same stages and amounts, with what is removed chosen at random",
        _ => "what the compression has to beat",
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{report, row};
    use super::*;
    use crate::program::Products;
    use crate::quant::StageForm;

    /// Ten values around `mean`, every second one higher by `spread`, the others lower.
    fn around(mean: f64, spread: f64) -> Vec<f64> {
        (0..10).map(|k| if k % 2 == 0 { mean + spread } else { mean - spread }).collect()
    }

    #[test]
    fn the_sentence_has_ratios_paired_points_and_the_control() {
        let small = |control: &[f64]| {
            let rows = vec![
                row("dense", &[80.0; 10], 4000, 1.3),
                row("channels 0.75", &around(80.03, 0.9), 1000, 0.5),
                row("narrow control", control, 1000, 0.5),
                row("random control", &[20.0; 10], 1000, 0.5),
            ];
            report(rows).summary()
        };
        // The deviation of ±0.9 over ten seeds is 0.9·√(10/9); by √10 it is 0.30.
        let gains = "4.0x fewer bytes, 2.6x faster on one thread, +0.03 points (± 0.30 over 10 seeds, not told apart)";
        let as_well = "a narrow network from scratch does as well (-0.03 ± 0.30 points)";
        assert_eq!(small(&[80.0; 10]), format!("{gains}; {as_well}"));
        // Chance explains half a point here, and would explain more than one: that is no evidence
        // of doing as well.
        let not_told = "a narrow network from scratch is not told apart (-0.53 ± 0.30 points)";
        assert_eq!(small(&[79.5; 10]), format!("{gains}; {not_told}"));
        assert_eq!(
            small(&[75.0; 10]),
            format!("{gains}; a narrow network from scratch does worse by 5.03 ± 0.30 points")
        );
        assert_eq!(
            small(&[85.0; 10]),
            format!("{gains}; a narrow network from scratch does better by 4.97 ± 0.30 points")
        );
    }

    #[test]
    fn one_seed_says_nothing_about_spread() {
        let rows = vec![
            row("dense", &[80.0], 4000, 1.0),
            row("finetune 5", &[79.0], 4000, 1.01),
            row("bits 8", &[79.5], 1000, 2.0),
            row("narrow control", &[70.0], 4000, 1.0),
            row("bytes control", &[60.0], 900, 1.0),
        ];
        let sentence = "4.0x fewer bytes, 2.0x slower on one thread, -0.50 points (one seed: nothing can be said about spread); a network of \
                        the same bytes from scratch stands at -19.50 points (one seed: no verdict)";
        assert_eq!(
            report(rows.clone()).summary(),
            sentence,
            "what is as wide as the dense model is no narrow control"
        );
        assert_eq!(
            report(rows[..1].to_vec()).summary(),
            "dense: accuracy 80.00 % (one seed: nothing can be said about spread), 4.0 kB, 1.000 ms on one thread"
        );
        let same =
            report(vec![row("dense", &[80.0], 4000, 1.0), row("finetune 5", &[80.0], 4000, 1.01)])
                .summary();
        assert_eq!(
            same,
            "as many bytes, as fast on one thread, +0.00 points (one seed: nothing can be said about spread)"
        );
    }

    #[test]
    fn models_stand_against_the_first_and_none_of_them_is_a_control() {
        let rows = vec![
            row("a", &[80.0], 4000, 1.0),
            row("b", &[79.0], 8000, 0.5),
            row("c control", &[81.0], 100, 1.0),
        ];
        let mut report = report(rows);
        report.compares = Compares::Models;
        let sentence = report.summary();
        assert!(
            sentence.starts_with(
                "against a, b: 2.0x more bytes, 2.0x faster on one thread, -1.00 points"
            ),
            "{sentence}"
        );
        assert!(sentence.contains("; c control: 40x fewer bytes"), "{sentence}");
        assert!(report.controls().is_empty());
        report.seeds = vec![3, 3, 3];
        assert!(
            report.summary().ends_with("(one model each: nothing can be said about spread)"),
            "{}",
            report.summary()
        );
        report.seeds = vec![3, 3, 4];
        assert!(
            report.summary().ends_with("; their seeds differ, and so may their test nodes"),
            "{}",
            report.summary()
        );
    }

    #[test]
    fn what_is_slower_is_named_with_its_reason() {
        let mut bits = row("bits 8", &[80.0], 1000, 1.4);
        let form = |form| StageForm { layer: "conv1".into(), operation: "linear", form };
        bits.account.forms = vec![form(Form::Integers), form(Form::Floats)];
        let notes = |rows: &[Row]| report(rows.to_vec()).notes();
        let dense = row("dense", &[80.0], 4000, 1.0);
        let [note] = notes(&[dense.clone(), bits.clone()]).try_into().unwrap();
        assert!(
            note.starts_with("`bits 8` is 1.4x slower on one thread than `dense`: 1 of its 2 operations run on integers, and on 200 nodes")
        );
        bits.account.forms = vec![form(Form::Floats); 2];
        bits.account.latency_ms = dense.account.latency_ms;
        let [note] = notes(&[dense.clone(), bits.clone()]).try_into().unwrap();
        assert!(
            note.starts_with("`bits 8` is no faster on one thread than `dense`: on 200 nodes none of its 2 operations gains"),
            "{note}"
        );
        bits.account.latency_ms = row("", &[], 0, 0.5).account.latency_ms;
        assert!(notes(&[dense.clone(), bits]).is_empty(), "what is faster needs no reason");

        let mut masked = row("weights 0.9", &[80.0], 4000, 1.0);
        masked.account.nonzero_params = 100;
        masked.account.products = Products { dense: 2, sparse: 0 };
        let [note] = notes(&[dense.clone(), masked.clone()]).try_into().unwrap();
        assert!(note.starts_with("`weights 0.9` is no faster on one thread than `dense`: its masked weights are multiplied as zeros"));
        masked.account.products = Products { dense: 1, sparse: 1 };
        let [note] = notes(&[dense.clone(), masked]).try_into().unwrap();
        assert!(note.ends_with("1 of its 2 products with weights skip what is masked"), "{note}");

        let mut wide = row("distill mlp:512", &[80.0], 4000, 3.0);
        wide.account.macs *= 2;
        let [note] = notes(&[dense.clone(), wide]).try_into().unwrap();
        assert!(
            note.ends_with(
                "3.0x slower on one thread than `dense`: it has more work, 2.00 MMACs after 1.00"
            ),
            "{note}"
        );
        // The median alone is noise where the fastest run is as fast.
        let mut noisy = row("finetune 5", &[80.0], 4000, 1.0);
        noisy.account.latency_ms.threads_1.median = 2.0;
        assert!(notes(&[dense.clone(), noisy]).is_empty());
        let mut shared = dense;
        shared.account.latency_ms.threads_all.median = 2.0;
        assert!(
            notes(&[shared])[0].starts_with("`dense` is 2.0x slower on all threads than on one")
        );
    }

    #[test]
    fn what_hops_were_worth_is_said_in_paired_points() {
        let rows = vec![
            row("dense", &[80.0; 10], 4000, 1.0),
            row("drop-hops all", &around(70.0, 0.9), 4000, 0.5),
            row("finetune 50", &around(75.0, 0.9), 4000, 0.5),
            row("random control", &[20.0; 10], 1000, 0.5),
        ];
        let found = report(rows.clone());
        let notes = found.notes();
        let note = notes.iter().find(|note| note.contains("hops")).unwrap();
        assert_eq!(
            note,
            "`dense` without all hops: -10.00 points (± 0.30 over 10 seeds), after `finetune 50` \
             -5.00 points (± 0.30 over 10 seeds); the model reads no graph any more"
        );
        let mut some = rows;
        some[1].name = "drop-hops 1".into();
        some.truncate(2);
        let mut found = report(some);
        found.training_graph = Some("trained on 5 of 10 edges".into());
        let notes = found.notes();
        assert_eq!(notes[0], "trained on 5 of 10 edges");
        assert_eq!(notes[1], "`dense` without one hop: -10.00 points (± 0.30 over 10 seeds)");
    }

    #[test]
    fn a_build_without_optimisation_and_every_control_are_explained() {
        let rows = vec![
            row("dense", &around(80.0, 0.1), 4000, 1.0),
            row("channels 0.5", &around(80.0, 0.2), 2000, 0.5),
            row("narrow control", &around(70.0, 0.1), 2000, 0.5),
            row("random control", &around(80.1, 0.9), 2000, 0.5),
        ];
        let mut report = report(rows);
        let [narrow, random] = report.controls().try_into().unwrap();
        assert_eq!(
            (narrow.name.as_str(), random.name.as_str()),
            ("narrow control", "random control")
        );
        assert!(narrow.meaning.contains("from scratch") && random.meaning.contains("at random"));
        assert_eq!(narrow.verdict, "does worse by 10.00 ± 0.03 points");
        assert_eq!(random.verdict, "does as well (+0.10 ± 0.23 points)");
        report.machine.optimised = false;
        assert!(report.notes()[0].contains("--release"));
        let document: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(document["summary"], report.summary().as_str());
        assert_eq!(document["controls"][1]["verdict"], random.verdict.as_str());
    }
}
