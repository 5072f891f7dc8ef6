//! Pruning does what it says: the amounts, the order, ties, what one scope compares, and which
//! layer goes.

use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Cx, NodeId};
use gnn_prune::prune::{
    Amount, Budget, ChannelUnits, Compensation, Criterion, Member, Needs, Scores, Units,
};
use gnn_prune::task::{Part, cross_entropy, evaluate};
use gnn_prune::{
    Ablation, Calibrate, ChannelPlan, ChannelPruner, Cosine, Dataset, Gcn, LayerPlan, LayerPruner,
    Magnitude, Model, Random, Scope, Subset, Taylor, Trainer, WeightPruner,
};
use serde_json::Value as Json;
use std::sync::Arc;

fn data() -> Dataset {
    Dataset::sbm(240, 3).features(6).seed(1).build().unwrap()
}

fn params(model: &Model) -> Vec<(String, Array2<f32>)> {
    let mut all = Vec::new();
    model.visit(&mut |name, param| all.push((name.to_string(), param.value().clone())));
    all
}

/// The channels of a layer that stay.
fn kept(plan: &ChannelPlan, node: &str) -> Vec<usize> {
    let json: Json = serde_json::to_value(plan).unwrap();
    json["nodes"][node]["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_u64().unwrap() as usize)
        .collect()
}

/// Scores that are given, by the group's first member's number of units.
#[derive(Clone)]
struct Given(Vec<Vec<f64>>);

impl Criterion<f32> for Given {
    fn name(&self) -> &str {
        "given"
    }

    fn score(&self, units: &Units<f32>) -> gnn_prune::Result<Scores> {
        let scores = self
            .0
            .iter()
            .find(|scores| scores.len() == units.len())
            .expect("there are scores for every group");
        Ok(Scores::new(scores.iter().copied()))
    }
}

/// Hidden layers of 6 and 4 channels.
fn two_widths() -> Model {
    let mut b = gnn_prune::nn::ModelBuilder::new(6);
    let x = b
        .add("first", gnn_prune::nn::GcnConv::builder(6, 6).build().unwrap(), &[NodeId::INPUT])
        .unwrap();
    let x = b.add("second", gnn_prune::nn::GcnConv::builder(6, 4).build().unwrap(), &[x]).unwrap();
    let x = b.add("third", gnn_prune::nn::GcnConv::builder(4, 3).build().unwrap(), &[x]).unwrap();
    b.build(x, 0).unwrap()
}

fn by(criterion: Given, ratio: f64, scope: Scope) -> ChannelPlan {
    ChannelPruner::builder(criterion)
        .ratio(ratio)
        .scope(scope)
        .build()
        .unwrap()
        .plan(&two_widths(), &data())
        .unwrap()
}

#[test]
fn what_stays_is_the_next_multiple_of_the_width_that_was_asked_for() {
    let data = data();
    for hidden in [7, 8, 13] {
        let model = Gcn::builder(6, 3).hidden(hidden).build(0).unwrap();
        for ratio in [0.0, 0.3, 0.5, 0.9] {
            let kept = |multiple| {
                let pruner = ChannelPruner::builder(Magnitude::l1())
                    .ratio(ratio)
                    .round_to(multiple)
                    .build()
                    .unwrap();
                pruner.plan(&model, &data).unwrap().groups()[0].kept
            };
            let plain = kept(1);
            for multiple in [2, 3, 4, 8, 100] {
                let expected = (plain..=hidden).find(|n| n % multiple == 0).unwrap_or(hidden);
                assert_eq!(
                    kept(multiple),
                    expected,
                    "{ratio} of {hidden}, multiples of {multiple}"
                );
            }
        }
    }
}

#[test]
fn the_lowest_go_and_of_equals_the_first() {
    let given = Given(vec![vec![3.0, 1.0, 2.0, 9.0, 0.5, 2.5], vec![4.0, 4.0, 4.0, 4.0]]);
    let plan = by(given, 0.5, Scope::Layer);
    assert_eq!((kept(&plan, "first"), kept(&plan, "second")), (vec![0, 3, 5], vec![2, 3]));
}

#[test]
fn one_scope_compares_scores_by_the_mean_of_their_group() {
    // Means 1 and 10: in units of those the second group has the lowest two and then, of equals,
    // the first group comes first.
    let given = Given(vec![vec![0.5, 0.75, 0.5, 2.0, 1.25, 1.0], vec![0.1, 20.0, 0.2, 19.7]]);
    for (ratio, first, second) in [
        (0.2, vec![0, 1, 2, 3, 4, 5], vec![1, 3]),
        (0.4, vec![1, 3, 4, 5], vec![1, 3]),
        (0.5, vec![3, 4, 5], vec![1, 3]),
        (0.7, vec![3], vec![1, 3]),
    ] {
        let plan = by(given.clone(), ratio, Scope::Global);
        assert_eq!((kept(&plan, "first"), kept(&plan, "second")), (first, second), "{ratio}");
    }
    // By layer the same scores cost every layer its share.
    let plan = by(given, 0.5, Scope::Layer);
    assert_eq!((kept(&plan, "first").len(), kept(&plan, "second").len()), (3, 2));
}

#[test]
fn a_plan_by_a_criterion_holds_the_units_that_it_scores_highest() {
    let data = data();
    let model = Trainer::builder()
        .epochs(10)
        .build()
        .unwrap()
        .fit(Gcn::builder(6, 3).hidden(8).build(4).unwrap(), &data)
        .unwrap();
    // What a hidden channel is made of and read by: its column of the first weight, its bias, and
    // its row of the second weight.
    let parts: Vec<Array2<f32>> = params(&model).into_iter().map(|(_, value)| value).collect();
    let sum = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let of = |c: usize| {
            parts[0]
                .column(c)
                .iter()
                .chain(&[parts[1][[0, c]]])
                .chain(parts[2].row(c))
                .map(|&w| f(f64::from(w)))
                .sum()
        };
        (0..8).map(of).collect()
    };
    for (what, scores, pruner) in [
        ("l1", sum(&f64::abs), ChannelPruner::builder(Magnitude::l1())),
        ("l2", sum(&|w| w * w), ChannelPruner::builder(Magnitude::l2())),
    ] {
        let plan = pruner.ratio(0.5).build().unwrap().plan(&model, &data).unwrap();
        let mut order: Vec<usize> = (0..8).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut best = order[..4].to_vec();
        best.sort_unstable();
        assert_eq!(kept(&plan, "conv1"), best, "{what}: {scores:?}");
    }
}

