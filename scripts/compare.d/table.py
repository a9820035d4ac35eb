"""Medians, ratios and Markdown from the measurements."""

from math import comb
from statistics import median

from measure import NOT_MEASURED

# Figures of brokers that cannot be installed from a registry, for orientation only: measured on
# another day with another generator. Thousands of deliveries a second, broker CPU µs per delivery.
REFERENCE_NOTE = (
    "Reference only, measured in autumn 2026 on another 2-core machine with another generator, not in this run:"
)
REFERENCE = (
    ("10 pairs, QoS 0", {"EMQX 5.10": (70, 14.4), "FlashMQ 1.26": (2120, 0.47)}),
    ("10 pairs, QoS 1", {"EMQX 5.10": (32, 31.6), "FlashMQ 1.26": (1227, 0.80)}),
    ("1 to 100 fan-out, QoS 0", {"EMQX 5.10": (107, 9.4), "FlashMQ 1.26": (4306, 0.23)}),
    ("fan-in with wildcard, QoS 0", {"EMQX 5.10": (59, 16.8), "FlashMQ 1.26": (2141, 0.47)}),
)

# Rounds from which on an interval is shown.
INTERVAL_ROUNDS = 8


class Cell:
    """All rounds of one broker in one scenario."""

    def __init__(self, scenario, rounds):
        self.scenario = scenario
        self.errors = [r["error"] for r in rounds if "error" in r]
        self.rounds = [r for r in rounds if "error" not in r]

    def median(self, get):
        """The median of what `get` finds, None when it finds nothing."""
        values = [value for value in map(get, self.rounds) if value is not None]
        return median(values) if values else None

    def spread(self, get):
        """The smallest and the largest."""
        values = [value for value in map(get, self.rounds) if value is not None]
        return (min(values), max(values)) if values else None

    def interval(self, get):
        """Where the true median is with 95%, by the order of the rounds alone (they are no bell curve)."""
        values = sorted(value for value in map(get, self.rounds) if value is not None)
        if len(values) < INTERVAL_ROUNDS:
            return None
        below, tail = 0, 0.0
        while (tail := tail + comb(len(values), below) / 2 ** len(values)) <= 0.025:
            below += 1
        return values[below - 1], values[-below]

    @property
    def rate(self):
        """Events per second."""
        return self.median(rate_of)

    @property
    def cpu(self):
        """Broker CPU µs per event."""
        return self.median(cpu_of)

    @property
    def memory(self):
        """Anonymous bytes per connection."""
        return self.median(memory_of)

    @property
    def marks(self):
        """What must be known beside the figure."""
        marks = []
        wrong = {}
        for result in self.rounds:
            for what in ("lost", "duplicated", "reordered", "corrupt", "misrouted", "wrong_qos"):
                wrong[what] = wrong.get(what, 0) + result["findings"][what]
            for what in ("unacknowledged", "closed"):
                wrong[what] = wrong.get(what, 0) + result[what]
        marks += [f"**{count:,} {what}**" for what, count in wrong.items() if count]
        if any(result["generator_limited"] for result in self.rounds):
            marks.append("generator-limited")
        if self.errors:
            marks.append(f"{len(self.errors)} failed")
        return marks

    def text(self):
        """The cell of the table."""
        if not self.rounds:
            return "–" if not self.errors or NOT_MEASURED in self.errors else f"failed: {self.errors[0][:60]}"
        shows = self.scenario.shows
        if shows == "memory":
            figure = "–" if self.memory is None else f"{self.memory:,.0f} B"
        elif shows in ("latency", "tail"):
            figure = f"{self.median(p50_of):,.0f} / {self.median(p99_of):,.0f} µs"
            figure += f" at {thousands(self.rate)}" if shows == "tail" else ""
        else:
            figure = thousands(self.rate)
            if self.cpu is not None:
                figure += f" ({self.cpu:.3f})" if self.cpu < 1 else f" ({self.cpu:.2f})"
            if (p99 := self.median(p99_of)) is not None:
                figure += f", {p99 / 1000:,.1f} ms"
        return "<br>".join([figure] + self.marks)


def rate_of(result):
    """Events per second of one round."""
    return result["rate"]


def cpu_of(result):
    """Broker CPU µs per event of one round."""
    broker = result.get("broker")
    return broker and broker["cpu_us_per_event"]


def memory_of(result):
    """Anonymous bytes per connection of one round."""
    figures = {figure["name"]: figure["value"] for figure in result["figures"]}
    return figures.get("anonymous_bytes_per_connection")


def p50_of(result):
    """Median latency of one round."""
    return result["latency_us"] and result["latency_us"]["p50"]


def p99_of(result):
    """99th percentile of latency of one round."""
    return result["latency_us"] and result["latency_us"]["p99"]


