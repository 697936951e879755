// khonsu's C ABI as the benchmarks call it: an in-memory database, serializable, one schema handle.
#ifndef KHONSU_BENCHES_KHONSU_CALLS_HPP
#define KHONSU_BENCHES_KHONSU_CALLS_HPP

#include <khonsu.h>

#include <utility>

#include "arrow_row.hpp"
#include "data.hpp"

namespace bench {

inline void check(khonsu_status status, const char *call) {
  if (status != KHONSU_STATUS_OK) fail(std::string(call) + ": " + khonsu_status_name(status));
}

/// A transaction of a KhonsuDatabase, from begin to end.
class KhonsuTransaction {
 public:
  KhonsuTransaction(const khonsu_db *db, const khonsu_schema *schema, const khonsu_txn_options *options)
      : schema_(schema) {
    check(khonsu_db_begin(db, options, &handle_, nullptr), "khonsu_db_begin");
  }
  KhonsuTransaction(KhonsuTransaction &&other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), schema_(other.schema_) {}
  ~KhonsuTransaction() { khonsu_txn_free(handle_); }

  Row get(const Key &key) {
    ArrowArray batch;
    check(khonsu_txn_get_with_schema(handle_, key.bytes, kKeyBytes, schema_, &batch, nullptr),
          "khonsu_txn_get_with_schema");
    const Row row = read_batch(batch);
    batch.release(&batch);
    return row;
  }

  void put(const Key &key, const Row &row, std::int64_t rows = 1) {
    ArrowArray batch = make_batch(row, rows);
    check(khonsu_txn_put_with_schema(handle_, key.bytes, kKeyBytes, &batch, schema_, nullptr),
          "khonsu_txn_put_with_schema");
  }

  /// False: it was aborted by a conflict.
  bool commit() {
    const khonsu_status status = khonsu_txn_commit(handle_, nullptr);
    if (status == KHONSU_STATUS_OK) return true;
    if (!khonsu_status_is_retryable(status)) check(status, "khonsu_txn_commit");
    return false;
  }

  khonsu_txn *handle() const { return handle_; }

 private:
  khonsu_txn *handle_ = nullptr;
  const khonsu_schema *schema_;
};

class KhonsuDatabase {
 public:
  KhonsuDatabase() {
    ArrowSchema schema = make_schema();
    check(khonsu_db_open(nullptr, &db_, nullptr), "khonsu_db_open");  // serializable is the default
    check(khonsu_schema_import(&schema, &schema_, nullptr), "khonsu_schema_import");
    read_only_ = khonsu_txn_options_new();
    check(khonsu_txn_options_set_read_only(read_only_, 1, nullptr), "khonsu_txn_options_set_read_only");
  }
  ~KhonsuDatabase() {
    khonsu_txn_options_free(read_only_);
    khonsu_schema_free(schema_);
    khonsu_db_free(db_);
  }
  KhonsuDatabase(const KhonsuDatabase &) = delete;
  KhonsuDatabase &operator=(const KhonsuDatabase &) = delete;

  KhonsuTransaction begin(bool read_only) const { return {db_, schema_, read_only ? read_only_ : nullptr}; }

 private:
  khonsu_db *db_ = nullptr;
  khonsu_schema *schema_ = nullptr;
  khonsu_txn_options *read_only_ = nullptr;
};

}  // namespace bench

#endif
