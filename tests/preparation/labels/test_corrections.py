"""Decisions are only ever appended, survive a killed writer, and change the rows they name and no others."""

import json
import logging
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_relevance.data.records import read_records
from product_relevance.preparation.labels import corrections
from tests.conftest import ROOT, SAMPLE


@pytest.fixture(scope="module")
def frame():
    return read_records(SAMPLE / "train_QC.txt", task="QC")


def made_for(frame, position: int, decision: str, weight: float | None = None) -> dict:
    row = frame.iloc[position]
    made = corrections.make_decision(row["id"], decision, row["label"], "test", weight)
    return {str(row["id"]): made}


def test_the_last_decision_on_a_row_counts_and_undo_takes_it_back(tmp_path):
    path = tmp_path / "d.jsonl"
    for row_id, decision in [(1, "flip"), ("b", "drop"), (1, "accept"), (3, "drop"), (3, "undo")]:
        corrections.append_decisions(path, [corrections.make_decision(row_id, decision, 1, "anna")])
    standing = corrections.read_decisions(path)
    assert {key: made.decision for key, made in standing.items()} == {"b": "drop", "1": "accept"}
    assert list(standing) == ["b", "1"] and standing["1"].by == "anna"
    assert len(path.read_text().splitlines()) == 5


def test_a_file_that_is_not_there_yet_holds_no_decisions(tmp_path):
    assert corrections.read_decisions(tmp_path / "none.jsonl") == {}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(min_value=0, max_value=400))
def test_a_file_cut_at_any_byte_keeps_all_whole_decisions_and_can_be_appended_to(tmp_path, cut):
    path = tmp_path / "d.jsonl"
    path.unlink(missing_ok=True)
    corrections.append_decisions(path, [corrections.make_decision(n, "drop", 0, "名前") for n in range(4)])
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    whole = {str(n) for n in range(content.count(b"\n"))}
    standing = corrections.read_decisions(path)
    assert whole <= set(standing) and len(standing) <= len(whole) + 1
    corrections.append_decisions(path, [corrections.make_decision(9, "flip", 1, "b")])
    assert set(corrections.read_decisions(path)) == set(standing) | {"9"}
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_torn_last_line_is_ignored_with_a_warning(tmp_path, caplog):
    path = tmp_path / "d.jsonl"
    corrections.append_decisions(path, [corrections.make_decision(1, "drop", 0, "a")])
    path.write_bytes(path.read_bytes() + b'{"id": 2, "deci')
    with caplog.at_level(logging.WARNING):
        assert list(corrections.read_decisions(path)) == ["1"]
    assert "torn" in caplog.text


def test_decisions_that_were_reported_survive_kill_9(tmp_path):
    path = tmp_path / "d.jsonl"
    code = (
        "import itertools, sys\nfrom product_relevance.preparation.labels import corrections\n"
        "for n in itertools.count():\n"
        "    corrections.append_decisions(sys.argv[1], [corrections.make_decision(n, 'drop', 0, 'a')])\n"
        "    print(n, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    while writer.poll() is None and (not path.exists() or path.stat().st_size < 5000):
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    reported = writer.communicate()[0].split()
    assert {n.decode() for n in reported} <= set(corrections.read_decisions(path)) and len(reported) > 10


@pytest.mark.parametrize(
    "line, told",
    [
        ("[1]", "expected a JSON object"),
        ('{"id": 1, "decision": "delete", "label": 1}', "found decision 'delete', expected one of accept"),
        ('{"decision": "drop", "label": 1}', "found id None"),
        ('{"id": 1, "decision": "flip"}', "found label None"),
        ('{"id": 1, "decision": "down_weight", "label": 1, "weight": 2}', "found weight 2"),
    ],
)
def test_a_line_that_is_no_decision_is_named_with_file_and_line(tmp_path, line, told):
    path = tmp_path / "d.jsonl"
    corrections.append_decisions(path, [corrections.make_decision(1, "drop", 0, "a")])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match="d.jsonl:2: ") as raised:
        corrections.read_decisions(path)
    assert told in str(raised.value)


