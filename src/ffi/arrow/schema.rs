//! Schemas: import with every check that the C form allows, and export in one allocation.

use super::export::export_schema;
use super::layout::Layout;
use super::raw::ArrowSchema;
use super::set_once::SetOnce;
use super::{MAX_DEPTH, catch, within};
use crate::ffi::error::Failure;
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{DataType, Field, Schema};
use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

/// Types in one schema, nested ones and dictionaries included.
const MAX_NODES: usize = 65_536;
/// Bytes of one metadata block. A block has no length of its own, so a damaged one could otherwise
/// lead the reading anywhere.
const MAX_METADATA_BYTES: usize = 64 << 20;

/// A checked schema; cloning it is a count.
#[derive(Clone, Debug)]
pub struct SchemaRef(Arc<SchemaParts>);

#[derive(Debug)]
struct SchemaParts {
    arrow: arrow_schema::SchemaRef,
    layout: Layout,
    /// In the order of the layout's nodes.
    fields: Vec<FieldForm>,
    /// What the fields' positions point into: strings with their NUL, metadata blocks.
    text: Box<[u8]>,
    /// The schema with a key in front, once it was asked for.
    with_key: SetOnce<SchemaRef>,
}

/// One `ArrowSchema` without its links, which the layout has.
#[derive(Debug)]
struct FieldForm {
    format: usize,
    name: Option<usize>,
    metadata: Option<usize>,
    flags: i64,
}

/// The strings of one exported `ArrowSchema`; they live as long as the [`SchemaRef`].
pub(super) struct FieldPointers {
    pub(super) format: *const c_char,
    pub(super) name: *const c_char,
    pub(super) metadata: *const c_char,
    pub(super) flags: i64,
}

impl SchemaRef {
    /// Imports the schema of a batch, a struct at its top. The struct is always consumed.
    ///
    /// Fails with INVALID_ARGUMENT when the schema is NULL, released, malformed, or has a type that
    /// arrow-rs does not carry.
    ///
    /// # Safety
    /// `schema` is NULL or points to a struct that is initialized as the C Data Interface says; what
    /// its pointers lead to is as the interface says.
    pub unsafe fn import(schema: *mut ArrowSchema) -> Result<SchemaRef, Failure> {
        if schema.is_null() {
            return Err(Failure::invalid_argument("the schema is NULL"));
        }
        // SAFETY: the caller's promise.
        let schema = unsafe { ArrowSchema::take(schema) };
        SchemaRef::from_c(schema)
    }

    pub(super) fn from_c(schema: ArrowSchema) -> Result<SchemaRef, Failure> {
        let mut nodes = 0;
        // SAFETY: the struct is owned and its producer promised what the interface says.
        unsafe { check(&schema, 0, &mut nodes) }.map_err(|failure| within("schema", failure))?;
        let converted = catch(|| {
            // SAFETY: the two structs have the same layout (see `raw`); the reference does not
            // outlive `schema`, which stays the owner.
            let schema = unsafe { &*ptr::from_ref(&schema).cast::<FFI_ArrowSchema>() };
            Schema::try_from(schema)
        });
        match converted {
            Ok(Ok(converted)) => SchemaRef::from_arrow(&converted),
            Ok(Err(error)) => Err(Failure::invalid_argument(format!("schema: {error}"))),
            Err(panic) => Err(Failure::invalid_argument(format!("schema: {panic}"))),
        }
    }

    /// The schema in the form in which it crosses the boundary. INVALID_ARGUMENT when the C Data
    /// Interface cannot carry it (a name with a NUL inside, for instance).
    pub fn from_arrow(schema: &Schema) -> Result<SchemaRef, Failure> {
        SchemaRef::from_arrow_ref(&Arc::new(schema.clone()))
    }

    pub(super) fn from_arrow_ref(schema: &arrow_schema::SchemaRef) -> Result<SchemaRef, Failure> {
        let refuse = |reason: String| Failure::invalid_argument(format!("schema: {reason}"));
        let layout = Layout::new(schema.fields()).map_err(refuse)?;
        let exported = catch(|| FFI_ArrowSchema::try_from(schema.as_ref()))
            .map_err(refuse)?
            .map_err(|error| refuse(error.to_string()))?;
        let mut fields = Vec::with_capacity(layout.nodes().len());
        let mut text = Vec::new();
        // SAFETY: the two structs have the same layout (see `raw`); `exported` outlives the call
        // and is as arrow-rs made it.
        unsafe {
            copy_form(&*ptr::from_ref(&exported).cast::<ArrowSchema>(), &mut fields, &mut text);
        }
        if fields.len() != layout.nodes().len() {
            return Err(refuse("its C form has another shape".to_string()));
        }
        let (arrow, text) = (schema.clone(), text.into_boxed_slice());
        Ok(SchemaRef(Arc::new(SchemaParts { arrow, layout, fields, text, with_key: SetOnce::new() })))
    }

