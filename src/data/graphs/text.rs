//! Graphs as one text file, as the repository of Xu et al. 2019 has them.

use super::lines::{Line, Lines};
use super::listed::Listed;
use super::set::GraphSet;
use crate::error::Result;
use std::path::Path;

/// Whether a file is one of PyTorch, by its name.
fn of_pytorch(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "pt" || extension == "pth")
}

#[cfg(feature = "pt")]
mod pytorch {
    use super::{GraphSet, Path, Result};
    use crate::files::Tensors;

    pub fn are_graphs(file: &Path) -> bool {
        Tensors::are_graphs(file)
    }

    pub fn read(file: &Path) -> Result<GraphSet> {
        GraphSet::read_pyg(file)
    }
}

#[cfg(not(feature = "pt"))]
mod pytorch {
    use super::{GraphSet, Path, Result};
    use crate::error::Error;

    pub fn are_graphs(_: &Path) -> bool {
        false
    }

    pub fn read(file: &Path) -> Result<GraphSet> {
        Err(Error::file(file, "is a file of PyTorch, which is read with the feature `pt`"))
    }
}

impl GraphSet<f32> {
    /// Whether a folder holds graphs that [`GraphSet::read`] reads: the text file of its name, or
    /// one whose name ends in `_A.txt` beside one that ends in `_graph_indicator.txt`; or whether a
    /// file is one of several graphs of PyTorch Geometric.
    pub fn are_in(folder: &Path) -> bool {
        if folder.is_file() {
            return of_pytorch(folder) && pytorch::are_graphs(folder);
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if folder.join(format!("{name}.txt")).is_file() {
            return true;
        }
        let ends = |ending: &str| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.map(|file| file.file_name()).any(|name| name.to_string_lossy().ends_with(ending))
        };
        ends("_A.txt") && ends("_graph_indicator.txt")
    }

    /// Reads `path`, whichever it is: a folder by [`GraphSet::read_tu`], a `.pt` or `.pth` file by
    /// `GraphSet::read_pyg` (feature `pt`), another by [`GraphSet::read_text`]. Of a folder with no
    /// file as TU Dortmund has them, the text file of the folder's name is read.
    ///
    /// # Errors
    /// As theirs.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = path.join(format!("{name}.txt"));
        match path.is_dir() {
            true if text.is_file() => Self::read_text(text),
            true => Self::read_tu(path),
            false if of_pytorch(path) => pytorch::read(path),
            false => Self::read_text(path),
        }
    }

    /// Reads the text form of Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019:
    ///
    /// ```text
    /// number of graphs
    /// n label                                   for each graph, then for each of its n nodes
    /// tag degree neighbour neighbour … attribute attribute …
    /// ```
    ///
    /// Neighbours are nodes of the graph, counted from 0; an edge leads both ways, whichever node
    /// lists it. Features are a one for the tag of the node, tags in sorted order, and the
    /// attributes after them; where all tags are equal and there are no attributes, the number of
    /// neighbours stands for the tag. Classes are the labels in sorted order.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) with the line: for what is no number, counts that lines
    /// do not have, a neighbour that there is not, attributes of another number than before, a
    /// graph without nodes, and lines after the last graph.
    pub fn read_text(path: impl AsRef<Path>) -> Result<Self> {
        let lines = Lines::read(path.as_ref())?;
        let name = path.as_ref().file_stem().unwrap_or_default().to_string_lossy();
        let mut listed = Listed {
            name: name.into_owned(),
            undirected: true,
            bytes: lines.bytes(),
            ..Listed::default()
        };
        listed.tags.width = 1;
        let mut rest = lines.iter();
        let first = rest.next().ok_or_else(|| lines.wrong("is empty"))?;
        let graphs: usize = first.number(first.text, "the number of graphs")?;
        let mut width = None;
        for graph in 0..graphs {
            let Some(head) = rest.next() else {
                return Err(lines.wrong(format!("ends after {graph} of {graphs} graphs")));
            };
            let [nodes, label] = head.words().collect::<Vec<_>>()[..] else {
                return Err(head.wrong("a graph begins with `nodes label`"));
            };
            let nodes: usize = head.number(nodes, "a number of nodes")?;
            listed.labels.push(head.number(label, "the label of a graph, a whole number")?);
            if nodes == 0 {
                return Err(head.wrong("a graph has at least one node"));
            }
            let start = listed.tags.values.len();
            for node in 0..nodes {
                let Some(line) = rest.next() else {
                    return Err(lines.wrong(format!(
                        "ends after {node} of the {nodes} nodes of the graph in line {}",
                        head.number
                    )));
                };
                read_node(&line, (start, nodes, node), &mut listed, &mut width)?;
            }
            listed.sizes.push(nodes);
        }
        match rest.next() {
            Some(line) => {
                Err(line.wrong(format!("there are {graphs} graphs in line {}", first.number)))
            }
            None => listed.into_set(lines.path()),
        }
    }
}

/// Reads the line of one of the `nodes` nodes of a graph whose first is the node `start` of all.
fn read_node(
    line: &Line,
    (start, nodes, node): (usize, usize, usize),
    listed: &mut Listed,
    width: &mut Option<usize>,
) -> Result<()> {
    let mut words = line.words();
    let mut next = |what: &str| {
        words.next().ok_or_else(|| line.wrong(format!("ends before {what} of the node")))
    };
    let tag = next("the tag")?;
    listed.tags.values.push(line.number(tag, "the tag of a node, a whole number")?);
    let degree: usize = line.number(next("the degree")?, "a number of neighbours")?;
    for k in 0..degree {
        let word = next(&format!("neighbour {} of {degree}", k + 1))?;
        let neighbour: usize = line.number(word, "the number of a neighbour")?;
        if neighbour >= nodes {
            let legal = format!("nodes of this graph are 0 to {}", nodes - 1);
            return Err(line.wrong(format!("neighbour {neighbour} is not there; {legal}")));
        }
        listed.edges.push((start + neighbour, start + node));
    }
    let before = listed.attributes.values.len();
    for word in words {
        listed.attributes.values.push(line.finite(word)?);
    }
    let own = listed.attributes.values.len() - before;
    let expected = *width.get_or_insert(own);
    if own != expected {
        return Err(line.wrong(format!(
            "has {own} numbers after its neighbours, and the first node has {expected}"
        )));
    }
    listed.attributes.width = expected;
    Ok(())
}
