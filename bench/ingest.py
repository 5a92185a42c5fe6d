"""What infiltrate takes: posts of 6 KB a second over kept connections, durable and not, from the same machine."""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INFILTRATE = Path(__file__).resolve().parents[1] / "libexec" / "infiltrate"
SECONDS = 5
CONNECTIONS = 64
LINES = 30


def request(host: int) -> bytes:
    """Return a post of one run of a sampler: 30 processes of a host, about 6 KB."""
    line = (
        "v=0.12.1,time=2026-03-01T10:00:00+01:00,host=c1-{host},user=user{n:03},cmd=python,job={n},pid={n},cpu%=98.5,"
        "cpukib=123456789,rssanonkib=98765432,gpus=none,cputime_sec=123456,ppid=1,cores=128,gpu%=0,gpumem%=0,gpukib=0\n"
    )
    body = "".join(line.format(host=host, n=n) for n in range(LINES)).encode()
    head = (
        "POST /sonar-freecsv?cluster=bench.example.org HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def client(port: int, host: int, end: float, times: list[float]) -> None:
    """Post until the end, one after the other, and note how long each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = request(host)
    while time.perf_counter() < end:
        began = time.perf_counter()
        writer.write(data)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode())
        times.append(time.perf_counter() - began)
    writer.close()


async def load(port: int) -> list[float]:
    """Return the times of all posts that the clients made."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    await asyncio.gather(*(client(port, host, end, times) for host in range(CONNECTIONS)))
    return sorted(times)


def measure(sync: str) -> str:
    """Return a row of the table for one way of syncing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        ports = root / "ports"
        options = ["--data", root / "data", "--allow-anonymous", "--listen", "127.0.0.1:0", "--fsync", sync]
        process = subprocess.Popen([sys.executable, INFILTRATE, *options, "--port-file", ports])
        while not ports.exists():
            if process.poll() is not None:
                raise SystemExit("infiltrate did not start")
            time.sleep(0.01)
        times = asyncio.run(load(int(ports.read_text().split()[2])))
        process.terminate()
        process.wait()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    percentile = statistics.quantiles(times, n=100)
    return (
        f"| `--fsync={sync}` | {len(times) / SECONDS:,.0f} | {percentile[49] * 1000:.1f} "
        f"| {percentile[98] * 1000:.1f} | {peak:.0f} |"
    )


def main() -> None:
    """Print the table; client and server share the cores, and the client is Python too."""
    print(f"### Posts of {len(request(0)) / 1000:.1f} KB, {CONNECTIONS} kept connections, {SECONDS} s\n")
    print("| infiltrate | posts/s | p50 ms | p99 ms | peak MB |\n|---|---|---|---|---|")
    for sync in ("group", "none"):
        print(measure(sync))


if __name__ == "__main__":
    main()
