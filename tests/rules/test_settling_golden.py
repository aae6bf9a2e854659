"""The correlative-information paper's comparison methods: the reference code's own numbers, batch by batch."""

import numpy as np
import pytest
import torch

from functional.oracles import GOLDEN
from infohebb.functional import energy, predictive
from infohebb.networks import EquilibriumNetwork, PredictiveCodingNetwork
from infohebb.rules import (
    ContrastiveSimilarityMatching,
    EquilibriumPropagation,
    PredictiveCoding,
    PredictiveCodingNudge,
)
from rules.settling_paths import both_paths

CASES = GOLDEN.parent / "cim"
KNOWN = {"ep": ["ep_2layer"], "csm": ["csm_2layer"], "pc": ["pc_3layer_adam"], "pcnudge": ["pcnudge_3layer"]}


def files(kind):
    """Golden cases of a method: those known, and any more that lie here."""
    return sorted({*KNOWN[kind], *(path.stem for path in CASES.glob(f"{kind}_*.npz"))})


def golden(name):
    if not GOLDEN.parents[1].is_dir():
        pytest.skip(f"the golden cases are not on this machine: no folder {GOLDEN.parents[1]}")
    with np.load(CASES / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) if file[key].dtype.kind in "if" else str(file[key]) for key in file}


def close(got, expected, tolerance, what):
    torch.testing.assert_close(
        got.reshape(expected.shape), expected, rtol=0, atol=tolerance, msg=lambda text: f"{what}: {text}"
    )


def parameters(network):
    """Parameters by the names of the golden files."""
    named = {f"W_{k}": layer.weight for k, layer in enumerate(network.layers)}
    named |= {f"b_{k}": layer.bias for k, layer in enumerate(network.layers)}
    return named | {f"M_{k}": layer.weight for k, layer in enumerate(getattr(network, "laterals", ()))}


def load(network, case):
    for name, parameter in parameters(network).items():
        parameter.data.copy_(case[f"init_{name}"].reshape(parameter.shape))


def compare(network, case, when, tolerance):
    for name, parameter in parameters(network).items():
        close(parameter.detach(), case[f"{when}_{name}"], tolerance, f"{name} {when}")


def rounded_pull(field, state, wanted, nudge):
    """The reference's loss is float32: so is what its gradient is made of."""
    field.sub_(2 * nudge * (state.float() - wanted.float()).double())


@both_paths
@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("file", files("ep") + files("csm"))
def test_nudged_networks_settle_and_learn_as_in_the_reference_code(file, rounding, path, monkeypatch):
    case, tolerance = golden(file), 1e-12 if rounding else 1e-6
    if rounding:
        monkeypatch.setattr(energy, "pull", rounded_pull)
    inputs, *widths, outputs = case["arch"].tolist()
    lateral, steps = file.startswith("csm"), (int(case["T_free"]), int(case["T_nudged"]))
    network = EquilibriumNetwork(inputs, outputs, widths, lateral, float(case["neural_lr"]), steps[0]).double()
    load(network, case)
    kind = ContrastiveSimilarityMatching if lateral else EquilibriumPropagation
    rule = kind(random_sign=False, nudged_steps=steps[1])
    rates = {"forward": case["alphas_W"], "bias": case["alphas_W"], "lateral": -case["alphas_M"]}
    for batch, (x, labels, beta) in enumerate(zip(case["X"], case["Y"], case["betas"].tolist(), strict=True)):
        rule.nudge = beta
        driven = path(network, rule)
        drive = network.drive(x)
        free = network.settle(drive)
        wanted = torch.eye(outputs, dtype=x.dtype)[labels]
        nudged = network.settle(drive, free, steps[1], wanted, beta)
        for k in range(len(network.layers)):
            close(free[k], case[f"s_free_{k}"][batch], 1e-12 if batch == 0 else tolerance, f"free {k}, batch {batch}")
            close(nudged[k], case[f"s_nudged_{k}"][batch], tolerance, f"nudged {k}, batch {batch}")
        seen = driven.learn(x, labels)
        assert torch.equal(seen.correct, free[-1].argmax(1) == labels)
        with torch.no_grad():
            for group, listed in driven.groups().items():
                for rate, parameter in zip(rates[group].tolist(), listed, strict=True):
                    parameter -= rate * parameter.grad
                    parameter *= 1 - rate / (2 * abs(beta)) if group == "lateral" else 1
        if batch in (0, 9):
            compare(network, case, f"after{batch + 1}", tolerance)


