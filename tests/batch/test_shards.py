"""Shards: every image in one, the same ones again, new ones for new images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricad.batch import shards
from metricad.batch.shards import Shard, cut, shown

NAMES = st.sets(st.integers(10, 50)).map(lambda numbers: sorted(map(str, numbers)))


@pytest.fixture(autouse=True, scope="module")
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SIZE", 4)
        yield


def made(paths, done=()):
    return list(cut(paths, "part", "a" * 64, done=done))


@given(NAMES)
def test_each_image_is_in_one_shard(paths):
    found = made(paths)
    assert [path for shard in found for path in shard.paths] == paths
    assert all(len(shard.paths) == 4 for shard in found[:-1])
    assert len({shard.name for shard in found}) == len(found)


@given(NAMES, st.data())
def test_a_repeated_run_has_the_other_shards(paths, data):
    found = made(paths)
    done = data.draw(st.sets(st.sampled_from(found)) if found else st.just(set()))
    rest = [shard for shard in found if shard not in done]
    assert made(paths, {path for shard in done for path in shard.paths}) == rest


@given(NAMES, NAMES)
def test_new_images_make_shards_of_their_own(paths, more):
    every = sorted({*paths, *more})
    assert [path for shard in made(every, set(paths)) for path in shard.paths] == [
        path for path in every if path not in paths
    ]


def test_the_name_tells_paths_and_inspector():
    one = Shard("part", "a" * 64, ("x", "y"))
    others = [
        Shard("part", "b" * 64, ("x", "y")),
        Shard("other", "a" * 64, ("x", "y")),
        Shard("part", "a" * 64, ("xy",)),
    ]
    assert len({shard.name for shard in [one, *others]}) == 4
    assert one.name == Shard("part", "a" * 64, ("x", "y")).name
    assert one.name.startswith("part-")
    assert one.name.endswith(".parquet")


def test_paths_that_are_no_utf8_are_escaped():
    assert shown("/line/\udcff.png") == "/line/\\xff.png"
    assert shown("/Straße.png") == "/Straße.png"
