//! A log that keeps nothing, takes its time, and refuses some commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use khonsu::stm::{AppendError, CommitLog, Durability, Error, LoggedCommit, Mutation, Note, Prepared};

use super::Random;

pub struct SlowLog {
    calls: AtomicU64,
    /// One commit in so many is refused; 0: none.
    refused: u64,
}

impl SlowLog {
    pub fn new(refused: u64) -> Self {
        SlowLog { calls: AtomicU64::new(0), refused }
    }
}

impl<C> CommitLog<C> for SlowLog {
    fn prepare(&self, _: &[Mutation<'_, C>]) -> Result<Prepared, Error> {
        Ok(Arc::new(()))
    }

    fn append(&self, commits: &[LoggedCommit<'_>], _: Durability) -> Result<(), AppendError> {
        self.take(commits.len())
    }

    fn keeps_prepared(&self) -> bool {
        true
    }

    fn note(&self, notes: &[Note<'_, Prepared>], _: Durability) -> Result<(), AppendError> {
        self.take(notes.len())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self) {}
}

impl SlowLog {
    /// Takes its time over so many, and refuses some.
    fn take(&self, count: usize) -> Result<(), AppendError> {
        // Relaxed: it is only to differ from call to call.
        let mut random = Random::new(self.calls.fetch_add(1, Ordering::Relaxed));
        match random.below(4) {
            0 => thread::sleep(Duration::from_micros(random.below(60))),
            1 => thread::yield_now(),
            _ => {}
        }
        for written in 0..count {
            if self.refused > 0 && random.below(self.refused) == 0 {
                return Err(AppendError { written, cause: Error::Storage("it is refused".to_owned()) });
            }
        }
        Ok(())
    }
}
