"""Sections of a report in order: what was run, on what data, the results, and how they were made."""

from collections.abc import Iterator, Mapping

import numpy as np

from metricad.errors import DataError
from metricad.evaluation.results import Cost, Network, Study
from metricad.reporting import embeddings, figures, heat_maps, in_short, paper_table, tables
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from metricad.reporting.summary import Setting, Summary, Surface, plain, setting_of


def build(study: Study, *, is_embedded: bool = False) -> Document:
    """Build the report of a study; raises the errors of `report.write`."""
    summary = Summary(study.results, study.networks)
    titles = list(summary.titles.values())
    return Document(
        f"Anomaly detection on {titles[0] if len(titles) == 1 else f'{len(titles)} surfaces'}",
        in_short.in_short(summary),
        [
            section
            for section in _sections(study, summary, is_embedded=is_embedded)
            if section.blocks or section.sections
        ],
    )


def _sections(study: Study, summary: Summary, *, is_embedded: bool) -> Iterator[Section]:
    shown = summary.shown
    yield Section(
        "What was compared",
        [
            _what_was_run(study, summary),
            _on_what(study, summary),
            _HOW_TO_READ,
            _how_far_from_the_paper(study, summary),
            tables.means(summary),
        ],
    )
    yield Section("AUROC per surface", [*tables.auroc(summary), *_marked(summary)])
    if shown:
        yield Section("Intervals", [_INTERVALS, tables.intervals(summary)])
        why = _why_shown(summary, shown)
        yield Section("All metrics", [*why, _METRICS, tables.all_metrics(summary, shown)])
    if shown and shown.role == "trained":
        comparison: list[str | Table] = [tables.densities(summary, shown), *_distances(summary)]
        yield Section("Densities and distances", [*why, *comparison])
    yield Section("Controls", [_CONTROLS, tables.controls(summary)] if summary.controls else [])
    yield Section("ROC curves", [figures.roc(summary)])
    yield Section("Precision-recall curves", [figures.precision_recall(summary)])
    if shown:
        yield Section("Scores and thresholds", [figures.scores(summary, shown)])
    examples = {id(r): shown for r, shown in zip(study.results, study.examples, strict=True) if shown}
    maps = [Section(summary.titles[s], [each]) for s, each in heat_maps.maps(summary, examples).items()]
    yield Section("Heat maps", [heat_maps.HOW_TO_READ_MAPS] if maps else [], maps)
    if is_embedded:
        yield Section("Embeddings", _embeddings(study, summary))
    trained = [network for network in study.networks if network.epoch_loss]
    yield Section("Training", [figures.training(summary, trained)] if trained else [])
    yield Section("Provenance", [_PROTOCOL, *_provenance(study, summary)])


def _what_was_run(study: Study, summary: Summary) -> str:
    trained = [setting for setting in summary.judged if setting.role == "trained"]
    networks = {result.network for result in study.results if result.role == "trained"}
    seeds = sorted({r.seed for r in study.results if r.role == "trained" and r.seed is not None})
    sentences = []
    if trained:
        labels = "; ".join(summary.labels[setting] for setting in trained)
        sentences.append(
            f"{_count(len(networks), 'trained network')} in {_count(len(trained), 'setting')} ({labels}), "
            f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}, "
            f"with {_count(len(summary.methods), 'density', 'densities')}: {', '.join(summary.methods)}."
        )
    bundles = {result.method for result in study.results if result.role == "bundle"}
    if bundles:
        sentences.append(f"{_count(len(bundles), 'bundle')}: {', '.join(sorted(bundles))}.")
    compared = [summary.labels[setting] for setting in summary.judged if setting.role == "compared"]
    if compared:
        sentences.append(f"{_count(len(compared), 'published method')}: {', '.join(compared)}.")
    controls = "; ".join(summary.labels[setting] for setting in summary.controls)
    sentences.append(f"Controls: {controls or 'none'}.")
    return plain(" ".join(sentences))


