//! Whole recipes are the formulas of their papers, on dense matrices and with coefficients of their
//! own; norms keep PyTorch's running statistics; what is dropped in training is evaluation in the
//! mean.

use gnn_prune::ndarray::{Array2, Axis, Zip, s};
use gnn_prune::nn::{
    Activation, ActivationFn, Aggregation, BatchNorm, Cx, Dropout, GatConv, Gatv2Conv, Linear,
    Mask, Mode, ModelBuilder, NodeId, Registry,
};
use gnn_prune::testing::{random_dense, random_graph, random_layer, rows_on};
use gnn_prune::{
    AppnpNet, Dataset, DeepGcn, Gat, Gcn, Gcn2, Gin, Graph, Mlp, Model, Sage, Sgc, Trainer, Value,
};
use std::collections::{BTreeMap, BTreeSet};

/// Sums of a few dozen terms in another order.
const TOLERANCE: f64 = 1e-10;

const NODES: usize = 7;
const FEATURES: usize = 5;
const CLASSES: usize = 3;
const HIDDEN: usize = 4;

/// Edges from the first to the second; node 6 has none, node 5 only one out of it.
const EDGES: [(usize, usize); 11] =
    [(0, 1), (1, 0), (2, 1), (3, 1), (1, 4), (4, 3), (3, 4), (2, 0), (0, 3), (5, 2), (4, 0)];

fn graph() -> Graph<f64> {
    Graph::builder(NODES).edges(EDGES).build().unwrap().cast()
}

/// `A_ij = 1` for an edge from `j` to `i`.
fn adjacency() -> Array2<f64> {
    let mut a = Array2::zeros((NODES, NODES));
    EDGES.iter().for_each(|&(source, target)| a[[target, source]] = 1.0);
    a
}

/// `D̃^{-1/2}(A+I)D̃^{-1/2}`.
fn normalised() -> Array2<f64> {
    let a = adjacency() + Array2::<f64>::eye(NODES);
    let degree = a.sum_axis(Axis(1));
    Array2::from_shape_fn(a.dim(), |(i, j)| a[[i, j]] / (degree[i] * degree[j]).sqrt())
}

fn relu(x: Array2<f64>) -> Array2<f64> {
    x.mapv(|v| v.max(0.0))
}

fn elu(x: Array2<f64>) -> Array2<f64> {
    x.mapv(|v| if v > 0.0 { v } else { v.exp_m1() })
}

/// The parameters of a network by name, none of them at a value that would hide a missing term.
struct Params(BTreeMap<String, Array2<f64>>);

impl Params {
    fn get(&self, name: &str) -> &Array2<f64> {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", self.0.keys()))
    }

    fn linear(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        x.dot(self.get(&format!("{name}.weight"))) + self.get(&format!("{name}.bias"))
    }

    fn gcn(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        normalised().dot(x).dot(self.get(&format!("{name}.weight")))
            + self.get(&format!("{name}.bias"))
    }

    fn layer_norm(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        let mean = x.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
        let deviation = (x.var_axis(Axis(1), 0.0) + 1e-5).mapv(f64::sqrt).insert_axis(Axis(1));
        (x - &mean) / &deviation * self.get(&format!("{name}.weight"))
            + self.get(&format!("{name}.bias"))
    }

    fn batch_norm(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        (x - of("running_mean")) / (of("running_var") + 1e-5).mapv(f64::sqrt) * of("weight")
            + of("bias")
    }

    fn sage(&self, name: &str, x: &Array2<f64>, aggregation: Aggregation) -> Array2<f64> {
        let a = adjacency();
        let gathered = match aggregation {
            Aggregation::Mean => {
                a.dot(x) / a.sum_axis(Axis(1)).mapv(|d| d.max(1.0)).insert_axis(Axis(1))
            }
            Aggregation::Sum => a.dot(x),
            _ => Array2::from_shape_fn(x.dim(), |(i, c)| {
                let into = (0..NODES).filter(|&j| a[[i, j]] > 0.0).map(|j| x[[j, c]]);
                into.reduce(f64::max).unwrap_or(0.0)
            }),
        };
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        x.dot(of("root")) + gathered.dot(of("weight")) + of("bias")
    }

