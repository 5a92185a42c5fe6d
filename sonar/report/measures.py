"""Measures: the numbers by which policies judge, beside those that `sonalyze jobs` gives; what they are, for people."""

from collections.abc import Mapping

from sonar.times import DAY, HOUR, MINUTE

__all__ = ["MEASURES", "measure_text"]

# Name, what it is, unit: sonar-policy(5) lists the same.
MEASURES: Mapping[str, tuple[str, str]] = {
    "duration": ("length of the job", "s"),
    "coverage": ("samples that are there, of those to be expected", "%"),
    "cores-avg": ("mean number of cores used", ""),
    "cores-peak": ("largest number of cores used at a time", ""),
    "cores": ("cores of the job's nodes", ""),
    "node-cards": ("GPUs of the job's nodes", ""),
    "cards": ("GPUs used at any time", ""),
    "card-avg": ("mean utilization of a GPU", "%"),
    "card-peak": ("largest utilization of all GPUs at a time, of each on average", "%"),
    "card-hours": ("GPUs times hours", ""),
    "core-hours": ("hours of CPU time used", ""),
    "idle": ("longest time in which GPUs were held and not used", "s"),
    "idle-gpu": ("mean utilization of a GPU in that time", "%"),
    "idle-gpumem": ("mean share of a GPU's memory in that time", "%"),
    "idle-cards": ("GPUs held in that time", ""),
    "reserved-cores": ("cores that Slurm reserved", ""),
    "reserved-mem": ("memory that Slurm reserved", "GB"),
    "reserved-cards": ("GPUs that Slurm reserved", ""),
    "cpu-efficiency": ("CPU time used, of the reserved", "%"),
    "cpu-peak-efficiency": ("largest number of cores used at a time, of the reserved", "%"),
    "mem-efficiency": ("peak resident memory, of the reserved", "%"),
    "time-limit": ("time limit", "s"),
    "time-efficiency": ("run time, of the time limit", "%"),
    "jobs": ("the user's jobs", ""),
    "share-cpu": ("the user's CPU time, of everybody's", "%"),
    "share-gpu": ("the user's GPU hours, of everybody's", "%"),
    "share-largest": ("the larger of the two shares", "%"),
    "hours-largest": ("the larger of core hours and GPU hours", ""),
}


def measure_text(name: str, value: float) -> str:
    """Return a measure as people read it; one that `sonalyze jobs` gives is explained by its field."""
    text, unit = MEASURES.get(name, ("", ""))
    if not text:
        from sonar import verbs

        field = next((field for field in verbs.verb("jobs").fields if field.name == name), None)
        text, unit = (field.help, field.unit) if field is not None else (name, "")
    number = _length(int(value)) if unit == "s" else f"{value:,.10g}" + (f" {unit}" if unit else "")
    return f"{text.removesuffix(', rounded up')}: {number}"


def _length(seconds: int) -> str:
    days, rest = divmod(seconds, DAY)
    return (f"{days}d " if days else "") + f"{rest // HOUR}h {rest % HOUR // MINUTE:02}m"
