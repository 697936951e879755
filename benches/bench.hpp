// What the harness and the peers share: keys, the row that every peer stores, and the two interfaces.
#ifndef KHONSU_BENCHES_BENCH_HPP
#define KHONSU_BENCHES_BENCH_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

constexpr std::size_t kKeyBytes = 16;
constexpr std::size_t kOperations = 10;  // of R10, RMW10, A and B
constexpr std::size_t kScanKeys = 100;

/// `user%012d`.
struct Key {
  char bytes[kKeyBytes];

  std::string_view view() const { return {bytes, kKeyBytes}; }
};

inline Key make_key(std::uint64_t id) {
  Key key;
  std::memcpy(key.bytes, "user", 4);
  for (std::size_t digit = kKeyBytes; digit-- > 4; id /= 10) {
    key.bytes[digit] = static_cast<char>('0' + id % 10);
  }
  return key;
}

/// The four columns. khonsu keeps them as one Arrow batch of one row, the peers inside a value of 100 bytes.
struct Row {
  std::int64_t id;
  std::int64_t counter;
  double price;
  double amount;

  double sum() const { return static_cast<double>(id + counter) + price + amount; }
};

struct Value {
  Row row;
  char payload[68];
};
constexpr std::size_t kValueBytes = 100;
static_assert(offsetof(Value, payload) + sizeof(Value::payload) == kValueBytes, "a peer's value has 100 bytes");

inline Row make_row(std::int64_t id, std::int64_t counter) {
  return {id, counter, static_cast<double>(id) * 0.25, static_cast<double>(counter) * 0.5};
}

inline Value make_value(const Row &row) {
  Value value;
  value.row = row;
  std::memset(value.payload, static_cast<int>('a' + row.id % 26), sizeof(value.payload));
  return value;
}

/// Reads the row out of a peer's bytes, which need not be aligned.
inline Row row_of(const void *bytes) {
  Row row;
  std::memcpy(&row, bytes, sizeof(row));
  return row;
}

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "khonsu_bench: %s\n", what.c_str());
  std::exit(1);
}

/// One thread's way into a peer. Each call runs one transaction to its commit and gives the number of attempts
/// that were aborted on the way. A transaction that writes nothing is begun as a read-only one by every peer.
class Session {
 public:
  virtual ~Session() = default;
  virtual std::uint64_t read(const Key *keys, std::size_t count) = 0;
  virtual std::uint64_t scan(const Key &start) = 0;
  virtual std::uint64_t put(const Key &key) = 0;
  virtual std::uint64_t read_modify_write(const Key *keys, std::size_t count) = 0;
  /// `kOperations` operations: a blind put where `writes` says so, else a read.
  virtual std::uint64_t mixed(const Key *keys, const unsigned char *writes) = 0;
  virtual std::uint64_t empty(bool read_only) = 0;

  /// What was read goes here, so that no read can be optimised away.
  double sink = 0;

 protected:
  static bool writes_any(const unsigned char *writes) {
    for (std::size_t i = 0; i < kOperations; ++i) {
      if (writes[i] != 0) return true;
    }
    return false;
  }

  std::int64_t next_id_ = 0;  // makes each written row differ from the last
};

class Peer {
 public:
  virtual ~Peer() = default;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
  /// Whether the peer keeps its keys in order.
  virtual bool can_scan() const { return true; }
  /// Loads keys 0..count, each with counter 0.
  virtual void load(std::uint64_t count) = 0;
  virtual std::unique_ptr<Session> session() = 0;
  /// The sum of all counters: each read-modify-write adds one, so a lost update shows.
  virtual std::int64_t sum_counters() = 0;
  /// Waits for background work, so that it is not charged to the peer that runs next.
  virtual void settle() {}
};

std::unique_ptr<Peer> make_khonsu();
std::unique_ptr<Peer> make_shared_mutex_map();
std::unique_ptr<Peer> make_lmdb(const std::string &directory);
std::unique_ptr<Peer> make_rocksdb(const std::string &directory);

/// One line of report.json.
struct Measurement {
  std::string workload;
  unsigned threads;
  std::string peer;
  std::vector<double> samples;  // one per round
  std::string unit;

  double median() const;
  double minimum() const;
  double maximum() const;
};

struct ReportHeader {
  std::string command;
  std::string date;
  double seconds;
  unsigned rounds;
  std::uint64_t keys;
  std::vector<std::string> versions;
};

/// The rows that have no peer: calls across the boundary, growth, memory.
std::vector<Measurement> measure_boundary(unsigned rounds, double seconds);
std::vector<Measurement> measure_growth_and_memory(unsigned rounds, double seconds, const std::string &directory);

void write_reports(const std::string &directory, const ReportHeader &header,
                   const std::vector<Measurement> &measurements);

}  // namespace bench

#endif
