"""The ledger of a plan leads from a step to its samples and back."""

from pathlib import Path

import orjson
import pytest
from rich.console import Console

from catalog.errors import UserError
from pipeline.trace import samples_of, show_trace, steps_of
from tests.pipeline.conftest import Build


def test_the_ledger_leads_from_step_to_sample_and_back(built: Build, road: Path) -> None:
    plan = built()
    for number in range(plan.steps):
        for row in samples_of(plan, road / "catalog", number):
            assert number in steps_of(plan, road / "catalog", row["sample_id"])
            assert row["file"]


def test_the_command_prints_one_json_object_a_sample(
    built: Build, road: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, console = built(), Console(width=400)
    show_trace(console, plan.id, catalog=road / "catalog", step=0, sample=None, as_json=True)
    rows = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == list(samples_of(plan, road / "catalog", 0))
    show_trace(console, str(plan.file.parent), catalog=None, step=0, sample=None)
    assert "v2_OpenEnded" in capsys.readouterr().out
    sample = rows[0]["sample_id"]
    show_trace(console, plan.id, catalog=road / "catalog", step=None, sample=sample)
    assert f"{sample} is seen by 0" in capsys.readouterr().out


def test_wrong_questions_are_explained(built: Build, road: Path) -> None:
    plan = built()
    with pytest.raises(UserError, match="no sample nothing in this plan"):
        steps_of(plan, road / "catalog", "nothing")
    with pytest.raises(UserError, match="either --step K or --sample ID"):
        show_trace(Console(), plan.id, catalog=road / "catalog", step=None, sample=None)
    with pytest.raises(UserError, match=rf"no step {plan.steps}"):
        list(samples_of(plan, road / "catalog", plan.steps))
