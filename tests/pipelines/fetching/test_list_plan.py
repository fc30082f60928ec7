"""Lists of clips become the clips that a build asks for; what a row does not say, the annotations do."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import fingerprints, lists
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import AnnotationError, ListError
from kinetics_sounds.lists import mmaction2
from kinetics_sounds.pipelines import list_origin
from kinetics_sounds.pipelines.fetching import list_plan, list_report
from kinetics_sounds.pipelines.fetching.list_classes import class_list_of, files_of, name_of
from kinetics_sounds.pipelines.fetching.list_plan import Asked, ListPlan, plan_lists

HEAD = "label,youtube_id,time_start,time_end,split\n"
CLASSES = ClassList("three", ("tap dancing", "bowling", "archery"))  # sorted: archery, bowling, tap dancing
ANNOTATED = (
    "archery,aaaaaaaaaaa,0,10,train\n"
    "bowling,bbbbbbbbbbb,5,15,train\n"
    "bowling,ccccccccccc,5,15,val\n"
    "tap dancing,ddddddddddd,5,15,test\n"
    "tap dancing,twice______,5,15,test\n"
    "tap dancing,twice______,5,14,test\n"
    "tap dancing,twice______,40,50,test\n"
)


class Never:
    def __call__(self) -> list[Path]:
        raise AssertionError("the annotations are not needed")


def planned(
    folder: Path,
    *texts: str,
    names: Sequence[str] = ("one.txt", "two.txt"),
    classes: ClassList | None = CLASSES,
    annotations: str | None = ANNOTATED,
    splits: Sequence[str] = SPLITS,
    split: str = "",
    limit: int | None = None,
    always: bool = False,
) -> ListPlan:
    paths = []
    for name, text in zip(names, texts, strict=False):
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(text)
    place = folder / "annotations.csv"
    place.write_text(HEAD + (annotations or ""))
    return plan_lists(
        [lists.recognise(path) for path in paths],
        classes,
        Asked(splits=splits, split=split, limit=limit),
        annotation_lists=Never() if annotations is None else lambda: [place],
        always=always,
    )


def told(plan: ListPlan) -> list[tuple[str, str, str]]:
    return [(clip.key, clip.label, clip.split) for clip in plan.clips]


# --- What the annotations say -----------------------------------------------------------------------------------------


def test_missing_ends_labels_and_splits_come_from_the_annotations(tmp_path: Path) -> None:
    plan = planned(tmp_path, "key\naaaaaaaaaaa_0\nbbbbbbbbbbb\nddddddddddd_000005_000015\n", classes=None)

    assert told(plan) == [
        ("aaaaaaaaaaa_000000_000010", "archery", "train"),
        ("bbbbbbbbbbb_000005_000015", "bowling", "train"),
        ("ddddddddddd_000005_000015", "tap dancing", "test"),
    ]
    assert plan.classes.labels == ("archery", "bowling", "tap dancing")
    assert plan.unbuilt == 0


def test_a_class_index_counts_the_sorted_labels(tmp_path: Path) -> None:
    """The class list is tap dancing, bowling, archery; sorted it is the other way round."""
    by_sorted = planned(tmp_path, "aaaaaaaaaaa_0,10,0\nddddddddddd_5,10,2\n")
    videos = planned(tmp_path, "aaaaaaaaaaa_000000_000010.mp4 0\nddddddddddd_000005_000015.mp4 2\n")

    assert told(by_sorted) == told(videos)
    assert [label for _, label, _ in told(by_sorted)] == ["archery", "tap dancing"]


def test_a_format_may_count_the_labels_as_the_class_list_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_sorted = planned(tmp_path, "aaaaaaaaaaa_0,10,0\nddddddddddd_5,10,2\n")
    monkeypatch.setattr(mmaction2, "SORTED", False)
    as_given = planned(tmp_path, "aaaaaaaaaaa_000000_000010.mp4 2\nddddddddddd_000005_000015.mp4 0\n")

    assert told(by_sorted) == told(as_given)
    assert [label for _, label, _ in told(by_sorted)] == ["archery", "tap dancing"]


def test_a_list_that_says_all_needs_no_annotations(tmp_path: Path) -> None:
    text = HEAD + "curling,eeeeeeeeeee,5,15,val\n"

    assert told(planned(tmp_path, text, classes=None, annotations=None)) == [
        ("eeeeeeeeeee_000005_000015", "curling", "val")
    ]
    folders = "tap_dancing/ddddddddddd_000005_000015.avi\n"
    plan = planned(tmp_path, folders, names=["val.txt"], classes=None, annotations=None)
    assert told(plan) == [("ddddddddddd_000005_000015", "tap dancing", "val")]
    assert not plan.annotated


def test_what_may_be_several_clips_is_named_and_not_built(tmp_path: Path) -> None:
    plan = planned(tmp_path, "key\ntwice______\ntwice______5_5\naaaaaaaaaaa\n", classes=None)
    again = planned(tmp_path, "twice_______5,10,2\ntwice_______40,10,2\ntwice_______7,10,2\n", names=["test.txt"])

    assert [key for key, _, _ in told(plan)] == ["aaaaaaaaaaa_000000_000010"]
    assert plan.tally.named["ambiguous"] == [
        f"{tmp_path / 'one.txt'}:2: 'twice______': may be any of 3 annotated clips (5 to 14, 5 to 15, 40 to 50 s)"
    ]
    assert told(again) == [("twice_______000040_000050", "tap dancing", "test")]
    assert again.tally.rows["test"] == {
        "rows": 3,
        "ambiguous": 1,
        "not_in_annotations": 1,
        "in_annotations": 1,
        "clips": 1,
    }
    assert again.unbuilt == 2


def test_what_the_annotations_lack_is_named(tmp_path: Path) -> None:
    rows = "key,label\nzzzzzzzzzzz_5,bowling\nyyyyyyyyyyy_000000_000010,\nxxxxxxxxxxx_000000_000010,bowling\naaaaaaaaaaa_0,\n"
    plan = planned(tmp_path, rows)

    said = [text.partition(": ")[2] for text in plan.tally.named["not_in_annotations"]]
    assert said == [
        "'zzzzzzzzzzz_5': is not in the annotations, and the list does not give its times",
        "'yyyyyyyyyyy_000000_000010': is not in the annotations, and the list has no label for it",
        "'xxxxxxxxxxx_000000_000010': is not in the annotations, and its split is unknown; give it with --clips_split",
    ]
    assert plan.unbuilt == 3


def test_two_annotations_of_one_clip_that_differ_are_refused_only_where_they_are_asked_for(tmp_path: Path) -> None:
    annotations = ANNOTATED + "archery,bbbbbbbbbbb,5,15,val\n"

    assert len(planned(tmp_path, "key\naaaaaaaaaaa\n", annotations=annotations).clips) == 1
    with pytest.raises(AnnotationError, match=r"csv:9: bbbbbbbbbbb_000005_000015 is 'archery' in val, but .*csv:3 has"):
        planned(tmp_path, "key\nbbbbbbbbbbb\n", annotations=annotations)


# --- Splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "row_split", "option", "expected"),
    [
        ("one.txt", "", "", "train"),  # the annotations
        ("my_test.txt", "", "", "test"),  # the file's name
        ("my_test.txt", "", "val", "val"),  # the option
        ("my_test.txt", "", "annotations", "train"),
        ("my_test.txt", "val", "", "val"),  # the row
        ("my_test.txt", "validate", "test", "val"),
        ("my_test.txt", "val", "annotations", "val"),
    ],
)
def test_the_row_then_the_option_then_the_name_then_the_annotations_say_the_split(
    tmp_path: Path, name: str, row_split: str, option: str, expected: str
) -> None:
    plan = planned(tmp_path, f"key,split\naaaaaaaaaaa_0,{row_split}\n", names=[name], split=option)

    assert told(plan) == [("aaaaaaaaaaa_000000_000010", "archery", expected)]
    assert plan.tally.rows[expected]["other_split"] == (expected != "train")


def test_only_the_splits_asked_for_are_built_and_the_others_counted(tmp_path: Path) -> None:
    text = HEAD + ANNOTATED
    plan = planned(tmp_path, text, classes=None, annotations=None, splits=["val"])

    assert told(plan) == [("ccccccccccc_000005_000015", "bowling", "val")]
    assert plan.tally.rows["train"] == {"rows": 2, "other_splits": 2}
    assert plan.classes.labels == ("archery", "bowling", "tap dancing")  # the same for every choice of splits


# --- Labels and classes -----------------------------------------------------------------------------------------------


def test_only_the_classes_asked_for_are_built_and_the_others_counted(tmp_path: Path) -> None:
    plan = planned(tmp_path, HEAD + ANNOTATED, classes=ClassList("one", ("archery", "curling")), annotations=None)
    document = list_report.report(plan, None)

    assert [label for _, label, _ in told(plan)] == ["archery"]
    assert document["splits"]["test"]["other_classes"] == 4
    assert document["classes_without_clips"] == ["curling"]
    assert "rows of other classes: 6" in list_report.text(document)


@pytest.mark.parametrize(
    "label", ["hurling (sport)", "massaging person's head", "passing American football (not in game)", "a/b"]
)
@pytest.mark.parametrize("given", [True, False])
def test_a_folder_with_underscores_is_the_label_that_is_known(tmp_path: Path, label: str, given: bool) -> None:
    folder = label.replace(" ", "_").replace("/", "_")
    plan = planned(
        tmp_path,
        f"{folder}/aaaaaaaaaaa_000000_000010.avi\n",
        classes=ClassList("own", ("x", label)) if given else None,
        annotations=f"{label},aaaaaaaaaaa,0,10,val\n",
        always=True,
    )

    assert told(plan) == [("aaaaaaaaaaa_000000_000010", label, "val")]
    assert plan.tally.rows["unknown"]["other_label"] == plan.tally.rows["val"]["other_label"] == 0


def test_a_label_is_spelt_as_the_class_list_has_it(tmp_path: Path) -> None:
    text = HEAD + "cafe\u0301,aaaaaaaaaaa,0,10,val\ncaf\u00e9,bbbbbbbbbbb,0,10,val\n"

    assert {label for _, label, _ in told(planned(tmp_path, text, classes=ClassList("c", ("caf\u00e9",))))} == {
        "caf\u00e9"
    }
    assert len(planned(tmp_path, text, classes=None).classes.labels) == 1


def test_a_clip_takes_the_first_of_its_labels_that_the_class_list_holds(tmp_path: Path) -> None:
    head = "# x\n# x\n# YTID, start_seconds, end_seconds, positive_labels\n"
    text = head + 'aaaaaaaaaaa, 0.000, 10.000, "/m/1,/m/2,/m/3"\nbbbbbbbbbbb, 0.000, 10.000, "/m/4"\n'
    names = ["eval_segments.csv"]
    plan = planned(tmp_path, text, names=names, classes=ClassList("mids", ("/m/3", "/m/2")), annotations=None)
    free = planned(tmp_path, text, names=names, classes=None, annotations=None)

    assert told(plan) == [("aaaaaaaaaaa_000000_000010", "/m/2", "test")]
    assert plan.tally.rows["test"]["other_classes"] == 1
    assert [clip.labels for clip in plan.clips] == [("/m/2", "/m/1", "/m/3")]
    assert free.classes.labels == ("/m/1", "/m/4")
    assert [clip.label for clip in free.clips] == ["/m/1", "/m/4"]


def test_class_indices_need_their_class_list(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"one\.txt: has class indices, not labels; give the class list .* --classes"):
        planned(tmp_path, "aaaaaaaaaaa_0,10,0\n", classes=None, annotations=None)
    with pytest.raises(ListError, match=r"one\.txt:1: class index 3 is not one of the 3 labels of the class list"):
        planned(tmp_path, "aaaaaaaaaaa_0,10,3\n")


def test_indices_of_another_class_list_are_refused_with_examples(tmp_path: Path) -> None:
    """One label too many, which comes first: every index behind it is another's."""
    annotations = "".join(f"{label},{n:011d},0,10,train\n" for n, label in enumerate(["bowling", "tap dancing"] * 3))
    text = "".join(f"{n:011d}_0,10,{n % 2}\n" for n in range(6))
    right, wrong = ClassList("right", ("bowling", "tap dancing")), ClassList("wrong", ("archery", *CLASSES.labels[:2]))

    assert len(planned(tmp_path, text, classes=right, annotations=annotations).clips) == 6
    with pytest.raises(
        ListError, match=r"indices do not match the class list.*'archery' by its index, but 'bowling' in"
    ):
        planned(tmp_path, text, classes=wrong, annotations=annotations)


