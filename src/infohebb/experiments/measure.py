"""One row and seed measured: built, trained, scored."""

from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from infohebb.data import DataSet
from infohebb.experiments.build import build_data, build_diagnosis, build_network, build_rule, resolved
from infohebb.experiments.compartments import compartment_arrays, follow
from infohebb.experiments.job import Job, Options, checkpoints
from infohebb.experiments.pictures import Samples, count_units
from infohebb.experiments.provenance import commit, versions
from infohebb.experiments.record import Record
from infohebb.files import write_arrays
from infohebb.learner.probing import evaluating
from infohebb.training.devices import device_name, peak_memory, pick_device, reset_peak_memory
from infohebb.training.evaluation import score
from infohebb.training.loop import Checkpoints, train
from infohebb.training.plain import computing_in
from infohebb.training.seeding import seeded
from infohebb.training.sources import DataSetSource

Words = tuple[tuple[str, Hashable], ...]


class Ground(NamedTuple):
    """What a measurement stands on: device, versions and commit as it began, the data set, and what is held out."""

    device: torch.device
    source: dict[str, Any]
    whole: DataSet
    data: DataSet  # with what is held out as its test set
    held_out: str
    config: dict[str, Any]

    @property
    def training(self) -> dict[str, Any]:
        """What `train` is asked for, beside what the recipe says."""
        return {"device": str(self.device), "seed": None, "held_out": self.held_out}


def prepare(job: Job, options: Options) -> Ground:
    """Read the data, and say what is to be built."""
    device, source = pick_device(options.device), {"versions": versions(), "commit": commit()}
    whole = _data(*_data_key(job), options.data_dir, options.validate).to(device)
    data = whole.validation() if options.validate else whole
    shapes = {"inputs": list(data.input_shape), "outputs": data.outputs, "continuous": data.classes is None}
    held_out = "validation" if options.validate else "test"
    return Ground(device, source, whole, data, held_out, {**resolved(job.config), "shapes": shapes})


def measure(job: Job, options: Options) -> Record:
    """Build, train, score, and gather what a record holds; pictures and checkpoint lie beside the record's place."""
    ground = prepare(job, options)
    device, data = ground.device, ground.data
    with seeded(job.seed, device):
        network = build_network(job.config, data.input_shape, data.outputs).to(device)
        rule = build_rule(job.config)
        samples = Samples(data, count_units(network))
        arrays = {"labels": samples.labels, **samples.grams(network, "before")}
        before = follow(network, rule, samples)
        reset_peak_memory(device)
        curves = train(
            network,
            rule,
            ground.whole,
            **train_words(job),
            **ground.training,
            optimizer=job.config["optimizer"],
            checkpoints=Checkpoints(checkpoints(job), {"recipe": job.recipe, "seed": job.seed, **ground.config}),
            diagnose=None if options.diagnose is None else build_diagnosis(job.config, options.diagnose),
            progress=options.progress,
        )
    peak, method = peak_memory(device)
    arrays |= samples.grams(network, "after") | compartment_arrays(before, follow(network, rule, samples))
    write_arrays(job.path.with_suffix(".npz"), arrays)
    return Record(
        **job.words,
        final=final_scores(network, ground, curves),
        curves=curves,
        config=ground.config,
        **ground.source,
        device=device_name(device),
        wall_seconds=sum(curves["seconds"]),
        peak_memory_bytes=peak,
        peak_memory_method=f"{method}, diagnosis included" if "alignment" in curves else method,
    )


def train_words(job: Job) -> dict[str, Any]:
    """The job's training section, as far as it is `train`'s."""
    return {key: value for key, value in job.config["training"].items() if key != "stacked"}


def final_scores(network: nn.Module, ground: Ground, curves: dict[str, Any]) -> dict[str, Any]:
    """Return scores after the last epoch: of the held-out samples, and of the training samples as in evaluation."""
    held_out = ground.held_out
    with evaluating(network), computing_in(network, ground.config["training"]["precision"]):
        name, value = score(network, DataSetSource(ground.data, 1024).final_training())
    final = {f"train_{name}": value}
    measured = curves.get(f"{held_out}_{name}")
    return ({f"{held_out}_{name}": measured[-1]} if measured else {}) | final


def _data_key(job: Job) -> tuple[Words, tuple[int, ...]]:
    """What tells one data set from another: its words, and which version of a file."""
    path = Path(job.config["data"].get("path", ""))
    version = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else ()
    words = {key: tuple(value) if isinstance(value, list) else value for key, value in job.config["data"].items()}
    return tuple(sorted(words.items())), version


@lru_cache(maxsize=1)
def _data(words: Words, version: tuple[int, ...], folder: Path | None, validate: bool) -> DataSet:
    """The data set, read once for consecutive rows that use it."""
    del version
    return build_data({"data": dict(words)}, folder, validate=validate)
