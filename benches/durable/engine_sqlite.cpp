// SQLite with a write-ahead log. Connections are not shared: each thread has one, and waits for the others' locks.
#include <sqlite3.h>

#include <map>
#include <mutex>
#include <thread>

#include "engine.hpp"

namespace durable {
namespace {

class Connection {
 public:
  Connection(const std::string &path, Level level) {
    check(sqlite3_open(path.c_str(), &db_));
    check(sqlite3_busy_timeout(db_, 60000));
    run("PRAGMA journal_mode=WAL");
    run(level == Level::kSynced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
    run("CREATE TABLE IF NOT EXISTS t (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
    prepare("INSERT OR REPLACE INTO t VALUES (?, ?)", &insert_);
    prepare("SELECT 1 FROM t WHERE k = ?", &select_);
  }

  ~Connection() {
    sqlite3_finalize(insert_);
    sqlite3_finalize(select_);
    sqlite3_close(db_);
  }

  void put(const Key &key, const void *value) {
    check(sqlite3_bind_blob(insert_, 1, key.bytes, kKeyBytes, SQLITE_STATIC));
    check(sqlite3_bind_blob(insert_, 2, value, kValueBytes, SQLITE_STATIC));
    require(sqlite3_step(insert_) == SQLITE_DONE, message());
    check(sqlite3_reset(insert_));
  }

  bool has(const Key &key) {
    check(sqlite3_bind_blob(select_, 1, key.bytes, kKeyBytes, SQLITE_STATIC));
    const bool found = sqlite3_step(select_) == SQLITE_ROW;
    check(sqlite3_reset(select_));
    return found;
  }

  void run(const char *statement) {
    require(sqlite3_exec(db_, statement, nullptr, nullptr, nullptr) == SQLITE_OK, message());
  }

 private:
  std::string message() const { return std::string("sqlite: ") + sqlite3_errmsg(db_); }
  void check(int code) const { require(code == SQLITE_OK, message()); }
  void prepare(const char *statement, sqlite3_stmt **out) {
    check(sqlite3_prepare_v2(db_, statement, -1, out, nullptr));
  }

  sqlite3 *db_ = nullptr;
  sqlite3_stmt *insert_ = nullptr;
  sqlite3_stmt *select_ = nullptr;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(const std::string &directory, Level level) : path_(directory + "/sqlite"), level_(level) { mine(); }

  void put(const Key &key, const void *value) override { mine().put(key, value); }
  bool has(const Key &key) override { return mine().has(key); }

  void fill(std::uint64_t first, std::uint64_t count, const void *value) override {
    Connection &connection = mine();
    connection.run("BEGIN IMMEDIATE");
    for (std::uint64_t id = first; id < first + count; ++id) connection.put(Key(id), value);
    connection.run("COMMIT");
  }

  void sync() override { mine().run("PRAGMA wal_checkpoint(TRUNCATE)"); }

 private:
  Connection &mine() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Connection> &connection = connections_[std::this_thread::get_id()];
    if (!connection) connection = std::make_unique<Connection>(path_, level_);
    return *connection;
  }

  std::string path_;
  Level level_;
  std::mutex mutex_;
  std::map<std::thread::id, std::unique_ptr<Connection>> connections_;
};

class SqliteEngine final : public Engine {
 public:
  std::string name() const override { return "sqlite"; }
  std::string version() const override { return std::string("SQLite ") + sqlite3_libversion(); }
  std::string setting(Level level) const override {
    constexpr const char *kSettings[] = {"", "WAL, synchronous=NORMAL", "WAL, synchronous=FULL"};
    return kSettings[static_cast<int>(level)];
  }
  std::unique_ptr<Store> open(const std::string &directory, Level level) const override {
    return std::make_unique<SqliteStore>(directory, level);
  }
};

}  // namespace

std::unique_ptr<Engine> make_sqlite() { return std::make_unique<SqliteEngine>(); }

}  // namespace durable
