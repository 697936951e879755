// khonsu_memory_budget_bench: what a memory budget costs and saves. A database of values of 1,000 bytes is opened
// without a budget and with one, each time by a process of its own; then values are read. Files are in the page cache.
// Beside each time stands that of the processors, which other work on the machine disturbs less.
#include <fcntl.h>
#include <khonsu.hpp>  // the structs of the Arrow C Data Interface
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include "../samples.hpp"
#include "engine.hpp"

namespace durable {
namespace {

constexpr std::int64_t kRows = kValueBytes / sizeof(std::int64_t);
constexpr unsigned kReads = 20'000;

/// Seconds, by the clock on the wall and by those of the processors.
struct Time {
  double wall;
  double processors;
};

double seconds_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Time now() { return {seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)}; }

Time since(Time start) {
  const Time end = now();
  return {end.wall - start.wall, end.processors - start.processors};
}

void check(khonsu_status status, khonsu_error *error) {
  if (status != KHONSU_STATUS_OK) fail(std::string("khonsu: ") + (error ? khonsu_error_message(error) : "failed"));
}

khonsu_db *open(const std::string &directory, std::uint64_t budget) {
  khonsu_error *error = nullptr;
  khonsu_options *options = khonsu_options_new();
  check(khonsu_options_set_path(options, directory.c_str(), &error), error);
  check(khonsu_options_set_durability(options, KHONSU_DURABILITY_NONE, &error), error);
  check(khonsu_options_set_memory_budget(options, budget, &error), error);
  khonsu_db *db = nullptr;
  check(khonsu_db_open(options, &db, &error), error);
  khonsu_options_free(options);
  return db;
}

/// A value whose rows are all the same number.
void put(khonsu_txn *txn, const Key &key, khonsu_schema *schema, std::int64_t number) {
  std::vector<std::int64_t> rows(kRows, number);
  const void *column_buffers[2] = {nullptr, rows.data()};
  const void *buffers[1] = {nullptr};
  const auto release = [](ArrowArray *array) { array->release = nullptr; };
  ArrowArray column = {kRows, 0, 0, 2, 0, column_buffers, nullptr, nullptr, release, nullptr};
  ArrowArray *columns[1] = {&column};
  // Released within the call: small batches are copied.
  ArrowArray array = {kRows, 0, 0, 1, 1, buffers, columns, nullptr, release, nullptr};
  khonsu_error *error = nullptr;
  check(khonsu_txn_put_with_schema(txn, key.bytes, kKeyBytes, &array, schema, &error), error);
}

void fill(const std::string &directory, std::uint64_t keys) {
  ArrowSchema column = {"l", "value", nullptr, 0, 0, nullptr, nullptr, nullptr, nullptr};
  column.release = [](ArrowSchema *schema) { schema->release = nullptr; };
  ArrowSchema *columns[1] = {&column};
  ArrowSchema imported = {"+s", "", nullptr, 0, 1, columns, nullptr, column.release, nullptr};
  khonsu_error *error = nullptr;
  khonsu_schema *schema = nullptr;
  check(khonsu_schema_import(&imported, &schema, &error), error);
  khonsu_db *db = open(directory, 0);
  for (std::uint64_t first = 0; first < keys; first += 1000) {
    khonsu_txn *txn = nullptr;
    check(khonsu_db_begin(db, nullptr, &txn, &error), error);
    for (std::uint64_t id = first; id < std::min(first + 1000, keys); ++id) {
      put(txn, Key(id), schema, static_cast<std::int64_t>(id));
    }
    check(khonsu_txn_commit(txn, &error), error);
    khonsu_txn_free(txn);
  }
  check(khonsu_db_checkpoint(db, &error), error);
  khonsu_db_free(db);
  khonsu_schema_free(schema);
}

/// Seconds to read all files of a directory once.
Time read_files(const std::string &directory) {
  const auto start = now();
  std::vector<char> buffer(std::size_t{4} << 20);
  for (const auto &entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY);
    require(file >= 0, "a file cannot be read");
    while (::read(file, buffer.data(), buffer.size()) > 0) continue;
    ::close(file);
  }
  return since(start);
}

/// Megabytes of memory of this process.
double resident_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::strtod(line.c_str() + 6, nullptr) / 1000;
  }
  fail("no VmRSS");
}

struct Result {
  Time open;
  double opened_megabytes;
  Time gets;
  Time gets_again;
  Time scan;
  Time checkpoint;
  double end_megabytes;
};

std::int64_t get(khonsu_txn *txn, std::uint64_t id) {
  khonsu_error *error = nullptr;
  ArrowArray array;
  check(khonsu_txn_get(txn, Key(id).bytes, kKeyBytes, &array, nullptr, &error), error);
  const auto *rows = static_cast<const std::int64_t *>(array.children[0]->buffers[1]);
  const std::int64_t number = rows[array.children[0]->offset + kRows - 1];
  array.release(&array);
  return number;
}