    fn gin(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        let gathered = x * (1.0 + of("eps")[[0, 0]]) + adjacency().dot(x);
        relu(gathered.dot(of("weight1")) + of("bias1")).dot(of("weight2")) + of("bias2")
    }

    /// Of all heads, side by side; every node attends to itself too.
    fn heads(
        &self,
        z: &Array2<f64>,
        heads: usize,
        score: impl Fn(usize, usize, usize, usize) -> f64,
    ) -> Array2<f64> {
        let (a, dim) = (adjacency() + Array2::<f64>::eye(NODES), z.ncols() / heads);
        let mut y = Array2::zeros(z.dim());
        for h in 0..heads {
            for i in 0..NODES {
                let into: Vec<usize> = (0..NODES).filter(|&j| a[[i, j]] > 0.0).collect();
                let weights: Vec<f64> = into.iter().map(|&j| score(i, j, h, dim).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (&j, weight) in into.iter().zip(weights) {
                    for c in h * dim..(h + 1) * dim {
                        y[[i, c]] += weight / total * z[[j, c]];
                    }
                }
            }
        }
        y
    }

    fn gat(&self, name: &str, x: &Array2<f64>, heads: usize) -> Array2<f64> {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        let z = x.dot(of("weight"));
        let (source, target) = (&z * of("att_src"), &z * of("att_dst"));
        self.heads(&z, heads, |i, j, h, dim| {
            let part = s![h * dim..(h + 1) * dim];
            leaky(source.row(j).slice(part).sum() + target.row(i).slice(part).sum())
        })
    }

    fn gatv2(&self, name: &str, x: &Array2<f64>, heads: usize) -> Array2<f64> {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        let (p, q) =
            (x.dot(of("weight_src")) + of("bias_src"), x.dot(of("weight_dst")) + of("bias_dst"));
        self.heads(&p, heads, |i, j, h, dim| {
            (h * dim..(h + 1) * dim).map(|c| of("att")[[0, c]] * leaky(p[[j, c]] + q[[i, c]])).sum()
        })
    }
}

fn leaky(v: f64) -> f64 {
    if v > 0.0 { v } else { 0.2 * v }
}

/// The mean over heads that stand side by side.
fn averaged(y: &Array2<f64>, heads: usize) -> Array2<f64> {
    let dim = y.ncols() / heads;
    (0..heads)
        .map(|h| y.slice(s![.., h * dim..(h + 1) * dim]).to_owned())
        .reduce(|a, b| a + b)
        .unwrap()
        / heads as f64
}

/// Checks a recipe against its formula, and returns the kinds of layers that it is made of.
fn agrees(
    what: &str,
    model: &Model,
    formula: impl Fn(&Params, &Array2<f64>) -> Array2<f64>,
) -> BTreeSet<&'static str> {
    let mut model = model.cast::<f64>().unwrap();
    let mut names = Vec::new();
    model.visit(&mut |name, _| names.push(name.to_string()));
    let mut params = BTreeMap::new();
    let mut number = 0;
    model.visit_mut(&mut |param| {
        let name = &names[number];
        let drawn = random_dense::<f64>(number as u64, param.value().dim()).into_dense();
        // A variance is positive.
        let value =
            if name.ends_with("running_var") { drawn.mapv(|v| 1.0 + 0.5 * v) } else { drawn };
        param.value_mut().assign(&value);
        params.insert(name.clone(), value);
        number += 1;
    });
    let x = random_dense::<f64>(77, (NODES, FEATURES)).into_dense();
    let expected = formula(&Params(params), &x);
    let found = model.infer(&Cx::eval(&graph()), Value::from(x).view()).unwrap();
    assert_eq!(found.dim(), (NODES, CLASSES), "{what}");
    let off = Zip::from(&found)
        .and(&expected)
        .fold(0.0, |most: f64, a, b| most.max((a - b).abs() / (1.0 + b.abs())));
    assert!(off <= TOLERANCE, "{what} is off its formula by {off}:\n{found}\n{expected}");
    model.nodes().iter().map(|node| node.layer().kind()).collect()
}

