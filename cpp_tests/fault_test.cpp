// Faults of the file system, one after the other: for each kind of call and each number n, the n-th such call of a
// fixed workload fails. Each commit must then either succeed, or say that storage failed and why, and leave memory as
// it was; reads go on; and when the database is opened again, what was acknowledged is there, and nothing that failed.
//
// fault_test [FAULT [N]]: only this fault, and only its n-th call. Without arguments: all.
#include <algorithm>
#include <array>
#include <cerrno>

#include "fault_shim.h"
#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;
using khonsu::Status;

// ---- the workload ----

enum class Kind { put, append, remove };

struct Change {
  Kind kind;
  const char *key;
  std::uint32_t rows;
};

enum class Do { commit, prepare, decide, decide_heuristically, forget, sync, checkpoint, backup, reopen };

struct Step {
  Do what;
  Durability durability = Durability::synced;
  std::vector<Change> changes{};
  /// Of a prepared transaction, and what is decided about it. What is committed is in changes once more.
  const char *id = nullptr;
  khonsu::Decision decision = khonsu::Decision::commit;
};

constexpr std::uint32_t kBlock = 30000;  // rows of a value that takes many pages

/// What the step of a decision changes.
Step commit_prepared(const char *id, std::vector<Change> changes) {
  return {Do::decide, Durability::synced, std::move(changes), id, khonsu::Decision::commit};
}
Step roll_back(const char *id) { return {Do::decide, Durability::buffered, {}, id, khonsu::Decision::rollback}; }

/// What each run does. Two values of so many rows take more than a segment of the log, or do not.
constexpr std::uint32_t kHalfSegment = 1200000;
constexpr std::uint32_t kSmall = 10000;

std::vector<Step> workload(std::uint32_t half) {
  return {
      {Do::commit, Durability::synced, {{Kind::put, "a", 1}, {Kind::put, "b", 2}}},
      {Do::commit, Durability::buffered, {{Kind::append, "list", 3}}},
      {Do::commit, Durability::none, {{Kind::put, "c", 1}}},
      {Do::commit, Durability::none, {{Kind::remove, "b", 0}}},
      {Do::commit, Durability::synced, {{Kind::put, "d", 1}, {Kind::put, "e", 1}, {Kind::append, "list", 1}}},
      {Do::commit, Durability::buffered, {{Kind::put, "block", kBlock}}},
      {Do::commit, Durability::synced, {{Kind::remove, "a", 0}, {Kind::append, "list", 2}}},
      {Do::commit, Durability::none, {{Kind::append, "list", 1}}},
      {Do::sync},
      {Do::prepare, Durability::synced, {{Kind::put, "p", 3}, {Kind::append, "entries", 1}}, "first"},
      {Do::commit, Durability::none, {{Kind::put, "f", 1}}},
      {Do::prepare, Durability::none, {{Kind::put, "q", kBlock}, {Kind::remove, "e", 0}}, "second"},
      {Do::checkpoint},
      commit_prepared("first", {{Kind::put, "p", 3}, {Kind::append, "entries", 1}}),
      {Do::commit, Durability::synced, {{Kind::append, "list", 1}, {Kind::remove, "d", 0}}},
      {Do::commit, Durability::synced, {{Kind::put, "half", half}}},
      {Do::commit, Durability::buffered, {{Kind::put, "half", half}, {Kind::append, "list", 1}}},
      {Do::commit, Durability::none, {{Kind::append, "block", kBlock}}},
      {Do::backup},
      {Do::prepare, Durability::buffered, {{Kind::put, "r", 1}}, "third"},
      {Do::checkpoint},
      roll_back("third"),
      {Do::commit, Durability::synced, {{Kind::remove, "half", 0}, {Kind::append, "list", 1}}},
      {Do::commit, Durability::none, {{Kind::put, "g", 1}}},
      {Do::reopen},
      {Do::commit, Durability::buffered, {{Kind::append, "list", 2}}},
      {Do::commit, Durability::none, {{Kind::put, "h", 1}}},
      {Do::decide_heuristically, Durability::synced, {{Kind::put, "q", kBlock}, {Kind::remove, "e", 0}}, "second"},
      {Do::checkpoint},
      {Do::forget, Durability::buffered, {}, "second"},
      {Do::commit, Durability::synced, {{Kind::put, "i", 1}}},
  };
}

