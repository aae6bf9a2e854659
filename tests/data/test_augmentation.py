import pickle

import pytest
import torch

from infohebb.data import normalise_images, random_crop_and_flip
from infohebb.errors import MismatchError


def slow_crop_and_flip(images, corners, flips, padding):
    m, c, h, w = images.shape
    result = torch.zeros_like(images)
    for i in range(m):
        padded = torch.zeros(c, h + 2 * padding, w + 2 * padding, dtype=images.dtype)
        padded[:, padding : padding + h, padding : padding + w] = images[i]
        top, left = corners[:, i].tolist()
        window = padded[:, top : top + h, left : left + w]
        result[i] = window.flip(2) if flips[i] else window
    return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "padding"), [((40, 3, 32, 32), 4), ((20, 1, 6, 9), 2), ((1, 2, 5, 3), 0)])
def test_crop_and_flip_is_the_loop_over_images(dtype, shape, padding):
    images = torch.randint(1, 256, shape).to(dtype)
    before = images.clone()
    torch.manual_seed(3)
    corners, flips = torch.randint(2 * padding + 1, (2, shape[0])), torch.randint(2, (shape[0],))
    torch.manual_seed(3)
    result = random_crop_and_flip(images, padding)
    assert result.dtype == dtype
    assert torch.equal(result, slow_crop_and_flip(images, corners, flips, padding))
    assert torch.equal(images, before)


def test_every_place_and_both_orientations_are_equally_likely():
    torch.manual_seed(0)
    samples = 20_000
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 3], image[0, 0, 4, 5] = 1, 2
    result = random_crop_and_flip(image.expand(samples, 1, 9, 9), padding=1)
    left, right = (result[:, 0] == 1).nonzero(), (result[:, 0] == 2).nonzero()
    assert len(left) == len(right) == samples
    flipped = left[:, 2] > right[:, 2]
    places = torch.bincount(3 * (left[:, 1] - 3) + (left[:, 2] + right[:, 2]) // 2 - 3, minlength=9)
    assert abs(flipped.float().mean() - 0.5) < 5 * 0.5 / samples**0.5
    assert (places / samples - 1 / 9).abs().max() < 5 * (8 / 81 / samples) ** 0.5


def test_normalise_is_the_formula_in_float64():
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    by_hand = torch.stack([(images[:, i].double() / 255 - mean[i]) / std[i] for i in range(3)], dim=1)
    normalise = normalise_images(mean, std)
    assert normalise(images).dtype == torch.float32
    torch.testing.assert_close(normalise(images).double(), by_hand, rtol=0, atol=1e-6)
    torch.testing.assert_close(normalise(images.double()), by_hand, rtol=0, atol=1e-14)


def test_normalise_leaves_its_argument_alone_and_survives_pickling():
    normalise = normalise_images((0.5,), (0.5,))
    images = torch.tensor([0.0, 255.0]).view(1, 1, 1, 2)
    copy = pickle.loads(pickle.dumps(normalise))  # noqa: S301 (worker processes do this)
    assert copy == normalise
    assert copy(images).flatten().tolist() == [-1, 1]
    assert images.flatten().tolist() == [0, 255]


def test_normalise_refuses_other_channels():
    with pytest.raises(MismatchError, match="images have 3 channels, the normalisation 1"):
        normalise_images((0.5,), (0.5,))(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="shorter"):
        normalise_images((0.5, 0.5), (0.5,))
