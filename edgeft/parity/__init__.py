"""Proof that the file on the device is the model that was trained: record on one machine, check on the other."""
