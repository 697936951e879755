#define _XOPEN_SOURCE 700

#include "decision_log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { record_epoch = 1, record_commit = 2 };

struct record {
  int64_t type;
  int64_t number;
  uint64_t check;
};

static uint64_t check_of(const struct record *record) {
  return ((uint64_t)record->type * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)record->number + UINT64_C(0x6b686f6e7375)) *
                                                                       UINT64_C(0xff51afd7ed558ccd);
}

static bool append(struct decision_log *log, int64_t type, int64_t number) {
  struct record record = {type, number, 0};
  record.check = check_of(&record);
  return write(log->file, &record, sizeof(record)) == (ssize_t)sizeof(record);
}

static bool remember(struct decision_log *log, int64_t transaction) {
  if (log->count == log->capacity) {
    int64_t capacity = log->capacity == 0 ? 64 : log->capacity * 2;
    int64_t *grown = (int64_t *)realloc(log->committed, (size_t)capacity * sizeof(int64_t));
    if (grown == NULL) return false;
    log->committed = grown;
    log->capacity = capacity;
  }
  log->committed[log->count++] = transaction;
  return true;
}

bool decision_log_open(struct decision_log *log, const char *path) {
  struct record record;
  off_t end = 0;
  memset(log, 0, sizeof(*log));
  log->file = open(path, O_RDWR | O_CREAT, 0600);
  if (log->file < 0) return false;
  while (read(log->file, &record, sizeof(record)) == (ssize_t)sizeof(record) && record.check == check_of(&record)) {
    if (record.type == record_epoch) log->epoch = record.number;
    if (record.type == record_commit && !remember(log, record.number)) return false;
    end += (off_t)sizeof(record);
  }
  if (ftruncate(log->file, end) != 0 || lseek(log->file, end, SEEK_SET) != end) return false;
  log->epoch++;
  return append(log, record_epoch, log->epoch) && fdatasync(log->file) == 0;
}

bool decision_log_write(struct decision_log *log, int64_t transaction) {
  return append(log, record_commit, transaction) && remember(log, transaction);
}

bool decision_log_sync(struct decision_log *log) { return fdatasync(log->file) == 0; }

bool decision_log_has(const struct decision_log *log, int64_t transaction) {
  for (int64_t i = log->count - 1; i >= 0; i--) {
    if (log->committed[i] == transaction) return true;
  }
  return false;
}
