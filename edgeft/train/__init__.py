"""Tokens + base -> adapter."""

from edgeft.train.stage import train

__all__ = ["train"]
