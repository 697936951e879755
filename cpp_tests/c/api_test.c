/* Every function of khonsu.h once on its good path, with what it returns checked. */
#include "c_testing.h"

#include <unistd.h>

static void test_version_and_statuses(void) {
  char expected[64];
  snprintf(expected, sizeof(expected), "%d.%d.%d", KHONSU_VERSION_MAJOR, KHONSU_VERSION_MINOR, KHONSU_VERSION_PATCH);
  CHECK_TEXT(expected, khonsu_version());
  CHECK_TEXT(KHONSU_VERSION_STRING, khonsu_version());
  CHECK(KHONSU_KEY_MAX_BYTES == 65536);

  static const struct {
    int32_t status;
    int32_t number;
    const char *name;
  } statuses[] = {
      {KHONSU_STATUS_OK, 0, "OK"},
      {KHONSU_STATUS_NOT_FOUND, 1, "NOT_FOUND"},
      {KHONSU_STATUS_CONFLICT, 100, "CONFLICT"},
      {KHONSU_STATUS_TIMEOUT, 110, "TIMEOUT"},
      {KHONSU_STATUS_CANCELLED, 111, "CANCELLED"},
      {KHONSU_STATUS_BUSY, 120, "BUSY"},
      {KHONSU_STATUS_INVALID_ARGUMENT, 200, "INVALID_ARGUMENT"},
      {KHONSU_STATUS_INVALID_STATE, 201, "INVALID_STATE"},
      {KHONSU_STATUS_SCHEMA_MISMATCH, 202, "SCHEMA_MISMATCH"},
      {KHONSU_STATUS_LIMIT_EXCEEDED, 203, "LIMIT_EXCEEDED"},
      {KHONSU_STATUS_DUPLICATE, 204, "DUPLICATE"},
      {KHONSU_STATUS_ALREADY_DECIDED, 205, "ALREADY_DECIDED"},
      {KHONSU_STATUS_HEURISTIC, 206, "HEURISTIC"},
      {KHONSU_STATUS_STORAGE, 300, "STORAGE"},
      {KHONSU_STATUS_CORRUPTION, 301, "CORRUPTION"},
      {KHONSU_STATUS_LOCKED, 302, "LOCKED"},
      {KHONSU_STATUS_NOT_DURABLE, 303, "NOT_DURABLE"},
      {KHONSU_STATUS_PANIC, 900, "PANIC"},
  };
  for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
    CHECK(statuses[i].status == statuses[i].number);
    CHECK_TEXT(statuses[i].name, khonsu_status_name(statuses[i].status));
    CHECK(khonsu_status_is_retryable(statuses[i].status) == (statuses[i].status == KHONSU_STATUS_CONFLICT));
  }
  CHECK_TEXT("UNKNOWN", khonsu_status_name(-1));
  CHECK_TEXT("UNKNOWN", khonsu_status_name(12345));
  CHECK(!khonsu_status_is_retryable(-1));
}