def test_one_index_that_the_annotations_contradict_is_named_and_the_list_s_own_holds(tmp_path: Path) -> None:
    annotations = "".join(f"{'bowling' if n else 'archery'},{n:011d},0,10,train\n" for n in range(5))
    plan = planned(
        tmp_path,
        "".join(f"{n:011d}_0,10,0\n" for n in range(5)),
        classes=ClassList("right", ("bowling", "zumba")),
        annotations=annotations,
    )

    assert {label for _, label, _ in told(plan)} == {"bowling"}
    assert plan.tally.named["other_label"] == [
        f"{tmp_path / 'one.txt'}:1: '00000000000_0': 'bowling', by the annotations 'archery'"
    ]
    assert plan.unbuilt == 0


SWAPPED = ClassList("swapped", ("bowling", "archery", "curling"))  # by index 0 is archery, 1 bowling, 2 curling


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["aaaaaaaaaaa_0,10,1\nbbbbbbbbbbb_5,10,0\n"], True),  # one row an index, and both are wrong
        (["aaaaaaaaaaa_0,10,1\n", "bbbbbbbbbbb_5,10,0\nzzzzzzzzzzz_000000_000010,10,2\n"], True),  # z is not annotated
        (["aaaaaaaaaaa_0,10,0\nbbbbbbbbbbb_5,10,0\n"], False),  # one of two
        (["aaaaaaaaaaa_0,10,0\nccccccccccc_5,10,1\n", "bbbbbbbbbbb_5,10,0\n"], False),  # one of three
    ],
)
def test_indices_that_the_annotations_mostly_contradict_are_refused_in_small_lists_too(
    tmp_path: Path, texts: list[str], refused: bool
) -> None:
    names = ["x_train.txt", "y_train.txt"]
    if refused:
        with pytest.raises(
            ListError, match=r"x_train\.txt:1: 'aaaaaaaaaaa_0' is 'bowling' by its index, but 'archery' in"
        ):
            planned(tmp_path, *texts, names=names, classes=SWAPPED)
    else:
        assert planned(tmp_path, *texts, names=names, classes=SWAPPED).tally.rows["train"]["other_label"] == 1


