//! Words: everything that a recipe or a flag can name, registered as layers are.
//!
//! A [`Word`] says how it is spelt, what settings it has and how it is made of them. Recipes, the
//! flags of the command line, their help and completion, and the table of stages in README.md read
//! the registry and have no list of their own.

mod calibrations;
mod criteria;
mod key;
mod kind;
mod losses;
mod optimizers;
mod standard;
mod word;

pub use key::Key;
pub use kind::Kind;
#[cfg(feature = "recipe")]
pub(super) use word::Make;
pub use word::{Entry, Made, Settings, Word, Words};
#[cfg(feature = "recipe")]
pub(super) use word::{Given, nearest};