/* The numbers are part of the ABI. */
static void test_numbers(void) {
  CHECK(KHONSU_ISOLATION_READ_COMMITTED == 1);
  CHECK(KHONSU_ISOLATION_REPEATABLE_READ == 2);
  CHECK(KHONSU_ISOLATION_SERIALIZABLE == 3);
  CHECK(KHONSU_CONFLICT_RESOLUTION_FAIL == 1);
  CHECK(KHONSU_CONFLICT_RESOLUTION_IGNORE == 2);
  CHECK(KHONSU_CONFLICT_RESOLUTION_REPLACE == 3);
  CHECK(KHONSU_CONFLICT_RESOLUTION_APPEND == 4);
  CHECK(KHONSU_CONFLICT_KIND_WRITE_WRITE == 1);
  CHECK(KHONSU_CONFLICT_KIND_READ_WRITE == 2);
  CHECK(KHONSU_CONFLICT_KIND_PHANTOM == 3);
  CHECK(KHONSU_CONFLICT_KIND_PREPARED == 4);
  CHECK(KHONSU_DIRECTION_FORWARD == 0);
  CHECK(KHONSU_DIRECTION_REVERSE == 1);
  CHECK(KHONSU_IPC_FORMAT_FILE == 1);
  CHECK(KHONSU_IPC_FORMAT_STREAM == 2);
  CHECK(KHONSU_IPC_COMPRESSION_NONE == 0);
  CHECK(KHONSU_IPC_COMPRESSION_LZ4 == 1);
  CHECK(KHONSU_IPC_COMPRESSION_ZSTD == 2);
  CHECK(KHONSU_DURABILITY_NONE == 1);
  CHECK(KHONSU_DURABILITY_BUFFERED == 2);
  CHECK(KHONSU_DURABILITY_SYNCED == 3);
  CHECK(KHONSU_MUTATION_KIND_PUT == 1);
  CHECK(KHONSU_MUTATION_KIND_APPEND == 2);
  CHECK(KHONSU_MUTATION_KIND_DELETE == 3);
  CHECK(sizeof(khonsu_mutation) == 24);
  CHECK(sizeof(khonsu_storage_callbacks) == 64);
  CHECK(sizeof(khonsu_status) == 4);
  CHECK(KHONSU_GLOBAL_ID_MAX_BYTES == 144);
  CHECK(KHONSU_PREPARE_ALLOW_VOLATILE == 1 && KHONSU_PREPARE_HOLD_READS == 2);
  CHECK(KHONSU_VOTE_YES == 1 && KHONSU_VOTE_READ_ONLY == 2);
  CHECK(KHONSU_DECISION_COMMIT == 1 && KHONSU_DECISION_ROLLBACK == 2);
  CHECK(KHONSU_PREPARED_STATE_PREPARED == 1 && KHONSU_PREPARED_STATE_HEURISTIC_COMMIT == 2);
  CHECK(KHONSU_PREPARED_STATE_HEURISTIC_ROLLBACK == 3);
  CHECK(sizeof(khonsu_prepared_info) == 48);
  CHECK(sizeof(khonsu_conflict) == 80);
  CHECK(sizeof(khonsu_stats) >= 18 * sizeof(uint64_t));
}

static void test_errors(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *reader = testing_begin(db);
  khonsu_txn *writer = testing_begin(db);
  CHECK_VALUE(reader, "key", "absent");
  EXPECT_OK(testing_put(reader, "other", "1", &error));
  CHECK_VALUE(writer, "other", "absent");
  EXPECT_OK(testing_put(writer, "key", "2", &error));
  EXPECT_OK(khonsu_txn_commit(writer, &error));
  uint64_t version = 0;
  EXPECT_OK(khonsu_txn_commit_version(writer, &version, &error));
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(reader, &error));
  CHECK(khonsu_error_status(error) == KHONSU_STATUS_CONFLICT);
  CHECK(khonsu_error_message(error)[0] != '\0');
  if (CHECK(khonsu_error_conflict_count(error) == 1)) {
    khonsu_conflict conflict;
    memset(&conflict, 0xA5, sizeof(conflict));
    CHECK(khonsu_error_conflict(error, 0, &conflict, sizeof(conflict)) == KHONSU_STATUS_OK);
    CHECK(conflict.version == version);
    CHECK(conflict.key_len == 3 && memcmp(conflict.key, "key", 3) == 0);
  }
  DROP_ERROR();
  CHECK(khonsu_error_status(NULL) == KHONSU_STATUS_OK);
  CHECK_TEXT("", khonsu_error_message(NULL));
  CHECK(khonsu_error_conflict_count(NULL) == 0);
  khonsu_error_free(NULL);
  khonsu_txn_free(reader);
  khonsu_txn_free(writer);
  khonsu_db_free(db);
}

static int32_t put_in_transact(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  int *calls = (int *)context;
  ++*calls;
  EXPECT_OK(testing_put(txn, "transacted", "42", &error));
  return KHONSU_STATUS_OK;
}

