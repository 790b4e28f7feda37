import math
import pickle

import lightning as L
import numpy as np
import pytest
import torch

from cifar import callbacks
from cifar.callbacks import EndAfter, KeepValues, StopAtNonFinite, TellEpochs, draw_predictions
from cifar.classifier import ImageClassifier
from cifar.config import TrainerConfig
from cifar.errors import DivergedError
from cifar.train import fit, go_on, make_classifier

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


@pytest.mark.parametrize(("height", "width", "inside"), [(8, 4, (64, 32)), (48, 64, (48, 64)), (4, 1024, (1, 64))])
def test_an_image_that_is_not_square_is_drawn_undistorted(height, width, inside):
    image = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    tile = np.asarray(draw_predictions(image, [0], [0], CLASSES))[2:66, 2:66].sum(2)
    black = np.zeros((64, 64), dtype=bool)
    black[: inside[0], : inside[1]] = True
    assert np.array_equal(tile == 0, black)


@pytest.mark.parametrize(("predicted", "colour"), [(1, "green"), (0, "red")])
def test_the_prediction_is_green_where_right_and_red_where_wrong(predicted, colour):
    picture = draw_predictions(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), [predicted], [1], CLASSES)
    red, green, _ = np.asarray(picture)[66:].astype(int).transpose(2, 0, 1)
    # Black and white text and ground have their channels equal.
    tint = {"green": (green > red + 60).any(), "red": (red > green + 60).any()}
    assert [name for name in tint if tint[name]] == [colour]


class Happened(L.Callback):
    """What was done, in order: the number of each step, "validated", "saved"."""

    def __init__(self):
        self.order = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.order.append(trainer.global_step + 1)

    def on_validation_start(self, trainer, pl_module):
        self.order.append("validated")

    def on_train_epoch_end(self, trainer, pl_module):
        self.order.append("saved")


@pytest.fixture
def spoil(monkeypatch):
    """Makes `change(loss, module)` of the loss of one step, counted from 1."""

    def spoil_at(step, change):
        whole = ImageClassifier.training_step

        def training_step(self, batch, batch_idx):
            loss = whole(self, batch, batch_idx)
            return change(loss, self) if self.trainer.global_step + 1 == step else loss

        monkeypatch.setattr(ImageClassifier, "training_step", training_step)

    return spoil_at


def diverged(make_data, hparams, **options):
    """How a training of four steps an epoch diverges: the error, and what had happened."""
    happened = Happened()
    with pytest.raises(DivergedError) as caught:
        fit(hparams, make_data(), CPU, max_epochs=3, seed=0, callbacks=[happened], **options)
    return caught.value, happened.order


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_loss_that_is_no_number_ends_the_training_at_its_step(step, value, make_data, tiny, spoil):
    spoil(step, lambda loss, _: loss * 0 + value)
    error, order = diverged(make_data, tiny)
    assert (error.epoch, error.step) == (1, step)
    assert error.value == value or (math.isnan(error.value) and math.isnan(value))
    assert str(error) == f"train_loss was {value} at epoch 1, step {step}"
    assert order == list(range(1, step + 1))


def test_steps_are_counted_over_all_epochs(make_data, tiny, spoil):
    spoil(6, lambda loss, _: loss * math.nan)
    error, order = diverged(make_data, tiny)
    assert (error.epoch, error.step) == (2, 6)
    assert order == [1, 2, 3, 4, "validated", "saved", 5, 6]


@pytest.mark.parametrize(("lag", "last"), [(1, 3), (2, 4), (99, 4)])
def test_a_late_copy_names_the_right_step_and_comes_before_validation(lag, last, make_data, tiny, spoil, monkeypatch):
    """As a GPU's, which are looked at when they have come."""
    taken = []

    class Late(callbacks._Loss):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            taken.append(self)

        def has_come(self):
            return len(taken) - taken.index(self) > lag

    monkeypatch.setattr(callbacks, "_Loss", Late)
    spoil(2, lambda loss, _: loss * math.nan)
    error, order = diverged(make_data, tiny)
    assert (error.epoch, error.step) == (1, 2)
    assert order == list(range(1, last + 1))


def test_weights_that_the_last_step_spoilt_are_neither_validated_nor_saved(make_data, tiny, spoil):
    def root_of_nought(loss, module):
        return loss + (next(module.network.parameters()).sum() * 0).sqrt()  # its slope is infinite

    spoil(4, root_of_nought)
    error, order = diverged(make_data, tiny)
    assert str(error) == "a weight was nan at epoch 1, step 4"
    assert order == [1, 2, 3, 4]


def test_averaging_is_guarded_too(make_data, tiny, spoil):
    model = make_classifier(tiny, make_data())
    spoil(3, lambda loss, _: loss * math.inf)
    with pytest.raises(DivergedError, match="train_loss was inf at epoch 1, step 3"):
        go_on(model, make_data(), CPU, epochs=2, learning_rate=0.01, lr_schedule="constant", seed=0)["swa"]


@pytest.mark.parametrize(("fast_dev_run", "step"), [(True, 1), (2, 2)])
def test_a_fast_dev_run_is_guarded_too(fast_dev_run, step, make_data, tiny, spoil):
    spoil(step, lambda loss, _: loss * math.nan)
    config = CPU.model_copy(update={"fast_dev_run": fast_dev_run})
    with pytest.raises(DivergedError, match=f"epoch 1, step {step}"):
        fit(tiny, make_data(), config, max_epochs=3, seed=0)


def test_the_guard_changes_nothing_of_a_finite_training(make_data, tiny, monkeypatch):
    guarded = fit(tiny, make_data(), CPU, max_epochs=2, seed=0).state_dict()
    monkeypatch.setattr(StopAtNonFinite, "on_train_batch_end", L.Callback.on_train_batch_end)
    bare = fit(tiny, make_data(), CPU, max_epochs=2, seed=0).state_dict()
    assert all(torch.equal(guarded[name], bare[name]) for name in bare)


def test_divergence_survives_its_way_between_processes():
    error = pickle.loads(pickle.dumps(DivergedError(3, 412, math.inf)))
    assert (error.epoch, error.step, error.value) == (3, 412, math.inf)
    assert str(error) == "train_loss was inf at epoch 3, step 412"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_gpu_is_not_waited_for():
    loss = torch.tensor(math.nan, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(10**8)
        coming = callbacks._Loss(loss, 1, 2)
        assert not coming.has_come()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(DivergedError, match="train_loss was nan at epoch 1, step 2"):
        coming.check()
    assert coming.has_come()


def test_what_a_training_logs_is_kept_epoch_by_epoch(make_data, tiny):
    keep = KeepValues()
    fit(tiny, make_data(), CPU, max_epochs=2, seed=0, callbacks=[keep])
    assert list(keep.values) == [1, 2]
    assert set(keep.values[1]) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert keep.not_finite() == ""
    keep.values[2]["val_loss"] = math.inf
    assert keep.not_finite() == "val_loss was inf at epoch 2"


def test_a_training_that_ends_early_is_the_beginning_of_the_whole_one(make_data, tiny):
    whole, begun = KeepValues(), KeepValues()
    fit(tiny, make_data(), CPU, max_epochs=3, seed=0, callbacks=[whole])
    fit(tiny, make_data(), CPU, max_epochs=3, seed=0, callbacks=[begun, EndAfter(2)])
    assert begun.values == {epoch: whole.values[epoch] for epoch in (1, 2)}
