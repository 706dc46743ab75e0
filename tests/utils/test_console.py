"""What a log shows: no redrawn bars, and of other packages only what a user can act on."""

import inspect
import logging
import warnings

import pytest

from product_relevance.utils import console


@pytest.fixture
def ranked(monkeypatch):
    """Start as the second of several processes."""
    monkeypatch.setenv("RANK", "1")
    with warnings.catch_warnings():
        console.quiet_libraries()
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name, parts", console.NEEDLESS.items())
def test_a_needless_line_is_kept_out_and_others_of_its_logger_are_not(name, parts, caplog):
    console.quiet_libraries()
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)  # DeepSpeed's does not pass lines on
    for part in [*parts, "something else"]:
        logger.warning("%s: more", part)
    logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"something else: more"}


def test_the_hub_client_still_says_what_is_kept_out():
    from huggingface_hub.utils import _http

    assert _http.logger.name in console.NEEDLESS
    assert all(part in inspect.getsource(_http) for part in console.NEEDLESS[_http.logger.name])


def test_only_the_first_process_warns(ranked, caplog):
    logging.getLogger("transformers").warning("of each process")
    with warnings.catch_warnings(record=True) as seen:
        warnings.warn("of each process", UserWarning, stacklevel=1)
    assert not caplog.records and not seen


def test_a_bar_is_one_line_where_there_is_no_terminal(caplog, capfd):
    caplog.set_level(logging.INFO)
    list(console.progress_bar(range(1500), desc="scores", unit=" rows"))
    assert [record.getMessage() for record in caplog.records] == ["scores: 1,500 rows"]
    assert capfd.readouterr().err == ""


def test_short_work_is_not_told(caplog):
    caplog.set_level(logging.INFO)
    assert list(console.progress_bar(range(3), desc="scores", shown=False)) == [0, 1, 2] and not caplog.records
