/* Who owns which Arrow struct when: inputs are consumed by every call and released exactly once, outs are the caller's
 * and live for themselves, and a failed call leaves an out with release NULL. */
#include "c_testing.h"

#include <pthread.h>

/* ---- producers whose releases are counted one by one ---- */

struct counted {
  struct ArrowArray original;
  int *releases;
};

static void counted_release(struct ArrowArray *array) {
  struct counted *counted = (struct counted *)array->private_data;
  __atomic_fetch_add(counted->releases, 1, __ATOMIC_SEQ_CST);
  counted->original.release(&counted->original);
  free(counted);
  array->release = NULL;
}

static int releases_of(int *releases) { return __atomic_load_n(releases, __ATOMIC_SEQ_CST); }

static void counted_batch(struct ArrowArray *array, struct ArrowSchema *schema, const char *text, int *releases) {
  struct counted *counted = (struct counted *)arrow_testing_allocate(sizeof(*counted));
  testing_batch(array, schema, text);
  counted->original = *array;
  counted->releases = releases;
  array->private_data = counted;
  array->release = counted_release;
  *releases = 0;
}

/* Large enough that a copy would be a mistake. */
#define MANY 100000

static void many_rows(struct ArrowArray *array, struct ArrowSchema *schema) {
  int64_t *values = (int64_t *)arrow_testing_allocate(MANY * sizeof(int64_t));
  for (int64_t i = 0; i < MANY; i++) values[i] = 3 * i;
  arrow_testing_int64_batch(array, schema, "value", values, MANY);
  free(values);
}

static khonsu_schema *import_schema(const char *column) {
  khonsu_error *error = NULL;
  khonsu_schema *schema = NULL;
  struct ArrowSchema exported;
  int64_t value = 0;
  arrow_testing_int64_batch(NULL, &exported, column, &value, 0);
  EXPECT_OK(khonsu_schema_import(&exported, &schema, &error));
  CHECK(exported.release == NULL);
  return schema;
}

/* ---- inputs ---- */

/* The writing calls by number, each with a fresh input that must be consumed and released once in the end. */
enum { WRITE_PUT, WRITE_APPEND, WRITE_PUT_WITH_SCHEMA, WRITE_APPEND_WITH_SCHEMA, WRITE_PUT_STREAM, WRITES };

static khonsu_status write_by(int entrance, khonsu_txn *txn, const void *key, size_t key_len,
                              const khonsu_schema *schema_handle, int *releases, khonsu_error **error) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  khonsu_status status = KHONSU_STATUS_PANIC;
  bool with_handle = entrance == WRITE_PUT_WITH_SCHEMA || entrance == WRITE_APPEND_WITH_SCHEMA;
  memset(&schema, 0, sizeof(schema));
  memset(&stream, 0, sizeof(stream));
  counted_batch(&array, with_handle ? NULL : &schema, "1,2,3", releases);
  switch (entrance) {
    case WRITE_PUT: status = khonsu_txn_put(txn, key, key_len, &array, &schema, error); break;
    case WRITE_APPEND: status = khonsu_txn_append(txn, key, key_len, &array, &schema, error); break;
    case WRITE_PUT_WITH_SCHEMA:
      status = khonsu_txn_put_with_schema(txn, key, key_len, &array, schema_handle, error);
      break;
    case WRITE_APPEND_WITH_SCHEMA:
      status = khonsu_txn_append_with_schema(txn, key, key_len, &array, schema_handle, error);
      break;
    default:
      arrow_testing_stream(&stream, &schema, &array, 1, -1);
      status = khonsu_txn_put_stream(txn, key, key_len, &stream, error);
      break;
  }
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  CHECK(stream.release == NULL);
  return status;
}

