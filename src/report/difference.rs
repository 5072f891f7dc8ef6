//! What one row's metric has over another's, seed by seed.

use super::row::Summary;

/// The mean of paired differences, with its standard error.
///
/// Seeds draw splits and initial weights, so that two networks of one seed have much in common;
/// their difference varies less than either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Mean of the differences, in points of the metric.
    pub mean: f64,
    /// Standard error of the mean, in points; `None` for fewer than two seeds, which say nothing
    /// about spread.
    pub standard_error: Option<f64>,
    /// Number of pairs.
    pub pairs: usize,
}

/// What a difference allows to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It lies above 0 by more than chance explains.
    Higher,
    /// It lies below 0 by more than chance explains.
    Lower,
    /// Chance explains it.
    NotToldApart,
    /// There is one pair or none, and nothing is known of chance.
    Unknown,
}

/// Two-sided 5 % quantiles of Student's distribution with 1, 2, … 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
/// Standard errors that a difference must exceed at least, however many seeds there are.
const LEAST_ERRORS: f64 = 2.0;
/// Two equal differences have no spread, and still say nothing about it.
const LEAST_PAIRS: usize = 3;

impl Difference {
    /// `a − b`, pair by pair in the order of the seeds.
    pub fn between(a: &Summary, b: &Summary) -> Self {
        let each: Vec<f64> = a.per_seed.iter().zip(&b.per_seed).map(|(a, b)| a - b).collect();
        let summary = Summary::of(each);
        let pairs = summary.per_seed.len();
        Self {
            mean: summary.mean,
            standard_error: (pairs > 1).then(|| summary.std / (pairs as f64).sqrt()),
            pairs,
        }
    }

    /// Higher or lower only beyond two standard errors, and beyond what Student's distribution asks
    /// of so few seeds (2.26 for ten).
    pub fn verdict(&self) -> Verdict {
        let Some(bound) = self.bound() else { return Verdict::Unknown };
        match self.mean {
            mean if self.pairs < LEAST_PAIRS || !bound.is_finite() || mean.abs() <= bound => {
                Verdict::NotToldApart
            }
            mean if mean > 0.0 => Verdict::Higher,
            mean if mean < 0.0 => Verdict::Lower,
            _ => Verdict::NotToldApart,
        }
    }

    /// Whether differences of more than `points`, either way, can be ruled out with the same
    /// certainty.
    pub fn is_within(&self, points: f64) -> bool {
        self.pairs >= LEAST_PAIRS
            && self.bound().is_some_and(|bound| self.mean.abs() + bound <= points)
    }

    /// What chance explains of the mean, in points.
    fn bound(&self) -> Option<f64> {
        let errors = STUDENT
            .get(self.pairs.saturating_sub(2))
            .copied()
            .unwrap_or(LEAST_ERRORS)
            .max(LEAST_ERRORS);
        self.standard_error.map(|error| errors * error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(a: &[f64], b: &[f64]) -> Difference {
        Difference::between(&Summary::of(a.to_vec()), &Summary::of(b.to_vec()))
    }

    #[test]
    fn seeds_are_paired_and_the_error_is_that_of_the_mean() {
        // Differences 1, 2, 3, 2: mean 2, deviation √(2/3), over √4.
        let found = difference(&[81.0, 72.0, 93.0, 62.0], &[80.0, 70.0, 90.0, 60.0]);
        assert_eq!((found.mean, found.pairs), (2.0, 4));
        assert!((found.standard_error.unwrap() - (2.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(found.verdict(), Verdict::Higher);
        assert_eq!(
            difference(&[80.0, 70.0, 90.0, 60.0], &[81.0, 72.0, 93.0, 62.0]).verdict(),
            Verdict::Lower
        );
    }

    #[test]
    fn few_seeds_tell_little_and_one_tells_nothing() {
        assert_eq!(difference(&[90.0], &[10.0]).verdict(), Verdict::Unknown);
        assert_eq!(difference(&[], &[]).verdict(), Verdict::Unknown);
        // Three standard errors, and two seeds: Student's distribution asks for 12.7 of them.
        assert_eq!(difference(&[1.0, 2.0], &[0.0, 0.0]).verdict(), Verdict::NotToldApart);
        assert_eq!(difference(&[1.0, 1.0], &[0.0, 0.0]).verdict(), Verdict::NotToldApart);
        // 3.46 standard errors: more than two, less than the 4.3 that three seeds need; with a
        // fourth it is enough.
        assert_eq!(difference(&[1.0, 2.0, 3.0], &[0.0; 3]).verdict(), Verdict::NotToldApart);
        assert_eq!(difference(&[1.0, 2.0, 3.0, 2.0], &[0.0; 4]).verdict(), Verdict::Higher);
    }

    #[test]
    fn to_be_as_good_takes_evidence() {
        let noisy: Vec<f64> = (0..10).map(|k| if k % 2 == 0 { 2.0 } else { -2.0 }).collect();
        let calm: Vec<f64> = noisy.iter().map(|d| d / 10.0).collect();
        assert!(
            difference(&calm, &[0.0; 10]).is_within(1.0)
                && !difference(&noisy, &[0.0; 10]).is_within(1.0)
        );
        assert!(
            !difference(&[3.0; 10], &[0.0; 10]).is_within(1.0)
                && !difference(&[0.0], &[0.0]).is_within(1.0)
        );
        assert!(
            !difference(&[0.0; 2], &[0.0; 2]).is_within(1.0),
            "two equal differences say nothing about spread"
        );
    }

    #[test]
    fn what_chance_explains_is_not_told_apart() {
        // Ten seeds: 2.1 standard errors are more than two and less than 2.262.
        let spread: Vec<f64> = (0..10).map(|k| if k % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let error = Summary::of(spread.clone()).std / 10f64.sqrt();
        let shifted = |by: f64| spread.iter().map(|d| d + by * error).collect::<Vec<_>>();
        assert_eq!(difference(&shifted(2.1), &[0.0; 10]).verdict(), Verdict::NotToldApart);
        assert_eq!(difference(&shifted(2.4), &[0.0; 10]).verdict(), Verdict::Higher);
        assert_eq!(difference(&[5.0; 10], &[5.0; 10]).verdict(), Verdict::NotToldApart);
        assert_eq!(difference(&[f64::NAN; 10], &[5.0; 10]).verdict(), Verdict::NotToldApart);
        // A hundred seeds: two standard errors are enough.
        let many: Vec<f64> = (0..100).map(|k| if k % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let error = Summary::of(many.clone()).std / 10.0;
        let above = |by: f64| {
            difference(&many.iter().map(|d| d + by * error).collect::<Vec<_>>(), &[0.0; 100])
                .verdict()
        };
        assert_eq!((above(1.99), above(2.01)), (Verdict::NotToldApart, Verdict::Higher));
    }
}
