//! Loss and validation metric over epochs, one line per seed.

use super::{Axis, Frame, Rect, WIDTH, open, polyline};
use crate::report::curve::Curve;
use crate::train::Epoch;

const HEIGHT: f64 = 320.0;
/// Loss above, metric below; both have the same epochs.
const LOSS: Rect = Rect { left: 46.0, top: 24.0, right: WIDTH - 10.0, bottom: 138.0 };
const METRIC: Rect = Rect { left: 46.0, top: 182.0, right: WIDTH - 10.0, bottom: HEIGHT - 40.0 };
/// Points of a line at most: more than a plot has pixels to show.
const POINTS: usize = 200;

/// An `<svg>` element with the lines of one stage.
pub(in crate::report) fn course(stage: &str, metric: &str, curves: &[&Curve]) -> String {
    let longest = curves.iter().map(|curve| curve.epochs.len()).max().unwrap_or(0);
    let mut svg = open(HEIGHT, &format!("loss and {metric} on validation nodes of {stage}"));
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
                .map(|epoch| frame.place(epoch.epoch as f64, of(epoch)));
            polyline(&mut svg, "course", &points.collect::<Vec<_>>());
        }
    };
    panel(LOSS, "", "loss", 1e-3, &|epoch| epoch.loss);
    panel(METRIC, "epoch", &format!("{metric} on validation nodes, %"), 1.0, &|epoch| {
        epoch.validation
    });
    svg.push_str("</svg>");
    svg
}
