//! Training by mini-batches: what is drawn, that it does not depend on threads, and what is
//! computed from it.

use gnn_prune::graph::{Hop, NeighborSampler};
use gnn_prune::ndarray::{Array2, Axis};
use gnn_prune::nn::{
    Cx, GatConv, Gcn2Conv, GcnConv, GinAggregation, GinConv, Linear, ModelBuilder, NodeId, SageConv,
};
use gnn_prune::task::{Batch, Batches, Part, Sampler, cross_entropy, evaluate};
use gnn_prune::train::{Epoch, Setup};
use gnn_prune::{
    AdjacencyNorm, Dataset, Error, Gcn, Graph, Mlp, Model, NodeTask, Sage, Split, Task, Trainer,
    Value,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn data() -> Dataset {
    Dataset::sbm(600, 3).degree(9.0).features(8).seed(4).build().unwrap()
}

/// One of each kind.
fn samplers() -> [Sampler; 5] {
    [
        Sampler::neighbors([6, 4]).batch(17),
        Sampler::walks(30, 3).coverage(20),
        Sampler::edges(60).coverage(20),
        Sampler::nodes(120).coverage(20),
        Sampler::clusters(12, 3),
    ]
}

/// All that an epoch's batches are made of.
fn bits(batches: &Batches<'_, f32>, epoch: usize) -> Vec<(Vec<u32>, Vec<u32>, Vec<u32>)> {
    let of = |batch: Batch<f32>| {
        let spaces = batch.spaces();
        let mut words = spaces.node_ids().unwrap_or_default().to_vec();
        words.extend(batch.rows());
        let features = batch.features().to_dense().iter().map(|v| v.to_bits()).collect();
        let model = Gcn::builder(8, 3).hidden(4).layers(2).dropout(0.0).build(0).unwrap();
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        (words, features, y.iter().map(|v| v.to_bits()).collect())
    };
    batches.epoch(epoch).map(|batch| of(batch.unwrap())).collect()
}

fn weights(model: &Model) -> Vec<u32> {
    model
        .params()
        .flat_map(|(_, p)| p.value().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn batches_are_the_same_whatever_the_threads_and_whether_they_are_made_in_advance() {
    let data = data();
    for sampler in samplers() {
        let drawn = |ahead: usize, threads: usize| {
            let pool = rayon(threads);
            pool.install(|| {
                let task = sampler.clone().ahead(ahead).over(&data).unwrap();
                let batches = task.batches(Part::Train, 5).unwrap();
                [1, 2, 1].map(|epoch| bits(&batches, epoch))
            })
        };
        let [one, two, again] = drawn(0, 1);
        assert!(!one.is_empty() && one == again, "{sampler}");
        assert_ne!(one, two, "{sampler}: epochs are alike");
        for (ahead, threads) in [(2, 1), (1, 2), (2, 3), (7, 7)] {
            assert_eq!(drawn(ahead, threads)[..2], [one.clone(), two.clone()], "{sampler}");
        }
    }
}

fn rayon(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn training_by_samples_learns_and_gives_the_same_bits_on_any_number_of_threads() {
    let data = data();
    let trainer = Trainer::builder().epochs(25).build().unwrap();
    let fit = |task: &dyn Task<f32>| {
        let model = Sage::builder(8, 3).hidden(16).dropout(0.2).build(1).unwrap();
        let fitted = trainer.fit(model, task).unwrap();
        (evaluate(&fitted, task, Part::Test).unwrap(), weights(&fitted))
    };
    let (whole, _) = fit(&data);
    for sampler in samplers() {
        let by = |ahead: usize, threads: usize| {
            let task = sampler.clone().ahead(ahead).over(&data).unwrap();
            rayon(threads).install(|| fit(&task))
        };
        let (accuracy, bits) = by(2, 1);
        // Three classes: a guess is right in a third of the cases.
        assert!(accuracy > whole - 12.0 && whole > 70.0, "{sampler}: {accuracy} and {whole}");
        assert_eq!((accuracy, bits), by(0, 3), "{sampler}");
    }
}

#[test]
fn fan_outs_larger_than_degrees_give_the_hops_of_all_neighbours_to_the_bit() {
    let data = data();
    let targets = [17, 3, 88, 41];
    let hops = NeighborSampler::new(data.graph(), &[600, 600], 3).unwrap().hops(9, &targets);
    let drawn = Batch::of_hops(&data, hops.unwrap()).unwrap();
    let all = Batch::around(&data, &targets, 2).unwrap();
    assert_eq!(drawn.spaces().node_ids(), all.spaces().node_ids());
    for model in [
        Gcn::builder(8, 3).hidden(16).build(2).unwrap(),
        Sage::builder(8, 3).hidden(16).build(2).unwrap(),
    ] {
        let of = |batch: &Batch<f32>| {
            model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap()
        };
        assert_eq!(of(&drawn), of(&all));
    }
    let hop = Hop::into_nodes(data.graph(), &targets).unwrap();
    let norm = AdjacencyNorm::Symmetric;
    let sampler = NeighborSampler::new(data.graph(), &[600], 3).unwrap();
    let drawn = sampler.hops(1, &targets).unwrap().remove(0);
    assert_eq!(drawn.sources(), hop.sources());
    let [a, b] = [&hop, &drawn].map(|hop| hop.operator(norm).unwrap());
    assert_eq!(a.forward(), b.forward());
}

#[test]
fn every_training_node_is_in_one_batch_of_neighbours_and_of_clusters() {
    let data = data();
    let train = data.split(5).train;
    for sampler in [Sampler::neighbors([3]).batch(17), Sampler::clusters(12, 5)] {
        let task = sampler.clone().over(&data).unwrap();
        let batches = task.batches(Part::Train, 5).unwrap();
        let mut seen = Vec::new();
        for batch in batches.epoch(3) {
            let batch = batch.unwrap();
            let ids = batch.spaces().node_ids().unwrap();
            seen.extend(batch.rows().iter().map(|&row| ids[row as usize]));
        }
        seen.sort_unstable();
        assert_eq!(seen, train, "{sampler}");
    }
}

/// The gradient of a batch is in expectation that of all training nodes: exactly where a linear
/// model sees no neighbour, through the weights of the loss alone.
#[test]
fn the_loss_of_a_subgraph_is_in_expectation_that_of_all_training_nodes() {
    let data = data();
    let model = Mlp::builder(8, 3).layers(1).dropout(0.0).build(3).unwrap();
    let cx = Cx::eval(data.graph());
    let split = data.split(3);
    let y = model.infer(&cx, data.features()).unwrap();
    let (expected, _) = cross_entropy(y.view(), data.classes().unwrap(), &split.train);
    for sampler in [Sampler::walks(40, 2), Sampler::edges(80), Sampler::nodes(150)] {
        let task = sampler.clone().coverage(400).steps(800).over(&data).unwrap();
        let (mut sum, mut squares) = (0.0, 0.0);
        for batch in task.batches(Part::Train, 3).unwrap().epoch(1) {
            let batch = batch.unwrap();
            let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
            let loss = f64::from(task.loss(y.view(), &batch).unwrap().0);
            (sum, squares) = (sum + loss, squares + loss * loss);
        }
        let (mean, expected) = (sum / 800.0, f64::from(expected));
        // Five deviations of a mean, and what the counts are off by.
        let deviation = (squares / 800.0 - mean * mean).sqrt();
        let far = 5.0 * deviation / 800.0f64.sqrt() + 0.02 * expected;
        assert!((mean - expected).abs() < far, "{sampler}: {mean}, not {expected} ± {far}");
    }
}

#[test]
fn labels_of_every_kind_are_learnt_by_samples() {
    let graph = data().graph().clone();
    let n = graph.num_nodes();
    let x = Array2::from_shape_fn((n, 4), |(i, c)| ((i * 7 + c * 13) % 11) as f32 / 11.0 - 0.4);
    let part = |k| (0..n as u32).filter(|node| node % 3 == k).collect();
    let split = Split { train: part(0), val: part(1), test: part(2) };
    let splits = || gnn_prune::data::Splits::Fixed(split.clone());
    let several = Array2::from_shape_fn((n, 2), |(i, c)| x[[i, c]] > 0.0);
    let numbers = Array2::from_shape_fn((n, 1), |(i, _)| f64::from(2.0 * x[[i, 0]] - x[[i, 1]]));
    let value = || Value::Dense(x.clone());
    let several = Dataset::multi_label("several", graph.clone(), value(), several, splits());
    let numbers = Dataset::regression("numbers", graph, value(), numbers, splits());
    let trainer = Trainer::builder().epochs(15).weight_decay(0.0).build().unwrap();
    for data in [several.unwrap(), numbers.unwrap()] {
        for sampler in
            [Sampler::neighbors([4]).batch(32), Sampler::edges(100), Sampler::clusters(9, 2)]
        {
            let task = sampler.clone().over(&data).unwrap();
            let model = Sage::builder(4, data.num_classes()).layers(1).dropout(0.0).build(0);
            let model = model.unwrap();
            let before = evaluate(&model, &task, Part::Test).unwrap();
            let after = evaluate(&trainer.fit(model, &task).unwrap(), &task, Part::Test).unwrap();
            let metric = task.metric();
            assert!(metric.is_better(after, before), "{sampler}: {before} to {after}");
        }
    }
}

#[test]
fn a_training_that_is_stopped_or_fails_leaves_no_thread_behind() {
    let data = data();
    let task = Sampler::neighbors([4, 4]).batch(5).over(&data).unwrap();
    let model = Sage::builder(8, 3).layers(2).build(1).unwrap();
    let stop = |at: Epoch| if at.epoch < 2 { Ok(()) } else { Err(Error::Interrupted) };
    let stopped = Trainer::protocol().fit_with(model, &task, Setup::new().on_epoch(&stop));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    // A batch that cannot be made is an error in its place, and nothing runs on after it.
    let alive = Arc::new(AtomicUsize::new(0));
    let (counted, one) = (Arc::clone(&alive), Batch::of(&data, vec![0]));
    let batches = Batches::drawn_ahead(2, move |_| {
        let (alive, one) = (Arc::clone(&counted), one.clone());
        (0..100).map(move |k| {
            alive.fetch_add(1, Ordering::SeqCst);
            if k == 3 { Err(Error::Interrupted) } else { Ok(one.clone()) }
        })
    });
    let mut epoch = batches.epoch(1);
    let results: Vec<bool> = epoch.by_ref().take(4).map(|batch| batch.is_ok()).collect();
    assert_eq!(results, [true, true, true, false]);
    drop(epoch);
    let made = alive.load(Ordering::SeqCst);
    assert!(made <= 8, "{made} were made");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(alive.load(Ordering::SeqCst), made);
}

#[test]
fn what_cannot_be_sampled_is_refused_by_name() {
    let data = data();
    let refused = [
        (Sampler::neighbors([]), "number of fan-outs is 0"),
        (Sampler::neighbors([4, 0]), "fan-out is 0"),
        (Sampler::neighbors([4]).batch(0), "nodes of a batch is 0"),
        (Sampler::neighbors([4]).steps(3), "subgraphs of an epoch is 3, it must be left to"),
        (Sampler::walks(0, 2), "roots of the walks is 0"),
        (Sampler::walks(5, 0), "length of the walks is 0"),
        (Sampler::edges(0), "edges of a subgraph is 0"),
        (Sampler::nodes(4).batch(9), "nodes of a batch is 9, it must be left to"),
        (Sampler::clusters(601, 2), "clusters is 601"),
        (Sampler::clusters(4, 5), "clusters of a batch is 5, it must be from 1 to the 4"),
        (Sampler::clusters(4, 2).coverage(7), "times that a node is drawn is 7"),
    ];
    for (sampler, what) in refused {
        let error = sampler.over(&data).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let task = Sampler::neighbors([4]).over(&data).unwrap();
    let two = Sage::builder(8, 3).layers(2).build(0).unwrap();
    let error = Trainer::protocol().fit(two, &task).unwrap_err().to_string();
    assert!(error.contains("number of fan-outs is 1, it must be 2"), "{error}");
    let far = Sampler::edges(100).coverage(200_000).over(&data).unwrap();
    let error = far.batches(Part::Train, 0).unwrap_err().to_string();
    assert!(error.contains("times that a node is drawn is 200000"), "{error}");
    // One training node of 600, which two nodes at a time miss.
    let split = Split { train: vec![0], val: vec![1], test: vec![2] };
    let few = data.clone().with_splits(gnn_prune::data::Splits::Fixed(split)).unwrap();
    let few = Sampler::nodes(1).steps(1).coverage(2).over(&few).unwrap();
    let batches = few.batches(Part::Train, 0).unwrap();
    let error = batches.epoch(1).next().unwrap().unwrap_err().to_string();
    assert!(error.contains("no subgraph of epoch 1 has a node that trains"), "{error}");
    let mut builder = ModelBuilder::<f32>::new(8);
    let gat = GatConv::builder(8, 3).heads(1).build().unwrap();
    let gat = builder.add("attend", gat, &[NodeId::INPUT]).unwrap();
    let gat = builder.build(gat, 0).unwrap();
    for error in [
        Trainer::protocol().fit(gat.clone(), &task).unwrap_err(),
        gat.infer_nodes(&data, &[3]).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("attend: runs on whole graphs only"), "{error}");
    }
    // On subgraphs and clusters every layer runs.
    let task = Sampler::clusters(6, 2).over(&data).unwrap();
    let trainer = Trainer::builder().epochs(1).build().unwrap();
    assert!(trainer.fit(gat, &task).is_ok());
}

type Build = fn(&mut ModelBuilder<f64>) -> gnn_prune::Result<NodeId>;

const ANSWERING: [(&str, usize, Build); 6] = [
    ("mlp", 0, |b| b.add("out", Linear::builder(8, 3).build()?, &[NodeId::INPUT])),
    ("gcn", 2, |b| {
        let h = b.add("conv1", GcnConv::builder(8, 16).build()?, &[NodeId::INPUT])?;
        b.add("conv2", GcnConv::builder(16, 3).build()?, &[h])
    }),
    ("max", 1, |b| {
        let conv = SageConv::builder(8, 3).aggregation(gnn_prune::nn::Aggregation::Max);
        b.add("conv", conv.build()?, &[NodeId::INPUT])
    }),
    ("gin", 2, |b| {
        let h = b.add("conv1", GinConv::builder(8, 5, 6).eps(0.3).build()?, &[NodeId::INPUT])?;
        b.add("conv2", GinConv::builder(6, 4, 3).build()?, &[h])
    }),
    ("sums", 2, |b| {
        let h = b.add("sum1", GinAggregation::new(0.2)?, &[NodeId::INPUT])?;
        let h = b.add("lin", Linear::builder(8, 3).build()?, &[h])?;
        b.add("sum2", GinAggregation::new(0.1)?, &[h])
    }),
    ("gcn2", 2, |b| {
        let x = b.add("in", Linear::builder(8, 3).build()?, &[NodeId::INPUT])?;
        let h = b.add("conv1", Gcn2Conv::new(3, 0.2, 0.4)?, &[x, x])?;
        b.add("conv2", Gcn2Conv::new(3, 0.2, 0.3)?.two_weights(true), &[h, x])
    }),
];

#[test]
fn answers_for_some_nodes_are_the_rows_of_the_whole_graph() {
    let data: Dataset<f64> = data().cast();
    let nodes = [599, 3, 88, 41];
    for (name, hops, build) in ANSWERING {
        let mut builder = ModelBuilder::<f64>::new(8);
        let output = build(&mut builder).unwrap();
        let model = builder.build(output, 5).unwrap();
        assert_eq!(model.num_hops(), hops, "{name}");
        let found = model.infer_nodes(&data, &nodes).unwrap();
        let all = model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        let rows = all.select(Axis(0), &nodes.map(|node| node as usize));
        let off = (&found - &rows).fold(0.0, |most: f64, v| most.max(v.abs()));
        // Sums of the same numbers in another order.
        assert!(off < 1e-11, "{name}: {off}");
    }
    let model = Mlp::builder(8, 3).build(0).unwrap().cast::<f64>().unwrap();
    for (nodes, what) in [(&[][..], "at least one"), (&[7, 7][..], "once"), (&[600][..], "range")] {
        let error = model.infer_nodes(&data, nodes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_node_that_arrives_is_answered_as_if_it_had_always_been_there() {
    let data = data();
    let model = Sage::builder(8, 3).hidden(8).layers(2).build(1).unwrap();
    let edges = [(3, 600), (88, 600), (600, 88), (601, 600)];
    let added = Graph::builder(602).edges(edges).build().unwrap();
    let graph = data.graph().with_nodes(2).unwrap().with_edges(&added).unwrap();
    let below = Array2::from_shape_fn((2, 8), |(i, c)| (i + c) as f32 / 8.0);
    let grown = data.with_new_nodes(graph.clone(), below.clone().into()).unwrap();
    assert_eq!(grown.num_nodes(), 602);
    assert_eq!(grown.split(3), data.split(3), "splits are what they were");
    assert!(grown.labeled(&[599, 600, 601]) == [599]);
    let mut x = Array2::zeros((602, 8));
    x.slice_mut(gnn_prune::ndarray::s![..600, ..]).assign(&data.features().to_dense());
    x.slice_mut(gnn_prune::ndarray::s![600.., ..]).assign(&below);
    let all = model.infer(&Cx::eval(&graph), gnn_prune::ValueRef::Dense(x.view())).unwrap();
    let found = model.infer_nodes(&grown, &[600, 601, 88]).unwrap();
    let rows = all.select(Axis(0), &[600, 601, 88]);
    let off = (&found - &rows).fold(0.0, |most: f32, v| most.max(v.abs()));
    assert!(off < 1e-4, "{off}");
    // Training goes on as before.
    let task = NodeTask::of(&grown);
    let fit = |task: &dyn Task<f32>| {
        Trainer::builder().epochs(2).build().unwrap().fit(model.clone(), task).unwrap()
    };
    assert!(evaluate(&fit(&task), &task, Part::Test).is_ok());
    let wrong = data.with_new_nodes(data.graph().clone(), below.into()).unwrap_err().to_string();
    assert!(wrong.contains("features of new nodes"), "{wrong}");
    let fewer = data.graph().induced(&[0, 1]).unwrap();
    let wrong = data.with_new_nodes(fewer, Array2::<f32>::zeros((1, 8)).into()).unwrap_err();
    assert!(wrong.to_string().contains("600 nodes"), "{wrong}");
}

#[test]
fn sparse_features_are_sampled_and_grow_as_dense_ones_do() {
    let dense = data();
    let x = dense.features().to_dense().mapv(|v| if v < 0.6 { 0.0 } else { v });
    let labels = dense.classes().unwrap().to_vec();
    let of = |x: Value<f32>| {
        let graph = dense.graph().clone();
        Dataset::new("blocks", graph, x, labels.clone(), Some(3), dense.splits().clone()).unwrap()
    };
    let [dense, sparse] =
        [Value::Dense(x.clone()), Value::Sparse(Value::Dense(x).into_sparse())].map(of);
    let trainer = Trainer::builder().epochs(3).build().unwrap();
    for sampler in samplers() {
        let losses = |data: &Dataset| {
            let task = sampler.clone().over(data).unwrap();
            let model = Sage::builder(8, 3).dropout(0.0).build(1).unwrap();
            trainer.fit_with(model, &task, Setup::new()).unwrap().losses
        };
        for (a, b) in losses(&dense).iter().zip(losses(&sparse)) {
            assert!((a - b).abs() < 1e-4, "{sampler}: {a} and {b}");
        }
    }
    let graph = sparse.graph().with_nodes(1).unwrap();
    let row = Array2::from_shape_fn((1, 8), |(_, c)| (c % 2) as f32);
    let wrong = sparse.with_new_nodes(graph.clone(), row.clone().into()).unwrap_err().to_string();
    assert!(wrong.contains("features are sparse"), "{wrong}");
    let row = Value::Sparse(Value::Dense(row).into_sparse());
    let grown = sparse.with_new_nodes(graph, row).unwrap();
    assert_eq!(grown.features().rows_of(&[600]).view().stored(), 4);
}
