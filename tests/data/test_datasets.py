"""Four layouts of data, one kind of surface: who is learned from, who is tested on."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from metricad.data import datasets, images
from metricad.data.levels import Levels
from metricad.errors import DataError
from metricad.training import triplets
from tests.helpers import save

RNG = np.random.default_rng(0)


def picture(side=40):
    """Draw noise of 8-bit levels."""
    return images.from_uint8(RNG.integers(0, 256, (side, side), dtype=np.uint8))


def names(samples):
    return [sample.name for sample in samples]


def disjoint(surface):
    """Whether nothing is learned that is tested, and every name comes up once."""
    every = names(surface.fit) + names(surface.test)
    return len(every) == len(set(every))


# Folders of classes.


@pytest.fixture
def classes(tmp_path):
    for name in ("brick", "bark"):
        for number in range(3):
            save(tmp_path / "textures" / name / f"{number}.png", picture())
    (tmp_path / "textures" / ".cache").mkdir()
    (tmp_path / "textures" / "readme.txt").touch()
    return tmp_path / "textures"


def test_a_folder_of_classes_is_learned_whole(classes):
    surfaces = datasets.load(classes)
    assert [(one.dataset, one.name, len(one.fit), one.test) for one in surfaces] == [
        ("textures", "bark", 3, ()),
        ("textures", "brick", 3, ()),
    ]
    assert names(surfaces[1].fit) == ["brick/0.png", "brick/1.png", "brick/2.png"]
    assert not any(sample.is_defect for one in surfaces for sample in one.fit)
    np.testing.assert_array_equal(surfaces[0].fit[2].read(), images.read(classes / "bark" / "2.png"))
    # The number of normals is one of labelled surfaces.
    assert [len(one.fit) for one in datasets.load(classes, normals=1)] == [3, 3]


def test_images_are_read_when_they_are_asked_for(classes):
    surfaces = datasets.load(classes)
    (classes / "bark" / "1.png").unlink()
    stream = datasets.read_all(surfaces[0].fit)
    assert next(stream).shape == (40, 40)
    with pytest.raises(DataError, match=r"1\.png: no such file"):
        next(stream)


def test_the_current_folder_has_a_name_as_well(classes, monkeypatch):
    monkeypatch.chdir(classes)
    assert {one.dataset for one in datasets.load(".")} == {"textures"}


def test_a_class_without_images_is_refused(classes):
    (classes / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images in this folder"):
        datasets.load(classes)


def test_a_folder_without_folders_is_refused_with_the_layouts(tmp_path):
    save(tmp_path / "0.png", picture())
    with pytest.raises(DataError, match="expected one folder of images for each class, or the MVTec layout"):
        datasets.load(tmp_path)


def test_an_image_below_the_receptive_field_is_refused_by_name(classes):
    save(classes / "bark" / "0.png", picture(31))
    with pytest.raises(DataError, match=r"bark/0\.png: expected at least 32×32 pixels, received 31×31"):
        list(datasets.read_all(datasets.load(classes)[0].fit))


# The MVTec layout.


@pytest.fixture
def mvtec(tmp_path):
    root = tmp_path / "parts"
    for surface, good in (("tile", 4), ("wood", 2)):
        for number in range(good):
            save(root / surface / "train" / "good" / f"{number:03}.png", picture())
        for kind, count in (("good", 2), ("crack", 3), ("hole", 1)):
            for number in range(count):
                save(root / surface / "test" / kind / f"{number:03}.png", picture())
                if kind != "good":
                    mask = np.zeros((40, 40), np.uint8)
                    mask[number : number + 5, 7:20] = 255
                    images.write(root / surface / "ground_truth" / kind / f"{number:03}_mask.png", mask)
    return root


def test_the_mvtec_layout(mvtec):
    tile, wood = datasets.load(mvtec)
    assert (tile.dataset, tile.name, wood.name) == ("parts", "tile", "wood")
    assert names(tile.fit) == [f"train/good/{number:03}.png" for number in range(4)]
    assert [(sample.kind, sample.is_defect) for sample in tile.test] == [
        *[("crack", True)] * 3,
        *[("good", False)] * 2,
        ("hole", True),
    ]
    assert disjoint(tile)
    assert tile.test[0].read().shape == (40, 40)


def test_masks_are_the_ground_truth_where_there_is_one(mvtec):
    tile, _ = datasets.load(mvtec)
    mask = tile.test[1].read_mask()
    assert mask.dtype == bool
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 5, 7, 19)
    assert mask.sum() == 5 * 13
    assert all(sample.read_mask is None for sample in tile.test if not sample.is_defect)


def test_the_range_of_levels_is_that_of_the_good_images_of_a_surface(mvtec):
    """Also of images of a class, as training reads them."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 4096, (40, 40), dtype=np.uint16)
    levels[0, 0] = 4095
    for path in (mvtec / "tile").rglob("*.png"):
        if "ground_truth" not in path.parts:
            Image.fromarray(levels if "test" in path.parts else levels // 2 + 1).save(path)
    surface = next(one for one in datasets.load(mvtec) if one.name == "tile")
    np.testing.assert_allclose(surface.test[0].read(), levels / 2047.5 - 1, atol=1e-6)
    fewer = datasets.with_levels(surface, Levels("uint16", 10))
    with pytest.raises(DataError, match="a level of"):
        fewer.test[0].read()
    (texture,) = datasets.load(mvtec / "tile" / "train")
    np.testing.assert_allclose(texture.fit[0].read(), (levels // 2 + 1) / 2047.5 - 1, atol=1e-6)


@pytest.mark.parametrize("level", [1, 64, 255])
def test_whatever_is_not_black_in_a_mask_is_defect(mvtec, level):
    """Masks are written with 1, with 255 and as colored labels."""
    mask = np.zeros((40, 40), np.uint8)
    mask[3, 4] = level
    images.write(mvtec / "tile" / "ground_truth" / "crack" / "000_mask.png", mask)
    assert np.argwhere(datasets.load(mvtec)[0].test[0].read_mask()).tolist() == [[3, 4]]


def test_a_single_surface_is_read_by_its_own_folder(mvtec):
    (tile,) = datasets.load(mvtec / "tile")
    assert (tile.dataset, tile.name) == ("tile", "tile")
    assert (len(tile.fit), len(tile.test)) == (4, 6)


def test_of_the_mvtec_layout_the_first_normals_are_learned(mvtec):
    (tile,) = datasets.load(mvtec / "tile", normals=3)
    assert names(tile.fit) == [f"train/good/{number:03}.png" for number in range(3)]
    assert len(tile.test) == 6


def test_more_normals_than_there_are_is_refused(mvtec):
    with pytest.raises(DataError, match="wood: asked for 3 good images to fit to, found 2"):
        datasets.load(mvtec, normals=3)


@pytest.mark.parametrize("normals", [0, -1])
def test_normals_are_counted_from_one(mvtec, normals):
    with pytest.raises(ValueError, match="normals must be at least 1"):
        datasets.load(mvtec, normals=normals)


# Prepared data sets.

SURFACES = ("steel", "wood", "unused")
GOOD, DEFECTS = 7, 3


def store(data_dir, name, features, examples, *, config=None, version="1.0.0"):
    """Write a TFDS directory; `examples` maps each split to its list."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    return tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        config=config,
        data_dir=data_dir,
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(rows)) for split, rows in examples.items()},
    )


def image_feature(channels=1):
    import tensorflow_datasets as tfds

    return tfds.features.Image(shape=(None, None, channels), dtype=np.uint8, encoding_format="png")


def labelled_examples():
    """Examples of two surfaces, whose gray tells their number, in no order of names."""
    for surface in (0, 1):
        for number in RNG.permutation(GOOD + DEFECTS):
            mask = np.zeros((40, 48, 1), np.uint8)
            if number >= GOOD:
                mask[number, surface] = 255
            yield {
                "image": np.full((40, 48, 1), 10 * number + surface, np.uint8),
                "mask": mask,
                "label": int(number >= GOOD),
                "surface": surface,
                "name": f"{SURFACES[surface]}/{number:02}",
            }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of prepared data sets of both schemas."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("prepared")
    rows = list(labelled_examples())
    labelled = {
        "image": image_feature(),
        "mask": image_feature(),
        "label": tfds.features.ClassLabel(names=["normal", "defect"]),
        "surface": tfds.features.ClassLabel(names=SURFACES),
        "name": tfds.features.Text(),
    }
    for config in ("all", "half"):
        store(data_dir, "made", labelled, {"train": rows[::2], "test": rows[1::2]}, config=config)
    plain = {"image": image_feature(3), "label": tfds.features.ClassLabel(names=["a", "b", "none"])}
    for version in ("1.9.0", "1.10.0"):
        classes = [
            {"image": np.full((32, 32, 3), 50 * i + (version == "1.10.0"), np.uint8), "label": i % 2}
            for i in range(4)
        ]
        store(data_dir, "plain", plain, {"train": classes}, version=version)
    return data_dir


@pytest.mark.tf
def test_labelled_surfaces_are_split_by_halves(prepared):
    surfaces = datasets.load("made/all", data_dir=prepared)
    assert [(one.dataset, one.name) for one in surfaces] == [("made/all", "steel"), ("made/all", "wood")]
    for surface in surfaces:
        assert len(surface.fit) == GOOD // 2
        assert len(surface.test) == GOOD - GOOD // 2 + DEFECTS
        assert disjoint(surface)
        assert {sample.name.split("/")[0] for sample in (*surface.fit, *surface.test)} == {surface.name}
        assert not any(sample.is_defect for sample in surface.fit)
        assert sum(sample.is_defect for sample in surface.test) == DEFECTS
        assert names(surface.test) == sorted(names(surface.test))


@pytest.mark.tf
def test_pixels_and_masks_are_those_that_were_stored(prepared):
    for number, surface in enumerate(datasets.load("made/all", data_dir=prepared)):
        for sample in (*surface.fit, *surface.test):
            own = int(sample.name.split("/")[1])
            assert (images.to_uint8(sample.read()) == 10 * own + number).all()
            assert sample.read().shape == (40, 48)
            assert sample.is_defect == (own >= GOOD)
            if sample.is_defect:
                assert np.argwhere(sample.read_mask()).tolist() == [[own, number]]
            else:
                assert sample.read_mask is None


@pytest.mark.tf
def test_the_split_is_the_same_every_time_and_does_not_follow_the_names(prepared):
    one, again = (datasets.load("made/all", data_dir=prepared) for _ in range(2))
    assert [names(surface.fit) for surface in one] == [names(surface.fit) for surface in again]
    first = [f"steel/{number:02}" for number in range(GOOD // 2)]
    assert sorted(names(one[0].fit)) != first


@pytest.mark.parametrize(("good", "defects", "tested"), [(1000, 150, 500), (2000, 300, 1500)])
def test_of_each_class_of_the_paper_500_good_images_are_learned(good, defects, tested):
    """The counts of DAGM's classes 1 to 6, and 7 to 10."""
    kinds = ["good"] * good + ["hole"] * defects
    samples = [datasets.Sample(f"{number:04}", kind, lambda: None) for number, kind in enumerate(kinds)]
    surface = datasets._split_labelled("dagm2007/all", "class1", samples, 500)
    assert len(surface.fit) == 500
    assert sum(not sample.is_defect for sample in surface.test) == tested
    assert sum(sample.is_defect for sample in surface.test) == defects
    assert disjoint(surface)


@pytest.mark.tf
def test_fewer_normals_are_among_more(prepared):
    """So a network that was trained on few can be tested with more held out, never the reverse."""
    chosen = [
        set(names(datasets.load("made/all", data_dir=prepared, normals=count)[0].fit)) for count in (2, 3, 7)
    ]
    assert [len(one) for one in chosen] == [2, 3, 7]
    assert chosen[0] < chosen[1] < chosen[2]
    with pytest.raises(DataError, match="steel: asked for 8 good images to fit to, found 7"):
        datasets.load("made/all", data_dir=prepared, normals=8)


@pytest.mark.tf
def test_by_name_by_folder_and_by_version_it_is_the_same_data_set(prepared):
    """What was trained on by one name must not be tested on under another."""
    found = [
        datasets.load("made/all", data_dir=prepared),
        datasets.load(prepared / "made" / "all"),
        datasets.load(prepared / "made" / "all" / "1.0.0"),
    ]
    described = [datasets.describe(surfaces) for surfaces in found]
    assert described[0] == described[1] == described[2]


@pytest.mark.tf
def test_of_several_configurations_one_must_be_named(prepared):
    with pytest.raises(DataError, match="several configurations; name one of made/all, made/half"):
        datasets.load("made", data_dir=prepared)


@pytest.mark.tf
def test_classes_are_learned_whole_from_the_newest_version(prepared):
    a, b = datasets.load("plain", data_dir=prepared, normals=1)
    assert [(one.dataset, one.name, len(one.fit), one.test) for one in (a, b)] == [
        ("plain", "a", 2, ()),
        ("plain", "b", 2, ()),
    ]
    # Without names of their own they are numbered; 1.10 is newer than 1.9.
    assert sorted(names(a.fit) + names(b.fit)) == [f"train/{number}" for number in range(4)]
    assert sorted(images.to_uint8(sample.read()).max() for sample in b.fit) == [51, 151]


@pytest.mark.tf
def test_what_is_not_there_is_refused_with_what_to_do(prepared, tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder; for the name of a prepared data set give"):
        datasets.load("nowhere")
    with pytest.raises(DataError, match=r"dagm2007/class1: not found in .*metricad-data"):
        datasets.load("dagm2007/class1", data_dir=prepared)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match="no prepared data set here"):
        datasets.load("hollow", data_dir=tmp_path)


def damaged_copy(prepared, tmp_path, change):
    """Copy the plain data set and change its records' bytes."""
    import shutil

    copy = tmp_path / "copy" / "plain" / "1.10.0"
    shutil.copytree(prepared / "plain" / "1.10.0", copy)
    (records,) = copy.glob("*tfrecord*")
    records.write_bytes(change(records.read_bytes()))
    return copy


@pytest.mark.tf
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:100] + bytes(20) + content[120:],
        lambda content: b"no records",
    ],
    ids=["truncated", "overwritten", "replaced"],
)
def test_damaged_records_are_refused(prepared, tmp_path, change):
    with pytest.raises(DataError, match=r"1\.10\.0: damaged, or no images with labels"):
        datasets.load(damaged_copy(prepared, tmp_path, change))


