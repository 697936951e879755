// Processes whose threads prepare transactions and decide about them, killed at random instants, and what is left: who
// had voted yes is in doubt and holds its keys, or ended as somebody has said; nobody else is in doubt; and the sum of
// all money is what it was.
//
// prepared_crash_test [ROUNDS] [SECONDS] [SEED]: ends after so many rounds or seconds, whichever is first.
//
// How a round is judged. A transaction moves money between two accounts, and puts a mark of its own; so the marks tell
// which are committed, and the balances must be what these come to. What a thread is about to do to a transaction it
// notes before, in memory that survives it, and what came of it after.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <random>
#include <thread>

#include "fault_shim.h"
#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;
using khonsu::Status;
using std::chrono::microseconds;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kThreads = 4;
constexpr std::uint32_t kAccounts = 40;
constexpr std::int64_t kBalance = 1000;
constexpr std::uint32_t kMostAttempts = 1 << 14;  // of a thread with one database
constexpr std::uint32_t kLargeRows = 120000;      // some twenty of these fill a segment of the log

// ---- what the threads note, in memory that survives them ----

enum class Stage : std::uint32_t {
  none,
  preparing,  ///< or, with one phase, committing
  refused,
  prepared,
  deciding,
  decided,
  forgetting,
  forgotten
};

struct Attempt {
  std::atomic<Stage> stage;
  std::atomic<khonsu::Decision> decision;
  std::atomic<bool> heuristic;
  /// Whoever comes may decide about it.
  std::atomic<bool> left;
  bool one_phase;
  std::uint32_t round, from, to;
  std::int64_t amount;
};

enum class Phase : std::uint32_t { starting, opening, running, closing, closed };

struct Journal {
  std::atomic<Phase> phase;
  std::atomic<bool> stop;
  std::atomic<std::uint32_t> failures;
  std::atomic<std::uint64_t> checkpoints;
  std::atomic<std::uint64_t> counts[kThreads];  // kept from round to round, as the attempts are
  Attempt attempts[kThreads][kMostAttempts];
};

std::string id_of(std::uint32_t thread, std::uint64_t number) {
  return std::to_string(thread) + "/" + std::to_string(number);
}
std::string mark_of(const std::string &id) { return "mark/" + id; }
std::string account(std::uint32_t number) { return "account/" + std::to_string(number); }

// ---- rounds ----

enum End : std::uint32_t { kInOpen, kRunning, kInClose, kClosed, kEnds };
constexpr std::array<const char *, kEnds> kEndNames{"killed while opening", "killed while running",
                                                    "killed while closing", "closed"};
enum Faults : std::uint32_t { kNoFaults, kBadDisk, kFailingSync, kFaultKinds };
constexpr std::array<const char *, kFaultKinds> kFaultNames{"no faults", "writes that fail at times",
                                                            "a sync that fails"};

struct Round {
  std::uint32_t number, threads, large_in_thousand, left_in_hundred, killed_recoveries;
  microseconds duration{}, checkpoints{}, sync_delay{};
  /// The log goes on and on in new segments, and those in doubt stay so for the round.
  bool fills_log;
  End end;
  Faults faults;
  std::uint64_t seed;

  Round(std::uint64_t test_seed, std::uint32_t number_in_test) : number(number_in_test) {
    std::seed_seq sequence{test_seed, test_seed >> 32, static_cast<std::uint64_t>(number)};
    std::mt19937_64 random(sequence);
    threads = 1 + static_cast<std::uint32_t>(random() % kThreads);
    large_in_thousand = std::array<std::uint32_t, 3>{0, 20, 300}[random() % 3];
    left_in_hundred = std::array<std::uint32_t, 3>{5, 20, 60}[random() % 3];
    duration = microseconds(1000 + random() % 150000);
    checkpoints = microseconds(random() % 3 == 0 ? 0 : 500 + random() % 20000);
    sync_delay = microseconds(random() % 3 == 0 ? random() % 2000 : 0);
    fills_log = random() % 3 == 0;
    if (fills_log) {
      duration += microseconds(100000);
      checkpoints = microseconds(5000);
    }
    const auto ends = random() % 100;
    end = ends < 15 ? kInOpen : ends < 75 ? kRunning : ends < 90 ? kInClose : kClosed;
    faults = random() % 5 == 0 ? static_cast<Faults>(1 + random() % 2) : kNoFaults;
    killed_recoveries = static_cast<std::uint32_t>(random() % 3);
    seed = random();
  }

