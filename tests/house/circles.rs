//! No file of the library imports, through whatever others, what imports it.

use super::layering::{Source, library, src, without_comments};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

type Path = Vec<String>;

/// The files as modules: a path from the crate's root, and what each names for others.
struct Modules {
    /// The file of each module.
    files: BTreeMap<Path, String>,
    /// What a module exports under a name, as a path from the root.
    exports: BTreeMap<Path, BTreeMap<String, Path>>,
}

fn module_of(source: &Source) -> Path {
    let path = source.path.with_extension("");
    let mut module: Path = path.iter().map(|part| part.to_str().unwrap().to_string()).collect();
    if source.path.ends_with("mod.rs") {
        module.pop();
    }
    module
}

/// The `use` statements of a file, each with whether it exports, and the code without them.
fn uses(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let start = line.trim_start();
        let exports = start.starts_with("pub");
        let bare = match start.strip_prefix("pub(") {
            Some(visible) => visible.split_once(") ").map_or("", |(_, bare)| bare),
            None => start.strip_prefix("pub ").unwrap_or(start),
        };
        let Some(tree) = bare.strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_string();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("a use statement ends").trim());
        }
        found.push((exports, tree.split(';').next().unwrap().to_string()));
    }
    (found, rest)
}

/// The paths of a tree of imports, each with the name that it has here.
fn leaves(tree: &str, prefix: &Path, found: &mut Vec<(Path, String)>) {
    let tree = tree.trim();
    if let Some(brace) = tree.find('{') {
        let mut prefix = prefix.clone();
        prefix.extend(segments(&tree[..brace]));
        let inside = &tree[brace + 1..tree.rfind('}').unwrap()];
        let (mut depth, mut from) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if c == ',' && depth == 0 {
                if !inside[from..at].trim().is_empty() {
                    leaves(&inside[from..at], &prefix, found);
                }
                from = at + 1;
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut whole = prefix.clone();
    whole.extend(segments(path));
    if whole.last().is_some_and(|last| last == "self") && whole.len() > 1 {
        whole.pop();
    }
    let name = if alias.is_empty() { whole.last().unwrap().clone() } else { alias.trim().into() };
    found.push((whole, name));
}

fn segments(path: &str) -> Path {
    path.split("::").map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect()
}

/// Every `a::b::c` of a piece of code.
fn chains(code: &str) -> Vec<Path> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let mut chain = Vec::new();
        loop {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            chain.push(rest[..end].to_string());
            rest = &rest[end..];
            match rest.strip_prefix("::") {
                Some(next) if next.starts_with(is_word) => rest = next,
                _ => break,
            }
        }
        if chain.len() > 1 {
            found.push(chain);
        }
    }
    found
}

impl Modules {
    fn of(sources: &[Source]) -> Self {
        let mut modules = Self { files: BTreeMap::new(), exports: BTreeMap::new() };
        for source in sources {
            modules.files.insert(module_of(source), source.path.display().to_string());
        }
        let lib = without_comments(&fs::read_to_string(src().join("lib.rs")).unwrap());
        let all = sources.iter().map(|source| (module_of(source), source.code.clone()));
        for (module, code) in all.chain([(Vec::new(), lib)]) {
            let mut named = BTreeMap::new();
            for (_, tree) in uses(&code).0.into_iter().filter(|(exports, _)| *exports) {
                let mut paths = Vec::new();
                leaves(&tree, &Vec::new(), &mut paths);
                for (path, name) in paths {
                    named.extend(modules.absolute(&module, &path).map(|path| (name, path)));
                }
            }
            modules.exports.insert(module, named);
        }
        modules
    }

