//! Which networks a task has, and which settings these have: whatever would change nothing is
//! refused.

use crate::args::word;
use crate::failure::{Failure, Result};
use crate::model_args::ModelArgs;
use crate::model_args::ModelKind::{self, *};
use crate::sources::TaskKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args};

/// What is asked of a network: a task, and for links whether nodes have features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Nodes,
    Graphs,
    /// Of a knowledge graph.
    Links,
    /// Of one graph whose nodes have features.
    Edges,
    Items,
}
use Work::{Edges, Graphs, Items, Links, Nodes};

impl Work {
    const ALL: [Work; 5] = [Nodes, Graphs, Links, Edges, Items];

    fn name(self) -> String {
        match self {
            Nodes => word(TaskKind::Node),
            Graphs => word(TaskKind::Graph),
            Links => word(TaskKind::Link),
            Edges => format!("{} on nodes with features", word(TaskKind::Link)),
            Items => word(TaskKind::Recommend),
        }
    }

    /// Its networks, the default first.
    pub fn kinds(self) -> &'static [ModelKind] {
        match self {
            Nodes => &[Gcn, Sage, Gat, Gatv2, Gin, Sgc, Appnp, Gcn2, Mlp],
            Graphs => &[Gin, Mlp],
            Links => &[Complex, Distmult, Rotate, Gcn, Sage, Rgcn, Compgcn, Linear],
            Edges => &[Gcn, Sage],
            Items => &[Lightgcn, Mf],
        }
    }
}

/// Networks of links with something between table and decoder.
const ENCODERS: &[ModelKind] = &[Gcn, Sage, Rgcn, Compgcn, Linear];
/// Networks of nodes whose hidden layers are a stack.
const STACKS: &[ModelKind] = &[Gcn, Sage, Gat, Gatv2, Gin, Mlp];
/// Networks of nodes with hidden layers.
const DEEP: &[ModelKind] = &[Gcn, Sage, Gat, Gatv2, Gin, Appnp, Gcn2, Mlp];

