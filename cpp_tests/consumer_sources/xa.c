/* A C program that uses an installed khonsu_xa: one branch from start to commit. */
#include <khonsu_xa.h>
#include <stdio.h>

int main(void) {
  XID xid = {1, 5, 1, "gtridb"};
  khonsu_txn *txn = NULL;
  bool exists = true;
  const struct xa_switch_t *xa = &khonsu_xa_switch;
  int failed = xa->xa_open_entry("in_memory=consumer", 1, TMNOFLAGS) != XA_OK ||
               xa->xa_start_entry(&xid, 1, TMNOFLAGS) != XA_OK || khonsu_xa_txn(1, &txn) != XA_OK ||
               khonsu_txn_exists(txn, "key", 3, &exists, NULL) != KHONSU_STATUS_OK || exists ||
               xa->xa_end_entry(&xid, 1, TMSUCCESS) != XA_OK || xa->xa_prepare_entry(&xid, 1, TMNOFLAGS) != XA_RDONLY ||
               xa->xa_close_entry("", 1, TMNOFLAGS) != XA_OK;
  if (failed) {
    fprintf(stderr, "khonsu_xa %s: %s\n", khonsu_version(), khonsu_xa_message());
  } else {
    printf("khonsu_xa %s from C\n", khonsu_version());
  }
  return failed;
}
