//! The layers in a state dict whatever they are called: each by the names and shapes of its own
//! tensors, their order by numbers and widths.

use super::forms::RUNNING;
use super::network::{inner_maps, width_in};
use crate::error::{Error, Result};
use crate::files::Tensors;
use std::collections::BTreeSet;

/// A layer that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// What its tensors' names begin with, without the dot.
    pub path: String,
    /// Its kind in the registry.
    pub kind: &'static str,
    /// Its tensors, as they are named today.
    pub tensors: Tensors,
    /// Channels that it reads ...
    pub input: usize,
    /// ... and puts out; of a norm the same.
    pub output: usize,
}

impl Found {
    pub(super) fn is_norm(&self) -> bool {
        matches!(self.kind, "batch_norm" | "layer_norm")
    }

    pub(super) fn is_conv(&self) -> bool {
        !self.is_norm() && self.kind != "linear"
    }

    /// Its path with every number left out, and the numbers.
    fn family(&self) -> (String, Vec<u64>) {
        let (mut stem, mut numbers, mut digits) = (String::new(), Vec::new(), String::new());
        for c in self.path.chars().chain(std::iter::once('.')) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            if !digits.is_empty() {
                numbers.push(digits.parse().unwrap_or(u64::MAX));
                digits.clear();
            }
            stem.push(c);
        }
        (stem, numbers)
    }
}

/// Deepest nesting of modules.
const DEEPEST: usize = 64;
/// Orders that are looked for before the search is given up as ambiguous.
const MOST_ORDERS: usize = 3;
/// Steps of that search.
const MOST_STEPS: usize = 200_000;

/// The layers of a state dict.
///
/// # Errors
/// [`Error::Network`] for a tensor that belongs to no known layer, a layer that is not built, or
/// one whose kind cannot be told.
pub(super) fn layers(tensors: &Tensors) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    collect("", tensors, 0, &mut found)?;
    Ok(found)
}

fn collect(path: &str, tensors: &Tensors, depth: usize, found: &mut Vec<Found>) -> Result<()> {
    let at = if path.is_empty() { "the whole file" } else { path };
    if let Some((kind, tensors)) =
        kind_of(path, tensors).map_err(|error| Error::Network(format!("{at}: {}", plain(error))))?
    {
        let input = width_in(kind, &tensors);
        let output = width_out(kind, &tensors, input);
        if input == 0 || output == 0 {
            return Err(Error::Network(format!(
                "{at}: the widths of a {kind} cannot be told from its tensors"
            )));
        }
        found.push(Found { path: path.into(), kind, tensors, input, output });
        return Ok(());
    }
    let heads: BTreeSet<&str> =
        tensors.floats.keys().map(|name| name.split('.').next().unwrap_or("")).collect();
    for head in heads {
        let below = tensors.under(&format!("{head}."));
        let full = if path.is_empty() { head.to_string() } else { format!("{path}.{head}") };
        if below.floats.is_empty() || depth == DEEPEST {
            let names: Vec<&str> = tensors.floats.keys().take(6).map(String::as_str).collect();
            return Err(Error::Network(format!(
                "tensor `{full}` belongs to no layer that is known; beside it stand {}",
                names.join(", ")
            )));
        }
        collect(&full, &below, depth + 1, found)?;
    }
    Ok(())
}

fn plain(error: Error) -> String {
    match error {
        Error::Network(problem) => problem,
        Error::Model(problem) => problem.to_string(),
        other => other.to_string(),
    }
}

