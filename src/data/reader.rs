//! Reading data sets from files, and the word that stands for a data set on the command line.

use super::dataset::Dataset;
use super::norm::FeatureNorm;
use super::powerlaw::PowerLaw;
use super::sbm::Sbm;
use super::{npz, spec, tables, tensors};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What a path may be, for errors.
const SUPPORTED: &str = "what is read is a .npz file in the gnn-benchmark or the heterophilous-graphs layout, a folder in OGB's raw layout, \
                         a .csv list of edges beside .npy features, or .safetensors or (with the feature `pt`) .pt with PyG's names";

/// Reads a data set from a file; see [`Dataset::reader`].
///
/// ```no_run
/// use gnn_prune::{Dataset, FeatureNorm};
/// let data = Dataset::reader("cora.npz").features(FeatureNorm::L1).read()?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
    norm: Option<FeatureNorm>,
}

impl Reader {
    /// How to normalise the rows of the features. Default: [`FeatureNorm::L2`] for sparse features, [`FeatureNorm::Raw`] for dense ones.
    #[must_use]
    pub fn features(mut self, norm: FeatureNorm) -> Self {
        self.norm = Some(norm);
        self
    }

    /// Reads and validates the file; the data set is named after its stem. From `.npz` files and OGB's folders the graph is undirected,
    /// every edge once each way and of weight 1; from lists of edges and safetensors it is as listed.
    ///
    /// # Errors
    /// [`Error::File`] if the file is missing, of an unknown kind or damaged, names the array that is missing or wrong;
    /// [`Error::NotFinite`] for a feature that is NaN or infinite.
    pub fn read(self) -> Result<Dataset> {
        let path = self.path.as_path();
        let kind = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::file(path, "there is no such file; give a .npz file, `digits`, `sbm:nodes=…` or `powerlaw:nodes=…`")
            }
            _ => Error::file(path, format!("cannot be read: {error}")),
        })?;
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if kind.is_dir() {
            let raw = ["edge.csv.gz", "raw/edge.csv.gz"].iter().any(|file| path.join(file).is_file());
            return if raw { tables::ogb(path, name, self.norm) } else { Err(Error::file(path, format!("is a folder; {SUPPORTED}"))) };
        }
        let named = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if named.ends_with(".csv") || named.ends_with(".csv.gz") {
            return tables::edge_list(path, name, self.norm);
        }
        // Every kind of file is one arm here.
        match extension.as_str() {
            "npz" => npz::read(path, name, self.norm),
            "safetensors" | "pt" | "pth" => tensors::read(path, name, self.norm),
            "" => Err(Error::file(path, format!("has no extension that says what it is; {SUPPORTED}"))),
            other => Err(Error::file(path, format!("is a .{other} file; {SUPPORTED}"))),
        }
    }
}

impl Dataset<f32> {
    /// Reads a data set with the default normalisation of its features; [`reader`](Self::reader) gives the choice.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::reader(path).read()
    }

    /// Starts reading a data set from a file.
    pub fn reader(path: impl AsRef<Path>) -> Reader {
        Reader { path: path.as_ref().into(), norm: None }
    }

    /// The data set that a word of the command line stands for: `digits`, `sbm:nodes=…,classes=…,degree=…,seed=…`,
    /// `powerlaw:nodes=…,edges=…,features=…,classes=…,seed=…` (every setting of the generators has a default here), else a path.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting of a generator that does not exist or is out of range, else as [`Reader::read`].
    ///
    /// ```
    /// use gnn_prune::Dataset;
    /// let data = Dataset::open("sbm:nodes=300,classes=3", None)?;
    /// assert_eq!(data.num_nodes(), 300);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn open(word: &str, norm: Option<FeatureNorm>) -> Result<Self> {
        let generated = match word.split_once(':').unwrap_or((word, "")) {
            ("digits", "") => Dataset::digits()?,
            ("sbm", settings) => Sbm::from_spec(spec::Settings::parse("sbm", settings)?)?.build()?,
            ("powerlaw", settings) => PowerLaw::from_spec(spec::Settings::parse("powerlaw", settings)?)?.build()?,
            _ => return Reader { path: word.into(), norm }.read(),
        };
        match norm {
            Some(norm) => generated.with_features_normalised(norm),
            None => Ok(generated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(word: &str) -> String {
        let message = Dataset::open(word, None).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn words_open_what_they_name_and_names_open_the_same_again() {
        for word in ["digits", "sbm", "sbm:nodes=400,classes=2,seed=3,homophily=0.25", "powerlaw:nodes=600,edges=4000,classes=3"] {
            let data = Dataset::open(word, None).unwrap();
            let again = Dataset::open(data.name(), Some(FeatureNorm::L2)).unwrap();
            assert_eq!(data.name(), again.name());
            assert_eq!(data.graph().adjacency(), again.graph().adjacency());
            assert_eq!((data.labels(), data.feature_norm(), again.feature_norm()), (again.labels(), FeatureNorm::Raw, FeatureNorm::L2));
        }
        assert_eq!(Dataset::open("sbm:seed=3,classes=2,nodes=400", None).unwrap().name(), "sbm:nodes=400,classes=2,degree=10,seed=3");
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_what_can() {
        assert!(message("no/such/file.npz").contains("no such file"));
        assert!(message(env!("CARGO_MANIFEST_DIR")).contains("is a folder; what is read is a .npz"));
        assert!(message(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).contains("is a .toml file; what is read is a .npz"));
        assert!(message("sbm:nodes=many").contains("nodes is many"));
        assert!(message("sbm:node=5").contains("nodes, classes, degree"));
        assert!(message("sbm:nodes=5,nodes=6").contains("twice"));
        assert!(message("powerlaw:nodes").contains("name=value"));
        assert!(message("sbm:nodes=1000,degree=-1").contains("degree is -1"));
    }
}