# --- Several rows -----------------------------------------------------------------------------------------------------


def test_a_clip_that_is_named_twice_alike_is_one(tmp_path: Path) -> None:
    plan = planned(tmp_path, "key\naaaaaaaaaaa\naaaaaaaaaaa_0\n", HEAD + "archery,aaaaaaaaaaa,0,10,train\n")

    assert len(plan.clips) == 1
    assert plan.tally.rows["train"] == {"rows": 3, "in_annotations": 3, "clips": 1, "repeated": 2}


def test_a_list_that_is_given_twice_is_one(tmp_path: Path) -> None:
    text = HEAD + "archery,aaaaaaaaaaa,0,10,train\n"
    plan = planned(tmp_path, text, text, names=["one.txt", "one.txt"])

    counts = plan.tally.rows["train"]
    assert (counts["rows"], counts["clips"], counts["repeated"]) == (2, 1, 1)


@pytest.mark.parametrize("row", ["bowling,aaaaaaaaaaa,0,10,train", "archery,aaaaaaaaaaa,0,10,val"])
def test_a_clip_that_is_named_twice_differently_is_refused_with_both_places(tmp_path: Path, row: str) -> None:
    with pytest.raises(
        ListError, match=r"two\.txt:3: aaaaaaaaaaa_000000_000010 is .*one\.txt:2 has 'archery' in train"
    ):
        planned(
            tmp_path, HEAD + "archery,aaaaaaaaaaa,0,10,train\n", HEAD + "bowling,bbbbbbbbbbb,0,9,val\n" + row + "\n"
        )


