//! What the C form of each type looks like: buffers, children, dictionary.

use arrow_schema::{DataType, Fields, IntervalUnit, UnionMode};
use std::ops::Range;

/// Columns of a batch that may be plain.
pub(super) const MAX_PLAIN_COLUMNS: usize = 32;
/// Bytes of an element of a column that may be plain.
const MAX_PLAIN_WIDTH: usize = 32;
/// Rows of a plain batch: with the widest elements in all columns, sizes stay far from overflow.
pub(super) const MAX_PLAIN_ROWS: usize = 4096;

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

impl LayoutNode {
    /// Whether there is no other node under it.
    pub(super) fn is_leaf(&self) -> bool {
        self.child_count == 0 && self.dictionary.is_none()
    }
}

/// The types of a schema in pre-order, the whole batch (a struct) first; a dictionary's values come
/// after the children of its node.
#[derive(Debug, Default)]
pub(super) struct Layout {
    nodes: Vec<LayoutNode>,
    children: Vec<usize>,
    plain: Option<PlainLayout>,
}

/// A column of a plain batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainColumn {
    /// Of an element: whole bytes, or 1 for booleans.
    bits: u32,
    alignment: u32,
    /// Bytes of a row in the columns before, unless there may be gaps between the columns.
    before: u32,
}

/// Where the columns of a batch without nulls stand when all of them have one buffer of elements of
/// one size: column after column, each one aligned. The number of rows determines all positions.
#[derive(Debug)]
pub(super) struct PlainLayout {
    columns: Vec<PlainColumn>,
    /// Bytes of a row in all columns, unless there may be gaps between the columns.
    row_bytes: Option<usize>,
}

impl PlainColumn {
    fn new(node: &LayoutNode) -> Option<PlainColumn> {
        let (bits, alignment) = match node.kind {
            Kind::Boolean => (1, 8),
            // Only decimals and the like need more than 8, and these have 16 bytes or 32.
            Kind::Fixed { width: width @ ..=MAX_PLAIN_WIDTH } => {
                (width as u32 * 8, if width > 0 && width.is_multiple_of(16) { 16 } else { 8 })
            }
            _ => return None,
        };
        node.dictionary.is_none().then_some(PlainColumn { bits, alignment, before: 0 })
    }

    /// Bits of an element.
    pub(super) fn bits(self) -> usize {
        self.bits as usize
    }

    /// The bytes of so many rows, the first that are aligned from `position` on.
    #[inline]
    fn span(self, position: usize, rows: usize) -> Range<usize> {
        let mask = self.alignment as usize - 1;
        let start = (position + mask) & !mask;
        start..start + (rows * self.bits()).div_ceil(8)
    }

    /// Whether elements are bits and not bytes.
    pub(super) fn is_boolean(self) -> bool {
        self.bits == 1
    }
}

impl PlainLayout {
    /// The layout below the first node, the batch; None when a column is not as it must be.
    fn new(columns: &[LayoutNode]) -> Option<PlainLayout> {
        if columns.len() > MAX_PLAIN_COLUMNS {
            return None;
        }
        let mut columns = columns.iter().map(PlainColumn::new).collect::<Option<Vec<_>>>()?;
        // There is no gap where each column's bytes keep the next one's alignment, whatever the rows.
        let gapless = columns.windows(2).all(|pair| pair[0].bits.is_multiple_of(pair[1].alignment * 8))
            && columns.is_sorted_by_key(|column| std::cmp::Reverse(column.alignment))
            && columns.iter().all(|column| column.bits.is_multiple_of(8));
        let row_bytes = gapless.then(|| {
            let mut before = 0;
            for column in &mut columns {
                column.before = before;
                before += column.bits / 8;
            }
            before as usize
        });
        Some(PlainLayout { columns, row_bytes })
    }

    pub(super) fn columns(&self) -> &[PlainColumn] {
        &self.columns
    }

    /// Bytes of all columns, the gaps between them included; `rows` are at most [`MAX_PLAIN_ROWS`].
    #[inline]
    pub(super) fn data_bytes(&self, rows: usize) -> usize {
        match self.row_bytes {
            Some(bytes) => bytes * rows,
            None => self.spans(rows).last().map_or(0, |span| span.end),
        }
    }