static void test_options_and_databases(void) {
  khonsu_error *error = NULL;
  khonsu_options *options = khonsu_options_new();
  CHECK(options != NULL);
  EXPECT_OK(khonsu_options_set_isolation(options, KHONSU_ISOLATION_REPEATABLE_READ, &error));
  EXPECT_OK(khonsu_options_set_conflict_resolution(options, KHONSU_CONFLICT_RESOLUTION_REPLACE, &error));
  EXPECT_OK(khonsu_options_set_max_transaction_bytes(options, 1 << 20, &error));
  EXPECT_OK(khonsu_options_set_max_total_bytes(options, 1 << 24, &error));
  EXPECT_OK(khonsu_options_set_full_validation(options, 1, &error));
  khonsu_db *db = NULL;
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  CHECK(db != NULL);
  khonsu_options_free(options); /* they are copied at open */

  khonsu_txn_options *txn_options = khonsu_txn_options_new();
  CHECK(txn_options != NULL);
  EXPECT_OK(khonsu_txn_options_set_isolation(txn_options, KHONSU_ISOLATION_SERIALIZABLE, &error));
  EXPECT_OK(khonsu_txn_options_set_conflict_resolution(txn_options, KHONSU_CONFLICT_RESOLUTION_FAIL, &error));
  EXPECT_OK(khonsu_txn_options_set_read_only(txn_options, 0, &error));
  EXPECT_OK(khonsu_txn_options_set_max_bytes(txn_options, 1 << 16, &error));
  EXPECT_OK(khonsu_txn_options_set_max_attempts(txn_options, 3, &error));
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(txn_options, 60000, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(txn_options, 1, 100, &error));
  khonsu_txn *txn = NULL;
  EXPECT_OK(khonsu_db_begin(db, txn_options, &txn, &error));
  CHECK(txn != NULL);
  EXPECT_OK(khonsu_txn_rollback(txn, &error));
  khonsu_txn_free(txn);

  int calls = 0;
  uint64_t version = 0;
  EXPECT_OK(khonsu_db_transact(db, txn_options, put_in_transact, &calls, &version, &error));
  CHECK(calls == 1);
  CHECK(version > 0);
  CHECK_COMMITTED(db, "transacted", "42");
  EXPECT_OK(khonsu_db_transact(db, NULL, put_in_transact, &calls, NULL, &error));
  CHECK(calls == 2);
  khonsu_txn_options_free(txn_options);

  EXPECT_OK(khonsu_db_sync(db, &error));
  khonsu_db_free(db);
}

static void test_stats(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_stats before;
  khonsu_stats after;
  EXPECT_OK(khonsu_db_stats(db, &before, sizeof(before), &error));
  CHECK(before.keys == 0);
  CHECK(before.versions == 0);
  CHECK(before.active_transactions == 0);
  CHECK(before.commits == 0);

  testing_commit_put(db, "one", "1,2,3,4");
  uint64_t version = testing_commit_put(db, "two", "5");
  khonsu_txn *rolled_back = testing_begin(db);
  EXPECT_OK(testing_put(rolled_back, "three", "6", &error));
  EXPECT_OK(khonsu_txn_rollback(rolled_back, &error));
  khonsu_txn_free(rolled_back);
  khonsu_txn *loser = testing_begin(db);
  CHECK_VALUE(loser, "one", "1,2,3,4");
  EXPECT_OK(testing_put(loser, "four", "7", &error));
  uint64_t snapshot = version;
  version = testing_commit_having_read(db, "four", "one", "8");

  EXPECT_OK(khonsu_db_stats(db, &after, sizeof(after), &error));
  CHECK(after.keys == 2);
  CHECK(after.versions == 3); /* "one" twice: the loser may still read the older one */
  CHECK(after.live_bytes >= 6 * sizeof(int64_t));
  CHECK(after.active_transactions == 1);
  CHECK(after.oldest_snapshot >= snapshot && after.oldest_snapshot < version);
  CHECK(after.version == version);
  CHECK(after.commits == 3);
  CHECK(after.rollbacks == 1);
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(loser, &error));
  khonsu_txn_free(loser);
  EXPECT_OK(khonsu_db_stats(db, &after, sizeof(after), &error));
  CHECK(after.conflicts_read_write == 1);
  CHECK(after.conflicts_write_write == 0);
  CHECK(after.conflicts_phantom == 0);
  CHECK(after.conflicts_prepared == 0);
  CHECK(after.active_transactions == 0);
  CHECK(after.commits == 3);
  CHECK(after.retries == 0);

  struct ArrowArray array;
  khonsu_txn *reader = testing_begin_read_only(db);
  EXPECT_OK(khonsu_txn_get(reader, KEY("one"), &array, NULL, &error));
  EXPECT_OK(khonsu_db_stats(db, &after, sizeof(after), &error));
  CHECK(after.pinned_bytes >= sizeof(int64_t));
  arrow_testing_release_array(&array);
  EXPECT_OK(khonsu_db_stats(db, &after, sizeof(after), &error));
  CHECK(after.pinned_bytes == 0);
  khonsu_txn_free(reader);
  khonsu_db_free(db);
}