def _on_what(study: Study, summary: Summary) -> str:
    results = study.results
    datasets = ", ".join(dict.fromkeys(surface[0] for surface in summary.titles))
    parts = f": {len(summary.known)} known, whose good images networks were trained on, and "
    parts = f"{parts}{len(summary.novel)} novel" if summary.known else ""
    fitted = _range(result.fit_normals for result in results if result.role != "bundle")
    held_out = _range(result.held_out_normals for result in results if result.role != "bundle")
    sentences = [
        f"Tested on {_count(len(summary.titles), 'surface')} of {datasets}{parts}. Each has "
        f"{_range(result.test_normals for result in results)} good test images and "
        f"{_range(result.test_defects for result in results)} defects."
    ]
    if fitted:
        sentences.append(
            f"Densities and baselines are fitted to {fitted} other good images of the surface; "
            f"{'none' if held_out == '0' else f'{held_out} more'} are held out for a threshold."
        )
    counted = {(r.dataset, r.surface): r for r in results if r.masks is not None}.values()
    if counted:
        masks = sum(result.masks or 0 for result in counted)
        defects = sum(result.test_defects for result in counted)
        sentences.append(f"A mask that can be used was found for {masks} of {defects} defects.")
    if problems := study.problems():
        count = _count(len(problems), "image, mask or surface", "images, masks or surfaces")
        sentences.append(f"Left out, as the results say: {count} that could not be used.")
    return plain(" ".join(sentences))


def _how_far_from_the_paper(study: Study, summary: Summary) -> str:
    sentences: list[str] = []
    compared: dict[Surface, float] = {}
    for setting in summary.judged:
        differences = {s: summary.difference(s, setting) for s in summary.titles}
        found = {surface: less for surface, less in differences.items() if less is not None}
        if found:
            lowest, highest = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
            mean = float(np.mean(list(found.values())))
            apart = f"{tables.signed(mean)} on average over {len(found)} classes, from "
            apart = apart if len(found) > 1 else ""
            places = [
                f"{tables.signed(found[s])} ({summary.titles[s]})" for s in dict.fromkeys((lowest, highest))
            ]
            sentences.append(f"{summary.labels[setting]}: {apart}{' to '.join(places)}")
            compared |= found
        if len(found) == len(paper_table.TABLE_3):
            ours = np.mean([summary.median(surface, setting, summary.method) for surface in found])
            theirs = paper_table.MEANS[setting.units, summary.saw_objects[setting]]
            sentences[-1] += f"; the mean is {ours:.3f}, the paper prints {theirs}"
    if sentences:
        fitted = _range(
            result.fit_normals
            for result in study.results
            if result.role == "trained" and (result.dataset, result.surface) in compared
        )
        sentences.append(f"Densities are fitted to {fitted} good images here, to 500 in the paper")
        return f"Difference from the paper's table 3 (AUROC here minus the paper's). {'. '.join(sentences)}."
    return (
        "These results cannot be compared with the paper's table 3, which is for the ten classes of DAGM "
        "2007, networks with h = 16 and 32, and the Euclidean distance to the mean."
    )


def _embeddings(study: Study, summary: Summary) -> list[str | Picture]:
    if not study.embeddings:
        raise DataError(
            "there are no embeddings in these results; expected those of 'metricad evaluate --embedding'; "
            "evaluate again, or leave out --embedding"
        )
    pairs = zip(study.results, study.embeddings, strict=True)
    found = [(result, vectors) for result, vectors in pairs if vectors is not None]
    return [_HOW_TO_READ_EMBEDDINGS, *embeddings.pictures(summary, found)]


def _marked(summary: Summary) -> list[str]:
    judged = [
        (surface, setting)
        for setting in summary.judged
        for surface in summary.titles
        if summary.of(surface, setting, summary.method_of(setting))
    ]
    beaten = [place for place in judged if summary.is_beaten(*place, summary.method_of(place[1]))]
    lacking = sum(
        {control.role for control in summary.rivals(*place, summary.method_of(place[1]))}
        != ({"baseline"} if place[1].role == "compared" else {"untrained", "baseline"})
        for place in judged
    )
    each = [
        f"{sum(setting == one for _, setting in beaten)} of {sum(setting == one for _, setting in judged)} "
        f"with {summary.labels[one]}"
        for one in summary.judged
    ]
    text = f"{len(beaten)} of {len(judged)} numbers are marked as not better than both controls"
    text += f": {', '.join(each)}." if len(each) > 1 else "."
    text += f" For {lacking} a control is missing, so a mark may be missing." if lacking else ""
    return [text] if judged else []


