"""The reference code's own numbers: single layers, and whole networks through the reference's training loop."""

import copy
import re
from itertools import product

import pytest
import torch

from functional.oracles import GOLDEN, assert_close, golden
from infohebb.functional import kernels
from infohebb.networks import MLP, ConvNet
from infohebb.rules import (
    Backprop,
    FeedbackAlignment,
    KernelizedBottleneck,
    LastLayer,
    LayerwiseClassification,
    SignSymmetry,
)

KERNELS = {
    "linear": {"kernel": "linear"},
    "gaussian_s5": {"kernel": "gaussian", "sigma": 5.0},
    "gaussian_s1": {"kernel": "gaussian", "sigma": 1.0},
    "cossim": {"kernel": "cosine"},
}
NONLINEARITIES = {"identity": "identity", "lrelu001": "leaky_relu", "selu": "selu"}
LAYERS = {"layer_fc_lrelu001", "layer_fc_batchnorm", "layer_fc_eq2", "layerwise_classification"}
MAPS = {"layer_conv_selu_pool"}
TRAINED = {"train_mlp_gaussian_div", "train_mlp_gaussian_plain", "train_mlp_backprop_div"}
TRAINED |= {"train_conv_cossim_grp_bn_adamw", "train_mlp_fa_div", "train_mlp_signsym_div_manhattan"}
TRAINED |= {"train_mlp_layerwise_ce"}
ELSEWHERE = {"kernels", "grouping_divnorm"}  # tests/functional


def found(pattern):
    """Golden files of that pattern on this machine."""
    return {path.stem for path in GOLDEN.glob(pattern)}


def test_no_golden_file_is_forgotten():
    plain_layers = {f"layer_fc_{name}" for name in NONLINEARITIES}
    assert found("*.npz") <= plain_layers | LAYERS | ELSEWHERE | found("train_*.npz") | found("layer_conv_*.npz")


def assert_all_close(computed, case, given):
    """Every array of the file that was not given is computed, and equal."""
    assert computed.keys() == case.keys() - given
    for key, got in computed.items():
        assert_close(torch.as_tensor(got, dtype=torch.float64), case[key], message=key)


def one_layer(case, nonlinearity, **options):
    """A network whose only block has the weight of the file."""
    outputs, inputs = case["W"].shape
    network = MLP(inputs, int(case["n_classes"]), (outputs,), nonlinearity=nonlinearity, **options).double()
    network.blocks[0].weight.data.copy_(case["W"])
    return network


def learn(network, case, **settings):
    """The objective of the block, and its gradients by parameter, after one call of `learn`."""
    rule = KernelizedBottleneck(**settings)
    rule.attach(network)
    diagnostics = rule.learn(network, case["x"], case["y"])
    return diagnostics.objectives["blocks.0"]["objective"], dict(network.blocks[0].named_parameters())


def modes(case):
    """What rule and network are given in each of the reference's modes."""
    groups, delta = int(case["groups"]), float(case["delta"])
    normalised = {"groups": groups, "delta": delta}
    return {
        "plain": ({}, {}),
        "center": ({"centre": True}, {}),
        "grp": ({"groups": groups, "delta": delta}, {}),
        "div": ({}, {"divisive_norm": normalised | {"power": 0.2}}),
        "div55": ({}, {"divisive_norm": normalised | {"power": 0.5}}),
    }


@pytest.mark.parametrize("file", sorted({"layer_fc_lrelu001"} | {f"layer_fc_{n}" for n in NONLINEARITIES} & found("*")))
def test_a_layer_learns_as_in_the_reference_code(file):
    case, computed = golden(file), {}
    nonlinearity = NONLINEARITIES[file.removeprefix("layer_fc_")]
    estimators = {"plausible": "phsic", "biased": "hsic"}
    for kernel, mode, estimator in product(KERNELS, modes(case), estimators):
        told, options = modes(case)[mode]
        network = one_layer(case, nonlinearity, **options)
        at, settings = f"{kernel}__{mode}__{estimator}__", told | KERNELS[kernel]
        loss, parameters = learn(network, case, gamma=float(case["gamma"]), objective=estimators[estimator], **settings)
        computed |= {at + "loss": loss, at + "gradW": parameters["weight"].grad}
        computed |= {f"out__{mode}": network.blocks[0](case["x"]), "z": network.blocks[0].respond(case["x"]).activity}
    for key in case:
        if match := re.fullmatch(r"(var__gaussian_s2__gamma(.+)__delta(.+)__q(.+)__)loss", key):
            gamma, delta, power = map(float, match.groups()[1:])
            settings = {"sigma": 2.0, "groups": int(case["groups"]), "gamma": gamma, "delta": delta, "power": power}
            loss, parameters = learn(one_layer(case, nonlinearity), case, **settings)
            computed |= {match[1] + "loss": loss, match[1] + "gradW": parameters["weight"].grad}
    assert_all_close(computed, case, {"x", "W", "y", "n_classes", "groups", "gamma", "delta"})


