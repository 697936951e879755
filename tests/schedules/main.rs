//! Whole transactions under schedules that shuttle chooses: `cargo test --features shuttle --test schedules`.
//!
//! Each operation on an atomic of the core is a point at which another thread may go on, so races of a few instructions
//! come up thousands of times as often as on free threads, and a failure can be replayed from its seed. What this does
//! not see: weak memory (shuttle's atomics are sequentially consistent; see `src/stm/model_checks` for loom), and the
//! inside of crossbeam-epoch and crossbeam-skiplist, each call of which is one step here.
//!
//! `KHONSU_SCHEDULES_SECONDS` explores each scenario for so long with a new seed, `KHONSU_SCHEDULES_SEED` sets the
//! seed.

mod certification;
mod explore;
mod history;
mod log;
mod logged;
mod reclamation;
mod two_phase_commit;
mod visibility;
mod writes;