def _why_shown(summary: Summary, shown: Setting) -> list[str]:
    if len(summary.judged) == 1:
        return []
    which = " whose networks saw objects in their training" if summary.saw_objects.get(shown) else ""
    return [f"This shows the setting {summary.labels[shown]}: the first{which}, independent of its results."]


def _distances(summary: Summary) -> list[str]:
    """Compare Manhattan and Euclidean distance, the paper's open question (section 4), if both were run."""
    differences: dict[Surface, list[float]] = {}
    seeds, settings = set(), set()
    for surface in summary.titles:
        for setting in summary.judged:
            others = {one.seed: one.auroc for one in summary.of(surface, setting, "mean manhattan")}
            for one in summary.of(surface, setting, "mean euclidean"):
                if setting.role == "trained" and one.seed in others:
                    differences.setdefault(surface, []).append(others[one.seed] - one.auroc)
                    seeds.add(one.seed)
                    settings.add(setting)
    if not differences:
        return []
    every = np.concatenate(list(differences.values()))
    means = {surface: float(np.mean(values)) for surface, values in differences.items()}
    lowest, highest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    return [
        "Manhattan or Euclidean distance to the mean, which the paper leaves open: over "
        f"{_count(len(every), 'pair')} ({_count(len(means), 'surface')}, {_count(len(settings), 'setting')}, "
        f"{_count(len(seeds), 'seed')}) the AUROC with Manhattan minus that with Euclidean is "
        f"{tables.signed(every.mean())} on average. Manhattan is better in {np.sum(every > 0)}, equal in "
        f"{np.sum(every == 0)} and worse in {np.sum(every < 0)}. Averaged by surface it is better on "
        f"{sum(mean > 0 for mean in means.values())} of {len(means)}, from {tables.signed(means[lowest])} "
        f"({summary.titles[lowest]}) to {tables.signed(means[highest])} ({summary.titles[highest]})."
    ]


def _provenance(study: Study, summary: Summary) -> Iterator[Table]:
    versions = [[Cell(package), Cell(version)] for package, version in study.versions.items()]
    yield Table("Versions", ["package", "version"], versions)
    if study.networks:
        yield _networks(study, summary)
    compared = {one.method: one.settings for one in study.results if one.role == "compared"}
    if compared:
        yield _compared(compared)
    yield _data(study, summary)
    if any(study.costs):
        yield _times(study, summary)


def _networks(study: Study, summary: Summary) -> Table:
    groups: dict[Setting, list[Network]] = {}
    for network in study.networks:
        groups.setdefault(setting_of(network.name, network.seed, network.units), []).append(network)
    rows = []
    for setting, group in groups.items():
        seconds = [study.training_seconds[one.name] for one in group if one.name in study.training_seconds]
        settings = group[0].settings
        rows.append(
            [
                Cell(summary.labels.get(setting, plain(setting.name or ""))),
                Cell(", ".join(str(one.seed) for one in group)),
                Cell("; ".join(map(plain, dict.fromkeys(s for one in group for s in one.trained_on)))),
                Cell(f"{settings['triplets_per_round']:,}" if "triplets_per_round" in settings else "–"),
                Cell(f"{settings['rounds']} × {settings['epochs']}" if "rounds" in settings else "–"),
                Cell(_duration(np.median(seconds)), float(np.median(seconds))) if seconds else Cell("–"),
            ]
        )
    header = ["setting", "seeds", "trained on", "triplets per round", "rounds × epochs", "training, each"]
    return Table("Networks; the training time is the median over the seeds", header, rows)