/// The kind of the layer that these tensors are together, and the tensors under today's names; none
/// where they are several layers.
fn kind_of(path: &str, tensors: &Tensors) -> Result<Option<(&'static str, Tensors)>> {
    let shape = |name: &str| tensors.floats.get(name).map(|array| array.shape.as_slice());
    let has = |name: &str| tensors.floats.contains_key(name);
    let any_under = |prefix: &str| tensors.floats.keys().any(|name| name.starts_with(prefix));
    let all = |known: &[&str]| {
        tensors
            .floats
            .keys()
            .all(|name| known.iter().any(|k| name == k || k.ends_with('.') && name.starts_with(k)))
    };
    let not_built = |what: &str| {
        Err(Error::Network(format!(
            "is {what}, which is not built; known are the layers of docs/from-pytorch.md"
        )))
    };
    let renamed = |pairs: &[(&str, &str)]| {
        let mut new = Tensors::default();
        for (name, array) in &tensors.floats {
            let found = pairs
                .iter()
                .find_map(|(old, now)| name.strip_prefix(old).map(|rest| format!("{now}{rest}")));
            new.floats.insert(found.unwrap_or_else(|| name.clone()), array.clone());
        }
        new
    };
    if any_under("weight_ih_l") {
        return not_built("a recurrent layer (LSTM or GRU)");
    }
    if has("mean_scale") {
        return not_built("a GraphNorm");
    }
    if has("in_proj_weight") || has("lin_key.weight") {
        return not_built("a transformer layer");
    }
    if tensors.floats.len() == 1 && shape("weight").is_some_and(|shape| shape == [1]) {
        return not_built("a PReLU");
    }
    if has("att_l") && has("att_r") {
        // As GATConv named them before 2.1; both sides share one map where a single width was
        // given.
        let new = renamed(&[
            ("att_l", "att_src"),
            ("att_r", "att_dst"),
            ("lin_l.", "lin_src."),
            ("lin_r.", "lin_dst."),
        ]);
        return Ok(Some(("gat_conv", new)));
    }
    if has("att_src") && has("att_dst") {
        return Ok(Some(("gat_conv", tensors.clone())));
    }
    if has("att") && has("lin_l.weight") {
        return Ok(Some(("gatv2_conv", tensors.clone())));
    }
    if has("att") && has("weight") {
        return not_built("a GATConv of PyTorch Geometric before 1.5");
    }
    // Without an ε it is a list that is called `nn`, or another convolution with an inner network.
    if has("eps") && any_under("nn.") && all(&["nn.", "eps", "lin."]) {
        return Ok(Some((
            if has("lin.weight") { "gine_conv" } else { "gin_conv" },
            tensors.clone(),
        )));
    }
    if any_under("nn.") && all(&["nn."]) && convolutional(path) {
        return not_built("a convolution with an inner network and no ε (EdgeConv, NNConv)");
    }
    if has("weight1") {
        return Ok(Some(("gcn2_conv", tensors.clone())));
    }
    if shape("weight").is_some_and(|shape| shape.len() == 3) {
        return Ok(Some(("rgcn_conv", tensors.clone())));
    }
    if has("lin_rel.weight") && has("lin_root.weight") && all(&["lin_rel.", "lin_root."]) {
        return not_built("a GraphConv (`lin_rel`, `lin_root`); SAGEConv with a sum is its like");
    }
    if has("lin_l.weight") && all(&["lin_l.", "lin_r.", "lin."]) {
        return Ok(Some(("sage_conv", tensors.clone())));
    }
    if has("lin.weight") && all(&["lin.weight", "bias"]) && has("bias") {
        return Ok(Some(("gcn_conv", tensors.clone())));
    }
    if has("lin.weight") && all(&["lin."]) && convolutional(path) {
        return match has("lin.bias") {
            true => {
                Err(Error::Network("may be an SGConv, whose hops no tensor tells, or a Linear in a module; a network file says which".into()))
            }
            // Its bias was left out.
            false => Ok(Some(("gcn_conv", tensors.clone()))),
        };
    }
    let inner = tensors.under("module.");
    if !inner.floats.is_empty()
        && all(&["module."])
        && shape("module.weight").is_none_or(|shape| shape.len() == 1)
    {
        return match has("module.running_mean") {
            true => Ok(Some(("batch_norm", tensors.clone()))),
            false if has("module.weight") && inner.floats.len() <= 2 => {
                Err(Error::Network(RUNNING.into()))
            }
            false => Ok(None),
        };
    }
    if !all(&["weight", "bias", "running_mean", "running_var"]) {
        return Ok(None);
    }
    Ok(match (shape("weight"), shape("bias")) {
        _ if has("running_mean") => Some(("batch_norm", tensors.clone())),
        (Some([_]), Some([_])) => Some(("layer_norm", tensors.clone())),
        (Some(&[rows, columns]), Some(&[bias]))
            if rows != columns && columns == bias && rows != bias =>
        {
            // GCNConv held its weight the other way round before 2.0.
            let mut new = renamed(&[("weight", "lin.weight")]);
            transpose(&mut new, "lin.weight");
            Some(("gcn_conv", new))
        }
        (Some(&[rows, columns]), Some(_)) if rows == columns && convolutional(path) => {
            return Err(Error::Network("may be a Linear or a GCNConv of PyTorch Geometric before 2.0; a network file says which".into()));
        }
        (Some([_, _]), _) => Some(("linear", tensors.clone())),
        _ => None,
    })
}

