// What the tests of durable storage share: databases that are opened by processes of their own, which may die, and
// memory in which they tell what they did and found.
#ifndef KHONSU_STORAGE_TESTING_HPP
#define KHONSU_STORAGE_TESTING_HPP

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"

namespace storage {

namespace fs = std::filesystem;

/// What is stored under each key: the rows of one int64 column.
using State = std::map<std::string, Values>;

/// The rows of a value of which one knows the first and how many there are.
inline void add_rows(Values &rows, std::int64_t first, std::uint32_t count) {
  for (std::uint64_t row = 0; row < count; ++row) {
    rows.push_back(static_cast<std::int64_t>(static_cast<std::uint64_t>(first) + row * 0x9E3779B97F4A7C15U));
  }
}

inline khonsu::Batch batch_of_rows(const Values &rows) {
  khonsu::Batch batch;
  arrow_testing_int64_batch(batch.array.out(), batch.schema.out(), "value", rows.data(),
                            static_cast<std::int64_t>(rows.size()));
  return batch;
}

// ---- prepared transactions ----

/// Prepares, which must not be voted read-only.
inline khonsu::Result<void> prepare(khonsu::Transaction &transaction, const std::string &id) {
  auto vote = transaction.prepare(id);
  if (!vote.ok()) return std::move(vote).error();
  CHECK(vote.value() == khonsu::Vote::yes);
  return {};
}

/// Commits or rolls back, as the coordinator or an operator; fails with not_found where the id is not known.
inline khonsu::Result<void> decide(const khonsu::Database &database, const std::string &id, khonsu::Decision decision,
                                   bool heuristic = false) {
  const auto known = [](auto result, auto &&is_known) -> khonsu::Result<void> {
    if (!result.ok()) return std::move(result).error();
    if (!is_known(result.value())) return khonsu::Error(khonsu::Status::not_found);
    return {};
  };
  const auto itself = [](bool value) { return value; };
  if (heuristic) return known(database.decide_heuristically(id, decision), itself);
  if (decision == khonsu::Decision::rollback) return known(database.rollback_prepared(id), itself);
  return known(database.commit_prepared(id), [](const auto &version) { return version.has_value(); });
}

/// By id.
inline std::map<std::string, khonsu::PreparedTransaction> recover(const khonsu::Database &database) {
  std::map<std::string, khonsu::PreparedTransaction> listed;
  auto recovered = database.recover();
  if (!CHECK_OK(recovered)) return listed;
  for (khonsu::PreparedTransaction &one : recovered.value()) {
    const std::string id = one.global_id;
    CHECK(listed.emplace(id, std::move(one)).second);
  }
  return listed;
}

/// The key by which a State has a listed transaction.
inline std::string listed_key(const std::string &id) { return "listed: " + id; }

/// How it has one in doubt, and one that was decided heuristically.
inline Values in_doubt(std::size_t written_keys) {
  return {static_cast<std::int64_t>(khonsu::PreparedState::prepared), static_cast<std::int64_t>(written_keys)};
}
inline Values decided_heuristically(khonsu::PreparedState listed_state) {
  return {static_cast<std::int64_t>(listed_state)};
}

/// Everything, by one scan of one snapshot, and the prepared transactions.
inline State state_of(const khonsu::Database &database) {
  State state;
  for (const auto &[id, listed] : recover(database)) {
    const bool is_in_doubt = listed.state == khonsu::PreparedState::prepared;
    state[listed_key(id)] = is_in_doubt ? in_doubt(listed.keys.size()) : decided_heuristically(listed.state);
  }
  auto transaction = database.begin(std::move(khonsu::TransactionOptions().read_only()));
  if (!CHECK_OK(transaction)) return state;
  auto cursor = transaction.value().scan();
  if (!CHECK_OK(cursor)) return state;
  CHECK_OK(cursor.value().for_each(
      [&](std::string_view key, khonsu::Batch batch) { state[std::string(key)] = values_of(batch.array); }));
  return state;
}

inline khonsu::Result<khonsu::Database> open(const fs::path &folder,
                                             khonsu::Durability durability = khonsu::Durability::synced,
                                             std::uint64_t memory_budget = 0) {
  return khonsu::Database::open(
      khonsu::Options().path(folder.string()).durability(durability).memory_budget(memory_budget));
}

/// A folder of the test's own below the one that it runs in, whose file system is the one of the build.
inline fs::path new_folder(const std::string &name) {
  std::string pattern = (fs::current_path() / (name + "-XXXXXX")).string();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::perror(pattern.c_str());
    std::exit(1);
  }
  return pattern;
}

// ---- processes ----

/// Runs body in a process of its own, whose exit status is 0 when no check failed in it. It does not survive this one,
/// and an alarm ends it when it hangs.
template <typename Body>
pid_t start(Body &&body, unsigned seconds = 60) {
  std::fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    std::perror("fork");
    std::exit(1);
  }
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  alarm(seconds);
  check::failures = 0;
  body();
  std::fflush(nullptr);
  _exit(check::failures == 0 ? 0 : 1);
}

