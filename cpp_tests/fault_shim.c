/* See fault_shim.h. Calls that are not meant pass through at the cost of one readlink. */
#undef _FORTIFY_SOURCE /* its inline versions of open and read would stand where these functions are defined */
#define _GNU_SOURCE
#include "fault_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* ---- the plan ---- */

struct plan {
  _Atomic uint64_t seen;
  _Atomic uint64_t failed;
  _Atomic uint64_t first; /* absolute, in the numbering of seen; 0: no call fails */
  _Atomic uint64_t last;
  _Atomic int error;
  _Atomic int partial;
  _Atomic uint32_t per_million;
  _Atomic uint64_t seed;
  _Atomic uint32_t delay;
};

static struct plan plans[FAULT_CALLS];
static char watched[PATH_MAX];
static _Atomic size_t watched_bytes; /* 0: nothing is watched */

void fault_shim_pass(void) {
  for (int call = 0; call < FAULT_CALLS; call++) {
    atomic_store(&plans[call].first, 0);
    atomic_store(&plans[call].per_million, 0);
    atomic_store(&plans[call].delay, 0);
  }
}

void fault_shim_watch(const char *directory) {
  atomic_store(&watched_bytes, 0);
  fault_shim_pass();
  for (int call = 0; call < FAULT_CALLS; call++) {
    atomic_store(&plans[call].seen, 0);
    atomic_store(&plans[call].failed, 0);
  }
  if (directory == NULL) return;
  if (strlen(directory) >= sizeof(watched)) abort();
  strcpy(watched, directory);
  atomic_store(&watched_bytes, strlen(directory));
}

void fault_shim_fail(enum fault_call call, uint64_t first, uint64_t count, int error, int partial) {
  struct plan *plan = &plans[call];
  uint64_t from = atomic_load(&plan->seen) + first;
  atomic_store(&plan->per_million, 0);
  atomic_store(&plan->error, error);
  atomic_store(&plan->partial, partial);
  atomic_store(&plan->last, count > UINT64_MAX - from ? UINT64_MAX : from + count - 1);
  atomic_store(&plan->first, from);
}

void fault_shim_fail_some(enum fault_call call, uint32_t per_million, int error, uint64_t seed) {
  struct plan *plan = &plans[call];
  atomic_store(&plan->first, 0);
  atomic_store(&plan->error, error);
  atomic_store(&plan->seed, seed);
  atomic_store(&plan->per_million, per_million);
}

void fault_shim_delay(enum fault_call call, uint32_t microseconds) { atomic_store(&plans[call].delay, microseconds); }
uint64_t fault_shim_seen(enum fault_call call) { return atomic_load(&plans[call].seen); }
uint64_t fault_shim_failed(enum fault_call call) { return atomic_load(&plans[call].failed); }

/* ---- which calls are meant ---- */

static int is_below(const char *path, size_t bytes) {
  size_t prefix = atomic_load(&watched_bytes);
  return prefix != 0 && bytes >= prefix && memcmp(path, watched, prefix) == 0 &&
         (bytes == prefix || path[prefix] == '/' || path[prefix] == ' '); /* " (deleted)" */
}

static int is_watched_file(int file) {
  char link[64], path[PATH_MAX];
  if (atomic_load(&watched_bytes) == 0) return 0;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  int error = errno;
  ssize_t bytes = readlink(link, path, sizeof(path));
  errno = error;
  return bytes > 0 && is_below(path, (size_t)bytes);
}

static int is_watched_path(int directory, const char *path) {
  if (atomic_load(&watched_bytes) == 0 || path == NULL) return 0;
  if (path[0] == '/') return is_below(path, strlen(path));
  if (directory != AT_FDCWD) return is_watched_file(directory);
  char here[PATH_MAX], whole[2 * PATH_MAX];
  if (getcwd(here, sizeof(here)) == NULL) return 0;
  int bytes = snprintf(whole, sizeof(whole), "%s/%s", here, path);
  return bytes > 0 && is_below(whole, (size_t)bytes);
}

enum verdict { PASSES, FAILS, PARTIAL };

