/* Calls in the wrong state: after the end of a transaction, in a read-only one, before and after a cursor's entries, from
 * inside another call; and handles freed in every order, with what they gave still in use. */
#include "c_testing.h"

#include <pthread.h>

/* ---- ended transactions ---- */

/* Every call on a transaction that has ended. */
static void check_ended(khonsu_txn *txn, khonsu_cursor *cursor, bool committed) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  khonsu_schema *handle = NULL;
  khonsu_cursor *another = NULL;
  const void *key = NULL;
  size_t key_len = 0;
  uint64_t number = 77;
  bool exists = true;
  testing_batch(NULL, &schema, "");
  EXPECT_OK(khonsu_schema_import(&schema, &handle, &error));

  EXPECT_INVALID_STATE(khonsu_txn_get(txn, KEY("key"), &array, &schema, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get(txn, KEY("absent"), &array, &schema, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get_with_schema(txn, KEY("key"), handle, &array, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get_stream(txn, KEY("key"), &stream, &error));
  EXPECT_INVALID_STATE(khonsu_txn_exists(txn, KEY("key"), &exists, &error));
  CHECK(exists);
  EXPECT_INVALID_STATE(testing_put(txn, "key", "9", &error));
  testing_batch(&array, NULL, "9");
  EXPECT_INVALID_STATE(khonsu_txn_put_with_schema(txn, KEY("key"), &array, handle, &error));
  testing_batch(&array, &schema, "9");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_STATE(khonsu_txn_put_stream(txn, KEY("key"), &stream, &error));
  EXPECT_INVALID_STATE(testing_append(txn, "key", "9", &error));
  testing_batch(&array, NULL, "9");
  EXPECT_INVALID_STATE(khonsu_txn_append_with_schema(txn, KEY("key"), &array, handle, &error));
  EXPECT_INVALID_STATE(khonsu_txn_delete(txn, KEY("key"), &error));
  EXPECT_INVALID_STATE(
      khonsu_txn_set_conflict_resolution(txn, KEY("key"), KHONSU_CONFLICT_RESOLUTION_REPLACE, &error));
  EXPECT_INVALID_STATE(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &another, &error));
  CHECK(another == NULL);
  EXPECT_INVALID_STATE(khonsu_txn_scan_prefix(txn, "k", 1, KHONSU_DIRECTION_FORWARD, 0, &another, &error));
  EXPECT_INVALID_STATE(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  EXPECT_INVALID_STATE(khonsu_txn_savepoint(txn, &number, &error));
  EXPECT_INVALID_STATE(khonsu_txn_rollback_to(txn, 1, &error));
  EXPECT_INVALID_STATE(khonsu_txn_release(txn, 1, &error));
  EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
  EXPECT_INVALID_STATE(khonsu_txn_rollback(txn, &error));
  if (!committed) EXPECT_INVALID_STATE(khonsu_txn_commit_version(txn, &number, &error));
  CHECK(number == 77);

  EXPECT_INVALID_STATE(khonsu_cursor_next(cursor, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_key(cursor, &key, &key_len, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_get(cursor, &array, &schema, &error));
  CHECK(array.release == NULL);
  khonsu_schema_free(handle);
}

static void test_use_after_the_end(void) {
  khonsu_error *error = NULL;
  /* 0: committed, 1: rolled back, 2: failed to commit, 3: committed without a write, 4: read-only */
  for (int way = 0; way < 5; way++) {
    khonsu_db *db = testing_open();
    khonsu_cursor *cursor = NULL;
    uint64_t version = 77;
    testing_commit_put(db, "key", "1");
    khonsu_txn *txn = way == 4 ? testing_begin_read_only(db) : testing_begin(db);
    EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    EXPECT_OK(khonsu_cursor_next(cursor, &error));
    if (way < 3) EXPECT_OK(testing_put(txn, "key", "2", &error));
    EXPECT_INVALID_STATE(khonsu_txn_commit_version(txn, &version, &error));
    CHECK(version == 77);
    switch (way) {
      case 1: EXPECT_OK(khonsu_txn_rollback(txn, &error)); break;
      case 2:
        testing_commit_put(db, "key", "3");
        EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
        break;
      default: EXPECT_OK(khonsu_txn_commit(txn, &error)); break;
    }
    bool committed = way != 1 && way != 2;
    check_ended(txn, cursor, committed);
    if (committed) {
      EXPECT_OK(khonsu_txn_commit_version(txn, &version, &error));
      CHECK(version != 77);
    }
    khonsu_cursor_free(cursor);
    khonsu_txn_free(txn);
    CHECK_COMMITTED(db, "key", way == 0 ? "2" : way == 2 ? "3" : "1");
    khonsu_db_free(db);
  }
}

static void test_read_only(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  uint64_t savepoint = 0;
  testing_commit_put(db, "key", "1");
  khonsu_txn *txn = testing_begin_read_only(db);
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  EXPECT_INVALID_STATE(testing_put(txn, "key", "2", &error));
  EXPECT_INVALID_STATE(testing_append(txn, "key", "2", &error));
  testing_batch(&array, &schema, "2");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_STATE(khonsu_txn_put_stream(txn, KEY("key"), &stream, &error));
  EXPECT_INVALID_STATE(khonsu_txn_delete(txn, KEY("key"), &error));
  EXPECT(KHONSU_STATUS_NOT_FOUND,
         khonsu_txn_set_conflict_resolution(txn, KEY("key"), KHONSU_CONFLICT_RESOLUTION_REPLACE, &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &savepoint, &error));
  EXPECT_OK(khonsu_txn_rollback_to(txn, savepoint, &error));
  CHECK_VALUE(txn, "key", "1");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  CHECK_COMMITTED(db, "key", "1");
  khonsu_db_free(db);
}

/* ---- savepoints ---- */

static void test_savepoints(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  uint64_t first = 0;
  uint64_t second = 0;
  uint64_t third = 0;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(txn, 0, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(txn, 12345, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_release(txn, UINT64_MAX, &error));

  EXPECT_OK(testing_put(txn, "key", "0", &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &first, &error));
  EXPECT_OK(testing_put(txn, "key", "1", &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &second, &error));
  EXPECT_OK(testing_append(txn, "key", "2", &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &third, &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("key"), &error));
  CHECK(first != second && second != third && first != third);
  CHECK_VALUE(txn, "key", "absent");

  EXPECT_OK(khonsu_txn_rollback_to(txn, third, &error));
  CHECK_VALUE(txn, "key", "1,2");
  EXPECT_OK(testing_put(txn, "key", "5", &error));
  EXPECT_OK(khonsu_txn_rollback_to(txn, third, &error)); /* it stays */
  CHECK_VALUE(txn, "key", "1,2");
  EXPECT_OK(khonsu_txn_release(txn, third, &error));
  CHECK_VALUE(txn, "key", "1,2");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(txn, third, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_release(txn, third, &error));

  EXPECT_OK(khonsu_txn_rollback_to(txn, first, &error));
  CHECK_VALUE(txn, "key", "0");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(txn, second, &error)); /* later ones are gone */
  EXPECT_OK(testing_put(txn, "key", "7", &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &second, &error));
  EXPECT_OK(testing_put(txn, "key", "8", &error));
  EXPECT_OK(khonsu_txn_release(txn, first, &error)); /* and with it the later one, but not the writes */
  EXPECT_INVALID_ARGUMENT(khonsu_txn_release(txn, second, &error));
  CHECK_VALUE(txn, "key", "8");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  CHECK_COMMITTED(db, "key", "8");

  /* One of another transaction is none of this one. */
  khonsu_txn *one = testing_begin(db);
  khonsu_txn *other = testing_begin(db);
  for (int i = 0; i < 3; i++) EXPECT_OK(khonsu_txn_savepoint(one, &first, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(other, first, &error));
  khonsu_txn_free(one);
  khonsu_txn_free(other);
  khonsu_db_free(db);
}

/* ---- cursors ---- */

static void test_positions_of_a_cursor(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  khonsu_cursor *cursor = NULL;
  struct ArrowArray array;
  const void *key = NULL;
  size_t key_len = 77;
  EXPECT_OK(testing_put(txn, "a", "1", &error));
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_key(cursor, &key, &key_len, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_get(cursor, &array, NULL, &error));
  CHECK(key == NULL && key_len == 77);
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  for (int i = 0; i < 2; i++) { /* looking does not move it */
    EXPECT_OK(khonsu_cursor_key(cursor, &key, &key_len, &error));
    CHECK(key_len == 1 && *(const char *)key == 'a');
    EXPECT_OK(khonsu_cursor_get(cursor, &array, NULL, &error));
    arrow_testing_release_array(&array);
  }
  for (int i = 0; i < 3; i++) {
    EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_cursor_next(cursor, &error));
    EXPECT_INVALID_STATE(khonsu_cursor_key(cursor, &key, &key_len, &error));
    EXPECT_INVALID_STATE(khonsu_cursor_get(cursor, &array, NULL, &error));
    CHECK(array.release == NULL);
  }
  khonsu_cursor_free(cursor);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* Many at once over one transaction, each at its own place. */
static void test_several_cursors(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  khonsu_cursor *forward = NULL;
  khonsu_cursor *reverse = NULL;
  char text[64];
  EXPECT_OK(testing_put(txn, "a", "1", &error));
  EXPECT_OK(testing_put(txn, "b", "2", &error));
  EXPECT_OK(testing_put(txn, "c", "3", &error));
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &forward, &error));
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_REVERSE, 0, &reverse, &error));
  EXPECT_OK(khonsu_cursor_next(forward, &error));
  EXPECT_OK(khonsu_cursor_next(reverse, &error));
  EXPECT_OK(khonsu_cursor_next(reverse, &error));
  testing_drain(forward, text, sizeof(text));
  CHECK_TEXT("b=2 c=3", text);
  testing_drain(reverse, text, sizeof(text));
  CHECK_TEXT("a=1", text);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- inside khonsu_db_transact ---- */

static int32_t ends_it_itself(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  int *runs = (int *)context;
  uint64_t version = 0;
  ++*runs;
  EXPECT_OK(testing_put(txn, "key", "1", &error));
  EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
  EXPECT_INVALID_STATE(khonsu_txn_rollback(txn, &error));
  EXPECT_INVALID_STATE(khonsu_txn_commit_version(txn, &version, &error));
  khonsu_txn_free(txn);
  khonsu_txn_free(txn);
  CHECK_VALUE(txn, "key", "1");
  EXPECT_OK(testing_put(txn, "key", "2", &error));
  return KHONSU_STATUS_OK;
}

static void test_ending_a_lent_transaction(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  int runs = 0;
  EXPECT_OK(khonsu_db_transact(db, NULL, ends_it_itself, &runs, NULL, &error));
  CHECK(runs == 1);
  CHECK_COMMITTED(db, "key", "2");
  khonsu_db_free(db);
}

static int32_t leaves_a_cursor(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  khonsu_cursor **cursor = (khonsu_cursor **)context;
  EXPECT_OK(testing_put(txn, "key", "1", &error));
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, cursor, &error));
  EXPECT_OK(khonsu_cursor_next(*cursor, &error));
  return KHONSU_STATUS_OK;
}

