"""The report on files as one HTML page that needs nothing but itself."""

from edgeft.parity.page.document import page
from edgeft.parity.page.origin import Origin, Training, origin_here

__all__ = ["Origin", "Training", "origin_here", "page"]