def test_nothing_left_is_refused_with_what_became_of_the_rows(tmp_path: Path) -> None:
    with pytest.raises(
        ListError, match=r"no clip is left to build; of 2 rows: 1 other splits, 1 unusable.*not a video ID"
    ):
        planned(tmp_path, HEAD + "archery,aaaaaaaaaaa,0,10,train\narchery,../x,0,10,val\n", splits=["val"])


def test_rows_without_a_clip_are_named_beside_those_with_one(tmp_path: Path) -> None:
    plan = planned(tmp_path, HEAD + "archery,aaaaaaaaaaa,0,10,train\narchery,../x,0,10,val\n", annotations=None)

    assert len(plan.clips) == 1
    assert plan.unbuilt == 1
    assert "rows without a clip: 1\n  " in list_report.text(list_report.report(plan, None))


def test_a_limit_leaves_the_lists_selection_as_it_is(tmp_path: Path) -> None:
    rows = "".join(f"archery,{n:011d},0,10,val\n" for n in range(9))
    whole, few = (planned(tmp_path, HEAD + rows, annotations=None, limit=limit) for limit in (None, 4))

    assert (len(whole.clips), len(few.clips)) == (9, 4)
    assert whole.selection == few.selection == fingerprints.selection(told(whole))


@pytest.mark.parametrize("name", ["{key}", "x_{start}", "x"])
def test_many_clips_of_one_video_take_linear_time(tmp_path: Path, name: str) -> None:
    """Twenty thousand; a look at every annotation for every row would take 20 s and more."""
    count = 20_000
    annotations = "".join(f"archery,x,{n},{n + 10},train\n" for n in range(count))
    rows = (name.format(key=f"x_{n:06d}_{n + 10:06d}", start=n) for n in range(count))
    began = time.process_time()
    plan = planned(
        tmp_path, "key\naaaaaaaaaaa\n" + "".join(f"{row}\n" for row in rows), annotations=ANNOTATED + annotations
    )

    assert time.process_time() - began < 6
    assert len(plan.clips) == (1 if name == "x" else count + 1)
    assert plan.unbuilt == (count if name == "x" else 0)


