"""Batches of tiny pairs, as training makes them, with all that a row may have for its loss."""

from product_relevance.training.batches.dataset import PairCollator, PairDataset

PAD = 1


def collated(ids: list[list[int]]) -> dict:
    """Pad pairs with labels, weights and a teacher's probabilities that differ from row to row."""
    n = len(ids)
    data = PairDataset(
        ids, [i % 2 for i in range(n)], [1 + i / n for i in range(n)], [(i + 1) / (n + 1) for i in range(n)]
    )
    return PairCollator(PAD, with_rows=True)([data[i] for i in range(n)])
