"""The contract of the commands, as scripts rely on it: names, options, exit codes, and errors without a traceback."""

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kinetics_sounds import plugins

ROOT = Path(__file__).parents[2]
MODULES = {
    "ks-build": "pipelines.build",
    "ks-shard": "pipelines.shard",
    "ks-export": "pipelines.export",
    "ks-train": "train",
    "ks-eval": "train.evaluate",
    "ks-demo": "pipelines.demo",
    "ks-doctor": "pipelines.doctor",
    "ks-publish": "pipelines.publish",
    "ks-view": "pipelines.view",
}
OPTIONS = {
    "ks-build": "classes clips clips_format clips_split annotations splits source out limit per_class executor workers "
    "min_coverage timeout retry attempts retry_wait patience check_bytes dry_run status json",
    "ks-shard": "manifest dataset folder modality out codec short_side quality fast_decode mel audio shard_bytes seed executor "
    "workers timeout check_bytes verify verify_decode json",
    "ks-shard stats": "split kind window_seconds n_fft hop_seconds sample_rate frame_seconds bands epsilon workers cache "
    "cache_gb json",
    "ks-export ogm": "manifest shards out executor workers timeout check_bytes json audio sample_rate short_side",
    "ks-export ogm_vggsound": "manifest shards out executor workers timeout check_bytes json test_split sample_rate short_side",
    "ks-export mmaction2": "manifest shards out executor workers timeout check_bytes json rawframes short_side link",
    "ks-export videofolder": "manifest shards out executor workers timeout check_bytes json link",
    "ks-train": "config print_config shards out train_split method backbone audio_backbone encoders view batch epochs steps "
    "seed workers prefetch_batches sample_timeout max_bad_fraction window cache cache_gb device channels_last log_every "
    "track save_every keep resume list json clips_per_video peak_tflops val_split probe_every probe probe_samples init_from "
    "devices sync_bn precision grad_accum_steps max_grad_norm compile activation_checkpointing",
    "ks-eval": "protocol list",
    "ks-eval linear": "run checkpoint untrained shards fit_split on_split clips batch workers cache cache_gb device out json",
    "ks-eval knn": "run checkpoint untrained shards fit_split on_split clips batch workers cache cache_gb device out json",
    "ks-eval crossmodal": "run checkpoint untrained shards fit_split on_split clips batch workers cache cache_gb device out json",
    "ks-eval retrieval": "run checkpoint untrained shards fit_split on_split clips batch workers cache cache_gb device out json",
    "ks-eval cam": "run checkpoint untrained shards on_split samples frames layer cache cache_gb device out json",
    "ks-eval finetune": "run checkpoint untrained shards fit_split val_split on_split epochs clips_per_video batch gate "
    "frames crop video_augment pool clips vote seed devices precision workers cache cache_gb device out json",
    "ks-eval layerwise": "run checkpoint untrained modality layers features shards fit_split val_split on_split epochs batch "
    "clips vote seed devices precision workers cache cache_gb device out json",
    "ks-eval cluster_head": "run checkpoint untrained shards on_split clips batch workers cache cache_gb device out json",
    "ks-eval vote": "run checkpoint shards on_split clips vote batch workers cache cache_gb device out json",
    "ks-eval sounds": "run folder checkpoint untrained windows seconds view_seconds fit_clips audio_augment features layer "
    "classifier seed device out json",
    "ks-demo": "out clips steps recipe seed quick workers",
    "ks-doctor": "out live source live_id distributed timeout json",
    "ks-publish": "manifest out name version creator url license date shards media no_hashes timeout workers push yes "
    "public json",
    "ks-publish run": "run checkpoint out push yes public license dataset json",
    "ks-publish check": "no_croissant json",
    "ks-publish diff": "out json",
    "ks-view": "path run out title embed seed timeout json",
}
"""Every option of every command but those of nested groups; taking one away breaks somebody's script."""


NESTED = {
    "ks-build": "archives.names archives.trimmed local.names local.trimmed ray.address slurm.account slurm.cluster "
    "slurm.memory_gb slurm.minutes slurm.partition slurm.patience slurm.qos "
    "slurm.setup youtube.allow_dubbed youtube.cookies youtube.js_runtime youtube.max_bytes youtube.option youtube.proxy "
    "youtube.requests_per_hour youtube.sections youtube.videos_per_hour",
    "ks-shard": "ray.address slurm.account slurm.cluster slurm.memory_gb slurm.minutes slurm.partition slurm.patience slurm.qos "
    "slurm.setup",
    "ks-export ogm": "ray.address slurm.account slurm.cluster slurm.memory_gb slurm.minutes slurm.partition slurm.patience "
    "slurm.qos slurm.setup",
}
"""The options of sources and executors, which scripts rely on as well."""
OURS = {name.partition(".")[0] for names in NESTED.values() for name in names.split()}
"""The sources and executors that have options: another that you add is no business of these tests."""
PLUGINS = (
    *("sources", "pipelines.executors"),
    *("train.methods", "train.models.backbones", "train.data.views", "train.probes"),
)
"""Packages whose modules have options of their own."""


