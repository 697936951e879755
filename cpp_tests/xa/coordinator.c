/* The transaction manager: transfers money between three resource managers by two-phase commit with presumed abort, and
 * on its start finishes what one before it has left. It dies, or has a party killed, where its plan says.
 * coordinator FOLDER TRANSFERS VICTIM STEP MOMENT CHECKPOINTS */
#define _XOPEN_SOURCE 700

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "decision_log.h"
#include "party.h"
#include "plan.h"

static struct party parties[party_count];
static struct decision_log decisions;
static struct plan plan;
static bool armed = false; /* the plan is for the transaction that runs now */
static uint32_t random_state = 1;

static uint32_t below(uint32_t bound) {
  random_state = random_state * 1664525u + 1013904223u;
  return (random_state >> 8) % bound;
}

static void fail(const char *what, const char *message) {
  fprintf(stderr, "coordinator: %s: %s\n", what, message);
  exit(EXIT_FAILURE);
}

/* ---- the plan ---- */

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void tell(const struct tell *words) {
  if (write(STDOUT_FILENO, words, sizeof(*words)) != (ssize_t)sizeof(*words)) fail("tell", "nobody listens");
}

static void kill_party(int party) {
  struct tell words = {tell_kill, party, 0, 0, 0};
  char answer = 0;
  tell(&words);
  if (read(STDIN_FILENO, &answer, 1) != 1) fail("kill", "no answer");
}

static void kill_victim(void) {
  armed = false;
  if (plan.victim == victim_coordinator) die();
  kill_party(plan.victim);
}

static bool planned(int step, int moment) { return armed && plan.step == step && plan.moment == moment; }

/* A request of the second half of a step may be anywhere when it is cut off. */
static void pause_a_little(void) {
  struct timespec pause = {0, (long)below(1500) * 1000};
  nanosleep(&pause, NULL);
}

/* ---- calls ---- */

/* A call that is a step of the transaction, and may go wrong as planned. */
static int call(int step, int party, struct request *request) {
  struct party *called = &parties[party];
  struct reply reply;
  if (planned(step, moment_before)) kill_victim();
  bool during = planned(step, moment_during), after = planned(step, moment_after);
  /* The processes in front of khonsu kill themselves at the right instant. */
  request->death = after && party != postgres ? death_after : death_none;
  int code = party_lost;
  if (called->socket < 0 && called->connection == NULL) return party_lost;
  if (!party_send(called, request)) {
    party_disconnect(called);
    return party_lost;
  }
  if (during) {
    pause_a_little();
    kill_victim();
  }
  code = party_receive(called, request, &reply);
  if (after) {
    if (party == postgres) kill_victim();
    armed = false;
    party_disconnect(called); /* the reply did not arrive */
    code = party_lost;
  }
  if (code < 0 && code != party_lost) {
    fprintf(stderr, "coordinator: %s: %s, step %d: code %d: %s\n", party_names[party], "a call failed", step, code,
            reply.message);
  }
  return code;
}

static int plain_call(int party, int operation, const XID *xid, long flags, struct reply *reply) {
  struct request request;
  memset(&request, 0, sizeof(request));
  request.operation = operation;
  request.flags = flags;
  if (xid != NULL) request.xid = *xid;
  return party_call(&parties[party], &request, reply);
}

/* ---- recovery ---- */

/* Decides everything that a party has in doubt: what the log has is committed, all else rolled back. Comes back when
 * nothing is left, over as many restarts of the party as it takes. */
static void resolve(int party) {
  for (int attempt = 0; attempt < 100; attempt++) {
    struct reply listed, reply;
    if (parties[party].socket < 0 && parties[party].connection == NULL && !party_connect(&parties[party])) {
      fail(party_names[party], "cannot connect");
    }
    int count = plain_call(party, operation_recover, NULL, TMSTARTRSCAN | TMENDRSCAN, &listed);
    if (count == party_lost) continue;
    if (count < 0) fail("recover", listed.message);
    bool all = count < wire_xids;
    for (int i = 0; i < count; i++) {
      int64_t transaction = party_transaction(&listed.xids[i]);
      if (transaction < 0) fail("recover", "a branch of nobody's");
      bool committed = decision_log_has(&decisions, transaction);
      int code = plain_call(party, committed ? operation_commit : operation_rollback, &listed.xids[i], TMNOFLAGS,
                            &reply);
      if (code == party_lost) all = false;
      if (code == party_lost) break;
      if (code != XA_OK) fail("resolve", reply.message);
    }
    if (all) return;
  }
  fail(party_names[party], "is never done");
}

