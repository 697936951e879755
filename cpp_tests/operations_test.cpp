// Every operation of a transaction through the C++ API, and Arrow data through it.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "check.hpp"

namespace {

khonsu::Database open() {
  auto database = khonsu::Database::open();
  CHECK_OK(database);
  return std::move(database).value();
}

khonsu::Transaction begin(const khonsu::Database &database) {
  auto transaction = database.begin();
  CHECK_OK(transaction);
  return std::move(transaction).value();
}

void put(const khonsu::Database &database, khonsu::Bytes key, std::initializer_list<std::int64_t> values) {
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put(key, batch_of(values)));
  CHECK_OK(transaction.commit());
}

// The same by somebody who has read another key: who writes that, and has read this one before, cannot commit any more.
void put_having_read(const khonsu::Database &database, khonsu::Bytes other, khonsu::Bytes key,
                     std::initializer_list<std::int64_t> values) {
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.exists(other));
  CHECK_OK(transaction.put(key, batch_of(values)));
  CHECK_OK(transaction.commit());
}

std::optional<Values> committed(const khonsu::Database &database, khonsu::Bytes key) {
  khonsu::Transaction transaction = begin(database);
  return read(transaction, key);
}

void reads_and_writes() {
  khonsu::Database database = open();
  khonsu::Transaction transaction = begin(database);
  auto absent = transaction.get("key");
  CHECK(CHECK_OK(absent) && !absent.value().has_value());
  CHECK_OK(transaction.put("key", batch_of({1, 2})));
  CHECK_OK(transaction.append("key", batch_of({3})));
  CHECK_OK(transaction.append("log", batch_of({10})));
  CHECK(read(transaction, "key") == (Values{1, 2, 3}));  // its own writes
  auto found = transaction.get("key");
  if (CHECK(CHECK_OK(found) && found.value().has_value())) {
    const khonsu::ArrowSchema &schema = found.value()->schema;
    CHECK(std::string(schema->format) == "+s" && std::string(schema->children[0]->name) == "value");
    CHECK(values_of(found.value()->array) == (Values{1, 2, 3}));
  }
  CHECK_FAILS(invalid_state, transaction.commit_version());
  CHECK(committed(database, "key") == std::nullopt);
  CHECK_OK(transaction.commit());
  auto version = transaction.commit_version();
  CHECK(CHECK_OK(version) && version.value() > 0);
  CHECK_FAILS(invalid_state, transaction.commit());
  CHECK_FAILS(invalid_state, transaction.get("key"));
  CHECK_FAILS(invalid_state, transaction.put("key", batch_of({1})));
  CHECK(committed(database, "key") == (Values{1, 2, 3}) && committed(database, "log") == Values{10});

  transaction = begin(database);
  auto exists = transaction.exists("log");
  CHECK(CHECK_OK(exists) && exists.value());
  CHECK_OK(transaction.remove("log"));
  CHECK_OK(transaction.remove("never there"));
  exists = transaction.exists("log");
  CHECK(CHECK_OK(exists) && !exists.value());
  CHECK_OK(transaction.rollback());
  CHECK(committed(database, "log") == Values{10});

  khonsu::Transaction reader =
      std::move(database.begin(khonsu::TransactionOptions().read_only())).value();
  CHECK_FAILS(invalid_state, reader.put("key", batch_of({1})));
  CHECK_FAILS(invalid_state, reader.remove("key"));
  CHECK(read(reader, "log") == Values{10});
  CHECK_OK(reader.commit());
  CHECK_OK(reader.commit_version());
  CHECK_OK(database.sync());

  auto stats = database.stats();
  CHECK(CHECK_OK(stats) && stats.value().keys == 2 && stats.value().commits > 0 && stats.value().live_bytes > 0);
}

// An array that khonsu gave outlives transaction and database, and may be put again.
void arrays_outlive() {
  khonsu::Database database = open();
  put(database, "key", {1, 2, 3});
  khonsu::Transaction transaction = begin(database);
  khonsu::Batch kept = std::move(std::move(transaction.get("key")).value().value());
  CHECK_OK(transaction.remove("key"));
  CHECK_OK(transaction.commit());
  transaction = khonsu::Transaction();
  database = khonsu::Database();
  CHECK(values_of(kept.array) == (Values{1, 2, 3}));

  khonsu::Database other = open();
  transaction = begin(other);
  CHECK_OK(transaction.put("copy", std::move(kept)));
  CHECK_OK(transaction.commit());
  CHECK(committed(other, "copy") == (Values{1, 2, 3}));
}

