//! Which of the tensors of a file are meant, and their names.

use super::super::{Array, Budget, Tensors};
use super::numbers::{self, Numbers};
use super::storage::Storages;
use super::tree::{Id, Node, Tree};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Keys under which people save a network beside other things.
const NETWORKS: [&str; 11] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "best_model",
    "best_state_dict",
];

/// Keys that begin so hold what training alone needs.
const OF_TRAINING: [&str; 8] =
    ["optim", "scheduler", "lr_sched", "scaler", "callbacks", "loops", "rng", "grad"];

/// Keys that hold settings of the network or of its training.
const SETTINGS: [&str; 4] = ["hyper_parameters", "hparams", "config", "args"];

/// Networks stand in each other, and in wrappers, at most so deep.
const DEEPEST: usize = 64;

/// A step of the walk is paid for as so many bytes, so that objects that refer to the same ones
/// again and again cannot be walked for ever.
const STEP: usize = 64;

/// Longest text that is kept of a setting, and the longest list.
const LONGEST: usize = 1000;
const MOST_ITEMS: usize = 64;

/// Everything that the file is read for.
///
/// # Errors
/// What is wrong with the file or one of its tensors, as the end of a sentence.
pub fn read(tree: &Tree, storages: Storages, budget: &Budget) -> Result<Tensors, String> {
    let mut reader = Reader::new(tree, storages, budget)?;
    reader.root(tree.root, &mut Vec::new())?;
    reader.finish()
}

fn is_of_training(tree: &Tree, key: Id) -> bool {
    tree.text(key).is_some_and(|key| OF_TRAINING.iter().any(|start| key.starts_with(start)))
}

pub(super) struct Reader<'a, 'b> {
    tree: &'b Tree<'a>,
    storages: Storages<'b>,
    budget: &'b Budget,
    /// For every node whether a tensor can be reached from it.
    reaching: Vec<bool>,
    found: Tensors,
    /// Names of tensors and of modules in the order of the file, which is that of their
    /// registration.
    names: Vec<String>,
    modules: Vec<String>,
}

impl<'a, 'b> Reader<'a, 'b> {
    /// # Errors
    /// For a file whose objects refer to too many others.
    pub(super) fn new(
        tree: &'b Tree<'a>,
        storages: Storages<'b>,
        budget: &'b Budget,
    ) -> Result<Self, String> {
        Ok(Self {
            tree,
            storages,
            budget,
            reaching: tree.reaching()?,
            found: Tensors::default(),
            names: Vec::new(),
            modules: Vec::new(),
        })
    }

    /// What one of several graphs holds: a `Data`, or a dict of its tensors.
    pub(super) fn graph(&mut self, id: Id) -> Result<Tensors, String> {
        (self.found, self.names) = Default::default();
        self.data(self.tree.data(id).unwrap_or(id))?;
        Ok(std::mem::take(&mut self.found))
    }

    /// Where the part of each graph begins in each tensor, and where the last ends.
    pub(super) fn slices(&mut self, id: Id) -> Result<BTreeMap<String, Vec<usize>>, String> {
        let found = self.graph(id)?;
        let wrong = |name: &str| format!("has slices of `{name}` that are no list of places");
        if let Some(name) = found.floats.keys().next() {
            return Err(wrong(name));
        }
        let places = |(name, (shape, values)): (String, (Vec<usize>, Vec<i64>))| {
            let places = values.iter().map(|&value| usize::try_from(value).ok());
            match places.collect::<Option<Vec<usize>>>() {
                Some(places) if shape.len() == 1 && !places.is_empty() => Ok((name, places)),
                _ => Err(wrong(&name)),
            }
        };
        found.integers.into_iter().map(places).collect()
    }

    /// What the file holds as a whole; `path` are the keys that led here.
    fn root(&mut self, id: Id, path: &mut Vec<String>) -> Result<(), String> {
        let tree = self.tree;
        if path.len() > DEEPEST {
            return Err(self.endless());
        }
        self.step(tree.count(id), 0)?;
        if tree.is_numbers(id) {
            return Err("holds one tensor without a name; save a dict of tensors".into());
        }
        if tree.module(id).is_some() {
            return self.module(id, "", 0);
        }
        if let Some(mapping) = tree.data(id) {
            return self.data(mapping);
        }
        if let Some(items) = tree.items(id) {
            return self.one_of(items, path);
        }
        if tree.class(id).is_some_and(|(_, class)| class == "HeteroData") {
            return Err("holds a graph of several kinds of nodes, and one kind is read; save `data.to_homogeneous()`".into());
        }
        if tree.entries(id).is_none() {
            return Err(format!(
                "holds {}, which is neither a network, a state dict nor a PyG `Data`; {WAYS}",
                tree.kind(id)
            ));
        }
        self.wrapper(id, path)
    }

