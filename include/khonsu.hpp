// khonsu for C++17: a header-only layer over khonsu.h.
//
// Ownership. Every class here is move-only and owns what it holds; destruction gives it back. A moved-from or default
// constructed handle is empty: destroying or assigning to it is fine, and a call on it fails with
// Status::invalid_argument. Handles may be destroyed in any order: a transaction keeps its database alive, a cursor its
// transaction.
//
// Failure. Calls return Result<T> and throw nothing of their own (std::bad_alloc of the standard library apart). Where
// exceptions are enabled, Result<T>::value_or_throw() turns a failure into khonsu::Exception.
//
// Threads. Each class names its class: "concurrent" objects may be used by all threads at once; "serialized" ones by one
// thread at a time, on any thread; "immutable" ones may be read by all threads at once.
#ifndef KHONSU_HPP
#define KHONSU_HPP

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define KHONSU_HPP_EXCEPTIONS 1
#include <exception>
#else
#define KHONSU_HPP_EXCEPTIONS 0
#endif

#include "khonsu.h"

// The structs of the Arrow C data and stream interfaces, under the guards that Arrow's specification prescribes: other
// copies of them (Arrow C++, nanoarrow) may come before or after this one.
#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

#endif  // ARROW_C_DATA_INTERFACE

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
  int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
  const char *(*get_last_error)(struct ArrowArrayStream *);
  void (*release)(struct ArrowArrayStream *);
  void *private_data;
};

#endif  // ARROW_C_STREAM_INTERFACE

#ifdef __cplusplus
}
#endif

namespace khonsu {

// ---- enumerations: the numbers of khonsu.h ----

/// What a call came to. New values may come with new versions: treat an unknown one as a failure.
enum class Status : std::int32_t {
  ok = KHONSU_STATUS_OK,
  not_found = KHONSU_STATUS_NOT_FOUND,
  conflict = KHONSU_STATUS_CONFLICT,
  timeout = KHONSU_STATUS_TIMEOUT,
  cancelled = KHONSU_STATUS_CANCELLED,
  busy = KHONSU_STATUS_BUSY,
  invalid_argument = KHONSU_STATUS_INVALID_ARGUMENT,
  invalid_state = KHONSU_STATUS_INVALID_STATE,
  schema_mismatch = KHONSU_STATUS_SCHEMA_MISMATCH,
  limit_exceeded = KHONSU_STATUS_LIMIT_EXCEEDED,
  duplicate = KHONSU_STATUS_DUPLICATE,
  already_decided = KHONSU_STATUS_ALREADY_DECIDED,
  heuristic = KHONSU_STATUS_HEURISTIC,
  storage = KHONSU_STATUS_STORAGE,
  corruption = KHONSU_STATUS_CORRUPTION,
  locked = KHONSU_STATUS_LOCKED,
  not_durable = KHONSU_STATUS_NOT_DURABLE,
  panic = KHONSU_STATUS_PANIC
};

enum class Isolation : std::int32_t {
  read_committed = KHONSU_ISOLATION_READ_COMMITTED,
  repeatable_read = KHONSU_ISOLATION_REPEATABLE_READ,
  serializable = KHONSU_ISOLATION_SERIALIZABLE
};

/// What a commit does with a key that another transaction has committed meanwhile.
enum class ConflictResolution : std::int32_t {
  fail = KHONSU_CONFLICT_RESOLUTION_FAIL,
  ignore = KHONSU_CONFLICT_RESOLUTION_IGNORE,
  replace = KHONSU_CONFLICT_RESOLUTION_REPLACE,
  append = KHONSU_CONFLICT_RESOLUTION_APPEND
};

enum class ConflictKind : std::int32_t {
  write_write = KHONSU_CONFLICT_KIND_WRITE_WRITE,
  read_write = KHONSU_CONFLICT_KIND_READ_WRITE,
  phantom = KHONSU_CONFLICT_KIND_PHANTOM,
  prepared = KHONSU_CONFLICT_KIND_PREPARED
};

/// What a commit has survived when it returns, where the database is stored.
enum class Durability : std::int32_t {
  none = KHONSU_DURABILITY_NONE,
  buffered = KHONSU_DURABILITY_BUFFERED,
  synced = KHONSU_DURABILITY_SYNCED
};

enum class Direction : std::int32_t { forward = KHONSU_DIRECTION_FORWARD, reverse = KHONSU_DIRECTION_REVERSE };

/// What a database says when it is asked to prepare a transaction; "no" is an error.
enum class Vote : std::int32_t { yes = KHONSU_VOTE_YES, read_only = KHONSU_VOTE_READ_ONLY };

/// What becomes of a prepared transaction.
enum class Decision : std::int32_t { commit = KHONSU_DECISION_COMMIT, rollback = KHONSU_DECISION_ROLLBACK };

/// Where a transaction stands that Database::recover lists.
enum class PreparedState : std::int32_t {
  prepared = KHONSU_PREPARED_STATE_PREPARED,
  heuristic_commit = KHONSU_PREPARED_STATE_HEURISTIC_COMMIT,
  heuristic_rollback = KHONSU_PREPARED_STATE_HEURISTIC_ROLLBACK
};

/// How a transaction is prepared; combined by |.
enum class PrepareFlags : std::uint32_t {
  none = 0,
  allow_volatile = KHONSU_PREPARE_ALLOW_VOLATILE,  ///< a database that cannot keep it over its end may vote yes, too
  /// One that wrote nothing holds what it has read, and votes yes; it must not have been begun as read-only.
  hold_reads = KHONSU_PREPARE_HOLD_READS
};

constexpr PrepareFlags operator|(PrepareFlags one, PrepareFlags other) noexcept {
  return static_cast<PrepareFlags>(static_cast<std::uint32_t>(one) | static_cast<std::uint32_t>(other));
}

enum class IpcFormat : std::int32_t { file = KHONSU_IPC_FORMAT_FILE, stream = KHONSU_IPC_FORMAT_STREAM };

enum class IpcCompression : std::int32_t {
  none = KHONSU_IPC_COMPRESSION_NONE,
  lz4 = KHONSU_IPC_COMPRESSION_LZ4,
  zstd = KHONSU_IPC_COMPRESSION_ZSTD
};

/// The version of the library that runs, "major.minor.patch"; the header's own is KHONSU_VERSION_STRING. Static text.
inline std::string_view version() noexcept { return khonsu_version(); }

/// "OK", "CONFLICT", ...; "UNKNOWN" for a number that this version does not have. Static text.
inline std::string_view status_name(Status status) noexcept {
  return khonsu_status_name(static_cast<std::int32_t>(status));
}

/// Whether rerunning the transaction may succeed.
inline bool status_is_retryable(Status status) noexcept {
  return khonsu_status_is_retryable(static_cast<std::int32_t>(status));
}

namespace detail {

/// Owns one C handle; Free is its khonsu_..._free, which accepts NULL.
template <typename T, void (*Free)(T *)>
class Handle {
 public:
  /// Empty.
  Handle() noexcept = default;
  /// Adopts: from here on the handle is freed by this object. NULL makes an empty one.
  explicit Handle(T *adopted) noexcept : handle_(adopted) {}

  /// The raw handle, still owned by this object; NULL when empty.
  [[nodiscard]] T *get() const noexcept { return handle_.get(); }
  /// Gives the raw handle to the caller, who must free it; this object is empty afterwards.
  [[nodiscard]] T *release() noexcept { return handle_.release(); }
  /// Whether a handle is held.
  explicit operator bool() const noexcept { return handle_ != nullptr; }

