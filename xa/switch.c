/* The entries of the switch: the state tables of the specification over khonsu's transactions. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"
#include "xid.h"

/* ---- answers ---- */

/* Keeps the message and passes the code on. A thread of NULL has no memory for messages. */
static int answer(struct thread *thread, int code, const char *format, ...) {
  if (thread != NULL) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(thread->message, sizeof(thread->message), format, arguments);
    va_end(arguments);
  }
  return code;
}

static int done(struct thread *thread, int code) { return answer(thread, code, "%s", ""); }

/* The same with what khonsu says; frees the error. */
static int answer_error(struct thread *thread, int code, const char *call, khonsu_error *error) {
  answer(thread, code, "%s: %s", call, khonsu_error_message(error));
  khonsu_error_free(error);
  return code;
}

static const char *const out_of_memory = "%s: out of memory";

/* ---- checks that come first ---- */

/* The flags are among those that the call knows. XA_OK, or the code to return. */
static int check_flags(struct thread *thread, const char *call, long flags, long known) {
  if (thread == NULL) return XAER_RMERR;
  if ((flags & TMASYNC) != 0 && (flags & ~(known | TMASYNC)) == 0) {
    return answer(thread, XAER_ASYNC, "%s: there are no asynchronous calls", call);
  }
  if ((flags & ~known) != 0) return answer(thread, XAER_INVAL, "%s: flags that the call does not have", call);
  return XA_OK;
}

/* The rmid is open in the calling thread, and the XID is one. XA_OK with *opening, or the code to return. */
static int check_branch_call(struct thread *thread, const char *call, const XID *xid, int rmid,
                             struct opening **opening) {
  if (xid == NULL || !xid_is_valid(xid)) {
    return answer(thread, XAER_INVAL, "%s: the XID is NULL, null, or has a length out of range", call);
  }
  *opening = thread_opening(thread, rmid);
  if (*opening == NULL) return answer(thread, XAER_PROTO, "%s: the thread has not opened rmid %d", call, rmid);
  return XA_OK;
}

/* ---- xa_open, xa_close ---- */

static int set_txn_options(khonsu_txn_options *options, const struct information *information, khonsu_error **error) {
  khonsu_status status = khonsu_txn_options_set_max_bytes(options, information->max_transaction_bytes, error);
  if (status == KHONSU_STATUS_OK && information->isolation != 0) {
    status = khonsu_txn_options_set_isolation(options, information->isolation, error);
  }
  if (status == KHONSU_STATUS_OK && information->durability != 0) {
    status = khonsu_txn_options_set_durability(options, information->durability, error);
  }
  if (status == KHONSU_STATUS_OK && information->conflict_resolution != 0) {
    status = khonsu_txn_options_set_conflict_resolution(options, information->conflict_resolution, error);
  }
  return status;
}

static int xa_open(char *text, int rmid, long flags) {
  static const char *const call = "xa_open";
  struct thread *thread = thread_current();
  struct information information;
  khonsu_error *error = NULL;
  int code = check_flags(thread, call, flags, TMNOFLAGS);
  if (code != XA_OK) return code;
  if (text == NULL || !information_fits(text)) {
    return answer(thread, XAER_INVAL, "xa_open: the information string is NULL, or longer than %d bytes",
                  MAXINFOSIZE - 1);
  }
  struct opening *opening = thread_opening(thread, rmid);
  if (opening != NULL) {
    if (strcmp(opening->information, text) == 0) return done(thread, XA_OK);
    return answer(thread, XAER_INVAL, "xa_open: rmid %d is open with another information string", rmid);
  }
  if (!information_parse(text, &information, thread->message, sizeof(thread->message))) return XAER_INVAL;

  opening = (struct opening *)calloc(1, sizeof(*opening));
  if (opening == NULL) return answer(thread, XAER_RMERR, out_of_memory, call);
  opening->rmid = rmid;
  memcpy(opening->information, text, strlen(text) + 1);
  opening->hold_reads = information.hold_reads;
  opening->txn_options = khonsu_txn_options_new();
  if (set_txn_options(opening->txn_options, &information, &error) == KHONSU_STATUS_OK) {
    opening->resource = resource_acquire(&information, &error, thread->message, sizeof(thread->message));
  }
  if (opening->resource == NULL) {
    khonsu_txn_options_free(opening->txn_options);
    free(opening);
    return error == NULL ? XAER_RMERR : answer_error(thread, XAER_RMERR, call, error);
  }
  opening->next = thread->openings;
  thread->openings = opening;
  return done(thread, XA_OK);
}

