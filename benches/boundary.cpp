// The rows without a table of peers: what one call across the boundary costs, how a get grows with the number of
// keys, and how much memory a key takes.
#include <khonsu.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <random>

#include "arrow_row.hpp"
#include "bench.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kHotKeys = 100;  // few enough for the first-level cache: the call is measured, not the memory

void check(khonsu_status status, const char *call) {
  if (status != KHONSU_STATUS_OK) fail(std::string(call) + ": " + khonsu_status_name(status));
}

double nanoseconds(Clock::duration elapsed) { return std::chrono::duration<double, std::nano>(elapsed).count(); }

/// Nanoseconds of one of the `calls` that `body` makes, timed over `seconds`.
double time_calls(double seconds, std::size_t calls, const std::function<void()> &body) {
  const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  body();
  const Clock::time_point start = Clock::now();
  Clock::duration elapsed{};
  std::size_t turns = 0;
  do {
    body();
    ++turns;
    elapsed = Clock::now() - start;
  } while (elapsed < limit);
  return nanoseconds(elapsed) / static_cast<double>(turns * calls);
}

struct Boundary {
  khonsu_db *db = nullptr;
  khonsu_schema *schema = nullptr;
  khonsu_txn_options *read_only = nullptr;
  std::vector<Key> keys;
  double sink = 0;

  Boundary() {
    ArrowSchema arrow_schema = make_schema();
    check(khonsu_db_open(nullptr, &db, nullptr), "khonsu_db_open");
    check(khonsu_schema_import(&arrow_schema, &schema, nullptr), "khonsu_schema_import");
    read_only = khonsu_txn_options_new();
    check(khonsu_txn_options_set_read_only(read_only, 1, nullptr), "khonsu_txn_options_set_read_only");
    for (std::size_t i = 0; i < kHotKeys; ++i) keys.push_back(make_key(i));
    in_transaction(nullptr, true, [this](khonsu_txn *transaction) { put_all(transaction); });
  }

  ~Boundary() {
    khonsu_txn_options_free(read_only);
    khonsu_schema_free(schema);
    khonsu_db_free(db);
  }

  template <typename Body>
  void in_transaction(const khonsu_txn_options *options, bool commit, Body body) {
    khonsu_txn *transaction = nullptr;
    check(khonsu_db_begin(db, options, &transaction, nullptr), "khonsu_db_begin");
    body(transaction);
    if (commit) check(khonsu_txn_commit(transaction, nullptr), "khonsu_txn_commit");
    khonsu_txn_free(transaction);
  }

  void put_all(khonsu_txn *transaction) {
    for (const Key &key : keys) {
      ArrowArray batch = make_batch(make_row(1, 2));
      check(khonsu_txn_put_with_schema(transaction, key.bytes, kKeyBytes, &batch, schema, nullptr),
            "khonsu_txn_put_with_schema");
    }
  }

  void get_all(khonsu_txn *transaction) {
    for (const Key &key : keys) {
      ArrowArray batch;
      check(khonsu_txn_get_with_schema(transaction, key.bytes, kKeyBytes, schema, &batch, nullptr),
            "khonsu_txn_get_with_schema");
      sink += read_batch(batch).sum();
      batch.release(&batch);
    }
  }
};

std::size_t resident_bytes() {
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const bool read = file != nullptr && std::fscanf(file, "%llu %llu", &total, &resident) == 2;
  if (file != nullptr) std::fclose(file);
  if (!read) fail("/proc/self/statm cannot be read");
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Bytes handed out by malloc, the mapped ones included.
std::size_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

struct Child {
  double resident_per_key = 0;
  double allocated_per_key = 0;
  double nanoseconds_per_get = 0;
};

/// Loads `count` keys into a fresh peer, in a process of its own: freed memory of others would hide the growth.
Child measure_in_child(const std::function<std::unique_ptr<Peer>()> &make, std::uint64_t count, double seconds) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe failed");
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) fail("fork failed");
  if (pid == 0) {
    close(ends[0]);
    std::vector<Key> keys;
    std::mt19937_64 random(7);
    for (std::size_t i = 0; i < (std::size_t{1} << 20); ++i) keys.push_back(make_key(random() % count));
    const std::unique_ptr<Peer> peer = make();
    malloc_trim(0);
    const std::size_t resident = resident_bytes();
    const std::size_t allocated = allocated_bytes();
    peer->load(count);
    peer->settle();
    malloc_trim(0);
    const auto per_key = [count](std::size_t now, std::size_t before) {
      return (static_cast<double>(now) - static_cast<double>(before)) / static_cast<double>(count);
    };
    Child child;
    child.resident_per_key = per_key(resident_bytes(), resident);
    child.allocated_per_key = per_key(allocated_bytes(), allocated);
    const std::unique_ptr<Session> session = peer->session();
    std::size_t position = 0;
    child.nanoseconds_per_get = time_calls(seconds, 100 * kOperations, [&] {
      for (int turn = 0; turn < 100; ++turn, position += kOperations) {
        if (position + kOperations > keys.size()) position = 0;
        session->read(&keys[position], kOperations);
      }
    });
    const bool written = write(ends[1], &child, sizeof(child)) == static_cast<ssize_t>(sizeof(child));
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  Child child;
  const bool read_all = read(ends[0], &child, sizeof(child)) == static_cast<ssize_t>(sizeof(child));
  close(ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (!read_all || status != 0) fail("the process that measures memory failed");
  return child;
}

}  // namespace

