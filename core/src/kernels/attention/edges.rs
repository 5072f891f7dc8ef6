//! The edges that attention sees, and what scores them.

use crate::scalar::Scalar;

/// Edges by targets and by sources, as attention reads them.
#[derive(Debug, Clone, Copy)]
pub struct Neighbourhoods<'a> {
    /// Where the edges into each target begin, `[n + 1]`.
    pub starts: &'a [usize],
    /// The source of each edge, by targets.
    pub sources: &'a [u32],
    /// Where the edges out of each source begin, `[n + 1]`.
    pub back_starts: &'a [usize],
    /// The target of each edge, by sources.
    pub targets: &'a [u32],
    /// For each edge by sources its place by targets.
    pub places: &'a [usize],
}

impl Neighbourhoods<'_> {
    #[inline(always)]
    pub(super) fn edges_into(&self, target: usize) -> InEdges<'_> {
        let edges = self.starts[target]..self.starts[target + 1];
        InEdges { target, first: edges.start, sources: &self.sources[edges] }
    }
}

/// The edges into one target.
#[derive(Debug, Clone, Copy)]
pub struct InEdges<'a> {
    /// The target.
    pub target: usize,
    /// Place of the first edge.
    pub first: usize,
    /// The sources.
    pub sources: &'a [u32],
}

/// One edge.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    /// Where it comes from.
    pub source: usize,
    /// Where it leads.
    pub target: usize,
    /// Its place by targets.
    pub place: usize,
}

/// How the edges of a target are scored, and where the gradients of the scores go. All numbers lie
/// row by row; `spare` holds one row of `Z`.
pub trait Scores<F: Scalar>: Sync {
    /// Writes the score of every edge of `row` and head, `[edges, heads]`.
    /// `H` is their number where the compiler is to know it, else 0.
    fn score<const H: usize>(&self, row: InEdges, spare: &mut [F], out: &mut [F]);

    /// What scores the edges of a source, as many numbers for each: worth asking for ahead.
    fn by_source(&self) -> Option<(&[F], usize)> {
        None
    }

    /// Numbers of a target's own gradient.
    fn target_width(&self) -> usize;

    /// Numbers of a source's own gradient, besides that of its row of `Z`.
    fn source_width(&self) -> usize;

    /// Numbers of the gradient that all edges share.
    fn shared_len(&self) -> usize;

    /// Adds to the target's gradient and to the shared one, given the scores and their gradients
    /// `ds`, `[edges, heads]`; what is left in `ds` is handed to the sources.
    fn row_gradient(&self, row: InEdges, scores: &[F], ds: &mut [F], own: TargetGrads<F>);

    /// Adds to the gradients of the edge's source: of its row of `Z`, and its own.
    fn source_gradient(
        &self,
        edge: Edge,
        ds: &[F],
        dz: &mut [F],
        dsource: &mut [F],
        spare: &mut [F],
    );

    /// Adds to the gradient of a node's row of `Z` what follows from its own gradients as a source
    /// and as a target.
    fn finish(&self, dsource: &[F], dtarget: &[F], dz: &mut [F]);
}

/// What the edges of one target add to.
#[derive(Debug)]
pub struct TargetGrads<'a, F> {
    /// The target's gradient.
    pub dtarget: &'a mut [F],
    /// The gradient that all edges share.
    pub shared: &'a mut [F],
    /// Room for one row of `Z`.
    pub spare: &'a mut [F],
}

/// Scales weights in training: the slice stands at this position of all edges times heads.
pub type WeightDropout<'a, F> = Option<&'a (dyn Fn(usize, &mut [F]) + Sync)>;
