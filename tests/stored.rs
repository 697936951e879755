//! Databases in a directory: commits, checkpoints, backups, exports.

mod common;
mod durable;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow_array::{
    Array, ArrayRef, BinaryViewArray, DictionaryArray, Int32Array, ListArray, ListViewArray, RecordBatch, StringArray,
    StringViewArray, StructArray, cast::AsArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use common::*;
use durable::Folder;
use khonsu::stm::{Durability, Error, IsolationLevel, KeyRange, Options, TransactionOptions};
use khonsu::storage::{self, DurableOptions, DurableStorage, StoredDatabase};

const SERIALIZABLE: IsolationLevel = IsolationLevel::Serializable;

/// A folder of the test's own.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(&format!("stored-{name}"));
    fs::create_dir(&*folder).unwrap();
    folder
}

fn small() -> DurableOptions {
    DurableOptions { segment_bytes: 16 << 10, checkpoint_bytes: 64 << 10, ..DurableOptions::default() }
}

fn try_open(path: &Path, options: DurableOptions) -> Result<StoredDatabase<RecordBatch>, Error> {
    let core = Options { durability: Durability::Buffered, ..Options::default() };
    storage::open(core, DurableStorage::open(path, options)?)
}

fn open(path: &Path) -> StoredDatabase<RecordBatch> {
    try_open(path, small()).unwrap()
}

fn put_one(database: &Batches, key: &str, number: i64) -> u64 {
    let mut transaction = begin(database, SERIALIZABLE);
    put(&mut transaction, key, number);
    transaction.commit().unwrap()
}

#[test]
fn a_database_comes_back_from_its_log_and_from_its_checkpoints() {
    let folder = folder("back");
    let path = folder.join("db");
    let mut expected = Vec::new();
    let mut newest = 0;
    for round in 0..4 {
        let stored = open(&path);
        let database = stored.manager();
        assert_eq!((state(database), database.stats().version), (expected.clone(), newest));
        for number in 0..50 {
            newest = put_one(database, &format!("{round}/{number:02}"), number);
        }
        if round % 2 == 1 {
            stored.checkpoint().unwrap();
            assert_eq!(stored.checkpoint(), Ok(()), "there is nothing to do");
            newest = put_one(database, "behind", round);
        }
        expected = state(database);
    }
    assert_eq!(state(open(&path).manager()), expected);
}

#[test]
fn appended_chunks_come_back_as_one() {
    let folder = folder("chunks");
    let path = folder.join("db");
    for round in 0..3_i64 {
        let stored = open(&path);
        for number in 0..20 {
            let mut transaction = begin(stored.manager(), SERIALIZABLE);
            append(&mut transaction, "k", round * 20 + number);
            transaction.commit().unwrap();
        }
        if round == 1 {
            stored.checkpoint().unwrap();
        }
    }
    let stored = open(&path);
    let value = begin(stored.manager(), SERIALIZABLE).get(b"k").unwrap().unwrap();
    assert_eq!((value.chunk_count(), rows(&value)), (1, (0..60).collect::<Vec<_>>()));
}

#[test]
fn the_log_stays_bounded_while_commits_go_on() {
    let folder = folder("bounded");
    let path = folder.join("db");
    let stored = open(&path);
    let value = batch(&[7; 200]);
    for number in 0..3000_u64 {
        let mut transaction = begin(stored.manager(), SERIALIZABLE);
        transaction.put(format!("{}", number % 10).as_bytes(), value.clone()).unwrap();
        transaction.commit().unwrap();
    }
    // Some 6 MB went in; the thread that makes checkpoints has had its turns, or gets them now.
    let size = || -> u64 {
        let files = fs::read_dir(&path).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
        files.filter(|file| file.is_file()).map(|file| file.len()).sum()
    };
    for _ in 0..500 {
        if size() < 1 << 20 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(size() < 1 << 20, "{}", size());
    let expected = scan_rows(stored.manager());
    drop(stored);
    assert_eq!(scan_rows(open(&path).manager()), expected);
}

fn scan_rows(database: &Batches) -> Vec<(Vec<u8>, Vec<i64>)> {
    let found = begin(database, SERIALIZABLE).scan(KeyRange::all(), Default::default(), None).unwrap();
    found.into_iter().map(|(key, value)| (key, rows(&value))).collect()
}

#[test]
fn one_at_a_time_has_it_open() {
    let folder = folder("locked");
    let path = folder.join("db");
    let stored = open(&path);
    match try_open(&path, small()) {
        Err(Error::Locked(text)) => assert!(text.contains(path.to_str().unwrap()), "{text}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let transaction = begin(stored.manager(), SERIALIZABLE);
    drop(stored);
    assert!(matches!(try_open(&path, small()), Err(Error::Locked(_))), "a transaction keeps the database");
    drop(transaction);
    open(&path);
}

#[test]
fn transfers_keep_their_sum_in_a_backup_that_is_made_meanwhile() {
    let folder = folder("backup");
    let stored = open(&folder.join("db"));
    let database = stored.manager();
    let mut transaction = begin(database, SERIALIZABLE);
    for account in 0..10 {
        put(&mut transaction, &format!("account/{account}"), 100);
    }
    transaction.commit().unwrap();
    drop(transaction);
    let backups: Vec<_> = thread::scope(|scope| {
        for seed in 0..3 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..300 {
                    let accounts = [random.below(10), random.below(10)].map(|account| format!("account/{account}"));
                    let transfer = |transaction: &mut BatchTransaction| {
                        for (account, amount) in accounts.iter().zip([-1, 1]) {
                            let balance = get_rows(transaction, account).unwrap()[0];
                            transaction.put(account.as_bytes(), batch(&[balance + amount]))?;
                        }
                        Ok(())
                    };
                    database.transact(&TransactionOptions::default(), transfer).unwrap();
                }
            });
        }
        (0..5)
            .map(|number| {
                let path = folder.join(format!("backup{number}"));
                (storage::backup(database, &path).unwrap(), path)
            })
            .collect()
    });
    for (version, path) in backups {
        let copy = open(&path);
        assert_eq!(copy.manager().stats().version, version);
        assert_eq!(state(copy.manager()).iter().map(|(_, balance)| balance).sum::<i64>(), 1000);
        assert!(put_one(copy.manager(), "more", 1) > version);
        let again = storage::backup(database, &path);
        assert!(matches!(again, Err(Error::Storage(_))), "it is not written over: {again:?}");
    }
}

