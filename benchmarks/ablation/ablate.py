"""Train the rows of a study with the same seeds and steps, and report which differences are real.

python benchmarks/ablation/ablate.py benchmarks/studies/quick.yaml --data sample --output runs/study-quick
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from study import ROOT, Row, Study, folder_name, read_study

from product_relevance.utils.options import Parser


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("study", help="YAML: recipe, arguments, evaluate, seeds, rows")
    parser.add_argument("--data", default=".", help="folder of the study's record files")
    parser.add_argument("--output", required=True, help="folder of runs, table and picture")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, one thread each if more than one")
    parser.add_argument("--only", nargs="+", help="rows to train; the table holds whatever is finished")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        study = read_study(arguments.study, arguments.data)
        unknown = set(arguments.only or ()) - {row.name for row in study.rows}
        if unknown:
            raise ValueError(f"--only: the study has no row {', '.join(sorted(unknown))}")
        output = Path(arguments.output)
        study = study.shortened(output)
        train_all(study, output, arguments.jobs, arguments.only)
        summarise(study, output)
    except ValueError as error:
        sys.exit(f"error: {error}")


def train_all(study: Study, output: Path, jobs: int, only: list[str] | None) -> None:
    """Train and score every row and seed that is not finished; one that fails does not stop the others.

    Raises:
        ValueError: a job failed; names it and its log.
    """
    from tqdm.auto import tqdm

    files = _digests(study)
    rows = [row for row in study.rows if not only or row.name in only]
    todo = [(row, seed) for seed in study.seeds for row in rows if not _finished(study, row, seed, output, files)]
    training = [job for job in todo if job[0].trained == job[0].name]
    judging = [job for job in todo if job[0].trained != job[0].name]  # another row's runs, so after it
    without = [(row, seed) for seed in study.seeds for row in rows if study.held_out(row)]
    without = [job for job in without if not _finished(study, *job, output, files, held_out=True)]
    failed = []
    for row in [row for row in rows if any(job[0] is row for job in [*training, *without])]:
        try:
            _prepare(study, row, output)
        except ValueError as error:
            failed.append(f"{row.name}: {error}")
            training, without = ([job for job in part if job[0] is not row] for part in (training, without))
            judging = [job for job in judging if job[0].trained != row.name]
    for work, part in ((_job, training), (_job, judging), (_job_without, without)):
        with ThreadPoolExecutor(jobs) as pool:
            started = {pool.submit(work, study, *job, output, files, jobs): job for job in part}
            for done in tqdm(as_completed(started), total=len(part), desc="trainings", disable=not part):
                if done.exception() is not None:
                    failed.append(f"{started[done][0].name}, seed {started[done][1]}: {done.exception()}")
    if failed:
        raise ValueError(f"{len(failed)} trainings failed; run the same command again for these: " + "; ".join(failed))


def folder_of(output: Path, row: str, seed: int) -> Path:
    """Return the folder of one row and seed."""
    return output / folder_name(row) / str(seed)


def _digests(study: Study) -> dict[str, str]:
    from product_relevance.utils.files import sha256_of

    return {Path(name).name: sha256_of(name) for name in (study.arguments["train_file"], study.evaluate)}


def _finished(study: Study, row: Row, seed: int, output: Path, files: dict, held_out=False) -> bool:
    done = folder_of(output, row.name, seed) / ("held-out.json" if held_out else "done.json")
    if not done.is_file():
        return False
    return json.loads(done.read_text(encoding="utf-8"))["key"] == study.key(row, seed, files, held_out)


def _job(study: Study, row: Row, seed: int, output: Path, files: dict, jobs: int) -> None:
    """Train and score, each by a program of this repository, as a user would run it."""
    from product_relevance.utils.run_folder import load_record, write_json
    from product_relevance.utils.tasks import select_task

    folder = folder_of(output, row.name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    run = folder_of(output, row.trained, seed) / "run"
    if row.trained == row.name:
        flags = study.flags(row, seed, _train_file(study, row, output), run)
        _call("train_relevance.py", [*flags, "--overwrite", "true"], folder, jobs)
    options = {name: value for name, value in row.evaluate.items() if name != "threshold"}
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    scored = folder / "dev.txt"
    words = ["product_relevance.cli.main", "predict", str(run), str(study.evaluate), *flags]
    _call("-m", [*words, "--output", str(scored), "--overwrite"], folder, jobs)
    record = select_task(load_record(run), study.arguments["task"])
    finished = {"thresholds": record.thresholds, "seconds": record.seconds, "out_of_fold": record.metrics}
    finished["languages"] = record.data["languages"]
    write_json(folder / "done.json", {"key": study.key(row, seed, files), **finished, "device": record.device})


def _job_without(study: Study, row: Row, seed: int, output: Path, files: dict, jobs: int) -> None:
    """Train a row without the held-out languages, which its run then validates on."""
    from product_relevance.utils.run_folder import load_record, write_json
    from product_relevance.utils.tasks import select_task

    folder = folder_of(output, row.name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    flags = study.flags(row, seed, _train_file(study, row, output), folder / "held-out", held_out=True)
    _call("train_relevance.py", [*flags, "--overwrite", "true"], folder, jobs)
    metrics = select_task(load_record(folder / "held-out"), study.arguments["task"]).metrics
    write_json(folder / "held-out.json", {"key": study.key(row, seed, files, held_out=True), "held_out": metrics})


def _train_file(study: Study, row: Row, output: Path) -> Path:
    return study.arguments["train_file"] if row.prepare is None else _prepared(output, row)


def _prepared(output: Path, row: Row) -> Path:
    return folder_of(output, row.name, 0).with_name("prepared.parquet")


def _prepare(study: Study, row: Row, output: Path) -> None:
    """Prepare a row's training file once for all seeds; steps that are finished are kept."""
    import yaml

    if row.prepare is None:
        return
    file = _prepared(output, row)
    file.parent.mkdir(parents=True, exist_ok=True)
    recipe = file.with_name("prepare.yaml")
    content = {"file": study.arguments["train_file"], "task": study.arguments["task"]} | row.prepare
    recipe.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    _call("dataset_scripts/prepare.py", [str(recipe), "--output", str(file)], file.parent, 1)


def _call(program: str, arguments: list[str], folder: Path, jobs: int) -> None:
    threads = {"OMP_NUM_THREADS": "1"} if jobs > 1 else {}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | threads | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, program if program == "-m" else str(ROOT / program), *arguments]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise ValueError(f"{program} ended with {done.returncode}, see {folder / 'log.txt'}")


def summarise(study: Study, output: Path) -> None:
    """Write table.md, table.json and differences.png of what is finished, and print the table."""
    import model_selection
    from significance import draw, measure, to_markdown

    from product_relevance.utils.run_folder import write_json

    files = _digests(study)
    finished = lambda row, seed: _finished(study, row, seed, output, files)  # noqa: E731
    found = measure(study, output, folder_of, finished)
    text = to_markdown(study, found)
    both = lambda row, seed: finished(row, seed) and _finished(study, row, seed, output, files, True)  # noqa: E731
    if chosen := model_selection.measure(study, output, folder_of, both):
        found |= {"selection": chosen}
        text += "\n\n" + model_selection.to_markdown(study, chosen)
    write_json(output / "table.json", found)
    (output / "table.md").write_text(text, encoding="utf-8")
    draw(study, found, output / "differences.png")
    print(f"{text}\n\n{output}/table.md, table.json, differences.png")
    print(json.dumps({"benchmark": "ablate", "title": study.title, "rows": found["rows"]}))


if __name__ == "__main__":
    main()
