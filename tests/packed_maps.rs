//! Maps that are kept in 8 bits until backward: forward is the same to the bit, gradients are right
//! on average, and where layers compute in the memory of their input nothing changes.

use approx::assert_relative_eq;
use gnn_prune::models::Jumping;
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Cx, Grads, Memory, Mode};
use gnn_prune::task::{Task, cross_entropy};
use gnn_prune::{Dataset, Gat, Gcn, Gin, Model, Result, Sage, Scalar, Trainer};

fn data() -> Dataset {
    Dataset::sbm(300, 3).features(12).seed(2).build().unwrap()
}

/// Networks whose maps go through every way of keeping: in place, with a second reader, joined.
fn models(data: &Dataset) -> Vec<Model> {
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let gcn = || Gcn::builder(inputs, outputs).hidden(16).layers(3).dropout(0.4);
    vec![
        gcn().build(0).unwrap(),
        gcn().residual(true).build(0).unwrap(),
        gcn().jumping(Jumping::Max).build(0).unwrap(),
        Sage::builder(inputs, outputs).hidden(16).layers(3).dropout(0.4).build(0).unwrap(),
        Gin::builder(inputs, outputs).hidden(8).layers(2).build(0).unwrap(),
        Gat::builder(inputs, outputs).hidden(4).heads(2).dropout(0.2).build(0).unwrap(),
    ]
}

/// Output and gradients of one step.
fn step<F: Scalar>(
    model: &Model<F>,
    data: &dyn Task<F>,
    memory: Memory,
    step: u64,
) -> (Array2<F>, Grads<F>) {
    let whole = data.whole().unwrap();
    let cx = whole.on(&Cx::without_graph()).with_memory(memory);
    // The same dropout for every draw of the rounding would need another seed: none is dropped.
    let cx = cx.with_mode(Mode::Train { seed: 1, step });
    let trace = model.trace(&cx, whole.features()).unwrap();
    let output = trace.output().to_owned();
    let train = data.data().split(0).train;
    let (_, gradient) = cross_entropy(trace.output(), data.data().classes().unwrap(), &train);
    (output, model.backward(&cx, trace, vec![(model.output(), gradient)]).unwrap())
}

fn gradients<F: Scalar>(model: &Model<F>, grads: &Grads<F>) -> Vec<Array2<F>> {
    let mut all = Vec::new();
    model.visit(&mut |_, param| {
        let zeros = || Array2::zeros(param.value().dim());
        all.push(grads.get(param.id()).cloned().unwrap_or_else(zeros));
    });
    all
}

#[test]
fn forward_is_the_same_to_the_bit_and_gradients_are_close() {
    let data = data();
    for model in models(&data) {
        let (whole, exact) = step(&model, &data, Memory::Whole, 3);
        let (packed, close) = step(&model, &data, Memory::EightBits, 3);
        assert_eq!(whole, packed);
        let (exact, close) = (gradients(&model, &exact), gradients(&model, &close));
        assert_ne!(exact, close, "nothing was packed");
        for (exact, close) in exact.iter().zip(&close) {
            let size = exact.iter().map(|g| g * g).sum::<f32>().sqrt();
            let off = (exact - close).iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(off <= 0.02 * size, "{off} of {size}");
        }
    }
}

#[test]
fn gradients_are_right_on_average() -> Result<()> {
    let data = data();
    let model = Gcn::builder(data.num_features(), data.num_classes());
    let model = model.hidden(16).layers(3).dropout(0.0).build(0)?.cast::<f64>()?;
    let task = data.cast::<f64>();
    let (_, exact) = step(&model, &task, Memory::Whole, 0);
    let exact = gradients(&model, &exact);
    let draws = 60u32;
    let mut mean: Vec<Array2<f64>> = exact.iter().map(|g| Array2::zeros(g.dim())).collect();
    let mut one_off = 0.0;
    for draw in 0..draws {
        let (_, grads) = step(&model, &task, Memory::EightBits, draw.into());
        let grads = gradients(&model, &grads);
        one_off += norm(&grads[2], &exact[2]) / f64::from(draws);
        mean.iter_mut().zip(&grads).for_each(|(m, g)| m.scaled_add(1.0 / f64::from(draws), g));
    }
    // A mean of so many draws is nearer than one by about the root of their number.
    let mean_off = norm(&mean[2], &exact[2]);
    assert!(one_off > 0.0 && mean_off < 0.35 * one_off, "{mean_off} and {one_off}");
    Ok(())
}

fn norm(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).iter().map(|d| d * d).sum::<f64>().sqrt()
}

#[test]
fn a_training_in_8_bits_has_the_same_bits_in_any_pool_and_learns_as_well() -> Result<()> {
    let data = data();
    let train = |memory, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| -> Result<Vec<u8>> {
            let model =
                Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
            let trainer = Trainer::builder().epochs(30).memory(memory).build()?;
            trainer.fit(model, &data)?.to_bytes()
        })
    };
    let packed = train(Memory::EightBits, 1)?;
    assert!(packed == train(Memory::EightBits, 3)? && packed != train(Memory::Whole, 1)?);
    let accuracy = |bytes: &[u8]| {
        let model = Model::from_bytes(bytes).unwrap();
        gnn_prune::task::evaluate(&model, &data, gnn_prune::task::Part::Test).unwrap()
    };
    assert_relative_eq!(
        accuracy(&packed),
        accuracy(&train(Memory::Whole, 1)?),
        epsilon = 5.0 // Points.
    );
    Ok(())
}
