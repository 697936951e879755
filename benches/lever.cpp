// khonsu_lever: one workload on one thread, for comparing two builds of the library and for counting instructions.
// tools/compare runs it: the library is whichever LD_LIBRARY_PATH names.
#include <khonsu.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include <time.h>

#include "arrow_row.hpp"
#include "data.hpp"

namespace {

using namespace bench;

constexpr std::uint64_t kKeys = 100'000;
constexpr std::size_t kRing = std::size_t{1} << 16;

void check(khonsu_status status) {
  if (status != KHONSU_STATUS_OK) fail(khonsu_status_name(status));
}

enum class Work {
  kEmptyRo,
  kEmpty,
  kGet,
  kGetTracked,
  kPut,
  kR10,
  kR10Many,
  kR10ManyBound,
  kR10Bound,
  kW1Bound,
  kRmw1Bound,
  kRmw10Bound,
  kScan,
  kW1,
  kRmw1,
  kRmw10,
  kA,
  kB,
};

constexpr std::pair<const char *, Work> kWorks[] = {
    {"EMPTY-RO", Work::kEmptyRo},
    {"EMPTY", Work::kEmpty},
    {"GET", Work::kGet},
    {"GET-TRACKED", Work::kGetTracked},
    {"PUT", Work::kPut},
    {"R10", Work::kR10},
    {"R10-MANY", Work::kR10Many},
    {"R10-MANY-BOUND", Work::kR10ManyBound},
    {"R10-BOUND", Work::kR10Bound},
    {"W1-BOUND", Work::kW1Bound},
    {"RMW1-BOUND", Work::kRmw1Bound},
    {"RMW10-BOUND", Work::kRmw10Bound},
    {"SCAN", Work::kScan},
    {"W1", Work::kW1},
    {"RMW1", Work::kRmw1},
    {"RMW10", Work::kRmw10},
    {"A", Work::kA},
    {"B", Work::kB},
};

struct Lever {
  khonsu_db *db = nullptr;
  khonsu_schema *schema = nullptr;
  khonsu_txn_options *read_only = nullptr;
  khonsu_txn *txn = nullptr;
  std::vector<Key> zipf;
  std::vector<khonsu_key *> bound;  // of each of those
  std::vector<khonsu_key *> bound_handles;
  std::size_t position = 0;
  double sink = 0;
  std::int64_t next = 0;

  Lever() {
    ArrowSchema arrow = make_schema();
    check(khonsu_db_open(nullptr, &db, nullptr));
    check(khonsu_schema_import(&arrow, &schema, nullptr));
    read_only = khonsu_txn_options_new();
    check(khonsu_txn_options_set_read_only(read_only, 1, nullptr));
    for (std::uint64_t id = 0; id < kKeys; id += 1000) {
      begin(nullptr);
      for (std::uint64_t key = id; key < id + 1000; ++key) put(make_key(key), make_row(static_cast<std::int64_t>(key), 0));
      commit();
    }
    std::vector<double> cumulated(kKeys);
    std::vector<std::uint64_t> scattered(kKeys);
    double sum = 0;
    for (std::uint64_t rank = 0; rank < kKeys; ++rank) {
      cumulated[rank] = sum += 1.0 / std::pow(static_cast<double>(rank + 1), 0.99);
      scattered[rank] = rank;
    }
    std::mt19937_64 random(1);
    std::shuffle(scattered.begin(), scattered.end(), random);
    for (std::size_t i = 0; i < kRing; ++i) {
      const double point = std::uniform_real_distribution<double>(0, sum)(random);
      const auto rank = std::upper_bound(cumulated.begin(), cumulated.end(), point) - cumulated.begin();
      zipf.push_back(make_key(std::min<std::uint64_t>(scattered[std::min<std::size_t>(rank, kKeys - 1)], kKeys - kScanKeys)));
    }
  }

  const Key *take(std::size_t count) {
    if (position + count > kRing) position = 0;
    position += count;
    return &zipf[position - count];
  }

