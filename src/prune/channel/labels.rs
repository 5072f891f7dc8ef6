//! Which channels of a model can only be removed together.

use crate::nn::{Axis, Model, NodeId, PruneUnits, Wiring};
use crate::scalar::Scalar;

/// Labels of all channels of a model: two channels carry the same unit if removing one means
/// removing the other.
///
/// Every channel that a layer makes starts as a unit of its own (a head, or a channel across heads,
/// where its [`PruneUnits`](crate::nn::PruneUnits) say so). A layer that passes channels on joins
/// the units of its inputs channel by channel; concatenation joins nothing. Units that reach the
/// model's input or output are fixed.
///
/// *Source*: coupled channels as in Fang et al., "DepGraph", CVPR 2023, §3.2, here by union-find
/// over labels instead of index maps.
#[derive(Debug, Clone)]
pub struct ChannelLabels {
    /// Unit of each channel, by node; node 0 is the input.
    nodes: Vec<Vec<usize>>,
    /// Unit of each channel of a node's inner hidden maps.
    hidden: Vec<Vec<Vec<usize>>>,
    fixed: Vec<bool>,
    groups: Vec<Group>,
}

/// Units that are coupled through the same layers and therefore compete with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The layers that make these channels, joined by `+`.
    pub name: String,
    /// The prunable units, ascending.
    pub units: Vec<usize>,
}

impl ChannelLabels {
    /// Labels the channels of `model`.
    pub fn of<F: Scalar>(model: &Model<F>) -> Self {
        let mut ids = Ids::default();
        let mut nodes = vec![ids.produce(model.in_channels(), "input".into())];
        let mut hidden = vec![Vec::new()];
        for node in model.nodes() {
            let inputs: Vec<&Vec<usize>> =
                node.inputs().iter().map(|id| &nodes[id.index()]).collect();
            for (k, input) in inputs.iter().enumerate() {
                ids.join_units(input, node.layer().couples(k));
            }
            if let ([first, others @ ..], true) = (&inputs[..], node.layer().ties_inputs()) {
                for other in others {
                    first.iter().zip(*other).for_each(|(&a, &b)| ids.join(a, b));
                }
            }
            let out = match node.layer().wiring() {
                Wiring::Fresh { channels, units } => {
                    let made = ids.produce(channels, node.name().into());
                    ids.join_units(&made, units);
                    made
                }
                Wiring::Concat => inputs.into_iter().flatten().copied().collect(),
                Wiring::Same => {
                    for other in &inputs[1..] {
                        inputs[0].iter().zip(*other).for_each(|(&a, &b)| ids.join(a, b));
                    }
                    inputs[0].clone()
                }
            };
            hidden.push(label_hidden(&mut ids, node));
            nodes.push(out);
        }
        let output = nodes[model.output().index()].clone();
        ids.settle(nodes, hidden, &output)
    }

    /// Unit of each channel of a node.
    pub fn node(&self, id: NodeId) -> &[usize] {
        &self.nodes[id.index()]
    }

    /// Unit of each channel of a node's inner hidden maps.
    pub fn hidden(&self, id: NodeId) -> &[Vec<usize>] {
        &self.hidden[id.index()]
    }

    /// Number of units, fixed ones included.
    pub fn num_units(&self) -> usize {
        self.fixed.len()
    }

    /// Whether a unit reaches the model's input or output.
    pub fn is_fixed(&self, unit: usize) -> bool {
        self.fixed[unit]
    }

    /// The groups that have something to prune.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Units along an axis of a parameter of `node`, `None` where the axis carries no channels;
    /// `len` is the axis' length.
    pub fn along<F: Scalar>(
        &self,
        model: &Model<F>,
        node: NodeId,
        axis: Axis,
        len: usize,
    ) -> Option<Vec<usize>> {
        let inputs = model.nodes()[node.index() - 1].inputs();
        let tiled = |units: &[usize]| units.iter().copied().cycle().take(len).collect();
        match axis {
            Axis::Fixed | Axis::Nodes => None,
            Axis::In(k) | Axis::InTiled(k) => Some(tiled(self.node(inputs[k]))),
            Axis::Out | Axis::OutTiled | Axis::OutPart => Some(tiled(self.node(node))),
            Axis::Hidden(h) => Some(self.hidden[node.index()][h].clone()),
        }
    }
}

/// Each hidden map of a layer is as long as the axes that carry it.
fn label_hidden<F: Scalar>(ids: &mut Ids, node: &crate::nn::Node<F>) -> Vec<Vec<usize>> {
    let mut maps: Vec<Vec<usize>> = Vec::new();
    node.layer().visit(&mut |param| {
        let shape = param.value().dim();
        for (axis, len) in [(param.axes()[0], shape.0), (param.axes()[1], shape.1)] {
            if let Axis::Hidden(h) = axis {
                maps.resize_with(maps.len().max(h + 1), Vec::new);
                if maps[h].is_empty() {
                    maps[h] = ids.produce(len, format!("{}[{h}]", node.name()));
                }
            }
        }
    });
    maps
}

