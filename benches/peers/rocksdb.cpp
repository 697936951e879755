// RocksDB's optimistic transactions on a RAM disk, without a write-ahead log, all data in memtables and block cache.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/optimistic_transaction_db.h>
#include <rocksdb/utilities/transaction.h>

#include <chrono>
#include <thread>

#include "../peer.hpp"

namespace bench {
namespace {

void check(const rocksdb::Status &status, const char *call) {
  if (!status.ok()) fail(std::string("rocksdb ") + call + ": " + status.ToString());
}

rocksdb::Slice slice(const Key &key) { return {key.bytes, kKeyBytes}; }

class RocksdbTransactions : public GetThenSet<RocksdbTransactions> {
 public:
  explicit RocksdbTransactions(rocksdb::OptimisticTransactionDB &db) : db_(db) {
    write_options_.disableWAL = true;
    transaction_options_.set_snapshot = true;
  }

  void begin(bool read_only) {
    read_only_ = read_only;
    if (read_only) {
      read_options_.snapshot = db_.GetSnapshot();
    } else {
      transaction_.reset(db_.BeginTransaction(write_options_, transaction_options_, transaction_.release()));
      read_options_.snapshot = transaction_->GetSnapshot();
    }
  }

  // A MultiGet of ten keys, from memtables and block cache, takes as long as ten of these.
  Row get(const Key &key) {
    if (read_only_) {
      check(db_.Get(read_options_, db_.DefaultColumnFamily(), slice(key), &value_), "Get");
    } else {
      // Has the key validated at commit: that, with the snapshot, makes the reads serializable.
      check(transaction_->GetForUpdate(read_options_, db_.DefaultColumnFamily(), slice(key), &value_), "GetForUpdate");
    }
    const Row row = row_of(value_.data());
    value_.Reset();
    return row;
  }

  void set(const Key &key, const Row &row) {
    const Value value = make_value(row);
    check(transaction_->Put(slice(key), rocksdb::Slice(reinterpret_cast<const char *>(&value), kValueBytes)), "Put");
  }

  void remove(const Key &key) { check(transaction_->Delete(slice(key)), "Delete"); }

  double scan(const Key &start) {
    const std::unique_ptr<rocksdb::Iterator> iterator(db_.NewIterator(read_options_));
    double sum = 0;
    iterator->Seek(slice(start));
    for (std::size_t i = 0; i < kScanKeys; ++i) {
      if (!iterator->Valid()) fail("rocksdb scan ended early");
      sum += row_of(iterator->value().data()).sum() + iterator->key()[kKeyBytes - 1];
      iterator->Next();
    }
    return sum;
  }

  bool commit() {
    if (read_only_) {
      db_.ReleaseSnapshot(read_options_.snapshot);
      return true;
    }
    const rocksdb::Status status = transaction_->Commit();
    if (!status.ok() && !status.IsBusy() && !status.IsTryAgain()) check(status, "Commit");
    return status.ok();
  }

 private:
  rocksdb::OptimisticTransactionDB &db_;
  rocksdb::WriteOptions write_options_;
  rocksdb::ReadOptions read_options_;
  rocksdb::OptimisticTransactionOptions transaction_options_;
  std::unique_ptr<rocksdb::Transaction> transaction_;
  rocksdb::PinnableSlice value_;
  bool read_only_ = false;
};

class RocksdbPeer final : public Peer {
 public:
  explicit RocksdbPeer(const std::string &directory) {
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(std::size_t{512} << 20);
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
    rocksdb::Options options;
    options.create_if_missing = true;
    options.compression = rocksdb::kNoCompression;
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocksdb::OptimisticTransactionDB *db = nullptr;
    check(rocksdb::OptimisticTransactionDB::Open(options, directory + "/rocksdb", &db), "Open");
    db_.reset(db);
  }

  std::string description() const override {
    return "RocksDB " + rocksdb::GetRocksVersionAsString() +
           ", OptimisticTransactionDB, reads validated (GetForUpdate), no write-ahead log, on a RAM disk";
  }

  std::unique_ptr<Session> session() override { return std::make_unique<SessionOf<RocksdbTransactions>>(*db_); }

  void settle() override {
    const auto busy = [this](const char *property) {
      std::uint64_t value = 0;
      return db_->GetIntProperty(property, &value) && value != 0;
    };
    while (busy("rocksdb.num-running-flushes") || busy("rocksdb.num-running-compactions") ||
           busy("rocksdb.mem-table-flush-pending") || busy("rocksdb.compaction-pending")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

 private:
  std::unique_ptr<rocksdb::OptimisticTransactionDB> db_;
};

}  // namespace

Maker rocksdb_maker() {
  return {"rocksdb", [](const std::string &directory) { return std::make_unique<RocksdbPeer>(directory); }};
}

}  // namespace bench
