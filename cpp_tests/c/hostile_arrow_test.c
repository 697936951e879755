/* Malformed Arrow input through every entrance: each gives INVALID_ARGUMENT, is consumed all the same, leaves nothing
 * behind and leaves the transaction in use. What cannot be seen in the structs (dangling pointers, a buffer that is
 * too short, values of another type of the same width) is not tried. */
#include "c_testing.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 4

/* A dictionary that is hung on a struct without being owned by it. */
static struct ArrowArray extra_array;
static struct ArrowSchema extra_schema;

static void good_batch(struct ArrowArray *array, struct ArrowSchema *schema) {
  static const int64_t ids[ROWS] = {1, 2, 3, 4};
  static const double amounts[ROWS] = {0.5, 1.5, 2.5, 3.5};
  static const char *const labels[ROWS] = {"north", NULL, "", "south"};
  arrow_testing_mixed_batch(array, schema, ids, amounts, labels, ROWS);
  if (array != NULL) testing_shield_array(array);
  if (schema != NULL) testing_shield_schema(schema);
}

/* int32 offsets of the utf8 column, to be written to. */
static int32_t *label_offsets(struct ArrowArray *array) {
  return (int32_t *)(uintptr_t)array->children[2]->buffers[1];
}

static void give_top_level_validity(struct ArrowArray *array, unsigned char bits, int64_t null_count) {
  /* Owned by nobody: it must live for as long as the array. */
  static unsigned char validity[1];
  validity[0] = bits;
  array->buffers[0] = validity;
  array->null_count = null_count;
}

/* Damages a good batch in way number `which`; NULL when there is no such way. */
static const char *damage_array(int which, struct ArrowArray *array) {
  struct ArrowArray *ids = array->children[0];
  struct ArrowArray *labels = array->children[2];
  switch (which) {
    case 0: array->n_children = 0; return "no children";
    case 1: array->n_children = 2; return "a child too few";
    case 2: array->n_children = 4; return "a child too many";
    case 3: array->n_children = -1; return "n_children -1";
    case 4: array->n_children = INT64_MAX; return "n_children INT64_MAX";
    case 5: array->n_children = INT64_MIN; return "n_children INT64_MIN";
    case 6: array->children = NULL; return "children NULL";
    case 7: array->children[1] = NULL; return "a child NULL";
    case 8: ids->release(ids); return "a child released";
    case 9: array->n_buffers = -1; return "n_buffers -1";
    case 10: array->n_buffers = 2; return "n_buffers of the struct 2";
    case 11: array->n_buffers = INT64_MAX; return "n_buffers of the struct INT64_MAX";
    case 12: array->buffers = NULL; return "buffers of the struct NULL";
    case 13: ids->n_buffers = 0; return "n_buffers of a column 0";
    case 14: ids->n_buffers = 1; return "n_buffers of a column 1";
    case 15: ids->n_buffers = 3; return "n_buffers of a column 3";
    case 16: ids->n_buffers = -1; return "n_buffers of a column -1";
    case 17: ids->n_buffers = INT64_MAX; return "n_buffers of a column INT64_MAX";
    case 18: labels->n_buffers = 2; return "n_buffers of a utf8 column 2";
    case 19: labels->n_buffers = 4; return "n_buffers of a utf8 column 4";
    case 20: ids->buffers = NULL; return "buffers of a column NULL";
    case 21: ids->buffers[1] = NULL; return "values NULL";
    case 22: labels->buffers[1] = NULL; return "offsets NULL";
    case 23: labels->buffers[2] = NULL; return "characters NULL";
    case 24: array->length = -1; return "length -1";
    case 25: array->length = INT64_MIN; return "length INT64_MIN";
    case 26: array->length = INT64_MAX; return "length INT64_MAX";
    case 27: array->length = ROWS + 1; return "longer than its columns";
    case 28: array->offset = -1; return "offset -1";
    case 29: array->offset = INT64_MIN; return "offset INT64_MIN";
    case 30: array->offset = INT64_MAX; return "offset INT64_MAX";
    case 31: array->offset = 1; return "offset and length beyond the columns";
    case 32:
      array->offset = INT64_MAX;
      array->length = INT64_MAX;
      return "offset + length overflows";
    case 33: ids->length = -1; return "length of a column -1";
    case 34: ids->length = ROWS - 1; return "a column shorter than the batch";
    case 35: ids->length = INT64_MAX; ids->offset = 1; return "offset + length of a column overflows";
    case 36: ids->length = INT64_MAX; return "the bytes of a column overflow";
    case 37: ids->offset = -1; return "offset of a column -1";
    case 38: ids->offset = INT64_MIN; return "offset of a column INT64_MIN";
    case 39: ids->offset = INT64_MAX; return "offset of a column INT64_MAX";
    case 40: labels->length = INT64_MAX; return "the offsets of a utf8 column overflow";
    case 41: labels->offset = INT64_MAX - 2; return "offset of a utf8 column overflows";
    case 42: ids->null_count = ROWS + 1; return "null_count above length";
    case 43: ids->null_count = INT64_MAX; return "null_count INT64_MAX";
    case 44: ids->null_count = -2; return "null_count -2";
    case 45: array->null_count = ROWS + 1; return "null_count of the struct above length";
    case 46: give_top_level_validity(array, 0x0D, 1); return "a null row";
    case 47: give_top_level_validity(array, 0x0D, -1); return "a null row, null_count unknown";
    case 48: give_top_level_validity(array, 0x00, ROWS); return "all rows null";
    case 49: ids->null_count = 1; return "nulls without a bitmap";
    case 50:
      arrow_testing_int64(&extra_array, NULL, NULL, 0);
      ids->dictionary = &extra_array;
      return "a dictionary that the schema has not";
    case 51: label_offsets(array)[0] = -1; return "the first offset negative";
    case 52: label_offsets(array)[ROWS] = -1; return "the last offset negative";
    case 53: label_offsets(array)[ROWS] = INT32_MIN; return "the last offset INT32_MIN";
    case 54: label_offsets(array)[0] = 11; return "the first offset above the last";
    case 55: array->children[1] = array; return "an array that is its own child";
    default: return NULL;
  }
}

