#define _XOPEN_SOURCE 700

#include "resource.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xid.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t state_changed = PTHREAD_COND_INITIALIZER;
static struct resource *resources = NULL;

void resource_lock(void) { pthread_mutex_lock(&lock); }
void resource_unlock(void) { pthread_mutex_unlock(&lock); }

/* ---- identity ---- */

static char *joined(const char *a, const char *b, const char *c) {
  size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
  char *text = (char *)malloc(size);
  if (text != NULL) snprintf(text, size, "%s%s%s", a, b, c);
  return text;
}

/* The path without links; where there is nothing yet, that of the directory above with the last name. Two ways to write
 * a path that this does not find out end at khonsu's own lock: the second opening fails. */
static char *real_path(const char *path) {
  char *real = realpath(path, NULL);
  if (real != NULL) return real;
  char copy[MAXINFOSIZE];
  snprintf(copy, sizeof(copy), "%s", path);
  size_t len = strlen(copy);
  while (len > 1 && copy[len - 1] == '/') copy[--len] = '\0';
  char *slash = strrchr(copy, '/');
  const char *name = slash == NULL ? copy : slash + 1;
  char above[MAXINFOSIZE];
  snprintf(above, sizeof(above), "%.*s", slash == NULL ? 1 : slash == copy ? 1 : (int)(slash - copy),
           slash == NULL ? "." : copy);
  char *real_above = realpath(above, NULL);
  char *result = real_above == NULL ? joined("", copy, "")
                                    : joined(real_above, strcmp(real_above, "/") == 0 ? "" : "/", name);
  free(real_above);
  return result;
}

static char *identity_of(const struct information *information) {
  if (information->path[0] == '\0') return joined("in_memory:", information->in_memory, "");
  char *path = real_path(information->path);
  char *identity = path == NULL ? NULL : joined("path:", path, "");
  free(path);
  return identity;
}

/* ---- opening ---- */

static khonsu_db *open_database(const struct information *information, khonsu_error **error) {
  khonsu_db *db = NULL;
  khonsu_options *options = khonsu_options_new();
  if (khonsu_options_set_path(options, information->path, error) == KHONSU_STATUS_OK) {
    (void)khonsu_db_open(options, &db, error);
  }
  khonsu_options_free(options);
  return db;
}

/* Fills the table of a database that was just opened with the branches in doubt, so that an XID can be refused as
 * known without asking khonsu each time. */
static bool list_in_doubt(struct resource *resource, khonsu_error **error) {
  khonsu_prepared_list *list = NULL;
  bool listed = khonsu_db_recover(resource->db, &list, error) == KHONSU_STATUS_OK;
  size_t count = listed ? khonsu_prepared_list_count(list) : 0;
  for (size_t i = 0; i < count && listed; i++) {
    khonsu_prepared_info info;
    XID xid;
    listed = khonsu_prepared_list_get(list, i, &info, sizeof(info), error) == KHONSU_STATUS_OK;
    if (listed && xid_from_global_id(info.global_id, info.global_id_len, &xid)) {
      listed = branch_add(&resource->branches, &xid,
                          info.state == KHONSU_PREPARED_STATE_PREPARED ? branch_prepared : branch_heuristic,
                          NULL) != NULL;
    }
  }
  khonsu_prepared_list_free(list);
  return listed;
}

static void unlink_and_free(struct resource *resource) {
  struct resource **link = &resources;
  while (*link != resource) link = &(*link)->next;
  *link = resource->next;
  free(resource->identity);
  free(resource);
}

struct resource *resource_acquire(const struct information *information, khonsu_error **error, char *message,
                                  size_t message_size) {
  char *identity = identity_of(information);
  struct resource *resource = NULL;
  *error = NULL;
  if (identity == NULL) {
    snprintf(message, message_size, "xa_open: out of memory");
    return NULL;
  }
  resource_lock();
  for (;;) {
    for (resource = resources; resource != NULL; resource = resource->next) {
      if (strcmp(resource->identity, identity) == 0) break;
    }
    if (resource == NULL || resource->state == resource_open) break;
    pthread_cond_wait(&state_changed, &lock);
  }
  if (resource != NULL) {
    resource->openings++;
    resource_unlock();
    free(identity);
    return resource;
  }
  resource = (struct resource *)calloc(1, sizeof(*resource));
  if (resource == NULL) {
    resource_unlock();
    free(identity);
    snprintf(message, message_size, "xa_open: out of memory");
    return NULL;
  }
  resource->identity = identity;
  resource->state = resource_opening;
  resource->openings = 1;
  resource->in_memory = information->path[0] == '\0';
  resource->next = resources;
  resources = resource;
  resource_unlock();

  resource->db = open_database(information, error);
  bool opened = resource->db != NULL && list_in_doubt(resource, error);
  if (!opened) {
    if (*error == NULL) snprintf(message, message_size, "xa_open: out of memory");
    branch_table_free(&resource->branches);
    khonsu_db_free(resource->db);
  }
  resource_lock();
  if (opened) {
    resource->state = resource_open;
  } else {
    unlink_and_free(resource);
    resource = NULL;
  }
  pthread_cond_broadcast(&state_changed);
  resource_unlock();
  return resource;
}

void resource_release(struct resource *resource) {
  resource_lock();
  bool last = --resource->openings == 0;
  if (last) resource->state = resource_closing;
  resource_unlock();
  if (!last) return;
  branch_table_free(&resource->branches);
  khonsu_db_free(resource->db);
  resource_lock();
  unlink_and_free(resource);
  pthread_cond_broadcast(&state_changed);
  resource_unlock();
}

/* ---- what khonsu knows ---- */

int resource_prepared_state(const struct resource *resource, const XID *xid, khonsu_error **error) {
  khonsu_prepared_list *list = NULL;
  int state = 0;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = xid_to_global_id(xid, id);
  if (khonsu_db_recover(resource->db, &list, error) != KHONSU_STATUS_OK) return -1;
  size_t count = khonsu_prepared_list_count(list);
  for (size_t i = 0; i < count && state == 0; i++) {
    khonsu_prepared_info info;
    if (khonsu_prepared_list_get(list, i, &info, sizeof(info), error) != KHONSU_STATUS_OK) {
      state = -1;
    } else if (info.global_id_len == id_len && memcmp(info.global_id, id, id_len) == 0) {
      state = info.state;
    }
  }
  khonsu_prepared_list_free(list);
  return state;
}

void resource_forget_all(void) {
  /* Other threads may have waited on it; they are not in this process. */
  static const pthread_cond_t fresh = PTHREAD_COND_INITIALIZER;
  state_changed = fresh;
  resources = NULL;
}