    /// The schema with a column of keys, binary and not nullable, in front; made once.
    pub(crate) fn with_key(&self) -> Result<SchemaRef, Failure> {
        if let Some(schema) = self.0.with_key.get() {
            return Ok(schema.clone());
        }
        let fields: Vec<_> = std::iter::once(key_field()).chain(self.0.arrow.fields().iter().cloned()).collect();
        let schema = Schema::new_with_metadata(fields, self.0.arrow.metadata().clone());
        let schema = SchemaRef::from_arrow(&schema)?;
        Ok(self.0.with_key.get_or_set(schema).clone())
    }

    /// The schema of the column of keys alone.
    pub(crate) fn of_key() -> Result<SchemaRef, Failure> {
        static OF_KEY: SetOnce<SchemaRef> = SetOnce::new();
        if let Some(schema) = OF_KEY.get() {
            return Ok(schema.clone());
        }
        let schema = SchemaRef::from_arrow(&Schema::new(vec![key_field()]))?;
        Ok(OF_KEY.get_or_set(schema).clone())
    }

    /// A struct that holds this schema on its own; it may be released on any thread.
    pub fn export(&self) -> ArrowSchema {
        export_schema(self)
    }

    /// The schema as arrow-rs has it.
    pub fn arrow(&self) -> &arrow_schema::SchemaRef {
        &self.0.arrow
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(super) fn field_pointers(&self, node: usize) -> FieldPointers {
        let field = &self.0.fields[node];
        let at = |position: usize| self.0.text[position..].as_ptr().cast::<c_char>();
        FieldPointers {
            format: at(field.format),
            name: field.name.map_or(ptr::null(), at),
            metadata: field.metadata.map_or(ptr::null(), at),
            flags: field.flags,
        }
    }

    /// Whether both are one and the same object, which equality tries first.
    #[inline]
    pub(crate) fn is_same_object(&self, other: &SchemaRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn key_field() -> Arc<Field> {
    Arc::new(Field::new("key", DataType::Binary, false))
}

/// Names, types, nullability and metadata are equal.
impl PartialEq for SchemaRef {
    #[inline]
    fn eq(&self, other: &SchemaRef) -> bool {
        self.is_same_object(other) || Arc::ptr_eq(&self.0.arrow, &other.0.arrow) || self.0.arrow == other.0.arrow
    }
}

impl Eq for SchemaRef {}

/// Copies the strings of `schema` and of all under it, in the order of [`Layout`]'s nodes.
///
/// # Safety
/// `schema` was made by arrow-rs from a schema whose layout is known, so it is well formed and its
/// depth is bounded.
unsafe fn copy_form(schema: &ArrowSchema, fields: &mut Vec<FieldForm>, text: &mut Vec<u8>) {
    let mut keep = |bytes: &[u8]| {
        let position = text.len();
        text.extend_from_slice(bytes);
        position
    };
    // SAFETY: arrow-rs sets format and, where a name is set, NUL-terminates it.
    let (format, name) = unsafe {
        let format = keep(CStr::from_ptr(schema.format).to_bytes_with_nul());
        let name = (!schema.name.is_null()).then(|| keep(CStr::from_ptr(schema.name).to_bytes_with_nul()));
        (format, name)
    };
    // SAFETY: arrow-rs wrote the block.
    let metadata =
        unsafe { metadata_pairs(schema.metadata) }.ok().filter(|pairs| !pairs.is_empty()).map(|mut pairs| {
            // arrow-rs keeps pairs in a hash map: without an order the copies of one schema differ.
            pairs.sort_unstable();
            // Consumers may read the lengths as integers in place.
            let padding = [0; 4];
            let position = text.len().next_multiple_of(4);
            text.extend_from_slice(&padding[..position - text.len()]);
            // The count came from an i32.
            text.extend_from_slice(&(pairs.len() as i32).to_ne_bytes());
            for (key, value) in pairs {
                for part in [key, value] {
                    text.extend_from_slice(&(part.len() as i32).to_ne_bytes());
                    text.extend_from_slice(part);
                }
            }
            position
        });
    fields.push(FieldForm { format, name, metadata, flags: schema.flags });
    for child in 0..schema.n_children as usize {
        // SAFETY: arrow-rs sets as many children as it says.
        unsafe { copy_form(&**schema.children.add(child), fields, text) };
    }
    if !schema.dictionary.is_null() {
        // SAFETY: not NULL, so arrow-rs set it.
        unsafe { copy_form(&*schema.dictionary, fields, text) };
    }
}

/// Checks one type and all under it, before arrow-rs (which would panic) reads them.
///
/// # Safety
/// `schema` is what its producer says it is: pointers that are not NULL can be followed.
unsafe fn check(schema: &ArrowSchema, depth: usize, nodes: &mut usize) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::invalid_argument(reason));
    if schema.release.is_none() {
        return refuse("the ArrowSchema is already released".to_string());
    }
    if depth > MAX_DEPTH {
        return refuse(format!("nested deeper than {MAX_DEPTH} types"));
    }
    *nodes += 1;
    if *nodes > MAX_NODES {
        return refuse(format!("more than {MAX_NODES} types"));
    }
    // SAFETY: strings that are not NULL end with a NUL, by the interface.
    let (format, name) = unsafe { (text(schema.format)?, text(schema.name)?) };
    let Some(format) = format else {
        return refuse("the format is NULL".to_string());
    };
    let name = name.unwrap_or("");
    // SAFETY: the block is as the interface says, as far as its own lengths allow to check.
    let pairs = unsafe { metadata_pairs(schema.metadata) }
        .map_err(|failure| within(format_args!("metadata of {name:?}"), failure))?;
    for (key, value) in pairs {
        if std::str::from_utf8(key).is_err() || std::str::from_utf8(value).is_err() {
            return refuse(format!("metadata of {name:?} is not UTF-8"));
        }
    }
    if depth == 0 && format != "+s" {
        return refuse(format!("the format of a batch must be \"+s\", not {format:?}"));
    }
    if schema.n_children < 0 || schema.n_children as u64 > MAX_NODES as u64 {
        return refuse(format!("{:?} has {} children", name, schema.n_children));
    }
    let children = schema.n_children as usize;
    let expected = match format {
        "+s" => children,
        "+l" | "+L" | "+vl" | "+vL" | "+m" => 1,
        "+r" => 2,
        other if other.starts_with("+w:") => 1,
        // arrow-rs compares the type ids with the children.
        other if other.starts_with("+us:") || other.starts_with("+ud:") => children,
        _ => 0,
    };
    if children != expected {
        return refuse(format!("{name:?} of format {format:?} has {children} children, not {expected}"));
    }
    if format == "+us:" || format == "+ud:" {
        return refuse(format!("{name:?} is a union of no types"));
    }
    if children > 0 && (schema.children.is_null() || !schema.children.is_aligned()) {
        return refuse(format!("the children of {name:?} are NULL or misaligned"));
    }
    for index in 0..children {
        // SAFETY: not NULL, aligned, with as many entries as the producer says.
        let child = unsafe { *schema.children.add(index) };
        if child.is_null() || !child.is_aligned() {
            return refuse(format!("child {index} of {name:?} is NULL or misaligned"));
        }
        // SAFETY: not NULL, aligned; the producer keeps it while the parent is not released.
        unsafe { check(&*child, depth + 1, nodes) }
            .map_err(|failure| within(format_args!("child {index} of {name:?}"), failure))?;
    }
    if !schema.dictionary.is_null() {
        if !matches!(format, "c" | "C" | "s" | "S" | "i" | "I" | "l" | "L") {
            return refuse(format!("{name:?} has a dictionary, but keys of format {format:?}"));
        }
        if !schema.dictionary.is_aligned() {
            return refuse(format!("the dictionary of {name:?} is misaligned"));
        }
        // SAFETY: as for a child.
        unsafe { check(&*schema.dictionary, depth + 1, nodes) }
            .map_err(|failure| within(format_args!("dictionary of {name:?}"), failure))?;
    }
    Ok(())
}

/// # Safety
/// `pointer` is NULL or leads to a NUL-terminated string that lives as long as its schema.
unsafe fn text<'a>(pointer: *const c_char) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .map(Some)
        .map_err(|_| Failure::invalid_argument("a format or a name is not UTF-8"))
}

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The pairs of a metadata block.
///
/// # Safety
/// `block` is NULL or leads to a metadata block that lives as long as its schema.
unsafe fn metadata_pairs<'a>(block: *const c_char) -> Result<Pairs<'a>, Failure> {
    if block.is_null() {
        return Ok(Vec::new());
    }
    let mut position = 0;
    let mut next_length = |take: bool, what: &str| -> Result<(usize, &'a [u8]), Failure> {
        // SAFETY: the block holds what its counts say, and each is checked before it is followed.
        let length = unsafe {
            let mut bytes = [0u8; 4];
            ptr::copy_nonoverlapping(block.add(position).cast::<u8>(), bytes.as_mut_ptr(), 4);
            i32::from_ne_bytes(bytes)
        };
        position += 4;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| position + *length <= MAX_METADATA_BYTES)
            .ok_or_else(|| Failure::invalid_argument(format!("{what} of {length}")))?;
        if !take {
            return Ok((length, &[]));
        }
        // SAFETY: as above; the length was checked.
        let bytes = unsafe { std::slice::from_raw_parts(block.add(position).cast::<u8>(), length) };
        position += length;
        Ok((length, bytes))
    };
    let (count, _) = next_length(false, "count")?;
    let mut pairs = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let (_, key) = next_length(true, "key length")?;
        let (_, value) = next_length(true, "value length")?;
        pairs.push((key, value));
    }
    Ok(pairs)
}