/// Union-find over channel ids, which remembers who made each channel.
#[derive(Default)]
struct Ids {
    parent: Vec<usize>,
    producer: Vec<usize>,
    producers: Vec<String>,
}

impl Ids {
    fn produce(&mut self, channels: usize, name: String) -> Vec<usize> {
        let first = self.parent.len();
        self.parent.extend(first..first + channels);
        self.producer.extend(std::iter::repeat_n(self.producers.len(), channels));
        self.producers.push(name);
        (first..first + channels).collect()
    }

    fn root(&self, mut id: usize) -> usize {
        while self.parent[id] != id {
            id = self.parent[id];
        }
        id
    }

    /// The smaller id becomes the root, so that units come out in the order of the model.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// Joins the channels that are one unit.
    fn join_units(&mut self, channels: &[usize], units: PruneUnits) {
        let mut first = vec![usize::MAX; channels.len()];
        for (c, &id) in channels.iter().enumerate() {
            let unit = units.unit_of(c, channels.len());
            match first[unit] {
                usize::MAX => first[unit] = id,
                other => self.join(other, id),
            }
        }
    }

    /// Numbers the units, marks the fixed ones and gathers the others in groups.
    fn settle(
        self,
        mut nodes: Vec<Vec<usize>>,
        mut hidden: Vec<Vec<Vec<usize>>>,
        output: &[usize],
    ) -> ChannelLabels {
        let mut unit_of_root = vec![usize::MAX; self.parent.len()];
        let mut units = 0;
        let mut unit = vec![0; self.parent.len()];
        for (id, unit) in unit.iter_mut().enumerate() {
            let root = self.root(id);
            if unit_of_root[root] == usize::MAX {
                unit_of_root[root] = units;
                units += 1;
            }
            *unit = unit_of_root[root];
        }
        let mut fixed = vec![false; units];
        nodes[0].iter().chain(output).for_each(|&id| fixed[unit[id]] = true);
        // Producers that share a unit share a group.
        let mut group_of = Ids::default();
        group_of.produce(self.producers.len(), String::new());
        let mut producer_of_unit = vec![usize::MAX; units];
        for (&unit, &producer) in unit.iter().zip(&self.producer) {
            match producer_of_unit[unit] {
                usize::MAX => producer_of_unit[unit] = producer,
                other => group_of.join(other, producer),
            }
        }
        let mut groups = Vec::new();
        for root in (0..self.producers.len()).filter(|&p| group_of.root(p) == p) {
            let members = |p: usize| group_of.root(p) == root;
            let names: Vec<&str> = (0..self.producers.len())
                .filter(|&p| members(p))
                .map(|p| self.producers[p].as_str())
                .collect();
            let units: Vec<usize> =
                (0..units).filter(|&u| !fixed[u] && members(producer_of_unit[u])).collect();
            if !units.is_empty() {
                groups.push(Group { name: names.join("+"), units });
            }
        }
        let renumber = |ids: &mut Vec<usize>| ids.iter_mut().for_each(|id| *id = unit[*id]);
        nodes.iter_mut().for_each(renumber);
        hidden.iter_mut().flatten().for_each(renumber);
        ChannelLabels { nodes, hidden, fixed, groups }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gcn, Mlp};

    fn sizes(model: &Model) -> Vec<(String, usize)> {
        ChannelLabels::of(model)
            .groups()
            .iter()
            .map(|group| (group.name.clone(), group.units.len()))
            .collect()
    }

    #[test]
    fn plain_layers_are_groups_of_their_own() {
        let model = Mlp::builder(5, 3).hidden(4).layers(3).build(0).unwrap();
        assert_eq!(sizes(&model), [("linear1".to_string(), 4), ("linear2".to_string(), 4)]);
    }

    #[test]
    fn a_residual_chain_is_one_group() {
        let model = Gcn::builder(5, 3).hidden(4).layers(4).residual(true).build(0).unwrap();
        assert_eq!(sizes(&model), [("conv1+conv2+conv3".to_string(), 4)]);
        let labels = ChannelLabels::of(&model);
        assert_eq!(
            labels.node(model.node("conv1").unwrap()),
            labels.node(model.node("conv3").unwrap())
        );
    }

    #[test]
    fn jumping_knowledge_keeps_layers_apart_and_offsets_their_channels() {
        let model = Gcn::builder(5, 3)
            .hidden(4)
            .layers(2)
            .jumping(crate::models::Jumping::Concat)
            .build(0)
            .unwrap();
        assert_eq!(sizes(&model), [("conv1".to_string(), 4), ("conv2".to_string(), 4)]);
        let labels = ChannelLabels::of(&model);
        let joined = labels.node(model.node("jump").unwrap());
        assert_eq!(joined[4..], *labels.node(model.node("conv2").unwrap()));
    }

    #[test]
    fn logits_and_input_are_fixed() {
        let model = Mlp::builder(5, 3).layers(1).build(0).unwrap();
        assert!(sizes(&model).is_empty());
    }
}
