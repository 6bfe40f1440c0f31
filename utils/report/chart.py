"""Charts as inline SVG: they follow the page's light or dark colours and need no script."""

import json
from collections.abc import Sequence
from math import floor, log10

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 220
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 28


def lines(
    x: Sequence[float],
    series: dict[str, Sequence[float]],
    label: str,
    x_label: str = "step",
    mark: float | None = None,
    floor_at_zero: bool = True,
) -> Markup:
    """Draw one or more curves over the same x, rising, with a dashed line at `mark`.

    NaN leaves a gap; `label` is for people who cannot see the chart. The values are in the data
    attributes of the <svg>, for the read-out under the pointer.
    """
    low, high = _range(list(series.values()), floor_at_zero)
    first, last = float(x[0]), float(x[-1])
    across = (WIDTH - LEFT - RIGHT) / ((last - first) or 1)
    up = (HEIGHT - TOP - BOTTOM) / (high - low)

    def place(a: float, b: float) -> tuple[float, float]:
        return LEFT + (a - first) * across, HEIGHT - BOTTOM - (b - low) * up

    parts = []
    for value in _ticks(low, high):
        y = place(first, value)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}">{_short(value)}</text>')
    for value in _ticks(first, last, 6):
        left = place(value, low)[0]
        at = f'x="{left:.1f}" y="{HEIGHT - 10}"'
        parts.append(f'<text class="tick middle" {at}>{_short(value)}</text>')
    if mark is not None:
        parts.append(f'<path class="mark" d="M{place(mark, low)[0]:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for number, values in enumerate(series.values()):
        path, command = "", "M"
        for a, b in zip(x, values):
            if np.isfinite(b):
                path += "{}{:.1f} {:.1f}".format(command, *place(a, b))
            command = "L" if np.isfinite(b) else "M"
        parts.append(f'<path class="line series-{number % 8}" d="{path}"/>')

    def short(values: Sequence[float]) -> list[float | None]:
        return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]

    readout = {
        "x": [float(f"{value:.6g}") for value in x],
        "y": {name: short(values) for name, values in series.items()},
        "name": x_label,
        "frame": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM, WIDTH],
    }
    return Markup(
        f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"'
        f' data-readout="{escape(json.dumps(readout))}">{"".join(parts)}</svg>'
    )


def confusion(matrix: NDArray, classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix, pixel counts (C, C), each row as shares of its true pixels."""
    count = len(classes)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cell = 56 if count <= 8 else 36 if count <= 12 else 24 if count <= 30 else 11
    font = 13 if cell >= 24 else 8.5
    longest = min(18, max(map(len, classes))) * 0.6 * font
    margin = 14 + int(longest)
    slant = longest > cell - 4
    top = int(0.9 * longest) + 16 if slant else 26
    parts = []
    for row, name in enumerate(classes):
        y = top + row * cell
        parts.append(_name(name, margin - 8, y + cell / 2 + font / 3, font, "end"))
        x = margin + row * cell + cell / 2
        if slant:
            turn = f' transform="rotate(-60 {x:.0f} {top - 8})"'
            parts.append(_name(name, x, top - 8, font, "start", turn))
        else:
            parts.append(_name(name, x, top - 9, font, "middle"))
        for column, other in enumerate(classes):
            value, left = share[row, column], margin + column * cell
            error = "missed" if column == 0 else "invented" if row == 0 else "swapped"
            outcome = "right" if row == column else error
            tip = f"{100 * value:.1f} % of true {name} pixels are predicted as {other}"
            if value >= 0.0005:
                parts.append(
                    f'<rect class="{outcome}" x="{left + 1}" y="{y + 1}" width="{cell - 2}" '
                    f'height="{cell - 2}" rx="2" fill-opacity="{0.06 + 0.94 * value**0.6:.2f}" '
                    f'data-tip="{escape(tip)}"/>'
                )
            if cell >= 36 and value >= 0.005:
                light = " on-full" if value > 0.45 else ""
                at = f'x="{left + cell / 2}" y="{y + cell / 2 + 4}"'
                parts.append(f'<text class="cell{light}" {at}>{100 * value:.0f}</text>')
    side = count * cell
    right = int(0.5 * longest) if slant else 8  # room for the last slanted name
    small = " small" if count <= 12 else ""
    width, height = margin + side + right, top + side + 4
    return Markup(
        f'<svg class="heat{small}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="Confusion matrix">{"".join(parts)}</svg>'
    )


def _name(name: str, x: float, y: float, font: float, anchor: str, turn: str = "") -> str:
    shown = name if len(name) <= 18 else name[:17] + "…"
    return (
        f'<text class="name" x="{x:.0f}" y="{y:.0f}"{turn} '
        f'style="font-size:{font}px;text-anchor:{anchor}">{escape(shown)}</text>'
    )


def thin(x: NDArray, series: dict[str, NDArray], points: int = 240) -> tuple[NDArray, dict]:
    """Average neighbouring samples so that at most `points` are left."""
    count = min(points, len(x))

    def means(values: NDArray) -> NDArray:
        known = [part[np.isfinite(part)] for part in np.array_split(values, count)]
        return np.array([part.mean() if part.size else np.nan for part in known])

    return means(x), {name: means(values) for name, values in series.items()}


def _range(values: list[Sequence[float]], floor_at_zero: bool) -> tuple[float, float]:
    every = np.concatenate(values)
    every = every[np.isfinite(every)]
    if not every.size:
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    # One spike at the start would flatten all the rest.
    high = max(min(high, 1.5 * float(np.quantile(every, 0.995))), low)
    if floor_at_zero:
        low = min(low, 0.0)
    spread = (high - low) or abs(high) or 1.0
    return (low if low == 0 else low - 0.05 * spread), high + 0.05 * spread


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    rough = (high - low) / wanted or 1.0
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    start = int(np.ceil(low / step - 1e-9))
    stop = int(np.floor(high / step + 1e-9))
    return [round(n * step, 12) for n in range(start, stop + 1)]


def _short(value: float) -> str:
    if value and (abs(value) < 0.01 or abs(value) >= 1e6):
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 10_000 and value % 1000 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"
