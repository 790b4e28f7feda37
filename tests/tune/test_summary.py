"""The closing table of a run."""

import re
import shlex
from dataclasses import replace

from rich.console import Console

from tune import spec
from tune.summary import print_closing


def test_the_closing_table_names_only_the_hparams_that_took_part(summary, capsys):
    print_closing(summary("name", ("cat", "dog")), Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert "learning_rate 0.01235" in out
    assert "momentum" not in out, "the winner's optimizer has none"
    assert "trial 1, the highest val_accuracy of 4 trials" in out
    assert "0.9000 in the search, epoch 2" in out
    assert "python -m cifar.predict --model " in out
    assert re.search(r"python -m tune dashboard \S+ --storage \S+\n", out)


def test_hparams_of_options_that_were_not_chosen_are_no_searched_ones(summary, tmp_path):
    told = summary("name", ("cat", "dog"))
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: digits}\nspace:\n  optimizer:\n    type: categorical\n    options:\n"
        "      adamw: {beta2: {type: float, lower: 0.9, upper: 0.99}}\n"
        "      sgd: {lr_schedule: {type: categorical, options: [cosine, one_cycle]}}\n"
    )
    told = replace(told, experiment=spec.load(file))
    assert list(told.searched_hparams) == ["optimizer", "beta2"]


def test_names_with_spaces_and_brackets_stay_whole_in_the_table_and_its_commands(summary, capsys):
    told = summary("a [bold] name", ("cat", "dog"), folder="a [bold] name")
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert out.startswith("a [bold] name ")
    (command,) = [line for line in out.splitlines() if "cifar.predict" in line]
    assert shlex.split(command)[3:] == ["--model", str(told.directory.model), str(told.directory.model / "example.png")]
