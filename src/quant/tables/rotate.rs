//! Rotations of a table after which signs say the most of it.

use crate::error::Result;
use crate::kernels;
use crate::nn::{
    Add, Concat, Decoder, Embedding, Form, LgConv, Model, Node, NodeId, Normalize, ParamId,
    Registered,
};
use crate::quant::settings::Settings;
use crate::quant::tables::known::{TableForm, table_forms};
use crate::reconstruct::Cholesky;
use crate::rng::{Draws, purpose};
use ndarray::{Array2, ArrayView2, s};

/// Rows that a rotation is found on, evenly spaced, and the rounds that find it.
const ROWS: usize = 16 * 1024;
const ROUNDS: usize = 30;

/// Columns beyond which a drawn rotation is taken as it is: a round takes minutes.
const WIDEST: usize = 1024;

/// Steps of Newton's iteration for an orthogonal factor; it ends where a step changes next to
/// nothing.
const STEPS: usize = 60;

/// A copy whose table is rotated before it becomes signs, part by part, where no score changes by
/// it: there is no other table, and all that is between this one and a dot product takes rotated
/// rows to rotated rows.
///
/// *Source*: Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary
/// Codes", CVPR 2011, on rows of length 1.
///
/// # Errors
/// As [`table_forms`].
pub(in crate::quant) fn rotated(model: &Model, settings: Settings) -> Result<Model> {
    let forms = table_forms(model, settings)?;
    let mut model = model.clone();
    // Two tables would be rotated each in its own way, and features not at all, and rows meet.
    let is_table = |node: &Node<f32>| node.layer().kind() == <Embedding as Registered<f32>>::KIND;
    let alone = model.nodes().iter().filter(|node| is_table(node)).count() == 1;
    // Only scores are the same: whoever reads the rows themselves must find them as they are.
    let last = model.output().index().checked_sub(1).and_then(|k| model.nodes().get(k));
    let scores = last.is_some_and(|node| node.layer().kind() == <Decoder as Registered<f32>>::KIND);
    let reads = |node: &Node<f32>| node.inputs().contains(&NodeId::INPUT) && !is_table(node);
    if !alone
        || !scores
        || model.nodes().iter().any(reads)
        || !model.nodes().iter().all(is_indifferent)
    {
        return Ok(model);
    }
    let seed = model.seed();
    model.visit_mut(&mut |param| {
        let id: ParamId = param.id();
        let Some(&TableForm::Signs(parts)) = forms.get(&id) else { return };
        let width = param.value().ncols() / parts;
        for p in 0..parts {
            let mut part = param.value_mut().slice_mut(s![.., p * width..(p + 1) * width]);
            let rotation = rotation(part.view(), (seed, p as u64));
            let mut turned = Array2::zeros(part.dim());
            kernels::matmul(part.view(), rotation.view(), turned.view_mut());
            part.assign(&turned);
        }
    });
    Ok(model)
}

/// Whether a node takes rows that are rotated alike to such rows, or to the same scores.
fn is_indifferent(node: &Node<f32>) -> bool {
    let kind = node.layer().kind();
    let is_dot = || node.layer().attrs().get::<Form>("form").is_ok_and(|form| form == Form::Dot);
    let linear = [
        <Embedding as Registered<f32>>::KIND,
        <LgConv as Registered<f32>>::KIND,
        <Add as Registered<f32>>::KIND,
        <Concat as Registered<f32>>::KIND,
        <Normalize as Registered<f32>>::KIND,
    ];
    linear.contains(&kind) || (kind == <Decoder as Registered<f32>>::KIND && is_dot())
}

/// The rotation `R: [c, c]` for which the signs of `W·R` are nearest to its rows of length 1, as
/// far as rounds of choosing signs and `R` by turns get from one that is drawn.
fn rotation(w: ArrayView2<f32>, key: (u64, u64)) -> Array2<f32> {
    let (rows, cols) = w.dim();
    let step = rows.div_ceil(ROWS).max(1);
    let mut x = w.slice(s![..;step, ..]).to_owned();
    kernels::map_rows(x.view_mut(), |_, row| {
        let length = row.iter().map(|w| w * w).sum::<f32>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|w| *w /= length);
        }
    });
    let mut draws = Draws::of(key.0, &[purpose::STAGE, key.1]);
    // A sum of twelve uniform numbers less six.
    let mut normal =
        || (0..12).map(|_| draws.below(1 << 20) as f64).sum::<f64>() / (1u32 << 20) as f64 - 6.0;
    let drawn = Array2::from_shape_simple_fn((cols, cols), &mut normal);
    let mut rotation = orthogonal(drawn).unwrap_or_else(|| Array2::eye(cols));
    let (mut turned, mut toward) = (Array2::zeros(x.dim()), Array2::<f32>::zeros((cols, cols)));
    for _ in 0..if cols > WIDEST { 0 } else { ROUNDS } {
        kernels::matmul(x.view(), rotation.mapv(|v| v as f32).view(), turned.view_mut());
        kernels::map_rows(turned.view_mut(), |_, row| {
            row.iter_mut().for_each(|w| *w = if *w < 0.0 { -1.0 } else { 1.0 });
        });
        kernels::matmul_tn(x.view(), turned.view(), toward.view_mut());
        let mut toward = toward.mapv(f64::from);
        // Where rows say nothing of a direction it stays.
        let size = toward.iter().map(|v| v * v).sum::<f64>().sqrt();
        toward.scaled_add(1e-4 * size / (cols as f64).sqrt(), &rotation);
        match orthogonal(toward) {
            Some(next) => rotation = next,
            None => break,
        }
    }
    rotation.mapv(|v| v as f32)
}

