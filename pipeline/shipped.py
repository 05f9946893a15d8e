"""Recipes that ship with the program, as published mixtures give them: found by name."""

from pathlib import Path

from rapidfuzz import process

from catalog.errors import UserError

RECIPES = Path(__file__).parent / "recipes"


def shipped() -> dict[str, Path]:
    """Return name -> file of the recipes that ship with the program."""
    return {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}


def find_recipe(word: str, *, tokenizer: Path | None = None) -> Path:
    """Return the file of a recipe, by its path or by the name of a shipped one.

    Raises:
        UserError: there is neither, or a shipped recipe is used without a tokenizer.
    """
    if Path(word).exists():
        return Path(word)
    known = shipped()
    if word in known:
        if tokenizer is None:
            raise UserError(
                f"{word}: this recipe leaves the tokenizer to you",
                fix="add --tokenizer DIR, a folder with tokenizer.json and a chat template",
            )
        return known[word]
    near = process.extractOne(word, list(known), score_cutoff=60)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"{word}: no such file, and no recipe of that name",
        fix=f"{hint}check the path; shipped are {', '.join(known)}",
    )
