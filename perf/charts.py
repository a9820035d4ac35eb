"""Line charts of perf/results for docs/charts: the newest row of each point, both axes logarithmic."""

import csv
from html import escape
from math import log10
from pathlib import Path

COLOURS = ("#1f6feb", "#d1742f", "#2f9e66", "#a855c7", "#c0392b", "#7a6a4f")
LEFT, TOP, WIDTH, HEIGHT, LEGEND = 70, 50, 520, 280, 190


def rows(path: Path) -> list:
    """What a table has; nothing when it is not there."""
    return list(csv.DictReader(path.open())) if path.exists() else []


def lines(table: list, name: str, x: str, y: str) -> dict:
    """Name of the line -> its points, the last row of each."""
    found = {}
    for row in table:
        found.setdefault(row[name], {})[float(row[x])] = float(row[y])
    return {line: sorted(points.items()) for line, points in found.items()}


def svg(title: str, x_title: str, drawn: dict) -> str:
    """A chart of lines."""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points if y > 0]
    x_low, x_high = log10(min(xs)), max(log10(max(xs)), log10(min(xs)) + 0.1)
    # A line that is flat looks flat: at least one power of ten is shown.
    y_low, y_high = log10(min(ys)) - 0.1, max(log10(max(ys)) + 0.1, log10(min(ys)) + 0.9)

    def place(x: float, y: float) -> tuple:
        across, up = (log10(x) - x_low) / (x_high - x_low), (log10(y) - y_low) / (y_high - y_low)
        return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)

    parts = [text(LEFT, 24, title, size=15), text(LEFT + WIDTH / 2, TOP + HEIGHT + 40, x_title, anchor="middle")]
    for power in range(-3, 10):
        for factor in (1, 2, 5):
            value = factor * 10.0**power
            if y_low <= log10(value) <= y_high:
                _, at = place(min(xs), value)
                parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + WIDTH}" y2="{at:.1f}" stroke="#8884"/>')
                parts.append(text(LEFT - 8, at + 4, f"{value:g}", anchor="end", size=11))
    for value in sorted(set(xs)):
        at, _ = place(value, min(ys))
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{TOP + HEIGHT}" stroke="#8882"/>')
        if log10(value) % 1 == 0 or len(set(xs)) < 12:
            parts.append(text(at, TOP + HEIGHT + 18, f"{int(value):,}", anchor="middle", size=10))
    for number, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in points if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        at = TOP + 14 + 20 * number
        parts.append(f'<rect x="{LEFT + WIDTH + 16}" y="{at - 9}" width="11" height="11" fill="{colour}"/>')
        parts.append(text(LEFT + WIDTH + 33, at, name))
    width, height = LEFT + WIDTH + LEGEND, TOP + HEIGHT + 56
    style = "<style>text{font-family:sans-serif;fill:#222}svg{background:#fff}</style>"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{style}\n{body}\n</svg>\n'


def text(x: float, y: float, content: str, anchor: str = "start", size: int = 13) -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(content)}</text>'


def draw(results: Path, charts: Path) -> None:
    """Draws every chart whose table is there."""
    charts.mkdir(parents=True, exist_ok=True)
    if growth := rows(results / "growth.csv"):
        found = lines(growth, "among", "count", "instructions_per_delivery")
        title = "Instructions of the core per delivery among more and more of something"
        (charts / "growth.svg").write_text(svg(title, "how many", {n: p for n, p in found.items() if len(p) > 1}))
    if payload := rows(results / "payload.csv"):
        found = lines(payload, "broker", "payload", "cpu_us")
        title = "Broker CPU µs per message by payload, 10 pairs, QoS 0"
        (charts / "payload.svg").write_text(svg(title, "payload, bytes", found))
