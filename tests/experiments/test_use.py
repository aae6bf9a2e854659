"""Checkpoints put to use."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_texts import TINY
from torch import nn

from infohebb import Backprop, Learner, fit, train
from infohebb.data import blobs, digits
from infohebb.errors import (
    CheckpointError,
    CorruptFileError,
    InfohebbError,
    MismatchError,
    MissingDataError,
    UsageError,
)
from infohebb.experiments.build import load_network
from infohebb.experiments.use import as_network_input, evaluate_checkpoint, predict_file, read_inputs
from infohebb.networks.plain import MLP
from infohebb.training import Checkpoints, predict
from infohebb.training.callbacks import Checkpoint

VERSION_0_1 = Path(__file__).with_name("version_0_1")  # checkpoints that its `infohebb run` wrote, and their outputs


@pytest.fixture
def trained(go):
    """A record on digits, and its checkpoint's folder."""
    settings = ["data.name=digits", "training.epochs=1", "network.norm=batch"]
    (record,) = go(settings=settings, only="blobs/cosine")
    return record, record.path.with_suffix(".checkpoint")


def test_a_checkpoint_made_from_python_is_loaded_into_a_network_like_the_one_trained(tmp_path):
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    trained, other = MLP(3, 2, (4,)), MLP(3, 2, (4,))
    train(trained, Backprop(), (x, y), epochs=1, checkpoints=Checkpoints(tmp_path / "ck"), progress=False)
    with pytest.raises(CheckpointError, match="give load_network a network like the one trained"):
        load_network(tmp_path / "ck")
    assert torch.equal(load_network(tmp_path / "ck", other)(x), trained(x))
    with pytest.raises(CheckpointError, match="another network"):
        load_network(tmp_path / "ck", MLP(3, 2, (5,)))


def test_a_checkpoint_of_fit_is_loaded_into_any_module_like_the_one_trained(tmp_path):
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    trained, other = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2))
    fit(Learner(trained, Backprop()), (x, y), epochs=1, callbacks=[Checkpoint(tmp_path)], progress=False)
    with pytest.raises(CheckpointError, match="give load_network a network like the one trained"):
        load_network(tmp_path)
    assert torch.equal(load_network(tmp_path, other)(x), trained(x))


@pytest.mark.parametrize("kind", ["mlp", "convnet", "leaky_mlp"])
def test_checkpoints_of_version_0_1_give_the_outputs_that_they_gave_then(kind):
    network = load_network(VERSION_0_1 / kind)
    outputs = json.loads((VERSION_0_1 / "outputs.json").read_text())
    torch.testing.assert_close(network(digits().test.inputs[:5]), torch.tensor(outputs[kind]), rtol=1e-5, atol=1e-6)
    assert evaluate_checkpoint(VERSION_0_1 / kind)["accuracy"] == outputs[f"{kind}_final"]["test_accuracy"]


def test_a_checkpoint_scores_as_its_record_says(trained):
    record, folder = trained
    assert evaluate_checkpoint(folder) == {"accuracy": record.final["test_accuracy"]}
    assert evaluate_checkpoint(folder / "epoch0001") == {"accuracy": record.final["test_accuracy"]}


@pytest.mark.parametrize("names", [("x", "y"), ("x_test", "y_test")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_own_arrays_are_scored_the_test_ones_first(trained, tmp_path, names, dtype):
    record, folder = trained
    test = digits().test
    arrays = {"x": np.ones((3, 64)), "y": np.zeros(3, int)}  # decoys where the test arrays are there too
    np.savez(
        tmp_path / "a.npz",
        **arrays | dict(zip(names, (test.inputs.numpy().astype(dtype), test.targets.numpy()), strict=False)),
    )
    assert evaluate_checkpoint(folder, tmp_path / "a.npz") == {"accuracy": record.final["test_accuracy"]}


@pytest.mark.parametrize("shape", [(-1, 1, 8, 8), (-1, 8, 8), (-1, 64)])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_predictions_are_outputs_and_labels(trained, tmp_path, shape, kind):
    record, folder = trained
    test = digits().test
    path, inputs = tmp_path / f"a.{kind}", test.inputs.numpy().reshape(shape)
    (np.save if kind == "npy" else lambda p, a: np.savez(p, x=a))(path, inputs)
    assert predict_file(folder, path, tmp_path / "out.npz") == 360
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == {"output", "label"}
        with torch.no_grad():
            np.testing.assert_allclose(found["output"], load_network(folder)(test.inputs).numpy(), rtol=1e-5, atol=1e-6)
        assert 100 * (found["label"] == test.targets.numpy()).mean() == pytest.approx(record.final["test_accuracy"])


def test_numbers_to_predict_have_no_labels(go, nowhere):
    x = np.random.default_rng(0).normal(size=(50, 4))
    np.savez(nowhere / "waves.npz", x=x, y=x[:, :2].sum(1))
    (record,) = go(arrays=nowhere / "waves.npz", only="blobs/backprop")
    folder = record.path.with_suffix(".checkpoint")
    assert predict_file(folder, nowhere / "waves.npz", nowhere / "out.npz") == 50
    with np.load(nowhere / "out.npz") as found:
        assert found["output"].shape == (50, 1)
        assert set(found) == {"output"}
    assert evaluate_checkpoint(folder)["error"] == pytest.approx(record.final["test_error"])


def test_raw_images_are_normalised_as_the_recipes_data_set_and_numbers_are_not(tmp_path):
    raw = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8).transpose(0, 3, 1, 2)
    config = {"shapes": {"inputs": [3, 32, 32]}, "data": {"name": "cifar10"}}
    ready = as_network_input(raw, config, tmp_path)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261])
    wanted = (raw / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(ready.numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert as_network_input(raw.astype(np.float64), config, tmp_path).dtype == torch.float32
    np.testing.assert_array_equal(as_network_input(raw.astype(np.int64), config, tmp_path).numpy(), raw)
    grey = {"shapes": {"inputs": [1, 28, 28]}, "data": {"name": "mnist"}}
    images = np.array([0, 255], dtype=np.uint8)[:, None].repeat(784, 1)
    assert as_network_input(images, grey, tmp_path).flatten(1).unique(dim=1).tolist() == [[-1.0], [1.0]]
    unit = {**grey, "data": {"name": "mnist", "mean": [0.0], "std": [1.0]}}
    assert as_network_input(images, unit, tmp_path).flatten(1).unique(dim=1).tolist() == [[0.0], [1.0]]
    own = {"shapes": {"inputs": [2]}, "data": {"path": "mine.npz"}}
    assert as_network_input(np.array([[3, 4]], dtype=np.uint8), own, tmp_path).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((3, 63)),
        np.zeros((64, 8)),
        np.zeros((3, 8, 8, 2)),
        np.array([["a"] * 64]),
        np.zeros((2, 64), complex),
        np.float64(1),
    ],
)
def test_samples_of_another_shape_are_named(tmp_path, inputs):
    config = {"shapes": {"inputs": [1, 8, 8]}, "data": {"name": "digits"}}
    with pytest.raises(MismatchError, match=r"mine\.npz: x is .*the network takes numbers \(n, \[1, 8, 8\]\)"):
        as_network_input(np.asarray(inputs), config, tmp_path / "mine.npz")


