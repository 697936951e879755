// Many threads: transfers between accounts under serializable isolation, with readers that must always see the same
// total; also what ThreadSanitizer runs. One database, one schema and one set of options are shared by all threads.
#include <atomic>
#include <cinttypes>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

constexpr int kAccounts = 16;
constexpr int kWriters = 4;
constexpr int kReaders = 2;
constexpr int kTransfers = 500;  // of each writer
constexpr std::int64_t kStart = 1000;
constexpr std::int64_t kTotal = kAccounts * kStart;

std::string account(int number) { return "account/" + std::to_string(10 + number); }

khonsu::ArrowArray one_row(std::int64_t value) { return batch_of({value}).array; }

/// The balance under key, which exists.
khonsu::Result<std::int64_t> balance(khonsu::Transaction &transaction, const std::string &key,
                                     const khonsu::Schema &schema) {
  auto found = transaction.get(key, schema);
  if (!found.ok()) return std::move(found).error();
  if (!found.value().has_value()) return khonsu::Error(khonsu::Status::cancelled, key + " is gone");
  return values_of(*found.value()).front();
}

khonsu::Result<void> transfer(khonsu::Transaction &transaction, const khonsu::Schema &schema, int from, int to,
                              std::int64_t amount) {
  auto source = balance(transaction, account(from), schema);
  if (!source.ok()) return std::move(source).error();
  auto target = balance(transaction, account(to), schema);
  if (!target.ok()) return std::move(target).error();
  auto taken = transaction.put(account(from), one_row(source.value() - amount), schema);
  if (!taken.ok()) return taken;
  auto given = transaction.put(account(to), one_row(target.value() + amount), schema);
  if (!given.ok()) return given;
  return transaction.append("log", one_row(amount), schema);
}

/// The sum over all accounts and the rows of the log, by one stream.
khonsu::Result<std::int64_t> total_by_stream(khonsu::Transaction &transaction) {
  auto stream = transaction.scan_stream({"account/", "account0"});
  if (!stream.ok()) return std::move(stream).error();
  std::int64_t sum = 0;
  for (;;) {
    auto batch = stream.value().next();
    if (!batch.ok()) return std::move(batch).error();
    if (!batch.value().has_value()) return sum;
    sum += arrow_testing_int64_sum(batch.value()->get(), 1);
  }
}

khonsu::Result<std::int64_t> total_by_cursor(khonsu::Transaction &transaction) {
  auto cursor = transaction.scan_prefix("account/", khonsu::Direction::reverse);
  if (!cursor.ok()) return std::move(cursor).error();
  std::int64_t sum = 0;
  auto walked = cursor.value().for_each(
      [&](std::string_view, khonsu::Batch batch) { sum += values_of(batch.array).front(); });
  if (!walked.ok()) return std::move(walked).error();
  return sum;
}

void transfers() {
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  const khonsu::Schema schema = std::move(khonsu::Schema::from_arrow(batch_of({}).schema)).value();
  khonsu::TransactionOptions read_only_options;
  read_only_options.read_only();
  const khonsu::TransactionOptions &read_only = read_only_options;
  CHECK_OK(database.transact([&](khonsu::Transaction &transaction) -> khonsu::Result<void> {
    for (int number = 0; number < kAccounts; ++number) {
      auto put = transaction.put(account(number), one_row(kStart), schema);
      if (!put.ok()) return put;
    }
    return {};
  }));

  std::atomic<int> writing{kWriters};
  std::atomic<std::int64_t> totals{0};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937 random(static_cast<unsigned>(writer) + 1);
      std::uniform_int_distribution<int> any_account(0, kAccounts - 1);
      for (int i = 0; i < kTransfers; ++i) {
        const int from = any_account(random);
        const int to = (from + 1 + any_account(random) % (kAccounts - 1)) % kAccounts;
        const std::int64_t amount = static_cast<std::int64_t>(random() % 100) + 1;
        CHECK_OK(database.transact(
            [&](khonsu::Transaction &transaction) { return transfer(transaction, schema, from, to, amount); }));
      }
      --writing;
    });
  }
  for (int reader = 0; reader < kReaders; ++reader) {
    threads.emplace_back([&] {
      // At least once after the last writer, too.
      for (bool last = false; !last;) {
        last = writing.load() == 0;
        khonsu::Transaction transaction = std::move(database.begin(read_only)).value();
        auto by_stream = total_by_stream(transaction);
        auto by_cursor = total_by_cursor(transaction);
        CHECK(CHECK_OK(by_stream) && by_stream.value() == kTotal);
        CHECK(CHECK_OK(by_cursor) && by_cursor.value() == kTotal);
        CHECK_OK(transaction.commit());  // a read-only transaction never conflicts
        ++totals;
      }
    });
  }
  // One more, which reads with writes allowed and is certified: its total holds where it commits.
  threads.emplace_back([&] {
    while (writing.load() > 0) {
      auto sum = database.transact([&](khonsu::Transaction &transaction) { return total_by_cursor(transaction); });
      CHECK(CHECK_OK(sum) && sum.value() == kTotal);
    }
  });
  for (std::thread &thread : threads) thread.join();

  khonsu::Transaction transaction = std::move(database.begin()).value();
  auto log = transaction.get_array("log");
  CHECK(CHECK_OK(log) && log.value().has_value() && (*log.value())->length == kWriters * kTransfers);
  auto stats = database.stats();
  CHECK(CHECK_OK(stats) && stats.value().commits >= kWriters * kTransfers);
  std::printf("%d transfers, %" PRId64 " totals, %" PRIu64 " retries\n", kWriters * kTransfers, totals.load(),
              stats.value().retries);
}

// Each writer counts up one shared counter: no increment may be lost, with the exceptions form, too.
void counters() {
  constexpr int kIncrements = 200;
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  CHECK_OK(database.transact([](khonsu::Transaction &transaction) { return transaction.put("n", batch_of({0})); }));
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&] {
      for (int i = 0; i < kIncrements; ++i) {
        CHECK_OK(database.transact([](khonsu::Transaction &transaction) {
          const auto found = transaction.get_array("n").value_or_throw();
          transaction.put("n", batch_of({values_of(*found).front() + 1})).value_or_throw();
        }));
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  khonsu::Transaction transaction = std::move(database.begin()).value();
  CHECK(read(transaction, "n") == Values{kWriters * kIncrements});
}

// A transaction, its cursor and its arrays may go from thread to thread, and outlive the database's handle.
void handing_over() {
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  CHECK_OK(database.transact([](khonsu::Transaction &transaction) { return transaction.put("key", batch_of({1, 2})); }));
  khonsu::Transaction transaction = std::move(database.begin()).value();
  khonsu::ArrowArray array;
  std::thread([&, moved = std::move(transaction), gone = std::move(database)]() mutable {
    array = std::move(std::move(moved.get_array("key")).value().value());
    CHECK_OK(moved.put("key", batch_of({3})));
    CHECK_OK(moved.commit());
  }).join();
  std::thread([&] {
    CHECK(values_of(array) == (Values{1, 2}));
    array.reset();
  }).join();
}

}  // namespace

int main() {
  transfers();
  counters();
  handing_over();
  return check::finish("threads_test");
}
