"""What the tests of reports share: words that try to break a page, records, a reader of pages."""

import html.parser

import edgetl
from edgetl.bundle import ExportRecord, GateRecord

HOSTILE = (
    "<script>window.hacked = 1<",
    '"><img src=x onerror="window.hacked = 1">',
    "&lt;b&gt; \u202egnp.exe",
    "a very long label, " * 10 + "end",
)
"""Labels, and so names of folders: markup, quotes, an override of direction, and length."""

VOID = {"br", "img", "meta"}


class Reader(html.parser.HTMLParser):
    """Reads a page, and holds that its elements are closed in the order of their opening."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes), f"an attribute twice: {name} {attributes}"
        self.elements.append((name, found))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open and self.open.pop() == name, f"</{name}> closes another element"

    def handle_data(self, text):
        if not self.open or self.open[-1] != "style":
            self.words.append(text)

    @property
    def text(self):
        """All that is read, with plain spaces."""
        return " ".join("".join(self.words).replace("\xa0", " ").split())

    def all(self, name):
        """The attributes of every element of a name."""
        return [attributes for found, attributes in self.elements if found == name]

    def ids(self):
        """Every id there is."""
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def read(path):
    """A written page."""
    return Reader(path.read_text(encoding="utf-8"))


def export_record():
    gates = [
        GateRecord(
            name="parity: top-1", passed=True, measured="48 of 48", limit="90 %", exit_code=4
        ),
        GateRecord(
            name="speed",
            passed=True,
            measured="1.25 ms a photo (p90 2.00), 3.10 times as fast as float32 (3.00 to 3.20)",
            limit="1 times",
            exit_code=6,
        ),
        GateRecord(name="size", passed=None, measured="<i>", limit="&", exit_code=6),
    ]
    rows = [{"configuration": HOSTILE[1], "ms": 1.5, "accuracy": 0.5, "verdict": None}] * 3
    return ExportRecord(
        engine="onnxruntime",
        precision="int8",
        fused=False,
        limits=edgetl.Limits(least_cosine=0.9, mean_cosine=0.98, agreement=0.9, max_drop=0.5),
        gates=tuple(gates),
        source=HOSTILE[0],
        source_digest="0" * 64,
        float_bytes=1000,
        accuracy={"float32": 0.5, "shipped": 0.5},
        search={"reason": HOSTILE[0], "candidates": rows},
        machine={"processor": HOSTILE[1]},
    )


def group(name, accuracy, *, found=False):
    gap = accuracy - 0.8
    return {
        "group": name,
        "n": 40,
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": min(1.0, accuracy + 0.1),
        "macro_f1": accuracy,
        "gap": gap,
        "gap_low": gap - 0.1,
        "gap_high": gap + 0.1,
        "p_value": 0.0004 if found else 0.4,
        "found": found,
    }


def change(name, before, after):
    gain = after - before
    return {
        "group": name,
        "n": 40,
        "before": before,
        "after": after,
        "gain": gain,
        "gain_low": gain - 0.05,
        "gain_high": gain + 0.05,
        "p_value": 0.02,
    }


def extra():
    """What further parts may leave in evidence."""
    rate = {"group": HOSTILE[0], "rate": "tpr", "n": 30, "value": 0.9, "low": 0.8, "high": 1.0}
    rate |= {"gap": 0.1, "gap_low": -0.1, "gap_high": 0.3, "found": False}
    comparison = {"name": HOSTILE[1], "role": "beat", "gained": 20, "lost": 2}
    return {
        "verdict": {
            "verdict": "helps",
            "sentence": "it helps: better than <b>all</b>",
            "comparisons": [{**comparison, "p_value": 1e-5, "p_adjusted": 0.002}],
        },
        "groups": {
            "sentence": "1 less accurate than the others",
            "accuracy": 0.8,
            "groups": [group(HOSTILE[0], 0.55, found=True), group("studio", 0.9)],
            "too_small": [[HOSTILE[1], 3]],
            "widest": ["studio", HOSTILE[0], 0.35, 0.1, 0.5],
            "odds": {"positive": HOSTILE[2], "rates": [rate], "spread": 0.25},
            "alpha": 0.05,
            "confidence": 0.95,
            "change": {
                "sentence": "the worst group before changed by +12.5 points",
                "overall": change("", 0.80, 0.79),
                "groups": [change(HOSTILE[0], 0.425, 0.55)],
            },
            "mitigation": {"method": HOSTILE[0]},
        },
        "method": {
            "name": HOSTILE[0],
            "paper": "Nobody 1900",
            "options": {f"option_{i}": i for i in range(8)},
            "details": {
                "history": [
                    {"epoch": 1, "loss": 0.5, "held_out": [0.25, None], "note": HOSTILE[1]},
                    {"epoch": 2, "loss": 0.25},
                ],
                "ragged": [{"deep": {"deeper": [1]}}, 3],
            },
        },
        HOSTILE[1]: {"deep": [{"deeper": {"deepest": {"end": [HOSTILE[0]]}}}]},
    }


def select_report():
    """What `edgetl select --json` prints, in short, with a name that is hostile."""
    rows = [
        ("tiny", 0.80, 1.0, True, "1.0 points behind"),
        (HOSTILE[1], 0.90, 8.0, True, "recommended"),
        ("slow", 0.85, 30.0, False, "over the budget"),
    ]
    return {
        "n_train": 48,
        "recommended": HOSTILE[1],
        "reasons": [f"{HOSTILE[1]}: accuracy 90 %"],
        "max_ms": 20.0,
        "engine": "OnnxRuntime(provider='cpu', threads=0, precision=None)",
        "machine": {"processor": "a processor", "cores": 2},
        "candidates": [
            {
                "name": name,
                "backbone": name,
                "accuracy": accuracy,
                "accuracy_low": accuracy - 0.05,
                "accuracy_high": accuracy + 0.05,
                "milliseconds": ms,
                "milliseconds_p10": ms * 0.8,
                "milliseconds_p90": ms * 1.4,
                "megabytes": 2.5,
                "head": "ridge",
                "logme": -0.25,
                "dim": 3,
                "pareto": pareto,
                "verdict": verdict,
            }
            for name, accuracy, ms, pareto, verdict in rows
        ],
    }
