//! A report as one self-contained page.

use super::machine;
use super::row::Report;
use crate::error::{Error, Result};
use crate::files;
use std::path::Path;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;width:100%}th,td{padding:.35em .6em;text-align:right;border-bottom:1px solid #ddd}\
th:first-child,td:first-child{text-align:left}tr.control{color:#777}pre{background:#f5f5f5;padding:.8em;overflow-x:auto}\
figure{display:inline-block;margin:1em 1em 0 0}";

impl Report {
    /// The report as an HTML page: table, plots as inline SVG, recipe, seeds, machine; nothing in it leads out of the file.
    pub fn to_html(&self) -> String {
        let cells = |tag: &str, cells: &[String]| cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>();
        let head = cells("th", &Self::TITLES.map(String::from));
        let row = |row| {
            let class = if Self::is_control(row) { " class=\"control\"" } else { "" };
            format!("<tr{class}>{}</tr>\n", cells("td", &Self::cells(row)))
        };
        let rows: String = self.rows.iter().map(row).collect();
        let plots = [
            self.pareto("weights, kB", |row| row.account.bytes.weights as f64 / 1e3),
            self.pareto("ms, 1 thread", |row| row.account.latency_ms.threads_1.median),
        ];
        let figures: String = plots.iter().map(|svg| format!("<figure>{svg}</figure>\n")).collect();
        let seeds = self.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let recipe = if self.recipe.is_empty() { "none".into() } else { self.recipe.join("\n") };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>gnn-prune report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>gnn-prune report</h1>\n<p>{}</p>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
             <h2>Metric against cost</h2>\n{figures}\
             <h2>Recipe</h2>\n<pre>{}</pre>\n<h2>Seeds</h2>\n<p>{seeds}</p>\n\
             <h2>Machine</h2>\n<p>{}. Times are medians of one full-graph inference. gnn-prune {}.</p>\n</body>\n</html>\n",
            escape(&self.caption()),
            escape(&recipe),
            escape(&machine::describe()),
            escape(&self.version)
        )
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn write_html(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_atomically(path.as_ref(), self.to_html().as_bytes())
    }

    /// Writes the report as the file's suffix says: `.html` or `.md`.
    ///
    /// # Errors
    /// [`Error::File`] for another suffix, or where it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        match Self::check_suffix(path.as_ref())? {
            Page::Html => self.write_html(path),
            Page::Markdown => self.write_markdown(path),
        }
    }

    /// What [`Report::write`] would write to `path`, before there is a report.
    ///
    /// # Errors
    /// [`Error::File`] for a suffix that is neither `.html` nor `.md`.
    pub fn check_suffix(path: &Path) -> Result<Page> {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("html") => Ok(Page::Html),
            Some("md") => Ok(Page::Markdown),
            _ => Err(Error::file(path, "a report is written as .html or .md; choose one of these suffixes")),
        }
    }
}

/// The forms of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// One self-contained HTML page.
    Html,
    /// Markdown.
    Markdown,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
