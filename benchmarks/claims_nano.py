"""What the README's table of claims shows of edgetl_nano; see `claims_shown.py`."""

from __future__ import annotations

from claims_shown import TIMES, Claim


def _probe(data: str, told: str, *bars: tuple[str, str]) -> Claim:
    """The linear probe on one data set, beside mobilenetv2_100's."""
    return Claim(
        f"`edgetl_nano` on {told}, {{n:,.0f}} test photos",
        "nano",
        (
            rf"^{data} +edgetl_nano (?P<ours>\S+) \[(?P<low>\S+), (?P<high>\S+)\] of (?P<n>\d+)  "
            r"mobilenetv2_100 (?P<peer>\S+) \[",
        ),
        "{ours:.1%} ({low:.1%} to {high:.1%})",
        "{peer:.1%}: mobilenetv2_100",
        bars,
    )


_SHARE = "{value:.1%} of it, {at} {limit:.0%}"
_UNCOPIED = "{value:.1%} of it without photos of which it saw copies, {at} {limit:.0%}"

NANO = (
    _probe("flower_photos", "flower_photos", ("flower_photos: share of mobilenetv2_100", _SHARE)),
    _probe("cifar10_small", "cifar10_small", ("cifar10_small: share of mobilenetv2_100", _SHARE)),
    _probe(
        "caltech101_20",
        "caltech101_20, of whose classes it saw other photos",
        ("caltech101_20: share of mobilenetv2_100", _SHARE),
        ("caltech101_20 without copies: share of mobilenetv2_100", _UNCOPIED),
    ),
    _probe(
        "digits",
        "scikit-learn's digits, which it never saw",
        ("digits: accuracy", "{at} {limit:.0%}"),
    ),
    _probe(
        "photo_sketch/photo",
        "photos of photo_sketch, some of which it saw",
        ("photo_sketch/photo: share of mobilenetv2_100", _SHARE),
        ("photo_sketch/photo without copies: share of mobilenetv2_100", _UNCOPIED),
    ),
    _probe(
        "photo_sketch/sketch",
        "sketches of photo_sketch, which it never saw",
        ("photo_sketch/sketch: share of mobilenetv2_100", _SHARE),
    ),
    Claim(
        "`edgetl_nano`: one photo's features",
        "nano",
        (r"^one photo's features, ms: edgetl_nano (?P<ours>\S+), mobilenetv2_100 (?P<peer>\S+)$",),
        "{ours:.2f} ms",
        "{peer:.2f} ms: mobilenetv2_100 at 224 pixels",
        (("latency: share of mobilenetv2_100 at 224", "{value:.1%} of it, {at} {limit:.0%}"),),
    ),
    Claim(
        "`edgetl_nano` in int8 on flower_photos",
        "nano",
        (r"^flower_photos +edgetl_nano (?P<plain>\S+) .*\n +int8: accuracy (?P<ours>[\d.]+), ",),
        "{ours:.1%}",
        "{plain:.1%}: float32",
        (
            ("flower_photos: points lost in int8", "{value:.2g} points lost, {at} {limit:g}"),
            ("flower_photos: int8 times as fast as fp32", TIMES),
        ),
    ),
)
"""The probes and speeds of `nano.py`."""
