/* The resource managers as the coordinator sees them: two processes with a khonsu database each, reached over a Unix
 * socket, and a PostgreSQL server, reached by libpq. All have the verbs of XA. */
#ifndef KHONSU_XA_PARTY_H
#define KHONSU_XA_PARTY_H

#include <libpq-fe.h>

#include "wire.h"

enum { party_count = 3, postgres = 2 };

extern const char *const party_names[party_count];

/* What is not an XA code: the connection is gone, and whether the call was done is unknown. */
enum { party_lost = -100 };

struct party {
  int number;
  char address[128]; /* the path of the socket; of PostgreSQL, the folder that it is in */
  int socket;        /* -1: not connected */
  PGconn *connection;
};

/* An XID as the names of its parts, for a number. */
XID party_xid(int64_t transaction, int party);

/* The number of an XID; -1: it is none of the coordinator's. */
int64_t party_transaction(const XID *xid);

/* Tries for as long as a restart may take. */
bool party_connect(struct party *party);
void party_disconnect(struct party *party);

/* One call, and its reply. On party_lost the party is disconnected. */
int party_call(struct party *party, const struct request *request, struct reply *reply);

/* The same in two: for what is to happen in between. */
bool party_send(struct party *party, const struct request *request);
int party_receive(struct party *party, const struct request *request, struct reply *reply);

#endif
