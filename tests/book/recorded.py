"""Recorded Binance feeds as book events, sequenced here by the exchange's rules and by nothing of the project."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gpu_pipeline.core.schema import BookEvents, Quotes, Symbol

INSTRUMENTS = {"spot_btcusdt": ("0.01", "0.000001"), "spot_ethusdt": ("0.01", "0.00001")}
INSTRUMENTS |= {"usdm_btcusdt": ("0.1", "0.001"), "usdm_ethusdt": ("0.01", "0.001")}


@cache
def recorded(folder: Path, name: str, *, naive: bool = False) -> BookEvents:
    """The snapshot at its place by update id, then every message that reaches beyond it; known at the latest clock.

    `naive` puts the snapshot where it was recorded: it replaces what messages recorded before it had changed.
    """
    tick, lot = (Decimal(step) for step in INSTRUMENTS[name])
    base = folder / "binance_feeds_20240808"
    snapshot = pd.read_parquet(base / f"{name}_20240808_snapshot.parquet")
    depth = pd.read_parquet(base / f"{name}_20240808_depth.parquet")
    last = int(snapshot.last_update_id.iloc[0])
    depth = depth[depth.final_id >= last if name.startswith("usdm") else depth.final_id > last]
    if naive:
        depth = depth[depth.local_ts >= snapshot.local_ts.iloc[0]]
    clock = "trans_ts" if name.startswith("usdm") else "event_ts"
    ahead = len(snapshot) + 1
    # The snapshot holds when the first message after it does: nothing between them is known.
    times = np.concatenate((np.full(ahead, depth[clock].iloc[0]), depth[clock])).astype(np.int64) * 1_000_000
    local = np.concatenate((np.full(ahead, snapshot.local_ts.iloc[0]), depth.local_ts))
    rows = pd.concat([pd.DataFrame({"side": [0], "price": [0.0], "qty": [0.0]}), snapshot, depth], ignore_index=True)
    time_ns = np.maximum.accumulate(times)
    columns = {
        "time_ns": time_ns,
        "known_ns": np.maximum.accumulate(np.maximum(time_ns, local)),
        "side": rows.side.to_numpy(np.int64),
        "price_ticks": np.rint(rows.price.to_numpy() / float(tick)).astype(np.int64),
        "quantity_lots": np.rint(rows.qty.to_numpy() / float(lot)).astype(np.int64),
        "update_id": np.concatenate((np.full(ahead, last), depth.final_id)),
    }
    return BookEvents(
        Symbol(name, tick, lot), **{key: torch.from_numpy(value.copy()) for key, value in columns.items()}
    )


@cache
def quotes_of(folder: Path, name: str) -> tuple[Quotes, set[int]]:
    """The venue's best bid and offer in the scales of `recorded`, and their update ids."""
    tick, lot = (float(step) for step in INSTRUMENTS[name])
    found = pd.read_parquet(folder / "binance_feeds_20240808" / f"{name}_20240808_bbo.parquet")
    units = {
        "bid_ticks": ("bid", tick),
        "bid_lots": ("bid_qty", lot),
        "ask_ticks": ("ask", tick),
        "ask_lots": ("ask_qty", lot),
    }
    columns = {key: np.rint(found[column].to_numpy() / step).astype(np.int64) for key, (column, step) in units.items()}
    columns |= {"time_ns": found.local_ts.to_numpy(), "known_ns": found.local_ts.to_numpy()}
    columns["update_id"] = found.update_id.to_numpy()
    made = {key: torch.from_numpy(values.copy()) for key, values in columns.items()}
    return Quotes(Symbol(name, *(Decimal(step) for step in INSTRUMENTS[name])), **made), set(found.update_id)
