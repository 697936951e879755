/*
 * khonsu: software transactional memory for Apache Arrow record batches.
 *
 * Keys (byte strings of 1 to KHONSU_KEY_MAX_BYTES bytes, in bytewise order) name values; a value is a list of one or
 * more record batches, its chunks, of one schema. Any number of threads run transactions over many keys at once.
 * Batches go in and come out through the Arrow C data interface, all but small ones without a copy.
 *
 *     khonsu_db *db = NULL;
 *     khonsu_txn *txn = NULL;
 *     khonsu_error *error = NULL;
 *     if (khonsu_db_open(NULL, &db, &error) == KHONSU_STATUS_OK &&
 *         khonsu_db_begin(db, NULL, &txn, &error) == KHONSU_STATUS_OK &&
 *         khonsu_txn_put(txn, "k", 1, &array, &schema, &error) == KHONSU_STATUS_OK &&
 *         khonsu_txn_commit(txn, &error) == KHONSU_STATUS_OK) puts("committed");
 *     else fprintf(stderr, "%s\n", khonsu_error_message(error));
 *     khonsu_error_free(error);
 *     khonsu_txn_free(txn);
 *     khonsu_db_free(db);
 *
 * This file is generated from the Rust sources: change those.
 *
 * Arguments. First the object, then inputs, then outputs, last "khonsu_error **error". Bytes are a pointer and a
 * length, and need no terminating NUL. Enumerations and truth values come in as int32_t, and a number out of range is
 * refused.
 *
 * Errors. A call that can fail returns a khonsu_status. Any such call may return KHONSU_STATUS_PANIC, and versions to
 * come may return statuses that a call does not list today. If error is not NULL, *error is written on every call: an
 * object that the caller owns and frees with khonsu_error_free on failure, NULL on KHONSU_STATUS_OK and
 * KHONSU_STATUS_NOT_FOUND (an object that was there before is not freed). Nothing is kept per thread.
 *
 * Outputs are written on success only, with two exceptions made for cleaning up without conditions: on failure (and on
 * KHONSU_STATUS_NOT_FOUND) an out-parameter that takes a handle is set to NULL, and an Arrow struct that is to be
 * filled gets release = NULL. What they held before is overwritten, not freed: they may be uninitialised.
 *
 * Handles are opaque. Each has one function that frees it, which returns nothing, takes NULL, and cannot fail. Handles
 * may be freed in any order: what a cursor needs of its transaction, and a transaction of its database, lives on with
 * it.
 *
 * Arrow structs (ArrowArray, ArrowSchema, ArrowArrayStream: https://arrow.apache.org/docs/format/CDataInterface.html)
 * are only declared here; bring the definitions of your Arrow library, or copy them from that page. Those passed in
 * are consumed on every return, success or failure, also when another argument is NULL or the transaction has ended:
 * they are moved out first, and their release is NULL afterwards. Small arrays are copied, and released before the
 * call returns. The release callbacks of larger ones run later, when the last version, reader or exported array lets
 * go of the data, on any thread that is inside khonsu or releases an exported array then; they must not block for
 * long. Those given out belong to the caller, who calls release; they stay valid after the transaction and the
 * database are gone, and may be released on any thread. Their buffers may be shared with khonsu and must not be changed.
 * A record batch is a struct array whose children are the columns and which has no nulls of its own.
 *
 * Threads. Each type says its class. "Any number at once": all threads may call at the same time. "Serialized": one
 * thread at a time, and not always the same one. "Immutable": reading needs no care. A call whose object is const may
 * run beside other such calls on that object. Free a handle when no other thread uses it. Begin, read, write and
 * commit take no lock, and never wait for another thread; but in a stored database a commit waits for the disk.
 *
 * What khonsu checks. NULL, lengths and numbers out of range, objects in the wrong state, and every Arrow struct as
 * far as it can be seen: released ones, counts of buffers and children, lengths and offsets, null pointers, unknown
 * formats, nesting, schema and array that do not match; the values themselves with khonsu_options_set_full_validation.
 * All this gives a status.
 *
 * What khonsu cannot check, and the caller answers for: pointers that lead nowhere, or to a handle of another type or
 * to one freed already; freeing a handle twice, or while a call uses it (in a callback; transactions and cursors
 * excepted); buffers shorter than the schema and the length of the array say; buffers changed after they were passed
 * in, or after they were given out; Arrow callbacks and functions of khonsu_db_transact that leave by a C++ exception
 * or longjmp.
 *
 * Running out of memory ends the process (abort): there is no status for it. A panic inside khonsu becomes
 * KHONSU_STATUS_PANIC at the call, but its text and place are printed to stderr as well. The transaction of that call
 * can only be freed then; the database and its other transactions go on.
 *
 * A child process made by fork must not use what its parent made.
 */


#ifndef KHONSU_H
#define KHONSU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ArrowArray;
struct ArrowSchema;
struct ArrowArrayStream;

/** The first number of the version of this header. */
#define KHONSU_VERSION_MAJOR 0

/** The second number of the version of this header. */
#define KHONSU_VERSION_MINOR 1

/** The third number of the version of this header. */
#define KHONSU_VERSION_PATCH 0

/** The version of this header as text. */
#define KHONSU_VERSION_STRING "0.1.0"


/**
 * The longest key, in bytes; the shortest has one.
 */
#define KHONSU_KEY_MAX_BYTES 65536

/**
 * The longest global id, in bytes; the shortest has one. An XID of X/Open fits in, with all of its 128 bytes of data.
 */
#define KHONSU_GLOBAL_ID_MAX_BYTES 144

/**
 * For khonsu_txn_prepare: a database that cannot keep a prepared transaction over its end may vote yes, too.
 */
#define KHONSU_PREPARE_ALLOW_VOLATILE 1

/**
 * For khonsu_txn_prepare: a serializable transaction that wrote nothing holds what it has read, and votes
 * KHONSU_VOTE_YES, where it would vote KHONSU_VOTE_READ_ONLY otherwise. It must not have been begun as read-only
 * (khonsu_txn_options_set_read_only): what such a one reads is not noted, so it votes KHONSU_VOTE_READ_ONLY and holds
 * nothing, like one that has read nothing, and those at lower levels.
 */
#define KHONSU_PREPARE_HOLD_READS 2

/**
 * What a call came to. Zero is success. Numbers are in families (100 may pass on a retry, 200 the caller's doing, 300
 * the outside world's, 900 a defect), are never reused, and later versions may add some: treat an unknown one as a
 * failure.
 *
 * Since: 0.1
 */
enum khonsu_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    KHONSU_STATUS_OK = 0,
    /**
     * There is no such entry. An outcome, not an error: the error out-parameter is NULL.
     */
    KHONSU_STATUS_NOT_FOUND = 1,
    /**
     * Another transaction got in the way; nothing was applied. Rerun the transaction (the only retryable status
     * today).
     */
    KHONSU_STATUS_CONFLICT = 100,
    /**
     * The deadline of khonsu_db_transact passed.
     */
    KHONSU_STATUS_TIMEOUT = 110,
    /**
     * For functions given to khonsu_db_transact that want to give up; khonsu itself does not return it.
     */
    KHONSU_STATUS_CANCELLED = 111,
    /**
     * Another call is deciding about the same prepared transaction. Nothing has changed by this one; call again.
     */
    KHONSU_STATUS_BUSY = 120,
    /**
     * An argument is wrong: NULL where it must not be, a number out of range, a malformed Arrow array.
     */
    KHONSU_STATUS_INVALID_ARGUMENT = 200,
    /**
     * The object is in no state for this call: an ended transaction, a write in a read-only one, a cursor that is on
     * no entry.
     */
    KHONSU_STATUS_INVALID_STATE = 201,
    /**
     * Two schemas that must be equal differ.
     */
    KHONSU_STATUS_SCHEMA_MISMATCH = 202,
    /**
     * A limit on bytes would be passed.
     */
    KHONSU_STATUS_LIMIT_EXCEEDED = 203,
    /**
     * The global id is that of another prepared transaction, which is in doubt, or remembered as finished.
     */
    KHONSU_STATUS_DUPLICATE = 204,
    /**
     * The prepared transaction was decided otherwise before; khonsu_error_decision says how.
     */
    KHONSU_STATUS_ALREADY_DECIDED = 205,
    /**
     * An operator has decided about the prepared transaction before; khonsu_error_decision says how.
     */
    KHONSU_STATUS_HEURISTIC = 206,
    /**
     * Input or output failed.
     */
    KHONSU_STATUS_STORAGE = 300,
    /**
     * Stored data are damaged.
     */
    KHONSU_STATUS_CORRUPTION = 301,
    /**
     * The stored database is open already, in this process or another one.
     */
    KHONSU_STATUS_LOCKED = 302,
    /**
     * The database cannot keep a prepared transaction over its end.
     */
    KHONSU_STATUS_NOT_DURABLE = 303,
    /**
     * A defect in khonsu: it panicked, and the panic stopped at this call. Please report it.
     */
    KHONSU_STATUS_PANIC = 900,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_status khonsu_status;
#else
typedef int32_t khonsu_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a transaction sees of others, and what it is protected from.
 *
 * Since: 0.1
 */
enum khonsu_isolation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Each call sees the newest commit, whole, and never an older one than the call before.
     */
    KHONSU_ISOLATION_READ_COMMITTED = 1,
    /**
     * All calls see the one snapshot taken when the transaction began (snapshot isolation).
     */
    KHONSU_ISOLATION_REPEATABLE_READ = 2,
    /**
     * One snapshot, certified at commit: the outcome is that of some order of whole transactions, and the order
     * respects real time. The default.
     */
    KHONSU_ISOLATION_SERIALIZABLE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_isolation khonsu_isolation;
#else
typedef int32_t khonsu_isolation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What becomes of a write whose key another transaction committed meanwhile. A serializable transaction that has read
 * the key fails under all of them: anything else would lose an update.
 *
 * Since: 0.1
 */
enum khonsu_conflict_resolution
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The commit fails with KHONSU_STATUS_CONFLICT, and nothing is applied. The default.
     */
    KHONSU_CONFLICT_RESOLUTION_FAIL = 1,
    /**
     * The write is dropped, the committed value stays, the rest commits.
     */
    KHONSU_CONFLICT_RESOLUTION_IGNORE = 2,
    /**
     * The write becomes the newest version all the same.
     */
    KHONSU_CONFLICT_RESOLUTION_REPLACE = 3,
    /**
     * The rows go after the rows of the newest committed value, whose schema must be the same. A delete fails as with
     * KHONSU_CONFLICT_RESOLUTION_FAIL.
     */
    KHONSU_CONFLICT_RESOLUTION_APPEND = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_conflict_resolution khonsu_conflict_resolution;
#else
typedef int32_t khonsu_conflict_resolution;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What another transaction did that this one could not be ordered with.
 *
 * Since: 0.1
 */
enum khonsu_conflict_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It committed a key that this transaction writes, since this one last read the key, or, unread, since this one
     * began.
     */
    KHONSU_CONFLICT_KIND_WRITE_WRITE = 1,
    /**
     * It overwrote a key that this transaction read.
     */
    KHONSU_CONFLICT_KIND_READ_WRITE = 2,
    /**
     * It changed a range that this transaction scanned, or a key that this one found absent.
     */
    KHONSU_CONFLICT_KIND_PHANTOM = 3,
    /**
     * It holds the key: in doubt between the two phases of its commit (the global id says which), or with a
     * reservation after many conflicts.
     */
    KHONSU_CONFLICT_KIND_PREPARED = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_conflict_kind khonsu_conflict_kind;
#else
typedef int32_t khonsu_conflict_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which way a scan goes.
 *
 * Since: 0.1
 */
enum khonsu_direction
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * From the lowest key to the highest.
     */
    KHONSU_DIRECTION_FORWARD = 0,
    /**
     * From the highest key to the lowest.
     */
    KHONSU_DIRECTION_REVERSE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_direction khonsu_direction;
