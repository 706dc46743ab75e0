"""A recipe that trains on an inspected file as it is."""

from pathlib import Path

import yaml

from product_relevance.data.inspection.inspect_file import Inspection
from product_relevance.data.sources.options import ReadingOptions

# A small multilingual base that needs no download from a Hub, at the settings of recipes/quickstart.yaml for few rows
# and of recipes/e5-small-qi.yaml for many.
MODEL = {"model_name_or_path": "embedded:e5-small", "pooling": "pair", "base_dropout": 0.0, "max_length": 128}
LORA = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
SMALL_FILE = 20_000  # rows below which one pass over them is too little
SHORT = {"num_train_epochs": 3, "learning_rate": 1.0e-3}
LONG = {"num_train_epochs": 1, "learning_rate": 5.0e-4}
OPTIMISER = {
    **{"warmup_steps": 0.06, "weight_decay": 0.01, "per_device_train_batch_size": 16, "global_batch_size": 16},
    **{"eval_steps": 0.5, "save_steps": 0.5, "eval_rows": 1000, "metric_for_best_model": "auc"},
}


def make_recipe(found: Inspection, reading: ReadingOptions, output_dir: str | None = None) -> dict[str, object]:
    """Return the settings of a training on an inspected file.

    Args:
        found: Of `inspect_file`.
        reading: How the file was read: its encoding, delimiter and what to do with duplicates, where they were given.
        output_dir: The run folder; None names it after the file.

    Raises:
        ValueError: Something has to be said first, see `Inspection.obstacles`.
    """
    if found.obstacles:
        raise ValueError(f"{found.table.name}: no recipe can be written: {'; '.join(found.obstacles)}")
    data: dict[str, object] = {"train_file": found.table.name, "task": found.task}
    data |= {"columns": found.columns.given()} if found.columns.given() else {}
    data |= _labels(found)
    duplicates = reading.on_duplicates
    if duplicates == "error" and found.contradictory:
        duplicates = "majority"
    data |= {"on_duplicates": duplicates} if duplicates != "error" else {}
    data |= {name: value for name in ("encoding", "delimiter") if (value := getattr(reading, name))}
    data |= {"on_bad_rows": "skip"} if found.defective else {}
    data |= {"path_separator": next(iter(found.separators))} if len(found.separators) > 1 else {}
    small = len(found.table.lines) < SMALL_FILE
    passes = (
        {"num_train_epochs": 3, "learning_rate": 1.0e-3} if small else {"num_train_epochs": 1, "learning_rate": 5e-4}
    )
    folder = output_dir or f"runs/{Path(found.table.name).name.split('.')[0].strip('*?') or 'own'}"
    return data | MODEL | {"input_style": "original"} | LORA | passes | OPTIMISER | {"output_dir": folder}


def _labels(found: Inspection) -> dict[str, object]:
    grades: dict[str, object] = {"grades": found.grades} if found.grades > 2 else {}
    return grades | ({"label_map": found.label_map} if found.label_map else {})


def recipe_text(recipe: dict[str, object], name: str) -> str:
    """Return a recipe as YAML, with a comment that says where it is from."""
    head = f"# Made by `relevance inspect {name}`: change what is wrong, then `relevance train` this file.\n"
    return head + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=1000)
