"""Start the demo page in a Space, for the ensemble that relevance_model.json pins."""

import json
import os
from pathlib import Path

from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.serving.demo.answers import DemoAnswers
from product_relevance.serving.demo.page import build_page, launch_page


def main() -> None:
    """Serve the page; RELEVANCE_MODEL names a folder to load in place of the pinned ensemble."""
    pinned = json.loads(Path(__file__).with_name("relevance_model.json").read_text(encoding="utf-8"))
    place, revision = (pinned["model"], pinned["revision"])
    if folder := os.environ.get("RELEVANCE_MODEL"):
        place, revision = folder, None
    ensemble = RelevanceEnsemble.from_pretrained(place, revision=revision)
    launch_page(build_page(DemoAnswers(ensemble), pinned["model"]))


if __name__ == "__main__":
    main()
