//! Row normalisation of features.

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::{Csr, Value};
use ndarray::Array2;
use std::fmt;
use std::str::FromStr;

/// How each row of features is scaled. A row of zeros stays one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeatureNorm {
    /// `x / Σ|x|`, as the Planetoid papers do.
    L1,
    /// `x / sqrt(Σx²)`.
    L2,
    /// 1 where `x` is not zero.
    Binary,
    /// `x` as it is.
    Raw,
}

impl FeatureNorm {
    const ALL: [FeatureNorm; 4] =
        [FeatureNorm::L1, FeatureNorm::L2, FeatureNorm::Binary, FeatureNorm::Raw];

    /// What a reader uses where nothing was chosen: [`L2`](Self::L2) for sparse features,
    /// [`Raw`](Self::Raw) for dense ones.
    pub fn default_for<F>(features: &Value<F>) -> Self {
        match features {
            Value::Dense(_) => FeatureNorm::Raw,
            Value::Sparse(_) => FeatureNorm::L2,
        }
    }

    /// The normalised features, computed in `f64` and rounded once to `G`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a feature that is NaN or infinite, before or after.
    pub(super) fn apply<F: Scalar, G: Scalar>(self, features: &Value<F>) -> Result<Value<G>> {
        check_finite(features)?;
        let normalised = match features {
            Value::Dense(x) => {
                let mut y = Array2::<G>::zeros(x.dim());
                for (from, mut to) in x.rows().into_iter().zip(y.rows_mut()) {
                    let scale = self.scale(|| from.iter().copied());
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = scale.of(from));
                }
                Value::Dense(y)
            }
            Value::Sparse(x) => {
                let mut data = Vec::with_capacity(x.nnz());
                for row in x.outer_iterator() {
                    let scale = self.scale(|| row.data().iter().copied());
                    data.extend(row.data().iter().map(|&from| scale.of::<F, G>(from)));
                }
                let indptr = x.indptr().into_raw_storage().to_vec();
                Value::Sparse(Csr::new(x.shape(), indptr, x.indices().to_vec(), data))
            }
        };
        check_finite(&normalised)?;
        Ok(normalised)
    }

    fn scale<F: Scalar, I: Iterator<Item = F>>(self, row: impl Fn() -> I) -> Scale {
        let length = |unit: f64| {
            let parts = row().map(|x| x.as_f64() / unit);
            if self == FeatureNorm::L1 {
                parts.map(f64::abs).sum::<f64>()
            } else {
                parts.map(|x| x * x).sum::<f64>().sqrt()
            }
        };
        match self {
            FeatureNorm::Raw => Scale::Keep,
            FeatureNorm::Binary => Scale::Binary,
            FeatureNorm::L1 | FeatureNorm::L2 => {
                let plain = length(1.0);
                if plain.is_normal() {
                    return Scale::Divide(1.0, plain);
                }
                // The sum over- or underflows although the quotient does not: divide by the largest
                // entry first.
                let unit = row().map(|x| x.as_f64().abs()).fold(0.0, f64::max);
                if unit == 0.0 { Scale::Keep } else { Scale::Divide(unit, length(unit)) }
            }
        }
    }
}

enum Scale {
    Keep,
    Binary,
    /// By one number and then by the other.
    Divide(f64, f64),
}

impl Scale {
    fn of<F: Scalar, G: Scalar>(&self, x: F) -> G {
        let x = x.as_f64();
        G::of(match self {
            Scale::Keep => x,
            Scale::Binary => f64::from(u8::from(x != 0.0)),
            Scale::Divide(unit, length) => x / unit / length,
        })
    }
}

/// Refuses NaN and infinities, naming the first one's node and column.
pub(super) fn check_finite<F: Scalar>(features: &Value<F>) -> Result<()> {
    let bad = match features {
        Value::Dense(x) => x.indexed_iter().find(|(_, v)| !v.is_finite()).map(|(at, v)| (at, *v)),
        Value::Sparse(x) => {
            x.iter().find(|(v, _)| !v.is_finite()).map(|(v, (i, j))| ((i as usize, j as usize), *v))
        }
    };
    match bad {
        None => Ok(()),
        Some(((node, column), value)) => Err(Error::NotFinite {
            at: format!("features of node {node}, column {column}"),
            value: value.as_f64(),
        }),
    }
}

impl fmt::Display for FeatureNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FeatureNorm::L1 => "l1",
            FeatureNorm::L2 => "l2",
            FeatureNorm::Binary => "binary",
            FeatureNorm::Raw => "raw",
        })
    }
}

impl FromStr for FeatureNorm {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|norm| norm.to_string() == word);
        known.ok_or_else(|| Error::setting("feature normalisation", word, "l1, l2, binary or raw"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn rows() -> Array2<f64> {
        array![[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1e200, 1e200, 0.0], [1e-200, 0.0, 0.0]]
    }

    #[test]
    fn rows_have_unit_length_and_zero_rows_stay_zero() {
        let unit = |norm: FeatureNorm| norm.apply::<f64, f64>(&rows().into()).unwrap().into_dense();
        let half = 0.5f64.sqrt();
        assert_eq!(
            unit(FeatureNorm::L1),
            array![[3.0 / 7.0, -4.0 / 7.0, 0.0], [0.0; 3], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]
        );
        assert_eq!(
            unit(FeatureNorm::Binary),
            array![[1.0, 1.0, 0.0], [0.0; 3], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
        );
        assert_eq!(unit(FeatureNorm::Raw), rows());
        approx::assert_relative_eq!(
            unit(FeatureNorm::L2),
            array![[0.6, -0.8, 0.0], [0.0; 3], [half, half, 0.0], [1.0, 0.0, 0.0]]
        );
    }

    #[test]
    fn sparse_rows_give_the_dense_result_and_stay_sparse() {
        let dense = array![[1.0f32, 0.0, 2.0], [0.0, 0.0, 0.0]];
        let sparse = Value::Sparse(Csr::csr_from_dense(dense.view(), 0.0));
        for norm in FeatureNorm::ALL {
            let a: Value<f32> = norm.apply(&sparse).unwrap();
            let b: Value<f32> = norm.apply(&Value::Dense(dense.clone())).unwrap();
            assert_eq!(a.stored(), 2);
            assert_eq!(a.into_dense(), b.into_dense());
        }
    }

    #[test]
    fn non_finite_features_are_refused_before_and_after_rounding() {
        for (value, norm) in [
            (f64::NAN, FeatureNorm::Binary),
            (f64::INFINITY, FeatureNorm::L1),
            (1e300, FeatureNorm::Raw),
        ] {
            let message =
                norm.apply::<f64, f32>(&array![[0.0, value]].into()).unwrap_err().to_string();
            assert!(
                message.contains("node 0, column 1") && message.contains("not finite"),
                "{message}"
            );
        }
    }

    #[test]
    fn words_round_trip_and_others_name_the_legal_ones() {
        for norm in FeatureNorm::ALL {
            assert_eq!(norm.to_string().parse::<FeatureNorm>().unwrap(), norm);
            assert_eq!(serde_json::to_string(&norm).unwrap(), format!("\"{norm}\""));
        }
        assert!(
            "L2".parse::<FeatureNorm>().unwrap_err().to_string().contains("l1, l2, binary or raw")
        );
    }
}
