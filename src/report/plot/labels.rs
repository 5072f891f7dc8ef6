//! Where the names of points go: beside them, over nothing else.

use super::{LETTER, LINE, Rect};

/// Distances from a point at which its name is tried, the nearest first.
const DISTANCES: [f64; 8] = [8.0, 14.0, 24.0, 36.0, 50.0, 66.0, 90.0, 120.0];
/// Directions that are tried at each distance: right and left first, where names are read best.
const DIRECTIONS: [(f64, f64); 12] = [
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (0.8, -0.6),
    (0.8, 0.6),
    (-0.8, -0.6),
    (-0.8, 0.6),
    (0.5, -0.87),
    (0.5, 0.87),
    (-0.5, -0.87),
    (-0.5, 0.87),
];
/// What a unit of covered area costs in units of distance.
const COVERED: f64 = 10.0;

/// The box of each name, in the order of the points. `taken` is what no name may cover: markers and
/// error bars.
///
/// Each name in turn takes the nearest place that is free and inside `area`; where there is none,
/// the one that covers least.
pub(super) fn place(names: &[(String, (f64, f64))], taken: &[Rect], area: Rect) -> Vec<Rect> {
    let mut placed: Vec<Rect> = Vec::new();
    for (name, (x, y)) in names {
        let (half_width, half_height) =
            (name.chars().count() as f64 * LETTER / 2.0 + 1.0, LINE / 2.0);
        let candidates =
            DISTANCES.iter().flat_map(|distance| DIRECTIONS.map(|(dx, dy)| (*distance, dx, dy)));
        let boxes = candidates.map(|(distance, dx, dy)| {
            let (x, y) = (x + dx * (distance + half_width), y + dy * (distance + half_height));
            // What would stand over the edge is moved in.
            let x = x.clamp(
                area.left + half_width,
                (area.right - half_width).max(area.left + half_width),
            );
            let y = y.clamp(
                area.top + half_height,
                (area.bottom - half_height).max(area.top + half_height),
            );
            (distance, Rect::around(x, y, half_width, half_height))
        });
        let cost = |(distance, rect): &(f64, Rect)| {
            let covered: f64 = taken.iter().chain(&placed).map(|other| rect.overlap(other)).sum();
            let outside = if area.contains(rect) { 0.0 } else { 1e3 };
            covered * COVERED + distance + outside
        };
        let best = boxes
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .expect("there are distances and directions");
        placed.push(best.1);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = Rect { left: 50.0, top: 20.0, right: 430.0, bottom: 260.0 };

    fn marker((x, y): (f64, f64)) -> Rect {
        Rect::around(x, y, 6.0, 6.0)
    }

    #[test]
    fn names_cover_neither_each_other_nor_points_and_stay_inside() {
        let crowded = |k: usize| (60.0 + (k as f64) * 3.0, 30.0 + (k % 3) as f64 * 4.0);
        let corners = |k: usize| ([50.0, 430.0][k % 2], [20.0, 260.0][k / 2 % 2]);
        let equal = |_: usize| (200.0, 100.0);
        for points in [&crowded as &dyn Fn(usize) -> (f64, f64), &corners, &equal] {
            let names: Vec<(String, (f64, f64))> =
                (0..8).map(|k| (format!("channels 0.{k}125"), points(k))).collect();
            let markers: Vec<Rect> = names.iter().map(|(_, at)| marker(*at)).collect();
            let placed = place(&names, &markers, AREA);
            for (k, rect) in placed.iter().enumerate() {
                assert!(AREA.contains(rect), "{k}: {rect:?}");
                let others = placed[..k].iter().chain(&markers);
                assert!(
                    others.map(|other| rect.overlap(other)).sum::<f64>() < 1e-6,
                    "{k}: {placed:?}"
                );
            }
        }
    }

    #[test]
    fn a_name_that_fits_nowhere_is_placed_all_the_same() {
        let names: Vec<(String, (f64, f64))> = (0..60)
            .map(|k| ("a long name of a model".repeat(4), (200.0, 100.0 + k as f64)))
            .collect();
        assert_eq!(place(&names, &[], AREA).len(), 60);
    }
}