static int xa_close(char *text, int rmid, long flags) {
  struct thread *thread = thread_current();
  (void)text; /* there is nothing to say about a close */
  int code = check_flags(thread, "xa_close", flags, TMNOFLAGS);
  if (code != XA_OK) return code;
  struct opening *opening = thread_opening(thread, rmid);
  if (opening == NULL) return done(thread, XA_OK);
  if (opening->active != NULL || opening->suspended != NULL) {
    return answer(thread, XAER_PROTO, "xa_close: the thread is associated with a branch of rmid %d", rmid);
  }
  thread_close(thread, opening);
  return done(thread, XA_OK);
}

/* ---- xa_start, xa_end ---- */

static struct suspended **suspended_in(struct opening *opening, const XID *xid) {
  struct suspended **link = &opening->suspended;
  while (*link != NULL && !xid_equals(&(*link)->branch->xid, xid)) link = &(*link)->next;
  return link;
}

static void drop_suspended(struct suspended **link) {
  struct suspended *dropped = *link;
  *link = dropped->next;
  free(dropped);
}

/* xa_start of a branch that is there: joins it, or resumes the association with it. With the lock held. */
static int associate(struct thread *thread, struct opening *opening, const XID *xid, bool resume) {
  struct branch *branch = branch_find(&opening->resource->branches, xid);
  struct suspended **own = suspended_in(opening, xid);
  if (branch == NULL) return answer(thread, XAER_NOTA, "xa_start: there is no such branch");
  if (branch->busy || branch->state == branch_prepared || branch->state == branch_heuristic) {
    return answer(thread, XAER_PROTO, "xa_start: the branch is prepared, or being completed");
  }
  if (resume && *own == NULL && branch->migratable == 0) {
    return answer(thread, XAER_PROTO, "xa_start: the thread has no suspended association with the branch");
  }
  if (!resume && *own != NULL) {
    return answer(thread, XAER_PROTO, "xa_start: the thread has suspended its association, and must resume it");
  }
  if (resume) {
    if (*own != NULL) {
      drop_suspended(own);
    } else {
      branch->migratable--;
    }
    branch->associations--;
  }
  if (branch->state == branch_rollback_only) {
    return answer(thread, branch->rollback_code, "xa_start: the branch is marked rollback-only");
  }
  branch->associations++;
  opening->active = branch;
  return done(thread, XA_OK);
}

/* xa_start of a new branch. */
static int begin(struct thread *thread, struct opening *opening, const XID *xid) {
  static const char *const call = "xa_start";
  struct resource *resource = opening->resource;
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  resource_lock();
  bool known = branch_find(&resource->branches, xid) != NULL;
  resource_unlock();
  if (known) return answer(thread, XAER_DUPID, "xa_start: there is such a branch already");
  khonsu_status status = khonsu_db_begin(resource->db, opening->txn_options, &txn, &error);
  if (status != KHONSU_STATUS_OK) {
    return answer_error(thread, status == KHONSU_STATUS_PANIC ? XAER_RMFAIL : XAER_RMERR, call, error);
  }
  resource_lock();
  known = branch_find(&resource->branches, xid) != NULL;
  struct branch *branch = known ? NULL : branch_add(&resource->branches, xid, branch_working, txn);
  if (branch != NULL) {
    branch->associations = 1;
    branch->hold_reads = opening->hold_reads;
    opening->active = branch;
  }
  resource_unlock();
  if (branch != NULL) return done(thread, XA_OK);
  khonsu_txn_free(txn);
  return known ? answer(thread, XAER_DUPID, "xa_start: there is such a branch already")
               : answer(thread, XAER_RMERR, out_of_memory, call);
}