  [[nodiscard]] std::string to_string() const {
    return std::to_string(threads) + " threads, " + std::to_string(large_in_thousand) + " large values in 1000, " +
           std::to_string(left_in_hundred) + " in 100 left in doubt, " + (fills_log ? "a log that is filled, " : "") +
           "checkpoints each " +
           std::to_string(checkpoints.count()) + " us, syncs delayed by " + std::to_string(sync_delay.count()) +
           " us, " + kFaultNames[faults] + ", " + kEndNames[end] + " after " + std::to_string(duration.count()) +
           " us, " + std::to_string(killed_recoveries) + " killed recoveries";
  }
};

// ---- the process that is killed ----

class Writer {
 public:
  Writer(const Round &round, Journal &journal, const fs::path &folder) : round_(round), journal_(journal) {
    fault_shim_watch(folder.c_str());
    journal_.phase = Phase::opening;
    auto opened = storage::open(folder);
    if (!opened.ok()) {
      complain("opening", opened.error());
      _exit(1);
    }
    database_ = std::move(opened).value();
  }

  void work() {
    make_accounts();
    fault_shim_delay(FAULT_SYNC, static_cast<std::uint32_t>(round_.sync_delay.count()));
    if (round_.faults == kBadDisk) fault_shim_fail_some(FAULT_WRITE, 100000, EIO, round_.seed);
    if (round_.faults == kFailingSync) fault_shim_fail(FAULT_SYNC, 1 + round_.seed % 40, 1, EIO, 0);
    journal_.phase = Phase::running;
    std::vector<std::thread> threads;
    for (std::uint32_t thread = 0; thread < round_.threads; ++thread) {
      threads.emplace_back([this, thread] { move_until_stopped(thread); });
    }
    threads.emplace_back([this] { round_.fills_log ? fill_log() : decide_what_is_left(); });
    threads.emplace_back([this] { read_until_stopped(); });
    if (round_.checkpoints.count() != 0) threads.emplace_back([this] { make_checkpoints(); });
    for (std::thread &thread : threads) thread.join();
    fault_shim_pass();
    journal_.phase = Phase::closing;
    database_ = khonsu::Database();
    journal_.phase = Phase::closed;
  }

 private:
  void complain(const char *what, const khonsu::Error &error) {
    ++journal_.failures;
    std::fprintf(stderr, "prepared_crash_test: round %u: %s: %s\n", round_.number, what, error.to_string().c_str());
  }
  void complain(const std::string &what) { complain(what.c_str(), khonsu::Error()); }

  bool may_fail(const khonsu::Error &error) const {
    return error.status() == Status::storage && round_.faults != kNoFaults && !error.message().empty();
  }

  void make_accounts() {
    auto transaction = database_.begin().value_or_throw();
    if (read(transaction, account(0)).has_value()) return;
    for (std::uint32_t number = 0; number < kAccounts; ++number) {
      CHECK_OK(transaction.put(account(number), batch_of({kBalance})));
    }
    if (auto committed = transaction.commit(); !committed.ok()) complain("the first commit", committed.error());
  }

  void move_until_stopped(std::uint32_t thread) {
    std::seed_seq sequence{round_.seed, round_.seed >> 32, static_cast<std::uint64_t>(thread)};
    std::mt19937_64 random(sequence);
    std::uint32_t failures = 0;
    // A database that refuses writes for good is left alone.
    while (!journal_.stop && journal_.counts[thread] < kMostAttempts && failures < 300) {
      failures = move(thread, random) ? 0 : failures + 1;
    }
  }

