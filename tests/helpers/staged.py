"""What the tests of publishing share: a tiny run, the place of its base on a Hub, and its staged folders."""

import shutil
from functools import lru_cache
from pathlib import Path

from product_relevance.hub import staging
from product_relevance.hub.places import StagingOptions
from tests.helpers.serving import tiny_run
from tests.hub.loopback.repos import Repo

BASE, NAME = "org/tiny-base", "org/shop"


def base_files(base: Path) -> dict[str, bytes]:
    """The files of a base, as a repository holds them."""
    return {path.name: path.read_bytes() for path in sorted(base.iterdir())}


@lru_cache
def base_pin(base: Path) -> tuple[str, str]:
    """Id and commit of the base on every loopback Hub that holds it: there the same content has the same commit."""
    return BASE, Repo("model", BASE, {}).put(base_files(base))


def plain_run(base: Path, changed: bool = False) -> Path:
    """The tiny run without out-of-fold rows and pictures, since drawing takes the most time; or with other weights."""
    folder = base.with_name("changed" if changed else "plain")
    if folder.exists():
        return folder
    shutil.copytree(tiny_run(base), folder)
    shutil.rmtree(folder / "figures")
    for path in folder.rglob("oof.parquet"):
        path.unlink()
    if changed:
        for path in folder.glob("fold-*/adapter_model.safetensors"):
            change_weights(path)
    return folder


def change_weights(file: Path) -> None:
    """Let an adapter's head say something else."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    save_file({k: -3 * v if "score" in k else v for k, v in tensors.items()}, file, metadata={"format": "pt"})


def staged(base: Path, layout: str = "repos", changed: bool = False) -> list:
    """The plain run, staged as `org/shop`, once for all files of tests; read only."""
    return _staged(base, layout, changed)


@lru_cache
def _staged(base: Path, layout: str, changed: bool) -> list:
    out = base.with_name(f"staged-{layout}-{changed}")
    return staging.stage_run(plain_run(base, changed), out, NAME, StagingOptions(layout=layout, base=base_pin(base)))
