"""Names in records of version 0.1, and what they are now: the one place of the report that knows the old ones.

`training.renamed` has the same names of settings for recipes and `train`; it imports torch, which the report does not.
A test keeps both alike.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from infohebb.experiments.record import Record

CURVES = {"watched": "monitor"}
TRAINING = {"hold": "steps_per_sample", "side_by_side": "stacked"}
ROLES = {"local": ("units",), "readout": ("head",)}  # of learning rates and weight decays
THROUGH_THE_NETWORK = "Backprop", "DirectFeedbackAlignment", "FeedbackAlignment", "SignSymmetry"
SETTLING = (
    "ContrastiveSimilarityMatching",
    "CorInfoMax",
    "EquilibriumPropagation",
    "PredictiveCoding",
    "PredictiveCodingNudge",
)
ROLES_OF_RULES = {
    **{rule: {"readout": ("units", "head")} for rule in THROUGH_THE_NETWORK},
    **{rule: {"local": ("forward", "bias"), "readout": ("readout",)} for rule in SETTLING},
    "LayerwiseClassification": {"local": ("units", "rule")},
}
OPTIONS = "lr", "weight_decay"  # of an optimizer, by role
BLOCK = re.compile(r"(gram_before_|gram_after_|)block(\d+)")  # counted from 1
NUMBERED = re.compile(r"(\w+)\.(\d+)")  # the role of one layer's parameters, counted from 1


def with_new_names(record: Record) -> Record:
    """Return the record in the names of today, its `alignment` by layer; what is given, and its file, stay as they are.

    Weights are called by their layer: "layers.0.activity.linear.weight" is "layers.0", "fc.weight" is "fc".
    """
    curves = dict(record.curves)
    if is_old(record) and "study" not in record.config:
        rule = _rule_of(record)
        curves = {CURVES.get(name, name): values for name, values in curves.items()}
        _replace(curves, "objective", lambda objective: _renamed(objective, layer_of_block))
        _replace(curves, "alignment", lambda alignment: _by_measure(alignment, layer_of_block))
        _replace(curves, "learning_rate", lambda rates: _rates(rates, rule))
        new = {"config": _config(record.config, rule), "overrides": list(_settings(record.overrides, rule))}
        record = record.model_copy(update=new)
    _replace(curves, "alignment", lambda alignment: _by_measure(alignment, layer_of_weight))
    return record.model_copy(update={"curves": curves})


def is_old(record: Record) -> bool:
    """Whether version 0.1 wrote the record."""
    return record.versions.get("infohebb", "0.1.0").startswith("0.1.")


def array_name(name: str, record: Record) -> str:
    """Return today's name of an array beside the record: "gram_after_block1" is "gram_after_layers.0"."""
    return layer_of_block(name) if is_old(record) else name


def layer_of_block(name: str) -> str:
    """Return "layers.0" for "block1"; any other name as it is."""
    found = BLOCK.fullmatch(name)
    return f"{found[1]}layers.{int(found[2]) - 1}" if found else name


def layer_of_weight(name: str) -> str:
    """Return the layer that a weight of a network belongs to, in the names of units where the network is ours."""
    layer = name.removesuffix(".weight").removesuffix(".activity.linear").removesuffix(".activity.conv")
    return "readout" if layer == "readout.0" else layer


def new_roles(rule: str, role: str) -> tuple[str, ...]:
    """Return the roles that an old role of a rule has become."""
    return ROLES_OF_RULES.get(rule, {}).get(role) or ROLES.get(role, (role,))


def _replace(curves: dict[str, Any], name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if isinstance(curves.get(name), dict):
        curves[name] = change(curves[name])


def _renamed(table: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """The table by new names; as it is where two would become one."""
    renamed = {rename(name): value for name, value in table.items()}
    return renamed if len(renamed) == len(table) else dict(table)


def _by_measure(alignment: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    return {name: _renamed(table, rename) if isinstance(table, dict) else table for name, table in alignment.items()}


def _rates(rates: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """Learning rates by new roles, those of single layers counted from 0."""
    counted = [int(found[2]) for name in rates if (found := NUMBERED.fullmatch(name))]
    renamed = {}
    for name, values in rates.items():
        found = NUMBERED.fullmatch(name)
        role, ending = (found[1], f".{int(found[2]) - min(counted)}") if found else (name, "")
        renamed |= {f"{new}{ending}": values for new in new_roles(rule, role)}
    return renamed


def _rule_of(record: Record) -> str:
    rule = record.config.get("rule")
    return str(rule.get("name", "")) if isinstance(rule, dict) else ""


def _config(config: Mapping[str, Any], rule: str) -> dict[str, Any]:
    renamed = dict(config)
    _replace(renamed, "training", lambda training: _renamed(training, lambda name: TRAINING.get(name, name)))
    _replace(renamed, "optimizer", lambda optimizer: _optimizer(optimizer, rule))
    return renamed


def _optimizer(optimizer: Mapping[str, Any], rule: str) -> dict[str, Any]:
    renamed = dict(optimizer)
    for option in OPTIONS:
        _replace(renamed, option, lambda numbers: _by_role(numbers, rule))
    return renamed


def _by_role(numbers: Mapping[str, Any], rule: str) -> dict[str, Any]:
    return {new: value for role, value in numbers.items() for new in new_roles(rule, role)}


def _settings(overrides: Iterable[str], rule: str) -> Iterator[str]:
    """What `--set` takes now: one setting may have become two."""
    for setting in overrides:
        path, equals, value = setting.partition("=")
        match path.strip().split("."):
            case ["training", name] if name in TRAINING:
                yield f"training.{TRAINING[name]}{equals}{value}"
            case ["optimizer", option, role] if option in OPTIONS:
                yield from (f"optimizer.{option}.{new}{equals}{value}" for new in new_roles(rule, role))
            case _:
                yield setting
