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

  /// `kOperations` keys at most, in one call.
  void get_many(const Key *keys, std::size_t count, Row *rows) {
    const void *names[kOperations] = {};
    std::size_t lengths[kOperations] = {};
    ArrowArray batches[kOperations];
    for (std::size_t i = 0; i < count; ++i) {
      names[i] = keys[i].bytes;
      lengths[i] = kKeyBytes;
    }
    check(khonsu_txn_get_many(handle_, names, lengths, count, schema_, batches, nullptr, nullptr),
          "khonsu_txn_get_many");
    for (std::size_t i = 0; i < count; ++i) {
      rows[i] = read_batch(batches[i]);
      batches[i].release(&batches[i]);
    }
  }

  Row get_bound(const khonsu_key *key) {
    ArrowArray batch;
    check(khonsu_txn_get_bound(handle_, key, schema_, &batch, nullptr, nullptr), "khonsu_txn_get_bound");
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

/// Adds up all columns of a batch of a scan, the last byte of each key included.
inline double sum_scanned(const ArrowArray &batch) {
  const ArrowArray &keys = *batch.children[0];
  const auto *ends = static_cast<const std::int32_t *>(keys.buffers[1]) + batch.offset + keys.offset + 1;
  const auto *bytes = static_cast<const char *>(keys.buffers[2]);
  const auto column = [&batch](int index, auto zero) {
    const ArrowArray &child = *batch.children[index];
    return static_cast<const decltype(zero) *>(child.buffers[1]) + batch.offset + child.offset;
  };
  const auto *id = column(1, std::int64_t{});
  const auto *counter = column(2, std::int64_t{});
  const auto *price = column(3, double{});
  const auto *amount = column(4, double{});
  double sum = 0;
  for (std::int64_t row = 0; row < batch.length; ++row) {
    sum += Row{id[row], counter[row], price[row], amount[row]}.sum() + bytes[ends[row] - 1];
  }
  return sum;
}

/// `kScanKeys` keys from `start` on.
inline double scan(const KhonsuTransaction &transaction, const Key &start) {
  ArrowArrayStream stream;
  check(khonsu_txn_scan_stream(transaction.handle(), start.bytes, kKeyBytes, nullptr, 0, KHONSU_DIRECTION_FORWARD,
                               kScanKeys, &stream, nullptr),
        "khonsu_txn_scan_stream");
  std::size_t found = 0;
  double sum = 0;
  for (;;) {
    ArrowArray batch;
    if (stream.get_next(&stream, &batch) != 0) fail("get_next of a scan of khonsu failed");
    if (batch.release == nullptr) break;
    sum += sum_scanned(batch);
    found += static_cast<std::size_t>(batch.length);
    batch.release(&batch);
  }
  stream.release(&stream);
  if (found != kScanKeys) fail("a scan of khonsu ended early");
  return sum;
}

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

  /// The caller frees it.
  khonsu_key *bind(const Key &key) const {
    khonsu_key *bound = nullptr;
    check(khonsu_key_bind(db_, key.bytes, kKeyBytes, &bound, nullptr), "khonsu_key_bind");
    return bound;
  }

 private:
  khonsu_db *db_ = nullptr;
  khonsu_schema *schema_ = nullptr;
  khonsu_txn_options *read_only_ = nullptr;
};

}  // namespace bench

#endif
