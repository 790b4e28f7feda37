import math

import lightning as L
import pytest
import torch

from cifar.config import TrainerConfig
from cifar.errors import UserError
from cifar.hparams import HParams
from cifar.train import fit, go_on, load, save

PLAIN = TrainerConfig(accelerator="cpu")
COMPILED = TrainerConfig(accelerator="cpu", compile=True)

pytestmark = [
    pytest.mark.slow,
    # Dynamo's and Inductor's own
    pytest.mark.filterwarnings("default"),
]


class Metrics(L.Callback):
    """Keeps each epoch's."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.fixture
def trained(make_data):
    def train(config, hparams):
        metrics = Metrics()
        model = fit(hparams, make_data(hparams.batch_size), config, max_epochs=2, seed=1, callbacks=[metrics])
        return model, metrics.epochs

    return train


SMALL = HParams(network="cnn", width=0.1, learning_rate=0.05, batch_size=40)
OTHER = HParams(network="cnn", width=0.2, learning_rate=0.05, batch_size=40)


def test_a_compiled_network_trains_as_the_plain_one_and_is_compiled_once(trained):
    _, plain = trained(PLAIN, SMALL)
    _, first = trained(COMPILED, SMALL)
    _, again = trained(COMPILED, SMALL)
    assert first[0]["compile_seconds"] > 0
    assert [epoch["compile_seconds"] for epoch in again] == [0.0, 0.0]
    for epoch, one, other in zip(plain, first, again, strict=True):
        assert "compile_seconds" not in epoch
        assert math.isclose(one["train_loss"], epoch["train_loss"], rel_tol=1e-3)
        assert math.isclose(other["val_loss"], epoch["val_loss"], rel_tol=1e-3)


def test_what_was_trained_compiled_is_averaged_saved_and_loaded_as_any_model(trained, make_data, tmp_path):
    model, _ = trained(COMPILED, SMALL)
    averaged = go_on(model, make_data(), COMPILED, epochs=1, learning_rate=0.01, lr_schedule="constant", seed=2)["swa"]
    save(averaged, tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt").eval()
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), averaged.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_compiled_is_the_users_to_repair(trained, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    torch.compiler.reset()
    with pytest.raises(UserError, match=r"trainer.compile: the network cannot be compiled here: .+compile=false"):
        trained(COMPILED, OTHER)
