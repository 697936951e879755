"""Every Arrow type and every shape of batch through every way in and out, equal to what went in, metadata included."""

import os
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.ipc

import khonsu_ctypes as khonsu
from arrow_cases import CASES, COLUMNS, ROWS, SHAPES, batch_of, expand, parametrized


class SameBatches(unittest.TestCase):
    def assert_same(self, expected, actual):
        self.assertTrue(expected.schema.equals(actual.schema, check_metadata=True), f"{expected.schema}\n!=\n{actual.schema}")
        self.assertEqual(expected.num_rows, actual.num_rows)
        actual.validate(full=True)
        if not expected.equals(actual, check_metadata=True):
            self.fail(f"{expected.to_pylist()}\n!=\n{actual.to_pylist()}")

    def assert_same_values(self, expected, actual):
        """Equal, but dictionaries and runs may be arranged in another way."""
        self.assertTrue(expected.schema.equals(actual.schema, check_metadata=True), f"{expected.schema}\n!=\n{actual.schema}")
        self.assertEqual(expected.num_rows, actual.num_rows)
        actual.validate(full=True)
        self.assertEqual(rows_of(expected), rows_of(actual))


def rows_of(batch):
    # By column: names need not be unique.
    return [column.to_pylist() for column in batch.columns]


def concatenated(batches):
    return [value for column in zip(*[rows_of(batch) for batch in batches]) for value in [sum(column, [])]]