def test_of_rows_beyond_number_and_length_the_first_are_named_and_all_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_plan, "MOST_NAMED", 5)
    long = "!" * 9_000
    rows = [f"{long}{n},archery,train" for n in range(12)]
    rows += [f"aaaaaaaaaaa_000000_000010,{'x' * 9_000},train"]
    plan = planned(tmp_path, "key,label,split\n" + "".join(f"{row}\n" for row in rows), classes=None, always=True)
    document = list_report.report(plan, None)

    assert plan.unbuilt == document["splits"]["unknown"]["unusable"] == 12
    assert (len(document["named"]["unusable"]), document["unnamed"]) == (5, {"unusable": 7})
    assert len(document["named"]["other_label"]) == 1
    assert max(len(text) for texts in document["named"].values() for text in texts) < 600 + len(str(tmp_path))
    assert "  and 9 more; the report lists the first 5" in list_report.text(document)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(ANNOTATED.splitlines()))
def test_the_order_of_rows_changes_nothing(order: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = "".join(f"{line}\n" for line in order)

    assert planned(folder, HEAD + text).clips == planned(folder, HEAD + ANNOTATED).clips


# --- Published folders ------------------------------------------------------------------------------------------------

COLUMNS = "label,youtube_id,time_start,time_end,split,key,status\n"
TRAIN = "archery,aaaaaaaaaaa,0,10,train,aaaaaaaaaaa_000000_000010,ok\n"
GONE = "archery,eeeeeeeeeee,0,10,train,eeeeeeeeeee_000000_000010,private\n"
VAL = "bowling,ccccccccccc,5,15,val,ccccccccccc_000005_000015,ok\n"


def publish(folder: Path, *, classes: str = "tap dancing\narchery\nbowling\n", stated: object = None) -> Path:
    (folder / "splits").mkdir(parents=True)
    (folder / "splits/train.csv").write_text(COLUMNS + TRAIN + GONE)
    (folder / "splits/val.csv").write_text(COLUMNS + VAL)
    (folder / "classes.txt").write_text(classes)
    rows = {
        "train": [("aaaaaaaaaaa_000000_000010", "archery", "train")],
        "val": [("ccccccccccc_000005_000015", "bowling", "val")],
    }
    splits = {name: {"selection": fingerprints.selection(each)} for name, each in rows.items()}
    own = {
        "classes": "three",
        "selection": fingerprints.selection([*rows["train"], *rows["val"]]),
        "splits": splits,
    }
    (folder / "fingerprints.json").write_text(json.dumps(own if stated is None else stated))
    return folder


def plan_published(place: Path) -> ListPlan:
    found = [lists.recognise(path) for path in lists.find(str(place))]
    return plan_lists(found, class_list_of(found), Asked(splits=SPLITS), annotation_lists=Never(), always=False)


def test_a_published_folder_says_all_of_itself(tmp_path: Path) -> None:
    folder = publish(tmp_path / "mine")
    plan = plan_published(folder)

    assert told(plan) == [
        ("aaaaaaaaaaa_000000_000010", "archery", "train"),
        ("ccccccccccc_000005_000015", "bowling", "val"),
    ]
    assert (plan.classes.name, plan.classes.labels) == ("three", ("tap dancing", "archery", "bowling"))
    assert plan.selection == plan.stated == json.loads((folder / "fingerprints.json").read_text())["selection"]
    assert plan.tally.rows["train"]["never_published"] == 1
    assert plan.unbuilt == 0
    assert name_of(plan.lists) == "mine"


def test_one_split_of_a_published_folder_has_its_classes_and_its_own_selection(tmp_path: Path) -> None:
    folder = publish(tmp_path / "mine")
    plan = plan_published(folder / "splits/val.csv")

    assert len(plan.classes.labels) == 3
    assert plan.stated == plan.selection == fingerprints.selection(told(plan))
    assert name_of(plan.lists) == "mine"


def test_a_snapshot_of_the_hub_s_cache_is_a_published_folder(tmp_path: Path) -> None:
    """Its files are links to others that are called after their bytes."""
    whole, snapshot, blobs = publish(tmp_path / "mine"), tmp_path / "cache/snapshots/0abc", tmp_path / "cache/blobs"
    (snapshot / "splits").mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in whole.rglob("*") if path.is_file())):
        path.rename(blobs / f"{number:064x}")
        (snapshot / path.relative_to(whole)).symlink_to(blobs / f"{number:064x}")

    plan = plan_published(snapshot)

    assert (plan.classes.name, plan.classes.labels) == ("three", ("tap dancing", "archery", "bowling"))
    assert plan.stated == plan.selection != ""
    assert name_of(plan.lists) == "0abc"


