"""khonsu from Python through ctypes and pyarrow: what the tests need of the C API, as a small reusable module.

The library is found by the environment variable KHONSU_LIBRARY, otherwise in target/release of this repository.
Failures are raised as KhonsuError, which carries the status and the conflicts as data.
"""

import ctypes
import os
import pathlib
from collections import namedtuple
from ctypes import POINTER, byref, c_bool, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

import pyarrow as pa

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
LIBRARY_PATH = os.environ.get("KHONSU_LIBRARY") or str(REPOSITORY / "target" / "release" / "libkhonsu.so")

BUFFERED = 2

OK = 0
NOT_FOUND = 1
CONFLICT = 100
TIMEOUT = 110
CANCELLED = 111
BUSY = 120
INVALID_ARGUMENT = 200
INVALID_STATE = 201
SCHEMA_MISMATCH = 202
LIMIT_EXCEEDED = 203
DUPLICATE = 204
ALREADY_DECIDED = 205
HEURISTIC = 206
STORAGE = 300
CORRUPTION = 301
LOCKED = 302
NOT_DURABLE = 303
PANIC = 900

READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE = 1, 2, 3
FAIL, IGNORE, REPLACE, APPEND = 1, 2, 3, 4
WRITE_WRITE, READ_WRITE, PHANTOM, PREPARED = 1, 2, 3, 4
FORWARD, REVERSE = 0, 1
FILE, STREAM = 1, 2
NONE, LZ4, ZSTD = 0, 1, 2
VOTE_YES, VOTE_READ_ONLY = 1, 2
ALLOW_VOLATILE, HOLD_READS = 1, 2
DECISION_COMMIT, DECISION_ROLLBACK = 1, 2


class ArrowArray(ctypes.Structure):
    """The struct of the Arrow C Data Interface."""


class ArrowSchema(ctypes.Structure):
    """The struct of the Arrow C Data Interface."""


class ArrowArrayStream(ctypes.Structure):
    """The struct of the Arrow C Stream Interface."""


ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(ArrowArray))),
    ("dictionary", POINTER(ArrowArray)),
    ("release", ctypes.CFUNCTYPE(None, POINTER(ArrowArray))),
    ("private_data", c_void_p),
]
ArrowSchema._fields_ = [
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", POINTER(POINTER(ArrowSchema))),
    ("dictionary", POINTER(ArrowSchema)),
    ("release", ctypes.CFUNCTYPE(None, POINTER(ArrowSchema))),
    ("private_data", c_void_p),
]
ArrowArrayStream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(c_int32, POINTER(ArrowArrayStream), POINTER(ArrowSchema))),
    ("get_next", ctypes.CFUNCTYPE(c_int32, POINTER(ArrowArrayStream), POINTER(ArrowArray))),
    ("get_last_error", ctypes.CFUNCTYPE(c_char_p, POINTER(ArrowArrayStream))),
    ("release", ctypes.CFUNCTYPE(None, POINTER(ArrowArrayStream))),
    ("private_data", c_void_p),
]


class ConflictRecord(ctypes.Structure):
    """khonsu_conflict."""

    _fields_ = [
        ("kind", c_int32),
        ("has_range", c_int32),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("range_start", c_void_p),
        ("range_start_len", c_size_t),
        ("range_end", c_void_p),
        ("range_end_len", c_size_t),
        ("version", c_uint64),
        ("global_id", c_void_p),
        ("global_id_len", c_size_t),
    ]


class PreparedRecord(ctypes.Structure):
    """khonsu_prepared_info."""

    _fields_ = [
        ("global_id", c_void_p),
        ("global_id_len", c_size_t),
        ("time_micros", ctypes.c_int64),
        ("state", c_int32),
        ("reserved", c_int32),
        ("written_keys", c_uint64),
        ("bytes", c_uint64),
    ]


STATS_FIELDS = (
    "keys",
    "versions",
    "live_bytes",
    "pinned_bytes",
    "active_transactions",
    "oldest_snapshot",
    "version",
    "commits",
    "rollbacks",
    "conflicts_write_write",
    "conflicts_read_write",
    "conflicts_phantom",
    "conflicts_prepared",
    "retries",
    "resident_bytes",
    "cold_bytes",
    "cold_reads",
    "prepared_transactions",
    "prepared_bytes",
    "oldest_prepared_micros",
    "remembered_outcomes",
)


