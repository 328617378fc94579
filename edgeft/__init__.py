"""edgeft: fine-tune a small language model on a GPU, run it on the edge, and prove that both are the same model."""

__version__ = "0.1.0"
