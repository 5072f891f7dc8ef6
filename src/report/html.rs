//! A report as one self-contained page: what one hands on.

use super::curve::{Curve, LayerWidth};
use super::difference::Difference;
use super::plot::{course, escape};
use super::row::{Compares, Report, Row};
use super::words::{ALIKE, BYTES, ONE_SEED, TIME, WORK, points, ratio, signed};
use crate::error::{Error, Result};
use crate::files;
use crate::task::Metric;
use std::path::Path;

const STYLE: &str = include_str!("style.css");
/// Seeds whose training is drawn: more lines than these cover each other.
const MOST_DRAWN: usize = 10;

impl Report {
    /// The report as an HTML page: what was won, table, plots as inline SVG, controls, seeds,
    /// recipe, command and machine; nothing in it leads out of the file, and nothing in it runs.
    pub fn to_html(&self) -> String {
        // The settings of a generator stand in the caption.
        let data = self.data.name.split(':').next().unwrap_or_default();
        let title = match (self.compares, self.recipe.is_empty()) {
            (Compares::Models, _) => format!("{} models on {data}", self.rows.len()),
            (Compares::Stages, true) => format!("{data}: a model and what it costs"),
            (Compares::Stages, false) => format!("{data}: {}", self.recipe.join(", ")),
        };
        let sections = [
            self.headline(),
            self.results(),
            self.plots(),
            self.widths(),
            self.control_words(),
            self.courses(),
            self.seed_values(),
            self.how(),
        ];
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{0} – gnn-prune</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p class=\"soft\">{1}</p>\n{2}</body>\n</html>\n",
            escape(&title),
            escape(&self.caption()),
            sections.concat()
        )
    }

    /// The sentence, and its ratios as cards.
    fn headline(&self) -> String {
        let lead = format!("<p class=\"lead\">{}.</p>\n", escape(&self.summary()));
        let stages: Vec<&Row> = self.stages().collect();
        let (Compares::Stages, [first, .., last]) = (self.compares, &stages[..]) else {
            return lead;
        };
        let (then, now) = (&first.account, &last.account);
        let cost = |words: [&str; 3], unit: &str, then: f64, now: f64| {
            let [ratio, words] = split(&ratio(then, now, words, ALIKE));
            format!(
                "<li><b>{ratio}</b>{words}<small>{} → {} {unit}</small></li>\n",
                rounded(then),
                rounded(now)
            )
        };
        let [gain, words] = split(&points(last, first, ONE_SEED));
        let cards = [
            cost(BYTES, "kB", then.bytes.weights as f64 / 1e3, now.bytes.weights as f64 / 1e3),
            cost(TIME, "ms", then.latency_ms.threads_1.median, now.latency_ms.threads_1.median),
            cost(WORK, "millions", then.macs as f64 / 1e6, now.macs as f64 / 1e6),
            format!(
                "<li><b>{gain}</b>{words}<small>{} → {}</small></li>\n",
                first.metric.number(first.accuracy.mean),
                last.metric.shown(last.accuracy.mean)
            ),
        ];
        format!("<ul class=\"cards\">\n{}</ul>\n{lead}", cards.concat())
    }

    fn results(&self) -> String {
        let cells = |tag: &str, cells: &[String]| {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
        };
        let last = self.stages().last().map(|row| row.name.as_str());
        let row = |row: &Row| {
            let class = match (self.shows_as_control(row), self.compares) {
                (true, _) => " class=\"control\"",
                (false, Compares::Stages) if last == Some(row.name.as_str()) => " class=\"last\"",
                _ => "",
            };
            format!("<tr{class}>{}</tr>\n", cells("td", &Self::cells(row)))
        };
        let rows: String = self.rows.iter().map(row).collect();
        let metric = self.metric_name();
        let spread = if self.seeds.len() > 1 && self.compares == Compares::Stages {
            format!("{metric}: mean ± deviation over seeds; ")
        } else {
            String::new()
        };
        let titles = self.titles().map(|title| title.replace("metric", metric));
        let notes: String =
            self.notes().iter().map(|note| format!("<li>{}</li>\n", coded(note))).collect();
        let notes = if notes.is_empty() { notes } else { format!("<ul>\n{notes}</ul>\n") };
        let efforts: String = self
            .rows
            .iter()
            .filter_map(|row| {
                Some(format!("<tr>{}</tr>\n", cells("td", &Self::effort_cells(row)?)))
            })
            .collect();
        let efforts = match efforts.is_empty() {
            true => String::new(),
            false => format!(
                "<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{efforts}</tbody>\n</table></div>\n<p class=\"soft\">{}</p>\n",
                cells("th", &Self::EFFORT_TITLES.map(String::from)),
                Self::EFFORT_WORDS
            ),
        };
        format!(
            "<h2>Results</h2>\n<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n\
             <p class=\"soft\">{spread}params: the weights that there are; non-zero: those that are not zero; times: medians of one inference on the whole graph; MMACs: millions of multiply-adds of one.</p>\n{notes}{efforts}",
            cells("th", &titles),
        )
    }

    fn plots(&self) -> String {
        let figures = [
            self.pareto("bytes of the weights, kB", |row| row.account.bytes.weights as f64 / 1e3),
            self.pareto("time on one thread, ms", |row| row.account.latency_ms.threads_1.median),
            self.pareto("multiply-adds, millions", |row| row.account.macs as f64 / 1e6),
        ];
        let figures: String =
            figures.iter().map(|svg| format!("<figure>{svg}</figure>\n")).collect();
        let mut legend = vec!["Up and to the left is better; costs are on a logarithmic axis."];
        if self.compares == Compares::Stages {
            legend.push("The dotted line goes from stage to stage.");
        }
        legend.push("Models of equal cost stand side by side.");
        if self.rows.iter().any(|row| self.shows_as_control(row)) {
            legend.push(
                "Squares are controls; a triangle at the lower edge is a control further down.",
            );
        }
        if self.rows.iter().any(|row| row.accuracy.per_seed.len() > 1) {
            legend.push("Bars are one standard deviation over seeds on either side.");
        }
        format!(
            "<h2>{} against cost</h2>\n<p class=\"soft\">{}</p>\n<div class=\"plots\">\n{figures}</div>\n",
            capital(self.metric_name()),
            legend.join(" ")
        )
    }

    fn widths(&self) -> String {
        if self.channels.is_empty() || self.recipe.is_empty() {
            return String::new();
        }
        let most = self
            .channels
            .iter()
            .flat_map(|layer| [layer.before, layer.after])
            .flatten()
            .max()
            .unwrap_or(1)
            .max(1);
        let row = |LayerWidth { layer, before, after }: &LayerWidth| {
            let share = |width: &Option<usize>, of: usize| {
                100.0 * width.unwrap_or(0) as f64 / of.max(1) as f64
            };
            let outer = before.unwrap_or(0).max(after.unwrap_or(0));
            let shown = |width: &Option<usize>, none: &str| {
                width.map_or(none.to_string(), |width| width.to_string())
            };
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"fill\"><span style=\"width:{:.1}%\"><span style=\"width:{:.1}%\"></span></span></td></tr>\n",
                escape(layer),
                shown(before, "none"),
                shown(after, "gone"),
                share(&Some(outer), most),
                share(after, outer)
            )
        };
        let rows: String = self.channels.iter().map(row).collect();
        let same = if self.channels.iter().all(|layer| layer.before == layer.after) {
            " Every layer keeps its channels."
        } else {
            ""
        };
        format!(
            "<h2>Channels of each layer</h2>\n<p class=\"soft\">Of the model that comes out: blue is kept, grey is gone.{same}</p>\n\
             <div class=\"wide\"><table>\n<thead><tr><th>layer</th><th>before</th><th>after</th><th></th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
        )
    }

    fn control_words(&self) -> String {
        let controls = self.controls();
        if controls.is_empty() {
            return String::new();
        }
        let last = self.stages().last().map_or("", |row| row.name.as_str());
        let words = controls.iter().map(|control| {
            let [name, meaning, verdict] = [&control.name, &control.meaning, &control.verdict].map(|words| escape(words));
            format!(
                "<dt class=\"control\">{name}</dt>\n<dd>{}. Against <code>{}</code> it {verdict}.</dd>\n",
                capital(&meaning),
                escape(last)
            )
        });
        format!(
            "<h2>Controls</h2>\n<p>A smaller model is worth its trouble only if it beats what costs nothing. Two models are told apart where their \
             difference, seed by seed, is more than two standard errors, and more than Student's distribution asks of so few seeds.</p>\n<dl>\n{}</dl>\n",
            words.collect::<String>()
        )
    }

    fn courses(&self) -> String {
        let mut stages: Vec<(&str, Vec<&Curve>)> = Vec::new();
        for curve in self.curves.iter().filter(|curve| !curve.epochs.is_empty()) {
            match stages.iter_mut().find(|(stage, _)| *stage == curve.stage) {
                Some((_, curves)) => curves.push(curve),
                None => stages.push((&curve.stage, vec![curve])),
            }
        }
        if stages.is_empty() {
            return String::new();
        }
        let metric = self.rows.first().map_or(Metric::ACCURACY, |row| row.metric);
        let figure = |(stage, curves): &(&str, Vec<&Curve>)| {
            let drawn = &curves[..curves.len().min(MOST_DRAWN)];
            format!("<figure><h3>{}</h3>{}</figure>\n", escape(stage), course(stage, metric, drawn))
        };
        let few = if stages.iter().any(|(_, curves)| curves.len() > MOST_DRAWN) {
            format!("; the first {MOST_DRAWN} seeds are drawn")
        } else {
            String::new()
        };
        let kept = match self.chooses {
            true => format!("the epoch with the best {} on validation nodes", self.metric_name()),
            false => "the last epoch".into(),
        };
        format!(
            "<h2>Training</h2>\n<p class=\"soft\">One line a seed{few}. Of each training {kept} is kept.</p>\n\
             <div class=\"plots\">\n{}</div>\n",
            stages.iter().map(figure).collect::<String>()
        )
    }

    /// A line per seed, a column per row of the report.
    fn seed_values(&self) -> String {
        if self.compares == Compares::Models {
            let each = self
                .rows
                .iter()
                .zip(&self.seeds)
                .map(|(row, seed)| format!("{} {seed}", escape(&row.name)))
                .collect::<Vec<_>>();
            return format!("<h2>Seeds</h2>\n<p>{}</p>\n", each.join(", "));
        }
        let head: String =
            self.rows.iter().map(|row| format!("<th>{}</th>", escape(&row.name))).collect();
        let line = |(k, seed): (usize, &u64)| {
            let values = self.rows.iter().map(|row| {
                row.accuracy
                    .per_seed
                    .get(k)
                    .map_or("<td></td>".into(), |&v| format!("<td>{}</td>", row.metric.number(v)))
            });
            format!("<tr><td>{seed}</td>{}</tr>\n", values.collect::<String>())
        };
        let lines: String = self.seeds.iter().enumerate().map(line).collect();
        let against = |row: &Row| match self
            .rows
            .first()
            .map(|dense| Difference::between(&row.accuracy, &dense.accuracy))
        {
            Some(Difference { mean, standard_error: Some(error), .. })
                if row.name != self.rows[0].name =>
            {
                let (mean, error) = (signed(row.metric, mean), row.metric.number(error));
                format!("<td>{mean} ± {error}</td>")
            }
            _ => "<td></td>".into(),
        };
        let foot = match self.seeds.len() > 1 && self.rows.len() > 1 {
            true => format!(
                "<tr class=\"foot\"><td>− dense</td>{}</tr>\n",
                self.rows.iter().map(against).collect::<String>()
            ),
            false => String::new(),
        };
        let percent = match self.rows.first() {
            Some(row) if row.metric.is_percent() => ", in percent",
            _ => "",
        };
        let caption = match foot.is_empty() {
            true => String::new(),
            false => {
                "; below, the mean difference from the dense model ± its standard error".into()
            }
        };
        format!(
            "<h2>Each seed</h2>\n<p class=\"soft\">{} on the test nodes{percent}{caption}.</p>\n<div class=\"wide\"><table>\n\
             <thead><tr><th>seed</th>{head}</tr></thead>\n<tbody>\n{lines}{foot}</tbody>\n</table></div>\n",
            capital(self.metric_name())
        )
    }

    /// What it takes to do it again.
    fn how(&self) -> String {
        let recipe = match (&self.recipe_toml, self.recipe.is_empty()) {
            (Some(toml), _) => format!(
                "<h2>Recipe</h2>\n<p class=\"soft\">For <code>--recipe</code>.</p>\n<pre>{}</pre>\n",
                escape(toml)
            ),
            (None, false) => {
                format!("<h2>Recipe</h2>\n<pre>{}</pre>\n", escape(&self.recipe.join("\n")))
            }
            (None, true) => String::new(),
        };
        let command = self.command.as_ref().map_or(String::new(), |command| {
            format!("<h2>Command</h2>\n<pre class=\"wrap\">{}</pre>\n", escape(command))
        });
        format!(
            "{recipe}{command}<h2>Machine</h2>\n<p>{}</p>\n<h2>Versions</h2>\n<p>gnn-prune {}</p>\n",
            escape(&self.machine.to_string()),
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
            _ => Err(Error::file(
                path,
                "a report is written as .html or .md; choose one of these suffixes",
            )),
        }
    }
}

