"""GenDiv: language models on the generalisation–diversity plane. Sampling → judging → metrics → statistics → scores."""

__version__ = "0.1.0"
