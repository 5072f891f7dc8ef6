//! Encoders of knowledge graphs: relations that layers and decoder share, blocks, and the recipes.

use crate::links::days;
use gnn_prune::models::{Encoder, Links, Normalization, Scored};
use gnn_prune::ndarray::{Array1, Array2, Axis, s};
use gnn_prune::nn::decode::{Decoder, Form};
use gnn_prune::nn::{
    Composition, Cx, Embedding, ModelBuilder, NodeId, PruneUnits, RelationTable, RgcnConv,
};
use gnn_prune::task::{Candidates, LinkTask, Part, Task, evaluate};
use gnn_prune::{
    AdjacencyNorm, Bits, ChannelPruner, Error, Graph, Magnitude, Model, Quantizer, Trainer,
    ValueRef,
};
use std::collections::BTreeMap;

const COMPOSITIONS: [Composition; 3] =
    [Composition::Subtraction, Composition::Product, Composition::Correlation];

fn params(model: &Model) -> BTreeMap<String, Array2<f32>> {
    let mut all = BTreeMap::new();
    model.visit(&mut |name, param| _ = all.insert(name.to_string(), param.value().clone()));
    all
}

fn compgcn(composition: Composition, relations: usize, channels: usize) -> Model {
    let builder = Links::builder(28, relations).edge_types(4).channels(channels);
    builder.encoder(Encoder::CompGcn { composition }).build(3).unwrap()
}

/// `D^{-1/2}AD^{-1/2}` of some relations together, relation by relation.
fn normalised(graph: &Graph, types: std::ops::Range<usize>) -> Vec<Array2<f32>> {
    let all: Vec<Array2<f32>> = graph.relations()[types]
        .iter()
        .map(|relation| ValueRef::Sparse(relation.view()).to_dense())
        .collect();
    let degrees: Array1<f32> =
        all.iter().map(|a| a.sum_axis(Axis(1))).reduce(|a, b| a + b).unwrap();
    let inverse = degrees.mapv(|d: f32| if d > 0.0 { d.sqrt().recip() } else { 0.0 });
    let scale = |a: Array2<f32>| {
        Array2::from_shape_fn(a.dim(), |(i, j)| a[[i, j]] * inverse[i] * inverse[j])
    };
    all.into_iter().map(scale).collect()
}

#[test]
fn compgcn_is_its_formula_and_its_decoder_reads_the_relations_that_it_updated() {
    let (facts, _) = days(Form::DistMult, 4);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let batch = task.whole().unwrap();
    for composition in COMPOSITIONS {
        let model = compgcn(composition, task.relations(), 6);
        let p = params(&model);
        let (x, z) = (&p["table.weight"], &p["relations.weight"]);
        let phi = |x: &Array2<f32>, z: &Array1<f32>| match composition {
            Composition::Subtraction => x - z,
            Composition::Product => x * z,
            _ => Array2::from_shape_fn(x.dim(), |(i, k)| {
                (0..6).map(|c| x[[i, c]] * z[(c + k) % 6]).sum()
            }),
        };
        let weight = |k: usize| p["conv1.weight"].slice(s![6 * k..6 * (k + 1), ..]).to_owned();
        let mut y = phi(x, &p["conv1.loop"].row(0).to_owned()).dot(&weight(2));
        for direction in 0..2 {
            let types = 2 * direction..2 * direction + 2;
            for (r, a) in types.clone().zip(normalised(batch.graph(), types)) {
                y += &a.dot(&phi(x, &z.row(r).to_owned())).dot(&weight(direction));
            }
        }
        // Running statistics are those of the start: mean 0, variance 1.
        let y = (y / 3.0 + &p["conv1.bias"]).mapv(|v| (v / (1.0f32 + 1e-5).sqrt()).tanh());
        let relations = z.dot(&p["relations1.weight"]);
        let found = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let asked = batch.spaces().asked().unwrap();
        for (k, &score) in found.iter().enumerate() {
            let [h, t] = asked.pair(k).map(|node| y.row(node as usize));
            let query = asked.queries()[k / asked.count()];
            let expected = (&h * &t).dot(&relations.row(query.relation as usize));
            assert!((score - expected).abs() < 1e-5, "{composition:?}, pair {k}");
        }
    }
}