/// The forms of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Page {
    /// One self-contained HTML page.
    Html,
    /// Markdown.
    Markdown,
}

/// The first word of a gain, and the others: `4.0x` and `fewer bytes`. What has no number to begin
/// with is all in the first.
fn split(words: &str) -> [String; 2] {
    match words.split_once(' ').filter(|(first, _)| first.contains(|c: char| c.is_ascii_digit())) {
        Some((first, rest)) => [escape(first), escape(rest)],
        None => [capital("equal"), escape(words)],
    }
}

/// Three digits that say something.
fn rounded(value: f64) -> String {
    let digits =
        if value > 0.0 { (2.0 - value.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    format!("{value:.digits$}")
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Escaped, and what stands in backticks as code.
fn coded(words: &str) -> String {
    let parts = words.split('`').map(escape).enumerate();
    parts.map(|(k, part)| if k % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{report, row};
    use super::*;
    use crate::train::Epoch;

    fn whole() -> Report {
        let mut report = report(vec![
            row("dense", &[80.0, 81.0, 82.0], 4000, 1.3),
            row("channels 0.5", &[79.0, 81.0, 81.0], 2000, 0.6),
            row("finetune 5", &[79.5, 81.0, 82.0], 2000, 0.5),
            row("narrow control", &[79.5, 81.0, 80.0], 2000, 0.5),
            row("random control", &[20.0, 21.0, 22.0], 2000, 0.5),
        ]);
        report.recipe = vec!["channels 0.5".into(), "finetune 5".into()];
        report.recipe_toml = Some("[[stage]]\nchannels = 0.5\n".into());
        report.command = Some("gnn-prune compress '<graph> & more.npz'".into());
        report.channels = vec![
            LayerWidth { layer: "conv1".into(), before: Some(16), after: Some(8) },
            LayerWidth { layer: "conv2".into(), before: Some(16), after: None },
        ];
        let epoch =
            |epoch| Epoch { epoch, epochs: 300, loss: 1.0 / epoch as f64, validation: 50.0 };
        let curve = |stage: &str, seed| Curve {
            stage: stage.into(),
            seed,
            epochs: (1..=300).map(epoch).collect(),
        };
        report.curves = (0..12).map(|seed| curve("dense", seed)).collect();
        report.curves.push(curve("finetune 5", 0));
        report.curves.push(Curve { stage: "channels 0.5".into(), seed: 0, epochs: Vec::new() });
        report
    }

    #[test]
    fn a_page_has_every_part_in_its_place() {
        let report = whole();
        let page = report.to_html();
        let parts = [
            "<b>2.0x</b>fewer bytes<small>4.00 → 2.00 kB</small>",
            "<b>2.6x</b>faster on one thread",
            "<b>Equal</b>as many multiply-adds",
            "<b>-0.17</b>points",
            "<h2>Results</h2>",
            "<tr class=\"last\"><td>finetune 5</td>",
            "<h2>Accuracy against cost</h2>",
            "<td>conv2</td><td>16</td><td>gone</td>",
            "<dt class=\"control\">narrow control</dt>",
            "<h3>dense</h3>",
            "<h3>finetune 5</h3>",
            "<td>80.00</td><td>79.00</td><td>79.50</td>",
            "<h2>Recipe</h2>",
            "[[stage]]\nchannels = 0.5",
            "&lt;graph&gt; &amp; more.npz",
            "<h2>Machine</h2>",
            "<h2>Versions</h2>",
        ];
        let mut at = 0;
        for part in parts {
            at += page[at..].find(part).unwrap_or_else(|| {
                panic!("{part} is missing, or stands before what it follows: {page}")
            });
        }
        assert!(page.contains("prefers-color-scheme:dark") && page.contains("name=\"viewport\""));
        assert!(!page.contains("<h3>channels 0.5</h3>"), "a stage without epochs has no plot");
        for (open, close) in [
            ("<svg", "</svg>"),
            ("<figure", "</figure>"),
            ("<table", "</table>"),
            ("<div", "</div>"),
            ("<text", "</text>"),
        ] {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
        }
    }

    #[test]
    fn names_and_commands_cannot_become_markup() {
        let mut report = whole();
        let hostile = "<script>alert(1)</script>\"|*\u{7}";
        report.rows[1].name = hostile.into();
        report.data.name = hostile.into();
        report.recipe = vec![hostile.into()];
        report.command = Some(format!("{hostile}```"));
        report.channels[0].layer = hostile.into();
        report.curves[0].stage = hostile.into();
        let page = report.to_html();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        let page = report.to_markdown();
        let row =
            page.lines().find(|line| line.contains("79.00") || line.contains("80.33")).unwrap();
        assert_eq!(
            row.matches('|').count() - row.matches("\\|").count(),
            9,
            "a name ends a cell: {row}"
        );
        assert!(page.contains("````sh"), "{page}");
    }

    #[test]
    fn many_seeds_and_epochs_do_not_fill_the_page() {
        let page = whole().to_html();
        let (_, dense) = page.split_once("<h3>dense</h3>").unwrap();
        let (dense, _) = dense.split_once("</svg>").unwrap();
        let lines: Vec<&str> =
            dense.lines().filter(|line| line.contains("class=\"course\"")).collect();
        assert_eq!(lines.len(), 2 * MOST_DRAWN);
        assert!(lines.iter().all(|line| line.matches(',').count() <= 200), "{}", lines[0]);
        assert!(page.contains("the first 10 seeds are drawn"));
    }

    #[test]
    fn a_control_far_below_is_shown_at_the_edge_and_equal_points_stand_apart() {
        let report = whole();
        let plot = report.pareto("kB", |row| row.account.bytes.weights as f64);
        assert_eq!(plot.matches("<polygon class=\"control\"").count(), 1);
        assert!(plot.contains(">random control 21.0 % ↓</text>"), "{plot}");
        let number = |line: &str, key: &str| -> f64 {
            line.split_once(&format!(" {key}=\""))
                .unwrap()
                .1
                .split_once('"')
                .unwrap()
                .0
                .parse()
                .unwrap()
        };
        let stages: Vec<f64> = plot
            .lines()
            .filter(|line| line.starts_with("<circle"))
            .map(|line| number(line, "cx"))
            .collect();
        let control = plot
            .lines()
            .find(|line| line.starts_with("<rect"))
            .map(|line| number(line, "x") + 5.0)
            .unwrap();
        // Three models of 2 kB, whose bars reach over each other.
        let mut places = [stages[1], stages[2], control];
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > 10.0), "{places:?}");
        // The stages fill the height: 80.33 and 81 % are not pressed together by 21 %.
        let heights: Vec<f64> = plot
            .lines()
            .filter(|line| line.starts_with("<circle"))
            .map(|line| number(line, "cy"))
            .collect();
        assert!(heights[1] - heights[0] > 20.0, "{heights:?}");
    }

    #[test]
    fn a_report_of_nothing_and_of_numbers_that_are_none_is_a_page() {
        let empty = Report { rows: Vec::new(), ..whole() };
        let mut broken = whole();
        broken.rows[1].accuracy.mean = f64::NAN;
        broken.rows[1].account.latency_ms.threads_1.median = f64::INFINITY;
        broken.rows[2].account.macs = 0;
        for report in [empty, broken] {
            assert!(report.to_html().ends_with("</html>\n") && !report.to_markdown().is_empty());
            assert!(
                !report.to_html().contains("=\"NaN") && !report.to_html().contains("=\"inf"),
                "a place in a plot is no number"
            );
        }
    }
}
