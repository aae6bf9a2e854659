"""Promises on local errors: what they are made of, and that gradients follow from them alone."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from infohebb.functional import plasticity
from infohebb.learner import LayerRecord
from infohebb.learner.layers import channel_axis
from infohebb.rules.contract import LocalError, Shared, product_of_factors
from infohebb.testing.contract.cases import Build, Case, close, largest, submodule
from infohebb.testing.contract.certificate import depends_on_itself_only
from infohebb.testing.contract.tracing import SMALL, Trace, received_in, trace_units

CONVOLUTION_GRADIENTS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: conv1d_weight,
    nn.Conv2d: conv2d_weight,
    nn.Conv3d: conv3d_weight,
}


def units_learn_from_local_errors(build: Build) -> None:
    """Each unit that is trained has a LocalError in the record, unless `global_error` is declared."""
    case = build()
    if not _is_local(case):
        return
    trained, records = case.trained(), case.record_and_step()
    for name, record in records.items():
        learns = record.unit is not None and f"model.{name}.weight" in trained
        told = record.local is not None or record.error is None
        assert not learns or told or _called_twice(case, name), f"{record.unit} learns, but not from a LocalError"
        assert not learns or record.error is not None, f"no error reaches {name}, which is to be trained"


def error_is_third_factor_times_post(build: Build) -> None:
    """The error at each unit's activity is third factor × postsynaptic factor, entry by entry."""
    for unit, local in local_errors(build()).items():
        same = close(product_of_factors(local), local.error, float(local.error.abs().max()))
        assert same, f"{unit}: the error is not third factor × postsynaptic factor"


def shared_signals_are_declared_and_small(build: Build) -> None:
    """Each third factor has the kind that `locality.shared` declares, and that kind's size."""
    case = build()
    for unit, local in local_errors(case).items():
        third, neurons = local.third_factor, local.error[0].numel()
        if third is None:
            assert local.post.shape == local.error.shape, f"{unit}: `post` is not shaped like the activity"
            continue
        declared = case.rule.locality.shared
        assert local.shared in declared, f"{unit}: a third factor per {local.shared} is not in locality.shared"
        samples, numbers = len(local.error), third.numel() // len(third)
        assert third.shape == (samples, numbers), f"{unit}: the third factor is {tuple(third.shape)}"
        allowed = _numbers(case, local.shared, neurons)
        assert numbers in allowed, (
            f"{unit}: the third factor has {numbers} numbers per sample; for {local.shared} these are {allowed[-1]}"
            f"{' at most' if len(allowed) > 2 else ''}"
        )
        if local.shared == "groups" and numbers > 1:
            groups = _norm_groups(case, unit) or numbers
            assert numbers == groups, f"{unit}: {numbers} groups, but its divisive norm has {groups}"


