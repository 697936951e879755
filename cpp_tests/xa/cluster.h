/* A PostgreSQL server for the test alone: in a folder of its own, on a Unix socket there, run by a user that is not
 * root. */
#ifndef KHONSU_XA_CLUSTER_H
#define KHONSU_XA_CLUSTER_H

#include <stdbool.h>
#include <sys/types.h>

struct cluster {
  char folder[128]; /* the socket is in it */
  char programs[256];
  const char *user; /* NULL: the user of this process */
  pid_t server;     /* 0: it does not run */
};

/* Makes the cluster and starts its server. Prints why where it cannot. */
bool cluster_create(struct cluster *cluster, const char *folder);

/* Starts the server; who connects waits until it is there. */
bool cluster_start(struct cluster *cluster);

/* Prints the end of the server's log. */
void cluster_print_log(const struct cluster *cluster);

#endif
