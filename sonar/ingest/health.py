"""What infiltrate tells about its store: facts for `/ready`, gauges for `/metrics`."""

from collections.abc import Mapping

from sonar.ingest.canary import Canary
from sonar.store.store import Store
from sonar.times import iso_text

__all__ = ["facts_of", "gauges_of"]


def facts_of(store: Store, canary: Canary) -> Mapping[str, object]:
    """Return what `/ready` tells: when a record was last made durable, and came back; how much room there is."""
    last, returned = store.last_durable, canary.last
    return {
        "last_durable": iso_text(int(last)) if last is not None else None,
        "last_canary": iso_text(int(returned)) if returned is not None else None,
        "disk_free_bytes": store.free_bytes(),
        "disk_reserve_bytes": store.reserve_bytes,
        "backlog_bytes": store.backlog_bytes,
    }


def gauges_of(store: Store) -> Mapping[str, tuple[str, float]]:
    """Return what `/metrics` tells besides counts: help and value by name."""
    return {
        "sonar_ingest_ready": ("Whether uploads are taken and reach the log.", store.obstacle is None),
        "sonar_ingest_last_durable_timestamp_seconds": ("When something was made durable.", store.last_durable or 0.0),
        "sonar_ingest_disk_free_bytes": ("Room on the disk of the log.", store.free_bytes()),
        "sonar_ingest_disk_reserve_bytes": ("Room below which uploads are refused.", store.reserve_bytes),
        "sonar_ingest_backlog_bytes": ("In the spool, and not in the files yet.", store.backlog_bytes),
        "sonar_ingest_waiting_bytes": ("In memory, and not in the spool yet.", store.waiting_bytes),
    }
