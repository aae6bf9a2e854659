"""One row and seed of a study: its function called, what it found gathered as a record holds it."""

import inspect
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from infohebb.errors import NonFiniteLossError, naming
from infohebb.experiments.build import resolved, study_of
from infohebb.experiments.job import Job, Options
from infohebb.experiments.provenance import commit, versions
from infohebb.experiments.record import Record
from infohebb.files import write_arrays
from infohebb.training.devices import device_name, peak_memory, pick_device, reset_peak_memory
from infohebb.training.seeding import seeded

MOST_BYTES = 200_000  # of arrays beside a record


def conduct(job: Job, options: Options) -> Record:
    """Call the study, and gather what a record holds; its arrays, if it returns any, lie beside the record's place.

    Raises NonFiniteLossError for a number found that is not finite, and the study's own errors.
    """
    device, source = pick_device(options.device), {"versions": versions(), "commit": commit()}
    study, settings = study_of(job.config)
    circumstances = {
        "seed": job.seed,
        "validate": options.validate,
        "device": str(device),
        "data_dir": options.data_dir,
    }
    given = {name: value for name, value in circumstances.items() if name in inspect.signature(study).parameters}
    reset_peak_memory(device)
    began = time.perf_counter()
    with seeded(job.seed, device), naming("study"):
        found, curves, arrays = study(**settings, **given)
    seconds = time.perf_counter() - began
    peak, method = peak_memory(device)
    final = {name: float(value) for name, value in found.items()}
    for name, value in final.items():
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the study found {name} = {value}, which is no number; look at its settings")
    if arrays:
        written = write_arrays(job.path.with_suffix(".npz"), arrays)
        if written.stat().st_size > MOST_BYTES:
            kilobytes = written.stat().st_size // 1000
            options.tell(f"{job.title}: {written.name} takes {kilobytes} kB; keep it within {MOST_BYTES // 1000} kB")
    return Record(
        **job.words,
        final=final,
        curves=plain(curves),
        config=resolved(job.config),
        **source,
        device=device_name(device),
        wall_seconds=seconds,
        peak_memory_bytes=peak,
        peak_memory_method=method,
    )


def plain(value: Any) -> Any:
    """As JSON holds it: arrays as lists, and None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
