"""A run's settings: where they come from, what they make, and that a run's own record says them again."""

import errno
import importlib
import json
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from kinetics_sounds import cores, files
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.train.config import recipes, run_folder
from kinetics_sounds.train.config.settings import PLUGINS, TrainSettings, groups, read_settings
from kinetics_sounds.train.data import dataset
from kinetics_sounds.train.distributed import devices
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.interface import Data


class TestRead:
    def test_without_argv_everything_has_its_default(self) -> None:
        parsed = read_settings([])

        assert parsed.settings == TrainSettings()
        assert parsed.groups == {name: kind() for name, kind in groups().items()}
        assert {"avcl", "r3d", "clip_and_mel"} <= parsed.groups.keys()
        assert parsed.configs == ()

    def test_every_method_backbone_and_view_has_its_settings_under_its_name(self) -> None:
        folders = (importlib.import_module(package).__path__[0] for package in PLUGINS.values())
        modules = [path.stem for folder in folders for path in Path(folder).glob("[!_]*.py")]

        assert sorted(groups()) == sorted(modules), "two of one name would share the options that begin with it"

    def test_the_command_line_beats_the_recipe_which_beats_the_defaults(self, tmp_path: Path) -> None:
        recipe = tmp_path / "mine.yaml"
        recipe.write_text("batch: 5\nseed: 3\noptim:\n  lr: 0.25\n")

        parsed = read_settings([f"--config={recipe}", "--seed", "4"])

        assert (parsed.settings.batch, parsed.settings.seed, parsed.settings.optim.lr) == (5, 4, 0.25)
        assert parsed.settings.optim.momentum == 0.9
        assert parsed.configs == (recipe,)

    @pytest.mark.parametrize(
        ("argv", "suggested"),
        [
            (("--config=avcl_tiny", "--temperature=0.1"), "avcl.temperature"),
            (("--config=simclr_k32", "--temperature=0.1"), "simclr.temperature"),
            (("--config=avcl_tiny", "--method=moco", "--momentum", "0.1"), "moco.momentum"),
            (("--temperature=0.1",), "avcl.temperature"),
        ],
    )
    def test_of_options_that_were_meant_that_of_the_chosen_method_is_first(
        self, argv: tuple[str, ...], suggested: str
    ) -> None:
        with pytest.raises(SettingsError, match=rf"there is no such option \(did you mean --{suggested}[ ?]"):
            read_settings(argv)

    def test_an_unknown_recipe_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(SettingsError) as caught:
            read_settings(["--config", "avcl_k23"])

        assert "--config avcl_k23: is neither a file nor a recipe (did you mean 'avcl_k32'" in str(caught.value)
        assert str(caught.value).endswith("; list them with: ks-train --list")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("bach: 5\n", "bach"),
            ("avcl:\n  bogus: 1\n", "bogus"),
            ("optim:\n  lr: fast\n", "lr"),
            ("optim:\n  lr: -1.0\n", "optim: lr -1.0 must be at least 0"),
            ("optim:\n  name: lamb\n", "lamb"),
            ("clip_and_mel:\n  crop: 300\n", "crop 300 is larger than 128 x 171 pixels"),
            ("- 1\n", "mine.yaml"),
            ("batch: [\n", "mine.yaml"),
        ],
    )
    def test_a_fault_of_a_recipe_is_told_with_the_file_and_the_key(
        self, text: str, complaint: str, tmp_path: Path
    ) -> None:
        recipe = tmp_path / "mine.yaml"
        recipe.write_text(text)

        with pytest.raises(SettingsError) as caught:
            read_settings([f"--config={recipe}"])

        assert str(recipe) in str(caught.value)
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "least"),
        [
            *(
                ("batch", 2),
                ("epochs", 1),
                ("clips_per_video", 1),
                ("steps", 1),
                ("log_every", 1),
                ("save_every", 1),
                ("keep", 1),
            ),
            *(("workers", 0), ("seed", 0), ("prefetch_batches", 1), ("window", 1)),
        ],
    )
    def test_a_number_has_a_least(self, name: str, least: int) -> None:
        assert getattr(read_settings([f"--{name}={least}"]).settings, name) == least
        with pytest.raises(SettingsError, match=f"^--{name} {least - 1}: must be at least {least}$"):
            read_settings([f"--{name}={least - 1}"])

    def test_batches_are_loaded_by_all_cores_but_one_and_at_most_eight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for there, workers in ((1, 1), (2, 1), (6, 5), (64, 8)):
            monkeypatch.setattr(cores, "usable", lambda there=there: there)
            assert TrainSettings().workers == workers


