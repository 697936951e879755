"""Stored databases: every type comes back from the log and from a checkpoint, and pyarrow reads what is written."""

import os
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.ipc

import khonsu_ctypes as khonsu
from arrow_cases import CASES
from test_types import SameBatches


def open_stored(path):
    return khonsu.Database(path=os.fsencode(path), durability=khonsu.BUFFERED)


class Storage(SameBatches):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def fill(self, database):
        for name, batch in CASES.items():
            with database.begin() as transaction:
                transaction.put(name.encode(), batch)
                transaction.commit()

    def check(self, database):
        with database.begin() as transaction:
            for name, batch in CASES.items():
                with self.subTest(name):
                    self.assert_same_values(batch, transaction.get(name.encode()))

    def test_every_case_comes_back_from_the_log(self):
        with open_stored(self.folder / "db") as database:
            self.fill(database)
        with open_stored(self.folder / "db") as database:
            self.check(database)

    def test_every_case_comes_back_from_a_checkpoint(self):
        with open_stored(self.folder / "db") as database:
            self.fill(database)
            database.checkpoint()
        with open_stored(self.folder / "db") as database:
            self.check(database)
            database.backup(self.folder / "copy")
        with open_stored(self.folder / "copy") as database:
            self.check(database)

    def test_pyarrow_reads_what_is_exported(self):
        numbers = pa.RecordBatch.from_pydict({"number": pa.array([1, None, 3], pa.int64())})
        texts = pa.RecordBatch.from_pydict({"text": pa.array(["x", "y"]).dictionary_encode()})
        with khonsu.Database() as database:
            with database.begin() as transaction:
                transaction.put(b"n", numbers)
                transaction.append(b"n", numbers.slice(2))
                transaction.put(b"nothing", numbers.slice(0, 0))
                transaction.put(b"t", texts)
                transaction.commit()
            database.export_to(self.folder / "exported")
        rows = {}
        for path in sorted((self.folder / "exported").glob("*.arrows")):
            table = pa.ipc.open_stream(path).read_all()
            table.validate(full=True)
            self.assertEqual(["key", "version", "value"], table.schema.names)
            for key, value in zip(table["key"].to_pylist(), table["value"].to_pylist()):
                rows.setdefault(key, []).extend(value)
        number = [{"number": 1}, {"number": None}, {"number": 3}]
        self.assertEqual(
            {b"n": number + number[2:], b"nothing": [], b"t": [{"text": "x"}, {"text": "y"}]}, rows
        )
        with khonsu.Database() as database:
            database.import_from(self.folder / "exported")
            with database.begin() as transaction:
                self.assert_same_values(texts, transaction.get(b"t"))
                self.assertEqual(4, transaction.get(b"n").num_rows)

    def test_one_at_a_time_has_it_open(self):
        with open_stored(self.folder / "db"):
            with self.assertRaises(khonsu.KhonsuError) as raised:
                open_stored(self.folder / "db")
            self.assertEqual(khonsu.LOCKED, raised.exception.status)
        open_stored(self.folder / "db").close()


if __name__ == "__main__":
    unittest.main()
