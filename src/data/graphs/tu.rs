//! Graphs as a folder of text files, as TU Dortmund has them.

use super::lines::Lines;
use super::listed::{Listed, Table};
use super::set::GraphSet;
use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What the file of the edges ends in, after the name of the set.
const EDGES: &str = "_A.txt";

impl GraphSet<f32> {
    /// Reads a folder as those of TU Dortmund (Morris et al., "TUDataset", GRL+ workshop at ICML
    /// 2020), for a set called `DS`:
    ///
    /// | file | a line for each | holds |
    /// |---|---|---|
    /// | `DS_A.txt` | edge | source and target, nodes counted from 1 through all graphs |
    /// | `DS_graph_indicator.txt` | node | its graph, counted from 1, in ascending order |
    /// | `DS_graph_labels.txt` | graph | its class, a whole number |
    /// | `DS_node_labels.txt`, not always there | node | its category, or several |
    /// | `DS_node_attributes.txt`, not always there | node | numbers |
    /// | `DS_edge_labels.txt`, `DS_edge_attributes.txt`, not always there | edge | as for nodes |
    ///
    /// Edges lead where they are listed to, and an undirected one is listed both ways; one that is
    /// listed twice counts once. Features are a one for each category of the node, categories in
    /// sorted order, and the attributes after them; where there are neither, or all categories are
    /// equal, the number of neighbours is the category. Edges have features in the same way, where
    /// they have labels or attributes. Classes are the labels in sorted order.
    ///
    /// # Errors
    /// [`Error::File`] with the line: for a file that is missing, what is no number, lines of
    /// another number than there are nodes, edges or graphs, rows of different lengths, a node or a
    /// graph that there is not, graphs out of order or without a node, an edge between two graphs,
    /// and one that is listed twice with different features.
    pub fn read_tu(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = Folder::find(folder.as_ref())?;
        let mut listed = Listed { name: folder.name.clone(), ..Listed::default() };
        let graph_of = folder.graphs(&mut listed)?;
        folder.edges(&graph_of, &mut listed)?;
        let (nodes, edges) = (graph_of.len(), listed.edges.len());
        let category = "a category, a whole number";
        listed.tags =
            folder.table("node_labels", nodes, "nodes", &mut listed.bytes, |line, f| {
                line.number(f, category)
            })?;
        listed.attributes =
            folder.table("node_attributes", nodes, "nodes", &mut listed.bytes, |line, f| {
                line.finite(f)
            })?;
        listed.edge_tags =
            folder.table("edge_labels", edges, "edges", &mut listed.bytes, |line, f| {
                line.number(f, category)
            })?;
        listed.edge_attributes =
            folder.table("edge_attributes", edges, "edges", &mut listed.bytes, |line, f| {
                line.finite(f)
            })?;
        listed.into_set(&folder.file("A"))
    }
}

/// A folder, and what the names of its files begin with.
struct Folder {
    path: PathBuf,
    name: String,
}

impl Folder {
    fn find(path: &Path) -> Result<Self> {
        let unread = |error| Error::file(path, format!("cannot be read: {error}"));
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(unread)? {
            let file = entry.map_err(unread)?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(EDGES)).map(String::from));
        }
        names.sort();
        match &names[..] {
            [name] => Ok(Self { path: path.into(), name: name.clone() }),
            [] => Err(Error::file(path, format!("holds no file `…{EDGES}` with edges of graphs"))),
            [a, b, ..] => Err(Error::file(
                path,
                format!("holds `{a}{EDGES}` and `{b}{EDGES}`; give a folder for each set"),
            )),
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.path.join(format!("{}_{what}.txt", self.name))
    }

    /// Reads sizes and labels of the graphs; returns the graph of each node.
    fn graphs(&self, listed: &mut Listed) -> Result<Vec<usize>> {
        let indicator = Lines::read(&self.file("graph_indicator"))?;
        let labels = Lines::read(&self.file("graph_labels"))?;
        listed.bytes += indicator.bytes() + labels.bytes();
        let mut graph_of = Vec::new();
        for line in indicator.iter() {
            let graph: usize = line.number(line.text, "the number of a graph")?;
            let open = listed.sizes.len();
            match graph {
                _ if graph == open && open > 0 => listed.sizes[open - 1] += 1,
                _ if graph == open + 1 => listed.sizes.push(1),
                _ => {
                    return Err(line.wrong(format!(
                        "graph {graph} follows graph {open}; graphs are counted from 1 and their nodes stand together, so {} may",
                        if open == 0 { "1".into() } else { format!("{open} or {}", open + 1) }
                    )));
                }
            }
            graph_of.push(graph - 1);
        }
        for line in labels.iter() {
            listed.labels.push(line.number(line.text, "the label of a graph, a whole number")?);
        }
        let (found, expected) = (listed.labels.len(), listed.sizes.len());
        if found == expected {
            return Ok(graph_of);
        }
        Err(labels.wrong(format!("has {found} labels, and nodes are of {expected} graphs")))
    }

    fn edges(&self, graph_of: &[usize], listed: &mut Listed) -> Result<()> {
        let lines = Lines::read(&self.file("A"))?;
        listed.bytes += lines.bytes();
        for line in lines.iter() {
            let [source, target] = line.fields().collect::<Vec<_>>()[..] else {
                return Err(line.wrong("an edge is `source, target`"));
            };
            let node = |field| match line.number::<usize>(field, "the number of a node")? {
                node if (1..=graph_of.len()).contains(&node) => Ok(node - 1),
                node => Err(line
                    .wrong(format!("node {node} is not there; nodes are 1 to {}", graph_of.len()))),
            };
            let (source, target) = (node(source)?, node(target)?);
            let [a, b] = [source, target].map(|node| graph_of[node] + 1);
            if a != b {
                return Err(line.wrong(format!("the edge leads from graph {a} into graph {b}")));
            }
            listed.edges.push((source, target));
        }
        Ok(())
    }

    /// The table of a file with `rows` lines; one without columns where the file is not there.
    fn table<T>(
        &self,
        what: &str,
        rows: usize,
        of: &str,
        bytes: &mut u64,
        number: impl Fn(&super::lines::Line, &str) -> Result<T>,
    ) -> Result<Table<T>> {
        let path = self.file(what);
        let mut table = Table::default();
        if !path.exists() {
            return Ok(table);
        }
        let lines = Lines::read(&path)?;
        *bytes += lines.bytes();
        let mut found = 0;
        for line in lines.iter() {
            let before = table.values.len();
            for field in line.fields() {
                table.values.push(number(&line, field)?);
            }
            let width = table.values.len() - before;
            if found == 0 {
                table.width = width;
            } else if width != table.width {
                let first = table.width;
                return Err(line.wrong(format!("has {width} numbers, and the first has {first}")));
            }
            found += 1;
        }
        if found != rows {
            return Err(lines.wrong(format!("has {found} lines, and there are {rows} {of}")));
        }
        Ok(table)
    }
}
