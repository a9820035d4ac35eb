"""An SVG bar chart: broker CPU per delivery, on a logarithmic scale."""

from html import escape
from math import ceil, floor, log10

COLOURS = ("#1f6feb", "#9aa4b2", "#d1742f", "#2f9e66", "#a855c7", "#c0392b", "#7a6a4f")
LEFT, WIDTH, BAR, GAP, TOP = 250, 620, 16, 18, 76


def svg(brokers, scenarios, cells) -> str:
    """The chart of all cells that have a CPU figure."""
    rows = [s for s in scenarios if s.shows == "rate"]
    values = [cells[b.name, s.key].cpu for s in rows for b in brokers]
    values = [value for value in values if value]
    if not values:
        return ""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)

    def x(value):
        return LEFT + WIDTH * (log10(value) - low) / (high - low)

    parts, y = [], TOP
    for scenario in rows:
        middle = y + len(brokers) * BAR / 2
        parts.append(text(LEFT - 10, middle + 4, scenario.title, anchor="end"))
        for number, broker in enumerate(brokers):
            cell = cells[broker.name, scenario.key]
            if cell.cpu:
                width = max(x(cell.cpu) - LEFT, 2)
                colour = COLOURS[number % len(COLOURS)]
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
                flawed = " (not clean)" if any(m.startswith("**") for m in cell.marks) else ""
                parts.append(text(LEFT + width + 5, y + 11, f"{cell.cpu:.3g}{flawed}", size=11))
            y += BAR
        y += GAP
    grid = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        grid.append(f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{y - GAP}" stroke="#8884"/>')
        grid.append(text(at, TOP - 14, f"{10.0**power:g}", anchor="middle", size=11))
    legend, at = [], LEFT
    for number, broker in enumerate(brokers):
        colour = COLOURS[number % len(COLOURS)]
        legend.append(f'<rect x="{at}" y="30" width="11" height="11" fill="{colour}"/>')
        legend.append(text(at + 16, 40, broker.name))
        at += 34 + 8 * len(broker.name)
    title = text(LEFT, 18, "Broker CPU µs per delivery (logarithmic, less is better)", size=14)
    body = "\n".join([title, *legend, *grid, *parts])
    size = f'width="{LEFT + WIDTH + 110}" height="{y}" viewBox="0 0 {LEFT + WIDTH + 110} {y}"'
    style = "<style>text{font-family:sans-serif;fill:#222}svg{background:#fff}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{style}\n{body}\n</svg>\n'


def text(x, y, content, anchor="start", size=13) -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(str(content))}</text>'
