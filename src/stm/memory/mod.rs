//! The shared memory of the core, and its only unsafe code: records, version chains, the two indexes, descriptors and
//! the pool of transaction contexts. Everything above it is safe code.
//!
//! # Invariants
//! 1. *Pins.* Every guard that is passed in comes from the collector of the database that the data belong to. What was
//!    reached under a guard stays allocated until that guard ends: memory is freed by the collector only after it was
//!    unlinked from everything that leads to it.
//! 2. *Records.* A record is counted ([`RecordRef`]). The hash index owns one count, each node of the order index one,
//!    and whoever keeps a record beyond a guard one more. An index gives its count back only through the collector, so
//!    that a record found under a guard has a count above zero for as long as the guard lives, and may be cloned. The
//!    hash index has a record until it is sealed: one that is kept and found unsealed is as good as found there. A bound
//!    key gives the count of what it has replaced back through the collector, too.
//! 3. *Chains.* Versions are linked newest first, stamps strictly decreasing. Only the head may be undecided or
//!    aborted; where commits are logged, those on their way to the log may stand in any number above the newest
//!    committed version, and those that failed there anywhere. The head changes by compare-and-swap alone. Links below
//!    the newest committed version change only under the record's `trimming` flag, which is tried and never waited for,
//!    so there is one trimmer at a time.
//! 4. *Unlink once, retire once.* Whoever unlinks a version (by the swap of the head that bypasses it, or as the
//!    trimmer) retires it, and nobody else does.
//! 5. *Descriptors.* A version's stamp word points to its transaction's descriptor until the transaction is finished by
//!    its owner, and so do the announcement in the owner's slot where the transaction is certified, and the word of a
//!    prepared transaction where it is an attempt to commit that. The owner retires the descriptor after it has taken
//!    these back, or found that others have, and replaced or unlinked each of the stamp words. It unlinks no version,
//!    and so retires none, before the transaction is decided: who has seen it undecided under a guard may follow what
//!    it names.
//! 6. *Seals.* A sealed record stays sealed and gets no version ever again. It is unlinked from the indexes by
//!    whoever meets it. A thread that links a record into the order index looks for the seal afterwards; one that seals
//!    unlinks afterwards; a sequentially consistent fence stands between the two steps on both sides, so that at least
//!    one of them sees the other and no sealed record stays linked.

#![allow(unsafe_code)]

pub(crate) mod blocks;
mod bound;
mod decision;
mod descriptor;
mod index;
#[cfg(all(test, feature = "loom"))]
mod model_checks;
mod notes;
mod order;
mod participant;
mod pool;
mod reader_mark;
mod recent;
mod record;
mod segments;
mod stack;
mod version;

pub(crate) use bound::BoundRecord;
pub(crate) use decision::{DecisionWord, Standing};
pub(crate) use descriptor::{Descriptor, Installation, LoggedDecision, Phase};
pub(crate) use index::HashIndex;
pub(crate) use order::OrderIndex;
pub(crate) use participant::{Owner, Participant};
pub(crate) use pool::{Claim, Pool, Presence, Reuse};
pub(crate) use reader_mark::ReaderMark;
pub(crate) use recent::Recent;
pub(crate) use record::{Head, Record, RecordRef, Residue};
pub(crate) use stack::{Stack, Taken};
pub(crate) use version::{State, Version};

/// Asks the cache for the line of a place that will be read soon; nothing happens when the place is gone.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing but the cache, wherever the pointer leads.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
}
