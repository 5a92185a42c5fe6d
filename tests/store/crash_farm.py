"""Break off a process that writes the store at each of its system calls, and look at what a new process makes of it.

Run as a program, because it forks: `crash_farm.py MODE SEED` prints what was wrong, and last how many crashes it made.

    kill    what the process has done up to the call stays (kill -9)
    power   only what has been synced stays: contents by fsync of the file, names by fsync of the directory
    mixed   of what has not been synced some stays and some does not
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from sonar.store import distribute, spool
from sonar.store.layout import Append
from sonar.store.store import Store, StoreUnavailableError

RECORDS = 10
SHM = Path("/dev/shm")
CRASHED = 77

Tree = dict[str, Any]  # name -> bytes of a file or Tree of a directory


class Disk:
    """Stands between the store and `os`: counts calls, ends the process at one of them, knows what is synced."""

    def __init__(self, root: Path, crash_at: int, mode: str, seed: int) -> None:
        self.root, self.crash_at, self.mode = root, crash_at, mode
        self.random = random.Random(seed)
        self.steps = 0
        self.lock = threading.RLock()
        self.write_real = os.write
        self.contents: dict[int, bytes] = {}  # inode -> synced content
        self.names: dict[int, dict[str, tuple[int, bool]]] = {}  # inode of directory -> synced names
        self.note_all_as_synced(root)

    def note_all_as_synced(self, directory: Path) -> None:
        self.note(directory)
        for path in directory.iterdir():
            if path.is_dir():
                self.note_all_as_synced(path)
            else:
                self.note(path)

    def note(self, path: Path | int) -> None:
        status = os.stat(path)  # noqa: PTH116  (a descriptor, too)
        if stat.S_ISDIR(status.st_mode):
            entries = list(os.scandir(path))
            self.names[status.st_ino] = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
        else:
            # Opened anew, since the descriptor may be one to write only.
            where = Path(f"/proc/self/fd/{path}") if isinstance(path, int) else path
            self.contents[status.st_ino] = where.read_bytes()
            if isinstance(path, Path):
                os.open(path, os.O_RDONLY)  # as above

    def install(self) -> None:
        for name in ("open", "mkdir", "write", "ftruncate", "fsync", "fdatasync", "rename", "unlink"):
            setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self.steps += 1
                if self.steps == self.crash_at:
                    if name == "write" and self.random.random() < 0.7:
                        real(args[0], bytes(args[1])[: self.random.randrange(len(args[1]))])
                    self.crash()
                result = real(*args, **kwargs)
                if name == "open":
                    os.dup(result)  # keeps the inode's number from being given to another file
                if name in {"fsync", "fdatasync"}:
                    self.note(args[0])
                return result

        return call

    def crash(self) -> None:
        if self.mode != "kill":
            tree = self.survivors(self.root)
            self.root.with_suffix(".tree").write_bytes(pickle.dumps(tree))
        os._exit(CRASHED)

    def survivors(self, directory: Path) -> Tree:
        now = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(directory)}
        return self.tree(directory.stat().st_ino, now, directory)

    def tree(self, inode: int, now: dict[str, tuple[int, bool]], directory: Path | None) -> Tree:
        synced = self.names.get(inode, {})
        tree: Tree = {}
        for name in sorted(now.keys() | synced.keys()):
            entry, path = synced.get(name), None
            if self.luck() and directory is not None:
                entry = now.get(name)
            if entry is None:
                continue
            number, is_directory = entry
            if directory is not None and now.get(name) == entry:
                path = directory / name
            if is_directory:
                inner = {e.name: (e.inode(), e.is_dir()) for e in os.scandir(path)} if path else {}
                tree[name] = self.tree(number, inner, path)
            elif path is not None and self.luck():
                tree[name] = path.read_bytes()
            else:
                tree[name] = self.contents.get(number, b"")
        return tree

    def luck(self) -> bool:
        return self.mode == "mixed" and self.random.random() < 0.5


def work(root: Path, answered: Path, first: int, count: int) -> None:
    """Append numbered records; note the number of each that was answered."""
    store = Store(root)
    with answered.open("a") as notes:
        for number in range(first, first + count):
            appends = [
                Append(f"c/2024/03/{1 + number % 2:02}/h{number % 3}.csv", f"n={number},x={'y' * 20}\n".encode())
            ]
            if number % 4 == 0:
                appends.append(Append("d/2024/03/01/other.csv", f"n={number},other\n".encode()))
            with contextlib.suppress(StoreUnavailableError):
                store.append_and_wait(appends)
                notes.write(f"{number}\n")
                notes.flush()
    store.close()


def in_child(job: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            job()
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def build(tree: Tree, directory: Path) -> None:
    directory.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            build(content, directory / name)
        else:
            (directory / name).write_bytes(content)


def run_with_crash(root: Path, answered: Path, crash_at: int, mode: str, seed: int, first: int, count: int) -> bool:
    """Return whether the work came to its end."""

    def job() -> None:
        Disk(root, crash_at, mode, seed).install()
        work(root, answered, first, count)

    status = in_child(job)
    if status == CRASHED and mode != "kill":
        tree = pickle.loads(root.with_suffix(".tree").read_bytes())
        shutil.rmtree(root)
        build(tree, root)
    if status not in {0, CRASHED}:
        print(f"crash at {crash_at}: exit status {status}")
    return status != CRASHED


def check(root: Path, answered: Path, label: str) -> None:
    numbers: list[str] = []
    for path in sorted(root.glob("c/*/*/*/*.csv")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            text = line.decode(errors="replace")
            number = text.partition(",")[0][2:]
            if text != f"n={number},x={'y' * 20}":
                print(f"{label}: torn line {text!r} in {path}")
            numbers.append(number)
        if path.read_bytes() and not path.read_bytes().endswith(b"\n"):
            print(f"{label}: no newline at the end of {path}")
    for number in set(numbers):
        if numbers.count(number) > 1:
            print(f"{label}: {number} is there {numbers.count(number)} times")
    if lost := set(answered.read_text().split()) - set(numbers):
        print(f"{label}: answered but lost: {sorted(lost)}")
    if rest := [path.name for path in (root / ".spool").glob("*.wal")]:
        print(f"{label}: left in the spool: {rest}")


def main() -> None:
    mode, seed = sys.argv[1], int(sys.argv[2])
    spool.SEGMENT_BYTES = 256
    crashes = 0
    # In memory, where there is such a place: what a sync does is modelled here, and need not be waited for.
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as scratch:
        for interval in (0.0, 1000.0):
            distribute.CHECKPOINT_S = interval
            crash_at, is_done = 0, False
            while not is_done:
                crash_at += 1
                root, answered = Path(scratch, f"data{interval}-{crash_at}"), Path(scratch, "answered")
                root.mkdir()
                answered.write_text("")
                is_done = run_with_crash(root, answered, crash_at, mode, seed + crash_at, 0, RECORDS)
                again = random.Random(seed * 1000 + crash_at).randrange(1, 60)
                crashes += not is_done
                crashes += not run_with_crash(root, answered, again, mode, seed + crash_at, 100, 3)
                run_with_crash(root, answered, 0, "kill", 0, 200, 1)
                check(root, answered, f"{mode} {seed}, every {interval} s, crashes at {crash_at} and {again}")
                shutil.rmtree(root)
    print(json.dumps({"crashes": crashes}))


if __name__ == "__main__":
    main()
