/* What the C tests share: checks that count and go on, int64 batches as text, and "shields", which let a test damage
 * an Arrow struct in any way and still release it properly. Include this first: it asks for POSIX. */
#ifndef KHONSU_C_TESTING_H
#define KHONSU_C_TESTING_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "khonsu.h"

#include "../arrow_testing.h"

/* ---- checks ---- */

static int64_t testing_checks = 0;
static int64_t testing_failures = 0;
static const char *testing_name = "";

static inline bool testing_check(bool passed, const char *file, int line, const char *expression) {
  __atomic_fetch_add(&testing_checks, 1, __ATOMIC_SEQ_CST);
  if (!passed) {
    __atomic_fetch_add(&testing_failures, 1, __ATOMIC_SEQ_CST);
    fprintf(stderr, "%s:%d: %s: failed: %s\n", file, line, testing_name, expression);
  }
  return passed;
}

/* The status is the expected one, and the error object is there exactly when the status is an error. */
static inline bool testing_check_status(khonsu_status expected, khonsu_status status, const khonsu_error *error,
                                        const char *file, int line, const char *expression) {
  bool fails = status != KHONSU_STATUS_OK && status != KHONSU_STATUS_NOT_FOUND;
  bool consistent = fails ? error != NULL && khonsu_error_status(error) == status &&
                                khonsu_error_message(error)[0] != '\0'
                          : error == NULL;
  bool passed = status == expected && consistent;
  __atomic_fetch_add(&testing_checks, 1, __ATOMIC_SEQ_CST);
  if (!passed) {
    __atomic_fetch_add(&testing_failures, 1, __ATOMIC_SEQ_CST);
    fprintf(stderr, "%s:%d: %s: expected %s, got %s (error object: %s \"%s\"): %s\n", file, line, testing_name,
            khonsu_status_name(expected), khonsu_status_name(status),
            error == NULL ? "none" : khonsu_status_name(khonsu_error_status(error)), khonsu_error_message(error),
            expression);
  }
  return passed;
}

static inline bool testing_check_text(const char *expected, const char *actual, const char *file, int line,
                                      const char *expression) {
  bool passed = strcmp(expected, actual) == 0;
  __atomic_fetch_add(&testing_checks, 1, __ATOMIC_SEQ_CST);
  if (!passed) {
    __atomic_fetch_add(&testing_failures, 1, __ATOMIC_SEQ_CST);
    fprintf(stderr, "%s:%d: %s: expected \"%s\", got \"%s\": %s\n", file, line, testing_name, expected, actual,
            expression);
  }
  return passed;
}

#define CHECK(condition) testing_check((condition), __FILE__, __LINE__, #condition)
#define CHECK_TEXT(expected, actual) testing_check_text((expected), (actual), __FILE__, __LINE__, #actual)

/* A stale pointer: what the library must overwrite on every call. It is never followed. */
#define STALE_ERROR ((khonsu_error *)(uintptr_t)0x10)

/* EXPECT(status, call) with a variable `error` in scope that the call takes as &error; frees the error object.
 * EXPECT_KEEP leaves the error object to be looked at and freed by DROP_ERROR(). */
