/* Distributed transactions under kill -9: a coordinator transfers money between two khonsu databases, each in a process
 * of its own, and a PostgreSQL server. Each of the four is killed at each step, and comes back. Then the sum of the money
 * is what it was, nobody has anything in doubt, everybody has the same transfers, and those that were acknowledged are
 * among them.
 *
 * crash_test PROGRAMS                       every victim at every step, once
 * crash_test PROGRAMS ROUNDS SECONDS SEED   random ones, at most so many and so long
 * PROGRAMS is the folder of rm_server and coordinator. */
#define _XOPEN_SOURCE 700

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster.h"
#include "party.h"
#include "plan.h"
#include "process.h"

enum { transfers_of_a_round = 5, round_seconds = 60 };

static char folder[96];
static char coordinator_program[300], rm_server_program[300];
static struct cluster cluster;
static pid_t servers[2];

/* Acknowledged since the last check. */
static struct tell acknowledged[4096];
static int acknowledged_count = 0;
static long all_acknowledged = 0, kills = 0, rounds_done = 0;

static const char *const victim_names[] = {"a", "b", "postgres", "coordinator"};
static const char *const moment_names[] = {"before", "during", "after"};

static void clean_up(void) {
  for (int i = 0; i < 2; i++) {
    if (servers[i] > 0) process_kill(servers[i]);
  }
  if (cluster.server > 0) process_kill(cluster.server);
}

static void remove_folder(void) {
  char command[160];
  snprintf(command, sizeof(command), "rm -rf '%s'", folder);
  if (system(command) != 0) fprintf(stderr, "%s stays\n", folder);
}

static void fail(const char *what) {
  fprintf(stderr, "FAILED: %s (the files are in %s)\n", what, folder);
  if (cluster.server > 0) cluster_print_log(&cluster);
  clean_up();
  exit(EXIT_FAILURE);
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- processes ---- */

static void start_server(int party) {
  char socket_path[160], information[160];
  snprintf(socket_path, sizeof(socket_path), "%s/%s.socket", folder, party_names[party]);
  /* Of one the readers vote read-only, of the other they hold what they have read. */
  snprintf(information, sizeof(information), "path=%s/%s.khonsu,hold_reads=%d", folder, party_names[party], party);
  const char *const arguments[] = {rm_server_program, socket_path, information, NULL};
  servers[party] = process_start(arguments, -1, -1, NULL, NULL);
  if (servers[party] <= 0) fail("fork");
}

static void kill_and_restart(int party) {
  kills++;
  if (party == postgres) {
    process_kill(cluster.server);
    if (!cluster_start(&cluster)) fail("PostgreSQL does not start again");
  } else {
    process_kill(servers[party]);
    start_server(party);
  }
}

/* Servers that have killed themselves come back; nothing else ends of itself. */
static void look_after_servers(const struct plan *plan) {
  int status = 0;
  for (int party = 0; party < 2; party++) {
    if (!process_ended(servers[party], &status)) continue;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL || plan == NULL || plan->victim != party) {
      fail("a resource manager has ended of itself");
    }
    kills++;
    start_server(party);
  }
  if (process_ended(cluster.server, &status)) {
    /* Right after a kill the new one may find the shared memory of the old one in use still. */
    if (!cluster_start(&cluster)) fail("PostgreSQL does not start again");
    struct timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
  }
}

/* ---- the coordinator ---- */

static pid_t start_coordinator(const struct plan *plan, int transfers, int *channel) {
  int ends[2];
  char numbers[5][16];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
  snprintf(numbers[0], sizeof(numbers[0]), "%d", transfers);
  snprintf(numbers[1], sizeof(numbers[1]), "%d", plan == NULL ? victim_none : plan->victim);
  snprintf(numbers[2], sizeof(numbers[2]), "%d", plan == NULL ? 0 : plan->step);
  snprintf(numbers[3], sizeof(numbers[3]), "%d", plan == NULL ? 0 : plan->moment);
  snprintf(numbers[4], sizeof(numbers[4]), "%d", plan != NULL && plan->checkpoints);
  const char *const arguments[] = {coordinator_program, folder, numbers[0], numbers[1], numbers[2], numbers[3],
                                   numbers[4], NULL};
  pid_t coordinator = process_start(arguments, ends[1], ends[1], NULL, NULL);
  close(ends[1]);
  if (coordinator <= 0) fail("fork");
  *channel = ends[0];
  return coordinator;
}