static int xa_start(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_start";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  int code = check_flags(thread, call, flags, TMJOIN | TMRESUME | TMNOWAIT);
  if (code != XA_OK) return code;
  if ((flags & TMJOIN) != 0 && (flags & TMRESUME) != 0) {
    return answer(thread, XAER_INVAL, "xa_start: TMJOIN and TMRESUME exclude each other");
  }
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  if (opening->active != NULL) {
    return answer(thread, XAER_PROTO, "xa_start: the thread is associated with a branch of rmid %d already", rmid);
  }
  /* TMNOWAIT changes nothing: no start waits. */
  if ((flags & (TMJOIN | TMRESUME)) == 0) return begin(thread, opening, xid);
  resource_lock();
  code = associate(thread, opening, xid, (flags & TMRESUME) != 0);
  resource_unlock();
  return code;
}

/* Suspends the active association. With the lock held; `own` is the place for it unless it may migrate. */
static void suspend(struct opening *opening, struct suspended *own) {
  struct branch *branch = opening->active;
  opening->active = NULL;
  if (own == NULL) {
    branch->migratable++;
  } else {
    own->branch = branch;
    own->next = opening->suspended;
    opening->suspended = own;
  }
}

/* Ends the thread's association with the branch, active or suspended, or a suspended one that may migrate. With the
 * lock held. False: there is none. */
static bool dissociate(struct opening *opening, struct branch *branch) {
  struct suspended **own = suspended_in(opening, &branch->xid);
  if (opening->active == branch) {
    opening->active = NULL;
  } else if (*own != NULL) {
    drop_suspended(own);
  } else if (branch->migratable > 0) {
    branch->migratable--;
  } else {
    return false;
  }
  branch->associations--;
  return true;
}

static int xa_end(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_end";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  struct suspended *own = NULL;
  long what = flags & (TMSUSPEND | TMSUCCESS | TMFAIL);
  int code = check_flags(thread, call, flags, TMSUSPEND | TMMIGRATE | TMSUCCESS | TMFAIL);
  if (code != XA_OK) return code;
  if ((what != TMSUSPEND && what != TMSUCCESS && what != TMFAIL) || ((flags & TMMIGRATE) != 0 && what != TMSUSPEND)) {
    return answer(thread, XAER_INVAL, "xa_end: needs one of TMSUSPEND, TMSUCCESS and TMFAIL, TMMIGRATE with the first");
  }
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  if (what == TMSUSPEND && (flags & TMMIGRATE) == 0) {
    own = (struct suspended *)calloc(1, sizeof(*own));
    if (own == NULL) return answer(thread, XAER_RMERR, out_of_memory, call);
  }
  resource_lock();
  struct branch *branch = branch_find(&opening->resource->branches, xid);
  if (branch == NULL) {
    code = answer(thread, XAER_NOTA, "xa_end: there is no such branch");
  } else if (what == TMSUSPEND && opening->active != branch) {
    code = answer(thread, XAER_PROTO, "xa_end: the thread is not associated with the branch, or has suspended it");
  } else if (what == TMSUSPEND && branch->state == branch_working) {
    suspend(opening, own);
    own = NULL;
    code = done(thread, XA_OK);
  } else if (!dissociate(opening, branch)) {
    code = answer(thread, XAER_PROTO, "xa_end: the thread is not associated with the branch");
  } else {
    if (what == TMFAIL && branch->state == branch_working) {
      branch->state = branch_rollback_only;
      branch->rollback_code = XA_RBROLLBACK;
    }
    code = branch->state == branch_rollback_only
               ? answer(thread, branch->rollback_code, "xa_end: the branch is marked rollback-only")
               : done(thread, XA_OK);
  }
  resource_unlock();
  free(own);
  return code;
}

/* ---- completion ---- */

/* Why a transaction was rolled back in place of being prepared or committed. 0: khonsu does not say that it was. */
static int rollback_code(khonsu_status status) {
  switch (status) {
    case KHONSU_STATUS_CONFLICT: return XA_RBTRANSIENT;
    case KHONSU_STATUS_INVALID_ARGUMENT:
    case KHONSU_STATUS_SCHEMA_MISMATCH: return XA_RBINTEGRITY;
    case KHONSU_STATUS_DUPLICATE: return XA_RBPROTO;
    case KHONSU_STATUS_NOT_DURABLE:
    case KHONSU_STATUS_LIMIT_EXCEEDED:
    case KHONSU_STATUS_STORAGE:
    case KHONSU_STATUS_CORRUPTION:
    case KHONSU_STATUS_LOCKED: return XA_RBOTHER;
    default: return 0;
  }
}

