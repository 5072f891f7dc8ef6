//! The nodes of a pickle, and questions to them that follow no reference twice.

use super::super::budget::reserved;

/// Where a node stands in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u32);

impl Id {
    /// Nodes that every tree has.
    pub const NONE: Self = Self(0);
    pub const TRUE: Self = Self(1);
    pub const FALSE: Self = Self(2);
    pub const EMPTY: Self = Self(3);

    /// `None` where there are too many.
    pub fn new(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(Self)
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value of a pickle. Values in it are named by their place, so that no value holds another:
/// dropping is no descent, and a cycle no harm.
#[derive(Debug)]
pub enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits.
    Wide,
    Float(f64),
    Text(&'a str),
    /// Bytes, or text that is not UTF-8.
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function: its module and its name.
    Global(&'a str, &'a str),
    /// What stands outside of the pickle: the numbers of a tensor.
    Persistent(Id),
    Object(Object),
}

/// What a call would have made.
#[derive(Debug)]
pub struct Object {
    /// The class or function.
    pub call: Id,
    pub args: Id,
    pub state: Option<Id>,
    /// What was put into it afterwards, as into a dict.
    pub items: Vec<(Id, Id)>,
}

/// An array of numpy: where its parts stand.
#[derive(Debug, Clone, Copy)]
pub struct NumpyArray {
    pub shape: Id,
    pub dtype: Id,
    /// `True`, or text that begins with an F, where the first axis is the fastest.
    pub order: Id,
    pub bytes: Id,
    /// Which axis of the shape each axis of the array is, where they were turned.
    pub axes: Option<Id>,
}

/// All nodes of a pickle.
#[derive(Debug)]
pub struct Tree<'a> {
    pub nodes: Vec<Node<'a>>,
    pub root: Id,
}

/// The tables of a `torch.nn.Module`.
const TABLES: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// A tensor is wrapped at most so often, as a parameter of a class of its own.
const WRAPPED: usize = 8;

impl<'a> Tree<'a> {
    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.index()]
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.node(id) {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// What a list or a tuple holds.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// What a set holds; old protocols call `set([..])`.
    pub fn set(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Set(items) => Some(items),
            Node::Object(object) => self.items(*self.items(object.args)?.first()?),
            _ => None,
        }
    }

    /// Module and name of the class of an object.
    pub fn class(&self, id: Id) -> Option<(&'a str, &'a str)> {
        let Node::Object(object) = self.node(id) else { return None };
        match self.global(object.call)? {
            // Protocols 0 and 1 name the class as an argument.
            ("copyreg" | "copy_reg", _) => self.global(*self.items(object.args)?.first()?),
            class => Some(class),
        }
    }

