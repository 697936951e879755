#define _XOPEN_SOURCE 700

#include "thread.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key = false;

struct opening *thread_opening(const struct thread *thread, int rmid) {
  struct opening *opening = thread->openings;
  while (opening != NULL && opening->rmid != rmid) opening = opening->next;
  return opening;
}

/* With the lock held. */
static void abandon(struct branch *branch) {
  branch->associations--;
  if (branch->state == branch_working) {
    branch->state = branch_rollback_only;
    branch->rollback_code = XA_RBROLLBACK;
  }
}

void thread_close(struct thread *thread, struct opening *opening) {
  struct opening **link = &thread->openings;
  while (*link != opening) link = &(*link)->next;
  *link = opening->next;
  resource_lock();
  if (opening->active != NULL) abandon(opening->active);
  for (struct suspended *each = opening->suspended; each != NULL; each = each->next) abandon(each->branch);
  resource_unlock();
  while (opening->suspended != NULL) {
    struct suspended *next = opening->suspended->next;
    free(opening->suspended);
    opening->suspended = next;
  }
  khonsu_prepared_list_free(opening->scan);
  khonsu_txn_options_free(opening->txn_options);
  resource_release(opening->resource);
  free(opening);
}

static void thread_ends(void *value) {
  struct thread *thread = (struct thread *)value;
  while (thread->openings != NULL) thread_close(thread, thread->openings);
  free(thread);
}

/* The child has this thread only, and nothing open; what the parent had open stays as it is, and is not freed. */
static void in_child(void) {
  resource_forget_all();
  struct thread *thread = (struct thread *)pthread_getspecific(key);
  if (thread != NULL) thread->openings = NULL;
  resource_unlock();
}

static void make_key(void) {
  has_key = pthread_key_create(&key, thread_ends) == 0 && pthread_atfork(resource_lock, resource_unlock, in_child) == 0;
}

struct thread *thread_current(void) {
  if (pthread_once(&once, make_key) != 0 || !has_key) return NULL;
  struct thread *thread = (struct thread *)pthread_getspecific(key);
  if (thread == NULL) {
    thread = (struct thread *)calloc(1, sizeof(*thread));
    if (thread != NULL && pthread_setspecific(key, thread) != 0) {
      free(thread);
      thread = NULL;
    }
  }
  return thread;
}
