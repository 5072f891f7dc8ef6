//! Reading data sets from files, and the word that stands for a data set on the command line.

use super::dataset::Dataset;
use super::norm::FeatureNorm;
use super::powerlaw::PowerLaw;
use super::purpose::Purpose;
use super::sbm::Sbm;
use super::split::SplitSource;
use super::wanted::Wanted;
use super::{npz, parts, spec, tables, tensors};
use crate::error::{Error, Result};
use crate::log;
use std::path::{Path, PathBuf};

/// What a path may be, for errors.
const SUPPORTED: &str = "what is read is a .npz file in the gnn-benchmark or the heterophilous-graphs layout, a folder in OGB's raw layout, \
                         a .csv list of edges beside .npy or .features.csv features, or .safetensors or (with the feature `pt`) .pt with PyG's names";

/// Reads a data set from a file; see [`Dataset::reader`].
///
/// ```no_run
/// use gnn_prune::{Dataset, FeatureNorm};
/// let data = Dataset::reader("cora.npz").features(FeatureNorm::L1).read()?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    place: Place,
    wanted: Wanted,
}

#[derive(Debug, Clone)]
enum Place {
    Path(PathBuf),
    Word(String),
}

impl Reader {
    /// How to normalise the rows of the features. Default: [`FeatureNorm::L2`] for sparse features,
    /// [`FeatureNorm::Raw`] for dense ones.
    #[must_use]
    pub fn features(mut self, norm: FeatureNorm) -> Self {
        self.wanted.norm = Some(norm);
        self
    }

    /// What the data are for. Default: [`Purpose::Learn`].
    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.wanted.purpose = purpose;
        self
    }

    /// Number of outputs of the network that the data are for: a file whose labels all lie below
    /// has that many classes, so that label v is output v. Default: the largest label and one.
    #[must_use]
    pub fn classes(mut self, classes: usize) -> Self {
        self.wanted.classes = Some(classes);
        self
    }

    /// Takes this split instead of the file's own. Default: the masks of the file, without any 20
    /// training and 30 validation nodes per class.
    #[must_use]
    pub fn split(mut self, split: impl Into<SplitSource>) -> Self {
        self.wanted.split = Some(split.into());
        self
    }

    /// Reads and validates the file; the data set is named after its stem. From `.npz` files and
    /// OGB's folders the graph is undirected, every edge once each way and of weight 1; from lists
    /// of edges and safetensors it is as listed, and an edge that is listed twice counts twice.
    /// What was assumed or not used stands in [`Dataset::notes`].
    ///
    /// Labels are not renumbered: label v is class v, but in `.npz` files that count them from 1
    /// without gaps, where it is class v − 1 unless the network has an output more. A label of −1,
    /// NaN or an empty one is none.
    ///
    /// # Errors
    /// [`Error::File`] if the file is missing, of an unknown kind or damaged, names the array that
    /// is missing or wrong; [`Error::NotFinite`] for a feature that is NaN or infinite. For a word
    /// as [`Dataset::open`].
    pub fn read(self) -> Result<Dataset> {
        let data = self.opened()?;
        let (edges, features, classes) =
            (data.graph().num_edges(), data.num_features(), data.num_classes());
        log::info!(
            "{}: {} nodes, {edges} edges, {features} features, {classes} classes",
            data.name(),
            data.num_nodes()
        );
        Ok(data)
    }

    fn opened(self) -> Result<Dataset> {
        let Self { place, wanted } = self;
        match place {
            Place::Path(path) => read_file(&path, &wanted),
            Place::Word(word) => match generated(&word)? {
                None => read_file(Path::new(&word), &wanted),
                Some(mut data) => {
                    if let Some(norm) = wanted.norm {
                        data = data.with_normalized_features(norm)?;
                    }
                    match wanted.split {
                        Some(source) => {
                            let splits = parts::splits_from(&source, data.num_nodes())?;
                            data.with_splits(splits)
                        }
                        None => Ok(data),
                    }
                }
            },
        }
    }
}

