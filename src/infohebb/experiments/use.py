"""A checkpoint put to use: scored, or asked for predictions."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infohebb.data import DataSet, normaliser, read_npz
from infohebb.errors import CorruptFileError, MismatchError, MissingDataError, UsageError
from infohebb.experiments.build import build_data, load_network
from infohebb.files import write_arrays
from infohebb.training import evaluate, predict
from infohebb.training.checkpoint import read_config
from infohebb.training.plain import computing_in


def evaluate_checkpoint(checkpoint: Path, arrays: Path | None = None, data_dir: Path | None = None) -> dict[str, float]:
    """Score on the test samples of the checkpoint's recipe, or on those of an `.npz` file (x_test, y_test, else x, y).

    Raises MissingDataError, CorruptFileError, MismatchError, UsageError.
    """
    config = read_config(checkpoint)
    network = load_network(checkpoint)
    with as_trained(network, config):
        return evaluate(network, _data_of(config, data_dir) if arrays is None else _pair_of(arrays, config))


def as_trained(network: nn.Module, config: Mapping[str, Any]) -> contextlib.AbstractContextManager[object]:
    """Return a context in which a network computes in the precision in which it was trained."""
    return computing_in(network, config.get("training", {}).get("precision", "fp32"))


def _data_of(config: dict[str, Any], data_dir: Path | None) -> DataSet:
    try:
        return build_data(config, data_dir)
    except MissingDataError as error:
        fix = "; or name it now by --data" if "path" in config["data"] else ""
        raise MissingDataError(f"{error}{fix}") from error


def _pair_of(arrays: Path, config: dict[str, Any]) -> tuple[Tensor, np.ndarray]:
    found = read_npz(arrays)
    inputs, targets = found.get("x_test", found.get("x")), found.get("y_test", found.get("y"))
    if inputs is None or targets is None:
        raise UsageError(f"{arrays} holds {', '.join(sorted(found)) or 'nothing'}; it needs arrays named x and y")
    return as_network_input(inputs, config, arrays), targets


def predict_file(checkpoint: Path, arrays: Path, out: Path) -> int:
    """Write the network's `output` (n × outputs), and `label` (n) where classes were learned; return n.

    Raises MissingDataError, CorruptFileError, MismatchError, UsageError, NoSpaceError.
    """
    config = read_config(checkpoint)
    network, inputs = load_network(checkpoint), as_network_input(read_inputs(arrays), config, arrays)
    with as_trained(network, config):
        output = predict(network, inputs).float().numpy()
    labels = {} if config["shapes"].get("continuous") else {"label": output.argmax(1)}
    write_arrays(out, {"output": output, **labels})
    return len(output)


def read_inputs(path: Path) -> np.ndarray:
    """The array of a `.npy` file, or `x` of an `.npz` file.  Raises MissingDataError, CorruptFileError, UsageError."""
    if path.suffix != ".npy":
        found = read_npz(path)
        if "x" not in found:
            raise UsageError(f"{path} has no array named x")
        return found["x"]
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise MissingDataError(f"cannot read {path} ({error.strerror}); give a .npy or .npz file") from error
    except (ValueError, EOFError) as error:
        raise CorruptFileError(f"{path} is no .npy file of plain numbers") from error


def as_network_input(inputs: np.ndarray, config: dict[str, Any], path: Path) -> Tensor:
    """Samples in the network's shape; raw images (uint8) normalised as the recipe's data set is.

    Raises MismatchError, UsageError.
    """
    shape = config["shapes"]["inputs"]
    if inputs.dtype.kind not in "fiub" or inputs.ndim < 1 or inputs[:1].size != np.prod(shape):
        raise MismatchError(f"{path}: x is {inputs.dtype}{list(inputs.shape)}; the network takes numbers (n, {shape})")
    samples = torch.from_numpy(np.ascontiguousarray(inputs)).reshape(-1, *shape)
    words = config["data"]
    normalise = normaliser(words.get("name", ""), words.get("mean"), words.get("std"))
    return normalise(samples) if inputs.dtype == np.uint8 else samples.float()
