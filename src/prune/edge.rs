//! Edge pruning: which edges of a graph stay, by a criterion and an amount.

use super::amount::{Amount, share_of};
use super::criterion::{Choice, Criterion, Needs, choosing, scored};
use super::units::{EdgeUnits, Units};
use crate::error::{Error, PruneError, Result};
use crate::graph::{EdgeMask, Graph};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// What becomes of an edge and its reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pairs {
    /// They stay or go together: an undirected graph stays undirected.
    #[default]
    Together,
    /// Each stays or goes by itself.
    Apart,
}

/// Builder of an [`EdgePruner`]; see [`EdgePruner::builder`].
#[derive(Debug, Clone)]
pub struct EdgePrunerBuilder<F: Scalar = f32> {
    choice: Choice<F>,
    pairs: Pairs,
}

choosing!(EdgePruner, EdgePrunerBuilder);

impl<F: Scalar> EdgePrunerBuilder<F> {
    /// Share of the edges to remove, in [0, 1]; of n units round-half-to-even(share·n) go, a pair
    /// being one unit where pairs go together. Default 0.5.
    #[must_use]
    pub fn ratio(self, ratio: f64) -> Self {
        self.amount(Amount::Share(ratio))
    }

    /// What becomes of an edge and its reverse. Default [`Pairs::Together`].
    #[must_use]
    pub fn pairs(mut self, pairs: Pairs) -> Self {
        self.pairs = pairs;
        self
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range, and for a budget of parameters, of which
    /// edges have none.
    pub fn build(self) -> Result<EdgePruner<F>> {
        self.choice.amount.check("share of the edges")?;
        if let Amount::Budget(budget) = self.choice.amount {
            let legal = "a share, a count or a threshold: edges have no parameters";
            return Err(Error::setting("amount of edges", format!("{budget:?}"), legal));
        }
        Ok(EdgePruner { settings: self })
    }
}

/// Removes the edges of a graph that a criterion scores lowest. What is left keeps its weights,
/// features, types and parallel edges; see [`Graph::retain`].
///
/// ```
/// use gnn_prune::{Dataset, Random, prune::EdgePruner};
/// let data = Dataset::digits()?;
/// let plan = EdgePruner::builder(Random::new()).ratio(0.25).build()?.plan(data.graph())?;
/// println!("{plan}"); // look before acting
/// let thinner = plan.apply(data.graph())?;
/// assert!(thinner.num_edges() < data.graph().num_edges());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EdgePruner<F: Scalar = f32> {
    settings: EdgePrunerBuilder<F>,
}

impl<F: Scalar> EdgePruner<F> {
    /// Starts a pruner that removes half of the edges by `criterion`.
    pub fn builder(criterion: impl Criterion<F> + 'static) -> EdgePrunerBuilder<F> {
        let choice = Choice::new(criterion, Amount::Share(0.5));
        EdgePrunerBuilder { choice, pairs: Pairs::Together }
    }

