"""Each shipped space runs unchanged, shrunk by `--set` alone."""

import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TINY = ("data.source=digits", "data.limit=200", "retrain.epochs=1")


def test_cnn_logs_pictures_and_every_loss_and_accuracy_and_stops_early(search, folder, study):
    shrunk = ("scheduler.max_epochs=6", "trainer.early_stopping.patience=1", "space.learning_rate=10.0")
    done = search("cnn.yaml", *TINY, *shrunk, "trainer.log_every_n_steps=2")
    assert done.code == 0, done.err
    experiment = folder / "experiments" / "test"
    (trial,) = study(experiment)
    assert trial.state.name == "COMPLETE"
    assert len(trial.intermediate_values) < 6, "a learning rate of 10 does not improve for long"
    events = EventAccumulator(str(experiment / "trials" / "00000"))
    events.Reload()
    assert events.Tags()["images"] == ["val_predictions"]
    assert len(events.Images("val_predictions")) == len(trial.intermediate_values)
    scalars = events.Tags()["scalars"]
    for stage in ("train", "val"):
        for metric in ("loss", "accuracy"):
            assert f"{stage}_{metric}_step" in scalars
            assert f"{stage}_{metric}_epoch" in scalars
    assert "lr-Adam" in scalars
    final = EventAccumulator(str(experiment / "model" / "tensorboard"))
    final.Reload()
    assert {"test_loss_epoch", "test_accuracy_epoch"} <= set(final.Tags()["scalars"])


@pytest.mark.slow
def test_baseline_retrains_its_best_checkpoint_on_the_training_images_alone(search, folder):
    done = search("baseline.yaml", *TINY, "space.width=0.125", "scheduler.max_epochs=2", "space.batch_size=64")
    assert done.code == 0, done.err
    metrics = json.loads((folder / "experiments" / "test" / "model" / "metrics.json").read_text())
    assert set(metrics["validation"]) == {"val_loss", "val_accuracy"}
    assert not (folder / "experiments" / "test" / "model" / "tensorboard" / "afresh").exists()
    assert metrics["parameters"] < 200_000


@pytest.mark.slow
def test_resnet_searches_every_condition_and_retrains_from_scratch(search, folder, study):
    shrunk = ("space.width=0.125", "space.batch_size=64", "search.trials=5", "scheduler.max_epochs=2")
    shrunk = (*shrunk, "scheduler.grace_period=1", "search.seed=3", "retrain.start=scratch")
    done = search("resnet.yaml", *TINY, *shrunk)
    assert done.code == 0, done.err
    trials = study(folder / "experiments" / "test")
    assert len(trials) == 5
    for trial in trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert ("warmup_fraction" in trial.params) == (trial.params["lr_schedule"] == "one_cycle")
    assert len({trial.params["optimizer"] for trial in trials}) > 1
    afresh = EventAccumulator(str(folder / "experiments" / "test" / "model" / "tensorboard" / "afresh"))
    afresh.Reload()
    assert len(afresh.Scalars("train_loss_epoch")) == 2, "the winner was trained again at full length"


def test_an_image_folder_of_mixed_formats_is_searched(search, folder, row):
    generator = np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 20)):
        for label, colour in (("dark", 60), ("light", 190)):
            (folder / "images" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = generator.normal(colour, 20, (20 + index % 3, 24, 3)).clip(0, 255).astype(np.uint8)
                suffix = ("png", "jpg", "webp", "bmp")[index % 4]
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{index}.{suffix}")
    (folder / "images" / "train" / "dark" / "broken.png").write_bytes(b"no image")
    shrunk = (
        "data.root=images",
        "data.image_size=16",
        "search.trials=3",
        "scheduler.max_epochs=3",
        "space.width=0.125",
    )
    done = search("image_folder.yaml", *shrunk, "space.batch_size=32", "retrain.epochs=1")
    assert done.code == 0, done.err
    assert "broken image files left out: 1 (train/dark/broken.png (UnidentifiedImageError" in done.out
    assert float(row(done.out, "test accuracy").split("%")[0]) > 90


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_fast_dev_run_goes_through_everything_in_one_batch(search, folder, study, precision):
    done = search("quickstart.yaml", "trainer.fast_dev_run=true", "search.trials=2", f"trainer.precision={precision}")
    assert done.code == 0, done.err
    assert [len(trial.intermediate_values) for trial in study(folder / "experiments" / "test")] == [1, 1]