/// The first row of what a step writes.
std::int64_t token_of(std::size_t step) { return 1000 + static_cast<std::int64_t>(step); }

/// What step `number` does to a state; of a prepared transaction, when step `number` was the one that prepared it.
void apply(const std::vector<Change> &changes, std::size_t number, storage::State &state) {
  for (const Change &change : changes) {
    if (change.kind != Kind::append) state.erase(change.key);
    if (change.kind != Kind::remove) storage::add_rows(state[change.key], token_of(number), change.rows);
  }
}

/// The states that a database has been in, and which of them may be there when it is opened again: the last one, or,
/// where the log has refused writes, those from the last on that promised more than durability none.
class States {
 public:
  [[nodiscard]] const storage::State &last() const { return states_.back(); }
  /// How many there are.
  [[nodiscard]] std::size_t size() const { return states_.size(); }

  void commit(const std::vector<Change> &changes, std::size_t number, Durability durability) {
    states_.push_back(last());
    apply(changes, number, states_.back());
    if (durability != Durability::none) promise();
  }
  /// What a step about a prepared transaction does. It promises to stay.
  void take(const Step &step, const std::vector<Step> &steps) {
    storage::State state = last();
    const std::string key = storage::listed_key(step.id);
    state.erase(key);
    const auto prepares = [&](const Step &one) {
      return one.what == Do::prepare && std::strcmp(one.id, step.id) == 0;
    };
    const auto prepared = std::find_if(steps.begin(), steps.end(), prepares);
    const auto number = static_cast<std::size_t>(prepared - steps.begin());
    if (step.what == Do::prepare) {
      state[key] = storage::in_doubt(step.changes.size());
    } else {
      apply(step.changes, number, state);
    }
    if (step.what == Do::decide_heuristically) {
      state[key] = storage::decided_heuristically(khonsu::PreparedState::heuristic_commit);
    }
    states_.push_back(std::move(state));
    promise();
  }
  /// All that was committed stays.
  void promise() { floor_ = states_.size() - 1; }
  /// Which of them was found; what is wrong with it otherwise.
  std::size_t find(const storage::State &found, std::string &mistake) const {
    for (std::size_t index = states_.size(); index-- > floor_;) {
      const std::string different = storage::difference(states_[index], found);
      if (different.empty()) return index;
      if (mistake.empty()) mistake = different;
    }
    return states_.size();
  }
  /// The database was opened again, and was in this one.
  void reopen(std::size_t index) {
    states_.resize(index + 1);
    promise();
  }

 private:
  std::vector<storage::State> states_{{}};
  std::size_t floor_ = 0;
};

/// What is tried after the last step.
const std::vector<Change> &last_change() {
  static const std::vector<Change> changes{{Kind::put, "last", 1}};
  return changes;
}

// ---- faults ----

struct Fault {
  const char *name;
  fault_call call;
  std::uint64_t count;  ///< of calls that fail, from the n-th on
  int error;
  bool partial;
  /// Truncating fails as well, so what a failed write has left cannot be taken back.
  bool no_truncate;
};

constexpr std::uint64_t kAll = UINT64_MAX;
constexpr std::array<Fault, 15> kFaults{{
    {"short-write", FAULT_WRITE, 1, 0, true, false},
    {"write", FAULT_WRITE, 1, EIO, false, false},
    {"full-for-a-moment", FAULT_WRITE, 2, ENOSPC, true, false},
    {"full", FAULT_WRITE, kAll, ENOSPC, true, false},
    {"fill", FAULT_FILL, 1, EIO, false, false},
    {"full-fill", FAULT_FILL, kAll, ENOSPC, true, false},
    {"write-and-truncate", FAULT_WRITE, 2, EIO, true, true},
    {"sync", FAULT_SYNC, 1, EIO, false, false},
    {"syncs", FAULT_SYNC, kAll, EIO, false, false},
    {"truncate", FAULT_TRUNCATE, 1, EIO, false, false},
    {"open", FAULT_OPEN, 1, EIO, false, false},
    {"read", FAULT_READ, 1, EIO, false, false},
    {"rename", FAULT_RENAME, 1, EIO, false, false},
    {"unlink", FAULT_UNLINK, 1, EIO, false, false},
    {"mkdir", FAULT_MKDIR, 1, EIO, false, false},
}};