/// Layers without a recipe: they need what not every graph has, or they are parts of others.
const WITHOUT_RECIPE: [(&str, &str); 12] = [
    ("readout", "the graphs of a batch; its recipes are held in tests/graph_classification.rs"),
    ("rgcn_conv", "edges of several types"),
    ("compgcn_conv", "rows of relations beside those of nodes; `links` has its formula"),
    ("relation_table", "one row per relation, for layers that share them"),
    ("gine_conv", "edge features"),
    ("gine_aggregation", "edge features"),
    ("gin_aggregation", "what checkpoints with an inner network of their own are read as"),
    ("lg_conv", "no parameters: it propagates the embeddings of a recommender"),
    ("embedding", "one row per node of one graph"),
    ("decoder", "it scores pairs; `links` has its formulas"),
    ("pair_product", "its rows are pairs"),
    ("normalize", "of a recommender whose scores are cosines; `links` has its formula"),
];

#[test]
fn every_recipe_is_its_formula_and_every_layer_has_a_recipe_or_a_reason() {
    let (i, o) = (FEATURES, CLASSES);
    let mut kinds = BTreeSet::new();
    let mut check = |what: &str,
                     model: gnn_prune::Result<Model>,
                     formula: &dyn Fn(&Params, &Array2<f64>) -> Array2<f64>| {
        kinds.extend(agrees(what, &model.unwrap(), formula));
    };
    check("Mlp", Mlp::builder(i, o).hidden(HIDDEN).layers(3).build(0), &|p, x| {
        p.linear("linear3", &relu(p.linear("linear2", &relu(p.linear("linear1", x)))))
    });
    check("Gcn", Gcn::builder(i, o).hidden(HIDDEN).build(0), &|p, x| {
        p.gcn("conv2", &relu(p.gcn("conv1", x)))
    });
    check(
        "Gcn, residual",
        Gcn::builder(i, o)
            .hidden(HIDDEN)
            .layers(4)
            .residual(true)
            .activation(ActivationFn::Elu)
            .build(0),
        &|p, x| {
            let x1 = elu(p.gcn("conv1", x));
            let x2 = &x1 + elu(p.gcn("conv2", &x1));
            let x3 = &x2 + elu(p.gcn("conv3", &x2));
            p.gcn("conv4", &x3)
        },
    );
    check(
        "Gcn, norms, all layers read",
        Gcn::builder(i, o)
            .hidden(HIDDEN)
            .layers(3)
            .norm(gnn_prune::models::Normalization::Layer)
            .jumping(gnn_prune::models::Jumping::Concat)
            .build(0),
        &|p, x| {
            let block = |k: usize, x: &Array2<f64>| {
                relu(p.layer_norm(&format!("norm{k}"), &p.gcn(&format!("conv{k}"), x)))
            };
            let x1 = block(1, x);
            let x2 = block(2, &x1);
            let x3 = block(3, &x2);
            let all = gnn_prune::ndarray::concatenate(Axis(1), &[x1.view(), x2.view(), x3.view()])
                .unwrap();
            p.linear("out", &all)
        },
    );
    for aggregation in [Aggregation::Mean, Aggregation::Sum, Aggregation::Max] {
        let sage = Sage::builder(i, o).hidden(HIDDEN).aggregation(aggregation);
        check("Sage", sage.clone().build(0), &|p, x| {
            p.sage("conv2", &relu(p.sage("conv1", x, aggregation)), aggregation)
        });
        check(
            "Sage, norms, largest of all layers",
            sage.layers(2)
                .norm(gnn_prune::models::Normalization::Batch)
                .jumping(gnn_prune::models::Jumping::Max)
                .build(0),
            &|p, x| {
                let x1 = relu(p.batch_norm("norm1", &p.sage("conv1", x, aggregation)));
                let x2 = relu(p.batch_norm("norm2", &p.sage("conv2", &x1, aggregation)));
                p.linear("out", &Array2::from_shape_fn(x1.dim(), |at| x1[at].max(x2[at])))
            },
        );
    }
    check("Gin", Gin::builder(i, o).hidden(HIDDEN).build(0), &|p, x| {
        p.gin("conv2", &relu(p.gin("conv1", x)))
    });
    check(
        "Gat",
        Gat::builder(i, o)
            .hidden(HIDDEN)
            .heads(2)
            .output_heads(3)
            .activation(ActivationFn::Elu)
            .build(0),
        &|p, x| {
            let x = elu(p.gat("conv1", x, 2) + p.get("conv1.bias"));
            averaged(&p.gat("conv2", &x, 3), 3) + p.get("conv2.bias")
        },
    );
    check(
        "Gat, second version",
        Gat::builder(i, o).hidden(HIDDEN).heads(2).v2(true).build(0),
        &|p, x| {
            let x = relu(p.gatv2("conv1", x, 2) + p.get("conv1.bias"));
            averaged(&p.gatv2("conv2", &x, 2), 2) + p.get("conv2.bias")
        },
    );
    check("Sgc", Sgc::builder(i, o).hops(3).build(0), &|p, x| {
        let a = normalised();
        p.linear("conv1", &a.dot(&a.dot(&a.dot(x))))
    });
    check(
        "AppnpNet",
        AppnpNet::builder(i, o).hidden(HIDDEN).hops(4).alpha(0.15).build(0),
        &|p, x| {
            let first = p.linear("linear2", &relu(p.linear("linear1", x)));
            (0..4).fold(first.clone(), |z, _| normalised().dot(&z) * 0.85 + &first * 0.15)
        },
    );
    check(
        "Gcn2",
        Gcn2::builder(i, o).hidden(HIDDEN).layers(3).alpha(0.2).theta(0.7).build(0),
        &|p, x| {
            let first = relu(p.linear("linear_in", x));
            let last = (1..=3).fold(first.clone(), |x, l| {
                let beta = (0.7 / f64::from(l) + 1.0).ln();
                let h = normalised().dot(&x) * 0.8 + &first * 0.2;
                relu(&h * (1.0 - beta) + h.dot(p.get(&format!("conv{l}.weight"))) * beta)
            });
            p.linear("linear_out", &last)
        },
    );
    for batch in [false, true] {
        let deep = DeepGcn::builder(i, o).hidden(HIDDEN).layers(3);
        let deep = if batch { deep.norm(gnn_prune::models::Normalization::Batch) } else { deep };
        check("DeepGcn", deep.build(0), &|p, x| {
            let norm = |name: &str, x: &Array2<f64>| {
                if batch { p.batch_norm(name, x) } else { p.layer_norm(name, x) }
            };
            let first = p.linear("linear_in", x);
            let last = (1..=3).fold(first, |x, k| {
                &x + p.gcn(&format!("conv{k}"), &relu(norm(&format!("norm{k}"), &x)))
            });
            p.linear("linear_out", &relu(norm("norm_out", &last)))
        });
    }
    let registry = Registry::<f64>::standard();
    for entry in registry.entries() {
        let reason = WITHOUT_RECIPE.iter().find(|(kind, _)| *kind == entry.kind());
        assert_ne!(
            kinds.contains(entry.kind()),
            reason.is_some(),
            "{} has a recipe or a reason, not both and not neither",
            entry.kind()
        );
    }
}

