"""Fit to good images with defects among them, and see what `metricad prototype`'s check for suspects saves.

    python scripts/defects_among_good.py --data PARTS/casting --data PARTS/wood --data dagm2007/class1 \\
        --data-dir PREPARED --work WORK

Each draw takes some good images of a surface at random, and defects. Three inspectors are fitted: to the good
images alone; to the good images and the defects, all kept; and to the same with suspects left out, as is the
default. The defects that were not drawn tell how many each of them misses, other good images how often it
gives a false alarm. `--clean` surfaces are only fitted to good images. Each fit is a line of WORK/fits.jsonl:
an interrupted run goes on where it was. Writes suspects.md into results/.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np
import rivals

from metricad import files
from metricad.data import datasets, images
from metricad.evaluation.protocol import images_of
from metricad.inspection.fit import fit_inspector
from metricad.networks import pretrained
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Table

CLEAN, KEPT, CHECKED = "good images alone", "defects kept", "suspects left out"


def main() -> int:
    """Draw, fit, judge, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", action="append", default=[], help="as of 'metricad evaluate'")
    parser.add_argument("--clean", action="append", default=[], help="the same, without defects drawn")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", default="accurate", help="a network that ships")
    parser.add_argument("--images", type=int, default=100, help="good images of each draw; at most half")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1], help="of defects")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.05, help="false-alarm rate that is asked for")
    parser.add_argument("--stream", type=int, default=100, help="most other images judged, good and defect")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    log = options.work / "fits.jsonl"
    options.work.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    keys = {tuple(one["key"]) for one in done}
    for draw in range(options.draws):
        for source, shares in [(one, options.shares) for one in options.data] + [
            (one, []) for one in options.clean
        ]:
            for surface in datasets.load(source, data_dir=options.data_dir):
                with measuring.features_once():
                    for one in fits(surface, shares, draw, options, keys):
                        with log.open("a") as file:
                            file.write(json.dumps(one) + "\n")
                        done.append(one)
                        print(one, flush=True)
                    files.write_text(options.out / "suspects.md", markdown.render(page(done, options)))
    files.write_text(options.out / "suspects.md", markdown.render(page(done, options)))
    return 0


def fits(
    surface: datasets.Surface,
    shares: Sequence[float],
    draw: int,
    options: argparse.Namespace,
    done: set[tuple[object, ...]],
) -> Iterator[dict[str, object]]:
    """Fit all inspectors of one draw that are not done; yield a record of each."""
    rng = np.random.default_rng([draw, len(surface.name)])
    good = [s for s in (*surface.fit, *surface.test) if not s.is_defect]
    good = [good[i] for i in rng.permutation(len(good))]
    defects = [s for s in surface.test if s.is_defect]
    defects = [defects[i] for i in rng.permutation(len(defects))]
    count = min(options.images, len(good) // 2)
    most = round(max([*shares, 0.0]) * count)
    judged = good[count : count + options.stream], defects[most : most + options.stream]
    cases = [(CLEAN, 0.0)] + [(way, share) for share in shares for way in (KEPT, CHECKED)]
    for way, share in cases:
        key = surface.name, draw, way, share
        if key in done:
            continue
        began = time.perf_counter()
        mixed = defects[: round(share * count)]
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, image in enumerate(images_of([*good[:count], *mixed], color=True)):
                kind = "good" if number < count else "defect"
                paths.append(Path(folder, f"{number:04}-{kind}.png"))
                images.write(paths[-1], images.to_uint8(image))
            inspector = fit_inspector(
                paths,
                pretrained.load(options.network),
                false_alarm_rate=options.rate,
                keeps_suspects=way == KEPT,
                seed=draw,
            )
        scores = [
            np.array([inspector.detector.score(image) for image in images_of(samples, color=True)])
            for samples in judged
        ]
        alarms = [float(np.mean(one > inspector.threshold)) for one in scores]
        found, unsure = (
            [name.rsplit("-", 1)[1] for name in inspector.fitted_on.get(kind, [])]
            for kind in ("suspects", "doubtful")
        )
        yield {
            "key": key,
            "good": count,
            "mixed": len(mixed),
            "suspects": [found.count("good.png"), found.count("defect.png")],
            "named": [(found + unsure).count(f"{kind}.png") for kind in ("good", "defect")],
            "said": inspector.calibrated.false_alarm_rate,
            "false_alarms": alarms[0],
            "missed": 1 - alarms[1],
            "judged": [len(one) for one in scores],
            "seconds": round(time.perf_counter() - began),
        }


def _words(options: argparse.Namespace) -> str:
    """Return the arguments about data, without folders of this machine."""
    named = rivals.sources(
        argparse.Namespace(data=[*options.data, *options.clean], data_dir=options.data_dir)
    )
    first, kinds = len(options.data), iter(range(len(named)))
    return shlex.join("--clean" if word == "--data" and next(kinds) >= first else word for word in named)


def page(done: Sequence[dict], options: argparse.Namespace) -> Document:
    """Build the page: means over draws."""
    header = [
        "surface", "good, defects", "fitted to", "draws", "defects missed, %", "false alarms, %", "said, %",
        "suspects: of the good, %", "of the defects, %", "named: of the good, %", "of the defects, %",
    ]  # fmt: skip
    rows = []
    groups = sorted({(one["key"][0], one["key"][3], one["key"][2]) for one in done}, key=str)
    for name, share, way in groups:
        own = [one for one in done if (one["key"][0], one["key"][3], one["key"][2]) == (name, share, way)]
        mean = {key: np.mean([one[key] for one in own]) for key in ("missed", "false_alarms", "said")}
        suspects, named = (np.mean([one[key] for one in own], axis=0) for key in ("suspects", "named"))
        has_defects = way == CHECKED
        rows.append(
            [
                name,
                f"{own[0]['good']}, {own[0]['mixed']}",
                way,
                len(own),
                f"{100 * mean['missed']:.1f}",
                f"{100 * mean['false_alarms']:.1f}",
                f"{100 * mean['said']:.1f}",
                "" if way == KEPT else f"{100 * suspects[0] / own[0]['good']:.1f}",
                f"{100 * suspects[1] / own[0]['mixed']:.0f}" if has_defects else "",
                "" if way == KEPT else f"{100 * named[0] / own[0]['good']:.1f}",
                f"{100 * named[1] / own[0]['mixed']:.0f}" if has_defects else "",
            ]
        )
    return Document(
        "Defects among the good images",
        [
            f"Made by: python scripts/defects_among_good.py {_words(options)} --network {options.network} "
            f"--images {options.images} --stream {options.stream} --draws {options.draws} --work WORK",
            "Good images with defects among them, as metricad prototype would get them, at a false-alarm "
            f"rate of {100 * options.rate:g} %, network {options.network}. Means over draws. The defects "
            "judged are others than those among the good images. Suspects that were left out count as alarms "
            "in the rate that is said, until a person has confirmed them. Named are suspects and doubtful "
            "images: the latter fit, but prototype and check ask to look at them.",
            Table("", header, [[Cell(str(one)) for one in row] for row in rows]),
        ],
        [],
    )


if __name__ == "__main__":
    sys.exit(main())