def predictive_network(case, nonlinearity):
    inputs, *widths, outputs = case["arch"].tolist()
    network = PredictiveCodingNetwork(inputs, outputs, widths, nonlinearity).double()
    load(network, case)
    return network


def note_settled(monkeypatch, name):
    """What the rule's network settles to, batch by batch."""
    noted, settle = [], getattr(predictive, name)

    def noting(*arguments):
        noted.append(settle(*arguments))
        return noted[-1]

    monkeypatch.setattr(predictive, name, noting)
    return noted


def compare_values(noted, case, batch, tolerance):
    for k, values in enumerate(noted[-1].values):
        close(values.T, case[f"z_{k}"][batch], tolerance, f"z_{k}, batch {batch}")


class PublishedAdam:
    """Epsilon is added to √v before the bias correction, which is a factor of the rate."""

    def __init__(self, parameters, rate):
        self.parameters, self.rate, self.steps = list(parameters), rate, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def step(self):
        self.steps += 1
        rate = self.rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
        for parameter, (m, v) in zip(self.parameters, self.moments, strict=True):
            m.lerp_(parameter.grad, 0.1)
            v.lerp_(parameter.grad.square(), 0.001)
            parameter.data -= rate * m / (v.sqrt() + 1e-8)


@both_paths
@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("file", files("pc"))
def test_clamped_predictive_coding_is_that_of_the_reference_code(file, rounding, path, monkeypatch):
    case, tolerance = golden(file), 1e-12 if rounding else 1e-6
    network = predictive_network(case, "sigmoid")
    rule, noted = (
        PredictiveCoding(float(case["neural_lr"]), int(case["T"])),
        note_settled(monkeypatch, "settle_clamped"),
    )
    driven = path(network, rule)
    kind = {"adam": PublishedAdam, "sgd": torch.optim.SGD}[case["optimizer"].lower()]
    optimizer = kind(network.parameters(), float(case["lr"]))
    for batch, (x, labels) in enumerate(zip(case["X"].mT.contiguous(), case["Y"], strict=True)):
        rounded = (0.94 * torch.eye(network.outputs, dtype=x.dtype)[labels] + 0.03).float().double()
        driven.learn(x, rounded if rounding else labels)
        optimizer.step()
        compare_values(noted, case, batch, tolerance)
        energy_after = network.energy(x, noted[-1].values).mean()
        close(-energy_after, case["neg_energy_mean"][batch], tolerance, f"energy, batch {batch}")
        if batch in (0, 9):
            compare(network, case, f"after{batch + 1}", tolerance)


@both_paths
@pytest.mark.parametrize("file", files("pcnudge"))
def test_nudged_predictive_coding_is_that_of_the_reference_code(file, path, monkeypatch):
    case = golden(file)
    network = predictive_network(case, "relu")
    rule = PredictiveCodingNudge(step=float(case["neural_lr"]), steps=int(case["T"]))
    noted = note_settled(monkeypatch, "settle_nudged")
    optimizer = torch.optim.SGD(network.parameters(), float(case["lr"]))
    for batch, (x, labels) in enumerate(zip(case["X"].mT.contiguous(), case["Y"], strict=True)):
        rule.nudge = case["lambdas"][batch].item()
        path(network, rule).learn(x, labels)
        optimizer.step()
        compare_values(noted, case, batch, 1e-12)
        if batch in (0, 9):
            compare(network, case, f"after{batch + 1}", 1e-12)


def test_no_golden_case_of_these_methods_is_forgotten():
    others = ("box_", "sparse_", "init_")
    here = {path.stem for path in CASES.glob("*.npz") if not path.stem.startswith(others)}
    assert here <= {file for kind in KNOWN for file in files(kind)}
