//! Tables as people write them: commas, tabs or semicolons, with a heading or without, nodes named
//! in a column or counted by their lines.
//!
//! Where there is a heading it decides what a column is. A column that it names otherwise is
//! refused rather than taken for the one that stands at that place.

use super::numbers::{MOST_IN_F64, whole};
use super::table::opened;
use crate::error::{Error, Result};
use csv::StringRecord;
use ndarray::Array2;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;

const SOURCES: [&str; 14] = [
    "source",
    "src",
    "from",
    "u",
    "sender",
    "source_id",
    "source_node",
    "src_id",
    "from_id",
    "from_node",
    "node1",
    "node_1",
    "id1",
    "id_1",
];
const TARGETS: [&str; 18] = [
    "target",
    "tgt",
    "dst",
    "dest",
    "destination",
    "to",
    "v",
    "receiver",
    "target_id",
    "target_node",
    "dst_id",
    "to_id",
    "to_node",
    "tgt_id",
    "node2",
    "node_2",
    "id2",
    "id_2",
];
const WEIGHTS: [&str; 4] = ["weight", "weights", "w", "edge_weight"];
/// Columns that number the lines, such as the index that pandas writes in front.
const COUNTERS: [&str; 7] = ["", "index", "id", "edge", "edge_id", "row", "line"];
/// Columns that say which node a line is of.
const NODES: [&str; 6] = ["node", "node_id", "nodeid", "id", "vertex", "node_index"];
/// Columns that are no features of a node.
pub(super) const LABELS: [&str; 6] = ["label", "labels", "y", "class", "category", "node_label"];

/// Bytes that are looked at to find the separator and the heading.
const SNIFFED: u64 = 1 << 16;

/// A table line by line, all of as many fields.
struct Sheet<'p> {
    path: &'p Path,
    reader: csv::Reader<Box<dyn Read>>,
    first: Option<StringRecord>,
    /// What the last comment before the first line says, field by field.
    comment: Vec<String>,
    width: usize,
}

impl<'p> Sheet<'p> {
    fn open(path: &'p Path) -> Result<Self> {
        let mut from = opened(path)?;
        let mut start = Vec::new();
        from.by_ref()
            .take(SNIFFED)
            .read_to_end(&mut start)
            .map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
        if start.starts_with(b"\xef\xbb\xbf") {
            start.drain(..3);
        }
        let (separator, comment) = sniffed(&start);
        let whole: Box<dyn Read> = Box::new(Cursor::new(start).chain(from));
        let mut builder = csv::ReaderBuilder::new();
        builder
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .comment(Some(b'#'));
        let mut sheet =
            Self { path, reader: builder.from_reader(whole), first: None, comment, width: 0 };
        let mut first = StringRecord::new();
        if sheet.read(&mut first)? {
            sheet.width = first.len();
            sheet.first = Some(first);
        }
        Ok(sheet)
    }

    /// The first line, which is taken as a heading if it is one.
    fn heading(&mut self, is_heading: impl Fn(&StringRecord) -> bool) -> Option<Vec<String>> {
        self.first
            .take_if(|first| is_heading(first))
            .map(|first| first.iter().map(String::from).collect())
    }

    fn read(&mut self, record: &mut StringRecord) -> Result<bool> {
        self.reader.read_record(record).map_err(|error| {
            let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Error::file(self.path, format!("cannot be read: {words}"))
        })
    }

    /// The next line, and its number.
    fn next(&mut self, record: &mut StringRecord) -> Result<Option<u64>> {
        match self.first.take() {
            Some(first) => *record = first,
            None if !self.read(record)? => return Ok(None),
            None => {}
        }
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != self.width {
            return Err(self.wrong(format!(
                "line {line} has {} fields, the first line {}",
                record.len(),
                self.width
            )));
        }
        Ok(Some(line))
    }

    fn wrong(&self, problem: String) -> Error {
        Error::file(self.path, problem)
    }

    fn not_a_number(&self, line: u64, field: &str, expected: &str) -> Error {
        self.wrong(format!("line {line}: `{}` is not {expected}", shown(field)))
    }
}

/// The separator that the first line has most of, and the fields of the comment before it.
fn sniffed(start: &[u8]) -> (u8, Vec<String>) {
    let text = String::from_utf8_lossy(start);
    let (mut comment, mut first) = ("", "");
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(words) => comment = words,
            None if line.trim().is_empty() => {}
            None => {
                first = line;
                break;
            }
        }
    }
    let count = |separator: u8| first.bytes().filter(|byte| *byte == separator).count();
    // Of equal counts the first.
    let separator =
        [b';', b'\t', b','].into_iter().max_by_key(|&separator| count(separator)).unwrap_or(b',');
    let fields = comment
        .trim_start_matches('#')
        .split(char::from(separator))
        .map(|field| field.trim().to_string())
        .collect();
    (separator, fields)
}