static void test_cursor_that_outlives_a_lent_transaction(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_cursor *cursor = NULL;
  struct ArrowArray array;
  EXPECT_OK(khonsu_db_transact(db, NULL, leaves_a_cursor, &cursor, NULL, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_next(cursor, &error));
  EXPECT_INVALID_STATE(khonsu_cursor_get(cursor, &array, NULL, &error));
  khonsu_db_free(db);
  khonsu_cursor_free(cursor);
}

/* ---- from inside another call ---- */

struct intruder {
  khonsu_db *db;
  khonsu_txn *txn;
  khonsu_cursor *cursor;
  struct ArrowArray original;
  int calls;
  bool frees;
  bool elsewhere;
  bool may_succeed;
};

static void use_it(struct intruder *intruder) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  bool exists = false;
  intruder->calls++;
  if (intruder->db != NULL) { /* the database is free for use, and so are other transactions */
    CHECK_COMMITTED(intruder->db, "committed", "1");
    testing_commit_put(intruder->db, "inside", "2");
  }
  if (intruder->txn == NULL) return;
  if (intruder->may_succeed) {
    khonsu_status status = khonsu_txn_exists(intruder->txn, KEY("key"), &exists, NULL);
    CHECK(status == KHONSU_STATUS_OK || status == KHONSU_STATUS_INVALID_STATE);
    return;
  }
  EXPECT_INVALID_STATE(khonsu_txn_get(intruder->txn, KEY("key"), &array, &schema, &error));
  EXPECT_INVALID_STATE(khonsu_txn_exists(intruder->txn, KEY("key"), &exists, &error));
  EXPECT_INVALID_STATE(testing_put(intruder->txn, "key", "9", &error));
  EXPECT_INVALID_STATE(khonsu_txn_delete(intruder->txn, KEY("key"), &error));
  EXPECT_INVALID_STATE(khonsu_txn_commit(intruder->txn, &error));
  EXPECT_INVALID_STATE(khonsu_txn_rollback(intruder->txn, &error));
  if (intruder->cursor != NULL) {
    EXPECT_INVALID_STATE(khonsu_cursor_next(intruder->cursor, &error));
  }
  if (intruder->frees) khonsu_txn_free(intruder->txn);
}