def test_a_link_to_a_split_is_of_the_folder_that_it_leads_to(tmp_path: Path) -> None:
    folder = publish(tmp_path / "mine")
    (tmp_path / "val.csv").symlink_to(folder / "splits/val.csv")
    (tmp_path / "other").symlink_to(folder)

    assert plan_published(tmp_path / "val.csv").stated
    assert plan_published(tmp_path / "other").classes.name == "three"
    assert plan_published(folder / "splits/../splits/val.csv").classes.name == "three"


def test_a_published_folder_must_have_the_splits_that_it_names(tmp_path: Path) -> None:
    folder = publish(tmp_path / "mine")
    assert [path.name for path in files_of(str(folder))] == ["train.csv", "val.csv"]

    (folder / "splits/test.csv").write_text(COLUMNS)
    with pytest.raises(
        ListError, match=r"mine: has the splits test, train, val, but by its fingerprints\.json train, val"
    ):
        files_of(str(folder))
    (folder / "splits/test.csv").unlink()
    (folder / "splits/train.csv").unlink()
    with pytest.raises(
        ListError, match=r"has the splits val, but by its fingerprints\.json train, val; get the folder ag"
    ):
        files_of(str(folder))
    assert files_of(str(folder / "splits/val.csv")) == (folder / "splits/val.csv",)
    (folder / "fingerprints.json").unlink()
    assert len(files_of(str(folder))) == 1