static void test_inputs_of_good_calls(void) {
  khonsu_error *error = NULL;
  for (int entrance = 0; entrance < WRITES; entrance++) {
    khonsu_db *db = testing_open();
    khonsu_schema *schema = import_schema("value");
    khonsu_txn *txn = testing_begin(db);
    int releases[3] = {0, 0, 0};
    EXPECT_OK(write_by(entrance, txn, KEY("committed"), schema, &releases[0], &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    txn = testing_begin(db);
    EXPECT_OK(write_by(entrance, txn, KEY("rolled back"), schema, &releases[1], &error));
    EXPECT_OK(khonsu_txn_rollback(txn, &error));
    khonsu_txn_free(txn);
    CHECK(releases_of(&releases[1]) == 1);
    txn = testing_begin(db);
    EXPECT_OK(write_by(entrance, txn, KEY("dropped"), schema, &releases[2], &error));
    khonsu_txn_free(txn);
    CHECK(releases_of(&releases[2]) == 1);
    CHECK_COMMITTED(db, "committed", "1,2,3");
    CHECK_COMMITTED(db, "rolled back", "absent");
    CHECK_COMMITTED(db, "dropped", "absent");
    CHECK(releases_of(&releases[0]) <= 1);
    khonsu_schema_free(schema);
    khonsu_db_free(db);
    CHECK(releases_of(&releases[0]) == 1);
    CHECK_NOTHING_LIVE();
  }
}

/* Replaced, deleted and overwritten values are released, not kept until the end. */
static void test_release_of_dead_values(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  int releases[3] = {0, 0, 0};
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(write_by(WRITE_PUT, txn, KEY("key"), NULL, &releases[0], &error));
  EXPECT_OK(write_by(WRITE_PUT, txn, KEY("key"), NULL, &releases[1], &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  CHECK(releases_of(&releases[0]) == 1);
  for (int round = 0; round < 50; round++) {
    txn = testing_begin(db);
    EXPECT_OK(write_by(WRITE_PUT, txn, KEY("key"), NULL, &releases[2], &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
  }
  CHECK(releases_of(&releases[1]) == 1);
  /* Two arrays (struct and column) a batch: were dead versions kept, there would be a hundred. */
  CHECK(arrow_testing_live_arrays() <= 10);
  khonsu_db_free(db);
  CHECK(releases_of(&releases[2]) == 1);
}

static void test_inputs_of_failing_calls(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_schema *schema = import_schema("value");
  char *long_key = (char *)arrow_testing_allocate(KHONSU_KEY_MAX_BYTES + 1);
  testing_commit_put(db, "here", "7");

  for (int entrance = 0; entrance < WRITES; entrance++) {
    int releases = 0;
    khonsu_txn *open = testing_begin(db);
    khonsu_txn *read_only = testing_begin_read_only(db);
    khonsu_txn *committed = testing_begin(db);
    khonsu_txn *rolled_back = testing_begin(db);
    EXPECT_OK(khonsu_txn_commit(committed, &error));
    EXPECT_OK(khonsu_txn_rollback(rolled_back, &error));

    EXPECT_INVALID_ARGUMENT(write_by(entrance, NULL, KEY("key"), schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_ARGUMENT(write_by(entrance, open, NULL, 3, schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_ARGUMENT(write_by(entrance, open, NULL, 0, schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_ARGUMENT(write_by(entrance, open, "key", 0, schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_ARGUMENT(
        write_by(entrance, open, long_key, KHONSU_KEY_MAX_BYTES + 1, schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_ARGUMENT(write_by(entrance, open, "key", SIZE_MAX, schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_STATE(write_by(entrance, read_only, KEY("key"), schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_STATE(write_by(entrance, committed, KEY("key"), schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    EXPECT_INVALID_STATE(write_by(entrance, rolled_back, KEY("key"), schema, &releases, &error));
    CHECK(releases_of(&releases) == 1);
    if (entrance == WRITE_PUT_WITH_SCHEMA || entrance == WRITE_APPEND_WITH_SCHEMA) {
      EXPECT_INVALID_ARGUMENT(write_by(entrance, open, KEY("key"), NULL, &releases, &error));
      CHECK(releases_of(&releases) == 1);
    }
    CHECK(write_by(entrance, NULL, NULL, 0, schema, &releases, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
    CHECK(releases_of(&releases) == 1);

    CHECK_VALUE(open, "here", "7");
    CHECK_VALUE(open, "key", "absent");
    EXPECT_OK(khonsu_txn_commit(open, &error));
    khonsu_txn_free(open);
    khonsu_txn_free(read_only);
    khonsu_txn_free(committed);
    khonsu_txn_free(rolled_back);
  }
  free(long_key);
  khonsu_schema_free(schema);
  khonsu_db_free(db);
}

/* Another schema than that of the value: refused at the append or, for what another committed, at the commit. */
static void test_inputs_of_another_schema(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  struct ArrowArray array;
  struct ArrowSchema schema;
  int64_t value = 5;
  int releases = 0;
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(write_by(WRITE_PUT, txn, KEY("key"), NULL, &releases, &error));
  arrow_testing_int64_batch(&array, &schema, "another", &value, 1);
  EXPECT(KHONSU_STATUS_SCHEMA_MISMATCH, khonsu_txn_append(txn, KEY("key"), &array, &schema, &error));
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  CHECK_VALUE(txn, "key", "1,2,3");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* What goes in comes out at the same address. */
static void test_no_copy_of_large_batches(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  many_rows(&array, &schema);
  const void *values = array.children[0]->buffers[1];
  EXPECT_OK(khonsu_txn_put(txn, KEY("large"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(db);
  EXPECT_OK(khonsu_txn_get(txn, KEY("large"), &array, NULL, &error));
  CHECK(array.children[0]->buffers[1] == values);
  CHECK(array.length == MANY);
  arrow_testing_release_array(&array);
  EXPECT_OK(khonsu_txn_get_stream(txn, KEY("large"), &stream, &error));
  CHECK(stream.get_next(&stream, &array) == 0);
  if (CHECK(array.release != NULL)) CHECK(array.children[0]->buffers[1] == values);
  arrow_testing_release_array(&array);
  arrow_testing_release_stream(&stream);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- outs ---- */

static void spoil(void *out, size_t size) { memset(out, 0xA5, size); }

/* Every call with an Arrow out, failing or finding nothing: garbage becomes a struct that is safe to look at. */
static void test_outs_of_failing_calls(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_schema *handle = import_schema("value");
  khonsu_schema *another = import_schema("another");
  khonsu_txn *ended = testing_begin(db);
  EXPECT_OK(khonsu_txn_rollback(ended, &error));
  testing_commit_put(db, "key", "1,2,3");
  khonsu_txn *txn = testing_begin(db);
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;

#define EXPECT_ARRAY_EMPTY(status, call)                                                                               \
  do {                                                                                                                 \
    spoil(&array, sizeof(array));                                                                                      \
    EXPECT(status, call);                                                                                              \
    CHECK(array.release == NULL);                                                                                      \
  } while (0)
#define EXPECT_BOTH_EMPTY(status, call)                                                                                \
  do {                                                                                                                 \
    spoil(&schema, sizeof(schema));                                                                                    \
    EXPECT_ARRAY_EMPTY(status, call);                                                                                  \
    CHECK(schema.release == NULL);                                                                                     \
  } while (0)
#define EXPECT_STREAM_EMPTY(status, call)                                                                              \
  do {                                                                                                                 \
    spoil(&stream, sizeof(stream));                                                                                    \
    EXPECT(status, call);                                                                                              \
    CHECK(stream.release == NULL);                                                                                     \
  } while (0)

  EXPECT_BOTH_EMPTY(KHONSU_STATUS_NOT_FOUND, khonsu_txn_get(txn, KEY("absent"), &array, &schema, &error));
  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_NOT_FOUND, khonsu_txn_get(txn, KEY("absent"), &array, NULL, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_get(NULL, KEY("key"), &array, &schema, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_get(txn, NULL, 1, &array, &schema, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_get(txn, "", 0, &array, &schema, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_STATE, khonsu_txn_get(ended, KEY("key"), &array, &schema, &error));
  spoil(&schema, sizeof(schema));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get(txn, KEY("key"), NULL, &schema, &error));
  CHECK(schema.release == NULL);

  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_NOT_FOUND,
                     khonsu_txn_get_with_schema(txn, KEY("absent"), handle, &array, &error));
  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_SCHEMA_MISMATCH,
                     khonsu_txn_get_with_schema(txn, KEY("key"), another, &array, &error));
  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT,
                     khonsu_txn_get_with_schema(txn, KEY("key"), NULL, &array, &error));
  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT,
                     khonsu_txn_get_with_schema(NULL, KEY("key"), handle, &array, &error));
  EXPECT_ARRAY_EMPTY(KHONSU_STATUS_INVALID_STATE,
                     khonsu_txn_get_with_schema(ended, KEY("key"), handle, &array, &error));

  EXPECT_STREAM_EMPTY(KHONSU_STATUS_NOT_FOUND, khonsu_txn_get_stream(txn, KEY("absent"), &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_get_stream(NULL, KEY("key"), &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_txn_get_stream(txn, "", 0, &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_STATE, khonsu_txn_get_stream(ended, KEY("key"), &stream, &error));

  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT,
                      khonsu_txn_scan_stream(NULL, NULL, 0, NULL, 0, 0, 0, &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT,
                      khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, 99, 0, &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_STATE,
                      khonsu_txn_scan_stream(ended, NULL, 0, NULL, 0, 0, 0, &stream, &error));

  khonsu_cursor *cursor = NULL;
  EXPECT_OK(khonsu_txn_scan(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &cursor, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_STATE, khonsu_cursor_get(cursor, &array, &schema, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_cursor_get(NULL, &array, &schema, &error));
  EXPECT_OK(khonsu_cursor_next(cursor, &error));
  EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_cursor_next(cursor, &error));
  EXPECT_BOTH_EMPTY(KHONSU_STATUS_INVALID_STATE, khonsu_cursor_get(cursor, &array, &schema, &error));
  khonsu_cursor_free(cursor);

  spoil(&schema, sizeof(schema));
  EXPECT_INVALID_ARGUMENT(khonsu_schema_export(NULL, &schema, &error));
  CHECK(schema.release == NULL);

  EXPECT_STREAM_EMPTY(KHONSU_STATUS_INVALID_ARGUMENT, khonsu_ipc_open_stream(NULL, &stream, &error));
  EXPECT_STREAM_EMPTY(KHONSU_STATUS_STORAGE, khonsu_ipc_open_stream("/nowhere/at/all.arrow", &stream, &error));

  khonsu_schema_free(handle);
  khonsu_schema_free(another);
  khonsu_txn_free(ended);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* Handles that a failing call writes become NULL. */
static void test_handle_outs_of_failing_calls(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = (khonsu_txn *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_db_begin(NULL, NULL, &txn, &error));
  CHECK(txn == NULL);
  txn = testing_begin(db);
  khonsu_cursor *cursor = (khonsu_cursor *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(NULL, NULL, 0, NULL, 0, 0, 0, &cursor, &error));
  CHECK(cursor == NULL);
  cursor = (khonsu_cursor *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan(txn, NULL, 0, NULL, 0, 7, 0, &cursor, &error));
  CHECK(cursor == NULL);
  cursor = (khonsu_cursor *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_txn_scan_prefix(txn, "p", 1, -1, 0, &cursor, &error));
  CHECK(cursor == NULL);
  EXPECT_OK(khonsu_txn_rollback(txn, &error));
  cursor = (khonsu_cursor *)(uintptr_t)0x10;
  EXPECT_INVALID_STATE(khonsu_txn_scan(txn, NULL, 0, NULL, 0, 0, 0, &cursor, &error));
  CHECK(cursor == NULL);
  khonsu_schema *schema = (khonsu_schema *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_schema_import(NULL, &schema, &error));
  CHECK(schema == NULL);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
}

/* ---- exported arrays ---- */

static void get_mixed(khonsu_db *db, struct ArrowArray *array, struct ArrowSchema *schema) {
  static const int64_t ids[] = {10, 20, 30};
  static const double amounts[] = {1.0, 2.0, 3.0};
  static const char *const labels[] = {"one", NULL, "three"};
  khonsu_error *error = NULL;
  khonsu_txn *txn = testing_begin(db);
  arrow_testing_mixed_batch(array, schema, ids, amounts, labels, 3);
  EXPECT_OK(khonsu_txn_put(txn, KEY("mixed"), array, schema, &error));
  EXPECT_OK(khonsu_txn_get(txn, KEY("mixed"), array, schema, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  if (!CHECK(array->release != NULL && array->n_children == 3)) exit(EXIT_FAILURE);
}

static void check_int64s(const struct ArrowArray *column) {
  const int64_t *values = (const int64_t *)column->buffers[1] + column->offset;
  CHECK(column->length == 3);
  CHECK(values[0] == 10 && values[1] == 20 && values[2] == 30);
}

static struct ArrowArray move_array(struct ArrowArray *from) {
  struct ArrowArray moved = *from;
  from->release = NULL;
  return moved;
}

/* The child outlives the parent, the parent outlives the child, children are released in place, structs are moved;
 * with and without the database still open. */
static void test_children_of_exported_arrays(void) {
  for (int order = 0; order < 10; order++) {
    khonsu_db *db = testing_open();
    struct ArrowArray array;
    struct ArrowSchema schema;
    get_mixed(db, &array, &schema);
    if (order >= 5) khonsu_db_free(db);
    struct ArrowArray child;
    struct ArrowArray parent;
    switch (order % 5) {
      case 0: /* parent first */
        child = move_array(array.children[0]);
        array.release(&array);
        CHECK(array.release == NULL);
        check_int64s(&child);
        child.release(&child);
        CHECK(child.release == NULL);
        break;
      case 1: /* child first */
        child = move_array(array.children[0]);
        check_int64s(&child);
        child.release(&child);
        CHECK(arrow_testing_utf8_equals(&array, 2, 2, "three"));
        array.release(&array);
        break;
      case 2: /* child released where it is */
        array.children[1]->release(array.children[1]);
        CHECK(array.children[1]->release == NULL);
        check_int64s(array.children[0]);
        array.release(&array);
        break;
      case 3: /* all children moved out, released in another order */
      {
        struct ArrowArray children[3];
        for (int i = 0; i < 3; i++) children[i] = move_array(array.children[i]);
        array.release(&array);
        children[2].release(&children[2]);
        check_int64s(&children[0]);
        children[0].release(&children[0]);
        children[1].release(&children[1]);
        break;
      }
      default: /* the parent moved */
        parent = move_array(&array);
        check_int64s(parent.children[0]);
        parent.release(&parent);
        CHECK(parent.release == NULL);
        break;
    }
    struct ArrowSchema field = *schema.children[2];
    schema.children[2]->release = NULL;
    schema.release(&schema);
    CHECK(schema.release == NULL);
    CHECK_TEXT("u", field.format);
    CHECK_TEXT("label", field.name);
    field.release(&field);
    CHECK(field.release == NULL);
    if (order < 5) khonsu_db_free(db);
    CHECK_NOTHING_LIVE();
  }
}

/* An exported batch is itself a sound input, also for another database. */
static void test_exported_arrays_go_in_again(void) {
  khonsu_error *error = NULL;
  khonsu_db *first = testing_open();
  khonsu_db *second = testing_open();
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  get_mixed(first, &array, &schema);
  khonsu_txn *txn = testing_begin(second);
  EXPECT_OK(khonsu_txn_put(txn, KEY("copy"), &array, &schema, &error));
  khonsu_db_free(first);
  EXPECT_OK(khonsu_txn_get_stream(txn, KEY("copy"), &stream, &error));
  EXPECT_OK(khonsu_txn_put_stream(txn, KEY("copy of the copy"), &stream, &error));
  CHECK(stream.release == NULL);
  EXPECT_OK(khonsu_txn_get(txn, KEY("copy of the copy"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_append(txn, KEY("copy"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(second);
  EXPECT_OK(khonsu_txn_get(txn, KEY("copy"), &array, &schema, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(second);
  if (CHECK(array.length == 6)) {
    CHECK(arrow_testing_int64_sum(&array, 0) == 120);
    CHECK(arrow_testing_is_null(&array, 2, 1));
    CHECK(arrow_testing_is_null(&array, 2, 4));
    CHECK(arrow_testing_utf8_equals(&array, 2, 5, "three"));
  }
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);
}

/* ---- exported streams ---- */

static void test_exported_streams(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  struct ArrowArrayStream stream;
  struct ArrowArray first;
  struct ArrowArray second;
  struct ArrowArray end;
  struct ArrowSchema schema;
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "key", "1,2", &error));
  EXPECT_OK(testing_append(txn, "key", "3", &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);

  txn = testing_begin(db);
  EXPECT_OK(khonsu_txn_get_stream(txn, KEY("key"), &stream, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  struct ArrowArrayStream moved = stream;
  stream.release = NULL;
  for (int i = 0; i < 2; i++) {
    CHECK(moved.get_schema(&moved, &schema) == 0);
    CHECK_TEXT("+s", schema.format);
    CHECK(schema.n_children == 1);
    CHECK_TEXT("value", schema.children[0]->name);
    schema.release(&schema);
  }
  CHECK(moved.get_next(&moved, &first) == 0);
  CHECK(moved.get_next(&moved, &second) == 0);
  for (int i = 0; i < 2; i++) {
    spoil(&end, sizeof(end));
    CHECK(moved.get_next(&moved, &end) == 0);
    CHECK(end.release == NULL);
  }
  moved.release(&moved);
  CHECK(moved.release == NULL);
  char text[64] = "";
  if (CHECK(first.release != NULL)) testing_format(&first, 0, text, sizeof(text));
  if (CHECK(second.release != NULL)) testing_format(&second, 0, text, sizeof(text));
  CHECK_TEXT("1,2,3", text);
  arrow_testing_release_array(&first);
  arrow_testing_release_array(&second);
}

/* A stream given up in the middle, or never begun, leaves nothing behind. */
static void test_streams_given_up(void) {
  khonsu_error *error = NULL;
  for (int taken = 0; taken < 3; taken++) {
    khonsu_db *db = testing_open();
    khonsu_txn *txn = testing_begin(db);
    struct ArrowArrayStream stream;
    EXPECT_OK(testing_put(txn, "a", "1", &error));
    EXPECT_OK(testing_append(txn, "a", "2", &error));
    EXPECT_OK(testing_put(txn, "b", "3", &error));
    EXPECT_OK(khonsu_txn_get_stream(txn, KEY("a"), &stream, &error));
    for (int i = 0; i < taken; i++) {
      struct ArrowArray array;
      CHECK(stream.get_next(&stream, &array) == 0);
      arrow_testing_release_array(&array);
    }
    arrow_testing_release_stream(&stream);
    EXPECT_OK(khonsu_txn_scan_stream(txn, NULL, 0, NULL, 0, KHONSU_DIRECTION_FORWARD, 0, &stream, &error));
    for (int i = 0; i < taken; i++) {
      struct ArrowArray array;
      CHECK(stream.get_next(&stream, &array) == 0);
      arrow_testing_release_array(&array);
    }
    arrow_testing_release_stream(&stream);
    khonsu_txn_free(txn);
    khonsu_db_free(db);
    CHECK_NOTHING_LIVE();
  }
}

/* ---- release on another thread ---- */

static void *release_elsewhere(void *argument) {
  struct ArrowArray *array = (struct ArrowArray *)argument;
  CHECK(arrow_testing_int64_sum(array, 0) == 60);
  array->release(array);
  return NULL;
}

static void test_release_on_another_thread(void) {
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  struct ArrowArray arrays[THREADS];
  struct ArrowSchema schema;
  khonsu_db *db = testing_open();
  for (int i = 0; i < THREADS; i++) {
    get_mixed(db, &arrays[i], &schema);
    schema.release(&schema);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, release_elsewhere, &arrays[i]) == 0);
  khonsu_db_free(db);
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(arrays[i].release == NULL);
  }
}

int main(void) {
  RUN(test_inputs_of_good_calls);
  RUN(test_release_of_dead_values);
  RUN(test_inputs_of_failing_calls);
  RUN(test_inputs_of_another_schema);
  RUN(test_no_copy_of_large_batches);
  RUN(test_outs_of_failing_calls);
  RUN(test_handle_outs_of_failing_calls);
  RUN(test_children_of_exported_arrays);
  RUN(test_exported_arrays_go_in_again);
  RUN(test_exported_streams);
  RUN(test_streams_given_up);
  RUN(test_release_on_another_thread);
  return testing_finish("arrow_ownership_test");
}