#[test]
fn pruning_is_the_plan_and_then_the_refit() {
    let data = data();
    let model = Gcn::builder(6, 3).hidden(8).layers(3).residual(true).build(4).unwrap();
    let model = Trainer::builder().epochs(10).build().unwrap().fit(model, &data).unwrap();
    for calibrate in [Calibrate::All, Calibrate::Train] {
        let builders = [
            ChannelPruner::builder(Subset::new()),
            ChannelPruner::builder(Magnitude::l1()),
            ChannelPruner::builder(Taylor::new()),
            ChannelPruner::builder(Random::new()),
        ];
        for builder in builders {
            let builder = builder.ratio(0.5).calibrate(calibrate);
            let pruner = builder.clone().build().unwrap();
            let plan = pruner.plan(&model, &data).unwrap();
            let pruned = params(&pruner.prune(&model, &data).unwrap());
            assert_eq!(
                pruned,
                params(&plan.shrink_refitted(&model, &data, calibrate).unwrap()),
                "{}",
                plan.criterion()
            );
            let cut = params(&plan.shrink(&model).unwrap());
            assert_ne!(pruned, cut, "{}: the refit moves something", plan.criterion());
            let plain = builder
                .compensation(Compensation::None)
                .build()
                .unwrap()
                .prune(&model, &data)
                .unwrap();
            assert_eq!(params(&plain), cut, "{}", plan.criterion());
        }
    }
    // Edges so rare that two hops around the training nodes are not the whole graph.
    let sparse = Dataset::sbm(600, 3).degree(1.0).features(6).seed(1).build().unwrap();
    let of = |calibrate| {
        ChannelPruner::builder(Subset::new())
            .ratio(0.5)
            .calibrate(calibrate)
            .build()
            .unwrap()
            .prune(&model, &sparse)
    };
    let [all, train] =
        [Calibrate::All, Calibrate::Train].map(|calibrate| params(&of(calibrate).unwrap()));
    assert_ne!(all, train, "which nodes calibrate makes a difference");
}

