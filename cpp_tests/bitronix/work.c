/* What the application in BitronixTest.java does in its branches, where C has it easier with Arrow. */
#include <stdio.h>
#include <string.h>

#include "../arrow_testing.h"
#include "khonsu_xa.h"

static khonsu_status get(khonsu_txn *txn, const char *key, int64_t *value) {
  struct ArrowArray array;
  khonsu_status status = khonsu_txn_get(txn, key, strlen(key), &array, NULL, NULL);
  *value = status == KHONSU_STATUS_OK ? arrow_testing_int64_at(&array, 0, 0) : 0;
  arrow_testing_release_array(&array);
  return status;
}

static khonsu_status put(khonsu_txn *txn, const char *key, int64_t value) {
  struct ArrowArray array;
  struct ArrowSchema schema;
  arrow_testing_int64_batch(&array, &schema, "value", &value, 1);
  return khonsu_txn_put(txn, key, strlen(key), &array, &schema, NULL);
}

/* Adds to an account in the branch that the thread works on; an account that is not there has 0. A khonsu_status. */
__attribute__((visibility("default"))) int work_add(int rmid, const char *account, int64_t amount) {
  int64_t balance = 0;
  khonsu_txn *txn = NULL;
  if (khonsu_xa_txn(rmid, &txn) != XA_OK) return KHONSU_STATUS_INVALID_STATE;
  khonsu_status status = get(txn, account, &balance);
  if (status != KHONSU_STATUS_OK && status != KHONSU_STATUS_NOT_FOUND) return status;
  return put(txn, account, balance + amount);
}

/* What is committed under an account. */
__attribute__((visibility("default"))) int64_t work_balance(int rmid, const char *account) {
  int64_t balance = 0;
  const khonsu_db *db = NULL;
  khonsu_txn *txn = NULL;
  if (khonsu_xa_db(rmid, &db) != XA_OK || khonsu_db_begin(db, NULL, &txn, NULL) != KHONSU_STATUS_OK) return INT64_MIN;
  (void)get(txn, account, &balance);
  khonsu_txn_free(txn);
  return balance;
}