  /// One transaction; whether it could be prepared, or committed in one phase.
  bool move(std::uint32_t thread, std::mt19937_64 &random) {
    const std::uint64_t number = journal_.counts[thread];
    const std::string id = id_of(thread, number);
    Attempt &attempt = journal_.attempts[thread][number];
    attempt.one_phase = random() % 3 == 0;
    attempt.heuristic = false;
    attempt.left = false;
    attempt.round = round_.number;
    attempt.from = static_cast<std::uint32_t>(random() % kAccounts);
    attempt.to = static_cast<std::uint32_t>((attempt.from + 1 + random() % (kAccounts - 1)) % kAccounts);
    attempt.amount = static_cast<std::int64_t>(random() % 100);
    khonsu::TransactionOptions options;
    options.durability(random() % 2 == 0 ? Durability::buffered : Durability::synced);
    auto begun = database_.begin(options);
    if (!begun.ok()) {
      complain("begin", begun.error());
      return false;
    }
    khonsu::Transaction transaction = std::move(begun).value();
    const auto source = read(transaction, account(attempt.from)), target = read(transaction, account(attempt.to));
    if (!source.has_value() || !target.has_value()) {
      complain("an account is missing");
      return false;
    }
    if (random() % 1000 < round_.large_in_thousand) {
      Values rows;
      storage::add_rows(rows, attempt.amount, kLargeRows);
      const std::string key = "large/" + std::to_string(thread) + "/" + std::to_string(random() % 8);
      CHECK_OK(transaction.put(key, storage::batch_of_rows(rows)));
    }
    CHECK_OK(transaction.put(account(attempt.from), batch_of({source->at(0) - attempt.amount})));
    CHECK_OK(transaction.put(account(attempt.to), batch_of({target->at(0) + attempt.amount})));
    CHECK_OK(transaction.put(mark_of(id), batch_of({attempt.amount})));
    attempt.stage = Stage::preparing;
    journal_.counts[thread] = number + 1;
    auto ended = attempt.one_phase ? transaction.commit() : storage::prepare(transaction, id);
    if (!ended.ok()) {
      attempt.stage = Stage::refused;
      if (ended.status() != Status::conflict && !may_fail(ended.error())) complain("prepare or commit", ended.error());
      return false;
    }
    if (attempt.one_phase) {
      attempt.decision = khonsu::Decision::commit;
      attempt.stage = Stage::decided;
      return true;
    }
    attempt.stage = Stage::prepared;
    if (random() % 100 < round_.left_in_hundred) {
      attempt.left = true;
    } else {
      decide(id, attempt, random);
    }
    return true;
  }

  void decide(const std::string &id, Attempt &attempt, std::mt19937_64 &random) {
    const bool commits = random() % 3 != 0, heuristic = random() % 8 == 0;
    attempt.decision = commits ? khonsu::Decision::commit : khonsu::Decision::rollback;
    attempt.heuristic = heuristic;
    attempt.stage = Stage::deciding;
    auto decided = storage::decide(database_, id, attempt.decision, heuristic);
    if (!decided.ok()) {
      if (!may_fail(decided.error())) complain("deciding", decided.error());
      // It is in doubt still.
      attempt.stage = Stage::prepared;
      attempt.left = true;
      return;
    }
    attempt.stage = Stage::decided;
    if (random() % 4 != 0) return;
    attempt.stage = Stage::forgetting;
    auto forgotten = database_.forget(id);
    if (!forgotten.ok() && !may_fail(forgotten.error())) complain("forgetting", forgotten.error());
    attempt.stage = forgotten.ok() ? Stage::forgotten : Stage::decided;
  }

  void fill_log() {
    khonsu::TransactionOptions options;
    options.durability(Durability::buffered);
    while (!journal_.stop) {
      Values rows;
      storage::add_rows(rows, 1, kLargeRows);
      auto transaction = database_.begin(options).value_or_throw();
      for (const char *key : {"large/a", "large/b", "large/c"}) {
        CHECK_OK(transaction.put(key, storage::batch_of_rows(rows)));
      }
      auto committed = transaction.commit();
      if (!committed.ok() && !may_fail(committed.error())) complain("filling the log", committed.error());
    }
  }

