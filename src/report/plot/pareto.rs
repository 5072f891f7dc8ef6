//! The Pareto plot: metric against cost, one point per row, with its deviation over seeds.

use super::labels::place;
use super::{Axis, Frame, LINE, Rect, WIDTH, escape, line, open, polyline, text};
use crate::report::row::{Compares, Report, Row};
use crate::task::Metric;
use std::fmt::Write;

const HEIGHT: f64 = 320.0;
const AREA: Rect = Rect { left: 46.0, top: 26.0, right: WIDTH - 10.0, bottom: HEIGHT - 44.0 };
/// Half of a marker.
const MARKER: f64 = 5.0;
/// Half of a bar's cap.
const CAP: f64 = 4.0;
/// Places on either side of a point that another of the same cost may take.
const SIDE_BY_SIDE: u8 = 4;
/// Letters of a name at most; of a longer one, such as a path, the end is shown.
const LETTERS: usize = 24;
/// A control further below the stages than this many times their range is shown at the lower edge,
/// with its number.
const OFF: f64 = 3.0;
/// Points of the metric that the axis shows at least.
const LEAST_SPAN: f64 = 1.0;

impl Frame {
    /// Upper and lower end of a bar of so many points on either side.
    fn bar(&self, row: &Row, points: f64) -> [f64; 2] {
        [points, -points].map(|by| self.place(0.0, row.accuracy.mean + by).1)
    }
}