 private:
  struct Deleter {
    void operator()(T *handle) const noexcept { Free(handle); }
  };
  std::unique_ptr<T, Deleter> handle_;
};

/// Ends the program: a contract of this header was broken, and going on would read what is not there.
[[noreturn]] inline void broken_contract(const char *what) noexcept {
  std::fprintf(stderr, "khonsu: %s\n", what);
  std::abort();
}

}  // namespace detail

// ---- bytes ----

/// A borrowed run of bytes: a key, a prefix, the end of a range. Made implicitly from string literals, std::string,
/// std::string_view and every container with data() and size() whose elements are one byte; nothing is copied, so it must not outlive them.
class Bytes {
 public:
  Bytes() noexcept = default;
  Bytes(const char *text) noexcept : Bytes(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)
  Bytes(const void *data, std::size_t size) noexcept : data_(size == 0 ? "" : data), size_(size) {}
  template <typename Contiguous,
            typename Element = std::remove_pointer_t<decltype(std::declval<const Contiguous &>().data())>,
            typename = decltype(std::declval<const Contiguous &>().size()),
            typename = std::enable_if_t<sizeof(Element) == 1 && std::is_trivially_copyable_v<Element> &&
                                        !std::is_same_v<std::decay_t<Contiguous>, Bytes>>>
  Bytes(const Contiguous &bytes) noexcept  // NOLINT(google-explicit-constructor)
      : Bytes(static_cast<const void *>(bytes.data()), bytes.size()) {}

  /// Never NULL.
  [[nodiscard]] const void *data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  const void *data_ = "";
  std::size_t size_ = 0;
};

/// The keys from start (inclusive) to end (exclusive); an end that is not set is open. Borrowed like Bytes.
struct Range {
  std::optional<Bytes> start{};
  std::optional<Bytes> end{};
};

// ---- errors ----

/// One reason why a transaction could not commit.
struct Conflict {
  /// The scanned range in which the key changed; an end that is not set is open.
  struct ScannedRange {
    std::optional<std::string> start;
    std::optional<std::string> end;
  };
  ConflictKind kind;
  std::string key;
  std::optional<ScannedRange> range;  ///< set for phantoms of scans
  std::uint64_t version;              ///< commit version of the other transaction; 0 when unknown
  std::optional<std::string> global_id;  ///< of the transaction in doubt that holds the key, if it is one
};

/// Why a call failed. Threads: immutable.
class Error : public detail::Handle<khonsu_error, khonsu_error_free> {
 public:
  /// Empty: Status::ok and no message.
  Error() noexcept = default;
  /// Adopts an error of the C API.
  explicit Error(khonsu_error *adopted) noexcept : Handle(adopted) {}
  /// An error of the caller's own, as a transact body returns it: Error(Status::cancelled, "account is closed").
  explicit Error(Status status, std::string message = {}) : status_(status), message_(std::move(message)) {}

  [[nodiscard]] Status status() const noexcept {
    return get() == nullptr ? status_ : static_cast<Status>(khonsu_error_status(get()));
  }
  /// Valid until this object is moved from, assigned to or destroyed.
  [[nodiscard]] std::string_view message() const noexcept {
    return get() == nullptr ? std::string_view(message_) : std::string_view(khonsu_error_message(get()));
  }
  /// Whether rerunning the transaction may succeed.
  [[nodiscard]] bool retryable() const noexcept { return status_is_retryable(status()); }
  /// "CONFLICT: message".
  [[nodiscard]] std::string to_string() const {
    std::string text(status_name(status()));
    if (!message().empty()) text.append(": ").append(message());
    return text;
  }
  /// What conflicted, copied; empty unless status() is Status::conflict.
  [[nodiscard]] std::vector<Conflict> conflicts() const {
    std::vector<Conflict> conflicts;
    const std::size_t count = khonsu_error_conflict_count(get());
    conflicts.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
      khonsu_conflict raw{};
      if (khonsu_error_conflict(get(), index, &raw, sizeof(raw)) != KHONSU_STATUS_OK) break;
      Conflict conflict{static_cast<ConflictKind>(raw.kind), text(raw.key, raw.key_len), std::nullopt, raw.version,
                        std::nullopt};
      if (raw.global_id != nullptr) conflict.global_id = text(raw.global_id, raw.global_id_len);
      if (raw.has_range != 0) {
        conflict.range.emplace();
        if (raw.range_start != nullptr) conflict.range->start = text(raw.range_start, raw.range_start_len);
        if (raw.range_end != nullptr) conflict.range->end = text(raw.range_end, raw.range_end_len);
      }
      conflicts.push_back(std::move(conflict));
    }
    return conflicts;
  }

  /// How the prepared transaction was decided that an already_decided or heuristic error tells of.
  [[nodiscard]] std::optional<Decision> decision() const noexcept {
    const std::int32_t decision = khonsu_error_decision(get());
    if (decision == 0) return std::nullopt;
    return static_cast<Decision>(decision);
  }

 private:
  static std::string text(const void *data, std::size_t size) {
    return size == 0 ? std::string() : std::string(static_cast<const char *>(data), size);
  }

  Status status_ = Status::ok;  // the status and message of an error that did not come from the C API
  std::string message_;
};

#if KHONSU_HPP_EXCEPTIONS
/// What value_or_throw() throws. Threads: immutable; copies share one Error.
class Exception : public std::exception {
 public:
  explicit Exception(Error error)
      : error_(std::make_shared<const Error>(std::move(error))),
        what_(std::make_shared<const std::string>(error_->to_string())) {}

  [[nodiscard]] const char *what() const noexcept override { return what_->c_str(); }
  [[nodiscard]] const Error &error() const noexcept { return *error_; }
  [[nodiscard]] Status status() const noexcept { return error_->status(); }

 private:
  std::shared_ptr<const Error> error_;
  std::shared_ptr<const std::string> what_;
};
#endif

/// A value, or the error that came in its place.
template <typename T>
class [[nodiscard]] Result {
  static_assert(!std::is_reference_v<T> && !std::is_same_v<std::decay_t<T>, Error>, "a Result holds a value");

 public:
  using value_type = T;

  Result(T value) : outcome_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)                                                      // NOLINT(google-explicit-constructor)
      : outcome_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const noexcept { return outcome_.index() == 0; }
  [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : std::get_if<1>(&outcome_)->status(); }

  /// The value; the program ends when there is none: ask ok() first.
  [[nodiscard]] T &value() & { return *checked(std::get_if<0>(&outcome_)); }
  [[nodiscard]] const T &value() const & { return *checked(std::get_if<0>(&outcome_)); }
  [[nodiscard]] T &&value() && { return std::move(*checked(std::get_if<0>(&outcome_))); }

  /// The error; the program ends when there is none.
  [[nodiscard]] const Error &error() const & { return *checked(std::get_if<1>(&outcome_)); }
  [[nodiscard]] Error &&error() && { return std::move(*checked(std::get_if<1>(&outcome_))); }

#if KHONSU_HPP_EXCEPTIONS
  /// The value, moved out, or khonsu::Exception thrown.
  T value_or_throw() && {
    if (!ok()) throw Exception(std::move(*std::get_if<1>(&outcome_)));
    return std::move(*std::get_if<0>(&outcome_));
  }
#endif

 private:
  template <typename P>
  static P *checked(P *pointer) noexcept {
    if (pointer == nullptr) detail::broken_contract("a Result was asked for what it does not hold");
    return pointer;
  }

  std::variant<T, Error> outcome_;
};

/// Success, or the error that came in its place.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() noexcept = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const noexcept { return !error_.has_value(); }
  [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : error_->status(); }

  /// The error; the program ends when there is none.
  [[nodiscard]] const Error &error() const & {
    if (ok()) detail::broken_contract("a Result was asked for what it does not hold");
    return *error_;
  }
  [[nodiscard]] Error &&error() && {
    if (ok()) detail::broken_contract("a Result was asked for what it does not hold");
    return std::move(*error_);
  }

#if KHONSU_HPP_EXCEPTIONS
  /// Nothing, or khonsu::Exception thrown.
  void value_or_throw() && {
    if (!ok()) throw Exception(std::move(*error_));
  }
#endif

 private:
  std::optional<Error> error_;
};

namespace detail {

/// Collects the error of one C call: Failure failure; failure = khonsu_...(..., failure.out()).
class Call {
 public:
  khonsu_error **out() noexcept { return &error_; }