fn shown(field: &str) -> String {
    field.chars().take(20).collect()
}

/// A name of a column without what people write differently.
fn plain(name: &str) -> String {
    let name = name.trim().to_lowercase().replace([' ', '-'], "_");
    // What pandas calls a column without a name once it was written and read.
    if name.starts_with("unnamed:") { String::new() } else { name }
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.contains(&plain(name).as_str())
}

fn is_numbers(record: &StringRecord) -> bool {
    record.iter().all(|field| field.parse::<f64>().is_ok())
}

/// What a column of an edge list is.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Source,
    Target,
    Weight,
    Counter,
}

fn role(name: &str) -> Option<Role> {
    let known = [
        (&SOURCES[..], Role::Source),
        (&TARGETS, Role::Target),
        (&WEIGHTS, Role::Weight),
        (&COUNTERS, Role::Counter),
    ];
    known.into_iter().find(|(names, _)| is_one_of(name, names)).map(|(_, role)| role)
}

/// The roles of columns by their names.
fn roles(heading: &[String]) -> std::result::Result<Vec<Role>, String> {
    let mut found = Vec::with_capacity(heading.len());
    for name in heading {
        let Some(role) = role(name) else {
            return Err(format!(
                "the heading names a column `{}`, which is none of source, target and weight (or src and dst, from and to, u and v); \
                 rename it or take it out",
                shown(name)
            ));
        };
        if found.contains(&role) {
            return Err(format!(
                "the heading names two columns for one thing, the second `{}`; keep one",
                shown(name)
            ));
        }
        found.push(role);
    }
    match [(Role::Source, "source"), (Role::Target, "target")]
        .into_iter()
        .find(|(role, _)| !found.contains(role))
    {
        Some((_, name)) => Err(format!(
            "the heading names no column `{name}`; it may be source,target or source,target,weight"
        )),
        None => Ok(found),
    }
}

/// A column that numbers the lines from 0 or 1: checked line by line, since a column that does not
/// is something else.
struct Counter {
    column: usize,
    name: String,
    next: Option<i64>,
}

impl Counter {
    fn new(column: usize, name: &str) -> Self {
        Self { column, name: name.into(), next: None }
    }

    fn check(&mut self, sheet: &Sheet, line: u64, record: &StringRecord) -> Result<()> {
        let value = record[self.column].parse().ok().and_then(|v| whole(v, MOST_IN_F64).ok());
        let counts = value.filter(|v| self.next.map_or(*v == 0 || *v == 1, |next| *v == next));
        self.next = Some(
            1 + counts.ok_or_else(|| {
                let (name, found) = (shown(&self.name), shown(&record[self.column]));
                sheet.wrong(format!(
                    "the column `{name}` holds `{found}` in line {line} and does not number the lines; name it or take it out"
                ))
            })?,
        );
        Ok(())
    }

    fn note(&self) -> String {
        format!("the column `{}` numbers the lines and is not read", shown(&self.name))
    }
}

/// Edges of a list.
pub(super) struct Edges {
    pub list: Vec<(usize, usize, f32)>,
    pub notes: Vec<String>,
}

/// Reads the list of edges of `nodes` nodes: `source,target` or `source,target,weight`, in the
/// order that the heading gives, or in this one.
///
/// # Errors
/// [`Error::File`] with the line or the column.
pub(super) fn edges(path: &Path, nodes: usize) -> Result<Edges> {
    let mut sheet = Sheet::open(path)?;
    let mut notes = Vec::new();
    let heading = sheet.heading(|first| !is_numbers(first));
    let commented =
        (heading.is_none() && sheet.comment.len() == sheet.width).then(|| sheet.comment.clone());
    let roles = match (&heading, commented.and_then(|names| roles(&names).ok())) {
        (Some(names), _) => roles(names).map_err(|problem| sheet.wrong(problem))?,
        (None, Some(roles)) => roles,
        (None, None) => match sheet.width {
            0 => Vec::new(),
            width @ 2..=3 => {
                let names = ["source", "target", "weight"][..width].join(", ");
                notes.push(format!(
                    "the list of edges has no heading, and its columns are taken for {names}"
                ));
                [Role::Source, Role::Target, Role::Weight][..width].to_vec()
            }
            width => {
                return Err(sheet.wrong(format!(
                    "line 1 has {width} fields, expected source, target and at most a weight"
                )));
            }
        },
    };
    let place = |role| roles.iter().position(|found| *found == role);
    let name = |column: usize| heading.as_ref().map_or("", |names| names[column].as_str());
    let (source, target, weight) = (place(Role::Source), place(Role::Target), place(Role::Weight));
    let mut counter = place(Role::Counter).map(|column| Counter::new(column, name(column)));
    let mut list = Vec::new();
    let mut record = StringRecord::new();
    while let Some(line) = sheet.next(&mut record)? {
        let end = |column: Option<usize>| {
            let field = &record[column.expect("a list with lines has both ends")];
            let expected = "the number of a node: nodes are counted from 0";
            let value: f64 =
                field.parse().map_err(|_| sheet.not_a_number(line, field, expected))?;
            match value {
                v if v >= 0.0 && v.fract() == 0.0 && v < nodes as f64 => Ok(v as usize),
                v => Err(sheet.wrong(format!(
                    "edge {} names the node {v}; nodes are 0 to {}",
                    list.len(),
                    nodes.saturating_sub(1)
                ))),
            }
        };
        let (source, target) = (end(source)?, end(target)?);
        let weight = weight.map_or(Ok(1.0), |column| {
            record[column]
                .parse::<f32>()
                .map_err(|_| sheet.not_a_number(line, &record[column], "the number of a weight"))
        })?;
        if let Some(counter) = &mut counter {
            counter.check(&sheet, line, &record)?;
        }
        list.push((source, target, weight));
    }
    notes.extend(counter.map(|counter| counter.note()));
    Ok(Edges { list, notes })
}

