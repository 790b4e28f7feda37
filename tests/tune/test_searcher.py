"""What Ray Tune is given of a trial."""

from tune.searcher import ConductedSearcher

FIELDS = ("scheduler.mode=stop", "scheduler.max_epochs=2", "scheduler.reduction_factor=2", "scheduler.audit=1")


def test_an_audit_is_named_so_in_rays_dashboard(session):
    one = session(*FIELDS, "search.trials=3", "search.sampler=random", value=[[0.9, 0.9], [0.5, 0.5], [0.4, 0.4]])
    while not one.conductor.audits.left:
        one.fill()
        one.train(min(one.epoch))
    searcher = ConductedSearcher(one.conductor)
    assert searcher.suggest("a trial")["title"].startswith("search trial 2: ")
    one.slots = 2
    given = searcher.suggest("an audit")
    assert given["audit"]
    assert given["title"].startswith("audit of search trial 1: ")
