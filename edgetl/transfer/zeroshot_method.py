"""``adapt --method zeroshot``: classes by what is said about them, photos only where they help.

With an image-text pair the classes' sentences are the head (`edgetl.transfer.prompts`), and a head
fitted to the training photos may be blended in (`edgetl.transfer.prior_blend`). With any other
backbone, word vectors carry what was learned from classes with photos over to those without
(`edgetl.transfer.zeroshot`). Either ships as a linear head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgetl.backbone import Backbone
from edgetl.errors import DataError
from edgetl.heads import Candidate, Selection, SoftmaxHead
from edgetl.heads.calibrate import log_loss
from edgetl.transfer.descriptions import embed_texts
from edgetl.transfer.generalised import stacking_penalty
from edgetl.transfer.method import HeadTask, Method, NetworkTask
from edgetl.transfer.prior_blend import blend_with_prior
from edgetl.transfer.prompts import (
    TEMPLATES,
    embed_classes,
    linear_head,
    read_prompts,
    sentences,
    zero_shot_head,
)
from edgetl.transfer.zeroshot import Eszsl

if TYPE_CHECKING:
    from edgetl.backbones.text_tower import TextTower


@dataclass(frozen=True)
class Zeroshot(Method):
    """Classes from words.

    Args:
        templates: Sentences with ``{}`` where a class's name goes.
        prompts: A JSON file with whole sentences for some or all classes, instead of templates;
            with `vectors`, what describes them.
        blend: Whether the training photos may have a say: a ridge head fitted to them is blended
            with the one from words, in the share that held-out photos speak for. Without it no
            photo is fitted to.
        vectors: An .npz file with ``words`` and their ``vectors``, such as GloVe's, for a backbone
            without a text tower; `unseen` is needed then.
        unseen: With `vectors`: the classes that are known by their description only. Their training
            photos, if there are any, are not looked at.

    Raises:
        ValueError: Options contradict each other, or a template has no ``{}``.
    """

    templates: tuple[str, ...] = TEMPLATES
    prompts: str | None = None
    blend: bool = False
    vectors: str | None = None
    unseen: tuple[str, ...] = ()

    name: ClassVar[str] = "zeroshot"
    paper: ClassVar[str] = (
        "Radford et al. 2021 (an image-text pair); Romera-Paredes and Torr 2015 with the stacking "
        "of Chao et al. 2016 (word vectors)"
    )

    def __post_init__(self) -> None:
        sentences(("class",), templates=self.templates)
        if (self.vectors is None) != (not self.unseen):
            raise ValueError(
                "vectors and unseen go together: word vectors carry over from classes with photos "
                "to those named as unseen"
            )
        if self.vectors is not None and self.blend:
            raise ValueError("blend goes with an image-text pair, not with vectors")

    @property
    def described(self) -> tuple[str, ...]:
        """The unseen classes, which may have photos to measure on alone."""
        return self.unseen

    def network(self, task: NetworkTask) -> Backbone:
        """The network as it is, after refusing what `fit` could not use: now, not in minutes.

        Raises:
            ValueError: It has no text tower, or words don't fit the classes.
            DataError: A file can't be read.
        """
        if self.vectors is None:
            self.texts_for(task.network, task.train.labels)
        else:
            self._described(task.train.labels)
            self._seen(task.train.labels)
        return task.network

    def texts_for(self, network: Backbone, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The sentences of each class, all of which the network's text tower can read.

        Raises:
            ValueError: It has no text tower, or can't read one of them.
            DataError: The file with the prompts can't be read.
        """
        texts = self._sentences(labels)
        text_tower(network).check([line for own in texts.values() for line in own])
        return texts

    def fit(self, task: HeadTask) -> Selection:
        """The head from words, alone or blended.

        Raises:
            ValueError: The caller wants another head, or words don't fit the classes.
        """
        if task.head != "auto":
            raise ValueError("method zeroshot makes its head from words; leave the head to it")
        if self.vectors is not None:
            return self._carried_over(task)
        head = self.from_words(task.network, task.labels, task.details)
        scores = head.scores(task.features)
        hits = np.asarray(scores.argmax(axis=1) == task.targets)
        alone = Candidate(
            kind="words",
            parameters={},
            accuracy=float(hits.mean()),
            log_loss=log_loss(scores, task.targets, np.ones(len(hits))),
            temperature=1.0,
            chosen=True,
            seconds=0.0,
        )
        if not self.blend:
            reason = (
                "from words alone: no photo was fitted to, and the training photos count as new"
            )
            return Selection(head, (alone,), reason, len(hits), hits)
        return self._blended(task, head, alone, hits)

    def from_words(
        self, network: Backbone, labels: Sequence[str], details: dict[str, Any]
    ) -> SoftmaxHead:
        """The head for these classes by the network's text tower, which needs no photo.

        Args:
            network: An image tower with its text tower.
            labels: The classes.
            details: Where to tell what it was made of.
        """
        tower, texts = text_tower(network), self.texts_for(network, labels)
        details["sentences"] = {label: list(lines) for label, lines in texts.items()}
        details["text_tower"] = tower.fingerprint
        details["scale"] = tower.scale
        return zero_shot_head(embed_classes(texts, tower.embed), scale=tower.scale)

    def _blended(
        self, task: HeadTask, head: SoftmaxHead, alone: Candidate, hits: NDArray[np.bool_]
    ) -> Selection:
        # Made by the same training as the features: neither side is the one to doubt.
        blend = blend_with_prior(head, task.features, task.targets, errors=0.0)
        if not blend.accuracies:
            reason = "from words alone: a class has one photo, so a share can't be judged"
            return Selection(head, (alone,), reason, len(hits), hits)
        task.details["share"] = blend.share
        rows = [
            Candidate(
                kind="blend",
                parameters={"share": share},
                accuracy=accuracy,
                log_loss=loss,
                temperature=temperature,
                chosen=share == blend.share,
                seconds=0.0,
            )
            for share, accuracy, loss, temperature in zip(
                blend.shares, blend.accuracies, blend.log_losses, blend.temperatures, strict=True
            )
        ]
        reason = (
            f"{100 * blend.share:g} % of the head from words, the rest from ridge on the training "
            f"photos: the lowest log loss on {len(task.targets)} held-out photos among "
            f"{len(rows)} shares"
        )
        fitted = linear_head(
            blend.head.coef_, blend.head.intercept_, temperature=blend.head.temperature_
        )
        words = Candidate(**{**vars(alone), "chosen": False})
        return Selection(fitted, (words, *rows), reason, len(task.targets), blend.hits)

    def _carried_over(self, task: HeadTask) -> Selection:
        """ESZSL from the seen classes to all, with the seen ones' advantage taken off."""
        described = {
            code: vector for code, vector in enumerate(self._described(task.labels).values())
        }
        seen = self._seen(task.labels)
        known = seen[task.targets]
        X, y = task.features[known], task.targets[known]
        kept = {code: described[code] for code in np.flatnonzero(seen).tolist()}
        fitted = Eszsl(seed=task.seed).fit(X, y, kept)
        stacking = stacking_penalty(Eszsl(seed=task.seed), X, y, kept, seed=task.seed)
        head = fitted.head(described)
        intercept = head.intercept_ - np.where(seen, stacking, 0.0)
        task.details["seen"] = [label for label, own in zip(task.labels, seen, strict=True) if own]
        task.details["training photos not looked at"] = int((~known).sum())
        row = Candidate(
            kind="eszsl",
            parameters={
                "gamma": fitted.gamma_,
                "penalty": fitted.penalty_,
                "stacking": stacking,
            },
            accuracy=fitted.accuracy_,
            log_loss=None,
            temperature=head.temperature_,
            chosen=True,
            seconds=0.0,
        )
        reason = (
            f"learned from {int(seen.sum())} classes, {len(self.unseen)} by their description: its "
            "accuracy is that on seen classes held out in turn, among themselves"
        )
        return Selection(
            linear_head(head.coef_, intercept, temperature=head.temperature_),
            (row,),
            reason,
            len(y),
        )

    def _sentences(self, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
        own = None if self.prompts is None else read_prompts(self.prompts)
        return sentences(labels, templates=self.templates, prompts=own)

    def _described(self, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """A vector for each class: of its sentences, or of the words of its name."""
        assert self.vectors is not None  # who calls has looked
        own = None if self.prompts is None else read_prompts(self.prompts)
        texts = {
            label: " ".join(lines)
            for label, lines in sentences(labels, templates=("{}",), prompts=own).items()
        }
        words, table = _word_vectors(Path(self.vectors).expanduser())
        try:
            return embed_texts(texts, words, table)
        except DataError as error:
            raise DataError(f"{error} (--prompts FILE, or prompts=...)") from error

    def _seen(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        """(classes,) which of the labels have photos to learn from."""
        strangers = [label for label in self.unseen if label not in labels]
        if strangers:
            raise ValueError(
                f"unseen classes must be among those of the data, {', '.join(strangers)} are not; "
                f"the data has {', '.join(labels)}"
            )
        seen = np.array([label not in self.unseen for label in labels])
        if seen.sum() < 4:
            raise ValueError(
                f"need at least 4 seen classes, some of which are held out in turn, got "
                f"{int(seen.sum())}"
            )
        return seen


def text_tower(network: Backbone) -> TextTower:
    """The text tower that came with a network.

    Raises:
        ValueError: It has none.
    """
    tower: TextTower | None = getattr(network, "text_tower", None)
    if tower is None:
        raise ValueError(
            f"{network.name} has no text tower: a class from words needs an image-text pair "
            "(open_clip/NAME.TAG or hf-clip/FOLDER), or word vectors and classes to learn from "
            "(--set vectors=FILE.npz --set unseen=a,b)"
        )
    return tower


def _word_vectors(path: Path) -> tuple[list[str], NDArray[np.floating]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return [str(word) for word in content["words"]], np.asarray(content["vectors"])
    except OSError as error:
        raise DataError(f"the word vectors can't be read: {error}") from error
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} must hold words and vectors: {error}") from error
