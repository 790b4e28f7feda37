import copy
import io
import math
from typing import get_args

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import update_bn

from cifar import train
from cifar.config import DataConfig, EarlyStopping, TrainerConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams, LRSchedule, Optimizer
from cifar.sources import load_training
from cifar.train import fit, go_on, load, make_classifier, save, validate

CPU = TrainerConfig(accelerator="cpu", log_every_n_steps=1)


class Epochs(L.Callback):
    """Keeps what a training was like after each epoch."""

    def __init__(self, checkpoints=None):
        self.states, self.metrics, self.steps = [], [], 0
        self.checkpoints = checkpoints

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        if self.checkpoints is not None:
            trainer.save_checkpoint(self.checkpoints / f"{trainer.current_epoch}.ckpt")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def digits_model(make_data, hparams, **options):
    return fit(hparams, make_data(hparams.batch_size), CPU, seed=1, **{"max_epochs": 1, **options})


@pytest.fixture
def normed():
    """Batch norm, nothing random, and all training images in one batch, so that statistics can be told exactly."""
    return HParams(network="resnet9", width=1 / 32, learning_rate=0.05, batch_size=160)


def test_training_learns(make_data):
    hparams = HParams(network="resnet9", width=1 / 16, learning_rate=0.01, optimizer="adamw", batch_size=20)
    model = digits_model(make_data, hparams, max_epochs=5)
    assert validate(model, make_data(), CPU)["val_accuracy"] > 0.6


def test_the_same_seed_gives_the_same_weights_and_metrics(make_data, tiny):
    runs = [Epochs() for _ in range(2)]
    models = [digits_model(make_data, tiny, max_epochs=2, callbacks=[run]) for run in runs]
    assert same(models[0].state_dict(), models[1].state_dict())
    assert runs[0].metrics == runs[1].metrics


def test_another_seed_gives_other_weights(make_data, tiny):
    first = fit(tiny, make_data(), CPU, max_epochs=1, seed=1)
    second = fit(tiny, make_data(), CPU, max_epochs=1, seed=2)
    assert not same(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("network", ["cnn", "resnet9"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_goes_on_as_if_never_stopped(network, optimizer, make_data, tiny, tmp_path):
    hparams = tiny.model_copy(update={"network": network, "width": 0.05, "optimizer": optimizer})
    whole, rest = Epochs(tmp_path), Epochs()
    straight = digits_model(make_data, hparams, max_epochs=4, callbacks=[whole])
    # The process that resumes has another past, and its generators stand elsewhere.
    torch.rand(17)
    resumed = digits_model(make_data, hparams, max_epochs=4, callbacks=[rest], resume_from=tmp_path / "1.ckpt")
    assert len(rest.states) == 2
    assert same(resumed.state_dict(), straight.state_dict())
    assert rest.metrics == whole.metrics[2:]


def test_early_stopping_ends_a_training_that_no_longer_improves(make_data, tiny):
    stuck = tiny.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(monitor="val_accuracy", patience=2)})
    run = Epochs()
    fit(stuck, make_data(), config, max_epochs=9, seed=0, callbacks=[run])
    assert len(run.states) == 3  # the first sets the mark, two more do not pass it


def test_early_stopping_knows_which_way_is_better(make_data, tiny):
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(monitor="train_loss", patience=1)})
    run = Epochs()
    fit(tiny, make_data(), config, max_epochs=5, seed=0, callbacks=[run])
    losses = [metrics["train_loss"] for metrics in run.metrics]
    worse = [epoch for epoch in range(1, len(losses)) if losses[epoch] >= min(losses[:epoch])]
    assert len(losses) == (worse[0] + 1 if worse else 5)
    assert len(losses) > 2


def test_early_stopping_counts_on_after_a_resumption(make_data, tiny, tmp_path):
    stuck = tiny.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(monitor="val_accuracy", patience=3)})
    whole, rest = Epochs(tmp_path), Epochs()
    fit(stuck, make_data(), config, max_epochs=9, seed=0, callbacks=[whole])
    fit(stuck, make_data(), config, max_epochs=9, seed=0, callbacks=[rest], resume_from=tmp_path / "1.ckpt")
    assert (len(whole.states), len(rest.states)) == (4, 2)


