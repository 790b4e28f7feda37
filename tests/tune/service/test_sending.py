"""What a job runs, and the call that stands for it in the experiment."""

import shlex
from pathlib import Path

from tune.experiment import resuming
from tune.service.sending import Order

NEW = Order("a b", ("search.trials=3",), "/shared", "sqlite:////s.db", again=True, file=Path("spaces/it's.yaml"))
ON = Order("a b", (), None, None, again=False)


def test_a_new_experiment_is_searched_on_the_jobs_own_cluster():
    assert NEW.words() == [
        *("tune.run", "--space", "space/it's.yaml", "--name", "a b", "--set", "search.trials=3"),
        *("--study", "sqlite:////s.db", "--again", "--address", "auto"),
    ]


def test_one_that_began_goes_on_without_its_file():
    assert ON.words() == ["tune.run", "--resume", "--name", "a b", "--address", "auto"]


def test_the_experiment_knows_the_call_that_sent_it_and_so_what_goes_on_with_it():
    sent = NEW.command("http://head:8265")
    assert shlex.split(sent)[3:7] == ["submit", "--space", "spaces/it's.yaml", "--name"]
    assert resuming(sent) == "python -m tune resume 'a b' --address http://head:8265"
    assert resuming(ON.command("http://head:8265")) == "python -m tune resume 'a b' --address http://head:8265"
