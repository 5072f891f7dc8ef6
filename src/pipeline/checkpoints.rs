//! Finished stages of a run in a folder, so that a run that was stopped goes on where it was.
//!
//! Of every stage of every seed there are two files: the model as a model file, and a record as
//! JSON that names the run, says how good the model is, and has a digest of the model's bytes and
//! of itself. The record is written after the model, both as a whole; a stage without a sound
//! record is no stage.

use super::compressed::Compressed;
use super::identity::Identity;
use crate::error::{Error, Result};
use crate::files;
use crate::nn::{Model, Registry};
use crate::report::Effort;
use crate::rng::Digest;
use crate::task::Measured;
use crate::train::Epoch;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What the run is.
const RUN: &str = "gnn-prune-run.json";
/// Held by the process that writes.
const LOCK: &str = "gnn-prune-lock";
const MODEL: &str = "safetensors";
const RECORD: &str = "json";
/// How the names of all stages begin: in a folder that is not ours alone no other file is taken for
/// one.
const PREFIX: &str = "gnn-prune-seed";

/// A folder that keeps every finished stage of a [`Compression`](crate::Compression).
///
/// The same compression with the folder of one that was stopped, by [`Error::Interrupted`] or with
/// its process, runs only what is missing, and gives the same model and the same report but for
/// times. The models in the folder are ordinary model files. A stage after one that changed the
/// graph is not kept, and runs again.
///
/// ```
/// use gnn_prune::{Checkpoints, ChannelPruner, Compression, Controls, Dataset, Gcn, Magnitude, Trainer};
/// let data = Dataset::sbm(200, 3).build()?;
/// let form = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let folder = std::env::temp_dir().join(format!("gnn-prune-doc-{}", std::process::id()));
/// let run = |checkpoints| -> gnn_prune::Result<_> {
///     Compression::train(form.clone(), Trainer::builder().epochs(5).build()?, 2, &data)?
///         .step(ChannelPruner::builder(Magnitude::l2()).build()?)
///         .controls(Controls::None)
///         .keep(checkpoints)
///         .run()
/// };
/// let out = run(Checkpoints::begin(&folder)?)?;
/// assert!(Checkpoints::begin(&folder).is_err(), "what is kept is not written over");
/// let again = run(Checkpoints::resume(&folder))?;
/// assert_eq!(again.report.rows[1].accuracy, out.report.rows[1].accuracy);
/// Checkpoints::remove(&folder)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    resume: bool,
    registry: Registry<f32>,
}

impl Checkpoints {
    /// For a new run. The folder is made when the run begins; the one around it must be there.
    ///
    /// # Errors
    /// [`Error::File`] where the folder has finished stages of another run, which would be lost.
    pub fn begin(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        match Self::count(&folder) {
            0 => Ok(Self { folder, resume: false, registry: Registry::standard() }),
            kept => {
                let stages = if kept == 1 {
                    "1 finished stage".into()
                } else {
                    format!("{kept} finished stages")
                };
                let problem = format!(
                    "holds {stages} of an earlier run; go on with it (`--resume`), or remove the folder to begin anew"
                );
                Err(Error::file(folder, problem))
            }
        }
    }

