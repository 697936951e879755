// khonsu through its C ABI, serializable, each value an Arrow batch of one row and four columns.
#include <khonsu.h>

#include "arrow_row.hpp"
#include "bench.hpp"

namespace bench {
namespace {

void check(khonsu_status status, const char *call) {
  if (status != KHONSU_STATUS_OK) fail(std::string(call) + ": " + khonsu_status_name(status));
}

class KhonsuSession final : public Session {
 public:
  KhonsuSession(const khonsu_db *db, const khonsu_schema *schema, const khonsu_txn_options *read_only)
      : db_(db), schema_(schema), read_only_(read_only) {}

  std::uint64_t read(const Key *keys, std::size_t count) override {
    begin(read_only_);
    for (std::size_t i = 0; i < count; ++i) sink += get(keys[i]).sum();
    check(khonsu_txn_commit(transaction_, nullptr), "khonsu_txn_commit of a read-only transaction");
    khonsu_txn_free(transaction_);
    return 0;
  }

  std::uint64_t scan(const Key &start) override {
    begin(read_only_);
    ArrowArrayStream stream;
    check(khonsu_txn_scan_stream(transaction_, start.bytes, kKeyBytes, nullptr, 0, KHONSU_DIRECTION_FORWARD, kScanKeys,
                                 &stream, nullptr),
          "khonsu_txn_scan_stream");
    std::size_t found = 0;
    for (;;) {
      ArrowArray batch;
      if (stream.get_next(&stream, &batch) != 0) fail("get_next of a scan of khonsu failed");
      if (batch.release == nullptr) break;
      sink += sum_scanned(batch);
      found += static_cast<std::size_t>(batch.length);
      batch.release(&batch);
    }
    stream.release(&stream);
    if (found != kScanKeys) fail("a scan of khonsu ended early");
    check(khonsu_txn_commit(transaction_, nullptr), "khonsu_txn_commit of a read-only transaction");
    khonsu_txn_free(transaction_);
    return 0;
  }

  std::uint64_t put(const Key &key) override {
    const Row row = make_row(++next_id_, 0);
    return attempts([&] { set(key, row); });
  }

  std::uint64_t read_modify_write(const Key *keys, std::size_t count) override {
    return attempts([&] {
      for (std::size_t i = 0; i < count; ++i) {
        const Row row = get(keys[i]);
        set(keys[i], make_row(row.id, row.counter + 1));
      }
    });
  }

  std::uint64_t mixed(const Key *keys, const unsigned char *writes) override {
    if (!writes_any(writes)) return read(keys, kOperations);
    return attempts([&] {
      for (std::size_t i = 0; i < kOperations; ++i) {
        if (writes[i] != 0) {
          set(keys[i], make_row(++next_id_, 0));
        } else {
          sink += get(keys[i]).sum();
        }
      }
    });
  }

  std::uint64_t empty(bool read_only) override {
    begin(read_only ? read_only_ : nullptr);
    check(khonsu_txn_commit(transaction_, nullptr), "khonsu_txn_commit of an empty transaction");
    khonsu_txn_free(transaction_);
    return 0;
  }

 private:
  void begin(const khonsu_txn_options *options) {
    check(khonsu_db_begin(db_, options, &transaction_, nullptr), "khonsu_db_begin");
  }

  // Not khonsu_db_transact: its backoff would be measured instead of the aborts. The peers rerun at once, too.
  template <typename Body>
  std::uint64_t attempts(Body body) {
    for (std::uint64_t aborts = 0;; ++aborts) {
      begin(nullptr);
      body();
      const khonsu_status status = khonsu_txn_commit(transaction_, nullptr);
      khonsu_txn_free(transaction_);
      if (status == KHONSU_STATUS_OK) return aborts;
      if (!khonsu_status_is_retryable(status)) check(status, "khonsu_txn_commit");
    }
  }

