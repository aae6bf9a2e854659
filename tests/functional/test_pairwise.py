import pytest
import torch

from functional import oracles
from functional.oracles import assert_close, derivative, normal
from infohebb.functional import pairwise
from infohebb.networks import MLP
from infohebb.rules import KernelizedBottleneck

LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
FUNCTIONS = {
    "identity": lambda a: a,
    "leaky_relu": lambda a: torch.where(a > 0, a, 0.01 * a),
    "selu": torch.selu,
    "tanh": torch.tanh,
}
every_nonlinearity = pytest.mark.parametrize("nonlinearity", FUNCTIONS)
SIGMA, GROUPED_SIGMA, GAMMA = 1.5, 0.3, 3.0


def layer(nonlinearity):
    """Input, weight, activity and slope at each moment, of a layer of eight neurons."""
    x, W, f = normal(6, 5), 0.7 * normal(8, 5, seed=1), FUNCTIONS[nonlinearity]
    a = x @ W.T
    return x, W, f(a), derivative(lambda a: f(a).sum(), a)


def batch_update(nonlinearity, kernel="gaussian", **settings):
    """The update of the same layer by the rule's batch form."""
    x, W, _, _ = layer(nonlinearity)
    network = MLP(5, 3, (8,), nonlinearity=nonlinearity).double()
    network.blocks[0].weight.data.copy_(W)
    KernelizedBottleneck(kernel, gamma=GAMMA, **settings).learn(network, x, LABELS)
    return -network.blocks[0].weight.grad


def grams(z, name, sigma=SIGMA):
    return oracles.GRAMS[name](z, sigma), oracles.label_gram(LABELS, 3)


def slopes_of_the_gram_matrix(gram, W):
    return torch.autograd.functional.jacobian(gram, W)


PLAIN_SLOPES = {
    "gaussian": lambda x, z, slope, K: pairwise.gaussian_slopes(x, z, slope, K, SIGMA),
    "linear": lambda x, z, slope, K: pairwise.linear_slopes(x, z, slope),
    "cosine": pairwise.cosine_slopes,
}
every_kernel = pytest.mark.parametrize("kernel", PLAIN_SLOPES)


@every_kernel
@every_nonlinearity
def test_slopes_of_a_plain_kernel_are_those_of_autograd(kernel, nonlinearity):
    x, W, z, slope = layer(nonlinearity)
    got = PLAIN_SLOPES[kernel](x, z, slope, grams(z, kernel)[0])
    gram = oracles.GRAMS[kernel]
    expected = slopes_of_the_gram_matrix(lambda W: gram(FUNCTIONS[nonlinearity](x @ W.T), SIGMA), W)
    assert_close(got, expected, 1e-12)


@every_nonlinearity
@pytest.mark.parametrize("power", [0.8, 0.5])
def test_slopes_of_the_grouped_kernel_are_those_of_autograd(nonlinearity, power):
    x, W, z, slope = layer(nonlinearity)

    def gram(W):
        v = oracles.group_signal(FUNCTIONS[nonlinearity](x @ W.T), 4, power)
        return oracles.GRAMS["gaussian"](v, GROUPED_SIGMA)

    v, r = oracles.group_signal(z, 4, power), oracles.divisive_norm(z, 4, 1 - power)
    got = pairwise.grouped_slopes(x, r, slope, v, gram(W), GROUPED_SIGMA, power)
    assert_close(got, slopes_of_the_gram_matrix(gram, W), 1e-12)


@every_kernel
@every_nonlinearity
def test_the_pair_sum_of_a_plain_kernel_is_the_batch_rule(kernel, nonlinearity):
    x, _, z, slope = layer(nonlinearity)
    K, Y = grams(z, kernel)
    update = pairwise.pair_sum(K, Y, PLAIN_SLOPES[kernel](x, z, slope, K), GAMMA)
    assert_close(update, batch_update(nonlinearity, kernel, sigma=SIGMA), 1e-12)


