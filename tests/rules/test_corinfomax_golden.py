"""The reference code's own numbers: CorInfoMax networks through ten batches, phase by phase."""

import math

import numpy as np
import pytest
import torch

from functional.oracles import GOLDEN as KIB
from infohebb.functional.alignment import angle
from infohebb.functional.correlation import correlation, running_correlation
from infohebb.networks.corinfomax import CorInfoMaxNetwork, Presented
from infohebb.rules import CorInfoMax
from rules.settling_paths import Version1, both_paths

GOLDEN = KIB.parent / "cim"
FILES = sorted(path.stem for kind in ("box_*", "sparse_*") for path in GOLDEN.glob(f"{kind}.npz"))
INITIAL = sorted(path.stem for path in GOLDEN.glob("init_*.npz"))


class Case:
    """One file: a network and a rule with its settings, and what they should say."""

    def __init__(self, name, path=Version1):
        arrays = np.load(GOLDEN / f"{name}.npz")
        self.arrays = {
            key: torch.from_numpy(np.atleast_1d(arrays[key])) for key in arrays if arrays[key].dtype.kind != "U"
        }
        self.dtype = self["X"].dtype
        self.close = {"atol": 1e-12, "rtol": 1e-12} if self.dtype == torch.float64 else {"atol": 1e-5, "rtol": 1e-5}
        arch, sparse = self["arch"].tolist(), self["sparse_layers"].tolist()
        rates = self["st_lr"].tolist()
        given = [rates[place - 1] for place in sparse] if len(rates) == len(arch) - 1 else rates
        self.network = CorInfoMaxNetwork(
            arch[0], arch[-1], tuple(arch[1:-1]),
            self.number("epsilon"), self.number("gamma"), self.number("hopfield_g"),
            self.number("neural_lr_start"), str(arrays["neural_lr_rule"]), self.number("neural_lr_stop"),
            self.number("neural_lr_decay_multiplier"), int(self["T_free"]), tuple(sparse), tuple(given),
        ).to(self.dtype)  # fmt: skip
        for place, layer in enumerate(self.network.compartmental()):
            self.load(layer.feedforward.weight, f"Wff_init_{place}")
            self.load(layer.inverse_correlation, f"B_init_{place}")
            if layer.feedback is not None:
                self.load(layer.feedback.weight, f"Wfb_init_{place + 1}")
        phases = 3 if bool(self["three_phase"]) else 2
        self.rule = CorInfoMax(
            nudged_steps=int(self["T_nudged"]), phases=phases, forgetting=self.number("lambda_"), random_sign=False
        )
        self.driven = path(self.network, self.rule)

    def __getitem__(self, name):
        return self.arrays[name]

    def number(self, name):
        return float(self[name])

    def load(self, place, name):
        with torch.no_grad():
            place.copy_(self[name])

    def batch(self, number):
        x = self["X"][number].T.contiguous()
        return x, torch.eye(self.network.outputs, dtype=self.dtype)[self["Y"][number]]

    def learn(self, number):
        """One batch update at the published rates, and the decay after it where there is one."""
        self.rule.nudge = float(self["betas"][number])
        self.driven.learn(self.batch(number)[0], self["Y"][number])
        groups, decays = self.driven.groups(), bool(self["weight_decay"])
        for kind, rates in (("forward", self["lr_ff"]), ("feedback", self["lr_fb"][1:])):
            for weight, rate in zip(groups[kind], rates.tolist(), strict=True):
                with torch.no_grad():
                    weight.sub_(weight.grad, alpha=rate)
                    weight.mul_(1 - rate * self.network.epsilon * decays)

    def check_weights(self, after):
        for place, layer in enumerate(self.network.compartmental()):
            self.check(layer.feedforward.weight, f"Wff_after{after}_{place}")
            self.check(layer.inverse_correlation, f"B_after{after}_{place}")
            if layer.feedback is not None:
                self.check(layer.feedback.weight, f"Wfb_after{after}_{place + 1}")

    def check(self, ours, name, theirs=None):
        wanted = self[name] if theirs is None else theirs
        torch.testing.assert_close(ours.detach(), wanted, **self.close, msg=lambda text: f"{name}: {text}")


def phases(case, number):
    """Ends of the free, the nudged and the third phase of a batch, with the multipliers at each end."""
    x, wanted = case.batch(number)
    shown, beta = Presented(case.network, x), float(case["betas"][number])
    asked = [(case.network.steps,), (case.rule.nudged_steps, wanted, beta), (case.rule.nudged_steps, wanted, -beta)]
    for words in asked[: case.rule.phases]:
        rates = shown.settle(*words)
        yield case.network.split(rates), [q if q is None else q.clone() for q in shown.multipliers]


