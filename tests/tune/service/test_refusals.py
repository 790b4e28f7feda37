"""Secrets and folders of this machine are not sent with a job."""

import pytest

from cifar.config import DataConfig
from cifar.errors import UserError
from tune.service.refusals import check

DIGITS = DataConfig(source="digits")


@pytest.mark.parametrize("storage", [None, "/shared/experiments", "s3://bucket/x?region=eu-west-1", "gs://bucket"])
@pytest.mark.parametrize("study", [None, "postgresql://tuner@db/study", "sqlite:////shared/study.db"])
def test_what_everyone_may_see_is_sent(storage, study):
    check(storage, study, DIGITS)


@pytest.mark.parametrize("storage", ["experiments", "./x", "~/x", ""])
def test_a_storage_that_would_lie_in_the_jobs_own_folder_is_refused(storage):
    with pytest.raises(UserError, match=f"^--storage {storage}: got a relative folder, .* that all nodes"):
        check(storage, None)


@pytest.mark.parametrize("storage", ["s3://KEY:hidden@bucket/x", "s3://hidden@bucket/x", "memory://x?token=hidden"])
def test_a_storage_with_a_secret_is_refused_and_the_secret_not_shown(storage):
    with pytest.raises(UserError, match=r"^--storage .*: got names, passwords or options") as caught:
        check(storage, None)
    assert "hidden" not in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)


@pytest.mark.parametrize("study", ["postgresql://tuner:hidden@db/s", "mysql://db/s?user=t&password=hidden"])
def test_a_study_with_a_password_is_refused_and_the_password_not_shown(study):
    with pytest.raises(UserError, match=r"^--study \w+://db/s: got a password, .* set PGPASSWORD") as caught:
        check(None, study)
    assert "hidden" not in str(caught.value)


def test_a_study_that_cannot_be_read_is_refused_and_not_shown():
    with pytest.raises(UserError, match=r"^--study: cannot be read; must be a database URL, as in \S+$"):
        check(None, "postgresql://me:hidden@[db/x")


def test_a_study_in_the_jobs_own_folder_is_refused():
    with pytest.raises(UserError, match=r"^--study sqlite:///study\.db: got a relative file"):
        check(None, "sqlite:///study.db")


def test_a_root_of_this_machine_is_refused_where_the_source_has_one():
    with pytest.raises(UserError, match=r"^data\.root: got 'images', a folder of this machine; .*data\.root=/shared"):
        check(None, None, DataConfig(source="image_folder", root="images"))
    check(None, None, DataConfig(source="image_folder", root="/shared/images"))
    check(None, None, DataConfig(source="cifar10"))  # downloaded there
    check(None, None, DataConfig(source="digits", root="images"))


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(UserError) as caught:
        check("x", "sqlite:///y", DataConfig(source="cifar10", root="z"))
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["--storage", "--study", "data.root:"]
