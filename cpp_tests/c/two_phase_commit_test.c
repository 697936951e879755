/* Two-phase commit: votes, what is held, what each call says in each state, lists, and hostile arguments. */
#include "c_testing.h"


#define ID(text) (text), strlen(text)

/* Prepares a transaction that puts one key. */
static khonsu_status prepare_put(const khonsu_db *db, const char *id, const char *key, const char *text, uint32_t flags,
                                 khonsu_error **error) {
  khonsu_error *staging = NULL;
  khonsu_txn *txn = testing_begin(db);
  int32_t vote = 77;
  CHECK(testing_put(txn, key, text, &staging) == KHONSU_STATUS_OK);
  khonsu_status status = khonsu_txn_prepare(txn, ID(id), flags, &vote, error);
  CHECK(vote == (status == KHONSU_STATUS_OK ? KHONSU_VOTE_YES : 77));
  CHECK(testing_put(txn, key, text, &staging) == KHONSU_STATUS_INVALID_STATE);
  khonsu_error_free(staging);
  khonsu_txn_free(txn);
  return status;
}

static khonsu_status try_put(const khonsu_db *db, const char *key, khonsu_error **error) {
  khonsu_error *staging = NULL;
  khonsu_txn *txn = testing_begin(db);
  CHECK(testing_put(txn, key, "9", &staging) == KHONSU_STATUS_OK);
  khonsu_status status = khonsu_txn_commit(txn, error);
  khonsu_txn_free(txn);
  return status;
}

static khonsu_prepared_list *recover(const khonsu_db *db) {
  khonsu_error *error = NULL;
  khonsu_prepared_list *list = NULL;
  EXPECT_OK(khonsu_db_recover(db, &list, &error));
  return list;
}

static khonsu_stats stats_of(const khonsu_db *db) {
  khonsu_error *error = NULL;
  khonsu_stats stats;
  memset(&stats, 0, sizeof(stats));
  EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
  return stats;
}

