"""The promise that neurons of a unit learn of each other through declared signals only."""

import torch
from torch import Tensor

from infohebb.rules.contract import LocalError, product_of_factors
from infohebb.testing.contract.cases import Build, close, splits
from infohebb.testing.contract.probing import Probe, probe_units, with_third_factor_of


def neurons_do_not_mix(build: Build) -> None:
    """With the third factor held fixed, other activities of some neurons change the error of no others.

    Now, or in the step before. A neuron is a channel with all its positions. Neurons of one group may know each other
    where the third factor is a number per group, of two groups or more: they are what divisive norm divides by.
    """
    case = build()
    if case.rule.trains_units and not case.rule.locality.global_error:
        probe_units(case, lambda probe: _check(probe, layer_mean=case.rule.locality.layer_mean))


def _check(probe: Probe, *, layer_mean: bool) -> None:
    before = _changed(probe.z, torch.ones_like(probe.z[0], dtype=torch.bool).flatten(), layer_mean=layer_mean)
    reference = probe.error(before, probe.z)
    if reference is None:
        return
    scale, name = float(reference.error.abs().max()), probe.unit.name
    labels = neuron_labels(reference, probe.z)
    for chosen in splits(labels):
        earlier, now = (_changed(each, chosen, layer_mean=layer_mean) for each in (before, probe.z))
        for history in ((earlier, now), (earlier, probe.z)):
            found = probe.error(*history)
            assert found is not None, f"{name}: has an error for some activities only"
            assert close(product_of_factors(found), found.error, float(found.error.abs().max())), (
                f"{name}: the error is not third factor × postsynaptic factor"
            )
            one, other = (each.reshape(len(each), -1)[:, ~chosen] for each in _products(reference, found))
            assert close(other, one, scale), f"{name}: the error of a neuron depends on other neurons' activity"


def neuron_labels(local: LocalError, z: Tensor) -> Tensor:
    """Return a number for each entry of a sample: that of its group, or else of its channel."""
    entries = z[0].numel()
    third, count = local.third_factor, z.shape[1]
    if local.shared == "groups" and third is not None and third.shape[1] > 1:
        count = third.shape[1]
    return torch.arange(entries) // (entries // count)


def _products(reference: LocalError, found: LocalError) -> tuple[Tensor, Tensor]:
    return reference.error, with_third_factor_of(reference, found)


def _changed(z: Tensor, chosen: Tensor, *, layer_mean: bool) -> Tensor:
    """Return z with other numbers at the chosen entries; the mean over the unit stays where neurons may know it."""
    noise = torch.randn(len(z), int(chosen.sum()), dtype=z.dtype, generator=torch.Generator().manual_seed(0))
    noise = noise - noise.mean(1, keepdim=True) if layer_mean else noise
    changed = z.flatten(1).clone()
    changed[:, chosen] += noise.to(z.device)
    return changed.view(z.shape)


PROMISES = (neurons_do_not_mix,)
