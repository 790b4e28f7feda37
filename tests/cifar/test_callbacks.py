import lightning as L
import numpy as np
import pytest
import torch

from cifar.callbacks import TellEpochs, draw_predictions
from cifar.config import TrainerConfig
from cifar.train import fit

CPU = TrainerConfig(accelerator="cpu")
CLASSES = ["ant", "a very long name of a bee"]


class Seeds(L.Callback):
    """Keeps the state of torch's generator as each epoch finds it."""

    def __init__(self):
        self.found = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.found.append(torch.initial_seed())


def seeds(make_data, hparams, seed):
    kept = Seeds()
    fit(hparams, make_data(160), CPU, max_epochs=3, seed=seed, callbacks=[kept])
    return kept.found


def test_every_epoch_of_every_seed_has_its_own_seed(make_data, tiny):
    first, second = seeds(make_data, tiny, 0), seeds(make_data, tiny, 1)
    assert len({*first, *second}) == 6
    assert seeds(make_data, tiny, 0) == first


def test_a_large_seed_stays_within_what_torch_takes(make_data, tiny):
    assert all(0 <= found < 2**63 for found in seeds(make_data, tiny, 2**32 - 1))


def test_each_epoch_is_told_in_a_line(make_data, tiny):
    said = []
    fit(tiny, make_data(), CPU, max_epochs=2, seed=0, callbacks=[TellEpochs("retraining", said.append)])
    start, losses = zip(*(line.rsplit(" ", 1) for line in said), strict=True)
    assert start == ("retraining: epoch 1/2, train_loss", "retraining: epoch 2/2, train_loss")
    assert all(float(loss) > 0 for loss in losses)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (8, 8, 1), (9, 8, 2), (17, 8, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_predictions_are_drawn_eight_a_row(count, columns, rows, channels):
    images = torch.zeros(count, channels, 8, 8, dtype=torch.uint8)
    picture = draw_predictions(images, [0] * count, [1] * count, CLASSES)
    assert (picture.mode, picture.size) == ("RGB", (columns * 68, rows * 92))


def test_colours_of_an_image_are_kept():
    image = torch.tensor([200, 100, 50], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 8, 8)
    tile = np.asarray(draw_predictions(image, [0], [0], CLASSES))[2:66, 2:66]
    assert (tile == [200, 100, 50]).all()


@pytest.mark.parametrize(("predicted", "colour"), [(1, "green"), (0, "red")])
def test_the_prediction_is_green_where_right_and_red_where_wrong(predicted, colour):
    picture = draw_predictions(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), [predicted], [1], CLASSES)
    red, green, _ = np.asarray(picture)[66:].astype(int).transpose(2, 0, 1)
    # Black and white text and ground have their channels equal.
    tint = {"green": (green > red + 60).any(), "red": (red > green + 60).any()}
    assert [name for name in tint if tint[name]] == [colour]
