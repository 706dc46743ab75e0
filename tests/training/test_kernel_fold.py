"""A run of kernels is a run as any other: trained, resumed, scored, served, stacked, published, learned from."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import push_to_hub
import train_relevance
from product_relevance import RelevanceEnsemble, RunConfig
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.kernel_folds import LEFT_OUT
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.stack import RelevanceStack
from product_relevance.utils.run_folder import load_record
from tests.conftest import rows_of, write_rows
from tests.helpers.published import PAIRS, tiny_run

KERNEL = "--task QC --use_cpu true --adapter kernel --pooling sides"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "train_QC.txt", rows_of("train_QC.txt")[:240])


def fit(base, file, output, flags: str = ""):
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(output)]
    train_relevance.main([*KERNEL.split(), *names, *flags.split()])
    return output


@pytest.fixture(scope="module")
def run(base_of, file, tmp_path_factory):
    return fit(base_of("xlm-roberta"), file, tmp_path_factory.mktemp("kernels") / "run")


@pytest.fixture(scope="module")
def ensemble(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu")


def test_a_loaded_fold_scores_its_validation_rows_as_in_training(run, ensemble):
    rows = {row["id"]: row for row in rows_of("train_QC.txt")}
    oof = pd.read_parquet(run / "fold-1" / "oof.parquet")
    pairs = [(rows[i]["origin_query"], rows[i]["category_path"]) for i in oof["id"]]
    column = list(ensemble.folds).index("fold-1")
    np.testing.assert_allclose(ensemble.predict_folds(pairs)[:, column], oof["score"], atol=1e-5)


def test_batched_scores_are_those_of_one_pair_at_a_time(ensemble):
    alone = np.concatenate([ensemble.predict([pair]) for pair in PAIRS[:10]])
    np.testing.assert_allclose(ensemble.predict(PAIRS)[:10], alone, atol=1e-5)


def test_a_fold_remembers_its_training_rows_alone(run, file):
    for name in ("fold-0", "fold-1", "fold-2"):
        valid = set(pd.read_parquet(run / name / "oof.parquet")["id"].astype(str))
        known = pd.read_parquet(run / name / LEFT_OUT)
        assert set(known["id"]) == {str(row["id"]) for row in rows_of("train_QC.txt")[:240]} - valid
        assert len(load_file(run / name / "model.safetensors")["weights"]) == len(known)
        assert known["score"].between(0, 1).all()


def test_two_trainings_are_one(base_of, file, run, tmp_path):
    fit(base_of("xlm-roberta"), file, tmp_path / "again")
    pd.testing.assert_frame_equal(
        pd.read_parquet(run / "oof.parquet"), pd.read_parquet(tmp_path / "again/oof.parquet")
    )


def test_folds_fitted_one_by_one_are_those_of_one_run(base_of, file, run, tmp_path):
    for flags in ("--fold 0", "--fold all --resume_from_checkpoint true"):
        fit(base_of("xlm-roberta"), file, tmp_path / "run", flags)
    found, expected = (pd.read_parquet(folder / "oof.parquet") for folder in (tmp_path / "run", run))
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-6)


def test_so_many_pairs_are_remembered_at_most(base_of, file, tmp_path):
    run = fit(base_of("xlm-roberta"), file, tmp_path / "few", "--fold 0 --kernel_rows 50")
    assert 40 < len(load_file(run / "fold-0" / "model.safetensors")["weights"]) <= 50


def test_a_finished_run_is_not_overwritten(base_of, file, run):
    with pytest.raises(SystemExit, match="holds a run already .*--overwrite"):
        fit(base_of("xlm-roberta"), file, run)


def test_weights_of_the_rows_count(base_of, run, tmp_path):
    rows = [row | {"weight": 0.01 if i % 2 else 5.0} for i, row in enumerate(rows_of("train_QC.txt")[:240])]
    weighted = fit(base_of("xlm-roberta"), write_rows(tmp_path / "train_QC.txt", rows), tmp_path / "run", "--fold 0")
    one, two = (pd.read_parquet(folder / "fold-0/oof.parquet")["score"] for folder in (run, weighted))
    assert np.abs(one - two).max() > 0.01


@pytest.mark.parametrize(
    "flags, found",
    [
        ("--pooling mean", "--adapter kernel and --pooling sides go together"),
        ("--adapter lora", "--adapter kernel and --pooling sides go together"),
        ("--objective bootstrap", "--objective bootstrap, which a kernel cannot have"),
        ("--stage language_model", "--stage language_model, which a kernel cannot have"),
        ("--grades 3", "--grades 3, which a kernel cannot have"),
        ("--random_levels 0.5", "--random_levels 0.5, which a kernel cannot have"),
        ("--share_prefixes true", "--share_prefixes, which a kernel cannot have"),
        ("--kernel_ridge 0", "--kernel_ridge 0.0: expected more than 0"),
        ("--kernel_rows 0", "--kernel_rows 0: expected more than 0"),
        ("--init_adapter runs/start", "--init_adapter: a kernel has no start"),
        ("--quantization nf4", "--quantization nf4: a frozen base only"),
    ],
)
def test_what_a_kernel_cannot_have_is_refused(flags, found, base_of, file, tmp_path):
    with pytest.raises(SystemExit, match=found):
        fit(base_of("xlm-roberta"), file, tmp_path / "run", flags)
    assert not (tmp_path / "run" / "fold-0").exists()


def test_a_decoder_is_refused(base_of, file, tmp_path):
    with pytest.raises(SystemExit, match="--pooling sides needs an encoder"):
        fit(base_of("qwen3"), file, tmp_path / "run")


@pytest.mark.parametrize(
    "options, found",
    [
        ({"loading": LoadingArguments(merge="weights")}, "merge weights: found the kernel"),
        ({"loading": LoadingArguments(attention="packed")}, "attention packed: found the kernel"),
        ({"dtype": "nf4"}, "its folds are kernels"),
    ],
)
def test_what_a_kernel_cannot_be_scored_with_is_refused(options, found, run):
    with pytest.raises(ValueError, match=found):
        RelevanceEnsemble.from_pretrained(run, device="cpu", **options)


@pytest.mark.parametrize("flags", ["", "--onnx float32"])
def test_an_export_is_refused(flags, run, tmp_path):
    with pytest.raises(SystemExit, match="a kernel reads query and target by themselves"):
        relevance(["export", str(run), "--output", str(tmp_path / "plain"), *flags.split()])


def test_a_published_kernel_scores_as_the_run_and_warns_of_its_vectors(file, tmp_path, capsys):
    run, staged = fit("embedded:e5-small", file, tmp_path / "run"), tmp_path / "staged"
    flags = ["--repo_id", "tester/shop", "--layout", "one", "--dry_run", "--staging_folder", str(staged)]
    push_to_hub.main([str(run), *flags])
    assert "model.safetensors holds the vectors of the training pairs" in capsys.readouterr().out
    assert not list(staged.rglob(LEFT_OUT))
    card = (staged / "ensemble" / "README.md").read_text(encoding="utf-8")
    assert "3 kernels on one base" in card and "may guess their texts" in card and "kernel_ridge" in card
    loaded = RelevanceEnsemble.from_pretrained(staged / "ensemble", device="cpu")
    local = RelevanceEnsemble.from_pretrained(run, device="cpu")
    np.testing.assert_allclose(loaded.predict(PAIRS), local.predict(PAIRS), atol=1e-6)


def test_the_report_and_info_say_what_it_is(run, capsys):
    assert "none (kernel ridge regression)" in (run / "report.md").read_text(encoding="utf-8")
    assert load_record(run).is_kernel
    relevance(["info", str(run)])
    assert "fold-0, fold-1, fold-2" in capsys.readouterr().out


def test_thresholds_are_chosen_anew(base_of, file, tmp_path):
    run = fit(base_of("bert"), file, tmp_path / "run")
    relevance(["decide", str(run)])
    assert load_record(run).decision["figures"]


@pytest.fixture(scope="module")
def stack(run, base_of, tmp_path_factory):
    """A stack of kernels and of folds with LoRA on another base, from the same rows."""
    folder = tmp_path_factory.mktemp("stacked")
    other = tiny_run(base_of("bert"), folder)
    relevance(["stack", str(run), str(other), "--output", str(folder / "stack")])
    return folder / "stack"


def test_a_stack_joins_kernels_and_adapters(stack, ensemble):
    loaded = RelevanceStack.from_pretrained(stack, device="cpu")
    other = RelevanceEnsemble.from_pretrained(loaded.run_folders[1], device="cpu")
    members = np.column_stack([ensemble.predict(PAIRS), other.predict(PAIRS)])
    np.testing.assert_allclose(loaded.predict(PAIRS), loaded.combine(members), atol=1e-6)


def test_a_student_learns_what_the_labels_of_other_queries_say(run, base_of, file, tmp_path):
    names = ["--model_name_or_path", str(base_of("bert")), "--train_file", str(file), "--teacher", str(run)]
    flags = "--task QC --use_cpu true --max_steps 2 --eval_strategy no --load_best_model_at_end false --lora_r 2"
    flags += " --fold 0 --objective distill"
    # the ids of unlabelled rows may be those of training rows: such a row is scored as any other
    other = write_rows(tmp_path / "more.txt", [rows_of("dev_QC.txt")[0] | {"id": rows_of("train_QC.txt")[0]["id"]}])
    more = ["--unlabelled_file", str(other), "--output_dir", str(tmp_path / "student")]
    train_relevance.main([*flags.split(), *names, *more])
    taught = pd.read_parquet(tmp_path / "student/teacher-fold-0.parquet").set_index("id")["teacher:fold-0"].dropna()
    expected = pd.read_parquet(run / "fold-0" / LEFT_OUT).set_index("id")["score"]
    np.testing.assert_allclose(taught[expected.index], expected, atol=1e-6)
    row = json.loads(other.read_text(encoding="utf-8"))
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    (alone,) = ensemble.predict_folds([(row["origin_query"], row["category_path"])])[:, 0]
    found = pd.read_parquet(tmp_path / "student/teacher-unlabelled-fold-0.parquet")["teacher:fold-0"]
    np.testing.assert_allclose(found, [alone], atol=1e-5)


def test_python_fits_it_from_the_shipped_recipe(base_of, file, tmp_path):
    config = RunConfig.from_recipe(
        "kernel-qc", model_name_or_path=str(base_of("bert")), train_file=str(file), output_dir=str(tmp_path / "run"),
        use_cpu=True,
    )  # fmt: skip
    from product_relevance import train

    assert train(config).record.metrics["rows"] == 240