/// A batch norm of two channels behind a linear layer, in double precision, off its initial values.
fn normed() -> Model<f64> {
    let mut b = ModelBuilder::<f64>::new(3);
    let x = b.add("linear", Linear::builder(3, 2).build().unwrap(), &[NodeId::INPUT]).unwrap();
    let x = b.add("norm", BatchNorm::new(2).unwrap(), &[x]).unwrap();
    b.build(x, 5).unwrap()
}

fn by_name(model: &Model<f64>, wanted: &str) -> Array2<f64> {
    let mut found = None;
    model.visit(&mut |name, param| {
        if name == wanted {
            found = Some(param.value().clone());
        }
    });
    found.unwrap_or_else(|| panic!("no {wanted}"))
}

#[test]
fn running_statistics_are_pytorchs_after_every_step() {
    let mut model = normed();
    let weight = by_name(&model, "linear.weight");
    let (mut mean, mut variance) = (Array2::<f64>::zeros((1, 2)), Array2::<f64>::ones((1, 2)));
    for step in 0..6u32 {
        let n = 4 + step as usize;
        let graph = Graph::builder(n).build().unwrap().cast::<f64>();
        let x = random_dense::<f64>(u64::from(step), (n, 3)).into_dense() + f64::from(step);
        let y = x.dot(&weight) + by_name(&model, "linear.bias");
        // torch.nn.BatchNorm1d: a tenth of each batch, its variance over n − 1.
        mean = mean * 0.9 + y.mean_axis(Axis(0)).unwrap().insert_axis(Axis(0)) * 0.1;
        variance = variance * 0.9 + y.var_axis(Axis(0), 1.0).insert_axis(Axis(0)) * 0.1;
        let x = Value::from(x);
        let cx = Cx::eval(&graph).with_mode(Mode::Train { seed: 0, step: u64::from(step) });
        let trace = model.trace(&cx, x.view()).unwrap();
        // In training the batch's own statistics count, its variance over n.
        let normal = (&y - &y.mean_axis(Axis(0)).unwrap())
            / (y.var_axis(Axis(0), 0.0) + 1e-5).mapv(f64::sqrt);
        assert!(
            (trace.output().to_owned() - &normal).iter().all(|off| off.abs() < TOLERANCE),
            "step {step}"
        );
        model.absorb(&trace);
        for (name, expected) in [("norm.running_mean", &mean), ("norm.running_var", &variance)] {
            let off = by_name(&model, name) - expected;
            assert!(off.iter().all(|off| off.abs() < TOLERANCE), "step {step}, {name}: {off}");
        }
        // Evaluation is by the running ones.
        let y = model.infer(&Cx::eval(&graph), x.view()).unwrap();
        let expected =
            (x.view().to_dense().dot(&weight) - &mean) / (&variance + 1e-5).mapv(f64::sqrt);
        assert!((y - expected).iter().all(|off| off.abs() < TOLERANCE), "step {step}");
    }
}

