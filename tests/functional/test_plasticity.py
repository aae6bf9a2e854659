import torch

from functional.oracles import assert_close, normal
from infohebb.functional import plasticity

PRE, POST, FACTOR = normal(4, 5), normal(4, 6, seed=1), normal(4, 3, seed=2)


def test_hebbian_is_the_sum_of_pre_times_post():
    expected = torch.zeros(6, 5, dtype=torch.float64)
    for sample in range(4):
        for i in range(6):
            for j in range(5):
                expected[i, j] += POST[sample, i] * PRE[sample, j]
    assert_close(plasticity.hebbian(PRE, POST), expected, 1e-14)


def test_three_factor_gives_each_group_its_own_number():
    expected = torch.zeros(6, 5, dtype=torch.float64)
    for sample in range(4):
        for i in range(6):
            for j in range(5):
                expected[i, j] += FACTOR[sample, i // 2] * POST[sample, i] * PRE[sample, j]
    assert_close(plasticity.hebbian(PRE, plasticity.modulate(FACTOR, POST)), expected, 1e-14)


def test_modulate_leaves_the_postsynaptic_factor_as_it_was():
    before = POST.clone()
    got = plasticity.modulate(FACTOR, POST)
    assert torch.equal(POST, before)
    assert all(got[s, i] == FACTOR[s, i // 2] * POST[s, i] for s in range(4) for i in range(6))


def test_the_precision_reaches_the_product():
    pre, post, factor = (normal(40, 60, seed=seed).float() for seed in (0, 1, 2))
    full, rounded = (
        plasticity.hebbian(pre, plasticity.modulate(factor, post), precision) for precision in ("fp32", "bf16")
    )
    assert not torch.equal(full, rounded)
    assert_close(rounded, full, 1e-2)
