import pickle
import zipfile

import lightning as L
import pytest
import torch

from cifar.checkpoint import check_checkpoint, check_hparams, read_checkpoint
from cifar.config import TrainerConfig
from cifar.errors import CheckpointError
from cifar.hparams import MUTABLE, HParams
from cifar.train import fit, make_classifier, save

CPU = TrainerConfig(accelerator="cpu")


class Saves(L.Callback):
    def __init__(self, file):
        self.file = file

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.file)


@pytest.fixture
def checkpoint(make_data, tiny, tmp_path):
    file = tmp_path / "whole.ckpt"
    fit(tiny, make_data(), CPU, max_epochs=1, seed=0, callbacks=[Saves(file)])
    return file


def refused(file, reason):
    """`check_checkpoint` raises for `reason`, in one line that names the file."""
    with pytest.raises(CheckpointError, match=reason) as caught:
        check_checkpoint(file)
    message = str(caught.value)
    assert message == f"{file} cannot be resumed from: {caught.value.reason}"
    assert "\n" not in message
    return True


def test_a_whole_checkpoint_is_read(checkpoint, tiny):
    check_checkpoint(checkpoint)
    assert read_checkpoint(checkpoint)["hyper_parameters"]["hparams"] == tiny.model_dump()


def test_a_missing_file_is_named(tmp_path):
    assert refused(tmp_path / "missing.ckpt", "there is no such file")
    assert refused(tmp_path, "it is not a file")


def test_a_file_cut_short_at_any_length_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    lengths = {0, 1, 2, 4, 30, 1000, *range(0, len(content), len(content) // 20), len(content) - 1} - {len(content)}
    for length in sorted(lengths):
        checkpoint.write_bytes(content[:length])
        assert refused(checkpoint, "it is cut short, damaged, or no checkpoint" if length else "it is empty")


def test_a_flipped_byte_of_the_weights_is_found(checkpoint):
    """torch.load would not: it returns other weights."""
    with zipfile.ZipFile(checkpoint) as archive:
        weights = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        largest = max(weights, key=lambda entry: entry.file_size)
    content = bytearray(checkpoint.read_bytes())
    place = largest.header_offset + 200 + largest.file_size // 2
    content[place] ^= 0xFF
    checkpoint.write_bytes(content)
    torch.load(checkpoint, weights_only=True)
    assert refused(checkpoint, rf"it is damaged \(the checksum of {largest.filename} is wrong\)")


def test_a_flipped_byte_anywhere_is_found_or_harmless(checkpoint):
    content = checkpoint.read_bytes()
    weights = read_checkpoint(checkpoint)["state_dict"]
    found = 0
    for place in range(0, len(content), len(content) // 100):
        checkpoint.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            state = read_checkpoint(checkpoint)["state_dict"]
        except CheckpointError:
            found += 1
        else:  # in a gap between two of the zip's files
            assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert found > 30


@pytest.mark.parametrize("content", [b"hello\n" * 1000, bytes(5000), pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "other.ckpt").write_bytes(content)
    assert refused(tmp_path / "other.ckpt", "cut short, damaged, or no checkpoint")


def test_code_is_not_run(tmp_path):
    torch.save({"state_dict": print}, tmp_path / "code.ckpt")
    assert refused(tmp_path / "code.ckpt", r"it is damaged \(Weights only load failed")


def test_a_model_alone_is_no_training(make_data, tiny, tmp_path):
    save(make_classifier(tiny, make_data()), tmp_path / "model.ckpt")
    assert refused(tmp_path / "model.ckpt", "it holds no optimizer_states, lr_schedulers, so is not of a training")
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert refused(tmp_path / "list.ckpt", "it holds no state_dict, ")


def test_nothing_is_trained_from_a_damaged_file(checkpoint, make_data, tiny):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError):
        fit(tiny, make_data(), CPU, max_epochs=2, seed=5, resume_from=checkpoint)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_error_survives_its_way_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(CheckpointError(tmp_path, "it is empty")))
    assert (error.file, error.reason, str(error)) == (
        tmp_path,
        "it is empty",
        f"{tmp_path} cannot be resumed from: it is empty",
    )


OTHER = {
    "network": "resnet9",
    "pretrained": True,
    "width": 0.5,
    "batch_size": 7,
    "optimizer": "adam",
    "lr_schedule": "step",
}


def test_every_field_is_mutable_or_not():
    assert set(OTHER) | set(MUTABLE) == set(HParams.model_fields)
    assert not set(OTHER) & set(MUTABLE)


@pytest.mark.parametrize("name", OTHER)
def test_what_shaped_the_weights_or_the_steps_cannot_change(name, checkpoint, tiny):
    hparams = tiny.model_copy(update={"flip": False, name: OTHER[name]})
    wrong = rf"^{name} is {OTHER[name]!r}, was {getattr(tiny, name)!r}; only dropout, .* can change$"
    with pytest.raises(ValueError, match=wrong):
        check_hparams(checkpoint, read_checkpoint(checkpoint), hparams, changed=True)


def test_nothing_changes_unless_it_is_said(checkpoint, make_data, tiny):
    hparams = tiny.model_copy(update={"learning_rate": 0.2, "flip": False})
    with pytest.raises(ValueError, match=r"^learning_rate is 0\.2, was 0\.05, flip is False, was True; must be the"):
        fit(hparams, make_data(), CPU, max_epochs=2, seed=0, resume_from=checkpoint)


def test_hparams_of_another_version_are_refused(checkpoint, tiny):
    content = read_checkpoint(checkpoint)
    content["hyper_parameters"]["hparams"]["depth"] = 3
    with pytest.raises(CheckpointError, match="another version"):
        check_hparams(checkpoint, content, tiny, changed=True)
