// Processes with many committing threads that are killed at random instants, and what is left of their databases: every
// commit that was acknowledged, as far as its durability promises, each whole, in one order, and nothing else.
//
// crash_test [ROUNDS] [SECONDS] [SEED] [ONLY]: ends after so many rounds or seconds, whichever is first. With ONLY,
// each round has the parameters of round ONLY of the seed; the instants of the kills still differ from run to run.
//
// How a round is judged. Each commit appends its token to the history of its space, a key that thus tells which commits
// the database has, in which order. What a thread is about to commit it writes down before, in memory that survives it,
// and what became of it after. So the state that must be there follows from the history and the notes: it is compared
// key by key. Some rounds have one space, whose keys all threads use; in others each thread has its own.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <random>
#include <thread>

#include "fault_shim.h"
#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;
using std::chrono::microseconds;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kThreads = 4;
/// Those of the threads, and one that they share.
constexpr std::uint32_t kSpaces = kThreads + 1;
constexpr std::uint32_t kSharedSpace = kThreads;
constexpr std::int64_t kBalance = 1000;
constexpr std::uint32_t kMostAttempts = 1 << 14;  // of a thread in a round
constexpr std::size_t kLongHistory = 4000;
constexpr std::uint32_t kBigRows = 40000;

// ---- keys ----

enum Role : std::uint32_t { kHistory, kAccount, kMember, kList, kBig, kRoles };
constexpr std::array<std::uint32_t, kRoles> kCounts{1, 4, 6, 3, 2};
constexpr std::array<const char *, kRoles> kRoleNames{"history", "account", "member", "list", "big"};
/// The members of a group are written together, and so must always be equal.
constexpr std::uint32_t kGroups = 2;
constexpr std::uint32_t kMembers = kCounts[kMember] / kGroups;

struct Keys {
  std::vector<std::string> names;
  std::array<std::array<std::uint32_t, kRoles>, kSpaces> first{};

  Keys() {
    for (std::uint32_t space = 0; space < kSpaces; ++space) {
      for (std::uint32_t role = 0; role < kRoles; ++role) {
        first[space][role] = static_cast<std::uint32_t>(names.size());
        for (std::uint32_t number = 0; number < kCounts[role]; ++number) {
          names.push_back("space/" + std::to_string(space) + "/" + kRoleNames[role] + "/" + std::to_string(number));
        }
      }
    }
  }
  [[nodiscard]] std::uint16_t of(std::uint32_t space, Role role, std::uint32_t number = 0) const {
    return static_cast<std::uint16_t>(first[space][role] + number);
  }
};

// ---- what the threads note, in memory that survives them ----

enum class Kind : std::uint8_t { put, append, remove };

struct Change {
  std::int64_t first_row;
  std::uint32_t rows;
  std::uint16_t key;
  Kind kind;
};

enum class Outcome : std::uint32_t { none, attempted, committed, refused };

struct Attempt {
  std::atomic<Outcome> outcome;
  std::atomic<bool> seen;  ///< by a transaction that read it
  Durability durability;
  std::uint32_t space;
  std::uint64_t version;
  std::uint32_t count;
  std::array<Change, 32> changes;
};

enum class Phase : std::uint32_t { starting, opening, running, closing, closed };

struct Journal {
  std::atomic<Phase> phase;
  std::atomic<bool> stop;
  std::atomic<std::uint32_t> checkpoints;   ///< odd while one is made
  std::atomic<std::uint64_t> acknowledged;  ///< the highest version of a commit that was
  std::atomic<std::uint64_t> synced;        ///< up to this version all is on the disk
  std::atomic<std::uint32_t> failures;
  std::array<std::atomic<std::uint32_t>, kThreads> counts;
  std::array<std::array<Attempt, kMostAttempts>, kThreads> attempts;

  void clear() {
    phase = Phase::starting;
    stop = false;
    checkpoints = 0;
    acknowledged = 0;
    synced = 0;
    failures = 0;
    for (auto &count : counts) count = 0;
  }
};

void raise_to(std::atomic<std::uint64_t> &highest, std::uint64_t value) {
  std::uint64_t seen = highest;
  while (seen < value && !highest.compare_exchange_weak(seen, value)) {
  }
}

