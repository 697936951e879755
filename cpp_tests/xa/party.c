#define _XOPEN_SOURCE 700

#include "party.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const party_names[party_count] = {"a", "b", "postgres"};

enum { format = 0x6b78 };

XID party_xid(int64_t transaction, int party) {
  XID xid;
  memset(&xid, 0, sizeof(xid));
  xid.formatID = format;
  xid.gtrid_length = snprintf(xid.data, MAXGTRIDSIZE, "%020lld", (long long)transaction);
  xid.data[xid.gtrid_length] = (char)('0' + party);
  xid.bqual_length = 1;
  return xid;
}

int64_t party_transaction(const XID *xid) {
  if (xid->formatID != format || xid->gtrid_length != 20) return -1;
  char text[21];
  memcpy(text, xid->data, 20);
  text[20] = '\0';
  return strtoll(text, NULL, 10);
}

/* ---- connections ---- */

void party_disconnect(struct party *party) {
  if (party->socket >= 0) close(party->socket);
  party->socket = -1;
  if (party->connection != NULL) PQfinish(party->connection);
  party->connection = NULL;
}

/* Ends the sessions of a coordinator before this one, and waits until they are gone: a PREPARE that is on its way there
 * would come to light after the recovery. False: not yet. */
static bool fence(PGconn *connection) {
  PGresult *result = PQexec(connection,
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE usename = 'khonsu' AND backend_type = 'client backend' AND pid <> pg_backend_pid()");
  bool alone = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0;
  PQclear(result);
  return alone;
}

bool party_connect(struct party *party) {
  struct timespec pause = {0, 5 * 1000 * 1000};
  for (int attempt = 0; attempt < 6000; attempt++) {
    if (party->number != postgres) {
      party->socket = wire_connect(party->address);
      if (party->socket >= 0) return true;
    } else {
      const char *const keywords[] = {"host", "user", "dbname", NULL};
      const char *const values[] = {party->address, "khonsu", "postgres", NULL};
      party->connection = PQconnectdbParams(keywords, values, 0);
      if (PQstatus(party->connection) == CONNECTION_OK && fence(party->connection)) return true;
      party_disconnect(party);
    }
    nanosleep(&pause, NULL);
  }
  fprintf(stderr, "coordinator: %s does not come back\n", party_names[party->number]);
  return false;
}

/* ---- PostgreSQL ---- */

/* The name of a branch there: the data of its XID, which are digits. */
static const char *gid_of(const XID *xid) {
  static char gid[XIDDATASIZE + 1];
  snprintf(gid, sizeof(gid), "%.*s", (int)(xid->gtrid_length + xid->bqual_length), xid->data);
  return gid;
}

static void text_of(const struct request *request, char *sql, size_t size) {
  const char *gid = gid_of(&request->xid);
  sql[0] = '\0';
  switch (request->operation) {
    case operation_start: snprintf(sql, size, "BEGIN ISOLATION LEVEL SERIALIZABLE"); break;
    case operation_work:
      if (request->amount == 0) {
        snprintf(sql, size, "SELECT balance FROM accounts WHERE id = %d", request->account);
      } else {
        snprintf(sql, size,
                 "UPDATE accounts SET balance = balance + %lld WHERE id = %d; "
                 "INSERT INTO transfers VALUES (%d, %lld)",
                 (long long)request->amount, request->account, request->kind, (long long)request->transfer);
      }
      break;
    case operation_end:
    case operation_checkpoint: snprintf(sql, size, "SELECT 1"); break;
    case operation_prepare: snprintf(sql, size, "PREPARE TRANSACTION '%s'", gid); break;
    case operation_commit:
      if ((request->flags & TMONEPHASE) != 0) {
        snprintf(sql, size, "COMMIT");
      } else {
        snprintf(sql, size, "COMMIT PREPARED '%s'", gid);
      }
      break;
    case operation_rollback: snprintf(sql, size, "ROLLBACK PREPARED '%s'", gid); break;
    case operation_recover: snprintf(sql, size, "SELECT gid FROM pg_prepared_xacts ORDER BY gid"); break;
    case operation_sum: snprintf(sql, size, "SELECT sum(balance) FROM accounts"); break;
    case operation_markers:
      snprintf(sql, size, "SELECT count(*), coalesce(sum(id), 0) FROM transfers WHERE kind = %d", request->kind);
      break;
    case operation_has:
      snprintf(sql, size, "SELECT count(*) FROM transfers WHERE kind = %d AND id = %lld", request->kind,
               (long long)request->transfer);
      break;
    default: break;
  }
}

/* A rollback before the prepare is one of the session's transaction. */
static bool is_in_transaction(const struct party *party) {
  return PQtransactionStatus(party->connection) != PQTRANS_IDLE;
}

static bool send_sql(struct party *party, const struct request *request) {
  char sql[512];
  text_of(request, sql, sizeof(sql));
  bool session = request->operation == operation_rollback && is_in_transaction(party);
  return PQsendQuery(party->connection, session ? "ROLLBACK" : sql) == 1;
}

static void read_rows(const struct request *request, const PGresult *result, struct reply *reply) {
  if (request->operation == operation_recover) {
    int rows = PQntuples(result);
    for (int row = 0; row < rows && row < wire_xids; row++) {
      const char *gid = PQgetvalue(result, row, 0);
      size_t len = strlen(gid);
      XID *xid = &reply->xids[reply->code];
      if (len != 21) continue; /* none of the coordinator's */
      *xid = party_xid(0, 0);
      memcpy(xid->data, gid, len);
      reply->code++;
    }
  } else if (PQntuples(result) == 1) {
    reply->number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    if (PQnfields(result) > 1) reply->checksum = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
  }
}

static int failure_code(const struct request *request, const PGresult *result) {
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (state != NULL && strcmp(state, "42704") == 0) return XAER_NOTA; /* there is no such prepared transaction */
  return request->operation == operation_prepare ? XA_RBROLLBACK : XAER_RMERR;
}

static int receive_sql(struct party *party, const struct request *request, struct reply *reply) {
  PGresult *result = NULL;
  bool any = false;
  while ((result = PQgetResult(party->connection)) != NULL) {
    ExecStatusType status = PQresultStatus(result);
    any = true;
    if (status == PGRES_TUPLES_OK) {
      read_rows(request, result, reply);
    } else if (status != PGRES_COMMAND_OK) {
      reply->code = failure_code(request, result);
      snprintf(reply->message, sizeof(reply->message), "%s", PQresultErrorMessage(result));
    } else if (request->operation == operation_prepare && strcmp(PQcmdStatus(result), "PREPARE TRANSACTION") != 0) {
      reply->code = XA_RBROLLBACK; /* what PREPARE TRANSACTION does with one that has failed */
    }
    PQclear(result);
  }
  return any && PQstatus(party->connection) == CONNECTION_OK ? reply->code : party_lost;
}

/* ---- calls ---- */

bool party_send(struct party *party, const struct request *request) {
  return party->number == postgres ? send_sql(party, request) : wire_send(party->socket, request, sizeof(*request));
}

int party_receive(struct party *party, const struct request *request, struct reply *reply) {
  int code = party_lost;
  memset(reply, 0, sizeof(*reply));
  if (party->number == postgres) {
    code = receive_sql(party, request, reply);
  } else if (wire_receive(party->socket, reply, sizeof(*reply))) {
    code = reply->code;
  }
  if (code == party_lost) party_disconnect(party);
  return code;
}

int party_call(struct party *party, const struct request *request, struct reply *reply) {
  if (!party_send(party, request)) {
    memset(reply, 0, sizeof(*reply));
    party_disconnect(party);
    return party_lost;
  }
  return party_receive(party, request, reply);
}
