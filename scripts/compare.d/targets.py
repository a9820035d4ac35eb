"""What ringmq is meant to reach, and how far it is from it in this run."""

from statistics import median

import table

# Scenario, against whom, at least how many times better by which figure, in words.
CPU, RATE, P50, P99, BYTES = "CPU per event", "rate", "p50", "p99 µs", "bytes a connection"
# Rounds below which nothing is said of p99: brokers change places between runs.
P99_ROUNDS = 10
TARGETS = (
    ("pairs-qos0", "rumqttd", CPU, 8.0),
    ("pairs-qos0", "mosquitto", CPU, 20.0),
    ("pairs-qos0", "relay", CPU, 0.6),
    ("pairs-qos1", "rumqttd", CPU, 8.0),
    ("pairs-qos2", "mosquitto", CPU, 25.0),
    ("fan-out", "rumqttd", CPU, 4.0),
    ("fan-out", "relay", CPU, 0.6),
    ("fan-out-qos1", "mosquitto", CPU, 20.0),
    ("fan-in", "rumqttd", CPU, 8.0),
    ("fan-in", "mosquitto", CPU, 12.0),
    ("shared", "rumqttd", CPU, 8.0),
    ("shared", "mosquitto", CPU, 12.0),
    ("pairs-16k", "relay", CPU, 0.7),
    ("latency", "mosquitto", P50, 1.0),
    ("latency", "mosquitto", P99, 2.0),
    ("latency", "rumqttd", P99, 2.0),
    ("half", None, P99, 1000.0),
    ("connect", "mosquitto", RATE, 1.0),
    ("churn", "mosquitto", CPU, 1.0),
    ("idle", None, BYTES, 700.0),
)


def figure(result, kind):
    """What one round says about a target; smaller is better."""
    if result is None or "error" in result:
        return None
    if kind == CPU:
        return table.cpu_of(result)
    if kind == RATE:
        return result["rate"] and 1 / result["rate"]
    return {P50: table.p50_of, P99: table.p99_of, BYTES: table.memory_of}[kind](result)


def ratios(own: list, other: list, kind: str) -> list:
    """How many times better the first is, round by round: both were measured within the same minute."""
    pairs = [(figure(a, kind), figure(b, kind)) for a, b in zip(own, other)]
    return [b / a for a, b in pairs if a and b]


def beside(cells: list) -> str:
    """Rate and p99 of both, and the window they had: what a ratio of costs is read with."""
    shown = []
    for cell in cells:
        p99 = cell.median(table.p99_of)
        shown.append(table.thousands(cell.rate) + (f", {p99 / 1000:,.1f} ms" if p99 else ""))
    window = cells[0].scenario.window
    return "; ".join(shown) + (f"; window {window}" if window else "")


def markdown(results: dict, cells: dict, marks) -> list:
    """The section of the report; nothing when ringmq was not measured."""
    rows = []
    for key, against, kind, wanted in TARGETS:
        own, cell = results.get(("ringmq", key)), cells.get(("ringmq", key))
        if not own:
            continue
        if against is None:
            found = [value for value in (figure(result, kind) for result in own) if value is not None]
            if found:
                verdict = "yes" if median(found) <= wanted else "**no**"
                spread = f"{min(found):,.0f} – {max(found):,.0f}"
                measured = f"{median(found):,.0f} | {spread} | – | {verdict}"
                rows.append(f"| {cell.scenario.title} | {kind} | ≤ {wanted:,.0f} | {measured} |")
            continue
        other = results.get((against, key))
        found = ratios(own, other, kind) if other else []
        if not found or (kind == P99 and len(found) < P99_ROUNDS):
            continue
        verdict = "yes" if median(found) >= wanted else "**no**"
        if any(mark.startswith("**") for mark in marks(("ringmq", key)) + marks((against, key))):
            verdict += ", but not clean"
        spread = f"{min(found):.2f} – {max(found):.2f}"
        measured = f"{median(found):.2f}× | {spread} | {beside([cell, cells[against, key]])} | {verdict}"
        rows.append(f"| {cell.scenario.title} | {against}'s {kind} | ≥ {wanted:g}× | {measured} |")
    if not rows:
        return []
    return [
        "",
        "## Targets",
        "",
        "How many times better ringmq is, round by round: median, smallest and largest. The relay obeys no rules of the "
        "protocol; against it the target is a share. Beside it stand the rate and the p99 of both, and the window.",
        "",
        "| case | against | wanted | measured | rounds | rate and p99: ringmq; the other | reached |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
