//! The log of the built-in storage: what was applied is there again, whatever happened to the files behind it, or its
//! damage is named.

mod durable;

use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, ListArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::Schema;
use durable::*;
use khonsu::stm::{Decision, Durability, Error, GlobalId, Held, KeyRange, Outcome};
use khonsu::storage::{Change, DurableOptions, DurableStorage, Mutation, Progress, Storage, StoredPrepared};

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

#[test]
fn all_kinds_of_values_come_back() {
    let folder = Folder::new("values");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    for number in 0..300 {
        let name = format!("column {}", number % 100);
        let words: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        let words = words.slice(number % 3, 2);
        let texts = StringArray::from(vec![Some("x".repeat(number)), None]);
        let nested = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None]);
        let columns: [(&str, ArrayRef); 3] =
            [("w", Arc::new(words)), (&name, Arc::new(texts)), ("l", Arc::new(nested))];
        let batch = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let none = Arc::new(Schema::empty());
        let rows_only = RecordBatchOptions::new().with_row_count(Some(number));
        let rows_only = RecordBatch::try_new_with_options(none, vec![], &rows_only).expect("no column");
        let key = (number as u32).to_be_bytes();
        let mutations = vec![
            Mutation { key: key.to_vec(), change: Change::Put(vec![batch.slice(0, 0), batch.clone()]) },
            Mutation { key: [&key[..], b"rows"].concat(), change: Change::Put(vec![rows_only.clone(), rows_only]) },
        ];
        model.apply(&storage, 2 * number as u64 + 1, mutations, Durability::Buffered);
        let more = Mutation { key: key.to_vec(), change: Change::Append(vec![batch.slice(1, 1)]) };
        model.apply(&storage, 2 * number as u64 + 2, vec![more], Durability::Buffered);
    }
    assert!(folder.segments().len() > 5);
    close(storage);
    model.check_load(&open(&folder));
}

#[test]
fn many_keys_come_back_and_no_deleted_one() {
    let folder = Folder::new("many");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    let keys: Vec<[u8; 4]> = (0..3000u32).map(u32::to_be_bytes).collect();
    model.apply(&storage, 1, keys.iter().map(|key| put(key, &[1])).collect(), Durability::None);
    let deleted = keys.iter().filter(|key| key[3] != 7).map(|key| delete(key));
    model.apply(&storage, 2, deleted.collect(), Durability::Buffered);
    drop(storage);
    assert_eq!(model.state.len(), 12);
    model.check_load(&open(&folder));
    // The visitor's error ends it.
    let storage = open(&folder);
    let refused = storage.load(&mut |_| Err(Error::Storage("no more".into())));
    assert_eq!(refused, Err(Error::Storage("no more".into())));
    assert!(storage.sync().is_err());
}

/// Numbers that are the same in each run.
struct Random {
    state: u64,
    /// Of the last entry.
    time: i64,
}

