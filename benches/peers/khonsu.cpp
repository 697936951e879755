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

  double scan(const Key &start) { return bench::scan(*transaction_, start); }

  bool commit() {
    const bool committed = transaction_->commit();
    transaction_.reset();
    return committed;
  }

 private:
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
