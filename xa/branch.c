#include "branch.h"

#include <stdint.h>
#include <stdlib.h>

#include "xid.h"

static struct branch **bucket_of(const struct branch_table *table, const XID *xid) {
  return &table->buckets[xid_hash(xid) & (table->bucket_count - 1)];
}

struct branch *branch_find(const struct branch_table *table, const XID *xid) {
  if (table->count == 0) return NULL;
  struct branch *branch = *bucket_of(table, xid);
  while (branch != NULL && !xid_equals(&branch->xid, xid)) branch = branch->next;
  return branch;
}

/* Makes room for one branch more: no more branches than buckets, whose number is a power of two. */
static bool grow(struct branch_table *table) {
  if (table->count < table->bucket_count) return true;
  struct branch_table grown = {NULL, table->bucket_count == 0 ? 64 : table->bucket_count * 2, table->count};
  grown.buckets = (struct branch **)calloc(grown.bucket_count, sizeof(*grown.buckets));
  if (grown.buckets == NULL) return false;
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct branch *branch = table->buckets[i];
    while (branch != NULL) {
      struct branch *next = branch->next;
      struct branch **bucket = bucket_of(&grown, &branch->xid);
      branch->next = *bucket;
      *bucket = branch;
      branch = next;
    }
  }
  free(table->buckets);
  *table = grown;
  return true;
}

struct branch *branch_add(struct branch_table *table, const XID *xid, enum branch_state state, khonsu_txn *txn) {
  struct branch *branch = (struct branch *)calloc(1, sizeof(*branch));
  if (branch == NULL || !grow(table)) {
    free(branch);
    return NULL;
  }
  struct branch **bucket = bucket_of(table, xid);
  branch->xid = *xid;
  branch->state = state;
  branch->txn = txn;
  branch->next = *bucket;
  *bucket = branch;
  table->count++;
  return branch;
}

void branch_remove(struct branch_table *table, struct branch *branch) {
  struct branch **link = bucket_of(table, &branch->xid);
  while (*link != branch) link = &(*link)->next;
  *link = branch->next;
  table->count--;
  free(branch);
}

void branch_table_free(struct branch_table *table) {
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct branch *branch = table->buckets[i];
    while (branch != NULL) {
      struct branch *next = branch->next;
      khonsu_txn_free(branch->txn);
      free(branch);
      branch = next;
    }
  }
  free(table->buckets);
  *table = (struct branch_table){NULL, 0, 0};
}