#define EXPECT_KEEP(expected, call)                                                                                    \
  do {                                                                                                                 \
    error = STALE_ERROR;                                                                                               \
    khonsu_status testing_status = (call);                                                                             \
    testing_check_status((expected), testing_status, error, __FILE__, __LINE__, #call);                                \
  } while (0)
#define DROP_ERROR()                                                                                                   \
  do {                                                                                                                 \
    khonsu_error_free(error);                                                                                          \
    error = NULL;                                                                                                      \
  } while (0)
#define EXPECT(expected, call)                                                                                         \
  do {                                                                                                                 \
    EXPECT_KEEP(expected, call);                                                                                       \
    DROP_ERROR();                                                                                                      \
  } while (0)
#define EXPECT_OK(call) EXPECT(KHONSU_STATUS_OK, call)
#define EXPECT_INVALID_ARGUMENT(call) EXPECT(KHONSU_STATUS_INVALID_ARGUMENT, call)
#define EXPECT_INVALID_STATE(call) EXPECT(KHONSU_STATUS_INVALID_STATE, call)

/* Nothing built by arrow_testing.h is unreleased, and nothing was released twice. */
#define CHECK_NOTHING_LIVE()                                                                                           \
  do {                                                                                                                 \
    CHECK(arrow_testing_live_arrays() == 0);                                                                           \
    CHECK(arrow_testing_live_schemas() == 0);                                                                          \
    CHECK(arrow_testing_live_streams() == 0);                                                                          \
  } while (0)

#define RUN(test)                                                                                                      \
  do {                                                                                                                 \
    testing_name = #test;                                                                                              \
    test();                                                                                                            \
    CHECK_NOTHING_LIVE();                                                                                              \
  } while (0)

/* The result of main. */
static inline int testing_finish(const char *program) {
  int64_t failures = __atomic_load_n(&testing_failures, __ATOMIC_SEQ_CST);
  int64_t checks = __atomic_load_n(&testing_checks, __ATOMIC_SEQ_CST);
  printf("%s: %" PRId64 " checks, %" PRId64 " failed\n", program, checks, failures);
  return failures == 0 && checks > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- databases and transactions ---- */

#define KEY(text) (text), strlen(text)

static inline khonsu_db *testing_open(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  EXPECT_OK(khonsu_db_open(NULL, &db, &error));
  if (!CHECK(db != NULL)) exit(EXIT_FAILURE);
  return db;
}

/* isolation, resolution: 0 for the default of the database. */
static inline khonsu_txn *testing_begin_with(const khonsu_db *db, int32_t isolation, int32_t resolution) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  khonsu_txn_options *options = khonsu_txn_options_new();
  if (isolation != 0) EXPECT_OK(khonsu_txn_options_set_isolation(options, isolation, &error));
  if (resolution != 0) EXPECT_OK(khonsu_txn_options_set_conflict_resolution(options, resolution, &error));
  EXPECT_OK(khonsu_db_begin(db, options, &txn, &error));
  khonsu_txn_options_free(options);
  if (!CHECK(txn != NULL)) exit(EXIT_FAILURE);
  return txn;
}

static inline khonsu_txn *testing_begin(const khonsu_db *db) { return testing_begin_with(db, 0, 0); }

static inline khonsu_txn *testing_begin_read_only(const khonsu_db *db) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  khonsu_txn_options *options = khonsu_txn_options_new();
  EXPECT_OK(khonsu_txn_options_set_read_only(options, 1, &error));
  EXPECT_OK(khonsu_db_begin(db, options, &txn, &error));
  khonsu_txn_options_free(options);
  if (!CHECK(txn != NULL)) exit(EXIT_FAILURE);
  return txn;
}

/* ---- int64 batches of one column "value", written as text: "1,2,3" ---- */

/* Reads the numbers of such a text; "" has none and stands for a batch of zero rows. */
static inline int64_t testing_parse(const char *text, int64_t *values, int64_t capacity) {
  int64_t count = 0;
  while (*text != '\0' && count < capacity) {
    char *end = NULL;
    values[count++] = strtoll(text, &end, 10);
    text = *end == ',' ? end + 1 : end;
  }
  return count;
}

#define TESTING_ROWS 64

static inline void testing_batch(struct ArrowArray *array, struct ArrowSchema *schema, const char *text) {
  int64_t values[TESTING_ROWS] = {0};
  int64_t count = testing_parse(text, values, TESTING_ROWS);
  arrow_testing_int64_batch(array, schema, "value", values, count);
}

/* Adds the values of a column to text, after those that are there. */
static inline void testing_format(const struct ArrowArray *array, int64_t column, char *text, size_t capacity) {
  size_t used = strlen(text);
  for (int64_t row = 0; row < array->length; row++) {
    int written = snprintf(text + used, capacity - used, "%s%" PRId64, used == 0 ? "" : ",",
                           arrow_testing_int64_at(array, column, row));
    if (written < 0 || (size_t)written >= capacity - used) return;
    used += (size_t)written;
  }
}