    /// Decides which edges of `graph` stay. Ties are broken by the order of the edges. What the
    /// criterion draws, it draws by seed 0 where the pruner was given none: a graph has no seed.
    ///
    /// # Errors
    /// [`Error::Setting`] for more edges than there are, and for a threshold of what chance draws;
    /// what the criterion refuses.
    pub fn plan(&self, graph: &Graph<F>) -> Result<EdgePlan> {
        let Choice { criterion, amount, seed } = &self.settings.choice;
        criterion.needs().within(Needs::WEIGHTS, criterion.name(), "edges")?;
        self.settings.choice.check("edges")?;
        let listed = graph.edge_list().1.len();
        let (unit_of, units) = match self.settings.pairs {
            Pairs::Apart => ((0..listed).collect(), listed),
            Pairs::Together => {
                let pairs = graph.edge_pairs();
                let units = pairs.iter().max().map_or(0, |last| last + 1);
                (pairs, units)
            }
        };
        let seed = seed.unwrap_or(0);
        let all = Units::Edges(EdgeUnits { graph, unit_of: unit_of.clone(), units, seed });
        let mut stays = vec![true; units];
        let mut go = |gone: Vec<usize>| gone.into_iter().for_each(|unit| stays[unit] = false);
        match *amount {
            Amount::Threshold(threshold) => {
                let scores = scored(&**criterion, &all)?;
                go((0..units).filter(|&unit| scores.values()[unit] < threshold).collect());
            }
            Amount::Count(count) if count > units => {
                let legal = format!("at most {units}, all that there are");
                return Err(Error::setting("edges to remove", count, legal));
            }
            Amount::Count(count) => go(criterion.remove(&all, count)?.order),
            Amount::Share(share) => go(criterion.remove(&all, share_of(share, units))?.order),
            Amount::Budget(_) => {}
        }
        let kept = (0..listed).filter(|&e| stays[unit_of[e]]).collect();
        Ok(EdgePlan { criterion: criterion.name().into(), edges: listed, kept })
    }
}

impl<F: Scalar> std::fmt::Display for EdgePruner<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let EdgePrunerBuilder { choice: Choice { criterion, amount, seed }, pairs } =
            &self.settings;
        write!(f, "edges {amount} by {}, pairs {pairs:?}", criterion.name())?;
        seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
    }
}

/// Which edges of a graph stay: made by an [`EdgePruner`] or of a mask, printed for review, stored
/// as JSON, applied to any graph of as many edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePlan {
    criterion: String,
    edges: usize,
    /// Places of the kept edges in the graph's list, ascending.
    kept: Vec<usize>,
}

impl EdgePlan {
    /// Keeps what a mask keeps.
    pub fn of(mask: &EdgeMask) -> Self {
        let kept = (0..mask.len()).filter(|&e| mask.as_slice()[e]).collect();
        Self { criterion: "choice".into(), edges: mask.len(), kept }
    }

    /// Number of edges before.
    pub fn num_edges(&self) -> usize {
        self.edges
    }

    /// Number of edges that stay.
    pub fn num_kept(&self) -> usize {
        self.kept.len()
    }

    /// The graph of the edges that stay.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] for a graph of another number of edges, and a plan that keeps an
    /// edge that there is not.
    pub fn apply<F: Scalar>(&self, graph: &Graph<F>) -> Result<Graph<F>> {
        let other = |reason: String| Error::Prune(PruneError::OtherModel { reason });
        let listed = graph.edge_list().1.len();
        if listed != self.edges {
            let reason = format!("the graph has {listed} edges, the plan expects {}", self.edges);
            return Err(other(reason));
        }
        let mut keep = vec![false; listed];
        for &e in &self.kept {
            *keep.get_mut(e).ok_or_else(|| {
                other(format!("the graph has {listed} edges, the plan keeps number {e}"))
            })? = true;
        }
        graph.retain(&keep.into())
    }
}

