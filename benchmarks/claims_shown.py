"""What the README's table of measured claims shows of preparing photos and of adapting to them.

Where each figure is found, and how it is put; `claims.py` makes the table of it and of
`claims_shipped.py`. A further row is a further `Claim`; no figure is typed in. Which are shown, and
beside what, was chosen by hand, some that fall short among them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A row of the table.

    Every pattern has to match at one place of the file, and ``^`` is the beginning of a line. Its
    named groups can be used in `what`, `ours` and `peer`, as in ``{seconds:.2f}``; ``%`` puts a
    number in per cent, and ``p`` a difference of two shares in points. A name may come back in
    several patterns with the same text.
    """

    what: str
    file: str  # in benchmarks/results, without .txt
    found: tuple[str, ...]
    ours: str
    peer: str = ""  # figure and name of what it is beside
    bars: tuple[tuple[str, str], ...] = ()
    """Names of bars as `measure.Bar` prints them (patterns too), and how `value`, `limit` and `at`,
    which is at least or at most, are put; whether the bar was reached is added."""
    faster: tuple[str, str, str] | None = None
    """Groups of the peer's and of our time, where no bar is about them, and the peer's name."""


TIMES = "{value:.3g} times as fast, {at} {limit:g}"
POINTS = "{value:+.1p} points, {at} {limit:.0p}"


def _of_heads(data: str, lines: int) -> str:
    """The row of softmax in `heads`, so many lines below that of its data set."""
    return (
        rf"^{data}: (?P<n>\d+) x (?P<dim>\d+), .*\n(?:.*\n){{{lines}}}  softmax: "
        r"\{'seconds': \{'edgetl': (?P<ours>[\d.]+), 'sklearn': (?P<peer>[\d.]+)\}"
        r".*'accuracy': \{'edgetl': (?P<right>[\d.]+), 'sklearn': (?P<peers_right>[\d.]+)\}"
    )


