//! An adaptive arithmetic coder of yes and no: a decision costs about as many bits as it surprises.
//!
//! *Source*: Witten, Neal and Cleary, "Arithmetic coding for data compression", CACM 1987; the
//! chances are running means.

/// Chances are counted in parts of this.
const WHOLE: u32 = 1 << 16;
/// No chance comes nearer to none or all than this, so that every decision can be coded.
const LEAST: u32 = 32;
/// A chance is a mean over about so many decisions: later ones push earlier ones out.
const MEMORY: u32 = 127;

/// The chance of a yes, learned from the decisions that it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    of_yes: u32,
    seen: u32,
}

impl Default for Chance {
    fn default() -> Self {
        Self { of_yes: WHOLE / 2, seen: 0 }
    }
}

impl Chance {
    /// Moves the mean by the share of one decision among those seen, of which the start counts as a
    /// half.
    fn learn(&mut self, yes: bool) {
        let target = if yes { WHOLE - LEAST } else { LEAST };
        let share = |distance: u32| distance * 2 / (2 * self.seen + 3);
        self.of_yes = if yes {
            self.of_yes + share(target - self.of_yes)
        } else {
            self.of_yes - share(self.of_yes - target)
        };
        self.seen = MEMORY.min(self.seen + 1);
    }
}

/// Writes decisions, or reads them: what describes a value in decisions is one function for both.
pub(super) trait Coder {
    /// Codes a decision that is yes with a chance of `of_yes`; a reader returns what was written
    /// and does not look at `yes`.
    fn code(&mut self, of_yes: u32, yes: bool) -> bool;

    /// A decision whose chance is learned.
    fn learned(&mut self, chance: &mut Chance, yes: bool) -> bool {
        let yes = self.code(chance.of_yes, yes);
        chance.learn(yes);
        yes
    }

    /// A decision that is as likely as not: one bit.
    fn even(&mut self, yes: bool) -> bool {
        self.code(WHOLE / 2, yes)
    }
}

/// The numbers that begin with what was coded so far; both ends belong to it, and their first bytes
/// differ.
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const ALL: Self = Self { low: 0, high: u32::MAX };

    /// The last number that means yes; less than `high`, since no chance is whole.
    fn split(&self, of_yes: u32) -> u32 {
        self.low + (u64::from(self.high - self.low) * u64::from(of_yes) / u64::from(WHOLE)) as u32
    }

    fn choose(&mut self, split: u32, yes: bool) {
        if yes {
            self.high = split;
        } else {
            self.low = split + 1;
        }
    }

    /// Takes out the first byte where both ends agree on it.
    fn settled(&mut self) -> Option<u8> {
        let first = (self.low >> 24) as u8;
        if u32::from(first) != self.high >> 24 {
            return None;
        }
        self.low <<= 8;
        self.high = self.high << 8 | 0xff;
        Some(first)
    }
}

/// Writes decisions to bytes.
pub(super) struct Encoder {
    interval: Interval,
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { interval: Interval::ALL, bytes: Vec::new() }
    }

    /// The fewest bytes that tell the decisions, where zeros follow the last one.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // Zeros, or the first number of the next first byte, lie in what is left.
        if self.interval.low > 0 {
            self.bytes.push((self.interval.low >> 24) as u8 + 1);
        }
        let end = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.bytes.truncate(end);
        self.bytes
    }
}

impl Coder for Encoder {
    fn code(&mut self, of_yes: u32, yes: bool) -> bool {
        self.interval.choose(self.interval.split(of_yes), yes);
        while let Some(byte) = self.interval.settled() {
            self.bytes.push(byte);
        }
        yes
    }
}

/// Reads decisions from bytes, and zeros after the last one.
pub(super) struct Decoder<'a> {
    interval: Interval,
    number: u32,
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { interval: Interval::ALL, number: 0, bytes: bytes.iter() };
        (0..4).for_each(|_| decoder.shift());
        decoder
    }

    fn shift(&mut self) {
        self.number = self.number << 8 | u32::from(self.bytes.next().copied().unwrap_or(0));
    }
}

impl Coder for Decoder<'_> {
    fn code(&mut self, of_yes: u32, _: bool) -> bool {
        let split = self.interval.split(of_yes);
        let yes = self.number <= split;
        self.interval.choose(split, yes);
        while self.interval.settled().is_some() {
            self.shift();
        }
        yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decisions at given chances come back, and how many bytes they took.
    fn there_and_back(decisions: &[(u32, bool)]) -> usize {
        let mut encoder = Encoder::new();
        decisions.iter().for_each(|&(of_yes, yes)| assert_eq!(encoder.code(of_yes, yes), yes));
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes);
        for &(of_yes, yes) in decisions {
            // What the reader is told is wrong on purpose.
            assert_eq!(decoder.code(of_yes, !yes), yes);
        }
        bytes.len()
    }

    proptest! {
        #[test]
        fn decisions_come_back_at_any_chance(decisions in prop::collection::vec((1..WHOLE, any::<bool>()), 0..400)) {
            there_and_back(&decisions);
        }

        #[test]
        fn a_decision_costs_what_it_surprises(decisions in prop::collection::vec((LEAST..=WHOLE - LEAST, any::<bool>()), 0..400)) {
            let surprise = |&(of_yes, yes): &(u32, bool)| -(f64::from(if yes { of_yes } else { WHOLE - of_yes }) / f64::from(WHOLE)).log2();
            let bits: f64 = decisions.iter().map(surprise).sum();
            let taken = there_and_back(&decisions) as f64;
            // Splits are whole numbers, which costs most where the ends of the interval are close:
            // a hundredth, and the last byte.
            prop_assert!(taken <= bits / 8.0 * 1.01 + 2.0, "{taken} bytes for {bits} bits");
        }

        #[test]
        fn a_chance_stays_between_its_bounds(decisions in prop::collection::vec(any::<bool>(), 0..2000)) {
            let mut chance = Chance::default();
            for yes in decisions {
                chance.learn(yes);
                prop_assert!((LEAST..=WHOLE - LEAST).contains(&chance.of_yes));
            }
        }
    }

    #[test]
    fn ends_that_lie_close_across_a_first_byte_lose_nothing() {
        // Every choice hugs the middle, so that the first bytes of the ends keep differing.
        let mut decisions = vec![(WHOLE / 2, true)];
        decisions.extend([(1, false), (WHOLE - 1, true)].repeat(200));
        decisions.extend([(WHOLE - 1, false), (1, true)].repeat(200));
        there_and_back(&decisions);
    }

    #[test]
    fn a_chance_learns_what_always_happens() {
        let mut chance = Chance::default();
        (0..5000).for_each(|_| chance.learn(true));
        assert!(chance.of_yes > WHOLE - 4 * 2 * MEMORY);
        (0..5000).for_each(|_| chance.learn(false));
        assert!(chance.of_yes < 4 * 2 * MEMORY);
    }
}
