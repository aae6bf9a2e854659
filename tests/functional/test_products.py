import inspect

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.functional import products
from infohebb.functional.products import product, rounded_operands

SETTING = torch.backends.mkldnn.matmul


@pytest.fixture(params=["rounded by oneDNN", "rounded by hand"])
def operands(request, monkeypatch):
    """Two float32 matrices, and a processor that rounds by itself or does not."""
    by_onednn = request.param == "rounded by oneDNN"
    if by_onednn and not products.onednn_rounds():
        pytest.skip("oneDNN does not round float32 operands to bf16 on this processor")
    monkeypatch.setattr(products, "onednn_rounds", lambda: by_onednn)
    return normal(48, 80).float(), normal(80, 64, seed=1).float()


def test_products_are_in_full_unless_told():
    a, b = normal(48, 80).float(), normal(80, 64, seed=1).float()
    assert torch.equal(product(a, b), a @ b)
    assert_close(product(a, b).double(), a.double() @ b.double(), 1e-6)


def test_bf16_rounds_the_operands_of_a_float32_product(operands):
    a, b = operands
    full, rounded = a @ b, product(a, b, "bf16")
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, full)
    assert_close(rounded, full, 1e-2)
    assert_close(rounded, a.bfloat16().float() @ b.bfloat16().float(), 4e-3)


def test_a_float64_product_is_never_rounded(operands):
    a, b = (operand.double() for operand in operands)
    assert torch.equal(product(a, b, "bf16"), a @ b)


@pytest.fixture(params=["none", "ieee", "bf16"])
def before(request):
    """What someone else has set."""
    kept = SETTING.fp32_precision
    SETTING.fp32_precision = request.param
    yield request.param
    SETTING.fp32_precision = kept


def test_the_global_setting_comes_back(before):
    with rounded_operands():
        assert SETTING.fp32_precision == "bf16"
    assert SETTING.fp32_precision == before
    product(normal(8, 8).float(), normal(8, 8).float(), "bf16")
    assert SETTING.fp32_precision == before


def test_the_global_setting_comes_back_after_an_exception(before):
    with pytest.raises(ZeroDivisionError), rounded_operands():
        _ = 1 / 0
    assert SETTING.fp32_precision == before
    with pytest.raises(RuntimeError, match="shapes"):
        inspect.unwrap(product)(normal(2, 3).float(), normal(2, 3).float(), "bf16")
    assert SETTING.fp32_precision == before
