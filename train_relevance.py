"""Fine-tune a base for query-category (QC) or query-item (QI) relevance, fold by fold, into one run folder.

    python train_relevance.py recipes/quickstart.yaml
    torchrun --nproc_per_node 4 train_relevance.py recipes/gemma-3-12b-qc-reported.yaml --train_file train_QC.txt
    deepspeed train_relevance.py --model_name_or_path google/gemma-3-12b-pt --task QC --train_file train_QC.txt \\
        --deepspeed ds_configs/zero2.json --bf16 true --output_dir runs/gemma-qc
"""

import logging
import sys

logger = logging.getLogger("train_relevance")


def main(argv: list[str] | None = None) -> None:
    """Run a training from the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "-h" in argv or "--help" in argv:
        from product_relevance.recipe import help_text

        print(help_text())
        return
    from product_relevance.recipe import parse_arguments

    try:
        arguments = parse_arguments(["--help" if a == "--help_all" else a for a in argv])
        train(*arguments)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


def train(model_args, data_args, objective, training) -> None:
    """Train the folds that the arguments name and finish the run folder.

    Raises:
        ValueError: bad records, a leak between folds, a finished fold without `--overwrite`, or a wrong base.
        FloatingPointError: the loss became NaN.
    """
    from product_relevance import data, distributed, earlier, first_stage, run, teacher, training_run
    from product_relevance.bases import Bases
    from product_relevance.checkpoints import resolve_revision
    from product_relevance.folds import query_groups
    from product_relevance.prompt import chosen_prompt
    from product_relevance.splits import make_splits

    # ---- Devices ----
    distributed.start(training)
    logging.basicConfig(level=logging.INFO if training.process_index == 0 else logging.ERROR, format="%(message)s")

    # ---- Records and their columns ----
    with training.main_process_first(desc="records"):
        frame = data.load_columns(data_args, rejects=f"{training.output_dir}/rejects.jsonl")
    template = data.make_template(data_args, chosen_prompt(model_args))
    logger.info(data.describe(frame))

    # ---- Folds, checked for leaks ----
    splits = make_splits(frame, data_args)
    frame["query_group"] = query_groups(frame)
    logger.info("\n".join(split.report for split in splits))

    # ---- Tokens, once for all folds; a branch may move while they train, so the base is one commit from here ----
    model_args.model_revision = resolve_revision(model_args.model_name_or_path, model_args.model_revision)
    taxonomy = data.make_taxonomy(frame)
    tokenizer, answers, tokens = training_run.tokenise(model_args, template, *data.render(frame, template, taxonomy))

    # ---- The run folder ----
    shared = training_run.describe(model_args, data_args, objective, training, frame, template)
    names = [split.name for split in splits]
    stage = first_stage.find(model_args.init_adapter, shared, names)
    taught_by = earlier.find("--teacher", objective.teacher, shared, names)
    shared |= {"first_stage": stage and stage.described(), "teacher": taught_by and taught_by.described()}
    if training.process_index == 0:
        training_run.claim(training, data_args, shared, names)
        if taxonomy is not None:
            taxonomy.save(f"{training.output_dir}/taxonomy.json")
    distributed.wait()
    frame = teacher.add_scores(frame, taught_by, splits, training)

    # ---- Train each fold on the one loaded base ----
    bases = Bases(model_args, training, tokenizer, stage, answers)
    for split in splits:
        if run.finished(training.output_dir, split.name):
            logger.info("%s: finished before, kept", split.name)
            continue
        training_run.train_fold(split, frame, tokens, bases, tokenizer, data_args, objective, training, shared)

    # ---- Out-of-fold threshold, run.json, report ----
    if training.process_index == 0:
        summary = training_run.finish(training.output_dir, shared, frame)
        print(f"{summary}\n\nreport: {training.output_dir}/report.md, pictures: {training.output_dir}/figures/")
    distributed.stop()


if __name__ == "__main__":
    main()
