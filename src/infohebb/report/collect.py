"""From records to summaries: grouped by folder of results, recipe, split and row, in order, with their statistics."""

import itertools
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from infohebb.errors import UsageError
from infohebb.experiments.record import Record, read_records
from infohebb.report.old_names import with_new_names
from infohebb.report.summary import MEASURES, Measure, Section, Spread, Summary

COUNTED = re.compile(r"=\d+(\.\d+)?$")
TRAINING = {measure.train_key for measure in MEASURES}


def sections(records: Iterable[Record]) -> list[Section]:
    """Records by folder, recipe and split; rows by data set, method and mode, each in the order of its first coming.

    From here on all records have the names of today.
    """
    groups: dict[tuple[str, str, Measure], dict[str, list[Record]]] = {}
    records = [with_new_names(record) for record in records]
    for record, folder in zip(records, _folders(records), strict=True):
        rows = groups.setdefault((folder, record.recipe, measure_of(record)), {})
        rows.setdefault(record.row, []).append(record)
    return [_section(*key, groups[key]) for key in sorted(groups, key=_section_order)]


def summarise(records: Sequence[Record], measure: Measure, folder: str = "") -> Summary:
    """The runs of one row as one summary.  Raises UsageError when a seed comes twice."""
    runs = tuple(sorted(records, key=lambda record: record.seed))
    _refuse_twins(runs)
    published, sd = next(((r.published, r.published_sd) for r in runs if r.published is not None), (None, None))
    return Summary(
        folder=folder,
        recipe=runs[0].recipe,
        row=runs[0].row,
        measure=measure,
        records=runs,
        measured=spread(_finals(runs, measure.key)),
        train=spread(_finals(runs, measure.train_key)),
        others={key: spread(_finals(runs, key)) for key in _other_keys(runs, measure)},
        published=published,
        published_sd=sd,
        epochs=tuple(len(run.curves.get("epoch") or ()) for run in runs),
        angles=last_alignment(runs, "angle"),
        ratios=last_alignment(runs, "norm_ratio"),
        diagnosed=tuple(at[-1] for run in runs if (at := diagnosed_epochs(run))),
        seconds=statistics.fmean(run.wall_seconds for run in runs),
        memory=max(run.peak_memory_bytes for run in runs),
    )


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation, or nothing of nothing."""
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def _finals(runs: Sequence[Record], key: str) -> list[float]:
    return [run.final[key] for run in runs if key in run.final]


def _other_keys(runs: Sequence[Record], measure: Measure) -> list[str]:
    found = dict.fromkeys(key for run in runs for key in run.final)
    return [key for key in found if key not in (measure.key, measure.train_key)]


def diagnosed_epochs(record: Record) -> list[int]:
    """The epochs after which angles were measured, 0 being before learning."""
    return _alignment(record).get("epoch") or []


def last_alignment(records: Sequence[Record], measure: str) -> dict[str, Spread | None]:
    """By layer, angle or norm ratio when last measured; nothing for a layer without a gradient then."""
    found: dict[str, list[float]] = {}
    for run in records:
        for layer, values in (_alignment(run).get(measure) or {}).items():
            found.setdefault(layer, []).extend(value for value in values[-1:] if value is not None)
    return {layer: spread(values) for layer, values in found.items()}


def _alignment(record: Record) -> dict[str, Any]:
    return record.curves.get("alignment") or {}


def measure_of(record: Record) -> Measure:
    """What `record` is judged by: a study by the first number that it found; test accuracy when it says nothing."""
    found = next((measure for measure in MEASURES if measure.key in record.final), None)
    first = next(iter(record.final), None)
    if found is not None or first is None or first in TRAINING:
        return found or MEASURES[0]
    validated = record.path is not None and record.path.stem.endswith(".validation")
    return Measure("validation" if validated else "test", first, study=True)


def differing_settings(records: Sequence[Record]) -> list[str]:
    """Dotted names of the settings that are not the same in all records, seeds apart."""
    flat = [dict(_leaves(record.config)) for record in records]
    names = dict.fromkeys(name for settings in flat for name in settings)
    return [
        name
        for name in names
        if name.rpartition(".")[2] not in ("seed", "seeds") and any(s.get(name) != flat[0].get(name) for s in flat)
    ]


def read_all(folder: Path) -> list[Record]:
    """All records below `folder`.  Raises UsageError when there is none."""
    records = list(read_records(folder))
    if not records:
        raise UsageError(f"no records below {folder}; run `infohebb run quickstart` first")
    return records


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _folders(records: Sequence[Record]) -> list[str]:
    """The folder of results of each, within the one that all share; "" for that one, or where none can be told."""
    roots = [_root(record) for record in records]
    shared = os.path.commonpath(known) if (known := [root for root in roots if root]) else ""
    return ["" if root in (None, Path(shared)) else root.relative_to(shared).as_posix() for root in roots]


def _root(record: Record) -> Path | None:
    """The OUT of OUT/RECIPE/ROW/seedN.json, if the record lies so."""
    ending = Path(record.recipe, record.row).parts
    folder = record.path.absolute().parent if record.path else Path()
    return folder.parents[len(ending) - 1] if folder.parts[-len(ending) :] == ending else None


def _section(folder: str, recipe: str, measure: Measure, rows: dict[str, list[Record]]) -> Section:
    summaries = tuple(summarise(rows[name], measure, folder) for name in _by_segments(rows))
    methods = _by_segments(name.partition("/")[2] for name in rows)
    return Section(folder, recipe, measure, summaries, tuple(methods))


def _by_segments(names: Iterable[str]) -> list[str]:
    """Each name once, by its first segment, then its second and so on, each in the order of its first coming.

    Segments such as N=4, which files put after N=16, go by their number.
    """
    split = {name: name.split("/") for name in names}
    places = [_counted(list(dict.fromkeys(column))) for column in itertools.zip_longest(*split.values())]
    return sorted(split, key=lambda name: [place.index(part) for place, part in zip(places, split[name], strict=False)])


def _counted(parts: list[str | None]) -> list[str | None]:
    """Those that end in = and a number by that number, in the places that such have."""
    found = [part for part in parts if part and COUNTED.search(part)]
    inorder = iter(sorted(found, key=lambda part: float(part.rpartition("=")[2])))
    return [next(inorder) if part in found else part for part in parts]


def _section_order(key: tuple[str, str, Measure]) -> tuple[str, str, int, str, str]:
    """Studies after what was trained."""
    folder, recipe, measure = key
    place = len(MEASURES) if measure.study else MEASURES.index(measure)
    return folder, recipe, place, measure.key, measure.split


def _refuse_twins(runs: Sequence[Record]) -> None:
    for one, other in itertools.pairwise(runs):
        if one.seed == other.seed:
            raise UsageError(
                f"{one.recipe} {one.row} seed {one.seed} was recorded twice, in {one.path} and {other.path}; "
                "move one of them away"
            )
