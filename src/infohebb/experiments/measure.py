"""One row and seed measured: built, trained, scored."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from infohebb.data import DataSet
from infohebb.experiments.build import build_data, build_diagnosis, build_network, build_rule, resolved
from infohebb.experiments.job import Job, Options, checkpoints
from infohebb.experiments.pictures import Samples
from infohebb.experiments.provenance import commit, versions
from infohebb.experiments.record import Record
from infohebb.files import write_arrays
from infohebb.training.devices import device_name, peak_memory, pick_device, reset_peak_memory
from infohebb.training.evaluation import score
from infohebb.training.loop import Checkpoints, train
from infohebb.training.seeding import seeded
from infohebb.training.sources import DataSetSource


def measure(job: Job, options: Options) -> Record:
    """Build, train, score, and gather what a record holds; pictures and checkpoint lie beside the record's place."""
    device, source = pick_device(options.device), {"versions": versions(), "commit": commit()}
    whole = _data(*_data_key(job), options.data_dir, options.validate).to(device)
    data = whole.validation() if options.validate else whole
    shapes = {"inputs": list(data.input_shape), "outputs": data.outputs, "continuous": data.classes is None}
    config = {**resolved(job.config), "shapes": shapes}
    with seeded(job.seed, device):
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
            checkpoints=Checkpoints(checkpoints(job), {"recipe": job.recipe, "seed": job.seed, **config}),
            diagnose=None if options.diagnose is None else build_diagnosis(job.config, options.diagnose),
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
        **source,
        device=device_name(device),
        wall_seconds=sum(curves["seconds"]),
        peak_memory_bytes=peak,
        peak_memory_method=f"{method}, diagnosis included" if "alignment" in curves else method,
        origin=job.origin,
        overrides=list(job.overrides),
    )


def final_scores(network: Any, data: DataSet, curves: dict[str, Any], held_out: str) -> dict[str, float]:
    """Scores after the last epoch: of the held-out samples, and of the training samples as in evaluation."""
    name, value = score(network, DataSetSource(data, 1024).final_training())
    final = {f"train_{name}": value}
    measured = curves.get(f"{held_out}_{name}")
    return ({f"{held_out}_{name}": measured[-1]} if measured else {}) | final


def _data_key(job: Job) -> tuple[tuple[tuple[str, str], ...], tuple[int, ...]]:
    """What tells one data set from another: its words, and which version of a file."""
    path = Path(job.config["data"].get("path", ""))
    version = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else ()
    return tuple(sorted(job.config["data"].items())), version


@lru_cache(maxsize=1)
def _data(words: tuple[tuple[str, str], ...], version: tuple[int, ...], folder: Path | None, validate: bool) -> DataSet:
    """The data set, read once for consecutive rows that use it."""
    del version
    return build_data({"data": dict(words)}, folder, validate=validate)