type Fits = (&'static str, &'static [(Work, &'static [ModelKind])]);

/// Settings that not every network of every task has, and where they do something; an empty list is
/// all networks of that task.
const FITS: &[Fits] = &[
    ("hidden", &[(Nodes, DEEP), (Graphs, &[]), (Links, &[]), (Edges, &[]), (Items, &[])]),
    (
        "layers",
        &[(Nodes, DEEP), (Graphs, &[]), (Links, ENCODERS), (Edges, &[]), (Items, &[Lightgcn])],
    ),
    ("residual", &[(Nodes, STACKS)]),
    ("jumping", &[(Nodes, STACKS), (Items, &[Lightgcn])]),
    ("norm", &[(Nodes, STACKS), (Links, ENCODERS)]),
    ("heads", &[(Nodes, &[Gat, Gatv2])]),
    ("aggr", &[(Nodes, &[Sage])]),
    ("hops", &[(Nodes, &[Sgc, Appnp])]),
    ("alpha", &[(Nodes, &[Appnp, Gcn2])]),
    ("dropout", &[(Nodes, &[]), (Graphs, &[]), (Links, &[]), (Edges, &[])]),
    ("decoder", &[(Links, ENCODERS), (Edges, &[])]),
    ("bases", &[(Links, &[Rgcn])]),
    ("blocks", &[(Links, &[Rgcn])]),
    ("composition", &[(Links, &[Compgcn])]),
    ("relation_dropout", &[(Links, &[])]),
    ("exclude_asked", &[(Links, &[Gcn, Sage, Rgcn, Compgcn])]),
    ("ranking_loss", &[(Links, &[]), (Items, &[])]),
    ("negatives", &[(Links, &[]), (Items, &[])]),
    ("smoothing", &[(Links, &[]), (Items, &[])]),
    ("margin", &[(Links, &[]), (Items, &[])]),
    ("negative_weight", &[(Links, &[]), (Items, &[])]),
    ("cosine_temperature", &[(Links, &[]), (Items, &[])]),
    ("penalty", &[(Links, &[]), (Items, &[])]),
    ("refit", &[(Items, &[])]),
    ("draw", &[(Items, &[])]),
    ("batch", &[(Nodes, &[]), (Graphs, &[]), (Links, &[]), (Items, &[])]),
    ("accumulate", &[(Nodes, &[]), (Graphs, &[]), (Links, &[]), (Items, &[])]),
    (
        "sparsify",
        &[
            (Nodes, &[Gcn, Sage, Gin, Sgc, Appnp, Gcn2]),
            (Graphs, &[Gin]),
            (Edges, &[]),
            (Items, &[Lightgcn]),
        ],
    ),
    ("sampler", &[(Nodes, &[])]),
    ("fanout", &[(Nodes, &[])]),
];

/// Whether a flag stands on the line.
pub fn given(flags: &ArgMatches, flag: &str) -> bool {
    flags.value_source(flag) == Some(ValueSource::CommandLine)
}

fn words(kinds: &[ModelKind]) -> String {
    kinds.iter().map(|&kind| word(kind)).collect::<Vec<_>>().join(", ")
}

/// Refuses a network that cannot do the work, and settings that would change nothing; of a network
/// that is read nothing is known but the work.
pub fn check(work: Work, model: Option<ModelKind>, flags: &ArgMatches) -> Result<()> {
    let read = flags.try_contains_id("from").unwrap_or(false);
    let kind = model.unwrap_or(work.kinds()[0]);
    if !work.kinds().contains(&kind) {
        let (task, kinds) = (work.name(), words(work.kinds()));
        return Err(Failure::OtherTask { model: word(kind), task, kinds });
    }
    for &(flag, of) in FITS.iter().filter(|(flag, _)| given(flags, flag)) {
        match of.iter().find(|(its, _)| *its == work) {
            None => {
                let flag = flag.replace('_', "-");
                return Err(Failure::OfAnotherTask { flag, task: work.name() });
            }
            Some((_, kinds)) if !read && !kinds.is_empty() && !kinds.contains(&kind) => {
                let flag = flag.replace('_', "-");
                return Err(Failure::Unfit { flag, kinds: words(kinds), model: word(kind) });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Refuses, before data are read, what no data would make right.
pub fn check_early(model: Option<ModelKind>, flags: &ArgMatches) -> Result<()> {
    let Some(kind) = model else { return Ok(()) };
    let fits = |work: &&Work| work.kinds().contains(&kind);
    let checked = || Work::ALL.iter().filter(fits).map(|&work| check(work, model, flags));
    if checked().any(|checked| checked.is_ok()) {
        return Ok(());
    }
    // What names the networks that have the setting tells more.
    let tells = |checked: &Result<()>| matches!(checked, Err(Failure::Unfit { .. }));
    checked().find(tells).or_else(|| checked().next()).unwrap_or(Ok(()))
}

/// What the batches of further training ask: no form of a model.
const ASKED: [&str; 12] = [
    "draw",
    "ranking_loss",
    "negatives",
    "smoothing",
    "margin",
    "negative_weight",
    "cosine_temperature",
    "exclude_asked",
    "batch",
    "sampler",
    "fanout",
    "refit",
];

/// Refuses, where nothing trains, what training would ask; `--refit` is what a model knows, too.
pub fn refuse_asked(flags: &ArgMatches) -> Result<()> {
    match ASKED.into_iter().find(|flag| *flag != "refit" && given(flags, flag)) {
        Some(flag) => Err(Failure::NothingTrains { flag: flag.replace('_', "-") }),
        None => Ok(()),
    }
}

/// Refuses to choose the form of a model that is read, or how it was trained.
pub fn refuse_form(flags: &ArgMatches) -> Result<()> {
    let form = ModelArgs::augment_args(clap::Command::new("model"));
    let of_form = |arg: &&Arg| {
        let flag = arg.get_id().as_str();
        !ASKED.contains(&flag) && given(flags, flag)
    };
    match form.get_arguments().find(of_form) {
        Some(arg) => {
            Err(Failure::WithFrom { flag: arg.get_long().expect("these flags are long").into() })
        }
        None => Ok(()),
    }
}
