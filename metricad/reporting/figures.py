"""Pictures of a report: ROC curves, histograms of scores, training curves.

They are readable on a phone, with two or three panels side by side. Colors and line styles can be told apart
with any color vision and in print.
"""

import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from PIL import Image

from metricad import metrics
from metricad.evaluation.results import Network, Result
from metricad.reporting import tables
from metricad.reporting.document import Picture
from metricad.reporting.summary import Setting, Summary, Surface, plain, setting_of

# Okabe and Ito's palette.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", (0, (5, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (2.5, 1)))
GOOD, DEFECT = _COLORS[:2]
_UNTRAINED_GRAYS = ("#777777", "#a8a8a8")
_BASELINE_GRAY = "#333333"
OUTLINE = "#E69F00"
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
# A narrow figure keeps text readable on a phone.
WIDTH = 5.8  # inches
_DPI = 160
# With this limit, a page with twelve surfaces stays below 1.8 MB.
_JPEG_BYTES = 85_000
_JPEG_QUALITIES = (80, 70, 60, 50, 40, 30)


def roc(summary: Summary) -> Picture:
    """Make a picture with ROC curves of the main method, one panel for each surface."""
    return Picture(
        "roc.png",
        to_png(draw_roc(summary)),
        f"ROC curves of {_listed(summary.titles.values())}",
        f"ROC curves: {summary.method}. Each seed has its own line; gray lines are controls.",
    )


def draw_roc(summary: Summary) -> Figure:
    """Draw the figure of `roc`."""
    chance = dict.fromkeys(summary.titles, (0.0, 1.0))
    return _draw_curves(summary, metrics.roc_curve, chance, ("false-positive rate", "true-positive rate"))


def precision_recall(summary: Summary) -> Picture:
    """Make a picture with precision-recall curves of the main method, one panel for each surface."""
    return Picture(
        "precision-recall.png",
        to_png(draw_precision_recall(summary)),
        f"Precision-recall curves of {_listed(summary.titles.values())}",
        f"Precision-recall curves: {summary.method}, as above. The horizontal line is chance: the share "
        "of defects among the test images.",
    )


def draw_precision_recall(summary: Summary) -> Figure:
    """Draw the figure of `precision_recall`."""
    shares = {surface: summary.defect_share(surface) for surface in summary.titles}
    chance = {surface: (share, share) for surface, share in shares.items()}
    return _draw_curves(summary, metrics.precision_recall_curve, chance, ("recall", "precision"))


def _draw_curves(
    summary: Summary,
    curve: Callable[[Sequence[bool], Sequence[float]], tuple[np.ndarray, np.ndarray]],
    chance: Mapping[Surface, tuple[float, float]],
    axes: tuple[str, str],
) -> Figure:
    """Draw the curves of all results, a panel for each surface; `chance` is the chance line at both ends."""
    with rc_context(LOOK):
        figure, panels = lay_out(len(summary.titles), across=3, ratio=1.06, entries=len(summary.labels))
        look = styles(summary)
        handles: dict[Setting, Artist] = {}
        for (surface, title), panel in zip(summary.titles.items(), panels, strict=True):
            panel.plot([0, 1], chance[surface], color="#e0e0e0", linewidth=1)
            for setting in [*summary.controls, *summary.judged]:
                for result in summary.of(surface, setting, summary.method_of(setting)):
                    rates = curve(result.defect, result.score_values)
                    (line,) = panel.plot(*rates, linewidth=1.2, gid=summary.labels[setting], **look[setting])
                    handles.setdefault(setting, line)
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            panel.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            _title(panel, title, width=20)
        _name_axes(panels, *axes)
        legend(figure, {summary.column(s): handles[s] for s in summary.labels if s in handles})
    return figure


def scores(summary: Summary, setting: Setting) -> Picture:
    """Make a picture with histograms of the scores of one setting, first seed, one panel for each surface."""
    return Picture(
        "scores.png",
        to_png(draw_scores(summary, setting)),
        f"Histograms of the scores of good and defective images of {_listed(summary.titles.values())}",
        f"Scores of the test images: {summary.caption(setting)}, first seed. The threshold is set on "
        "held-out good images, never on test images. Images to the right of the threshold are called "
        "defects: good images there are false alarms, defects to the left are misses.",
    )


def draw_scores(summary: Summary, setting: Setting) -> Figure:
    """Draw the figure of `scores`."""
    groups = {s: summary.of(s, setting, summary.method_of(setting)) for s in summary.titles}
    shown = {surface: group[0] for surface, group in groups.items() if group}
    with rc_context(LOOK):
        figure, panels = lay_out(len(shown), across=2, ratio=0.68, entries=2)
        # All panels have the same type of axis, so that they can be compared.
        ranges = [(min(one.score_values), max(one.score_values)) for one in shown.values()]
        is_log = all(low > 0 for low, _ in ranges) and any(high > 20 * low for low, high in ranges)
        handles: dict[str, Artist] = {}
        for (surface, result), panel in zip(shown.items(), panels, strict=True):
            handles |= _histograms(panel, result, is_log=is_log)
            _title(panel, summary.titles[surface], width=30, below=_decision(result))
        _name_axes(panels, "score", "test images")
        legend(figure, handles, columns=3)
    return figure


def training(summary: Summary, networks: Sequence[Network]) -> Picture:
    """Make a picture with loss and triplet accuracy of all networks over the epochs."""
    return Picture(
        "training.png",
        to_png(draw_training(summary, networks)),
        "Loss and triplet accuracy over the epochs of training",
        "Training: one line for each network, in the color of its setting in the ROC curves.",
    )


