"""Records as runs write them, made of numpy alone."""

from pathlib import Path

import numpy as np

from infohebb.experiments.record import Record, record_path, write_record

RESULTS = Path(__file__).resolve().parents[2] / "results"  # of this repository
OLD, NEW = "0.1.0", "0.2.0"  # versions of infohebb
BLOCKS = ("block1", "block2", "block3")  # in records of version 0.1
UNITS = ("layers.0", "layers.1", "layers.2")
WEIGHTS = ("layers.0.activity.conv.weight", "layers.1.activity.conv.weight", "layers.2.activity.linear.weight")
ROLES = {OLD: ("local", "readout"), NEW: ("units", "head")}
LAYERS = ("layer 1", "layer 2", "layer 3")  # in figures and tables


def curve(first, last, epochs, rng, noise=0.3):
    steps = np.arange(epochs)
    values = last - (last - first) * np.exp(-steps / max(epochs / 6, 1)) + noise * rng.normal(size=epochs)
    return [float(value) for value in values]


def objective(epochs, rng, depth):
    compression = np.array(curve(0.030 / depth, 0.012 / depth, epochs, rng, 2e-4 / depth))
    relevance = np.array(curve(0.002, 0.010 * depth**0.3, epochs, rng, 1e-4))
    terms = {"objective": compression - 2 * relevance, "compression": compression, "relevance": relevance}
    return {name: values.tolist() for name, values in terms.items()}


def make_record(
    row="mnist/gaussian/grouping+divnorm",
    seed=0,
    *,
    score=98.12,
    train=99.5,
    published=98.1,
    epochs=10,
    recipe="kib/table1",
    split="test",
    quantity="accuracy",
    blocks=None,
    version=OLD,
    **more,
):
    blocks = {OLD: BLOCKS, NEW: UNITS}[version] if blocks is None else blocks
    rng = np.random.default_rng(seed)
    rate = [1.0 if epoch <= epochs * 0.6 else 0.25 for epoch in range(1, epochs + 1)]
    low = 60.0 if quantity == "accuracy" else 3 * score
    noise = 0.2 if quantity == "accuracy" else 0.01 * score
    fields = {
        "recipe": recipe,
        "row": row,
        "seed": seed,
        "published": published,
        "final": {f"{split}_{quantity}": score, f"train_{quantity}": train},
        "curves": {
            "epoch": list(range(1, epochs + 1)),
            f"train_{quantity}": curve(low, train, epochs, rng, noise),
            f"{split}_{quantity}": curve(low, score, epochs, rng, noise),
            "train_loss": curve(1.0, 0.1, epochs, rng, 0.01),
            "seconds": [2.0] * epochs,
            "learning_rate": dict(zip(ROLES[version], (rate, [0.001] * epochs), strict=True)),
            "objective": {name: objective(epochs, rng, i) for i, name in enumerate(blocks, 1)},
        },
        "config": {"data": {"name": "mnist"}, "rule": {"name": "KernelizedBottleneck", "gamma": 2.0}, "seed": seed},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "infohebb": version},
        "commit": "0123abcd",
        "device": "cpu",
        "wall_seconds": 200.0,
        "peak_memory_bytes": 512 * 2**20,
        "peak_memory_method": "high-water mark of the resident set",
    }
    if version == NEW:
        fields["curves"][f"{split}_loss"] = [0.2] * epochs
    return Record(**{**fields, **more})


def alignment(at=(0, 2, 4), layers=(*BLOCKS, "readout"), angle=80.0, ratio=0.1):
    """Curves of a diagnosed run: the first layer has no gradient, each angle is a degree above that of the last."""
    angles = {
        layer: [None if i == 0 else angle + i + 0.5 * k for k in range(len(at))] for i, layer in enumerate(layers)
    }
    ratios = {layer: [None if i == 0 else ratio * 10**i for _ in at] for i, layer in enumerate(layers)}
    return {"epoch": list(at), "angle": angles, "norm_ratio": ratios}


def diagnosed(row="mnist/gaussian/grouping+divnorm", seed=0, epochs=4, version=OLD, **options):
    record = make_record(row, seed, epochs=epochs, version=version)
    record.curves["alignment"] = alignment(**options)
    return record


def streamed(row="mnist/two_point/plain", seed=0, *, points=6, apart=10000, rule="KernelizedBottleneckOnline", **more):
    """The record of a run that was given single samples, with a point of its curves after every `apart` of them."""
    more = {"recipe": "kib/online", "blocks": (), "published": None, **more}
    record = make_record(row, seed, epochs=points, **more)
    record.curves["samples"] = [apart * (i + 1) for i in range(points)]
    record.config = {"rule": {"name": rule}, "training": {"batch": 1}}
    return record


def study(row="gaussian/two_point/plain", seed=0, *, final=None, published=None, curves=None, **more):
    """The record of a row that trains no network."""
    fields = {
        "recipe": "kib/online",
        "final": final or {"cosine": 0.99 + 0.001 * seed, "scale": 1.01},
        "curves": curves or {},
        "config": {"study": {"name": "agreement", "draws": 10}},
    }
    return make_record(row, seed, published=published, **{**fields, **more})


def save_pictures(path: Path, seed=0, per_class=8, classes=10, names=BLOCKS):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    same = (labels[:, None] == labels[None]).astype(float)
    arrays = {"labels": labels}
    for i, name in enumerate(names, 1):
        noise = rng.normal(size=(labels.size, labels.size))
        noise = 0.06 * (noise + noise.T)
        arrays[f"gram_before_{name}"] = (0.35 + 0.15 * same + noise).astype(np.float16)
        arrays[f"gram_after_{name}"] = (0.1 + 0.2 * i * same + noise).astype(np.float16)
    np.savez_compressed(path, **arrays)


def save(folder: Path, record: Record, *, pictures=False) -> Path:
    validate = any(key.startswith("validation") for key in record.final)
    path = write_record(record, record_path(folder, record.recipe, record.row, record.seed, validate=validate))
    if pictures:
        names = BLOCKS if record.versions["infohebb"] == OLD else UNITS
        save_pictures(path.with_suffix(".npz"), record.seed, names=names)
    return path