/* Serves a coordinator until it ends. True: it was killed, as planned. */
static bool run_coordinator(const struct plan *plan, int transfers) {
  int channel = -1, status = 0;
  pid_t coordinator = start_coordinator(plan, transfers, &channel);
  double deadline = seconds_now() + round_seconds;
  bool open = true;
  for (;;) {
    struct pollfd waiting = {channel, POLLIN, 0};
    struct tell words;
    if (open && poll(&waiting, 1, 5) > 0) {
      if (!wire_receive(channel, &words, sizeof(words))) {
        open = false;
      } else if (words.what == tell_kill) {
        kill_and_restart(words.number);
        open = wire_send(channel, "", 1);
      } else if (acknowledged_count < (int)(sizeof(acknowledged) / sizeof(acknowledged[0]))) {
        acknowledged[acknowledged_count++] = words;
        all_acknowledged++;
      }
      continue;
    }
    look_after_servers(plan);
    if (!open && process_ended(coordinator, &status)) break;
    if (seconds_now() > deadline) {
      process_kill(coordinator);
      fail("the coordinator does not come to an end");
    }
  }
  close(channel);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
  if (plan == NULL || plan->victim != victim_coordinator || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    fail("the coordinator has failed");
  }
  kills++;
  return true;
}

/* ---- what must hold ---- */

static void ask(struct party *party, struct request *request, struct reply *reply) {
  int code = party_call(party, request, reply);
  if (code < 0) {
    fprintf(stderr, "%s: code %d: %s\n", party_names[party->number], code, reply->message);
    fail("a question was not answered");
  }
  reply->code = code;
}

static void check(void) {
  struct party parties[party_count];
  struct reply markers[party_count];
  int64_t total = 0;
  for (int number = 0; number < party_count; number++) {
    struct party *party = &parties[number];
    struct request request;
    struct reply reply;
    memset(party, 0, sizeof(*party));
    party->number = number;
    party->socket = -1;
    snprintf(party->address, sizeof(party->address), number == postgres ? "%s/postgres" : "%s/%s.socket", folder,
             party_names[number]);
    if (!party_connect(party)) fail("a party does not come back");
    memset(&request, 0, sizeof(request));
    request.operation = operation_recover;
    request.flags = TMSTARTRSCAN | TMENDRSCAN;
    ask(party, &request, &reply);
    if (reply.code != 0) fail("something is in doubt");
    request.operation = operation_sum;
    ask(party, &request, &reply);
    total += reply.number;
    request.operation = operation_markers;
    request.kind = kind_three;
    ask(party, &request, &markers[number]);
    for (int i = 0; i < acknowledged_count; i++) {
      if ((acknowledged[i].parties >> number & 1) == 0) continue;
      request.operation = operation_has;
      request.kind = acknowledged[i].number;
      request.transfer = acknowledged[i].transfer;
      ask(party, &request, &reply);
      if (reply.number != 1) fail("an acknowledged transfer is missing");
    }
    party_disconnect(party);
  }
  if (total != (int64_t)party_count * account_count * initial_balance) {
    fprintf(stderr, "%lld in place of %d\n", (long long)total, party_count * account_count * initial_balance);
    fail("money was made or lost");
  }
  for (int number = 1; number < party_count; number++) {
    if (markers[number].number != markers[0].number || markers[number].checksum != markers[0].checksum) {
      fprintf(stderr, "%s has %lld transfers with a sum of %lld, %s %lld with %lld\n", party_names[0],
              (long long)markers[0].number, (long long)markers[0].checksum, party_names[number],
              (long long)markers[number].number, (long long)markers[number].checksum);
      fail("a transfer is there in one party and not in another");
    }
  }
  acknowledged_count = 0;
}

/* ---- rounds ---- */

