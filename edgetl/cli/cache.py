"""``edgetl cache``: what lies in the cache, whether it is sound, and making it smaller.

It knows the cache's folders and who knows what is in each; distillation keeps features in stores
like any other, and an unfinished run beside its output, not here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.features.maintenance import Verified

_DAY = 86400.0
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Show, check or shrink the cache of features, graphs, exports and trainings."
    parser = verbs.add_parser("cache", help=text, description=text)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_verb(actions, "info", _info, "Show what lies in the cache.")
    verify = add_verb(
        actions, "verify", _verify, "Read all stores of features and check every row."
    )
    verify.add_argument(
        "--repair", action="store_true", help="drop what is damaged; it will be computed again"
    )
    prune = add_verb(
        actions,
        "prune",
        _prune,
        "Remove stores and activations that no process uses, graphs, checkpoints, and what is out "
        "of date.",
    )
    prune.add_argument(
        "--older-than",
        type=_days,
        metavar="DAYS",
        help="remove what was not used for so long",
    )
    prune.add_argument(
        "--max-size",
        type=_bytes,
        metavar="SIZE",
        help="keep the last used stores, such as 5G in all, and activations in what they leave of "
        "it; graphs and checkpoints are neither counted nor removed",
    )
    prune.add_argument(
        "--all", action="store_true", help="remove everything; graphs only if no store is in use"
    )


def _info(arguments: argparse.Namespace) -> int:
    """Print one line for each store, and one for the graphs."""
    from edgetl.features import graphs, maintenance
    from edgetl.transfer.prefix_files import activations_info

    root, graphs_root = _root(), _graphs_root()
    stores = maintenance.info(root)
    exported = graphs.graphs_info(graphs_root)
    if arguments.json:
        found = {
            "root": str(root),
            "stores": [dataclasses.asdict(store) for store in stores],
            "graphs": {"root": str(graphs_root), **dataclasses.asdict(exported)},
            "exports": dataclasses.asdict(graphs.entries_info(_exports())),
            "activations": dataclasses.asdict(activations_info(_activations())),
            "checkpoints": dataclasses.asdict(graphs.entries_info(_checkpoints())),
        }
        print(json.dumps(found))
        return 0
    print(f"{root}: {len(stores)} stores, {sum(store.size for store in stores) / 1e6:.1f} MB")
    for store in stores:
        rows = f"{store.rows:,} rows" if store.rows >= 0 else "unreadable"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(store.used))
        print(
            f"{store.key[:12]}  {rows:>16}  {store.dim:>5} {store.dtype:<7} "
            f"{store.size / 1e6:>9.1f} MB  {used}  {store.about}".rstrip()
        )
    print(f"{graphs_root}: {exported.number} exported graphs, {exported.size / 1e6:.1f} MB")
    more = graphs.entries_info(_exports())
    print(f"exports and compiled engines: {more.number}, {more.size / 1e6:.1f} MB")
    kept, unfinished = activations_info(_activations()), graphs.entries_info(_checkpoints())
    print(
        f"fine-tuning: activations of {kept.number} frozen networks, {kept.size / 1e6:.1f} MB; "
        f"checkpoints: {unfinished.number}, {unfinished.size / 1e6:.1f} MB"
    )
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    """Print what is damaged; exit code 7 if anything is and was not repaired."""
    from edgetl.errors import CorruptError
    from edgetl.features import maintenance

    found = maintenance.verify(_root(), repair=arguments.repair)
    if arguments.json:
        print(json.dumps({"stores": [{**dataclasses.asdict(s), "sound": s.sound} for s in found]}))
    else:
        for store in found:
            print(f"{store.key[:12]}  {_finding(store)}")
        print(f"{sum(s.sound for s in found)} of {len(found)} stores are sound")
    whole = all(store.sound or store.repaired for store in found)
    return 0 if whole else CorruptError.exit_code


def _prune(arguments: argparse.Namespace) -> int:
    """Print what was removed."""
    from edgetl.features import graphs, maintenance
    from edgetl.transfer.prefix_files import prune_activations

    done = maintenance.prune(
        _root(),
        older_than=arguments.older_than,
        max_size=arguments.max_size,
        everything=arguments.all,
    )
    exported = graphs.prune_graphs(
        _graphs_root(),
        older_than=arguments.older_than,
        # Graphs have no lease: who uses a store may be about to open its graph.
        everything=arguments.all and not done.busy,
    )
    more, checkpoints = (
        graphs.prune_entries(roots, older_than=arguments.older_than, everything=arguments.all)
        for roots in (_exports(), _checkpoints())
    )
    room = arguments.max_size
    if room is not None:
        room = max(0, room - sum(store.size for store in maintenance.info(_root())))
    activations = prune_activations(
        _activations(), older_than=arguments.older_than, max_size=room, everything=arguments.all
    )
    freed = done.freed + exported.size + more.size + checkpoints.size + activations.size
    if arguments.json:
        numbers = {
            "graphs": exported.number,
            "exports": more.number,
            "checkpoints": checkpoints.number,
            "activations": activations.number,
        }
        busy = [*done.busy, *activations.busy]
        print(json.dumps({**dataclasses.asdict(done), "freed": freed, "busy": busy, **numbers}))
        return 0
    print(
        f"removed {len(done.removed)} stores, {exported.number} exported graphs, {more.number} "
        f"exports and engines, activations of {activations.number} networks, "
        f"{checkpoints.number} checkpoints and the records of {done.forgotten:,} files, freed "
        f"{freed / 1e6:.1f} MB"
    )
    if done.busy:
        and_graphs = ", and the graphs" if arguments.all else ""
        print(
            f"left {len(done.busy)} stores that a process uses: {', '.join(done.busy)}{and_graphs}"
        )
    if activations.busy:
        print(f"left activations that a process uses: {', '.join(activations.busy)}")
    return 0


def _root() -> Path:
    from edgetl._paths import cache_dir

    return cache_dir() / "features"


def _exports() -> tuple[Path, Path]:
    """Exports that were saved nowhere else, and compiled engines."""
    from edgetl._paths import cache_dir

    return cache_dir() / "exports", cache_dir() / "tensorrt"


def _activations() -> Path:
    """What fine-tuning keeps of the frozen parts of networks."""
    from edgetl._paths import cache_dir

    return cache_dir() / "methods" / "activations"


def _checkpoints() -> tuple[Path]:
    """Of fine-tuning, finished or not."""
    from edgetl._paths import cache_dir

    return (cache_dir() / "methods" / "finetune",)


def _graphs_root() -> Path:
    from edgetl._paths import cache_dir

    return cache_dir() / "graphs"


def _finding(store: Verified) -> str:
    """What was found in one store, in words."""
    if store.sound:
        return f"{store.rows:,} rows, all whole"
    parts = []
    if store.damaged:
        parts.append(f"{store.damaged:,} of {store.rows:,} rows damaged")
    if store.versions:
        parts.append(f"{store.versions} versions unreadable")
    return ", ".join(parts) + ("; dropped" if store.repaired else "; --repair drops them")


def _days(text: str) -> float:
    """A number of days as seconds."""
    days = float(text)
    if not days >= 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more days, got {text}")
    return days * _DAY


def _bytes(text: str) -> int:
    """``5G``, ``500 MB``, ``1000000`` as bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 500M or 5G, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])
