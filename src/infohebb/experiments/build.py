"""The one place where a name becomes an object, and where a recipe's words are checked against constructors."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pydantic
import torch
from torch import nn

from infohebb import rules
from infohebb.data import DataSet, check_preparation, from_npz, load
from infohebb.errors import (
    CheckpointError,
    CorruptFileError,
    RecipeError,
    UnknownKeyError,
    UsageError,
    naming,
    unknown_name,
)
from infohebb.experiments.recipe import recipe_error
from infohebb.experiments.studies import STUDIES, Findings
from infohebb.learner import Learner
from infohebb.networks import CorInfoMaxNetwork, EquilibriumNetwork, PredictiveCodingNetwork, Settling
from infohebb.networks.plain import MLP, ConvNet, DivisiveNorm, LeakyMLP, stack_networks
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.rules.contract import LearningRule, Loss
from infohebb.training.checkpoint import is_of_fit, load_weights, read_config
from infohebb.training.diagnose import Diagnose
from infohebb.training.loop import train
from infohebb.training.optimizers import check_options, make_optimizer, optimizer_class
from infohebb.training.plain import named_optimizer
from infohebb.training.renamed import RATES, one_spelling, rename_config
from infohebb.training.sampling import batch_size
from infohebb.training.seeding import seeded

Network = LayeredNetwork | Settling
NETWORKS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "convnet": ConvNet,
    "leaky_mlp": LeakyMLP,
    "corinfomax": CorInfoMaxNetwork,
    "equilibrium": EquilibriumNetwork,
    "predictive_coding": PredictiveCodingNetwork,
}
SHAPES = {
    **dict.fromkeys(("cifar10", "cifar100"), (3, 32, 32)),
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), (1, 28, 28)),
}
TRAINING = ("epochs", "batch", "milestones", "factor", "precision", "channels_last", "compiled", "cuda_graphs")
TRAINING += ("powers", "factor_every", "order", "steps_per_sample", "order_seed", "epoch_samples", "stacked")
PREPARATION = ("mean", "std", "augment")
OPTIMIZER = ("name", "lr", "weight_decay")
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)  # not nn.Module's *args, **kwargs
CIRCUMSTANCES = ("seed", "validate", "device", "data_dir")  # what a study is given beside its settings


def build_data(config: Mapping[str, Any], data_dir: Path | None = None, *, validate: bool = False) -> DataSet:
    """The data set of a recipe; with `validate`, the files of its test set are not read.

    Raises UnknownNameError, UnknownKeyError, WrongTypeError, MismatchError, MissingDataError, CorruptFileError.
    """
    options = config["data"]
    _check_data(options)
    if "path" in options:
        return from_npz(options["path"], test=not validate)
    return load(options.get("name", "digits"), data_dir, test=not validate, **_prepared(options))


def _check_data(options: Mapping[str, Any]) -> None:
    check_arguments("data", _data_words, options)
    if "path" in options and "name" in options:
        raise RecipeError(f"data: name {options['name']!r} and path {options['path']!r} exclude each other; give one")
    prepared = _prepared(options)
    if "path" in options and prepared:
        raise RecipeError(f"data: your own arrays are taken as they are; leave out {next(iter(prepared))}")
    if "path" not in options:
        with naming("data"):
            check_preparation(options.get("name", "digits"), **prepared)


def _prepared(options: Mapping[str, Any]) -> dict[str, Any]:
    return {word: options[word] for word in PREPARATION if word in options}


def _data_words(
    name: str = "digits",
    path: str | None = None,
    md5: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = True,
) -> None:
    """What a recipe's data section may say; `md5` is that of the user's own arrays when they were read."""


def build_network(config: Mapping[str, Any], inputs: Sequence[int], outputs: int) -> Network:
    """The network of a recipe for samples of that shape.  Raises UnknownNameError, RecipeError, GroupingError."""
    return _call("network", *_network(config, inputs, outputs))


def _network(config: Mapping[str, Any], inputs: Sequence[int], outputs: int) -> tuple[type[nn.Module], dict[str, Any]]:
    options = {"inputs": list(inputs), "outputs": outputs, **config["network"]}
    make = _named("network", options, NETWORKS, "mlp")
    norm = options.get("divisive_norm")
    if isinstance(norm, Mapping):
        check_arguments("network.divisive_norm", DivisiveNorm, norm)
    check_arguments("network", make, options)
    return make, options


def build_rule(config: Mapping[str, Any]) -> LearningRule:
    """The rule of a recipe.  Raises UnknownNameError, RecipeError."""
    return _call("rule", *_rule(config))


def _rule(config: Mapping[str, Any]) -> tuple[type[LearningRule], dict[str, Any]]:
    options = dict(config["rule"])
    make = _named("rule", options, rules.registry(), "KernelizedBottleneck")
    check_arguments("rule", make, options)
    return make, options


def build_diagnosis(config: Mapping[str, Any], every: int) -> Diagnose:
    """What a recipe's rule is held against: backprop of the loss that its readout lowers.  Raises WrongTypeError."""
    loss = config["rule"].get("loss")
    return Diagnose(rules.Backprop(loss if loss in get_args(Loss) else None), every)