void schemas() {
  khonsu::Database database = open();
  khonsu::Batch shape = batch_of({});
  auto schema = khonsu::Schema::from_arrow(std::move(shape.schema));
  CHECK(CHECK_OK(schema) && !shape.schema);
  auto exported = schema.value().to_arrow();
  CHECK(CHECK_OK(exported) && std::string(exported.value()->children[0]->format) == "l");

  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put("key", batch_of({1}).array, schema.value()));
  CHECK_OK(transaction.append("key", batch_of({2}).array, schema.value()));
  auto found = transaction.get("key", schema.value());
  CHECK(CHECK_OK(found) && found.value().has_value() && values_of(*found.value()) == (Values{1, 2}));
  auto absent = transaction.get("absent", schema.value());
  CHECK(CHECK_OK(absent) && !absent.value().has_value());

  khonsu::Batch mixed;
  const std::int64_t ids[] = {1, 2};
  const double amounts[] = {0.5, 1.5};
  const char *const labels[] = {"one", nullptr};
  arrow_testing_mixed_batch(mixed.array.out(), mixed.schema.out(), ids, amounts, labels, 2);
  CHECK_OK(transaction.put("mixed", std::move(mixed)));
  CHECK(!mixed.array && !mixed.schema);
  CHECK_FAILS(schema_mismatch, transaction.get("mixed", schema.value()));
  CHECK_FAILS(schema_mismatch, transaction.append("mixed", batch_of({1})));
  auto back = transaction.get("mixed");
  if (CHECK(CHECK_OK(back) && back.value().has_value())) {
    const ::ArrowArray *array = back.value()->array.get();
    CHECK(array->length == 2 && arrow_testing_double_at(array, 1, 1) == 1.5);
    CHECK(arrow_testing_utf8_equals(array, 2, 0, "one") && arrow_testing_is_null(array, 2, 1));
  }

  // A malformed array is an error, and consumed all the same.
  khonsu::Batch broken = batch_of({1});
  broken.array.get()->length = -1;
  CHECK_FAILS(invalid_argument, transaction.put("broken", std::move(broken)));
  CHECK(!broken.array && !broken.schema);
  CHECK_FAILS(invalid_argument, transaction.put("broken", khonsu::ArrowArray(), khonsu::ArrowSchema()));
}

// A bound key names what its bytes name, through deletion and return; transactions of another database refuse it.
void bound_keys() {
  khonsu::Database database = open();
  const khonsu::Schema schema =
      std::move(khonsu::Schema::from_arrow(std::move(batch_of({}).schema))).value();
  CHECK_FAILS(invalid_argument, database.bind(""));
  auto made = database.bind("key");
  if (!CHECK_OK(made)) return;
  const khonsu::Key key = std::move(made).value();
  for (int round = 0; round < 3; ++round) {
    khonsu::Transaction transaction = begin(database);
    auto absent = transaction.get(key);
    CHECK(CHECK_OK(absent) && !absent.value().has_value());
    CHECK_OK(transaction.put(key, std::move(batch_of({round}).array), schema));
    CHECK_OK(transaction.append(key, std::move(batch_of({10}).array), schema));
    CHECK(read(transaction, "key") == (Values{round, 10}));
    CHECK_OK(transaction.commit());
    transaction = begin(database);
    auto exists = transaction.exists(key);
    CHECK(CHECK_OK(exists) && exists.value());
    auto found = transaction.get(key, schema);
    CHECK(CHECK_OK(found) && found.value().has_value() && values_of(*found.value()) == (Values{round, 10}));
    auto whole = transaction.get(key);
    CHECK(CHECK_OK(whole) && whole.value().has_value() && std::string(whole.value()->schema->format) == "+s");
    CHECK_OK(transaction.remove(key));
    CHECK_OK(transaction.commit());
    CHECK_OK(database.stats());  // reclaims the key, which comes back in the next round
  }
  // Read and written by a bound key, it is a read-modify-write.
  put(database, "key", {1});
  khonsu::Transaction loser = begin(database);
  CHECK_OK(loser.get(key));
  CHECK_OK(loser.put(key, std::move(batch_of({2}).array), schema));
  put(database, "key", {3});
  CHECK_FAILS(conflict, loser.commit());

  CHECK_FAILS(invalid_argument, begin(database).get(key, khonsu::Schema()));
  CHECK_FAILS(invalid_argument, begin(database).get(khonsu::Key()));
  khonsu::Database other = open();
  khonsu::Transaction stranger = begin(other);
  CHECK_FAILS(invalid_argument, stranger.get(key));
  CHECK_FAILS(invalid_argument, stranger.put(key, std::move(batch_of({2}).array), schema));
  CHECK_FAILS(invalid_argument, stranger.remove(key));
}

