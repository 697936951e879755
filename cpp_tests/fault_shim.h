/* The system calls that change or read files, in front of the C library's: a program that is linked against this shared
 * library (or runs with it preloaded) sees those on files below one directory fail as it asks for. Everything else passes
 * through untouched. The plan is the process's own and may be changed at any time, from any thread. */
#ifndef KHONSU_FAULT_SHIM_H
#define KHONSU_FAULT_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fault_call {
  FAULT_OPEN,     /* open, openat, creat */
  FAULT_READ,     /* read, pread, readv, preadv */
  FAULT_WRITE,    /* write, pwrite, writev, pwritev */
  FAULT_SYNC,     /* fsync, fdatasync, sync_file_range, of files and directories */
  FAULT_TRUNCATE, /* ftruncate, truncate, fallocate, posix_fallocate */
  FAULT_RENAME,   /* rename, renameat, renameat2, link, linkat */
  FAULT_UNLINK,   /* unlink, unlinkat, rmdir */
  FAULT_MKDIR,    /* mkdir, mkdirat */
  FAULT_CALLS
};

/* Calls on this directory (an absolute path) and on what is below it are counted, and may fail; NULL: none. Forgets the
 * plan and all counts. */
void fault_shim_watch(const char *directory);

/* From now on the calls of this kind numbered first (1: the next) to first + count - 1 fail with error. With partial, the
 * first of them is a write that does half of what it was asked for and succeeds. Replaces the plan for this kind. */
void fault_shim_fail(enum fault_call call, uint64_t first, uint64_t count, int error, int partial);

/* Each call of this kind fails in this many cases of a million, every other time (for writes) as a partial write. */
void fault_shim_fail_some(enum fault_call call, uint32_t per_million, int error, uint64_t seed);

/* Each call of this kind first sleeps. */
void fault_shim_delay(enum fault_call call, uint32_t microseconds);

/* All calls succeed again; counts go on. */
void fault_shim_pass(void);

/* Calls of this kind since fault_shim_watch, and how many of them were made to fail. */
uint64_t fault_shim_seen(enum fault_call call);
uint64_t fault_shim_failed(enum fault_call call);

#ifdef __cplusplus
}
#endif

#endif /* KHONSU_FAULT_SHIM_H */