#[test]
fn every_encoder_learns_what_follows_what() {
    let compgcn = |composition| Encoder::CompGcn { composition };
    for (encoder, candidates, dropout) in [
        (Encoder::Rgcn { bases: 0, blocks: 4 }, Candidates::Shared(10), 0.0),
        (Encoder::Linear, Candidates::All, 0.2),
        (compgcn(Composition::Subtraction), Candidates::Shared(10), 0.0),
        (compgcn(Composition::Product), Candidates::All, 0.2),
        (compgcn(Composition::Correlation), Candidates::All, 0.0),
    ] {
        let (facts, _) = days(Form::DistMult, 4);
        let task = LinkTask::builder(facts).candidates(candidates).batch(16).reciprocal(true);
        let task = task.build().unwrap();
        let model = Links::builder(28, task.relations())
            .edge_types(4)
            .channels(16)
            .encoder(encoder)
            .layers(2)
            .norm(Normalization::Batch)
            .relation_dropout(dropout)
            .build(1)
            .unwrap();
        let trainer = Trainer::builder().learning_rate(0.03).weight_decay(0.0).epochs(30);
        let trained = trainer.build().unwrap().fit(model, &task).unwrap();
        let after = evaluate(&trained, &task, Part::Test).unwrap();
        assert!(after > 40.0, "{encoder:?}, {candidates:?}: {after}");
    }
}

#[test]
fn shared_candidates_are_the_same_on_the_whole_graph_as_alone() {
    let (facts, model) = days(Form::ComplEx, 8);
    let losses = [true, false].map(|alone| {
        let builder = LinkTask::builder(facts.clone()).candidates(Candidates::Shared(5)).batch(8);
        let task = builder.tables_alone(alone).build().unwrap();
        let trainer = Trainer::builder().weight_decay(0.0).epochs(3).build().unwrap();
        trainer.fit_with(model.clone(), &task, gnn_prune::train::Setup::new()).unwrap().losses
    });
    let [alone, whole] = &losses;
    for (a, b) in alone.iter().zip(whole) {
        assert!((a - b).abs() < 1e-5 * a.abs(), "{a} {b}");
    }
}

#[test]
fn channels_of_nodes_and_of_relations_are_pruned_together_and_none_of_a_correlation() {
    let (facts, _) = days(Form::DistMult, 4);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build().unwrap();
    for composition in COMPOSITIONS {
        let narrow = pruner.prune(&compgcn(composition, 4, 8), &task).unwrap();
        let shapes: BTreeMap<String, (usize, usize)> =
            params(&narrow).into_iter().map(|(name, value)| (name, value.dim())).collect();
        // What the decoder multiplies is pruned in the output of both in any case.
        let (inputs, of_relations) =
            if composition == Composition::Correlation { (8, 8) } else { (4, 4) };
        for (name, shape) in [
            ("table.weight", (28, inputs)),
            ("relations.weight", (4, of_relations)),
            ("conv1.weight", (3 * inputs, 4)),
            ("conv1.loop", (1, inputs)),
            ("relations1.weight", (of_relations, 4)),
        ] {
            assert_eq!(shapes[name], shape, "{composition:?}, {name}");
        }
        assert!(evaluate(&narrow, &task, Part::Test).unwrap() > 0.0);
    }
}

