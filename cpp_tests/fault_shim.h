/* The system calls that change or read files, in front of the C library's: a program that is linked against this shared
 * library (or runs with it preloaded) sees those on files below one directory fail as it asks for. Everything else
 * passes through untouched. The plan is the process's own and may be changed at any time, from any thread. */
#ifndef KHONSU_FAULT_SHIM_H
#define KHONSU_FAULT_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fault_call {
  FAULT_OPEN,     /* open, openat */
  FAULT_READ,     /* read, pread, readv, preadv */
  FAULT_WRITE,    /* write, pwrite, writev, pwritev */
  FAULT_FILL,     /* the same, of a page or more of zeros from one buffer: what makes a file as long as it will get */
  FAULT_SYNC,     /* fsync, fdatasync, of files and directories */
  FAULT_TRUNCATE, /* ftruncate, fallocate, posix_fallocate */
  FAULT_RENAME,   /* rename, renameat, renameat2 */
  FAULT_UNLINK,   /* unlink, unlinkat, rmdir */
  FAULT_MKDIR,    /* mkdir, mkdirat */
  FAULT_CALLS
};

/* Calls on this directory (an absolute path) and on what is below it are counted, and may fail; NULL: none. Forgets the
 * plan and all counts. */
void fault_shim_watch(const char *directory);

/* From now on the calls of this kind numbered first (1: the next) to first + count - 1 fail with error. With partial,
 * the first of them is a write that does a part of what it was asked for and succeeds. Replaces the plan for this kind.
 */
void fault_shim_fail(enum fault_call call, uint64_t first, uint64_t count, int error, int partial);

/* Each call of this kind fails in this many cases of a million, every other time, if it is a write, as a partial write.
 */
void fault_shim_fail_some(enum fault_call call, uint32_t per_million, int error, uint64_t seed);

/* Each call of this kind first sleeps. */
void fault_shim_delay(enum fault_call call, uint32_t microseconds);

/* All calls succeed again; counts go on. */
void fault_shim_pass(void);

/* Writes down in this file, behind what is there, until the process ends, what the calls do to files and directories
 * below the watched one, as a fault_record each, followed by its path, its other path and its data. Call it after
 * fault_shim_watch. */
void fault_shim_record(const char *file);

/* Writes down that the program has come this far. */
void fault_shim_mark(uint64_t number);

/* Ends the process by SIGKILL, with everything in the record that was done to files. */
void fault_shim_die(void);

enum fault_record_kind {
  FAULT_RECORD_ROOT,   /* inode: of the watched directory */
  FAULT_RECORD_CREATE, /* path, inode: a new file */
  FAULT_RECORD_MKDIR,  /* path, inode: a new directory */
  FAULT_RECORD_RENAME, /* path, other path */
  FAULT_RECORD_UNLINK, /* path, of a file or a directory */
  FAULT_RECORD_WRITE,  /* inode, at, size; the data unless they are all zero */
  FAULT_RECORD_RESIZE, /* inode, size */
  FAULT_RECORD_SYNC, /* inode, number of the sync in at: it begins; data or directory entries written before are covered
                      */
  FAULT_RECORD_SYNCED, /* at: it has succeeded */
  FAULT_RECORD_MARK    /* at: the number */
};

struct fault_record {
  uint32_t kind;
  uint32_t path_bytes;
  uint32_t other_path_bytes;
  uint32_t has_data; /* size bytes follow */
  uint64_t inode;
  uint64_t at;
  uint64_t size;
};

/* Calls of this kind since fault_shim_watch, and how many of them were made to fail. */
uint64_t fault_shim_seen(enum fault_call call);
uint64_t fault_shim_failed(enum fault_call call);

#ifdef __cplusplus
}
#endif

#endif /* KHONSU_FAULT_SHIM_H */