/* splitmix64: the n-th number of a seed. */
static uint64_t random_number(uint64_t seed, uint64_t n) {
  uint64_t z = seed + n * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Counts a call that is meant and says what becomes of it; errno is set when it fails. */
static enum verdict judge(enum fault_call call) {
  struct plan *plan = &plans[call];
  uint32_t delay = atomic_load(&plan->delay);
  if (delay != 0) {
    struct timespec time = {delay / 1000000, (long)(delay % 1000000) * 1000};
    nanosleep(&time, NULL);
  }
  uint64_t number = atomic_fetch_add(&plan->seen, 1) + 1, first = atomic_load(&plan->first);
  uint32_t per_million = atomic_load(&plan->per_million);
  int partial = 0;
  if (per_million != 0) {
    uint64_t random = random_number(atomic_load(&plan->seed), number);
    if (random % 1000000 >= per_million) return PASSES;
    partial = call == FAULT_WRITE && (random >> 32) % 2 == 0;
  } else {
    if (first == 0 || number < first || number > atomic_load(&plan->last)) return PASSES;
    partial = call == FAULT_WRITE && number == first && atomic_load(&plan->partial) != 0;
  }
  atomic_fetch_add(&plan->failed, 1);
  if (partial) return PARTIAL;
  errno = atomic_load(&plan->error);
  return FAILS;
}

/* ---- the calls ---- */

/* The next definition of a function, which is the C library's. */
static void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) {
    fprintf(stderr, "fault_shim: there is no %s\n", name);
    abort();
  }
  return found;
}

/* NEXT(type, name): name's own next definition, looked up once. ISO C has no cast from void * to a function, so by memcpy. */
#define NEXT(function, name)                   \
  static _Atomic(void *) cached;               \
  void *found_next = atomic_load(&cached);     \
  if (found_next == NULL) {                    \
    found_next = next(name);                   \
    atomic_store(&cached, found_next);         \
  }                                            \
  memcpy(&(function), &found_next, sizeof(function))

