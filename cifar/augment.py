"""Random augmentation of whole batches, on the device they are on, distributed as torchvision's of single images."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


@dataclass(frozen=True)
class Augment:
    """Random changes of images, drawn anew for every image from torch's global generator.

    color_jitter: brightness, contrast and saturation are each multiplied by a factor from 1 - x to 1 + x, in a random
    order (torchvision's ColorJitter). translate: shifts by up to so many pixels each way, blank pixels coming in
    (RandomCrop with padding). flip: mirrors every second image on average (RandomHorizontalFlip); "alternating" leaves
    it to the caller which. cutout: side of a square around a uniformly drawn centre that is set to `fill`, a value a
    channel (DeVries and Taylor, 2017; arXiv:1708.04552). Nothing here waits for the device.
    """

    translate: int = 0
    flip: bool | Literal["alternating"] = False
    cutout: int = 0
    color_jitter: float = 0.0
    fill: tuple[int, ...] = (0,)

    def __call__(self, images: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """images: (batch, channels, height, width) uint8, returned in the same shape, channels last in memory.

        mirrored: (batch,) bool, which images to mirror where that is not left to chance.
        """
        pixels = images.permute(0, 2, 3, 1).contiguous()
        if self.color_jitter:
            pixels = self._jittered(pixels)
        if mirrored is None and self.flip is True:
            mirrored = torch.rand(len(pixels), device=pixels.device) < 0.5
        if self.translate or mirrored is not None:
            pixels = self._moved(pixels, mirrored)
        if self.cutout:
            pixels = self._cut(pixels)
        return pixels.permute(0, 3, 1, 2)

    @property
    def has_views(self) -> bool:
        """Whether test-time augmentation would change anything."""
        return bool(self.flip or self.translate)

    def views(self, images: Tensor) -> list[tuple[Tensor, float]]:
        """Images as they are, and as training may have shown them: mirrored, shifted by a pixel. With weights, sum 1.

        For test-time augmentation as in Jordan, 2024 (arXiv:2404.00498): half of the weight is of those not shifted.
        Images as they are alone, if training neither mirrored nor shifted. Edges are repeated where a shift bares them.
        """
        views = [(images, 1.0)]
        if self.translate:
            views = [(images, 0.5), (_shifted(images, 1, 1), 0.25), (_shifted(images, -1, -1), 0.25)]
        if self.flip:
            views = [(side, weight / 2) for view, weight in views for side in (view, view.flip(3))]
        return views

    def _jittered(self, pixels: Tensor) -> Tensor:
        """Each of the three blends an image with something else: with black, its mean grey, or its grey picture."""
        (batch, *_, channels), device, reach = pixels.shape, pixels.device, self.color_jitter
        kinds = torch.rand(batch, 3, device=device).argsort(1)
        shares = torch.empty(3, batch, 1, 1, 1, device=device).uniform_(max(0.0, 1 - reach), 1 + reach)
        luma = torch.tensor(_LUMA, device=device) if channels == 3 else None
        for kind, share in zip(kinds.T.reshape(3, batch, 1, 1, 1), shares, strict=True):
            values = pixels.float()
            grey = values if luma is None else (values * luma).sum(3, keepdim=True).trunc()
            other = torch.where(kind == 1, grey.mean((1, 2, 3), keepdim=True), torch.where(kind == 2, grey, 0.0))
            blend = (share * values + (1 - share) * other).clamp(0, 255).byte()
            pixels = blend if luma is not None else torch.where(kind == 2, pixels, blend)  # grey stays as grey as it is
        return pixels

    def _moved(self, pixels: Tensor, mirrored: Tensor | None) -> Tensor:
        """Every image's window is cut from a larger blank picture that holds the image, or its mirror image."""
        (batch, height, width, channels), device, reach = pixels.shape, pixels.device, self.translate
        sides = [pixels] if mirrored is None else [pixels, pixels.flip(2)]
        row, rows = (width + 2 * reach) * channels, height + 2 * reach
        larger = pixels.new_zeros(len(sides), batch, rows, row)
        for side, place in zip(sides, larger, strict=True):
            inside = place[:, reach : reach + height, reach * channels : (reach + width) * channels]
            inside.copy_(side.view(batch, height, width * channels))
        offsets = 2 * reach + 1
        windows = larger.as_strided(
            (len(sides), batch, offsets, offsets, height, width * channels),
            (batch * rows * row, rows * row, row, channels, row, 1),
        )
        down, right = torch.randint(offsets, (2, batch), device=device)
        side = torch.zeros_like(down) if mirrored is None else mirrored.long()
        moved = windows[side, torch.arange(batch, device=device), down, right]
        return moved.view(batch, height, width, channels)

    def _cut(self, pixels: Tensor) -> Tensor:
        (batch, height, width, channels), device = pixels.shape, pixels.device
        top = torch.randint(height, (batch, 1), device=device) - self.cutout // 2
        left = torch.randint(width, (batch, 1), device=device) - self.cutout // 2
        row, column = torch.arange(height, device=device), torch.arange(width, device=device)
        in_rows = (row >= top) & (row < top + self.cutout)
        in_columns = ((column >= left) & (column < left + self.cutout)).repeat_interleave(channels, 1)
        fill = torch.tensor(self.fill, dtype=torch.uint8, device=device).repeat(width)
        inside = in_rows[:, :, None] & in_columns[:, None, :]
        return torch.where(inside, fill, pixels.view(batch, height, width * channels)).view_as(pixels)


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """(batch, channels, height, width), moved by pixels, with edges repeated."""
    rows, columns = (torch.arange(length, device=images.device) for length in images.shape[2:])
    rows, columns = (rows - down).clamp(0, len(rows) - 1), (columns - right).clamp(0, len(columns) - 1)
    return images[:, :, rows][:, :, :, columns]