    /// The bytes that each column takes, counted from the first column's; `rows` are at most
    /// [`MAX_PLAIN_ROWS`]. They do not overlap, and none ends behind [`PlainLayout::data_bytes`].
    #[inline]
    pub(super) fn spans(&self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let mut position = 0usize;
        self.columns.iter().map(move |column| {
            let span = column.span(position, rows);
            position = span.end;
            span
        })
    }

    /// Tells `visit` of each column, by its number, where it begins (what [`PlainLayout::spans`] says, in fewer steps),
    /// until that returns false; returns whether none did.
    #[inline(always)]
    pub(super) fn each_start(&self, rows: usize, mut visit: impl FnMut(usize, PlainColumn, usize) -> bool) -> bool {
        let gapless = self.row_bytes.is_some();
        let mut position = 0;
        for (number, column) in self.columns.iter().enumerate() {
            let start = if gapless {
                rows * column.before as usize
            } else {
                let span = column.span(position, rows);
                position = span.end;
                span.start
            };
            if !visit(number, *column, start) {
                return false;
            }
        }
        true
    }
}

impl Layout {
    pub(super) fn new(fields: &Fields) -> Result<Layout, String> {
        let mut layout = Layout::default();
        layout.add(&DataType::Struct(fields.clone()), 0)?;
        layout.plain = PlainLayout::new(&layout.nodes[1..]);
        Ok(layout)
    }

    /// The positions in plain batches; None unless there are at most [`MAX_PLAIN_COLUMNS`] columns,
    /// all of them booleans or of at most [`MAX_PLAIN_WIDTH`] bytes an element, without a dictionary.
    /// The node of a column is the one behind its index then.
    pub(super) fn plain(&self) -> Option<&PlainLayout> {
        self.plain.as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn plain(types: &[DataType]) -> Option<PlainLayout> {
        let fields: Fields = types.iter().map(|data_type| Field::new("x", data_type.clone(), true)).collect();
        Layout::new(&fields).unwrap().plain
    }

    #[test]
    fn plain_columns_are_aligned_and_apart() {
        let types = [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int32,
            DataType::Int64,
            DataType::FixedSizeBinary(0),
            DataType::FixedSizeBinary(3),
            DataType::FixedSizeBinary(24),
            DataType::Decimal128(30, 2),
            DataType::Decimal256(60, 2),
        ];
        for first in &types {
            for second in &types {
                for third in &types {
                    let layout = plain(&[first.clone(), second.clone(), third.clone()]).unwrap();
                    for rows in [0, 1, 2, 3, 9, MAX_PLAIN_ROWS] {
                        let mut end = 0;
                        for (column, span) in layout.columns().iter().zip(layout.spans(rows)) {
                            assert!(span.start >= end && span.start < end + 16);
                            assert!(span.start.is_multiple_of(column.alignment as usize));
                            assert_eq!(span.len(), (rows * column.bits()).div_ceil(8));
                            end = span.end;
                        }
                        assert_eq!(layout.data_bytes(rows), end, "{first} {second} {third} {rows}");
                        let spans: Vec<_> = layout.spans(rows).collect();
                        assert!(layout.each_start(rows, |number, column, start| {
                            column.bits == layout.columns()[number].bits && start == spans[number].start
                        }));
                    }
                }
            }
        }
        assert_eq!(plain(&[]).unwrap().data_bytes(7), 0);
        assert_eq!(plain(&[DataType::Decimal256(60, 2), DataType::Int64]).unwrap().row_bytes, Some(40));
        assert_eq!(plain(&[DataType::Int64, DataType::Decimal256(60, 2)]).unwrap().row_bytes, None);
    }

    #[test]
    fn other_columns_are_not_plain() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int8));
        for other in [DataType::Null, DataType::Utf8, DataType::FixedSizeBinary(33), dictionary] {
            assert!(plain(&[DataType::Int64, other]).is_none());
        }
        assert!(plain(&vec![DataType::Int8; MAX_PLAIN_COLUMNS]).is_some());
        assert!(plain(&vec![DataType::Int8; MAX_PLAIN_COLUMNS + 1]).is_none());
    }
}