impl std::fmt::Display for EdgePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { criterion, edges, kept } = self;
        writeln!(f, "edge plan by {criterion}: {edges} -> {} edges", kept.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Duplicates;
    use crate::prune::{Random, Scores, Subset};

    fn graph() -> Graph {
        Graph::builder(4)
            .weighted_edges([(0, 1, 1.0), (1, 2, 3.0), (2, 3, 0.5), (3, 0, 2.0), (2, 2, 5.0)])
            .undirected(true)
            .build()
            .unwrap()
    }

    /// What an edge weighs, a pair by its first.
    struct Weight;

    impl Criterion<f32> for Weight {
        fn name(&self) -> &str {
            "weight"
        }

        fn score(&self, units: &Units<f32>) -> Result<Scores> {
            let Units::Edges(all) = units else { return Err(units.unserved("weight")) };
            let mut scores = vec![f64::INFINITY; all.units];
            for (edge, &unit) in all.graph.edges().zip(&all.unit_of) {
                scores[unit] = scores[unit].min(f64::from(edge.weight));
            }
            Ok(Scores::new(scores))
        }
    }

    #[test]
    fn the_lowest_go_and_pairs_go_together() {
        let graph = graph();
        let left = |pruner: EdgePrunerBuilder| {
            let plan = pruner.build().unwrap().plan(&graph).unwrap();
            let left = plan.apply(&graph).unwrap();
            assert_eq!(left.edges().count(), plan.num_kept());
            left
        };
        // Five units: four pairs and a loop.
        let two = left(EdgePruner::builder(Weight).amount(Amount::Count(2)));
        let weights: Vec<f32> = two.edges().map(|edge| edge.weight).collect();
        assert_eq!(weights, [2.0, 3.0, 3.0, 5.0, 2.0]);
        assert_eq!(left(EdgePruner::builder(Weight).ratio(0.4)).adjacency(), two.adjacency());
        let under = left(EdgePruner::builder(Weight).amount(Amount::Threshold(2.0)));
        assert_eq!(under.adjacency(), two.adjacency());
        let apart = EdgePruner::builder(Weight).pairs(Pairs::Apart).amount(Amount::Count(3));
        assert_eq!(left(apart).num_edges(), 6);
        let bare = left(EdgePruner::builder(Weight).ratio(1.0));
        assert_eq!(bare.num_edges(), 0);
    }

    #[test]
    fn chance_is_drawn_by_the_seed_and_plans_go_to_json_and_back() {
        let graph = Graph::builder(9)
            .edges((0..40).map(|k| (k * 7 % 9, k * 5 % 9)))
            .duplicates(Duplicates::Keep)
            .build()
            .unwrap();
        let pruner = EdgePruner::builder(Random::new()).build().unwrap();
        let plan = |pruner: &EdgePruner, seed| pruner.with_seed(seed).plan(&graph).unwrap();
        assert_eq!(plan(&pruner, 1), plan(&pruner, 1));
        assert_ne!(plan(&pruner, 1), plan(&pruner, 2));
        assert_eq!(pruner.plan(&graph).unwrap(), plan(&pruner, 0));
        let json = serde_json::to_string(&plan(&pruner, 1)).unwrap();
        assert_eq!(serde_json::from_str::<EdgePlan>(&json).unwrap(), plan(&pruner, 1));
        let mask = EdgeMask::from_fn(&graph, |edge| edge.source < 5);
        assert_eq!(EdgePlan::of(&mask).num_kept(), mask.num_kept());
        let error = plan(&pruner, 1).apply(&self::graph()).unwrap_err().to_string();
        assert!(error.contains("9 edges") && error.contains("expects 40"), "{error}");
    }

    #[test]
    fn what_edges_do_not_have_is_refused_by_name() {
        let refused = |pruner: EdgePrunerBuilder| {
            pruner.build().and_then(|pruner| pruner.plan(&graph())).unwrap_err().to_string()
        };
        let error = refused(EdgePruner::builder(Subset::new()));
        assert!(error.contains("`subset` does not score edges") && error.contains("readers"));
        let error = refused(EdgePruner::builder(crate::Magnitude::l1()));
        assert!(error.contains("`l1` does not score edges"), "{error}");
        let error = refused(EdgePruner::builder(Random::new()).amount(Amount::Threshold(0.5)));
        assert!(error.contains("`random`"), "{error}");
        let error = refused(EdgePruner::builder(Weight).amount(Amount::Count(6)));
        assert!(error.contains("at most 5"), "{error}");
        let budget = Amount::Budget(crate::prune::Budget::Params(1));
        let error = refused(EdgePruner::builder(Weight).amount(budget));
        assert!(error.contains("no parameters"), "{error}");
        let error = refused(EdgePruner::builder(Weight).ratio(1.5));
        assert!(error.contains("share of the edges"), "{error}");
    }
}
