// The baseline without a library: a hash map behind one reader-writer lock, held around each transaction.
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "bench.hpp"

namespace bench {
namespace {

// Keys and values of any length, as khonsu and the other peers have them.
struct Map {
  std::shared_mutex mutex;
  std::unordered_map<std::string, std::string> entries;
};

class MapSession final : public Session {
 public:
  explicit MapSession(Map &map) : map_(map) {}

  std::uint64_t read(const Key *keys, std::size_t count) override {
    std::shared_lock lock(map_.mutex);
    for (std::size_t i = 0; i < count; ++i) sink += row_of(at(keys[i]).data()).sum();
    return 0;
  }

  std::uint64_t scan(const Key &) override { fail("a hash map has no order to scan"); }

  std::uint64_t put(const Key &key) override {
    const Value value = make_value(make_row(++next_id_, 0));
    std::unique_lock lock(map_.mutex);
    at(key).assign(reinterpret_cast<const char *>(&value), kValueBytes);
    return 0;
  }

  std::uint64_t read_modify_write(const Key *keys, std::size_t count) override {
    std::unique_lock lock(map_.mutex);
    for (std::size_t i = 0; i < count; ++i) {
      std::string &value = at(keys[i]);
      const Row row = row_of(value.data());
      set(value, make_row(row.id, row.counter + 1));
    }
    return 0;
  }

  std::uint64_t mixed(const Key *keys, const unsigned char *writes) override {
    if (!writes_any(writes)) return read(keys, kOperations);
    std::unique_lock lock(map_.mutex);
    for (std::size_t i = 0; i < kOperations; ++i) {
      std::string &value = at(keys[i]);
      if (writes[i] != 0) {
        set(value, make_row(++next_id_, 0));
      } else {
        sink += row_of(value.data()).sum();
      }
    }
    return 0;
  }

  std::uint64_t empty(bool read_only) override {
    if (read_only) {
      std::shared_lock lock(map_.mutex);
    } else {
      std::unique_lock lock(map_.mutex);
    }
    return 0;
  }

 private:
  /// One string is kept for all lookups: a fresh one of 16 bytes would be allocated each time.
  std::string &at(const Key &key) {
    key_.assign(key.bytes, kKeyBytes);
    return map_.entries.find(key_)->second;
  }

  static void set(std::string &value, const Row &row) {
    const Value content = make_value(row);
    value.assign(reinterpret_cast<const char *>(&content), kValueBytes);
  }

  Map &map_;
  std::string key_;
};

class MapPeer final : public Peer {
 public:
  std::string name() const override { return "shared_mutex+unordered_map"; }
  std::string version() const override { return std::string("compiler ") + __VERSION__; }
  bool can_scan() const override { return false; }

  void load(std::uint64_t count) override {
    map_.entries.reserve(count);
    for (std::uint64_t id = 0; id < count; ++id) {
      const Value value = make_value(make_row(static_cast<std::int64_t>(id), 0));
      map_.entries.emplace(make_key(id).view(), std::string(reinterpret_cast<const char *>(&value), kValueBytes));
    }
  }

  std::unique_ptr<Session> session() override { return std::make_unique<MapSession>(map_); }

  std::int64_t sum_counters() override {
    std::int64_t sum = 0;
    for (const auto &entry : map_.entries) sum += row_of(entry.second.data()).counter;
    return sum;
  }

 private:
  Map map_;
};

}  // namespace

std::unique_ptr<Peer> make_shared_mutex_map() { return std::make_unique<MapPeer>(); }

}  // namespace bench