#[test]
fn random_units_follow_the_models_seed_and_not_one_another() {
    let data = data();
    let kept_of = |seed, node: &str| {
        let model = Gcn::builder(6, 3).hidden(32).layers(3).build(seed).unwrap();
        kept(
            &ChannelPruner::builder(Random::new())
                .ratio(0.5)
                .build()
                .unwrap()
                .plan(&model, &data)
                .unwrap(),
            node,
        )
    };
    assert_eq!(kept_of(1, "conv1"), kept_of(1, "conv1"));
    assert_ne!(kept_of(1, "conv1"), kept_of(2, "conv1"));
    assert_ne!(kept_of(1, "conv1"), kept_of(1, "conv2"), "two groups draw the same");
}

fn deep(seed: u64) -> (Dataset, Model) {
    let data = Dataset::digits().unwrap();
    let model = Gcn::builder(64, 10).hidden(12).layers(6).residual(true).build(seed).unwrap();
    (data.clone(), Trainer::builder().epochs(15).build().unwrap().fit(model, &data).unwrap())
}

/// The model with a layer's parameters multiplied.
fn with_layer_times(model: &Model, layer: &str, factor: f32) -> Model {
    let names: Vec<String> = params(model).into_iter().map(|(name, _)| name).collect();
    let (mut model, mut k) = (model.clone(), 0);
    model.visit_mut(&mut |param| {
        if names[k].starts_with(&format!("{layer}.")) {
            param.value_mut().mapv_inplace(|w| w * factor);
        }
        k += 1;
    });
    model
}

const BLOCKS: [&str; 4] = ["conv2", "conv3", "conv4", "conv5"];

fn plan_of(
    criterion: impl Criterion<f32> + 'static,
    count: usize,
    model: &Model,
    data: &Dataset,
) -> LayerPlan {
    LayerPruner::builder(criterion).remove(count).build().unwrap().plan(model, data).unwrap()
}

#[test]
fn ablation_takes_the_block_that_validation_misses_least_and_says_by_how_much() {
    for seed in 0..2 {
        let (data, model) = deep(seed);
        let start = evaluate(&model, &data, Part::Validation).unwrap();
        let drop = |names: &[&str]| {
            let small = LayerPlan::of(names.to_vec()).shrink(&model).unwrap();
            start - evaluate(&small, &data, Part::Validation).unwrap()
        };
        let drops: Vec<f64> = BLOCKS.iter().map(|name| drop(&[name])).collect();
        let plan = plan_of(Ablation::new(), 2, &model, &data);
        let [first, second] = plan.removed() else { panic!("{plan}") };
        let least = drops.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!((first.score, drop(&[&first.name])), (Some(least), least), "{drops:?}");
        // The second one beside the first.
        let beside = |name: &&&str| **name != first.name;
        let least_of_two = BLOCKS
            .iter()
            .filter(beside)
            .map(|name| drop(&[&first.name, name]))
            .fold(f64::INFINITY, f64::min);
        assert_eq!(second.score, Some(least_of_two), "{plan}");
        let most = drops.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!(
            most > 1.0 + least,
            "seed {seed}: the blocks are such that the choice matters: {drops:?}"
        );
        assert_ne!(drop(&[&first.name]), most, "the one that is needed most stays");
    }
}