    /// For a run that goes on. Where the folder has nothing the run begins; where it has another
    /// run, the compression refuses and says what differs.
    pub fn resume(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), resume: true, registry: Registry::standard() }
    }

    /// The layers that kept models may have. Default: [`Registry::standard`].
    #[must_use]
    pub fn registry(mut self, registry: Registry<f32>) -> Self {
        self.registry = registry;
        self
    }

    /// Number of finished stages in a folder; 0 where there is none.
    pub fn count(folder: impl AsRef<Path>) -> usize {
        stage_files(folder.as_ref())
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == RECORD))
            .count()
    }

    /// Removes what runs have kept in a folder, and the folder if it is then empty.
    ///
    /// # Errors
    /// [`Error::File`] where a file cannot be removed.
    pub fn remove(folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let mut stages = stage_files(folder);
        // Without the name of the run, what is left after a kill is nobody's; and no record is left
        // without its model.
        stages.sort_by_key(|path| path.extension().is_some_and(|extension| extension == MODEL));
        for path in [folder.join(RUN)].into_iter().chain(stages).chain([folder.join(LOCK)]) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(path, format!("cannot be removed: {error}")));
                }
                _ => {}
            }
        }
        files::remove_half_written(folder);
        // Other files in it are not ours.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    /// Makes the folder ready for the run of that identity. What cannot be used is told to `note`.
    pub(super) fn open(&self, identity: &Identity, note: &dyn Fn(String)) -> Result<Store> {
        let folder = &self.folder;
        match fs::create_dir(folder) {
            Err(error) if !folder.is_dir() => {
                return Err(Error::file(folder, format!("cannot be made: {error}")));
            }
            _ => {}
        }
        let lock = locked(folder)?;
        if !self.resume {
            // `begin` found no record here: whatever stage files there are belong to none.
            Self::begin(folder)?;
            stage_files(folder).iter().for_each(|path| _ = fs::remove_file(path));
        }
        let named = folder.join(RUN);
        match (self.resume, fs::read(&named)) {
            (true, Ok(bytes)) => match serde_json::from_slice::<Identity>(&bytes) {
                Ok(kept) => {
                    let differences = kept.differences(identity);
                    if !differences.is_empty() {
                        let problem = format!(
                            "is of another run: {}; give the same settings, or remove the folder to begin anew",
                            differences.join("; ")
                        );
                        return Err(Error::file(folder, problem));
                    }
                }
                Err(_) => note(format!(
                    "{} is damaged; each stage says of which run it is",
                    named.display()
                )),
            },
            (true, Err(_)) if stage_files(folder).is_empty() => {
                note(format!("{} has nothing to go on with; the run begins", folder.display()));
            }
            _ => {}
        }
        let text =
            serde_json::to_string_pretty(identity).expect("an identity is a list of strings");
        files::write_atomically(&named, text.as_bytes())?;
        let run = Digest::of(text.as_bytes());
        Ok(Store {
            folder: folder.clone(),
            run,
            resume: self.resume,
            registry: self.registry.clone(),
            lock: Some(lock),
        })
    }
}

/// Takes the folder for this process; the system lets go of it with the process.
fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path)
        .map_err(|error| Error::file(&path, format!("cannot be written: {error}")))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::file(
            folder,
            "another process is at work in this folder; wait for it, or name another",
        )),
        // Where there are no locks nobody is kept out.
        _ => Ok(file),
    }
}

/// All models and records of stages in a folder.
fn stage_files(folder: &Path) -> Vec<PathBuf> {
    let is_stage = |path: &PathBuf| {
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(PREFIX));
        named && path.extension().is_some_and(|extension| extension == MODEL || extension == RECORD)
    };
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_stage)
        .collect()
}

/// What is known of a finished stage beside its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Name of the stage's row.
    pub stage: String,
    /// The metrics on the test part.
    pub test: Measured,
    /// The metric on the validation nodes, of the last stage of a chain.
    pub validation: Option<f64>,
    /// The epochs of its training.
    pub epochs: Vec<Epoch>,
    /// What it took.
    pub effort: Effort,
}

/// A record in its file.
#[derive(Serialize, Deserialize)]
struct Sealed {
    run: String,
    place: String,
    model: String,
    record: Record,
    /// Of all of the above.
    digest: String,
}

impl Sealed {
    fn new(run: &str, place: &str, model: String, record: Record) -> Self {
        let mut sealed =
            Self { run: run.into(), place: place.into(), model, record, digest: String::new() };
        sealed.digest = Digest::of(sealed.text().as_bytes());
        sealed
    }

    /// The file.
    fn file(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record is strings and numbers")
    }

    fn text(&self) -> String {
        serde_json::to_string(&(&self.run, &self.place, &self.model, &self.record))
            .expect("a record is strings and numbers")
    }
}

/// The open folder of a run.
pub(super) struct Store {
    folder: PathBuf,
    /// Digest of the run's identity.
    run: String,
    resume: bool,
    registry: Registry<f32>,
    lock: Option<File>,
}

impl Store {
    fn path(&self, place: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{PREFIX}{place}.{extension}"))
    }

    /// The stage that an earlier process finished at `place`; one that is damaged is told to `note`
    /// and counts as not there.
    pub(super) fn load(
        &self,
        place: &str,
        stage: &str,
        note: &dyn Fn(String),
    ) -> Option<(Record, Compressed)> {
        let path = self.path(place, RECORD);
        if !self.resume || !path.exists() {
            return None;
        }
        match self.read(place, stage) {
            Ok(found) => Some(found),
            Err(problem) => {
                note(format!("{}: {problem}; `{stage}` is done again", path.display()));
                None
            }
        }
    }