#[test]
fn training_moves_running_statistics_and_holds_their_masks() {
    let data = Dataset::sbm(200, 3).features(6).seed(3).build().unwrap();
    let mut model = Gcn::builder(6, 3)
        .hidden(4)
        .norm(gnn_prune::models::Normalization::Batch)
        .dropout(0.0)
        .build(1)
        .unwrap();
    // Steps too small to change a weight: every epoch has the same batch.
    let still = |epochs| {
        Trainer::builder().learning_rate(1e-30).weight_decay(0.0).epochs(epochs).patience(epochs)
    };
    let statistics = |model: &Model| {
        let mut found = Vec::new();
        model.visit(&mut |name, param| {
            if name.contains("running") {
                found.push(param.value().mapv(f64::from));
            }
        });
        found
    };
    let one = statistics(&still(1).build().unwrap().fit(model.clone(), &data).unwrap());
    let trace = model
        .trace(&Cx::eval(data.graph()).with_mode(Mode::Train { seed: 1, step: 1 }), data.features())
        .unwrap();
    let mut by_hand = model.clone();
    by_hand.absorb(&trace);
    assert_eq!(one, statistics(&by_hand));
    assert!(
        one[0].iter().all(|&mean| mean != 0.0) && one[1].iter().all(|&variance| variance != 1.0),
        "{one:?}"
    );
    let mask = Mask::from_shape_fn((1, 4), |(_, c)| c != 2);
    model.visit_mut(&mut |param| {
        if param.name().starts_with("running") {
            param.restrict(&mask);
        }
    });
    for moved in
        statistics(&Trainer::builder().epochs(4).build().unwrap().fit(model, &data).unwrap())
    {
        assert!(
            moved[[0, 2]] == 0.0 && moved.iter().filter(|v| **v != 0.0).count() == 3,
            "{moved}"
        );
    }
}

/// Draws per mean.
const MANY: u64 = 4000;

/// Means are allowed to be this many standard errors off; there are some hundreds of them.
const ERRORS: f64 = 5.5;

