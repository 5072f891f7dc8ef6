//! Channels that go while a network trains.

use gnn_prune::prune::{Compensation, Prefixes};
use gnn_prune::train::Setup;
use gnn_prune::{
    ChannelPruner, Compression, Controls, Dataset, EarlyBird, Error, Gcn, Magnitude, Model, Random,
    Result, Subset, Trainer,
};

fn data() -> Dataset {
    Dataset::sbm(300, 3).features(12).seed(4).build().unwrap()
}

fn form(data: &Dataset, seed: u64) -> Model {
    Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(seed).unwrap()
}

fn width(model: &Model) -> usize {
    let conv = model.iter().find(|(_, node)| node.name() == "conv1");
    conv.map_or(0, |(_, node)| node.channels())
}

#[test]
fn a_network_that_was_better_before_its_channels_went_does_not_come_back() -> Result<()> {
    let data = data();
    // Without a repair, and by chance: far worse than the network before.
    let pruner = ChannelPruner::builder(Random::new())
        .ratio(0.9)
        .compensation(Compensation::None)
        .build()?;
    let bird = EarlyBird::builder(pruner).over(20).latest(0.96).build()?;
    let mut watch = bird.watch(&data);
    let trainer = Trainer::builder().epochs(25).build()?;
    let fit = trainer.fit_with(form(&data, 0), &data, Setup::new().observer(&mut watch))?;
    let pruned = watch.pruned().unwrap();
    // Drawn alike both times.
    assert_eq!((pruned.epoch, pruned.settled, pruned.distance), (24, true, Some(0.0)));
    assert_eq!(width(&fit.model), 2);
    assert!(fit.best_epoch >= 24);
    let alone = trainer.fit_with(form(&data, 0), &data, Setup::new())?;
    assert!(alone.best_epoch < 24 && alone.validation > fit.validation, "nothing was at stake");
    Ok(())
}

#[test]
fn where_patience_runs_out_as_channels_go_the_small_network_goes_on() -> Result<()> {
    let data = data();
    let trainer = |patience| Trainer::builder().epochs(200).patience(patience).build();
    let dense = trainer(200)?.fit_with(form(&data, 0), &data, Setup::new())?;
    let (best, patience) = (dense.best_epoch, 7);
    // In the very epoch in which the dense training would end.
    let end = trainer(patience)?.fit_with(form(&data, 0), &data, Setup::new())?.losses.len();
    assert!(end < 200, "patience ends nothing: the best epoch of all is {best}");
    let pruner = ChannelPruner::builder(Random::new()).ratio(0.5).build()?;
    let bird = EarlyBird::builder(pruner).over(1000).latest(end as f64 / 200.0 + 1e-6).build()?;
    assert_eq!(bird.latest_of(200), end);
    let mut watch = bird.watch(&data);
    let setup = Setup::new().observer(&mut watch);
    let fit = trainer(patience)?.fit_with(form(&data, 0), &data, setup)?;
    assert_eq!((watch.pruned().map(|pruned| pruned.epoch), width(&fit.model)), (Some(end), 8));
    assert!(fit.losses.len() > end);
    Ok(())
}

#[test]
fn what_early_birds_cannot_train_is_refused_before_the_first_epoch() -> Result<()> {
    let data = data();
    let pruner = ChannelPruner::builder(Subset::new()).ratio(0.5).build()?;
    let bird = EarlyBird::builder(pruner).latest(0.5).build()?;
    let trainer = Trainer::builder().epochs(100).patience(20).build()?;
    let run = Compression::train(form(&data, 0), trainer, 1, &data)?.step(bird).run();
    let refused = run.unwrap_err().to_string();
    assert!(refused.contains("latest epoch") && refused.contains("patience"), "{refused}");
    let pruner = ChannelPruner::builder(Subset::new()).ratio(0.5).build()?;
    let run = Compression::train(form(&data, 0), Trainer::builder().epochs(20).build()?, 1, &data)?
        .prefixes(Prefixes::new([4])?)
        .step(EarlyBird::builder(pruner).build()?)
        .run();
    let refused = run.unwrap_err().to_string();
    assert!(refused.contains("prefixes"), "{refused}");
    Ok(())
}

