//! How far a job is: a bar where stderr is a terminal, a line per finished stage where it is not.

use crate::output::{Verbosity, remark, say, show_bar, verbosity};
use gnn_prune::pipeline::Progress;
use gnn_prune::train::Epoch;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is shown of a job; dropped, it takes its bar away.
pub struct Shown {
    job: Arc<Mutex<Job>>,
    bar: ProgressBar,
}

impl Shown {
    /// A listener for a job, and what shows it.
    pub fn new() -> (Self, impl Fn(Progress) + Send + Sync + 'static) {
        let is_terminal = io::stderr().is_terminal();
        let bar = if is_terminal && verbosity() != Verbosity::Quiet {
            ProgressBar::new(1)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("{bar:16} {wide_msg}")
                .expect("the template is well formed"),
        );
        show_bar(&bar);
        let job = Arc::new(Mutex::new(Job::default()));
        let (heard, drawn) = (Arc::clone(&job), bar.clone());
        let listen = move |progress: Progress| {
            let now = Instant::now();
            if let Progress::Note { text } = &progress {
                return remark(text);
            }
            let mut job = heard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = job.hear(&progress, now).filter(|_| !is_terminal) {
                say("stage", &line);
            }
            if let Progress::Epoch(epoch) = progress {
                drawn.set_length(epoch.epochs as u64);
                drawn.set_position(epoch.epoch as u64);
            } else {
                drawn.reset();
            }
            drawn.set_message(job.now(now));
        };
        (Self { job, bar }, listen)
    }

