/* A C program that uses an installed khonsu: one transaction from begin to commit. */
#include <khonsu.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  khonsu_db *db = NULL;
  khonsu_txn *txn = NULL;
  khonsu_error *error = NULL;
  bool exists = true;
  uint64_t version = 0;
  int failed = strcmp(khonsu_version(), KHONSU_VERSION_STRING) != 0 ||
               khonsu_db_open(NULL, &db, &error) != KHONSU_STATUS_OK ||
               khonsu_db_begin(db, NULL, &txn, &error) != KHONSU_STATUS_OK ||
               khonsu_txn_exists(txn, "key", 3, &exists, &error) != KHONSU_STATUS_OK || exists ||
               khonsu_txn_commit(txn, &error) != KHONSU_STATUS_OK ||
               khonsu_txn_commit_version(txn, &version, &error) != KHONSU_STATUS_OK;
  if (failed) {
    fprintf(stderr, "khonsu %s: %s\n", khonsu_version(), khonsu_error_message(error));
  } else {
    printf("khonsu %s from C\n", khonsu_version());
  }
  khonsu_error_free(error);
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  return failed;
}
