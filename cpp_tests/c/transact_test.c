/* khonsu_db_transact: what is rerun and how often, what ends it, and that no increment is lost between threads. */
#include "c_testing.h"

#include <pthread.h>
#include <time.h>

static int64_t milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- conflicts at commit ---- */

struct contended {
  khonsu_db *db;
  int runs;
  int conflicts; /* so many runs are made to conflict */
  int64_t seen;
};

/* Reads the counter, lets another transaction change it in the first runs, and adds one. */
static int32_t add_one_contended(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  struct contended *contended = (struct contended *)context;
  struct ArrowArray array;
  char text[32];
  contended->runs++;
  EXPECT_OK(khonsu_txn_get(txn, KEY("counter"), &array, NULL, &error));
  if (array.release == NULL) return KHONSU_STATUS_CANCELLED;
  contended->seen = arrow_testing_int64_at(&array, 0, 0);
  arrow_testing_release_array(&array);
  if (contended->runs <= contended->conflicts) {
    snprintf(text, sizeof(text), "%" PRId64, contended->seen + 100);
    testing_commit_put(contended->db, "counter", text);
  }
  snprintf(text, sizeof(text), "%" PRId64, contended->seen + 1);
  EXPECT_OK(testing_put(txn, "counter", text, &error));
  EXPECT_OK(testing_append(txn, "runs", text, &error));
  return KHONSU_STATUS_OK;
}

static void test_retries(void) {
  khonsu_error *error = NULL;
  khonsu_stats stats;
  khonsu_db *db = testing_open();
  uint64_t version = 0;
  testing_commit_put(db, "counter", "0");
  struct contended contended = {db, 0, 2, 0};
  EXPECT_OK(khonsu_db_transact(db, NULL, add_one_contended, &contended, &version, &error));
  CHECK(contended.runs == 3);
  CHECK(contended.seen == 200);
  CHECK_COMMITTED(db, "counter", "201");
  CHECK_COMMITTED(db, "runs", "201"); /* the effects of the last run, and of no other */
  EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
  CHECK(stats.version == version);
  CHECK(stats.retries == 2);
  CHECK(stats.active_transactions == 0);
  khonsu_db_free(db);
}

static void test_attempts(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn_options *options = khonsu_txn_options_new();
  for (uint32_t attempts = 1; attempts <= 3; attempts++) {
    uint64_t version = 77;
    testing_commit_put(db, "counter", "0");
    struct contended contended = {db, 0, 1000, 0};
    EXPECT_OK(khonsu_txn_options_set_max_attempts(options, attempts, &error));
    EXPECT_KEEP(KHONSU_STATUS_CONFLICT,
                khonsu_db_transact(db, options, add_one_contended, &contended, &version, &error));
    CHECK(contended.runs == (int)attempts);
    CHECK(version == 77);
    CHECK(khonsu_error_conflict_count(error) >= 1);
    khonsu_conflict conflict;
    memset(&conflict, 0, sizeof(conflict));
    CHECK(khonsu_error_conflict(error, 0, &conflict, sizeof(conflict)) == KHONSU_STATUS_OK);
    CHECK(conflict.key_len == 7 && memcmp(conflict.key, "counter", 7) == 0);
    DROP_ERROR();
    CHECK_COMMITTED(db, "runs", "absent");
  }
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

/* ---- what the function returns ---- */

struct answer {
  int runs;
  int32_t first[4]; /* the answers of the first runs; the last of them is repeated */
  int answers;
};

static int32_t answers(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  struct answer *answer = (struct answer *)context;
  int run = answer->runs++;
  EXPECT_OK(testing_put(txn, "key", "1", &error));
  return answer->first[run < answer->answers ? run : answer->answers - 1];
}

static void test_conflict_returned(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  struct answer answer = {0, {KHONSU_STATUS_CONFLICT, KHONSU_STATUS_CONFLICT, KHONSU_STATUS_OK, 0}, 3};
  EXPECT_OK(khonsu_db_transact(db, NULL, answers, &answer, NULL, &error));
  CHECK(answer.runs == 3);
  CHECK_COMMITTED(db, "key", "1");
  khonsu_db_free(db);

  db = testing_open();
  khonsu_txn_options *options = khonsu_txn_options_new();
  EXPECT_OK(khonsu_txn_options_set_max_attempts(options, 4, &error));
  struct answer always = {0, {KHONSU_STATUS_CONFLICT, 0, 0, 0}, 1};
  EXPECT_KEEP(KHONSU_STATUS_CONFLICT, khonsu_db_transact(db, options, answers, &always, NULL, &error));
  CHECK(always.runs == 4);
  CHECK(khonsu_error_conflict_count(error) == 0);
  DROP_ERROR();
  CHECK_COMMITTED(db, "key", "absent");
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

/* Any other status ends it at once: rolled back, and returned as it is. */
static void test_other_statuses_returned(void) {
  static const int32_t statuses[] = {KHONSU_STATUS_NOT_FOUND,       KHONSU_STATUS_TIMEOUT,
                                     KHONSU_STATUS_CANCELLED,       KHONSU_STATUS_INVALID_ARGUMENT,
                                     KHONSU_STATUS_INVALID_STATE,   KHONSU_STATUS_SCHEMA_MISMATCH,
                                     KHONSU_STATUS_LIMIT_EXCEEDED,  KHONSU_STATUS_STORAGE,
                                     KHONSU_STATUS_CORRUPTION,      KHONSU_STATUS_PANIC};
  static const int32_t unknown[] = {-1, 2, 99, 12345, INT32_MIN, INT32_MAX};
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
    struct answer answer = {0, {statuses[i], 0, 0, 0}, 1};
    uint64_t version = 77;
    EXPECT_KEEP(statuses[i], khonsu_db_transact(db, NULL, answers, &answer, &version, &error));
    CHECK(khonsu_error_conflict_count(error) == 0);
    DROP_ERROR();
    CHECK(answer.runs == 1);
    CHECK(version == 77);
    CHECK(khonsu_db_transact(db, NULL, answers, &answer, &version, NULL) == statuses[i]);
  }
  for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
    struct answer answer = {0, {unknown[i], 0, 0, 0}, 1};
    EXPECT_INVALID_ARGUMENT(khonsu_db_transact(db, NULL, answers, &answer, NULL, &error));
    CHECK(answer.runs == 1);
  }
  CHECK_COMMITTED(db, "key", "absent");
  khonsu_stats stats;
  EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
  CHECK(stats.active_transactions == 0);
  CHECK(stats.commits == 0);
  khonsu_db_free(db);
}

