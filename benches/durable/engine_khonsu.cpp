// khonsu through its C ABI: a value is a batch of 125 int64 in one column, without a copy on the way in.
#include <khonsu.hpp>  // the structs of the Arrow C Data Interface

#include "engine.hpp"

namespace durable {
namespace {

void check(khonsu_status status, khonsu_error *error) {
  if (status != KHONSU_STATUS_OK) fail(std::string("khonsu: ") + (error ? khonsu_error_message(error) : "failed"));
}

constexpr std::int64_t kRows = kValueBytes / sizeof(std::int64_t);

/// A batch of one column over values that outlive it.
struct Batch {
  ArrowArray column;
  ArrowArray *columns[1];
  const void *column_buffers[2];
  const void *buffers[1];
  ArrowArray array;

  explicit Batch(const void *values)
      : columns{&column}, column_buffers{nullptr, values}, buffers{nullptr} {
    const auto release = [](ArrowArray *array) { array->release = nullptr; };
    column = {kRows, 0, 0, 2, 0, column_buffers, nullptr, nullptr, release, nullptr};
    array = {kRows, 0, 0, 1, 1, buffers, columns, nullptr, release, nullptr};
  }
};

class KhonsuStore final : public Store {
 public:
  KhonsuStore(const std::string &directory, Level level) {
    static ArrowSchema column = {"l", "value", nullptr, 0, 0, nullptr, nullptr, nullptr, nullptr};
    static ArrowSchema *columns[1] = {&column};
    const auto release = [](ArrowSchema *schema) { schema->release = nullptr; };
    column.release = release;
    ArrowSchema schema = {"+s", "", nullptr, 0, 1, columns, nullptr, release, nullptr};
    khonsu_error *error = nullptr;
    check(khonsu_schema_import(&schema, &schema_, &error), error);
    khonsu_options *options = khonsu_options_new();
    check(khonsu_options_set_path(options, directory.c_str(), &error), error);
    const std::int32_t durability = level == Level::kSynced     ? KHONSU_DURABILITY_SYNCED
                                    : level == Level::kBuffered ? KHONSU_DURABILITY_BUFFERED
                                                                : KHONSU_DURABILITY_NONE;
    check(khonsu_options_set_durability(options, durability, &error), error);
    check(khonsu_db_open(options, &db_, &error), error);
    khonsu_options_free(options);
    unsynced_ = khonsu_txn_options_new();
    check(khonsu_txn_options_set_durability(unsynced_, KHONSU_DURABILITY_NONE, &error), error);
  }

  ~KhonsuStore() override {
    khonsu_txn_options_free(unsynced_);
    khonsu_db_free(db_);
    khonsu_schema_free(schema_);
  }

  void put(const Key &key, const void *value) override {
    khonsu_error *error = nullptr;
    khonsu_txn *txn = nullptr;
    for (;;) {
      check(khonsu_db_begin(db_, nullptr, &txn, &error), error);
      stage(txn, key, value);
      const khonsu_status status = khonsu_txn_commit(txn, nullptr);
      khonsu_txn_free(txn);
      if (status == KHONSU_STATUS_OK) return;
      if (!khonsu_status_is_retryable(status)) fail("khonsu: commit");
    }
  }

  void fill(std::uint64_t first, std::uint64_t count, const void *value) override {
    khonsu_error *error = nullptr;
    khonsu_txn *txn = nullptr;
    check(khonsu_db_begin(db_, unsynced_, &txn, &error), error);
    for (std::uint64_t id = first; id < first + count; ++id) stage(txn, Key(id), value);
    check(khonsu_txn_commit(txn, &error), error);
    khonsu_txn_free(txn);
  }

  bool has(const Key &key) override {
    khonsu_error *error = nullptr;
    khonsu_txn *txn = nullptr;
    check(khonsu_db_begin(db_, nullptr, &txn, &error), error);
    bool exists = false;
    check(khonsu_txn_exists(txn, key.bytes, kKeyBytes, &exists, &error), error);
    khonsu_txn_free(txn);
    return exists;
  }

  void sync() override {
    khonsu_error *error = nullptr;
    check(khonsu_db_sync(db_, &error), error);
  }

 private:
  void stage(khonsu_txn *txn, const Key &key, const void *value) {
    khonsu_error *error = nullptr;
    // Released within the call: small batches are copied.
    Batch batch(value);
    check(khonsu_txn_put_with_schema(txn, key.bytes, kKeyBytes, &batch.array, schema_, &error), error);
  }

  khonsu_schema *schema_ = nullptr;
  khonsu_db *db_ = nullptr;
  khonsu_txn_options *unsynced_ = nullptr;
};

class KhonsuEngine final : public Engine {
 public:
  std::string name() const override { return "khonsu"; }
  std::string version() const override { return std::string("khonsu ") + khonsu_version(); }
  std::string setting(Level level) const override {
    constexpr const char *kSettings[] = {"DURABILITY_NONE", "DURABILITY_BUFFERED", "DURABILITY_SYNCED"};
    return kSettings[static_cast<int>(level)];
  }
  std::unique_ptr<Store> open(const std::string &directory, Level level) const override {
    return std::make_unique<KhonsuStore>(directory, level);
  }
};

}  // namespace

std::unique_ptr<Engine> make_khonsu() { return std::make_unique<KhonsuEngine>(); }

}  // namespace durable
