/* The XA switch, against the rules of the specification: each routine in each state, with each flag, on a database in
 * memory and on a stored one. */
#include "c_testing.h"

#include <limits.h>
#include <sys/wait.h>

#include "xa_testing.h"

static bool stored = false; /* what kind of database the tests use now */

static const khonsu_db *db_of(int rmid) {
  const khonsu_db *db = NULL;
  XA(XA_OK, khonsu_xa_db(rmid, &db));
  return db;
}

/* In the branch that the thread is associated with. */
static void put_in_branch(int rmid, const char *key, const char *text) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  XA(XA_OK, khonsu_xa_txn(rmid, &txn));
  EXPECT_OK(testing_put(txn, key, text, &error));
}

static void read_in_branch(int rmid, const char *key) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  bool exists = false;
  XA(XA_OK, khonsu_xa_txn(rmid, &txn));
  EXPECT_OK(khonsu_txn_exists(txn, KEY(key), &exists, &error));
}

/* A branch that has written one key, idle. */
static void make_idle(int rmid, XID *xid, const char *key, const char *text) {
  XA(XA_OK, xa_start(xid, rmid, TMNOFLAGS));
  put_in_branch(rmid, key, text);
  XA(XA_OK, xa_end(xid, rmid, TMSUCCESS));
}

static void make_prepared(int rmid, XID *xid, const char *key, const char *text) {
  make_idle(rmid, xid, key, text);
  XA(XA_OK, xa_prepare(xid, rmid, TMNOFLAGS));
}

static void decide_heuristically(int rmid, const XID *xid, int32_t decision) {
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = 0;
  XA(XA_OK, khonsu_xa_global_id(xid, id, &id_len));
  EXPECT_OK(khonsu_db_decide_heuristically(db_of(rmid), id, id_len, decision, &error));
}

/* ---- XIDs and global ids ---- */

static void test_global_ids(void) {
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES], other[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t len = 0, other_len = 0;
  XID xid, back;
  static const long formats[] = {0, 1, 2, 7, -2, INT32_MAX, INT32_MIN, LONG_MAX, LONG_MIN};
  for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
    for (long gtrid = 1; gtrid <= MAXGTRIDSIZE; gtrid++) {
      for (long bqual = 0; bqual <= MAXBQUALSIZE; bqual++) {
        memset(&xid, 0xA5, sizeof(xid)); /* the bytes behind the data do not count */
        xid.formatID = formats[f];
        xid.gtrid_length = gtrid;
        xid.bqual_length = bqual;
        memset(xid.data, (int)(f + (size_t)gtrid), (size_t)(gtrid + bqual));
        bool same = khonsu_xa_global_id(&xid, id, &len) == XA_OK && len <= sizeof(id) &&
                    khonsu_xa_xid(id, len, &back) == XA_OK && back.formatID == xid.formatID &&
                    back.gtrid_length == gtrid && back.bqual_length == bqual &&
                    memcmp(back.data, xid.data, (size_t)(gtrid + bqual)) == 0;
        /* Neither a shorter nor a longer id is an XID. */
        same = same && khonsu_xa_xid(id, len - 1, &back) == XAER_NOTA;
        if (len < sizeof(id)) same = same && khonsu_xa_xid(id, len + 1, &back) == XAER_NOTA;
        if (!same) CHECK(!"an XID and its global id");
      }
    }
  }
  CHECK(len == KHONSU_XA_GLOBAL_ID_MAX_BYTES);

  /* The same bytes, divided otherwise. */
  XID first = xa_testing_xid("ab", "c"), second = xa_testing_xid("a", "bc");
  XA(XA_OK, khonsu_xa_global_id(&first, id, &len));
  XA(XA_OK, khonsu_xa_global_id(&second, other, &other_len));
  CHECK(len == other_len && memcmp(id, other, len) != 0);

  /* Every byte before the data matters, and what is no XID is refused. */
  for (size_t i = 0; i < 16; i++) {
    for (int bit = 0; bit < 8; bit++) {
      memcpy(other, id, len);
      other[i] = (uint8_t)(other[i] ^ (1 << bit));
      int code = khonsu_xa_xid(other, len, &back);
      CHECK(code == XAER_NOTA || (code == XA_OK && i >= 6 && (back.formatID != first.formatID ||
                                                              back.gtrid_length != first.gtrid_length)));
    }
  }
  memset(other, 0xFF, sizeof(other));
  memcpy(other, id, 8);
  XA(XAER_NOTA, khonsu_xa_xid(other, len, &back)); /* the null XID */
  XA(XAER_NOTA, khonsu_xa_xid("order 66", 8, &back));
  XA(XAER_NOTA, khonsu_xa_xid("", 0, &back));
  XA(XAER_NOTA, khonsu_xa_xid(id, SIZE_MAX, &back));
  XA(XAER_INVAL, khonsu_xa_xid(NULL, len, &back));
  XA(XAER_INVAL, khonsu_xa_xid(id, len, NULL));
  XA(XAER_INVAL, khonsu_xa_global_id(NULL, id, &len));
  XA(XAER_INVAL, khonsu_xa_global_id(&first, NULL, &len));
  XA(XAER_INVAL, khonsu_xa_global_id(&first, id, NULL));
}

static void test_hostile_xids(void) {
  const char *information = xa_testing_information(stored, "");
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t len = 0;
  static const long lengths[] = {-1, 0, MAXGTRIDSIZE + 1, 128, LONG_MAX, LONG_MIN};
  XID bad[16];
  size_t count = 0;
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
    bad[count] = xa_testing_xid("gtrid", "bqual");
    bad[count++].gtrid_length = lengths[i];
    bad[count] = xa_testing_xid("gtrid", "bqual");
    bad[count++].bqual_length = lengths[i] == 0 ? MAXBQUALSIZE + 1 : lengths[i];
  }
  bad[count] = xa_testing_xid("gtrid", "bqual");
  bad[count++].formatID = -1;
  for (size_t i = 0; i <= count; i++) {
    XID *xid = i == count ? NULL : &bad[i];
    XA(XAER_INVAL, xa_start(xid, 1, TMNOFLAGS));
    XA(XAER_INVAL, xa_start(xid, 1, TMJOIN));
    XA(XAER_INVAL, xa_start(xid, 1, TMRESUME));
    XA(XAER_INVAL, xa_end(xid, 1, TMSUCCESS));
    XA(XAER_INVAL, xa_prepare(xid, 1, TMNOFLAGS));
    XA(XAER_INVAL, xa_commit(xid, 1, TMNOFLAGS));
    XA(XAER_INVAL, xa_commit(xid, 1, TMONEPHASE));
    XA(XAER_INVAL, xa_rollback(xid, 1, TMNOFLAGS));
    XA(XAER_INVAL, xa_forget(xid, 1, TMNOFLAGS));
    if (xid != NULL) XA(XAER_INVAL, khonsu_xa_global_id(xid, id, &len));
  }
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* ---- opening ---- */