/* Finds a branch and takes it for the calling thread. A branch that is not here may be one that khonsu has in doubt all
 * the same, prepared through khonsu.h. XA_OK with *taken, which give_back must follow; or the code to return. */
static int take(struct thread *thread, const char *call, struct resource *resource, const XID *xid,
                struct branch **taken) {
  khonsu_error *error = NULL;
  int code = XA_OK;
  resource_lock();
  struct branch *branch = branch_find(&resource->branches, xid);
  if (branch == NULL) {
    resource_unlock();
    int state = resource_prepared_state(resource, xid, &error);
    if (state < 0) return answer_error(thread, XAER_RMFAIL, call, error);
    if (state == 0) return answer(thread, XAER_NOTA, "%s: there is no such branch", call);
    resource_lock();
    branch = branch_find(&resource->branches, xid);
    if (branch == NULL) {
      branch = branch_add(&resource->branches, xid,
                          state == KHONSU_PREPARED_STATE_PREPARED ? branch_prepared : branch_heuristic, NULL);
    }
  }
  if (branch == NULL) {
    code = answer(thread, XAER_RMFAIL, out_of_memory, call);
  } else if (branch->busy) {
    code = answer(thread, XAER_PROTO, "%s: another thread is completing the branch", call);
  } else if (branch->associations > 0) {
    code = answer(thread, XAER_PROTO, "%s: a thread is associated with the branch still", call);
  } else {
    branch->busy = true;
    *taken = branch;
  }
  resource_unlock();
  return code;
}

static void give_back(struct branch *branch, enum branch_state state) {
  resource_lock();
  branch->state = state;
  branch->busy = false;
  resource_unlock();
}

/* The branch is over: its transaction is freed, which rolls it back if it is open. */
static void finish(struct resource *resource, struct branch *branch) {
  khonsu_txn *txn = branch->txn;
  resource_lock();
  branch_remove(&resource->branches, branch);
  resource_unlock();
  khonsu_txn_free(txn);
}

static int xa_prepare(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_prepare";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  struct branch *branch = NULL;
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  int32_t vote = 0;
  int code = check_flags(thread, call, flags, TMNOFLAGS);
  if (code != XA_OK) return code;
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  struct resource *resource = opening->resource;
  if ((code = take(thread, call, resource, xid, &branch)) != XA_OK) return code;
  if (branch->state != branch_working) {
    const char *why = branch->state == branch_rollback_only ? "marked rollback-only" : "prepared already";
    give_back(branch, branch->state);
    return answer(thread, XAER_PROTO, "xa_prepare: the branch is %s", why);
  }
  uint32_t prepare_flags = (resource->in_memory ? (uint32_t)KHONSU_PREPARE_ALLOW_VOLATILE : 0) |
                           (branch->hold_reads ? (uint32_t)KHONSU_PREPARE_HOLD_READS : 0);
  khonsu_status status = khonsu_txn_prepare(branch->txn, id, xid_to_global_id(xid, id), prepare_flags, &vote, &error);
  if (status == KHONSU_STATUS_OK && vote == KHONSU_VOTE_YES) {
    khonsu_txn_free(branch->txn);
    branch->txn = NULL;
    give_back(branch, branch_prepared);
    return done(thread, XA_OK);
  }
  if (status == KHONSU_STATUS_OK) {
    finish(resource, branch);
    return done(thread, XA_RDONLY);
  }
  code = rollback_code(status);
  if (code != 0) {
    finish(resource, branch);
    return answer_error(thread, code, call, error);
  }
  /* A defect, or an application that has ended the transaction itself or is inside a call on it: it stays for the
   * rollback. */
  branch->perhaps_prepared = true;
  give_back(branch, branch_working);
  return answer_error(thread, XAER_RMERR, call, error);
}

