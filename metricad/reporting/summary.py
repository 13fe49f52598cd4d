"""Results of a study grouped by surface, setting and method, for tables and figures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metricad.errors import DataError
from metricad.evaluation.results import Network, Result
from metricad.reporting import paper_table

Surface = tuple[str, str]
"""Data set and name; together they identify a surface."""

_METHODS = (
    paper_table.METHOD, "mean manhattan", "positional-mean euclidean", "positional-mean manhattan",
    "gaussian", "mixture", "positional", "auto",
)  # fmt: skip
_ROLES = ("trained", "bundle", "compared", "untrained", "baseline")
# Names of the grid's networks without the seed: h16, h32-cifar100.
_GRID_NAME = re.compile(r"h\d+(?:-(.+))?")


@dataclass(frozen=True)
class Setting:
    """One column of a table: networks that differ only in their seed, a bundle, or a control.

    Attributes
    ----------
    role : {"trained", "bundle", "compared", "untrained", "baseline"}
    name : str or None
        For untrained networks, the name of their architecture; None for the paper's. All settings with the
        same architecture and size share them. For bundles, None if each surface has at most one.
    units : int or None
    """

    role: str
    name: str | None
    units: int | None = None


def setting_of(network: str, seed: int | None, units: int | None) -> Setting:
    """Return the setting of a trained network."""
    return Setting("trained", network.removesuffix(f"-{seed}"), units)


class Summary:
    """Results of a study grouped by surface, setting and method.

    Attributes
    ----------
    titles : dict of Surface to str
        All surfaces and their titles.
    known, novel : list of Surface
        Surfaces that a network was trained on, and all others.
    labels : dict of Setting to str
        All settings and their labels.
    judged, controls : list of Setting
        Settings to judge (trained networks, bundles, published methods), and controls that they must beat.
    methods, method : list of str, str
        Densities used on networks, and the main one: the paper's if it was used.
    shown : Setting or None
        Setting to show if there is space for only one: the first trained on objects, else the first.

    Raises
    ------
    DataError
        The results do not fit together.
    """

    def __init__(self, results: Sequence[Result], networks: Sequence[Network] = ()) -> None:
        self._groups: dict[tuple[Surface, Setting, str | None], list[Result]] = {}
        self._first: dict[Surface, Result] = {}
        bundles = {(_surface(result), result.method) for result in results if result.role == "bundle"}
        self._has_many_bundles = len(bundles) > len({surface for surface, _ in bundles})
        self._kinds = " and ".join(sorted({method.rpartition(": ")[2] for _, method in bundles}))
        for result in results:
            first = self._first.setdefault(_surface(result), result)
            if [row["name"] for row in first.scores] != [row["name"] for row in result.scores]:
                raise DataError(
                    f"{result.dataset}: results on {result.surface} have different test images; report "
                    "them separately"
                )
            _add(self._groups.setdefault(self.key(result), []), result)
        self.saw_objects = {
            setting_of(one.name, one.seed, one.units): paper_table.saw_objects(one.trained_on)
            for one in networks
        }
        known = {_surface(result) for result in results if result.is_known}
        names = [name for _, name in self._first]
        # Add the data set to the title if two surfaces have the same name.
        self.titles = {s: plain(s[1] if names.count(s[1]) == 1 else ": ".join(s)) for s in self._first}
        self.known = [surface for surface in self.titles if surface in known]
        self.novel = [surface for surface in self.titles if surface not in known]
        self.labels = self._labels()
        self.judged = [one for one in self.labels if one.role in ("trained", "bundle", "compared")]
        self.controls = [one for one in self.labels if one not in self.judged]
        used = dict.fromkeys(r.method for r in results if r.role in ("trained", "untrained"))
        self.methods = sorted(used, key=lambda name: (*_METHODS, name).index(name))
        self.method = next(iter(self.methods), self._kinds or results[0].method)
        there = [s for s in self.judged if any(self.of(t, s, self.method_of(s)) for t in self.titles)]
        self.shown = next((s for s in there if self.saw_objects.get(s)), next(iter(there), None))

    def of(self, surface: Surface, setting: Setting, method: str) -> list[Result]:
        """Return one result for each seed, in order. Only networks have several methods."""
        has_method = setting.role in ("trained", "untrained")
        return self._groups.get((surface, setting, method if has_method else None), [])

    def method_of(self, setting: Setting) -> str:
        """Return the main method, or the first method of a setting if it does not have the main one."""
        own = [method for method in self.methods if any(self.of(s, setting, method) for s in self.titles)]
        return self.method if self.method in own or not own else own[0]

    def column(self, setting: Setting) -> str:
        """Return the column header of a setting in tables of the main method."""
        method = self.method_of(setting)
        return self.labels[setting] if method == self.method else f"{self.labels[setting]}, {method}"

    def values(self, surface: Surface, setting: Setting, method: str) -> list[float]:
        """Return the AUROC of each seed."""
        return [result.auroc for result in self.of(surface, setting, method)]

    def median(self, surface: Surface, setting: Setting, method: str) -> float | None:
        """Return the median AUROC over the seeds."""
        values = self.values(surface, setting, method)
        return float(np.median(values)) if values else None

    def rivals(self, surface: Surface, setting: Setting, method: str) -> dict[Setting, float]:
        """Return the median AUROC of a setting's controls: baselines, and its untrained network."""
        found = {}
        for one in self.of(surface, setting, method)[:1]:
            kind = one.method.rpartition(": ")[2]  # the method of a bundle has the form "<file>: <density>"
            for control in self.controls:
                median = self.median(surface, control, kind)
                is_like = control.role == "baseline" or control == _untrained(one)
                if median is not None and is_like:
                    found[control] = median
        return found

    def is_beaten(self, surface: Surface, setting: Setting, method: str) -> bool:
        """Whether a control is as good or better; then training has brought no benefit."""
        rivals = self.rivals(surface, setting, method).values()
        median = self.median(surface, setting, method)
        return median is not None and any(median <= rival for rival in rivals)

    def reference(self, surface: Surface, setting: Setting) -> tuple[float, float] | None:
        """Return the paper's median and deviation for comparison with the main method."""
        saw_objects = self.saw_objects.get(setting) if self.method == paper_table.METHOD else None
        return paper_table.reference(*surface, setting.units, saw_objects)

    def difference(self, surface: Surface, setting: Setting) -> float | None:
        """Return our median minus the paper's, if both exist."""
        reference, median = self.reference(surface, setting), self.median(surface, setting, self.method)
        return None if reference is None or median is None else median - reference[0]

    def caption(self, setting: Setting) -> str:
        """Return setting and method; bundles and published methods only have a label."""
        has_own = setting.role in ("bundle", "compared")
        return self.labels[setting] if has_own else f"{self.method_of(setting)}, {self.labels[setting]}"

    def counts(self, surface: Surface) -> str:
        """Return the numbers of good and defective test images as text."""
        return f"{self._first[surface].test_normals} / {self._first[surface].test_defects}"

    def defect_share(self, surface: Surface) -> float:
        """Return the share of defects among the test images."""
        return float(np.mean(self._first[surface].defect))

    def key(self, result: Result) -> tuple[Surface, Setting, str | None]:
        """Return surface, setting and method of a result; bundles and baselines have no method."""
        surface, method = _surface(result), result.method
        match result.role:
            case "trained":
                assert result.network is not None
                return surface, setting_of(result.network, result.seed, result.units), method
            case "untrained":
                return surface, _untrained(result), method
            case "bundle":
                return surface, Setting("bundle", method if self._has_many_bundles else None), None
            case role:
                return surface, Setting(role, method), None

    def _labels(self) -> dict[Setting, str]:
        settings = sorted({key[1]: 0 for key in self._groups}, key=lambda one: _ROLES.index(one.role))
        trained = [setting for setting in settings if setting.role == "trained"]
        # Shipped networks are labeled by their name, the paper's networks by their differences.
        shipped = {setting for (_, setting, _), group in self._groups.items() if group[0].architecture}
        networks = [setting for setting in trained if setting not in shipped]
        in_grid = all(_GRID_NAME.fullmatch(setting.name or "") for setting in networks)
        names = {}
        for one in networks:
            found = _GRID_NAME.fullmatch(one.name or "") if in_grid else None
            objects = found[1] if found else None
            if objects == "cifar100" or (not in_grid and self.saw_objects.get(one)):
                objects = "CIFAR-100"
            names[one] = f"h = {one.units}" + (f" + {objects}" if objects else "")
        if not in_grid and len({one.name for one in networks}) > 1:
            names = {one: one.name or "" for one in networks}
        if len(set(names.values())) < len(names):
            names = {one: f"{one.name}, h = {one.units}" for one in networks}
        names |= {one: one.name or "" for one in trained if one in shipped}
        # An untrained network is named after the shipped one of its architecture.
        trained_of = {
            group[0].architecture: setting.name
            for (_, setting, _), group in self._groups.items()
            if setting in shipped and setting.role == "trained"
        }
        for one in settings[len(trained) :]:
            if one.role == "untrained" and one.name in trained_of:
                names[one] = f"{trained_of[one.name]}, untrained"
                continue
            shape = f"{one.name}, " if one.name else ""
            names[one] = (
                f"untrained {shape}h = {one.units}" if one.units else one.name or f"inspector, {self._kinds}"
            )
        return {one: plain(name) for one, name in names.items()}


def plain(name: str) -> str:
    """Put a user's name on one line; bytes of file names that are not UTF-8 are escaped."""
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split()) or "?"


def _add(group: list[Result], result: Result) -> None:
    """Add a result to those of other seeds; a result that was found twice counts once."""
    for other in group:
        if other.seed == result.seed:
            if np.allclose(other.score_values, result.score_values, rtol=1e-3):
                return
            raise DataError(
                f"{result.dataset}: two results on {result.surface} differ, both of {result.method} with "
                f"{result.network or 'no network'}; give the networks different names, or report the files "
                "separately"
            )
    group.append(result)
    group.sort(key=lambda one: one.seed or 0)


def _untrained(result: Result) -> Setting:
    """Return the setting of the untrained networks with a result's architecture and size."""
    return Setting("untrained", result.architecture, result.units)


def _surface(result: Result) -> Surface:
    return result.dataset, result.surface
