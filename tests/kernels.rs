//! Kernels are safe functions: whatever slices they are given, they compute what the formula says
//! or panic with a line; they never read what is not theirs. Operands are drawn within what fits
//! and then spoilt: row ends, indices, lengths, strides.

use gnn_prune::__kernels::{
    Activate, AdditiveScores, Attend, ColumnScales, Epilogue, Finish, InputWeight, Isa,
    Neighbourhoods, Out, PackedInt8, PackedWeight, SparseInt8, Term, edge_dot_with,
    first_not_finite, input_int8, join_int8_with, matmul_int8_with, matmul_packed, matmul_tn_with,
    matmul_with, quantize_columns, quantize_rows, quantized_input_int8, reference, spmm_int8_with,
    spmm_max_t_with, spmm_max_with, spmm_with, weighted_sum,
};
use gnn_prune::ndarray::{Array2, ArrayView2, Axis, s};
use gnn_prune::value::{Csr, ValueRef};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn levels() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// The result, or nothing if it panicked; the message stays out of the test's output.
fn tried<R>(f: impl FnOnce() -> R) -> Option<R> {
    thread_local!(static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    result.ok()
}

/// What becomes of one slice's length or of its numbers.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Nothing,
    Shorter,
    Longer,
    Empty,
    /// This number in place of one of them.
    Number(usize, u64),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        6 => Just(Spoil::Nothing),
        1 => Just(Spoil::Shorter),
        1 => Just(Spoil::Longer),
        1 => Just(Spoil::Empty),
        2 => (any::<prop::sample::Index>(), prop_oneof![0..40u64, Just(u64::from(u32::MAX)), Just(u64::MAX), Just(1 << 31), any::<u64>()])
            .prop_map(|(at, number)| Spoil::Number(at.index(1 << 16), number)),
    ]
}

fn spoilt<T: Clone>(mut numbers: Vec<T>, how: Spoil, of: impl Fn(u64) -> T) -> Vec<T> {
    match how {
        Spoil::Nothing => {}
        Spoil::Shorter => drop(numbers.pop()),
        Spoil::Longer => numbers.push(of(1)),
        Spoil::Empty => numbers.clear(),
        Spoil::Number(at, number) => {
            let len = numbers.len();
            if let Some(place) = numbers.get_mut(at % len.max(1)) {
                *place = of(number);
            }
        }
    }
    numbers
}

/// Rows of a sparse matrix before they are spoilt: ends, columns, 8-bit entries.
fn sparse(rows: usize, inner: usize) -> impl Strategy<Value = (Vec<usize>, Vec<u32>, Vec<i8>)> {
    prop::collection::vec(prop::collection::vec((0..inner as u32, any::<i8>()), 0..9), rows)
        .prop_map(|mut rows| {
            for row in &mut rows {
                row.sort_unstable();
                row.dedup_by_key(|entry| entry.0);
            }
            let mut starts = vec![0];
            rows.iter().for_each(|row| starts.push(starts[starts.len() - 1] + row.len()));
            let (cols, vals) = rows.concat().into_iter().unzip();
            (starts, cols, vals)
        })
}

fn ints(count: usize) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(
        prop_oneof![4 => any::<i8>(), 1 => Just(i8::MIN), 1 => Just(i8::MAX)],
        count,
    )
}