#else
typedef int32_t khonsu_direction;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a commit has survived when it returns, where the database is stored. Whatever is asked for, what a crash leaves
 * is what some first commits came to: none is missing before one that is there.
 *
 * Since: 0.1
 */
enum khonsu_durability
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing yet: it is on its way.
     */
    KHONSU_DURABILITY_NONE = 1,
    /**
     * The end of the process: the operating system has it.
     */
    KHONSU_DURABILITY_BUFFERED = 2,
    /**
     * The loss of power: it is on the disk. The default.
     */
    KHONSU_DURABILITY_SYNCED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_durability khonsu_durability;
#else
typedef int32_t khonsu_durability;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a database says when it is asked to prepare a transaction; "no" is a failure of the call.
 *
 * Since: 0.1
 */
enum khonsu_vote
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The transaction is prepared: it will commit if it is told to.
     */
    KHONSU_VOTE_YES = 1,
    /**
     * It has written nothing and has ended: it is not to be decided.
     */
    KHONSU_VOTE_READ_ONLY = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_vote khonsu_vote;
#else
typedef int32_t khonsu_vote;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What becomes of a prepared transaction.
 *
 * Since: 0.1
 */
enum khonsu_decision
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Its writes become visible.
     */
    KHONSU_DECISION_COMMIT = 1,
    /**
     * Its writes are dropped.
     */
    KHONSU_DECISION_ROLLBACK = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_decision khonsu_decision;
#else
typedef int32_t khonsu_decision;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Where a transaction stands that khonsu_db_recover lists.
 *
 * Since: 0.1
 */
enum khonsu_prepared_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * In doubt: prepared and not decided.
     */
    KHONSU_PREPARED_STATE_PREPARED = 1,
    /**
     * Committed by khonsu_db_decide_heuristically, and not forgotten.
     */
    KHONSU_PREPARED_STATE_HEURISTIC_COMMIT = 2,
    /**
     * Rolled back by khonsu_db_decide_heuristically, and not forgotten.
     */
    KHONSU_PREPARED_STATE_HEURISTIC_ROLLBACK = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_prepared_state khonsu_prepared_state;
#else
typedef int32_t khonsu_prepared_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a mutation does to its key.
 *
 * Since: 0.1
 */
enum khonsu_mutation_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The chunks are the key's value.
     */
    KHONSU_MUTATION_KIND_PUT = 1,
    /**
     * The chunks go after those that the key has; where it has none, they are its value.
     */
    KHONSU_MUTATION_KIND_APPEND = 2,
    /**
     * The key has no value any more. It may have had none before.
     */
    KHONSU_MUTATION_KIND_DELETE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_mutation_kind khonsu_mutation_kind;
#else
typedef int32_t khonsu_mutation_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The two forms that Arrow IPC has.
 *
 * Since: 0.1
 */
enum khonsu_ipc_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The file format, with a footer that gives access to any batch; also known as Feather version 2.
     */
    KHONSU_IPC_FORMAT_FILE = 1,
    /**
     * The stream format, to be read from front to back.
     */
    KHONSU_IPC_FORMAT_STREAM = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_ipc_format khonsu_ipc_format;
#else
typedef int32_t khonsu_ipc_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How the buffers of an Arrow IPC file are compressed.
 *
 * Since: 0.1
 */
enum khonsu_ipc_compression
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Not at all.
     */
    KHONSU_IPC_COMPRESSION_NONE = 0,
    /**
     * LZ4 frames: fast.
     */
    KHONSU_IPC_COMPRESSION_LZ4 = 1,
    /**
     * Zstandard: smaller.
     */
    KHONSU_IPC_COMPRESSION_ZSTD = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum khonsu_ipc_compression khonsu_ipc_compression;
#else
typedef int32_t khonsu_ipc_compression;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A position in a scan of a transaction: made by khonsu_txn_scan and khonsu_txn_scan_prefix, freed by
 * khonsu_cursor_free. It is before the first entry, on an entry, or past the last. It may be freed before or after its
 * transaction; when that has ended, its calls fail with KHONSU_STATUS_INVALID_STATE.
 *
 * Threads: serialized, together with its transaction and the other cursors of that one. Since: 0.1
 */
typedef struct khonsu_cursor khonsu_cursor;

/**
 * A database: keys in order, each with a value of Arrow record batches. Made by khonsu_db_open, freed by
 * khonsu_db_free; open transactions keep what they need of it.
 *
 * Threads: all at once, in every call but khonsu_db_free. Since: 0.1
 */
typedef struct khonsu_db khonsu_db;

/**
 * What a failed call tells beyond its status: a message, and for conflicts what got in the way.
 *
 * A call that takes "khonsu_error **error" writes it always: an object that the caller owns when it fails, NULL when
 * it returns KHONSU_STATUS_OK or KHONSU_STATUS_NOT_FOUND. Pass NULL for error to go without. Free it with
 * khonsu_error_free.
 *
 * Threads: immutable; any number of threads may read it at once. Since: 0.1
 */
typedef struct khonsu_error khonsu_error;

/**
 * A key of a database that is looked up once, however often it is read and written: for keys that a program uses again
 * and again, as it uses a variable. Made by khonsu_key_bind, freed by khonsu_key_free; used by the calls whose names end
 * in _bound, in transactions of that database.
 *
 * It is a name and no more: the key need not exist, may be deleted and come back meanwhile, and may be used by its
 * bytes beside. It keeps the memory of the database, but does not keep a stored one open.
 *
 * Threads: any number at once. Since: 0.1
 */
typedef struct khonsu_key khonsu_key;

/**
 * What a storage of callbacks had stored on its way into the database: lent to its load callback, valid until that one
 * returns.
 *
 * Threads: serialized. Since: 0.1
 */
typedef struct khonsu_loader khonsu_loader;

/**
 * A commit that a storage of callbacks has to store: lent to its apply callback, valid until that one returns.
 *
 * Threads: immutable; any number of threads may read it at once. Since: 0.1
 */
typedef struct khonsu_mutations khonsu_mutations;

/**
 * How a database is opened: made by khonsu_options_new, freed by khonsu_options_free. khonsu_db_open copies it.
 *
 * Threads: serialized, that is one thread at a time, any thread; several may give it to khonsu_db_open at once while
 * nobody sets anything. Since: 0.1
 */
typedef struct khonsu_options khonsu_options;

/**
 * The prepared transactions of a database, as they were when khonsu_db_recover made the list; freed by
 * khonsu_prepared_list_free. It may outlive its database.
 *
 * Threads: immutable; any number of threads may read it at once. Since: 0.1
 */
typedef struct khonsu_prepared_list khonsu_prepared_list;

/**
 * A schema, checked once and used often: it spares each put and get the import and export of one. Made by
 * khonsu_schema_import, freed by khonsu_schema_free; values put with it keep what they need.
 *
 * Threads: immutable; any number of threads may use it at once. Since: 0.1
 */
typedef struct khonsu_schema khonsu_schema;

/**
 * A transaction: made by khonsu_db_begin, freed by khonsu_txn_free. It reads one consistent state (but for read
 * committed, where each call reads the newest), sees its own writes, and shows them to others only by its commit, all
 * at once. Commit and rollback end it, and do not free it; calls on an ended one fail with
 * KHONSU_STATUS_INVALID_STATE.
 *
 * Threads: serialized, together with its cursors: one thread at a time, any thread. Overlapping use, also by a
 * callback that a call on it makes (release of an Arrow struct, get_next of a stream), fails with
 * KHONSU_STATUS_INVALID_STATE. Since: 0.1
 */
typedef struct khonsu_txn khonsu_txn;

/**
 * How a transaction is begun, and how khonsu_db_transact reruns it: made by khonsu_txn_options_new, freed by
 * khonsu_txn_options_free. khonsu_db_begin and khonsu_db_transact copy it.
 *
 * Threads: serialized, that is one thread at a time, any thread; several may begin transactions with it at once while
 * nobody sets anything. Since: 0.1
 */
typedef struct khonsu_txn_options khonsu_txn_options;

/**
 * One conflict, as khonsu_error_conflict writes it. Its pointers are borrowed from the error object.
 *
 * Later versions may add fields at the end; the size given to khonsu_error_conflict says which ones the caller knows.
 *
 * Since: 0.1
 */
typedef struct khonsu_conflict {
    /**
     * A khonsu_conflict_kind.
     */
    int32_t kind;
    /**
     * 1: the key lies in a range that this transaction scanned, and the range fields say which; 0: they are NULL and
     * 0.
     */
    int32_t has_range;
    /**
     * The key that the other transaction changed; not terminated by a NUL. Valid until the error is freed.
     */
    const void *key;
    /**
     * Bytes of key.
     */
    size_t key_len;
    /**
     * The first key of the range, itself in it; NULL: it starts at the first key of all. Valid until the error is
     * freed.
     */
    const void *range_start;
    /**
     * Bytes of range_start.
     */
    size_t range_start_len;
    /**
     * The key that the range ends before; NULL: it goes to the last key of all. Valid until the error is freed.
     */
    const void *range_end;
    /**
     * Bytes of range_end.
     */
    size_t range_end_len;
    /**
     * The commit version of the other transaction; 0 when it is unknown.
     */
    uint64_t version;
    /**
     * For KHONSU_CONFLICT_KIND_PREPARED, the global id of the transaction in doubt that holds the key; not terminated
     * by a NUL. NULL where there is none. Valid until the error is freed.
     */
    const void *global_id;
    /**
     * Bytes of global_id.
     */
    size_t global_id_len;
} khonsu_conflict;

/**
 * A function that khonsu_db_open calls now and then, in its own thread, while it reads a stored database. It must
 * return: no C++ exception, no longjmp may leave it.
 *
 * @param[in] context     What khonsu_options_set_open_progress was given.
 * @param[in] done_bytes  Bytes that were read.
 * @param[in] total_bytes Bytes that are to be read in all.
 *
 * Since: 0.1
 */
typedef void (*khonsu_progress_fn)(void *context, uint64_t done_bytes, uint64_t total_bytes);

/**
 * Passes everything that is stored to the loader, by khonsu_loader_put. Called once, by khonsu_db_open in its own
 * thread, before all the others.
 *
 * @param[in]  context      That of the khonsu_storage_callbacks.
 * @param[in]  loader       Takes the keys; valid until the function returns.
 * @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
 * @param[in]  message_size Bytes of message.
 * @return A khonsu_status; KHONSU_STATUS_OK when all is loaded. Then a call on the loader that failed makes the
 *         opening fail with KHONSU_STATUS_CORRUPTION all the same.
 *
 * Since: 0.1
 */
typedef int32_t (*khonsu_storage_load_fn)(void *context,
                                          struct khonsu_loader *loader,
                                          char *message,
                                          size_t message_size);

/**
 * Stores one commit, whole or not at all. Commits come in ascending order of their versions, one call at a time, in
 * the thread of any call that commits, not only of the commit in question.
 *
 * @param[in]  context      That of the khonsu_storage_callbacks.
 * @param[in]  mutations    The commit; valid until the function returns. No key is in it twice.
 * @param[in]  durability   A khonsu_durability: what this commit, and all before it, must survive on return.
 * @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
 * @param[in]  message_size Bytes of message.
 * @return A khonsu_status; KHONSU_STATUS_OK when it is stored. On anything else the commit must not come back when
 *         the storage is loaded again: its transaction fails, and those that wrote on top of it.
 *
 * Since: 0.1
 */
typedef int32_t (*khonsu_storage_apply_fn)(void *context,
                                           const struct khonsu_mutations *mutations,
                                           int32_t durability,
                                           char *message,
                                           size_t message_size);

/**
 * The other calls of a storage: sync, checkpoint and close.
 *
 * @param[in]  context      That of the khonsu_storage_callbacks.
 * @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
 * @param[in]  message_size Bytes of message.
 * @return A khonsu_status; KHONSU_STATUS_OK when it is done.
 *
 * Since: 0.1
 */
typedef int32_t (*khonsu_storage_call_fn)(void *context, char *message, size_t message_size);

/**
 * Frees what the storage has.
 *
 * @param[in] context That of the khonsu_storage_callbacks; it is not used by khonsu any more.
 *
 * Since: 0.1
 */
