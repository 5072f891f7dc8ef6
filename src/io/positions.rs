//! Where the kept entries of a matrix stand, in the shortest of three forms.

use super::sparse_code;

/// A form of positions; the name of its tensor says which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A bit per entry.
    Map,
    /// A byte per run of removed entries, see [`runs`].
    Runs,
    /// A stream of decisions, see [`sparse_code`].
    Coded,
}

impl Form {
    /// All of them; of equally short ones the first is taken.
    pub(super) const ALL: [Self; 3] = [Form::Map, Form::Runs, Form::Coded];

    /// The end of the tensor's name.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Form::Map => "mask",
            Form::Runs => "runs",
            Form::Coded => "coded",
        }
    }

    fn encode(self, kept: &[bool], cols: usize) -> Vec<u8> {
        match self {
            Form::Map => map(kept.iter().copied()),
            Form::Runs => runs(kept),
            Form::Coded => sparse_code::encode(kept, cols, ()),
        }
    }

    /// Reads what [`encode`] wrote in this form, for a matrix of that shape.
    pub(super) fn decode(self, bytes: &[u8], shape: (usize, usize)) -> Result<Vec<bool>, String> {
        match self {
            Form::Map => from_map(bytes, shape),
            Form::Runs => {
                let kept = from_runs(bytes)?;
                let fits = shape.0.checked_mul(shape.1) == Some(kept.len());
                fits.then_some(kept)
                    .ok_or_else(|| format!("does not tell of {}x{} entries", shape.0, shape.1))
            }
            Form::Coded => sparse_code::decode(bytes, shape, ()),
        }
    }
}

/// The shortest form of rows of `cols` entries.
pub(super) fn encode(kept: &[bool], cols: usize) -> (Form, Vec<u8>) {
    let forms = Form::ALL.map(|form| (form, form.encode(kept, cols)));
    forms.into_iter().min_by_key(|(_, bytes)| bytes.len()).expect("there are three forms")
}

/// A bit per entry, the first in the lowest, and zeros to the end of the last byte.
pub(super) fn map(kept: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = vec![0u8; kept.len().div_ceil(8)];
    kept.enumerate().filter(|(_, keep)| *keep).for_each(|(at, _)| bytes[at / 8] |= 1 << (at % 8));
    bytes
}

/// What [`map`] wrote. The bits are in the file, so what they cover is no larger than that.
pub(super) fn from_map(bytes: &[u8], (rows, cols): (usize, usize)) -> Result<Vec<bool>, String> {
    let Some(count) = rows.checked_mul(cols).filter(|count| count.div_ceil(8) == bytes.len())
    else {
        return Err(format!(
            "has {} bytes, which are no bit map of {rows}x{cols} entries",
            bytes.len()
        ));
    };
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 1;
    if (count..8 * bytes.len()).any(bit) {
        return Err("has bits after its end".into());
    }
    Ok((0..count).map(bit).collect())
}

/// Removed entries that a byte of [`runs`] stands for if nothing kept follows them; a smaller byte
/// ends at a kept entry.
const LONG: u8 = u8::MAX;

/// How many removed entries stand before each kept one, row by row, and before the end.
fn runs(kept: &[bool]) -> Vec<u8> {
    let (mut bytes, mut run) = (Vec::new(), 0);
    for &keep in kept.iter().chain([&true]) {
        if keep {
            bytes.push(run);
            run = 0;
        } else if run == LONG - 1 {
            bytes.push(LONG);
            run = 0;
        } else {
            run += 1;
        }
    }
    bytes
}

/// What [`runs`] wrote. A byte stands for 255 entries at most, so what is allocated is bounded by
/// what the file really has.
pub(super) fn from_runs(bytes: &[u8]) -> Result<Vec<bool>, String> {
    let mut kept = Vec::new();
    for &byte in bytes {
        kept.resize(kept.len() + usize::from(byte), false);
        if byte < LONG {
            kept.push(true);
        }
    }
    // The last run is that before the end.
    match kept.pop() {
        Some(true) => Ok(kept),
        _ => Err(format!("tells of {} entries and has no end there", kept.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Loads what `encode` stores, and says how many bytes it took.
    fn there_and_back(kept: &[bool], shape: (usize, usize)) -> usize {
        let (form, bytes) = encode(kept, shape.1);
        assert_eq!(form.decode(&bytes, shape).as_deref(), Ok(kept), "{form:?}");
        for other in Form::ALL {
            let others = other.encode(kept, shape.1);
            assert_eq!(other.decode(&others, shape).as_deref(), Ok(kept), "{other:?}");
            assert!(bytes.len() <= others.len());
            assert!(
                bytes.len() < others.len() || form as usize <= other as usize,
                "of equals the first"
            );
        }
        bytes.len()
    }

    proptest! {
        #[test]
        fn any_mask_comes_back_in_the_shortest_form((rows, cols) in (0usize..60, 1usize..40), share in 0.0..=1.0, bits in prop::collection::vec(0.0..1.0, 2400)) {
            let kept: Vec<bool> = bits[..rows * cols].iter().map(|bit| *bit < share).collect();
            there_and_back(&kept, (rows, cols));
        }

        #[test]
        fn any_bytes_are_a_mask_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..50), rows in 0usize..50, cols in 0usize..50) {
            for form in Form::ALL {
                if let Ok(kept) = form.decode(&bytes, (rows, cols)) {
                    prop_assert_eq!(kept.len(), rows * cols);
                    prop_assert_eq!(form.encode(&kept, cols), bytes.clone(), "{:?}", form);
                }
            }
        }
    }

    #[test]
    fn every_density_and_every_length_of_run_comes_back() {
        for (rows, cols) in
            [(1, 1), (1, 9), (7, 1), (3, 254), (3, 255), (3, 256), (40, 64), (2, 600)]
        {
            for every in [1, 2, 5, 8, 9, 30, 254, 255, 256, 257, 511, 5000] {
                for first in [0, 1, every - 1] {
                    let kept: Vec<bool> = (0..rows * cols).map(|at| at % every == first).collect();
                    there_and_back(&kept, (rows, cols));
                }
            }
        }
    }

    #[test]
    fn uneven_rows_take_less_than_their_gaps() {
        // A pruned first layer: one row in seven holds everything that is left, a third of its
        // entries.
        let mut state = 1u32;
        let mut below = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16).is_multiple_of(bound)
        };
        let kept: Vec<bool> = (0..1433)
            .flat_map(|_| if below(7) { [0; 12].map(|_| below(3)) } else { [false; 12] })
            .collect();
        let (count, bytes) =
            (kept.iter().filter(|keep| **keep).count(), there_and_back(&kept, (1433, 12)));
        assert!(kept.len() > 19 * count, "about 95 % are removed");
        assert!(
            (bytes * 8) as f64 / count as f64 <= 4.6,
            "{bytes} bytes for {count} entries; golomb's best gaps take 5.7 bits"
        );
    }

    #[test]
    fn forms_that_do_not_fit_are_refused() {
        for (bytes, shape) in [
            (vec![], (1, 4)),
            (vec![255], (1, 5)),
            (vec![3, 255], (1, 4)),
            (vec![2, 2], (1, 4)),
            (vec![4], (usize::MAX, 4)),
        ] {
            assert!(Form::Runs.decode(&bytes, shape).is_err(), "{bytes:?}");
        }
        for (bytes, shape) in
            [(vec![], (1, 4)), (vec![16], (1, 4)), (vec![1, 0], (2, 4)), (vec![0], (usize::MAX, 2))]
        {
            assert!(Form::Map.decode(&bytes, shape).is_err(), "{bytes:?}");
        }
    }
}