/* The same for the schema of the good batch. */
static const char *damage_schema(int which, struct ArrowSchema *schema) {
  static const char count_negative[] = {(char)0xff, (char)0xff, (char)0xff, (char)0xff, 0, 0, 0, 0};
  static const char key_negative[] = {1, 0, 0, 0, (char)0xff, (char)0xff, (char)0xff, (char)0xff, 0, 0, 0, 0};
  static const char value_negative[] = {1, 0, 0, 0, 1, 0, 0, 0, 'k', (char)0xfb, (char)0xff, (char)0xff, (char)0xff};
  static const char key_not_utf8[] = {1, 0, 0, 0, 1, 0, 0, 0, (char)0xff, 1, 0, 0, 0, 'v'};
  static const char value_not_utf8[] = {1, 0, 0, 0, 1, 0, 0, 0, 'k', 1, 0, 0, 0, (char)0xc0};
  struct ArrowSchema *id = schema->children[0];
  struct ArrowSchema *label = schema->children[2];
  switch (which) {
    case 0: schema->format = NULL; return "format of the struct NULL";
    case 1: schema->format = "l"; return "a column that is no struct at the top";
    case 2: schema->format = "+l"; return "a list at the top";
    case 3: schema->format = ""; return "format of the struct empty";
    case 4: id->format = NULL; return "format NULL";
    case 5: id->format = ""; return "format empty";
    case 6: id->format = "zz"; return "format unknown";
    case 7: id->format = "\xff\xfe"; return "format not UTF-8";
    case 8: id->format = "l "; return "format with something after it";
    case 9: id->format = "w:-5"; return "fixed size -5";
    case 10: id->format = "w:"; return "fixed size missing";
    case 11: id->format = "w:99999999999999999999"; return "fixed size beyond 64 bits";
    case 12: id->format = "w:2147483648"; return "fixed size beyond 32 bits";
    case 13: id->format = "w:x"; return "fixed size no number";
    case 14: id->format = "d:"; return "decimal without precision";
    case 15: id->format = "d:10"; return "decimal without scale";
    case 16: id->format = "d:10,2,77"; return "decimal of 77 bits";
    case 17: id->format = "d:99,2"; return "decimal precision beyond its width";
    case 18: id->format = "d:0,0"; return "decimal precision 0";
    case 19: id->format = "d:-3,2"; return "decimal precision negative";
    case 20: id->format = "tsx:"; return "timestamp of an unknown unit";
    case 21: id->format = "ts"; return "timestamp cut short";
    case 22: id->format = "tdX"; return "date of an unknown unit";
    case 23: id->format = "+s"; id->n_children = -1; return "n_children of a struct column -1";
    case 24: id->format = "+l"; return "list without a child";
    case 25: id->format = "+L"; return "large list without a child";
    case 26: id->format = "+w:3"; return "fixed-size list without a child";
    case 27: id->format = "+w:-1"; return "fixed-size list of -1";
    case 28: id->format = "+vl"; return "list view without a child";
    case 29: id->format = "+m"; return "map without a child";
    case 30: id->format = "+r"; return "run-end encoded without children";
    case 31: id->format = "+ud:0,1"; return "union without its children";
    case 32: id->format = "+us:a"; return "union with a type code that is no number";
    case 33: id->format = "+zz"; return "nested format unknown";
    case 34: id->name = "\xff"; return "name not UTF-8";
    case 35: schema->n_children = -1; return "n_children -1";
    case 36: schema->n_children = INT64_MAX; return "n_children INT64_MAX";
    case 37: schema->n_children = 4; return "a child too many, NULL";
    case 38: schema->children = NULL; return "children NULL";
    case 39: schema->children[1] = NULL; return "a child NULL";
    case 40: id->release(id); return "a child released";
    case 41: id->n_children = 1; return "a child of a primitive column, children NULL";
    case 42: id->metadata = count_negative; return "a negative number of metadata";
    case 43: id->metadata = key_negative; return "a metadata key of negative length";
    case 44: id->metadata = value_negative; return "a metadata value of negative length";
    case 45: schema->metadata = count_negative; return "a negative number of metadata of the struct";
    case 46: schema->metadata = key_not_utf8; return "a metadata key not UTF-8";
    case 47: schema->metadata = value_not_utf8; return "a metadata value not UTF-8";
    case 48:
      arrow_testing_field(&extra_schema, "u", "", 1);
      label->dictionary = &extra_schema;
      return "a dictionary with utf8 indices";
    case 49: schema->children[1] = schema; return "a schema that is its own child";
    case 50:
      arrow_testing_field(&extra_schema, "u", "", 1);
      extra_schema.dictionary = &extra_schema;
      id->dictionary = &extra_schema;
      return "a dictionary that is its own dictionary";
    case 51: id->format = "+s"; id->n_children = 3; id->children = schema->children; return "a cycle of two levels";
    default: return NULL;
  }
}

