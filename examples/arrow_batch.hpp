// Batches of primitive columns over the Arrow C Data Interface, for programs that do not link an Arrow library.
#ifndef EXAMPLES_ARROW_BATCH_HPP
#define EXAMPLES_ARROW_BATCH_HPP

#include <cstdint>
#include <khonsu.hpp>
#include <string>
#include <utility>
#include <vector>

namespace arrow_batch {

/// One column that owns its values. Like each Arrow struct it is released by itself: a consumer may move it out of
/// its batch.
template <typename T>
::ArrowArray column(std::vector<T> values) {
  struct Owner {
    std::vector<T> values;
    const void *buffers[2];
  };
  auto *owner = new Owner{std::move(values), {}};
  owner->buffers[1] = owner->values.data();  // buffer 0, the null bitmap, is absent: nothing is null
  ::ArrowArray array{};
  array.length = static_cast<std::int64_t>(owner->values.size());
  array.n_buffers = 2;
  array.buffers = owner->buffers;
  array.private_data = owner;
  array.release = [](::ArrowArray *self) {
    delete static_cast<Owner *>(self->private_data);
    self->release = nullptr;
  };
  return array;
}

/// A record batch of columns of the same length.
template <typename... T>
khonsu::ArrowArray batch(std::vector<T>... values) {
  constexpr std::size_t kColumns = sizeof...(T);
  struct Owner {
    ::ArrowArray columns[kColumns];
    ::ArrowArray *pointers[kColumns];
    const void *buffers[1];  // the null bitmap of the batch itself
  };
  auto *owner = new Owner{{column(std::move(values))...}, {}, {nullptr}};
  for (std::size_t i = 0; i < kColumns; ++i) owner->pointers[i] = &owner->columns[i];
  ::ArrowArray array{};
  array.length = owner->columns[0].length;
  array.n_buffers = 1;
  array.n_children = kColumns;
  array.buffers = owner->buffers;
  array.children = owner->pointers;
  array.private_data = owner;
  array.release = [](::ArrowArray *self) {
    auto *released = static_cast<Owner *>(self->private_data);
    for (::ArrowArray &child : released->columns) {
      if (child.release != nullptr) child.release(&child);
    }
    delete released;
    self->release = nullptr;
  };
  return khonsu::ArrowArray(&array);
}

/// The values of a column, which begin at its own offset and the batch's.
template <typename T>
const T *values(const khonsu::ArrowArray &batch, std::size_t index) {
  const ::ArrowArray &child = *batch->children[index];
  if (child.length == 0) return nullptr;
  return static_cast<const T *>(child.buffers[1]) + child.offset + batch->offset;
}

/// A schema of int64 columns without nulls.
inline khonsu::ArrowSchema int64_schema(std::vector<std::string> names) {
  struct Owner {
    std::vector<std::string> names;
    std::vector<::ArrowSchema> columns;
    std::vector<::ArrowSchema *> pointers;
  };
  auto *owner = new Owner{std::move(names), {}, {}};
  for (const std::string &name : owner->names) {
    ::ArrowSchema field{};
    field.format = "l";
    field.name = name.c_str();
    field.release = [](::ArrowSchema *self) { self->release = nullptr; };  // the parent owns its name
    owner->columns.push_back(field);
  }
  for (::ArrowSchema &field : owner->columns) owner->pointers.push_back(&field);
  ::ArrowSchema schema{};
  schema.format = "+s";
  schema.name = "";
  schema.n_children = static_cast<std::int64_t>(owner->columns.size());
  schema.children = owner->pointers.data();
  schema.private_data = owner;
  schema.release = [](::ArrowSchema *self) {
    delete static_cast<Owner *>(self->private_data);
    self->release = nullptr;
  };
  return khonsu::ArrowSchema(&schema);
}

}  // namespace arrow_batch

#endif