class StatsRecord(ctypes.Structure):
    """khonsu_stats."""

    _fields_ = [(name, c_uint64) for name in STATS_FIELDS]


PROGRESS_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint64)
TRANSACT_FUNCTION = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p)

_KEY = (c_void_p, c_size_t)
_KEYS = (POINTER(c_char_p), POINTER(c_size_t))
_ERROR = POINTER(c_void_p)
_HANDLE_OUT = POINTER(c_void_p)
_ARRAY = POINTER(ArrowArray)
_SCHEMA = POINTER(ArrowSchema)
_ARROW_STREAM = POINTER(ArrowArrayStream)

# name: (result, arguments)
PROTOTYPES = {
    "khonsu_version": (c_char_p, ()),
    "khonsu_status_name": (c_char_p, (c_int32,)),
    "khonsu_status_is_retryable": (c_bool, (c_int32,)),
    "khonsu_error_status": (c_int32, (c_void_p,)),
    "khonsu_error_message": (c_char_p, (c_void_p,)),
    "khonsu_error_conflict_count": (c_size_t, (c_void_p,)),
    "khonsu_error_conflict": (c_int32, (c_void_p, c_size_t, POINTER(ConflictRecord), c_size_t)),
    "khonsu_error_decision": (c_int32, (c_void_p,)),
    "khonsu_error_free": (None, (c_void_p,)),
    "khonsu_options_new": (c_void_p, ()),
    "khonsu_options_set_isolation": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_options_set_conflict_resolution": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_options_set_max_transaction_bytes": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_options_set_max_total_bytes": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_options_set_full_validation": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_options_set_path": (c_int32, (c_void_p, c_char_p, _ERROR)),
    "khonsu_options_set_durability": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_options_set_open_progress": (c_int32, (c_void_p, PROGRESS_FUNCTION, c_void_p, _ERROR)),
    "khonsu_options_set_memory_budget": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_options_set_storage": (c_int32, (c_void_p, c_void_p, _ERROR)),
    "khonsu_options_free": (None, (c_void_p,)),
    "khonsu_txn_options_new": (c_void_p, ()),
    "khonsu_txn_options_set_isolation": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_txn_options_set_conflict_resolution": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_txn_options_set_read_only": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_txn_options_set_max_bytes": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_txn_options_set_max_attempts": (c_int32, (c_void_p, c_uint32, _ERROR)),
    "khonsu_txn_options_set_timeout_ms": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_txn_options_set_backoff_us": (c_int32, (c_void_p, c_uint64, c_uint64, _ERROR)),
    "khonsu_txn_options_set_durability": (c_int32, (c_void_p, c_int32, _ERROR)),
    "khonsu_txn_options_free": (None, (c_void_p,)),
    "khonsu_db_open": (c_int32, (c_void_p, _HANDLE_OUT, _ERROR)),
    "khonsu_db_begin": (c_int32, (c_void_p, c_void_p, _HANDLE_OUT, _ERROR)),
    "khonsu_db_transact": (
        c_int32,
        (c_void_p, c_void_p, TRANSACT_FUNCTION, c_void_p, POINTER(c_uint64), _ERROR),
    ),
    "khonsu_db_stats": (c_int32, (c_void_p, POINTER(StatsRecord), c_size_t, _ERROR)),
    "khonsu_db_sync": (c_int32, (c_void_p, _ERROR)),
    "khonsu_db_checkpoint": (c_int32, (c_void_p, _ERROR)),
    "khonsu_db_backup": (c_int32, (c_void_p, c_char_p, _ERROR)),
    "khonsu_db_export": (c_int32, (c_void_p, c_char_p, _ERROR)),
    "khonsu_db_import": (c_int32, (c_void_p, c_char_p, _ERROR)),
    "khonsu_db_free": (None, (c_void_p,)),
    "khonsu_txn_get": (c_int32, (c_void_p, *_KEY, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_txn_get_with_schema": (c_int32, (c_void_p, *_KEY, c_void_p, _ARRAY, _ERROR)),
    "khonsu_txn_get_stream": (c_int32, (c_void_p, *_KEY, _ARROW_STREAM, _ERROR)),
    "khonsu_txn_exists": (c_int32, (c_void_p, *_KEY, POINTER(c_bool), _ERROR)),
    "khonsu_txn_put": (c_int32, (c_void_p, *_KEY, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_txn_put_with_schema": (c_int32, (c_void_p, *_KEY, _ARRAY, c_void_p, _ERROR)),
    "khonsu_txn_put_stream": (c_int32, (c_void_p, *_KEY, _ARROW_STREAM, _ERROR)),
    "khonsu_txn_append": (c_int32, (c_void_p, *_KEY, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_txn_append_with_schema": (c_int32, (c_void_p, *_KEY, _ARRAY, c_void_p, _ERROR)),
    "khonsu_txn_delete": (c_int32, (c_void_p, *_KEY, _ERROR)),
    "khonsu_txn_set_conflict_resolution": (c_int32, (c_void_p, *_KEY, c_int32, _ERROR)),
    "khonsu_txn_scan": (c_int32, (c_void_p, *_KEY, *_KEY, c_int32, c_uint64, _HANDLE_OUT, _ERROR)),
    "khonsu_txn_scan_prefix": (c_int32, (c_void_p, *_KEY, c_int32, c_uint64, _HANDLE_OUT, _ERROR)),
    "khonsu_txn_scan_stream": (c_int32, (c_void_p, *_KEY, *_KEY, c_int32, c_uint64, _ARROW_STREAM, _ERROR)),
    "khonsu_key_bind": (c_int32, (c_void_p, *_KEY, _HANDLE_OUT, _ERROR)),
    "khonsu_key_free": (None, (c_void_p,)),
    "khonsu_txn_get_bound": (c_int32, (c_void_p, c_void_p, c_void_p, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_txn_exists_bound": (c_int32, (c_void_p, c_void_p, POINTER(c_bool), _ERROR)),
    "khonsu_txn_put_bound": (c_int32, (c_void_p, c_void_p, _ARRAY, c_void_p, _ERROR)),
    "khonsu_txn_append_bound": (c_int32, (c_void_p, c_void_p, _ARRAY, c_void_p, _ERROR)),
    "khonsu_txn_delete_bound": (c_int32, (c_void_p, c_void_p, _ERROR)),
    "khonsu_txn_get_many": (c_int32, (c_void_p, *_KEYS, c_size_t, c_void_p, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_txn_get_many_bound": (
        c_int32,
        (c_void_p, POINTER(c_void_p), c_size_t, c_void_p, _ARRAY, _SCHEMA, _ERROR),
    ),
    "khonsu_txn_get_many_stream": (c_int32, (c_void_p, *_KEYS, c_size_t, POINTER(c_bool), _ARROW_STREAM, _ERROR)),
    "khonsu_txn_savepoint": (c_int32, (c_void_p, POINTER(c_uint64), _ERROR)),
    "khonsu_txn_rollback_to": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_txn_release": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_txn_commit": (c_int32, (c_void_p, _ERROR)),
    "khonsu_txn_rollback": (c_int32, (c_void_p, _ERROR)),
    "khonsu_txn_commit_version": (c_int32, (c_void_p, POINTER(c_uint64), _ERROR)),
    "khonsu_txn_free": (None, (c_void_p,)),
    "khonsu_cursor_next": (c_int32, (c_void_p, _ERROR)),
    "khonsu_cursor_key": (c_int32, (c_void_p, POINTER(c_void_p), POINTER(c_size_t), _ERROR)),
    "khonsu_cursor_get": (c_int32, (c_void_p, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_cursor_free": (None, (c_void_p,)),
    "khonsu_txn_prepare": (c_int32, (c_void_p, *_KEY, c_uint32, POINTER(c_int32), _ERROR)),
    "khonsu_db_commit_prepared": (c_int32, (c_void_p, *_KEY, POINTER(c_uint64), _ERROR)),
    "khonsu_db_rollback_prepared": (c_int32, (c_void_p, *_KEY, _ERROR)),
    "khonsu_db_decide_heuristically": (c_int32, (c_void_p, *_KEY, c_int32, _ERROR)),
    "khonsu_db_forget": (c_int32, (c_void_p, *_KEY, _ERROR)),
    "khonsu_db_recover": (c_int32, (c_void_p, _HANDLE_OUT, _ERROR)),
    "khonsu_prepared_list_count": (c_size_t, (c_void_p,)),
    "khonsu_prepared_list_get": (c_int32, (c_void_p, c_size_t, POINTER(PreparedRecord), c_size_t, _ERROR)),
    "khonsu_prepared_list_key": (
        c_int32,
        (c_void_p, c_size_t, c_size_t, POINTER(c_void_p), POINTER(c_size_t), _ERROR),
    ),
    "khonsu_prepared_list_free": (None, (c_void_p,)),
    "khonsu_schema_import": (c_int32, (_SCHEMA, _HANDLE_OUT, _ERROR)),
    "khonsu_schema_export": (c_int32, (c_void_p, _SCHEMA, _ERROR)),
    "khonsu_schema_free": (None, (c_void_p,)),
    "khonsu_ipc_open_stream": (c_int32, (c_char_p, _ARROW_STREAM, _ERROR)),
    "khonsu_mutations_version": (c_uint64, (c_void_p,)),
    "khonsu_mutations_count": (c_size_t, (c_void_p,)),
    "khonsu_mutations_get": (c_int32, (c_void_p, c_size_t, c_void_p, c_size_t, _ERROR)),
    "khonsu_mutations_chunks": (c_int32, (c_void_p, c_size_t, _ARROW_STREAM, _ERROR)),
    "khonsu_loader_put": (c_int32, (c_void_p, *_KEY, c_uint64, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_loader_append": (c_int32, (c_void_p, _ARRAY, _SCHEMA, _ERROR)),
    "khonsu_loader_set_version": (c_int32, (c_void_p, c_uint64, _ERROR)),
    "khonsu_ipc_write_stream": (c_int32, (c_char_p, _ARROW_STREAM, c_int32, c_int32, _ERROR)),
}


def _load():
    # CDLL, not PyDLL: the calls run without the interpreter lock.
    library = ctypes.CDLL(LIBRARY_PATH)
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


library = _load()

Conflict = namedtuple("Conflict", "kind key range version global_id", defaults=(None,))
Prepared = namedtuple("Prepared", "global_id state keys written_keys bytes time_micros")


def version():
    return library.khonsu_version().decode()


def status_name(status):
    return library.khonsu_status_name(status).decode()


class KhonsuError(Exception):
    """A status other than OK and NOT_FOUND: .status, .name, .message, .conflicts, .decision."""

    def __init__(self, status, message, conflicts=(), decision=0):
        super().__init__(f"{status_name(status)}: {message}")
        self.status = status
        self.name = status_name(status)
        self.message = message
        self.conflicts = tuple(conflicts)
        self.decision = decision


def _bytes_at(address, length):
    return None if address is None else ctypes.string_at(address, length)


def _conflict_at(error, index):
    record = ConflictRecord()
    status = library.khonsu_error_conflict(error, index, byref(record), ctypes.sizeof(record))
    assert status == OK, status
    scanned = None
    if record.has_range:
        scanned = (
            _bytes_at(record.range_start, record.range_start_len),
            _bytes_at(record.range_end, record.range_end_len),
        )
    key = _bytes_at(record.key, record.key_len)
    holder = _bytes_at(record.global_id, record.global_id_len)
    return Conflict(record.kind, key, scanned, record.version, holder)


def call(name, *arguments):
    """Calls an export that has an error out-parameter; returns OK or NOT_FOUND and raises everything else."""
    error = c_void_p(0xDEAD)  # a stale value: the library must overwrite it on every call
    status = getattr(library, name)(*arguments, byref(error))
    if status in (OK, NOT_FOUND):
        assert error.value is None, f"{name} returned {status} with an error object"
        return status
    assert error.value is not None, f"{name} returned {status} without an error object"
    try:
        assert library.khonsu_error_status(error) == status
        message = library.khonsu_error_message(error).decode()
        conflicts = [_conflict_at(error, i) for i in range(library.khonsu_error_conflict_count(error))]
        decision = library.khonsu_error_decision(error)
    finally:
        library.khonsu_error_free(error)
    raise KhonsuError(status, message, conflicts, decision)


def _address(struct):
    return ctypes.addressof(struct)


def export_batch(batch):
    """A RecordBatch (or any pyarrow Array) as a pair of C structs that are the caller's."""
    array, schema = ArrowArray(), ArrowSchema()
    batch._export_to_c(_address(array), _address(schema))
    return array, schema


def export_reader(source):
    """A RecordBatchReader, Table or list of batches as a C stream that is the caller's."""
    if isinstance(source, pa.Table):
        source = source.to_reader()
    stream = ArrowArrayStream()
    source._export_to_c(_address(stream))
    return stream


def import_batch(array, schema):
    return pa.RecordBatch._import_from_c(_address(array), _address(schema))


def import_reader(stream):
    return pa.RecordBatchReader._import_from_c(_address(stream))


class _Options:
    def __init__(self, kind, settings):
        self._kind = kind
        self.handle = c_void_p(getattr(library, f"khonsu_{kind}_new")())
        try:
            for name, value in settings.items():
                values = value if isinstance(value, tuple) else (value,)
                call(f"khonsu_{kind}_set_{name}", self.handle, *values)
        except BaseException:
            self.free()
            raise

    def free(self):
        getattr(library, f"khonsu_{self._kind}_free")(self.handle)
        self.handle = c_void_p()

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        self.free()


class _Handle:
    """Owns one handle; close() frees it, and so does the end of a with block."""

    _free = None

    def __init__(self, handle):
        self.handle = handle

    def close(self):
        handle, self.handle = self.handle, c_void_p()
        getattr(library, self._free)(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "handle", None):  # its making may have failed
            self.close()


class Schema(_Handle):
    _free = "khonsu_schema_free"

    def __init__(self, schema):
        exported = ArrowSchema()
        schema._export_to_c(_address(exported))
        handle = c_void_p()
        call("khonsu_schema_import", byref(exported), byref(handle))
        super().__init__(handle)

    def to_pyarrow(self):
        exported = ArrowSchema()
        call("khonsu_schema_export", self.handle, byref(exported))
        return pa.Schema._import_from_c(_address(exported))


class Key(_Handle):
    """A bound key: made by Database.bind."""

    _free = "khonsu_key_free"


class Database(_Handle):
    _free = "khonsu_db_free"

    def __init__(self, **settings):
        handle = c_void_p()
        with _Options("options", settings) as options:
            call("khonsu_db_open", options, byref(handle))
        super().__init__(handle)

    def begin(self, **settings):
        handle = c_void_p()
        with _Options("txn_options", settings) as options:
            call("khonsu_db_begin", self.handle, options, byref(handle))
        return Transaction(handle)

    def bind(self, key):
        handle = c_void_p()
        call("khonsu_key_bind", self.handle, key, len(key), byref(handle))
        return Key(handle)

    def transact(self, function, **settings):
        """Runs function(transaction) until it commits; returns its result and the commit's version."""
        outcome = {}

        def run(handle, _context):
            outcome.clear()
            try:
                outcome["result"] = function(BorrowedTransaction(c_void_p(handle)))
                return OK
            except KhonsuError as error:
                outcome["error"] = error
                return error.status
            except BaseException as error:  # carried over the C frames, raised again below
                outcome["error"] = error
                return CANCELLED

        commit_version = c_uint64()
        with _Options("txn_options", settings) as options:
            try:
                call("khonsu_db_transact", self.handle, options, TRANSACT_FUNCTION(run), None, byref(commit_version))
            except KhonsuError as error:
                cause = outcome.get("error")
                if cause is not None and not isinstance(cause, KhonsuError):
                    raise cause
                raise error from cause
        return outcome["result"], commit_version.value

    def stats(self):
        record = StatsRecord()
        call("khonsu_db_stats", self.handle, byref(record), ctypes.sizeof(record))
        return {name: getattr(record, name) for name in STATS_FIELDS}

    def commit_prepared(self, global_id):
        """The version of the commit; None for an id that is unknown."""
        version = c_uint64()
        found = call("khonsu_db_commit_prepared", self.handle, global_id, len(global_id), byref(version))
        return version.value if found == OK else None

    def rollback_prepared(self, global_id):
        return call("khonsu_db_rollback_prepared", self.handle, global_id, len(global_id)) == OK

    def decide_heuristically(self, global_id, decision):
        return call("khonsu_db_decide_heuristically", self.handle, global_id, len(global_id), decision) == OK

    def forget(self, global_id):
        call("khonsu_db_forget", self.handle, global_id, len(global_id))

    def recover(self):
        """The transactions in doubt, and those decided heuristically and not forgotten."""
        prepared = c_void_p()
        call("khonsu_db_recover", self.handle, byref(prepared))
        try:
            return [self._prepared_at(prepared, i) for i in range(library.khonsu_prepared_list_count(prepared))]
        finally:
            library.khonsu_prepared_list_free(prepared)

    @staticmethod
    def _prepared_at(prepared, index):
        record = PreparedRecord()
        call("khonsu_prepared_list_get", prepared, index, byref(record), ctypes.sizeof(record))
        keys = []
        for number in range(record.written_keys if record.state == 1 else 0):
            address, length = c_void_p(), c_size_t()
            call("khonsu_prepared_list_key", prepared, index, number, byref(address), byref(length))
            keys.append(ctypes.string_at(address.value, length.value))
        global_id = _bytes_at(record.global_id, record.global_id_len)
        return Prepared(global_id, record.state, keys, record.written_keys, record.bytes, record.time_micros)

    def sync(self):
        call("khonsu_db_sync", self.handle)

    def checkpoint(self):
        call("khonsu_db_checkpoint", self.handle)

    def backup(self, path):
        call("khonsu_db_backup", self.handle, os.fsencode(path))

    def export_to(self, path):
        call("khonsu_db_export", self.handle, os.fsencode(path))

    def import_from(self, path):
        call("khonsu_db_import", self.handle, os.fsencode(path))


def _keys(keys):
    """The pointers, the lengths, and how many."""
    return (c_char_p * len(keys))(*keys), (c_size_t * len(keys))(*map(len, keys)), len(keys)


def _bound(key):
    return (None, 0) if key is None else (key, len(key))


class Transaction(_Handle):
    _free = "khonsu_txn_free"

    def __exit__(self, *_):
        self.close()  # rolls back what is still open

    def get(self, key):
        array, schema = ArrowArray(), ArrowSchema()
        if call("khonsu_txn_get", self.handle, key, len(key), byref(array), byref(schema)) == NOT_FOUND:
            return None
        return import_batch(array, schema)

    def get_bound(self, key):
        array, schema = ArrowArray(), ArrowSchema()
        if call("khonsu_txn_get_bound", self.handle, key.handle, None, byref(array), byref(schema)) == NOT_FOUND:
            return None
        return import_batch(array, schema)

    def exists_bound(self, key):
        found = c_bool()
        call("khonsu_txn_exists_bound", self.handle, key.handle, byref(found))
        return found.value

    def put_bound(self, key, batch, schema):
        array, exported = export_batch(batch)
        exported.release(byref(exported))
        call("khonsu_txn_put_bound", self.handle, key.handle, byref(array), schema.handle)

    def append_bound(self, key, batch, schema):
        array, exported = export_batch(batch)
        exported.release(byref(exported))
        call("khonsu_txn_append_bound", self.handle, key.handle, byref(array), schema.handle)

    def delete_bound(self, key):
        call("khonsu_txn_delete_bound", self.handle, key.handle)

    def get_many(self, keys, schema=None):
        """The values of keys, bound ones or bytes; None where there is none."""
        arrays, schemas = (ArrowArray * len(keys))(), (ArrowSchema * len(keys))()
        wanted = None if schema is None else schema.handle
        if keys and isinstance(keys[0], Key):
            handles = (c_void_p * len(keys))(*(key.handle for key in keys))
            call("khonsu_txn_get_many_bound", self.handle, handles, len(keys), wanted, arrays, schemas)
        else:
            call("khonsu_txn_get_many", self.handle, *_keys(keys), wanted, arrays, schemas)
        present = [bool(array.release) for array in arrays]
        assert present == [bool(schema.release) for schema in schemas]
        pairs = zip(present, arrays, schemas)
        return [import_batch(array, schema) if found else None for found, array, schema in pairs]

    def get_many_reader(self, keys):
        """Whether each key has a value, and the entries."""
        stream, present = ArrowArrayStream(), (c_bool * len(keys))()
        call("khonsu_txn_get_many_stream", self.handle, *_keys(keys), present, byref(stream))
        return list(present), import_reader(stream)

    def get_with_schema(self, key, schema):
        array = ArrowArray()
        if call("khonsu_txn_get_with_schema", self.handle, key, len(key), schema.handle, byref(array)) == NOT_FOUND:
            return None
        exported = ArrowSchema()
        call("khonsu_schema_export", schema.handle, byref(exported))
        return import_batch(array, exported)

    def get_reader(self, key):
        stream = ArrowArrayStream()
        if call("khonsu_txn_get_stream", self.handle, key, len(key), byref(stream)) == NOT_FOUND:
            return None
        return import_reader(stream)

    def exists(self, key):
        found = c_bool()
        call("khonsu_txn_exists", self.handle, key, len(key), byref(found))
        return found.value

    def _write(self, name, key, batch, schema):
        array, exported = export_batch(batch)
        if schema is None:
            call(name, self.handle, key, len(key), byref(array), byref(exported))
        else:
            exported.release(byref(exported))
            call(f"{name}_with_schema", self.handle, key, len(key), byref(array), schema.handle)

    def put(self, key, batch, schema=None):
        self._write("khonsu_txn_put", key, batch, schema)

    def append(self, key, batch, schema=None):
        self._write("khonsu_txn_append", key, batch, schema)

    def put_reader(self, key, source):
        stream = export_reader(source)
        call("khonsu_txn_put_stream", self.handle, key, len(key), byref(stream))

    def delete(self, key):
        call("khonsu_txn_delete", self.handle, key, len(key))

    def set_conflict_resolution(self, key, resolution):
        return call("khonsu_txn_set_conflict_resolution", self.handle, key, len(key), resolution) == OK

    def _entries(self, cursor):
        try:
            while call("khonsu_cursor_next", cursor) == OK:
                address, length = c_void_p(), c_size_t()
                call("khonsu_cursor_key", cursor, byref(address), byref(length))
                key = ctypes.string_at(address.value, length.value)
                array, schema = ArrowArray(), ArrowSchema()
                assert call("khonsu_cursor_get", cursor, byref(array), byref(schema)) == OK
                yield key, import_batch(array, schema)
        finally:
            library.khonsu_cursor_free(cursor)

    def scan(self, start=None, end=None, direction=FORWARD, limit=0):
        cursor = c_void_p()
        call("khonsu_txn_scan", self.handle, *_bound(start), *_bound(end), direction, limit, byref(cursor))
        return self._entries(cursor)

    def scan_prefix(self, prefix, direction=FORWARD, limit=0):
        cursor = c_void_p()
        call("khonsu_txn_scan_prefix", self.handle, prefix, len(prefix), direction, limit, byref(cursor))
        return self._entries(cursor)

    def scan_reader(self, start=None, end=None, direction=FORWARD, limit=0):
        stream = ArrowArrayStream()
        call("khonsu_txn_scan_stream", self.handle, *_bound(start), *_bound(end), direction, limit, byref(stream))
        return import_reader(stream)

    def savepoint(self):
        savepoint = c_uint64()
        call("khonsu_txn_savepoint", self.handle, byref(savepoint))
        return savepoint.value

    def rollback_to(self, savepoint):
        call("khonsu_txn_rollback_to", self.handle, savepoint)

    def release(self, savepoint):
        call("khonsu_txn_release", self.handle, savepoint)

    def commit(self):
        call("khonsu_txn_commit", self.handle)

    def rollback(self):
        call("khonsu_txn_rollback", self.handle)

    def prepare(self, global_id, flags=0):
        vote = c_int32()
        call("khonsu_txn_prepare", self.handle, global_id, len(global_id), flags, byref(vote))
        return vote.value

    def commit_version(self):
        result = c_uint64()
        call("khonsu_txn_commit_version", self.handle, byref(result))
        return result.value


class BorrowedTransaction(Transaction):
    """The transaction of a transact call, which frees it itself."""

    def close(self):
        self.handle = c_void_p()


def ipc_open(path):
    stream = ArrowArrayStream()
    call("khonsu_ipc_open_stream", os.fsencode(path), byref(stream))
    return import_reader(stream)


def ipc_write(path, source, format=FILE, compression=NONE):
    stream = export_reader(source)
    call("khonsu_ipc_write_stream", os.fsencode(path), byref(stream), format, compression)
