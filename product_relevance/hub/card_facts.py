"""What a card may state beyond the run: where a base comes from, its licence, what its card may show, its power."""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from product_relevance.utils.run_record import PublicRunRecord

# Licences as the bases' own pages on the Hub state them; a base of another owner is never guessed from its name.
FAMILIES = (
    (r"google/gemma-[23][n-]", "gemma", "Gemma Terms of Use", "https://ai.google.dev/gemma/terms"),
    (r"Qwen/Qwen3-", "apache-2.0", "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    (r"(FacebookAI/)?xlm-roberta-(base|large)$", "mit", "MIT", "https://opensource.org/license/mit"),
    (r"intfloat/multilingual-e5-", "mit", "MIT", "https://opensource.org/license/mit"),
)
ORIGINS = {"embedded:e5-small": "intfloat/multilingual-e5-small", "embedded:gemma-3-270m": "google/gemma-3-270m"}
# Multimodal checkpoints: this package takes their text part, AutoModelForSequenceClassification the whole.
MULTIMODAL = re.compile(r"google/gemma-3-(?!270m|1b)|google/gemma-3n")
# Highest power of a card in watts, under the name CUDA gives it (NVIDIA's data sheets).
WATTS = {
    "NVIDIA H200": 700,
    "NVIDIA H100 80GB HBM3": 700,
    "NVIDIA H100 PCIe": 350,
    "NVIDIA A100-SXM4-80GB": 400,
    "NVIDIA A100-SXM4-40GB": 400,
    "NVIDIA L4": 72,
    "Tesla T4": 70,
}
GRID = 436  # g CO2 a kWh, the world's mean in 2022 (Ember, Global Electricity Review 2023)


def base_facts(base: Mapping[str, Any]) -> dict[str, Any]:
    """Say what is known of a base.

    Args:
        base: `base` of a run: name, and revision where it came from the Hub.

    Returns:
        name, revision; hub (its id on the Hub, None for one that is not there), embedded (comes from a package);
        licence (the Hub's identifier, "other" if not known), licence_name, licence_link (None if not known).
    """
    name = base["name"]
    packaged = name in ORIGINS
    hub = ORIGINS[name] if packaged else name if _from_hub(name, base.get("revision")) else None
    _, licence, title, link = next((f for f in FAMILIES if hub and re.match(f[0], hub)), (None, "other", None, None))
    facts = {"name": name, "revision": base.get("revision"), "hub": hub, "embedded": packaged}
    return facts | {"licence": licence, "licence_name": title, "licence_link": link}


def _from_hub(name: str, revision: str | None) -> bool:
    # a folder has no commit; an id without an owner is an old id of the Hub's own
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return bool(re.fullmatch(r"[0-9a-f]{40}", revision or ""))


def loads_plainly(run: PublicRunRecord) -> bool:
    """Return whether a fold of the run loads with PEFT and transformers alone, to the same scores."""
    base = base_facts(run.base)
    on_hub = base["hub"] is not None and not base["embedded"] and not MULTIMODAL.match(base["name"])
    whole = run.pooling == "auto" and run.template.get("prompt") is None
    return on_hub and run.adapter is not None and whole


def estimate_carbon(run: PublicRunRecord, seconds: float) -> dict[str, Any] | None:
    """Estimate what training emitted, from above: every card at its highest power all the time.

    Args:
        run: the run; `device` is the card's name, `processes` their number.
        seconds: time of training.

    Returns:
        watts, cards, kwh, grams (of CO2 equivalent), grid (grams a kWh); None where the power of the device is not
        known, as for any CPU.
    """
    watts, cards = WATTS.get(run.device), run.processes
    if watts is None:
        return None
    kwh = seconds / 3600 * cards * watts / 1000
    return {"watts": watts, "cards": cards, "kwh": kwh, "grams": kwh * GRID, "grid": GRID}
