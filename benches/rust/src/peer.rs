//! The traits of those that are compared.

use crate::data::{Key, Row};

/// Where the attempt stands no chance of a commit.
#[derive(Debug)]
pub struct Aborted;

pub type Outcome<T> = Result<T, Aborted>;

/// A transaction that runs.
pub trait View {
    fn get(&mut self, key: &Key) -> Outcome<Row>;
    fn set(&mut self, key: &Key, row: Row) -> Outcome<()>;
    fn remove(&mut self, key: &Key) -> Outcome<()>;
    /// `SCAN_KEYS` keys from `start` on, added up.
    fn scan(&mut self, start: &Key) -> Outcome<f64>;

    fn increment(&mut self, key: &Key) -> Outcome<()> {
        let row = self.get(key)?;
        self.set(key, row.incremented())
    }
}

/// One thread's way into a peer.
pub trait Session {
    /// Runs `body` in a transaction and commits it, at once again while that is aborted; gives how often it was.
    fn run(&mut self, read_only: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64;
}

pub trait Peer: Sized + 'static {
    const NAME: &'static str;
    const CAN_SCAN: bool = true;
    /// Floors have no transactions.
    const TRANSACTIONAL: bool = true;
    type Session: Session;

    fn description() -> String;
    fn open() -> Self;
    fn session(&self) -> Self::Session;
    /// After the peer was loaded, and between runs.
    fn settle(&self) {}
}
