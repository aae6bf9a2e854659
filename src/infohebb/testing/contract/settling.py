"""Promises on networks that settle, where each neuron's state depends on all others: what can be told apart there."""

import torch
from torch import Tensor, nn

from infohebb.learner import LayerRecord
from infohebb.networks import CorInfoMaxNetwork
from infohebb.testing.contract.cases import SAMPLES, Build, Case, close, largest, submodule
from infohebb.training.seeding import seeded


def gradient_is_pre_times_error(build: Build) -> None:
    """Each gradient is the input of its weight layer × the error at its output, as recorded, over all phases.

    Entry (i, j) then depends on presynaptic neuron j and postsynaptic neuron i alone.
    """
    case = build()
    records, explained = case.record_and_step(), {}
    for name, record in records.items():
        explained |= {f"model.{name}.{own}": value for own, value in _products(submodule(case, name), record).items()}
    gradients = case.gradients()
    for name, gradient in gradients.items():
        assert name in explained, f"no recorded input and error explain the gradient of {name}"
        same = close(gradient, explained[name], largest(gradients))
        assert same, f"the gradient of {name} is not input × error"


def first_layer_receives_the_input(build: Build) -> None:
    """Synapses that end on the first layer, and not laterally or from above, have the samples for their input."""
    case = build()
    x = case.inputs.flatten(1)
    for name, record in _recorded(case).items():
        if not name.startswith("layers.0") or record.input.shape[1] != x.shape[1]:
            continue
        for phase in record.input.split(len(x)):
            assert close(phase, x, largest({"x": x})), f"{name}: the recorded input is not what the layer received"


def weights_elsewhere_do_not_matter(build: Build) -> None:
    """The weights by which others read a neuron that is silent matter to no other synapse.

    Held on networks whose synapses are apart by direction, and for rules that do not declare `weight_transport`.
    """
    case = build()
    if case.rule.locality.weight_transport or not isinstance(case.learner.model, CorInfoMaxNetwork):
        return
    before, after = (_with_a_silent_neuron(build(), read_otherwise=otherwise) for otherwise in (False, True))
    for name, record in before.items():
        one, other = ({"input": each.input, "error": each.error} for each in (record, after[name]))
        for part, signal in one.items():
            same = close(other[part], signal, largest(one))
            assert same, f"{name}: the {part} of a synapse depends on weights that are not its neuron's own"


def prediction_changes_nothing(build: Build) -> None:
    """A prediction leaves all state alone, takes any batch size, and does not depend on train() or eval()."""
    case = build()
    model = case.learner.model
    before = {name: value.clone() for name, value in case.learner.state_dict().items()}
    predictions = []
    for mode in (True, False):
        model.train(mode)
        with seeded(0):
            predictions.append(case.learner.logits(case.inputs))
    assert torch.equal(*predictions), "train() and eval() predict differently"
    one_by_one = torch.cat([case.learner.logits(case.inputs[i : i + 1]) for i in range(SAMPLES)])
    same = torch.allclose(one_by_one, predictions[0], rtol=1e-9, atol=1e-9)
    assert same, "samples predict differently alone and together"
    for name, value in case.learner.state_dict().items():
        assert torch.equal(value, before[name]), f"predicting changes {name}"


def _products(module: nn.Module, record: LayerRecord) -> dict[str, Tensor]:
    """Return input × error for each weight of a layer, and the sum of errors for its bias."""
    if record.error is None:
        return {}
    gradient, bias = record.error.T @ record.input, record.error.sum(0)
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return {name: bias if name == "bias" else gradient for name in names}


def _recorded(case: Case) -> dict[str, LayerRecord]:
    """Return the records of layers that learn."""
    with seeded(1):
        records = case.learner.record(case.inputs, case.targets)
    return {name: record for name, record in records.items() if record.error is not None}


def _with_a_silent_neuron(case: Case, *, read_otherwise: bool) -> dict[str, LayerRecord]:
    """Return records where the first hidden neuron receives nothing; `read_otherwise` by those that listen to it."""
    network = case.learner.model
    assert isinstance(network, CorInfoMaxNetwork)
    layers = list(network.compartmental())
    if len(layers) < 2 or layers[0].feedback is None:
        return {}
    with torch.no_grad():
        layers[0].feedforward.weight[0] = 0
        layers[0].feedback.weight[0] = 0
        layers[0].inverse_correlation[0] = 0
        layers[0].inverse_correlation[:, 0] = 0
        if read_otherwise:
            layers[1].feedforward.weight[:, 0] += 1
    return _recorded(case)


PROMISES = (
    gradient_is_pre_times_error,
    first_layer_receives_the_input,
    weights_elsewhere_do_not_matter,
    prediction_changes_nothing,
)