@every_nonlinearity
def test_the_plain_gaussian_rule_pair_by_pair_is_the_batch_rule(nonlinearity):
    x, _, z, slope = layer(nonlinearity)
    M = pairwise.pair_factor(*grams(z, "gaussian"), SIGMA, GAMMA)
    update = pairwise.gaussian_pair_rule(x, z, slope, M)
    assert_close(update, batch_update(nonlinearity, sigma=SIGMA), 1e-12)


@every_nonlinearity
@pytest.mark.parametrize("power", [0.8, 0.5])
def test_the_grouped_gaussian_rule_in_both_forms_is_the_batch_rule(nonlinearity, power):
    x, _, z, slope = layer(nonlinearity)
    v, r = oracles.group_signal(z, 4, power), oracles.divisive_norm(z, 4, 1 - power)
    K, Y = grams(v, "gaussian", GROUPED_SIGMA)
    expected = batch_update(nonlinearity, sigma=GROUPED_SIGMA, groups=4, power=power)
    M = pairwise.pair_factor(K, Y, GROUPED_SIGMA, GAMMA)
    assert_close(pairwise.grouped_pair_rule(x, r, slope, v, M, power), expected, 1e-12)
    slopes = pairwise.grouped_slopes(x, r, slope, v, K, GROUPED_SIGMA, power)
    assert_close(pairwise.pair_sum(K, Y, slopes, GAMMA), expected, 1e-12)


def test_gamma_is_two_and_the_grouped_power_four_fifths_unless_told():
    x, _, z, slope = layer("tanh")
    v, r = oracles.group_signal(z, 4, 0.8), oracles.divisive_norm(z, 4, 0.2)
    K, Y = grams(v, "gaussian", GROUPED_SIGMA)
    M = pairwise.pair_factor(K, Y, GROUPED_SIGMA)
    slopes = pairwise.grouped_slopes(x, r, slope, v, K, GROUPED_SIGMA)
    assert torch.equal(M, pairwise.pair_factor(K, Y, GROUPED_SIGMA, 2.0))
    assert torch.equal(slopes, pairwise.grouped_slopes(x, r, slope, v, K, GROUPED_SIGMA, 0.8))
    assert torch.equal(pairwise.pair_sum(K, Y, slopes), pairwise.pair_sum(K, Y, slopes, 2.0))
    rule = pairwise.grouped_pair_rule
    assert torch.equal(rule(x, r, slope, v, M), rule(x, r, slope, v, M, 0.8))


def test_a_pairs_factor_is_teaching_times_similarity():
    K, Y = grams(normal(6, 4), "gaussian")
    M = pairwise.pair_factor(K, Y, SIGMA, GAMMA)
    for i in range(6):
        for j in range(6):
            teaching = GAMMA * (Y[i, j] - Y.mean()) - 2 * (K[i, j] - K.mean())
            assert M[i, j].item() == pytest.approx((-teaching * K[i, j] / SIGMA**2).item(), rel=1e-12)


def test_a_linear_layer_learns_from_change_times_change():
    """Equation 12's bracket, for the identity, is (z_i - z_j)(x_i - x_j)ᵀ."""
    x, _, z, slope = layer("identity")
    K, _ = grams(z, "gaussian")
    got = pairwise.gaussian_slopes(x, z, slope, K, SIGMA)
    for i in range(6):
        for j in range(6):
            bracket = torch.outer(z[i] - z[j], x[i] - x[j])
            torch.testing.assert_close(got[i, j], -K[i, j] / SIGMA**2 * bracket, rtol=0, atol=1e-14)
    one_pair = torch.zeros(6, 6, dtype=torch.float64)
    one_pair[1, 4] = 2.5
    expected = 2.5 * torch.outer(z[1] - z[4], x[1] - x[4]) / 36
    assert_close(pairwise.gaussian_pair_rule(x, z, slope, one_pair), expected, 1e-13)
