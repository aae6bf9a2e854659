"""The seeds of a row, stacked: each network built from its own seed, all trained as one, a record for each."""

import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from infohebb.errors import UsageError
from infohebb.experiments.build import build_network, build_rule
from infohebb.experiments.job import Job, Options, checkpoints
from infohebb.experiments.measure import final_scores, prepare, train_words
from infohebb.experiments.pictures import Samples, count_units
from infohebb.experiments.record import Record
from infohebb.files import write_arrays
from infohebb.networks.plain import stack_networks, unstack
from infohebb.training.checkpoint import save_weights
from infohebb.training.devices import device_name, peak_memory, reset_peak_memory
from infohebb.training.epoch import split_curves
from infohebb.training.loop import Checkpoints, train
from infohebb.training.seeding import seeded

PICTURED = 3  # networks of which Gram matrices are kept


def measure_together(jobs: Sequence[Job], options: Options) -> list[Record]:
    """Build each network, train all as one, score each; pictures and weights lie beside the place of each record.

    Each record's seconds are its share of the ensemble's, its peak memory that of all. Raises UsageError for data that
    are augmented, which would differ from seed to seed.
    """
    first, seeds = jobs[0], [job.seed for job in jobs]
    ground = prepare(first, options)
    device, data = ground.device, ground.data
    if data.augment is not None:
        raise UsageError(f"{data.name} is augmented, for each seed otherwise; leave out training.stacked")
    networks = []
    for seed in seeds:
        with seeded(seed, device):
            networks.append(build_network(first.config, data.input_shape, data.outputs).to(device))
    together = stack_networks(networks)
    samples = Samples(data, count_units(together))
    before = [samples.grams(network, "before") for network in networks[:PICTURED]]
    del networks
    reset_peak_memory(device)
    with seeded(first.seed, device):
        curves = train(
            together,
            build_rule(first.config),
            ground.whole,
            **train_words(first),
            **ground.training,
            optimizer=first.config["optimizer"],
            checkpoints=Checkpoints(shared_folder(jobs), {"recipe": first.recipe, "seeds": seeds, **ground.config}),
            progress=options.progress,
        )
    peak, method = peak_memory(device)
    curves["seconds"] = [seconds / len(jobs) for seconds in curves["seconds"]]
    final = final_scores(together, ground, curves)
    records = []
    for place, job in enumerate(jobs):
        network = unstack(together, place)
        if place < PICTURED:
            grams = {**before[place], **samples.grams(network, "after")}
            write_arrays(job.path.with_suffix(".npz"), {"labels": samples.labels, **grams})
        config = {"recipe": job.recipe, "seed": job.seed, **ground.config}
        save_weights(checkpoints(job), len(curves["epoch"]), network, config)
        records.append(
            Record(
                **job.words,
                final={name: values[place] for name, values in final.items()},
                curves=split_curves(curves, place),
                config=ground.config,
                **ground.source,
                device=device_name(device),
                wall_seconds=sum(curves["seconds"]),
                peak_memory_bytes=peak,
                peak_memory_method=f"{method}, of {len(jobs)} networks side by side",
                side_by_side=len(jobs),
            )
        )
    return records


def shared_folder(jobs: Sequence[Job]) -> Path:
    """The folder of the checkpoints of all, while they train."""
    seeds = [job.seed for job in jobs]
    in_turn = seeds == [*range(seeds[0], seeds[-1] + 1)]
    name = f"seeds{seeds[0]}-{seeds[-1]}" if in_turn else f"seeds-{zlib.crc32(str(seeds).encode()):08x}"
    return jobs[0].path.with_name(jobs[0].path.name.replace(f"seed{seeds[0]}", name, 1)).with_suffix(".checkpoint")


def drop_shared(jobs: Sequence[Job]) -> None:
    """Remove that folder: each seed has weights of its own now."""
    shutil.rmtree(shared_folder(jobs), ignore_errors=True)
