"""Load the base of a finished run as it was in training, or raise an error."""

import logging
from dataclasses import replace
from pathlib import Path

from product_relevance.ensemble.locate import Located
from product_relevance.ensemble.published.manifest import config_sha256
from product_relevance.models import modeling
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.loading import checkpoints, float8, quantization
from product_relevance.models.loading.base_errors import UnusableBaseError
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import Template
from product_relevance.utils.run_folder import ATTENTION
from product_relevance.utils.run_record import FinishedRunRecord
from product_relevance.utils.tasks import name_labels

logger = logging.getLogger(__name__)


def load_base(found: Located, device: str | None, dtype: str, writes: bool = False):
    """Load the base that the adapters were trained on, with what makes its tokens.

    Args:
        found: where the run lies.
        device: "cpu", "cuda"; a GPU when there is one if None.
        dtype: auto, bfloat16, float32; nf4: four bits, the rest as auto; fp8: bfloat16, which is quantised later.
        writes: let a language model write down its steps before it answers.

    Returns:
        (PairEncoder, model)

    Raises:
        ValueError: another base than it was, labels of another version, a prompt with no place for steps, or another
            dtype: float16 cannot hold what the fingerprint of a base is made of.
    """
    if dtype not in (*checkpoints.DTYPES, "nf4", "fp8"):
        raise ValueError(f"dtype {dtype}: expected {', '.join(checkpoints.DTYPES)}, nf4, fp8")
    if found.run.stage is not None:
        raise ValueError(
            f"{found.folder}: a first stage without a head, which scores nothing: train_relevance.py --init_adapter "
            "goes on with it"
        )
    prompt = Template.from_dict(found.run.template).prompt
    if writes and (prompt is None or prompt.parts["stem"] is None):
        raise ValueError(
            f"{found.folder}: --reasoning_tokens needs a run of train_relevance.py --head yes_no, whose prompt "
            "has a place {reasoning}, as the shipped breakdown"
        )
    run, base = found.run, found.run.base
    device = checkpoints.choose_device(device)
    if dtype == "fp8":
        float8.require_float8(device)
    in_four_bits, kinds = dtype == "nf4", {"nf4": "auto", "fp8": "bfloat16"}
    dtype = checkpoints.choose_dtype(kinds.get(dtype, dtype), device)
    name, revision = base["name"], base["revision"]
    try:
        encoder = load_encoder(found)
        options = _options_of_run(found, encoder, device, dtype)
        model = modeling.load_classifier(name, encoder.tokenizer, replace(options, writes=writes))
    except UnusableBaseError as error:
        message = f"{found.folder}: its base {name} at revision {revision} cannot be loaded: {error}"
        raise ValueError(message) from None
    _check_base(found.folder, run, model)
    if in_four_bits:
        _require_adapters(found)
        model = quantization.quantize_model(model, device)
    elif (run.adapter or {}).get("quantization") == "nf4":
        # On e5-small the step from one to the other moved probabilities by 0.04 on average: docs/how-to/adapters.md.
        logger.warning(
            "%s: trained, and its thresholds chosen, on a base in nf4; it is scored in %s, which moves scores: dtype "
            "nf4 gives those of training",
            *(found.folder, dtype),
        )
    return encoder, model.to(device).eval()


def load_encoder(found: Located) -> PairEncoder:
    """Load what makes the tokens of a run: the tokenizer of its base, its template and its taxonomy.

    Raises:
        ValueError: from `PairEncoder.from_tokenizer`.
    """
    run = found.run
    template = Template.from_dict(run.template)
    taxonomy = None if found.taxonomy is None else Taxonomy.load(found.taxonomy, template.paths)
    tokenizer = modeling.load_tokenizer(run.base["name"], run.base["revision"])
    encoder = PairEncoder.from_tokenizer(tokenizer, template, run.max_length, taxonomy)
    return replace(encoder, grades=len(run.labels))


def _options_of_run(found: Located, encoder: PairEncoder, device: str, dtype: str) -> ClassifierOptions:
    return ClassifierOptions(
        revision=found.run.base["revision"],
        pooling=found.run.pooling or "auto",
        answers=encoder.answers,
        dtype=dtype,
        attn_implementation=attention_of_run(found, device, dtype),
        grades=encoder.grades,
    )


def _require_adapters(found: Located) -> None:
    if found.run.adapter is None:
        kind = "kernels" if found.run.is_kernel else "whole models"
        raise ValueError(f"{found.folder}: its folds are {kind}, which cannot be put on a base in nf4")


def _check_base(folder: Path, run: FinishedRunRecord, model) -> None:
    base, labels = run.base, {str(i): label for i, label in name_labels(len(run.labels)).items()}
    if run.labels != labels:
        raise ValueError(f"{folder}: its labels are {run.labels}, this version has {labels}")
    try:
        modeling.require_positions(model, run.max_length)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    checks = {
        "weights": (base.get("fingerprint"), lambda: modeling.fingerprint_weights(model)),
        "config": (base.get("config_sha256"), lambda: config_sha256(model.config.to_dict())),
    }
    for what, (expected, measured) in checks.items():
        if expected is not None and (found := measured()) != expected:
            raise ValueError(
                f"{folder}: its adapters were trained on another base than {base['name']} as it is now ({what} "
                f"{found[:12]}, expected {expected[:12]}): restore that base or pin its revision"
            )


def attention_of_run(found: Located, device: str, dtype: str) -> str | None:
    """Return the attention that a run was trained with, or what comes next to it here, with a logged reason.

    Args:
        found: where the run lies.
        device: that the model will lie on.
        dtype: of the base's weights.

    Returns:
        As transformers calls it; None for the default of the base.
    """
    run, base = found.run, found.run.base
    asked = run.arguments.get("model", {}).get("attn_implementation")
    wanted = run.attn_implementation or asked  # an older run keeps what was asked for only
    reason = _missing_attention(wanted, device, dtype)
    if reason is None:
        return wanted
    # the default leaves out the cap on the logits of attention, which flash attention has
    config = modeling.load_config(base["name"], base["revision"])
    chosen = "eager" if getattr(config, "attn_logit_softcapping", None) is not None else None
    logger.warning(
        "%s: trained with attn_implementation %s, which cannot be had here (%s): scored with %s",
        *(found.folder, wanted, reason, chosen or "the default"),
    )
    return chosen


def _missing_attention(wanted: str | None, device: str, dtype: str) -> str | None:
    """Say why a way to compute attention cannot be had; None if it can."""
    if wanted is None or wanted in ("eager", "sdpa", "flex_attention"):
        return None
    if wanted not in ATTENTION:
        return "it is none that transformers itself has"
    if not device.startswith("cuda"):
        return "it needs a GPU"
    if dtype == "float32":
        return "it needs a dtype of 16 bits"
    from transformers import utils

    name = f"is_{wanted.replace('flash_attention', 'flash_attn')}_available"
    return None if getattr(utils, name, lambda: False)() else "its package is not installed"
