"""Makes .venv with plain venv and pip: [gpu] where a driver that CUDA 13 accepts answers, the CPU install elsewhere.

Does nothing when pyproject.toml, constraints.txt, the interpreter and the choice are the same as last time.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".installed"
PIP = VENV / "bin" / "pip"
MINIMUM_DRIVER = 580
TORCH = "torch==2.13.0"
# Where PyTorch publishes its CPU builds; asked only when no configured index has one.
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
# Sums of the wheels that pip named on Python 3.11, x86_64.
DOWNLOAD = {"cpu": "about 0.8 GB", "gpu": "about 4 GB"}


def say(text: str) -> None:
    """Writes a line at once, so that it stands before pip's."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def driver() -> int | None:
    """Major version of the NVIDIA driver, or None where nvidia-smi does not answer."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    first = answer.stdout.strip().split(".")[0]
    return int(first) if answer.returncode == 0 and first.isdigit() else None


def choose() -> tuple[str, str]:
    """`gpu` or `cpu`, and why."""
    found = driver()
    if found is None:
        return "cpu", "no NVIDIA driver answers: CPU install"
    if found < MINIMUM_DRIVER:
        old = f"NVIDIA driver {found} is older than {MINIMUM_DRIVER}, which CUDA 13 needs"
        return "cpu", f"{old}: CPU install; update the driver for [gpu]"
    return "gpu", f"NVIDIA driver {found}: GPU install"


def wanted(choice: str) -> str:
    """Digest of everything that decides what is installed."""
    digest = hashlib.sha256(f"{choice} {sys.version} {platform.machine()}".encode())
    for name in ("pyproject.toml", "constraints.txt", "scripts/install.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def torch_source(choice: str) -> list[str]:
    """The extra index of CPU builds, where it is needed."""
    if choice == "gpu" or platform.system() != "Linux":
        return []
    probe = [str(PIP), "install", "-q", "--dry-run", "--no-deps", "--ignore-installed", f"{TORCH}+cpu"]
    has_cpu_build = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return [] if has_cpu_build else ["--extra-index-url", CPU_BUILDS]


def install(choice: str) -> None:
    """Creates the environment and installs the project into it, editable."""
    say(f"installing into {VENV} ({DOWNLOAD[choice]} to download on a fresh machine)")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    extras = "gpu,dev" if choice == "gpu" else "dev"
    command = [str(PIP), "install", "-q", "-c", str(ROOT / "constraints.txt"), *torch_source(choice)]
    subprocess.run([*command, TORCH, "-e", f"{ROOT}[{extras}]"], check=True)


def main() -> int:
    """Installs where something changed; 3 where the interpreter is not supported or pip fails."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        say(f"Python {platform.python_version()} is not supported: use 3.11, 3.12 or 3.13 (make PYTHON=python3.12 ...)")
        return 3
    choice, reason = choose()
    if STAMP.is_file() and STAMP.read_text() == wanted(choice):
        return 0
    say(reason)
    try:
        install(choice)
    except subprocess.CalledProcessError as error:
        say(f"installation failed (exit code {error.returncode}), see above; the same command again goes on")
        return 3
    STAMP.write_text(wanted(choice))
    return 0


if __name__ == "__main__":
    sys.exit(main())