def test_early_stopping_that_had_ended_a_training_keeps_it_ended(make_data, tiny, tmp_path):
    stuck = tiny.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(monitor="val_accuracy", patience=2)})
    whole, rest = Epochs(tmp_path), Epochs()
    fit(stuck, make_data(), config, max_epochs=9, seed=0, callbacks=[whole])
    resumed = fit(stuck, make_data(), config, max_epochs=9, seed=0, callbacks=[rest], resume_from=tmp_path / "2.ckpt")
    assert (len(whole.states), rest.steps) == (3, 0)
    assert same(resumed.state_dict(), whole.states[-1])


@pytest.mark.parametrize("max_epochs", [1, 2, 3])
def test_a_training_of_full_length_is_returned_as_it_was(max_epochs, make_data, tiny, tmp_path):
    whole, rest = Epochs(tmp_path), Epochs()
    digits_model(make_data, tiny, max_epochs=3, callbacks=[whole])
    resumed = digits_model(make_data, tiny, max_epochs=max_epochs, callbacks=[rest], resume_from=tmp_path / "2.ckpt")
    assert (rest.steps, rest.metrics) == (0, [])
    assert same(resumed.state_dict(), whole.states[-1])


class ProcessGoneError(Exception):
    """The process went."""


class EndsAfterEachEpoch(Epochs):
    """As when a process goes right after each checkpoint."""

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        raise ProcessGoneError


@pytest.mark.parametrize("lr_schedule", get_args(LRSchedule))
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_a_stop_after_each_epoch_changes_nothing(optimizer, lr_schedule, make_data, tiny, tmp_path):
    hparams = tiny.model_copy(update={"optimizer": optimizer, "lr_schedule": lr_schedule, "step_epochs": 2})
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(monitor="val_loss", patience=3)})
    whole, pieces, file = Epochs(), EndsAfterEachEpoch(tmp_path), None
    fit(hparams, make_data(), config, max_epochs=4, seed=1, callbacks=[whole])
    for epoch in range(len(whole.states)):
        with pytest.raises(ProcessGoneError):
            fit(hparams, make_data(), config, max_epochs=4, seed=1, callbacks=[pieces], resume_from=file)
        file = tmp_path / f"{epoch}.ckpt"
    assert pieces.metrics == whole.metrics
    assert len(pieces.states) == len(whole.states)
    assert all(same(*pair) for pair in zip(pieces.states, whole.states, strict=True))


class Steps(L.Callback):
    """Keeps the optimizer's settings as each step finds them, and its moments as the first one does."""

    def __init__(self):
        self.settings, self.epochs, self.moments = [], [], None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        (optimizer,) = trainer.optimizers
        (group,) = optimizer.param_groups
        self.settings.append({name: value for name, value in group.items() if name != "params"})
        self.epochs.append(trainer.current_epoch)
        if self.moments is None:
            self.moments = copy.deepcopy(optimizer.state_dict()["state"])


@pytest.mark.parametrize("lr_schedule", get_args(LRSchedule))
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_unchanged_hparams_resume_as_if_change_were_not_allowed(optimizer, lr_schedule, make_data, tiny, tmp_path):
    hparams = tiny.model_copy(update={"optimizer": optimizer, "lr_schedule": lr_schedule, "step_epochs": 2})
    file = tmp_path / "1.ckpt"
    digits_model(make_data, hparams, max_epochs=4, callbacks=[Epochs(tmp_path)])
    runs, steps, models = [Epochs(), Epochs()], [Steps(), Steps()], []
    for changed, run, step in zip([False, True], runs, steps, strict=True):
        callbacks = [run, step]
        models.append(
            digits_model(make_data, hparams, max_epochs=4, callbacks=callbacks, resume_from=file, changed=changed)
        )
    assert runs[0].metrics == runs[1].metrics
    assert steps[0].settings == steps[1].settings
    assert same(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize("lr_schedule", get_args(LRSchedule))
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_changed_hparams_are_followed_as_if_from_the_start(optimizer, lr_schedule, make_data, tiny, tmp_path):
    before = tiny.model_copy(update={"optimizer": optimizer, "lr_schedule": lr_schedule, "step_epochs": 2})
    changes = {
        "learning_rate": 0.02,
        "weight_decay": 0.01,
        "momentum": 0.5,
        "nesterov": True,
        "beta1": 0.8,
        "beta2": 0.9,
        "warmup_fraction": 0.6,
        "min_lr_fraction": 0.2,
        "step_epochs": 3,
        "gamma": 0.3,
    }
    after = before.model_copy(update=changes)
    always, rest = Steps(), Steps()
    digits_model(make_data, before, max_epochs=4, callbacks=[Epochs(tmp_path)])
    digits_model(make_data, after, max_epochs=4, callbacks=[always])
    file = tmp_path / "1.ckpt"
    digits_model(make_data, after, max_epochs=4, callbacks=[rest], resume_from=file, changed=True)
    assert rest.settings == always.settings[8:]  # of four steps an epoch
    assert rest.epochs == [2] * 4 + [3] * 4
    moments = torch.load(file, weights_only=True)["optimizer_states"][0]["state"]
    assert moments.keys() == rest.moments.keys()
    for weight, kept in moments.items():
        assert all(
            torch.equal(torch.as_tensor(kept[name]), torch.as_tensor(rest.moments[weight][name])) for name in kept
        )


def test_what_each_step_does_is_that_of_the_changed_hparams(make_data, tiny, tmp_path):
    after = tiny.model_copy(
        update={"translate": 2, "cutout": 0, "flip": False, "label_smoothing": 0.1, "dropout": 0.1, "momentum": 0.0}
    )
    run = Epochs(tmp_path)
    digits_model(make_data, tiny, max_epochs=4, callbacks=[run])
    file, start = tmp_path / "1.ckpt", run.states[1]
    kept = Starts()
    model = digits_model(
        make_data, after, max_epochs=3, callbacks=[kept, Epochs(tmp_path)], resume_from=file, changed=True
    )
    assert same(kept.state, start)
    assert (model.augment.translate, model.augment.cutout, model.augment.flip) == (2, 0, False)
    assert (model.point.label_smoothing, model.point) == (0.1, after)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.1]
    assert load(tmp_path / "2.ckpt").point == after
    # and back again, from no momentum to some
    digits_model(make_data, tiny, max_epochs=4, resume_from=tmp_path / "2.ckpt", changed=True)