static inline khonsu_status testing_put_bytes(khonsu_txn *txn, const void *key, size_t key_len, const char *text,
                                              khonsu_error **error) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  testing_batch(&array, &schema, text);
  khonsu_status status = khonsu_txn_put(txn, key, key_len, &array, &schema, error);
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  return status;
}

static inline khonsu_status testing_put(khonsu_txn *txn, const char *key, const char *text, khonsu_error **error) {
  return testing_put_bytes(txn, key, strlen(key), text, error);
}

static inline khonsu_status testing_append(khonsu_txn *txn, const char *key, const char *text, khonsu_error **error) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  testing_batch(&array, &schema, text);
  khonsu_status status = khonsu_txn_append(txn, key, strlen(key), &array, &schema, error);
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  return status;
}

/* Writes the value of key as text; "absent" when there is none, "<STATUS>" when the call failed. */
static inline void testing_get(khonsu_txn *txn, const char *key, char *text, size_t capacity) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  khonsu_error *error = NULL;
  memset(&array, 0xA5, sizeof(array)); /* the outs need no initialisation */
  memset(&schema, 0xA5, sizeof(schema));
  text[0] = '\0';
  khonsu_status status = khonsu_txn_get(txn, key, strlen(key), &array, &schema, &error);
  if (status == KHONSU_STATUS_OK) {
    if (CHECK(array.release != NULL && array.n_children == 1) && CHECK_TEXT("+s", schema.format)) {
      CHECK_TEXT("l", schema.children[0]->format);
      testing_format(&array, 0, text, capacity);
    }
  } else {
    CHECK(array.release == NULL);
    CHECK(schema.release == NULL);
    if (status == KHONSU_STATUS_NOT_FOUND) {
      snprintf(text, capacity, "absent");
    } else {
      snprintf(text, capacity, "<%s>", khonsu_status_name(status));
    }
  }
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);
  khonsu_error_free(error);
}

static inline void testing_check_value(khonsu_txn *txn, const char *key, const char *expected, const char *file,
                                       int line) {
  char text[1024];
  testing_get(txn, key, text, sizeof(text));
  testing_check_text(expected, text, file, line, key);
}
#define CHECK_VALUE(txn, key, expected) testing_check_value((txn), (key), (expected), __FILE__, __LINE__)

/* In a transaction of its own: what is committed, for checking and for changing it. */
static inline void testing_check_committed(const khonsu_db *db, const char *key, const char *expected,
                                           const char *file, int line) {
  khonsu_txn *txn = testing_begin_read_only(db);
  testing_check_value(txn, key, expected, file, line);
  khonsu_txn_free(txn);
}
#define CHECK_COMMITTED(db, key, expected) testing_check_committed((db), (key), (expected), __FILE__, __LINE__)

/* A commit that changes one key, having read another one before where `read` is not NULL. One that has read the key that
 * is changed and writes the one that was read must not commit any more: neither could come before the other. A text of
 * NULL deletes. */
static inline uint64_t testing_commit_having_read(const khonsu_db *db, const char *read, const char *key,
                                                  const char *text) {
  khonsu_error *error = NULL;
  uint64_t version = 0;
  khonsu_txn *txn = testing_begin(db);
  if (read != NULL) {
    bool exists = false;
    EXPECT_OK(khonsu_txn_exists(txn, KEY(read), &exists, &error));
  }
  if (text != NULL) {
    EXPECT_OK(testing_put(txn, key, text, &error));
  } else {
    EXPECT_OK(khonsu_txn_delete(txn, KEY(key), &error));
  }
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  EXPECT_OK(khonsu_txn_commit_version(txn, &version, &error));
  khonsu_txn_free(txn);
  return version;
}

static inline uint64_t testing_commit_put(const khonsu_db *db, const char *key, const char *text) {
  return testing_commit_having_read(db, NULL, key, text);
}

static inline uint64_t testing_commit_delete(const khonsu_db *db, const char *key) {
  return testing_commit_having_read(db, NULL, key, NULL);
}

