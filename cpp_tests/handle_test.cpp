// Ownership: every handle is move-only, adopts and gives away, and an empty one fails without harm; Result and Error.
#include <array>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

using namespace std::string_literals;

template <typename T>
constexpr bool move_only = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
                           std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>;

static_assert(move_only<khonsu::Database> && move_only<khonsu::Transaction> && move_only<khonsu::Cursor> &&
              move_only<khonsu::Schema> && move_only<khonsu::Options> && move_only<khonsu::TransactionOptions> &&
              move_only<khonsu::Error> && move_only<khonsu::Savepoint> && move_only<khonsu::ArrowArray> &&
              move_only<khonsu::ArrowSchema> && move_only<khonsu::ArrowArrayStream>);
static_assert(!std::is_convertible_v<khonsu::Result<bool>, bool>, "a Result<bool> must not pass for its value");

khonsu::Database open() {
  auto database = khonsu::Database::open();
  CHECK_OK(database);
  return std::move(database).value();
}

// Moves, gives away and adopts one handle; the raw handle stays the same throughout.
template <typename Handle>
void check_ownership(Handle first) {
  auto *const raw = first.get();
  CHECK(raw != nullptr && first);
  Handle second(std::move(first));
  CHECK(first.get() == nullptr && !first && second.get() == raw);
  Handle third;
  third = std::move(second);
  CHECK(second.get() == nullptr && third.get() == raw);
  Handle &same = third;
  third = std::move(same);
  CHECK(third.get() == raw);
  auto *const given = third.release();
  CHECK(given == raw && third.get() == nullptr);
  Handle adopted(given);
  CHECK(adopted.get() == raw);
}

void handles() {
  khonsu::Database database = open();
  auto transaction = database.begin();
  CHECK_OK(transaction);
  auto cursor = transaction.value().scan();
  CHECK_OK(cursor);
  auto schema = khonsu::Schema::from_arrow(batch_of({}).schema);
  CHECK_OK(schema);
  auto failure = transaction.value().get("");
  CHECK_FAILS(invalid_argument, failure);

  check_ownership(std::move(cursor).value());
  check_ownership(std::move(transaction).value());
  check_ownership(std::move(schema).value());
  check_ownership(std::move(database));
  check_ownership(khonsu::Options());
  check_ownership(khonsu::TransactionOptions());
  check_ownership(std::move(failure).error());
}

void empty_handles() {
  khonsu::Database database = open();
  khonsu::Transaction open_transaction = std::move(database.begin()).value();
  khonsu::Transaction moved_to(std::move(open_transaction));

  CHECK_FAILS(invalid_argument, open_transaction.get("key"));
  CHECK_FAILS(invalid_argument, open_transaction.get_stream("key"));
  CHECK_FAILS(invalid_argument, open_transaction.exists("key"));
  CHECK_FAILS(invalid_argument, open_transaction.put("key", batch_of({1})));
  CHECK_FAILS(invalid_argument, open_transaction.append("key", batch_of({1})));
  CHECK_FAILS(invalid_argument, open_transaction.remove("key"));
  CHECK_FAILS(invalid_argument, open_transaction.scan());
  CHECK_FAILS(invalid_argument, open_transaction.scan_prefix("k"));
  CHECK_FAILS(invalid_argument, open_transaction.scan_stream());
  CHECK_FAILS(invalid_argument, open_transaction.savepoint());
  CHECK_FAILS(invalid_argument, open_transaction.set_conflict_resolution("key", khonsu::ConflictResolution::fail));
  CHECK_FAILS(invalid_argument, open_transaction.commit());
  CHECK_FAILS(invalid_argument, open_transaction.rollback());
  CHECK_FAILS(invalid_argument, open_transaction.commit_version());
  CHECK_OK(moved_to.rollback());

  khonsu::Cursor cursor;
  CHECK_FAILS(invalid_argument, cursor.next());
  CHECK_FAILS(invalid_argument, cursor.key());
  CHECK_FAILS(invalid_argument, cursor.batch());
  CHECK_FAILS(invalid_argument, cursor.array());
  CHECK_FAILS(invalid_argument, khonsu::Schema().to_arrow());

  khonsu::Database nothing;
  CHECK_FAILS(invalid_argument, nothing.begin());
  CHECK_FAILS(invalid_argument, nothing.stats());
  CHECK_FAILS(invalid_argument, nothing.sync());
  int runs = 0;
  CHECK_FAILS(invalid_argument, nothing.transact([&](khonsu::Transaction &) { ++runs; }));
  CHECK(runs == 0);
}

