//! Values whose rows are not the nodes of one graph: hops of a sample, graphs of a batch, pairs.

use gnn_prune::graph::AdjacencyNorm;
use gnn_prune::ndarray::{Array2, ArrayView2, Axis, s};
use gnn_prune::nn::{
    Add, Aggregation, Attrs, Cx, Dropout, Evaluated, GatConv, Gcn2Conv, GcnConv, GinAggregation,
    GinConv, Grads, Io, Layer, LgConv, Linear, Lowering, Mode, ModelBuilder, NodeId, Reads,
    RowSpace, Rows, SageConv, StageId, Wiring,
};
use gnn_prune::task::{Batch, cross_entropy};
use gnn_prune::{Dataset, Model, Result, Unsupported, Value, ValueRef};

/// Sums of the same numbers in another order, in double precision.
const TOLERANCE: f64 = 1e-11;

fn data(sparse: bool) -> Dataset<f64> {
    let data = Dataset::sbm(300, 3).degree(2.0).features(10).seed(3).build().unwrap();
    let x = data.features().to_dense().mapv(|v| if v < 0.4 { 0.0 } else { v });
    let x = Value::Dense(x);
    let x = if sparse { Value::Sparse(x.into_sparse()) } else { x };
    let labels = data.classes().unwrap().to_vec();
    Dataset::new("blocks", data.graph().clone(), x, labels, Some(3), data.splits().clone())
        .unwrap()
        .cast()
}

type Build = fn(&mut ModelBuilder<f64>) -> Result<NodeId>;

/// Networks of two hops: with dropout, wide and narrow, with a skip over one and over both hops.
const NETWORKS: [(&str, Build); 7] = [
    ("gcn", |b| {
        let h = b.add("drop", Dropout::new(0.3)?, &[NodeId::INPUT])?;
        let h = b.add("conv1", GcnConv::builder(10, 16).build()?, &[h])?;
        let h = b.add("drop2", Dropout::new(0.5)?, &[h])?;
        b.add("conv2", GcnConv::builder(16, 3).build()?, &[h])
    }),
    ("residual", |b| {
        let h = b.add("in", Linear::builder(10, 6).build()?, &[NodeId::INPUT])?;
        let c = b.add("conv1", GcnConv::builder(6, 6).build()?, &[h])?;
        let d = b.add("drop", Dropout::new(0.5)?, &[c])?;
        let r = b.add("sum1", Add::new(2)?, &[d, h])?;
        let c = b.add("conv2", GcnConv::builder(6, 3).build()?, &[r])?;
        let skip = b.add("skip", Linear::builder(6, 3).build()?, &[h])?;
        b.add("sum2", Add::new(2)?, &[skip, c])
    }),
    ("sage", |b| {
        let h = b.add("conv1", SageConv::builder(10, 12).build()?, &[NodeId::INPUT])?;
        let h = b.add("drop", Dropout::new(0.5)?, &[h])?;
        b.add("conv2", SageConv::builder(12, 3).normalize(true).build()?, &[h])
    }),
    ("light", |b| {
        let h = b.add("in", Linear::builder(10, 3).build()?, &[NodeId::INPUT])?;
        let h = b.add("lg1", LgConv::new(), &[h])?;
        let h = b.add("drop", Dropout::new(0.2)?, &[h])?;
        b.add("lg2", LgConv::new(), &[h])
    }),
    ("gin", |b| {
        let h = b.add("conv1", GinConv::builder(10, 5, 6).eps(0.3).build()?, &[NodeId::INPUT])?;
        let h = b.add("drop", Dropout::new(0.2)?, &[h])?;
        let h = b.add("sum", GinAggregation::new(0.1)?.train_eps(true), &[h])?;
        b.add("out", Linear::builder(6, 3).build()?, &[h])
    }),
    ("gcn2", |b| {
        let x = b.add("in", Linear::builder(10, 3).build()?, &[NodeId::INPUT])?;
        let h = b.add("drop", Dropout::new(0.2)?, &[x])?;
        let h = b.add("conv1", Gcn2Conv::new(3, 0.2, 0.4)?, &[h, x])?;
        b.add("conv2", Gcn2Conv::new(3, 0.2, 0.3)?.two_weights(true), &[h, x])
    }),
    ("max", |b| {
        let max = |i, o| SageConv::builder(i, o).aggregation(Aggregation::Max).build();
        let h = b.add("in", Linear::builder(10, 6).build()?, &[NodeId::INPUT])?;
        let h = b.add("conv1", max(6, 6)?, &[h])?;
        b.add("conv2", max(6, 3)?, &[h])
    }),
];

