/* The process in front of one khonsu database: it has the database open through the XA switch and does what a
 * coordinator asks, one connection at a time. rm_server SOCKET INFORMATION */
#define _XOPEN_SOURCE 700

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../arrow_testing.h"
#include "wire.h"

enum { rmid = 1 };

static const char *const kind_prefixes[] = {"three/", "other/"};

/* The branch of this connection that is not prepared yet. When the coordinator goes away it is rolled back, as a server
 * does whose client is gone. */
static XID current;
static enum { branch_none, branch_active, branch_idle } current_state = branch_none;

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void give_up(const char *what) {
  fprintf(stderr, "rm_server: %s: %s\n", what, khonsu_xa_message());
  exit(EXIT_FAILURE);
}

/* ---- the application's work ---- */

/* KHONSU_STATUS_NOT_FOUND: there is none, and *value is as before. */
static khonsu_status get(khonsu_txn *txn, const char *key, int64_t *value) {
  struct ArrowArray array;
  khonsu_status status = khonsu_txn_get(txn, key, strlen(key), &array, NULL, NULL);
  if (status == KHONSU_STATUS_OK) *value = arrow_testing_int64_at(&array, 0, 0);
  arrow_testing_release_array(&array);
  return status;
}

static khonsu_status put(khonsu_txn *txn, const char *key, int64_t value) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  arrow_testing_int64_batch(&array, &schema, "value", &value, 1);
  return khonsu_txn_put(txn, key, strlen(key), &array, &schema, NULL);
}

static void account_key(char *key, size_t size, int32_t account) { snprintf(key, size, "account/%d", account); }

static void marker_key(char *key, size_t size, int32_t kind, int64_t transfer) {
  snprintf(key, size, "%s%020lld", kind_prefixes[kind], (long long)transfer);
}

static int work(const struct request *request) {
  char key[64];
  int64_t balance = 0;
  khonsu_txn *txn = NULL;
  int code = khonsu_xa_txn(rmid, &txn);
  if (code != XA_OK) return code;
  account_key(key, sizeof(key), request->account);
  if (get(txn, key, &balance) != KHONSU_STATUS_OK) return XAER_RMERR;
  if (request->amount == 0) return XA_OK;
  if (put(txn, key, balance + request->amount) != KHONSU_STATUS_OK) return XAER_RMERR;
  marker_key(key, sizeof(key), request->kind, request->transfer);
  return put(txn, key, request->amount) == KHONSU_STATUS_OK ? XA_OK : XAER_RMERR;
}

/* ---- what the tests look at, in transactions of their own ---- */

static int64_t number_in(const char *text, size_t len) {
  int64_t number = 0;
  for (size_t i = 0; i < len; i++) number = number * 10 + (text[i] - '0');
  return number;
}

/* Sums the values, or the ids in the keys, under a prefix. */
static int scan(const char *prefix, bool values, struct reply *reply) {
  const khonsu_db *db = NULL;
  khonsu_txn *txn = NULL;
  khonsu_cursor *cursor = NULL;
  int code = khonsu_xa_db(rmid, &db);
  if (code != XA_OK) return code;
  khonsu_status status = khonsu_db_begin(db, NULL, &txn, NULL);
  if (status == KHONSU_STATUS_OK) {
    status = khonsu_txn_scan_prefix(txn, prefix, strlen(prefix), KHONSU_DIRECTION_FORWARD, 0, &cursor, NULL);
  }
  while (status == KHONSU_STATUS_OK && (status = khonsu_cursor_next(cursor, NULL)) == KHONSU_STATUS_OK) {
    const void *key = NULL;
    size_t key_len = 0;
    struct ArrowArray array;
    status = khonsu_cursor_key(cursor, &key, &key_len, NULL);
    if (status == KHONSU_STATUS_OK) status = khonsu_cursor_get(cursor, &array, NULL, NULL);
    if (status != KHONSU_STATUS_OK) break;
    if (values) {
      reply->number += arrow_testing_int64_at(&array, 0, 0);
    } else {
      int64_t id = number_in((const char *)key + strlen(prefix), key_len - strlen(prefix));
      reply->number++;
      reply->checksum += id;
    }
    arrow_testing_release_array(&array);
  }
  khonsu_cursor_free(cursor);
  khonsu_txn_free(txn);
  return status == KHONSU_STATUS_NOT_FOUND ? XA_OK : XAER_RMERR;
}

