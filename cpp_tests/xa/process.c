#define _GNU_SOURCE

#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void process_adopt_orphans(void) { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

static void pause_a_little(void) {
  struct timespec pause = {0, 1000 * 1000};
  nanosleep(&pause, NULL);
}

static void become(const char *user) {
  const struct passwd *entry = getpwnam(user);
  if (entry == NULL || initgroups(user, entry->pw_gid) != 0 || setgid(entry->pw_gid) != 0 || setuid(entry->pw_uid) != 0) {
    fprintf(stderr, "cannot become %s: %s\n", user, strerror(errno));
    _exit(126);
  }
}

pid_t process_start(const char *const *arguments, int in, int out, const char *log, const char *user) {
  pid_t parent = getpid();
  fflush(NULL);
  pid_t child = fork();
  if (child != 0) return child;
  if (user != NULL) become(user);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after the change of the user, which takes it back */
  if (getppid() != parent) _exit(126);
  if (log != NULL) {
    int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file >= 0) {
      dup2(file, STDOUT_FILENO);
      dup2(file, STDERR_FILENO);
    }
  }
  if (in >= 0) dup2(in, STDIN_FILENO);
  if (out >= 0) dup2(out, STDOUT_FILENO);
  for (int file = 3; file < 256; file++) close(file);
  execv(arguments[0], (char *const *)arguments);
  fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
  _exit(127);
}

/* The children of a process, as /proc has them. */
static int children_of(pid_t process, pid_t *children, int capacity) {
  int count = 0;
  DIR *folder = opendir("/proc");
  const struct dirent *entry = NULL;
  while (folder != NULL && (entry = readdir(folder)) != NULL && count < capacity) {
    char path[300], text[512];
    pid_t candidate = (pid_t)strtol(entry->d_name, NULL, 10);
    if (candidate <= 0) continue;
    snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[size] = '\0';
    const char *behind = strrchr(text, ')'); /* the name may have anything in it */
    int parent = 0;
    if (behind != NULL && sscanf(behind, ") %*c %d", &parent) == 1 && parent == process) children[count++] = candidate;
  }
  if (folder != NULL) closedir(folder);
  return count;
}

static bool is_gone(pid_t process) {
  int status = 0;
  (void)waitpid(process, &status, WNOHANG);
  return kill(process, 0) != 0 && errno == ESRCH;
}

void process_kill(pid_t process) {
  enum { capacity = 256 };
  pid_t children[capacity];
  kill(process, SIGSTOP); /* no more of them */
  int count = children_of(process, children, capacity);
  kill(process, SIGKILL);
  for (int i = 0; i < count; i++) kill(children[i], SIGKILL);
  while (!is_gone(process)) pause_a_little();
  for (int i = 0; i < count; i++) {
    while (!is_gone(children[i])) pause_a_little();
  }
}

bool process_ended(pid_t process, int *status) { return waitpid(process, status, WNOHANG) == process; }

bool process_wait(pid_t process, int seconds, int *status) {
  for (int milliseconds = 0; milliseconds < seconds * 1000; milliseconds++) {
    if (process_ended(process, status)) return true;
    pause_a_little();
  }
  process_kill(process);
  return false;
}
