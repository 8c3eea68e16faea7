"""Every setting of every bundle: described, checked before any work, recorded, and never ignored."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from mrsynth.errors import UserError, user_error_in
from mrsynth.settings import Setting, check_options, described, settings_table
from tests.conftest import ROOT, scripts_of

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/settings.json"))
OVERLAYS = {
    "brain2d": ["wgan", "gradient_penalty"],
    "breast2d": ["wgan", "gradient_penalty"],
    "flair2d": ["resize_convolution"],
    "tumor3d": ["local_discriminator", "feature_matching"],
}
PARTS = {"classes", "classes_made", "terms", "ema", "record", "postprocessing"}
"""Plain values that are parts of a game or a run, and no settings."""


def folder(bundle: str) -> Path:
    return ROOT / "bundles" / bundle


def configs(bundle: str) -> list[Path]:
    files = folder(bundle).glob("configs/*.json")
    return sorted(file for file in files if file.name not in ("metadata.json", "settings.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def is_plain(value: Any) -> bool:
    """No component, and no expression, reference or macro."""
    if isinstance(value, dict):
        return "_target_" not in value and all(map(is_plain, value.values()))
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, str) or value[:1] not in ("$", "@", "%")


@contextmanager
def unwrapped() -> Iterator[None]:
    """MONAI wraps what an expression raises."""
    try:
        yield
    except RuntimeError as error:
        raise user_error_in(error) or error from error


def trainings(bundle: str) -> list[list[str]]:
    """The training's config alone, and with each overlay."""
    return [["train.json"], *(["train.json", f"{name}.json"] for name in ["paper", *OVERLAYS.get(bundle, [])])]


def used_by(bundle: str, names: list[str]) -> dict[str, Setting]:
    config = ConfigParser.load_config_files([str(folder(bundle) / "configs" / name) for name in names])
    known = described(folder(bundle))
    return {name: known[name] for name, value in config.items() if name in known and not is_component(value)}


def is_component(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def wrong_values(setting: Setting) -> list[Any]:
    candidates = ["no such value", -7, 1e30, True, {"no such key": 1}, [], [1, "two", 3.5], [[]], None, 0.5]
    return [value for value in candidates if not setting.fits(value)]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_key_of_every_config_with_a_plain_value_is_described(bundle):
    known = described(folder(bundle))
    for file in configs(bundle):
        keys = {key for key, value in load(file).items() if is_plain(value) and not re.search("#|::|[+]", key)}
        assert keys - PARTS - set(known) - {"run"} == set(), f"{file} has undescribed settings"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_value_in_every_config_fits_its_description(bundle):
    for file in configs(bundle):
        for name, value in load(file).items():
            setting = described(folder(bundle)).get(name)
            assert setting is None or not is_plain(value) or setting.fits(value), f"{file}: {name} {value}"


def test_every_description_has_a_sentence_a_known_scope_and_a_use():
    used = {bundle: {key for file in configs(bundle) for key in load(file)} for bundle in BUNDLES}
    shared = load(ROOT / "tools" / "mrsynth" / "settings" / "shared.json")["properties"]
    for bundle in BUNDLES:
        own = load(folder(bundle) / "configs" / "settings.json")["properties"]
        assert set(own) <= used[bundle], f"{bundle} describes settings that it does not have"
        for setting in described(folder(bundle)).values():
            assert setting.help.endswith(".") and len(setting.help) < 140, setting.name
            assert setting.scope in ("run", "training", "weights", "inherited"), setting.name
            assert setting.values
    assert set(shared) <= set.union(*used.values()) | {"checkpoint_every"}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_wrong_types_and_ranges_are_refused_before_any_work(bundle):
    for names in [*trainings(bundle), ["inference.json"], ["evaluate.json"]]:
        check_options(folder(bundle), names, {})
        for name, setting in used_by(bundle, names).items():
            wrong = wrong_values(setting)[:3]
            assert len(wrong) == 3, name
            for value in wrong:
                with pytest.raises(UserError, match=f"(?s)expected.*{name}.*do:"):
                    check_options(folder(bundle), names, {name: value})


@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_a_resumed_run_changes_is_refused_or_applied(bundle, tmp_path):
    """A changed setting shows in what is recorded, and then the checkpoint refuses it, or in the run's own options."""

    def read(names: list[str], changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        parser = ConfigParser()
        parser.read_config([str(folder(bundle) / "configs" / name) for name in names])
        given = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path), "device": "cpu"} | changes
        parser.update(given | {"settings": "$mrsynth.settings.read(@bundle_root)"})
        settings = parser.get_parsed_content("settings")
        return dict(settings), settings.run

    with scripts_of(bundle):
        for names in trainings(bundle):
            before, options = read(names, {})
            for name, setting in used_by(bundle, names).items():
                other = another(setting, {**before, **options}[name])
                after, changed = read(names, {name: other})
                assert (changed if setting.scope == "run" else after)[name] == other
                assert setting.scope != "run" or after == before


