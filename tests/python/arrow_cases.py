"""One record batch for every Arrow type that pyarrow can make, and for the shapes that batches come in."""

import decimal

import pyarrow as pa

ROWS = 12


class PointType(pa.ExtensionType):
    """An extension type that khonsu has never heard of."""

    def __init__(self):
        super().__init__(pa.list_(pa.float64(), 2), "khonsu.tests.point")

    def __arrow_ext_serialize__(self):
        return b"\x00any bytes but UTF-8 ones are text here"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        assert serialized == cls().__arrow_ext_serialize__()
        return cls()


pa.register_extension_type(PointType())


def _every(count, make):
    """`count` values, of which every third is null."""
    return [None if i % 3 == 2 else make(i) for i in range(count)]


def _integers(data_type, low, high):
    return pa.array([low, None, high, 0, 1, None, 2, high - 1, low + 1, 3, None, 5], data_type)


def _decimals(data_type):
    with decimal.localcontext(decimal.Context(prec=100)):
        unit = decimal.Decimal(1).scaleb(-data_type.scale)
        return pa.array(_every(ROWS, lambda i: (i * i - 50) * unit), data_type)


def _texts(data_type):
    # Short ones live inside a view, long ones in a buffer of their own.
    values = ["", "a", "twelve bytes", "thirteen byte", "\u00e9\U0001f980 not only ASCII, and longer than twelve", "x" * 300]
    return pa.array([None if i % 5 == 4 else values[i % len(values)] for i in range(ROWS)], data_type)


def _bytes(data_type):
    values = [b"", b"\x00", b"\xff\xfe", b"twelve bytes", b"\x80" * 200]
    return pa.array([None if i % 7 == 6 else values[i % len(values)] for i in range(ROWS)], data_type)


def _lists(data_type):
    return pa.array([None if i % 4 == 3 else [None if j == 1 else i * 10 + j for j in range(i % 5)] for i in range(ROWS)], data_type)


def _structs():
    data_type = pa.struct([pa.field("x", pa.int32(), nullable=False), ("y", pa.string())])
    return pa.array(_every(ROWS, lambda i: {"x": i, "y": None if i % 2 else f"y{i}"}), data_type)


def _run_ends(run_end_type, values):
    ends = pa.array([(i + 1) * 3 for i in range(len(values))], run_end_type)
    return pa.RunEndEncodedArray.from_arrays(ends, values)


