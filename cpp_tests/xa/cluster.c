#define _XOPEN_SOURCE 700

#include "cluster.h"

#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"

/* Where the server's programs are: KHONSU_POSTGRES, or Debian's place for them, the newest. */
static bool find_programs(struct cluster *cluster) {
  char path[300];
  const char *given = getenv("KHONSU_POSTGRES");
  glob_t found;
  if (given != NULL) {
    snprintf(cluster->programs, sizeof(cluster->programs), "%s", given);
  } else if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0) {
    snprintf(cluster->programs, sizeof(cluster->programs), "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
  }
  snprintf(path, sizeof(path), "%s/initdb", cluster->programs);
  if (access(path, X_OK) == 0) return true;
  fprintf(stderr,
          "PostgreSQL's server is not installed: no %s (apt-get install postgresql, or set KHONSU_POSTGRES to the folder "
          "of its programs)\n",
          path);
  return false;
}

/* The server refuses to run as root. */
static bool choose_user(struct cluster *cluster) {
  cluster->user = NULL;
  if (geteuid() != 0) return true;
  const struct passwd *entry = getpwnam("postgres");
  if (entry == NULL) entry = getpwnam("nobody");
  if (entry == NULL) {
    fprintf(stderr, "PostgreSQL does not run as root, and there is no user postgres or nobody\n");
    return false;
  }
  cluster->user = strcmp(entry->pw_name, "postgres") == 0 ? "postgres" : "nobody";
  return chown(cluster->folder, entry->pw_uid, entry->pw_gid) == 0;
}

void cluster_print_log(const struct cluster *cluster) {
  char command[300];
  snprintf(command, sizeof(command), "tail -n 30 '%s/log' >&2", cluster->folder);
  if (system(command) != 0) fprintf(stderr, "no log of PostgreSQL\n");
}

bool cluster_create(struct cluster *cluster, const char *folder) {
  char initdb[300], data[160], log[160];
  int status = -1;
  memset(cluster, 0, sizeof(*cluster));
  snprintf(cluster->folder, sizeof(cluster->folder), "%s/postgres", folder);
  snprintf(data, sizeof(data), "%s/data", cluster->folder);
  snprintf(log, sizeof(log), "%s/log", cluster->folder);
  /* The server's user has to come through to its own folder. */
  if (mkdir(cluster->folder, 0700) != 0 || chmod(folder, 0711) != 0 || !find_programs(cluster) || !choose_user(cluster)) {
    fprintf(stderr, "no folder or no programs for PostgreSQL\n");
    return false;
  }
  snprintf(initdb, sizeof(initdb), "%s/initdb", cluster->programs);
  const char *const arguments[] = {initdb,       "--pgdata",  data,         "--auth=trust", "--username=khonsu",
                                   "--no-sync", "--no-locale", "--encoding=UTF8", NULL};
  pid_t process = process_start(arguments, -1, -1, log, cluster->user);
  if (!process_wait(process, 120, &status) || status != 0) {
    fprintf(stderr, "initdb failed:\n");
    cluster_print_log(cluster);
    return false;
  }
  return cluster_start(cluster);
}

bool cluster_start(struct cluster *cluster) {
  char server[300], data[160], log[160];
  snprintf(server, sizeof(server), "%s/postgres", cluster->programs);
  snprintf(data, sizeof(data), "%s/data", cluster->folder);
  snprintf(log, sizeof(log), "%s/log", cluster->folder);
  /* fsync=off: processes are killed here, not machines; what the operating system has stays. */
  const char *const arguments[] = {server, "-D", data, "-k", cluster->folder, "-c", "listen_addresses=", "-c",
                                   "max_prepared_transactions=20", "-c", "max_connections=20", "-c", "fsync=off", "-c",
                                   "shared_buffers=16MB", "-c", "autovacuum=off", "-c", "max_wal_senders=0", NULL};
  cluster->server = process_start(arguments, -1, -1, log, cluster->user);
  return cluster->server > 0;
}
