"""What the README shows of `edgetl demo`: lines that it printed, and the top of its report.

    python benchmarks/demo_shown.py              # runs the demo first
    python benchmarks/demo_shown.py demo.json    # what `edgetl demo --json` printed here before

The lines go into README.md between two marks, the picture to docs/images. What is seen was drawn or
measured by edgetl: the demo's parts are drawings, and figures of them say nothing about photos.
Needs Chromium (`.ci/browser` brings one) and, for a run, the extra ``demo``.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import machine
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "report"))
from browser import Browser, Page, find_browser  # noqa: E402

BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"
LINES = {
    "photos": ("drawings", "to adapt to"),
    "adapt": ("accuracy", "beside"),
    "export in int8": ("refused", "accuracy", "speed", "size"),
    "predict": ("(right)", "(WRONG", "a photo"),
    "learn a class on the device": ("before:", "learned", "after:", "classes known"),
    "ship what it learned": ("signed", "second device", "one bit"),
    "report": ("loads nothing",),
}
"""Of each step the lines that have one of these words; commands are left to the demo itself."""
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


def excerpt(demo: dict[str, Any]) -> str:
    """Lines of a demo as its command prints them, for Markdown.

    Raises:
        LookupError: A step has none of its lines.
    """
    rows = []
    for number, step in enumerate(demo["steps"], 1):
        kept = [x for x in step["lines"] if any(word in x for word in LINES[step["name"]])]
        if not kept:
            raise LookupError(f"the step {step['name']} says nothing of {LINES[step['name']]}")
        head = f"{number}/{len(demo['steps'])} {step['name']}"
        rows += [f"{head:<60}{step['seconds']:6.1f} s", *(f"    {line}" for line in kept)]
    where = machine("numpy", "onnxruntime")
    return "\n".join(["```text", *rows, f"done in {demo['seconds']:.1f} s", "```", f"({where})"])


def run(folder: Path) -> dict[str, Any]:
    """Run the demo in a folder; what it tells, as if it had been run beside that folder."""
    from edgetl.demo.job import run_demo

    told = json.dumps(run_demo(folder).to_json())
    return json.loads(told.replace(f"{folder.parent}/", ""))


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("json", type=Path, nargs="?", help="what `edgetl demo --json` printed")
    command.add_argument("--readme", type=Path, default=ROOT / "README.md")
    command.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "report.png")
    command.add_argument("--width", type=int, default=960)
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.json is None:
            demo = run(Path(scratch, "edgetl-demo"))
            page = Path(scratch, demo["report"])
        else:
            demo = json.loads(arguments.json.read_text(encoding="utf-8"))
            page = arguments.json.parent / demo["report"]
        content = compressed(photograph(page, width=arguments.width))
    readme = arguments.readme.read_text(encoding="utf-8")
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise LookupError(f"{arguments.readme} needs the lines {BEGIN} and {END}")
    arguments.readme.write_text(f"{before}{BEGIN}\n{excerpt(demo)}\n{END}{after}", encoding="utf-8")
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_bytes(content)
    print(f"{arguments.picture}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