typedef void (*khonsu_storage_destroy_fn)(void *context);

/**
 * A storage of the caller's own, for khonsu_options_set_storage.
 *
 * Failures. A callback that returns KHONSU_STATUS_CORRUPTION or KHONSU_STATUS_LOCKED makes the call that it serves
 * fail with that status; every other number but KHONSU_STATUS_OK, one that is no khonsu_status included, with
 * KHONSU_STATUS_STORAGE. The message becomes part of the khonsu_error.
 *
 * Limits. A callback may begin transactions of its database, and read in them; what it must not do is commit writes
 * to it, sync it or make a checkpoint of it: such a call in the thread of the callback fails with
 * KHONSU_STATUS_INVALID_STATE; a callback that waits for another thread that does it waits for ever. It must return:
 * no C++ exception, no longjmp may leave it.
 *
 * Later versions may add fields at the end; size says which ones the caller knows.
 *
 * Since: 0.1
 */
typedef struct khonsu_storage_callbacks {
    /**
     * sizeof(khonsu_storage_callbacks) as the caller knows it. What lies behind the fields that khonsu knows must be
     * zero.
     */
    size_t size;
    /**
     * Handed to each callback as it is; may be NULL. Callbacks come from different threads.
     */
    void *context;
    /**
     * Not NULL.
     */
    khonsu_storage_load_fn load;
    /**
     * Not NULL.
     */
    khonsu_storage_apply_fn apply;
    /**
     * Not NULL. Makes all commits that were applied as durable as KHONSU_DURABILITY_SYNCED demands. Called by
     * khonsu_db_sync, and before close; never beside apply.
     */
    khonsu_storage_call_fn sync;
    /**
     * NULL: there is nothing to do. Called by khonsu_db_checkpoint, for the storage to tidy up what has grown with the
     * number of commits; it may run beside apply and sync, and nothing may be lost when it fails.
     */
    khonsu_storage_call_fn checkpoint;
    /**
     * NULL: there is nothing to do. The last call before destroy, when the database and its last transaction and
     * cursor are gone, in the thread of whoever freed that; not called after load failed. Its failure is told to
     * nobody.
     */
    khonsu_storage_call_fn close;
    /**
     * NULL: there is nothing to do. Called exactly once after khonsu_options_set_storage has succeeded: after close,
     * or when the opening failed, or when the storage was replaced or the options freed before a database was opened.
     */
    khonsu_storage_destroy_fn destroy;
} khonsu_storage_callbacks;

/**
 * One key of a commit, as khonsu_mutations_get writes it. Its pointer is borrowed.
 *
 * Later versions may add fields at the end; the size given to khonsu_mutations_get says which ones the caller knows.
 *
 * Since: 0.1
 */
typedef struct khonsu_mutation {
    /**
     * A khonsu_mutation_kind.
     */
    int32_t kind;
    /**
     * The key; not terminated by a NUL. Valid until the apply callback returns.
     */
    const void *key;
    /**
     * Bytes of key.
     */
    size_t key_len;
} khonsu_mutation;

/**
 * A function that khonsu_db_transact runs in a transaction, perhaps several times.
 *
 * It returns a khonsu_status: KHONSU_STATUS_OK to commit; KHONSU_STATUS_CONFLICT to be run again in a new transaction;
 * anything else to roll back. It must not end the transaction: khonsu_txn_commit and khonsu_txn_rollback fail in it
 * with KHONSU_STATUS_INVALID_STATE, khonsu_txn_free does nothing. It must return: no C++ exception, no longjmp may
 * leave it.
 *
 * @param[in] txn     The transaction; valid until the function returns, and not to be kept.
 * @param[in] context What khonsu_db_transact was given.
 *
 * Since: 0.1
 */
typedef int32_t (*khonsu_transact_fn)(struct khonsu_txn *txn, void *context);

/**
 * Counters of a database, as khonsu_db_stats writes them. They are read one after the other, while transactions run.
 *
 * Later versions may add fields at the end; the size given to khonsu_db_stats says which ones the caller knows.
 *
 * Since: 0.1
 */
typedef struct khonsu_stats {
    /**
     * Keys that are held; deleted ones count until they are reclaimed.
     */
    uint64_t keys;
    /**
     * Versions of all keys, deletes included.
     */
    uint64_t versions;
    /**
     * Bytes of the batches that the versions hold, those that are in storage alone included.
     */
    uint64_t live_bytes;
    /**
     * Bytes that exported arrays which are not released yet hold, in the whole process: those of other databases, and
     * of versions that are still current, included.
     */
    uint64_t pinned_bytes;
    /**
     * Transactions, and cursors at read committed, that hold a snapshot.
     */
    uint64_t active_transactions;
    /**
     * The version of the oldest snapshot in use; that of the newest commit when there is none.
     */
    uint64_t oldest_snapshot;
    /**
     * The version of the newest commit; 0 before the first.
     */
    uint64_t version;
    /**
     * Transactions committed since the database was opened.
     */
    uint64_t commits;
    /**
     * Transactions rolled back, or failed for another reason than a conflict, since the database was opened.
     */
    uint64_t rollbacks;
    /**
     * Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_WRITE_WRITE.
     */
    uint64_t conflicts_write_write;
    /**
     * Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_READ_WRITE.
     */
    uint64_t conflicts_read_write;
    /**
     * Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_PHANTOM.
     */
    uint64_t conflicts_phantom;
    /**
     * Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_PREPARED.
     */
    uint64_t conflicts_prepared;
    /**
     * Runs of a function by khonsu_db_transact after the first of its call.
     */
    uint64_t retries;
    /**
     * Bytes of values in memory, with a memory budget; else live_bytes.
     */
    uint64_t resident_bytes;
    /**
     * Bytes that the values which are in storage alone would take in memory; an estimate for those that were not in
     * memory since the database was opened. 0 without a memory budget.
     */
    uint64_t cold_bytes;
    /**
     * Values that were read from storage since the database was opened because they were not in memory.
     */
    uint64_t cold_reads;
    /**
     * Prepared transactions in doubt.
     */
    uint64_t prepared_transactions;
    /**
     * Bytes of the keys that those in doubt are going to write, and of what they write there. They count for the limit
     * of khonsu_options_set_max_total_bytes.
     */
    uint64_t prepared_bytes;
    /**
     * Microseconds since the oldest of those in doubt was prepared; 0 where there is none.
     */
    uint64_t oldest_prepared_micros;
    /**
     * Outcomes of prepared transactions that are remembered.
     */
    uint64_t remembered_outcomes;
} khonsu_stats;

/**
 * A transaction of a khonsu_prepared_list, as khonsu_prepared_list_get writes it. Its pointer is borrowed from the
 * list.
 *
 * Later versions may add fields at the end; the size given to khonsu_prepared_list_get says which ones the caller
 * knows.
 *
 * Since: 0.1
 */
typedef struct khonsu_prepared_info {
    /**
     * Its global id; not terminated by a NUL. Valid until the list is freed.
     */
    const void *global_id;
    /**
     * Bytes of global_id.
     */
    size_t global_id_len;
    /**
     * When it was prepared, in microseconds since 1970 UTC, by the clock of the machine. Of one that was decided
     * heuristically before the database was opened last, when it was decided.
     */
    int64_t time_micros;
    /**
     * A khonsu_prepared_state.
     */
    int32_t state;
    /**
     * 0.
     */
    int32_t reserved;
    /**
     * How many keys it writes, or would have written. 0 of one that was decided heuristically before the database was
     * opened last.
     */
    uint64_t written_keys;
    /**
     * The bytes of these keys and of what it writes there; 0 in the same case.
     */
    uint64_t bytes;
} khonsu_prepared_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs, as text ("0.1.0").
 *
 * Compare it with KHONSU_VERSION_STRING, the version of the header that the program was compiled with.
 *
 * @return A string that lives as long as the process; never NULL.
 *
 * Threads: any. Since: 0.1
 */
const char *khonsu_version(void);

/**
 * The name of a status: "OK", "CONFLICT", and so on, the constant's name without KHONSU_STATUS_.
 *
 * @param[in] status Any number.
 * @return A string that lives as long as the process; "UNKNOWN" for a number that is no status; never NULL.
 *
 * Threads: any. Since: 0.1
 */
const char *khonsu_status_name(int32_t status);

/**
 * Whether rerunning the whole transaction may succeed where this status came up.
 *
 * @param[in] status Any number.
 * @return true for KHONSU_STATUS_CONFLICT, false for all others and for a number that is no status.
 *
 * Threads: any. Since: 0.1
 */
bool khonsu_status_is_retryable(int32_t status);

/**
 * The status that the failed call returned.
 *
 * @param[in] error NULL for no error.
 * @return The status; KHONSU_STATUS_OK for NULL.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_error_status(const struct khonsu_error *error);

/**
 * What happened, for people to read: English, UTF-8, without a final full stop or newline. Its wording may change.
 *
 * @param[in] error NULL for no error.
 * @return A string that is valid until the error is freed; "" for NULL; never NULL.
 *
 * Threads: any number at once. Since: 0.1
 */
const char *khonsu_error_message(const struct khonsu_error *error);

/**
 * How many conflicts the error reports.
 *
 * @param[in] error NULL for no error.
 * @return Their number: 0 for NULL, for every status but KHONSU_STATUS_CONFLICT, and for a KHONSU_STATUS_CONFLICT that
 *         came from a function given to khonsu_db_transact.
 *
 * Threads: any number at once. Since: 0.1
 */
size_t khonsu_error_conflict_count(const struct khonsu_error *error);

/**
 * Writes one of the conflicts that the error reports.
 *
 * @param[in]  error    Not NULL.
 * @param[in]  index    From 0 to before khonsu_error_conflict_count.
 * @param[out] out      Not NULL. The first out_size bytes of a khonsu_conflict are written, no more than its size.
 *                      What its pointers point to is borrowed, and valid until the error is freed.
 * @param[in]  out_size sizeof(khonsu_conflict) as the caller knows it; not 0.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: error or out is NULL, out_size is 0, or there is no such index; out is not
 *   written.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_error_conflict(const struct khonsu_error *error,
                                    size_t index,
                                    struct khonsu_conflict *out,
                                    size_t out_size);

/**
 * How the prepared transaction was decided that a KHONSU_STATUS_ALREADY_DECIDED or KHONSU_STATUS_HEURISTIC tells of.
 *
 * @param[in] error NULL for no error.
 * @return A khonsu_decision; 0 for NULL and for every other status.
 *
 * Threads: any number at once. Since: 0.1
 */
int32_t khonsu_error_decision(const struct khonsu_error *error);

/**
 * Frees an error object, and with it its message and what its conflicts point to.
 *
 * @param[in] error Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses it. Since: 0.1
 */
void khonsu_error_free(struct khonsu_error *error);

/**
 * Makes options that hold the defaults.
 *
 * @return The options, owned by the caller: free them with khonsu_options_free. NULL only after a defect in khonsu.
 *
 * Threads: any. Since: 0.1
 */
struct khonsu_options *khonsu_options_new(void);

