//! Random programs: what several sessions ask of one database, and in which order if one thread does it all.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use khonsu::stm::{ConflictResolution, Decision, Direction, IsolationLevel};

use super::data::{Key, Row, Span, level_name};
use crate::common::{LEVELS, RESOLUTIONS, Random};

/// What kind of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    pub content: Content,
    /// Of all transactions; `None`: each has its own.
    pub level: Option<IsolationLevel>,
    pub run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Everything that a transaction can do.
    Everything,
    /// Reads, and appends to lists.
    Lists,
    /// Gets and puts of single keys.
    Registers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// One thread does the steps of all sessions in the order of the plan.
    Interleaved,
    /// Each session has a thread.
    Raced,
    /// The same, and the commits go through a log, which refuses some.
    Logged,
}

#[derive(Debug, Clone)]
pub struct Plan {
    /// What writes do that say nothing else, nor does their transaction.
    pub resolution: ConflictResolution,
    pub sessions: usize,
    /// What is there at the beginning.
    pub filled: Vec<(Key, Row)>,
    pub steps: Vec<PlannedStep>,
}

#[derive(Debug, Clone)]
pub struct PlannedStep {
    pub session: usize,
    pub action: Action,
    /// Whether the thread lets others run before it.
    pub yields: bool,
}

#[derive(Debug, Clone)]
pub enum Action {
    Begin {
        level: IsolationLevel,
        resolution: Option<ConflictResolution>,
        read_only: bool,
    },
    Get(Key),
    Exists(Key),
    Scan {
        span: Span,
        direction: Direction,
        limit: Option<u64>,
    },
    OpenCursor {
        span: Span,
        direction: Direction,
    },
    /// So many steps of the cursor that was opened last.
    StepCursor(u64),
    Put(Key, Row),
    Append(Key, Row),
    Delete(Key),
    Resolve(Key, ConflictResolution),
    Savepoint,
    /// To the open savepoint that so many are newer than.
    RollbackTo(usize),
    Release(usize),
    Commit,
    Rollback,
    /// The first phase of a two-phase commit; whoever is prepared is committed when it is decided.
    Prepare,
    /// The decision about the one of the session that has been in doubt for longest.
    Decide(Decision),
}

const GROUPS: u64 = 3;
const COLD_KEYS: u64 = 24;

/// Shares of the operations, in the order of [`Generator::operation`].
const SHARES: [[u64; 6]; 4] = [
    // get, exists, scan, put, append, delete
    [6, 2, 4, 6, 3, 3],
    [8, 2, 0, 7, 1, 2],
    [1, 0, 8, 5, 1, 3],
    [2, 1, 1, 5, 4, 4],
];

struct Generator {
    random: Random,
    profile: Profile,
    hot_keys: u64,
    shares: [u64; 6],
    next_row: Row,
    most_operations: u64,
}

impl Plan {
    pub fn random(profile: Profile, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sessions = 2 + random.below(if profile.run != Run::Interleaved { 3 } else { 4 }) as usize;
        let mut transactions = match (profile.run, random.below(16)) {
            (_, 0) => 40,
            (Run::Interleaved, _) => 3 + random.below(9),
            (Run::Raced | Run::Logged, _) => 8 + random.below(17),
        };
        let shares = match profile.content {
            Content::Everything => SHARES[random.below(4) as usize],
            Content::Lists => [5, 1, 3, 0, 8, 0],
            Content::Registers => [7, 0, 0, 6, 0, 0],
        };
        let hot_keys = 2 + random.below(4);
        let most_operations = [2, 4, 6][random.below(3) as usize];
        let mut generator = Generator { random, profile, hot_keys, shares, next_row: 1, most_operations };

        let mut filled = Vec::new();
        for number in 0..hot_keys {
            if generator.random.below(4) > 0 {
                filled.push((key(number), generator.row()));
            }
        }
        let resolution = match generator.random.below(2) {
            0 => ConflictResolution::Fail,
            _ => generator.resolution(IsolationLevel::ReadCommitted),
        };
        let mut waiting: Vec<VecDeque<Action>> = vec![VecDeque::new(); sessions];
        let mut steps = Vec::new();
        let mut session = 0;
        // Steps of different sessions alternate more or less finely.
        let stay = generator.random.below(4);
        while transactions > 0 || waiting.iter().any(|actions| !actions.is_empty()) {
            if generator.random.below(4) >= stay {
                session = generator.random.below(sessions as u64) as usize;
            }
            if waiting[session].is_empty() && transactions > 0 {
                transactions -= 1;
                waiting[session] = generator.transaction();
            }
            match waiting[session].pop_front() {
                Some(action) => {
                    let yields = generator.random.below(3) == 0;
                    steps.push(PlannedStep { session, action, yields });
                }
                None => session = (session + 1) % sessions,
            }
        }
        Plan { resolution, sessions, filled, steps }
    }

    /// The keys that anybody writes.
    pub fn written(&self) -> BTreeSet<Key> {
        let by_step = self.steps.iter().filter_map(|step| match step.action {
            Action::Put(key, _) | Action::Append(key, _) | Action::Delete(key) => Some(key),
            _ => None,
        });
        self.filled.iter().map(|(key, _)| *key).chain(by_step).collect()
    }
}

