"""`python -m bench peers [NAME ...]`: one virtual environment per peer in .peers/, as bench/peers/NAME.txt pins it.

Packages come from where pip is configured to find them, about 0.7 GB a peer. What is whole and as pinned is kept.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).resolve().parent
FOLDER = PINS.parent.parent / ".peers"


def names() -> list[str]:
    """All peers."""
    return sorted(path.stem for path in PINS.glob("*.txt"))


def python_of(name: str) -> Path | None:
    """The interpreter of a peer's environment; None where there is none, or one of other pins."""
    pinned, stamp = PINS / f"{name}.txt", _stamp(name)
    whole = stamp.is_file() and stamp.read_text() == pinned.read_text()
    return FOLDER / name / "bin" / "python" if whole else None


def _stamp(name: str) -> Path:
    return FOLDER / name / "pinned.txt"


def make(name: str) -> None:
    """Makes a peer's environment anew; the stamp that makes it count is written last.

    Raises:
        subprocess.CalledProcessError: pip could not install the pins, or they do not fit each other.
    """
    place, pinned = FOLDER / name, PINS / f"{name}.txt"
    shutil.rmtree(place, ignore_errors=True)
    pip = [str(place / "bin" / "python"), "-m", "pip"]
    for command in (
        [sys.executable, "-m", "venv", str(place)],
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(pinned)],
        [*pip, "check"],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    _stamp(name).write_text(pinned.read_text())


def main(arguments: list[str]) -> int:
    """Makes what is missing; 3 where an environment could not be made."""
    parser = argparse.ArgumentParser(prog="python -m bench peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names())}; by default all")
    chosen = parser.parse_args(arguments).names or names()
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"no peer is called '{unknown[0]}'; they are {', '.join(names())}")
    failed = False
    for name in chosen:
        if python_of(name):
            print(f"{name}: ready in {FOLDER / name}")
            continue
        print(f"{name}: making {FOLDER / name} from bench/peers/{name}.txt", flush=True)
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            failed = True
            said = (error.stderr or error.stdout).strip().splitlines() or [f"pip ended with code {error.returncode}"]
            print(f"{name}: FAILED: {said[-1]}")
    return 3 if failed else 0
