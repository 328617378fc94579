"""Streams of records -> what is to be said about them as a whole, before anything is trained on them."""
