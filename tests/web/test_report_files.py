"""Report files as the server hands them out: each as what it is; a page with its look, which runs and loads nothing."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sonar.report.pages import Chart, Part, page

from tests.web.browse import log_in
from tests.web.conftest import CLUSTER, Server

TITLE = "Utilization of <Fox>"


@pytest.fixture(scope="module")
def report(server: Server, site: Path) -> str:
    """Publish a page and return its address."""
    chart = Chart("Cores used", ["03-01", "03-02", "03-03"], [10.0, None, 17.0])
    path = site / "reports" / CLUSTER / "public"
    (path / "utilization-2026-03.html").write_text(page(TITLE, "March", [Part("All", charts=[chart], note="Fine.")]))
    (path / "utilization-2026-03.csv").write_text("group,day\nall,2026-03-01\n")
    (path / "evil.html").write_text("<!doctype html>\n<p>x<script>document.title = 'run'</script>\n")
    return f"/report?cluster={CLUSTER}&report-name="


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("utilization-2026-03.html", "text/html; charset=utf-8"),
        ("utilization-2026-03.csv", "text/csv; charset=utf-8"),
        ("hostnames.json", "application/json"),
    ],
)
def test_a_file_is_served_as_what_it_is(server: Server, report: str, name: str, media_type: str) -> None:
    answer = server.get(report + name)

    assert answer.status == 200
    assert answer.headers["content-type"] == media_type


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_has_its_look_under_its_policy(
    server: Server, report: str, browser: Browser, width: int, scheme: str
) -> None:
    said: list[str] = []
    opened = browser.new_page(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        ignore_https_errors=True,
    )
    log_in(opened, server)
    opened.on("console", lambda message: said.append(message.text))
    opened.goto(server.url + report + "utilization-2026-03.html")

    assert opened.title() == TITLE
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == {
        "light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 28)"}[scheme]  # fmt: skip
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("svg rect").count() == 2
    assert said == []
    assert opened.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    opened.close()


def test_nothing_in_a_page_is_run(server: Server, report: str, browser: Browser) -> None:
    opened = browser.new_page(ignore_https_errors=True)
    log_in(opened, server)
    opened.goto(server.url + report + "evil.html")

    assert opened.title() != "run"
    opened.close()
