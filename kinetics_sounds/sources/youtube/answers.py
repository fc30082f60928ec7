"""What YouTube's players answered, looked at before yt-dlp lists the formats in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...clip import Status
from ..youtube.errors import RefusedError

_LISTS = "_extract_formats_and_subtitles"
"""Private to yt-dlp, of its extractor for YouTube: where there is none, nothing is looked at."""


def inspect(extractor: Any) -> None:  # noqa: ANN401 - yt-dlp is untyped
    """Have yt-dlp's extractor for YouTube raise RefusedError (no_formats) for a player's answer about another video.

    Of two sounds of one format it would keep the first, and it does not know a voice boost (yt-dlp#15368): such a sound
    is told to be compressed, which it does know. What is not of this form is left to yt-dlp.
    """
    lists = getattr(extractor, _LISTS, None)
    if lists is None:
        return

    def inspected(video_id: str, responses: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        for response in _objects(responses):
            for details in _objects([response.get("videoDetails")]):
                told = details.get("videoId")
                if told and told != video_id:
                    raise RefusedError(Status.NO_FORMATS, f"a player answered for another video: {told}")
            for each in _streams(response):
                if each.get("isVb"):
                    each["isDrc"] = True
        return lists(video_id, responses, *rest, **more)

    setattr(extractor, _LISTS, inspected)


def _streams(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for streaming in _objects([response.get("streamingData")]):
        for name in ("formats", "adaptiveFormats"):
            yield from _objects(streaming.get(name))


def _objects(values: object) -> Iterator[dict[str, Any]]:
    """The JSON objects of a list; none where it is no list."""
    yield from (each for each in values if isinstance(each, dict)) if isinstance(values, list) else ()
