"""Take each defence of `docs/security.md` out of a copy of the code, and see that the test named beside it fails.

A row of `DEFENCES` is a text of one file, what the file says without it, and a test. First all the tests must pass as the code
is; then, one row after another, the text is replaced in the copy, and the row's test must fail: to break off before it began
does not count. A text that is not there, or more than once, is an error, so the rows follow the code.

    python benchmarks/removed_defences.py                # all of them
    python benchmarks/removed_defences.py ffmpeg wav     # the rows whose defence or file holds one of these
    python benchmarks/removed_defences.py --table        # the rows as the tables of docs/security.md
"""

import argparse
import ast
import contextlib
import importlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("manifests", "pipelines", "train")
"""Folders beside `kinetics_sounds` that are packages of it (pyproject's package-dir)."""
SECONDS = 40
"""That tests may take, besides ten each: what takes longer without its defence has failed."""
FOREIGN = (
    "torch",
    "pandas",
    "pyarrow.parquet",
    "librosa",
    "safetensors.torch",
    "webdataset",
    "jsonargparse",
    "av",
    "pytest",
)
"""Imported once; each test runs in a fork."""
DID_NOT_RUN = "the test did not run"


@dataclass(frozen=True, slots=True)
class Defence:
    """One thing that can be taken out."""

    group: str
    """Heading of `docs/security.md`."""
    name: str
    """What it does."""
    file: str
    text: str
    """The defence: it stands in `file` once."""
    without: str
    """What stands there where there is no defence."""
    test: str
    """pytest's name of a test that then fails."""

    def removed(self, root: Path = ROOT) -> str:
        """The file below `root` without the defence; raises ValueError where its text is not there once, and SyntaxError."""
        code = (root / self.file).read_text("utf-8")
        if code.count(self.text) != 1:
            raise ValueError(f"{self.name}: its text is {code.count(self.text)} times in {self.file}, not once")
        changed = code.replace(self.text, self.without)
        ast.parse(changed, self.file)
        return changed

    def row(self) -> str:
        """Its row of the documentation."""
        place, *names = self.test.partition("[")[0].split("::")
        return f"| {self.name} | `{self.file}` | `{names[-1]}` in `{place}` |"