class TestRecord:
    def test_config_yaml_reads_back_as_what_the_run_was_made_with(
        self, finished: Path, small: Callable[..., list[str]]
    ) -> None:
        asked, kept = read_settings(small(finished)), run_folder.reopen(finished)

        assert kept.settings == asked.settings
        assert kept.groups == asked.groups

    def test_it_has_the_options_of_the_modules_that_the_run_uses(self, finished: Path) -> None:
        told = yaml.safe_load((finished / "config.yaml").read_text())

        assert {name for name, value in told.items() if isinstance(value, dict)} == {
            *("optim", "avcl", "r3d", "clip_and_mel")
        }

    def test_options_of_modules_that_are_gone_are_passed_over_in_a_run_alone(
        self, finished: Path, tmp_path: Path
    ) -> None:
        """A run of 0.2.0 names those of all modules: of a method of one's own, removed since, and of methods that changed."""
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        recipe = tmp_path / "mine.yaml"
        for config in (run / "config.yaml", recipe):
            config.write_text((finished / "config.yaml").read_text() + "mse:\n  variance: 1.0\nbyol:\n  gone: 3\n")

        kept, made = read_settings([f"--config={run / 'config.yaml'}"]), run_folder.reopen(finished)

        assert (kept.settings, kept.groups) == (made.settings, made.groups)
        assert run_folder.reopen(run).groups == made.groups
        with pytest.raises(SettingsError, match="Key 'mse' is not accepted"):
            read_settings([f"--config={recipe}"])

    def test_groups_of_no_module_are_named_with_those_that_may_be_meant(
        self, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A method of a machine of somebody else's, or a typo; what every machine has is not named."""
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        config = run / "config.yaml"
        config.write_text(config.read_text() + "byol:\n  mode: intra\nopitm:\n  lr: 0.5\n")

        assert read_settings([f"--config={config}"]).settings.optim.lr == 0.002
        assert caplog.messages == [
            f"{config}: ignores the options of 'opitm' (did you mean 'optim'?): no method, backbone or view here has that name"
        ]

    @pytest.mark.parametrize("words", [("--method=moco",), ("--method", "moco")])
    def test_options_of_a_method_that_the_command_line_chooses_are_read(
        self, words: tuple[str, ...], finished: Path, tmp_path: Path
    ) -> None:
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        config = run / "config.yaml"
        config.write_text(config.read_text() + "moco:\n  temperature: 0.25\n")

        assert read_settings([f"--config={config}", *words]).groups["moco"].temperature == 0.25
        assert read_settings([f"--config={config}"]).groups["moco"].temperature != 0.25

    @pytest.mark.parametrize("more", ["", "byol:\n  mode: intra\n"])
    @pytest.mark.parametrize("name", ["1e3", "-1.5E3", "2.5e-3"])
    def test_a_text_that_looks_like_a_number_stays_a_text(
        self, name: str, more: str, finished: Path, small: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        """With a group that is passed over too."""
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        asked = read_settings(small(run, f"--train_split={name}"))
        assert asked.settings.train_split == name
        (run / "config.yaml").write_text(run_folder.config_text(asked) + more)

        kept = run_folder.reopen(run).settings
        assert (kept.train_split, kept.optim) == (name, asked.settings.optim)

    def test_a_typo_in_the_options_that_a_run_uses_is_still_one(self, finished: Path, tmp_path: Path) -> None:
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        (run / "config.yaml").write_text((finished / "config.yaml").read_text().replace("temperature", "temprature"))

        with pytest.raises(SettingsError, match=r"config\.yaml: Key 'avcl\.temprature' is not accepted"):
            run_folder.reopen(run)

    def test_it_is_read_once_for_each_content(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A command asks for it several times."""
        run = Path(shutil.copytree(finished, tmp_path / "run"))
        first = run_folder.reopen(run)
        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "read_run", None)  # a second read would fail
            assert run_folder.reopen(run) is first

        config = run / "config.yaml"
        config.write_text(config.read_text().replace("\nseed: 0\n", "\nseed: 1\n"))
        assert (first.settings.seed, run_folder.reopen(run).settings.seed) == (0, 1)

    def test_config_yaml_names_the_shards_and_the_folder(self, finished: Path, shards: Path) -> None:
        kept = run_folder.reopen(finished).settings

        assert (kept.shards, kept.out) == (Address(str(shards)), finished)

    def test_a_recipe_is_called_like_its_file_and_a_run_like_its_recipe(self, finished: Path, tmp_path: Path) -> None:
        assert run_folder.recipe_name(recipes.find_recipe("avcl_k32")) == "avcl_k32"
        assert run_folder.recipe_name(finished / "config.yaml") == "avcl_tiny"
        assert run_folder.recipe_name(tmp_path / "config.yaml") == "config"

    def test_run_json_says_what_the_data_were(self, finished: Path, shards: Path) -> None:
        facts = run_folder.read_facts(finished)

        assert facts["recipe"] == "avcl_tiny"
        assert (facts["shards"], facts["train_split"], facts["classes"]) == (str(shards), "train", "tiny")
        assert facts["note"] == "made by tests"
        assert set(facts["versions"]) == {"kinetics-sounds", "torch", "python"}

    @pytest.mark.skipif(shutil.which("git") is None, reason="it asks git")
    def test_run_json_says_if_the_code_was_changed_or_has_new_files(self, tmp_path: Path) -> None:
        def git(*words: str) -> None:
            own = ("-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false")
            subprocess.run(["git", "-C", str(tmp_path), *own, *words], check=True, capture_output=True)

        def changed() -> bool:
            told = run_folder.git_state(tmp_path)
            assert told is not None
            return bool(told["changed"])

        mine = tmp_path / "train/methods/mse.py"
        mine.parent.mkdir(parents=True)
        (tmp_path / ".gitignore").write_text("*.log\n")
        git("init", "--quiet")
        git("add", ".gitignore")
        git("commit", "--quiet", "--message=first")
        (tmp_path / "notes.txt").touch()
        (mine.parent / "ignored.log").touch()
        assert not changed()

        mine.touch()
        assert changed()
        git("add", str(mine))
        git("commit", "--quiet", "--message=mse")
        assert not changed()
        mine.write_text("loss = 0\n")
        assert changed()

    def test_a_run_that_the_disk_does_not_give_is_still_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(files, "read_json", fails)
        with pytest.raises(
            RunError, match=rf"{tmp_path}/run.json: cannot be read: Input/output error; check that the disk"
        ):
            run_folder.read_facts(tmp_path)

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "[" * 100_000, " " * (2 << 20)])
    def test_another_folder_is_no_run(self, text: str | None, tmp_path: Path) -> None:
        if text is not None:
            (tmp_path / "run.json").write_text(text)

        with pytest.raises(RunError, match=rf"{tmp_path}: is not a training run \(.*\); give the --out of a ks-train"):
            run_folder.reopen(tmp_path)

    def test_a_run_json_of_more_than_a_mebibyte_is_refused_though_it_is_well_formed(
        self, finished: Path, tmp_path: Path
    ) -> None:
        told = {**json.loads((finished / "run.json").read_text()), "more": "x" * (1 << 20)}
        (tmp_path / "run.json").write_text(json.dumps(told))

        with pytest.raises(RunError, match="it is larger than 1048576 bytes"):
            run_folder.read_facts(tmp_path)


class TestRecipeFor:
    def test_a_class_list_with_a_recipe_of_its_own_gets_it(self) -> None:
        assert recipes.recipe_for("k32") == "avcl_k32_recommended"
        assert recipes.recipe_for("k100") == "avcl_k100_recommended"

    @pytest.mark.parametrize("classes", ["k31", "mine", ""])
    def test_any_other_gets_the_one_that_there_always_is(self, classes: str) -> None:
        assert recipes.recipe_for(classes) == recipes.FALLBACK
        assert recipes.FALLBACK in recipes.recipes()


def weights(*argv: str) -> dict[str, torch.Tensor]:
    parsed = read_settings(["--config=avcl_tiny", "--r3d.width=2", *argv])
    found: dict[str, torch.Tensor] = build.build_model(parsed, Data(2, 12)).method.state_dict()
    return found


class TestBuild:
    def test_weights_are_a_function_of_the_seed_and_of_nothing_before(self) -> None:
        first = weights("--seed=3")
        torch.rand(5)
        again, other = weights("--seed=3"), weights("--seed=4")

        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["video.conv1.0.weight"], other["video.conv1.0.weight"])

    def test_both_encoders_begin_differently(self) -> None:
        found = weights("--clip_and_mel.audio_channels=3")

        assert not torch.equal(found["video.conv1.0.weight"], found["audio.conv1.0.weight"])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_audio_encoder_takes_as_many_channels_as_the_view_gives(self, channels: int) -> None:
        found = weights(f"--clip_and_mel.audio_channels={channels}")

        assert found["audio.conv1.0.weight"].shape == (2, channels, 3, 7, 7)
        assert found["video.conv1.0.weight"].shape == (2, 3, 3, 7, 7)

    def test_what_a_method_cannot_be_built_with_is_told_with_its_name(self) -> None:
        with pytest.raises(SettingsError, match=r"^--avcl: lambda_cor and lambda_self are both 0"):
            weights("--avcl.lambda_cor=0", "--avcl.lambda_self=0")

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ("--method=avlc", r"--method: 'avlc' is none of .*avcl.* \(did you mean 'avcl' or 'avid'\?\)"),
            ("--backbone=r4d", r"--backbone: 'r4d' is none of .*r3d.* \(did you mean 'r3d'\?\)"),
            ("--view=clip", r"--view: 'clip' is none of .*clip_and_mel"),
        ],
    )
    def test_an_unknown_module_lists_those_there_are_and_the_nearest(self, option: str, complaint: str) -> None:
        with pytest.raises(SettingsError, match=complaint):
            weights(option)


class TestPickDevice:
    def test_auto_is_cuda_where_there_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for there, kind in ((False, "cpu"), (True, "cuda")):
            monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
            assert devices.pick_device("auto").type == kind

    def test_a_name_is_taken_at_its_word(self) -> None:
        assert devices.pick_device("cpu") == torch.device("cpu")

    @pytest.mark.parametrize("name", ["banana", "", "cpu:x", "meta", "cuda:99"])
    def test_a_device_that_cannot_compute_here_is_refused_in_one_line(self, name: str) -> None:
        with pytest.raises(SettingsError, match=rf"^--device {name}: is not available \(.*\); try cpu$"):
            devices.pick_device(name)


@pytest.mark.parametrize(
    ("gpus", "options", "enough"),
    [
        (2, ["--devices=3"], False),
        (2, ["--devices=2"], True),
        (2, ["--devices=3", "--device=cpu"], True),
        (0, ["--devices=3"], True),
    ],
)
def test_more_devices_than_gpus_are_refused_before_any_is_started(
    gpus: int, options: list[str], enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    settings = read_settings(options).settings
    if enough:
        devices.check_devices(settings.devices, settings.device)
        return
    with pytest.raises(SettingsError, match=r"^--devices 3: this machine has 2; give --devices 2, or --device cpu$"):
        devices.check_devices(settings.devices, settings.device)


def test_whoever_has_no_home_names_a_cache_for_a_remote_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    with pytest.raises(SettingsError, match=r"^--cache: there is no home folder"):
        dataset.open_split(TrainSettings(), "https://example.org/shards", "train")
