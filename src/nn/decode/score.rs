//! How well candidates answer queries that have been made into rows, and the way back.

use crate::kernels;
use crate::nn::{Candidates, Queries};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

/// What a query's row `q` and a candidate's row `t` are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// `q · t`.
    Dot,
    /// `−Σ_k |q_k − t_k|` over complex numbers, each two neighbouring channels.
    ComplexDistance,
}

/// Scores `[queries · count, 1]` of all pairs, query by query. `q: [queries, d]`, `x: [n, d]`.
pub(crate) fn scores<F: Scalar>(
    how: Match,
    q: ArrayView2<F>,
    x: ArrayView2<F>,
    asked: &Queries,
    y: ArrayViewMut2<F>,
) {
    let count = asked.count();
    let mut y = y.into_shape_with_order((q.nrows(), count)).expect("a score for each pair");
    match (how, asked.candidates()) {
        (Match::Dot, Candidates::Range(range)) => {
            let among = x.slice(s![range.start as usize..range.end as usize, ..]);
            kernels::matmul_nt(q, among, y);
        }
        (Match::Dot, Candidates::Listed(rows)) => {
            kernels::matmul_nt(q, listed(x, rows, 0).view(), y);
        }
        (Match::Dot, Candidates::Beside { own, rows }) => {
            kernels::matmul_nt(q, listed(x, rows, 1).view(), y.view_mut());
            kernels::map_rows(y, |i, row| {
                let (q, t) = (q.row(i), x.row(own[i] as usize));
                let slices = (q.as_slice(), t.as_slice());
                let (Some(q), Some(t)) = slices else { unreachable!("rows in standard layout") };
                row[0] = dot(q, t);
            });
        }
        (how, candidates) => {
            kernels::count(y.len() * x.ncols());
            kernels::map_rows(y.view_mut(), |i, row| {
                let q = q.row(i);
                let q = q.as_slice().expect("queries are in standard layout");
                for (k, score) in row.iter_mut().enumerate() {
                    let t = x.row(candidates.of(i, k) as usize);
                    *score = how.of(q, t.as_slice().expect("values are in standard layout"));
                }
            });
        }
    }
}

/// Gradients of the scores by `q`, and by `x` as candidates, which is added to `dx`.
pub(super) fn back<F: Scalar>(
    how: Match,
    q: ArrayView2<F>,
    x: ArrayView2<F>,
    asked: &Queries,
    dy: ArrayView2<F>,
    mut dx: ArrayViewMut2<F>,
) -> Array2<F> {
    let dy = dy.to_shape((q.nrows(), asked.count())).expect("a gradient for each score");
    let mut dq = Array2::zeros(q.dim());
    match (how, asked.candidates()) {
        (Match::Dot, Candidates::Range(range)) => {
            let rows = range.start as usize..range.end as usize;
            kernels::matmul(dy.view(), x.slice(s![rows.clone(), ..]), dq.view_mut());
            let mut own = Array2::zeros((rows.len(), x.ncols()));
            kernels::matmul_tn(dy.view(), q, own.view_mut());
            let mut part = dx.slice_mut(s![rows, ..]);
            part += &own;
        }
        (Match::Dot, Candidates::Listed(rows)) => {
            kernels::matmul(dy.view(), listed(x, rows, 0).view(), dq.view_mut());
            let mut own = Array2::zeros((rows.len(), x.ncols()));
            kernels::matmul_tn(dy.view(), q, own.view_mut());
            add_rows(rows.iter().copied(), own.view(), dx);
        }
        (Match::Dot, Candidates::Beside { own, rows }) => {
            kernels::matmul(dy.view(), listed(x, rows, 1).view(), dq.view_mut());
            let mut shared = Array2::zeros((rows.len() + 1, x.ncols()));
            kernels::matmul_tn(dy.view(), q, shared.view_mut());
            let mut each = Array2::zeros(q.dim());
            kernels::map_rows(each.view_mut(), |i, each| {
                each.iter_mut().zip(q.row(i)).for_each(|(to, &q)| *to = dy[[i, 0]] * q);
            });
            kernels::map_rows(dq.view_mut(), |i, dq| {
                let own = x.row(own[i] as usize);
                dq.iter_mut().zip(own).for_each(|(dq, &t)| *dq += dy[[i, 0]] * t);
            });
            add_rows(rows.iter().copied(), shared.slice(s![1.., ..]), dx.view_mut());
            add_rows(own.iter().copied(), each.view(), dx);
        }
        (how, candidates) => {
            kernels::count(2 * dy.len() * x.ncols());
            kernels::map_rows(dq.view_mut(), |i, dq| {
                let q = q.row(i);
                let q = q.as_slice().expect("queries are in standard layout");
                for (k, &d) in dy.row(i).iter().enumerate() {
                    let t = x.row(candidates.of(i, k) as usize);
                    how.back(d, q, t.as_slice().expect("values are in standard layout"), dq);
                }
            });
            let whose = By::candidate(asked, x.nrows());
            kernels::map_rows(dx, |node, dx| {
                let t = x.row(node);
                let t = t.as_slice().expect("values are in standard layout");
                for pair in whose.of(node) {
                    let i = pair / asked.count();
                    let q = q.row(i);
                    let q = q.as_slice().expect("queries are in standard layout");
                    // The score is symmetric in `q` and `t`.
                    how.back(dy[[i, pair % asked.count()]], t, q, dx);
                }
            });
        }
    }
    dq
}

