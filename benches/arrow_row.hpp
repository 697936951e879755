// The Arrow C Data Interface and the smallest honest producer for it: a batch of one row and four columns in a
// single allocation. It is what a C++ program without an Arrow library would write.
#ifndef KHONSU_BENCHES_ARROW_ROW_HPP
#define KHONSU_BENCHES_ARROW_ROW_HPP

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "bench.hpp"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4
extern "C" {
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
}
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
extern "C" {
struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
  int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
  const char *(*get_last_error)(struct ArrowArrayStream *);
  void (*release)(struct ArrowArrayStream *);
  void *private_data;
};
}
#endif

namespace bench {

constexpr int kColumns = 4;

/// Everything that the batch points to. The count is of the structs (parent and children) not yet released: a
/// consumer may move children out and release them after the parent.
struct RowBlock {
  Row row;
  std::atomic<int> live{kColumns + 1};
  const void *parent_buffers[1] = {nullptr};
  const void *child_buffers[kColumns][2];
  ArrowArray children[kColumns];
  ArrowArray *child_pointers[kColumns];

  static void drop(RowBlock *block, int structs) {
    if (block->live.fetch_sub(structs, std::memory_order_acq_rel) == structs) {
      block->~RowBlock();
      std::free(block);
    }
  }

  static void release_child(ArrowArray *child) {
    child->release = nullptr;
    drop(static_cast<RowBlock *>(child->private_data), 1);
  }

  static void release_parent(ArrowArray *parent) {
    parent->release = nullptr;
    auto *block = static_cast<RowBlock *>(parent->private_data);
    int structs = 1;
    for (ArrowArray &child : block->children) {
      if (child.release != nullptr) {  // not moved out
        child.release = nullptr;
        ++structs;
      }
    }
    drop(block, structs);
  }
};

inline ArrowArray make_batch(const Row &row) {
  void *memory = std::malloc(sizeof(RowBlock));
  if (memory == nullptr) fail("out of memory");
  auto *block = new (memory) RowBlock;
  block->row = row;
  const void *values[kColumns] = {&block->row.id, &block->row.counter, &block->row.price, &block->row.amount};
  for (int column = 0; column < kColumns; ++column) {
    block->child_buffers[column][0] = nullptr;  // no nulls
    block->child_buffers[column][1] = values[column];
    block->children[column] = {1, 0, 0, 2, 0, block->child_buffers[column], nullptr, nullptr, RowBlock::release_child,
                               block};
    block->child_pointers[column] = &block->children[column];
  }
  return {1, 0, 0, 1, kColumns, block->parent_buffers, block->child_pointers, nullptr, RowBlock::release_parent, block};
}

/// The first row of a batch with our schema, wherever the batch comes from.
inline Row read_batch(const ArrowArray &batch) {
  auto value = [&batch](int column, auto zero) {
    const ArrowArray &child = *batch.children[column];
    return static_cast<const decltype(zero) *>(child.buffers[1])[batch.offset + child.offset];
  };
  return {value(0, std::int64_t{}), value(1, std::int64_t{}), value(2, double{}), value(3, double{})};
}

namespace detail {
inline void release_nothing(ArrowSchema *schema) { schema->release = nullptr; }
}  // namespace detail

/// Everything it points to is static, so releasing it frees nothing.
inline ArrowSchema make_schema() {
  static ArrowSchema columns[kColumns] = {
      {"l", "id", nullptr, 0, 0, nullptr, nullptr, detail::release_nothing, nullptr},
      {"l", "counter", nullptr, 0, 0, nullptr, nullptr, detail::release_nothing, nullptr},
      {"g", "price", nullptr, 0, 0, nullptr, nullptr, detail::release_nothing, nullptr},
      {"g", "amount", nullptr, 0, 0, nullptr, nullptr, detail::release_nothing, nullptr},
  };
  static ArrowSchema *pointers[kColumns] = {&columns[0], &columns[1], &columns[2], &columns[3]};
  for (ArrowSchema &column : columns) column.release = detail::release_nothing;  // may be made more than once
  return {"+s", "", nullptr, 0, kColumns, pointers, nullptr, detail::release_nothing, nullptr};
}

}  // namespace bench

#endif