/* The code for a branch that was decided by somebody else. It stays until xa_forget. */
static int heuristic(struct thread *thread, const char *call, struct branch *branch, khonsu_error *error) {
  int32_t decision = khonsu_error_decision(error);
  int code = decision == KHONSU_DECISION_COMMIT     ? XA_HEURCOM
             : decision == KHONSU_DECISION_ROLLBACK ? XA_HEURRB
                                                    : XA_HEURHAZ;
  give_back(branch, branch_heuristic);
  return answer_error(thread, code, call, error);
}

static int commit_one_phase(struct thread *thread, struct resource *resource, struct branch *branch) {
  static const char *const call = "xa_commit";
  khonsu_error *error = NULL;
  khonsu_status status = khonsu_txn_commit(branch->txn, &error);
  int code = rollback_code(status);
  if (status == KHONSU_STATUS_OK || code != 0) {
    finish(resource, branch);
    return status == KHONSU_STATUS_OK ? done(thread, XA_OK) : answer_error(thread, code, call, error);
  }
  /* As in xa_prepare. A rollback may follow, and finds out whether there is anything left to roll back. */
  give_back(branch, branch_working);
  return answer_error(thread, status == KHONSU_STATUS_PANIC ? XAER_RMFAIL : XAER_PROTO, call, error);
}

static int commit_prepared(struct thread *thread, struct resource *resource, struct branch *branch) {
  static const char *const call = "xa_commit";
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = xid_to_global_id(&branch->xid, id);
  khonsu_status status = khonsu_db_commit_prepared(resource->db, id, id_len, NULL, &error);
  switch (status) {
    case KHONSU_STATUS_OK: finish(resource, branch); return done(thread, XA_OK);
    case KHONSU_STATUS_NOT_FOUND:
      finish(resource, branch);
      return answer(thread, XAER_NOTA, "xa_commit: there is no such branch any more");
    case KHONSU_STATUS_HEURISTIC:
    case KHONSU_STATUS_ALREADY_DECIDED: return heuristic(thread, call, branch, error);
    case KHONSU_STATUS_BUSY: /* a call beside the switch is deciding it */
    case KHONSU_STATUS_STORAGE:
      give_back(branch, branch->state);
      return answer_error(thread, XA_RETRY, call, error);
    default: give_back(branch, branch->state); return answer_error(thread, XAER_RMFAIL, call, error);
  }
}

static int xa_commit(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_commit";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  struct branch *branch = NULL;
  int code = check_flags(thread, call, flags, TMONEPHASE | TMNOWAIT);
  if (code != XA_OK) return code;
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  if ((code = take(thread, call, opening->resource, xid, &branch)) != XA_OK) return code;
  bool one_phase = (flags & TMONEPHASE) != 0;
  bool prepared = branch->state == branch_prepared || branch->state == branch_heuristic;
  if (branch->state == branch_rollback_only || one_phase == prepared) {
    const char *why = branch->state == branch_rollback_only ? "marked rollback-only"
                      : prepared                            ? "prepared, and TMONEPHASE is set"
                                                            : "not prepared, and TMONEPHASE is not set";
    give_back(branch, branch->state);
    return answer(thread, XAER_PROTO, "xa_commit: the branch is %s", why);
  }
  return one_phase ? commit_one_phase(thread, opening->resource, branch)
                   : commit_prepared(thread, opening->resource, branch);
}

/* Of a branch that was not prepared. */
static int rollback_transaction(struct thread *thread, struct resource *resource, struct branch *branch) {
  uint64_t version = 0;
  if (khonsu_txn_commit_version(branch->txn, &version, NULL) == KHONSU_STATUS_OK) {
    give_back(branch, branch_heuristic);
    return answer(thread, XA_HEURCOM, "xa_rollback: the application has committed the transaction itself");
  }
  finish(resource, branch);
  return done(thread, XA_OK);
}

