/* Who is killed when: the steps of a global transaction, and a plan for one of them. */
#ifndef KHONSU_XA_PLAN_H
#define KHONSU_XA_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "party.h"

/* Calls on party p are at step + p. */
enum step {
  step_start = 0,
  step_work = 3,
  step_end = 6,
  step_prepare = 9,
  step_decide = 12,
  step_commit = 13,
  step_done = 16, /* everything is committed, the coordinator has not noted it */
  step_count = 17
};

enum moment {
  moment_before,
  moment_during, /* the request is on its way */
  moment_after,  /* it is done, and the reply is not */
  moment_count
};

enum { victim_coordinator = party_count, victim_none = -1 };

struct plan {
  int victim; /* a party, or one of the above */
  int step;
  int moment;
  bool checkpoints; /* the khonsu databases make a checkpoint while the transaction is in doubt */
};

/* The party that a step calls; victim_coordinator where it calls none. */
static inline int plan_target(int step) {
  return step >= step_decide && step < step_commit ? victim_coordinator
         : step >= step_done                       ? victim_coordinator
         : step >= step_commit                     ? step - step_commit
                                                   : step % party_count;
}

/* Whether a plan is one: parties that the step does not call can only be gone before it, and to be killed after it is the
 * same as before the next. */
static inline bool plan_is_sensible(const struct plan *plan) {
  if (plan->moment == moment_before) return true;
  if (plan->step == step_done) return false;
  if (plan->victim == victim_coordinator) return plan->moment == moment_during;
  return plan->victim == plan_target(plan->step);
}

/* ---- between the coordinator and whoever has started it, over the coordinator's standard output and input ---- */

/* The coordinator asks for a party to be killed, and goes on when it reads a byte; or tells of a transaction that it has
 * acknowledged. */
enum { tell_kill = 1, tell_acknowledged = 2 };

struct tell {
  int32_t what;
  int32_t number; /* the party, or the kind */
  int64_t transfer;
  int32_t parties; /* a bit for each one that has a marker */
  int32_t reserved;
};

#endif
