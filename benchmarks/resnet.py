"""A residual network on CIFAR-10, in a plain loop: the kernelized bottleneck, frozen units and backprop.

    python benchmarks/resnet.py --data-dir DIR [--rules kib,frozen,backprop] [--seeds 0] [--out results]
    python benchmarks/resnet.py --data-dir DIR --validate --rules kib --units 0.01 --head 0.02 --epochs 1
    python benchmarks/resnet.py --resnet18 --json results/bench/resnet18.json

The units of the network are its stem and its three residual blocks. Optimizer, schedule, batch size and augmentation
are the same for all rules; learning rates are each rule's best on the validation split. The frozen units keep their
initial weights, but the statistics of batch norm follow the data in all three. A record is written once under
OUT/learner/resnet; a run whose record exists is skipped. `--validate` holds out a tenth of the training set, reads no
test image and prints only. With `--resnet18` nothing is trained: a step's time and memory are measured.
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim.lr_scheduler import LambdaLR

from infohebb import Backprop, KernelizedBottleneck, LastLayer, Learner
from infohebb.data import DataSet, Split, batches, count_batches, load
from infohebb.experiments.provenance import commit, versions
from infohebb.experiments.record import Record, read_record, record_path, write_record
from infohebb.rules.contract import LearningRule
from infohebb.training.devices import device_name, keep_freed_memory, peak_memory, reset_peak_memory
from infohebb.training.seeding import seeded
from resnet18 import BOUNDS, measure_step
from resnets import UNITS, ResNet, small_resnet
from timing import tell

RULES = {"kib": "kernelized_bottleneck", "frozen": "last_layer", "backprop": "backprop"}
AIM = "at least 5, aim 12"
RATES = {"kib": (5e-3, 5e-2), "frozen": (0.0, 5e-2), "backprop": (3e-3, 3e-3)}  # units, head


@dataclass(frozen=True)
class Settings:
    """All that a run depends on but rule, seed and data."""

    units: float  # learning rates
    head: float
    batch: int = 64
    epochs: int = 5
    weight_decay: float = 1e-2
    warm_up: float = 0.2  # share of the steps
    kernel: str = "cosine"
    groups: int | None = None
    gamma: float = 2.0
    centre: bool = False
    pool: int | None = None  # the kernel sees maps averaged to pool × pool places
    bf16: bool = True


def make_rule(name: str, settings: Settings) -> LearningRule:
    """Return an instance of the rule."""
    if name == "kib":
        return KernelizedBottleneck(
            kernel=settings.kernel, groups=settings.groups, gamma=settings.gamma, centre=settings.centre
        )
    return LastLayer() if name == "frozen" else Backprop()


def make_learner(name: str, network: ResNet, settings: Settings) -> Learner:
    """Return the learner; what the kernel sees of a unit's maps is their means over squares, if so asked."""
    units = ["stem", *(f"layers.{place}" for place in range(len(network.layers)))]
    pooled = None if settings.pool is None else partial(adaptive_avg_pool2d, output_size=settings.pool)
    activity = None if pooled is None else dict.fromkeys(units, pooled)
    return Learner(network, make_rule(name, settings), UNITS, "fc", activity=activity)


