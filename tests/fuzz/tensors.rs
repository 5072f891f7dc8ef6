//! Changes to safetensors files that keep them files: lengths and places of tensors are written
//! right again, unless that is what changes.

use super::bytes;
use super::draw::Draw;
use super::tree::Tree;
use serde_json::Value;

/// No tensor is made longer than this.
const MOST: usize = 1 << 16;
const DTYPES: [(&str, usize); 14] = [
    ("F32", 4),
    ("F64", 8),
    ("I64", 8),
    ("I32", 4),
    ("U8", 1),
    ("BOOL", 1),
    ("F16", 2),
    ("BF16", 2),
    ("I8", 1),
    ("U64", 8),
    ("I16", 2),
    ("C64", 8),
    ("F8_E4M3", 1),
    ("none", 1),
];
/// What names end in, here and in PyTorch Geometric.
const ENDS: [&str; 16] = [
    ".mask",
    ".runs",
    ".coded",
    ".values",
    ".weight",
    ".bias",
    ".scales",
    ".lin.weight",
    "eps",
    "x",
    "y",
    "edge_attr",
    "edge_weight",
    "edge_type",
    "train_mask",
    "",
];

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct File {
    pub metadata: Vec<(String, String)>,
    pub tensors: Vec<Tensor>,
}

impl File {
    pub fn with<T: Copy, const N: usize>(
        mut self,
        name: &str,
        dtype: &str,
        shape: &[usize],
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> Self {
        let data = values.iter().flat_map(|&value| bytes(value)).collect();
        self.tensors.push(Tensor {
            name: name.into(),
            dtype: dtype.into(),
            shape: shape.iter().map(|&axis| axis as u64).collect(),
            data,
        });
        self
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, body) = parts(bytes)?;
        let header: Value = serde_json::from_str(header).ok()?;
        let mut file = Self::default();
        for (name, value) in header.as_object()? {
            if name == "__metadata__" {
                let texts = value
                    .as_object()?
                    .iter()
                    .map(|(key, text)| Some((key.clone(), text.as_str()?.to_string())));
                file.metadata = texts.collect::<Option<_>>()?;
                continue;
            }
            let numbers = |key: &str| {
                value[key].as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()
            };
            let ends = numbers("data_offsets")?;
            let data = body.get(*ends.first()? as usize..*ends.get(1)? as usize)?.to_vec();
            file.tensors.push(Tensor {
                name: name.clone(),
                dtype: value["dtype"].as_str()?.into(),
                shape: numbers("shape")?,
                data,
            });
        }
        Some(file)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut at = 0;
        let mut fields = Vec::new();
        if !self.metadata.is_empty() {
            let texts = self.metadata.iter().map(|(key, text)| {
                (key.clone(), Tree::Leaf(Value::from(text.as_str()).to_string()))
            });
            fields.push(("__metadata__".into(), Tree::Map(texts.collect())));
        }
        for tensor in &self.tensors {
            let numbers = |numbers: &[u64]| {
                Tree::List(numbers.iter().map(|number| Tree::Leaf(number.to_string())).collect())
            };
            let ends = [at, at + tensor.data.len() as u64];
            at = ends[1];
            let dtype = Tree::Leaf(Value::from(tensor.dtype.as_str()).to_string());
            let field = [
                ("dtype".into(), dtype),
                ("shape".into(), numbers(&tensor.shape)),
                ("data_offsets".into(), numbers(&ends)),
            ];
            fields.push((tensor.name.clone(), Tree::Map(field.into())));
        }
        let body: Vec<u8> =
            self.tensors.iter().flat_map(|tensor| tensor.data.iter().copied()).collect();
        joined(&Tree::Map(fields).to_json(), &body)
    }
}

/// The text of the header, and what follows.
fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let (header, body) = bytes[8..].split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, body))
}