static int has(const struct request *request, struct reply *reply) {
  const khonsu_db *db = NULL;
  khonsu_txn *txn = NULL;
  bool exists = false;
  char key[64];
  marker_key(key, sizeof(key), request->kind, request->transfer);
  int code = khonsu_xa_db(rmid, &db);
  if (code != XA_OK) return code;
  khonsu_status status = khonsu_db_begin(db, NULL, &txn, NULL);
  if (status == KHONSU_STATUS_OK) status = khonsu_txn_exists(txn, key, strlen(key), &exists, NULL);
  khonsu_txn_free(txn);
  reply->number = exists;
  return status == KHONSU_STATUS_OK ? XA_OK : XAER_RMERR;
}

/* A new database gets its money, in one commit. */
static void found(void) {
  const khonsu_db *db = NULL;
  khonsu_txn *txn = NULL;
  int64_t balance = 0;
  char key[64];
  if (khonsu_xa_db(rmid, &db) != XA_OK || khonsu_db_begin(db, NULL, &txn, NULL) != KHONSU_STATUS_OK) give_up("begin");
  account_key(key, sizeof(key), 0);
  if (get(txn, key, &balance) == KHONSU_STATUS_NOT_FOUND) {
    for (int32_t account = 0; account < account_count; account++) {
      account_key(key, sizeof(key), account);
      if (put(txn, key, initial_balance) != KHONSU_STATUS_OK) give_up("put");
    }
    if (khonsu_txn_commit(txn, NULL) != KHONSU_STATUS_OK) give_up("commit");
  }
  khonsu_txn_free(txn);
}

/* ---- requests ---- */

static void track(const struct request *request, int code) {
  switch (request->operation) {
    case operation_start:
      if (code == XA_OK) {
        current = request->xid;
        current_state = branch_active;
      }
      break;
    case operation_end: current_state = branch_idle; break;
    case operation_prepare:
    case operation_commit:
    case operation_rollback: current_state = branch_none; break;
    default: break;
  }
}

static int serve_request(struct request *request, struct reply *reply) {
  const struct xa_switch_t *xa = &khonsu_xa_switch;
  const khonsu_db *db = NULL;
  switch (request->operation) {
    case operation_start: return xa->xa_start_entry(&request->xid, rmid, request->flags);
    case operation_work: return work(request);
    case operation_end: return xa->xa_end_entry(&request->xid, rmid, request->flags);
    case operation_prepare: return xa->xa_prepare_entry(&request->xid, rmid, request->flags);
    case operation_commit: return xa->xa_commit_entry(&request->xid, rmid, request->flags);
    case operation_rollback: return xa->xa_rollback_entry(&request->xid, rmid, request->flags);
    case operation_forget: return xa->xa_forget_entry(&request->xid, rmid, request->flags);
    case operation_recover: return xa->xa_recover_entry(reply->xids, wire_xids, rmid, request->flags);
    case operation_checkpoint:
      if (khonsu_xa_db(rmid, &db) != XA_OK) return XAER_PROTO;
      return khonsu_db_checkpoint(db, NULL) == KHONSU_STATUS_OK ? XA_OK : XAER_RMERR;
    case operation_sum: return scan("account/", true, reply);
    case operation_markers: return scan(kind_prefixes[request->kind], false, reply);
    case operation_has: return has(request, reply);
    default: return XAER_INVAL;
  }
}

static void serve(int connection) {
  struct request request;
  while (wire_receive(connection, &request, sizeof(request))) {
    struct reply reply;
    memset(&reply, 0, sizeof(reply));
    if (request.death == death_before) die();
    reply.code = serve_request(&request, &reply);
    snprintf(reply.message, sizeof(reply.message), "%s", khonsu_xa_message());
    track(&request, reply.code);
    if (request.death == death_after) die();
    if (!wire_send(connection, &reply, sizeof(reply))) break;
  }
  if (current_state == branch_active) khonsu_xa_switch.xa_end_entry(&current, rmid, TMFAIL);
  if (current_state != branch_none) khonsu_xa_switch.xa_rollback_entry(&current, rmid, TMNOFLAGS);
  current_state = branch_none;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "rm_server SOCKET INFORMATION\n");
    return EXIT_FAILURE;
  }
  if (khonsu_xa_switch.xa_open_entry(argv[2], rmid, TMNOFLAGS) != XA_OK) give_up("xa_open");
  found();
  int listening = wire_listen(argv[1]);
  if (listening < 0) return EXIT_FAILURE;
  for (;;) {
    int connection = accept(listening, NULL, NULL);
    if (connection < 0) continue;
    serve(connection);
    close(connection);
  }
}
