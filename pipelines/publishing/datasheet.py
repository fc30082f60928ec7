"""DATASHEET.md: answers to the questions of Gebru et al., "Datasheets for Datasets", as far as known."""

from kinetics_sounds.quantities import plural

from .card import media_text
from .facts import Facts
from .markdown import escape
from .origin import Origin

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
        "Collection process": _collection(facts),
        "Preprocessing, cleaning, labeling": _preprocessing(facts),
        "Uses": _uses(facts.origin),
        "Distribution": _distribution(facts),
        "Maintenance": _maintenance(),
    }


def _motivation(facts: Facts) -> dict[str, str]:
    return {
        "For what purpose was the dataset created?": facts.origin.purpose,
        "Who created it, and on behalf of whom?": escape(facts.creator) + ".",
        "Who funded it?": NOT_KNOWN,
    }


def _composition(facts: Facts) -> dict[str, str]:
    note = f" {escape(facts.classes.note)}" if facts.classes.note else ""
    splits = ", ".join(f"{split} {each['clips']}" for split, each in facts.published.splits.items())
    several = facts.published.several_labels
    labels = "several labels" if several else "one label"
    target = (
        "all labels are in `labels`, and the first is `label`" if several else "one per clip, though several may fit"
    )
    leak = f" {escape(facts.split_leak)}." if facts.split_leak else ""
    return {
        "What do the instances represent?": f"Annotated clips{facts.origin.of}, each with {labels}.",
        "How many instances are there?": f"{facts.annotated} annotated clips, of which {facts.ok} were available ({splits}).",
        "Is it a sample of a larger set?": f"{facts.origin.whole.rstrip('.')}. The list has "
        f"{plural(len(facts.classes.labels), 'class', 'classes')}.{note} Missing clips are not missing "
        "at random: see the column `status`.",
        "What data does each instance consist of?": media_text(facts),
        "Is there a label or target?": f"Yes, `label`; {target}.",
        "Is any information missing?": "Clips with another status than ok have no measurements.",
        "Are relationships between instances made explicit?": "Clips of one video share `youtube_id`. `ks-publish check` looks "
        "for the same video, the same bytes and similar clips in different splits.",
        "Are there recommended data splits?": f"Yes, those of the files.{leak}",
        "Are there errors, sources of noise, or redundancies?": "Labels are those of the annotators. The columns `silent`, "
        "`still` and `decode_errors` contain measurements.",
        "Is it self-contained?": "It has the clips." if facts.media else facts.origin.self_contained,
        "Does it contain data that might be considered confidential, or offensive?": NOT_KNOWN,
        "Does it identify subpopulations, or individuals?": "Not by itself; the videos may show people who can "
        "be recognised.",
    }


def _collection(facts: Facts) -> dict[str, str]:
    origin, lists = facts.origin, escape(facts.made_from.text)
    rows = f"The rows of {lists}, that are of the classes" if lists else "All annotations of the classes"
    return {
        "How was the data acquired?": f"{origin.acquired}, by ks-build, which measured each.",
        "What was the sampling strategy?": f"{rows}, unless the build had a limit.",
        "Who was involved, and how were they compensated?": origin.annotators,
        "Over what timeframe was the data collected?": origin.timeframe,
        "Were ethical review processes conducted?": NOT_KNOWN,
        "Were the individuals notified, and did they consent?": origin.people,
        "Can consent be revoked?": origin.revoking,
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


def _uses(origin: Origin) -> dict[str, str]:
    return {
        "Has it been used for any tasks already?": origin.uses,
        "Is there a repository of papers that use it?": NOT_KNOWN,
        "What else could it be used for?": NOT_KNOWN,
        "Could its composition affect future uses?": origin.biases,
        "Are there tasks for which it should not be used?": "Recognising or tracking the people shown.",
    }


def _distribution(facts: Facts) -> dict[str, str]:
    theirs = f", but for what is from {escape(facts.made_from.text)}" if facts.made_from.text else ""
    return {
        "How is it distributed?": escape(facts.url) if facts.url.startswith("http") else NOT_KNOWN,
        "When?": f"Version {facts.published.version}: {facts.date}.",
        "Under which licence?": f"The lists{theirs}: {facts.license.title}. The videos: their own.",
        "Do third parties restrict it?": facts.origin.rights,
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