struct Token {
  std::uint32_t round, thread, number;

  [[nodiscard]] std::int64_t value() const {
    return static_cast<std::int64_t>(round) << 32 | static_cast<std::int64_t>(thread) << 24 | number;
  }
  static Token of(std::int64_t value) {
    return {static_cast<std::uint32_t>(value >> 32), static_cast<std::uint32_t>(value >> 24) & 0xFF,
            static_cast<std::uint32_t>(value) & 0xFFFFFF};
  }
};

// ---- rounds ----

enum End : std::uint32_t { kInOpen, kRunning, kInCheckpoint, kInClose, kClosed, kEnds };
constexpr std::array<const char *, kEnds> kEndNames{"killed while opening", "killed while running",
                                                    "killed in a checkpoint", "killed while closing", "closed"};
enum Faults : std::uint32_t { kNoFaults, kFullDisk, kBadDisk, kFailingSync, kFaultKinds };
constexpr std::array<const char *, kFaultKinds> kFaultNames{"no faults", "a disk that fills up",
                                                            "writes that fail at times", "a sync that fails"};

struct Round {
  std::uint32_t number = 0;
  std::uint32_t threads = 0;
  bool shared = false;
  /// Of all commits, or any of the three for each.
  std::optional<Durability> durability;
  std::uint32_t big_in_thousand = 0;
  microseconds checkpoints{};  ///< between two; 0: none
  microseconds syncs{};        ///< the same
  microseconds duration{};
  microseconds sync_delay{};
  End end = kRunning;
  Faults faults = kNoFaults;
  std::uint32_t killed_recoveries = 0;
  bool check_closes = false;
  std::uint64_t seed = 0;
  std::uint64_t memory_budget = 0;

  Round(std::uint64_t test_seed, std::uint32_t parameters, std::uint32_t number_in_test) : number(number_in_test) {
    std::seed_seq sequence{test_seed, test_seed >> 32, static_cast<std::uint64_t>(parameters)};
    std::mt19937_64 random(sequence);
    threads = 1 + static_cast<std::uint32_t>(random() % kThreads);
    shared = random() % 2 == 0;
    const auto durabilities = random() % 4;
    if (durabilities < 3) {
      durability = std::array<Durability, 3>{Durability::none, Durability::buffered, Durability::synced}[durabilities];
    }
    big_in_thousand = std::array<std::uint32_t, 4>{0, 0, 10, 200}[random() % 4];
    checkpoints = microseconds(random() % 3 == 0 ? 0 : 500 + random() % 30000);
    syncs = microseconds(random() % 2 == 0 ? 0 : 500 + random() % 20000);
    // Longer syncs gather larger groups.
    sync_delay = microseconds(random() % 4 == 0 ? random() % 3000 : 0);
    duration = microseconds(1000 + random() % 120000);
    const auto ends = random() % 100;
    end = ends < 15 ? kInOpen : ends < 60 ? kRunning : ends < 75 ? kInCheckpoint : ends < 90 ? kInClose : kClosed;
    faults = random() % 4 == 0 ? static_cast<Faults>(1 + random() % 3) : kNoFaults;
    if (faults == kFullDisk || faults == kBadDisk) {
      // Large groups of commits, of which some or a part are written.
      threads = kThreads;
      sync_delay = microseconds(1000 + random() % 2000);
      duration += microseconds(30000);
      if (random() % 2 == 0) checkpoints = microseconds(0);
    }
    if (end == kInCheckpoint && checkpoints.count() == 0) checkpoints = microseconds(5000);
    killed_recoveries = random() % 16 == 0 ? 20 : static_cast<std::uint32_t>(random() % 3);
    check_closes = random() % 2 == 0;
    seed = random();
    memory_budget = std::array<std::uint64_t, 4>{0, 0, 1, 20000}[random() % 4];
  }

  [[nodiscard]] std::string to_string() const {
    const char *name = !durability.has_value()               ? "mixed"
                       : *durability == Durability::none     ? "none"
                       : *durability == Durability::buffered ? "buffered"
                                                             : "synced";
    return std::to_string(threads) + " threads in " + (shared ? "one space" : "spaces of their own") + ", durability " +
           name + ", " + std::to_string(big_in_thousand) + " big values in 1000, checkpoints each " +
           std::to_string(checkpoints.count()) + " us, syncs each " + std::to_string(syncs.count()) + " us, " +
           kFaultNames[faults] + ", " + kEndNames[end] + " after " + std::to_string(duration.count()) + " us, " +
           std::to_string(killed_recoveries) + " killed recoveries, memory budget " + std::to_string(memory_budget);
  }
};

