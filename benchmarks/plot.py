"""The rows as bars, on a logarithmic scale, one panel a row. Optional: needs matplotlib."""

from __future__ import annotations

from typing import Any

from .harness import LIMIT, OURS, UNITS, show

_COLOURS = {OURS: "#c1440e", LIMIT: "#8a8f98"}
_PEER = "#3b6ea5"


def require() -> None:
    """ImportError that says what to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install 'extsession[bench]'") from None


def draw(rows: list[dict[str, Any]], path: str, facts: dict[str, Any]) -> None:
    """Draw rows, as `Bench.as_json` gives them, to a file whose name tells its format."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(row, _bars(row)) for row in rows]
    panels = [(row, bars) for row, bars in panels if bars]
    heights = [len(bars) + 1.5 for _, bars in panels]
    figure = Figure(figsize=(9, max(2.0, 0.26 * sum(heights))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0] if panels else []
    for axis, (row, bars) in zip(axes, panels, strict=True):
        unit = bars[0]["unit"]
        amounts = [1 / bar["median"] if unit == "/s" else bar["median"] / UNITS[unit] for bar in bars]
        names = [bar["name"] for bar in bars]
        drawn = axis.barh(names, amounts, color=[_COLOURS.get(bar["kind"], _PEER) for bar in bars])
        labels = [show(bar["median"], unit) for bar in bars]
        axis.bar_label(drawn, labels, padding=3, fontsize=7)
        axis.set_xscale("log")
        axis.set_xlim(min(amounts) / 2, max(amounts) * 2)
        axis.set_title(f"{row['title']} ({unit or 'count'})", loc="left", fontsize=9)
        axis.invert_yaxis()
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(", ".join(f"{name} {value}" for name, value in facts.items()), fontsize=7)
    figure.savefig(path)


def _bars(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The contenders in the unit that most are in, best first."""
    contenders = row["contenders"]
    units = [each["unit"] for each in contenders]
    unit = max(units, key=units.count, default="")
    bars = sorted((each for each in contenders if each["unit"] == unit), key=lambda each: each["median"])
    return [bar for bar in bars if bar["median"] > 0]
