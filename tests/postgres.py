"""A PostgreSQL of the tests' own: started once per process in a temporary folder, without a port of the network."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
# `secretive` needs its password, everybody else is let in.
ACCESS = "local all secretive scram-sha-256\nlocal all all trust\n"
SETTINGS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "timezone=America/New_York")


def program(name: str) -> str | None:
    """A program of PostgreSQL: on the path, else the newest in the folders that packages use."""
    found = sorted((path for folder in FOLDERS for path in Path("/").glob(f"{folder[1:]}/{name}")), key=_version)
    return shutil.which(name) or (str(found[-1]) if found else None)


def _version(path: Path) -> float:
    digits = "".join(letter for letter in path.parent.parent.name if letter.isdigit() or letter == ".")
    return float(digits or 0)


def _account() -> dict[str, Any]:
    """PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Postgres:
    """A running server with one database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._account = _account()
        if self._account:
            os.chown(folder, self._account["user"], self._account["group"])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Of the database, for the user `reader`."""
        return f"postgresql:///postgres?host={self.folder}&user=reader"

    def start(self) -> None:
        """Makes the database and waits until the server answers."""
        data = self.folder / "data"
        command = [str(program("initdb")), "-D", str(data), "-U", "reader", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*command, "--auth=trust"], check=True, capture_output=True, text=True, **self._here())
        (data / "pg_hba.conf").write_text(ACCESS)
        settings = [
            part for setting in (*SETTINGS, f"unix_socket_directories={self.folder}") for part in ("-c", setting)
        ]
        with (self.folder / "log").open("wb") as log:
            command = [str(program("postgres")), "-D", str(data), *settings]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._here())
        self._wait()

    def _here(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, **self._account}

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OSError((self.folder / "log").read_text()[-500:])
            time.sleep(0.02)

    def _answers(self) -> bool:
        import adbc_driver_postgresql.dbapi as driver

        try:
            driver.connect(self.uri).close()
        except driver.Error:
            return False
        return True

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *commands: str) -> None:
        """Runs commands."""
        import adbc_driver_postgresql.dbapi as driver

        with driver.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for command in commands:
                cursor.execute(command)

    def fill(self, name: str, table: pa.Table) -> None:
        """Makes a table of these rows; one of that name goes."""
        import adbc_driver_postgresql.dbapi as driver

        with driver.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(name, table, mode="replace")


@cache
def _started() -> Postgres | str:
    lacking = [name for name in ("initdb", "postgres") if program(name) is None]
    if lacking:
        return f"no PostgreSQL: {' and '.join(lacking)} not found on the path or in {', '.join(FOLDERS)}"
    server = Postgres(Path(tempfile.mkdtemp(prefix="gpu_pipeline_pg_")))
    atexit.register(server.stop)
    try:
        server.start()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"PostgreSQL does not start here: {getattr(error, 'stderr', '') or error}"
    return server


def postgres() -> Postgres:
    """The server of this process; the test is skipped, and says why, where there is none."""
    found = _started()
    if isinstance(found, str):
        pytest.skip(found)
    return found
