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
