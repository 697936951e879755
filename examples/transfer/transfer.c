/* Four threads move money between ten accounts; a transfer is one transaction, so the sum never changes. */
#include <khonsu.h>
#include <pthread.h>
#include <stdio.h>
#include "arrow_int64.h"

enum { ACCOUNTS = 10, OPENING_BALANCE = 1000, THREADS = 4, TRANSFERS = 20000 };
static khonsu_db *db;
static khonsu_schema *schema; /* imported once, it spares the schema on every put and get */
struct transfer { int from, to; int64_t amount; };

static int32_t get_balance(khonsu_txn *txn, int account, int64_t *balance) {
  struct ArrowArray batch;
  char key[] = {'a', 'c', 'c', 'o', 'u', 'n', 't', '/', (char)('0' + account)};
  int32_t status = khonsu_txn_get_with_schema(txn, key, sizeof key, schema, &batch, NULL);
  if (status != KHONSU_STATUS_OK) return status;
  *balance = int64_of(&batch);
  batch.release(&batch);
  return status;
}

static int32_t put_balance(khonsu_txn *txn, int account, int64_t balance) {
  struct ArrowArray batch = int64_batch(balance); /* the call below consumes it, whatever it returns */
  char key[] = {'a', 'c', 'c', 'o', 'u', 'n', 't', '/', (char)('0' + account)};
  return khonsu_txn_put_with_schema(txn, key, sizeof key, &batch, schema, NULL);
}

/* khonsu_db_transact runs these again on a conflict, so they touch nothing but the transaction and their context. */
static int32_t open_account(khonsu_txn *txn, void *account) { return put_balance(txn, *(int *)account, OPENING_BALANCE); }

static int32_t move_money(khonsu_txn *txn, void *context) {
  const struct transfer *transfer = context;
  int64_t from, to;
  int32_t status = get_balance(txn, transfer->from, &from);
  if (status == KHONSU_STATUS_OK) status = get_balance(txn, transfer->to, &to);
  if (status == KHONSU_STATUS_OK && from < transfer->amount) status = KHONSU_STATUS_CANCELLED; /* rolls back */
  if (status == KHONSU_STATUS_OK) status = put_balance(txn, transfer->from, from - transfer->amount);
  return status == KHONSU_STATUS_OK ? put_balance(txn, transfer->to, to + transfer->amount) : status;
}

static int32_t add_up(khonsu_txn *txn, void *sum) {
  int64_t balance = 0, total = 0;
  int32_t status = KHONSU_STATUS_OK;
  for (int i = 0; i < ACCOUNTS && status == KHONSU_STATUS_OK; ++i, total += balance) status = get_balance(txn, i, &balance);
  *(int64_t *)sum = total;
  return status;
}

static void require(int32_t status) {
  if (status == KHONSU_STATUS_OK) return;
  fprintf(stderr, "transfer: %s\n", khonsu_status_name(status));
  exit(2);
}

static void *run_thread(void *seed) {
  uint32_t random = *(const uint32_t *)seed;
  for (int i = 0; i < TRANSFERS; ++i) {
    random = random * 1664525u + 1013904223u;
    int from = (int)(random >> 8) % ACCOUNTS, step = 1 + (int)(random >> 16) % (ACCOUNTS - 1);
    struct transfer transfer = {from, (from + step) % ACCOUNTS, 1 + (random >> 24) % 100};
    int32_t status = khonsu_db_transact(db, NULL, move_money, &transfer, NULL, NULL);
    if (status != KHONSU_STATUS_CANCELLED) require(status); /* cancelled: too little money on the account */
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  uint32_t seeds[THREADS] = {1, 2, 3, 4};
  int64_t sum = 0;
  struct ArrowSchema balance_schema = int64_schema("balance");
  require(khonsu_schema_import(&balance_schema, &schema, NULL));
  require(khonsu_db_open(NULL, &db, NULL));
  for (int i = 0; i < ACCOUNTS; ++i) require(khonsu_db_transact(db, NULL, open_account, &i, NULL, NULL));
  for (int i = 0; i < THREADS; ++i) if (pthread_create(&threads[i], NULL, run_thread, &seeds[i]) != 0) return 2;
  for (int i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  require(khonsu_db_transact(db, NULL, add_up, &sum, NULL, NULL));
  printf("%d transfers, sum of money: %lld, expected %d\n", THREADS * TRANSFERS, (long long)sum, ACCOUNTS * OPENING_BALANCE);
  khonsu_db_free(db);
  khonsu_schema_free(schema);
  return sum == (int64_t)ACCOUNTS * OPENING_BALANCE ? 0 : 1;
}
