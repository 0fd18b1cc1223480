"""The README's picture: the top of the demo's report, as a headless browser shows it.

    python benchmarks/picture.py                         # runs `edgetl demo` first
    python benchmarks/picture.py edgetl-demo/report.html # of a demo that was run before

What is seen was drawn or measured by edgetl: the demo's parts are drawings, and figures of them say
nothing about photos. Needs Chromium (`.ci/browser` brings one) and, for a run, the extra ``demo``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "report"))
from browser import Browser, Page, find_browser  # noqa: E402

LIMIT = 200_000
"""Bytes: a README is read on slow lines too."""
SHOWN = ("header", "#evidence", "#classes")
"""What is left of the page; the navigation and all further sections are not in the picture."""
ALONE = """(async () => {
    const shown = %s.map(name => document.querySelector(name))
    for (const item of document.querySelectorAll('body *'))
        if (!shown.some(part => part.contains(item) || item.contains(part)))
            item.style.display = 'none'
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
    return Math.ceil(Math.max(...shown.map(part => part.getBoundingClientRect().bottom)))
})()"""
TALLEST = 6000
"""Pixels of the window: all of it is on the screen, without a bar to scroll it."""


def photograph(page: Path, *, width: int) -> Image.Image:
    """The shown parts of a report, `width` pixels wide.

    Raises:
        FileNotFoundError: There is no browser.
    """
    executable = find_browser()
    if executable is None:
        raise FileNotFoundError("no Chromium here: apt-get install chromium-headless-shell")
    with (
        tempfile.TemporaryDirectory() as scratch,
        Browser(executable) as browser,
        Page(browser, page.resolve().as_uri(), width=width, height=TALLEST) as tab,
    ):
        height = tab.evaluate(ALONE % list(SHOWN))
        shot = Path(scratch, "page.png")
        tab.screenshot(shot, whole=False)
        with Image.open(shot) as image:
            return image.convert("RGB").crop((0, 0, width, min(height + 16, image.height)))


def compressed(image: Image.Image) -> bytes:
    """A PNG file with as many of up to 256 colours as keep it small.

    Raises:
        ValueError: It is too large with 32 colours too.
    """
    for colours in (256, 128, 64, 32):
        content = io.BytesIO()
        image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            content, "PNG", optimize=True
        )
        if content.tell() <= LIMIT:
            return content.getvalue()
    raise ValueError(f"the picture takes {content.tell():,} bytes, and may take {LIMIT:,}")


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("report", type=Path, nargs="?", help="a page of `edgetl demo`")
    command.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "report.png")
    command.add_argument("--width", type=int, default=860)
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = arguments.report
        if report is None:
            from edgetl.demo.job import run_demo

            report = run_demo(Path(scratch) / "edgetl-demo").page
        content = compressed(photograph(report, width=arguments.width))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(content)
    print(f"{arguments.output}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
