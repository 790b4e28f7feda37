"""The peer: what one glues together in an afternoon, after Ray Tune's own example with PyTorch Lightning.

Tuner, OptunaSearch, ASHAScheduler and TuneReportCheckpointCallback over torchvision's transforms in a DataLoader. It
trains the HParams that it is given, in their order and for the epochs that it is given, and writes when each report
came and how long each trial trained.
"""

import json
import time
from pathlib import Path
from typing import Any

import click
import lightning as L
import numpy as np
import ray
import torch
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import datasets, transforms

from cifar.hparams import HParams
from cifar.networks import build
from cifar.optim import make_lr_schedule, make_optimizer


class Digits(Dataset):
    """scikit-learn's digits as 8-bit grey pictures, as torchvision's data sets give them."""

    def __init__(self, transform: Any) -> None:
        digits = load_digits()
        self.pixels, self.labels = np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target
        self.classes = [str(name) for name in digits.target_names]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(transforms.functional.to_pil_image(self.pixels[index])), int(self.labels[index])


class Classifier(L.LightningModule):
    """The network as it is, with loss and accuracy logged."""

    def __init__(self, hparams: HParams, classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.point = hparams
        self.network = build(hparams, classes, channels, (size, size)).to(memory_format=torch.contiguous_format)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.point.label_smoothing)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", functional.cross_entropy(logits, labels))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.point, self.network.parameters())
        total = int(self.trainer.estimated_stepping_batches)
        schedule = make_lr_schedule(self.point, optimizer, total, total // self.trainer.max_epochs)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loaders(plan: dict[str, Any], hparams: HParams) -> tuple[Any, DataLoader, DataLoader]:
    """The data set, and its loaders for training and validation."""
    grey = plan["data"] == "digits"
    size = 8 if grey else 32
    after = [transforms.ToTensor(), transforms.Normalize([0.5] * (1 if grey else 3), [0.25] * (1 if grey else 3))]
    before = [transforms.RandomCrop(size, padding=hparams.translate)] if hparams.translate else []
    before += [transforms.RandomHorizontalFlip()] if hparams.flip else []
    make = Digits if grey else lambda transform: datasets.ImageFolder(plan["data"], transform)
    augmented, plain = make(transforms.Compose([*before, *after])), make(transforms.Compose(after))
    order = np.random.default_rng(0).permutation(len(plain))[: plan["limit"]]
    held_out = int(len(order) * plan["validation_fraction"])
    workers = plan["workers"]
    common = {"batch_size": hparams.batch_size, "num_workers": workers, "persistent_workers": workers > 0}
    training = DataLoader(Subset(augmented, order[held_out:].tolist()), shuffle=True, **common)
    validation = DataLoader(Subset(plain, order[:held_out].tolist()), **common)
    return plain, training, validation


class Timed(TuneReportCheckpointCallback):
    """Ray's callback, which reports too for how long the trial trained, validated and saved."""

    def __init__(self) -> None:
        super().__init__(["train_loss", "val_loss", "val_accuracy"], on="train_epoch_end")
        self.busy, self.since = 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.since = time.monotonic()

    def _handle(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        report = self._get_report_dict(trainer, pl_module)
        with self._get_checkpoint(trainer) as checkpoint:
            self.busy += time.monotonic() - self.since
            tune.report({**report, "busy_s": self.busy}, checkpoint=checkpoint)
        self.since = time.monotonic()


def train(config: dict[str, Any], plan: dict[str, Any]) -> None:
    """A trial."""
    chosen = plan["trials"][config["index"]]
    hparams = HParams(**chosen["hparams"])
    dataset, training, validation = loaders(plan, hparams)
    grey = plan["data"] == "digits"
    model = Classifier(hparams, len(dataset.classes), 1 if grey else 3, 8 if grey else 32)
    trainer = L.Trainer(
        max_epochs=plan["max_epochs"],
        precision=plan["precision"],
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Timed()],
    )
    trainer.fit(model, training, validation)


class Clock(tune.Callback):
    """When each report came, and how long each trial trained."""

    def __init__(self) -> None:
        self.first, self.last, self.first_busy = 0.0, 0.0, 0.0
        self.busy: dict[str, float] = {}
        self.epochs: dict[str, int] = {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.last = time.time()
        if not self.first:
            self.first, self.first_busy = self.last, result["busy_s"]
        if "busy_s" in result:
            self.busy[trial.trial_id] = result["busy_s"]
            self.epochs[trial.trial_id] = result["training_iteration"]


def stop_as_planned(plan: dict[str, Any]) -> Any:
    """A trial ends after the epochs that it was given."""
    return lambda trial_id, result: result["training_iteration"] >= plan["trials"][result["config"]["index"]]["epochs"]


@click.command(help=__doc__)
@click.argument("plan_file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(plan_file: Path, out: Path) -> None:
    plan = json.loads(plan_file.read_text())
    ray.init(address="local", include_dashboard=False)  # never a cluster that another program left
    count = len(plan["trials"])
    clock = Clock()
    searcher = OptunaSearch(
        metric="val_accuracy", mode="max", points_to_evaluate=[{"index": index} for index in range(count)]
    )
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, plan=plan), {"cpu": 1, "gpu": plan["gpus"]}),
        param_space={"index": tune.choice(list(range(count)))},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            # comparing after the last epoch only: all stop where they are told to
            scheduler=ASHAScheduler(
                metric="val_accuracy", mode="max", grace_period=plan["max_epochs"], max_t=plan["max_epochs"] + 1
            ),
            num_samples=count,
        ),
        run_config=tune.RunConfig(
            storage_path=str(out.parent / "ray_results"), stop=stop_as_planned(plan), callbacks=[clock], verbose=0
        ),
    )
    tuner.fit()
    told = {
        "first_report": clock.first,
        "first_busy_s": clock.first_busy,
        "last_report": clock.last,
        "end": time.time(),
        "busy_s": sum(clock.busy.values()),
        "epochs": sum(clock.epochs.values()),
        "trials": len(clock.epochs),
    }
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
