//! What the C form of each type looks like: buffers, children, dictionary.

use arrow_schema::{DataType, Fields, IntervalUnit, UnionMode};

/// Columns of a batch that [`Layout::is_plain`] looks for.
pub(super) const MAX_PLAIN_COLUMNS: usize = 32;

/// Where the elements of an array are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// No buffer at all.
    Null,
    /// Validity, values as bits.
    Boolean,
    /// Validity, values of so many bytes.
    Fixed { width: usize },
    /// Validity, `int32` offsets, bytes.
    Binary32,
    /// Validity, `int64` offsets, bytes.
    Binary64,
    /// Validity, views of 16 bytes, any number of data buffers, their sizes as `int64`.
    View,
    /// Validity, `int32` offsets; one child. Maps, too.
    List32,
    /// Validity, `int64` offsets; one child.
    List64,
    /// Validity, `int32` offsets, `int32` sizes; one child.
    ListView32,
    /// Validity, `int64` offsets, `int64` sizes; one child.
    ListView64,
    /// Validity; one child with so many elements for each.
    FixedSizeList { size: usize },
    /// Validity; the children's elements stand side by side.
    Struct,
    /// Type ids; the children's elements stand side by side.
    SparseUnion,
    /// Type ids, `int32` offsets into the children.
    DenseUnion,
    /// No buffer; run ends of so many bytes and values as children.
    RunEndEncoded { width: usize },
}

impl Kind {
    /// Buffers that an array of this kind has; views have more, one for each data buffer.
    pub(super) fn buffer_count(self) -> usize {
        match self {
            Kind::Null | Kind::RunEndEncoded { .. } => 0,
            Kind::FixedSizeList { .. } | Kind::Struct | Kind::SparseUnion => 1,
            Kind::Boolean | Kind::Fixed { .. } | Kind::List32 | Kind::List64 | Kind::DenseUnion => 2,
            Kind::Binary32 | Kind::Binary64 | Kind::View | Kind::ListView32 | Kind::ListView64 => 3,
        }
    }

    /// Whether the first buffer is a validity bitmap.
    pub(super) fn has_validity(self) -> bool {
        !matches!(self, Kind::Null | Kind::SparseUnion | Kind::DenseUnion | Kind::RunEndEncoded { .. })
    }
}

/// One type in the tree of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayoutNode {
    pub(super) kind: Kind,
    /// Where this node's children begin in [`Layout::children`].
    pub(super) first_child: usize,
    pub(super) child_count: usize,
    /// The node of the dictionary's values.
    pub(super) dictionary: Option<usize>,
}

/// The types of a schema in pre-order, the whole batch (a struct) first; a dictionary's values come
/// after the children of its node.
#[derive(Debug, Default)]
pub(super) struct Layout {
    nodes: Vec<LayoutNode>,
    children: Vec<usize>,
    /// Whether all columns are plain ones of few bytes each, as [`Layout::is_plain`] says.
    plain: bool,
}

impl Layout {
    pub(super) fn new(fields: &Fields) -> Result<Layout, String> {
        let mut layout = Layout::default();
        layout.add(&DataType::Struct(fields.clone()), 0)?;
        layout.plain = fields.len() <= MAX_PLAIN_COLUMNS
            && layout.nodes[1..]
                .iter()
                .all(|node| matches!(node.kind, Kind::Fixed { width: ..=32 }) && node.dictionary.is_none());
        Ok(layout)
    }

    /// Whether there are at most [`MAX_PLAIN_COLUMNS`] columns, all of them of at most 32 bytes an
    /// element and without a dictionary.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(super) fn nodes(&self) -> &[LayoutNode] {
        &self.nodes
    }

    /// The children of `node`, as indexes of nodes.
    pub(super) fn children_of(&self, node: &LayoutNode) -> &[usize] {
        &self.children[node.first_child..node.first_child + node.child_count]
    }

    /// The children of all nodes, one node's after the other's.
    pub(super) fn children(&self) -> &[usize] {
        &self.children
    }

    pub(super) fn has_dictionary(&self) -> bool {
        self.nodes.iter().any(|node| node.dictionary.is_some())
    }

    fn add(&mut self, data_type: &DataType, depth: usize) -> Result<usize, String> {
        if depth > super::MAX_DEPTH {
            return Err(format!("nested deeper than {} types", super::MAX_DEPTH));
        }
        let (kind, child_types, dictionary) = describe(data_type)?;
        let index = self.nodes.len();
        let first_child = self.children.len();
        self.nodes.push(LayoutNode { kind, first_child, child_count: child_types.len(), dictionary: None });
        self.children.resize(first_child + child_types.len(), 0);
        for (position, child) in child_types.into_iter().enumerate() {
            let child = self.add(child, depth + 1)?;
            self.children[first_child + position] = child;
        }
        if let Some(values) = dictionary {
            let values = self.add(values, depth + 1)?;
            self.nodes[index].dictionary = Some(values);
        }
        Ok(index)
    }
}

