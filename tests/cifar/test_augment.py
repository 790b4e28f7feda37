from collections import Counter
from math import prod

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2_contingency, chisquare, ks_2samp
from torchvision.transforms import ColorJitter, RandomCrop
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation

from cifar.augment import Augment

SIZE, REACH = 9, 2


def marked(count):
    """Images with a single bright pixel in the middle, which no shift moves out."""
    images = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    images[:, :, SIZE // 2, SIZE // 2] = 255
    return images


def places(images):
    """How often the bright pixel is at (row, column)."""
    assert (images == 255).flatten(1).sum(1).eq(1).all()
    return Counter(divmod(place, SIZE) for place in images.flatten(1).argmax(1).tolist())


@pytest.mark.parametrize("shape", [(8, 8), (4, 9)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{"translate": 2}, {"flip": True}, {"cutout": 3}, {"color_jitter": 0.5}, {}])
def test_shape_type_and_input_are_kept(channels, options, shape):
    images = torch.randint(256, (5, channels, *shape), dtype=torch.uint8)
    before = images.clone()
    result = Augment(**options, fill=(7,) * channels)(images)
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_nothing_asked_for_changes_nothing():
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(Augment()(images), images)


def test_drawn_from_torch_s_generator():
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    augment = Augment(translate=2, flip=True, cutout=3, color_jitter=0.3, fill=(1, 2, 3))
    torch.manual_seed(1)
    first, second = augment(images), augment(images)
    torch.manual_seed(1)
    assert torch.equal(augment(images), first)
    assert not torch.equal(first, second)


def test_every_shift_is_equally_likely():
    torch.manual_seed(0)
    found = places(Augment(translate=REACH)(marked(5000)))
    middle = range(SIZE // 2 - REACH, SIZE // 2 + REACH + 1)
    assert set(found) == {(row, column) for row in middle for column in middle}
    assert chisquare(list(found.values())).pvalue > 0.01


def test_shifts_are_distributed_as_torchvision_s_random_crop():
    torch.manual_seed(0)
    crop = RandomCrop(SIZE, padding=REACH)
    theirs = places(torch.stack([crop(image) for image in marked(2000)]))
    ours = places(Augment(translate=REACH)(marked(2000)))
    assert set(ours) == set(theirs)
    table = [[counts[place] for place in sorted(ours)] for counts in (ours, theirs)]
    assert chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4)])
def test_a_shift_brings_in_blank_pixels_as_torchvision_s_does(shape):
    torch.manual_seed(0)
    image = torch.randint(1, 256, (3, *shape), dtype=torch.uint8)
    crop = RandomCrop(shape, padding=1)
    theirs = {crop(image).numpy().tobytes() for _ in range(300)}
    ours = {moved.numpy().tobytes() for moved in Augment(translate=1)(image.expand(300, -1, -1, -1))}
    assert len(ours) == 9
    assert ours == theirs


@pytest.mark.parametrize("shape", [(6, 6), (4, 7)])
def test_half_of_the_images_are_mirrored(shape):
    torch.manual_seed(0)
    images = torch.randint(256, (1, 3, *shape), dtype=torch.uint8).expand(2000, -1, -1, -1)
    flipped = Augment(flip=True)(images)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert binomtest(int(mirrored.sum()), 2000, 0.5).pvalue > 0.01


def test_flip_and_shift_are_independent():
    torch.manual_seed(0)
    images = torch.zeros(6000, 1, SIZE, SIZE, dtype=torch.uint8)
    images[:, :, 4, 4], images[:, :, 4, 5] = 255, 100  # the second tells which way round the image is
    moved = Augment(translate=1, flip=True)(images)
    rows, columns = np.divmod(moved.flatten(1).argmax(1).numpy(), SIZE)
    partner = (moved == 100).flatten(1).int().argmax(1).numpy() % SIZE
    found = Counter(zip(rows.tolist(), columns.tolist(), (partner > columns).tolist(), strict=True))
    assert len(found) == 18
    assert chisquare(list(found.values())).pvalue > 0.01


@pytest.mark.parametrize("shape", [(8, 8), (5, 12)])
@pytest.mark.parametrize("cutout", [3, 4])
def test_cutout_s_centre_is_uniform_and_its_square_clipped(cutout, shape):
    torch.manual_seed(0)
    count = 6400
    blank = Augment(cutout=cutout)(torch.ones(count, 1, *shape, dtype=torch.uint8))[:, 0] == 0
    areas = blank.flatten(1).sum(1)
    heights, widths = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(areas, heights * widths)  # one rectangle

    def spans(side):
        starts = [centre - cutout // 2 for centre in range(side)]
        return [len(set(range(start, start + cutout)) & set(range(side))) for start in starts]

    share = Counter(height * width for height in spans(shape[0]) for width in spans(shape[1]))
    found = Counter(areas.tolist())
    assert set(found) == set(share)
    expected = [share[area] / prod(shape) * count for area in sorted(share)]
    assert chisquare([found[area] for area in sorted(share)], expected).pvalue > 0.01


def test_cutout_is_filled_channel_by_channel_and_leaves_the_rest():
    torch.manual_seed(0)
    images = torch.randint(100, 256, (50, 3, 8, 8), dtype=torch.uint8)
    cut = Augment(cutout=4, fill=(10, 20, 30))(images)
    inside = cut[:, 0] == 10
    assert inside.flatten(1).any(1).all()
    for channel, fill in enumerate((10, 20, 30)):
        assert (cut[:, channel][inside] == fill).all()
        assert torch.equal(cut[:, channel][~inside], images[:, channel][~inside])


def test_what_is_mirrored_can_be_said():
    images = torch.randint(256, (4, 3, 6, 6), dtype=torch.uint8)
    mirrored = Augment()(images, torch.tensor([True, False, False, True]))
    assert torch.equal(mirrored, torch.stack([images[0].flip(2), images[1], images[2], images[3].flip(2)]))


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter_changes_images_as_torchvision_s_does(channels):
    images = torch.randint(256, (30, channels, 8, 8), dtype=torch.uint8)
    torch.manual_seed(0)
    orders, factors = torch.rand(30, 3).argsort(1).tolist(), torch.empty(3, 30).uniform_(0.5, 1.5).T.tolist()
    changes = [adjust_brightness, adjust_contrast, adjust_saturation]
    theirs = []
    for image, order, shares in zip(images, orders, factors, strict=True):
        for kind, share in zip(order, shares, strict=True):
            image = changes[kind](image, share)
        theirs.append(image)
    torch.manual_seed(0)
    difference = Augment(color_jitter=0.5)(images).int() - torch.stack(theirs).int()
    assert difference.abs().max() <= 1  # where a product is rounded the other way
    assert (difference == 0).float().mean() > 0.98


def test_jittered_colours_are_distributed_as_torchvision_s():
    torch.manual_seed(0)
    image = torch.randint(256, (3, 6, 6), dtype=torch.uint8)
    jitter = ColorJitter(0.4, 0.4, 0.4)
    theirs = torch.stack([jitter(image) for _ in range(1500)]).float()
    ours = Augment(color_jitter=0.4)(image.expand(1500, -1, -1, -1)).float()
    for measured in (lambda x: x.mean((1, 2, 3)), lambda x: x.std((1, 2, 3)), lambda x: x.std(1).mean((1, 2))):
        assert ks_2samp(measured(ours).numpy(), measured(theirs).numpy()).pvalue > 0.01
