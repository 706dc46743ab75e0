"""What a log shows: no redrawn bars, and of other packages only what a user can act on."""

import ast
import inspect
import logging
import warnings

import pytest

from product_relevance.data.columns import Step, add_columns
from product_relevance.utils import console
from tests.conftest import ROOT

DRAWS = {"map", "load_dataset", "load_from_disk", "save_to_disk", "filter", "push_to_hub"}  # of `datasets`


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


def double(batch):
    return {"double": [2 * value for value in batch["value"]]}


def test_datasets_draws_no_bars_where_there_is_no_terminal(tmp_path, capfd):
    import datasets
    import pandas as pd

    add_columns(pd.DataFrame({"value": range(2500)}), [Step("double", double)], tmp_path)
    assert capfd.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()  # a program that uses the package keeps its own bars


def test_bars_come_from_one_place():
    for path in sorted((ROOT / "product_relevance").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        hints = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ]
        only_hints = {id(part) for node in hints for part in ast.walk(node)}
        drawn = {
            node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in only_hints
        }
        assert path.name == "console.py" or not drawn & {"tqdm", "tqdm.auto"}, path


def test_every_call_of_datasets_that_draws_bars_is_kept_out_of_pipes():
    for path in sorted((ROOT / "product_relevance").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kept = [
            node for node in ast.walk(tree) if isinstance(node, ast.With) and "bars_on_terminal_only" in ast.dump(node)
        ]
        inside = {id(part) for node in kept for part in ast.walk(node)}
        calls = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        drawing = [node for node in calls if node.func.attr in DRAWS and "'datasets'" in ast.dump(node.func)]
        assert not [node.lineno for node in drawing if id(node) not in inside], path
