"""Builds the kernels with the machine's own C++ compiler, once, and loads them.

Plain C++ without torch's headers: it compiles in seconds, for the very processor it runs on, and needs no other
build of torch than the one that is installed. Without a compiler there are no kernels, and everything runs in torch.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from lit_maprops.system.threads import cores

PACKAGE = Path(__file__).parent.parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math")
COMPILE = ("-I", str(PACKAGE / "native"), "-c")
LONGEST = ("rollout.cpp", "ppo.cpp")  # units, by the time that they take
SECONDS = 300  # for the compiler, on a busy machine


class NoKernels(Exception):
    """Why there are none, in a line."""


def sources() -> list[Path]:
    """All files of C++ in the package, in a fixed order."""
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".cpp", ".hpp"))


def compiler() -> str | None:
    """The C++ compiler to use: ``CXX`` if set, else the first one found."""
    named = os.environ.get("CXX")
    return next(
        (found for name in ([named] if named else ["g++", "clang++", "c++"]) if (found := shutil.which(name))), None
    )


@cache
def library() -> ctypes.CDLL:
    """The kernels.

    Raises:
        NoKernels: there is no compiler, it failed, or there is nowhere to build.
    """
    try:
        path = _path()
    except OSError as error:  # neither a home nor a temporary folder
        raise NoKernels(f"there is no folder for kernels ({error})") from None
    if not path.exists():
        _compile(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoKernels(f"{path} does not load ({error})") from None


def run(kernel: str, arguments: ctypes.Structure) -> None:
    """Call a kernel.

    Args:
        kernel: its name in the library, without ``lit_maprops_``.
        arguments: what it reads and where it writes.

    Raises:
        MemoryError: there was not enough for it.
    """
    if not getattr(library(), f"lit_maprops_{kernel}")(ctypes.byref(arguments)):
        raise MemoryError(f"the kernel {kernel} ran out of memory")


def why_none() -> str | None:
    """Why there are no kernels here; None: there are."""
    try:
        library()
    except NoKernels as reason:
        return str(reason)
    return None


def _path() -> Path:
    """Where this machine's kernels are, or will be: in the user's cache, named after all that they depend on."""
    print_ = hashlib.sha256(" ".join((compiler() or "", *FLAGS, platform.machine(), _processor())).encode())
    for source in sources():
        print_.update(source.read_bytes())
    return _folder() / f"kernels-{print_.hexdigest()[:24]}.so"


def _processor() -> str:
    """What tells processors apart for which ``-march=native`` means different things, as those of a cluster's nodes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({line for line in lines if line.startswith(("flags", "model name", "Features"))}))


def _folder() -> Path:
    """A folder of the user's own, in which nobody else can put code."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        folder = cache_home / "lit_maprops"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return folder
    except (OSError, RuntimeError):
        pass
    return _own_folder()


@cache
def _own_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="lit_maprops-kernels-"))


def _compile(path: Path) -> None:
    found = compiler()
    if found is None:
        raise NoKernels("there is no C++ compiler: install g++ or name one in CXX")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            objects = {unit: str(Path(folder) / f"{number}.o") for number, unit in enumerate(_units())}
            # Side by side, since the first run waits for it.
            with ThreadPoolExecutor(cores()) as pool:
                list(pool.map(lambda unit: _call(found, *COMPILE, str(unit), "-o", objects[unit]), objects))
            _call(found, *objects.values(), "-o", str(built))
            os.replace(built, path)
    except (OSError, subprocess.TimeoutExpired) as error:  # a home that is read-only or full, too
        raise NoKernels(f"{found} did not compile the kernels ({error})") from None


def _units() -> list[Path]:
    """What is compiled by itself; first what takes longest, so that nothing long is left for the end."""
    units = [source for source in sources() if source.suffix == ".cpp"]
    return sorted(units, key=lambda unit: unit.name not in LONGEST)


def _call(found: str, *arguments: str) -> None:
    """Have the compiler do something; what it says goes no further than its first error."""
    done = subprocess.run([found, *FLAGS, *arguments], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), "it said nothing")
        raise NoKernels(f"{found} did not compile the kernels ({said.strip()})")