  /// The coordinator comes back, also for those of processes before.
  void decide_what_is_left() {
    std::mt19937_64 random(round_.seed);
    std::array<std::uint64_t, kThreads> done{};
    while (!journal_.stop) {
      for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
        const std::uint64_t count = journal_.counts[thread];
        for (std::uint64_t number = done[thread]; number < count && !journal_.stop; ++number) {
          Attempt &attempt = journal_.attempts[thread][number];
          if (attempt.left && attempt.stage == Stage::prepared && random() % 2 == 0) {
            attempt.left = false;
            decide(id_of(thread, number), attempt, random);
          }
        }
        while (done[thread] < count && is_over(journal_.attempts[thread][done[thread]])) ++done[thread];
      }
      std::this_thread::sleep_for(microseconds(500));
    }
  }

  static bool is_over(const Attempt &attempt) {
    const Stage stage = attempt.stage;
    return stage == Stage::refused || stage == Stage::forgotten || (stage == Stage::decided && !attempt.left);
  }

  /// No reader waits for anybody in doubt, or sees a part of a transfer.
  void read_until_stopped() {
    while (!journal_.stop) {
      auto transaction = database_.begin(std::move(khonsu::TransactionOptions().read_only())).value_or_throw();
      std::int64_t total = 0;
      for (std::uint32_t number = 0; number < kAccounts; ++number) {
        total += read(transaction, account(number)).value_or(Values{0}).at(0);
      }
      if (total != kBalance * kAccounts) complain("a reader saw a sum of " + std::to_string(total));
      std::this_thread::sleep_for(microseconds(300));
    }
  }

  void make_checkpoints() {
    while (!journal_.stop) {
      auto made = database_.checkpoint();
      if (made.ok()) {
        ++journal_.checkpoints;
      } else if (!may_fail(made.error())) {
        complain("checkpoint", made.error());
      }
      std::this_thread::sleep_for(round_.checkpoints);
    }
  }

  const Round &round_;
  Journal &journal_;
  khonsu::Database database_;
};

// ---- the process that judges ----

struct Totals {
  std::atomic<std::uint64_t> rounds, decided, in_doubt, found_prepared, found_decided, refused, repeated, held;
};

class Judge {
 public:
  Judge(Journal &journal, Totals &totals, khonsu::Database &database, std::uint32_t round)
      : journal_(journal), totals_(totals), database_(database), round_(round) {}

