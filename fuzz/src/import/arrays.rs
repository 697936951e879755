//! Arrays of a type: sound ones, and such that are wrong in some way that can be seen, or whose values are wrong.
//!
//! The interface carries no sizes of buffers, so whatever is claimed, the buffers have the bytes that the claims call
//! for; where these are more than there can be, the buffers are NULL.

use super::memory::{ArrayTree, Buffer, Flaw};
use super::types::{Kind, Type};
use crate::input::Input;

/// Elements of one array, beyond which it has no buffers.
const MOST_ELEMENTS: usize = 30_000;
const MOST_BYTES: usize = 1 << 16;
/// Lengths that no array can have, or none with anything in it.
const ABSURD: [i64; 7] = [i64::MAX, i64::MAX - 1, 1 << 62, (1 << 48) + 1, 1 << 48, 1 << 47, (1 << 31) + 1];

/// Makes arrays; what it makes is sound as long as nothing was damaged.
pub struct ArrayMaker<'a, 'i> {
    pub input: &'a mut Input<'i>,
    pub sound: bool,
    /// Whether there are lengths that are too large to be gone through.
    pub absurd: bool,
    /// Whether empty arrays lack the one offset that arrow-rs would read.
    pub bare: bool,
}

/// What an array is damaged by before it is filled, so that its buffers follow.
#[derive(Default)]
struct Claims {
    length: Option<i64>,
    offset: Option<i64>,
    /// Values that are not what the type demands.
    garbage: bool,
}

impl ArrayMaker<'_, '_> {
    /// A byte that mostly says that all is well.
    fn damage(&mut self) -> Option<u8> {
        let damage = self.input.byte().checked_sub(232);
        self.sound &= damage.is_none();
        damage
    }

    pub fn batch(&mut self, batch: &Type) -> ArrayTree {
        let rows = self.input.choice(&[1, 0, 2, 3, 5, 9, 17, 65, 700]);
        let mut tree = self.array(batch, rows, true);
        match self.input.byte() {
            255 => tree.flaw = Flaw::Released,
            _ => return tree,
        }
        self.sound = false;
        tree
    }

    /// An array of so many elements at least; `whole` where it must have no others.
    fn array(&mut self, this: &Type, needed: usize, whole: bool) -> ArrayTree {
        let damage = self.damage();
        let claims = self.claims(damage, needed);
        let extra = if whole { 0 } else { usize::from(self.input.rarely(16)) };
        let offset = if self.input.rarely(4) { self.input.below(70) } else { 0 };
        let length = claims.length.unwrap_or((needed + extra) as i64);
        // Also an empty struct calls for children as long as its offset.
        let offset = claims.offset.unwrap_or(if length == 0 { 0 } else { offset as i64 });
        // What the claims call for; none where they make no sense.
        let end = usize::try_from(length).ok().zip(usize::try_from(offset).ok()).and_then(|(length, offset)| {
            let end = length.checked_add(offset)?;
            (end <= MOST_ELEMENTS).then_some(end)
        });
        let mut tree = match end {
            Some(_) if length == 0 => self.filled(this, (0, 0), claims.garbage),
            Some(end) => self.filled(this, (offset as usize, end), claims.garbage),
            None => self.without_buffers(this, length.saturating_add(offset)),
        };
        (tree.length, tree.offset) = (length, offset);
        if let Some(damage) = damage {
            self.damage_form(&mut tree, this, damage);
        }
        tree
    }

    fn claims(&mut self, damage: Option<u8>, needed: usize) -> Claims {
        let mut claims = Claims::default();
        match damage {
            Some(0) => claims.length = Some(-1 - i64::from(self.input.byte())),
            Some(1) => claims.length = Some(self.input.choice(&ABSURD)),
            Some(2) => claims.length = Some(needed as i64 / 2),
            Some(3) => claims.offset = Some(-1 - i64::from(self.input.byte())),
            Some(4) => claims.offset = Some(self.input.choice(&ABSURD)),
            Some(5..=9) => claims.garbage = true,
            _ => {}
        }
        claims
    }

