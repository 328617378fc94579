"""Files -> records -> messages -> token ids and loss mask."""
