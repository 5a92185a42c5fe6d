"""All pages in a real browser: nothing from another host, no error, usable by everybody, small and quick."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from sonar.times import iso_text

from tests.web.browse import CHROMIUM, log_in, paths
from tests.web.conftest import CLUSTER, Server

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
MANY = {"hundred.example.org": 100, "thousand.example.org": 1000}
LARGEST_OVERVIEW = 150_000  # bytes on the wire, everything but the library of the charts
SLOWEST_PAINT_MS = 1000
WIDTHS = (390, 2560, 1280)
DARK = ("overview", "jobs", "gaps")  # the others are made of the same parts


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def many(server: Server) -> dict[str, int]:
    """Clusters of 100 and 1,000 nodes with two hours of samples."""
    now = int(time.time())
    for cluster, number in MANY.items():
        for node in range(number):
            name = f"c{node // 100}-{node % 100}.{cluster}"
            lines: dict[str, list[str]] = {}
            for at in range(now - 7200 + node % 60, now, 600):
                text = iso_text(at)
                lines.setdefault(text[:10], []).append(
                    f"v=0.12.1,time={text},host={name},cores=64,user=u{node % 40},job={node + 1},pid={node + 9},"
                    f"cmd=work{node % 7},cpu%={node % 6400},cpukib={node * 9999},rssanonkib={node * 8888},"
                    f"cputime_sec={(at - now + 9000) * (node % 64)}\n"
                )
            for day, texts in lines.items():
                path = server.data / cluster / day.replace("-", "/") / f"{name}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(texts))
        hosts = [f"c{node // 100}-{node % 100}.{cluster}" for node in range(number)]
        description = [{"hostname": host, "description": "", "cpu_cores": 64, "mem_gb": 256} for host in hosts]
        (server.config / f"{cluster}-config.json").write_text(json.dumps(description))
    return MANY


class Watched:
    """A page whose troubles are written down."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:
        self.page: Page = browser.new_page(ignore_https_errors=True, **options)
        self.troubles: list[str] = []
        self.transferred = 0
        self._host = server.url
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", self._asked)
        self.page.on("requestfailed", lambda request: self.troubles.append(f"{request.url} {request.failure}"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self._host):
            self.troubles.append(f"asks another host: {request.url}")


def test_all_pages_work_in_a_browser_and_for_everybody(browser: Browser, server: Server) -> None:
    for scheme in ("light", "dark"):
        watched = Watched(browser, server, color_scheme=scheme, bypass_csp=False)
        page = watched.page
        log_in(page, server)
        pages = paths(server)
        for name, path in pages if scheme == "light" else [one for one in pages if one[0] in DARK]:
            response = page.goto(server.url + path)
            assert response is not None
            assert response.status == 200, (name, path)
            found = page.evaluate(AXE.read_text() + "; axe.run(document, {resultTypes: ['violations']})")
            serious = [
                (one["id"], [node["html"][:150] for node in one["nodes"]][:3])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], (name, scheme)
            # Nothing but tables and preformatted text may be wider than the window.
            for width in WIDTHS if scheme == "light" else ():
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        assert watched.troubles == []
        page.close()


def test_pages_are_complete_without_scripts(browser: Browser, server: Server) -> None:
    context = browser.new_context(java_script_enabled=False, ignore_https_errors=True)
    page = context.new_page()
    log_in(page, server)
    page.goto(f"{server.url}/c/{CLUSTER}?select=gpu-1*")
    assert page.locator("table.nodes tbody tr").count() == 1
    page.goto(f"{server.url}/c/{CLUSTER}/node/gpu-2.demo.example.org?range=day")
    assert page.locator(".numbers tbody tr").count() >= 20
    context.close()


def sizes_of(page: Page) -> list[tuple[str, float]]:
    """The addresses that the page asks for from now on, and what came over the wire; filled as it comes."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    urls: dict[str, str] = {}
    sizes: list[tuple[str, float]] = []

    def begun(event: Any) -> None:
        urls[event["requestId"]] = event["response"]["url"]

    def finished(event: Any) -> None:
        sizes.append((urls.get(event["requestId"], ""), event["encodedDataLength"]))

    session.on("Network.responseReceived", begun)
    session.on("Network.loadingFinished", finished)
    return sizes


def test_large_clusters_are_small_and_quick(browser: Browser, server: Server, many: dict[str, int]) -> None:
    for cluster, number in many.items():
        watched = Watched(browser, server)
        page = watched.page
        log_in(page, server)
        page.goto(f"{server.url}/c/{cluster}")  # whoever comes first waits for the first computation
        sizes = sizes_of(page)
        page.goto(f"{server.url}/c/{cluster}")
        page.wait_for_timeout(300)
        assert page.locator("table.nodes tbody tr").count() == number
        transferred = sum(size for url, size in sizes if "uPlot" not in url)
        assert 0 < transferred < LARGEST_OVERVIEW, transferred
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        if number <= 100:
            assert paint < SLOWEST_PAINT_MS
        print(f"{cluster}: {transferred:.0f} bytes, first paint after {paint:.0f} ms")
        assert watched.troubles == []
        page.close()


def test_renewing_keeps_the_place(browser: Browser, server: Server, many: dict[str, int]) -> None:
    watched = Watched(browser, server)
    page = watched.page
    page.clock.install()
    log_in(page, server)
    page.goto(f"{server.url}/c/hundred.example.org?select=c0-*")
    page.evaluate("scrollTo(0, 700)")
    page.evaluate("document.querySelector('table.nodes').dataset.old = '1'")
    with page.expect_response(lambda response: "/c/hundred" in response.url) as renewed:
        page.clock.fast_forward(61_000)
    assert renewed.value.status in (200, 304)
    page.wait_for_function("!document.querySelector('table.nodes').dataset.old", timeout=10_000)
    assert page.evaluate("scrollY") == 700
    assert page.locator("table.nodes tbody tr").count() == 100
    assert "select=c0-*" in page.url
    assert watched.troubles == []
    page.close()


def test_the_form_of_jobs_is_its_address(browser: Browser, server: Server) -> None:
    page = browser.new_page(ignore_https_errors=True)
    log_in(page, server)
    page.goto(f"{server.url}/c/{CLUSTER}/jobs")
    page.fill("[name=user]", "femi,kaja")
    page.fill("[name=from]", "5d")
    page.fill("[name=cores]", "1.5")
    page.keyboard.press("Enter")
    page.wait_for_url("**user=femi%2Ckaja**")
    users = set(page.locator("table.jobs tbody tr td:nth-child(2)").all_inner_texts())
    assert users <= {"femi", "kaja"}
    assert users
    with page.expect_download() as exported:
        page.click("text=CSV")
    lines = Path(exported.value.path()).read_text().splitlines()
    assert len(lines) - 1 == int(page.locator("p.note").first.inner_text().split()[0])
    page.click("thead >> text=Duration")
    assert "sort=duration" in page.url
    page.close()
