//! Tables, JSON and progress bars.

use crate::failure::{Failure, Result};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use gnn_prune::pipeline::Progress;
use gnn_prune::{Report, files};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::path::Path;

/// A rule under the titles and nothing else.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// Spaces between columns.
const GAP: u16 = 2;

/// Writes to stdout; unlike `print!` it can fail.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Stdout)
}

/// Says something beside the results, on stderr.
pub fn remark(text: &str) {
    // Nothing depends on a remark.
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// A document and its readable form: `-` sends the document to stdout; otherwise it goes to the file, if there is one, and the readable form to stdout.
pub fn show(document: &str, readable: impl FnOnce() -> String, json: Option<&Path>) -> Result<()> {
    match json {
        Some(path) if path == Path::new("-") => print(&format!("{document}\n")),
        path => {
            path.map_or(Ok(()), |path| files::write_atomically(path, document.as_bytes()))?;
            print(&readable())
        }
    }
}

/// The report under its caption, ready for a terminal of 100 columns.
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    // What follows a comma goes below it: times are narrower than their titles.
    table.load_style(STYLE).set_header(Report::TITLES.map(|title| title.replace(", ", ",\n")));
    for row in &report.rows {
        table.add_row(Report::cells(row));
    }
    for (k, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if k == 0 { 0 } else { GAP }, 0));
        column.set_cell_alignment(if k == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    format!("{}\n\n{}\n", report.caption(), table.trim_fmt())
}

/// A listener that draws a bar on stderr where that is a terminal, and is silent where it is not.
pub fn bar() -> (ProgressBar, impl Fn(Progress) + Send + Sync + 'static) {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:32} {bar:30} {pos}/{len}").expect("the template is well formed");
    bar.set_style(style);
    let drawn = bar.clone();
    let listen = move |progress: Progress| match progress {
        Progress::Stage { name, seed, seeds } => {
            drawn.reset();
            let of = if seeds > 1 { format!(" (seed {seed} of 0 to {})", seeds - 1) } else { String::new() };
            drawn.set_message(format!("{name}{of}"));
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
