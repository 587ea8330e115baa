"""Queries to a server over the PostgreSQL wire protocol, answered as Arrow record batches (ADBC)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa

from gpu_pipeline.core.errors import EnvironmentProblem, InputError

# About so many bytes of rows are held at once.
BATCH_BYTES = 1 << 24
TIMEOUT_S = 30
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")
_PASSWORD = re.compile(r"//[^/@]*?:([^@]*)@|[?&]password=([^&]*)")
# Classes of SQLSTATE that are the server's own trouble: connection, resources, shutdown, its system, a bug of its.
_TROUBLE = ("08", "53", "57", "58", "XX")


class Refused(InputError):
    """The server did not take a query."""


def has_password(uri: str) -> bool:
    """Whether a password is written into a URI, other than as a variable of the environment."""
    found = _PASSWORD.search(uri)
    return found is not None and _VARIABLE.sub("", found[1] or found[2] or "") != ""


def quoted(name: str) -> str:
    """A name as SQL takes it letter by letter."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it letter by letter.

    Raises:
        InputError: a backslash, which servers read in more than one way, or a character that cannot be printed.
    """
    if "\\" in text or not text.isprintable():
        raise InputError(f"a name in a query holds no backslash and no unprintable character (value {text!r})")
    return "'" + text.replace("'", "''") + "'"


def expanded(uri: str, key: str) -> str:
    """The URI with the variables of the environment in it; their values may hold any character.

    Raises:
        InputError: a variable is not set, or it is no URI; `key` names it, and its text is not shown.
    """
    missing = next((name for name in _VARIABLE.findall(uri) if name not in os.environ), None)
    if missing is not None:
        raise InputError(f"{key}: the environment variable {missing} is not set; export it, or use ~/.pgpass")
    whole = _VARIABLE.fullmatch(uri) is not None
    full = _VARIABLE.sub(lambda found: os.environ[found[1]] if whole else quote(os.environ[found[1]], safe=""), uri)
    place = urlsplit(full)
    hosts = place.netloc.rpartition("@")[2].split(",")
    if place.scheme not in ("postgresql", "postgres"):
        raise InputError(f"{key}: a URI begins with postgresql://, for example postgresql://reader@localhost/market")
    if place.netloc.count("@") > 1 or not all(_HOST.fullmatch(host) for host in hosts):
        rule = f"{key}: is no URI of the form postgresql://user:password@host:port/database"
        raise InputError(f"{rule}; write @ : / in a password as %40 %3A %2F, or the password as a variable")
    return full if "connect_timeout=" in full else f"{full}{'&' if '?' in full else '?'}connect_timeout={TIMEOUT_S}"


@dataclass(frozen=True)
class Server:
    """A connection.

    Attributes:
        key: of the run file, for messages.
        where: host and database, for messages.
        connection: of ADBC.
        use_copy: whether answers are asked for by COPY, which streams them.
        secrets: what no message may show.
    """

    key: str
    where: str
    connection: Any
    use_copy: bool
    secrets: tuple[str, ...]

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The answer, piece by piece; a server without COPY sends it as one piece.

        Raises:
            Refused: the server does not take the query.
            EnvironmentProblem: the connection was lost, or the server failed.
        """
        with self._answering(), self._cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetch_record_batch()

    def table(self, query: str) -> pa.Table:
        """The whole answer, with its columns where there is no row."""
        with self._answering(), self._cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_record_batch().read_all()

    def _cursor(self) -> Any:
        options = {
            "adbc.postgresql.use_copy": str(self.use_copy).lower(),
            "adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES),
        }
        return self.connection.cursor(adbc_stmt_kwargs=options)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        import adbc_driver_manager as adbc

        try:
            yield
        except (adbc.Error, OSError, pa.ArrowException) as error:
            # The driver's own error may hold the URI, and a traceback would show it.
            raise self._problem(error) from None

    def _problem(self, error: Exception) -> Exception:
        words = _first_line(error, self.secrets)
        state = getattr(error, "sqlstate", None)
        way = ""
        if self.use_copy and "COPY" in str(error):
            way = "; a server that answers no COPY needs use_copy: false"
        if state is None or state.startswith(_TROUBLE):
            return EnvironmentProblem(f"{self.key}: {self.where} broke off: {words}{way}")
        return Refused(f"{self.key}: {self.where} refuses a query: {words}{way}")


@contextmanager
def connected(uri: str, use_copy: bool, key: str) -> Iterator[Server]:
    """A server that answers queries.

    Args:
        uri: `postgresql://`, with variables of the environment.
        use_copy: COPY is used; without it types are known by their standard numbers, and no catalog is asked.
        key: of the run file, for messages.

    Raises:
        InputError: the URI is none.
        EnvironmentProblem: the driver is not installed, or the server cannot be reached or lets nobody in.
    """
    driver = _driver(key)
    full = expanded(uri, f"{key}.uri")
    where, secrets = _shown(full), _secrets(full)
    modes: Mapping[str, str] = {} if use_copy else {"adbc.postgresql.type_resolver_mode": "builtin"}
    try:
        connection = driver.connect(full, db_kwargs=modes, autocommit=True)
    except driver.Error as error:
        fix = "check uri, and that the server runs and lets the user in"
        words = _first_line(error, secrets)
        raise EnvironmentProblem(f"{key}: {where} cannot be reached: {words}; {fix}") from None
    with closing(connection):
        yield Server(key, where, connection, use_copy, secrets)


def _driver(key: str) -> Any:
    try:
        import adbc_driver_postgresql.dbapi as driver
    except ImportError as error:
        rule = f"{key}: reading from a server needs the package adbc-driver-postgresql"
        raise EnvironmentProblem(f"{rule}; install it: pip install 'gpu-pipeline[sql]'") from error
    return driver


def _shown(uri: str) -> str:
    """Host and database of a URI."""
    place = urlsplit(uri)
    host = place.netloc.rpartition("@")[2] or next(iter(parse_qs(place.query).get("host", [])), "localhost")
    return f"{unquote(host)}{place.path}"


def _secrets(uri: str) -> tuple[str, ...]:
    written = [part for found in _PASSWORD.findall(uri) for part in found if part]
    return tuple(sorted({*written, *map(unquote, written)}, key=len, reverse=True))


def _first_line(error: Exception, secrets: tuple[str, ...]) -> str:
    """What the server said, without the driver's words before it."""
    first = str(error).strip().split("\n")[0]
    said = re.sub(r"^.*?(ERROR|FATAL):\s*|^\w+: |\[libpq\] (Failed to connect: )?", "", first)
    for secret in secrets:
        said = said.replace(secret, "***")
    return said
