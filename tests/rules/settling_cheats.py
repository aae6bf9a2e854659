"""Ways to cheat on a network of three-compartment neurons, which the contract suite notices."""

import torch

from infohebb import CorInfoMax


class Transport(CorInfoMax):
    """Errors of hidden layers by backprop through transposed forward weights, recorded as the synapses' own."""

    def experience(self, network, x, wanted):
        seen = super().experience(network, x, wanted)
        weights = [layer.feedforward.weight for layer in network.compartmental()]
        received = [x]
        for weight in weights[:-1]:
            received.append(torch.tanh(received[-1] @ weight.T))
        error = (received[-1] @ weights[-1].T - wanted) / len(x)
        for place in reversed(range(len(weights))):
            seen.signals[f"layers.{place}.feedforward"] = {"pre": received[place], "error": error}
            if place:
                error = (error @ weights[place]) * (1 - received[place] ** 2)
        return seen


class ReadsItsNeighbour(CorInfoMax):
    """A synapse is given what its neighbour receives."""

    def experience(self, network, x, wanted):
        seen = super().experience(network, x, wanted)
        given = seen.signals["layers.0.feedforward"]
        given["pre"] = given["pre"].roll(1, 1)
        return seen