static void run_round(const struct plan *plan, const struct plan *second) {
  long before = kills;
  printf("%s %s step %d%s%s\n", victim_names[plan->victim], moment_names[plan->moment], plan->step,
         plan->checkpoints ? ", with checkpoints" : "", second != NULL ? ", twice" : "");
  if (run_coordinator(plan, transfers_of_a_round)) {
    /* The next one finds what was left; it may be killed, too. */
    if (second != NULL && run_coordinator(second, transfers_of_a_round)) (void)run_coordinator(NULL, 1);
    if (second == NULL) (void)run_coordinator(NULL, 1);
  }
  if (kills == before) fail("nobody was killed");
  check();
  rounds_done++;
}

static void run_all(void) {
  bool checkpoints = false;
  for (int step = 0; step < step_count; step++) {
    for (int moment = 0; moment < moment_count; moment++) {
      for (int victim = 0; victim <= victim_coordinator; victim++) {
        struct plan plan = {victim, step, moment, checkpoints};
        if (!plan_is_sensible(&plan)) continue;
        run_round(&plan, NULL);
        checkpoints = !checkpoints;
      }
    }
  }
}

static uint64_t random_state = 0;

static int below(int bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (int)((random_state >> 33) % (uint64_t)bound);
}

static struct plan random_plan(void) {
  struct plan plan;
  do {
    plan.victim = below(victim_coordinator + 1);
    plan.step = below(step_count);
    plan.moment = below(moment_count);
    plan.checkpoints = below(2) == 1;
  } while (!plan_is_sensible(&plan));
  return plan;
}

static void run_random(long rounds, double seconds) {
  double end = seconds_now() + seconds;
  for (long round = 0; round < rounds && seconds_now() < end; round++) {
    struct plan first = random_plan(), second = random_plan();
    bool twice = below(2) == 1;
    run_round(&first, twice ? &second : NULL);
  }
}

static void found_postgres(void) {
  struct party party;
  memset(&party, 0, sizeof(party));
  party.number = postgres;
  party.socket = -1;
  snprintf(party.address, sizeof(party.address), "%s", cluster.folder);
  if (!party_connect(&party)) fail("PostgreSQL cannot be reached");
  PGresult *result = PQexec(party.connection,
                            "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);"
                            "INSERT INTO accounts SELECT id, 1000 FROM generate_series(0, 3) AS id;"
                            "CREATE TABLE transfers (kind int, id bigint, PRIMARY KEY (kind, id))");
  if (PQresultStatus(result) != PGRES_COMMAND_OK) {
    fprintf(stderr, "%s\n", PQerrorMessage(party.connection));
    fail("PostgreSQL cannot be set up");
  }
  PQclear(result);
  party_disconnect(&party);
}

int main(int argc, char **argv) {
  if (argc != 2 && argc != 5) {
    fprintf(stderr, "crash_test PROGRAMS [ROUNDS SECONDS SEED]\n");
    return EXIT_FAILURE;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *temporary = getenv("TMPDIR");
  snprintf(folder, sizeof(folder), "%s/khonsu-xa-XXXXXX", temporary == NULL ? "/tmp" : temporary);
  if (mkdtemp(folder) == NULL) {
    perror(folder);
    return EXIT_FAILURE;
  }
  snprintf(coordinator_program, sizeof(coordinator_program), "%s/xa_coordinator", argv[1]);
  snprintf(rm_server_program, sizeof(rm_server_program), "%s/xa_rm_server", argv[1]);
  process_adopt_orphans();
  double began = seconds_now();
  if (!cluster_create(&cluster, folder)) fail("PostgreSQL cannot be started");
  for (int party = 0; party < 2; party++) start_server(party);
  found_postgres();
  printf("set up in %.1f s\n", seconds_now() - began);
  check();
  if (argc == 2) {
    run_all();
  } else {
    random_state = strtoull(argv[4], NULL, 10);
    printf("seed %s\n", argv[4]);
    run_random(strtol(argv[2], NULL, 10), strtod(argv[3], NULL));
  }
  clean_up();
  remove_folder();
  printf("%ld rounds, %ld kills, %ld transfers acknowledged, in %.1f s\n", rounds_done, kills, all_acknowledged,
         seconds_now() - began);
  return EXIT_SUCCESS;
}
