/* The coordinator's durable memory: which global transactions it has decided to commit. Of one that is not there, the
 * decision is to roll back (presumed abort). */
#ifndef KHONSU_XA_DECISION_LOG_H
#define KHONSU_XA_DECISION_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct decision_log {
  int file;
  int64_t epoch; /* grows with each opening, and is part of the ids, so that none is used twice */
  int64_t *committed;
  int64_t count, capacity;
};

/* Reads the log, cuts off a torn end, and begins an epoch. */
bool decision_log_open(struct decision_log *log, const char *path);

/* Writes that a transaction commits; it is decided when the sync has returned. */
bool decision_log_write(struct decision_log *log, int64_t transaction);
bool decision_log_sync(struct decision_log *log);

bool decision_log_has(const struct decision_log *log, int64_t transaction);

#endif