type Description<'a> = (Kind, Vec<&'a DataType>, Option<&'a DataType>);

/// The kind of `data_type`, the types of its children, the type of its dictionary's values.
fn describe(data_type: &DataType) -> Result<Description<'_>, String> {
    let leaf = |kind| Ok((kind, Vec::new(), None));
    let fixed = |width| leaf(Kind::Fixed { width });
    match data_type {
        DataType::Null => leaf(Kind::Null),
        DataType::Boolean => leaf(Kind::Boolean),
        DataType::Int8 | DataType::UInt8 => fixed(1),
        DataType::Int16 | DataType::UInt16 | DataType::Float16 => fixed(2),
        DataType::Int32
        | DataType::UInt32
        | DataType::Float32
        | DataType::Date32
        | DataType::Time32(_)
        | DataType::Interval(IntervalUnit::YearMonth) => fixed(4),
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Interval(IntervalUnit::DayTime) => fixed(8),
        DataType::Interval(IntervalUnit::MonthDayNano) => fixed(16),
        DataType::Decimal32(precision, scale) => decimal(*precision, *scale, 9, 4),
        DataType::Decimal64(precision, scale) => decimal(*precision, *scale, 18, 8),
        DataType::Decimal128(precision, scale) => decimal(*precision, *scale, 38, 16),
        DataType::Decimal256(precision, scale) => decimal(*precision, *scale, 76, 32),
        DataType::FixedSizeBinary(width) => {
            fixed(usize::try_from(*width).map_err(|_| format!("a fixed-size binary cannot have {width} bytes"))?)
        }
        DataType::Utf8 | DataType::Binary => leaf(Kind::Binary32),
        DataType::LargeUtf8 | DataType::LargeBinary => leaf(Kind::Binary64),
        DataType::Utf8View | DataType::BinaryView => leaf(Kind::View),
        DataType::List(child) => Ok((Kind::List32, vec![child.data_type()], None)),
        DataType::LargeList(child) => Ok((Kind::List64, vec![child.data_type()], None)),
        DataType::ListView(child) => Ok((Kind::ListView32, vec![child.data_type()], None)),
        DataType::LargeListView(child) => Ok((Kind::ListView64, vec![child.data_type()], None)),
        DataType::FixedSizeList(child, size) => {
            let size = usize::try_from(*size).map_err(|_| format!("a fixed-size list cannot have {size} elements"))?;
            Ok((Kind::FixedSizeList { size }, vec![child.data_type()], None))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 && !fields[0].is_nullable() => {
                Ok((Kind::List32, vec![entries.data_type()], None))
            }
            _ => Err("a map's child must be a struct of a key that is not nullable and a value".to_string()),
        },
        DataType::Struct(fields) => {
            let children = fields.iter().map(|field| field.data_type()).collect();
            Ok((Kind::Struct, children, None))
        }
        DataType::Union(fields, mode) => {
            if fields.iter().any(|(id, _)| id < 0) {
                return Err("a union's type ids must not be negative".to_string());
            }
            let children = fields.iter().map(|(_, field)| field.data_type()).collect();
            let kind = match mode {
                UnionMode::Sparse => Kind::SparseUnion,
                UnionMode::Dense => Kind::DenseUnion,
            };
            Ok((kind, children, None))
        }
        DataType::Dictionary(keys, values) => {
            if !keys.is_dictionary_key_type() {
                return Err(format!("a dictionary's keys cannot be of type {keys}"));
            }
            let (kind, _, _) = describe(keys)?;
            Ok((kind, Vec::new(), Some(values)))
        }
        DataType::RunEndEncoded(run_ends, values) => {
            let width = match run_ends.data_type() {
                DataType::Int16 => 2,
                DataType::Int32 => 4,
                DataType::Int64 => 8,
                other => return Err(format!("run ends cannot be of type {other}")),
            };
            let children = vec![run_ends.data_type(), values.data_type()];
            Ok((Kind::RunEndEncoded { width }, children, None))
        }
    }
}

fn decimal(precision: u8, scale: i8, maximum: u8, width: usize) -> Result<Description<'static>, String> {
    if precision == 0 || precision > maximum || i16::from(scale) > i16::from(maximum) {
        return Err(format!("a decimal of {} bits cannot have precision {precision} and scale {scale}", width * 8));
    }
    Ok((Kind::Fixed { width }, Vec::new(), None))
}
