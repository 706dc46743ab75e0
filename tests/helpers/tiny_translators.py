"""Tiny random translation models with real tokenizers of each family: they prove mechanics, never quality."""

import io
import json
from pathlib import Path

from tests.conftest import rows_of

LANGUAGES = ("en", "es", "de", "vi", "ar", "ja", "th")
NLLB_TAGS = ("eng_Latn", "spa_Latn", "deu_Latn", "vie_Latn", "arb_Arab", "jpn_Jpan", "tha_Thai")
FAMILIES = ("madlad", "nllb", "m2m100", "mbart50", "marian")
SIZES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
WIDTHS = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 1024}


def save_translator(folder: Path, family: str, **config) -> Path:
    """Save a tiny model and its tokenizer as the Hub holds them."""
    folder.mkdir(parents=True)
    {"madlad": _madlad, "nllb": _nllb, "m2m100": _m2m100, "mbart50": _mbart50, "marian": _marian}[family](
        folder, **config
    )
    return folder


def _pieces(size: int = 800, user: tuple[str, ...] = ()) -> tuple[bytes, list]:
    import sentencepiece

    texts = [row["origin_query"] for name in ("train_QC.txt", "dev_QC.txt", "dev_QI.txt") for row in rows_of(name)]
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=file,
        vocab_size=size,
        model_type="unigram",
        character_coverage=0.995,
        user_defined_symbols=list(user),
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    return file.getvalue(), [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]


def _save(model_class, config, folder: Path) -> None:
    import torch

    torch.manual_seed(1)
    model = model_class(config)
    for weight in model.parameters():  # at the usual deviation of .02 every text gets the same translation
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    if config.model_type == "marian":  # its decoder starts from a zero embedding
        model.get_input_embeddings().weight.data[config.pad_token_id] = 0
    model.save_pretrained(folder)


def _config_file(folder: Path, **content) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def _madlad(folder: Path, **config) -> None:
    """Ids as MADLAD-400 has them: <unk> 0, <s> 1, </s> 2, tags; decoder start 0; an output layer of its own."""
    import torch
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import T5Config, T5ForConditionalGeneration

    _, pieces = _pieces(user=tuple(f"<2{code}>" for code in LANGUAGES))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<s>"}
    _config_file(folder, tokenizer_class="T5Tokenizer", extra_ids=0, **special)
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    shape = {"vocab_size": len(pieces), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    _save(T5ForConditionalGeneration, T5Config(**shape, **ids, feed_forward_proj="gated-gelu", **config), folder)
    weights = load_file(folder / "model.safetensors")
    weights["decoder.embed_tokens.weight"] = weights.pop("shared.weight")
    weights["lm_head.weight"] = torch.randn(len(pieces), 32, generator=torch.Generator().manual_seed(2))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    saved = json.loads((folder / "config.json").read_text())
    saved.pop("scale_decoder_outputs", None)
    (folder / "config.json").write_text(json.dumps(saved | {"tie_word_embeddings": False}))


def _nllb(folder: Path, **config) -> None:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *dict.fromkeys(c for text in _letters() for c in text)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=list(NLLB_TAGS))
    tokenizer.save_pretrained(folder)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    made = M2M100Config(vocab_size=len(tokenizer), **SIZES, **WIDTHS, **ids, **config)
    _save(M2M100ForConditionalGeneration, made, folder)


def _letters() -> list[str]:
    texts = [row["origin_query"] for row in rows_of("train_QC.txt")[:400]]
    return ["▁", *("▁" + text.replace(" ", "▁") for text in texts)]


def _m2m100(folder: Path, **config) -> None:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    model, pieces = _pieces()
    names = ["<s>", "<pad>", "</s>", "<unk>", *(piece for piece, _ in pieces[3:])]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    size = len(names) + len(tokenizer.lang_token_to_id) + tokenizer.num_madeup_words
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    _save(M2M100ForConditionalGeneration, M2M100Config(vocab_size=size, **SIZES, **WIDTHS, **ids, **config), folder)


def _mbart50(folder: Path, **config) -> None:
    from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

    _, pieces = _pieces()
    tokenizer = MBart50Tokenizer(vocab=pieces)
    tokenizer.save_pretrained(folder)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    made = MBartConfig(vocab_size=len(tokenizer), **SIZES, **WIDTHS, **ids, **config)
    _save(MBartForConditionalGeneration, made, folder)


def _marian(folder: Path, tags: tuple[str, ...] = (), languages: tuple[str, str] = ("mul", "en"), **config) -> None:
    from transformers import MarianConfig, MarianMTModel

    model, pieces = _pieces()
    names = ["</s>", "<unk>", *tags, *(piece for piece, _ in pieces[3:]), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(model)
    source, target = languages
    _config_file(folder, tokenizer_class="MarianTokenizer", source_lang=source, target_lang=target)
    pad = len(names) - 1
    ids = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "bos_token_id": 0}
    # Beams and forced tokens as the Hub's configs have them: a translator must not follow them.
    old = {"num_beams": 4, "bad_words_ids": [[pad]], "forced_eos_token_id": 0, "max_length": 512}
    made = MarianConfig(
        vocab_size=len(names), **SIZES, **WIDTHS, **ids, scale_embedding=True, activation_function="swish", **config
    )
    _save(MarianMTModel, made, folder)
    (folder / "generation_config.json").write_text(json.dumps(ids | old))


def save_causal(folder: Path, kind: str) -> Path:
    """Save a tiny causal model whose greedy choices lie far apart."""
    from transformers import AutoModelForCausalLM

    from tests.conftest import save_tokenizer, tiny_config

    folder.mkdir(parents=True)
    _save(AutoModelForCausalLM.from_config, tiny_config(kind), folder)
    save_tokenizer(folder, decoder=True)
    return folder
