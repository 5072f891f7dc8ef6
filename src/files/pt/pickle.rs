//! What a pickle describes, as a list of nodes that refer to each other: nothing in it is called,
//! imported or built.

use super::super::Budget;
use super::tree::{Id, Node, Object, Tree};
use std::collections::HashMap;

/// The newest protocol of pickles.
const NEWEST: u8 = 5;

/// Room that a list is given at least when it grows.
const FEW: usize = 64;

/// What a place of the memo takes, key and value with what a table of them keeps free.
const MEMO_BYTES: usize = 16;

/// Reads one pickle from the front of `bytes`, and says where it ends.
///
/// Memory and time grow with the bytes of the pickle alone, whatever it claims and however its
/// objects refer to each other.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn parse<'a>(bytes: &'a [u8], budget: &Budget) -> Result<(Tree<'a>, usize), String> {
    let nodes = vec![Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(Vec::new())];
    let machine = Machine {
        input: Input { bytes, at: 0 },
        nodes,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        budget,
    };
    machine.run()
}

/// Bytes that are read from front to back.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let cut = || {
            format!(
                "is cut off: {count} bytes are to follow byte {} of its pickle, and {} do",
                self.at,
                rest.len()
            )
        };
        let taken =
            usize::try_from(count).ok().and_then(|count| rest.get(..count)).ok_or_else(cut)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.take(N as u64)?.first_chunk().expect("so many were taken"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    /// Up to the end of the line, which is taken too.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("is cut off within a line of its pickle")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end])
            .map_err(|_| "has a name in its pickle that is not text".into())
    }
}

struct Machine<'a, 'b> {
    input: Input<'a>,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    budget: &'b Budget,
}

/// One more place in a list, paid for before the list grows.
fn room<T>(list: &mut Vec<T>, budget: &Budget) -> Result<(), String> {
    if list.len() == list.capacity() {
        let more = list.len().max(FEW);
        budget.take(&[more], size_of::<T>()).map_err(too_many)?;
        list.try_reserve_exact(more).map_err(|_| too_many(String::new()))?;
    }
    Ok(())
}

fn too_many(_: String) -> String {
    "describes more objects in its pickle than its bytes may grow to".into()
}

