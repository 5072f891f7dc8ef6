//! Gradients of several batches that are added up before a step: the step of one batch that has all
//! of their rows.

use gnn_prune::data::Triples;
use gnn_prune::models::{Encoder, Links, Scored};
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::decode::Form;
use gnn_prune::task::{Batch, Batches, Candidates, EdgeTask, LinkTask, Metric, Part, Tally, Task};
use gnn_prune::train::{Setup, TrainerBuilder, UpdateRule};
use gnn_prune::{Dataset, Gcn, Model, Result, Trainer};

/// The order of sums alone.
const SAME: f64 = 1e-12;

/// The classes of nodes, of which each part trains by itself.
struct Parts {
    data: Dataset<f64>,
    parts: Vec<Vec<u32>>,
}

impl Task<f64> for Parts {
    fn name(&self) -> &str {
        "parts"
    }

    fn data(&self) -> &Dataset<f64> {
        &self.data
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        self.data.num_classes()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, f64>> {
        if part != Part::Train {
            return self.data.batches(part, seed);
        }
        let batch = |rows: &Vec<u32>| Batch::of(&self.data, rows.clone());
        Ok(Batches::fixed(self.parts.iter().map(batch).collect()))
    }

    fn loss(&self, y: ArrayView2<f64>, batch: &Batch<f64>) -> Result<(f64, Array2<f64>)> {
        self.data.loss(y, batch)
    }

    fn metric(&self) -> Metric {
        Task::<f64>::metric(&self.data)
    }

    fn judge(&self, y: ArrayView2<f64>, batch: &Batch<f64>, tally: &mut Tally) -> Result<()> {
        self.data.judge(y, batch, tally)
    }
}

fn data() -> Dataset {
    Dataset::sbm(240, 3).features(6).seed(2).build().unwrap()
}

fn apart(a: &Model<f64>, b: &Model<f64>) -> f64 {
    let all = |model: &Model<f64>| {
        let mut all = Vec::new();
        model.visit(&mut |_, param| all.extend(param.value().iter().copied()));
        all
    };
    all(a).iter().zip(all(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn trainer(epochs: usize) -> TrainerBuilder {
    let rule = UpdateRule::Sgd { momentum: 0.9 };
    Trainer::builder().epochs(epochs).rule(rule).learning_rate(0.3).clip_norm(0.5)
}

#[test]
fn batches_that_are_added_up_make_the_step_of_one_with_all_their_rows() {
    let data = data().cast::<f64>();
    let train = data.split(0).train;
    let parts = |ends: &[usize]| {
        let starts = [0].into_iter().chain(ends.iter().copied());
        let parts = starts.zip(ends).map(|(start, &end)| train[start..end].to_vec()).collect();
        Parts { data: data.clone(), parts }
    };
    let model = Gcn::builder(6, 3).hidden(8).dropout(0.0).build(0).unwrap().cast().unwrap();
    let fit = |ends: &[usize], batches| {
        let trainer = trainer(6).accumulate(batches).build().unwrap();
        trainer.fit_with(model.clone(), &parts(ends), Setup::new()).unwrap()
    };
    let all = train.len();
    // Of unequal sizes; three batches, and then two and two and one that is left.
    for (ends, batches, whole) in [
        (vec![7, 40, all], 3, vec![all]),
        (vec![7, 18, 31, 33, all], 2, vec![18, 33, all]),
        (vec![7, 18, all], 9, vec![all]),
    ] {
        let (many, one) = (fit(&ends, batches), fit(&whole, 1));
        let off = apart(&many.model, &one.model);
        assert!(off < SAME, "{ends:?}: {off}");
        let losses = many.losses.iter().zip(&one.losses).map(|(a, b)| (a - b).abs());
        assert!(losses.fold(0.0, f64::max) < SAME);
        assert!(apart(&one.model, &fit(&ends, 1).model) > 1e-3, "that batches matter shows");
    }
}

#[test]
fn rows_of_tables_are_added_up_as_rows_by_the_queries_of_each_batch() {
    let triples = |from: u32, count: u32| -> Vec<[u32; 3]> {
        (from..from + count).map(|k| [k % 13, k % 2, (k * 5 + 1) % 13]).collect()
    };
    let facts = Triples::new("t", 13, 2, triples(0, 22), triples(30, 3), triples(40, 3)).unwrap();
    let model = Links::builder(13, 4).channels(6).build(1).unwrap().cast::<f64>().unwrap();
    let fit = |batch, batches| {
        let task = LinkTask::builder(facts.clone()).reciprocal(true).tables_alone(true);
        let task = task.candidates(Candidates::Sampled(3)).batch(batch).build().unwrap();
        // Steps of rows alone: a gradient of the whole table would move all of it.
        let trainer = Trainer::builder().epochs(4).rule(UpdateRule::LazyAdam).weight_decay(0.0);
        let trainer = trainer.accumulate(batches).build().unwrap();
        trainer.fit_with(model.clone(), &task.cast::<f64>(), Setup::new()).unwrap().model
    };
    assert!(model.nodes().iter().any(|node| node.layer().kind() == "decoder"));
    let off = apart(&fit(3, 2), &fit(6, 1));
    // What Adam divides by is a root, in which the order of sums shows a little more.
    assert!(off < 1e-9, "{off}");
    assert!(apart(&fit(3, 1), &fit(6, 1)) > 1e-3);
}

#[test]
fn where_an_epoch_is_one_batch_nothing_is_added_up() {
    let (data, trainer) = (data(), trainer(3).accumulate(2).build().unwrap());
    assert!(trainer.to_string().contains(", 2 batches a step"), "{trainer}");
    let model = Gcn::builder(6, 3).hidden(8).build(0).unwrap();
    let refused = trainer.fit(model, &data).unwrap_err().to_string();
    assert!(refused.contains("batches of a step is 2") && refused.contains("one batch"));
    let pairs = EdgeTask::new(&data, 0).unwrap();
    let model = Links::builder(240, 1).on_features(6).encoder(Encoder::Gcn);
    let model = model.scored(Scored::By(Form::Dot)).channels(4).build(0);
    let refused = trainer.fit(model.unwrap(), &pairs).unwrap_err().to_string();
    assert!(refused.contains("batches of a step is 2"), "{refused}");
    assert!(Trainer::builder().accumulate(0).build().is_err());
}
