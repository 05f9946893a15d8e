"""Runnable examples: a plan in the hands of other trainers."""
