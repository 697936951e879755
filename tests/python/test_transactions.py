"""khonsu as a Python program uses it: transactions, scans to tables, failures as exceptions, threads, lifetimes."""

import gc
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute

import khonsu_ctypes as khonsu


def numbers(*values):
    return pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], ["value"])


def values_of(batch):
    return None if batch is None else batch.column(0).to_pylist()


class Basics(unittest.TestCase):
    def setUp(self):
        self.db = khonsu.Database()
        self.addCleanup(self.db.close)

    def committed(self, key):
        with self.db.begin(read_only=1) as txn:
            return values_of(txn.get(key))

    def put(self, key, *values):
        with self.db.begin() as txn:
            txn.put(key, numbers(*values))
            txn.commit()
            return txn.commit_version()

    def test_version(self):
        self.assertRegex(khonsu.version(), r"^\d+\.\d+\.\d+$")
        self.assertEqual("CONFLICT", khonsu.status_name(khonsu.CONFLICT))

    def test_commit_and_rollback(self):
        with self.db.begin() as txn:
            txn.put(b"a", numbers(1))
            self.assertTrue(txn.exists(b"a"))
            txn.commit()
        with self.db.begin() as txn:
            txn.put(b"a", numbers(2))
            txn.rollback()
        with self.db.begin() as txn:
            txn.delete(b"a")  # dropped open: rolled back
        self.assertEqual([1], self.committed(b"a"))
        self.assertIsNone(self.committed(b"b"))

    def test_savepoints(self):
        with self.db.begin() as txn:
            txn.put(b"a", numbers(1))
            savepoint = txn.savepoint()
            txn.append(b"a", numbers(2))
            txn.delete(b"b")
            txn.rollback_to(savepoint)
            txn.append(b"a", numbers(3))
            txn.release(savepoint)
            with self.assertRaises(khonsu.KhonsuError) as raised:
                txn.rollback_to(savepoint)
            self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
            txn.commit()
        self.assertEqual([1, 3], self.committed(b"a"))

    def test_scans(self):
        keys = [b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"]
        with self.db.begin() as txn:
            for i, key in enumerate(keys):
                txn.put(key, numbers(i))
            self.assertEqual(keys, [key for key, _ in txn.scan()])
            self.assertEqual(keys[::-1], [key for key, _ in txn.scan(direction=khonsu.REVERSE)])
            self.assertEqual([b"ab", b"b"], [key for key, _ in txn.scan(b"aa", b"c")])
            self.assertEqual([b"a", b"a\x00", b"ab"], [key for key, _ in txn.scan_prefix(b"a")])
            self.assertEqual([b"\xff\xff"], [key for key, _ in txn.scan_prefix(b"\xff", khonsu.REVERSE, 1)])
            self.assertEqual([[2], [3]], [values_of(batch) for _, batch in txn.scan(b"aa", limit=2)])

    def test_scan_to_a_table_and_back(self):
        stations = {b"AMS": (52.3, "Amsterdam"), b"LUX": (25.7, "Luxor"), b"CAI": (30.1, None)}
        schema = pa.schema([("latitude", pa.float64()), ("city", pa.string())])
        with self.db.begin() as txn:
            for key, (latitude, city) in stations.items():
                txn.put(key, pa.RecordBatch.from_pylist([{"latitude": latitude, "city": city}], schema))
            txn.commit()
        with self.db.begin() as txn:
            table = txn.scan_reader().read_all()
        self.assertEqual(["key", "latitude", "city"], table.schema.names)
        self.assertEqual(sorted(stations), table["key"].to_pylist())
        self.assertEqual([stations[key] for key in sorted(stations)], list(zip(*[c.to_pylist() for c in table.columns[1:]])))
        north = table.filter(pa.compute.greater(table["latitude"], 26.0))
        with self.db.begin() as txn:
            txn.put_reader(b"north", north)
            txn.commit()
        with self.db.begin() as txn:
            back = txn.get_reader(b"north").read_all()
        self.assertTrue(north.equals(back))
        self.assertEqual([b"AMS", b"CAI"], back["key"].to_pylist())

    def test_bound_keys(self):
        with khonsu.Schema(numbers().schema) as schema, self.db.bind(b"a") as key:
            for round in range(3):
                with self.db.begin() as txn:
                    self.assertIsNone(txn.get_bound(key))
                    txn.put_bound(key, numbers(round), schema)
                    txn.append_bound(key, numbers(7), schema)
                    txn.commit()
                self.assertEqual([round, 7], self.committed(b"a"))
                with self.db.begin() as txn:
                    self.assertTrue(txn.exists_bound(key))
                    self.assertEqual([round, 7], values_of(txn.get_bound(key)))
                    txn.delete_bound(key)
                    txn.commit()
                self.db.stats()  # reclaims it
            other = khonsu.Database()
            with other, other.begin() as txn, self.assertRaises(khonsu.KhonsuError) as raised:
                txn.exists_bound(key)
            self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)

    def test_many(self):
        names = [b"key %03d" % number for number in range(100)]
        with self.db.begin() as txn:
            for number, name in enumerate(names):
                if number % 3:
                    txn.put(name, numbers(number))
            txn.commit()
        expected = [[number] if number % 3 else None for number in range(100)]
        bound = [self.db.bind(name) for name in names]
        with self.db.begin() as txn, khonsu.Schema(numbers().schema) as schema:
            for keys in (names, bound):
                for wanted in (None, schema):
                    found = txn.get_many(keys, wanted)
                    self.assertEqual(expected, [batch and values_of(batch) for batch in found])
            present, reader = txn.get_many_reader(names[::-1])
            table = reader.read_all()
            self.assertEqual([rows is not None for rows in expected[::-1]], present)
            self.assertEqual([name for name, rows in zip(names, expected) if rows][::-1], table["key"].to_pylist())
            self.assertEqual([], txn.get_many([]))
            self.assertEqual(([], 0), (txn.get_many_reader([])[0], txn.get_many_reader([])[1].read_all().num_rows))
            txn.put(names[1], pa.record_batch({"text": ["another schema"]}))
            for call in (lambda: txn.get_many(names, schema), lambda: txn.get_many_reader(names)):
                with self.assertRaises(khonsu.KhonsuError) as raised:
                    call()
                self.assertEqual(khonsu.SCHEMA_MISMATCH, raised.exception.status)
            self.assertEqual([2], values_of(txn.get_many(names[:3])[2]))
            txn.commit()

    def test_many_is_certified(self):
        for bind in (lambda name: name, self.db.bind):
            keys = [bind(b"x"), bind(b"y")]
            first, second = self.db.begin(), self.db.begin()
            for txn in (first, second):
                txn.get_many(keys)
            first.put(b"x", numbers(1))
            second.put(b"y", numbers(1))
            first.commit()
            with self.assertRaises(khonsu.KhonsuError) as raised:
                second.commit()
            self.assertEqual(khonsu.CONFLICT, raised.exception.status)
            first.close()
            second.close()

    def test_scan_of_nothing(self):
        with self.db.begin() as txn:
            table = txn.scan_reader(b"x", b"y").read_all()
        self.assertEqual(0, table.num_rows)
        self.assertEqual(["key"], table.schema.names)

    def test_stats(self):
        self.put(b"a", 1, 2, 3)
        version = self.put(b"b", 4)
        stats = self.db.stats()
        self.assertEqual((2, 2, 0), (stats["keys"], stats["versions"], stats["active_transactions"]))
        self.assertEqual(version, stats["version"])
        self.assertGreaterEqual(stats["live_bytes"], 32)
        with self.db.begin() as txn:
            held = txn.get(b"a")
        self.put(b"a", 9)
        self.assertGreaterEqual(self.db.stats()["pinned_bytes"], 24)
        self.assertEqual([1, 2, 3], values_of(held))
        del held
        gc.collect()
        self.assertEqual(0, self.db.stats()["pinned_bytes"])
        self.db.sync()


