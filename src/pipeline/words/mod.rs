//! Words: everything that a recipe or a flag can name, registered as layers are.
//!
//! A [`Word`] says how it is spelt, what settings it has and how it is made of them. Recipes, the
//! flags of the command line, their help and completion, and the table of stages in README.md read
//! the registry and have no list of their own.

mod calibrations;
mod criteria;
mod key;
mod losses;
mod settings;

pub use key::Key;
#[cfg(feature = "recipe")]
pub(super) use key::nearest;
#[cfg(feature = "recipe")]
pub(super) use settings::Given;
pub use settings::Settings;

use super::step::Step;
use super::steps::{Distill, FineTune};
use crate::distill::{Adversarial, DistillLoss, InputGradients, SoftLabels};
use crate::error::{Error, Result};
use crate::prune::{ChannelPruner, Criterion, LayerPruner, Random, Subset, Taylor, WeightPruner};
use crate::quant::{Calibration, Quantizer};
use std::fmt::Write;

/// What a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A stage that changes a model or its graph.
    Step,
    /// A stage that ends in integers.
    Quantizer,
    /// What scores units.
    Criterion,
    /// What a student imitates.
    Loss,
    /// How the range of an activation is found.
    Calibration,
}

/// A word of recipes and of the command line.
///
/// A step that shrinks all weights, in a recipe:
///
/// ```
/// use gnn_prune::pipeline::{Control, Env, Key, Settings, Subject, Word, Words};
/// use gnn_prune::{Compression, Controls, Dataset, Gcn, Recipe, Result, Step};
///
/// struct Shrink(f32);
///
/// impl Step for Shrink {
///     fn name(&self) -> String {
///         format!("shrink {}", self.0)
///     }
///
///     fn run(&self, mut subject: Subject, _: &Env) -> Result<Subject> {
///         subject.model_mut().visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| w * self.0));
///         Ok(subject)
///     }
///
///     fn control(&self) -> Control {
///         Control::ChoosesNothing
///     }
/// }
///
/// impl Word for Shrink {
///     type Made = Box<dyn Step>;
///     const WORD: &'static str = "shrink";
///     const HELP: &'static str = "Multiply every weight by this share";
///     const AMOUNT: Option<Key> = Some(Key::share("shrink", ""));
///
///     fn parse(settings: &Settings) -> Result<Box<dyn Step>> {
///         Ok(Box::new(Shrink(settings.amount()?)))
///     }
/// }
///
/// let recipe = Recipe::parse_with("[[stage]]\nshrink = 0.5", &Words::standard().with::<Shrink>())?;
/// let data = Dataset::sbm(200, 2).build()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let out = recipe.run(Compression::of(model, &data).controls(Controls::None))?;
/// assert_eq!(out.report.rows[1].name, "shrink 0.5");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Word: Sized + 'static {
    /// What it is made into, which is also its kind: a boxed [`Step`], [`Criterion`] or
    /// [`DistillLoss`], a [`Quantizer`], or a calibration.
    type Made: Made;

    /// How it is spelt.
    const WORD: &'static str;

    /// What it does, in a line of help.
    const HELP: &'static str;

    /// What stands behind it: of a stage after `=` or a space, of another word after `:`. Default:
    /// nothing, and such a stage is written `word = true`.
    const AMOUNT: Option<Key> = None;

    /// Its other settings, which stand beside it in a recipe, and anywhere on a command line.
    /// Default: none.
    const KEYS: &'static [Key] = &[];

    /// Makes it.
    ///
    /// # Errors
    /// Settings that do not go together, and what the thing itself refuses.
    fn parse(settings: &Settings) -> Result<Self::Made>;
}

/// What words are made into; one per [`Kind`].
pub trait Made: Sized + sealed::Sealed {
    /// Its kind.
    const KIND: Kind;
}

mod sealed {
    use super::{Make, Settings};
    use crate::error::Result;

