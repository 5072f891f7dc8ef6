//! Oracle, permutation, save and load, determinism, compiled programs.

use super::{SAME_NUMBERS, TESTING, agree, bits, parameters, renamed_rows, rows_on, sparse, words};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Axis as Along, Cx, DynLayer, Entry, Mode, Model, Registry, RowSpace};
use crate::rng::generator;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2, Axis, Zip, s};
use ndarray_rand::rand::seq::SliceRandom;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Numbers of threads that must all give the same bits; 3 and 7 divide nothing evenly.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// Checks a layer in evaluation mode against its formula on dense matrices, within 1e-10 relative,
/// with inputs in dense and in sparse form.
///
/// # Errors
/// The first entry that differs; a layer of another kind than `entry`; what the layer returns.
pub fn check_oracle(
    entry: &Entry<f64>,
    layer: &dyn DynLayer<f64>,
    graph: &Graph<f64>,
    xs: &[Array2<f64>],
) -> Result<(), String> {
    let rows = rows_on(graph);
    let expected = entry
        .oracle(layer, graph, &rows, xs)
        .ok_or_else(|| format!("the layer is a {}, not a {}", layer.kind(), entry.kind()))?;
    let dense: Vec<Value<f64>> = xs.iter().cloned().map(Value::from).collect();
    let stored: Vec<Value<f64>> =
        xs.iter().map(|x| Value::Sparse(sparse(&ValueRef::Dense(x.view())))).collect();
    for (form, values) in [("dense", dense), ("sparse", stored)] {
        let views: Vec<ValueRef<f64>> = values.iter().map(Value::view).collect();
        let (y, _) = layer.forward(&Cx::eval(graph).within(&rows), &views).map_err(words)?;
        agree(
            &format!("{} on {form} inputs against its formula", entry.kind()),
            y.into_dense().view(),
            expected.view(),
            SAME_NUMBERS,
        )?;
    }
    Ok(())
}

/// Checks that renaming the nodes of graph and features renames the rows of the output and changes
/// nothing else, within 1e-10 relative. Parameters with a row a node are renamed with them.
///
/// # Errors
/// The first entry that differs; what the model returns.
pub fn check_permutation(
    model: &Model<f64>,
    graph: &Graph<f64>,
    x: ValueRef<f64>,
) -> Result<(), String> {
    let mut order: Vec<u32> = (0..graph.num_nodes() as u32).collect();
    order.shuffle(&mut generator(model.seed(), &[TESTING, 2]));
    let positions: Vec<usize> = order.iter().map(|&node| node as usize).collect();
    let rows = rows_on(graph);
    let mut expected = model.infer(&Cx::eval(graph).within(&rows), x).map_err(words)?;
    if model.rows() == RowSpace::Nodes {
        expected = expected.select(Axis(0), &positions);
    }
    let moved = Value::Dense(x.to_dense().select(Axis(0), &positions));
    let moved =
        if let ValueRef::Sparse(_) = x { Value::Sparse(sparse(&moved.view())) } else { moved };
    let renamed = graph.permuted(&order).map_err(words)?;
    let mut model = model.clone();
    model.visit_mut(&mut |param| {
        if param.axes()[0] == Along::Nodes {
            *param.value_mut() = param.value().select(Axis(0), &positions);
        }
    });
    let rows = renamed_rows(&rows, &order);
    let y = model.infer(&Cx::eval(&renamed).within(&rows), moved.view()).map_err(words)?;
    agree("output after renaming the nodes", y.view(), expected.view(), SAME_NUMBERS)
}

/// Checks that a model saved and loaded by `registry` is the same to the bit, masks and seed
/// included, and saves to the same bytes.
///
/// # Errors
/// What differs; what saving and loading return.
pub fn check_save_load<F: Scalar>(model: &Model<F>, registry: &Registry<F>) -> Result<(), String> {
    let (first, second) = (TemporaryFile::new(), TemporaryFile::new());
    model.save(&first.0).map_err(words)?;
    let back = Model::load_with(&first.0, registry).map_err(words)?;
    back.save(&second.0).map_err(words)?;
    if parameters(&back) != parameters(model) {
        return Err("parameters change when they are saved and loaded".into());
    }
    if (back.to_string(), back.seed(), back.origin())
        != (model.to_string(), model.seed(), model.origin())
    {
        return Err(format!("the model was\n{model}and came back as\n{back}"));
    }
    let read = |file: &TemporaryFile| std::fs::read(&file.0).map_err(|error| error.to_string());
    if read(&first)? == read(&second)? {
        Ok(())
    } else {
        Err("the loaded model saves to other bytes".into())
    }
}

/// A file of its own in the system's temporary folder, removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-{}-{}.safetensors",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A file that was never written, or is gone, is what is wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Checks that output, gradients in training mode and the compiled program have the same bits on 1,
/// 2, 3 and 7 threads.
///
/// # Errors
/// What differs and on how many threads; what the model returns. A model that cannot be compiled is
/// checked without its program.
pub fn check_determinism<F: Scalar>(
    model: &Model<F>,
    graph: &Graph<F>,
    x: ValueRef<F>,
) -> Result<(), String> {
    let pools = pools()?;
    let expected = pools[0].install(|| all_bits(model, graph, x))?;
    for pool in &pools[1..] {
        let found = pool.install(|| all_bits(model, graph, x))?;
        if let Some(((name, _), _)) = found.iter().zip(&expected).find(|(a, b)| a != b) {
            return Err(format!(
                "{name} has other bits on {} threads than on {}",
                pool.current_num_threads(),
                THREADS[0]
            ));
        }
    }
    Ok(())
}