  /// The error of a status other than OK.
  [[nodiscard]] Error error(khonsu_status status) noexcept {
    khonsu_error *error = std::exchange(error_, nullptr);
    return error != nullptr ? Error(error) : Error(static_cast<Status>(status));
  }
  [[nodiscard]] Result<void> result(khonsu_status status) noexcept {
    if (status == KHONSU_STATUS_OK) return {};
    return error(status);
  }
  /// An outcome that may be NOT_FOUND: whether it was found.
  [[nodiscard]] Result<bool> found(khonsu_status status) noexcept {
    if (status == KHONSU_STATUS_OK) return true;
    if (status == KHONSU_STATUS_NOT_FOUND) return false;
    return error(status);
  }

 private:
  khonsu_error *error_ = nullptr;
};

/// Owns the contents of one struct of the Arrow C interfaces.
template <typename Struct>
class ArrowStruct {
 public:
  /// Empty.
  ArrowStruct() noexcept : raw_() {}
  /// Adopts: moves the contents out of *source (which may be NULL or released) and leaves it released.
  explicit ArrowStruct(Struct *source) noexcept : raw_() {
    if (source != nullptr) {
      raw_ = *source;
      source->release = nullptr;
    }
  }
  ArrowStruct(ArrowStruct &&other) noexcept : ArrowStruct(&other.raw_) {}
  ArrowStruct &operator=(ArrowStruct &&other) noexcept {
    if (this != &other) {
      reset();
      raw_ = other.raw_;
      other.raw_.release = nullptr;
    }
    return *this;
  }
  ~ArrowStruct() { reset(); }

  /// The struct, still owned by this object; a call that consumes it leaves this object empty.
  [[nodiscard]] Struct *get() noexcept { return &raw_; }
  [[nodiscard]] const Struct *get() const noexcept { return &raw_; }
  const Struct *operator->() const noexcept { return &raw_; }
  /// Whether there is anything in it.
  explicit operator bool() const noexcept { return raw_.release != nullptr; }

  /// Releases what is held and gives the empty struct for a producer to fill: ExportRecordBatch(batch, array.out()).
  [[nodiscard]] Struct *out() noexcept {
    reset();
    return &raw_;
  }
  /// Gives the contents to the caller, who must release them; this object is empty afterwards.
  [[nodiscard]] Struct release() noexcept {
    Struct contents = raw_;
    raw_ = Struct();
    return contents;
  }
  /// Releases what is held.
  void reset() noexcept {
    if (raw_.release != nullptr) raw_.release(&raw_);
    raw_ = Struct();
  }

 protected:
  Struct raw_;
};

}  // namespace detail

// ---- Arrow ----

/// Owns a ::ArrowSchema. Threads: serialized; a const one may be read by all threads at once.
class ArrowSchema : public detail::ArrowStruct<::ArrowSchema> {
 public:
  using ArrowStruct::ArrowStruct;
};

/// Owns a ::ArrowArray. One that khonsu gave shares its buffers by count: it stays valid after the transaction and the
/// database are gone. Threads: serialized; a const one may be read by all threads at once.
class ArrowArray : public detail::ArrowStruct<::ArrowArray> {
 public:
  using ArrowStruct::ArrowStruct;
};

/// Owns a ::ArrowArrayStream. Threads: serialized.
class ArrowArrayStream : public detail::ArrowStruct<::ArrowArrayStream> {
 public:
  using ArrowStruct::ArrowStruct;

  /// The schema of all the stream's batches.
  /// Fails: invalid_argument (empty stream, or the producer said EINVAL), storage (any other failure of the producer).
  Result<ArrowSchema> schema() {
    if (raw_.release == nullptr) return Error(Status::invalid_argument, "the stream is empty or was released");
    ArrowSchema schema;
    const int code = raw_.get_schema(&raw_, schema.out());
    if (code != 0) {
      schema.get()->release = nullptr;  // what a failed producer has left there is nobody's
      return failure(code);
    }
    return schema;
  }
  /// The next batch; nothing after the last one. Fails as schema() does.
  Result<std::optional<ArrowArray>> next() {
    if (raw_.release == nullptr) return Error(Status::invalid_argument, "the stream is empty or was released");
    ArrowArray array;
    const int code = raw_.get_next(&raw_, array.out());
    if (code != 0) {
      array.get()->release = nullptr;  // as above
      return failure(code);
    }
    if (!array) return std::optional<ArrowArray>();
    return std::optional<ArrowArray>(std::move(array));
  }

 private:
  [[nodiscard]] Error failure(int code) {
    const char *message = raw_.get_last_error == nullptr ? nullptr : raw_.get_last_error(&raw_);
    return Error(code == EINVAL ? Status::invalid_argument : Status::storage,
                 message != nullptr ? std::string(message) : "the stream failed with errno " + std::to_string(code));
  }
};

/// A record batch with its schema.
struct Batch {
  ArrowArray array;
  ArrowSchema schema;
};

/// A schema imported once, which spares the schema on every put and get. Threads: concurrent.
class Schema : public detail::Handle<khonsu_schema, khonsu_schema_free> {
 public:
  using Handle::Handle;