/**
 * Sets the isolation of transactions that do not choose their own; serializable by default.
 *
 * @param[in]  options   Not NULL.
 * @param[in]  isolation A khonsu_isolation.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or isolation is no khonsu_isolation.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_isolation(struct khonsu_options *options,
                                           int32_t isolation,
                                           struct khonsu_error **error);

/**
 * Sets the conflict resolution of transactions that do not choose their own; fail by default.
 *
 * @param[in]  options             Not NULL.
 * @param[in]  conflict_resolution A khonsu_conflict_resolution.
 * @param[out] error               May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or conflict_resolution is no khonsu_conflict_resolution.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_conflict_resolution(struct khonsu_options *options,
                                                     int32_t conflict_resolution,
                                                     struct khonsu_error **error);

/**
 * Sets the most bytes that a transaction may have staged, unless it chooses its own limit; no limit by default.
 *
 * @param[in]  options Not NULL.
 * @param[in]  bytes   The limit; 0: none.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_max_transaction_bytes(struct khonsu_options *options,
                                                       uint64_t bytes,
                                                       struct khonsu_error **error);

/**
 * Sets the most bytes that all versions of the database together may hold in memory before writes are refused; no limit
 * by default.
 *
 * @param[in]  options Not NULL.
 * @param[in]  bytes   The limit; 0: none.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_max_total_bytes(struct khonsu_options *options,
                                                 uint64_t bytes,
                                                 struct khonsu_error **error);

/**
 * Sets whether every value of every imported array is checked (UTF-8, every offset, every dictionary key), which costs
 * time in proportion to the data. Off by default: then only the structure is checked, in time independent of the
 * number of rows.
 *
 * @param[in]  options Not NULL.
 * @param[in]  enabled 1: on; 0: off.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or enabled is neither 0 nor 1.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_full_validation(struct khonsu_options *options,
                                                 int32_t enabled,
                                                 struct khonsu_error **error);

/**
 * Sets where the database is stored: in a directory, which khonsu_db_open makes where there is none. One database uses
 * it at a time. In memory by default.
 *
 * @param[in]  options Not NULL.
 * @param[in]  path    The path of the directory as the operating system has it, UTF-8 or not; copied. NULL or "": in
 *                     memory.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_path(struct khonsu_options *options, const char *path, struct khonsu_error **error);

/**
 * Sets the durability of transactions that do not choose their own, where the database is stored; synced by default.
 *
 * @param[in]  options    Not NULL.
 * @param[in]  durability A khonsu_durability.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or durability is no khonsu_durability.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_durability(struct khonsu_options *options,
                                            int32_t durability,
                                            struct khonsu_error **error);

/**
 * Sets a function that is told how far khonsu_db_open is with a database that is stored at a path. None by default.
 *
 * @param[in]  options Not NULL.
 * @param[in]  fn      NULL: none.
 * @param[in]  context Handed to fn as it is; may be NULL.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_open_progress(struct khonsu_options *options,
                                               khonsu_progress_fn fn,
                                               void *context,
                                               struct khonsu_error **error);

/**
 * Sets how many bytes of memory the values of a database that is stored at a path take, beyond which those that were
 * not read lately are pushed out, and read back from the files of a checkpoint when somebody asks for them. No budget by
 * default: all values are in memory.
 *
 * Keys stay in memory, and so do values that are in no checkpoint yet; when these take more than the budget (and more
 * than 16 MiB), a checkpoint is made. Values of more than a quarter of the budget do not stay in memory when they were
 * read. A call that reads a value may then fail with KHONSU_STATUS_STORAGE or KHONSU_STATUS_CORRUPTION; the transaction
 * can go on. khonsu_db_open fails when there is a budget and no path.
 *
 * @param[in]  options Not NULL.
 * @param[in]  bytes   The budget; 0: none.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_memory_budget(struct khonsu_options *options,
                                               uint64_t bytes,
                                               struct khonsu_error **error);

/**
 * Sets a storage of the caller's own for the database. It belongs to khonsu once this has succeeded: khonsu calls
 * destroy, exactly once. It serves one database: the first khonsu_db_open with these options takes it, and another one
 * fails until a storage is set again.
 *
 * @param[in]  options   Not NULL. A storage that was set before and not taken is destroyed.
 * @param[in]  callbacks Borrowed for the call, and copied. NULL: none.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL; or of callbacks, load, apply or sync is NULL, size is less than
 *   that of the struct in khonsu 0.1, or what lies behind the fields that khonsu knows is not zero. The storage is
 *   still the caller's.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_options_set_storage(struct khonsu_options *options,
                                         const struct khonsu_storage_callbacks *callbacks,
                                         struct khonsu_error **error);

/**
 * Frees options. Databases opened with them are not affected.
 *
 * @param[in] options Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses them. Since: 0.1
 */
void khonsu_options_free(struct khonsu_options *options);

/**
 * Makes transaction options that hold the defaults.
 *
 * @return The options, owned by the caller: free them with khonsu_txn_options_free. NULL only after a defect in
 *         khonsu.
 *
 * Threads: any. Since: 0.1
 */
struct khonsu_txn_options *khonsu_txn_options_new(void);

/**
 * Sets the isolation of the transaction; the database's by default.
 *
 * @param[in]  options   Not NULL.
 * @param[in]  isolation A khonsu_isolation.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or isolation is no khonsu_isolation.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_isolation(struct khonsu_txn_options *options,
                                               int32_t isolation,
                                               struct khonsu_error **error);

/**
 * Sets the conflict resolution of the transaction's writes; the database's by default.
 *
 * @param[in]  options             Not NULL.
 * @param[in]  conflict_resolution A khonsu_conflict_resolution.
 * @param[out] error               May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or conflict_resolution is no khonsu_conflict_resolution.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_conflict_resolution(struct khonsu_txn_options *options,
                                                         int32_t conflict_resolution,
                                                         struct khonsu_error **error);

/**
 * Sets the durability of the transaction's commit, where the database is stored; the database's by default.
 *
 * @param[in]  options    Not NULL.
 * @param[in]  durability A khonsu_durability.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or durability is no khonsu_durability.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_durability(struct khonsu_txn_options *options,
                                                int32_t durability,
                                                struct khonsu_error **error);

/**
 * Sets whether the transaction only reads; it does not by default. A read-only transaction never fails to commit,
 * keeps no track of what it reads, and makes no writer fail whose reads are all up to date. For long reads at
 * serializable: a transaction that wrote nothing and was not declared so is certified at commit like others, seldom to
 * fail, and is kinder to writers that have read what was overwritten since.
 *
 * @param[in]  options   Not NULL.
 * @param[in]  read_only 1: writes are refused; 0: they are not.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or read_only is neither 0 nor 1.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_read_only(struct khonsu_txn_options *options,
                                               int32_t read_only,
                                               struct khonsu_error **error);

/**
 * Sets the most bytes that the transaction may have staged.
 *
 * @param[in]  options Not NULL.
 * @param[in]  bytes   The limit; 0, the default: that of the database.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_max_bytes(struct khonsu_txn_options *options,
                                               uint64_t bytes,
                                               struct khonsu_error **error);

/**
 * Sets how often khonsu_db_transact runs its function at most; khonsu_db_begin does not heed it.
 *
 * @param[in]  options  Not NULL.
 * @param[in]  attempts The number of runs, the first included; 0, the default: no limit.
 * @param[out] error    May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_max_attempts(struct khonsu_txn_options *options,
                                                  uint32_t attempts,
                                                  struct khonsu_error **error);

/**
 * Sets the time after which khonsu_db_transact reruns its function no more; khonsu_db_begin does not heed it. A run in
 * progress is not interrupted.
 *
 * @param[in]  options      Not NULL.
 * @param[in]  milliseconds Counted from the call of khonsu_db_transact; 0, the default: no deadline.
 * @param[out] error        May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_timeout_ms(struct khonsu_txn_options *options,
                                                uint64_t milliseconds,
                                                struct khonsu_error **error);

/**
 * Sets how long khonsu_db_transact waits between two runs: a random time, at most initial after the first conflict,
 * doubled with each further one up to maximum. khonsu_db_begin does not heed it.
 *
 * @param[in]  options Not NULL.
 * @param[in]  initial Microseconds; 10 by default.
 * @param[in]  maximum Microseconds, not less than initial; 10,000 by default.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or maximum is less than initial.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_options_set_backoff_us(struct khonsu_txn_options *options,
                                                uint64_t initial,
                                                uint64_t maximum,
                                                struct khonsu_error **error);

/**
 * Frees transaction options. Transactions begun with them are not affected.
 *
 * @param[in] options Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses them. Since: 0.1
 */
void khonsu_txn_options_free(struct khonsu_txn_options *options);

/**
 * The version of the commit: its place in the order of commits. Versions ascend, but not one by one.
 *
 * @param[in] mutations Not NULL.
 * @return The version; 0 for NULL.
 *
 * Threads: any number at once. Since: 0.1
 */
uint64_t khonsu_mutations_version(const struct khonsu_mutations *mutations);

/**
 * How many keys the commit changes.
 *
 * @param[in] mutations Not NULL.
 * @return Their number; 0 for NULL.
 *
 * Threads: any number at once. Since: 0.1
 */
size_t khonsu_mutations_count(const struct khonsu_mutations *mutations);

/**
 * Tells what the commit does to one of its keys.
 *
 * @param[in]  mutations Not NULL.
 * @param[in]  index     From 0 to before khonsu_mutations_count.
 * @param[out] out       Not NULL. The first out_size bytes of a khonsu_mutation are written, no more than its size.
 *                       What its pointer points to is borrowed, and valid until the apply callback returns.
 * @param[in]  out_size  sizeof(khonsu_mutation) as the caller knows it; not 0.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: mutations or out is NULL, out_size is 0, or there is no such index.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure out is not written. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_mutations_get(const struct khonsu_mutations *mutations,
                                   size_t index,
                                   struct khonsu_mutation *out,
                                   size_t out_size,
                                   struct khonsu_error **error);

/**
 * Gives the rows that a mutation puts or appends, as a stream of record batches: at least one, all of one schema.
 *
 * @param[in]  mutations  Not NULL.
 * @param[in]  index      From 0 to before khonsu_mutations_count.
 * @param[out] out_chunks Not NULL. The stream, owned by the caller, who may keep it after the apply callback has
 *                        returned. Its release is NULL on failure. Each call gives another one.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: given.
 * - KHONSU_STATUS_NOT_FOUND: the mutation is a delete, which has no rows.
 * - KHONSU_STATUS_INVALID_ARGUMENT: mutations or out_chunks is NULL, or there is no such index.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_mutations_chunks(const struct khonsu_mutations *mutations,
                                      size_t index,
                                      struct ArrowArrayStream *out_chunks,
                                      struct khonsu_error **error);

/**
 * Loads a key with the first chunk of its value; khonsu_loader_append adds the others right after it.
 *
 * @param[in]  loader  Not NULL.
 * @param[in]  key     The key; readable for key_len bytes. Each key is put once.
 * @param[in]  key_len 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  version The version of the commit that wrote the key last; not 0. The database's next commit is later
 *                     than all of them.
 * @param[in]  array   A record batch; consumed on every return. Its values are checked.
 * @param[in]  schema  Its schema; consumed on every return.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: loaded. What is wrong with the key may be told by a later call on the loader.
 * - KHONSU_STATUS_INVALID_ARGUMENT: loader, key, array or schema is NULL; key_len is out of range; version is 0; or
 *   the batch is malformed.
 * - KHONSU_STATUS_CORRUPTION: the key before this one was put twice, or its chunks are of different schemas.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * After a failure all calls on the loader fail alike, and so does khonsu_db_open. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_loader_put(struct khonsu_loader *loader,
                                const void *key,
                                size_t key_len,
                                uint64_t version,
                                struct ArrowArray *array,
                                struct ArrowSchema *schema,
                                struct khonsu_error **error);

/**
 * Loads another chunk of the key that was put last.
 *
 * @param[in]  loader Not NULL.
 * @param[in]  array  A record batch; consumed on every return. Its values are checked.
 * @param[in]  schema Its schema, equal to that of the key's other chunks; consumed on every return.
 * @param[out] error  May be NULL.
 * @return
 * - KHONSU_STATUS_OK: loaded. What is wrong with it may be told by a later call on the loader.
 * - KHONSU_STATUS_INVALID_ARGUMENT: loader, array or schema is NULL, or the batch is malformed.
 * - KHONSU_STATUS_INVALID_STATE: no key was put yet.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * After a failure all calls on the loader fail alike, and so does khonsu_db_open. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_loader_append(struct khonsu_loader *loader,
                                   struct ArrowArray *array,
                                   struct ArrowSchema *schema,
                                   struct khonsu_error **error);

/**
 * Tells the version of the newest commit that is stored, where it may be later than those of the keys: one that
 * deleted its keys. The database's next commit is later.
 *
 * @param[in]  loader  Not NULL.
 * @param[in]  version The version.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: heeded.
 * - KHONSU_STATUS_INVALID_ARGUMENT: loader is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * After a failure of another call on the loader it fails alike. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_loader_set_version(struct khonsu_loader *loader, uint64_t version, struct khonsu_error **error);

/**
 * Opens a database: that of the path or of the storage in the options, with what is stored there; an empty one in
 * memory where there is neither.
 *
 * @param[in]  options NULL for the defaults; borrowed for the call, and copied, but for a storage of
 *                     khonsu_options_set_storage, which the database takes, also when it fails to open.
 * @param[out] out     Not NULL. The database, owned by the caller: free it with khonsu_db_free. NULL on failure.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: opened.
 * - KHONSU_STATUS_INVALID_ARGUMENT: out is NULL, or the options have both a path and a storage, or a memory budget and
 *   no path.
 * - KHONSU_STATUS_INVALID_STATE: the storage of the options was given to another database.
 * - KHONSU_STATUS_STORAGE: reading or writing failed, the path is none of a database, or a newer version of khonsu has
 *   written it.
 * - KHONSU_STATUS_CORRUPTION: what is stored is damaged: the message says where. Nothing was changed.
 * - KHONSU_STATUS_LOCKED: the database is open already, in this process or another one.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any. Since: 0.1
 */