class Failures(unittest.TestCase):
    def setUp(self):
        self.db = khonsu.Database()
        self.addCleanup(self.db.close)

    def test_write_write(self):
        with self.db.begin() as loser, self.db.begin() as winner:
            loser.put(b"\x00key\xff", numbers(1))
            winner.put(b"\x00key\xff", numbers(2))
            winner.commit()
            with self.assertRaises(khonsu.KhonsuError) as raised:
                loser.commit()
            error = raised.exception
            self.assertEqual((khonsu.CONFLICT, "CONFLICT"), (error.status, error.name))
            self.assertEqual(
                (khonsu.Conflict(khonsu.WRITE_WRITE, b"\x00key\xff", None, winner.commit_version()),), error.conflicts
            )
            with self.assertRaises(khonsu.KhonsuError) as raised:
                loser.get(b"key")
            self.assertEqual(khonsu.INVALID_STATE, raised.exception.status)

    def test_phantom(self):
        with self.db.begin() as loser, self.db.begin() as winner:
            self.assertEqual([], list(loser.scan(b"a", b"m")))
            loser.put(b"total", numbers(0))
            winner.get(b"total")
            winner.put(b"c", numbers(1))
            winner.commit()
            with self.assertRaises(khonsu.KhonsuError) as raised:
                loser.commit()
            self.assertEqual(
                (khonsu.Conflict(khonsu.PHANTOM, b"c", (b"a", b"m"), winner.commit_version()),), raised.exception.conflicts
            )

    def test_read_write(self):
        with self.db.begin() as txn:
            txn.put(b"read", numbers(1))
            txn.commit()
        with self.db.begin() as loser, self.db.begin() as winner:
            loser.get(b"read")
            loser.put(b"written", numbers(2))
            winner.get(b"written")
            winner.put(b"read", numbers(3))
            winner.commit()
            with self.assertRaises(khonsu.KhonsuError) as raised:
                loser.commit()
            self.assertEqual(
                (khonsu.Conflict(khonsu.READ_WRITE, b"read", None, winner.commit_version()),), raised.exception.conflicts
            )

    def test_resolutions(self):
        outcomes = {khonsu.IGNORE: [1], khonsu.REPLACE: [2], khonsu.APPEND: [1, 2]}
        for resolution, expected in outcomes.items():
            key = b"key %d" % resolution
            with self.db.begin(conflict_resolution=resolution) as mine, self.db.begin() as other:
                mine.put(key, numbers(2))
                other.put(key, numbers(1))
                other.commit()
                mine.commit()
            with self.db.begin() as txn:
                self.assertEqual(expected, values_of(txn.get(key)))

    def test_arguments(self):
        with self.db.begin() as txn:
            for key in (b"", b"k" * 65537):
                for call in (txn.get, txn.exists, txn.delete, txn.get_reader, lambda key: txn.put(key, numbers(1))):
                    with self.assertRaises(khonsu.KhonsuError) as raised:
                        call(key)
                    self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
            txn.put(b"k" * 65536, numbers(1))
            txn.commit()
        for settings in ({"isolation": 0}, {"isolation": 4}, {"conflict_resolution": -1}, {"full_validation": 2}):
            with self.assertRaises(khonsu.KhonsuError) as raised:
                khonsu.Database(**settings)
            self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)

    def test_read_only_and_limits(self):
        with self.db.begin(read_only=1) as txn, self.assertRaises(khonsu.KhonsuError) as raised:
            txn.put(b"a", numbers(1))
        self.assertEqual(khonsu.INVALID_STATE, raised.exception.status)
        with self.db.begin(max_bytes=10_000) as txn:
            txn.put(b"a", numbers(1))
            with self.assertRaises(khonsu.KhonsuError) as raised:
                txn.put(b"b", numbers(*range(10_000)))
            self.assertEqual(khonsu.LIMIT_EXCEEDED, raised.exception.status)
            txn.commit()

    def test_exceptions_in_transact(self):
        def fails(txn):
            txn.put(b"a", numbers(1))
            raise ZeroDivisionError("as a program does")

        with self.assertRaises(ZeroDivisionError):
            self.db.transact(fails)

        def calls_wrongly(txn):
            txn.put(b"a", numbers(1))
            txn.get(b"")

        with self.assertRaises(khonsu.KhonsuError) as raised:
            self.db.transact(calls_wrongly)
        self.assertEqual(khonsu.INVALID_ARGUMENT, raised.exception.status)
        with self.db.begin() as txn:
            self.assertIsNone(txn.get(b"a"))

    def test_failing_reader(self):
        def fails():
            yield numbers(1)
            raise RuntimeError("the source dried up")

        with self.db.begin() as txn:
            txn.put(b"a", numbers(7))
            with self.assertRaises(khonsu.KhonsuError) as raised:
                txn.put_reader(b"a", pa.RecordBatchReader.from_batches(numbers(1).schema, fails()))
            self.assertIn("the source dried up", raised.exception.message)
            self.assertEqual([7], values_of(txn.get(b"a")))


