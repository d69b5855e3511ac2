"""The fuzz run: every reader of the registries, each in a child process with bounded memory and time; see fuzz_readers.py for the command.

Input `number` of a reader is drawn from the seed, the reader's name and the number alone, so that it can be made again by itself.
"""
import importlib
import json
import mmap
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_damage as damage  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FAILED = ROOT / "figures/fuzz"  # ignored by git
ALLOWED = (ValueError, FileNotFoundError)  # UnsafeFileError is a ValueError
ROOM = 2 * 2**30  # bytes of address space above what is in use before the first input (threads of the video decoder reserve much)
HELD = 64  # MiB above the state after the valid file, as the readers promise
WAIT = 60  # seconds for one input
BATCH = 2000  # inputs of one child


@dataclass
class Reader:
    """One reader: `make(path)` writes a valid file near `path` and returns it, `read(path)` reads it."""
    name: str
    make: object
    read: object
    part: tuple = None
    area: str = ""


@dataclass
class Result:
    """What was counted for one reader."""
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    peak_mb: float = 0.0
    named: int = 0
    failures: list = field(default_factory=list)

    def add(self, other):
        for k in ("inputs", "refused", "accepted", "seconds", "named"): setattr(self, k, getattr(self, k) + getattr(other, k))
        for k in ("slowest_ms", "peak_mb"): setattr(self, k, max(getattr(self, k), getattr(other, k)))
        self.failures += [f for f in other.failures if f["kind"] not in {g["kind"] for g in self.failures}]
        return self


def readers():
    """Return all registered readers by name."""
    out = {}
    for file in sorted(Path(__file__).parent.glob("fuzz_registry_*.py")):
        for name, row in importlib.import_module(file.stem).READERS.items():
            assert name not in out, f"{file.name}: the name {name!r} is used twice"
            out[name] = Reader(name, *row, area=file.stem.removeprefix("fuzz_registry_"))
    return out


def slug(name):
    """Return a reader's name as a folder name."""
    return re.sub(r"\W+", "_", name)


class Target:
    """A reader with its valid file in a folder of its own; `damaged(number)` and `check(data)` do the rest."""

    def __init__(self, reader, folder, seed):
        self.reader, self.seed = reader, seed
        self.path = Path(reader.make(Path(folder) / "valid"))
        self.good = self.path.read_bytes()
        if reader.part:
            get, put = reader.part
            self.parts = [(get(self.good), lambda part: put(self.good, part))]
        else: self.parts = damage.parts_of(self.good)
        damage.VALID.update(part for part, _ in self.parts)
        reader.read(self.path)  # the undamaged file is read

    def place(self, which, steps):
        """Return the file with one of its parts damaged."""
        part, put = self.parts[which % len(self.parts)]
        return put(damage.apply(part, steps))

    def damaged(self, number):
        """Return input `number`."""
        rng = random.Random(f"{self.seed}/{self.reader.name}/{number}")
        which = 0 if rng.random() < 0.4 else rng.randrange(len(self.parts))
        return self.place(which, damage.random_steps(rng))

    def check(self, data, result):
        """Read damaged bytes; anything but a value or a declared error in one message is raised."""
        self.path.write_bytes(data)
        result.inputs += 1
        start = time.perf_counter()
        try: self.reader.read(self.path)
        except ALLOWED as e:
            text = str(e)
            result.refused += 1
            result.named += self.path.name in text or self.path.parent.name in text
            if not text.strip() or len(text) > 4000: raise AssertionError(f"a message of {len(text)} characters") from e
        else: result.accepted += 1
        finally: result.slowest_ms = max(result.slowest_ms, 1000 * (time.perf_counter() - start))


