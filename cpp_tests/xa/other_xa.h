/* The header that a transaction manager brings, as most are written: the definitions of the specification under its
 * guard. For tests of khonsu_xa.h beside it. */
#ifndef XA_H
#define XA_H
#define XIDDATASIZE 128
#define MAXGTRIDSIZE 64
#define MAXBQUALSIZE 64
struct xid_t {
  long formatID, gtrid_length, bqual_length;
  char data[XIDDATASIZE];
};
typedef struct xid_t XID;
#define RMNAMESZ 32
#define MAXINFOSIZE 256
struct xa_switch_t {
  char name[RMNAMESZ];
  long flags, version;
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
#define TMNOFLAGS 0x00000000L
#define XA_OK 0
#define XAER_NOTA -4
#endif