  /// Consumes schema, on failure too. Fails: invalid_argument (what no record batch can have).
  static Result<Schema> from_arrow(ArrowSchema &&schema) {
    khonsu_schema *out = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_schema_import(schema.get(), &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Schema(out);
  }
  /// A copy in Arrow's form. Fails: invalid_argument (empty handle).
  [[nodiscard]] Result<ArrowSchema> to_arrow() const {
    ArrowSchema schema;
    detail::Call call;
    const khonsu_status status = khonsu_schema_export(get(), schema.out(), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return schema;
  }
};

// ---- keys ----

/// A key of a database that is looked up once, however often it is read and written. Made by Database::bind. It need not
/// exist, may be deleted and come back, and may be used by its bytes beside. Threads: concurrent.
class Key : public detail::Handle<khonsu_key, khonsu_key_free> {
 public:
  using Handle::Handle;
};

// ---- storages ----

/// Takes what a storage has stored: the argument of Storage::load. Not to be kept. Threads: serialized.
class Loader {
 public:
  explicit Loader(khonsu_loader *raw) noexcept : raw_(raw) {}

  /// A key with its first chunk, which is consumed; append adds the others right after it.
  Result<void> put(Bytes key, std::uint64_t version, ArrowArray &&array, ArrowSchema &&schema) {
    detail::Call call;
    const khonsu_status status =
        khonsu_loader_put(raw_, key.data(), key.size(), version, array.get(), schema.get(), call.out());
    return call.result(status);
  }
  /// Another chunk of the key that was put last; consumed.
  Result<void> append(ArrowArray &&array, ArrowSchema &&schema) {
    detail::Call call;
    const khonsu_status status = khonsu_loader_append(raw_, array.get(), schema.get(), call.out());
    return call.result(status);
  }
  /// The version of the newest commit, where it may be later than those of the keys.
  Result<void> set_version(std::uint64_t version) {
    detail::Call call;
    const khonsu_status status = khonsu_loader_set_version(raw_, version, call.out());
    return call.result(status);
  }

 private:
  khonsu_loader *raw_;
};

enum class MutationKind : std::int32_t {
  put = KHONSU_MUTATION_KIND_PUT,
  append = KHONSU_MUTATION_KIND_APPEND,
  erase = KHONSU_MUTATION_KIND_DELETE
};

/// A commit: the argument of Storage::apply. Not to be kept. Threads: immutable.
class Mutations {
 public:
  explicit Mutations(const khonsu_mutations *raw) noexcept : raw_(raw) {}

  [[nodiscard]] std::uint64_t version() const noexcept { return khonsu_mutations_version(raw_); }
  [[nodiscard]] std::size_t size() const noexcept { return khonsu_mutations_count(raw_); }
  [[nodiscard]] MutationKind kind(std::size_t index) const noexcept { return MutationKind{get(index).kind}; }
  /// Valid until apply returns.
  [[nodiscard]] std::string_view key(std::size_t index) const noexcept {
    const khonsu_mutation mutation = get(index);
    return {static_cast<const char *>(mutation.key), mutation.key_len};
  }
  /// The rows, to be kept as long as one likes; empty for a delete.
  [[nodiscard]] Result<ArrowArrayStream> chunks(std::size_t index) const {
    ArrowArrayStream stream;
    detail::Call call;
    const khonsu_status status = khonsu_mutations_chunks(raw_, index, stream.out(), call.out());
    if (status != KHONSU_STATUS_OK && status != KHONSU_STATUS_NOT_FOUND) return call.error(status);
    return stream;
  }

 private:
  khonsu_mutation get(std::size_t index) const noexcept {
    khonsu_mutation mutation{};
    static_cast<void>(khonsu_mutations_get(raw_, index, &mutation, sizeof(mutation), nullptr));
    return mutation;
  }

  const khonsu_mutations *raw_;
};

/// A storage of one's own: see khonsu_storage_callbacks. A failure that a member returns, or an exception that leaves
/// it, makes the call that it serves fail with its message; an exception with Status::storage. Threads: members are
/// called by different threads, apply and sync by one at a time.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual Result<void> load(Loader &loader) = 0;
  virtual Result<void> apply(const Mutations &mutations, Durability durability) = 0;
  virtual Result<void> sync() = 0;
  virtual Result<void> checkpoint() { return {}; }
  virtual Result<void> close() { return {}; }
};

namespace detail {

/// The callbacks of a Storage, through which nothing may be thrown; context is the Storage.
struct StorageCallbacks {
  static void say(std::string_view text, char *message, std::size_t size) noexcept {
    const std::size_t length = text.copy(message, size - 1);
    message[length] = '\0';
  }
  template <typename Member>
  static std::int32_t call(void *context, char *message, std::size_t size, Member member) noexcept {
#if KHONSU_HPP_EXCEPTIONS
    try {
#endif
      const Result<void> result = member(*static_cast<Storage *>(context));
      if (result.ok()) return KHONSU_STATUS_OK;
      say(result.error().message(), message, size);
      // A failure must not read as success, whatever status its Error was made with.
      return result.status() == Status::ok ? KHONSU_STATUS_STORAGE : static_cast<std::int32_t>(result.status());
#if KHONSU_HPP_EXCEPTIONS
    } catch (const std::exception &exception) {
      say(exception.what(), message, size);
    } catch (...) {
      say("an exception that is no std::exception", message, size);
    }
    return KHONSU_STATUS_STORAGE;
#endif
  }
  static std::int32_t load(void *context, khonsu_loader *raw, char *message, std::size_t size) {
    return call(context, message, size, [&](Storage &storage) {
      Loader loader(raw);
      return storage.load(loader);
    });
  }
  static std::int32_t apply(void *context, const khonsu_mutations *raw, std::int32_t durability, char *message,
                            std::size_t size) {
    return call(context, message, size,
                [&](Storage &storage) { return storage.apply(Mutations(raw), Durability{durability}); });
  }
  static std::int32_t sync(void *context, char *message, std::size_t size) {
    return call(context, message, size, [](Storage &storage) { return storage.sync(); });
  }
  static std::int32_t checkpoint(void *context, char *message, std::size_t size) {
    return call(context, message, size, [](Storage &storage) { return storage.checkpoint(); });
  }
  static std::int32_t close(void *context, char *message, std::size_t size) {
    return call(context, message, size, [](Storage &storage) { return storage.close(); });
  }
  static void destroy(void *context) { delete static_cast<Storage *>(context); }
};

}  // namespace detail

// ---- options ----

namespace detail {

/// A handle of options with setters that chain: the first setter that fails is remembered, and whoever takes the
/// options returns its error.
template <typename T, T *(*New)(), void (*Free)(T *)>
class OptionsHandle : public Handle<T, Free> {
 public:
  OptionsHandle() noexcept : Handle<T, Free>(New()) {}
  explicit OptionsHandle(T *adopted) noexcept : Handle<T, Free>(adopted) {}

  /// The error of the first setter that failed, or of options that were moved from.
  [[nodiscard]] Result<void> check() const {
    if (failure_.has_value()) return Error(failure_->status(), std::string(failure_->message()));
    if (this->get() == nullptr) return Error(Status::invalid_argument, "the options are empty: they were moved from");
    return {};
  }

 protected:
  template <typename Setter, typename... Arguments>
  void set(Setter setter, Arguments... arguments) {
    Call call;
    const khonsu_status status = setter(this->get(), arguments..., call.out());
    if (status != KHONSU_STATUS_OK) remember(call.error(status));
  }
  /// The count of a duration; a negative one is remembered as a failure.
  template <typename Duration>
  std::uint64_t count(Duration duration) {
    if (duration.count() < 0) remember(Error(Status::invalid_argument, "a duration is negative"));
    return static_cast<std::uint64_t>(duration.count());
  }

  void remember(Error error) {
    if (!failure_.has_value()) failure_ = std::move(error);
  }

 private:
  std::optional<Error> failure_;
};

}  // namespace detail

/// Options of a database, with the defaults of khonsu.h until set; Database::open copies them. Threads: serialized.
class Options : public detail::OptionsHandle<khonsu_options, khonsu_options_new, khonsu_options_free> {
 public:
  using OptionsHandle::OptionsHandle;

  /// Of the transactions that do not choose one.
  Options &isolation(Isolation isolation) {
    set(khonsu_options_set_isolation, static_cast<std::int32_t>(isolation));
    return *this;
  }
  /// Of the transactions that do not choose one.
  Options &conflict_resolution(ConflictResolution resolution) {
    set(khonsu_options_set_conflict_resolution, static_cast<std::int32_t>(resolution));
    return *this;
  }
  /// The directory that the database is stored in; "": in memory.
  Options &path(const std::string &path) {
    set(khonsu_options_set_path, path.c_str());
    return *this;
  }
  /// Of the transactions that do not choose one, where the database is stored.
  Options &durability(Durability durability) {
    set(khonsu_options_set_durability, static_cast<std::int32_t>(durability));
    return *this;
  }
  /// Told now and then how far Database::open is with what is stored at the path. It must not throw.
  Options &open_progress(khonsu_progress_fn function, void *context) {
    set(khonsu_options_set_open_progress, function, context);
    return *this;
  }
  /// A storage of one's own, for the first database that is opened with these options. It is destroyed after the
  /// database, or with the options when none is opened.
  Options &storage(std::unique_ptr<Storage> storage);
  /// Staged bytes of one transaction; 0: no limit.
  Options &max_transaction_bytes(std::uint64_t bytes) {
    set(khonsu_options_set_max_transaction_bytes, bytes);
    return *this;
  }
  /// Bytes that values take of the memory; the others are read back from the path when they are asked for. 0: all are in
  /// memory.
  Options &memory_budget(std::uint64_t bytes) {
    set(khonsu_options_set_memory_budget, bytes);
    return *this;
  }
  /// Bytes of all values in memory; 0: no limit.
  Options &max_total_bytes(std::uint64_t bytes) {
    set(khonsu_options_set_max_total_bytes, bytes);
    return *this;
  }
  /// Checks every value of every array that comes in.
  Options &full_validation(bool enabled) {
    set(khonsu_options_set_full_validation, static_cast<std::int32_t>(enabled));
    return *this;
  }
};

inline Options &Options::storage(std::unique_ptr<Storage> storage) {
  using Callbacks = detail::StorageCallbacks;
  const khonsu_storage_callbacks callbacks = {sizeof(khonsu_storage_callbacks), storage.get(),
                                              &Callbacks::load,  &Callbacks::apply, &Callbacks::sync,
                                              &Callbacks::checkpoint, &Callbacks::close, &Callbacks::destroy};
  detail::Call call;
  const khonsu_status status =
      khonsu_options_set_storage(get(), storage == nullptr ? nullptr : &callbacks, call.out());
  if (status == KHONSU_STATUS_OK) {
    static_cast<void>(storage.release());
  } else {
    remember(call.error(status));
  }
  return *this;
}

/// Options of a transaction, with the database's choices until set; begin and transact copy them. Threads: serialized;
/// a const one may be used by all threads at once.
class TransactionOptions
    : public detail::OptionsHandle<khonsu_txn_options, khonsu_txn_options_new, khonsu_txn_options_free> {
 public:
  using OptionsHandle::OptionsHandle;

  TransactionOptions &isolation(Isolation isolation) {
    set(khonsu_txn_options_set_isolation, static_cast<std::int32_t>(isolation));
    return *this;
  }
  TransactionOptions &conflict_resolution(ConflictResolution resolution) {
    set(khonsu_txn_options_set_conflict_resolution, static_cast<std::int32_t>(resolution));
    return *this;
  }
  TransactionOptions &durability(Durability durability) {
    set(khonsu_txn_options_set_durability, static_cast<std::int32_t>(durability));
    return *this;
  }
  /// A read-only transaction never conflicts, never waits, and makes no other one conflict that has read nothing stale.
  TransactionOptions &read_only(bool enabled = true) {
    set(khonsu_txn_options_set_read_only, static_cast<std::int32_t>(enabled));
    return *this;
  }
  /// Staged bytes; 0: no limit of the transaction's own.
  TransactionOptions &max_bytes(std::uint64_t bytes) {
    set(khonsu_txn_options_set_max_bytes, bytes);
    return *this;
  }
  /// How often transact runs its body at most; 0: no limit.
  TransactionOptions &max_attempts(std::uint32_t attempts) {
    set(khonsu_txn_options_set_max_attempts, attempts);
    return *this;
  }
  /// When transact stops rerunning its body; zero: never.
  TransactionOptions &timeout(std::chrono::milliseconds timeout) {
    set(khonsu_txn_options_set_timeout_ms, count(timeout));
    return *this;
  }
  /// The waits of transact between attempts: the first and the longest.
  TransactionOptions &backoff(std::chrono::microseconds initial, std::chrono::microseconds maximum) {
    set(khonsu_txn_options_set_backoff_us, count(initial), count(maximum));
    return *this;
  }
};

// ---- transactions ----

/// A position in a scan; begins before the first entry. Threads: serialized, together with its transaction.
class Cursor : public detail::Handle<khonsu_cursor, khonsu_cursor_free> {
 public:
  using Handle::Handle;

