"""Parameter groups by role, for any torch optimizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import MismatchError, UnknownNameError, is_number, unknown_name
from infohebb.learner.bounds import trainable
from infohebb.learner.plan import Plan
from infohebb.learner.selection import as_expression

Value = float | Mapping[str, Any] | Sequence[float | Mapping[str, Any]]
Named = dict[str, Parameter]


def roles_of(plan: Plan) -> dict[str, list[Named]]:
    """Return what the rule trains, by role and layer: parameters by their name in model or rule, frozen ones left out.

    For a rule that needs no units, what lies outside of them and the head is one more layer.
    """
    model, rule = plan.model, plan.rule
    own = {f"rule.{name}": parameter for name, parameter in rule.named_parameters() if parameter.requires_grad}
    special = rule.roles(model)
    if special is not None:
        return {**{role: [dict(layer) for layer in layers] for role, layers in special.items()}, "rule": [own]}
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def named(parameters: Sequence[Parameter]) -> Named:
        return {names[id(parameter)]: parameter for parameter in parameters}

    head = named(trainable(model, plan.selection.head))
    units = [named(bounds.parameters(model)) for bounds in plan.selection.units]
    if not rule.needs_units:  # then some parameters may lie outside of units
        inside = {id(parameter) for layer in [*units, head] for parameter in layer.values()}
        rest = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in inside}
        units += [rest] if rest else []
    return {"units": units if rule.trains_units else [], "head": [head], "rule": [own]}


def make_param_groups(plan: Plan, values: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Return groups with "params", "role" and the settings asked for.  Raises MismatchError, UnknownNameError."""
    roles = roles_of(plan)
    patterns = {key: value for key, value in values.items() if key not in roles}
    everything = {name: p for layers in roles.values() for layer in layers for name, p in layer.items()}
    special = _special(patterns, everything, [*roles])
    groups = []
    for role, layers in roles.items():
        for label, layer, settings in _by_layer(role, layers, values.get(role)):
            rest = [parameter for name, parameter in layer.items() if name not in special]
            if rest:
                groups.append({"params": rest, "role": label, **settings})
            for pattern in patterns:
                chosen = [parameter for name, parameter in layer.items() if special.get(name) == pattern]
                if chosen:
                    own = _settings(pattern, patterns[pattern])
                    groups.append({"params": chosen, "role": f"{label} {pattern}", **settings, **own})
    if not groups:
        raise MismatchError(f"{type(plan.rule).__name__} finds nothing to train: all is frozen; use requires_grad_()")
    return groups


def _special(
    patterns: Mapping[str, Value], everything: Mapping[str, Parameter], roles: Sequence[str]
) -> dict[str, str]:
    """Return the pattern that each parameter falls under: the last one that fits it."""
    special: dict[str, str] = {}
    for pattern in patterns:
        expression = as_expression(pattern)
        prefix = as_expression(f"{pattern}.**")
        fitting = [name for name in everything if expression.fullmatch(name) or prefix.fullmatch(name)]
        if not fitting:
            raise _unknown(pattern, everything, roles)
        special |= dict.fromkeys(fitting, pattern)
    return special


def _unknown(pattern: str, everything: Mapping[str, Parameter], roles: Sequence[str]) -> UnknownNameError:
    """Return the error for what is neither a role nor a parameter: the nearest name, or else the roles."""
    error = unknown_name("role or parameter", pattern, [*roles, *everything])
    if "did you mean" in str(error):
        return error
    return UnknownNameError(
        f"unknown role or parameter {pattern!r}; roles are {', '.join(roles[:-1])} and {roles[-1]}; else give "
        f"a name or pattern of parameters, such as {next(iter(everything))}"
    )


def _by_layer(role: str, layers: Sequence[Named], value: Value | None) -> list[tuple[str, Named, dict[str, Any]]]:
    """Return (label, parameters, settings): one for the role or, for a list of values, one per layer."""
    if isinstance(value, (list, tuple)):
        if len(value) != len(layers):
            what = "units" if role == "units" else "layers"
            raise MismatchError(
                f"{role}: {len(value)} values for {len(layers)} {what}; give one for each, or one number"
            )
        each = zip(layers, value, strict=True)
        return [(f"{role}.{place}", layer, _settings(role, one)) for place, (layer, one) in enumerate(each)]
    together = {name: parameter for layer in layers for name, parameter in layer.items()}
    return [(role, together, {} if value is None else _settings(role, value))]


def _settings(place: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        if bad := {"params", "role"} & value.keys():
            raise MismatchError(f"{place}: {sorted(bad)[0]!r} is set by param_groups itself; leave it out")
        for name in ("lr", "weight_decay"):
            number = value.get(name, 0.0)
            if not isinstance(number, Tensor) and (not is_number(number) or number < 0):
                raise MismatchError(f"{place}: {name}={number!r}; give a number of at least 0")
        return dict(value)
    if not is_number(value) or value < 0:
        raise MismatchError(f"{place}={value!r}: give a learning rate of at least 0, or a dictionary of settings")
    return {"lr": float(value)}
