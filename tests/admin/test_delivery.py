"""Mail on its way: who is killed when, and that it arrives once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from email import message_from_string

import pytest

from sonar.outbox import SENDING, put_mail, waiting
from sonar.times import iso_text

from tests.admin.conftest import LIBEXEC, NOW, Site
from tests.waiting import until

MAIL = b"To: a@x.example\nSubject: hello\nMessage-ID: <%d@x.example>\n\ntext\n"


@pytest.fixture
def sink(site: Site) -> Site:
    """Return a site whose mail program appends to a file, each mail after a line that no mail has."""
    taker(site, "")
    site.settings(f"[Alert]\nSendmail={site.root}/bin/sendmail -t\n")
    return site


def taker(site: Site, before: str, after: str = "") -> None:
    """Let the mail program do something before and after it has taken a mail."""
    box = site.root / "box"
    # One write to one file: a mail is taken or not, as by a real mail program.
    take = f'text=$(cat; echo .)\nprintf "%s" "$text" >{box}.$$ && mv {box}.$$ {box}-$(date +%s%N)-$$'
    site.program("sendmail", f"{before}\n{take}\n{after}\n")


def arrived(site: Site) -> list[str]:
    return [path.read_text().removesuffix(".") for path in sorted(site.root.glob("box-*"))]


def started(site: Site) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, LIBEXEC / "deliver"],
        env={**os.environ, "SONAR_CONFIG": str(site.root / "sonar.conf"), "SONAR_NOW": iso_text(NOW)},
        stderr=subprocess.DEVNULL,
    )


def test_the_mail_program_ends_its_work_when_deliver_is_killed(sink: Site) -> None:
    go = sink.root / "go"
    taker(sink, f"touch {sink.root}/begun; while [ ! -e {go} ]; do sleep 0.05; done")
    put_mail(sink.root / "outbox", MAIL % 1)
    process = started(sink)
    until((sink.root / "begun").exists)
    process.kill()
    process.wait()

    meanwhile = sink.run("deliver")
    go.touch()
    until(lambda: not waiting(sink.root / "outbox"))

    assert meanwhile.returncode == 1
    assert "still has it" in meanwhile.stderr
    assert sink.run("deliver").returncode == 0
    assert arrived(sink) == [(MAIL % 1).decode()]


def test_what_may_have_gone_goes_again_with_the_same_identity_and_says_so(sink: Site) -> None:
    taker(sink, "", "kill -9 $PPID")
    put_mail(sink.root / "outbox", MAIL % 1)

    first = sink.run("deliver")
    taker(sink, "")
    listed = sink.run("deliver", "--list").stdout
    second = sink.run("deliver")

    assert (first.returncode, second.returncode) == (1, 0)
    assert "may have taken the mail" in first.stderr
    assert f"/{SENDING}/" in listed
    assert "may have gone before" in second.stderr
    mails = [message_from_string(text) for text in arrived(sink)]
    assert {mail["Message-ID"] for mail in mails} == {"<1@x.example>"}
    assert [mail["X-Sonar-Sent-Again"] is not None for mail in mails] == [False, True]
    assert waiting(sink.root / "outbox") == []


def test_killed_at_random_each_mail_arrives_once(sink: Site) -> None:
    taker(sink, "sleep 0.01", "sleep 0.01")
    for number in range(60):
        put_mail(sink.root / "outbox", MAIL % number)
    kills = 0
    for _ in range(12):
        process = started(sink)
        time.sleep(random.uniform(0.1, 0.5))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    until(lambda: sink.run("deliver").returncode == 0)

    assert kills
    # One that was killed just before it began to send says that it may have, and does so once.
    counts = Counter(message_from_string(text)["Message-ID"] for text in arrived(sink))
    assert counts == Counter(f"<{number}@x.example>" for number in range(60))
    assert waiting(sink.root / "outbox") == []


def test_two_that_deliver_at_once_send_once(sink: Site) -> None:
    taker(sink, "sleep 0.02")
    for number in range(20):
        put_mail(sink.root / "outbox", MAIL % number)
    processes = [started(sink) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(arrived(sink)) == len(set(arrived(sink))) == 20
