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

#include "bench.hpp"

namespace bench {
namespace {

void check(const rocksdb::Status &status, const char *call) {
  if (!status.ok()) fail(std::string("rocksdb ") + call + ": " + status.ToString());
}

rocksdb::Slice slice(const Key &key) { return {key.bytes, kKeyBytes}; }

class RocksdbSession final : public Session {
 public:
  explicit RocksdbSession(rocksdb::OptimisticTransactionDB &db) : db_(db) {
    write_options_.disableWAL = true;
    transaction_options_.set_snapshot = true;
  }

  std::uint64_t read(const Key *keys, std::size_t count) override {
    rocksdb::ReadOptions options;
    options.snapshot = db_.GetSnapshot();
    for (std::size_t i = 0; i < count; ++i) {
      check(db_.Get(options, db_.DefaultColumnFamily(), slice(keys[i]), &value_), "Get");
      sink += row_of(value_.data()).sum();
      value_.Reset();
    }
    db_.ReleaseSnapshot(options.snapshot);
    return 0;
  }

  std::uint64_t scan(const Key &start) override {
    // An iterator is a consistent view by itself.
    std::unique_ptr<rocksdb::Iterator> iterator(db_.NewIterator(rocksdb::ReadOptions()));
    iterator->Seek(slice(start));
    for (std::size_t i = 0; i < kScanKeys; ++i) {
      if (!iterator->Valid()) fail("rocksdb scan ended early");
      sink += row_of(iterator->value().data()).sum() + iterator->key()[kKeyBytes - 1];
      iterator->Next();
    }
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
    if (read_only) {
      db_.ReleaseSnapshot(db_.GetSnapshot());
      return 0;
    }
    return attempts([] {});
  }

 private:
  template <typename Body>
  std::uint64_t attempts(Body body) {
    for (std::uint64_t aborts = 0;; ++aborts) {
      transaction_.reset(db_.BeginTransaction(write_options_, transaction_options_, transaction_.release()));
      body();
      const rocksdb::Status status = transaction_->Commit();
      if (status.ok()) return aborts;
      if (!status.IsBusy() && !status.IsTryAgain()) check(status, "Commit");
    }
  }

  /// GetForUpdate has the key validated at commit: that, with the snapshot, makes the reads serializable.
  Row get(const Key &key) {
    rocksdb::ReadOptions options;
    options.snapshot = transaction_->GetSnapshot();
    check(transaction_->GetForUpdate(options, db_.DefaultColumnFamily(), slice(key), &value_), "GetForUpdate");
    const Row row = row_of(value_.data());
    value_.Reset();
    return row;
  }

  void set(const Key &key, const Row &row) {
    const Value value = make_value(row);
    check(transaction_->Put(slice(key), rocksdb::Slice(reinterpret_cast<const char *>(&value), kValueBytes)), "Put");
  }

  rocksdb::OptimisticTransactionDB &db_;
  rocksdb::WriteOptions write_options_;
  rocksdb::OptimisticTransactionOptions transaction_options_;
  std::unique_ptr<rocksdb::Transaction> transaction_;
  rocksdb::PinnableSlice value_;
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

  std::string name() const override { return "rocksdb"; }
  std::string version() const override {
    return "RocksDB " + rocksdb::GetRocksVersionAsString() + ", OptimisticTransactionDB";
  }

  void load(std::uint64_t count) override {
    rocksdb::WriteOptions options;
    options.disableWAL = true;
    for (std::uint64_t id = 0; id < count; ++id) {
      const Key key = make_key(id);
      const Value value = make_value(make_row(static_cast<std::int64_t>(id), 0));
      check(db_->Put(options, slice(key), rocksdb::Slice(reinterpret_cast<const char *>(&value), kValueBytes)), "Put");
    }
  }

  std::unique_ptr<Session> session() override { return std::make_unique<RocksdbSession>(*db_); }

  std::int64_t sum_counters() override {
    std::int64_t sum = 0;
    std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(rocksdb::ReadOptions()));
    for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) sum += row_of(iterator->value().data()).counter;
    check(iterator->status(), "Iterator");
    return sum;
  }

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

std::unique_ptr<Peer> make_rocksdb(const std::string &directory) { return std::make_unique<RocksdbPeer>(directory); }

}  // namespace bench
