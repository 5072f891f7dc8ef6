//! The command line of gnn-prune: reads it, runs one command, and answers a mistake with one line
//! and exit code 2.
#![deny(unsafe_code)]

mod answers;
mod args;
mod commands;
mod failure;
mod fits;
mod keeping;
mod logger;
mod model_args;
mod output;
mod places;
mod predictions;
mod progress;
mod sources;
mod stages;

use args::{Cli, Command};
use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use failure::{Failure, Result};
use gnn_prune::report::CountingAllocator;
use std::io::{self, Write};
use std::process::ExitCode;

/// Counts what training takes, for the report.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A user's mistake, as `clap` counts it too.
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let parsed = args::command()
        .try_get_matches_from(model_args::with_ranking_losses(std::env::args_os()))
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let done = match parsed {
        Ok((cli, matches)) => {
            output::set_verbosity(cli.said.verbosity());
            logger::install(cli.said.verbosity());
            run(cli.command, &matches)
        }
        // Help because nothing was asked for is no answer: it goes to stderr, and the exit code
        // says so.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Where stderr takes nothing the exit code is all that is left to say.
            let _ = write!(anstream::stderr().lock(), "{}", error.render().ansi());
            return ExitCode::from(MISTAKE);
        }
        Err(error) if error.use_stderr() => return mistake(&usage(&error)),
        // Help and version.
        Err(error) => {
            write!(anstream::stdout().lock(), "{}", error.render().ansi()).map_err(Failure::Stdout)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough: `gnn-prune … | head`.
        Err(Failure::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure @ Failure::Interrupted { .. }) => {
            output::say("interrupted", &failure.to_string());
            ExitCode::from(keeping::INTERRUPTED)
        }
        Err(failure) => mistake(&failure.to_string()),
    }
}

fn run(command: Command, matches: &ArgMatches) -> Result<()> {
    let (_, flags) = matches.subcommand().expect("a command is required, and was parsed");
    args::refuse_later(flags)?;
    if matches!(
        command,
        Command::Train(_) | Command::Compress(_) | Command::Predict(_) | Command::Bench(_)
    ) {
        // Before there is work to lose: a pool that cannot be started later on is a panic.
        rayon::ThreadPoolBuilder::new().build_global().map_err(Failure::Threads)?;
    }
    match command {
        Command::Train(args) => {
            fits::check_early(args.model.model, flags)?;
            args.model.check_refit()?;
            commands::train(&args, flags)
        }
        Command::Compress(args) => {
            match args.from {
                Some(_) => fits::refuse_form(flags)?,
                None => args.model.check_refit()?,
            }
            fits::check_early(args.model.model, flags)?;
            commands::compress(&args, stages::given(&args, flags, true)?, flags)
        }
        Command::Predict(args) => commands::predict(&args, flags),
        Command::Export(args) => commands::export(&args),
        Command::Inspect(args) => commands::inspect(&args),
        Command::Bench(args) => commands::bench(&args),
        Command::Completions(args) => commands::completions(&args),
        Command::Man(args) => commands::man(&args),
    }
}

/// What `clap` says, on one line and without the usage that it adds.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    // How to pass a flag as a value is of no use here.
    let what = lines
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"))
        .collect::<Vec<_>>()
        .join(" ");
    format!(
        "{}; see `gnn-prune --help`",
        what.trim_start_matches("error: ").replace(" tip: ", ": ")
    )
}

fn mistake(what: &str) -> ExitCode {
    output::say("error", what);
    ExitCode::from(MISTAKE)
}
