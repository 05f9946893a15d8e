"""WHAT the data are: records, and the Delta tables that hold them."""

from catalog.catalog import Catalog

__all__ = ["Catalog"]
