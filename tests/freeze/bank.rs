//! The database of the freeze tests, what threads do to it, and what must hold whatever they do.
//!
//! Every transfer takes the next number, writes it to both halves of a pair, moves money between two accounts and
//! appends a row to the log. So what one snapshot sees is consistent if the accounts add up, the halves are equal and
//! the log has as many rows; a lost update, a torn commit or a commit seen late shows. Some of a few places are taken,
//! always the same number, by keys that are deleted and come back. And of two switches one is on, which only
//! serializable transactions keep so.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{
    ConflictKind, Decision, Direction, Error, FailPoint, GlobalId, KeyRange, Options, PrepareOptions, Transaction,
    TransactionManager, TransactionOptions, Value, Vote,
};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;

use crate::common::counted::{Counted, Maker, assert_living};
use crate::common::{Random, at, read_only};

const ACCOUNTS: u64 = 4;
const TOTAL: u64 = 1000 * ACCOUNTS;
const PLACES: u64 = 4;
const TAKEN: u64 = 2;
/// Accounts, taken places, the pair, the switches and the log.
const KEYS: u64 = ACCOUNTS + TAKEN + 2 + 2 + 1;

/// No chunk of ordinary size comes near it.
const MOST_BYTES: u64 = 1 << 40;

/// What a thread does to the bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Transfer,
    /// Deletes a key and brings another back.
    Move,
    Switch,
    /// Reads all keys one by one.
    Gets,
    Scan,
    /// Reads and scans without having said that it will not write.
    Look,
    /// Scans by a cursor, among writes of its own, and rolls back.
    Cursor,
    /// Writes, reads and deletes keys that nobody else touches.
    OwnKeys,
    /// Reclaims everything that can be, with and without a reader.
    Reclaim,
    /// Writes and deletes a key in turn, which all that do this share, and reclaims it.
    Revive,
    /// Stages more than the database may hold.
    Overfill,
    /// Has so many transactions open that there must be more slots.
    ManySlots,
    /// Writes so many keys that the hash index must grow, and deletes them.
    ManyKeys,
    /// Loses against a write of another after having installed some of its own.
    LoseByWrite,
    /// Loses by certification: its commit would close a cycle.
    LoseByRead,
    /// Prepares and decides transactions on keys that nobody else touches.
    TwoPhase,
    /// Prepares and commits one on keys that all that do this share.
    Hold,
    /// Loses until it gets a reservation, under which others commit, and then itself.
    Starve,
}

impl Deed {
    /// What everyone does while one is frozen.
    pub const ORDINARY: [Deed; 9] = [
        Deed::Transfer,
        Deed::Move,
        Deed::Switch,
        Deed::Gets,
        Deed::Scan,
        Deed::Look,
        Deed::Cursor,
        Deed::OwnKeys,
        Deed::Reclaim,
    ];

    /// What only those do that get frozen.
    pub const SPECIAL: [Deed; 9] = [
        Deed::LoseByRead,
        Deed::LoseByWrite,
        Deed::Revive,
        Deed::Overfill,
        Deed::ManySlots,
        Deed::ManyKeys,
        Deed::TwoPhase,
        Deed::Hold,
        Deed::Starve,
    ];
}

pub struct Bank {
    database: TransactionManager<Counted>,
    maker: Maker,
    /// Rows of the log that were acknowledged.
    acknowledged: Mutex<Vec<u64>>,
    next_row: AtomicU64,
    next_owner: AtomicU64,
    /// Transfers that somebody has seen: who begins later sees them, too.
    seen: AtomicU64,
}

fn account(number: u64) -> Vec<u8> {
    format!("bank/account/{number}").into_bytes()
}

fn place(number: u64) -> Vec<u8> {
    format!("bank/place/{number}").into_bytes()
}

const PAIR: [&[u8]; 2] = [b"bank/pair/0", b"bank/pair/1"];
const SWITCHES: [&[u8]; 2] = [b"bank/switch/0", b"bank/switch/1"];
const LOG: &[u8] = b"bank/log";
const REVIVED: &[u8] = b"other/revived";
const OVERWRITTEN: &[u8] = b"other/overwritten";
const HELD: [&[u8]; 2] = [b"other/held/0", b"other/held/1"];

