import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from functional import oracles
from functional.oracles import assert_close, derivative, few, golden, normal, symmetric
from infohebb.functional import hsic
from infohebb.functional.kernels import gaussian_gram, label_gram

OBJECTIVES = {
    "phsic": hsic.phsic_objective,
    "hsic": hsic.hsic_objective,
    "phsic_bottleneck": hsic.phsic_bottleneck,
    "hsic_bottleneck": hsic.hsic_bottleneck,
    "nhsic_bottleneck": hsic.nhsic_bottleneck,
}
DEFAULT_GAMMA = {"phsic": 2.0, "hsic": 2.0, "phsic_bottleneck": 50.0, "hsic_bottleneck": 50.0, "nhsic_bottleneck": 50.0}
# (K H + ε m I)⁻¹, with entries of 1 / ε m, enters squared: the default ε leaves few digits
DIGITS = dict.fromkeys(OBJECTIVES, 1e-12) | {"nhsic_bottleneck": 1e-4}  # the oracle has no more
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture
def grams():
    """Gram matrices of a layer, of labels that occur unequally often, and of an input."""
    labels = torch.tensor([0, 1, 2, 2, 1, 2, 2])
    return (
        gaussian_gram(normal(7, 4), 1.2),
        label_gram(labels, 3, torch.float64),
        gaussian_gram(normal(7, 5, seed=1), 2.0),
    )


def test_centre_takes_the_mean_of_all_entries_away():
    K = symmetric(5)
    total = sum(K[i, j] for i in range(5) for j in range(5))
    assert_close(hsic.centre(K), K - total / 25, 1e-14)


def test_double_centre_is_h_k_h():
    K, H = normal(5, 5), oracles.centring(5)
    assert_close(hsic.double_centre(K), H @ K @ H, 1e-14)


def test_plausible_hsic_is_the_loop_over_pairs():
    A, B = symmetric(5), symmetric(5, seed=1)
    product = sum(A[i, j] * B[i, j] for i in range(5) for j in range(5)) / 25
    means = sum(a * b for a in A.flatten() for b in B.flatten()) / 625
    assert_close(hsic.plausible_hsic(A, B), product - means, 1e-12)


def test_hsic_is_the_loop_over_pairs_triples_and_quadruples():
    A, B = symmetric(4), symmetric(4, seed=1)
    r = range(4)
    pairs = sum(A[i, j] * B[i, j] for i in r for j in r) / 16
    triples = sum(A[i, j] * B[i, k] for i in r for j in r for k in r) / 64
    quadruples = sum(a * b for a in A.flatten() for b in B.flatten()) / 256
    assert_close(hsic.hsic(A, B), pairs - 2 * triples + quadruples, 1e-12)
    assert_close(hsic.hsic(A, B), oracles.hsic(A, B), 1e-12)


@few
@given(seed=st.integers(0, 999), m=st.integers(2, 7))
def test_phsic_minus_hsic_is_twice_the_covariance_of_the_row_means(seed, m):
    A, B = symmetric(m, seed), symmetric(m, seed + 1000)
    a, b = A.mean(1), B.mean(1)
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    torch.testing.assert_close(hsic.plausible_hsic(A, B) - hsic.hsic(A, B), 2 * covariance, rtol=1e-10, atol=1e-12)


@few
@given(seed=st.integers(0, 999), m=st.integers(2, 7))
def test_hsic_of_positive_kernels_is_positive_and_below_phsic_with_itself(seed, m):
    A, B = (gaussian_gram(normal(m, 3, seed=s), 1.0) for s in (seed, seed + 1000))
    assert hsic.hsic(A, B) > -1e-15
    assert hsic.plausible_hsic(A, A) >= hsic.hsic(A, A) - 1e-15
    assert_close(hsic.plausible_hsic(A, A), A.var(correction=0), 1e-10)


def test_phsic_equals_hsic_for_balanced_labels():
    Y, K = label_gram(torch.tensor([0, 1, 2, 0, 1, 2]), 3, torch.float64), gaussian_gram(normal(6, 4), 1.0)
    assert_close(hsic.plausible_hsic(Y, K), hsic.hsic(Y, K), 1e-12)


