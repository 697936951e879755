//! Types of every family, and schemas that are wrong in some way.

use super::memory::{Flaw, SchemaTree};
use crate::input::Input;

const NULLABLE: i64 = 2;
const MOST_NESTING: usize = 4;

/// What an array of a type consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Boolean,
    Fixed {
        width: usize,
    },
    Binary {
        wide: bool,
        text: bool,
    },
    View {
        text: bool,
    },
    List {
        wide: bool,
    },
    ListView {
        wide: bool,
    },
    FixedSizeList {
        size: usize,
    },
    Struct,
    /// Its type ids are 5, 6 and so on.
    Union {
        dense: bool,
    },
    RunEnds {
        width: usize,
    },
    /// Nobody knows: such arrays have no buffer to be read.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Type {
    pub kind: Kind,
    pub nullable: bool,
    pub children: Vec<Type>,
    /// The values, where this is the type of the keys.
    pub dictionary: Option<Box<Type>>,
}

impl Type {
    /// Unknown if the format was damaged.
    fn of_format(mut self, tree: &SchemaTree, format: &str) -> Type {
        if tree.format != text(format) {
            self.kind = Kind::Unknown;
        }
        self
    }
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some([text.as_bytes(), &[0]].concat())
}

/// Formats of types without children.
const LEAVES: [(&str, Kind); 45] = [
    ("l", Kind::Fixed { width: 8 }),
    ("n", Kind::Null),
    ("b", Kind::Boolean),
    ("c", Kind::Fixed { width: 1 }),
    ("C", Kind::Fixed { width: 1 }),
    ("s", Kind::Fixed { width: 2 }),
    ("S", Kind::Fixed { width: 2 }),
    ("i", Kind::Fixed { width: 4 }),
    ("I", Kind::Fixed { width: 4 }),
    ("L", Kind::Fixed { width: 8 }),
    ("e", Kind::Fixed { width: 2 }),
    ("f", Kind::Fixed { width: 4 }),
    ("g", Kind::Fixed { width: 8 }),
    ("z", Kind::Binary { wide: false, text: false }),
    ("Z", Kind::Binary { wide: true, text: false }),
    ("u", Kind::Binary { wide: false, text: true }),
    ("U", Kind::Binary { wide: true, text: true }),
    ("vz", Kind::View { text: false }),
    ("vu", Kind::View { text: true }),
    ("d:5,0,32", Kind::Fixed { width: 4 }),
    ("d:12,3,64", Kind::Fixed { width: 8 }),
    ("d:9,2", Kind::Fixed { width: 16 }),
    ("d:38,10,128", Kind::Fixed { width: 16 }),
    ("d:60,2,256", Kind::Fixed { width: 32 }),
    ("w:0", Kind::Fixed { width: 0 }),
    ("w:3", Kind::Fixed { width: 3 }),
    ("w:16", Kind::Fixed { width: 16 }),
    ("w:40", Kind::Fixed { width: 40 }),
    ("tdD", Kind::Fixed { width: 4 }),
    ("tdm", Kind::Fixed { width: 8 }),
    ("tts", Kind::Fixed { width: 4 }),
    ("ttm", Kind::Fixed { width: 4 }),
    ("ttu", Kind::Fixed { width: 8 }),
    ("ttn", Kind::Fixed { width: 8 }),
    ("tss:", Kind::Fixed { width: 8 }),
    ("tsm:UTC", Kind::Fixed { width: 8 }),
    ("tsu:+01:00", Kind::Fixed { width: 8 }),
    ("tsn:Europe/Paris", Kind::Fixed { width: 8 }),
    ("tDs", Kind::Fixed { width: 8 }),
    ("tDm", Kind::Fixed { width: 8 }),
    ("tDu", Kind::Fixed { width: 8 }),
    ("tDn", Kind::Fixed { width: 8 }),
    ("tiM", Kind::Fixed { width: 4 }),
    ("tiD", Kind::Fixed { width: 8 }),
    ("tin", Kind::Fixed { width: 16 }),
];

/// Of run ends and of dictionaries' keys: their formats and widths.
const INTEGERS: [(&str, usize); 4] = [("i", 4), ("c", 1), ("s", 2), ("l", 8)];

const BAD_FORMATS: [&str; 32] = [
    "",
    "+",
    "x",
    "+x",
    "d:0,0",
    "d:39,1",
    "d:5",
    "d:5,2,7",
    "d:1,2,3,4",
    "d:5,-3",
    "d:,",
    "w:-1",
    "w:",
    "w:99999999999",
    "w:2147483647",
    "+w:-3",
    "+w:",
    "+w:2147483647",
    "+us:",
    "+us:1,1",
    "+ud:-1,2",
    "+ud:0,1,2,3,4",
    "+ud:128",
    "+us:x",
    "tt",
    "ts",
    "tsq:",
    "tiX",
    "l:",
    "+l:3",
    "ll",
    "v",
];