fn transpose(tensors: &mut Tensors, name: &str) {
    if let Some(array) = tensors.floats.get_mut(name)
        && let Ok(matrix) = array.matrix(array.shape[0])
    {
        array.values = matrix.t().iter().copied().collect();
        array.shape.reverse();
    }
}

/// Whether a name speaks of a convolution, where its tensors alone might be something else.
pub(super) fn convolutional(path: &str) -> bool {
    let last = path
        .rsplit('.')
        .find(|part| !part.is_empty() && part.parse::<u64>().is_err())
        .unwrap_or("")
        .to_ascii_lowercase();
    ["conv", "gcn", "sgc", "gc"].iter().any(|word| last.starts_with(word))
}

/// The channels that a layer puts out.
fn width_out(kind: &str, tensors: &Tensors, input: usize) -> usize {
    let axis = |name: &str, axis: usize| {
        tensors.floats.get(name).and_then(|array| array.shape.get(axis)).copied()
    };
    match kind {
        "batch_norm" | "layer_norm" | "gcn2_conv" => Some(input),
        "rgcn_conv" => axis("weight", 2),
        // Averaged heads are told by the bias; without one they are joined.
        "gat_conv" | "gatv2_conv" => axis("bias", 0).or_else(|| {
            let name = if tensors.floats.contains_key("att") { "att" } else { "att_src" };
            axis(name, 1)?.checked_mul(axis(name, 2)?)
        }),
        "gin_conv" | "gine_conv" => inner_maps(tensors).last().map(|&[width, _]| width),
        _ => ["lin.weight", "lin_l.weight", "weight"].iter().find_map(|name| axis(name, 0)),
    }
    .unwrap_or(0)
}

/// A layer in its place: what it reads beside the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The layer before it.
    Before,
    /// All maps before it, side by side.
    All,
}