    /// A dict: of tensors, or of a network beside what belongs to its training.
    fn wrapper(&mut self, id: Id, path: &mut Vec<String>) -> Result<(), String> {
        let tree = self.tree;
        let holds = || {
            tree.entries(id)
                .into_iter()
                .flatten()
                .filter(|&(_, value)| self.reaching[value.index()])
        };
        let is_tensor = |value| tree.is_numbers(value);
        let of_training = |key: Id| is_of_training(tree, key);
        let is_network = |key: Id| tree.text(key).is_some_and(|key| NETWORKS.contains(&key));
        let named: Vec<(Id, Id)> =
            holds().filter(|&(key, value)| is_network(key) && !is_tensor(value)).collect();
        let others: Vec<(Id, Id)> = holds().filter(|&(key, _)| !of_training(key)).collect();
        let chosen = match (&named[..], &others[..]) {
            ([one], _) => Some(*one),
            ([(one, _), (other, _), ..], _) => {
                let [one, other] = [one, other].map(|&key| tree.text(key).unwrap_or_default());
                return Err(format!(
                    "holds networks under `{one}` and `{other}`; save the one that is meant by itself"
                ));
            }
            ([], [one]) if !is_tensor(one.1) => Some(*one),
            _ => None,
        };
        let left = |key: Id| chosen.map_or_else(|| of_training(key), |(chosen, _)| chosen != key);
        let unread: Vec<Id> = holds().map(|(key, _)| key).filter(|&key| left(key)).collect();
        let unread =
            unread.into_iter().map(|key| self.named("", key)).collect::<Result<Vec<_>, _>>()?;
        if !unread.is_empty() {
            self.tell("pt.unread".into(), json!(unread))?;
        }
        for key in SETTINGS {
            let settings =
                tree.get(id, key).map(|value| self.settings(value)).transpose()?.flatten();
            settings.map_or(Ok(()), |settings| self.tell(format!("pt.{key}"), settings.into()))?;
        }
        let Some((key, value)) = chosen else { return self.dict(id, "", 0) };
        let key = self.named("", key)?;
        if tree.module(value).is_none()
            && tree.entries(value).is_none()
            && tree.data(value).is_none()
            && tree.items(value).is_none()
        {
            return Err(format!(
                "holds {} under `{key}`, which is not read; {WAYS}",
                tree.kind(value)
            ));
        }
        path.push(key);
        self.tell("pt.read".into(), path.join(".").into())?;
        self.root(value, path)
    }

    /// A list or a tuple: what it holds if that is one thing, or one graph as data sets of PyG are
    /// saved.
    fn one_of(&mut self, items: &[Id], path: &mut Vec<String>) -> Result<(), String> {
        let tree = self.tree;
        match *items {
            [one] => {
                path.push("0".into());
                self.root(one, path)
            }
            [one, other, ..] if tree.data(one).is_some() && tree.data(other).is_some() => {
                Err(format!(
                    "holds {} graphs, and one is read; save it: `torch.save(graphs[0], FILE)`, or read all of them as a set of graphs",
                    items.len()
                ))
            }
            [graphs, slices] | [graphs, slices, _]
                if tree.data(graphs).is_some() || tree.get(graphs, "edge_index").is_some() =>
            {
                let unsliced = "is a data set of PyG whose slices are not read; save one graph: `torch.save(dataset[0], FILE)`";
                let sliced = tree.get(slices, "edge_index").or_else(|| tree.get(slices, "x"));
                let shape = sliced.and_then(|slices| tree.items(*tree.tensor(slices)?.1.get(2)?));
                let count = match (tree.node(slices), shape) {
                    (Node::None, _) => 1,
                    (_, Some(&[ends])) => match tree.node(ends) {
                        Node::Int(ends) => ends.saturating_sub(1),
                        _ => return Err(unsliced.into()),
                    },
                    _ => return Err(unsliced.into()),
                };
                if count != 1 {
                    return Err(format!(
                        "holds {count} graphs, and one is read; save it: `torch.save(dataset[0], FILE)`"
                    ));
                }
                path.push("0".into());
                self.root(graphs, path)
            }
            _ => Err(format!(
                "holds {}, and a network, a state dict or a PyG `Data` is read; {WAYS}",
                tree.kind(tree.root)
            )),
        }
    }

