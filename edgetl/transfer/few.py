"""``adapt --method few``: the classifier for few samples that the samples speak for.

It hands the training features to `edgetl.transfer.fewshot`, whose choice ships as one of
`edgetl.heads`; how the methods work is known there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgetl.heads import Candidate, Head, Selection
from edgetl.transfer.fewshot import CANDIDATES, FewShotChoice, choose_few
from edgetl.transfer.method import HeadTask, Method


@dataclass(frozen=True)
class Few(Method):
    """A head for some 1 to 10 samples per class, held to a default unless evidence moves it.

    Unlike the plain choice of a head, candidates are judged in folds that take from every class
    alike, one is the default, and another has to be ahead by two standard errors: few held-out
    samples tell heads apart badly, and the best of several is mostly the luckiest.

    Args:
        methods: Names from `edgetl.transfer.fewshot.CANDIDATES`, the default first.

    Raises:
        ValueError: There is none, or one is unknown.
    """

    methods: tuple[str, ...] = tuple(CANDIDATES)

    name: ClassVar[str] = "few"
    paper: ClassVar[str] = (
        "Gidaris and Komodakis 2018 and Chen et al. 2019 (cosine softmax), unless samples speak "
        "for another"
    )

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in CANDIDATES]
        if unknown or not self.methods:
            raise ValueError(
                f"methods must be some of {', '.join(CANDIDATES)}, got {', '.join(self.methods)}"
            )

    def fit(self, task: HeadTask) -> Selection:
        """The choice among the candidates, or the one that ``--head`` names.

        Raises:
            ValueError: The caller wants a head that is not among the candidates.
        """
        methods = self.methods
        if isinstance(task.head, Head) or task.head not in ("auto", *CANDIDATES):
            shown = task.head if isinstance(task.head, str) else type(task.head).__name__
            raise ValueError(
                f"method few chooses among {', '.join(CANDIDATES)}, not {shown}; leave the head to "
                "it, or take the plain method"
            )
        if task.head != "auto":
            methods = (task.head,)
        choice = choose_few(task.features, task.targets, methods=methods, seed=task.seed)
        task.details["chosen"] = choice.method
        return as_selection(choice)


def as_selection(choice: FewShotChoice) -> Selection:
    """A choice among few-shot methods in the form that evidence records."""
    return Selection(
        head=choice.head,
        candidates=tuple(
            Candidate(
                kind=one.method,
                parameters=dict(one.parameters),
                accuracy=one.accuracy,
                log_loss=one.log_loss,
                temperature=one.temperature,
                chosen=one.chosen,
                seconds=one.seconds,
            )
            for one in choice.candidates
        ),
        reason=choice.reason,
        n_held_out=0 if choice.hits is None else len(choice.hits),
        hits=choice.hits,
    )