static void test_reads_and_writes(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  khonsu_schema *handle = NULL;
  bool exists = true;

  testing_batch(NULL, &schema, "");
  arrow_testing_set_metadata(&schema, "unit", "metres");
  EXPECT_OK(khonsu_schema_import(&schema, &handle, &error));
  CHECK(schema.release == NULL);
  CHECK(handle != NULL);
  EXPECT_OK(khonsu_schema_export(handle, &schema, &error));
  CHECK_TEXT("+s", schema.format);
  CHECK(schema.n_children == 1);
  CHECK_TEXT("value", schema.children[0]->name);
  CHECK_TEXT("l", schema.children[0]->format);
  CHECK((schema.children[0]->flags & ARROW_FLAG_NULLABLE) != 0);
  if (CHECK(schema.metadata != NULL)) {
    int32_t pairs = 0;
    memcpy(&pairs, schema.metadata, sizeof(pairs));
    CHECK(pairs == 1);
    CHECK(memcmp(schema.metadata + 8, "unit", 4) == 0);
    CHECK(memcmp(schema.metadata + 16, "metres", 6) == 0);
  }
  schema.release(&schema);

  EXPECT_OK(khonsu_txn_exists(txn, KEY("put"), &exists, &error));
  CHECK(!exists);
  EXPECT_OK(testing_put(txn, "put", "1,2,3", &error));
  EXPECT_OK(khonsu_txn_exists(txn, KEY("put"), &exists, &error));
  CHECK(exists);
  CHECK_VALUE(txn, "put", "1,2,3");

  testing_batch(&array, NULL, "4,5");
  EXPECT_OK(khonsu_txn_put_with_schema(txn, KEY("put with schema"), &array, handle, &error));
  testing_batch(&array, NULL, "6");
  EXPECT_OK(khonsu_txn_append_with_schema(txn, KEY("put with schema"), &array, handle, &error));
  EXPECT_OK(khonsu_txn_get_with_schema(txn, KEY("put with schema"), handle, &array, &error));
  char text[64] = "";
  testing_format(&array, 0, text, sizeof(text));
  CHECK_TEXT("4,5,6", text);
  arrow_testing_release_array(&array);

  EXPECT_OK(testing_append(txn, "put", "4", &error));
  EXPECT_OK(testing_append(txn, "appended", "9", &error));
  CHECK_VALUE(txn, "put", "1,2,3,4");
  CHECK_VALUE(txn, "appended", "9");

  EXPECT_OK(khonsu_txn_get_stream(txn, KEY("put"), &stream, &error));
  EXPECT_OK(khonsu_txn_put_stream(txn, KEY("put stream"), &stream, &error));
  CHECK_VALUE(txn, "put stream", "1,2,3,4");

  EXPECT_OK(khonsu_txn_delete(txn, KEY("put"), &error));
  CHECK_VALUE(txn, "put", "absent");
  EXPECT_OK(khonsu_txn_delete(txn, KEY("never there"), &error));

  EXPECT_OK(khonsu_txn_set_conflict_resolution(txn, KEY("appended"), KHONSU_CONFLICT_RESOLUTION_REPLACE, &error));
  EXPECT(KHONSU_STATUS_NOT_FOUND,
         khonsu_txn_set_conflict_resolution(txn, KEY("not staged"), KHONSU_CONFLICT_RESOLUTION_REPLACE, &error));

  uint64_t savepoint = 0;
  EXPECT_OK(khonsu_txn_savepoint(txn, &savepoint, &error));
  EXPECT_OK(testing_put(txn, "appended", "0", &error));
  EXPECT_OK(khonsu_txn_rollback_to(txn, savepoint, &error));
  CHECK_VALUE(txn, "appended", "9");
  EXPECT_OK(khonsu_txn_release(txn, savepoint, &error));

  EXPECT_OK(khonsu_txn_commit(txn, &error));
  uint64_t version = 0;
  EXPECT_OK(khonsu_txn_commit_version(txn, &version, &error));
  CHECK(version > 0);
  khonsu_txn_free(txn);
  CHECK_COMMITTED(db, "appended", "9");
  CHECK_COMMITTED(db, "put", "absent");
  CHECK_COMMITTED(db, "put with schema", "4,5,6");

  uint64_t read_version = 0;
  txn = testing_begin_read_only(db);
  CHECK_VALUE(txn, "appended", "9");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  EXPECT_OK(khonsu_txn_commit_version(txn, &read_version, &error));
  CHECK(read_version == version);
  khonsu_txn_free(txn);

  khonsu_schema_free(handle);
  khonsu_db_free(db);
}

