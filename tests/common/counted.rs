//! Chunks that know how many of them live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use khonsu::stm::{Chunk, TransactionManager};

/// Counts its living copies by content: a clone shares the count, as a clone of a batch shares its buffers.
#[derive(Clone)]
pub struct Counted(Arc<Content>);

struct Content {
    number: u64,
    bytes: u64,
    living: Arc<AtomicUsize>,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counted {
    pub fn number(&self) -> u64 {
        self.0.number
    }
}

impl Chunk for Counted {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }

    fn rows(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        self.0.bytes
    }
}

/// Makes chunks and knows how many live.
#[derive(Clone, Default)]
pub struct Maker(Arc<AtomicUsize>);

impl Maker {
    pub fn chunk(&self, number: u64) -> Counted {
        self.sized(number, 8)
    }

    pub fn sized(&self, number: u64, bytes: u64) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::new(Content { number, bytes, living: Arc::clone(&self.0) }))
    }

    pub fn living(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Memory is freed behind what stats count, some calls later at most.
#[track_caller]
pub fn assert_living(database: &TransactionManager<Counted>, maker: &Maker, expected: usize) {
    for _ in 0..200 {
        if maker.living() == expected {
            return;
        }
        database.stats();
    }
    assert_eq!(maker.living(), expected, "chunks are left");
}
