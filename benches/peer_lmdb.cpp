// LMDB on a RAM disk, without sync: its fastest setting for data that need not survive.
#include <lmdb.h>
#include <unistd.h>

#include "bench.hpp"

namespace bench {
namespace {

void check(int code, const char *call) {
  if (code != MDB_SUCCESS) fail(std::string(call) + ": " + mdb_strerror(code));
}

MDB_val value_of(const void *data, std::size_t size) { return {size, const_cast<void *>(data)}; }

class LmdbSession final : public Session {
 public:
  LmdbSession(MDB_env *environment, MDB_dbi table) : environment_(environment), table_(table) {
    // One read transaction a thread, reset and renewed: a fresh one would take the reader table's lock each time.
    check(mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &reader_), "mdb_txn_begin");
    check(mdb_cursor_open(reader_, table_, &cursor_), "mdb_cursor_open");
    mdb_txn_reset(reader_);
  }

  ~LmdbSession() override {
    mdb_cursor_close(cursor_);
    mdb_txn_abort(reader_);
  }

  std::uint64_t read(const Key *keys, std::size_t count) override {
    check(mdb_txn_renew(reader_), "mdb_txn_renew");
    for (std::size_t i = 0; i < count; ++i) sink += get(reader_, keys[i]).sum();
    mdb_txn_reset(reader_);
    return 0;
  }

  std::uint64_t scan(const Key &start) override {
    check(mdb_txn_renew(reader_), "mdb_txn_renew");
    check(mdb_cursor_renew(reader_, cursor_), "mdb_cursor_renew");
    MDB_val key = value_of(start.bytes, kKeyBytes);
    MDB_val value;
    check(mdb_cursor_get(cursor_, &key, &value, MDB_SET_RANGE), "mdb_cursor_get");
    sink += row_of(value.mv_data).sum();
    for (std::size_t i = 1; i < kScanKeys; ++i) {
      check(mdb_cursor_get(cursor_, &key, &value, MDB_NEXT), "mdb_cursor_get");
      sink += row_of(value.mv_data).sum() + static_cast<const char *>(key.mv_data)[kKeyBytes - 1];
    }
    mdb_txn_reset(reader_);
    return 0;
  }

  std::uint64_t put(const Key &key) override {
    MDB_txn *writer = begin_write();
    set(writer, key, make_row(++next_id_, 0));
    check(mdb_txn_commit(writer), "mdb_txn_commit");
    return 0;
  }

  std::uint64_t read_modify_write(const Key *keys, std::size_t count) override {
    MDB_txn *writer = begin_write();
    for (std::size_t i = 0; i < count; ++i) {
      const Row row = get(writer, keys[i]);
      set(writer, keys[i], make_row(row.id, row.counter + 1));
    }
    check(mdb_txn_commit(writer), "mdb_txn_commit");
    return 0;
  }

  std::uint64_t mixed(const Key *keys, const unsigned char *writes) override {
    if (!writes_any(writes)) return read(keys, kOperations);
    MDB_txn *writer = begin_write();
    for (std::size_t i = 0; i < kOperations; ++i) {
      if (writes[i] != 0) {
        set(writer, keys[i], make_row(++next_id_, 0));
      } else {
        sink += get(writer, keys[i]).sum();
      }
    }
    check(mdb_txn_commit(writer), "mdb_txn_commit");
    return 0;
  }

  std::uint64_t empty(bool read_only) override {
    if (read_only) {
      check(mdb_txn_renew(reader_), "mdb_txn_renew");
      mdb_txn_reset(reader_);
    } else {
      check(mdb_txn_commit(begin_write()), "mdb_txn_commit");
    }
    return 0;
  }

 private:
  MDB_txn *begin_write() {
    MDB_txn *writer = nullptr;
    check(mdb_txn_begin(environment_, nullptr, 0, &writer), "mdb_txn_begin");
    return writer;
  }

  Row get(MDB_txn *txn, const Key &key) {
    MDB_val name = value_of(key.bytes, kKeyBytes);
    MDB_val value;
    check(mdb_get(txn, table_, &name, &value), "mdb_get");
    return row_of(value.mv_data);
  }

  void set(MDB_txn *txn, const Key &key, const Row &row) {
    const Value content = make_value(row);
    MDB_val name = value_of(key.bytes, kKeyBytes);
    MDB_val value = value_of(&content, kValueBytes);
    check(mdb_put(txn, table_, &name, &value, 0), "mdb_put");
  }

  MDB_env *environment_;
  MDB_dbi table_;
  MDB_txn *reader_ = nullptr;
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

  std::string name() const override { return "lmdb"; }
  std::string version() const override { return mdb_version(nullptr, nullptr, nullptr); }

  void load(std::uint64_t count) override {
    MDB_txn *writer = nullptr;
    check(mdb_txn_begin(environment_, nullptr, 0, &writer), "mdb_txn_begin");
    for (std::uint64_t id = 0; id < count; ++id) {
      const Key key = make_key(id);
      const Value content = make_value(make_row(static_cast<std::int64_t>(id), 0));
      MDB_val name = value_of(key.bytes, kKeyBytes);
      MDB_val value = value_of(&content, kValueBytes);
      check(mdb_put(writer, table_, &name, &value, MDB_APPEND), "mdb_put");
    }
    check(mdb_txn_commit(writer), "mdb_txn_commit");
  }

  std::unique_ptr<Session> session() override { return std::make_unique<LmdbSession>(environment_, table_); }

  std::int64_t sum_counters() override {
    MDB_txn *reader = nullptr;
    MDB_cursor *cursor = nullptr;
    check(mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &reader), "mdb_txn_begin");
    check(mdb_cursor_open(reader, table_, &cursor), "mdb_cursor_open");
    std::int64_t sum = 0;
    MDB_val key;
    MDB_val value;
    int code = 0;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) sum += row_of(value.mv_data).counter;
    if (code != MDB_NOTFOUND) check(code, "mdb_cursor_get");
    mdb_cursor_close(cursor);
    mdb_txn_abort(reader);
    return sum;
  }

 private:
  MDB_env *environment_ = nullptr;
  MDB_dbi table_ = 0;
};

}  // namespace

std::unique_ptr<Peer> make_lmdb(const std::string &directory) { return std::make_unique<LmdbPeer>(directory); }

}  // namespace bench