def another(setting: Setting, value: Any) -> Any:
    """A value that fits and differs."""
    choices = [*setting.schema.get("enum", ()), "brain", "none", True, False, 1, 2, 64, 128, 0.25, 0.5, "other"]
    lists = [
        [1, 2],
        [1, 2, 4],
        [256, 256],
        [0.25, 0.5],
        [128, 128],
        ["t1"],
        ["t1", "t2"],
        ["healthy", "benign"],
        ["a"],
        [0],
    ]
    objects = [{"seed": 3, "validation": 0.1, "test": 0.2}, {"a": 1}]
    fitting = [choice for choice in [*choices, *lists, *objects] if setting.fits(choice) and choice != value]
    assert fitting, setting.name
    return fitting[0]


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("names", [["train.json"], ["train.json", "paper.json"], ["inference.json"], ["evaluate.json"]])
def test_an_unknown_key_is_refused_with_the_nearest_known_one(bundle, names, refused):
    wrong, nearest = ("sed", "--seed") if "train.json" in names else ("weigths", "--weights")
    with refused(expected=f"the nearest is {nearest}", found=f"--{wrong}", do=nearest):
        check_options(folder(bundle), names, {wrong: 1})


def test_a_setting_that_this_config_does_not_use_is_refused(refused):
    with refused(found="--clip"):
        check_options(folder("brain2d"), ["train.json"], {"clip": 0.1})
    check_options(folder("brain2d"), ["train.json", "wgan.json"], {"clip": 0.1})
    with refused(found="--dataset_dir"):
        check_options(folder("brain2d"), ["inference.json"], {"dataset_dir": "/data"})


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [("resume", "TRUE", True), ("resume", "false", False), ("grade", "None", None), ("datalist", "null", None)],
)
def test_words_are_taken_as_they_are_meant(name, word, meant):
    assert described(folder("brain2d"))[name].check(word) is meant


def test_a_word_that_is_a_choice_stays_one():
    assert described(folder("brain2d"))["condition"].check("none") == "none"
    assert described(folder("tumor3d"))["crop"].check("none") == "none"


def test_an_overlay_and_the_python_api_are_checked_as_the_command_line_is(tmp_path, bundle_workflow, refused):
    (tmp_path / "mine.json").write_text('{"max_epoch": 3}')
    overlay, out = str(tmp_path / "mine"), str(tmp_path / "out")
    for configs, given, parts in (
        (("train", overlay), {}, {"expected": "--max_epochs", "found": "--max_epoch"}),
        (("train",), {"learning_rate": "fast"}, {"expected": "a number, above 0", "do": "--learning_rate 0.0002"}),
    ):
        with (
            bundle_workflow("brain2d", configs, output_dir=out, **given) as run,
            refused(**parts),
            unwrapped(),
        ):
            run.run()
    assert not (tmp_path / "out").exists()


def test_a_server_that_reads_the_config_itself_is_checked_too(refused):
    """MONAI Label parses ``inference.json`` and asks for ``network_def`` and others; it runs nothing."""
    with scripts_of("unet3d") as scripts:
        parser = ConfigParser()
        parser.read_config(str(folder("unet3d") / "configs" / "inference.json"))
        parser.config |= {"bundle_root": scripts.BUNDLE_ROOT, "weights": "", "overlap": 1.5}
        hook = sys.excepthook
        with refused(expected="overlap: a number, at least 0 and below 1", found="1.5"), unwrapped():
            parser.get_parsed_content("network_def")
        assert sys.excepthook is hook


def test_weights_decide_the_settings_of_what_uses_them(tmp_path, refused):
    import torch

    from mrsynth.training import save_weights

    recorded = {"patch_size": [16, 16, 16], "filters": [4, 8, 8], "crop": "none", "split": {"seed": 5}}
    path = tmp_path / "models" / "model.pt"
    path.parent.mkdir()
    save_weights(torch.nn.Conv3d(1, 1, 1), path, {"subjects": ["A"], "settings": recorded})

    def settings(**given: Any) -> dict[str, Any]:
        with scripts_of("unet3d"):
            parser = ConfigParser()
            parser.read_config(str(folder("unet3d") / "configs" / "evaluate.json"))
            parser.update({"output_dir": str(tmp_path), "device": "cpu", **given})
            return parser.get_parsed_content("settings")

    training = load(folder("unet3d") / "configs" / "train.json")
    found = settings()
    assert {name: found[name] for name in recorded} == recorded  # recorded
    assert found["interpolation"] == training["interpolation"]  # not recorded: the training's default
    assert settings(split={"seed": 7}, filters=[4, 8, 8])["split"] == {"seed": 7}  # inherited: may differ
    with refused(expected="'filters': [4, 8, 8]", found="[8, 8]", do="--filters"), unwrapped():
        settings(filters=[8, 8])
    path.with_suffix(".json").unlink()
    assert settings()["filters"] == training["filters"]


def test_generated_configs_are_those_of_their_templates():
    generated = runpy.run_path(str(ROOT / "tools" / "configs" / "generate.py"))["generated"]
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python tools/configs/generate.py"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_configs_stay_readable(bundle):
    text = (folder(bundle) / "configs" / "train.json").read_text(encoding="utf-8")
    expressions = re.findall(r'"(\$[^"]*)"', text)
    assert len(text.splitlines()) <= 160 and len(expressions) <= 26
    for file in configs(bundle):
        for expression in re.findall(r'"(\$[^"]*)"', file.read_text(encoding="utf-8")):
            assert len(expression) <= 120, f"{file}: {expression}"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_table_names_every_setting_of_every_config(bundle):
    table = settings_table(folder(bundle))
    for file in configs(bundle):
        names = set(load(file)) & set(described(folder(bundle)))
        part = table.split(f"### {file.name}\n")[1].split("###")[0] if names else ""
        assert all(f"| `{name}` |" in part for name in names)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, refused):
    with refused(expected="configs/settings.json", where=str(tmp_path), do="bundles/brain2d"):
        settings_table(tmp_path)
    with pytest.raises(UserError):
        check_options(folder("brain2d"), ["train.json"], {"seed": "one"})
