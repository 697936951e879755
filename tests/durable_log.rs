//! The log of the built-in storage: what was applied is there again, whatever happened to the files behind it, or its
//! damage is named.

mod durable;

use durable::*;
use khonsu::stm::Durability;

#[test]
fn all_kinds_of_mutations_come_back() {
    let folder = Folder::new("kinds");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    let long = vec![7u8; 65_536];
    model.apply(&storage, 1, vec![put(b"a", &[1, 2]), put(b"b", &[3]), put(&long, &[])], Durability::Synced);
    model.apply(&storage, 3, vec![append(b"a", &[4]), delete(b"b"), append(b"c", &[5])], Durability::Buffered);
    model.apply(&storage, 4, vec![append(b"b", &[6]), put(b"a", &[7]), append(b"c", &[])], Durability::None);
    model.apply(&storage, 9, vec![delete(b"none"), append(b"a", &[8, 9])], Durability::None);
    close(storage);
    let storage = open(&folder);
    model.check_load(&storage);
    model.apply(&storage, 10, vec![append(b"a", &[10])], Durability::Synced);
    close(storage);
    model.check_load(&open(&folder));
}
