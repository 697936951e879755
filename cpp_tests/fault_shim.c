/* See fault_shim.h. While a directory is watched, a call that is not meant pays one readlink. */
#undef _FORTIFY_SOURCE /* its inline versions of open and read would stand where these functions are defined */
#define _GNU_SOURCE
#include "fault_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
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

/* The absolute path, which is as long as whole allows; 0 when nothing is watched or there is none. */
static int whole_path(int directory, const char *path, char *whole, size_t size) {
  char link[64], parent[PATH_MAX];
  if (atomic_load(&watched_bytes) == 0 || path == NULL) return 0;
  int error = errno, bytes = 0;
  if (path[0] == '/') {
    bytes = snprintf(whole, size, "%s", path);
  } else {
    ssize_t found = 0;
    if (directory == AT_FDCWD) {
      found = getcwd(parent, sizeof(parent)) == NULL ? 0 : (ssize_t)strlen(parent);
    } else {
      snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
      found = readlink(link, parent, sizeof(parent) - 1);
    }
    if (found > 0) bytes = snprintf(whole, size, "%.*s/%s", (int)found, parent, path);
  }
  errno = error;
  return bytes > 0 && (size_t)bytes < size;
}

static int is_watched_path(int directory, const char *path) {
  char whole[2 * PATH_MAX];
  return whole_path(directory, path, whole, sizeof(whole)) && is_below(whole, strlen(whole));
}

static int is_zero(const char *data, size_t size) {
  return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* Of a write: what it counts as. */
static enum fault_call write_call(const void *data, size_t size) {
  return size >= 4096 && is_zero(data, size) ? FAULT_FILL : FAULT_WRITE;
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
    partial = (call == FAULT_WRITE || call == FAULT_FILL) && (random >> 32) % 2 == 0;
  } else {
    if (first == 0 || number < first || number > atomic_load(&plan->last)) return PASSES;
    partial = (call == FAULT_WRITE || call == FAULT_FILL) && number == first && atomic_load(&plan->partial) != 0;
  }
  atomic_fetch_add(&plan->failed, 1);
  if (partial) return PARTIAL;
  errno = atomic_load(&plan->error);
  return FAILS;
}

/* The next definition of a function, which is the C library's. */
static void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) {
    fprintf(stderr, "fault_shim: there is no %s\n", name);
    abort();
  }
  return found;
}

/* NEXT(function, name): the next definition, looked up once. ISO C has no cast from void * to a function: by memcpy. */
#define NEXT(function, name)               \
  static _Atomic(void *) cached;           \
  void *found_next = atomic_load(&cached); \
  if (found_next == NULL) {                \
    found_next = next(name);               \
    atomic_store(&cached, found_next);     \
  }                                        \
  memcpy(&(function), &found_next, sizeof(function))

/* ---- the record ---- */

static FILE *record; /* under record_lock; NULL: nothing is written down */
static _Atomic int records;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t syncs;

static void write_record(struct fault_record entry, const char *path, const char *other, const void *data) {
  int error = errno;
  entry.path_bytes = path == NULL ? 0 : (uint32_t)strlen(path);
  entry.other_path_bytes = other == NULL ? 0 : (uint32_t)strlen(other);
  entry.has_data = data != NULL && !is_zero(data, entry.size);
  pthread_mutex_lock(&record_lock);
  fwrite(&entry, sizeof(entry), 1, record);
  if (entry.path_bytes != 0) fwrite(path, entry.path_bytes, 1, record);
  if (entry.other_path_bytes != 0) fwrite(other, entry.other_path_bytes, 1, record);
  if (entry.has_data) fwrite(data, entry.size, 1, record);
  /* The program may be killed right after what is written down. */
  if (fflush(record) != 0) abort();
  pthread_mutex_unlock(&record_lock);
  errno = error;
}