/// The orthogonal factor of `a`, which is the nearest orthogonal matrix: Newton's iteration
/// `X ← (γX + X⁻ᵀ/γ)/2`. Nothing where it does not get there.
///
/// *Source*: Higham, "Computing the Polar Decomposition—with Applications", SIAM Journal on
/// Scientific and Statistical Computing, 1986.
fn orthogonal(a: Array2<f64>) -> Option<Array2<f64>> {
    let size = |x: &Array2<f64>| x.iter().map(|v| v * v).sum::<f64>().sqrt();
    let count = a.nrows() as f64;
    let mut x = a;
    for _ in 0..STEPS {
        let inverse = x.dot(&Cholesky::of(x.t().dot(&x)).inverse());
        let scale = (size(&inverse) / size(&x)).sqrt();
        let next = (&x * scale + &inverse / scale) * 0.5;
        if !next.iter().all(|v| v.is_finite()) {
            return None;
        }
        let change = size(&(&next - &x));
        x = next;
        if change < 1e-10 * count.sqrt() {
            break;
        }
    }
    let off = x.t().dot(&x) - Array2::<f64>::eye(x.nrows());
    off.iter().all(|v| v.abs() < 1e-6).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ModelBuilder;
    use crate::quant::bits::Bits;
    use crate::quant::settings::Rounding;
    use crate::quant::tables::TableStore;
    use crate::reconstruct::Calibrate;
    use crate::testing::random_dense;

    #[test]
    fn the_orthogonal_factor_is_the_nearest_orthogonal_matrix() {
        for n in [1, 2, 5, 40] {
            let a = random_dense::<f64>(1, (n, n)).into_dense();
            let x = orthogonal(a.clone()).unwrap();
            // `XᵀA` is symmetric and has no negative direction, which tells it.
            let h = x.t().dot(&a);
            assert!((&h - &h.t()).iter().all(|v| v.abs() < 1e-8));
            let ridged = &h + &(Array2::<f64>::eye(n) * 1e-9);
            assert!(Cholesky::of(ridged).lower().iter().all(|v| v.is_finite()));
        }
        assert!(orthogonal(Array2::zeros((3, 3))).is_none());
    }

    #[test]
    fn signs_say_more_of_a_rotated_table_and_dot_products_stay() {
        // Most of it lies in few directions.
        let (basis, rest) =
            (random_dense::<f32>(2, (6, 32)).into_dense(), random_dense::<f32>(3, (500, 32)));
        let w = random_dense::<f32>(4, (500, 6)).into_dense().dot(&basis) + rest.into_dense() * 0.1;
        let turned = w.dot(&rotation(w.view(), (0, 0)));
        let (before, after) = (w.dot(&w.t()), turned.dot(&turned.t()));
        assert!((&before - &after).iter().all(|v| v.abs() < 1e-3));
        let kept = |w: &Array2<f32>| -> f32 {
            let of = |row: ndarray::ArrayView1<f32>| {
                row.iter().map(|w| w.abs()).sum::<f32>() / (32.0 * row.dot(&row)).sqrt()
            };
            w.rows().into_iter().map(of).sum::<f32>() / 500.0
        };
        assert!(kept(&turned) > kept(&w) + 0.03, "{} and {}", kept(&turned), kept(&w));
    }

    /// Where rows meet others that are not rotated alike, nothing is rotated.
    #[test]
    fn tables_that_meet_other_rows_stay() {
        let settings = Settings {
            weights: Bits::Eight,
            activations: Bits::Eight,
            calibration: None,
            calibrate: Calibrate::All,
            rounding: Rounding::Nearest,
            tables: Some(TableStore::Signs(1)),
        };
        let build = |kind: &str| {
            let mut builder = ModelBuilder::new(8);
            let table = || Embedding::new(30, 8).unwrap();
            let one = builder.add("one", table(), &[NodeId::INPUT]).unwrap();
            let other = match kind {
                "features" => Some(NodeId::INPUT),
                "two" => Some(builder.add("two", table(), &[NodeId::INPUT]).unwrap()),
                _ => None,
            };
            let rows = match other {
                Some(other) => builder.add("sum", Add::new(2).unwrap(), &[one, other]).unwrap(),
                None => one,
            };
            let form = if kind == "distmult" { Form::DistMult } else { Form::Dot };
            if kind == "rows" {
                return builder.build(rows, 5).unwrap();
            }
            let decoder = Decoder::builder(form, 8).relations(2).build().unwrap();
            let scores = builder.add("scores", decoder, &[rows]).unwrap();
            builder.build(scores, 5).unwrap()
        };
        for kind in ["alone", "features", "two", "distmult", "rows"] {
            let model: Model = build(kind);
            let turned = rotated(&model, settings).unwrap();
            let first = |model: &Model| {
                let mut first = None;
                model.visit(&mut |_, param| {
                    first.get_or_insert(param.value().clone());
                });
                first.unwrap()
            };
            assert_eq!(first(&model) == first(&turned), kind != "alone", "{kind}");
        }
    }

    #[test]
    fn a_table_of_zeros_and_fewer_rows_than_columns_are_rotated_too() {
        for (rows, cols) in [(1, 1), (3, 8), (1, 16)] {
            let w = random_dense::<f32>(5, (rows, cols)).into_dense();
            for w in [Array2::zeros((rows, cols)), w] {
                let r = rotation(w.view(), (0, 0));
                let off = r.t().dot(&r) - Array2::<f32>::eye(cols);
                assert!(off.iter().all(|v| v.abs() < 1e-4), "{rows} x {cols}");
            }
        }
    }
}
