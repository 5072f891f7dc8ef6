//! Numbers of one type where another is asked for: taken where they say the same, refused where
//! they would become others.

use super::labels::UNLABELED;
use ndarray::Array2;

/// What is wrong, as the end of a sentence that begins with what was read.
pub(super) type Problem<T> = std::result::Result<T, String>;

/// From here on a 32-bit float no longer tells whole numbers apart.
pub(super) const MOST_IN_F32: f64 = (1u32 << 24) as f64;
/// From here on a 64-bit float does not.
pub(super) const MOST_IN_F64: f64 = (1u64 << 53) as f64;

/// An integer as a number: refused where rounding would change it.
pub(super) fn exact(value: i64) -> Problem<f32> {
    let rounded = value as f32;
    if rounded as i128 == i128::from(value) {
        Ok(rounded)
    } else {
        Err(format!(
            "holds {value}, which no 32-bit float holds exactly; give numbers up to {MOST_IN_F32}, or floats if rounding is meant"
        ))
    }
}

/// A float as an integer: `most` is where its type no longer tells whole numbers apart.
pub(super) fn whole(value: f64, most: f64) -> Problem<i64> {
    if value.fract() == 0.0 && value.abs() < most {
        Ok(value as i64)
    } else if value.fract() == 0.0 {
        Err(format!(
            "holds {value} as a float, and floats tell whole numbers apart below {most} alone; save it as integers"
        ))
    } else {
        Err(format!("holds {value}, which is not a whole number"))
    }
}

/// A number as a truth value.
pub(super) fn truth(value: f64) -> Problem<bool> {
    match value {
        1.0 => Ok(true),
        0.0 => Ok(false),
        other => Err(format!("holds {other}, and a mask holds 0 and 1")),
    }
}

/// The label of each node as a class, −1 as none.
pub(super) fn classes(labels: &[i64]) -> Problem<Vec<u32>> {
    let class = |(node, &label): (usize, &i64)| match u32::try_from(label) {
        Ok(label) if label != UNLABELED => Ok(label),
        _ if label == -1 => Ok(UNLABELED),
        _ if label < 0 => Err(format!(
            "the label of node {node} is {label}, and of the negative labels only -1 has a meaning: a node without one"
        )),
        _ => Err(format!(
            "the label of node {node} is {label}, and classes are numbered up to {}",
            UNLABELED - 1
        )),
    };
    labels.iter().enumerate().map(class).collect()
}

/// A label that is written as a float as an integer, NaN as −1.
pub(super) fn label(value: f64, most: f64) -> Problem<i64> {
    if value.is_nan() { Ok(-1) } else { whole(value, most) }
}

/// Rows of so many zeros and ones as labels that are there or not, and which rows hold NaN
/// throughout: nodes without labels. Says which number is neither.
pub(super) fn label_matrix(columns: usize, values: &[f64]) -> Problem<(Array2<bool>, Vec<bool>)> {
    let known: Vec<bool> =
        values.chunks_exact(columns).map(|row| !row.iter().all(|v| v.is_nan())).collect();
    if let Some(at) =
        (0..values.len()).find(|&at| known[at / columns] && values[at] != 0.0 && values[at] != 1.0)
    {
        return Err(format!(
            "holds {} for label {} of node {}, expected 0 or 1",
            values[at],
            at % columns,
            at / columns
        ));
    }
    let labels = values.iter().map(|v| *v == 1.0).collect();
    Ok((
        Array2::from_shape_vec((values.len() / columns, columns), labels).expect("rows are whole"),
        known,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_type_would_change_is_refused() {
        assert_eq!(
            (exact(16_777_216), exact(-3), exact(1 << 40)),
            (Ok(16_777_216.0), Ok(-3.0), Ok((1u64 << 40) as f32))
        );
        for value in [16_777_217, i64::MAX, i64::MIN + 1, -16_777_217] {
            assert!(exact(value).unwrap_err().contains(&format!("holds {value},")));
        }
        assert_eq!(
            (whole(-2.0, MOST_IN_F32), whole(16_777_215.0, MOST_IN_F32)),
            (Ok(-2), Ok(16_777_215))
        );
        for value in [0.5, f64::NAN, f64::INFINITY, 16_777_216.0] {
            assert!(whole(value, MOST_IN_F32).unwrap_err().starts_with("holds "), "{value}");
        }
        assert_eq!(whole(16_777_216.0, MOST_IN_F64), Ok(16_777_216));
        assert!(
            truth(0.5).is_err()
                && truth(2.0).is_err()
                && truth(f64::NAN).is_err()
                && truth(-0.0) == Ok(false)
        );
    }

    #[test]
    fn minus_one_and_nan_are_nodes_without_labels_and_other_negative_labels_refused() {
        assert_eq!(classes(&[3, -1, 0]), Ok(vec![3, UNLABELED, 0]));
        assert!(classes(&[0, -2]).unwrap_err().contains("node 1 is -2"));
        assert!(classes(&[i64::from(u32::MAX)]).unwrap_err().contains("node 0 is 4294967295"));
        assert_eq!((label(f64::NAN, MOST_IN_F64), label(2.0, MOST_IN_F64)), (Ok(-1), Ok(2)));
        let (labels, known) = label_matrix(2, &[1.0, 0.0, f64::NAN, f64::NAN]).unwrap();
        assert_eq!((labels.row(0).to_vec(), known), (vec![true, false], vec![true, false]));
        assert!(
            label_matrix(2, &[1.0, f64::NAN])
                .unwrap_err()
                .contains("holds NaN for label 1 of node 0")
        );
    }
}
