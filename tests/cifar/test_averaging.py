import copy

import lightning as L
import pytest
import torch
from torch.optim.swa_utils import update_bn

from cifar.averaging import HORIZON
from cifar.config import TrainerConfig
from cifar.hparams import HParams
from cifar.train import fit, go_on, validate

CPU = TrainerConfig(accelerator="cpu")


class Weights(L.Callback):
    """Keeps them before the first step, after each, and after each epoch."""

    def __init__(self):
        self.steps, self.epochs, self.modes = [], [], []

    @staticmethod
    def of(module):
        return [parameter.detach().clone() for parameter in module.parameters()]

    def on_train_start(self, trainer, pl_module):
        self.steps.append(self.of(pl_module))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(self.of(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(self.of(pl_module))
        self.modes.append(copy.deepcopy(pl_module.state_dict()))


@pytest.fixture
def model(make_data):
    hparams = HParams(network="resnet9", width=1 / 32, learning_rate=0.05, batch_size=40)
    return fit(hparams, make_data(), CPU, max_epochs=1, seed=1)


def tail(model, data, **options):
    kept = Weights()
    settings = {"epochs": 3, "learning_rate": 0.02, "lr_schedule": "constant", "seed": 5, **options}
    return go_on(model, data, CPU, callbacks=[kept], **settings), kept


def close(model, weights, **tolerances):
    for parameter, expected in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.data, expected, **tolerances)


def test_one_training_gives_its_last_weights_and_two_averages(model, make_data):
    models, kept = tail(model, make_data())
    close(models["raw"], kept.steps[-1], rtol=0, atol=0)
    close(models["swa"], [torch.stack(each).mean(0) for each in zip(*kept.epochs, strict=True)])
    assert len(kept.steps) == 13, "3 epochs of 4 steps"
    decay = 1 - 1 / max(2, HORIZON * 12)
    expected = kept.steps[0]
    for weights in kept.steps[1:]:
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights, strict=True)]
    close(models["ema"], expected)


def test_the_averages_have_statistics_of_their_own_and_raw_keeps_its(model, make_data):
    data = make_data(160)  # one batch, so that its order does not matter
    models, kept = tail(model, data)
    names = [name for name in kept.modes[-1] if name.endswith(("running_mean", "running_var"))]
    assert names
    for name in names:
        assert torch.equal(models["raw"].state_dict()[name], kept.modes[-1][name])
    for average in ("swa", "ema"):
        expected = copy.deepcopy(models[average])
        update_bn([images for images, _ in data.training_batches()], expected)
        for name in names:
            torch.testing.assert_close(models[average].state_dict()[name], expected.state_dict()[name])


def test_each_of_the_three_is_a_model_of_its_own(model, make_data):
    models, _ = tail(model, make_data(), epochs=6)
    losses = {name: validate(each, make_data(), CPU)["val_loss"] for name, each in models.items()}
    assert set(losses) == {"raw", "swa", "ema"}
    assert len(set(losses.values())) == 3
    assert all(0 < loss < 2.3 for loss in losses.values()), "better than chance, ln 10"


def test_a_cosine_tail_ends_where_it_hardly_moves(model, make_data):
    _, constant = tail(model, make_data(), epochs=4)
    _, cosine = tail(model, make_data(), epochs=4, lr_schedule="cosine")

    def last_step(kept):
        return sum((a - b).norm() ** 2 for a, b in zip(kept.steps[-1], kept.steps[-2], strict=True)).sqrt()

    assert last_step(cosine) < 0.1 * last_step(constant)


def test_a_tail_repeats_to_the_last_digit_and_another_seed_does_not(model, make_data):
    first, again = tail(model, make_data())[0], tail(model, make_data())[0]
    other = tail(model, make_data(), seed=6)[0]
    for name in ("raw", "swa", "ema"):
        close(first[name], list(again[name].parameters()), rtol=0, atol=0)
        assert not torch.equal(next(first[name].parameters()), next(other[name].parameters()))


def test_tails_leave_the_model_that_they_start_from_alone(model, make_data):
    before = copy.deepcopy(model.state_dict())
    tail(model, make_data())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
