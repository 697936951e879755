// What a conflict costs, and what it costs to read what others have overwritten.
#include "khonsu_calls.hpp"
#include "runner.hpp"
#include "sections.hpp"

namespace bench {
namespace {

constexpr std::uint64_t kFewKeys = 1'000;

void put_all(const KhonsuDatabase &database) {
  KhonsuTransaction transaction = database.begin(false);
  for (std::uint64_t id = 0; id < kFewKeys; ++id) transaction.put(make_key(id), make_row(1, 0));
  if (!transaction.commit()) fail("a transaction alone was aborted");
}

/// Nanoseconds of a commit that fails as another transaction has written the one key that this one increments.
double measure_conflict(const KhonsuDatabase &database, bool reported) {
  std::vector<double> spent;
  for (std::uint64_t id = 0; id < kFewKeys; ++id) {
    const Key key = make_key(id);
    KhonsuTransaction loser = database.begin(false);
    const Row row = loser.get(key);
    loser.put(key, make_row(row.id, row.counter + 1));
    KhonsuTransaction winner = database.begin(false);
    winner.put(key, row);
    if (!winner.commit()) fail("the first to commit was aborted");
    khonsu_error *error = nullptr;
    const auto start = Clock::now();
    const khonsu_status status = khonsu_txn_commit(loser.handle(), reported ? &error : nullptr);
    spent.push_back(nanoseconds(Clock::now() - start));
    if (status != KHONSU_STATUS_CONFLICT) fail("a lost update was committed");
    khonsu_error_free(error);
  }
  return median_of(spent);
}

/// Nanoseconds of a get of what was overwritten so many times since the snapshot.
double measure_old_get(const KhonsuDatabase &database, unsigned overwritten) {
  KhonsuTransaction reader = database.begin(true);
  for (unsigned i = 0; i < overwritten; ++i) put_all(database);
  volatile double sink = 0;
  const double start = processor_seconds();
  for (std::uint64_t id = 0; id < kFewKeys; ++id) sink = sink + reader.get(make_key(id)).sum();
  return (processor_seconds() - start) * 1e9 / static_cast<double>(kFewKeys);
}

}  // namespace

void measure_costs(const Options &options, Samples &samples) {
  const KhonsuDatabase database;
  put_all(database);
  for (unsigned round = 0; round < 3 * options.rounds; ++round) {
    samples.add("cost: a commit that conflicts", 1, "khonsu", measure_conflict(database, false), "ns");
    samples.add("cost: a commit that conflicts, and tells with what", 1, "khonsu", measure_conflict(database, true),
                "ns");
    for (const unsigned overwritten : {0, 1, 10, 100}) {
      samples.add("cost: a get of what was overwritten " + std::to_string(overwritten) + " times since the snapshot", 1,
                  "khonsu", measure_old_get(database, overwritten), "ns");
    }
  }
}

}  // namespace bench