#[test]
fn what_is_dropped_is_evaluation_in_the_mean() {
    let mut drawing = BTreeSet::new();
    for entry in Registry::<f64>::standard().entries() {
        for seed in 0..8 {
            let graph = random_graph::<f64>(seed, 6);
            let Some(layer) = random_layer(seed, entry, graph.num_nodes(), &[4], 4) else {
                continue;
            };
            let mut b = ModelBuilder::<f64>::new(4);
            let node = b.add_boxed("layer", layer, &[NodeId::INPUT]).unwrap();
            let model = b.build_as_is(node).unwrap();
            let x = random_dense::<f64>(seed, (graph.num_nodes(), 4));
            let rows = rows_on(&graph);
            let cx = Cx::eval(&graph).within(&rows);
            let train =
                |step| model.infer(&cx.with_mode(Mode::Train { seed, step }), x.view()).unwrap();
            let first = train(0);
            // What does not draw is not this law's.
            if (1..20).all(|step| train(step) == first) {
                continue;
            }
            drawing.insert(entry.kind());
            let expected = model.infer(&cx, x.view()).unwrap();
            let (mut sum, mut squares) =
                (Array2::<f64>::zeros(expected.dim()), Array2::<f64>::zeros(expected.dim()));
            for step in 0..MANY {
                let off = train(step) - &expected;
                squares += &off.mapv(|v| v * v);
                sum += &off;
            }
            let n = MANY as f64;
            for ((at, &sum), &squares) in sum.indexed_iter().zip(&squares) {
                let error = (squares / n).sqrt() / n.sqrt();
                assert!(
                    (sum / n).abs() <= ERRORS * error + 1e-9,
                    "{}, seed {seed}, {at:?}: off by {} ± {error}",
                    entry.kind(),
                    sum / n
                );
            }
        }
    }
    assert_eq!(drawing.into_iter().collect::<Vec<_>>(), ["dropout", "gat_conv", "gatv2_conv"]);
}

/// The share of draws in which an output is zero, of a layer on nodes without neighbours whose
/// weights are ones.
fn share_of_zeros(model: &Model<f64>, nodes: usize) -> f64 {
    let graph = Graph::builder(nodes).build().unwrap().cast::<f64>();
    let x = Value::from(Array2::<f64>::ones((nodes, 1)));
    let draw = |step| {
        model.infer(&Cx::eval(&graph).with_mode(Mode::Train { seed: 9, step }), x.view()).unwrap()
    };
    let zeros: usize = (0..50).map(|step| draw(step).iter().filter(|v| **v == 0.0).count()).sum();
    zeros as f64 / (50 * nodes) as f64
}

#[test]
fn as_much_is_dropped_as_was_asked_for_entries_and_attention_alike() {
    const NODES: usize = 400;
    for p in [0.1, 0.3, 0.8] {
        let one = |layer: Box<dyn gnn_prune::nn::DynLayer<f64>>| {
            let mut b = ModelBuilder::<f64>::new(1);
            let node = b.add_boxed("layer", layer, &[NodeId::INPUT]).unwrap();
            let mut model = b.build_as_is(node).unwrap();
            model.visit_mut(&mut |param| {
                let value = if param.name().starts_with("bias") { 0.0 } else { 1.0 };
                param.value_mut().fill(value);
            });
            model
        };
        let layers: [(&str, Box<dyn gnn_prune::nn::DynLayer<f64>>); 3] = [
            ("dropout", Box::new(Dropout::new(p).unwrap())),
            // A node without neighbours attends to itself alone.
            ("gat_conv", Box::new(GatConv::builder(1, 1).dropout(p).build::<f64>().unwrap())),
            ("gatv2_conv", Box::new(Gatv2Conv::builder(1, 1).dropout(p).build::<f64>().unwrap())),
        ];
        for (what, layer) in layers {
            let share = share_of_zeros(&one(layer), NODES);
            let error = (p * (1.0 - p) / (50.0 * NODES as f64)).sqrt();
            assert!((share - p).abs() < 5.0 * error, "{what}: {share} of {p} was dropped");
        }
    }
}