void many_at_once() {
  khonsu::Database database = open();
  const khonsu::Schema schema =
      std::move(khonsu::Schema::from_arrow(std::move(batch_of({}).schema))).value();
  std::vector<std::string> names;
  khonsu::Transaction writer = begin(database);
  for (int number = 0; number < 50; ++number) {
    names.push_back("key " + std::to_string(number));
    if (number % 7 != 0) CHECK_OK(writer.put(names.back(), batch_of({number})));
  }
  CHECK_OK(writer.append(names[1], batch_of({-1})));  // of several chunks
  CHECK_OK(writer.commit());
  std::vector<khonsu::Bytes> keys(names.begin(), names.end());
  keys.emplace_back(names[5]);  // twice
  std::vector<khonsu::Key> bound;
  std::vector<const khonsu::Key *> handles;
  for (const khonsu::Bytes &key : keys) bound.push_back(std::move(database.bind(key)).value());
  for (const khonsu::Key &key : bound) handles.push_back(&key);

  khonsu::Transaction reader = begin(database);
  CHECK_OK(reader.put(names[2], batch_of({200})));  // its own writes are seen
  CHECK_OK(reader.remove(names[3]));
  CHECK_OK(reader.append(names[4], batch_of({400})));
  const auto expected = [](std::size_t number) -> Values {
    const auto value = static_cast<std::int64_t>(number);
    switch (number) {
      case 1: return {1, -1};
      case 2: return {200};
      case 3: return {};
      case 4: return {4, 400};
      case 50: return {5};
      default: return number % 7 == 0 ? Values{} : Values{value};
    }
  };
  for (int way = 0; way < 2; ++way) {
    auto found = way == 0 ? reader.get_many(keys, schema) : reader.get_many_bound(handles, schema);
    if (!CHECK_OK(found) || !CHECK(found.value().size() == keys.size())) continue;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const khonsu::ArrowArray &array = found.value()[i];
      CHECK((array ? values_of(array) : Values{}) == expected(i) && static_cast<bool>(array) == !expected(i).empty());
    }
  }
  auto batches = reader.get_many(keys);
  CHECK(CHECK_OK(batches) && batches.value().size() == keys.size() && !batches.value()[0].schema &&
        std::string(batches.value()[1].schema->children[0]->name) == "value");
  auto stream = reader.get_many_stream(keys);
  Values rows;
  if (CHECK_OK(stream)) {
    for (;;) {
      auto batch = stream.value().next();
      if (!CHECK_OK(batch) || !batch.value().has_value()) break;
      for (std::int64_t value : values_of(*batch.value(), 1)) rows.push_back(value);
    }
  }
  Values all;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (std::int64_t value : expected(i)) all.push_back(value);
  }
  CHECK(rows == all);
  auto none = reader.get_many(std::vector<khonsu::Bytes>());
  CHECK(CHECK_OK(none) && none.value().empty());
  keys.emplace_back("");
  CHECK_FAILS(invalid_argument, reader.get_many(keys, schema));
  CHECK_FAILS(invalid_argument, reader.get_many_stream(keys));
  CHECK_FAILS(invalid_argument, reader.get_many({names[1], names[2]}, khonsu::Schema()));
  auto two = reader.get_many({"key 5", "key 6"}, schema);
  CHECK(CHECK_OK(two) && values_of(two.value()[1]) == Values{6});
  CHECK_OK(reader.commit());
}