static void test_switch(void) {
  CHECK_TEXT("khonsu", khonsu_xa_switch.name);
  CHECK(khonsu_xa_switch.flags == TMNOFLAGS);
  CHECK(khonsu_xa_switch.version == 0);
}

static void test_information(void) {
  static const char *const refused[] = {"",
                                        ",",
                                        "=",
                                        "path",
                                        "path=",
                                        "in_memory=",
                                        "path=a,in_memory=b",
                                        "path=a,path=b",
                                        "in_memory=a,",
                                        ",in_memory=a",
                                        "in_memory=a,,hold_reads=1",
                                        "in_memory=a\\",
                                        "in_memory=a,isolation=",
                                        "in_memory=a,isolation=SERIALIZABLE",
                                        "in_memory=a,isolation=serializable ",
                                        "in_memory=a,isolation",
                                        "in_memory=a,durability=fsync",
                                        "in_memory=a,conflict_resolution=overwrite",
                                        "in_memory=a,max_transaction_bytes=",
                                        "in_memory=a,max_transaction_bytes=-1",
                                        "in_memory=a,max_transaction_bytes=1k",
                                        "in_memory=a,max_transaction_bytes=18446744073709551616",
                                        "in_memory=a,hold_reads=2",
                                        "in_memory=a,hold_reads=yes",
                                        "in_memory=a,unknown=1",
                                        "in_memory=a, hold_reads=1",
                                        "isolation=serializable",
                                        "\xff\xfe=\x01",
                                        "%n%s%n%s=%n%s"};
  static const char *const taken[] = {
      "in_memory=a",
      "in_memory=\\,\\=\\\\",
      "hold_reads=0,in_memory==",
      "isolation=serializable,in_memory=a",
      "in_memory=a,isolation=repeatable_read,durability=none,conflict_resolution=append,hold_reads=1",
      "in_memory=a,isolation=read_committed,durability=buffered,conflict_resolution=replace",
      "in_memory=a,durability=synced,conflict_resolution=ignore,max_transaction_bytes=18446744073709551615",
      "in_memory=a,conflict_resolution=fail,max_transaction_bytes=0",
      "in_memory=\xff\x80%s%n"};
  for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
    if (!XA(XAER_INVAL, xa_open(refused[i], 1, TMNOFLAGS))) fprintf(stderr, "  \"%s\"\n", refused[i]);
  }
  for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
    if (!XA(XA_OK, xa_open(taken[i], 1, TMNOFLAGS))) fprintf(stderr, "  \"%s\"\n", taken[i]);
    XA(XA_OK, xa_close(NULL, 1, TMNOFLAGS));
  }
  XA(XAER_INVAL, xa_open(NULL, 1, TMNOFLAGS));

  /* As long as may be; one byte longer; and no end at all, in memory of which not one byte more may be read. */
  char *text = (char *)malloc(MAXINFOSIZE);
  if (!CHECK(text != NULL)) return;
  snprintf(text, MAXINFOSIZE, "in_memory=");
  memset(text + 10, 'x', MAXINFOSIZE - 10);
  XA(XAER_INVAL, xa_open(text, 1, TMNOFLAGS));
  text[MAXINFOSIZE - 1] = '\0';
  XA(XA_OK, xa_open(text, 1, TMNOFLAGS));
  XA(XA_OK, xa_close(text, 1, TMNOFLAGS));
  memset(text, ',', MAXINFOSIZE);
  XA(XAER_INVAL, xa_open(text, 1, TMNOFLAGS));
  free(text);

  /* Random texts of the bytes that mean something: any code, no crash. */
  uint32_t random = 1;
  for (int i = 0; i < 20000; i++) {
    static const char bytes[] = "=,\\a1pathin_memory";
    char noise[24];
    size_t len = 0;
    do {
      random = random * 1664525u + 1013904223u;
      noise[len] = bytes[(random >> 16) % (sizeof(bytes) - 1)];
    } while (++len < sizeof(noise) - 1 && (random >> 28) != 0);
    noise[len] = '\0';
    if (strncmp(noise, "path=", 5) == 0) continue; /* would make folders */
    int code = xa_open(noise, 1, TMNOFLAGS);
    if (code != XAER_INVAL && code != XA_OK) CHECK(!"a code for any text");
    if (code == XA_OK) XA(XA_OK, xa_close(NULL, 1, TMNOFLAGS));
  }
}