static void *use_it_elsewhere(void *argument) {
  use_it((struct intruder *)argument);
  return NULL;
}

static int intruding_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out) {
  (void)stream;
  testing_batch(NULL, out, "");
  return 0;
}

static int intruding_next(struct ArrowArrayStream *stream, struct ArrowArray *out) {
  struct intruder *intruder = (struct intruder *)stream->private_data;
  memset(out, 0, sizeof(*out));
  if (intruder->calls > 0) return 0;
  if (intruder->elsewhere) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_it_elsewhere, intruder) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  } else {
    use_it(intruder);
  }
  testing_batch(out, NULL, "4,5");
  return 0;
}

static void intruding_stream_release(struct ArrowArrayStream *stream) { stream->release = NULL; }

static void test_use_from_get_next(void) {
  khonsu_error *error = NULL;
  for (int way = 0; way < 3; way++) {
    khonsu_db *db = testing_open();
    testing_commit_put(db, "committed", "1");
    struct intruder intruder;
    memset(&intruder, 0, sizeof(intruder));
    intruder.db = db;
    intruder.txn = testing_begin(db);
    intruder.elsewhere = way == 1;
    intruder.frees = way == 2;
    EXPECT_OK(khonsu_txn_scan(intruder.txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &intruder.cursor, &error));
    struct ArrowArrayStream stream;
    memset(&stream, 0, sizeof(stream));
    stream.get_schema = intruding_schema;
    stream.get_next = intruding_next;
    stream.release = intruding_stream_release;
    stream.private_data = &intruder;
    EXPECT_OK(khonsu_txn_put_stream(intruder.txn, KEY("key"), &stream, &error));
    CHECK(stream.release == NULL);
    CHECK(intruder.calls == 1);
    if (intruder.frees) {
      /* The free took effect at the end of the call: the transaction is rolled back and gone. */
      EXPECT_INVALID_STATE(khonsu_cursor_next(intruder.cursor, &error));
      CHECK_COMMITTED(db, "key", "absent");
    } else {
      CHECK_VALUE(intruder.txn, "key", "4,5");
      EXPECT_OK(khonsu_txn_commit(intruder.txn, &error));
      khonsu_txn_free(intruder.txn);
      CHECK_COMMITTED(db, "key", "4,5");
    }
    CHECK_COMMITTED(db, "inside", "2");
    khonsu_cursor_free(intruder.cursor);
    khonsu_db_free(db);
  }
}

