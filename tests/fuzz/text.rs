//! Changes to tables and to words that keep them text.

use super::draw::Draw;

/// What a cell or a value may become.
const CELLS: [&str; 28] = [
    "",
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "-0.0",
    "1e3",
    "1e-3",
    "1e39",
    "1e400",
    "NaN",
    "inf",
    "-inf",
    "+1",
    "1_000",
    "0x10",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "\"1\"",
    "\"",
    "#",
    "x",
    "\u{1F980}",
];
/// Values of the words that settings have.
const VALUES: [&str; 20] = [
    "relu", "elu", "tanh", "max", "mean", "sum", "last", "graph", "node", "true", "false", "l1",
    "l2", "raw", "train", "all", "self", "gcn:8", "mlp:0", "",
];
/// Longest text that is made.
const MOST: usize = 1 << 16;

/// A table of lines and commas.
pub fn table(text: &str, other: &str, draw: &mut Draw) -> String {
    let mut rows: Vec<Vec<String>> =
        text.lines().map(|line| line.split(',').map(str::to_string).collect()).collect();
    for _ in 0..draw.few() {
        let (a, b) = (draw.below(rows.len()), draw.below(rows.len()));
        if rows.is_empty() {
            rows.push(vec![draw.word(&CELLS).into()]);
            continue;
        }
        let cell = draw.below(rows[a].len());
        match draw.below(12) {
            0..=3 if !rows[a].is_empty() => rows[a][cell] = draw.word(&CELLS).into(),
            4 => drop(rows.remove(a)),
            5 => {
                let times = if draw.one_in(10) { 1000 } else { 1 };
                let row = rows[a].clone();
                rows.splice(a..a, vec![row; times]);
            }
            6 => rows.swap(a, b),
            7 if !rows[a].is_empty() => drop(rows[a].remove(cell)),
            8 => rows[a].push(draw.word(&CELLS).into()),
            9 => rows.insert(0, vec!["source".into(), "target".into()]),
            10 => rows.insert(
                a,
                vec![draw.word(&["# said", "", " ", ",", "\"a\nb\"", "\r"]).to_string()],
            ),
            _ => rows.extend(
                other
                    .lines()
                    .skip(draw.below(10))
                    .take(3)
                    .map(|line| line.split(',').map(str::to_string).collect()),
            ),
        }
    }
    let (comma, end) = if draw.one_in(12) {
        (*draw.pick(&[";", "\t", ", "]), "\n")
    } else {
        (",", *draw.pick(&["\n", "\n", "\n", "\r\n"]))
    };
    let mut text: String = rows.iter().map(|row| row.join(comma) + end).collect();
    if draw.one_in(10) {
        text = text.trim_end().into();
    }
    cut(text)
}

fn cut(mut text: String) -> String {
    let most = (0..=MOST.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(most);
    text
}

/// Words between separators.
pub fn words(text: &str, other: &str, draw: &mut Draw) -> String {
    const SEPARATORS: [char; 7] = [',', '=', ':', ' ', '\n', '(', '\''];
    let mut parts: Vec<String> = text.split_inclusive(SEPARATORS).map(str::to_string).collect();
    let others: Vec<&str> = other.split_inclusive(SEPARATORS).collect();
    for _ in 0..draw.few() {
        let (a, b) = (draw.below(parts.len()), draw.below(parts.len()));
        match draw.below(9) {
            0..=3 if !parts.is_empty() => {
                let end: String = parts[a]
                    .chars()
                    .last()
                    .filter(|last| SEPARATORS.contains(last))
                    .into_iter()
                    .collect();
                parts[a] = format!(
                    "{}{end}",
                    if draw.one_in(3) { draw.word(&VALUES) } else { draw.word(&CELLS) }
                );
            }
            4 if !parts.is_empty() => drop(parts.remove(a)),
            5 if !parts.is_empty() => {
                let part = parts[a].clone();
                parts.insert(b, part);
            }
            6 if !parts.is_empty() => parts.swap(a, b),
            7 if !others.is_empty() => parts.insert(a, draw.word(&others).into()),
            _ => parts.insert(a, draw.word(&[",", "=", ":", "\n", " ", "=="]).to_string()),
        }
    }
    cut(parts.concat())
}

/// The same word for a data set with counts that take no time where they are legal; what no
/// generator takes stays.
pub fn modest(word: &str) -> String {
    let setting = |part: &str| match part.split_once('=') {
        Some((name, value)) if too_long(name, value) => format!("{name}=7"),
        _ => part.to_string(),
    };
    word.split(',').map(setting).collect::<Vec<_>>().join(",")
}

fn too_long(name: &str, value: &str) -> bool {
    let most = match name.rsplit(':').next().unwrap_or(name) {
        "features" => 100.0,
        "edges" => 20_000.0,
        "seed" => return false,
        _ => 3000.0,
    };
    // The generators refuse more than these.
    value.parse::<f64>().is_ok_and(|value| value > most && value < 1e10)
}