void streams() {
  khonsu::Database database = open();
  khonsu::Batch parts[] = {batch_of({1, 2}), batch_of({3})};
  ::ArrowArray arrays[] = {parts[0].array.release(), parts[1].array.release()};
  khonsu::ArrowArrayStream stream;
  arrow_testing_stream(stream.out(), parts[0].schema.get(), arrays, 2, -1);
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put("key", std::move(stream)));
  CHECK(!stream);
  CHECK_OK(transaction.commit());

  transaction = begin(database);
  auto absent = transaction.get_stream("absent");
  CHECK(CHECK_OK(absent) && !absent.value().has_value());
  auto chunks = transaction.get_stream("key");
  if (CHECK(CHECK_OK(chunks) && chunks.value().has_value())) {
    transaction = khonsu::Transaction();
    khonsu::ArrowArrayStream &reader = *chunks.value();
    CHECK_OK(reader.schema());
    auto first = reader.next();
    CHECK(CHECK_OK(first) && first.value().has_value() && values_of(*first.value()) == (Values{1, 2}));
    auto second = reader.next();
    CHECK(CHECK_OK(second) && second.value().has_value() && values_of(*second.value()) == Values{3});
    auto end = reader.next();
    CHECK(CHECK_OK(end) && !end.value().has_value());
  }

  // The failure of a producer comes back as a failed put that staged nothing.
  khonsu::Batch one = batch_of({1});
  ::ArrowArray array = one.array.release();
  arrow_testing_stream(stream.out(), one.schema.get(), &array, 1, 0);
  transaction = begin(database);
  CHECK(!transaction.put("failing", std::move(stream)).ok() && !stream);
  CHECK(read(transaction, "failing") == std::nullopt);
}

using Entries = std::vector<std::pair<std::string, Values>>;

Entries entries_of(khonsu::Result<khonsu::Cursor> cursor) {
  Entries entries;
  if (!CHECK_OK(cursor)) return entries;
  CHECK_OK(cursor.value().for_each([&](std::string_view key, khonsu::Batch batch) {
    entries.emplace_back(std::string(key), values_of(batch.array));
  }));
  return entries;
}

void scans() {
  khonsu::Database database = open();
  const std::int64_t values[] = {1, 2, 3, 4};
  const char *const keys[] = {"a", "b/1", "b/2", "c"};
  for (int i = 0; i < 4; ++i) put(database, keys[i], {values[i]});
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put("b/3", batch_of({5})));

  CHECK(entries_of(transaction.scan()) ==
        (Entries{{"a", {1}}, {"b/1", {2}}, {"b/2", {3}}, {"b/3", {5}}, {"c", {4}}}));
  CHECK(entries_of(transaction.scan({"b/2", "c"})) == (Entries{{"b/2", {3}}, {"b/3", {5}}}));
  CHECK(entries_of(transaction.scan({std::nullopt, "b/2"})) == (Entries{{"a", {1}}, {"b/1", {2}}}));
  CHECK(entries_of(transaction.scan({"b/3", std::nullopt})) == (Entries{{"b/3", {5}}, {"c", {4}}}));
  CHECK(entries_of(transaction.scan({}, khonsu::Direction::reverse, 2)) == (Entries{{"c", {4}}, {"b/3", {5}}}));
  CHECK(entries_of(transaction.scan({"", ""})).empty());  // nothing comes before the empty key
  CHECK(entries_of(transaction.scan_prefix("b/", khonsu::Direction::forward, 2)) ==
        (Entries{{"b/1", {2}}, {"b/2", {3}}}));
  CHECK(entries_of(transaction.scan_prefix("b/", khonsu::Direction::reverse)).size() == 3);
  CHECK_FAILS(invalid_argument, transaction.scan({}, static_cast<khonsu::Direction>(9)));

  auto cursor = transaction.scan_prefix("c");
  if (CHECK_OK(cursor)) {
    CHECK_FAILS(invalid_state, cursor.value().key());
    CHECK_FAILS(invalid_state, cursor.value().array());
    auto on_entry = cursor.value().next();
    CHECK(CHECK_OK(on_entry) && on_entry.value());
    auto key = cursor.value().key();
    CHECK(CHECK_OK(key) && key.value() == "c");
    auto array = cursor.value().array();
    CHECK(CHECK_OK(array) && values_of(array.value()) == Values{4});
    on_entry = cursor.value().next();
    CHECK(CHECK_OK(on_entry) && !on_entry.value());
  }
  // A visitor may end the walk with an error.
  int visits = 0;
  auto all = transaction.scan();
  CHECK_OK(all);
  auto walk = all.value().for_each([&](std::string_view, khonsu::Batch) -> khonsu::Result<void> {
    if (++visits == 2) return khonsu::Error(khonsu::Status::cancelled, "seen enough");
    return {};
  });
  CHECK_FAILS(cancelled, walk);
  CHECK(visits == 2 && walk.error().message() == "seen enough");

  auto stream = transaction.scan_stream({"b/1", "c"});
  if (CHECK_OK(stream)) {
    auto schema = stream.value().schema();
    CHECK(CHECK_OK(schema) && schema.value()->n_children == 2 &&
          std::string(schema.value()->children[0]->name) == "key" &&
          std::string(schema.value()->children[1]->name) == "value");
    std::vector<std::int64_t> seen;
    std::vector<std::string> expected{"b/1", "b/2", "b/3"};
    for (;;) {
      auto batch = stream.value().next();
      if (!CHECK_OK(batch) || !batch.value().has_value()) break;
      const ::ArrowArray *array = batch.value()->get();
      for (std::int64_t row = 0; row < array->length; ++row) {
        CHECK(seen.size() < expected.size() &&
              arrow_testing_binary_equals(array, 0, row, expected[seen.size()].data(), expected[seen.size()].size()));
        seen.push_back(arrow_testing_int64_at(array, 1, row));
      }
    }
    CHECK(seen == (Values{2, 3, 5}));
  }
  CHECK_OK(transaction.commit());
  auto ended = transaction.scan();
  CHECK_FAILS(invalid_state, ended);
  CHECK_FAILS(invalid_state, all.value().next());
}

