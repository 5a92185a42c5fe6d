"""What infiltrate takes: kept connections, durable and not, at half load, with TLS, and a whole cluster in one second.

The client shares the machine with the server, so it must cost little: it is wrk(1) where that is installed, and a bare
protocol of asyncio where it is not. Without wrk the figures are lower bounds. Each is the median of three rounds, with
the spread behind it; the CPU time is that of the server's process, and says more than the rest where cores are shared.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trustme

INFILTRATE = Path(__file__).resolve().parents[1] / "libexec" / "infiltrate"
SECONDS = 4
ROUNDS = 3
CONNECTIONS = 64
LINES = 30
HOSTS = 100
BURST = 1344
CLUSTER, PASSWORD = "bench.example.org", "pool"
PATH = f"/sonar-freecsv?cluster={CLUSTER}"
DURABLE, NOT_DURABLE = "`--fsync=group` (200 means on disk)", "`--fsync=none`"
AUTHORIZATION = "Basic " + base64.b64encode(f"{CLUSTER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Result:
    """What a load gave: posts answered with 200, others, and times in ms."""

    rate: float
    refused: int
    p50: float
    p99: float
    cpu_us: float = 0.0  # of the server, a post
    peak_mb: float = 0.0

    def of(self, server: "Server", posts: int) -> "Result":
        """Return the same with what so many posts have cost a server that has served nothing else."""
        return replace(self, cpu_us=server.cpu_s / posts * 1e6, peak_mb=server.peak_mb)


def body(host: int, lines: int = LINES) -> bytes:
    """Return a post of one run of a sampler: 30 processes of a host are about 6 KB."""
    line = (
        "v=0.12.1,time=2026-03-01T10:00:00+01:00,host=c1-{host},user=user{n:03},cmd=python,job={n},pid={n},cpu%=98.5,"
        "cpukib=123456789,rssanonkib=98765432,gpus=none,cputime_sec=123456,ppid=1,cores=128,gpu%=0,gpumem%=0,gpukib=0\n"
    )
    return "".join(line.format(host=host, n=n) for n in range(lines)).encode()


def request(host: int, lines: int = LINES, *, close: bool = False) -> bytes:
    """Return the whole request."""
    data = body(host, lines)
    fields = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: text/csv\r\n"
    fields += "Connection: close\r\n" if close else ""
    return f"{fields}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Server:
    """A running infiltrate."""

    def __init__(self, root: Path, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.root, self.process, self.port = root, process, port
        self._cpu_before_s = _cpu_s(process.pid)

    @property
    def cpu_s(self) -> float:
        """The CPU time it has used since it was ready."""
        return _cpu_s(self.process.pid) - self._cpu_before_s

    @property
    def peak_mb(self) -> float:
        """The most memory it has had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Run an infiltrate with a certificate for 127.0.0.1 and one user."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        (root / "passwords").touch(0o600)
        (root / "passwords").write_text(f"{CLUSTER}:{PASSWORD}\n")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(root / "ca.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(root / "tls.pem")
        files = {"--data": "data", "--password-file": "passwords", "--tls-cert": "tls.pem", "--tls-key": "tls.pem"}
        paths = [part for option, name in files.items() for part in (option, root / name)]
        command = [sys.executable, INFILTRATE, *paths, *options, "--port-file", root / "ports"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                while not (root / "ports").exists():
                    if process.poll() is not None:
                        raise SystemExit("infiltrate did not start")
                    time.sleep(0.01)
                yield Server(root, process, int((root / "ports").read_text().split()[2]))
            finally:
                process.terminate()


class Poster(asyncio.Protocol):
    """One kept connection: posts, waits for the answer, posts again, until the end; at most every `pause_s`."""

    def __init__(self, host: int, end: float, pause_s: float, times: list[float]) -> None:
        self.data, self.end, self.pause_s, self.times = request(host), end, pause_s, times
        self.refused = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.due = time.perf_counter() + self.pause_s * (hash(self) % 100) / 100
        asyncio.get_running_loop().call_later(max(0, self.due - time.perf_counter()), self.post)

    def post(self) -> None:
        """Send, unless it is time to end."""
        if time.perf_counter() > self.end:
            self.transport.close()
            return
        self.began = time.perf_counter()
        self.transport.write(self.data)

    def data_received(self, data: bytes) -> None:
        """Note an answer: all of them are short and come at once."""
        now = time.perf_counter()
        self.times.append(now - self.began)
        self.refused += not data.startswith(b"HTTP/1.1 200")
        self.due += self.pause_s
        if self.pause_s and self.due > now:
            asyncio.get_running_loop().call_later(self.due - now, self.post)
        else:
            self.post()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if not self.done.done():
            self.done.set_result(exc)


def result_of(times: Sequence[float], refused: int, seconds: float) -> Result:
    """Return the result of a load by its times in seconds."""
    percentile = statistics.quantiles(times, n=100)
    return Result((len(times) - refused) / seconds, refused, percentile[49] * 1000, percentile[98] * 1000)


def _same(poster: Poster) -> Poster:
    return poster


def post_by_protocol(server: Server, rate: float = 0.0) -> Result:
    """Post over kept connections, as fast as it goes or at a rate."""
    times: list[float] = []

    async def load() -> int:
        end = time.perf_counter() + SECONDS
        loop = asyncio.get_running_loop()
        pause_s = CONNECTIONS / rate if rate else 0.0
        posters = [Poster(host, end, pause_s, times) for host in range(CONNECTIONS)]
        for poster in posters:
            create = partial(_same, poster)
            await loop.create_connection(create, "127.0.0.1", server.port)
        await asyncio.gather(*(poster.done for poster in posters))
        return sum(poster.refused for poster in posters)

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        refused = runner.run(load())
    return result_of(times, refused, SECONDS)


def post_by_wrk(server: Server, *, tls: bool = False, close: bool = False) -> Result:
    """Post with wrk, as fast as it goes."""
    headers = {"Content-Type": "text/csv", "Authorization": AUTHORIZATION} | ({"Connection": "close"} if close else {})
    script = server.root / "load.lua"
    table = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    bodies = ", ".join(json.dumps(body(host).decode()) for host in range(HOSTS))
    script.write_text(
        f"local bodies, all, i = {{{bodies}}}, {{}}, 0\n"
        "function init() for n, one in ipairs(bodies) do "
        f'all[n] = wrk.format("POST", "{PATH}", {{{table}}}, one) end end\n'
        "function request() i = i % #all + 1; return all[i] end\n"
        "function done(summary, latency) print(string.format("
        '"RESULT %d %d %d %f %f", summary.requests, summary.errors.status, summary.duration, '
        "latency:percentile(50) / 1000, latency:percentile(99) / 1000)) end\n"
    )
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    match = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", done.stdout)
    assert match, done.stdout
    requests, errors, duration = (int(group) for group in match.groups()[:3])
    return Result((requests - errors) / duration * 1e6, errors, float(match[4]), float(match[5]))


def burst(server: Server) -> Result:
    """Let each node of a cluster post 4 to 64 KB over TLS, with a connection of its own, all in the same second."""
    context = ssl.create_default_context(cafile=str(server.root / "ca.pem"))
    times: list[float] = []
    refused: list[bytes] = []

    async def node(number: int) -> None:
        await asyncio.sleep(number / BURST)
        began = time.perf_counter()
        data = request(number, 20 + number * 300 // BURST, close=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(data)
        answer = await reader.readuntil(b"\r\n\r\n")
        times.append(time.perf_counter() - began)
        if not answer.startswith(b"HTTP/1.1 200"):
            refused.append(answer)
        writer.close()

    async def cluster() -> None:
        await asyncio.gather(*(node(number) for number in range(BURST)))

    import uvloop

    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cluster())
    return result_of(times, len(refused), time.perf_counter() - began)


def loads(rates: dict[str, float], *, has_wrk: bool) -> Iterator[tuple[str, Result]]:
    """Run each load once; `rates` are those that were found before, by name."""
    plain, secure = ("--listen", "127.0.0.1:0"), ("--listen-tls", "127.0.0.1:0")
    for name in (DURABLE, NOT_DURABLE):
        with serving(*plain, "--fsync", "none" if name is NOT_DURABLE else "group") as server:
            result = post_by_wrk(server) if has_wrk else post_by_protocol(server)
            rates.setdefault(name, result.rate)
            yield name, result.of(server, round(result.rate * SECONDS))
    with serving(*plain) as server:
        result = post_by_protocol(server, rates[DURABLE] / 2)
        yield "durable, at half that rate", result.of(server, round(result.rate * SECONDS))
    for name, close in (("TLS, durable", False), ("TLS, durable, a new connection each", True)) if has_wrk else ():
        with serving(*secure) as server:
            result = post_by_wrk(server, tls=True, close=close)
            yield name, result.of(server, round(result.rate * SECONDS))
    with serving(*secure) as server:
        yield f"{BURST:,} nodes in one second, 4-64 KB, TLS", burst(server).of(server, BURST)


def row(name: str, results: Sequence[Result]) -> str:
    """Return a row of the table: medians, and the spread of what varies."""

    def cell(values: Sequence[float], digits: int) -> str:
        middle = f"{statistics.median(values):,.{digits}f}"
        return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})" if len(values) > 1 else middle

    refused = sum(one.refused for one in results)
    return " | ".join(
        [
            f"| {name}",
            cell([one.rate for one in results], 0) + (f", {refused} refused" if refused else ""),
            f"{statistics.median(one.p50 for one in results):.1f}",
            cell([one.p99 for one in results], 1),
            cell([one.cpu_us for one in results], 0),
            f"{max(one.peak_mb for one in results):.0f} |",
        ]
    )


def main() -> None:
    """Print the table."""
    has_wrk = shutil.which("wrk") is not None
    found: dict[str, list[Result]] = {}
    rates: dict[str, float] = {}
    for number in range(ROUNDS):
        for name, result in loads(rates, has_wrk=has_wrk):
            found.setdefault(name, []).append(result)
            print(f"round {number + 1}: {name}: {result.rate:,.0f}/s", file=sys.stderr)
    print(
        f"### Posts of {len(body(1)) / 1000:.1f} KB, {CONNECTIONS} connections, {SECONDS} s, {ROUNDS} rounds; ", end=""
    )
    print(f"client: {'wrk' if has_wrk else 'Python'}, on the same cores\n")
    print("| infiltrate | posts/s | p50 ms | p99 ms | CPU µs a post | peak MB |\n|---|---|---|---|---|---|")
    for name, results in found.items():
        print(row(name, results))
    ratios = [one.rate / other.rate for one, other in zip(found[DURABLE], found[NOT_DURABLE], strict=True)]
    print(f"\ndurable : not: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


if __name__ == "__main__":
    main()