/// Puts layers in the one order that numbers and widths allow: for each its place in `found`, and
/// what it reads.
///
/// Layers whose names differ in numbers alone stand in the order of the numbers. A map reads as
/// many channels as the one before it puts out, or as all of those before it together. Norms that
/// are numbered by themselves belong to the layers of the same rank.
///
/// # Errors
/// [`Error::Network`] where there is no such order or more than one, with those there are.
pub(super) fn order(found: &[Found]) -> Result<Vec<(usize, Reading)>> {
    let families: Vec<(String, Vec<u64>)> = found.iter().map(Found::family).collect();
    // Norms in one list with maps stand where their number says; others are attached to maps.
    let listed = |k: usize| {
        !found[k].is_norm()
            || (0..found.len()).any(|j| !found[j].is_norm() && families[j].0 == families[k].0)
    };
    let chain: Vec<usize> = (0..found.len()).filter(|&k| listed(k)).collect();
    let mut loose: Vec<usize> = (0..found.len()).filter(|&k| !listed(k)).collect();
    loose.sort_by(|&a, &b| families[a].cmp(&families[b]));
    let mut search =
        Search { found, families: &families, chain: &chain, orders: Vec::new(), steps: 0 };
    search.extend(&mut Vec::new(), 0);
    let told = |order: &[(usize, Reading)]| {
        order.iter().map(|(k, _)| found[*k].path.as_str()).collect::<Vec<_>>().join(" → ")
    };
    let widths = || {
        let each = found
            .iter()
            .map(|layer| format!("{} ({} → {})", layer.path, layer.input, layer.output));
        each.collect::<Vec<_>>().join(", ")
    };
    let order = match &search.orders[..] {
        [one] => one.clone(),
        [] => {
            let why = "no order of its layers lets each read what those before put out";
            return Err(Error::Network(format!("{why}: {}; say it by a network file", widths())));
        }
        many => {
            let orders: Vec<String> = many.iter().map(|order| told(order)).collect();
            return Err(Error::Network(format!(
                "its layers fit in several orders: {}; a network file says which",
                orders.join("; ")
            )));
        }
    };
    attach(found, &order, &loose)
}

struct Search<'a> {
    found: &'a [Found],
    families: &'a [(String, Vec<u64>)],
    chain: &'a [usize],
    orders: Vec<Vec<(usize, Reading)>>,
    steps: usize,
}

impl Search<'_> {
    /// All orders that begin with `begun`, which puts out `width` channels; 0 before the first
    /// layer, which reads whatever it does.
    fn extend(&mut self, begun: &mut Vec<(usize, Reading)>, width: usize) {
        self.steps += 1;
        if self.orders.len() == MOST_ORDERS || self.steps > MOST_STEPS {
            return;
        }
        if begun.len() == self.chain.len() {
            self.orders.push(begun.clone());
            return;
        }
        let used = |k: usize, begun: &[(usize, Reading)]| begun.iter().any(|(j, _)| *j == k);
        for &k in self.chain {
            let own = &self.families[k];
            let earlier = |&&j: &&usize| {
                self.families[j].0 == own.0 && self.families[j].1 < own.1 && !used(j, begun)
            };
            if used(k, begun) || self.chain.iter().any(|j| earlier(&j)) {
                continue;
            }
            let maps =
                || begun.iter().map(|(j, _)| &self.found[*j]).filter(|layer| !layer.is_norm());
            let all: usize = maps().map(|layer| layer.output).sum();
            let layer = &self.found[k];
            let reading = match layer.input {
                input if begun.is_empty() || input == width => Reading::Before,
                input if input == all && maps().count() > 1 => Reading::All,
                _ => continue,
            };
            begun.push((k, reading));
            self.extend(begun, layer.output);
            begun.pop();
        }
    }
}

