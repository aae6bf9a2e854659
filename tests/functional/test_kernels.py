import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from functional import oracles
from functional.oracles import assert_close, derivative, few, golden, normal, symmetric
from infohebb.functional import kernels

SIGMA = 1.3
KERNELS = {
    "linear": kernels.linear(),
    "gaussian": kernels.gaussian(SIGMA),
    "gaussian_per_sqrt_dim": kernels.gaussian(SIGMA, "per_sqrt_dim"),
    "gaussian_median": kernels.gaussian(SIGMA, "median"),
    "cosine": kernels.cosine(),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_gaussian = pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("gaussian")])


def awkward_rows(m=7, d=5):
    """Random rows but for a zero row and a duplicate pair."""
    V = normal(m, d)
    V[2], V[5] = 0, V[1]
    return V


@every_kernel
def test_gram_matrix_is_the_loop_over_pairs_with_zero_and_duplicate_rows(name):
    V = awkward_rows()
    assert_close(KERNELS[name].gram(V), oracles.GRAMS[name](V, SIGMA), 1e-13)


def test_the_gaussian_is_of_width_five_as_it_stands_unless_told():
    V = 3 * normal(5, 4)
    assert_close(kernels.gaussian().gram(V), oracles.GRAMS["gaussian"](V, 5.0), 1e-13)
    G, K = symmetric(5), kernels.gaussian_gram(V)
    assert torch.equal(kernels.gaussian_coupling(V, K, G), kernels.gaussian_coupling(V, K, G, 5.0, "absolute"))


@every_kernel
def test_coupling_times_batch_is_the_derivative_of_the_gram_matrix(name):
    V, G = awkward_rows(), symmetric(7, seed=1)
    K = KERNELS[name].gram(V)
    expected = derivative(lambda V: (G * oracles.GRAMS[name](V, SIGMA)).sum(), V)
    assert_close(KERNELS[name].coupling(V, K, G) @ V, expected, 1e-12)


@every_kernel
def test_coupling_leaves_its_arguments_alone(name):
    V, G = awkward_rows(), symmetric(7)
    K = KERNELS[name].gram(V)
    before = V.clone(), K.clone(), G.clone()
    KERNELS[name].coupling(V, K, G)
    assert all(torch.equal(now, then) for now, then in zip((V, K, G), before, strict=True))


@every_gaussian
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_diagonal_is_exactly_one(name, dtype):
    V = (100 * normal(7, 30) + 1e3).to(dtype)
    assert torch.equal(KERNELS[name].gram(V).diagonal(), torch.ones(7, dtype=dtype))


def test_gaussian_never_exceeds_one_for_near_duplicates_in_float32():
    V = (1e-4 * normal(50, 20)).float()
    V[:25] += 1e3
    assert kernels.gaussian_gram(V, 0.01).max() == 1


def test_gaussian_keeps_its_digits_far_from_the_origin_in_float32():
    V = (normal(8, 20) + 1e3).float()
    expected = oracles.GRAMS["gaussian"](V.double(), 5.0)
    assert (kernels.gaussian_gram(V, 5.0) - expected).abs().max() < 2e-6


def test_median_of_samples_that_mostly_coincide_is_taken_as_one():
    V = torch.zeros(5, 3, dtype=torch.float64)
    V[0, 0] = 2.0
    assert_close(kernels.gaussian_gram(V, SIGMA, "median"), oracles.GRAMS["gaussian"](V, SIGMA))
    assert kernels.gaussian_gram(V[:1], SIGMA, "median").item() == 1


def test_median_scales_with_the_data():
    V = normal(7, 4)
    K = kernels.gaussian_gram(V, 0.7, "median")
    assert_close(kernels.gaussian_gram(1000 * V, 0.7, "median"), K)


def test_a_zero_row_neither_acts_nor_learns_under_the_cosine_kernel():
    V, G = awkward_rows(), symmetric(7)
    K = kernels.cosine_gram(V)
    Q = kernels.cosine_coupling(V, K, G)
    assert not K[2].any() and not K[:, 2].any()
    assert not Q[2].any() and not Q[:, 2].any()


def test_a_duplicate_pair_exerts_no_force_under_the_gaussian_kernel():
    V = normal(1, 4).repeat(2, 1)
    K = kernels.gaussian_gram(V)
    assert (kernels.gaussian_coupling(V, K, symmetric(2)) @ V).abs().max() < 1e-15


def test_the_diagonal_of_the_laplacian_cancels_on_paper():
    """Spec 12.7: keeping the diagonal of S changes nothing where float64 has digits to spare."""
    V, G = normal(7, 5), symmetric(7)
    S = G * kernels.gaussian_gram(V, SIGMA)
    kept = -(2 / SIGMA**2) * (torch.diag(S.sum(1)) - S)
    assert_close(kernels.gaussian_coupling(V, kernels.gaussian_gram(V, SIGMA), G, SIGMA) @ V, kept @ V, 1e-12)


def test_the_diagonal_of_the_laplacian_does_not_bury_small_entries():
    V = torch.tensor([[0.0], [9.0]], dtype=torch.float64)
    K, G = kernels.gaussian_gram(V, 1.0), torch.ones(2, 2, dtype=torch.float64)
    force = 2 * math.exp(-81 / 2) * 9  # 4.6e-17, below the last digit of the diagonal's 2
    assert_close(kernels.gaussian_coupling(V, K, G, 1.0) @ V, torch.tensor([[force], [-force]], dtype=torch.float64))