fn key(number: u64) -> Key {
    u16::from_be_bytes([(number % GROUPS) as u8, (number / GROUPS) as u8])
}

impl Generator {
    fn row(&mut self) -> Row {
        self.next_row += 1;
        self.next_row - 1
    }

    fn key(&mut self) -> Key {
        match self.random.below(8) {
            0 if self.profile.content == Content::Everything => key(self.hot_keys + self.random.below(COLD_KEYS)),
            _ => key(self.random.below(self.hot_keys)),
        }
    }

    /// Where threads run, it cannot be told whether a read committed transaction has ignored a conflict.
    fn resolution(&mut self, level: IsolationLevel) -> ConflictResolution {
        let untold = self.profile.run != Run::Interleaved && level == IsolationLevel::ReadCommitted;
        match RESOLUTIONS[self.random.below(4) as usize] {
            _ if self.profile.content == Content::Registers => ConflictResolution::Fail,
            ConflictResolution::Ignore if untold => ConflictResolution::Replace,
            resolution => resolution,
        }
    }

    fn transaction(&mut self) -> VecDeque<Action> {
        let level = self.profile.level.unwrap_or_else(|| LEVELS[self.random.below(3) as usize]);
        let read_only = self.random.below(6) == 0;
        let resolution = (self.random.below(2) == 0).then(|| self.resolution(level));
        let mut actions = VecDeque::from([Action::Begin { level, resolution, read_only }]);
        // To the format of other checkers, a session does one thing after the other.
        let prepares = self.profile.content != Content::Registers;
        let operations = match self.random.below(8) {
            0 => 6 + self.random.below(7),
            _ => 1 + self.random.below(self.most_operations),
        };
        let (mut written, mut has_cursor) = (None, false);
        for _ in 0..operations {
            let action = self.operation(read_only);
            if let Action::Put(key, _) | Action::Append(key, _) | Action::Delete(key) = action {
                written = Some(key);
            }
            has_cursor |= matches!(action, Action::OpenCursor { .. });
            actions.push_back(action);
            if prepares && self.random.below(16) == 0 {
                actions.push_back(Action::Decide(self.decision()));
            }
            if has_cursor && self.random.below(2) == 0 {
                actions.push_back(Action::StepCursor(1 + self.random.below(4)));
            }
            if self.profile.content == Content::Registers {
                continue;
            }
            match (self.random.below(16), written) {
                (0 | 1, _) => actions.push_back(Action::Savepoint),
                (2, _) => actions.push_back(Action::RollbackTo(self.random.below(2) as usize)),
                (3, _) => actions.push_back(Action::Release(self.random.below(2) as usize)),
                (4 | 5, Some(key)) => actions.push_back(Action::Resolve(key, self.resolution(level))),
                _ => {}
            }
        }
        actions.push_back(match self.random.below(16) {
            0 => Action::Rollback,
            1..=4 if prepares => Action::Prepare,
            _ => Action::Commit,
        });
        if prepares && self.random.below(2) == 0 {
            actions.push_back(Action::Decide(self.decision()));
        }
        actions
    }

    fn decision(&mut self) -> Decision {
        if self.random.below(4) == 0 { Decision::Rollback } else { Decision::Commit }
    }

    fn operation(&mut self, read_only: bool) -> Action {
        let shares = if read_only { &self.shares[..3] } else { &self.shares[..] };
        let mut choice = self.random.below(shares.iter().sum());
        let mut number = 0;
        while choice >= shares[number] {
            choice -= shares[number];
            number += 1;
        }
        match number {
            0 => Action::Get(self.key()),
            1 => Action::Exists(self.key()),
            2 => self.scan(),
            3 => Action::Put(self.key(), self.row()),
            4 => Action::Append(self.key(), self.row()),
            _ => Action::Delete(self.key()),
        }
    }

    fn scan(&mut self) -> Action {
        let span = match self.random.below(4) {
            0 => Span { low: 0, high: Key::MAX },
            1 => {
                let group = self.random.below(GROUPS) as u8;
                Span { low: u16::from_be_bytes([group, 0]), high: u16::from_be_bytes([group, u8::MAX]) }
            }
            _ => {
                let (one, other) = (self.key(), self.key());
                Span { low: one.min(other), high: one.max(other) }
            }
        };
        let direction = if self.random.below(2) == 0 { Direction::Forward } else { Direction::Reverse };
        if self.random.below(3) == 0 {
            return Action::OpenCursor { span, direction };
        }
        let limit = (self.random.below(2) == 0).then(|| 1 + self.random.below(3));
        Action::Scan { span, direction, limit }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level.map_or("mixed", level_name);
        write!(formatter, "{:?}/{level}/{:?}", self.content, self.run)
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Profile::all();
        let found = all.iter().find(|profile| profile.to_string() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("{text} is none of {}", names.join(", "))
        })
    }
}

impl Profile {
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for content in [Content::Everything, Content::Lists, Content::Registers] {
            for level in LEVELS.map(Some).into_iter().chain([None]) {
                all.extend([Run::Interleaved, Run::Raced, Run::Logged].map(|run| Profile { content, level, run }));
            }
        }
        all
    }
}
