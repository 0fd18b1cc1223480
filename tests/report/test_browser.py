"""Pages in a real browser: quiet, alone, within the screen, in both schemes, for everyone.

Needs Chromium in any of its forms, on the path or named by ``EDGETL_TEST_BROWSER``; `.ci/browser`
brings one. What is checked for accessibility, axe-core decides.
"""

from importlib import resources

import pytest
from browser import Browser, Page, find_browser
from report_kit import HOSTILE, select_report

import edgetl

SIZES = [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]


@pytest.fixture(scope="module")
def browser():
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium-headless-shell")
    with Browser(executable) as running:
        yield running


@pytest.fixture(scope="module")
def pages(plain, everything, tmp_path_factory, cache):
    """The page with everything, and a plain one."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(cache))
        full = edgetl.write_report(everything, folder / "full.html", select=select_report())
        return {"full": full, "plain": edgetl.write_report(plain, folder / "plain.html")}


def opened(page):
    """Show what is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true })")


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("which", ["full", "plain"])
def test_a_page_keeps_quiet_and_to_itself_and_within_the_screen(
    browser, pages, which, width, scheme
):
    url = pages[which].as_uri()
    with Page(browser, url, width=width, scheme=scheme) as page:
        opened(page)
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sticking_out = page.evaluate(
            """[...document.querySelectorAll('body *')].filter(item =>
                 !item.closest('.scroll, svg, .unseen, .skip') &&
                 item.getBoundingClientRect().right > document.documentElement.clientWidth + 1
               ).map(item => item.outerHTML.slice(0, 200))"""
        )
        assert sticking_out == []
        hidden = page.evaluate(
            """[...document.querySelectorAll('.scroll')].filter(item =>
                 item.scrollWidth > item.clientWidth && item.tabIndex !== 0).length"""
        )
        assert hidden == 0
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(245, 246, 248)", "dark": "rgb(16, 21, 27)"}[scheme]
        broken = page.evaluate("[...document.images].filter(item => !item.naturalWidth).length")
        assert broken == 0 and page.evaluate("document.images.length") > 0
        assert page.requests == [url]
        assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_no_fault(browser, pages, width, scheme):
    axe = (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    with Page(browser, pages["full"].as_uri(), width=width, scheme=scheme) as page:
        opened(page)
        page.evaluate(f"{axe}\n;0")
        faults = page.evaluate(
            """axe.run().then(result => ({
                 passes: result.passes.length,
                 violations: result.violations.map(rule =>
                   [rule.id, rule.nodes.map(node => node.html.slice(0, 200))])}))"""
        )
        assert faults["violations"] == []
        assert faults["passes"] > 20  # it did look


def test_the_browser_would_notice(browser, tmp_path):
    """That the checks above can fail: a page that does all of it."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><title>x</title><div style='width: 2000px'>wide</div>"
        f"<p>{HOSTILE[1]}<script>console.log('hello')</script>"
        "<img src='https://example.invalid/picture.png'>"
    )
    with Page(browser, bad.as_uri(), width=360) as page:
        assert page.evaluate("document.documentElement.scrollWidth") > 360
        assert "https://example.invalid/picture.png" in page.requests
        assert any("hello" in text for text in page.complaints)
        assert page.evaluate("window.hacked") == 1


def test_the_keyboard_reaches_the_content_and_the_tables(browser, pages):
    with Page(browser, pages["plain"].as_uri(), width=360) as page:
        page.key("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        left = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert 0 <= left < 360
        reached = set()
        for _ in range(60):
            page.key("Tab")
            reached.add(page.evaluate("document.activeElement.className"))
        assert "scroll" in reached


def test_it_prints_all_of_it_in_light_colours(browser, pages):
    with Page(browser, pages["full"].as_uri(), width=1280, scheme="dark") as page:
        page.ask("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        pdf = page.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.7)["data"]
        assert len(pdf) > 20_000