/* The schema is sound but is not that of the array. */
static const char *mismatch(int which, struct ArrowSchema *schema) {
  switch (which) {
    case 0: schema->n_children = 2; return "a column fewer";
    case 1: schema->children[0]->format = "u"; return "utf8 for int64";
    case 2: schema->children[2]->format = "l"; return "int64 for utf8";
    case 3: schema->children[0]->format = "n"; return "null for int64";
    case 4: schema->children[0]->format = "+s"; return "struct for int64";
    case 5:
      arrow_testing_field(&extra_schema, "u", "", 1);
      schema->children[0]->dictionary = &extra_schema;
      return "a dictionary that the array has not";
    default: return NULL;
  }
}

static void drop_extras(void) {
  /* The struct that refers to itself only in `dictionary` is one object. */
  arrow_testing_release_array(&extra_array);
  arrow_testing_release_schema(&extra_schema);
  memset(&extra_array, 0, sizeof(extra_array));
  memset(&extra_schema, 0, sizeof(extra_schema));
}

/* ---- entrances ---- */

static khonsu_db *db;
static khonsu_txn *txn;
static khonsu_schema *good_schema;
static char scratch[4096];

static void enter_setup(void) {
  khonsu_error *error = NULL;
  struct ArrowSchema schema;
  db = testing_open();
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "kept", "1,2,3", &error));
  good_batch(NULL, &schema);
  EXPECT_OK(khonsu_schema_import(&schema, &good_schema, &error));
  const char *directory = getenv("TMPDIR");
  snprintf(scratch, sizeof(scratch), "%s/khonsu_hostile_XXXXXX", directory == NULL ? "/tmp" : directory);
  if (!CHECK(mkdtemp(scratch) != NULL)) exit(EXIT_FAILURE);
}

static void enter_teardown(void) {
  khonsu_error *error = NULL;
  CHECK_VALUE(txn, "kept", "1,2,3");
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  CHECK_COMMITTED(db, "kept", "1,2,3");
  khonsu_schema_free(good_schema);
  good_schema = NULL;
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  CHECK(rmdir(scratch) == 0); /* which fails when a refused stream left a file behind */
}

