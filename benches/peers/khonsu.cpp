// khonsu through its C ABI, serializable, each value an Arrow batch of one row and four columns.
#include <optional>

#include "../khonsu_calls.hpp"
#include "../peer.hpp"

namespace bench {
namespace {

// Not khonsu_db_transact: its backoff would be measured instead of the aborts. The peers run again at once, too.
class KhonsuTransactions : public GetThenSet<KhonsuTransactions> {
 public:
  explicit KhonsuTransactions(const KhonsuDatabase &database) : database_(database) {}

  void begin(bool read_only) { transaction_.emplace(database_.begin(read_only)); }

  Row get(const Key &key) { return transaction_->get(key); }

  void set(const Key &key, const Row &row) { transaction_->put(key, row); }

  void remove(const Key &key) {
    check(khonsu_txn_delete(transaction_->handle(), key.bytes, kKeyBytes, nullptr), "khonsu_txn_delete");
  }

  double scan(const Key &start) {
    ArrowArrayStream stream;
    check(khonsu_txn_scan_stream(transaction_->handle(), start.bytes, kKeyBytes, nullptr, 0, KHONSU_DIRECTION_FORWARD,
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

  bool commit() {
    const bool committed = transaction_->commit();
    transaction_.reset();
    return committed;
  }

 private:
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

  const KhonsuDatabase &database_;
  std::optional<KhonsuTransaction> transaction_;
};

class KhonsuPeer final : public Peer {
 public:
  std::string description() const override {
    return std::string("khonsu ") + khonsu_version() +
           " through its C ABI, serializable; Arrow batches of one row and four columns in and out, a schema handle; "
           "SCAN by khonsu_txn_scan_stream, which joins the rows to one batch";
  }
  std::unique_ptr<Session> session() override { return std::make_unique<SessionOf<KhonsuTransactions>>(database_); }

 private:
  KhonsuDatabase database_;
};

}  // namespace

Maker khonsu_maker() {
  return {"khonsu", [](const std::string &) { return std::make_unique<KhonsuPeer>(); }};
}

}  // namespace bench
