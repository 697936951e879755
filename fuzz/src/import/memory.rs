//! Descriptions of C structs, and the structs made of them: each buffer in an allocation of exactly its size, so that
//! AddressSanitizer sees every byte that is read beyond it, and all of it freed by the release callback.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::rc::Rc;

use khonsu::ffi::arrow::{ArrowArray, ArrowSchema};

/// What is wrong with a struct beyond the numbers in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flaw {
    #[default]
    None,
    Released,
    NullTableOfBuffers,
    NullTableOfChildren,
    MisalignedTableOfChildren,
    NullChild,
    MisalignedChild,
    MisalignedDictionary,
}

#[derive(Clone, Debug, Default)]
pub struct SchemaTree {
    /// Texts end with a NUL.
    pub format: Option<Vec<u8>>,
    pub name: Option<Vec<u8>>,
    pub metadata: Option<Vec<u8>>,
    pub flags: i64,
    /// As it is claimed.
    pub child_count: i64,
    pub children: Vec<SchemaTree>,
    pub dictionary: Option<Box<SchemaTree>>,
    pub flaw: Flaw,
}

#[derive(Clone, Debug)]
pub enum Buffer {
    Null,
    Bytes(Vec<u8>),
    /// At an odd address.
    Misaligned(Vec<u8>),
}

#[derive(Clone, Debug, Default)]
pub struct ArrayTree {
    pub length: i64,
    pub null_count: i64,
    pub offset: i64,
    /// As it is claimed.
    pub buffer_count: i64,
    pub buffers: Vec<Buffer>,
    /// As it is claimed.
    pub child_count: i64,
    pub children: Vec<ArrayTree>,
    pub dictionary: Option<Box<ArrayTree>>,
    pub flaw: Flaw,
}

/// How often a struct was released.
pub type Releases = Rc<Cell<u32>>;

#[derive(Default)]
struct Memory {
    blocks: Vec<(*mut u8, Layout)>,
    releases: Releases,
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (block, layout) in &self.blocks {
            // SAFETY: it was allocated by `block` with this layout.
            unsafe { dealloc(*block, *layout) };
        }
    }
}

const ALIGNMENT: usize = 64;

impl Memory {
    fn block(&mut self, bytes: &[u8]) -> *mut u8 {
        let layout = Layout::from_size_align(bytes.len(), ALIGNMENT).expect("it is small");
        // SAFETY: callers ask for one byte at least; the block has room for the bytes.
        let block = unsafe {
            let block = alloc(layout);
            assert!(!block.is_null());
            block.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            block
        };
        self.blocks.push((block, layout));
        block
    }

    /// The bytes, at an aligned address and with nothing behind them.
    fn exactly(&mut self, bytes: &[u8]) -> *const c_void {
        if bytes.is_empty() {
            // The end of a block: there is an address, but nothing to read.
            return self.block(&[0; ALIGNMENT]).wrapping_add(ALIGNMENT).cast();
        }
        self.block(bytes).cast()
    }

    fn buffer(&mut self, buffer: &Buffer) -> *const c_void {
        match buffer {
            Buffer::Null => null(),
            Buffer::Bytes(bytes) => self.exactly(bytes),
            Buffer::Misaligned(bytes) => self.block(&[&[0], bytes.as_slice()].concat()).wrapping_add(1).cast(),
        }
    }

    fn table<T>(&mut self, pointers: &[*mut T], misaligned: bool) -> *mut *mut T {
        let bytes: Vec<u8> = pointers.iter().flat_map(|pointer| (*pointer as usize).to_ne_bytes()).collect();
        let bytes = if misaligned { Buffer::Misaligned(bytes) } else { Buffer::Bytes(bytes) };
        self.buffer(&bytes).cast_mut().cast()
    }

    /// A struct in memory of its own; it has no destructor there.
    fn place<T>(&mut self, value: T) -> *mut T {
        let value = std::mem::ManuallyDrop::new(value);
        // SAFETY: the bytes of the struct, which has no padding.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>()) };
        self.block(bytes).cast()
    }

