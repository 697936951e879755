/* What the coordinator says to the processes in front of the khonsu databases, and hears from them: structs over a Unix
 * socket, one reply to each request. All ends are built from this file. */
#ifndef KHONSU_XA_WIRE_H
#define KHONSU_XA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "khonsu_xa.h"

enum operation {
  operation_start,
  operation_work,
  operation_end,
  operation_prepare,
  operation_commit,
  operation_rollback,
  operation_recover,
  operation_forget,
  operation_checkpoint,
  operation_sum,     /* of all accounts: in number */
  operation_markers, /* how many transfers of a kind are there, in number, and a sum over their ids in checksum */
  operation_has      /* whether a transfer is there: in number */
};

enum death { death_none, death_before, death_after };

/* The kinds of transfers, by which their markers are filed. */
enum kind { kind_three, kind_other };

struct request {
  int32_t operation;
  int32_t death; /* the process kills itself before or after it does it */
  long flags;
  XID xid;
  int32_t kind;
  int32_t account;
  int64_t amount; /* 0: the account is only read */
  int64_t transfer;
};

enum { wire_xids = 32 };

struct reply {
  int32_t code;
  int32_t reserved;
  int64_t number;
  int64_t checksum;
  XID xids[wire_xids];
  char message[256];
};

enum { account_count = 4, initial_balance = 1000 };

/* -1 where nobody listens there. */
int wire_connect(const char *path);
int wire_listen(const char *path);

/* False: the other end is gone. */
bool wire_send(int socket, const void *bytes, size_t size);
bool wire_receive(int socket, void *bytes, size_t size);

#endif
