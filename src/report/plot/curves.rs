//! Loss and validation metric over epochs, one line per seed.

use super::pareto::least_span;
use super::{Axis, Frame, Rect, WIDTH, open, polyline};
use crate::report::curve::Curve;
use crate::task::Metric;
use crate::train::Epoch;

const HEIGHT: f64 = 320.0;
/// Loss above, metric below; both have the same epochs.
const LOSS: Rect = Rect { left: 46.0, top: 24.0, right: WIDTH - 10.0, bottom: 138.0 };
const METRIC: Rect = Rect { left: 46.0, top: 182.0, right: WIDTH - 10.0, bottom: HEIGHT - 40.0 };
/// Points of a line at most: more than a plot has pixels to show.
const POINTS: usize = 200;

/// An `<svg>` element with the lines of one stage.
pub(in crate::report) fn course(stage: &str, metric: Metric, curves: &[&Curve]) -> String {
    let longest = curves.iter().map(|curve| curve.epochs.len()).max().unwrap_or(0);
    let mut svg =
        open(HEIGHT, &format!("loss and {} on validation nodes of {stage}", metric.title()));
    let mut panel = |area: Rect,
                     x_title: &str,
                     title: &str,
                     least: f64,
                     of: &dyn Fn(&Epoch) -> f64| {
        let values =
            curves.iter().flat_map(|curve| &curve.epochs).map(of).filter(|value| value.is_finite());
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let room = (high - low) * 0.05;
        let frame = Frame {
            area,
            x: Axis::linear(0.0, longest as f64, 1.0),
            y: Axis::linear(low - room, high + room, least),
        };
        frame.draw(&mut svg, x_title, title);
        for curve in curves {
            let every = curve.epochs.len().div_ceil(POINTS).max(1);
            let points = curve
                .epochs
                .iter()
                .step_by(every)
                // Before the first validation there is nothing to show.
                .filter(|epoch| of(epoch).is_finite())
                .map(|epoch| frame.place(epoch.epoch as f64, of(epoch)));
            polyline(&mut svg, "course", &points.collect::<Vec<_>>());
        }
    };
    panel(LOSS, "", "loss", 1e-3, &|epoch| epoch.loss);
    let unit = if metric.is_percent() { ", %" } else { "" };
    let last = curves.iter().filter_map(|curve| curve.epochs.last()).map(|at| at.validation.abs());
    let last = last.filter(|last| last.is_finite());
    let least = least_span(metric, last.fold(0.0, f64::max));
    let title = format!("{} on validation nodes{unit}", metric.title());
    panel(METRIC, "epoch", &title, least, &|epoch| epoch.validation);
    svg.push_str("</svg>");
    svg
}