khonsu_status khonsu_db_open(const struct khonsu_options *options, struct khonsu_db **out, struct khonsu_error **error);

/**
 * Begins a transaction; but for read committed, it sees what is committed now.
 *
 * @param[in]  db      Not NULL. It may be freed before the transaction.
 * @param[in]  options NULL for the defaults; borrowed for the call, and copied.
 * @param[out] out     Not NULL. The transaction, owned by the caller: free it with khonsu_txn_free. NULL on failure.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: begun.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or out is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_begin(const struct khonsu_db *db,
                              const struct khonsu_txn_options *options,
                              struct khonsu_txn **out,
                              struct khonsu_error **error);

/**
 * Runs a function in a transaction and commits; on a conflict waits a little and runs it again, in a new transaction.
 * When it returns KHONSU_STATUS_OK, the effects of the last run, and of no other, are visible to others.
 *
 * The waits are random, and their bound doubles with each conflict (khonsu_txn_options_set_backoff_us). The calling
 * thread runs the function and does the waiting.
 *
 * @param[in]  db                 Not NULL.
 * @param[in]  options            NULL for the defaults; borrowed until the function is first run, and copied.
 * @param[in]  fn                 Not NULL.
 * @param[in]  context            Handed to fn as it is; may be NULL.
 * @param[out] out_commit_version May be NULL. The version of the commit; written only on KHONSU_STATUS_OK.
 * @param[out] error              May be NULL.
 * @return
 * - KHONSU_STATUS_OK: fn returned it, and the transaction was committed.
 * - KHONSU_STATUS_CONFLICT: conflicts came up in as many runs as khonsu_txn_options_set_max_attempts allows. The error
 *   reports those of the last commit; none if the last run of fn returned this status itself.
 * - KHONSU_STATUS_TIMEOUT: a conflict came up, and the time of khonsu_txn_options_set_timeout_ms was over.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or fn is NULL; or fn returned a number that is no khonsu_status.
 * - KHONSU_STATUS_INVALID_STATE: fn returned KHONSU_STATUS_OK while another thread still used the transaction, or
 *   although a call on it had returned KHONSU_STATUS_PANIC.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
 * - KHONSU_STATUS_STORAGE: the commit could not be stored, as for khonsu_txn_commit.
 * - any other status: fn returned it, and the transaction was rolled back. (fn may return those above, too.)
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is applied. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_transact(const struct khonsu_db *db,
                                 const struct khonsu_txn_options *options,
                                 khonsu_transact_fn fn,
                                 void *context,
                                 uint64_t *out_commit_version,
                                 struct khonsu_error **error);

/**
 * Writes the counters of the database. It reclaims first what can be reclaimed: not for every transaction.
 *
 * @param[in]  db       Not NULL.
 * @param[out] out      Not NULL. The first out_size bytes of a khonsu_stats are written, no more than its size.
 * @param[in]  out_size sizeof(khonsu_stats) as the caller knows it; not 0.
 * @param[out] error    May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or out is NULL, or out_size is 0.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure out is not written. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_stats(const struct khonsu_db *db,
                              struct khonsu_stats *out,
                              size_t out_size,
                              struct khonsu_error **error);

/**
 * Puts everything that is committed on the disk, whatever its durability was. A database in memory has nothing to do.
 *
 * @param[in]  db    Not NULL.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: all commits that returned before the call are on the disk.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_STORAGE: writing failed; of the commits that are not on the disk yet, a crash may leave some first
 *   ones. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_sync(const struct khonsu_db *db, struct khonsu_error **error);

/**
 * Has the storage put what all keys are now in the place of the commits that led there, so that the next opening is
 * fast and needs little room. Stored databases do so themselves when it pays. A database in memory has nothing to do.
 *
 * @param[in]  db    Not NULL.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: done.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_STORAGE: reading or writing failed. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
 *   khonsu_options_set_storage said so.
 * - KHONSU_STATUS_CORRUPTION: also that a value which a memory budget keeps in storage alone is damaged.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is lost. Other calls go on meanwhile. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_checkpoint(const struct khonsu_db *db, struct khonsu_error **error);

/**
 * Writes what the database is now into a new directory, which can be opened as a database. The database may be in
 * memory, or have a storage of the caller's.
 *
 * @param[in]  db    Not NULL.
 * @param[in]  path  The path of the directory; not NULL, not "". Nothing may be there but an empty directory.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written, and on the disk.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, path is "", or a value is malformed.
 * - KHONSU_STATUS_STORAGE: there is something at path already, or reading or writing failed.
 * - KHONSU_STATUS_CORRUPTION: a value which a memory budget keeps in storage alone is damaged.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure there is no database at path. Other calls go on meanwhile. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_backup(const struct khonsu_db *db, const char *path, struct khonsu_error **error);

/**
 * Writes what the database is now into a new directory as Arrow IPC streams, one for each schema of values: a row is a
 * chunk of a key, with the columns key, version and value.
 *
 * @param[in]  db    Not NULL.
 * @param[in]  path  The path of the directory; not NULL, not "". Nothing may be there but an empty directory.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written, and on the disk.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, path is "", or a value is malformed.
 * - KHONSU_STATUS_STORAGE: there is something at path already, or reading or writing failed.
 * - KHONSU_STATUS_CORRUPTION: a value which a memory budget keeps in storage alone is damaged.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Other calls go on meanwhile. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_export(const struct khonsu_db *db, const char *path, struct khonsu_error **error);

/**
 * Puts all keys that khonsu_db_export has written into the database, over those that are there. They go in in several
 * transactions, with the options of the database: others may see some of the keys first.
 *
 * @param[in]  db    Not NULL.
 * @param[in]  path  The path of the directory; not NULL, not "".
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: all keys were put.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, or path is "".
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes of the options would be passed.
 * - KHONSU_STATUS_STORAGE: reading failed, or a commit could not be stored.
 * - KHONSU_STATUS_CORRUPTION: what is at path is damaged.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure some of the keys may have been put. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_import(const struct khonsu_db *db, const char *path, struct khonsu_error **error);

/**
 * Closes a database. Transactions that are open go on, and the database goes when the last of them is freed; exported
 * arrays stay valid beyond that.
 *
 * Where it is stored, everything that was committed is written and synced then, whatever its durability was. An error
 * is lost there: call khonsu_db_sync before to know.
 *
 * @param[in] db Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses the handle. Since: 0.1
 */
void khonsu_db_free(struct khonsu_db *db);

/**
 * Reads the value of a key as one batch. Several chunks are joined into new memory; a single one is given without a
 * copy, unless it is so small that a copy is made sooner.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  key        Borrowed for the call; not NULL.
 * @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[out] out_array  Not NULL. A struct array with one child a column, owned by the caller, who releases it. It
 *                        stays valid after the end of the transaction and of the database, on any thread; its buffers
 *                        must not be changed.
 * @param[out] out_schema May be NULL. The schema of the array, owned by the caller, who releases it.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read.
 * - KHONSU_STATUS_NOT_FOUND: there is no such key.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_array is NULL, or key_len is out of range; or chunks that were put
 *   without full validation turn out malformed when they are joined.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in both outs; the transaction can go on. Threads: serialized.
 * Since: 0.1
 */
khonsu_status khonsu_txn_get(struct khonsu_txn *txn,
                             const void *key,
                             size_t key_len,
                             struct ArrowArray *out_array,
                             struct ArrowSchema *out_schema,
                             struct khonsu_error **error);

/**
 * Reads the value of a key as one batch of a schema that the caller knows already, as khonsu_txn_get does otherwise.
 *
 * @param[in]  txn       Not NULL.
 * @param[in]  key       Borrowed for the call; not NULL.
 * @param[in]  key_len   Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  schema    Not NULL; borrowed for the call. The schema that the value must have, metadata included.
 * @param[out] out_array Not NULL. As for khonsu_txn_get.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read.
 * - KHONSU_STATUS_NOT_FOUND: there is no such key.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the value has another schema; or the transaction has appended rows whose schema is
 *   not that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, schema or out_array is NULL, or key_len is out of range; or chunks that
 *   were put without full validation turn out malformed when they are joined.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in out_array; the transaction can go on. Threads: serialized.
 * Since: 0.1
 */
khonsu_status khonsu_txn_get_with_schema(struct khonsu_txn *txn,
                                         const void *key,
                                         size_t key_len,
                                         const struct khonsu_schema *schema,
                                         struct ArrowArray *out_array,
                                         struct khonsu_error **error);

/**
 * Reads the value of a key as a stream of its chunks, oldest first, all but small ones without a copy.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  key        Borrowed for the call; not NULL.
 * @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it. It and what it gives stay valid
 *                        after the end of the transaction and of the database, on any thread; buffers must not be
 *                        changed.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read.
 * - KHONSU_STATUS_NOT_FOUND: there is no such key.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_stream is NULL, or key_len is out of range.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on. Threads: serialized.
 * Since: 0.1
 */
khonsu_status khonsu_txn_get_stream(struct khonsu_txn *txn,
                                    const void *key,
                                    size_t key_len,
                                    struct ArrowArrayStream *out_stream,
                                    struct khonsu_error **error);