def make_optimizer(learner: Learner, settings: Settings, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Return AdamW, and a schedule that warms learning rates up, then takes them to zero along a cosine."""
    rates = {"units": settings.units, "head": settings.head} if learner.rule.trains_units else {"head": settings.head}
    optimizer = torch.optim.AdamW(learner.param_groups(**rates), weight_decay=settings.weight_decay)
    warm_up = settings.warm_up * steps

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2

    return optimizer, LambdaLR(optimizer, factor)


def images(data: DataSet, inputs: Tensor) -> Tensor:
    """Return what the network takes of stored images, channels last."""
    return data.normalise(inputs).contiguous(memory_format=torch.channels_last)


def training_batches(data: DataSet, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented images and labels of one epoch."""
    for inputs, targets in batches(data.train, batch, shuffle=True):
        yield images(data, data.augment(inputs) if data.augment else inputs), targets


@torch.no_grad()
def accuracy(network: nn.Module, data: DataSet, split: Split) -> float:
    """Return the percentage of samples classified correctly in eval mode."""
    network.eval()
    hits = sum(
        int((network(images(data, inputs)).argmax(1) == targets).sum())
        for inputs, targets in batches(split, 1000, shuffle=False)
    )
    return 100 * hits / len(split.targets)


def train(learner: Learner, data: DataSet, settings: Settings, held_out: str) -> dict[str, Any]:
    """Train epoch by epoch and return the curves, with the accuracy on `data.test` after each."""
    steps = count_batches(len(data.train.targets), settings.batch) * settings.epochs
    optimizer, scheduler = make_optimizer(learner, settings, steps)
    measures = ("epoch", "samples", "train_loss", "seconds", "train_accuracy", f"{held_out}_accuracy")
    curves: dict[str, Any] = {**{measure: [] for measure in measures}, "learning_rate": {}, "objective": {}}
    for epoch in range(1, settings.epochs + 1):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            curves["learning_rate"].setdefault(group["role"], []).append(group["lr"])
        add_epoch(curves, learn_epoch(learner, data, settings, optimizer, scheduler))
        curves["epoch"].append(epoch)
        curves[f"{held_out}_accuracy"].append(accuracy(learner.model, data, data.test))
        curves["seconds"].append(time.perf_counter() - began)
        print(f"epoch {epoch}: {curves[f'{held_out}_accuracy'][-1]:.2f} %", flush=True)
    return curves


def learn_epoch(
    learner: Learner, data: DataSet, settings: Settings, optimizer: torch.optim.Optimizer, scheduler: LambdaLR
) -> dict[Any, float]:
    """Learn one epoch in a loop as any user would write it; return sums over its samples."""
    learner.train()
    sums: dict[Any, float] = {"loss": 0.0, "correct": 0.0, "samples": 0}
    for x, y in training_batches(data, settings.batch):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            step = learner.backward(x, y)
        optimizer.step()
        scheduler.step()
        sums["loss"] += float(step.loss) * len(y)
        sums["correct"] += int(step.correct.sum())
        sums["samples"] += len(y)
        add_terms(sums, step.terms, len(y))
    return sums


def add_terms(sums: dict[Any, float], terms: Mapping[str, Mapping[str, Tensor]], samples: int) -> None:
    """Add the terms of each unit's objective, weighted by the samples of the batch."""
    for unit, numbers in terms.items():
        for term, value in numbers.items():
            sums[(unit, term)] = sums.get((unit, term), 0.0) + float(value) * samples


def add_epoch(curves: dict[str, Any], sums: dict[Any, float]) -> None:
    """Add an epoch's means to the curves."""
    samples = sums["samples"]
    before = curves["samples"][-1] if curves["samples"] else 0
    curves["samples"].append(before + samples)
    curves["train_loss"].append(sums["loss"] / samples)
    curves["train_accuracy"].append(100 * sums["correct"] / samples)
    for unit, term in (key for key in sums if isinstance(key, tuple)):
        curves["objective"].setdefault(unit, {}).setdefault(term, []).append(sums[(unit, term)] / samples)


def measure(name: str, data: DataSet, settings: Settings, held_out: str, **words: Any) -> Record:
    """Build, train and score; return the record."""
    device, source = torch.device("cpu"), {"versions": versions(), "commit": commit()}
    with seeded(words["seed"]):
        network = small_resnet(data.input_shape[0], data.outputs).to(memory_format=torch.channels_last)
        learner = make_learner(name, network, settings)
        reset_peak_memory(device)
        curves = train(learner, data, settings, held_out)
    peak, method = peak_memory(device)
    final = {f"{held_out}_accuracy": curves[f"{held_out}_accuracy"][-1]}
    return Record(
        **words,
        **source,
        published=None,
        final={**final, "train_accuracy": accuracy(network, data, data.train)},
        curves=curves,
        config=describe(name, data, settings, learner),
        device=device_name(device),
        wall_seconds=sum(curves["seconds"]),
        peak_memory_bytes=peak,
        peak_memory_method=method,
    )


def describe(name: str, data: DataSet, settings: Settings, learner: Learner) -> dict[str, Any]:
    """Return all settings, by the objects that they belong to."""
    given = asdict(settings)

    def those(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in names}

    kernel = those("kernel", "groups", "gamma", "centre", "pool") if name == "kib" else {}
    rates = those("units", "head") if learner.rule.trains_units else those("head")
    return {
        "data": {"name": data.name, "samples": len(data.train.targets), "augment": data.augment is not None},
        "network": {"name": "resnet", "stem": 16, "blocks": [[16, 1], [32, 2], [64, 2]], "units": UNITS, "head": "fc"},
        "rule": {"name": type(learner.rule).__name__, **kernel},
        "optimizer": {"name": "adamw", "lr": rates, **those("weight_decay", "warm_up"), "schedule": "warm-up, cosine"},
        "training": {**those("batch", "epochs", "bf16"), "channels_last": True},
    }


def read_data(asked: argparse.Namespace) -> DataSet:
    """Return the data set, the held-out tenth of its training set in the test set's place for `--validate`."""
    data = load(asked.data, asked.data_dir, test=not asked.validate)
    data = data.validation() if asked.validate else data
    if asked.samples is None:
        return data
    return replace(data, train=Split(*(part[: asked.samples] for part in data.train)))


def settings_of(name: str, asked: argparse.Namespace) -> Settings:
    """Return the rule's own settings, with what was asked for instead."""
    units, head = RATES[name]
    names = Settings.__dataclass_fields__
    given = {key: value for key, value in vars(asked).items() if key in names and value is not None}
    return Settings(**{"units": units, "head": head, **given})


def run(name: str, seed: int, data: DataSet, asked: argparse.Namespace) -> float:
    """Return the accuracy of a run on what was held out; its record is read if it exists, and written otherwise."""
    held_out = "validation" if asked.validate else "test"
    words = {"recipe": "learner/resnet", "row": f"{data.name}/{asked.row or RULES[name]}", "seed": seed}
    path = record_path(asked.out, **words)
    if path.exists() and not asked.validate:
        print(f"{path} exists")
        return read_record(path).final["test_accuracy"]
    print(f"{name}, seed {seed}", flush=True)
    record = measure(name, data, settings_of(name, asked), held_out, **words)
    if not asked.validate:
        write_record(record, path)
    return record.final[f"{held_out}_accuracy"]


def compare(asked: argparse.Namespace) -> dict[str, float]:
    """Return the accuracies of all runs, and how far the kernelized bottleneck is above frozen units, by seed."""
    data, figures = read_data(asked), {}
    for seed in asked.seeds:
        scores = {name: run(name, seed, data, asked) for name in asked.rules}
        figures |= {f"{name}, seed {seed} (% correct)": score for name, score in scores.items()}
        if {"kib", "frozen"} <= scores.keys():
            figures[f"kib - frozen, seed {seed} (points)"] = scores["kib"] - scores["frozen"]
    return figures


def parse() -> argparse.Namespace:
    """Return what was asked for; settings that were not are None."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resnet18", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, help="of the training set; all of them if left out")
    parser.add_argument("--rules", type=lambda text: text.split(","), default=list(RULES))
    parser.add_argument("--row", help="name of the row, in place of the rule's")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--validate", action="store_true")
    for name, kind in {"units": float, "head": float, "weight-decay": float, "gamma": float, "warm-up": float}.items():
        parser.add_argument(f"--{name}", type=kind)
    for name in ("batch", "epochs", "groups", "pool", "width", "rounds"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--kernel")
    for name in ("centre", "bf16"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return parser.parse_args()


def main() -> None:
    """Train and compare, or measure a step of ResNet-18, and tell."""
    asked = parse()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    if asked.resnet18:
        sizes = {name: getattr(asked, name) for name in ("width", "batch", "rounds", "groups")}
        figures = measure_step(**{name: size for name, size in sizes.items() if size is not None})
    else:
        figures = compare(asked)
    tell(figures, BOUNDS | {name: AIM for name in figures if name.startswith("kib - frozen")}, asked.json)


if __name__ == "__main__":
    main()