    fn children<T>(&mut self, children: Vec<T>, flaw: Flaw) -> *mut *mut T {
        let mut pointers: Vec<*mut T> = children.into_iter().map(|child| self.place(child)).collect();
        if let Some(first) = pointers.first_mut() {
            match flaw {
                Flaw::NullChild => *first = null_mut(),
                Flaw::MisalignedChild => *first = first.wrapping_byte_add(1),
                _ => {}
            }
        }
        match flaw {
            Flaw::NullTableOfChildren => null_mut(),
            _ => self.table(&pointers, flaw == Flaw::MisalignedTableOfChildren),
        }
    }

    fn dictionary<T>(&mut self, dictionary: Option<T>, flaw: Flaw) -> *mut T {
        let dictionary = dictionary.map_or(null_mut(), |dictionary| self.place(dictionary));
        if flaw == Flaw::MisalignedDictionary { dictionary.wrapping_byte_add(1) } else { dictionary }
    }

    fn schema(&mut self, tree: &SchemaTree) -> ArrowSchema {
        let children = tree.children.iter().map(|child| self.schema(child)).collect();
        let children = self.children(children, tree.flaw);
        let dictionary = tree.dictionary.as_ref().map(|dictionary| self.schema(dictionary));
        let mut text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or(null(), |bytes| self.exactly(bytes)).cast::<std::ffi::c_char>()
        };
        ArrowSchema {
            format: text(&tree.format),
            name: text(&tree.name),
            metadata: text(&tree.metadata),
            flags: tree.flags,
            n_children: tree.child_count,
            children,
            dictionary: self.dictionary(dictionary, tree.flaw),
            release: (tree.flaw != Flaw::Released).then_some(release_inner),
            private_data: null_mut(),
        }
    }

    fn array(&mut self, tree: &ArrayTree) -> ArrowArray {
        let children = tree.children.iter().map(|child| self.array(child)).collect();
        let children = self.children(children, tree.flaw);
        let dictionary = tree.dictionary.as_ref().map(|dictionary| self.array(dictionary));
        let buffers: Vec<*mut c_void> = tree.buffers.iter().map(|buffer| self.buffer(buffer).cast_mut()).collect();
        let buffers = match tree.flaw {
            Flaw::NullTableOfBuffers => null_mut(),
            _ => self.table(&buffers, false).cast(),
        };
        ArrowArray {
            length: tree.length,
            null_count: tree.null_count,
            offset: tree.offset,
            n_buffers: tree.buffer_count,
            n_children: tree.child_count,
            buffers,
            children,
            dictionary: self.dictionary(dictionary, tree.flaw),
            release: (tree.flaw != Flaw::Released).then_some(release_inner),
            private_data: null_mut(),
        }
    }
}

/// Of a child: it goes with its parent, and nobody else may release it where it stands.
unsafe extern "C" fn release_inner<T>(_: *mut T) {
    eprintln!("a child was released by itself");
    std::process::abort();
}

macro_rules! rooted {
    ($name:ident, $tree:ident, $make:ident) => {
        impl $tree {
            /// The struct, and how often it was released: not at all yet.
            pub fn to_c(&self) -> ($name, Releases) {
                unsafe extern "C" fn release(root: *mut $name) {
                    // SAFETY: a struct that is not released yet, whose memory this is.
                    unsafe {
                        (*root).release = None;
                        let memory = Box::from_raw((*root).private_data.cast::<Memory>());
                        memory.releases.set(memory.releases.get() + 1);
                    }
                }
                let mut memory = Box::new(Memory::default());
                let releases = Rc::clone(&memory.releases);
                let mut root = memory.$make(self);
                if root.release.is_some() {
                    root.release = Some(release);
                    root.private_data = Box::into_raw(memory).cast();
                }
                (root, releases)
            }
        }
    };
}

rooted!(ArrowSchema, SchemaTree, schema);
rooted!(ArrowArray, ArrayTree, array);
