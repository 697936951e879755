"""Two-phase commit from Python: a transfer between two stored databases, and what comes back when they are opened again."""

import os
import pathlib
import tempfile
import unittest

import pyarrow as pa

import khonsu_ctypes as khonsu


def batch(number):
    return pa.RecordBatch.from_pydict({"amount": pa.array([number], pa.int64())})


class TwoPhaseCommit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def open(self, name):
        return khonsu.Database(path=os.fsencode(self.folder / name))

    def balance(self, database):
        with database.begin() as transaction:
            return transaction.get(b"account")["amount"][0].as_py()

    def change(self, database, by, global_id):
        with database.begin() as transaction:
            balance = transaction.get(b"account")["amount"][0].as_py()
            transaction.put(b"account", batch(balance + by))
            return transaction.prepare(global_id)

    def test_a_transfer_survives_the_restart_of_all(self):
        for name in ("left", "right"):
            with self.open(name) as database, database.begin() as transaction:
                transaction.put(b"account", batch(100))
                transaction.commit()
        with self.open("left") as left, self.open("right") as right:
            self.assertEqual(khonsu.VOTE_YES, self.change(left, -30, b"transfer"))
            self.assertEqual(khonsu.VOTE_YES, self.change(right, 30, b"transfer"))
        with self.open("left") as left, self.open("right") as right:
            for database in (left, right):
                (prepared,) = database.recover()
                self.assertEqual((b"transfer", [b"account"]), (prepared.global_id, prepared.keys))
                self.assertEqual(100, self.balance(database))
                with self.assertRaises(khonsu.KhonsuError) as refused:
                    self.change(database, 1, b"other")
                self.assertEqual(khonsu.CONFLICT, refused.exception.status)
                self.assertEqual(b"transfer", refused.exception.conflicts[0].global_id)
                version = database.commit_prepared(b"transfer")
                self.assertEqual(version, database.commit_prepared(b"transfer"))
            self.assertEqual((70, 130), (self.balance(left), self.balance(right)))

    def test_reports(self):
        with khonsu.Database() as database:
            with database.begin() as transaction:
                transaction.put(b"account", batch(1))
                with self.assertRaises(khonsu.KhonsuError) as refused:
                    transaction.prepare(b"volatile")
            self.assertEqual(khonsu.NOT_DURABLE, refused.exception.status)
            self.assertIsNone(database.commit_prepared(b"unknown"))
            self.assertFalse(database.rollback_prepared(b"unknown"))
            with database.begin() as transaction:
                transaction.put(b"account", batch(1))
                self.assertEqual(khonsu.VOTE_YES, transaction.prepare(b"one", khonsu.ALLOW_VOLATILE))
            self.assertEqual(1, database.stats()["prepared_transactions"])
            self.assertTrue(database.decide_heuristically(b"one", khonsu.DECISION_COMMIT))
            with self.assertRaises(khonsu.KhonsuError) as reported:
                database.rollback_prepared(b"one")
            self.assertEqual(
                (khonsu.HEURISTIC, khonsu.DECISION_COMMIT), (reported.exception.status, reported.exception.decision)
            )
            database.forget(b"one")
            self.assertEqual([], database.recover())


if __name__ == "__main__":
    unittest.main()