static uint64_t inode_of(int file) {
  struct stat status;
  return fstat(file, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

void fault_shim_record(const char *file) {
  struct stat status;
  record = fopen(file, "a");
  if (record == NULL || stat(watched, &status) != 0) abort();
  if (ftell(record) == 0) {
    write_record((struct fault_record){.kind = FAULT_RECORD_ROOT, .inode = (uint64_t)status.st_ino}, NULL, NULL, NULL);
  }
  atomic_store(&records, 1);
}

void fault_shim_mark(uint64_t number) {
  write_record((struct fault_record){.kind = FAULT_RECORD_MARK, .at = number}, NULL, NULL, NULL);
}

/* What changes files and what is written down of it is one step for fault_shim_die. A sync changes nothing. */
static pthread_mutex_t effect_lock = PTHREAD_MUTEX_INITIALIZER;

static int begin_effect(void) {
  int recording = atomic_load(&records);
  if (recording) pthread_mutex_lock(&effect_lock);
  return recording;
}

static void end_effect(int recording) {
  if (recording) pthread_mutex_unlock(&effect_lock);
}

void fault_shim_die(void) {
  begin_effect();
  kill(getpid(), SIGKILL);
}

static int is_recorded_file(int file) { return atomic_load(&records) && is_watched_file(file); }
static int is_recorded_path(int directory, const char *path) {
  return atomic_load(&records) && is_watched_path(directory, path);
}

/* Whether a path that is about to be opened is a new file, when that is to be known. */
static int is_new(int directory, const char *path, int flags) {
  struct stat status;
  int error = errno;
  int is = (flags & O_CREAT) != 0 && is_recorded_path(directory, path) && fstatat(directory, path, &status, 0) != 0;
  errno = error;
  return is;
}

static void record_open(int file, int created, int directory, const char *path, int flags) {
  char whole[2 * PATH_MAX];
  if (file < 0 || !is_recorded_path(directory, path) || !whole_path(directory, path, whole, sizeof(whole))) return;
  if (created) {
    write_record((struct fault_record){.kind = FAULT_RECORD_CREATE, .inode = inode_of(file)}, whole, NULL, NULL);
  } else if ((flags & O_TRUNC) != 0) {
    write_record((struct fault_record){.kind = FAULT_RECORD_RESIZE, .inode = inode_of(file)}, NULL, NULL, NULL);
  }
}

/* at: where it was written; negative: where the file's position was, which is behind it now. */
static void record_write(int file, const void *data, ssize_t size, off64_t at) {
  if (size <= 0 || !is_recorded_file(file)) return;
  if (at < 0) at = lseek64(file, 0, SEEK_CUR) - size;
  write_record(
      (struct fault_record){
          .kind = FAULT_RECORD_WRITE, .inode = inode_of(file), .at = (uint64_t)at, .size = (uint64_t)size},
      NULL, NULL, data);
}

static void record_parts(int file, const struct iovec *parts, ssize_t size, off64_t at) {
  if (size <= 0 || !is_recorded_file(file)) return;
  if (at < 0) at = lseek64(file, 0, SEEK_CUR) - size;
  for (; size > 0; parts++) {
    size_t part = (size_t)size < parts->iov_len ? (size_t)size : parts->iov_len;
    record_write(file, parts->iov_base, (ssize_t)part, at);
    at += (off64_t)part;
    size -= (ssize_t)part;
  }
}

static uint64_t record_sync(int file) {
  if (!is_recorded_file(file)) return 0;
  uint64_t number = atomic_fetch_add(&syncs, 1) + 1;
  write_record((struct fault_record){.kind = FAULT_RECORD_SYNC, .inode = inode_of(file), .at = number}, NULL, NULL,
               NULL);
  return number;
}

static void record_synced(uint64_t number, int result) {
  if (number == 0 || result != 0) return;
  write_record((struct fault_record){.kind = FAULT_RECORD_SYNCED, .at = number}, NULL, NULL, NULL);
}

static void record_resize(int file, int result, off64_t size) {
  if (result != 0 || !is_recorded_file(file)) return;
  write_record((struct fault_record){.kind = FAULT_RECORD_RESIZE, .inode = inode_of(file), .size = (uint64_t)size},
               NULL, NULL, NULL);
}

static void record_path(enum fault_call call, int result, int directory, const char *path, const char *other) {
  char whole[2 * PATH_MAX];
  struct stat status;
  if (result != 0 || !is_recorded_path(directory, path) || !whole_path(directory, path, whole, sizeof(whole))) return;
  if (call == FAULT_MKDIR && stat(whole, &status) == 0) {
    write_record((struct fault_record){.kind = FAULT_RECORD_MKDIR, .inode = (uint64_t)status.st_ino}, whole, NULL,
                 NULL);
  } else if (call == FAULT_UNLINK) {
    write_record((struct fault_record){.kind = FAULT_RECORD_UNLINK}, whole, NULL, NULL);
  } else if (call == FAULT_RENAME) {
    write_record((struct fault_record){.kind = FAULT_RECORD_RENAME}, whole, other, NULL);
  }
}

/* What has no record must not happen where one is kept. */
static void no_record(int watched_call) {
  if (!watched_call || !atomic_load(&records)) return;
  fprintf(stderr, "fault_shim: a call that is not written down\n");
  abort();
}

/* ---- the calls ---- */

#define OPEN(name)                                                                \
  int name(const char *path, int flags, ...) {                                    \
    int (*function)(const char *, int, ...);                                      \
    NEXT(function, #name);                                                        \
    va_list arguments;                                                            \
    va_start(arguments, flags);                                                   \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;  \
    va_end(arguments);                                                            \
    if (is_watched_path(AT_FDCWD, path) && judge(FAULT_OPEN) == FAILS) return -1; \
    int recording = begin_effect();                                               \
    int created = is_new(AT_FDCWD, path, flags);                                  \
    int file = function(path, flags, mode);                                       \
    record_open(file, created, AT_FDCWD, path, flags);                            \
    end_effect(recording);                                                        \
    return file;                                                                  \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                               \
  int name(int directory, const char *path, int flags, ...) {                      \
    int (*function)(int, const char *, int, ...);                                  \
    NEXT(function, #name);                                                         \
    va_list arguments;                                                             \
    va_start(arguments, flags);                                                    \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;   \
    va_end(arguments);                                                             \
    if (is_watched_path(directory, path) && judge(FAULT_OPEN) == FAILS) return -1; \
    int recording = begin_effect();                                                \
    int created = is_new(directory, path, flags);                                  \
    int file = function(directory, path, flags, mode);                             \
    record_open(file, created, directory, path, flags);                            \
    end_effect(recording);                                                         \
    return file;                                                                   \
  }
OPENAT(openat)
OPENAT(openat64)

#define READ(name, parameters, arguments)                               \
  ssize_t name parameters {                                             \
    ssize_t(*function) parameters;                                      \
    NEXT(function, #name);                                              \
    if (is_watched_file(file) && judge(FAULT_READ) == FAILS) return -1; \
    return function arguments;                                          \
  }
READ(read, (int file, void *data, size_t size), (file, data, size))
READ(pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
READ(pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
READ(readv, (int file, const struct iovec *parts, int count), (file, parts, count))
READ(preadv, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at))
READ(preadv64, (int file, const struct iovec *parts, int count, off64_t at), (file, parts, count, at))

#define SYNC(name)                                                      \
  int name(int file) {                                                  \
    int (*function)(int);                                               \
    NEXT(function, #name);                                              \
    if (is_watched_file(file) && judge(FAULT_SYNC) == FAILS) return -1; \
    uint64_t number = record_sync(file);                                \
    int result = function(file);                                        \
    record_synced(number, result);                                      \
    return result;                                                      \
  }
SYNC(fsync)
SYNC(fdatasync)

#define RESIZE(name, offset)                                                \
  int name(int file, offset size) {                                         \
    int (*function)(int, offset);                                           \
    NEXT(function, #name);                                                  \
    if (is_watched_file(file) && judge(FAULT_TRUNCATE) == FAILS) return -1; \
    int recording = begin_effect();                                         \
    int result = function(file, size);                                      \
    record_resize(file, result, size);                                      \
    end_effect(recording);                                                  \
    return result;                                                          \
  }
RESIZE(ftruncate, off_t)
RESIZE(ftruncate64, off64_t)

#define FALLOCATE(name, offset)                                             \
  int name(int file, int mode, offset at, offset size) {                    \
    int (*function)(int, int, offset, offset);                              \
    NEXT(function, #name);                                                  \
    no_record(is_watched_file(file));                                       \
    if (is_watched_file(file) && judge(FAULT_TRUNCATE) == FAILS) return -1; \
    return function(file, mode, at, size);                                  \
  }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

/* This one returns its error. */
#define POSIX_FALLOCATE(name, offset)                              \
  int name(int file, offset at, offset size) {                     \
    int (*function)(int, offset, offset);                          \
    NEXT(function, #name);                                         \
    no_record(is_watched_file(file));                              \
    int error = errno;                                             \
    if (is_watched_file(file) && judge(FAULT_TRUNCATE) == FAILS) { \
      int injected = errno;                                        \
      errno = error;                                               \
      return injected;                                             \
    }                                                              \
    return function(file, at, size);                               \
  }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* WRITE: from one buffer, of which three quarters may be written. */
#define WRITE(name, parameters, arguments, where)                             \
  ssize_t name parameters {                                                   \
    ssize_t(*function) parameters;                                            \
    NEXT(function, #name);                                                    \
    switch (is_watched_file(file) ? judge(write_call(data, size)) : PASSES) { \
      case FAILS: return -1;                                                  \
      case PARTIAL: size -= size / 4; break;                                  \
      case PASSES: break;                                                     \
    }                                                                         \
    int recording = begin_effect();                                           \
    ssize_t written = function arguments;                                     \
    record_write(file, data, written, where);                                 \
    end_effect(recording);                                                    \
    return written;                                                           \
  }
WRITE(write, (int file, const void *data, size_t size), (file, data, size), -1)
WRITE(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), at)
WRITE(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), at)

/* WRITEV: from several buffers; a part of it is all but the last, or three quarters of the only one. */
#define WRITEV(name, parameters, arguments, where)                 \
  ssize_t name parameters {                                        \
    ssize_t(*function) parameters;                                 \
    NEXT(function, #name);                                         \
    struct iovec part;                                             \
    switch (is_watched_file(file) ? judge(FAULT_WRITE) : PASSES) { \
      case FAILS: return -1;                                       \
      case PARTIAL:                                                \
        if (count > 1) {                                           \
          count--;                                                 \
        } else if (count == 1) {                                   \
          part = parts[0];                                         \
          part.iov_len -= part.iov_len / 4;                        \
          parts = &part;                                           \
        }                                                          \
        break;                                                     \
      case PASSES: break;                                          \
    }                                                              \
    int recording = begin_effect();                                \
    ssize_t written = function arguments;                          \
    record_parts(file, parts, written, where);                     \
    end_effect(recording);                                         \
    return written;                                                \
  }
WRITEV(writev, (int file, const struct iovec *parts, int count), (file, parts, count), -1)
WRITEV(pwritev, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at), at)
WRITEV(pwritev64, (int file, const struct iovec *parts, int count, off64_t at), (file, parts, count, at), at)

/* ON_PATH: a call on a path, below a directory that is open or the current one, and perhaps another path. */
#define ON_PATH(call, name, directory, other, parameters, arguments)         \
  int name parameters {                                                      \
    int(*function) parameters;                                               \
    NEXT(function, #name);                                                   \
    if (is_watched_path(directory, path) && judge(call) == FAILS) return -1; \
    int recording = begin_effect();                                          \
    int result = function arguments;                                         \
    record_path(call, result, directory, path, other);                       \
    end_effect(recording);                                                   \
    return result;                                                           \
  }
ON_PATH(FAULT_RENAME, rename, AT_FDCWD, to, (const char *path, const char *to), (path, to))
ON_PATH(FAULT_RENAME, renameat, from, to, (int from, const char *path, int there, const char *to),
        (from, path, there, to))
ON_PATH(FAULT_RENAME, renameat2, from, to, (int from, const char *path, int there, const char *to, unsigned flags),
        (from, path, there, to, flags))
ON_PATH(FAULT_UNLINK, unlink, AT_FDCWD, NULL, (const char *path), (path))
ON_PATH(FAULT_UNLINK, unlinkat, from, NULL, (int from, const char *path, int flags), (from, path, flags))
ON_PATH(FAULT_UNLINK, rmdir, AT_FDCWD, NULL, (const char *path), (path))
ON_PATH(FAULT_MKDIR, mkdir, AT_FDCWD, NULL, (const char *path, mode_t mode), (path, mode))
ON_PATH(FAULT_MKDIR, mkdirat, from, NULL, (int from, const char *path, mode_t mode), (from, path, mode))