def draw_training(summary: Summary, networks: Sequence[Network]) -> Figure:
    """Draw the figure of `training`."""
    settings = {one.name: setting_of(one.name, one.seed, one.units) for one in networks}
    look = styles(summary, settings.values())
    with rc_context(LOOK):
        figure, panels = lay_out(2, across=2, ratio=0.75, entries=len(set(settings.values())))
        handles: dict[str, Artist] = {}
        for network in networks:
            setting = settings[network.name]
            for panel, curve in zip(panels, (network.epoch_loss, network.epoch_accuracy), strict=True):
                epochs = range(1, len(curve) + 1)
                (line,) = panel.plot(epochs, curve, linewidth=1.2, gid=network.name, **look[setting])
            handles[summary.labels.get(setting, plain(setting.name or ""))] = line
        for panel, title in zip(panels, ("loss", "triplet accuracy"), strict=True):
            panel.set(title=title, xlabel="epoch")
        legend(figure, handles)
    return figure


def styles(summary: Summary, more: Iterable[Setting] = ()) -> dict[Setting, dict[str, Any]]:
    """Choose the style of each setting: controls are gray, untrained networks dashed, baselines dotted."""
    found = {}
    for number, setting in enumerate(dict.fromkeys([*summary.judged, *more])):
        color, line = _COLORS[number % len(_COLORS)], _LINES[number % len(_LINES)]
        found[setting] = {"color": color, "linestyle": line, "zorder": 3}
    for number, setting in enumerate(summary.controls):
        gray, line = _UNTRAINED_GRAYS[number % len(_UNTRAINED_GRAYS)], "--"
        if setting.role == "baseline":
            gray, line = _BASELINE_GRAY, ":"
        found[setting] = {"color": gray, "linestyle": line, "zorder": 2}
    return found


def to_png(figure: Figure) -> bytes:
    """Encode a figure with few colors as PNG; the palette saves two thirds of the bytes."""
    few = _draw(figure).quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def to_jpeg(figure: Figure) -> bytes:
    """Encode a figure with photographs as JPEG; noisy ones get lower quality to limit the file size."""
    image = _draw(figure)
    for quality in _JPEG_QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=quality, optimize=True)
        if buffer.tell() <= _JPEG_BYTES:
            break
    return buffer.getvalue()


def _draw(figure: Figure) -> Image.Image:
    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Characters missing in the font are drawn as boxes; the text beside the picture has the name.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def lay_out(count: int, *, across: int, ratio: float, entries: int) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels of this ratio of height to width, and with space for a legend below."""
    across = min(across, count)
    # A single panel does not need the full width; a legend with two columns does.
    width, columns = (WIDTH, 2) if across > 1 else (4, 1)
    down = -(-count // across)
    height = down * ratio * width / across + 0.3 - 0.22 * (-entries // columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, list(panels[:count])


def _name_axes(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the axes once for each row and each column."""
    grid = panels[0].get_gridspec()
    assert grid is not None
    across = grid.ncols
    for number, panel in enumerate(panels):
        if number % across == 0:
            panel.set_ylabel(y)
        if number + across >= len(panels):
            panel.set_xlabel(x)


def _histograms(panel: Axes, result: Result, *, is_log: bool) -> dict[str, Artist]:
    values, defect = np.array(result.score_values), np.array(result.defect)
    low, high = values.min(), values.max()
    size = max(abs(low), abs(high)) or 1.0
    if high - low <= 1e-6 * size:  # all scores are alike: a bar that can be seen
        low, high = low - 0.1 * size, high + 0.1 * size
    edges = np.geomspace(low, high, 25) if is_log else np.linspace(low, high, 25)
    handles: dict[str, Artist] = {}
    drawn: Any
    for name, chosen, color, hatch in (("good", ~defect, GOOD, None), ("defect", defect, DEFECT, "////")):
        *_, drawn = panel.hist(
            values[chosen],
            edges.tolist(),
            histtype="stepfilled",
            facecolor=(color, 0.25),
            edgecolor=color,
            hatch=hatch,
        )
        (handles[name],) = drawn
    if result.threshold is not None:
        handles["threshold"] = panel.axvline(result.threshold, color="black", linestyle="--", linewidth=1.2)
        panel.annotate(
            f"{result.threshold:.3g}", (result.threshold, 1), (2, 0), fontsize=9,
            xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
        )  # fmt: skip
    if is_log:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
    locator = panel.yaxis.get_major_locator()
    assert isinstance(locator, MaxNLocator)
    locator.set_params(integer=True)
    return handles


def _decision(result: Result) -> str:
    rates = tables.rates(result)
    if rates is None:
        return "no threshold" + ("" if result.held_out_normals else ": none held out")
    false_alarms, misses = rates
    return f"false alarms {tables.percent(false_alarms)}, misses {tables.percent(misses)}"


def _title(panel: Axes, title: str, *, width: int, below: str = "") -> None:
    lines = textwrap.wrap(title, width, max_lines=2, placeholder="…")
    # parse_math is off, because a name may contain dollar signs.
    panel.set_title("\n".join([*lines, *([below] if below else [])]), parse_math=False)


def legend(figure: Figure, handles: Mapping[str, Artist], columns: int = 2) -> None:
    legend = figure.legend(
        handles.values(),
        [label if len(label) <= 36 else f"{label[:35]}…" for label in handles],
        loc="outside lower center",
        ncols=columns if figure.get_figwidth() == WIDTH else 1,
        handlelength=3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _listed(titles: Iterable[str]) -> str:
    return ", ".join(titles)