Result measure(const std::string &directory, std::uint64_t keys, std::uint64_t budget) {
  Result result{};
  auto start = now();
  khonsu_db *db = open(directory, budget);
  result.open = since(start);
  result.opened_megabytes = resident_megabytes();
  khonsu_error *error = nullptr;
  khonsu_txn_options *options = khonsu_txn_options_new();
  check(khonsu_txn_options_set_read_only(options, 1, &error), error);
  khonsu_txn *txn = nullptr;
  check(khonsu_db_begin(db, options, &txn, &error), error);
  khonsu_txn_options_free(options);

  // Of the half of the keys that comes last: what is taken up warm are the first ones.
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> ids(kReads);
  for (std::uint64_t &id : ids) id = keys / 2 + random() % (keys / 2);
  const auto get_all = [&] {
    const auto begun = now();
    for (const std::uint64_t id : ids) require(get(txn, id) == static_cast<std::int64_t>(id), "another value");
    return since(begun);
  };
  result.gets = get_all();
  result.gets_again = get_all();

  start = now();
  ArrowArrayStream stream;
  check(khonsu_txn_scan_stream(txn, nullptr, 0, nullptr, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error), error);
  std::uint64_t rows = 0;
  for (ArrowArray batch; stream.get_next(&stream, &batch) == 0 && batch.release != nullptr;) {
    rows += static_cast<std::uint64_t>(batch.length);
    batch.release(&batch);
  }
  require(rows == keys * kRows, "rows are missing");
  stream.release(&stream);
  result.scan = since(start);
  khonsu_txn_free(txn);

  check(khonsu_db_begin(db, nullptr, &txn, &error), error);
  check(khonsu_txn_delete(txn, Key(keys).bytes, kKeyBytes, &error), error);
  check(khonsu_txn_commit(txn, &error), error);
  khonsu_txn_free(txn);
  start = now();
  check(khonsu_db_checkpoint(db, &error), error);
  result.checkpoint = since(start);
  result.end_megabytes = resident_megabytes();
  khonsu_db_free(db);
  return result;
}

/// In a process of its own, whose memory is its own.
template <typename Function>
void in_child(Function run) {
  std::fflush(nullptr);
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) {
    run();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  require(status == 0, "the child failed");
}

Result measured_in_child(const std::string &directory, std::uint64_t keys, std::uint64_t budget) {
  int ends[2];
  require(pipe(ends) == 0, "pipe");
  in_child([&] {
    const Result result = measure(directory, keys, budget);
    require(write(ends[1], &result, sizeof result) == sizeof result, "write");
  });
  Result result{};
  require(read(ends[0], &result, sizeof result) == sizeof result, "read");
  close(ends[0]);
  close(ends[1]);
  return result;
}

int run(const std::string &out, const std::string &disk, bool quick) {
  const std::uint64_t megabytes = quick ? 64 : 1024;
  const unsigned rounds = quick ? 1 : 3;
  const std::uint64_t keys = megabytes * 1'048'576 / kValueBytes;
  const std::uint64_t budgets[] = {0, megabytes * 1'048'576 / 16};
  std::filesystem::remove_all(disk);
  std::filesystem::create_directories(disk);
  const std::string directory = disk + "/db";
  in_child([&] { fill(directory, keys); });
  bench::Samples samples;
  samples.note("command", std::string("khonsu_memory_budget_bench") + (quick ? " --quick" : ""));
  samples.note("values", std::to_string(keys) + " values of " + std::to_string(kValueBytes) + " bytes, " +
                             std::to_string(megabytes) + " MiB");
  for (unsigned round = 0; round < rounds; ++round) {
    const auto add = [&samples](const std::string &what, Time time, double unit, const char *name) {
      samples.add("memory budget: " + what, 1, "khonsu", time.wall * unit, name);
      samples.add("memory budget: " + what + ", processor time", 1, "khonsu", time.processors * unit, name);
    };
    read_files(directory);
    add("reading the files once", read_files(directory), 1, "s");
    for (const std::uint64_t budget : budgets) {
      const Result result = measured_in_child(directory, keys, budget);
      const std::string with = budget == 0 ? ", no budget" : ", a sixteenth of the values";
      add("opening" + with, result.open, 1, "s");
      add("scan of all as a stream" + with, result.scan, 1, "s");
      add("checkpoint" + with, result.checkpoint, 1, "s");
      add("get of a random key" + with, result.gets, 1e9 / kReads, "ns");
      add("get of the same keys again" + with, result.gets_again, 1e9 / kReads, "ns");
      samples.add("memory budget: memory after opening" + with, 1, "khonsu", result.opened_megabytes, "MB");
      samples.add("memory budget: memory in the end" + with, 1, "khonsu", result.end_megabytes, "MB");
    }
  }
  require(samples.write(out), out + " cannot be written");
  std::filesystem::remove_all(disk);
  return 0;
}

}  // namespace
}  // namespace durable

int main(int argc, char **argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  return durable::run("target/bench/memory_budget.json", "target/bench/disk", quick);
}
