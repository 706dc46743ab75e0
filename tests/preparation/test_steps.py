"""Steps check their options when they are given, and in any order no made row leaves the fold of its source."""

import pandas as pd
import prepare as program
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.leakage import require_no_leak
from product_relevance.models import sentence_encoder
from product_relevance.preparation.arguments import PreparationArguments
from product_relevance.preparation.labels import corrections
from product_relevance.preparation.pipeline import read_arguments
from product_relevance.preparation.steps.contents import fingerprint_option
from product_relevance.preparation.steps.negatives import EasyNegatives, HardNegatives
from product_relevance.preparation.steps.recipe import read_steps
from product_relevance.preparation.steps.translate import Translate
from product_relevance.preparation.steps.translated_rows import Languages
from tests.conftest import ROOT
from tests.helpers.made_rows import encode, prepared

REQUIRED = {"file": "nowhere.txt", "task": "QC", "output": "out.parquet"}


def arguments_of(folder, listed: list, **changes) -> PreparationArguments:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(REQUIRED | {"steps": listed} | changes), encoding="utf-8")
    return read_arguments([str(path)], program.make_parser())


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Steps that need no model: one of each method."""
    folder, frame = tmp_path_factory.mktemp("light"), prepared(90, 3)
    english = frame["translated_query"].where(frame["language"] != "en", frame["query"]).unique()
    rows = [{"query": t, "language": code, "translation": t[::-1]} for t in english for code in ("de", "es", "fr")]
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    labels = dict(zip(frame["id"], frame["label"], strict=True))
    made = [
        corrections.make_decision(i, kind, labels[i], "a", 0.5)
        for i, kind in ((1, "flip"), (2, "drop"), (5, "down_weight"))
    ]
    corrections.append_decisions(folder / "decisions.jsonl", made)
    table = {"engine": "table", "model": str(folder / "table.csv"), "share": 0.5}
    return [
        {"noise": {"rate": 0.5}},
        {"noise": {"rate": 0.5, "seed": 1}},
        {"languages": table | {"languages": ["de"]}},
        {"back": table},
        {"hard_negatives": {"band": [0.2, 0.9]}},
        {"easy_negatives": {"negative_share": 0.6}},
        {"filter": {"apply": str(folder / "decisions.jsonl")}},
    ]


@given(st.permutations(range(7)), st.integers(1, 7))
@settings(max_examples=12, deadline=None)
def test_in_any_order_of_steps_no_made_row_crosses_its_fold(light, order, count):
    frame = prepared(90, 3)
    fold_of = dict(zip(frame["id"].astype(str), frame["fold"], strict=True))
    arguments = PreparationArguments(**REQUIRED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence_encoder, "load_encoder", lambda *a, **k: encode)
        for _, step in read_steps([light[i] for i in order[:count]], "recipe"):
            frame = step(frame, arguments)
    assert frame["id"].is_unique
    if "source_row" in frame:
        assert frame["fold"].tolist() == [fold_of[source] for source in frame["source_row"]]
    for fold in range(3):
        require_no_leak(frame, frame["fold"] != fold, frame["fold"] == fold)


@pytest.mark.parametrize(
    "listed, told",
    [
        ([{"nois": {}}], "step 1: unknown name 'nois'; did you mean noise?"),
        ([{"noise": {"rat": 0.1}}], "noise: unknown name 'rat'; did you mean rate?"),
        ([{"noise": {"rate": "much"}}], "invalid float value: 'much'"),
        ([{"languages": {"languages": ["de", False]}}], "found False, expected a text or a number; YAML reads 'no'"),
        ([{"noise": {"rate": 2}}], "found 2.0, expected a share from 0 to 1"),
        ([{"noise": {"kinds": ["smell"]}}], "kinds: found smell"),
        ([{"noise": {"rate": {"en": 1}}}], "found a mapping"),
        ([{"noise": 3}], "expected a mapping of options"),
        ([{"noise": {}, "back": {}}], "expected one name and its options"),
        ([{"back": {"engine": "table"}}], "found no model"),
        ([{"back": {"engine": "tabl", "model": "x"}}], "invalid choice: 'tabl'"),
        ([{"languages": {"engine": "table", "model": "x"}}], "either languages or like"),
        ([{"languages": {"engine": "table", "model": "x", "languages": ["de=much"]}}], "expected codes, or as de=0.1"),
        ([{"hard_negatives": {"band": [0.9, 0.8]}}], "expected the lower end first"),
        ([{"hard_negatives": {"band": [0.9]}}], "expected 2 arguments"),
        ([{"hard_negatives": {"pool": 0}}], "expected at least 1 target"),
        ([{"easy_negatives": {"max_similarity": 3, "unit": "quantile"}}], "expected values from 0 to 1"),
        ([{"easy_negatives": {"negative_share": 1.5}}], "expected a share between 0 and 1"),
        ([{"filter": {"run": "x"}}], "expected apply"),
        ([{"filter": {"apply": "drop"}}], "found no run"),
        ([{"filter": {"run": "x", "apply": "drop", "threshold": 1.5}}], "expected a probability"),
        ([{"filter": {"run": "x", "apply": "drop", "threshold_of": ["de"]}}], "expected KEY=THRESHOLD"),
        ([{"filter": {"run": "x", "apply": "nothing.jsonl"}}], "or a decisions file"),
        (["noise", {"translate": {"engine": "none"}}], "translate comes first"),
        ("noise", "expected a list"),
    ],
)
def test_what_a_recipe_gets_wrong_is_told_before_anything_is_read(tmp_path, listed, told):
    with pytest.raises(ValueError) as error:
        arguments_of(tmp_path, listed)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"num_fold": 3}, "unknown key 'num_fold'; did you mean num_folds?"),
        ({"num_folds": 1}, "expected at least 2"),
        ({"task": "QI", "group_by": "prefix"}, "no category prefix"),
        ({"language_fix": "guess"}, "invalid choice"),
        ({"output": None}, "found no output"),
        ({"translation": False}, "translation: found False, expected a text or a number"),
    ],
)
def test_a_wrong_key_of_a_recipe_is_told(tmp_path, changes, told):
    with pytest.raises(ValueError) as error:
        arguments_of(tmp_path, [], **changes)
    assert told in str(error.value)


def test_what_a_step_reads_is_missed_before_any_step_runs(tmp_path, train_file):
    for name, options in (("languages", {"languages": ["de"]}), ("back", {})):
        listed = [{name: options | {"engine": "table", "model": str(tmp_path / "gone.csv")}}]
        arguments = arguments_of(tmp_path, listed, file=str(train_file), output=str(tmp_path / "out.parquet"))
        with pytest.raises(SystemExit, match=r"model: found .*gone.csv.* expected a file"):
            program.main([str(tmp_path / "recipe.yaml")])
        assert arguments.steps[0][0] == name and not (tmp_path / "out.parquet.parts").exists()


def test_a_missing_table_is_not_asked_for_on_the_hub():
    for option, name in (("translation", "org/private-names"), ("model", "org/private.csv")):
        with pytest.raises(ValueError, match="there is no such table"):
            fingerprint_option(option, name)


def test_options_reach_their_step_with_their_types(tmp_path):
    listed = [
        {"translate": {"engine": "none", "skip": []}},
        {"hard_negatives": {"band": [0.1, 0.5], "relatives": True, "prefixes": ["q: ", "t: "], "margin": -1}},
        "easy_negatives",
        {"languages": {"engine": "table", "model": "x.csv", "languages": "de", "cap": 5}},
    ]
    found = [step for _, step in arguments_of(tmp_path, listed).steps]
    assert found[0] == Translate(engine="none", skip=[])
    assert found[1] == HardNegatives(band=[0.1, 0.5], relatives=True, prefixes=["q: ", "t: "], margin=-1)
    assert found[2] == EasyNegatives()
    assert found[3] == Languages(engine="table", model="x.csv", languages=["de"], cap=5)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes/data").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_data_recipe_is_understood(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = read_arguments([str(recipe)], program.make_parser())
    assert arguments.steps and (ROOT / arguments.file).is_file() and arguments.output.startswith("runs/")
