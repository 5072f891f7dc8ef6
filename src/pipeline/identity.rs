//! What a run is: all that its outcome depends on, in words.

use crate::error::Result;
use crate::kernels::Isa;
use crate::nn::Model;
use crate::report::DataInfo;
use crate::rng::Digest;
use crate::task::Task;
use serde::{Deserialize, Serialize};

/// All that the outcome of a run depends on, each with its name; a value may have several lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity(Vec<(String, String)>);

impl Identity {
    /// An identity of these names and values.
    pub(super) fn of_words<'a, V: Into<String>>(
        words: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Self {
        Self(words.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// What a run of `words` on `task` depends on that begins with `form`, trained or not.
    pub(super) fn of_run<'a>(
        form: &Model,
        task: &dyn Task<f32>,
        words: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Self> {
        let DataInfo { name, nodes, edges, features, feature_norm, classes } = DataInfo::of(task);
        let common = [
            ("version", env!("CARGO_PKG_VERSION").to_string()),
            // Sums of floats are not the same for every width of vectors.
            ("instructions", format!("{:?}", Isa::best())),
            (
                "data",
                format!(
                    "{name}: {nodes} nodes, {edges} edges, {features} features ({feature_norm}), {classes} classes"
                ),
            ),
            ("fingerprint of the data", format!("{:016x}", task.data().fingerprint())),
            ("task", task.settings()),
            ("model", form.to_string()),
            ("digest of the model", Digest::of(&form.to_bytes()?)),
        ];
        Ok(Self::of_words(common.into_iter().chain(words)))
    }

    /// In what `other`, which is here, differs from `self`, which was kept: empty for the same run.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let value = |of: &Self, name: &str| {
            of.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut names: Vec<&String> = self.0.iter().chain(&other.0).map(|(name, _)| name).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.as_str()));
        let difference = |name: &&String| {
            let (there, here) =
                (value(self, name).unwrap_or_default(), value(other, name).unwrap_or_default());
            let (there, here) = first_difference(&there, &here)?;
            Some(format!("{name}: `{there}` there, `{here}` here"))
        };
        names.iter().filter_map(difference).collect()
    }
}

/// The first lines that differ; what is not there is `none`.
fn first_difference(there: &str, here: &str) -> Option<(String, String)> {
    let (mut left, mut right) = (there.lines(), here.lines());
    loop {
        let line = |line: Option<&str>| {
            line.map_or("none".into(), |line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        match (left.next(), right.next()) {
            (None, None) => return None,
            (a, b) if a != b => return Some((line(a), line(b))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_line_that_differs() {
        let kept = Identity::of_words([
            ("seeds", "0 to 4"),
            ("stages", "channels 0.5\nbits 8"),
            ("old", "1"),
        ]);
        let here = Identity::of_words([
            ("seeds", "0 to 4"),
            ("stages", "channels 0.5\nfinetune 3\nbits 8"),
            ("new", "2"),
        ]);
        assert_eq!(kept.differences(&kept), Vec::<String>::new());
        let expected = [
            "stages: `bits 8` there, `finetune 3` here",
            "old: `1` there, `none` here",
            "new: `none` there, `2` here",
        ];
        assert_eq!(kept.differences(&here), expected);
        let shorter = Identity::of_words([("stages", "channels 0.5")]);
        let longer = Identity::of_words([("stages", "channels 0.5\nbits 8")]);
        assert_eq!(longer.differences(&shorter), ["stages: `bits 8` there, `none` here"]);
    }
}
