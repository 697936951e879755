//! Values: what a key names. A value is a non-empty list of chunks, Arrow batches of one schema, kept as a
//! persistent list, so that appending shares everything that was there before and costs only what is appended.

use std::sync::Arc;

use super::error::Error;

/// One Arrow batch as the core sees it: opaque rows of one schema. Cloning must be cheap (a reference count).
pub trait Chunk: Clone + Send + Sync + 'static {
    /// Whether both chunks have the same schema: names, types, nullability and metadata.
    fn same_schema(&self, other: &Self) -> bool;
    /// Number of rows.
    fn rows(&self) -> u64;
    /// Bytes of memory that the chunk holds.
    fn bytes(&self) -> u64;
    /// Where reading the chunk begins in memory. Readers ask the cache for it some steps ahead, and it may be gone by
    /// then.
    fn location(&self) -> *const () {
        std::ptr::null()
    }
}

impl Chunk for arrow_array::RecordBatch {
    fn same_schema(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.schema_ref(), other.schema_ref()) || self.schema_ref() == other.schema_ref()
    }

    fn rows(&self) -> u64 {
        self.num_rows() as u64
    }

    fn bytes(&self) -> u64 {
        self.get_array_memory_size() as u64
    }
}

/// A non-empty list of chunks of one schema. Cloning and [`append`](Value::append) share the chunks.
pub struct Value<C>(List<C>);

enum List<C> {
    /// The common case, without an allocation of its own.
    One(C),
    Many(Arc<Node<C>>),
}

/// Newest chunk first; the sums cover this node and all older ones.
struct Node<C> {
    chunk: C,
    older: Option<Arc<Node<C>>>,
    chunk_count: usize,
    rows: u64,
    bytes: u64,
}

impl<C> Drop for Node<C> {
    /// Unlinks the list step by step: a list of many small appends would overflow the stack by recursion.
    fn drop(&mut self) {
        let mut older = self.older.take();
        while let Some(mut node) = older.and_then(Arc::into_inner) {
            older = node.older.take();
        }
    }
}

impl<C: Clone> Clone for Value<C> {
    fn clone(&self) -> Self {
        Value(match &self.0 {
            List::One(chunk) => List::One(chunk.clone()),
            List::Many(node) => List::Many(Arc::clone(node)),
        })
    }
}

impl<C: Chunk> From<C> for Value<C> {
    fn from(chunk: C) -> Self {
        Value(List::One(chunk))
    }
}

impl<C: Chunk> Value<C> {
    /// A value of one chunk.
    pub fn new(chunk: C) -> Self {
        Value(List::One(chunk))
    }

    /// A value of all chunks in order, or `None` where there is no chunk.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] when the chunks differ in schema.
    pub fn from_chunks(chunks: impl IntoIterator<Item = C>) -> Result<Option<Self>, Error> {
        let mut chunks = chunks.into_iter();
        let Some(first) = chunks.next() else {
            return Ok(None);
        };
        chunks.try_fold(Value::new(first), |value, chunk| value.append(&Value::new(chunk))).map(Some)
    }

    /// This value with the rows of `newer` after its own. Costs the number of chunks of `newer`.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] when the schemas differ.
    pub fn append(&self, newer: &Value<C>) -> Result<Self, Error> {
        check_appended(self.newest(), newer)?;
        let mut node = match &self.0 {
            List::One(chunk) => Node::link(chunk.clone(), None),
            List::Many(node) => Arc::clone(node),
        };
        match &newer.0 {
            List::One(chunk) => node = Node::link(chunk.clone(), Some(node)),
            List::Many(_) => {
                for chunk in newer.chunks() {
                    node = Node::link(chunk, Some(node));
                }
            }
        }
        Ok(Value(List::Many(node)))
    }

    /// Number of chunks, at least one.
    pub fn chunk_count(&self) -> usize {
        match &self.0 {
            List::One(_) => 1,
            List::Many(node) => node.chunk_count,
        }
    }

