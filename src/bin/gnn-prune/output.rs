//! Tables, JSON and progress bars.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use gnn_prune::pipeline::Progress;
use gnn_prune::{Report, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;

/// The report as JSON to stdout where `-` says so, else as a table there, with the JSON in the file.
pub fn show(report: &Report, json: Option<&Path>) -> Result<()> {
    match json {
        Some(path) if path == Path::new("-") => println!("{}", report.to_json()),
        path => {
            path.map_or(Ok(()), |path| report.write_json(path))?;
            println!("{}\n{}", report.caption(), table(report));
        }
    }
    Ok(())
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(Report::TITLES);
    for row in &report.rows {
        table.add_row(Report::cells(row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A listener that draws a bar on stderr where that is a terminal, and is silent where it is not.
pub fn bar() -> (ProgressBar, impl Fn(Progress) + Send + Sync + 'static) {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:28} {bar:30} {pos}/{len}").expect("the template is well formed");
    bar.set_style(style);
    let drawn = bar.clone();
    let listen = move |progress: Progress| match progress {
        Progress::Stage { name, seed, seeds } => {
            drawn.reset();
            drawn.set_message(format!("{name} (seed {} of {seeds})", seed + 1));
        }
        Progress::Epoch(epoch) => {
            drawn.set_length(epoch.epochs as u64);
            drawn.set_position(epoch.epoch as u64);
        }
        Progress::Measure { name } => drawn.set_message(format!("measuring {name}")),
        _ => {}
    };
    (bar, listen)
}