static void intruding_release(struct ArrowArray *array) {
  struct intruder *intruder = (struct intruder *)array->private_data;
  intruder->original.release(&intruder->original);
  array->release = NULL;
  use_it(intruder);
}

static void intruding_batch(struct intruder *intruder, struct ArrowArray *array, struct ArrowSchema *schema,
                            int64_t rows) {
  int64_t *values = (int64_t *)arrow_testing_allocate((size_t)rows * sizeof(int64_t));
  arrow_testing_int64_batch(array, schema, "value", values, rows);
  free(values);
  intruder->original = *array;
  array->private_data = intruder;
  array->release = intruding_release;
}

/* From the release of a batch, wherever the library calls it: no crash, no deadlock. The transaction may be in use by
 * the call that releases, or not be any more; which of the two is not promised. */
static void test_use_from_release(void) {
  enum { PUT_OVER, DELETE, ROLLBACK, COMMIT, FREE, WAYS };
  static const int64_t sizes[] = {3, 5000}; /* small batches may be copied and released at once */
  khonsu_error *error = NULL;
  for (int size = 0; size < 2; size++) {
    for (int way = 0; way < WAYS; way++) {
      struct ArrowArray array;
      struct ArrowSchema schema;
      struct intruder intruder;
      khonsu_db *db = testing_open();
      khonsu_txn *txn = testing_begin(db);
      testing_commit_put(db, "committed", "1");
      memset(&intruder, 0, sizeof(intruder));
      intruder.db = db;
      intruder.txn = txn;
      intruder.may_succeed = true;
      intruding_batch(&intruder, &array, &schema, sizes[size]);
      EXPECT_OK(khonsu_txn_put(txn, KEY("key"), &array, &schema, &error));
      switch (way) {
        case PUT_OVER: EXPECT_OK(testing_put(txn, "key", "7", &error)); break;
        case DELETE: EXPECT_OK(khonsu_txn_delete(txn, KEY("key"), &error)); break;
        case ROLLBACK: EXPECT_OK(khonsu_txn_rollback(txn, &error)); break;
        case COMMIT: EXPECT_OK(khonsu_txn_commit(txn, &error)); break;
        default: break;
      }
      if (way != COMMIT && way != FREE) CHECK(intruder.calls == 1);
      intruder.txn = NULL; /* not to be used from inside its own free */
      khonsu_txn_free(txn);
      if (way != COMMIT) CHECK(intruder.calls == 1);
      intruder.db = NULL;
      khonsu_db_free(db);
      CHECK(intruder.calls == 1);
    }
  }
}

