//! JSON and TOML as trees, which may have what their readers refuse: keys twice, and words that are
//! no numbers.

use super::draw::Draw;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A number, a string with its quotes, or anything else that stands for itself.
    Leaf(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// What a leaf may become.
const LEAVES: [&str; 36] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "4",
    "8",
    "100",
    "255",
    "1000",
    "65536",
    "16777217",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "0.5",
    "0.25",
    "1.0",
    "-0.0",
    "-0.5",
    "1e-320",
    "1e38",
    "1e308",
    "1e400",
    "NaN",
    "nan",
    "-inf",
    "null",
    "true",
    "false",
    "1979-05-27",
    "0x7fffffff",
];

/// Words that files have, and some that they should not.
const WORDS: [&str; 41] = [
    "",
    "input",
    "conv1",
    "a.b",
    "line\nline",
    "\u{0}",
    "\u{1F980}",
    "\"",
    "\\",
    "gcn_conv",
    "sage_conv",
    "gat_conv",
    "gatv2_conv",
    "gin_conv",
    "sg_conv",
    "appnp",
    "embedding",
    "readout",
    "linear",
    "add",
    "concat",
    "max",
    "dropout",
    "relu",
    "elu",
    "mean",
    "sum",
    "symmetric",
    "row",
    "two",
    "four",
    "eight",
    "self",
    "gcn:4",
    "mlp:0",
    "subset",
    "taylor",
    "global",
    "all",
    "none",
    "raw",
];