static void check_unharmed(const char *name, int64_t arrays, int64_t schemas) {
  khonsu_error *error = NULL;
  bool exists = true;
  int64_t failures = testing_failures;
  drop_extras();
  CHECK(arrow_testing_live_arrays() == arrays);
  CHECK(arrow_testing_live_schemas() == schemas);
  CHECK(arrow_testing_live_streams() == 0);
  CHECK_VALUE(txn, "kept", "1,2,3");
  EXPECT_OK(khonsu_txn_exists(txn, KEY("hostile"), &exists, &error));
  CHECK(!exists);
  if (testing_failures != failures) fprintf(stderr, "  ... with: %s\n", name);
}

#define EXPECT_REFUSED(name, call)                                                                                     \
  do {                                                                                                                 \
    int64_t failures_before = testing_failures;                                                                        \
    EXPECT_INVALID_ARGUMENT(call);                                                                                     \
    if (testing_failures != failures_before) fprintf(stderr, "  ... with: %s\n", (name));                              \
  } while (0)

/* Gives a pair to put, append, put_stream and ipc_write_stream; make builds it. */
static void check_pair_refused(const char *(*make)(int, struct ArrowArray *, struct ArrowSchema *), int which,
                               bool as_stream) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  /* good_schema is held by a handle; nothing else is alive between two calls but what the library may keep of it. */
  int64_t arrays = arrow_testing_live_arrays();
  int64_t schemas = arrow_testing_live_schemas();

  const char *name = make(which, &array, &schema);
  EXPECT_REFUSED(name, khonsu_txn_put(txn, KEY("hostile"), &array, &schema, &error));
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  check_unharmed(name, arrays, schemas);

  make(which, &array, &schema);
  EXPECT_REFUSED(name, khonsu_txn_append(txn, KEY("hostile"), &array, &schema, &error));
  CHECK(array.release == NULL);
  CHECK(schema.release == NULL);
  check_unharmed(name, arrays, schemas);

  make(which, &array, &schema);
  CHECK(khonsu_txn_put(txn, KEY("hostile"), &array, &schema, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  check_unharmed(name, arrays, schemas);

  if (!as_stream) return;
  make(which, &array, &schema);
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_REFUSED(name, khonsu_txn_put_stream(txn, KEY("hostile"), &stream, &error));
  CHECK(stream.release == NULL);
  check_unharmed(name, arrays, schemas);

  char path[4200];
  snprintf(path, sizeof(path), "%s/refused.arrow", scratch);
  make(which, &array, &schema);
  arrow_testing_stream(&stream, &schema, &array, 1, -1);
  EXPECT_REFUSED(name, khonsu_ipc_write_stream(path, &stream, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE,
                                               &error));
  CHECK(stream.release == NULL);
  CHECK(access(path, F_OK) != 0);
  check_unharmed(name, arrays, schemas);
}

static const char *make_damaged_array(int which, struct ArrowArray *array, struct ArrowSchema *schema) {
  good_batch(array, schema);
  return damage_array(which, array);
}

static const char *make_damaged_schema(int which, struct ArrowArray *array, struct ArrowSchema *schema) {
  good_batch(array, schema);
  return damage_schema(which, schema);
}

static const char *make_mismatch(int which, struct ArrowArray *array, struct ArrowSchema *schema) {
  good_batch(array, schema);
  return mismatch(which, schema);
}

static int count_ways(const char *(*make)(int, struct ArrowArray *, struct ArrowSchema *)) {
  for (int which = 0;; which++) {
    struct ArrowArray array;
    struct ArrowSchema schema;
    const char *name = make(which, &array, &schema);
    arrow_testing_release_array(&array);
    arrow_testing_release_schema(&schema);
    drop_extras();
    if (name == NULL) return which;
  }
}

static void test_damaged_arrays(void) {
  khonsu_error *error = NULL;
  enter_setup();
  int ways = count_ways(make_damaged_array);
  CHECK(ways == 56);
  for (int which = 0; which < ways; which++) {
    check_pair_refused(make_damaged_array, which, true);

    struct ArrowArray array;
    int64_t arrays = arrow_testing_live_arrays();
    int64_t schemas = arrow_testing_live_schemas();
    good_batch(&array, NULL);
    const char *name = damage_array(which, &array);
    EXPECT_REFUSED(name, khonsu_txn_put_with_schema(txn, KEY("hostile"), &array, good_schema, &error));
    CHECK(array.release == NULL);
    check_unharmed(name, arrays, schemas);

    good_batch(&array, NULL);
    damage_array(which, &array);
    EXPECT_REFUSED(name, khonsu_txn_append_with_schema(txn, KEY("hostile"), &array, good_schema, &error));
    CHECK(array.release == NULL);
    check_unharmed(name, arrays, schemas);
  }
  enter_teardown();
}

static void test_damaged_schemas(void) {
  khonsu_error *error = NULL;
  enter_setup();
  int ways = count_ways(make_damaged_schema);
  CHECK(ways == 52);
  for (int which = 0; which < ways; which++) {
    /* A stream's schema is copied by the helper, which cannot copy a damaged one: own_stream below does that part. */
    check_pair_refused(make_damaged_schema, which, false);

    struct ArrowSchema schema;
    khonsu_schema *imported = (khonsu_schema *)(uintptr_t)0x10;
    int64_t arrays = arrow_testing_live_arrays();
    int64_t schemas = arrow_testing_live_schemas();
    good_batch(NULL, &schema);
    const char *name = damage_schema(which, &schema);
    EXPECT_REFUSED(name, khonsu_schema_import(&schema, &imported, &error));
    CHECK(schema.release == NULL);
    CHECK(imported == NULL);
    check_unharmed(name, arrays, schemas);
  }
  enter_teardown();
}

static void test_arrays_of_another_schema(void) {
  enter_setup();
  int ways = count_ways(make_mismatch);
  CHECK(ways == 6);
  for (int which = 0; which < ways; which++) check_pair_refused(make_mismatch, which, false);
  enter_teardown();
}

/* NULL and released structs, the other one being sound: that one is consumed, too. */
static void test_null_and_released(void) {
  khonsu_error *error = NULL;
  enter_setup();
  for (int entrance = 0; entrance < 2; entrance++) {
    khonsu_status (*write)(khonsu_txn *, const void *, size_t, struct ArrowArray *, struct ArrowSchema *,
                           khonsu_error **) = entrance == 0 ? khonsu_txn_put : khonsu_txn_append;
    struct ArrowArray array;
    struct ArrowSchema schema;
    int64_t arrays = arrow_testing_live_arrays();
    int64_t schemas = arrow_testing_live_schemas();

    good_batch(&array, NULL);
    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), &array, NULL, &error));
    CHECK(array.release == NULL);
    check_unharmed("schema NULL", arrays, schemas);

    good_batch(NULL, &schema);
    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), NULL, &schema, &error));
    CHECK(schema.release == NULL);
    check_unharmed("array NULL", arrays, schemas);

    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), NULL, NULL, &error));

    good_batch(&array, &schema);
    array.release(&array);
    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), &array, &schema, &error));
    CHECK(schema.release == NULL);
    check_unharmed("array released", arrays, schemas);

    good_batch(&array, &schema);
    schema.release(&schema);
    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), &array, &schema, &error));
    CHECK(array.release == NULL);
    check_unharmed("schema released", arrays, schemas);

    memset(&array, 0, sizeof(array));
    memset(&schema, 0, sizeof(schema));
    EXPECT_INVALID_ARGUMENT(write(txn, KEY("hostile"), &array, &schema, &error));
    check_unharmed("both zero", arrays, schemas);
  }

  struct ArrowArray array;
  struct ArrowSchema schema;
  khonsu_schema *imported = NULL;
  good_batch(&array, NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, KEY("hostile"), &array, NULL, &error));
  CHECK(array.release == NULL);
  good_batch(&array, NULL);
  array.release(&array);
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, KEY("hostile"), &array, good_schema, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_put_with_schema(txn, KEY("hostile"), NULL, good_schema, &error));
  good_batch(NULL, &schema);
  schema.release(&schema);
  EXPECT_INVALID_ARGUMENT(khonsu_schema_import(&schema, &imported, &error));
  CHECK(imported == NULL);
  enter_teardown();
}

