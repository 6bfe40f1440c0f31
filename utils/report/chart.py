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
    """Draw one or more curves over the same x.

    Args:
        x: rising positions, (n,).
        series: name -> values, (n,); NaN leaves a gap.
        label: what the chart shows, for people who cannot see it.
        mark: x of a vertical dashed line.
        floor_at_zero: let the vertical axis begin at 0.

    Returns:
        An <svg>; the values are in its data attributes, for the read-out under the pointer.
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
        parts.append(
            f'<text class="tick middle" x="{left:.1f}" y="{HEIGHT - 10}">{_short(value)}</text>'
        )
    if mark is not None:
        parts.append(f'<path class="mark" d="M{place(mark, low)[0]:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for number, values in enumerate(series.values()):
        path, gap = [], True
        for a, b in zip(x, values):
            if not np.isfinite(b):
                gap = True
                continue
            path.append("{}{:.1f} {:.1f}".format("M" if gap else "L", *place(a, b)))
            gap = False
        parts.append(f'<path class="line series-{number % 8}" d="{"".join(path)}"/>')
    readout = {
        "x": [float(f"{v:.6g}") for v in x],
        "y": {
            k: [float(f"{v:.4g}") if np.isfinite(v) else None for v in vs]
            for k, vs in series.items()
        },
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
            value = share[row, column]
            if not matrix[row].any():
                continue
            kind = "missed" if column == 0 else "invented" if row == 0 else "swapped"
            kind = "right" if row == column else kind
            tip = f"{100 * value:.1f} % of true {name} pixels are predicted as {other}"
            if value >= 0.0005:
                parts.append(
                    f'<rect class="{kind}" x="{margin + column * cell + 1}" y="{y + 1}" '
                    f'width="{cell - 2}" height="{cell - 2}" rx="2" fill-opacity='
                    f'"{0.06 + 0.94 * value**0.6:.2f}" data-tip="{escape(tip)}"/>'
                )
            if cell >= 36 and value >= 0.005:
                light = " on-full" if value > 0.45 else ""
                parts.append(
                    f'<text class="cell{light}" x="{margin + column * cell + cell / 2}" '
                    f'y="{y + cell / 2 + 4}">{100 * value:.0f}</text>'
                )
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
    bins = np.array_split(np.arange(len(x)), min(points, len(x)))

    def mean(values: NDArray) -> float:
        known = values[np.isfinite(values)]
        return known.mean() if known.size else np.nan

    return (
        np.array([x[b].mean() for b in bins]),
        {name: np.array([mean(v[b]) for b in bins]) for name, v in series.items()},
    )


def _range(values: list[Sequence[float]], floor_at_zero: bool) -> tuple[float, float]:
    every = np.concatenate([np.asarray(v, float) for v in values])
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
