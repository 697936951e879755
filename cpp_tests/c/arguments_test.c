/* Arguments that are out of range: NULL for what is required, keys and numbers that are none, sizes of out structs,
 * calls without an error out-parameter, and free of NULL. Nothing crashes, and every call says what it refuses. */
#include "c_testing.h"

#define WRONG_NUMBERS 5
static const int32_t wrong_numbers[WRONG_NUMBERS] = {-1, 99, 1000, INT32_MAX, INT32_MIN};

static khonsu_db *db;
static khonsu_txn *txn;
static khonsu_schema *schema_handle;

static void setup(void) {
  khonsu_error *error = NULL;
  struct ArrowSchema schema;
  db = testing_open();
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "key", "1,2,3", &error));
  testing_batch(NULL, &schema, "");
  EXPECT_OK(khonsu_schema_import(&schema, &schema_handle, &error));
}

static void teardown(void) {
  khonsu_error *error = NULL;
  CHECK_VALUE(txn, "key", "1,2,3");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_schema_free(schema_handle);
  CHECK_COMMITTED(db, "key", "1,2,3");
  khonsu_db_free(db);
}

static int32_t must_not_run(khonsu_txn *unused, void *context) {
  (void)unused;
  (void)context;
  CHECK(false);
  return KHONSU_STATUS_OK;
}

