// Database::transact: what a body may return and throw, and what comes of conflicts.
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

khonsu::Database open() {
  auto database = khonsu::Database::open();
  CHECK_OK(database);
  return std::move(database).value();
}

std::optional<Values> committed(const khonsu::Database &database, khonsu::Bytes key) {
  khonsu::Transaction transaction = std::move(database.begin()).value();
  return read(transaction, key);
}

// Commits a write of key from outside, which makes a transaction that has read key conflict.
void interfere(const khonsu::Database &database, khonsu::Bytes key, std::int64_t value) {
  khonsu::Transaction other = std::move(database.begin()).value();
  // What the disturbed one writes, so that neither can come before the other.
  CHECK_OK(other.exists("sum"));
  CHECK_OK(other.put(key, batch_of({value})));
  CHECK_OK(other.commit());
}

void returned_values() {
  khonsu::Database database = open();
  std::uint64_t version = 0;
  khonsu::Result<void> nothing = database.transact(
      [](khonsu::Transaction &transaction) { CHECK_OK(transaction.put("void", batch_of({1}))); }, &version);
  CHECK_OK(nothing);
  CHECK(version > 0 && committed(database, "void") == Values{1});
  khonsu::Result<void> result_of_void =
      database.transact([](khonsu::Transaction &transaction) { return transaction.put("key", batch_of({2})); });
  CHECK_OK(result_of_void);
  khonsu::Result<std::int64_t> plain =
      database.transact([](khonsu::Transaction &transaction) { return read(transaction, "key")->front(); });
  CHECK(CHECK_OK(plain) && plain.value() == 2);
  khonsu::Result<bool> result_of_value =
      database.transact([](khonsu::Transaction &transaction) { return transaction.exists("absent"); });
  CHECK(CHECK_OK(result_of_value) && !result_of_value.value());
  // What cannot be copied, and what cannot be made without arguments.
  khonsu::Result<std::unique_ptr<int>> moved =
      database.transact([](khonsu::Transaction &) { return std::make_unique<int>(3); });
  CHECK(CHECK_OK(moved) && *moved.value() == 3);
  khonsu::Result<std::optional<khonsu::Batch>> batch =
      database.transact([](khonsu::Transaction &transaction) { return transaction.get("key"); });
  CHECK(CHECK_OK(batch) && batch.value().has_value() && values_of(batch.value()->array) == Values{2});
  // A named and a const body.
  const auto body = [](khonsu::Transaction &) { return 4; };
  CHECK(database.transact(body).value() == 4);
  struct Counter {
    int calls = 0;
    int operator()(khonsu::Transaction &) { return ++calls; }
  } counter;
  CHECK(database.transact(counter).value() == 1 && counter.calls == 1);
}

void failures_of_the_body() {
  khonsu::Database database = open();
  int runs = 0;
  auto given_up = database.transact([&](khonsu::Transaction &transaction) -> khonsu::Result<int> {
    ++runs;
    CHECK_OK(transaction.put("key", batch_of({1})));
    return khonsu::Error(khonsu::Status::cancelled, "the account is closed");
  });
  CHECK_FAILS(cancelled, given_up);
  CHECK(runs == 1 && given_up.error().message() == "the account is closed");
  auto passed_on = database.transact([](khonsu::Transaction &transaction) { return transaction.put("", batch_of({1})); });
  CHECK_FAILS(invalid_argument, passed_on);
  CHECK(committed(database, "key") == std::nullopt);
  // An error that claims success is a failure.
  auto odd = database.transact([](khonsu::Transaction &) -> khonsu::Result<void> { return khonsu::Error(); });
  CHECK(!odd.ok());
  // The body may not end its transaction.
  CHECK_FAILS(invalid_state, database.transact([](khonsu::Transaction &transaction) { return transaction.commit(); }));
}