  /// Finds out what has become of all, and notes it.
  void judge() {
    storage::State state = storage::state_of(database_);
    const auto large = [](const auto &entry) { return entry.first.rfind("large/", 0) == 0; };
    for (auto entry = state.begin(); (entry = std::find_if(entry, state.end(), large)) != state.end();) {
      CHECK(entry->second.size() == kLargeRows);
      entry = state.erase(entry);
    }
    listed_ = storage::recover(database_);
    std::array<std::int64_t, kAccounts> balances{};
    balances.fill(kBalance);
    std::size_t marks = 0, listed = 0;
    for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
      for (std::uint64_t number = 0; number < journal_.counts[thread]; ++number) {
        const std::string id = id_of(thread, number);
        Attempt &attempt = journal_.attempts[thread][number];
        const bool is_marked = state.count(mark_of(id)) != 0;
        listed += listed_.count(id);
        marks += is_marked ? 1 : 0;
        if (is_marked) {
          balances[attempt.from] -= attempt.amount;
          balances[attempt.to] += attempt.amount;
        }
        settle(id, attempt, is_marked);
      }
    }
    CHECK(listed == listed_.size());
    std::size_t accounts = 0;
    for (std::uint32_t number = 0; number < kAccounts; ++number) {
      const auto found = state.find(account(number));
      if (found == state.end()) continue;
      ++accounts;
      if (!CHECK(found->second.at(0) == balances[number])) std::fprintf(stderr, "  account %u\n", number);
    }
    // Before the first commit there may be nothing.
    CHECK(accounts == kAccounts || state.empty());
    CHECK(state.size() == accounts + marks + listed);
    check_holds();
  }

 private:
  static bool is_in_doubt(const khonsu::PreparedTransaction &listed) {
    return listed.state == khonsu::PreparedState::prepared;
  }

  void wrong(const std::string &id, const Attempt &attempt, const char *what) {
    CHECK(!"it is as it was acknowledged");
    std::fprintf(stderr, "  transaction %s of round %u, stage %u, decision %d%s: %s\n", id.c_str(), attempt.round,
                 static_cast<unsigned>(attempt.stage.load()), static_cast<int>(attempt.decision.load()),
                 attempt.heuristic ? " by an operator" : "", what);
  }

  void settle(const std::string &id, Attempt &attempt, bool is_marked) {
    const auto found = listed_.find(id);
    const bool in_doubt = found != listed_.end() && is_in_doubt(found->second);
    const bool commits = attempt.decision == khonsu::Decision::commit;
    if (in_doubt && is_marked) wrong(id, attempt, "it is in doubt and committed");
    switch (attempt.stage.load()) {
      case Stage::none: wrong(id, attempt, "it was never tried"); return;
      case Stage::preparing:
        if (attempt.one_phase) {
          if (found != listed_.end()) wrong(id, attempt, "it is listed");
          attempt.decision = khonsu::Decision::commit;
          attempt.stage = is_marked ? Stage::decided : Stage::refused;
          return;
        }
        if (is_marked) wrong(id, attempt, "it is committed");
        attempt.stage = in_doubt ? Stage::prepared : Stage::refused;
        attempt.left = true;
        totals_.found_prepared += in_doubt ? 1 : 0;
        return;
      case Stage::refused:
        if (is_marked || found != listed_.end()) wrong(id, attempt, "it is there");
        ++totals_.refused;
        return;
      case Stage::prepared:
        if (!in_doubt) wrong(id, attempt, "it is not in doubt");
        ++totals_.in_doubt;
        return;
      case Stage::deciding:
        if (in_doubt) {
          attempt.stage = Stage::prepared;
          attempt.left = true;
          return;
        }
        ++totals_.found_decided;
        attempt.stage = Stage::decided;
        check_decided(id, attempt, is_marked);
        return;
      case Stage::decided:
      case Stage::forgetting:
      case Stage::forgotten:
        if (in_doubt) wrong(id, attempt, "it is in doubt");
        if (is_marked != commits) wrong(id, attempt, "it ended otherwise");
        if (attempt.round != round_) return;
        ++totals_.decided;
        check_decided(id, attempt, is_marked);
        return;
    }
  }

  /// Calls that are repeated after the crash are answered as before it.
  void check_decided(const std::string &id, Attempt &attempt, bool is_marked) {
    const bool commits = attempt.decision == khonsu::Decision::commit;
    if (is_marked != commits) wrong(id, attempt, "it ended otherwise");
    if (attempt.one_phase || attempt.stage == Stage::forgetting || repeated_ == 100) return;
    ++repeated_;
    ++totals_.repeated;
    const auto other = commits ? khonsu::Decision::rollback : khonsu::Decision::commit;
    const auto same_status = storage::decide(database_, id, attempt.decision).status();
    const auto other_status = storage::decide(database_, id, other).status();
    const bool forgotten = same_status == Status::not_found && other_status == Status::not_found;
    // Also what was forgotten stays so: a kill loses nothing that was written.
    const bool by_operator = same_status == Status::heuristic && other_status == Status::heuristic;
    const bool by_coordinator = same_status == Status::ok && other_status == Status::already_decided;
    const bool answered = attempt.stage == Stage::forgotten ? forgotten
                          : attempt.heuristic               ? by_operator
                                                            : by_coordinator;
    if (!answered) wrong(id, attempt, "a repeated call has another answer");
    const auto found = listed_.find(id);
    const bool is_listed = attempt.heuristic && attempt.stage != Stage::forgotten;
    if (is_listed != (found != listed_.end())) wrong(id, attempt, "it is listed, or is not");
  }

  /// Whoever is in doubt holds what it is going to write, and what it has read.
  void check_holds() {
    std::uint32_t checks = 0;
    for (const auto &[id, listed] : listed_) {
      if (!is_in_doubt(listed)) continue;
      CHECK(listed.keys.size() == 3 || listed.keys.size() == 4);
      CHECK(listed.prepared_at.count() > 1600000000000000);
      for (const std::string &key : listed.keys) {
        if (++checks > 60) return;
        auto transaction = database_.begin().value_or_throw();
        CHECK_OK(transaction.put(key, batch_of({0})));
        auto committed = transaction.commit();
        if (!CHECK(!committed.ok() && committed.status() == Status::conflict)) continue;
        const auto conflicts = committed.error().conflicts();
        CHECK(conflicts.size() == 1 && conflicts[0].kind == khonsu::ConflictKind::prepared && conflicts[0].key == key);
        ++totals_.held;
      }
    }
  }

  Journal &journal_;
  Totals &totals_;
  khonsu::Database &database_;
  std::uint32_t round_, repeated_ = 0;
  std::map<std::string, khonsu::PreparedTransaction> listed_;
};

// ---- the process that kills ----

class Test {
 public:
  explicit Test(std::uint64_t seed) : seed_(seed), random_(seed), folder_(storage::new_folder("prepared-crash")) {
    *opening_time_ = microseconds(20000);
  }