/// Makes types; what it makes is sound as long as nothing was damaged.
pub struct TypeMaker<'a, 'i> {
    pub input: &'a mut Input<'i>,
    pub sound: bool,
    /// Formats that were used.
    pub formats: Vec<&'static str>,
}

impl TypeMaker<'_, '_> {
    /// A byte that mostly says that all is well.
    fn damage(&mut self) -> Option<u8> {
        let damage = self.input.byte().checked_sub(232);
        self.sound &= damage.is_none();
        damage
    }

    /// The schema of a batch.
    pub fn batch(&mut self) -> (SchemaTree, Type) {
        let count = match self.input.byte() {
            byte @ 0..240 => 1 + usize::from(byte) % 3,
            240..248 => 0,
            _ => 40,
        };
        let (mut tree, children) = self.columns(count, 0, None);
        tree.format = Some(b"+s\0".to_vec());
        let tree = self.finish(tree, false);
        let batch = Type { kind: Kind::Struct, nullable: false, children, dictionary: None };
        let batch = batch.of_format(&tree, "+s");
        (tree, batch)
    }

    fn columns(&mut self, count: usize, depth: usize, nullable: Option<bool>) -> (SchemaTree, Vec<Type>) {
        let (trees, types) = (0..count).map(|_| self.field(depth + 1, nullable)).unzip();
        (SchemaTree { children: trees, ..SchemaTree::default() }, types)
    }

    /// A field; `nullable` where its parent demands it.
    fn field(&mut self, depth: usize, nullable: Option<bool>) -> (SchemaTree, Type) {
        let choice = self.input.byte();
        if choice < 160 || depth > MOST_NESTING {
            let (format, kind) = match LEAVES[usize::from(choice) % LEAVES.len()] {
                // Nothing but nulls.
                (_, Kind::Null) if nullable == Some(false) => LEAVES[0],
                leaf => leaf,
            };
            return self.leaf(format, kind, nullable);
        }
        let nullable = nullable.unwrap_or_else(|| self.input.flag());
        let (format, kind, (mut tree, children)): (&'static str, _, _) = match choice % 16 {
            0 => ("+l", Kind::List { wide: false }, self.columns(1, depth, None)),
            1 => ("+L", Kind::List { wide: true }, self.columns(1, depth, None)),
            2 => ("+vl", Kind::ListView { wide: false }, self.columns(1, depth, None)),
            3 => ("+vL", Kind::ListView { wide: true }, self.columns(1, depth, None)),
            4 => ("+w:2", Kind::FixedSizeList { size: 2 }, self.columns(1, depth, None)),
            5 => ("+w:0", Kind::FixedSizeList { size: 0 }, self.columns(1, depth, None)),
            6 => ("+s", Kind::Struct, self.columns(2, depth, None)),
            7 => ("+s", Kind::Struct, self.columns(0, depth, None)),
            8 => ("+m", Kind::List { wide: false }, self.entries(depth)),
            // The nulls of a union are those of its children.
            9 => ("+us:5,6", Kind::Union { dense: false }, self.columns(2, depth, Some(nullable))),
            10 => ("+ud:5,6", Kind::Union { dense: true }, self.columns(2, depth, Some(nullable))),
            11 | 12 => return self.run_ends(depth, nullable),
            13 => return self.deep(),
            _ => return self.keys(depth, nullable),
        };
        self.formats.push(format);
        tree.format = text(format);
        let tree = self.finish(tree, nullable);
        let this = Type { kind, nullable, children, dictionary: None }.of_format(&tree, format);
        (tree, this)
    }

    fn leaf(&mut self, format: &'static str, kind: Kind, nullable: Option<bool>) -> (SchemaTree, Type) {
        let nullable = nullable.unwrap_or_else(|| self.input.flag()) || kind == Kind::Null;
        self.formats.push(format);
        let tree = SchemaTree { format: text(format), ..SchemaTree::default() };
        let tree = self.finish(tree, nullable);
        let this = Type { kind, nullable, children: Vec::new(), dictionary: None }.of_format(&tree, format);
        (tree, this)
    }

    /// The entries of a map: a key that is never null, and a value.
    fn entries(&mut self, depth: usize) -> (SchemaTree, Vec<Type>) {
        let (key, key_type) = self.leaf("u", Kind::Binary { wide: false, text: true }, Some(false));
        let (value, value_type) = self.field(depth + 2, None);
        let entries = SchemaTree { format: text("+s"), children: vec![key, value], ..SchemaTree::default() };
        let entries = self.finish(entries, false);
        let children = vec![key_type, value_type];
        let entries_type = Type { kind: Kind::Struct, nullable: false, children, dictionary: None };
        let entries_type = entries_type.of_format(&entries, "+s");
        (SchemaTree { children: vec![entries], ..SchemaTree::default() }, vec![entries_type])
    }

