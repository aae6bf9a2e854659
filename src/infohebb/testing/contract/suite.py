"""The contract suite of rules that a Learner drives, and the locality certificate of a learner."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from infohebb.errors import GroupingError, MismatchError, unknown_name
from infohebb.learner import Learner
from infohebb.testing.checks import Check, check_promise, raised
from infohebb.testing.contract import basic_contract, downstream, factors, neurons, settling
from infohebb.testing.contract.cases import Make, build_case, build_copy
from infohebb.testing.contract.certificate import Level, levels_of
from infohebb.testing.contract.networks import leaky_networks, networks_for

PROMISES = (*basic_contract.PROMISES, *factors.PROMISES, *neurons.PROMISES, *downstream.PROMISES)
ON_OWN_NETWORKS = (*basic_contract.PROMISES, *settling.PROMISES)
WITH_DROPOUT = (
    basic_contract.fills_gradients,
    basic_contract.keeps_no_graph,
    basic_contract.same_seed_same_gradient,
    basic_contract.loss_gives_the_same_gradients,
    factors.gradient_is_the_units_own_derivative,
)


def check_with_learner(make: Make, networks: Sequence[str] | None = None) -> Iterator[Check]:
    """Yield a check for each promise of a rule on each network; `networks` names some of them, None all.

    A rule with an `own_network` is checked on networks of that type, which settle. A LeakyMLP is among the networks if
    the rule names "potential" in `updated_buffers`.
    """
    rule, accepted = make(), 0
    examples, kept = networks_for(rule), PROMISES if rule.own_network is None else ON_OWN_NETWORKS
    examples |= leaky_networks(rule)
    for name in examples if networks is None else networks:
        if name not in examples:
            raise unknown_name("network of the contract suite", name, examples)
        place, build = f"learner: {name}", partial(build_case, make, examples[name])
        try:
            build()
        except (MismatchError, GroupingError) as error:
            yield Check(f"refused: {error}", place)
            continue
        except Exception as error:  # noqa: BLE001  (whatever a user's rule raises is a broken promise)
            yield Check("sets up for the network", place, raised(error))
            continue
        accepted += 1
        for promise in WITH_DROPOUT if name == "MLP, dropout" else kept:
            yield check_promise(promise, build, place)
    yield Check("trains some network", "learner", None if accepted else "setup refuses every example")
    if accepted:
        yield check_promise(basic_contract.learns_blobs, make, "learner: blobs")


def certify(learner: Learner, inputs: Any, targets: Tensor) -> dict[str, Level]:
    """Return how local each unit's weight changes are, by the unit's name.

    Level, and what a unit's weight changes are made of besides inputs of the unit and the signals that the rule
    declares as shared:

    "synapse": the weight's own input, and the preactivation, activity and postsynaptic factor of its own neuron. The
        unit has one weight layer, and each activity depends on the preactivation of one neuron. A neuron is a channel
        with all its positions and samples: batch norm over the batch and max pooling belong here.
    "normalisation group": also those of other neurons of the same layer that a norm inside the unit divides by (layer
        norm, group norm, divisive norm), or that a gate multiplies.
    "unit": also weights, activities and errors of other layers inside the unit, as in a residual block. Units without
        a Linear or convolution, and units that are called several times, are not probed and have this level.

    The rule is checked on the way: errors are third factor × postsynaptic factor, neurons do not mix, and gradients
    follow from these errors alone. Probed at this batch, on a copy in float64; the learner is left as it is.
    Raises MismatchError for a rule that declares `global_error` or trains networks of its own, AssertionError for one
    that breaks a promise.
    """
    if learner.rule.own_network is not None:
        name = type(learner.rule).__name__
        raise MismatchError(
            f"{name} trains a network as a whole, which has no units to certify; use check_rule({name})"
        )
    if learner.rule.locality.global_error:
        name = type(learner.rule).__name__
        raise MismatchError(f"{name} declares global_error: its errors come from downstream, so no unit is local")
    build = partial(build_copy, learner, inputs, targets)
    for promise in (*factors.PROMISES, *neurons.PROMISES):
        promise(build)
    return levels_of(build())