def _sparse_union():
    types = pa.array([0, 1, 2] * (ROWS // 3), pa.int8())
    children = [_integers(pa.int32(), -9, 9), _texts(pa.string()), pa.nulls(ROWS, pa.bool_())]
    return pa.UnionArray.from_sparse(types, children, ["number", "text", "nothing"])


def _dense_union():
    types = pa.array([5, 7, 5] * (ROWS // 3), pa.int8())
    counts = {5: 0, 7: 0}
    offsets = []
    for code in types.to_pylist():
        offsets.append(counts[code])
        counts[code] += 1
    children = [_integers(pa.int64(), -9, 9), pa.array([f"text {i}" for i in range(ROWS)])]
    return pa.UnionArray.from_dense(types, pa.array(offsets, pa.int32()), children, ["number", "text"], [5, 7])


def _dictionary(index_type, values, ordered=False):
    indices = pa.array([None if i % 6 == 5 else i % len(values) for i in range(ROWS)], index_type)
    return pa.DictionaryArray.from_arrays(indices, values, ordered=ordered)


def _columns():
    text = pa.array(["north", "south", "east", "west"])
    columns = {
        "null": pa.nulls(ROWS),
        "bool": pa.array(_every(ROWS, lambda i: i % 2 == 0)),
        "int8": _integers(pa.int8(), -(2**7), 2**7 - 1),
        "int16": _integers(pa.int16(), -(2**15), 2**15 - 1),
        "int32": _integers(pa.int32(), -(2**31), 2**31 - 1),
        "int64": _integers(pa.int64(), -(2**63), 2**63 - 1),
        "uint8": _integers(pa.uint8(), 0, 2**8 - 1),
        "uint16": _integers(pa.uint16(), 0, 2**16 - 1),
        "uint32": _integers(pa.uint32(), 0, 2**32 - 1),
        "uint64": _integers(pa.uint64(), 0, 2**64 - 1),
        "float16": pa.array(_every(ROWS, lambda i: i * 0.5), pa.float16()),
        "float32": pa.array(_every(ROWS, lambda i: i * 0.25 - 1), pa.float32()),
        "float64": pa.array([0.0, -0.0, 1e300, -1e-300, float("inf"), float("-inf"), None, 1.5, 2.5, 3.5, None, 9.0]),
        "decimal32": _decimals(pa.decimal32(7, 2)),
        "decimal64": _decimals(pa.decimal64(18, 3)),
        "decimal128": _decimals(pa.decimal128(38, 10)),
        "decimal128_negative_scale": _decimals(pa.decimal128(20, -3)),
        "decimal256": _decimals(pa.decimal256(76, 20)),
        "date32": pa.array(_every(ROWS, lambda i: i * 1000 - 5000), pa.date32()),
        "date64": pa.array(_every(ROWS, lambda i: (i * 1000 - 5000) * 86400000), pa.date64()),
        "month_day_nano_interval": pa.array(_every(ROWS, lambda i: (i, -i, i * 10**9)), pa.month_day_nano_interval()),
        "binary": _bytes(pa.binary()),
        "large_binary": _bytes(pa.large_binary()),
        "binary_view": _bytes(pa.binary_view()),
        "fixed_size_binary": pa.array(_every(ROWS, lambda i: bytes([i, 0, 255])), pa.binary(3)),
        "string": _texts(pa.string()),
        "large_string": _texts(pa.large_string()),
        "string_view": _texts(pa.string_view()),
        "list": _lists(pa.list_(pa.int32())),
        "large_list": _lists(pa.large_list(pa.int64())),
        "list_view": _lists(pa.list_view(pa.int16())),
        "large_list_view": _lists(pa.large_list_view(pa.float64())),
        "fixed_size_list": pa.array(_every(ROWS, lambda i: [i, None, i + 2]), pa.list_(pa.int32(), 3)),
        "list_of_not_null": pa.array(
            _every(ROWS, lambda i: list(range(i))), pa.list_(pa.field("element", pa.int8(), nullable=False))
        ),
        "struct": _structs(),
        "struct_of_nothing": pa.array(_every(ROWS, lambda i: {}), pa.struct([])),
        "map": pa.array(_every(ROWS, lambda i: [(f"key {j}", j) for j in range(i % 4)]), pa.map_(pa.string(), pa.int32())),
        "map_sorted": pa.array(
            _every(ROWS, lambda i: [(j, None if j == 1 else "v") for j in range(i % 4)]),
            pa.map_(pa.int16(), pa.string_view(), keys_sorted=True),
        ),
        "dictionary_ordered": _dictionary(pa.int8(), text, ordered=True),
        "dictionary_of_large_string": _dictionary(pa.int32(), text.cast(pa.large_string())),
        "dictionary_of_int64": _dictionary(pa.uint8(), pa.array([10**18, -1, 0])),
        "dictionary_with_null": _dictionary(pa.int16(), pa.array(["a", None, "c"])),
        "run_end_encoded_int16": _run_ends(pa.int16(), pa.array(["a", None, "c", "a"])),
        "run_end_encoded_int32": _run_ends(pa.int32(), pa.array([1.5, 2.5, None, 3.5])),
        "run_end_encoded_int64": _run_ends(pa.int64(), pa.array([True, False, None, True])),
        "sparse_union": _sparse_union(),
        "dense_union": _dense_union(),
        "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(_every(ROWS, lambda i: bytes([i] * 16)), pa.binary(16))),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(_every(ROWS, lambda i: f'{{"i": {i}}}'), pa.string())),
        "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array(_every(ROWS, lambda i: i % 2), pa.int8())),
        "fixed_shape_tensor": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [2, 2]),
            pa.array(_every(ROWS, lambda i: [i, 1, 2, 3]), pa.list_(pa.float32(), 4)),
        ),
        "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "geometry", "nobody"), _bytes(pa.binary())),
        "own_extension": pa.ExtensionArray.from_storage(
            PointType(), pa.array(_every(ROWS, lambda i: [i, -i]), pa.list_(pa.float64(), 2))
        ),
        "list_of_struct_of_list": pa.array(
            _every(ROWS, lambda i: [{"a": list(range(j)), "b": {"c": None if j else "c"}} for j in range(i % 3)]),
            pa.list_(pa.struct([("a", pa.list_(pa.int32())), ("b", pa.struct([("c", pa.string())]))])),
        ),
        "list_of_dictionary": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), _dictionary(pa.int8(), text)),
        "map_of_list_of_string_view": pa.array(
            _every(ROWS, lambda i: [(i, ["long enough not to be inside the view", None, "short"])]),
            pa.map_(pa.int64(), pa.list_(pa.string_view())),
        ),
        "list_view_of_struct": pa.array(
            _every(ROWS, lambda i: [{"a": j} for j in range(i % 3)]), pa.list_view(pa.struct([("a", pa.int64())]))
        ),
        "dictionary_of_list": pa.DictionaryArray.from_arrays(
            pa.array([i % 2 for i in range(ROWS)], pa.int8()), pa.array([[1, 2], [3]], pa.list_(pa.int32()))
        ),
    }
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Amsterdam", "+02:30"):
            name = f"timestamp_{unit}_{(zone or 'no_zone').replace('/', '_').replace('+', 'plus_').replace(':', '_')}"
            columns[name] = pa.array(_every(ROWS, lambda i: i * 10**9), pa.timestamp(unit, zone))
        columns[f"duration_{unit}"] = pa.array(_every(ROWS, lambda i: i * 10**6 - 3000), pa.duration(unit))
    for unit in ("s", "ms"):
        columns[f"time32_{unit}"] = pa.array(_every(ROWS, lambda i: i * 1000), pa.time32(unit))
    for unit in ("us", "ns"):
        columns[f"time64_{unit}"] = pa.array(_every(ROWS, lambda i: i * 10**9), pa.time64(unit))
    for bits in (8, 16, 32, 64):
        columns[f"dictionary_int{bits}"] = _dictionary(getattr(pa, f"int{bits}")(), text)
        columns[f"dictionary_uint{bits}"] = _dictionary(getattr(pa, f"uint{bits}")(), text)
    return columns


