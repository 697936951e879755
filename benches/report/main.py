#!/usr/bin/env python3
"""Makes the report of `make bench` from what its programs measured: main.py OUT SAMPLES.json...

Writes OUT/report.json (a list of medians, with the least and the greatest of the rounds), OUT/report.md and its plots.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import sys

import goals
import plots
from samples import Samples, number

KHONSU = goals.KHONSU
WORKLOADS = ["R10", "SCAN", "W1", "RMW1", "RMW10", "A", "B", "EMPTY", "EMPTY read-only"]
AGED = [workload for workload in WORKLOADS if not workload.startswith("EMPTY")]
SCALING = [
    ("RMW10 disjoint", "disjoint keys"),
    ("A", "zipf, half writes"),
    ("B", "zipf, read-mostly"),
    ("RMW1 hot", "one hot key"),
]


def table(header, rows):
    """In Markdown; without the rows that hold no value, and nothing where none does."""
    rows = [row for row in rows if any(cell not in ("", "-") for cell in row[1:])]
    if not rows:
        return ""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"


def peer_table(samples, columns):
    """One line a peer; a column is a title, a workload and a number of threads."""
    rows = [
        [peer, *(samples.cell(workload, threads, peer) for _, workload, threads in columns)]
        for peer in samples.peers(*(workload for _, workload, _ in columns))
    ]
    return table(["", *(title for title, _, _ in columns)], rows)


def ratio_table(samples, columns):
    rows = [
        [f"khonsu / {peer}"]
        + [number(samples.ratio((work, threads, KHONSU), (work, threads, peer))) for _, work, threads in columns]
        for peer in samples.peers(*(workload for _, workload, _ in columns))
        if peer != KHONSU
    ]
    return table(["", *(title for title, _, _ in columns)], rows)


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    compiler = os.popen("rustc --version").read().strip()
    return (
        f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} hardware threads, "
        f"{pages / 2**30:.0f} GiB, Linux {platform.release().split('-')[0]} {platform.machine()}, "
        f"{platform.libc_ver()[0]} {platform.libc_ver()[1]}, {compiler}"
    )


def opening(samples):
    notes = samples.programs[0]["notes"]
    text = f"# khonsu: benchmark report\n\n{datetime.date.today()}, {machine()}.\n\nCommands:\n\n"
    text += "".join(f"    {program['notes']['command']}\n" for program in samples.programs) + "\n"
    text += f"""\
{int(notes['keys']):,} keys `user%012d`, zipf theta 0.99, peers with values of 100 bytes. The peers run by turns: in a
round each runs each workload for {notes['seconds']} s. Numbers are medians of {notes['rounds']} rounds (fewer where a
part says so), in brackets the least and the greatest; ratios are medians of the ratios within a round, and the ones to
trust: the load average at the start was {notes['load']}. One thread is rated by its processor time, several by the
clock, and so is one where several are compared with it (A, B, MIX, scaling). Runs of read-modify-writes are checked for
lost updates. Floors have no transactions: papaya, base::SkipList.

"""
    described = {}
    for program in samples.programs:
        for peer, description in program["peers"].items():
            described.setdefault(peer, []).append(description)
    text += "".join(f"- **{peer}**: {'; durable: '.join(texts)}\n" for peer, texts in described.items())
    return text


def section(title, *parts):
    body = "".join(part for part in parts if part)
    return f"\n## {title}\n\n{body}" if body.strip() else ""


def throughput(samples):
    parts = [
        "R10 ten reads, SCAN a range of 100, W1 a blind put, RMW1 a read-modify-write, RMW10 ten of them, A ten "
        "operations "
        "of which half write, B of which 5 % write, EMPTY begin and commit.\n\n"
    ]
    for threads in samples.threads("R10"):
        columns = [(workload, workload, threads) for workload in WORKLOADS]
        parts.append(f"### {threads} thread{'s' if threads > 1 else ''}\n\n")
        parts += [peer_table(samples, columns), ratio_table(samples, columns)]
    columns = [("reader alone", "MIX reader alone", 1), ("reader", "MIX reader", 2), ("writer", "MIX writer", 2)]
    mixed = peer_table(samples, columns)
    if mixed:
        parts += ["### MIX: an R10 reader beside an RMW1 writer\n\n", mixed]
    return section("Transactions per second", plots.embedded("throughput"), *parts)


def aged(samples):
    churn = samples.programs[0]["notes"].get("churn")
    intro = f"After {churn} random writes a key, a fourth of which delete the key and insert it again.\n\n"
    parts = []
    for threads in samples.threads("R10, aged"):
        columns = [(workload, f"{workload}, aged", threads) for workload in AGED]
        rows = [
            [peer] + [number(samples.ratio((f"{w}, aged", threads, peer), (w, threads, peer))) for w in AGED]
            for peer in samples.peers("R10, aged")
        ]
        parts.append(f"### {threads} thread{'s' if threads > 1 else ''}\n\n")
        parts += [peer_table(samples, columns), "Aged over fresh, which ran some minutes before:\n\n"]
        parts.append(table(["", *AGED], rows))
    return section("Aged", intro if parts else "", *parts)


def conflicts(samples):
    names = [f"{workload} aborts" for workload in ("A", "B", "RMW10", "RMW10 disjoint", "RMW1 hot")]
    columns = [(name, name, threads) for name in names for threads in samples.threads(name)]
    rows = [
        [peer, *(samples.cell(name, threads, peer) for _, name, threads in columns)]
        for peer in samples.peers(*names)
        if any((samples.median(name, threads, peer) or 0) > 0 for _, name, threads in columns)
    ]
    text = table(["", *(f"{name.removesuffix(' aborts')}, {threads} threads" for _, name, threads in columns)], rows)
    by_turns = """\