def test_only_the_named_rows_change(frame):
    made = made_for(frame, 0, "flip") | made_for(frame, 1, "drop") | made_for(frame, 2, "down_weight", 0.25)
    made |= made_for(frame, 3, "accept")
    before = frame.copy()
    changed, counts = corrections.apply_decisions(frame, made)
    assert counts == {"accepted": 1, "flipped": 1, "already_flipped": 0, "dropped": 1, "down_weighted": 1}
    assert frame.equals(before)
    assert changed["id"].tolist() == frame["id"].drop(1).tolist()
    assert changed["label"][0] == 1 - frame["label"][0]
    assert changed["label"].tolist()[1:] == frame["label"].tolist()[2:]
    assert changed["weight"].tolist() == [1.0, 0.25] + [1.0] * (len(frame) - 3)
    assert changed["label"].dtype == frame["label"].dtype and list(changed.index) == list(range(len(changed)))


def test_applying_twice_changes_nothing_more(frame):
    made = made_for(frame, 0, "flip") | made_for(frame, 2, "down_weight", 0.25)
    once, _ = corrections.apply_decisions(frame, made)
    twice, counts = corrections.apply_decisions(once, made)
    assert twice.equals(once) and counts["already_flipped"] == 1 and counts["flipped"] == 0


def test_no_decisions_change_nothing_but_add_the_weight(frame):
    changed, counts = corrections.apply_decisions(frame, {})
    assert changed.drop(columns="weight").equals(frame) and set(counts.values()) == {0}


def test_a_down_weight_never_raises_a_weight(frame):
    lighter = frame.assign(weight=0.1)
    changed, _ = corrections.apply_decisions(lighter, made_for(frame, 2, "down_weight", 0.25))
    assert (changed["weight"] == 0.1).all()


def test_a_decision_holds_for_translations_of_the_row_but_not_for_negatives_of_its_query(frame):
    source = frame.iloc[[0]].assign(label=1)
    methods = ["original", "translated", "noise", "hard_negative"]
    rows = source.loc[source.index.repeat(4)].reset_index(drop=True)
    rows = rows.assign(method=methods, source_row=source["id"].iloc[0], label=[1, 1, 1, 0])
    rows["id"] = [f"{row_id}#{n}" if n else str(row_id) for n, row_id in enumerate(rows["id"])]
    made = {str(source["id"].iloc[0]): corrections.make_decision(source["id"].iloc[0], "flip", 1, "test")}
    changed, counts = corrections.apply_decisions(rows, made)
    assert changed["label"].tolist() == [0, 0, 0, 0] and counts["flipped"] == 3
    dropped, _ = corrections.apply_decisions(rows, {key: replace(one, decision="drop") for key, one in made.items()})
    assert dropped["method"].tolist() == ["hard_negative"]


def test_a_copy_of_a_mined_negative_is_decided_as_that_negative(frame):
    rows = frame.iloc[[0] * 5].reset_index(drop=True).assign(id=["7", "7#h1", "7#h1#n1", "7#n1", "7#t1#n1"])
    rows = rows.assign(method=["original", "hard_negative", *["noise"] * 3], source_row="7", label=[1, 0, 0, 1, 1])
    dropped, _ = corrections.apply_decisions(rows, {"7": corrections.make_decision("7", "drop", 1, "test")})
    assert dropped["id"].tolist() == ["7#h1", "7#h1#n1"]
    dropped, _ = corrections.apply_decisions(rows, {"7#h1": corrections.make_decision("7#h1", "drop", 0, "test")})
    assert dropped["id"].tolist() == ["7", "7#n1", "7#t1#n1"]


def test_decisions_on_other_records_are_refused_with_the_way_out(frame):
    with pytest.raises(ValueError, match="1 of 2 name an id.*first: nowhere.*give the records that were reviewed"):
        corrections.apply_decisions(
            frame, made_for(frame, 0, "flip") | {"nowhere": corrections.make_decision("nowhere", "drop", 1, "a")}
        )


def test_records_without_labels_are_refused():
    frame = read_records(SAMPLE / "test_QC.txt", task="QC", role="test")
    with pytest.raises(ValueError, match="found no labels"):
        corrections.apply_decisions(frame, {})