    pub trait Sealed: Sized {
        fn wrapped(make: fn(&Settings) -> Result<Self>) -> Make;
        fn unwrapped(make: Make) -> Option<fn(&Settings) -> Result<Self>>;
    }
}

macro_rules! made {
    ($($kind:ident: $made:ty),+ $(,)?) => {
        /// How a word of each kind is made.
        #[doc(hidden)]
        #[derive(Debug, Clone, Copy)]
        pub enum Make {
            $(
                #[allow(missing_docs)]
                $kind(fn(&Settings) -> Result<$made>),
            )+
        }

        $(
            impl Made for $made {
                const KIND: Kind = Kind::$kind;
            }

            impl sealed::Sealed for $made {
                fn wrapped(make: fn(&Settings) -> Result<Self>) -> Make {
                    Make::$kind(make)
                }

                fn unwrapped(make: Make) -> Option<fn(&Settings) -> Result<Self>> {
                    match make {
                        Make::$kind(make) => Some(make),
                        _ => None,
                    }
                }
            }
        )+
    };
}

made! {
    Step: Box<dyn Step>,
    Quantizer: Quantizer,
    Criterion: Box<dyn Criterion<f32>>,
    Loss: Box<dyn DistillLoss<f32>>,
    // Without one, ranges follow what the next layer computes.
    Calibration: Option<Calibration>,
}

/// One registered word.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    kind: Kind,
    word: &'static str,
    help: &'static str,
    amount: Option<Key>,
    keys: &'static [Key],
    make: Make,
}

impl Entry {
    fn of<W: Word>() -> Self {
        Self {
            kind: W::Made::KIND,
            word: W::WORD,
            help: W::HELP,
            amount: W::AMOUNT,
            keys: W::KEYS,
            make: sealed::Sealed::wrapped(W::parse),
        }
    }

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How it is spelt.
    pub fn word(&self) -> &'static str {
        self.word
    }

    /// What it does, in a line.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// What stands behind it.
    pub fn amount(&self) -> Option<&Key> {
        self.amount.as_ref()
    }

    /// Its other settings.
    pub fn keys(&self) -> &'static [Key] {
        self.keys
    }

    /// `percentile:P`, as lists of words show it.
    fn spelling(&self) -> String {
        match &self.amount {
            Some(amount) => format!("{}:{}", self.word, amount.value()),
            None => self.word.into(),
        }
    }

    /// The same, and what it may be.
    fn spelling_in_full(&self) -> String {
        match &self.amount {
            Some(amount) => format!("{} with {}", self.spelling(), amount.help()),
            None => self.spelling(),
        }
    }

    /// What stands behind the word of a setting, as it is written down.
    fn read_argument(&self, words: &Words, setting: &str, text: Option<&str>) -> Result<String> {
        match (&self.amount, text) {
            (None, None) => Ok(self.word.into()),
            (Some(amount), Some(text)) => match amount.read(words, text) {
                Ok(read) => Ok(format!("{}:{read}", self.word)),
                Err(_) => {
                    let (found, legal) = (format!("{}:{text}", self.word), self.spelling_in_full());
                    Err(Error::setting(format!("`{setting}`"), format!("`{found}`"), legal))
                }
            },
            (_, text) => {
                let found = text.map_or(self.word.into(), |text| format!("{}:{text}", self.word));
                let legal = format!("spelt `{}`", self.spelling());
                Err(Error::setting(format!("`{setting}`"), format!("`{found}`"), legal))
            }
        }
    }

    /// Whether it begins a stage.
    pub fn is_stage(&self) -> bool {
        matches!(self.kind, Kind::Step | Kind::Quantizer)
    }

    pub(super) fn make(&self) -> Make {
        self.make
    }
}

/// All known words.
#[derive(Clone)]
pub struct Words {
    entries: Vec<Entry>,
}

/// Stages that are planned: known so that they are refused by name.
const LATER: [&str; 1] = ["edges"];

