"""Each family's codes and prefixes reach the model, greedy decoding is its own, and CTranslate2 gives the same."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from product_relevance.preparation.translation.seq2seq import Seq2Seq, tags
from product_relevance.text.languages import LANGUAGES
from tests.conftest import save_base
from tests.helpers.tiny_translators import FAMILIES, save_translator

TEXTS = ["funda rosa para iphone 12", "Regenjacke für Kinder", "đèn ngủ", "赤い靴", "หมวกกันน็อค", "😀 </s> x", "سماعة"]
SOURCES = ["es", "de", "vn", "ja", "th", "es", "ar"]
# What stands in front of a Vietnamese text, and what the decoder begins with after its start token, into English.
FRONTS = {"madlad": ["<2en>"], "nllb": ["vie_Latn"], "m2m100": ["__vi__"], "mbart50": ["vi_VN"], "marian": []}
STARTS = {"madlad": [], "nllb": ["eng_Latn"], "m2m100": ["__en__"], "mbart50": ["en_XX"], "marian": []}
needs_ctranslate2 = pytest.mark.skipif(
    not importlib.util.find_spec("ctranslate2"), reason="ctranslate2 is not installed"
)
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("sentencepiece"), reason="sentencepiece is not installed")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def get(family: str, **options):
        key = f"{family} {options}"
        if key not in made:
            made[key] = str(save_translator(tmp_path_factory.mktemp("models") / family, family, **options))
        return made[key]

    return get


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path


def tokens(engine, ids):
    return engine.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_and_prefixes_reach_the_model(folder_of, family):
    engine = Seq2Seq(folder_of(family), backend="transformers")
    seen = {"get_encoder": [], "get_decoder": []}
    for side, calls in seen.items():
        part = getattr(engine.model.model, side)()
        part.register_forward_pre_hook(
            lambda _, args, kwargs, c=calls: c.append(kwargs["input_ids"]), with_kwargs=True
        )
    engine.translate(["đèn ngủ"], ["vn"], ["en"])
    assert engine.family == family
    ids = seen["get_encoder"][0][0].tolist()
    front = [token for token in tokens(engine, ids)[:2] if token != "▁"][: len(FRONTS[family])]
    assert front == FRONTS[family] and ids[-1] == engine.config.eos_token_id
    started = seen["get_decoder"][0][0].tolist()
    assert started[0] == engine.config.decoder_start_token_id and tokens(engine, started[1:]) == STARTS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ids_are_those_of_the_family_s_own_tokenizer(folder_of, family):
    from transformers import AutoTokenizer

    engine = Seq2Seq(folder_of(family), backend="transformers")
    own = AutoTokenizer.from_pretrained(folder_of(family))
    codes = {"nllb": "vie_Latn", "m2m100": "vi", "mbart50": "vi_VN"}
    if family in codes:
        own.src_lang = codes[family]
    text = "<2en> den ngu" if family == "madlad" else "den ngu"
    assert engine.encode(["den ngu"], ["vn"], ["en"]) == [own(text)["input_ids"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_what_generate_does_with_the_family_s_forced_first_token(folder_of, family):
    from transformers import AutoModelForSeq2SeqLM

    engine = Seq2Seq(folder_of(family), backend="transformers")
    ids = engine.encode(["den ngu"], ["vn"], ["en"])
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder_of(family))
    forced = {"forced_bos_token_id": engine.starts(["en"])[0][1]} if STARTS[family] else {}
    options = {"num_beams": 1, "do_sample": False, "no_repeat_ngram_size": 2, "forced_eos_token_id": None}
    made = plain.generate(torch.tensor(ids), max_new_tokens=12, max_length=None, **options, **forced)[0].tolist()
    assert engine.model.generate(ids, engine.starts(["en"]), 11)[0] == made[1 + len(forced) :][:11]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_translation_does_not_depend_on_its_batch(folder_of, family):
    engine = Seq2Seq(folder_of(family), backend="transformers")
    engine.model.model.double()  # random weights: rounding would decide between two words here and there
    targets = ["en"] * len(TEXTS)
    alone = [engine.translate([text], [source], ["en"])[0] for text, source in zip(TEXTS, SOURCES, strict=True)]
    assert engine.translate(TEXTS, SOURCES, targets) == alone
    assert len(set(alone)) > 1


@needs_ctranslate2
@pytest.mark.parametrize("family", FAMILIES)
def test_ctranslate2_gives_the_same_tokens(folder_of, home, family):
    plain = Seq2Seq(folder_of(family), backend="transformers")
    fast = Seq2Seq(folder_of(family))
    assert fast.backend == "ctranslate2"
    ids, starts = plain.encode(TEXTS, SOURCES, ["en"] * len(TEXTS)), plain.starts(["en"] * len(TEXTS))
    expected, found = plain.model.generate(ids, starts, 20), fast.model.generate(ids, starts, 20)
    same = 0
    for row, start, one, other in zip(ids, starts, expected, found, strict=True):
        one, other = (made[: made.index(plain.config.eos_token_id)] if plain.config.eos_token_id in made else made
                      for made in (one, other))  # fmt: skip
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        same += one == other
        # Random weights have ties; where the two part, both tokens were as good.
        assert one == other or gap(plain, row, start + one[:at], one[at], other[at]) < 1e-3
    assert same >= len(TEXTS) - 2


def gap(engine, ids, begin, a, b) -> float:
    with torch.inference_mode():
        found = engine.model.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([begin]))
    return abs(found.logits[0, -1, a] - found.logits[0, -1, b]).item()


@needs_ctranslate2
def test_a_model_is_converted_once_and_a_killed_conversion_leaves_nothing(folder_of, home, monkeypatch):
    folder = folder_of("marian")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("product_relevance.preparation.translation.ctranslate2_backend._convert", killed)
        Seq2Seq(folder).translate(["rot"], ["de"], ["en"])
    assert list((home / "product_relevance" / "ctranslate2").iterdir()) == []
    first = Seq2Seq(folder).translate(["rot"], ["de"], ["en"])
    monkeypatch.setattr("product_relevance.preparation.translation.ctranslate2_backend._convert", killed)
    assert Seq2Seq(folder).translate(["rot"], ["de"], ["en"]) == first
    assert len(list((home / "product_relevance" / "ctranslate2").iterdir())) == 1


@needs_ctranslate2
def test_int8_is_ctranslate2_s_and_has_a_cache_of_its_own(folder_of, home):
    fast = Seq2Seq(folder_of("marian"), dtype="int8")
    assert fast.translate(["rot"], ["de"], ["en"]) and fast.settings != Seq2Seq(folder_of("marian")).settings
    with pytest.raises(ValueError, match="ctranslate2 has it"):
        Seq2Seq(folder_of("marian"), dtype="int8", backend="transformers")


def test_every_language_of_the_competition_has_a_tag_in_every_family(folder_of):
    for family in ("m2m100", "mbart50"):  # these two tokenizers bring all their languages
        engine = Seq2Seq(folder_of(family), backend="transformers")
        assert all(engine.supports(code, "en") and engine.supports("en", code) for code in LANGUAGES), family
        assert not engine.supports("xx", "en")
    assert [tags(family, "vn")[0] for family in FAMILIES] == ["<2vi>", "vie_Latn", "__vi__", "vi_VN", ">>vie<<"]
    assert tags("nllb", "rus_Cyrl") == ["rus_Cyrl"] and tags("marian", "ar") == [">>arb<<", ">>ar<<", ">>ara<<"]
    assert len({tags("nllb", code)[0] for code in LANGUAGES}) == len(LANGUAGES)


def test_madlad_translates_from_any_language_but_only_into_what_it_has_a_tag_for(folder_of):
    engine = Seq2Seq(folder_of("madlad"), backend="transformers")
    assert engine.supports("unk", "en") and engine.supports("en", "vn") and not engine.supports("en", "xx")


def test_opus_mt_knows_its_pair_and_marks_the_target_where_it_has_several(folder_of):
    pair = Seq2Seq(folder_of("marian", languages=("de", "en")), backend="transformers")
    assert pair.supports("de", "en") and not pair.supports("es", "en") and not pair.supports("de", "fr")
    many = Seq2Seq(folder_of("marian", tags=(">>deu<<", ">>ara<<"), languages=("en", "mul")), backend="transformers")
    assert many.supports("en", "ar") and not many.supports("en", "ja") and not many.supports("es", "de")
    assert tokens(many, many.encode(["red", "red"], ["en"] * 2, ["de", "ar"])[1])[0] == ">>ara<<"


@pytest.mark.parametrize("family", FAMILIES)
def test_special_words_in_a_query_end_nothing(folder_of, family):
    engine = Seq2Seq(folder_of(family), backend="transformers")
    (ids,) = engine.encode(["rot </s><pad> x"], ["de"], ["en"])
    assert ids.index(engine.config.eos_token_id) == len(ids) - 1 and engine.config.pad_token_id not in ids


def test_a_letter_that_madlad_does_not_know_is_not_the_end_of_the_text(folder_of):
    engine = Seq2Seq(folder_of("madlad"), backend="transformers")
    (ids,) = engine.encode(["rot ☃ blau"], ["de"], ["en"])
    assert ids.count(engine.config.eos_token_id) == 1 and engine.tokenizer.unk_token_id in ids


def test_madlad_read_with_its_output_layer_as_embeddings_is_refused(folder_of, tmp_path):
    folder = save_translator(tmp_path / "madlad", "madlad")
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if "embed_tokens" in name]:
        weights[name] = weights["lm_head.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="48154"):
        Seq2Seq(str(folder), backend="transformers").translate(["rot"], ["de"], ["en"])
    assert Seq2Seq(folder_of("madlad"), backend="transformers").translate(["rot"], ["de"], ["en"])


def test_other_models_are_refused_with_a_way_out(tmp_path, folder_of):
    with pytest.raises(ValueError, match="take the engine llm"):
        Seq2Seq(str(save_base(tmp_path / "bert", "bert")))
    plain = save_translator(tmp_path / "t5", "madlad")
    vocabulary = (plain / "tokenizer.json").read_text(encoding="utf-8").replace("<2en>", "<nothing>")
    (plain / "tokenizer.json").write_text(vocabulary, encoding="utf-8")
    with pytest.raises(ValueError, match="a tag of English"):
        Seq2Seq(str(plain))
    with pytest.raises(ValueError, match="expected auto, ctranslate2 or transformers"):
        Seq2Seq(folder_of("marian"), backend="onnx")


def test_weights_that_can_run_code_are_not_read(tmp_path):
    folder = save_translator(tmp_path / "marian", "marian")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        Seq2Seq(str(folder), backend="transformers").translate(["rot"], ["de"], ["en"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="auto_map"):
        Seq2Seq(str(folder), backend="transformers")


def test_settings_follow_the_content_not_the_place(tmp_path):
    one, two = (save_translator(tmp_path / name, "marian") for name in ("a", "b"))
    first = Seq2Seq(str(one), backend="transformers").settings
    assert first == Seq2Seq(str(two), backend="transformers").settings
    weights = load_file(two / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, two / "model.safetensors", {"format": "pt"})
    assert first != Seq2Seq(str(two), backend="transformers").settings


def test_no_two_tokens_come_twice_in_a_row(folder_of):
    engine = Seq2Seq(folder_of("marian"), backend="transformers")
    (made,) = engine.model.generate(engine.encode(["rot"], ["de"], ["en"]), engine.starts(["en"]), 60)
    pairs = list(zip(made, made[1:], strict=False))
    assert len(made) > 20 and len(pairs) == len(set(pairs))
