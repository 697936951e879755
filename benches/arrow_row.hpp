// The smallest honest producer of Arrow batches: rows of four columns in a single allocation. It is what a C++ program
// without an Arrow library would write.
#ifndef KHONSU_BENCHES_ARROW_ROW_HPP
#define KHONSU_BENCHES_ARROW_ROW_HPP

#include <khonsu.hpp>  // the structs of the Arrow C Data Interface

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "data.hpp"

namespace bench {

constexpr int kColumns = 4;

/// Everything that the batch points to; the columns follow it. The count is of the structs (parent and children) not
/// yet released: a consumer may move children out and release them after the parent.
struct BatchBlock {
  std::atomic<int> live{kColumns + 1};
  const void *parent_buffers[1] = {nullptr};
  const void *child_buffers[kColumns][2];
  ArrowArray children[kColumns];
  ArrowArray *child_pointers[kColumns];

  static void drop(BatchBlock *block, int structs) {
    if (block->live.fetch_sub(structs, std::memory_order_acq_rel) == structs) {
      block->~BatchBlock();
      std::free(block);
    }
  }

  static void release_child(ArrowArray *child) {
    child->release = nullptr;
    drop(static_cast<BatchBlock *>(child->private_data), 1);
  }

  static void release_parent(ArrowArray *parent) {
    parent->release = nullptr;
    auto *block = static_cast<BatchBlock *>(parent->private_data);
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
static_assert(sizeof(BatchBlock) % alignof(std::int64_t) == 0, "the columns follow the block");

/// So many times the same row.
inline ArrowArray make_batch(const Row &row, std::int64_t rows = 1) {
  void *memory = std::malloc(sizeof(BatchBlock) + static_cast<std::size_t>(rows) * sizeof(Row));
  if (memory == nullptr) fail("out of memory");
  auto *block = new (memory) BatchBlock;
  auto *ids = reinterpret_cast<std::int64_t *>(block + 1);
  auto *counters = ids + rows;
  auto *prices = reinterpret_cast<double *>(counters + rows);
  auto *amounts = prices + rows;
  for (std::int64_t i = 0; i < rows; ++i) {
    ids[i] = row.id;
    counters[i] = row.counter;
    prices[i] = row.price;
    amounts[i] = row.amount;
  }
  const void *values[kColumns] = {ids, counters, prices, amounts};
  for (int column = 0; column < kColumns; ++column) {
    block->child_buffers[column][0] = nullptr;  // no nulls
    block->child_buffers[column][1] = values[column];
    block->children[column] = {rows,    0,       0,   2, 0, block->child_buffers[column],
                               nullptr, nullptr, BatchBlock::release_child, block};
    block->child_pointers[column] = &block->children[column];
  }
  return {rows,    0, 0, 1, kColumns, block->parent_buffers, block->child_pointers,
          nullptr, BatchBlock::release_parent, block};
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