#[test]
fn draws_differ_between_steps_seeds_and_layers() {
    let mut b = ModelBuilder::<f64>::new(6);
    let first = b.add("first", Dropout::new(0.5).unwrap(), &[NodeId::INPUT]).unwrap();
    let second = b.add("second", Dropout::new(0.5).unwrap(), &[NodeId::INPUT]).unwrap();
    let both = b.add("both", gnn_prune::nn::Concat::new(), &[first, second]).unwrap();
    let out = b.add("act", Activation::new(ActivationFn::Relu), &[both]).unwrap();
    let model = b.build_as_is(out).unwrap();
    let graph = Graph::builder(20).build().unwrap().cast::<f64>();
    let x = Value::from(Array2::<f64>::ones((20, 6)));
    let draw = |seed, step| {
        model.infer(&Cx::eval(&graph).with_mode(Mode::Train { seed, step }), x.view()).unwrap()
    };
    let one = draw(1, 1);
    assert_ne!(one.slice(s![.., ..6]), one.slice(s![.., 6..]), "two layers drop the same");
    let all: Vec<Array2<f64>> = (0..4)
        .flat_map(|seed| (0..4).map(move |step| (seed, step)))
        .map(|(seed, step)| draw(seed, step))
        .collect();
    for (k, a) in all.iter().enumerate() {
        assert!(all[..k].iter().all(|b| a != b), "draw {k} was there before");
    }
}

#[test]
fn weights_are_drawn_by_glorots_rule_and_each_for_itself() {
    let models = [
        Mlp::builder(30, 30).hidden(30).layers(3).build(1).unwrap(),
        Gcn::builder(30, 30).hidden(30).layers(3).residual(true).build(1).unwrap(),
        Sage::builder(30, 30).hidden(30).build(1).unwrap(),
        Gin::builder(30, 30).hidden(30).build(1).unwrap(),
        Gcn2::builder(30, 30).hidden(30).layers(3).build(1).unwrap(),
        Sgc::builder(30, 30).build(1).unwrap(),
        Gat::builder(30, 30).hidden(15).heads(2).output_heads(1).build(1).unwrap(),
    ];
    for model in models {
        let mut drawn: Vec<(String, Array2<f32>)> = Vec::new();
        model.visit(&mut |name, param| {
            let (rows, cols) = param.value().dim();
            let largest = param.value().iter().fold(0.0f64, |most, w| most.max(f64::from(w.abs())));
            if rows > 1 {
                let bound = (6.0 / (rows + cols) as f64).sqrt();
                assert!(
                    largest <= bound * (1.0 + 1e-6) && largest > 0.95 * bound,
                    "{name}: {largest} of {bound}"
                );
                drawn.push((name.into(), param.value().clone()));
            } else if name.contains("bias") || name.contains("eps") {
                assert_eq!(largest, 0.0, "{name}");
            }
        });
        for (k, (name, value)) in drawn.iter().enumerate() {
            assert!(
                drawn[..k].iter().all(|(_, other)| other != value),
                "{name} is drawn as one before it"
            );
        }
        assert_ne!(drawn, {
            let mut other = Vec::new();
            model.fresh(2).visit(&mut |name, param| {
                if param.value().nrows() > 1 {
                    other.push((name.to_string(), param.value().clone()));
                }
            });
            other
        });
    }
}

#[test]
fn a_weighted_sum_of_products_compiles_to_itself() {
    use gnn_prune::nn::Add;
    for (coefficients, biased) in
        [([1.0, 1.0], false), ([0.5, -2.0], false), ([1.0, 3.0], false), ([0.5, -2.0], true)]
    {
        let mut b = ModelBuilder::<f64>::new(4);
        let terms = ["one", "two"].map(|name| {
            let linear = Linear::builder(4, 3);
            let linear = if biased { linear } else { linear.bias(false) };
            b.add(name, linear.build().unwrap(), &[NodeId::INPUT]).unwrap()
        });
        let out =
            b.add("sum", Add::with_coefficients(coefficients.to_vec()).unwrap(), &terms).unwrap();
        let mut model = b.build(out, 1).unwrap();
        model.visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| w + 0.25));
        for x in
            [random_dense::<f64>(1, (7, 4)), gnn_prune::testing::random_sparse::<f64>(1, (7, 4))]
        {
            gnn_prune::testing::check_program(&model, &graph(), x.view()).unwrap();
        }
    }
}