@pytest.mark.parametrize("file", sorted(MAPS | found("layer_conv_*.npz")))
def test_a_convolutional_layer_learns_as_in_the_reference_code(file):
    case, computed = golden(file), {}
    _, _, nonlinearity, pool = file.split("_")
    for key in case:
        match = re.fullmatch(rf"({pool}__(.+)__(plain|grp|div)__G(\d+)__(plausible|biased)__)loss", key)
        if not match:
            continue
        at, kernel, mode, groups, estimator = match.groups()
        grouping = {"groups": int(groups), "delta": float(case["delta"])}
        network = ConvNet(
            case["x"].shape[1:],
            int(case["n_classes"]),
            (len(case["W"]),),
            (1,) if pool == "pool" else (),
            (),
            nonlinearity=NONLINEARITIES[nonlinearity],
            divisive_norm=grouping | {"power": 0.2} if mode == "div" else None,
        ).double()
        network.blocks[0].weight.data.copy_(case["W"])
        settings = {"gamma": float(case["gamma"]), "objective": {"plausible": "phsic", "biased": "hsic"}[estimator]}
        settings |= grouping if mode == "grp" else {}
        loss, parameters = learn(network, case, **settings, **KERNELS[kernel])
        computed |= {at + "loss": loss, at + "gradW": parameters["weight"].grad}
        computed[f"{pool}__z"] = network.blocks[0].respond(case["x"]).activity
        if f"{pool}__out__{mode}__G{groups}" in case:
            computed[f"{pool}__out__{mode}__G{groups}"] = network.blocks[0](case["x"])
    assert_all_close(computed, case, {"x", "W", "y", "n_classes", "gamma", "delta", "padding"})


def test_a_layer_with_batch_norm_learns_as_in_the_reference_code():
    case, computed = golden("layer_fc_batchnorm"), {}
    for kernel, mode in product(["gaussian_s5", "cossim"], ["plain", "grp", "div"]):
        told, options = modes(case)[mode]
        network = one_layer(case, "leaky_relu", norm="batch", **options)
        norm, at = network.blocks[0].batch_norm, f"{kernel}__{mode}__"
        norm.weight.data.copy_(case["bn_weight"])
        norm.bias.data.copy_(case["bn_bias"])
        loss, parameters = learn(network, case, gamma=float(case["gamma"]), **told, **KERNELS[kernel])
        computed |= {at + "loss": loss, at + "gradW": parameters["weight"].grad}
        computed |= {at + f"grad_bn_{name}": parameters[f"batch_norm.{name}"].grad for name in ("weight", "bias")}
        computed |= {f"running_{name}_after": getattr(norm, f"running_{name}").clone() for name in ("mean", "var")}
        computed["z"] = network.blocks[0].respond(case["x"], learning=True).activity
    assert_all_close(computed, case, {"x", "W", "bn_weight", "bn_bias", "y", "n_classes", "groups", "gamma", "delta"})


def test_a_layer_learns_by_equation_2_as_in_the_reference_code():
    case, computed = golden("layer_fc_eq2"), {}
    for kernel, (estimator, objective) in product(
        KERNELS, {"plausible": "phsic_bottleneck", "biased": "hsic_bottleneck"}.items()
    ):
        settings = {"objective": objective, "input_kernel": kernels.gaussian(3.0), "gamma": float(case["gamma"])}
        loss, parameters = learn(one_layer(case, "selu"), case, **settings, **KERNELS[kernel])
        at = f"{kernel}__{estimator}__"
        computed |= {at + "loss": loss, at + "gradW": parameters["weight"].grad}
    assert_all_close(computed, case, {"x", "W", "y", "n_classes", "gamma"})


DEFAULTS = {
    "hsic-kernel-z": "cossim",
    "hsic-gaussian-sigma-z": "5",
    "hsic-estimate-mode": "plausible",
    "local-loss-type": "hsic",
    "nonlin": "lrelu",
    "dropout-p": "0",
    "grouped-var-delta": "0",
    "grouping-power": "0.5",
    "divnorm-power": "0.2",
    "grouping-dim": "64",
    "gamma": "2",
    "local-cross-entropy-projection-size": "2048",
}


class Flags:
    """The reference's command line, with its own defaults for what is not given."""

    def __init__(self, line):
        self.words = line.split()

    def has(self, flag):
        return f"--{flag}" in self.words

    def word(self, flag):
        return self.words[self.words.index(f"--{flag}") + 1] if self.has(flag) else DEFAULTS[flag]

    def number(self, flag):
        return float(self.word(flag))

    def milestones(self):
        after = self.words[self.words.index("--epoch-decrease-lr") + 1 :]
        return [int(word) for word in after[: next(i for i, word in enumerate(after) if word.startswith("--"))]]


