// The two interfaces between the harness and those that it compares.
#ifndef KHONSU_BENCHES_PEER_HPP
#define KHONSU_BENCHES_PEER_HPP

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data.hpp"

namespace bench {

/// One thread's way into a peer. Each call runs one transaction to its commit and gives the number of attempts that
/// were aborted on the way. A transaction that writes nothing is begun as a read-only one by every peer.
class Session {
 public:
  virtual ~Session() = default;
  virtual std::uint64_t read(const Key *keys, std::size_t count) = 0;
  /// `kScanKeys` keys from `start` on.
  virtual std::uint64_t scan(const Key &start) = 0;
  /// Blind.
  virtual std::uint64_t put(const Key *keys, std::size_t count) = 0;
  virtual std::uint64_t remove(const Key *keys, std::size_t count) = 0;
  /// Adds one to the counter of each.
  virtual std::uint64_t increment(const Key *keys, std::size_t count) = 0;
  /// `kOperations` operations: a blind put where `writes` says so, else a read.
  virtual std::uint64_t mixed(const Key *keys, const unsigned char *writes) = 0;
  virtual std::uint64_t empty(bool read_only) = 0;
  /// Puts the rows of `count` keys from `first` on, with their counters 0.
  virtual void load(std::uint64_t first, std::uint64_t count) = 0;
  /// The sum of the counters of `count` keys from `first` on.
  virtual std::int64_t sum_counters(std::uint64_t first, std::uint64_t count) = 0;
};

class Peer {
 public:
  virtual ~Peer() = default;
  /// With what sets it apart: version, isolation, settings.
  virtual std::string description() const = 0;
  /// Whether it keeps its keys in order.
  virtual bool can_scan() const { return true; }
  virtual std::unique_ptr<Session> session() = 0;
  /// Waits for background work, so that it is not charged to the peer that runs next.
  virtual void settle() {}
};

/// How a peer is made.
struct Maker {
  std::string name;
  /// The argument is an empty directory for its files.
  std::function<std::unique_ptr<Peer>(const std::string &)> make;
  /// Whether mallinfo tells its memory; LMDB keeps its data in mapped pages.
  bool mallocs = true;
  /// Floors have no transactions: what they lose is no fault of theirs.
  bool transactional = true;
  /// Those of the workloads, MIX and the latencies that it runs, by their names in --only; empty: all.
  std::vector<std::string> only = {};

  bool takes(const std::string &name) const {
    return only.empty() || std::find(only.begin(), only.end(), name) != only.end();
  }
};

Maker khonsu_maker();
/// The same, each key by a call of its own.
Maker khonsu_get_each_maker();
Maker unordered_map_maker();
Maker ordered_map_maker();
Maker lmdb_maker();
Maker rocksdb_maker();
Maker sqlite_maker();
/// Those of a library that speaks rust_peers.h.
std::vector<Maker> load_rust_makers(const std::string &library);

constexpr std::uint64_t kLoadTogether = 1000;

inline void load_peer(Peer &peer, std::uint64_t count) {
  const std::unique_ptr<Session> session = peer.session();
  for (std::uint64_t first = 0; first < count; first += kLoadTogether) {
    session->load(first, std::min(kLoadTogether, count - first));
  }
  peer.settle();
}

/// What the transactions of the workloads have in common. `Transactions` is one peer's:
///   begin(bool read_only), get(key) -> Row, set(key, row), remove(key), scan(start) -> double, commit() -> bool,
///   sum(keys, count) -> double, which reads them, and increment(keys, count),
/// where a commit that gives false was aborted and is run again, at once.
template <typename Transactions>
class SessionOf final : public Session {
 public:
  template <typename... Arguments>
  explicit SessionOf(Arguments &&...arguments) : transactions_(std::forward<Arguments>(arguments)...) {}

  std::uint64_t read(const Key *keys, std::size_t count) override {
    return run(true, [&] { sink_ = transactions_.sum(keys, count); });
  }

  std::uint64_t scan(const Key &start) override {
    return run(true, [&] { sink_ = transactions_.scan(start); });
  }

  std::uint64_t put(const Key *keys, std::size_t count) override {
    return run(false, [&] {
      for (std::size_t i = 0; i < count; ++i) transactions_.set(keys[i], next_row());
    });
  }

  std::uint64_t remove(const Key *keys, std::size_t count) override {
    return run(false, [&] {
      for (std::size_t i = 0; i < count; ++i) transactions_.remove(keys[i]);
    });
  }

  std::uint64_t increment(const Key *keys, std::size_t count) override {
    return run(false, [&] { transactions_.increment(keys, count); });
  }

  std::uint64_t mixed(const Key *keys, const unsigned char *writes) override {
    const bool read_only = std::find(writes, writes + kOperations, 1) == writes + kOperations;
    return run(read_only, [&] {
      double sum = 0;
      for (std::size_t i = 0; i < kOperations; ++i) {
        if (writes[i] != 0) {
          transactions_.set(keys[i], next_row());
        } else {
          sum += transactions_.get(keys[i]).sum();
        }
      }
      sink_ = sum;
    });
  }

  std::uint64_t empty(bool read_only) override {
    return run(read_only, [] {});
  }

  void load(std::uint64_t first, std::uint64_t count) override {
    run(false, [&] {
      for (std::uint64_t id = first; id < first + count; ++id) {
        transactions_.set(make_key(id), make_row(static_cast<std::int64_t>(id), 0));
      }
    });
  }

  std::int64_t sum_counters(std::uint64_t first, std::uint64_t count) override {
    std::int64_t sum = 0;
    run(true, [&] {
      sum = 0;
      for (std::uint64_t id = first; id < first + count; ++id) sum += transactions_.get(make_key(id)).counter;
    });
    return sum;
  }

 private:
  template <typename Body>
  std::uint64_t run(bool read_only, Body body) {
    for (std::uint64_t aborts = 0;; ++aborts) {
      transactions_.begin(read_only);
      body();
      if (transactions_.commit()) return aborts;
    }
  }

  /// Each written row differs from the last.
  Row next_row() { return make_row(++next_id_, 0); }

  Transactions transactions_;
  std::int64_t next_id_ = 0;
  volatile double sink_ = 0;  // what was read goes here, so that no read can be optimised away
};

/// `sum` and `increment` for those that have nothing better: one key after the other, a get and then a set.
template <typename Transactions>
class GetThenSet {
 public:
  double sum(const Key *keys, std::size_t count) {
    double sum = 0;
    for (const Key *key = keys; key != keys + count; ++key) sum += transactions().get(*key).sum();
    return sum;
  }

  void increment(const Key *keys, std::size_t count) {
    for (const Key *key = keys; key != keys + count; ++key) {
      const Row row = transactions().get(*key);
      transactions().set(*key, make_row(row.id, row.counter + 1));
    }
  }

 private:
  Transactions &transactions() { return static_cast<Transactions &>(*this); }
};

}  // namespace bench

#endif
