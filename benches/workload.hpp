// The workloads: what a transaction does, and to which keys.
#ifndef KHONSU_BENCHES_WORKLOAD_HPP
#define KHONSU_BENCHES_WORKLOAD_HPP

#include <map>
#include <tuple>
#include <vector>

#include "peer.hpp"

namespace bench {

constexpr std::uint64_t kKeys = 100'000;
constexpr double kZipfTheta = 0.99;

enum class Work { kRead, kScan, kPut, kIncrement, kMixed, kEmpty, kEmptyReadOnly };

enum class KeyChoice {
  kZipf,
  kDisjoint,  // each thread has its own slice, in which all keys are alike
  kHot,       // one key
};

struct Workload {
  const char *name;
  Work work;
  std::size_t operations;
  KeyChoice keys = KeyChoice::kZipf;
  double write_share = 0;
  /// Run again when the peers are aged.
  bool aged = false;
  /// How it scales is shown up to all cores.
  bool scaling = false;
  /// How often attempts are aborted is shown.
  bool conflicts = false;
};

constexpr Workload kWorkloads[] = {
    {"R10", Work::kRead, kOperations, KeyChoice::kZipf, 0, true},
    {"SCAN", Work::kScan, 1, KeyChoice::kZipf, 0, true},
    {"W1", Work::kPut, 1, KeyChoice::kZipf, 1, true},
    {"A", Work::kMixed, kOperations, KeyChoice::kZipf, 0.5, true, true, true},
    {"B", Work::kMixed, kOperations, KeyChoice::kZipf, 0.05, true, true, true},
    {"EMPTY", Work::kEmpty, 0},
    {"EMPTY read-only", Work::kEmptyReadOnly, 0},
    // Increments come last, as no blind put must come between them and their check.
    {"RMW1", Work::kIncrement, 1, KeyChoice::kZipf, 1, true},
    {"RMW10", Work::kIncrement, kOperations, KeyChoice::kZipf, 1, true, false, true},
    {"RMW10 disjoint", Work::kIncrement, kOperations, KeyChoice::kDisjoint, 1, false, true, true},
    {"RMW1 hot", Work::kIncrement, 1, KeyChoice::kHot, 1, false, true, true},
};

/// The keys of one thread, drawn before the clock starts and read in order while it runs.
class Feed {
 public:
  Feed(std::vector<Key> keys, std::vector<unsigned char> writes) : keys_(std::move(keys)), writes_(std::move(writes)) {}

  /// The next `count` positions, wrapping around.
  std::size_t take(std::size_t count) {
    if (position_ + count > keys_.size()) position_ = 0;
    const std::size_t taken = position_;
    position_ += count;
    return taken;
  }
  const Key *keys(std::size_t position) const { return &keys_[position]; }
  const unsigned char *writes(std::size_t position) const { return &writes_[position]; }

 private:
  std::vector<Key> keys_;
  std::vector<unsigned char> writes_;
  std::size_t position_ = 0;
};

/// All feeds; those that would be alike are the same one.
class Feeds {
 public:
  Feeds();
  Feed &of(const Workload &workload, unsigned thread, unsigned threads);

 private:
  std::uint64_t zipf(double point) const;

  std::vector<double> cumulated_;         // weights of the ranks
  std::vector<std::uint64_t> scattered_;  // the key of each rank
  std::map<std::tuple<KeyChoice, bool, double, unsigned, unsigned>, Feed> feeds_;
};

/// One transaction. Gives the attempts that were aborted.
inline std::uint64_t run_transaction(Session &session, Feed &feed, const Workload &workload) {
  const std::size_t position = feed.take(workload.operations);
  const Key *keys = feed.keys(position);
  switch (workload.work) {
    case Work::kRead:
      return session.read(keys, workload.operations);
    case Work::kScan:
      return session.scan(*keys);
    case Work::kPut:
      return session.put(keys, workload.operations);
    case Work::kIncrement:
      return session.increment(keys, workload.operations);
    case Work::kMixed:
      return session.mixed(keys, feed.writes(position));
    case Work::kEmpty:
      return session.empty(false);
    case Work::kEmptyReadOnly:
      return session.empty(true);
  }
  fail("unknown work");
}

}  // namespace bench

#endif
