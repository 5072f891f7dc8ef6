//! A line in the registry buys the whole contract. No test here names a layer.

use gnn_prune::nn::{Axis, Entry, Mask, Model, Registry};
use gnn_prune::rng::generator;
use gnn_prune::testing::{
    check_determinism, check_gradients, check_linear_maps, check_mask_equals_shrink, check_nan,
    check_oracle, check_permutation, check_program, check_save_load, models_around, random_dense,
    random_graph, random_layer, random_model, random_plan, random_sparse, rows_on,
};
use gnn_prune::{Error, Graph, PruneError, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Draws of settings, graph and features for each layer.
const DRAWS: u64 = 12;
const CHANNELS: usize = 4;
const CLASSES: usize = 3;

fn entries() -> Vec<Entry<f64>> {
    Registry::<f64>::standard().entries().to_vec()
}

/// The models of one draw, and the graph that they run on.
fn draw(seed: u64, entry: &Entry<f64>) -> (Graph<f64>, Vec<Model<f64>>) {
    let graph = random_graph(seed, 9);
    let models = models_around(seed, entry, graph.num_nodes(), CHANNELS, CLASSES);
    (graph, models)
}

/// Runs `law` on small models around every registered layer, with dense and with sparse features,
/// and says how often it was.
fn for_every_layer(
    law: impl Fn(u64, &Entry<f64>, &Model<f64>, &Graph<f64>, &Value<f64>) -> Result<(), String>,
) {
    for entry in &entries() {
        for seed in 0..DRAWS {
            let (graph, models) = draw(seed, entry);
            assert!(
                !models.is_empty(),
                "{} accepts neither the model's input nor linear layers' outputs",
                entry.kind()
            );
            for model in models {
                let shape = (graph.num_nodes(), CHANNELS);
                for x in [random_dense(seed, shape), random_sparse(seed, shape)] {
                    law(seed, entry, &model, &graph, &x).unwrap_or_else(|error| {
                        panic!("{}, seed {seed}: {error}\n{model}", entry.kind())
                    });
                }
            }
        }
    }
}

#[test]
fn every_layer_has_the_gradients_that_differences_give() {
    for_every_layer(|seed, _, model, graph, x| check_gradients(model, graph, x.view(), seed));
}

#[test]
fn every_layer_is_its_formula() {
    for_every_layer(|seed, entry, model, graph, x| {
        let widths = [CHANNELS];
        let Some(layer) =
            random_layer(seed, entry, graph.num_nodes(), &widths, model.out_channels())
        else {
            return Ok(());
        };
        check_oracle(entry, &*layer, graph, &[x.view().to_dense()])
    });
}

/// Kinds that no network of PyTorch is read or written with.
#[cfg(feature = "readers")]
const NOT_THERE: [&str; 6] =
    ["embedding", "relation_table", "compgcn_conv", "decoder", "pair_product", "readout"];

#[cfg(feature = "readers")]
#[test]
fn every_layer_is_written_for_pytorch_and_read_back_or_says_why_not() {
    use gnn_prune::io::pyg::{Assumptions, Checkpoint, export};
    use gnn_prune::nn::{Cx, Twin};

    let registry = Registry::<f32>::standard();
    for entry in registry.entries() {
        let kind = entry.kind();
        let Ok(twin) = entry.pytorch() else {
            assert!(NOT_THERE.contains(&kind), "{kind} is nothing in PyTorch");
            continue;
        };
        assert!(!NOT_THERE.contains(&kind), "{kind}");
        let mut written = 0;
        for seed in 0..DRAWS {
            let graph = random_graph::<f64>(seed, 9).cast::<f32>();
            for model in models_around::<f32>(seed, entry, graph.num_nodes(), CHANNELS, CLASSES) {
                let exported = match export(&model, "out.safetensors") {
                    Ok(exported) => exported,
                    Err(Error::Network(reason)) => {
                        assert!(reason.contains("which is not exported"), "{kind}: {reason}");
                        continue;
                    }
                    Err(error) => panic!("{kind}: {error}"),
                };
                written += 1;
                for node in model.nodes().iter().filter(|node| node.layer().kind() == kind) {
                    let of_a_module = exported.python.contains(&format!("self.{} = ", node.name()));
                    assert_eq!(
                        of_a_module,
                        twin != Twin::EXPRESSION.settings(twin.settings),
                        "{kind}: {}",
                        exported.python
                    );
                }
                let back = Checkpoint::from_tensors(&exported.tensors, &Assumptions::default());
                let back = back
                    .unwrap_or_else(|error| {
                        panic!("{kind}: {error}\n{}", exported.tensors.metadata["network"])
                    })
                    .model;
                let x = random_dense(seed, (graph.num_nodes(), CHANNELS));
                let infer = |model: &Model| model.infer(&Cx::eval(&graph), x.view()).unwrap();
                assert_eq!(infer(&back), infer(&model), "{kind}, seed {seed}");
            }
        }
        assert!(written > 0, "no {kind} is written");
    }
}

#[test]
fn every_layer_shows_the_linear_maps_that_it_computes_with() {
    for entry in &entries() {
        let mut looked_at = 0;
        let mut has_matrices = false;
        for seed in 0..DRAWS {
            // More channels than nodes, so that there are changes that the inputs do not see.
            let graph = random_graph(seed, 3);
            for model in models_around(seed, entry, graph.num_nodes(), 6, CLASSES) {
                let x = random_dense(seed, (graph.num_nodes(), 6));
                let found = check_linear_maps(&model, &graph, x.view(), seed);
                for (id, count) in found.unwrap_or_else(|error| {
                    panic!("{}, seed {seed}: {error}\n{model}", entry.kind())
                }) {
                    let layer = model.nodes()[id.index() - 1].layer();
                    if layer.kind() == entry.kind() {
                        looked_at += count;
                        layer.visit(&mut |param| {
                            has_matrices |= param
                                .axes()
                                .iter()
                                .all(|axis| !matches!(axis, Axis::Fixed | Axis::Nodes))
                        });
                    }
                }
            }
        }
        assert!(looked_at > 0 || !has_matrices, "{} shows no map", entry.kind());
    }
}

#[test]
fn every_layer_is_pruned_by_mask_as_by_shrink() {
    for_every_layer(|seed, _, model, graph, x| match random_plan(seed, model) {
        Ok(plan) => check_mask_equals_shrink(model, &plan, graph, x.view()),
        Err(Error::Prune(PruneError::NothingToPrune { .. } | PruneError::EmptiesLayer { .. })) => {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    });
}

#[test]
fn every_layer_can_be_pruned_somewhere() {
    for entry in &entries() {
        let models = (0..DRAWS).flat_map(|seed| draw(seed, entry).1);
        assert!(
            models.filter(|model| random_plan(model.seed(), model).is_ok()).count() > 0,
            "{}",
            entry.kind()
        );
    }
}

#[test]
fn every_layer_is_blind_to_the_names_of_nodes() {
    for_every_layer(|_, _, model, graph, x| check_permutation(model, graph, x.view()));
}

#[test]
fn every_layer_loads_as_it_was_saved_masked_and_whole() {
    let registry = Registry::<f64>::standard();
    for entry in &entries() {
        // Each save waits for the disk.
        for (seed, model) in
            (0..3).flat_map(|seed| draw(seed, entry).1.into_iter().map(move |model| (seed, model)))
        {
            let masked = random_plan(seed, &model).and_then(|plan| plan.mask(&model));
            for model in std::iter::once(model).chain(masked.ok()) {
                check_save_load(&model, &registry).unwrap_or_else(|error| {
                    panic!("{}, seed {seed}: {error}\n{model}", entry.kind())
                });
            }
        }
    }
}

#[test]
fn every_layer_computes_the_same_once_it_was_saved_and_loaded() {
    let file =
        std::env::temp_dir().join(format!("gnn-prune-registry-{}.safetensors", std::process::id()));
    for entry in &entries() {
        for seed in 0..6 {
            let (graph, models) = draw(seed, entry);
            for model in models.into_iter().take(1) {
                let x = random_dense(seed, (graph.num_nodes(), CHANNELS));
                model.save(&file).unwrap();
                let back = Model::<f64>::load_with(&file, &Registry::standard()).unwrap();
                let rows = rows_on(&graph);
                let cx = gnn_prune::nn::Cx::eval(&graph).within(&rows);
                for cx in [cx.with_mode(gnn_prune::nn::Mode::Train { seed, step: 3 }), cx] {
                    let [before, after] =
                        [&model, &back].map(|model| model.infer(&cx, x.view()).unwrap());
                    assert_eq!(before, after, "{}, seed {seed}\n{model}", entry.kind());
                }
            }
        }
    }
    let _ = std::fs::remove_file(file);
}

#[test]
fn casting_a_model_keeps_masks_and_what_trains() {
    for seed in 0..20 {
        let mut model = random_model::<f64>(seed, &Registry::standard(), 7, 3);
        let mut number = 0;
        model.visit_mut(&mut |param| {
            param.restrict(&Mask::from_shape_fn(param.value().dim(), |(i, j)| {
                (i + 2 * j + number) % 3 != 0
            }));
            param.set_trainable(number % 2 == 0);
            number += 1;
        });
        let of = |model: &Model<f64>| {
            let mut all = Vec::new();
            model.visit(&mut |name, param| {
                all.push((name.to_string(), param.mask().cloned(), param.is_trainable()))
            });
            all
        };
        let (single, mut all) = (model.cast::<f32>().unwrap(), Vec::new());
        single.visit(&mut |name, param| {
            all.push((name.to_string(), param.mask().cloned(), param.is_trainable()))
        });
        assert_eq!(all, of(&model), "seed {seed}");
    }
}

#[test]
fn wide_networks_with_masked_weights_load_as_they_were_saved() {
    for seed in 0..20 {
        // Widths around the eight bits of a byte.
        let mut model = random_model::<f64>(
            seed,
            &Registry::standard(),
            7 + seed as usize % 11,
            8 + seed as usize % 3,
        );
        model.visit_mut(&mut |param| {
            let mask = Mask::from_shape_fn(param.value().dim(), |(i, j)| (7 * i + 3 * j) % 5 != 0);
            param.restrict(&mask);
        });
        check_save_load(&model, &Registry::standard())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{model}"));
    }
}

#[test]
fn every_layer_has_the_same_bits_on_any_number_of_threads() {
    for_every_layer(|_, _, model, graph, x| check_determinism(model, graph, x.view()));
}

#[test]
fn no_layer_makes_numbers_of_what_is_none() {
    for_every_layer(|_, _, model, graph, x| check_nan(model, graph, x.view()));
}

#[test]
fn every_layer_compiles_to_what_it_computes_or_says_that_it_cannot() {
    let compiled = RefCell::new(BTreeSet::new());
    for_every_layer(|_, entry, model, graph, x| {
        match model.compile_within(graph, x.view(), &rows_on(graph)) {
            Err(Error::Unsupported(unsupported)) if !unsupported.reason.is_empty() => Ok(()),
            _ => {
                compiled.borrow_mut().insert(entry.kind());
                check_program(model, graph, x.view())
            }
        }
    });
    // One that always says that it cannot would have passed.
    let never: Vec<_> = entries()
        .iter()
        .map(Entry::kind)
        .filter(|kind| !compiled.borrow().contains(kind))
        .collect();
    assert!(never.is_empty(), "never compiled: {never:?}");
}

#[test]
fn compiled_random_networks_compute_what_the_network_does() {
    let mut compiled = 0;
    for seed in 0..300 {
        let model = random_model::<f64>(seed, &Registry::standard(), CHANNELS, CLASSES);
        let graph = random_graph(seed, 12);
        let shape = (graph.num_nodes(), CHANNELS);
        for x in [random_dense(seed, shape), random_sparse(seed, shape)] {
            if let Err(Error::Unsupported(_)) = model.compile(&graph, x.view()) {
                continue;
            }
            check_program(&model, &graph, x.view())
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{model}"));
            compiled += 1;
        }
    }
    assert!(compiled > 300, "only {compiled} of 600 could be compiled");
}

/// What fits one graph only stands in no random network.
fn runs_on_any_graph(entry: &Entry<f64>) -> bool {
    (0..DRAWS).any(|seed| {
        [&[3][..], &[4, 4]]
            .iter()
            .any(|widths| entry.sample(None, widths, 4, &mut generator(seed, &[])).is_some())
    })
}

#[test]
fn random_networks_use_every_registered_layer() {
    let models: Vec<_> = (0..200)
        .map(|seed| random_model::<f64>(seed, &Registry::standard(), CHANNELS, CLASSES))
        .collect();
    for entry in entries().iter().filter(|entry| runs_on_any_graph(entry)) {
        let uses = models
            .iter()
            .filter(|model| model.nodes().iter().any(|node| node.layer().kind() == entry.kind()))
            .count();
        assert!(uses >= 5, "{} stands in {uses} of {} networks", entry.kind(), models.len());
    }
}
