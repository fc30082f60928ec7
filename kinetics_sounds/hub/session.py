"""Hub requests: without output, with retries and the waits that the Hub asks for, and with errors of our own."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .. import __version__, answers, files, progress, redact, retry, web
from ..errors import KineticsSoundsError, RemoteError, StoppedError
from ..extras import pip_install
from .place import Place

BACKOFF = retry.Backoff(attempts=6, first_seconds=1.0, factor=3.0, longest_seconds=60.0)
"""Retries of a failed upload."""
SHORT_BACKOFF = retry.Backoff(attempts=3, first_seconds=0.5, factor=4.0, longest_seconds=8.0)
"""Retries of a failed download, whose files may be cached already."""

_BUGS = (TypeError, AttributeError, NameError, AssertionError, MemoryError)
_FOR_GOOD = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
_SETTINGS = "https://huggingface.co/settings/tokens"
_REMEDIES = {
    401: "does not exist, or requires a login; check the name, and log in with `hf auth login`, or set HF_TOKEN",
    403: f"your token lacks the permission; check it ({_SETTINGS}), or give another location",
    404: "does not exist, or is private; check name and revision",
}
_REMEDY = "is unavailable; check the address and the connection, then run again"

T = TypeVar("T")


class _RefusedError(Exception):
    """A reply after which the same request may succeed. We wait ourselves, because huggingface_hub waits without bound."""

    def __init__(self, response: Any) -> None:  # noqa: ANN401 - httpx2's
        super().__init__(f"HTTP status {response.status_code}")
        self.response = response


def _refuse(response: Any) -> None:  # noqa: ANN401 - httpx2's
    if web.may_pass(response.status_code):
        raise _RefusedError(response)


@contextlib.contextmanager
def connect() -> Iterator[Any]:
    """The Hub's client, without output; raises RemoteError if huggingface_hub is missing or too old."""
    try:
        from huggingface_hub import HfApi, set_client_factory
        from huggingface_hub.utils import _http as http
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        api = HfApi(library_name="kinetics-sounds", library_version=__version__)
        api.resolve_revision  # noqa: B018 - since 2.4
        make = getattr(
            http, "_GLOBAL_CLIENT_FACTORY", http.default_client_factory
        )  # the user's own, where they set one
    except (ImportError, AttributeError) as error:
        raise RemoteError(f"the Hub needs huggingface_hub 2.4 or newer ({error}); {pip_install('hub')}") from error

    def client() -> Any:  # noqa: ANN401 - httpx2's
        made = make()
        made.event_hooks = {**made.event_hooks, "response": [*made.event_hooks.get("response", ()), _refuse]}
        return made

    logs = [logging.getLogger(name) for name in ("huggingface_hub", "httpx", "httpx2")]
    levels, shown = [each.level for each in logs], not are_progress_bars_disabled()
    set_client_factory(client)
    for each in logs:
        each.setLevel(logging.CRITICAL)  # their lines have addresses with signatures
    if shown:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Use 'content=")  # of its own upload
            yield api
    finally:
        if shown:
            enable_progress_bars()
        for each, level in zip(logs, levels, strict=True):
            each.setLevel(level)
        set_client_factory(make)


def with_retry(
    place: Place,
    act: Callable[[], T],
    *,
    stop: Callable[[], bool] = lambda: False,
    backoff: retry.Backoff | None = None,
) -> T:
    """Call `act` with retries on transient errors, after the wait that the Hub asks for.

    Raises RemoteError with the remedy; StoppedError once `stop()`, or if the Hub's rate limit is reached.
    """

    def may_pass(error: Exception) -> bool:
        passes = _may_pass(error) and answers.waited(error, stop=stop)
        if passes:
            progress.log.warning("%s: %s; trying again", place, _words(error))
        if passes and stop():
            raise stopped(place) from error
        return passes

    try:
        return retry.call(act, may_pass=may_pass, backoff=backoff or BACKOFF)
    except KineticsSoundsError:
        raise
    except Exception as error:
        raise _named(place, error) from error


def stopped(place: Place) -> StoppedError:
    """Error for a push that ended early."""
    return StoppedError(f"{place}: sent files are kept; run the same command again to resume")


def _may_pass(error: Exception) -> bool:
    """Whether an error of a library is transient; bugs are raised."""
    if isinstance(error, _BUGS):
        raise error
    if isinstance(error, KineticsSoundsError):
        return False
    if (status := answers.status(error)) is not None:
        return web.may_pass(status) or status in (409, 412)  # another commit came between
    offline = any(type(each).__name__ == "OfflineModeIsEnabled" for each in answers.causes(error))
    full = isinstance(error, OSError) and error.errno in (*files.FULL, *files.FAILING)
    return not isinstance(error, _FOR_GOOD) and not full and not offline


def _named(place: Place, error: Exception) -> KineticsSoundsError:
    """Translate the Hub's error into one of ours, with the remedy and without tokens."""
    status = answers.status(error)
    if status == 429:
        return StoppedError(
            f"{place}: the Hub's rate limit is reached (HTTP status 429); run the same command again in an hour to resume"
        )
    return RemoteError(f"{place}: {_REMEDIES.get(status or 0, _REMEDY)} ({_words(error)})")


def _words(error: Exception) -> str:
    """Message of a library's error, without tokens."""
    status = answers.status(error)
    *_, first = answers.causes(error)
    words = getattr(first, "server_message", None) or next(iter(str(first).strip().splitlines()), "")
    told = redact.redact("".join(each if each.isprintable() else " " for each in str(words)), _tokens())
    return f"{type(first).__name__}{f', HTTP status {status}' if status else ''}: {told[:300]}"


def _tokens() -> list[str]:
    """Tokens, which no message may contain."""
    from huggingface_hub import get_token

    return [token for token in (get_token(), os.environ.get("HF_TOKEN")) if token]
