"""DATASHEET.md: answers to the questions of Gebru et al., "Datasheets for Datasets", as far as known."""

from .card import NO_MEDIA, TAKE_DOWN, WITH_MEDIA
from .facts import Facts
from .markdown import escape

NOT_KNOWN = "Not known."


def datasheet(facts: Facts) -> bytes:
    """Contents of DATASHEET.md."""
    lines = [
        "# Datasheet",
        "",
        'After Gebru et al., *Datasheets for Datasets* (2021). Unknown answers are marked "not known".',
    ]
    for section, answers in _answers(facts).items():
        lines += ["", f"## {section}"]
        for question, answer in answers.items():
            lines += ["", f"**{question}** {answer}"]
    return ("\n".join(lines) + "\n").encode()


def _answers(facts: Facts) -> dict[str, dict[str, str]]:
    return {
        "Motivation": _motivation(facts),
        "Composition": _composition(facts),
        "Collection process": _collection(),
        "Preprocessing, cleaning, labeling": _preprocessing(facts),
        "Uses": _uses(),
        "Distribution": _distribution(facts),
        "Maintenance": _maintenance(),
    }


def _motivation(facts: Facts) -> dict[str, str]:
    return {
        "For what purpose was the dataset created?": "To identify the clips of Kinetics used by audio-visual studies, and "
        "which of them still exist, so that others can build the same dataset.",
        "Who created it, and on behalf of whom?": escape(facts.creator) + ".",
        "Who funded it?": NOT_KNOWN,
    }


def _composition(facts: Facts) -> dict[str, str]:
    note = f" {escape(facts.classes.note)}" if facts.classes.note else ""
    splits = ", ".join(f"{split} {each['clips']}" for split, each in facts.published.splits.items())
    several = facts.published.several_labels
    labels = "several labels" if several else "one label of a human action that can be seen and heard"
    target = (
        "all labels are in `labels`, and the first is `label`" if several else "one per clip, though several may fit"
    )
    return {
        "What do the instances represent?": f"Spans of up to ten seconds of public YouTube videos, each with {labels}.",
        "How many instances are there?": f"{facts.annotated} annotated clips, of which {facts.ok} were available ({splits}).",
        "Is it a sample of a larger set?": f"Yes: of Kinetics, the rows of {len(facts.classes.labels)} classes.{note} Clips "
        "are not missing at random: see the column `status`.",
        "What data does each instance consist of?": WITH_MEDIA if facts.media else NO_MEDIA,
        "Is there a label or target?": f"Yes, `label`; {target}.",
        "Is any information missing?": "Clips with another status than ok have no measurements.",
        "Are relationships between instances made explicit?": "Clips of one video share `youtube_id`. `ks-publish check` looks "
        "for the same video, the same bytes and similar clips in different splits.",
        "Are there recommended data splits?": "Yes, those of the files.",
        "Are there errors, sources of noise, or redundancies?": "Labels are those of the annotators. The columns `silent`, "
        "`still` and `decode_errors` contain measurements.",
        "Is it self-contained?": "No: the videos are hosted elsewhere and may vanish at any time.",
        "Does it contain data that might be considered confidential, or offensive?": NOT_KNOWN
        + " The videos are public.",
        "Does it identify subpopulations, or individuals?": "Not by itself; the videos show people, some of them recognisable.",
    }


def _collection() -> dict[str, str]:
    return {
        "How was the data acquired?": "Annotations are those of Kinetics. Clips were taken from copies on a disk, a public "
        "mirror, or YouTube, by ks-build, which measured each.",
        "What was the sampling strategy?": "All annotations of the classes, unless the build had a limit.",
        "Who was involved, and how were they compensated?": "Of Kinetics: crowd workers, see its paper. " + NOT_KNOWN,
        "Over what timeframe was the data collected?": "Of Kinetics: up to 2017. Of this build: " + NOT_KNOWN.lower(),
        "Were ethical review processes conducted?": NOT_KNOWN,
        "Were the individuals notified, and did they consent?": "No.",
        "Can consent be revoked?": "An uploader may remove the video, which ends its use here. " + TAKE_DOWN,
        "Has an analysis of the impact on data subjects been conducted?": NOT_KNOWN,
    }


def _preprocessing(facts: Facts) -> dict[str, str]:
    packed = " Shards of small frames, mel-spectrograms and sound were packed: see README.md." if facts.shards else ""
    return {
        "Was any preprocessing done?": "Each clip was trimmed to its annotated span by decoding and encoding (or linked, if "
        f"a file already was the span), rotated upright, and audited: picture and sound decode, cover the span and start "
        f"together.{packed}",
        "Was the raw data saved?": "Not in this folder.",
        "Is the software available?": "Yes: kinetics-sounds.",
    }


def _uses() -> dict[str, str]:
    return {
        "Has it been used for any tasks already?": "Audio-visual self-supervised learning and action recognition, in the papers "
        "that use Kinetics-Sounds.",
        "Is there a repository of papers that use it?": NOT_KNOWN,
        "What else could it be used for?": "Multimodal and continual learning, sound recognition.",
        "Could its composition affect future uses?": "They reflect who uploads to YouTube, and what was searched for.",
        "Are there tasks for which it should not be used?": "Recognising or tracking the people shown.",
    }


def _distribution(facts: Facts) -> dict[str, str]:
    return {
        "How is it distributed?": escape(facts.url) if facts.url.startswith("http") else NOT_KNOWN,
        "When?": f"Version {facts.published.version}: {facts.date}.",
        "Under which licence?": f"The lists: {facts.license.title}. The videos: their own.",
        "Do third parties restrict it?": "YouTube's terms restrict downloading and sharing of videos.",
        "Do export controls apply?": NOT_KNOWN,
    }


def _maintenance() -> dict[str, str]:
    return {
        "Who maintains it, and how can they be reached?": "The publisher, at the place of publication.",
        "Is there an erratum?": "See CHANGES.md.",
        "Will it be updated?": "Versions follow Croissant's rule: MAJOR if records are removed or moved (or a label "
        "index changes), MINOR if some are added, else PATCH.",
        "Will older versions be kept?": NOT_KNOWN,
        "Can others contribute?": "Builds of the same selection can be compared with `ks-publish diff`.",
    }
