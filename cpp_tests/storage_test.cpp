// Stored databases and storages of one's own through the C++ API.
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"

namespace {

/// A directory that goes with the test.
struct Folder {
  Folder() {
    char name[] = "/tmp/khonsu_storage_XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    path = name;
  }
  ~Folder() { CHECK(std::system(("rm -r " + path).c_str()) == 0); }
  std::string path;
};

khonsu::Database open(const std::string &path) {
  auto database = khonsu::Database::open(khonsu::Options().path(path).durability(khonsu::Durability::buffered));
  CHECK_OK(database);
  return std::move(database).value();
}

void put(const khonsu::Database &database, khonsu::Bytes key, std::initializer_list<std::int64_t> values) {
  auto transaction = database.begin(khonsu::TransactionOptions().durability(khonsu::Durability::synced));
  CHECK_OK(transaction);
  CHECK_OK(transaction.value().put(key, batch_of(values)));
  CHECK_OK(transaction.value().commit());
}

std::optional<Values> committed(const khonsu::Database &database, khonsu::Bytes key) {
  auto transaction = database.begin();
  CHECK_OK(transaction);
  return read(transaction.value(), key);
}

void directories() {
  Folder folder;
  const std::string path = folder.path + "/database";
  {
    khonsu::Database database = open(path);
    put(database, "a", {1, 2});
    CHECK_FAILS(locked, khonsu::Database::open(khonsu::Options().path(path)));
    CHECK_OK(database.sync());
    CHECK_OK(database.checkpoint());
    put(database, "b", {3});
    CHECK_OK(database.backup(folder.path + "/copy"));
    CHECK_FAILS(storage, database.backup(folder.path + "/copy"));
    CHECK_OK(database.export_to(folder.path + "/files"));
  }
  CHECK(committed(open(path), "a") == (Values{1, 2}));
  CHECK(committed(open(path), "b") == (Values{3}));
  CHECK(committed(open(folder.path + "/copy"), "b") == (Values{3}));
  auto memory = khonsu::Database::open();
  CHECK_OK(memory);
  CHECK_OK(memory.value().import_from(folder.path + "/files"));
  CHECK(committed(memory.value(), "a") == (Values{1, 2}));
  CHECK_FAILS(storage, memory.value().import_from(folder.path + "/nowhere"));
}

khonsu_stats stats_of(const khonsu::Database &database) {
  auto stats = database.stats();
  CHECK_OK(stats);
  return stats.value();
}

void memory_budgets() {
  constexpr std::uint64_t kBudget = 40000;
  constexpr int kKeys = 300;
  Folder folder;
  const std::string path = folder.path + "/database";
  const auto open_within = [&](std::uint64_t budget) {
    auto database = khonsu::Database::open(
        khonsu::Options().path(path).durability(khonsu::Durability::buffered).memory_budget(budget));
    CHECK_OK(database);
    return std::move(database).value();
  };
  const auto key_of = [](int number) { return "key/" + std::to_string(1000 + number); };
  const auto check_values = [&](const khonsu::Database &database, std::int64_t more) {
    auto begun = database.begin();
    CHECK_OK(begun);
    khonsu::Transaction &transaction = begun.value();
    for (int number = 0; number < kKeys; ++number) {
      const std::int64_t first = number;
      CHECK(read(transaction, key_of(number)) == (Values{first, first + 1, more}));
    }
    // The stream has each value once, whatever of them is in memory; so has a cursor.
    auto stream = transaction.scan_stream();
    if (!CHECK_OK(stream)) return;
    std::int64_t rows = 0;
    for (;;) {
      auto batch = stream.value().next();
      if (!CHECK_OK(batch) || !batch.value().has_value()) break;
      rows += (*batch.value())->length;
    }
    CHECK(rows == 3 * kKeys);
    auto cursor = transaction.scan();
    if (!CHECK_OK(cursor)) return;
    int number = 0;
    CHECK_OK(cursor.value().for_each([&](std::string_view key, khonsu::Batch batch) {
      CHECK(key == key_of(number) && values_of(batch.array) == (Values{number, number + 1, more}));
      ++number;
    }));
    CHECK(number == kKeys);
  };
  // Many keys at once, and bound ones: each value is what it is, wherever it is, or replaced by the transaction.
  const auto check_many = [&](const khonsu::Database &database) {
    std::vector<std::string> names;
    std::vector<khonsu::Key> bound;
    for (int number = 0; number < kKeys; ++number) {
      names.push_back(key_of(number));
      auto key = database.bind(names.back());
      if (!CHECK_OK(key)) return;
      bound.push_back(std::move(key).value());
    }
    const std::vector<khonsu::Bytes> keys(names.begin(), names.end());
    std::vector<const khonsu::Key *> handles;
    for (const auto &key : bound) handles.push_back(&key);
    auto begun = database.begin();
    CHECK_OK(begun);
    khonsu::Transaction &transaction = begun.value();
    khonsu::Batch sample = batch_of({0});
    auto schema = khonsu::Schema::from_arrow(std::move(sample.schema));
    if (!CHECK_OK(schema)) return;
    CHECK_OK(transaction.put(bound[3], std::move(batch_of({-3}).array), schema.value()));
    CHECK_OK(transaction.append(bound[4], std::move(batch_of({-4}).array), schema.value()));
    const auto expected = [](std::size_t key) {
      const auto number = static_cast<std::int64_t>(key);
      if (number == 3) return Values{-3};
      if (number == 4) return Values{4, 5, 5, -4};
      return Values{number, number + 1, 5};
    };
    for (bool as_bound : {false, true}) {
      auto found = as_bound ? transaction.get_many_bound(handles, schema.value())
                            : transaction.get_many(keys, schema.value());
      if (!CHECK_OK(found) || !CHECK(found.value().size() == keys.size())) return;
      for (std::size_t i = 0; i < keys.size(); ++i) CHECK(values_of(found.value()[i]) == expected(i));
    }
    auto stream = transaction.get_many_stream(keys);
    if (!CHECK_OK(stream)) return;
    Values rows;
    for (;;) {
      auto batch = stream.value().next();
      if (!CHECK_OK(batch) || !batch.value().has_value()) break;
      for (std::int64_t value : values_of(*batch.value(), 1)) rows.push_back(value);
    }
    Values all;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      for (std::int64_t value : expected(i)) all.push_back(value);
    }
    CHECK(rows == all);
    auto found = transaction.get(bound[5]);
    CHECK(CHECK_OK(found) && found.value().has_value() && values_of(found.value()->array) == expected(5));
  };
  {
    khonsu::Database database = open_within(kBudget);
    for (std::int64_t number = 0; number < kKeys; ++number) {
      put(database, key_of(static_cast<int>(number)), {number, number + 1, 5});
    }
    CHECK(stats_of(database).resident_bytes == stats_of(database).live_bytes);
    CHECK_OK(database.checkpoint());
    check_values(database, 5);
  }
  {
    khonsu::Database database = open_within(1);
    khonsu_stats stats = stats_of(database);
    CHECK(stats.resident_bytes == 0 && stats.cold_bytes > 0 && stats.cold_reads == 0);
    check_values(database, 5);
    stats = stats_of(database);
    CHECK(stats.resident_bytes == 0 && stats.cold_reads == 3 * kKeys);
    check_many(database);
    CHECK_OK(database.backup(folder.path + "/copy"));
    CHECK_OK(database.export_to(folder.path + "/files"));
  }
  check_values(open(path), 5);
  check_values(open(folder.path + "/copy"), 5);
  CHECK_FAILS(invalid_argument, khonsu::Database::open(khonsu::Options().memory_budget(kBudget)));