void options() {
  khonsu::Options options;
  options.isolation(khonsu::Isolation::repeatable_read)
      .conflict_resolution(khonsu::ConflictResolution::append)
      .max_transaction_bytes(1 << 20)
      .max_total_bytes(1 << 24)
      .full_validation(true);
  CHECK_OK(options.check());
  CHECK_OK(khonsu::Database::open(options));
  CHECK_OK(khonsu::Database::open(options));  // copied, not consumed

  // The first failure of a chain is the one that is told, however often it is asked.
  options.isolation(static_cast<khonsu::Isolation>(77)).full_validation(false);
  CHECK_FAILS(invalid_argument, options.check());
  CHECK_FAILS(invalid_argument, khonsu::Database::open(options));
  khonsu::Options moved(std::move(options));
  CHECK_FAILS(invalid_argument, khonsu::Database::open(moved));

  khonsu::Options source;
  khonsu::Options target(std::move(source));
  CHECK_OK(khonsu::Database::open(target));
  CHECK_FAILS(invalid_argument, khonsu::Database::open(source));  // not the defaults in silence

  khonsu::Database database = open();
  khonsu::TransactionOptions negative;
  negative.timeout(std::chrono::milliseconds(-1));
  CHECK_FAILS(invalid_argument, database.begin(negative));
  CHECK_FAILS(invalid_argument, database.transact(negative, [](khonsu::Transaction &) {}));
  khonsu::TransactionOptions inverted;
  inverted.conflict_resolution(static_cast<khonsu::ConflictResolution>(-1));
  CHECK_FAILS(invalid_argument, database.begin(inverted));
  CHECK_OK(database.begin(khonsu::TransactionOptions()
                              .isolation(khonsu::Isolation::read_committed)
                              .conflict_resolution(khonsu::ConflictResolution::ignore)
                              .read_only()
                              .max_bytes(100)
                              .max_attempts(3)
                              .timeout(std::chrono::seconds(1))
                              .backoff(std::chrono::microseconds(1), std::chrono::milliseconds(1))));
}

// Children keep their parents alive: any order of destruction is fine.
void order_of_destruction() {
  khonsu::Database database = open();
  CHECK_OK(database.transact([](khonsu::Transaction &transaction) { return transaction.put("key", batch_of({5})); }));
  khonsu::Transaction transaction = std::move(database.begin()).value();
  khonsu::Cursor cursor = std::move(transaction.scan()).value();
  database = khonsu::Database();
  CHECK(read(transaction, "key") == Values{5});
  auto on_entry = cursor.next();
  CHECK(CHECK_OK(on_entry) && on_entry.value());
  khonsu::Batch kept = std::move(cursor.batch()).value();
  transaction = khonsu::Transaction();
  cursor = khonsu::Cursor();
  CHECK(values_of(kept.array) == Values{5});
}

void arrow_structs() {
  khonsu::Batch batch = batch_of({1, 2});
  ::ArrowArray *const place = batch.array.get();
  CHECK(batch.array && place->length == 2 && batch.array->length == 2);
  khonsu::ArrowArray moved(std::move(batch.array));
  CHECK(!batch.array && place->release == nullptr && moved->length == 2);
  khonsu::ArrowArray &same = moved;
  moved = std::move(same);
  CHECK(values_of(moved) == (Values{1, 2}));
  ::ArrowArray given = moved.release();
  CHECK(!moved && given.length == 2);
  khonsu::ArrowArray adopted(&given);
  CHECK(given.release == nullptr && adopted->length == 2);
  CHECK(adopted.out()->release == nullptr && !adopted);
  CHECK(!khonsu::ArrowArray(nullptr) && !khonsu::ArrowSchema() && !khonsu::ArrowArrayStream());
  batch.schema.reset();
  batch.schema.reset();
  CHECK(arrow_testing_live_arrays() == 0 && arrow_testing_live_schemas() == 0);

  khonsu::ArrowArrayStream stream;
  CHECK_FAILS(invalid_argument, stream.next());
  CHECK_FAILS(invalid_argument, stream.schema());
  khonsu::Batch two[] = {batch_of({1}), batch_of({2})};
  ::ArrowArray arrays[] = {two[0].array.release(), two[1].array.release()};
  arrow_testing_stream(stream.out(), two[0].schema.get(), arrays, 2, 1);
  auto schema = stream.schema();
  CHECK(CHECK_OK(schema) && std::string(schema.value()->format) == "+s");
  auto first = stream.next();
  CHECK(CHECK_OK(first) && first.value().has_value() && values_of(*first.value()) == Values{1});
  CHECK_FAILS(storage, stream.next());
}