def build_network(case, flags):
    """The network from before training."""
    grouping = {"groups": int(flags.number("grouping-dim")), "delta": flags.number("grouped-var-delta")}
    settings = {
        "nonlinearity": {"lrelu": "leaky_relu", "selu": "selu"}[flags.word("nonlin")],
        "norm": "batch" if flags.has("batch-norm") else None,
        "divisive_norm": grouping | {"power": flags.number("divnorm-power")} if flags.has("divisive-norm-fc") else None,
        "dropout": flags.number("dropout-p"),
    }
    outputs, sizes = len(case["before__Wout"]), [len(case[f"before__W{layer}"]) for layer in (1, 2, 3)]
    if case["before__W1"].dim() == 4:  # conv, conv + pool, fully connected
        network = ConvNet(case["x"].shape[2:], outputs, sizes[:2], (2,), sizes[2:], **settings).double()
    else:
        network = MLP(case["before__W1"].shape[1], outputs, sizes, **settings).double()
    return network


def named_tensors(network):
    """What trains in a network, by the names that the golden files use."""
    tensors = {"Wout": network.readout.weight, "bout": network.readout.bias}
    for layer, block in enumerate(network.blocks, 1):
        tensors[f"W{layer}"] = block.weight
        if norm := block.batch_norm:
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors |= {f"bn{layer}_{part}": getattr(norm, part) for part in parts}
    return tensors


def tensors_of_rule(rule, network):
    """What a rule holds, by the names that the golden files use; the first layer's feedback is none."""
    if isinstance(rule, LayerwiseClassification):
        tensors = {}
        for layer, classifier in enumerate(rule.classifiers, 1):
            tensors |= {f"P{layer}": classifier.weight, f"Pb{layer}": classifier.bias}
            if rule.feedback == "random":
                tensors[f"PB{layer}"] = rule.fixed[layer - 1]
        return tensors
    if isinstance(rule, FeedbackAlignment):
        names = [*(f"B{layer}" for layer in range(2, len(network.blocks) + 1)), "Bout"]
        return {name: rule.feedback[place] for place, name in enumerate(names, 1)}
    return {}


def signs(network):
    """The signs that sign symmetry sends its errors through, by the names that the golden files use."""
    named = {name: tensor.detach().sign() for name, tensor in named_tensors(network).items()}
    return {f"B{name.removeprefix('W')}": sign for name, sign in named.items() if name.startswith("W")}


def build_rule(flags):
    """The rule of a command line."""
    if flags.word("local-loss-type") == "cross-entropy":
        projection = int(flags.number("local-cross-entropy-projection-size"))
        feedback = "sign" if flags.has("sign-symmetry") else "random" if flags.has("feedback-alignment") else "exact"
        return LayerwiseClassification(feedback, projection)
    if flags.has("feedback-alignment"):
        return FeedbackAlignment()
    if flags.has("sign-symmetry"):
        return SignSymmetry(gradient_signs=flags.has("backprop-batch-manhattan"))
    if flags.has("backprop"):
        return Backprop()
    return build_local_rule(flags) if flags.number("local-lr") > 0 else LastLayer()


def build_local_rule(flags):
    """The kernelized bottleneck of a command line; flags that it could not follow fail here."""
    assert flags.has("center-labels")
    assert flags.word("local-loss-type") == "hsic"
    assert not any(flags.has(flag) for flag in ("feedback-alignment", "sign-symmetry", "hsic-kernel-y"))
    centred, grouped = flags.has("center-local-loss-data"), flags.has("group-fc")
    assert centred or not grouped
    grouping = {
        "groups": int(flags.number("grouping-dim")),
        "power": flags.number("grouping-power"),
        "delta": flags.number("grouped-var-delta"),
    }
    return KernelizedBottleneck(
        kernel={"gaussian": "gaussian", "cossim": "cosine", "linear": "linear"}[flags.word("hsic-kernel-z")],
        sigma=flags.number("hsic-gaussian-sigma-z"),
        gamma=flags.number("gamma"),
        objective={"plausible": "phsic", "biased": "hsic"}[flags.word("hsic-estimate-mode")],
        centre=centred and not grouped,
        **(grouping if grouped else {}),
    )


def build_optimizer(flags, kind, parameters):
    """The optimizer of the blocks (local) or of the readout and of backprop (final)."""
    settings = {"lr": flags.number(f"{kind}-lr"), "weight_decay": flags.number(f"weight-decay-{kind}")}
    if flags.word(f"optimizer-{kind}") == "AdamW":
        return torch.optim.AdamW(parameters, **settings)
    return torch.optim.SGD(parameters, **settings, momentum=flags.number(f"{kind}-sgd-momentum"))


