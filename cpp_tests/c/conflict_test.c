/* What conflicts, what does not, what each strategy makes of it at each isolation level, and what the error tells. */
#include "c_testing.h"

#include <pthread.h>

static const int32_t levels[] = {KHONSU_ISOLATION_READ_COMMITTED, KHONSU_ISOLATION_REPEATABLE_READ,
                                 KHONSU_ISOLATION_SERIALIZABLE};
static const int32_t strategies[] = {KHONSU_CONFLICT_RESOLUTION_FAIL, KHONSU_CONFLICT_RESOLUTION_IGNORE,
                                     KHONSU_CONFLICT_RESOLUTION_REPLACE, KHONSU_CONFLICT_RESOLUTION_APPEND};
#define LEVELS 3
#define STRATEGIES 4

/* The transactions that lose in these tests have the value "2" to write where "1" has been committed meanwhile. */
static const char *const after_strategy[] = {NULL, "1", "2", "1,2"};

static bool conflict_at(const khonsu_error *error, size_t index, khonsu_conflict *conflict) {
  memset(conflict, 0, sizeof(*conflict));
  return CHECK(index < khonsu_error_conflict_count(error)) &&
         CHECK(khonsu_error_conflict(error, index, conflict, sizeof(*conflict)) == KHONSU_STATUS_OK);
}

static void check_conflict(const khonsu_error *error, int32_t kind, const char *key, uint64_t version, int line) {
  khonsu_conflict conflict;
  CHECK(khonsu_error_conflict_count(error) == 1);
  if (!conflict_at(error, 0, &conflict)) return;
  testing_check(conflict.kind == kind, __FILE__, line, "the kind of the conflict");
  testing_check(conflict.key_len == strlen(key) && memcmp(conflict.key, key, conflict.key_len) == 0, __FILE__, line,
                "the key of the conflict");
  testing_check(conflict.version == version, __FILE__, line, "the version of the conflict");
}
#define CHECK_CONFLICT(kind, key, version) check_conflict(error, (kind), (key), (version), __LINE__)

/* ---- write-write ---- */

static khonsu_status commit_blind_write(khonsu_db *db, khonsu_txn *txn, uint64_t *other, khonsu_error **error) {
  khonsu_error *staging = NULL;
  CHECK(testing_put(txn, "key", "2", &staging) == KHONSU_STATUS_OK);
  CHECK(testing_put(txn, "unrelated", "9", &staging) == KHONSU_STATUS_OK);
  *other = testing_commit_put(db, "key", "1");
  return khonsu_txn_commit(txn, error);
}

static void check_strategy(khonsu_db *db, khonsu_txn *txn, int strategy) {
  khonsu_error *error = NULL;
  uint64_t other = 0;
  if (after_strategy[strategy] == NULL) {
    EXPECT_KEEP(KHONSU_STATUS_CONFLICT, commit_blind_write(db, txn, &other, &error));
    CHECK_CONFLICT(KHONSU_CONFLICT_KIND_WRITE_WRITE, "key", other);
    khonsu_conflict conflict;
    if (conflict_at(error, 0, &conflict)) {
      CHECK(conflict.has_range == 0);
      CHECK(conflict.range_start == NULL && conflict.range_end == NULL);
    }
    DROP_ERROR();
    CHECK_COMMITTED(db, "key", "1");
    CHECK_COMMITTED(db, "unrelated", "absent");
  } else {
    EXPECT_OK(commit_blind_write(db, txn, &other, &error));
    CHECK_COMMITTED(db, "key", after_strategy[strategy]);
    CHECK_COMMITTED(db, "unrelated", "9");
  }
  khonsu_txn_free(txn);
}