def study_of(config: Mapping[str, Any]) -> tuple[Callable[..., Findings], dict[str, Any]]:
    """The study of a row, and its settings.  Raises UnknownNameError, UnknownKeyError, WrongTypeError."""
    options = dict(config["study"])
    study = _named("study", options, STUDIES, "")
    words = [name for name in inspect.signature(study).parameters if name not in CIRCUMSTANCES]
    check_arguments("study", study, options, only=words)
    return study, options


def check_config(config: Mapping[str, Any]) -> None:
    """Raise a UsageError for words that nothing would read, and for a rule that cannot train the network."""
    if "study" in config:
        study_of(config)
        return
    _check_data(config["data"])
    make, _ = _network(config, [1], 2)
    _rule(config)
    given = dict(config["training"])
    stacked = given.pop("stacked", False)
    check_arguments("training", train, given, only=TRAINING)
    check_arguments("training", _stacking, {"stacked": stacked})
    training = _training(config)
    with naming("training"):
        batch_size(build_rule(config), training["batch"], training["steps_per_sample"], loader=False)
    if stacked and training["order_seed"] is None:
        raise RecipeError("stacked networks share the order of their samples: give training.order_seed")
    optimizer = {"name": "sgd", **config["optimizer"]}
    named = {key: optimizer.pop(key) for key in OPTIMIZER if key in optimizer}
    check_arguments("optimizer", make_optimizer, named, only=OPTIMIZER)
    check_options(optimizer_class(named.pop("name")), optimizer)
    shape = SHAPES.get(config["data"].get("name", "")) or ([1] if make is MLP else None)
    if shape is not None:  # else it is known when the data are read
        _check_fit(config, shape)


def _stacking(stacked: bool = False) -> None:
    """What a recipe's training section may say beside the arguments of `train`."""


def _stacked(network: Network) -> Network:
    if isinstance(network, Settling):
        raise RecipeError(f"training.stacked: a {type(network).__name__} is trained one at a time; leave it out")
    return stack_networks([network])


