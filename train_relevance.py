"""Fine-tune a base for query-category (QC) or query-item (QI) relevance, one fold at a time, into one run folder.

    python train_relevance.py recipes/quickstart.yaml
    torchrun --nproc_per_node 4 train_relevance.py recipes/gemma-3-12b-qc-reported.yaml --train_file train_QC.txt \\
        --translation translations.parquet
    deepspeed train_relevance.py --model_name_or_path google/gemma-3-12b-pt --task QC --train_file train_QC.txt \\
        --deepspeed ds_configs/zero2.json --bf16 true --output_dir runs/gemma-qc
"""

import logging
import sys


def main(argv: list[str] | None = None) -> None:
    """Run a training from the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "-h" in argv or "--help" in argv:
        from product_relevance.training.arguments import help_text

        print(help_text())
        return
    from product_relevance.utils import console
    from product_relevance.utils.one_line import errors_in_one_line

    console.quiet_libraries()
    with errors_in_one_line():
        run_training(["--help" if word == "--help_all" else word for word in argv])


def run_training(argv: list[str]) -> None:
    """Train by `[RECIPE.yaml] [--flag value ...]`, and print the figures on the first process."""
    from product_relevance import RunConfig, train
    from product_relevance.training import distributed

    config = RunConfig.from_flags(argv)
    first = config.training.process_index == 0
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    run = train(config)
    if first:
        print(run.summary)
    distributed.end_processes()


if __name__ == "__main__":
    main()