/// One pool for each number of threads, made at the first call: to start threads takes longer than
/// a check.
fn pools() -> Result<&'static [ThreadPool], String> {
    static POOLS: OnceLock<Result<Vec<ThreadPool>, String>> = OnceLock::new();
    let build = |threads: &usize| {
        ThreadPoolBuilder::new().num_threads(*threads).build().map_err(|error| error.to_string())
    };
    let pools = POOLS.get_or_init(|| THREADS.iter().map(build).collect());
    pools.as_deref().map_err(Clone::clone)
}

/// All that a model computes, with names.
fn all_bits<F: Scalar>(
    model: &Model<F>,
    graph: &Graph<F>,
    x: ValueRef<F>,
) -> Result<Vec<(String, Vec<u64>)>, String> {
    // A graph of its own, so that its operators are built on these threads.
    let graph = graph.cast::<F>();
    let rows = rows_on(&graph);
    let cx = Cx::eval(&graph).within(&rows);
    let mut all = vec![("the output".to_string(), bits(&model.infer(&cx, x).map_err(words)?))];
    let cx = cx.with_mode(Mode::Train { seed: 1, step: 1 });
    let trace = model.trace(&cx, x).map_err(words)?;
    all.push(("the output in training mode".into(), bits(trace.output())));
    let dy = trace.output().mapv(|y| y - F::of(0.5));
    let (grads, dx) =
        model.backward_to_input(&cx, trace, &[(model.output(), dy)]).map_err(words)?;
    model.visit(&mut |name, param| {
        all.push((
            format!("the gradient of {name}"),
            grads.get(param.id()).map(bits).unwrap_or_default(),
        ))
    });
    all.push(("the gradient of the input".into(), bits(&dx.into_dense())));
    match model.compile_within(&graph, x, &rows) {
        Ok(mut program) => {
            all.push(("the program's output".into(), bits(program.run(x).map_err(words)?)))
        }
        Err(Error::Unsupported(_)) => {}
        Err(error) => return Err(words(error)),
    }
    Ok(all)
}

/// Every output that depends on features is no number once those are none, or they are refused:
/// layer by layer, and compiled. All nodes but the first lose their features.
///
/// # Errors
/// Where numbers come out that do not look like it.
pub fn check_nan(model: &Model<f64>, graph: &Graph<f64>, x: ValueRef<f64>) -> Result<(), String> {
    let changed = |f: &dyn Fn(f64) -> f64| {
        let mut x = x.to_owned();
        match &mut x {
            Value::Dense(x) => x.slice_mut(s![1.., ..]).mapv_inplace(f),
            Value::Sparse(x) => {
                let rest = x.indptr().outer_inds_sz(0).end;
                x.data_mut()[rest..].iter_mut().for_each(|v| *v = f(*v));
            }
        }
        x
    };
    let rows = rows_on(graph);
    let cx = Cx::eval(graph).within(&rows);
    let (before, after) = (
        model.infer(&cx, x).map_err(words)?,
        model.infer(&cx, changed(&|v| 1.0 - 3.0 * v).view()).map_err(words)?,
    );
    let shows = |y: ArrayView2<f64>, how: &str| {
        let hidden = Zip::indexed(&before)
            .and(&after)
            .and(y)
            .fold(None, |found, at, a, b, y| found.or((a != b && !y.is_nan()).then_some(at)));
        hidden.map_or(Ok(()), |at| {
            Err(format!("{how}: output {at:?} depends on features that are no numbers, and is one"))
        })
    };
    let none = changed(&|_| f64::NAN);
    if let Ok(y) = model.infer(&cx, none.view()) {
        shows(y.view(), "layer by layer")?;
    }
    match model.compile_within(graph, none.view(), &rows) {
        Ok(mut program) => program.run(none.view()).map_or(Ok(()), |y| shows(y, "compiled")),
        Err(_) => Ok(()),
    }
}

/// Checks that the compiled program puts out what the model does, within 1e-10 relative, and the
/// same bits when it runs again.
///
/// # Errors
/// The first entry that differs; what compiling and running return.
pub fn check_program(
    model: &Model<f64>,
    graph: &Graph<f64>,
    x: ValueRef<f64>,
) -> Result<(), String> {
    let rows = rows_on(graph);
    let expected = model.infer(&Cx::eval(graph).within(&rows), x).map_err(words)?;
    let mut program = model.compile_within(graph, x, &rows).map_err(words)?;
    let first = program.run(x).map_err(words)?.to_owned();
    agree("compiled program against the model", first.view(), expected.view(), SAME_NUMBERS)?;
    let again = program.run(x).map_err(words)?;
    if bits(&first) == bits(again) {
        Ok(())
    } else {
        Err("the program has other bits when it runs again".into())
    }
}
