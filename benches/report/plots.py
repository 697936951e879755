"""The plots of the report."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from samples import number  # noqa: E402

KHONSU = "khonsu"
FLOORS = ("papaya", "base::SkipList")
PANELS = [
    ("R10", 1),
    ("SCAN", 1),
    ("W1", 1),
    ("RMW1", 1),
    ("RMW10", 1),
    ("A", 2),
    ("B", 2),
    ("MIX reader", 2),
]
# Those that a user would take instead, each in a colour of its own; khonsu's is the strongest.
COLOURS = {
    KHONSU: "#c0392b",
    "shared_mutex+unordered_map": "#2471a3",
    "lmdb": "#1e8449",
    "stm": "#b7950b",
    "surrealmx": "#7d3c98",
    "rocksdb": "#707b7c",
}
PLOTS = {}


def embedded(name):
    """The line that shows a plot, where it was drawn."""
    return f"![{PLOTS[name]}]({name}.png)\n\n" if name in PLOTS else ""


def draw(samples, out, scaling):
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid.axis": "x"})
    for name, title, plot in (
        ("throughput", "Transactions per second beside the peers", throughput),
        ("scaling", "Transactions per second by threads", lambda samples: scaling_plot(samples, scaling)),
        ("growth", "Costs of khonsu's calls as things grow", growth),
        ("latency", "Latency percentiles", latency),
    ):
        (out / f"{name}.png").unlink(missing_ok=True)
        figure = plot(samples)
        if figure is None:
            continue
        figure.savefig(out / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)
        PLOTS[name] = title


def bounds(found):
    return [[found.median - min(found.rounds)], [max(found.rounds) - found.median]]


def throughput(samples):
    panels = [panel for panel in PANELS if samples.find(*panel, KHONSU)]
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 3.7 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (workload, threads) in zip(axes.flat, panels):
        found = [samples.find(workload, threads, peer) for peer in samples.peers(workload)]
        found = sorted((m for m in found if m), key=lambda m: m.median)
        for place, m in enumerate(found):
            colour = COLOURS[KHONSU] if m.peer == KHONSU else "#d98880" if m.peer.startswith(KHONSU) else "#5d8aa8"
            axis.barh(
                place,
                m.median,
                color="white" if m.peer in FLOORS else colour,
                edgecolor=colour,
                xerr=bounds(m),
                error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
            )
            axis.text(max(m.rounds) * 1.06, place, number(m.median), va="center", fontsize=7.5)
        axis.set_yticks(range(len(found)), [m.peer for m in found])
        for label, m in zip(axis.get_yticklabels(), found):
            label.set_fontweight("bold" if m.peer == KHONSU else "normal")
        axis.set_xscale("log")
        axis.set_xlim(min(m.median for m in found) / 3, max(max(m.rounds) for m in found) * 3)
        axis.set_title(f"{workload}, {threads} thread{'s' if threads > 1 else ''}", fontweight="bold")
        axis.set_xlabel("transactions/s, logarithmic")
    figure.suptitle(
        "Medians, least to greatest; outlined: floors without transactions; pale red: khonsu by single gets, from Rust"
    )
    return figure


def scaling_plot(samples, scaling):
    panels = [(workload, title) for workload, title in scaling if len(samples.threads(workload)) > 1]
    if not panels:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.8), squeeze=False, layout="constrained")
    for axis, (workload, title) in zip(axes.flat, panels):
        threads = samples.threads(workload)
        for peer, colour in COLOURS.items():
            points = [samples.find(workload, n, peer) for n in threads]
            if not all(points):
                continue
            axis.errorbar(
                threads,
                [m.median for m in points],
                yerr=[[e[0] for e in side] for side in zip(*(bounds(m) for m in points))],
                color=colour,
                marker="o",
                linewidth=2.4 if peer == KHONSU else 1.3,
                elinewidth=0.8,
                label=peer,
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(threads, [str(n) for n in threads])
        axis.minorticks_off()
        axis.set_title(f"{workload}: {title}", fontweight="bold")
        axis.set_xlabel("threads")
    axes.flat[0].set_ylabel("transactions/s, logarithmic")
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False
    )
    return figure


def growth(samples):
    def cost(keys, operations, snapshots, rows, part):
        name = f"growth: {keys} keys, {operations} operations, {snapshots} snapshots, {rows} rows: {part}"
        return samples.median(name, 1, KHONSU)

    if cost(10_000, 10, 0, 1, "get") is None:
        return None
    figure, axes = plt.subplots(1, 4, figsize=(17.6, 3.9), layout="constrained")
    shades = ["#c0392b", "#e59866", "#5d6d7e"]
    keys = [10_000, 100_000, 1_000_000]
    many = [1, 10, 100]
    by_keys, by_operations, by_snapshots, by_rows = axes
    for part, colour in zip(("get", "put"), shades):
        by_keys.plot(keys, [cost(n, 10, 0, 1, part) for n in keys], marker="o", color=colour, label=f"a {part}")
    commits = [cost(n, 10, 0, 1, "begin and commit") / 10 for n in keys]
    by_keys.plot(keys, commits, marker="o", color=shades[2], label="begin and commit, for each of ten")
    by_keys.set(xscale="log", xlabel="keys", title="More keys")
    for n, colour in zip(keys, shades):
        values = [cost(n, operations, 0, 1, "begin and commit") / operations for operations in many]
        by_operations.plot(many, values, marker="o", color=colour, label=f"{n:,} keys")
    by_operations.set(
        xscale="log", xlabel="reads and writes of a transaction", title="Begin and commit, for each operation"
    )
    for n, colour in zip(keys, shades):
        values = [cost(n, 10, snapshots, 1, "begin and commit") / 10 for snapshots in (0, 1, 10)]
        by_snapshots.plot([0, 1, 10], values, marker="o", color=colour, label=f"{n:,} keys")
    by_snapshots.set(xlabel="old snapshots", title="Begin and commit, for each operation")
    rows = [1, 64, 4096]
    for part, colour in zip(("get", "put"), shades):
        by_rows.plot(rows, [cost(1_000, 10, 0, n, part) for n in rows], marker="o", color=colour, label=f"a {part}")
    commits = [cost(1_000, 10, 0, n, "begin and commit") / 10 for n in rows]
    by_rows.plot(rows, commits, marker="o", color=shades[2], label="begin and commit, for each of ten")
    by_rows.set(xscale="log", yscale="log", xlabel="rows of a value (4 columns)", title="Larger values, 1,000 keys")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
        axis.set_title(axis.get_title(), fontweight="bold")
        if axis is not by_rows:
            axis.set_ylim(bottom=0)
    axes[0].set_ylabel("ns")
    return figure


def latency(samples):
    shares = ("p50", "p99", "p99.9")
    peers = samples.peers("latency of get, p50, alone")
    if not peers:
        return None
    panels = [(what, how) for what in ("get", "commit") for how in ("alone", "beside a writer")]
    figure, axes = plt.subplots(1, 4, figsize=(18, 4.2), sharey=True, layout="constrained")
    for axis, (what, how) in zip(axes, panels):
        threads = 1 if how == "alone" else 2
        for place, peer in enumerate(reversed(peers)):
            values = [samples.median(f"latency of {what}, {share}, {how}", threads, peer) for share in shares]
            colour = COLOURS[KHONSU] if peer == KHONSU else "#5d8aa8"
            axis.plot([values[0], values[-1]], [place, place], color=colour, linewidth=1)
            for value, marker in zip(values, ("o", "d", "|")):
                axis.plot(value, place, marker=marker, color=colour, markersize=8 if marker == "|" else 5)
        axis.set_xscale("log")
        axis.grid(axis="x", linewidth=0.3)
        axis.set_title(f"{what}, {how}", fontweight="bold")
        axis.set_xlabel("ns, logarithmic: o p50, ◆ p99, | p99.9")
    axes[0].set_yticks(range(len(peers)), list(reversed(peers)))
    return figure