#[test]
fn rows_of_relations_that_do_not_fit_are_refused_by_name() {
    let graph = |types: Vec<u32>| Graph::builder(2).edges([(0, 1), (1, 0)]).edge_types(types);
    let run = |relations: usize, graph: &Graph| {
        let mut builder = ModelBuilder::new(1);
        let nodes = builder.add("nodes", Embedding::new(2, 4).unwrap(), &[NodeId::INPUT]).unwrap();
        let table = RelationTable::new(relations, 4).unwrap();
        let table = builder.add("relations", table, &[NodeId::INPUT]).unwrap();
        let conv = gnn_prune::nn::CompGcnConv::builder(4, 3).build().unwrap();
        let y = builder.add("conv", conv, &[nodes, table]).unwrap();
        let x = Array2::ones((2, 1));
        builder.build(y, 0).unwrap().infer(&Cx::eval(graph), ValueRef::Dense(x.view()))
    };
    let two = graph(vec![0, 1]).build().unwrap();
    assert!(run(2, &two).is_ok() && run(4, &two).is_ok());
    let four = graph(vec![0, 3]).build().unwrap();
    for (relations, graph) in [(3, &two), (2, &four)] {
        let error = run(relations, graph).unwrap_err().to_string();
        assert!(error.contains(&format!("{relations} rows of relations")), "{error}");
    }
    let untyped = Graph::builder(2).edges([(0, 1)]).build().unwrap();
    assert!(run(2, &untyped).unwrap_err().to_string().contains("have no types"));
    // Rows of nodes are no rows of relations, and the other way round.
    let mut builder = ModelBuilder::<f32>::new(4);
    let conv = gnn_prune::nn::CompGcnConv::builder(4, 3).build().unwrap();
    let error = builder.add("conv", conv, &[NodeId::INPUT, NodeId::INPUT]).unwrap_err();
    assert!(matches!(error, Error::Model(_)), "{error}");
    let wide = RelationTable::new(2, 5).unwrap();
    let wide = builder.add("relations", wide, &[NodeId::INPUT]).unwrap();
    let shared = Decoder::builder(Form::DistMult, 4).shared(true).build().unwrap();
    assert!(builder.add("decoder", shared, &[NodeId::INPUT, wide]).is_err());
    assert!(Decoder::builder(Form::Dot, 4).shared(true).build::<f32>().is_err());
    let norm = gnn_prune::nn::CompGcnConv::builder(4, 3).norm(AdjacencyNorm::Symmetric);
    assert!(norm.build::<f32>().is_err());
    let odd = Links::builder(2, 1).edge_types(3);
    let composition = Composition::Product;
    assert!(odd.encoder(Encoder::CompGcn { composition }).build(0).is_err());
    assert!(Links::builder(2, 1).scored(Scored::Mlp).relation_dropout(0.5).build(0).is_err());
}

#[test]
fn blocks_lose_the_same_channels_and_have_no_more_weights_than_blocks() {
    let conv = |blocks: usize| RgcnConv::builder(8, 4, 3).root(false).bias(false).blocks(blocks);
    let count = |blocks: usize| {
        let mut builder = ModelBuilder::<f32>::new(8);
        let y = builder.add("conv", conv(blocks).build().unwrap(), &[NodeId::INPUT]).unwrap();
        builder.build(y, 0).unwrap().num_params()
    };
    assert_eq!((count(1), count(2), count(4)), (96, 48, 24));
    for refused in [conv(3), conv(8), conv(0), conv(2).bases(2)] {
        assert!(refused.build::<f32>().is_err());
    }
    let units = PruneUnits::AcrossHeads { heads: 2 };
    assert_eq!((units.unit_of(1, 8), units.unit_of(5, 8)), (1, 1));
    let (facts, _) = days(Form::DistMult, 4);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let model = Links::builder(28, 4).edge_types(4).channels(8).layers(2);
    let model = model.encoder(Encoder::Rgcn { bases: 0, blocks: 2 }).build(0).unwrap();
    let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build().unwrap();
    let narrow = pruner.prune(&model, &task).unwrap();
    let shapes = params(&narrow);
    assert_eq!(shapes["conv1.weight"].dim(), (4 * 4, 2));
    assert_eq!(shapes["table.weight"].dim(), (28, 4));
    assert!(evaluate(&narrow, &task, Part::Test).unwrap() > 0.0);
}

#[test]
fn a_table_of_relations_has_no_integers_beside_a_decoder_and_says_so() {
    let (facts, _) = days(Form::DistMult, 4);
    let task = LinkTask::builder(facts).reciprocal(true).build().unwrap();
    let model = compgcn(Composition::Product, 4, 8);
    let quantizer = Quantizer::builder(Bits::Eight).build().unwrap();
    let error = quantizer.quantize(&model, &task).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    // Nor has it where a table of nodes has them: what it reads beside them is none.
    let dropped = Links::builder(28, 4).relation_dropout(0.5).build(0).unwrap();
    let error = quantizer.quantize(&dropped, &task).unwrap_err();
    assert!(error.to_string().contains("relations"), "{error}");
}