impl<'a> Machine<'a, '_> {
    fn run(mut self) -> Result<(Tree<'a>, usize), String> {
        loop {
            let at = self.input.at;
            let code = self.input.byte()?;
            if code == b'.' {
                let root = self.pop()?;
                return Ok((Tree { nodes: self.nodes, root }, self.input.at));
            }
            match self.step(code) {
                Ok(true) => {}
                Ok(false) => {
                    return Err(format!(
                        "has the opcode {code:#04x} at byte {at} of its pickle, which PyTorch does not write"
                    ));
                }
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Follows one opcode; `false` if it is not known.
    fn step(&mut self, code: u8) -> Result<bool, String> {
        match code {
            0x80 => match self.input.byte()? {
                version if version <= NEWEST => {}
                version => {
                    return Err(format!(
                        "is a pickle of protocol {version}, and {NEWEST} is the newest that is known"
                    ));
                }
            },
            // The length of a frame is for readers of streams.
            0x95 => drop(self.input.take(8)?),
            b'(' => {
                room(&mut self.marks, self.budget)?;
                self.marks.push(self.stack.len());
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'N' => self.push(Id::NONE)?,
            0x88 => self.push(Id::TRUE)?,
            0x89 => self.push(Id::FALSE)?,
            b')' => self.push(Id::EMPTY)?,
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'I' | b'L' | b'G' => self.number(code)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.text(code)?,
            b']' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x85..=0x87 | 0x91 => self.container(code)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(code)?,
            b'q' | b'r' | b'p' | 0x94 => self.remember(code)?,
            b'h' | b'j' | b'g' => self.recall(code)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(code)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn number(&mut self, code: u8) -> Result<(), String> {
        let node = match code {
            b'K' => Node::Int(self.input.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.input.array()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.input.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.input.array()?)),
            0x8a | 0x8b => {
                let count = if code == 0x8a {
                    self.input.byte()?.into()
                } else {
                    u32::from_le_bytes(self.input.array()?)
                };
                whole(self.input.take(count.into())?)
            }
            _ => match (code, self.input.line()?) {
                // As protocol 1 writes what is true or false.
                (b'I', "00") => return self.push(Id::FALSE),
                (b'I', "01") => return self.push(Id::TRUE),
                (_, digits) => digits.trim_end_matches('L').parse().map_or(Node::Wide, Node::Int),
            },
        };
        self.add(node)
    }

    fn text(&mut self, code: u8) -> Result<(), String> {
        let count = match code {
            0x8c | b'U' | b'C' => self.input.byte()?.into(),
            b'X' | b'T' | b'B' => u32::from_le_bytes(self.input.array()?).into(),
            _ => u64::from_le_bytes(self.input.array()?),
        };
        let bytes = self.input.take(count)?;
        let is_text = matches!(code, b'X' | 0x8c | 0x8d | b'T' | b'U');
        self.add(
            is_text
                .then(|| std::str::from_utf8(bytes).ok())
                .flatten()
                .map_or(Node::Bytes(bytes), Node::Text),
        )
    }

    fn container(&mut self, code: u8) -> Result<(), String> {
        let node = match code {
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            b'l' => Node::List(self.above_mark()?),
            b'd' => Node::Dict(pairs(&self.above_mark()?)?),
            0x91 => Node::Set(self.above_mark()?),
            b't' => Node::Tuple(self.above_mark()?),
            _ => {
                let mut items = Vec::new();
                for _ in 0x85..=code {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.add(node)
    }

    fn extend(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.above_mark()?,
        };
        let keyed = matches!(code, b's' | b'u');
        let top = self.top()?;
        match (&mut self.nodes[top.index()], keyed) {
            (Node::List(list) | Node::Set(list), false) => list.extend(items),
            (Node::Dict(dict), true) => dict.extend(pairs(&items)?),
            (Node::Object(object), true) => object.items.extend(pairs(&items)?),
            // An object that is a list of its own kind.
            (Node::Object(object), false) => {
                object.items.extend(items.into_iter().map(|item| (Id::NONE, item)))
            }
            _ => return Err("puts items into something in its pickle that holds none".into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'q' => self.input.byte()?.into(),
            b'r' => u32::from_le_bytes(self.input.array()?),
            0x94 => self.memo.len() as u32,
            _ => self
                .input
                .line()?
                .parse()
                .map_err(|_| "has a place in its pickle's memo that is no number")?,
        };
        let top = self.top()?;
        if self.memo.len() == self.memo.capacity() {
            let more = self.memo.len().max(FEW);
            self.budget.take(&[more], MEMO_BYTES).map_err(too_many)?;
            self.memo.try_reserve(more).map_err(|_| too_many(String::new()))?;
        }
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'h' => self.input.byte()?.into(),
            b'j' => u32::from_le_bytes(self.input.array()?),
            _ => self
                .input
                .line()?
                .parse()
                .map_err(|_| "has a place in its pickle's memo that is no number")?,
        };
        let id = *self.memo.get(&place).ok_or_else(|| {
            format!("refers to place {place} of its pickle's memo, which is empty")
        })?;
        self.push(id)
    }

    fn object(&mut self, code: u8) -> Result<(), String> {
        let node = match code {
            b'c' => Node::Global(self.input.line()?, self.input.line()?),
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module.index()], &self.nodes[name.index()]) {
                    (Node::Text(module), Node::Text(name)) => Node::Global(module, name),
                    _ => return Err("names a class in its pickle by what is not text".into()),
                }
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                return match &mut self.nodes[object.index()] {
                    Node::Object(object) if object.state.is_none() => {
                        object.state = Some(state);
                        Ok(())
                    }
                    _ => Err("sets the state of something in its pickle that has none".into()),
                };
            }
            b'Q' => {
                let id = self.pop()?;
                match &self.nodes[id.index()] {
                    // Old files keep the source of a class beside it.
                    Node::Tuple(items)
                        if items.len() > 1
                            && matches!(self.nodes[items[0].index()], Node::Text("module")) =>
                    {
                        let class = items[1];
                        return self.push(class);
                    }
                    _ => Node::Persistent(id),
                }
            }
            _ => {
                // Arguments by name are kept where nothing is lost of them.
                let items = if code == 0x92 { vec![(Id::NONE, self.pop()?)] } else { Vec::new() };
                let (args, call) = (self.pop()?, self.pop()?);
                Node::Object(Object { call, args, state: None, items })
            }
        };
        self.add(node)
    }

    fn add(&mut self, node: Node<'a>) -> Result<(), String> {
        let id = Id::new(self.nodes.len()).ok_or_else(|| too_many(String::new()))?;
        room(&mut self.nodes, self.budget)?;
        self.nodes.push(node);
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Result<(), String> {
        room(&mut self.stack, self.budget)?;
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(mark..).and_then(|above| above.last());
        top.copied()
            .ok_or_else(|| "takes more from the stack of its pickle than it puts there".into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// What lies above the last mark, without the mark.
    fn above_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("lacks a mark on the stack of its pickle")?;
        // What is taken is as long as it is, however long the stack once was.
        let above = self.stack[mark..].to_vec();
        self.stack.truncate(mark);
        Ok(above)
    }
}

/// A whole number of any length, the lowest byte first, in two's complement.
fn whole<'a>(bytes: &[u8]) -> Node<'a> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(wide))
        }
        None => Node::Wide,
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err("has a key without a value in its pickle".into())
    }
}