    /// Damages that need no other buffers.
    fn damage_form(&mut self, tree: &mut ArrayTree, this: &Type, damage: u8) {
        match damage {
            10 => tree.null_count = self.input.choice(&[-2, i64::MIN, i64::MAX, 1, 7]),
            11 => {
                tree.buffer_count = self.input.choice(&[-1, i64::MIN, i64::MAX, (1 << 24) + 1]);
            }
            12 => {
                tree.buffers.push(Buffer::Null);
                tree.buffer_count += 1;
            }
            // One less of views would make one of their buffers the sizes of the others.
            13 if !matches!(this.kind, Kind::View { .. }) => tree.buffer_count = (tree.buffer_count - 1).max(0),
            14 | 15 => {
                let count = tree.buffers.len().max(1);
                let position = self.input.below(count);
                tree.buffers.get_mut(position).into_iter().for_each(|buffer| *buffer = Buffer::Null);
            }
            16 => {
                for buffer in &mut tree.buffers {
                    if let Buffer::Bytes(bytes) = buffer {
                        *buffer = Buffer::Misaligned(std::mem::take(bytes));
                    }
                }
            }
            17 => tree.child_count = self.input.choice(&[-1, i64::MAX, tree.child_count + 1, tree.child_count - 1]),
            18 => {
                tree.flaw = self.input.choice(&[
                    Flaw::Released,
                    Flaw::NullTableOfBuffers,
                    Flaw::NullTableOfChildren,
                    Flaw::MisalignedTableOfChildren,
                    Flaw::NullChild,
                    Flaw::MisalignedChild,
                    Flaw::MisalignedDictionary,
                ]);
            }
            19 => tree.dictionary = None,
            20 => tree.dictionary = Some(Box::new(self.array(this, 1, false))),
            _ => {}
        }
    }

    /// An array of so many elements, more than can be: NULL where its buffers would be, and children to match.
    fn without_buffers(&mut self, this: &Type, elements: i64) -> ArrayTree {
        self.absurd = true;
        self.sound = false;
        let (count, child_elements) = match this.kind {
            Kind::Null => (0, 0),
            Kind::RunEnds { .. } => (0, 1),
            Kind::FixedSizeList { size } => (1, elements.saturating_mul(size as i64)),
            Kind::Struct | Kind::Union { dense: false } => (1, elements),
            Kind::Boolean | Kind::Fixed { .. } | Kind::List { .. } | Kind::Union { dense: true } | Kind::Unknown => {
                (2, 0)
            }
            Kind::Binary { .. } | Kind::View { .. } | Kind::ListView { .. } => (3, 0),
        };
        let mut children: Vec<_> =
            this.children.iter().map(|child| self.without_buffers(child, child_elements)).collect();
        if let Kind::RunEnds { width } = this.kind {
            children[0] = Self::run_ends_of(width, vec![elements]);
        }
        ArrayTree {
            length: elements,
            null_count: if this.kind == Kind::Null { elements } else { 0 },
            buffer_count: count as i64,
            buffers: vec![Buffer::Null; count],
            child_count: children.len() as i64,
            children,
            dictionary: this.dictionary.as_ref().map(|values| Box::new(self.array(values, 1, false))),
            ..ArrayTree::default()
        }
    }

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        // From few bytes of the input, so that long buffers do not use it up.
        let mut state = u32::from(self.input.byte()) + 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    /// A buffer of integers of a width, for which those that do not fit are cut off.
    fn integers(width: usize, integers: impl IntoIterator<Item = i64>) -> Buffer {
        Buffer::Bytes(integers.into_iter().flat_map(|integer| integer.to_le_bytes().into_iter().take(width)).collect())
    }

    /// The bits of so many elements of which some are null; NULL in place of a bitmap without nulls, mostly.
    fn validity(&mut self, tree: &mut ArrayTree, this: &Type, start: usize, end: usize) {
        let nulls = this.nullable && end > start && self.input.flag();
        if !nulls && !self.input.rarely(8) {
            return tree.buffers.push(Buffer::Null);
        }
        let mut bits = self.random(end.div_ceil(8));
        if !nulls {
            bits.fill(0xff);
        }
        let valid = (start..end).filter(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1).count();
        tree.null_count = if self.input.flag() { -1 } else { (end - start - valid) as i64 };
        tree.buffers.push(Buffer::Bytes(bits));
    }