static khonsu_db *open_with(int32_t isolation, int32_t resolution) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  khonsu_options *options = khonsu_options_new();
  if (isolation != 0) EXPECT_OK(khonsu_options_set_isolation(options, isolation, &error));
  if (resolution != 0) EXPECT_OK(khonsu_options_set_conflict_resolution(options, resolution, &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_options_free(options);
  if (!CHECK(db != NULL)) exit(EXIT_FAILURE);
  return db;
}

/* The strategy comes from the database, the transaction or the write: the closest wins. */
static void test_strategies(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    for (int strategy = 0; strategy < STRATEGIES; strategy++) {
      khonsu_db *db = open_with(levels[level], strategies[strategy]);
      check_strategy(db, testing_begin(db), strategy);
      khonsu_db_free(db);

      for (int of_database = 0; of_database < STRATEGIES; of_database++) {
        db = open_with(0, strategies[of_database]);
        check_strategy(db, testing_begin_with(db, levels[level], strategies[strategy]), strategy);
        khonsu_db_free(db);
      }

      for (int of_transaction = 0; of_transaction < STRATEGIES; of_transaction++) {
        db = open_with(levels[level], KHONSU_CONFLICT_RESOLUTION_FAIL);
        khonsu_txn *txn = testing_begin_with(db, 0, strategies[of_transaction]);
        uint64_t other = 0;
        EXPECT_OK(testing_put(txn, "key", "2", &error));
        EXPECT_OK(khonsu_txn_set_conflict_resolution(txn, KEY("key"), strategies[strategy], &error));
        other = testing_commit_put(db, "key", "1");
        if (after_strategy[strategy] == NULL) {
          EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
          CHECK_CONFLICT(KHONSU_CONFLICT_KIND_WRITE_WRITE, "key", other);
          DROP_ERROR();
          CHECK_COMMITTED(db, "key", "1");
        } else {
          EXPECT_OK(khonsu_txn_commit(txn, &error));
          CHECK_COMMITTED(db, "key", after_strategy[strategy]);
        }
        khonsu_txn_free(txn);
        khonsu_db_free(db);
      }
    }
  }
}

/* A strategy of one write is not that of the others. */
static void test_strategies_by_key(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin_with(db, 0, KHONSU_CONFLICT_RESOLUTION_REPLACE);
  EXPECT_OK(testing_put(txn, "replaced", "2", &error));
  EXPECT_OK(testing_put(txn, "ignored", "2", &error));
  EXPECT_OK(testing_put(txn, "appended", "2", &error));
  EXPECT_OK(khonsu_txn_set_conflict_resolution(txn, KEY("ignored"), KHONSU_CONFLICT_RESOLUTION_IGNORE, &error));
  EXPECT_OK(khonsu_txn_set_conflict_resolution(txn, KEY("appended"), KHONSU_CONFLICT_RESOLUTION_APPEND, &error));
  testing_commit_put(db, "replaced", "1");
  testing_commit_put(db, "ignored", "1");
  testing_commit_put(db, "appended", "1");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  CHECK_COMMITTED(db, "replaced", "2");
  CHECK_COMMITTED(db, "ignored", "1");
  CHECK_COMMITTED(db, "appended", "1,2");
  khonsu_db_free(db);
}

/* Deletes on either side. */
static void test_strategies_and_deletes(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    for (int strategy = 0; strategy < STRATEGIES; strategy++) {
      int32_t resolution = strategies[strategy];
      khonsu_db *db = testing_open();
      testing_commit_put(db, "key", "0");
      khonsu_txn *txn = testing_begin_with(db, levels[level], resolution);
      EXPECT_OK(khonsu_txn_delete(txn, KEY("key"), &error));
      uint64_t other = testing_commit_put(db, "key", "1");
      if (resolution == KHONSU_CONFLICT_RESOLUTION_FAIL || resolution == KHONSU_CONFLICT_RESOLUTION_APPEND) {
        EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
        CHECK_CONFLICT(KHONSU_CONFLICT_KIND_WRITE_WRITE, "key", other);
        DROP_ERROR();
        CHECK_COMMITTED(db, "key", "1");
      } else {
        EXPECT_OK(khonsu_txn_commit(txn, &error));
        CHECK_COMMITTED(db, "key", resolution == KHONSU_CONFLICT_RESOLUTION_IGNORE ? "1" : "absent");
      }
      khonsu_txn_free(txn);

      testing_commit_put(db, "key", "0");
      txn = testing_begin_with(db, levels[level], resolution);
      EXPECT_OK(testing_put(txn, "key", "2", &error));
      other = testing_commit_delete(db, "key");
      if (resolution == KHONSU_CONFLICT_RESOLUTION_FAIL) {
        EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
        CHECK_CONFLICT(KHONSU_CONFLICT_KIND_WRITE_WRITE, "key", other);
        DROP_ERROR();
        CHECK_COMMITTED(db, "key", "absent");
      } else {
        EXPECT_OK(khonsu_txn_commit(txn, &error));
        CHECK_COMMITTED(db, "key", resolution == KHONSU_CONFLICT_RESOLUTION_IGNORE ? "absent" : "2");
      }
      khonsu_txn_free(txn);
      khonsu_db_free(db);
    }
  }
}

