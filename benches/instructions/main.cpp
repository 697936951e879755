// What callgrind counts: khonsu's calls through the C ABI, one kind of call a dump. Outside of valgrind it does nothing
// of use. tools/instructions builds it, runs it and reads the dumps.
#include <valgrind/callgrind.h>

#include <vector>

#include "../khonsu_calls.hpp"

namespace bench {
namespace {

constexpr std::uint64_t kKeys = 10'000;
constexpr int kRounds = 100;

/// Calls of one kind: what is run between `start` and `stop` is counted, and the rest is not.
class Count {
 public:
  static void start() { CALLGRIND_TOGGLE_COLLECT; }
  static void stop() { CALLGRIND_TOGGLE_COLLECT; }

  template <typename Round>
  static void dump(const char *name, int operations, Round round) {
    for (int i = 0; i < kRounds; ++i) round();  // caches and pools of khonsu's own are filled
    CALLGRIND_ZERO_STATS;
    for (int i = 0; i < kRounds; ++i) round();
    const std::string label = std::string(name) + "|" + std::to_string(kRounds * operations);
    CALLGRIND_DUMP_STATS_AT(label.c_str());
  }
};

class Keys {
 public:
  /// All over the database, the same in each run.
  Key next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return make_key((state_ >> 33) % kKeys);
  }

 private:
  std::uint64_t state_ = 1;
};

void run() {
  const KhonsuDatabase database;
  for (std::uint64_t id = 0; id < kKeys;) {
    KhonsuTransaction transaction = database.begin(false);
    for (int i = 0; i < 100; ++i, ++id) transaction.put(make_key(id), make_row(static_cast<std::int64_t>(id), 0));
    transaction.commit();
  }
  Keys keys;
  double sum = 0;
  const auto counted = [](const auto &body) {
    Count::start();
    body();
    Count::stop();
  };
  const auto increment = [&](KhonsuTransaction &transaction, const Key &key) {
    const Row row = transaction.get(key);
    transaction.put(key, make_row(row.id, row.counter + 1));
  };

  for (const bool read_only : {true, false}) {
    Count::dump(read_only ? "empty, read-only" : "empty", 1,
                [&] { counted([&] { database.begin(read_only).commit(); }); });
    Count::dump(read_only ? "get, read-only" : "get", 10, [&] {
      KhonsuTransaction transaction = database.begin(read_only);
      for (int i = 0; i < 10; ++i) {
        const Key key = keys.next();
        counted([&] { sum += transaction.get(key).sum(); });
      }
      transaction.commit();
    });
  }
  Count::dump("get_many of ten, each", 10, [&] {
    KhonsuTransaction transaction = database.begin(true);
    Key ten[kOperations];
    for (Key &key : ten) key = keys.next();
    Row rows[kOperations];
    counted([&] { transaction.get_many(ten, kOperations, rows); });
    for (const Row &row : rows) sum += row.sum();
    transaction.commit();
  });
  std::vector<khonsu_key *> bound;
  for (int i = 0; i < kRounds * 10; ++i) bound.push_back(database.bind(keys.next()));
  std::size_t next = 0;
  Count::dump("bound get, read-only", 10, [&] {  // one that was used before
    KhonsuTransaction transaction = database.begin(true);
    for (int i = 0; i < 10; ++i) {
      const khonsu_key *key = bound[next++ % bound.size()];
      counted([&] { sum += transaction.get_bound(key).sum(); });
    }
    transaction.commit();
  });
  for (khonsu_key *key : bound) khonsu_key_free(key);
  Count::dump("put", 10, [&] {
    KhonsuTransaction transaction = database.begin(false);
    for (int i = 0; i < 10; ++i) {
      const Key key = keys.next();
      counted([&] { transaction.put(key, make_row(i, 0)); });
    }
    transaction.commit();
  });
  Count::dump("commit of one put", 1, [&] {
    KhonsuTransaction transaction = database.begin(false);
    transaction.put(keys.next(), make_row(1, 0));
    counted([&] { transaction.commit(); });
  });
  Count::dump("RMW1", 1, [&] {
    const Key key = keys.next();
    counted([&] {
      KhonsuTransaction transaction = database.begin(false);
      increment(transaction, key);
      transaction.commit();
    });
  });
  Count::dump("R10", 1, [&] {
    Key ten[kOperations];
    for (Key &key : ten) key = keys.next();
    counted([&] {
      KhonsuTransaction transaction = database.begin(true);
      Row rows[kOperations];
      transaction.get_many(ten, kOperations, rows);
      for (const Row &row : rows) sum += row.sum();
      transaction.commit();
    });
  });
  Count::dump("scan, one row of 100", kScanKeys, [&] {
    const Key start = make_key((keys.next().bytes[15] - '0') * 900);
    counted([&] {
      KhonsuTransaction transaction = database.begin(true);
      sum += scan(transaction, start);
      transaction.commit();
    });
  });
  if (sum == 0) fail("nothing was read");
}

}  // namespace
}  // namespace bench

int main() { bench::run(); }