/// Whether `i..j` of a sparse left operand of so many rows can be read at all.
fn is_matrix(starts: &[usize], cols: &[u32], vals: &[i8], inner: usize) -> bool {
    starts.first() == Some(&0)
        && starts.is_sorted()
        && starts.last() == Some(&cols.len())
        && cols.len() == vals.len()
        && cols.iter().all(|&j| (j as usize) < inner)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn sparse_integer_products_compute_or_refuse(
        (rows, _, width, (starts, cols, vals), x) in (1..6usize, 1..7usize, prop_oneof![1..70usize, 120..140usize, Just(256)])
            .prop_flat_map(|(rows, inner, width)| (Just(rows), Just(inner), Just(width), sparse(rows, inner), ints(inner * width))),
        spoils in [spoil(), spoil(), spoil(), spoil(), spoil(), spoil()],
        equal in any::<bool>(),
    ) {
        let starts = spoilt(starts, spoils[0], |n| n as usize);
        let cols = spoilt(cols, spoils[1], |n| n as u32);
        let vals = spoilt(if equal { vec![-128; vals.len()] } else { vals }, spoils[2], |n| n as i8);
        let x = spoilt(x, spoils[3], |n| n as i8);
        let scales = spoilt(vec![1.0f32; width], spoils[4], |n| n as f32);
        let y = spoilt(vec![0.0f32; rows * width], spoils[5], |_| 0.0);
        let fits = is_matrix(&starts, &cols, &vals, x.len() / width) && starts.len() == rows + 1 && x.len() % width == 0;
        for isa in levels() {
            let mut y = y.clone();
            let finish = Finish { rows: None, cols: &scales, bias: None, activate: Activate::Identity };
            let a = SparseInt8 { starts: &starts, cols: &cols, vals: &vals };
            let done = tried(|| spmm_int8_with(isa, a, &x, width, finish, Out::Real(&mut y)));
            if done.is_some() {
                // A scale may have been spoilt and still be one.
                prop_assert!(fits && y.len() == rows * width && scales.len() == width, "{isa:?} took what does not fit");
                let acc = reference::spmm_int8(&starts, &cols, &vals, &x, width);
                for (at, (y, acc)) in y.iter().zip(acc).enumerate() {
                    let expected = reference::rescale(acc, 1.0, scales[at % width], None);
                    prop_assert!(y.to_bits() == expected.to_bits(), "{isa:?} at {at}: {y} for {expected}");
                }
            } else {
                prop_assert!(!fits || y.len() != rows * width || scales.len() != width, "{isa:?} refused what fits");
            }
        }
    }

    #[test]
    fn dense_integer_products_compute_or_refuse(
        (rows, inner, width, x, w) in (0..8usize, 1..40usize, 1..40usize)
            .prop_flat_map(|(rows, inner, width)| (Just(rows), Just(inner), Just(width), ints(rows * inner), ints(inner * width))),
        spoils in [spoil(), spoil(), spoil(), spoil()],
    ) {
        let w = spoilt(w, spoils[0], |n| n as i8);
        let x = spoilt(x, spoils[1], |n| n as i8);
        let scales = spoilt(vec![0.5f32; width], spoils[2], |n| n as f32);
        let Some(packed) = tried(|| PackedInt8::new(&w, inner, width)) else {
            prop_assert!(w.len() != inner * width);
            return Ok(());
        };
        for isa in levels() {
            let mut y = spoilt(vec![0.0f32; rows * width], spoils[3], |_| 0.0);
            let finish = Finish { rows: None, cols: &scales, bias: None, activate: Activate::Identity };
            if tried(|| matmul_int8_with(isa, &x, &packed, finish, Out::Real(&mut y))).is_some() {
                let acc = reference::matmul_int8(&x, &w, inner, width);
                prop_assert_eq!(y.len(), acc.len());
                for (at, (y, acc)) in y.iter().zip(acc).enumerate() {
                    let expected = reference::rescale(acc, 1.0, scales[at % width], None);
                    prop_assert!(y.to_bits() == expected.to_bits(), "{isa:?} at {at}: {y} for {expected}");
                }
            }
        }
    }

    #[test]
    fn inputs_joins_and_quantisers_compute_or_refuse(
        (rows, inner, width, (starts, cols, vals)) in (1..6usize, 1..7usize, 1..40usize)
            .prop_flat_map(|(rows, inner, width)| (Just(rows), Just(inner), Just(width), sparse(rows, inner))),
        spoils in [spoil(), spoil(), spoil(), spoil(), spoil()],
    ) {
        let x: Vec<f32> = vals.iter().map(|&v| f32::from(v)).collect();
        for isa in levels() {
            // Any panic is fine here, and what comes out has been compared elsewhere; what must not
            // be is a read past an end.
            let ends = spoilt(starts.clone(), spoils[0], |n| n as usize);
            let numbers = spoilt(x.clone(), spoils[1], |n| n as f32);
            let (mut q, mut scales) = (spoilt(vec![0i8; x.len()], spoils[2], |n| n as i8), spoilt(vec![0.0; rows], spoils[3], |_| 0.0));
            tried(|| quantize_rows(&ends, &numbers, 127, &mut q, &mut scales));
            tried(|| first_not_finite(&ends, &numbers));
            let by = ColumnScales::new(spoilt(vec![1.0; width], spoils[3], |n| n as f32), 127);
            let mut columns = spoilt(vec![0i8; rows * width], spoils[2], |n| n as i8);
            tried(|| quantize_columns(isa, &vec![1.0; rows * width], &by, &mut columns));
            let joined = spoilt(vec![1i8; rows * width], spoils[1], |n| n as i8);
            let terms = [Term { data: &joined, cols: by.scales() }, Term { data: &columns, cols: by.scales() }];
            let mut y = spoilt(vec![0.0; rows * (width + 3)], spoils[4], |_| 0.0);
            tried(|| join_int8_with(isa, &terms, None, Activate::Relu, Out::Real(&mut y), width + 3, 2));
            let weight = InputWeight::new(&vec![1; inner * width], inner, width);
            let finish = Finish { rows: None, cols: by.scales(), bias: None, activate: Activate::Identity };
            if let Ok(matrix) = Csr::new_from_unsorted((rows, inner), starts.clone(), cols.clone(), x.clone()) {
                let mut y = spoilt(vec![0.0; rows * width], spoils[4], |_| 0.0);
                tried(|| input_int8(isa, ValueRef::Sparse(matrix.view()), &weight, 127, finish, &mut scales, Out::Real(&mut y)));
                let finish = Finish { rows: Some(&scales), ..finish };
                tried(|| quantized_input_int8(isa, ValueRef::Sparse(matrix.view()), &q, &weight, finish, Out::Real(&mut y)));
            }
        }
    }

    #[test]
    fn attention_computes_or_refuses(
        (nodes, (starts, sources, _), heads, dim) in (1..6usize, prop_oneof![1..3usize, Just(4), Just(8)], 1..20usize)
            .prop_flat_map(|(nodes, heads, dim)| (Just(nodes), sparse(nodes, nodes), Just(heads), Just(dim))),
        spoils in [spoil(), spoil(), spoil(), spoil(), spoil(), spoil(), spoil()],
    ) {
        let by_source = Csr::<f32>::new_from_unsorted((nodes, nodes), starts.clone(), sources.clone(), vec![1.0; sources.len()]);
        let Ok(by_source) = by_source else { return Ok(()) };
        let (back_starts, targets, _) = by_source.transpose_view().to_csr().into_raw_storage();
        let width = heads * dim;
        let edges = sources.len();
        let (starts, sources) = (spoilt(starts, spoils[0], |n| n as usize), spoilt(sources, spoils[1], |n| n as u32));
        let (back_starts, targets) = (spoilt(back_starts, spoils[2], |n| n as usize), spoilt(targets, spoils[3], |n| n as u32));
        let places = spoilt((0..edges).collect(), spoils[4], |n| n as usize);
        let z = spoilt(vec![0.5f32; nodes * width], spoils[5], |n| n as f32);
        let scores = AdditiveScores {
            source: &spoilt(vec![0.1; nodes * heads], spoils[6], |n| n as f32),
            target: &vec![0.2; nodes * heads],
            edge: None,
            att_source: &vec![0.3; width],
            att_target: &vec![0.4; width],
            heads,
            slope: 0.2,
        };
        let edges = Neighbourhoods { starts: &starts, sources: &sources, back_starts: &back_starts, targets: &targets, places: &places };
        let attend = Attend { edges, scores: &scores, heads, dim, z: &z, dropout: None, bias: None };
        for isa in levels() {
            let mut y = vec![0.0; nodes * width];
            tried(|| attend.forward_with(isa, &mut y));
            let (mut pairs, mut dtarget) = (vec![0.0; 2 * nodes * heads], vec![0.0; nodes * heads]);
            tried(|| attend.to_targets_with(isa, &y, &mut pairs, &mut dtarget));
            let (mut dz, mut dsource) = (vec![0.0; nodes * width], vec![0.0; nodes * heads]);
            tried(|| attend.to_sources_with(isa, &y, &pairs, &dtarget, &mut dz, &mut dsource));
        }
    }

    #[test]
    fn products_of_any_layout_are_the_formula(
        (rows, inner, width) in (1..9usize, 1..20usize, 1..40usize),
        (flip, step, spoilt_shape) in (any::<[bool; 3]>(), 1..3usize, 0..4usize),
        seed in 0..1000u32,
    ) {
        let number = |k: usize| ((k as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32 / 512.0 - 4.0;
        let array = |r: usize, c: usize| Array2::from_shape_fn((r, c), |(i, j)| number(i * c + j));
        // A view that steps over rows, and runs backwards or across.
        let (wide, across) = (array(rows * step, inner + 2), array(width, inner + usize::from(spoilt_shape == 1)));
        let mut x: ArrayView2<f32> = wide.slice(s![..;step, 1..=inner]);
        if flip[0] {
            x.invert_axis(Axis(0));
        }
        if flip[1] {
            x.invert_axis(Axis(1));
        }
        let w = across.t();
        for isa in levels() {
            let shape = (rows + usize::from(spoilt_shape == 2), width + usize::from(spoilt_shape == 3));
            let mut y = Array2::from_elem(shape, f32::NAN);
            let mut to = y.view_mut();
            if flip[2] {
                to.invert_axis(Axis(0));
            }
            let done = tried(|| matmul_with(isa, x, w, to, Epilogue::NONE)).is_some();
            prop_assert_eq!(done, spoilt_shape == 0);
            if done {
                let mut expected = x.mapv(f64::from).dot(&w.mapv(f64::from));
                if flip[2] {
                    expected.invert_axis(Axis(0));
                }
                prop_assert!(y.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-2), "{isa:?} {y} for {expected}");
                let packed = PackedWeight::new(w);
                let mut z = Array2::from_elem(shape, f32::NAN);
                matmul_packed(x, &packed, z.view_mut(), Epilogue::NONE);
                let mut dw = Array2::from_elem((inner, width), f32::NAN);
                matmul_tn_with(isa, x, y.view(), dw.view_mut());
                prop_assert!(z.iter().chain(&dw).all(|v| v.is_finite()));
            }
            tried(|| weighted_sum(&[ValueRef::Dense(x), ValueRef::Dense(across.view())], &[1.0, 2.0], y.view_mut(), Epilogue::NONE));
        }
    }

    #[test]
    fn sparse_products_of_any_shape_compute_or_refuse(
        (rows, inner, width, (starts, cols, vals)) in (1..6usize, 1..7usize, 0..40usize)
            .prop_flat_map(|(rows, inner, width)| (Just(rows), Just(inner), Just(width), sparse(rows, inner))),
        (more_rows, more_columns, who) in (0..2usize, 0..2usize, any::<u32>()),
    ) {
        let vals: Vec<f32> = vals.iter().map(|&v| f32::from(v)).collect();
        let Ok(a) = Csr::new_from_unsorted((rows, inner), starts, cols, vals) else { return Ok(()) };
        let x = Array2::from_shape_fn((inner + more_rows, width), |(i, j)| (i * 7 + j * 3) as f32 % 5.0 - 2.0);
        for isa in levels() {
            let mut y = Array2::from_elem((rows, width + more_columns), f32::NAN);
            let done = tried(|| spmm_with(isa, a.view(), x.view(), y.view_mut(), Epilogue::NONE)).is_some();
            prop_assert_eq!(done, more_rows + more_columns == 0);
            if done {
                let mut expected = Array2::zeros(y.dim());
                reference::spmm(a.view(), x.view(), expected.view_mut());
                prop_assert!(y.iter().zip(&expected).all(|(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs().max(1.0)));
                let (_, winners) = spmm_max_with(isa, a.view(), x.view());
                prop_assert_eq!(winners.dim(), y.dim());
            }
            let mut dots = vec![0.0; a.nnz() + more_columns];
            let done = tried(|| edge_dot_with(isa, a.view(), y.view(), x.view(), &mut dots)).is_some();
            prop_assert_eq!(done, more_rows + more_columns == 0);
            let at = a.transpose_view().to_csr();
            tried(|| spmm_max_t_with(isa, at.view(), &Array2::from_elem((rows, width), who), x.view()));
        }
    }
}

/// Work is cut into blocks of rows, each of which looks at its own entries: a row that reaches into
/// those of another block must not get by.
#[test]
fn a_row_that_ends_beyond_its_block_is_refused_before_anything_is_read() {
    let (rows, degree, width) = (3000, 4, 64);
    let cols: Vec<u32> = (0..rows * degree)
        .map(|e| if e < rows * degree - 40 { (e % 100) as u32 } else { u32::MAX })
        .collect();
    let (vals, x, scales) = (vec![3i8; cols.len()], vec![1i8; 100 * width], vec![1.0; width]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for isa in levels() {
        for spoilt_row in [1, 7, 500, 1499, 2222] {
            let mut starts: Vec<usize> = (0..=rows).map(|i| i * degree).collect();
            starts[spoilt_row] = cols.len();
            let mut y = vec![0.0; rows * width];
            let finish =
                Finish { rows: None, cols: &scales, bias: None, activate: Activate::Identity };
            let a = SparseInt8 { starts: &starts, cols: &cols, vals: &vals };
            let done = pool
                .install(|| tried(|| spmm_int8_with(isa, a, &x, width, finish, Out::Real(&mut y))));
            assert!(done.is_none(), "{isa:?}");
        }
    }
}