/* ---- depth ---- */

static int64_t deep_live;

static void deep_child_release(struct ArrowSchema *schema) {
  schema->release = NULL;
}

static void deep_release(struct ArrowSchema *schema) {
  free(schema->private_data);
  schema->release = NULL;
  deep_live--;
}

/* A struct of one column: `levels` lists, one in the other, around an int64. One allocation, released in one go. */
static void deep_schema(struct ArrowSchema *out, size_t levels) {
  size_t nodes = levels + 1;
  char *memory = (char *)arrow_testing_allocate(nodes * (sizeof(struct ArrowSchema) + sizeof(struct ArrowSchema *)));
  struct ArrowSchema *node = (struct ArrowSchema *)(void *)memory;
  struct ArrowSchema **pointers = (struct ArrowSchema **)(void *)(memory + nodes * sizeof(struct ArrowSchema));
  for (size_t i = 0; i < nodes; i++) {
    bool leaf = i + 1 == nodes;
    node[i].format = leaf ? "l" : "+l";
    node[i].name = "item";
    node[i].flags = ARROW_FLAG_NULLABLE;
    node[i].n_children = leaf ? 0 : 1;
    node[i].children = leaf ? NULL : &pointers[i + 1];
    node[i].release = deep_child_release;
    pointers[i] = &node[i];
  }
  memset(out, 0, sizeof(*out));
  out->format = "+s";
  out->name = "";
  out->n_children = 1;
  out->children = &pointers[0];
  out->private_data = memory;
  out->release = deep_release;
  deep_live++;
}

