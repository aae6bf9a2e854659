"""Runs: each row and seed once, skipped where its record exists, continued where a checkpoint does."""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infohebb.errors import (
    BusyError,
    InfohebbError,
    MissingDataError,
    RecordConflictError,
    UnknownNameError,
    UsageError,
    WrongTypeError,
)
from infohebb.experiments.build import check_config, comparable, renamed, rule_named_in
from infohebb.experiments.ensemble import drop_shared, measure_together
from infohebb.experiments.job import Job, Options, checkpoints
from infohebb.experiments.measure import measure
from infohebb.experiments.recipe import Config, Recipe, Row, override, select_rows
from infohebb.experiments.record import Record, read_record, record_path, write_record
from infohebb.experiments.study import conduct
from infohebb.files import held
from infohebb.training.checkpoint import drop_state
from infohebb.training.renamed import rename_settings

HOW = ("precision", "channels_last", "compiled", "cuda_graphs", "stacked")  # it is computed, not what
HOW_COMPUTED = tuple(f"training.{word}=" for word in HOW)


def jobs(name: str, recipe: Recipe, options: Options) -> Iterator[Job]:
    """What is to be run.  Raises UnknownNameError, UnknownKeyError, WrongTypeError before anything runs.

    A row whose settings are changed, but for how it is computed, is no longer the paper's: it has no published number.
    """
    for row in _chosen(recipe, options):
        title = row.name
        with _naming(f"{name} {title}"):
            untouched = renamed(recipe.config(row), tell=True)
            settings = _rename_settings(untouched, options.settings)
            config = renamed(override(untouched, settings), tell=True)
            if "study" in config and (options.arrays is not None or options.diagnose is not None):
                word = "--diagnose" if options.arrays is None else "--data"
                raise UsageError(f"a study trains no network, and takes no {word}; choose other rows by --only")
            if options.arrays is not None:
                config["data"] = own_data(options.arrays, config, untouched)
            check_config(config)
        changed = options.arrays is not None or any(not text.startswith(HOW_COMPUTED) for text in settings)
        published, sd = (None, None) if changed else (row.published, row.published_sd)
        for seed in dict.fromkeys(recipe.seeds if options.seeds is None else options.seeds):
            if not 0 <= seed < 2**63:
                raise WrongTypeError(f"seed {seed} cannot be drawn from; take one from 0 to {2**63 - 1}")
            path = record_path(options.out, name, title, seed, validate=options.validate)
            yield Job(name, title, seed, published, config, path, settings, options.origin, sd)


def _rename_settings(config: Config, settings: Sequence[str]) -> list[str]:
    """Return settings by the names of now, which depend on the rule that the row trains by."""
    rule = rule_named_in(override(config, settings))
    return list(settings) if rule is None else rename_settings(settings, rule)


def _chosen(recipe: Recipe, options: Options) -> list[Row]:
    """Rows that `only` asks for, by the recipe's names or, with the user's own data, by the names they then have."""
    renamed = _renamed(recipe.row, options.arrays)
    try:
        return select_rows(renamed, options.only)
    except UnknownNameError:
        return _renamed(select_rows(recipe.row, options.only), options.arrays)


def _renamed(rows: Sequence[Row], arrays: Path | None) -> list[Row]:
    """Rows named after the user's own data, where there are any."""
    if arrays is None:
        return list(rows)
    return [row.model_copy(update={"name": "/".join([arrays.stem, *row.name.split("/")[1:]])}) for row in rows]


def own_data(path: Path, config: Config, untouched: Config) -> dict[str, Any]:
    """The data section of the user's own arrays: another file under the same name is another data set."""
    if config["data"] != untouched["data"]:
        raise UsageError(f"--data {path} and --set data.… exclude each other; give one")
    if not path.is_file():
        return {"path": str(path)}  # the run will say that it is missing
    return {"path": str(path), "md5": hashlib.md5(path.read_bytes()).hexdigest()}


class Outcome(NamedTuple):
    """The records of what ran or had run, and the titles of what could not run, by the reason."""

    records: list[Record]
    left_out: dict[str, list[str]]