def run(command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    name, *words = command.split()
    argv = [sys.executable, "-m", f"kinetics_sounds.{MODULES[name]}", *words, *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=cwd, timeout=120)


def call(command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same within this process, which has imported it all: what it writes, and the exit code."""
    name, *words = command.split()
    argv = [*words, *arguments]
    out, err = io.StringIO(), io.StringIO()
    main = importlib.import_module(f"kinetics_sounds.{'train.__main__' if name == 'ks-train' else MODULES[name]}").main
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd or Path.cwd()):
        try:
            code = main(argv)
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def test_every_script_of_the_package_is_in_the_contract() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert set(scripts) == set(MODULES)


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_exactly_the_options_of_the_contract(command: str) -> None:
    shown = call(command, "--help")

    found = set(re.findall(r"^  (?:-h, )?--([a-z_]+)\b(?!\.)", shown.stdout, flags=re.MULTILINE)) - {"help"}
    groups = {name for package in PLUGINS for name in plugins.names(f"kinetics_sounds.{package}")}
    assert shown.returncode == 0
    assert found - groups == {*OPTIONS[command].split(), "version"}


@pytest.mark.parametrize("command", NESTED)
def test_help_names_exactly_the_options_of_sources_and_executors(command: str) -> None:
    shown = call(command, "--help")

    found = re.findall(r"^  --([a-z_]+\.[a-z_]+)\b", shown.stdout, flags=re.MULTILINE)
    assert sorted(name for name in found if name.partition(".")[0] in OURS) == NESTED[command].split()


@pytest.mark.parametrize(
    "command",
    [
        "ks-build",
        "ks-shard",
        "ks-shard stats",
        "ks-export ogm",
        "ks-train",
        "ks-demo",
        "ks-doctor",
        "ks-view",
        "ks-eval linear",
    ],
)
def test_help_shows_examples_and_exit_codes_or_defaults(command: str) -> None:
    shown = call(command, "--help").stdout

    assert "Examples:" in shown
    assert f"\n  {command.split()[0]}" in shown
    assert "default:" in shown


HEAD = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with good lists, from which each case spoils one thing."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "good.txt").write_text("archery\n")
    (folder / "good.csv").write_text(HEAD + "archery,abc,0,10,val\n")
    (folder / "unknown.txt").write_text("archry\n")
    (folder / "empty.txt").write_text("# nothing\n\n")
    (folder / "no_label.csv").write_text("youtube_id,time_start,time_end,split\nabc,0,10,test\n")
    (folder / "no_end.csv").write_text("label,youtube_id,time_start,split\narchery,abc,0,val\n")
    (folder / "no_times.csv").write_text(HEAD + "archery,abc,,,val\n")
    (folder / "short.csv").write_text(HEAD + "archery,abc,0\n")
    (folder / "semicolons.csv").write_text(HEAD.replace(",", ";") + "archery;abc;0;10;val\n")
    (folder / "latin.csv").write_bytes((HEAD + "archéry,abc,0,10,val\n").encode("latin-1"))
    (folder / "utf16.csv").write_bytes((HEAD + "archery,abc,0,10,val\n").encode("utf-16"))
    (folder / "utf16.txt").write_bytes("archery\n".encode("utf-16-le"))
    os.mkfifo(folder / "pipe.csv")
    (folder / "here").mkdir()
    (folder / "text.parquet").write_text("no parquet")
    (folder / "bogus.yaml").write_text("method: avcl\navcl:\n  bogus: 1\n")
    return folder


BUILD = "--classes good.txt --annotations good.csv --splits val --source local:here --out out"
CASES = [
    ("ks-build", BUILD.replace("good.txt", "unknown.txt"), "'archry' (did you mean 'archery'?)"),
    ("ks-build", BUILD.replace("good.txt", "empty.txt"), "empty.txt: the class list is empty"),
    ("ks-build", BUILD.replace("good.txt", "k33"), "one of the shipped names: k100, k31, k32, k400"),
    ("ks-build", BUILD.replace("good.csv", "no_label.csv"), "original test list"),
    ("ks-build", BUILD.replace("good.csv", "no_end.csv"), "no_end.csv: has no column 'time_end'"),
    ("ks-build", BUILD.replace("good.csv", "no_times.csv"), "no_times.csv:2: time_start ''"),
    ("ks-build", BUILD.replace("good.csv", "missing.csv"), "missing.csv: there is no such file"),
    ("ks-build", BUILD.replace("local:here", "local:nowhere"), "nowhere: the folder cannot be read"),
    ("ks-build", BUILD.replace("local:here", "locl:here"), "did you mean 'local'?"),
    ("ks-build", BUILD.replace("--splits val", "--splits vali"), "--splits: 'vali' is none of train, val, test"),
    ("ks-build", BUILD + " --workers 0", "--workers 0: must be more than 0"),
    ("ks-build", BUILD + " --retry never", "--retry: 'never' is none of"),
    ("ks-build", BUILD + " --workrs 2", "--workrs"),
    ("ks-build", BUILD + " --attempts 0", "--attempts 0: must be more than 0"),
    ("ks-build", BUILD + " --patience -1", "--patience -1.0: must be 0 or more seconds"),
    ("ks-build", BUILD + " --executor slrm", "'slrm' is none of local, ray, slurm (did you mean 'slurm'?)"),
    (
        "ks-build",
        BUILD + " --slurm.partition cpu",
        "--slurm.*: options of an executor that is not used; add --executor slurm",
    ),
    ("ks-build", BUILD + " --youtube.sections true", "add --source youtube"),
    (
        "ks-build",
        BUILD.replace("--source local:here", "") + " --local.trimmed no",
        "add --source local, or leave them out",
    ),
    ("ks-build", BUILD + " --executor ray --ray.address 127.0.0.1:1", "Ray is unavailable"),
    ("ks-build", BUILD + " --youtube.cookies nowhere.txt --source youtube", "nowhere.txt"),
    ("ks-build", BUILD + " --source cvdf:nowhere", "nowhere: the folder cannot be read"),
    ("ks-build", "", "--classes (such as k32), or a published list with --clips"),
    (
        "ks-build",
        BUILD + " --clips_split val",
        "--clips_split and --clips_format only apply to lists; give one with --clips",
    ),
    ("ks-build", "--clips good.csv --clips_split dev", "--clips_split: 'dev' is none of train, val, test, annotations"),
    ("ks-build", "--clips good.csv --clips_format ogmge", "'ogmge' is none of auto, audioset, crisscross"),
    (
        "ks-build",
        "--clips pipe.csv",
        "pipe.csv: it is a named pipe; write its output to a file, and give that",
    ),
    ("ks-build", "--clips text.parquet", "text.parquet: has an unknown format: it begins with 'no parquet'"),
    ("ks-build", "--clips utf16.csv", "utf16.csv: is UTF-16"),
    ("ks-build", "--clips semicolons.csv", "are its columns separated by ';'? save it with commas"),
    ("ks-build", "--clips here", "here: is a folder without splits/*.csv"),
    ("ks-shard", "", "nothing matches data/*/manifest.parquet here; make it with ks-build"),
    (
        "ks-build",
        BUILD.replace("good.csv", "utf16.csv"),
        "utf16.csv: cannot be read as a UTF-8 CSV: it is UTF-16; save it as",
    ),
    ("ks-build", BUILD.replace("good.csv", "latin.csv"), "byte 0xe9 in line 2 is not UTF-8, but perhaps Latin-1"),
    ("ks-build", BUILD.replace("good.csv", "semicolons.csv"), "its columns are separated by ';'; save it with commas"),
    ("ks-build", BUILD.replace("good.csv", "short.csv"), "short.csv:2: the row lacks its time_end, split"),
    ("ks-build", BUILD.replace("good.txt", "utf16.txt"), "utf16.txt: cannot be read as UTF-8 text: it is UTF-16"),
    ("ks-build", BUILD.replace("good.csv", "pipe.csv"), "pipe.csv: cannot be read as a UTF-8 CSV: it is a named pipe"),
    ("ks-build", BUILD.replace("good.txt", "pipe.csv"), "pipe.csv: there is no such class list; give a text file"),
    ("ks-build", BUILD + " --local.trimmed perhaps", "local.trimmed"),
    ("ks-shard", "--manifest text.parquet", "text.parquet: cannot be read as Parquet"),
    (
        "ks-shard",
        "--manifest good.csv",
        "good.csv: is neither a manifest nor a copy of one: it lacks the columns key, label_index",
    ),
    ("ks-shard", "--manifest semicolons.csv", "its columns are separated by ';'"),
    ("ks-shard", "--manifest pipe.csv", "pipe.csv: there is no manifest"),
    ("ks-export", "ogm --out out", "nothing matches data/*/manifest.parquet here; make it with ks-build"),
    ("ks-export", "ogn --out out", "no layout is called 'ogn'; there are: mmaction2, ogm, ogm_vggsound, videofolder"),
    ("ks-export", "ogm --manifest text.parquet", "--out: is required"),
    ("ks-export", "ogm --manifest text.parquet --out out", "text.parquet: cannot be read as Parquet"),
    (
        "ks-export",
        "ogm --manifest text.parquet --shards here --out out",
        "--manifest and --shards: give only one of them",
    ),
    ("ks-export", "ogm --shards here --out out", "here: has no shard set (dataset.json is missing)"),
    ("ks-export", "ogm --shards s3://bucket/k32 --out out", "is a URL, but must be a path"),
    ("ks-export", "videofolder --shards here --out out", "videofolder needs whole clips, which shards do not contain"),
    ("ks-export", "ogm --workers 0 --out out", "--workers 0: must be more than 0"),
    ("ks-export", "ogm --slurm.partition cpu --out out", "add --executor slurm"),
    ("ks-train", "", "nothing matches data/*/shards/dataset.json here; make it with ks-shard"),
    ("ks-train", "--shards here", "here: has no shard set (dataset.json is missing)"),
    ("ks-train", "--config bogus.yaml --shards here", "bogus.yaml: Key 'avcl.bogus' is not accepted"),
    ("ks-train", "--config avcl_k23 --shards here", "did you mean 'avcl_k32'"),
    ("ks-eval", "linear --run here", "here: is not a training run"),
    ("ks-eval", "linaer --run here", "did you mean 'linear'"),
    ("ks-eval", "--protocol crosmodal_iicl --run here", "did you mean 'crossmodal_iicl'"),
    ("ks-eval", "--protocol ucf --run here", "there is no such protocol (did you mean 'ucf101_"),
    ("ks-eval", "--protocol crossmodal_iicl --run here", "here: is not a training run"),
    ("ks-demo", "--clips 3", "--clips 3: must be at least 48"),
    ("ks-view", "", "nothing matches data/*/manifest.parquet here; make it with ks-build"),
    ("ks-view", "here", "here: is not a manifest, build, shard set, published folder or run"),
    ("ks-view", "text.parquet", "text.parquet: cannot be read as Parquet"),
    ("ks-view", "--run here", "here: is not a training run"),
    ("ks-view", "here --embed -1", "--embed -1: must be from 0 to 500"),
    ("ks-doctor", "--timeout 0", "--timeout 0: must be more than 0"),
    ("ks-doctor", "--timeout 1e9", "at most 86400"),
    ("ks-doctor", "--source youtube", "sources are only tested with --live; add it"),
    ("ks-doctor", "--live --source yuotube", "did you mean 'youtube'?"),
    ("ks-doctor", "--live --source local:nowhere", "nowhere: the folder cannot be read"),
    ("ks-doctor", "--live --live_id ../x", "'../x': is not a video ID"),
]


@pytest.mark.parametrize(("command", "arguments", "said"), CASES)
def test_bad_input_names_the_thing_the_place_and_the_remedy(
    place: Path, command: str, arguments: str, said: str
) -> None:
    result = call(command, *arguments.split(), cwd=place)

    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].strip()
    assert f"{command}: error: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", MODULES)
def test_as_a_process_of_its_own_a_command_says_and_returns_the_same(place: Path, command: str) -> None:
    first = {"ks-eval": "linear ", "ks-export": "ogm "}.get(command, "")
    alone, within = (how(command, *first.split(), "--nonsense=1", cwd=place) for how in (run, call))

    assert (alone.returncode, alone.stdout) == (within.returncode, within.stdout) == (2, "")
    assert alone.stderr.splitlines()[-1] == within.stderr.splitlines()[-1]
    assert "Traceback" not in alone.stderr


@pytest.mark.slow
def test_the_card_s_own_words_work_as_they_stand(place: Path, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(
        HEAD
        + "".join(
            f"{label},abc{n},0,10,val\n"
            for n, label in enumerate((ROOT / "manifests/classes/k100.txt").read_text().splitlines())
        )
    )
    (tmp_path / "empty").mkdir()

    built = run(
        "ks-build", *["--classes", "k100.txt", "--annotations", "good.csv", "--source", "local:empty"], cwd=tmp_path
    )

    assert built.returncode == 1, built.stderr
    assert "reconstruction" in built.stdout
    assert (tmp_path / "data/k100/manifest.parquet").is_file()
    packed = run("ks-shard", cwd=tmp_path)
    assert packed.returncode == 2
    assert "has no ok clip" in packed.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ks-build --cli", {"--clips", "--clips_format", "--clips_split"}),
        ("ks-shard --verify_d", {"--verify_decode"}),
        ("ks-train --optim.bet", {"--optim.beta2"}),
    ],
)
def test_a_shell_completes_options_as_the_readme_says(line: str, words: set[str], tmp_path: Path) -> None:
    """As argcomplete asks: the line in the environment, the answer in a file."""
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    own = {"_ARGCOMPLETE_IFS": " ", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    argv = [sys.executable, "-m", f"kinetics_sounds.{MODULES[line.split()[0]]}"]

    subprocess.run(argv, check=False, capture_output=True, timeout=120, env={**os.environ, **asked, **own})

    assert set(answer.read_text().split()) == words