    /// A path in a module as one from the root; `None` if it leads out of the crate.
    fn absolute(&self, module: &Path, path: &[String]) -> Option<Path> {
        let mut at = module.clone();
        let mut rest = path;
        match rest[0].as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            child => {
                at.push(child.to_string());
                return self.files.contains_key(&at).then(|| [at, rest[1..].to_vec()].concat());
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        Some([at, rest.to_vec()].concat())
    }

    /// The file where what a path from the root names is written.
    fn file(&self, path: &Path) -> Option<&String> {
        let known = |len: &usize| self.files.contains_key(&path[..*len]) || *len == 0;
        let len = (0..=path.len()).rev().find(known)?;
        let module = path[..len].to_vec();
        let export = path.get(len).and_then(|name| self.exports[&module].get(name));
        match export {
            Some(export) if export != path => {
                self.file(&[export.clone(), path[len + 1..].to_vec()].concat())
            }
            _ => self.files.get(&module),
        }
    }

    /// The files that a file imports.
    fn imports(&self, source: &Source) -> BTreeSet<String> {
        let module = module_of(source);
        let (trees, code) = uses(&source.code);
        let mut aliases = BTreeMap::new();
        let mut paths = Vec::new();
        for (exports, tree) in trees {
            let mut found = Vec::new();
            leaves(&tree, &Vec::new(), &mut found);
            for (path, name) in found {
                let Some(path) = self.absolute(&module, &path) else { continue };
                // A module that is named is not yet looked into, and what a folder hands on it
                // does not use.
                if self.files.contains_key(&path) {
                    aliases.insert(name, path);
                } else if !(exports && source.path.ends_with("mod.rs")) {
                    paths.push(path);
                }
            }
        }
        for chain in chains(&code) {
            match aliases.get(&chain[0]) {
                Some(alias) => paths.push([alias.clone(), chain[1..].to_vec()].concat()),
                None if ["crate", "self", "super"].contains(&chain[0].as_str()) => {
                    paths.extend(self.absolute(&module, &chain));
                }
                None => {}
            }
        }
        let own = source.path.display().to_string();
        paths
            .iter()
            .filter_map(|path| self.file(path))
            .filter(|file| **file != own)
            .cloned()
            .collect()
    }
}

/// The groups of files that reach each other.
fn groups(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for next in imports.get(file).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|file| (file, reached(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, seen) in &reach {
        let group: Vec<String> = seen
            .iter()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(*file)))
            .cloned()
            .collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = library();
    let modules = Modules::of(&sources);
    let imports: BTreeMap<String, BTreeSet<String>> = sources
        .iter()
        .map(|source| (source.path.display().to_string(), modules.imports(source)))
        .collect();
    let edges: usize = imports.values().map(BTreeSet::len).sum();
    assert!(edges > 600, "only {edges} imports were found");
    let circles = groups(&imports);
    let wrong: Vec<_> = circles
        .into_iter()
        .map(|circle| {
            let within = |file: &String| {
                let to: Vec<_> = imports[file].iter().filter(|to| circle.contains(to)).collect();
                format!("{file} -> {to:?}")
            };
            circle.iter().map(within).collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_are_followed_through_what_folders_hand_on() {
    let source = |path: &str, code: &str| Source {
        path: path.into(),
        code: code.into(),
        text: String::new(),
    };
    let sources = [
        source("a/mod.rs", "mod x;\nmod y;\npub use x::{Thing, other as renamed};\nfn own() {}"),
        source("a/x.rs", "use super::y::Y;\npub(crate) use crate::a::own;"),
        source("a/y.rs", "fn f() { super::renamed::<u8>() }"),
        source("b.rs", "use crate::{\n    a::{self, Thing},\n};\nfn g() { a::own(); Vec::new() }"),
    ];
    let modules = Modules::of(&sources);
    let of = |k: usize| modules.imports(&sources[k]).into_iter().collect::<Vec<_>>();
    assert_eq!(of(0), Vec::<String>::new());
    assert_eq!(of(1), ["a/mod.rs", "a/y.rs"]);
    assert_eq!(of(2), ["a/x.rs"]);
    assert_eq!(of(3), ["a/mod.rs", "a/x.rs"]);
    let imports = (0..4)
        .map(|k| (sources[k].path.display().to_string(), modules.imports(&sources[k])))
        .collect();
    assert_eq!(groups(&imports), [["a/x.rs", "a/y.rs"]]);
}
