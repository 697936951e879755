// khonsu through its C ABI, serializable, each value an Arrow batch of one row and four columns.
#include <algorithm>
#include <optional>

#include "../khonsu_calls.hpp"
#include "../peer.hpp"

namespace bench {
namespace {

// Not khonsu_db_transact: its backoff would be measured instead of the aborts. The peers run again at once, too.
class KhonsuTransactions {
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

 protected:
  std::optional<KhonsuTransaction> transaction_;

 private:
  const KhonsuDatabase &database_;
};

/// Keys that are known together are read together.
class GetMany final : public KhonsuTransactions {
 public:
  using KhonsuTransactions::KhonsuTransactions;

  double sum(const Key *keys, std::size_t count) {
    double sum = 0;
    Row rows[kOperations];
    for (std::size_t first = 0; first < count; first += kOperations) {
      const std::size_t some = std::min(kOperations, count - first);
      read(keys + first, some, rows);
      for (std::size_t i = 0; i < some; ++i) sum += rows[i].sum();
    }
    return sum;
  }

  /// `kOperations` keys at most.
  void increment(const Key *keys, std::size_t count) {
    Row rows[kOperations];
    read(keys, count, rows);
    for (std::size_t i = 0; i < count; ++i) {
      Row &row = rows[std::find(keys, keys + i, keys[i]) - keys];  // a key that comes again adds to what it has put
      row = make_row(row.id, row.counter + 1);
      set(keys[i], row);
    }
  }

 private:
  void read(const Key *keys, std::size_t count, Row *rows) {
    if (count == 1) {
      *rows = get(*keys);
    } else {
      transaction_->get_many(keys, count, rows);
    }
  }
};

class GetEach final : public KhonsuTransactions, public GetThenSet<GetEach> {
 public:
  using KhonsuTransactions::KhonsuTransactions;
};

template <typename Transactions>
class KhonsuPeer final : public Peer {
 public:
  std::string description() const override {
    if constexpr (std::is_same_v<Transactions, GetEach>) return "the same, with a get for each key";
    return std::string("khonsu ") + khonsu_version() +
           " through its C ABI, serializable; Arrow batches of one row and four columns in and out, a schema handle; "
           "keys that are read together (R10, RMW10) by one khonsu_txn_get_many for ten; SCAN by "
           "khonsu_txn_scan_stream, which joins the rows to one batch";
  }
  std::unique_ptr<Session> session() override { return std::make_unique<SessionOf<Transactions>>(database_); }

 private:
  KhonsuDatabase database_;
};

}  // namespace

Maker khonsu_maker() {
  return {"khonsu", [](const std::string &) { return std::make_unique<KhonsuPeer<GetMany>>(); }};
}

Maker khonsu_get_each_maker() {
  const auto make = [](const std::string &) { return std::make_unique<KhonsuPeer<GetEach>>(); };
  return {"khonsu (a get each)", make, true, true, {"R10", "RMW10"}};
}

}  // namespace bench
