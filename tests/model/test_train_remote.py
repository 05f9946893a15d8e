"""A catalog by its URL on an object store: a run learns from it as from the folder, stats are the same."""

from pathlib import Path

import pytest
from rich.console import Console

from catalog.push import push
from catalog.remote import Remote
from model.config import RunConfig
from model.train import train
from tests.flows.test_cli import cuvee
from tests.model.runs import config, make_plan, metrics
from tests.servers import s3, s3_options

pytest.importorskip("obstore", reason="obstore is not installed")


def after_title(text: str) -> list[str]:
    """Return the words of tables, after the title with the catalog's name."""
    return text.split("version", 1)[1].split()


def test_a_run_from_a_url_is_the_run_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(tmp_path)
    here = config(tmp_path, "here", steps=3)
    train(here, console=Console(quiet=True))
    shown = cuvee("stats", "--catalog", here.catalog)
    (tmp_path / "s3").mkdir()
    with s3(tmp_path / "s3") as (url, port):
        for name, value in s3_options(port).items():
            monkeypatch.setenv(name.upper(), value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        push(Path(here.catalog), Remote(url))
        Path(here.catalog).rename(tmp_path / "elsewhere")
        (tmp_path / "tok").rename(tmp_path / "elsewhere" / "tok")
        fields = here.model_dump() | {"catalog": url, "output": tmp_path / "there"}
        there = RunConfig.model_validate(fields)
        train(there, console=Console(quiet=True))
        assert RunConfig.load(there.output / "run.yaml") == there
        assert after_title(cuvee("stats", "--catalog", url)) == after_title(shown)
        assert "needs the catalog's folder" in cuvee("verify", "--catalog", url, code=1)
    assert [m["loss"] for m in metrics(there)] == [m["loss"] for m in metrics(here)]
    assert (there.output / "model/tokenizer/tokenizer.json").is_file()
    with pytest.raises(ValueError, match="a recipe is planned where the catalog's folder is"):
        RunConfig.model_validate(fields | {"recipe": "recipe.yaml", "plan": ""})
