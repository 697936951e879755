/* The XA switch on a disk that fails: what is prepared stays prepared, and what could not be stored says so by the code
 * that the specification has for it. */
#include "../c/c_testing.h"

#include <errno.h>

#include "../c/xa_testing.h"
#include "../fault_shim.h"

static void fail_writes(void) { fault_shim_fail(FAULT_WRITE, 1, UINT64_MAX / 2, ENOSPC, 0); }

static const khonsu_db *db_of(int rmid) {
  const khonsu_db *db = NULL;
  XA(XA_OK, khonsu_xa_db(rmid, &db));
  return db;
}

static void make_idle(XID *xid, const char *key) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  XA(XA_OK, xa_start(xid, 1, TMNOFLAGS));
  XA(XA_OK, khonsu_xa_txn(1, &txn));
  EXPECT_OK(testing_put(txn, key, "1", &error));
  XA(XA_OK, xa_end(xid, 1, TMSUCCESS));
}

static void make_prepared(XID *xid, const char *key) {
  make_idle(xid, key);
  XA(XA_OK, xa_prepare(xid, 1, TMNOFLAGS));
}

static void test_full_disk(void) {
  char information[MAXINFOSIZE];
  XID listed[8];
  XID refused = xa_testing_xid("refused", ""), one_phase = xa_testing_xid("one phase", ""),
      committed = xa_testing_xid("committed", ""), rolled_back = xa_testing_xid("rolled back", ""),
      decided = xa_testing_xid("decided", "");
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = 0;
  snprintf(information, sizeof(information), "%s", xa_testing_information(true, ""));
  fault_shim_watch(xa_testing_folder());
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  make_prepared(&committed, "a");
  make_prepared(&rolled_back, "b");
  make_prepared(&decided, "c");
  XA(XA_OK, khonsu_xa_global_id(&decided, id, &id_len));
  EXPECT_OK(khonsu_db_decide_heuristically(db_of(1), id, id_len, KHONSU_DECISION_ROLLBACK, &error));
  make_idle(&refused, "d");
  make_idle(&one_phase, "e");

  fail_writes();
  XA(XA_RBOTHER, xa_prepare(&refused, 1, TMNOFLAGS));
  XA(XA_RBOTHER, xa_commit(&one_phase, 1, TMONEPHASE));
  XA(XAER_NOTA, xa_rollback(&refused, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_rollback(&one_phase, 1, TMNOFLAGS));
  for (int i = 0; i < 2; i++) {
    XA(XA_RETRY, xa_commit(&committed, 1, TMNOFLAGS));
    XA(XA_RETRY, xa_commit(&committed, 1, TMNOWAIT));
    XA(XAER_RMFAIL, xa_rollback(&rolled_back, 1, TMNOFLAGS));
    XA(XAER_RMERR, xa_forget(&decided, 1, TMNOFLAGS));
  }
  CHECK(xa_recover(listed, 8, 1, TMSTARTRSCAN | TMENDRSCAN) == 3);
  CHECK_COMMITTED(db_of(1), "a", "absent");
  CHECK(fault_shim_failed(FAULT_WRITE) > 0);

  fault_shim_pass();
  XA(XA_OK, xa_commit(&committed, 1, TMNOFLAGS));
  XA(XA_OK, xa_rollback(&rolled_back, 1, TMNOFLAGS));
  XA(XA_OK, xa_forget(&decided, 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));

  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  CHECK(xa_recover(listed, 8, 1, TMSTARTRSCAN) == 0);
  CHECK_COMMITTED(db_of(1), "a", "1");
  static const char *const others[] = {"b", "c", "d", "e"};
  for (int i = 0; i < 4; i++) CHECK_COMMITTED(db_of(1), others[i], "absent");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* A database that cannot be opened leaves nothing open. */
static void test_failing_open(void) {
  const char *information = xa_testing_information(true, "");
  fault_shim_watch(xa_testing_folder());
  fault_shim_fail(FAULT_OPEN, 1, UINT64_MAX / 2, EACCES, 0);
  XA(XAER_RMERR, xa_open(information, 1, TMNOFLAGS));
  CHECK(strlen(khonsu_xa_message()) > strlen("xa_open: "));
  XID xid = xa_testing_xid("none", "");
  XA(XAER_PROTO, xa_start(&xid, 1, TMNOFLAGS));
  fault_shim_pass();
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  make_prepared(&xid, "k");
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

int main(void) {
  RUN(test_full_disk);
  RUN(test_failing_open);
  fault_shim_watch(NULL);
  xa_testing_remove_folder();
  return testing_finish("xa_storage_failure_test");
}
