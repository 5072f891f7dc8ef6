//! Criteria: how much a unit matters, one per file.

mod ablation;
mod cosine;
mod magnitude;
mod random;
mod subset;
mod taylor;

pub use ablation::Ablation;
pub use cosine::Cosine;
pub use magnitude::Magnitude;
pub use random::Random;
pub use subset::Subset;
pub use taylor::Taylor;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Axis, Init, Param};
    use crate::prune::{ChannelUnits, Criterion, Member, Units, WeightMatrix, WeightUnits};
    use ndarray::{Array2, array};

    fn group<'a>(param: &'a Param<f64>, gradient: &'a Array2<f64>) -> Units<'a, f64> {
        let member = Member {
            param,
            gradient: Some(gradient),
            fisher: None,
            axis: 1,
            unit_of: vec![Some(0), None, Some(1)],
            reads_input: false,
        };
        Units::Channels(ChannelUnits {
            name: "g",
            units: 2,
            members: vec![member],
            activations: Vec::new(),
            readers: Vec::new(),
            seed: 1,
        })
    }

    fn param() -> (Param<f64>, Array2<f64>) {
        let mut param = Param::new("weight", (2, 3), [Axis::In(0), Axis::Out], Init::Zeros);
        *param.value_mut() = array![[3.0, 9.0, 1.0], [-4.0, 9.0, 2.0]];
        (param, array![[1.0, 5.0, -2.0], [1.0, 5.0, 1.0]])
    }

    fn scores(criterion: impl Criterion<f64>, units: &Units<f64>) -> Vec<f64> {
        criterion.score(units).unwrap().values().to_vec()
    }

    #[test]
    fn criteria_are_their_formulas_on_the_slices_of_each_unit() {
        let (param, gradient) = param();
        let group = group(&param, &gradient);
        assert_eq!(scores(Magnitude::l1(), &group), [7.0, 3.0]);
        assert_eq!(scores(Magnitude::l2(), &group), [5.0, 5.0f64.sqrt()]);
        assert_eq!(scores(Taylor::new(), &group), [1.0, 0.0]);
        assert_eq!(scores(Random::new(), &group), scores(Random::new(), &group));
    }

    #[test]
    fn criteria_are_their_formulas_on_single_weights() {
        let (param, gradient) = param();
        let matrix = WeightMatrix {
            name: "w".into(),
            param: &param,
            gradient: Some(&gradient),
            fisher: None,
            readers: Vec::new(),
        };
        let units = Units::Weights(WeightUnits { matrices: vec![matrix], seed: 1 });
        let sizes = [3.0, 9.0, 1.0, 4.0, 9.0, 2.0];
        assert_eq!(scores(Magnitude::l1(), &units), sizes);
        assert_eq!(scores(Magnitude::l2(), &units), sizes);
        assert_eq!(scores(Taylor::new(), &units), [3.0, 45.0, 2.0, 4.0, 45.0, 2.0]);
        assert_eq!(scores(Random::new(), &units).len(), 6);
        let error = Ablation::new().score(&units).unwrap_err().to_string();
        assert!(error.contains("`ablation`") && error.contains("weights"), "{error}");
    }
}
