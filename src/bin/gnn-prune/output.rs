//! What goes to stdout and to stderr.

use crate::failure::{Failure, Result};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use gnn_prune::{Report, files};
use indicatif::ProgressBar;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A rule under the titles and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// Spaces between columns.
const GAP: u16 = 2;
/// Columns of a terminal that tables and remarks fit in.
const COLUMNS: usize = 100;

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    /// Files that are written, notes, and progress.
    Usual,
    /// The library's steps too.
    Steps,
    /// And its epochs.
    All,
}

static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();
/// The bar that a line must not be written into.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Decides how much is said, once.
pub fn set_verbosity(verbosity: Verbosity) {
    // It is decided before anything is said, and not again.
    let _ = VERBOSITY.set(verbosity);
}

pub fn verbosity() -> Verbosity {
    VERBOSITY.get().copied().unwrap_or(Verbosity::Usual)
}

/// From now on lines are written above `bar`.
pub fn show_bar(bar: &ProgressBar) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
}

/// Writes to stdout; unlike `print!` it can fail.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Stdout)
}

/// A line on stderr, `kind: text`; all but errors are left out where it must be quiet. Colours are
/// for terminals, unless `NO_COLOR` is set.
pub fn say(kind: &str, text: &str) {
    if verbosity() == Verbosity::Quiet && kind != "error" {
        return;
    }
    let colour = match kind {
        "error" => AnsiColor::Red,
        "note" => AnsiColor::Yellow,
        "wrote" => AnsiColor::Green,
        _ => AnsiColor::Cyan,
    };
    let style = Style::new().bold().fg_color(Some(colour.into()));
    let line = text.replace(char::is_control, " ");
    let write = || {
        // Where stderr takes nothing there is nobody to tell.
        let _ = writeln!(anstream::stderr().lock(), "{style}{kind}:{style:#} {line}");
    };
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) if !bar.is_finished() => bar.suspend(write),
        _ => write(),
    }
}

/// Says something beside the results.
pub fn remark(text: &str) {
    say("note", text);
}

/// Names a file that was written.
pub fn wrote(path: &Path, what: &str) {
    let bytes = path
        .metadata()
        .ok()
        .filter(|found| found.is_file())
        .map_or(String::new(), |found| format!(", {}", size(found.len())));
    say("wrote", &format!("{} ({what}{bytes})", path.display()));
}

/// Bytes in the units of disks.
fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A document and its readable form: `-` sends the document to stdout; otherwise it goes to the
/// file, if there is one, and the readable form to stdout.
pub fn show(document: &str, readable: impl FnOnce() -> String, json: Option<&Path>) -> Result<()> {
    match json {
        Some(path) if path == Path::new("-") => print(&format!("{document}\n")),
        path => {
            if let Some(path) = path {
                files::write_atomically(path, document.as_bytes())?;
                wrote(path, "JSON");
            }
            print(&readable())
        }
    }
}

/// The report under its caption, ready for a terminal of 100 columns: table, what to know of it,
/// and at the end the line that sums it up.
pub fn table(report: &Report) -> String {
    let table = lined_up(report.titles(), report.rows.iter().map(Report::cells));
    let efforts = report.rows.iter().filter_map(Report::effort_cells);
    let efforts = match report.rows.iter().any(|row| row.effort.is_some()) {
        true => format!("\n{}\n", lined_up(Report::EFFORT_TITLES, efforts)),
        false => String::new(),
    };
    let mut remarks: Vec<String> = report.notes();
    remarks.extend(
        report.controls().into_iter().map(|control| {
            format!("{}: {}; it {}", control.name, control.meaning, control.verdict)
        }),
    );
    let remarks: String = remarks.iter().map(|remark| wrapped(remark)).collect();
    let gap = if remarks.is_empty() { "" } else { "\n" };
    format!("{}\n\n{table}\n{efforts}{gap}{remarks}\n{}\n", report.caption(), report.summary())
}

/// A table of one line of titles, names to the left and numbers to the right.
fn lined_up<const N: usize>(titles: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    // What follows a comma goes below it: times are narrower than their titles.
    table.load_style(STYLE).set_header(titles.map(|title| title.replace(", ", ",\n")));
    rows.for_each(|row| {
        table.add_row(row);
    });
    for (k, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if k == 0 { 0 } else { GAP }, 0));
        column.set_cell_alignment(if k == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.trim_fmt()
}

/// A remark as lines that fit a terminal, the later ones moved in; a word is not broken.
fn wrapped(remark: &str) -> String {
    let mut lines = vec![String::from("-")];
    for word in remark.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.trim() != "-" {
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}