const VOLATILE: PrepareOptions = PrepareOptions { allow_volatile: true, hold_reads: false };

fn bank_range() -> KeyRange {
    KeyRange::prefix(b"bank/")
}

/// Runs without the fail points of this thread.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = FailPoint::replace_hook(None);
    let given = work();
    FailPoint::replace_hook(hook);
    given
}

fn number(value: Option<Value<Counted>>) -> u64 {
    value.expect("the key is never deleted").newest().number()
}

impl Bank {
    pub fn new() -> Self {
        let options = Options { max_total_bytes: Some(MOST_BYTES), ..Options::default() };
        let bank = Bank {
            database: TransactionManager::new(options),
            maker: Maker::default(),
            acknowledged: Mutex::new(Vec::new()),
            next_row: AtomicU64::new(0),
            next_owner: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        };
        let mut transaction = bank.database.begin(&at(Serializable));
        // A second one at once, so that there is a slot that nobody uses later.
        let other = bank.database.begin(&at(Serializable));
        for number in 0..ACCOUNTS {
            transaction.put(&account(number), bank.maker.chunk(TOTAL / ACCOUNTS)).unwrap();
        }
        for number in 0..TAKEN {
            transaction.put(&place(number), bank.maker.chunk(1)).unwrap();
        }
        for key in PAIR {
            transaction.put(key, bank.maker.chunk(0)).unwrap();
        }
        for key in SWITCHES {
            transaction.put(key, bank.maker.chunk(1)).unwrap();
        }
        let row = bank.next_row.fetch_add(1, Ordering::Relaxed);
        transaction.put(LOG, bank.maker.chunk(row)).unwrap();
        transaction.commit().unwrap();
        drop(other);
        bank.acknowledged.lock().unwrap().push(row);
        bank
    }

    /// Does something once. With a number of attempts it fails with a conflict when they are used up.
    pub fn perform(
        &self,
        deed: Deed,
        level: IsolationLevel,
        random: &mut Random,
        attempts: Option<u32>,
    ) -> Result<(), Error> {
        let options = TransactionOptions { max_attempts: attempts, ..at(level) };
        match deed {
            Deed::Transfer => self.transfer(&options, random),
            Deed::Move => self.change_places(&options, random),
            Deed::Switch => self.switch(&TransactionOptions { isolation: Some(Serializable), ..options }, random),
            Deed::Gets => self.gets(level, random),
            Deed::Scan => self.scan(&options, random),
            Deed::Look => self.look(&options),
            Deed::Cursor => self.cursor(level, random),
            Deed::OwnKeys => self.own_keys(level),
            Deed::Reclaim => self.reclaim(level),
            Deed::Revive => self.revive(&options),
            Deed::Overfill => self.overfill(level),
            Deed::ManySlots => self.many_slots(level),
            Deed::ManyKeys => self.many_keys(level),
            Deed::LoseByWrite => self.lose_by_write(level),
            Deed::LoseByRead => self.lose_by_read(),
            Deed::TwoPhase => self.two_phase(level),
            Deed::Hold => self.hold(level),
            Deed::Starve => self.starve(level),
        }
    }

    fn own_prefix(&self) -> String {
        format!("own/{}/", self.next_owner.fetch_add(1, Ordering::Relaxed))
    }

    fn transfer(&self, options: &TransactionOptions, random: &mut Random) -> Result<(), Error> {
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = 1 + random.below(100);
        let least = self.seen.load(Ordering::SeqCst);
        let mut own = 0;
        let ((number, row), _) = self.database.transact(options, |transaction| {
            let next = 1 + number(transaction.get(PAIR[0])?);
            assert!(next > least, "a transfer that was seen is seen no more");
            let source = number(transaction.get(&account(from))?);
            let target = number(transaction.get(&account(to))?);
            // For certification: a key that is only read, one that is absent, and a range.
            transaction.get(&account((from + 2) % ACCOUNTS))?;
            assert!(transaction.get(b"bank/none")?.is_none());
            transaction.scan(KeyRange::prefix(b"bank/place/"), Direction::Forward, None)?;
            transaction.put(&account(from), self.maker.chunk(source.wrapping_sub(amount)))?;
            transaction.put(&account(to), self.maker.chunk(target.wrapping_add(amount)))?;
            for key in PAIR {
                transaction.put(key, self.maker.chunk(next))?;
            }
            own = self.next_row.fetch_add(1, Ordering::Relaxed);
            transaction.append(LOG, self.maker.chunk(own))?;
            Ok((next, own))
        })?;
        self.acknowledged.lock().unwrap().push(row);
        self.seen.fetch_max(number, Ordering::SeqCst);
        Ok(())
    }