def thousands(rate):
    """A rate in thousands with three digits."""
    value = rate / 1000
    return f"{value:,.0f}k" if value >= 100 else f"{value:.3g}k"


def worth(cell):
    """What a ratio compares, and how: smaller is better."""
    if cell is None or not cell.rounds or cell.scenario.shows == "tail":
        return None
    if cell.scenario.shows == "memory":
        return cell.memory
    if cell.scenario.shows == "latency":
        return cell.median(p50_of)
    return cell.cpu


def markdown(brokers, scenarios, cells, options, environment, missing, targets):
    """The whole report."""
    names = [f"{b.name} {b.version}" + (" (ceiling, no protocol rules)" if b.ceiling else "") for b in brokers]
    lines = [
        "# Brokers compared",
        "",
        environment,
        "",
        f"Medians of {options.rounds} alternating rounds of {options.seconds:g} s, every broker started afresh and "
        f"pinned to core {options.broker_core}, load on {', '.join(map(str, options.load_cores))}. "
        "Thousands of verified events a second; in brackets broker CPU µs per event; then the p99 of the latency, which in "
        "a saturated run is that of the queue which the window allows. "
        "Idle: anonymous memory per connection. Latency: p50 / p99 from the scheduled send time.",
        "",
        "| case | window | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for scenario in scenarios:
        row = [cells[broker.name, scenario.key].text() for broker in brokers]
        lines.append(f"| {scenario.title} | {scenario.window or '–'} | " + " | ".join(row) + " |")
    lines += targets
    lines += ratios(brokers, scenarios, cells)
    lines += spreads(brokers, scenarios, cells)
    lines += ["", "## How each case is run", ""]
    lines += [f"- {scenario.title}: `ringmq bench {' '.join(scenario.flags)}`" for scenario in scenarios]
    if options.reference:
        lines += ["", "## Reference", "", REFERENCE_NOTE, ""]
        for title, row in REFERENCE:
            lines.append(f"- {title}: " + ", ".join(f"{n} {r}k ({c})" for n, (r, c) in row.items()))
    if missing:
        lines += ["", "## Not compared", ""] + [f"- {line}" for line in missing]
    return "\n".join(lines) + "\n"


def ratios(brokers, scenarios, cells):
    """How many times the cost of the first broker the others have."""
    first, others = brokers[0], brokers[1:]
    if not others:
        return []
    lines = [
        "",
        f"## Cost in multiples of {first.name}'s",
        "",
        "Broker CPU per event (idle: memory; latency: p50): above 1, the other one costs more. "
        "In brackets the ratio of rates. A cell with a loss compares nothing.",
        "",
        "| case | " + " | ".join(broker.name for broker in others) + " |",
        "|---" * (len(others) + 1) + "|",
    ]
    for scenario in scenarios:
        own = cells[first.name, scenario.key]
        row = []
        for broker in others:
            other = cells[broker.name, scenario.key]
            a, b = worth(own), worth(other)
            if not a or b is None:
                row.append("–")
                continue
            text = f"{b / a:.2f}×"
            if scenario.shows == "rate" and other.rate:
                text += f" ({own.rate / other.rate:.2f}×)"
            flawed = any(mark.startswith("**") for mark in own.marks + other.marks)
            row.append(f"{text} – not clean" if flawed else text)
        lines.append(f"| {scenario.title} | " + " | ".join(row) + " |")
    return lines


def spreads(brokers, scenarios, cells):
    """Smallest and largest of the rounds, so that noise can be seen, and the tail of the latency."""
    explained = (
        "Smallest to largest round: thousands a second; CPU µs per event; median of the rounds' p99 latency, and the interval "
        f"that holds the true median in 95 of 100 runs, where there are {INTERVAL_ROUNDS} rounds or more."
    )
    lines = ["", "## Spread", "", explained, ""]
    lines += ["| case | " + " | ".join(broker.name for broker in brokers) + " |", "|---" * (len(brokers) + 1) + "|"]
    for scenario in scenarios:
        row = []
        for broker in brokers:
            cell = cells[broker.name, scenario.key]
            rate, cpu, p99 = cell.spread(rate_of), cell.spread(cpu_of), cell.median(p99_of)
            within = cell.interval(p99_of)
            text = f"{thousands(rate[0])} – {thousands(rate[1])}" if rate else "–"
            text += f"; {cpu[0]:.3f} – {cpu[1]:.3f}" if cpu else ""
            text += f"; {p99:,.0f} µs" if p99 else ""
            row.append(text + (f" ({within[0]:,.0f} – {within[1]:,.0f})" if within else ""))
        lines.append(f"| {scenario.title} | " + " | ".join(row) + " |")
    return lines