@both_paths
@pytest.mark.parametrize("name", FILES)
def test_ten_batches_are_the_reference_codes(name, path):
    case, angles = Case(name, path), []
    for number in range(len(case["betas"])):
        for phase, (rates, multipliers) in zip(("free", "nudged", "third"), phases(case, number), strict=False):
            for place, (ours, q) in enumerate(zip(rates, multipliers, strict=True)):
                case.check(ours.T, f"r_{phase}_{place} {number}", case[f"r_{phase}_{place}"][number])
                if number == 0 and q is not None:
                    case.check(q.T, f"st_{phase}_{place}", case[f"st_{phase}_{place}"])
        case.learn(number)
        if number == 0:
            case.check_weights(1)
        angles.append([angle(forward, feedback.T) for _, forward, feedback in case.network.both_ways()])
    case.check_weights(10)
    ours, coarse = torch.tensor(angles, dtype=torch.float64), case.dtype == torch.float32
    torch.testing.assert_close(ours, case["angles_deg"].double(), rtol=0, atol=1e-4 if coarse else 1e-11)


@both_paths
@pytest.mark.parametrize("name", FILES)
def test_each_sweep_and_the_prediction_are_the_reference_codes(name, path):
    case = Case(name, path)
    for sweeps in (1, 2, int(case["T_free"]) - 1):
        rates = Presented(case.network, case.batch(0)[0]).settle(sweeps)
        for place, ours in enumerate(case.network.split(rates)):
            case.check(ours.T, f"free_trace_{place}", case[f"free_trace_{place}"][sweeps - 1])
    for number in range(len(case["betas"])):
        case.learn(number)
    answers = case.network(case["X_test"].T.contiguous())
    case.check(answers.T, "test_output")
    assert answers.argmax(1).tolist() == case["test_pred"].tolist()


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("_f32")])
def test_running_correlations_are_the_reference_codes(name):
    case = Case(name)
    for phase in ("free", "nudged"):
        for place, own in enumerate(case.network.columns):
            n = own.stop - own.start
            running, states = torch.eye(n, dtype=case.dtype), case[f"r_{phase}_{place}"]
            for number, rates in enumerate(states, 1):
                running = running_correlation(running, rates.T, case.number("lambda_"))
                if number in (1, 10):
                    case.check(running, f"R{phase}_after{number}_{place}")


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("_f32")])
def test_logged_information_follows_from_what_is_measured_here(name):
    """The published logging, quirks included: no ½, and n log ε over the batch size."""
    case = Case(name)
    epsilon, running = (
        case.network.epsilon,
        [torch.eye(c.stop - c.start, dtype=case.dtype) for c in case.network.columns],
    )
    for number in range(len(case["betas"])):
        states = [case[f"r_free_{place}"][number].T for place in range(len(running))]
        running = [
            running_correlation(before, rates, case.number("lambda_"))
            for before, rates in zip(running, states, strict=True)
        ]
        case.learn(number)
        for place, layer in enumerate(list(case.network.compartmental())[1:], 1):
            error = states[place] - states[place - 1] @ layer.feedforward.weight.detach().mT
            n, m = error.shape[1], error.shape[0]
            left = m * correlation(error).trace() / epsilon - n * math.log(epsilon)
            ours = torch.logdet(running[place] + epsilon * torch.eye(n, dtype=case.dtype)) - left / m
            torch.testing.assert_close(ours, case["fwd_corinfo_free"][number, place - 1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", INITIAL)
def test_initial_draws_are_the_reference_codes(name):
    arrays = {key: torch.from_numpy(array) for key, array in np.load(GOLDEN / f"{name}.npz").items()}
    torch.manual_seed(int(name.partition("seed")[2]))
    network = CorInfoMaxNetwork(20, 10, (15,))
    for place, layer in enumerate(network.compartmental()):
        assert torch.equal(layer.feedforward.weight, arrays[f"Wff_{place}"])
        torch.testing.assert_close(layer.inverse_correlation, arrays[f"B_{place}"], rtol=0, atol=1e-6)
        if layer.feedback is not None:
            assert torch.equal(layer.feedback.weight, arrays[f"Wfb_{place + 1}"])
    assert torch.equal(torch.rand(3), arrays["next_rand"])
