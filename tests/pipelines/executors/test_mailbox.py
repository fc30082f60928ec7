import os
import threading
from pathlib import Path

import pytest

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.pipelines.executors.slurm.mailbox import Claim, Heart, Mailbox


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    mailbox = Mailbox(tmp_path / "box")
    mailbox.make()
    return mailbox


def claimed(box: Mailbox, job: str = "7_0", start: str = "a") -> Claim:
    claim = box.claim(job, start)
    assert claim is not None
    return claim


def test_a_task_goes_to_a_job_and_its_result_comes_back(box: Mailbox) -> None:
    box.put(1, {"any": "task"}, timeout_seconds=9)

    claim = claimed(box)
    task, seconds = box.read(claim)
    box.answer(claim, len(task))

    assert (task, seconds) == ({"any": "task"}, 9)
    assert box.take({1}) == {1: 1}
    assert box.take({1}) == {}
    assert box.claims() == []


def test_a_task_is_on_disk_before_it_is_there(box: Mailbox, disk_acts: list[str]) -> None:
    box.put(1, None, timeout_seconds=9)

    written, renamed, named = disk_acts
    part = written.removeprefix("sync ")
    assert part.startswith("000000000001.")
    assert part.endswith(".part")
    assert (renamed, named) == (f"rename {part} 000000000001", "sync tasks")


def test_the_oldest_task_goes_first(box: Mailbox) -> None:
    for number in (10, 9, 100):
        box.put(number, None, timeout_seconds=9)

    assert [claimed(box).number for _ in range(3)] == [9, 10, 100]
    assert box.claim("7_0", "a") is None


def test_no_task_goes_to_two_jobs(box: Mailbox) -> None:
    got: list[int] = []
    for number in range(60):
        box.put(number, None, timeout_seconds=9)

    def work(job: str) -> None:
        while claim := box.claim(job, "a"):
            got.append(claim.number)

    threads = [threading.Thread(target=work, args=(f"7_{each}",)) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == list(range(60))


def test_a_task_that_is_laid_out_again_can_be_claimed_again_but_only_by_one(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)
    first = claimed(box, "7_0", "a")

    assert box.put_back(first)
    assert not box.put_back(first)  # the driver and the job's next start may both try
    assert claimed(box, "7_0", "b") == Claim(1, "7_0", "b")


def test_a_task_that_has_its_result_is_not_laid_out_again(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)
    claim = claimed(box)
    box.answer(claim, "done")
    (box.folder / "claimed" / claim.name).touch()  # its job ended before the last step

    assert not box.put_back(claim)
    assert box.take({1}) == {1: "done"}
    assert box.claims() == []


def test_a_result_that_was_given_before_is_not_given_again(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)
    box.answer(claimed(box), "late")

    assert box.take({2}) == {}
    assert box.take({1}) == {}


def test_a_task_that_waits_can_be_withdrawn(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)

    assert box.withdraw(1)
    assert not box.withdraw(1)
    assert box.claim("7_0", "a") is None


def test_a_file_that_is_being_written_is_not_there_yet(box: Mailbox) -> None:
    (box.folder / "tasks" / "000000000001.ab.part").write_bytes(b"half")
    (box.folder / "results" / "000000000001.ab.part").write_bytes(b"half")

    assert box.claim("7_0", "a") is None
    assert box.take({1}) == {}


def test_a_job_says_what_it_read(box: Mailbox) -> None:
    (box.folder / "token").write_text("of another folder")

    box.greet("7_0")

    assert {job: hello.token for job, hello in box.greetings().items()} == {"7_0": "of another folder"}


def test_the_heart_beats_until_it_is_stopped(box: Mailbox) -> None:
    heart = Heart(box, patience_seconds=0.2)
    pulses = {box.pulse()}
    for _ in range(1000):
        if len(pulses) > 2:
            break
        threading.Event().wait(0.01)
        pulses.add(box.pulse())
    heart.stop()

    assert len(pulses) > 2
    assert box.pulse() == b""


def test_a_folder_that_is_gone_is_empty_and_does_not_come_back(tmp_path: Path) -> None:
    gone = Mailbox(tmp_path / "gone")

    assert gone.claim("7_0", "a") is None
    assert gone.pulse() == b""
    with pytest.raises(FileNotFoundError):
        gone.answer(Claim(1, "7_0", "a"), "result")
    assert not gone.folder.exists()


def test_the_folder_is_ours_alone(box: Mailbox) -> None:
    assert box.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o750, 0o707, 0o777])
def test_nothing_is_read_from_a_folder_that_others_can_reach(box: Mailbox, mode: int) -> None:
    box.put(1, None, timeout_seconds=9)
    claim = claimed(box)
    box.folder.chmod(mode)

    with pytest.raises(SettingsError, match="is accessible to others, so nothing is read from it"):
        box.read(claim)


def test_nothing_is_read_from_a_file_of_another_user(box: Mailbox) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    box.put(1, None, timeout_seconds=9)
    claim = claimed(box)
    os.chown(box.folder / "claimed" / claim.name, 65534, 65534)

    with pytest.raises(SettingsError, match="is accessible to others"):
        box.read(claim)


def test_a_link_is_not_followed(box: Mailbox, tmp_path: Path) -> None:
    box.put(1, None, timeout_seconds=9)
    claim = claimed(box)
    place = box.folder / "claimed" / claim.name
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        box.read(claim)


def test_a_task_and_its_result_are_for_their_owner_alone(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)
    box.put(2, None, timeout_seconds=9)
    box.answer(claimed(box), "done")

    modes = {path.stat().st_mode & 0o777 for name in ("tasks", "results") for path in (box.folder / name).iterdir()}
    assert modes == {0o600}


def test_a_folder_that_is_a_link_is_not_read(box: Mailbox) -> None:
    box.put(1, None, timeout_seconds=9)
    claim = claimed(box)
    box.folder.rename(moved := box.folder.with_name("elsewhere"))
    box.folder.symlink_to(moved)

    with pytest.raises(SettingsError, match="is accessible to others"):
        box.read(claim)