/* ---- transactions ---- */

enum shape { shape_three, shape_two_and_a_reader, shape_one, shape_failing, shape_count };

struct transfer {
  int64_t id;
  enum shape shape;
  int32_t kind;
  int64_t amounts[party_count];
  bool involved[party_count];
  bool started[party_count], active[party_count], prepared[party_count], over[party_count];
};

static void choose(struct transfer *transfer, int64_t id, enum shape shape) {
  memset(transfer, 0, sizeof(*transfer));
  transfer->id = id;
  transfer->shape = shape;
  transfer->kind = shape == shape_three ? kind_three : kind_other;
  /* None of the three is zero: that would be a reader. */
  int64_t sign = below(2) == 0 ? 1 : -1;
  int64_t first = sign * (1 + (int64_t)below(10)), second = sign * (1 + (int64_t)below(10));
  for (int party = 0; party < party_count; party++) transfer->involved[party] = true;
  transfer->amounts[0] = first;
  transfer->amounts[1] = second;
  transfer->amounts[2] = -first - second;
  if (shape == shape_two_and_a_reader) {
    int reader = (int)below(2);
    transfer->amounts[reader] = 0;
    transfer->amounts[1 - reader] = first;
    transfer->amounts[2] = -first;
  }
  if (shape == shape_one) {
    int only = (int)below(2);
    for (int party = 0; party < party_count; party++) {
      transfer->involved[party] = party == only;
      transfer->amounts[party] = 0;
    }
  }
}

static void request_for(struct request *request, const struct transfer *transfer, int party, int operation, long flags) {
  memset(request, 0, sizeof(*request));
  request->operation = operation;
  request->flags = flags;
  request->xid = party_xid(transfer->id, party);
  request->kind = transfer->kind;
  request->account = (int32_t)(transfer->id % account_count);
  request->amount = transfer->amounts[party];
  request->transfer = transfer->id;
}

/* The work of all parties, to the end of the first phase. False: it cannot commit. */
static bool work_and_prepare(struct transfer *transfer) {
  struct request request;
  for (int party = 0; party < party_count; party++) {
    if (!transfer->involved[party]) continue;
    request_for(&request, transfer, party, operation_start, TMNOFLAGS);
    if (call(step_start + party, party, &request) != XA_OK) return false;
    transfer->started[party] = transfer->active[party] = true;
  }
  for (int party = 0; party < party_count; party++) {
    if (!transfer->involved[party]) continue;
    request_for(&request, transfer, party, operation_work, TMNOFLAGS);
    if (call(step_work + party, party, &request) != XA_OK) return false;
    if (transfer->shape != shape_one) continue;
    /* From one account to the next, in the same branch. */
    request.account = (request.account + 1) % account_count;
    request.amount = 5;
    if (call(step_count, party, &request) != XA_OK) return false;
    request.account = (request.account + 1) % account_count;
    request.amount = -5;
    if (call(step_count, party, &request) != XA_OK) return false;
  }
  for (int party = 0; party < party_count; party++) {
    if (!transfer->involved[party]) continue;
    bool fails = transfer->shape == shape_failing && party == 1;
    request_for(&request, transfer, party, operation_end, fails ? TMFAIL : TMSUCCESS);
    int code = call(step_end + party, party, &request);
    transfer->active[party] = false;
    if (fails && code != XA_RBROLLBACK && code != party_lost) fail("end", "a branch that has failed did not say so");
    if (code != XA_OK) return false;
  }
  if (transfer->shape == shape_one) return true;
  for (int party = 0; party < party_count; party++) {
    request_for(&request, transfer, party, operation_prepare, TMNOFLAGS);
    int code = call(step_prepare + party, party, &request);
    /* Of the readers the one holds what it has read, and the other does not. */
    if (transfer->amounts[party] == 0 && code == (party == 0 ? XA_OK : XA_RDONLY)) fail("prepare", "not a reader's vote");
    transfer->prepared[party] = code == XA_OK;
    transfer->over[party] = code == XA_RDONLY || code >= XA_RBBASE;
    if (code != XA_OK && code != XA_RDONLY) return false;
  }
  return true;
}

