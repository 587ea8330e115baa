"""Loaders: the same batches from memory and from shards, for any number of ranks; shards that are not what they say."""

import gc
import hashlib
import io
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset import shards
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.dataset.order import GROUP, segment_groups
from tests.dataset.market import CPU, config, market, write
from train.loaders import device, webdataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("store"), market(("AAA", "BBB"), rows=600), config("webdataset")).path


@pytest.fixture(scope="module")
def dataset(folder):
    return load_dataset(folder, CPU)


def batches(loader, dataset, part="train", rank=0, world=1, **options):
    keys = {"batch_size": 50, "seed": 7, "epoch": 1, "shuffle": True, "device": CPU, **options}
    return list(loader.load(dataset, part, rank=rank, world=world, **keys))


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.weight_total == b.weight_total and list(a.inputs) == list(b.inputs)
        for name in a.inputs:
            assert torch.equal(a.inputs[name], b.inputs[name])
        for name in ("target", "weight", "sample"):
            first, second = getattr(a, name), getattr(b, name)
            assert first.dtype == second.dtype and torch.equal(first, second)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_memory_and_shards_give_the_same_batches(dataset, part, world, shuffle):
    for rank in range(world):
        keys = {"part": part, "rank": rank, "world": world, "shuffle": shuffle}
        assert_same(batches(device, dataset, **keys), batches(webdataset, dataset, **keys))


