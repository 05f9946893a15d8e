"""A plan written out for other trainers: one file a target."""

from pipeline.export.run import TARGETS, export

__all__ = ["TARGETS", "export"]
