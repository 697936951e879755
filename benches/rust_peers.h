/* What benches/rust exports and the harness loads: peers that are Rust crates, as tables of functions. Keys are arrays of
 * 16 bytes each; what is counted are attempts that were aborted. */
#ifndef KHONSU_BENCHES_RUST_PEERS_H
#define KHONSU_BENCHES_RUST_PEERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct rust_peer rust_peer;
typedef struct rust_session rust_session;

typedef struct rust_maker {
  const char *name;
  const char *description;
  int32_t can_scan;
  int32_t transactional;
  rust_peer *(*open)(void);
  void (*close)(rust_peer *);
  void (*settle)(const rust_peer *);
  rust_session *(*session)(const rust_peer *);
  void (*end_session)(rust_session *);
  uint64_t (*read)(rust_session *, const void *keys, size_t count);
  uint64_t (*scan)(rust_session *, const void *start);
  uint64_t (*put)(rust_session *, const void *keys, size_t count);
  uint64_t (*remove)(rust_session *, const void *keys, size_t count);
  uint64_t (*increment)(rust_session *, const void *keys, size_t count);
  uint64_t (*mixed)(rust_session *, const void *keys, const unsigned char *writes);
  uint64_t (*empty)(rust_session *, int32_t read_only);
  void (*load)(rust_session *, uint64_t first, uint64_t count);
  int64_t (*sum_counters)(rust_session *, uint64_t first, uint64_t count);
} rust_maker;

/* All of them, for ever. */
typedef const rust_maker *rust_makers_function(size_t *count);

#endif
