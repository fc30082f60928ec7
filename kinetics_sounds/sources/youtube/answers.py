"""Inspect the replies of YouTube's players before yt-dlp extracts the formats."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...clip import Status
from ..youtube.errors import RefusedError

_LISTS = "_extract_formats_and_subtitles"
"""Private method of yt-dlp's YouTube extractor; if it is missing, nothing is inspected."""


def inspect(extractor: Any) -> None:  # noqa: ANN401 - yt-dlp is untyped
    """Make yt-dlp's YouTube extractor raise RefusedError (no_formats) if a player's reply is about another video.

    Of two audio streams of one format yt-dlp would keep the first, and it does not know voice boost (yt-dlp#15368): such a stream
    is marked as dynamically compressed, which it does know. Replies of another form are left to yt-dlp.
    """
    lists = getattr(extractor, _LISTS, None)
    if lists is None:
        return

    def inspected(video_id: str, responses: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        for response in _objects(responses):
            for details in _objects([response.get("videoDetails")]):
                told = details.get("videoId")
                if told and told != video_id:
                    raise RefusedError(Status.NO_FORMATS, f"a player returned another video: {told}")
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
    """JSON objects of a list; none if it is not a list."""
    yield from (each for each in values if isinstance(each, dict)) if isinstance(values, list) else ()