def test_rows_that_somebody_changed_are_told(tmp_path: Path) -> None:
    folder = publish(tmp_path / "mine")
    (folder / "splits/val.csv").write_text(COLUMNS + VAL.replace("bowling", "archery"))
    plan = plan_published(folder)

    assert plan.stated != plan.selection
    assert (plan.unbuilt, plan.sound) == (0, False)
    assert "they were changed" in list_report.text(list_report.report(plan, None))


def test_a_published_folder_is_told_as_it_was_when_its_rows_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = publish(tmp_path / "mine"), tmp_path / "other.csv"
    other.write_text(COLUMNS + VAL)
    read: list[Path] = []
    of_folder: Callable[[Path], dict[str, str]] = list_origin.of_folder

    def noted(place: Path) -> dict[str, str]:
        read.append(place)
        return of_folder(place)

    monkeypatch.setattr(list_origin, "of_folder", noted)
    plan = plan_lists(
        [lists.recognise(path) for path in (*files_of(str(folder)), other)],
        CLASSES,
        Asked(splits=SPLITS),
        annotation_lists=Never(),
        always=False,
    )
    assert read == [folder]  # once, though it has two splits
    (folder / "fingerprints.json").write_text("{")

    said = [each["published"] for each in list_report.report(plan, None)["files"]]
    assert said == [{"name": "mine"}, {"name": "mine"}, None]


def test_a_reconstruction_stays_one_when_it_is_published(tmp_path: Path) -> None:
    from kinetics_sounds import classes

    k100 = classes.read("k100")
    folder = publish(
        tmp_path / "mine", classes="\n".join(k100.labels), stated={"classes": "k100", "selection": "", "splits": {}}
    )
    found = class_list_of([lists.recognise(folder / "splits/val.csv")])

    assert found == k100
    assert "reconstruction" in k100.note


@pytest.mark.parametrize(
    "text", ["[]", "{", "7", '{"classes": "../x", "splits": []}', '{"classes": 3, "splits": {"val": 3}}']
)
def test_fingerprints_of_a_stranger_are_read_with_care(tmp_path: Path, text: str) -> None:
    folder = publish(tmp_path / "mine")
    (folder / "fingerprints.json").write_text(text)

    if text.startswith("{") and len(text) > 1:
        assert plan_published(folder).classes.name == "mine"
    else:
        with pytest.raises(ListError, match=r"fingerprints\.json: (is not a table|cannot be read)"):
            plan_published(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["my_train.txt", "my_test.txt"], "my"),
        (["my_train.txt"], "my_train"),
        (["a_val.csv", "a.csv"], "a"),
        (["$x.csv"], "_x"),
    ],
)
def test_a_build_is_called_after_its_lists(tmp_path: Path, names: list[str], expected: str) -> None:
    for name in names:
        (tmp_path / name).write_text("key\naaaaaaaaaaa\n")

    assert name_of([lists.recognise(tmp_path / name) for name in names]) == expected


@pytest.mark.parametrize("names", [["train.txt", "test.txt"], ["a.txt", "b.txt"]])
def test_lists_without_a_name_in_common_need_an_out(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("key\naaaaaaaaaaa\n")

    with pytest.raises(ListError, match="no name in common; choose a folder with --out"):
        name_of([lists.recognise(tmp_path / name) for name in names])