  void begin(const khonsu_txn_options *options) { check(khonsu_db_begin(db, options, &txn, nullptr)); }
  void commit() {
    check(khonsu_txn_commit(txn, nullptr));
    khonsu_txn_free(txn);
  }
  Row get(const Key &key) {
    ArrowArray batch;
    check(khonsu_txn_get_with_schema(txn, key.bytes, kKeyBytes, schema, &batch, nullptr));
    const Row row = read_batch(batch);
    batch.release(&batch);
    return row;
  }
  void put(const Key &key, const Row &row) {
    ArrowArray batch = make_batch(row);
    check(khonsu_txn_put_with_schema(txn, key.bytes, kKeyBytes, &batch, schema, nullptr));
  }
  const khonsu_key *const *take_bound(std::size_t count) {
    if (bound.empty()) bind_all();
    take(count);
    return &bound[position - count];
  }
  Row get_bound(const khonsu_key *key) {
    ArrowArray batch;
    check(khonsu_txn_get_bound(txn, key, schema, &batch, nullptr, nullptr));
    const Row row = read_batch(batch);
    batch.release(&batch);
    return row;
  }
  void put_bound(const khonsu_key *key, const Row &row) {
    ArrowArray batch = make_batch(row);
    check(khonsu_txn_put_bound(txn, key, &batch, schema, nullptr));
  }
  void bind_all() {
    std::map<std::string_view, khonsu_key *> known;
    for (const Key &key : zipf) {
      khonsu_key *&handle = known[key.view()];
      if (handle == nullptr) check(khonsu_key_bind(db, key.bytes, kKeyBytes, &handle, nullptr));
      bound.push_back(handle);
    }
    for (const auto &[name, handle] : known) bound_handles.push_back(handle);
  }
  void increment(const Key &key) {
    const Row row = get(key);
    put(key, make_row(row.id, row.counter + 1));
  }

  /// One transaction, or the calls that are measured in one.
  void run(Work work) {
    if (work == Work::kEmptyRo || work == Work::kEmpty) {
      begin(work == Work::kEmpty ? nullptr : read_only);
      commit();
    } else if (work == Work::kGet || work == Work::kGetTracked) {
      begin(work == Work::kGet ? read_only : nullptr);
      for (std::uint64_t id = 0; id < 100; ++id) sink += get(zipf[id]).sum();
      commit();
    } else if (work == Work::kPut) {
      begin(nullptr);
      for (std::uint64_t id = 0; id < 100; ++id) put(zipf[id], make_row(1, 2));
      khonsu_txn_free(txn);
    } else if (work == Work::kR10) {
      const Key *keys = take(kOperations);
      begin(read_only);
      for (std::size_t i = 0; i < kOperations; ++i) sink += get(keys[i]).sum();
      commit();
    } else if (work == Work::kR10Many || work == Work::kR10ManyBound) {
      ArrowArray batches[kOperations];
      if (work == Work::kR10Many) {
        const Key *keys = take(kOperations);
        const void *names[kOperations];
        std::size_t sizes[kOperations];
        for (std::size_t i = 0; i < kOperations; ++i) {
          names[i] = keys[i].bytes;
          sizes[i] = kKeyBytes;
        }
        begin(read_only);
        check(khonsu_txn_get_many(txn, names, sizes, kOperations, schema, batches, nullptr, nullptr));
      } else {
        begin(read_only);
        check(khonsu_txn_get_many_bound(txn, take_bound(kOperations), kOperations, schema, batches, nullptr, nullptr));
      }
      for (ArrowArray &batch : batches) {
        sink += read_batch(batch).sum();
        batch.release(&batch);
      }
      commit();
    } else if (work == Work::kR10Bound) {
      const khonsu_key *const *keys = take_bound(kOperations);
      begin(read_only);
      for (std::size_t i = 0; i < kOperations; ++i) sink += get_bound(keys[i]).sum();
      commit();
    } else if (work == Work::kW1Bound) {
      const khonsu_key *const *keys = take_bound(1);
      begin(nullptr);
      put_bound(keys[0], make_row(++next, 0));
      commit();
    } else if (work == Work::kRmw1Bound || work == Work::kRmw10Bound) {
      const std::size_t count = work == Work::kRmw1Bound ? 1 : kOperations;
      const khonsu_key *const *keys = take_bound(count);
      begin(nullptr);
      for (std::size_t i = 0; i < count; ++i) {
        const Row row = get_bound(keys[i]);
        put_bound(keys[i], make_row(row.id, row.counter + 1));
      }
      commit();
    } else if (work == Work::kScan) {
      const Key *key = take(1);
      begin(read_only);
      ArrowArrayStream stream;
      check(khonsu_txn_scan_stream(txn, key->bytes, kKeyBytes, nullptr, 0, KHONSU_DIRECTION_FORWARD, kScanKeys, &stream,
                                   nullptr));
      ArrowArray batch;
      if (stream.get_next(&stream, &batch) != 0 || batch.length != static_cast<std::int64_t>(kScanKeys)) fail("a scan");
      const auto *counters = static_cast<const std::int64_t *>(batch.children[2]->buffers[1]);
      for (std::int64_t row = 0; row < batch.length; ++row) sink += static_cast<double>(counters[row]);
      batch.release(&batch);
      stream.release(&stream);
      commit();
    } else if (work == Work::kW1) {
      begin(nullptr);
      put(*take(1), make_row(++next, 0));
      commit();
    } else if (work == Work::kRmw1 || work == Work::kRmw10) {
      const std::size_t count = work == Work::kRmw1 ? 1 : kOperations;
      const Key *keys = take(count);
      begin(nullptr);
      for (std::size_t i = 0; i < count; ++i) increment(keys[i]);
      commit();
    } else if (work == Work::kA || work == Work::kB) {
      const Key *keys = take(kOperations);
      begin(nullptr);
      for (std::size_t i = 0; i < kOperations; ++i) {
        const bool write = work == Work::kA ? i % 2 == 0 : keys[0].bytes[kKeyBytes - 1] % 2 == 0 && i == 0;
        if (write) {
          put(keys[i], make_row(++next, 0));
        } else {
          sink += get(keys[i]).sum();
        }
      }
      commit();
    }
  }

