// LMDB. It has one writer at a time and syncs each commit for itself.
#include <lmdb.h>

#include "engine.hpp"

namespace durable {
namespace {

void check(int code) {
  if (code != MDB_SUCCESS) fail(std::string("lmdb: ") + mdb_strerror(code));
}

class LmdbStore final : public Store {
 public:
  LmdbStore(const std::string &directory, Level level) {
    check(mdb_env_create(&environment_));
    check(mdb_env_set_mapsize(environment_, std::size_t{8} << 30));
    // Threads of the harness come and go: no reader slot is to be tied to one.
    const unsigned flags = MDB_NOTLS | (level == Level::kSynced ? 0 : MDB_NOSYNC);
    check(mdb_env_open(environment_, directory.c_str(), flags, 0644));
    MDB_txn *txn = begin(0);
    check(mdb_dbi_open(txn, nullptr, 0, &table_));
    check(mdb_txn_commit(txn));
  }

  ~LmdbStore() override { mdb_env_close(environment_); }

  void put(const Key &key, const void *value) override {
    MDB_txn *txn = begin(0);
    stage(txn, key, value);
    check(mdb_txn_commit(txn));
  }

  void fill(std::uint64_t first, std::uint64_t count, const void *value) override {
    MDB_txn *txn = begin(0);
    for (std::uint64_t id = first; id < first + count; ++id) stage(txn, Key(id), value);
    check(mdb_txn_commit(txn));
  }

  bool has(const Key &key) override {
    MDB_txn *txn = begin(MDB_RDONLY);
    MDB_val name = {kKeyBytes, const_cast<char *>(key.bytes)};
    MDB_val value;
    const bool found = mdb_get(txn, table_, &name, &value) == MDB_SUCCESS;
    mdb_txn_abort(txn);
    return found;
  }

  void sync() override { check(mdb_env_sync(environment_, 1)); }

 private:
  MDB_txn *begin(unsigned flags) {
    MDB_txn *txn = nullptr;
    check(mdb_txn_begin(environment_, nullptr, flags, &txn));
    return txn;
  }

  void stage(MDB_txn *txn, const Key &key, const void *value) {
    MDB_val name = {kKeyBytes, const_cast<char *>(key.bytes)};
    MDB_val data = {kValueBytes, const_cast<void *>(value)};
    check(mdb_put(txn, table_, &name, &data, 0));
  }

  MDB_env *environment_ = nullptr;
  MDB_dbi table_ = 0;
};

class LmdbEngine final : public Engine {
 public:
  std::string name() const override { return "lmdb"; }
  std::string version() const override { return mdb_version(nullptr, nullptr, nullptr); }
  std::string setting(Level level) const override {
    constexpr const char *kSettings[] = {"", "MDB_NOSYNC", "sync"};
    return kSettings[static_cast<int>(level)];
  }
  std::unique_ptr<Store> open(const std::string &directory, Level level) const override {
    return std::make_unique<LmdbStore>(directory, level);
  }
};

}  // namespace

std::unique_ptr<Engine> make_lmdb() { return std::make_unique<LmdbEngine>(); }

}  // namespace durable
