"""sonar-migrate(7), followed to the letter: the commands of the page, on a made-up old installation."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import LIBRARY, MACHINE, Machine

pytestmark = pytest.mark.system

PAGE = Path(__file__).resolve().parents[2] / "man" / "sonar-migrate.7"
OLD = "/home/naic/sonar"
VARIABLES = f"set -eu; OLD={OLD}; SECRETS=/home/naic/.ssh\n"
CSV = (
    "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=myhost,cores=56,user=limeng,job=151,pid=0,cmd=python,cpu%=675,"
    "gpus=none\n"
)
CONFIG = [{"hostname": "myhost", "description": "2x14 cores", "cpu_cores": 56, "mem_gb": 128}]
# Keeps the table of one user in a file: the machine has no cron.
CRONTAB = "#!/bin/sh\ncase $3 in -l) cat /var/crontab.$2;; -r) rm /var/crontab.$2;; *) cp $3 /var/crontab.$2;; esac\n"


def commands(section: str) -> list[str]:
    """Return the blocks of commands for root in a section of the page, as scripts."""
    text = PAGE.read_text().split(f".Ss {section}\n", 1)[1].partition("\n.S")[0]
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, re.MULTILINE | re.DOTALL)
    scripts = ["".join(re.sub(r"^# ", "", line) + "\n" for line in block.splitlines()) for block in blocks]
    return [script.replace(r"\e", "\\") for script in scripts]


class Site:
    """The machine, and how a step of the page is done in it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def shell(self, script: str, *, check: bool = True) -> str:
        return self.machine("bash", "-c", script, check=check, timeout=120)

    def step(self, section: str, *blocks: int) -> str:
        scripts = commands(section)
        chosen = [scripts[number] for number in blocks] if blocks else scripts
        return self.shell(VARIABLES + "".join(chosen))

    def files(self, root: str) -> set[str]:
        return set(self.shell(f"cd {root} && find . -type f -name '*.csv' -o -type f -name '0+sample*'").split())


@pytest.fixture(scope="module")
def site(installed: Path) -> Iterator[Site]:
    machine = Machine("migrate", f"--bind={installed / LIBRARY}:/{LIBRARY}")
    try:
        machine.put_installation(installed)
        machine.write("/usr/bin/crontab", CRONTAB, 0o755)
        machine.write("/var/crontab.naic", f"@reboot {OLD}/scripts/start-infiltrate.sh\n")
        machine("useradd", "--create-home", "naic")
        day = f"{OLD}/data/fox.example.org/2023/11/14"
        machine.write(f"{day}/myhost.csv", "".join(CSV.replace("15T00:00", f"14T12:{n:02}") for n in range(0, 30, 5)))
        machine.write(f"{day}/torn.csv", CSV + CSV[:20])
        machine("touch", "-d", "2023-11-16", f"{day}/torn.csv")
        machine.write(f"{OLD}/scripts/fox.example.org/fox.example.org-config.json", json.dumps(CONFIG))
        machine.write(f"{OLD}/cluster-aliases.json", '[{"alias": "fox", "value": "fox.example.org"}]')
        machine.write("/home/naic/.ssh/exfil-auth.txt", "fox.example.org:dead-pool\nnodes:shared-word\n", 0o644)
        machine.write("/home/naic/.ssh/sonalyzed-auth.txt", "grunge:dirge\n", 0o644)
        machine("chown", "-R", "naic:", "/home/naic")
        for name in ("infiltrate", "sonalyzed"):  # the older daemons
            machine("bash", "-c", f"nohup sleep 600 >/dev/null 2>&1 & echo $! >{OLD}/{name}.pid")
        yield Site(machine)
    finally:
        machine.close()


def node_sends(site: Site, cluster: str, line: str, user: str = "fox.example.org", password: str = "dead-pool") -> str:
    """Send as the scripts of nodes do: curl, with the retries and the address that they have."""
    site.machine.write("/root/netrc", f"default login {user} password {password}\n", 0o600)
    return site.shell(
        "curl -sS -o /dev/null -w '%{http_code}' --data-binary @- -H 'Content-Type: text/csv' --netrc-file /root/netrc "
        f"--retry 11 --retry-connrefused 'http://localhost:1553/sonar-freecsv?cluster={cluster}' <<<{shlex.quote(line)}"
    )


