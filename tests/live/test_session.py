"""`gpu-pipeline live` on a small trained run: its own streams, JSON lines, checkpoints, predictions, refusals."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import gpu_pipeline as gp
from gpu_pipeline import cli, pipeline
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.ingest import _stage as ingest_stage
from gpu_pipeline.live.fold import LiveRow
from gpu_pipeline.live.plan import Plan
from tests.end_to_end.test_run import small

CPU = torch.device("cpu")


class Kept:
    """An output that keeps its rows; it may break at one of them."""

    def __init__(self, breaks: int = 1 << 60) -> None:
        self.rows: list[tuple[LiveRow, Mapping[str, Any]]] = []
        self.breaks = breaks

    def __call__(self, plan: Plan) -> Kept:
        return self

    def write(self, row: LiveRow, predicted: Mapping[str, Any]) -> None:
        if len(self.rows) == self.breaks:
            raise KeyboardInterrupt
        self.rows.append((row, predicted))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(2)
    made = small(tmp_path_factory.mktemp("session"), train__models=[{"name": "cnn_lstm", "inputs": ["bars", "book"]}])
    return made | {"train": made["train"] | {"max_steps": 3}}


@pytest.fixture(scope="module")
def done(values: dict[str, Any]) -> pipeline.Run:
    return pipeline.run(check_config(values), Trace(), last="evaluate")


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], done: pipeline.Run) -> Kept:
    kept = Kept()
    pipeline.live(check_config(values), Trace(), "run", kept)
    return kept


def same(a: Kept, b: Kept) -> bool:
    return len(a.rows) == len(b.rows) and all(
        x.known_ns == y.known_ns
        and p == q
        and all(torch.equal(x.values[name], y.values[name]) for name in x.values)
        and set(x.values) == set(y.values)
        for (x, p), (y, q) in zip(a.rows, b.rows, strict=True)
    )


def test_predictions_are_those_of_the_report(done: pipeline.Run, whole: Kept) -> None:
    table = pq.read_table(done.outputs["evaluate"].path / "predictions.parquet").to_pylist()
    said = {row.time_ns: predicted["cnn_lstm"] for row, predicted in whole.rows if predicted}
    # Bars that close at one time cannot be told apart in the table.
    times = [row.time_ns for row, _ in whole.rows]
    compared = 0
    for entry in table:
        time_ns = int(entry["decision_time"].value)
        if times.count(time_ns) == 1:
            for name, value in said[time_ns].items():
                assert abs(value - entry[f"probability_{name}"]) < 1e-6
            compared += 1
    assert compared > 50


def test_an_interrupted_session_goes_on_from_its_checkpoint(
    values: dict[str, Any], whole: Kept, tmp_path: Path
) -> None:
    first, second = Kept(breaks=200), Kept()
    with pytest.raises(KeyboardInterrupt):
        pipeline.live(check_config(values), Trace(), "run", first, checkpoint=tmp_path, every=50)
    engine = pipeline.live(check_config(values), Trace(), "run", second, checkpoint=tmp_path)
    already = len(whole.rows) - len(second.rows)
    assert 100 < already <= 200, "the last checkpoint lies before the row that broke"
    first.rows = first.rows[:already] + second.rows
    assert same(first, whole) and engine.rows == len(whole.rows)
    again = Kept()
    pipeline.live(check_config(values), Trace(), "run", again, checkpoint=tmp_path)
    assert not again.rows, "everything was taken before"


def test_json_lines_give_the_rows_of_the_files(values: dict[str, Any], done: pipeline.Run, whole: Kept) -> None:
    symbol = done.symbols()["BTCUSDT"]
    clean = done.outputs["ingest"].path
    messages: list[tuple[int, int, dict[str, Any]]] = []
    trades = ingest_stage.load_all_trades(clean, symbol, CPU)[:6000]
    columns = [trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.trade_id, trades.is_buyer_maker]
    for time, ticks, lots, number, maker in zip(*(column.tolist() for column in columns), strict=True):
        price, quantity = str(symbol.price.exact(ticks)), str(symbol.quantity.exact(lots))
        said = {"symbol": "BTCUSDT", "time": time, "price": price, "quantity": quantity, "id": number}
        messages.append((time, 1, {"type": "trade", **said, "is_buyer_maker": maker}))
    for piece in ingest_stage.load_book(clean, "book", symbol, CPU):
        for row in range(len(piece)):
            lo, hi = piece.offsets[row : row + 2].tolist()
            levels = [
                [str(symbol.price.exact(ticks)), str(symbol.quantity.exact(lots))]
                for ticks, lots in zip(
                    piece.price_ticks[lo:hi].tolist(), piece.quantity_lots[lo:hi].tolist(), strict=True
                )
            ]
            bids, known = int(piece.bid_count[row]), int(piece.known_ns[row])
            book = {"time": int(piece.time_ns[row]), "known": known, "bids": levels[:bids], "asks": levels[bids:]}
            messages.append((known, 0, {"type": "book", "symbol": "BTCUSDT", **book}))
    messages.sort(key=lambda entry: entry[:2])
    kept = Kept()
    pipeline.live(check_config(values), Trace(), "-", kept, lines=[json.dumps(said) for *_, said in messages])
    assert len(kept.rows) > 20
    whole_start = Kept()
    whole_start.rows = whole.rows[: len(kept.rows)]
    for rows in (kept.rows, whole_start.rows):
        rows[:] = [(row, {}) for row, _ in rows]
    assert same(kept, whole_start)


def test_the_command_writes_rows_and_refuses_what_it_cannot_do(
    values: dict[str, Any], whole: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    (tmp_path / "run.yaml").write_text(write_yaml(values))
    command = ["live", str(tmp_path / "run.yaml")]
    assert cli.main([*command, "--from", "run", "--out", str(tmp_path / "rows.parquet")]) == 0
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.num_rows == len(whole.rows) and "cnn_lstm/up" in " ".join(table.column_names).lower()
    assert sum(table["sample"].to_pylist()) == sum(bool(row.windows) for row, _ in whole.rows)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"type": "trade"}\n'))
    assert cli.main(command) == 2
    assert "live, line 1: a trade needs the field 'symbol'" in capsys.readouterr().err
    assert cli.main([*command, "--from", str(tmp_path / "other.zip")]) == 2
    assert "this run also sees a book" in capsys.readouterr().err
    assert cli.main([*command, "--from", "run", "--out", str(tmp_path / "no" / "rows.parquet")]) == 2


def test_what_cannot_run_live_is_named(values: dict[str, Any], done: pipeline.Run) -> None:
    flush = values | {"name": "flush", "bars": values["bars"] | {"at_file_end": "flush"}}
    with pytest.raises(InputError, match=r"live: bars\.at_file_end: flush restarts bars"):
        pipeline.live(check_config(flush), Trace(), "run", Kept())
    kept = Kept()
    pipeline.live(check_config(values), Trace(), "-", kept, lines=[])
    assert not kept.rows


def bars_alone(values: dict[str, Any], **features: Any) -> dict[str, Any]:
    dataset = values["dataset"] | {"streams": {"bars": {"from": "features", "window": 16}}, "target": "tp2"}
    rest = {key: value for key, value in values.items() if key not in ("book", "train")}
    bars = values["bars"] | {"time": [], "resolutions": {}}
    return rest | {"name": "bars", "bars": bars, "dataset": dataset, "features": {"set": features}}


def test_closed_bars_alone_give_the_rows_of_the_trades(values: dict[str, Any], tmp_path: Path) -> None:
    chosen = bars_alone(values, rsi={"windows": [14]}, log_return={"windows": [1]}, log_taker_ratio={})
    by_trades, by_bars = Kept(), Kept()
    pipeline.live(check_config(chosen), Trace(), "run", by_trades)
    table = gp.load_run(Path(chosen["runs"]) / "bars").bars()
    times = {name: table.columns[name].tolist() for name in ("open_timestamp", "close_timestamp")}
    lines = []
    for row in range(len(table)):
        message = {name: column[row].item() for name, column in table.columns.items() if name != "is_partial"}
        message |= {name: column[row] for name, column in times.items()}
        lines.append(json.dumps({"type": "bar", "symbol": "BTCUSDT", **message}))
    pipeline.live(check_config(chosen), Trace(), "-", by_bars, lines=lines)
    assert len(by_bars.rows) == len(table) > 100 and same(by_trades, by_bars)


def test_what_closed_bars_cannot_make_is_named(values: dict[str, Any]) -> None:
    chosen = bars_alone(values, rsi={"windows": [14]}) | {"name": "timed"}
    chosen["bars"] = chosen["bars"] | {"time": ["1min"]}
    said = {"open_timestamp": 1, "close_timestamp": 2, **dict.fromkeys(("open", "high", "low", "close"), 5.0)}
    line = json.dumps({"type": "bar", "symbol": "BTCUSDT", **said})
    with pytest.raises(InputError, match=r"closed short bars alone do not make rsi_14_tb_1min; they need trades"):
        pipeline.live(check_config(chosen), Trace(), "-", Kept(), lines=[line])