Clients that take turns by one operation, in a seeded order, without a clock: khonsu beside backward validation, which
aborts whoever has read what was overwritten. Shares of the attempts: conflicts of writes with writes, aborts by
certification, and those of them that were called for, as they would have closed a cycle in the dependency graph, real
time included. Long ones: the share of attempts at long transactions that commit.

"""
    kinds = ["per commit", "write conflicts", "by certification", "called for", "long commits"]
    rows = []
    for found in samples.starting("aborts: "):
        if not found.workload.endswith(": per commit"):
            continue
        stem = found.workload.removesuffix("per commit")
        title = stem.removeprefix("aborts: ").removesuffix(": ") if found.peer != KHONSU else ""
        cells = [samples.cell(stem + kind, found.threads, found.peer) for kind in kinds]
        rows.append([title, str(found.threads), found.peer, *cells])
    header = ["", "clients", "", "aborts per commit", "write conflicts", "certification", "called for", "long ones"]
    turns = table(header, rows)
    return section(
        "Aborted attempts",
        "Aborted attempts per commit, on threads; the peers that are not named abort none.\n\n" if text else "",
        text,
        by_turns if turns else "",
        turns,
    )


def scaling(samples):
    parts = []
    for workload, title in SCALING:
        threads = samples.threads(workload)
        rows = []
        for peer in samples.peers(workload):
            speedups = [samples.ratio((workload, most, peer), (workload, 1, peer)) for most in threads[1:]]
            rows.append([peer, *(samples.cell(workload, n, peer) for n in threads), *(number(s) for s in speedups)])
        header = ["", *(f"{n} thread{'s' if n > 1 else ''}" for n in threads), *(f"{n} / 1" for n in threads[1:])]
        parts.append(f"### {workload}: {title}\n\n{table(header, rows)}" if rows else "")
    return section("Scaling", plots.embedded("scaling"), *parts)


def latency(samples):
    parts = []
    for what, of in (("get", "a read-only transaction of one get"), ("commit", "a transaction of one blind put")):
        columns = [
            (f"{share}, {how}", f"latency of {what}, {share}, {how}", threads)
            for how, threads in (("alone", 1), ("beside a writer", 2))
            for share in ("p50", "p99", "p99.9")
        ]
        found = peer_table(samples, columns)
        parts.append(f"### {what.capitalize()}: {of}, from begin to end, in ns\n\n{found}" if found else "")
    intro = "Reruns and waits included, and about 25 ns for the clock. The writer runs RMW1. Three rounds at most.\n\n"
    return section("Latency", plots.embedded("latency"), intro if any(parts) else "", *parts)


def memory(samples):
    columns = [
        ("resident bytes a key", "memory at 1M keys, resident", 1),
        ("allocated", "memory at 1M keys, allocated", 1),
        ("a read at 10k keys, ns", "get at 10k keys", 1),
        ("a read at 1M keys, ns", "get at 1M keys", 1),
    ]
    intro = "1,000,000 keys, each peer in a process of its own; reads of keys chosen at random, ten a transaction.\n\n"
    text = peer_table(samples, columns)
    return section("Memory, and reads among many keys", intro if text else "", text)


def growth(samples):
    cells = {}
    pattern = re.compile(r"growth: (\d+) keys, (\d+) operations, (\d+) snapshots, (\d+) rows: (.*)")
    for found in samples.starting("growth: "):
        *cell, part = pattern.fullmatch(found.workload).groups()
        cells.setdefault(tuple(map(int, cell)), {})[part] = found
    header = [
        "keys",
        "operations",
        "old snapshots",
        "rows",
        "a get, ns",
        "a put, ns",
        "begin and commit, ns",
        "for each",
    ]
    rows = []
    for (keys, operations, snapshots, count), parts in cells.items():
        each = number(parts["begin and commit"].median / operations)
        costs = [parts[part].cell() for part in ("get", "put", "begin and commit")]
        rows.append([f"{keys:,}", str(operations), str(snapshots), f"{count:,}", *costs, each])
    intro = "A transaction reads keys chosen at random and then writes them, through the C ABI, building the batches "
    intro += "included.\n\n"
    return section(
        "What khonsu's calls cost as things grow", plots.embedded("growth"), intro if rows else "", table(header, rows)
    )


def boundary(samples):
    columns = [("a read", "boundary: get", 1), ("a put and its commit", "boundary: put and commit", 1)]
    floor = samples.cell("boundary: a batch built and released", 1, "no database")
    intro = (
        "Nanoseconds of one operation among 100 of a transaction, on keys that stay in the cache. Through the C ABI a "
        "put "
        f"includes the building of its batch by the caller (built and released without a database: {floor}).\n\n"
    )
    text = peer_table(samples, columns)
    return section("The boundary", intro if text else "", text)


def costs(samples):
    rows = [[found.workload.removeprefix("cost: "), found.cell()] for found in samples.starting("cost: ")]
    intro = "Of one call through the C ABI, in a database of 1,000 keys.\n\n"
    return section("Conflicts and old snapshots", intro if rows else "", table(["", "ns"], rows))


def instructions(samples):
    rows = []
    for found in samples.starting("instructions: "):
        if found.unit == "instructions" and not found.workload.endswith(", with the C library"):
            others = (
                samples.cell(f"{found.workload}, {what}", 1, KHONSU) for what in ("with the C library", "allocations")
            )
            rows.append([found.workload.removeprefix("instructions: "), found.cell(), *others])
    intro = "Counted by callgrind, for one operation through the C ABI. `make test` compares the first column.\n\n"
    return section(
        "Instructions",
        intro if rows else "",
        table(["", "in khonsu", "with the C library and the caller", "allocations"], rows),
    )


def durable(samples):
    parts = []
    for level in ("synced", "buffered", "none"):
        workload = f"durable put, {level}"
        threads = samples.threads(workload)
        columns = [(f"{n} thread{'s' if n > 1 else ''}", workload, n) for n in threads]
        text = peer_table(samples, columns)
        parts.append(f"### {level}\n\n{text}{ratio_table(samples, columns)}" if text else "")
    intro = "One put of 1,000 bytes a commit, on disk. What the levels are with each peer is said at the top.\n\n"
    text = section("Durable commits per second", intro if any(parts) else "", *parts)
    columns = [
        ("files, MB", "recovery: files", 1),
        ("reading them once, s", "recovery: reading the files", 1),
        ("opening, s", "recovery: opening", 1),
    ]
    return text + section("Opening after a crash, nothing in the page cache", peer_table(samples, columns))


def memory_budget(samples):
    prefix = "memory budget: "
    rows = [
        [found.workload.removeprefix(prefix), f"{found.cell()} {found.unit}"]
        + [samples.cell(f"{found.workload}, processor time", 1, KHONSU)]
        for found in samples.starting(prefix)
        if not found.workload.endswith(", processor time")
    ]
    values = [program["notes"]["values"] for program in samples.programs if "values" in program["notes"]]
    intro = f"{', '.join(values)}, in a checkpoint; a process each, files in the page cache.\n\n"
    return section("Memory budget", intro if rows else "", table(["", "", "processor time"], rows))


def reached(samples):
    header = ["", "what", "measured", "first", "then"]
    return section("What is to be reached", table(header, [goal.line() for goal in goals.all_goals(samples)]))


def main():
    out = pathlib.Path(sys.argv[1])
    samples = Samples([pathlib.Path(path) for path in sys.argv[2:]])
    out.mkdir(parents=True, exist_ok=True)
    plots.draw(samples, out, SCALING)
    entries = ",\n".join(json.dumps(found.entry()) for found in samples.measurements)
    (out / "report.json").write_text(f"[\n{entries}\n]\n")
    parts = (
        reached,
        throughput,
        scaling,
        aged,
        latency,
        conflicts,
        memory,
        growth,
        costs,
        boundary,
        instructions,
        durable,
        memory_budget,
    )
    (out / "report.md").write_text(opening(samples) + "".join(part(samples) for part in parts))
    print(f"{out}/report.md, report.json and plots")


if __name__ == "__main__":
    main()
