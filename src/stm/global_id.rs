//! The names of transactions that span several databases.

use std::fmt;
use std::sync::Arc;

use super::error::Error;

/// Most bytes of a global id. An XID of X/Open has room in it, with all of its data, format and lengths.
pub const GLOBAL_ID_MAX_BYTES: usize = 144;

/// The name that a coordinator has given to a transaction. Cloning counts a reference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlobalId(Arc<[u8]>);

impl GlobalId {
    /// A global id of these bytes, whatever they mean to the coordinator.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for none, and for more than [`GLOBAL_ID_MAX_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        match bytes.len() {
            0 => Err(Error::InvalidArgument("global id: must not be empty".to_owned())),
            len if len > GLOBAL_ID_MAX_BYTES => Err(Error::InvalidArgument(format!(
                "global id: {len} bytes are more than the {GLOBAL_ID_MAX_BYTES} that it may have"
            ))),
            _ => Ok(GlobalId(Arc::from(bytes))),
        }
    }

    /// The bytes that it was made of.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for GlobalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for GlobalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GlobalId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded() {
        for len in [1, 128, GLOBAL_ID_MAX_BYTES] {
            assert_eq!(GlobalId::new(&vec![7; len]).expect("it is within the bounds").as_bytes(), vec![7; len]);
        }
        for len in [0, GLOBAL_ID_MAX_BYTES + 1] {
            assert!(matches!(GlobalId::new(&vec![7; len]), Err(Error::InvalidArgument(_))));
        }
    }
}