/**
 * Finds out whether a key has a value.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  key        Borrowed for the call; not NULL.
 * @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[out] out_exists Not NULL. Written only on KHONSU_STATUS_OK.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_exists is NULL, or key_len is out of range.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_exists(struct khonsu_txn *txn,
                                const void *key,
                                size_t key_len,
                                bool *out_exists,
                                struct khonsu_error **error);

/**
 * Puts one batch under a key, in place of what is there; visible to this transaction now, to others after its commit.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                     its release is NULL then.
 * @param[in]  schema  Its schema. Not NULL; consumed on every return.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array or schema is
 *   released or malformed, or they do not match.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_put(struct khonsu_txn *txn,
                             const void *key,
                             size_t key_len,
                             struct ArrowArray *array,
                             struct ArrowSchema *schema,
                             struct khonsu_error **error);

/**
 * Puts one batch of an imported schema under a key, in place of what is there; visible to this transaction now, to
 * others after its commit.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                     its release is NULL then.
 * @param[in]  schema  Its schema. Not NULL; borrowed for the call.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array is released or
 *   malformed, or does not match the schema.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_put_with_schema(struct khonsu_txn *txn,
                                         const void *key,
                                         size_t key_len,
                                         struct ArrowArray *array,
                                         const struct khonsu_schema *schema,
                                         struct khonsu_error **error);

/**
 * Puts all batches of a stream under a key as the chunks of one value, in place of what is there; visible to this
 * transaction now, to others after its commit. A stream without batches puts a value of no rows.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  stream  Not NULL; read to its end and consumed on every return, success or failure: its release is NULL
 *                     then. Its callbacks run on this thread, and must not use the transaction.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or stream is NULL, key_len is out of range, stream is released or lacks a
 *   callback, what it gives is malformed, or it failed with EINVAL.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed, or the stream failed with ENOMEM.
 * - KHONSU_STATUS_STORAGE: the stream failed in another way; the message is its own.
 * - KHONSU_STATUS_CORRUPTION: the stream came from khonsu_ipc_open_stream, and its file is damaged.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_put_stream(struct khonsu_txn *txn,
                                    const void *key,
                                    size_t key_len,
                                    struct ArrowArrayStream *stream,
                                    struct khonsu_error **error);

/**
 * Adds the rows of one batch after those of the value that is newest when the transaction commits, or begins one;
 * visible to this transaction now, to others after its commit. Two transactions that append to one key do not
 * conflict. Costs nothing for the rows that are there already.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                     its release is NULL then.
 * @param[in]  schema  Its schema. Not NULL; consumed on every return.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: what this transaction has put or appended under the key has another schema. (A
 *   committed value is compared when it is read, and by khonsu_txn_commit.)
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array or schema is
 *   released or malformed, or they do not match.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_append(struct khonsu_txn *txn,
                                const void *key,
                                size_t key_len,
                                struct ArrowArray *array,
                                struct ArrowSchema *schema,
                                struct khonsu_error **error);

/**
 * Adds the rows of one batch of an imported schema, as khonsu_txn_append does otherwise.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                     its release is NULL then.
 * @param[in]  schema  Its schema. Not NULL; borrowed for the call.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: what this transaction has put or appended under the key has another schema. (A
 *   committed value is compared when it is read, and by khonsu_txn_commit.)
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array is released or
 *   malformed, or does not match the schema.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_append_with_schema(struct khonsu_txn *txn,
                                            const void *key,
                                            size_t key_len,
                                            struct ArrowArray *array,
                                            const struct khonsu_schema *schema,
                                            struct khonsu_error **error);

/**
 * Deletes a key and its value; visible to this transaction now, to others after its commit. A key that is not there is
 * no failure.
 *
 * @param[in]  txn     Not NULL.
 * @param[in]  key     Borrowed for the call; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, or key_len is out of range.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_delete(struct khonsu_txn *txn, const void *key, size_t key_len, struct khonsu_error **error);

/**
 * Sets the conflict resolution of the write that is staged under a key; the transaction's by default.
 *
 * @param[in]  txn                 Not NULL.
 * @param[in]  key                 Borrowed for the call; not NULL.
 * @param[in]  key_len             Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[in]  conflict_resolution A khonsu_conflict_resolution.
 * @param[out] error               May be NULL.
 * @return
 * - KHONSU_STATUS_OK: set.
 * - KHONSU_STATUS_NOT_FOUND: the transaction has staged no write of the key.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, key_len is out of range, or conflict_resolution is no
 *   khonsu_conflict_resolution.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_set_conflict_resolution(struct khonsu_txn *txn,
                                                 const void *key,
                                                 size_t key_len,
                                                 int32_t conflict_resolution,
                                                 struct khonsu_error **error);

/**
 * Opens a cursor over the keys from start to before end, in order. It sees what the transaction sees, its own writes
 * included.
 *
 * @param[in]  txn       Not NULL.
 * @param[in]  start     The first key, itself in the range; borrowed for the call. NULL: from the first key of all.
 * @param[in]  start_len Bytes of start, any number; 0 with NULL. With 0 the range starts at the first key of all.
 * @param[in]  end       The key that the range ends before; borrowed for the call. NULL: to the last key of all.
 * @param[in]  end_len   Bytes of end, any number; 0 with NULL. With 0 and an end that is not NULL the range is empty.
 * @param[in]  direction A khonsu_direction.
 * @param[in]  limit     The most entries; 0: all.
 * @param[out] out       Not NULL. The cursor, before the first entry, owned by the caller: free it with
 *                       khonsu_cursor_free. NULL on failure.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: opened. A range that is empty or runs backwards gives a cursor without entries.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or out is NULL, start or end is NULL with a length, or direction is no
 *   khonsu_direction.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_scan(struct khonsu_txn *txn,
                              const void *start,
                              size_t start_len,
                              const void *end,
                              size_t end_len,
                              int32_t direction,
                              uint64_t limit,
                              struct khonsu_cursor **out,
                              struct khonsu_error **error);

/**
 * Opens a cursor over the keys that begin with a prefix, in order. It sees what the transaction sees, its own writes
 * included.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  prefix     Borrowed for the call; NULL only with prefix_len 0.
 * @param[in]  prefix_len Bytes of prefix, any number; 0: all keys.
 * @param[in]  direction  A khonsu_direction.
 * @param[in]  limit      The most entries; 0: all.
 * @param[out] out        Not NULL. The cursor, before the first entry, owned by the caller: free it with
 *                        khonsu_cursor_free. NULL on failure.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: opened.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or out is NULL, prefix is NULL with a length, or direction is no
 *   khonsu_direction.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_scan_prefix(struct khonsu_txn *txn,
                                     const void *prefix,
                                     size_t prefix_len,
                                     int32_t direction,
                                     uint64_t limit,
                                     struct khonsu_cursor **out,
                                     struct khonsu_error **error);

/**
 * Reads a range of keys as one stream of record batches: first a column "key" (binary, not nullable) that has the
 * entry's key in each of its rows, then the columns of the values. Entries of no rows give no rows. Batches have at
 * most 65,536 rows; small values share one.
 *
 * The entries are read during the call: later writes of the transaction do not show in the stream. Its batches are
 * made one by one as they are asked for.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  start      As for khonsu_txn_scan.
 * @param[in]  start_len  As for khonsu_txn_scan.
 * @param[in]  end        As for khonsu_txn_scan.
 * @param[in]  end_len    As for khonsu_txn_scan.
 * @param[in]  direction  A khonsu_direction.
 * @param[in]  limit      The most entries, not rows; 0: all.
 * @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it. It and what it gives stay valid
 *                        after the end of the transaction and of the database, on any thread; buffers must not be
 *                        changed. Its schema is that of the values with the column "key" in front (also if they have a
 *                        column of that name already); only that column when there are no entries.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: two values in the range have different schemas (the message names their keys), or
 *   the transaction has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_stream is NULL, start or end is NULL with a length, or direction is no
 *   khonsu_direction.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on. A get_next of the
 * stream fails with EINVAL when values put without full validation turn out malformed, and, with a memory budget
 * (khonsu_options_set_memory_budget), when a value in storage turns out damaged; with EIO when it cannot be read.
 * Threads: serialized; the stream: one thread at a time, any thread. Since: 0.1
 */
khonsu_status khonsu_txn_scan_stream(struct khonsu_txn *txn,
                                     const void *start,
                                     size_t start_len,
                                     const void *end,
                                     size_t end_len,
                                     int32_t direction,
                                     uint64_t limit,
                                     struct ArrowArrayStream *out_stream,
                                     struct khonsu_error **error);

/**
 * Marks the present state of the transaction's writes, for khonsu_txn_rollback_to.
 *
 * @param[in]  txn           Not NULL.
 * @param[out] out_savepoint Not NULL. A number that names the savepoint; written only on KHONSU_STATUS_OK.
 * @param[out] error         May be NULL.
 * @return
 * - KHONSU_STATUS_OK: marked.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_savepoint is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_savepoint(struct khonsu_txn *txn, uint64_t *out_savepoint, struct khonsu_error **error);

/**
 * Takes back all writes since a savepoint; what was read since counts as read. The savepoint stays, later ones go.
 *
 * @param[in]  txn       Not NULL.
 * @param[in]  savepoint What khonsu_txn_savepoint gave for this transaction.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: taken back.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or the transaction has no such savepoint (any more).
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_rollback_to(struct khonsu_txn *txn, uint64_t savepoint, struct khonsu_error **error);

/**
 * Forgets a savepoint and later ones; the writes stay.
 *
 * @param[in]  txn       Not NULL.
 * @param[in]  savepoint What khonsu_txn_savepoint gave for this transaction.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: forgotten.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or the transaction has no such savepoint (any more).
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_release(struct khonsu_txn *txn, uint64_t savepoint, struct khonsu_error **error);

/**
 * Commits the transaction: its writes become visible to others, all at once, or none of them. The transaction is ended
 * either way, but for the first three failures below; free it with khonsu_txn_free.
 *
 * A serializable transaction that has only read counts as serializable once this has succeeded, too, unless it was
 * declared read-only: then it does from the start.
 *
 * @param[in]  txn   Not NULL.
 * @param[out] error May be NULL. For KHONSU_STATUS_CONFLICT it reports the conflicts.
 * @return
 * - KHONSU_STATUS_OK: committed.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or a value is malformed that goes to a storage.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact; or it
 *   wrote, and the call comes from a callback of the database's own storage: then it is ended.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 * - KHONSU_STATUS_CONFLICT: other transactions got in the way: run it again.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
 * - KHONSU_STATUS_STORAGE: the commit could not be stored, or one could not that this one stands on. The database goes
 *   on, and a later commit may succeed. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
 *   khonsu_options_set_storage said so.
 *
 * On failure nothing is applied. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_commit(struct khonsu_txn *txn, struct khonsu_error **error);

/**
 * Rolls the transaction back: none of its writes was ever visible to others. It is ended; free it with
 * khonsu_txn_free.
 *
 * @param[in]  txn   Not NULL.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: rolled back.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure nothing is changed. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_rollback(struct khonsu_txn *txn, struct khonsu_error **error);

/**
 * Gives the version that the commit has: of two commits that wrote, the later has the greater one. Versions order the
 * writes of each key; a serializable transaction that was let through with a stale read comes earlier in the serial
 * order than its version says.
 *
 * @param[in]  txn         Not NULL.
 * @param[out] out_version Not NULL. Written only on KHONSU_STATUS_OK. A transaction that wrote nothing gives the
 *                         version of what it read.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_version is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the transaction is not committed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_txn_commit_version(const struct khonsu_txn *txn,
                                        uint64_t *out_version,
                                        struct khonsu_error **error);

/**
 * Frees a transaction, and rolls it back if it is open. Its cursors may be freed later; they find it ended. In a
 * callback of a call on the transaction it takes effect when that call ends; on the transaction of a
 * khonsu_transact_fn it does nothing.
 *
 * @param[in] txn Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses it. Since: 0.1
 */
void khonsu_txn_free(struct khonsu_txn *txn);

/**
 * Reads the value of a bound key as one batch, as khonsu_txn_get does of a key by its bytes.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  key        Not NULL; borrowed for the call. Bound in the database of the transaction.
 * @param[in]  schema     May be NULL: any; borrowed for the call. The schema that the value must have, metadata
 *                        included.
 * @param[out] out_array  Not NULL. As for khonsu_txn_get.
 * @param[out] out_schema May be NULL. The schema of the array, owned by the caller, who releases it.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read.
 * - KHONSU_STATUS_NOT_FOUND: there is no such key.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the value has another schema; or the transaction has appended rows whose schema is
 *   not that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_array is NULL, or key was bound in another database; or chunks that
 *   were put without full validation turn out malformed when they are joined.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in both outs; the transaction can go on. Threads: serialized.
 * Since: 0.1
 */
khonsu_status khonsu_txn_get_bound(struct khonsu_txn *txn,
                                   const struct khonsu_key *key,
                                   const struct khonsu_schema *schema,
                                   struct ArrowArray *out_array,
                                   struct ArrowSchema *out_schema,
                                   struct khonsu_error **error);