#[test]
fn cosine_takes_the_block_that_turns_its_input_least_and_says_by_how_much() {
    let (data, model) = deep(3);
    // One block nearly does nothing, one does much.
    let model = with_layer_times(&with_layer_times(&model, "conv4", 1e-3), "conv3", 30.0);
    let turned = |block: &str| {
        let sum = model.node(&block.replace("conv", "add")).unwrap();
        let input = model.nodes()[sum.index() - 1].inputs()[0];
        let trace =
            model.trace_keeping(&Cx::eval(data.graph()), data.features(), &[input, sum]).unwrap();
        let [x, y] = [input, sum].map(|id| trace.value(id).unwrap().to_dense().mapv(f64::from));
        let cosine =
            |(x, y): (gnn_prune::ndarray::ArrayView1<f64>, gnn_prune::ndarray::ArrayView1<f64>)| {
                let sizes = (x.dot(&x) * y.dot(&y)).sqrt();
                if sizes > 0.0 { x.dot(&y) / sizes } else { f64::from(x.dot(&x) == y.dot(&y)) }
            };
        1.0 - x.rows().into_iter().zip(y.rows()).map(cosine).sum::<f64>() / x.nrows() as f64
    };
    let expected: Vec<f64> = BLOCKS.iter().map(|block| turned(block)).collect();
    let plan = plan_of(Cosine::new(), 3, &model, &data);
    assert_eq!(plan.removed()[0].name, "conv4", "{expected:?}");
    assert!((plan.removed()[0].score.unwrap() - expected[2]).abs() < 1e-6, "{plan}{expected:?}");
    assert!(plan.removed().iter().all(|removed| removed.name != "conv3"), "{plan}{expected:?}");
}

#[test]
fn a_block_that_harms_goes_first_by_ablation() {
    let (data, model) = deep(5);
    // A block whose output drowns what goes past it.
    let harmed = with_layer_times(&model, "conv3", -40.0);
    let [before, with] =
        [&model, &harmed].map(|model| evaluate(model, &data, Part::Validation).unwrap());
    assert!(with < before - 20.0, "{before} % before, {with} % with it");
    let plan = plan_of(Ablation::new(), 1, &harmed, &data);
    assert_eq!(plan.removed()[0].name, "conv3", "{plan}");
    assert!(plan.removed()[0].score.unwrap() < -10.0, "{plan}");
}

#[test]
fn of_blocks_that_cost_no_accuracy_the_one_goes_that_the_loss_misses_least() {
    let (data, model) = deep(3);
    // All blocks nearly do nothing, each by itself.
    let model = BLOCKS
        .iter()
        .zip([3e-3, 1e-3, 1e-4, 2e-3])
        .fold(model, |model, (block, factor)| with_layer_times(&model, block, factor));
    let rows = data.split(model.seed()).val;
    let judged = |block: &str| {
        let small = LayerPlan::of([block]).shrink(&model).unwrap();
        let logits = small.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        (
            evaluate(&small, &data, Part::Validation).unwrap(),
            cross_entropy(logits.view(), data.classes().unwrap(), &rows).0,
        )
    };
    let all: Vec<(f64, f32)> = BLOCKS.iter().map(|block| judged(block)).collect();
    let most = all.iter().map(|(metric, _)| *metric).fold(f64::NEG_INFINITY, f64::max);
    let tied: Vec<usize> = (0..4).filter(|&k| all[k].0 == most).collect();
    assert!(tied.len() > 1, "{all:?}");
    let least =
        tied.iter().copied().reduce(|a, b| if all[b].1 < all[a].1 { b } else { a }).unwrap();
    let plan = plan_of(Ablation::new(), 1, &model, &data);
    assert_eq!(plan.removed()[0].name, BLOCKS[least], "{all:?}");
    assert_ne!(
        least, tied[0],
        "the blocks are such that the first of the equals is not it: {all:?}"
    );
}

/// A score of each unit by what is known of it.
struct By(Needs, fn(&ChannelUnits<f32>) -> Vec<f64>);

impl Criterion<f32> for By {
    fn name(&self) -> &str {
        "by"
    }

    fn needs(&self) -> Needs {
        self.0
    }

    fn score(&self, units: &Units<f32>) -> gnn_prune::Result<Scores> {
        let Units::Channels(group) = units else { return Err(units.unserved("by")) };
        Ok(Scores::new((self.1)(group)))
    }
}

