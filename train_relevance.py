"""Fine-tune a base for query-category (QC) or query-item (QI) relevance, one fold at a time, into one run folder.

    python train_relevance.py recipes/quickstart.yaml
    torchrun --nproc_per_node 4 train_relevance.py recipes/gemma-3-12b-qc-reported.yaml --train_file train_QC.txt \\
        --translation translations.parquet
    deepspeed train_relevance.py --model_name_or_path google/gemma-3-12b-pt --task QC --train_file train_QC.txt \\
        --deepspeed ds_configs/zero2.json --bf16 true --output_dir runs/gemma-qc
"""

import logging
import sys
from dataclasses import replace

logger = logging.getLogger("train_relevance")


def main(argv: list[str] | None = None) -> None:
    """Run a training from the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "-h" in argv or "--help" in argv:
        from product_relevance.training.recipe import help_text

        print(help_text())
        return
    from product_relevance.training.recipe import parse_arguments
    from product_relevance.utils import console
    from product_relevance.utils.one_line import errors_in_one_line

    console.start()
    with errors_in_one_line():
        arguments = parse_arguments(["--help" if a == "--help_all" else a for a in argv])
        run_stage(*arguments)


def run_stage(model_args, data_args, objective, training) -> None:
    """Start the devices, train, and log the result on the first process."""
    from product_relevance.training import distributed
    from product_relevance.training.recipe import check_reports
    from product_relevance.utils import console

    check_reports(training)
    distributed.start(training)
    training.disable_tqdm = training.disable_tqdm or not console.on_terminal()
    logging.basicConfig(level=logging.INFO if training.process_index == 0 else logging.ERROR, format="%(message)s")
    logger.info(distributed.split_batch(training, data_args.global_batch_size))
    if objective.stage == "language_model":
        from product_relevance.training import pretraining

        result = pretraining.train(model_args, data_args, objective, training)
    else:
        result = train(model_args, data_args, objective, training)
    if training.process_index == 0:
        print(result)
    distributed.stop()


def train(model_args, data_args, objective, training) -> str:
    """Train the folds that the arguments name and finish the run folder.

    Returns:
        A summary for the terminal; empty on all processes but the first.

    Raises:
        ValueError: bad records, a leak between folds, a finished fold without `--overwrite`, or a wrong base.
        FloatingPointError: the loss became NaN.
    """
    from product_relevance.data import loading
    from product_relevance.data.folds import query_groups
    from product_relevance.data.splits import make_splits
    from product_relevance.evaluation import out_of_fold
    from product_relevance.models.loading.checkpoints import resolve_revision
    from product_relevance.text.prompt import chosen_prompt
    from product_relevance.training import preflight, run
    from product_relevance.training.base_model import BaseModelPool
    from product_relevance.training.batches import prefix_batches
    from product_relevance.training.fold import train_fold
    from product_relevance.training.parents.distillation import find_teacher
    from product_relevance.training.parents.warm_start import find_warm_start
    from product_relevance.training.run_config import RunConfig
    from product_relevance.training.run_data import RunData, prepare_run_data

    # ---- Records and their columns ----
    with training.main_process_first(desc="records"):
        frame = loading.load_columns(data_args, rejects=f"{training.output_dir}/rejects.jsonl")
    template = loading.make_template(data_args, chosen_prompt(model_args), frame)
    logger.info(loading.describe_records(frame))

    # ---- Folds, checked for leaks ----
    splits = make_splits(frame, data_args)
    frame["query_group"] = query_groups(frame)
    logger.info("\n".join(split.report for split in splits))
    preflight.check(frame, splits, data_args, objective, training)

    # ---- Tokens, once for all folds; a branch may move while they train, so the base is one commit from here ----
    model_args.model_revision = resolve_revision(model_args.model_name_or_path, model_args.model_revision)
    config = RunConfig(model_args, data_args, objective, training)
    encoder = run.make_encoder(config, template, loading.make_taxonomy(frame))
    data = RunData(frame, run.encode_records(encoder, frame), data_args.task_mixing, data_args.eval_rows)
    if data_args.share_prefixes:
        prefix_batches.require_shareable(model_args, objective.objective, training)

    # ---- The run folder, and the runs that this one builds on ----
    names = [split.name for split in splits]
    record = replace(run.describe_run(config, frame, template, splits), weights=preflight.weights(frame))
    parent = find_warm_start(model_args.init_adapter, record.to_json(), names)
    teacher = find_teacher(objective.teacher, record.to_json(), names, data_args.translation)
    record = replace(record, first_stage=parent and parent.described(), teacher=teacher and teacher.described())
    config = replace(config, record=record)
    todo = run.claim_folder(config, splits, encoder.taxonomy, frame)
    data = prepare_run_data(config, data, todo, encoder, teacher)

    # ---- Train each fold on the one loaded base ----
    run.clear_folds(config, todo)
    pool = BaseModelPool(model_args, training, encoder, parent)
    for split in todo:
        train_fold(config, data.fold(split), encoder, pool)

    # ---- Out-of-fold threshold, run.json, report ----
    if training.process_index:
        return ""
    summary = out_of_fold.finish(training.output_dir, record.to_json())
    return f"{summary}\n\nreport with pictures: {training.output_dir}/report.md"


if __name__ == "__main__":
    main()