/**
 * Finds out whether a bound key has a value.
 *
 * @param[in]  txn        Not NULL.
 * @param[in]  key        Not NULL; borrowed for the call. Bound in the database of the transaction.
 * @param[out] out_exists Not NULL. Written only on KHONSU_STATUS_OK.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_exists is NULL, or key was bound in another database.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_exists_bound(struct khonsu_txn *txn,
                                      const struct khonsu_key *key,
                                      bool *out_exists,
                                      struct khonsu_error **error);

/**
 * Puts one batch of an imported schema under a bound key, as khonsu_txn_put_with_schema does under a key by its bytes.
 *
 * @param[in]  txn    Not NULL.
 * @param[in]  key    Not NULL; borrowed for the call. Bound in the database of the transaction.
 * @param[in]  array  A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                    its release is NULL then.
 * @param[in]  schema Its schema. Not NULL; borrowed for the call.
 * @param[out] error  May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key was bound in another database, array is
 *   released or malformed, or does not match the schema.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_put_bound(struct khonsu_txn *txn,
                                   const struct khonsu_key *key,
                                   struct ArrowArray *array,
                                   const struct khonsu_schema *schema,
                                   struct khonsu_error **error);

/**
 * Adds the rows of one batch of an imported schema under a bound key, as khonsu_txn_append_with_schema does under a key
 * by its bytes.
 *
 * @param[in]  txn    Not NULL.
 * @param[in]  key    Not NULL; borrowed for the call. Bound in the database of the transaction.
 * @param[in]  array  A struct array with one child a column. Not NULL; consumed on every return, success or failure:
 *                    its release is NULL then.
 * @param[in]  schema Its schema. Not NULL; borrowed for the call.
 * @param[out] error  May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key was bound in another database, array is
 *   released or malformed, or does not match the schema.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has staged rows of another schema for the key.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_append_bound(struct khonsu_txn *txn,
                                      const struct khonsu_key *key,
                                      struct ArrowArray *array,
                                      const struct khonsu_schema *schema,
                                      struct khonsu_error **error);

/**
 * Deletes a bound key, as khonsu_txn_delete does a key by its bytes. The handle stays as it is.
 *
 * @param[in]  txn   Not NULL.
 * @param[in]  key   Not NULL; borrowed for the call. Bound in the database of the transaction.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: staged, whether the key exists or not.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, or key was bound in another database.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_delete_bound(struct khonsu_txn *txn,
                                      const struct khonsu_key *key,
                                      struct khonsu_error **error);

/**
 * Reads the values of many keys, each as one batch: what a khonsu_txn_get of each would read; at read committed, all of
 * one instant. It takes less time than those calls, for what the keys wait for in memory, they wait for together.
 * Small values share memory, up to 16 of them, which is freed when the last of their arrays is released.
 *
 * @param[in]  txn         Not NULL.
 * @param[in]  keys        The keys, so many pointers; may be NULL only with count 0. Borrowed for the call, as are the
 *                         keys, of which none is NULL. A key may be there more than once.
 * @param[in]  key_lens    Bytes of each key: 1 to KHONSU_KEY_MAX_BYTES; may be NULL only with count 0.
 * @param[in]  count       How many keys.
 * @param[in]  schema      May be NULL: any; borrowed for the call. The schema that each value must have, metadata
 *                         included.
 * @param[out] out_arrays  So many structs, one a key in the order of the keys; may be NULL only with count 0. release is
 *                         NULL where the key has no value; the others are as for khonsu_txn_get.
 * @param[out] out_schemas May be NULL. So many structs: the schema of each array, owned by the caller, who releases it;
 *                         release is NULL where the key has no value.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read, also when keys have no value.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: a value has another schema; or the transaction has appended rows whose schema is not
 *   that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or a key is NULL, keys, key_lens or out_arrays is NULL with a count, or a length
 *   is out of range; or chunks that were put without full validation turn out malformed when they are joined.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks of a value are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), a value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in all outs; the transaction can go on, and the keys may count as
 * read. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_get_many(struct khonsu_txn *txn,
                                  const void *const *keys,
                                  const size_t *key_lens,
                                  size_t count,
                                  const struct khonsu_schema *schema,
                                  struct ArrowArray *out_arrays,
                                  struct ArrowSchema *out_schemas,
                                  struct khonsu_error **error);

/**
 * Reads the values of many bound keys, each as one batch, as khonsu_txn_get_many does of keys by their bytes.
 *
 * @param[in]  txn         Not NULL.
 * @param[in]  keys        The keys, so many handles; may be NULL only with count 0. Borrowed for the call. None is NULL,
 *                         and each is bound in the database of the transaction. One may be there more than once.
 * @param[in]  count       How many keys.
 * @param[in]  schema      May be NULL: any; borrowed for the call. The schema that each value must have, metadata
 *                         included.
 * @param[out] out_arrays  As for khonsu_txn_get_many.
 * @param[out] out_schemas As for khonsu_txn_get_many.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read, also when keys have no value.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: a value has another schema; or the transaction has appended rows whose schema is not
 *   that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn or a key is NULL, keys or out_arrays is NULL with a count, or a key was bound in
 *   another database; or chunks that were put without full validation turn out malformed when they are joined.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks of a value are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), a value
 *   is in storage alone and cannot be read, or is damaged; the message says where.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in all outs; the transaction can go on, and the keys may count as
 * read. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_get_many_bound(struct khonsu_txn *txn,
                                        const struct khonsu_key *const *keys,
                                        size_t count,
                                        const struct khonsu_schema *schema,
                                        struct ArrowArray *out_arrays,
                                        struct ArrowSchema *out_schemas,
                                        struct khonsu_error **error);

/**
 * Reads the values of many keys as one stream of record batches, in the form in which khonsu_txn_scan_stream gives a
 * range: first a column "key" (binary, not nullable) that has the entry's key in each of its rows, then the columns of
 * the values. The entries come in the order of the keys; one of no rows, and a key that has no value, gives no rows.
 *
 * The entries are read during the call: later writes of the transaction do not show in the stream.
 *
 * @param[in]  txn         Not NULL.
 * @param[in]  keys        As for khonsu_txn_get_many.
 * @param[in]  key_lens    As for khonsu_txn_get_many.
 * @param[in]  count       How many keys.
 * @param[out] out_present May be NULL. So many truth values: whether each key has a value. Written only on
 *                         KHONSU_STATUS_OK.
 * @param[out] out_stream  Not NULL. As for khonsu_txn_scan_stream; its schema has only the column "key" when no key has
 *                         a value.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: read, also when keys have no value.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: two values have different schemas (the message names their keys), or the transaction
 *   has appended rows whose schema is not that of the rows there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, a key or out_stream is NULL, keys or key_lens is NULL with a count, or a length
 *   is out of range.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on, and the keys may count
 * as read. A get_next of the stream fails with EINVAL when values put without full validation turn out malformed.
 * Threads: serialized; the stream: one thread at a time, any thread. Since: 0.1
 */
khonsu_status khonsu_txn_get_many_stream(struct khonsu_txn *txn,
                                         const void *const *keys,
                                         const size_t *key_lens,
                                         size_t count,
                                         bool *out_present,
                                         struct ArrowArrayStream *out_stream,
                                         struct khonsu_error **error);

/**
 * Moves the cursor to the next entry, to the first one after it was opened.
 *
 * @param[in]  cursor Not NULL.
 * @param[out] error  May be NULL.
 * @return
 * - KHONSU_STATUS_OK: the cursor is on an entry.
 * - KHONSU_STATUS_NOT_FOUND: there is no further entry; the cursor is past the last, and stays there.
 * - KHONSU_STATUS_INVALID_ARGUMENT: cursor is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or the cursor or the transaction is in use; the cursor
 *   stays where it is.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows to the next entry whose schema is not that of the
 *   rows there. The cursor is on no entry; the next call tries that one again.
 * - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
 *   of the next entry is in storage alone and cannot be read, or is damaged; the message says where. The cursor is on
 *   no entry; the next call tries that one again.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_cursor_next(struct khonsu_cursor *cursor, struct khonsu_error **error);

/**
 * Gives the key of the entry that the cursor is on.
 *
 * @param[in]  cursor      Not NULL.
 * @param[out] out_key     Not NULL. The bytes of the key, not terminated by a NUL; borrowed: valid until the next call
 *                         of khonsu_cursor_next or khonsu_cursor_free. Written only on KHONSU_STATUS_OK.
 * @param[out] out_key_len Not NULL. Their number; written only on KHONSU_STATUS_OK.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: cursor, out_key or out_key_len is NULL.
 * - KHONSU_STATUS_INVALID_STATE: the cursor is on no entry, is in use by khonsu_cursor_next, or the transaction has
 *   ended.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once, while no thread is in khonsu_cursor_next. Since: 0.1
 */
khonsu_status khonsu_cursor_key(const struct khonsu_cursor *cursor,
                                const void **out_key,
                                size_t *out_key_len,
                                struct khonsu_error **error);

/**
 * Gives the value of the entry that the cursor is on as one batch, as khonsu_txn_get does.
 *
 * @param[in]  cursor     Not NULL.
 * @param[out] out_array  Not NULL. As for khonsu_txn_get.
 * @param[out] out_schema May be NULL. As for khonsu_txn_get.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: given.
 * - KHONSU_STATUS_INVALID_ARGUMENT: cursor or out_array is NULL; or chunks that were put without full validation turn
 *   out malformed when they are joined.
 * - KHONSU_STATUS_INVALID_STATE: the cursor is on no entry, is in use, or the transaction has ended.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in both outs. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_cursor_get(struct khonsu_cursor *cursor,
                                struct ArrowArray *out_array,
                                struct ArrowSchema *out_schema,
                                struct khonsu_error **error);

/**
 * Frees a cursor. Keys that it gave go with it, exported arrays stay. In a callback of a call on the cursor it takes
 * effect when that call ends.
 *
 * @param[in] cursor Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses it. Since: 0.1
 */
void khonsu_cursor_free(struct khonsu_cursor *cursor);

/**
 * Binds a key: it is looked up by the first call that uses it, and not again by later ones.
 *
 * @param[in]  db      Not NULL. It may be freed before the key.
 * @param[in]  key     Borrowed for the call, and copied; not NULL.
 * @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
 * @param[out] out     Not NULL. The bound key, owned by the caller: free it with khonsu_key_free. NULL on failure.
 * @param[out] error   May be NULL.
 * @return
 * - KHONSU_STATUS_OK: bound, whether there is such a key or not.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db, key or out is NULL, or key_len is out of range.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_key_bind(const struct khonsu_db *db,
                              const void *key,
                              size_t key_len,
                              struct khonsu_key **out,
                              struct khonsu_error **error);

/**
 * Frees a bound key. What was written by it is not affected.
 *
 * @param[in] key Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses the handle. Since: 0.1
 */
void khonsu_key_free(struct khonsu_key *key);

/**
 * Ends the transaction by the first phase of a two-phase commit: it is validated, stored, and can be committed and
 * rolled back from then on by its global id, whatever else happens, the end of the process included. Until it is
 * decided, what it has read and is going to write is held: others go on reading what was there before, and fail with a
 * conflict of kind KHONSU_CONFLICT_KIND_PREPARED when they commit a write there. khonsu_txn_commit is the way without
 * a second phase.
 *
 * A transaction that wrote nothing has nothing to decide: it votes KHONSU_VOTE_READ_ONLY and is committed. It holds
 * nothing then, so that the others of the global transaction may lose the order with it; KHONSU_PREPARE_HOLD_READS
 * keeps that.
 *
 * @param[in]  txn           Not NULL. It is ended on every return but the first three failures below; free it with
 *                           khonsu_txn_free.
 * @param[in]  global_id     The name that the coordinator has given to the transaction, any bytes. Borrowed for the
 *                           call; not NULL.
 * @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
 * @param[in]  flags         KHONSU_PREPARE_ALLOW_VOLATILE and KHONSU_PREPARE_HOLD_READS, or-ed; 0 for none.
 * @param[out] vote          Not NULL. A khonsu_vote; written only on KHONSU_STATUS_OK.
 * @param[out] error         May be NULL. For KHONSU_STATUS_CONFLICT it reports the conflicts.
 * @return
 * - KHONSU_STATUS_OK: voted. What is prepared is on the disk, where the database is stored.
 * - KHONSU_STATUS_INVALID_ARGUMENT: txn, global_id or vote is NULL, global_id_len is out of range, or flags has other
 *   bits; or a value is malformed that goes to a storage: then the transaction is rolled back.
 * - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact; or the
 *   call comes from a callback of the database's own storage: then it is rolled back.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 * - KHONSU_STATUS_CONFLICT: other transactions got in the way: run it again. Something that it has read not being the
 *   newest is enough.
 * - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
 * - KHONSU_STATUS_DUPLICATE: another transaction with this global id is in doubt, or remembered as finished: the
 *   message says which.
 * - KHONSU_STATUS_NOT_DURABLE: the database is in memory, or its storage cannot keep prepared transactions (that of
 *   khonsu_options_set_storage), and flags does not allow that.
 * - KHONSU_STATUS_STORAGE: it could not be stored. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
 *   khonsu_options_set_storage said so.
 *
 * On failure the vote is no: the transaction is rolled back, and not to be decided. Threads: serialized. Since: 0.1
 */