/* The same for a batch that is refused, and released by the call that refuses it. */
static void test_use_from_release_of_refused(void) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct intruder intruder;
  khonsu_db *db = testing_open();
  testing_commit_put(db, "committed", "1");
  memset(&intruder, 0, sizeof(intruder));
  intruder.db = db;
  intruder.txn = testing_begin(db);
  intruder.may_succeed = true;
  intruding_batch(&intruder, &array, &schema, 3);
  array.length = -1;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put(intruder.txn, KEY("key"), &array, &schema, &error));
  CHECK(intruder.calls == 1);
  CHECK_VALUE(intruder.txn, "key", "absent");
  EXPECT_OK(khonsu_txn_commit(intruder.txn, &error));
  khonsu_txn_free(intruder.txn);
  khonsu_db_free(db);
}

/* ---- frees in every order ---- */

static void test_any_order_of_free(void) {
  enum { DATABASE, TRANSACTION, CURSOR, SCHEMA, ARRAY, STREAM, SCAN_STREAM, ERROR_OBJECT, KINDS };
  /* Each rotation in both directions: every kind is freed before and after every other one. */
  for (int rotation = 0; rotation < KINDS; rotation++) {
    for (int backwards = 0; backwards < 2; backwards++) {
      for (int ending = 0; ending < 3; ending++) {
        khonsu_error *error = NULL;
        khonsu_db *db = testing_open();
        testing_commit_put(db, "a", "1,2");
        khonsu_txn *txn = testing_begin(db);
        khonsu_cursor *cursor = NULL;
        khonsu_schema *handle = NULL;
        struct ArrowArray array;
        struct ArrowSchema schema;
        struct ArrowArrayStream stream;
        struct ArrowArrayStream scan_stream;
        EXPECT_OK(testing_put(txn, "b", "3", &error));
        EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
        EXPECT_OK(khonsu_cursor_next(cursor, &error));
        EXPECT_OK(khonsu_txn_get(txn, KEY("a"), &array, &schema, &error));
        EXPECT_OK(khonsu_schema_import(&schema, &handle, &error));
        EXPECT_OK(khonsu_txn_get_stream(txn, KEY("b"), &stream, &error));
        EXPECT_OK(
            khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &scan_stream, &error));
        if (ending == 1) EXPECT_OK(khonsu_txn_commit(txn, &error));
        if (ending == 2) EXPECT_OK(khonsu_txn_rollback(txn, &error));
        EXPECT_KEEP(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_delete(NULL, KEY("a"), &error));
        for (int step = 0; step < KINDS; step++) {
          int position = backwards ? KINDS - 1 - step : step;
          char text[64] = "";
          switch ((position + rotation) % KINDS) {
            case DATABASE: khonsu_db_free(db); break;
            case TRANSACTION: khonsu_txn_free(txn); break;
            case CURSOR: khonsu_cursor_free(cursor); break;
            case SCHEMA: khonsu_schema_free(handle); break;
            case ARRAY:
              testing_format(&array, 0, text, sizeof(text));
              CHECK_TEXT("1,2", text);
              arrow_testing_release_array(&array);
              break;
            case STREAM: {
              struct ArrowArray batch;
              CHECK(stream.get_next(&stream, &batch) == 0);
              testing_format(&batch, 0, text, sizeof(text));
              CHECK_TEXT("3", text);
              arrow_testing_release_stream(&stream);
              arrow_testing_release_array(&batch);
              break;
            }
            case SCAN_STREAM: {
              struct ArrowArray batch;
              CHECK(scan_stream.get_next(&scan_stream, &batch) == 0);
              if (CHECK(batch.length >= 1)) CHECK(arrow_testing_binary_equals(&batch, 0, 0, "a", 1));
              arrow_testing_release_stream(&scan_stream);
              arrow_testing_release_array(&batch);
              break;
            }
            default:
              CHECK(khonsu_error_message(error)[0] != '\0');
              khonsu_error_free(error);
              error = NULL;
              break;
          }
        }
        CHECK_NOTHING_LIVE();
      }
    }
  }
}

