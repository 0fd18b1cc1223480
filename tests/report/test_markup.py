"""Markup that holds whatever is put into it."""

import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl.report.markup import (
    engine_name,
    escape,
    join,
    megabytes,
    moment,
    name_of,
    percent,
    points,
    tag,
    value_text,
    visible,
)


@given(st.text(max_size=60))
def test_any_text_is_read_back_as_it_was(text):
    class Reader(html.parser.HTMLParser):
        def __init__(self):
            super().__init__(convert_charrefs=True)
            self.names, self.title, self.words = [], None, []

        def handle_starttag(self, name, attributes):
            self.names.append(name)
            self.title = dict(attributes)["title"]

        def handle_data(self, data):
            self.words.append(data)

    reader = Reader()
    reader.feed(tag("p", text, title=text))
    reader.close()
    assert reader.names == ["p"]
    assert "".join(reader.words) == visible(text) == reader.title
    visible(text).encode()  # whatever a file is called


def test_what_steers_is_replaced_and_what_is_written_is_kept():
    assert visible("a\u202egnp\u0007\ud800\x85b\tc\n") == "a\ufffdgnp\ufffd\ufffd b c "
    assert (
        visible("caf\u00e9 \u65e5\u672c \u05e9 \u200d 91.6\u00a0%")
        == "caf\u00e9 \u65e5\u672c \u05e9 \u200d 91.6\u00a0%"
    )


def test_elements():
    assert tag("p", "a < b", None, [tag("b", 1), "&"]) == "<p>a &lt; b<b>1</b>&amp;</p>"
    assert tag("img", src='"', hidden=True, alt=None) == '<img src="&quot;" hidden>'
    assert tag("line", x1=1 / 3, stroke_width=2.0, class_="k") == (
        '<line x1="0.33" stroke-width="2" class="k"></line>'
    )
    assert escape(tag("b", "<")) == "<b>&lt;</b>"
    assert join("<", tag("i")) == "&lt;<i></i>"


def test_names_are_cut_in_their_middle_and_told_in_full():
    assert name_of("rose") == "<bdi>rose</bdi>"
    long = "".join(chr(97 + i % 26) for i in range(80))
    cut = name_of(long, limit=20)
    assert cut == f'<bdi title="{long}">{long[:10]}\u2026{long[-9:]}</bdi>'


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (percent(0.9164), "91.6\u00a0%"),
        (points(-0.004), "\u22120.4"),
        (points(0.716), "+71.6"),
        (megabytes(17_843_320), "17.8\u00a0MB"),
        (megabytes(6300), "6.3\u00a0kB"),
        (moment("2026-11-21T22:37:12+00:00"), "2026-11-21 22:37\u00a0UTC"),
        (moment("yesterday"), "yesterday"),
        (
            engine_name("OnnxRuntime(provider='cpu', threads=0, precision=None)"),
            "ONNX Runtime (provider cpu)",
        ),
        (engine_name("OpenVino(threads=0)"), "OpenVINO"),
        (engine_name("tensorrt"), "TensorRT"),
        (engine_name("something else"), "something else"),
        (value_text([0.5, None, True, {"a": -1.5}]), "0.5, \u2014, yes, a \u22121.5"),
    ],
)
def test_figures_in_words(found, expected):
    assert found == expected
