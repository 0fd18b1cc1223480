"""Names of the methods that `edgetl.adapt` knows, and options as they are typed.

With the standard library alone: the command line reads it at every start.
"""

from __future__ import annotations

from collections.abc import Iterable

METHODS: dict[str, str] = {
    "head": "edgetl.transfer.method:Method",
    "few": "edgetl.transfer.few:Few",
    "zeroshot": "edgetl.transfer.zeroshot_method:Zeroshot",
    "group-balanced": "edgetl.transfer.group_balance:GroupBalanced",
    "group-dro": "edgetl.transfer.group_balance:GroupDro",
    "propagate": "edgetl.transfer.propagated_head:Propagate",
    "kliep": "edgetl.transfer.importance:Kliep",
    "ulsif": "edgetl.transfer.importance:Ulsif",
    "domain-weights": "edgetl.transfer.importance:DomainWeights",
    "tradaboost": "edgetl.transfer.importance:TradaBoost",
    "domain": "edgetl.transfer.domain_methods:Domain",
    "coral": "edgetl.transfer.domain_methods:Coral",
    "subspace": "edgetl.transfer.domain_methods:SubspaceAlignment",
    "mmd": "edgetl.transfer.domain_methods:Mmd",
    "dann": "edgetl.transfer.domain_methods:Dann",
    "shot": "edgetl.transfer.domain_methods:Shot",
    "adabn": "edgetl.transfer.domain_methods:AdaBn",
    "finetune": "edgetl.transfer.finetune:Finetune",
}
"""Name to ``module:class``."""

ABOUT: dict[str, str] = {
    "head": "a head on the frozen network, chosen by held-out photos",
    "few": "the same for some 1 to 10 photos per class",
    "zeroshot": "classes by their names: an image-text pair, or --set vectors= and unseen=",
    "group-balanced": "every class within every group counts alike; needs --groups",
    "group-dro": "the worst class of the worst group is made best; needs --groups",
    "propagate": "few labels spread to more photos of the same kind; needs --unlabelled",
    "kliep": "weights photos by how likely they are in the target; needs --unlabelled",
    "ulsif": "the same by relative least squares; needs --unlabelled",
    "domain-weights": "the same by a classifier of domains; needs --unlabelled",
    "tradaboost": "boosts on two labelled domains together; needs --source",
    "domain": "chooses among the next five and no adaptation; needs --unlabelled",
    "coral": "aligns means and covariances of two domains; needs --unlabelled",
    "subspace": "aligns principal axes of two domains; needs --unlabelled",
    "mmd": "trained against the domains' kernel discrepancy; needs --unlabelled",
    "dann": "trained against a classifier of domains; needs --unlabelled",
    "shot": "moves the target to where the classifier is sure; needs --unlabelled",
    "adabn": "gives the network the target's batch-norm statistics; needs --unlabelled",
    "finetune": "trains the network's last stages too",
}
"""What each does, in a line, and what it needs beside labelled photos."""


def options_of(texts: Iterable[str]) -> dict[str, str]:
    """``["epochs=10", ...]`` as a dict.

    Raises:
        ValueError: A text without ``=``, or a name given twice.
    """
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"expected NAME=VALUE, such as epochs=10, got {text!r}")
        if name in options:
            raise ValueError(f"option {name} is given twice")
        options[name] = value
    return options
