"""What YouTube's players answered, looked at before yt-dlp lists the formats in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...clip import Status
from .errors import RefusedError

_LISTS = "_extract_formats_and_subtitles"
"""Private to yt-dlp, of its extractor for YouTube: where there is none, nothing is looked at."""


def inspect(extractor: Any) -> None:  # noqa: ANN401 - yt-dlp is untyped
    """Have yt-dlp's extractor for YouTube raise RefusedError (no_formats) for a player's answer about another video.

    Of two sounds of one format it would keep the first, and it does not know a voice boost (yt-dlp#15368): such a sound
    is told to be compressed, which it does know.
    """
    lists = getattr(extractor, _LISTS, None)
    if lists is None:
        return

    def inspected(video_id: str, responses: Sequence[Mapping[str, Any]], *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        for response in responses:
            told = (response.get("videoDetails") or {}).get("videoId")
            if told and told != video_id:
                raise RefusedError(Status.NO_FORMATS, f"a player answered for another video: {told}")
            for each in _streams(response):
                if each.get("isVb"):
                    each["isDrc"] = True
        return lists(video_id, responses, *rest, **more)

    setattr(extractor, _LISTS, inspected)


def _streams(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    streaming = response.get("streamingData") or {}
    for name in ("formats", "adaptiveFormats"):
        yield from streaming.get(name) or ()