// ---- the process that commits ----

class Writer {
 public:
  Writer(const Round &round, const Keys &keys, Journal &journal, const fs::path &folder)
      : round_(round), keys_(keys), journal_(journal) {
    fault_shim_watch(folder.c_str());
    journal_.phase = Phase::opening;
    auto opened = storage::open(folder, round_.durability.value_or(Durability::synced), round_.memory_budget);
    if (!opened.ok()) {
      complain("opening", opened.error());
      _exit(1);
    }
    database_ = std::move(opened).value();
    schema_ = std::move(khonsu::Schema::from_arrow(batch_of({}).schema)).value();
  }

  void work() {
    set_up();
    fault_shim_delay(FAULT_SYNC, static_cast<std::uint32_t>(round_.sync_delay.count()));
    if (round_.faults == kFullDisk) fault_shim_fail(FAULT_WRITE, 1 + round_.seed % 16, UINT64_MAX, ENOSPC, 1);
    if (round_.faults == kBadDisk) {
      const std::uint32_t per_million = round_.seed % 2 == 0 ? 30000 : 300000;
      fault_shim_fail_some(FAULT_WRITE, per_million, EIO, round_.seed);
      fault_shim_fail_some(FAULT_FILL, per_million, EIO, round_.seed);
    }
    if (round_.faults == kFailingSync) fault_shim_fail(FAULT_SYNC, 1 + round_.seed % 40, 1, EIO, 0);
    journal_.phase = Phase::running;
    std::vector<std::thread> threads;
    for (std::uint32_t thread = 0; thread < round_.threads; ++thread) {
      threads.emplace_back([this, thread] { commit_until_stopped(thread); });
    }
    threads.emplace_back([this] { read_until_stopped(); });
    if (round_.checkpoints.count() != 0) threads.emplace_back([this] { make_checkpoints(); });
    if (round_.syncs.count() != 0) threads.emplace_back([this] { sync_at_times(); });
    for (std::thread &thread : threads) thread.join();
    fault_shim_pass();
    journal_.phase = Phase::closing;
    database_ = khonsu::Database();
    journal_.phase = Phase::closed;
  }

 private:
  /// What one transaction is to do, noted and staged.
  struct Draft {
    khonsu::Transaction transaction;
    Attempt &attempt;
    const Keys &keys;
    const khonsu::Schema &schema;
    khonsu::Result<void> failed{};

    void note(Kind kind, std::uint16_t key, std::int64_t first_row, std::uint32_t rows) {
      if (attempt.count < attempt.changes.size()) attempt.changes[attempt.count++] = {first_row, rows, key, kind};
    }
    void keep(khonsu::Result<void> result) {
      if (failed.ok() && !result.ok()) failed = std::move(result);
    }
    void put(std::uint16_t key, std::int64_t first_row, std::uint32_t rows = 1) {
      note(Kind::put, key, first_row, rows);
      keep(transaction.put(keys.names[key], array(first_row, rows), schema));
    }
    void append(std::uint16_t key, std::int64_t first_row, std::uint32_t rows = 1) {
      note(Kind::append, key, first_row, rows);
      keep(transaction.append(keys.names[key], array(first_row, rows), schema));
    }
    void remove(std::uint16_t key) {
      note(Kind::remove, key, 0, 0);
      keep(transaction.remove(keys.names[key]));
    }
    /// The first row; nothing when the key is absent.
    std::optional<std::int64_t> get(std::uint16_t key) {
      auto found = transaction.get(keys.names[key], schema);
      if (!found.ok()) {
        keep(std::move(found).error());
        return std::nullopt;
      }
      if (!found.value().has_value()) return std::nullopt;
      return arrow_testing_int64_at(found.value()->get(), 0, 0);
    }
    static khonsu::ArrowArray array(std::int64_t first_row, std::uint32_t rows) {
      Values values;
      storage::add_rows(values, first_row, rows);
      return std::move(storage::batch_of_rows(values).array);
    }
  };