static void roll_back(struct transfer *transfer) {
  struct request request;
  struct reply reply;
  for (int party = 0; party < party_count; party++) {
    if (!transfer->started[party] || transfer->over[party]) continue;
    if (parties[party].socket < 0 && parties[party].connection == NULL) continue; /* resolved when it is back */
    if (transfer->active[party]) {
      request_for(&request, transfer, party, operation_end, TMFAIL);
      if (party_call(&parties[party], &request, &reply) == party_lost) continue;
    }
    request_for(&request, transfer, party, operation_rollback, TMNOFLAGS);
    int code = party_call(&parties[party], &request, &reply);
    if (code != XA_OK && code != party_lost) fail("rollback", reply.message);
  }
}

/* Writes the decision. From then on the transaction is committed, whatever happens. */
static void decide(const struct transfer *transfer) {
  if (planned(step_decide, moment_before)) kill_victim();
  if (!decision_log_write(&decisions, transfer->id)) fail("decide", "the log cannot be written");
  if (planned(step_decide, moment_during)) kill_victim();
  if (!decision_log_sync(&decisions)) fail("decide", "the log cannot be synced");
}

static void commit(struct transfer *transfer) {
  struct request request;
  for (int party = 0; party < party_count; party++) {
    if (!transfer->prepared[party]) continue;
    request_for(&request, transfer, party, operation_commit, TMNOFLAGS);
    int code = call(step_commit + party, party, &request);
    if (code != XA_OK && code != party_lost) fail("commit", "refused");
    if (code == party_lost) resolve(party); /* by the log: it commits what is still in doubt */
  }
}

static void acknowledge(const struct transfer *transfer) {
  struct tell words = {tell_acknowledged, transfer->kind, transfer->id, 0, 0};
  for (int party = 0; party < party_count; party++) {
    if (transfer->involved[party] && (transfer->amounts[party] != 0 || transfer->shape == shape_one)) {
      words.parties |= 1 << party;
    }
  }
  tell(&words);
}

static void run_transfer(struct transfer *transfer) {
  struct request request;
  struct reply reply;
  /* Whoever was lost before is waited for; what it had in doubt is decided. */
  for (int party = 0; party < party_count; party++) {
    if (parties[party].socket < 0 && parties[party].connection == NULL) resolve(party);
  }
  if (!work_and_prepare(transfer)) {
    roll_back(transfer);
    return;
  }
  if (transfer->shape == shape_one) {
    int party = transfer->involved[0] ? 0 : 1;
    request_for(&request, transfer, party, operation_commit, TMONEPHASE);
    if (call(step_count, party, &request) == XA_OK) acknowledge(transfer);
    return;
  }
  if (plan.checkpoints && armed) {
    for (int party = 0; party < postgres; party++) {
      if (parties[party].socket >= 0) (void)plain_call(party, operation_checkpoint, NULL, TMNOFLAGS, &reply);
    }
  }
  decide(transfer);
  acknowledge(transfer);
  commit(transfer);
  if (planned(step_done, moment_before)) kill_victim();
}

int main(int argc, char **argv) {
  char path[160];
  if (argc != 7) {
    fprintf(stderr, "coordinator FOLDER TRANSFERS VICTIM STEP MOMENT CHECKPOINTS\n");
    return EXIT_FAILURE;
  }
  int64_t transfers = strtoll(argv[2], NULL, 10);
  plan.victim = atoi(argv[3]);
  plan.step = atoi(argv[4]);
  plan.moment = atoi(argv[5]);
  plan.checkpoints = atoi(argv[6]) != 0;
  snprintf(path, sizeof(path), "%s/decisions", argv[1]);
  if (!decision_log_open(&decisions, path)) fail(path, "cannot be read or written");
  random_state = (uint32_t)decisions.epoch * 2654435761u + 1u;
  for (int party = 0; party < party_count; party++) {
    parties[party].number = party;
    parties[party].socket = -1;
    snprintf(parties[party].address, sizeof(parties[party].address), party == postgres ? "%s/postgres" : "%s/%s.socket", argv[1],
             party_names[party]);
    resolve(party);
  }
  /* The planned one has some of each shape before and behind it. */
  int64_t planned_at = transfers / 2;
  for (int64_t i = 0; i < transfers; i++) {
    struct transfer transfer;
    enum shape shape = i == planned_at ? shape_three : (enum shape)(i % shape_count);
    choose(&transfer, decisions.epoch * 1000 + i, shape);
    armed = i == planned_at && plan.victim != victim_none;
    run_transfer(&transfer);
    if (armed) fail("plan", "its step was not reached");
  }
  for (int party = 0; party < party_count; party++) {
    if (parties[party].socket < 0 && parties[party].connection == NULL) resolve(party);
  }
  return EXIT_SUCCESS;
}
