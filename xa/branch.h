/* The branches of a database that are not over, by their XIDs. */
#ifndef KHONSU_XA_BRANCH_H
#define KHONSU_XA_BRANCH_H

#include <stdbool.h>
#include <stddef.h>

#include "khonsu_xa.h"

enum branch_state {
  /* Active or idle in the words of the specification: with and without associations. */
  branch_working,
  branch_rollback_only,
  branch_prepared,
  branch_heuristic
};

struct branch {
  struct branch *next;
  XID xid;
  enum branch_state state;
  /* A thread is deciding it outside of the lock: others leave it alone. */
  bool busy;
  /* A prepare failed in a way that leaves open whether it was prepared. */
  bool perhaps_prepared;
  /* The XA_RB code with which it was marked rollback-only. */
  int rollback_code;
  /* NULL once it is prepared. */
  khonsu_txn *txn;
  /* Associations of threads, active and suspended, those that may migrate included. */
  size_t associations;
  /* Those of them that are suspended and that any thread may resume. */
  size_t migratable;
  bool hold_reads;
};

/* A hash table, all zero when it is empty. The branches in it are its own. Whoever uses it holds the lock (resource.h). */
struct branch_table {
  struct branch **buckets;
  size_t bucket_count;
  size_t count;
};

struct branch *branch_find(const struct branch_table *table, const XID *xid);

/* Adds a branch of an XID that the table does not have. NULL: out of memory. */
struct branch *branch_add(struct branch_table *table, const XID *xid, enum branch_state state, khonsu_txn *txn);

/* Frees a branch, not its transaction. */
void branch_remove(struct branch_table *table, struct branch *branch);

/* Frees the table with its branches and their transactions, which are rolled back. Needs no lock if nobody else can
 * reach the table. */
void branch_table_free(struct branch_table *table);

#endif