class Starts(L.Callback):
    """Keeps the weights that a training starts from."""

    def on_train_start(self, trainer, pl_module):
        self.state = copy.deepcopy(pl_module.state_dict())


def test_early_stopping_does_not_apply_where_nothing_is_held_out(make_data, tiny):
    config = CPU.model_copy(update={"early_stopping": EarlyStopping(patience=1)})
    run = Epochs()
    fit(tiny, make_data(everything=True), config, max_epochs=3, seed=0, callbacks=[run])
    assert len(run.states) == 3
    assert not any("val_loss" in metrics for metrics in run.metrics)


@pytest.mark.parametrize(("fast_dev_run", "steps"), [(True, 1), (2, 2)])
def test_fast_dev_run_takes_so_many_steps(fast_dev_run, steps, make_data, tiny, tmp_path):
    config = CPU.model_copy(
        update={"fast_dev_run": fast_dev_run, "early_stopping": EarlyStopping(), "prediction_images": 2}
    )
    run = Epochs()
    logger = TensorBoardLogger(tmp_path)
    fit(tiny, make_data(), config, max_epochs=9, seed=0, callbacks=[run], loggers=[logger])
    assert run.steps == steps


def test_bf16_mixed_runs_on_the_cpu(make_data, tiny):
    run = Epochs()
    config = CPU.model_copy(update={"precision": "bf16-mixed"})
    model = fit(tiny, make_data(), config, max_epochs=2, seed=0, callbacks=[run])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(math.isfinite(value) for metrics in run.metrics for value in metrics.values())
    assert not same(model.state_dict(), fit(tiny, make_data(), CPU, max_epochs=2, seed=0).state_dict())


def test_the_average_is_of_the_weights_after_each_epoch(make_data, tiny):
    model, run = digits_model(make_data, tiny), Epochs()
    averaged = go_on(
        model, make_data(), CPU, epochs=3, learning_rate=0.02, lr_schedule="constant", seed=5, callbacks=[run]
    )["swa"]
    assert len(run.states) == 3
    assert not same(run.states[0], run.states[2])
    for name, weights in averaged.named_parameters():
        expected = torch.stack([state[name] for state in run.states]).mean(0)
        torch.testing.assert_close(weights.data, expected, rtol=1e-5, atol=1e-6)


def test_averaging_starts_from_the_model_and_leaves_it_alone(make_data, tiny):
    model = digits_model(make_data, tiny)
    before = copy.deepcopy(model.state_dict())
    averaged = go_on(model, make_data(), CPU, epochs=2, learning_rate=1e-30, lr_schedule="constant", seed=5)["swa"]
    for name, weights in averaged.named_parameters():
        torch.testing.assert_close(weights.data, before[name])
    assert same(model.state_dict(), before)
    assert averaged is not model


