/* A storage written in C: what is applied comes back, and every call of it may fail. */
#include "c_testing.h"

#include <pthread.h>

/* ---- a storage in memory: an append-only list of commits, replayed at load ---- */

struct record {
  uint64_t version;
  int32_t kind;
  char key[32];
  char values[256]; /* as text; chunks are joined */
};

struct store {
  struct record records[4096];
  size_t count;
  int applies;
  int fail_apply_at; /* fails that apply, counted from 1; 0: none */
  int fail_one_in;   /* fails about one apply in so many; 0: none */
  int32_t load_status, apply_status, sync_status, checkpoint_status, close_status;
  int32_t durability; /* of the last apply */
  int loads, syncs, checkpoints, closes, destroys;
  bool bad_load;        /* puts a batch that was released */
  bool commits_inside;  /* tries to commit in apply */
  bool reads_inside;    /* reads in apply */
  bool is_open;          /* from load to destroy */
  khonsu_db *db;
};

static int32_t fails(int32_t status, const char *reason, char *message, size_t message_size) {
  if (status != KHONSU_STATUS_OK) snprintf(message, message_size, "%s", reason);
  return status;
}

/* Whether a later record replaces or deletes what this one has. */
static bool is_overwritten(const struct store *store, size_t at) {
  for (size_t later = at + 1; later < store->count; later++) {
    const struct record *record = &store->records[later];
    if (strcmp(record->key, store->records[at].key) == 0 && record->kind != KHONSU_MUTATION_KIND_APPEND) return true;
  }
  return false;
}

static int32_t store_load(void *context, khonsu_loader *loader, char *message, size_t message_size) {
  struct store *store = (struct store *)context;
  khonsu_error *error = NULL;
  struct ArrowArray array;
  struct ArrowSchema schema;
  uint64_t newest = 0;
  store->loads++;
  store->is_open = true;
  CHECK(message_size > 1 && message[0] == '\0');
  if (store->load_status != KHONSU_STATUS_OK) return fails(store->load_status, "cannot load", message, message_size);
  if (store->bad_load) {
    testing_batch(&array, &schema, "1");
    arrow_testing_release_array(&array);
    EXPECT_INVALID_ARGUMENT(khonsu_loader_put(loader, KEY("bad"), 1, &array, &schema, &error));
    testing_batch(&array, &schema, "1");
    EXPECT_INVALID_ARGUMENT(khonsu_loader_put(loader, KEY("good"), 1, &array, &schema, &error)); /* it stays failed */
    return KHONSU_STATUS_OK;
  }
  for (size_t first = 0; first < store->count; first++) {
    const struct record *record = &store->records[first];
    bool begun = false;
    if (record->version > newest) newest = record->version;
    for (size_t before = 0; before < first && !begun; before++) {
      begun = strcmp(store->records[before].key, record->key) == 0 && !is_overwritten(store, before);
    }
    if (begun || record->kind == KHONSU_MUTATION_KIND_DELETE || is_overwritten(store, first)) continue;
    testing_batch(&array, &schema, record->values);
    EXPECT_OK(khonsu_loader_put(loader, KEY(record->key), record->version, &array, &schema, &error));
    for (size_t next = first + 1; next < store->count; next++) {
      if (strcmp(store->records[next].key, record->key) != 0) continue;
      testing_batch(&array, &schema, store->records[next].values);
      EXPECT_OK(khonsu_loader_append(loader, &array, &schema, &error));
    }
  }
  EXPECT_OK(khonsu_loader_set_version(loader, newest, &error));
  return KHONSU_STATUS_OK;
}

static void read_chunks(const khonsu_mutations *mutations, size_t index, char *text, size_t capacity) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  EXPECT_OK(khonsu_mutations_chunks(mutations, index, &stream, &error));
  for (;;) {
    struct ArrowArray array;
    if (!CHECK(stream.get_next(&stream, &array) == 0) || array.release == NULL) break;
    testing_format(&array, 0, text, capacity);
    array.release(&array);
  }
  stream.release(&stream);
}