@pytest.mark.tf
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_are_refused(prepared, tmp_path, name):
    copy = damaged_copy(prepared, tmp_path, bytes)
    (copy / name).write_text("{")
    with pytest.raises(DataError, match="damaged, or no images with labels"):
        datasets.load(copy)
    (copy / name).write_text("{}")
    with pytest.raises(DataError, match="damaged, or no images with labels"):
        datasets.load(copy)


@pytest.mark.tf
def test_a_data_set_of_something_else_is_refused(tmp_path):
    import tensorflow_datasets as tfds

    store(tmp_path, "texts", {"text": tfds.features.Text()}, {"train": [{"text": "hello"}]})
    with pytest.raises(DataError, match=r"texts/1\.0\.0: damaged, or no images with labels"):
        datasets.load("texts", data_dir=tmp_path)


@pytest.mark.tf
def test_an_image_inside_the_records_that_is_damaged_is_refused_by_name():
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(encoded, "PNG")
    sample = datasets._tfds_sample({"image": encoded.getvalue()[:50], "label": 0}, "train/7", False)
    with pytest.raises(DataError, match="train/7: damaged, no readable image"):
        sample.read()


# For training, and for its record.


def test_the_record_knows_images_by_their_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(2, 40, 40)).astype(np.uint8)
    for name, folder in (("a.png", "one"), ("b.png", "two")):
        for number, each in enumerate(pixels):
            save(tmp_path / folder / "brick" / f"{number}{name}", each)
    one, two = (datasets.describe(datasets.load(tmp_path / folder)) for folder in ("one", "two"))
    assert one["fingerprints"] == two["fingerprints"]
    assert len(set(one["fingerprints"])) == 2