def test_files_that_hold_no_samples_are_named(trained, tmp_path):
    _, folder = trained
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "text.npy").write_text("1 2 3")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "noname.npz", z=np.zeros(3))
    for name in ("bad.npy", "text.npy", "objects.npy"):
        with pytest.raises(CorruptFileError, match=rf"{name} is no \.npy file"):
            read_inputs(tmp_path / name)
    with pytest.raises(UsageError, match=r"noname\.npz has no array named x"):
        read_inputs(tmp_path / "noname.npz")
    with pytest.raises(UsageError, match=r"noname\.npz holds nothing; it needs arrays named x and y"):
        evaluate_checkpoint(folder, tmp_path / "noname.npz")
    for missing in ("no.npy", "no.npz"):
        with pytest.raises(MissingDataError, match=f"cannot read .*{missing}"):
            predict_file(folder, tmp_path / missing, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_arrays_without_samples_or_with_nan_are_refused(trained, tmp_path):
    _, folder = trained
    for inputs in (np.zeros((0, 64)), np.full((2, 64), np.nan)):
        np.savez(tmp_path / "a.npz", x=inputs, y=np.zeros(len(inputs), int))
        for use in (
            lambda: evaluate_checkpoint(folder, tmp_path / "a.npz"),
            lambda: predict_file(folder, tmp_path / "a.npz", tmp_path / "o.npz"),
        ):
            with pytest.raises(InfohebbError, match=r"sample|shape"):
                use()


def test_folders_that_are_no_checkpoint_are_named(trained, tmp_path):
    _, folder = trained
    with pytest.raises(MissingDataError, match=r"no checkpoint at .*nothing"):
        load_network(tmp_path / "nothing")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for content in ("{", "{}", "3", "[]", json.dumps({"network": {}, "shapes": 3})):
        (copy / "epoch0001" / "config.json").write_text(content)
        with pytest.raises(CorruptFileError):
            load_network(copy)


def test_the_precision_of_training_is_that_of_use(go, tmp_path):
    settings = ["training.epochs=1", "training.precision=bf16"]
    (record,) = go(settings=settings, only="blobs/cosine")
    folder, inputs = record.path.with_suffix(".checkpoint"), blobs().test.inputs
    assert evaluate_checkpoint(folder) == {"accuracy": record.final["test_accuracy"]}
    np.save(tmp_path / "x.npy", inputs.numpy())
    predict_file(folder, tmp_path / "x.npy", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        output = torch.from_numpy(found["output"])
    assert torch.equal(output, output.bfloat16().float())
    torch.testing.assert_close(output, predict(load_network(folder), inputs), rtol=0.05, atol=0.02)


def test_the_precision_of_training_is_that_of_a_network_that_settles(go):
    text = TINY.replace('"mlp", widths = [8, 8], divisive_norm = { groups = 2 }', '"predictive_coding", widths = [8]')
    text = text.replace('"KernelizedBottleneck", kernel = "cosine"', '"PredictiveCoding"')
    settings = ["optimizer.lr=0.01", "training.epochs=1", "training.precision=bf16"]
    (record,) = go(text, settings=settings, only="blobs/cosine")
    folder = record.path.with_suffix(".checkpoint")
    assert load_network(str(folder)).precision == "bf16"
    assert evaluate_checkpoint(folder) == {"accuracy": record.final["test_accuracy"]}
