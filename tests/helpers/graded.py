"""A tiny run with four grades, trained once for all files of tests."""

from functools import lru_cache
from pathlib import Path

from product_relevance.training.run_config import RunConfig
from product_relevance.training.train import train
from tests.conftest import rows_of, write_rows

GRADES = 4


def graded_rows(count: int, name: str = "train_QC.txt") -> list[dict]:
    """Rows whose grade follows from label and length of the path, so that there is something to learn."""
    return [row | {"label": 2 * row["label"] + len(row["category_path"]) % 2} for row in rows_of(name)[:count]]


def options_of(folder: Path, base: Path, **more) -> dict:
    """The recipe of the run, in a folder of its own."""
    plain = {"train_file": str(write_rows(folder / "train_QC.txt", graded_rows(160))), "task": "QC"}
    plain |= {"model_name_or_path": str(base), "output_dir": str(folder / "run"), "num_folds": 2, "seed": 3}
    plain |= {"max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "eval_strategy": "no"}
    plain |= {"load_best_model_at_end": False, "save_strategy": "no", "use_cpu": True, "grades": GRADES}
    return plain | {"max_length": 48, "lora_r": 4, "ranking_measures": ["nDCG@10", "AP"]} | more


@lru_cache
def graded_run(base: Path) -> Path:
    """Train two tiny folds; returns the folder of the run."""
    folder = base.with_name(f"graded-{base.name}")
    folder.mkdir()
    return train(RunConfig.from_recipe(**options_of(folder, base))).folder