static void test_cursors(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  khonsu_cursor *cursor = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  const void *key = NULL;
  size_t key_len = 0;
  char text[128];
  EXPECT_OK(testing_put(txn, "a1", "1", &error));
  EXPECT_OK(testing_put(txn, "a2", "2,3", &error));
  EXPECT_OK(testing_put(txn, "b1", "4", &error));

  EXPECT_OK(khonsu_txn_scan(txn, KEY("a2"), NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  EXPECT_OK(khonsu_cursor_key(cursor, &key, &key_len, &error));
  CHECK(key_len == 2 && memcmp(key, "a2", 2) == 0);
  EXPECT_OK(khonsu_cursor_get(cursor, &array, &schema, &error));
  CHECK(array.length == 2);
  CHECK_TEXT("value", schema.children[0]->name);
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("b1=4", text);

  EXPECT_OK(khonsu_txn_scan_prefix(txn, KEY("a"), KHONSU_DIRECTION_REVERSE, 0, &cursor, &error));
  testing_drain(cursor, text, sizeof(text));
  CHECK_TEXT("a2=2,3 a1=1", text);

  EXPECT_OK(khonsu_txn_scan_stream(txn, NULL, 0, KEY("b"), KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
  CHECK(stream.get_schema(&stream, &schema) == 0);
  CHECK_TEXT("key", schema.children[0]->name);
  arrow_testing_release_schema(&schema);
  int64_t rows = 0;
  for (;;) {
    CHECK(stream.get_next(&stream, &array) == 0);
    if (array.release == NULL) break;
    rows += array.length;
    arrow_testing_release_array(&array);
  }
  CHECK(rows == 3);
  arrow_testing_release_stream(&stream);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

static void test_bound_keys_and_many(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  khonsu_key *bound = NULL;
  khonsu_schema *handle = NULL;
  struct ArrowArray array, arrays[3];
  struct ArrowSchema schema, schemas[3];
  struct ArrowArrayStream stream;
  bool exists = true;
  bool present[3] = {false, true, false};
  char text[64] = "";
  testing_batch(NULL, &schema, "");
  EXPECT_OK(khonsu_schema_import(&schema, &handle, &error));

  EXPECT_OK(khonsu_key_bind(db, KEY("a"), &bound, &error));
  CHECK(bound != NULL);
  EXPECT_OK(khonsu_txn_exists_bound(txn, bound, &exists, &error));
  CHECK(!exists);
  testing_batch(&array, NULL, "1");
  EXPECT_OK(khonsu_txn_put_bound(txn, bound, &array, handle, &error));
  testing_batch(&array, NULL, "2");
  EXPECT_OK(khonsu_txn_append_bound(txn, bound, &array, handle, &error));
  EXPECT_OK(khonsu_txn_get_bound(txn, bound, handle, &array, &schema, &error));
  testing_format(&array, 0, text, sizeof(text));
  CHECK_TEXT("1,2", text);
  CHECK_TEXT("value", schema.children[0]->name);
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);
  EXPECT_OK(testing_put(txn, "c", "3", &error));

  const void *keys[3] = {"a", "b", "c"};
  const size_t key_lens[3] = {1, 1, 1};
  EXPECT_OK(khonsu_txn_get_many(txn, keys, key_lens, 3, handle, arrays, schemas, &error));
  CHECK(arrays[0].length == 2 && arrays[1].release == NULL && arrays[2].length == 1);
  CHECK(schemas[0].release != NULL && schemas[1].release == NULL && schemas[2].release != NULL);
  for (int i = 0; i < 3; i++) {
    arrow_testing_release_array(&arrays[i]);
    arrow_testing_release_schema(&schemas[i]);
  }
  const khonsu_key *handles[2] = {bound, bound};
  EXPECT_OK(khonsu_txn_get_many_bound(txn, handles, 2, NULL, arrays, NULL, &error));
  CHECK(arrays[0].length == 2 && arrays[1].length == 2);
  arrow_testing_release_array(&arrays[0]);
  arrow_testing_release_array(&arrays[1]);
  EXPECT_OK(khonsu_txn_get_many_stream(txn, keys, key_lens, 3, present, &stream, &error));
  CHECK(present[0] && !present[1] && present[2]);
  CHECK(stream.get_next(&stream, &array) == 0);
  text[0] = '\0';
  testing_format(&array, 1, text, sizeof(text));
  CHECK_TEXT("1,2,3", text);
  arrow_testing_release_array(&array);
  arrow_testing_release_stream(&stream);

  EXPECT_OK(khonsu_txn_delete_bound(txn, bound, &error));
  EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_txn_get_bound(txn, bound, NULL, &array, NULL, &error));
  CHECK(array.release == NULL);
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  khonsu_key_free(bound);
  khonsu_key_free(NULL);
  khonsu_schema_free(handle);
}

static void test_ipc(void) {
  khonsu_error *error = NULL;
  struct ArrowArray arrays[1];
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  char path[4096];
  const char *directory = getenv("TMPDIR");
  snprintf(path, sizeof(path), "%s/khonsu_api_XXXXXX", directory == NULL ? "/tmp" : directory);
  int descriptor = mkstemp(path);
  if (!CHECK(descriptor >= 0)) return;
  close(descriptor);
  testing_batch(&arrays[0], &schema, "1,2,3");
  arrow_testing_stream(&stream, &schema, arrays, 1, -1);
  EXPECT_OK(
      khonsu_ipc_write_stream(path, &stream, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE, &error));
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(stream.get_next(&stream, &arrays[0]) == 0);
  char text[64] = "";
  if (CHECK(arrays[0].release != NULL)) testing_format(&arrays[0], 0, text, sizeof(text));
  CHECK_TEXT("1,2,3", text);
  arrow_testing_release_array(&arrays[0]);
  arrow_testing_release_stream(&stream);
  CHECK(unlink(path) == 0);
}

static void count_progress(void *context, uint64_t done_bytes, uint64_t total_bytes) {
  CHECK(done_bytes <= total_bytes && total_bytes > 0);
  ++*(int *)context;
}

/* Opens the database in a folder, at the durability. */
static khonsu_db *open_folder(const char *path, int32_t durability, int *progress) {
  khonsu_error *error = NULL;
  khonsu_options *options = khonsu_options_new();
  khonsu_db *db = NULL;
  EXPECT_OK(khonsu_options_set_path(options, path, &error));
  EXPECT_OK(khonsu_options_set_durability(options, durability, &error));
  EXPECT_OK(khonsu_options_set_memory_budget(options, 1 << 24, &error));
  EXPECT_OK(khonsu_options_set_open_progress(options, count_progress, progress, &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_options_free(options);
  return db;
}

static void test_two_phase_commit(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  const char *ids[] = {"committed", "rolled back", "decided"};
  for (int i = 0; i < 3; i++) {
    khonsu_txn *txn = testing_begin(db);
    int32_t vote = 0;
    EXPECT_OK(testing_put(txn, ids[i], "1", &error));
    EXPECT_OK(khonsu_txn_prepare(txn, KEY(ids[i]), KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
    CHECK(vote == KHONSU_VOTE_YES);
    khonsu_txn_free(txn);
  }
  khonsu_prepared_list *list = NULL;
  khonsu_prepared_info info;
  const void *key = NULL;
  size_t key_len = 0;
  EXPECT_OK(khonsu_db_recover(db, &list, &error));
  CHECK(khonsu_prepared_list_count(list) == 3);
  EXPECT_OK(khonsu_prepared_list_get(list, 1, &info, sizeof(info), &error));
  CHECK(info.global_id_len == 11 && memcmp(info.global_id, "rolled back", 11) == 0 && info.written_keys == 1);
  EXPECT_OK(khonsu_prepared_list_key(list, 2, 0, &key, &key_len, &error));
  CHECK(key_len == 7 && memcmp(key, "decided", 7) == 0);
  khonsu_prepared_list_free(list);

  uint64_t version = 0;
  EXPECT_OK(khonsu_db_commit_prepared(db, KEY("committed"), &version, &error));
  CHECK(version > 0);
  EXPECT_OK(khonsu_db_rollback_prepared(db, KEY("rolled back"), &error));
  EXPECT_OK(khonsu_db_decide_heuristically(db, KEY("decided"), KHONSU_DECISION_COMMIT, &error));
  EXPECT_KEEP(KHONSU_STATUS_HEURISTIC, khonsu_db_commit_prepared(db, KEY("decided"), NULL, &error));
  CHECK(khonsu_error_decision(error) == KHONSU_DECISION_COMMIT);
  DROP_ERROR();
  EXPECT_OK(khonsu_db_forget(db, KEY("decided"), &error));
  CHECK_COMMITTED(db, "committed", "1");
  CHECK_COMMITTED(db, "rolled back", "absent");
  CHECK_COMMITTED(db, "decided", "1");
  khonsu_db_free(db);
}

static void test_stored_databases(void) {
  khonsu_error *error = NULL;
  int progress = 0;
  char folder[3072], path[4096], copy[4096], exported[4096], command[4096];
  const char *directory = getenv("TMPDIR");
  snprintf(folder, sizeof(folder), "%s/khonsu_api_XXXXXX", directory == NULL ? "/tmp" : directory);
  if (!CHECK(mkdtemp(folder) != NULL)) return;
  snprintf(path, sizeof(path), "%s/db", folder);
  snprintf(copy, sizeof(copy), "%s/copy", folder);
  snprintf(exported, sizeof(exported), "%s/exported", folder);

  khonsu_db *db = open_folder(path, KHONSU_DURABILITY_BUFFERED, &progress);
  testing_commit_put(db, "a", "1,2");
  EXPECT_OK(khonsu_db_checkpoint(db, &error));
  khonsu_txn_options *options = khonsu_txn_options_new();
  EXPECT_OK(khonsu_txn_options_set_durability(options, KHONSU_DURABILITY_NONE, &error));
  khonsu_txn *txn = NULL;
  EXPECT_OK(khonsu_db_begin(db, options, &txn, &error));
  EXPECT_OK(testing_append(txn, "a", "3", &error));
  EXPECT_OK(testing_put(txn, "b", "4", &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_txn_options_free(options);
  EXPECT_OK(khonsu_db_sync(db, &error));
  EXPECT_OK(khonsu_db_backup(db, copy, &error));
  EXPECT_OK(khonsu_db_export(db, exported, &error));
  khonsu_db_free(db);

  progress = 0;
  db = open_folder(path, KHONSU_DURABILITY_SYNCED, &progress);
  CHECK(progress > 0);
  CHECK_COMMITTED(db, "a", "1,2,3");
  CHECK_COMMITTED(db, "b", "4");
  khonsu_db_free(db);
  db = open_folder(copy, KHONSU_DURABILITY_SYNCED, &progress);
  CHECK_COMMITTED(db, "a", "1,2,3");
  khonsu_db_free(db);
  db = testing_open();
  testing_commit_put(db, "b", "5");
  EXPECT_OK(khonsu_db_import(db, exported, &error));
  CHECK_COMMITTED(db, "a", "1,2,3");
  CHECK_COMMITTED(db, "b", "4");
  khonsu_db_free(db);
  snprintf(command, sizeof(command), "rm -r '%s'", folder);
  CHECK(system(command) == 0);
}

/* A storage that has one key, and looks at what it gets. */
static int32_t give_one_key(void *context, khonsu_loader *loader, char *message, size_t message_size) {
  (void)context, (void)message, (void)message_size;
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  testing_batch(&array, &schema, "1");
  EXPECT_OK(khonsu_loader_put(loader, "a", 1, 7, &array, &schema, &error));
  testing_batch(&array, &schema, "2");
  EXPECT_OK(khonsu_loader_append(loader, &array, &schema, &error));
  EXPECT_OK(khonsu_loader_set_version(loader, 9, &error));
  return KHONSU_STATUS_OK;
}

static int32_t take_one_commit(void *context, const khonsu_mutations *mutations, int32_t durability, char *message,
                               size_t message_size) {
  (void)message, (void)message_size;
  khonsu_error *error = NULL;
  khonsu_mutation mutation;
  struct ArrowArrayStream chunks;
  struct ArrowArray chunk;
  CHECK(durability == KHONSU_DURABILITY_SYNCED);
  CHECK(khonsu_mutations_version(mutations) == 10 && khonsu_mutations_count(mutations) == 1);
  EXPECT_OK(khonsu_mutations_get(mutations, 0, &mutation, sizeof(mutation), &error));
  CHECK(mutation.kind == KHONSU_MUTATION_KIND_PUT && mutation.key_len == 1 && *(const char *)mutation.key == 'b');
  EXPECT_OK(khonsu_mutations_chunks(mutations, 0, &chunks, &error));
  CHECK(chunks.get_next(&chunks, &chunk) == 0 && chunk.length == 2);
  arrow_testing_release_array(&chunk);
  arrow_testing_release_stream(&chunks);
  ++*(int *)context;
  return KHONSU_STATUS_OK;
}

static int32_t do_nothing(void *context, char *message, size_t message_size) {
  (void)context, (void)message, (void)message_size;
  return KHONSU_STATUS_OK;
}

static void test_storages(void) {
  khonsu_error *error = NULL;
  int commits = 0;
  khonsu_storage_callbacks callbacks = {sizeof(callbacks), &commits, give_one_key, take_one_commit, do_nothing,
                                        do_nothing,        NULL,     NULL};
  khonsu_options *options = khonsu_options_new();
  EXPECT_OK(khonsu_options_set_storage(options, &callbacks, &error));
  khonsu_db *db = NULL;
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_options_free(options);
  CHECK_COMMITTED(db, "a", "1,2");
  CHECK(testing_commit_put(db, "b", "3,4") == 10);
  CHECK(commits == 1);
  EXPECT_OK(khonsu_db_sync(db, &error));
  EXPECT_OK(khonsu_db_checkpoint(db, &error));
  khonsu_db_free(db);
}

int main(void) {
  RUN(test_version_and_statuses);
  RUN(test_numbers);
  RUN(test_errors);
  RUN(test_options_and_databases);
  RUN(test_stats);
  RUN(test_reads_and_writes);
  RUN(test_cursors);
  RUN(test_bound_keys_and_many);
  RUN(test_ipc);
  RUN(test_two_phase_commit);
  RUN(test_stored_databases);
  RUN(test_storages);
  return testing_finish("api_test");
}