void savepoints() {
  khonsu::Database database = open();
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put("key", batch_of({1})));
  {
    auto mark = transaction.savepoint();
    CHECK_OK(mark);
    CHECK_OK(transaction.put("key", batch_of({2})));
    CHECK_OK(transaction.put("other", batch_of({2})));
  }  // not released: undone
  CHECK(read(transaction, "key") == Values{1} && read(transaction, "other") == std::nullopt);
  {
    khonsu::Savepoint mark = std::move(transaction.savepoint()).value();
    CHECK_OK(transaction.put("key", batch_of({3})));
    CHECK_OK(mark.rollback());
    CHECK(read(transaction, "key") == Values{1});
    CHECK_OK(transaction.put("key", batch_of({4})));
    CHECK_OK(mark.release());
    CHECK_FAILS(invalid_argument, mark.rollback());
  }
  CHECK(read(transaction, "key") == Values{4});
  khonsu::Savepoint outer = std::move(transaction.savepoint()).value();
  CHECK_OK(transaction.put("key", batch_of({5})));
  khonsu::Savepoint inner = std::move(transaction.savepoint()).value();
  CHECK(inner.id() != outer.id());
  CHECK_OK(outer.rollback());
  CHECK_FAILS(invalid_argument, inner.rollback());
  khonsu::Savepoint moved(std::move(outer));
  CHECK_OK(moved.release());
  CHECK_OK(transaction.commit());
  CHECK(committed(database, "key") == Values{4});
  CHECK_FAILS(invalid_state, transaction.savepoint());
}