static void test_null_receivers(void) {
  khonsu_error *error = NULL;
  khonsu_cursor *cursor = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  khonsu_stats stats;
  uint64_t number = 77;
  bool exists = true;
  const void *key = "untouched";
  size_t key_len = 77;
  setup();

  EXPECT_INVALID_ARGUMENT(khonsu_options_set_isolation(NULL, KHONSU_ISOLATION_SERIALIZABLE, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_conflict_resolution(NULL, KHONSU_CONFLICT_RESOLUTION_FAIL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_max_transaction_bytes(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_max_total_bytes(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_memory_budget(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_full_validation(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_isolation(NULL, KHONSU_ISOLATION_SERIALIZABLE, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_conflict_resolution(NULL, KHONSU_CONFLICT_RESOLUTION_FAIL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_read_only(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_max_bytes(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_max_attempts(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_timeout_ms(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_backoff_us(NULL, 1, 2, &error));

  khonsu_txn *begun = (khonsu_txn *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_db_begin(NULL, NULL, &begun, &error));
  CHECK(begun == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_db_transact(NULL, NULL, must_not_run, NULL, &number, &error));
  CHECK(number == 77);
  EXPECT_INVALID_ARGUMENT(khonsu_db_stats(NULL, &stats, sizeof(stats), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_sync(NULL, &error));

  EXPECT_INVALID_ARGUMENT(khonsu_txn_get(NULL, KEY("key"), &array, &schema, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_with_schema(NULL, KEY("key"), schema_handle, &array, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_stream(NULL, KEY("key"), &stream, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_exists(NULL, KEY("key"), &exists, &error));
  CHECK(exists);
  testing_batch(&array, &schema, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put(NULL, KEY("key"), &array, &schema, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(NULL, KEY("key"), &array, schema_handle, &error));
  testing_batch(&array, &schema, "1");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_stream(NULL, KEY("key"), &stream, &error));
  testing_batch(&array, &schema, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append(NULL, KEY("key"), &array, &schema, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append_with_schema(NULL, KEY("key"), &array, schema_handle, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_delete(NULL, KEY("key"), &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_txn_set_conflict_resolution(NULL, KEY("key"), KHONSU_CONFLICT_RESOLUTION_FAIL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(NULL, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_prefix(NULL, "k", 1, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_txn_scan_stream(NULL, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_savepoint(NULL, &number, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback_to(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_release(NULL, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_commit(NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_rollback(NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_commit_version(NULL, &number, &error));
  CHECK(number == 77);

  EXPECT_INVALID_ARGUMENT(khonsu_cursor_next(NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_key(NULL, &key, &key_len, &error));
  CHECK_TEXT("untouched", (const char *)key);
  CHECK(key_len == 77);
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_get(NULL, &array, &schema, &error));

  EXPECT_INVALID_ARGUMENT(khonsu_schema_export(NULL, &schema, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_ipc_open_stream(NULL, &stream, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_ipc_open_stream("", &stream, &error));
  testing_batch(&array, &schema, "1");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_ARGUMENT(
      khonsu_ipc_write_stream(NULL, &stream, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE, &error));
  CHECK(stream.release == NULL);
  testing_batch(&array, &schema, "1");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_ARGUMENT(
      khonsu_ipc_write_stream("", &stream, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE, &error));
  CHECK(stream.release == NULL);
  teardown();
}

static void test_null_inputs_and_outs(void) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  const void *key = "untouched";
  size_t key_len = 77;
  khonsu_cursor *cursor = NULL;
  setup();

  EXPECT_INVALID_ARGUMENT(khonsu_db_open(NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_begin(db, NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_transact(db, NULL, NULL, NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_stats(db, NULL, sizeof(khonsu_stats), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get(txn, KEY("key"), NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get(txn, KEY("key"), NULL, &schema, &error));
  CHECK(schema.release == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_with_schema(txn, KEY("key"), schema_handle, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_with_schema(txn, KEY("key"), NULL, &array, &error));
  CHECK(array.release == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_stream(txn, KEY("key"), NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_exists(txn, KEY("key"), NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put(txn, KEY("key"), NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, KEY("key"), NULL, schema_handle, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, KEY("key"), &array, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_stream(txn, KEY("key"), NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append(txn, KEY("key"), NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append_with_schema(txn, KEY("key"), NULL, schema_handle, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append_with_schema(txn, KEY("key"), &array, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_prefix(txn, "k", 1, KHONSU_DIRECTION_FORWARD, 0, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_savepoint(txn, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_commit_version(txn, NULL, &error));

  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_key(cursor, NULL, &key_len, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_key(cursor, &key, NULL, &error));
  CHECK_TEXT("untouched", (const char *)key);
  CHECK(key_len == 77);
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_get(cursor, NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_cursor_get(cursor, NULL, &schema, &error));
  CHECK(schema.release == NULL);
  EXPECT_OK(khonsu_cursor_key(cursor, &key, &key_len, &error));
  CHECK(key_len == 3);
  khonsu_cursor_free(cursor);

  khonsu_schema *imported = NULL;
  EXPECT_INVALID_ARGUMENT(khonsu_schema_import(NULL, &imported, &error));
  testing_batch(NULL, &schema, "");
  EXPECT_INVALID_ARGUMENT(khonsu_schema_import(&schema, NULL, &error));
  CHECK(schema.release == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_schema_export(schema_handle, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_ipc_open_stream("/nowhere", NULL, &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_ipc_write_stream("/nowhere", NULL, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE, &error));
  teardown();
}

/* ---- keys ---- */

static void check_key_refused(const void *key, size_t key_len) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  bool exists = false;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get(txn, key, key_len, &array, &schema, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_with_schema(txn, key, key_len, schema_handle, &array, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_stream(txn, key, key_len, &stream, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_exists(txn, key, key_len, &exists, &error));
  testing_batch(&array, &schema, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put(txn, key, key_len, &array, &schema, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, key, key_len, &array, schema_handle, &error));
  testing_batch(&array, &schema, "1");
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_stream(txn, key, key_len, &stream, &error));
  testing_batch(&array, &schema, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append(txn, key, key_len, &array, &schema, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_append_with_schema(txn, key, key_len, &array, schema_handle, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_delete(txn, key, key_len, &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_txn_set_conflict_resolution(txn, key, key_len, KHONSU_CONFLICT_RESOLUTION_FAIL, &error));
}

static void test_keys(void) {
  khonsu_error *error = NULL;
  char *longest = (char *)arrow_testing_allocate(KHONSU_KEY_MAX_BYTES + 1);
  memset(longest, 'k', KHONSU_KEY_MAX_BYTES + 1);
  setup();
  check_key_refused(NULL, 0);
  check_key_refused("key", 0);
  check_key_refused(NULL, 1);
  check_key_refused(NULL, SIZE_MAX);
  check_key_refused(longest, KHONSU_KEY_MAX_BYTES + 1);
  check_key_refused("key", SIZE_MAX);
  check_key_refused("key", (size_t)1 << 40);

  /* The longest and the shortest one there are. */
  EXPECT_OK(testing_put_bytes(txn, longest, KHONSU_KEY_MAX_BYTES, "4", &error));
  EXPECT_OK(testing_put_bytes(txn, "", 1, "5", &error)); /* one byte, 0 */
  bool exists = false;
  EXPECT_OK(khonsu_txn_exists(txn, longest, KHONSU_KEY_MAX_BYTES, &exists, &error));
  CHECK(exists);
  EXPECT_OK(khonsu_txn_exists(txn, longest, KHONSU_KEY_MAX_BYTES - 1, &exists, &error));
  CHECK(!exists);
  EXPECT_OK(khonsu_txn_exists(txn, "\0", 1, &exists, &error));
  CHECK(exists);
  EXPECT_OK(khonsu_txn_delete(txn, longest, KHONSU_KEY_MAX_BYTES, &error));
  EXPECT_OK(khonsu_txn_exists(txn, longest, KHONSU_KEY_MAX_BYTES, &exists, &error));
  CHECK(!exists);

  /* Bounds of scans may have any length; only NULL must have none. */
  khonsu_cursor *cursor = NULL;
  struct ArrowArrayStream stream;
  char text[128];
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(txn, NULL, 1, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(txn, NULL, 0, NULL, 1, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_prefix(txn, NULL, 1, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_txn_scan_stream(txn, NULL, 1, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  EXPECT_INVALID_ARGUMENT(
      khonsu_txn_scan_stream(txn, NULL, 0, NULL, 1, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  EXPECT_OK(khonsu_txn_delete(txn, "\0", 1, &error));
  EXPECT_OK(khonsu_txn_scan(txn, "", 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("key=1,2,3", text);
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, "", 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("", text);
  EXPECT_OK(khonsu_txn_scan_prefix(txn, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("key=1,2,3", text);
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, longest, KHONSU_KEY_MAX_BYTES + 1, KHONSU_DIRECTION_REVERSE, 0, &cursor,
                            &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("key=1,2,3", text);
  free(longest);
  teardown();
}

/* ---- numbers that stand for something ---- */

static void test_enums(void) {
  khonsu_error *error = NULL;
  khonsu_options *options = khonsu_options_new();
  khonsu_txn_options *txn_options = khonsu_txn_options_new();
  setup();
  for (int i = -1; i < WRONG_NUMBERS; i++) {
    /* 0 is no isolation, resolution or IPC format; it is a direction, a truth value and a compression. */
    int32_t wrong = i < 0 ? 0 : wrong_numbers[i];
    khonsu_cursor *cursor = NULL;
    struct ArrowArray array;
    struct ArrowSchema schema;
    struct ArrowArrayStream stream;
    EXPECT_INVALID_ARGUMENT(khonsu_options_set_isolation(options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_options_set_conflict_resolution(options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_isolation(txn_options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_conflict_resolution(txn_options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_set_conflict_resolution(txn, KEY("key"), wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_set_conflict_resolution(txn, KEY("not staged"), wrong, &error));
    testing_batch(&array, &schema, "1");
    arrow_testing_stream(&stream, &schema, &array, 1, -1);
    EXPECT_INVALID_ARGUMENT(
        khonsu_ipc_write_stream("/nowhere/at/all", &stream, wrong, KHONSU_IPC_COMPRESSION_NONE, &error));
    CHECK(stream.release == NULL);
    if (wrong == 0) continue;
    EXPECT_INVALID_ARGUMENT(khonsu_options_set_full_validation(options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_read_only(txn_options, wrong, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(txn, NULL, 0, NULL, 0, wrong, 0, &cursor, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_prefix(txn, "k", 1, wrong, 0, &cursor, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, wrong, 0, &stream, &error));
    testing_batch(&array, &schema, "1");
    arrow_testing_stream(&stream, &schema, &array, 1, -1);
    EXPECT_INVALID_ARGUMENT(
        khonsu_ipc_write_stream("/nowhere/at/all", &stream, KHONSU_IPC_FORMAT_FILE, wrong, &error));
    CHECK(stream.release == NULL);
  }
  /* The constants next to the first and the last. */
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_isolation(options, 4, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_conflict_resolution(options, 5, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_full_validation(options, 2, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_backoff_us(txn_options, 2, 1, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(txn_options, 0, 0, &error));
  for (int32_t number = 1; number <= 3; number++) {
    EXPECT_OK(khonsu_options_set_isolation(options, number, &error));
    EXPECT_OK(khonsu_txn_options_set_isolation(txn_options, number, &error));
  }
  for (int32_t number = 1; number <= 4; number++) {
    EXPECT_OK(khonsu_options_set_conflict_resolution(options, number, &error));
    EXPECT_OK(khonsu_txn_options_set_conflict_resolution(txn_options, number, &error));
  }
  for (int32_t number = 0; number <= 1; number++) {
    EXPECT_OK(khonsu_options_set_full_validation(options, number, &error));
    EXPECT_OK(khonsu_txn_options_set_read_only(txn_options, number, &error));
  }
  /* What was refused did not change the options. */
  EXPECT_OK(khonsu_txn_options_set_read_only(txn_options, 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_read_only(txn_options, 2, &error));
  khonsu_txn *read_only = NULL;
  EXPECT_OK(khonsu_db_begin(db, txn_options, &read_only, &error));
  EXPECT_INVALID_STATE(testing_put(read_only, "key", "9", &error));
  khonsu_txn_free(read_only);
  khonsu_options_free(options);
  khonsu_txn_options_free(txn_options);
  teardown();
}

/* ---- sizes of out structs ---- */

static void test_size_of_stats(void) {
  khonsu_error *error = NULL;
  union {
    khonsu_stats stats;
    unsigned char bytes[sizeof(khonsu_stats) + 64];
  } out;
  setup();
  testing_commit_put(db, "one", "1");
  testing_commit_put(db, "two", "2");

  memset(&out, 0xA5, sizeof(out));
  EXPECT_INVALID_ARGUMENT(khonsu_db_stats(db, &out.stats, 0, &error));
  CHECK(out.bytes[0] == 0xA5);
  /* An older caller: only so many bytes are written. */
  EXPECT_OK(khonsu_db_stats(db, &out.stats, sizeof(uint64_t), &error));
  CHECK(out.stats.keys == 2);
  CHECK(out.bytes[sizeof(uint64_t)] == 0xA5);
  EXPECT_OK(khonsu_db_stats(db, &out.stats, 3, &error));
  CHECK(out.bytes[sizeof(uint64_t)] == 0xA5);
  /* A newer caller: no more is written than there is. */
  memset(&out, 0xA5, sizeof(out));
  EXPECT_OK(khonsu_db_stats(db, &out.stats, sizeof(out), &error));
  CHECK(out.stats.keys == 2);
  CHECK(out.stats.commits == 2);
  CHECK(out.stats.retries == 0);
  CHECK(out.bytes[sizeof(out) - 1] == 0xA5);
  EXPECT_OK(khonsu_db_stats(db, &out.stats, SIZE_MAX, &error));
  CHECK(out.bytes[sizeof(out) - 1] == 0xA5);
  teardown();
}

static void test_size_of_conflicts(void) {
  khonsu_error *error = NULL;
  union {
    khonsu_conflict conflict;
    unsigned char bytes[sizeof(khonsu_conflict) + 64];
  } out;
  db = testing_open();
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "key", "2", &error));
  uint64_t version = testing_commit_put(db, "key", "1");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  CHECK(khonsu_error_conflict_count(error) == 1);

  memset(&out, 0xA5, sizeof(out));
  CHECK(khonsu_error_conflict(NULL, 0, &out.conflict, sizeof(out.conflict)) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_error_conflict(error, 0, NULL, sizeof(out.conflict)) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_error_conflict(error, 1, &out.conflict, sizeof(out.conflict)) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_error_conflict(error, SIZE_MAX, &out.conflict, sizeof(out.conflict)) ==
        KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_error_conflict(error, 0, &out.conflict, 0) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(out.bytes[0] == 0xA5);
  CHECK(khonsu_error_conflict(error, 0, &out.conflict, 2 * sizeof(int32_t)) == KHONSU_STATUS_OK);
  CHECK(out.conflict.kind == KHONSU_CONFLICT_KIND_WRITE_WRITE);
  CHECK(out.bytes[2 * sizeof(int32_t)] == 0xA5);
  memset(&out, 0xA5, sizeof(out));
  CHECK(khonsu_error_conflict(error, 0, &out.conflict, sizeof(out)) == KHONSU_STATUS_OK);
  CHECK(out.conflict.version == version);
  CHECK(out.bytes[sizeof(out) - 1] == 0xA5);
  DROP_ERROR();
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- without an error out-parameter ---- */

static int32_t invalid(khonsu_txn *unused, void *context) {
  (void)unused;
  (void)context;
  return KHONSU_STATUS_CANCELLED;
}

static void test_no_error_object(void) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  khonsu_cursor *cursor = NULL;
  khonsu_schema *imported = NULL;
  setup();
  CHECK(khonsu_options_set_isolation(NULL, 1, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_options_set_isolation(NULL, 1, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_open(NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_begin(NULL, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_transact(db, NULL, invalid, NULL, NULL, NULL) == KHONSU_STATUS_CANCELLED);
  CHECK(khonsu_db_transact(NULL, NULL, NULL, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_stats(db, NULL, 0, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_sync(NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_get(txn, NULL, 0, &array, &schema, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_get(txn, KEY("absent"), &array, &schema, NULL) == KHONSU_STATUS_NOT_FOUND);
  CHECK(khonsu_txn_get(txn, KEY("key"), &array, &schema, NULL) == KHONSU_STATUS_OK);
  CHECK(khonsu_txn_put(txn, NULL, 0, &array, &schema, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  CHECK(khonsu_txn_put(NULL, NULL, 0, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_put_stream(NULL, NULL, 0, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_append(NULL, NULL, 0, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_delete(txn, NULL, 0, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, 99, 0, &cursor, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_scan_prefix(txn, NULL, 9, 0, 0, &cursor, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, 99, 0, &stream, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_rollback_to(txn, 12345, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_commit_version(txn, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_txn_commit(NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_cursor_next(NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_cursor_key(NULL, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_cursor_get(NULL, NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_schema_import(NULL, &imported, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_schema_export(NULL, NULL, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_ipc_open_stream("/nowhere/at/all", &stream, NULL) == KHONSU_STATUS_STORAGE);
  CHECK(khonsu_ipc_write_stream(NULL, NULL, 1, 0, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  teardown();
}

static void test_free_of_null(void) {
  khonsu_error_free(NULL);
  khonsu_options_free(NULL);
  khonsu_txn_options_free(NULL);
  khonsu_db_free(NULL);
  khonsu_txn_free(NULL);
  khonsu_cursor_free(NULL);
  khonsu_schema_free(NULL);
}

int main(void) {
  RUN(test_null_receivers);
  RUN(test_null_inputs_and_outs);
  RUN(test_keys);
  RUN(test_enums);
  RUN(test_size_of_stats);
  RUN(test_size_of_conflicts);
  RUN(test_no_error_object);
  RUN(test_free_of_null);
  return testing_finish("arguments_test");
}