impl Report {
    /// An `<svg>` element: the metric in percent over a positive cost, on a logarithmic axis.
    pub(in crate::report) fn pareto(&self, label: &str, cost: impl Fn(&Row) -> f64) -> String {
        let bar = |row: &Row| if row.accuracy.per_seed.len() > 1 { row.accuracy.std } else { 0.0 };
        let y = self.metric_axis(&bar);
        let frame = Frame { area: AREA, x: Axis::logarithmic(self.rows.iter().map(&cost)), y };
        let mut svg = open(HEIGHT, &format!("{} in percent against {label}", self.metric_name()));
        frame.draw(&mut svg, label, &self.metric_label());

        let points = self.side_by_side(&frame, &cost, &bar);
        if self.compares == Compares::Stages {
            let is_stage = |(row, _): &(&Row, &(f64, f64))| !self.shows_as_control(row);
            let way: Vec<(f64, f64)> =
                self.rows.iter().zip(&points).filter(is_stage).map(|(_, point)| *point).collect();
            polyline(&mut svg, "way", &way);
        }
        let (mut names, mut taken) = (Vec::new(), Vec::new());
        for (row, &(x, y)) in self.rows.iter().zip(&points) {
            let below = frame.y.is_below(row.accuracy.mean);
            let class = if self.shows_as_control(row) { "control" } else { "stage" };
            taken.push(Rect::around(x, y, MARKER + 1.0, MARKER + 1.0));
            if bar(row) > 0.0 && !below {
                let [top, bottom] = frame.bar(row, bar(row));
                line(&mut svg, &format!("bar {class}"), (x, top), (x, bottom));
                [top, bottom].iter().for_each(|&y| {
                    line(&mut svg, &format!("bar {class}"), (x - CAP, y), (x + CAP, y))
                });
                taken.push(Rect { left: x - CAP, top, right: x + CAP, bottom });
            }
            let number = match below {
                true if row.metric.is_percent() => format!(" {:.1} % ↓", row.accuracy.mean),
                true => format!(" {} ↓", row.metric.number(row.accuracy.mean)),
                false => String::new(),
            };
            names.push((format!("{}{number}", shortened(&row.name)), (x, y)));
        }
        // A name that is placed early has more room: those of the stages first.
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&k| self.shows_as_control(&self.rows[k]));
        let sorted: Vec<_> = order.iter().map(|&k| names[k].clone()).collect();
        let boxes = place(&sorted, &taken, AREA);
        for (&k, rect) in order.iter().zip(&boxes) {
            let (row, (name, point)) = (&self.rows[k], &names[k]);
            let class = if self.shows_as_control(row) { "control" } else { "stage" };
            let near = rect.nearest(*point);
            if (near.0 - point.0).hypot(near.1 - point.1) > 2.0 * MARKER {
                line(&mut svg, "leader", *point, near);
            }
            text(
                &mut svg,
                &format!("name middle {class}"),
                ((rect.left + rect.right) / 2.0, rect.bottom - LINE / 4.0),
                name,
            );
        }
        for (row, point) in self.rows.iter().zip(&points) {
            self.marker(&mut svg, row, *point, frame.y.is_below(row.accuracy.mean));
        }
        svg.push_str("</svg>");
        svg
    }

    /// Where each row stands; what would cover an earlier one, since it costs as much, stands
    /// beside it.
    fn side_by_side(
        &self,
        frame: &Frame,
        cost: &impl Fn(&Row) -> f64,
        bar: &dyn Fn(&Row) -> f64,
    ) -> Vec<(f64, f64)> {
        let (mut points, mut taken): (Vec<(f64, f64)>, Vec<Rect>) = (Vec::new(), Vec::new());
        for row in &self.rows {
            let (x, y) = frame.place(cost(row), row.accuracy.mean);
            let [top, bottom] = frame.bar(row, bar(row));
            let rect = |x: f64| Rect {
                left: x - MARKER,
                top: top.min(y - MARKER),
                right: x + MARKER,
                bottom: bottom.max(y + MARKER),
            };
            let room = AREA.left + MARKER..=AREA.right - MARKER;
            let beside = (0..=SIDE_BY_SIDE)
                .flat_map(|k| [f64::from(k), -f64::from(k)])
                .map(|k| x + k * 2.0 * (MARKER + 1.0));
            let is_free = |x: &f64| {
                room.contains(x) && taken.iter().all(|other| rect(*x).overlap(other) == 0.0)
            };
            let x = beside.into_iter().find(is_free).unwrap_or(x);
            points.push((x, y));
            taken.push(rect(x));
        }
        points
    }

    fn marker(&self, svg: &mut String, row: &Row, (x, y): (f64, f64), below: bool) {
        let title = format!(
            "<title>{}: {}</title>",
            escape(&row.name),
            row.metric.shown(row.accuracy.mean)
        );
        // Writing to a string cannot fail.
        let _ = match (self.shows_as_control(row), below) {
            (false, _) => writeln!(
                svg,
                "<circle class=\"stage\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{MARKER}\">{title}</circle>"
            ),
            (true, false) => {
                let (left, top, size) = (x - MARKER, y - MARKER, 2.0 * MARKER);
                writeln!(
                    svg,
                    "<rect class=\"control\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{size}\" height=\"{size}\">{title}</rect>"
                )
            }
            (true, true) => {
                let (left, right, top) = (x - MARKER, x + MARKER, y - 2.0 * MARKER);
                writeln!(
                    svg,
                    "<polygon class=\"control\" points=\"{left:.1},{top:.1} {right:.1},{top:.1} {x:.1},{y:.1}\">{title}</polygon>"
                )
            }
        };
    }

    /// From the least to the most of what is shown, with room for bars and names; controls far
    /// below do not press the stages together.
    fn metric_axis(&self, bar: &dyn Fn(&Row) -> f64) -> Axis {
        let ends = |rows: &[&Row]| {
            let start = (f64::INFINITY, f64::NEG_INFINITY);
            rows.iter().fold(start, |(low, high), row| {
                (low.min(row.accuracy.mean - bar(row)), high.max(row.accuracy.mean + bar(row)))
            })
        };
        let stages: Vec<&Row> =
            self.rows.iter().filter(|row| !self.shows_as_control(row)).collect();
        let (low, high) = ends(&stages);
        let least = self.rows.first().map_or(LEAST_SPAN, |row| least_span(row.metric, high));
        let reach = (high - low).max(least) * OFF;
        let shown: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| !self.shows_as_control(row) || row.accuracy.mean - bar(row) > low - reach)
            .collect();
        let (low, high) = ends(&shown);
        let room = (high - low).max(least) * 0.15;
        let off = if shown.len() < self.rows.len() { 2.0 * room } else { room };
        Axis::linear(low - off, high + room, least)
    }

    pub(in crate::report) fn shows_as_control(&self, row: &Row) -> bool {
        self.compares == Compares::Stages && Self::is_control(row)
    }
}

fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LETTERS {
        return name.into();
    }
    format!("…{}", letters[letters.len() - LETTERS + 1..].iter().collect::<String>())
}

/// What an axis of values like `value` shows at least.
pub(super) fn least_span(metric: Metric, value: f64) -> f64 {
    if metric.is_percent() { LEAST_SPAN } else { (value.abs() * 0.02).max(1e-9) }
}
