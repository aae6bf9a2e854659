"""Runs: each row and seed once, skipped where its record exists, continued where a checkpoint does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from infohebb.data import DataSet
from infohebb.errors import InfohebbError, RecordConflictError, WrongTypeError
from infohebb.experiments.build import build_data, build_network, build_rule, check_config
from infohebb.experiments.pictures import Samples
from infohebb.experiments.provenance import commit, versions
from infohebb.experiments.recipe import Config, Recipe, Row, override, select_rows
from infohebb.experiments.record import Record, read_record, record_path, write_record
from infohebb.files import write_arrays
from infohebb.training.devices import device_name, peak_memory, pick_device, reset_peak_memory
from infohebb.training.evaluation import score
from infohebb.training.loop import Checkpoints, train
from infohebb.training.seeding import seeded
from infohebb.training.sources import DataSetSource


@dataclass(frozen=True)
class Options:
    """What one may ask of a run besides its recipe."""

    out: Path = Path("results")
    only: str | None = None
    seeds: Sequence[int] | None = None
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    arrays: Path | None = None
    device: str = "auto"
    validate: bool = False
    progress: bool = True
    tell: Callable[[str], object] = field(default=str)  # is told, line by line, what is done


@dataclass(frozen=True)
class Job:
    """One row and seed, with its configuration and the place of its record."""

    recipe: str
    row: str
    seed: int
    published: float | None
    config: Config
    path: Path


def jobs(name: str, recipe: Recipe, options: Options) -> Iterator[Job]:
    """What is to be run.  Raises UnknownNameError, UnknownKeyError, WrongTypeError before anything runs."""
    for row in select_rows(recipe.row, options.only):
        config = override(recipe.config(row), options.settings)
        title, published = row.name, row.published
        if options.arrays is not None:
            config["data"] = {"path": str(options.arrays)}
            title, published = _renamed(row, options.arrays.stem), None
        check_config(config)
        for seed in recipe.seeds if options.seeds is None else options.seeds:
            if not 0 <= seed < 2**63:
                raise WrongTypeError(f"seed {seed} cannot be drawn from; take one from 0 to {2**63 - 1}")
            path = record_path(options.out, name, title, seed, validate=options.validate)
            yield Job(name, title, seed, published, config, path)


def _renamed(row: Row, data: str) -> str:
    return "/".join([data, *row.name.split("/")[1:]])


def run_recipe(name: str, recipe: Recipe, options: Options) -> list[Record]:
    """Run every row and seed that has no record yet, and return the records of all.

    Raises the errors of section 7 of the design; records already written stay.
    """
    return [run_job(job, options) for job in list(jobs(name, recipe, options))]


def run_job(job: Job, options: Options) -> Record:
    """One row and seed: its record if it is there, else a run from its last checkpoint, or from the start."""
    title = f"{job.recipe} {job.row} seed {job.seed}"
    if job.path.exists():
        options.tell(f"{title}: done before, {job.path}")
        return same_config(read_record(job.path), job)
    try:
        record = measure(job, options)
    except InfohebbError as error:
        error.args = (f"{title}: {error}",)
        raise
    write_record(record, job.path)
    record.path = job.path
    options.tell(f"{title}: {', '.join(f'{key} {value:.2f}' for key, value in record.final.items())}")
    return record


def same_config(record: Record, job: Job) -> Record:
    """The record.  Raises RecordConflictError unless it was made with the job's configuration."""
    for section, wanted in job.config.items():
        made = record.config.get(section, {})
        for key in sorted(set(wanted) | set(made)):
            if made.get(key) != wanted.get(key):
                raise RecordConflictError(
                    f"{job.path} was made with {section}.{key} = {made.get(key)!r}, not {wanted.get(key)!r}; "
                    "records are written once: choose another folder with --out"
                )
    return record


def measure(job: Job, options: Options) -> Record:
    """Build, train, score, and gather what a record holds; pictures and checkpoint lie beside the record's place."""
    device = pick_device(options.device)
    whole = _data(_data_key(job.config), _Hidden(job.config), options.data_dir, options.validate).to(device)
    data = whole.validation() if options.validate else whole
    shapes = {"inputs": list(data.input_shape), "outputs": data.outputs, "continuous": data.classes is None}
    config = {**job.config, "shapes": shapes}
    with seeded(job.seed):
        network = build_network(job.config, data.input_shape, data.outputs).to(device)
        rule = build_rule(job.config)
        samples = Samples(data, len(list(network.named_blocks())))
        arrays = {"labels": samples.labels, **samples.grams(network, "before")}
        reset_peak_memory(device)
        held_out = "validation" if options.validate else "test"
        curves = train(
            network,
            rule,
            whole,
            **job.config["training"],
            optimizer=job.config["optimizer"],
            device=str(device),
            seed=None,
            held_out=held_out,
            checkpoints=Checkpoints(job.path.with_suffix(".checkpoint"), {"recipe": job.recipe, **config}),
            progress=options.progress,
        )
    peak, method = peak_memory(device)
    write_arrays(job.path.with_suffix(".npz"), {**arrays, **samples.grams(network, "after")})
    return Record(
        recipe=job.recipe,
        row=job.row,
        seed=job.seed,
        published=job.published,
        final=final_scores(network, data, curves, held_out),
        curves=curves,
        config=config,
        versions=versions(),
        commit=commit(),
        device=device_name(device),
        wall_seconds=sum(curves["seconds"]),
        peak_memory_bytes=peak,
        peak_memory_method=method,
    )


def final_scores(network: Any, data: DataSet, curves: dict[str, Any], held_out: str) -> dict[str, float]:
    """Scores after the last epoch: of the held-out samples, and of the training samples as in evaluation."""
    name, value = score(network, DataSetSource(data, 1024).final_training())
    final = {f"train_{name}": value}
    measured = curves.get(f"{held_out}_{name}")
    return ({f"{held_out}_{name}": measured[-1]} if measured else {}) | final


@dataclass(frozen=True, eq=True)
class _Hidden:
    """A configuration that does not count in a cache's key."""

    config: Config = field(compare=False, hash=False)


def _data_key(config: Config) -> str:
    """What tells one data set from another: its words, and which version of a file."""
    path = Path(config["data"].get("path", ""))
    version = (path.resolve(), path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else ()
    return repr((sorted(config["data"].items()), version))


@cache
def _data(key: str, hidden: _Hidden, data_dir: Path | None, validate: bool) -> DataSet:
    """The data set, read once for all rows that use it."""
    del key
    return build_data(hidden.config, data_dir, validate=validate)