  void complain(const char *what, const khonsu::Error &error) {
    ++journal_.failures;
    std::fprintf(stderr, "crash_test: round %u: %s: %s\n", round_.number, what, error.to_string().c_str());
  }
  void complain(const char *what) { complain(what, khonsu::Error()); }

  /// Runs one transaction and notes what becomes of it. With the history, where the first commit begins a new one.
  bool commit(std::uint32_t thread, std::uint32_t space, std::optional<Durability> own, bool with_history,
              const std::function<void(Draft &, std::int64_t)> &body) {
    const std::uint32_t number = journal_.counts[thread];
    Attempt &attempt = journal_.attempts[thread][number];
    attempt.outcome = Outcome::none;
    attempt.seen = false;
    attempt.durability = own.value_or(round_.durability.value_or(Durability::synced));
    attempt.space = space;
    attempt.version = 0;
    attempt.count = 0;
    khonsu::TransactionOptions options;
    if (own.has_value()) options.durability(*own);
    auto begun = database_.begin(options);
    if (!begun.ok()) {
      complain("begin", begun.error());
      return false;
    }
    Draft draft{std::move(begun).value(), attempt, keys_, schema_};
    const std::int64_t token = Token{round_.number, thread, number}.value();
    body(draft, token);
    if (with_history) draft.append(keys_.of(space, kHistory), token);
    if (!draft.failed.ok()) {
      complain("staging", draft.failed.error());
      return false;
    }
    attempt.outcome = Outcome::attempted;
    journal_.counts[thread] = number + 1;
    auto committed = draft.transaction.commit();
    if (!committed.ok()) {
      attempt.outcome = Outcome::refused;
      const bool expected = committed.status() == khonsu::Status::conflict ||
                            (committed.status() == khonsu::Status::storage && round_.faults != kNoFaults &&
                             !committed.error().message().empty());
      if (!expected) complain("commit", committed.error());
      return false;
    }
    attempt.version = draft.transaction.commit_version().value();
    attempt.outcome = Outcome::committed;
    raise_to(journal_.acknowledged, attempt.version);
    return true;
  }

  /// Begins new histories where there are none or they are long, and makes the accounts of a new database.
  void set_up() {
    bool empty = false, is_long = false;
    {
      auto transaction = database_.begin().value_or_throw();
      for (std::uint32_t space = 0; space < kSpaces; ++space) {
        const auto history = read(transaction, keys_.names[keys_.of(space, kHistory)]);
        empty = empty || !history.has_value();
        is_long = is_long || (history.has_value() && history->size() > kLongHistory);
      }
    }
    if (!empty && !is_long) return;
    const bool done = commit(0, kSharedSpace, Durability::buffered, false, [&](Draft &draft, std::int64_t token) {
      for (std::uint32_t space = 0; space < kSpaces; ++space) {
        draft.put(keys_.of(space, kHistory), token);
        for (std::uint32_t number = 0; empty && number < kCounts[kAccount]; ++number) {
          draft.put(keys_.of(space, kAccount, number), kBalance);
        }
      }
    });
    if (!done) complain("the first commit failed");
  }

  void commit_until_stopped(std::uint32_t thread) {
    std::seed_seq sequence{round_.seed, round_.seed >> 32, static_cast<std::uint64_t>(thread)};
    std::mt19937_64 random(sequence);
    const std::uint32_t space = round_.shared ? kSharedSpace : thread;
    std::uint32_t failures = 0;
    // A database that refuses writes for good is left alone.
    while (!journal_.stop && journal_.counts[thread] < kMostAttempts && failures < 500) {
      std::optional<Durability> own;
      if (!round_.durability.has_value()) {
        own = std::array<Durability, 3>{Durability::none, Durability::buffered, Durability::synced}[random() % 3];
      }
      const bool done = commit(thread, space, own, true, [&](Draft &draft, std::int64_t token) {
        for (auto changes = 1 + random() % 3; changes > 0; --changes) change(draft, random, space, token);
      });
      failures = done ? 0 : failures + 1;
    }
  }