static int32_t store_apply(void *context, const khonsu_mutations *mutations, int32_t durability, char *message,
                           size_t message_size) {
  struct store *store = (struct store *)context;
  khonsu_error *error = NULL;
  size_t count = khonsu_mutations_count(mutations);
  size_t before = store->count;
  store->applies++;
  store->durability = durability;
  CHECK(count > 0);
  CHECK(message_size > 1 && message[0] == '\0');
  if (store->commits_inside) {
    khonsu_txn *txn = testing_begin(store->db);
    EXPECT_OK(testing_put(txn, "inside", "1", &error));
    EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    EXPECT_INVALID_STATE(khonsu_db_sync(store->db, &error));
    EXPECT_INVALID_STATE(khonsu_db_checkpoint(store->db, &error));
  }
  if (store->reads_inside) CHECK_COMMITTED(store->db, "a", "absent");
  for (size_t index = 0; index < count; index++) {
    khonsu_mutation mutation;
    struct record *record = &store->records[store->count];
    EXPECT_OK(khonsu_mutations_get(mutations, index, &mutation, sizeof(mutation), &error));
    if (!CHECK(mutation.key_len < sizeof(record->key) && store->count < 4096)) return KHONSU_STATUS_STORAGE;
    memset(record, 0, sizeof(*record));
    record->version = khonsu_mutations_version(mutations);
    record->kind = mutation.kind;
    memcpy(record->key, mutation.key, mutation.key_len);
    if (mutation.kind == KHONSU_MUTATION_KIND_DELETE) {
      struct ArrowArrayStream stream;
      EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_mutations_chunks(mutations, index, &stream, &error));
      CHECK(stream.release == NULL);
    } else {
      read_chunks(mutations, index, record->values, sizeof(record->values));
    }
    store->count++;
  }
  CHECK(before == 0 || store->records[before].version > store->records[before - 1].version);
  khonsu_mutation none;
  struct ArrowArrayStream no_stream;
  EXPECT_INVALID_ARGUMENT(khonsu_mutations_get(mutations, count, &none, sizeof(none), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_mutations_get(mutations, 0, &none, 0, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_mutations_chunks(mutations, count, &no_stream, &error));
  bool chance = store->fail_one_in > 0 && (store->applies * 2654435761u >> 7) % (unsigned)store->fail_one_in == 0;
  if (chance || store->applies == store->fail_apply_at) {
    store->count = before; /* whole or not at all */
    return fails(store->apply_status, "the disk is full", message, message_size);
  }
  return KHONSU_STATUS_OK;
}

static int32_t store_sync(void *context, char *message, size_t message_size) {
  struct store *store = (struct store *)context;
  store->syncs++;
  return fails(store->sync_status, "cannot sync", message, message_size);
}

static int32_t store_checkpoint(void *context, char *message, size_t message_size) {
  struct store *store = (struct store *)context;
  store->checkpoints++;
  return fails(store->checkpoint_status, "cannot tidy up", message, message_size);
}

static int32_t store_close(void *context, char *message, size_t message_size) {
  struct store *store = (struct store *)context;
  CHECK(store->is_open);
  store->closes++;
  return fails(store->close_status, "cannot close", message, message_size);
}

static void store_destroy(void *context) {
  struct store *store = (struct store *)context;
  store->is_open = false;
  store->destroys++;
}

static khonsu_storage_callbacks callbacks_of(struct store *store) {
  khonsu_storage_callbacks callbacks = {sizeof(callbacks), store,      store_load,  store_apply,
                                        store_sync,        store_checkpoint, store_close, store_destroy};
  return callbacks;
}

static struct store *new_store(void) {
  struct store *store = (struct store *)calloc(1, sizeof(*store));
  if (store == NULL) abort();
  store->apply_status = KHONSU_STATUS_STORAGE;
  return store;
}

/* Opens a database on the store; the options are freed before it is used. */
static khonsu_status open_store(struct store *store, khonsu_db **db, khonsu_error **error) {
  khonsu_options *options = khonsu_options_new();
  khonsu_storage_callbacks callbacks = callbacks_of(store);
  CHECK(khonsu_options_set_storage(options, &callbacks, error) == KHONSU_STATUS_OK);
  khonsu_status status = khonsu_db_open(options, db, error);
  khonsu_options_free(options);
  store->db = *db;
  return status;
}

static khonsu_db *opened(struct store *store) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  EXPECT_OK(open_store(store, &db, &error));
  if (!CHECK(db != NULL)) exit(EXIT_FAILURE);
  return db;
}