fn joined(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn mutate(bytes: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let Some(mut file) = File::parse(bytes) else { return bytes.to_vec() };
    if draw.one_in(10) {
        let (header, body) = parts(bytes).expect("it was just parsed");
        let Some(mut tree) = Tree::json(header) else { return bytes.to_vec() };
        tree.mutate(draw);
        return joined(&tree.to_json(), body);
    }
    let other = File::parse(other).unwrap_or_else(|| file.clone());
    for _ in 0..draw.few() {
        match draw.below(8) {
            0..=3 if !file.metadata.is_empty() => {
                let at = draw.below(file.metadata.len());
                metadata(&mut file.metadata[at].1, draw);
            }
            4 => among(&mut file.tensors, &other.tensors, draw),
            _ if !file.tensors.is_empty() => {
                let at = draw.below(file.tensors.len());
                tensor(&mut file.tensors[at], draw);
            }
            _ => {}
        }
    }
    file.to_bytes()
}

/// Metadata are mostly JSON within a string.
fn metadata(text: &mut String, draw: &mut Draw) {
    match Tree::json(text) {
        Some(mut tree) => {
            tree.mutate(draw);
            *text = tree.to_json();
        }
        None => text.push_str(draw.word(&ENDS)),
    }
}

fn among(tensors: &mut Vec<Tensor>, other: &[Tensor], draw: &mut Draw) {
    if tensors.is_empty() {
        return tensors.extend_from_slice(other);
    }
    let (a, b) = (draw.below(tensors.len()), draw.below(tensors.len()));
    match draw.below(7) {
        0 => drop(tensors.remove(a)),
        1 => {
            // Two of one name.
            let name = tensors[b].name.clone();
            tensors[a].name = name;
        }
        2 => {
            let end = draw.word(&ENDS);
            let name = &mut tensors[a].name;
            let stem =
                name.rfind('.').map_or(0, |dot| if end.starts_with('.') { dot } else { dot + 1 });
            name.replace_range(stem.., end);
        }
        3 if !other.is_empty() => {
            let mut taken = draw.pick(other).clone();
            if draw.one_in(2) {
                taken.name.clone_from(&tensors[a].name);
                tensors[a] = taken;
            } else {
                tensors.push(taken);
            }
        }
        4 => {
            let mut again = tensors[a].clone();
            again.name.push_str(draw.word(&ENDS));
            tensors.push(again);
        }
        5 => {
            let name = tensors[a].name.clone();
            tensors[a].name = std::mem::replace(&mut tensors[b].name, name);
        }
        _ => tensors[a].name.push_str(draw.word(&["\n", ".", "0", "\u{1F980}", "module."])),
    }
}

fn width(dtype: &str) -> usize {
    DTYPES.iter().find(|(name, _)| *name == dtype).map_or(1, |(_, width)| *width)
}

fn tensor(tensor: &mut Tensor, draw: &mut Draw) {
    let axis = draw.below(tensor.shape.len());
    match draw.below(14) {
        0 | 1 if !tensor.data.is_empty() => {
            // As many bytes as before: numbers change, the shape does not.
            let len = tensor.data.len();
            let old = tensor.data.clone();
            bytes::mutate(&mut tensor.data, &old, draw);
            tensor.data.resize(len, 0);
        }
        0..=6 => numbers(tensor, draw),
        7 if !tensor.shape.is_empty() => {
            let len = tensor.shape[axis];
            tensor.shape[axis] = *draw.pick(&[
                0,
                1,
                len.saturating_add(1),
                len.saturating_sub(1),
                len.saturating_mul(2),
                7,
                100,
                300,
            ]);
            filled(tensor);
        }
        8 => {
            // Nothing in it, and an axis as long as it likes.
            let many = draw.edge();
            tensor.shape = draw
                .pick(&[
                    vec![0, many],
                    vec![many, 0],
                    vec![0],
                    vec![0, 0],
                    vec![many, 0, many],
                    vec![1, 0, 1],
                ])
                .clone();
            tensor.data.clear();
        }
        9 => tensor.shape.reverse(),
        10 => {
            let all = tensor.shape.iter().fold(1u64, |all, &axis| all.saturating_mul(axis));
            tensor.shape = draw
                .pick(&[vec![all], vec![1, all], vec![all, 1], vec![1, all, 1], vec![1, 1, 1, all]])
                .clone();
        }
        11 => {
            tensor.dtype = draw.pick(&DTYPES).0.into();
            filled(tensor);
        }
        12 if !tensor.shape.is_empty() => tensor.shape[axis] = draw.edge(),
        _ if draw.one_in(2) => {
            tensor.shape.clear();
            filled(tensor);
        }
        _ => tensor.data.truncate(draw.below(tensor.data.len())),
    }
}

/// Some numbers become others that mean something.
fn numbers(tensor: &mut Tensor, draw: &mut Draw) {
    let width = width(&tensor.dtype);
    let count = tensor.data.len() / width;
    let all = draw.one_in(6);
    let value: Vec<u8> = match tensor.dtype.as_str() {
        "F32" => draw
            .pick(&[
                f32::NAN,
                f32::INFINITY,
                0.0,
                -0.0,
                -1.0,
                f32::MAX,
                f32::MIN,
                1e-40,
                1e30,
                -1e30,
            ])
            .to_le_bytes()
            .into(),
        "F64" => draw
            .pick(&[f64::NAN, f64::INFINITY, 0.0, -1.0, f64::MAX, 1e39, 1e-300])
            .to_le_bytes()
            .into(),
        "BOOL" | "U8" => vec![*draw.pick(&[0, 1, 2, 127, 128, 255])],
        _ => draw
            .pick(&[0, 1, 2, -1, 5, 100, 65_535, 65_536, i64::MAX, i64::MIN, 1 << 31, 1 << 32])
            .to_le_bytes()[..width]
            .into(),
    };
    let picked = draw.below(count);
    let chunks = tensor.data.chunks_exact_mut(width).enumerate();
    chunks
        .filter(|(k, _)| all || *k == picked)
        .for_each(|(_, number)| number.copy_from_slice(&value));
}

/// As many bytes as the shape says, where that is not absurd.
fn filled(tensor: &mut Tensor) {
    let bytes = tensor
        .shape
        .iter()
        .try_fold(width(&tensor.dtype) as u64, |bytes, &axis| bytes.checked_mul(axis));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= MOST as u64) else { return };
    let old = if tensor.data.is_empty() { vec![0] } else { tensor.data.clone() };
    tensor.data = old.into_iter().cycle().take(bytes as usize).collect();
}
