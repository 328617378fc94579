"""The voice commands of a home: phrasings, values and noise that `make_example.py` puts together."""
