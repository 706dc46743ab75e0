"""What a run may train on beside its rows as they stand: paths cut to their last levels, and unlabelled rows."""

from product_relevance.data import loading
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.training import path_truncation
from product_relevance.training.parents import unlabelled


def encoder(tokenizer, template, taxonomy, max_length: int):
    """Return a function from records with columns to token ids; `known=None` leaves the tree of paths out."""

    def encode(frame, known=taxonomy) -> list[list[int]]:
        return encode_pairs(tokenizer, *loading.render(frame, template, known), max_length)

    return encode


def make(frame, splits, data_args, objective, training, encode, taught_by) -> list:
    """Make what each split's training rows are changed by, in this order.

    Args:
        frame: training records with columns.
        splits: of `make_splits`.
        data_args: DataArguments.
        objective: ObjectiveArguments.
        training: TrainingArguments.
        encode: of `encoder`.
        taught_by: the teacher, None without one.

    Raises:
        ValueError: bad unlabelled records, or an order of rows that cannot cut paths anew in each epoch.
    """
    added = []
    if data_args.random_levels:
        added.append(path_truncation.short_paths(frame, data_args.random_levels, training, encode))
    if objective.unlabelled_file:
        added.append(unlabelled.load(objective.unlabelled_file, data_args, frame, splits, taught_by, training, encode))
    return added
