"""What khonsu is to reach: the table of the performance brief, row by row, beside what was measured."""

import operator

from samples import number

KHONSU = "khonsu"
GET_EACH = "khonsu (a get each)"
MAP = "shared_mutex+unordered_map"
WITHOUT_ARROW = "khonsu (Rust, no Arrow)"


class Goal:
    """`first` and `then` are what `value` is to reach; None where the column does not say anything about it."""

    def __init__(self, row, what, value, first=None, then=None, least=True, unit="x"):
        self.row = row
        self.what = what
        self.value = value
        self.first = first
        self.then = then
        self.reaches = operator.ge if least else operator.le
        self.unit = unit

    def wanted(self, goal):
        sign = "at least" if self.reaches is operator.ge else "at most"
        return f"{sign} {number(goal)} {self.unit}"

    def verdict(self, goal):
        if goal is None:
            return ""
        if self.value is None:
            return f"{self.wanted(goal)}: not measured"
        return f"{self.wanted(goal)}: {'reached' if self.reaches(self.value, goal) else '**not**'}"

    def line(self):
        value = "-" if self.value is None else f"{number(self.value)} {self.unit}"
        return [self.row, self.what, value, self.verdict(self.first), self.verdict(self.then)]


def all_goals(samples):
    def over(workload, threads, peer):
        return samples.ratio((workload, threads, KHONSU), (workload, threads, peer))

    goals = [
        Goal("R10, 1 thread", "khonsu / lmdb", over("R10", 1, "lmdb"), first=2.0),
        Goal("", "khonsu / unordered_map", over("R10", 1, MAP), then=1.0),
    ]
    for workload in ("W1", "RMW1"):
        goals += [
            Goal(f"{workload}, 1 thread", "khonsu / lmdb", over(workload, 1, "lmdb"), first=1.0, then=2.0),
            Goal("", "khonsu / surrealmx", over(workload, 1, "surrealmx"), first=2.0),
            Goal("", "khonsu / rocksdb", over(workload, 1, "rocksdb"), first=10.0),
        ]
    for workload, threads in (("RMW10", 1), ("A", 2), ("B", 2)):
        title = f"{workload}, {threads} thread{'s' if threads > 1 else ''}"
        goals += [
            Goal(title, "khonsu / lmdb", over(workload, threads, "lmdb"), first=1.5),
            Goal("", "khonsu / unordered_map", over(workload, threads, MAP), then=1.0),
        ]
    goals += [
        Goal("SCAN, 1 thread", "khonsu / base::SkipList", over("SCAN", 1, "base::SkipList"), first=0.8),
        Goal("", "khonsu / lmdb", over("SCAN", 1, "lmdb"), then=1.0),
        Goal(
            "MIX reader",
            "beside the writer / alone",
            samples.ratio(("MIX reader", 2, KHONSU), ("MIX reader alone", 1, KHONSU)),
            first=0.8,
            then=0.95,
        ),
        Goal(
            "EMPTY read-only",
            "transactions/s",
            samples.median("EMPTY read-only", 1, KHONSU),
            first=20e6,
            then=40e6,
            unit="/s",
        ),
    ]
    for call, first, then in (("get", 150, 60), ("put and commit", 250, 120)):
        workload = f"boundary: {call}"
        extra = samples.difference((workload, 1, GET_EACH), (workload, 1, WITHOUT_ARROW))
        title = f"one {call.split()[0]} across the boundary"
        goals.append(Goal(title, "over the same from Rust", extra, first=first, then=then, least=False, unit="ns"))
    memory = "memory at 1M keys, resident"
    goals.append(
        Goal(
            "bytes a key", "1M keys", samples.median(memory, 1, KHONSU), first=700, then=400, least=False, unit="bytes"
        )
    )

    def over_validation(kind):
        workload = f"aborts: A: 10 operations, half blind writes, zipf, 100000 keys: {kind}"
        return samples.ratio((workload, 2, KHONSU), (workload, 2, "backward validation"))

    goals += [
        Goal(
            "aborts per commit, A, 2 threads",
            "khonsu / backward validation, by turns",
            over_validation("per commit"),
            first=1.0,
            then=0.5,
            least=False,
        ),
        Goal("", "those by certification alone", over_validation("by certification"), 1.0, 0.5, least=False),
        Goal("", "khonsu / rocksdb, on threads", over("A aborts", 2, "rocksdb"), 1.0, 0.5, least=False),
    ]

    disjoint = "RMW10 disjoint"
    most = max(samples.threads(disjoint), default=1)
    scaled = samples.ratio((disjoint, most, KHONSU), (disjoint, 1, KHONSU))
    enough = most >= 16
    goals.append(
        Goal(
            "disjoint keys, 1 -> 16 threads",
            f"1 -> {most} threads" + ("" if enough else ", of too few cores to tell"),
            scaled,
            first=8 if enough else None,
            then=12 if enough else None,
        )
    )
    growth = samples.ratio(("get at 1M keys", 1, GET_EACH), ("get at 10k keys", 1, GET_EACH))
    goals.append(Goal("growth of a get", "at 1M keys / at 10k keys", growth, first=3.0, least=False))

    def commit(operations, snapshots):
        return (
            f"growth: 100000 keys, {operations} operations, {snapshots} snapshots, 1 rows: begin and commit",
            1,
            KHONSU,
        )

    goals += [
        Goal(
            "growth of a commit", "100 operations / 10", samples.ratio(commit(100, 0), commit(10, 0)), 12, least=False
        ),
        Goal("", "10 old snapshots / none", samples.ratio(commit(10, 10), commit(10, 0)), 1.5, least=False),
    ]
    return goals
