//! The rooms of the crate stand on floors, and an import goes only to a lower one. Those of
//! `core/src`, a crate of its own below this one, are named as if they stood in `src`.

use gnn_prune::nn::Registry;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of each floor, from the ground up; rooms of one floor do not import each other, except
/// on the ground.
const FLOORS: [&[&str]; 10] = [
    &["error", "log", "scalar", "value", "seed", "rng", "files"],
    &["kernels"],
    &["graph"],
    &["nn", "data"],
    &["task"],
    &["models", "program", "train", "reconstruct"],
    &["prune", "quant", "distill", "baseline"],
    &["io", "testing"],
    &["report"],
    &["pipeline"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// A source file of the library without comments and without what is compiled for tests only.
pub(crate) struct Source {
    /// Path from `src` or from `core/src`: `nn/conv/gcn_conv.rs`.
    pub(crate) path: PathBuf,
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Source {
    fn room(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs").to_string()
    }

    /// Path from the root of the repository.
    fn place(&self) -> String {
        let root = if src().join(&self.path).exists() { "src" } else { "core/src" };
        format!("{root}/{}", self.path.display())
    }

    /// How many `super::` lead to the crate's root from the top of the file.
    fn depth(&self) -> usize {
        let parts = self.path.components().count();
        if self.path.ends_with("mod.rs") { parts - 1 } else { parts }
    }
}

pub(crate) fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn core() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("core/src")
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_under(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file under `core/src` and `src`, programs included; `code` of a file that is a test module
/// is empty.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files_under(&core(), &mut paths);
    files_under(&src(), &mut paths);
    let mut sources = Vec::new();
    let mut only_tests = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (code, modules) = without_tests(&without_comments(&text));
        let parent = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
            path.parent().unwrap().into()
        } else {
            path.with_extension("")
        };
        only_tests.extend(modules.into_iter().map(|module| parent.join(module)));
        sources.push((path, code, text));
    }
    let is_test = |path: &Path| {
        only_tests
            .iter()
            .any(|module| path.with_extension("") == *module || path.starts_with(module))
    };
    let source = |(path, code, text): (PathBuf, String, String)| Source {
        code: if is_test(&path) { String::new() } else { code },
        path: path.strip_prefix(src()).or(path.strip_prefix(core())).unwrap().into(),
        text,
    };
    sources.into_iter().map(source).collect()
}

/// Sources of the library, that is without `lib.rs`, which only names rooms, and the programs.
pub(crate) fn library() -> Vec<Source> {
    sources()
        .into_iter()
        .filter(|source| !source.path.starts_with("bin") && !source.path.ends_with("lib.rs"))
        .collect()
}

pub(crate) fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Drops every item after `#[cfg(test)]`, and names the modules among them that have a file of
/// their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let item = lines.by_ref().find(|line| !line.trim().starts_with("#[")).unwrap_or_default();
        if let Some(module) = item
            .trim()
            .trim_start_matches("pub(crate) ")
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            modules.push(module.to_string());
        }
        if !item.trim_end().ends_with(';') && !item.trim_end().ends_with('}') {
            // Formatted code closes an item at its own indentation.
            lines.by_ref().find(|line| line.starts_with(&format!("{indent}}}")));
        }
    }
    (kept.join("\n"), modules)
}

/// What the first segment of a path from the crate's root may be: names re-exported in `lib.rs`,
/// with their rooms.
fn reexports() -> BTreeMap<String, String> {
    let lib = without_comments(&fs::read_to_string(src().join("lib.rs")).unwrap());
    let mut rooms = BTreeMap::new();
    for statement in lib.split(';') {
        let Some(path) = statement.trim().strip_prefix("pub use ") else { continue };
        let Some((room, names)) = path.split_once("::") else { continue };
        for name in names.trim_matches(['{', '}']).split(',') {
            rooms.insert(name.trim().to_string(), room.to_string());
        }
    }
    rooms
}

/// The first segments of `{a::B, c}` or of `a::B`.
fn first_segments(path: &str) -> Vec<String> {
    let segment = |path: &str| {
        path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![segment(path)] };
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items.iter().map(|item| segment(item)).filter(|item| !item.is_empty()).collect()
}

/// Everything that a file names from the crate's root.
fn imports(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate::".to_string(), "super::".repeat(source.depth())] {
        for (at, _) in source.code.match_indices(&prefix) {
            let before = source.code[..at].chars().next_back().unwrap_or(' ');
            if !before.is_alphanumeric() && before != '_' && before != ':' {
                found.extend(first_segments(&source.code[at + prefix.len()..]));
            }
        }
    }
    found
}

#[test]
fn every_room_has_a_floor() {
    for source in library() {
        assert!(floor(&source.room()).is_some(), "{} is in a room without a floor", source.place());
    }
}