def _numbers(case: Case, shared: Shared, neurons: int) -> range:
    """Return how many numbers per sample a third factor of that kind may have."""
    samples = len(case.given[1]) if case.given else 0
    if shared == "groups":
        return range(1, neurons // 2 + 1)
    if shared == "samples":  # a window's last one learns from those that are remembered
        return range(samples - (case.rule.consumes == "window"), samples + 1)
    number = neurons if shared == "neurons" else case.learner.classes or 0
    return range(number, number + 1)


def rows_are_what_layers_received(build: Build) -> None:
    """Where a rule states itself what gradients are made of, inputs are those that the layer has received, or averages.

    Each row is a weighted sum of them, with the same weights for all synapses.
    """
    case = build()
    with received_in(case) as received:
        case.step()
        records = case.learner.record(*case.batch())  # by a copy that has the same hooks
    for name, record in records.items():
        if record.output is None:
            known = received[name].flatten(1)
            made = record.input @ torch.linalg.pinv(known, rtol=SMALL) @ known
            scale = float(known.abs().max())
            assert close(made, record.input, scale), f"{name}: rows of `pre` are not what the layer has received"


def gradient_is_input_times_error(build: Build) -> None:
    """`.grad` of each Linear and convolution is its input × the error at its output, over batch and positions."""
    case = build()
    records = case.record_and_step()
    gradients = case.gradients()
    for name, record in records.items():
        if record.error is None:
            continue
        for own, expected in _weight_gradients(submodule(case, name), record).items():
            gradient = gradients.get(f"model.{name}.{own}")
            same = gradient is None or close(gradient, expected, largest(gradients))
            assert same, f"the gradient of {name}.{own} is not input × error"


def gradient_is_the_units_own_derivative(build: Build) -> None:
    """Each gradient in a unit, norms included, is the error at its activity times the unit's own derivative."""
    case = build()
    for unit, (local, trace) in _local_units(case, case.record_and_step()).items():
        gradients = case.gradients()
        part = next(part for part in case.parts() if part.name == unit)
        named = {name: p for name, p in case.learner.named_parameters() if name in part.parameters & gradients.keys()}
        error = local.error.movedim(1, trace.axis).reshape(trace.activities[0].shape)
        activity = trace.activities[0]
        derived = torch.autograd.grad(activity, list(named.values()), error, allow_unused=True, retain_graph=True)
        for name, gradient in zip(named, derived, strict=True):
            same = gradient is not None and close(gradients[name], gradient, largest(gradients))
            assert same, f"the gradient of {name} does not follow from the error at {unit}'s activity"


def gradient_is_pre_times_post_times_third_factor(build: Build) -> None:
    """Of a unit of one Linear and an elementwise activation it is the three-factor rule, entry by entry.

    Where groups share the third factor: pre × (third factor × post × slope), the paper's product.
    """
    case = build()
    records = case.record_and_step()
    for name, record in records.items():
        if record.output is None and record.local is not None:
            gradients = case.gradients()
            product = plasticity.hebbian(record.input, product_of_factors(record.local))
            gradient = gradients.get(f"model.{name}.weight")
            same = gradient is None or close(gradient, product, largest(gradients))
            assert same, f"the gradient of {name}.weight is not pre × post × third factor"
    for local, name, pre, slope in _three_factor_units(case, records):
        post = local.post * slope if local.shared == "groups" else product_of_factors(local) * slope
        if local.shared == "groups" and local.third_factor is not None:
            post = plasticity.modulate(local.third_factor, post)
        gradients = case.gradients()
        gradient = gradients.get(f"model.{name}.weight")
        same = gradient is None or close(gradient, plasticity.hebbian(pre, post), largest(gradients))
        assert same, f"the gradient of {name}.weight is not pre × post × third factor"


def local_errors(case: Case) -> dict[str, LocalError]:
    """Return the LocalError of each unit that was called once, by the unit's name, for a step after a first one."""
    records = case.record_and_step().values()
    return {record.unit: record.local for record in records if record.unit and record.local}


def _is_local(case: Case) -> bool:
    return case.rule.trains_units and not case.rule.locality.global_error


def _called_twice(case: Case, layer: str) -> bool:
    return any(len(trace.outputs.get(layer, ())) > 1 for trace in trace_units(case).values())


def _norm_groups(case: Case, unit: str) -> int | None:
    norms = {each.name: each.divisive_norm for each in case.learner.units}
    return getattr(norms[unit], "groups", None)


def _local_units(case: Case, records: Mapping[str, LayerRecord]) -> dict[str, tuple[LocalError, Trace]]:
    """Return the error and the trace of units that were called once, and whose rule states the error at an activity."""
    at_activities = [record for record in records.values() if record.output is not None]
    errors = {record.unit: record.local for record in at_activities if record.unit and record.local}
    traces = trace_units(case)
    return {unit: (local, traces[unit]) for unit, local in errors.items() if len(traces[unit].activities) == 1}


def _three_factor_units(
    case: Case, records: Mapping[str, LayerRecord]
) -> Iterator[tuple[LocalError, str, Tensor, Tensor]]:
    """Yield error, layer, input and slope of the activation for units of one Linear that act on vectors."""
    for local, trace in _local_units(case, records).values():
        only, z = trace.only_layer(), trace.activities[0]
        if only is None or not isinstance(submodule(case, only[0]), nn.Linear) or z.dim() != 2:
            continue
        name, pre, h = only
        if all(depends_on_itself_only(z, h, axis, axis) for axis in (0, 1)):
            (slope,) = torch.autograd.grad(z, h, torch.ones_like(z), retain_graph=True)
            yield local, name, pre, slope


def _weight_gradients(module: nn.Module, record: LayerRecord) -> dict[str, Tensor]:
    """Return input × error of a layer's weight and bias; nothing for kinds of layers that are not listed."""
    x, error = record.input, record.error
    assert error is not None
    axis = channel_axis([module], error)
    bias = error.movedim(axis, -1).flatten(0, -2).sum(0) * record.bias
    if isinstance(module, nn.Linear):
        return {"weight": error.flatten(0, -2).T @ x.flatten(0, -2), "bias": bias}
    gradient = CONVOLUTION_GRADIENTS.get(type(module))
    assert isinstance(module, nn.modules.conv._ConvNd)
    if gradient is None or isinstance(module.padding, str) or module.padding_mode != "zeros":
        return {}
    geometry = (module.stride, module.padding, module.dilation, module.groups)
    return {"weight": gradient(x, module.weight.shape, error, *geometry), "bias": bias}


PROMISES = (
    units_learn_from_local_errors,
    error_is_third_factor_times_post,
    shared_signals_are_declared_and_small,
    rows_are_what_layers_received,
    gradient_is_input_times_error,
    gradient_is_the_units_own_derivative,
    gradient_is_pre_times_post_times_third_factor,
)