static void test_depth(void) {
  static const size_t refused[] = {65, 1000, 100000};
  khonsu_error *error = NULL;
  enter_setup();
  for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
    struct ArrowSchema schema;
    struct ArrowArray array;
    khonsu_schema *imported = NULL;
    deep_schema(&schema, refused[i]);
    EXPECT_INVALID_ARGUMENT(khonsu_schema_import(&schema, &imported, &error));
    CHECK(imported == NULL);
    CHECK(schema.release == NULL);
    CHECK(deep_live == 0);
    deep_schema(&schema, refused[i]);
    good_batch(&array, NULL);
    EXPECT_INVALID_ARGUMENT(khonsu_txn_put(txn, KEY("hostile"), &array, &schema, &error));
    CHECK(deep_live == 0);
  }
  struct ArrowSchema schema;
  struct ArrowSchema exported;
  khonsu_schema *imported = NULL;
  deep_schema(&schema, 32);
  EXPECT_OK(khonsu_schema_import(&schema, &imported, &error));
  EXPECT_OK(khonsu_schema_export(imported, &exported, &error));
  size_t levels = 0;
  for (const struct ArrowSchema *at = exported.release == NULL ? NULL : exported.children[0];
       at != NULL && strcmp(at->format, "+l") == 0; at = at->children[0]) {
    levels++;
  }
  CHECK(levels == 32);
  arrow_testing_release_schema(&exported);
  khonsu_schema_free(imported);
  CHECK(deep_live == 0);
  enter_teardown();
}

/* ---- things that look odd and are fine ---- */

