//! The embedded data set: 1,797 handwritten digits of 8 × 8 pixels, each joined to those that look
//! like it.

use super::dataset::Dataset;
use super::edges::undirected;
use super::split::Splits;
use crate::error::Result;
use crate::graph::SelfLoops;
use ndarray::Array2;
use rayon::prelude::*;

/// A byte per number: the pixels of an image and its label, image after image.
const NUMBERS: &[u8] = include_bytes!("digits.bin");
const PIXELS: usize = 64;
const DARKEST: f32 = 16.0;
const NEIGHBOURS: usize = 10;

type Image = [i16; PIXELS];

impl Dataset<f32> {
    /// Handwritten digits: a node per image, joined to the 10 images at the smallest Euclidean
    /// distance (the lower number where distances are equal) and to those that it is such a
    /// neighbour of. Features are the pixels, scaled to [0, 1]; the split is 20 training and 30
    /// validation nodes per class, drawn by the seed.
    ///
    /// *Shapes*: 1,797 nodes, 24,678 directed edges, features `[1797, 64]`, 10 classes.
    ///
    /// *Errors*: none that can be provoked; the result is there because every other source of data
    /// has one.
    ///
    /// *Source*: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI
    /// Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0.
    pub fn digits() -> Result<Self> {
        let (images, labels) = unpack();
        let neighbours = nearest(&images);
        let pairs =
            (0u32..).zip(&neighbours).flat_map(|(i, near)| near.iter().map(move |&j| (i, j)));
        let graph = undirected(images.len(), pairs, SelfLoops::Remove)?;
        let features = Array2::from_shape_fn((images.len(), PIXELS), |(i, p)| {
            f32::from(images[i][p]) / DARKEST
        });
        Dataset::new("digits", graph, features.into(), labels, Some(10), Splits::default())
    }
}

fn unpack() -> (Vec<Image>, Vec<u32>) {
    let (images, rest) = NUMBERS.as_chunks::<{ PIXELS + 1 }>();
    assert!(rest.is_empty(), "the embedded file holds whole images");
    let image = |numbers: &[u8; PIXELS + 1]| {
        (std::array::from_fn(|p| i16::from(numbers[p])), u32::from(numbers[PIXELS]))
    };
    images.iter().map(image).unzip()
}

/// The nearest others of each image, nearest first; distances are exact integers.
fn nearest(images: &[Image]) -> Vec<[u32; NEIGHBOURS]> {
    let of = |i: usize| {
        let mut best = [(i32::MAX, u32::MAX); NEIGHBOURS];
        for (j, other) in images.iter().enumerate().filter(|(j, _)| *j != i) {
            let squared =
                images[i].iter().zip(other).map(|(a, b)| i32::from(a - b).pow(2)).sum::<i32>();
            if squared < best[NEIGHBOURS - 1].0 {
                // Behind those of equal distance, which have lower numbers.
                let place = best.partition_point(|(distance, _)| *distance <= squared);
                best[place..].rotate_right(1);
                best[place] = (squared, j as u32);
            }
        }
        best.map(|(_, j)| j)
    };
    (0..images.len()).into_par_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::FeatureNorm;

    #[test]
    fn digits_are_what_numpy_finds_in_the_file() {
        let data = Dataset::digits().unwrap();
        assert_eq!(
            (data.num_nodes(), data.graph().num_edges(), data.num_features(), data.num_classes()),
            (1797, 24_678, 64, 10)
        );
        assert_eq!((data.name(), data.feature_norm()), ("digits", FeatureNorm::Raw));
        let counts: Vec<_> = (0..10)
            .map(|class| data.classes().unwrap().iter().filter(|label| **label == class).count())
            .collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let pixels = data.features().to_dense();
        assert_eq!((pixels[[0, 2]], pixels.iter().copied().fold(0.0, f32::max)), (5.0 / 16.0, 1.0));
        let split = data.split(0);
        assert_eq!((split.train.len(), split.val.len(), split.test.len()), (200, 300, 1297));
    }

    #[test]
    fn neighbours_are_what_numpy_finds() {
        let neighbours = nearest(&unpack().0);
        assert_eq!(neighbours[0], [877, 1365, 1541, 1167, 1029, 464, 957, 1697, 855, 335]);
        assert_eq!(neighbours[1796], [1705, 1781, 183, 248, 1015, 513, 224, 148, 8, 1794]);
    }
}