def main() -> int:
    """Try the rows; 1 where one of them is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[""], help="only the rows whose defence or file holds one of these")
    parser.add_argument("--table", action="store_true", help="print the tables, and try nothing")
    chosen = parser.parse_args()
    rows = [each for each in DEFENCES if any(part in f"{each.name} {each.file}" for part in chosen.parts)]
    if not rows:
        parser.error(f"no defence holds any of {chosen.parts}")
    if chosen.table:
        print(tables(rows))
        return 0
    for name in FOREIGN:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="defences-") as name:
        copy = Path(name) / "code"
        copied(copy)
        return tried(rows, copy)


def tried(rows: Sequence[Defence], copy: Path) -> int:
    """Try the rows in a copy of the code; prints a line each and gives back the exit code."""
    if wrong := failure(copy, sorted({each.test for each in rows})):
        print(f"as the code is: {wrong}")
        return 1
    missed, times = 0, itertools.count(10**9)
    for each in rows:
        place, began = copy / each.file, time.monotonic()
        before = place.read_text("utf-8")
        try:
            write(place, each.removed(copy), next(times))
            told = failure(copy, [each.test])
        except (ValueError, SyntaxError) as error:
            told = f"{DID_NOT_RUN}: {error}"
        finally:
            write(place, before, next(times))
        caught = bool(told) and not told.startswith(DID_NOT_RUN)
        missed += not caught
        word, seconds = "caught" if caught else "MISSED", time.monotonic() - began
        print(f"{word} {seconds:5.1f} s  {each.file}: {each.name} ({told or 'the test passes'})", flush=True)
    print(f"{len(rows) - missed} of {len(rows)} removed defences were caught")
    return 1 if missed else 0


def write(path: Path, code: str, modified: int) -> None:
    """Write code, at a time of its own: Python takes one of the same second and length for the one that it compiled."""
    path.write_text(code, "utf-8")
    os.utime(path, (modified, modified))


def copied(copy: Path) -> None:
    """Copy what git knows or would add, with the packages where Python looks for them."""
    words = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    for name in PACKAGES:
        (copy / "kinetics_sounds" / name).symlink_to(copy / name)


def failure(copy: Path, tests: Sequence[str]) -> str:
    """What fails of these tests, in a few words; empty where all pass."""
    report, output = copy / "report.xml", copy / "output.txt"
    report.unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(copy, report, output, tests))
    process.start()
    process.join(SECONDS + 10 * len(tests))
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        return f"no end after {SECONDS + 10 * len(tests)} s"
    if process.exitcode < 0:
        return f"the process died of signal {-process.exitcode}"
    if not report.exists():
        return f"{DID_NOT_RUN}: {' '.join(output.read_text(errors='replace').split())[-300:]}"
    cases = list(ElementTree.parse(report).iter("testcase"))
    ran = [case for case in cases if case.find("skipped") is None and case.find("error") is None]
    faults = [(case, fault) for case in ran if (fault := case.find("failure")) is not None]
    if faults:
        return " ".join(f"{faults[0][0].get('name')}: {faults[0][1].get('message')}".split())[:160]
    other = [case.get("name") for case in cases if case not in ran]
    return f"{DID_NOT_RUN}: {other}" if other or not ran else ""


def _pytest(copy: Path, report: Path, output: Path, tests: Sequence[str]) -> None:
    """Run some tests of the copy, in a process of its own."""
    os.setsid()
    with output.open("wb") as out:
        for number in (1, 2):
            os.dup2(out.fileno(), number)
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)  # before the editable install, which Python asks last
    sys.modules["__main__"] = types.ModuleType("__main__")  # which processes that tests spawn would run
    import pytest

    code = pytest.main(["-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", f"--junitxml={report}", *tests])
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(int(code))


def tables(rows: Sequence[Defence]) -> str:
    """The rows as Markdown, a table a group."""
    head = "| defence | where | the test that fails without it |\n|---|---|---|"
    groups = {
        group: [each.row() for each in rows if each.group == group] for group in dict.fromkeys(r.group for r in rows)
    }
    return "\n\n".join("\n".join([f"### {group}", "", head, *lines]) for group, lines in groups.items())


NAMES, COOKIES, MEDIA, ARCHIVES = "Names", "Cookies, TLS and yt-dlp", "Media", "Archives"
SHARDS, RUNS, TABLES, CODE = "Shards", "Checkpoints, runs and configs", "Tables and pages", "Code from elsewhere"
FAULTS = "Faults and kills"
PUBLISHED = "Published folders"

DEFENCES: tuple[Defence, ...] = (
    # --- Names ---
    Defence(
        NAMES,
        "a video id is letters, digits, `_` and `-`: it names files and stands in URLs",
        "kinetics_sounds/clip.py",
        "if not YOUTUBE_ID.fullmatch(self.youtube_id):",
        "if not self.youtube_id:",
        "tests/test_clip.py::test_a_clip_refuses_an_id_that_could_not_name_a_file",
    ),
    Defence(
        NAMES,
        "a key of a data set is letters, digits, `_` and `-`, and short enough for a tar",
        "kinetics_sounds/clip.py",
        "if self.youtube_id or not KEY.fullmatch(self.name):",
        "if self.youtube_id:",
        "tests/test_clip.py::test_a_name_that_could_not_be_in_a_tar_is_no_key",
    ),
    Defence(
        NAMES,
        "a file in UCF101's lists is in a class's folder",
        "kinetics_sounds/datasets/ucf101.py",
        'if label not in labels or not file or "/" in file:',
        "if not file:",
        "tests/pipelines/packing/datasets/test_truth.py::test_a_wrong_list_is_refused_with_its_line",
    ),
    Defence(
        NAMES,
        "a label becomes one folder name, without slashes and controls",
        "kinetics_sounds/clip.py",
        """re.sub(r"[^\\w ()'.,&-]", "_", label)""",
        "label",
        "tests/test_clip.py::test_a_label_becomes_one_harmless_folder_name",
    ),
    Defence(
        NAMES,
        "a label's folder is not `..` nor hidden",
        "kinetics_sounds/clip.py",
        '.strip(". ")',
        "",
        "tests/test_clip.py::test_a_label_becomes_one_harmless_folder_name",
    ),
    Defence(
        NAMES,
        "a label's folder name is at most 100 bytes",
        "kinetics_sounds/clip.py",
        '.encode()[:100].decode(errors="ignore")',
        "",
        "tests/test_clip.py::test_a_label_of_wide_letters_still_fits_a_file_system",
    ),
    Defence(
        NAMES,
        "an annotation list's file is named by us and by the last part of its address",
        "kinetics_sounds/annotations.py",
        'f"{address}-{Path(urllib.parse.urlsplit(place).path).name}"',
        'place.partition("?")[0].partition("//")[2].partition("/")[2]',
        "tests/test_annotations.py::test_a_url_cannot_name_a_file_outside_the_folder",
    ),
    Defence(
        NAMES,
        "a file is given to ffmpeg as `file:` and its whole path, never as a protocol, option or pattern",
        "kinetics_sounds/media/ffmpeg.py",
        'f"file:{path.absolute()}"',
        "str(path)",
        "tests/media/test_ffmpeg.py::test_a_file_may_have_any_name",
    ),
    Defence(
        NAMES,
        "a file is given to PyAV as `file:` and its path, too",
        "kinetics_sounds/media/probe.py",
        'av.open(f"file:{path}"',
        "av.open(str(path)",
        "tests/media/test_probe.py::test_a_relative_name_is_a_file_and_no_protocol",
    ),
    Defence(
        NAMES,
        "a downloaded video is named by us, not by its title",
        "kinetics_sounds/sources/youtube/__init__.py",
        '"outtmpl": {"default": "video.%(ext)s"},',
        '"outtmpl": {"default": "%(title)s.%(ext)s"},',
        "tests/sources/test_youtube_options.py::test_what_is_the_programs_own_is_not_changed_by_any_option",
    ),
    Defence(
        NAMES,
        "a folder's `$NAME` is not filled in by yt-dlp",
        "kinetics_sounds/sources/youtube/__init__.py",
        "if os.path.expandvars(path) != str(path):",
        "if False:",
        "tests/sources/test_youtube.py::test_a_folder_named_after_a_variable_is_refused_and_not_filled_in",
    ),
    Defence(
        NAMES,
        "an id of another length is never asked of YouTube, which would give another video",
        "kinetics_sounds/sources/youtube/__init__.py",
        "if self.own and len(clip.youtube_id) != ID_LENGTH:",
        "if False:",
        "tests/sources/test_youtube_player.py::test_an_id_that_cannot_be_youtubes_is_never_asked_for",
    ),
    Defence(
        NAMES,
        "another video than the one asked for is refused",
        "kinetics_sounds/sources/youtube/watch.py",
        'if self.youtube_id and info.get("id") != self.youtube_id:',
        "if False:",
        "tests/sources/test_youtube_player.py::test_a_trailer_in_a_videos_place_is_not_the_video",
    ),
    Defence(
        NAMES,
        "a key of a shard is letters, digits, `_` and `-`",
        "kinetics_sounds/shards/reader.py",
        "if not _KEYS.fullmatch(lines) or",
        "if",
        "tests/shards/test_reader.py::test_a_key_that_is_no_name_is_refused",
    ),
    Defence(
        NAMES,
        "a split of `dataset.json` is train, val, test or all: its name is a folder",
        "kinetics_sounds/shards/index.py",
        "for name in SPLITS if name in dataset.splits",
        "for name in dataset.splits",
        "tests/shards/test_index.py::test_a_split_of_another_name_is_no_way_out_of_the_folder",
    ),
    Defence(
        NAMES,
        "a name below a URL leads nowhere else",
        "kinetics_sounds/remote.py",
        'if not re.fullmatch(r"[\\w.-]*[\\w-][\\w.-]*", name, flags=re.ASCII):',
        "if False:",
        "tests/test_remote.py::test_a_name_that_leads_elsewhere_is_refused",
    ),
    Defence(
        NAMES,
        "a copy in the cache is named by a SHA-256, and an index that says another word gets none",
        "kinetics_sounds/cache.py",
        "if not _NAME.fullmatch(path.name):",
        "if False:",
        "tests/test_cache.py::test_a_checksum_that_is_none_leads_nowhere",
    ),
    Defence(
        NAMES,
        "the demo's server gives the videos of one folder and nothing else",
        "pipelines/synthetic/http_server.py",
        '_NAME = re.compile(r"/([A-Za-z0-9_-]+\\.mp4)")',
        '_NAME = re.compile(r"/(.*)")',
        "tests/pipelines/synthetic/test_http_server.py::test_nothing_but_the_folder_s_own_videos_is_served",
    ),
    Defence(
        NAMES,
        "the name of a source, method, view … is one of our modules before anything is imported",
        "kinetics_sounds/plugins.py",
        "    if name not in valid:",
        "    if not name:",
        "tests/test_plugins.py::test_any_other_name_is_refused_with_the_valid_ones",
    ),
    Defence(
        NAMES,
        "a list of sounds names files within its folder",
        "train/evaluation/audio_datasets.py",
        'if inner.is_absolute() or ".." in inner.parts or "\\0" in name:',
        'if "\\0" in name:',
        "tests/train/evaluation/test_audio_datasets.py::TestReadList::test_what_cannot_be_is_refused_with_its_place",
    ),
    Defence(
        NAMES,
        "a data set's lists name files within its folder",
        "kinetics_sounds/datasets/__init__.py",
        'if Path(row.path).is_absolute() or ".." in Path(row.path).parts]:',
        "if False]:",
        "tests/pipelines/packing/datasets/test_truth.py::test_a_list_does_not_lead_out_of_the_folder",
    ),
    # --- Cookies, TLS and yt-dlp ---
    Defence(
        NAMES,
        "a class folder of an export is harmless",
        "pipelines/layouts/mmaction2.py",
        "label_folder(label).translate(_RENAMED)",
        "label.translate(_RENAMED)",
        "tests/pipelines/layouts/test_readers.py::test_a_class_folder_is_mmaction2_s_and_harmless[../../etc/passwd-_.._etc_passwd]",
    ),
    Defence(
        NAMES,
        "the journal of an export names no file but its clips' own",
        "pipelines/export.py",
        "if set(made.places) != set(layout.places(item.entry, settings)):",
        "if not made.places:",
        "tests/pipelines/layouts/test_export.py::test_a_journal_that_names_other_files_is_not_believed",
    ),
    Defence(
        NAMES,
        "files that are not of an export are not mixed into it",
        "pipelines/export.py",
        "    if found:\n        raise",
        "    if False:\n        raise",
        "tests/pipelines/layouts/test_export.py::test_what_lies_among_the_clips_and_is_none_of_them_is_named",
    ),
    Defence(
        NAMES,
        "a % in a folder's name is no number of a frame",
        "kinetics_sounds/media/extract.py",
        '.replace("%", "%%")',
        "",
        "tests/media/test_extract.py::test_a_folder_may_be_called_like_a_number",
    ),
    Defence(
        COOKIES,
        "the user's cookies file is read, and never written",
        "kinetics_sounds/sources/youtube/__init__.py",
        'fixed["cookiefile"] = io.StringIO(self._cookies)',
        'fixed["cookiefile"] = str(self.options.cookies)',
        "tests/sources/test_youtube_options.py::test_cookies_are_sent_to_their_host_and_the_file_is_only_read",
    ),
    Defence(
        COOKIES,
        "cookies that others can read are warned of",
        "kinetics_sounds/sources/youtube/options.py",
        "stat.S_IMODE(mode) & (stat.S_IRGRP | stat.S_IROTH)",
        "0",
        "tests/sources/test_youtube_options.py::test_cookies_that_others_can_read_are_warned_of_once_with_the_terms",
    ),
    Defence(
        COOKIES,
        "an error about the cookies file does not hold what it says",
        "kinetics_sounds/sources/youtube/options.py",
        'cannot be read: {reason}") from None',
        'cannot be read: {error}") from error',
        "tests/sources/test_youtube_options.py::test_cookies_that_are_not_there_are_refused",
    ),
    Defence(
        COOKIES,
        "a message holds no cookie",
        "kinetics_sounds/sources/youtube/__init__.py",
        "*cookie_values(self._cookies)]",
        "]",
        "tests/sources/test_youtube_options.py::test_a_server_that_repeats_a_cookie_does_not_bring_it_into_the_outcome",
    ),
    Defence(
        COOKIES,
        "options that hold secrets are not shown",
        "kinetics_sounds/sources/youtube/options.py",
        'option: tuple[str, ...] = field(default=(), metadata={"repeat": True}, repr=False)',
        'option: tuple[str, ...] = field(default=(), metadata={"repeat": True})',
        "tests/sources/test_youtube_options.py::test_options_do_not_show_their_secrets",
    ),
    Defence(
        COOKIES,
        "ffmpeg, whose words all users see, gets no cookie, password or header",
        "kinetics_sounds/sources/youtube/options.py",
        "    if secret:\n",
        "    if False:\n",
        "tests/sources/test_youtube_options.py::test_a_section_is_refused_where_ffmpeg_would_tell_or_avoid_what_it_must_not",
    ),
    Defence(
        COOKIES,
        "a SOCKS proxy is not passed by in silence",
        "kinetics_sounds/sources/youtube/options.py",
        'if str(options.proxy).startswith("socks"):',
        "if False:",
        "tests/sources/test_youtube_options.py::test_a_section_is_refused_where_ffmpeg_would_tell_or_avoid_what_it_must_not",
    ),
    Defence(
        COOKIES,
        "yt-dlp's certificate check cannot be turned off",
        "kinetics_sounds/sources/youtube/options.py",
        '("nocheckcertificate", "prefer_insecure",',
        '("prefer_insecure",',
        "tests/sources/test_youtube_options.py::test_no_option_of_the_installed_yt_dlp_that_runs_or_writes_something_was_forgotten",
    ),
    Defence(
        COOKIES,
        "a video comes over TLS from a host with a certificate, or not at all",
        "kinetics_sounds/sources/youtube/__init__.py",
        '"cachedir": False,',
        '"cachedir": False, "nocheckcertificate": True,',
        "tests/test_tls.py::test_an_impostor_is_not_asked[a_video]",
    ),
    Defence(
        COOKIES,
        "yt-dlp's options that run programs or code are not taken",
        "kinetics_sounds/sources/youtube/options.py",
        '("exec_cmd", "external_downloader", "external_downloader_args",',
        '("exec_cmd", "external_downloader_args",',
        "tests/sources/test_youtube_options.py::test_no_option_of_the_installed_yt_dlp_that_runs_or_writes_something_was_forgotten",
    ),
    Defence(
        COOKIES,
        "what is ours to say of yt-dlp's options no option of the user's changes",
        "kinetics_sounds/sources/youtube/__init__.py",
        "{**usual, **self._passed, **fixed}",
        "{**usual, **fixed, **self._passed}",
        "tests/sources/test_youtube_options.py::test_what_is_the_programs_own_is_not_changed_by_any_option",
    ),
    Defence(
        COOKIES,
        "plugins of yt-dlp are not loaded",
        "kinetics_sounds/sources/youtube/__init__.py",
        'os.environ.setdefault("YTDLP_NO_PLUGINS", "1")',
        "pass",
        "tests/sources/test_youtube_options.py::test_a_users_own_yt_dlp_is_not_asked_and_nothing_is_left_but_the_file",
    ),
    Defence(
        COOKIES,
        "a user's configuration of yt-dlp is not read",
        "kinetics_sounds/sources/youtube/__init__.py",
        "return {**usual, **self._passed, **fixed}",
        "import yt_dlp\n\n        return {**yt_dlp.parse_options(None).ydl_opts, **usual, **self._passed, **fixed}",
        "tests/sources/test_youtube_options.py::test_a_users_own_yt_dlp_is_not_asked_and_nothing_is_left_but_the_file",
    ),
    Defence(
        COOKIES,
        "yt-dlp keeps no cache in the home folder",
        "kinetics_sounds/sources/youtube/__init__.py",
        '"cachedir": False,',
        "",
        "tests/sources/test_youtube_options.py::test_only_the_extractor_of_the_place_is_there_and_nothing_of_the_machine_is_used",
    ),
    Defence(
        COOKIES,
        "only the extractor of the place asked is there: a mirror's page cannot lead to another site",
        "kinetics_sounds/sources/youtube/__init__.py",
        '"allowed_extractors": ["youtube" if self.own else "generic"],',
        "",
        "tests/sources/test_youtube.py::test_a_page_that_leads_to_youtube_is_not_followed_there",
    ),
    # --- Media ---
    Defence(
        MEDIA,
        "ffmpeg opens files and pipes, and no other protocol",
        "kinetics_sounds/media/ffmpeg.py",
        '    "protocol_whitelist": PROTOCOLS,\n',
        "",
        "tests/media/test_ffmpeg.py::test_no_address_is_asked_whatever_a_file_leads_to",
    ),
    Defence(
        MEDIA,
        "ffmpeg takes containers of a list, in which no playlist is",
        "kinetics_sounds/media/ffmpeg.py",
        '    "format_whitelist": CONTAINERS,\n',
        "",
        "tests/media/test_ffmpeg.py::test_a_playlist_in_disguise_opens_no_other_file",
    ),
    Defence(
        MEDIA,
        "a picture of more than 2²⁵ pixels is not decoded",
        "kinetics_sounds/media/ffmpeg.py",
        '    "max_pixels": str(MAX_PIXELS),\n',
        "",
        "tests/media/test_trim.py::test_a_picture_that_is_larger_than_its_probe_said_is_refused",
    ),
    Defence(
        MEDIA,
        "a file whose picture claims more than 2²⁵ pixels is refused as it is probed",
        "kinetics_sounds/media/probe.py",
        "if picture.width * picture.height > MAX_PIXELS:",
        "if False:",
        "tests/media/test_probe.py::test_a_picture_of_more_than_8k_is_refused",
    ),
    Defence(
        MEDIA,
        "of hundreds of streams the first hundred are looked at",
        "kinetics_sounds/media/ffmpeg.py",
        '    "max_streams": str(MAX_STREAMS),\n',
        "",
        "tests/media/test_probe.py::test_of_hundreds_of_streams_none_is_looked_at_past_the_hundredth",
    ),
    Defence(
        MEDIA,
        "a file of more than 8 GiB is not opened",
        "kinetics_sounds/media/probe.py",
        "if (size := path.stat().st_size) > MAX_BYTES:",
        "if (size := path.stat().st_size) < 0:",
        "tests/media/test_probe.py::test_a_huge_file_is_refused_before_it_is_opened",
    ),
    Defence(
        MEDIA,
        "ffmpeg's memory has a limit",
        "kinetics_sounds/media/ffmpeg.py",
        "resource.RLIMIT_AS: MAX_MEMORY, ",
        "",
        "tests/media/test_ffmpeg.py::test_a_run_that_takes_too_much_memory_is_ended",
    ),
    Defence(
        MEDIA,
        "a file that ffmpeg writes has a limit",
        "kinetics_sounds/media/ffmpeg.py",
        "resource.RLIMIT_FSIZE: MAX_OUTPUT, ",
        "",
        "tests/media/test_ffmpeg.py::test_a_run_that_writes_too_much_is_ended",
    ),
    Defence(
        MEDIA,
        "a decoder that crashes leaves no core file",
        "kinetics_sounds/media/ffmpeg.py",
        ", resource.RLIMIT_CORE: 0",
        "",
        "tests/media/test_ffmpeg.py::test_a_tool_that_crashes_leaves_no_core_file",
    ),
    Defence(
        MEDIA,
        "ffmpeg's CPU time has a limit of its own",
        "kinetics_sounds/media/ffmpeg.py",
        ', "-timelimit", str(cpu_seconds)',
        "",
        "tests/media/test_ffmpeg.py::test_several_threads_reach_the_wall_clock_before_the_limit_of_cpu_time",
    ),
    Defence(
        MEDIA,
        "ffmpeg's wall clock has a limit",
        "kinetics_sounds/media/ffmpeg.py",
        "threading.Timer(timeout_seconds, expire)",
        "threading.Timer(timeout_seconds + 5, expire)",
        "tests/media/test_ffmpeg.py::test_a_run_past_its_wall_clock_is_killed_with_its_children",
    ),
    Defence(
        MEDIA,
        "what ffmpeg starts is killed with it",
        "kinetics_sounds/media/ffmpeg.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "process.kill()",
        "tests/media/test_ffmpeg.py::test_a_run_past_its_wall_clock_is_killed_with_its_children",
    ),
    Defence(
        MEDIA,
        "ffmpeg dies with whoever started it",
        "kinetics_sounds/media/ffmpeg.py",
        "argv = [*kill_with_parent(), executable(),",
        "argv = [executable(),",
        "tests/media/test_ffmpeg.py::test_a_tool_whose_caller_was_killed_ends_too[setpriv-300-2]",
    ),
    Defence(
        MEDIA,
        "what ffmpeg says has a limit",
        "kinetics_sounds/media/ffmpeg.py",
        "if len(written) == MAX_MESSAGES:",
        "if False:",
        "tests/media/test_ffmpeg.py::test_a_run_that_says_too_much_is_ended",
    ),
    Defence(
        MEDIA,
        "ffmpeg's standard input is closed",
        "kinetics_sounds/media/ffmpeg.py",
        "argv, stdin=subprocess.DEVNULL,",
        "argv,",
        "tests/media/test_ffmpeg.py::test_no_shell_stands_between",
    ),
    Defence(
        MEDIA,
        "ffmpeg takes no commands from a terminal",
        "kinetics_sounds/media/ffmpeg.py",
        '"-nostdin", ',
        "",
        "tests/media/test_ffmpeg.py::test_no_shell_stands_between",
    ),
    Defence(
        MEDIA,
        "no shell stands between us and ffmpeg",
        "kinetics_sounds/media/ffmpeg.py",
        "start_new_session=True\n",
        "start_new_session=True, shell=True\n",
        "tests/media/test_ffmpeg.py::test_no_shell_stands_between",
    ),
    Defence(
        MEDIA,
        "titles, places and other metadata do not travel",
        "kinetics_sounds/media/ffmpeg.py",
        '        "map_metadata": -1,\n',
        "",
        "tests/media/test_trim.py::test_titles_and_places_do_not_travel",
    ),
    Defence(
        MEDIA,
        "a title cannot claim a full disk, which would stop the build",
        "kinetics_sounds/media/ffmpeg.py",
        '_FULL = re.compile(r"^\\[.*(No',
        '_FULL = re.compile(r"(No',
        "tests/media/test_ffmpeg.py::test_a_title_cannot_claim_that_the_disk_is_full",
    ),
    Defence(
        MEDIA,
        "endless packets are not counted to their end",
        "kinetics_sounds/media/probe.py",
        "if len(times) > MAX_PACKETS:",
        "if False:",
        "tests/media/test_probe.py::test_endless_packets_are_not_all_counted",
    ),
    Defence(
        MEDIA,
        "a picture that would be stored with too many pixels is refused",
        "kinetics_sounds/media/encode.py",
        "if width * height > MAX_PIXELS:",
        "if False:",
        "tests/media/test_encode.py::test_a_frame_that_nobody_would_read_again_is_too_large",
    ),
    Defence(
        MEDIA,
        "a download that grows past `--youtube.max_bytes` is broken off, whatever the server had said",
        "kinetics_sounds/sources/youtube/watch.py",
        "if 0 < self.max_bytes < size:",
        "if False:",
        "tests/sources/test_youtube.py::test_a_video_that_is_too_large_is_refused_whether_the_server_says_so_or_not",
    ),
    Defence(
        MEDIA,
        "stored frames are an mp4 before any decoder sees them: a playlist is not followed",
        "kinetics_sounds/media/decode/__init__.py",
        'if mp4[4:8] != b"ftyp":',
        "if False:",
        "tests/media/test_decode.py::test_a_playlist_in_a_shard_opens_no_address",
    ),
    Defence(
        MEDIA,
        "a stored frame that claims too many pixels is not decoded",
        "kinetics_sounds/media/decode/pyav.py",
        '    codec.options = {"max_pixels": str(MAX_PIXELS)}\n',
        "",
        "tests/media/test_decode.py::test_a_picture_that_claims_too_much_is_refused",
    ),
    Defence(
        MEDIA,
        "a stored JPEG that claims too many pixels is not decoded",
        "kinetics_sounds/media/decode/__init__.py",
        "if height * width > MAX_PIXELS:",
        "if False:",
        "tests/media/test_decode.py::TestJpegs::test_a_claim_of_65500_x_65500_is_refused_before_it_is_decoded",
    ),
    Defence(
        MEDIA,
        "a table of one size for all packets is bounded by the bytes",
        "kinetics_sounds/media/mp4.py",
        "if same * count > len(mp4):",
        "if False:",
        "tests/media/test_decode.py::test_a_table_of_one_size_for_all_is_bounded",
    ),
    Defence(
        MEDIA,
        "packets that lie behind the end are refused",
        "kinetics_sounds/media/mp4.py",
        "if (offsets + sizes).max() > len(mp4):",
        "if False:",
        "tests/media/test_decode.py::test_tables_that_cannot_be_are_told",
    ),
    Defence(
        MEDIA,
        "a stored sound that claims more than an hour is not decoded",
        "kinetics_sounds/media/sound.py",
        "if track.frames > MAX_SAMPLES:",
        "if False:",
        "tests/media/test_sound.py::test_a_claim_of_2_to_the_36_samples_is_refused_before_it_is_decoded",
    ),
    Defence(
        MEDIA,
        "a file to describe that is longer than 600 s, or has time stamps there, is refused",
        "kinetics_sounds/media/likeness.py",
        'shown = opened[str(video.index)].filter("showinfo", checksum=0).filter("trim", end=MAX_SECONDS + 1)',
        'shown = opened[str(video.index)].filter("trim", end=MAX_SECONDS + 1).filter("showinfo", checksum=0)',
        "tests/media/test_likeness.py::test_a_clip_of_hours_is_too_large[jump]",
    ),
    Defence(
        MEDIA,
        "a file to describe has 36,000 frames at most",
        "kinetics_sounds/media/likeness.py",
        "len(times) > MAX_FRAMES",
        "False",
        "tests/media/test_likeness.py::test_too_many_frames_are_too_large",
    ),
    Defence(
        MEDIA,
        "a worker that hangs is killed",
        "pipelines/process_pool.py",
        "timeout=job.timeout_seconds",
        "timeout=None",
        "tests/pipelines/executors/test_process_pool.py::test_a_task_past_its_time_is_killed",
    ),
    Defence(
        MEDIA,
        "what a WAV file's header claims takes no memory",
        "train/evaluation/audio_datasets.py",
        "wavfile.read(_Claimed(path.read_bytes()))",
        "wavfile.read(path)",
        "tests/train/evaluation/test_audio_datasets.py::TestReadWav::test_a_header_that_claims_more_than_there_is_takes_little_memory",
    ),
    Defence(
        MEDIA,
        "a WAV file of a strange rate takes little memory as it is resampled",
        "train/evaluation/audio_datasets.py",
        ".limit_denominator(MAX_STEPS)",
        "",
        "tests/train/evaluation/test_audio_datasets.py::TestReadWav::test_a_strange_rate_takes_little_memory",
    ),
    Defence(
        MEDIA,
        "a WAV file of more than an hour is refused",
        "train/evaluation/audio_datasets.py",
        " or len(sample_TC) > MAX_SECONDS * rate:",
        ":",
        "tests/train/evaluation/test_audio_datasets.py::TestReadWav::test_a_recording_of_more_than_an_hour_is_refused",
    ),
    # --- Archives ---
    Defence(
        ARCHIVES,
        "links, devices, folders and pipes of a tar are passed over",
        "kinetics_sounds/archives/tar_stream.py",
        'if kind in (b"0", b"\\0", b"7", b"S"):',
        "if True:",
        "tests/sources/test_cvdf.py::test_only_regular_files_named_as_clips_count_and_nothing_is_written_elsewhere",
    ),
    Defence(
        ARCHIVES,
        "links, devices, folders and pipes have no bytes, whatever size they claim",
        "kinetics_sounds/archives/tar_stream.py",
        "if kind in _WITHOUT_BYTES:",
        "if False:",
        "tests/sources/test_cvdf.py::test_only_regular_files_named_as_clips_count_and_nothing_is_written_elsewhere",
    ),
    Defence(
        ARCHIVES,
        "a member counts by the last part of its name, which must be a key",
        "kinetics_sounds/sources/cvdf.py",
        "None if suffix.lower() not in SUFFIXES or parse_key(key) is None else",
        "None if suffix.lower() not in SUFFIXES else",
        "tests/sources/test_cvdf.py::test_only_regular_files_named_as_clips_count_and_nothing_is_written_elsewhere",
    ),
    Defence(
        ARCHIVES,
        "a member's ending is that of one of four containers",
        "kinetics_sounds/sources/cvdf.py",
        "None if suffix.lower() not in SUFFIXES or",
        "None if",
        "tests/sources/test_cvdf.py::test_only_regular_files_named_as_clips_count_and_nothing_is_written_elsewhere",
    ),
    Defence(
        ARCHIVES,
        "folders of a member's name are left out",
        "kinetics_sounds/sources/cvdf.py",
        'path.rpartition(b"/")[2].decode',
        "path.decode",
        "tests/sources/test_cvdf.py::test_only_the_wanted_clips_are_given",
    ),
    Defence(
        ARCHIVES,
        "of one name at most four files are written, in whatever folder and whatever case its ending is, and none over another",
        "kinetics_sounds/archives/reader.py",
        "if given[name] >= self.layout.copies:",
        "if False:",
        "tests/sources/test_archives.py::test_a_strangers_tar_writes_nothing_but_the_wanted_clips",
    ),
    Defence(
        ARCHIVES,
        "a clip of more than 512 MiB is not written",
        "kinetics_sounds/archives/reader.py",
        "if member.size > self.layout.max_bytes:",
        "if False:",
        "tests/sources/test_cvdf.py::test_an_empty_or_huge_or_sparse_clip_is_corrupt_unless_a_sound_one_follows",
    ),
    Defence(
        ARCHIVES,
        "a file stored without its holes is refused",
        "kinetics_sounds/archives/reader.py",
        "        if member.sparse:\n",
        "        if False:\n",
        "tests/sources/test_cvdf.py::test_an_empty_or_huge_or_sparse_clip_is_corrupt_unless_a_sound_one_follows",
    ),
    Defence(
        ARCHIVES,
        "a gzip bomb is refused",
        "kinetics_sounds/archives/tar_stream.py",
        "if made > MAX_EXPANSION * taken + FREE_EXPANSION_BYTES:",
        "if False:",
        "tests/sources/test_cvdf.py::test_a_gzip_bomb_is_refused",
    ),
    Defence(
        ARCHIVES,
        "a gzip is unpacked a piece at a time",
        "kinetics_sounds/archives/tar_stream.py",
        "engine.decompress(data, common.CHUNK_BYTES)",
        "engine.decompress(data)",
        "tests/sources/test_cvdf.py::test_memory_stays_flat_over_a_gzip_that_grows",
    ),
    Defence(
        ARCHIVES,
        "a part names at most a million clips, in 128 MiB",
        "kinetics_sounds/archives/reader.py",
        "if count > MAX_CLIPS or chars > MAX_NAMES_CHARS:",
        "if False:",
        "tests/sources/test_cvdf.py::test_a_part_of_more_clips_than_there_can_be_is_corrupt_after_the_first_of_them",
    ),
    Defence(
        ARCHIVES,
        "a name record has at most 1 MiB, whatever it claims",
        "kinetics_sounds/archives/tar_stream.py",
        "(kind in _RECORDS and size > MAX_RECORD_BYTES)",
        "False",
        "tests/sources/test_cvdf.py::test_a_header_that_cannot_be_is_corrupt_after_the_clips_before_it",
    ),
    Defence(
        ARCHIVES,
        "a size below nothing is damage",
        "kinetics_sounds/archives/tar_stream.py",
        "if size < 0 or (kind",
        "size = max(size, 0)\n        if (kind",
        "tests/sources/test_cvdf.py::test_a_header_that_cannot_be_is_corrupt_after_the_clips_before_it",
    ),
    Defence(
        ARCHIVES,
        "a header's checksum is right",
        "kinetics_sounds/archives/tar_stream.py",
        "        _check(header, tape.position - BLOCK_BYTES)\n",
        "",
        "tests/sources/test_cvdf.py::test_a_damaged_header_is_told_of_where_tarfile_would_see_the_end",
    ),
    Defence(
        ARCHIVES,
        "a file is written beside its place, so a link that lies there is replaced and not followed",
        "kinetics_sounds/archives/reader.py",
        'part = path.with_name(f"{path.name}.{os.getpid()}{files.PART}")',
        "part = path",
        "tests/sources/test_cvdf.py::test_a_stale_file_of_the_same_name_is_replaced_and_a_link_is_not_followed",
    ),
    Defence(
        ARCHIVES,
        "a file that changes between two connections is never joined to what it was",
        "kinetics_sounds/archives/http_stream.py",
        "if self.position >= self.offset and self.again.digest() != self.digest.digest():",
        "if False:",
        "tests/sources/test_cvdf.py::test_a_file_that_changed_after_it_gave_clips_breaks_off_and_is_never_joined_to_the_old_one",
    ),
    Defence(
        ARCHIVES,
        "a server that sends a byte now and then counts as broken",
        "kinetics_sounds/web.py",
        "if size and self.arrived < SLOW_BYTES:",
        "if False:",
        "tests/sources/test_cvdf.py::test_a_server_that_sends_a_byte_now_and_then_times_out",
    ),
    Defence(
        ARCHIVES,
        "a server that is silent counts as broken",
        "kinetics_sounds/web.py",
        "min(TIMEOUT_SECONDS, self.ends - began)",
        "min(3600.0, self.ends - began)",
        "tests/sources/test_cvdf.py::test_a_server_that_stays_silent_times_out",
    ),
    Defence(
        ARCHIVES,
        "a wanted file is written under a name made of letters, digits, `_` and `-`, whatever its pattern",
        "kinetics_sounds/archives/reader.py",
        "safe = name if KEY.fullmatch(name) else",
        "safe = name or",
        "tests/sources/test_archives.py::test_names_may_have_folders_and_files_of_one_name_in_two_do_not_meet",
    ),
    Defence(
        ARCHIVES,
        "a pattern of names has a clip's fields alone, without attributes",
        "kinetics_sounds/clip_names.py",
        "if field not in FIELDS:",
        "if False:",
        "tests/test_clip_names.py::test_a_pattern_that_cannot_name_clips_is_refused_with_an_example",
    ),
    Defence(
        ARCHIVES,
        "a pattern of names leads into no other folder",
        "kinetics_sounds/clip_names.py",
        '{"", ".", ".."}.intersection(parts)',
        "False",
        "tests/test_clip_names.py::test_a_pattern_that_cannot_name_clips_is_refused_with_an_example",
    ),
    Defence(
        ARCHIVES,
        "a time in a name has at most 9 digits of padding",
        "kinetics_sounds/clip_names.py",
        '_FORMAT.fullmatch(wanted or "")',
        "True",
        "tests/test_clip_names.py::test_a_pattern_that_cannot_name_clips_is_refused_with_an_example",
    ),
    Defence(
        ARCHIVES,
        "of the path of an archive's file at most four components and 300 characters are kept",
        "kinetics_sounds/clip_names.py",
        "if len(parent) + 1 + len(name) > MAX_CHARS or",
        "if",
        "tests/sources/test_archives.py::test_a_strangers_tar_writes_nothing_but_the_wanted_clips",
    ),
    Defence(
        ARCHIVES,
        "a file of an archive whose name has control characters or line feeds is no clip",
        "kinetics_sounds/clip_names.py",
        " or not name.isprintable():\n        return None",
        ":\n        return None",
        "tests/sources/test_archives.py::test_names_in_a_strangers_tar_are_printable_lines",
    ),
    Defence(
        ARCHIVES,
        "a folder whose name has control characters or line feeds is left out of its files' names",
        "kinetics_sounds/clip_names.py",
        " or not parent.isprintable():",
        ":",
        "tests/sources/test_archives.py::test_names_in_a_strangers_tar_are_printable_lines",
    ),
    Defence(
        ARCHIVES,
        "an archive at a remote store whose name has control characters is refused",
        "kinetics_sounds/archives/remote_stream.py",
        "if not name.isprintable():",
        "if False:",
        "tests/sources/test_archives.py::test_an_archive_of_a_bucket_whose_name_is_not_printable_is_refused",
    ),
    Defence(
        ARCHIVES,
        "a list of parts has at most 1 MiB",
        "kinetics_sounds/archives/listing.py",
        "if len(data) > MAX_LIST_BYTES:",
        "if False:",
        "tests/sources/test_cvdf.py::test_a_list_that_is_none_is_named_with_a_remedy",
    ),
    Defence(
        ARCHIVES,
        "an annotation list has at most 256 MiB",
        "kinetics_sounds/annotations.py",
        "if len(data) > _MAX_BYTES:\n                    break",
        "pass",
        "tests/test_annotations.py::test_of_a_body_that_is_too_large_no_more_is_read_than_tells_so",
    ),
    Defence(
        ARCHIVES,
        "a list of clips has at most 2 GiB",
        "kinetics_sounds/lists/__init__.py",
        "if path.stat().st_size > MAX_BYTES:",
        "if False:",
        "tests/lists/test_lists.py::test_a_list_has_a_bounded_length",
    ),
    Defence(
        ARCHIVES,
        "a list of clips has at most five million rows",
        "kinetics_sounds/lists/__init__.py",
        "if count > MAX_ROWS:",
        "if False:",
        "tests/lists/test_lists.py::test_a_list_has_a_bounded_length",
    ),
    Defence(
        ARCHIVES,
        "a line of a list of clips has at most 65536 characters",
        "kinetics_sounds/lists/__init__.py",
        'if len(line) == MAX_LINE and line[-1] not in "\\r\\n":',
        "if False:",
        "tests/lists/test_lists.py::test_what_is_no_text_is_refused",
    ),
    Defence(
        ARCHIVES,
        "of rows of a list that name no clip at most a thousand of a kind are named",
        "pipelines/fetching/list_plan.py",
        "if text and len(self.named[kind]) < MOST_NAMED:",
        "if text:",
        "tests/pipelines/fetching/test_list_plan.py::test_of_rows_beyond_number_and_length_the_first_are_named_and_all_counted",
    ),
    Defence(
        ARCHIVES,
        "of a list's names and labels 100 characters are told",
        "pipelines/fetching/list_plan.py",
        "return text if len(text) <= most else",
        "return text if most else",
        "tests/pipelines/fetching/test_list_plan.py::test_of_rows_beyond_number_and_length_the_first_are_named_and_all_counted",
    ),
    # --- Shards ---
    Defence(
        SHARDS,
        "`pipe:`, chains and unknown schemes are refused",
        "kinetics_sounds/remote.py",
        'if found and ("::" in text or found["scheme"] not in EXTRAS):',
        "if False:",
        "tests/test_remote.py::test_what_runs_commands_chains_or_is_unknown_is_refused",
    ),
    Defence(
        SHARDS,
        "a mel-spectrogram is read as numbers, never as pickled objects",
        "kinetics_sounds/stream.py",
        "        data = io.BytesIO(self.part(layout.MEL))\n        try:\n",
        "        data = io.BytesIO(self.part(layout.MEL))\n        try:\n            np.load(data, allow_pickle=True)\n"
        "            data.seek(0)\n",
        "tests/test_stream.py::test_a_mel_that_holds_a_pickle_is_a_bad_sample_and_the_pickle_is_not_loaded",
    ),
    Defence(
        SHARDS,
        "parts of other names than ours are reported by `ks-shard --verify` and opened by nobody",
        "pipelines/packing/verify.py",
        "if part not in PARTS]",
        "if False]",
        "tests/pipelines/packing/test_verify.py::test_a_set_with_parts_that_run_code_is_bad",
    ),
    Defence(
        SHARDS,
        "a mel-spectrogram has the shape that the set says",
        "kinetics_sounds/stream.py",
        "if mel_FT.shape != (bands, columns):",
        "if False:",
        "tests/test_stream.py::test_a_mel_that_is_not_as_the_set_says_is_a_bad_sample",
    ),
    Defence(
        SHARDS,
        "a mel-spectrogram has values from 0 to 1",
        "kinetics_sounds/stream.py",
        "if not (good_FT := in_unit_range(mel_FT)).all():",
        "if (good_FT := in_unit_range(mel_FT)) is None:",
        "tests/test_stream.py::test_a_mel_that_is_not_as_the_set_says_is_a_bad_sample",
    ),
    Defence(
        SHARDS,
        "frames have the size that the set says",
        "kinetics_sounds/stream.py",
        'if min(height, width) != self._recorded(self.dataset.frames, "short_side"):',
        "if False:",
        "tests/test_stream.py::test_frames_of_another_size_than_the_set_says_are_a_bad_sample",
    ),
    Defence(
        SHARDS,
        "a sample's metadata hold counts within bounds",
        "kinetics_sounds/stream.py",
        "if type(value) is not int or not 0 <= value <= most:",
        "if False:",
        "tests/test_stream.py::test_metadata_that_cannot_be_is_a_bad_sample",
    ),
    Defence(
        SHARDS,
        "a decoder sees only bytes whose CRC-32 is right",
        "kinetics_sounds/shards/split.py",
        "return len(data) == size and zlib.crc32(data) == crc",
        "return len(data) == size",
        "tests/shards/test_reader.py::test_any_flipped_bit_is_found_and_named",
    ),
    Defence(
        SHARDS,
        "parts do not overlap, nor leave their tar",
        "kinetics_sounds/shards/reader.py",
        "if not _fits(offset_NP.ravel(), size_NP.ravel(), read.bytes) or (crc_NP",
        "if (crc_NP",
        "tests/shards/test_reader.py::test_a_part_that_cannot_be_there_is_refused",
    ),
    Defence(
        SHARDS,
        "a label is one that the set names",
        "kinetics_sounds/shards/reader.py",
        "if max(chain(read.label_indices, chain.from_iterable(read.label_sets)), default=-1) >= len(dataset.labels):",
        "if False:",
        "tests/shards/test_reader.py::test_a_label_without_a_name_is_refused",
    ),
    Defence(
        SHARDS,
        "an index of more than 64 MiB is not read",
        "kinetics_sounds/shards/index.py",
        "data = file.read(MOST_BYTES + 1)",
        "data = file.read()",
        "tests/shards/test_index.py::test_of_a_file_larger_than_any_no_more_is_read_than_tells_so",
    ),
    Defence(
        SHARDS,
        "statistics of a set have a number for each bin, finite and of a deviation that can be",
        "kinetics_sounds/shards/stats.py",
        "if not sound or not len(each.mean) == len(each.std) == each.numbers.bins:",
        "if False:",
        "tests/shards/test_stats.py::test_what_no_writer_of_ours_wrote_is_refused_with_a_remedy",
    ),
    Defence(
        SHARDS,
        "a file at a URL of more bytes than it may have is not read",
        "kinetics_sounds/remote.py",
        "return _up_to(file, most + 1)",
        "return bytes(file.read())",
        "tests/test_remote.py::test_of_a_file_larger_than_allowed_no_more_is_read_than_tells_so",
    ),
    Defence(
        SHARDS,
        "an index nested without end is refused",
        "kinetics_sounds/shards/index.py",
        "except (ValueError, RecursionError) as error:",
        "except ValueError as error:",
        "tests/shards/test_index.py::test_what_is_no_json_is_named",
    ),
    Defence(
        SHARDS,
        "an index that says something twice is refused",
        "kinetics_sounds/shards/index.py",
        "if len(found) < len(pairs):",
        "if False:",
        "tests/shards/test_index.py::test_what_json_readers_disagree_on_is_refused",
    ),
    Defence(
        SHARDS,
        "numbers of an index have at most 63 bits",
        "kinetics_sounds/shards/index.py",
        "if kind is int and values and not 0 <= min(values) <= max(values) < 2**63:",
        "if False:",
        "tests/shards/test_index.py::test_a_field_of_another_type_is_refused",
    ),
    Defence(
        SHARDS,
        "values of an index have the types that they should",
        "kinetics_sounds/shards/index.py",
        "if not {kind}.issuperset(map(type, values)):",
        "if False:",
        "tests/shards/test_index.py::test_a_field_of_another_type_is_refused",
    ),
    Defence(
        SHARDS,
        "an index that a disk has changed is found by its checksum",
        "kinetics_sounds/shards/index.py",
        ' or not told.isascii() or told != _digest(data.replace(told.encode(), b"0" * 64, 1))',
        "",
        "tests/shards/test_index.py::test_a_checksum_that_is_not_its_own_is_refused",
    ),
    Defence(
        SHARDS,
        "a shard that was fetched has the SHA-256 of its index",
        "kinetics_sounds/remote.py",
        "if files.sha256(part) == sha256:",
        "if True:",
        "tests/test_remote.py::test_another_checksum_is_an_error_and_leaves_nothing",
    ),
    Defence(
        SHARDS,
        "a shard at a URL has the size of its index, or not a byte is fetched",
        "kinetics_sounds/remote.py",
        "    if found != wanted:\n        what =",
        "    if False:\n        what =",
        "tests/test_remote.py::test_another_size_is_an_error_before_a_byte_is_fetched",
    ),
    Defence(
        SHARDS,
        "the cache keeps to its size",
        "kinetics_sounds/cache.py",
        "if size > self.most_bytes:",
        "if False:",
        "tests/test_cache.py::test_a_file_larger_than_the_cache_says_what_to_give",
    ),
    Defence(
        SHARDS,
        "a set that claims 10¹⁸ shards at a URL ends with the first that is missing",
        "kinetics_sounds/shards/reader.py",
        "        for first in range(0, count, REQUESTS):  # in turns, for the count may be a lie of 18 digits\n"
        "            yield from pool.map(read, range(first, min(first + REQUESTS, count)))",
        "        yield from pool.map(read, range(count))",
        "tests/shards/test_reader.py::test_a_count_that_is_a_lie_at_a_url_is_refused",
    ),
    # --- Checkpoints, runs and configs ---
    Defence(
        RUNS,
        "weights are read as safetensors, never as a pickle",
        "train/engine/checkpoint.py",
        "        return load_file(path)\n",
        "        with path.open('rb') as file:\n            return dict(torch.load(file, weights_only=False))\n",
        "tests/train/engine/test_checkpoint.py::TestFaults::test_a_pickle_under_a_checkpoints_name_is_not_loaded",
    ),
    Defence(
        RUNS,
        "the authors' published weights, which are pickles, are read as weights only",
        "train/conversion/pickled.py",
        "weights_only=True",
        "weights_only=False",
        "tests/train/conversion/test_pickled.py::test_what_is_no_file_of_weights_is_refused_in_one_sentence[harm_in_a_checkpoint]",
    ),
    Defence(
        RUNS,
        "a torch whose weights-only loading can be made to run code reads no weights",
        "train/conversion/pickled.py",
        ">= SAFE_TORCH",
        ">= (2, 0)",
        "tests/train/conversion/test_pickled.py::test_a_torch_whose_weights_only_is_not_safe_is_not_used",
    ),
    Defence(
        RUNS,
        "tensors of published weights have 512 MiB at most, whatever memory they share",
        "train/conversion/pickled.py",
        "    if size > MOST_TENSOR_BYTES:",
        "    if size < 0:",
        "tests/train/conversion/test_pickled.py::test_what_is_no_file_of_weights_is_refused_in_one_sentence[shared_many_times]",
    ),
    Defence(
        RUNS,
        "only plain tensors of published weights pass",
        "train/conversion/pickled.py",
        "value.layout is not torch.strided or ",
        "",
        "tests/train/conversion/test_pickled.py::test_what_is_no_file_of_weights_is_refused_in_one_sentence[sparse]",
    ),
    Defence(
        RUNS,
        "a name in published weights is short, printable ASCII",
        "train/conversion/pickled.py",
        " or not (name.isascii() and name.isprintable())",
        "",
        "tests/train/conversion/test_pickled.py::test_what_is_no_file_of_weights_is_refused_in_one_sentence[harm_in_a_name]",
    ),
    Defence(
        RUNS,
        "a file of published weights is a regular one of 4 GiB at most",
        "train/conversion/limited.py",
        "    if found.st_size > limits.file_bytes:",
        "    if found.st_size < 0:",
        "tests/train/conversion/test_pickled.py::test_what_is_no_file_of_weights_is_refused_in_one_sentence[larger_than_any]",
    ),
    Defence(
        RUNS,
        "the process that reads published weights has a limit of memory",
        "train/conversion/limited.py",
        "        most[resource.RLIMIT_AS] = ",
        "        _unused = ",
        "tests/train/conversion/test_pickled.py::test_a_process_that_takes_too_much_is_ended[allocates]",
    ),
    Defence(
        RUNS,
        "the process that reads published weights has a limit of CPU time",
        "train/conversion/limited.py",
        "        resource.RLIMIT_CPU: limits.cpu_seconds,\n",
        "",
        "tests/train/conversion/test_pickled.py::test_a_process_that_takes_too_much_is_ended[spins]",
    ),
    Defence(
        RUNS,
        "the process that reads published weights has a limit on what it writes",
        "train/conversion/limited.py",
        "        resource.RLIMIT_FSIZE: limits.written_bytes,\n",
        "",
        "tests/train/conversion/test_pickled.py::test_a_process_that_takes_too_much_is_ended[writes]",
    ),
    Defence(
        RUNS,
        "the process that reads published weights has a wall clock",
        "train/conversion/limited.py",
        "    clock.start()\n",
        "",
        "tests/train/conversion/test_pickled.py::test_a_process_that_takes_too_much_is_ended[waits]",
    ),
    Defence(
        RUNS,
        "the answer of the process that reads published weights is short JSON, and no pickle",
        "train/conversion/limited.py",
        "ours.recv_bytes(MOST_ANSWER_BYTES)",
        "ours.recv_bytes()",
        "tests/train/conversion/test_pickled.py::test_a_process_that_takes_too_much_is_ended[tells]",
    ),
    Defence(
        RUNS,
        "statistics of published weights are numbers, and no pickled objects",
        "train/conversion/pickled.py",
        "allow_pickle=False",
        "allow_pickle=True",
        "tests/train/conversion/test_pickled.py::test_statistics_that_cannot_be_are_refused[objects]",
    ),
    Defence(
        RUNS,
        "a run that says that it lacks weights cannot lack its encoders",
        "train/config/run_folder.py",
        " and name not in ENCODERS",
        "",
        "tests/train/conversion/test_convert_weights.py::test_a_run_that_lacks_its_encoders_is_refused[lacks0]",
    ),
    Defence(
        RUNS,
        "`state.json` of more than 1 MiB is not read",
        "train/engine/checkpoint_state.py",
        "most_bytes=MOST_BYTES",
        "most_bytes=1 << 26",
        "tests/train/engine/test_checkpoint.py::TestFaults::test_a_state_of_more_than_a_mebibyte_is_refused_though_it_is_well_formed",
    ),
    Defence(
        RUNS,
        "`run.json` of more than 1 MiB is not read",
        "train/config/run_folder.py",
        "most_bytes=MOST_BYTES",
        "most_bytes=1 << 26",
        "tests/train/config/test_settings.py::TestRecord::test_a_run_json_of_more_than_a_mebibyte_is_refused_though_it_is_well_formed",
    ),
    Defence(
        RUNS,
        "JSON nested without end is an error with its place",
        "kinetics_sounds/files.py",
        '    except RecursionError as error:\n        raise ValueError("it is nested too deeply") from error\n',
        "    except ZeroDivisionError:\n        raise\n",
        "tests/train/engine/test_checkpoint.py::TestFaults::test_a_damaged_state_is_refused",
    ),
    Defence(
        RUNS,
        "a config of more than 64 KiB is not read",
        "kinetics_sounds/config_text.py",
        "data = file.read(MOST_CONFIG_BYTES + 1)",
        "data = file.read()",
        "tests/test_settings.py::test_of_a_recipe_that_is_too_long_no_more_is_read_than_tells_so",
    ),
    Defence(
        RUNS,
        "a config has no aliases, by which a kilobyte becomes gigabytes",
        "kinetics_sounds/config_text.py",
        "if isinstance(event, yaml.AliasEvent):",
        "if False:",
        "tests/test_settings.py::test_a_strangers_recipe_is_refused_before_it_costs_anything",
    ),
    Defence(
        RUNS,
        "a config is not nested deeper than 8",
        "kinetics_sounds/config_text.py",
        "if depth > MOST_CONFIG_DEPTH:",
        "if False:",
        "tests/test_settings.py::test_a_strangers_recipe_is_refused_before_it_costs_anything",
    ),
    Defence(
        RUNS,
        "bounds hold for a text within a config, which is read as YAML again",
        "kinetics_sounds/config_text.py",
        "if isinstance(each, str):  # jsonargparse tries each text as YAML",
        "if False:",
        "tests/test_settings.py::test_a_strangers_recipe_is_refused_before_it_costs_anything",
    ),
    Defence(
        RUNS,
        "a config is held against the settings before jsonargparse sees it, which imports what a `class_path` names",
        "kinetics_sounds/config_text.py",
        '    _check_shape(renamed, shape, "")\n',
        "",
        "tests/test_settings.py::test_what_a_recipe_names_is_never_imported",
    ),
    Defence(
        RUNS,
        "a run's config builds on no other file, of which it could have one read",
        "train/config/recipes.py",
        '    if is_of_a_run(path):\n        return None, ""\n',
        "",
        "tests/train/config/test_bases.py::test_the_run_of_a_stranger_reads_no_other_file",
    ),
    Defence(
        RUNS,
        "a config is never taken for the name of a file",
        "kinetics_sounds/settings.py",
        "f\"{text}\\n# {'-' * 4096}\"",
        "text",
        "tests/test_settings.py::test_a_recipe_is_read_though_a_file_is_called_like_its_text",
    ),
    Defence(
        RUNS,
        "only the command line may say `--resume anyway`",
        "train/config/settings.py",
        'if parsed.settings.resume == "anyway" and not named(argv, "resume"):',
        "if False:",
        "tests/train/config/test_strangers_run.py::test_a_config_may_not_have_another_run_gone_on_with_anyway",
    ),
    Defence(
        RUNS,
        "paths that a config sets are told before they are used",
        "train/config/settings.py",
        "if not named(argv, name) and getattr(settings, name) != getattr(plain, name)",
        "if False",
        "tests/train/config/test_strangers_run.py::test_places_that_a_config_sets_are_told_before_they_are_used",
    ),
    Defence(
        RUNS,
        "a run that is evaluated decides its model and view, and nothing else",
        "train/config/run_folder.py",
        "kept: dict[str, Any] = {name: getattr(parsed.settings, name) for name in MODEL}",
        "kept: dict[str, Any] = vars(parsed.settings)",
        "tests/train/config/test_strangers_run.py::test_of_a_run_only_what_decides_its_model_and_view_is_taken",
    ),
    Defence(
        RUNS,
        "a run cannot have a URL asked that the user did not name",
        "train/config/run_folder.py",
        "    if remote.is_url(shards):\n        raise RunError(",
        "    if False:\n        raise RunError(",
        "tests/train/config/test_strangers_run.py::test_a_run_that_names_an_address_has_it_asked_only_by_the_user",
    ),
    # --- Tables and pages ---
    Defence(
        TABLES,
        "a cell that a spreadsheet would run is escaped",
        "kinetics_sounds/files.py",
        """return f"'{text}" if _is_formula(text) else text""",
        "return text",
        "tests/test_manifest.py::test_a_formula_is_harmless_in_the_csv_and_whole_in_the_manifest",
    ),
    Defence(
        TABLES,
        "cells of the manifest's CSV are escaped",
        "kinetics_sounds/manifest.py",
        'table[column] = table[column].map(files.for_people, na_action="ignore")',
        "pass",
        "tests/test_manifest.py::test_a_formula_is_harmless_in_the_csv_and_whole_in_the_manifest",
    ),
    Defence(
        TABLES,
        "cells of `results.csv` are escaped: a set may have made up its fingerprint",
        "train/evaluation/results.py",
        "files.for_people(str(results[column]))",
        "results[column]",
        "tests/train/evaluation/test_results.py::test_what_a_strangers_set_says_is_no_formula_in_the_table",
    ),
    Defence(
        TABLES,
        "each page of the manifest has a checksum, which is looked at",
        "kinetics_sounds/manifest.py",
        "parquet.ParquetFile(path, page_checksum_verification=True)",
        "parquet.ParquetFile(path)",
        "tests/test_manifest.py::test_a_flipped_bit_is_found_or_harmless",
    ),
    Defence(
        TABLES,
        "the page of ks-view escapes its title",
        "pipelines/viewing/page.py",
        "<h1>{_breakable(title)}</h1>",
        "<h1>{title}</h1>",
        "tests/pipelines/viewing/test_page.py::test_hostile_strings_add_no_tag_and_come_back_as_they_were",
    ),
    Defence(
        TABLES,
        "the page of ks-view escapes its window's title",
        "pipelines/viewing/page.py",
        "<title>{html.escape(title)}</title>",
        "<title>{title}</title>",
        "tests/pipelines/viewing/test_page.py::test_hostile_strings_add_no_tag_and_come_back_as_they_were",
    ),
    Defence(
        TABLES,
        "the page of ks-view escapes its lines",
        "pipelines/viewing/page.py",
        "<p>{html.escape(line)}</p>",
        "<p>{line}</p>",
        "tests/pipelines/viewing/test_page.py::test_hostile_strings_add_no_tag_and_come_back_as_they_were",
    ),
    Defence(
        TABLES,
        "what the page of ks-view carries ends no element",
        "pipelines/viewing/page.py",
        '.replace("<", "\\\\u003c").replace(">", "\\\\u003e")',
        "",
        "tests/pipelines/viewing/test_page.py::test_hostile_strings_add_no_tag_and_come_back_as_they_were",
    ),
    Defence(
        TABLES,
        "the page of ks-view may load nothing, by its own policy",
        "pipelines/viewing/page.py",
        "default-src 'none'",
        "default-src *",
        "tests/pipelines/viewing/test_page.py::test_the_policy_names_every_script_and_style_by_its_hash_and_no_other_origin",
    ),
    Defence(
        TABLES,
        "the page of ks-view runs its own scripts alone, by their hashes",
        "pipelines/viewing/page.py",
        "f\"script-src {' '.join(map(_hash, scripts))}\"",
        "\"script-src 'unsafe-inline'\"",
        "tests/pipelines/viewing/test_page.py::test_the_policy_names_every_script_and_style_by_its_hash_and_no_other_origin",
    ),
    Defence(
        TABLES,
        "a stranger's words write no lines or colours on the terminal of `ks-doctor`",
        "pipelines/doctor.py",
        'letter if letter.isprintable() else " " for letter in text',
        "text",
        "tests/pipelines/test_doctor.py::test_a_stranger_s_words_cannot_write_lines_or_colours",
    ),
    # --- Code from elsewhere ---
    Defence(
        CODE,
        "a list of clips that is or may hold a pickle is never opened",
        "kinetics_sounds/lists/__init__.py",
        "_check_text(path, file.read(8))",
        "pass",
        "tests/lists/test_lists.py::test_a_pickle_is_refused_and_never_opened",
    ),
    Defence(
        CODE,
        "no Python that a command starts imports a file of the working folder",
        "kinetics_sounds/plugins.py",
        'os.environ["PYTHONSAFEPATH"] = "1"',
        "pass",
        "tests/pipelines/test_working_folder.py::test_no_process_of_a_command_imports_them",
    ),
    Defence(
        CODE,
        "each command sees to that before it begins",
        "kinetics_sounds/command.py",
        "    ignore_working_folder()\n",
        "",
        "tests/pipelines/test_working_folder.py::test_no_process_of_a_command_imports_them",
    ),
    Defence(
        CODE,
        "so does each pool of workers, for nodes on which no command began",
        "pipelines/process_pool.py",
        "        ignore_working_folder()  # here too",
        "        # here too",
        "tests/pipelines/test_working_folder.py::test_nor_do_workers_whose_machine_ran_no_command_before[pool]",
    ),
    Defence(
        CODE,
        "so do the processes that load for the trainer",
        "train/data/workers.py",
        "    ignore_working_folder()\n",
        "",
        "tests/pipelines/test_working_folder.py::test_nor_do_workers_whose_machine_ran_no_command_before[fork server]",
    ),
    Defence(
        CODE,
        "a rank of torchrun (`python -m`) drops the working folder",
        "kinetics_sounds/__init__.py",
        'if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:',
        "if False:",
        "tests/pipelines/test_working_folder.py::test_a_rank_of_torchrun_does_not_import_them",
    ),
    Defence(
        CODE,
        "a job of Slurm starts its Python so",
        "pipelines/executors/slurm/__init__.py",
        'python = f"{shlex.quote(sys.executable)} -P"',
        "python = shlex.quote(sys.executable)",
        "tests/pipelines/test_working_folder.py::test_no_job_imports_them",
    ),
    Defence(
        CODE,
        "the doctor's checks do not import the working folder",
        "pipelines/checks/__init__.py",
        'PYTHON = (sys.executable, "-P")',
        "PYTHON = (sys.executable,)",
        "tests/pipelines/test_working_folder.py::test_no_check_of_the_doctor_imports_them",
    ),
    Defence(
        CODE,
        "the folder of pickled tasks is its owner's alone",
        "pipelines/executors/slurm/mailbox.py",
        "self.folder.mkdir(mode=0o700)",
        "self.folder.mkdir()",
        "tests/pipelines/executors/test_mailbox.py::test_the_folder_is_ours_alone",
    ),
    Defence(
        CODE,
        "nothing is unpickled from that folder once others can reach it",
        "pipelines/executors/slurm/mailbox.py",
        "or stat.S_IMODE(folder.st_mode) & 0o077 ",
        "",
        "tests/pipelines/executors/test_mailbox.py::test_nothing_is_read_from_a_folder_that_others_can_reach",
    ),
    Defence(
        CODE,
        "no file of another user is unpickled",
        "pipelines/executors/slurm/mailbox.py",
        "owners = {folder.st_uid, os.fstat(data.fileno()).st_uid}",
        "owners = {os.geteuid()}",
        "tests/pipelines/executors/test_mailbox.py::test_nothing_is_read_from_a_file_of_another_user",
    ),
    Defence(
        CODE,
        "nothing is unpickled through a link",
        "pipelines/executors/slurm/mailbox.py",
        "os.O_RDONLY | os.O_NOFOLLOW",
        "os.O_RDONLY",
        "tests/pipelines/executors/test_mailbox.py::test_a_link_is_not_followed",
    ),
    Defence(
        CODE,
        "nothing is unpickled in a folder that is itself a link",
        "pipelines/executors/slurm/mailbox.py",
        "folder = self.folder.lstat()",
        "folder = self.folder.stat()",
        "tests/pipelines/executors/test_mailbox.py::test_a_folder_that_is_a_link_is_not_read",
    ),
    # --- Faults and kills ---
    Defence(
        PUBLISHED,
        "a note of a class list that names a local file is not published",
        "pipelines/publishing/folder.py",
        "note = DERIVED_NOTE if classes.note.startswith(manifest.DERIVED) else shipped_note(classes.note)",
        "note = classes.note",
        "tests/pipelines/publishing/test_publish.py::TestAllowList::test_nothing_of_the_machine_is_told",
    ),
    Defence(
        PUBLISHED,
        "an address in the documents of somebody's lists is passed on only if it is a web page",
        "pipelines/list_origin.py",
        "if name not in ADDRESSES or PAGE.fullmatch(text)",
        "",
        "tests/pipelines/test_list_origin.py::test_what_is_no_line_of_text_or_no_web_page_is_left_out",
    ),
    Defence(
        PUBLISHED,
        "a text in the documents of somebody's lists has no line end and no escape of a terminal",
        "pipelines/list_origin.py",
        "isinstance(text := said.get(name), str) and _is_line(text)",
        "isinstance(text := said.get(name), str)",
        "tests/pipelines/test_list_origin.py::test_what_is_no_line_of_text_or_no_web_page_is_left_out",
    ),
    Defence(
        PUBLISHED,
        "labels in a published CSV are no formulas",
        "pipelines/publishing/tables.py",
        'files.for_people(str(value)) if name == "label" else str(value)',
        "str(value)",
        "tests/pipelines/publishing/test_documents.py::test_no_cell_of_a_csv_is_a_formula",
    ),
    Defence(
        PUBLISHED,
        "a label is no HTML in the card",
        "pipelines/publishing/markdown.py",
        "_ENTITIES.get(letter, letter)",
        "letter",
        "tests/pipelines/publishing/test_documents.py::test_nothing_in_markdown_is_html_a_link_or_hidden[README.md]",
    ),
    Defence(
        PUBLISHED,
        "a label is no link and no mark of Markdown in the card",
        "pipelines/publishing/markdown.py",
        '_SPECIAL.sub(lambda mark: f"\\\\{mark[0]}", visible)',
        "visible",
        "tests/pipelines/publishing/test_documents.py::test_nothing_in_markdown_is_html_a_link_or_hidden[README.md]",
    ),
    Defence(
        PUBLISHED,
        "marks that turn the direction of what follows are written as their numbers",
        "pipelines/publishing/markdown.py",
        " if hidden else letter",
        " if False else letter",
        "tests/pipelines/publishing/test_documents.py::test_json_and_yaml_hold_texts_and_nothing_else",
    ),
    Defence(
        PUBLISHED,
        "no JSON of a stranger's folder is a traceback, whatever kind its values are of",
        "pipelines/publishing/contents.py",
        "if not all(map(_says_a_split, splits.values())):",
        "if False:",
        "tests/pipelines/publishing/test_check_strangers.py::test_a_value_of_another_kind_is_a_finding",
    ),
    Defence(
        PUBLISHED,
        "a document that went with its line of SHA256SUMS is missing all the same",
        "pipelines/publishing/check.py",
        "if name not in sums and not (folder / name).exists():",
        "if False:",
        "tests/pipelines/publishing/test_check_strangers.py::test_a_file_that_went_with_its_checksum_is_missing_all_the_same",
    ),
    Defence(
        PUBLISHED,
        "history that is gone is asked for, and never begun anew in silence",
        "pipelines/publishing/previous.py",
        "    _refuse_lost(out, sums, missing)\n",
        "",
        "tests/pipelines/publishing/test_publish_again.py::test_history_that_is_missing_is_asked_for_and_never_begun_anew",
    ),
    Defence(
        PUBLISHED,
        "a published run takes the place of an earlier one alone: no other's checkpoints are deleted",
        "pipelines/publishing/run.py",
        "if not out.is_dir() or not (out / SUMS).is_file():",
        "if False:",
        "tests/pipelines/publishing/test_run_again.py::test_another_run_s_checkpoints_are_not_deleted",
    ),
    Defence(
        PUBLISHED,
        "a push sends what ks-publish wrote, and no other file of the folder",
        "pipelines/publishing/push.py",
        "for name in sorted([*contents.read_sums(folder), SUMS]):",
        "for name in contents.names(folder):",
        "tests/pipelines/publishing/test_publish.py::test_push_sends_no_secret_that_lies_in_the_folder",
    ),
    Defence(
        PUBLISHED,
        "a push deletes what it said, and tells what",
        "pipelines/publishing/push.py",
        "        *_deletions(place, stale),\n",
        "",
        "tests/pipelines/publishing/test_push.py::test_what_goes_on_the_hub_is_said_before_and_after",
    ),
    Defence(
        PUBLISHED,
        "a label that would add a line to the class list is refused",
        "pipelines/publishing/folder.py",
        "if fault := tables.label_fault(label):",
        'if fault := "":',
        "tests/pipelines/publishing/test_publish.py::test_a_label_that_no_class_list_can_name_is_refused",
    ),
    Defence(
        PUBLISHED,
        "a stranger's Croissant that names an address is not loaded",
        "pipelines/publishing/croissant.py",
        '    _check_distribution(path, document.get("distribution"), splits)\n',
        "",
        "tests/pipelines/publishing/test_check.py::TestCroissant::test_a_stranger_s_document_is_not_given_to_mlcroissant",
    ),
    Defence(
        PUBLISHED,
        "a stranger's Croissant of another context is not loaded",
        "pipelines/publishing/croissant.py",
        'document.get("@context") != CONTEXT',
        "False",
        "tests/pipelines/publishing/test_check.py::TestCroissant::test_a_stranger_s_document_is_not_given_to_mlcroissant",
    ),
    Defence(
        PUBLISHED,
        "SHA256SUMS names no file outside of its folder",
        "pipelines/publishing/contents.py",
        "not _is_inside(match[2])",
        "False",
        "tests/pipelines/publishing/test_check.py::test_sums_that_lead_out_of_the_folder_are_refused",
    ),
    Defence(
        PUBLISHED,
        "a stranger's file names write no lines or colours on the terminal of `ks-publish check`",
        "pipelines/publishing/check.py",
        'print(plain(f"{each.kind}: {each.place}: {each.what}{each.others}"))',
        'print(f"{each.kind}: {each.place}: {each.what}{each.others}")',
        "tests/pipelines/publishing/test_check.py::test_what_a_stranger_calls_a_file_writes_no_line_of_the_terminal",
    ),
    Defence(
        PUBLISHED,
        "a published file that was changed by hand is not written over",
        "pipelines/publishing/previous.py",
        "    if changed:\n",
        "    if False:\n",
        "tests/pipelines/publishing/test_publish.py::TestOthersFiles::test_what_was_changed_by_hand_is_not_written_over",
    ),
    Defence(
        PUBLISHED,
        "files that ks-publish did not write stay in the folder",
        "pipelines/publishing/swap.py",
        "        _keep_others(out, new, set(own))\n",
        "        pass\n",
        "tests/pipelines/publishing/test_publish.py::TestOthersFiles::test_a_file_of_somebody_else_s_stays",
    ),
    Defence(
        PUBLISHED,
        "a published folder changes as a whole, at one moment",
        "pipelines/publishing/swap.py",
        "elif _exchanged(new, out):",
        "elif False:",
        "tests/pipelines/publishing/test_publish.py::test_a_kill_leaves_the_old_folder_or_the_new_one[before]",
    ),
    Defence(
        FAULTS,
        "a file is written under a temporary name",
        "kinetics_sounds/files.py",
        """part = part_of(path)\n    try:\n        with named(path), part""",
        """part = path\n    try:\n        with named(path), part""",
        "tests/test_files.py::test_a_file_appears_when_the_block_has_ended",
    ),
    Defence(
        FAULTS,
        "a file's bytes are on the disk before it has its name",
        "kinetics_sounds/files.py",
        "        os.fsync(written.fileno())\n",
        "        pass\n",
        "tests/test_files.py::test_bytes_are_on_disk_before_they_have_their_name",
    ),
    Defence(
        FAULTS,
        "a file's name is on the disk when the call returns",
        "kinetics_sounds/files.py",
        "    part.replace(path)\n    sync_folder(path.parent)\n",
        "    part.replace(path)\n",
        "tests/test_files.py::test_bytes_are_on_disk_before_they_have_their_name",
    ),
    Defence(
        FAULTS,
        "the names of new folders are on the disk",
        "kinetics_sounds/files.py",
        "        sync_folder(each.parent)\n",
        "        pass\n",
        "tests/test_files.py::test_the_names_of_new_folders_are_synced_in_the_folders_above_them",
    ),
    Defence(
        FAULTS,
        "a write that fails leaves nothing",
        "kinetics_sounds/files.py",
        "        replace_atomically(part, path)\n    finally:\n        part.unlink(missing_ok=True)\n",
        "        replace_atomically(part, path)\n    finally:\n        pass\n",
        "tests/test_files.py::test_an_error_in_the_block_leaves_nothing",
    ),
    Defence(
        FAULTS,
        "a folder has one command at a time",
        "kinetics_sounds/files.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            pass\n",
        "tests/test_files.py::test_a_second_process_is_told_which_folder_is_in_use_and_a_killed_one_lets_go",
    ),
    Defence(
        FAULTS,
        "a folder has one command at a time on a file system without locks",
        "kinetics_sounds/files.py",
        'lock.open("x")',
        'lock.open("w")',
        "tests/test_files.py::test_without_locks_a_file_says_who_holds_a_folder",
    ),
    Defence(
        FAULTS,
        "the lock file of another is not removed",
        "kinetics_sounds/files.py",
        "            if lock.read_text() == us:\n",
        "            if True:\n",
        "tests/test_files.py::test_without_locks_the_file_of_another_is_left",
    ),
    Defence(
        FAULTS,
        "what killed runs left is cleared",
        "kinetics_sounds/files.py",
        "    remove_parts(folder, *names)\n",
        "    pass\n",
        "tests/test_files.py::test_what_killed_runs_left_is_cleared",
    ),
    Defence(
        FAULTS,
        "an unfinished file that another program writes is never deleted",
        "kinetics_sounds/files.py",
        "        if number.isdecimal() and (int(number) == os.getpid() or not is_alive(int(number))) and not part.is_dir():\n",
        "        if not part.is_dir():\n",
        "tests/test_files.py::test_only_what_dead_writers_of_these_names_left_is_swept",
    ),
    Defence(
        FAULTS,
        "the ledger is on the disk, its journal's end too, when it says so",
        "kinetics_sounds/ledger.py",
        'self._database.execute("PRAGMA synchronous = EXTRA")',
        "pass",
        "tests/test_ledger.py::test_every_row_is_synced_and_there_is_no_write_ahead_log",
    ),
    Defence(
        FAULTS,
        "an outcome that was recorded is committed before anything goes on",
        "kinetics_sounds/ledger.py",
        "with sqlite_errors(self._path), self._database:\n            self._database.executemany(",
        "with sqlite_errors(self._path):\n            self._database.executemany(",
        "tests/test_ledger.py::test_what_was_recorded_survives_a_kill_right_after",
    ),
    Defence(
        FAULTS,
        "a checkpoint is written under a temporary name",
        "train/engine/checkpoint.py",
        "        _write(part, all_files,",
        "        part = path\n        _write(part, all_files,",
        "tests/train/engine/test_checkpoint.py::test_a_kill_at_any_moment_of_a_save_leaves_the_last_checkpoint_or_the_new_one",
    ),
    Defence(
        FAULTS,
        "a checkpoint's files are synced",
        "train/engine/checkpoint.py",
        "            os.fsync(written.fileno())\n",
        "            pass\n",
        "tests/train/engine/test_checkpoint.py::test_a_checkpoint_is_on_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes",
    ),
    Defence(
        FAULTS,
        "the names of a checkpoint's files are synced",
        "train/engine/checkpoint.py",
        "    files.sync_folder(part)\n",
        "",
        "tests/train/engine/test_checkpoint.py::test_a_checkpoint_is_on_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes",
    ),
    Defence(
        FAULTS,
        "the checkpoint's own name is synced before an older one goes",
        "train/engine/checkpoint.py",
        "    files.sync_folder(folder)\n",
        "",
        "tests/train/engine/test_checkpoint.py::test_a_checkpoint_is_on_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes",
    ),
    Defence(
        FAULTS,
        "a step that is saved again keeps its old checkpoint until then",
        "train/engine/checkpoint.py",
        "        path.replace(before)\n",
        "        shutil.rmtree(path)\n",
        "tests/train/engine/test_checkpoint.py::test_a_step_that_is_saved_again_never_leaves_a_moment_without_a_checkpoint",
    ),
    Defence(
        FAULTS,
        "a checkpoint is renamed before it is removed: half of one is never taken for a whole",
        "train/engine/checkpoint.py",
        "    path.replace(doomed)\n    files.remove_folder(doomed)",
        "    files.remove_folder(path)",
        "tests/train/engine/test_checkpoint.py::test_a_kill_at_any_moment_of_a_save_leaves_the_last_checkpoint_or_the_new_one",
    ),
    Defence(
        FAULTS,
        "a checkpoint that the disk has no room for leaves no half",
        "train/engine/checkpoint.py",
        "        shutil.rmtree(part, ignore_errors=True)\n        if before.exists()",
        "        if before.exists()",
        "tests/train/engine/test_checkpoint.py::test_a_full_disk_is_told_with_what_is_needed_and_no_half_checkpoint_is_left",
    ),
    Defence(
        FAULTS,
        "a checkpoint whose step could not be saved again gets its name back",
        "train/engine/checkpoint.py",
        "            before.replace(path)\n        raise\n",
        "            pass\n        raise\n",
        "tests/train/engine/test_checkpoint.py::test_a_rename_that_fails_leaves_the_checkpoint_that_was_there_under_its_name",
    ),
    Defence(
        FAULTS,
        "the checkpoint before of a step that was saved again does not come back",
        "train/engine/checkpoint.py",
        "        if old not in there:",
        "        if False:",
        "tests/train/engine/test_checkpoint.py::test_what_a_kill_left_beside_a_step_that_was_saved_again_goes",
    ),
    Defence(
        FAULTS,
        "a clip's link is made beside its place and gets its name whole",
        "pipelines/fetching/worker.py",
        "        link = task.folder / place.name\n        link.symlink_to(path.resolve())\n        link.replace(place)\n",
        "        place.unlink(missing_ok=True)\n        place.symlink_to(path.resolve())\n",
        "tests/pipelines/fetching/test_folders.py::test_a_clip_is_on_disk_with_its_name_before_it_is_told_of",
    ),
    Defence(
        FAULTS,
        "a clip's link is synced in its folder",
        "pipelines/fetching/worker.py",
        "        files.sync_folder(place.parent)\n",
        "",
        "tests/pipelines/fetching/test_folders.py::test_a_clip_is_on_disk_with_its_name_before_it_is_told_of",
    ),
    Defence(
        FAULTS,
        "a clip that was cut is synced before and after it has its name",
        "pipelines/fetching/worker.py",
        "files.replace_atomically(_spared(task, path), place)",
        "_spared(task, path).replace(place)",
        "tests/pipelines/fetching/test_folders.py::test_a_clip_is_on_disk_with_its_name_before_it_is_told_of",
    ),
    Defence(
        FAULTS,
        "a file of the user's own is never written over",
        "pipelines/fetching/worker.py",
        "any(_same(place, Path(each)) for each in task.kept)",
        "False",
        "tests/pipelines/fetching/test_folders.py::test_an_original_that_lies_where_its_cut_would_go_is_left_alone",
    ),
    Defence(
        FAULTS,
        "a task or result is not there before it is whole",
        "pipelines/executors/slurm/mailbox.py",
        "if path.suffix != files.PART",
        "",
        "tests/pipelines/executors/test_mailbox.py::test_a_file_that_is_being_written_is_not_there_yet",
    ),
    Defence(
        FAULTS,
        "a task or result is synced before it has its name",
        "pipelines/executors/slurm/mailbox.py",
        "        files.replace_atomically(part, path)\n",
        "        part.replace(path)\n",
        "tests/pipelines/executors/test_mailbox.py::test_a_task_is_on_disk_before_it_is_there",
    ),
    Defence(
        FAULTS,
        "a shard is synced and named before its index is written",
        "kinetics_sounds/shards/writer.py",
        "        files.replace_atomically(self._part, self.tar)\n",
        "        self._part.replace(self.tar)\n",
        "tests/shards/test_writer.py::test_a_tar_is_on_disk_with_its_name_before_its_index",
    ),
    Defence(
        FAULTS,
        "a copy in the cache of another size is fetched anew",
        "kinetics_sounds/cache.py",
        "if os.fstat(descriptor).st_size != size:",
        "if False:",
        "tests/test_cache.py::test_a_copy_of_another_size_is_fetched_anew",
    ),
    Defence(
        FAULTS,
        "a copy in the cache is fetched by one process at a time",
        "kinetics_sounds/cache.py",
        "            if _lock(claim):\n",
        "            if True:\n",
        "tests/test_cache.py::test_processes_that_want_the_same_file_fetch_it_once",
    ),
    Defence(
        FAULTS,
        "a copy that is fetched is synced before it has its name",
        "kinetics_sounds/remote.py",
        "files.replace_atomically(part, path)",
        "part.replace(path)",
        "tests/test_remote.py::test_a_copy_is_on_disk_before_it_has_its_name",
    ),
    Defence(
        FAULTS,
        "a last line that a kill cut off is dropped",
        "train/data/bad_samples.py",
        ' if line.endswith(b"\\n")]',
        "]",
        "tests/train/data/test_loader.py::TestBadSamples::test_a_last_line_that_a_kill_cut_off_is_dropped",
    ),
    Defence(
        FAULTS,
        "what a worker started is killed when it is gone",
        "pipelines/process_pool.py",
        "        while _kill_marked(mark):\n            time.sleep(0.05)\n",
        "        pass\n",
        "tests/pipelines/executors/test_process_pool.py::test_the_guard_notices_the_end_where_the_system_knows_no_limit",
    ),
)


if __name__ == "__main__":
    sys.exit(main())