impl Random {
    fn new(seed: u64) -> Random {
        Random { state: seed, time: 0 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % bound
    }

    fn mutations(&mut self) -> Vec<Mutation> {
        let first = self.below(20);
        (0..self.below(5))
            .map(|number| {
                let key = format!("key {}", first + number);
                let rows: Vec<i64> = (0..self.below(20)).map(|row| row as i64).collect();
                match self.below(5) {
                    0 | 1 => put(key.as_bytes(), &rows),
                    2 | 3 => append(key.as_bytes(), &rows),
                    _ => delete(key.as_bytes()),
                }
            })
            .collect()
    }

    fn held(&mut self) -> Held {
        let key = |number: u64| format!("key {number}").into_bytes();
        let keys = (0..self.below(3)).map(|number| key(number + 7)).collect();
        let ranges = (0..self.below(3)).map(|_| {
            let mut bound = || match self.below(3) {
                0 => Bound::Unbounded,
                1 => Bound::Included(key(self.below(20))),
                _ => Bound::Excluded(key(self.below(20))),
            };
            KeyRange::new(bound(), bound())
        });
        Held { ranges: ranges.collect(), keys }
    }

    /// Anything that may come after a state.
    fn entry(&mut self, model: &Model) -> Entry {
        self.time += 1;
        let (version, time_micros) = (model.version + 1 + self.below(3), self.time);
        let heuristic = self.below(4) == 0;
        let choice = self.below(12);
        let end = |random: &mut Random, decision, version| {
            let chosen = &model.prepared[random.below(model.prepared.len() as u64) as usize];
            let outcome = Outcome { id: chosen.id.clone(), decision, heuristic, time_micros, version };
            (outcome, chosen.mutations.clone())
        };
        match choice {
            0..=2 => {
                // Names that are free come again.
                let known = |id: &GlobalId| {
                    let is = |other: &GlobalId| other == id;
                    model.prepared.iter().any(|prepared| is(&prepared.id))
                        || model.outcomes.iter().any(|outcome| is(&outcome.id))
                };
                let mut id = id(&format!("transaction {}", self.below(30)));
                if known(&id) {
                    id = durable::id(&format!("transaction of {time_micros}"));
                }
                let (mutations, held) = (self.mutations(), self.held());
                Entry::Prepared(StoredPrepared { id, time_micros, mutations, held })
            }
            3 | 4 if !model.prepared.is_empty() => {
                let (outcome, mutations) = end(self, Decision::Commit, version);
                Entry::Deciding(outcome, mutations)
            }
            5 if !model.prepared.is_empty() => Entry::RolledBack(end(self, Decision::Rollback, 0).0),
            6 | 7 if !model.outcomes.is_empty() => {
                let chosen = self.below(model.outcomes.len() as u64) as usize;
                Entry::Forgotten(model.outcomes[chosen].id.clone())
            }
            _ => Entry::Commit(version, self.mutations()),
        }
    }

    /// Stores a group of entries, and adds the states behind each of them.
    fn apply_group(&mut self, storage: &DurableStorage, states: &mut Vec<Model>, durability: Durability) {
        let mut group = Vec::new();
        for _ in 0..1 + self.below(4) {
            let mut model = states.last().expect("there is a first one").clone();
            let entry = self.entry(&model);
            model.take(&entry);
            states.push(model);
            group.push(entry);
        }
        store(storage, &group, durability).expect("it is stored");
    }
}

#[test]
fn random_commits_come_back_whenever_it_is_opened_again() {
    let folder = Folder::new("random");
    let mut random = Random::new(4);
    let (mut states, mut checkpoint) = (vec![Model::default()], 0);
    let (mut in_doubt, mut remembered) = (0, 0);
    for round in 0..150 {
        let storage = open(&folder);
        let loaded = load(&storage).expect("it loads");
        let lost = states.iter().rev().position(|state| *state == loaded);
        states.truncate(states.len() - lost.unwrap_or_else(|| panic!("round {round}: no state of the past")));
        let mut kept = states.len();
        for _ in 0..random.below(12) {
            let durability = [Durability::None, Durability::Buffered, Durability::Synced][random.below(3) as usize];
            random.apply_group(&storage, &mut states, durability);
            if durability > Durability::None {
                kept = states.len();
            }
            if random.below(20) == 0 {
                storage.sync().expect("it is synced");
                kept = states.len();
            }
            if random.below(12) == 0 {
                let len = states.len();
                let newest = states.last_mut().expect("there is a first one");
                storage.checkpoint(newest).expect("it is written");
                // Otherwise it was there, and does nothing for what was noted since.
                if newest.version > checkpoint {
                    (checkpoint, kept) = (newest.version, len);
                }
            }
        }
        if random.below(3) == 0 {
            close(storage);
            kept = states.len();
        } else {
            drop(storage);
        }
        let loaded = load(&open(&folder.copy("random-copy"))).expect("it loads");
        assert!(states[kept - 1..].contains(&loaded), "round {round}: something acknowledged is lost");
        in_doubt += loaded.prepared.len();
        remembered += loaded.outcomes.len();
    }
    assert!(checkpoint > 0 && in_doubt > 500 && remembered > 500, "{in_doubt} in doubt, {remembered} remembered");
}

/// A log with synced groups of commits, and the states behind each commit, the groups' numbers beside.
fn sample(name: &str, groups: usize) -> (Folder, Vec<Model>, Vec<usize>) {
    let folder = Folder::new(name);
    let storage = open(&folder);
    let (mut random, mut states, mut ends) = (Random::new(7), vec![load(&storage).expect("it loads")], vec![1]);
    for _ in 0..groups {
        random.apply_group(&storage, &mut states, Durability::Synced);
        ends.push(states.len());
    }
    drop(storage);
    (folder, states, ends)
}

/// Where the frames of a segment end.
fn end_of(segment: &[u8]) -> usize {
    segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// It can be written and opened again.
fn check_goes_on(folder: &Path, storage: DurableStorage, mut model: Model) {
    let version = model.version + 1;
    model.apply(&storage, version, vec![put(b"one more", &[1])], Durability::Synced);
    drop(storage);
    model.check_load(&open(folder));
}

#[test]
fn a_log_may_end_at_any_byte() {
    let (folder, states, _) = sample("truncated", 9);
    let last = folder.segments().pop().expect("there is one");
    let whole = fs::read(&last).expect("it can be read");
    let mut newest = 0;
    for len in 64..=end_of(&whole) + 8 {
        fs::write(&last, &whole[..len]).expect("it can be written");
        let copy = folder.copy("truncated-copy");
        let storage = open(&copy);
        let loaded = load(&storage).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        let found = states.iter().position(|state| *state == loaded);
        let found = found.unwrap_or_else(|| panic!("{len} bytes: no state of the past"));
        assert!(found >= newest, "{len} bytes: less than from fewer bytes");
        newest = found;
        if len % 5 == 0 {
            check_goes_on(&copy, storage, loaded);
        }
    }
    assert_eq!(newest, states.len() - 1);
    fs::write(&last, &whole[..63]).expect("it can be written");
    assert!(matches!(load(&open(&folder)), Err(Error::Corruption(_))));
}

/// Flips one bit after the other, and gives what is loaded then.
fn flip_bits(folder: &Folder, mut check: impl FnMut(&str, Result<Model, Error>)) {
    let mut random = Random::new(11);
    for segment in folder.segments() {
        let whole = fs::read(&segment).expect("it can be read");
        let mut position = 0;
        while position < (end_of(&whole) + 40).min(whole.len()) {
            let mut flipped = whole.clone();
            flipped[position] ^= 1 << random.below(8);
            fs::write(&segment, &flipped).expect("it can be written");
            let copy = folder.copy(&format!("{}-flipped", file_name(folder)));
            let loaded = load(&open(&copy));
            if let Err(error) = &loaded {
                let text = error.to_string();
                assert!(matches!(error, Error::Corruption(_)), "{position}: {error:?}");
                assert!(text.contains("log-000") && text.contains(" at offset "), "{position}: {text}");
            }
            check(&format!("{} at {position}", segment.display()), loaded);
            position += 1 + random.below(24) as usize;
        }
        fs::write(&segment, &whole).expect("it can be written");
    }
}

#[test]
fn no_flipped_bit_changes_what_is_loaded() {
    let (folder, states, ends) = sample("flip", 40);
    assert!(folder.segments().len() >= 3);
    // What the last group wrote is all that nothing vouches for.
    let vouched = ends[ends.len() - 2] - 1;
    let (mut right, mut short, mut refused) = (0, 0, 0);
    flip_bits(&folder, |place, loaded| match loaded {
        Ok(loaded) if loaded == states[states.len() - 1] => right += 1,
        Ok(loaded) => {
            assert!(states[vouched..].contains(&loaded), "{place}: a wrong state");
            short += 1;
        }
        Err(_) => refused += 1,
    });
    assert!(right > 0 && short > 0 && refused > 100, "{right} right, {short} short, {refused} refused");
}

#[test]
fn no_flipped_bit_loses_anything_of_a_database_that_was_closed() {
    let (folder, states, _) = sample("flip-closed", 30);
    let storage = open(&folder);
    states[states.len() - 1].check_load(&storage);
    close(storage);
    let (mut right, mut refused) = (0, 0);
    flip_bits(&folder, |place, loaded| match loaded {
        Ok(loaded) => {
            assert!(loaded == states[states.len() - 1], "{place}: a wrong state");
            right += 1;
        }
        Err(_) => refused += 1,
    });
    assert!(right > 0 && refused > 100, "{right} right, {refused} refused");
}

#[test]
fn a_group_that_was_not_synced_may_lack_any_block() {
    let folder = Folder::new("torn");
    let storage = open(&folder);
    let (mut random, mut states) = (Random::new(5), vec![load(&storage).expect("it loads")]);
    random.apply_group(&storage, &mut states, Durability::Synced);
    let (synced, segment) = (states.len(), folder.segments().pop().expect("there is one"));
    let begin = end_of(&fs::read(&segment).expect("it can be read"));
    for _ in 0..3 {
        random.apply_group(&storage, &mut states, Durability::Buffered);
    }
    drop(storage);
    // The next one may have been prepared.
    assert!(folder.segments()[1..].iter().all(|next| end_of(&fs::read(next).expect("it can be read")) <= 64));
    let whole = fs::read(&segment).expect("it can be read");
    let end = end_of(&whole);
    for block in [8, 64, 512] {
        for hole in (begin..end).step_by(block) {
            let mut torn = whole.clone();
            torn[hole..(hole + block).min(end)].fill(0);
            fs::write(&segment, &torn).expect("it can be written");
            let copy = folder.copy("torn-copy");
            let storage = open(&copy);
            let loaded = load(&storage).unwrap_or_else(|error| panic!("{block} bytes at {hole}: {error}"));
            assert!(states[synced - 1..].contains(&loaded), "{block} bytes at {hole}: a wrong state");
            check_goes_on(&copy, storage, loaded);
        }
    }
}

#[test]
fn a_log_without_one_of_its_segments_is_refused() {
    let (folder, states, _) = sample("missing", 80);
    let segments = folder.segments();
    // The last one may have been prepared only.
    for missing in &segments[..segments.len() - 2] {
        let copy = folder.copy("missing-copy");
        fs::remove_file(copy.join(file_name(missing))).expect("it can be removed");
        assert!(matches!(load(&open(&copy)), Err(Error::Corruption(_))), "{}", missing.display());
    }
    states[states.len() - 1].check_load(&open(&folder));
}

#[test]
fn recovery_may_be_killed_at_any_step() {
    let (folder, states, _) = sample("killed", 40);
    let last = folder.segments().pop().expect("there is one");
    let mut torn = fs::read(&last).expect("it can be read");
    let end = end_of(&torn);
    torn[end.max(72) - 1] ^= 1;
    fs::write(&last, torn).expect("it can be written");
    let expected = load(&open(&folder.copy("killed-copy"))).expect("it loads");
    assert!(states.contains(&expected));

    let copies = Arc::new(Mutex::new(Vec::new()));
    let copy = {
        let (folder, copies) = (folder.to_path_buf(), Arc::clone(&copies));
        move || {
            let mut copies = copies.lock().expect("nobody panicked");
            let name = format!("killed-{}", copies.len());
            copies.push(copy_of(&folder, &name));
        }
    };
    let in_progress = copy.clone();
    let progress: Progress = Box::new(move |done, total| {
        assert!(done <= total);
        in_progress();
    });
    let options =
        DurableOptions { segment_bytes: SEGMENT_BYTES, progress: Some(progress), ..DurableOptions::default() };
    let storage = DurableStorage::open(&folder, options).expect("it opens");
    copy();
    let version = storage.load(&mut |_| {
        copy();
        Ok(())
    });
    assert_eq!(version, Ok(expected.version));
    copy();
    let copies = std::mem::take(&mut *copies.lock().expect("nobody panicked"));
    assert!(copies.len() > 10);
    for copy in copies {
        expected.check_load(&open(&copy));
    }
}

#[test]
fn a_checkpoint_takes_the_place_of_what_was_logged() {
    let folder = Folder::new("checkpoint");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    for version in 1..100 {
        let mutations = vec![put(&[version as u8 % 7], &[version; 100].map(|row| row as i64)), append(b"a", &[7])];
        model.apply(&storage, version, mutations, Durability::Buffered);
    }
    let segments = folder.segments().len();
    assert!(segments > 5);
    model.apply(&storage, 200, vec![put(b"none", &[1]), delete(&[1])], Durability::None);
    let before = storage.stored_bytes();
    storage.checkpoint(&mut model).expect("it is written");
    let after = storage.stored_bytes();
    assert!(after.0 < before.0 && before.1 == 0 && after.1 > 0, "{before:?} {after:?}");
    assert!(folder.segments().len() <= 2);
    // Nothing is newer, so nothing is done.
    storage.checkpoint(&mut model).expect("it is written");
    assert_eq!(storage.stored_bytes(), after);
    // The log has less than the checkpoint then, and goes on behind it.
    drop(storage);
    let storage = open(&folder);
    model.check_load(&storage);
    for version in 201..300 {
        let mutations = vec![append(b"a", &[8; 50]), append(b"none", &[2]), put(&[version as u8 % 7], &[1])];
        model.apply(&storage, version, mutations, Durability::Synced);
    }
    drop(storage);
    let storage = open(&folder);
    model.check_load(&storage);
    storage.checkpoint(&mut model).expect("it is written");
    close(storage);
    let checkpoints = fs::read_dir(&*folder).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    assert_eq!(checkpoints.filter(|path| file_name(path).starts_with("checkpoint-")).count(), 1);
    // A checkpoint without a log is a database, too.
    for segment in folder.segments() {
        fs::remove_file(segment).expect("it can be removed");
    }
    let storage = open(&folder);
    model.check_load(&storage);
    check_goes_on(&folder, storage, model);
}

#[test]
fn only_a_database_is_opened_and_only_once() {
    let folder = Folder::new("once");
    let storage = open(&folder);
    let path = folder.display().to_string();
    match try_open(&folder) {
        Err(Error::Locked(text)) => assert!(text.contains(&path), "{text}"),
        other => panic!("{other:?}"),
    }
    drop(storage);
    let (stale, stale_folder) = (folder.join("log-00000000000000000009.tmp"), folder.join("checkpoint-7.tmp"));
    fs::write(&stale, "stale").expect("it can be written");
    fs::create_dir(&stale_folder).expect("it can be made");
    fs::write(stale_folder.join("0.arrows"), "stale").expect("it can be written");
    drop(open(&folder));
    assert!(!stale.exists() && !stale_folder.exists());

    for (format, expected) in [("khonsu storage 3\n", true), ("khonsu storage 0\n", false), ("", false)] {
        fs::write(folder.join("FORMAT"), format).expect("it can be written");
        match try_open(&folder) {
            Err(Error::Storage(text)) if expected => {
                assert!(text.contains("is 3") && text.contains("up to 2"), "{text}")
            }
            Err(Error::Corruption(_)) if !expected => {}
            other => panic!("{format:?}: {other:?}"),
        }
    }

    let foreign = Folder::new("foreign");
    fs::create_dir(&*foreign).expect("it can be made");
    fs::write(foreign.join("letter.txt"), "dear reader").expect("it can be written");
    assert!(matches!(try_open(&foreign), Err(Error::Storage(_))));
    assert_eq!(fs::read_dir(&*foreign).expect("it is there").count(), 1);
    assert!(matches!(try_open(&foreign.join("no/parent")), Err(Error::Storage(_))));
}

#[test]
fn a_commit_may_be_larger_than_a_segment() {
    let folder = Folder::new("large");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    let rows: Vec<i64> = (0..5000).collect();
    for version in 1..20 {
        let rows = &rows[..if version % 4 == 0 { rows.len() } else { 10 }];
        model.apply(&storage, version, vec![put(&[version as u8], rows)], Durability::Synced);
    }
    drop(storage);
    let storage = open(&folder);
    model.check_load(&storage);
    check_goes_on(&folder, storage, model);
}
