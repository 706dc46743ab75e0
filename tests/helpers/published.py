"""Tiny runs, and published copies of them as they lie on the Hub, for the tests of loading."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.published import canaries, manifest
from product_relevance.ensemble.published.manifest_record import Manifest, PublishedFold
from product_relevance.ensemble.published.manifest_schema import ADAPTER_FILES
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_record import FinishedRunRecord, PublicRunRecord
from tests.conftest import rows_of, write_rows

FLAGS = "--task QC --use_cpu true --max_steps 8 --eval_steps 8 --save_steps 8 --lora_r 4 --learning_rate 3e-3"
BASE, NAME = "tester/base", "tester/shop-qc"
PAIRS = [(row["origin_query"], row["category_path"]) for row in rows_of("dev_QC.txt")[:40]]


def tiny_run(base: Path, folder: Path, flags: str = "") -> Path:
    """Train three folds for eight steps."""
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:240])
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(folder / "run")]
    train_relevance.main([*FLAGS.split(), *flags.split(), *names])
    return folder / "run"


def public_part(run: Path, commit: str = "b" * 40) -> tuple[PublicRunRecord, canaries.CanaryScores]:
    """The public run and its canaries, as if the base had come from the Hub."""
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    content["base"] |= {"name": BASE, "revision": commit}
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    public = manifest.public_run(FinishedRunRecord.from_json(content))
    digest = manifest.config_sha256(ensemble.model.config.to_dict())
    return replace(public, base={**public.base, "config_sha256": digest}), canaries.measure_canaries(ensemble)


def publish(run: Path, folder: Path, commit: str = "b" * 40) -> Path:
    """Fill a folder with ensemble.json, the taxonomy and, below it, the folds."""
    public, scores = public_part(run, commit)
    folds = []
    for name in scores.folds:
        (folder / name).mkdir(parents=True)
        for file in ADAPTER_FILES:
            shutil.copy(run / name / file, folder / name / file)
        files = {file: sha256_of(folder / name / file) for file in ADAPTER_FILES}
        folds.append(PublishedFold(name=name, path=name, files=files))
    shutil.copy(run / "taxonomy.json", folder / "taxonomy.json")
    files = {"taxonomy.json": sha256_of(folder / "taxonomy.json")}
    made = Manifest(name=NAME, run=public, folds=folds, files=files, canaries=scores)
    manifest.write_manifest(folder, made)
    return folder


def edit(folder: Path, change) -> None:
    """Change ensemble.json as a hand would, unchecked."""
    content = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    change(content)
    (folder / "ensemble.json").write_text(json.dumps(content), encoding="utf-8")


def files_of(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def upload(hub, folder: Path, layout: str = "repos") -> Path:
    """Put a published folder on the loopback Hub, in one of the three layouts, and pin the folds in the folder."""
    content = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    for fold in content["folds"] if layout != "one" else []:
        files = files_of(folder / fold["name"]) | {"README.md": b"# card", "extra.txt": b"unnamed"}
        repo, branch = (f"{NAME}-{fold['name']}", "main") if layout == "repos" else (NAME, fold["name"])
        commit = hub.put(repo, files, branch=branch)
        shutil.rmtree(folder / fold["name"])
        fold |= {"repo_id": repo, "revision": commit, "path": "."}
    manifest.write_manifest(folder, Manifest.from_json(content))
    hub.put(NAME, files_of(folder) | {"README.md": b"# card", "extra.txt": b"unnamed"})
    return folder