#[test]
fn evidence_is_there_where_it_is_asked_for_and_is_what_it_says() {
    let (data, model) = (data(), two_widths());
    let plan = |criterion: By| {
        ChannelPruner::builder(criterion).build().unwrap().plan(&model, &data).map(|_| ())
    };
    let nothing = |group: &ChannelUnits<f32>| {
        assert!(group.activations.is_empty() && group.readers.is_empty());
        let known = |member: &Member<f32>| member.gradient.or(member.fisher).is_some();
        assert!(!group.members.iter().any(known));
        vec![0.0; group.units]
    };
    plan(By(Needs::WEIGHTS, nothing)).unwrap();
    // A mean of squares is at least the square of the mean, and no less for any entry.
    let both = |group: &ChannelUnits<f32>| {
        for member in &group.members {
            let (gradient, fisher) = (member.gradient.unwrap(), member.fisher.unwrap());
            let squares = gradient.mapv(|g| g * g);
            let holds = squares.iter().zip(fisher).all(|(s, f)| *f >= s * (1.0 - 1e-4) - 1e-9);
            assert!(holds && fisher.iter().any(|f| *f > 0.0));
        }
        let fisher = group.sum(|entry| entry.fisher);
        fisher.iter().map(|&f| f64::from(f)).collect()
    };
    plan(By(Needs::GRADIENTS | Needs::FISHER, both)).unwrap();
    // What carries a unit: the layer that makes it, and what passes it on.
    let carried = |group: &ChannelUnits<f32>| {
        let mut sums = vec![0.0; group.units];
        for activation in &group.activations {
            assert!(activation.name == group.name || !activation.unit_of.contains(&None));
            let value = activation.value.to_dense();
            assert_eq!((value.nrows(), value.ncols()), (240, activation.unit_of.len()));
            for (column, unit) in value.columns().into_iter().zip(&activation.unit_of) {
                sums[unit.unwrap()] += f64::from(column.mapv(f32::abs).sum());
            }
        }
        assert!(sums.iter().all(|sum| *sum > 0.0));
        sums
    };
    plan(By(Needs::ACTIVATIONS, carried)).unwrap();
    let short = plan(By(Needs::WEIGHTS, |_| vec![0.0])).unwrap_err().to_string();
    assert!(short.contains("`by`") && short.contains("6x1, found 1x1"), "{short}");
    let broken = plan(By(Needs::WEIGHTS, |group| vec![f64::NAN; group.units])).unwrap_err();
    assert!(broken.to_string().contains("channels of `first` by `by`"), "{broken}");
}

#[test]
fn every_amount_removes_what_it_says() {
    let (data, model) = (data(), two_widths());
    let given = || {
        let scores = vec![vec![0.5, 0.75, 0.5, 2.0, 1.25, 1.0], vec![0.1, 20.0, 0.2, 19.7]];
        ChannelPruner::builder(Given(scores))
    };
    let units = |amount, scope| {
        let pruner = given().amount(amount).scope(scope).build().unwrap();
        let plan = pruner.plan(&model, &data)?;
        Ok::<_, gnn_prune::Error>((kept(&plan, "first").len(), kept(&plan, "second").len()))
    };
    assert_eq!(units(Amount::Count(3), Scope::Layer).unwrap(), (3, 1));
    assert_eq!(units(Amount::Count(3), Scope::Global).unwrap(), (5, 2));
    for scope in [Scope::Layer, Scope::Global] {
        assert_eq!(units(Amount::Threshold(1.0), scope).unwrap(), (3, 2));
        let error = units(Amount::Count(11), scope).unwrap_err().to_string();
        assert!(error.contains("channels to remove is 11"), "{error}");
    }
    // Six inputs, three classes: 10·6 + 6 + … as few channels as bring it under the budget.
    let size = |amount, scope| {
        let pruner = given().amount(amount).scope(scope).build().unwrap();
        Ok::<_, gnn_prune::Error>(pruner.plan(&model, &data)?.shrink(&model)?.num_params())
    };
    for scope in [Scope::Layer, Scope::Global] {
        for most in [model.num_params(), 70, 40] {
            let left = size(Amount::Budget(Budget::Params(most)), scope).unwrap();
            assert!(left <= most && left + 20 > most, "{left} of {most}");
        }
        let error = size(Amount::Budget(Budget::Params(3)), scope).unwrap_err().to_string();
        assert!(error.contains("budget of parameters is 3"), "{error}");
    }
    let chance = ChannelPruner::builder(Random::new()).amount(Amount::Threshold(0.5));
    let error = chance.build().unwrap().plan(&model, &data).unwrap_err().to_string();
    assert!(error.contains("`random`"), "{error}");
}

