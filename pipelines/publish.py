"""ks-publish: turn a build's manifest into a folder that others can rebuild, compare and cite."""

import json
import shlex
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import cores, manifest, remote
from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, check_subcommand, command, stoppable, tell_version
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import first_of, plural
from kinetics_sounds.settings import parse
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset

from .manifest_option import BUILD_OF_FOLDERS, manifest_path
from .publishing import card, check, contents, diff, made_from, options, previous, push, run, versions
from .publishing.facts import LICENSES, Facts, license_of
from .publishing.folder import Made, Stopped, publish_folder
from .publishing.markdown import plain
from .publishing.options import CREATOR, PublishOptions
from .publishing.origin import origin_of, shared_names, split_leak
from .unfinished import unfinished

MOST_NAMED = 20
"""Number of clips without hashes that are listed by name."""

MOST_SAME_BYTES = 4
"""Number of clips with the same bytes and different labels that are named."""

NEXT = """\
next steps, for a DOI:
  Hugging Face: send the folder with --push hf://datasets/USER/NAME; on its page, Settings, "Generate DOI"
  Zenodo: upload the folder's files (it reads CITATION.cff), "Reserve DOI", publish; give --url with that page next time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSettings:
    """Publish a build: splits, dataset card, Croissant, checksums and fingerprints, without media. Run again to update.

    Examples:
      ks-publish
      ks-publish --manifest data/k32/manifest.parquet --out published/k32 --creator "A. Name" --url https://example.org/k32
      ks-publish --shards data/k32/shards --workers 16
      ks-publish diff published/k32 paper_list.csv --out common
      ks-publish check published/k32
      ks-publish --push hf://datasets/USER/k32
      ks-publish run runs/avcl_k32 --license cc-by-4.0 --push hf://USER/avcl-k32

    exit code: 0 done; 1 done, some clips have no hashes; 2 usage error; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    manifest: Path | None = None
    """manifest.parquet of a build, its folder, or a filtered copy beside it. Default: the only one under data/."""
    out: Path | None = None
    """Output folder. Default: published/NAME."""
    name: str | None = None
    """Name of the dataset. Default: the one in the published folder, else that of the class list."""
    version: str | None = None
    """MAJOR.MINOR.PATCH. Default: 1.0.0, then derived from the changes: MAJOR if records (rows, of missing clips too) are
    removed or moved, a clip is lost, or label indices change; MINOR if some are added, else PATCH. Or a later version."""
    creator: str | None = None
    """Name of the publisher. Default: the one in the published folder, else anonymous."""
    url: str | None = None
    """Web page of the dataset. Default: the one in the published folder, unless --creator names another publisher."""
    license: str | None = None
    """License of the lists: CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0, ODC-By-1.0. Default: the one in the published folder, else
    that of the published lists that the build was made from, else CC-BY-4.0."""
    date: str | None = None
    """Date of this version, like 2026-11-28. Default: today; unchanged if nothing else changed."""
    shards: Address | None = None
    """Shard set (a folder or a URL) to describe in the card; its address is not published."""
    media: bool = False
    """Copy the clips into the folder. YouTube's terms restrict sharing them."""
    no_hashes: bool = False
    """Do not compute picture_hash and sound_hash, which identify re-encoded copies of a clip. They are computed once per
    clip, about a quarter of a second of one core each."""
    timeout: float = 120.0
    """Time limit of one ffmpeg run, in seconds."""
    workers: int = field(default_factory=cores.usable)
    """Number of processes that compute hashes, one core each."""
    push: Address | None = None
    """Upload the folder to hf://datasets/USER/NAME, after a summary and a confirmation."""
    yes: bool = False
    """With --push: upload without confirmation."""
    public: bool = False
    """With --push: create a missing repository public instead of private."""
    json: bool = False
    """Print the result as JSON on standard output."""


SUBCOMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "check": check.main,
    "diff": diff.main,
    "run": run.publish_run,
}
"""Subcommands of `ks-publish`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-publish`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if tell_version("ks-publish", words):
        return DONE
    if words and words[0] in SUBCOMMANDS:
        return command(f"ks-publish {words[0]}", lambda: SUBCOMMANDS[words[0]](words[1:]))

    def run_itself() -> int:
        check_subcommand("ks-publish", words, list(SUBCOMMANDS))
        return publish(parse(PublishSettings, words, prog="ks-publish").settings)

    return command("ks-publish", run_itself)


def publish(settings: PublishSettings) -> int:
    """Write the folder unless it is unchanged; returns the exit code."""
    if not 0 < settings.timeout < float("inf") or settings.workers < 1:
        raise SettingsError("--timeout and --workers: must be more than 0")
    _check_push(settings)
    path = manifest_path(settings.manifest)
    made = manifest.read(path)
    if made.folds is not None:
        raise SettingsError(
            f"{path}: is the manifest of a data set ({made.classes.name}); only builds can be published; {BUILD_OF_FOLDERS}"
        )
    chosen = _options(settings, made)
    if settings.out is None:
        previous.refuse_anothers(chosen.out, chosen.creator, made.classes.note)
    log = sys.stderr if settings.json else sys.stdout
    note = f" ({made.classes.note.rstrip('.')})" if made.classes.note else ""
    print(f"manifest: {path}\nclass list: {made.classes.name}{note}\nout: {chosen.out}", file=log)
    left = list(unfinished(made, path.parent))
    names = shared_names(made.outcomes)
    for told in [*left, *_listed_by_check(made, chosen.out), *([names] if names else [])]:
        print(f"{path}: {told}", file=sys.stderr)
    usual = Path("published") / options.default_name(made.classes)
    if settings.out is None and chosen.out != usual and contents.is_published(usual) and not chosen.out.exists():
        told = f"to rename that one instead, add --out {shlex.quote(str(usual))}"
        print(f"{usual}: a published set of these classes, stays as it is; {told}", file=sys.stderr)
    if settings.media:
        print(f"--media: {card.with_media(origin_of(made.outcomes))}", file=sys.stderr)
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        try:
            done = publish_folder(made, path.parent, chosen, stop.__bool__)
        except Stopped:
            print(
                f"stopped by {stop}: the folder is unchanged, hashes are kept; run the same command again to resume",
                file=sys.stderr,
            )
            return STOPPED
    for told in _lists_warnings(path.parent / made_from.REPORT, done.facts):
        print(told, file=sys.stderr)
    if done.left_url and settings.url is None:
        told = f"is another name than before, so the page {done.left_url} is not told; if it is yours, add --url {done.left_url}"
        print(f"--creator: {told}", file=sys.stderr)
    _print_result(done, left, as_json=settings.json, pushed=settings.push is not None)
    if settings.push is not None:
        code = push.push(done.folder, settings.push, kind="dataset", yes=settings.yes, public=settings.public)
        if code != DONE:
            return code
    return SOME_FAILED if done.failed else DONE


def _check_push(settings: PublishSettings) -> None:
    """Raise SettingsError for a push that cannot succeed, before hours of work."""
    if settings.push is None and (settings.yes or settings.public):
        raise SettingsError("--yes and --public: require --push; add it, or leave them out")
    if settings.push is not None:
        push.check_place(settings.push, "dataset")
        if not settings.yes and not sys.stdin.isatty():
            raise SettingsError("--push: asks for confirmation, but there is no terminal; add --yes to send")


def _options(settings: PublishSettings, made: manifest.Manifest) -> PublishOptions:
    name = options.checked_name(settings.name or _name_of(settings.out) or options.default_name(made.classes))
    if settings.license is not None and settings.license not in LICENSES:
        raise SettingsError(f"--license {settings.license!r}: is none of {', '.join(LICENSES)}")
    return PublishOptions(
        out=settings.out or Path("published") / name,
        name=name,
        version=None if settings.version is None else versions.parse(settings.version),
        creator=options.checked_creator(settings.creator),
        url=options.checked_url(settings.url),
        license=settings.license,
        date=options.checked_date(settings.date),
        shards=None if settings.shards is None else _shards(settings.shards),
        media=settings.media,
        hashes=not settings.no_hashes,
        workers=settings.workers,
        timeout_seconds=settings.timeout,
    )


def _name_of(out: Path | None) -> str:
    """Name of the dataset that was published in a folder before; empty if none was."""
    return contents.read_fingerprints(out).name if out is not None and contents.is_published(out) else ""


def _shards(place: Address) -> Dataset:
    """Read a shard set's `dataset.json`, with a warning if it has no fingerprints."""
    dataset = reader.read_dataset(place if remote.is_url(place) else Path(place.real))
    if not dataset.selection:
        print(
            f"{place}: has no selection and content; run ks-shard again to add them (it keeps the tars)",
            file=sys.stderr,
        )
    return dataset


