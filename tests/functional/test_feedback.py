import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.functional.convolution import Geometry
from infohebb.functional.feedback import random_feedback, send_down, sign_feedback


def test_the_weight_itself_sends_down_what_autograd_does():
    x, weight = normal(5, 4).requires_grad_(), normal(3, 4, seed=1)
    error = normal(5, 3, seed=2)
    (x @ weight.T).backward(error)
    assert_close(send_down(error, weight, None, x.shape), x.grad, 1e-13)


def test_a_map_sends_down_by_the_transposed_convolution():
    geometry = Geometry((3, 3), (1, 1), (1, 1))
    x, weight = normal(2, 3, 4, 5).requires_grad_(), normal(6, 3, 3, 3, seed=1)
    drive = torch.conv2d(x, weight, None, 1, 1)
    error = normal(*drive.shape, seed=2)
    drive.backward(error)
    assert_close(send_down(error, weight, geometry, x.shape), x.grad, 1e-13)


def test_what_a_flattened_map_gave_goes_back_to_the_map():
    error, feedback = normal(5, 3), normal(3, 24, seed=1)
    got = send_down(error, feedback, None, torch.Size((5, 4, 3, 2)))
    assert torch.equal(got.flatten(1), error @ feedback)


@pytest.mark.parametrize(("shape", "bound"), [((200, 16), 0.25), ((50, 4, 3, 3), 1 / 6)])
def test_random_feedback_is_drawn_as_pytorch_draws_weights(shape, bound):
    torch.manual_seed(0)
    feedback = random_feedback(*shape, like=normal(1))
    assert feedback.shape == shape
    assert feedback.dtype == torch.float64
    assert 0.98 * bound < feedback.abs().max() <= bound
    assert abs(feedback.var() / (bound**2 / 3) - 1) < 0.1


def test_signs_have_size_one_and_zero_has_none():
    assert torch.equal(sign_feedback(torch.tensor([[-0.1, 0.0, 7.0]])), torch.tensor([[-1.0, 0.0, 1.0]]))