impl Words {
    /// The words of the crate, stages in the order in which help lists them.
    pub fn standard() -> Self {
        Self { entries: Vec::new() }
            .with::<ChannelPruner>()
            .with::<WeightPruner>()
            .with::<LayerPruner>()
            .with::<Distill>()
            .with::<FineTune>()
            .with::<Quantizer>()
            .with::<Subset>()
            .with::<criteria::L1>()
            .with::<criteria::L2>()
            .with::<Taylor>()
            .with::<Random>()
            .with::<SoftLabels>()
            .with::<InputGradients>()
            .with::<Adversarial<f32>>()
            .with::<calibrations::Outputs>()
            .with::<calibrations::Max>()
            .with::<calibrations::Percentile>()
    }

    /// The same and one more; it takes the place of a word of its kind that is spelt alike.
    #[must_use]
    pub fn with<W: Word>(mut self) -> Self {
        let entry = Entry::of::<W>();
        let alike = |known: &&mut Entry| (known.kind, known.word) == (entry.kind, entry.word);
        match self.entries.iter_mut().find(alike) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Those of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// Those that begin a stage.
    pub fn stages(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_stage())
    }

    /// Stages that are planned and not built; a recipe that names one is refused with its name.
    pub fn later(&self) -> &'static [&'static str] {
        &LATER
    }

    /// All settings but amounts, each once, by the first word that has it: those of stages, then
    /// those of the words that qualify them.
    pub fn qualifiers(&self) -> Vec<&'static Key> {
        let others = self.entries.iter().filter(|entry| !entry.is_stage());
        let mut found: Vec<&Key> = Vec::new();
        for key in self.stages().chain(others).flat_map(|entry| entry.keys) {
            if !found.iter().any(|known| known.name() == key.name()) {
                found.push(key);
            }
        }
        found
    }

    /// The stage that is spelt so.
    pub(super) fn stage(&self, word: &str) -> Option<&Entry> {
        self.stages().find(|entry| entry.word == word)
    }

    /// The word of a kind, and what stands behind its `:`.
    fn split<'t>(&self, kind: Kind, text: &'t str) -> Option<(&Entry, Option<&'t str>)> {
        let (word, amount) = match text.split_once(':') {
            Some((word, amount)) => (word, Some(amount)),
            None => (text, None),
        };
        self.of(kind).find(|entry| entry.word == word).map(|entry| (entry, amount))
    }

    /// The word that a setting names by this value.
    pub(super) fn named(&self, key: &Key, value: &str) -> Option<&Entry> {
        key.kind().and_then(|kind| self.split(kind, value)).map(|(entry, _)| entry)
    }

    /// The table of stages and their qualifiers in README.md.
    pub fn to_markdown(&self) -> String {
        let mut table: String =
            "| stage | does | qualifiers, anywhere on the line |\n|---|---|---|\n".into();
        for stage in self.stages() {
            let flag = match stage.amount() {
                Some(amount) => format!("`--{} {}`", stage.word, amount.value()),
                None => format!("`--{}`", stage.word),
            };
            let own = stage.keys.iter().map(|key| (key, String::new()));
            // Settings of the words that a setting may be, with the word that has them.
            let of_words = stage.keys.iter().filter_map(Key::kind).flat_map(|kind| {
                self.of(kind).flat_map(|entry| {
                    entry.keys.iter().map(|key| (key, format!(" (of `{}`)", entry.word)))
                })
            });
            let qualifiers: Vec<String> = own
                .chain(of_words)
                .map(|(key, of)| {
                    let choices = key.choices(self);
                    let value = match choices.is_empty() {
                        true => key.value().to_string(),
                        false => choices.join("\\|"),
                    };
                    format!("`--{} {value}`{of}", key.flag_name())
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {flag} | {} | {} |", stage.help, qualifiers.join(", "));
        }
        table
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| entry.word)).finish()
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::standard()
    }
}