COLUMNS = _columns()
assert all(len(column) == ROWS for column in COLUMNS.values()), [n for n, c in COLUMNS.items() if len(c) != ROWS]


def batch_of(column):
    """The column between two others, so that what is read of it cannot leak into its neighbours unseen."""
    before = pa.array(range(len(column)), pa.int16())
    after = pa.array([f"after {i}" for i in range(len(column))])
    return pa.RecordBatch.from_arrays([before, column, after], ["before", "column", "after"])


def _shapes():
    wide = pa.RecordBatch.from_arrays([pa.array([i, i + 1], pa.int64()) for i in range(500)], [f"c{i}" for i in range(500)])
    mixed = pa.RecordBatch.from_arrays([COLUMNS["string"], COLUMNS["int8"], COLUMNS["list"]], ["a", "b", "c"])
    everything = pa.RecordBatch.from_arrays(list(COLUMNS.values()), list(COLUMNS))
    with_metadata = pa.schema(
        [
            pa.field("a", pa.string(), metadata={"field": "metadata", "empty": ""}),
            pa.field("b", pa.int8(), nullable=True, metadata={b"unicode": "\u00e9".encode()}),
            pa.field("c", pa.list_(pa.field("item", pa.int32(), metadata={"nested": "metadata"}))),
        ],
        metadata={"schema": "metadata", "second": "x" * 1000, "": "a key of no bytes"},
    )
    big = pa.array(range(100_000), pa.int64())
    return {
        "no_columns_no_rows": pa.RecordBatch.from_arrays([], schema=pa.schema([])),
        "no_columns_but_rows": pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([]))),
        "no_columns_with_metadata": pa.RecordBatch.from_arrays([], schema=pa.schema([], metadata={"only": "metadata"})),
        "no_rows": mixed.slice(0, 0),
        "no_rows_at_an_offset": mixed.slice(ROWS, 0),
        "one_row": mixed.slice(0, 1),
        "metadata": pa.RecordBatch.from_arrays(mixed.columns, schema=with_metadata),
        "same_names_twice": pa.RecordBatch.from_arrays([big.slice(0, 3), big.slice(3, 3)], ["same", "same"]),
        "names_of_all_kinds": pa.RecordBatch.from_arrays(
            [big.slice(0, 1)] * 4, ["", "with space", "\u00e9\U0001f980", "key"]
        ),
        "not_nullable": pa.RecordBatch.from_arrays(
            [big.slice(0, 4)], schema=pa.schema([pa.field("column", pa.int64(), nullable=False)])
        ),
        "500_columns": wide,
        "every_type_at_once": everything,
        "100000_rows": pa.RecordBatch.from_arrays([big, big.cast(pa.string())], ["n", "text"]),
        "100000_rows_sliced": pa.RecordBatch.from_arrays([big, big.cast(pa.string())], ["n", "text"]).slice(99_001, 777),
        "columns_with_offsets_of_their_own": pa.RecordBatch.from_arrays(
            [COLUMNS["bool"].slice(1, 5), COLUMNS["string"].slice(7, 5), COLUMNS["list"].slice(3, 5)], ["a", "b", "c"]
        ),
        "all_null": pa.RecordBatch.from_arrays(
            [pa.nulls(9, pa.string()), pa.nulls(9, pa.list_(pa.int8())), pa.nulls(9, pa.struct([("a", pa.bool_())]))],
            ["a", "b", "c"],
        ),
    }


SHAPES = _shapes()


def _cases():
    cases = {}
    for name, column in COLUMNS.items():
        batch = batch_of(column)
        cases[name] = batch
        # Offsets that are no multiple of 8 move every bitmap within its bytes.
        cases[f"{name}__sliced"] = batch.slice(3, 7)
        cases[f"{name}__empty"] = batch.slice(5, 0)
    for name, batch in SHAPES.items():
        cases[f"shape_{name}"] = batch
    return cases


CASES = _cases()


def parametrized(cases):
    """For a method `test_x(self, case)`: marks it so that `expand` makes one test of it for each case."""

    def mark(method):
        method.cases = cases
        return method

    return mark


def expand(test_class):
    """Class decorator: replaces each marked method by one for each case, for unittest and pytest alike."""
    for name, method in list(vars(test_class).items()):
        if not hasattr(method, "cases"):
            continue
        delattr(test_class, name)
        for case_name, case in method.cases.items():

            def run(self, method=method, case=case):
                method(self, case)

            run.__name__ = f"{name}__{case_name}"
            run.__doc__ = None
            setattr(test_class, run.__name__, run)
    return test_class
