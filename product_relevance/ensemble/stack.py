"""A stack: several runs joined by a logistic regression over the logits of their scores."""

import gc
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.pairs import read_pairs
from product_relevance.evaluation import decision as nested
from product_relevance.evaluation import thresholds
from product_relevance.evaluation.blending import blend_scores, fit_blend
from product_relevance.evaluation.decision_rule import DecisionRule, check_decision
from product_relevance.evaluation.markdown_tables import metrics_table
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.utils import run_folder as run
from product_relevance.utils.tasks import select_task

NAME, KIND = "stack.json", "relevance-stack"
ALIKE = ("num_folds", "group_by", "prefix_levels", "fold_seed", "held_out_languages")
COLUMNS = {
    "scores": "scores", "fitted on": "fitted on", "auc": "AUC", "f1": "F1", "macro_f1": "macro-F1", "ece": "ECE",
    "log_loss": "log loss",
}  # fmt: skip


def stack_runs(
    folders: Sequence[str],
    output: str,
    by: str = "global",
    shrinkage: float = 1000,
    overwrite: bool = False,
    unlabelled: Sequence[dict[str, Any]] | None = None,
    match: str = "folds",
) -> str:
    """Fit a stack on the out-of-fold scores of finished runs and write its folder.

    Args:
        folders: Of the runs: one task, one data set, one division into folds. Rows that not every run has scored, as
            of a fold that one of them lacks, are left out.
        output: Folder to make; it names the runs by their relative path and holds no weights.
        by: Of the thresholds: global, or language.
        shrinkage: See `thresholds.fit_decision`.
        overwrite: Replace a stack that is there.
        unlabelled: From `prediction.score_unlabelled` for each run, on the same records; with it the thresholds
            move to where the stack of the means lies.
        match: What its scores there are matched to: `folds`, the stacks of single folds, or `training`, the stack's
            out-of-fold scores; see `thresholds.fit_spread`.

    Returns:
        A table for the terminal: each run, the mean of their probabilities, the stack.

    Raises:
        ValueError: Runs that do not go together, or an output that is there.
    """
    thresholds.check_match(match, unlabelled)
    home = Path(output)
    if (home / NAME).exists() and not overwrite:
        raise ValueError(f"{output} holds a stack already; add --overwrite to replace it")
    runs = [select_task(run.load_run(folder), None) for folder in folders]
    oof, names = join_scores(folders, runs), [f"member-{i}" for i in range(len(folders))]
    labels = oof["label"].to_numpy(int)
    coefficients, intercept = fit_blend(oof[names].to_numpy(), labels)
    scores = blend_scores(oof[names].to_numpy(), coefficients, intercept)
    source = f"{len(oof)} out-of-fold rows of {len(runs)} runs"
    figures = _compare(oof, {name: Path(f).name for name, f in zip(names, folders, strict=True)}, by, shrinkage)
    decision = thresholds.fit_decision(
        labels, scores, oof["given_language"].tolist(), DecisionOptions("none", by, shrinkage)
    )
    decision |= {"spread": None, "from": source, "figures": figures}
    if unlabelled is not None:
        decision = thresholds.move_thresholds(
            decision, blend_unlabelled(unlabelled, coefficients, intercept), scores, match
        )
    content = {"format": run.FORMAT, "kind": KIND, "task": runs[0]["task"], "data": runs[0]["data"]}
    content |= {"members": _members(home, folders, runs, coefficients), "intercept": intercept}
    content |= {"thresholds": decision["thresholds"], "thresholds_from": source, "decision": decision}
    home.mkdir(parents=True, exist_ok=True)
    run.write_json(home / NAME, content | {"finished": run.current_time(), "versions": run.package_versions()})
    weights = [{"member": m["path"], "coefficient": m["coefficient"]} for m in content["members"]]
    return f"{metrics_table(figures, COLUMNS)}\n\n{metrics_table(weights, ['member', 'coefficient'])}\n\n{source}"