    /// Parameters, buffers and the modules within, as `state_dict()` names them.
    fn module(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), String> {
        let tree = self.tree;
        let attributes = tree.module(id).expect("whoever calls has asked");
        if depth > DEEPEST {
            return Err(self.endless());
        }
        self.step(tree.count(attributes), prefix.len())?;
        let path = prefix.strip_suffix('.').unwrap_or(prefix);
        self.modules.push(path.into());
        let mut told = self.settings(attributes)?.unwrap_or_default();
        told.remove("training");
        if let Some((module, name)) = tree.class(id) {
            self.step(1, module.len() + name.len())?;
            told.insert("class".into(), format!("{module}.{name}").into());
        }
        let key = if path.is_empty() { "module".into() } else { format!("module.{path}") };
        self.tell(key, told.into())?;

        let passing = tree
            .get(attributes, "_non_persistent_buffers_set")
            .and_then(|set| tree.set(set))
            .unwrap_or_default();
        for table in ["_parameters", "_buffers"] {
            for (key, value) in tree
                .get(attributes, table)
                .and_then(|table| tree.entries(table))
                .into_iter()
                .flatten()
            {
                let passes =
                    |&name: &Id| tree.text(name).is_some_and(|name| tree.text(key) == Some(name));
                let skipped = table == "_buffers" && passing.iter().any(passes);
                self.step(1 + passing.len(), prefix.len())?;
                if skipped || matches!(tree.node(value), Node::None) {
                    continue;
                }
                let name = self.named(prefix, key)?;
                self.tensor(name, value)?;
            }
        }
        for (key, value) in tree
            .get(attributes, "_modules")
            .and_then(|table| tree.entries(table))
            .into_iter()
            .flatten()
        {
            self.step(1, prefix.len())?;
            if matches!(tree.node(value), Node::None) {
                continue;
            }
            let name = self.named(prefix, key)?;
            if tree.module(value).is_none() {
                return Err(format!(
                    "has {} as its module `{name}`, which is not read",
                    tree.kind(value)
                ));
            }
            self.module(value, &format!("{name}."), depth + 1)?;
        }
        Ok(())
    }

    /// Tensors by name, those of dicts within under both names.
    fn dict(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), String> {
        let tree = self.tree;
        if depth > DEEPEST {
            return Err(self.endless());
        }
        for (key, value) in tree.entries(id).into_iter().flatten() {
            self.step(1 + tree.count(value), prefix.len())?;
            let is_tensor = tree.is_numbers(value);
            // What a dict of several networks holds of their training.
            let passed = depth == 0 && is_of_training(tree, key);
            if passed || !self.reaching[value.index()] && !is_tensor {
                continue;
            }
            let name = self.named(prefix, key)?;
            if is_tensor {
                self.tensor(name, value)?;
            } else if tree.module(value).is_some() {
                self.module(value, &format!("{name}."), depth + 1)?;
            } else if tree.entries(value).is_some() {
                self.dict(value, &format!("{name}."), depth + 1)?;
            } else {
                return Err(format!(
                    "has {} under `{name}`, which is not read as a tensor; {WAYS}",
                    tree.kind(value)
                ));
            }
        }
        if depth == 0 && self.names.is_empty() {
            return Err(format!("holds no tensor; {WAYS}"));
        }
        Ok(())
    }

    /// The tensors of a graph, and what else it tells in a word.
    fn data(&mut self, mapping: Id) -> Result<(), String> {
        let tree = self.tree;
        for (key, value) in tree.entries(mapping).into_iter().flatten() {
            self.step(1, 0)?;
            let name = self.named("", key)?;
            if tree.is_numbers(value) {
                self.tensor(name, value)?;
            } else if self.reaching[value.index()] {
                return Err(format!(
                    "has {} as `{name}`, and tensors are read: `edge_index` for the edges",
                    tree.kind(value)
                ));
            } else if let Some(told) = self.word(value)?.filter(|told| !told.is_null()) {
                self.tell(format!("data.{name}"), told)?;
            }
        }
        if self.names.is_empty() { Err("is a PyG `Data` without a tensor".into()) } else { Ok(()) }
    }