    /// Rows of all chunks together.
    pub fn rows(&self) -> u64 {
        match &self.0 {
            List::One(chunk) => chunk.rows(),
            List::Many(node) => node.rows,
        }
    }

    /// Bytes of memory that all chunks together hold.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            List::One(chunk) => chunk.bytes(),
            List::Many(node) => node.bytes,
        }
    }

    /// The chunk of a value that has just one.
    pub fn single(&self) -> Option<&C> {
        match &self.0 {
            List::One(chunk) => Some(chunk),
            List::Many(node) if node.older.is_none() => Some(&node.chunk),
            List::Many(_) => None,
        }
    }

    /// The chunk that was appended last.
    pub fn newest(&self) -> &C {
        match &self.0 {
            List::One(chunk) => chunk,
            List::Many(node) => &node.chunk,
        }
    }

    /// All chunks, oldest first.
    pub fn chunks(&self) -> Vec<C> {
        match &self.0 {
            List::One(chunk) => vec![chunk.clone()],
            List::Many(node) => {
                let mut chunks = Vec::with_capacity(node.chunk_count);
                let mut next = Some(node);
                while let Some(node) = next {
                    chunks.push(node.chunk.clone());
                    next = node.older.as_ref();
                }
                chunks.reverse();
                chunks
            }
        }
    }
}

impl<C: Chunk> Node<C> {
    fn link(chunk: C, older: Option<Arc<Node<C>>>) -> Arc<Self> {
        let (chunk_count, rows, bytes) =
            older.as_ref().map_or((0, 0, 0), |node| (node.chunk_count, node.rows, node.bytes));
        Arc::new(Node {
            chunk_count: chunk_count + 1,
            rows: rows + chunk.rows(),
            bytes: bytes + chunk.bytes(),
            chunk,
            older,
        })
    }
}

/// Whether rows can go after those of a value of which `sample` is a chunk.
pub(super) fn check_appended<C: Chunk>(sample: &C, rows: &Value<C>) -> Result<(), Error> {
    match sample.same_schema(rows.newest()) {
        true => Ok(()),
        false => {
            Err(Error::SchemaMismatch("the appended rows have another schema than the rows of the value".to_owned()))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A chunk for tests of the core: rows of numbers, of a schema that is a number, too.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Rows {
        pub schema: u8,
        pub rows: Vec<u64>,
    }

    impl Chunk for Rows {
        fn same_schema(&self, other: &Self) -> bool {
            self.schema == other.schema
        }
        fn rows(&self) -> u64 {
            self.rows.len() as u64
        }
        fn bytes(&self) -> u64 {
            8 * self.rows()
        }
    }

    pub(crate) fn rows(values: &[u64]) -> Value<Rows> {
        Value::new(Rows { schema: 0, rows: values.to_vec() })
    }

    pub(crate) fn flat(value: &Value<Rows>) -> Vec<u64> {
        value.chunks().into_iter().flat_map(|chunk| chunk.rows).collect()
    }

    #[test]
    fn appending_shares_and_sums() {
        let one = rows(&[1, 2]);
        let two = one.append(&rows(&[3])).unwrap();
        let both = two.append(&two).unwrap();
        assert_eq!(flat(&both), [1, 2, 3, 1, 2, 3]);
        assert_eq!((both.chunk_count(), both.rows(), both.bytes()), (4, 6, 48));
        assert_eq!(flat(&one), [1, 2]);
        assert!(one.single().is_some() && two.single().is_none());
    }

    #[test]
    fn schemas_must_agree() {
        let other = Value::new(Rows { schema: 1, rows: vec![] });
        assert!(matches!(rows(&[1]).append(&other), Err(Error::SchemaMismatch(_))));
        assert!(Value::<Rows>::from_chunks([]).unwrap().is_none());
    }

    #[test]
    fn a_long_list_is_dropped_without_recursion() {
        let mut value = rows(&[0]);
        for row in 1..300_000 {
            value = value.append(&rows(&[row])).unwrap();
        }
        assert_eq!(value.chunk_count(), 300_000);
        drop(value);
    }
}
