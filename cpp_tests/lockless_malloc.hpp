// What freeze_test knows of the allocator that it brings: see lockless_malloc.cpp.
#ifndef KHONSU_LOCKLESS_MALLOC_HPP
#define KHONSU_LOCKLESS_MALLOC_HPP

#include <cstdint>

// Sanitizers bring allocators of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KHONSU_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define KHONSU_SANITIZED 1
#endif
#endif
#ifndef KHONSU_SANITIZED
#define KHONSU_SANITIZED 0
#endif

/// Allocations of this thread so far.
std::uint64_t lockless_malloc_calls();

#endif  // KHONSU_LOCKLESS_MALLOC_HPP