    fn run_ends(&mut self, depth: usize, nullable: bool) -> (SchemaTree, Type) {
        let (format, width) = self.input.choice(&[("i", 4), ("s", 2), ("l", 8)]);
        let (ends, ends_type) = self.leaf(format, Kind::Fixed { width }, Some(false));
        let (values, values_type) = self.field(depth + 1, Some(nullable));
        self.formats.push("+r");
        let children = vec![ends, values];
        let tree = SchemaTree { format: text("+r"), children, ..SchemaTree::default() };
        let tree = self.finish(tree, nullable);
        let children = vec![ends_type, values_type];
        let this = Type { kind: Kind::RunEnds { width }, nullable, children, dictionary: None };
        let this = this.of_format(&tree, "+r");
        (tree, this)
    }

    /// The keys of a dictionary, and its values.
    fn keys(&mut self, depth: usize, nullable: bool) -> (SchemaTree, Type) {
        let (format, width) = self.input.choice(&INTEGERS);
        // A null among the values would be one in the field.
        let (values, values_type) = self.field(depth + 1, Some(nullable));
        self.formats.push("dictionary");
        let tree = SchemaTree { format: text(format), dictionary: Some(Box::new(values)), ..SchemaTree::default() };
        let tree = self.finish(tree, nullable);
        let dictionary = Some(Box::new(values_type));
        let this = Type { kind: Kind::Fixed { width }, nullable, children: Vec::new(), dictionary };
        let this = this.of_format(&tree, format);
        (tree, this)
    }

    /// A list of lists of lists: near the depth that is refused.
    fn deep(&mut self) -> (SchemaTree, Type) {
        let depth = 50 + self.input.below(20);
        // Where exactly the bound lies is not promised.
        self.sound = false;
        let (mut tree, mut deepest) = self.leaf("l", Kind::Fixed { width: 8 }, Some(true));
        for _ in 0..depth {
            tree = SchemaTree {
                format: text("+l"),
                name: text("item"),
                flags: NULLABLE,
                child_count: 1,
                children: vec![tree],
                ..SchemaTree::default()
            };
            let kind = Kind::List { wide: false };
            deepest = Type { kind, nullable: true, children: vec![deepest], dictionary: None };
        }
        (tree, deepest)
    }

    /// Completes a struct whose format, children and dictionary are there, and damages it now and then.
    fn finish(&mut self, mut tree: SchemaTree, nullable: bool) -> SchemaTree {
        tree.flags = if nullable { NULLABLE } else { 0 };
        tree.child_count = tree.children.len() as i64;
        let extras = self.input.byte();
        tree.name = text(["x", "", "a longer name", "\u{e9}"][usize::from(extras & 3)]);
        if extras >> 2 & 7 == 7 {
            tree.metadata = Some(metadata(&[("key", "value"), ("", "")][..usize::from(extras >> 5 & 1) + 1]));
        }
        let Some(damage) = self.damage() else { return tree };
        match damage {
            0..=5 => tree.format = text(self.input.choice(&BAD_FORMATS)),
            6 => tree.format = Some([self.input.bytes(6), &[0]].concat()),
            7 => tree.format = None,
            8 => tree.name = None,
            9 => tree.name = Some(b"\xff\xfe\0".to_vec()),
            10 => tree.flags = i64::from(self.input.byte()) << self.input.below(57),
            11 => tree.child_count = self.input.choice(&[-1, i64::MIN, i64::MAX, 1 << 20]),
            12 => tree.child_count = (tree.child_count - 1).max(0),
            13 => tree.flaw = Flaw::Released,
            14 => tree.flaw = Flaw::NullTableOfChildren,
            15 => tree.flaw = Flaw::NullChild,
            16 => tree.flaw = Flaw::MisalignedChild,
            17 => tree.flaw = Flaw::MisalignedTableOfChildren,
            18 => tree.flaw = Flaw::MisalignedDictionary,
            19 => tree.dictionary = None,
            20 => tree.dictionary = Some(Box::new(tree.clone())),
            21 => tree.metadata = Some((-1_i32).to_ne_bytes().to_vec()),
            22 => tree.metadata = Some([1_i32.to_ne_bytes(), i32::MAX.to_ne_bytes()].concat()),
            _ => {
                let mut block = metadata(&[("key", "value")]);
                block.last_mut().into_iter().for_each(|byte| *byte = 0xff);
                tree.metadata = Some(block);
            }
        }
        tree
    }
}

/// A block of pairs as the interface has it.
fn metadata(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = (pairs.len() as i32).to_ne_bytes().to_vec();
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        block.extend((text.len() as i32).to_ne_bytes());
        block.extend(text.as_bytes());
    }
    block
}