void results_and_errors() {
  khonsu::Result<std::vector<int>> good = std::vector<int>{1, 2};
  CHECK(good.ok() && good.status() == khonsu::Status::ok && good.value().size() == 2);
  std::vector<int> taken = std::move(good).value();
  CHECK(taken.size() == 2);
  khonsu::Result<std::vector<int>> bad = khonsu::Error(khonsu::Status::cancelled, "enough");
  CHECK(!bad.ok() && bad.status() == khonsu::Status::cancelled && bad.error().message() == "enough");
  CHECK(bad.error().to_string() == "CANCELLED: enough" && bad.error().conflicts().empty());
  khonsu::Result<void> nothing;
  CHECK(nothing.ok() && nothing.status() == khonsu::Status::ok);

  const khonsu::Error none;
  CHECK(none.status() == khonsu::Status::ok && none.message().empty() && none.conflicts().empty());
  CHECK(!none.retryable() && khonsu::Error(khonsu::Status::conflict).retryable());
  CHECK(khonsu::status_name(khonsu::Status::schema_mismatch) == "SCHEMA_MISMATCH");
  CHECK(khonsu::status_name(static_cast<khonsu::Status>(12345)) == "UNKNOWN");
  CHECK(khonsu::version() == KHONSU_VERSION_STRING);

  CHECK(khonsu::Result<int>(7).value_or_throw() == 7);
  try {
    std::move(bad).value_or_throw();
    CHECK(false);
  } catch (const khonsu::Exception &exception) {
    const khonsu::Exception copy = exception;
    CHECK(copy.status() == khonsu::Status::cancelled && copy.what() == "CANCELLED: enough"s);
  }
  khonsu::Database database = open();
  try {
    std::move(database.begin()).value().put("", batch_of({1})).value_or_throw();
    CHECK(false);
  } catch (const std::exception &exception) {
    CHECK(std::string(exception.what()).rfind("INVALID_ARGUMENT: ", 0) == 0);
  }
}

// Everything contiguous of bytes is a key, and the same bytes are the same key.
void keys() {
  khonsu::Database database = open();
  khonsu::Transaction transaction = std::move(database.begin()).value();
  const char zero[] = {'k', '\0', 'y'};
  CHECK_OK(transaction.put(khonsu::Bytes(zero, 3), batch_of({1})));
  CHECK_OK(transaction.put("plain", batch_of({2})));
  CHECK(read(transaction, "k\0y"s) == Values{1});
  CHECK(read(transaction, std::string_view(zero, 3)) == Values{1});
  CHECK(read(transaction, std::vector<unsigned char>{'k', 0, 'y'}) == Values{1});
  CHECK(read(transaction, std::array<std::byte, 3>{std::byte{'k'}, std::byte{0}, std::byte{'y'}}) == Values{1});
  CHECK(read(transaction, std::string("plain")) == Values{2});
  CHECK(read(transaction, "k") == std::nullopt);
  CHECK_FAILS(invalid_argument, transaction.get(std::string_view()));
  CHECK_FAILS(invalid_argument, transaction.get(std::string(KHONSU_KEY_MAX_BYTES + 1, 'x')));
  CHECK_OK(transaction.put(std::string(KHONSU_KEY_MAX_BYTES, 'x'), batch_of({3})));
}

}  // namespace

int main() {
  handles();
  empty_handles();
  options();
  order_of_destruction();
  arrow_structs();
  results_and_errors();
  keys();
  return check::finish("handle_test");
}
