//! Networks that recommend: tables of users and items, with and without a graph between them.

use crate::error::Result;
use crate::nn::decode::{Decoder, Form};
use crate::nn::{Add, Concat, Embedding, Init, LgConv, Model, ModelBuilder, NodeId, Normalize};

/// LightGCN: a table of users and items, propagated, and the mean over all depths; scores are dot
/// products. Without layers it is matrix factorisation.
///
/// *Source*: He et al., SIGIR 2020, eqs. 3 to 5; rows drawn as in the code of its authors.
///
/// ```
/// use gnn_prune::LightGcn;
/// assert_eq!(LightGcn::builder(100).channels(8).build(0)?.num_params(), 800);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct LightGcn;

impl LightGcn {
    /// Starts a network for a graph of `nodes` users and items.
    pub fn builder(nodes: usize) -> LightGcnBuilder {
        LightGcnBuilder {
            nodes,
            channels: 64,
            layers: 3,
            deviation: 0.1,
            cosine: false,
            apart: false,
        }
    }
}

/// Builder of a [`LightGcn`]; see [`LightGcn::builder`].
#[derive(Debug, Clone)]
pub struct LightGcnBuilder {
    nodes: usize,
    channels: usize,
    layers: usize,
    deviation: f64,
    cosine: bool,
    apart: bool,
}

impl LightGcnBuilder {
    /// Numbers per row. Default 64.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// How far rows are propagated; 0 is matrix factorisation. Default 3.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Deviation of the normal numbers that rows begin with. Default 0.1.
    #[must_use]
    pub fn deviation(mut self, deviation: f64) -> Self {
        self.deviation = deviation;
        self
    }

    /// Whether scores are cosines, as a contrastive loss wants them. Default: not.
    #[must_use]
    pub fn cosine(mut self, cosine: bool) -> Self {
        self.cosine = cosine;
        self
    }

    /// Whether the rows of all depths stand beside each other, those of depth `k` of `layers` times
    /// `(k + 1) / (layers + 1)`, in the place of their mean: after
    /// [`Precompute`](crate::prune::Precompute) signs in `layers + 1` parts have a scale per depth.
    /// Default: not.
    ///
    /// *Source*: BiGeaR ([`SignTable`](crate::quant::SignTable)), equation 5.
    #[must_use]
    pub fn apart(mut self, apart: bool) -> Self {
        self.apart = apart;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let mut b = ModelBuilder::new(1);
        let table = Embedding::drawn(self.nodes, self.channels, Init::Normal(self.deviation))?;
        let mut depths = vec![b.add("table", table, &[NodeId::INPUT])?];
        for k in 1..=self.layers {
            depths.push(b.add(&format!("hop{k}"), LgConv::new(), &depths[k - 1..])?);
        }
        let (mut x, mut channels) = (depths[0], self.channels);
        if self.layers > 0 && self.apart {
            let count = depths.len();
            let weighted = depths.iter().enumerate().map(|(k, &depth)| {
                let weight = Add::with_coefficients(vec![(k + 1) as f64 / count as f64])?;
                b.add(&format!("weighted{k}"), weight, &[depth])
            });
            let weighted = weighted.collect::<Result<Vec<_>>>()?;
            x = b.add("depths", Concat::new(), &weighted)?;
            channels *= count;
        } else if self.layers > 0 {
            let share = 1.0 / depths.len() as f64;
            x = b.add("mean", Add::with_coefficients(vec![share; depths.len()])?, &depths)?;
        }
        if self.cosine {
            x = b.add("normalize", Normalize, &[x])?;
        }
        let dot = Decoder::builder(Form::Dot, channels).build()?;
        let y = b.add("decoder", dot, &[x])?;
        b.build(y, seed)
    }
}
