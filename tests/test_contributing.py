"""What contributors are given agrees with what the checks use."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_hooks_before_a_commit_are_those_of_the_lint_row():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    pins = {
        pin
        for repo in hooks["repos"]
        for hook in repo["hooks"]
        for pin in hook["additional_dependencies"]
    }

    assert pins
    assert pins <= set(project["dependency-groups"]["lint"])
