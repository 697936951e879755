// The baselines without a library: a map of the standard library behind one reader-writer lock, held for a transaction.
#include <map>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "../peer.hpp"

namespace bench {
namespace {

// Keys and values of any length, as khonsu and the other peers have them.
using HashMap = std::unordered_map<std::string, std::string>;
using OrderedMap = std::map<std::string, std::string>;

template <typename Map>
struct Guarded {
  std::shared_mutex mutex;
  Map entries;
};

template <typename Map>
class MapTransactions : public GetThenSet<MapTransactions<Map>> {
 public:
  explicit MapTransactions(Guarded<Map> &map) : map_(map) {}

  void begin(bool read_only) {
    read_only_ = read_only;
    read_only ? map_.mutex.lock_shared() : map_.mutex.lock();
  }

  Row get(const Key &key) { return row_of(find(key)->second.data()); }

  void set(const Key &key, const Row &row) {
    const auto found = find(key);
    if (found == map_.entries.end()) {
      const Value value = make_value(row);
      map_.entries.emplace(key_, std::string(reinterpret_cast<const char *>(&value), kValueBytes));
    } else {
      assign(found->second, row);
    }
  }

  /// One look for both halves.
  void increment(const Key *keys, std::size_t count) {
    for (const Key *key = keys; key != keys + count; ++key) {
      std::string &value = find(*key)->second;
      const Row row = row_of(value.data());
      assign(value, make_row(row.id, row.counter + 1));
    }
  }

  void remove(const Key &key) { map_.entries.erase(find(key)); }

  double scan(const Key &start) {
    if constexpr (std::is_same_v<Map, OrderedMap>) {
      key_.assign(start.bytes, kKeyBytes);
      double sum = 0;
      auto entry = map_.entries.lower_bound(key_);
      for (std::size_t i = 0; i < kScanKeys; ++i, ++entry) {
        sum += row_of(entry->second.data()).sum() + entry->first[kKeyBytes - 1];
      }
      return sum;
    } else {
      fail("a hash map has no order to scan");
    }
  }

  bool commit() {
    read_only_ ? map_.mutex.unlock_shared() : map_.mutex.unlock();
    return true;
  }

 private:
  /// One string is kept for all lookups: a fresh one of 16 bytes would be allocated each time.
  typename Map::iterator find(const Key &key) {
    key_.assign(key.bytes, kKeyBytes);
    return map_.entries.find(key_);
  }

  static void assign(std::string &value, const Row &row) {
    const Value content = make_value(row);
    value.assign(reinterpret_cast<const char *>(&content), kValueBytes);
  }

  Guarded<Map> &map_;
  std::string key_;
  bool read_only_ = false;
};

template <typename Map>
class MapPeer final : public Peer {
 public:
  std::string description() const override {
    return std::string(can_scan() ? "std::map" : "std::unordered_map") +
           " of std::string behind a std::shared_mutex that is held for the transaction, compiler " + __VERSION__;
  }
  bool can_scan() const override { return std::is_same_v<Map, OrderedMap>; }
  std::unique_ptr<Session> session() override { return std::make_unique<SessionOf<MapTransactions<Map>>>(map_); }

 private:
  Guarded<Map> map_;
};

}  // namespace

Maker unordered_map_maker() {
  return {"shared_mutex+unordered_map", [](const std::string &) { return std::make_unique<MapPeer<HashMap>>(); }};
}

Maker ordered_map_maker() {
  return {"shared_mutex+map", [](const std::string &) { return std::make_unique<MapPeer<OrderedMap>>(); }};
}

}  // namespace bench
