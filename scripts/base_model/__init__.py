"""The parts of the base model: its curriculum, tokenizer, training, evaluation and card."""
