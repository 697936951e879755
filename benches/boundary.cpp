// What one call across the C boundary costs. The keys are few enough for the caches: the call is measured, not the memory.
#include "khonsu_calls.hpp"
#include "runner.hpp"
#include "sections.hpp"

namespace bench {

void measure_boundary(const Options &options, Samples &samples) {
  constexpr std::size_t kHotKeys = 100;
  const KhonsuDatabase database;
  std::vector<Key> keys;
  for (std::size_t i = 0; i < kHotKeys; ++i) keys.push_back(make_key(i));
  volatile double sink = 0;
  const auto get_all = [&](KhonsuTransaction transaction) {
    for (const Key &key : keys) sink = transaction.get(key).sum();
    if (!transaction.commit()) fail("a transaction alone was aborted");
  };
  const auto put_all = [&](KhonsuTransaction transaction, bool commit) {
    for (const Key &key : keys) transaction.put(key, make_row(1, 2));
    if (commit && !transaction.commit()) fail("a transaction alone was aborted");
  };
  put_all(database.begin(false), true);
  const auto time = [&](const char *name, const char *peer, const auto &body) {
    samples.add(name, 1, peer, time_calls(options.seconds, kHotKeys, body), "ns");
  };
  for (unsigned round = 0; round < options.rounds; ++round) {
    time("boundary: build and release a batch", "no database", [&] {
      for (std::size_t i = 0; i < kHotKeys; ++i) {
        ArrowArray batch = make_batch(make_row(1, 2));
        sink = read_batch(batch).sum();
        batch.release(&batch);
      }
    });
    time("boundary: get, read-only", "khonsu", [&] { get_all(database.begin(true)); });
    time("boundary: get", "khonsu", [&] { get_all(database.begin(false)); });
    // Rolled back: the commit is no part of the call.
    time("boundary: put", "khonsu", [&] { put_all(database.begin(false), false); });
  }
}

}  // namespace bench