    fn tensor(&mut self, name: String, id: Id) -> Result<(), String> {
        let tree = self.tree;
        let read = match (tree.tensor(id), tree.array(id)) {
            (Some(parts), _) => numbers::read(tree, parts, &mut self.storages, self.budget),
            (None, Some(array)) => numbers::of_array(tree, array, self.budget),
            (None, None) => {
                return Err(format!("has {} as its tensor `{name}`", tree.kind(id)));
            }
        };
        let wrong = |problem: String| format!("tensor `{name}` {problem}");
        let (shape, numbers) = read.map_err(wrong)?;
        let is_new = match numbers {
            Numbers::Floats(values) => {
                self.found.floats.insert(name.clone(), Array { shape, values }).is_none()
                    && !self.found.integers.contains_key(&name)
            }
            Numbers::Integers(values) => {
                self.found.integers.insert(name.clone(), (shape, values)).is_none()
                    && !self.found.floats.contains_key(&name)
            }
        };
        if !is_new {
            return Err(wrong("stands there twice".into()));
        }
        self.names.push(name);
        Ok(())
    }

    fn finish(mut self) -> Result<Tensors, String> {
        if self.names.is_empty() {
            return Err(format!("holds a network without a parameter; {WAYS}"));
        }
        let names = std::mem::take(&mut self.names);
        self.tell("pt.order".into(), json!(names))?;
        if !self.modules.is_empty() {
            let modules = std::mem::take(&mut self.modules);
            self.tell("pt.modules".into(), json!(modules))?;
        }
        Ok(self.found)
    }

    fn key(&self, key: Id) -> Option<String> {
        match self.tree.node(key) {
            Node::Text(text) => Some((*text).into()),
            Node::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn named(&self, prefix: &str, key: Id) -> Result<String, String> {
        let tree = self.tree;
        self.step(1, prefix.len() + tree.text(key).map_or(0, str::len))?;
        let key = self
            .key(key)
            .ok_or_else(|| format!("has a tensor whose name is {}", tree.kind(key)))?;
        Ok(format!("{prefix}{key}"))
    }

    /// The public attributes of an object or the entries of a dict, as far as they are words,
    /// numbers or short lists of these.
    fn settings(&self, id: Id) -> Result<Option<Map<String, Value>>, String> {
        let dict =
            if self.tree.entries(id).is_some() { Some(id) } else { self.tree.attributes(id) };
        let Some(entries) = dict.and_then(|dict| self.tree.entries(dict)) else { return Ok(None) };
        let mut told = Map::new();
        for (key, value) in entries {
            let Some(key) =
                self.tree.text(key).filter(|key| !key.starts_with('_') && key.len() <= LONGEST)
            else {
                continue;
            };
            if let Some(word) = self.word(value)? {
                self.step(1, key.len())?;
                told.insert(key.into(), word);
            }
        }
        Ok(Some(told))
    }

    fn word(&self, id: Id) -> Result<Option<Value>, String> {
        match self.tree.items(id) {
            Some(items) if items.len() <= MOST_ITEMS => {
                let words = items
                    .iter()
                    .map(|&item| self.scalar(item))
                    .collect::<Result<Option<Vec<_>>, _>>()?;
                Ok(words.map(Value::from))
            }
            Some(_) => Ok(None),
            None => self.scalar(id),
        }
    }

    fn scalar(&self, id: Id) -> Result<Option<Value>, String> {
        self.step(1, 0)?;
        Ok(Some(match self.tree.node(id) {
            Node::None => Value::Null,
            Node::Bool(value) => (*value).into(),
            Node::Int(value) => (*value).into(),
            // JSON has no word for what is not finite.
            Node::Float(value) if value.is_finite() => (*value).into(),
            Node::Float(value) => value.to_string().into(),
            Node::Text(text) if text.len() <= LONGEST => {
                self.step(0, text.len())?;
                (*text).into()
            }
            Node::Global(module, name) if module.len() + name.len() <= LONGEST => {
                self.step(0, module.len() + name.len())?;
                json!({ "global": format!("{module}.{name}") })
            }
            _ => return Ok(None),
        }))
    }

    fn tell(&mut self, key: String, told: Value) -> Result<(), String> {
        let text = told.to_string();
        self.step(1, key.len() + text.len())?;
        self.found.metadata.insert(key, text);
        Ok(())
    }

    /// Pays for so many steps, and bytes of text.
    fn step(&self, steps: usize, text: usize) -> Result<(), String> {
        self.budget
            .take(&[steps.saturating_mul(STEP).saturating_add(text)], 1)
            .map_err(|_| self.endless())
    }

    fn endless(&self) -> String {
        format!("holds objects within each other without end, or deeper than {DEEPEST}")
    }
}

/// What can be saved instead.
const WAYS: &str = "save `model.state_dict()`, or for a graph its `Data`";
