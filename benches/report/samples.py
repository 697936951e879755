"""What the programs of the benchmark measured."""

import json
import statistics


def number(value):
    """Three digits, with k and M."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M" if size < 1e9 else f"{value / 1e6:.0f}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k" if size < 1e6 and size < 999.5e3 else f"{value / 1e6:.3g}M"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


class Measurement:
    def __init__(self, raw):
        self.workload = raw["workload"]
        self.threads = raw["threads"]
        self.peer = raw["peer"]
        self.unit = raw["unit"]
        self.rounds = raw["samples"]

    @property
    def median(self):
        return statistics.median(self.rounds)

    def cell(self):
        if len(self.rounds) == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(min(self.rounds))} - {number(max(self.rounds))})"

    def entry(self):
        """As report.json has it."""
        return {
            "workload": self.workload,
            "threads": self.threads,
            "peer": self.peer,
            "value": self.median,
            "min": min(self.rounds),
            "max": max(self.rounds),
            "unit": self.unit,
        }


class Samples:
    """Of all programs. `programs` has the notes and peers of each."""

    def __init__(self, paths):
        self.programs = [json.loads(path.read_text()) for path in paths]
        self.measurements = [Measurement(raw) for program in self.programs for raw in program["measurements"]]
        self._found = {(m.workload, m.threads, m.peer): m for m in self.measurements}

    def find(self, workload, threads, peer):
        return self._found.get((workload, threads, peer))

    def median(self, workload, threads, peer):
        found = self.find(workload, threads, peer)
        return found.median if found else None

    def cell(self, workload, threads, peer):
        found = self.find(workload, threads, peer)
        return found.cell() if found else "-"

    def peers(self, *workloads):
        """Those that have one of these workloads, in the order in which they ran."""
        return list(dict.fromkeys(m.peer for m in self.measurements if m.workload in workloads))

    def threads(self, workload):
        return sorted({m.threads for m in self.measurements if m.workload == workload})

    def starting(self, prefix):
        return [m for m in self.measurements if m.workload.startswith(prefix)]

    def combined(self, above, below, operation):
        """The median over the rounds of what the operation makes of two measurements. None: one of them is missing.

        What else the machine did in a round fell on both."""
        above, below = self.find(*above), self.find(*below)
        if not above or not below:
            return None
        values = [operation(a, b) for a, b in zip(above.rounds, below.rounds) if b != 0]
        return statistics.median(values) if values else None

    def ratio(self, above, below):
        return self.combined(above, below, lambda a, b: a / b)

    def difference(self, above, below):
        return self.combined(above, below, lambda a, b: a - b)