/* The rest of a cursor as "key=values key=values", freeing it; a cursor of NULL gives "no cursor". */
static inline void testing_drain(khonsu_cursor *cursor, char *text, size_t capacity) {
  khonsu_error *error = NULL;
  khonsu_status status = KHONSU_STATUS_OK;
  text[0] = '\0';
  if (cursor == NULL) {
    snprintf(text, capacity, "no cursor");
    return;
  }
  while ((status = khonsu_cursor_next(cursor, &error)) == KHONSU_STATUS_OK) {
    const void *key = NULL;
    size_t key_len = 0;
    struct ArrowArray array;
    char values[512] = "";
    EXPECT_OK(khonsu_cursor_key(cursor, &key, &key_len, &error));
    EXPECT_OK(khonsu_cursor_get(cursor, &array, NULL, &error));
    if (array.release != NULL) testing_format(&array, 0, values, sizeof(values));
    arrow_testing_release_array(&array);
    size_t used = strlen(text);
    snprintf(text + used, capacity - used, "%s%.*s=%s", used == 0 ? "" : " ", (int)key_len,
             key == NULL ? "" : (const char *)key, values);
  }
  testing_check_status(KHONSU_STATUS_NOT_FOUND, status, error, __FILE__, __LINE__, "khonsu_cursor_next");
  khonsu_error_free(error);
  khonsu_cursor_free(cursor);
}

/* ---- shields: the struct may be damaged in any way, the release still frees what was built ---- */

struct testing_array_shield {
  struct ArrowArray original;
  const void **buffers;
  struct ArrowArray **children;
};

static inline void testing_shielded_array_release(struct ArrowArray *array) {
  struct testing_array_shield *shield = (struct testing_array_shield *)array->private_data;
  shield->original.release(&shield->original);
  free((void *)shield->buffers);
  free(shield->children);
  free(shield);
  array->release = NULL;
}

/* Gives array and its descendants pointer tables of their own, so that these may be overwritten, too. */
static inline void testing_shield_array(struct ArrowArray *array) {
  struct testing_array_shield *shield =
      (struct testing_array_shield *)arrow_testing_allocate(sizeof(struct testing_array_shield));
  for (int64_t i = 0; i < array->n_children; i++) testing_shield_array(array->children[i]);
  shield->original = *array;
  /* One entry more than is used, so that a count that is one too large reads a NULL. */
  shield->buffers = (const void **)arrow_testing_allocate((size_t)(array->n_buffers + 1) * sizeof(void *));
  shield->children =
      (struct ArrowArray **)arrow_testing_allocate((size_t)(array->n_children + 1) * sizeof(struct ArrowArray *));
  for (int64_t i = 0; i < array->n_buffers; i++) shield->buffers[i] = array->buffers[i];
  for (int64_t i = 0; i < array->n_children; i++) shield->children[i] = array->children[i];
  array->buffers = shield->buffers;
  array->children = shield->children;
  array->private_data = shield;
  array->release = testing_shielded_array_release;
}

struct testing_schema_shield {
  struct ArrowSchema original;
  struct ArrowSchema **children;
};

static inline void testing_shielded_schema_release(struct ArrowSchema *schema) {
  struct testing_schema_shield *shield = (struct testing_schema_shield *)schema->private_data;
  shield->original.release(&shield->original);
  free(shield->children);
  free(shield);
  schema->release = NULL;
}

static inline void testing_shield_schema(struct ArrowSchema *schema) {
  struct testing_schema_shield *shield =
      (struct testing_schema_shield *)arrow_testing_allocate(sizeof(struct testing_schema_shield));
  for (int64_t i = 0; i < schema->n_children; i++) testing_shield_schema(schema->children[i]);
  shield->original = *schema;
  shield->children =
      (struct ArrowSchema **)arrow_testing_allocate((size_t)(schema->n_children + 1) * sizeof(struct ArrowSchema *));
  for (int64_t i = 0; i < schema->n_children; i++) shield->children[i] = schema->children[i];
  schema->children = shield->children;
  schema->private_data = shield;
  schema->release = testing_shielded_schema_release;
}

#endif /* KHONSU_C_TESTING_H */
