"""``edgetl``: reads the command line, runs one verb, turns errors into exit codes.

Results go to stdout, progress and logs to stderr. It knows the verbs and nothing of what they do.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

import edgetl
from edgetl.cli import (
    adapt,
    apply,
    bench,
    cache,
    choose,
    combine,
    demo,
    diff,
    distill,
    doctor,
    evaluate,
    explore,
    export,
    fewshot,
    inspect,
    keygen,
    learn,
    offpolicy,
    policy,
    predict,
    report,
    reward,
    rollback,
    select,
    verify,
)
from edgetl.errors import EdgetlError

_VERBS = (
    demo,
    *(select, explore, distill, adapt, fewshot, evaluate, predict, learn, rollback),
    *(export, verify, bench, policy, choose, reward, offpolicy),
    *(keygen, diff, apply, combine, inspect, report, cache, doctor),
)
_EXIT_CODES = (
    "exit codes: 0 ok, 1 error, 2 usage, 3 missing backend or device, 4 parity failed, "
    "5 accuracy gate, 6 latency or size gate, 7 stale or corrupt data, 8 signature"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="edgetl",
        description="Adapt a pretrained network with few samples, and ship it to small machines.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"edgetl {edgetl.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words after the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a label it can't show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    level = os.environ.get("EDGETL_LOG_LEVEL", "warning").upper()
    if not isinstance(logging.getLevelName(level), int):
        return _fail(f"EDGETL_LOG_LEVEL is {level!r}, not a log level", 2)
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s %(message)s")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()  # a closed pipe is noticed here, not at exit
        return code
    except EdgetlError as error:
        return _fail(str(error), error.exit_code)
    except (ValueError, TypeError) as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        # The reader went away (`| head`); keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(message: str, code: int) -> int:
    logging.getLogger("edgetl").debug("the error came from here:", exc_info=True)
    print(f"edgetl: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
