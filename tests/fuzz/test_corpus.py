"""What the fuzzer has found to break something, and the seeds that it begins with."""

from pathlib import Path

import pytest

from tests.fuzz import check_of, seeds_of, targets

SEEDS = [path for target in targets() for path in sorted(seeds_of(target).iterdir())]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_known_inputs_break_nothing(seed: Path) -> None:
    check_of(seed.parent.name)(seed.read_bytes())