std::vector<Measurement> measure_boundary(unsigned rounds, double seconds) {
  Boundary boundary;
  Measurement floor{"one batch built and released", 1, "no database", {}, "ns"};
  Measurement get{"one get, read-only", 1, "khonsu", {}, "ns"};
  Measurement get_tracked{"one get, serializable read-write", 1, "khonsu", {}, "ns"};
  Measurement put{"one put, staged", 1, "khonsu", {}, "ns"};
  for (unsigned round = 0; round < rounds; ++round) {
    floor.samples.push_back(time_calls(seconds, kHotKeys, [&] {
      for (std::size_t i = 0; i < kHotKeys; ++i) {
        ArrowArray batch = make_batch(make_row(1, 2));
        boundary.sink += read_batch(batch).sum();
        batch.release(&batch);
      }
    }));
    get.samples.push_back(time_calls(seconds, kHotKeys, [&] {
      boundary.in_transaction(boundary.read_only, true, [&](khonsu_txn *txn) { boundary.get_all(txn); });
    }));
    get_tracked.samples.push_back(time_calls(seconds, kHotKeys, [&] {
      boundary.in_transaction(nullptr, true, [&](khonsu_txn *txn) { boundary.get_all(txn); });
    }));
    put.samples.push_back(time_calls(seconds, kHotKeys, [&] {
      // Rolled back: the commit is not part of the call.
      boundary.in_transaction(nullptr, false, [&](khonsu_txn *txn) { boundary.put_all(txn); });
    }));
  }
  return {floor, get, get_tracked, put};
}

std::vector<Measurement> measure_growth_and_memory(unsigned rounds, double seconds, const std::string &directory) {
  struct Maker {
    const char *name;
    std::function<std::unique_ptr<Peer>()> make;
    bool mallocs;  // LMDB keeps its data in mapped pages instead
  };
  const std::string place = directory + "/child";
  const Maker makers[] = {
      {"khonsu", make_khonsu, true},
      {"shared_mutex+unordered_map", make_shared_mutex_map, true},
      {"lmdb", [&place] { return make_lmdb(place); }, false},
  };
  constexpr std::uint64_t kFew = 10'000;
  constexpr std::uint64_t kMany = 1'000'000;
  std::vector<Measurement> all;
  for (const Maker &maker : makers) {
    Measurement few{"get at 10k keys", 1, maker.name, {}, "ns"};
    Measurement many{"get at 1M keys", 1, maker.name, {}, "ns"};
    Measurement resident{"memory at 1M keys, resident", 1, maker.name, {}, "bytes/key"};
    Measurement allocated{"memory at 1M keys, allocated", 1, maker.name, {}, "bytes/key"};
    for (unsigned round = 0; round < rounds; ++round) {
      for (const std::uint64_t count : {kFew, kMany}) {
        std::filesystem::remove_all(place);
        std::filesystem::create_directories(place);
        const Child child = measure_in_child(maker.make, count, seconds);
        (count == kFew ? few : many).samples.push_back(child.nanoseconds_per_get);
        if (count == kFew) continue;
        resident.samples.push_back(child.resident_per_key);
        allocated.samples.push_back(child.allocated_per_key);
      }
    }
    std::filesystem::remove_all(place);
    all.push_back(few);
    all.push_back(many);
    all.push_back(resident);
    if (maker.mallocs) all.push_back(allocated);
  }
  return all;
}

}  // namespace bench
