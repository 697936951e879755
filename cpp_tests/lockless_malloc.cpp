// malloc and its kin without a lock, for freeze_test: an ordinary allocator may hold a lock at the instant at which the
// test stops a thread, and then the others wait for it in the allocator, which says nothing about khonsu. These
// definitions take the place of the C library's in the whole process, khonsu's shared library included.
//
// Each thread has its own lists of free blocks, one for each power of two, and gets fresh memory from the kernel. A block
// joins the lists of the thread that frees it, whichever allocated it; nothing is shared, so nothing is locked. Memory
// of threads that have ended is lost, which a test can bear.
//
// Compiled with -fno-builtin, or the compiler would make calls of calloc out of what calloc does.
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lockless_malloc.hpp"

#if !KHONSU_SANITIZED

namespace {

constexpr unsigned kLargestClass = 19;  // from the next on the kernel is asked for each block
constexpr std::size_t kFresh = std::size_t{1} << 20;
constexpr std::size_t kAlignment = 16;

/// Lies before what the caller gets.
struct alignas(kAlignment) Header {
  std::uint32_t size_class;  // of the whole block: two to this number bytes
  std::uint32_t offset;      // from the beginning of the block to what the caller gets
};

struct Free {
  Free *next;
};

struct Cache {
  Free *free[kLargestClass + 1];
  char *fresh;
  std::size_t fresh_left;
  std::uint64_t calls;
};

// Trivial, so it needs no constructor, which would itself allocate.
thread_local Cache cache;

void *from_kernel(std::size_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

char *take_block(unsigned size_class) {
  const std::size_t bytes = std::size_t{1} << size_class;
  if (size_class > kLargestClass) return static_cast<char *>(from_kernel(bytes));
  if (Free *block = cache.free[size_class]) {
    cache.free[size_class] = block->next;
    return reinterpret_cast<char *>(block);
  }
  if (cache.fresh_left < bytes) {
    char *fresh = static_cast<char *>(from_kernel(kFresh));
    if (fresh == nullptr) return nullptr;
    cache.fresh = fresh;  // what was left of the last one is lost
    cache.fresh_left = kFresh;
  }
  char *block = cache.fresh;
  cache.fresh += bytes;
  cache.fresh_left -= bytes;
  return block;
}

Header *header_of(void *memory) { return static_cast<Header *>(memory) - 1; }

/// Bytes that the block of some memory has for its user.
std::size_t room(void *memory) {
  const Header *header = header_of(memory);
  return (std::size_t{1} << header->size_class) - header->offset;
}

void *allocate(std::size_t bytes, std::size_t alignment) {
  ++cache.calls;
  if (alignment < kAlignment) alignment = kAlignment;
  const std::size_t extra = alignment + sizeof(Header);
  if (bytes > SIZE_MAX / 4 || alignment > SIZE_MAX / 4) {
    errno = ENOMEM;
    return nullptr;
  }
  unsigned size_class = 5;
  while ((std::size_t{1} << size_class) < bytes + extra) ++size_class;
  char *block = take_block(size_class);
  if (block == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  const auto start = reinterpret_cast<std::uintptr_t>(block) + sizeof(Header);
  const std::size_t offset = sizeof(Header) + (alignment - start % alignment) % alignment;
  char *memory = block + offset;
  *header_of(memory) = Header{size_class, static_cast<std::uint32_t>(offset)};
  return memory;
}

void release(void *memory) {
  if (memory == nullptr) return;
  const Header header = *header_of(memory);
  char *block = static_cast<char *>(memory) - header.offset;
  if (header.size_class > kLargestClass) {
    munmap(block, std::size_t{1} << header.size_class);
    return;
  }
  Free *free = reinterpret_cast<Free *>(block);
  free->next = cache.free[header.size_class];
  cache.free[header.size_class] = free;
}

bool power_of_two(std::size_t number) { return number != 0 && (number & (number - 1)) == 0; }

}  // namespace

extern "C" {

void *malloc(std::size_t bytes) noexcept { return allocate(bytes, kAlignment); }

void free(void *memory) noexcept { release(memory); }

void *calloc(std::size_t count, std::size_t size) noexcept {
  if (size != 0 && count > SIZE_MAX / size) {
    errno = ENOMEM;
    return nullptr;
  }
  void *memory = allocate(count * size, kAlignment);
  if (memory != nullptr) std::memset(memory, 0, count * size);
  return memory;
}

void *realloc(void *memory, std::size_t bytes) noexcept {
  if (memory == nullptr) return allocate(bytes, kAlignment);
  if (bytes != 0 && bytes <= room(memory)) return memory;
  void *moved = allocate(bytes, kAlignment);
  if (moved == nullptr) return nullptr;
  const std::size_t before = room(memory);
  std::memcpy(moved, memory, before < bytes ? before : bytes);
  release(memory);
  return moved;
}

void *aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept { return allocate(bytes, alignment); }

void *memalign(std::size_t alignment, std::size_t bytes) noexcept { return allocate(bytes, alignment); }

int posix_memalign(void **out, std::size_t alignment, std::size_t bytes) noexcept {
  if (!power_of_two(alignment) || alignment % sizeof(void *) != 0) return EINVAL;
  const int error = errno;
  void *memory = allocate(bytes, alignment);
  errno = error;
  if (memory == nullptr) return ENOMEM;
  *out = memory;
  return 0;
}

std::size_t malloc_usable_size(void *memory) noexcept { return memory == nullptr ? 0 : room(memory); }

}  // extern "C"

std::uint64_t lockless_malloc_calls() { return cache.calls; }

#endif  // !KHONSU_SANITIZED
