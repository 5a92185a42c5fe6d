"""Idle and dribbling connections cost nothing: how fast `/ping` and an upload are answered beside thousands of them.

`connections.py [IDLE DRIBBLING SECONDS]`, by default 10,000, 500 and 10. Exits with 1 if an idle connection was closed
or a request refused; and, with the default numbers, if `/ping` takes 100 ms or more at the 99th percentile.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INFILTRATE = Path(__file__).resolve().parents[1] / "libexec" / "infiltrate"
LINE = b"v=0.12.1,time=2026-03-01T10:00:00+01:00,host=c1-1,user=kim,cmd=python,job=1\n"
POST = b"POST /sonar-freecsv?cluster=bench.example.org HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LINE)
WORST_S = 0.1


def source(number: int) -> tuple[str, int]:
    """Return an address to connect from: one has too few ports for all."""
    return f"127.0.{1 + number // 5000}.1", 0


async def dribble(port: int, number: int, end: float) -> None:
    """Send an upload byte by byte, ten bytes a second."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source(number))
    data = (POST + LINE) * 100
    for at in range(len(data)):
        if time.monotonic() > end:
            break
        writer.write(data[at : at + 1])
        await asyncio.sleep(0.1)
    writer.close()


async def ask(port: int, request: bytes) -> float:
    """Make a request on a connection of its own; return how long it took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    span = time.monotonic() - began
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"refused: {answer.decode()}")
    return span


async def measure(port: int, idle: int, dribbling: int, seconds: float) -> dict[str, list[float]]:
    """Return the times of pings and uploads."""
    loop = asyncio.get_running_loop()
    waiting = []
    for first in range(0, idle, 100):
        count = min(100, idle - first)
        opened = [
            loop.create_connection(asyncio.Protocol, "127.0.0.1", port, local_addr=source(first)) for _ in range(count)
        ]
        waiting += await asyncio.gather(*opened)
    end = time.monotonic() + seconds + 2
    dribblers = [asyncio.create_task(dribble(port, 50_000 + number, end)) for number in range(dribbling)]
    await asyncio.sleep(2)
    times: dict[str, list[float]] = {"ping": [], "upload": []}
    while time.monotonic() < end:
        times["ping"].append(await ask(port, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"))
        times["upload"].append(await ask(port, POST + LINE))
        await asyncio.sleep(0.01)
    still_there = sum(not transport.is_closing() for transport, _ in waiting)
    if still_there < idle:
        raise SystemExit(f"{idle - still_there} idle connections were closed")
    for task in dribblers:
        task.cancel()
    await asyncio.gather(*dribblers, return_exceptions=True)
    for transport, _ in waiting:
        transport.close()
    return times


def main() -> int:
    """Print a table; return the exit status."""
    given = [float(argument) for argument in sys.argv[1:]]
    idle, dribbling, seconds = given or (10_000.0, 500.0, 10.0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        ports = root / "ports"
        options = ["--data", root / "data", "--allow-anonymous", "--listen", "127.0.0.1:0", "--port-file", ports]
        process = subprocess.Popen([sys.executable, INFILTRATE, *options], stderr=subprocess.DEVNULL)
        try:
            while not ports.exists():
                if process.poll() is not None:
                    raise SystemExit("infiltrate did not start")
                time.sleep(0.01)
            port = int(ports.read_text().split()[2])
            times = asyncio.run(measure(port, int(idle), int(dribbling), seconds))
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            process.wait()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(f"### {idle:,.0f} idle connections and {dribbling:,.0f} that send ten bytes a second; peak {peak:.0f} MB\n")
    print("| | number | p50 ms | p99 ms |\n|---|---|---|---|")
    worst = 0.0
    for name, spans in times.items():
        percentile = statistics.quantiles(spans, n=100)
        print(f"| {name} | {len(spans)} | {percentile[49] * 1000:.1f} | {percentile[98] * 1000:.1f} |")
        worst = percentile[98] if name == "ping" else worst
    return int(worst >= WORST_S and not given)


if __name__ == "__main__":
    sys.exit(main())