#[test]
fn products_are_counted_by_what_is_multiplied() {
    let x = gnn_prune::testing::random_sparse::<f32>(3, (9, 8));
    let (stored, graph) =
        (x.stored() as u64, Graph::builder(9).edges([(0, 1), (1, 2), (2, 3)]).build().unwrap());
    let (hidden, classes) = (5, 3);
    let macs = |model: Model, x: &Value<f32>| model.compile(&graph, x.view()).unwrap().cost().macs;
    assert!(stored > 10 && stored < 72);
    assert_eq!(
        macs(Mlp::builder(8, 3).hidden(5).build(0).unwrap(), &x),
        stored * hidden + 9 * hidden * classes
    );
    let dense = Value::from(x.view().to_dense());
    assert_eq!(
        macs(Mlp::builder(8, 3).hidden(5).build(0).unwrap(), &dense),
        9 * 8 * hidden + 9 * hidden * classes
    );
    // Three edges and nine added loops, on the outputs of both products.
    assert_eq!(
        macs(Gcn::builder(8, 3).hidden(5).build(0).unwrap(), &dense),
        9 * 8 * hidden + 9 * hidden * classes + 12 * (hidden + classes)
    );
}

#[test]
fn settings_outside_their_range_are_refused_by_every_recipe() {
    for (what, built) in [
        ("no hops", Sgc::builder(4, 2).hops(0).build(0)),
        ("too many hops", Sgc::builder(4, 2).hops(1001).build(0)),
        ("no hops", AppnpNet::builder(4, 2).hops(0).build(0)),
        ("alpha", AppnpNet::builder(4, 2).alpha(1.5).build(0)),
        ("alpha", Gcn2::builder(4, 2).alpha(-0.1).build(0)),
        ("theta", Gcn2::builder(4, 2).theta(2.0).build(0)),
        ("no layers", Gcn2::builder(4, 2).layers(0).build(0)),
        ("no layers", DeepGcn::builder(4, 2).layers(0).build(0)),
        ("no width", Gcn::builder(4, 2).hidden(0).build(0)),
        ("no classes", Gcn::builder(4, 0).build(0)),
        ("dropout", Mlp::builder(4, 2).dropout(1.0).build(0)),
        ("dropout", Gin::builder(4, 2).dropout(-0.1).build(0)),
        ("no heads", Gat::builder(4, 2).heads(0).build(0)),
    ] {
        assert!(
            matches!(built, Err(gnn_prune::Error::Setting { .. })),
            "{what}: {:?}",
            built.map(|model| model.to_string())
        );
    }
}

#[test]
fn dropout_comes_before_every_layer_with_weights() {
    let models = [
        Mlp::builder(6, 3).layers(3).build(0).unwrap(),
        Gcn::builder(6, 3)
            .layers(3)
            .residual(true)
            .jumping(gnn_prune::models::Jumping::Concat)
            .build(0)
            .unwrap(),
        Sage::builder(6, 3).layers(2).jumping(gnn_prune::models::Jumping::Max).build(0).unwrap(),
        Gin::builder(6, 3).norm(gnn_prune::models::Normalization::Batch).build(0).unwrap(),
        Gat::builder(6, 3).layers(3).build(0).unwrap(),
        Sgc::builder(6, 3).build(0).unwrap(),
        AppnpNet::builder(6, 3).build(0).unwrap(),
        Gcn2::builder(6, 3).layers(2).build(0).unwrap(),
        DeepGcn::builder(6, 3).layers(2).build(0).unwrap(),
    ];
    for model in models {
        let kind = |id: NodeId| {
            if id == NodeId::INPUT { "input" } else { model.nodes()[id.index() - 1].layer().kind() }
        };
        for node in model.nodes() {
            let mut weights = 0;
            node.layer().visit(&mut |param| {
                weights +=
                    usize::from(param.name().starts_with("weight") && param.value().nrows() > 1)
            });
            assert!(
                weights == 0 || kind(node.inputs()[0]) == "dropout",
                "`{}` reads a {}\n{model}",
                node.name(),
                kind(node.inputs()[0])
            );
        }
    }
}