  /// Goes to the next entry; false past the last one. Fails: invalid_state (the transaction has ended).
  Result<bool> next() {
    detail::Call call;
    const khonsu_status status = khonsu_cursor_next(get(), call.out());
    return call.found(status);
  }
  /// The entry's key, valid until next() or the cursor's end. Fails: invalid_state (not on an entry).
  [[nodiscard]] Result<std::string_view> key() const {
    const void *key = nullptr;
    std::size_t size = 0;
    detail::Call call;
    const khonsu_status status = khonsu_cursor_key(get(), &key, &size, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return std::string_view(static_cast<const char *>(key), size);
  }
  /// The entry's value with its schema. Fails: invalid_state (not on an entry).
  Result<Batch> batch() {
    Batch batch;
    detail::Call call;
    const khonsu_status status = khonsu_cursor_get(get(), batch.array.out(), batch.schema.out(), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return batch;
  }
  /// The entry's value alone. Fails: invalid_state (not on an entry).
  Result<ArrowArray> array() {
    ArrowArray array;
    detail::Call call;
    const khonsu_status status = khonsu_cursor_get(get(), array.out(), nullptr, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return array;
  }
  /// Calls visit(std::string_view key, Batch batch) for the entries that are left. visit returns void, or Result<void>
  /// whose failure ends the walk and is returned.
  template <typename Visit>
  Result<void> for_each(Visit &&visit) {
    for (;;) {
      Result<bool> on_entry = next();
      if (!on_entry.ok()) return std::move(on_entry).error();
      if (!on_entry.value()) return {};
      Result<std::string_view> entry_key = key();
      if (!entry_key.ok()) return std::move(entry_key).error();
      Result<Batch> entry = batch();
      if (!entry.ok()) return std::move(entry).error();
      if constexpr (std::is_void_v<std::invoke_result_t<Visit &, std::string_view, Batch>>) {
        visit(entry_key.value(), std::move(entry).value());
      } else {
        Result<void> visited = visit(entry_key.value(), std::move(entry).value());
        if (!visited.ok()) return visited;
      }
    }
  }
};

/// A mark in a transaction's writes. What was written after it is undone when it is destroyed, unless release() was
/// called. Borrows the transaction, which must not be freed before it. Threads: serialized, with its transaction.
class [[nodiscard]] Savepoint {
 public:
  Savepoint(khonsu_txn *transaction, std::uint64_t id) noexcept : transaction_(transaction), id_(id) {}
  Savepoint(Savepoint &&other) noexcept
      : transaction_(std::exchange(other.transaction_, nullptr)), id_(other.id_) {}
  Savepoint &operator=(Savepoint &&other) noexcept {
    if (this != &other) {
      undo();
      transaction_ = std::exchange(other.transaction_, nullptr);
      id_ = other.id_;
    }
    return *this;
  }
  ~Savepoint() { undo(); }

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

  /// Undoes what was written after the mark; the mark stays.
  /// Fails: invalid_argument (released, or an older one was rolled back), invalid_state (the transaction has ended).
  Result<void> rollback() {
    detail::Call call;
    const khonsu_status status = khonsu_txn_rollback_to(transaction_, id_, call.out());
    return call.result(status);
  }
  /// Keeps what was written after the mark and forgets the mark. Fails as rollback() does.
  Result<void> release() {
    detail::Call call;
    const khonsu_status status = khonsu_txn_release(std::exchange(transaction_, nullptr), id_, call.out());
    return call.result(status);
  }

 private:
  // A failure says that the transaction has ended or that an older mark was rolled back: there is nothing left to undo.
  void undo() noexcept {
    if (transaction_ == nullptr) return;
    if (khonsu_txn_rollback_to(transaction_, id_, nullptr) == KHONSU_STATUS_OK) {
      khonsu_txn_release(transaction_, id_, nullptr);
    }
    transaction_ = nullptr;
  }

  khonsu_txn *transaction_;
  std::uint64_t id_;
};

/// One transaction. commit() and rollback() end it; destroying an open one rolls it back. Every call fails with
/// invalid_argument for a key of 0 or more than KHONSU_KEY_MAX_BYTES bytes and with invalid_state once it has ended.
/// Arrays, schemas and streams passed in are consumed, on failure too. Threads: serialized.
class Transaction : public detail::Handle<khonsu_txn, khonsu_txn_free> {
 public:
  using Handle::Handle;
  using Handle::get;

  /// The value with its schema; nothing when the key is absent.
  Result<std::optional<Batch>> get(Bytes key) {
    Batch batch;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_get(get(), key.data(), key.size(), batch.array.out(), batch.schema.out(), call.out());
    return optional(call, status, std::move(batch));
  }
  /// The value, of which schema says what it must be. Fails: schema_mismatch (it has another one).
  Result<std::optional<ArrowArray>> get(Bytes key, const Schema &schema) {
    ArrowArray array;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_get_with_schema(get(), key.data(), key.size(), schema.get(), array.out(), call.out());
    return optional(call, status, std::move(array));
  }
  /// The value without its schema; nothing when the key is absent.
  Result<std::optional<ArrowArray>> get_array(Bytes key) {
    ArrowArray array;
    detail::Call call;
    const khonsu_status status = khonsu_txn_get(get(), key.data(), key.size(), array.out(), nullptr, call.out());
    return optional(call, status, std::move(array));
  }
  /// The value as its chunks, all but small ones without a copy; nothing when the key is absent. Stays valid after the
  /// transaction.
  Result<std::optional<ArrowArrayStream>> get_stream(Bytes key) {
    ArrowArrayStream stream;
    detail::Call call;
    const khonsu_status status = khonsu_txn_get_stream(get(), key.data(), key.size(), stream.out(), call.out());
    return optional(call, status, std::move(stream));
  }
  Result<bool> exists(Bytes key) {
    bool exists = false;
    detail::Call call;
    const khonsu_status status = khonsu_txn_exists(get(), key.data(), key.size(), &exists, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return exists;
  }

  /// The value of a bound key with its schema; nothing when the key is absent.
  /// Fails, as all calls with a bound key do: invalid_argument (it was bound in another database).
  Result<std::optional<Batch>> get(const Key &key) {
    Batch batch;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_get_bound(get(), key.get(), nullptr, batch.array.out(), batch.schema.out(), call.out());
    return optional(call, status, std::move(batch));
  }
  /// The same, of which schema says what it must be. Fails: schema_mismatch (it has another one).
  Result<std::optional<ArrowArray>> get(const Key &key, const Schema &schema) {
    if (!schema) return no_schema();
    ArrowArray array;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_get_bound(get(), key.get(), schema.get(), array.out(), nullptr, call.out());
    return optional(call, status, std::move(array));
  }
  Result<bool> exists(const Key &key) {
    bool exists = false;
    detail::Call call;
    const khonsu_status status = khonsu_txn_exists_bound(get(), key.get(), &exists, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return exists;
  }
  /// The values of many keys, in their order, which takes less time than a get of each; an empty array where a key is
  /// absent. Fails: schema_mismatch (a value has another schema).
  Result<std::vector<ArrowArray>> get_many(const std::vector<Bytes> &keys, const Schema &schema) {
    if (!schema) return no_schema();
    const Pointers pointers(keys);
    std::vector<::ArrowArray> arrays(keys.size());
    detail::Call call;
    const khonsu_status status = khonsu_txn_get_many(get(), pointers.data.data(), pointers.sizes.data(), keys.size(),
                                                     schema.get(), arrays.data(), nullptr, call.out());
    return owned(call, status, arrays);
  }
  /// The same of bound keys.
  Result<std::vector<ArrowArray>> get_many_bound(const std::vector<const Key *> &keys, const Schema &schema) {
    if (!schema) return no_schema();
    std::vector<const khonsu_key *> handles;
    handles.reserve(keys.size());
    for (const Key *key : keys) handles.push_back(key->get());
    std::vector<::ArrowArray> arrays(keys.size());
    detail::Call call;
    const khonsu_status status = khonsu_txn_get_many_bound(get(), handles.data(), keys.size(), schema.get(),
                                                           arrays.data(), nullptr, call.out());
    return owned(call, status, arrays);
  }
  /// The same with their schemas, which may differ; an empty batch where a key is absent.
  Result<std::vector<Batch>> get_many(const std::vector<Bytes> &keys) {
    const Pointers pointers(keys);
    std::vector<::ArrowArray> arrays(keys.size());
    std::vector<::ArrowSchema> schemas(keys.size());
    detail::Call call;
    const khonsu_status status = khonsu_txn_get_many(get(), pointers.data.data(), pointers.sizes.data(), keys.size(),
                                                     nullptr, arrays.data(), schemas.data(), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    std::vector<Batch> batches;
    batches.reserve(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      batches.push_back({ArrowArray(&arrays[i]), ArrowSchema(&schemas[i])});
    }
    return batches;
  }
  /// The values of many keys as one stream: column "key" (binary), then the columns of the values, which must all have
  /// the same schema; absent keys give no rows. Fails: schema_mismatch.
  Result<ArrowArrayStream> get_many_stream(const std::vector<Bytes> &keys) {
    const Pointers pointers(keys);
    ArrowArrayStream stream;
    detail::Call call;
    const khonsu_status status = khonsu_txn_get_many_stream(get(), pointers.data.data(), pointers.sizes.data(),
                                                            keys.size(), nullptr, stream.out(), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return stream;
  }

  /// Stages a value. Fails: invalid_argument (malformed array or schema), invalid_state (read-only), limit_exceeded.
  Result<void> put(Bytes key, ArrowArray &&array, ArrowSchema &&schema) {
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_put(get(), key.data(), key.size(), array.get(), schema.get(), call.out());
    return call.result(status);
  }
  Result<void> put(Bytes key, Batch &&batch) { return put(key, std::move(batch.array), std::move(batch.schema)); }
  Result<void> put(Bytes key, ArrowArray &&array, const Schema &schema) {
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_put_with_schema(get(), key.data(), key.size(), array.get(), schema.get(), call.out());
    return call.result(status);
  }
  /// Stages all batches of the stream as one value. Fails as put does; an empty stream is an invalid_argument.
  Result<void> put(Bytes key, ArrowArrayStream &&stream) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_put_stream(get(), key.data(), key.size(), stream.get(), call.out());
    return call.result(status);
  }

  Result<void> put(const Key &key, ArrowArray &&array, const Schema &schema) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_put_bound(get(), key.get(), array.get(), schema.get(), call.out());
    return call.result(status);
  }

  /// Stages rows to be added after the newest value at commit; two appends never conflict.
  /// Fails as put does; schema_mismatch, here or at commit, when the value has another schema.
  Result<void> append(Bytes key, ArrowArray &&array, ArrowSchema &&schema) {
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_append(get(), key.data(), key.size(), array.get(), schema.get(), call.out());
    return call.result(status);
  }
  Result<void> append(Bytes key, Batch &&batch) {
    return append(key, std::move(batch.array), std::move(batch.schema));
  }
  Result<void> append(Bytes key, ArrowArray &&array, const Schema &schema) {
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_append_with_schema(get(), key.data(), key.size(), array.get(), schema.get(), call.out());
    return call.result(status);
  }

  Result<void> append(const Key &key, ArrowArray &&array, const Schema &schema) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_append_bound(get(), key.get(), array.get(), schema.get(), call.out());
    return call.result(status);
  }

  /// Stages the key's removal; an absent key is fine.
  Result<void> remove(Bytes key) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_delete(get(), key.data(), key.size(), call.out());
    return call.result(status);
  }
  /// Stages the removal of a bound key, which stays bound.
  Result<void> remove(const Key &key) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_delete_bound(get(), key.get(), call.out());
    return call.result(status);
  }
  /// Chooses the resolution of the write already staged under key; false when none is staged.
  Result<bool> set_conflict_resolution(Bytes key, ConflictResolution resolution) {
    detail::Call call;
    const khonsu_status status = khonsu_txn_set_conflict_resolution(
        get(), key.data(), key.size(), static_cast<std::int32_t>(resolution), call.out());
    return call.found(status);
  }

  /// The entries of range, in key order; limit 0: all of them.
  Result<Cursor> scan(const Range &range = {}, Direction direction = Direction::forward, std::uint64_t limit = 0) {
    khonsu_cursor *out = nullptr;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_scan(get(), data(range.start), size(range.start), data(range.end), size(range.end),
                        static_cast<std::int32_t>(direction), limit, &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Cursor(out);
  }
  /// The entries whose keys begin with prefix, in key order; limit 0: all of them.
  Result<Cursor> scan_prefix(Bytes prefix, Direction direction = Direction::forward, std::uint64_t limit = 0) {
    khonsu_cursor *out = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_txn_scan_prefix(get(), prefix.data(), prefix.size(),
                                                        static_cast<std::int32_t>(direction), limit, &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Cursor(out);
  }
  /// The entries of range as one stream: column "key" (binary), then the columns of the values, which must all have
  /// the same schema. Fails: schema_mismatch.
  Result<ArrowArrayStream> scan_stream(const Range &range = {}, Direction direction = Direction::forward,
                                       std::uint64_t limit = 0) {
    ArrowArrayStream stream;
    detail::Call call;
    const khonsu_status status =
        khonsu_txn_scan_stream(get(), data(range.start), size(range.start), data(range.end), size(range.end),
                               static_cast<std::int32_t>(direction), limit, stream.out(), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return stream;
  }

  /// Marks this point of the transaction's writes.
  Result<Savepoint> savepoint() {
    std::uint64_t id = 0;
    detail::Call call;
    const khonsu_status status = khonsu_txn_savepoint(get(), &id, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Savepoint(get(), id);
  }

  /// Makes the writes visible, all at once, and ends the transaction on success and failure alike.
  /// Fails: conflict (nothing was applied; error().conflicts() says why), schema_mismatch, limit_exceeded.
  Result<void> commit() {
    detail::Call call;
    const khonsu_status status = khonsu_txn_commit(get(), call.out());
    return call.result(status);
  }
  /// Drops the writes and ends the transaction.
  Result<void> rollback() {
    detail::Call call;
    const khonsu_status status = khonsu_txn_rollback(get(), call.out());
    return call.result(status);
  }
  /// Ends the transaction by the first phase of a two-phase commit: after Vote::yes it is committed or rolled back by its
  /// global id, through the database. Any failure is a no; invalid_argument (the id, the flags) leaves it open, all
  /// others roll it back. Fails: conflict (also when something that was read is not the newest), duplicate (the id is
  /// taken), not_durable (the database cannot keep it, and flags do not allow that), storage, schema_mismatch.
  Result<Vote> prepare(Bytes global_id, PrepareFlags flags = PrepareFlags::none) {
    std::int32_t vote = 0;
    detail::Call call;
    const khonsu_status status = khonsu_txn_prepare(get(), global_id.data(), global_id.size(),
                                                    static_cast<std::uint32_t>(flags), &vote, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return static_cast<Vote>(vote);
  }
  /// The version that the commit made, or the snapshot's of a transaction that wrote nothing. Fails: invalid_state (not committed).
  [[nodiscard]] Result<std::uint64_t> commit_version() const {
    std::uint64_t version = 0;
    detail::Call call;
    const khonsu_status status = khonsu_txn_commit_version(get(), &version, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return version;
  }

 private:
  template <typename T>
  static Result<std::optional<T>> optional(detail::Call &call, khonsu_status status, T &&value) {
    if (status == KHONSU_STATUS_OK) return std::optional<T>(std::move(value));
    if (status == KHONSU_STATUS_NOT_FOUND) return std::optional<T>();
    return call.error(status);
  }
  // NULL would stand for any.
  static Error no_schema() { return Error(Status::invalid_argument, "the schema is empty"); }
  // Keys as C has them.
  struct Pointers {
    explicit Pointers(const std::vector<Bytes> &keys) {
      data.reserve(keys.size());
      sizes.reserve(keys.size());
      for (const Bytes &key : keys) {
        data.push_back(key.data());
        sizes.push_back(key.size());
      }
    }
    std::vector<const void *> data;
    std::vector<std::size_t> sizes;
  };
  static Result<std::vector<ArrowArray>> owned(detail::Call &call, khonsu_status status,
                                               std::vector<::ArrowArray> &arrays) {
    if (status != KHONSU_STATUS_OK) return call.error(status);
    std::vector<ArrowArray> adopted;
    adopted.reserve(arrays.size());
    for (::ArrowArray &array : arrays) adopted.emplace_back(&array);
    return adopted;
  }
  // NULL says that an end is open.
  static const void *data(const std::optional<Bytes> &end) noexcept { return end.has_value() ? end->data() : nullptr; }
  static std::size_t size(const std::optional<Bytes> &end) noexcept { return end.has_value() ? end->size() : 0; }
};

// ---- the database ----

/// Counters of a database; fields as khonsu.h says.
using Stats = khonsu_stats;

/// A prepared transaction that is in doubt, or that was decided heuristically and not forgotten; fields as
/// khonsu_prepared_info in khonsu.h says.
struct PreparedTransaction {
  std::string global_id;
  std::chrono::microseconds prepared_at;  ///< since 1970 UTC
  PreparedState state;
  std::uint64_t written_keys;
  std::uint64_t bytes;            ///< of these keys and what is written there
  std::vector<std::string> keys;  ///< that it is going to write; none after a heuristic decision
};

namespace detail {

/// What a transact body gives back: T of T, void, Result<T> and Result<void>.
template <typename R>
struct BodyValue {
  using type = R;
  static constexpr bool is_result = false;
};
template <typename T>
struct BodyValue<Result<T>> {
  using type = T;
  static constexpr bool is_result = true;
};

/// Runs a transact body from the C callback, which nothing may be thrown through, and keeps what it gave.
template <typename Body>
class BodyRunner {
 public:
  using Returned = std::decay_t<std::invoke_result_t<Body &, Transaction &>>;
  using Value = typename BodyValue<Returned>::type;

  explicit BodyRunner(Body &body) noexcept : body_(body) {}

  /// The khonsu_transact_fn; context is the BodyRunner.
  static std::int32_t run(khonsu_txn *transaction, void *context) {
    return static_cast<std::int32_t>(static_cast<BodyRunner *>(context)->attempt(transaction));
  }

  /// The result of the whole transact call, of which status and error are given.
  Result<Value> finish(khonsu_status status, Call &call) {
    if (status == KHONSU_STATUS_OK) {
      if constexpr (std::is_void_v<Value>) {
        return {};
      } else {
        return std::move(*value_);
      }
    }
    Error error = call.error(status);
#if KHONSU_HPP_EXCEPTIONS
    if (exception_ != nullptr) std::rethrow_exception(std::exchange(exception_, nullptr));
#endif
    // The body's own error says more than the library, which was told only its status.
    if (error_.has_value() && error_->status() == error.status() && error.conflicts().empty()) {
      return std::move(*error_);
    }
    return error;
  }

 private:
  // Lends the transaction to a body without giving it away.
  struct Lent {
    explicit Lent(khonsu_txn *raw) noexcept : transaction(raw) {}
    ~Lent() { static_cast<void>(transaction.release()); }
    Lent(const Lent &) = delete;
    Lent &operator=(const Lent &) = delete;
    Transaction transaction;
  };

  Status attempt(khonsu_txn *raw) {
    value_.reset();
    error_.reset();
#if KHONSU_HPP_EXCEPTIONS
    exception_ = nullptr;
    try {
      return call_body(raw);
    } catch (const Exception &exception) {
      // A conflict thrown by value_or_throw() is rerun like one that is returned.
      if (!exception.error().retryable()) exception_ = std::current_exception();
      // What was thrown must not read as success, whatever status its Error was made with.
      return exception.status() == Status::ok ? Status::cancelled : exception.status();
    } catch (...) {
      exception_ = std::current_exception();
      return Status::cancelled;
    }
#else
    return call_body(raw);
#endif
  }

  Status call_body(khonsu_txn *raw) {
    Lent lent(raw);
    if constexpr (std::is_void_v<Returned>) {
      body_(lent.transaction);
      return Status::ok;
    } else if constexpr (!BodyValue<Returned>::is_result) {
      value_.emplace(body_(lent.transaction));
      return Status::ok;
    } else {
      Returned returned = body_(lent.transaction);
      if (returned.ok()) {
        if constexpr (!std::is_void_v<Value>) value_.emplace(std::move(returned).value());
        return Status::ok;
      }
      // A failure must not read as success, whatever status its Error was made with.
      const Status status = returned.status() == Status::ok ? Status::cancelled : returned.status();
      error_.emplace(std::move(returned).error());
      return status;
    }
  }

  Body &body_;
  std::optional<std::conditional_t<std::is_void_v<Value>, std::monostate, Value>> value_;  // of the last attempt
  std::optional<Error> error_;                                                             // of the last attempt
#if KHONSU_HPP_EXCEPTIONS
  std::exception_ptr exception_;  // of the last attempt
#endif
};

}  // namespace detail

/// A database. Threads: concurrent.
class Database : public detail::Handle<khonsu_db, khonsu_db_free> {
 public:
  using Handle::Handle;

  /// A new, empty database with the default options.
  static Result<Database> open() { return open_raw(nullptr); }
  /// The database of the path or of the storage in the options, or an empty one in memory. Fails: invalid_argument (an
  /// option that could not be set, moved-from options, both a path and a storage), invalid_state (the storage was given
  /// to another database), storage, corruption, locked (it is open already).
  static Result<Database> open(const Options &options) {
    Result<void> checked = options.check();
    if (!checked.ok()) return std::move(checked).error();
    return open_raw(options.get());
  }

  /// Begins a transaction. Fails: invalid_argument (an option that could not be set, or moved-from options).
  [[nodiscard]] Result<Transaction> begin() const { return begin_raw(nullptr); }
  [[nodiscard]] Result<Transaction> begin(const TransactionOptions &options) const {
    Result<void> checked = options.check();
    if (!checked.ok()) return std::move(checked).error();
    return begin_raw(options.get());
  }

  /// Binds a key, whether it exists or not. Fails: invalid_argument (0 or more than KHONSU_KEY_MAX_BYTES bytes).
  [[nodiscard]] Result<Key> bind(Bytes key) const {
    khonsu_key *out = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_key_bind(get(), key.data(), key.size(), &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Key(out);
  }

  /// Runs body(Transaction &) in a transaction and commits it; on a conflict the body is run again, so it must have no
  /// effect outside the transaction that must not happen twice.
  ///
  /// The body returns void, T, Result<void> or Result<T>; T comes back from transact. A failure that it returns rolls
  /// the transaction back: a retryable one is rerun, another one becomes transact's own. An exception that leaves the
  /// body rolls back, too, and is thrown again from transact, except a khonsu::Exception with a retryable status,
  /// which is rerun. The body must not commit, roll back or move from its transaction.
  ///
  /// commit_version, if not NULL, gets the version of the commit.
  /// Fails: conflict (attempts are used up), timeout, what the commit fails with, what the body returns.
  template <typename Body>
  auto transact(const TransactionOptions &options, Body &&body, std::uint64_t *commit_version = nullptr) const
      -> Result<typename detail::BodyRunner<std::remove_reference_t<Body>>::Value> {
    Result<void> checked = options.check();
    if (!checked.ok()) return std::move(checked).error();
    return transact_raw(options.get(), body, commit_version);
  }
  template <typename Body>
  auto transact(Body &&body, std::uint64_t *commit_version = nullptr) const
      -> Result<typename detail::BodyRunner<std::remove_reference_t<Body>>::Value> {
    return transact_raw(nullptr, body, commit_version);
  }

  [[nodiscard]] Result<Stats> stats() const {
    Stats stats{};
    detail::Call call;
    const khonsu_status status = khonsu_db_stats(get(), &stats, sizeof(stats), call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return stats;
  }
  /// Commits a prepared transaction; gives the version, or nothing where no such one is in doubt or remembered. May be
  /// repeated. Fails: already_decided (it was rolled back), heuristic (an operator has decided: error().decision()),
  /// busy (another call is at it), storage (it is in doubt still).
  Result<std::optional<std::uint64_t>> commit_prepared(Bytes global_id) const {
    std::uint64_t version = 0;
    detail::Call call;
    const khonsu_status status =
        khonsu_db_commit_prepared(get(), global_id.data(), global_id.size(), &version, call.out());
    if (status == KHONSU_STATUS_OK) return std::optional<std::uint64_t>(version);
    if (status == KHONSU_STATUS_NOT_FOUND) return std::optional<std::uint64_t>();
    return call.error(status);
  }
  /// Rolls a prepared transaction back; false where no such one is in doubt or remembered. May be repeated. Fails as
  /// commit_prepared, already_decided for one that was committed.
  Result<bool> rollback_prepared(Bytes global_id) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_rollback_prepared(get(), global_id.data(), global_id.size(), call.out());
    return call.found(status);
  }
  /// Decides about a prepared transaction in the place of its coordinator, which is told when that decides; false where
  /// no such one is in doubt or remembered. Fails: already_decided (by the coordinator), heuristic (otherwise, before),
  /// busy, storage.
  Result<bool> decide_heuristically(Bytes global_id, Decision decision) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_decide_heuristically(get(), global_id.data(), global_id.size(),
                                                                static_cast<std::int32_t>(decision), call.out());
    return call.found(status);
  }
  /// Forgets how a prepared transaction ended; its id may be used again. Fails: invalid_state (it is in doubt), storage.
  Result<void> forget(Bytes global_id) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_forget(get(), global_id.data(), global_id.size(), call.out());
    return call.result(status);
  }
  /// The prepared transactions: those in doubt, the oldest first, then those decided heuristically and not forgotten.
  [[nodiscard]] Result<std::vector<PreparedTransaction>> recover() const {
    khonsu_prepared_list *raw = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_db_recover(get(), &raw, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    const detail::Handle<khonsu_prepared_list, khonsu_prepared_list_free> list(raw);
    const std::size_t count = khonsu_prepared_list_count(raw);
    std::vector<PreparedTransaction> prepared;
    prepared.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
      khonsu_prepared_info info{};
      if (khonsu_prepared_list_get(raw, index, &info, sizeof(info), nullptr) != KHONSU_STATUS_OK) break;
      PreparedTransaction one{std::string(static_cast<const char *>(info.global_id), info.global_id_len),
                              std::chrono::microseconds(info.time_micros),
                              static_cast<PreparedState>(info.state),
                              info.written_keys,
                              info.bytes,
                              {}};
      const void *key = nullptr;
      std::size_t size = 0;
      while (khonsu_prepared_list_key(raw, index, one.keys.size(), &key, &size, nullptr) == KHONSU_STATUS_OK) {
        one.keys.emplace_back(static_cast<const char *>(key), size);
      }
      prepared.push_back(std::move(one));
    }
    return prepared;
  }
  /// Puts everything that is committed on the disk; a database in memory has nothing to do. Fails: storage.
  [[nodiscard]] Result<void> sync() const {
    detail::Call call;
    const khonsu_status status = khonsu_db_sync(get(), call.out());
    return call.result(status);
  }
  /// Has the storage put what all keys are now in the place of the commits that led there. Fails: storage.
  [[nodiscard]] Result<void> checkpoint() const {
    detail::Call call;
    const khonsu_status status = khonsu_db_checkpoint(get(), call.out());
    return call.result(status);
  }
  /// Writes a copy into a new directory, which can be opened as a database. Fails: storage.
  [[nodiscard]] Result<void> backup(const std::string &path) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_backup(get(), path.c_str(), call.out());
    return call.result(status);
  }
  /// Writes all keys into a new directory, as Arrow IPC streams. Fails: storage.
  [[nodiscard]] Result<void> export_to(const std::string &path) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_export(get(), path.c_str(), call.out());
    return call.result(status);
  }
  /// Puts all keys that export_to has written, in several transactions. Fails: storage, corruption, limit_exceeded.
  [[nodiscard]] Result<void> import_from(const std::string &path) const {
    detail::Call call;
    const khonsu_status status = khonsu_db_import(get(), path.c_str(), call.out());
    return call.result(status);
  }

 private:
  static Result<Database> open_raw(const khonsu_options *options) {
    khonsu_db *out = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_db_open(options, &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Database(out);
  }
  Result<Transaction> begin_raw(const khonsu_txn_options *options) const {
    khonsu_txn *out = nullptr;
    detail::Call call;
    const khonsu_status status = khonsu_db_begin(get(), options, &out, call.out());
    if (status != KHONSU_STATUS_OK) return call.error(status);
    return Transaction(out);
  }
  template <typename Body>
  auto transact_raw(const khonsu_txn_options *options, Body &body, std::uint64_t *commit_version) const
      -> Result<typename detail::BodyRunner<Body>::Value> {
    using Runner = detail::BodyRunner<Body>;
    Runner runner(body);
    detail::Call call;
    const khonsu_status status =
        khonsu_db_transact(get(), options, &Runner::run, &runner, commit_version, call.out());
    return runner.finish(status, call);
  }
};

// ---- Arrow IPC files ----

/// Opens an Arrow IPC file or stream as a stream of batches. Fails: storage (cannot be read), corruption (damaged).
inline Result<ArrowArrayStream> ipc_open_stream(const std::string &path) {
  ArrowArrayStream stream;
  detail::Call call;
  const khonsu_status status = khonsu_ipc_open_stream(path.c_str(), stream.out(), call.out());
  if (status != KHONSU_STATUS_OK) return call.error(status);
  return stream;
}

/// Writes all batches of stream, which is consumed; path has the old file or the whole new one, never a part.
/// Fails: storage (cannot be written), invalid_argument (malformed batches).
inline Result<void> ipc_write_stream(const std::string &path, ArrowArrayStream &&stream,
                                     IpcFormat format = IpcFormat::file,
                                     IpcCompression compression = IpcCompression::none) {
  detail::Call call;
  const khonsu_status status =
      khonsu_ipc_write_stream(path.c_str(), stream.get(), static_cast<std::int32_t>(format),
                              static_cast<std::int32_t>(compression), call.out());
  return call.result(status);
}

}  // namespace khonsu

#endif  // KHONSU_HPP