/* ---- time ---- */

static void test_timeout(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn_options *options = khonsu_txn_options_new();
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(options, 100, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(options, 10, 1000, &error));
  struct answer answer = {0, {KHONSU_STATUS_CONFLICT, 0, 0, 0}, 1};
  int64_t begin = milliseconds();
  EXPECT(KHONSU_STATUS_TIMEOUT, khonsu_db_transact(db, options, answers, &answer, NULL, &error));
  int64_t took = milliseconds() - begin;
  CHECK(took >= 90); /* it may give up a wait, of 1 ms at most, before the time is over */
  CHECK(took < 30000);
  CHECK(answer.runs >= 1);

  /* A wait that would pass the deadline is not waited to its end. */
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(options, 200, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(options, 3600000000u, 3600000000u, &error));
  answer.runs = 0;
  begin = milliseconds();
  EXPECT(KHONSU_STATUS_TIMEOUT, khonsu_db_transact(db, options, answers, &answer, NULL, &error));
  CHECK(milliseconds() - begin < 30000);
  CHECK(answer.runs >= 1);

  /* The deadline is none for what goes well. */
  struct answer good = {0, {KHONSU_STATUS_OK, 0, 0, 0}, 1};
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(options, 1, &error));
  EXPECT_OK(khonsu_db_transact(db, options, answers, &good, NULL, &error));
  /* The largest one is no overflow. */
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(options, UINT64_MAX, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(options, 0, UINT64_MAX, &error));
  struct answer later = {0, {KHONSU_STATUS_CONFLICT, KHONSU_STATUS_CONFLICT, KHONSU_STATUS_OK, 0}, 3};
  EXPECT_OK(khonsu_db_transact(db, options, answers, &later, NULL, &error));
  CHECK(later.runs == 3);
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

static void test_backoff(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn_options *options = khonsu_txn_options_new();
  /* No wait at all, and one that is bounded however many conflicts there are. */
  EXPECT_OK(khonsu_txn_options_set_max_attempts(options, 200, &error));
  EXPECT_OK(khonsu_txn_options_set_backoff_us(options, 0, 0, &error));
  struct answer answer = {0, {KHONSU_STATUS_CONFLICT, 0, 0, 0}, 1};
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_db_transact(db, options, answers, &answer, NULL, &error));
  CHECK(answer.runs == 200);
  EXPECT_OK(khonsu_txn_options_set_backoff_us(options, 100, 1000, &error));
  answer.runs = 0;
  int64_t begin = milliseconds();
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_db_transact(db, options, answers, &answer, NULL, &error));
  CHECK(answer.runs == 200);
  CHECK(milliseconds() - begin < 30000); /* 200 waits of at most 1 ms: far from what doubling 200 times would give */
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