    fn read(&self, place: &str, stage: &str) -> Result<(Record, Compressed), String> {
        let bytes = files::read(&self.path(place, RECORD)).map_err(|error| error.to_string())?;
        let sealed: Sealed =
            serde_json::from_slice(&bytes).map_err(|_| "is damaged".to_string())?;
        // Of a name that is not known, and so reads as nothing, the digest says nothing.
        let is_whole = sealed.file().as_bytes() == bytes;
        if !is_whole || sealed.digest != Digest::of(sealed.text().as_bytes()) {
            return Err("is damaged".into());
        }
        if sealed.run != self.run || sealed.place != place || sealed.record.stage != stage {
            return Err("is of another stage or run".into());
        }
        let path = self.path(place, MODEL);
        let model = files::read(&path).map_err(|_| "has no model beside it".to_string())?;
        if sealed.model != Digest::of(&model) {
            return Err("is of another model than the one beside it".into());
        }
        let model =
            Compressed::load_with(&path, &self.registry).map_err(|error| error.to_string())?;
        Ok((sealed.record, model))
    }

    /// Keeps a stage: its model first, then its record.
    pub(super) fn save(
        &self,
        place: &str,
        record: Record,
        model: Kept,
        note: &dyn Fn(String),
    ) -> Result<()> {
        let (path, stage) = (self.path(place, MODEL), record.stage.clone());
        // Between the two files there must be no record of an older model.
        let _ = fs::remove_file(self.path(place, RECORD));
        match model {
            Kept::Float(model) => model.save(&path)?,
            Kept::Integer(model) => model.save(&path)?,
        }
        let digest = Digest::of(&files::read(&path)?);
        let sealed = Sealed::new(&self.run, place, digest, record).file();
        files::write_atomically(&self.path(place, RECORD), sealed.as_bytes())?;
        let problem = match (self.read(place, &stage), model) {
            (Ok((_, Compressed::Float(back))), Kept::Float(model))
                if !trains_alike(&back, model) =>
            {
                "a parameter that is frozen would not be".to_string()
            }
            (Ok(_), _) => return Ok(()),
            (Err(problem), _) => problem,
        };
        let _ = fs::remove_file(self.path(place, RECORD));
        note(format!(
            "`{stage}` cannot be kept, and will be done again if the run is stopped: {problem}"
        ));
        Ok(())
    }
}

impl Drop for Store {
    /// A run of which nothing is kept leaves nothing behind.
    fn drop(&mut self) {
        self.lock = None;
        if Checkpoints::count(&self.folder) == 0 {
            // An empty folder that stays does no harm.
            let _ = Checkpoints::remove(&self.folder);
        }
    }
}