/* A transaction goes on when its database handle is gone. */
static void test_database_freed_first(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  testing_commit_put(db, "key", "1");
  khonsu_txn *first = testing_begin(db);
  khonsu_txn *second = testing_begin(db);
  khonsu_txn *reader = testing_begin_read_only(db);
  khonsu_db_free(db);
  EXPECT_OK(testing_put(first, "key", "2", &error));
  EXPECT_OK(testing_put(second, "key", "3", &error));
  EXPECT_OK(khonsu_txn_commit(first, &error));
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(second, &error));
  CHECK_VALUE(reader, "key", "1");
  khonsu_txn_free(first);
  khonsu_txn_free(second);
  khonsu_txn_free(reader);
}

/* A transaction may move from thread to thread. */
struct moved {
  khonsu_txn *txn;
  khonsu_cursor *cursor;
};

static void *write_here(void *argument) {
  khonsu_error *error = NULL;
  struct moved *moved = (struct moved *)argument;
  EXPECT_OK(khonsu_cursor_next(moved->cursor, &error));
  EXPECT_OK(testing_put(moved->txn, "there", "2", &error));
  return NULL;
}

static void *end_here(void *argument) {
  khonsu_error *error = NULL;
  struct moved *moved = (struct moved *)argument;
  EXPECT_OK(khonsu_txn_commit(moved->txn, &error));
  khonsu_txn_free(moved->txn);
  khonsu_cursor_free(moved->cursor);
  return NULL;
}

static void test_moving_between_threads(void) {
  khonsu_error *error = NULL;
  pthread_t thread;
  struct moved moved;
  khonsu_db *db = testing_open();
  moved.txn = testing_begin(db);
  EXPECT_OK(testing_put(moved.txn, "here", "1", &error));
  EXPECT_OK(khonsu_txn_scan(moved.txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &moved.cursor, &error));
  CHECK(pthread_create(&thread, NULL, write_here, &moved) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_VALUE(moved.txn, "there", "2");
  CHECK(pthread_create(&thread, NULL, end_here, &moved) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_COMMITTED(db, "here", "1");
  CHECK_COMMITTED(db, "there", "2");
  khonsu_db_free(db);
}

int main(void) {
  RUN(test_use_after_the_end);
  RUN(test_read_only);
  RUN(test_savepoints);
  RUN(test_positions_of_a_cursor);
  RUN(test_several_cursors);
  RUN(test_ending_a_lent_transaction);
  RUN(test_cursor_that_outlives_a_lent_transaction);
  RUN(test_use_from_get_next);
  RUN(test_use_from_release);
  RUN(test_use_from_release_of_refused);
  RUN(test_any_order_of_free);
  RUN(test_database_freed_first);
  RUN(test_moving_between_threads);
  return testing_finish("state_test");
}