    /// One offset more than there are elements; how far they go.
    fn offsets(&mut self, start: usize, end: usize, garbage: bool) -> (Vec<i64>, usize) {
        let mut offset = if end > start && self.input.rarely(8) { 3 } else { 0 };
        let steps = self.random(end);
        let most = if end > 100 { 1 } else { 3 };
        let mut offsets = vec![0; start];
        offsets.push(offset);
        for step in &steps[start..] {
            offset += i64::from(step % (most + 1));
            offsets.push(offset);
        }
        if garbage {
            let position = self.input.below(256) % offsets.len();
            offsets[position] =
                self.input.choice(&[-1, i64::MIN, i64::MAX, 1 << 31, 1 << 33, 0, 1000, i64::from(i32::MAX)]);
            offset = offsets[end];
        }
        (offsets, usize::try_from(offset).unwrap_or(0))
    }

    /// An empty array's offsets may be left out.
    fn bared(&mut self, offsets: Vec<i64>, empty: bool) -> Vec<i64> {
        if empty && self.input.rarely(4) {
            self.bare = true;
            return Vec::new();
        }
        offsets
    }

    /// Buffers and children for the elements from `start` to before `end`.
    fn filled(&mut self, this: &Type, (start, end): (usize, usize), garbage: bool) -> ArrayTree {
        let mut filled = ArrayTree::default();
        let tree = &mut filled;
        match this.kind {
            Kind::Null => tree.null_count = (end - start) as i64,
            Kind::Union { .. } | Kind::RunEnds { .. } | Kind::Unknown => {}
            _ => self.validity(tree, this, start, end),
        }
        match this.kind {
            Kind::Null => {}
            Kind::Unknown => {
                tree.buffers = vec![Buffer::Null; self.input.below(4)];
                tree.children = this.children.iter().map(|child| self.array(child, end, false)).collect();
            }
            Kind::Boolean => {
                let bits = self.random(end.div_ceil(8));
                tree.buffers.push(Buffer::Bytes(bits));
            }
            Kind::Fixed { width } => match &this.dictionary {
                None => {
                    let values = self.random(end * width);
                    tree.buffers.push(Buffer::Bytes(values));
                }
                Some(values) => {
                    let count = 1 + self.input.below(100);
                    let keys = self.random(end);
                    let keys = keys.into_iter().map(|key| i64::from(key) % count as i64);
                    let bad = if garbage { self.input.choice(&[-1, 100, 1 << 40]) } else { 0 };
                    tree.buffers.push(Self::integers(width, keys.map(|key| key + bad)));
                    tree.dictionary = Some(Box::new(self.array(values, count, false)));
                }
            },
            Kind::Binary { wide, text } => {
                let (offsets, last) = self.offsets(start, end, garbage);
                let offsets = self.bared(offsets, end == start);
                tree.buffers.push(Self::integers(if wide { 8 } else { 4 }, offsets.iter().copied()));
                // In 32 bits an offset that does not fit means another one.
                let last = if wide { last } else { usize::try_from(last as i32).unwrap_or(0) };
                let bytes =
                    if last <= MOST_BYTES { Buffer::Bytes(self.text(last, text && !garbage)) } else { Buffer::Null };
                tree.buffers.push(bytes);
            }
            Kind::View { text } => self.views(tree, end, text, garbage),
            Kind::List { wide } => {
                let (offsets, last) = self.offsets(start, end, garbage);
                let offsets = self.bared(offsets, end == start);
                tree.buffers.push(Self::integers(if wide { 8 } else { 4 }, offsets));
                tree.children.push(self.array(&this.children[0], last, false));
            }
            Kind::ListView { wide } => {
                let count = self.input.below(20);
                let choices = self.random(end);
                let views = choices.iter().map(|choice| {
                    let offset = usize::from(*choice) % (count + 1);
                    (offset as i64, (usize::from(choice >> 4) % (count - offset + 1)) as i64)
                });
                let bad = if garbage { self.input.choice(&[-1, 19, i64::MAX]) } else { 0 };
                let width = if wide { 8 } else { 4 };
                tree.buffers.push(Self::integers(width, views.clone().map(|(offset, _)| offset.wrapping_add(bad))));
                tree.buffers.push(Self::integers(width, views.map(|(_, size)| size)));
                tree.children.push(self.array(&this.children[0], count, false));
            }
            Kind::FixedSizeList { size } => tree.children.push(self.array(&this.children[0], end * size, false)),
            Kind::Struct => tree.children = this.children.iter().map(|child| self.array(child, end, false)).collect(),
            Kind::Union { dense } => self.union(tree, this, end, dense, garbage),
            Kind::RunEnds { width } => self.run_ends(tree, this, end, width, garbage),
        }
        tree.buffer_count = tree.buffers.len() as i64;
        tree.child_count = tree.children.len() as i64;
        filled
    }

