"""ks-publish check of folders that somebody cut down or wrote by hand, with checksums that fit."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import KineticsSoundsError, PublishError
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import check, contents, croissant
from kinetics_sounds.pipelines.publishing.previous import previous

from .builds import outcomes, published
from .test_check import found, sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return published(tmp_path, outcomes())


@pytest.mark.parametrize("name", [*contents.DOCUMENTS, "splits/val.csv", "splits/val.parquet"])
def test_a_file_that_went_with_its_checksum_is_missing_all_the_same(folder: Path, name: str) -> None:
    (folder / name).unlink()
    sealed(folder)
    assert found(folder) != []


def test_the_croissant_of_version_0_2_is_ours_too(folder: Path) -> None:
    path = folder / "croissant.json"
    path.write_text(path.read_text().replace('"The label."', '"The Kinetics label."'))
    croissant.check_shape(folder)
    path.write_text(path.read_text().replace('"The Kinetics label."', '"Another label."'))
    with pytest.raises(PublishError, match="its record sets do not match the splits train, val, test"):
        croissant.check_shape(folder)


def test_all_documents_that_went_with_their_checksums_are_missing_each(folder: Path) -> None:
    gone = set(contents.DOCUMENTS) - set(contents.OF_THE_COMMON)
    for name in gone:
        (folder / name).unlink()
    sealed(folder)
    assert {(each.kind, each.place) for each in found(folder)} == {("missing", name) for name in gone}


def test_what_a_checkout_of_the_hub_has_besides_is_no_finding_and_what_is_called_alike_is_one(folder: Path) -> None:
    for name in (".git/config", ".gitattributes", ".cache/huggingface/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert found(folder) == []
    (folder / ".gitattributes.evil").write_text("x")
    assert [each.place for each in found(folder)] == [".gitattributes.evil"]


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["clips", "content"]),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["@type", "name", "clips"]), each, max_size=3)
    ),
    max_leaves=6,
)


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_that_a_stranger_wrote_is_a_traceback(data: st.DataObject, folder: Path) -> None:
    """One value of fingerprints.json or croissant.json is anything."""
    name = data.draw(st.sampled_from(["fingerprints.json", "croissant.json"]))
    before = (folder / name).read_bytes()
    document = json.loads(before)
    document[data.draw(st.sampled_from(sorted(document)))] = data.draw(ANY_JSON)
    (folder / name).write_text(json.dumps(document))
    try:
        list(check.check(folder, with_croissant=False))
        with contextlib.suppress(PublishError):
            croissant.check_shape(folder)
            croissant.sums(folder)
        sealed(folder)
        with contextlib.suppress(KineticsSoundsError):
            previous(folder)
    finally:
        (folder / name).write_bytes(before)
        sealed(folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("fingerprints.json", "splits", {key: ["clips", "selection", "content"] for key in SPLITS}),
        ("fingerprints.json", "splits", {key: {"clips": [], "selection": "", "content": ""} for key in SPLITS}),
        ("croissant.json", "creator", 5),
        ("croissant.json", "creator", [{}]),
        ("croissant.json", "creator", [[1]]),
    ],
)
def test_a_value_of_another_kind_is_a_finding(
    folder: Path, name: str, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((folder / name).read_text()) | {key: value}
    (folder / name).write_text(json.dumps(document))
    sealed(folder)
    more = ["--no_croissant"] if name.startswith("f") else []
    assert publish.main(["check", str(folder), *more]) == 1
    assert f"{name.split('.')[0].removesuffix('s')}: {name}: " in capsys.readouterr().out
