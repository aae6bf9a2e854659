"""The one place where a name becomes an object, and where a recipe's words are checked against constructors."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from torch import nn

from infohebb import rules
from infohebb.data import DataSet, from_npz, load
from infohebb.errors import CorruptFileError, RecipeError, UnknownKeyError, UsageError, unknown_name
from infohebb.experiments.recipe import Config, recipe_error
from infohebb.networks import MLP, DivisiveNorm, Layered
from infohebb.rules import LearningRule
from infohebb.training.checkpoint import load_weights, read_config
from infohebb.training.loop import train

NETWORKS: dict[str, type[nn.Module]] = {"mlp": MLP}
TRAINING = ("epochs", "batch", "milestones", "factor", "precision")


def build_data(config: Config, data_dir: Path | None = None, *, validate: bool = False) -> DataSet:
    """The data set of a recipe; with `validate`, the training set alone, a tenth of it held out.

    Raises UnknownNameError, UnknownKeyError, MissingDataError, CorruptFileError.
    """
    options = dict(config["data"])
    name = options.pop("name", "digits")
    path = options.pop("path", None)
    if options:
        raise UnknownKeyError(f"data.{next(iter(options))}: a data set has a name, or a path to an .npz file, only")
    data = load(name, data_dir, test=not validate) if path is None else from_npz(path)
    return data.validation() if validate else data


def build_network(config: Config, inputs: Sequence[int], outputs: int) -> Layered:
    """The network of a recipe for samples of that shape.  Raises UnknownNameError, RecipeError, GroupingError."""
    options = {"inputs": list(inputs), "outputs": outputs, **config["network"]}
    make = _named("network", options, NETWORKS, "mlp")
    norm = options.get("divisive_norm")
    if isinstance(norm, Mapping):
        check_arguments("network.divisive_norm", DivisiveNorm, norm)
    return _call("network", make, options)


def build_rule(config: Config) -> LearningRule:
    """The rule of a recipe.  Raises UnknownNameError, RecipeError."""
    options = dict(config["rule"])
    make = _named("rule", options, rules.registry(), "KernelizedBottleneck")
    return _call("rule", make, options)


def check_training(config: Config) -> None:
    """Raise UnknownKeyError or WrongTypeError for what the training loop does not take."""
    check_arguments("training", train, config["training"], only=TRAINING)


def load_network(checkpoint: str | Path) -> Layered:
    """The network of a checkpoint that `infohebb run` wrote, with its weights, on the CPU.

    Raises MissingDataError, CorruptFileError, CheckpointError.
    """
    folder = Path(checkpoint)
    config = read_config(folder)
    try:
        network = build_network(config, config["shapes"]["inputs"], config["shapes"]["outputs"])
    except (KeyError, TypeError) as error:
        raise CorruptFileError(f"the config of {folder} does not say which network it holds") from error
    load_weights(folder, network)
    network.precision = config["training"].get("precision", "fp32")
    return network


def _named(section: str, options: dict[str, Any], known: Mapping[str, Any], default: str) -> Any:
    name = options.pop("name", default)
    if name not in known:
        raise unknown_name(section, name, known)
    return known[name]


def _call(section: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    check_arguments(section, make, options)
    try:
        return make(**options)
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{section}: {error}") from error


def check_arguments(
    section: str, make: Callable[..., Any], options: Mapping[str, Any], only: Sequence[str] | None = None
) -> None:
    """Raise UnknownKeyError or WrongTypeError unless `options` fit the signature of `make`, or its part `only`."""
    parameters = {name: p for name, p in inspect.signature(make).parameters.items() if only is None or name in only}
    for key in options:
        if key not in parameters:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(parameters)}"
            raise UnknownKeyError(f"unknown key {section}.{key}; {hint}")
    fields: dict[str, Any] = {name: (p.annotation, p.default) for name, p in parameters.items()}
    strict = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    try:
        pydantic.create_model(section, __config__=strict, **fields).model_validate(dict(options))
    except pydantic.ValidationError as error:
        raise recipe_error(error, section) from error


__all__ = ["build_data", "build_network", "build_rule", "check_training", "load_network"]
