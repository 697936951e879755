// The stores that are compared, as the harness sees them: keys of 16 bytes, values of 1,000.
#ifndef KHONSU_BENCHES_DURABLE_ENGINE_HPP
#define KHONSU_BENCHES_DURABLE_ENGINE_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace durable {

constexpr std::size_t kKeyBytes = 16;
constexpr std::size_t kValueBytes = 1000;

/// What a commit has survived when it returns: nothing, the end of the process, the loss of power.
enum class Level { kNone, kBuffered, kSynced };
constexpr Level kLevels[] = {Level::kSynced, Level::kBuffered, Level::kNone};
constexpr const char *kLevelNames[] = {"none", "buffered", "synced"};

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "khonsu_durable_bench: %s\n", what.c_str());
  std::exit(1);
}

inline void require(bool holds, const std::string &what) {
  if (!holds) fail(what);
}

/// `user%012d`, with a NUL behind.
struct Key {
  char bytes[kKeyBytes + 1] = "user";

  explicit Key(std::uint64_t id) {
    for (std::size_t digit = kKeyBytes; digit-- > 4; id /= 10) bytes[digit] = static_cast<char>('0' + id % 10);
  }
};

/// An open store.
class Store {
 public:
  virtual ~Store() = default;
  /// Commits one put. Any number of threads at once.
  virtual void put(const Key &key, const void *value) = 0;
  /// Commits `count` puts from `first` on, as one transaction without durability: to fill it.
  virtual void fill(std::uint64_t first, std::uint64_t count, const void *value) = 0;
  /// Whether a key is there.
  virtual bool has(const Key &key) = 0;
  /// Everything is on the disk.
  virtual void sync() = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
  /// What the level is with this engine; empty where it has none like it.
  virtual std::string setting(Level level) const = 0;
  /// Opens the store in a directory of its own, which is there.
  virtual std::unique_ptr<Store> open(const std::string &directory, Level level) const = 0;
};

std::unique_ptr<Engine> make_khonsu();
std::unique_ptr<Engine> make_rocksdb();
std::unique_ptr<Engine> make_lmdb();
std::unique_ptr<Engine> make_sqlite();

}  // namespace durable

#endif
