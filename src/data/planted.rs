//! What the generators have in common: classes that edges and features tell of.

use super::dataset::Dataset;
use super::spec::{Settings, word};
use super::split::Splits;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::{generator, purpose};
use ndarray::Array2;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand_distr::StandardNormal;
use rayon::prelude::*;
use std::fmt::Display;

/// Nodes of one class stay findable, and block pairs few.
const MAX_CLASSES: usize = 1000;
/// 2^31 numbers are 8 GB.
const MAX_ENTRIES: usize = 1 << 31;
/// Rows that one generator of random numbers fills.
const ROWS: usize = 1024;

/// Second word of the key of a generator: what it draws.
pub(super) mod draws {
    pub(in crate::data) const EDGES: u64 = 1;
    pub(in crate::data) const PLACES: u64 = 2;
    pub(super) const MEANS: u64 = 3;
    pub(super) const FEATURES: u64 = 4;
}

#[derive(Debug, Clone)]
pub(super) struct Planted {
    pub nodes: usize,
    pub classes: usize,
    pub homophily: f64,
    pub features: usize,
    pub signal: f64,
    pub seed: u64,
    pub train: usize,
    pub val: usize,
}

impl Planted {
    pub(super) const fn new(nodes: usize, classes: usize) -> Self {
        Self {
            nodes,
            classes,
            homophily: 0.8,
            features: 32,
            signal: 1.0,
            seed: 0,
            train: 20,
            val: 30,
        }
    }

    /// Takes every setting but the number of nodes and edges.
    pub(super) fn take(&mut self, settings: &mut Settings) -> Result<()> {
        self.homophily = settings.take("homophily", self.homophily)?;
        self.signal = settings.take("signal", self.signal)?;
        self.train = settings.take("train", self.train)?;
        self.val = settings.take("val", self.val)?;
        self.seed = settings.take("seed", self.seed)?;
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(2..=MAX_CLASSES).contains(&self.classes) {
            return Err(Error::setting(
                "classes",
                self.classes,
                format!("between 2 and {MAX_CLASSES}"),
            ));
        }
        if self.nodes < self.classes || self.nodes > MAX_ENTRIES {
            let legal =
                format!("between the number of classes, {}, and {MAX_ENTRIES}", self.classes);
            return Err(Error::setting("nodes", self.nodes, legal));
        }
        if self.features == 0 || self.features > MAX_ENTRIES / self.nodes {
            return Err(Error::setting(
                "features",
                self.features,
                format!("between 1 and {} for {} nodes", MAX_ENTRIES / self.nodes, self.nodes),
            ));
        }
        if !(0.0..=1.0).contains(&self.homophily) {
            return Err(Error::setting("homophily", self.homophily, "between 0 and 1"));
        }
        if !(0.0..=1e6).contains(&self.signal) {
            return Err(Error::setting("signal", self.signal, "between 0 and 1000000"));
        }
        Ok(())
    }

    /// The settings that come last in the word for the data set, with their defaults.
    pub(super) fn word(
        &self,
        kind: &str,
        own: &[(&str, &dyn Display, Option<&dyn Display>)],
    ) -> String {
        let usual = Self::new(self.nodes, self.classes);
        let shared: [(&str, &dyn Display, Option<&dyn Display>); 5] = [
            ("seed", &self.seed, None),
            ("homophily", &self.homophily, Some(&usual.homophily)),
            ("signal", &self.signal, Some(&usual.signal)),
            ("train", &self.train, Some(&usual.train)),
            ("val", &self.val, Some(&usual.val)),
        ];
        word(kind, own.iter().chain(&shared).copied())
    }

    /// How many of the numbers `class, class + classes, …` lie below the number of nodes.
    pub(super) fn class_size(&self, class: usize) -> usize {
        self.nodes / self.classes + usize::from(class < self.nodes % self.classes)
    }

    /// `x_i = signal·m_{class of i} + N(0, I)`, where the `m` are random directions of length 1.
    pub(super) fn features(&self, labels: &[u32]) -> Array2<f32> {
        let mut means = Array2::<f32>::zeros((self.classes, self.features));
        let mut rng = generator(self.seed, &[purpose::DATA, draws::MEANS]);
        for mut mean in means.rows_mut() {
            let direction: Vec<f64> =
                (0..self.features).map(|_| rng.sample(StandardNormal)).collect();
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            mean.iter_mut()
                .zip(direction)
                .for_each(|(m, x)| *m = (self.signal * x / length) as f32);
        }
        let mut features = vec![0.0f32; labels.len() * self.features];
        let fill = |(k, (rows, labels)): (usize, (&mut [f32], &[u32]))| {
            let mut rng = generator(self.seed, &[purpose::DATA, draws::FEATURES, k as u64]);
            for (row, &label) in rows.chunks_mut(self.features).zip(labels) {
                row.iter_mut()
                    .zip(means.row(label as usize))
                    .for_each(|(x, m)| *x = m + rng.sample::<f32, _>(StandardNormal));
            }
        };
        features
            .par_chunks_mut(ROWS * self.features)
            .zip(labels.par_chunks(ROWS))
            .enumerate()
            .for_each(fill);
        Array2::from_shape_vec((labels.len(), self.features), features)
            .expect("there are as many numbers as rows times columns")
    }

    pub(super) fn dataset(&self, name: String, graph: Graph, labels: Vec<u32>) -> Result<Dataset> {
        let features = self.features(&labels);
        let splits = Splits::PerClass { train: self.train, val: self.val };
        Dataset::new(name, graph, features.into(), labels, Some(self.classes), splits)
    }
}

/// The setters that both generators have, on a struct with a field `planted`.
macro_rules! planted_setters {
    () => {
        /// Expected share of edges that join nodes of one class. Default 0.8, legal 0 to 1.
        #[must_use]
        pub fn homophily(mut self, share: f64) -> Self {
            self.planted.homophily = share;
            self
        }

        /// Number of features. Default 32, legal 1 to 2^31 / nodes.
        #[must_use]
        pub fn features(mut self, features: usize) -> Self {
            self.planted.features = features;
            self
        }

        /// How far each class mean lies from the origin, in standard deviations of the noise of one
        /// feature. With 0 features say nothing; with 1 the best guess between two classes from a
        /// node's own features is wrong for about 24 % of the nodes. Default 1, legal 0 to
        /// 1,000,000.
        #[must_use]
        pub fn signal(mut self, signal: f64) -> Self {
            self.planted.signal = signal;
            self
        }

        /// Seed of everything that is drawn. Default 0.
        #[must_use]
        pub fn seed(mut self, seed: u64) -> Self {
            self.planted.seed = seed;
            self
        }

        /// Training and validation nodes per class. Default 20 and 30, legal at least 1 each; every
        /// class has more nodes than both together.
        #[must_use]
        pub fn per_class(mut self, train: usize, val: usize) -> Self {
            (self.planted.train, self.planted.val) = (train, val);
            self
        }
    };
}
pub(super) use planted_setters;

/// Share of the edges that join nodes of one class.
#[cfg(test)]
pub(super) fn homophily(data: &Dataset) -> f64 {
    let classes = data.classes().expect("each node has one class");
    let same = data
        .graph()
        .adjacency()
        .iter()
        .filter(|(_, (i, j))| classes[*i as usize] == classes[*j as usize])
        .count();
    same as f64 / data.graph().num_edges() as f64
}