/// Whether the database must take writes again once the fault is over.
bool goes_on(const Fault &fault) {
  return fault.call != FAULT_SYNC && fault.call != FAULT_TRUNCATE && !fault.no_truncate;
}

// ---- the process with faults ----

/// What it tells of its run.
struct Notes {
  bool done;
  std::uint64_t failed_calls;
  std::array<bool, 32> succeeded;
  std::size_t reopened;  ///< in which state

  void clear() { *this = Notes(); }
};

class Run {
 public:
  Run(const Fault &fault, std::uint64_t number, const std::vector<Step> &steps, bool rotates, Notes &notes,
      fs::path folder)
      : fault_(fault), steps_(steps), rotates_(rotates), notes_(notes), folder_(std::move(folder)) {
    fault_shim_watch(folder_.c_str());
    fault_shim_fail(fault.call, number, fault.count, fault.error, fault.partial);
  }

  void work() {
    open();
    if (fault_.no_truncate) fault_shim_fail(FAULT_TRUNCATE, 1, kAll, EIO, 0);
    for (std::size_t number = 0; number < steps_.size(); ++number) {
      notes_.succeeded[number] = step(number);
      // Memory is as it was, and reads go on.
      if (!notes_.succeeded[number]) expect_state();
    }
    expect_state();
    // The fault is over: the database takes writes, or has refused them before and goes on doing so.
    fault_shim_pass();
    auto last = commit(steps_.size(), Durability::synced, last_change());
    notes_.succeeded[steps_.size()] = last.ok();
    if (goes_on(fault_)) CHECK_OK(last);
    if (refuses_) CHECK(!last.ok());
    if (!last.ok()) expect_storage(last.error());
    notes_.failed_calls = fault_shim_failed(fault_.call);
    database_ = khonsu::Database();
    notes_.done = check::failures == 0;
  }

 private:
  void expect_state() const {
    const std::string different = storage::difference(states_.last(), storage::state_of(database_));
    if (!CHECK(different.empty())) std::fprintf(stderr, "  %s\n", different.c_str());
  }

  /// The cause is named: that of the call that failed, or of the one before since which all are refused.
  void expect_storage(const khonsu::Error &error) const {
    const std::string message(error.message());
    const bool named = message.find(std::strerror(fault_.error)) != std::string::npos ||
                       (fault_.no_truncate && message.find(std::strerror(EIO)) != std::string::npos);
    if (!CHECK(error.status() == Status::storage && named)) {
      std::fprintf(stderr, "  it is: %s\n", error.to_string().c_str());
    }
  }

  void open() {
    auto opened = storage::open(folder_ / "database");
    if (!opened.ok()) {
      expect_storage(opened.error());
      // Nothing is locked, and nothing in the way, once the fault is over.
      fault_shim_pass();
      opened = storage::open(folder_ / "database");
    }
    if (!CHECK_OK(opened)) _exit(1);
    database_ = std::move(opened).value();
  }

  khonsu::Result<void> commit(std::size_t number, Durability durability, const std::vector<Change> &changes,
                              const char *id = nullptr) {
    auto begun = database_.begin(std::move(khonsu::TransactionOptions().durability(durability)));
    if (!CHECK_OK(begun)) return std::move(begun).error();
    khonsu::Transaction transaction = std::move(begun).value();
    for (const Change &change : changes) {
      Values rows;
      storage::add_rows(rows, token_of(number), change.rows);
      switch (change.kind) {
        case Kind::put: CHECK_OK(transaction.put(change.key, storage::batch_of_rows(rows))); break;
        case Kind::append: CHECK_OK(transaction.append(change.key, storage::batch_of_rows(rows))); break;
        case Kind::remove: CHECK_OK(transaction.remove(change.key)); break;
      }
    }
    return id == nullptr ? transaction.commit() : storage::prepare(transaction, id);
  }