/* At read committed it is the last read that counts, at the other levels the snapshot. */
static void test_reading_again(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    for (int again = 0; again < 2; again++) {
      khonsu_db *db = testing_open();
      testing_commit_put(db, "key", "0");
      khonsu_txn *txn = testing_begin_with(db, levels[level], 0);
      CHECK_VALUE(txn, "key", "0");
      uint64_t other = testing_commit_put(db, "key", "1");
      bool fresh = levels[level] == KHONSU_ISOLATION_READ_COMMITTED;
      if (again) CHECK_VALUE(txn, "key", fresh ? "1" : "0");
      EXPECT_OK(testing_put(txn, "key", "2", &error));
      if (again && fresh) {
        EXPECT_OK(khonsu_txn_commit(txn, &error));
        CHECK_COMMITTED(db, "key", "2");
      } else {
        EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
        khonsu_conflict conflict;
        if (conflict_at(error, 0, &conflict)) {
          CHECK(conflict.version == other);
          CHECK(conflict.key_len == 3 && memcmp(conflict.key, "key", 3) == 0);
          CHECK(conflict.kind == KHONSU_CONFLICT_KIND_WRITE_WRITE || conflict.kind == KHONSU_CONFLICT_KIND_READ_WRITE);
        }
        DROP_ERROR();
        CHECK_COMMITTED(db, "key", "1");
      }
      khonsu_txn_free(txn);
      khonsu_db_free(db);
    }
  }
}