static void test_commit_and_rollback(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  uint64_t version = 0, again = 0;
  testing_commit_put(db, "a", "1");
  EXPECT_OK(prepare_put(db, "one", "a", "2", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  CHECK_COMMITTED(db, "a", "1");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, try_put(db, "a", &error));
  khonsu_conflict conflict;
  memset(&conflict, 0, sizeof(conflict));
  CHECK(khonsu_error_conflict(error, 0, &conflict, sizeof(conflict)) == KHONSU_STATUS_OK);
  CHECK(conflict.kind == KHONSU_CONFLICT_KIND_PREPARED && conflict.key_len == 1);
  CHECK(conflict.global_id_len == 3 && memcmp(conflict.global_id, "one", 3) == 0);
  CHECK(strstr(khonsu_error_message(error), "\"one\"") != NULL);
  CHECK(khonsu_error_decision(error) == 0);
  /* One that was compiled with an older header gets what it knows. */
  memset(&conflict, 0x5a, sizeof(conflict));
  CHECK(khonsu_error_conflict(error, 0, &conflict, offsetof(khonsu_conflict, global_id)) == KHONSU_STATUS_OK);
  CHECK(conflict.version == 0 && conflict.global_id_len != 3);
  DROP_ERROR();

  khonsu_stats stats = stats_of(db);
  CHECK(stats.prepared_transactions == 1 && stats.prepared_bytes > 0 && stats.remembered_outcomes == 0);
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("one"), &version, &error));
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("one"), &again, &error));
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("one"), NULL, &error));
  CHECK(version == 2 && again == version);
  CHECK_COMMITTED(db, "a", "2");
  EXPECT_KEEP(KHONSU_STATUS_ALREADY_DECIDED, khonsu_db_rollback_prepared(db, ID("one"), &error));
  CHECK(khonsu_error_decision(error) == KHONSU_DECISION_COMMIT);
  DROP_ERROR();

  EXPECT_OK(prepare_put(db, "two", "a", "3", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  EXPECT_OK(khonsu_db_rollback_prepared(db, ID("two"), &error));
  EXPECT_OK(khonsu_db_rollback_prepared(db, ID("two"), &error));
  CHECK_COMMITTED(db, "a", "2");
  version = 77;
  EXPECT_KEEP(KHONSU_STATUS_ALREADY_DECIDED, khonsu_db_commit_prepared(db, ID("two"), &version, &error));
  CHECK(khonsu_error_decision(error) == KHONSU_DECISION_ROLLBACK && version == 77);
  DROP_ERROR();
  EXPECT_OK(try_put(db, "a", &error));
  stats = stats_of(db);
  CHECK(stats.prepared_transactions == 0 && stats.prepared_bytes == 0 && stats.remembered_outcomes == 2);
  CHECK(stats.oldest_prepared_micros == 0 && stats.conflicts_prepared == 1);
  khonsu_db_free(db);
}

static void test_votes(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  testing_commit_put(db, "a", "1");
  /* Nothing written: nothing to decide. */
  khonsu_txn *txn = testing_begin(db);
  int32_t vote = 0;
  uint64_t version = 0;
  CHECK_VALUE(txn, "a", "1");
  EXPECT_OK(khonsu_txn_prepare(txn, ID("reader"), 0, &vote, &error));
  CHECK(vote == KHONSU_VOTE_READ_ONLY);
  EXPECT_OK(khonsu_txn_commit_version(txn, &version, &error));
  CHECK(version == 1);
  EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_db_commit_prepared(db, ID("reader"), NULL, &error));

  txn = testing_begin(db);
  CHECK_VALUE(txn, "a", "1");
  EXPECT_OK(khonsu_txn_prepare(txn, ID("reader"), KHONSU_PREPARE_ALLOW_VOLATILE | KHONSU_PREPARE_HOLD_READS, &vote,
                               &error));
  CHECK(vote == KHONSU_VOTE_YES);
  EXPECT_INVALID_STATE(khonsu_txn_commit_version(txn, &version, &error));
  EXPECT_INVALID_STATE(khonsu_txn_rollback(txn, &error));
  khonsu_txn_free(txn);
  EXPECT(KHONSU_STATUS_CONFLICT, try_put(db, "a", &error));
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("reader"), NULL, &error));
  EXPECT_OK(try_put(db, "a", &error));

  /* In memory it must be allowed. */
  EXPECT(KHONSU_STATUS_NOT_DURABLE, prepare_put(db, "one", "a", "2", 0, &error));
  EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_db_rollback_prepared(db, ID("one"), &error));
  EXPECT_OK(prepare_put(db, "one", "a", "2", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  EXPECT_KEEP(KHONSU_STATUS_DUPLICATE, prepare_put(db, "one", "b", "2", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  CHECK(strstr(khonsu_error_message(error), "in doubt") != NULL);
  DROP_ERROR();
  EXPECT_INVALID_STATE(khonsu_db_forget(db, ID("one"), &error));
  EXPECT_OK(khonsu_db_rollback_prepared(db, ID("one"), &error));
  EXPECT_KEEP(KHONSU_STATUS_DUPLICATE, prepare_put(db, "one", "b", "2", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  CHECK(strstr(khonsu_error_message(error), "rolled back") != NULL);
  DROP_ERROR();
  EXPECT_OK(khonsu_db_forget(db, ID("one"), &error));
  EXPECT_OK(khonsu_db_forget(db, ID("one"), &error));
  EXPECT_OK(prepare_put(db, "one", "b", "2", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  /* Left in doubt: it goes with the database. */
  khonsu_db_free(db);
}

/* What is stale would be let through by a commit, perhaps, but not by a vote. */
static void test_conflicts_of_a_vote(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  testing_commit_put(db, "a", "1");
  khonsu_txn *txn = testing_begin(db);
  int32_t vote = 77;
  CHECK_VALUE(txn, "a", "1");
  EXPECT_OK(testing_put(txn, "b", "1", &error));
  testing_commit_put(db, "a", "2");
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_txn_prepare(txn, ID("one"), KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  CHECK(khonsu_error_conflict_count(error) == 1 && vote == 77);
  khonsu_conflict conflict;
  memset(&conflict, 0, sizeof(conflict));
  CHECK(khonsu_error_conflict(error, 0, &conflict, sizeof(conflict)) == KHONSU_STATUS_OK);
  CHECK(conflict.kind == KHONSU_CONFLICT_KIND_READ_WRITE && conflict.version == 2);
  CHECK(conflict.global_id == NULL && conflict.global_id_len == 0);
  DROP_ERROR();
  EXPECT_INVALID_STATE(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  khonsu_prepared_list *list = recover(db);
  CHECK(khonsu_prepared_list_count(list) == 0);
  khonsu_prepared_list_free(list);
  khonsu_db_free(db);
}

static khonsu_status in_transact(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  int32_t vote = 0;
  (void)context;
  EXPECT_INVALID_STATE(khonsu_txn_prepare(txn, ID("lent"), KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  return testing_put(txn, "lent", "1", NULL);
}

static void test_transact_keeps_its_transaction(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  EXPECT_OK(khonsu_db_transact(db, NULL, in_transact, NULL, NULL, &error));
  CHECK_COMMITTED(db, "lent", "1");
  khonsu_db_free(db);
}

static void test_heuristic_decisions(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  const int32_t decisions[] = {KHONSU_DECISION_COMMIT, KHONSU_DECISION_ROLLBACK};
  const int32_t states[] = {KHONSU_PREPARED_STATE_HEURISTIC_COMMIT, KHONSU_PREPARED_STATE_HEURISTIC_ROLLBACK};
  for (int i = 0; i < 2; i++) {
    const char *key = i == 0 ? "committed" : "rolled back";
    EXPECT_OK(prepare_put(db, key, key, "1", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
    EXPECT_OK(khonsu_db_decide_heuristically(db, ID(key), decisions[i], &error));
    EXPECT_OK(khonsu_db_decide_heuristically(db, ID(key), decisions[i], &error));
    CHECK_COMMITTED(db, key, i == 0 ? "1" : "absent");
    EXPECT_KEEP(KHONSU_STATUS_HEURISTIC, khonsu_db_decide_heuristically(db, ID(key), decisions[1 - i], &error));
    CHECK(khonsu_error_decision(error) == decisions[i]);
    DROP_ERROR();
    EXPECT_KEEP(KHONSU_STATUS_HEURISTIC, khonsu_db_commit_prepared(db, ID(key), NULL, &error));
    CHECK(khonsu_error_decision(error) == decisions[i]);
    DROP_ERROR();
    EXPECT_KEEP(KHONSU_STATUS_HEURISTIC, khonsu_db_rollback_prepared(db, ID(key), &error));
    CHECK(khonsu_error_decision(error) == decisions[i]);
    DROP_ERROR();

    khonsu_prepared_list *list = recover(db);
    khonsu_prepared_info info;
    const void *unset = NULL;
    size_t len = 77;
    CHECK(khonsu_prepared_list_count(list) == 1);
    EXPECT_OK(khonsu_prepared_list_get(list, 0, &info, sizeof(info), &error));
    CHECK(info.state == states[i] && info.written_keys == 1);
    EXPECT_INVALID_STATE(khonsu_prepared_list_key(list, 0, 0, &unset, &len, &error));
    CHECK(unset == NULL && len == 77);
    khonsu_prepared_list_free(list);
    EXPECT_OK(khonsu_db_forget(db, ID(key), &error));
    EXPECT(KHONSU_STATUS_NOT_FOUND, khonsu_db_commit_prepared(db, ID(key), NULL, &error));
  }
  /* The coordinator was faster. */
  EXPECT_OK(prepare_put(db, "one", "a", "1", KHONSU_PREPARE_ALLOW_VOLATILE, &error));
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("one"), NULL, &error));
  EXPECT_KEEP(KHONSU_STATUS_ALREADY_DECIDED,
              khonsu_db_decide_heuristically(db, ID("one"), KHONSU_DECISION_COMMIT, &error));
  CHECK(khonsu_error_decision(error) == KHONSU_DECISION_COMMIT);
  DROP_ERROR();
  khonsu_db_free(db);
}

static void test_list(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  int32_t vote = 0;
  char long_id[KHONSU_GLOBAL_ID_MAX_BYTES];
  memset(long_id, 0, sizeof(long_id)); /* zero bytes are bytes */
  EXPECT_OK(testing_put(txn, "first", "1,2,3", &error));
  EXPECT_OK(testing_append(txn, "second", "4", &error));
  EXPECT_OK(khonsu_txn_delete(txn, KEY("third"), &error));
  EXPECT_OK(khonsu_txn_prepare(txn, long_id, sizeof(long_id), KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  khonsu_txn_free(txn);
  EXPECT_OK(prepare_put(db, "x", "other", "1", KHONSU_PREPARE_ALLOW_VOLATILE, &error));

  khonsu_prepared_list *list = recover(db);
  khonsu_db_free(db); /* the list outlives it */
  CHECK(khonsu_prepared_list_count(list) == 2);
  khonsu_prepared_info info;
  memset(&info, 0x5a, sizeof(info));
  EXPECT_OK(khonsu_prepared_list_get(list, 0, &info, sizeof(info), &error));
  CHECK(info.global_id_len == sizeof(long_id) && memcmp(info.global_id, long_id, sizeof(long_id)) == 0);
  CHECK(info.state == KHONSU_PREPARED_STATE_PREPARED && info.reserved == 0 && info.written_keys == 3);
  CHECK(info.bytes >= 16 && info.time_micros > INT64_C(1600000000000000));
  bool seen[3] = {false, false, false};
  for (size_t i = 0; i < info.written_keys; i++) {
    const void *key = NULL;
    size_t len = 0;
    EXPECT_OK(khonsu_prepared_list_key(list, 0, i, &key, &len, &error));
    seen[0] |= len == 5 && memcmp(key, "first", 5) == 0;
    seen[1] |= len == 6 && memcmp(key, "second", 6) == 0;
    seen[2] |= len == 5 && memcmp(key, "third", 5) == 0;
  }
  CHECK(seen[0] && seen[1] && seen[2]);
  EXPECT_OK(khonsu_prepared_list_get(list, 1, &info, sizeof(info), &error));
  CHECK(info.global_id_len == 1 && memcmp(info.global_id, "x", 1) == 0);

  const void *key = "untouched";
  size_t len = 77;
  khonsu_prepared_info untouched = info;
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_get(list, 2, &info, sizeof(info), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_get(list, SIZE_MAX, &info, sizeof(info), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_get(list, 0, NULL, sizeof(info), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_get(list, 0, &info, 0, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_get(NULL, 0, &info, sizeof(info), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_key(list, 0, 3, &key, &len, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_key(list, 2, 0, &key, &len, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_key(list, 0, 0, NULL, &len, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_key(list, 0, 0, &key, NULL, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_prepared_list_key(NULL, 0, 0, &key, &len, &error));
  CHECK(memcmp(&untouched, &info, sizeof(info)) == 0 && len == 77 && strcmp((const char *)key, "untouched") == 0);
  /* An older and a newer caller. */
  struct {
    khonsu_prepared_info info;
    char later[16];
  } room;
  memset(&room, 0x5a, sizeof(room));
  EXPECT_OK(khonsu_prepared_list_get(list, 1, &room.info, offsetof(khonsu_prepared_info, state), &error));
  CHECK(room.info.global_id_len == 1 && room.info.state == 0x5a5a5a5a);
  EXPECT_OK(khonsu_prepared_list_get(list, 1, &room.info, sizeof(room), &error));
  CHECK(room.info.written_keys == 1 && room.later[0] == 0x5a);
  khonsu_prepared_list_free(list);
}

static void test_arguments(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  char bytes[KHONSU_GLOBAL_ID_MAX_BYTES + 1];
  int32_t vote = 77;
  uint64_t version = 77;
  memset(bytes, 'x', sizeof(bytes));
  EXPECT_OK(testing_put(txn, "a", "1", &error));

  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(NULL, ID("one"), 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, NULL, 3, 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, NULL, 0, 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, "one", 0, 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, bytes, sizeof(bytes), 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, bytes, SIZE_MAX, 1, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, ID("one"), 4, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, ID("one"), UINT32_MAX, &vote, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_txn_prepare(txn, ID("one"), 1, NULL, &error));
  CHECK(vote == 77);
  /* None of this has ended it. */
  CHECK_VALUE(txn, "a", "1");
  EXPECT_OK(khonsu_txn_prepare(txn, bytes, KHONSU_GLOBAL_ID_MAX_BYTES, KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  CHECK(vote == KHONSU_VOTE_YES);
  EXPECT_INVALID_STATE(khonsu_txn_prepare(txn, ID("two"), KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  khonsu_txn_free(txn);

  const struct {
    const void *id;
    size_t len;
  } wrong[] = {{NULL, 3}, {NULL, 0}, {"one", 0}, {bytes, sizeof(bytes)}, {bytes, SIZE_MAX}};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    EXPECT_INVALID_ARGUMENT(khonsu_db_commit_prepared(db, wrong[i].id, wrong[i].len, &version, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_db_rollback_prepared(db, wrong[i].id, wrong[i].len, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_db_decide_heuristically(db, wrong[i].id, wrong[i].len, 1, &error));
    EXPECT_INVALID_ARGUMENT(khonsu_db_forget(db, wrong[i].id, wrong[i].len, &error));
  }
  EXPECT_INVALID_ARGUMENT(khonsu_db_commit_prepared(NULL, ID("one"), &version, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_rollback_prepared(NULL, ID("one"), &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_decide_heuristically(NULL, ID("one"), 1, &error));
  EXPECT_INVALID_ARGUMENT(khonsu_db_forget(NULL, ID("one"), &error));
  const int32_t numbers[] = {0, 3, -1, 99, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
    EXPECT_INVALID_ARGUMENT(
        khonsu_db_decide_heuristically(db, bytes, KHONSU_GLOBAL_ID_MAX_BYTES, numbers[i], &error));
  }
  CHECK(version == 77);
  khonsu_prepared_list *list = (khonsu_prepared_list *)(uintptr_t)0x10;
  EXPECT_INVALID_ARGUMENT(khonsu_db_recover(NULL, &list, &error));
  CHECK(list == NULL);
  EXPECT_INVALID_ARGUMENT(khonsu_db_recover(db, NULL, &error));
  CHECK(khonsu_prepared_list_count(NULL) == 0);
  khonsu_prepared_list_free(NULL);
  CHECK(khonsu_error_decision(NULL) == 0);
  /* Without an error out-parameter. */
  CHECK(khonsu_db_commit_prepared(db, ID("one"), NULL, NULL) == KHONSU_STATUS_NOT_FOUND);
  CHECK(khonsu_db_forget(db, NULL, 0, NULL) == KHONSU_STATUS_INVALID_ARGUMENT);
  CHECK(khonsu_db_commit_prepared(db, bytes, KHONSU_GLOBAL_ID_MAX_BYTES, NULL, NULL) == KHONSU_STATUS_OK);
  CHECK_COMMITTED(db, "a", "1");
  khonsu_db_free(db);
}

static khonsu_db *open_path(const char *path) {
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  khonsu_options *options = khonsu_options_new();
  EXPECT_OK(khonsu_options_set_path(options, path, &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  khonsu_options_free(options);
  if (!CHECK(db != NULL)) exit(EXIT_FAILURE);
  return db;
}

/* What is in doubt, and how others ended, is there when the database is opened again; also over a checkpoint. */
static void test_stored(void) {
  khonsu_error *error = NULL;
  char folder[3072], path[4096], command[4096];
  const char *directory = getenv("TMPDIR");
  snprintf(folder, sizeof(folder), "%s/khonsu_two_phase_XXXXXX", directory == NULL ? "/tmp" : directory);
  if (!CHECK(mkdtemp(folder) != NULL)) return;
  snprintf(path, sizeof(path), "%s/db", folder);
  uint64_t version = 0, again = 0;
  khonsu_db *db = open_path(path);
  testing_commit_put(db, "read", "1");
  EXPECT_OK(prepare_put(db, "committed", "a", "1", 0, &error));
  EXPECT_OK(prepare_put(db, "rolled back", "b", "1", 0, &error));
  EXPECT_OK(prepare_put(db, "decided", "c", "1", 0, &error));
  EXPECT_OK(prepare_put(db, "in doubt", "d", "1", 0, &error));
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("committed"), &version, &error));
  EXPECT_OK(khonsu_db_rollback_prepared(db, ID("rolled back"), &error));
  EXPECT_OK(khonsu_db_decide_heuristically(db, ID("decided"), KHONSU_DECISION_ROLLBACK, &error));
  for (int round = 0; round < 3; round++) {
    khonsu_db_free(db);
    db = open_path(path);
    EXPECT_OK(khonsu_db_commit_prepared(db, ID("committed"), &again, &error));
    CHECK(again == version);
    EXPECT_OK(khonsu_db_rollback_prepared(db, ID("rolled back"), &error));
    EXPECT_KEEP(KHONSU_STATUS_HEURISTIC, khonsu_db_commit_prepared(db, ID("decided"), NULL, &error));
    CHECK(khonsu_error_decision(error) == KHONSU_DECISION_ROLLBACK);
    DROP_ERROR();
    EXPECT(KHONSU_STATUS_CONFLICT, try_put(db, "d", &error));
    EXPECT(KHONSU_STATUS_DUPLICATE, prepare_put(db, "in doubt", "e", "1", 0, &error));
    khonsu_stats stats = stats_of(db);
    CHECK(stats.prepared_transactions == 1 && stats.remembered_outcomes == 3);
    EXPECT_OK(khonsu_db_checkpoint(db, &error));
    testing_commit_put(db, "read", "2");
  }
  khonsu_prepared_list *list = recover(db);
  CHECK(khonsu_prepared_list_count(list) == 2);
  khonsu_prepared_list_free(list);
  EXPECT_OK(khonsu_db_commit_prepared(db, ID("in doubt"), NULL, &error));
  EXPECT_OK(khonsu_db_forget(db, ID("decided"), &error));
  khonsu_db_free(db);
  db = open_path(path);
  CHECK_COMMITTED(db, "a", "1");
  CHECK_COMMITTED(db, "b", "absent");
  CHECK_COMMITTED(db, "c", "absent");
  CHECK_COMMITTED(db, "d", "1");
  list = recover(db);
  CHECK(khonsu_prepared_list_count(list) == 0);
  khonsu_prepared_list_free(list);
  khonsu_db_free(db);
  snprintf(command, sizeof(command), "rm -r '%s'", folder);
  CHECK(system(command) == 0);
}

int main(void) {
  RUN(test_commit_and_rollback);
  RUN(test_votes);
  RUN(test_conflicts_of_a_vote);
  RUN(test_transact_keeps_its_transaction);
  RUN(test_heuristic_decisions);
  RUN(test_list);
  RUN(test_arguments);
  RUN(test_stored);
  return testing_finish("two_phase_commit_test");
}