@few
@given(seed=st.integers(0, 999), m=st.integers(2, 6), d=st.integers(1, 5))
def test_gaussian_does_not_see_shifts_signs_and_rotations(seed, m, d):
    V = normal(m, d, seed=seed)
    rotation = torch.linalg.qr(normal(d, d, seed=seed + 1)).Q
    moved = (V @ rotation) * torch.sign(normal(d, seed=seed + 2)) + 10 * normal(d, seed=seed + 3)
    assert_close(kernels.gaussian_gram(moved, SIGMA), kernels.gaussian_gram(V, SIGMA), 1e-12)


@few
@given(seed=st.integers(0, 999), m=st.integers(2, 6), d=st.integers(1, 5))
def test_cosine_does_not_see_the_length_of_a_row(seed, m, d):
    V = normal(m, d, seed=seed)
    lengths = normal(m, 1, seed=seed + 1).exp()
    assert_close(kernels.cosine_gram(lengths * V), kernels.cosine_gram(V), 1e-12)


@few
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=8), spare=st.integers(0, 2))
def test_label_kernel_is_the_cosine_of_one_hot_minus_its_mean(labels, spare):
    labels, classes = torch.tensor(labels), max(2, *labels, 2) + 1 + spare
    gram = kernels.label_gram(labels, classes, torch.float64)
    assert_close(gram, oracles.label_gram(labels, classes), 1e-13)
    assert set(gram.unique().tolist()) <= {1.0, -1 / (classes - 1)}


def test_label_kernel_of_two_classes_and_of_one():
    assert kernels.label_gram(torch.tensor([0, 1]), 2).tolist() == [[1, -1], [-1, 1]]
    assert kernels.label_gram(torch.tensor([0, 0]), 1).tolist() == [[1, 1], [1, 1]]
    assert kernels.label_gram(torch.tensor([0, 1]), 2).dtype == torch.float32


UNBALANCED = torch.tensor([0, 0, 0, 0, 1, 1, 3, 3, 3])


def frequencies_by_counting(labels, classes):
    return torch.tensor([labels.tolist().count(c) / len(labels) for c in range(classes)], dtype=torch.float64)


def test_class_frequencies_count_the_classes_that_are_not_there_too():
    got = kernels.class_frequencies(UNBALANCED, 5, torch.float64)
    assert_close(got, frequencies_by_counting(UNBALANCED, 5), 1e-15)


def test_frequency_centred_labels_entry_by_entry():
    p = frequencies_by_counting(UNBALANCED, 5)
    gram = kernels.label_gram_frequency_centred(UNBALANCED, p)
    square = sum(float(q) ** 2 for q in p)
    for i, a in enumerate(UNBALANCED.tolist()):
        for j, b in enumerate(UNBALANCED.tolist()):
            assert gram[i, j].item() == pytest.approx((a == b) - float(p[a]) - float(p[b]) + square, abs=1e-14)


def test_inverse_frequency_labels_entry_by_entry():
    p = frequencies_by_counting(UNBALANCED, 5)
    gram = kernels.label_gram_inverse_frequency(UNBALANCED, p)
    for i, a in enumerate(UNBALANCED.tolist()):
        for j, b in enumerate(UNBALANCED.tolist()):
            assert gram[i, j].item() == pytest.approx(((a == b) / float(p[a]) - 1) / 4, abs=1e-14)


unbalanced_kernels = pytest.mark.parametrize(
    "gram", [kernels.label_gram_frequency_centred, kernels.label_gram_inverse_frequency]
)


@unbalanced_kernels
def test_unbalanced_label_kernels_have_mean_zero_for_each_class_and_are_positive(gram):
    K = gram(UNBALANCED, frequencies_by_counting(UNBALANCED, 5))
    assert K.mean(1).abs().max() < 1e-15
    assert torch.linalg.eigvalsh(K).min() > -1e-14


@unbalanced_kernels
def test_unbalanced_label_kernels_keep_the_mean_of_a_population_not_of_the_batch(gram):
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    K = gram(torch.tensor([0, 1, 2]), p)
    assert (K @ p).abs().max() < 1e-15


def test_unbalanced_label_kernels_come_back_to_the_balanced_one():
    labels = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    p, balanced = torch.full((4,), 0.25, dtype=torch.float64), kernels.label_gram(labels, 4, torch.float64)
    assert_close(kernels.label_gram_inverse_frequency(labels, p), balanced, 1e-14)
    assert_close(kernels.label_gram_frequency_centred(labels, p), balanced * 3 / 4, 1e-14)


GOLDEN_KERNELS = {
    "linear": kernels.linear(),
    "gaussian_s5": kernels.gaussian(5.0),
    "gaussian_s1": kernels.gaussian(1.0),
    "cossim": kernels.cosine(),
}


def test_gram_matrices_of_the_reference_code():
    case = golden("kernels")
    classes = int(case["n_classes"])
    one_hot = oracles.one_hot(case["y"], classes)
    for name, kernel in GOLDEN_KERNELS.items():
        assert_close(kernel.gram(case["A"]), case[f"gram__{name}"], message=name)
        assert_close(kernel.gram(one_hot), case[f"label_raw__{name}"], message=name)
        assert_close(kernel.gram(one_hot - 1 / classes), case[f"label_centered__{name}"], message=name)
    assert_close(kernels.label_gram(case["y"], classes, torch.float64), case["label_centered__cossim"])