/// What a word generates; nothing where it is none that does.
fn generated(word: &str) -> Result<Option<Dataset>> {
    Ok(Some(match word.split_once(':').unwrap_or((word, "")) {
        ("digits", "") => Dataset::digits()?,
        ("sbm", settings) => Sbm::from_spec(spec::Settings::parse("sbm", settings)?)?.build()?,
        ("powerlaw", settings) => {
            PowerLaw::from_spec(spec::Settings::parse("powerlaw", settings)?)?.build()?
        }
        _ => return Ok(None),
    }))
}

fn read_file(path: &Path, wanted: &Wanted) -> Result<Dataset> {
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
        return if raw {
            tables::ogb(path, name, wanted)
        } else {
            Err(Error::file(path, format!("is a folder; {SUPPORTED}")))
        };
    }
    let named = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if [".csv", ".csv.gz", ".tsv", ".tsv.gz"].iter().any(|end| named.ends_with(end)) {
        return tables::edge_list(path, name, wanted);
    }
    // Every kind of file is one arm here.
    match extension.as_str() {
        "npz" => npz::read(path, name, wanted),
        "safetensors" | "pt" | "pth" => tensors::read(path, name, wanted),
        "" => Err(Error::file(path, format!("has no extension that says what it is; {SUPPORTED}"))),
        other => Err(Error::file(path, format!("is a .{other} file; {SUPPORTED}"))),
    }
}

impl Dataset<f32> {
    /// Reads a data set with the default normalisation of its features; [`reader`](Self::reader)
    /// gives the choice.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::reader(path).read()
    }

    /// Starts reading a data set from a file.
    pub fn reader(path: impl AsRef<Path>) -> Reader {
        Reader { place: Place::Path(path.as_ref().into()), wanted: Wanted::default() }
    }

    /// Starts reading what a word of the command line stands for; see [`Dataset::open`].
    pub fn word(word: impl Into<String>) -> Reader {
        Reader { place: Place::Word(word.into()), wanted: Wanted::default() }
    }

    /// The data set that a word of the command line stands for: `digits`,
    /// `sbm:nodes=…,classes=…,degree=…,seed=…`,
    /// `powerlaw:nodes=…,edges=…,features=…,classes=…,seed=…` (every setting of the generators has
    /// a default here), else a path.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting of a generator that does not exist or is out of range, else
    /// as [`Reader::read`].
    ///
    /// ```
    /// use gnn_prune::Dataset;
    /// let data = Dataset::open("sbm:nodes=300,classes=3", None)?;
    /// assert_eq!(data.num_nodes(), 300);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn open(word: &str, norm: Option<FeatureNorm>) -> Result<Self> {
        let reader = Self::word(word);
        match norm {
            Some(norm) => reader.features(norm),
            None => reader,
        }
        .read()
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
        for word in [
            "digits",
            "sbm",
            "sbm:nodes=400,classes=2,seed=3,homophily=0.25",
            "powerlaw:nodes=600,edges=4000,classes=3",
        ] {
            let data = Dataset::open(word, None).unwrap();
            let again = Dataset::open(data.name(), Some(FeatureNorm::L2)).unwrap();
            assert_eq!(data.name(), again.name());
            assert_eq!(data.graph().adjacency(), again.graph().adjacency());
            assert_eq!(
                (data.classes().unwrap(), data.feature_norm(), again.feature_norm()),
                (again.classes().unwrap(), FeatureNorm::Raw, FeatureNorm::L2)
            );
        }
        assert_eq!(
            Dataset::open("sbm:seed=3,classes=2,nodes=400", None).unwrap().name(),
            "sbm:nodes=400,classes=2,degree=10,seed=3"
        );
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_what_can() {
        assert!(message("no/such/file.npz").contains("no such file"));
        assert!(
            message(env!("CARGO_MANIFEST_DIR")).contains("is a folder; what is read is a .npz")
        );
        assert!(
            message(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
                .contains("is a .toml file; what is read is a .npz")
        );
        assert!(message("sbm:nodes=many").contains("nodes is many"));
        assert!(message("sbm:node=5").contains("nodes, classes, degree"));
        assert!(message("sbm:nodes=5,nodes=6").contains("twice"));
        assert!(message("powerlaw:nodes").contains("name=value"));
        assert!(message("sbm:nodes=1000,degree=-1").contains("degree is -1"));
    }
}