static void test_opening(void) {
  char information[MAXINFOSIZE], other[MAXINFOSIZE];
  khonsu_txn *txn = (khonsu_txn *)(uintptr_t)0x10;
  const khonsu_db *db = (const khonsu_db *)(uintptr_t)0x10;
  XID xid = xa_testing_xid("opening", "");
  int handle = 0, result = 0;
  snprintf(information, sizeof(information), "%s", xa_testing_information(stored, ""));
  snprintf(other, sizeof(other), "%s", xa_testing_information(stored, ""));

  /* Nothing is open: everything is out of context, but for a close. */
  XA(XA_OK, xa_close(information, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_start(&xid, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_end(&xid, 1, TMSUCCESS));
  XA(XAER_PROTO, xa_prepare(&xid, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_rollback(&xid, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_forget(&xid, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_recover(&xid, 1, 1, TMSTARTRSCAN));
  XA(XAER_PROTO, khonsu_xa_txn(1, &txn));
  CHECK(txn == NULL);
  XA(XAER_PROTO, khonsu_xa_db(1, &db));
  CHECK(db == NULL);

  /* Flags. */
  XA(XAER_ASYNC, xa_open(information, 1, TMASYNC));
  XA(XAER_INVAL, xa_open(information, 1, TMJOIN));
  XA(XAER_INVAL, xa_open(information, 1, -1L));
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  XA(XAER_ASYNC, xa_close(information, 1, TMASYNC));
  XA(XAER_INVAL, xa_close(information, 1, TMFAIL));

  /* Again: nothing happens. With another string it is refused, and what was open stays open. */
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  XA(XAER_INVAL, xa_open(other, 1, TMNOFLAGS));
  XA(XAER_INVAL, khonsu_xa_txn(1, NULL));
  XA(XAER_INVAL, khonsu_xa_db(1, NULL));
  XA(XAER_PROTO, khonsu_xa_txn(1, &txn));
  testing_commit_put(db_of(1), "k", "1");

  /* Another rmid of the same database shares it, negative ones, too; another database is another one. */
  XA(XA_OK, xa_open(information, -5, TMNOFLAGS));
  XA(XA_OK, xa_open(other, INT_MAX, TMNOFLAGS));
  CHECK(db_of(-5) == db_of(1));
  CHECK(db_of(INT_MAX) != db_of(1));
  XA(XA_OK, xa_close(information, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(-5), "k", "1");
  XA(XA_OK, xa_close(information, -5, TMNOFLAGS));
  XA(XA_OK, xa_close(information, INT_MAX, TMNOFLAGS));

  /* With the last one it was closed: what was in memory is gone. */
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(1), "k", stored ? "1" : "absent");
  XA(XA_OK, xa_close(information, 1, TMNOFLAGS));

  /* No asynchronous calls, so nothing to complete. */
  XA(XAER_PROTO, xa_complete(&handle, &result, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_complete(&handle, &result, 1, TMMULTIPLE | TMNOWAIT));
  XA(XAER_INVAL, xa_complete(&handle, &result, 1, TMJOIN));
  XA(XAER_INVAL, xa_complete(NULL, &result, 1, TMNOFLAGS));
  XA(XAER_INVAL, xa_complete(&handle, NULL, 1, TMNOFLAGS));
}

/* One directory by several names is one database; what is no directory is none. */
static void test_paths(void) {
  char path[MAXINFOSIZE], text[2 * MAXINFOSIZE];
  const char *folder = xa_testing_folder();
  snprintf(path, sizeof(path), "%s/real", folder);
  CHECK(mkdir(path, 0700) == 0);
  snprintf(text, sizeof(text), "%s/link", folder);
  CHECK(symlink(path, text) == 0);

  snprintf(text, sizeof(text), "path=%s/link/a\\,b", folder); /* there is nothing yet */
  XA(XA_OK, xa_open(text, 1, TMNOFLAGS));
  static const char *const names[] = {"real/a\\,b", "real/../link/a\\,b/", "link/a\\,\\b//", "./real/a\\,b/."};
  for (int i = 0; i < 4; i++) {
    snprintf(text, sizeof(text), "path=%s/%s", folder, names[i]);
    if (XA(XA_OK, xa_open(text, 2, TMNOFLAGS))) CHECK(db_of(1) == db_of(2));
    XA(XA_OK, xa_close(text, 2, TMNOFLAGS));
  }
  XA(XA_OK, xa_close(text, 1, TMNOFLAGS));
  snprintf(path, sizeof(path), "%s/real/a,b/FORMAT", folder);
  CHECK(access(path, F_OK) == 0);

  snprintf(text, sizeof(text), "path=%s/real/a\\,b/FORMAT", folder); /* a file */
  XA(XAER_RMERR, xa_open(text, 1, TMNOFLAGS));
  snprintf(text, sizeof(text), "path=%s/none/none/none", folder);
  int code = xa_open(text, 1, TMNOFLAGS);
  CHECK(code == XAER_RMERR || code == XA_OK);
  XA(XA_OK, xa_close(text, 1, TMNOFLAGS));

  /* Open by other means in this process: khonsu's lock says no, with its own words. */
  khonsu_error *error = NULL;
  khonsu_db *db = NULL;
  khonsu_options *options = khonsu_options_new();
  snprintf(path, sizeof(path), "%s/real/a,b", folder);
  EXPECT_OK(khonsu_options_set_path(options, path, &error));
  EXPECT_OK(khonsu_db_open(options, &db, &error));
  snprintf(text, sizeof(text), "path=%s/real/a\\,b", folder);
  XA(XAER_RMERR, xa_open(text, 1, TMNOFLAGS));
  CHECK(strlen(khonsu_xa_message()) > strlen("xa_open: "));
  khonsu_db_free(db);
  khonsu_options_free(options);
  XA(XA_OK, xa_open(text, 1, TMNOFLAGS));
  XA(XA_OK, xa_close(text, 1, TMNOFLAGS));
}

/* ---- the state tables ---- */

/* Rmids 1 and 2 are open; the states are those of a branch as rmid 1 sees it. */
enum state { none, active, suspended, active_elsewhere, migrating, idle, prepared, rollback_only, committed_by_operator,
             rolled_back_by_operator, states };

static void make(enum state state, XID *xid) {
  switch (state) {
    case none:
    case states: break;
    case active: XA(XA_OK, xa_start(xid, 1, TMNOFLAGS)); break;
    case suspended:
      XA(XA_OK, xa_start(xid, 1, TMNOFLAGS));
      XA(XA_OK, xa_end(xid, 1, TMSUSPEND));
      break;
    case active_elsewhere: XA(XA_OK, xa_start(xid, 2, TMNOFLAGS)); break;
    case migrating:
      XA(XA_OK, xa_start(xid, 2, TMNOFLAGS));
      XA(XA_OK, xa_end(xid, 2, TMSUSPEND | TMMIGRATE));
      break;
    case idle: make_idle(1, xid, "state", "1"); break;
    case prepared: make_prepared(1, xid, "state", "1"); break;
    case rollback_only:
      XA(XA_OK, xa_start(xid, 1, TMNOFLAGS));
      put_in_branch(1, "state", "1");
      XA(XA_RBROLLBACK, xa_end(xid, 1, TMFAIL));
      break;
    case committed_by_operator:
      make_prepared(1, xid, "state", "1");
      decide_heuristically(1, xid, KHONSU_DECISION_COMMIT);
      break;
    case rolled_back_by_operator:
      make_prepared(1, xid, "state", "1");
      decide_heuristically(1, xid, KHONSU_DECISION_ROLLBACK);
      break;
  }
}

/* Whatever state it is in, it is over then. */
static void unmake(XID *xid) {
  for (int rmid = 1; rmid <= 2; rmid++) (void)xa_end(xid, rmid, TMSUCCESS);
  (void)xa_rollback(xid, 1, TMNOFLAGS);
  (void)xa_forget(xid, 1, TMNOFLAGS);
  XA(XAER_NOTA, xa_rollback(xid, 1, TMNOFLAGS));
}

enum routine { start, join, resume, end_suspend, end_migrate, end_success, end_fail, prepare, commit, commit_one_phase,
               rollback, forget, routines };

static int call(enum routine routine, XID *xid) {
  switch (routine) {
    case start: return xa_start(xid, 1, TMNOFLAGS);
    case join: return xa_start(xid, 1, TMJOIN);
    case resume: return xa_start(xid, 1, TMRESUME | TMNOWAIT);
    case end_suspend: return xa_end(xid, 1, TMSUSPEND);
    case end_migrate: return xa_end(xid, 1, TMSUSPEND | TMMIGRATE);
    case end_success: return xa_end(xid, 1, TMSUCCESS);
    case end_fail: return xa_end(xid, 1, TMFAIL);
    case prepare: return xa_prepare(xid, 1, TMNOFLAGS);
    case commit: return xa_commit(xid, 1, TMNOWAIT);
    case commit_one_phase: return xa_commit(xid, 1, TMONEPHASE);
    case rollback: return xa_rollback(xid, 1, TMNOFLAGS);
    case forget: return xa_forget(xid, 1, TMNOFLAGS);
    case routines: break;
  }
  return XAER_INVAL;
}

static void test_states(void) {
  enum { ok = XA_OK, nota = XAER_NOTA, proto = XAER_PROTO, dupid = XAER_DUPID, rb = XA_RBROLLBACK, hc = XA_HEURCOM,
         hr = XA_HEURRB };
  static const int expected[routines][states] = {
      /* none, active, suspended, active elsewhere, migrating, idle, prepared, rollback-only, committed, rolled back */
      {ok, proto, dupid, dupid, dupid, dupid, dupid, dupid, dupid, dupid},         /* start */
      {nota, proto, proto, ok, ok, ok, proto, rb, proto, proto},                   /* join */
      {nota, proto, ok, proto, ok, proto, proto, proto, proto, proto},             /* resume */
      {nota, ok, proto, proto, proto, proto, proto, proto, proto, proto},          /* end, suspend */
      {nota, ok, proto, proto, proto, proto, proto, proto, proto, proto},          /* end, suspend and migrate */
      {nota, ok, ok, proto, ok, proto, proto, proto, proto, proto},                /* end, success */
      {nota, rb, rb, proto, rb, proto, proto, proto, proto, proto},                /* end, fail */
      {nota, proto, proto, proto, proto, ok, proto, proto, proto, proto},          /* prepare */
      {nota, proto, proto, proto, proto, proto, ok, proto, hc, hr},                /* commit */
      {nota, proto, proto, proto, proto, ok, proto, proto, proto, proto},          /* commit in one phase */
      {nota, proto, proto, proto, proto, ok, ok, ok, hc, hr},                      /* rollback */
      {nota, proto, proto, proto, proto, proto, proto, proto, ok, ok},             /* forget */
  };
  const char *information = xa_testing_information(stored, "");
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  XA(XA_OK, xa_open(information, 2, TMNOFLAGS));
  for (int state = 0; state < states; state++) {
    for (int routine = 0; routine < routines; routine++) {
      char gtrid[32];
      snprintf(gtrid, sizeof(gtrid), "%d in %d", routine, state);
      XID xid = xa_testing_xid(gtrid, "b");
      make((enum state)state, &xid);
      int want = expected[routine][state];
      /* A prepare of one that has written nothing is read-only; the idle ones here have written. */
      if (!XA(want, call((enum routine)routine, &xid))) fprintf(stderr, "  routine %d in state %d\n", routine, state);
      unmake(&xid);
    }
  }
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 2, TMNOFLAGS));
}

static void test_flags(void) {
  static const long all[] = {TMREGISTER, TMNOMIGRATE, TMUSEASYNC, TMASYNC,      TMONEPHASE, TMFAIL,
                             TMNOWAIT,   TMRESUME,    TMSUCCESS,  TMSUSPEND,    TMENDRSCAN, TMSTARTRSCAN,
                             TMMULTIPLE, TMJOIN,      TMMIGRATE,  0x00010000L,  0x8L};
  XID xid = xa_testing_xid("flags", "");
  XID unknown = xa_testing_xid("unknown", "");
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  make_idle(1, &xid, "k", "1");
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    long flag = all[i];
    int otherwise = flag == TMASYNC ? XAER_ASYNC : XAER_INVAL;
    if (flag != TMJOIN && flag != TMRESUME && flag != TMNOWAIT) XA(otherwise, xa_start(&unknown, 1, flag));
    if (flag != TMSUSPEND && flag != TMSUCCESS && flag != TMFAIL) XA(otherwise, xa_end(&xid, 1, flag));
    XA(otherwise, xa_prepare(&xid, 1, flag));
    if (flag != TMONEPHASE && flag != TMNOWAIT) XA(otherwise, xa_commit(&xid, 1, flag));
    XA(otherwise, xa_rollback(&xid, 1, flag));
    XA(otherwise, xa_forget(&xid, 1, flag));
    if (flag != TMSTARTRSCAN && flag != TMENDRSCAN) XA(XAER_INVAL, xa_recover(&xid, 1, 1, flag));
  }
  XA(XAER_INVAL, xa_start(&xid, 1, TMJOIN | TMRESUME));
  XA(XAER_INVAL, xa_end(&xid, 1, TMNOFLAGS));
  XA(XAER_INVAL, xa_end(&xid, 1, TMSUCCESS | TMFAIL));
  XA(XAER_INVAL, xa_end(&xid, 1, TMSUCCESS | TMSUSPEND));
  XA(XAER_INVAL, xa_end(&xid, 1, TMSUCCESS | TMMIGRATE));
  XA(XAER_INVAL, xa_end(&xid, 1, TMMIGRATE));
  XA(XAER_ASYNC, xa_end(&xid, 1, TMSUCCESS | TMASYNC));
  XA(XAER_INVAL, xa_end(&xid, 1, TMSUCCESS | TMASYNC | TMJOIN));
  XA(XAER_ASYNC, xa_commit(&xid, 1, TMONEPHASE | TMASYNC));
  XA(XA_OK, xa_commit(&xid, 1, TMONEPHASE | TMNOWAIT)); /* none of these has changed it */
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* Several branches and one thread: one association is active, the others wait suspended. */
static void test_suspension(void) {
  XID first = xa_testing_xid("first", "1"), second = xa_testing_xid("second", "1");
  khonsu_txn *txn = NULL, *again = NULL;
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  XA(XA_OK, xa_start(&first, 1, TMNOFLAGS));
  XA(XA_OK, khonsu_xa_txn(1, &txn));
  put_in_branch(1, "a", "1");
  XA(XAER_PROTO, xa_start(&second, 1, TMNOFLAGS));
  XA(XA_OK, xa_end(&first, 1, TMSUSPEND));
  XA(XAER_PROTO, khonsu_xa_txn(1, &again));
  XA(XA_OK, xa_start(&second, 1, TMNOFLAGS));
  put_in_branch(1, "b", "2");
  XA(XAER_PROTO, xa_start(&first, 1, TMRESUME)); /* the second is active */
  XA(XA_OK, xa_end(&second, 1, TMSUSPEND));
  XA(XAER_PROTO, xa_close("", 1, TMNOFLAGS));
  XA(XA_OK, xa_start(&first, 1, TMRESUME));
  XA(XA_OK, khonsu_xa_txn(1, &again));
  CHECK(txn == again);
  CHECK_VALUE(again, "a", "1");
  XA(XAER_PROTO, xa_close("", 1, TMNOFLAGS));
  XA(XA_OK, xa_end(&second, 1, TMSUCCESS)); /* the suspended one, while the first is active */
  XA(XA_OK, xa_end(&first, 1, TMSUCCESS));
  XA(XA_OK, xa_commit(&second, 1, TMONEPHASE));
  CHECK_COMMITTED(db_of(1), "a", "absent");
  CHECK_COMMITTED(db_of(1), "b", "2");
  XA(XA_OK, xa_commit(&first, 1, TMONEPHASE));
  CHECK_COMMITTED(db_of(1), "a", "1");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* A branch that fails under one association is rollback-only for the others. */
static void test_rollback_only(void) {
  const char *information = xa_testing_information(stored, "");
  XID xid = xa_testing_xid("failing", "");
  khonsu_txn *txn = NULL;
  for (int rmid = 1; rmid <= 4; rmid++) XA(XA_OK, xa_open(information, rmid, TMNOFLAGS));
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  put_in_branch(1, "k", "1");
  for (int rmid = 2; rmid <= 4; rmid++) XA(XA_OK, xa_start(&xid, rmid, TMJOIN));
  XA(XA_OK, xa_end(&xid, 3, TMSUSPEND));
  XA(XA_RBROLLBACK, xa_end(&xid, 1, TMFAIL));
  XA(XAER_PROTO, khonsu_xa_txn(1, &txn));
  XA(XA_RBROLLBACK, xa_start(&xid, 1, TMJOIN));
  XA(XAER_PROTO, khonsu_xa_txn(1, &txn));
  XA(XA_OK, khonsu_xa_txn(2, &txn)); /* it is still associated */
  XA(XA_RBROLLBACK, xa_end(&xid, 2, TMSUSPEND));
  XA(XAER_PROTO, xa_start(&xid, 2, TMRESUME)); /* which did not suspend, but end it */
  XA(XAER_PROTO, xa_rollback(&xid, 1, TMNOFLAGS));
  XA(XA_RBROLLBACK, xa_start(&xid, 3, TMRESUME));
  XA(XAER_PROTO, xa_end(&xid, 3, TMSUCCESS));
  XA(XA_RBROLLBACK, xa_end(&xid, 4, TMSUCCESS));
  XA(XA_OK, xa_rollback(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(1), "k", "absent");
  for (int rmid = 1; rmid <= 4; rmid++) XA(XA_OK, xa_close("", rmid, TMNOFLAGS));
}

/* ---- what a branch does to the data ---- */

static void test_outcomes(void) {
  XID xid = xa_testing_xid("outcomes", "1");
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  const khonsu_db *db = db_of(1);

  make_prepared(1, &xid, "k", "1");
  CHECK_COMMITTED(db, "k", "absent");
  XA(XAER_DUPID, xa_start(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db, "k", "1");
  XA(XAER_NOTA, xa_commit(&xid, 1, TMNOFLAGS)); /* the branch is over */
  XA(XAER_NOTA, xa_rollback(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_forget(&xid, 1, TMNOFLAGS));

  xid = xa_testing_xid("outcomes", "2");
  make_prepared(1, &xid, "k", "2");
  XA(XA_OK, xa_rollback(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_rollback(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db, "k", "1");

  xid = xa_testing_xid("outcomes", "3");
  make_idle(1, &xid, "k", "3");
  XA(XA_OK, xa_rollback(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db, "k", "1");

  make_idle(1, &xid, "k", "4"); /* the same XID: it was never prepared */
  XA(XA_OK, xa_commit(&xid, 1, TMONEPHASE));
  XA(XAER_NOTA, xa_commit(&xid, 1, TMONEPHASE));
  CHECK_COMMITTED(db, "k", "4");

  /* Read-only: over with the prepare. */
  xid = xa_testing_xid("outcomes", "4");
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  read_in_branch(1, "k");
  XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
  XA(XA_RDONLY, xa_prepare(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* A branch that has lost against another transaction is rolled back and forgotten. */
static void test_conflicts(void) {
  XID xid = xa_testing_xid("conflicts", "");
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  const khonsu_db *db = db_of(1);
  for (int one_phase = 0; one_phase <= 1; one_phase++) {
    testing_commit_put(db, "k", "1");
    XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
    read_in_branch(1, "k");
    put_in_branch(1, "k", "2");
    XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
    testing_commit_put(db, "k", "3");
    XA(XA_RBTRANSIENT, one_phase ? xa_commit(&xid, 1, TMONEPHASE) : xa_prepare(&xid, 1, TMNOFLAGS));
    XA(XAER_NOTA, xa_rollback(&xid, 1, TMNOFLAGS));
    CHECK_COMMITTED(db, "k", "3");
  }
  /* What a prepared branch writes, nobody else writes until it is decided; everybody reads the old value. */
  make_prepared(1, &xid, "k", "4");
  khonsu_error *error = NULL;
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "k", "5", &error));
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  XID other = xa_testing_xid("other", "");
  make_idle(1, &other, "k", "6");
  XA(XA_RBTRANSIENT, xa_prepare(&other, 1, TMNOFLAGS));
  CHECK_COMMITTED(db, "k", "3");
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db, "k", "4");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* An id that was prepared and decided is used again: khonsu remembers it. */
static void test_used_again(void) {
  XID xid = xa_testing_xid("again", "");
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  make_prepared(1, &xid, "k", "1");
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  make_idle(1, &xid, "k", "2");
  XA(XA_RBPROTO, xa_prepare(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_rollback(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(1), "k", "1");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

static void test_options(void) {
  XID xid = xa_testing_xid("options", "");
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  char information[MAXINFOSIZE], text[2 * MAXINFOSIZE];
  snprintf(information, sizeof(information), "%s", xa_testing_information(stored, ""));
  snprintf(text, sizeof(text), "%s,hold_reads=1", information);
  XA(XA_OK, xa_open(text, 1, TMNOFLAGS));
  snprintf(text, sizeof(text), "%s,max_transaction_bytes=1", information);
  XA(XA_OK, xa_open(text, 2, TMNOFLAGS));
  snprintf(text, sizeof(text), "%s,isolation=read_committed,durability=buffered", information);
  XA(XA_OK, xa_open(text, 3, TMNOFLAGS));
  snprintf(text, sizeof(text), "%s,conflict_resolution=ignore", information);
  XA(XA_OK, xa_open(text, 4, TMNOFLAGS));
  const khonsu_db *db = db_of(1);

  /* hold_reads: one that has only read votes yes, and nobody overwrites what it has read before it is decided. */
  testing_commit_put(db, "k", "1");
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  read_in_branch(1, "k");
  XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
  XA(XA_OK, xa_prepare(&xid, 1, TMNOFLAGS));
  txn = testing_begin(db);
  EXPECT_OK(testing_put(txn, "k", "2", &error));
  EXPECT(KHONSU_STATUS_CONFLICT, khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  testing_commit_put(db, "k", "2");

  XA(XA_OK, xa_start(&xid, 2, TMNOFLAGS));
  XA(XA_OK, khonsu_xa_txn(2, &txn));
  EXPECT(KHONSU_STATUS_LIMIT_EXCEEDED, testing_put(txn, "k", "3,3,3", &error));
  XA(XA_OK, xa_end(&xid, 2, TMSUCCESS));
  XA(XA_OK, xa_rollback(&xid, 2, TMNOFLAGS));

  XA(XA_OK, xa_start(&xid, 3, TMNOFLAGS));
  XA(XA_OK, khonsu_xa_txn(3, &txn));
  CHECK_VALUE(txn, "k", "2");
  testing_commit_put(db, "k", "4");
  CHECK_VALUE(txn, "k", "4"); /* read committed */
  XA(XA_OK, xa_end(&xid, 3, TMSUCCESS));
  XA(XA_OK, xa_commit(&xid, 3, TMONEPHASE));

  XA(XA_OK, xa_start(&xid, 4, TMNOFLAGS));
  put_in_branch(4, "k", "5");
  testing_commit_put(db, "k", "6");
  XA(XA_OK, xa_end(&xid, 4, TMSUCCESS));
  XA(XA_OK, xa_commit(&xid, 4, TMONEPHASE));
  CHECK_COMMITTED(db, "k", "6"); /* its write was dropped */
  for (int rmid = 1; rmid <= 4; rmid++) XA(XA_OK, xa_close("", rmid, TMNOFLAGS));
}

/* The application ends the transaction that was only lent to it. */
static void test_application_ends_it(void) {
  khonsu_error *error = NULL;
  khonsu_txn *txn = NULL;
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  for (int commits = 0; commits <= 1; commits++) {
    for (int one_phase = 0; one_phase <= 1; one_phase++) {
      XID xid = xa_testing_xid("ended", commits ? "committed" : "rolled back");
      XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
      put_in_branch(1, "k", "1");
      XA(XA_OK, khonsu_xa_txn(1, &txn));
      EXPECT_OK(commits ? khonsu_txn_commit(txn, &error) : khonsu_txn_rollback(txn, &error));
      XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
      if (one_phase) {
        XA(XAER_PROTO, xa_commit(&xid, 1, TMONEPHASE));
      } else {
        XA(XAER_RMERR, xa_prepare(&xid, 1, TMNOFLAGS));
        XA(XAER_RMERR, xa_prepare(&xid, 1, TMNOFLAGS));
      }
      if (commits) {
        XA(XA_HEURCOM, xa_rollback(&xid, 1, TMNOFLAGS));
        XA(XA_HEURCOM, xa_rollback(&xid, 1, TMNOFLAGS));
        XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));
      } else {
        XA(XA_OK, xa_rollback(&xid, 1, TMNOFLAGS));
      }
      XA(XAER_NOTA, xa_rollback(&xid, 1, TMNOFLAGS));
    }
  }
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* ---- heuristic decisions ---- */

static void test_heuristics(void) {
  XID xid = xa_testing_xid("heuristic", "1");
  XID listed[4];
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  make_prepared(1, &xid, "a", "1");
  XA(XAER_PROTO, xa_forget(&xid, 1, TMNOFLAGS));
  decide_heuristically(1, &xid, KHONSU_DECISION_COMMIT);
  CHECK_COMMITTED(db_of(1), "a", "1");
  for (int i = 0; i < 2; i++) {
    XA(XA_HEURCOM, xa_commit(&xid, 1, TMNOFLAGS));
    XA(XA_HEURCOM, xa_rollback(&xid, 1, TMNOFLAGS));
  }
  CHECK(xa_recover(listed, 4, 1, TMSTARTRSCAN | TMENDRSCAN) == 1);
  XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_forget(&xid, 1, TMNOFLAGS));
  CHECK(xa_recover(listed, 4, 1, TMSTARTRSCAN | TMENDRSCAN) == 0);

  xid = xa_testing_xid("heuristic", "2");
  make_prepared(1, &xid, "b", "1");
  decide_heuristically(1, &xid, KHONSU_DECISION_ROLLBACK);
  XA(XA_HEURRB, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XA_HEURRB, xa_rollback(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(1), "b", "absent");
  XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));

  /* Forgotten before the transaction manager has come back. */
  xid = xa_testing_xid("heuristic", "3");
  make_prepared(1, &xid, "c", "1");
  decide_heuristically(1, &xid, KHONSU_DECISION_ROLLBACK);
  XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));
  XA(XAER_NOTA, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* Decided beside the switch, by khonsu_db_rollback_prepared or _commit_prepared: what is true is told. */
static void test_decided_beside(void) {
  khonsu_error *error = NULL;
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t id_len = 0;
  XA(XA_OK, xa_open(xa_testing_information(stored, ""), 1, TMNOFLAGS));
  XID xid = xa_testing_xid("beside", "1");
  make_prepared(1, &xid, "k", "1");
  XA(XA_OK, khonsu_xa_global_id(&xid, id, &id_len));
  EXPECT_OK(khonsu_db_rollback_prepared(db_of(1), id, id_len, &error));
  XA(XA_HEURRB, xa_commit(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));

  xid = xa_testing_xid("beside", "2");
  make_prepared(1, &xid, "k", "1");
  XA(XA_OK, khonsu_xa_global_id(&xid, id, &id_len));
  EXPECT_OK(khonsu_db_commit_prepared(db_of(1), id, id_len, NULL, &error));
  XA(XA_HEURCOM, xa_rollback(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_forget(&xid, 1, TMNOFLAGS));

  xid = xa_testing_xid("beside", "3");
  make_prepared(1, &xid, "k", "2");
  XA(XA_OK, khonsu_xa_global_id(&xid, id, &id_len));
  EXPECT_OK(khonsu_db_commit_prepared(db_of(1), id, id_len, NULL, &error));
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS)); /* as it should be */
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* ---- recovery ---- */

static void test_recovery_scan(void) {
  enum { branches = 7 };
  const char *information = xa_testing_information(stored, "");
  XID xids[branches + 2], listed[branches + 2];
  bool seen[branches] = {false};
  khonsu_error *error = NULL;
  int32_t vote = 0;
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  XA(XA_OK, xa_open(information, 2, TMNOFLAGS));
  CHECK(xa_recover(listed, 9, 1, TMSTARTRSCAN | TMENDRSCAN) == 0);
  for (int i = 0; i < branches; i++) {
    char key[8];
    snprintf(key, sizeof(key), "k%d", i);
    xids[i] = xa_testing_xid(key, "b");
    make_prepared(1, &xids[i], key, "1");
  }
  decide_heuristically(1, &xids[3], KHONSU_DECISION_COMMIT);
  XID other = xa_testing_xid("idle", "b");
  make_idle(1, &other, "idle", "1");
  /* Prepared by other means, under a name of its own: no business of the transaction manager. */
  khonsu_txn *txn = testing_begin(db_of(1));
  EXPECT_OK(testing_put(txn, "beside", "1", &error));
  EXPECT_OK(khonsu_txn_prepare(txn, "order 66", 8, KHONSU_PREPARE_ALLOW_VOLATILE, &vote, &error));
  khonsu_txn_free(txn);

  XA(XAER_INVAL, xa_recover(listed, 3, 1, TMNOFLAGS)); /* no scan is open */
  XA(XAER_INVAL, xa_recover(listed, 3, 1, TMENDRSCAN));
  XA(XAER_INVAL, xa_recover(NULL, 3, 1, TMSTARTRSCAN));
  XA(XAER_INVAL, xa_recover(listed, -1, 1, TMSTARTRSCAN));
  XA(XAER_INVAL, xa_recover(listed, LONG_MIN, 1, TMSTARTRSCAN));
  XA(XAER_PROTO, xa_recover(listed, 3, 3, TMSTARTRSCAN));

  CHECK(xa_recover(NULL, 0, 1, TMSTARTRSCAN) == 0);
  CHECK(xa_recover(listed, 3, 1, TMNOFLAGS) == 3);
  XA(XAER_INVAL, xa_recover(listed, 3, 2, TMNOFLAGS)); /* the scan is that of rmid 1 */
  CHECK(xa_recover(listed + 3, 3, 1, TMNOFLAGS) == 3);
  CHECK(xa_recover(listed + 6, 3, 1, TMNOFLAGS) == 1);
  XA(XAER_INVAL, xa_recover(listed, 3, 1, TMNOFLAGS)); /* fewer than asked for: it was the end */
  for (int i = 0; i < branches; i++) {
    for (int j = 0; j < branches; j++) {
      if (memcmp(&listed[i], &xids[j], sizeof(XID)) == 0) seen[j] = true;
    }
  }
  for (int i = 0; i < branches; i++) CHECK(seen[i]);

  CHECK(xa_recover(listed, 2, 1, TMSTARTRSCAN) == 2);
  CHECK(xa_recover(listed, 5, 1, TMSTARTRSCAN) == 5); /* from the start again */
  CHECK(xa_recover(listed, 2, 1, TMENDRSCAN) == 2);
  XA(XAER_INVAL, xa_recover(listed, 2, 1, TMENDRSCAN));
  CHECK(xa_recover(listed, branches, 1, TMSTARTRSCAN) == branches);
  CHECK(xa_recover(listed, 1, 1, TMNOFLAGS) == 0); /* none was left, and none missing before */
  CHECK(xa_recover(listed, 1, 1, TMSTARTRSCAN) == 1);
  XA(XA_OK, xa_close("", 1, TMNOFLAGS)); /* with a scan open */
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  XA(XAER_INVAL, xa_recover(listed, 1, 1, TMNOFLAGS));

  for (int i = 0; i < branches; i++) XA(i == 3 ? XA_HEURCOM : XA_OK, xa_rollback(&xids[i], 2, TMNOFLAGS));
  XA(XA_OK, xa_forget(&xids[3], 2, TMNOFLAGS));
  XA(XA_OK, xa_rollback(&other, 2, TMNOFLAGS));
  EXPECT_OK(khonsu_db_rollback_prepared(db_of(1), "order 66", 8, &error));
  CHECK(xa_recover(listed, 9, 1, TMSTARTRSCAN) == 0);
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
  XA(XA_OK, xa_close("", 2, TMNOFLAGS));
}

/* Closed and opened again: what was prepared is there to be decided, what was not is rolled back. In memory all is
 * gone. */
static void test_reopening(void) {
  char information[MAXINFOSIZE];
  XID first = xa_testing_xid("reopen", "1"), second = xa_testing_xid("reopen", "2"),
      third = xa_testing_xid("reopen", "3"), decided = xa_testing_xid("reopen", "4"), listed[8];
  snprintf(information, sizeof(information), "%s", xa_testing_information(stored, ""));
  XA(XA_OK, xa_open(information, 1, TMNOFLAGS));
  make_prepared(1, &first, "a", "1");
  make_prepared(1, &second, "b", "1");
  make_idle(1, &third, "c", "1");
  make_prepared(1, &decided, "d", "1");
  decide_heuristically(1, &decided, KHONSU_DECISION_COMMIT);
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));

  XA(XA_OK, xa_open(information, 2, TMNOFLAGS));
  CHECK(xa_recover(listed, 8, 2, TMSTARTRSCAN) == (stored ? 3 : 0));
  XA(XAER_NOTA, xa_commit(&third, 2, TMONEPHASE));
  if (stored) {
    XA(XAER_DUPID, xa_start(&first, 2, TMNOFLAGS));
    XA(XAER_PROTO, xa_start(&first, 2, TMJOIN));
    XA(XA_OK, xa_commit(&first, 2, TMNOFLAGS));
    XA(XA_OK, xa_rollback(&second, 2, TMNOFLAGS));
    XA(XA_HEURCOM, xa_rollback(&decided, 2, TMNOFLAGS));
    XA(XA_OK, xa_forget(&decided, 2, TMNOFLAGS));
    CHECK_COMMITTED(db_of(2), "a", "1");
    CHECK_COMMITTED(db_of(2), "d", "1");
  }
  XA(XAER_NOTA, xa_commit(&first, 2, TMNOFLAGS));
  CHECK_COMMITTED(db_of(2), "b", "absent");
  CHECK_COMMITTED(db_of(2), "c", "absent");
  XA(XA_OK, xa_close("", 2, TMNOFLAGS));
}

/* ---- threads of control ---- */

static char shared_information[MAXINFOSIZE];

static void *joins_and_writes(void *argument) {
  XID *xid = (XID *)argument;
  khonsu_txn *txn = NULL;
  XA(XAER_PROTO, xa_start(xid, 1, TMJOIN)); /* opened by another thread, not by this one */
  XA(XAER_PROTO, khonsu_xa_txn(1, &txn));
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_end(xid, 1, TMSUCCESS)); /* the association is the other thread's */
  XA(XAER_PROTO, xa_start(xid, 1, TMRESUME));
  XA(XA_OK, xa_start(xid, 1, TMJOIN));
  put_in_branch(1, "b", "2");
  XA(XA_OK, xa_end(xid, 1, TMSUCCESS));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
  return NULL;
}

static void *prepares(void *argument) {
  XA(XA_OK, xa_open(shared_information, 17, TMNOFLAGS));
  XA(XA_OK, xa_prepare((XID *)argument, 17, TMNOFLAGS));
  return NULL; /* without a close */
}

static void *resumes(void *argument) {
  XID *xid = (XID *)argument;
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XA_OK, xa_start(xid, 1, TMRESUME));
  put_in_branch(1, "c", "3");
  XA(XA_OK, xa_end(xid, 1, TMSUSPEND | TMMIGRATE));
  XA(XA_OK, xa_close("", 1, TMNOFLAGS)); /* it has no association any more */
  return NULL;
}

static void *cannot_resume(void *argument) {
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XAER_PROTO, xa_start((XID *)argument, 1, TMRESUME));
  XA(XAER_PROTO, xa_end((XID *)argument, 1, TMSUCCESS));
  return NULL;
}

static void *starts_and_dies(void *argument) {
  XID *xids = (XID *)argument;
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XA_OK, xa_start(&xids[0], 1, TMNOFLAGS));
  put_in_branch(1, "d", "4");
  XA(XA_OK, xa_end(&xids[0], 1, TMSUSPEND));
  XA(XA_OK, xa_start(&xids[1], 1, TMNOFLAGS));
  put_in_branch(1, "e", "5");
  return NULL;
}

static void test_threads(void) {
  XID xid = xa_testing_xid("threads", "1"), dying[2] = {xa_testing_xid("dying", "1"), xa_testing_xid("dying", "2")};
  snprintf(shared_information, sizeof(shared_information), "%s", xa_testing_information(stored, ""));
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  put_in_branch(1, "a", "1");
  xa_testing_in_thread(joins_and_writes, &xid);
  XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
  xa_testing_in_thread(prepares, &xid);
  XA(XA_OK, xa_commit(&xid, 1, TMNOFLAGS));
  CHECK_COMMITTED(db_of(1), "a", "1");
  CHECK_COMMITTED(db_of(1), "b", "2");

  xid = xa_testing_xid("threads", "2");
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  XA(XA_OK, xa_end(&xid, 1, TMSUSPEND));
  xa_testing_in_thread(cannot_resume, &xid);
  XA(XA_OK, xa_start(&xid, 1, TMRESUME));
  XA(XA_OK, xa_end(&xid, 1, TMSUSPEND | TMMIGRATE));
  xa_testing_in_thread(resumes, &xid);
  XA(XA_OK, xa_end(&xid, 1, TMSUCCESS)); /* ends the one that migrates, too */
  XA(XA_OK, xa_commit(&xid, 1, TMONEPHASE));
  CHECK_COMMITTED(db_of(1), "c", "3");

  /* A thread that ends in the midst of its work: nothing of it may commit. */
  xa_testing_in_thread(starts_and_dies, dying);
  for (int i = 0; i < 2; i++) {
    XA(XAER_PROTO, xa_prepare(&dying[i], 1, TMNOFLAGS));
    XA(XA_RBROLLBACK, xa_start(&dying[i], 1, TMJOIN));
    XA(XA_OK, xa_rollback(&dying[i], 1, TMNOFLAGS));
  }
  CHECK_COMMITTED(db_of(1), "d", "absent");
  CHECK_COMMITTED(db_of(1), "e", "absent");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

/* The child of a fork has nothing open, and may open what its parent has not. */
static void test_fork(void) {
  XID xid = xa_testing_xid("fork", "");
  snprintf(shared_information, sizeof(shared_information), "%s", xa_testing_information(stored, ""));
  XA(XA_OK, xa_open(shared_information, 1, TMNOFLAGS));
  XA(XA_OK, xa_start(&xid, 1, TMNOFLAGS));
  int ends[2], status = -1;
  char passed = 0;
  CHECK(pipe(ends) == 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    passed = xa_start(&xid, 1, TMNOFLAGS) == XAER_PROTO && xa_end(&xid, 1, TMSUCCESS) == XAER_PROTO &&
             xa_close("", 1, TMNOFLAGS) == XA_OK && xa_open("in_memory=of the child", 1, TMNOFLAGS) == XA_OK &&
             xa_start(&xid, 1, TMNOFLAGS) == XA_OK;
    if (write(ends[1], &passed, 1) != 1) passed = 0;
    /* Not by an exit: what it has of its parent's would count as leaks. */
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(read(ends[0], &passed, 1) == 1 && passed == 1);
  close(ends[0]);
  close(ends[1]);
  put_in_branch(1, "k", "1");
  XA(XA_OK, xa_end(&xid, 1, TMSUCCESS));
  XA(XA_OK, xa_commit(&xid, 1, TMONEPHASE));
  CHECK_COMMITTED(db_of(1), "k", "1");
  XA(XA_OK, xa_close("", 1, TMNOFLAGS));
}

int main(void) {
  RUN(test_switch);
  RUN(test_global_ids);
  RUN(test_information);
  RUN(test_paths);
  for (int i = 0; i < 2; i++) {
    stored = i == 1;
    fprintf(stderr, "%s\n", stored ? "stored" : "in memory");
    RUN(test_opening);
    RUN(test_hostile_xids);
    RUN(test_states);
    RUN(test_flags);
    RUN(test_suspension);
    RUN(test_rollback_only);
    RUN(test_outcomes);
    RUN(test_conflicts);
    RUN(test_used_again);
    RUN(test_options);
    RUN(test_application_ends_it);
    RUN(test_heuristics);
    RUN(test_decided_beside);
    RUN(test_recovery_scan);
    RUN(test_reopening);
    RUN(test_threads);
    RUN(test_fork);
  }
  xa_testing_remove_folder();
  return testing_finish("xa_switch_test");
}
