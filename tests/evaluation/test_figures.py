"""Every picture is a PNG with something on it, also where data is scarce."""

import sys

import numpy as np
import pytest
from matplotlib.image import imread

from product_relevance.evaluation.metrics import RowFacts, scores_report
from product_relevance.evaluation.reports import figures, loss_curve


def assert_picture(path):
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    colours = np.unique((imread(path)[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)
    assert len(colours) > 20


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.7).astype(int)
    return labels, 1 / (1 + np.exp(-rng.normal(size=500) - labels)), rng.choice(["en", "vn", "ar"], 500)


def test_the_threshold_curve_is_drawn_and_its_folder_made(tmp_path, scored):
    figures.draw_f1_over_threshold(*scored[:2], 0.4, tmp_path / "new" / "f1.png")
    assert_picture(tmp_path / "new" / "f1.png")


def test_the_reliability_diagram_is_drawn(tmp_path, scored):
    figures.draw_reliability(*scored[:2], tmp_path / "r.png")
    assert_picture(tmp_path / "r.png")


def test_unseen_languages_look_different_from_seen_ones(tmp_path, scored):
    labels, scores, languages = scored
    figures.draw_language_bars(scores_report(labels, scores, 0.4, RowFacts(languages, ["en"])), tmp_path / "a.png")
    figures.draw_language_bars(scores_report(labels, scores, 0.4, RowFacts(languages)), tmp_path / "b.png")
    assert_picture(tmp_path / "a.png")
    orange = np.array([0xE6, 0x9F, 0x00])
    shares = [(np.round(imread(tmp_path / n)[..., :3] * 255) == orange).all(-1).sum() for n in ("a.png", "b.png")]
    assert shares[0] > 1000 > shares[1]


def test_a_language_with_one_class_is_drawn_without_auc(tmp_path):
    figures.draw_language_bars(scores_report([1, 1], [0.2, 0.9], 0.5, RowFacts(["id", "id"])), tmp_path / "one.png")
    assert_picture(tmp_path / "one.png")


def test_bars_without_languages_are_refused(tmp_path):
    with pytest.raises(ValueError, match="found no by_language"):
        figures.draw_language_bars(scores_report([0, 1], [0.2, 0.9], 0.5), tmp_path / "no.png")


@pytest.mark.parametrize("history", [[], [{"loss": 0.5, "step": 1}], [{"eval_loss": 0.5, "eval_auc": 0.7, "step": 2}]])
def test_loss_curves_are_drawn_from_whatever_was_logged(tmp_path, history):
    loss_curve.draw_loss_curve({"fold-0": history, "fold-1": history}, tmp_path / "loss.png")
    assert_picture(tmp_path / "loss.png")


def test_a_step_logged_again_after_a_resume_counts_once():
    history = [{"loss": 0.9, "step": 10}, {"loss": 0.8, "step": 20}, {"loss": 0.7, "step": 10}, {"train_loss": 1}]
    assert loss_curve._logged(history, "loss") == ([10, 20], [0.7, 0.8])


def test_no_file_is_left_behind_when_drawing_fails(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        figures.draw_f1_over_threshold([0, 1], [0.1, float("nan")], 0.5, tmp_path / "f1.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_does_not_touch_the_global_state_of_pyplot():
    import subprocess

    code = "import sys, product_relevance.evaluation.reports.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_reliability_diagram_shows_before_and_after(tmp_path, scored):
    labels, scores, _ = scored
    figures.draw_reliability(labels, scores, tmp_path / "one.png")
    figures.draw_reliability(labels, scores, tmp_path / "two.png", calibrated=scores**2)
    green = np.array([0x00, 0x9E, 0x73])
    shares = [(np.round(imread(tmp_path / n)[..., :3] * 255) == green).all(-1).sum() for n in ("one.png", "two.png")]
    assert shares[0] == 0 and shares[1] > 300
