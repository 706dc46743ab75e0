"""Publish a run on the Hub: its folds, the ensemble that pins them, cards, handler; HF_TOKEN or `hf auth login`.

python push_to_hub.py runs/quickstart --repo_id org/name --dry_run
python push_to_hub.py runs/quickstart --repo_id org/name --private --tag v1
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import RaisingParser, option, required

if TYPE_CHECKING:
    from product_relevance.hub.places import StagingOptions


@dataclass
class PublishArguments:
    """What is published, where, and who may read it."""

    repo_id: str = required("org/name of the ensemble; the names of its folds begin with it")
    layout: str = option("repos", "each fold gets a repository, a branch or a folder", ["repos", "branches", "one"])
    private: bool = option(False, "make the repositories private")
    gated: str | None = option(None, "readers ask for access: granted at once, or by hand", ["auto", "manual"])
    revision: str = option("main", "branch to publish on")
    tag: str | None = option(None, "set after the last commit, as v1; never moved")
    collection: str | None = option(None, "title of a collection to add it to, or the slug of an existing one")
    base_model_id: str | None = option(None, "Hub id of the base, for a run whose base is a local folder")
    base_revision: str | None = option(None, "commit of --base_model_id, 40 digits")
    with_dataset: str | None = option(None, "publish this Parquet of prepare.py too, texts included")
    with_metric: bool = option(False, "publish the metric too, for evaluate.load")
    space: bool = option(False, "publish a page to try the model too, as the Space REPO_ID-demo")
    dry_run: bool = option(False, "stage and show everything, without any connection")
    staging_folder: str | None = option(None, "where the files to publish are put together; RUN/hub by default")
    overwrite: bool = option(False, "replace staged files that were changed by hand")

    def __post_init__(self) -> None:
        if (self.base_model_id is None) != (self.base_revision is None):
            raise ValueError("--base_model_id and --base_revision: give both, or none")


def main(argv: list[str] | None = None) -> None:
    """Publish from the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "-h" in argv or "--help" in argv:
        print(make_parser().format_help())
        return
    from product_relevance.utils import console

    console.quiet_libraries()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("product_relevance").setLevel(logging.INFO)  # the client's own lines would name every request
    try:
        with errors_in_one_line():
            run_folder, arguments = parse_arguments(argv)
            publish(run_folder, arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


def parse_arguments(argv: list[str]) -> tuple[Path, PublishArguments]:
    """Parse `RUN --repo_id ORG/NAME [--flag value ...]`.

    Raises:
        ValueError: no run folder, a token among the arguments, an unknown flag, or a bad value.
    """
    if any(word.startswith(("--token", "--hub_token", "hf_")) or "=hf_" in word for word in argv):
        raise ValueError("a token never goes into arguments, where others see it; set HF_TOKEN or run `hf auth login`")
    if not argv or argv[0].startswith("-"):
        raise ValueError("the run folder comes first: push_to_hub.py RUN --repo_id org/name")
    parser = make_parser()
    given = vars(parser.parse_args(argv))
    (arguments,) = parser.parse_dict(given)
    return given["run"], arguments


def publish(run_folder: Path, arguments: PublishArguments) -> None:
    """Stage the run, show what there is, and publish it unless it is a dry run.

    Raises:
        ValueError: a run that cannot be published, no access, or no connection.
    """
    from product_relevance.hub import publish as hub
    from product_relevance.hub import staging
    from product_relevance.utils.hub_errors import stay_offline

    settings = {key: getattr(arguments, key) for key in ("private", "gated", "tag", "collection")}
    with stay_offline(arguments.dry_run):
        out = arguments.staging_folder or run_folder / "hub"
        staged = staging.stage_run(run_folder, out, arguments.repo_id, _staging_options(arguments))
    if arguments.dry_run:
        print(
            f"{hub.describe_plan(staged, **settings)}\n"
            f"dry run: nothing was sent; the files are in {staged[-1].folder.parent}"
        )
        return
    commits = hub.publish_staged(staged, **settings)
    print("\n".join(f"{place}  {commit}" for place, commit in commits.items()))
    revision = f', revision="{arguments.tag}"' if arguments.tag else ""
    print(f'load it with RelevanceEnsemble.from_pretrained("{arguments.repo_id}"{revision})')


def _staging_options(arguments: PublishArguments) -> "StagingOptions":
    from product_relevance.hub.places import StagingOptions

    base = None
    if arguments.base_model_id and arguments.base_revision:
        base = arguments.base_model_id, arguments.base_revision
    return StagingOptions(
        layout=arguments.layout,
        branch=arguments.revision,
        tag=arguments.tag,
        base=base,
        data_file=arguments.with_dataset,
        with_metric=arguments.with_metric,
        space=arguments.space,
        overwrite=arguments.overwrite,
    )


def make_parser() -> RaisingParser:
    """Build the command line's parser."""
    usage = "%(prog)s RUN --repo_id ORG/NAME [--flag value ...]"
    parser = RaisingParser((PublishArguments,), allow_abbrev=False, description=__doc__.split("\n")[0], usage=usage)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder made by train_relevance.py")
    return parser


if __name__ == "__main__":
    main()