/// Reads features, a line per node: of the node that a column `node` names, or else by place.
///
/// # Errors
/// [`Error::File`] with the line or the column.
pub(super) fn features(path: &Path) -> Result<(Array2<f32>, Vec<String>)> {
    let mut sheet = Sheet::open(path)?;
    let heading = sheet.heading(|first| !is_numbers(first)).unwrap_or_default();
    let mut notes = Vec::new();
    if let Some(name) = heading.iter().find(|name| is_one_of(name, &LABELS)) {
        return Err(sheet.wrong(format!(
            "the column `{}` is named like labels and is no feature; take it out",
            shown(name)
        )));
    }
    let mut key = Key::of(&sheet, &heading)?;
    let (mut values, mut rows) = (Vec::new(), 0);
    let mut record = StringRecord::new();
    while let Some(line) = sheet.next(&mut record)? {
        key.read(&sheet, line, &record)?;
        for (column, field) in
            record.iter().enumerate().filter(|(column, _)| Some(*column) != key.column())
        {
            let expected = format!("a number (column {})", column + 1);
            values.push(
                field.parse::<f32>().map_err(|_| sheet.not_a_number(line, field, &expected))?,
            );
        }
        rows += 1;
    }
    let width = sheet.width - usize::from(key.column().is_some());
    let features = Array2::from_shape_vec((rows, width), values).expect("every line has the width");
    let features = match key.places(&sheet, rows)? {
        None => features,
        Some(nodes) => {
            if let Some(node) = nodes.iter().position(Option::is_none) {
                return Err(sheet.wrong(format!(
                    "node {node} has no line of features; nodes are counted from 0"
                )));
            }
            features.select(ndarray::Axis(0), &nodes.into_iter().flatten().collect::<Vec<_>>())
        }
    };
    notes.extend(key.note());
    Ok((features, notes))
}

/// What says which node a line is of.
enum Key {
    /// Its place.
    Place,
    /// Its place, beside a column that counts.
    Counter(Counter),
    /// A column.
    Column(usize, Vec<usize>),
}

impl Key {
    fn of(sheet: &Sheet, heading: &[String]) -> Result<Self> {
        let columns: Vec<usize> = (0..heading.len())
            .filter(|&c| is_one_of(&heading[c], &NODES) || is_one_of(&heading[c], &COUNTERS[..2]))
            .collect();
        match columns[..] {
            [] => Ok(Key::Place),
            [column] if is_one_of(&heading[column], &NODES) => Ok(Key::Column(column, Vec::new())),
            [column] => Ok(Key::Counter(Counter::new(column, &heading[column]))),
            [first, second, ..] => {
                let (first, second) = (shown(&heading[first]), shown(&heading[second]));
                Err(sheet.wrong(format!("the columns `{first}` and `{second}` both look like the number of the node; keep one")))
            }
        }
    }

    fn column(&self) -> Option<usize> {
        match self {
            Key::Place => None,
            Key::Counter(counter) => Some(counter.column),
            Key::Column(column, _) => Some(*column),
        }
    }

    fn read(&mut self, sheet: &Sheet, line: u64, record: &StringRecord) -> Result<()> {
        match self {
            Key::Place => Ok(()),
            Key::Counter(counter) => counter.check(sheet, line, record),
            Key::Column(column, nodes) => {
                let node = record[*column]
                    .parse()
                    .ok()
                    .and_then(|v| whole(v, MOST_IN_F64).ok())
                    .and_then(|v| usize::try_from(v).ok());
                nodes.push(node.ok_or_else(|| {
                    sheet.not_a_number(
                        line,
                        &record[*column],
                        "the number of a node: nodes are counted from 0",
                    )
                })?);
                Ok(())
            }
        }
    }

