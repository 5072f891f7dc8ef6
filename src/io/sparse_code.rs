//! A matrix with many zeros as one stream of decisions: which rows have anything, which entries of
//! those are kept, and what they are.
//!
//! A pruned weight is uneven: most rows belong to features that hardly occur and are empty, others
//! are nearly full. So how likely an entry is kept is learned for each number of kept and of
//! removed ones before it in its row.

use super::coder::{Chance, Coder, Decoder, Encoder};

/// A byte tells of this many entries at most: shorter codes are filled up, so that what a file
/// claims is bounded by what it has.
const MOST_PER_BYTE: usize = 1024;

/// What a matrix has as entries; the default is the entry that is not kept.
pub(super) trait Entry: Copy + Default + PartialEq {
    /// What is learned of kept entries.
    type Values: Clone;

    /// Codes a kept entry, and returns it.
    fn code(self, values: &mut Self::Values, coder: &mut impl Coder) -> Self;
}

/// A mask: nothing more to say of what is kept.
impl Entry for bool {
    type Values = ();

    fn code(self, (): &mut (), _: &mut impl Coder) -> Self {
        true
    }
}

/// What is learned of integers: how long their magnitudes are, and the bit below the first.
#[derive(Clone)]
pub(super) struct Magnitudes {
    /// Bits of the largest magnitude.
    most: u32,
    longer: [Chance; 8],
    second: [Chance; 8],
}

impl Magnitudes {
    /// Of integers in ±`most`, which is one less than a power of two.
    pub(super) fn up_to(most: i8) -> Self {
        Self {
            most: 8 - most.leading_zeros(),
            longer: Default::default(),
            second: Default::default(),
        }
    }
}

/// Sign, length of the magnitude, and its bits below the first; only lengths and the first of these
/// bits are worth learning.
impl Entry for i8 {
    type Values = Magnitudes;

    fn code(self, values: &mut Magnitudes, coder: &mut impl Coder) -> Self {
        let negative = coder.even(self < 0);
        let own = self.unsigned_abs();
        let mut length = 1;
        while length < values.most
            && coder.learned(&mut values.longer[length as usize], 8 - own.leading_zeros() > length)
        {
            length += 1;
        }
        let mut magnitude = 1;
        for below in (0..length - 1).rev() {
            let bit = own >> below & 1 == 1;
            let second = below + 2 == length;
            let bit = if second {
                coder.learned(&mut values.second[length as usize], bit)
            } else {
                coder.even(bit)
            };
            magnitude = magnitude << 1 | i8::from(bit);
        }
        if negative { -magnitude } else { magnitude }
    }
}

/// Numbers below a power of two are told apart by it alone; this many powers are.
const LEVELS: usize = 16;

fn level(count: usize) -> usize {
    ((count + 1).ilog2() as usize).min(LEVELS - 1)
}

/// Codes rows of `cols` entries; a reader starts from zeros.
fn walk<T: Entry>(entries: &mut [T], cols: usize, mut values: T::Values, coder: &mut impl Coder) {
    let none = T::default();
    let mut live = Chance::default();
    let mut chances = [[Chance::default(); LEVELS]; LEVELS];
    for row in entries.chunks_exact_mut(cols.max(1)) {
        if !coder.learned(&mut live, row.iter().any(|entry| *entry != none)) {
            continue;
        }
        let mut kept = 0;
        for (before, entry) in row.iter_mut().enumerate() {
            if coder.learned(&mut chances[level(kept)][level(before - kept)], *entry != none) {
                *entry = entry.code(&mut values, coder);
                kept += 1;
            }
        }
    }
}

/// Rows of `cols` entries as bytes.
pub(super) fn encode<T: Entry>(entries: &[T], cols: usize, values: T::Values) -> Vec<u8> {
    let mut encoder = Encoder::new();
    walk(&mut entries.to_vec(), cols, values, &mut encoder);
    let mut bytes = encoder.finish();
    bytes.resize(bytes.len().max(entries.len().div_ceil(MOST_PER_BYTE)), 0);
    bytes
}

