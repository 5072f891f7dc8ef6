//! How the sources of the repository lie: which rooms may import which, and that lists of lines
//! name lines that are there. A published crate has neither these tests nor all that they read.

mod circles;
mod layering;