/* A key that was read and is then written: no strategy makes a lost update of it at serializable. */
static void test_read_modify_write(void) {
  khonsu_error *error = NULL;
  for (int strategy = 0; strategy < STRATEGIES; strategy++) {
    for (int by = 0; by < 4; by++) {
      khonsu_db *db = testing_open();
      testing_commit_put(db, "key", "0");
      khonsu_txn *txn = testing_begin_with(db, KHONSU_ISOLATION_SERIALIZABLE, strategies[strategy]);
      if (by == 0) {
        CHECK_VALUE(txn, "key", "0");
      } else if (by == 1) {
        bool exists = false;
        EXPECT_OK(khonsu_txn_exists(txn, KEY("key"), &exists, &error));
        CHECK(exists);
      } else if (by == 2) {
        struct ArrowArrayStream stream;
        EXPECT_OK(khonsu_txn_get_stream(txn, KEY("key"), &stream, &error));
        arrow_testing_release_stream(&stream);
      } else {
        khonsu_cursor *cursor = NULL;
        char text[64];
        EXPECT_OK(khonsu_txn_scan_prefix(txn, KEY("k"), KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
        testing_drain(cursor, text, sizeof(text));
        CHECK_TEXT("key=0", text);
      }
      EXPECT_OK(testing_put(txn, "key", "2", &error));
      EXPECT_OK(testing_put(txn, "unrelated", "9", &error));
      /* by an `exists` only the presence was read, but the value changed: still a change of what was read */
      testing_commit_put(db, "key", "1");
      EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
      CHECK_COMMITTED(db, "key", "1");
      CHECK_COMMITTED(db, "unrelated", "absent");
      khonsu_txn_free(txn);
      khonsu_db_free(db);
    }
  }
}

/* Every key in conflict is told, or at least one, and none that is not. */
static void test_several_conflicts(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  uint64_t versions[2];
  EXPECT_OK(testing_put(txn, "a", "2", &error));
  EXPECT_OK(testing_put(txn, "b", "2", &error));
  EXPECT_OK(testing_put(txn, "c", "2", &error));
  versions[0] = testing_commit_put(db, "a", "1");
  versions[1] = testing_commit_put(db, "c", "1");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  size_t count = khonsu_error_conflict_count(error);
  CHECK(count >= 1 && count <= 2);
  for (size_t i = 0; i < count; i++) {
    khonsu_conflict conflict;
    if (!conflict_at(error, i, &conflict)) continue;
    CHECK(conflict.kind == KHONSU_CONFLICT_KIND_WRITE_WRITE);
    CHECK(conflict.key_len == 1);
    char key = *(const char *)conflict.key;
    CHECK((key == 'a' && conflict.version == versions[0]) || (key == 'c' && conflict.version == versions[1]));
  }
  DROP_ERROR();
  CHECK(khonsu_txn_commit(txn, NULL) == KHONSU_STATUS_INVALID_STATE); /* a failed commit ends it */
  khonsu_txn_free(txn);
  /* Without an error object the status is the same. */
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "a", "3", &error));
  testing_commit_put(db, "a", "4");
  CHECK(khonsu_txn_commit(txn, NULL) == KHONSU_STATUS_CONFLICT);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* The error outlives what it tells about. */
static void test_conflicts_outlive_the_database(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "key", "2", &error));
  uint64_t other = testing_commit_put(db, "key", "1");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  CHECK_CONFLICT(KHONSU_CONFLICT_KIND_WRITE_WRITE, "key", other);
  DROP_ERROR();
}

/* ---- appends ---- */

static void test_appends_never_conflict(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    for (int strategy = 0; strategy < STRATEGIES; strategy++) {
      for (int present = 0; present < 2; present++) {
        khonsu_db *db = testing_open();
        if (present) testing_commit_put(db, "key", "0");
        khonsu_txn *first = testing_begin_with(db, levels[level], strategies[strategy]);
        khonsu_txn *second = testing_begin_with(db, levels[level], strategies[strategy]);
        EXPECT_OK(testing_append(first, "key", "1", &error));
        EXPECT_OK(testing_append(second, "key", "2", &error));
        EXPECT_OK(testing_append(first, "key", "3", &error));
        EXPECT_OK(khonsu_txn_commit(second, &error));
        EXPECT_OK(khonsu_txn_commit(first, &error));
        CHECK_COMMITTED(db, "key", present ? "0,2,1,3" : "2,1,3");
        khonsu_txn_free(first);
        khonsu_txn_free(second);

        /* What is newest at commit may have been put, or deleted. */
        first = testing_begin_with(db, levels[level], strategies[strategy]);
        EXPECT_OK(testing_append(first, "key", "7", &error));
        testing_commit_put(db, "key", "5");
        EXPECT_OK(khonsu_txn_commit(first, &error));
        CHECK_COMMITTED(db, "key", "5,7");
        khonsu_txn_free(first);
        first = testing_begin_with(db, levels[level], strategies[strategy]);
        EXPECT_OK(testing_append(first, "key", "8", &error));
        testing_commit_delete(db, "key");
        EXPECT_OK(khonsu_txn_commit(first, &error));
        CHECK_COMMITTED(db, "key", "8");
        khonsu_txn_free(first);
        khonsu_db_free(db);
      }
    }
  }
}