  bool step(std::size_t number) {
    const Step &step = steps_[number];
    khonsu::Result<void> result;
    switch (step.what) {
      case Do::commit:
        result = commit(number, step.durability, step.changes);
        if (result.ok()) states_.commit(step.changes, number, step.durability);
        break;
      case Do::prepare:
      case Do::decide:
      case Do::decide_heuristically:
      case Do::forget:
        result = step.what == Do::prepare ? commit(number, step.durability, step.changes, step.id)
                 : step.what == Do::forget
                     ? database_.forget(step.id)
                     : storage::decide(database_, step.id, step.decision, step.what == Do::decide_heuristically);
        // What could not be prepared cannot be decided, and what was not decided cannot be forgotten.
        if (step.what != Do::prepare && !knows(step)) {
          const bool expected = result.ok() ? step.what == Do::forget
                                            : result.status() == Status::not_found ||
                                                  result.status() == Status::invalid_state;
          CHECK(expected);
          return false;
        }
        if (result.ok()) states_.take(step, steps_);
        break;
      case Do::sync: result = database_.sync(); break;
      case Do::checkpoint: result = database_.checkpoint(); break;
      case Do::backup: result = database_.backup((folder_ / "backup").string()); break;
      case Do::reopen: {
        database_ = khonsu::Database();
        open();
        std::string mistake;
        notes_.reopened = states_.find(storage::state_of(database_), mistake);
        const bool is_last = notes_.reopened + 1 == states_.size();
        if (!CHECK(is_last || (may_have_lost() && notes_.reopened < states_.size()))) {
          std::fprintf(stderr, "  opened again, %s\n", mistake.c_str());
          _exit(1);
        }
        states_.reopen(notes_.reopened);
        refuses_ = false;
        return true;
      }
    }
    // A sync that succeeds after one that failed says nothing of what was written before, so there is none. Where a
    // segment is made, its own sync may be what failed.
    if (refuses_ && step.what != Do::backup) CHECK(!result.ok());
    if (!result.ok() && fault_.call == FAULT_SYNC && !rotates_) {
      refuses_ = refuses_ || step.what == Do::commit || step.what == Do::sync || step.what == Do::prepare ||
                 step.what == Do::decide || step.what == Do::decide_heuristically;
    }
    if (!result.ok()) {
      expect_storage(result.error());
    } else if (step.what != Do::commit && step.what != Do::backup) {
      states_.promise();
    }
    return result.ok();
  }

  /// Whether the transaction is listed as it has to be before a step.
  [[nodiscard]] bool knows(const Step &step) const {
    const auto listed = states_.last().find(storage::listed_key(step.id));
    if (listed == states_.last().end()) return false;
    const bool is_decided = listed->second.size() == 1;
    return (step.what == Do::forget) == is_decided;
  }

  /// What durability none promises nothing for may be gone once something has failed.
  [[nodiscard]] bool may_have_lost() const { return fault_shim_failed(fault_.call) > 0 || fault_.no_truncate; }

  const Fault &fault_;
  const std::vector<Step> &steps_;
  bool rotates_;  // the log goes on in another segment
  Notes &notes_;
  fs::path folder_;
  khonsu::Database database_;
  States states_;
  bool refuses_ = false;  // since a sync has failed
};

// ---- the process that judges ----

class Test {
 public:
  explicit Test(bool rotates)
      : rotates_(rotates), steps_(workload(rotates ? kHalfSegment : kSmall)), folder_(storage::new_folder("fault")) {}
  ~Test() {
    if (check::failures == 0) fs::remove_all(folder_);
  }
  Test(const Test &) = delete;
  Test &operator=(const Test &) = delete;

  /// One run; false when it had no n-th call.
  bool run(const Fault &fault, std::uint64_t number) {
    const fs::path folder = folder_ / (std::string(fault.name) + "-" + std::to_string(number));
    fs::create_directory(folder);
    notes_->clear();
    const std::string failure = storage::failure_of(
        storage::wait_for(storage::start([&] { Run(fault, number, steps_, rotates_, *notes_, folder).work(); })));
    std::string mistake = failure;
    if (mistake.empty() && !notes_->done) mistake = "the workload did not come to its end";
    if (mistake.empty()) mistake = judge(fault, folder);
    if (!mistake.empty()) {
      std::fprintf(stderr, "fault_test %s %llu: %s (kept: %s)\n", fault.name, static_cast<unsigned long long>(number),
                   mistake.c_str(), folder.c_str());
      CHECK(!"the run was right");
    } else {
      CHECK(true);
      fs::remove_all(folder);
    }
    return notes_->failed_calls > 0 || !mistake.empty();
  }

