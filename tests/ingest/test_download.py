from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.errors import EnvironmentProblem, InputError
from gpu_pipeline.ingest import download as module
from gpu_pipeline.ingest.download import download

NAME = "BTCUSDT-trades-2024-01.zip"
CONTENT = bytes(range(256)) * 20_000


@dataclass
class Exchange:
    """A publisher on loopback: files by path, what was asked of it, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int | None = None
    url: str = ""

    def publish(self, path: str, content: bytes, checksum: str | None = None) -> None:
        self.files[path] = content
        digest = checksum or hashlib.sha256(content).hexdigest()
        self.files[path + ".CHECKSUM"] = f"{digest}  {path.rsplit('/', 1)[-1]}\n".encode()

    def archives(self) -> list[tuple[str, str | None]]:
        return [(path, span) for path, span in self.asked if path.endswith(".zip")]


def answer(exchange: Exchange, handler: BaseHTTPRequestHandler) -> None:
    span = handler.headers.get("Range")
    exchange.asked.append((handler.path, span))
    content = exchange.files.get(handler.path)
    if content is None or exchange.status is not None:
        handler.send_error(exchange.status or 404)
        return
    start = int(span.removeprefix("bytes=").removesuffix("-")) if span and exchange.ranges else 0
    if start >= len(content) > 0 and start:
        handler.send_error(416)
        return
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    body = content[start:]
    if handler.path.endswith(".zip") and exchange.break_after:
        body = body[: exchange.break_after.pop(0)]
    handler.wfile.write(body)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    served = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(served, self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def path_of(name: str = NAME, market: str = "futures/um", kind: str = "trades") -> str:
    return f"/data/{market}/monthly/{kind}/BTCUSDT/{name}"


def fetch(exchange: Exchange, folder: Path, start: str = "2024-01", end: str = "2024-01", **options: Any) -> list[Path]:
    return download("BTCUSDT", options.pop("market", "um"), start, end, folder=folder, base_url=exchange.url, **options)


def test_months_are_fetched_once(exchange: Exchange, tmp_path: Path) -> None:
    names = [f"BTCUSDT-trades-{month}.zip" for month in ("2023-12", "2024-01", "2024-02")]
    for at, name in enumerate(names):
        exchange.publish(path_of(name), CONTENT + bytes([at]))
    found = fetch(exchange, tmp_path / "deep" / "data", "2023-12", "2024-02")
    assert found == [tmp_path / "deep" / "data" / name for name in names]
    assert [path.read_bytes()[-1] for path in found] == [0, 1, 2]
    assert all(path.with_name(path.name + ".CHECKSUM").is_file() for path in found)
    assert not list(tmp_path.rglob("*.part"))
    asked = len(exchange.archives())
    assert fetch(exchange, tmp_path / "deep" / "data", "2023-12", "2024-02") == found
    assert asked == len(exchange.archives()) == 3


@pytest.mark.parametrize(("market", "folder"), [("spot", "spot"), ("um", "futures/um"), ("cm", "futures/cm")])
def test_markets_and_kinds(exchange: Exchange, tmp_path: Path, market: str, folder: str) -> None:
    exchange.publish(path_of("BTCUSDT-aggTrades-2024-01.zip", folder, "aggTrades"), b"x")
    assert fetch(exchange, tmp_path, market=market, kind="aggTrades")[0].read_bytes() == b"x"


def test_a_revised_file_is_fetched_again(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    fetch(exchange, tmp_path)
    exchange.publish(path_of(), CONTENT[::-1])
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT[::-1]


def test_what_was_left_in_a_part_file_goes_on(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    (tmp_path / (NAME + ".part")).write_bytes(CONTENT[:1_000_001])
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT
    assert exchange.archives() == [(path_of(), "bytes=1000001-")]


def test_a_broken_connection_goes_on_where_it_broke(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    exchange.break_after = [2_000_000, 1_000_000]
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT
    assert [span for _, span in exchange.archives()] == [None, "bytes=2000000-", "bytes=3000000-"]


def test_a_connection_that_keeps_breaking_is_resumed_by_the_next_call(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    exchange.break_after = [1_000, 1_000, 1_000]
    with pytest.raises(EnvironmentProblem, match=r"cannot be reached .*1000 of .* bytes came.*check the network"):
        fetch(exchange, tmp_path)
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / (NAME + ".part")).stat().st_size == 3_000
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT
    assert exchange.archives()[-1][1] == "bytes=3000-"


def test_a_server_without_ranges_starts_over(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    exchange.ranges = False
    (tmp_path / (NAME + ".part")).write_bytes(b"old")
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT[::-1], CONTENT[::-1][:5000], CONTENT + b"more"])
def test_any_part_file_ends_in_the_right_bytes(exchange: Exchange, tmp_path: Path, part: bytes) -> None:
    exchange.publish(path_of(), CONTENT)
    (tmp_path / (NAME + ".part")).write_bytes(part)
    assert fetch(exchange, tmp_path)[0].read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT, checksum="a" * 64)
    with pytest.raises(InputError) as caught:
        fetch(exchange, tmp_path)
    assert str(caught.value) == (
        f"{exchange.url}{path_of()}: its sha256 is not the one that {NAME}.CHECKSUM publishes; "
        "the bad file was removed; download it again, or tell the publisher"
    )
    assert [path.name for path in tmp_path.iterdir()] == [NAME + ".CHECKSUM"]


def test_a_month_that_is_not_published(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    with pytest.raises(InputError) as caught:
        fetch(exchange, tmp_path, "2024-01", "2024-02")
    missing = f"{exchange.url}{path_of('BTCUSDT-trades-2024-02.zip')}.CHECKSUM"
    way = "check symbol, market and month; a month appears a few days after its end"
    assert str(caught.value) == f"{missing}: is not published (404); {way}"
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_an_archive_that_vanished_after_its_checksum(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    del exchange.files[path_of()]
    with pytest.raises(InputError, match=r"2024-01\.zip: is not published \(404\)"):
        fetch(exchange, tmp_path)


def test_a_server_in_trouble(exchange: Exchange, tmp_path: Path) -> None:
    exchange.publish(path_of(), CONTENT)
    exchange.status = 503
    with pytest.raises(EnvironmentProblem, match=r"the server answered 503 .*; try again later or another base_url"):
        fetch(exchange, tmp_path)


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentProblem, match=r"cannot be reached \(.*refused.*\); check the network, or fetch the files by hand"
    ):
        download("BTCUSDT", "um", "2024-01", "2024-01", folder=tmp_path, base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("market", "start", "end", "kind", "message"),
    [
        ("futures", "2024-01", "2024-01", "trades", "market: must be one of spot, um, cm (value 'futures')"),
        ("um", "2024-01", "2024-01", "klines", "kind: must be one of trades, aggTrades (value 'klines')"),
        ("um", "2024-13", "2024-14", "trades", "'2024-13' is no month; write year and month, for example 2024-01"),
        ("um", "2024-03", "2024-01", "trades", "from 2024-03 to 2024-01: the first month lies after the last"),
    ],
)
def test_bad_arguments(tmp_path: Path, market: str, start: str, end: str, kind: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        download("BTCUSDT", market, start, end, kind, tmp_path, base_url="http://127.0.0.1:9")
    assert str(caught.value) == message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"cannot be made .*; choose another folder"):
        download("BTCUSDT", "um", "2024-01", "2024-01", folder=tmp_path / "file" / "data")


def test_the_address_of_the_exchange() -> None:
    assert module.BASE_URL == "https://data.binance.vision"