static bool is_told(const khonsu_error *error, const char *reason) {
  return strstr(khonsu_error_message(error), reason) != NULL;
}

/* ---- what is stored comes back ---- */

static void test_comes_back(void) {
  khonsu_error *error = NULL;
  struct store *store = new_store();
  khonsu_db *db = opened(store);
  uint64_t version = testing_commit_put(db, "a", "1,2");
  CHECK(store->durability == KHONSU_DURABILITY_SYNCED);
  testing_commit_put(db, "b", "3");
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_append(txn, "a", "4", &error));
  EXPECT_OK(testing_append(txn, "c", "5", &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  testing_commit_delete(db, "b");
  CHECK(store->count == 5);
  CHECK(store->records[0].version == version);
  CHECK(store->records[2].version == store->records[3].version); /* one commit, one call */
  CHECK(store->applies == 4);
  EXPECT_OK(khonsu_db_sync(db, &error));
  CHECK(store->syncs == 1);
  EXPECT_OK(khonsu_db_checkpoint(db, &error));
  CHECK(store->checkpoints == 1);
  khonsu_db_free(db);
  CHECK(store->closes == 1 && store->destroys == 1);

  db = opened(store);
  CHECK_COMMITTED(db, "a", "1,2,4");
  CHECK_COMMITTED(db, "b", "absent");
  CHECK_COMMITTED(db, "c", "5");
  CHECK(testing_commit_put(db, "d", "6") > store->records[4].version);
  txn = testing_begin(db);
  khonsu_db_free(db);
  CHECK(store->closes == 1); /* the transaction keeps it */
  khonsu_txn_free(txn);
  CHECK(store->loads == 2 && store->closes == 2 && store->destroys == 2);
  free(store);
}

static void test_durability(void) {
  khonsu_error *error = NULL;
  struct store *store = new_store();
  khonsu_db *db = opened(store);
  khonsu_txn_options *options = khonsu_txn_options_new();
  for (int32_t durability = KHONSU_DURABILITY_NONE; durability <= KHONSU_DURABILITY_SYNCED; durability++) {
    khonsu_txn *txn = NULL;
    EXPECT_OK(khonsu_txn_options_set_durability(options, durability, &error));
    EXPECT_OK(khonsu_db_begin(db, options, &txn, &error));
    EXPECT_OK(testing_put(txn, "a", "1", &error));
    EXPECT_OK(khonsu_txn_commit(txn, &error));
    khonsu_txn_free(txn);
    CHECK(store->durability == durability);
  }
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_durability(options, 0, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_durability(options, 4, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_options_set_durability(NULL, 1, &error));
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
  free(store);
}

/* ---- failures ---- */

static void test_load_fails(void) {
  const struct {
    int32_t returned;
    khonsu_status status;
  } cases[] = {{KHONSU_STATUS_STORAGE, KHONSU_STATUS_STORAGE},
               {KHONSU_STATUS_CORRUPTION, KHONSU_STATUS_CORRUPTION},
               {KHONSU_STATUS_LOCKED, KHONSU_STATUS_LOCKED},
               {KHONSU_STATUS_NOT_FOUND, KHONSU_STATUS_STORAGE},
               {-77, KHONSU_STATUS_STORAGE}};
  for (size_t at = 0; at < sizeof(cases) / sizeof(cases[0]); at++) {
    khonsu_error *error = NULL;
    khonsu_db *db = NULL;
    struct store *store = new_store();
    store->load_status = cases[at].returned;
    EXPECT_KEEP(cases[at].status, open_store(store, &db, &error));
    CHECK(is_told(error, "cannot load"));
    DROP_ERROR();
    CHECK(db == NULL);
    CHECK(store->closes == 0 && store->destroys == 1);
    free(store);
  }
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  struct store *store = new_store();
  store->bad_load = true;
  EXPECT(KHONSU_STATUS_CORRUPTION, open_store(store, &db, &error));
  CHECK(db == NULL && store->destroys == 1);
  free(store);
}

static void test_apply_fails(void) {
  const int32_t returned[] = {KHONSU_STATUS_STORAGE, KHONSU_STATUS_CONFLICT, KHONSU_STATUS_NOT_FOUND, 12345};
  for (size_t at = 0; at < sizeof(returned) / sizeof(returned[0]); at++) {
    khonsu_error *error = NULL;
    struct store *store = new_store();
    khonsu_db *db = opened(store);
    store->apply_status = returned[at];
    store->fail_apply_at = 2;
    testing_commit_put(db, "a", "1");
    khonsu_txn *txn = testing_begin(db);
    EXPECT_OK(testing_put(txn, "a", "2", &error));
    EXPECT_OK(testing_put(txn, "b", "2", &error));
    EXPECT_KEEP(KHONSU_STATUS_STORAGE, khonsu_txn_commit(txn, &error));
    CHECK(is_told(error, "the disk is full"));
    DROP_ERROR();
    khonsu_txn_free(txn);
    CHECK_COMMITTED(db, "a", "1");
    CHECK_COMMITTED(db, "b", "absent");
    testing_commit_put(db, "b", "3"); /* the database goes on */
    khonsu_db_free(db);
    CHECK(store->destroys == 1 && store->count == 2);
    db = opened(store);
    CHECK_COMMITTED(db, "a", "1");
    CHECK_COMMITTED(db, "b", "3");
    khonsu_db_free(db);
    free(store);
  }
}

static void test_other_calls_fail(void) {
  khonsu_error *error = NULL;
  struct store *store = new_store();
  khonsu_db *db = opened(store);
  testing_commit_put(db, "a", "1");
  store->checkpoint_status = KHONSU_STATUS_STORAGE;
  EXPECT_KEEP(KHONSU_STATUS_STORAGE, khonsu_db_checkpoint(db, &error));
  CHECK(is_told(error, "cannot tidy up"));
  DROP_ERROR();
  store->sync_status = KHONSU_STATUS_CORRUPTION;
  EXPECT_KEEP(KHONSU_STATUS_CORRUPTION, khonsu_db_sync(db, &error));
  CHECK(is_told(error, "cannot sync"));
  DROP_ERROR();
  store->sync_status = KHONSU_STATUS_OK;
  EXPECT_OK(khonsu_db_sync(db, &error));
  testing_commit_put(db, "a", "2");
  store->close_status = KHONSU_STATUS_STORAGE;
  khonsu_db_free(db);
  CHECK(store->closes == 1 && store->destroys == 1);
  free(store);
}

static void test_callbacks_use_the_database(void) {
  struct store *store = new_store();
  khonsu_db *db = opened(store);
  store->commits_inside = true;
  store->reads_inside = true;
  testing_commit_put(db, "a", "1");
  store->commits_inside = false;
  store->reads_inside = false;
  CHECK_COMMITTED(db, "a", "1");
  CHECK_COMMITTED(db, "inside", "absent");
  testing_commit_put(db, "a", "2");
  khonsu_db_free(db);
  free(store);
}

/* ---- options ---- */

static void test_ownership(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  struct store *store = new_store();
  khonsu_storage_callbacks callbacks = callbacks_of(store);
  khonsu_options *options = khonsu_options_new();
  EXPECT_OK(khonsu_options_set_storage(options, &callbacks, &error));
  EXPECT_OK(khonsu_options_set_storage(options, NULL, &error));
  CHECK(store->destroys == 1);
  EXPECT_OK(khonsu_options_set_storage(options, &callbacks, &error));
  EXPECT_OK(khonsu_options_set_storage(options, &callbacks, &error));
  CHECK(store->destroys == 2);
  EXPECT_OK(khonsu_options_set_path(options, "unused", &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_open(options, &db, &error));
  EXPECT_OK(khonsu_options_set_path(options, "", &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_db *second = NULL;
  EXPECT_INVALID_STATE(khonsu_db_open(options, &second, &error));
  CHECK(second == NULL);
  khonsu_db_free(db);
  CHECK(store->destroys == 3);
  EXPECT_OK(khonsu_options_set_storage(options, &callbacks, &error));
  khonsu_options_free(options);
  CHECK(store->destroys == 4 && store->loads == 1);
  free(store);
}

static void test_refused(void) {
  khonsu_error *error = NULL;
  struct store *store = new_store();
  khonsu_options *options = khonsu_options_new();
  struct {
    khonsu_storage_callbacks known;
    uint64_t unknown[2];
  } longer = {callbacks_of(store), {0, 0}};
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(NULL, &longer.known, &error));
  longer.known.size = sizeof(longer.known) - 1;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  longer.known.size = 0;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  longer.known.size = sizeof(longer);
  longer.unknown[1] = 1;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  longer.unknown[1] = 0;
  longer.known.load = NULL;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  longer.known.load = store_load;
  longer.known.apply = NULL;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  longer.known.apply = store_apply;
  longer.known.sync = NULL;
  EXPECT_INVALID_ARGUMENT(khonsu_options_set_storage(options, &longer.known, &error));
  CHECK(store->destroys == 0); /* what was refused is still ours */
  longer.known.sync = store_sync;
  EXPECT_OK(khonsu_options_set_storage(options, &longer.known, &error));
  khonsu_options_free(options);
  CHECK(store->destroys == 1);
  free(store);
}

/* ---- many committers, and applies that fail at random ---- */

enum { COMMITTERS = 4, COMMITS = 150 };

struct committer {
  pthread_t thread;
  khonsu_db *db;
  int number;
  uint64_t acknowledged[COMMITS]; /* versions; 0: failed */
};

static void *commit_many(void *argument) {
  struct committer *committer = (struct committer *)argument;
  for (int at = 0; at < COMMITS; at++) {
    khonsu_error *error = NULL;
    char key[32];
    khonsu_txn *txn = testing_begin(committer->db);
    snprintf(key, sizeof(key), "%d/%d", committer->number, at);
    EXPECT_OK(testing_put(txn, key, "1", &error));
    khonsu_status status = khonsu_txn_commit(txn, &error);
    if (status == KHONSU_STATUS_OK) {
      EXPECT_OK(khonsu_txn_commit_version(txn, &committer->acknowledged[at], &error));
    } else {
      CHECK(status == KHONSU_STATUS_STORAGE && is_told(error, "the disk is full"));
      khonsu_error_free(error);
    }
    khonsu_txn_free(txn);
  }
  return NULL;
}

static void test_acknowledged_is_stored(void) {
  struct store *store = new_store();
  khonsu_db *db = opened(store);
  struct committer committers[COMMITTERS];
  size_t acknowledged = 0;
  store->fail_one_in = 5;
  memset(committers, 0, sizeof(committers));
  for (int number = 0; number < COMMITTERS; number++) {
    committers[number].db = db;
    committers[number].number = number;
    CHECK(pthread_create(&committers[number].thread, NULL, commit_many, &committers[number]) == 0);
  }
  for (int number = 0; number < COMMITTERS; number++) pthread_join(committers[number].thread, NULL);
  for (int number = 0; number < COMMITTERS; number++) {
    for (int at = 0; at < COMMITS; at++) {
      char key[32];
      const uint64_t version = committers[number].acknowledged[at];
      size_t stored = 0;
      snprintf(key, sizeof(key), "%d/%d", number, at);
      for (size_t record = 0; record < store->count; record++) {
        if (strcmp(store->records[record].key, key) == 0) {
          stored++;
          CHECK(store->records[record].version == version);
        }
      }
      CHECK(stored == (version == 0 ? 0u : 1u));
      CHECK_COMMITTED(db, key, version == 0 ? "absent" : "1");
      acknowledged += version != 0;
    }
  }
  CHECK(acknowledged == store->count);
  CHECK(acknowledged > 0 && acknowledged < (size_t)COMMITTERS * COMMITS);
  khonsu_db_free(db);
  CHECK(store->destroys == 1);
  free(store);
}

int main(void) {
  RUN(test_comes_back);
  RUN(test_durability);
  RUN(test_load_fails);
  RUN(test_apply_fails);
  RUN(test_other_calls_fail);
  RUN(test_callbacks_use_the_database);
  RUN(test_ownership);
  RUN(test_refused);
  RUN(test_acknowledged_is_stored);
  return testing_finish("storage_test");
}
