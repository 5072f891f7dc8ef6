//! Axes with few, round ticks.

/// Ticks that an axis has at most.
const MOST_TICKS: usize = 6;
/// A logarithmic axis reaches at least from a value to this many times it.
const LEAST_SPAN: f64 = 2.0;

/// A range with round ticks, linear or logarithmic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis from `low` to `high`, widened to at least `span` around their middle.
    pub(super) fn linear(low: f64, high: f64, span: f64) -> Self {
        let (low, high) = widened(low, high, span);
        Self { low, high, is_log: false, ticks: round_ticks(low, high) }
    }

    /// A logarithmic axis around positive values, with room on both sides; values that are not
    /// positive lie at its left end.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let positive: Vec<f64> = values.filter(|value| *value > 0.0 && value.is_finite()).collect();
        let (low, high) = positive.iter().fold((f64::INFINITY, 0.0f64), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
        let (low, high) =
            if positive.is_empty() { (0.0, 1.0) } else { (low.log10(), high.log10()) };
        let (low, high) = widened(low, high, LEAST_SPAN.log10());
        let room = (high - low) * 0.1;
        let (low, high) = (low - room, high + room);
        Self { low, high, is_log: true, ticks: log_ticks(low, high) }
    }

    /// Where a value lies between the two ends: 0 to 1, and not outside of them.
    pub(super) fn share(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (value - self.low) / (self.high - self.low);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Whether a value lies below the axis.
    pub(super) fn is_below(&self, value: f64) -> bool {
        !self.is_log && value < self.low
    }

    /// Values with their labels, in order.
    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// At least `span` wide, around the same middle; a range of nothing, or of what is not finite, is
/// around 0.
fn widened(low: f64, high: f64, span: f64) -> (f64, f64) {
    if !(low.is_finite() && high.is_finite()) {
        return (-span / 2.0, span / 2.0);
    }
    let (middle, half) = ((low + high) / 2.0, ((high - low) / 2.0).max(span / 2.0));
    (middle - half, middle + half)
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn round_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let magnitude = 10f64.powf(((high - low) / MOST_TICKS as f64).log10().floor());
    let fits = |step: &f64| (high / step).floor() - (low / step).ceil() < MOST_TICKS as f64;
    let step = [1.0, 2.0, 5.0, 10.0, 20.0]
        .map(|factor| factor * magnitude)
        .into_iter()
        .find(fits)
        .unwrap_or(high - low);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last)
        .map(|k| k as f64 * step)
        .map(|value| (value, format!("{value:.digits$}")))
        .collect()
}

/// 1, 2 and 5 times powers of ten where there are few of them, else powers of ten alone, every
/// k-th.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let decades = || low.floor() as i32..=high.ceil() as i32;
    let within = |value: &f64| (low..=high).contains(&value.log10());
    let of = |factors: &[f64]| -> Vec<f64> {
        decades()
            .flat_map(|k| factors.iter().map(move |factor| factor * 10f64.powi(k)))
            .filter(within)
            .collect()
    };
    let fine = [
        of(&[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]),
        of(&[1.0, 2.0, 3.0, 5.0, 7.0]),
        of(&[1.0, 2.0, 5.0]),
        of(&[1.0, 3.0]),
    ];
    let mut values =
        fine.into_iter().find(|values| values.len() <= MOST_TICKS).unwrap_or_else(|| of(&[1.0]));
    if values.len() < 2 {
        values = round_ticks(10f64.powf(low), 10f64.powf(high))
            .into_iter()
            .map(|(value, _)| value)
            .collect();
    }
    let every = values.len().div_ceil(MOST_TICKS).max(1);
    values.into_iter().step_by(every).map(|value| (value, amount(value))).collect()
}

/// A positive number without digits that say nothing: `0.05`, `2`, `30,000`.
fn amount(value: f64) -> String {
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, rest) = text
        .split_once('.')
        .map_or((text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let grouped = |whole: &str| {
        let first = whole.len() % 3;
        let groups = whole.as_bytes()[first..]
            .chunks(3)
            .map(|group| String::from_utf8_lossy(group).into_owned());
        (first > 0)
            .then(|| whole[..first].to_string())
            .into_iter()
            .chain(groups)
            .collect::<Vec<_>>()
            .join(",")
    };
    format!("{}{rest}", grouped(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks().iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_few_and_inside() {
        assert_eq!(labels(&Axis::linear(81.3, 82.9, 0.5)), ["81.5", "82.0", "82.5"]);
        assert_eq!(labels(&Axis::linear(28.0, 99.0, 0.5)), ["40", "60", "80"]);
        assert_eq!(
            labels(&Axis::linear(82.0, 82.0, 0.5)),
            ["81.8", "81.9", "82.0", "82.1", "82.2"]
        );
        assert_eq!(
            labels(&Axis::logarithmic([0.4, 19.2].into_iter())),
            ["0.5", "1", "2", "5", "10", "20"]
        );
        assert_eq!(
            labels(&Axis::logarithmic([1.0, 3e8].into_iter())),
            ["1", "100", "10,000", "1,000,000", "100,000,000"]
        );
        for (low, high) in
            [(0.0, 1.0), (-1e-9, 1e-9), (1.0, 1e15), (0.123, 0.1231), (99.9, 100.0), (1.0, 200.0)]
        {
            let (linear, log) =
                (Axis::linear(low, high, 0.0), Axis::logarithmic([high, high * 1.7].into_iter()));
            for axis in [&linear, &log] {
                assert!(
                    (2..=MOST_TICKS).contains(&axis.ticks().len()),
                    "{low} to {high}: {:?}",
                    axis.ticks()
                );
                let mut unlike = labels(axis);
                unlike.dedup();
                assert_eq!(unlike.len(), axis.ticks().len(), "{low} to {high}: {:?}", axis.ticks());
                assert!(
                    axis.ticks()
                        .windows(2)
                        .all(|pair| axis.share(pair[0].0) < axis.share(pair[1].0)),
                    "{axis:?}"
                );
            }
        }
    }

    #[test]
    fn nothing_and_what_is_not_finite_have_an_axis_too() {
        for axis in [
            Axis::linear(f64::INFINITY, f64::NEG_INFINITY, 1.0),
            Axis::linear(f64::NAN, 3.0, 1.0),
            Axis::logarithmic([0.0, f64::NAN].into_iter()),
            Axis::logarithmic(std::iter::empty()),
        ] {
            assert!(!axis.ticks().is_empty(), "{axis:?}");
            for value in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
                assert!((0.0..=1.0).contains(&axis.share(value)), "{axis:?}: {value}");
            }
        }
    }
}