def _listed_by_check(made: manifest.Manifest, out: Path) -> list[str]:
    """Lines about videos in more than one split and bytes under more than one label, which `ks-publish check` lists."""
    found = [told for told in (split_leak(made.outcomes), _bytes_of_two_labels(made)) if told]
    return [f"{told}; ks-publish check {shlex.quote(str(out))} lists them" for told in found]


def _bytes_of_two_labels(made: manifest.Manifest) -> str:
    """Ok clips that have the bytes of a clip with another label, as a sentence; empty if none has."""
    clips = defaultdict[str, list[Clip]](list)
    for each in made.outcomes:
        if each.media is not None:
            clips[each.media.sha256].append(each.clip)
    found = [same for same in clips.values() if len({each.label for each in same}) > 1]
    keys = first_of([each.key for same in found for each in same], MOST_SAME_BYTES)
    return f"clips with the same bytes have different labels: {keys}" if found else ""


def _print_result(done: Made, left: Sequence[str], *, as_json: bool, pushed: bool) -> None:
    for key, why in list(done.failed.items())[:MOST_NAMED]:
        print(f"no hashes: {key}: {why}", file=sys.stderr)
    if len(done.failed) > MOST_NAMED:
        print(f"no hashes: and {len(done.failed) - MOST_NAMED} more; --no_hashes leaves all out", file=sys.stderr)
    facts, published = done.facts, done.facts.published
    if as_json:
        document: dict[str, Any] = {
            "folder": str(done.folder),
            "name": published.name,
            "version": published.version,
            "changed": done.changed,
            "selection": published.selection,
            "content": published.content,
            "splits": published.splits,
            "without_hashes": len(done.failed),
            "made_from": facts.made_from.text,
            "different_from_lists": len(facts.made_from.different),
        }
        print(json.dumps(document))
        return
    splits = ", ".join(f"{split} {each['clips']}" for split, each in published.splits.items())
    print(
        f"version: {published.version}\nclips: {splits or 'none'}\nselection: {published.selection}\ncontent: {published.content}"
    )
    if not done.changed:
        print(f"nothing changed in {done.folder}")
        return
    if since := [f"{what}: {told}" for what, told in card.changed(facts).items()]:
        print(plain(f"since {done.old_version}: {'; '.join(since)}"))
    _print_lists(facts)
    print(f"license: {facts.license.spdx} of the lists (--license chooses another)")
    lacking = ["--creator (who publishes it)"] if facts.creator == CREATOR else []
    lacking += ["--url (its page)"] if facts.url.startswith("urn:") else []
    if lacking:
        print(f"not given yet: {' and '.join(lacking)}")
    if done.media_removed:
        print(
            f"media: {plural(done.media_removed, 'clip')} removed from the folder; --media puts the clips there again"
        )
    print(f"published: {done.folder}")
    if not pushed:
        steps = [*left, f"ks-publish check {shlex.quote(str(done.folder))}"]
        print(*(f"next: {step}" for step in steps), NEXT, sep="\n")


def _lists_warnings(report: Path, facts: Facts) -> Iterator[str]:
    """What is missing of the lists that the set was made from, and whether its license is another than theirs."""
    lists, theirs = facts.made_from, license_of(facts.made_from)
    if lists.trouble:
        yield f"{report}: {lists.trouble}, so the lists that the build was made from are not named; run the same ks-build again"
    if not lists.compared:
        yield f"{report}: the clips were not compared with the published ones; run the same ks-build again"
    if theirs and theirs != facts.license:
        yield (
            f"--license: is {facts.license.spdx}, but the lists that the build was made from are under {theirs.spdx}; see its "
            f"terms, or give --license {theirs.spdx}"
        )


def _print_lists(facts: Facts) -> None:
    """Print which lists the set was made from, if it has their name, and which of its clips are not those of the publisher."""
    lists = facts.made_from
    if facts.published.name in [each.get("name") for each in lists.published]:
        print(f"name: {facts.published.name} (--name chooses another)")
    if lists.text:
        print(f"made from: {lists.text}; {contents.CARD} and {contents.LICENSE} say so")
    if lists.different:
        print(f"{made_from.differing(lists)}: {first_of(lists.different, made_from.MOST_DIFFERENT)}")


if __name__ == "__main__":
    sys.exit(main())
