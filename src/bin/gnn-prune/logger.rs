//! What the library logs, on stderr: `-v` its steps, `-vv` its epochs and files too.

use crate::output::{Verbosity, say};
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("gnn_prune") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                Level::Error | Level::Warn => "note",
                Level::Info => "info",
                Level::Debug | Level::Trace => "debug",
            };
            say(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Listens to the library from now on, as closely as was asked for.
pub fn install(verbosity: Verbosity) {
    // Nobody else installs one; and if, the program works all the same.
    let _ = log::set_logger(&Logger);
    log::set_max_level(match verbosity {
        Verbosity::Quiet => LevelFilter::Off,
        Verbosity::Usual => LevelFilter::Warn,
        Verbosity::Steps => LevelFilter::Info,
        Verbosity::All => LevelFilter::Debug,
    });
}
