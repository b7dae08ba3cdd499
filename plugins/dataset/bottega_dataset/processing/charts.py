"""Pictures of what an analysis found (matplotlib), with titles, axes and units, and the same as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_COLOR = "#2563eb"
_MOST_BARS = 40


def figure(width: float = 7.2, height: float = 4.2) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return made, axes


def statistics(values: ArrayLike) -> dict[str, float]:
    """Count, minimum, quartiles, mean, maximum and standard deviation."""
    found = np.asarray(values, np.float64)
    low, first, middle, third, high = np.percentile(found, [0, 25, 50, 75, 100])
    return {
        "count": int(found.size),
        "min": _short(low),
        "p25": _short(first),
        "median": _short(middle),
        "p75": _short(third),
        "max": _short(high),
        "mean": _short(found.mean()),
        "std": _short(found.std()),
    }


def distribution(
    values: ArrayLike, title: str, label: str, *, unit: str = "", of: str = "images", bins: int = 30
) -> tuple[dict[str, Any], Figure]:
    """A histogram; the median is marked. `label` names the axis, `of` what is counted."""
    found = np.asarray(values, np.float64)
    low, high = float(found.min()), float(found.max())
    whole = high - low < bins and bool((found == np.round(found)).all())
    if whole:  # a bar for each whole number, around it
        edges = np.arange(low - 0.5, high + 1)
        counts, _ = np.histogram(found, edges)
    else:
        counts, edges = np.histogram(found, min(bins, max(5, int(np.sqrt(found.size) * 2))))
    middle = float(np.median(found))
    from matplotlib.ticker import MaxNLocator

    made, axes = figure()
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_COLOR, edgecolor="white", linewidth=0.5)
    axes.axvline(middle, color="#dc2626", linestyle="--", linewidth=1.2, label=f"median {middle:.4g}{_unit(unit)}")
    axes.set_title(title, loc="left")
    axes.set(xlabel=f"{label} [{unit}]" if unit else label, ylabel=f"number of {of}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(min(low - 1, middle - 2), max(high + 1, middle + 2))
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    data = {
        "title": title,
        "label": label,
        "unit": unit,
        "statistics": statistics(found),
        "histogram": {"edges": [_short(e) for e in edges], "counts": counts.tolist()},
    }
    return data, made


def bars(counts: Mapping[str, int], title: str, label: str, *, of: str = "samples") -> tuple[dict[str, Any], Figure]:
    """A bar for each name, the longest first; beyond forty the rest is one bar."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ordered[:_MOST_BARS]
    rest = sum(number for _, number in ordered[_MOST_BARS:])
    if rest:
        shown.append((f"{len(ordered) - _MOST_BARS} others", rest))
    from matplotlib.ticker import MaxNLocator

    made, axes = figure(height=max(2.4, 0.6 + 0.28 * len(shown)))
    names, numbers = [name for name, _ in shown][::-1], [number for _, number in shown][::-1]
    drawn = axes.barh(names, numbers, color=_COLOR)
    axes.set_ylim(-0.9 if len(names) < 3 else -0.6, len(names) - (0.1 if len(names) < 3 else 0.4))
    axes.bar_label(drawn, padding=3, fontsize=8)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, loc="left")
    axes.set(xlabel=f"number of {of}", ylabel=label)
    return {"title": title, "label": label, "counts": dict(ordered)}, made


def scatter(
    x: Sequence[float], y: Sequence[float], title: str, xlabel: str, ylabel: str
) -> tuple[dict[str, Any], Figure]:
    """Points, the larger the more lie together."""
    pairs, counts = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    made, axes = figure()
    axes.grid(color="#e5e7eb", linewidth=0.8)
    sizes = 12 + 200 * np.sqrt(counts / counts.max()) if len(pairs) > 1 else 120
    axes.scatter(pairs[:, 0], pairs[:, 1], sizes, color=_COLOR, alpha=0.55, edgecolor="white", linewidth=0.5)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.set_xlim(left=0, right=max(x) * 1.12)
    axes.set_ylim(bottom=0, top=max(y) * 1.12)
    order = np.argsort(-counts, kind="stable")[:_MOST_BARS]
    for at in order[:3]:
        axes.annotate(f"{counts[at]}×", pairs[at], textcoords="offset points", xytext=(8, 6), fontsize=8)
    most = [{"x": _short(pairs[at][0]), "y": _short(pairs[at][1]), "count": int(counts[at])} for at in order]
    return {"title": title, "xlabel": xlabel, "ylabel": ylabel, "most_frequent": most}, made


def heat_map(x: ArrayLike, y: ArrayLike, title: str, xlabel: str, ylabel: str) -> tuple[dict[str, Any], Figure]:
    """Where points (0 to 1, y downwards) lie, on a grid of 20 × 20."""
    counts, _, _ = np.histogram2d(np.asarray(y), np.asarray(x), bins=20, range=[[0, 1], [0, 1]])
    made, axes = figure(5.6, 4.6)
    axes.grid(visible=False)
    drawn = axes.imshow(counts, extent=(0, 1, 1, 0), cmap="Blues", aspect="equal", interpolation="nearest")
    made.colorbar(drawn, ax=axes, label="number of objects", shrink=0.85)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return {"title": title, "grid": counts.astype(int).tolist()}, made


def _short(value: float) -> float:
    return float(f"{float(value):.6g}")


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
