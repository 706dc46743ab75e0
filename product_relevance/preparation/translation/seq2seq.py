"""Translation models of the encoder-decoder kind: each family's language codes and prefixes, and greedy decoding."""

import importlib.util
from collections.abc import Callable
from functools import cached_property
from typing import Any

from product_relevance.models.loading import checkpoints
from product_relevance.preparation.translation.ctranslate2_backend import TYPES, Converted
from product_relevance.text.language_codes import normal_code, to_iso

# By code: FLORES-200 (arXiv 2207.04672, table 1), of each language its first script there, and mBART-50 (2008.00401).
_NLLB = """
    afr_Latn aka_Latn amh_Ethi arb_Arab asm_Beng ayr_Latn azj_Latn bak_Cyrl bam_Latn bel_Cyrl ben_Beng bod_Tibt
    bos_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab cym_Latn dan_Latn deu_Latn dzo_Tibt ell_Grek eng_Latn
    epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fra_Latn gla_Latn gle_Latn glg_Latn grn_Latn
    guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn
    ita_Latn jav_Latn jpn_Jpan kan_Knda kat_Geor kaz_Cyrl khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl kor_Hang
    lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn ltz_Latn lug_Latn lvs_Latn mal_Mlym mar_Deva mkd_Cyrl mlt_Latn
    mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nya_Latn oci_Latn ory_Orya pan_Guru pbt_Arab pes_Arab
    plt_Latn pol_Latn por_Latn quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sin_Sinh slk_Latn slv_Latn
    smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn
    swh_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tsn_Latn tso_Latn tuk_Latn tur_Latn
    twi_Latn uig_Arab ukr_Cyrl urd_Arab uzn_Latn vie_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans
    zsm_Latn zul_Latn
"""
NLLB_CODES = {normal_code(code): code for code in _NLLB.split()} | {"no": "nob_Latn"}
_MBART = """
    af_ZA ar_AR az_AZ bn_IN cs_CZ de_DE en_XX es_XX et_EE fa_IR fi_FI fr_XX gl_ES gu_IN he_IL hi_IN hr_HR id_ID it_IT
    ja_XX ka_GE kk_KZ km_KH ko_KR lt_LT lv_LV mk_MK ml_IN mn_MN mr_IN my_MM ne_NP nl_XX pl_PL ps_AF pt_XX ro_RO ru_RU
    si_LK sl_SI sv_SE sw_KE ta_IN te_IN th_TH tl_XX tr_TR uk_UA ur_PK vi_VN xh_ZA zh_CN
"""
MBART_CODES = {normal_code(code): code for code in _MBART.split()}
# Family -> the model types of its configs, and English's tag, by which its tokenizer shows it.
FAMILIES = {
    "madlad": (("t5", "mt5", "umt5"), "<2en>"),
    "nllb": (("m2m_100", "nllb-moe"), "eng_Latn"),
    "m2m100": (("m2m_100",), "__en__"),
    "mbart50": (("mbart",), "en_XX"),
    "marian": (("marian",), None),
}
MARKS_TARGET = ("madlad", "marian")  # the text begins with the target's tag; in the others with the source's
MAX_SOURCE_TOKENS = 500  # with tag and end below the 512 positions of OPUS-MT; the others have more
MAX_NEW_TOKENS = 384  # the 1st team's (arXiv 2510.25428)
NO_REPEAT_NGRAM = 2  # the 1st team's


def tags(family: str, code: str) -> list[str]:
    """Return the tokens by which a family may mark a language, the likeliest first.

    Args:
        family: A key of FAMILIES.
        code: A code of the competition (`vn`); for other languages ISO 639-1 or the family's own (`rus_Cyrl`).
    """
    iso = to_iso(code)
    if family == "marian":
        names = [NLLB_CODES.get(code, code).split("_")[0], iso, *(["ara"] if iso == "ar" else [])]
        return [f">>{name}<<" for name in names]
    if family in ("nllb", "mbart50"):
        return [(NLLB_CODES if family == "nllb" else MBART_CODES).get(code, code)]
    return [f"<2{iso}>" if family == "madlad" else f"__{iso}__"]