def where(error):
    """Return the kind of an error: its type and the line of the package it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/humanbody/" in f.filename] or frames
    return f"{type(error).__name__} in {Path(ours[-1].filename).name}:{ours[-1].name}:{ours[-1].lineno}"


def save_failure(target_name, seed, number, data, kind, text):
    """Keep a failing input and what happened, so that it can be repeated."""
    folder = FAILED / slug(target_name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{seed}_{number}.bin").write_bytes(data)
    (folder / f"{seed}_{number}.txt").write_text(f"{target_name}, seed {seed}, input {number}\n{kind}\n{text}\n")
    return dict(kind=kind, number=number, file=str((folder / f"{seed}_{number}.bin").relative_to(ROOT)))


def _status(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))


def bounded():
    """Bound the address space, start the count of the highest memory held, and return what is held now in MiB."""
    limit = int(_status("VmSize") * 2**20) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try: Path("/proc/self/clear_refs").write_text("5")
    except OSError: pass
    return _status("VmRSS")


def run_batch(reader, seed, first, count, folder, beat):
    """Try inputs first .. first + count - 1; every kind of failure is kept once."""
    result, start = Result(), time.perf_counter()
    target = Target(reader, folder, seed)
    before = bounded()
    for number in range(first, first + count):
        data = target.damaged(number)
        beat(number)
        try: target.check(data, result)
        except BaseException as e:
            kind = where(e)
            if kind not in {f["kind"] for f in result.failures}:
                result.failures.append(save_failure(reader.name, seed, number, data, kind, "".join(traceback.format_exception(e))))
            if isinstance(e, KeyboardInterrupt): break
    result.seconds = time.perf_counter() - start
    result.peak_mb = _status("VmHWM") - before
    if result.peak_mb > HELD + 4 * len(target.good) / 2**20:
        result.failures.append(dict(kind=f"memory: {result.peak_mb:.0f} MiB held above the valid file", number=first, file=""))
    return result


def run_hypothesis(reader, seed, count, folder, beat):
    """The same damage drawn and shrunk by hypothesis."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as set_seed
    from hypothesis import strategies as st

    result, start = Result(), time.perf_counter()
    target = Target(reader, folder, seed)
    bounded()
    step = st.tuples(st.sampled_from(damage.KINDS), st.integers(0, 10**6), st.integers(1, 300), st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from(damage.TOKENS)))
    last = {}

    @set_seed(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))
    @given(st.integers(0, len(target.parts) - 1), st.lists(step, min_size=1, max_size=3))
    def damaged(which, steps):
        data = target.place(which, steps)
        last.update(data=data, which=which, steps=steps)
        beat(result.inputs)
        target.check(data, result)

    try: damaged()
    except BaseException as e:
        result.failures.append(save_failure(reader.name, f"hypothesis{seed}", result.inputs, last.get("data", b""), where(e),
                                            f"part {last.get('which')}, steps {last.get('steps')}\n" + "".join(traceback.format_exception(e))))
    result.seconds = time.perf_counter() - start
    return result


def in_child(work, *args, wait=WAIT):
    """Run work(*args, folder, beat) in a child; return (Result or None, last number, what went wrong)."""
    shared, (here, there) = mmap.mmap(-1, 8), os.pipe()
    shared[:] = struct.pack("<q", -1)
    folder = tempfile.mkdtemp(prefix="humanbody_fuzz_", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(here)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)
            warnings.simplefilter("ignore")
            result = work(*args, folder, lambda n: shared.__setitem__(slice(0, 8), struct.pack("<q", n)))
            with os.fdopen(there, "w") as f: json.dump(result.__dict__, f)
            code = 0
        except BaseException:
            os.write(there, json.dumps(dict(error=traceback.format_exc())).encode())
        finally: os._exit(code)
    os.close(there)
    try: return _wait(child, here, shared, wait)
    finally: shutil.rmtree(folder, ignore_errors=True)


def _wait(child, pipe, shared, wait):
    """Wait for a child; kill it when its number stands still for too long."""
    number, since, wrong = -1, time.monotonic(), ""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = struct.unpack("<q", shared[:])[0]
        if pid: break
        if now != number: number, since = now, time.monotonic()
        elif time.monotonic() - since > wait + 60 * (number < 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            wrong, status = f"hang: more than {wait} s for one input", None
            break
        time.sleep(0.005)
    with os.fdopen(pipe) as f: text = f.read()
    if status and os.WIFSIGNALED(status): wrong = f"crash: the process was ended by signal {os.WTERMSIG(status)}"
    if wrong or not text: return None, now, wrong or "the child ended without a result"
    value = json.loads(text)
    return (None, now, value["error"]) if "error" in value else (Result(**value), now, "")


def try_reader(reader, seed, first, count):
    """Try `count` inputs in children; after a crash or a hang the input is kept and the next child goes on behind it."""
    total, at, end = Result(), first, first + count
    while at < end:
        result, number, wrong = in_child(run_batch, reader, seed, at, min(BATCH, end - at))
        if result is not None:
            total.add(result)
            at += min(BATCH, end - at)
            continue
        if number < 0: raise RuntimeError(f"{reader.name}: the valid file was not read: {wrong}")
        with tempfile.TemporaryDirectory() as folder: data = Target(reader, folder, seed).damaged(number)
        total.failures.append(save_failure(reader.name, seed, number, data, wrong, ""))
        redone = try_reader(reader, seed, at, number - at) if number > at else Result()
        total.add(redone).inputs += 1
        at = number + 1
        if len(total.failures) > 10: break
    return total
