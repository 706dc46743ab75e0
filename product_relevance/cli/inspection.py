"""`relevance inspect`: what a file holds, and a recipe that trains on it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from product_relevance.cli.flags import Commands, add_command, add_records
from product_relevance.data.reading_arguments import source_of

if TYPE_CHECKING:
    from product_relevance.data.inspection.inspect_file import Inspection


def add_commands(commands: Commands) -> None:
    """Add `inspect`."""
    text = "show what is understood of a file (columns, languages, labels, doubts), and write a recipe for it"
    parser = add_command(commands, "inspect", inspect_records, text)
    add_records(parser, "records, with columns of any names")
    parser.add_argument("--task", choices=["QC", "QI"], help="QC (category path) or QI (item title); by default found")
    parser.add_argument("--output", help="recipe to write, a .yaml file for `relevance train`")
    parser.add_argument("--output_dir", help="run folder that the recipe names (default: runs/, named after the file)")
    parser.add_argument("--overwrite", action="store_true", help="replace the recipe")


def inspect_records(arguments: argparse.Namespace) -> None:
    """Print what is understood of a file, and write a recipe where one is asked for."""
    from product_relevance.data.inspection.inspect_file import inspect_file
    from product_relevance.data.inspection.recipe import make_recipe, recipe_text
    from product_relevance.data.inspection.report import inspection_lines
    from product_relevance.data.sources.labels import MAX_GRADES
    from product_relevance.utils.files import atomic_write

    output = arguments.output
    if output and Path(output).suffix not in (".yaml", ".yml"):
        raise ValueError(f"--output {output}: expected a name that ends in .yaml")
    if output and Path(output).exists() and not arguments.overwrite:
        raise ValueError(f"--output {output}: is there already; add --overwrite to replace it")
    source = source_of(arguments, arguments.file, MAX_GRADES)
    found = inspect_file(source, arguments.task)
    print("\n".join([*inspection_lines(found), *_noise_lines(found)]))
    if output:
        text = recipe_text(make_recipe(found, source.reading, arguments.output_dir), arguments.file)
        with atomic_write(output) as file:
            file.write(text)
        print(f"recipe      {output}: train with relevance train {output}")


def _noise_lines(found: "Inspection") -> Iterator[str]:
    """Yield what repeated pairs say of the noise of labels that are 0 or 1."""
    if found.grades != 2 or not found.pairs:
        return
    from product_relevance.evaluation.reports.label_noise import estimate_noise, noise_lines

    for place, line in enumerate(noise_lines(estimate_noise(found.table.labels, found.codes, found.pairs))):
        yield f"{'' if place else 'noise':<12}{line}"
