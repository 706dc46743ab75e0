"""Tiny random bases with a real tokenizer (they prove mechanics, never quality), and small record files."""

import gc
import io
import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # a busy machine is no defect
settings.load_profile("busy")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample"
VOCABULARY = 400
# Slowest first: two workers take one file after the other, and a long one at the end leaves a core idle. Files stay
# whole, as a run that many tests of a file look at would otherwise be made by both workers.
SLOWEST = [
    "integration/test_launchers",
    "integration/test_readme",
    "integration/test_wheel",
    "serving/test_onnx_export",
    "scripts/test_push_to_hub",
    "benchmarks/test_ablate",
    "benchmarks/test_gpu_suite",
    "serving/test_server",
    "training/test_losses",
    "training/test_parallel_folds",
    "integration/test_tutorials",
    "integration/test_documented_trainings",
    "hub/test_publish",
    "serving/test_hf_serve",
    "ensemble/test_ensemble",
    "integration/test_combinations",
    "scripts/test_train_relevance",
    "integration/test_bfloat16",
    "models/test_yes_no",
    "integration/test_multitask",
    "sharding/test_jobs",
    "serving/test_connections",
    "preparation/labels/test_review_page",
    "preparation/test_pipeline",
    "sharding/test_plan",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files; the Makefile keeps pytest-xdist from sorting them by their number of tests."""
    place = {ROOT / f"tests/{name}.py": number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def rows_of(name: str) -> list[dict]:
    """Rows of a sample file."""
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def save_tokenizer(folder: Path, decoder: bool = False) -> None:
    """Train a small BPE on the sample; pairs as XLM-R joins them, or with nothing between as Qwen does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [value for row in rows_of("train_QC.txt") for value in (row["origin_query"], row["category_path"])]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    )
    pair = "<s> $A $B" if decoder else "<s> $A </s> </s> $B </s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names).save_pretrained(folder)


SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4}
IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
GROUPED = HEADS | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}


def tiny_config(kind: str):
    """Config of a tiny base of one architecture."""
    import transformers as t

    encoders = {
        "bert": (t.BertConfig, {}),
        "xlm-roberta": (t.XLMRobertaConfig, {"max_position_embeddings": 260, "type_vocab_size": 1}),
        "deberta-v2": (t.DebertaV2Config, {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        "modernbert": (t.ModernBertConfig, {"cls_token_id": 0, "sep_token_id": 2}),
        "gte": (getattr(t, "GteConfig", None), {}),  # since transformers 5.19
    }
    decoders = {
        "qwen2": (t.Qwen2Config, {}),
        "qwen3": (t.Qwen3Config, {}),
        "gemma2": (t.Gemma2Config, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
        "gemma3_text": (t.Gemma3TextConfig, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    }
    if kind in encoders:
        cls, extra = encoders[kind]
        return cls(**(SIZES | HEADS | IDS | extra))
    cls, extra = decoders[kind]
    return cls(**(SIZES | GROUPED | IDS | extra))


def save_base(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a tiny random base as its model hub would hold it: no classification head."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    config = tiny_config(kind)
    decoder = kind in ("qwen2", "qwen3", "gemma2", "gemma3_text")
    auto = t.AutoModelForCausalLM if decoder else t.AutoModel
    auto.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, decoder)
    return folder


@pytest.fixture(scope="session")
def base_of(tmp_path_factory):
    """Return a function from an architecture's name to the folder of a tiny base."""
    made = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_base(tmp_path_factory.mktemp("bases") / kind, kind)
        return made[kind]

    return get


@pytest.fixture(scope="session", autouse=True)
def full_precision():
    """Score in float32 also on a CPU with bfloat16 units, and in what is started: tolerances are those of float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEVANCE_DTYPE", "float32")
        yield


@pytest.fixture(scope="session", autouse=True)
def extensions_of_this_session(tmp_path_factory):
    """Build what DeepSpeed compiles for these tests alone: a killed build leaves a lock, for which all others wait."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_EXTENSIONS_DIR", str(folder / "torch_extensions"))
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Take what is loaded out of the garbage collector's sight: a fold collects three times, a third of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def first_picture():
    """A place for the bytes of the first picture that was drawn."""
    return []


@pytest.fixture(scope="module", autouse=True)
def one_picture(request, first_picture):
    """Draw the pictures of runs once: laying out texts takes half of a tiny run's seconds. test_figures draws all."""
    from product_relevance.evaluation.reports import figures

    def save(figure, path):
        if not first_picture:
            file = io.BytesIO()
            figure.savefig(file, format="png")
            first_picture.append(file.getvalue())
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(first_picture[0])

    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_figures"):
            patch.setattr(figures, "save_figure", save)
        yield


@pytest.fixture(scope="module")
def base(base_of) -> Path:
    """The tiny decoder that the tests of publishing use."""
    return base_of("qwen3")


@pytest.fixture
def train_file(tmp_path) -> Path:
    """240 rows of the sample's QC training file."""
    return write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:240])
