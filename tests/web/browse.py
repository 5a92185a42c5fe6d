"""Look at the pages as a person: `python -m tests.web.browse DIR [NODES]` puts screenshots of all pages into DIR.

Without NODES they show the generated history of three nodes, else a day of a generated cluster of so many.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sonar.demo.history import write_config, write_history
from sonar.web.pages import PAGES

from tests.web.conftest import CHROMIUM, CLUSTER, PEOPLE, Server, passwords_file, running, write_reports
from tests.web.scenery import write_cluster

WIDTHS = ((390, 800), (1280, 900), (2560, 1400))


def main(out: Path, nodes: int) -> None:
    """Take the screenshots."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root, now = Path(scratch), int(time.time())
        passwords_file(root / "passwords")
        cluster = CLUSTER
        if nodes:
            cluster = "saga.example.org"
            write_cluster(root, cluster, nodes, now=now, hours=30)
        else:
            write_history(root / "data" / CLUSTER, now=now)
            write_config(root / f"{CLUSTER}-config.json")
            write_reports(root / "reports" / CLUSTER)
        options: list[str | Path] = ["--cluster-config", root, "--password-file", root / "passwords"]
        with running(root, [*options, "--reports", root / "reports"], tls=False) as server:
            photograph(server, cluster, out)


def photograph(server: Server, cluster: str, out: Path) -> None:
    """Take a picture of each page of a cluster, in each width and scheme."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        addresses = paths(server, cluster)
        for width, height in WIDTHS:
            for scheme in ("light", "dark"):
                page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(server.url + "/login")
                page.screenshot(path=out / f"login-{width}-{scheme}.png")
                log_in(page, server)
                for name, path in addresses:
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


def paths(server: Server, cluster: str = CLUSTER) -> list[tuple[str, str]]:
    """Return a name and an address of each page, as they are declared, about somebody and something that is there."""
    rows = json.loads(
        server.ask("jobs", cluster=cluster, user="-", fmt="json,job,user,host,cmd", **{"from": "2d"}).data
    )
    row = next(row for row in rows if "python" in row["cmd"])
    row["host"] = row["host"].split(",")[0]
    down = json.loads(
        server.ask("uptime", cluster=cluster, interval="5", fmt="json,host", **{"from": "1d", "only-down": "true"}).data
    )
    node = down[0]["host"] if down else row["host"]
    known = {"cluster": cluster, "node": node, "group": "gpu*", "job": row["job"], "user": row["user"]}
    queries = {"node": "?range=day", "jobs": "?from=3d", "job": f"?host={row['host']}&from=3d"}
    found = []
    for page in PAGES:
        name = page.template.removesuffix(".html")
        found.append((name, page.path.format(**known) + queries.get(name, "")))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
