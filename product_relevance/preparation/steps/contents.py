"""Fingerprints of what the steps read, so that other content gives other rows to keep."""

import os

from product_relevance.data.columns import fingerprint_frame
from product_relevance.data.sources.readers import read_table
from product_relevance.data.sources.tables import Source
from product_relevance.preparation.arguments import Step
from product_relevance.preparation.labels import label_errors
from product_relevance.preparation.steps.filter import Filter
from product_relevance.preparation.steps.negatives import EasyNegatives
from product_relevance.preparation.steps.translate import Translate
from product_relevance.utils.files import sha256_of

# Options that name a file, a folder or a model, with the option that gives its revision.
RECORDS, TABLES = ("file", "like"), (".csv", ".tsv", ".parquet", ".jsonl")
READ = {"model": "revision", "into_english": "", "like": "", "encoder": "encoder_revision", "veto": "", "run": ""}


def fingerprint_step(step: Step | Translate, task: str) -> dict[str, str]:
    """Fingerprint what a step reads beside the rows, so that another content gives other rows to keep.

    Returns:
        Option to sha256 or commit, for options that name a file, a folder or a model.

    Raises:
        ValueError: There is no such thing.
    """
    named = {name: getattr(step, name) for name in READ if getattr(step, name, None)}
    if isinstance(step, EasyNegatives) and task == "QC":
        named.pop("encoder")  # paths show by themselves which are far
    found = {name: fingerprint_option(name, value, getattr(step, READ[name], None)) for name, value in named.items()}
    if isinstance(step, Filter) and step.apply and not step.by_action:
        found["apply"] = sha256_of(step.apply)
    return found


def fingerprint_option(option: str, name: str | Source, revision: str | None = None) -> str:
    """Fingerprint what an option names: the sha256 of a file, folder or embedded model, or the Hub's commit.

    Args:
        option: Its name. A `run` is known by its out-of-fold scores, a `veto` by the content of its ensemble; `file`
            and `like` are records, which may be a data set of the Hub.
        name: File, folder or Hub id; records may be a `Source`.
        revision: Of a Hub id.

    Raises:
        ValueError: There is no such thing.
    """
    from product_relevance.ensemble import locate
    from product_relevance.ensemble.published import manifest
    from product_relevance.models.loading import checkpoints

    if option in RECORDS:
        return sha256_of(name) if os.path.isfile(name) else read_table(name).sha256
    name = os.fspath(name)
    if option == "run":
        return fingerprint_frame(label_errors.read_scores(name))
    if option == "veto":
        folder, published = locate.find_manifest(name)
        return sha256_of(folder / (manifest.NAME if published else "run.json"))
    if os.path.isfile(name):
        return sha256_of(name)
    try:
        if option == "translation" or os.path.splitext(name)[1] in TABLES:
            raise OSError("there is no such table")  # the Hub is not asked for it
        return checkpoints.checkpoint_identity(name, revision)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{option}: found {name!r}, expected a file, a folder or a model; {reason}") from None
