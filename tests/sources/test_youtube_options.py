"""What a user may ask of the youtube source, what is refused, and what never leaves it."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.errors import KineticsSoundsError, SettingsError, SourceError
from kinetics_sounds.redact import redact
from kinetics_sounds.sources.youtube import Options, Source
from kinetics_sounds.sources.youtube.options import REFUSED, known
from kinetics_sounds.sources.youtube.watch import Watch

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests

ID = "5JzkrOVhPOw"
CLIP = Clip(ID, 0, 1, "bowling", "val")
MIRROR = "http://127.0.0.1:1/{youtube_id}"
QUICK = ("retries=0", "extractor_retries=0", "socket_timeout=0.5")
SECRET = "s3cret-w0rd"


def fetch(argument: str, folder: Path, **options: Any) -> FetchResult:
    source = Source(argument, Options(**{**options, "option": (*QUICK, *options.get("option", ()))}))
    return source.fetch(CLIP, source.candidates(CLIP)[0], folder)


def parameters(argument: str = "", *, folder: Path = Path("/work"), **options: Any) -> dict[str, Any]:
    """All that yt-dlp is told."""
    source = Source(argument, Options(**options))
    return source._parameters(CLIP, folder, source._watch(CLIP))


# --- Manners ----------------------------------------------------------------------------------------------------------


def test_youtube_is_asked_politely_and_another_server_at_once() -> None:
    polite, own = parameters(), parameters(MIRROR)

    assert (polite["sleep_interval"], polite["max_sleep_interval"]) == (10, 20)
    assert "sleep_interval" not in own
    for told in (polite, own):
        assert told["socket_timeout"] == 20
        assert [told["retry_sleep_functions"]["http"](n=n) for n in (0, 1, 10)] == [1.0, 2.0, 30.0]  # seconds


def test_only_the_extractor_of_the_place_is_there_and_nothing_of_the_machine_is_used() -> None:
    polite, own = parameters(), parameters(MIRROR)

    assert (polite["allowed_extractors"], own["allowed_extractors"]) == (["youtube"], ["generic"])
    for told in (polite, own):
        assert told["cachedir"] is False
        assert not set(told) & {
            "nocheckcertificate",
            "external_downloader",
            "cookiefile",
            "enable_file_urls",
            "usenetrc",
        }


@pytest.mark.parametrize(
    ("argument", "asked", "limits"),
    [
        ("", {}, (300, 1000)),
        ("", {"videos_per_hour": 0, "requests_per_hour": 0}, (None, None)),
        ("", {"videos_per_hour": 2000, "requests_per_hour": 4000}, (2000, 4000)),
        (MIRROR, {}, (None, None)),
        (MIRROR, {"videos_per_hour": 300, "requests_per_hour": 1000}, (300, 1000)),
    ],
)
def test_the_limits_are_youtubes_unless_the_user_says_so(
    argument: str, asked: dict[str, float], limits: tuple[float | None, float | None]
) -> None:
    source = Source(argument, Options(**asked))  # type: ignore[arg-type]

    assert (source.videos_per_hour, source.requests_per_hour) == limits


@pytest.mark.parametrize("name", ["videos_per_hour", "requests_per_hour", "max_bytes"])
def test_a_limit_below_nothing_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"--youtube.{name} -1: must be 0"):
        Source("", Options(**{name: -1}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "counted"),
    [
        ("https://www.youtube.com/watch?v=x", 1),
        ("https://www.youtube.com/youtubei/v1/player", 1),
        ("https://www.youtube.com/s/player/0004de42/base.js", 0),
        ("https://rr3---sn-ab5.googlevideo.com/videoplayback?id=1", 0),
        ("https://googlevideo.com.evil.example/", 1),
        ("https://mirror.example/googlevideo.com/", 1),
    ],
)
def test_requests_are_counted_as_youtube_counts_them(url: str, counted: int) -> None:
    watch = Watch(youtube_id="", max_bytes=0, start=0, sections=False)

    assert watch.counting(lambda request: request)(url) == url
    assert watch.requests == counted


# --- Other options of yt-dlp ------------------------------------------------------------------------------------------


def test_an_option_is_read_as_json_and_else_as_text_and_beats_the_default() -> None:
    told = parameters(
        option=(
            "retries=9",
            "format=18",
            'extractor_args={"youtube": {"player_client": ["tv"]}}',
            "geo_bypass=false",
        )
    )

    assert (told["retries"], told["format"], told["geo_bypass"]) == (9, "18", False)
    assert told["extractor_args"] == {"youtube": {"player_client": ["tv"]}}


def test_a_browser_to_impersonate_is_made_of_its_name() -> None:
    assert str(parameters(option=("impersonate=Chrome-124",))["impersonate"]) == "chrome-124"


def test_an_option_that_yt_dlp_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        SettingsError, match=r"--youtube.option socket_timeot: yt-dlp has no such option .*socket_timeout"
    ):
        Source("", Options(option=("socket_timeot=3",)))


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be NAME=VALUE"):
        Source("", Options(option=("retries",)))


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in REFUSED.items() for name in names])
def test_an_option_that_would_break_or_endanger_is_refused_with_the_reason(reason: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"--youtube.option {name}: is refused: {reason}"):
        Source("", Options(option=(f"{name}=1",)))


def test_no_option_of_the_installed_yt_dlp_that_runs_or_writes_something_was_forgotten() -> None:
    risky = (
        "exec",
        "cmd",
        "external",
        "postproc",
        "hook",
        "plugin",
        "outtmpl",
        "paths",
        "component",
        "certificate",
        "print",
    )
    harmless = {"client_certificate", "client_certificate_key", "client_certificate_password", "outtmpl_na_placeholder"}
    refused = {name for names in REFUSED.values() for name in names}

    assert {name for name in known() if any(word in name for word in risky)} - refused == harmless


def test_no_option_of_the_installed_yt_dlp_that_leaves_videos_out_was_forgotten() -> None:
    words = (
        *("list", "write", "break_", "min_", "max_", "date", "age_limit", "matcht", "rejectt", "force", "ignore"),
        *("skip", "split"),  # parts of a video
    )
    harmless = {
        *("listformats_table", "playlistrandom", "playlistreverse", "lazy_playlist", "skip_playlist_after_errors"),
        *("max_sleep_interval", "updatetime", "overwrites", "format_sort_force", "warn_when_outdated"),
    }
    refused = {name for names in REFUSED.values() for name in names}

    assert {name for name in known() if any(word in name for word in words)} - refused <= harmless


@pytest.mark.parametrize(
    "option",
    [
        *(
            "socket_timeout=abc",
            'socket_timeout="20"',
            "socket_timeout=0",
            "socket_timeout=null",
            "socket_timeout=true",
        ),
        *("retries=infinite", "retries=Infinity", "retries=NaN", "ratelimit=50K", "sleep_interval=-1"),
    ],
)
def test_a_number_that_is_none_is_refused_at_once(option: str) -> None:
    name = option.partition("=")[0]

    with pytest.raises(SettingsError, match=f"--youtube.option {name}=.*: must be a number"):
        Source(MIRROR, Options(option=(option,)))


def test_what_is_the_programs_own_is_not_changed_by_any_option() -> None:
    """Whatever `REFUSED` lets through."""
    source = Source("", Options())
    names = source._parameters(CLIP, Path("/work"), source._watch(CLIP))
    source._passed = dict.fromkeys(names, "theirs")

    told = source._parameters(CLIP, Path("/work"), source._watch(CLIP))

    assert told["outtmpl"] == {"default": "video.%(ext)s"}
    assert told["paths"] == {"home": "/work", "temp": "/work"}
    assert {name for name, value in told.items() if value == "theirs"} == {
        *("format", "socket_timeout", "retries", "fragment_retries", "extractor_retries", "retry_sleep_functions"),
        *("sleep_interval", "max_sleep_interval", "sleep_interval_requests"),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", {"deno": {}, "node": {}, "bun": {}, "quickjs": {}}),
        ("node", {"node": {}}),
        (f"deno:{sys.executable}", {"deno": {"path": sys.executable}}),
    ],
)
def test_a_javascript_runtime_is_named_with_its_path_or_without(text: str, told: dict[str, Any]) -> None:
    assert parameters(js_runtime=text)["js_runtimes"] == told


@pytest.mark.parametrize(
    ("text", "said"),
    [("nodejs", "is none of deno, node, bun, quickjs .*'node'"), ("deno:/no/such", "/no/such does not exist")],
)
def test_a_javascript_runtime_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Source("", Options(js_runtime=text))


# --- Sections and secrets ---------------------------------------------------------------------------------------------


def test_a_section_is_cut_by_encoding_and_the_whole_video_is_not_cut() -> None:
    section, whole = parameters(sections=True), parameters()

    assert section["force_keyframes_at_cuts"] is True
    assert section["download_ranges"]({}, None) == [{"start_time": 0, "end_time": 1}]
    assert "download_ranges" not in whole


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("", {"proxy": Address("socks5://127.0.0.1:1")}),
        ("", {"option": ('http_headers={"Authorization": "Bearer x"}',)}),
        ("http://me:word@mirror.example/{youtube_id}", {}),
    ],
)
def test_a_section_is_refused_where_ffmpeg_would_tell_or_avoid_what_it_must_not(
    argument: str, options: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=r"--youtube\.sections"):
        Source(argument, Options(sections=True, **options))


@pytest.fixture
def cookies(tmp_path: Path) -> Path:
    path = tmp_path / "cookies.txt"
    line = "\t".join(("127.0.0.1", "FALSE", "/", "FALSE", "0", "session", SECRET))
    path.write_text(f"# Netscape HTTP Cookie File\n\n#HttpOnly_{line}\n")
    path.chmod(0o600)
    return path


def test_cookies_are_sent_to_their_host_and_the_file_is_only_read(faults: Any, cookies: Path, tmp_path: Path) -> None:
    before = cookies.read_bytes(), cookies.stat().st_mtime_ns
    folder = tmp_path / "work"
    folder.mkdir()

    got = fetch(f"{faults.url}/ok/{{youtube_id}}", folder, cookies=cookies)

    assert got.status is Status.OK
    assert {headers.get("Cookie") for headers in faults.headers} == {f"session={SECRET}"}
    assert (cookies.read_bytes(), cookies.stat().st_mtime_ns) == before
    assert [file.name for file in folder.iterdir()] == ["video.mp4"]


def test_cookies_of_a_mirror_are_not_given_to_ffmpeg(cookies: Path) -> None:
    with pytest.raises(SettingsError, match="secrets"):
        Source(MIRROR, Options(cookies=cookies, sections=True))


def test_a_server_that_repeats_a_cookie_does_not_bring_it_into_the_outcome(
    faults: Any, cookies: Path, tmp_path: Path
) -> None:
    faults.reason = f"No {SECRET} here"

    got = fetch(f"{faults.url}/403/{{youtube_id}}", tmp_path, cookies=cookies)

    assert got.status is Status.HTTP_4XX
    assert "HTTP Error 403: No *** here" in got.detail


def test_cookies_that_others_can_read_are_warned_of_once_with_the_terms(cookies: Path) -> None:
    assert "chmod 600" not in Source("", Options(cookies=cookies)).notice
    cookies.chmod(0o644)

    assert Source("", Options(cookies=cookies)).notice.endswith("chmod 600 it.")
    assert Source(MIRROR, Options(cookies=cookies)).notice.startswith(f"{cookies} is readable by others")


@pytest.mark.parametrize(
    "text", [f'[{{"name": "session", "value": "{SECRET}"}}]', f"session={SECRET}", f"a\tb\tc\td\te\tf\t{SECRET}"]
)
def test_cookies_in_another_format_are_refused_without_being_told(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(text)

    with pytest.raises(SourceError, match=r"cookies.txt:1: is not a cookie; export them in Netscape format") as raised:
        Source("", Options(cookies=path))
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert capfd.readouterr() == ("", "")


def test_cookies_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--youtube.cookies .*cannot be read: No such file"):
        Source("", Options(cookies=tmp_path / "none.txt"))


def test_a_proxy_is_used_and_its_password_is_not_told(
    faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    host = faults.url.partition("://")[2]

    through = fetch("http://mirror.example/407/{youtube_id}", tmp_path, proxy=Address(f"http://me:{SECRET}@{host}"))
    refused = fetch("https://mirror.example/{youtube_id}", tmp_path, proxy=Address(f"http://me:{SECRET}@127.0.0.1:1"))
    broken = fetch("http://mirror.example/{youtube_id}", tmp_path, proxy=Address(f"http://me:{SECRET}@no such host:1"))

    assert faults.asked[0].endswith(f"/407/{ID}")
    assert [got.status for got in (through, refused)] == [Status.HTTP_4XX, Status.NETWORK]
    assert broken.status is not Status.OK
    for got in (through, refused, broken):
        assert got.detail
        assert SECRET not in got.detail


@pytest.mark.parametrize("proxy", [f"me:{SECRET}@host:8080", "host:8080", f"//me:{SECRET}@host"])
def test_a_proxy_without_a_scheme_is_refused(proxy: str) -> None:
    with pytest.raises(SettingsError, match=r"^--youtube\.proxy: has no scheme; begin it with http://") as raised:
        Source(MIRROR, Options(proxy=Address(proxy)))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("query", ["?v={youtube_id}", "?v={youtube_id}&sig=ab"])
def test_the_place_of_the_id_in_a_mirrors_query_is_no_secret_of_a_section(query: str) -> None:
    with contextlib.nullcontext() if "sig" not in query else pytest.raises(SettingsError, match="secrets to other"):
        Source(f"http://mirror.example/get{query}", Options(sections=True))


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_password_of_the_environments_proxy_is_not_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"http://me:{SECRET}@proxy.example:3128")

    assert redact(f"proxy me:{SECRET}@proxy.example:3128 refused", Source(MIRROR).secrets) == (
        "proxy ***@proxy.example:3128 refused"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": Address(f"http://me:{SECRET}@host")},
        {"proxy": Address(f"me:{SECRET}@host:8080")},
        {"proxy": Address(f"{SECRET}:8080")},
        {"option": (f"password={SECRET}",)},
    ],
)
def test_options_do_not_show_their_secrets(options: dict[str, Any]) -> None:
    assert SECRET not in repr(Options(**options))


def test_a_token_in_a_mirrors_address_is_not_told(faults: Any, tmp_path: Path) -> None:
    got = fetch(f"{faults.url}/html/{{youtube_id}}?token={SECRET}", tmp_path)

    assert "Unsupported URL" in got.detail
    assert SECRET not in got.detail
    with pytest.raises(SourceError) as raised:
        Source(f"ftp://me:{SECRET}@mirror.example/")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("length", [0, 1])
def test_a_secret_that_a_long_message_is_cut_in_is_hidden(length: int, faults: Any, tmp_path: Path) -> None:
    faults.reason = "x" * length + SECRET * 60

    got = fetch(f"{faults.url}/403/{{youtube_id}}?token={SECRET}", tmp_path)

    assert "HTTP Error 403" in got.detail
    assert SECRET[:3] not in got.detail


def test_a_header_is_sent_and_not_told(faults: Any, tmp_path: Path) -> None:
    faults.reason = f"Bad token {SECRET}"

    got = fetch(
        f"{faults.url}/403/{{youtube_id}}", tmp_path, option=(f'http_headers={{"Authorization": "Bearer {SECRET}"}}',)
    )

    assert faults.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in got.detail


def test_a_token_of_the_extractor_is_hidden_and_the_name_of_a_client_is_not() -> None:
    arguments = '{"youtube": {"po_token": ["web.gvs+MnToKeNMnToKeNMnToKeN"], "player_client": ["web_safari"]}}'

    secrets = Source("", Options(option=(f"extractor_args={arguments}",))).secrets

    assert {"web.gvs+MnToKeNMnToKeNMnToKeN", "MnToKeNMnToKeNMnToKeN"} <= set(secrets)
    assert "web_safari" not in secrets


# --- The machine is left as it was ------------------------------------------------------------------------------------


def snapshot(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("fault", ["ok", "cut", "403"])
@pytest.mark.parametrize("sections", [False, True])
def test_a_users_own_yt_dlp_is_not_asked_and_nothing_is_left_but_the_file(
    fault: str, faults: Any, tmp_path: Path, *, sections: bool
) -> None:
    home, here, scratch, work = (tmp_path / name for name in ("home", "here", "scratch", "work"))
    evil = f"open({str(tmp_path / 'evil')!r}, 'w')"
    plugin = here / "yt_dlp_plugins" / "extractor" / "evil.py"
    config = home / "yt-dlp" / "config"
    for folder in (home, here, scratch, work, plugin.parent, config.parent):
        folder.mkdir(parents=True, exist_ok=True)
    plugin.write_text(f"from yt_dlp.extractor.common import InfoExtractor\n{evil}\nclass EvilIE(InfoExtractor): pass\n")
    config.write_text(f"--exec 'touch {tmp_path / 'evil'}'\n--write-info-json\n--paths {tmp_path}\n")
    (here / "yt-dlp.conf").write_text(config.read_text())
    before = snapshot(home), snapshot(here)
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from kinetics_sounds.clip import Clip
        from kinetics_sounds.sources.youtube import Options, Source
        option = {(*QUICK, "http_chunk_size=100000")!r}
        source = Source("{faults.url}/{fault}/{{youtube_id}}", Options(option=option, sections={sections}))
        clip = Clip("{ID}", 0, 1, "bowling", "val")
        print(source.fetch(clip, source.candidates(clip)[0], Path({str(work)!r})).status)
        """
    )
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(here))))
    told = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(scratch)}
    argv = [sys.executable, "-B", "-c", script]
    environment = {**os.environ, **told, "PYTHONPATH": paths}
    environment.pop("YTDLP_NO_PLUGINS", None)

    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=here, env=environment, timeout=60)

    assert (done.stdout.strip() == "ok") == (fault == "ok")
    assert snapshot(work) == (["video.mp4"] if fault == "ok" else [])
    assert (snapshot(home), snapshot(here), snapshot(scratch)) == (*before, [])
    assert not (tmp_path / "evil").exists()


def test_ffmpegs_log_variable_is_gone_afterwards(faults: Any, tmp_path: Path) -> None:
    fetch(f"{faults.url}/ok/{{youtube_id}}", tmp_path, sections=True)

    assert "FFREPORT" not in os.environ


def test_every_error_of_the_options_is_one_that_commands_print() -> None:
    wrong: list[Callable[[], Source]] = [
        lambda: Source("", Options(option=("x=1",))),
        lambda: Source("", Options(cookies=Path("/"))),
        lambda: Source("", Options(js_runtime="x")),
    ]
    for make in wrong:
        with pytest.raises(KineticsSoundsError, match=r"^--youtube"):
            make()


def test_every_option_says_what_it_is() -> None:
    import docstring_parser

    told = {item.arg_name for item in docstring_parser.parse_from_object(Options).params if item.description}

    assert told == {field.name for field in dataclasses.fields(Options)}
