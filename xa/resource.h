/* The databases that this process has open through the switch: each one once, counted, with its branches. */
#ifndef KHONSU_XA_RESOURCE_H
#define KHONSU_XA_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "branch.h"
#include "information.h"

struct resource {
  struct resource *next;
  char *identity; /* "path:" and the path without links, or "in_memory:" and the name */
  enum { resource_opening, resource_open, resource_closing } state;
  size_t openings;
  bool in_memory;
  khonsu_db *db;
  struct branch_table branches;
};

/* The lock over all resources, branches and associations. It is held for a few instructions: no call of khonsu is made
 * under it. */
void resource_lock(void);
void resource_unlock(void);

/* Opens the database of an information string, or counts one opening more. NULL on failure: then *error has what khonsu
 * says, or message has the reason. Waits while another thread opens or closes it. */
struct resource *resource_acquire(const struct information *information, khonsu_error **error, char *message,
                                  size_t message_size);

/* Gives an opening back. With the last one the database is closed, and branches that are not prepared are rolled
 * back. */
void resource_release(struct resource *resource);

/* What khonsu itself knows of a branch that it has prepared: a khonsu_prepared_state; 0 where it knows none, or none any
 * more; -1 on failure, with *error. */
int resource_prepared_state(const struct resource *resource, const XID *xid, khonsu_error **error);

/* In the child of a fork: forgets everything. The parent's databases are not the child's to close. */
void resource_forget_all(void);

#endif