  // Damage is found by who reads the value; the transaction goes on.
  khonsu::Database database = open_within(1);
  CHECK(std::system(("for file in " + path + "/checkpoint-*/*.arrows; do printf damage | "
                     "dd of=$file bs=1 seek=2000 conv=notrunc status=none; done").c_str()) == 0);
  auto transaction = database.begin();
  CHECK_OK(transaction);
  auto found = transaction.value().get(key_of(7));
  CHECK(!found.ok() && found.status() == khonsu::Status::corruption &&
        std::string(found.error().message()).find(path) != std::string::npos);
  CHECK_FAILS(corruption, transaction.value().get_stream(key_of(7)));
  auto stream = transaction.value().scan_stream();
  if (CHECK_OK(stream)) {
    auto batch = stream.value().next();
    CHECK(!batch.ok() && std::string(batch.error().message()).find(path) != std::string::npos);
  }
  auto cursor = transaction.value().scan();
  CHECK_OK(cursor);
  CHECK_FAILS(corruption, cursor.value().next());
  CHECK_OK(transaction.value().put(key_of(7), batch_of({7})));
  CHECK(read(transaction.value(), key_of(7)) == (Values{7}));
  CHECK_OK(transaction.value().commit());
  CHECK_FAILS(corruption, database.checkpoint());
  CHECK(committed(database, key_of(7)) == (Values{7}));
}

/// Fails where it is told to, in the way that it is told to.
struct Failing : khonsu::Storage {
  khonsu::Result<void> load(khonsu::Loader &loader) override {
    khonsu::Batch batch = batch_of({7});
    CHECK_OK(loader.put("loaded", 3, std::move(batch.array), std::move(batch.schema)));
    return loader.set_version(5);
  }
  khonsu::Result<void> apply(const khonsu::Mutations &mutations, khonsu::Durability) override {
    CHECK(mutations.size() == 1 && mutations.version() > 5);
    if (mutations.key(0) == "throws") throw std::runtime_error("thrown in apply");
    if (mutations.key(0) == "fails") return khonsu::Error(khonsu::Status::storage, "returned by apply");
    CHECK_OK(mutations.chunks(0));
    return {};
  }
  khonsu::Result<void> sync() override { return {}; }
};

void storages() {
  auto database = khonsu::Database::open(khonsu::Options().storage(std::make_unique<Failing>()));
  if (!CHECK_OK(database)) return;
  CHECK(committed(database.value(), "loaded") == (Values{7}));
  put(database.value(), "a", {1});
  for (const auto &[key, message] : {std::pair{"throws", "thrown in apply"}, {"fails", "returned by apply"}}) {
    auto transaction = database.value().begin();
    CHECK_OK(transaction);
    CHECK_OK(transaction.value().put(key, batch_of({1})));
    auto commit = transaction.value().commit();
    CHECK(!commit.ok() && commit.status() == khonsu::Status::storage &&
          std::string(commit.error().message()).find(message) != std::string::npos);
  }
  CHECK(committed(database.value(), "a") == (Values{1}));
}

}  // namespace

int main() {
  directories();
  memory_budgets();
  storages();
  return check::finish("storage_test");
}
