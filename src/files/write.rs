//! Writing a file so that at every moment the old one or the new one is there, whole.

use crate::error::{Error, Result};
use crate::log;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Links that are followed at most.
const MOST_LINKS: usize = 40;

/// Names that are tried at most, if others take or remove them.
const TRIES: usize = 100;

/// How the names of temporary files begin.
const TEMPORARY: &str = ".gnn-prune-";

/// Where a write stands, for tests that stop it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Created,
    HalfWritten,
    Written,
    Synced,
    Renamed,
}

/// Writes `bytes` to `path`: to a new file in the same folder first, which then takes the place of
/// the old one and its permissions.
///
/// A link stays, and what it points at is replaced. A pipe or a device is written to and never
/// replaced. Any number of threads and processes may write to one path: the last one wins, and
/// whoever reads finds one of theirs. Files that a killed process left beside it are removed.
///
/// # Errors
/// [`Error::File`] if the folder does not exist or cannot be written, or the path is a folder; the
/// old file is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_watched(path, bytes, &mut |_| ())
        .map_err(|error| Error::file(path, format!("cannot be written: {error}")))?;
    log::debug!("{}: {} bytes written", path.display(), bytes.len());
    Ok(())
}

fn write_watched(path: &Path, bytes: &[u8], at: &mut dyn FnMut(Step)) -> io::Result<()> {
    let place = followed(path)?;
    let old = match fs::metadata(&place) {
        Ok(old) if old.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(old) if !old.is_file() => {
            return OpenOptions::new().write(true).open(&place)?.write_all(bytes);
        }
        Ok(old) => Some(old.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let beside = Beside::of(&place)?;
    beside.remove_leftovers();
    let (mut file, temporary) = beside.create()?;
    at(Step::Created);
    let written = (|| {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        at(Step::HalfWritten);
        file.write_all(second)?;
        old.map_or(Ok(()), |permissions| file.set_permissions(permissions))?;
        at(Step::Written);
        file.sync_all()?;
        at(Step::Synced);
        fs::rename(&temporary, &place)
    })();
    if let Err(error) = written {
        // The write failed already; a temporary file that cannot be removed either changes nothing
        // for the caller.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    at(Step::Renamed);
    sync_folder(beside.folder)
}

/// What a path names once links are followed, also one that points at nothing yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut place = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&place)?;
                place = place.parent().unwrap_or(Path::new("")).join(target);
            }
            _ => return Ok(place),
        }
    }
    Err(io::Error::other("too many links, one pointing at the next"))
}

/// Temporary files beside a place. Whoever writes one holds a lock on it, which the system drops
/// with the process.
struct Beside<'a> {
    folder: &'a Path,
    prefix: String,
}

impl<'a> Beside<'a> {
    fn of(place: &'a Path) -> io::Result<Self> {
        let name =
            place.file_name().ok_or_else(|| io::Error::other("it is not the name of a file"))?;
        let folder = place
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // A name of its own length could be longer than the system allows.
        let mut hash = std::hash::DefaultHasher::new();
        name.hash(&mut hash);
        Ok(Self { folder, prefix: format!("{TEMPORARY}{:016x}-", hash.finish()) })
    }

    /// A new file that nobody else writes to or removes.
    fn create(&self) -> io::Result<(File, PathBuf)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let name = format!(
                "{}{}-{}.tmp",
                self.prefix,
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            let path = self.folder.join(name);
            let file = match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created?,
            };
            // Between its creation and the lock another may have taken it for a leftover. Where
            // there are no locks nothing is removed either.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists() {
                continue;
            }
            return Ok((file, path));
        }
        Err(io::Error::other("no name for a temporary file is free"))
    }

    /// Removes files of writes that did not come to an end. None of it is needed for the write at
    /// hand.
    fn remove_leftovers(&self) {
        remove_leftovers(self.folder, &self.prefix);
    }
}

/// Removes the temporary files of a folder whose process was killed.
pub(crate) fn remove_half_written(folder: &Path) {
    remove_leftovers(folder, TEMPORARY);
}

fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours =
            name.to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(".tmp"));
        if ours
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The new name is on the disk as well, once the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems do not sync folders, and say so.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        done => done,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("gnn-prune-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn count(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_other() {
        let folder = Folder::new("failed");
        let (kept, taken) = (folder.0.join("kept"), folder.0.join("taken"));
        write_atomically(&kept, b"old").unwrap();
        write_atomically(&kept, b"new").unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"new");
        fs::create_dir(&taken).unwrap();
        assert!(
            write_atomically(&taken, b"x").unwrap_err().to_string().contains("directory"),
            "a folder is no file"
        );
        assert!(write_atomically(&folder.0.join("no/such"), b"x").is_err());
        assert!(write_atomically(Path::new(".."), b"x").is_err());
        assert_eq!(folder.count(), 2);
        let long = folder.0.join("n".repeat(255));
        write_atomically(&long, b"x").unwrap();
        assert_eq!(fs::read(&long).unwrap(), b"x");
    }

    #[test]
    fn a_write_that_fails_after_it_began_takes_its_temporary_file_along() {
        let folder = Folder::new("late");
        let path = folder.0.join("model");
        // A folder comes in between, which no file can replace.
        let failed = write_watched(&path, b"new", &mut |step| {
            if matches!(step, Step::Synced) {
                fs::create_dir_all(path.join("full")).unwrap();
            }
        });
        assert!(failed.is_err());
        assert_eq!((folder.count(), path.is_dir()), (1, true));
    }

    /// Set to how many saves and loads there are; each waits for the disk.
    const SAVES: &str = "GNN_PRUNE_SAVES";

    #[test]
    fn eight_threads_on_one_path_never_show_half_a_file() {
        let saves: usize = std::env::var(SAVES).map_or(320, |count| count.parse().unwrap());
        let folder = Folder::new("threads");
        let path = folder.0.join("model");
        let file = |k: usize| vec![k as u8; 1000 + 4000 * k];
        write_atomically(&path, &file(0)).unwrap();
        std::thread::scope(|scope| {
            for k in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..saves.div_ceil(8) {
                        write_atomically(path, &file(k)).unwrap();
                        let found = fs::read(path).unwrap();
                        assert_eq!(found, file(found[0].into()));
                    }
                });
            }
        });
        assert_eq!(folder.count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay_and_pipes_are_written_to() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let folder = Folder::new("links");
        let at = |name: &str| folder.0.join(name);
        fs::create_dir(at("far")).unwrap();
        write_atomically(&at("far/model"), b"old").unwrap();
        fs::set_permissions(at("far/model"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("far/model", at("link")).unwrap();
        symlink("link", at("link to it")).unwrap();
        write_atomically(&at("link to it"), b"new").unwrap();
        assert!(
            fs::symlink_metadata(at("link")).unwrap().is_symlink()
                && fs::symlink_metadata(at("link to it")).unwrap().is_symlink()
        );
        assert_eq!(fs::read(at("far/model")).unwrap(), b"new");
        assert_eq!(fs::metadata(at("far/model")).unwrap().permissions().mode() & 0o777, 0o640);
        symlink("far/none yet", at("dangling")).unwrap();
        write_atomically(&at("dangling"), b"first").unwrap();
        assert_eq!(fs::read(at("far/none yet")).unwrap(), b"first");
        symlink("round", at("about")).unwrap();
        symlink("about", at("round")).unwrap();
        assert!(write_atomically(&at("round"), b"x").unwrap_err().to_string().contains("links"));
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || fs::read(pipe).unwrap()
        });
        write_atomically(&at("pipe"), b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        if Path::new("/dev/full").exists() {
            assert!(write_atomically(Path::new("/dev/full"), b"more than fits").is_err());
        }
    }

    /// Set for the process that is to be killed: the step at which it waits, and the path that it
    /// writes to.
    const STEP: &str = "GNN_PRUNE_TEST_STEP";
    const PLACE: &str = "GNN_PRUNE_TEST_PLACE";
    const STEPS: [Step; 5] =
        [Step::Created, Step::HalfWritten, Step::Written, Step::Synced, Step::Renamed];

    /// Not a test of its own: what
    /// [`a_kill_at_any_step_leaves_one_whole_file_and_nothing_after_the_next_save`] runs and kills.
    #[test]
    fn the_process_that_is_killed() {
        let (Ok(step), Ok(place)) = (std::env::var(STEP), std::env::var(PLACE)) else { return };
        let wait = |now: Step| {
            if format!("{now:?}") == step {
                println!("waiting");
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
        };
        write_watched(Path::new(&place), &[7; 5000], &mut { wait }).unwrap();
    }

    #[test]
    fn a_kill_at_any_step_leaves_one_whole_file_and_nothing_after_the_next_save() {
        let folder = Folder::new("killed");
        let path = folder.0.join("model");
        for step in STEPS {
            write_atomically(&path, b"old").unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["files::write::tests::the_process_that_is_killed", "--exact", "--nocapture"])
                .envs([(STEP, format!("{step:?}")), (PLACE, path.display().to_string())])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("waiting")), "{step:?} is not reached");
            // While it writes, another save neither waits for it nor takes its file away.
            let beside = folder.count();
            write_atomically(&folder.0.join("other"), b"x").unwrap();
            fs::remove_file(folder.0.join("other")).unwrap();
            assert_eq!(folder.count(), beside);
            child.kill().unwrap();
            child.wait().unwrap();
            let expected: &[u8] = if step == Step::Renamed { &[7; 5000] } else { b"old" };
            assert_eq!(fs::read(&path).unwrap(), expected, "{step:?}");
            assert_eq!(folder.count(), if step == Step::Renamed { 1 } else { 2 }, "{step:?}");
            write_atomically(&path, b"next").unwrap();
            assert_eq!(
                (fs::read(&path).unwrap().as_slice(), folder.count()),
                (&b"next"[..], 1),
                "{step:?}"
            );
        }
    }
}