def test_the_page_leads_there_and_back(site: Site) -> None:
    machine = site.machine
    site.step("3. Passwords")
    assert "plain" not in machine("sonarctl", "passwd", "list")
    site.step("4. Clusters")
    assert "fox" in machine("sonarctl", "cluster", "show", "fox.example.org")
    machine("sonarctl", "cert", "ca")
    machine("sonarctl", "cert", "server", "localhost")
    site.step("5. Ports and certificates", 1, 2)
    site.step("6. Data")

    before = site.files(f"{OLD}/data")
    # A node sends in the time in which nothing listens, and tries again by itself.
    sending = (
        "curl -sS -o /dev/null -w '%{http_code}' --data-binary @- -H 'Content-Type: text/csv' "
        "-u fox.example.org:dead-pool --retry 11 --retry-connrefused "
        f"'http://localhost:1553/sonar-freecsv?cluster=fox' <<<{shlex.quote(CSV.replace('myhost', 'waited'))}"
    )
    waiting = subprocess.Popen(
        [MACHINE, "exec", machine.name, "bash", "-c", sending], stdout=subprocess.PIPE, text=True
    )
    site.step("7. The switch")
    assert not machine("crontab", "-u", "naic", "-l", check=False)
    assert waiting.communicate(timeout=60)[0] == "200"
    assert machine("curl", "-s", "http://localhost:1553/ping") == "ok"
    assert site.files("/var/lib/sonar-server/data") >= before

    # The senders of old, as they are: by name and by alias, with the cluster's and with the shared password.
    assert node_sends(site, "fox.example.org", CSV) == "200"
    assert node_sends(site, "fox", CSV.replace("myhost", "second")) == "200"
    assert node_sends(site, "saga.example.org", CSV, "nodes", "shared-word") == "200"
    assert node_sends(site, "saga.example.org", CSV) == "403"
    assert node_sends(site, "fox.example.org", CSV, password="wrong") == "401"
    site.machine.write("/root/exfil-auth.txt", "fox.example.org/dead-pool\n", 0o644)
    site.shell(
        f"printf %s {shlex.quote(CSV.replace('myhost', 'third'))} | SONAR_SPOOL=/root/spool "
        "/usr/libexec/sonar/exfiltrate -cluster fox.example.org -source sonar/csvnamed -output json "
        "-target http://localhost:1553 -auth-file /root/exfil-auth.txt"
    )
    day = "/var/lib/sonar-server/data/fox.example.org/2023/11/15"
    machine.wait("all are stored", lambda: {"myhost", "second", "third", "waited"} <= set(
        site.shell(f"ls {day} | sed -n 's/.csv$//p'").split()))  # fmt: skip

    # Questions of old, on the old port.
    answer = machine(
        "curl", "-sS", "-u", "grunge:dirge",
        "http://localhost:1559/jobs?cluster=fox&user=-&from=2023-11-14&to=2023-11-15&fmt=csv,job,user,host",
    )  # fmt: skip
    assert "limeng" in answer

    seen = site.shell("; ".join(commands("8. Look")[0].splitlines()), check=False)
    assert "fox.example.org: " in seen
    assert "torn end (no end of line), moved to .bad" in seen
    assert "Traceback" not in seen

    site.step("The way back")
    assert machine("crontab", "-u", "naic", "-l").startswith("@reboot")
    assert machine("curl", "-s", "http://localhost:1553/ping", check=False) == ""
    back = site.files(f"{OLD}/data")
    assert back >= before | {f"./fox.example.org/2023/11/15/{name}.csv" for name in ("myhost", "second", "third")}
    of_nodes = {path for path in back if not path.startswith("./.server/")}  # the server's own records stay apart
    assert {path.rpartition("/")[2] for path in of_nodes} <= {
        f"{name}.csv" for name in ("myhost", "second", "third", "waited", "torn")
    }