  /// What callgrind counts: tools/compare tells it the name.
  [[gnu::noinline]] void counted(Work work, std::uint64_t count) {
    for (; count > 0; --count) run(work);
  }
};

Work work_of(const std::string &name) {
  for (const auto &[known, work] : kWorks) {
    if (name == known) return work;
  }
  fail("unknown workload " + name);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: khonsu_lever WORKLOAD SECONDS | khonsu_lever WORKLOAD =TRANSACTIONS");
  Lever lever;
  const Work work = work_of(argv[1]);
  const std::string amount = argv[2];
  if (amount[0] == '=') {
    const std::uint64_t count = std::stoull(amount.substr(1));
    for (std::uint64_t left = count; left > 0; --left) lever.run(work);  // what loading has left behind is gone then
    lever.counted(work, count);
  } else {
    // The time of the thread, in short windows, of which a low one is reported: others use the machine, too.
    const auto now = [] {
      timespec time{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
      return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
    };
    const double end = now() + std::stod(amount) * 1e9;
    std::vector<double> windows;
    for (double start = now(); start < end;) {
      constexpr double kWindow = 1e6;
      std::uint64_t count = 0;
      double elapsed = 0;
      do {
        // Reading this clock takes longer than beginning and ending a transaction some times.
        for (int turn = 0; turn < 64; ++turn) lever.run(work);
        count += 64;
        elapsed = now() - start;
      } while (elapsed < kWindow);
      windows.push_back(elapsed / static_cast<double>(count));
      start += elapsed;
    }
    std::sort(windows.begin(), windows.end());
    std::printf("%.1f\n", windows[windows.size() / 10]);
  }
  for (khonsu_key *handle : lever.bound_handles) khonsu_key_free(handle);
  khonsu_txn_options_free(lever.read_only);
  khonsu_schema_free(lever.schema);
  khonsu_db_free(lever.db);
  return lever.sink == 0.5 ? 1 : 0;
}