ADAPTED = (
    Claim(
        "Resize to the bit as Pillow does it: random cases that differ",
        "exactness",
        (
            r"pillow (?P<pillow>[\d.]+),",
            r"^portable +(?P<cases>\d+) cases, (?P<portable>\d+) mismatches",
            r"^avx2 +(?P<cases>\d+) cases, (?P<avx2>\d+) mismatches",
            r"^avx512 +(?P<cases>\d+) cases, (?P<avx512>\d+) mismatches",
            r"^avx512vbmi +(?P<cases>\d+) cases, (?P<vbmi>\d+) mismatches",
        ),
        "{portable:.0f}, {avx2:.0f}, {avx512:.0f}, {vbmi:.0f} of {cases:,.0f} on portable, AVX2, "
        "AVX-512, VBMI code",
        "Pillow {pillow}",
        (("mismatches on portable", "{at} {limit:g}"),),
    ),
    Claim(
        "JPEG of 500 x 375 to the network's input, one thread",
        "preprocess",
        (r"^edgetl_ms +(?P<ours>\S+)", r"^pil_torchvision_ms +(?P<peer>\S+)"),
        "{ours:.2f} ms",
        "{peer:.2f} ms: Pillow, torchvision",
        ((r"PIL \+ torchvision over ours", TIMES),),
    ),
    Claim(
        "Features of {n:,.0f} photos, mobilenetv2_100",
        "extract",
        (r"^flowers: (?P<n>\d+) photos\n  common +(?P<peer>\S+) s .*\n  full +(?P<ours>\S+) s",),
        "{ours:.1f} s",
        "{peer:.1f} s: timm, torchvision, DataLoader, torch",
        (("flowers, times as fast as the common way", TIMES),),
    ),
    Claim(
        "The same photos again, from the cache",
        "extract",
        (r"^flowers: .*\n.*\n.*\n  scaled +(?P<peer>\S+) s .*\n  second +(?P<ours>\S+) s",),
        "{ours:.3f} s",
        "{peer:.1f} s: edgetl's own first pass",
        (("second pass over the flowers", TIMES),),
    ),
    Claim(
        "Softmax head with its strength cross-validated, {n:,.0f} x {dim:,.0f} features; accuracy",
        "heads",
        (_of_heads("flower_photos", 1),),
        "{ours:.2f} s, {right:.1%}",
        "{peer:.2f} s, {peers_right:.1%}: scikit-learn's LogisticRegressionCV",
        (("flower_photos, softmax: times as fast as LogisticRegressionCV", TIMES),),
    ),
    Claim(
        "The same, {n:,.0f} x {dim:,.0f} synthetic features",
        "heads",
        (_of_heads("synthetic 50000 x 1280", 3),),
        "{ours:.0f} s, {right:.2%}",
        "{peer:,.0f} s, {peers_right:.2%}: the same",
        (
            ("synthetic 50000 x 1280, softmax: times as fast as LogisticRegressionCV", TIMES),
            (
                "synthetic 50000 x 1280, softmax: accuracy minus the peer's",
                "{value:+.2p} points, {at} 0",
            ),
        ),
    ),
    Claim(
        "Accuracy on flower_photos with mobilenetv2_100, {n} test photos",
        "accuracy",
        (
            r"^backbone mobilenetv2_100  data flower_photos .* accuracy (?P<ours>\S+)  interval "
            r"\[(?P<low>\S+), (?P<high>\S+)\] .* peer_accuracy (?P<peer>\S+) .* n_test (?P<n>\d+)",
        ),
        "{ours:.1%} ({low:.1%} to {high:.1%})",
        "{peer:.1%}: torch's features and LogisticRegressionCV",
        (
            (
                "mobilenetv2_100 on flower_photos: pp below LogisticRegressionCV",
                "{value:g} points behind, {at} {limit:g}",
            ),
        ),
    ),
    Claim(
        "`select`: six backbones in the order of their test accuracy (weighted tau)",
        "transfer_select",
        (
            r"^mean of the first three +(?P<logme>\S+) +\S+ +\S+ +\S+ +(?P<ours>\S+)",
            r"^weighted Kendall(?:.*\n)*?photo_sketch/sketch +(?:\S+ +){4}(?P<sketch>\S+)",
        ),
        "{ours} on three sets, {sketch} on sketches (cross-validation, which decides)",
        "{logme} on three sets: LogME",
        (("LogME: mean weighted tau over three sets", "LogME {at} {limit:g}"),),
    ),
    Claim(
        "`fewshot`: five labels per class of flower_photos",
        "transfer_fewshot",
        (r"^flower_photos, 5 shots, .*: chosen (?P<ours>\S+) minus sklearn (?P<peer>\S+):",),
        "{ours:.1%}",
        "{peer:.1%}: scikit-learn's LogisticRegression",
        ((r"flower_photos, 5 shots, .*: chosen \S+ minus sklearn \S+", POINTS),),
    ),
    Claim(
        "`explore`: which ten photos of flower_photos to label first",
        "transfer_explore",
        (
            r"^flower_photos: accuracy after 10, .*\n  random +(?P<peer>\S+)",
            r"^flower_photos: accuracy after 10, .*\n(?:  .*\n)*?  auto +(?P<ours>\S+)",
        ),
        "{ours} %",
        "{peer} %: a random draw",
        (
            (
                "flower_photos: gain over a random draw .*, lower end of its interval",
                "10 to 80 labels: " + POINTS + " at the lower end",
            ),
        ),
    ),
    Claim(
        "`finetune` of mobilenetv2_100's last three stages on cifar10_small",
        "transfer_prefix",
        (r"^tuned, 96 px: (?P<ours>\S+) ", r"^frozen, 224 px: (?P<peer>\S+)$"),
        "{ours:.1%}",
        "{peer:.1%}: the frozen network",
        (
            (
                "cifar10_small test accuracy, tuned .* minus frozen .*, points",
                "{value:+g} points, {at} {limit:g}",
            ),
            ("epoch of the last stage, plain / cached", "an epoch " + TIMES),
        ),
    ),
    Claim(
        "`distill` into tf_mobilenetv3_small_100 at 128 pixels, flower_photos",
        "transfer_distill",
        (
            r"^mobilenetv2_100 at 224, the teacher +(?P<peer>\S+)",
            r"^tf_mobilenetv3_small_100 at 128, before +(?P<before>\S+)",
            r"^tf_mobilenetv3_small_100 at 128, distilled +(?P<ours>\S+)",
        ),
        "{ours:.1%} ({before:.1%} before)",
        "{peer:.1%}: its teacher, mobilenetv2_100 at 224",
        (
            ("share of the teacher's accuracy kept", "{value:.1%} kept, {at} {limit:.0%}"),
            ("speed, as a multiple of the teacher's", TIMES),
        ),
    ),
    Claim(
        "`--method domain`: from photos to sketches without their labels",
        "transfer_shift",
        (
            r"^photo to sketch, .*\n(?:  .*\n)*? +none +\S+ +(?P<peer>\S+)",
            r"^photo to sketch, .*\n(?:  .*\n)*?  chosen without labels +\S+ +(?P<ours>\S+)",
        ),
        "{ours} %",
        "{peer} %: no adaptation",
        (("photo to sketch, median gain of the chosen adapter .*", POINTS),),
    ),
    Claim(
        "The same where it does harm: grey photos of two classes of the five",
        "transfer_shift_corrupted",
        (
            r"^flowers to grey flowers, two .*\n(?: .*\n)*? +none +\S+ +(?P<peer>\S+)",
            r"^flowers to grey flowers, two .*\n(?: .*\n)*?  chosen without labels +\S+ +"
            r"(?P<ours>\S+)",
        ),
        "{ours} %",
        "{peer} %: no adaptation",
    ),
    Claim(
        "`--mitigate balanced`: gain of the worst group, {before} % before",
        "transfer_groups",
        (
            r"^group-balanced \(softmax\): the worst group before \('religion', (?P<before>\S+) %\)"
            r" changed by (?P<ours>\S+) points \((?P<low>\S+) to (?P<high>\S+)\).*"
            r"over all samples (?P<all>\S+) points",
        ),
        "{ours:+.1f} points ({low:+.1f} to {high:+.1f}), all groups {all:+.1f}",
        "the plain head",
        (
            (
                "group-balanced: lower end of the gain of the worst kind, religion",
                POINTS + " at the lower end",
            ),
        ),
    ),
)