#[test]
fn imports_go_to_lower_floors_only() {
    let reexports = reexports();
    assert!(reexports.len() > 10, "the re-exports of lib.rs are not understood");
    let (mut checked, mut wrong) = (0, Vec::new());
    for source in library() {
        let room = source.room();
        let own = floor(&room).unwrap();
        for name in imports(&source) {
            let target = reexports.get(&name).unwrap_or(&name);
            checked += 1;
            let allowed = match floor(target) {
                Some(other) => *target == room || other < own || (other == own && own == 0),
                // What is no room and no re-export the compiler would refuse; only `super` of an
                // inner module gets here.
                None => !source.code.contains(&format!("crate::{name}")),
            };
            if !allowed {
                wrong.push(format!("{} imports {target}", source.place()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 200, "only {checked} imports were found");
}

#[test]
fn the_parser_sees_what_it_must() {
    let (code, modules) = without_tests(
        "use crate::nn::X;\n#[cfg(test)]\nmod cases;\n#[cfg(test)]\nmod tests {\n    use crate::io;\n}\nfn f() {}",
    );
    assert_eq!(
        (code.as_str(), modules),
        ("use crate::nn::X;\nfn f() {}", vec!["cases".to_string()])
    );
    let source = |path: &str, code: &str| Source {
        path: path.into(),
        code: code.into(),
        text: String::new(),
    };
    assert_eq!(
        imports(&source(
            "nn/a.rs",
            "use crate::{graph::{A, B}, io};\nfn f() { crate::train::g() }"
        )),
        ["graph", "io", "train"]
    );
    assert_eq!(
        imports(&source("nn/a.rs", "use super::super::io::X; use super::param::Y;")),
        ["io"]
    );
    assert_eq!(imports(&source("value.rs", "use super::nn::X;")), ["nn"]);
}

#[test]
fn unsafe_code_lives_under_kernels_only() {
    let is_word = |code: &str, at: usize| {
        !code[at + "unsafe".len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    for source in sources() {
        let code = without_comments(&source.text);
        let uses = code.match_indices("unsafe").any(|(at, _)| is_word(&code, at))
            || code.contains("allow(unsafe_code)");
        assert!(!uses || source.path.starts_with("kernels"), "{} has unsafe code", source.place());
    }
    for lib in [src(), core()].map(|root| fs::read_to_string(root.join("lib.rs")).unwrap()) {
        assert!(lib.contains("#![deny(unsafe_code)]"));
    }
}

/// Kernels are no interface: the library shows them to its tests and benches alone.
#[test]
fn kernels_are_the_crate_s_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = without_comments(&fs::read_to_string(src().join("lib.rs")).unwrap());
    assert!(lib.contains("pub(crate) use gnn_prune_core::kernels;"));
    assert!(!lib.contains("pub use gnn_prune_core::kernels;"));
    let below = fs::read_to_string(core().join("lib.rs")).unwrap();
    assert!(below.contains("#[doc(hidden)]\npub mod kernels;"));
    let door = lib.split("pub mod __kernels").nth(1).expect("tests and benches have a door");
    let inside = door.split('}').next().unwrap().trim_start_matches([' ', '{', '\n']);
    assert!(
        inside.lines().all(|line| line.trim().is_empty() || line.trim().starts_with("pub use ")),
        "__kernels holds more than re-exports: {inside}"
    );
    let mut programs = Vec::new();
    files_under(&root.join("examples"), &mut programs);
    assert!(!programs.is_empty());
    let examples = programs.iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let own = sources().into_iter().map(|source| (source.path, source.text));
    // What is below is taken through `lib.rs`, so that an import names its room.
    for (path, text) in own.filter(|(path, _)| !path.ends_with("lib.rs")).chain(examples) {
        let text = without_comments(&text);
        let below = text.contains("gnn_prune_core") && !path.ends_with("rng.rs");
        let door = text.contains("__kernels") || below;
        assert!(!door, "{} takes kernels by the back door", path.display());
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for source in sources().iter().filter(|source| source.path.starts_with("kernels")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (k, line) in
            lines.iter().enumerate().filter(|(_, line)| without_comments(line).contains("unsafe {"))
        {
            // Inside an `unsafe fn` the reason is the function's own contract.
            let reason = lines[k.saturating_sub(4)..=k]
                .iter()
                .any(|line| line.contains("SAFETY") || line.contains("unsafe fn"));
            assert!(reason, "{}:{}: {line}", source.place(), k + 1);
        }
    }
}

#[test]
fn every_registered_layer_names_its_source_and_its_shapes() {
    let sources = library();
    for entry in Registry::<f32>::standard().entries() {
        let kind = format!("const KIND: &'static str = \"{}\";", entry.kind());
        let source = sources
            .iter()
            .find(|source| source.code.contains(&kind))
            .unwrap_or_else(|| panic!("no file says `{kind}`"));
        let docs: Vec<&str> =
            source.text.lines().filter_map(|line| line.trim().strip_prefix("///")).collect();
        for word in ["*Source*", "*Shapes*"] {
            assert!(
                docs.iter().any(|line| line.contains(word)),
                "{}: its docs have no {word}",
                source.place()
            );
        }
    }
}

/// `rustfmt` leaves comments and strings as they are. Tables and code in docs, addresses and
/// strings may be longer.
#[test]
fn comments_are_no_wider_than_code() {
    for source in sources() {
        let mut code = false;
        for (k, line) in source.text.lines().enumerate() {
            let Some(words) = line.trim_start().strip_prefix("//") else { continue };
            let words = words.trim_start_matches(['/', '!']).trim_start();
            code ^= words.starts_with("```");
            let free = code || words.starts_with('|') || words.contains("http");
            let width = line.chars().count();
            assert!(free || width <= 100, "{}:{} has {width}", source.place(), k + 1);
        }
    }
}

/// A line that has moved takes a change of `tests/mutants` with it, or that program would run
/// without it.
#[test]
fn every_listed_change_has_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lists =
        fs::read_dir(root.join("tests/mutants")).unwrap().map(|entry| entry.unwrap().path());
    let mut listed = 0;
    for list in lists.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let list: toml::Table = fs::read_to_string(list).unwrap().parse().unwrap();
        for mutant in list["mutant"].as_array().unwrap() {
            let word = |key: &str| mutant[key].as_str().unwrap();
            let text = fs::read_to_string(root.join(word("file")))
                .unwrap_or_else(|error| panic!("{}: {error}", word("file")));
            let found = text.matches(&word("at").replace(['«', '»'], "")).count();
            assert_eq!(found, 1, "{} has so many times {:?}", word("file"), word("at"));
            listed += 1;
        }
    }
    assert!(listed > 200, "only {listed} changes are listed");
}
