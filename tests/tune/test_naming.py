import re
from types import SimpleNamespace

from cifar.hparams import HParams
from tune.naming import shortened, show_titles, title


def test_a_trial_in_a_line_has_the_hparams_that_are_searched_and_in_effect(experiment):
    hparams = HParams(learning_rate=0.0146512, translate=2, optimizer="adamw").model_dump()
    assert title(experiment(), 17, hparams) == "search trial 17: optimizer adamw, learning_rate 0.01465, translate 2"


def test_a_long_name_is_cut(begun):
    played = begun("n" * 200, "search.trials=1")
    (number,) = played.fill()
    told = title(played.experiment, number, played.trials[number].hparams)
    assert re.match(r"n+… trial 0: .*learning_rate 0", told)
    assert len(told) <= 160


def test_of_long_names_the_processes_are_told_apart():
    assert shortened("n" * 200, " process 1") == "n" * 149 + "… process 1"
    assert shortened("n" * 200, " process 1") != shortened("n" * 200, " process 2")
    assert len(shortened("n" * 200, "r" * 200)) == len(shortened("n", "r" * 200)) == 160


def test_another_ray_that_has_other_parts_inside_goes_on_without_names():
    class Controller(SimpleNamespace):
        pass

    unknown = Controller(_actor_manager=SimpleNamespace(add_actor=len))
    show_titles(unknown, "quickstart")
    assert unknown._actor_manager.add_actor is len
    show_titles(Controller(), "quickstart")
    assert not vars(Controller())
