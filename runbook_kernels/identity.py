"""The identity of a parent: two hashes of everything that a forked process can no longer change.

The scope covers interpreter, options, start-up environment, limits, namespaces and the preloaded modules. The
fingerprint covers the code: a changed file or installed version leads to a new parent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runbook_kernels import settings

# Variables that are read while an interpreter starts or a library is loaded: a fork is too late for them. No other
# variable reaches the parent: no credentials, no proxies, no tokens.
_KEPT = re.compile(
    r"PYTHON[A-Z0-9]+|PYTHON_(CPU_COUNT|FROZEN_MODULES|GIL|JIT)|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ"
    r"|LD_(LIBRARY_PATH|PRELOAD)|GLIBC_TUNABLES|MALLOC_[A-Z_]+|OPENSSL_(CONF|MODULES|ia32cap)"
    r"|(OMP|OPENBLAS|MKL|NUMEXPR|BLIS)_NUM_THREADS|JUPYTER_WIDGETS_ECHO"
)
_STATUS = re.compile(r"(Uid|Gid|Groups|Cap\w+|NoNewPrivs|Seccomp|Cpus_allowed_list|Mems_allowed_list):.*")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True)
class ServerSpec:
    """The options, preloaded modules, environment and idle time that a parent is started with."""

    options: tuple[str, ...]
    preload: tuple[str, ...]
    environment: Mapping[str, str]
    idle_seconds: float

    @classmethod
    def of(cls, environment: Mapping[str, str], options: tuple[str, ...] = ()) -> ServerSpec:
        """Return the parent for a kernel with this `environment` and these interpreter options."""
        return cls(
            options=options,
            preload=settings.preload(environment),
            environment={name: value for name, value in sorted(environment.items()) if _KEPT.fullmatch(name)},
            idle_seconds=settings.idle_seconds(environment),
        )


@dataclass(frozen=True)
class Identity:
    """The name of a parent: `scope` and `fingerprint`, hexadecimal."""

    scope: str
    fingerprint: str

    @property
    def name(self) -> str:
        """Return the name of the parent's socket."""
        return f"{self.scope}-{self.fingerprint}"


def identify(spec: ServerSpec) -> Identity:
    """Return the identity of the parent for `spec`, for this process and the current state of the code."""
    return Identity(scope=_digest(_scope(spec)), fingerprint=_digest(list(_code(spec.preload))))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _scope(spec: ServerSpec) -> list[Any]:
    status = Path("/proc/self/status").read_text()
    return [
        [sys.executable, sys.prefix, sys.version, str(Path(__file__).parent)],
        [spec.options, spec.preload, dict(spec.environment), spec.idle_seconds],
        [match.group() for match in _STATUS.finditer(status)],
        [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES],
        [Path("/proc/self/cgroup").read_text(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)],
        [resource.getrlimit(limit) for name, limit in sorted(vars(resource).items()) if name.startswith("RLIMIT_")],
    ]


def _code(preload: tuple[str, ...]) -> Iterator[list[Any]]:
    """Yield what identifies the state of the code.

    For installed distributions: the metadata folders, which carry the versions. For packages elsewhere (a working
    copy): every file with its modification time and size, including the packages in the same folder.
    """
    sites = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    for site in sites:
        for entry in _sorted_entries(site):
            if entry.name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth")):
                yield [entry.path, entry.stat().st_mtime_ns]
    installed = (*sites, Path(sysconfig.get_path("stdlib")))
    names = {spec.partition(":")[0].partition(".")[0] for spec in (*preload, __name__)}
    for name in sorted(names):
        for place in _places(name):
            if not any(place.is_relative_to(site) for site in installed):
                for package in _beside(place):
                    yield from _files(package)


def _places(name: str) -> list[Path]:
    """Return the paths of the top-level module `name`, without importing it."""
    try:
        found = find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        return []
    if found is None:
        return []
    if found.submodule_search_locations is not None:
        return [Path(place) for place in found.submodule_search_locations]
    return [Path(found.origin)] if found.has_location and found.origin else []


def _beside(place: Path) -> list[Path]:
    """Return `place` and, if it is a package, the other packages in its folder: one working copy."""
    if place.is_file():
        return [place]
    found = {
        Path(entry.path) for entry in _sorted_entries(place.parent) if (Path(entry.path) / "__init__.py").is_file()
    }
    return sorted({place, *found})


def _files(place: Path) -> Iterator[list[Any]]:
    if place.is_file():
        found = place.stat()
        yield [str(place), found.st_mtime_ns, found.st_size]
        return
    for entry in _sorted_entries(place):
        if entry.name.startswith((".", "__pycache__")) or entry.name.endswith("~"):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            found = entry.stat()
            yield [entry.path, found.st_mtime_ns, found.st_size]


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # on sys.path, but missing
        return []
