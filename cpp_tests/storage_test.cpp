// Stored databases and storages of one's own through the C++ API.
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

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
  storages();
  return check::finish("storage_test");
}