/// The model of a stage.
#[derive(Clone, Copy)]
pub(super) enum Kept<'a> {
    Float(&'a Model),
    Integer(&'a crate::quant::QuantModel),
}

/// Whether the same parameters are trained, which no file says.
fn trains_alike(a: &Model, b: &Model) -> bool {
    let trained = |model: &Model| {
        let mut trained = Vec::new();
        model.visit(&mut |_, param| trained.push(param.is_trainable()));
        trained
    };
    trained(a) == trained(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gcn;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("gnn-prune-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record() -> Record {
        // Not validated yet, and validated.
        let at = |epoch, validation| Epoch { epoch, epochs: 2, loss: 0.1 + 0.2, validation };
        Record {
            stage: "dense".into(),
            test: Measured {
                value: 200.0 / 7.0,
                others: std::collections::BTreeMap::from([("hits@1".into(), 0.1)]),
            },
            validation: Some(1e-300),
            epochs: vec![at(1, f64::NEG_INFINITY), at(2, 100.0 / 3.0)],
            effort: Effort { macs: 7, seconds: 0.5, cpu_seconds: None, peak_bytes: Some(9) },
        }
    }

    fn silent(note: String) {
        panic!("{note}");
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_stage_is_found() {
        let folder = Folder::new("sealed");
        let identity = Identity::of_words([("seeds", "0 to 1")]);
        let model = Gcn::builder(3, 2).hidden(2).build(5).unwrap();
        let checkpoints = Checkpoints::resume(&folder.0);
        let store = checkpoints.open(&identity, &|_| ()).unwrap();
        store.save("5-0", record(), Kept::Float(&model), &silent).unwrap();
        let (mut found, back) = store.load("5-0", "dense", &silent).unwrap();
        assert!(found.epochs[0].validation.is_nan(), "what is infinite has no word in a file");
        found.epochs[0].validation = f64::NEG_INFINITY;
        assert_eq!(found, record());
        assert!(
            matches!(back, Compressed::Float(back) if back.to_bytes().unwrap() == model.to_bytes().unwrap())
        );
        for extension in [RECORD, MODEL] {
            let path = store.path("5-0", extension);
            let whole = fs::read(&path).unwrap();
            let flipped = (0..whole.len()).step_by(7).map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                bytes
            });
            for damaged in
                flipped.chain((0..whole.len()).step_by(11).map(|len| whole[..len].to_vec()))
            {
                fs::write(&path, &damaged).unwrap();
                let noted = std::cell::Cell::new(0);
                match store.load("5-0", "dense", &|_| noted.set(noted.get() + 1)) {
                    None => assert_eq!(noted.get(), 1),
                    // White space of JSON says nothing.
                    Some((kept, Compressed::Float(model_kept))) => {
                        assert!(extension == RECORD && kept == record());
                        assert_eq!(model_kept.to_bytes().unwrap(), model.to_bytes().unwrap());
                    }
                    Some(_) => panic!("another kind of model"),
                }
            }
            fs::write(&path, &whole).unwrap();
        }
        assert!(store.load("5-0", "channels 0.5", &|_| ()).is_none(), "another stage");
        assert!(store.load("5-1", "dense", &silent).is_none());
    }

    #[test]
    fn a_folder_is_held_by_one_run_and_nothing_is_left_of_one_without_stages() {
        let folder = Folder::new("held");
        let identity = Identity::of_words([("seeds", "0 to 1")]);
        let begin = || Checkpoints::begin(&folder.0).unwrap();
        let store = begin().open(&identity, &silent).unwrap();
        let second = begin().open(&identity, &silent).err().unwrap().to_string();
        assert!(second.contains("another process"), "{second}");
        drop(store);
        assert!(!folder.0.exists());
        let store = begin().open(&identity, &silent).unwrap();
        fs::write(folder.0.join("notes.txt"), "the user's own").unwrap();
        fs::write(folder.0.join(".gnn-prune-0123-4-5.tmp"), "half of a model").unwrap();
        store
            .save("0-0", record(), Kept::Float(&Gcn::builder(3, 2).build(0).unwrap()), &silent)
            .unwrap();
        drop(store);
        assert_eq!(Checkpoints::count(&folder.0), 1);
        let refused = Checkpoints::begin(&folder.0).err().unwrap().to_string();
        assert!(
            refused.contains("1 finished stage")
                && refused.contains("--resume")
                && refused.contains("remove the folder"),
            "{refused}"
        );
        let other = Identity::of_words([("seeds", "0 to 2")]);
        let refused =
            Checkpoints::resume(&folder.0).open(&other, &silent).err().unwrap().to_string();
        assert!(refused.contains("seeds: `0 to 1` there, `0 to 2` here"), "{refused}");
        Checkpoints::remove(&folder.0).unwrap();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "the user's own file stays");
    }

    #[test]
    fn a_record_of_another_run_is_not_taken_though_the_name_of_the_run_is_lost() {
        let folder = Folder::new("renamed");
        let model = Gcn::builder(3, 2).build(0).unwrap();
        let open = |words: &str| {
            Checkpoints::resume(&folder.0)
                .open(&Identity::of_words([("seeds", words)]), &|_| ())
                .unwrap()
        };
        open("0 to 1").save("0-0", record(), Kept::Float(&model), &silent).unwrap();
        for damaged in ["", "{", "[1]"] {
            fs::write(folder.0.join(RUN), damaged).unwrap();
            assert!(open("0 to 2").load("0-0", "dense", &|_| ()).is_none());
            fs::write(folder.0.join(RUN), damaged).unwrap();
            assert!(open("0 to 1").load("0-0", "dense", &silent).is_some());
        }
    }

    #[test]
    fn what_no_file_can_hold_is_not_kept_and_said() {
        let folder = Folder::new("frozen");
        let mut model = Gcn::builder(3, 2).hidden(2).build(0).unwrap();
        model.visit_mut(&mut |param| param.set_trainable(false));
        let store = Checkpoints::begin(&folder.0)
            .unwrap()
            .open(&Identity::of_words([("seeds", "0")]), &silent)
            .unwrap();
        let notes = std::cell::RefCell::new(Vec::new());
        store
            .save("0-0", record(), Kept::Float(&model), &|note| notes.borrow_mut().push(note))
            .unwrap();
        assert!(notes.borrow().len() == 1 && notes.borrow()[0].contains("frozen"), "{notes:?}");
        assert_eq!(Checkpoints::count(&folder.0), 0);
    }
}
