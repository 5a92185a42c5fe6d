"""Fuzz each target for a while: `python -m tests.fuzz [--seconds N] [TARGET…]`.

Inputs that reach new code are kept in build/fuzz/TARGET, where the next run goes on. One that breaks an invariant, or
takes seconds, is left in build/fuzz/found and fails the run: mend what it broke, and put it into the corpus.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz import check_of, seeds_of, targets

_SCRATCH = Path(__file__).resolve().parents[2] / "build" / "fuzz"
_LONGEST_INPUT = 4096
_SLOW_S = 10
_ROUND_S = 120  # atheris does not free all that it has compared


def main(argv: list[str]) -> int:
    """Return 1 if a target broke."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="Fuzz parsers.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[[], *targets()])
    options = parser.parse_args(argv)
    broken = [target for target in options.targets or targets() if _run(target, options.seconds)]
    if broken:
        print(f"broken: {', '.join(broken)}; see {_SCRATCH / 'found'}")
    return bool(broken)


def _run(target: str, seconds: int) -> int:
    """Fuzz in processes of their own, which libFuzzer ends as it likes; return the exit status of one that failed."""
    status = 0
    for past in range(0, seconds, _ROUND_S):
        span = min(_ROUND_S, seconds - past)
        print(f"==== {target}, {span} s", flush=True)
        if (pid := os.fork()) == 0:
            _fuzz(target, span)
            sys.exit(1)  # by way of libFuzzer, which keeps the input
        status = status or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status


def _fuzz(target: str, seconds: int) -> None:
    import atheris

    kept, found = _SCRATCH / target, _SCRATCH / "found"
    for directory in (kept, found):
        directory.mkdir(parents=True, exist_ok=True)
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["sonar", "tests.fuzz"]):
        check = check_of(target)
        for seed in sorted(seeds_of(target).iterdir()):
            check(seed.read_bytes())  # so that what is imported by need is instrumented too
    options = {
        "max_total_time": seconds,
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
