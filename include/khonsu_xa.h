/*
 * X/Open XA for khonsu: khonsu databases as resource managers of any XA transaction manager.
 *
 * The library libkhonsu_xa gives the switch of the specification "Distributed Transaction Processing: The XA
 * Specification" (X/Open CAE, C193), and calls by which the application gets at the transaction of the branch that its
 * thread works on. docs/xa.md is the manual; docs/two-phase-commit.md says what khonsu promises underneath.
 *
 *     // the transaction manager
 *     khonsu_xa_switch.xa_open_entry("path=bank.khonsu", rmid, TMNOFLAGS);
 *     khonsu_xa_switch.xa_start_entry(&xid, rmid, TMNOFLAGS);
 *     // the application, in the same thread
 *     khonsu_txn *txn = NULL;
 *     if (khonsu_xa_txn(rmid, &txn) == XA_OK) khonsu_txn_put(txn, "k", 1, &array, &schema, NULL);
 *     // the transaction manager
 *     khonsu_xa_switch.xa_end_entry(&xid, rmid, TMSUCCESS);
 *     khonsu_xa_switch.xa_prepare_entry(&xid, rmid, TMNOFLAGS);
 *     khonsu_xa_switch.xa_commit_entry(&xid, rmid, TMNOFLAGS);
 *
 * The information string of xa_open. Entries "name=value", separated by commas, each name once; a backslash takes the
 * next byte as it is. At most MAXINFOSIZE bytes with the NUL. Exactly one of the first two must be there:
 *
 *     path=DIRECTORY           a stored database, as khonsu_options_set_path has it
 *     in_memory=NAME           a database in memory, that of this name in this process
 *     isolation=LEVEL          serializable (default), repeatable_read or read_committed
 *     durability=WHEN          synced (default), buffered or none: of a commit in one phase. What is prepared, and what
 *                              is committed in two phases, is always synced
 *     conflict_resolution=HOW  fail (default), ignore, replace or append
 *     max_transaction_bytes=N  the most bytes that a branch may have staged; 0, the default: no limit
 *     hold_reads=1             a serializable branch that has only read votes yes and holds what it has read until the
 *                              decision; 0, the default, and at the lower levels: it votes read-only, and is done at
 *                              its prepare
 *
 * All that open the same directory, or the same name, in one process share one khonsu_db, whatever the rmid and the
 * thread; it closes with the last of them. The other options are those of the rmid in the thread that opened it.
 *
 * Threads. A thread of control is a thread. As the specification has it, each thread opens for itself the rmids that it
 * uses, and closes them; one that ends without closing has them closed, and the branches that it was associated with
 * are marked rollback-only. Any thread that has opened a database may prepare, commit, roll back and recover all of its
 * branches. Every function here, and every entry of the switch, may be called by any number of threads at once. None
 * waits for another for longer than a short internal lock, but for xa_open and xa_close: they wait while another thread
 * opens or closes the same database. Branches that are joined by several threads have one khonsu_txn, which one thread
 * may use at a time.
 *
 * A child process made by fork has nothing open.
 *
 * What is checked. NULL, lengths, flags, unknown rmids, any text of the information string: all this gives a code.
 * Pointers that lead nowhere cannot be checked, nor can an XID or a string that is changed during a call.
 */

#ifndef KHONSU_XA_H
#define KHONSU_XA_H

#include <stddef.h>
#include <stdint.h>

#include "khonsu.h"

/*
 * What the specification defines, unless the transaction manager's own xa.h has been included before. After this
 * header, one that is guarded by XA_H, as the specification has it, adds nothing.
 */
#if !defined(XA_H) && !defined(XIDDATASIZE)
#define XA_H

/* ---- branches ---- */

#define XIDDATASIZE 128 /* bytes */
#define MAXGTRIDSIZE 64 /* the most bytes of a global transaction identifier */
#define MAXBQUALSIZE 64 /* the most bytes of a branch qualifier */

