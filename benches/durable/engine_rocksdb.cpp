// RocksDB with its write-ahead log and its own group commit.
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include "engine.hpp"

namespace durable {
namespace {

void check(const rocksdb::Status &status) {
  if (!status.ok()) fail("rocksdb: " + status.ToString());
}

class RocksdbStore final : public Store {
 public:
  RocksdbStore(const std::string &directory, Level level) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.compression = rocksdb::kNoCompression;
    options.write_buffer_size = std::size_t{256} << 20;
    options.manual_wal_flush = level == Level::kNone;
    rocksdb::DB *db = nullptr;
    check(rocksdb::DB::Open(options, directory, &db));
    db_.reset(db);
    write_.sync = level == Level::kSynced;
  }

  void put(const Key &key, const void *value) override {
    check(db_->Put(write_, {key.bytes, kKeyBytes}, {static_cast<const char *>(value), kValueBytes}));
  }

  void fill(std::uint64_t first, std::uint64_t count, const void *value) override {
    rocksdb::WriteBatch batch;
    for (std::uint64_t id = first; id < first + count; ++id) {
      check(batch.Put({Key(id).bytes, kKeyBytes}, {static_cast<const char *>(value), kValueBytes}));
    }
    check(db_->Write({}, &batch));
  }

  bool has(const Key &key) override {
    std::string value;
    return db_->Get({}, {key.bytes, kKeyBytes}, &value).ok();
  }

  void sync() override { check(db_->FlushWAL(true)); }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_;
};

class RocksdbEngine final : public Engine {
 public:
  std::string name() const override { return "rocksdb"; }
  std::string version() const override { return "RocksDB " + rocksdb::GetRocksVersionAsString(); }
  std::string setting(Level level) const override {
    constexpr const char *kSettings[] = {"manual_wal_flush", "WAL, sync=false", "WAL, sync=true"};
    return kSettings[static_cast<int>(level)];
  }
  std::unique_ptr<Store> open(const std::string &directory, Level level) const override {
    return std::make_unique<RocksdbStore>(directory, level);
  }
};

}  // namespace

std::unique_ptr<Engine> make_rocksdb() { return std::make_unique<RocksdbEngine>(); }

}  // namespace durable
