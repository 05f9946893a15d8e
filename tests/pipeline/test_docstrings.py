"""Every example in a docstring is true."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import catalog
import pipeline

MODULES = [
    module.name
    for package in (catalog, pipeline)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