  /// A transaction has at most three of these, and each writes at most kMembers keys.
  void change(Draft &draft, std::mt19937_64 &random, std::uint32_t space, std::int64_t token) {
    if (random() % 1000 < round_.big_in_thousand) {
      const std::uint16_t key = keys_.of(space, kBig, static_cast<std::uint32_t>(random() % kCounts[kBig]));
      const auto rows = static_cast<std::uint32_t>(1 + random() % kBigRows);
      // Appended to at times, but not until it fills memory.
      if (random() % 4 == 0 && rows < kBigRows / 8) {
        draft.append(key, token, rows);
      } else {
        draft.put(key, token, rows);
      }
      return;
    }
    switch (random() % 5) {
      case 0:
      case 1: {
        const auto from = static_cast<std::uint32_t>(random() % kCounts[kAccount]);
        const auto to = static_cast<std::uint32_t>((from + 1 + random() % (kCounts[kAccount] - 1)) % kCounts[kAccount]);
        const auto amount = static_cast<std::int64_t>(random() % 100);
        const auto source = draft.get(keys_.of(space, kAccount, from));
        const auto target = draft.get(keys_.of(space, kAccount, to));
        if (!source.has_value() || !target.has_value()) {
          complain("an account is missing");
          return;
        }
        draft.put(keys_.of(space, kAccount, from), *source - amount);
        draft.put(keys_.of(space, kAccount, to), *target + amount);
        return;
      }
      case 2: {
        const auto group = static_cast<std::uint32_t>(random() % kGroups);
        for (std::uint32_t member = 0; member < kMembers; ++member) {
          draft.put(keys_.of(space, kMember, group * kMembers + member), token);
        }
        return;
      }
      default: {
        const std::uint16_t key = keys_.of(space, kList, static_cast<std::uint32_t>(random() % kCounts[kList]));
        const auto rows = static_cast<std::uint32_t>(1 + random() % 5);
        switch (random() % 8) {
          case 0: draft.remove(key); return;
          case 1: draft.put(key, token, rows); return;
          default: draft.append(key, token, rows); return;
        }
      }
    }
  }

  /// Reads states, each of which must be consistent, and notes whose commits were seen.
  void read_until_stopped() {
    khonsu::TransactionOptions options;
    options.read_only();
    for (std::uint32_t turn = 0; !journal_.stop; ++turn) {
      const std::uint32_t space = round_.shared ? kSharedSpace : turn % round_.threads;
      auto begun = database_.begin(options);
      if (!begun.ok()) {
        complain("begin to read", begun.error());
        return;
      }
      khonsu::Transaction transaction = std::move(begun).value();
      std::int64_t total = 0;
      for (std::uint32_t number = 0; number < kCounts[kAccount]; ++number) {
        const auto rows = get(transaction, keys_.of(space, kAccount, number));
        total += rows.has_value() ? rows->at(0) : 0;
      }
      if (total != kBalance * kCounts[kAccount]) complain("a reader saw half of a transfer");
      const std::uint32_t group = turn % kGroups;
      const auto first = get(transaction, keys_.of(space, kMember, group * kMembers));
      for (std::uint32_t member = 1; member < kMembers; ++member) {
        const auto other = get(transaction, keys_.of(space, kMember, group * kMembers + member));
        if (other != first) complain("a reader saw a part of a group");
      }
      if (first.has_value()) {
        const Token token = Token::of(first->at(0));
        if (token.round == round_.number) journal_.attempts[token.thread][token.number].seen = true;
      }
      transaction = khonsu::Transaction();
      std::this_thread::sleep_for(microseconds(100));
    }
  }

  std::optional<Values> get(khonsu::Transaction &transaction, std::uint16_t key) {
    auto found = transaction.get(keys_.names[key], schema_);
    if (!found.ok()) {
      complain("reading", found.error());
      return std::nullopt;
    }
    if (!found.value().has_value()) return std::nullopt;
    return values_of(*found.value());
  }

  void make_checkpoints() {
    while (!journal_.stop) {
      const std::uint64_t before = journal_.acknowledged;
      ++journal_.checkpoints;
      auto made = database_.checkpoint();
      ++journal_.checkpoints;
      if (made.ok()) {
        raise_to(journal_.synced, before);
      } else if (made.status() != khonsu::Status::storage || round_.faults == kNoFaults) {
        complain("checkpoint", made.error());
      }
      std::this_thread::sleep_for(round_.checkpoints);
    }
  }

