/* Memory through the C boundary: what versions, snapshots, cursors and exported arrays hold goes when they do, and no
 * hot key grows under them. Batches are large enough to be kept as they came, so that the producers' releases tell when
 * khonsu lets go of a value. */
#include "c_testing.h"

#define ROWS 4000
#define ROUNDS 200
#define READERS 4

static void number_batch(struct ArrowArray *array, struct ArrowSchema *schema, int64_t number) {
  int64_t *values = (int64_t *)arrow_testing_allocate(ROWS * sizeof(int64_t));
  for (int64_t row = 0; row < ROWS; row++) values[row] = number;
  arrow_testing_int64_batch(array, schema, "value", values, ROWS);
  free(values);
}

/* In a transaction of its own. */
static void put_number(const khonsu_db *db, const char *key, int64_t number) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  khonsu_txn *txn = testing_begin(db);
  number_batch(&array, &schema, number);
  EXPECT_OK(khonsu_txn_put(txn, KEY(key), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
}

static void get_number(khonsu_txn *txn, const char *key, struct ArrowArray *array) {
  khonsu_error *error = NULL;
  EXPECT_OK(khonsu_txn_get(txn, KEY(key), array, NULL, &error));
}

static void check_number(const struct ArrowArray *array, int64_t number) {
  if (!CHECK(array->release != NULL && array->length == ROWS)) return;
  CHECK(arrow_testing_int64_at(array, 0, 0) == number);
  CHECK(arrow_testing_int64_at(array, 0, ROWS - 1) == number);
}

static khonsu_stats stats_of(const khonsu_db *db) {
  khonsu_error *error = NULL;
  khonsu_stats stats;
  memset(&stats, 0, sizeof(stats));
  EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
  return stats;
}

/* Producers whose batches khonsu still holds: an array and its child each. They are released behind what stats count, some
 * calls later at most. */
static bool holds(const khonsu_db *db, int64_t batches) {
  for (int attempt = 0; attempt < 200 && arrow_testing_live_arrays() != 2 * batches; attempt++) (void)stats_of(db);
  return arrow_testing_live_arrays() == 2 * batches;
}

/* Bytes that the database counts for one batch. */
static uint64_t bytes_of_one(void) {
  khonsu_db *db = testing_open();
  put_number(db, "one", 1);
  uint64_t bytes = stats_of(db).live_bytes;
  CHECK(bytes >= ROWS * sizeof(int64_t));
  khonsu_db_free(db);
  return bytes;
}

/* Snapshots hold one version each and no more, exports one batch each, and both let go of it. */
static void test_hot_key_under_readers_and_exports(void) {
  khonsu_error *error = NULL;
  const uint64_t bytes = bytes_of_one();
  khonsu_db *db = testing_open();
  khonsu_txn *readers[READERS];
  khonsu_cursor *cursors[READERS];
  struct ArrowArray exports[READERS];
  int64_t most = 0;
  for (int64_t reader = 0; reader < READERS; reader++) {
    for (int64_t round = 0; round < ROUNDS; round++) {
      put_number(db, "hot", 1000 * reader + round);
      if (arrow_testing_live_arrays() > most) most = arrow_testing_live_arrays();
    }
    readers[reader] = testing_begin_read_only(db);
    EXPECT_OK(khonsu_txn_scan(readers[reader], NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursors[reader], &error));
    get_number(readers[reader], "hot", &exports[reader]);
  }
  /* All the time, not only when asked: far fewer than were written. */
  CHECK(most < 2 * READERS * ROUNDS / 2);
  put_number(db, "hot", -1);
  khonsu_stats stats = stats_of(db);
  CHECK(stats.keys == 1 && stats.versions == READERS + 1 && stats.live_bytes == (READERS + 1) * bytes);
  CHECK(stats.pinned_bytes == READERS * bytes);
  CHECK(holds(db, READERS + 1));

  /* The transactions go before their cursors. */
  for (int64_t reader = 0; reader < READERS; reader++) {
    struct ArrowArray array;
    EXPECT_OK(khonsu_cursor_next(cursors[reader], &error));
    EXPECT_OK(khonsu_cursor_get(cursors[reader], &array, NULL, &error));
    check_number(&array, 1000 * reader + ROUNDS - 1);
    arrow_testing_release_array(&array);
    khonsu_txn_free(readers[reader]);
  }
  for (int64_t reader = 0; reader < READERS; reader++) khonsu_cursor_free(cursors[reader]);
  stats = stats_of(db);
  CHECK(stats.versions == 1 && stats.live_bytes == bytes && stats.active_transactions == 0);
  CHECK(stats.pinned_bytes == READERS * bytes);
  CHECK(holds(db, READERS + 1));

  /* One export goes, the others outlive the database. */
  arrow_testing_release_array(&exports[0]);
  CHECK(stats_of(db).pinned_bytes == (READERS - 1) * bytes && holds(db, READERS));
  khonsu_db_free(db);
  CHECK(arrow_testing_live_arrays() == 2 * (READERS - 1));
  for (int64_t reader = 1; reader < READERS; reader++) {
    check_number(&exports[reader], 1000 * reader + ROUNDS - 1);
    arrow_testing_release_array(&exports[reader]);
  }
}

/* Keys that are deleted and come back, with a cursor at each level and a stream open on what was there. */
static void test_deletes_under_cursors_and_streams(void) {
  enum { KEYS = 8 };
  static const int32_t levels[] = {KHONSU_ISOLATION_READ_COMMITTED, KHONSU_ISOLATION_REPEATABLE_READ,
                                   KHONSU_ISOLATION_SERIALIZABLE};
  khonsu_error *error = NULL;
  for (size_t level = 0; level < sizeof(levels) / sizeof(levels[0]); level++) {
    khonsu_db *db = testing_open();
    char key[16];
    for (int number = 0; number < KEYS; number++) {
      snprintf(key, sizeof(key), "key/%d", number);
      put_number(db, key, number);
    }
    khonsu_txn *reader = testing_begin_with(db, levels[level], 0);
    khonsu_cursor *cursor = NULL;
    struct ArrowArrayStream stream;
    EXPECT_OK(khonsu_txn_scan(reader, NULL, 0, NULL, 0, KHONSU_DIRECTION_REVERSE, 0, &cursor, &error));
    EXPECT_OK(khonsu_cursor_next(cursor, &error));
    EXPECT_OK(khonsu_txn_get_stream(reader, KEY("key/0"), &stream, &error));
    for (int round = 0; round < ROUNDS; round++) {
      snprintf(key, sizeof(key), "key/%d", round % KEYS);
      (void)testing_commit_delete(db, key);
      if (round % 3 != 0) put_number(db, key, 1000 + round);
    }
    khonsu_stats stats = stats_of(db);
    CHECK(stats.keys == KEYS && stats.versions <= 2 * KEYS);

    /* The cursor goes on in the state in which it was opened. */
    for (int number = KEYS - 1; number >= 0; number--) {
      struct ArrowArray array;
      EXPECT_OK(khonsu_cursor_get(cursor, &array, NULL, &error));
      check_number(&array, number);
      arrow_testing_release_array(&array);
      EXPECT(number > 0 ? KHONSU_STATUS_OK : KHONSU_STATUS_NOT_FOUND, khonsu_cursor_next(cursor, &error));
    }
    khonsu_cursor_free(cursor);
    khonsu_txn_free(reader);
    for (int number = 0; number < KEYS; number++) {
      snprintf(key, sizeof(key), "key/%d", number);
      (void)testing_commit_delete(db, key);
    }
    stats = stats_of(db);
    CHECK(stats.keys == 0 && stats.versions == 0 && stats.live_bytes == 0 && stats.active_transactions == 0);
    /* What is left is what the stream has. */
    CHECK(holds(db, 1));
    khonsu_db_free(db);
    struct ArrowArray array;
    CHECK(stream.get_next(&stream, &array) == 0);
    check_number(&array, 0);
    arrow_testing_release_stream(&stream);
    arrow_testing_release_array(&array);
  }
}

/* Values that share chunks: rows that are appended stay while some version or export has them. */
static void test_appends_under_an_export(void) {
  const uint64_t bytes = bytes_of_one();
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  struct ArrowArrayStream stream;
  for (int64_t round = 0; round < 20; round++) {
    struct ArrowArray array;
    struct ArrowSchema schema;
    khonsu_txn *txn = testing_begin(db);
    number_batch(&array, &schema, round);
    EXPECT_OK(khonsu_txn_append(txn, KEY("log"), &array, &schema, &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    if (round == 9) {
      txn = testing_begin_read_only(db);
      EXPECT_OK(khonsu_txn_get_stream(txn, KEY("log"), &stream, &error));
      khonsu_txn_free(txn);
    }
  }
  khonsu_stats stats = stats_of(db);
  CHECK(stats.versions == 1 && stats.live_bytes == 20 * bytes && holds(db, 20));
  (void)testing_commit_delete(db, "log");
  stats = stats_of(db);
  CHECK(stats.keys == 0 && stats.live_bytes == 0 && holds(db, 10));
  khonsu_db_free(db);
  for (int64_t round = 0; round < 10; round++) {
    struct ArrowArray array;
    CHECK(stream.get_next(&stream, &array) == 0);
    check_number(&array, round);
    arrow_testing_release_array(&array);
  }
  arrow_testing_release_stream(&stream);
}

int main(void) {
  RUN(test_hot_key_under_readers_and_exports);
  RUN(test_deletes_under_cursors_and_streams);
  RUN(test_appends_under_an_export);
  return testing_finish("reclamation_test");
}
