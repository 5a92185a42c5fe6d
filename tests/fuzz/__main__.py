"""Fuzz each target for a while: `python -m tests.fuzz [--seconds N | --runs N] [--state DIR] [TARGET…]`.

Inputs that reach new code are kept in DIR/TARGET (build/fuzz/TARGET), where the next run goes on. One that breaks an
invariant, or takes seconds, is left in DIR/found and fails the run: mend what it broke, and put it into the corpus. A
number of runs in an empty DIR tries the same inputs each time.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz import check_of, seeds_of, targets

_STATE = Path(__file__).resolve().parents[2] / "build" / "fuzz"
_LONGEST_INPUT = 4096
_SLOW_S = 10
_ROUND_S = 120  # atheris does not free all that it has compared


def main(argv: list[str]) -> int:
    """Return 1 if a target broke."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="Fuzz parsers.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=int, default=60, help="for each target")
    length.add_argument("--runs", type=int, help="for each target, whatever they take")
    parser.add_argument("--state", type=Path, default=_STATE, metavar="DIR")
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[[], *targets()])
    options = parser.parse_args(argv)
    rounds = [min(_ROUND_S, options.seconds - past) for past in range(0, options.seconds, _ROUND_S)]
    limits = [{"seed": 1, "runs": options.runs}] if options.runs else [{"max_total_time": span} for span in rounds]
    broken = [target for target in options.targets or targets() if _run(target, limits, options.state)]
    if broken:
        print(f"broken: {', '.join(broken)}; see {options.state / 'found'}")
    return bool(broken)


def _run(target: str, limits: list[dict[str, int]], state: Path) -> int:
    """Fuzz in processes of their own, which libFuzzer ends as it likes; return the exit status of one that failed."""
    status = 0
    for limit in limits:
        print(f"==== {target}, {limit}", flush=True)
        if (pid := os.fork()) == 0:
            _fuzz(target, limit, state)
            sys.exit(1)  # by way of libFuzzer, which keeps the input
        status = status or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status


def _fuzz(target: str, limit: dict[str, int], state: Path) -> None:
    import atheris

    kept, found = state / target, state / "found"
    for directory in (kept, found):
        directory.mkdir(parents=True, exist_ok=True)
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["sonar", "tests.fuzz"]):
        check = check_of(target)
        for seed in sorted(seeds_of(target).iterdir()):
            check(seed.read_bytes())  # so that what is imported by need is instrumented too
    options = {
        **limit,
        "max_len": _LONGEST_INPUT,
        "timeout": _SLOW_S,
        "artifact_prefix": f"{found}/{target}-",
        "print_final_stats": 1,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(kept), str(seeds_of(target))], check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
