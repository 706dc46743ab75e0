"""Tiny runs of each architecture and their exports, for the engines to load."""

import os
from pathlib import Path

import torch
import transformers

import train_relevance
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from tests.conftest import ROOT, rows_of, save_tokenizer, tiny_config, write_rows

ENVIRONMENT = Path(os.environ.get("RELEVANCE_ENGINES", ROOT / ".venv-engines"))
ENGINE = ENVIRONMENT / "bin/python"
DECODERS = ("gemma3_text", "gemma2", "qwen2", "qwen3")
FLAGS = "--task QC --use_cpu true --max_steps 4 --lora_r 2 --learning_rate 3e-3 --num_folds 2 --pooling auto"
FLAGS += " --save_strategy no --eval_strategy no --load_best_model_at_end false --max_length 64"
# vLLM on a CPU: float32 as in the export, no compilation, a small cache, no threads bound to cores
SETTINGS = {"dtype": "float32", "enforce_eager": True}
QUIET = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def save_base(folder: Path, kind: str) -> Path:
    """Save a tiny base whose heads have a size that vLLM's attention knows."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    config.hidden_size, config.num_attention_heads, config.max_position_embeddings = 128, 2, 514
    if kind in DECODERS:
        config.head_dim, config.num_key_value_heads = 64, 1
    auto = transformers.AutoModelForCausalLM if kind in DECODERS else transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, kind in DECODERS)
    return folder


def train_tiny_run(folder: Path, kind: str, head: str) -> Path:
    """Train two folds of a classifier or of a yes/no run for four steps."""
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:120])
    (folder / "prompt.txt").write_text("{query}\n{target}\n{y/n}\n")
    chosen = f"--head yes_no --prompt {folder / 'prompt.txt'}" if head == "yes_no" else ""
    flags = f"{FLAGS} {chosen} --model_name_or_path {save_base(folder / 'base', kind)} --train_file {file}"
    train_relevance.main([*flags.split(), "--output_dir", str(folder / "run")])
    return folder / "run"


def export_fold(run: Path, folder: Path) -> Path:
    """Export the first fold."""
    export_classifier(run, folder, ExportOptions(fold="fold-0"))
    return folder
