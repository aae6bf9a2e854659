"""Runs: each row and seed once, skipped where its record exists, never mixed."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from recipe_texts import TINY

from infohebb.data import digits
from infohebb.errors import (
    CorruptFileError,
    GroupingError,
    NonFiniteLossError,
    RecordConflictError,
    UnknownKeyError,
    UnknownNameError,
    UsageError,
    WrongTypeError,
)
from infohebb.experiments.build import load_network
from infohebb.experiments.recipe import parse_recipe
from infohebb.experiments.record import read_record
from infohebb.experiments.run import Options, jobs, run_recipe
from infohebb.experiments.use import evaluate_checkpoint
from infohebb.files import held
from infohebb.training.checkpoint import read_config
from infohebb.training.evaluation import evaluate


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def comparable(record):
    fields = record.model_dump(exclude={"wall_seconds", "peak_memory_bytes"})
    del fields["curves"]["seconds"]
    return fields


def test_a_run_writes_record_pictures_and_checkpoint(go, nowhere):
    (record, backprop) = go()
    folder = nowhere / "results" / "tiny" / "blobs" / "cosine" / "divnorm"
    names = {"seed0.json", "seed0.npz", "seed0.checkpoint"}
    assert {path.name for path in folder.iterdir()} == names
    assert read_record(folder / "seed0.json").model_dump() == record.model_dump()
    assert (record.recipe, record.row, record.seed) == ("tiny", "blobs/cosine/divnorm", 0)
    assert (record.published, backprop.published) == (99.5, None)
    assert record.final["test_accuracy"] == record.curves["test_accuracy"][-1]
    assert set(record.final) == {"test_accuracy", "train_accuracy"}
    assert record.wall_seconds == pytest.approx(sum(record.curves["seconds"]))
    defaults = {"milestones": [], "factor": 0.25, "precision": "fp32", "channels_last": False, "compiled": False}
    defaults |= {"cuda_graphs": False, "stacked": False}
    defaults |= {
        "order": "random",
        "steps_per_sample": 1,
        "order_seed": None,
        "epoch_samples": None,
        "powers": [],
        "factor_every": None,
    }
    assert record.config["training"] == {"epochs": 2, "batch": 50, **defaults}
    assert record.config["rule"].items() >= {"name": "KernelizedBottleneck", "kernel": "cosine", "gamma": 2.0}.items()
    assert backprop.config["rule"] == {"name": "Backprop", "loss": None}
    assert (record.overrides, record.origin) == ([], None)
    assert backprop.config["optimizer"] == {"name": "sgd", "lr": 0.05}
    assert record.config["shapes"] == {"inputs": [8], "outputs": 2, "continuous": False}
    assert {"python", "torch", "infohebb", "numpy"} <= set(record.versions)
    assert "threads" in record.device
    assert record.peak_memory_bytes > 1_000_000
    with np.load(record.pictures) as arrays:
        wanted = {f"gram_{when}_layers.{i}" for when in ("before", "after") for i in (0, 1)} | {"labels"}
        assert set(arrays) == wanted
        assert not np.array_equal(arrays["gram_before_layers.0"], arrays["gram_after_layers.0"])
    assert record.pictures.stat().st_size <= 200_000


def test_rows_that_prepare_the_same_images_otherwise_each_have_their_own(go, nowhere):
    folder, drawn = nowhere / "data" / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for file in ("train", "test"):
        labels = drawn.integers(0, 100, 40)
        pixels = (drawn.integers(0, 100, (40, 3072)) + labels[:, None]).astype(np.uint8)
        (folder / file).write_bytes(pickle.dumps({b"data": pixels, b"fine_labels": labels.tolist()}, 4))
    row = 'name = "cifar100/backprop/{}"\nrule = {{ name = "Backprop" }}\noptimizer = {{ lr = 0.05 }}\n'
    own = ", mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25], augment = false }}"
    kinds = {"as_published": "}}", "own": own, "own_again": own}
    rows = [f"[[row]]\n{row}data = {{{{ name = 'cifar100'{kind}\n".format(mode) for mode, kind in kinds.items()]
    text = TINY.partition("[[row]]")[0] + "".join(rows)
    published, first, second = go(text, data_dir=nowhere / "data")
    assert published.config["data"] == {"name": "cifar100"}
    assert first.config["data"] == {"name": "cifar100", "mean": [0.5] * 3, "std": [0.25] * 3, "augment": False}
    assert first.curves["train_loss"] == second.curves["train_loss"] != published.curves["train_loss"]
    assert first.config["shapes"]["outputs"] == 100
    score = evaluate_checkpoint(first.path.with_suffix(".checkpoint"), data_dir=nowhere / "data")
    assert score == {"accuracy": first.final["test_accuracy"]}
    assert [record.row for record in go(text, data_dir=nowhere / "data")] == [
        record.row for record in (published, first, second)
    ]


def test_a_published_deviation_goes_with_its_number(nowhere):
    recipe = parse_recipe(
        TINY.replace("published = 99.5", "published = 99.5\npublished_sd = 0.25").encode(), "tiny.toml"
    )
    for settings, wanted in (([], [(99.5, 0.25), (None, None)]), (["training.epochs=1"], [(None, None)] * 2)):
        found = list(jobs("tiny", recipe, Options(out=nowhere, seeds=[0], settings=settings)))
        assert [(job.published, job.published_sd) for job in found] == wanted
        assert [(job.words["published"], job.words["published_sd"]) for job in found] == wanted


def test_final_scores_are_those_of_the_checkpoint(go):
    from infohebb.data import blobs

    (record, _) = go()
    net, data = load_network(record.path.with_suffix(".checkpoint")), blobs()
    assert evaluate(net, data)["accuracy"] == record.final["test_accuracy"]
    assert evaluate(net, tuple(data.train))["accuracy"] == record.final["train_accuracy"]


def test_what_has_a_record_is_not_run_again(go, nowhere):
    told = []
    first = go()
    before = files(nowhere / "results")
    again = go(tell=told.append)
    assert [record.model_dump() for record in again] == [record.model_dump() for record in first]
    assert files(nowhere / "results") == before
    assert len(told) == 2
    assert all("done before" in line for line in told)


def test_a_missing_record_alone_is_run_again(go, nowhere):
    first = go()
    first[1].path.unlink()
    kept = first[0].path.stat().st_mtime_ns
    again = go()
    assert first[0].path.stat().st_mtime_ns == kept
    assert comparable(again[1]) == comparable(first[1])


def test_a_finished_run_keeps_weights_and_configuration_only(go):
    (record, _) = go()
    (folder,) = record.path.with_suffix(".checkpoint").iterdir()
    names = ["config.json", "network.safetensors", "rule.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_row_that_another_process_runs_is_left_alone(go, nowhere):
    fcntl = pytest.importorskip("fcntl")
    lock = nowhere / "results" / "tiny" / "blobs" / "cosine" / "divnorm" / "seed0.checkpoint" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecordConflictError, match="another process runs this row"):
            go(only="blobs/cosine")


def test_what_cannot_run_is_left_out_and_the_rest_runs(go, nowhere):
    last = '[[row]]\nname = "blobs/last_layer/divnorm"\nrule = { name = "LastLayer" }\ndata = { name = "blobs" }\n'
    last += "optimizer = { lr = { head = 0.05 } }\n"
    text = TINY.replace('{ name = "blobs" }', '{ name = "mnist" }') + last
    told, recipe = [], parse_recipe(text.encode(), "tiny.toml")
    options = Options(out=nowhere / "out", data_dir=nowhere / "none", device="cpu", tell=told.append)
    with held(nowhere / "out/tiny/blobs/last_layer/divnorm/seed1.checkpoint/lock"):
        records, left_out = run_recipe("tiny", recipe, options)
    assert [(record.row, record.seed) for record in records] == [("blobs/last_layer/divnorm", 0)]
    missing, busy = left_out
    assert missing.startswith("mnist: ")
    assert len(left_out[missing]) == 4
    assert left_out[busy] == ["tiny blobs/last_layer/divnorm seed 1"]
    assert sum(line.startswith("left out: ") for line in told) == 2


def test_a_rule_that_cannot_train_a_later_row_is_found_before_the_first_runs(go, nowhere):
    with pytest.raises(GroupingError, match=r"^tiny blobs/backprop/divnorm: layers.0: 3 groups"):
        go(TINY + "network = { divisive_norm = { groups = 3 } }\n")
    assert not (nowhere / "results").exists()


@pytest.mark.parametrize(
    ("settings", "published"),
    [([], 99.5), (["training.precision=bf16"], 99.5), (["training.epochs=1"], None), (["rule.gamma=1.0"], None)],
)
def test_a_row_that_is_no_longer_the_papers_has_no_published_number(go, settings, published):
    (record,) = go(only="blobs/cosine", settings=settings)
    assert (record.published, record.overrides) == (published, settings)


def test_the_same_seed_gives_the_same_record_and_another_does_not(go, nowhere):
    (first, _) = go()
    (again, _) = go(out=nowhere / "other")
    assert comparable(first) == comparable(again)
    (third, _) = go(seeds=[1])
    assert comparable(third)["curves"] != comparable(first)["curves"]
    assert third.path.name == "seed1.json"


def test_seeds_are_the_recipes_unless_others_are_asked_for(go):
    assert [record.seed for record in go(seeds=None, only="blobs/cosine")] == [0, 1]
    assert [record.seed for record in go(seeds=[7, 5], only="blobs/cosine")] == [7, 5]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_torch_cannot_take_is_named(go, nowhere, seed):
    with pytest.raises(WrongTypeError, match=f"seed {seed}"):
        go(seeds=[0, seed])
    assert not (nowhere / "results").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": ["training.epochs=3"]}, "training.epochs = 2, not 3"),
        ({"settings": ["rule.gamma=1.0"]}, "rule.gamma = 2.0, not 1.0"),
        ({"settings": ["optimizer.lr.units=0.25"]}, r"optimizer.lr = {'units': 0.5, .*not {'units': 0.25"),
    ],
)
def test_a_record_of_another_configuration_is_a_conflict(go, nowhere, changed, words):
    go(only="blobs/cosine")
    before = files(nowhere / "results")
    with pytest.raises(RecordConflictError, match=words):
        go(only="blobs/cosine", **changed)
    assert files(nowhere / "results") == before


def test_a_corrupt_record_is_named_and_left(go):
    (record, _) = go()
    record.path.write_text("{")
    with pytest.raises(CorruptFileError, match=r"seed0\.json is not a record"):
        go()
    assert record.path.read_text() == "{"


ROWS = "".join(
    f'\n[[row]]\nname = "{name}"\n' for name in ("mnist/a/x", "mnist/b/x+y", "fashion_mnist/a/x", "mnist/a/y")
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (None, [0, 1, 2, 3]),
        ("mnist", [0, 1, 3]),
        ("*/a", [0, 2, 3]),
        ("*/*/x", [0, 2]),
        ("*/*/x*", [0, 1, 2]),
        ("*mnist/a/x", [0, 2]),
        ("mnist/a/x/", [0]),
        ("mnist/[ab]/[!y]*", [0, 1]),
    ],
)
def test_only_globs_whole_segments(pattern, found):
    from infohebb.experiments.recipe import parse_recipe, select_rows

    rows = parse_recipe(f'title = "t"\n{ROWS}'.encode(), "t").row
    assert select_rows(rows, pattern) == [rows[i] for i in found]


@pytest.mark.parametrize("pattern", ["mnis", "a", "mnist/a/x/z", "", "MNIST"])
def test_a_pattern_without_rows_lists_them(pattern):
    from infohebb.experiments.recipe import parse_recipe, select_rows

    rows = parse_recipe(f'title = "t"\n{ROWS}'.encode(), "t").row
    with pytest.raises(UnknownNameError, match=r"no row matches .*rows: mnist/a/x, mnist/b/x"):
        select_rows(rows, pattern)


def test_settings_are_laid_over_every_row(go):
    settings = ["training.epochs=1", "network.widths=[4]", "network.divisive_norm.groups=2", "optimizer.momentum=0.5"]
    records = go(settings=settings, only="blobs")
    for record in records:
        assert record.config["training"].items() >= {"epochs": 1, "batch": 50}.items()
        assert record.config["network"].items() >= {"widths": [4], "divisive_norm": {"groups": 2}}.items()
        assert record.config["optimizer"]["momentum"] == 0.5
        assert len(record.curves["epoch"]) == 1
    assert records[0].config["optimizer"]["lr"] == {"units": 0.5, "head": 0.05}


def test_settings_may_be_plain_words(go):
    (record,) = go(settings=["rule.kernel=gaussian", "training.epochs=1"], only="blobs/cosine")
    assert record.config["rule"]["kernel"] == "gaussian"


def test_validation_scores_a_tenth_of_the_training_set_and_never_reads_the_test_set(go, nowhere, monkeypatch):
    import infohebb.data.registry as registry
    from infohebb.data import DataSet, Split

    class Untouchable(Split):
        def __getattribute__(self, name):
            if name in ("inputs", "targets", "to"):
                raise AssertionError("the test split was read")
            return super().__getattribute__(name)

    def poisoned():
        whole = digits()
        return DataSet("digits", whole.train, Untouchable(*whole.test), 10)

    monkeypatch.setitem(registry.EMBEDDED, "digits", poisoned)
    text = TINY.replace('"blobs"', '"digits"').replace("[8, 8]", "[8]")
    (record, _) = go(text, validate=True, settings=["training.epochs=1"])
    assert record.path.name == "seed0.validation.json"
    assert set(record.final) == {"validation_accuracy", "train_accuracy"}
    right = record.final["validation_accuracy"] * 143 / 100  # a tenth of 1437
    assert right == pytest.approx(round(right), abs=1e-6)
    right = record.final["train_accuracy"] * 1294 / 100
    assert right == pytest.approx(round(right), abs=1e-6)


def test_a_validation_run_trains_on_nine_tenths_once(go):
    """The split of `DataSet.validation` is taken once: 180 of 200 blobs are trained on, 20 are scored."""
    (record,) = go(validate=True, settings=["training.epochs=1"], only="blobs/cosine")
    assert record.curves["samples"] == [180]
    assert record.final["validation_accuracy"] / 5 == pytest.approx(round(record.final["validation_accuracy"] / 5))


def test_own_arrays_take_the_place_of_the_recipes_data(go, nowhere):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)  # float64, as NumPy draws
    np.savez(nowhere / "mine.npz", x=x, y=y, x_test=x[:7], y_test=y[:7])
    (record,) = go(arrays=nowhere / "mine.npz", only="blobs/cosine")
    assert (record.row, record.published) == ("mine/cosine/divnorm", None)
    assert record.config["data"]["path"] == str(nowhere / "mine.npz")
    assert record.config["shapes"] == {"inputs": [5], "outputs": 3, "continuous": False}
    right = record.final["test_accuracy"] * 7 / 100
    assert right == pytest.approx(round(right))


def test_own_arrays_with_numbers_to_predict(go, nowhere):
    x = np.random.default_rng(0).normal(size=(50, 4))
    np.savez(nowhere / "waves.npz", x=x, y=x[:, :2].sum(1))
    (record,) = go(arrays=nowhere / "waves.npz", only="blobs/backprop")
    assert set(record.final) == {"test_error", "train_error"}
    assert record.config["shapes"] == {"inputs": [4], "outputs": 1, "continuous": True}


def test_a_file_of_arrays_that_changed_is_read_again(go, nowhere):
    rng = np.random.default_rng(0)
    for classes, out in ((2, "first"), (4, "second")):
        np.savez(nowhere / "mine.npz", x=rng.normal(size=(40, 5)), y=np.arange(40) % classes)
        (record,) = go(arrays=nowhere / "mine.npz", only="blobs/cosine", out=nowhere / out)
        assert record.config["shapes"]["outputs"] == classes


def test_groups_are_held_against_the_maps_of_ones_own_images(go, nowhere):
    text = TINY.replace(
        'name = "mlp", widths = [8, 8]', 'name = "convnet", channels = [4], pooled = [1], widths = [10]'
    )
    rng, path = np.random.default_rng(0), nowhere / "images.npz"
    np.savez(path, x=rng.normal(size=(20, 2, 10, 10)), y=np.arange(20) % 2)
    settings = ["network.divisive_norm.groups=5", "training.epochs=1"]
    (record,) = go(text, arrays=path, only="images/cosine", settings=settings)
    assert record.config["shapes"]["inputs"] == [2, 10, 10]
    with pytest.raises(GroupingError, match="3 groups do not cut a layer of 100 neurons"):
        go(text, arrays=path, only="images/cosine", settings=["network.divisive_norm.groups=3"], out=nowhere / "other")


def test_a_record_of_other_arrays_under_the_same_name_is_not_taken_for_done(go, nowhere):
    rng = np.random.default_rng(0)
    path, other = nowhere / "mine.npz", nowhere / "elsewhere" / "mine.npz"
    np.savez(path, x=rng.normal(size=(40, 5)), y=np.arange(40) % 2)
    (record,) = go(arrays=path, only="blobs/cosine")
    other.parent.mkdir()
    shutil.copy(path, other)
    assert go(arrays=other, only="blobs/cosine") == [record]
    np.savez(path, x=rng.normal(size=(40, 5)), y=np.arange(40) % 2)
    with pytest.raises(RecordConflictError, match=r"was made with data.md5 = '\w+', not '\w+'"):
        go(arrays=path, only="blobs/cosine")


@pytest.mark.parametrize(
    ("error", "words", "settings"),
    [
        (UnknownKeyError, "training.epoch; did you mean 'epochs'", "training.epoch=3"),
        (UnknownKeyError, "training.progress", "training.progress=true"),
        (WrongTypeError, "training: epochs = 'many'", "training.epochs=many"),
        (WrongTypeError, "training: precision", "training.precision=fp8"),
        (UnknownKeyError, "network.width; did you mean 'widths'", "network.width=[3]"),
        (WrongTypeError, "network: widths", "network.widths=3"),
        (UsageError, "3 groups do not cut a layer of 8", "network.divisive_norm.groups=3"),
        (UsageError, "1 group", "network.divisive_norm.groups=1"),
        (UnknownKeyError, "network.divisive_norm.group; did you mean 'groups'", "network.divisive_norm.group=4"),
        (UnknownNameError, "unknown network 'mpl'; did you mean 'mlp'", "network.name=mpl"),
        (UnknownNameError, "unknown rule 'Backporp'; did you mean 'Backprop'", "rule.name=Backporp"),
        (WrongTypeError, "rule: gamma", "rule.gamma=much"),
        (UnknownNameError, "unknown kernel 'sine'; did you mean 'cosine'", "rule.kernel=sine"),
        (UnknownNameError, "unknown data set 'blob'; did you mean 'blobs'", "data.name=blob"),
        (UnknownKeyError, "data.size", "data.size=3"),
        (UnknownKeyError, "optimizer.momentun", "optimizer.momentun=0.9"),
        (WrongTypeError, "optimizer: .*-0.5", "optimizer.momentum=-0.5"),
        (WrongTypeError, "optimizer: lr", "optimizer.lr=fast"),
        (WrongTypeError, "optimizer: name", "optimizer.name=3"),
        (UnknownNameError, "unknown optimizer 'sgdm'; did you mean 'sgd'", "optimizer.name=sgdm"),
        (UnknownKeyError, "no section 'trainig'; sections: data, network", "trainig.epochs=3"),
        (WrongTypeError, "write section.key=value", "epochs=3"),
        (WrongTypeError, "write section.key=value", "training.epochs"),
        (WrongTypeError, "write section.key=value", "training.=3"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(go, nowhere, error, words, settings):
    with pytest.raises(error, match=words) as caught:
        go(settings=[settings], only="blobs/cosine")
    assert "\n" not in str(caught.value)
    assert not list((nowhere / "results").rglob("*.json"))


def test_wrong_words_in_a_later_row_are_found_before_the_first_row_runs(go, nowhere):
    text = TINY.replace('rule = { name = "Backprop" }', 'rule = { name = "Backprop", gamma = 1.0 }')
    with pytest.raises(UnknownKeyError, match=r"rule\.gamma"):
        go(text)
    assert not (nowhere / "results").exists()


def test_a_run_that_fails_names_recipe_row_and_seed_and_keeps_what_is_done(go, nowhere):
    go(only="blobs/backprop")
    before = files(nowhere / "results")
    wild = TINY.replace("units = 0.5", "units = 1e30").replace(", divisive_norm = { groups = 2 }", "")
    with pytest.raises(
        NonFiniteLossError, match=r"^tiny \S+ seed 0: epoch 1, step 4: the objective of unit layers\.\d"
    ):
        go(wild, only="blobs/cosine")
    assert files(nowhere / "results") == before


def test_an_interrupted_row_goes_on_and_writes_the_same_record(go, nowhere, monkeypatch):
    from infohebb.training.statistics import Statistics

    settings = ["training.epochs=4", "network.dropout=0.2"]
    (whole,) = go(settings=settings, only="blobs/cosine", out=nowhere / "whole")
    count = iter(range(100))

    def stop(statistics, step, *, onset, add=Statistics.add):
        if next(count) == 9:  # third epoch of four batches
            raise KeyboardInterrupt
        add(statistics, step, onset=onset)

    with monkeypatch.context() as patch:
        patch.setattr(Statistics, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            go(settings=settings, only="blobs/cosine")
    folder = nowhere / "results" / "tiny" / "blobs" / "cosine" / "divnorm"
    assert not (folder / "seed0.json").exists()
    assert read_config(folder / "seed0.checkpoint" / "epoch0002")["recipe"] == "tiny"
    (resumed,) = go(settings=settings, only="blobs/cosine")
    assert comparable(resumed) == comparable(whole)
    left, right = (record.path.with_suffix(".checkpoint") for record in (resumed, whole))
    assert (left / "epoch0004/network.safetensors").read_bytes() == (
        right / "epoch0004/network.safetensors"
    ).read_bytes()
    assert (left / "epoch0004/rule.safetensors").read_bytes() == (right / "epoch0004/rule.safetensors").read_bytes()
    with np.load(resumed.pictures) as mine, np.load(whole.pictures) as theirs:
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)


def test_the_callers_random_numbers_are_left_alone(go):
    state = torch.get_rng_state()
    go(only="blobs/cosine")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_diagnosed_run_is_the_same_run_with_alignment(go, nowhere):
    plain, diagnosed = go(), go(out=nowhere / "other", diagnose=2)
    for one, other in zip(plain, diagnosed, strict=True):
        found = other.curves["alignment"]
        assert read_record(other.path).curves["alignment"] == found
        assert found["epoch"] == [0, 2]
        assert other.peak_memory_method == f"{one.peak_memory_method}, diagnosis included"
        fields = comparable(other)
        del fields["curves"]["alignment"]
        assert {**fields, "peak_memory_method": one.peak_memory_method} == comparable(one)
    assert diagnosed[0].published == 99.5
    angles = diagnosed[1].curves["alignment"]["angle"]
    assert angles["layers.0.activity.linear.weight"] == pytest.approx([0, 0], abs=1e-4)
    left, right = (load_network(runs[0].path.with_suffix(".checkpoint")) for runs in (plain, diagnosed))
    assert all(map(torch.equal, left.state_dict().values(), right.state_dict().values()))


def test_a_record_that_exists_stays_whatever_is_to_be_diagnosed(go, nowhere):
    go(only="blobs/cosine")
    before, told = files(nowhere / "results"), []
    go(only="blobs/cosine", diagnose=1, tell=told.append)
    assert files(nowhere / "results") == before
    assert "done before, not diagnosed, " in told[0]


def test_backprop_of_another_loss_is_held_against_itself(go):
    text = TINY.replace('{ name = "Backprop" }', '{ name = "Backprop", loss = "mean_squared_error" }')
    (record,) = go(text, only="blobs/backprop", diagnose=1)
    found = record.curves["alignment"]
    assert all(line == pytest.approx([0] * 3, abs=1e-4) for line in found["angle"].values())
    assert all(line == pytest.approx([1] * 3, rel=1e-6) for line in found["norm_ratio"].values())