class Lifetimes(unittest.TestCase):
    def test_what_was_read_outlives_the_database(self):
        db = khonsu.Database()
        with db.begin() as txn:
            txn.put(b"a", numbers(1, 2))
            txn.append(b"a", numbers(3))
            txn.put(b"b", numbers(*range(100_000)))
            txn.commit()
        with db.begin() as txn:
            small, large = txn.get(b"a"), txn.get(b"b")
            reader, scan = txn.get_reader(b"a"), txn.scan_reader()
            cursor = list(txn.scan())
        db.close()
        gc.collect()
        self.assertEqual([1, 2, 3], values_of(small))
        self.assertEqual(list(range(100_000)), values_of(large))
        self.assertEqual([1, 2, 3], reader.read_all()["value"].to_pylist())
        table = scan.read_all()
        self.assertEqual(100_003, table.num_rows)
        self.assertEqual([b"a"] * 3 + [b"b"], table["key"].to_pylist()[:4])
        self.assertEqual([b"a", b"b"], [key for key, _ in cursor])
        for batch in [small, large, cursor[1][1]]:
            batch.validate(full=True)

    def test_memory_comes_back(self):
        gc.collect()
        before = pa.total_allocated_bytes()
        version_bytes = 8 * 5_000
        db = khonsu.Database()
        for _ in range(300):
            with db.begin() as txn:
                txn.put(b"key", numbers(*range(5_000)))
                txn.commit()
        # Some versions may wait for their reclamation, but not all of them.
        gc.collect()
        self.assertLess(pa.total_allocated_bytes() - before, 150 * version_bytes)
        self.assertEqual(1, db.stats()["versions"])  # which reclaims what nobody can see any more
        self.assertLess(pa.total_allocated_bytes() - before, 2 * version_bytes)
        db.close()
        self.assertEqual(before, pa.total_allocated_bytes())