#[test]
fn what_is_exported_can_be_imported() {
    let folder = folder("export");
    let database = database(&[("a", 1), ("b", 2)]);
    let mut transaction = begin(&database, SERIALIZABLE);
    transaction.put(b"text", text_batch("of another schema")).unwrap();
    append(&mut transaction, "a", 3);
    transaction.commit().unwrap();
    drop(transaction);
    let path = folder.join("export");
    assert_eq!(storage::export(&database, &path), Ok(database.stats().version));
    assert!(storage::export(&database, &path).is_err());

    let other = Batches::new(Options::default());
    put_one(&other, "a", 9);
    put_one(&other, "c", 9);
    assert_eq!(storage::import(&other, &path), Ok(3));
    let mut reader = begin(&other, SERIALIZABLE);
    assert_eq!(get_rows(&mut reader, "a"), Some(vec![1, 3]));
    assert_eq!((get(&mut reader, "b"), get(&mut reader, "c")), (Some(2), Some(9)));
    assert_eq!(reader.get(b"text").unwrap().unwrap().single(), Some(&text_batch("of another schema")));
    assert!(matches!(storage::import(&other, &folder.join("nothing")), Err(Error::Storage(_))));

    // A database in memory can be backed up as well, and comes back as a stored one.
    storage::backup(&database, &folder.join("backup")).unwrap();
    assert_eq!(get_rows(&mut begin(open(&folder.join("backup")).manager(), SERIALIZABLE), "a"), Some(vec![1, 3]));
    storage::backup(&Batches::new(Options::default()), &folder.join("empty")).unwrap();
    assert_eq!(state(open(&folder.join("empty")).manager()), []);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let folder = folder("foreign");
    fs::write(folder.join("letter.txt"), "Dear").unwrap();
    match try_open(&folder, small()) {
        Err(Error::Storage(text)) => assert!(text.contains(folder.to_str().unwrap()), "{text}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(fs::read_dir(&*folder).unwrap().count(), 1);

    let path = folder.join("newer");
    drop(open(&path));
    fs::write(path.join("FORMAT"), "khonsu storage 3\n").unwrap();
    match try_open(&path, small()) {
        Err(Error::Storage(text)) => assert!(text.contains("is 3") && text.contains("up to 2"), "{text}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// Columns of so many rows whose parts keep all that the whole column points to.
fn columns_of_views(rows: usize) -> Vec<ArrayRef> {
    let texts = || (0..rows).map(|row| format!("{row:0100}"));
    let views: StringViewArray = texts().map(Some).collect();
    let bytes: BinaryViewArray = texts().map(|text| Some(text.into_bytes())).collect();
    let item = |data_type: &DataType| Arc::new(Field::new("item", data_type.clone(), true));
    let list_of = |values: ArrayRef| -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, values.len()));
        Arc::new(ListArray::new(item(values.data_type()), offsets, values, None))
    };
    let list_view_of = |values: ArrayRef| -> ArrayRef {
        let offsets = (0..values.len() as i32).collect();
        let sizes = vec![1; values.len()].into();
        Arc::new(ListViewArray::new(item(values.data_type()), offsets, sizes, values, None))
    };
    let plain: ArrayRef = Arc::new(StringArray::from_iter_values(texts()));
    let structs: ArrayRef =
        Arc::new(StructArray::new(vec![item(&DataType::Utf8View)].into(), vec![Arc::new(views.clone())], None));
    vec![
        list_view_of(plain),
        list_view_of(Arc::new(views.clone())),
        list_of(Arc::new(views.clone())),
        list_of(structs.clone()),
        structs,
        Arc::new(bytes),
        Arc::new(views),
    ]
}

#[test]
fn a_value_does_not_come_back_with_the_words_of_others() {
    const KEYS: usize = 1000;
    let folder = folder("words");
    let path = folder.join("db");
    let key = |number: usize| format!("{number:04}").into_bytes();
    let value = |number: usize| {
        let words = [format!("{number:0100}"), "all".to_owned()];
        let keys = Int32Array::from(vec![Some(1), None, Some(0), Some(0)]);
        let plain = DictionaryArray::new(keys.clone(), Arc::new(StringArray::from_iter_values(&words)) as ArrayRef);
        let views = DictionaryArray::new(keys, Arc::new(StringViewArray::from_iter_values(&words)) as ArrayRef);
        let item = Field::new("item", plain.data_type().clone(), true);
        let nested =
            ListArray::new(Arc::new(item), OffsetBuffer::from_lengths([1, 0, 0, 3]), Arc::new(plain.clone()), None);
        let columns: [(&str, ArrayRef); 3] =
            [("plain", Arc::new(plain)), ("views", Arc::new(views)), ("nested", Arc::new(nested))];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let mut stored = open(&path);
    let mut transaction = begin(stored.manager(), SERIALIZABLE);
    (0..KEYS).for_each(|number| transaction.put(&key(number), value(number)).unwrap());
    transaction.commit().unwrap();
    drop(transaction);
    for round in 0..2 {
        let mut transaction = begin(stored.manager(), SERIALIZABLE);
        transaction.delete(b"nothing").unwrap();
        transaction.commit().unwrap();
        drop(transaction);
        stored.checkpoint().unwrap();
        drop(stored);
        stored = open(&path);
        let bytes = stored.manager().stats().live_bytes;
        assert!(bytes < KEYS as u64 * 4000, "{bytes} bytes in round {round}");
        let mut reader = begin(stored.manager(), SERIALIZABLE);
        for number in 0..KEYS {
            let found = reader.get(&key(number)).unwrap().unwrap();
            let found = found.single().unwrap();
            assert_eq!(found, &value(number));
            assert!(found.column(0).as_any_dictionary().values().len() <= 16 + 4);
        }
    }
}

#[test]
fn views_are_stored_with_what_they_point_to_and_no_more() {
    const ROWS: usize = 500;
    for (number, column) in columns_of_views(ROWS).into_iter().enumerate() {
        let whole = RecordBatch::try_from_iter([("column", column)]).unwrap();
        let name = whole.schema_ref().field(0).data_type().to_string();
        let folder = folder(&format!("views-{number}"));
        let path = folder.join("db");
        let key = |row: usize| format!("{row:04}").into_bytes();
        let bytes_of = |prefix: &str| -> u64 {
            let folders = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            let of_prefix = folders.filter(|path| durable::file_name(path).starts_with(prefix));
            let files = of_prefix.flat_map(|path| match path.is_dir() {
                true => fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect(),
                false => vec![path],
            });
            files.map(|file| file.metadata().unwrap().len()).sum()
        };
        let database = open(&path);
        for part in (0..ROWS).step_by(50) {
            let mut transaction = begin(database.manager(), IsolationLevel::Serializable);
            (part..part + 50).for_each(|row| transaction.put(&key(row), whole.slice(row, 1)).unwrap());
            transaction.commit().unwrap();
        }
        assert!(bytes_of("log") < ROWS as u64 * 2000, "{name}: {} bytes in the log", bytes_of("log"));
        let mut database = database;
        for round in 0..4 {
            if round % 2 == 1 {
                let mut transaction = begin(database.manager(), IsolationLevel::Serializable);
                transaction.delete(format!("round {round}").as_bytes()).unwrap();
                transaction.commit().unwrap();
                drop(transaction);
                database.checkpoint().unwrap();
                let bytes = bytes_of("checkpoint");
                assert!(bytes < ROWS as u64 * 400, "{name}, round {round}: {bytes} bytes in a checkpoint");
            }
            drop(database);
            database = open(&path);
            let bytes = database.manager().stats().live_bytes;
            assert!(bytes < ROWS as u64 * 2000, "{name}, round {round}: {bytes} bytes");
            let mut reader = begin(database.manager(), IsolationLevel::Serializable);
            for row in 0..ROWS {
                let value = reader.get(&key(row)).unwrap().unwrap();
                assert_eq!(value.single(), Some(&whole.slice(row, 1)), "{name}, round {round}");
            }
        }
    }
}
