"""A rule with parameters of its own: each block learns from a classifier that sees this block alone."""

import torch
from torch import nn

from infohebb import LearningRule
from infohebb.errors import MismatchError
from infohebb.rules.base import Diagnostics, check_batch, right_answers
from infohebb.rules.layered import assign_gradients, block_signals, readout_signals, synaptic_gradients


class LocalClassifier(LearningRule):
    """The head of each block learns by its delta rule, and sends its error down through its own weights."""

    weight_transport = True
    broadcasts = frozenset({"class_error"})

    def attach(self, network):
        super().attach(network)
        if any(block.layer_norm is not None for _, block in network.named_blocks()):
            raise MismatchError("a local classifier learns no layer norm")
        if any(block.geometry is not None for _, block in network.named_blocks()):
            raise MismatchError("this local classifier learns no convolution")
        like = next(network.parameters())
        shapes = [(block.width, network.readout.out_features) for _, block in network.named_blocks()]
        self.heads = nn.ModuleList(nn.Linear(*shape, device=like.device, dtype=like.dtype) for shape in shapes)

    def groups(self, network):
        return {"local": [*network.blocks.parameters(), *self.heads.parameters(), *network.readout.parameters()]}

    @torch.no_grad()
    def learn(self, network, inputs, targets, *, onset=True, record=False):
        check_batch(inputs, targets, network.readout.out_features)
        layers, signals, x = {"readout": network.readout}, {}, inputs
        for position, (name, block) in enumerate(network.named_blocks()):
            head, head_name = self.heads[position], f"rule.heads.{position}"
            response = block.respond(x, learning=True)
            _, signals[head_name] = readout_signals(response.activity.clone(), head(response.activity), targets)
            signals[name] = self.block_signals(block, response, head, signals[head_name]["error"])
            layers |= {name: block, head_name: head}
            x = block.emit(response.activity, learning=True)
        logits = network.readout(x)
        loss, signals["readout"] = readout_signals(x, logits, targets)
        for name, given in signals.items():
            assign_gradients(layers[name], self.update(given))
        return Diagnostics(loss, right_answers(logits, targets), {}, signals if record else {})

    def block_signals(self, block, response, head, class_error):
        """Of the head's weights, each neuron knows its own: `post` (classes × n)."""
        gain = block.nonlinearity.gate(torch.ones_like(response.hidden), response.hidden)
        given = {"class_error": class_error, "post": head.weight.detach().clone(), "gain": gain}
        return {**block_signals(block, response), **given}

    def update(self, signals):
        if "class_error" not in signals:
            return synaptic_gradients(signals, signals["error"])
        return synaptic_gradients(signals, signals["class_error"] @ signals["post"] * signals["gain"])


class TransportsOwnWeights(LocalClassifier):
    """Uses the weights of its classifiers without a word."""

    weight_transport = False