class Seq2Seq:
    """A MADLAD-400, NLLB, M2M100, mBART-50 or OPUS-MT checkpoint as an engine of `translators`.

    Args:
        model: Hub id or folder.
        revision: Commit, tag or branch on the Hub.
        backend: transformers, ctranslate2 (converted once into the user's cache), or auto: ctranslate2 where it is
            installed and knows the architecture.
        dtype: auto, float32, bfloat16, float16; with ctranslate2 also int8 and its other compute types.
        device: cpu, cuda, cuda:1; by default a GPU when there is one.

    Raises:
        ValueError: Not a translation model of a known family, or a backend that is missing.
    """

    name = "seq2seq"
    batch_size = 32
    prompt_marks = ("<2",)  # MADLAD-400's tags; decoding leaves the others out
    prompt_answers: frozenset[str] = frozenset()

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        backend: str = "auto",
        dtype: str = "auto",
        device: str | None = None,
    ):
        self.checkpoint = checkpoints.open_checkpoint(model, revision)
        self.config = self.checkpoint.config
        self.tokenizer = checkpoints.load_tokenizer(self.checkpoint)
        self.family = _family(model, self.config.model_type, self._tag_id)
        self.backend = _backend(backend, self.config.model_type)
        self.device = checkpoints.choose_device(device)
        if device is None and self.device == "mps" and self.backend == "ctranslate2":
            self.device = "cpu"  # CTranslate2 does not know the GPU of a Mac
        self.dtype = checkpoints.choose_dtype(dtype, self.device)
        if self.backend == "transformers" and self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype {self.dtype}: transformers has float32, bfloat16, float16; ctranslate2 has it")

    @property
    def settings(self) -> dict[str, object]:
        """What a translation depends on beside the text and the languages."""
        options = {"backend": self.backend, "dtype": self.dtype, "no_repeat_ngram": NO_REPEAT_NGRAM}
        return self.checkpoint.settings | {"engine": self.name, "options": options}

    def supports(self, source: str, target: str) -> bool:
        """Return whether the model knows both languages."""
        if self.family == "madlad":  # it finds the source language by itself
            return self._find(target) is not None
        if self.family == "marian":
            return self._marian_supports(source, target)
        return self._find(source) is not None and self._find(target) is not None

    def translate(self, texts: list[str], sources: list[str], targets: list[str]) -> list[str]:
        """Translate one batch, greedily.

        Args:
            texts: Some hundred characters each at most.
            sources: Their languages, in codes of the competition.
            targets: The languages to translate into.

        Returns:
            One translation a text.
        """
        ids = self.encode(texts, sources, targets)
        limits = [min(MAX_NEW_TOKENS, 2 * len(row) + 16) for row in ids]
        rows = self.model.generate(ids, self.starts(targets), max(limits))
        # Each row ends at its own limit, so that a translation does not depend on the batch it fell into.
        return [self._decode(row[:limit]) for row, limit in zip(rows, limits, strict=True)]

    def encode(self, texts: list[str], sources: list[str], targets: list[str]) -> list[list[int]]:
        """Turn texts into the ids that the encoder gets: a tag, the text, the end token."""
        fronts = [self._front(code) for code in (targets if self.family in MARKS_TARGET else sources)]
        bodies = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        # In Unigram vocabularies `</s>` is a token like others: a query that holds it would end there.
        hidden = {self.config.eos_token_id, self.config.pad_token_id} - {self.tokenizer.unk_token_id}
        bodies = [[i for i in body if i not in hidden][:MAX_SOURCE_TOKENS] for body in bodies]
        return [[*front, *body, self.config.eos_token_id] for front, body in zip(fronts, bodies, strict=True)]

    def starts(self, targets: list[str]) -> list[list[int]]:
        """Return what the decoder begins with: its start token, and the target's tag where the text has not got it."""
        start = self.config.decoder_start_token_id
        return [[start] if self.family in MARKS_TARGET else [start, self._known(code)] for code in targets]

    @cached_property
    def model(self) -> "Converted | _Generator":
        """The weights, loaded at first use: what the cache holds needs none."""
        if self.backend == "ctranslate2":
            return Converted(self._load, self.checkpoint, self.device, self.dtype, NO_REPEAT_NGRAM)
        return _Generator(self._load(self.device, self.dtype), self.device)

    def _tag_id(self, tag: str) -> int | None:
        found = self.tokenizer.convert_tokens_to_ids(tag)
        return None if found == self.tokenizer.unk_token_id else found

    def _find(self, code: str) -> int | None:
        return next((found for tag in tags(self.family, code) if (found := self._tag_id(tag)) is not None), None)

    def _known(self, code: str) -> int:
        """Return the tag of a language that the model knows, see `supports`."""
        found = self._find(code)
        if found is None:
            raise ValueError(f"{self.checkpoint.name}: found no tag of the language {code}; ask `supports` first")
        return found

    def _front(self, code: str) -> list[int]:
        if self.family != "madlad":
            found = self._find(code)
            return [] if found is None else [found]
        found = self._known(code)
        # By the tokenizer, not by hand: some versions put a word mark in front of the tag.
        ids = self.tokenizer(tags("madlad", code)[0], add_special_tokens=False, split_special_tokens=False)
        return ids["input_ids"] if found in ids["input_ids"] else [found]

    def _marian_supports(self, source: str, target: str) -> bool:
        for side, code in (("source_lang", source), ("target_lang", target)):
            only = getattr(self.tokenizer, side, None)
            # Two letters are one language; `mul`, `roa` or `eng+fra` are several; only the tags can separate them.
            if only and len(only) == 2 and only != to_iso(code):
                return False
        return not self.tokenizer.supported_language_codes or self._find(target) is not None

    def _decode(self, ids: list[int]) -> str:
        end = self.config.eos_token_id
        return self.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids, skip_special_tokens=True).strip()

    def _load(self, device: str, dtype: str) -> Any:
        from transformers import AutoModelForSeq2SeqLM, GenerationConfig

        model = checkpoints.load_model(AutoModelForSeq2SeqLM, self.checkpoint, device, dtype)
        _require_own_head(model, self.checkpoint.name)
        # A config of its own: those on the Hub ask for beams, forced tokens and lengths.
        model.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            no_repeat_ngram_size=NO_REPEAT_NGRAM,
            pad_token_id=self.config.pad_token_id,
            eos_token_id=self.config.eos_token_id,
            decoder_start_token_id=self.config.decoder_start_token_id,
            # In OPUS-MT the pad token starts the decoder; it was never trained as an output.
            bad_words_ids=[[self.config.pad_token_id]] if self.family == "marian" else None,
        )
        return model