    /// What a value is, in words.
    pub fn kind(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "None".into(),
            Node::Bool(_) => "a bool".into(),
            Node::Int(_) | Node::Wide => "an int".into(),
            Node::Float(_) => "a float".into(),
            Node::Text(_) => "text".into(),
            Node::Bytes(_) => "bytes".into(),
            Node::List(items) => format!("a list of {}", items.len()),
            Node::Tuple(items) => format!("a tuple of {}", items.len()),
            Node::Set(_) => "a set".into(),
            Node::Dict(_) => "a dict".into(),
            Node::Global(module, name) => format!("`{module}.{name}`"),
            Node::Persistent(_) => "a storage".into(),
            Node::Object(_) => match self.class(id) {
                Some((module, name)) => format!("an object of `{module}.{name}`"),
                None => "an object of no known class".into(),
            },
        }
    }

    /// Keys and values of a dict, an ordered one too.
    pub fn entries(&self, id: Id) -> Option<impl Iterator<Item = (Id, Id)> + '_> {
        let (args, items) = match self.node(id) {
            Node::Dict(pairs) => (Id::EMPTY, pairs),
            Node::Object(object) => match self.global(object.call)? {
                ("collections", "OrderedDict") => (object.args, &object.items),
                ("collections", "defaultdict") => (Id::EMPTY, &object.items),
                _ => return None,
            },
            _ => return None,
        };
        // Python 2 gives an ordered dict its pairs as an argument.
        let given =
            self.items(args).and_then(|args| self.items(*args.first()?)).unwrap_or_default();
        let pair = |&id: &Id| match *self.items(id)? {
            [key, value] => Some((key, value)),
            _ => None,
        };
        Some(given.iter().filter_map(pair).chain(items.iter().copied()))
    }

    /// How many entries a dict has.
    pub fn count(&self, id: Id) -> usize {
        self.entries(id).map_or(0, Iterator::count)
    }

    /// The value of a dict at a key that is text.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        self.entries(dict)?
            .filter(|&(known, _)| self.text(known) == Some(key))
            .last()
            .map(|(_, value)| value)
    }

    /// The attributes of an object, a dict.
    pub fn attributes(&self, id: Id) -> Option<Id> {
        let Node::Object(object) = self.node(id) else { return None };
        match self.node(object.state?) {
            Node::Tuple(parts) => parts.first().copied(),
            _ => object.state,
        }
    }

    /// The attributes of a `torch.nn.Module`, of whatever class.
    pub fn module(&self, id: Id) -> Option<Id> {
        let attributes = self.attributes(id)?;
        let is_table =
            |name| self.get(attributes, name).is_some_and(|table| self.entries(table).is_some());
        TABLES.into_iter().all(is_table).then_some(attributes)
    }

    /// What a PyTorch Geometric `Data` holds by name: it keeps them in a storage, or as its
    /// attributes before version 2.
    pub fn data(&self, id: Id) -> Option<Id> {
        let attributes = self.attributes(id)?;
        if let Some(mapping) = self
            .get(attributes, "_store")
            .and_then(|store| self.get(self.attributes(store)?, "_mapping"))
        {
            return Some(mapping);
        }
        let class = self.class(id)?;
        (class == ("torch_geometric.data.data", "Data")
            && self.get(attributes, "edge_index").is_some())
        .then_some(attributes)
    }

    /// The function that rebuilds a tensor, and its arguments.
    pub fn tensor(&self, id: Id) -> Option<(&'a str, &[Id])> {
        let Node::Object(object) = self.node(id) else { return None };
        let (mut call, mut args) = (object.call, object.args);
        for _ in 0..WRAPPED {
            let given = self.items(args)?;
            match self.global(call)? {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                    let Node::Object(inner) = self.node(*given.first()?) else { return None };
                    (call, args) = (inner.call, inner.args);
                }
                // A class of its own: what rebuilds it, the class, and the arguments.
                ("torch._tensor", "_rebuild_from_type_v2") => {
                    (call, args) = (*given.first()?, *given.get(2)?)
                }
                ("torch.nn.parameter", name) if name.starts_with("Uninitialized") => {
                    return Some((name, given));
                }
                ("torch._utils", name) if name.starts_with("_rebuild_") => {
                    return Some((name, given));
                }
                _ => return None,
            }
        }
        None
    }

    /// The parts of an array of numbers of numpy: `_reconstruct` and a state, or `_frombuffer` in
    /// protocol 5. Arrays of words and objects are none.
    pub fn array(&self, id: Id) -> Option<NumpyArray> {
        let Node::Object(object) = self.node(id) else { return None };
        let (module, name) = self.global(object.call)?;
        let array = match (module.strip_prefix("numpy.")?.trim_start_matches('_'), name) {
            ("core.multiarray", "_reconstruct") => {
                let &[_, shape, dtype, order, bytes] = self.items(object.state?)? else {
                    return None;
                };
                NumpyArray { shape, dtype, order, bytes, axes: None }
            }
            ("core.numeric", "_frombuffer") => {
                let (&[bytes, dtype, shape, order], axes) =
                    self.items(object.args)?.split_first_chunk::<4>()?;
                NumpyArray { shape, dtype, order, bytes, axes: axes.first().copied() }
            }
            _ => return None,
        };
        self.of_numpy(array.dtype)?.starts_with(['f', 'i', 'u', 'b']).then_some(array)
    }

    /// The name of a type of numpy, as `i8`.
    pub fn of_numpy(&self, dtype: Id) -> Option<&'a str> {
        let Node::Object(object) = self.node(dtype) else { return None };
        let is_type = self.global(object.call)? == ("numpy", "dtype");
        is_type.then(|| self.text(*self.items(object.args)?.first()?)).flatten()
    }

    /// Whether a value is a tensor or an array.
    pub fn is_numbers(&self, id: Id) -> bool {
        self.tensor(id).is_some() || self.array(id).is_some()
    }

    /// For every node whether numbers of a tensor are to be found from it, or in a file without
    /// tensors those of an array: what lies beside a network does not change what is read as one.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn reaching(&self) -> Result<Vec<bool>, String> {
        // From each node to those that refer to it, as the rows of a table.
        let mut starts = vec![0usize; self.nodes.len() + 1];
        self.references(|_, to| starts[to.index() + 1] += 1);
        for k in 1..starts.len() {
            starts[k] += starts[k - 1];
        }
        let mut from = reserved(starts[self.nodes.len()])?;
        from.resize(starts[self.nodes.len()], Id::NONE);
        let mut next = starts.clone();
        self.references(|id, to| {
            let place = &mut next[to.index()];
            from[*place] = id;
            *place += 1;
        });
        let has_tensors = self.nodes.iter().any(|node| matches!(node, Node::Persistent(_)));
        let seeds = |(index, node): (usize, &Node)| match node {
            Node::Persistent(_) => Id::new(index),
            Node::Object(_) if !has_tensors => {
                Id::new(index).filter(|&id| self.array(id).is_some())
            }
            _ => None,
        };
        let mut found = vec![false; self.nodes.len()];
        let mut todo: Vec<Id> = self.nodes.iter().enumerate().filter_map(seeds).collect();
        while let Some(id) = todo.pop() {
            if !std::mem::replace(&mut found[id.index()], true) {
                todo.extend(&from[starts[id.index()]..starts[id.index() + 1]]);
            }
        }
        Ok(found)
    }

    /// Calls for every reference from one node to another.
    fn references(&self, mut each: impl FnMut(Id, Id)) {
        for (id, node) in self.nodes.iter().enumerate() {
            let Some(id) = Id::new(id) else { continue };
            match node {
                Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
                    items.iter().for_each(|&to| each(id, to))
                }
                Node::Dict(pairs) => pairs.iter().for_each(|&(_, to)| each(id, to)),
                Node::Object(object) => {
                    [Some(object.args), object.state]
                        .into_iter()
                        .flatten()
                        .for_each(|to| each(id, to));
                    object.items.iter().for_each(|&(_, to)| each(id, to));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pickle::parse;
    use super::*;
    use crate::files::Budget;

    #[test]
    fn of_a_key_that_is_set_twice_the_last_value_counts() {
        let bytes = b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x07X\x01\0\0\0aK\x02u.";
        let (tree, used) = parse(bytes, &Budget::of_bytes(bytes.len() as u64)).unwrap();
        assert_eq!(used, bytes.len());
        let value = |key: &str| tree.get(tree.root, key).map(|id| tree.node(id));
        assert!(
            matches!(value("a"), Some(Node::Int(2)))
                && matches!(value("b"), Some(Node::Int(7)))
                && value("c").is_none()
        );
    }
}