/* ---- options ---- */

static int32_t write_in_it(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  EXPECT((khonsu_status)*(const int32_t *)context, testing_put(txn, "key", "1,2,3,4,5,6,7,8", &error));
  return *(const int32_t *)context;
}

static void test_options_of_transactions(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  khonsu_txn_options *options = khonsu_txn_options_new();
  int32_t expected = KHONSU_STATUS_INVALID_STATE;
  EXPECT_OK(khonsu_txn_options_set_read_only(options, 1, &error));
  EXPECT_INVALID_STATE(khonsu_db_transact(db, options, write_in_it, &expected, NULL, &error));
  EXPECT_OK(khonsu_txn_options_set_read_only(options, 0, &error));
  EXPECT_OK(khonsu_txn_options_set_max_bytes(options, 8, &error));
  expected = KHONSU_STATUS_LIMIT_EXCEEDED;
  EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, khonsu_db_transact(db, options, write_in_it, &expected, NULL, &error));
  EXPECT_OK(khonsu_txn_options_set_max_bytes(options, 0, &error));
  expected = KHONSU_STATUS_OK;
  EXPECT_OK(khonsu_db_transact(db, options, write_in_it, &expected, NULL, &error));
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

/* A failure of the commit that is no conflict is not rerun. */
static int32_t append_to_other_schema(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  struct contended *contended = (struct contended *)context;
  struct ArrowArray array;
  struct ArrowSchema schema;
  int64_t value = 1;
  contended->runs++;
  EXPECT_OK(testing_append(txn, "key", "1", &error));
  khonsu_txn *other = testing_begin(contended->db);
  arrow_testing_int64_batch(&array, &schema, "other", &value, 1);
  EXPECT_OK(khonsu_txn_put(other, KEY("key"), &array, &schema, &error));
  EXPECT_OK(khonsu_txn_commit(other, &error));
  khonsu_txn_free(other);
  return KHONSU_STATUS_OK;
}

static void test_other_failures_of_the_commit(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  struct contended contended = {db, 0, 0, 0};
  EXPECT(KHONSU_STATUS_SCHEMA_MISMATCH,
         khonsu_db_transact(db, NULL, append_to_other_schema, &contended, NULL, &error));
  CHECK(contended.runs == 1);
  khonsu_db_free(db);
}

/* ---- one inside another ---- */

static int32_t inner(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  (void)context;
  EXPECT_OK(testing_put(txn, "inner", "1", &error));
  return KHONSU_STATUS_OK;
}

static int32_t outer(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  khonsu_db *db = (khonsu_db *)context;
  EXPECT_OK(testing_put(txn, "outer", "1", &error));
  EXPECT_OK(khonsu_db_transact(db, NULL, inner, NULL, NULL, &error));
  return KHONSU_STATUS_CANCELLED;
}

static void test_nesting(void) {
  khonsu_error *error = NULL;
  khonsu_db *db = testing_open();
  EXPECT(KHONSU_STATUS_CANCELLED, khonsu_db_transact(db, NULL, outer, db, NULL, &error));
  CHECK_COMMITTED(db, "inner", "1"); /* they are two transactions */
  CHECK_COMMITTED(db, "outer", "absent");
  khonsu_db_free(db);
}

/* ---- threads ---- */

enum { THREADS = 4, INCREMENTS = 200 };

static int32_t add_one(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  struct ArrowArray array;
  char text[32];
  int64_t value = 0;
  (void)context;
  khonsu_status status = khonsu_txn_get(txn, KEY("counter"), &array, NULL, &error);
  if (status == KHONSU_STATUS_OK) {
    value = arrow_testing_int64_at(&array, 0, 0);
    arrow_testing_release_array(&array);
  } else if (status != KHONSU_STATUS_NOT_FOUND) {
    khonsu_error_free(error);
    return status;
  }
  snprintf(text, sizeof(text), "%" PRId64, value + 1);
  status = testing_put(txn, "counter", text, &error);
  khonsu_error_free(error);
  return status;
}

struct incrementer {
  const khonsu_db *db;
  const khonsu_txn_options *options;
};