def _check_fit(config: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Hold a rule, and the rates of its roles, against a network of shapes without numbers."""
    with torch.device("meta"):
        network = build_network(config, shape, 2)
    network = _stacked(network) if config["training"].get("stacked") else network
    with seeded(0):  # what the rule draws
        learner = Learner(network, build_rule(config))
    named_optimizer(learner, **{"name": "sgd", **config["optimizer"]})


def renamed(config: Mapping[str, Any], *, tell: bool = False) -> dict[str, Any]:
    """Return the sections of a recipe or a record by the names of now; with `tell` old names get a warning.

    A rule that does not exist leaves them as they are, for `check_config` to name. Raises WrongTypeError where an old
    name and its new one are both there.
    """
    rule = rule_named_in(config)
    return dict(config) if rule is None else rename_config(config, rule, tell=tell)


def rule_named_in(config: Mapping[str, Any]) -> LearningRule | None:
    """Return a rule of the class that sections name, with its defaults; None for a study or an unknown name."""
    rule = rules.registry().get(str(config.get("rule", {}).get("name", "KernelizedBottleneck")))
    return None if rule is None or not issubclass(rule, LearningRule) or "study" in config else rule()


def comparable(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe or a record, of any version, such that those of the same training are equal."""
    found, rule = resolved(renamed(config)), rule_named_in(config)
    if rule is not None:
        rates = {
            option: one_spelling(rule, found["optimizer"][option]) for option in RATES if option in found["optimizer"]
        }
        found["optimizer"] |= rates
    return found


def resolved(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The five sections with every default written out, so that a record keeps its meaning when a default changes.

    Of a study its one section.
    """
    if "study" in config:
        study = STUDIES.get(config["study"].get("name", ""))
        defaults = {} if study is None else _defaults(study, config["study"], CIRCUMSTANCES)
        return {"study": {**defaults, **config["study"]}}
    optimizer = {"name": "sgd", **config["optimizer"]}
    network = _defaults(NETWORKS[config["network"].get("name", "mlp")], config["network"], ("inputs", "outputs"))
    rule = rules.registry()[config["rule"].get("name", "KernelizedBottleneck")]
    return {
        "data": {**({} if "path" in config["data"] else {"name": "digits"}), **config["data"]},
        "network": {"name": "mlp", **network, **config["network"]},
        "rule": {"name": "KernelizedBottleneck", **_defaults(rule, config["rule"]), **config["rule"]},
        "optimizer": optimizer,
        "training": _training(config),
    }


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """The training section with every default written out."""
    defaults = {key: value for key, value in _defaults(train, {}).items() if key in TRAINING}
    return {**defaults, "stacked": False, **config["training"]}


def _defaults(make: Callable[..., Any], given: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    parameters = {name: p for name, p in inspect.signature(make).parameters.items() if p.kind in NAMED}
    left = {name: p.default for name, p in parameters.items() if name not in (*without, *given)}
    return {name: _plain(default) for name, default in left.items() if default is not inspect.Parameter.empty}


def _plain(value: Any) -> Any:
    """As JSON would give it back."""
    return list(value) if isinstance(value, tuple) else value


def load_network(checkpoint: str | Path, network: nn.Module | None = None) -> nn.Module:
    """Return the network of a checkpoint that `infohebb run` wrote, with its weights, on the CPU and in eval mode.

    A checkpoint of `infohebb.train` or `fit` does not know how its network was built: give one like it to load the
    weights into, whose mode stays. Checkpoints of version 0.1 are loaded into the networks of now.
    Raises MissingDataError, CorruptFileError, CheckpointError.
    """
    folder = Path(checkpoint)
    config = read_config(folder)
    if network is None:
        if "shapes" not in config and ("settings" in config or is_of_fit(folder)):
            raise CheckpointError(
                f"{folder} is of infohebb.train or fit: give load_network a network like the one trained, too"
            )
        try:
            network = build_network(config, config["shapes"]["inputs"], config["shapes"]["outputs"]).eval()
        except (KeyError, TypeError) as error:
            raise CorruptFileError(f"the config of {folder} does not say which network it holds") from error
    load_weights(folder, network)
    settings = config.get("training") or config.get("settings") or {}
    if isinstance(network, Settling):
        network.precision = settings.get("precision", "fp32")
    return network


def _named(section: str, options: dict[str, Any], known: Mapping[str, Any], default: str) -> Any:
    name = options.pop("name", default)
    if name not in known:
        raise unknown_name(section, name, known)
    return known[name]


def _call(section: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
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
    parameters = {name: p for name, p in parameters.items() if p.kind in NAMED}
    for key in options:
        if key not in parameters:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(parameters) or 'none'}"
            raise UnknownKeyError(f"unknown key {section}.{key}; {hint}")
    fields: dict[str, Any] = {
        name: (p.annotation, ... if p.default is p.empty else p.default) for name, p in parameters.items()
    }
    strict = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    try:
        pydantic.create_model(section, __config__=strict, **fields).model_validate(dict(options))
    except pydantic.ValidationError as error:
        raise recipe_error(error, section) from error


__all__ = ["build_data", "build_diagnosis", "build_network", "build_rule", "check_config", "load_network", "resolved"]