def test_averaging_keeps_the_learning_rate_constant(make_data, tiny, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    go_on(
        digits_model(make_data, tiny),
        make_data(),
        CPU,
        epochs=2,
        learning_rate=0.02,
        lr_schedule="constant",
        seed=5,
        loggers=[logger],
    )["swa"]
    assert {round(rate, 6) for _, rate in scalars(tmp_path, "lr-SGD")} == {0.02}


def test_batch_norm_statistics_of_the_average_are_made_anew(make_data, normed):
    data, run = make_data(160), Epochs()
    averaged = go_on(
        digits_model(make_data, normed),
        data,
        CPU,
        epochs=3,
        learning_rate=0.05,
        lr_schedule="constant",
        seed=5,
        callbacks=[run],
    )["swa"]
    expected = copy.deepcopy(averaged)
    update_bn([images for images, _ in data.train_dataloader()], expected)
    statistics = [name for name in averaged.state_dict() if name.endswith(("running_mean", "running_var"))]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(averaged.state_dict()[name], expected.state_dict()[name], rtol=1e-4, atol=1e-5)
    stale = run.states[-1]
    assert not any(torch.allclose(stale[name], expected.state_dict()[name], rtol=0.01) for name in statistics)


def test_averaging_may_train_on_everything(make_data, tiny):
    run = Epochs()
    data = make_data(everything=True)
    go_on(
        digits_model(make_data, tiny),
        data,
        CPU,
        epochs=1,
        learning_rate=0.02,
        lr_schedule="constant",
        seed=5,
        callbacks=[run],
    )["swa"]
    assert run.steps == 5  # of 40 images each


def test_the_test_counts_every_image_once(make_data, make_test_data, tiny):
    unmoved = tiny.model_copy(update={"flip": False, "translate": 0})
    model, data = digits_model(make_data, unmoved), make_test_data()
    tested = train.test(model, data, CPU, mistakes=5)
    metrics, confusion, with_views = tested.metrics, tested.confusion, tested.confusion_of_views
    images, labels = next(iter(data.test_dataloader()))
    with torch.no_grad():
        logits = model.eval()(images)
    assert set(metrics) == {"test_loss", "test_accuracy", "test_calibration_error"}
    assert metrics["test_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["test_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    expected = np.zeros((10, 10), dtype=int)
    np.add.at(expected, (labels.numpy(), logits.argmax(1).numpy()), 1)  # the true class first
    assert confusion.tolist() == expected.tolist()
    assert with_views.tolist() == expected.tolist(), "trained without flips and shifts"
    confidence, predicted = logits.softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten().tolist()
    surest = sorted(wrong, key=lambda index: -confidence[index])[:5]
    assert [one.image for one in tested.mistakes] == surest
    assert [one.true for one in tested.mistakes] == labels[surest].tolist()
    assert [one.predicted for one in tested.mistakes] == predicted[surest].tolist()
    assert [one.probability for one in tested.mistakes] == pytest.approx(confidence[surest].tolist(), rel=1e-4)


def test_the_calibration_error_of_a_test_is_that_of_its_probabilities(make_data, make_test_data, tiny):
    """By hand, as in Guo et al., 2017: over 15 bins, the mean distance of accuracy from confidence."""
    point = tiny.model_copy(update={"network": "resnet9", "learning_rate": 0.01})
    model, data = fit(point, make_data(), CPU, max_epochs=10, seed=1), make_test_data(batch_size=100)
    metrics = train.test(model, data, CPU).metrics
    images, labels = torch.from_numpy(data.test.pixels), torch.from_numpy(data.test.labels)
    with torch.no_grad():
        confidence, predicted = model.eval()(images).softmax(1).max(1)
    right, bins = (predicted == labels).float(), (confidence * 15).ceil()
    parts = [(right[bins == each].sum() - confidence[bins == each].sum()).abs() for each in bins.unique()]
    assert len(parts) > 5
    assert metrics["test_calibration_error"] == pytest.approx(sum(parts).item() / 360, abs=1e-5)


def test_the_views_of_a_test_are_those_of_training(make_data, make_test_data, tiny):
    """By hand, as in airbench's infer_mirror_translate: half for the pictures in place, half for those shifted."""
    point = tiny.model_copy(update={"network": "resnet9", "cutout": 0, "learning_rate": 0.01})
    model, data = fit(point, make_data(), CPU, max_epochs=8, seed=1), make_test_data()
    tested = train.test(model, data, CPU)
    plain, with_views = tested.confusion, tested.confusion_of_views
    images, labels = next(iter(data.test_dataloader()))
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate").byte()

    def both_sides(some):
        return 0.5 * model.eval()(some) + 0.5 * model(some.flip(3))

    with torch.no_grad():
        corners = [both_sides(padded[:, :, at : at + 8, at : at + 8].contiguous()) for at in (0, 2)]
        logits = 0.5 * both_sides(images) + 0.25 * sum(corners)
    assert int(with_views.trace()) == int((logits.argmax(1) == labels).sum())
    assert with_views.tolist() != plain.tolist()


def test_a_second_test_of_a_model_starts_from_nought(make_data, make_test_data, tiny):
    model, data = digits_model(make_data, tiny), make_test_data()
    first, second = (train.test(model, data, CPU) for _ in range(2))
    assert second.metrics == first.metrics
    assert second.confusion.tolist() == first.confusion.tolist()
    assert int(second.confusion.sum()) == 360


def test_validation_loss_is_without_label_smoothing_and_augmentation(make_data, tiny):
    model, data = digits_model(make_data, tiny.model_copy(update={"label_smoothing": 0.3})), make_data()
    images, labels = next(iter(data.val_dataloader()))
    with torch.no_grad():
        logits = model.eval()(images)
    metrics = validate(model, data, CPU)
    assert set(metrics) == {"val_loss", "val_accuracy"}
    assert metrics["val_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def scalars(folder, tag):
    """(step, value) of each entry."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_metrics_and_learning_rate_are_logged_each_step_and_epoch(make_data, tiny, tmp_path):
    hparams = tiny.model_copy(update={"lr_schedule": "cosine", "learning_rate": 0.2})
    run = Epochs()
    logger = TensorBoardLogger(tmp_path, name="", version="")
    digits_model(make_data, hparams, max_epochs=3, loggers=[logger], callbacks=[run])

    for name in ("train_loss", "train_accuracy"):
        assert [step for step, _ in scalars(tmp_path, f"{name}_step")] == list(range(12))
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        by_epoch = scalars(tmp_path, f"{name}_epoch")
        assert [step for step, _ in by_epoch] == [3, 7, 11]
        assert [value for _, value in by_epoch] == pytest.approx([metrics[name] for metrics in run.metrics])
    assert len(scalars(tmp_path, "val_loss_step")) == 3  # one batch holds all 40

    rates = scalars(tmp_path, "lr-SGD")
    assert [step for step, _ in rates] == list(range(12))
    expected = [0.1 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert [rate for _, rate in rates] == pytest.approx(expected)


def test_train_loss_of_an_epoch_is_the_mean_of_its_steps(make_data, tiny, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    digits_model(make_data, tiny, loggers=[logger])
    steps = [value for _, value in scalars(tmp_path, "train_loss_step")]
    assert scalars(tmp_path, "train_loss_epoch")[0][1] == pytest.approx(np.mean(steps))


def test_log_every_n_steps_thins_the_log(make_data, tiny, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    config = TrainerConfig(accelerator="cpu", log_every_n_steps=4)
    fit(tiny, make_data(), config, max_epochs=2, seed=1, loggers=[logger])
    assert [step for step, _ in scalars(tmp_path, "train_loss_step")] == [3, 7]


def test_predictions_are_logged_as_pictures(make_data, tiny, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    config = CPU.model_copy(update={"prediction_images": 11})
    fit(tiny, make_data(), config, max_epochs=2, seed=1, loggers=[logger])
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    pictures = [
        Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB") for event in events.Images("val_predictions")
    ]
    assert len(pictures) == 2
    assert pictures[0].size == (8 * 68, 2 * 92)  # eight tiles and three
    image = make_data().val_dataloader().__iter__().__next__()[0][10, 0].numpy()  # the last tile
    corner = 2 * 68 + 2, 92 + 2
    tile = np.asarray(pictures[0])[corner[1] : corner[1] + 64 : 8, corner[0] : corner[0] + 64 : 8]
    assert np.array_equal(tile, np.repeat(image[:, :, None], 3, axis=2))


def test_pictures_cost_nothing_of_the_result(make_data, tiny, tmp_path):
    config = CPU.model_copy(update={"prediction_images": 4})
    with_pictures = fit(
        tiny, make_data(), config, max_epochs=2, seed=1, loggers=[TensorBoardLogger(tmp_path, name="", version="")]
    )
    assert same(with_pictures.state_dict(), digits_model(make_data, tiny, max_epochs=2).state_dict())


def test_a_saved_model_gives_the_same_logits(make_data, normed, tmp_path):
    model = digits_model(make_data, normed)
    save(model, tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    images, _ = next(iter(make_data().val_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), model.eval()(images))
    assert (loaded.classes, loaded.channels, loaded.image_size) == (list("0123456789"), 1, (8, 8))
    assert loaded.point == normed


def test_a_model_saved_when_all_images_were_square_still_loads(make_data, normed, tmp_path):
    model = digits_model(make_data, normed)
    save(model, tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    content["hyper_parameters"]["image_size"] = 8
    torch.save(content, tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    assert loaded.image_size == (8, 8)
    images, _ = next(iter(make_data().val_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_a_saved_model_holds_weights_only(make_data, tiny, tmp_path):
    save(digits_model(make_data, tiny), tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert not {"optimizer_states", "lr_schedulers", "callbacks"} & set(content)
    assert content["hyper_parameters"]["hparams"]["learning_rate"] == tiny.learning_rate


def test_a_checkpoint_of_a_training_loads_as_a_model(make_data, tiny, tmp_path):
    run = Epochs(tmp_path)
    digits_model(make_data, tiny, max_epochs=2, callbacks=[run])
    assert same(load(tmp_path / "0.ckpt").state_dict(), run.states[0])


@pytest.mark.usefixtures("no_network")
def test_loading_a_model_that_was_pretrained_needs_no_imagenet_weights(make_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = make_classifier(HParams(network="squeezenet1_1"), make_data())
    model.hparams["hparams"]["pretrained"] = True  # as one has been that found its weights
    save(model, tmp_path / "model.ckpt")
    assert same(load(tmp_path / "model.ckpt").state_dict(), model.state_dict())


def test_a_classifier_knows_its_images(make_data, digits, tiny):
    model = make_classifier(tiny, make_data())
    assert (model.channels, model.image_size, model.classes) == (1, (8, 8), list(digits.classes))
    black, white = (model.normalise(torch.full((1, 1, 8, 8), value, dtype=torch.uint8)) for value in (0, 255))
    assert black.unique().tolist() == pytest.approx([-digits.mean[0] / digits.std[0]])
    assert white.unique().tolist() == pytest.approx([(1 - digits.mean[0]) / digits.std[0]])
    assert model.size == sum(weights.numel() for weights in model.network.parameters())


def test_images_are_normalised(make_data, digits, tiny):
    model = make_classifier(tiny, make_data())
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.from_numpy(digits.train.pixels))
    assert seen[0].mean().item() == pytest.approx(0, abs=1e-5)
    assert seen[0].std().item() == pytest.approx(1, abs=1e-3)


def test_cutout_fills_with_the_mean(make_data, digits, tiny):
    assert make_classifier(tiny, make_data()).augment.fill == (round(digits.mean[0] * 255),)


@pytest.mark.parametrize("network", ["cnn", "resnet9", "resnet18"])
@pytest.mark.parametrize("grey", [True, False])
def test_images_that_are_not_square(network, grey, make_folder, tiny, tmp_path):
    root = make_folder(train={"cat": 12, "dog": 12}, val={"cat": 2, "dog": 2}, size=(12, 16))
    if grey:
        for file in root.rglob("*.png"):
            Image.open(file).convert("L").save(file)
    config = DataConfig(source="image_folder", root=str(root), image_size=[12, 16])
    data = ImageDataModule(config, load_training(config), 8)
    point = tiny.model_copy(update={"network": network, "color_jitter": 0.1})
    model = fit(point, data, CPU, max_epochs=1, seed=0)
    save(model, tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    assert (loaded.channels, loaded.image_size) == (1 if grey else 3, (12, 16))
    images = torch.from_numpy(data.data.train.pixels.copy())
    assert loaded(images).shape == (24, 2)
    expected = images.double() / 255
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (data.data.mean, data.data.std))
    torch.testing.assert_close(loaded.normalise(images), ((expected - mean) / std).float(), rtol=1e-5, atol=1e-5)


def test_training_on_images_of_a_folder(make_folder, tiny):
    root = make_folder(train={"cat": 12, "dog": 12}, val={"cat": 2, "dog": 2})
    config = DataConfig(source="image_folder", root=str(root), image_size=8)
    data = ImageDataModule(config, load_training(config), 8)
    run = Epochs()
    model = fit(tiny, data, CPU, max_epochs=1, seed=0, callbacks=[run])
    assert (model.channels, model.classes, run.steps) == (3, ["cat", "dog"], 3)
    assert 0 <= run.metrics[0]["val_accuracy"] <= 1