impl Tree {
    pub fn json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self::of)
    }

    pub fn toml(text: &str) -> Option<Self> {
        let table: toml::Table = text.parse().ok()?;
        serde_json::to_value(table).ok().map(Self::of)
    }

    fn of(value: Value) -> Self {
        match value {
            Value::Array(items) => Tree::List(items.into_iter().map(Self::of).collect()),
            Value::Object(fields) => {
                Tree::Map(fields.into_iter().map(|(key, value)| (key, Self::of(value))).collect())
            }
            leaf => Tree::Leaf(leaf.to_string()),
        }
    }

    pub fn to_json(&self) -> String {
        let quoted = |(key, value): &(String, Tree)| {
            format!("{}:{}", Value::from(key.as_str()), value.to_json())
        };
        self.written(quoted, "{", "}", Tree::to_json)
    }

    fn to_inline(&self) -> String {
        let quoted = |(key, value): &(String, Tree)| {
            format!("{} = {}", Value::from(key.as_str()), value.to_inline())
        };
        self.written(quoted, "{ ", " }", Tree::to_inline)
    }

    fn written(
        &self,
        field: impl Fn(&(String, Tree)) -> String,
        open: &str,
        close: &str,
        item: impl Fn(&Tree) -> String,
    ) -> String {
        match self {
            Tree::Leaf(word) => word.clone(),
            Tree::List(items) => {
                format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(","))
            }
            Tree::Map(fields) => {
                format!("{open}{}{close}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// As a document of TOML, lists of tables under headings.
    pub fn to_toml(&self) -> String {
        let Tree::Map(fields) = self else { return self.to_inline() };
        let line = |(key, value): &(String, Tree)| {
            format!("{} = {}\n", Value::from(key.as_str()), value.to_inline())
        };
        let is_tables = |value: &Tree| matches!(value, Tree::List(items) if !items.is_empty() && items.iter().all(|item| matches!(item, Tree::Map(_))));
        let (tables, plain): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(_, value)| is_tables(value));
        let mut text: String = plain.into_iter().map(line).collect();
        for (key, value) in tables {
            let Tree::List(items) = value else { continue };
            for item in items {
                let Tree::Map(fields) = item else { continue };
                text.push_str(&format!(
                    "[[{key}]]\n{}",
                    fields.iter().map(line).collect::<String>()
                ));
            }
        }
        text
    }

    fn children(&mut self) -> Vec<&mut Tree> {
        match self {
            Tree::Leaf(_) => Vec::new(),
            Tree::List(items) => items.iter_mut().collect(),
            Tree::Map(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Tree::Leaf(_) => 1,
            Tree::List(items) => 1 + items.iter().map(Tree::size).sum::<usize>(),
            Tree::Map(fields) => 1 + fields.iter().map(|(_, value)| value.size()).sum::<usize>(),
        }
    }

    fn place(&mut self, left: &mut usize) -> Option<&mut Tree> {
        if *left == 0 {
            return Some(self);
        }
        *left -= 1;
        self.children().into_iter().find_map(|child| child.place(left))
    }

    /// Some place of the tree, mostly a leaf: what stands around it must be whole for anything to
    /// be read.
    fn any(&mut self, draw: &mut Draw) -> &mut Tree {
        let size = self.size();
        let mut at = draw.below(size);
        for _ in 0..2 {
            let mut left = at;
            if !matches!(self.place(&mut left), Some(Tree::Leaf(_))) {
                at = draw.below(size);
            }
        }
        let mut left = at;
        self.place(&mut left).expect("there are as many places as the size says")
    }

    pub fn mutate(&mut self, draw: &mut Draw) {
        for _ in 0..draw.few() {
            let copy = self.any(draw).clone();
            let place = self.any(draw);
            match draw.below(16) {
                0 => *place = copy,
                1 => *place = Tree::List(vec![place.clone()]),
                2 if draw.one_in(4) => {
                    let depth = *draw.pick(&[10, 100, 127, 128, 1000]);
                    *place = (0..depth).fold(place.clone(), |inner, _| Tree::List(vec![inner]));
                }
                _ => place.change(draw, &copy),
            }
        }
    }

    fn change(&mut self, draw: &mut Draw, copy: &Tree) {
        match self {
            Tree::Leaf(word) => leaf(word, draw),
            Tree::List(items) => list(items, draw, copy),
            Tree::Map(fields) => map(fields, draw, copy),
        }
    }
}

/// Mostly of the type that it was, so that the reader gets beyond it.
fn leaf(word: &mut String, draw: &mut Draw) {
    let is_text = word.starts_with('"');
    match (draw.below(6), word.parse::<i64>()) {
        (0..=3, _) if word == "true" => *word = "false".into(),
        (0..=3, _) if word == "false" => *word = "true".into(),
        (0..=3, Err(_)) if word.contains('.') && !is_text => {
            *word =
                draw.word(&["0.0", "1.0", "0.5", "1e-9", "0.999", "2.5", "-0.1", "1e30"]).into();
        }
        (0 | 1, Ok(number)) => {
            let near = [
                number.wrapping_add(1),
                number.wrapping_sub(1),
                number.wrapping_mul(2),
                number / 2,
                number.wrapping_mul(1000),
            ];
            *word = draw.pick(&near).to_string();
        }
        (2, Ok(_)) => *word = draw.below(9).to_string(),
        (3, Ok(_)) => *word = draw.edge().to_string(),
        (0, _) if is_text => {
            let inside: String = serde_json::from_str(word).unwrap_or_default();
            let cut: String = inside.chars().take(draw.below(inside.chars().count())).collect();
            let more = if draw.one_in(10) {
                inside.repeat(200)
            } else {
                inside.clone() + draw.word(&WORDS)
            };
            *word = Value::from(if draw.one_in(2) { cut } else { more }).to_string();
        }
        (1..=3, _) if is_text => *word = Value::from(draw.word(&WORDS)).to_string(),
        (4, _) if draw.one_in(4) => *word = Value::from(draw.word(&WORDS)).to_string(),
        _ => *word = draw.word(&LEAVES).into(),
    }
}

fn list(items: &mut Vec<Tree>, draw: &mut Draw, copy: &Tree) {
    let (at, other) = (draw.below(items.len()), draw.below(items.len()));
    match draw.below(7) {
        0 => items.clear(),
        1 if !items.is_empty() => drop(items.remove(at)),
        2 if !items.is_empty() => {
            let times = if draw.one_in(4) { 60 } else { 1 };
            let mut item = items[at].clone();
            if times == 1 {
                renamed(&mut item);
            }
            items.splice(at..at, vec![item; times]);
        }
        3 if !items.is_empty() => items.swap(at, other),
        4 => items.truncate(at),
        5 => items.push(Tree::Leaf(draw.word(&LEAVES).into())),
        _ => items.insert(at, copy.clone()),
    }
}

/// A second thing of the same name would be refused before it is looked at.
fn renamed(item: &mut Tree) {
    if let Tree::Map(fields) = item {
        fields
            .iter_mut()
            .filter(|(key, _)| key == "name")
            .for_each(|(_, value)| *value = Tree::Leaf("\"again\"".into()));
    }
}

fn map(fields: &mut Vec<(String, Tree)>, draw: &mut Draw, copy: &Tree) {
    let (at, other) = (draw.below(fields.len()), draw.below(fields.len()));
    match draw.below(6) {
        0 if !fields.is_empty() => drop(fields.remove(at)),
        1 if !fields.is_empty() => fields[at].0 = draw.word(&WORDS).into(),
        2 if !fields.is_empty() => {
            let twice = (fields[at].0.clone(), copy.clone());
            fields.push(twice);
        }
        3 if !fields.is_empty() => {
            let value = fields[other].1.clone();
            fields[at].1 = value;
        }
        4 if !fields.is_empty() => fields[at].0.push_str(draw.word(&["x", ".", "1", ".mask"])),
        _ => fields.push((draw.word(&WORDS).into(), copy.clone())),
    }
}
