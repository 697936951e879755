/* What the tests of the XA switch share. Include it after c_testing.h. */
#ifndef KHONSU_XA_TESTING_H
#define KHONSU_XA_TESTING_H

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "khonsu_xa.h"

static inline const char *xa_testing_name(int code) {
  static const struct {
    int code;
    const char *name;
  } names[] = {{XA_OK, "XA_OK"},
               {XA_RDONLY, "XA_RDONLY"},
               {XA_RETRY, "XA_RETRY"},
               {XA_HEURMIX, "XA_HEURMIX"},
               {XA_HEURRB, "XA_HEURRB"},
               {XA_HEURCOM, "XA_HEURCOM"},
               {XA_HEURHAZ, "XA_HEURHAZ"},
               {XA_NOMIGRATE, "XA_NOMIGRATE"},
               {XA_RBROLLBACK, "XA_RBROLLBACK"},
               {XA_RBINTEGRITY, "XA_RBINTEGRITY"},
               {XA_RBOTHER, "XA_RBOTHER"},
               {XA_RBPROTO, "XA_RBPROTO"},
               {XA_RBTRANSIENT, "XA_RBTRANSIENT"},
               {XAER_ASYNC, "XAER_ASYNC"},
               {XAER_RMERR, "XAER_RMERR"},
               {XAER_NOTA, "XAER_NOTA"},
               {XAER_INVAL, "XAER_INVAL"},
               {XAER_PROTO, "XAER_PROTO"},
               {XAER_RMFAIL, "XAER_RMFAIL"},
               {XAER_DUPID, "XAER_DUPID"},
               {XAER_OUTSIDE, "XAER_OUTSIDE"}};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (names[i].code == code) return names[i].name;
  }
  return "another";
}

/* The code is the expected one, and there is a message exactly when it tells of something unusual. */
static inline bool xa_testing_check(int expected, int code, const char *file, int line, const char *expression) {
  const char *message = khonsu_xa_message();
  bool quiet = code == XA_OK || code == XA_RDONLY;
  bool passed = expected == code && (message[0] == '\0') == quiet;
  __atomic_fetch_add(&testing_checks, 1, __ATOMIC_SEQ_CST);
  if (!passed) {
    __atomic_fetch_add(&testing_failures, 1, __ATOMIC_SEQ_CST);
    fprintf(stderr, "%s:%d: %s: expected %s, got %s (\"%s\"): %s\n", file, line, testing_name,
            xa_testing_name(expected), xa_testing_name(code), message, expression);
  }
  return passed;
}

#define XA(expected, call) xa_testing_check((expected), (call), __FILE__, __LINE__, #call)

/* The entries, as a transaction manager names them. */
#define xa_open(information, rmid, flags) khonsu_xa_switch.xa_open_entry((char *)(information), (rmid), (flags))
#define xa_close(information, rmid, flags) khonsu_xa_switch.xa_close_entry((char *)(information), (rmid), (flags))
#define xa_start(xid, rmid, flags) khonsu_xa_switch.xa_start_entry((xid), (rmid), (flags))
#define xa_end(xid, rmid, flags) khonsu_xa_switch.xa_end_entry((xid), (rmid), (flags))
#define xa_prepare(xid, rmid, flags) khonsu_xa_switch.xa_prepare_entry((xid), (rmid), (flags))
#define xa_commit(xid, rmid, flags) khonsu_xa_switch.xa_commit_entry((xid), (rmid), (flags))
#define xa_rollback(xid, rmid, flags) khonsu_xa_switch.xa_rollback_entry((xid), (rmid), (flags))
#define xa_recover(xids, count, rmid, flags) khonsu_xa_switch.xa_recover_entry((xids), (count), (rmid), (flags))
#define xa_forget(xid, rmid, flags) khonsu_xa_switch.xa_forget_entry((xid), (rmid), (flags))
#define xa_complete(handle, result, rmid, flags) khonsu_xa_switch.xa_complete_entry((handle), (result), (rmid), (flags))

static inline XID xa_testing_xid(const char *gtrid, const char *bqual) {
  XID xid;
  memset(&xid, 0, sizeof(xid));
  xid.formatID = 7;
  xid.gtrid_length = (long)strlen(gtrid);
  xid.bqual_length = (long)strlen(bqual);
  memcpy(xid.data, gtrid, strlen(gtrid));
  memcpy(xid.data + strlen(gtrid), bqual, strlen(bqual));
  return xid;
}

/* A folder for this process, removed by xa_testing_remove_folder. */
static inline const char *xa_testing_folder(void) {
  static char folder[128] = "";
  if (folder[0] == '\0') {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/khonsu-xa-XXXXXX", temporary == NULL ? "/tmp" : temporary);
    if (mkdtemp(folder) == NULL) {
      perror("mkdtemp");
      exit(EXIT_FAILURE);
    }
  }
  return folder;
}

static inline void xa_testing_remove_folder(void) {
  char command[192];
  snprintf(command, sizeof(command), "rm -rf '%s'", xa_testing_folder());
  CHECK(system(command) == 0);
}

/* An information string that no test has used before: of a stored database, or of one in memory. */
static inline const char *xa_testing_information(bool stored, const char *more) {
  static char information[MAXINFOSIZE];
  static int count = 0;
  count++;
  if (stored) {
    snprintf(information, sizeof(information), "path=%s/%d%s", xa_testing_folder(), count, more);
  } else {
    snprintf(information, sizeof(information), "in_memory=%d%s", count, more);
  }
  return information;
}

/* Runs a function in a thread of its own, to its end. */
static inline void xa_testing_in_thread(void *(*function)(void *), void *argument) {
  pthread_t thread;
  if (CHECK(pthread_create(&thread, NULL, function, argument) == 0)) CHECK(pthread_join(thread, NULL) == 0);
}

#endif /* KHONSU_XA_TESTING_H */