static int rollback_prepared(struct thread *thread, struct resource *resource, struct branch *branch) {
  static const char *const call = "xa_rollback";
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = xid_to_global_id(&branch->xid, id);
  khonsu_status status = khonsu_db_rollback_prepared(resource->db, id, id_len, &error);
  switch (status) {
    case KHONSU_STATUS_OK: finish(resource, branch); return done(thread, XA_OK);
    case KHONSU_STATUS_NOT_FOUND:
      if (branch->txn != NULL) return rollback_transaction(thread, resource, branch);
      finish(resource, branch);
      return answer(thread, XAER_NOTA, "xa_rollback: there is no such branch any more");
    case KHONSU_STATUS_HEURISTIC:
    case KHONSU_STATUS_ALREADY_DECIDED: return heuristic(thread, call, branch, error);
    /* It stays prepared, and a later call may succeed. XA_RETRY is not among the codes of xa_rollback. */
    default: give_back(branch, branch->state); return answer_error(thread, XAER_RMFAIL, call, error);
  }
}

static int xa_rollback(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_rollback";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  struct branch *branch = NULL;
  int code = check_flags(thread, call, flags, TMNOFLAGS);
  if (code != XA_OK) return code;
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  if ((code = take(thread, call, opening->resource, xid, &branch)) != XA_OK) return code;
  if (branch->state == branch_prepared || branch->state == branch_heuristic || branch->perhaps_prepared) {
    return rollback_prepared(thread, opening->resource, branch);
  }
  return rollback_transaction(thread, opening->resource, branch);
}

static int xa_forget(XID *xid, int rmid, long flags) {
  static const char *const call = "xa_forget";
  struct thread *thread = thread_current();
  struct opening *opening = NULL;
  struct branch *branch = NULL;
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  int code = check_flags(thread, call, flags, TMNOFLAGS);
  if (code != XA_OK) return code;
  if ((code = check_branch_call(thread, call, xid, rmid, &opening)) != XA_OK) return code;
  struct resource *resource = opening->resource;
  if ((code = take(thread, call, resource, xid, &branch)) != XA_OK) return code;
  if (branch->state == branch_prepared) {
    /* An operator may have decided it since this process heard of it. */
    int state = resource_prepared_state(resource, xid, &error);
    khonsu_error_free(error);
    error = NULL;
    if (state == KHONSU_PREPARED_STATE_HEURISTIC_COMMIT || state == KHONSU_PREPARED_STATE_HEURISTIC_ROLLBACK) {
      branch->state = branch_heuristic;
    }
  }
  if (branch->state != branch_heuristic) {
    give_back(branch, branch->state);
    return answer(thread, XAER_PROTO, "xa_forget: the branch is not heuristically completed");
  }
  khonsu_status status = khonsu_db_forget(resource->db, id, xid_to_global_id(xid, id), &error);
  if (status != KHONSU_STATUS_OK && status != KHONSU_STATUS_NOT_FOUND) {
    give_back(branch, branch_heuristic);
    return answer_error(thread, XAER_RMERR, call, error);
  }
  finish(resource, branch);
  return done(thread, XA_OK);
}

/* ---- xa_recover, xa_complete ---- */

static void end_scan(struct opening *opening) {
  khonsu_prepared_list_free(opening->scan);
  opening->scan = NULL;
  opening->scan_next = 0;
}

static int xa_recover(XID *xids, long count, int rmid, long flags) {
  static const char *const call = "xa_recover";
  struct thread *thread = thread_current();
  khonsu_error *error = NULL;
  if (thread == NULL) return XAER_RMERR;
  if ((flags & ~(TMSTARTRSCAN | TMENDRSCAN)) != 0) {
    return answer(thread, XAER_INVAL, "xa_recover: flags that the call does not have");
  }
  if (count < 0 || (xids == NULL && count > 0)) {
    return answer(thread, XAER_INVAL, "xa_recover: a negative count, or NULL for the XIDs");
  }
  struct opening *opening = thread_opening(thread, rmid);
  if (opening == NULL) return answer(thread, XAER_PROTO, "xa_recover: the thread has not opened rmid %d", rmid);
  if ((flags & TMSTARTRSCAN) != 0) {
    end_scan(opening);
    khonsu_status status = khonsu_db_recover(opening->resource->db, &opening->scan, &error);
    if (status != KHONSU_STATUS_OK) {
      return answer_error(thread, status == KHONSU_STATUS_PANIC ? XAER_RMFAIL : XAER_RMERR, call, error);
    }
  } else if (opening->scan == NULL) {
    return answer(thread, XAER_INVAL, "xa_recover: no scan is open, and TMSTARTRSCAN is not set");
  }
  long given = 0;
  size_t listed = khonsu_prepared_list_count(opening->scan);
  while (given < count && given < INT32_MAX && opening->scan_next < listed) {
    khonsu_prepared_info info;
    khonsu_status status = khonsu_prepared_list_get(opening->scan, opening->scan_next, &info, sizeof(info), &error);
    if (status != KHONSU_STATUS_OK) {
      end_scan(opening);
      return answer_error(thread, XAER_RMERR, call, error);
    }
    opening->scan_next++;
    /* What was prepared by other means than the switch is not the transaction manager's. */
    if (xid_from_global_id(info.global_id, info.global_id_len, &xids[given])) given++;
  }
  /* Fewer than asked for: there are no more, and the scan is over. */
  if ((flags & TMENDRSCAN) != 0 || given < count) end_scan(opening);
  return done(thread, (int)given);
}

