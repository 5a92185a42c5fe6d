"""The command line of infiltrate. What is not given there is as sonar.conf(5) says."""

import argparse
from pathlib import Path

from sonar.serve.options import add_listening_options, byte_count, byte_count_or_none

__all__ = ["add_options"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options but --version."""
    add = parser.add_argument
    add("--data", "--data-path", "--data-dir", type=_directory, metavar="DIR", required=True, help="root of the log")
    add("--password-file", type=Path, metavar="FILE", help="who may upload: lines USER:PASSWORD")
    add("--allow-anonymous", action="store_true", help="let anybody upload to any cluster")
    add(
        "--any-cluster",
        action="store_true",
        default=None,
        help="let every user upload to any cluster, not only to that of its name",
    )
    add("--known-clusters", action="store_true", default=None, help="take no cluster that has no directory yet")
    add("--aliases", type=Path, metavar="FILE", help="other names of clusters, JSON")
    add("--topic-prefix", metavar="NAME", action="append", help="take topics with this prefix too")
    add("--kprox", metavar="PATH", help="take messages in the framing of a Kafka proxy there")
    add("--kafka", type=Path, metavar="FILE", help="take messages of Kafka too; properties for librdkafka")
    add("--csv-day", choices=("local", "utc"), help="day of a CSV record: by its own UTC offset (default), or UTC")
    add("--json-day", choices=("utc", "local"), help="day of an envelope: UTC (default), or by its own UTC offset")
    add("--fsync", choices=("group", "none"), default="group", help="when an upload is answered (default: on disk)")
    add("--max-body", type=byte_count, metavar="SIZE", help="largest upload, inflated too (default 64M)")
    add(
        "--disk-reserve", type=byte_count_or_none, metavar="SIZE", help="take nothing while less is free (default 256M)"
    )
    add("--request-timeout", type=float, metavar="SECONDS", default=60.0, help="what an upload may take (default 60)")
    add("--retry-after", type=int, metavar="SECONDS", default=60, help="when a 503 says to come back (default 60)")
    add("-v", "--verbose", action="store_true", help="log each upload")
    add_listening_options(parser)
    add("--tls-client-ca", type=Path, metavar="PEM", help="authorities for clients' certificates, which then count too")


def _directory(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError("records are written to a directory of this machine: see sonar-data(5)")
    return Path(text)
