/* Range and prefix scans: bounds, order, limit, own writes, keys of any bytes, and the columns of scan_stream. */
#include "c_testing.h"

static khonsu_db *db;

static void fill(void) {
  khonsu_error *error = NULL;
  static const char *const keys[] = {"apple", "banana", "cherry", "date", "elder"};
  db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  for (int i = 0; i < 5; i++) {
    char text[16];
    snprintf(text, sizeof(text), "%d", i);
    EXPECT_OK(testing_put(txn, keys[i], text, &error));
  }
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
}

static void check_scan(khonsu_txn *txn, const char *start, const char *end, int32_t direction, uint64_t limit,
                       const char *expected, int line) {
  khonsu_error *error = NULL;
  khonsu_cursor *cursor = NULL;
  char text[1024];
  EXPECT_OK(khonsu_txn_scan(txn, start, start == NULL ? 0 : strlen(start), end, end == NULL ? 0 : strlen(end),
                            direction, limit, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  testing_check_text(expected, text, __FILE__, line, "khonsu_txn_scan");
}
#define FORWARD(start, end, limit, expected)                                                                           \
  check_scan(txn, (start), (end), KHONSU_DIRECTION_FORWARD, (limit), (expected), __LINE__)
#define REVERSE(start, end, limit, expected)                                                                           \
  check_scan(txn, (start), (end), KHONSU_DIRECTION_REVERSE, (limit), (expected), __LINE__)

static void check_prefix(khonsu_txn *txn, const char *prefix, size_t prefix_len, int32_t direction, uint64_t limit,
                         const char *expected, int line) {
  khonsu_error *error = NULL;
  khonsu_cursor *cursor = NULL;
  char text[1024];
  EXPECT_OK(khonsu_txn_scan_prefix(txn, prefix, prefix_len, direction, limit, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  testing_check_text(expected, text, __FILE__, line, "khonsu_txn_scan_prefix");
}

static void test_ranges(void) {
  fill();
  khonsu_txn *txn = testing_begin(db);
  FORWARD(NULL, NULL, 0, "apple=0 banana=1 cherry=2 date=3 elder=4");
  REVERSE(NULL, NULL, 0, "elder=4 date=3 cherry=2 banana=1 apple=0");
  FORWARD("banana", "date", 0, "banana=1 cherry=2");
  REVERSE("banana", "date", 0, "cherry=2 banana=1");
  FORWARD("bananas", "dates", 0, "cherry=2 date=3");
  REVERSE("bananas", "dates", 0, "date=3 cherry=2");
  FORWARD("cherry", NULL, 0, "cherry=2 date=3 elder=4");
  REVERSE("cherry", NULL, 0, "elder=4 date=3 cherry=2");
  FORWARD(NULL, "cherry", 0, "apple=0 banana=1");
  REVERSE(NULL, "cherry", 0, "banana=1 apple=0");
  /* empty ranges */
  FORWARD("cherry", "cherry", 0, "");
  REVERSE("cherry", "cherry", 0, "");
  FORWARD("date", "banana", 0, "");
  REVERSE("date", "banana", 0, "");
  FORWARD("f", NULL, 0, "");
  REVERSE("f", NULL, 0, "");
  FORWARD(NULL, "a", 0, "");
  REVERSE(NULL, "a", 0, "");
  FORWARD("c", "ch", 0, "");
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

static void test_limits(void) {
  fill();
  khonsu_txn *txn = testing_begin(db);
  FORWARD(NULL, NULL, 1, "apple=0");
  REVERSE(NULL, NULL, 1, "elder=4");
  FORWARD("banana", NULL, 2, "banana=1 cherry=2");
  REVERSE(NULL, "date", 2, "cherry=2 banana=1");
  FORWARD(NULL, NULL, 5, "apple=0 banana=1 cherry=2 date=3 elder=4");
  FORWARD(NULL, NULL, UINT64_MAX, "apple=0 banana=1 cherry=2 date=3 elder=4");
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

static void test_own_writes(void) {
  khonsu_error *error = NULL;
  fill();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "blueberry", "10", &error));  /* new */
  EXPECT_OK(testing_put(txn, "cherry", "20", &error));     /* replaced */
  EXPECT_OK(testing_append(txn, "date", "30", &error));    /* appended */
  EXPECT_OK(khonsu_txn_delete(txn, KEY("banana"), &error)); /* deleted */
  EXPECT_OK(testing_put(txn, "zucchini", "40", &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("zucchini"), &error)); /* here and gone */
  EXPECT_OK(khonsu_txn_delete(txn, KEY("absent"), &error));
  FORWARD(NULL, NULL, 0, "apple=0 blueberry=10 cherry=20 date=3,30 elder=4");
  REVERSE(NULL, NULL, 0, "elder=4 date=3,30 cherry=20 blueberry=10 apple=0");
  FORWARD("b", "d", 0, "blueberry=10 cherry=20");
  /* a limit counts what is seen, not what is hidden */
  FORWARD(NULL, NULL, 2, "apple=0 blueberry=10");
  REVERSE(NULL, "cherry", 2, "blueberry=10 apple=0");

  khonsu_txn *other = testing_begin(db);
  check_scan(other, NULL, NULL, KHONSU_DIRECTION_FORWARD, 0, "apple=0 banana=1 cherry=2 date=3 elder=4", __LINE__);
  khonsu_txn_free(other);

  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(db);
  FORWARD(NULL, NULL, 0, "apple=0 blueberry=10 cherry=20 date=3,30 elder=4");
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* Every key under a savepoint that is rolled back to disappears again. */
static void test_savepoints(void) {
  khonsu_error *error = NULL;
  uint64_t savepoint = 0;
  fill();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "cherry", "20", &error));
  EXPECT_OK(khonsu_txn_savepoint(txn, &savepoint, &error));
  EXPECT_OK(testing_put(txn, "cherry", "21", &error));
  EXPECT_OK(testing_put(txn, "fig", "5", &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("apple"), &error));
  FORWARD(NULL, NULL, 0, "banana=1 cherry=21 date=3 elder=4 fig=5");
  EXPECT_OK(khonsu_txn_rollback_to(txn, savepoint, &error));
  FORWARD(NULL, NULL, 0, "apple=0 banana=1 cherry=20 date=3 elder=4");
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* A snapshot's scan does not see what was committed later; read committed does. */
static void test_snapshots(void) {
  khonsu_error *error = NULL;
  fill();
  khonsu_txn *txn = testing_begin_with(db, KHONSU_ISOLATION_REPEATABLE_READ, 0);
  khonsu_txn *fresh = testing_begin_with(db, KHONSU_ISOLATION_READ_COMMITTED, 0);
  khonsu_txn *read_only = testing_begin_read_only(db);
  testing_commit_put(db, "coconut", "9");
  testing_commit_delete(db, "apple");
  testing_commit_put(db, "date", "33");
  FORWARD(NULL, NULL, 0, "apple=0 banana=1 cherry=2 date=3 elder=4");
  REVERSE(NULL, NULL, 0, "elder=4 date=3 cherry=2 banana=1 apple=0");
  check_scan(read_only, NULL, NULL, KHONSU_DIRECTION_FORWARD, 0, "apple=0 banana=1 cherry=2 date=3 elder=4", __LINE__);
  check_scan(fresh, NULL, NULL, KHONSU_DIRECTION_FORWARD, 0, "banana=1 cherry=2 coconut=9 date=33 elder=4", __LINE__);
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_txn_free(fresh);
  khonsu_txn_free(read_only);
  khonsu_db_free(db);
}

static void check_binary_keys(khonsu_cursor *cursor, const char *const *keys, const size_t *lengths, size_t count,
                              int line) {
  khonsu_error *error = NULL;
  for (size_t i = 0; i < count; i++) {
    const void *key = NULL;
    size_t key_len = 0;
    EXPECT_OK(khonsu_cursor_next(cursor, &error));
    EXPECT_OK(khonsu_cursor_key(cursor, &key, &key_len, &error));
    testing_check(key_len == lengths[i] && memcmp(key, keys[i], key_len) == 0, __FILE__, line, "key in order");
  }
  EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_cursor_next(cursor, &error));
  khonsu_cursor_free(cursor);
}

/* Keys are bytes: zeros, 0xff, prefixes of one another, the longest there can be. In order. */
static void test_binary_keys(void) {
  khonsu_error *error = NULL;
  static char longest[KHONSU_KEY_MAX_BYTES];
  memset(longest, 0xff, sizeof(longest));
  const char *keys[] = {"\0", "\0\0", "\0\0\1", "\0\1", "a", "a\0", "a\0b", "ab", "\x7f", "\x80", "\xff", "\xff\0",
                        "\xff\xff", longest};
  const size_t lengths[] = {1, 2, 3, 2, 1, 2, 3, 2, 1, 1, 1, 2, 2, sizeof(longest)};
  const size_t count = sizeof(lengths) / sizeof(lengths[0]);
  khonsu_db *binary = testing_open();
  khonsu_txn *txn = testing_begin(binary);
  for (size_t i = count; i-- > 0;) EXPECT_OK(testing_put_bytes(txn, keys[i], lengths[i], "1", &error));
  for (int round = 0; round < 2; round++) { /* staged, then committed */
    khonsu_cursor *cursor = NULL;
    EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys, lengths, count, __LINE__);
    EXPECT_OK(khonsu_txn_scan(txn, "\0\0", 2, "a\0b", 3, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys + 1, lengths + 1, 5, __LINE__);
    EXPECT_OK(khonsu_txn_scan_prefix(txn, "\0", 1, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys, lengths, 4, __LINE__);
    EXPECT_OK(khonsu_txn_scan_prefix(txn, "a\0", 2, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys + 5, lengths + 5, 2, __LINE__);
    /* A prefix of 0xff bytes has no successor of its own length. */
    EXPECT_OK(khonsu_txn_scan_prefix(txn, "\xff", 1, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys + 10, lengths + 10, 4, __LINE__);
    EXPECT_OK(khonsu_txn_scan_prefix(txn, "\xff\xff", 2, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
    check_binary_keys(cursor, keys + 12, lengths + 12, 2, __LINE__);
    EXPECT_OK(khonsu_txn_scan_prefix(txn, longest, sizeof(longest), KHONSU_DIRECTION_REVERSE, 0, &cursor, &error));
    check_binary_keys(cursor, keys + 13, lengths + 13, 1, __LINE__);
    if (round == 0) {
      EXPECT_OK(khonsu_txn_commit(txn, &error));
      khonsu_txn_free(txn);
      txn = testing_begin(binary);
    }
  }
  khonsu_txn_free(txn);
  khonsu_db_free(binary);
}

static void test_prefixes(void) {
  khonsu_error *error = NULL;
  fill();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "date palm", "6", &error));
  check_prefix(txn, "date", 4, KHONSU_DIRECTION_FORWARD, 0, "date=3 date palm=6", __LINE__);
  check_prefix(txn, "date", 4, KHONSU_DIRECTION_REVERSE, 0, "date palm=6 date=3", __LINE__);
  check_prefix(txn, "date", 4, KHONSU_DIRECTION_REVERSE, 1, "date palm=6", __LINE__);
  check_prefix(txn, "da", 2, KHONSU_DIRECTION_FORWARD, 1, "date=3", __LINE__);
  check_prefix(txn, "x", 1, KHONSU_DIRECTION_FORWARD, 0, "", __LINE__);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* A cursor sees what was staged when it was opened, or later, but never half of a write; the entry it stands on stays
 * readable while the transaction writes on. */
static void test_writing_while_scanning(void) {
  khonsu_error *error = NULL;
  khonsu_cursor *cursor = NULL;
  struct ArrowArray array;
  char text[1024];
  fill();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("banana"), &error)); /* the entry it stands on */
  EXPECT_OK(testing_put(txn, "apple", "100", &error));      /* behind it */
  EXPECT_OK(khonsu_cursor_get(cursor, &array, NULL, &error));
  text[0] = '\0';
  testing_format(&array, 0, text, sizeof(text));
  CHECK_TEXT("1", text);
  arrow_testing_release_array(&array);
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("cherry=2 date=3 elder=4", text);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- scan_stream ---- */

/* The stream as "key:value key:value", a pair a row. */
static void drain_stream(struct ArrowArrayStream *stream, char *text, size_t capacity) {
  struct ArrowSchema schema;
  struct ArrowArray array;
  text[0] = '\0';
  CHECK(stream->get_schema(stream, &schema) == 0);
  CHECK_TEXT("+s", schema.format);
  if (CHECK(schema.n_children == 2)) {
    CHECK_TEXT("key", schema.children[0]->name);
    CHECK_TEXT("z", schema.children[0]->format);
    CHECK((schema.children[0]->flags & ARROW_FLAG_NULLABLE) == 0);
    CHECK_TEXT("value", schema.children[1]->name);
    CHECK_TEXT("l", schema.children[1]->format);
    CHECK((schema.children[1]->flags & ARROW_FLAG_NULLABLE) != 0);
  }
  arrow_testing_release_schema(&schema);
  for (;;) {
    if (!CHECK(stream->get_next(stream, &array) == 0) || array.release == NULL) break;
    if (!CHECK(array.n_children == 2)) break;
    for (int64_t row = 0; row < array.length; row++) {
      const int32_t *offsets = (const int32_t *)array.children[0]->buffers[1];
      const char *bytes = (const char *)array.children[0]->buffers[2];
      int64_t position = arrow_testing_position(&array, 0, row);
      size_t used = strlen(text);
      CHECK(!arrow_testing_is_null(&array, 0, row));
      snprintf(text + used, capacity - used, "%s%.*s:%" PRId64, used == 0 ? "" : " ",
               (int)(offsets[position + 1] - offsets[position]), bytes + offsets[position],
               arrow_testing_int64_at(&array, 1, row));
    }
    arrow_testing_release_array(&array);
  }
  arrow_testing_release_stream(stream);
}

static void check_scan_stream(khonsu_txn *txn, const char *start, const char *end, int32_t direction, uint64_t limit,
                              const char *expected, int line) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  char text[1024];
  EXPECT_OK(khonsu_txn_scan_stream(txn, start, start == NULL ? 0 : strlen(start), end, end == NULL ? 0 : strlen(end),
                                   direction, limit, &stream, &error));
  if (stream.release == NULL) return;
  drain_stream(&stream, text, sizeof(text));
  testing_check_text(expected, text, __FILE__, line, "khonsu_txn_scan_stream");
}

static void test_scan_stream(void) {
  khonsu_error *error = NULL;
  fill();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_append(txn, "banana", "11,12", &error));
  EXPECT_OK(testing_put(txn, "coconut", "", &error)); /* no rows: no rows in the stream */
  EXPECT_OK(khonsu_txn_delete(txn, KEY("date"), &error));
  check_scan_stream(txn, NULL, NULL, KHONSU_DIRECTION_FORWARD, 0,
                    "apple:0 banana:1 banana:11 banana:12 cherry:2 elder:4", __LINE__);
  check_scan_stream(txn, "b", "c", KHONSU_DIRECTION_FORWARD, 0, "banana:1 banana:11 banana:12", __LINE__);
  /* the limit counts keys, and the rows of a key keep their order when keys go backwards */
  check_scan_stream(txn, NULL, "cherry", KHONSU_DIRECTION_REVERSE, 0, "banana:1 banana:11 banana:12 apple:0",
                    __LINE__);
  check_scan_stream(txn, NULL, NULL, KHONSU_DIRECTION_FORWARD, 2, "apple:0 banana:1 banana:11 banana:12", __LINE__);
  check_scan_stream(txn, NULL, NULL, KHONSU_DIRECTION_REVERSE, 1, "elder:4", __LINE__);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* Two schemas in one range: no stream, or one that ends in an error with a message; never a mixture. */
static void test_scan_stream_of_two_schemas(void) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  int64_t value = 1;
  fill();
  khonsu_txn *txn = testing_begin(db);
  arrow_testing_int64_batch(&array, &schema, "other", &value, 1);
  EXPECT_OK(khonsu_txn_put(txn, KEY("coconut"), &array, &schema, &error));
  khonsu_status status = khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error);
  if (status == KHONSU_STATUS_OK) {
    int code = 0;
    do {
      code = stream.get_next(&stream, &array);
      if (code == 0 && !CHECK(array.release != NULL)) break; /* the end must not be reached */
      if (code == 0) arrow_testing_release_array(&array);
    } while (code == 0);
    if (code != 0) {
      const char *message = stream.get_last_error(&stream);
      CHECK(message != NULL && message[0] != '\0');
    }
    arrow_testing_release_stream(&stream);
  } else {
    testing_check_status(KHONSU_STATUS_SCHEMA_MISMATCH, status, error, __FILE__, __LINE__, "khonsu_txn_scan_stream");
    CHECK(stream.release == NULL);
  }
  khonsu_error_free(error);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* Thousands of keys of many rows: every one once, in order, whatever the stream makes of the batches. */
static void test_large_scan_stream(void) {
  enum { KEYS = 3000 };
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  struct ArrowArray array;
  khonsu_db *large = testing_open();
  khonsu_txn *txn = testing_begin(large);
  for (int i = 0; i < KEYS; i++) {
    char key[16];
    char text[32];
    snprintf(key, sizeof(key), "%05d", i);
    snprintf(text, sizeof(text), "%d,%d", 2 * i, 2 * i + 1);
    EXPECT_OK(testing_put(txn, key, text, &error));
  }
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(large);
  EXPECT_OK(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  int64_t next = 0;
  bool in_order = true;
  while (stream.release != NULL && stream.get_next(&stream, &array) == 0 && array.release != NULL) {
    for (int64_t row = 0; row < array.length; row++, next++) {
      char key[16];
      snprintf(key, sizeof(key), "%05d", (int)(next / 2));
      in_order = in_order && arrow_testing_int64_at(&array, 1, row) == next &&
                 arrow_testing_binary_equals(&array, 0, row, key, 5);
    }
    arrow_testing_release_array(&array);
  }
  CHECK(in_order);
  CHECK(next == 2 * KEYS);
  arrow_testing_release_stream(&stream);
  khonsu_txn_free(txn);
  khonsu_db_free(large);
}

int main(void) {
  RUN(test_ranges);
  RUN(test_limits);
  RUN(test_own_writes);
  RUN(test_savepoints);
  RUN(test_snapshots);
  RUN(test_binary_keys);
  RUN(test_prefixes);
  RUN(test_writing_while_scanning);
  RUN(test_scan_stream);
  RUN(test_scan_stream_of_two_schemas);
  RUN(test_large_scan_stream);
  return testing_finish("scan_test");
}
