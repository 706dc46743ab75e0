"""How a run computes attention where it is scored: as it was trained, or as near to that as the machine allows."""

import logging

from product_relevance.ensemble.locate import Located
from product_relevance.models import modeling
from product_relevance.utils.run_folder import ATTENTION

logger = logging.getLogger(__name__)


def of_run(found: Located, device: str, dtype: str) -> str | None:
    """Return the attention that a run was trained with, or what comes next to it here, with a logged reason.

    Args:
        found: where the run lies.
        device: that the model will lie on.
        dtype: of the base's weights.

    Returns:
        As transformers calls it; None for the default of the base.
    """
    run, base = found.run, found.run["base"]
    asked = run.get("arguments", {}).get("model", {}).get("attn_implementation")
    wanted = run.get("attn_implementation", asked)  # an older run keeps what was asked for only
    reason = _missing(wanted, device, dtype)
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


def _missing(wanted: str | None, device: str, dtype: str) -> str | None:
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