  /// When something was wrong, what comes after it would prove nothing.
  bool round(const Round &round) {
    journal_->phase = Phase::starting;
    journal_->stop = false;
    journal_->failures = 0;
    const int status = run_and_kill(round);
    ++totals_->rounds;
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0) {
      return wrong(round, storage::failure_of(status));
    }
    if (journal_->failures != 0) return wrong(round, "the writer found something wrong");
    for (std::uint32_t kill = 0; kill < round.killed_recoveries; ++kill) kill_recovery();
    const auto begun = Clock::now();
    const std::string failure = storage::failure_of(storage::wait_for(storage::start([&] {
      auto database = storage::open(folder_ / "database");
      if (!CHECK_OK(database)) return;
      *opening_time_ = std::chrono::duration_cast<microseconds>(Clock::now() - begun);
      Judge(*journal_, *totals_, database.value(), round.number).judge();
      if (round.number % 2 == 0) static_cast<void>(database.value().release());
    })));
    return failure.empty() ? CHECK(true) : wrong(round, failure);
  }

  [[nodiscard]] bool has_room() const {
    return std::all_of(std::begin(journal_->counts), std::end(journal_->counts),
                       [](const auto &count) { return count < kMostAttempts - 2048; });
  }

  void finish() {
    const Totals &totals = *totals_;
    const auto number = [](const auto &total) { return static_cast<unsigned long long>(total); };
    std::printf(
        "seed %llu: %llu rounds, %llu decided, %llu times somebody in doubt, %llu found prepared, %llu found decided, "
        "%llu calls repeated, %llu held keys tried, %llu checkpoints\n",
        number(seed_), number(totals.rounds), number(totals.decided), number(totals.in_doubt),
        number(totals.found_prepared), number(totals.found_decided), number(totals.repeated), number(totals.held),
        number(journal_->checkpoints));
    if (totals.rounds >= 30) {
      CHECK(totals.decided > totals.rounds && totals.in_doubt > totals.rounds);
      CHECK(totals.found_prepared > 0 && totals.found_decided > 0 && totals.held > 0 && totals.repeated > 100);
    }
    if (check::failures == 0) fs::remove_all(folder_);
  }

 private:
  bool wrong(const Round &round, const std::string &what) {
    std::fprintf(stderr, "prepared_crash_test: seed %llu, round %u (%s): %s\nThe folder is kept: %s\n",
                 static_cast<unsigned long long>(seed_), round.number, round.to_string().c_str(), what.c_str(),
                 folder_.c_str());
    return CHECK(!"the round was right");
  }

  microseconds random_time(microseconds below) {
    return microseconds(random_() % static_cast<std::uint64_t>(below.count() + 1));
  }

  /// Waits until the child has come so far, unless it ends before.
  bool wait_until(pid_t child, int &status, Phase phase) {
    while (journal_->phase < phase) {
      if (waitpid(child, &status, WNOHANG) == child) return false;
      std::this_thread::sleep_for(microseconds(20));
    }
    return true;
  }

  int run_and_kill(const Round &round) {
    const pid_t child = storage::start([&] { Writer(round, *journal_, folder_ / "database").work(); });
    int status = 0;
    if (!wait_until(child, status, Phase::opening)) return status;
    if (round.end == kInOpen) {
      std::this_thread::sleep_for(random_time(*opening_time_ * 3 / 2));
    } else {
      if (!wait_until(child, status, Phase::running)) return status;
      std::this_thread::sleep_for(round.duration);
    }
    if (round.end == kInClose || round.end == kClosed) {
      journal_->stop = true;
      if (!wait_until(child, status, Phase::closing)) return status;
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

  std::uint64_t seed_;
  std::mt19937_64 random_;
  fs::path folder_;
  storage::Shared<Journal> journal_;
  storage::Shared<Totals> totals_;
  storage::Shared<microseconds> opening_time_;  // of the last recovery
};

}  // namespace

int main(int count, char **arguments) {
  const auto argument = [&](int number, std::uint64_t otherwise) {
    return count > number ? std::strtoull(arguments[number], nullptr, 10) : otherwise;
  };
  const std::uint64_t most_rounds = argument(1, 100);
  const auto most_time = std::chrono::seconds(argument(2, 25));
  const std::uint64_t seed = argument(3, 1);
  std::printf("prepared_crash_test: seed %llu\n", static_cast<unsigned long long>(seed));
  const auto begun = Clock::now();
  const auto is_time = [&] { return Clock::now() - begun < most_time && check::failures == 0; };
  std::uint32_t number = 1;
  // One database after the other.
  do {
    Test test(seed);
    for (; number <= most_rounds && is_time() && test.has_room(); ++number) test.round(Round(seed, number));
    test.finish();
  } while (number <= most_rounds && is_time());
  return check::finish("prepared_crash_test");
}
