"""Time bars against Python's calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels._stretches as stretches
import kernels.time_ends as module
from kernels._blocks import NO_ROW
from kernels._stretches import PIECE
from kernels.time_ends import DAY_NS, NO_BUCKET, bucket_end, launch_time_ends, time_ends

SECOND = 10**9
MINUTE = 60 * SECOND
STEPS = [1, 7, 1000, SECOND, 7 * SECOND, MINUTE, 7 * MINUTE, 3600 * SECOND, 5 * 3600 * SECOND, DAY_NS - 1, DAY_NS]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bucket(time, step):
    """Midnight of the time's calendar day, plus whole steps; Python's datetime finds the midnight."""
    moment = EPOCH + timedelta(microseconds=time // 1000)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    day = (midnight - EPOCH) // timedelta(microseconds=1) * 1000
    return day + (time - day) // step * step


def brute(times, step, opened=NO_BUCKET):
    ends, starts = [], []
    for row, time in enumerate(times):
        mine = bucket(time, step)
        if mine != opened and opened != NO_BUCKET:
            ends.append(row)
            starts.append(opened)
        opened = mine
    return ends, starts, opened


def fold(times, step, spans):
    state, ends, starts = torch.tensor([NO_BUCKET]), [], []
    for begin, stop in spans:
        found, opened, state = time_ends(torch.tensor(times[begin:stop], dtype=torch.int64), step, state)
        ends += [begin + end for end in found.tolist()]
        starts += opened.tolist()
    return ends, starts, state.item()


@st.composite
def streams(draw):
    step = draw(st.sampled_from(STEPS))
    first = draw(st.sampled_from([-(10**18), -DAY_NS - 1, -DAY_NS, -3, 0, 1_582_329_600 * SECOND, DAY_NS - 2]))
    gap = st.one_of(st.sampled_from([0, 1, step - 1, step, step + 1, DAY_NS]), st.integers(0, 3 * step))
    times = [first]
    for wait in draw(st.lists(gap, max_size=30)):
        times.append(times[-1] + wait)
    return step, times if draw(st.booleans()) else []


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_any_chunking_is_the_rule(chunks_of, stream, cuts):
    step, times = stream
    expected = brute(times, step)
    assert fold(times, step, chunks_of(len(times), cuts)) == expected
    assert fold(times, step, [(row, row + 1) for row in range(len(times))]) == expected


def test_a_first_trade_of_a_new_bucket_closes_the_carried_bar_at_zero():
    ends, starts, state = time_ends(torch.tensor([12, 13, 25]), 10, torch.tensor([0]))
    assert (ends.tolist(), starts.tolist(), state.tolist()) == ([0, 2], [0, 10], [20])


def test_a_step_that_does_not_divide_the_day_restarts_at_midnight():
    seven = 7 * 3600 * SECOND
    last = 3 * seven
    times = [last, DAY_NS - 1, DAY_NS, DAY_NS + seven]
    assert fold(times, seven, [(0, 4)]) == ([2, 3], [last, DAY_NS], DAY_NS + seven)
    assert bucket_end(last, seven) == DAY_NS
    assert bucket_end(DAY_NS, seven) == DAY_NS + seven
    assert bucket_end(-3 * 3600 * SECOND, seven) == 0
    starts = torch.tensor([last, DAY_NS, -3 * 3600 * SECOND])
    assert bucket_end(starts, seven).tolist() == [DAY_NS, DAY_NS + seven, 0]


def parts(monkeypatch, threads):
    monkeypatch.setattr(stretches, "ROWS_PER_THREAD", PIECE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_parts_and_stretches_follow_the_plain_loop(monkeypatch, threads):
    parts(monkeypatch, threads)
    for seed in range(600):
        draw = np.random.default_rng(seed)
        step, rows = int(draw.choice([7, MINUTE, 7 * MINUTE, DAY_NS])), int(draw.integers(PIECE + 1, 3 * PIECE))
        gaps = draw.choice(
            [0, 1, step // 900, step // 30, step, 3 * step], rows, p=draw.dirichlet([1, 1, 1, 1, 0.02, 0.02])
        )
        times = int(draw.choice([-DAY_NS - 5, -3, 0, 1_582_329_600 * SECOND])) + np.cumsum(gaps)
        ends, starts = np.full(rows, -77), np.full(rows, -77)
        opened = np.array([NO_BUCKET if seed % 2 else module.bucket_of(int(times[0]) - 1, step)[0]])
        bars, start, bad = module.spec(times, step, opened, ends, starts)
        found = time_ends(torch.from_numpy(times), step, torch.from_numpy(opened))
        assert bad == NO_ROW
        assert [part.tolist() for part in found] == [ends[:bars].tolist(), starts[:bars].tolist(), [start]], seed


def test_the_first_fall_is_named_whatever_the_parts(monkeypatch):
    parts(monkeypatch, 3)
    for row in (0, 1, 63, 64, PIECE, 2 * PIECE, 2 * PIECE + 1, 4 * PIECE - 1):
        times = torch.arange(4 * PIECE) * 10
        times[row] -= 15
        times[-1] = -5
        with pytest.raises(ValueError, match=f"row {row} of the chunk is earlier"):
            time_ends(times, 1000, torch.tensor([0]))


def test_outputs_are_written_and_fresh(monkeypatch):
    state = torch.tensor([10])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    ends, starts, after = time_ends(torch.tensor([19, 20, 39]), 10, state)
    assert (ends.tolist(), starts.tolist(), after.tolist(), state.tolist()) == ([1, 2], [10, 20], [30], [10])
    ends, starts, after = time_ends(torch.tensor([], dtype=torch.int64), 10, state)
    assert (ends.tolist(), starts.tolist(), after.tolist()) == ([], [], [10])
    assert after.data_ptr() != state.data_ptr()


@pytest.mark.parametrize("step", [0, -5, DAY_NS + 1])
def test_a_step_out_of_range_is_refused(step):
    with pytest.raises(ValueError, match=r"step_ns must be in \[1, 86400000000000\] \(one day\), got"):
        time_ends(torch.tensor([1]), step, torch.tensor([NO_BUCKET]))


def test_times_that_fall_are_refused():
    with pytest.raises(ValueError, match="times must not fall, row 2 of the chunk is earlier"):
        time_ends(torch.tensor([5, 7, 6]), 100, torch.tensor([NO_BUCKET]))
    with pytest.raises(ValueError, match="row 0 of the chunk"):
        time_ends(torch.tensor([5]), 100, torch.tensor([100]))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._time_ends, (torch.tensor([4, 5, 11]), 7, torch.tensor([0])))


def follow(trials):
    for trial in trials:
        draw = np.random.default_rng(trial)
        step = int(draw.choice([7, MINUTE, 7 * MINUTE, DAY_NS]))
        rows = int(draw.choice([0, 1, 2, 7, 8, 9, 15, 16, 17])) if trial % 20 else 41
        gaps = draw.choice([0, 1, step // 2, step, 3 * step], rows, p=[0.3, 0.3, 0.2, 0.1, 0.1])
        times = int(draw.choice([-DAY_NS - 5, -3, 0, 1_582_329_600 * SECOND])) + np.cumsum(gaps)
        opened = bucket(int(times[0]), step) if rows and draw.random() < 0.5 else NO_BUCKET
        ends, starts, state = launch_time_ends(times.astype(np.int64), step, np.array([opened]))
        assert (ends.tolist(), starts.tolist(), state.tolist()[0]) == brute(times.tolist(), step, opened), trial


@pytest.mark.sim
def test_blocks_compose_to_the_rule():
    assert module.BLOCK_ROWS == 8
    follow(range(200))


@pytest.mark.sim
@pytest.mark.slow
def test_many_more_streams_in_the_simulator():
    follow(range(200, 2000))


@pytest.mark.sim
def test_the_launcher_refuses_times_that_fall():
    with pytest.raises(ValueError, match="row 8 of the chunk"):
        launch_time_ends(np.array([5] * 8 + [4, 3]), 100, np.array([NO_BUCKET]))
    with pytest.raises(ValueError, match="row 0 of the chunk"):
        launch_time_ends(np.array([5]), 100, np.array([100]))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 31, 4095, 4096, 4097, 99_991, 5_000_000])
@pytest.mark.parametrize("step", [MINUTE, 7 * MINUTE, DAY_NS])
def test_cuda_is_the_cpu(rows, step):
    gaps = torch.randint(0, 2 * SECOND, (rows,), generator=torch.Generator().manual_seed(rows))
    times = torch.cumsum(gaps, 0) - 10 * DAY_NS
    expected = time_ends(times, step, torch.tensor([NO_BUCKET]))
    for _ in range(2):
        got = time_ends(times.cuda(), step, torch.tensor([NO_BUCKET]).cuda())
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