#define OPEN(name)                                                                                        \
  int name(const char *path, int flags, ...) {                                                            \
    int (*function)(const char *, int, ...);                                                              \
    NEXT(function, #name);                                                                                \
    va_list arguments;                                                                                    \
    va_start(arguments, flags);                                                                           \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;                          \
    va_end(arguments);                                                                                    \
    if (is_watched_path(AT_FDCWD, path) && judge(FAULT_OPEN) == FAILS) return -1;                         \
    return function(path, flags, mode);                                                                   \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                      \
  int name(int directory, const char *path, int flags, ...) {                                             \
    int (*function)(int, const char *, int, ...);                                                         \
    NEXT(function, #name);                                                                                \
    va_list arguments;                                                                                    \
    va_start(arguments, flags);                                                                           \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;                          \
    va_end(arguments);                                                                                    \
    if (is_watched_path(directory, path) && judge(FAULT_OPEN) == FAILS) return -1;                        \
    return function(directory, path, flags, mode);                                                        \
  }
OPENAT(openat)
OPENAT(openat64)

/* ON_FILE(call, result, name, parameters, arguments): a call on an open file, which fails or does not. */
#define ON_FILE(call, result, name, parameters, arguments)       \
  result name parameters {                                       \
    result(*function) parameters;                                \
    NEXT(function, #name);                                       \
    if (is_watched_file(file) && judge(call) == FAILS) return -1; \
    return function arguments;                                   \
  }
ON_FILE(FAULT_READ, ssize_t, read, (int file, void *data, size_t size), (file, data, size))
ON_FILE(FAULT_READ, ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE(FAULT_READ, ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(FAULT_READ, ssize_t, readv, (int file, const struct iovec *parts, int count), (file, parts, count))
ON_FILE(FAULT_READ, ssize_t, preadv, (int file, const struct iovec *parts, int count, off_t at),
        (file, parts, count, at))
ON_FILE(FAULT_READ, ssize_t, preadv64, (int file, const struct iovec *parts, int count, off64_t at),
        (file, parts, count, at))
ON_FILE(FAULT_SYNC, int, fsync, (int file), (file))
ON_FILE(FAULT_SYNC, int, fdatasync, (int file), (file))
ON_FILE(FAULT_SYNC, int, sync_file_range, (int file, off64_t at, off64_t size, unsigned flags),
        (file, at, size, flags))
ON_FILE(FAULT_TRUNCATE, int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(FAULT_TRUNCATE, int, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(FAULT_TRUNCATE, int, fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
ON_FILE(FAULT_TRUNCATE, int, fallocate64, (int file, int mode, off64_t at, off64_t size), (file, mode, at, size))

/* This one returns its error. */
#define POSIX_FALLOCATE(name, offset)                                                        \
  int name(int file, offset at, offset size) {                                               \
    int (*function)(int, offset, offset);                                                    \
    NEXT(function, #name);                                                                   \
    int error = errno;                                                                       \
    if (is_watched_file(file) && judge(FAULT_TRUNCATE) == FAILS) {                           \
      int injected = errno;                                                                  \
      errno = error;                                                                         \
      return injected;                                                                       \
    }                                                                                        \
    return function(file, at, size);                                                         \
  }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* ON_DATA: a write from one buffer, of which half may be written. */
#define ON_DATA(name, parameters, whole, half)                \
  ssize_t name parameters {                                   \
    ssize_t(*function) parameters;                            \
    NEXT(function, #name);                                    \
    switch (is_watched_file(file) ? judge(FAULT_WRITE) : PASSES) { \
      case FAILS: return -1;                                  \
      case PARTIAL: return function half;                     \
      case PASSES: break;                                     \
    }                                                         \
    return function whole;                                    \
  }
ON_DATA(write, (int file, const void *data, size_t size), (file, data, size), (file, data, (size + 1) / 2))
ON_DATA(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at),
        (file, data, (size + 1) / 2, at))
ON_DATA(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at),
        (file, data, (size + 1) / 2, at))

/* ON_PARTS: a write from several buffers; half of it is half of the buffers, or half of the only one. */
#define ON_PARTS(name, parameters, whole)                                                  \
  ssize_t name parameters {                                                                \
    ssize_t(*function) parameters;                                                         \
    NEXT(function, #name);                                                                 \
    struct iovec first;                                                                    \
    switch (is_watched_file(file) ? judge(FAULT_WRITE) : PASSES) {                         \
      case FAILS: return -1;                                                               \
      case PARTIAL:                                                                        \
        if (count > 1) {                                                                   \
          count /= 2;                                                                      \
        } else if (count == 1) {                                                           \
          first = parts[0];                                                                \
          first.iov_len = (first.iov_len + 1) / 2;                                         \
          parts = &first;                                                                  \
        }                                                                                  \
        break;                                                                             \
      case PASSES: break;                                                                  \
    }                                                                                      \
    return function whole;                                                                 \
  }
ON_PARTS(writev, (int file, const struct iovec *parts, int count), (file, parts, count))
ON_PARTS(pwritev, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at))
ON_PARTS(pwritev64, (int file, const struct iovec *parts, int count, off64_t at), (file, parts, count, at))

/* ON_PATH: a call on a path, below a directory that is open or the current one. */
#define ON_PATH(call, name, directory, parameters, arguments)                \
  int name parameters {                                                      \
    int(*function) parameters;                                               \
    NEXT(function, #name);                                                   \
    if (is_watched_path(directory, path) && judge(call) == FAILS) return -1; \
    return function arguments;                                               \
  }
ON_PATH(FAULT_OPEN, creat, AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(FAULT_OPEN, creat64, AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(FAULT_TRUNCATE, truncate, AT_FDCWD, (const char *path, off_t size), (path, size))
ON_PATH(FAULT_TRUNCATE, truncate64, AT_FDCWD, (const char *path, off64_t size), (path, size))
ON_PATH(FAULT_RENAME, rename, AT_FDCWD, (const char *path, const char *to), (path, to))
ON_PATH(FAULT_RENAME, renameat, from, (int from, const char *path, int there, const char *to), (from, path, there, to))
ON_PATH(FAULT_RENAME, renameat2, from, (int from, const char *path, int there, const char *to, unsigned flags),
        (from, path, there, to, flags))
ON_PATH(FAULT_RENAME, link, AT_FDCWD, (const char *path, const char *to), (path, to))
ON_PATH(FAULT_RENAME, linkat, from, (int from, const char *path, int there, const char *to, int flags),
        (from, path, there, to, flags))
ON_PATH(FAULT_UNLINK, unlink, AT_FDCWD, (const char *path), (path))
ON_PATH(FAULT_UNLINK, unlinkat, from, (int from, const char *path, int flags), (from, path, flags))
ON_PATH(FAULT_UNLINK, rmdir, AT_FDCWD, (const char *path), (path))
ON_PATH(FAULT_MKDIR, mkdir, AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(FAULT_MKDIR, mkdirat, from, (int from, const char *path, mode_t mode), (from, path, mode))