static int xa_complete(int *handle, int *result, int rmid, long flags) {
  struct thread *thread = thread_current();
  (void)rmid;
  if (thread == NULL) return XAER_RMERR;
  if ((flags & ~(TMMULTIPLE | TMNOWAIT)) != 0 || handle == NULL || result == NULL) {
    return answer(thread, XAER_INVAL, "xa_complete: NULL, or flags that the call does not have");
  }
  return answer(thread, XAER_PROTO, "xa_complete: there are no asynchronous calls");
}

struct xa_switch_t khonsu_xa_switch = {
    "khonsu", TMNOFLAGS,  0,          xa_open,    xa_close,  xa_start,   xa_end,
    xa_rollback, xa_prepare, xa_commit,  xa_recover, xa_forget, xa_complete,
};

/* ---- beside the switch ---- */

int khonsu_xa_txn(int rmid, khonsu_txn **out_txn) {
  struct thread *thread = thread_current();
  if (out_txn == NULL) return answer(thread, XAER_INVAL, "khonsu_xa_txn: NULL");
  *out_txn = NULL;
  const struct opening *opening = thread == NULL ? NULL : thread_opening(thread, rmid);
  if (opening == NULL) return answer(thread, XAER_PROTO, "khonsu_xa_txn: the thread has not opened rmid %d", rmid);
  if (opening->active == NULL) {
    return answer(thread, XAER_PROTO, "khonsu_xa_txn: the thread is not associated with a branch of rmid %d", rmid);
  }
  *out_txn = opening->active->txn;
  return done(thread, XA_OK);
}

int khonsu_xa_db(int rmid, const khonsu_db **out_db) {
  struct thread *thread = thread_current();
  if (out_db == NULL) return answer(thread, XAER_INVAL, "khonsu_xa_db: NULL");
  *out_db = NULL;
  const struct opening *opening = thread == NULL ? NULL : thread_opening(thread, rmid);
  if (opening == NULL) return answer(thread, XAER_PROTO, "khonsu_xa_db: the thread has not opened rmid %d", rmid);
  *out_db = opening->resource->db;
  return done(thread, XA_OK);
}

const char *khonsu_xa_message(void) {
  const struct thread *thread = thread_current();
  return thread == NULL ? "out of memory" : thread->message;
}

int khonsu_xa_global_id(const XID *xid, void *out_global_id, size_t *out_global_id_len) {
  struct thread *thread = thread_current();
  if (xid == NULL || out_global_id == NULL || out_global_id_len == NULL || !xid_is_valid(xid)) {
    return answer(thread, XAER_INVAL, "khonsu_xa_global_id: NULL, the null XID, or a length out of range");
  }
  *out_global_id_len = xid_to_global_id(xid, (uint8_t *)out_global_id);
  return done(thread, XA_OK);
}

int khonsu_xa_xid(const void *global_id, size_t global_id_len, XID *out_xid) {
  struct thread *thread = thread_current();
  if (global_id == NULL || out_xid == NULL) return answer(thread, XAER_INVAL, "khonsu_xa_xid: NULL");
  if (!xid_from_global_id(global_id, global_id_len, out_xid)) {
    return answer(thread, XAER_NOTA, "khonsu_xa_xid: not the global id of an XID");
  }
  return done(thread, XA_OK);
}
