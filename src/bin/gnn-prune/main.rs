//! The command line of gnn-prune.
#![deny(unsafe_code)]

mod args;
mod commands;
mod output;
mod stages;

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

/// A user's mistake, as `clap` counts it too.
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Train(args) => commands::train(&args),
        Command::Compress(args) => {
            let flags = matches.subcommand_matches("compress").expect("the subcommand was just parsed");
            stages::given(flags).and_then(|stages| commands::compress(&args, stages))
        }
        Command::Predict(args) => commands::predict(&args),
        Command::Inspect(args) => commands::inspect(&args),
        Command::Bench(args) => commands::bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => mistake(&error.to_string()),
    }
}

/// Help and version go to stdout; of a mistake the first line is enough.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"));
    let what = lines.by_ref().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    mistake(&format!("{}; see `gnn-prune --help`", what.trim_start_matches("error: ")))
}

fn mistake(what: &str) -> ExitCode {
    eprintln!("error: {}", what.replace('\n', " "));
    ExitCode::from(MISTAKE)
}