  /// All columns of a batch of a scan, the last byte of each key included.
  static double sum_scanned(const ArrowArray &batch) {
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

  Row get(const Key &key) {
    ArrowArray batch;
    check(khonsu_txn_get_with_schema(transaction_, key.bytes, kKeyBytes, schema_, &batch, nullptr),
          "khonsu_txn_get_with_schema");
    const Row row = read_batch(batch);
    batch.release(&batch);
    return row;
  }

  void set(const Key &key, const Row &row) {
    ArrowArray batch = make_batch(row);
    check(khonsu_txn_put_with_schema(transaction_, key.bytes, kKeyBytes, &batch, schema_, nullptr),
          "khonsu_txn_put_with_schema");
  }

  const khonsu_db *db_;
  const khonsu_schema *schema_;
  const khonsu_txn_options *read_only_;
  khonsu_txn *transaction_ = nullptr;
};

class KhonsuPeer final : public Peer {
 public:
  KhonsuPeer() {
    ArrowSchema schema = make_schema();
    check(khonsu_db_open(nullptr, &db_, nullptr), "khonsu_db_open");  // serializable is the default
    check(khonsu_schema_import(&schema, &schema_, nullptr), "khonsu_schema_import");
    read_only_ = khonsu_txn_options_new();
    check(khonsu_txn_options_set_read_only(read_only_, 1, nullptr), "khonsu_txn_options_set_read_only");
  }

  ~KhonsuPeer() override {
    khonsu_txn_options_free(read_only_);
    khonsu_schema_free(schema_);
    khonsu_db_free(db_);
  }

  std::string name() const override { return "khonsu"; }
  std::string version() const override { return std::string("khonsu ") + khonsu_version() + ", serializable"; }

  void load(std::uint64_t count) override {
    for (std::uint64_t id = 0; id < count;) {
      khonsu_txn *transaction = nullptr;
      check(khonsu_db_begin(db_, nullptr, &transaction, nullptr), "khonsu_db_begin");
      for (const std::uint64_t end = id + kScanKeys; id < end && id < count; ++id) {
        const Key key = make_key(id);
        ArrowArray batch = make_batch(make_row(static_cast<std::int64_t>(id), 0));
        check(khonsu_txn_put_with_schema(transaction, key.bytes, kKeyBytes, &batch, schema_, nullptr),
              "khonsu_txn_put_with_schema");
      }
      check(khonsu_txn_commit(transaction, nullptr), "khonsu_txn_commit");
      khonsu_txn_free(transaction);
    }
  }

  std::unique_ptr<Session> session() override { return std::make_unique<KhonsuSession>(db_, schema_, read_only_); }

  std::int64_t sum_counters() override {
    khonsu_txn *transaction = nullptr;
    khonsu_cursor *cursor = nullptr;
    check(khonsu_db_begin(db_, read_only_, &transaction, nullptr), "khonsu_db_begin");
    check(khonsu_txn_scan(transaction, nullptr, 0, nullptr, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, nullptr),
          "khonsu_txn_scan");
    std::int64_t sum = 0;
    khonsu_status status = KHONSU_STATUS_OK;
    while ((status = khonsu_cursor_next(cursor, nullptr)) == KHONSU_STATUS_OK) {
      ArrowArray batch;
      check(khonsu_cursor_get(cursor, &batch, nullptr, nullptr), "khonsu_cursor_get");
      sum += read_batch(batch).counter;
      batch.release(&batch);
    }
    if (status != KHONSU_STATUS_NOT_FOUND) check(status, "khonsu_cursor_next");
    khonsu_cursor_free(cursor);
    khonsu_txn_free(transaction);
    return sum;
  }

 private:
  khonsu_db *db_ = nullptr;
  khonsu_schema *schema_ = nullptr;
  khonsu_txn_options *read_only_ = nullptr;
};

}  // namespace

std::unique_ptr<Peer> make_khonsu() { return std::make_unique<KhonsuPeer>(); }

}  // namespace bench