/// Puts the norms that are numbered by themselves behind the maps of the same rank: of all maps, of
/// all but the last, or of the convolutions.
fn attach(
    found: &[Found],
    order: &[(usize, Reading)],
    norms: &[usize],
) -> Result<Vec<(usize, Reading)>> {
    if norms.is_empty() {
        return Ok(order.to_vec());
    }
    let maps: Vec<usize> = order.iter().map(|(k, _)| *k).filter(|&k| !found[k].is_norm()).collect();
    let convs: Vec<usize> = maps.iter().copied().filter(|&k| found[k].is_conv()).collect();
    let but_last = |list: &[usize]| list[..list.len().saturating_sub(1)].to_vec();
    let fits = |homes: &Vec<usize>| {
        homes.len() == norms.len()
            && homes.iter().zip(norms).all(|(&home, &norm)| found[home].output == found[norm].input)
    };
    let mut ways: Vec<Vec<usize>> =
        [but_last(&maps), but_last(&convs), convs.clone(), maps.clone()]
            .into_iter()
            .filter(fits)
            .collect();
    ways.dedup();
    let named = |list: &[usize]| {
        list.iter().map(|&k| found[k].path.as_str()).collect::<Vec<_>>().join(", ")
    };
    match &ways[..] {
        [homes] => {
            let behind = |k: usize| {
                homes.iter().position(|&home| home == k).map(|at| (norms[at], Reading::Before))
            };
            Ok(order
                .iter()
                .flat_map(|&(k, reading)| std::iter::once((k, reading)).chain(behind(k)))
                .collect())
        }
        [] => Err(Error::Network(format!(
            "the norms {} fit behind none of {}; say where by a network file",
            named(norms),
            named(&maps)
        ))),
        _ => {
            let each: Vec<String> = ways.iter().map(|homes| named(homes)).collect();
            Err(Error::Network(format!(
                "the norms {} fit behind {}; a network file says which",
                named(norms),
                each.join(" or behind ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Array;

    /// A state dict of tensors by name and shape.
    fn state(tensors: &[(&str, &[usize])]) -> Tensors {
        let mut state = Tensors::default();
        for (name, shape) in tensors {
            let values = vec![0.5; shape.iter().product()];
            state.floats.insert((*name).into(), Array { shape: shape.to_vec(), values });
        }
        state
    }

    fn told(tensors: &[(&str, &[usize])]) -> String {
        let told = layers(&state(tensors)).and_then(|found| {
            let order = order(&found)?;
            Ok(order
                .into_iter()
                .map(|(k, reading)| {
                    format!(
                        "{}:{}{}",
                        found[k].path,
                        found[k].kind,
                        if reading == Reading::All { "*" } else { "" }
                    )
                })
                .collect::<Vec<_>>()
                .join(" "))
        });
        told.unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn layers_are_told_by_their_tensors_and_ordered_by_numbers_and_widths() {
        let conv = |name: &'static str, inputs: usize, outputs: usize| {
            let weight: &'static [usize] = Box::leak(Box::new([outputs, inputs]));
            let bias: &'static [usize] = Box::leak(Box::new([outputs]));
            let of = |rest: &str| -> &'static str {
                Box::leak(format!("{name}.{rest}").into_boxed_str())
            };
            [(of("lin.weight"), weight), (of("bias"), bias)]
        };
        let linear = |name: &'static str, inputs: usize, outputs: usize| {
            let [(_, weight), (at, bias)] = conv(name, inputs, outputs);
            let weight_at: &'static str = Box::leak(format!("{name}.weight").into_boxed_str());
            [(weight_at, weight), (at, bias)]
        };
        let norm = |name: &'static str, width: usize| {
            let shape: &'static [usize] = Box::leak(Box::new([width]));
            ["weight", "bias", "running_mean", "running_var"].map(
                |rest| -> (&'static str, &'static [usize]) {
                    (Box::leak(format!("{name}.{rest}").into_boxed_str()), shape)
                },
            )
        };
        let two = [conv("conv1", 8, 16), conv("conv2", 16, 3)].concat();
        assert_eq!(told(&two), "conv1:gcn_conv conv2:gcn_conv");
        let ten = [conv("conv10", 16, 3), conv("conv2", 16, 16), conv("conv1", 8, 16)].concat();
        assert_eq!(told(&ten), "conv1:gcn_conv conv2:gcn_conv conv10:gcn_conv");
        let tutorial = [
            &two[..2],
            &norm("bn1", 16),
            &conv("conv2", 16, 16),
            &norm("bn2", 16),
            &linear("lin", 16, 3),
        ]
        .concat();
        assert_eq!(
            told(&tutorial),
            "conv1:gcn_conv bn1:batch_norm conv2:gcn_conv bn2:batch_norm lin:linear"
        );
        let listed = [
            &conv("net.layers.0", 8, 16)[..],
            &norm("net.layers.1", 16),
            &conv("net.layers.3", 16, 3),
        ]
        .concat();
        assert_eq!(
            told(&listed),
            "net.layers.0:gcn_conv net.layers.1:batch_norm net.layers.3:gcn_conv"
        );
        let joined = [&two[..2], &conv("conv2", 16, 16), &linear("fc", 32, 3)].concat();
        assert_eq!(told(&joined), "conv1:gcn_conv conv2:gcn_conv fc:linear*");
        let around =
            [&linear("first", 8, 16)[..], &conv("gcn", 16, 16), &linear("last", 16, 3)].concat();
        assert_eq!(told(&around), "first:linear gcn:gcn_conv last:linear");
        let either =
            [&two[..2], &conv("conv2", 16, 16), &linear("lin1", 16, 16), &linear("lin2", 16, 3)]
                .concat();
        let message = told(&either);
        assert!(
            message.contains(
                "several orders: conv1 → conv2 → lin1 → lin2; conv1 → lin1 → conv2 → lin2"
            ),
            "{message}"
        );
        let apart = [conv("conv1", 8, 16), conv("conv2", 24, 3)].concat();
        assert!(told(&apart).contains("no order of its layers"), "{}", told(&apart));
    }

    #[test]
    fn what_is_not_built_or_cannot_be_told_is_refused_by_name() {
        for (tensors, word) in [
            (&[("jk.lstm.weight_ih_l0", &[4usize, 4][..])][..], "LSTM"),
            (
                &[("norms.0.module.weight", &[4][..]), ("norms.0.module.bias", &[4])],
                "running statistics",
            ),
            (&[("act.weight", &[1])], "PReLU"),
            (&[("conv1.lin_rel.weight", &[4, 3]), ("conv1.lin_root.weight", &[4, 3])], "GraphConv"),
            (&[("conv1.lin.weight", &[4, 3]), ("conv1.lin.bias", &[4])], "SGConv"),
            (&[("conv1.weight", &[4, 4]), ("conv1.bias", &[4])], "before 2.0"),
            (&[("conv1.nn.0.weight", &[4, 6]), ("conv1.nn.0.bias", &[4])], "EdgeConv"),
            (&[("gn.weight", &[4]), ("gn.bias", &[4]), ("gn.mean_scale", &[4])], "GraphNorm"),
            (
                &[("conv1.lin.weight", &[4, 3]), ("conv1.bias", &[4]), ("temperature", &[1])],
                "`temperature` belongs to no layer",
            ),
        ] {
            let message = told(tensors);
            assert!(message.contains(word) && !message.contains('\n'), "{message}");
        }
        // A list that is called as the inner networks of GIN are is none.
        assert_eq!(
            told(&[("nn.0.weight", &[4, 3]), ("nn.0.bias", &[4]), ("nn.2.weight", &[2, 4])]),
            "nn.0:linear nn.2:linear"
        );
        assert_eq!(told(&[("conv1.weight", &[3, 4]), ("conv1.bias", &[4])]), "conv1:gcn_conv");
        assert_eq!(told(&[("conv1.weight", &[4, 3]), ("conv1.bias", &[4])]), "conv1:linear");
    }

    #[test]
    fn old_names_become_those_of_today_side_by_side() {
        let mut old = Tensors::default();
        for (k, (name, shape)) in [
            ("att_l", vec![1, 2, 3]),
            ("att_r", vec![1, 2, 3]),
            ("lin_l.weight", vec![6, 4]),
            ("lin_r.weight", vec![6, 4]),
        ]
        .into_iter()
        .enumerate()
        {
            old.floats.insert(
                name.into(),
                Array { values: vec![k as f32; shape.iter().product()], shape },
            );
        }
        let (kind, new) = kind_of("conv", &old).unwrap().unwrap();
        assert_eq!(kind, "gat_conv");
        // GATConv called the sources left.
        for (name, value) in
            [("att_src", 0.0), ("att_dst", 1.0), ("lin_src.weight", 2.0), ("lin_dst.weight", 3.0)]
        {
            assert_eq!(new.floats[name].values[0], value, "{name}");
        }
    }
}