def _compared(settings: Mapping[str, Mapping[str, object]]) -> Table:
    rows = [
        [Cell(plain(name)), Cell(plain(", ".join(f"{key} {value}" for key, value in each.items())) or "–")]
        for name, each in settings.items()
    ]
    return Table("Published methods and their settings", ["method", "settings"], rows)


def _data(study: Study, summary: Summary) -> Table:
    rows = []
    for surface, title in summary.titles.items():
        found = [one for one in study.results if (one.dataset, one.surface) == surface]
        fitted = [one for one in found if one.role != "bundle"]
        texts = [
            title,
            plain(surface[0]),
            "known" if surface in summary.known else "novel" if summary.known else "–",
            _range(one.fit_normals for one in fitted) or "–",
            _range(one.held_out_normals for one in fitted) or "–",
            str(found[0].test_normals),
            str(found[0].test_defects),
        ]
        rows.append([Cell(text) for text in texts])
    header = ["surface", "data set", "kind", "for the density", "held out", "good tested", "defects tested"]
    return Table("Images of each surface", header, rows)


def _times(study: Study, summary: Summary) -> Table:
    groups: dict[tuple[Setting, str | None], list[Cost]] = {
        (s, m): [] for s in summary.labels for m in (*summary.methods, None)
    }
    for result, cost in zip(study.results, study.costs, strict=True):
        if cost:
            _, setting, method = summary.key(result)
            groups[setting, method].append(cost)
    rows = []
    for (setting, method), group in groups.items():
        if group:
            seconds = float(np.median([cost.seconds_to_fit for cost in group]))
            milliseconds = float(np.median([cost.milliseconds_per_image for cost in group]))
            times = [Cell(f"{seconds:.3g}", seconds), Cell(f"{milliseconds:.3g}", milliseconds)]
            rows.append([Cell(summary.labels[setting]), Cell(method or "–"), *times])
    header = ["setting", "density", "fit, s", "score, ms per image"]
    return Table("Times, medians over surfaces and seeds", header, rows)


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _range(numbers: Iterator[int]) -> str:
    found = sorted(set(numbers))
    return " to ".join(str(number) for number in dict.fromkeys(found[:1] + found[-1:]))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


_HOW_TO_READ = (
    "Numbers are the area under the ROC curve (AUROC) of the image scores over all test images: 0.5 is "
    "chance, 1 is perfect. The paper's image score is the largest distance in the map. With several seeds, "
    "numbers are the median ± the standard deviation over the seeds; means over surfaces are means of these "
    "medians. Bold marks the best trained network of a row. A warning sign marks numbers that are not better "
    "than both controls, an untrained network of the same architecture and per-pixel variation: there, "
    "training has brought no benefit."
)
_INTERVALS = (
    "Stratified bootstrap over the test images, 2,000 resamples. The intervals cover the choice of images, "
    "not the choice of seeds. With several seeds, the interval is that of their median. If every defect "
    "scores above every good image, it is [1.00, 1.00], even with few images."
)
_METRICS = (
    "Medians over the seeds. AP is the average precision, F1-max the best F1 of all thresholds, FPR at 95 % "
    "TPR the share of good images above the threshold that finds 95 % of the defects. Pixel AUROC and AUPRO "
    "(per-region overlap up to 30 % false positives) are computed from the maps. The last three columns are "
    "for the calibrated threshold: the rate of false alarms that it promises on new good images (or that "
    "cross-validation expects, or a fitted tail estimates), and the "
    "rates of false alarms and missed defects on the test images."
)
_HOW_TO_READ_EMBEDDINGS = (
    "The embedding of each test image in two dimensions: t-SNE (van der Maaten and Hinton, 2008) of the "
    "first 50 principal components, seed 0. Neighboring points have similar embeddings. Distances between "
    "groups and their sizes have no meaning."
)
_CONTROLS = "Untrained networks of the same architecture and size, and baselines without a network."
_PROTOCOL = (
    "The paper's protocol (section 2.9): a density is fitted to good images of a surface; all other good "
    "images and all defects are scored, and no network was trained on them. For bundles, it is not known "
    "which images they were fitted to."
)