khonsu_status khonsu_txn_prepare(struct khonsu_txn *txn,
                                 const void *global_id,
                                 size_t global_id_len,
                                 uint32_t flags,
                                 int32_t *vote,
                                 struct khonsu_error **error);

/**
 * Commits a prepared transaction: its writes become visible to others, all at once. There is no conflict; it may be
 * called again and again, and finds it done.
 *
 * @param[in]  db             Not NULL.
 * @param[in]  global_id      Borrowed for the call; not NULL.
 * @param[in]  global_id_len  Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
 * @param[out] commit_version The version of the commit, as of khonsu_txn_commit_version. May be NULL; written only on
 *                            KHONSU_STATUS_OK.
 * @param[out] error          May be NULL.
 * @return
 * - KHONSU_STATUS_OK: committed, by this call or before; on the disk, where the database is stored.
 * - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
 * - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_ALREADY_DECIDED: it was rolled back.
 * - KHONSU_STATUS_HEURISTIC: an operator has decided about it, be it the same: khonsu_error_decision says how. Note it
 *   and call khonsu_db_forget.
 * - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again. KHONSU_STATUS_CORRUPTION and
 *   KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_commit_prepared(const struct khonsu_db *db,
                                        const void *global_id,
                                        size_t global_id_len,
                                        uint64_t *commit_version,
                                        struct khonsu_error **error);

/**
 * Rolls a prepared transaction back: none of its writes was ever visible to others. It may be called again and again,
 * and finds it done.
 *
 * @param[in]  db            Not NULL.
 * @param[in]  global_id     Borrowed for the call; not NULL.
 * @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
 * @param[out] error         May be NULL.
 * @return
 * - KHONSU_STATUS_OK: rolled back, by this call or before. After a crash it may be in doubt again: roll it back again.
 * - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
 * - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_ALREADY_DECIDED: it was committed.
 * - KHONSU_STATUS_HEURISTIC: an operator has decided about it, be it the same: khonsu_error_decision says how. Note it
 *   and call khonsu_db_forget.
 * - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_rollback_prepared(const struct khonsu_db *db,
                                          const void *global_id,
                                          size_t global_id_len,
                                          struct khonsu_error **error);

/**
 * Decides about a prepared transaction in the place of its coordinator, for when what it holds is needed and the
 * coordinator does not come back. The other databases of the transaction may decide otherwise. It is recorded, and
 * reported to the coordinator when that decides (KHONSU_STATUS_HEURISTIC), until khonsu_db_forget.
 *
 * @param[in]  db            Not NULL.
 * @param[in]  global_id     Borrowed for the call; not NULL.
 * @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
 * @param[in]  decision      A khonsu_decision.
 * @param[out] error         May be NULL.
 * @return
 * - KHONSU_STATUS_OK: decided, by this call or by an earlier one of its kind; on the disk, where the database is stored.
 * - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
 * - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, global_id_len is out of range, or decision is no
 *   khonsu_decision.
 * - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
 * - KHONSU_STATUS_ALREADY_DECIDED: the coordinator has decided about it: khonsu_error_decision says how.
 * - KHONSU_STATUS_HEURISTIC: an earlier call has decided otherwise: khonsu_error_decision says how.
 * - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again. KHONSU_STATUS_CORRUPTION and
 *   KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_decide_heuristically(const struct khonsu_db *db,
                                             const void *global_id,
                                             size_t global_id_len,
                                             int32_t decision,
                                             struct khonsu_error **error);

/**
 * Forgets how a prepared transaction ended; its global id may be used again. Without a call to it, the last 4,096
 * outcomes that the coordinator has decided are remembered, and all heuristic ones.
 *
 * @param[in]  db            Not NULL.
 * @param[in]  global_id     Borrowed for the call; not NULL.
 * @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
 * @param[out] error         May be NULL.
 * @return
 * - KHONSU_STATUS_OK: nothing is known of it any more. After a crash it may be known again: forget it again.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
 * - KHONSU_STATUS_INVALID_STATE: the transaction is in doubt; or the call comes from a callback of the database's own
 *   storage.
 * - KHONSU_STATUS_BUSY: another call is forgetting it.
 * - KHONSU_STATUS_STORAGE: that could not be stored. It is still remembered.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_forget(const struct khonsu_db *db,
                               const void *global_id,
                               size_t global_id_len,
                               struct khonsu_error **error);

/**
 * Lists the prepared transactions: those in doubt, the oldest first, and then those that were decided heuristically and
 * not forgotten.
 *
 * @param[in]  db    Not NULL.
 * @param[out] list  Not NULL. The list, owned by the caller: free it with khonsu_prepared_list_free. NULL on failure.
 * @param[out] error May be NULL.
 * @return
 * - KHONSU_STATUS_OK: listed; there may be none.
 * - KHONSU_STATUS_INVALID_ARGUMENT: db or list is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_db_recover(const struct khonsu_db *db,
                                struct khonsu_prepared_list **list,
                                struct khonsu_error **error);

/**
 * How many transactions a list has.
 *
 * @param[in] list NULL for none.
 * @return Their number; 0 for NULL.
 *
 * Threads: any number at once. Since: 0.1
 */
size_t khonsu_prepared_list_count(const struct khonsu_prepared_list *list);

/**
 * Writes what is known of one transaction of a list.
 *
 * @param[in]  list      Not NULL.
 * @param[in]  index     From 0 to before khonsu_prepared_list_count.
 * @param[out] info      Not NULL. The first info_size bytes of a khonsu_prepared_info are written, no more than its
 *                       size. What its pointer points to is borrowed, and valid until the list is freed.
 * @param[in]  info_size sizeof(khonsu_prepared_info) as the caller knows it; not 0.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: list or info is NULL, info_size is 0, or there is no such index; info is not
 *   written.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_prepared_list_get(const struct khonsu_prepared_list *list,
                                       size_t index,
                                       struct khonsu_prepared_info *info,
                                       size_t info_size,
                                       struct khonsu_error **error);

/**
 * Gives one of the keys that a transaction of a list is going to write. Only those in doubt have them: one that was
 * decided heuristically has no keys any more, though its info says how many there were.
 *
 * @param[in]  list      Not NULL.
 * @param[in]  index     From 0 to before khonsu_prepared_list_count.
 * @param[in]  key_index From 0 to before written_keys of its khonsu_prepared_info.
 * @param[out] key       Not NULL. Borrowed, and valid until the list is freed; not terminated by a NUL.
 * @param[out] key_len   Not NULL. Bytes of key.
 * @param[out] error     May be NULL.
 * @return
 * - KHONSU_STATUS_OK: key and key_len are written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: list, key or key_len is NULL, or there is no such index.
 * - KHONSU_STATUS_INVALID_STATE: the transaction was decided heuristically.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure neither is written. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_prepared_list_key(const struct khonsu_prepared_list *list,
                                       size_t index,
                                       size_t key_index,
                                       const void **key,
                                       size_t *key_len,
                                       struct khonsu_error **error);

/**
 * Frees a list, and with it what it has lent.
 *
 * @param[in] list Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses it. Since: 0.1
 */
void khonsu_prepared_list_free(struct khonsu_prepared_list *list);

/**
 * Imports a schema.
 *
 * @param[in]  schema That of a struct, whose children are the columns. Not NULL; consumed on every return, success or
 *                    failure: its release is NULL then.
 * @param[out] out    Not NULL. The schema, owned by the caller: free it with khonsu_schema_free. NULL on failure.
 * @param[out] error  May be NULL.
 * @return
 * - KHONSU_STATUS_OK: imported.
 * - KHONSU_STATUS_INVALID_ARGUMENT: schema or out is NULL, or schema is released, malformed, of an unknown format, or
 *   nested too deep.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Threads: any. Since: 0.1
 */
khonsu_status khonsu_schema_import(struct ArrowSchema *schema, struct khonsu_schema **out, struct khonsu_error **error);

/**
 * Exports a schema, equal to the one imported, metadata included.
 *
 * @param[in]  schema     Not NULL.
 * @param[out] out_schema Not NULL. Owned by the caller, who releases it; valid after the handle is freed, on any
 *                        thread.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: exported.
 * - KHONSU_STATUS_INVALID_ARGUMENT: schema or out_schema is NULL.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure release is NULL in out_schema. Threads: any number at once. Since: 0.1
 */
khonsu_status khonsu_schema_export(const struct khonsu_schema *schema,
                                   struct ArrowSchema *out_schema,
                                   struct khonsu_error **error);

/**
 * Frees an imported schema. Values put with it are not affected.
 *
 * @param[in] schema Consumed; NULL does nothing.
 *
 * Threads: once, by any thread, when no other uses the handle. Since: 0.1
 */
void khonsu_schema_free(struct khonsu_schema *schema);

/**
 * Opens an Arrow IPC file, in the file or the stream format, as a stream of its record batches. Which format it is,
 * and how it is compressed, is found out from the file.
 *
 * @param[in]  path       Ends with a NUL; borrowed for the call; not NULL. Bytes as the system takes them; UTF-8 on
 *                        Windows.
 * @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it; one thread at a time, any thread.
 *                        Batches are read as they are asked for; where the file turns out damaged, get_next fails with
 *                        EIO, and get_last_error says what is wrong.
 * @param[out] error      May be NULL.
 * @return
 * - KHONSU_STATUS_OK: opened.
 * - KHONSU_STATUS_INVALID_ARGUMENT: path or out_stream is NULL, or path is empty.
 * - KHONSU_STATUS_STORAGE: the file cannot be opened or read.
 * - KHONSU_STATUS_CORRUPTION: it is no Arrow IPC file, or a damaged one.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream. Threads: any. Since: 0.1
 */
khonsu_status khonsu_ipc_open_stream(const char *path,
                                     struct ArrowArrayStream *out_stream,
                                     struct khonsu_error **error);

/**
 * Writes all batches of a stream to an Arrow IPC file. It is written beside path, synced, and takes its name when it
 * is complete: a file that was there stays whole until then. In the file format, batches with dictionaries are held in
 * memory and written as one.
 *
 * @param[in]  path        Ends with a NUL; borrowed for the call; not NULL. Bytes as the system takes them; UTF-8 on
 *                         Windows.
 * @param[in]  stream      Not NULL; read to its end and consumed on every return, success or failure: its release is
 *                         NULL then.
 * @param[in]  format      A khonsu_ipc_format.
 * @param[in]  compression A khonsu_ipc_compression.
 * @param[out] error       May be NULL.
 * @return
 * - KHONSU_STATUS_OK: written.
 * - KHONSU_STATUS_INVALID_ARGUMENT: path or stream is NULL, path is empty, format or compression is none of its enum,
 *   stream is released or lacks a callback, what it gives is malformed or of a type that Arrow IPC does not have, or
 *   it failed with EINVAL.
 * - KHONSU_STATUS_STORAGE: the file cannot be written, or the stream failed in another way than those named here.
 * - KHONSU_STATUS_CORRUPTION: the stream came from khonsu_ipc_open_stream, and its file is damaged.
 * - KHONSU_STATUS_LIMIT_EXCEEDED: dictionaries are too large to be written as one, or the stream failed with ENOMEM.
 * - KHONSU_STATUS_PANIC: a defect in khonsu.
 *
 * On failure what was at path is as before. Threads: any. Since: 0.1
 */
khonsu_status khonsu_ipc_write_stream(const char *path,
                                      struct ArrowArrayStream *stream,
                                      int32_t format,
                                      int32_t compression,
                                      struct khonsu_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KHONSU_H */