    /// Says how the last stage went, and takes the bar away.
    pub fn finish(self) {
        let line = self.job.lock().unwrap_or_else(PoisonError::into_inner).end(Instant::now());
        if let Some(line) = line.filter(|_| !io::stderr().is_terminal()) {
            say("stage", &line);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A stage that runs.
struct Running {
    name: String,
    seed: u64,
    /// Which run of this stage it is, and of how many.
    run: usize,
    seeds: usize,
    since: Instant,
    epoch: Option<Epoch>,
    /// How long it took the run that has kept it.
    kept: Option<Duration>,
}

/// The stages of a job: which are to come, and how long those took that are done.
#[derive(Default)]
struct Job {
    to_come: BTreeMap<String, usize>,
    took: BTreeMap<String, (Duration, usize)>,
    running: Option<Running>,
    measuring: Option<String>,
}

impl Job {
    /// Notes what a listener heard; returns the line of a stage that this ended.
    fn hear(&mut self, progress: &Progress, now: Instant) -> Option<String> {
        match progress {
            Progress::Plan { stages } => {
                self.to_come = stages.iter().cloned().collect();
                None
            }
            Progress::Stage { name, seed, seeds } => {
                let ended = self.end(now);
                let run = self.took.get(name).map_or(0, |(_, runs)| *runs) + 1;
                self.to_come.entry(name.clone()).and_modify(|runs| *runs = runs.saturating_sub(1));
                self.running = Some(Running {
                    name: name.clone(),
                    seed: *seed,
                    run,
                    seeds: *seeds,
                    since: now,
                    epoch: None,
                    kept: None,
                });
                ended
            }
            Progress::Epoch(epoch) => {
                self.running.iter_mut().for_each(|running| running.epoch = Some(*epoch));
                None
            }
            Progress::Kept { seconds } => {
                let took = Duration::try_from_secs_f64(*seconds).unwrap_or_default();
                self.running.iter_mut().for_each(|running| running.kept = Some(took));
                None
            }
            Progress::Measure { name } => {
                let ended = self.end(now);
                self.measuring = Some(name.clone());
                ended
            }
            _ => None,
        }
    }

    /// The line of the stage that ran, if one did.
    fn end(&mut self, now: Instant) -> Option<String> {
        self.measuring = None;
        let running = self.running.take()?;
        let took = running.kept.unwrap_or_else(|| now.saturating_duration_since(running.since));
        let sum = self.took.entry(running.name.clone()).or_default();
        *sum = (sum.0 + took, sum.1 + 1);
        let seconds = took.as_secs_f64();
        let seconds = if running.kept.is_some() {
            "kept by an earlier run".into()
        } else {
            format!("{seconds:.1} s")
        };
        Some(format!(
            "{}, {seconds}{}",
            running.words(),
            self.left(now).map_or(String::new(), |left| format!("; {}", in_words(left)))
        ))
    }

    /// What to show beside the bar.
    fn now(&self, now: Instant) -> String {
        let left = self.left(now).map_or(String::new(), |left| format!("; {}", in_words(left)));
        match (&self.running, &self.measuring) {
            (Some(running), _) => format!("{}{left}", running.words()),
            (None, Some(name)) => format!("measuring {name}{left}"),
            (None, None) => String::new(),
        }
    }

    /// Time that the stages to come will take, if any stage has been seen: each as long as its
    /// other seeds took, or as what is most like it.
    fn left(&self, now: Instant) -> Option<Duration> {
        let running = self
            .running
            .as_ref()
            .and_then(|running| running.whole(now).map(|whole| (running, whole)));
        let mean = |name: &str| match (self.took.get(name), &running) {
            (Some((took, runs)), _) => Some(took.div_f64(*runs as f64)),
            (None, Some((running, whole))) if running.name == name => Some(*whole),
            _ => None,
        };
        let seen: Vec<Duration> = self
            .took
            .keys()
            .map(String::as_str)
            .chain(running.iter().map(|(running, _)| running.name.as_str()))
            .filter_map(mean)
            .collect();
        let usual =
            seen.iter().sum::<Duration>().div_f64((!seen.is_empty()).then_some(seen.len() as f64)?);
        let like = |name: &str| match name {
            "narrow control" | "bytes control" => mean("dense"),
            name => name.strip_prefix("random control: ").and_then(mean),
        };
        let of = |name: &str| mean(name).or_else(|| like(name)).unwrap_or(usual);
        let later: Duration =
            self.to_come.iter().map(|(name, runs)| of(name).mul_f64(*runs as f64)).sum();
        let rest = self.running.as_ref().map_or(Duration::ZERO, |running| {
            of(&running.name).saturating_sub(now.saturating_duration_since(running.since))
        });
        Some(later + rest).filter(|left| !left.is_zero())
    }
}

impl Running {
    /// `dense, seed 3 (4 of 10): epoch 57 of 200, loss 0.1234, validation 81.20 %`.
    fn words(&self) -> String {
        let of = if self.seeds > 1 {
            format!(" ({} of {})", self.run, self.seeds)
        } else {
            String::new()
        };
        let epoch = self.epoch.map_or(
            String::new(),
            |Epoch { epoch, epochs, loss, validation, .. }| {
                let known = validation.is_finite();
                let validation =
                    if known { format!(", validation {validation:.2} %") } else { String::new() };
                format!(": epoch {epoch} of {epochs}, loss {loss:.4}{validation}")
            },
        );
        format!("{}, seed {}{of}{epoch}", self.name, self.seed)
    }

    /// How long the stage will take in all, if its epochs tell.
    fn whole(&self, now: Instant) -> Option<Duration> {
        let epoch = self.epoch?;
        Some(
            now.saturating_duration_since(self.since)
                .mul_f64(epoch.epochs as f64 / epoch.epoch.max(1) as f64),
        )
    }
}

/// `about 3 min left`.
fn in_words(left: Duration) -> String {
    let seconds = left.as_secs_f64();
    match seconds {
        s if s < 1.0 => "less than 1 s left".into(),
        s if s < 90.0 => format!("about {s:.0} s left"),
        s if s < 90.0 * 60.0 => format!("about {:.0} min left", s / 60.0),
        s => format!("about {:.1} h left", s / 3600.0),
    }
}
