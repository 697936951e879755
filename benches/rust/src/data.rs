//! What every peer stores: the same as benches/data.hpp.

/// Keys of the other peers are `user%012d`.
pub type Key = [u8; 16];

/// The four columns, and then bytes that nobody reads.
pub type Value = [u8; 100];

pub const OPERATIONS: usize = 10;
pub const SCAN_KEYS: usize = 100;

#[derive(Clone, Copy)]
pub struct Row {
    pub id: i64,
    pub counter: i64,
    pub price: f64,
    pub amount: f64,
}

impl Row {
    pub fn new(id: i64, counter: i64) -> Self {
        Row { id, counter, price: id as f64 * 0.25, amount: counter as f64 * 0.5 }
    }

    /// One more.
    pub fn incremented(self) -> Self {
        Row::new(self.id, self.counter + 1)
    }

    pub fn sum(self) -> f64 {
        (self.id + self.counter) as f64 + self.price + self.amount
    }

    pub fn to_value(self) -> Value {
        let mut value = [b'a' + self.id.rem_euclid(26) as u8; 100];
        value[0..8].copy_from_slice(&self.id.to_ne_bytes());
        value[8..16].copy_from_slice(&self.counter.to_ne_bytes());
        value[16..24].copy_from_slice(&self.price.to_ne_bytes());
        value[24..32].copy_from_slice(&self.amount.to_ne_bytes());
        value
    }

    pub fn of(value: &[u8]) -> Self {
        let word = |at: usize| value[at..at + 8].try_into().expect("eight bytes");
        Row {
            id: i64::from_ne_bytes(word(0)),
            counter: i64::from_ne_bytes(word(8)),
            price: f64::from_ne_bytes(word(16)),
            amount: f64::from_ne_bytes(word(24)),
        }
    }
}

pub fn make_key(mut id: u64) -> Key {
    let mut key = *b"user000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (id % 10) as u8;
        id /= 10;
    }
    key
}

/// What a scan adds up of a key and its value.
pub fn scanned(key: &[u8], row: Row) -> f64 {
    row.sum() + f64::from(key[15])
}
