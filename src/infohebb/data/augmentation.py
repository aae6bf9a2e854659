"""What happens to a batch of stored images before a network sees it: all of the batch at once, where it lives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn.functional import pad

from infohebb.errors import MismatchError


def random_crop_and_flip(images: Shaped[Tensor, "m c h w"], padding: int = 4) -> Shaped[Tensor, "m c h w"]:
    """Shift each image by up to `padding` pixels in each direction, zeros moving in, and mirror every other one.

    Places and flips are drawn on the CPU from torch's global generator, so that a seed gives the same images on every
    device; the type stays (uint8 or floating).
    """
    m = len(images)
    corners = torch.randint(2 * padding + 1, (2, m)).to(images.device, non_blocking=True)
    flips = torch.randint(2, (m,)).to(images.device, non_blocking=True).bool()
    return crop_and_flip(images, corners, flips, padding)


def crop_and_flip(
    images: Shaped[Tensor, "m c h w"], corners: Int64[Tensor, "2 m"], flips: Bool[Tensor, "m"], padding: int
) -> Shaped[Tensor, "m c h w"]:
    """From each image, padded by `padding` zeros, the h × w window at its (top, left) corner, mirrored if it flips."""
    m, c, h, w = images.shape
    padded = pad(images, (padding, padding, padding, padding))
    steps = torch.arange(w, device=images.device)
    columns = corners[1, :, None] + torch.where(flips[:, None], steps.flip(0), steps)
    rows = corners[0, :, None] + torch.arange(h, device=images.device)
    pixels = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    return padded.flatten(2).gather(2, pixels.view(m, 1, h * w).expand(m, c, h * w)).view(m, c, h, w)


@dataclass(frozen=True)
class NormaliseImages:
    """Images of values 0 .. 255 to v * scale + shift, per channel; float64 images stay float64, others are float32."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def __call__(self, images: Shaped[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Scaled and shifted, in a tensor of its own; MismatchError for another number of channels."""
        if images.shape[1] != len(self.scale):
            raise MismatchError(f"images have {images.shape[1]} channels, the normalisation {len(self.scale)}")
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        scale, shift = _per_channel(self.scale, dtype, images.device), _per_channel(self.shift, dtype, images.device)
        return images.to(dtype, copy=True).mul_(scale).add_(shift)


def normalise_images(mean: Sequence[float], std: Sequence[float]) -> NormaliseImages:
    """The function (v / 255 - mean) / std on raw images (m, c, h, w), with one mean and std per channel."""
    pairs = list(zip(mean, std, strict=True))
    return NormaliseImages(tuple(1 / (255 * s) for _, s in pairs), tuple(-m / s for m, s in pairs))


@lru_cache(maxsize=64)  # otherwise each batch waits for the transfer of six numbers
def _per_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "c 1 1"]:
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
