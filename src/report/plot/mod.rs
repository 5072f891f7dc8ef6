//! Plots as inline SVG: colours and letters are the page's own, so that they follow it into the
//! dark and scale with its width.

mod axis;
mod curves;
mod labels;
mod pareto;

pub(super) use curves::course;

use axis::Axis;
use std::fmt::Write;

/// Width of every plot in its own units; a page shows it at 300 to 460 pixels.
const WIDTH: f64 = 440.0;
/// Height of a line of text.
const LINE: f64 = 14.0;
/// Width of a letter, on average.
const LETTER: f64 = 6.9;

/// A rectangle; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rect {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rect {
    fn around(x: f64, y: f64, half_width: f64, half_height: f64) -> Self {
        Self {
            left: x - half_width,
            top: y - half_height,
            right: x + half_width,
            bottom: y + half_height,
        }
    }

    fn contains(&self, other: &Rect) -> bool {
        self.left <= other.left
            && self.top <= other.top
            && self.right >= other.right
            && self.bottom >= other.bottom
    }

    /// Area that both cover.
    fn overlap(&self, other: &Rect) -> f64 {
        let (width, height) = (
            self.right.min(other.right) - self.left.max(other.left),
            self.bottom.min(other.bottom) - self.top.max(other.top),
        );
        width.max(0.0) * height.max(0.0)
    }

    /// The point of the rectangle that is nearest to another.
    fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }
}

/// A frame with ticks and titles, and the places of values in it.
struct Frame {
    area: Rect,
    x: Axis,
    y: Axis,
}

impl Frame {
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let Rect { left, top, right, bottom } = self.area;
        (left + self.x.share(x) * (right - left), bottom - self.y.share(y) * (bottom - top))
    }

    /// Grid lines, ticks and titles; an axis without a title shares that of the one below.
    fn draw(&self, svg: &mut String, x_title: &str, y_title: &str) {
        let Rect { left, top, right, bottom } = self.area;
        for (value, label) in self.y.ticks() {
            let y = self.place(0.0, *value).1;
            line(svg, "grid", (left, y), (right, y));
            text(svg, "tick end", (left - 6.0, y + 4.0), label);
        }
        for (value, label) in self.x.ticks() {
            let x = self.place(*value, 0.0).0;
            line(svg, "grid", (x, top), (x, bottom));
            // A label at the edge stays inside.
            let is_cut = x + LETTER * label.len() as f64 / 2.0 > WIDTH;
            text(
                svg,
                if is_cut { "tick end" } else { "tick middle" },
                (if is_cut { WIDTH } else { x }, bottom + 16.0),
                label,
            );
        }
        line(svg, "axis", (left, bottom), (right, bottom));
        line(svg, "axis", (left, top), (left, bottom));
        if !x_title.is_empty() {
            text(svg, "title middle", ((left + right) / 2.0, bottom + 34.0), x_title);
        }
        text(svg, "title", (4.0, top - 8.0), y_title);
    }
}

fn open(height: f64, what: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n", escape(what))
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), words: &str) {
    let _ =
        writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(words));
}

fn polyline(svg: &mut String, class: &str, points: &[(f64, f64)]) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
}

/// Text as HTML and SVG take it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
