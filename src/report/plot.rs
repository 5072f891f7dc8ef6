//! The Pareto plot: metric against cost, one point a row.

use super::row::{Report, Row};
use plotters::prelude::*;

/// Width and height of a plot in pixels.
const SIZE: (u32, u32) = (460, 300);
/// Room left around the points, as a share of their range.
const MARGIN: f64 = 0.12;

impl Report {
    /// An `<svg>` element: the metric in percent over a positive cost, on a logarithmic axis.
    pub(super) fn pareto(&self, label: &str, cost: impl Fn(&Row) -> f64) -> String {
        let points: Vec<(f64, f64, &Row)> =
            self.rows.iter().map(|row| (cost(row).max(f64::MIN_POSITIVE).log10(), row.accuracy.mean, row)).collect();
        let mut svg = String::new();
        // Drawing into a string has no file to fail on; a plot that cannot be laid out is left as far as it came.
        let _ = draw(&mut svg, label, &points);
        svg
    }
}

fn draw(svg: &mut String, label: &str, points: &[(f64, f64, &Row)]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let (xs, ys) = (range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1)));
    let mut chart = ChartBuilder::on(&root).margin(8).x_label_area_size(36).y_label_area_size(48).build_cartesian_2d(xs, ys)?;
    let amount = |x: &f64| format!("{:.3}", 10f64.powf(*x)).trim_end_matches('0').trim_end_matches('.').to_string();
    let percent = |y: &f64| format!("{y:.1}");
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(label).y_desc("metric %").x_labels(5).y_labels(5).light_line_style(TRANSPARENT);
    mesh.x_label_formatter(&amount).y_label_formatter(&percent).draw()?;
    for (x, y, row) in points {
        let colour = if Report::is_control(row) { RGBColor(150, 150, 150) } else { RGBColor(20, 90, 160) };
        chart.draw_series([Circle::new((*x, *y), 4, colour.filled())])?;
        chart.draw_series([Text::new(row.name.clone(), (*x, *y), ("sans-serif", 11).into_font().color(&colour))])?;
    }
    root.present()?;
    Ok(())
}

/// From the least to the most, with room on both sides.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let room = ((high - low) * MARGIN).max(0.05);
    low - room..high + room
}