 private:
  void open(const fs::path &folder) {
    report_->clear();
    const std::string failure = storage::failure_of(storage::wait_for(storage::start([&] { report_->open(folder); })));
    CHECK(failure.empty());
  }

  std::string judge(const Fault &fault, const fs::path &folder) {
    States states;
    storage::State backed_up;
    for (std::size_t number = 0; number < steps_.size(); ++number) {
      const Step &step = steps_[number];
      if (step.what == Do::backup) {
        backed_up = states.last();
        for (const Step &other : steps_) {
          if (other.id != nullptr) backed_up.erase(storage::listed_key(other.id));
        }
      }
      if (!notes_->succeeded[number]) continue;
      switch (step.what) {
        case Do::commit: states.commit(step.changes, number, step.durability); break;
        case Do::prepare:
        case Do::decide:
        case Do::decide_heuristically:
        case Do::forget: states.take(step, steps_); break;
        case Do::sync:
        case Do::checkpoint: states.promise(); break;
        case Do::backup: break;
        case Do::reopen: states.reopen(notes_->reopened); break;
      }
    }
    if (notes_->succeeded[steps_.size()]) states.commit(last_change(), steps_.size(), Durability::synced);
    open(folder / "database");
    if (!report_->ok()) return "not opened again: " + report_->to_string();
    std::string mistake;
    return states.find(report_->state(), mistake) < states.size() ? judge_backup(fault, folder, backed_up) : mistake;
  }

  /// A backup that succeeded has everything; one that failed is not taken for one, unless it is whole.
  std::string judge_backup(const Fault &fault, const fs::path &folder, const storage::State &expected) {
    const auto step =
        std::find_if(steps_.begin(), steps_.end(), [](const Step &one) { return one.what == Do::backup; });
    const bool succeeded = notes_->succeeded[static_cast<std::size_t>(step - steps_.begin())];
    const fs::path backup = folder / "backup";
    if (!fs::exists(backup) || fs::is_empty(backup)) return succeeded ? "there is no backup" : "";
    open(backup);
    if (!report_->ok()) return succeeded ? "the backup is not opened: " + report_->to_string() : "";
    const std::string different = storage::difference(expected, report_->state());
    return different.empty() ? "" : std::string("the backup under ") + fault.name + ": " + different;
  }

  bool rotates_;
  std::vector<Step> steps_;
  fs::path folder_;
  storage::Shared<Notes> notes_;
  storage::Shared<storage::Report> report_;
};

}  // namespace

int main(int count, char **arguments) {
  const std::string only = count > 1 ? arguments[1] : "";
  for (const bool rotates : {false, true}) {
    Test test(rotates);
    for (const Fault &fault : kFaults) {
      if (!only.empty() && only != fault.name) continue;
      if (count > 2) {
        test.run(fault, std::strtoull(arguments[2], nullptr, 10));
        continue;
      }
      // Every call, but for those that fill files, which are many and alike; every other one where another fault has all
      // of its kind; with a large workload, some.
      const bool is_variant = (fault.call == FAULT_WRITE || fault.call == FAULT_SYNC) && !fault.no_truncate &&
                              (fault.partial || fault.count > 1);
      const std::uint64_t stride = fault.call == FAULT_FILL ? 37 : rotates ? 8 : is_variant ? 2 : 1;
      std::uint64_t number = 1, runs = 1;
      for (; test.run(fault, number) && check::failures < 20; ++runs) number += stride;
      std::printf("%-20s %s, up to call %llu, %llu runs\n", fault.name, rotates ? "large" : "small",
                  static_cast<unsigned long long>(number), static_cast<unsigned long long>(runs));
    }
  }
  return check::finish("fault_test");
}
