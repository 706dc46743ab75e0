"""Stage the demo page as a Space: metadata, requirements, sources of this package, and the pinned ensemble."""

import json
import shutil
from importlib.metadata import PackageNotFoundError, version

from product_relevance.hub import code_bundle
from product_relevance.hub.places import Staged
from product_relevance.utils.extras import how_to_install

MODEL = "relevance_model.json"
# Colours are names that the Hub knows
CARD = """---
title: {title}
emoji: 🔎
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
app_file: app.py
models: [{model}]
pinned: false
---

# {title}

A page to try [{model}](https://huggingface.co/{model}): it scores from 0 to 1 how relevant texts are to a query.

`{pin}` pins the commit of the ensemble. For a private ensemble, give the Space a secret `HF_TOKEN` that may
read it. The page sends no analytics and loads no font or script from elsewhere.
"""


def stage_space(place: Staged, ensemble_id: str, revision: str, base: str) -> None:
    """Fill the folder of a Space.

    Args:
        place: of the Space.
        ensemble_id: `org/name` of the ensemble that it shows.
        revision: of the ensemble; publishing puts its commit there.
        base: name of the run's base.

    Raises:
        ValueError: Gradio is not installed, so its version cannot be pinned.
    """
    try:
        gradio = version("gradio")
    except PackageNotFoundError:
        raise ValueError(f"--space needs gradio: {how_to_install('demo')}") from None
    folder = place.folder
    code_bundle.copy_package(folder)
    shutil.copyfile(code_bundle.PACKAGE / "serving" / "demo" / "space_app.py", folder / "app.py")
    title = f"Try {ensemble_id.split('/')[1]}"[:60]
    card = CARD.format(title=title, gradio=gradio, model=ensemble_id, pin=MODEL)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "requirements.txt").write_text(code_bundle.scoring_requirements(base), encoding="utf-8")
    (folder / MODEL).write_bytes(pin_model(ensemble_id, revision))


def pin_model(ensemble_id: str, revision: str) -> bytes:
    """Return the content of relevance_model.json."""
    return f"{json.dumps({'model': ensemble_id, 'revision': revision}, indent=2)}\n".encode()