void conflicts() {
  khonsu::Database database = open();
  put(database, "key", {1});
  put(database, "range/a", {1});

  // Write-write: key and version of the other commit are told.
  khonsu::Transaction loser = begin(database);
  CHECK_OK(loser.put("key", batch_of({2})));
  khonsu::Transaction winner = begin(database);
  CHECK_OK(winner.put("key", batch_of({3})));
  CHECK_OK(winner.commit());
  auto commit = loser.commit();
  CHECK_FAILS(conflict, commit);
  CHECK(commit.error().retryable());
  auto told = commit.error().conflicts();
  CHECK(told.size() == 1 && told[0].kind == khonsu::ConflictKind::write_write && told[0].key == "key" &&
        !told[0].range.has_value() && told[0].version == winner.commit_version().value());

  // Read-write.
  khonsu::Transaction reader = begin(database);
  CHECK(read(reader, "key") == Values{3});
  CHECK_OK(reader.put("sum", batch_of({3})));
  put_having_read(database, "sum", "key", {4});
  commit = reader.commit();
  CHECK_FAILS(conflict, commit);
  told = commit.error().conflicts();
  CHECK(told.size() == 1 && told[0].kind == khonsu::ConflictKind::read_write && told[0].key == "key");

  // Phantom: the range is told, too.
  khonsu::Transaction scanner = begin(database);
  CHECK(entries_of(scanner.scan({"range/", "range0"})).size() == 1);
  CHECK_OK(scanner.put("count", batch_of({1})));
  put_having_read(database, "count", "range/b", {2});
  commit = scanner.commit();
  CHECK_FAILS(conflict, commit);
  told = commit.error().conflicts();
  if (CHECK(told.size() == 1 && told[0].kind == khonsu::ConflictKind::phantom && told[0].key == "range/b" &&
            told[0].range.has_value())) {
    CHECK(told[0].range->start == "range/" && told[0].range->end == "range0");
  }
  CHECK(committed(database, "sum") == std::nullopt && committed(database, "count") == std::nullopt);

  // The resolution of one staged write.
  khonsu::Transaction appender = begin(database);
  auto staged = appender.set_conflict_resolution("key", khonsu::ConflictResolution::append);
  CHECK(CHECK_OK(staged) && !staged.value());
  CHECK_OK(appender.put("key", batch_of({7})));
  staged = appender.set_conflict_resolution("key", khonsu::ConflictResolution::append);
  CHECK(CHECK_OK(staged) && staged.value());
  put(database, "key", {6});
  CHECK_OK(appender.commit());
  CHECK(committed(database, "key") == (Values{6, 7}));

  // The resolution of a transaction.
  khonsu::Transaction replacer =
      std::move(database.begin(
                    khonsu::TransactionOptions().conflict_resolution(khonsu::ConflictResolution::replace)))
          .value();
  CHECK_OK(replacer.put("key", batch_of({8})));
  put(database, "key", {9});
  CHECK_OK(replacer.commit());
  CHECK(committed(database, "key") == Values{8});
}

void limits() {
  khonsu::Database database = std::move(khonsu::Database::open(khonsu::Options().max_transaction_bytes(256))).value();
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put("small", batch_of({1})));
  const std::vector<std::int64_t> many(1000, 1);
  khonsu::Batch large;
  arrow_testing_int64_batch(large.array.out(), large.schema.out(), "value", many.data(), 1000);
  CHECK_FAILS(limit_exceeded, transaction.put("large", std::move(large)));
  CHECK(!large.array && !large.schema);
  CHECK_OK(transaction.commit());  // it goes on
  CHECK(committed(database, "small") == Values{1} && committed(database, "large") == std::nullopt);
}

void ipc() {
  char path[] = "/tmp/khonsu_operations_XXXXXX";
  const int file = mkstemp(path);
  if (!CHECK(file >= 0)) return;
  close(file);
  khonsu::Database database = open();
  put(database, "a", {1, 2});
  put(database, "b", {3});
  for (auto format : {khonsu::IpcFormat::file, khonsu::IpcFormat::stream}) {
    for (auto compression :
         {khonsu::IpcCompression::none, khonsu::IpcCompression::lz4, khonsu::IpcCompression::zstd}) {
      khonsu::Transaction transaction = begin(database);
      auto scan = transaction.scan_stream();
      CHECK_OK(scan);
      CHECK_OK(khonsu::ipc_write_stream(path, std::move(scan).value(), format, compression));
      auto opened = khonsu::ipc_open_stream(path);
      if (!CHECK_OK(opened)) continue;
      Values values;
      for (;;) {
        auto batch = opened.value().next();
        if (!CHECK_OK(batch) || !batch.value().has_value()) break;
        for (std::int64_t value : values_of(*batch.value(), 1)) values.push_back(value);
      }
      CHECK(values == (Values{1, 2, 3}));
    }
  }
  std::FILE *damaged = std::fopen(path, "wb");
  std::fputs("this is no Arrow file", damaged);
  std::fclose(damaged);
  CHECK_FAILS(corruption, khonsu::ipc_open_stream(path));
  std::remove(path);
  CHECK_FAILS(storage, khonsu::ipc_open_stream(path));
}

}  // namespace

int main() {
  reads_and_writes();
  arrays_outlive();
  schemas();
  bound_keys();
  many_at_once();
  streams();
  scans();
  savepoints();
  conflicts();
  limits();
  ipc();
  return check::finish("operations_test");
}