fn network(build: Build) -> Model<f64> {
    let mut builder = ModelBuilder::<f64>::new(10);
    let output = build(&mut builder).unwrap();
    builder.build(output, 5).unwrap()
}

fn distance(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    a.iter().zip(b).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()))
}

#[test]
fn a_sample_of_all_neighbours_computes_and_learns_what_the_whole_graph_does() {
    let targets = [17, 3, 88, 41];
    for sparse in [false, true] {
        let data = data(sparse);
        let (classes, all) = (data.classes().unwrap(), Cx::eval(data.graph()));
        let of_targets: Vec<u32> = targets.iter().map(|&i| classes[i as usize]).collect();
        for (name, build) in NETWORKS {
            let model = network(build);
            for hops in [2, 3] {
                let batch = Batch::around(&data, &targets, hops).unwrap();
                assert!(batch.features().rows() < 300, "a sample is smaller than the graph");
                for mode in [Mode::Eval, Mode::Train { seed: 9, step: 4 }] {
                    let whole = all.with_mode(mode);
                    let part = batch.on(&Cx::without_graph()).with_mode(mode);
                    let on_all = model.trace(&whole, data.features()).unwrap();
                    let on_part = model.trace(&part, batch.features()).unwrap();
                    let rows: Vec<usize> = targets.iter().map(|&i| i as usize).collect();
                    let expected = on_all.output().select(Axis(0), &rows);
                    let found = on_part.output().slice(s![..4, ..]).to_owned();
                    let off = distance(expected.view(), found.view());
                    assert!(off < TOLERANCE, "{name}, {hops} hops, {mode:?}: {off}");

                    let (_, dy) = cross_entropy(on_all.output(), classes, &targets);
                    let expected = model.backward(&whole, on_all, vec![(model.output(), dy)]);
                    let (_, dy) = cross_entropy(on_part.output(), &of_targets, batch.rows());
                    let found = model.backward(&part, on_part, vec![(model.output(), dy)]);
                    let (expected, found) = (expected.unwrap(), found.unwrap());
                    model.visit(&mut |param, p| {
                        let [a, b] = [&expected, &found].map(|g| g.get(p.id()).unwrap().view());
                        let off = distance(a, b);
                        assert!(off < TOLERANCE, "{name}: gradient of {param} is off by {off}");
                    });
                }
            }
        }
    }
}

#[test]
fn what_runs_on_whole_graphs_only_or_has_no_hop_left_says_so() {
    let data = data(false);
    let batch = Batch::around(&data, &[1, 2], 1).unwrap();
    let cx = batch.on(&Cx::without_graph());
    let short = network(NETWORKS[0].1).infer(&cx, batch.features()).unwrap_err().to_string();
    assert!(short.contains("conv2") && short.contains("needs a graph"), "{short}");
    let mut builder = ModelBuilder::<f64>::new(10);
    let gat = GatConv::builder(10, 3).heads(1).build().unwrap();
    let gat = builder.add("attend", gat, &[NodeId::INPUT]).unwrap();
    let gat = builder.build(gat, 0).unwrap();
    let refused = gat.infer(&cx, batch.features()).unwrap_err().to_string();
    assert!(refused.contains("attend") && refused.contains("whole graphs only"), "{refused}");
}