/// The rows of these nodes one below the other, `above` rows of zeros above them: a product with it
/// has as many places in front of each row of scores, and so has one with the gradients of these.
fn listed<F: Scalar>(x: ArrayView2<F>, nodes: &[u32], above: usize) -> Array2<F> {
    let mut rows = Array2::zeros((above + nodes.len(), x.ncols()));
    kernels::map_rows(rows.slice_mut(s![above.., ..]), |k, row| {
        row.iter_mut().zip(x.row(nodes[k] as usize)).for_each(|(to, &from)| *to = from);
    });
    rows
}

impl Match {
    /// The score of two rows of one length.
    pub(crate) fn of<F: Scalar>(self, q: &[F], t: &[F]) -> F {
        match self {
            Match::Dot => dot(q, t),
            Match::ComplexDistance => {
                let pairs = q.as_chunks::<2>().0.iter().zip(t.as_chunks::<2>().0);
                -pairs.map(|(q, t)| (q[0] - t[0]).hypot(q[1] - t[1])).sum::<F>()
            }
        }
    }

    /// Adds `d` times the gradient of the score by `q` to `dq`.
    fn back<F: Scalar>(self, d: F, q: &[F], t: &[F], dq: &mut [F]) {
        match self {
            Match::Dot => dq.iter_mut().zip(t).for_each(|(dq, &t)| *dq += d * t),
            Match::ComplexDistance => {
                let pairs = q.as_chunks::<2>().0.iter().zip(t.as_chunks::<2>().0);
                for (dq, (q, t)) in dq.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
                    let (re, im) = (q[0] - t[0], q[1] - t[1]);
                    let apart = re.hypot(im);
                    // At distance 0 any slope of norm 1 would do: 0 is the mean of all.
                    if apart > F::zero() {
                        dq[0] -= d * re / apart;
                        dq[1] -= d * im / apart;
                    }
                }
            }
        }
    }
}

/// `Σ_k q_k·t_k` in eight sums, whatever the machine.
fn dot<F: Scalar>(q: &[F], t: &[F]) -> F {
    let mut sums = [F::zero(); 8];
    let (chunks, rest) = q.as_chunks::<8>();
    let (others, other_rest) = t.as_chunks::<8>();
    for (a, b) in chunks.iter().zip(others) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: F = rest.iter().zip(other_rest).map(|(&a, &b)| a * b).sum();
    sums.into_iter().sum::<F>() + rest
}

/// Which entries of a list name each node, in the order of the list.
pub(super) struct By {
    starts: Vec<u32>,
    entries: Vec<u32>,
}

impl By {
    pub(super) fn new(nodes: impl Iterator<Item = u32> + Clone, count: usize) -> Self {
        let mut starts = vec![0; count + 1];
        nodes.clone().for_each(|node| starts[node as usize + 1] += 1);
        for k in 0..count {
            starts[k + 1] += starts[k];
        }
        let (mut next, mut entries) = (starts.clone(), vec![0; starts[count] as usize]);
        for (k, node) in (0..).zip(nodes) {
            entries[next[node as usize] as usize] = k;
            next[node as usize] += 1;
        }
        Self { starts, entries }
    }

    /// The pairs by their candidate.
    fn candidate(asked: &Queries, count: usize) -> Self {
        let pairs =
            (0..asked.queries().len()).flat_map(|i| (0..asked.count()).map(move |k| (i, k)));
        Self::new(pairs.map(|(i, k)| asked.candidates().of(i, k)), count)
    }

    pub(super) fn of(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let own = self.starts[node] as usize..self.starts[node + 1] as usize;
        self.entries[own].iter().map(|&entry| entry as usize)
    }
}

/// Adds row `k` of `values` to row `nodes[k]` of `sums`: each row of `sums` in the order of `k`.
pub(super) fn add_rows<F: Scalar>(
    nodes: impl Iterator<Item = u32> + Clone,
    values: ArrayView2<F>,
    sums: ArrayViewMut2<F>,
) {
    let whose = By::new(nodes, sums.len_of(Axis(0)));
    kernels::map_rows(sums, |node, sum| {
        for k in whose.of(node) {
            sum.iter_mut().zip(values.row(k)).for_each(|(sum, &value)| *sum += value);
        }
    });
}