def train(case, flags):
    """Train as the reference does, and return what its file holds."""
    network, rule = build_network(case, flags), build_rule(flags)
    rule.attach(network)
    tensors = {**named_tensors(network), **tensors_of_rule(rule, network)}
    for name, tensor in tensors.items():
        tensor.data.copy_(case[f"before__{name}"])
    # the reference's last-layer run computes the local losses and learns from them at rate zero
    watcher = build_local_rule(flags) if isinstance(rule, LastLayer) else None
    groups, losses, local_losses = rule.groups(network), [], []
    idle, last_signs = [torch.nn.Parameter(torch.zeros(()))], {}
    optimizers = {
        "local": build_optimizer(flags, "local", groups.get("local", idle)),
        "final": build_optimizer(flags, "final", groups["readout"]),
    }
    schedules = [
        torch.optim.lr_scheduler.MultiStepLR(optimizer, flags.milestones(), flags.number("opt-lr-decrease"))
        for optimizer in optimizers.values()
    ]
    for _ in range(len(case["final_loss_per_step"]) // len(case["y"])):  # --n-epochs means nothing here
        for inputs, labels in zip(case["x"], case["y"], strict=True):
            network.zero_grad(set_to_none=True)
            last_signs = signs(network) if isinstance(rule, SignSymmetry) else {}
            watched = watcher.learn(copy.deepcopy(network), inputs, labels).objectives if watcher else {}
            diagnostics = rule.learn(network, inputs, labels)
            losses.append(diagnostics.loss)
            terms = (diagnostics.objectives or watched).values()
            local_losses.append(torch.tensor([term["objective"] for term in terms]))
            rule.finish([parameter for group in groups.values() for parameter in group])
            for optimizer in optimizers.values():
                optimizer.step()
        for schedule in schedules:
            schedule.step()
    return {
        "final_loss_per_step": torch.stack(losses),
        "eval_logits_batch0_after": network(case["x"][0]),
        "lr_local_end": [optimizers["local"].param_groups[0]["lr"]],
        "lr_final_end": [optimizers["final"].param_groups[0]["lr"]],
        **({"local_loss_per_step": torch.stack(local_losses)} if local_losses[0].numel() else {}),
        **{f"after__{name}": tensor.detach() for name, tensor in {**tensors, **last_signs}.items()},
    }


@pytest.mark.parametrize("file", sorted(TRAINED | found("train_*.npz")))
def test_a_network_trains_as_in_the_reference_code(file):
    case = golden(file)
    computed = train(case, Flags(case["cli"]))
    if "local_loss_per_step" not in case:
        computed.pop("local_loss_per_step", None)
    given = {key for key in case if key in ("x", "y", "cli") or key.startswith("before__")}
    given |= {"after__B1"} - computed.keys()  # feedback to the input, which nobody reads
    assert_all_close(computed, case, given & case.keys())


@pytest.mark.skipif(not found("layerwise_classification.npz"), reason="this golden file is not on this machine")
def test_a_block_learns_from_its_classifier_as_in_the_reference_code():
    case = golden("layerwise_classification")
    losses = [key for key in case if key.endswith("loss")]
    assert losses
    for key in losses:
        at = key.removesuffix("loss")
        computed = learn_from_classifier(case, at)
        assert_all_close(computed, {name: case[name] for name in computed}, set())


def learn_from_classifier(case, at):
    """The loss and the gradients of one case of that file, by its names."""
    kind, classes = "conv" if at.startswith("conv") else "fc", len(case[f"{at}P"])
    weight, x = case[f"{kind}_W"], case[f"{kind}_x"]
    y = case[f"{kind}_y"] if f"{kind}_y" in case else case["y"]
    if kind == "conv":
        network = ConvNet(x.shape[1:], classes, (len(weight),), (1,), (), nonlinearity="selu").double()
    else:
        network = MLP(x.shape[1], classes, (len(weight),)).double()
    feedback = "random" if "feedback_alignment" in at else "sign" if "sign_symmetry" in at else "exact"
    projection = re.search(r"proj(\d+)", at)
    rule = LayerwiseClassification(feedback, int(projection[1]) if projection else 2048)
    rule.attach(network)
    classifier, block = rule.classifiers[0], network.blocks[0]
    block.weight.data.copy_(weight)
    classifier.weight.data.copy_(case[f"{at}P"])
    classifier.bias.data.copy_(case[f"{at}b"])
    if feedback == "random":
        rule.fixed[0].copy_(case[f"{at}B"])
    loss = rule.learn(network, x, y).objectives["blocks.0"]["objective"]
    gradients = {"gradW": block.weight.grad, "gradP": classifier.weight.grad, "gradb": classifier.bias.grad}
    return {f"{at}loss": loss, **{f"{at}{name}": gradient for name, gradient in gradients.items()}}