class _Generator:
    """Plain transformers: what runs where ctranslate2 is not installed."""

    def __init__(self, model: Any, device: str):
        self.model, self.device = model, device

    def generate(self, ids: list[list[int]], starts: list[list[int]], limit: int) -> list[list[int]]:
        """Continue `starts` greedily by at most `limit` tokens per row."""
        import torch

        width, pad = max(map(len, ids)), self.model.generation_config.pad_token_id
        batch = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self.device)
        begin = torch.tensor(starts, device=self.device)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=batch, attention_mask=mask, decoder_input_ids=begin, max_new_tokens=limit
            )
        return made[:, begin.shape[1] :].tolist()


def _family(model: str, model_type: str, tag_id: Callable[[str], int | None]) -> str:
    for family, (types, english) in FAMILIES.items():
        if model_type in types and (english is None or tag_id(english) is not None):
            return family
    known = ", ".join(sorted({t for types, _ in FAMILIES.values() for t in types}))
    raise ValueError(
        f"{model}: found a model of type {model_type}, expected a translation model (types {known}) whose tokenizer "
        "knows a tag of English (<2en>, eng_Latn, __en__, en_XX); for a causal model take the engine llm"
    )


def _backend(backend: str, model_type: str) -> str:
    installed = importlib.util.find_spec("ctranslate2") is not None
    if backend == "auto":
        return "ctranslate2" if installed and model_type in TYPES else "transformers"
    if backend not in ("ctranslate2", "transformers"):
        raise ValueError(f"backend: found {backend!r}, expected auto, ctranslate2 or transformers")
    if backend == "ctranslate2" and not installed:
        raise ValueError("backend ctranslate2 is not installed: pip install ctranslate2, or use transformers")
    if backend == "ctranslate2" and model_type not in TYPES:
        raise ValueError(f"backend ctranslate2 knows no {model_type}, only {', '.join(TYPES)}: use transformers")
    return backend


def _require_own_head(model: Any, name: str) -> None:
    """Raise ValueError if transformers read the embeddings of MADLAD-400 from the output layer, as some versions do.

    The translations would be noise, without an error. Source: huggingface/transformers issue 48154 (seen with 5.15.1).
    """
    import torch

    config = model.config
    untied = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings) is False
    if config.model_type == "t5" and untied and torch.equal(model.lm_head.weight, model.encoder.embed_tokens.weight):
        raise ValueError(
            f"{name}: this version of transformers reads the output layer as the encoder's embeddings "
            "(huggingface/transformers issue 48154): pip install 'transformers>=5.23'"
        )
