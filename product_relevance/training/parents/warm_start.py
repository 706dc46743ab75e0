"""The warm start of a training in two stages: a parent run's adapter and head, put on the base and trained further.

The way of task-adaptive pre-training (Gururangan et al., arXiv 2004.10964; 1st team, arXiv 2510.25428). The parent run
may be one model on all rows of the other task or a run of folds: docs/how-to/warm-start.md says when.
"""

import logging
from pathlib import Path

from product_relevance.models import adapters
from product_relevance.models.adapter_fit import load_whole
from product_relevance.models.adapter_schema import read_config
from product_relevance.training.parents.parent_run import ParentRun, find_parent
from product_relevance.training.run_config import RunConfig
from product_relevance.utils import run_folder
from product_relevance.utils.run_record import FoldRecord, RunRecord

logger = logging.getLogger(__name__)
# What decides how an adapter's tensors act on a base; a second stage that changed one would start somewhere else.
# Its target modules show in the names of the tensors, which `load_adapter` compares; PEFT shortens their list.
ADAPTER_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora")


def find_warm_start(config: RunConfig, record: RunRecord, splits: list[str]) -> ParentRun | None:
    """Find the run that `--init_adapter` names, and check that its weights mean the same in the new run.

    Args:
        config: of the new run.
        record: of the new run.
        splits: names of its folds.

    Returns:
        None without a warm start.

    Raises:
        ValueError: as in `find_parent`; no one fold for a split; another pooling, kind of training or number
            of grades.
    """
    if config.model.init_adapter is None:
        return None
    parent = find_parent("--init_adapter", config.model.init_adapter, record, splits)
    starts = {split: parent.fold(split) for split in splits}
    headless = parent.record.stage is not None
    for (key, theirs), ours in zip(_kind(parent.record).items(), _kind(record).values(), strict=True):
        if theirs != ours and (key == "adapter" or not headless):
            raise ValueError(f"--init_adapter {parent.name}: its {key} is {theirs}, this run's {ours}; expected alike")
    found, expected = len(parent.record.labels), len(record.labels)
    if not headless and found != expected:
        raise ValueError(
            f"--init_adapter {parent.name}: found a run of {found} grades, expected {expected} as --grades says: "
            f"start from a run of {expected} grades, or train with --grades {found}"
        )
    _log_starts(parent, starts)
    return parent


def _log_starts(parent: ParentRun, starts: dict[str, str]) -> None:
    """Say in the log which fold of the parent run each fold starts from."""
    for split, fold in starts.items():
        logger.info("%s starts from %s of the %s run %s", split, fold, parent.record.task, parent.home)
    if len(starts) > 1 and len(set(starts.values())) == 1:
        fold = next(iter(starts.values()))
        why = "it has seen all rows" if fold == "full" else "one fold only, which has not seen all rows"
        logger.warning(
            "--init_adapter %s: %s all start from %s (%s): they share one start, and their mean gains less than that "
            "of folds with a start each",
            *(parent.name, " and ".join(starts), fold, why),
        )


def _kind(record: RunRecord) -> dict[str, str | None]:
    """Return what both stages must have in common beside the base."""
    head = "classifier" if record.template.get("prompt") is None else "yes_no"
    return {"head": head, "pooling": record.pooling, "adapter": "lora" if record.adapter else "none"}


def continue_from(folder: Path, model, arguments, fingerprint: str | None, base_fingerprint: str | None):
    """Put a parent run's adapter on a bare base, with its head where it has one, to be trained further.

    Loading replaces the fresh adapter and the fresh head; nothing is wrapped a second time, which would start both
    anew while the parent run's weights seem to be loaded.

    Args:
        folder: of the parent run's fold.
        model: the bare base with its head.
        arguments: ModelArguments of the second stage.
        fingerprint: of the bare base.
        base_fingerprint: of the bare base without its head.

    Raises:
        ValueError: an adapter of another form, or of another base.
    """
    fold = FoldRecord.from_json(run_folder.read_json(folder / "fold.json"))
    headless = fold.stage is not None  # a stage on texts alone: any head is new
    expected, fingerprint = fold.base["fingerprint"], base_fingerprint if headless else fingerprint
    if expected is not None and fingerprint is not None and expected != fingerprint:
        raise ValueError(
            f"--init_adapter {folder}: trained on another base (weights {expected[:12]}, here {fingerprint[:12]})"
        )
    if arguments.adapter == "none":
        load_whole(model, folder / "model.safetensors")
        return model
    if arguments.init_lora_weights != "default":
        raise ValueError("--init_adapter and --init_lora_weights both say where the adapter starts: give one of them")
    config = adapters.lora_config(model, arguments)
    _require_same_form(folder, config)
    if headless:
        return adapters.fill_adapter(adapters.add_adapter(model, arguments), folder)
    return adapters.load_adapter(model, str(folder), "default", config=config)


def _require_same_form(folder: Path, config) -> None:
    saved = read_config(folder)
    for key in ADAPTER_SETTINGS:
        theirs, ours = saved[key], getattr(config, key)
        if theirs != ours:
            raise ValueError(
                f"--init_adapter {folder}: {key} is {theirs} there, {ours} here; a second stage takes the first "
                "one's, and may change --lora_dropout only"
            )