class Threads(unittest.TestCase):
    WORKERS = 4

    def in_parallel(self, work):
        with ThreadPoolExecutor(self.WORKERS) as pool:
            for future in [pool.submit(work, i) for i in range(self.WORKERS)]:
                future.result()

    def test_counter(self):
        with khonsu.Database() as db:

            def increment(txn):
                batch = txn.get(b"counter")
                txn.put(b"counter", numbers(1 + (values_of(batch)[0] if batch else 0)))

            self.in_parallel(lambda _: [db.transact(increment) for _ in range(100)])
            with db.begin() as txn:
                self.assertEqual([400], values_of(txn.get(b"counter")))

    def test_transfers_keep_the_total(self):
        accounts = [b"account %d" % i for i in range(6)]
        with khonsu.Database() as db:
            with db.begin() as txn:
                for account in accounts:
                    txn.put(account, numbers(100))
                txn.commit()
            finished = threading.Event()

            def transfer(source, target, amount):
                def run(txn):
                    balances = [values_of(txn.get(key))[0] for key in (source, target)]
                    txn.put(source, numbers(balances[0] - amount))
                    txn.put(target, numbers(balances[1] + amount))

                return run

            def work(worker):
                for i in range(60):
                    source, target = accounts[(worker + i) % 6], accounts[(worker + 2 * i + 1) % 6]
                    if source != target:
                        db.transact(transfer(source, target, i % 7))

            def total():
                with db.begin(read_only=1) as txn:
                    return sum(txn.scan_reader().read_all()["value"].to_pylist())

            def watch():
                totals = set()
                while not finished.is_set():
                    totals.add(total())
                return totals

            with ThreadPoolExecutor(1) as watcher:
                totals = watcher.submit(watch)
                try:
                    self.in_parallel(work)
                finally:
                    finished.set()
                self.assertEqual({600}, totals.result() | {total()})

    def test_appends(self):
        with khonsu.Database() as db:

            def work(worker):
                for i in range(50):
                    with db.begin() as txn:
                        txn.append(b"log", numbers(worker * 50 + i))
                        txn.commit()

            self.in_parallel(work)
            with db.begin() as txn:
                self.assertEqual(list(range(200)), sorted(values_of(txn.get(b"log"))))

    def test_batches_released_elsewhere(self):
        with khonsu.Database() as db:
            with db.begin() as txn:
                txn.put(b"key", numbers(*range(10_000)))
                txn.commit()

            def work(_):
                for _ in range(50):
                    with db.begin() as txn:
                        batch = txn.get(b"key")
                        txn.commit()
                    self.assertEqual(10_000, batch.num_rows)

            self.in_parallel(work)
            self.assertEqual(0, db.stats()["active_transactions"])


if __name__ == "__main__":
    unittest.main()
