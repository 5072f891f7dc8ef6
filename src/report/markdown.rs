//! A report as Markdown, and the words that every table uses.

use super::row::{Report, Row};
use std::fmt::Write;

impl Report {
    /// Titles of [`Report::cells`].
    pub const TITLES: [&'static str; 8] =
        ["stage", "metric %", "params", "non-zero", "weights kB", "MMACs", "ms, 1 thread", "ms, all threads"];

    /// A row as the cells of a table: metric as mean ± deviation, times as median.
    pub fn cells(row: &Row) -> [String; 8] {
        let account = &row.account;
        let metric = match row.accuracy.per_seed.len() {
            0 | 1 => format!("{:.2}", row.accuracy.mean),
            _ => format!("{:.2} ± {:.2}", row.accuracy.mean, row.accuracy.std),
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

    /// One line about the data: name, size, metric, seeds.
    pub fn caption(&self) -> String {
        let data = &self.data;
        let metric = self.rows.first().map_or(String::new(), |row| format!(", {}", row.metric));
        let calibration = self.calibration.as_ref().map_or(String::new(), |nodes| format!(", least squares on {nodes}"));
        format!(
            "{}: {} nodes, {} edges, {} features ({}), {} classes{metric} on test nodes, {} seed{}{calibration}",
            data.name,
            data.nodes,
            data.edges,
            data.features,
            data.feature_norm,
            data.classes,
            self.seeds.len(),
            if self.seeds.len() == 1 { "" } else { "s" }
        )
    }

    /// The report as a Markdown page with one table.
    pub fn to_markdown(&self) -> String {
        let mut page = format!("# gnn-prune report\n\n{}\n\n", self.caption());
        let mut line = |cells: &[String]| {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        };
        line(&Self::TITLES.map(String::from));
        line(&Self::TITLES.map(|_| "---".to_string()));
        self.rows.iter().for_each(|row| line(&Self::cells(row)));
        let _ = write!(page, "\nTimes are medians of one full-graph inference. gnn-prune {}.\n", self.version);
        page
    }
}
