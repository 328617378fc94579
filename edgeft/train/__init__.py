"""Tokens + base -> an adapter, or a checkpoint that was trained whole."""

from edgeft.train.stage import train

__all__ = ["train"]
