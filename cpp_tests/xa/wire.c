#define _XOPEN_SOURCE 700

#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int make_socket(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(address->sun_path)) return -1;
  memcpy(address->sun_path, path, strlen(path));
  return socket(AF_UNIX, SOCK_STREAM, 0);
}

int wire_connect(const char *path) {
  struct sockaddr_un address;
  int connected = make_socket(path, &address);
  if (connected >= 0 && connect(connected, (struct sockaddr *)&address, sizeof(address)) != 0) {
    close(connected);
    return -1;
  }
  return connected;
}

int wire_listen(const char *path) {
  struct sockaddr_un address;
  int listening = make_socket(path, &address);
  unlink(path);
  if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listening, 8) != 0) {
    perror(path);
    return -1;
  }
  return listening;
}

bool wire_send(int socket, const void *bytes, size_t size) {
  const char *at = (const char *)bytes;
  while (size > 0) {
    ssize_t sent = send(socket, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    size -= (size_t)sent;
  }
  return true;
}

bool wire_receive(int socket, void *bytes, size_t size) {
  char *at = (char *)bytes;
  while (size > 0) {
    ssize_t received = recv(socket, at, size, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return false;
    at += received;
    size -= (size_t)received;
  }
  return true;
}
