//! A report as Markdown, and the words that every table uses.

use super::row::{Compares, Report, Row};
use std::fmt::Write;

impl Report {
    /// Titles of [`Report::cells`].
    pub const TITLES: [&'static str; 8] = [
        "stage",
        "metric %",
        "params",
        "non-zero",
        "weights kB",
        "MMACs",
        "ms, 1 thread",
        "ms, all threads",
    ];

    /// Titles of this report's cells: where models are compared the first column has models.
    pub fn titles(&self) -> [&'static str; 8] {
        let mut titles = Self::TITLES;
        if self.compares == Compares::Models {
            titles[0] = "model";
        }
        titles
    }

    /// A row as the cells of a table: metric as mean ± deviation, times as median.
    pub fn cells(row: &Row) -> [String; 8] {
        let account = &row.account;
        let metric = match row.accuracy.per_seed.len() {
            0 | 1 => row.metric.number(row.accuracy.mean),
            _ => {
                let [mean, std] = [row.accuracy.mean, row.accuracy.std];
                format!("{} ± {}", row.metric.number(mean), row.metric.number(std))
            }
        };
        [
            row.name.clone(),
            metric,
            account.params.to_string(),
            account.nonzero_params.to_string(),
            format!("{:.1}", account.bytes.weights as f64 / 1e3),
            format!("{:.2}", account.macs as f64 / 1e6),
            format!("{:.3}", account.latency_ms.threads_1.median),
            format!("{:.3}", account.latency_ms.threads_all.median),
        ]
    }

    /// Titles of [`Report::effort_cells`].
    pub const EFFORT_TITLES: [&'static str; 5] =
        ["stage", "GMACs of making it", "seconds", "CPU seconds", "peak MB"];

    /// Under a table of efforts, what its numbers are.
    pub(super) const EFFORT_WORDS: &'static str = "What each stage took, a mean over seeds: multiply-adds of all products (forward, backward, validation, least squares), seconds by the clock and of all processors, and the most memory beyond what was there before.";

    /// What the stage of a row took, as the cells of a table; `None` where nobody knows.
    pub fn effort_cells(row: &Row) -> Option<[String; 5]> {
        let effort = row.effort?;
        let or_dash = |number: Option<String>| number.unwrap_or_else(|| "–".into());
        Some([
            row.name.clone(),
            format!("{:.3}", effort.macs as f64 / 1e9),
            format!("{:.2}", effort.seconds),
            or_dash(effort.cpu_seconds.map(|seconds| format!("{seconds:.2}"))),
            or_dash(effort.peak_bytes.map(|bytes| format!("{:.1}", bytes as f64 / 1e6))),
        ])
    }

    /// One line about the data: name, size, metric, and how many seeds or models.
    pub fn caption(&self) -> String {
        let data = &self.data;
        let metric = self.rows.first().map_or(String::new(), |row| format!(", {}", row.metric));
        let calibration = self
            .calibration
            .as_ref()
            .map_or(String::new(), |nodes| format!(", least squares on {nodes}"));
        let (count, what) = match self.compares {
            Compares::Stages => (self.seeds.len(), "seed"),
            Compares::Models => (self.rows.len(), "model"),
        };
        format!(
            "{}: {} nodes, {} edges, {} features ({}), {} classes{metric} on test nodes, {count} {what}{}{calibration}",
            data.name,
            data.nodes,
            data.edges,
            data.features,
            data.feature_norm,
            data.classes,
            if count == 1 { "" } else { "s" }
        )
    }

    /// The report as a Markdown page: the sentence, the table, what to know of it, and how to do it
    /// again.
    pub fn to_markdown(&self) -> String {
        let mut page = format!(
            "# gnn-prune report\n\n{}\n\n**{}.**\n\n",
            plain(&self.caption()),
            plain(&self.summary())
        );
        table(&mut page, self.titles(), self.rows.iter().map(Self::cells));
        page.push_str("\nTimes are medians of one full-graph inference.\n");
        let efforts: Vec<_> = self.rows.iter().filter_map(Self::effort_cells).collect();
        if !efforts.is_empty() {
            page.push('\n');
            table(&mut page, Self::EFFORT_TITLES, efforts.into_iter());
            let _ = write!(page, "\n{}\n", Self::EFFORT_WORDS);
        }
        self.section(&mut page, "Notes", &self.notes());
        let controls = self.controls();
        let words = controls.iter().map(|control| {
            format!("**{}**: {}; it {}.", control.name, control.meaning, control.verdict)
        });
        self.section(&mut page, "Controls", &words.collect::<Vec<_>>());
        if self.channels.iter().any(|layer| layer.before != layer.after) {
            let width =
                |width: Option<usize>| width.map_or("none".to_string(), |width| width.to_string());
            let words = self.channels.iter().map(|layer| {
                format!("{}: {} → {}", plain(&layer.layer), width(layer.before), width(layer.after))
            });
            self.section(&mut page, "Channels", &words.collect::<Vec<_>>());
        }
        if let Some(recipe) = &self.recipe_toml {
            let _ = write!(page, "\n## Recipe\n\n```toml\n{recipe}```\n");
        }
        if let Some(command) = &self.command {
            // A fence that is longer than any in the words.
            let fence =
                "`".repeat(command.split(|c| c != '`').map(str::len).max().unwrap_or(0).max(2) + 1);
            let _ = write!(page, "\n## Command\n\n{fence}sh\n{command}\n{fence}\n");
        }
        let seeds = self.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let _ = write!(
            page,
            "\n## Machine\n\n{}. Seeds {seeds}. gnn-prune {}.\n",
            self.machine, self.version
        );
        page
    }

    fn section(&self, page: &mut String, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            let _ = write!(
                page,
                "\n## {title}\n\n{}",
                lines.iter().map(|line| format!("- {line}\n")).collect::<String>()
            );
        }
    }
}

/// A line of titles, the rule below it, and a line for each row.
fn table<const N: usize>(
    page: &mut String,
    titles: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let head = [titles.map(String::from), titles.map(|_| "---".into())];
    for cells in head.into_iter().chain(rows) {
        // Writing to a string cannot fail, here and above.
        let _ = writeln!(page, "| {} |", cells.map(|cell| plain(&cell)).join(" | "));
    }
}

/// Words of a file as Markdown shows them: no cell ends early, and no markup is made of them.
fn plain(words: &str) -> String {
    let mut shown = String::new();
    for letter in words.chars() {
        match letter {
            '|' | '*' | '_' | '<' | '[' | '\\' => shown.extend(['\\', letter]),
            letter if letter.is_control() => shown.push(' '),
            letter => shown.push(letter),
        }
    }
    shown
}