def test_phsic_of_a_nearly_saturated_kernel_keeps_its_digits_in_float32():
    V = 0.01 * normal(8, 4)
    K = gaussian_gram(V, 5.0)
    got = hsic.plausible_hsic(K.float(), K.float())
    assert got.item() == pytest.approx(K.float().double().var(correction=0).item(), rel=1e-3)


@every_objective
def test_objective_and_its_terms(name, grams):
    gamma = 3.7
    compression, relevance = oracles.TERMS[name](*grams)
    got = OBJECTIVES[name](*grams, gamma)
    assert_close(got.compression, compression, DIGITS[name])
    assert_close(got.relevance, relevance, DIGITS[name])
    assert_close(got.objective, compression - gamma * relevance, DIGITS[name])


@every_objective
def test_derivative_by_the_gram_matrix_is_that_of_autograd(name, grams):
    K, Y, X = grams
    gamma = 3.7

    def objective(K):
        compression, relevance = oracles.TERMS[name]((K + K.T) / 2, Y, X)
        return compression - gamma * relevance

    got = OBJECTIVES[name](K, Y, X, gamma).derivative
    assert_close(got, derivative(objective, K), DIGITS[name])
    assert_close(got, got.T, 1e-12)


def test_normalised_hsic_with_a_wide_ridge_keeps_all_digits(grams):
    K, Y, X = grams
    got = hsic.nhsic_bottleneck(K, Y, X, gamma=3.0, epsilon=0.1)

    def objective(K):
        K = (K + K.T) / 2
        return oracles.nhsic(X, K, 0.1) - 3 * oracles.nhsic(Y, K, 0.1)

    assert_close(got.objective, objective(K), 1e-12)
    assert_close(got.derivative, derivative(objective, K), 1e-11)


def test_normalised_hsic_of_a_kernel_with_itself_counts_its_dimensions():
    """With a vanishing ridge R is a projection on the centred samples."""
    K = gaussian_gram(normal(6, 4), 1.0)
    assert hsic.nhsic_bottleneck(K, K, K, gamma=0.0, epsilon=1e-12).compression.item() == pytest.approx(5, abs=1e-6)


@every_objective
def test_gamma_is_the_papers_unless_told(name, grams):
    default, told = OBJECTIVES[name](*grams), OBJECTIVES[name](*grams, DEFAULT_GAMMA[name])
    assert torch.equal(default.objective, told.objective)
    assert torch.equal(default.derivative, told.derivative)


@every_objective
def test_the_order_of_the_batch_does_not_matter(name, grams):
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    got = OBJECTIVES[name](*(K[order][:, order] for K in grams), 2.0)
    expected = OBJECTIVES[name](*grams, 2.0)
    assert_close(got.objective, expected.objective, 1e-8)
    assert_close(got.derivative, expected.derivative[order][:, order], 1e-8)


@every_objective
def test_the_names_of_the_classes_do_not_matter(name, grams):
    K, _, X = grams
    labels, renamed = torch.tensor([0, 1, 2, 2, 1, 2, 2]), torch.tensor([2, 0, 1, 1, 0, 1, 1])
    got, expected = (OBJECTIVES[name](K, label_gram(y, 3, torch.float64), X) for y in (labels, renamed))
    assert torch.equal(got.objective, expected.objective)
    assert torch.equal(got.derivative, expected.derivative)


@every_objective
def test_equal_labels_leave_the_compression_alone(name, grams):
    K, _, X = grams
    got = OBJECTIVES[name](K, torch.ones_like(K), X, 2.0)
    assert abs(got.relevance.item()) < 1e-14
    assert_close(got.derivative, OBJECTIVES[name](K, torch.zeros_like(K), X, 2.0).derivative, 1e-12)


def test_estimates_of_the_reference_code():
    case = golden("kernels")
    estimates = {key for key in case if key.startswith("est__")}
    assert len(estimates) == 2 * 4 * 9
    for key in estimates:
        mode, kernel, labels = re.fullmatch(r"est__(plausible|biased)__z{1,2}_(\w+?)(?:__(label_\w+))?", key).groups()
        K = case[f"gram__{kernel}"]
        other = case[re.sub("(centered|raw)_", r"\1__", labels)] if labels else K
        estimate = hsic.plausible_hsic if mode == "plausible" else hsic.hsic
        assert_close(estimate(other, K), case[key], message=key)