#[test]
fn attention_that_drops_refuses_nodes_that_are_not_those_of_their_place() {
    let data = data(false);
    let conv = GatConv::builder(10, 3).heads(1).dropout(0.5).build().unwrap();
    let mut builder = ModelBuilder::<f64>::new(10);
    let out = builder.add("attend", conv, &[NodeId::INPUT]).unwrap();
    let model = builder.build(out, 0).unwrap();
    let rows = Rows::new().ids((0..300).rev().collect::<Vec<u32>>());
    let cx = Cx::eval(data.graph());
    assert!(model.infer(&cx.within(&rows), data.features()).is_ok());
    let train = cx.with_mode(Mode::Train { seed: 0, step: 1 });
    assert!(model.trace(&train, data.features()).is_ok());
    let refused = model.trace(&train.within(&rows), data.features()).unwrap_err().to_string();
    assert!(refused.contains("attend") && refused.contains("attention"), "{refused}");
}

/// The sum of the rows of each graph.
#[derive(Clone)]
struct SumOfGraphs;

impl Layer<f64> for SumOfGraphs {
    type Cache = ();

    fn kind(&self) -> &'static str {
        "sum_of_graphs"
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        (inputs == [RowSpace::Nodes]).then_some(RowSpace::Graphs)
    }

    fn forward(&self, cx: &Cx<f64>, xs: &[ValueRef<f64>]) -> Result<(Value<f64>, ())> {
        let mut y = Array2::zeros((cx.num_rows(RowSpace::Graphs)?, xs[0].cols()));
        let (graph_of, _) = cx.rows().and_then(Rows::graph_of_nodes).expect("there are graphs");
        for (row, &graph) in xs[0].to_dense().rows().into_iter().zip(graph_of) {
            let mut sum = y.row_mut(graph as usize);
            sum += &row;
        }
        Ok((Value::Dense(y), ()))
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn backward(
        &self,
        cx: &Cx<f64>,
        _: &Io<f64>,
        (): (),
        dy: ValueRef<f64>,
        _: &mut Grads<f64>,
    ) -> Vec<Option<Value<f64>>> {
        let (graph_of, _) = cx.rows().and_then(Rows::graph_of_nodes).expect("there are graphs");
        vec![Some(dy.rows_of(graph_of))]
    }

    fn lower(&self, lowering: &mut Lowering<f64>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = lowering.width(xs[0]);
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), 0), width))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
    }
}

#[test]
fn a_readout_has_one_row_per_graph_and_joins_no_rows_of_nodes() {
    let data = data(false);
    let mut builder = ModelBuilder::<f64>::new(10);
    let h = builder.add("conv", GcnConv::builder(10, 4).build().unwrap(), &[NodeId::INPUT]);
    let sum = builder.add("sum", SumOfGraphs, &[h.unwrap()]).unwrap();
    let wrong =
        builder.add("wrong", Add::new(2).unwrap(), &[sum, NodeId::INPUT]).unwrap_err().to_string();
    assert!(wrong.contains("cannot join rows of graphs with rows of nodes"), "{wrong}");
    let out = builder.add("out", Linear::builder(4, 2).build().unwrap(), &[sum]).unwrap();
    let model = builder.build(out, 1).unwrap();
    assert_eq!(model.nodes()[1].rows(), RowSpace::Graphs);

    let graph_of: Vec<u32> = (0..300).map(|i| i / 120).collect();
    let rows = Rows::new().graphs(graph_of, 3).unwrap();
    let cx = Cx::eval(data.graph()).within(&rows);
    let trace = model.trace(&cx, data.features()).unwrap();
    assert_eq!(trace.output().dim(), (3, 2));
    let dy = Array2::from_shape_fn((3, 2), |(i, c)| (i + 2 * c) as f64 - 1.0);
    let (grads, _) = model.backward_to_input(&cx, trace, &[(model.output(), dy.clone())]).unwrap();
    // Central differences of Σ dy ⊙ y.
    model.visit(&mut |name, param| {
        let at = (0, 0);
        let value = |h: f64| {
            let mut moved = model.clone();
            moved.visit_mut(&mut |other| {
                if other.id() == param.id() {
                    other.value_mut()[at] += h;
                }
            });
            (moved.infer(&cx, data.features()).unwrap() * &dy).sum()
        };
        let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
        let found = grads.get(param.id()).unwrap()[at];
        assert!((found - slope).abs() < 1e-6 * (1.0 + slope.abs()), "{name}: {found}, {slope}");
    });
    // The rows must be there, and as many as there are nodes.
    let without = model.infer(&Cx::eval(data.graph()), data.features());
    assert!(without.unwrap_err().to_string().contains("sum"));
    let starts = Rows::new().ids((0..300).collect::<Vec<u32>>()).sparse_starts(vec![0; 7]);
    let short = model.infer(&Cx::eval(data.graph()).within(&starts), data.features());
    assert!(short.unwrap_err().to_string().contains("starts of the nodes' features"));
    let few = Rows::new().graphs(vec![0; 7], 1).unwrap();
    assert!(model.infer(&Cx::eval(data.graph()).within(&few), data.features()).is_err());
}

