// What every peer stores: keys of 16 bytes, rows of four columns. khonsu keeps a row as an Arrow batch, the others keep
// it in a value of 100 bytes.
#ifndef KHONSU_BENCHES_DATA_HPP
#define KHONSU_BENCHES_DATA_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace bench {

constexpr std::size_t kKeyBytes = 16;
constexpr std::size_t kOperations = 10;  // of R10, RMW10, A and B
constexpr std::size_t kScanKeys = 100;

/// `user%012d`.
struct Key {
  char bytes[kKeyBytes];

  std::string_view view() const { return {bytes, kKeyBytes}; }
  bool operator==(const Key &other) const { return view() == other.view(); }
};

inline Key make_key(std::uint64_t id) {
  Key key;
  std::memcpy(key.bytes, "user", 4);
  for (std::size_t digit = kKeyBytes; digit-- > 4; id /= 10) {
    key.bytes[digit] = static_cast<char>('0' + id % 10);
  }
  return key;
}

/// The four columns.
struct Row {
  std::int64_t id;
  std::int64_t counter;
  double price;
  double amount;

  double sum() const { return static_cast<double>(id + counter) + price + amount; }
};

struct Value {
  Row row;
  char payload[68];
};
constexpr std::size_t kValueBytes = 100;
static_assert(offsetof(Value, payload) + sizeof(Value::payload) == kValueBytes, "a peer's value has 100 bytes");

inline Row make_row(std::int64_t id, std::int64_t counter) {
  return {id, counter, static_cast<double>(id) * 0.25, static_cast<double>(counter) * 0.5};
}

inline Value make_value(const Row &row) {
  Value value;
  value.row = row;
  std::memset(value.payload, static_cast<int>('a' + row.id % 26), sizeof(value.payload));
  return value;
}

/// Reads the row out of a peer's bytes, which need not be aligned.
inline Row row_of(const void *bytes) {
  Row row;
  std::memcpy(&row, bytes, sizeof(row));
  return row;
}

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "benchmark: %s\n", what.c_str());
  std::exit(1);
}

}  // namespace bench

#endif