def run_recipe(name: str, recipe: Recipe, options: Options) -> Outcome:
    """Run every row and seed that has no record yet.

    What lacks its data, or is being run by another process, is left out; when that is all there is, the error is
    raised. Raises the errors of section 7 of the design; records already written stay.
    """
    outcome, last = Outcome([], {}), None
    for together in list(_together(jobs(name, recipe, options), options)):
        try:
            outcome.records.extend(run_together(together, options))
        except (MissingDataError, BusyError) as error:
            last, reason = error, str(error).removeprefix(f"{together[0].title}: ")
            if reason not in outcome.left_out:
                options.tell(f"left out: {error}")
            outcome.left_out.setdefault(reason, []).extend(job.title for job in together)
    if last is not None and not outcome.records:
        raise last
    return outcome


def _together(each: Iterable[Job], options: Options) -> Iterator[list[Job]]:
    """Jobs that are run at once: one, or all seeds of a row whose networks are stacked and have no record yet.

    Raises UsageError when those are to be diagnosed.
    """
    for row, of_row in itertools.groupby(each, key=lambda job: job.row):
        listed = list(of_row)
        if not listed[0].is_stacked:
            yield from ([job] for job in listed)
            continue
        if options.diagnose is not None:
            raise UsageError(f"{row}: stacked networks are not diagnosed; set training.stacked=false")
        yield from ([job] for job in listed if job.path.exists())
        missing = [job for job in listed if not job.path.exists()]
        if missing:
            yield missing


def run_together(jobs: Sequence[Job], options: Options) -> list[Record]:
    """A job by itself, or stacked networks: from their last checkpoint, or from the start."""
    if jobs[0].path.exists() or not jobs[0].is_stacked:
        return [run_job(job, options) for job in jobs]
    with contextlib.ExitStack() as inside:
        inside.enter_context(_naming(jobs[0].title))
        for job in jobs:
            inside.enter_context(held(checkpoints(job) / "lock"))
        records = measure_together(jobs, options)
        for job, record in zip(jobs, records, strict=True):
            _keep(record, job, options)
        drop_shared(jobs)
    return records


def _keep(record: Record, job: Job, options: Options) -> None:
    write_record(record, job.path)
    record.path = job.path
    options.tell(f"{job.title}: {', '.join(f'{key} {value:.2f}' for key, value in record.final.items())}")


def run_job(job: Job, options: Options) -> Record:
    """One row and seed: its record if it is there, else a run from its last checkpoint, or from the start."""
    if job.path.exists():
        record = read_record(job.path)
        lacking = options.diagnose is not None and "alignment" not in record.curves
        options.tell(f"{job.title}: done before{', not diagnosed' if lacking else ''}, {job.path}")
        return same_config(record, job)
    with _naming(job.title), held(_lock(job)):
        record = conduct(job, options) if job.is_study else measure(job, options)
        _keep(record, job, options)
        drop_state(checkpoints(job))
    return record


def _lock(job: Job) -> Path:
    """In the folder of its checkpoints, which a study has none of."""
    return job.path.with_suffix(".lock") if job.is_study else checkpoints(job) / "lock"


@contextlib.contextmanager
def _naming(title: str) -> Iterator[None]:
    """Have an error on purpose begin with what it happened to."""
    try:
        yield
    except InfohebbError as error:
        error.args = (f"{title}: {error}",)
        raise


def same_config(record: Record, job: Job) -> Record:
    """The record.  Raises RecordConflictError unless it was made with the job's configuration."""
    old, new = comparable(record.config), comparable(job.config)
    for section, wanted in new.items():
        before = old.get(section, {})
        for key in sorted((set(wanted) | set(before)) - ({"path"} if "md5" in wanted else set())):
            if before.get(key) != wanted.get(key):
                raise RecordConflictError(
                    f"{job.path} was made with {section}.{key} = {before.get(key)!r}, not {wanted.get(key)!r}; "
                    "records are written once: choose another folder with --out"
                )
    return record
