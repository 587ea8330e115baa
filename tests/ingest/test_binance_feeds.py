"""Ten recorded minutes of four instruments: chained without a gap, and the replayed touch is the exchange's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.config import RunConfig, load_config
from gpu_pipeline.core.schema import BookEvents, Quotes, Symbol, Trades
from gpu_pipeline.ingest import _streams
from gpu_pipeline.ingest._read import open_stream, request_of
from gpu_pipeline.ingest._streams import Stream
from kernels.book_replay import new_state, replay
from tests.conftest import ROOT

CPU = torch.device("cpu")
NAMES = ("spot_btcusdt", "spot_ethusdt", "usdm_btcusdt", "usdm_ethusdt")
# Level changes, trades, quotes.
ROWS = {
    "spot_btcusdt": (298_111, 19_904, 73_174),
    "spot_ethusdt": (272_764, 14_515, 58_758),
    "usdm_btcusdt": (443_521, 21_313, 66_089),
    "usdm_ethusdt": (428_662, 14_076, 53_992),
}
# Update ids at which both a quote and a depth message end.
COMPARED = {"spot_btcusdt": 1_072, "spot_ethusdt": 1_056, "usdm_btcusdt": 629, "usdm_ethusdt": 551}
# A few levels of the spot books are finer than any trade: 25.426189 BTC.
SCALES = {
    "spot_btcusdt": ("0.01", "0.000001"),
    "spot_ethusdt": ("0.01", "0.00001"),
    "usdm_btcusdt": ("0.1", "0.001"),
    "usdm_ethusdt": ("0.01", "0.001"),
}


@pytest.fixture(scope="module")
def config(market_data: Path) -> RunConfig:
    folder = market_data / "binance_feeds_20240808"
    if not folder.is_dir():
        pytest.skip(f"no recorded feeds in {folder}")
    feeds = f"{folder}/{{symbol}}_20240808"
    paths = {"trades.path": "trades", "book.snapshot": "snapshot", "book.diffs": "depth", "bbo.path": "bbo"}
    changes = [f"ingest.{key}={feeds}_{name}.parquet" for key, name in paths.items()]
    return load_config(ROOT / "configs" / "binance_feeds_10min.yaml", changes)


def opened(config: RunConfig, name: str) -> dict[str, Stream]:
    streams = {}
    for stream, section in config.ingest.items():
        request = request_of(section, stream, name, config.symbols[name], device=CPU, seed=1)
        streams[stream] = open_stream(section.source, section.options, request)
    return streams


def joined(pieces: list[Any], columns: tuple[str, ...]) -> Any:
    whole: dict[str, Any] = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in columns}
    return replace(pieces[-1], **whole)


EVENTS = ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id")
QUOTES = ("time_ns", "known_ns", "update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots")


@pytest.fixture(scope="module")
def feeds(config: RunConfig) -> dict[str, tuple[Symbol, Trades, BookEvents, Quotes]]:
    made = {}
    for name in NAMES:
        streams = opened(config, name)
        symbol = _streams.shared_symbol(streams.values())
        trades, book, bbo = (list(streams[stream].make(symbol)) for stream in ("trades", "book", "bbo"))
        made[name] = (symbol, Trades.concat(trades), joined(book, EVENTS), joined(bbo, QUOTES))
    return made


Feeds = dict[str, tuple[Symbol, Trades, BookEvents, Quotes]]


def touches(events: BookEvents) -> tuple[np.ndarray, np.ndarray]:
    """Update ids, and bid, its lots, ask, its lots after each message."""
    ends = (torch.diff(events.update_id) != 0).nonzero().flatten() + 1
    ends = torch.cat([ends, torch.tensor([len(events)])])
    columns = (events.side, events.price_ticks, events.quantity_lots)
    offsets, bids, ticks, lots, _ = replay(*columns, ends, 1, new_state())
    assert bool((bids == 1).all()) and bool((torch.diff(offsets) == 2).all())
    shown = torch.stack([ticks[0::2], lots[0::2], ticks[1::2], lots[1::2]], 1)
    return events.update_id[ends - 1].numpy(), shown.numpy()


def compared(ids: np.ndarray, shown: np.ndarray, bbo: Quotes) -> tuple[int, int]:
    """How many update ids both have, and at how many of them the touch is the quote."""
    quotes = torch.stack([bbo.bid_ticks, bbo.bid_lots, bbo.ask_ticks, bbo.ask_lots], 1).numpy()
    _, left, right = np.intersect1d(ids, bbo.update_id.numpy(), return_indices=True)
    return len(left), int((shown[left] == quotes[right]).all(1).sum())


@pytest.mark.parametrize("name", NAMES)
def test_every_message_chains(feeds: Feeds, name: str) -> None:
    _, trades, events, bbo = feeds[name]
    report, (levels, traded, quoted) = events.report, ROWS[name]
    messages = report["messages"]
    assert report["snapshots"] == {"applied": 1, "stale": 0}
    assert {key: messages[key] for key in ("gaps", "duplicate", "out_of_order")} == dict.fromkeys(
        ("gaps", "duplicate", "out_of_order"), 0
    )
    assert messages["before_snapshot"] + messages["stale"] < 8 and messages["applied"] > 6_000
    assert report["dropped"] == {} and report["checked"] == {"page checksums": 2}
    assert levels - 600 < len(events) - 2_001 <= levels
    assert (len(trades), len(bbo)) == (traded, quoted)


@pytest.mark.parametrize("name", NAMES)
def test_the_touch_is_the_exchanges_own(feeds: Feeds, name: str) -> None:
    _, _, events, bbo = feeds[name]
    ids, shown = touches(events)
    assert (shown[:, 0] < shown[:, 2]).all()
    count, equal = compared(ids, shown, bbo)
    assert count == equal == COMPARED[name]


def test_a_book_reset_when_the_snapshot_arrives_is_another(feeds: Feeds, config: RunConfig) -> None:
    """The naive order, from the same rows: what was recorded before the snapshot, and belongs onto it, is lost."""
    worse = {}
    for name in NAMES:
        _, _, events, bbo = feeds[name]
        snapshot, diffs = (
            path for path in (config.ingest["book"].options.snapshot, config.ingest["book"].options.diffs)
        )
        arrived = pq.read_table(snapshot.replace("{symbol}", name))["local_ts"][0].as_py()
        local = pq.read_table(diffs.replace("{symbol}", name)).to_pandas().groupby("final_id")["local_ts"].first()
        early = [ident for ident in local[local <= arrived].index if ident in set(events.update_id[2_001:].tolist())]
        naive = ~torch.isin(events.update_id, torch.tensor(early, dtype=torch.int64))
        naive[:2_001] = True
        kept = replace(events, **{column: getattr(events, column)[naive] for column in EVENTS})
        ids, shown = touches(kept)
        count, equal = compared(ids, shown, bbo)
        worse[name] = (len(early), count - equal, bool((shown[:, 0] >= shown[:, 2]).any()))
    assert {name: early for name, (early, _, _) in worse.items()} == {
        "spot_btcusdt": 1,
        "spot_ethusdt": 0,
        "usdm_btcusdt": 2,
        "usdm_ethusdt": 2,
    }
    assert any(wrong for _, wrong, _ in worse.values()) and any(crossed for _, _, crossed in worse.values())


@pytest.mark.parametrize("name", NAMES)
def test_streams_of_a_symbol_share_the_finest_scales(feeds: Feeds, config: RunConfig, name: str) -> None:
    symbol, trades, events, bbo = feeds[name]
    assert (str(symbol.price_tick), str(symbol.quantity_lot)) == SCALES[name]
    assert trades.symbol == events.symbol == bbo.symbol == symbol
    path = config.ingest["trades"].options.path.replace("{symbol}", name)
    table = pq.read_table(path).to_pandas()
    assert (symbol.quantity.to_float(trades.quantity_lots).numpy() == table["qty"].to_numpy()).all()
    assert (trades.is_buyer_maker.numpy() == table["is_buyer_maker"].to_numpy()).all()
    assert (trades.time_ns.numpy() == table["trade_ts"].cummax().to_numpy() * 10**6).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_known_before_it_happened(feeds: Feeds, name: str) -> None:
    """The recorder's clock ran 1.27 s behind the exchange's: what it says alone would be known too early."""
    _, trades, events, _ = feeds[name]
    assert bool((torch.diff(events.time_ns) >= 0).all()) and bool((torch.diff(events.known_ns) >= 0).all())
    assert bool((events.known_ns >= events.time_ns).all())
    assert abs(int(events.time_ns[0]) - int(trades.time_ns[0])) < 2 * 10**9


def test_any_pieces_give_the_same_events(feeds: Feeds, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_pipeline.ingest._tall.PIECE_ROWS", 30_011)
    monkeypatch.setattr("gpu_pipeline.ingest._read.KEEP_BYTES", 0)
    symbol, _, events, bbo = feeds["spot_ethusdt"]
    streams = opened(config, "spot_ethusdt")
    for stream, whole, columns in (("book", events, EVENTS), ("bbo", bbo, QUOTES)):
        pieces = list(streams[stream].make(symbol))
        again = joined(pieces, columns)
        assert len(pieces) > 1 and max(len(piece) for piece in pieces) < 30_500
        assert all(getattr(again, column).equal(getattr(whole, column)) for column in columns)
        assert pieces[-1].report == whole.report
