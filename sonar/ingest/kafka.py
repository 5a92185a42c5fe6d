"""A consumer of Kafka: takes what samplers publish, as if they had posted it.

A topic is `[PREFIX.]CLUSTER.TYPE`, a message's key the node, its value an envelope. Offsets are committed only when the
messages before them are durable in the store: a crash has some taken twice, which readers do not mind, and none lost.
While the store takes nothing, the consumer waits with what it has in hand.

confluent-kafka is needed for this alone, and imported here alone: `pip install sonar-server[kafka]`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.ingest.books import Books
from sonar.ingest.counts import Counts
from sonar.ingest.endpoints.insert import take_envelopes
from sonar.ingest.messages import split_topic
from sonar.ingest.post import Post, Refusal, Rules, Taken
from sonar.log import Throttle
from sonar.names import ClusterName
from sonar.serve.passwords import is_credential
from sonar.store.layout import Append
from sonar.store.store import Store, StoreUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["KafkaConsumer", "read_properties"]

# librdkafka takes a leading ^ for a regular expression, and looks for new topics when it refreshes its metadata.
TOPICS = r"^.+\.(sample|sysinfo|job|jobs|cluster)$"
DEFAULTS = {
    "group.id": "sonar-ingest",
    "client.id": "infiltrate",
    "auto.offset.reset": "earliest",
    "topic.metadata.refresh.interval.ms": "60000",
}
# These are the promise that is made here, and no setting.
FIXED = {"enable.auto.commit": "false", "enable.auto.offset.store": "false"}

_MESSAGES = 500
_POLL_S = 0.5
_RETRY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """What some messages hold, and what is to be said about them once it is durable."""

    appends: list[Append] = field(default_factory=list)
    taken: list[tuple[str, Taken]] = field(default_factory=list)  # by place


class KafkaConsumer:
    """Takes messages from its own thread. `rules` gives those in force."""

    def __init__(
        self, properties: Mapping[str, str], store: Store, books: Books, counts: Counts, rules: Callable[[], Rules]
    ) -> None:
        self._consumer = _consumer(properties)
        self._store = store
        self._books = books
        self._counts = counts
        self._rules = rules
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)
        _log.addFilter(Throttle())

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def stop(self) -> None:
        """Store and commit what is in hand, if the store takes it, and end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        self._consumer.subscribe([TOPICS])
        try:
            while not self._stopping.is_set():
                messages = self._consumer.consume(_MESSAGES, _POLL_S)
                if good := [message for message in messages if not _is_error(message)]:
                    self._take(good)
        finally:
            self._consumer.close()

    def _take(self, messages: "Sequence[Message]") -> None:
        batch = _Batch()
        now = int(time.time())
        for message in messages:
            self._add(message, batch, now)
        if not self._store_all(batch.appends):
            return  # ends without a commit: they will come again
        for place, taken in batch.taken:
            self._counts.took(place, taken.stored, taken.dropped)
            for notice in taken.notices:
                _log.warning("%s", notice)
            if taken.dropped:
                text = "%s from %s: %d of %d records dropped: %s"
                total = taken.dropped + taken.stored
                _log.warning(text, place, taken.cluster or "Kafka", taken.dropped, total, taken.complaint)
        self._commit(messages)

    def _add(self, message: "Message", batch: _Batch, now: int) -> None:
        """Add what a message holds to a batch."""
        rules = self._rules()
        taken, place = Taken(), "kafka"
        try:
            name, topic = split_topic(message.topic() or "", rules)
            place = f"kafka/{topic.value}"
            anybody = Post(message.value() or b"", "", {}, None, rules, now)
            cluster = anybody.cluster(name)
            node = (message.key() or b"").decode(errors="replace")
            post = Post(anybody.body, "", {}, frozenset({cluster}), rules, now, node)
            taken = take_envelopes(post, topic)
            taken.cluster = cluster
        except Refusal as refusal:
            taken.drop(refusal.reason)
        batch.taken.append((place, taken))
        batch.appends += taken.appends
        if taken.stored:
            batch.appends += self._books.arrivals(taken, place, now)
        elif taken.cluster:
            batch.appends.append(self._books.rejected(ClusterName(taken.cluster), place, taken, now))

    def _store_all(self, appends: Sequence[Append]) -> bool:
        """Return when the appends are durable; False if it is time to end before."""
        paused = False
        while appends:
            try:
                self._store.append_and_wait(appends)
                break
            except StoreUnavailableError as error:
                _log.warning("messages of Kafka wait: %s", error)
            if self._stopping.wait(_RETRY_S):
                return False
            # Who does not poll for minutes is taken for dead; who has paused is given nothing.
            self._consumer.pause(self._consumer.assignment())
            paused = True
            self._consumer.consume(1, 0)
        if paused:
            self._consumer.resume(self._consumer.assignment())
        return True

    def _commit(self, messages: "Sequence[Message]") -> None:
        from confluent_kafka import KafkaException, TopicPartition

        behind = {(one.topic() or "", one.partition() or 0): (one.offset() or 0) + 1 for one in messages}
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in behind.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # they may come again, which does no harm
            _log.warning("cannot commit offsets to Kafka, going on: %s", error.args[0])


def read_properties(path: Path) -> dict[str, str]:
    """Return the properties for librdkafka in a file of lines `KEY=VALUE`; raise SonarError, naming file and line."""
    properties: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077 and not is_credential(path):
                raise SonarError(f"'{path}' may hold a password and is open to group or others: chmod 600 it")
            lines = file.read().decode().splitlines()
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise SonarError(f"'{path}' is not UTF-8") from None
    for number, untrimmed in enumerate(lines, start=1):
        line = untrimmed.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise SonarError(f"{path}:{number}: want KEY=VALUE")
        if key.strip() in FIXED:
            raise SonarError(f"{path}:{number}: {key.strip()} cannot be set")
        properties[key.strip()] = value.strip()
    if "bootstrap.servers" not in properties:
        raise SonarError(f"{path}: bootstrap.servers is missing")
    return properties


def _consumer(properties: Mapping[str, str]) -> "Consumer":
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError:
        raise SonarError("--kafka needs confluent-kafka: pip install 'sonar-server[kafka]'") from None
    try:
        return Consumer({**DEFAULTS, **properties, **FIXED}, logger=logging.getLogger("sonar.kafka"))
    except (KafkaException, ValueError) as error:
        raise SonarError(f"bad property for Kafka: {error.args[0]}") from None


def _is_error(message: "Message") -> bool:
    error = message.error()
    if error is None:
        return False
    _log.warning("Kafka: %s", error.str())
    return True