    fn change_places(&self, options: &TransactionOptions, random: &mut Random) -> Result<(), Error> {
        let start = random.below(PLACES);
        self.database.transact(options, |transaction| {
            let mut taken = None;
            let mut free = None;
            for number in (start..PLACES).chain(0..start) {
                let key = place(number);
                match transaction.exists(&key)? {
                    true => taken = taken.or(Some(key)),
                    false => free = free.or(Some(key)),
                }
            }
            // Each read at a time of its own, at read committed: they may all seem taken, or free.
            if let (Some(taken), Some(free)) = (taken, free) {
                transaction.delete(&taken)?;
                transaction.put(&free, self.maker.chunk(1))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn switch(&self, options: &TransactionOptions, random: &mut Random) -> Result<(), Error> {
        let own = random.below(2) as usize;
        self.database.transact(options, |transaction| {
            let mut on = [0; 2];
            for (key, on) in SWITCHES.iter().zip(&mut on) {
                *on = number(transaction.get(key)?);
            }
            assert_ne!(on, [0, 0], "serializable transactions have switched both off");
            // Reads both and writes one: two of these at once skew.
            let next = if on == [1, 1] { 0 } else { 1 };
            transaction.put(SWITCHES[own], self.maker.chunk(next))
        })?;
        Ok(())
    }

    /// Asserts that what was seen at one instant is consistent.
    fn check(&self, seen: &BTreeMap<Vec<u8>, Value<Counted>>, least: u64) {
        let at = |key: &[u8]| seen[key].newest().number();
        let total = (0..ACCOUNTS).fold(0_u64, |sum, number| sum.wrapping_add(at(&account(number))));
        assert_eq!(total, TOTAL, "money is lost");
        let transfers = at(PAIR[0]);
        assert_eq!(transfers, at(PAIR[1]), "a commit is seen in part");
        assert_eq!(seen[LOG].rows(), 1 + transfers, "the log and the number of transfers differ");
        assert!(transfers >= least, "{transfers} transfers are seen, and somebody has seen {least} before");
        assert_eq!(seen.keys().filter(|key| key.starts_with(b"bank/place/")).count() as u64, TAKEN);
        assert_ne!(SWITCHES.map(at), [0, 0], "both switches are off");
        self.seen.fetch_max(transfers, Ordering::SeqCst);
    }

    fn gets(&self, level: IsolationLevel, random: &mut Random) -> Result<(), Error> {
        let least = self.seen.load(Ordering::SeqCst);
        let mut reader = self.database.begin(&read_only(level));
        let mut seen = BTreeMap::new();
        let mut keys: Vec<Vec<u8>> = (0..ACCOUNTS).map(account).chain((0..PLACES).map(place)).collect();
        keys.extend([PAIR[0], PAIR[1], SWITCHES[0], SWITCHES[1], LOG].map(<[u8]>::to_vec));
        let first = random.below(keys.len() as u64) as usize;
        keys.rotate_left(first);
        let at_once = random.below(2) == 0;
        if at_once {
            let found = reader.get_many(&keys)?;
            seen.extend(keys.into_iter().zip(found).filter_map(|(key, value)| Some((key, value?))));
        } else {
            for key in keys {
                if let Some(value) = reader.get(&key)? {
                    seen.insert(key, value);
                }
            }
        }
        reader.commit()?;
        if level == ReadCommitted && !at_once {
            // Each call has seen another state; none of them an old one.
            assert!(number(seen.get(PAIR[0]).cloned()) >= least);
        } else {
            self.check(&seen, least);
        }
        Ok(())
    }

    fn scan(&self, options: &TransactionOptions, random: &mut Random) -> Result<(), Error> {
        let least = self.seen.load(Ordering::SeqCst);
        let direction = if random.below(2) == 0 { Direction::Forward } else { Direction::Reverse };
        // Over the keys of others, too, where it can neither fail nor reserve them.
        let declared = random.below(2) == 0;
        let range = if declared { KeyRange::all() } else { bank_range() };
        let options = TransactionOptions { read_only: declared, ..options.clone() };
        let (found, _) =
            self.database.transact(&options, |transaction| transaction.scan(range.clone(), direction, None))?;
        self.check(&found.into_iter().filter(|(key, _)| bank_range().contains(key)).collect(), least);
        Ok(())
    }

    fn look(&self, options: &TransactionOptions) -> Result<(), Error> {
        let least = self.seen.load(Ordering::SeqCst);
        let ((transfers, switches), _) = self.database.transact(options, |transaction| {
            assert!(transaction.get(b"bank/none")?.is_none());
            let taken = transaction.scan(KeyRange::prefix(b"bank/place/"), Direction::Forward, None)?;
            assert_eq!(taken.len() as u64, TAKEN);
            let mut switches = [0; 2];
            for (key, switch) in SWITCHES.iter().zip(&mut switches) {
                *switch = number(transaction.get(key)?);
            }
            Ok((number(transaction.get(PAIR[0])?), switches))
        })?;
        assert!(transfers >= least, "{transfers} transfers are seen, and somebody has seen {least} before");
        if options.isolation == Some(Serializable) {
            assert_ne!(switches, [0, 0], "both switches are off");
        }
        Ok(())
    }

    fn cursor(&self, level: IsolationLevel, random: &mut Random) -> Result<(), Error> {
        let least = self.seen.load(Ordering::SeqCst);
        let direction = if random.below(2) == 0 { Direction::Forward } else { Direction::Reverse };
        let mut transaction = self.database.begin(&at(level));
        // Absent, so own writes: they come first and last, and are not among what is checked.
        transaction.put(b"bank/aaa", self.maker.chunk(0))?;
        transaction.delete(b"bank/none")?;
        transaction.put(b"bank/zzz", self.maker.chunk(0))?;
        let mut cursor = transaction.open_cursor(bank_range(), direction, None)?;
        let mut seen = BTreeMap::new();
        while cursor.next(&mut transaction)? {
            let (key, value) = cursor.entry().expect("the cursor is on a key");
            seen.insert(key.to_vec(), value.clone());
        }
        assert!(seen.remove(&b"bank/aaa"[..]).is_some() && seen.remove(&b"bank/zzz"[..]).is_some());
        transaction.rollback()?;
        self.check(&seen, least);
        Ok(())
    }

    /// Never conflicts, as nobody else comes here.
    fn own_keys(&self, level: IsolationLevel) -> Result<(), Error> {
        let prefix = self.own_prefix();
        let keys: Vec<_> = (0..3).map(|number| format!("{prefix}{number}").into_bytes()).collect();
        let own = KeyRange::prefix(prefix.as_bytes());
        let mut writer = self.database.begin(&at(level));
        for key in &keys {
            assert!(!writer.exists(key)?);
            writer.put(key, self.maker.chunk(1))?;
        }
        writer.commit().expect("nobody else writes these keys");
        let mut writer = self.database.begin(&at(level));
        assert_eq!(writer.scan(own.clone(), Direction::Reverse, None)?.len(), keys.len());
        for key in &keys {
            writer.delete(key)?;
        }
        writer.commit().expect("nobody else writes these keys");
        assert!(self.database.begin(&read_only(level)).scan(own, Direction::Forward, None)?.is_empty());
        Ok(())
    }

    fn reclaim(&self, level: IsolationLevel) -> Result<(), Error> {
        let key = format!("{}key", self.own_prefix()).into_bytes();
        let write = |number| {
            let mut writer = self.database.begin(&at(level));
            writer.put(&key, self.maker.chunk(number))?;
            writer.commit().map(|_| ())
        };
        write(1)?;
        let mut reader = self.database.begin(&read_only(RepeatableRead));
        write(2)?;
        // What the reader can see waits for it.
        self.database.stats();
        assert_eq!(number(reader.get(&key)?), 1);
        drop(reader);
        write(3)?;
        let mut writer = self.database.begin(&at(level));
        writer.delete(&key)?;
        writer.commit()?;
        // What somebody has read and not certified, perhaps: see `lose_by_read`. A conflict is as good.
        let mut writer = self.database.begin(&at(level));
        writer.put(OVERWRITTEN, self.maker.chunk(3))?;
        _ = writer.commit();
        self.database.stats();
        Ok(())
    }

    fn revive(&self, options: &TransactionOptions) -> Result<(), Error> {
        let bound = self.database.bind(REVIVED)?;
        for round in 0..2 {
            // The second time it is a tombstone, which may be reclaimed at any time.
            self.database.transact(options, |writer| writer.put(REVIVED, self.maker.chunk(round)))?;
            self.database.transact(options, |reader| reader.get_bound(&bound))?;
            self.database.transact(options, |writer| writer.delete_bound(&bound))?;
        }
        self.database.stats();
        self.database.transact(options, |writer| writer.put_bound(&bound, self.maker.chunk(2)))?;
        self.database.transact(options, |reader| reader.get_bound(&bound))?;
        // More than are looked for at a time.
        let keys = vec![REVIVED; 20];
        self.database.transact(options, |reader| reader.get_many(&keys))?;
        Ok(())
    }

    fn overfill(&self, level: IsolationLevel) -> Result<(), Error> {
        let mut writer = self.database.begin(&at(level));
        let refused = writer.put(b"other/large", self.maker.sized(0, MOST_BYTES + 1));
        assert!(matches!(refused, Err(Error::LimitExceeded(_))), "{refused:?}");
        writer.rollback()
    }

    fn many_slots(&self, level: IsolationLevel) -> Result<(), Error> {
        let mut open: Vec<Transaction<Counted>> = (0..20).map(|_| self.database.begin(&at(level))).collect();
        open.iter_mut().try_for_each(|transaction| transaction.exists(PAIR[0]).map(|_| ()))?;
        // A database of its own, whose last handle goes while some of its slots are in use.
        let other = TransactionManager::new(Options::default());
        let mut last = other.begin(&at(level));
        last.put(b"other", self.maker.chunk(1))?;
        drop((other.begin(&at(level)), other));
        last.commit().map(|_| ())
    }

    fn many_keys(&self, level: IsolationLevel) -> Result<(), Error> {
        let prefix = self.own_prefix();
        let keys: Vec<_> = (0..300).map(|number| format!("{prefix}{number}").into_bytes()).collect();
        let mut writer = self.database.begin(&at(level));
        keys.iter().try_for_each(|key| writer.put(key, self.maker.chunk(1)))?;
        writer.commit()?;
        // More of them than one step of a scan takes.
        let own = KeyRange::prefix(prefix.as_bytes());
        let mut reader = self.database.begin(&read_only(level));
        assert_eq!(reader.scan(own, Direction::Forward, None)?.len(), keys.len());
        drop(reader);
        let mut writer = self.database.begin(&at(level));
        keys.iter().try_for_each(|key| writer.delete(key))?;
        writer.commit().map(|_| ())
    }

    fn lose_by_write(&self, level: IsolationLevel) -> Result<(), Error> {
        let prefix = self.own_prefix();
        let keys: Vec<_> = (0..8).map(|number| format!("{prefix}{number}").into_bytes()).collect();
        let mut writer = self.database.begin(&at(level));
        for key in &keys {
            writer.put(key, self.maker.chunk(1))?;
        }
        quietly(|| {
            let mut faster = self.database.begin(&at(level));
            faster.put(&keys[4], self.maker.chunk(2)).unwrap();
            faster.commit().unwrap();
        });
        assert!(matches!(writer.commit(), Err(Error::Conflict(_))), "it was overtaken");
        Ok(())
    }

    fn lose_by_read(&self) -> Result<(), Error> {
        let own = format!("{}key", self.own_prefix()).into_bytes();
        // Each reads what the other writes.
        let mut writer = self.database.begin(&at(Serializable));
        writer.get(OVERWRITTEN)?;
        writer.put(&own, self.maker.chunk(1))?;
        quietly(|| {
            let faster = |faster: &mut Transaction<Counted>| {
                assert!(faster.get(&own)?.is_none());
                faster.put(OVERWRITTEN, self.maker.chunk(2))
            };
            self.database.transact(&at(Serializable), faster)
        })?;
        assert!(matches!(writer.commit(), Err(Error::Conflict(_))), "the two cannot be ordered");
        Ok(())
    }

    fn two_phase(&self, level: IsolationLevel) -> Result<(), Error> {
        let prefix = self.own_prefix();
        let key = |name: &str| format!("{prefix}{name}").into_bytes();
        let id = |name: &str| GlobalId::new(&key(name)).expect("a short name");
        let database = &self.database;
        let prepare = |name: &str| {
            let mut writer = database.begin(&at(level));
            assert!(writer.get(&key("absent"))?.is_none());
            writer.scan(KeyRange::prefix(&key("range/")), Direction::Forward, None)?;
            writer.put(&key("put"), self.maker.chunk(1))?;
            writer.append(&key("appended"), self.maker.chunk(1))?;
            writer.delete(&key("deleted"))?;
            database.prepare(&mut writer, &id(name), VOLATILE)
        };
        assert_eq!(prepare("committed")?, Vote::Yes);
        assert!(matches!(prepare("committed"), Err(Error::Duplicate(_))));
        let mut other = database.begin(&at(level));
        other.put(&key("put"), self.maker.chunk(2))?;
        assert!(matches!(other.commit(), Err(Error::Conflict(_))), "it is held");
        let version = database.commit(&id("committed"))?;
        assert_eq!(database.commit(&id("committed"))?, version);
        assert_eq!(prepare("rolled back")?, Vote::Yes);
        database.rollback(&id("rolled back"))?;
        assert_eq!(prepare("decided")?, Vote::Yes);
        database.decide_heuristically(&id("decided"), Decision::Rollback)?;
        assert!(matches!(database.commit(&id("decided")), Err(Error::Heuristic(_))));
        TwoPhaseCommitParticipant::forget(database, &id("decided"))?;
        // One that has read what is not the newest.
        let mut stale = database.begin(&at(Serializable));
        assert_eq!(number(stale.get(&key("put"))?), 1);
        stale.put(&key("range/1"), self.maker.chunk(1))?;
        quietly(|| {
            let mut faster = database.begin(&at(level));
            faster.put(&key("put"), self.maker.chunk(3)).unwrap();
            faster.commit().unwrap();
        });
        assert!(matches!(database.prepare(&mut stale, &id("stale"), VOLATILE), Err(Error::Conflict(_))));
        let mut writer = database.begin(&at(level));
        ["put", "appended"].iter().try_for_each(|name| writer.delete(&key(name)))?;
        writer.commit().expect("nothing is held any more");
        Ok(())
    }

    /// Prepares a transaction on keys that are shared, and commits it.
    fn hold(&self, level: IsolationLevel) -> Result<(), Error> {
        let id = GlobalId::new(self.own_prefix().as_bytes()).expect("a short name");
        let mut writer = self.database.begin(&at(level));
        writer.get(HELD[0])?;
        writer.append(HELD[1], self.maker.chunk(1))?;
        writer.append(HELD[0], self.maker.chunk(1))?;
        self.database.prepare(&mut writer, &id, VOLATILE)?;
        match self.database.commit(&id) {
            // Others may decide, too.
            Ok(_) | Err(Error::AlreadyDecided(_)) => Ok(()),
            Err(other) => panic!("{other}"),
        }
    }

    /// Writes what [`hold`](Bank::hold) holds.
    pub fn write_what_is_held(&self, level: IsolationLevel) -> Result<(), Error> {
        for key in HELD {
            let mut writer = self.database.begin(&at(level));
            writer.append(key, self.maker.chunk(2))?;
            writer.commit()?;
        }
        Ok(())
    }

    /// How many rows [`hold`](Bank::hold) has committed.
    pub fn committed_by_holds(&self) -> usize {
        let mut reader = self.database.begin(&read_only(Serializable));
        let rows = HELD.map(|key| {
            let value = reader.get(key).expect("it can be read");
            let rows = value.map_or(Vec::new(), |value| value.chunks());
            rows.iter().filter(|row| row.number() == 1).count()
        });
        assert_eq!(rows[0], rows[1], "a commit is seen in part");
        rows[0]
    }

    pub fn in_doubt(&self) -> Vec<GlobalId> {
        self.database.recover().expect("it can be listed").into_iter().map(|listed| listed.id).collect()
    }

    pub fn decide(&self, id: &GlobalId, decision: Decision) -> Result<(), Error> {
        match decision {
            Decision::Commit => self.database.commit(id).map(drop),
            Decision::Rollback => self.database.rollback(id),
        }
    }

    fn starve(&self, level: IsolationLevel) -> Result<(), Error> {
        let key = format!("{}key", self.own_prefix()).into_bytes();
        let options = TransactionOptions { backoff_initial: Duration::ZERO, ..at(level) };
        let mut policy = self.database.retry_policy(&options);
        let mut kept_off = 0;
        loop {
            let mut transaction = policy.begin();
            transaction.get(&key)?;
            transaction.put(&key, self.maker.chunk(1))?;
            let overtaken = quietly(|| {
                let mut faster = self.database.begin(&at(level));
                faster.put(&key, self.maker.chunk(2)).unwrap();
                faster.commit()
            });
            if overtaken.is_err() {
                kept_off += 1;
                // Under the reservation others commit elsewhere; rolled back, it renews it.
                self.own_keys(level)?;
                if kept_off == 1 {
                    transaction.rollback()?;
                    continue;
                }
            }
            match transaction.commit() {
                Ok(_) => break,
                Err(error) => policy.conflicted(error)?,
            }
        }
        Ok(())
    }

    /// Writes the key of the first that starves, which is reserved, in the end.
    pub fn write_what_is_reserved(&self) {
        let mut kept_off = 0;
        loop {
            let mut writer = self.database.begin(&at(ReadCommitted));
            writer.put(b"own/0/key", self.maker.chunk(3)).unwrap();
            match writer.commit() {
                Ok(_) => break,
                Err(Error::Conflict(conflicts)) if conflicts[0].kind == ConflictKind::Prepared => kept_off += 1,
                Err(error) => panic!("{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(kept_off > 0, "the key was not reserved");
    }

    /// Asserts that everything is consistent, acknowledged commits are there and no others, and nothing superfluous.
    /// Nobody else may use the bank.
    pub fn check_when_all_is_over(&self) {
        let mut writer = self.database.begin(&at(Serializable));
        for (key, _) in writer.scan(KeyRange::all(), Direction::Forward, None).unwrap() {
            if !bank_range().contains(&key) {
                writer.delete(&key).unwrap();
            }
        }
        writer.commit().unwrap();
        self.scan(&at(Serializable), &mut Random::new(0)).unwrap();
        let mut reader = self.database.begin(&read_only(Serializable));
        let log = reader.get(LOG).unwrap().expect("the log is never deleted");
        let mut rows: Vec<_> = log.chunks().iter().map(Counted::number).collect();
        drop((reader, log));
        let mut acknowledged = self.acknowledged.lock().unwrap().clone();
        rows.sort_unstable();
        acknowledged.sort_unstable();
        assert_eq!(rows, acknowledged, "the log has what was committed");

        let chunks = KEYS - 1 + rows.len() as u64;
        let stats = self.database.stats();
        assert_eq!((stats.keys, stats.versions, stats.live_bytes), (KEYS, KEYS, 8 * chunks));
        assert_eq!((stats.active_transactions, stats.oldest_snapshot), (0, stats.version));
        assert_living(&self.database, &self.maker, chunks as usize);
    }
}
