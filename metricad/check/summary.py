"""Say in a few lines what a check found, and what to do."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from metricad.check.facts import ImageFacts
from metricad.check.findings import Findings
from metricad.check.light import Course
from metricad.scoring import suspects

FEW = 5
"""Number of good images that fitting takes at least."""

ENOUGH = 20
"""Number of good images below which more are asked for: one alarm in 21 is then the lowest rate."""

_NAMED = 3  # names in a line


def rows(found: Findings) -> list[tuple[str, str]]:
    """Return one line for each subject: its name and what was found."""
    lines = [
        ("files", _files(found)),
        ("size", _counted(f"{image.height}×{image.width}" for image in found.readable)),
        ("levels", _counted(image.levels for image in found.readable)),
        ("color", _counted(image.color for image in found.readable)),
        ("duplicates", _duplicates(found)),
    ]
    lines += [(course.quantity, _course(found, course)) for course in found.courses if len(course.values)]
    lines.append(("suspects", _suspects(found)))
    return [(name, said) for name, said in lines if said]


def unusual(found: Findings) -> list[str]:
    """Return one line about duplicates and light for those who fit; none if nothing is unusual."""
    said = [f"duplicates: {_duplicates(found)}"] if found.sets(found.near) else []
    said += [_light(found)] if _light(found) else []
    return [f"{'; '.join(said)}; see 'metricad check'"] if said else []


def advice(found: Findings) -> list[str]:
    """Return what to do, the most important first; one sentence if all is well."""
    return list(_advice(found)) or [
        "Nothing unusual was found. Go on with: metricad prototype GOOD --out part.metricad"
    ]


def _advice(found: Findings) -> Iterator[str]:
    if found.unreadable:
        yield f"Mend or remove unreadable files, which stop fitting: {_paths(found.unreadable)}."
    if found.others:
        yield f"Save images of other kinds as PNG or TIFF, if they belong here: {named(found.others)}."
    usable = len(found.usable)
    if usable < FEW:
        yield f"Take more images: {usable} good ones can be used, and {FEW} is the least."
    elif usable < ENOUGH:
        yield (
            f"Take more images if you can: with {usable}, about 1 false alarm in {usable + 1} good images is "
            "the best that can be said."
        )
    if len({image.levels for image in found.readable}) > 1:
        yield "Save all images with the same levels: an inspector takes only one kind."
    colors = Counter(image.color for image in found.readable)
    if colors["color"] and len(colors) > 1:
        gray = len(found.readable) - colors["color"]
        yield f"{gray} good images are gray and {colors['color']} in color: give one kind, or --gray."
    elif colors["gray as color"] and len(colors) > 1:
        yield "Some gray images are stored as color files and some are not. They are treated alike."
    if found.leaks:
        yield (
            f"Remove from the test images what is also among the good ones, or nearly the same: "
            f"{named(map(found.name, found.leaks))}. Measured figures would be too good."
        )
    if groups := found.sets(found.near[: len(found.good)]):
        alike = sum(map(len, groups))
        yield (
            f"Take more different images if you can: {alike} good images show no more than "
            f"{_number(groups, 'part')}, as they are duplicates. Folds keep these together."
        )
    for course in found.courses:
        if course.drift is not None:
            yield (
                f"Check lamp, exposure and focus, as the {course.quantity} drifts. If the line does vary so, "
                "take good images over the whole range."
            )
    apart = {found.readable[number].path: None for course in found.courses for number in course.apart}
    if apart:
        quantities = " or ".join(course.quantity for course in found.courses if course.apart)
        yield f"Look at images whose {quantities} is far from the others: {named(apart)}."
    if found.suspects and found.suspects.numbers:
        yield (
            "Look at the suspects, and move defects out of the good images. If they are good, take more good "
            "images like them, or fit with --keep-suspects."
        )
    if found.suspects and found.suspects.doubtful:
        yield (
            "Look at the doubtful images as well: they are nearer to the others, so they fit. Move defects "
            "out of the good images."
        )


def named(paths: Iterable[str], *, count: int = _NAMED) -> str:
    """Name some files, without their folders, and count the others."""
    names = [Path(path).name for path in paths]
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _paths(files: Sequence[ImageFacts]) -> str:
    return named(image.path for image in files)


def _files(found: Findings) -> str:
    parts = [f"{len(found.good)} good" + (f", {len(found.test)} test" if found.test else "")]
    if found.unreadable:
        parts.append(f"{len(found.unreadable)} unreadable: {_paths(found.unreadable)}")
    if found.others:
        parts.append(f"{len(found.others)} of other kinds: {named(found.others)}")
    if found.skipped:
        kinds = ", ".join(
            f"{count} {name or 'without suffix'}" for name, count in sorted(found.skipped.items())
        )
        parts.append(f"not images: {kinds}")
    if turned := sum(image.is_turned for image in found.good):
        parts.append(f"{turned} turned as their orientation asks")
    return "; ".join(parts)


def _course(found: Findings, course: Course) -> str:
    low, mean, high = course.values.min(), course.values.mean(), course.values.max()
    if course.quantity == "sharpness":
        said = f"{mean:.3g}, from {low:.3g} to {high:.3g}"
    else:
        said = f"{100 * mean:.3g} % of white, from {100 * low:.3g} to {100 * high:.3g}"
    if course.drift is not None:
        said += f"; drifts by {100 * course.drift:+.0f} % from the first quarter of the files to the last"
    if course.apart:
        said += f"; {len(course.apart)} apart: {named(found.readable[n].path for n in course.apart)}"
    return said


def _duplicates(found: Findings) -> str:
    parts = []
    for name, groups in (("exact", found.sets(found.exact)), ("exact or near", found.sets(found.near))):
        if groups:
            parts.append(f"{sum(map(len, groups))} {name} in {_number(groups, 'group')}")
    if len(parts) == 2 and len(found.sets(found.exact)) == len(found.sets(found.near)):
        parts.pop()
    if found.leaks:
        parts.append(f"{len(found.leaks)} across good and test images")
    return "; ".join(parts) or "none"


def _light(found: Findings) -> str:
    parts = [f"{course.quantity} drifts" for course in found.courses if course.drift is not None]
    parts += [
        f"{course.quantity} of {_number(course.apart, 'image')} apart ("
        f"{named(found.readable[n].path for n in course.apart)})"
        for course in found.courses
        if course.apart
    ]
    return "; ".join(parts)


def _suspects(found: Findings) -> str:
    if found.suspects is None:
        return ""
    usable = found.usable
    if len(usable) < suspects.FEWEST:
        return f"not told with fewer than {suspects.FEWEST} images"
    apart, doubtful = (
        [found.good[usable[number]].path for number in numbers]
        for numbers in (found.suspects.numbers, found.suspects.doubtful)
    )
    said = f"{len(apart)} of {len(usable)}: {named(apart, count=6)}" if apart else f"none of {len(usable)}"
    return said + (f"; {len(doubtful)} doubtful: {named(doubtful, count=6)}" if doubtful else "")


def _counted(kinds: Iterable[str]) -> str:
    counts = Counter(kinds).most_common()
    if len(counts) == 1:
        return counts[0][0]
    more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    return ", ".join(f"{name} ({count})" for name, count in counts[:4]) + more


def _number(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
