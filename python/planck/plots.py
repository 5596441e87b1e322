"""Pictures of reports, by matplotlib, which is an extra: `pip install "planck[plot]"`.

Each method draws on `axes`, or on a new figure of pyplot, and returns the axes, as pandas does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planck import _core
from planck.calibration import Calibration, GridType, TensorScale

if TYPE_CHECKING:
    from planck.compare import CompareReport
    from planck.int8_report import Int8Report
    from planck.quantization import Placement

    Axes = Any  # matplotlib.axes.Axes

BARS = 200  # of a histogram: 4096 bins are finer than a picture
CURVE = 120  # thresholds of an error curve
HIGHEST_DB = 160.0  # bars of exact tensors end here
COLOURS = ("tab:red", "tab:green", "tab:purple", "tab:orange", "tab:brown", "tab:olive")


class ComparePlots:
    """Pictures of a `CompareReport`: `report.plot`."""

    def __init__(self, report: CompareReport) -> None:
        self._report = report

    def sqnr(self, *, axes: Axes | None = None) -> Axes:
        """SQNR of each floating tensor in dB, in the model's order; exact ones end at 160 dB.

        Bars: the whole run, pale for tensors that were evaluated again, red for those below the
        limit. Dots: the step alone, fed with the reference's inputs, where that is known.
        Errors: UsageError without matplotlib.
        """
        axes = _axes(axes)
        rows = [row for row in self._report.rows if row.floating]
        limit = self._report.min_sqnr_db
        run = [min(row.cumulative.sqnr_db, HIGHEST_DB) for row in rows]
        bars = axes.bar(range(len(rows)), run, color="tab:blue", label="the whole run")
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(1.0 if row.held else 0.4)
            if row.cumulative.sqnr_db < limit:
                bar.set_color("tab:red")
        alone = [(i, row.isolated.sqnr_db) for i, row in enumerate(rows) if row.isolated]
        heights = [min(db, HIGHEST_DB) for _, db in alone]
        axes.plot([i for i, _ in alone], heights, "k.", label="the step alone")
        axes.axhline(limit, color="tab:red", linestyle="--", label=f"limit {limit:g} dB")
        if len(rows) <= 40:
            names = [_short(row.name) for row in rows]
            axes.set_xticks(range(len(rows)), names, rotation=60, ha="right", fontsize=7)
        axes.set(ylabel="SQNR, dB", title=f"against {self._report.reference}")
        axes.legend(fontsize=8)
        return axes


class CalibrationPlots:
    """Pictures of a `Calibration`: `calibration.plot`. Errors: UsageError for an unknown tensor."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def histogram(
        self,
        tensor: str,
        methods: Sequence[str] | None = None,
        *,
        axes: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """How often each value occurs (zeros aside), and the threshold of each method.

        methods: None takes all. options: as for `Calibration.solve`. The legend has the share of
        elements that each threshold clips. A threshold is that of the symmetric grid.
        Errors: UsageError (no matplotlib, a tensor that was not observed, a method).
        """
        import numpy as np

        axes = _axes(axes)
        facts = self._calibration.histogram(tensor)
        width = 2.0 ** (facts["exponent"] - len(facts["pos"]).bit_length() + 1)
        signed = np.concatenate([facts["neg"][::-1], facts["pos"]])
        used = np.flatnonzero(signed)
        edges = (np.arange(signed.size + 1) - signed.size // 2) * width
        if used.size:
            first, last = used[0], used[-1]
            step = max(1, math.ceil((last + 1 - first) / BARS))
            starts = np.arange(first, last + 1, step)
            counts = np.add.reduceat(signed[: last + 1], starts)
            axes.bar(edges[starts], counts, step * width, align="edge", color="tab:blue")
            axes.set_yscale("log")
        for i, (method, threshold, clipped) in enumerate(
            self._thresholds(tensor, methods, options)
        ):
            colour = COLOURS[i % len(COLOURS)]
            label = f"{method}: {threshold:.4g}, clips {clipped:.2g}"
            axes.axvline(threshold, color=colour, linestyle=_style(i), label=label)
            if facts["neg"].any():
                axes.axvline(-threshold, color=colour, linestyle=_style(i))
        zeros = facts["zeros"] / facts["count"] if facts["count"] else 0.0
        axes.set(
            xlabel=f"value ({zeros:.0%} of the elements are zero)",
            ylabel="elements",
            title=_short(tensor, 60),
        )
        axes.legend(fontsize=8)
        return axes

    def kl(self, tensor: str, zero_policy: str = "skip", *, axes: Axes | None = None) -> Axes:
        """The KL divergence of each threshold that "entropy" tries, and the least of them.

        zero_policy: as for `Calibration.divergence`. Errors: UsageError.
        """
        import numpy as np

        axes = _axes(axes)
        thresholds, divergences = self._calibration.divergence(tensor, zero_policy)
        tried = np.isfinite(divergences)  # no distribution is left of some
        thresholds, divergences = thresholds[tried], divergences[tried]
        axes.plot(thresholds, divergences, color="tab:blue")
        if divergences.size:
            best = int(np.argmin(divergences))
            label = f"least: {thresholds[best]:.4g}"
            axes.axvline(thresholds[best], color="tab:red", linestyle="--", label=label)
            axes.legend(fontsize=8)
        axes.set(xlabel="threshold", ylabel="KL divergence", title=_short(tensor, 60))
        return axes

    def mse(
        self,
        tensor: str,
        dtype: GridType = "s8",
        methods: Sequence[str] | None = None,
        *,
        axes: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """The mean squared error that a grid lets expect, by its threshold; a point a method.

        dtype: "s8" or "u8", the type of the grid. methods, options: as for `histogram`.
        Errors: UsageError.
        """
        import numpy as np

        axes = _axes(axes)
        facts = self._calibration.histogram(tensor)
        largest = max(abs(facts["min"]), abs(facts["max"])) if facts["count"] else 0.0
        if largest > 0:
            thresholds = np.geomspace(largest / 256, largest, CURVE)
            errors = self._calibration.error(tensor, thresholds.tolist(), dtype)
            axes.loglog(thresholds, errors, color="tab:blue")
            found = self._thresholds(tensor, methods, options)
            points = self._calibration.error(tensor, [row[1] for row in found], dtype)
            for i, ((method, threshold, _), error) in enumerate(zip(found, points, strict=True)):
                label = f"{method}: {threshold:.4g}"
                axes.plot(threshold, error, "osv^Dx"[i % 6], color=COLOURS[i % 6], label=label)
            axes.legend(fontsize=8)
        axes.set(xlabel="threshold", ylabel="mean squared error", title=_short(tensor, 60))
        return axes

    def channels(self, tensor: str, *, axes: Axes | None = None) -> Axes:
        """The largest |x| of each channel; errors as for `Calibration.channel_absmax`."""
        axes = _axes(axes)
        ranges = self._calibration.channel_absmax(tensor)
        axes.bar(range(ranges.size), ranges, color="tab:blue")
        axes.set(xlabel="channel", ylabel="largest |x|", title=_short(tensor, 60))
        return axes

    def _thresholds(
        self, tensor: str, methods: Sequence[str] | None, options: dict[str, Any]
    ) -> list[tuple[str, float, float]]:
        """Method, threshold and clipped share."""
        out = []
        for method in methods or [name for name, _ in _core.calibrators()]:
            for row in self._calibration.table(method, **options):
                if row.grid.name == tensor and row.grid.threshold is not None:
                    out.append((method, row.grid.threshold, row.clipped))
        return out


class PlacementPlots:
    """Pictures of a `Placement`: `planck.placement(...).plot`."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def weights(self, tensor: str, *, axes: Axes | None = None) -> Axes:
        """The range that the grid of each output channel of a weight covers, 127 * scale.

        Errors: UsageError without matplotlib, or for a tensor that is no quantised weight.
        """
        axes = _axes(axes)
        grid = self._weight(tensor)
        ranges = 127.0 * grid.scale
        axes.bar(range(ranges.size), ranges, color="tab:blue")
        spread = float(ranges.max() / ranges.min())
        axes.set(
            xlabel=f"output channel (largest is {spread:.3g} times the smallest)",
            ylabel="range",
            title=_short(tensor, 60),
        )
        return axes

    def _weight(self, tensor: str) -> TensorScale:
        for grid in self._placement.weights:
            if grid.name == tensor:
                return grid
        names = ", ".join(grid.name for grid in self._placement.weights[:5])
        raise _core.UsageError(f"no weight {tensor!r} is quantised; there are {names}")


class Int8Plots:
    """Pictures of an `Int8Report`: `report.plot`."""

    def __init__(self, report: Int8Report) -> None:
        self._report = report

    def shares(self, *, axes: Axes | None = None) -> Axes:
        """The microseconds of each part of a run. Errors: UsageError without matplotlib."""
        axes = _axes(axes)
        parts = list(self._report.microseconds)
        bars = axes.barh(parts[::-1], [self._report.microseconds[part] for part in parts[::-1]])
        axes.bar_label(bars, [f" {self._report.share(part):.0%}" for part in parts[::-1]])
        kind = "measured" if self._report.measured else "estimated from bytes"
        axes.set(xlabel=f"microseconds ({kind})")
        return axes


def _axes(given: Axes | None) -> Axes:
    """The axes to draw on; a new figure where none are given."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _core.UsageError(
            f'plots need the package matplotlib: pip install "planck[plot]" ({error})'
        ) from error
    return pyplot.subplots(figsize=(9, 3))[1] if given is None else given


def _short(text: str, width: int = 28) -> str:
    """The end of a name, without what matplotlib would read as a formula."""
    shown = "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")
    return shown if len(shown) <= width else "..." + shown[3 - width :]


def _style(index: int) -> str:
    return ("-", "--", "-.", ":")[index % 4]
