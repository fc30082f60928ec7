"""Check of distributed training, by the trainer's own diagnosis (`train.diagnostics.rank_parity`), run as a process."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from kinetics_sounds.command import INSTALL_TORCH, has_torch

from . import PYTHON, Asked, Finding, Verdict, ending, last_words

AGREE = "kinetics_sounds.train.diagnostics.rank_parity"
DIFFERS = 1
"""Exit code if the ranks' training step differs from that of a single process."""
BYTES = 118 * 10**6
"""Bytes that the diagnosis all-reduces: the gradients of AVCL's two R3D networks."""


def distributed(_asked: Asked) -> Iterator[Finding]:
    """Whether distributed training on this machine equals a single process, and the speed of all-reduce."""
    if not has_torch():
        yield Finding("ranks", Verdict.MISSING, "PyTorch is not installed", INSTALL_TORCH)
        return
    compared = subprocess.run([*PYTHON, "-m", AGREE], check=False, capture_output=True, text=True)
    if compared.returncode not in (0, DIFFERS) or not compared.stdout:
        found = ending(compared.returncode) + last_words(compared.stderr)
        remedy = (
            "read the ranks' output; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME selects the network if there are several"
        )
        yield Finding("ranks", Verdict.MISSING, found, remedy)
        return
    yield from findings(json.loads(compared.stdout), right=compared.returncode == 0)


def findings(report: Mapping[str, Any], *, right: bool) -> Iterator[Finding]:
    """Findings of a `Report` of `kinetics_sounds.train.diagnostics.rank_parity`."""
    ranks = f"{report['ranks']} ranks on {report['device']} by {report['backend']}"
    off = f"off by {report['still']:.1g}, with batch norms over all ranks by {report['synchronised']:.1g}"
    if right:
        yield Finding("ranks", Verdict.OK, f"{ranks}: losses and gradients equal those of one process ({off})")
    else:
        remedy = "train on one device, or install another torch: these ranks do not compute what one process would"
        yield Finding(
            "ranks", Verdict.MISSING, f"{ranks}: losses or gradients differ from those of one process ({off})", remedy
        )
    speed = BYTES / report["seconds"] / 1e9
    yield Finding(
        "exchange", Verdict.OK, f"{speed:.2f} GB/s: the gradients of an AVCL step in {report['seconds']:.2f} s"
    )
