/* Bound keys and reads of many: what is refused, what a failure leaves, and handles freed in any order. */
#include "c_testing.h"

static khonsu_schema *testing_schema(void) {
  khonsu_error *error = NULL;
  khonsu_schema *handle = NULL;
  struct ArrowSchema schema;
  testing_batch(NULL, &schema, "");
  EXPECT_OK(khonsu_schema_import(&schema, &handle, &error));
  return handle;
}

static khonsu_key *testing_bind(const khonsu_db *db, const char *key) {
  khonsu_error *error = NULL;
  khonsu_key *bound = NULL;
  EXPECT_OK(khonsu_key_bind(db, KEY(key), &bound, &error));
  if (!CHECK(bound != NULL)) exit(EXIT_FAILURE);
  return bound;
}

static void test_binding(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_key *bound = (khonsu_key *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_key_bind(NULL, KEY("k"), &bound, &error));
  CHECK(bound == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_key_bind(db, NULL, 1, &bound, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_key_bind(db, "k", 0, &bound, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_key_bind(db, "k", KHONSU_KEY_MAX_BYTES + 1, &bound, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_key_bind(db, KEY("k"), NULL, &error));
  CHECK(bound == NULL);
  CHECK(khonsu_key_bind(db, KEY("k"), &bound, NULL) == KHONSU_STATUS_OK);
  khonsu_key_free(bound);
  khonsu_db_free(db);
}

/* Every call with a key of NULL, of another database, and in the wrong state. */
static void test_refusals(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_db *other = testing_open();
  khonsu_schema *schema = testing_schema();
  khonsu_key *own = testing_bind(db, "key");
  khonsu_key *stranger = testing_bind(other, "key");
  struct ArrowArray array, arrays[2];
  struct ArrowSchema out_schema;
  bool exists = true;
  khonsu_txn *txn = testing_begin(db);
  for (int way = 0; way < 2; way++) {
    const khonsu_key *wrong = way == 0 ? NULL : stranger;
    EXPECT_INVALID_ARGUMENT(khonsu_txn_get_bound(txn, wrong, schema, &array, &out_schema, &error));
    CHECK(array.release == NULL && out_schema.release == NULL);
    EXPECT_INVALID_ARGUMENT(khonsu_txn_exists_bound(txn, wrong, &exists, &error));
    CHECK(exists);
    testing_batch(&array, NULL, "1");
    EXPECT_INVALID_ARGUMENT(khonsu_txn_put_bound(txn, wrong, &array, schema, &error));
    CHECK(array.release == NULL);
    testing_batch(&array, NULL, "1");
    EXPECT_INVALID_ARGUMENT(khonsu_txn_append_bound(txn, wrong, &array, schema, &error));
    CHECK(array.release == NULL);
    EXPECT_INVALID_ARGUMENT(khonsu_txn_delete_bound(txn, wrong, &error));
    const khonsu_key *keys[2] = {own, wrong};
    memset(arrays, 0xA5, sizeof(arrays));
    EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_bound(txn, keys, 2, schema, arrays, NULL, &error));
    CHECK(arrays[0].release == NULL && arrays[1].release == NULL);
  }
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_bound(txn, own, schema, NULL, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_bound(NULL, own, schema, &array, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_exists_bound(txn, own, NULL, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_bound(txn, own, &array, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_bound(txn, own, NULL, schema, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_bound(txn, NULL, 2, schema, arrays, NULL, &error));
  const khonsu_key *keys[2] = {own, own};
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_bound(txn, keys, 2, schema, NULL, NULL, &error));
  EXPECT_OK(khonsu_txn_get_many_bound(txn, NULL, 0, NULL, NULL, NULL, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));

  EXPECT_INVALID_STATE(khonsu_txn_get_bound(txn, own, schema, &array, NULL, &error));
  EXPECT_INVALID_STATE(khonsu_txn_exists_bound(txn, own, &exists, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_STATE(khonsu_txn_put_bound(txn, own, &array, schema, &error));
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_STATE(khonsu_txn_append_bound(txn, own, &array, schema, &error));
  EXPECT_INVALID_STATE(khonsu_txn_delete_bound(txn, own, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get_many_bound(txn, keys, 2, schema, arrays, NULL, &error));
  CHECK(arrays[0].release == NULL && arrays[1].release == NULL);
  khonsu_txn_free(txn);

  txn = testing_begin_read_only(db);
  testing_batch(&array, NULL, "1");
  EXPECT_INVALID_STATE(khonsu_txn_put_bound(txn, own, &array, schema, &error));
  EXPECT_INVALID_STATE(khonsu_txn_delete_bound(txn, own, &error));
  khonsu_txn_free(txn);
  khonsu_key_free(own);
  khonsu_key_free(stranger);
  khonsu_schema_free(schema);
  khonsu_db_free(db);
  khonsu_db_free(other);
}

static void test_refusals_of_many(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_schema *schema = testing_schema();
  khonsu_txn *txn = testing_begin(db);
  struct ArrowArray arrays[3];
  struct ArrowSchema schemas[3];
  struct ArrowArrayStream stream;
  bool present[3] = {true, true, true};
  EXPECT_OK(testing_put(txn, "a", "1", &error));
  const void *keys[3] = {"a", "a", "a"};
  size_t key_lens[3] = {1, 1, 1};
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many(NULL, keys, key_lens, 3, schema, arrays, schemas, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many(txn, NULL, key_lens, 3, schema, arrays, schemas, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many(txn, keys, NULL, 3, schema, arrays, schemas, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many(txn, keys, key_lens, 3, schema, NULL, schemas, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_stream(NULL, keys, key_lens, 3, present, &stream, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_stream(txn, keys, key_lens, 3, present, NULL, &error));
  EXPECT_OK(khonsu_txn_get_many(txn, NULL, NULL, 0, schema, NULL, NULL, &error));
  EXPECT_OK(khonsu_txn_get_many_stream(txn, NULL, NULL, 0, NULL, &stream, &error));
  arrow_testing_release_stream(&stream);
  for (int way = 0; way < 3; way++) {
    keys[2] = way == 0 ? NULL : "a";
    key_lens[2] = way == 1 ? 0 : way == 2 ? KHONSU_KEY_MAX_BYTES + 1 : 1;
    memset(arrays, 0xA5, sizeof(arrays));
    memset(schemas, 0xA5, sizeof(schemas));
    EXPECT_KEEP(KHONSU_STATUS_INVALID_ARGUMENT,
                khonsu_txn_get_many(txn, keys, key_lens, 3, schema, arrays, schemas, &error));
    CHECK(strstr(khonsu_error_message(error), "keys[2]") != NULL);
    DROP_ERROR();
    for (int i = 0; i < 3; i++) CHECK(arrays[i].release == NULL && schemas[i].release == NULL);
    EXPECT_INVALID_ARGUMENT(khonsu_txn_get_many_stream(txn, keys, key_lens, 3, present, &stream, &error));
    CHECK(stream.release == NULL && present[0]);
  }
  keys[2] = "a";
  key_lens[2] = 1;

  /* A failure at the last takes back what was given before. */
  struct ArrowArray array;
  struct ArrowSchema text;
  arrow_testing_int64_batch(&array, &text, "another name", (const int64_t[]){1}, 1);
  EXPECT_OK(khonsu_txn_put(txn, KEY("b"), &array, &text, &error));
  keys[2] = "b";
  EXPECT(KHONSU_STATUS_SCHEMA_MISMATCH,
         khonsu_txn_get_many(txn, keys, key_lens, 3, schema, arrays, schemas, &error));
  for (int i = 0; i < 3; i++) CHECK(arrays[i].release == NULL && schemas[i].release == NULL);
  EXPECT(KHONSU_STATUS_SCHEMA_MISMATCH,
         khonsu_txn_get_many_stream(txn, keys, key_lens, 3, present, &stream, &error));
  CHECK(stream.release == NULL);
  khonsu_stats stats;
  EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
  CHECK(stats.pinned_bytes == 0);
  EXPECT_OK(khonsu_txn_get_many(txn, keys, key_lens, 3, NULL, arrays, NULL, &error));
  for (int i = 0; i < 3; i++) arrow_testing_release_array(&arrays[i]);

  EXPECT_OK(khonsu_txn_commit(txn, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get_many(txn, keys, key_lens, 3, NULL, arrays, NULL, &error));
  EXPECT_INVALID_STATE(khonsu_txn_get_many_stream(txn, keys, key_lens, 3, NULL, &stream, &error));
  khonsu_txn_free(txn);
  khonsu_schema_free(schema);
  khonsu_db_free(db);
}

/* The key is deleted, reclaimed, and put again by its bytes, while it is bound. */
static void test_a_key_that_comes_back(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_key *bound = testing_bind(db, "key");
  for (int round = 0; round < 4; round++) {
    khonsu_stats stats;
    struct ArrowArray array;
    char number[16];
    snprintf(number, sizeof(number), "%d", round);
    testing_commit_put(db, "key", number);
    khonsu_txn *txn = testing_begin_read_only(db);
    char text[16] = "";
    EXPECT_OK(khonsu_txn_get_bound(txn, bound, NULL, &array, NULL, &error));
    testing_format(&array, 0, text, sizeof(text));
    CHECK_TEXT(number, text);
    khonsu_txn_free(txn);
    txn = testing_begin(db);
    EXPECT_OK(khonsu_txn_delete_bound(txn, bound, &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    CHECK_COMMITTED(db, "key", "absent");
    EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
    CHECK(stats.keys == 0 && stats.versions == 0); /* what is bound keeps no key */
    CHECK(array.length == 1);
    arrow_testing_release_array(&array);
  }
  khonsu_key_free(bound);
  khonsu_db_free(db);
}

static void test_any_order_of_free(void) {
  for (int order = 0; order < 6; order++) {
    khonsu_error *error = NULL;
    khonsu_db *db = testing_open();
    khonsu_schema *schema = testing_schema();
    khonsu_key *bound = testing_bind(db, "key");
    khonsu_txn *txn = testing_begin(db);
    struct ArrowArray array;
    testing_batch(&array, NULL, "1,2");
    EXPECT_OK(khonsu_txn_put_bound(txn, bound, &array, schema, &error));
    EXPECT_OK(khonsu_txn_get_bound(txn, bound, schema, &array, NULL, &error));
    static const char *const orders[6] = {"dkt", "dtk", "kdt", "ktd", "tdk", "tkd"};
    for (const char *step = orders[order]; *step != '\0'; step++) {
      if (*step == 'd') khonsu_db_free(db);
      if (*step == 'k') khonsu_key_free(bound);
      if (*step == 't') {
        EXPECT_OK(khonsu_txn_commit(txn, &error));
        khonsu_txn_free(txn);
      }
    }
    CHECK(arrow_testing_int64_at(&array, 0, 1) == 2);
    arrow_testing_release_array(&array);
    khonsu_schema_free(schema);
  }
}

int main(void) {
  RUN(test_binding);
  RUN(test_refusals);
  RUN(test_refusals_of_many);
  RUN(test_a_key_that_comes_back);
  RUN(test_any_order_of_free);
  return testing_finish("key_test");
}
