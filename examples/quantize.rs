//! Turns a trained network into integers of 8 and of 4 bits, and compares bytes, time and accuracy.
//!
//! ```sh
//! cargo run --release --example quantize
//! ```

use gnn_prune::report::Account;
use gnn_prune::task::{Part, accuracy, evaluate};
use gnn_prune::{Bits, Dataset, Gcn, Quantizer, Result, Trainer};

fn main() -> Result<()> {
    let data = Dataset::digits()?;
    let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(64).build(0)?;
    let model = Trainer::builder().build()?.fit(model, &data)?;
    let test = data.split(model.seed()).test;
    let float = Account::of(&model, &data, 1)?;
    let percent = evaluate(&model, &data, Part::Test)?;
    println!(
        "float:  {percent:.2} %, {} bytes of weights, {:.3} ms",
        float.bytes.weights, float.latency_ms.threads_1.median
    );

    let quantizers = [
        ("8 bits", Quantizer::builder(Bits::Eight)),
        ("4 bits", Quantizer::builder(Bits::Four)),
        ("4 bits, trained for it", Quantizer::builder(Bits::Four).qat(50)),
    ];
    for (name, quantizer) in quantizers {
        let integers = quantizer.build()?.quantize(&model, &data)?;
        let mut program = integers.compile(data.graph(), data.features())?;
        let percent = accuracy(program.run(data.features())?, data.classes().unwrap(), &test);
        let account = Account::of(&integers, &data, 1)?;
        println!(
            "{name}: {percent:.2} %, {} bytes of weights, {:.3} ms",
            account.bytes.weights, account.latency_ms.threads_1.median
        );
    }
    Ok(())
}
