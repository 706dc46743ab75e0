"""A language has one code wherever it is read or asked for, and what was written is kept."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from product_relevance.data.arguments import DataArguments
from product_relevance.data.folds import leave_languages_out
from product_relevance.data.records import read_records, source_record
from product_relevance.evaluation.decision_rule import KINDS, DecisionRule
from product_relevance.evaluation.metrics import RowFacts, scores_report
from product_relevance.preparation.augmentation.translated_rows import from_language_table, missing_languages
from product_relevance.preparation.steps.translated_rows import Languages
from product_relevance.preparation.translation.seq2seq import tags
from product_relevance.serving.protocol import Limits, parse_request
from product_relevance.text.language_codes import LANGUAGES, code_pattern, is_code, normal_code
from product_relevance.text.languages import fix_language
from product_relevance.text.templates import PairFacts, Template
from tests.helpers.record_rows import rows_of, write_lines

WRITTEN = {
    "de": ["de", "DE", "de_DE", "de-DE", "de_DE.UTF-8", "de-AT-1996", "deu", "ger", "deu_Latn", "German", " de "],
    "pt": ["pt-BR", "pt_PT", "por", "POR_Latn"],
    "zh": ["zh-Hans", "zh_TW", "zho_Hans", "chi", "cmn"],
    "vn": ["vn", "vi", "vi-VN", "vie_Latn", "Vietnamese"],
    "ar": ["ar-EG", "ara", "arb_Arab"],
    "he": ["he", "iw"],
    "yue": ["yue", "yue-Hant"],
    "unk": ["unk"],
    "und": ["und"],
}


@pytest.mark.parametrize("code", WRITTEN)
def test_a_language_has_one_code_however_it_is_written(code):
    assert {normal_code(given) for given in WRITTEN[code]} == {code}


def test_the_13_codes_stay_as_they_are():
    assert [normal_code(code) for code in LANGUAGES] == list(LANGUAGES)


@pytest.mark.parametrize("given", ["xx", "XX-DE", "1", "", "english (us)", "日本語"])
def test_what_is_no_code_stays_and_is_known_for_none(given):
    assert normal_code(given) == given and not is_code(given)


@pytest.mark.parametrize("given", ["en_US", "EN", "en-gb", "eng"])
def test_english_rows_are_corrected_under_each_way_of_writing_english(given):
    queries = ["Holzregal für die Küche mit Schubladen", "wooden shelf for the kitchen wall"]
    found = fix_language({"language": [given] * 2, "query": queries})
    assert found == {"given_language": ["en", "en"], "language": ["de", "en"]}


def test_records_have_one_code_and_give_back_the_one_that_was_written(tmp_path):
    written = ["pt-BR", "pt", "de_DE"]
    frame = read_records(write_lines(tmp_path / "a.txt", rows_of(*({"language": code} for code in written))))
    assert frame["language"].tolist() == ["pt", "pt", "de"]
    assert [source_record(row)["language"] for row in frame.to_dict("records")] == written


def test_codes_that_are_none_are_kept_and_counted(tmp_path, caplog):
    rows = rows_of(*({"language": code} for code in ["xx", "xx", "q1", "en"]))
    with caplog.at_level(logging.WARNING):
        frame = read_records(write_lines(tmp_path / "a.txt", rows))
    assert frame.attrs["unknown_languages"] == {"xx": 2, "q1": 1}
    assert "3 rows have codes that are none of ISO 639" in caplog.text and "'xx' 2, 'q1' 1" in caplog.text


def test_a_file_of_known_codes_is_read_without_a_word(tmp_path, caplog):
    read_records(write_lines(tmp_path / "a.txt", rows_of({"language": "pt-BR"}, {"language": "ro"})))
    assert not caplog.records


def test_held_out_languages_meet_those_of_the_file():
    assert DataArguments(train_file="a", task="QC", held_out_languages=["pt-BR", "DE"]).held_out_languages == [
        "pt",
        "de",
    ]
    frame = pd.DataFrame({"language": ["pt_BR", "en"], "origin_query": ["mesa", "table"]})
    assert leave_languages_out(frame, ["pt"])[1].tolist() == [True, False]


def test_the_tag_of_a_query_is_the_code_of_training():
    assert Template(language_tag=True).render(["mesa"], ["home"], PairFacts(["pt-BR"]))[0] == ["[pt] mesa"]


def test_a_threshold_of_a_language_serves_all_its_ways_of_writing():
    whole, own = dict.fromkeys(KINDS, 0.5), dict.fromkeys(KINDS, 0.2)
    found = DecisionRule(whole, {"de": own}).row_thresholds(["de-DE", "de", "fr"])
    assert found.tolist() == [0.2, 0.2, 0.5]


def test_figures_by_language_put_all_ways_of_writing_together():
    report = scores_report([0, 1], np.array([0.1, 0.9]), 0.5, RowFacts(["pt-BR", "pt"], ["pt_PT"]))
    assert report["by_language"]["pt"]["rows"] == 2 and report["by_language"]["pt"]["seen"]


def test_missing_languages_are_compared_by_code_and_may_be_any_of_iso_639():
    sides = pd.DataFrame({"language": ["de_DE", "en"]}), pd.DataFrame({"language": ["de", "ro-RO", "unk", "xx"]})
    assert missing_languages(*sides) == ["ro"]


def test_languages_to_translate_into_may_be_written_in_any_way(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("query,language,translation\ntable,pt-BR,mesa\n", encoding="utf-8")
    assert Languages(engine="table", model=str(table), languages=["pt_PT=0.1"])._given() == {"pt": 0.1}
    assert from_language_table(table)(["table"], ["pt"]) == ["mesa"]


@pytest.mark.parametrize(("code", "expected"), [("ro", "ron_Latn"), ("zh", "zho_Hans"), ("vn", "vie_Latn")])
def test_nllb_has_a_tag_for_any_of_its_languages_by_code(code, expected):
    assert tags("nllb", code) == [expected]


@pytest.mark.parametrize("given", ["de", "DE_de", "zh-Hans-CN", "iw", "yue", "xx", "x", "de!", "german", "12"])
def test_the_pattern_of_the_api_accepts_what_is_a_code(given):
    assert bool(re.search(code_pattern(), given)) == (given not in ("xx", "x", "de!", "german", "12"))


def test_the_server_takes_a_language_in_any_form():
    encoder = SimpleNamespace(template=Template(language_tag=True))
    whole = SimpleNamespace(run={"task": "QC"}, encoder=encoder, rule=DecisionRule({"f1": 0.5}))
    whole.of_task = lambda task: whole
    request = {"inputs": {"text": "mesa", "text_pair": "home", "language": "pt-BR"}}
    assert parse_request(request, whole, Limits()).languages == ["pt"]