static void *increment(void *argument) {
  const struct incrementer *incrementer = (const struct incrementer *)argument;
  khonsu_error *error = NULL;
  uint64_t last = 0;
  for (int i = 0; i < INCREMENTS; i++) {
    uint64_t version = 0;
    EXPECT_OK(khonsu_db_transact(incrementer->db, incrementer->options, add_one, NULL, &version, &error));
    CHECK(version > last); /* commits of one thread follow one another */
    last = version;
  }
  return NULL;
}

/* At each level that prevents lost updates, which with a key that is read and then written are all. */
static void test_concurrent_increments(void) {
  khonsu_error *error = NULL;
  for (int32_t level = 1; level <= 3; level++) {
    pthread_t threads[THREADS];
    khonsu_db *db = testing_open();
    khonsu_txn_options *options = khonsu_txn_options_new();
    EXPECT_OK(khonsu_txn_options_set_isolation(options, level, &error));
    struct incrementer incrementer = {db, options};
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, increment, &incrementer) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    char expected[32];
    snprintf(expected, sizeof(expected), "%d", THREADS * INCREMENTS);
    CHECK_COMMITTED(db, "counter", expected);
    khonsu_stats stats;
    EXPECT_OK(khonsu_db_stats(db, &stats, sizeof(stats), &error));
    CHECK(stats.active_transactions == 0);
    CHECK(stats.versions == 1); /* nobody can see the older ones */
    khonsu_txn_options_free(options);
    khonsu_db_free(db);
  }
}

/* ---- the starving ---- */

enum { STARVED_KEYS = 8 };

struct starving {
  khonsu_db *db;
  int runs;
  int stop;
};

static void *overwrite_all_the_time(void *argument) {
  struct starving *starving = (struct starving *)argument;
  for (int64_t round = 0; !__atomic_load_n(&starving->stop, __ATOMIC_SEQ_CST); round++) {
    khonsu_error *error = NULL;
    char key[16];
    char text[32];
    snprintf(key, sizeof(key), "key %d", (int)(round % STARVED_KEYS));
    snprintf(text, sizeof(text), "%" PRId64, round);
    khonsu_txn *txn = testing_begin(starving->db);
    EXPECT_OK(testing_put(txn, key, text, &error));
    khonsu_status status = khonsu_txn_commit(txn, &error);
    CHECK(status == KHONSU_STATUS_OK || status == KHONSU_STATUS_CONFLICT);
    khonsu_error_free(error);
    khonsu_txn_free(txn);
    /* Still a hundred times a run of the other one; it lets that one run where threads take turns (valgrind). */
    struct timespec pause = {0, 20000};
    nanosleep(&pause, NULL);
  }
  return NULL;
}

/* Reads every key slowly, so that one of them has always been overwritten by the time it commits. */
static int32_t read_all_slowly(khonsu_txn *txn, void *context) {
  khonsu_error *error = NULL;
  struct starving *starving = (struct starving *)context;
  starving->runs++;
  for (int i = 0; i < STARVED_KEYS; i++) {
    struct timespec pause = {0, 500000};
    bool exists = false;
    char key[16];
    snprintf(key, sizeof(key), "key %d", i);
    khonsu_status status = khonsu_txn_exists(txn, KEY(key), &exists, NULL);
    if (status != KHONSU_STATUS_OK) return status;
    nanosleep(&pause, NULL);
  }
  EXPECT_OK(testing_put(txn, "done", "1", &error));
  return KHONSU_STATUS_OK;
}

static void test_the_starving_get_through(void) {
  khonsu_error *error = NULL;
  pthread_t threads[2];
  khonsu_db *db = testing_open();
  struct starving starving = {db, 0, 0};
  khonsu_txn_options *options = khonsu_txn_options_new();
  EXPECT_OK(khonsu_txn_options_set_timeout_ms(options, 60000, &error));
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, overwrite_all_the_time, &starving) == 0);
  for (int i = 0; i < 5; i++) {
    EXPECT_OK(khonsu_db_transact(db, options, read_all_slowly, &starving, NULL, &error));
  }
  __atomic_store_n(&starving.stop, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(starving.runs >= 5);
  CHECK_COMMITTED(db, "done", "1");
  khonsu_txn_options_free(options);
  khonsu_db_free(db);
}

int main(void) {
  RUN(test_retries);
  RUN(test_attempts);
  RUN(test_conflict_returned);
  RUN(test_other_statuses_returned);
  RUN(test_timeout);
  RUN(test_backoff);
  RUN(test_options_of_transactions);
  RUN(test_other_failures_of_the_commit);
  RUN(test_nesting);
  RUN(test_concurrent_increments);
  RUN(test_the_starving_get_through);
  return testing_finish("transact_test");
}
