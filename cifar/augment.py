"""Random augmentation of whole batches, on the device they are on."""

import torch
from torch import Tensor, nn


class Augment(nn.Module):
    """Random shift, horizontal flip and cutout, drawn anew for every image from torch's global generator.

    translate: shifts by up to so many pixels each way, blank pixels coming in (torchvision's RandomCrop with padding).
    flip: mirrors every second image on average. cutout: side of a square around a uniformly drawn centre that is set
    to `fill` (DeVries and Taylor, 2017; arXiv:1708.04552).
    """

    def __init__(self, translate: int = 0, flip: bool = False, cutout: int = 0, fill: tuple[int, ...] = (0,)) -> None:
        super().__init__()
        self.translate, self.flip, self.cutout = translate, flip, cutout
        self.fill: Tensor
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.uint8), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) uint8, returned in the same shape."""
        if self.translate or self.flip:
            images = self._moved(images)
        if self.cutout:
            images = self._cut(images)
        return images

    def _moved(self, images: Tensor) -> Tensor:
        """Shift and flip as one gather: each output pixel is fetched from where it comes from."""
        (batch, channels, height, width), device = images.shape, images.device
        reach = self.translate
        rows = torch.arange(height, device=device).expand(batch, height)
        columns = torch.arange(width, device=device).expand(batch, width)
        if reach:
            images = nn.functional.pad(images, (reach,) * 4)
            rows = rows + torch.randint(2 * reach + 1, (batch, 1), device=device)
            columns = columns + torch.randint(2 * reach + 1, (batch, 1), device=device)
        if self.flip:
            mirrored = torch.rand(batch, 1, device=device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        return images[
            torch.arange(batch, device=device)[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]

    def _cut(self, images: Tensor) -> Tensor:
        (batch, _, height, width), device = images.shape, images.device
        top = torch.randint(height, (batch, 1), device=device) - self.cutout // 2
        left = torch.randint(width, (batch, 1), device=device) - self.cutout // 2
        row, column = torch.arange(height, device=device), torch.arange(width, device=device)
        in_rows = (row >= top) & (row < top + self.cutout)
        in_columns = (column >= left) & (column < left + self.cutout)
        inside = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        return torch.where(inside, self.fill.view(1, -1, 1, 1), images)