@pytest.mark.parametrize("loader", [device, webdataset])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_ranks_together_are_one_process(dataset, loader, world, shuffle):
    whole = batches(loader, dataset, shuffle=shuffle)
    shares = [batches(loader, dataset, rank=rank, world=world, shuffle=shuffle) for rank in range(world)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert {part.weight_total for part in parts} == {batch.weight_total}
        assert batch.weight_total == pytest.approx(float(batch.weight.double().sum()), rel=1e-12)
        joined = torch.cat([part.sample for part in parts])
        order = torch.argsort(joined)
        assert torch.equal(joined[order], batch.sample.sort().values)
        for name, windows in batch.inputs.items():
            together = torch.cat([part.inputs[name] for part in parts])[order]
            assert torch.equal(together, windows[torch.argsort(batch.sample)])


@pytest.mark.parametrize("loader", [device, webdataset])
def test_windows_are_the_rows_that_the_index_names(dataset, loader):
    for batch in batches(loader, dataset, part="validation", shuffle=False):
        for s, (name, stream) in enumerate(dataset.streams.items()):
            for place, sample in enumerate(batch.sample.tolist()):
                last = int(dataset.index[sample, s])
                assert torch.equal(batch.inputs[name][place], stream.values[last - stream.window + 1 : last + 1])
        assert torch.equal(batch.target, dataset.target[batch.sample])
        assert torch.equal(batch.weight, dataset.weight[batch.sample])


def test_training_mixes_and_drops_only_the_last_short_batch(dataset):
    found = torch.cat([batch.sample for batch in batches(device, dataset)])
    train = dataset.parts["train"]
    assert len(found) == len(train) // 50 * 50 and len(found.unique()) == len(found)
    assert not torch.equal(found, found.sort().values)
    assert len(segment_groups(-(-len(train) // 32), 7, 1)) > 2, "batches must cross groups in this example"
    crossing = {number * GROUP * 32 % 50 for number in (1, 2)}
    assert crossing != {0}


@pytest.mark.parametrize("loader", [device, webdataset])
def test_a_part_smaller_than_a_batch_is_one_batch(dataset, loader):
    (only,) = batches(loader, dataset, batch_size=10_000)
    assert len(only.sample) == len(dataset.parts["train"])
    slices = [batches(loader, dataset, batch_size=10_000, rank=rank, world=2)[0] for rank in (0, 1)]
    assert sum(len(batch.sample) for batch in slices) == len(only.sample)


@pytest.mark.parametrize("loader", [device, webdataset])
def test_a_rank_without_samples_still_gets_its_batch(dataset, loader):
    last = [batches(loader, dataset, "test", rank, 3, batch_size=100, shuffle=False)[-1] for rank in range(3)]
    few = replace(dataset, parts={**dataset.parts, "test": dataset.parts["test"][:1]})
    assert len(last) == 3
    if loader is device:
        empty = batches(loader, few, "test", 1, 2, shuffle=False)
        assert [len(batch.sample) for batch in empty] == [0] and empty[0].inputs["bars"].shape == (0, 8, 5)


def test_an_empty_slice_from_shards(folder, dataset):
    count = len(dataset.parts["test"])
    size = count - 1
    tail = batches(webdataset, dataset, "test", 1, 2, batch_size=size, shuffle=False)[-1]
    assert len(tail.sample) == 0 and tail.inputs["book"].shape == (0, 4, 12) and tail.weight_total > 0


@pytest.mark.parametrize("loader", [device, webdataset])
def test_inputs_choose_streams_and_reuse_writes_into_the_same_memory(dataset, loader):
    wanted = batches(loader, dataset, inputs=["book"])
    assert all(list(batch.inputs) == ["book"] for batch in wanted)
    places = set()
    keys = {"batch_size": 50, "seed": 7, "epoch": 1, "shuffle": True, "device": CPU, "inputs": ["book"], "reuse": True}
    for batch, other in zip(loader.load(dataset, "train", **keys), wanted, strict=True):
        assert torch.equal(batch.inputs["book"], other.inputs["book"])
        places.add(batch.inputs["book"].data_ptr())
    assert len(places) == 1


def test_the_reading_thread_ends_when_a_loop_is_left_early(dataset):
    before = threading.active_count()
    stream = webdataset.load(dataset, "train", batch_size=10, seed=1, epoch=0, device=CPU, shuffle=True)
    next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before
    for _ in webdataset.load(dataset, "train", batch_size=10, seed=1, epoch=0, device=CPU, shuffle=True):
        break
    gc.collect()
    assert threading.active_count() == before


def test_errors_of_the_caller(dataset, tmp_path):
    for loader in (device, webdataset):
        with pytest.raises(InputError, match=r"no part 'tests'; did you mean 'test'\?"):
            batches(loader, dataset, part="tests")
        with pytest.raises(InputError, match=r"no stream 'macro'; the dataset has bars, book"):
            batches(loader, dataset, inputs=["macro"])
    with pytest.raises(InputError, match=r"has no shards; rerun the dataset stage with train.loader: webdataset"):
        batches(webdataset, replace(dataset, folder=tmp_path))
    with pytest.raises(InputError, match=r"stream 'bars' is on cpu, batches are wanted on meta; .*resident=True"):
        batches(device, dataset, device=torch.device("meta"))


@pytest.fixture
def copy(tmp_path, dataset):
    """A dataset whose shards may be damaged."""
    (tmp_path / "shards").mkdir()
    for path in (dataset.folder / "shards").iterdir():
        (tmp_path / "shards" / path.name).write_bytes(path.read_bytes())
    return replace(dataset, folder=tmp_path)


def sign(copy, name, content):
    """Replaces a shard and its sha256, as someone who rewrites shards would."""
    (copy.folder / "shards" / name).write_bytes(content)
    index = json.loads((copy.folder / "shards" / "index.json").read_text())
    for entries in index["parts"].values():
        for entry in entries:
            if entry["file"] == name:
                entry["sha256"] = hashlib.sha256(content).hexdigest()
    (copy.folder / "shards" / "index.json").write_text(json.dumps(index))


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_a_flipped_bit_a_missing_shard_and_a_damaged_index(copy):
    path = copy.folder / "shards" / "train-000003.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train-000003.tar: sha256 differs from the index's; rerun the dataset stage"):
        batches(webdataset, copy)
    path.unlink()
    with pytest.raises(InputError, match=r"train-000003.tar: cannot be read \(No such file or directory\)"):
        batches(webdataset, copy)
    index = copy.folder / "shards" / "index.json"
    index.write_text("{}")
    with pytest.raises(InputError, match=r"index.json: lacks a key of part 'train'"):
        batches(webdataset, copy)


def test_a_dropped_sample_is_an_error(copy):
    members = shards.segment_members(copy, copy.parts["train"][32:63])
    sign(copy, "train-000001.tar", shards._tar("train-000001", members))
    with pytest.raises(InputError, match=r"'target.npy' must be int64 of shape \[32\] \(value 'int64 \[31\]'\)"):
        batches(webdataset, copy)
    members = shards.segment_members(copy, copy.parts["train"][33:65])
    sign(copy, "train-000001.tar", shards._tar("train-000001", members))
    with pytest.raises(InputError, match=r"train-000001.tar: does not hold the 32 samples of this segment"):
        batches(webdataset, copy)
    index = copy.folder / "shards" / "index.json"
    values = json.loads(index.read_text())
    values["parts"]["train"].pop()
    index.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"part 'train' has [\d,]+ samples in \d+ segments in the dataset \(value "):
        batches(webdataset, copy)


def test_nothing_is_unpickled_or_decoded_that_is_not_npy_or_json(copy):
    members = shards.segment_members(copy, copy.parts["train"][32:64])

    changes = {
        "cannot be read as a shard: a .npy member holds Python objects": {
            "target.npy": npy(np.array([{}], dtype=object), allow_pickle=True)
        },
        r"may hold .npy and .json members only \(value 'extra.pyd'\)": {"extra.pyd": b"cos\nsystem\n"},
        r"'rows0.npy' must be float32 of shape \[1, 5\] \(value 'float64": {"rows0.npy": npy(np.zeros((1, 5)))},
        r"'last0.npy' points outside 'rows0.npy'": {"last0.npy": npy(np.full(32, 10**6))},
    }
    for message, change in changes.items():
        sign(copy, "train-000001.tar", shards._tar("train-000001", {**members, **change}))
        with pytest.raises(InputError, match=message):
            batches(webdataset, copy)
    without = {name: content for name, content in members.items() if name != "rows1.npy"}
    sign(copy, "train-000001.tar", shards._tar("train-000001", without))
    with pytest.raises(InputError, match=r"train-000001.tar: lacks the member 'rows1.npy'"):
        batches(webdataset, copy)
    whole = shards._tar("train-000001", members)
    for content in (whole[:1000], b"", b"no archive" * 100):
        sign(copy, "train-000001.tar", content)
        with pytest.raises(InputError, match=r"train-000001.tar: (cannot be read as a shard|must hold the members)"):
            batches(webdataset, copy)