#[test]
fn a_program_has_the_rows_of_each_stage_and_refuses_those_that_a_batch_has_not() {
    let data = data(false);
    let readout = |last: fn(&mut ModelBuilder<f64>, NodeId) -> Result<NodeId>| {
        let mut builder = ModelBuilder::<f64>::new(10);
        let h = builder.add("conv", GcnConv::builder(10, 4).build()?, &[NodeId::INPUT])?;
        let sum = builder.add("sum", SumOfGraphs, &[h])?;
        let out = last(&mut builder, sum)?;
        builder.build(out, 1)
    };
    let (graph, x) = (data.graph(), data.features());
    let linear = readout(|b, sum| b.add("out", Linear::builder(4, 2).build()?, &[sum])).unwrap();
    let convolution = 300 * 10 * 4 + 4 * graph.operator(AdjacencyNorm::Symmetric).unwrap().stored();
    // More graphs than nodes too: some are empty.
    for graphs in [1, 3, 1000] {
        let rows = Rows::new().graphs((0..300).map(|i| i % graphs).collect::<Vec<u32>>(), 1000);
        let rows = rows.unwrap();
        let expected = linear.infer(&Cx::eval(graph).within(&rows), x).unwrap();
        let mut program = linear.compile_within(graph, x, &rows).unwrap();
        assert_eq!(program.cost().macs as usize, convolution + 1000 * 4 * 2);
        for _ in 0..2 {
            assert!(distance(program.run(x).unwrap(), expected.view()) < TOLERANCE);
        }
    }
    let few = Rows::new().graphs(vec![0; 300], 1).unwrap();
    let small = linear.compile_within(graph, x, &few).unwrap().cost().peak_activations;
    let many = Rows::new().graphs(vec![0; 300], 1000).unwrap();
    let large = linear.compile_within(graph, x, &many).unwrap().cost().peak_activations;
    assert!(large > small, "{small} and {large} bytes");

    let without = linear.compile(graph, x).unwrap_err().to_string();
    assert!(without.contains("`sum`") && without.contains("its rows are graphs"), "{without}");
    let aggregates =
        readout(|b, sum| b.add("again", GcnConv::builder(4, 2).build()?, &[sum])).unwrap();
    let refused = aggregates.compile_within(graph, x, &few).unwrap_err().to_string();
    assert!(refused.contains("`again`") && refused.contains("its rows are graphs"), "{refused}");
    let batch = Batch::around(&data, &[1, 2], 2).unwrap();
    let hops = network(NETWORKS[0].1);
    let hops = hops.compile_within(batch.graph(), batch.features(), batch.spaces());
    assert!(hops.unwrap_err().to_string().contains("hops of a sample"));
}

#[test]
fn the_operators_that_aggregate_in_a_hop_are_kept_with_it() {
    let data = data(false);
    let hop = gnn_prune::graph::Hop::into_nodes(data.graph(), &[4, 5]).unwrap();
    let first = hop.operator(AdjacencyNorm::Symmetric).unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &hop.clone().operator(AdjacencyNorm::Symmetric).unwrap()
    ));
}