    /// The line of each node, where a column says; nothing where the place does.
    fn places(&self, sheet: &Sheet, count: usize) -> Result<Option<Vec<Option<usize>>>> {
        let Key::Column(_, nodes) = self else { return Ok(None) };
        let mut places = vec![None; count];
        for (line, &node) in nodes.iter().enumerate() {
            match places.get_mut(node) {
                Some(place @ None) => *place = Some(line),
                Some(Some(_)) => return Err(sheet.wrong(format!("node {node} has two lines"))),
                None => {
                    return Err(sheet.wrong(format!(
                        "names the node {node}; nodes are 0 to {}",
                        count.saturating_sub(1)
                    )));
                }
            }
        }
        Ok(Some(places))
    }

    fn note(&self) -> Option<String> {
        if let Key::Counter(counter) = self { Some(counter.note()) } else { None }
    }
}

/// A word for each node that has one.
pub(super) struct Words {
    /// Its place in `words`.
    pub of_nodes: Vec<Option<u32>>,
    pub words: Vec<String>,
    pub notes: Vec<String>,
}

/// Reads a word per node: a column of them in the order of the nodes, or one beside a column
/// `node`. `names` are what the column of words may be called where there are others. An empty
/// field, `NaN` or `NA` is none.
///
/// # Errors
/// [`Error::File`] with the line or the column.
pub(super) fn of_nodes(path: &Path, nodes: usize, names: &[&str], what: &str) -> Result<Words> {
    let mut sheet = Sheet::open(path)?;
    let mut notes = Vec::new();
    let is_key = |name: &str| is_one_of(name, &NODES) || is_one_of(name, &COUNTERS[..2]);
    let heading = match sheet.width {
        // Whether the first line of one column is a name or a word can be told by the number of
        // lines alone.
        0 | 1 => Vec::new(),
        width => sheet.heading(|first| first.iter().any(is_key)).ok_or_else(|| {
            sheet.wrong(format!(
                "has {width} columns and no heading that says which is which; give {what} in one, or name them node,{}",
                names[0]
            ))
        })?,
    };
    let mut key = Key::of(&sheet, &heading)?;
    let others: Vec<usize> =
        (0..sheet.width).filter(|&column| Some(column) != key.column()).collect();
    let named: Vec<usize> = others
        .iter()
        .copied()
        .filter(|&column| heading.get(column).is_some_and(|name| is_one_of(name, names)))
        .collect();
    let column = match (&others[..], &named[..]) {
        ([], _) => 0,
        ([only], _) | (_, [only]) => *only,
        _ => {
            return Err(sheet.wrong(format!(
                "the heading does not say which column is {what}; name one `{}`",
                names[0]
            )));
        }
    };
    let unread: Vec<String> = others
        .iter()
        .filter(|other| **other != column)
        .map(|&other| format!("`{}`", shown(&heading[other])))
        .collect();
    if !unread.is_empty() {
        notes.push(format!(
            "columns that are not read: {}",
            super::listed::listed(unread.into_iter())
        ));
    }
    let (mut words, mut known, mut found) = (Vec::new(), HashMap::new(), Vec::new());
    let mut record = StringRecord::new();
    while let Some(line) = sheet.next(&mut record)? {
        key.read(&sheet, line, &record)?;
        let word = &record[column];
        let missing = word.is_empty()
            || ["nan", "na", "<na>", "null"].contains(&word.to_ascii_lowercase().as_str());
        found.push((!missing).then(|| match known.get(word) {
            Some(&place) => place,
            None => {
                words.push(word.to_string());
                known.insert(word.to_string(), words.len() as u32 - 1);
                words.len() as u32 - 1
            }
        }));
    }
    // A number is none, so that a line too many is not taken for one.
    if sheet.width == 1
        && found.len() == nodes + 1
        && let Some(&Some(first)) = found.first()
        && words[first as usize].parse::<f64>().is_err()
    {
        if !is_one_of(&words[first as usize], names) {
            notes.push(format!(
                "the first of {} lines of one column, `{}`, is taken for its heading",
                nodes + 1,
                shown(&words[first as usize])
            ));
        }
        found.remove(0);
    }
    let of_nodes = match key.places(&sheet, nodes)? {
        Some(places) => {
            places.into_iter().map(|place| place.and_then(|place| found[place])).collect()
        }
        None if found.len() == nodes => found,
        None => {
            let problem = format!(
                "has {} lines, and there are {nodes} nodes; empty lines do not count: write -1 for a node without",
                found.len()
            );
            return Err(sheet.wrong(problem));
        }
    };
    notes.extend(key.note());
    Ok(Words { of_nodes, words, notes })
}