    fn text(&mut self, bytes: usize, sound: bool) -> Vec<u8> {
        let mut text = self.random(bytes);
        if sound {
            text.iter_mut().for_each(|byte| *byte = b' ' + *byte % 90);
        }
        text
    }

    /// Views, their data, and the sizes of these.
    fn views(&mut self, tree: &mut ArrayTree, end: usize, text: bool, garbage: bool) {
        let data = self.text(40, text && !garbage);
        let buffers = 1 + self.input.below(2);
        let choices = self.random(end);
        let mut views = Vec::with_capacity(end * 16);
        for choice in choices {
            let length = usize::from(choice) % 30;
            views.extend((length as i32).to_le_bytes());
            if length <= 12 {
                views.extend(&data[..length]);
                views.resize(views.len() + 12 - length, 0);
            } else {
                let offset = usize::from(choice >> 5);
                views.extend(&data[offset..offset + 4]);
                views.extend((i32::from(choice) % buffers as i32).to_le_bytes());
                views.extend((offset as i32).to_le_bytes());
            }
        }
        let mut sizes = vec![data.len() as i64; buffers];
        tree.buffers.resize(1 + buffers, Buffer::Bytes(data));
        if garbage {
            match self.input.below(4) {
                0 => views = self.random(views.len()),
                1 => {
                    sizes[0] = self.input.choice(&[-1, i64::MIN, i64::MAX, 1 << 40]);
                    tree.buffers[1] = Buffer::Null;
                }
                2 => {
                    sizes[0] = 1;
                    tree.buffers[1] = Buffer::Bytes(vec![b'x']);
                }
                _ => views.chunks_exact_mut(16).for_each(|view| view[3] = 0xff),
            }
        }
        tree.buffers.insert(1, Buffer::Bytes(views));
        tree.buffers.push(Self::integers(8, sizes));
    }

    fn union(&mut self, tree: &mut ArrayTree, this: &Type, end: usize, dense: bool, garbage: bool) {
        let choices = self.random(end);
        let mut ids: Vec<i64> = choices.iter().map(|choice| 5 + i64::from(choice & 1)).collect();
        // The elements of each child follow one another.
        let mut counts = [0_i64; 2];
        let mut offsets: Vec<i64> = choices
            .iter()
            .map(|choice| {
                let count = &mut counts[usize::from(choice & 1)];
                *count += 1;
                *count - 1
            })
            .collect();
        if garbage {
            let bad = self.input.choice(&[-1, 100, 7, i64::MIN]);
            let changed = if dense && self.input.flag() { &mut offsets } else { &mut ids };
            changed.last_mut().into_iter().for_each(|last| *last = bad);
        }
        tree.buffers.push(Self::integers(1, ids));
        if dense {
            tree.buffers.push(Self::integers(4, offsets));
        }
        for (child, count) in this.children.iter().zip(counts) {
            let needed = if dense { count as usize } else { end };
            tree.children.push(self.array(child, needed, false));
        }
    }

    fn run_ends(&mut self, tree: &mut ArrayTree, this: &Type, end: usize, width: usize, garbage: bool) {
        let step = 1 + self.input.below(8);
        let mut ends: Vec<i64> = (1..).map(|run| run * step as i64).take_while(|last| *last < end as i64).collect();
        if end > 0 {
            ends.push(end as i64 + self.input.below(3) as i64);
        }
        if garbage {
            let position = self.input.below(256) % ends.len().max(1);
            let bad = self.input.choice(&[0, -1, i64::MIN, i64::MAX, 3]);
            ends.get_mut(position).into_iter().for_each(|end| *end = bad);
        }
        let count = ends.len();
        tree.children.push(Self::run_ends_of(width, ends));
        tree.children.push(self.array(&this.children[1], count, true));
    }

    fn run_ends_of(width: usize, ends: Vec<i64>) -> ArrayTree {
        let length = ends.len() as i64;
        let buffers = vec![Buffer::Null, Self::integers(width, ends)];
        ArrayTree { length, buffer_count: 2, buffers, ..ArrayTree::default() }
    }
}