@expand
class RoundTrips(SameBatches):
    def setUp(self):
        self.db = khonsu.Database(full_validation=1)
        self.addCleanup(self.db.close)

    @parametrized(CASES)
    def test_put_and_get(self, batch):
        with self.db.begin() as txn:
            txn.put(b"key", batch)
            staged = txn.get(b"key")
            txn.commit()
        with self.db.begin() as txn:
            committed = txn.get(b"key")
        self.assert_same(batch, staged)
        self.assert_same(batch, committed)

    @parametrized(CASES)
    def test_without_full_validation(self, batch):
        with khonsu.Database() as db, db.begin() as txn:
            txn.put(b"key", batch)
            result = txn.get(b"key")
        self.assert_same(batch, result)

    @parametrized(CASES)
    def test_schema_handle(self, batch):
        with khonsu.Schema(batch.schema) as schema, self.db.begin() as txn:
            self.assertTrue(batch.schema.equals(schema.to_pyarrow(), check_metadata=True))
            txn.put(b"key", batch, schema)
            result = txn.get_with_schema(b"key", schema)
        self.assert_same(batch, result)

    @parametrized(CASES)
    def test_append(self, batch):
        # Two chunks of different offsets, joined by the library.
        first = batch.slice(0, batch.num_rows // 2)
        second = batch.slice(batch.num_rows // 2)
        with self.db.begin() as txn:
            txn.append(b"key", first)
            txn.append(b"key", second)
            staged = txn.get(b"key")
            txn.commit()
        with self.db.begin() as txn:
            txn.append(b"key", batch)
            txn.commit()
        with self.db.begin(read_only=1) as txn:
            committed = txn.get(b"key")
            chunks = list(txn.get_reader(b"key"))
        self.assert_same_values(batch, staged)
        self.assertTrue(batch.schema.equals(committed.schema, check_metadata=True))
        committed.validate(full=True)
        self.assertEqual(2 * batch.num_rows, committed.num_rows)
        self.assertEqual(concatenated([batch, batch]), rows_of(committed))
        self.assertEqual(2 * batch.num_rows, sum(chunk.num_rows for chunk in chunks))
        self.assertEqual(concatenated([batch, batch]), concatenated(chunks))

    @parametrized(CASES)
    def test_streams(self, batch):
        parts = [batch.slice(0, 2), batch.slice(2), batch]
        with self.db.begin() as txn:
            txn.put_reader(b"key", pa.RecordBatchReader.from_batches(batch.schema, parts))
            reader = txn.get_reader(b"key")
            self.assertTrue(batch.schema.equals(reader.schema, check_metadata=True))
            for expected, actual in zip(parts, reader, strict=True):
                self.assert_same(expected, actual)

    @parametrized(CASES)
    def test_stream_without_batches(self, batch):
        with self.db.begin() as txn:
            txn.put_reader(b"key", pa.RecordBatchReader.from_batches(batch.schema, []))
            result = txn.get(b"key")
        self.assertTrue(batch.schema.equals(result.schema, check_metadata=True))
        self.assertEqual(0, result.num_rows)
        result.validate(full=True)

    @parametrized(CASES)
    def test_scan_stream(self, batch):
        keys = [b"a", b"b", b"c"]
        with self.db.begin() as txn:
            for key in keys:
                txn.put(key, batch)
            table = txn.scan_reader().read_all()
        table.validate(full=True)
        field = table.schema.field(0)
        self.assertEqual(("key", pa.binary(), False), (field.name, field.type, field.nullable))
        columns = pa.schema([table.schema.field(i) for i in range(1, len(table.schema.names))])
        self.assertTrue(columns.equals(batch.schema.remove_metadata(), check_metadata=True), f"{columns}\n{batch.schema}")
        self.assertEqual([key for key in keys for _ in range(batch.num_rows)], table.column(0).to_pylist())
        values = [column.to_pylist() for column in table.columns[1:]]
        self.assertEqual(concatenated([batch] * 3), values)

    def test_addresses_of_large_buffers(self):
        """What goes in comes out at the same address."""
        column = pa.array(range(1_000_000), pa.int64())
        batch = pa.RecordBatch.from_arrays([column], ["n"])
        with self.db.begin() as txn:
            txn.put(b"key", batch)
            txn.commit()
        with self.db.begin() as txn:
            result = txn.get(b"key")
        self.assertEqual(column.buffers()[1].address, result.column(0).buffers()[1].address)


@expand
class Refusals(unittest.TestCase):
    ARRAYS = {
        "int64": pa.array([1, 2, 3]),
        "string": pa.array(["a"]),
        "list": pa.array([[1]]),
        "struct_with_a_null": pa.array([{"a": 1}, None]),
        "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    }

    @parametrized(ARRAYS)
    def test_no_record_batch(self, array):
        with khonsu.Database() as db, db.begin() as txn:
            with self.assertRaises(khonsu.KhonsuError) as raised:
                txn.put(b"key", array)
            self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
            self.assertIsNone(txn.get(b"key"))
            txn.commit()

    def test_another_schema(self):
        one, other = batch_of(COLUMNS["int8"]), batch_of(COLUMNS["int16"])
        renamed = one.rename_columns(["a", "b", "c"])
        not_null = pa.RecordBatch.from_arrays(
            one.columns[:1], schema=pa.schema([pa.field("before", pa.int16(), nullable=False)])
        )
        marked = one.replace_schema_metadata({"some": "metadata"})
        with khonsu.Database() as db, db.begin() as txn:
            txn.put(b"key", one)
            for wrong in (other, renamed, not_null, marked):
                with self.assertRaises(khonsu.KhonsuError) as raised:
                    txn.append(b"key", wrong)
                self.assertEqual(khonsu.SCHEMA_MISMATCH, raised.exception.status)
                with khonsu.Schema(wrong.schema) as schema, self.assertRaises(khonsu.KhonsuError) as raised:
                    txn.get_with_schema(b"key", schema)
                self.assertEqual(khonsu.SCHEMA_MISMATCH, raised.exception.status)
            self.assertTrue(one.equals(txn.get(b"key")))
            txn.put(b"other key", other)
            with self.assertRaises(khonsu.KhonsuError) as raised:
                txn.scan_reader().read_all()
            self.assertEqual(khonsu.SCHEMA_MISMATCH, raised.exception.status)
            self.assertIn("other key", raised.exception.message)

    def test_damage_that_only_full_validation_sees(self):
        not_utf8 = pa.Array.from_buffers(
            pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
        )
        decreasing = pa.Array.from_buffers(
            pa.binary(), 3, [None, pa.array([0, 2, 1, 3], pa.int32()).buffers()[1], pa.py_buffer(b"abc")]
        )
        beyond = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), pa.array(["a"]), safe=False)
        not_null = pa.RecordBatch.from_arrays(
            [pa.array([1, None])], schema=pa.schema([pa.field("column", pa.int64(), nullable=False)])
        )
        wrong = [pa.RecordBatch.from_arrays([array], ["column"]) for array in (not_utf8, decreasing, beyond)] + [not_null]
        with khonsu.Database(full_validation=1) as db, db.begin() as txn:
            for batch in wrong:
                with self.assertRaises(khonsu.KhonsuError) as raised:
                    txn.put(b"key", batch)
                self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
                with self.assertRaises(khonsu.KhonsuError) as raised:
                    txn.put_reader(b"key", pa.RecordBatchReader.from_batches(batch.schema, [batch]))
                self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
            self.assertIsNone(txn.get(b"key"))


def has_dictionary(schema):
    return any("dictionary" in str(field.type) for field in schema)


def _without(cases, *parts):
    return {name: case for name, case in cases.items() if not any(part in name for part in parts)}


@expand
class Files(SameBatches):
    """Both directions between khonsu and pyarrow's own IPC."""

    COMPRESSIONS = {khonsu.NONE: None, khonsu.LZ4: "lz4", khonsu.ZSTD: "zstd"}
    CASES = _without(CASES, "__empty")

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name) / "data.arrow"

    def assert_read(self, expected, batches):
        self.assertEqual(len(expected), len(batches))
        for one, other in zip(expected, batches):
            self.assert_same(one, other)

    @parametrized(CASES)
    def test_written_by_khonsu(self, batch):
        batches = [batch, batch.slice(0, batch.num_rows // 2)]
        for compression in self.COMPRESSIONS:
            source = pa.RecordBatchReader.from_batches(batch.schema, batches)
            khonsu.ipc_write(self.path, source, khonsu.FILE, compression)
            with pa.ipc.open_file(self.path) as file:
                self.assertTrue(batch.schema.equals(file.schema, check_metadata=True))
                written = [file.get_batch(i) for i in range(file.num_record_batches)]
            if has_dictionary(batch.schema):
                # The file format has one dictionary a column for all batches, so these may be joined.
                self.assertEqual(concatenated(batches), concatenated(written))
            else:
                self.assert_read(batches, written)
            source = pa.RecordBatchReader.from_batches(batch.schema, batches)
            khonsu.ipc_write(self.path, source, khonsu.STREAM, compression)
            with pa.OSFile(os.fspath(self.path)) as file, pa.ipc.open_stream(file) as reader:
                self.assertTrue(batch.schema.equals(reader.schema, check_metadata=True))
                self.assert_read(batches, list(reader))

    @parametrized(CASES)
    def test_written_by_pyarrow(self, batch):
        batches = [batch, batch.slice(0, batch.num_rows // 2)]
        for name in self.COMPRESSIONS.values():
            options = pa.ipc.IpcWriteOptions(compression=name)
            for new in (pa.ipc.new_file, pa.ipc.new_stream):
                with new(self.path, batch.schema, options=options) as writer:
                    for one in batches:
                        writer.write_batch(one)
                reader = khonsu.ipc_open(self.path)
                self.assertTrue(batch.schema.equals(reader.schema, check_metadata=True))
                self.assert_read(batches, list(reader))

    def test_dictionaries_that_grow(self):
        """The stream format may replace a dictionary, or send what was added to it."""
        parts = [pa.array(words).dictionary_encode() for words in (["a", "b"], ["a", "b", "c"], ["z"])]
        batches = [pa.RecordBatch.from_arrays([part], ["word"]) for part in parts]
        for deltas in (False, True):
            options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
            with pa.ipc.new_stream(self.path, batches[0].schema, options=options) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            for expected, actual in zip(batches, khonsu.ipc_open(self.path), strict=True):
                self.assert_same_values(expected, actual)
        khonsu.ipc_write(self.path, pa.RecordBatchReader.from_batches(batches[0].schema, batches), khonsu.STREAM)
        with pa.OSFile(os.fspath(self.path)) as file, pa.ipc.open_stream(file) as reader:
            for expected, actual in zip(batches, reader, strict=True):
                self.assert_same_values(expected, actual)

    def test_failures(self):
        batch = SHAPES["one_row"]
        with self.assertRaises(khonsu.KhonsuError) as raised:
            khonsu.ipc_open(self.path)
        self.assertEqual(khonsu.STORAGE, raised.exception.status)
        self.path.write_bytes(b"ARROW1\x00\x00 and then nothing that makes sense")
        with self.assertRaises(khonsu.KhonsuError) as raised:
            khonsu.ipc_open(self.path)
        self.assertEqual(khonsu.CORRUPTION, raised.exception.status)
        with self.assertRaises(khonsu.KhonsuError) as raised:
            khonsu.ipc_write(self.path / "below a file", pa.RecordBatchReader.from_batches(batch.schema, [batch]))
        self.assertEqual(khonsu.STORAGE, raised.exception.status)
        with self.assertRaises(khonsu.KhonsuError) as raised:
            khonsu.ipc_write(self.path, pa.RecordBatchReader.from_batches(batch.schema, [batch]), 3)
        self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)

        def fails():
            yield batch
            raise RuntimeError("the source dried up")

        with self.assertRaises(khonsu.KhonsuError) as raised:
            khonsu.ipc_write(self.path, pa.RecordBatchReader.from_batches(batch.schema, fails()))
        self.assertIn("the source dried up", raised.exception.message)
        self.assertTrue(self.path.read_bytes().startswith(b"ARROW1\x00\x00 and then"))
        self.assertEqual([self.path], list(self.path.parent.iterdir()))


if __name__ == "__main__":
    unittest.main()
