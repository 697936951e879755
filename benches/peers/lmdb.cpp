// LMDB on a RAM disk, without sync: its fastest setting for data that need not survive.
#include <lmdb.h>

#include "../peer.hpp"

namespace bench {
namespace {

void check(int code, const char *call) {
  if (code != MDB_SUCCESS) fail(std::string(call) + ": " + mdb_strerror(code));
}

MDB_val value_of(const void *data, std::size_t size) { return {size, const_cast<void *>(data)}; }

class LmdbTransactions : public GetThenSet<LmdbTransactions> {
 public:
  LmdbTransactions(MDB_env *environment, MDB_dbi table) : environment_(environment), table_(table) {
    // One read transaction a thread, reset and renewed: a fresh one would take the reader table's lock each time.
    check(mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &reader_), "mdb_txn_begin");
    check(mdb_cursor_open(reader_, table_, &cursor_), "mdb_cursor_open");
    mdb_txn_reset(reader_);
  }

  ~LmdbTransactions() {
    mdb_cursor_close(cursor_);
    mdb_txn_abort(reader_);
  }

  void begin(bool read_only) {
    if (read_only) {
      check(mdb_txn_renew(reader_), "mdb_txn_renew");
      current_ = reader_;
    } else {
      check(mdb_txn_begin(environment_, nullptr, 0, &current_), "mdb_txn_begin");
    }
  }

  Row get(const Key &key) {
    MDB_val name = value_of(key.bytes, kKeyBytes);
    MDB_val value;
    check(mdb_get(current_, table_, &name, &value), "mdb_get");
    return row_of(value.mv_data);
  }

  void set(const Key &key, const Row &row) {
    const Value content = make_value(row);
    MDB_val name = value_of(key.bytes, kKeyBytes);
    MDB_val value = value_of(&content, kValueBytes);
    check(mdb_put(current_, table_, &name, &value, 0), "mdb_put");
  }

  void remove(const Key &key) {
    MDB_val name = value_of(key.bytes, kKeyBytes);
    check(mdb_del(current_, table_, &name, nullptr), "mdb_del");
  }

  double scan(const Key &start) {
    check(mdb_cursor_renew(reader_, cursor_), "mdb_cursor_renew");
    MDB_val key = value_of(start.bytes, kKeyBytes);
    MDB_val value;
    double sum = 0;
    for (std::size_t i = 0; i < kScanKeys; ++i) {
      check(mdb_cursor_get(cursor_, &key, &value, i == 0 ? MDB_SET_RANGE : MDB_NEXT), "mdb_cursor_get");
      sum += row_of(value.mv_data).sum() + static_cast<const char *>(key.mv_data)[kKeyBytes - 1];
    }
    return sum;
  }

  bool commit() {
    if (current_ == reader_) {
      mdb_txn_reset(reader_);
    } else {
      check(mdb_txn_commit(current_), "mdb_txn_commit");
    }
    return true;
  }

 private:
  MDB_env *environment_;
  MDB_dbi table_;
  MDB_txn *reader_ = nullptr;
  MDB_txn *current_ = nullptr;
  MDB_cursor *cursor_ = nullptr;
};

class LmdbPeer final : public Peer {
 public:
  explicit LmdbPeer(const std::string &directory) {
    check(mdb_env_create(&environment_), "mdb_env_create");
    check(mdb_env_set_mapsize(environment_, std::size_t{2} << 30), "mdb_env_set_mapsize");
    check(mdb_env_set_maxreaders(environment_, 512), "mdb_env_set_maxreaders");
    // NOTLS ties a reader to its transaction, since our sessions move between the threads of the rounds.
    check(mdb_env_open(environment_, (directory + "/lmdb").c_str(),
                       MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP | MDB_NOTLS, 0600),
          "mdb_env_open");
    MDB_txn *writer = nullptr;
    check(mdb_txn_begin(environment_, nullptr, 0, &writer), "mdb_txn_begin");
    check(mdb_dbi_open(writer, nullptr, 0, &table_), "mdb_dbi_open");
    check(mdb_txn_commit(writer), "mdb_txn_commit");
  }

  ~LmdbPeer() override { mdb_env_close(environment_); }

  std::string description() const override {
    return std::string(mdb_version(nullptr, nullptr, nullptr)) +
           ", WRITEMAP, NOSYNC, on a RAM disk; one writer at a time";
  }

  std::unique_ptr<Session> session() override {
    return std::make_unique<SessionOf<LmdbTransactions>>(environment_, table_);
  }

 private:
  MDB_env *environment_ = nullptr;
  MDB_dbi table_ = 0;
};

}  // namespace

Maker lmdb_maker() {
  return {"lmdb", [](const std::string &directory) { return std::make_unique<LmdbPeer>(directory); }, false};
}

}  // namespace bench