@pytest.mark.tf
def test_the_record_names_what_labelled_surfaces_were_learned_from(prepared, classes):
    surfaces = datasets.load("made/all", data_dir=prepared, normals=2)
    record = datasets.describe(surfaces)
    assert record["dataset"] == "made/all"
    assert (record["classes"], record["images"]) == (2, 4)
    assert record["labelled"] == {one.name: sorted(names(one.fit)) for one in surfaces}
    assert json.loads(json.dumps(record)) == record
    record = datasets.describe(datasets.load(classes))
    assert len(set(record.pop("fingerprints"))) == 6
    assert record == {"dataset": "textures", "classes": 2, "images": 6, "labelled": {}}


@pytest.mark.tf
def test_a_source_holds_the_good_images_to_learn_from_and_no_others(prepared):
    surfaces = datasets.load("made/all", data_dir=prepared)
    source = triplets.from_surfaces(surfaces, sides=(40,))
    assert source.name == "made/all"
    assert not source.is_object
    for number, surface in enumerate(surfaces):
        (stack,) = source.classes[surface.name]
        found = sorted(stack[:, 0, 0].tolist())
        assert found == sorted(10 * int(name.split("/")[1]) + number for name in names(surface.fit))


@pytest.mark.tf
def test_small_pictures_are_objects(prepared):
    source = triplets.from_surfaces(datasets.load("plain", data_dir=prepared))
    assert source.is_object
    assert source.image_count == 4


@pytest.mark.tf
def test_a_colon_chooses_among_the_surfaces(tmp_path):
    for name in ("a", "b", "c"):
        for kind in ("train/good", "test/good", "test/hole"):
            save(tmp_path / "parts" / name / kind / "0.png", np.zeros((40, 40)))
    source = f"{tmp_path / 'parts'}:c,a"
    assert [surface.name for surface in datasets.load(source)] == ["c", "a"]
    assert {surface.dataset for surface in datasets.load(source)} == {"parts"}
    with pytest.raises(DataError, match="parts: has no d, e; choose among a, b, c"):
        datasets.load(f"{tmp_path / 'parts'}:a,d,e")
    # A folder whose own name has a colon is that folder.
    (tmp_path / "parts").rename(tmp_path / "parts:a")
    assert [surface.name for surface in datasets.load(tmp_path / "parts:a")] == ["a", "b", "c"]
