/* The information string of xa_open. */
#ifndef KHONSU_XA_INFORMATION_H
#define KHONSU_XA_INFORMATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "khonsu_xa.h"

struct information {
  char path[MAXINFOSIZE];      /* "": in memory */
  char in_memory[MAXINFOSIZE]; /* "": stored */
  int32_t isolation;           /* 0 for this and the next two: khonsu's default */
  int32_t durability;
  int32_t conflict_resolution;
  uint64_t max_transaction_bytes;
  bool hold_reads;
};

/* Whether text is a NUL-terminated string of at most MAXINFOSIZE bytes; reads no further than these. */
bool information_fits(const char *text);

/* Reads a string that fits. On failure it writes what is wrong to message. */
bool information_parse(const char *text, struct information *information, char *message, size_t message_size);

#endif
