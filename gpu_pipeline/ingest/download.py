"""Public exchange files by month, with their checksums; what was interrupted goes on where it stopped."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gpu_pipeline.core.errors import EnvironmentProblem, InputError
from gpu_pipeline.core.store import digest_file, write_bytes
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.ingest._files import CHECKSUM, published_checksum

BASE_URL = "https://data.binance.vision"
MARKETS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
KINDS = ("trades", "aggTrades")
TIMEOUT_SECONDS = 60
TRIES = 3
_CHUNK = 1 << 20


def download(
    symbol: str,
    market: str,
    start: str,
    end: str,
    kind: str = "trades",
    folder: Path = Path("data"),
    *,
    base_url: str = BASE_URL,
    trace: Trace | None = None,
) -> list[Path]:
    """Fetches the monthly archives `SYMBOL-KIND-YYYY-MM.zip` from month `start` to month `end`, both included.

    Args:
        symbol: exchange name, for example BTCUSDT.
        market: `spot`, `um` (USD-M futures) or `cm` (COIN-M futures).
        start: first month, `2024-01`.
        end: last month.
        kind: `trades` or `aggTrades`.
        folder: where the archives and their `.CHECKSUM` files go.
        base_url: another mirror of the same layout.
        trace: shows progress.

    Returns:
        The archives, in order of months; those that are there already with the right checksum are not fetched again.

    Raises:
        InputError: a bad argument, a month that is not published, or a wrong checksum (the bad file is removed).
        EnvironmentProblem: no network, or the disk refuses.
    """
    _check_choice("market", market, MARKETS)
    _check_choice("kind", kind, KINDS)
    months = list(_months(start, end))
    _make(folder)
    trace = trace or Trace()
    fetched = []
    with trace.progress(f"download {symbol}", None) as ticker:
        for month in months:
            name = f"{symbol}-{kind}-{month}.zip"
            url = f"{base_url.rstrip('/')}/data/{MARKETS[market]}/monthly/{kind}/{symbol}/{name}"
            for done in _fetch_verified(url, folder / name):
                ticker.advance(done, name)
            fetched.append(folder / name)
    return fetched


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error


def _check_choice(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise InputError(f"{name}: must be one of {', '.join(allowed)} (value {value!r})")


def _months(start: str, end: str) -> Iterator[str]:
    first, last = _month_number(start), _month_number(end)
    if first > last:
        raise InputError(f"from {start} to {end}: the first month lies after the last")
    for number in range(first, last + 1):
        yield f"{number // 12}-{number % 12 + 1:02d}"


def _month_number(text: str) -> int:
    match = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)
    if match is None:
        raise InputError(f"'{text}' is no month; write year and month, for example 2024-01")
    return int(match[1]) * 12 + int(match[2]) - 1


def _fetch_verified(url: str, path: Path) -> Iterator[int]:
    """Fetches one archive unless it is there; yields bytes as they come."""
    beside = path.with_name(path.name + CHECKSUM)
    write_bytes(beside, _fetch_small(url + CHECKSUM))
    wanted = published_checksum(beside)
    if path.is_file() and digest_file(path) == wanted:
        return
    part = path.with_name(path.name + ".part")
    resumed = part.is_file()
    yield from _fetch_resumed(url, part)
    if resumed and digest_file(part) != wanted:
        # The publisher may have revised the file since the part was begun.
        part.unlink()
        yield from _fetch_resumed(url, part)
    if digest_file(part) != wanted:
        part.unlink()
        rule = f"its sha256 is not the one that {beside.name} publishes; the bad file was removed"
        raise InputError.at(url, rule, fix="download it again, or tell the publisher")
    part.replace(path)


def _fetch_small(url: str) -> bytes:
    with _request(url, 0) as response:
        return bytes(response.read(_CHUNK))


def _fetch_resumed(url: str, part: Path) -> Iterator[int]:
    """Appends to the `.part` file until it is whole; a broken connection is tried again from where it broke."""
    for attempt in range(TRIES):
        try:
            yield from _append(url, part)
            return
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == TRIES - 1:
                raise _unreachable(url, error) from error


def _append(url: str, part: Path) -> Iterator[int]:
    there = part.stat().st_size if part.is_file() else 0
    try:
        response = _request(url, there)
    except _CompleteError:
        return
    with response:
        whole = getattr(response, "status", 200) == 200
        try:
            with part.open("wb" if whole else "ab") as file:
                yield from _copy(response, file, url)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            raise EnvironmentProblem(
                f"{part}: cannot write ({error.strerror}); free space or choose another folder"
            ) from error


def _copy(response: Any, file: IO[bytes], url: str) -> Iterator[int]:
    due = response.headers.get("Content-Length")
    seen = 0
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        seen += len(chunk)
        yield len(chunk)
    if due is not None and seen < int(due):
        raise ConnectionError(f"{url}: {seen} of {due} bytes came")


class _CompleteError(Exception):
    """The server has nothing beyond what is there already (416)."""


def _request(url: str, start: int) -> Any:
    headers = {"User-Agent": "gpu-pipeline", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(url, error, start) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _refused(url: str, error: urllib.error.HTTPError, start: int) -> Exception:
    if error.code == 416 and start:
        return _CompleteError()
    if error.code == 404:
        fix = "check symbol, market and month; a month appears a few days after its end"
        return InputError.at(url, "is not published (404)", fix=fix)
    return EnvironmentProblem(
        f"{url}: the server answered {error.code} {error.reason}; try again later or another base_url"
    )


def _unreachable(url: str, error: Exception) -> EnvironmentProblem:
    reason = getattr(error, "reason", None) or error
    return EnvironmentProblem(f"{url}: cannot be reached ({reason}); check the network, or fetch the files by hand")