static void put_other_schema(khonsu_db *db, const char *key) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  int64_t value = 1;
  khonsu_txn *txn = testing_begin(db);
  arrow_testing_int64_batch(&array, &schema, "other", &value, 1);
  EXPECT_OK(khonsu_txn_put(txn, KEY(key), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
}

/* Rows of one schema cannot go after rows of another: the transaction aborts and nothing of it is applied. */
static void test_schema_mismatch_at_commit(void) {
  khonsu_error *error = NULL;
  for (int by_strategy = 0; by_strategy < 2; by_strategy++) {
    khonsu_db *db = testing_open();
    khonsu_txn *txn = testing_begin_with(db, 0, by_strategy ? KHONSU_CONFLICT_RESOLUTION_APPEND : 0);
    EXPECT_OK(testing_put(txn, "before", "9", &error));
    EXPECT_OK(testing_put(txn, "other", "9", &error));
    if (by_strategy) {
      EXPECT_OK(testing_put(txn, "key", "2", &error));
    } else {
      EXPECT_OK(testing_append(txn, "key", "2", &error));
    }
    put_other_schema(db, "key");
    EXPECT(KHONSU_STATUS_SCHEMA_MISMATCH, khonsu_txn_commit(txn, &error));
    EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    CHECK_COMMITTED(db, "before", "absent");
    CHECK_COMMITTED(db, "other", "absent");
    struct ArrowArray array;
    struct ArrowSchema schema;
    txn = testing_begin(db);
    EXPECT_OK(khonsu_txn_get(txn, KEY("key"), &array, &schema, &error));
    CHECK(array.length == 1);
    CHECK_TEXT("other", schema.children[0]->name);
    arrow_testing_release_array(&array);
    arrow_testing_release_schema(&schema);
    khonsu_txn_free(txn);
    /* A put without conflict may change the schema. */
    testing_commit_put(db, "key", "3");
    CHECK_COMMITTED(db, "key", "3");
    khonsu_db_free(db);
  }
}

struct appender {
  khonsu_db *db;
  int number;
};

enum { APPENDERS = 4, APPENDS = 50 };

static void *append_many(void *argument) {
  const struct appender *appender = (const struct appender *)argument;
  khonsu_error *error = NULL;
  for (int i = 0; i < APPENDS; i++) {
    char text[32];
    khonsu_txn *txn = testing_begin(appender->db);
    snprintf(text, sizeof(text), "%d", appender->number * APPENDS + i);
    EXPECT_OK(testing_append(txn, "key", text, &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
  }
  return NULL;
}

static void test_concurrent_appends(void) {
  khonsu_error *error = NULL;
  pthread_t threads[APPENDERS];
  struct appender appenders[APPENDERS];
  khonsu_db *db = testing_open();
  for (int i = 0; i < APPENDERS; i++) {
    appenders[i].db = db;
    appenders[i].number = i;
    CHECK(pthread_create(&threads[i], NULL, append_many, &appenders[i]) == 0);
  }
  for (int i = 0; i < APPENDERS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  struct ArrowArray array;
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(khonsu_txn_get(txn, KEY("key"), &array, NULL, &error));
  int64_t last[APPENDERS] = {-1, -1, -1, -1};
  bool in_order = true;
  if (CHECK(array.length == APPENDERS * APPENDS)) {
    for (int64_t row = 0; row < array.length; row++) {
      int64_t value = arrow_testing_int64_at(&array, 0, row);
      in_order = in_order && value % APPENDS == last[value / APPENDS] + 1;
      last[value / APPENDS] = value % APPENDS;
    }
  }
  CHECK(in_order); /* each thread's rows once, in the order of its commits */
  arrow_testing_release_array(&array);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- reads ---- */

static void test_stale_reads(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    khonsu_db *db = testing_open();
    testing_commit_put(db, "read", "0");
    khonsu_txn *txn = testing_begin_with(db, levels[level], 0);
    CHECK_VALUE(txn, "read", "0");
    EXPECT_OK(testing_put(txn, "written", "1", &error));
    /* The other one reads what this one writes, and writes what this one reads: a cycle. */
    khonsu_txn *other = testing_begin_with(db, levels[level], 0);
    uint64_t version = 0;
    CHECK_VALUE(other, "written", "absent");
    EXPECT_OK(testing_put(other, "read", "5", &error));
    EXPECT_OK(khonsu_txn_commit(other, &error));
    EXPECT_OK(khonsu_txn_commit_version(other, &version, &error));
    khonsu_txn_free(other);
    if (levels[level] == KHONSU_ISOLATION_SERIALIZABLE) {
      EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
      CHECK_CONFLICT(KHONSU_CONFLICT_KIND_READ_WRITE, "read", version);
      DROP_ERROR();
      CHECK_COMMITTED(db, "written", "absent");
    } else {
      EXPECT_OK(khonsu_txn_commit(txn, &error));
      CHECK_COMMITTED(db, "written", "1");
    }
    khonsu_txn_free(txn);
    khonsu_db_free(db);
  }
}

static void test_write_skew(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    khonsu_db *db = testing_open();
    testing_commit_put(db, "x", "1");
    testing_commit_put(db, "y", "1");
    khonsu_txn *first = testing_begin_with(db, levels[level], 0);
    khonsu_txn *second = testing_begin_with(db, levels[level], 0);
    CHECK_VALUE(first, "x", "1");
    CHECK_VALUE(first, "y", "1");
    CHECK_VALUE(second, "x", "1");
    CHECK_VALUE(second, "y", "1");
    EXPECT_OK(testing_put(first, "x", "0", &error));
    EXPECT_OK(testing_put(second, "y", "0", &error));
    EXPECT_OK(khonsu_txn_commit(first, &error));
    bool prevented = levels[level] == KHONSU_ISOLATION_SERIALIZABLE;
    EXPECT(prevented ? KHONSU_STATUS_CONFLICT : KHONSU_STATUS_OK, khonsu_txn_commit(second, &error));
    CHECK_COMMITTED(db, "x", "0");
    CHECK_COMMITTED(db, "y", prevented ? "1" : "0");
    khonsu_txn_free(first);
    khonsu_txn_free(second);
    khonsu_db_free(db);
  }
}

static void scan_all(khonsu_txn *txn, const char *start, const char *end, const char *expected) {
  khonsu_error *error = NULL;
  khonsu_cursor *cursor = NULL;
  char text[256];
  EXPECT_OK(khonsu_txn_scan(txn, start, start == NULL ? 0 : strlen(start), end, end == NULL ? 0 : strlen(end),
                            KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT(expected, text);
}

/* Two that scan the same range and each add to it. */
static void test_phantoms(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    bool prevented = levels[level] == KHONSU_ISOLATION_SERIALIZABLE;
    khonsu_db *db = testing_open();
    khonsu_txn *first = testing_begin_with(db, levels[level], 0);
    khonsu_txn *second = testing_begin_with(db, levels[level], 0);
    uint64_t version = 0;
    scan_all(first, "b", "m", "");
    scan_all(second, "b", "m", "");
    EXPECT_OK(testing_put(first, "c", "1", &error));
    EXPECT_OK(testing_put(second, "d", "1", &error));
    EXPECT_OK(khonsu_txn_commit(first, &error));
    EXPECT_OK(khonsu_txn_commit_version(first, &version, &error));
    EXPECT_KEEP(prevented ? KHONSU_STATUS_CONFLICT : KHONSU_STATUS_OK, khonsu_txn_commit(second, &error));
    if (prevented) {
      khonsu_conflict conflict;
      CHECK_CONFLICT(KHONSU_CONFLICT_KIND_PHANTOM, "c", version);
      if (conflict_at(error, 0, &conflict)) {
        CHECK(conflict.has_range == 1);
        CHECK(conflict.range_start_len == 1 && memcmp(conflict.range_start, "b", 1) == 0);
        CHECK(conflict.range_end_len == 1 && memcmp(conflict.range_end, "m", 1) == 0);
      }
    }
    DROP_ERROR();
    CHECK_COMMITTED(db, "d", prevented ? "absent" : "1");
    khonsu_txn_free(first);
    khonsu_txn_free(second);
    khonsu_db_free(db);
  }
}

/* The range of everything has no ends. Keys outside a scanned range are none of its business, and neither are the
 * scanning transaction's own writes. */
static void test_phantom_ranges(void) {
  khonsu_error *error = NULL;
  khonsu_conflict conflict;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  scan_all(txn, NULL, NULL, "");
  EXPECT_OK(testing_put(txn, "own", "1", &error));
  uint64_t version = testing_commit_having_read(db, "own", "new", "1");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  CHECK_CONFLICT(KHONSU_CONFLICT_KIND_PHANTOM, "new", version);
  if (conflict_at(error, 0, &conflict)) {
    CHECK(conflict.has_range == 1);
    CHECK(conflict.range_start == NULL && conflict.range_start_len == 0);
    CHECK(conflict.range_end == NULL && conflict.range_end_len == 0);
  }
  DROP_ERROR();
  khonsu_txn_free(txn);

  txn = testing_begin(db);
  scan_all(txn, "b", "m", "");
  EXPECT_OK(testing_put(txn, "c", "1", &error));
  scan_all(txn, "b", "m", "c=1");
  testing_commit_put(db, "a", "1");
  testing_commit_put(db, "m", "1");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);

  /* A key that went away, and one whose value changed. */
  for (int change = 0; change < 2; change++) {
    txn = testing_begin(db);
    scan_all(txn, "b", "m", "c=1");
    EXPECT_OK(testing_put(txn, "elsewhere", "1", &error));
    version = testing_commit_having_read(db, "elsewhere", "c", change ? NULL : "1");
    EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
    if (conflict_at(error, 0, &conflict)) {
      CHECK(conflict.version == version);
      CHECK(conflict.key_len == 1 && memcmp(conflict.key, "c", 1) == 0);
      CHECK(conflict.kind == KHONSU_CONFLICT_KIND_PHANTOM || conflict.kind == KHONSU_CONFLICT_KIND_READ_WRITE);
    }
    DROP_ERROR();
    khonsu_txn_free(txn);
  }
  khonsu_db_free(db);
}

/* A key found absent that is there at commit. */
static void test_absent_keys(void) {
  khonsu_error *error = NULL;
  for (int level = 0; level < LEVELS; level++) {
    for (int by_exists = 0; by_exists < 2; by_exists++) {
      khonsu_db *db = testing_open();
      khonsu_txn *txn = testing_begin_with(db, levels[level], 0);
      if (by_exists) {
        bool exists = true;
        EXPECT_OK(khonsu_txn_exists(txn, KEY("absent"), &exists, &error));
        CHECK(!exists);
      } else {
        CHECK_VALUE(txn, "absent", "absent");
      }
      EXPECT_OK(testing_put(txn, "written", "1", &error));
      uint64_t version = testing_commit_having_read(db, "written", "absent", "1");
      if (levels[level] == KHONSU_ISOLATION_SERIALIZABLE) {
        EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
        CHECK_CONFLICT(KHONSU_CONFLICT_KIND_PHANTOM, "absent", version);
        DROP_ERROR();
      } else {
        EXPECT_OK(khonsu_txn_commit(txn, &error));
      }
      khonsu_txn_free(txn);
      khonsu_db_free(db);
    }
  }
}

/* Read-only transactions never abort and never make a writer abort. */
static void test_read_only(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  testing_commit_put(db, "x", "1");
  testing_commit_put(db, "y", "1");
  khonsu_txn *writer = testing_begin(db);
  CHECK_VALUE(writer, "x", "1");
  EXPECT_OK(testing_put(writer, "y", "2", &error));
  khonsu_txn *reader = testing_begin_read_only(db);
  CHECK_VALUE(reader, "x", "1");
  CHECK_VALUE(reader, "absent", "absent");
  scan_all(reader, NULL, NULL, "x=1 y=1");
  EXPECT_OK(khonsu_txn_commit(writer, &error));
  khonsu_txn_free(writer);
  testing_commit_put(db, "absent", "3");
  testing_commit_put(db, "x", "3");
  CHECK_VALUE(reader, "x", "1");
  CHECK_VALUE(reader, "y", "1");
  CHECK_VALUE(reader, "absent", "absent");
  EXPECT_OK(khonsu_txn_commit(reader, &error));
  khonsu_txn_free(reader);
  khonsu_db_free(db);
}

/* ---- limits ---- */

static khonsu_status put_rows(khonsu_txn *txn, const char *key, int64_t rows, khonsu_error **error) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  int64_t *values = (int64_t *)arrow_testing_allocate((size_t)rows * sizeof(int64_t));
  arrow_testing_int64_batch(&array, &schema, "value", values, rows);
  free(values);
  khonsu_status status = khonsu_txn_put(txn, KEY(key), &array, &schema, error);
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  return status;
}

/* Over the limit the call fails and the transaction goes on. */
static void test_limit_of_a_transaction(void) {
  khonsu_error *error = NULL;
  for (int of_database = 0; of_database < 2; of_database++) {
    khonsu_db *db = NULL;
    khonsu_txn *txn = NULL;
    khonsu_options *options = khonsu_options_new();
    khonsu_txn_options *txn_options = khonsu_txn_options_new();
    if (of_database) {
      EXPECT_OK(khonsu_options_set_max_transaction_bytes(options, 65536, &error));
    } else {
      EXPECT_OK(khonsu_txn_options_set_max_bytes(txn_options, 65536, &error));
    }
    EXPECT_OK(khonsu_db_open(options, &db, &error));
    EXPECT_OK(khonsu_db_begin(db, txn_options, &txn, &error));
    EXPECT_OK(put_rows(txn, "small", 3, &error));
    EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, put_rows(txn, "large", 100000, &error));
    CHECK_VALUE(txn, "large", "absent");
    EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, put_rows(txn, "small", 100000, &error));
    CHECK_VALUE(txn, "small", "0,0,0");
    /* Replacing gives back what was staged before: this may be done for ever. */
    for (int i = 0; i < 50; i++) EXPECT_OK(put_rows(txn, "medium", 4000, &error));
    EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, put_rows(txn, "more", 6000, &error));
    uint64_t savepoint = 0;
    EXPECT_OK(khonsu_txn_delete(txn, KEY("medium"), &error));
    EXPECT_OK(khonsu_txn_savepoint(txn, &savepoint, &error));
    EXPECT_OK(put_rows(txn, "more", 6000, &error));
    EXPECT_OK(khonsu_txn_rollback_to(txn, savepoint, &error));
    EXPECT_OK(put_rows(txn, "other", 6000, &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    CHECK_COMMITTED(db, "small", "0,0,0");
    CHECK_COMMITTED(db, "large", "absent");
    CHECK_COMMITTED(db, "more", "absent");
    khonsu_options_free(options);
    khonsu_txn_options_free(txn_options);
    khonsu_db_free(db);
  }
}

static void test_limit_of_a_database(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  khonsu_options *options = khonsu_options_new();
  EXPECT_OK(khonsu_options_set_max_total_bytes(options, 1 << 20, &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_options_free(options);
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(put_rows(txn, "first", 100000, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(db);
  EXPECT_OK(put_rows(txn, "small", 10, &error));
  EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, put_rows(txn, "second", 100000, &error));
  CHECK_VALUE(txn, "second", "absent");
  EXPECT_OK(khonsu_txn_delete(txn, KEY("first"), &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  CHECK_COMMITTED(db, "small", "0,0,0,0,0,0,0,0,0,0");
  txn = testing_begin(db);
  EXPECT_OK(put_rows(txn, "second", 100000, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

int main(void) {
  RUN(test_strategies);
  RUN(test_strategies_by_key);
  RUN(test_strategies_and_deletes);
  RUN(test_reading_again);
  RUN(test_read_modify_write);
  RUN(test_several_conflicts);
  RUN(test_conflicts_outlive_the_database);
  RUN(test_appends_never_conflict);
  RUN(test_schema_mismatch_at_commit);
  RUN(test_concurrent_appends);
  RUN(test_stale_reads);
  RUN(test_write_skew);
  RUN(test_phantoms);
  RUN(test_phantom_ranges);
  RUN(test_absent_keys);
  RUN(test_read_only);
  RUN(test_limit_of_a_transaction);
  RUN(test_limit_of_a_database);
  return testing_finish("conflict_test");
}
