/* Many threads, each with transactions of its own over two databases, which all of them have open: transfers by two
 * phases, rollbacks, work that a second thread joins, threads that come and go. No money is lost. */
#include "c_testing.h"

#include "xa_testing.h"

enum { threads = 4, rounds = 60, accounts = 4, initial = 1000 };

static const char *const informations[2] = {"in_memory=left", "in_memory=right"};
static int committed = 0, refused = 0; /* atomics */

struct random {
  uint32_t state;
};

static uint32_t below(struct random *random, uint32_t bound) {
  random->state = random->state * 1664525u + 1013904223u;
  return (random->state >> 8) % bound;
}

static void account_key(char *key, size_t size, uint32_t account) { snprintf(key, size, "account%u", account); }

/* False: the transaction cannot go on. */
static bool add(khonsu_txn *txn, uint32_t account, int64_t amount) {
  char key[32], text[64];
  account_key(key, sizeof(key), account);
  testing_get(txn, key, text, sizeof(text));
  int64_t balance = strtoll(text, NULL, 10);
  snprintf(text, sizeof(text), "%" PRId64, balance + amount);
  return testing_put(txn, key, text, NULL) == KHONSU_STATUS_OK;
}

/* One global transaction with a branch in each database. */
static void transfer(struct random *random, int thread, int round) {
  char gtrid[32];
  XID xids[2];
  bool willing = true, prepared[2] = {false, false};
  int64_t amount = (int64_t)below(random, 10);
  snprintf(gtrid, sizeof(gtrid), "%d/%d", thread, round);
  for (int i = 0; i < 2; i++) {
    khonsu_txn *txn = NULL;
    xids[i] = xa_testing_xid(gtrid, i == 0 ? "left" : "right");
    XA(XA_OK, xa_start(&xids[i], i, TMNOFLAGS));
    XA(XA_OK, khonsu_xa_txn(i, &txn));
    willing = add(txn, below(random, accounts), i == 0 ? -amount : amount) && willing;
    if (below(random, 4) == 0) {
      XA(XA_OK, xa_end(&xids[i], i, TMSUSPEND | (below(random, 2) == 0 ? TMMIGRATE : 0)));
      XA(XA_OK, xa_start(&xids[i], i, TMRESUME));
    }
    int code = xa_end(&xids[i], i, willing ? TMSUCCESS : TMFAIL);
    CHECK(code == (willing ? XA_OK : XA_RBROLLBACK));
  }
  bool wanted = below(random, 8) != 0;
  bool rolled_back[2] = {false, false};
  for (int i = 0; i < 2 && willing && wanted; i++) {
    int code = xa_prepare(&xids[i], i, TMNOFLAGS);
    prepared[i] = code == XA_OK;
    rolled_back[i] = code == XA_RBTRANSIENT;
    CHECK(prepared[i] || rolled_back[i]);
    willing = prepared[i];
  }
  bool commits = prepared[0] && prepared[1];
  for (int i = 0; i < 2; i++) {
    if (commits) XA(XA_OK, xa_commit(&xids[i], i, TMNOFLAGS));
    if (!commits && !rolled_back[i]) XA(XA_OK, xa_rollback(&xids[i], i, TMNOFLAGS));
    XA(XAER_NOTA, xa_commit(&xids[i], i, TMNOFLAGS));
  }
  __atomic_fetch_add(commits ? &committed : &refused, 1, __ATOMIC_SEQ_CST);
}

static void *transfers(void *argument) {
  int thread = *(int *)argument;
  struct random random = {(uint32_t)thread * 2654435761u + 1u};
  for (int round = 0; round < rounds; round++) {
    if (round % 20 == 0) {
      for (int i = 0; i < 2; i++) XA(XA_OK, xa_open(informations[i], i, TMNOFLAGS));
    }
    transfer(&random, thread, round);
    if (round % 20 == 19 && round != rounds - 1) {
      for (int i = 0; i < 2; i++) XA(XA_OK, xa_close("", i, TMNOFLAGS));
    }
  }
  return NULL; /* open still: the end of the thread closes them */
}

static int watching = 1; /* atomic */

/* Recovery scans beside it all. */
static void *watches(void *argument) {
  XID xids[3];
  (void)argument;
  XA(XA_OK, xa_open(informations[0], 0, TMNOFLAGS));
  do {
    int given = xa_recover(xids, 3, 0, TMSTARTRSCAN);
    while (given == 3) given = xa_recover(xids, 3, 0, TMNOFLAGS);
    CHECK(given >= 0 && given < 3);
  } while (__atomic_load_n(&watching, __ATOMIC_SEQ_CST) != 0);
  return NULL;
}

/* Opens and closes a database of its own name with others that do the same: it is opened and closed many times. */
static void *opens_and_closes(void *argument) {
  (void)argument;
  for (int i = 0; i < 100; i++) {
    const khonsu_db *db = NULL;
    XA(XA_OK, xa_open("in_memory=flickering", 5, TMNOFLAGS));
    XA(XA_OK, khonsu_xa_db(5, &db));
    khonsu_txn_free(testing_begin(db));
    XA(XA_OK, xa_close("", 5, TMNOFLAGS));
  }
  return NULL;
}

static int64_t sum(int rmid) {
  const khonsu_db *db = NULL;
  int64_t total = 0;
  XA(XA_OK, khonsu_xa_db(rmid, &db));
  khonsu_txn *txn = testing_begin_read_only(db);
  for (uint32_t account = 0; account < accounts; account++) {
    char key[32], text[64];
    account_key(key, sizeof(key), account);
    testing_get(txn, key, text, sizeof(text));
    total += strtoll(text, NULL, 10);
  }
  khonsu_txn_free(txn);
  return total;
}

static void test_transfers(void) {
  pthread_t workers[threads], watcher;
  int numbers[threads];
  XID left[1];
  for (int i = 0; i < 2; i++) {
    const khonsu_db *db = NULL;
    XA(XA_OK, xa_open(informations[i], i, TMNOFLAGS));
    XA(XA_OK, khonsu_xa_db(i, &db));
    for (uint32_t account = 0; account < accounts; account++) {
      char key[32];
      account_key(key, sizeof(key), account);
      testing_commit_put(db, key, "1000");
    }
  }
  CHECK(pthread_create(&watcher, NULL, watches, NULL) == 0);
  for (int i = 0; i < threads; i++) {
    numbers[i] = i;
    CHECK(pthread_create(&workers[i], NULL, transfers, &numbers[i]) == 0);
  }
  for (int i = 0; i < threads; i++) CHECK(pthread_join(workers[i], NULL) == 0);
  __atomic_store_n(&watching, 0, __ATOMIC_SEQ_CST);
  CHECK(pthread_join(watcher, NULL) == 0);
  CHECK(sum(0) + sum(1) == 2 * accounts * initial);
  CHECK(committed > 0 && committed + refused == threads * rounds);
  for (int i = 0; i < 2; i++) {
    CHECK(xa_recover(left, 1, i, TMSTARTRSCAN) == 0);
    XA(XA_OK, xa_close("", i, TMNOFLAGS));
  }
}

static void test_opening_and_closing(void) {
  pthread_t workers[threads];
  for (int i = 0; i < threads; i++) CHECK(pthread_create(&workers[i], NULL, opens_and_closes, NULL) == 0);
  for (int i = 0; i < threads; i++) CHECK(pthread_join(workers[i], NULL) == 0);
}

int main(void) {
  RUN(test_transfers);
  RUN(test_opening_and_closing);
  return testing_finish("xa_threads_test");
}