static void test_odd_but_sound(void) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  enter_setup();

  arrow_testing_struct(&array, 0, 0, NULL);
  arrow_testing_struct_schema(&schema, 0, NULL);
  EXPECT_OK(khonsu_txn_put(txn, KEY("no columns, no rows"), &array, &schema, &error));
  arrow_testing_struct(&array, 7, 0, NULL);
  arrow_testing_struct_schema(&schema, 0, NULL);
  EXPECT_OK(khonsu_txn_put(txn, KEY("no columns"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_get(txn, KEY("no columns"), &array, &schema, &error));
  CHECK(array.length == 7);
  CHECK(array.n_children == 0);
  CHECK(schema.n_children == 0);
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);

  EXPECT_OK(testing_put(txn, "no rows", "", &error));
  CHECK_VALUE(txn, "no rows", "");

  good_batch(&array, &schema);
  array.null_count = -1;
  array.children[0]->null_count = -1;
  array.children[2]->null_count = -1;
  EXPECT_OK(khonsu_txn_put(txn, KEY("null counts unknown"), &array, &schema, &error));

  good_batch(&array, &schema);
  give_top_level_validity(&array, 0x0F, 0);
  EXPECT_OK(khonsu_txn_put(txn, KEY("validity without nulls"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("validity without nulls"), &error));

  good_batch(&array, &schema);
  array.offset = 1;
  array.length = 2;
  EXPECT_OK(khonsu_txn_put(txn, KEY("an offset of the struct"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_get(txn, KEY("an offset of the struct"), &array, &schema, &error));
  if (CHECK(array.length == 2)) {
    CHECK(arrow_testing_int64_at(&array, 0, 0) == 2);
    CHECK(arrow_testing_int64_at(&array, 0, 1) == 3);
    CHECK(arrow_testing_is_null(&array, 2, 0));
    CHECK(arrow_testing_utf8_equals(&array, 2, 1, ""));
  }
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);

  good_batch(&array, &schema);
  schema.name = NULL;
  schema.children[0]->name = NULL;
  EXPECT_OK(khonsu_txn_put(txn, KEY("names NULL"), &array, &schema, &error));

  /* Columns longer than the batch. */
  good_batch(&array, &schema);
  array.length = 1;
  EXPECT_OK(khonsu_txn_put(txn, KEY("shorter than its columns"), &array, &schema, &error));

  /* A utf8 column of zero rows may have no buffers to speak of. */
  struct ArrowArray column;
  struct ArrowSchema field;
  arrow_testing_array_new(&column, 0, 3, 0);
  arrow_testing_field(&field, "u", "label", 1);
  arrow_testing_struct(&array, 0, 1, &column);
  arrow_testing_struct_schema(&schema, 1, &field);
  EXPECT_OK(khonsu_txn_put(txn, KEY("empty utf8"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_get(txn, KEY("empty utf8"), &array, &schema, &error));
  CHECK(array.length == 0);
  arrow_testing_release_array(&array);
  arrow_testing_release_schema(&schema);

  EXPECT_OK(khonsu_txn_rollback(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "kept", "1,2,3", &error));
  enter_teardown();
}

/* ---- what only full validation sees ---- */

static const char *damage_values(int which, struct ArrowArray *array, struct ArrowSchema *schema) {
  switch (which) {
    case 0:
      label_offsets(array)[1] = 8;
      label_offsets(array)[2] = 2;
      return "offsets that go down in the middle";
    case 1: ((char *)(uintptr_t)array->children[2]->buffers[2])[1] = (char)0xff; return "characters that are no UTF-8";
    case 2: schema->children[2]->flags = 0; return "a null in a column without nulls";
    default: return NULL;
  }
}

static void test_full_validation(void) {
  khonsu_error *error = NULL;
  khonsu_options *options = khonsu_options_new();
  khonsu_db *strict = NULL;
  EXPECT_OK(khonsu_options_set_full_validation(options, 1, &error));
  EXPECT_OK(khonsu_db_open(options, &strict, &error));
  khonsu_options_free(options);
  khonsu_txn *writer = testing_begin(strict);
  struct ArrowArray array;
  struct ArrowSchema schema;
  struct ArrowArrayStream stream;
  for (int which = 0; which < 3; which++) {
    good_batch(&array, &schema);
    const char *name = damage_values(which, &array, &schema);
    EXPECT_REFUSED(name, khonsu_txn_put(writer, KEY("strict"), &array, &schema, &error));
    CHECK(array.release == NULL);
    CHECK(schema.release == NULL);
    CHECK_NOTHING_LIVE();
    good_batch(&array, &schema);
    damage_values(which, &array, &schema);
    EXPECT_REFUSED(name, khonsu_txn_append(writer, KEY("strict"), &array, &schema, &error));
    CHECK_NOTHING_LIVE();
    good_batch(&array, &schema);
    damage_values(which, &array, &schema);
    arrow_testing_stream(&stream, &schema, &array, 1, -1);
    EXPECT_REFUSED(name, khonsu_txn_put_stream(writer, KEY("strict"), &stream, &error));
    CHECK_NOTHING_LIVE();
  }
  good_batch(&array, &schema);
  EXPECT_OK(khonsu_txn_put(writer, KEY("strict"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(writer, &error));
  khonsu_txn_free(writer);
  khonsu_db_free(strict);
}

/* ---- streams ---- */

struct own_stream {
  int way;
  int batches;
};

static int own_live;

static int own_get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out) {
  struct own_stream *own = (struct own_stream *)stream->private_data;
  memset(out, 0, sizeof(*out));
  if (own->way == 0) return 5; /* EIO */
  if (own->way == 1) return 0; /* success, but no schema */
  if (own->way >= 100) {
    good_batch(NULL, out);
    damage_schema(own->way - 100, out);
    return 0;
  }
  good_batch(NULL, out);
  return 0;
}

static int own_get_next(struct ArrowArrayStream *stream, struct ArrowArray *out) {
  struct own_stream *own = (struct own_stream *)stream->private_data;
  memset(out, 0, sizeof(*out));
  if (own->batches++ == 0) {
    good_batch(out, NULL);
    return 0;
  }
  switch (own->way) {
    case 2: return 5; /* EIO, with a message */
    case 3: return INT_MIN;
    case 4: testing_batch(out, NULL, "1,2,3"); return 0; /* a batch of another schema */
    case 5:
      good_batch(out, NULL);
      out->children[0]->length = -7;
      return 0;
    default: return 0; /* the end */
  }
}

static const char *own_last_error(struct ArrowArrayStream *stream) {
  struct own_stream *own = (struct own_stream *)stream->private_data;
  return own->way == 3 ? "not UTF-8: \xff\xfe" : own->way == 2 ? "the second batch is gone" : NULL;
}

static void own_release(struct ArrowArrayStream *stream) {
  free(stream->private_data);
  stream->release = NULL;
  own_live--;
}

static void own_stream_new(struct ArrowArrayStream *out, int way) {
  struct own_stream *own = (struct own_stream *)arrow_testing_allocate(sizeof(*own));
  own->way = way;
  memset(out, 0, sizeof(*out));
  out->get_schema = own_get_schema;
  out->get_next = own_get_next;
  out->get_last_error = own_last_error;
  out->release = own_release;
  out->private_data = own;
  own_live++;
}

static khonsu_status put_stream(struct ArrowArrayStream *stream, khonsu_error **error) {
  return khonsu_txn_put_stream(txn, KEY("hostile"), stream, error);
}

static khonsu_status write_stream(struct ArrowArrayStream *stream, khonsu_error **error) {
  char path[4200];
  snprintf(path, sizeof(path), "%s/refused.arrows", scratch);
  khonsu_status status =
      khonsu_ipc_write_stream(path, stream, KHONSU_IPC_FORMAT_STREAM, KHONSU_IPC_COMPRESSION_NONE, error);
  CHECK(access(path, F_OK) != 0);
  return status;
}

static void test_streams(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  enter_setup();
  int64_t arrays = arrow_testing_live_arrays();
  int64_t schemas = arrow_testing_live_schemas();
  for (int entrance = 0; entrance < 2; entrance++) {
    khonsu_status (*take)(struct ArrowArrayStream *, khonsu_error **) = entrance == 0 ? put_stream : write_stream;

    EXPECT_INVALID_ARGUMENT(take(NULL, &error));
    memset(&stream, 0, sizeof(stream));
    EXPECT_INVALID_ARGUMENT(take(&stream, &error));
    own_stream_new(&stream, 9);
    stream.release(&stream);
    EXPECT_INVALID_ARGUMENT(take(&stream, &error));
    check_unharmed("a released stream", arrays, schemas);

    own_stream_new(&stream, 9);
    stream.get_schema = NULL;
    EXPECT_INVALID_ARGUMENT(take(&stream, &error));
    CHECK(stream.release == NULL);
    CHECK(own_live == 0);
    own_stream_new(&stream, 9);
    stream.get_next = NULL;
    EXPECT_INVALID_ARGUMENT(take(&stream, &error));
    CHECK(stream.release == NULL);
    CHECK(own_live == 0);
    check_unharmed("callbacks NULL", arrays, schemas);

    for (int way = 0; way <= 5; way++) {
      char name[64];
      snprintf(name, sizeof(name), "stream of way %d", way);
      for (int without_message = 0; without_message < 2; without_message++) {
        /* What the producer fails with is its failure, what it gives wrongly is an invalid argument. */
        bool of_producer = way == 0 || way == 2 || way == 3;
        own_stream_new(&stream, way);
        if (without_message) stream.get_last_error = NULL;
        EXPECT_KEEP(of_producer ? KHONSU_STATUS_STORAGE : KHONSU_STATUS_INVALID_ARGUMENT, take(&stream, &error));
        if (way == 2 && !without_message) {
          CHECK(strstr(khonsu_error_message(error), "the second batch is gone") != NULL);
        }
        DROP_ERROR();
        CHECK(stream.release == NULL);
        CHECK(own_live == 0);
        check_unharmed(name, arrays, schemas);
      }
    }

    /* 48 and 50 hang a struct on the schema that a stream would have to own. */
    for (int which = 0; which < 52; which++) {
      char name[64];
      if (which == 48 || which == 50) continue;
      snprintf(name, sizeof(name), "stream with damaged schema %d", which);
      own_stream_new(&stream, 100 + which);
      EXPECT_REFUSED(name, take(&stream, &error));
      CHECK(own_live == 0);
      check_unharmed(name, arrays, schemas);
    }
  }
  enter_teardown();
}

int main(void) {
  RUN(test_damaged_arrays);
  RUN(test_damaged_schemas);
  RUN(test_arrays_of_another_schema);
  RUN(test_null_and_released);
  RUN(test_depth);
  RUN(test_odd_but_sound);
  RUN(test_full_validation);
  RUN(test_streams);
  return testing_finish("hostile_arrow_test");
}
