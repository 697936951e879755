/* Child processes that end with this one. */
#ifndef KHONSU_XA_PROCESS_H
#define KHONSU_XA_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Children of children that lose their parent become this process's, so that it sees them end. */
void process_adopt_orphans(void);

/* Starts a program. in, out: descriptors for its standard input and output, -1: as here. log: a file for its standard
 * output and error, NULL: as here. user: whom it runs as, NULL: the same. It is killed when this process ends. */
pid_t process_start(const char *const *arguments, int in, int out, const char *log, const char *user);

/* Kills a process with its children, and waits until all of them are gone. */
void process_kill(pid_t process);

/* Whether it has ended, with *status as waitpid has it. Waits for no longer than that takes. */
bool process_ended(pid_t process, int *status);

/* Waits for its end; false after the time, in which case it is killed. */
bool process_wait(pid_t process, int seconds, int *status);

#endif
