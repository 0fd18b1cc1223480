"""What the README's table of claims shows of exports and of devices; see `claims_shown.py`."""

from __future__ import annotations

from claims_shown import TIMES, Claim


def _of_export(network: str, contestant: str, name: str) -> str:
    """Time and accuracy of one contestant in `export`."""
    return (
        rf"^{network} \(.*\)\n(?:  .*\n)*?  {contestant} +(?P<{name}>\S+) ms "
        rf".*  accuracy (?P<{name}_right>\S+) "
    )


SHIPPED = (
    Claim(
        'Device install, `pip install "edgetl[ort]"`; edgetl\'s own part',
        "install",
        (r"^all of it +(?P<all>\S+) MB", r"^edgetl +(?P<ours>\S+) MB"),
        "{all:.0f} MB, {ours:.1f} MB",
        "",
        (
            ("the device install, MB", "{at} {limit:g} MB"),
            ("edgetl with its weights, MB", "{at} {limit:g} MB"),
        ),
    ),
    Claim(
        "int8 of mobilenetv2_100, one photo; accuracy on flower_photos",
        "export",
        (
            _of_export("mobilenetv2_100", "edgetl int8", "ours"),
            _of_export("mobilenetv2_100", "onnxruntime fp32", "plain"),
            _of_export("mobilenetv2_100", "openvino nncf int8", "nncf"),
        ),
        "{ours:.2f} ms, {ours_right:.1%}",
        "{plain:.2f} ms, {plain_right:.1%}: float32; {nncf:.2f} ms, {nncf_right:.1%}: NNCF in "
        "OpenVINO",
        (
            ("mobilenetv2_100: int8 speed over fp32", TIMES),
            (
                "mobilenetv2_100: pp of accuracy below fp32",
                "{value:g} points below float32, {at} {limit:g}",
            ),
        ),
    ),
    Claim(
        "int8 of squeezenet1_1",
        "export",
        (
            _of_export("squeezenet1_1", "edgetl int8", "ours"),
            _of_export("squeezenet1_1", "onnxruntime fp32", "plain"),
            _of_export("squeezenet1_1", "openvino nncf int8", "nncf"),
        ),
        "{ours:.2f} ms, {ours_right:.1%}",
        "{plain:.2f} ms, {plain_right:.1%}: float32; {nncf:.2f} ms, {nncf_right:.1%}: NNCF in "
        "OpenVINO",
        (
            (
                "squeezenet1_1: pp of accuracy below fp32",
                "{value:g} points below float32, {at} {limit:g}",
            ),
        ),
        faster=("nncf", "ours", "NNCF"),
    ),
    Claim(
        "Peak memory of calibrating int8",
        "calibration_memory",
        (
            r"^edgetl +(?P<n>\d+) photos, .* peak +(?P<ours>\d+) MB",
            r"^onnxruntime Entropy +(?P<few>\d+) photos, .* peak +(?P<peer>\d+) MB",
        ),
        "{ours:,.0f} MB after {n:,.0f} photos",
        "{peer:,.0f} MB after {few:.0f}: onnxruntime's entropy calibration",
        (("MB for each further photo", "{value:.2g} MB for a further photo, {at} {limit:g}"),),
    ),
    Claim(
        "Device: from starting the process to the first answer; resident memory",
        "predict",
        (r"^cold_start_s +(?P<ours>\S+)", r"^resident_mb +(?P<memory>\S+)"),
        "{ours:.2f} s, {memory:.0f} MB",
        "",
        (
            ("process start to first prediction, seconds", "{at} {limit:g} s"),
            ("resident memory, MB", "{at} {limit:g} MB"),
        ),
    ),
    Claim(
        "Device: one photo, from JPEG to answer",
        "predict",
        (r"^predict_ms +(?P<ours>\S+)", r"^decode_and_bare_session_ms +(?P<peer>\S+)"),
        "{ours:.2f} ms",
        "{peer:.2f} ms: decoding and bare onnxruntime, nothing prepared",
        (
            (
                "overhead of a call over bare session plus decode",
                "{value:.1%} more, {at} {limit:.0%}",
            ),
        ),
    ),
    Claim(
        "Device: learning one sample, softmax head; the head alone",
        "device",
        (
            r"^softmax: one sample by the device, ms: (?P<ours>\S+)",
            r"^softmax: one sample by the head, ms: (?P<head>\S+)",
        ),
        "{ours:.2f} ms, {head:.2f} ms",
        "scikit-learn's refit, beside the head alone",
        (
            ("softmax: one sample by the device, ms", "{at} {limit:g} ms"),
            ("softmax: times as fast as scikit-learn's refit", TIMES),
        ),
    ),
    Claim(
        "Device: the same, ridge head",
        "device",
        (
            r"^ridge: one sample by the device, ms: (?P<ours>\S+)",
            r"^ridge: one sample by the head, ms: (?P<head>\S+)",
        ),
        "{ours:.2f} ms, {head:.2f} ms",
        "scikit-learn's refit, beside the head alone",
        (
            ("ridge: one sample by the device, ms", "{at} {limit:g} ms"),
            ("ridge: times as fast as scikit-learn's refit", TIMES),
        ),
    ),
    Claim(
        "Signed update that teaches a head one more class",
        "head_updates",
        (r"^head softmax  bytes (?P<ours>\d+)  head_file_bytes (?P<peer>\d+)  ",),
        "{ours:,.0f} bytes",
        "{peer:,.0f} bytes: the head's own file",
        (
            ("softmax: bytes", "{at} {limit:,.0f} bytes"),
            (
                "softmax: change of a probability, unseen",
                "a probability changes by {value:.2g}, {at} {limit:g}",
            ),
        ),
    ),
    Claim(
        "Telling unknown photos, mean AUROC over six heads",
        "novelty",
        (
            r"^nearest, as shipped .* (?P<ours>[\d.]+)/[\d.]+$",
            r"^sklearn LOF .* (?P<peer>[\d.]+)/[\d.]+$",
            r"^Mahalanobis, norm 1 .* (?P<best>[\d.]+)/[\d.]+$",
        ),
        "{ours:.3f}",
        "{best:.3f}: Mahalanobis distance; {peer:.3f}: scikit-learn's LocalOutlierFactor",
        (
            ("AUROC behind the best other score", "{value:.2g} behind the best, {at} {limit:g}"),
            ("microseconds to score", "{value:.3g} µs, {at} {limit:g}"),
        ),
    ),
)
