"""Damaged checkpoints are refused: no code, no crash, no hang, no memory, no wrong weights."""

from __future__ import annotations

import copy
import encodings.cp437  # noqa: F401 (imported by zipfile for names that are not ASCII)
import json
import random
import signal
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adatom.checkpoint.description import describe
from adatom.checkpoint.format import load_potential, read_description, save_potential
from adatom.checkpoint.weights import fingerprint
from adatom.core.errors import AdatomError

if not sys.platform.startswith("linux"):
    pytest.skip("limits memory as Linux does", allow_module_level=True)
resource = pytest.importorskip("resource")

#: Of each kind of file.
VARIANTS = 500
#: Of files whose checksums are made right again.
CONSTRUCTED = 160
SECONDS = 10
#: More than loading these small files needs, less than a wrong size asks for.
SPARE_BYTES = 2**29

#: What a reader of data has no reason to do.
FORBIDDEN = (
    "exec", "compile", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen",
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink",
    "os.truncate", "os.putenv", "shutil.", "socket.", "tempfile.",
)  # fmt: skip


class HangingError(BaseException):
    """Not an Exception: no reader may catch it."""


class Watch:
    """Notes forbidden events while it is on; audit hooks cannot be taken off again."""

    def __init__(self):
        self.on = False
        self.seen = []
        sys.addaudithook(self.note)

    def note(self, event, arguments):
        if not self.on:
            return
        writes = event == "open" and set(str(arguments[1] or "r")) & set("wax+")
        if writes or event.startswith(FORBIDDEN):
            self.seen.append((event, str(arguments)[:80]))


WATCH = Watch()


@contextmanager
def guarded():
    """Limit time and memory, and watch what is done."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)

    def too_long(*_):
        raise HangingError

    previous = signal.signal(signal.SIGALRM, too_long)
    WATCH.seen.clear()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, limits[1]))
    signal.alarm(SECONDS)
    WATCH.on = True
    try:
        yield
    finally:
        WATCH.on = False
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, previous)
    assert WATCH.seen == []


def damaged(whole, random_numbers):
    """Return a variant of a file: bits flipped, bytes inserted, cut off, overwritten or moved."""
    data = bytearray(whole)
    # Half of the damage lies where the structure is described: at both ends.
    near = min(len(data), 3000)

    def place():
        choice = random_numbers.random()
        if choice < 0.25:
            return random_numbers.randrange(near)
        if choice < 0.5:
            return len(data) - 1 - random_numbers.randrange(near)
        return random_numbers.randrange(len(data))

    kind = random_numbers.choice(["flip", "flip", "flips", "insert", "cut", "zeros", "copy", "ff"])
    if kind.startswith("flip"):
        for _ in range(1 if kind == "flip" else 8):
            data[place()] ^= 1 << random_numbers.randrange(8)
    elif kind == "insert":
        at = place()
        data[at:at] = random_numbers.randbytes(random_numbers.randrange(1, 9))
    elif kind == "cut":
        del data[place() :]
    elif kind == "zeros":
        at = place()
        data[at : at + 8] = bytes(len(data[at : at + 8]))
    elif kind == "ff":
        # Sizes and offsets become huge.
        at = place()
        data[at : at + 4] = b"\xff" * len(data[at : at + 4])
    else:
        source, at = place(), place()
        data[at : at + 64] = data[source : source + len(data[at : at + 64])]
    return bytes(data)


def same(a, b):
    weights, others = a.state_dict(), b.state_dict()
    return (
        describe(a) == describe(b)
        and set(weights) == set(others)
        and all(torch.equal(weights[name], others[name]) for name in weights)
    )


@pytest.fixture(scope="module", params=[".pt", ".safetensors"])
def file(request, tmp_path_factory):
    official = Path(__file__).parent / "official" / "uma_s_1p2.pt"
    path = tmp_path_factory.mktemp("fuzz") / f"tiny{request.param}"
    if request.param == ".pt":
        path.write_bytes(official.read_bytes())
    else:
        save_potential(load_potential(official), path)
    return path


def attempt(read, path):
    """Return what a reader gives, or None if it refuses; anything else is a failure."""
    message = path.stem
    result = None
    try:
        with guarded():
            result = read(path)
    except AdatomError as error:
        message = str(error)
    assert path.stem in message
    assert len(message) < 3000
    return result


def test_damaged_files_are_refused_or_harmless(file, tmp_path):
    whole = file.read_bytes()
    original = load_potential(file)
    variant = tmp_path / file.name
    random_numbers = random.Random(20240607)
    refused = 0
    for number in range(VARIANTS):
        variant.write_bytes(damaged(whole, random_numbers))
        attempt(read_description, variant)
        result = attempt(load_potential, variant)
        refused += result is None
        # Not every byte matters: the weights that only training needs, padding, dates.
        assert result is None or same(result, original), number
    assert refused > VARIANTS // 3


def test_a_damaged_program_with_a_right_checksum_does_nothing(tmp_path):
    """The settings of an official file are a pickle, and who made it may have meant harm."""
    official = Path(__file__).parent / "official" / "uma_s_1p2.pt"
    with zipfile.ZipFile(official) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (program,) = (name for name in entries if name.endswith("data.pkl"))
    load_potential(official)
    random_numbers = random.Random(20240608)
    variant = tmp_path / "program.pt"
    refused = 0
    for _ in range(CONSTRUCTED):
        with zipfile.ZipFile(variant, "w", zipfile.ZIP_STORED) as archive:
            for name, contents in entries.items():
                data = damaged(contents, random_numbers) if name == program else contents
                archive.writestr(name, data)
        attempt(read_description, variant)
        refused += attempt(load_potential, variant) is None
    assert refused > CONSTRUCTED // 3


def test_a_wrong_description_with_a_right_fingerprint_does_nothing(tmp_path):
    original = tmp_path / "original.safetensors"
    save_potential(load_potential(Path(__file__).parent / "official" / "uma_s_1p2.pt"), original)
    description = read_description(original)
    tensors = load_file(original)
    random_numbers = random.Random(20240609)
    variant = tmp_path / "described.safetensors"
    for _ in range(CONSTRUCTED // 2):
        changed = copy.deepcopy(description)
        places = list(leaves(changed))
        parent, key = random_numbers.choice(places)
        parent[key] = random_numbers.choice(WRONG)
        changed["sha256"] = fingerprint(changed, tensors)
        save_file(tensors, variant, metadata={"adatom": json.dumps(changed)})
        attempt(read_description, variant)
        attempt(load_potential, variant)


#: Values that no entry expects; each in the place of any other.
WRONG = [None, True, -1, 0, 10**6, 10**15, 1e300, "", "x", [], {}, [[]], ["a"], {"a": 1}]


def leaves(value):
    """Yield parent and key of each entry of nested dicts and short lists."""
    if len(value) > 20 and isinstance(value, list):
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from leaves(item)


def test_the_guard_sees_what_it_shall_see(tmp_path):
    for action in (lambda: exec("1"), lambda: (tmp_path / "x").write_text("y")):
        with pytest.raises(AssertionError), guarded():
            action()
    with pytest.raises(MemoryError), guarded():
        bytearray(2**31)
