/* What a thread of control has opened, and what its last call came to. */
#ifndef KHONSU_XA_THREAD_H
#define KHONSU_XA_THREAD_H

#include <stdbool.h>
#include <stddef.h>

#include "resource.h"

/* A suspended association that only its own thread may resume. */
struct suspended {
  struct suspended *next;
  struct branch *branch;
};

/* An rmid that a thread has opened. Only that thread uses it; what it points to in the resource wants the lock. */
struct opening {
  struct opening *next;
  int rmid;
  char information[MAXINFOSIZE];
  struct resource *resource;
  khonsu_txn_options *txn_options;
  bool hold_reads;
  struct branch *active; /* the branch that the thread is associated with */
  struct suspended *suspended;
  khonsu_prepared_list *scan; /* an open recovery scan, and where its cursor is */
  size_t scan_next;
};

struct thread {
  struct opening *openings;
  char message[512];
};

/* The calling thread's, made when it is asked for first. NULL: out of memory. */
struct thread *thread_current(void);

struct opening *thread_opening(const struct thread *thread, int rmid);

/* Takes an opening out of the thread and frees it. Branches with which it is associated still are marked
 * rollback-only. */
void thread_close(struct thread *thread, struct opening *opening);

#endif