  void sync_at_times() {
    while (!journal_.stop) {
      const std::uint64_t before = journal_.acknowledged;
      auto synced = database_.sync();
      if (synced.ok()) {
        raise_to(journal_.synced, before);
      } else if (synced.status() != khonsu::Status::storage || round_.faults == kNoFaults) {
        complain("sync", synced.error());
      }
      std::this_thread::sleep_for(round_.syncs);
    }
  }

  const Round &round_;
  const Keys &keys_;
  Journal &journal_;
  khonsu::Database database_;
  khonsu::Schema schema_;
};

// ---- the process that kills and judges ----

/// A value as the commits that made it: the first row and the number of rows of each.
using Runs = std::vector<std::pair<std::int64_t, std::uint32_t>>;

struct Totals {
  std::uint64_t commits = 0, refused = 0, in_flight = 0, lost = 0, killed_recoveries = 0;
  std::array<std::uint64_t, kEnds> ends{};
  std::array<std::uint64_t, kFaultKinds> faults{};
};

class Test {
 public:
  explicit Test(std::uint64_t seed) : seed_(seed), random_(seed), folder_(storage::new_folder("crash")) {
    *opening_time_ = microseconds(20000);
  }

  /// False when something was wrong: what comes after it would prove nothing.
  bool round(const Round &round) {
    journal_->clear();
    const int status = run_and_kill(round);
    ++totals_.ends[round.end];
    ++totals_.faults[round.faults];
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0) {
      return wrong(round, storage::failure_of(status));
    }
    if (journal_->failures != 0) return wrong(round, "the writer found something wrong");
    for (std::uint32_t kill = 0; kill < round.killed_recoveries; ++kill) {
      kill_recovery();
      ++totals_.killed_recoveries;
    }
    report_->clear();
    const auto begun = Clock::now();
    const std::string failure = storage::failure_of(storage::wait_for(storage::start([&] {
      auto database = storage::open(folder_ / "database", Durability::synced, round.memory_budget);
      if (!database.ok()) {
        report_->refused(database.error());
        return;
      }
      *opening_time_ = std::chrono::duration_cast<microseconds>(Clock::now() - begun);
      report_->opened(database.value());
      if (!round.check_closes) static_cast<void>(database.value().release());
    })));
    if (!failure.empty()) return wrong(round, failure);
    if (!report_->ok()) return wrong(round, "not opened: " + report_->to_string());
    const std::string mistake = judge(round);
    return mistake.empty() ? CHECK(true) : wrong(round, mistake);
  }

  void finish(std::uint32_t rounds) {
    std::printf("seed %llu: %u rounds, %llu commits, %llu refused, %llu found in flight, %llu lost that may be; ",
                static_cast<unsigned long long>(seed_), rounds, static_cast<unsigned long long>(totals_.commits),
                static_cast<unsigned long long>(totals_.refused), static_cast<unsigned long long>(totals_.in_flight),
                static_cast<unsigned long long>(totals_.lost));
    for (std::uint32_t end = 0; end < kEnds; ++end) {
      std::printf("%s %llu, ", kEndNames[end], static_cast<unsigned long long>(totals_.ends[end]));
    }
    std::printf("recoveries killed %llu\n", static_cast<unsigned long long>(totals_.killed_recoveries));
    // Not all can have been killed before they did anything.
    CHECK(totals_.commits > rounds);
    if (rounds >= 200) {
      for (const std::uint64_t times : totals_.ends) CHECK(times > 0);
      for (const std::uint64_t times : totals_.faults) CHECK(times > 0);
      CHECK(totals_.killed_recoveries >= 20);
    }
    if (check::failures == 0) fs::remove_all(folder_);
  }

 private:
  bool wrong(const Round &round, const std::string &what) {
    std::fprintf(stderr, "crash_test: seed %llu, round %u (%s): %s\nThe folder is kept: %s\nMore rounds like it: %s\n",
                 static_cast<unsigned long long>(seed_), round.number, round.to_string().c_str(), what.c_str(),
                 folder_.c_str(),
                 ("crash_test 100 60 " + std::to_string(seed_) + " " + std::to_string(round.number)).c_str());
    return CHECK(!"the round was right");
  }

  microseconds random_time(microseconds below) {
    return microseconds(random_() % static_cast<std::uint64_t>(below.count() + 1));
  }

  /// Waits for what the child does next, unless it ends before.
  template <typename Condition>
  static bool wait_until(pid_t child, int &status, Condition &&condition) {
    while (!condition()) {
      if (waitpid(child, &status, WNOHANG) == child) return false;
      std::this_thread::sleep_for(microseconds(20));
    }
    return true;
  }

  int run_and_kill(const Round &round) {
    Journal &journal = *journal_;
    const pid_t child = storage::start([&] { Writer(round, keys_, journal, folder_ / "database").work(); });
    int status = 0;
    const auto reaches = [&](Phase phase) { return wait_until(child, status, [&] { return journal.phase >= phase; }); };
    if (!reaches(Phase::opening)) return status;
    if (round.end == kInOpen) {
      std::this_thread::sleep_for(random_time(*opening_time_ * 3 / 2));
    } else {
      if (!reaches(Phase::running)) return status;
      std::this_thread::sleep_for(round.duration);
    }
    if (round.end == kInCheckpoint) {
      const std::uint32_t before = journal.checkpoints;
      if (!wait_until(child, status, [&] {
            return journal.checkpoints % 2 == 1 && (before % 2 == 0 || journal.checkpoints != before);
          })) {
        return status;
      }
      std::this_thread::sleep_for(random_time(microseconds(3000)));
    }
    if (round.end == kInClose || round.end == kClosed) {
      journal.stop = true;
      if (!reaches(Phase::closing)) return status;
      if (round.end == kClosed) return storage::wait_for(child);
      std::this_thread::sleep_for(random_time(microseconds(2000)));
    }
    kill(child, SIGKILL);
    return storage::wait_for(child);
  }

  void kill_recovery() {
    const pid_t child = storage::start([&] {
      auto database = storage::open(folder_ / "database");
      if (!CHECK_OK(database)) return;
      for (;;) pause();
    });
    std::this_thread::sleep_for(random_time(*opening_time_ * 3 / 2));
    kill(child, SIGKILL);
    const int status = storage::wait_for(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }

  /// What is wrong with the state that was found; empty when nothing is. Then the model is that state.
  std::string judge(const Round &round) {
    const storage::State found = report_->state();
    if (found.empty()) return judge_empty();

    // Which commits are there, in which order, as the histories tell.
    std::vector<Token> order;
    for (std::uint32_t space = 0; space < kSpaces; ++space) {
      const auto history = found.find(keys_.names[keys_.of(space, kHistory)]);
      if (history == found.end()) return "space " + std::to_string(space) + " has no history";
      const Values &rows = history->second;
      const Token first = Token::of(rows.at(0));
      const Runs &known = model_[history->first];
      std::size_t from = known.size();
      if (first.round == round.number) {
        if (first.thread != 0 || first.number != 0) return "a history begins with a commit that does not begin one";
        if (space == 0) order.push_back(first);
        from = 1;
      }
      for (std::size_t row = from; row < rows.size(); ++row) order.push_back(Token::of(rows[row]));
    }
    std::array<std::vector<bool>, kThreads> present;
    for (std::uint32_t thread = 0; thread < kThreads; ++thread) present[thread].resize(journal_->counts[thread]);
    std::uint64_t newest = 0;
    for (const Token &token : order) {
      const std::string name = std::to_string(token.thread) + "/" + std::to_string(token.number);
      if (token.round != round.number || token.thread >= kThreads || token.number >= present[token.thread].size()) {
        return "commit " + name + " of round " + std::to_string(token.round) + " was never attempted";
      }
      const Attempt &attempt = journal_->attempts[token.thread][token.number];
      if (attempt.outcome == Outcome::refused) return "commit " + name + " is there, and was reported as failed";
      if (attempt.outcome == Outcome::none) return "commit " + name + " is there, and was never tried";
      if (present[token.thread][token.number]) return "commit " + name + " is there twice";
      present[token.thread][token.number] = true;
      if (attempt.outcome == Outcome::attempted) {
        ++totals_.in_flight;
        continue;
      }
      if (round.shared && attempt.version <= newest) return "commit " + name + " is older than one before it";
      newest = std::max(newest, attempt.version);
    }
    if (std::string mistake = judge_missing(round, present, newest); !mistake.empty()) return mistake;
    if (report_->version() < newest) return "the version went back to " + std::to_string(report_->version());
    if (report_->version() < version_) return "the version fell below that of the round before";

    // What those commits make of the state of the round before.
    for (const Token &token : order) apply(journal_->attempts[token.thread][token.number]);
    storage::State expected;
    for (const auto &[key, runs] : model_) {
      Values &rows = expected[key];
      for (const auto &[first_row, count] : runs) storage::add_rows(rows, first_row, count);
    }
    version_ = report_->version();
    return storage::difference(expected, found);
  }

  /// Only before the first commit may there be nothing.
  std::string judge_empty() {
    if (!model_.empty()) return "everything is gone";
    return journal_->attempts[0][0].outcome == Outcome::committed && journal_->counts[0] > 0
               ? "the first commit is gone"
               : "";
  }

  /// Whether commits are missing that must be there: those that promised to be, those that others could not be without.
  std::string judge_missing(const Round &round, const std::array<std::vector<bool>, kThreads> &present,
                            std::uint64_t newest) {
    for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
      for (std::uint32_t number = 0; number < present[thread].size(); ++number) {
        const Attempt &attempt = journal_->attempts[thread][number];
        if (attempt.outcome == Outcome::refused) {
          ++totals_.refused;
          continue;
        }
        const std::string name = std::to_string(thread) + "/" + std::to_string(number);
        const bool is_there = present[thread][number];
        if (is_there) {
          ++totals_.commits;
        } else if (attempt.outcome == Outcome::committed) {
          const std::string text = "commit " + name + " of version " + std::to_string(attempt.version);
          if (attempt.durability != Durability::none) return text + " is lost";
          if (attempt.version < newest) return text + " is lost, and a later one is there";
          if (attempt.version <= journal_->synced) return text + " is lost, and was synced";
          // A log that refuses all writes cannot take them at the end either.
          if (journal_->phase == Phase::closed && round.faults != kFailingSync)
            return text + " is lost, and the database was closed";
          ++totals_.lost;
        } else if (number + 1 < present[thread].size()) {
          return "commit " + name + " neither succeeded nor failed";
        }
        if (!is_there && attempt.seen && attempt.durability != Durability::none) {
          return "commit " + name + " is lost, and was seen";
        }
        if (attempt.outcome == Outcome::committed && attempt.version <= version_) {
          return "commit " + name + " has a version of the round before";
        }
      }
    }
    return "";
  }

  void apply(const Attempt &attempt) {
    for (std::uint32_t number = 0; number < attempt.count; ++number) {
      const Change &change = attempt.changes[number];
      const std::string &key = keys_.names[change.key];
      if (change.kind != Kind::append) model_.erase(key);
      if (change.kind != Kind::remove) model_[key].emplace_back(change.first_row, change.rows);
    }
  }

  std::uint64_t seed_;
  std::mt19937_64 random_;
  fs::path folder_;
  Keys keys_;
  storage::Shared<Journal> journal_;
  storage::Shared<storage::Report> report_;
  storage::Shared<microseconds> opening_time_;  // of the last recovery
  std::map<std::string, Runs> model_;
  std::uint64_t version_ = 0;
  Totals totals_;
};

}  // namespace

int main(int count, char **arguments) {
  const auto argument = [&](int number, std::uint64_t otherwise) {
    return count > number ? std::strtoull(arguments[number], nullptr, 10) : otherwise;
  };
  const std::uint64_t most_rounds = argument(1, 250);
  const auto most_time = std::chrono::seconds(argument(2, 90));
  const std::uint64_t seed = argument(3, 1);
  std::printf("crash_test: seed %llu\n", static_cast<unsigned long long>(seed));
  Test test(seed);
  const auto begun = Clock::now();
  std::uint32_t rounds = 0;
  while (rounds < most_rounds && Clock::now() - begun < most_time) {
    const auto parameters = static_cast<std::uint32_t>(argument(4, rounds));
    ++rounds;
    if (!test.round(Round(seed, parameters, rounds))) break;
  }
  test.finish(rounds);
  return check::finish("crash_test");
}