#[test]
fn channels_go_once_two_plans_agree_and_at_the_latest_where_they_do_not() -> Result<()> {
    let data = data();
    let bird = |within: f64| {
        let pruner = ChannelPruner::builder(Subset::new()).ratio(0.5).build()?;
        EarlyBird::builder(pruner).within(within).over(3).latest(0.5).build()
    };
    let epoch = |within: f64| -> Result<_> {
        let bird = bird(within)?;
        let mut watch = bird.watch(&data);
        let trainer = Trainer::builder().epochs(40).build()?;
        let fit = trainer.fit_with(form(&data, 1), &data, Setup::new().observer(&mut watch))?;
        assert_eq!(width(&fit.model), 8);
        Ok(watch.pruned().unwrap())
    };
    let first = epoch(1.0)?;
    assert_eq!((first.epoch, first.settled), (6, true));
    let last = epoch(1e-9)?;
    assert!(last.epoch == 20 || last.settled && last.distance == Some(0.0), "{last:?}");
    Ok(())
}

#[test]
fn the_distance_of_plans_is_the_share_of_channels_with_another_fate() -> Result<()> {
    let data = data();
    // What is drawn follows the model's seed.
    let plan = |ratio: f64, seed: u64| {
        let pruner = ChannelPruner::builder(Random::new()).ratio(ratio).build()?;
        pruner.plan(&form(&data, seed), &data)
    };
    let half = plan(0.5, 0)?;
    assert_eq!(half.distance(&half), 0.0);
    // What keeps all of them differs in those that went, half of all.
    assert_eq!(half.distance(&plan(0.0, 0)?), 0.5);
    let other = plan(0.5, 1)?;
    assert!(half.distance(&other) > 0.0 && half.distance(&other) == other.distance(&half));
    Ok(())
}

#[test]
fn the_stage_trains_the_dense_form_anew_and_asks_for_one_that_is_trained_here() -> Result<()> {
    let data = data();
    let bird = || {
        let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build()?;
        EarlyBird::builder(pruner).over(1).build()
    };
    let trainer = || Trainer::builder().epochs(20).build();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            Compression::train(form(&data, 0), trainer()?, 2, &data)?.step(bird()?).run()
        })
    };
    let out = run(1)?;
    assert_eq!(width(&out.model), 4);
    let names: Vec<&str> = out.report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["dense", "early-bird 0.75", "narrow control", "random control"]);
    assert!(out.model.to_bytes()? == run(3)?.model.to_bytes()?);
    // The steps of one training, whatever else is in the process.
    assert!(out.report.rows.iter().all(|row| row.effort.is_some_and(|effort| effort.macs > 0)));
    let read = Compression::of(form(&data, 0), &data).step(bird()?).controls(Controls::None);
    let refused = read.run().unwrap_err();
    assert!(matches!(refused, Error::Setting { .. }) && refused.to_string().contains("trained"));
    Ok(())
}

#[test]
fn settings_out_of_range_are_refused() {
    let with =
        |set: fn(gnn_prune::prune::EarlyBirdBuilder) -> gnn_prune::prune::EarlyBirdBuilder| {
            let pruner = ChannelPruner::builder(Subset::new()).build().unwrap();
            set(EarlyBird::builder(pruner)).build().is_err()
        };
    assert!(with(|bird| bird.within(0.0)) && with(|bird| bird.within(1.5)));
    assert!(with(|bird| bird.over(0)) && with(|bird| bird.latest(0.0)));
    assert!(with(|bird| bird.latest(1.0)) && with(|bird| bird.within(f64::NAN)));
    assert!(!with(|bird| bird));
}