/// The entries of the matrix that [`encode`] wrote, row by row; an error for bytes that it never
/// writes.
pub(super) fn decode<T: Entry>(
    bytes: &[u8],
    shape: (usize, usize),
    values: T::Values,
) -> Result<Vec<T>, String> {
    let (rows, cols) = shape;
    let bound = bytes.len().saturating_mul(MOST_PER_BYTE);
    let Some(count) = rows.checked_mul(cols).filter(|count| *count <= bound) else {
        return Err(format!(
            "has {} bytes, which is too few for {rows}x{cols} entries",
            bytes.len()
        ));
    };
    let mut entries = vec![T::default(); count];
    walk(&mut entries, cols, values.clone(), &mut Decoder::new(bytes));
    // Every matrix has one code: what differs has bytes after its end, or is damaged.
    if encode(&entries, cols, values) != bytes {
        return Err(format!("is no code of {rows}x{cols} entries"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix<T: std::fmt::Debug>(
        entry: impl Strategy<Value = T> + Clone,
    ) -> impl Strategy<Value = (Vec<T>, (usize, usize))> {
        (0usize..40, 1usize..40).prop_flat_map(move |(rows, cols)| {
            (prop::collection::vec(entry.clone(), rows * cols), Just((rows, cols)))
        })
    }

    fn ints(most: i8) -> impl Strategy<Value = i8> + Clone {
        prop_oneof![3 => Just(0), 1 => -most..=most]
    }

    proptest! {
        #[test]
        fn any_mask_comes_back((kept, shape) in matrix(prop::bool::weighted(0.2))) {
            prop_assert_eq!(decode::<bool>(&encode(&kept, shape.1, ()), shape, ()), Ok(kept));
        }

        #[test]
        fn any_integers_come_back((two, small) in matrix(ints(1)), (four, middle) in matrix(ints(7)), (eight, large) in matrix(ints(127))) {
            for (ints, shape, most) in [(two, small, 1), (four, middle, 7), (eight, large, 127)] {
                let bytes = encode(&ints, shape.1, Magnitudes::up_to(most));
                prop_assert_eq!(decode(&bytes, shape, Magnitudes::up_to(most)), Ok(ints));
            }
        }

        #[test]
        fn any_bytes_are_integers_in_range_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40), rows in 0usize..40, cols in 0usize..40) {
            for most in [1, 7, 127] {
                if let Ok(ints) = decode::<i8>(&bytes, (rows, cols), Magnitudes::up_to(most)) {
                    prop_assert!(ints.iter().all(|q| (-most..=most).contains(q)));
                    prop_assert_eq!(encode(&ints, cols, Magnitudes::up_to(most)), bytes.clone());
                }
            }
        }
    }

    #[test]
    fn what_is_claimed_is_refused_before_it_is_allocated() {
        for shape in [(usize::MAX, 2), (usize::MAX, 1), (1 << 40, 1 << 10), (1025, 1)] {
            assert!(decode::<bool>(&[0], shape, ()).unwrap_err().contains("too few"), "{shape:?}");
        }
        assert!(decode::<bool>(&[], (1, 1), ()).is_err());
        assert_eq!(decode::<bool>(&[], (0, 5), ()), Ok(vec![]));
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let kept: Vec<bool> = (0..600).map(|at| at % 7 == 0).collect();
        let bytes = encode(&kept, 6, ());
        for more in [0, 1, 255] {
            let longer: Vec<u8> = bytes.iter().copied().chain([more]).collect();
            assert!(decode::<bool>(&longer, (100, 6), ()).is_err());
        }
    }

    #[test]
    fn rows_without_anything_cost_almost_nothing() {
        let mut kept = vec![false; 10_000 * 16];
        kept[77 * 16 + 3] = true;
        assert_eq!(encode(&kept, 16, ()).len(), (10_000 * 16usize).div_ceil(MOST_PER_BYTE));
    }

    #[test]
    fn a_row_is_judged_by_what_it_has_so_far() {
        let mut state = 1u32;
        let chance = |percent: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % 100 < percent
        };
        // Every other row keeps a tenth, the others all but that: 0.47 bits per entry for who knows
        // the row, 1 for who does not.
        let kept: Vec<bool> =
            (0..400).flat_map(|row| [if row % 2 == 0 { 10 } else { 90 }; 64]).map(chance).collect();
        let bits = (8 * encode(&kept, 64, ()).len()) as f64 / kept.len() as f64;
        assert!(bits < 0.6, "{bits} bits per entry");
    }
}