def blend_unlabelled(
    unlabelled: Sequence[dict[str, Any]], coefficients: np.ndarray, intercept: float
) -> dict[str, Any]:
    """Return the stack's scores of unlabelled records, those of its single folds, and the records' source.

    Args:
        unlabelled: Of each run, scores (the mean of its folds) of shape (n,), folds of shape (n, folds), source.
        coefficients: Shape (members,).
        intercept: Of the stack.

    Raises:
        ValueError: Runs with unlike numbers of folds.
    """
    counts = {each["folds"].shape[1] for each in unlabelled}
    if len(counts) > 1:
        raise ValueError(f"unlabelled records: the runs have {sorted(counts)} folds, expected as many in each")
    means = np.column_stack([each["scores"] for each in unlabelled])
    singles = zip(*(each["folds"].T for each in unlabelled), strict=True)
    folds = [blend_scores(np.column_stack(fold), coefficients, intercept) for fold in singles]
    found = {"scores": blend_scores(means, coefficients, intercept), "folds": np.column_stack(folds)}
    return found | {"source": unlabelled[0]["source"]}


def join_scores(folders: Sequence[str], runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Join the out-of-fold scores of runs by id.

    Returns:
        id, given_language, label, fold, and member-0, member-1, ... (probabilities).

    Raises:
        ValueError: Runs of unlike task, data or folds, or without scores in common.
    """
    table = None
    for i, (folder, content) in enumerate(zip(folders, runs, strict=True)):
        for what, found, first in _shared(content, runs[0]):
            if found != first:
                raise ValueError(f"{folder}: {what} {found}, but {folders[0]} has {first}; a stack needs them alike")
        oof = run.read_oof(folder, [fold["name"] for fold in content["folds"]])
        if oof is None:
            raise ValueError(f"{folder}: no out-of-fold scores; a stack is fitted on them: train folds")
        keys = ["id", "label", "given_language"]
        own = oof[[*keys, "fold", "score"]].rename(columns={"fold": "own_fold", "score": f"member-{i}"})
        if table is None:
            table = own.rename(columns={"own_fold": "fold"})
            continue
        table = table.merge(own, on=keys, validate="one_to_one")
        if others := int((table["fold"] != table["own_fold"]).sum()):
            raise ValueError(
                f"{folder}: {others} of {len(table)} rows lie in other folds than in {folders[0]}; a stack needs runs "
                "of the same folds: a task taken out of a run of both goes with others of that run only"
            )
        table = table.drop(columns="own_fold")
    if table.empty:
        raise ValueError(f"{', '.join(map(str, folders))}: no row that all have scored")
    return table


def _shared(content: dict[str, Any], first: dict[str, Any]):
    yield "task", content["task"], first["task"]
    yield "data sha256", content["data"]["sha256"], first["data"]["sha256"]
    for key in ALIKE:
        yield key, content["folds_by"][key], first["folds_by"][key]


def _members(home: Path, folders, runs, coefficients: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "path": Path(os.path.relpath(folder, home)).as_posix(),
            "finished": content["finished"],
            "thresholds": content["thresholds"],
            "coefficient": float(coefficient),
        }
        for folder, content, coefficient in zip(folders, runs, coefficients, strict=True)
    ]


def _compare(oof: pd.DataFrame, titles: dict[str, str], by: str, shrinkage: float) -> list[dict[str, Any]]:
    names, (fit_rule, use_rule) = list(titles), nested.make_decider(DecisionOptions("none", by, shrinkage))

    def fit(rows: pd.DataFrame):
        fitted = fit_blend(rows[names].to_numpy(), rows["label"].to_numpy(int))
        return fitted, fit_rule(rows.assign(score=blend_scores(rows[names].to_numpy(), *fitted)))

    def use(model, rows: pd.DataFrame):
        fitted, decision = model
        return use_rule(decision, rows.assign(score=blend_scores(rows[names].to_numpy(), *fitted)))

    singles = [(title, oof[name]) for name, title in titles.items()] + [("mean", oof[names].mean(axis=1))]
    alone = [nested.measure_decision(oof.assign(score=s), fit_rule, use_rule, scores=title) for title, s in singles]
    return [row for pair in [*alone, nested.measure_decision(oof, fit, use, scores="stack")] for row in pair]


def is_stack(name: str) -> bool:
    """Return whether this is the folder of a stack."""
    return (Path(name) / NAME).is_file()


class RelevanceStack:
    """Scores records with every run of a stack, one base in memory after the other."""

    def __init__(self, folder: str, run: dict[str, Any], options: dict[str, Any]):
        self.folder, self.run, self.options = Path(folder), run, options
        self.rule = DecisionRule.from_run(run)
        self.folds = {f"member-{i}": self.folder / m["path"] for i, m in enumerate(run["members"])}
        self.run_folders = list(self.folds.values())
        self.dtype = options.get("dtype", "auto")

    @classmethod
    def from_pretrained(cls, folder: str, **options) -> "RelevanceStack":
        """Read a stack; its runs are loaded when it scores.

        Args:
            folder: made by `relevance stack`.
            **options: merge, device, dtype, max_disagreement, for `RelevanceEnsemble.from_pretrained` of each run.

        Raises:
            ValueError: no stack there, or a run that has changed since it was stacked.
        """
        content = run.read_json(Path(folder) / NAME)
        if content.get("format") != run.FORMAT or content.get("kind") != KIND:
            found = content.get("kind"), content.get("format")
            raise ValueError(f"{folder}/{NAME}: found {found}, this version reads {(KIND, run.FORMAT)}")
        if missing := [
            key for key in ("task", "members", "intercept", "thresholds", "decision") if key not in content
        ]:
            raise ValueError(f"{folder}/{NAME}: no {missing[0]}; it was changed, or not written whole: stack anew")
        check_decision(content["decision"])
        stack = cls(folder, content, options)
        for path, member in zip(stack.folds.values(), content["members"], strict=True):
            if (found := run.load_run(path)["finished"]) != member["finished"]:
                raise ValueError(
                    f"{path}: finished {found}, but it was stacked as of {member['finished']}: stack the runs again"
                )
        return stack

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds by kind, as of a RelevanceEnsemble."""
        return self.rule.thresholds

    @property
    def threshold(self) -> float:
        """The threshold with the best positive F1 on the stack's out-of-fold scores."""
        return self.thresholds["f1"]

    def checked_vote(self, vote: str | None) -> str:
        """Return `mean`, the one way to combine the folds of each run; ValueError for a vote."""
        if (vote or "mean") != "mean":
            raise ValueError("a stack has coefficients instead of votes: leave --vote out")
        return "mean"

    def predict(
        self,
        pairs: Iterable,
        languages: Iterable[str] | None = None,
        translations: Iterable[str] | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """Return the probability of each pair, shape (n,); arguments and errors as in `RelevanceEnsemble.predict`."""
        given = read_pairs(pairs, languages, translations, self.run["task"])
        both = list(zip(given.queries, given.targets, strict=True))
        extra = given.languages, given.translations
        return self.combine(self._of_members(lambda member: member.predict(both, *extra, progress=progress)))

    def score_folds(self, frame: pd.DataFrame, translation: str | None = None, progress: bool = False) -> np.ndarray:
        """Return the mean probabilities of each run for records, shape (n, members)."""
        return self._of_members(lambda member: member.combine(member.score_folds(frame, translation, progress)))

    def _of_members(self, score: Callable) -> np.ndarray:
        import torch

        from product_relevance.ensemble.ensemble import RelevanceEnsemble

        columns = []
        for path in self.folds.values():
            member = RelevanceEnsemble.from_pretrained(path, **self.options)
            columns.append(score(member))
            del member
            gc.collect()  # a model is full of cycles; the next base needs its memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return np.stack(columns, axis=1)

    def combine(self, scores: np.ndarray, vote: str = "mean") -> np.ndarray:
        """Return the stack's probabilities, shape (n,), of its members', shape (n, members)."""
        return blend_scores(scores, [member["coefficient"] for member in self.run["members"]], self.run["intercept"])

    def fold_thresholds(self, kind: str) -> np.ndarray:
        """Return the threshold of each run alone, shape (members,)."""
        return np.array([m["thresholds"].get(kind, self.thresholds[kind]) for m in self.run["members"]])

    def decide(self, scores: np.ndarray, languages: Sequence[str] | None = None, kind: str = "f1") -> np.ndarray:
        """Call pairs relevant (1) or not (0), as `RelevanceEnsemble.decide`."""
        return self.rule.decide(scores, languages, kind)
