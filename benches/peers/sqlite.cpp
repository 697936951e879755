// SQLite in memory. Such a database belongs to one connection, which the threads share: one transaction at a time.
#include <sqlite3.h>

#include <mutex>

#include "../peer.hpp"

namespace bench {
namespace {

class Connection {
 public:
  Connection() {
    // Without SQLite's own mutex: ours is held for the whole transaction.
    check(sqlite3_open_v2(":memory:", &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr));
    check(sqlite3_exec(db_, "CREATE TABLE t (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID", nullptr, nullptr, nullptr));
    const char *const texts[] = {"BEGIN",
                                 "COMMIT",
                                 "SELECT v FROM t WHERE k = ?",
                                 "INSERT OR REPLACE INTO t VALUES (?, ?)",
                                 "DELETE FROM t WHERE k = ?",
                                 "SELECT k, v FROM t WHERE k >= ? ORDER BY k LIMIT 100"};
    static_assert(kScanKeys == 100, "the limit of the last statement");
    for (int i = 0; i < kStatements; ++i) {
      check(sqlite3_prepare_v3(db_, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &statements_[i], nullptr));
    }
  }

  ~Connection() {
    for (sqlite3_stmt *statement : statements_) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  enum Statement { kBegin, kCommit, kGet, kSet, kRemove, kScan, kStatements };

  sqlite3_stmt *bind(Statement which, const Key &key) {
    check(sqlite3_bind_blob(statements_[which], 1, key.bytes, kKeyBytes, SQLITE_STATIC));
    return statements_[which];
  }

  bool step(Statement which) {
    const int code = sqlite3_step(statements_[which]);
    if (code != SQLITE_ROW) check(code == SQLITE_DONE ? SQLITE_OK : code);
    return code == SQLITE_ROW;
  }

  void reset(Statement which) { check(sqlite3_reset(statements_[which])); }

  void run(Statement which) {
    step(which);
    reset(which);
  }

  void check(int code) const {
    if (code != SQLITE_OK) fail(std::string("sqlite: ") + sqlite3_errmsg(db_));
  }

  std::mutex mutex;

 private:
  sqlite3 *db_ = nullptr;
  sqlite3_stmt *statements_[kStatements] = {};
};

class SqliteTransactions : public GetThenSet<SqliteTransactions> {
 public:
  explicit SqliteTransactions(Connection &connection) : connection_(connection) {}

  void begin(bool) {
    connection_.mutex.lock();
    connection_.run(Connection::kBegin);
  }

  Row get(const Key &key) {
    sqlite3_stmt *statement = connection_.bind(Connection::kGet, key);
    if (!connection_.step(Connection::kGet)) fail("sqlite lost a key");
    const Row row = row_of(sqlite3_column_blob(statement, 0));
    connection_.reset(Connection::kGet);
    return row;
  }

  void set(const Key &key, const Row &row) {
    const Value value = make_value(row);
    sqlite3_stmt *statement = connection_.bind(Connection::kSet, key);
    connection_.check(sqlite3_bind_blob(statement, 2, &value, kValueBytes, SQLITE_STATIC));
    connection_.run(Connection::kSet);
  }

  void remove(const Key &key) {
    connection_.bind(Connection::kRemove, key);
    connection_.run(Connection::kRemove);
  }

  double scan(const Key &start) {
    sqlite3_stmt *statement = connection_.bind(Connection::kScan, start);
    double sum = 0;
    std::size_t found = 0;
    for (; connection_.step(Connection::kScan); ++found) {
      sum += row_of(sqlite3_column_blob(statement, 1)).sum() +
             static_cast<const char *>(sqlite3_column_blob(statement, 0))[kKeyBytes - 1];
    }
    connection_.reset(Connection::kScan);
    if (found != kScanKeys) fail("sqlite scan ended early");
    return sum;
  }

  bool commit() {
    connection_.run(Connection::kCommit);
    connection_.mutex.unlock();
    return true;
  }

 private:
  Connection &connection_;
};

class SqlitePeer final : public Peer {
 public:
  std::string description() const override {
    return std::string("SQLite ") + sqlite3_libversion() +
           " :memory:, prepared statements, one connection behind a mutex that is held for the transaction";
  }
  std::unique_ptr<Session> session() override { return std::make_unique<SessionOf<SqliteTransactions>>(connection_); }

 private:
  Connection connection_;
};

}  // namespace

Maker sqlite_maker() {
  return {"sqlite", [](const std::string &) { return std::make_unique<SqlitePeer>(); }};
}

}  // namespace bench