/** A transaction branch: gtrid_length bytes of data name the global transaction, bqual_length more the branch in it. */
struct xid_t {
  long formatID; /* -1: the null XID */
  long gtrid_length;
  long bqual_length;
  char data[XIDDATASIZE];
};
typedef struct xid_t XID;

/* ---- the switch ---- */

#define RMNAMESZ 32     /* bytes of the name of a resource manager, NUL included */
#define MAXINFOSIZE 256 /* the most bytes of an information string, NUL included */

struct xa_switch_t {
  char name[RMNAMESZ];
  long flags;   /* TMREGISTER, TMNOMIGRATE, TMUSEASYNC */
  long version; /* 0 */
  int (*xa_open_entry)(char *, int, long);
  int (*xa_close_entry)(char *, int, long);
  int (*xa_start_entry)(XID *, int, long);
  int (*xa_end_entry)(XID *, int, long);
  int (*xa_rollback_entry)(XID *, int, long);
  int (*xa_prepare_entry)(XID *, int, long);
  int (*xa_commit_entry)(XID *, int, long);
  int (*xa_recover_entry)(XID *, long, int, long);
  int (*xa_forget_entry)(XID *, int, long);
  int (*xa_complete_entry)(int *, int *, int, long);
};

/* ---- flags ---- */

#define TMNOFLAGS 0x00000000L
#define TMREGISTER 0x00000001L
#define TMNOMIGRATE 0x00000002L
#define TMUSEASYNC 0x00000004L
#define TMASYNC 0x80000000L
#define TMONEPHASE 0x40000000L
#define TMFAIL 0x20000000L
#define TMNOWAIT 0x10000000L
#define TMRESUME 0x08000000L
#define TMSUCCESS 0x04000000L
#define TMSUSPEND 0x02000000L
#define TMSTARTRSCAN 0x01000000L
#define TMENDRSCAN 0x00800000L
#define TMMULTIPLE 0x00400000L
#define TMJOIN 0x00200000L
#define TMMIGRATE 0x00100000L

/* ---- what resource managers may call in a transaction manager, with its codes; khonsu does not ---- */

#ifdef __cplusplus
extern "C" {
#endif
extern int ax_reg(int, XID *, long);
extern int ax_unreg(int, long);
#ifdef __cplusplus
}
#endif

#define TM_JOIN 2
#define TM_RESUME 1
#define TM_OK 0
#define TMER_TMERR -1
#define TMER_INVAL -2
#define TMER_PROTO -3

/* ---- xa_ codes ---- */

#define XA_RBBASE 100
#define XA_RBROLLBACK XA_RBBASE
#define XA_RBCOMMFAIL (XA_RBBASE + 1)
#define XA_RBDEADLOCK (XA_RBBASE + 2)
#define XA_RBINTEGRITY (XA_RBBASE + 3)
#define XA_RBOTHER (XA_RBBASE + 4)
#define XA_RBPROTO (XA_RBBASE + 5)
#define XA_RBTIMEOUT (XA_RBBASE + 6)
#define XA_RBTRANSIENT (XA_RBBASE + 7)
#define XA_RBEND XA_RBTRANSIENT
#define XA_NOMIGRATE 9
#define XA_HEURHAZ 8
#define XA_HEURCOM 7
#define XA_HEURRB 6
#define XA_HEURMIX 5
#define XA_RETRY 4
#define XA_RDONLY 3
#define XA_OK 0
#define XAER_ASYNC -2
#define XAER_RMERR -3
#define XAER_NOTA -4
#define XAER_INVAL -5
#define XAER_PROTO -6
#define XAER_RMFAIL -7
#define XAER_DUPID -8
#define XAER_OUTSIDE -9

#endif /* XA_H */

/** The most bytes of the global id, as khonsu_txn_prepare takes it, that an XID becomes. */
#define KHONSU_XA_GLOBAL_ID_MAX_BYTES 144

