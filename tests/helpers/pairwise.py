"""Few of many combinations: a fault that two values make together is found by any combination that holds both."""

from itertools import combinations


def pairs_of(combination: tuple[str, ...]) -> set[tuple]:
    """Each pair of values, with their places, of one combination."""
    return set(combinations(enumerate(combination), 2))


def pairwise(possible: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Choose combinations until every pair of values that a possible one holds is in a chosen one."""
    missing, chosen = set().union(*map(pairs_of, possible)), []
    while missing:
        best = max(possible, key=lambda combination: len(missing & pairs_of(combination)))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen
