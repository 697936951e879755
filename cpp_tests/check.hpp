// Checks for the C++ tests: a failed one is reported with its place, and the program goes on.
#ifndef KHONSU_CHECK_HPP
#define KHONSU_CHECK_HPP

#include <atomic>
#include <cstdio>

#include "khonsu.hpp"

#include "arrow_testing.h"

namespace check {

inline std::atomic<int> checks{0};
inline std::atomic<int> failures{0};

inline bool that(bool passed, const char *file, int line, const char *what, const khonsu::Error *error = nullptr) {
  ++checks;
  if (!passed) {
    ++failures;
    std::fprintf(stderr, "%s:%d: failed: %s%s%s\n", file, line, what, error == nullptr ? "" : ": ",
                 error == nullptr ? "" : error->to_string().c_str());
  }
  return passed;
}

/// The result succeeded.
template <typename T>
bool succeeded(const khonsu::Result<T> &result, const char *file, int line, const char *what) {
  return that(result.ok(), file, line, what, result.ok() ? nullptr : &result.error());
}

/// The result failed with this status and says why.
template <typename T>
bool failed(khonsu::Status status, const khonsu::Result<T> &result, const char *file, int line, const char *what) {
  return that(!result.ok() && result.status() == status && !result.error().message().empty(), file, line, what,
              result.ok() ? nullptr : &result.error());
}

/// The result of main: all checks passed, and no Arrow struct built by the test is left.
inline int finish(const char *program) {
  that(arrow_testing_live_arrays() == 0 && arrow_testing_live_schemas() == 0 && arrow_testing_live_streams() == 0,
       program, 0, "every Arrow struct was released");
  std::printf("%s: %d checks, %d failed\n", program, checks.load(), failures.load());
  return failures == 0 ? 0 : 1;
}

}  // namespace check

#define CHECK(condition) check::that((condition), __FILE__, __LINE__, #condition)
#define CHECK_OK(result) check::succeeded((result), __FILE__, __LINE__, #result)
#define CHECK_FAILS(status, result) check::failed(khonsu::Status::status, (result), __FILE__, __LINE__, #result)

/// An int64 batch of one column "value".
inline khonsu::Batch batch_of(std::initializer_list<std::int64_t> values) {
  khonsu::Batch batch;
  arrow_testing_int64_batch(batch.array.out(), batch.schema.out(), "value", values.begin(),
                            static_cast<std::int64_t>(values.size()));
  return batch;
}

/// The values of an int64 column.
inline std::vector<std::int64_t> values_of(const khonsu::ArrowArray &array, std::int64_t column = 0) {
  std::vector<std::int64_t> values;
  for (std::int64_t row = 0; row < array->length; ++row) {
    values.push_back(arrow_testing_int64_at(array.get(), column, row));
  }
  return values;
}

/// The values under key; nothing when it is absent or cannot be read.
inline std::optional<std::vector<std::int64_t>> read(khonsu::Transaction &transaction, khonsu::Bytes key) {
  auto found = transaction.get_array(key);
  if (!CHECK_OK(found) || !found.value().has_value()) return std::nullopt;
  return values_of(*found.value());
}

using Values = std::vector<std::int64_t>;

#endif  // KHONSU_CHECK_HPP