#if defined(__GNUC__)
#define KHONSU_XA_API __attribute__((visibility("default")))
#else
#define KHONSU_XA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The switch of khonsu, named "khonsu". Its flags are TMNOFLAGS: branches are registered by the transaction manager,
 * suspended associations may be resumed by other threads (TMMIGRATE), and there are no asynchronous calls. docs/xa.md
 * has each entry with its flags and codes.
 *
 * Threads: the entries may be called by any number of threads at once. Do not write to it. Since: 0.1
 */
extern KHONSU_XA_API struct xa_switch_t khonsu_xa_switch;

/**
 * Gives the transaction of the branch that the calling thread is associated with, to read and write in. It belongs to
 * the branch: it must not be committed, rolled back, prepared or freed by the application, and it is valid until the
 * association ends or is suspended. A transaction manager that is told by the application of a failure ends the
 * association with TMFAIL.
 *
 * @param[in]  rmid    What the calling thread has opened.
 * @param[out] out_txn Not NULL. Borrowed; NULL on failure.
 * @return
 * - XA_OK: given.
 * - XAER_INVAL: out_txn is NULL.
 * - XAER_PROTO: the calling thread has not opened rmid, or is not associated with a branch of it.
 *
 * Threads: any number at once; the transaction, where several threads have joined its branch, one thread at a time.
 * Since: 0.1
 */
KHONSU_XA_API int khonsu_xa_txn(int rmid, khonsu_txn **out_txn);

/**
 * Gives the database of an rmid, for what is not part of a branch: transactions of its own, statistics, the list of
 * transactions in doubt, an operator's decisions.
 *
 * @param[in]  rmid   What the calling thread has opened.
 * @param[out] out_db Not NULL. Borrowed: valid until the calling thread closes rmid, and not to be freed; NULL on
 *                    failure.
 * @return
 * - XA_OK: given.
 * - XAER_INVAL: out_db is NULL.
 * - XAER_PROTO: the calling thread has not opened rmid.
 *
 * Threads: any number at once. Since: 0.1
 */
KHONSU_XA_API int khonsu_xa_db(int rmid, const khonsu_db **out_db);

/**
 * What the last call of this library in the calling thread, this one excepted, says about its code: the text of the
 * khonsu_error behind it, or the rule that was broken.
 *
 * @return Text that ends with a NUL; "" after a success; never NULL. Borrowed: valid until the thread calls into this
 *         library again.
 *
 * Threads: any number at once; each has its own. Since: 0.1
 */
KHONSU_XA_API const char *khonsu_xa_message(void);

/**
 * Gives the global id under which khonsu keeps a branch, as khonsu_db_recover lists it and khonsu_db_commit_prepared
 * takes it. Different XIDs have different ids.
 *
 * @param[in]  xid               Not NULL.
 * @param[out] out_global_id     Not NULL; room for KHONSU_XA_GLOBAL_ID_MAX_BYTES bytes.
 * @param[out] out_global_id_len Not NULL. The bytes that were written.
 * @return
 * - XA_OK: given.
 * - XAER_INVAL: an argument is NULL, or xid is the null XID or has a length out of range; nothing is written.
 *
 * Threads: any number at once. Since: 0.1
 */
KHONSU_XA_API int khonsu_xa_global_id(const XID *xid, void *out_global_id, size_t *out_global_id_len);

/**
 * Gives the XID that a global id stands for.
 *
 * @param[in]  global_id     Not NULL.
 * @param[in]  global_id_len Bytes of global_id.
 * @param[out] out_xid       Not NULL. The bytes of data that are not used are zero.
 * @return
 * - XA_OK: given.
 * - XAER_INVAL: an argument is NULL; nothing is written.
 * - XAER_NOTA: the id is not that of an XID: the transaction was prepared by other means; nothing is written.
 *
 * Threads: any number at once. Since: 0.1
 */
KHONSU_XA_API int khonsu_xa_xid(const void *global_id, size_t global_id_len, XID *out_xid);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KHONSU_XA_H */