/// How a process ended, in words; empty when all its checks passed.
inline std::string failure_of(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0 ? "" : "a check failed in the child";
  if (WTERMSIG(status) == SIGALRM) return "the child hangs";
  return "the child died of signal " + std::to_string(WTERMSIG(status));
}

inline int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return status;
}

template <typename Body>
bool run(Body &&body) {
  const std::string failure = failure_of(wait_for(start(body)));
  if (!failure.empty()) std::fprintf(stderr, "%s\n", failure.c_str());
  return CHECK(failure.empty());
}

/// A T that this process shares with the children that it starts, and that survives them.
template <typename T>
class Shared {
 public:
  Shared()
      : object_(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (object_ == MAP_FAILED) {
      std::perror("mmap");
      std::exit(1);
    }
    new (object_) T;
  }
  ~Shared() { munmap(object_, sizeof(T)); }
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;

  T *operator->() const { return static_cast<T *>(object_); }
  T &operator*() const { return *static_cast<T *>(object_); }

 private:
  void *object_;
};

/// What a process found when it opened a database: its state, or why there was none.
class Report {
 public:
  void clear() { complete_ = false; }

  void opened(const khonsu::Database &database) {
    status_ = khonsu::Status::ok;
    message_[0] = '\0';
    auto stats = database.stats();
    version_ = CHECK_OK(stats) ? stats.value().version : 0;
    used_ = 0;
    for (const auto &[key, rows] : state_of(database)) {
      add(key.size());
      add_bytes(key.data(), key.size());
      add(rows.size());
      add_bytes(rows.data(), rows.size() * sizeof(rows[0]));
    }
    complete_ = check::failures == 0;
  }
  void refused(const khonsu::Error &error) {
    status_ = error.status();
    const std::string message(error.message());
    std::strncpy(message_, message.c_str(), sizeof(message_) - 1);
    complete_ = true;
  }
  /// Opens the database and tells what is in it.
  void open(const fs::path &folder) {
    auto database = storage::open(folder);
    if (database.ok()) {
      opened(database.value());
    } else {
      refused(database.error());
    }
  }

  [[nodiscard]] bool complete() const { return complete_; }
  [[nodiscard]] khonsu::Status status() const { return status_; }
  [[nodiscard]] bool ok() const { return complete_ && status_ == khonsu::Status::ok; }
  [[nodiscard]] std::string message() const { return message_; }
  [[nodiscard]] std::string to_string() const {
    if (!complete_) return "nothing was reported";
    return std::string(khonsu::status_name(status_)) + (message_[0] == '\0' ? "" : ": ") + message_;
  }
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] State state() const {
    State state;
    for (std::size_t at = 0; at < used_;) {
      const std::uint64_t key_bytes = take(at);
      std::string key(bytes_ + at, key_bytes);
      at += key_bytes;
      Values rows(take(at));
      std::memcpy(rows.data(), bytes_ + at, rows.size() * sizeof(rows[0]));
      at += rows.size() * sizeof(rows[0]);
      state.emplace(std::move(key), std::move(rows));
    }
    return state;
  }

 private:
  void add(std::uint64_t number) { add_bytes(&number, sizeof(number)); }
  void add_bytes(const void *data, std::size_t size) {
    if (!CHECK(size <= sizeof(bytes_) - used_)) return;
    if (size != 0) std::memcpy(bytes_ + used_, data, size);
    used_ += size;
  }
  std::uint64_t take(std::size_t &at) const {
    std::uint64_t number = 0;
    std::memcpy(&number, bytes_ + at, sizeof(number));
    at += sizeof(number);
    return number;
  }

  std::atomic<bool> complete_{false};
  khonsu::Status status_ = khonsu::Status::ok;
  char message_[2048] = {};
  std::uint64_t version_ = 0;
  std::size_t used_ = 0;
  char bytes_[256 << 20];  // memory only where it is used
};

/// How two states differ, in words: the first key in which they do; empty when they do not.
inline std::string difference(const State &expected, const State &found) {
  for (const auto &[key, rows] : expected) {
    const auto other = found.find(key);
    if (other == found.end()) return key + " is missing";
    if (other->second == rows) continue;
    const auto at = std::mismatch(rows.begin(), rows.end(), other->second.begin(), other->second.end());
    const auto row = at.first - rows.begin();
    return key + " has " + std::to_string(other->second.size()) + " rows instead of " + std::to_string(rows.size()) +
           ", and row " + std::to_string(row) + " is " +
           (at.second == other->second.end() ? "missing" : std::to_string(*at.second)) + " instead of " +
           (at.first == rows.end() ? "missing" : std::to_string(*at.first));
  }
  for (const auto &entry : found) {
    if (expected.count(entry.first) == 0) return entry.first + " should not be there";
  }
  return "";
}

}  // namespace storage

#endif  // KHONSU_STORAGE_TESTING_HPP