void conflicts_are_rerun() {
  khonsu::Database database = open();
  interfere(database, "key", 1);
  int runs = 0;
  auto sum = database.transact([&](khonsu::Transaction &transaction) {
    const std::int64_t value = read(transaction, "key")->front();
    if (++runs < 3) interfere(database, "key", 10 * runs);
    CHECK_OK(transaction.put("sum", batch_of({value})));
    return value;
  });
  CHECK(CHECK_OK(sum) && runs == 3 && sum.value() == 20 && committed(database, "sum") == Values{20});

  runs = 0;
  auto limited = database.transact(khonsu::TransactionOptions().max_attempts(2), [&](khonsu::Transaction &transaction) {
    read(transaction, "key");
    interfere(database, "key", ++runs);
    return transaction.put("sum", batch_of({0}));
  });
  CHECK_FAILS(conflict, limited);
  CHECK(runs == 2 && !limited.error().conflicts().empty() && limited.error().conflicts()[0].key == "key");

  // A conflict that the body returns is rerun, too.
  runs = 0;
  auto asked = database.transact([&](khonsu::Transaction &) -> khonsu::Result<int> {
    if (++runs < 3) return khonsu::Error(khonsu::Status::conflict, "not yet");
    return runs;
  });
  CHECK(CHECK_OK(asked) && asked.value() == 3);

  auto late = database.transact(khonsu::TransactionOptions().timeout(std::chrono::milliseconds(20)),
                                [](khonsu::Transaction &) -> khonsu::Result<void> {
                                  return khonsu::Error(khonsu::Status::conflict, "never");
                                });
  CHECK_FAILS(timeout, late);
  auto stats = database.stats();
  CHECK(CHECK_OK(stats) && stats.value().retries >= 5 && stats.value().active_transactions == 0);
}

void exceptions() {
  khonsu::Database database = open();
  int runs = 0;
  try {
    auto never = database.transact([&](khonsu::Transaction &transaction) {
      ++runs;
      CHECK_OK(transaction.put("key", batch_of({1})));
      throw std::runtime_error("out of luck");
    });
    CHECK(never.ok() && false);
  } catch (const std::runtime_error &exception) {
    CHECK(std::string(exception.what()) == "out of luck");
  }
  CHECK(runs == 1 && committed(database, "key") == std::nullopt);
  try {
    auto never = database.transact([](khonsu::Transaction &) -> int { throw 42; });
    CHECK(never.ok() && false);
  } catch (int thrown) {
    CHECK(thrown == 42);
  }
  // value_or_throw of a failure that is not retryable leaves transact as it is.
  try {
    auto never = database.transact(
        [](khonsu::Transaction &transaction) { transaction.put("", batch_of({1})).value_or_throw(); });
    CHECK(never.ok() && false);
  } catch (const khonsu::Exception &exception) {
    CHECK(exception.status() == khonsu::Status::invalid_argument);
  }
  // One without a failure inside is a failure all the same: nothing may be committed.
  try {
    auto never = database.transact([](khonsu::Transaction &transaction) -> int {
      CHECK_OK(transaction.put("key", batch_of({1})));
      throw khonsu::Exception(khonsu::Error());
    });
    CHECK(never.ok() && false);
  } catch (const khonsu::Exception &exception) {
    CHECK(exception.status() == khonsu::Status::ok);
  }
  CHECK(committed(database, "key") == std::nullopt);
  // One that is retryable is rerun; when the attempts are used up, it is a result like any other conflict.
  runs = 0;
  const auto conflicting = [&](int until) {
    return [&runs, until](khonsu::Transaction &) {
      if (++runs < until) throw khonsu::Exception(khonsu::Error(khonsu::Status::conflict, "again"));
      return runs;
    };
  };
  auto third = database.transact(conflicting(3));
  CHECK(CHECK_OK(third) && third.value() == 3);
  runs = 0;
  CHECK_FAILS(conflict, database.transact(khonsu::TransactionOptions().max_attempts(2), conflicting(3)));
  auto stats = database.stats();
  CHECK(CHECK_OK(stats) && stats.value().active_transactions == 0);
}

// Transactions may be nested as far as they do not wait for each other: transact within a body is one of its own.
void nested() {
  khonsu::Database database = open();
  auto outer = database.transact([&](khonsu::Transaction &transaction) -> khonsu::Result<int> {
    auto inner = database.transact([](khonsu::Transaction &other) { return other.put("inner", batch_of({1})); });
    CHECK_OK(inner);
    CHECK_OK(transaction.put("outer", batch_of({2})));
    return 1;
  });
  CHECK_OK(outer);
  CHECK(committed(database, "inner") == Values{1} && committed(database, "outer") == Values{2});
}

}  // namespace

int main() {
  returned_values();
  failures_of_the_body();
  conflicts_are_rerun();
  exceptions();
  nested();
  return check::finish("transact_test");
}