#[test]
fn one_criterion_serves_channels_and_weights_and_refuses_what_it_does_not_know() {
    let (data, model) = (data(), two_widths());
    let model = Trainer::builder().epochs(20).build().unwrap().fit(model, &data).unwrap();
    let all: [Arc<dyn Criterion<f32>>; 5] = [
        Arc::new(Subset::new()),
        Arc::new(Magnitude::l1()),
        Arc::new(Magnitude::l2()),
        Arc::new(Taylor::new()),
        Arc::new(Random::new()),
    ];
    let total = 6 * 6 + 6 * 4 + 4 * 3;
    let mut plans = Vec::new();
    for criterion in all {
        let channels = ChannelPruner::builder(criterion.clone()).ratio(0.5).build().unwrap();
        assert_eq!(channels.plan(&model, &data).unwrap().groups()[0].kept, 3);
        for scope in [Scope::Layer, Scope::Global] {
            let weights = WeightPruner::builder().criterion(criterion.clone()).scope(scope);
            let plan = weights.sparsity(0.5).build().unwrap().plan_on(&model, &data).unwrap();
            assert_eq!((plan.num_weights(), plan.num_kept()), (total, total / 2));
            plan.apply(&model).unwrap();
            plans.push(serde_json::to_value(&plan).unwrap()["weights"].clone());
        }
        let layers = LayerPruner::builder(criterion.clone()).build().unwrap();
        let outcome = layers.plan(&model, &data).unwrap_err().to_string();
        let unserved = outcome.contains(&format!("`{}` does not score layers", criterion.name()));
        assert_ne!(unserved, criterion.name() == "random", "{outcome}");
    }
    // Of single weights the two norms are the same, and nothing else is.
    assert_eq!((&plans[2], &plans[3]), (&plans[4], &plans[5]));
    plans.dedup();
    for (k, plan) in plans.iter().enumerate() {
        let again = plans[..k].iter().filter(|other| *other == plan).count();
        assert_eq!(again, usize::from(k == 4 || k == 5), "{k}");
    }
    // What is chosen by least squares is missed less, once the others are solved again.
    let logits = |model: &Model| model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
    let away = |criterion: Arc<dyn Criterion<f32>>, seed| {
        let pruner = WeightPruner::builder().criterion(criterion).scope(Scope::Layer);
        let pruner = pruner.sparsity(0.5).build().unwrap().with_seed(seed);
        (logits(&pruner.prune(&model, &data).unwrap()) - logits(&model)).mapv(|v| v * v).sum()
    };
    let chance = (0..8).map(|seed| away(Arc::new(Random::new()), seed)).sum::<f32>() / 8.0;
    let subset = away(Arc::new(Subset::new()), 0);
    assert!(subset < 0.7 * chance, "{subset} against {chance}");
    let without = WeightPruner::builder().criterion(Taylor::new()).build().unwrap();
    let error = without.plan(&model).unwrap_err().to_string();
    assert!(error.contains("`taylor`") && error.contains("gradients"), "{error}");
    let cosine = ChannelPruner::builder(Cosine::new()).build().unwrap();
    let error = cosine.plan(&model, &data).unwrap_err().to_string();
    assert!(error.contains("`cosine` does not score channels"), "{error}");
    // A budget counts biases too.
    let within = |most| {
        let pruner = WeightPruner::builder().amount(Amount::Budget(Budget::Params(most)));
        pruner.build().unwrap().plan(&model)
    };
    assert_eq!(within(50).unwrap().num_kept(), 50 - (6 + 4 + 3));
    assert!(within(5).unwrap_err().to_string().contains("at least 13"));
}
