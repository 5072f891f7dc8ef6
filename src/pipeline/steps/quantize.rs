//! The end in integers, which is no step: it changes the type.

use super::CALIBRATE;
use crate::error::{Error, Result};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::quant::{Bits, Calibration, PartRankings, ProductCodes, Quantizer};

const QAT: Key = Key::count(
    "qat",
    0,
    "a whole number of epochs",
    "Epochs of training on the grid for `--bits`, `--codes`",
)
.value_name("EPOCHS")
.default("0");

impl Word for Quantizer {
    type Made = Quantizer;
    const WORD: &'static str = "bits";
    const HELP: &'static str = "Quantise to 8, 4 or 2 bits, tables to 1; always last";
    const AMOUNT: Option<Key> =
        Some(Key::text("bits", of_weights, "Bits of the weights").value_name("BITS"));
    const KEYS: &'static [Key] = &[
        CALIBRATE,
        Key::word("calibration", Kind::Calibration, "Ranges of activations")
            .default("outputs")
            .unwritten(),
        Key::text("act-bits", of_activations, "Bits of the activations beside `--bits`: 8 or 4")
            .value_name("BITS")
            .default("8")
            .unwritten(),
        QAT,
        Key::count(
            "parts",
            1,
            "a whole number from 1 on",
            "Parts of a row with a scale each, of `--bits 1`",
        )
        .default("1")
        .unwritten(),
        Key::count(
            "part-answers",
            0,
            "a whole number",
            "First answers of a part that signs are trained on",
        )
        .default("0")
        .unwritten(),
        Key::number(
            "part-weight",
            "a positive number",
            |weight| weight > 0.0 && weight.is_finite(),
            "Weight of `--part-answers` in the loss",
        )
        .value_name("W")
        .default("1")
        .unwritten(),
    ];

    fn parse(settings: &Settings) -> Result<Quantizer> {
        let count = settings.amount()?;
        let mut builder = Quantizer::builder(bits(count));
        if count == 1 {
            builder = builder.signs(settings.value("parts")?);
        } else if let Some(key) =
            ["parts", "part-answers", "part-weight"].into_iter().find(|key| settings.is_given(key))
        {
            return Err(Error::setting(format!("`{key}`"), "given", "beside `--bits 1` alone"));
        }
        match settings.value("part-answers")? {
            0 if settings.is_given("part-weight") => {
                let legal = "beside `part-answers` alone";
                return Err(Error::setting("`part-weight`", "given", legal));
            }
            0 => {}
            best => {
                let rankings = PartRankings::new(best, settings.value("part-weight")?)?;
                builder = builder.rankings(rankings);
            }
        }
        let builder = builder
            .qat(settings.value("qat")?)
            .calibrate(settings.value("calibrate")?)
            .activation_bits(bits(settings.value("act-bits")?));
        match settings.made::<Option<Calibration>>("calibration")? {
            Some(calibration) => builder.calibration(calibration).build(),
            None => builder.build(),
        }
    }
}

impl Word for ProductCodes {
    type Made = Quantizer;
    const WORD: &'static str = "codes";
    const HELP: &'static str =
        "Store a row of a table as so many codes, all else as 8 bits; always last";
    const AMOUNT: Option<Key> = Some(
        Key::count("codes", 1, "a whole number from 1 on", "Codes of a row: parts of its columns")
            .value_name("PARTS"),
    );
    const KEYS: &'static [Key] = &[
        Key::choice("words", &["256", "16"], "Words of a part: a code is a byte, or half")
            .default("256"),
        QAT,
    ];

    fn parse(settings: &Settings) -> Result<Quantizer> {
        let codes = ProductCodes::new(settings.amount()?).with_words(settings.value("words")?)?;
        Quantizer::builder(Bits::Eight).codes(codes).qat(settings.value("qat")?).build()
    }
}

/// The width of a number that was read already; beside tables of one bit all else has 8.
fn bits(count: u8) -> Bits {
    match count {
        2 => Bits::Two,
        4 => Bits::Four,
        _ => Bits::Eight,
    }
}

fn of_weights(text: &str) -> Result<String> {
    match text {
        "8" | "4" | "2" | "1" => Ok(text.into()),
        _ => Err(Error::setting("`bits`", format!("`{text}`"), "8, 4 or 2, or 1 of tables")),
    }
}

fn of_activations(text: &str) -> Result<String> {
    match text {
        "8" | "4" => Ok(text.into()),
        _ => Err(Error::setting("`act-bits`", format!("`{text}`"), "8 or 4")),
    }
}
