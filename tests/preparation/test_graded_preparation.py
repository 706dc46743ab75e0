"""prepare.py on a file with grades: they stay in the prepared file, on its card, and train."""

import json

import prepare
import pytest

from product_relevance.data.records import read_records
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source
from product_relevance.training.run_config import RunConfig
from product_relevance.training.train import train
from tests.conftest import write_rows
from tests.helpers.graded import GRADES, graded_rows, options_of

FLAGS = ["--task", "QC", "--grades", str(GRADES), "--num_folds", "2"]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "noise.yaml"
    path.write_text("steps:\n  - noise: {rate: 0.3, seed: 1}\n", encoding="utf-8")
    return path


def test_grades_stay_in_the_prepared_file_whose_folds_and_made_rows_train(recipe, base_of, tmp_path):
    file, output = write_rows(tmp_path / "rows.txt", graded_rows(160)), tmp_path / "prepared.parquet"
    prepare.main([str(recipe), str(file), *FLAGS, "--output", str(output)])
    reading = ReadingOptions().with_grades(GRADES)
    frame = read_records(Source(str(output), reading=reading), task="QC")
    own = frame[frame["method"] == "original"]
    assert own["label"].tolist() == [row["label"] for row in graded_rows(160)]
    made = frame[frame["method"] != "original"]
    assert len(made) and set(made["label"]) <= set(range(GRADES)) and made["label"].max() > 1
    card = (tmp_path / "prepared.md").read_text(encoding="utf-8")
    assert "mean grade" in card and "labelled relevant" not in card and "grades 4" in card
    run = train(RunConfig.from_recipe(**options_of(tmp_path, base_of("bert"), train_file=str(output)))).folder
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert len(content["grade_thresholds"]) == GRADES - 1


@pytest.mark.parametrize("step", ["filter: {run: x, apply: drop}", "easy_negatives: {}", "hard_negatives: {}"])
def test_a_step_of_two_labels_is_refused_with_the_way_out(step, tmp_path):
    (tmp_path / "a.yaml").write_text(f"steps:\n  - {step}\n", encoding="utf-8")
    file = write_rows(tmp_path / "rows.txt", graded_rows(8))
    with pytest.raises(
        SystemExit, match=f"--grades 4: found the step {step.partition(':')[0]}, .* leave it out, or map"
    ):
        prepare.main([str(tmp_path / "a.yaml"), str(file), *FLAGS, "--output", str(tmp_path / "o.parquet")])


def test_a_file_with_grades_and_without_the_flag_is_an_error_that_names_it(tmp_path):
    file = write_rows(tmp_path / "rows.txt", graded_rows(40))
    with pytest.raises(SystemExit, match="--grades 4"):
        prepare.main([str(file), "--task", "QC", "--output", str(tmp_path / "o.parquet")])
