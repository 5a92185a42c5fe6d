"""The consumer against librdkafka's own mock brokers, which live in this process."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.ingest.conftest import CLUSTER, Infiltrate, Starter
from tests.waiting import until

FOX = "fox.example.org"
DAY = "2026/03/02"


class Brokers:
    """A mock cluster, and a producer for it."""

    def __init__(self, folder: Path) -> None:
        self.producer = Producer(
            {
                "test.mock.num.brokers": 1,
                "bootstrap.servers": "",
                "compression.type": "snappy",
                "log_level": 0,
                "topic.metadata.refresh.interval.ms": 500,
            }
        )
        broker = next(iter(self.producer.list_topics(timeout=30).brokers.values()))
        self.properties = folder / "kafka"
        text = f"# brokers\nbootstrap.servers={broker.host}:{broker.port}\n\ntopic.metadata.refresh.interval.ms = 200\n"
        self.properties.write_text(text + "session.timeout.ms=4000\nheartbeat.interval.ms=300\n")
        self.properties.chmod(0o600)

    def publish(self, topic: str, key: str, *values: bytes) -> None:
        """Publish messages, and wait until the brokers have them."""
        for value in values:
            self.producer.produce(topic, value, key)
        assert self.producer.flush(30) == 0


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    made = Brokers(tmp_path)
    yield made
    made.producer.flush(1)


def sample(number: int, cluster: str = CLUSTER, **changes: object) -> bytes:
    attributes = {"time": "2026-03-02T12:00:00Z", "cluster": cluster, "jobs": [], "n": number} | changes
    return (
        json.dumps({"meta": {"producer": "sonar"}, "data": {"type": "sample", "attributes": attributes}}).encode()
        + b"\n"
    )


def numbers(server: Infiltrate, file: str = f"{CLUSTER}/{DAY}/0+sample-n1.json") -> "Counter[int]":
    lines = server.stored().get(file, b"").splitlines()
    return Counter(json.loads(line)["data"]["attributes"]["n"] for line in lines)


def test_messages_are_stored_as_posts_are(start: Starter, brokers: Brokers) -> None:
    job = json.dumps({"data": {"attributes": {"time": "2026-03-02T12:00:00Z", "slurm_jobs": []}}}).encode()
    brokers.publish(f"{CLUSTER}.sample", "n1", sample(1), b"garbage", sample(2, time="never"), sample(3, node="n2"))
    brokers.publish(f"{FOX}.job", "master", job)
    brokers.publish(f"{FOX}.sample", "n1", sample(4))  # of another cluster than it says
    brokers.publish(f"test.{CLUSTER}.sample", "n1", sample(5))
    brokers.publish(f"other.{CLUSTER}.sample", "n1", sample(6))  # that prefix is not wanted
    brokers.publish("nothing.to.do.with.us", "n1", sample(7))
    server = start("--kafka", str(brokers.properties), "--topic-prefix", "test")

    until(lambda: len(server.stored()) == 3 and numbers(server) == Counter([1, 5]))
    server.stop()

    assert set(server.stored()) == {
        f"{CLUSTER}/{DAY}/0+sample-n1.json",
        f"{CLUSTER}/{DAY}/0+sample-n2.json",
        f"{FOX}/{DAY}/0+job-slurm.json",
    }
    found = Counter((one.endpoint, one.host, one.status, one.records, one.dropped) for one in server.ledger())
    assert found == Counter(
        {
            ("kafka/sample", "n1", 200, 1, 0): 2,
            ("kafka/sample", "n2", 200, 1, 0): 1,
            ("kafka/sample", "", 400, 0, 1): 2,
        }
    )


def test_killed_consumer_takes_again_what_it_had_not_committed(start: Starter, brokers: Brokers) -> None:
    sent = 0
    for _ in range(2):
        server = start("--kafka", str(brokers.properties))
        brokers.publish(f"{CLUSTER}.sample", "n1", *(sample(number) for number in range(sent, sent + 200)))
        sent += 200
        before = len(numbers(server))
        until(lambda server=server, before=before: len(numbers(server)) > before)  # type: ignore[misc]
        server.kill()
    server = start("--kafka", str(brokers.properties))
    until(lambda: len(numbers(server)) == sent)
    brokers.publish(f"{CLUSTER}.sample", "n1", sample(sent))
    until(lambda: len(numbers(server)) == sent + 1)
    assert server.stop() == 0
    stored = numbers(server)
    assert set(stored) == set(range(sent + 1))  # each is there; those in hand at a kill may be there twice

    # What was committed does not come again.
    server = start("--kafka", str(brokers.properties))
    brokers.publish(f"{CLUSTER}.sample", "n1", sample(sent + 1))
    until(lambda: numbers(server)[sent + 1] > 0)
    server.stop()
    assert numbers(server) == stored + Counter([sent + 1])


def test_messages_wait_while_nothing_can_be_stored(start: Starter, brokers: Brokers) -> None:
    server = start("--kafka", str(brokers.properties), "--disk-reserve", "999999G")
    brokers.publish(f"{CLUSTER}.sample", "n1", sample(1))
    until(lambda: "messages of Kafka wait: the disk is down to its reserve" in server.log.read_text())
    assert server.stop() == 0
    assert server.stored() == {}

    server = start("--kafka", str(brokers.properties))
    until(lambda: numbers(server) == Counter([1]))
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ("bootstrap.servers=x:1\n", 0o644, "is open to group or others"),
        ("group.id=x\n", 0o600, "bootstrap.servers is missing"),
        ("nonsense\n", 0o600, ":1: want KEY=VALUE"),
        ("bootstrap.servers=x:1\nenable.auto.commit=true\n", 0o600, ":2: enable.auto.commit cannot be set"),
        ("bootstrap.servers=x:1\nno.such.thing=1\n", 0o600, "bad property for Kafka"),
    ],
)
def test_bad_properties_are_told(start: Starter, tmp_path: Path, text: str, mode: int, complaint: str) -> None:
    path = tmp_path / "properties"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(AssertionError, match="infiltrate ended") as caught:
        start("--kafka", str(path))
    assert complaint in str(caught.value)
    assert "Traceback" not in str(caught.value)
