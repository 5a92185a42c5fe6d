"""Look at the pages as a person: `python -m tests.web.browse DIR` puts screenshots of all pages into a directory."""

import json
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sonar.demo.history import write_config, write_history

from tests.web.conftest import CLUSTER, PEOPLE, Server, passwords_file, running, write_reports

CHROMIUM = "/usr/bin/chromium"
WIDTHS = ((390, 800), (1280, 900), (2560, 1400))


def main(out: Path) -> None:
    """Take the screenshots."""
    out.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp())
    write_history(root / "data" / CLUSTER, now=int(time.time()))
    write_config(root / f"{CLUSTER}-config.json")
    (root / "cluster-aliases.json").write_text(json.dumps([{"alias": "demo", "value": CLUSTER}]))
    passwords_file(root / "passwords")
    write_reports(root / "reports" / CLUSTER)
    options: list[str | Path] = [
        "--cluster-config",
        root,
        "--password-file",
        root / "passwords",
        "--reports",
        root / "reports",
    ]
    with (
        running(root, options, tls=False) as server,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, height in WIDTHS:
            for scheme in ("light", "dark"):
                page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                log_in(page, server)
                for name, path in paths(server):
                    page.goto(server.url + path)
                    page.wait_for_timeout(150)
                    page.screenshot(path=out / f"{name}-{width}-{scheme}.png")
                page.close()
        chromium.close()


def log_in(page: Page, server: Server) -> None:
    """Log in as an administrator."""
    page.goto(f"{server.url}/login")
    page.fill("#name", "root")
    page.fill("#password", PEOPLE["root"][0])
    page.click("main button")


def paths(server: Server) -> list[tuple[str, str]]:
    """Return a name and the path of each page."""
    rows = json.loads(
        server.ask("jobs", cluster=CLUSTER, user="-", fmt="json,job,user,host,cmd", **{"from": "2d"}).data
    )
    row = next(row for row in rows if "python" in row["cmd"])
    base = f"/c/{CLUSTER}"
    return [
        ("clusters", "/"),
        ("overview", base),
        ("node", f"{base}/node/gpu-1.demo.example.org?range=week"),
        ("group", f"{base}/group/gpu-*"),
        ("jobs", f"{base}/jobs?from=3d"),
        ("job", f"{base}/job/{row['job']}?host={row['host']}&from=3d"),
        ("user", f"{base}/user/{row['user']}"),
        ("violations", f"{base}/violations"),
        ("letters", f"{base}/violations/femi"),
        ("gaps", f"{base}/gaps"),
        ("reports", f"{base}/reports"),
        ("status", "/status"),
        ("interface", "/api"),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
